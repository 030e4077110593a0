"""Exact values in one dimension by adaptive quadrature, for any two laws with a log-density on the line.

The line is cut at the ends of both supports, at quantiles of both laws and where the densities cross. Between the cuts
the integrand is integrated by Gauss–Legendre panels, halved until two levels agree; towards an infinite or singular end
the variable is log-distance, so that power tails become exponentials. The summed disagreement is the error estimate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.optimize import brentq

from divergences._generator import FDivergence
from divergences.laws import ConvergenceError
from divergences.line import Line, line

TOLERANCE = 1e-8
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_PANELS = 200_000
Array = np.ndarray
Integrand = Callable[[Array], Array]
Chart = Callable[[Array], tuple[float, Array, Array]]


def integral(f: Integrand, cuts: Any, tolerance: float = TOLERANCE) -> float:
    """∫ f over [cuts[0], cuts[-1]], f vectorised; panels are halved until the error is below ``tolerance``.

    Absolute for values below 1, relative above. Raises ConvergenceError where the error estimate stays larger.
    """
    cuts = np.unique(np.asarray(cuts, dtype=float))
    low, high = cuts[:-1], cuts[1:]
    whole = _panels(f, low, high)
    total, error, panels = 0.0, 0.0, len(low)
    for _ in range(60):
        middle = (low + high) / 2
        left, right = _panels(f, low, middle), _panels(f, middle, high)
        gap = np.abs(left + right - whole)
        done = (gap <= 1e-13 + 1e-12 * np.abs(left + right)) | (middle <= low) | (middle >= high)
        total, error = total + float((left + right)[done].sum()), error + float(gap[done].sum())
        if done.all():
            low = low[:0]
            break
        rest = ~done
        low, high = np.concatenate([low[rest], middle[rest]]), np.concatenate([middle[rest], high[rest]])
        whole = np.concatenate([left[rest], right[rest]])
        panels += len(low)
        if panels > _PANELS:
            break
    if len(low):
        total, error = total + float(whole.sum()), error + float(gap[~done].sum())
    if not error <= tolerance * max(1.0, abs(total)):
        raise ConvergenceError(
            f"quadrature gives {total:.9g} with an error estimate of {error:.2g}, above {tolerance:g}"
        )
    return total


def _panels(f: Integrand, low: Array, high: Array) -> Array:
    half = (high - low) / 2
    x = ((low + high) / 2)[:, None] + half[:, None] * _NODES
    with np.errstate(all="ignore"):
        values = np.asarray(f(x.ravel()), dtype=float).reshape(x.shape)
    if not np.isfinite(values).all():
        raise ConvergenceError(f"quadrature met an integrand that is not finite, at {x[~np.isfinite(values)][0]:.6g}")
    return (values @ _WEIGHTS) * half


def reduced(p: Any, q: Any) -> tuple[Line, Line] | None:
    """Two laws on a line with the divergences of p and q; None where they do not reduce to one dimension."""
    from divergences import gaussian

    both = gaussian.pair(p, q)
    if both is not None and both[0].mean.shape[-1] > 1:
        distance = gaussian.mahalanobis(*both)  # with equal covariances everything happens along Δ
        if distance is None or distance.numel() != 1:
            return None
        import torch.distributions as td

        zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
        p, q = td.Normal(distance.detach().double().reshape(()), one), td.Normal(zero, one)
    a, b = line(p), line(q)
    return None if a is None or b is None else (a, b)


def f_value(d: FDivergence, p: Line, q: Line) -> torch.Tensor:
    """D_f(P‖Q) by quadrature; inf where P has mass outside the support of Q and f'(∞) = ∞, and so on."""
    only_p, only_q = d.slope_at_infinity - d._slope_at_one, d.f_at_zero + d._slope_at_one

    def integrand(anchor: float, offset: Array, overflow: float | None = None) -> Array:
        log_p, log_q = p.at(anchor, offset), q.at(anchor, offset)
        in_p, in_q = log_p > -math.inf, log_q > -math.inf
        both = in_p & in_q
        a, b = (torch.from_numpy(np.where(both, log, 0.0)) for log in (log_p, log_q))
        scale, value = (part.numpy() for part in d.log_perspective(a, b))
        inside = np.where(value == 0, 0.0, np.exp(scale) * value)
        overflown = both & np.isposinf(value)
        far = np.exp(scale[overflown] + growth((a - b).numpy()[overflown]))
        inside[overflown] = far if overflow is None else overflow
        outside = np.zeros_like(inside)
        if math.isfinite(only_p):
            outside = np.where(in_p & ~in_q, np.exp(log_p) * only_p, outside)
        if math.isfinite(only_q):
            outside = np.where(in_q & ~in_p, np.exp(log_q) * only_q, outside)
        return np.where(both, inside, outside)

    growth, pieces = _growth(d), Pieces(p, q)
    for law in (p, q):
        mass = pieces.integrate(lambda anchor, offset, law=law: np.exp(law.at(anchor, offset)))  # type: ignore[misc]
        if not abs(mass - 1) <= TOLERANCE:
            raise ConvergenceError(f"the density of {law.name} integrates to {mass:.9g}: quadrature missed part of it")
    if math.isinf(only_p) and pieces.mass(p, q) > 1e-12 or math.isinf(only_q) and pieces.mass(q, p) > 1e-12:
        return torch.tensor(math.inf, dtype=torch.float64)
    if pieces.diverges(partial(integrand, overflow=math.nan)):  # there rounding of log p − log q decides
        return torch.tensor(math.inf, dtype=torch.float64)
    return torch.tensor(pieces.integrate(integrand), dtype=torch.float64)


