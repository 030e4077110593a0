"""Bregman divergences of special functions, in forms that keep their digits where both arguments are near."""

from __future__ import annotations

import torch
from torch import Tensor

from divergences.f_divergence import KL, ReverseKL

_SHIFT = 12  # arguments are moved above it, where the series below reaches float64
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156)  # of x^{1−2k}, k = 1, 2, …


def excess(a: Tensor, b: Tensor) -> Tensor:
    """A log(a/b) − a + b for positive a and b: the KL divergence of unnormalised masses."""
    return KL().perspective(a, b)


def log_excess(u: Tensor) -> Tensor:
    """U − 1 − log u for positive u."""
    return ReverseKL().perspective(u, torch.ones_like(u))


def lgamma_bregman(a: Tensor, b: Tensor) -> Tensor:
    """Log Γ(a) − log Γ(b) − (a − b)ψ(b) for positive a and b; every term below but the last is ≥ 0.

    By log Γ(x) = log Γ(x + N) − Σ log(x + i) and Stirling's series, log Γ(x) = (x − ½) log x − x + … + Σ c_k x^{1−2k}.
    """
    total = torch.zeros_like(a * b)
    for i in range(_SHIFT):
        total = total + log_excess((a + i) / (b + i))
    x, y = a + _SHIFT, b + _SHIFT
    total = total + excess(x, y) + log_excess(x / y) / 2
    for k, c in enumerate(_STIRLING):
        m = 2 * k + 1
        log_u = torch.log1p((a - b) / y)
        total = total + c * y**-m * (torch.expm1(-m * log_u) + m * (a - b) / y)
    return total


def lgamma_jensen(a: Tensor, b: Tensor, alpha: float) -> Tensor:
    """Log Γ(m) − α log Γ(a) − (1 − α) log Γ(b), m = αa + (1 − α)b > 0."""
    m = alpha * a + (1 - alpha) * b
    return -(alpha * lgamma_bregman(a, m) + (1 - alpha) * lgamma_bregman(b, m))
