"""Conjugates by computation: for f-divergences that a user writes, and where no closed form exists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]

LOG_RANGE = 690.0  # exp of it is still finite in float64


def autograd_derivative(f: Function) -> Function:
    """Return the derivative by automatic differentiation; differentiable again."""

    def derivative(u: Tensor) -> Tensor:
        kept = u.requires_grad and torch.is_grad_enabled()
        with torch.enable_grad():
            point = u if kept else u.detach().requires_grad_()
            value = f(point)
            if not value.requires_grad:
                return torch.zeros_like(u)
            (slope,) = torch.autograd.grad(value.sum(), point, create_graph=kept, materialize_grads=True)
        return slope

    return derivative


class _Inverse(torch.autograd.Function):
    """v = slope⁻¹(t) for an increasing slope, by bisection; dv/dt = 1/slope'(v), 0 in a jump or on a level piece."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, slope: Function, highest: float) -> Tensor:
        low, high = torch.full_like(t, -LOG_RANGE), torch.full_like(t, highest)
        for _ in range(64):
            middle = (low + high) / 2
            reached = slope(middle)
            below = torch.where(reached.isnan(), middle < 0, reached < t)
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        ctx.slope, ctx.highest = slope, highest
        ctx.save_for_backward(t)
        return low

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None]:
        (t,) = ctx.saved_tensors
        v = inverse(t, ctx.slope, ctx.highest)
        steepness = autograd_derivative(ctx.slope)(v)
        settled = (ctx.slope(v) - t).abs() <= 1e-6 * (1 + t.abs())
        moves = settled & (steepness > 0)
        return gradients[0] * torch.where(moves, 1 / torch.where(moves, steepness, 1.0), 0.0), None, None


def inverse(t: Tensor, slope: Function, highest: float = LOG_RANGE) -> Tensor:
    """Return the v ≤ ``highest`` where the increasing ``slope`` passes t; differentiable as often as ``slope`` is."""
    v: Tensor = _Inverse.apply(t, slope, highest)
    return v


class _Conjugate(torch.autograd.Function):
    """f*(t) = f*(f'(u)) + u(t − f'(u)) at the maximiser u = e^v, whose gradient is u: the envelope theorem."""

    @staticmethod
    def forward(ctx: Any, t: Tensor, slope: Function, composed: Function, highest: float) -> Tensor:
        v = inverse(t, slope, highest)
        ctx.slope, ctx.highest = slope, highest
        ctx.save_for_backward(t, v)
        rest = t - slope(v)
        settled = (rest.abs() <= 1e-13 * (1 + t.abs())) | (v <= 1 - LOG_RANGE)  # what is left is rounding, times u
        return composed(v) + torch.where(settled, 0.0, v.exp() * rest)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None, None, None]:
        t, v = ctx.saved_tensors
        if torch.is_grad_enabled():
            v = inverse(t, ctx.slope, ctx.highest)
        return gradients[0] * torch.where(v <= 1 - LOG_RANGE, 0.0, v.exp()), None, None, None


def numerical_conjugate(slope: Function, composed: Function, highest: float = LOG_RANGE) -> Function:
    """f*(t) = sup ut − f(u) from ``slope`` f'(e^v) and ``composed`` f*(f'(e^v)), by bisection in v = log u ≤ highest.

    Elementwise and in float64. Twice differentiable: the gradient in t is the maximiser u, its gradient 1/f''(u). In a
    kink, where f' jumps past t, and beyond f'(e^highest), f* is linear.
    """

    def conjugate(t: Tensor) -> Tensor:
        value: Tensor = _Conjugate.apply(t.to(torch.float64), slope, composed, highest)
        return value.to(t.dtype)

    return conjugate


def solve(step: Callable[[Tensor, Tensor], Tensor], start: Tensor, t: Tensor, steps: int = 12) -> Tensor:
    """Return the fixed point in x of a Newton step (x, t) ↦ x; differentiable in t three times.

    A Newton step at the solution has its first derivative in t, two steps the first three.
    """
    with torch.no_grad():
        x = start.detach()
        for _ in range(steps):
            x = step(x, t.detach())
    return step(step(x, t), t)