def _growth(d: FDivergence) -> Callable[[Array], Array]:
    """Return the logarithm of the perspective's value at log ratios where it overflows: it is exponential there."""
    points = torch.tensor([200.0, 400.0, -200.0, -400.0], dtype=torch.float64)
    logs = d.log_perspective(points, torch.zeros_like(points))[1].log().numpy()

    def growth(log_u: Array) -> Array:
        near, far = np.where(log_u > 0, logs[0], logs[2]), np.where(log_u > 0, logs[1], logs[3])
        return far + (far - near) * (np.abs(log_u) - 400) / 200

    return growth


class Pieces:
    """The union of two supports, cut where either law changes, with its ends in log-distance.

    Integrands take (anchor, offset), the point anchor + offset, so that an end at 1 is approached to 1e−300.
    """

    def __init__(self, p: Line, q: Line) -> None:
        self.laws = (p, q)
        self.low, self.high = min(p.support[0], q.support[0]), max(p.support[1], q.support[1])
        marks = np.unique(np.concatenate([p.marks, q.marks]))
        ends = [end for law in (p, q) for end in law.support if math.isfinite(end)]
        marks = marks[(marks > self.low) & (marks < self.high)]
        self.ends = np.unique(np.asarray(ends))
        self.cuts = np.unique(np.concatenate([marks, self.ends, crossings(p, q, marks)]))

    def charts(self) -> list[tuple[Chart, Array]]:
        """``(chart, cuts)`` pairs: chart(τ) = (anchor, offset, |dx/dτ|) covers its part of the line over the cuts."""
        if len(self.cuts) < 2:
            raise ConvergenceError("the laws have no marks to integrate between")
        charts: list[tuple[Chart, Array]] = []
        span = float(self.cuts[-1] - self.cuts[0])
        if math.isinf(self.low):
            charts.append((_tail(float(self.cuts[0]), -span), _TAIL))
        if math.isinf(self.high):
            charts.append((_tail(float(self.cuts[-1]), span), _TAIL))
        plain = []
        for left, right in zip(self.cuts[:-1], self.cuts[1:], strict=True):
            for end, other in ((left, right), (right, left)):
                if end in self.ends:
                    resolved = all(law.resolves(float(end)) for law in self.laws)
                    charts.append((_end(float(end), float(other - end) / 2), _END if resolved else _NEAR_END))
            a = left + (right - left) / 2 if left in self.ends else left
            b = left + (right - left) / 2 if right in self.ends else right
            if b > a:
                plain.append((a, b))
        for a, b in plain:
            charts.append((lambda x: (0.0, x, np.ones_like(x)), np.asarray([a, b])))
        return charts

    def integrate(self, f: Callable[[float, Array], Array]) -> float:
        """∫ f over the union of the supports."""
        return math.fsum(integral(_through(chart, f), cuts, TOLERANCE / 10) for chart, cuts in self.charts())

    def mass(self, p: Line, q: Line) -> float:
        """P[q = 0]."""

        def alone(anchor: float, offset: Array) -> Array:
            return np.where(q.at(anchor, offset) == -math.inf, np.exp(p.at(anchor, offset)), 0.0)

        return self.integrate(alone)

    def diverges(self, f: Callable[[float, Array], Array]) -> bool:
        """Whether ∫ |f| is infinite at an end: in log-distance the integrand does not decay."""
        for chart, cuts in self.charts():
            if len(cuts) == 2:
                continue
            tau = np.linspace(0, cuts[-1], 4001)
            with np.errstate(all="ignore"):
                size = np.abs(_through(chart, f)(tau))
            usable = np.isfinite(size) & (size > 1e-290)
            stop = int(np.argmin(usable)) if not usable.all() else len(tau)
            if not usable[stop - 1] or stop < 12:
                continue
            slope = (math.log(size[stop - 1]) - math.log(size[stop - 11])) / (tau[stop - 1] - tau[stop - 11])
            if slope >= -1e-3 and size[stop - 1] > 1e-14 * size[:stop].max():
                return True
        return False


_TAIL = np.concatenate([[0, 1, 2, 4, 8, 16], np.linspace(32, 320, 10)])
_END = np.concatenate([[0, 1, 2, 4, 8, 16], np.linspace(32, 640, 20)])
_NEAR_END = np.asarray([0, 1, 2, 4, 8, 16, 32, 36.0])


def _tail(start: float, scale: float) -> Chart:
    return lambda tau: (0.0, start + scale * np.expm1(tau), abs(scale) * np.exp(tau))


def _end(end: float, width: float) -> Chart:
    return lambda tau: (end, width * np.exp(-tau), abs(width) * np.exp(-tau))


def _through(chart: Chart, f: Callable[[float, Array], Array]) -> Integrand:
    def composed(tau: Array) -> Array:
        anchor, offset, jacobian = chart(tau)
        value = np.asarray(f(anchor, offset))
        return np.where(value == 0, 0.0, value * jacobian)

    return composed


def crossings(p: Line, q: Line, marks: Array) -> Array:
    """Points where the densities cross, found between the marks."""
    if len(marks) < 2:
        return np.asarray([])
    grid = np.unique(np.concatenate([np.linspace(a, b, 17) for a, b in zip(marks[:-1], marks[1:], strict=True)]))
    with np.errstate(all="ignore"):
        gap = p.logpdf(grid) - q.logpdf(grid)
    change = np.isfinite(gap[:-1]) & np.isfinite(gap[1:]) & (np.signbit(gap[:-1]) != np.signbit(gap[1:]))

    def difference(x: float) -> float:
        point = np.asarray([x])
        return float((p.logpdf(point) - q.logpdf(point))[0])

    return np.asarray([brentq(difference, grid[i], grid[i + 1], xtol=1e-14) for i in np.flatnonzero(change)])
