"""Mutual information of two categorical variables from the table of their counts."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from estimators.base import Inference
from estimators.kernel.variance import growing_interval

COMMON = 5  # rows in which each value must stand, so that values that no row has are rare
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
    ones have; by that the interval is widened below. No upper limit where a side has one value alone, or one that
    stands in fewer than 5 rows: others may not have been drawn. Otherwise neither exceeds log min(R, C), the most
    there can be.
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
    most = math.log(min(R, C))
    value, stderr = min(plug_in - bias, most), math.sqrt(variance)
    low, high = growing_interval(value, variance, 4 / n, confidence, math.inf)
    notes: tuple[str, ...] = (
        f"by the {R} × {C} table of the counts, less a bias of {bias:.2g}; interval: normal limit",
    )
    rare = min(float(table.sum(axis).min()) for axis in (0, 1))
    if min(R, C) < 2 or rare < COMMON:
        what = "one value alone" if min(R, C) < 2 else f"a value in {rare:.0f} rows alone"
        notes += (f"no upper limit: one side has {what}, and what rarer ones would add cannot be seen",)
        value, high, most = plug_in - bias, math.inf, math.inf
    if unseen:
        notes += (f"{table.numel() - filled} cells are empty: the interval is widened by {unseen:.2g} below",)
    return Inference(value, stderr, (low - unseen, min(high, most)), notes)
