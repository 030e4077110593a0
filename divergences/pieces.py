"""Integrals over the line of integrands known by their logarithm: where to cut, how to reach an end, when it diverges.

The line is cut at the ends of both supports, at quantiles of both laws and where the densities cross. Towards an
infinite end or the end of a support the variable is log-distance, in which power laws are exponentials: there the
integral diverges exactly when the logarithm of the integrand does not fall, and what lies beyond the last point is
bounded by its slope. Panels of 16 Gauss–Legendre nodes are halved until two levels agree.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from divergences.laws import ConvergenceError
from divergences.line import Line

TOLERANCE = 1e-8
Array = np.ndarray
# (anchor, offset) of points anchor + offset -> (log |f|, sign f); nan where the logarithm is not known to a digit.
Integrand = Callable[[Array, Array], tuple[Array, Array]]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
_AIM, _NOISE, _PANELS, _LEVELS = 1e-11, 1e-9, 60_000, 60
_NEGLIGIBLE = 100.0  # below the peak, in nats
_GRADES = (*range(2, 64, 2), 64.0, 128.0, 256.0, 512.0)
_FLAT, _STEEP = 1e-5, 1e-3  # slopes in log-distance: level below the first, falling or rising above the second
_PLAIN, _TAIL, _END = 0, 1, 2
_FAR, _QUANTILES = 320.0, 230.0  # how far in log-distance a tail can be followed, and quantile functions towards 0


class Charts(NamedTuple):
    """Intervals [low, high] in τ: x = τ; x = start + scale·(e^τ − 1); x = start + scale·e^{−τ}, by ``kind``."""

    kind: Array
    start: Array
    scale: Array
    low: Array
    high: Array

    def inverse(self, x: Array) -> Array:
        """Return the τ of points x, one for each chart."""
        with np.errstate(all="ignore"):
            along = (x - self.start) / self.scale
            tail, end = np.log1p(along), -np.log(along)
        return np.where(self.kind == _PLAIN, x, np.where(self.kind == _TAIL, tail, end))

    @property
    def is_rising(self) -> Array:
        """Whether x rises with τ."""
        return (self.scale > 0) != (self.kind == _END)

    def taken(self, index: Any) -> Charts:
        """Return the charts of an index or a mask."""
        return Charts(*(part[index] for part in self))

    @staticmethod
    def joined(*charts: Charts) -> Charts:
        """Return all charts as one."""
        return Charts(*(np.concatenate(parts) for parts in zip(*charts, strict=True)))

    @staticmethod
    def of_rows(rows: Iterable[tuple[float, ...]]) -> Charts:
        """Return charts from their rows (kind, start, scale, low, high)."""
        table = np.asarray(list(rows), dtype=float).reshape(-1, 5)
        return Charts(*table.T)

    def at(self, tau: Array) -> tuple[Array, Array, Array]:
        """``(anchor, offset, log |dx/dτ|)`` of τ (charts, k)."""
        kind, start, scale = (part[:, None] for part in (self.kind, self.start, self.scale))
        with np.errstate(over="ignore", divide="ignore"):
            anchor = np.where(kind == _END, start, 0.0) + 0 * tau
            offset = np.where(kind == _PLAIN, tau, np.where(kind == _TAIL, start + scale * np.expm1(tau), 0.0))
            offset = np.where(kind == _END, scale * np.exp(-tau), offset)
            log_jacobian = np.where(kind == _PLAIN, 0.0, np.log(np.abs(scale)) + np.where(kind == _TAIL, tau, -tau))
        return anchor, offset, log_jacobian


class Integral(NamedTuple):
    """``value``·e^``log_scale``, its error estimate in the same scale, and the panels that gave it."""

    value: float
    error: float
    log_scale: float
    panels: Charts

    def settled(self) -> float:
        """Return the integral. Raises ConvergenceError where the error is above the tolerance, or it is not finite."""
        factor = math.exp(self.log_scale) if self.log_scale < 709 else math.inf
        total, error = self.value * factor if self.value else 0.0, self.error * factor if self.error else 0.0
        if not error <= TOLERANCE * max(1.0, abs(total)) or math.isinf(total):
            raise ConvergenceError(
                f"quadrature gives {total:.9g} with an error estimate of {error:.2g}, above {TOLERANCE:g}"
            )
        return total

    def logarithm(self) -> float:
        """Return the logarithm of a positive integral, −inf for 0."""
        if not self.error <= TOLERANCE * self.value and self.value > 0:
            raise ConvergenceError(f"quadrature has a relative error estimate of {self.error / self.value:.2g}")
        return math.log(self.value) + self.log_scale if self.value > 0 else -math.inf


class Pieces:
    """The union of the supports of laws and of further cuts, cut where a law changes, with charts for its ends."""

    def __init__(self, *laws: Line, cuts: Array | None = None) -> None:
        self.laws = laws
        marked = () if cuts is None else cuts
        low, high = min([*(law.support[0] for law in laws), *marked]), max([*(law.support[1] for law in laws), *marked])
        marks = np.unique(np.concatenate([law.marks for law in laws]))
        marks = marks[(marks > low) & (marks < high)]
        ends = np.unique([end for law in laws for end in law.support if math.isfinite(end)])
        crossed = crossings(laws[0], laws[1], marks) if len(laws) == 2 else np.asarray([])
        self.cuts = np.unique(np.concatenate([marks, ends, crossed, marked]))
        if len(self.cuts) < 2:
            raise ConvergenceError("the laws have no marks to integrate between")
        self.charts = self._charts(low, high, ends)

    def _charts(self, low: float, high: float, ends: Array) -> Charts:
        """Each stretch between two ends: a chart towards either, as far as rounding of x would blur, plain between."""
        rows: list[tuple[float, ...]] = []
        span = float(self.cuts[-1] - self.cuts[0])
        for a, b in itertools.pairwise(np.unique([low, *ends, high])):
            inside = self.cuts[(self.cuts > a) & (self.cuts < b)]
            left, right = a, b
            if math.isinf(a) or math.isinf(b):
                left, right = (inside[0], inside[-1]) if len(inside) else (b, b) if math.isinf(a) else (a, a)
            elif not len(inside):
                left = right = a + (b - a) / 2
            if math.isinf(a):
                rows.append((_TAIL, left, -span, 0, _FAR))
            else:
                left = _clear(inside, a, right) if len(inside) else left
                rows += self._towards(a, left)
            if math.isinf(b):
                rows.append((_TAIL, right, span, 0, _FAR))
            else:
                right = max(-_clear(-inside[::-1], -b, -left), left) if len(inside) else right
                rows += self._towards(b, right)
            between = [left, *inside[(inside > left) & (inside < right)], right]
            rows += [(_PLAIN, 0, 1, u, v) for u, v in itertools.pairwise(between) if v > u]
        return Charts.of_rows(rows)

    def _towards(self, end: float, start: float) -> list[tuple[float, ...]]:
        if start == end:
            return []
        known = all(law.resolves(float(end)) for law in self.laws)
        reach = _resolved(start - end) if known else math.log(abs(start - end) / (4e-16 * abs(end)))
        return [(_END, end, start - end, 0, max(reach, 1.0))]

    def integrate(self, f: Integrand) -> Integral | None:
        """∫ f over the union of the supports; None where it diverges at an end."""
        return integrate(f, self.charts)

    def supremum(self, log_f: Callable[[Array, Array], Array]) -> float:
        """Sup of a function of (anchor, offset), nan where unknown, −inf where absent; inf where a tail still rises."""
        charts = self.charts
        tau = charts.low[:, None] + np.linspace(0, 1, 1001) * (charts.high - charts.low)[:, None]
        values = _through(log_f, charts, tau)
        best = -math.inf
        for i, g in enumerate(values):
            stop = int(np.argmax(np.isnan(g))) if np.isnan(g).any() else len(g)
            if not stop or not (g[:stop] > -math.inf).any():
                continue
            top = int(np.argmax(g[:stop]))
            if charts.kind[i] != _PLAIN and top == stop - 1 and top > 20:
                slope = (g[top] - g[top - 20]) / (tau[i, top] - tau[i, top - 20])
                if slope > _STEEP:
                    return math.inf
                if slope > _FLAT:
                    raise ConvergenceError(
                        f"a tail rises like distance^{slope:.6g}: whether it is bounded cannot be told"
                    )
            best = max(best, float(g[top]))
            a, b = tau[i, max(top - 1, 0)], tau[i, min(top + 1, stop - 1)]
            chart = charts.taken([i])

            def down(t: float, chart: Charts = chart) -> float:
                return -float(_through(log_f, chart, np.asarray([[t]]))[0, 0])

            if b > a:
                best = max(best, -float(minimize_scalar(down, bounds=(a, b), method="bounded").fun))
        return best


def integrate(f: Integrand, charts: Charts) -> Integral | None:
    """∫ f over the charts; None where it diverges at an end."""
    followed, log_scale, beyond = _followed(f, charts)
    return None if followed is None else _adaptive(f, followed, log_scale, beyond)


def towards_zero(length: float) -> Charts:
    """Return the chart of (0, length] in log-distance from 0, as far as quantiles can be trusted."""
    return Charts.of_rows([(_END, 0.0, length, 0.0, _QUANTILES)])


def _followed(f: Integrand, charts: Charts) -> tuple[Charts | None, float, float]:
    """Charts cut where nothing is left, the logarithm of the peak, and a bound on what lies beyond the cuts."""
    ended = charts.kind != _PLAIN
    tails, plain = charts.taken(ended), charts.taken(~ended)
    tau = np.linspace(0, 1, 2001) * tails.high[:, None]
    sizes = [_sizes(f, tails, tau), _sizes(f, plain, _spread(plain, _NODES))]
    known = [part[np.isfinite(part)] for part in sizes if part.size]
    peak = max((float(part.max()) for part in known if part.size), default=-math.inf)
    if peak == -math.inf:
        return plain, 0.0, 0.0
    high, beyond = tails.high.copy(), 0.0
    for i, g in enumerate(sizes[0]):
        stop = int(np.argmax(np.isnan(g))) if np.isnan(g).any() else len(g)
        alive = np.flatnonzero(g[:stop] >= peak - _NEGLIGIBLE)
        if not len(alive):
            if stop == 0:
                raise ConvergenceError(
                    "a density leaves floating point towards an end of the line, where it would matter"
                )
            high[i] = 0.0
            continue
        last = int(alive[-1])
        high[i] = tau[i, min(last + 1, stop - 1)]
        if last < stop - 1:
            continue
        window = min(20, last)
        if not window:
            raise ConvergenceError("a density leaves floating point towards an end of the line, where it would matter")
        slope = (g[last] - g[last - window]) / (tau[i, last] - tau[i, last - window])
        if not slope < -_FLAT:
            return None, peak, math.inf
        if slope > -_STEEP:
            raise ConvergenceError(
                f"a tail falls like distance^{slope - 1:.6g}: whether it is integrable cannot be told"
            )
        beyond += math.exp(g[last] - peak) / -slope
    tails = tails._replace(high=high).taken(high > 0)
    return Charts.joined(_graded(tails), plain), peak, beyond


def _clear(inside: Array, end: float, last: float) -> float:
    """Return the first cut so far right of ``end`` that rounding of x leaves its distance its digits."""
    far = inside[inside - end >= 1e-3 * max(abs(end), last - end)]
    return float(far[0]) if len(far) else float(inside[-1])


def _resolved(width: float) -> float:
    """Return the log-distance at which a chart of this width reaches 1e−300."""
    return math.log(abs(width)) + 690


def _spread(charts: Charts, nodes: Array) -> Array:
    half = (charts.high - charts.low) / 2
    return ((charts.low + charts.high) / 2)[:, None] + half[:, None] * nodes


def _through(log_f: Callable[[Array, Array], Array], charts: Charts, tau: Array) -> Array:
    anchor, offset, _ = charts.at(tau)
    with np.errstate(all="ignore"):
        return np.asarray(log_f(anchor.ravel(), offset.ravel())).reshape(tau.shape)


def _sizes(f: Integrand, charts: Charts, tau: Array) -> Array:
    """Log |f dx/dτ|; NaN where it leaves floating point, as a generator of a large ratio may long before f does."""
    if not len(charts.kind):
        return np.empty((0, 0))
    anchor, offset, log_jacobian = charts.at(tau)
    with np.errstate(all="ignore"):
        size, _ = f(anchor.ravel(), offset.ravel())
        found = np.asarray(size).reshape(tau.shape) + log_jacobian
    return np.where(np.isposinf(found), math.nan, found)


def _graded(tails: Charts) -> Charts:
    """Each tail cut so that the first level sees it at every scale."""
    rows = []
    for kind, start, scale, _, high in zip(*tails, strict=True):
        cuts = [0.0, *(c for c in _GRADES if c < high), high]
        rows += [(kind, start, scale, a, b) for a, b in itertools.pairwise(cuts)]
    return Charts.of_rows(rows)


def _adaptive(f: Integrand, panels: Charts, log_scale: float, beyond: float) -> Integral:
    """Halve the panels until the disagreement of two levels, summed, is below the aim."""
    kept: list[Charts] = []
    left_over = math.inf
    total, error, whole, count = 0.0, beyond, _panels(f, panels, log_scale), len(panels.kind)
    for _ in range(_LEVELS):
        middle = (panels.low + panels.high) / 2
        halves = panels._replace(high=middle), panels._replace(low=middle)
        left, right = (_panels(f, half, log_scale) for half in halves)
        gap, both = np.abs(left + right - whole), left + right
        estimate = total + float(both.sum())
        done = (gap <= 1e-15 + 1e-12 * np.abs(both)) | (middle <= panels.low) | (middle >= panels.high)
        left_over, before = float(gap.sum()), left_over
        small = (
            -50 < log_scale < 50 and left_over * math.exp(log_scale) <= 1e-16
        )  # a tiny one is wanted for its logarithm
        if small or left_over <= _AIM * abs(estimate) or before / 2 < left_over <= _NOISE * abs(estimate):
            done[:] = True  # enough, or what halving does not mend: the rounding of x itself
        total, error = total + math.fsum(both[done]), error + float(gap[done].sum())
        kept += [half.taken(done) for half in halves]
        rest = ~done
        panels = Charts.joined(*(half.taken(rest) for half in halves))
        whole = np.concatenate([left[rest], right[rest]])
        count += len(whole)
        if not len(whole) or count > _PANELS:
            break
    if len(whole):
        total, error = total + float(whole.sum()), error + float(gap[rest].sum())
        kept.append(panels)
    return Integral(total, error, log_scale, Charts.joined(*kept))


def _panels(f: Integrand, panels: Charts, log_scale: float) -> Array:
    if not len(panels.kind):
        return np.empty(0)
    tau = _spread(panels, _NODES)
    anchor, offset, log_jacobian = panels.at(tau)
    with np.errstate(all="ignore"):
        size, sign = (np.asarray(part).reshape(tau.shape) for part in f(anchor.ravel(), offset.ravel()))
        values = sign * np.exp(size + log_jacobian - log_scale)
    if not np.isfinite(values).all():
        x = (anchor + offset)[~np.isfinite(values)][0]
        raise ConvergenceError(f"quadrature met an integrand that is not known, at {x:.6g}")
    return (values @ _WEIGHTS) * (panels.high - panels.low) / 2


def span_of(panels: Charts) -> tuple[Array, Array]:
    """Return where each panel begins and ends on the line."""
    anchor, offset, _ = panels.at(np.stack([panels.low, panels.high], -1))
    x = anchor + offset
    return x.min(-1), x.max(-1)


def nodes(panels: Charts) -> tuple[Array, Array]:
    """Points x and weights w with ∫ f = Σ w f(x) over the panels."""
    anchor, offset, log_jacobian = panels.at(_spread(panels, _NODES))
    weights = _WEIGHTS * ((panels.high - panels.low) / 2)[:, None] * np.exp(log_jacobian)
    return (anchor + offset).ravel(), weights.ravel()


def crossings(p: Line, q: Line, marks: Array) -> Array:
    """Points where the densities cross, found between the marks."""
    if len(marks) < 2:
        return np.asarray([])
    grid = np.unique(np.concatenate([np.linspace(a, b, 17) for a, b in zip(marks[:-1], marks[1:], strict=True)]))

    def difference(x: Array | float) -> Array:
        with np.errstate(all="ignore"):
            return p.logpdf(np.atleast_1d(x)) - q.logpdf(np.atleast_1d(x))

    gap = difference(grid)
    change = np.isfinite(gap[:-1]) & np.isfinite(gap[1:]) & (np.signbit(gap[:-1]) != np.signbit(gap[1:]))
    found = [
        brentq(lambda x: float(difference(x)[0]), grid[i], grid[i + 1], xtol=1e-14) for i in np.flatnonzero(change)
    ]
    return np.asarray(found)
