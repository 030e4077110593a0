"""Random relabellings and bootstrap samples of two pooled samples, as the heights |F − G| between sorted values.

W1 is the sum of these heights times the gaps between the values, so that one block of relabellings serves every column
of the same sizes. Large samples are resampled on a grid of pooled quantiles, at a cost that does not grow with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BOOTSTRAPS = 400
_BLOCK = 1 << 21  # numbers held at once
_LARGE = 1 << 13
_GRID = 1024
_TAIL = 64  # values at each end that keep a cell of their own


class Grid(NamedTuple):
    """How many values of x and of y each cell holds, and the distance from each cell to the next."""

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    gaps: Array


def is_large(n: int, m: int) -> bool:
    """Whether columns of n and m values are resampled on a grid of quantiles."""
    return n + m > _LARGE


def grid(x: Array, y: Array) -> Grid:
    """Both samples moved to about a thousand pooled quantiles, with a cell for each of the outermost values.

    The grid depends on the pooled sample alone and never parts equal values, so permuting labels on it is exact.
    """
    N = len(x) + len(y)
    values = np.concatenate([x, y])
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    tails = np.arange(1, min(_TAIL, N) + 1)
    ends = np.concatenate([np.linspace(1, N, min(_GRID, N)).astype(np.int64), tails, N + 1 - tails])
    ends = np.unique(np.searchsorted(ordered, ordered[ends - 1], side="right"))
    starts = np.concatenate([[0], ends[:-1]])
    a = np.diff(np.cumsum(order < len(x))[ends - 1], prepend=0)
    return Grid(a, ends - starts - a, np.diff(ordered[(starts + ends - 1) // 2]))


def grid_heights(a: NDArray[np.int64], b: NDArray[np.int64]) -> Array:
    """|F − G| after each cell but the last, from counts along the last axis."""
    n, m = a.sum(axis=-1, keepdims=True), b.sum(axis=-1, keepdims=True)
    heights: Array = np.abs(np.cumsum(a, axis=-1) * m - np.cumsum(b, axis=-1) * n)[..., :-1] / (n * m)
    return heights


def null_grid_heights(sizes: NDArray[np.int64], n: int, B: int, rng: np.random.Generator) -> Iterator[Array]:
    """|F − G| between the cells of a grid for B random labellings, n of them x, of the values in the cells."""
    for size in blocks(B, len(sizes)):
        a = rng.multivariate_hypergeometric(sizes, n, size=size, method="marginals")
        yield grid_heights(a, sizes - a)


def grid_errors(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """∫|(F* − Fₙ) − (G* − Gₘ)| on the grid for each bootstrap sample."""
    n, m = len(x), len(y)
    a, b, gaps = grid(x, y)
    steps = (rng.multinomial(n, a / n, BOOTSTRAPS) - a) / n - (rng.multinomial(m, b / m, BOOTSTRAPS) - b) / m
    errors: Array = np.abs(np.cumsum(steps, axis=1)[:, :-1]) @ gaps
    return errors


def null_heights(n: int, m: int, B: int, rng: np.random.Generator) -> Iterator[Array]:
    """|F − G| between neighbours of the pooled order, (b, n + m − 1), for B random labellings in blocks."""
    N = n + m
    labels = np.zeros(N, dtype=np.int8)
    labels[:n] = 1
    expected = np.arange(1, N, dtype=np.float64) * n
    for size in blocks(B, N):
        shuffled = rng.permuted(np.broadcast_to(labels, (size, N)), axis=1)
        heights = np.cumsum(shuffled[:, :-1], axis=1, dtype=np.float64)
        heights *= N
        heights -= expected
        np.abs(heights, out=heights)
        heights /= n * m
        yield heights


def pooled(x: Array, y: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Gaps between neighbours of the pooled sorted sample, and which of its points come from x."""
    values = np.concatenate([x, y])
    order = np.argsort(values, kind="stable")
    return np.diff(values[order]), order < len(x)


def bootstrap_draws(n: int, rng: np.random.Generator) -> NDArray[np.uint16]:
    """How often each of n rows is in each bootstrap sample, (B, n)."""
    drawn = np.empty((BOOTSTRAPS, n), dtype=np.uint16)
    for row in drawn:
        row[:] = np.bincount(rng.integers(n, size=n), minlength=n)
    return drawn


def bootstrap_errors(x: Array, y: Array, x_draws: NDArray[np.uint16], y_draws: NDArray[np.uint16]) -> Array:
    """∫|(F* − Fₙ) − (G* − Gₘ)| for each bootstrap sample."""
    n, m = len(x), len(y)
    values = np.concatenate([x, y])
    order = np.argsort(values, kind="stable")
    gaps = np.diff(values[order])
    out, start = [], 0
    for size in blocks(len(x_draws), n + m):
        part = slice(start, start + size)
        start += size
        a, b = x_draws[part].astype(np.float64), y_draws[part].astype(np.float64)
        # rows that miss this column leave fewer draws than values: a sample must still weigh 1
        a /= np.maximum(a.sum(axis=1, keepdims=True), 1)
        b /= np.maximum(b.sum(axis=1, keepdims=True), 1)
        steps = np.concatenate([a - 1 / n, 1 / m - b], axis=1)[:, order]
        heights = np.cumsum(steps[:, :-1], axis=1)
        np.abs(heights, out=heights)
        out.append(heights @ gaps)
    return np.concatenate(out)


def blocks(total: int, width: int) -> Iterator[int]:
    """Sizes that sum to ``total``, each small enough for rows of ``width`` numbers to be held at once."""
    size = max(1, _BLOCK // max(width, 1))
    for start in range(0, total, size):
        yield min(size, total - start)
