"""The cells of a histogram: the masses of two samples in them, and which are joined so that D is finite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from divergences import FDivergence
from estimators.classical.neighbors import Array


class Cells(NamedTuple):
    """Masses p, q in each cell, and the sums p2, q2 of the squared weights there, which are p/n without weights."""

    p: Array
    q: Array
    p2: Array
    q2: Array
    discrete: bool
    description: str

    @staticmethod
    def of(cell: np.ndarray, weights: list[Array], discrete: bool, description: str) -> Cells:
        """The masses of the cell that each point of both samples is in."""
        n, size = len(weights[0]), int(cell.max()) + 1
        p, q, p2, q2 = (
            np.bincount(part, w**power, size).astype(float)
            for power in (1, 2)
            for part, w in ((cell[:n], weights[0]), (cell[n:], weights[1]))
        )
        return Cells(p, q, p2, q2, discrete, description)


def joined(cells: Cells, places: Array, f: FDivergence) -> Cells:
    """The cells, those that make D infinite joined to the nearest; ``places`` are their steps along the axes."""
    sums, centres = np.stack([cells.p, cells.q, cells.p2, cells.q2], 1), places
    while len(sums) > 1:
        p, q = sums[:, 0], sums[:, 1]
        bad = (math.isinf(f.slope_at_infinity) & (p > 0) & (q == 0)) | (math.isinf(f.f_at_zero) & (p == 0) & (q > 0))
        if not bad.any():
            break
        i = int(bad.argmax())
        away = np.square(centres - centres[i]).sum(1)
        away[i] = math.inf
        j = int(away.argmin())
        mass = sums[[i, j], :2].sum(1)
        centres[j] = mass @ centres[[i, j]] / mass.sum()
        sums[j] += sums[i]
        sums, centres = np.delete(sums, i, 0), np.delete(centres, i, 0)
    lost = len(cells.p) - len(sums)
    if not lost:
        return cells
    note = f"; {lost} of them, which one sample does not reach and which make D of the cells infinite, joined to others"
    note += " (samples do not tell whether D(P‖Q) is infinite; given bins= keep such cells, smoothing= fills them)"
    if len(sums) == 1:
        note += ": one is left, which tells nothing"
    p, q, p2, q2 = sums.T
    return Cells(p, q, p2, q2, False, cells.description + note)


def checked_bins(bins: Any) -> Any:
    """``bins``, with edges as tuples of floats."""
    if isinstance(bins, str) and bins == "auto" or isinstance(bins, int) and not isinstance(bins, bool) and bins >= 1:
        return bins
    if isinstance(bins, str) or not isinstance(bins, Sequence | np.ndarray) or not len(bins):
        raise ValueError(f'bins must be "auto", a number of bins or edges: got {bins!r}')
    axes = [np.asarray(edges, dtype=float) for edges in (bins if np.ndim(bins[0]) else [bins])]
    if not all(edges.ndim == 1 and np.isfinite(edges).all() and (np.diff(edges) > 0).all() for edges in axes):
        raise ValueError(f"bins must be finite and increasing edges on each axis: got {bins!r}")
    edges = tuple(tuple(map(float, axis)) for axis in axes)
    return edges if np.ndim(bins[0]) else edges[0]
