"""Repeated points: draws of a law with atoms or on a grid, or copies of rows, which are no independent draws."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

COPIED = 0.02  # share of a sample's rows that copy others from which a note says so; fewer hardly change an interval
FEW = 5  # copied rows, or distinct ones that all stand as often, which fewer might by chance
ATOM = 5  # times that a value stands in its sample to be an atom of its law, where others stand more or less often
VALUES = 3  # points a distinct value has, on average, where values of one coordinate are taken to be all there are
EXCESS = 3  # times as often as with rows of the other sample that copies coincide within their own
COLUMNS = 64  # looked at, of all that rows have, for what explains that they repeat
DISTINCT = 10  # points a distinct value has, on average, where the laws are taken to be made of atoms
SUPPORTED = 5  # points of a value on each side, as the χ² test asks for: the logarithm of its frequency is near normal
TIES = 0.01  # share of repeated points from which the data are no draw from a density
DIGITS = 12  # of the largest value, at which values that differ by rounding alone are equal
MOST_DIGITS = 300  # 10 to the power of more is no number, and a coordinate may be 0 everywhere
ROUNDINGS = 64  # of the largest value, by which values may differ that were computed in other ways
_GRID = 1e-6  # in steps, how far a value may lie from a grid

Array = NDArray[np.float64]
Hashes = NDArray[np.uint64]


def hashes(points: Array) -> Hashes:
    """One number a row, the same for equal rows."""
    bits = np.ascontiguousarray(points + 0.0).view(np.uint64)  # -0.0 + 0.0 is 0.0
    factors = np.random.default_rng(0).integers(0, 2**63, bits.shape[-1], dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    mixed = (bits ^ (bits >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return ((mixed ^ (mixed >> np.uint64(32))) * factors).sum(-1, dtype=np.uint64)


def copied(points: Array, own: Hashes, other: Hashes) -> float:
    """The share of the rows that repeat others as copies do; 0 where it is small, or draws of a law repeat so.

    Draws repeat where values are rounded, which puts them on a grid; where a column has an atom, which stands beside
    different values of the other columns; and where the law is one of atoms, which stand often and not equally often.
    In the other sample, if its law is alike, stand as many equals of a draw as in its own; of a copy, hardly any.
    """
    kinds, first, times = np.unique(own, return_index=True, return_counts=True)
    least = max(FEW, COPIED * len(own))
    if len(own) - len(kinds) < least:
        return 0.0
    distinct = points[first]
    unrounded = [column for column in distinct.T[:: 1 + distinct.shape[1] // COLUMNS] if not on_grid(column)]
    alone = np.zeros(len(distinct), dtype=int)  # columns in which no other row has this value
    for column in unrounded:
        _, value, rows = np.unique(column, return_inverse=True, return_counts=True)
        alone += rows[value] == 1
    suspect = alone > 1
    if len(times) >= FEW and times.min() == times.max():
        suspect = alone > 0
    elif len(own) < VALUES * len(kinds):
        suspect |= (alone > 0) & (times < ATOM)
    values, counts = np.unique(other, return_counts=True)
    place = np.searchsorted(values, kinds).clip(max=len(values) - 1)
    elsewhere = np.where(values[place] == kinds, counts[place], 0)
    within = float((times * (times - 1))[suspect].sum()) / (len(own) - 1)
    across = float((times * elsewhere)[suspect].sum()) / len(other)
    repeating = int((times - 1)[suspect].sum())
    return repeating / len(own) if repeating >= least and within > EXCESS * across else 0.0


def strays(x: Array, y: Array) -> float:
    """The larger share of copied rows of the two samples."""
    own, other = hashes(x), hashes(y)
    return max(copied(x, own, other), copied(y, other, own))


def on_grid(values: Array) -> bool:
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
    return np.unique(hashes(np.concatenate([x, y])), return_inverse=True)[1]


def atoms(x: Array, y: Array) -> bool:
    """Whether the points of both samples are so few distinct ones that the laws are taken to be discrete."""
    return DISTINCT * (int(copies(x, y).max()) + 1) <= len(x) + len(y)


def supported(x: Array, y: Array, x_weights: Array | None, y_weights: Array | None) -> bool:
    """Whether each distinct value stands often enough in both samples for its frequencies to be known."""
    row = copies(x, y)
    size = int(row.max()) + 1
    parts = (row[: len(x)], x_weights), (row[len(x) :], y_weights)
    return bool(min(np.bincount(part, w, size).min() for part, w in parts) >= SUPPORTED)


def decimals(x: Array, y: Array) -> tuple[int, ...] | None:
    """The decimals of each coordinate at which 3 · 0.1 and 0.3 are one value; None where that is no matter of rounding.

    It is one where the laws are then made of atoms and no value moves by more than a few roundings. A density that lies
    far from 0 has few values at 12 digits as well, but moves by more.
    """
    both = np.concatenate([x, y])
    largest = np.maximum(np.abs(both).max(0), np.finfo(float).tiny)
    digits = tuple(min(DIGITS - math.ceil(v), MOST_DIGITS) for v in np.log10(largest))
    merged = rounded(both, digits)
    if not atoms(merged[: len(x)], merged[len(x) :]):
        return None
    return digits if bool((np.abs(merged - both).max(0) <= ROUNDINGS * np.finfo(float).eps * largest).all()) else None


def rounded(points: Array, digits: tuple[int, ...] | None) -> Array:
    """The points with their coordinates at ``digits`` decimals, as they are for None."""
    if digits is None:
        return points
    return np.column_stack([np.round(column, k) for column, k in zip(points.T, digits, strict=True)])
