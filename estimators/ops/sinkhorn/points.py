"""Entropic transport between points: what the paths that hold no matrix share, the envelope theorem's gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from estimators.ops.envelope import Fixed

CERTAIN = 1e-3  # of |value| + ε: a larger gap is not left, whatever the marginals are
TIGHTER = 10.0  # by which the marginals are to be better then
STEP = 4.0  # by which ε falls from the largest cost on


class Given(NamedTuple):
    """A batch of problems: points (B, n, d), (B, m, d), weights (B, n), (B, m), ε and ρ (B,) in float64, and p."""

    x: Tensor
    y: Tensor
    a: Tensor
    b: Tensor
    epsilon: Tensor
    rho: Tensor | None
    power: float


class Path(NamedTuple):
    """What a path gives for a batch of problems, whose points and weights have no graph."""

    solve: Callable[[Given, Any], tuple[Tensor, ...]]  # value, error and gap, (B,), f and g in float64
    # Of f and g, for those of (x, y) that are wanted, a_i Σ_j b_j K_ij ∂c_ij/∂x_i.
    slopes: Callable[[Given, Tensor, Tensor, tuple[bool, bool], Any], list[Tensor | None]]


class Transport(torch.autograd.Function):
    """Dual values of a batch of problems, their errors, gaps and potentials; only the values have a gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor,
        a: Tensor,
        b: Tensor,
        epsilon: Tensor,
        rho: Tensor | None,
        power: float,
        by: Path,
        how: Any,
    ) -> tuple[Tensor, ...]:
        """Of what `Given` holds."""
        *numbers, f, g = by.solve(Given(x.detach(), y.detach(), a.detach(), b.detach(), epsilon, rho, power), how)
        ctx.save_for_backward(x, y, a, b, epsilon, rho, f, g)
        ctx.how = power, by, how
        outputs = tuple(t.to(x.dtype) for t in (*numbers, f, g))
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Σ_j π_ij ∂c_ij for points, potentials for weights."""
        (x, y, a, b, epsilon, rho, f, g), (power, by, how) = ctx.saved_tensors, ctx.how
        to_x, to_y, *to_weights = ctx.needs_input_grad[:4]
        with torch.no_grad():
            given = Given(x.detach(), y.detach(), a.detach(), b.detach(), epsilon, rho, power)
            found = by.slopes(given, f, g, (to_x, to_y), how) if to_x or to_y else [None, None]
            found += [
                weight_slopes(h, epsilon, rho).to(w.dtype) if wanted else None
                for wanted, h, w in zip(to_weights, (f, g), (a, b), strict=True)
            ]
        grad, parts = grads[0], []
        for part, own in zip(found, (x, y, a, b), strict=True):
            if part is not None and torch.is_grad_enabled():
                part = Fixed.apply(part, own)
            parts.append(None if part is None else grad.reshape(-1, *[1] * (part.ndim - 1)) * part)
        return *parts, None, None, None, None, None


def weight_slopes(h: Tensor, epsilon: Tensor, rho: Tensor | None) -> Tensor:
    """The derivative of the dual in the weights with potentials h; for exact marginals up to a constant, unfelt."""
    if rho is None:
        return h
    r, e = rho[..., None], epsilon[..., None]
    return -r * torch.expm1(-h / r) - e * (-h / r).exp()
