"""Conjugates by computation: for f-divergences that a user writes, and where no closed form exists."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Function = Callable[[Tensor], Tensor]

_LOG_RANGE = 690.0  # exp of it is still finite in float64


def autograd_derivative(f: Function) -> Function:
    """Return the derivative by automatic differentiation; differentiable again."""

    def derivative(u: Tensor) -> Tensor:
        with torch.enable_grad():
            point = u if u.requires_grad else u.detach().requires_grad_()
            value = f(point)
            if not value.requires_grad:
                return torch.zeros_like(u)
            (slope,) = torch.autograd.grad(value.sum(), point, create_graph=True, materialize_grads=True)
        return slope if u.requires_grad else slope.detach()

    return derivative


def numerical_conjugate(slope: Function, composed: Function) -> Function:
    """f*(t) = sup_{u ≥ 0} ut − f(u) from ``slope`` f'(e^v) and ``composed`` f*(f'(e^v)), by bisection in v = log u.

    At a kink, where f' jumps past t, f*(t) is linear: f*(T) + u(t − T). Its gradient in t is the maximiser u.
    """

    def conjugate(t: Tensor) -> Tensor:
        with torch.no_grad():
            target = t.detach().to(torch.float64)
            low, high = torch.full_like(target, -_LOG_RANGE), torch.full_like(target, _LOG_RANGE)
            for _ in range(80):
                middle = (low + high) / 2
                below = slope(middle).detach() < target
                low, high = torch.where(below, middle, low), torch.where(below, high, middle)
            u, reached = low.exp(), slope(low).detach()
            settled = (target - reached).abs() <= 1e-12 * (
                1 + target.abs()
            )  # no kink: the rest is rounding, u is large
            value = composed(low).detach() + torch.where(settled | (u == 0), 0.0, u * (target - reached))
            u, value = u.to(t.dtype), value.to(t.dtype)
        return value + u * (t - t.detach()) if t.requires_grad else value

    return conjugate


def wright_omega_logarithm(z: Tensor) -> Tensor:
    """Return the log W where W + log W = z, that is W = W₀(e^z). Newton from the right; differentiable once."""
    with torch.no_grad():
        log_w = torch.where(z > 1, z.clamp(min=1).log(), z)
        for _ in range(12):  # convex and from the right, so monotone; 8 steps reach float64 for every z
            w = log_w.exp()
            log_w = log_w - (w + log_w - z) / (w + 1)
    w = log_w.exp()
    return log_w - (w + log_w - z) / (w + 1)


def limits(f: Function, derivative: Function) -> tuple[float, float]:
    """``(f(0), f'(∞))`` of a convex f, by looking at both ends; inf where it keeps growing."""

    def at(function: Function, u: float) -> float:
        return float(function(torch.tensor(u, dtype=torch.float64)))

    f_at_zero = at(f, 0.0)
    if math.isnan(f_at_zero):  # as 0·log 0
        near, nearer = at(f, 1e-150), at(f, 1e-300)
        settled = abs(nearer - near) <= 1e-9 * (1 + abs(near))
        f_at_zero = round(nearer, 15) if settled else math.inf
    for far in (1e150, 1e60, 1e30, 1e15):
        slope, further = at(derivative, far), at(derivative, far * far if far < 1e150 else 1e300)
        if not math.isnan(slope) and not math.isnan(further):
            settled = abs(further - slope) <= 1e-7 * (1 + abs(slope))
            return f_at_zero, further if settled else math.inf
    return f_at_zero, math.inf


def check_generator(f: Function, name: str) -> None:
    """Refuse an f with f(1) ≠ 0, or that is not convex on u > 0, with the point that shows it."""
    at_one = float(f(torch.ones((), dtype=torch.float64)))
    if not abs(at_one) <= 1e-9:
        raise ValueError(f"{name}: f(1) must be 0: got f(1) = {at_one:.6g}")
    wide, fine = torch.logspace(-8, 8, 321, dtype=torch.float64), torch.linspace(0.01, 5, 500, dtype=torch.float64)
    grid = torch.cat([wide, fine])
    a, b = grid[:, None], grid[None, :]
    middle, chord = f((a + b) / 2), (f(a) + f(b)) / 2
    scale = f(a).abs() + f(b).abs() + middle.abs() + 1e-3
    gap = (middle - chord) / scale
    if not bool(torch.isfinite(f(grid)).all()):
        raise ValueError(f"{name}: f(u) must be finite for u > 0: got {float(f(grid)[~f(grid).isfinite()][0])}")
    if float(gap.max()) > 1e-9:
        i, j = divmod(int(gap.argmax()), len(grid))
        u, w = float(grid[i]), float(grid[j])
        raise ValueError(
            f"{name}: f must be convex: at u = {(u + w) / 2:.6g} it is {float(middle[i, j]):.6g}, "
            f"above the chord from u = {u:.6g} to u = {w:.6g}, {float(chord[i, j]):.6g}"
        )
