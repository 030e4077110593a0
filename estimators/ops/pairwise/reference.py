"""The plain dense twins of `estimators.ops.pairwise`, in float64: slow, obvious, and what other paths must equal."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def row_sums(
    kernel: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    y_weights: Tensor | None = None,
    *,
    exclude_self: bool = False,
) -> Tensor:
    """Σ_j w_j k(x_i, y_j), (..., n); without the pairs i = j where ``exclude_self``."""
    K = kernel(x.double(), y.double())
    if exclude_self:
        K = K * (1 - torch.eye(x.shape[-2], dtype=K.dtype, device=K.device))
    return K.sum(-1) if y_weights is None else (K * y_weights.double().unsqueeze(-2)).sum(-1)


def row_moments(
    kernel: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, *, exclude_self: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Σ_j k(x_i, y_j), (..., n), Σ_i k(x_i, y_j), (..., m), and Σ_ij k(x_i, y_j)², (...,)."""
    K = kernel(x.double(), y.double())
    if exclude_self:
        K = K * (1 - torch.eye(x.shape[-2], dtype=K.dtype, device=K.device))
    return K.sum(-1), K.sum(-2), K.square().sum((-2, -1))
