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
    kernel: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    x_weights: Tensor,
    y_weights: Tensor,
    *,
    exclude_self: bool = False,
    shift: float | Tensor = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Σ_j v_j k_ij, Σ_i w_i k_ij, Σ_j v_j² k_ij, Σ_i w_i² k_ij and Σ_ij w_i² v_j² k_ij², k_ij = k(x_i, y_j) − shift."""
    K = kernel(x.double(), y.double()) - shift
    if exclude_self:
        K = K * (1 - torch.eye(x.shape[-2], dtype=K.dtype, device=K.device))
    w, v = x_weights.double().unsqueeze(-1), y_weights.double().unsqueeze(-2)
    return (
        (K * v).sum(-1),
        (K * w).sum(-2),
        (K * v**2).sum(-1),
        (K * w**2).sum(-2),
        (K**2 * w**2 * v**2).sum((-2, -1)),
    )
