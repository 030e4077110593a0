"""`nearest` by torch on any device: all distances of some queries at once, in float64 by differences of coordinates."""

from __future__ import annotations

import torch
from torch import Tensor

from estimators.ops.knn.reference import ORDERS

TILE = 2**20  # distances held at once: 8 MB


def nearest(points: Tensor, queries: Tensor, k: int, metric: str, exclude_self: bool) -> tuple[Tensor, Tensor]:
    """The distances (..., q, k), increasing, in the points' dtype, and the indices; equal ones by index."""
    lead = torch.broadcast_shapes(points.shape[:-2], queries.shape[:-2])
    n, q = points.shape[-2], queries.shape[-2]
    distance = points.new_empty(*lead, q, k)
    index = torch.empty(*lead, q, k, dtype=torch.int64, device=points.device)
    rows = max(1, TILE // max(1, lead.numel() * n))
    y = points.double()
    for start in range(0, q, rows):
        part = slice(start, start + rows)
        x = queries[..., part, :].double()
        D = torch.cdist(x, y, ORDERS[metric], compute_mode="donot_use_mm_for_euclid_dist")
        if exclude_self:
            own = torch.arange(start, start + x.shape[-2], device=D.device)[:, None]
            D = D.masked_fill(own == torch.arange(n, device=D.device), torch.inf)
        distance[..., part, :], index[..., part, :] = smallest(D, k)
    return distance, index


def smallest(D: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k smallest of each row, increasing, and where they are; of equal ones the first."""
    worst = D.topk(k, -1, largest=False, sorted=True).values[..., -1:]  # which of equal ones it takes, topk leaves open
    taken = D <= worst
    if int(taken.sum()) > worst.numel() * k:
        below, tied = D < worst, D == worst
        taken = below | (tied & (tied.cumsum(-1) <= k - below.sum(-1, keepdim=True)))
    index = taken.nonzero()[:, -1].reshape(*D.shape[:-1], k)
    distance, order = D.gather(-1, index).sort(dim=-1, stable=True)
    return distance, index.gather(-1, order)
