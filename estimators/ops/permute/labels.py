"""Sums of a kernel over pairs for many labellings at once, by tiles of torch: for any kernel, on any device."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TILE = 2**20  # kernel values held at once


def tiled(
    kernel: Callable[[Tensor, Tensor], Tensor], points: Tensor, labels: Tensor, weights: Tensor | None, shift: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Q, s and T of `permute.label_sums`: rows of the matrix in parts, multiplied in the precision of the points."""
    N = len(points)
    v = torch.where(labels, 1.0, -1.0).to(points.dtype)
    v = torch.cat([v, torch.ones_like(v[:1])])
    sums = points.new_zeros(2, len(v), dtype=torch.float64)
    for rows in torch.arange(N, device=points.device).split(max(1, TILE // N)):
        K = kernel(points[rows], points) - shift
        K[torch.arange(len(rows), device=K.device), rows] = 0  # i = j
        if weights is not None:
            K = K * weights[rows, None] * weights
        found = (v @ K.T).double()
        sums += torch.stack([(found * v[:, rows]).sum(-1), found.sum(-1)])
    q, s = sums
    return q[:-1], s[:-1], q[-1]
