"""The plain dense twin of `estimators.ops.knn`, in float64: slow, obvious, and what other paths must equal."""

from __future__ import annotations

import torch
from torch import Tensor

ORDERS = {"euclidean": 2.0, "cityblock": 1.0, "chebyshev": torch.inf}


def nearest(
    points: Tensor, queries: Tensor, k: int, *, metric: str = "euclidean", exclude_self: bool = False
) -> tuple[Tensor, Tensor]:
    """The k smallest of all distances (..., q, k), increasing, and the indices; equal ones by index."""
    gap = queries.double().unsqueeze(-2) - points.double().unsqueeze(-3)
    distance = torch.linalg.vector_norm(gap, ORDERS[metric], -1)
    if exclude_self:
        own = torch.eye(queries.shape[-2], dtype=torch.bool, device=points.device)
        distance = distance.masked_fill(own, torch.inf)
    found = distance.sort(dim=-1, stable=True)
    return found.values[..., :k], found.indices[..., :k]
