"""Repeated points: draws of a law with atoms or on a grid, or copies of rows, which are no independent draws."""

from __future__ import annotations

import math

import numpy as np

from estimators.ratio.models import Array

ATOM = 10  # times that a value stands in both samples together to be an atom of their laws
DISTINCT = 10  # points a distinct value has, on average, where the laws are taken to be made of atoms
SUPPORTED = (
    5  # points of a value on each side, as the χ² test asks for: then the logarithm of its frequency is near normal
)
ALIKE = 5  # distinct values that are copies if each stands as often as the others
TIES = 0.01  # share of repeated points from which the data are no draw from a density
_GRID = 1e-6  # in steps, how far a value may lie from a grid


def strays(x: Array, y: Array) -> float:
    """The largest share of a sample that repeats another of its points, though neither atoms nor a grid explain it.

    Copied rows and bootstrap samples look so. As draws they would come from a law with an atom at each point, and of
    each atom there are too few to know its mass.
    """
    if all(map(_on_grid, np.concatenate([x, y]).T)):
        return 0.0
    _, index, counts = np.unique(np.concatenate([x, y]), axis=0, return_inverse=True, return_counts=True)
    index = index.ravel()
    shares = []
    for own in (index[: len(x)], index[len(x) :]):
        times = np.unique(own, return_counts=True)[1]
        alike = len(times) >= ALIKE and times.min() == times.max()  # draws of atoms differ by chance
        rare = own if alike else own[counts[own] < ATOM]
        shares.append((len(rare) - len(np.unique(rare))) / len(own))
    return max(shares)


def _on_grid(values: Array) -> bool:
    """Whether all values are whole multiples of the smallest step between them, as rounding leaves them."""
    distinct = np.unique(values)
    if len(distinct) < 3:
        return True
    steps = np.diff(distinct)
    multiples = (distinct - distinct[0]) / steps.min()
    # Values without a grid have a smallest step by chance, and most are no multiples of it.
    return bool(np.abs(multiples - np.round(multiples)).max() < _GRID * max(1.0, multiples[-1]) and multiples[-1] < 1e6)


def copies(x: Array, y: Array) -> np.ndarray:
    """One number for each row of x and then of y, the same for equal rows."""
    return np.unique(np.concatenate([x, y]), axis=0, return_inverse=True)[1].ravel()


def atoms(x: Array, y: Array) -> bool:
    """Whether the points of both samples are so few distinct ones that the laws are taken to be discrete."""
    return DISTINCT * (int(copies(x, y).max()) + 1) <= len(x) + len(y)


def supported(x: Array, y: Array, x_weights: Array | None, y_weights: Array | None) -> bool:
    """Whether each distinct value stands often enough in both samples for its frequencies to be known."""
    row = copies(x, y)
    size = int(row.max()) + 1
    parts = (row[: len(x)], x_weights), (row[len(x) :], y_weights)
    return bool(min(np.bincount(part, w, size).min() for part, w in parts) >= SUPPORTED)


def decimals(x: Array, y: Array) -> tuple[int, ...]:
    """The decimals of each coordinate to which 12 digits of its largest value reach: what is below is rounding."""
    largest = np.maximum(np.abs(np.concatenate([x, y])).max(0), np.finfo(float).tiny)
    return tuple(12 - math.ceil(v) for v in np.log10(largest))


def rounded(points: Array, digits: tuple[int, ...]) -> Array:
    """The points with their coordinates at ``digits`` decimals, so that 3 · 0.1 and 0.3 are one value."""
    return np.column_stack([np.round(column, k) for column, k in zip(points.T, digits, strict=True)])
