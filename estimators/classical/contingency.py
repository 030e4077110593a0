"""Mutual information of two categorical variables from the table of their counts."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from estimators.base import Inference
from estimators.kernel.variance import growing_interval

FILLED = 10  # rows that a cell of the table must have, on average


def contingency(x: Tensor, y: Tensor) -> Tensor | None:
    """How often each distinct row of ``x``, (n, a), stands beside each distinct row of ``y``, (n, b).

    None where they are so many that there are fewer than 10 rows a cell.
    """
    i, j = (torch.unique(rows, dim=0, return_inverse=True)[1] for rows in (x, y))
    R, C = int(i.max()) + 1, int(j.max()) + 1
    return (i * C + j).bincount(minlength=R * C).reshape(R, C) if FILLED * R * C <= len(x) else None


def information(table: Tensor, confidence: float) -> Inference:
    """Σ p̂ log p̂/(p̂_x p̂_y) less its bias (S − R − C + 1)/2n, from a table of n counts, R × C with S cells filled.

    Its variance is that of log p/(p_x p_y) over n, and where that vanishes, as it does for independent variables, that
    of χ² with k = (R − 1)(C − 1) degrees of freedom over 2n, k/2n²; the interval has the sum of both. Above the value
    it grows by 2/n a nat, as that of the non-central χ² does. Cells without a count may hide as much bias as filled
    ones have; by that the interval is widened below.
    References: Miller 1955 (the bias); Wilks 1938 (χ²).
    """
    n = float(table.sum())
    p = table.double() / n
    R, C = table.shape
    logs = torch.where(table > 0, (p / (p.sum(1, keepdim=True) * p.sum(0))).log(), 0.0)
    plug_in = float((p * logs).sum())
    filled = int((table > 0).sum())
    bias, unseen = (filled - R - C + 1) / (2 * n), (table.numel() - filled) / (2 * n)
    variance = float((p * (logs - plug_in).square()).sum()) / n + (R - 1) * (C - 1) / (2 * n**2)
    value, stderr = plug_in - bias, math.sqrt(variance)
    low, high = growing_interval(value, variance, 4 / n, confidence, math.inf)
    notes: tuple[str, ...] = (
        f"by the {R} × {C} table of the counts, less a bias of {bias:.2g}; interval: normal limit",
    )
    if unseen:
        notes += (f"{table.numel() - filled} cells are empty: the interval is widened by {unseen:.2g} below",)
    return Inference(value, stderr, (low - unseen, high), notes)
