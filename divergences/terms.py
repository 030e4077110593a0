"""The elementary functions of p and q that the rows are made of, exact to rounding however near or far p and q are."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_NEAR = 1 / 16  # |s| below which atanh(s) − s is summed as a series: 6 terms are float64


def usable(dtype: torch.dtype) -> float:
    """Return the size from which on a ratio of two probabilities cannot overflow."""
    return 1e-300 if dtype == torch.float64 else 1e-30


def log_ratio(p: Tensor, q: Tensor, may_overflow: bool = False) -> Tensor:
    """log(p/q) for p, q > 0, with relative precision near p = q: one logarithm, of 1 + |p − q|/min(p, q)."""
    difference = p - q
    distance = difference.abs().div_(torch.minimum(p, q))
    x = torch.log1p(distance).copysign_(difference)
    return torch.where(distance.isinf(), p.log() - q.log(), x) if may_overflow else x


def relative_entropy(p: Tensor, q: Tensor, difference: Tensor, x: Tensor) -> Tensor:
    """Return p log(p/q) − (p − q), given p − q and x = log(p/q); ≥ 0.

    With s = (p − q)/(p + q), x = 2 atanh(s), it is (p − q)s + p(x − 2s): both parts are of second order or higher.
    """
    s = difference / (p + q)
    near = s.abs() < _NEAR
    square = torch.where(near, s, 0.0).square()
    series = torch.zeros_like(square)
    for k in (13, 11, 9, 7, 5, 3):
        series = (series + 2 / k) * square
    return difference * s + p * torch.where(near, series * s, x - 2 * s)


def log_mean(v: Tensor, weight: float, rest: float) -> Tensor:
    """log(w e^v + 1 − w), with relative precision where it is near 0; both weights, so that neither is rounded."""
    log_w, log_rest = (math.log(w) if w > 0 else -math.inf for w in (weight, rest))
    rise = weight * torch.expm1(v.clamp(max=30))
    near = (v < 30) & (rise > -0.5)
    close = torch.log1p(torch.where(near, rise, 0.0))
    return torch.where(near, close, torch.logaddexp(v + log_w, torch.full_like(v, log_rest)))


def kl_sum(p: Tensor, q: Tensor) -> Tensor:
    """Σ p log(p/q) − (p − q) over the last axis; NaN where q may have no mass under p."""
    difference, least = p - q, usable(q.dtype)
    hides = bool(q.amin() < least)
    x = torch.div(difference, q.clamp(min=least) if hides else q).clamp_(min=-_end(p)).log1p_()
    value = difference.addcmul_(x, p, value=-1).sum(-1).neg_()
    if hides:
        value[((q < least) & (p > 0)).any(-1)] = math.nan
    return value


def js_sum(p: Tensor, q: Tensor) -> Tensor:
    """½Σ p log(2p/(p + q)) + q log(2q/(p + q)) over the last axis."""
    total = (p + q).clamp_(min=usable(p.dtype))
    s = (p - q).div_(total).clamp_(-_end(p), _end(p))
    at_p = torch.log1p(s, out=total).mul_(p)
    at_q = s.neg_().log1p_().mul_(q)
    return at_p.add_(at_q).sum(-1) / 2  # not fused: exactly symmetric


def power_sum(p: Tensor, q: Tensor, alpha: float) -> Tensor:
    """Σ p^α q^{1−α} − αp − (1 − α)q over the last axis; not finite where an entry is 0 and its power negative."""
    return (p**alpha).mul_(q ** (1 - alpha)).sub_(alpha * p).sub_((1 - alpha) * q).sum(-1)


def _end(p: Tensor) -> float:
    """Return the largest number below 1: beyond it one side is a rounding of the other, and 0 log 0 = 0 holds."""
    return 1 - torch.finfo(p.dtype).eps / 2
