"""The plain dense twins of `estimators.ops.permute`, in float64: slow, obvious, and what other paths must equal."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def forms(K: Tensor, v: Tensor) -> Tensor:
    """Σ_{i≠j} K_ij v_i v_j, (C,), labelling by labelling."""
    K = K.double() * (1 - torch.eye(len(K), dtype=torch.float64))
    return torch.stack([row @ K @ row for row in v.double()])


def label_sums(
    kernel: Callable[[Tensor, Tensor], Tensor],
    points: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    *,
    shift: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Over i ≠ j: vᵀKv and vᵀKr of each labelling, (C,), and rᵀKr, with r the weights and v = ±r."""
    N = len(points)
    one = torch.ones(N, dtype=torch.float64, device=points.device)
    r = one if weights is None else weights.double()
    K = (kernel(points.double(), points.double()) - shift) * (1 - one.diag())
    signed = [torch.where(row, r, -r) for row in labels]
    return torch.stack([v @ K @ v for v in signed]), torch.stack([v @ K @ r for v in signed]), r @ K @ r


def bin_sums(
    kernel: Callable[[Tensor, Tensor], Tensor], points: Tensor, sizes: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Σ w_i w_j k(p_i, p_j) over i in bin a and j ≠ i in bin b, (U, U)."""
    N = len(points)
    one = torch.ones(N, dtype=torch.float64, device=points.device)
    w = one if weights is None else weights.double()
    K = kernel(points.double(), points.double()) * w[:, None] * w * (1 - one.diag())
    of_row = torch.arange(len(sizes)).repeat_interleave(sizes).to(points.device)
    return torch.stack([
        torch.stack([K[of_row == a][:, of_row == b].sum() for b in range(len(sizes))]) for a in range(len(sizes))
    ])  # fmt: skip
