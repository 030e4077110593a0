"""Examples that laws of several kinds of argument share: two or three laws P, Q, R, often equal, near or apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch.distributions import MultivariateNormal

from divergences.testing.law import Example, Scope
from divergences.testing.simplex import (
    KINDS,
    Array,
    Codes,
    bounds,
    chosen,
    coded,
    probabilities,
    related,
    snapped,
    tables,
    weights,
)
from divergences.testing.strategies import COORDINATES, Strategy, gaussians, pairs

SCALES = (1.0, 1.0, 1.0, 1e-3, 1e3)


def two(scope: Scope) -> Strategy[Example]:
    """P and Q as ``p`` and ``q``."""
    if scope.on == "vectors":
        return vectors(scope).map(lambda pq: {"p": pq[0], "q": pq[1]})
    return _several(scope, "pq")


def three(scope: Scope) -> Strategy[Example]:
    """P, Q and R as ``p``, ``q`` and ``r``; among vectors R is at times between P and Q, or one of them."""
    if scope.on != "vectors":
        return _several(scope, "pqr")

    def example(codes: Codes, header: Codes) -> Example:
        kind, distance, place = header
        p, q = pair_of(codes, kind, distance, scope)
        middle = (p + q) / 2
        if place % 3 == 1 and ((middle == 0) | (middle >= scope.entries.least)).all():
            return {"p": p, "q": middle, "r": q}
        r = probabilities(weights(codes)[:, 3], scope.entries)
        return {"p": p, "q": q, "r": snapped(snapped(r, p, scope.entries), q, scope.entries)}

    return tables(example, 4, scope.n, 3)


def pair_of(codes: Codes, kind: int, distance: int, scope: Scope) -> tuple[Array, Array]:
    """Return the pair that three columns of codes, a kind and a distance of near pairs mean."""
    return related(KINDS[kind % len(KINDS)], codes[:, :3], distance, scope.entries)


def vectors(scope: Scope) -> Strategy[tuple[Array, Array]]:
    """Return `pairs` of the scope's vectors."""
    return pairs(scope.n, **scope.entries._asdict())


def clouds(count: int, scope: Scope) -> Strategy[list[Array]]:
    """Return clouds of one dimension and scale; later ones at times repeat or move the first, or share a point."""
    low, high = bounds(scope.d)

    def example(*drawn: Codes) -> list[Array]:
        *points, (size, scale, *relations) = drawn
        d, unit = low + size % (high - low + 1), SCALES[scale % len(SCALES)]
        first, *others = (chosen(COORDINATES, codes[:, :d]) * unit for codes in points)
        found = [first]
        for other, relation in zip(others, relations, strict=True):
            if relation % 6 == 3:
                other = first[::-1].copy()
            elif relation % 6 == 4:
                other = first + unit
            elif relation % 6 == 5:
                other[0] = first[0]
            found.append(other)
        return found

    return tables(example, high, scope.n, 1 + count, count)


def _several(scope: Scope, names: str) -> Strategy[Example]:
    if scope.on == "point_clouds":
        return clouds(len(names), scope).map(lambda found: dict(zip(names, found, strict=True)))

    def normal_laws(d: int) -> Strategy[Example]:
        def example(laws: tuple[MultivariateNormal, ...], codes: Codes) -> Example:
            return {name: laws[0 if codes[0] % 3 == 1 and name == "q" else i] for i, name in enumerate(names)}

        return coded(st.tuples(*[gaussians(d)] * len(names)), 1, example)

    return st.integers(*bounds(scope.d)).flatmap(normal_laws)


def total_variation(p: Array, q: Array) -> float:
    """½ Σ|pᵢ − qᵢ|."""
    return float(np.abs(p - q).sum() / 2)


def apart(p: Any, q: Any) -> bool:
    """Whether two laws differ so much that their divergence is a positive float64: vectors from 1e-6 on."""
    if isinstance(p, MultivariateNormal):
        return not (torch.equal(p.mean, q.mean) and torch.equal(p.covariance_matrix, q.covariance_matrix))
    if p.ndim == 1:
        return total_variation(p, q) >= 1e-6
    both, index = np.unique(np.concatenate([p, q]), axis=0, return_inverse=True)
    index = index.reshape(-1)
    weights = [np.bincount(part, minlength=len(both)) / len(part) for part in (index[: len(p)], index[len(p) :])]
    return total_variation(*weights) >= 1e-6
