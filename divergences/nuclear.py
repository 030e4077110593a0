"""The sum of singular values of many small matrices at once, by matrix products alone."""

from __future__ import annotations

import torch
from torch import Tensor

_EPSILON = torch.finfo(torch.float64).eps


def nuclear_norm(L_p: Tensor, L_q: Tensor) -> tuple[Tensor, Tensor]:
    """Σσ(N), N = L_qᵀL_p, (n,), from triangular factors (n, d, d), and a bound of its error (inf where unknown)."""
    N = L_q.mT @ L_p
    l = torch.linalg.eigvalsh(N.mT @ N).clamp(min=0)
    s = l.sqrt()
    noise = L_p.shape[-1] * _EPSILON * l[..., -1:]
    return s.sum(-1), torch.minimum(noise / s, noise.sqrt()).sum(-1)
