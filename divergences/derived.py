"""Divergences made of something else: the reversal of any row, and any convex f that a user writes."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from divergences._generator import FDivergence, Function, named
from divergences.conjugates import LOG_RANGE, autograd_derivative, inverse, numerical_conjugate
from divergences.generators import checked, has_pieces, limits, reliable


@named(None)
def Reversed(divergence: FDivergence) -> FDivergence:
    """D(Q‖P) of a row that has no named reversal.

    Its generator is f°(u) = u f(1/u). At s = 1/u, T° = f°'(u) = f(s) − s f'(s) = −f*(f'(s)) and f°*(T°) = −f'(s), so
    activation and conjugate exchange: g°(v) = −f*(g(−v)), f°*(g°(v)) = −g(−v).
    """
    d, quick = divergence, divergence._quick

    def slopes(x: Tensor) -> tuple[Tensor, Tensor]:
        slope, conjugate = d._slopes(-x)
        return -conjugate, -slope

    def f(u: Tensor) -> Tensor:
        end = u.isinf()  # reached where f(0) = 0, and then the limit is f'(0)
        inside = u * d._f(1 / torch.where(end, 1.0, u))
        return torch.where(end, d.derivative(torch.zeros_like(u)), inside)

    return FDivergence(
        f=f,
        term=lambda p, q, difference, x: d._term(q, p, -difference, -x),
        derivative=lambda u: slopes(u.log())[0],
        slopes=slopes,
        conjugate=numerical_conjugate(lambda v: slopes(v)[0], lambda v: slopes(v)[1]),
        activation=lambda v: -d._conjugate_of_activation(-v),
        conjugate_of_activation=lambda v: -d._activation(-v),
        log_ratio=(lambda v: -d.log_ratio(-v)) if d._log_ratio else None,
        quick=(lambda p, q: quick(q, p)) if quick else None,
        f_at_zero=d.slope_at_infinity,
        slope_at_infinity=d.f_at_zero,
        slope_at_one=-d._slope_at_one,
        conjugate_domain=(-math.inf, d.f_at_zero),
        is_symmetric=d.is_symmetric,
        reversal=lambda: d,
    )


@named(None, "FDivergence.from_f")
def _from_f(f: Function, name: str = "f") -> FDivergence:
    f = checked(f, name)
    derivative = autograd_derivative(f)
    f_at_zero, slope_at_zero, slope_at_infinity = limits(f, derivative)
    slope_at_one = float(derivative(torch.ones((), dtype=torch.float64)))
    highest = reliable(f, derivative, 1e-6)

    def slope(v: Tensor) -> Tensor:
        return derivative(v.clamp(-LOG_RANGE, LOG_RANGE).exp())

    def composed(v: Tensor) -> Tensor:
        u = v.clamp(-LOG_RANGE, LOG_RANGE).exp()
        return u * derivative(u) - f(u)

    above = _beyond(lambda v: f(v.exp()) / v.exp(), slope_at_infinity)
    below = _beyond(lambda v: f((-v).exp()), f_at_zero)

    def term(p: Tensor, q: Tensor, difference: Tensor, x: Tensor) -> Tensor:
        p, q, v = p.double(), q.double(), x.double()
        near = v.abs() < LOG_RANGE
        u = torch.where(near, p, 1.0) / torch.where(near, q, 1.0)
        value = torch.where(v > 0, p * (f(u) / u), q * f(u))
        value = torch.where(near, value, torch.where(v > 0, p * above(v), q * below(-v)))
        return (value - slope_at_one * difference).clamp(min=0).to(x.dtype)  # what is below 0 is rounding

    conjugate = numerical_conjugate(slope, composed, highest)
    linear, jumps = has_pieces(derivative)
    if linear or jumps:
        top = min(slope_at_infinity, float(slope(torch.tensor(highest, dtype=torch.float64))))
        activation = _onto(slope_at_zero, top if math.isfinite(slope_at_infinity) else math.inf)

        def conjugate_of_activation(v: Tensor) -> Tensor:
            return conjugate(activation(v))

        def log_ratio(v: Tensor) -> Tensor:
            return inverse(activation(v), slope, highest)

    else:
        end = min(highest, reliable(f, derivative, 1e-9))

        def log_ratio(v: Tensor) -> Tensor:
            return v if end == LOG_RANGE else _below(v, end)

        def activation(v: Tensor) -> Tensor:
            return slope(log_ratio(v))

        def conjugate_of_activation(v: Tensor) -> Tensor:
            return composed(log_ratio(v))

    return FDivergence(
        f=_wide(f),
        term=term,
        derivative=_wide(derivative),
        slopes=lambda x: (_wide(slope)(x), _wide(composed)(x)),
        conjugate=conjugate,
        activation=_wide(activation),
        conjugate_of_activation=_wide(conjugate_of_activation),
        log_ratio=None if linear else _wide(log_ratio),
        f_at_zero=f_at_zero,
        slope_at_infinity=slope_at_infinity,
        slope_at_one=slope_at_one,
        conjugate_domain=(-math.inf, slope_at_infinity),
    )


def _wide(function: Function) -> Function:
    return lambda u: function(u.double()).to(u.dtype)


def _beyond(growth: Function, limit: float) -> Function:
    """Return growth(v) for v ≥ 690, where e^v leaves floating point: its limit, inf, or a power of v."""
    middle, end = (float(growth(torch.tensor(v, dtype=torch.float64))) for v in (LOG_RANGE / 2, LOG_RANGE))
    if math.isfinite(limit) or not 0 < middle < end < 1e50:
        return lambda v: torch.full_like(v, limit)
    return lambda v: end * (v.clamp(min=LOG_RANGE) / LOG_RANGE) ** math.log2(end / middle)


def _below(v: Tensor, end: float) -> Tensor:
    """``v``, bent smoothly so as to stay below ``end``: beyond it u f'(u) − f(u) is lost in rounding."""
    over = (v - (end - 4)).clamp(min=0)
    return v.clamp(max=end - 4) + 4 * (over / 4).tanh()


def _onto(low: float, high: float) -> Function:
    """Return an increasing smooth curve onto (low, high)."""
    if math.isinf(low):
        return (lambda v: v) if math.isinf(high) else (lambda v: high - softplus(-v))
    if math.isinf(high):
        return lambda v: low + softplus(v)
    return lambda v: low + (high - low) * v.sigmoid()
