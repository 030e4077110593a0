"""What a user's f must be, a convex function of u > 0 with f(1) = 0 written elementwise, and what its ends are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from divergences.conjugates import LOG_RANGE, Function, autograd_derivative

_FINE = 30.0  # |log u| up to which f is looked at closely, in steps of 0.1%


def checked(f: Callable[[Tensor], Any], name: str) -> Function:
    """``f`` on float64, elementwise and differentiable; a one-line error says what it is instead."""
    if not callable(f):
        raise TypeError(f"{name}: f must be a function of a tensor: got {type(f).__name__}")
    u = torch.tensor([[0.5, 1.5, 3.0], [1.0, 2.0, 20.0]], dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        value = f(u)
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: f must return a tensor: got {type(value).__name__}")
    if value.dtype != u.dtype:
        raise TypeError(f"{name}: f must keep its argument's dtype: got {value.dtype} from {u.dtype}")
    if value.shape != u.shape:
        raise ValueError(f"{name}: f must work elementwise: got shape {tuple(value.shape)} from shape {tuple(u.shape)}")
    if not value.requires_grad:
        raise TypeError(f"{name}: f must be written with torch operations: got a result without a gradient")
    for point, among in zip(u.detach().flatten(), value.detach().flatten(), strict=True):
        alone = f(point).detach()
        if not torch.allclose(alone, among, rtol=1e-9, atol=1e-12, equal_nan=True):
            raise ValueError(
                f"{name}: f must work elementwise: at u = {float(point):g} it is {float(alone):.9g} alone, "
                f"{float(among):.9g} among others"
            )
    check_generator(f, name)
    return f


def check_generator(f: Function, name: str) -> None:
    """Refuse an f with f(1) ≠ 0, or not finite or not convex on u > 0, with the point that shows it."""
    at_one = float(f(torch.ones((), dtype=torch.float64)).detach())
    if not abs(at_one) <= 1e-9:
        raise ValueError(f"{name}: f(1) must be 0: got f(1) = {at_one:.6g}")
    fine = torch.linspace(-_FINE, _FINE, 60_001, dtype=torch.float64)
    wide = torch.linspace(-LOG_RANGE, LOG_RANGE, 2001, dtype=torch.float64)
    u = torch.cat([fine, wide]).exp().unique()
    derivative = autograd_derivative(f)
    value, slope = f(u).detach(), derivative(u)
    inside = u.log().abs() <= _FINE
    overflown = (value == math.inf) & (u > 1) & (torch.cat([value[:1], value[:-1]]) > 1e30)
    overflown = overflown.cumsum(0) > 0  # from there on f is out of the range of floating point, not of its domain
    strange = inside & ~value.isfinite() & ~overflown
    if bool(strange.any()):
        i = int(strange.nonzero()[0])
        raise ValueError(f"{name}: f(u) must be finite for u > 0: got f({float(u[i]):.6g}) = {float(value[i])}")
    known = value.isfinite() & slope.isfinite()
    u, value, slope = u[known], value[known], slope[known]
    _check_slopes(f, name, u, value, slope)


def _check_slopes(f: Function, name: str, u: Tensor, value: Tensor, slope: Tensor) -> None:
    # A convex f has increasing slopes, and lies above its tangents: the second holds jumps of f itself to account.
    tallest, scale = slope.cummax(0), 1e-9 * (1 + slope.abs())
    falls = tallest.values - slope - scale
    step, rounding = u.diff(), 1e-9 * (1 + value.abs()[1:] + value.abs()[:-1]) + 1e-9 * u.diff() * slope.abs()[1:]
    forward = value[:-1] + slope[:-1] * step - value[1:] - rounding
    backward = value[1:] - slope[1:] * step - value[:-1] - rounding
    jumps = torch.maximum(forward, backward)
    drop = (slope[:-1] - slope[1:]) / scale[1:]
    if bool((drop > 1).any()):
        i = _strongest(drop, 1, u)
        j = i + 1
    elif bool((falls > 0).any()):
        j = _strongest(falls / scale, 0, u)
        i = int(tallest.indices[j])
    elif bool((jumps > 0).any()):
        i = _strongest(jumps / rounding, 0, u)
        j = i + 1
    else:
        return
    a, b = float(u[i]), float(u[j])
    inner = torch.linspace(0, 1, 1025, dtype=torch.float64)[1:-1]
    chord = value[i] + (value[j] - value[i]) * inner
    between = f(a + (b - a) * inner).detach()
    k = int((between - chord).nan_to_num(nan=-math.inf).argmax())
    where, there = a + (b - a) * float(inner[k]), f"{float(between[k]):.12g}"
    if float(between[k]) > float(chord[k]):
        raise ValueError(
            f"{name}: f must be convex: at u = {where:.9g} it is {there}, "
            f"above the chord from u = {a:.9g} to u = {b:.9g}, {float(chord[k]):.12g}"
        )
    raise ValueError(
        f"{name}: f must be convex: at u = {a:.9g} its slope is {float(slope[i]):.9g}, "
        f"at u = {b:.9g} it is {float(slope[j]):.9g}"
    )


def _strongest(defect: Tensor, threshold: float, u: Tensor) -> int:
    """Return where a defect above the threshold is largest, next to u = 1 if there are some."""
    for reach in (3, 7, _FINE, math.inf):
        near = torch.where(u[: len(defect)].log().abs() <= reach, defect, -math.inf)
        if float(near.max()) > threshold:
            break
    return int(near.argmax())


def limits(f: Function, derivative: Function) -> tuple[float, float, float]:
    """``(f(0), f'(0), f'(∞))`` of a convex f, by looking at both ends; −inf or inf where it keeps growing."""

    def at(function: Function) -> Callable[[float], float]:
        return lambda log_u: float(function(torch.tensor(log_u, dtype=torch.float64).exp()).detach())

    direct = float(f(torch.zeros((), dtype=torch.float64)).detach())
    value, slope = at(f), at(derivative)
    f_at_zero = direct if math.isfinite(direct) else limit(lambda far: value(-far), math.inf)
    return f_at_zero, limit(lambda far: slope(-far), -math.inf), limit(slope, math.inf)


def limit(function: Callable[[float], float], bound: float) -> float:
    """Return lim function(x) as x → ∞ of a monotone function, or ``bound``, inf or −inf, where it is unbounded.

    From x up to 690: a value that stands still; else differences that shrink by one ratio, as those of e^{−ax}, or
    shrink when x doubles, as those of x^{−a}, are extrapolated. Others, as those of log x, are growth.
    """
    top = LOG_RANGE
    while top > 20 and not math.isfinite(function(top)):
        if function(top) == bound and abs(function(top / 2) - function(top / 4)) > 1e-9:
            return bound
        top /= 2  # beyond it the formula overflows, not its value
    first, *even = (function(top * k / 8) for k in (1, 2, 4, 6, 8))
    for before, after in itertools.pairwise([first, *even]):
        if abs(after - before) <= 1e-14 * (1 + abs(after)):
            return after if abs(after) > 1e-14 else 0.0
    doubled = [first, even[0], even[1], even[3]]
    earlier, later = _ratios(even)
    for values, ratio, shrinks in (
        (even, later, abs(later - earlier) < 1e-3 and later < 0.9999),
        (doubled, _ratios(doubled)[1], _ratios(doubled)[1] < 0.8),
    ):
        if shrinks:
            return values[3] + (values[3] - values[2]) * ratio / (1 - ratio)
    return bound


def _ratios(values: list[float]) -> tuple[float, float]:
    a, b, c, d = values
    return (c - b) / (b - a), (d - c) / (c - b)


def has_pieces(derivative: Function) -> tuple[bool, bool]:
    """Return whether f has linear pieces, and whether f' jumps."""
    v = torch.linspace(-10, 10, 2001, dtype=torch.float64)
    linear = bool((autograd_derivative(derivative)(v.exp()) == 0).any())
    low, high = v[:-1], v[1:]
    below, above = derivative(low.exp()), derivative(high.exp())
    step = above - below
    for _ in range(40):  # into the half where f' rises more: what is left of the rise in the end is a jump
        middle = (low + high) / 2
        at = derivative(middle.exp())
        left = at - below > above - at
        low, high = torch.where(left, low, middle), torch.where(left, middle, high)
        below, above = torch.where(left, below, at), torch.where(left, at, above)
    return linear, bool((above - below > 1e-3 * step + 1e-9 * (1 + step)).any())


def reliable(f: Function, derivative: Function, precision: float) -> float:
    """Return the largest v = log u up to which u·f'(u) − f(u) is exact to ``precision``, absolute below 1."""
    v = torch.linspace(0, LOG_RANGE, 6901, dtype=torch.float64)
    u = v.exp()
    rising, value = u * derivative(u), f(u).detach()
    lost = 4e-16 * (rising.abs() + value.abs()) > precision * (1 + (rising - value).abs())
    lost |= ~(rising - value).isfinite()
    return float(v[int(lost.nonzero()[0]) - 1]) if bool(lost.any()) else LOG_RANGE
