"""Probability vectors and pairs of them, made from what Hypothesis draws: codes, 0 to 255, for each outcome.

A code is a choice from a table, the simplest first. An outcome has one for each vector of an example, so that shrinking
drops whole outcomes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
from hypothesis import strategies as st

Array = np.ndarray[Any, np.dtype[np.float64]]
Codes = np.ndarray[Any, np.dtype[np.uint8]]
T = TypeVar("T")
R = TypeVar("R")
Range = int | tuple[int, int]

CODE = st.integers(0, 255)
DISTANCES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-8, 1e-10)
TINY = 1e-300  # a weight that becomes the smallest entry allowed
# Simple weights first, for an example shrinks towards them.
WEIGHTS = (
    1.0, 2.0, 3.0, 0.0, 4.0, 5.0, 7.0, 9.0, 0.5, 0.1, 0.0, 1e-2, 1e-3, TINY, 1e-4, 1e-6,
    0.0, TINY, 1e-8, math.pi, math.sqrt(2), math.exp(-1), 0.618033988749895, 12.7,
)  # fmt: skip
KINDS = ("independent", "near", "equal", "nested", "nesting", "disjoint", "permuted", "independent", "near", "near")


class Entries(NamedTuple):
    """What vectors may be: entries exactly 0, where ``zeros``, or at least ``least``; pairs equal or not too near.

    Two vectors that differ are at total variation ``nearest``/4 or more: what is nearer becomes equal.
    """

    zeros: bool = True
    least: float = 1e-9
    nearest: float = 1e-12

    @property
    def distances(self) -> list[float]:
        """Total variations of near pairs: 10⁻¹, …, 10⁻⁶ and few below, down to ``nearest``."""
        return [d for d in DISTANCES if d > self.nearest] + [self.nearest]

    def coarser(self, factor: float, n: int) -> Entries:
        """Return entries so large that products with numbers above 1/factor are allowed entries still."""
        return self._replace(least=max(self.least, min(self.least * factor, 0.5 / n)))


def choices(width: int) -> st.SearchStrategy[Codes]:
    """Return (width,) codes, each 0 to 255: a choice from a table of k entries is a code modulo k."""
    return st.binary(min_size=width, max_size=width).map(lambda drawn: np.frombuffer(drawn, np.uint8))


def coded(strategy: st.SearchStrategy[T], width: int, make: Callable[[T, Codes], R]) -> st.SearchStrategy[R]:
    """Return ``make(example, codes)`` of another strategy's examples and (width,) codes."""
    codes = [CODE] * width if width <= 5 else [st.binary(min_size=width, max_size=width)]
    return st.tuples(*codes, strategy).map(lambda drawn: make(drawn[-1], _codes(drawn[:-1])))


def tables(
    make: Callable[..., R],
    width: int,
    n: Range,
    header: int,
    count: int = 1,
    unique_by: Callable[[Any], int] | None = None,
) -> st.SearchStrategy[R]:
    """Return ``make(*tables, codes)`` of ``count`` tables of (n, width) codes, and (header,) codes.

    The header is drawn first and code by code: Hypothesis often leaves at its simplest what comes last or is bytes. A
    row is one draw, for speed. No two rows have the same ``unique_by``.
    """
    low, high = bounds(n)
    rows = st.lists(st.binary(min_size=width, max_size=width), min_size=low, max_size=high, unique_by=unique_by)

    def decoded(drawn: tuple[Any, ...]) -> R:
        found = [np.frombuffer(b"".join(part), np.uint8).reshape(-1, width) for part in drawn[header:]]
        return make(*found, _codes(drawn[:header]))

    return st.tuples(*[CODE] * header, *[rows] * count).map(decoded)


def _codes(drawn: tuple[Any, ...]) -> Codes:
    if drawn and isinstance(drawn[0], bytes):
        return np.frombuffer(drawn[0], np.uint8)
    return np.array(drawn, dtype=np.uint8)


def chosen(table: tuple[float, ...], codes: Any) -> Array:
    """Return the entries of a table of numbers that the codes mean."""
    return np.asarray(table)[np.asarray(codes) % len(table)]


def weights(codes: Codes) -> Array:
    """Return (n, k) weights from (n, k) codes, a column for each vector."""
    return chosen(WEIGHTS, codes)


def bounds(n: Range) -> tuple[int, int]:
    """Return (low, high) of a number or a range that was checked at the door."""
    return (n, n) if isinstance(n, int) else n


def probabilities(w: Any, entries: Entries) -> Array:
    """Return the vector proportional to the weights w, its entries as allowed and its sum 1 to the last bit."""
    w = np.array(w, dtype=np.float64)
    if not entries.zeros:
        w[w == 0] = TINY
    if not w.any():
        w[0] = 1
    p = w / math.fsum(w)
    low = (p > 0) & (p < entries.least)
    if low.any():
        p[low] = entries.least
        summing_to_one(p)
        support = w > 0
        if p[support].min() < entries.least:  # the least entry is so large that one outcome cannot pay for the rest
            p[support] = entries.least + (1 - support.sum() * entries.least) * w[support] / math.fsum(w)
    return summing_to_one(p)


def summing_to_one(p: Array) -> Array:
    """Return p with what its sum lacks added to its largest entry."""
    largest = p.argmax()
    for _ in range(2):  # the first may round
        p[largest] += 1 - math.fsum(p)
    return p


def moved(p: Array, distance: float, entries: Entries) -> Array:
    """Return p with mass moved from its largest entry to another one: total variation at most ``distance``."""
    q, i = p.copy(), int(p.argmax())
    others = np.flatnonzero((p > 0) & (np.arange(len(p)) != i))
    if not len(others) and distance >= entries.least and entries.zeros and len(p) > 1:
        others = np.asarray([(i + 1) % len(p)])
    if len(others):
        mass = min(distance, p[i] - max(entries.least, p[i] / 2))
        q[i] -= mass
        q[others[0]] += mass
    return summing_to_one(q)


def related(kind: str, columns: Codes, distance: int, entries: Entries) -> tuple[Array, Array]:
    """Return two vectors related as ``kind`` says, from three columns of codes: weights, weights, and a subset.

    ``distance`` is the code of a near pair's total variation.

    Where zeros are not allowed, supports are all outcomes and the kinds that are about supports give independent pairs.
    """
    a, b = weights(columns[:, :2]).T
    if not a.any():
        a = np.ones_like(a)
    if entries.zeros:
        inside = columns[:, 2] % 2 == 1
        if kind == "nested":  # Q on part of P's support
            b = b * inside * (a > 0) if (b * inside * (a > 0)).any() else a * (np.arange(len(a)) == a.argmax())
        elif kind == "nesting":
            b = np.where(a > 0, np.maximum(b, TINY), b)
        elif kind == "disjoint" and len(a) > 1:
            inside = inside if 0 < inside.sum() < len(a) else np.arange(len(a)) == 0
            a, b = np.where(inside, np.maximum(a, TINY), 0), np.where(inside, 0, np.maximum(b, TINY))
    p = probabilities(a, entries)
    if kind == "equal":
        return p, p.copy()
    if kind == "near":
        return p, moved(p, entries.distances[distance % len(entries.distances)], entries)
    return p, snapped(np.roll(p, 1) if kind == "permuted" else probabilities(b, entries), p, entries)


def snapped(q: Array, p: Array, entries: Entries) -> Array:
    """Return q, or p where the two hardly differ: no double tells such laws apart, and a difference is rounding."""
    return p.copy() if np.abs(q - p).sum() < entries.nearest / 2 else q
