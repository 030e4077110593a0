"""MMD² on the line between laws with a density, or a density and weighted points, by quadrature in both variables.

Every rule here has the same shape: 16 Gauss–Legendre nodes on a panel, and a check that what they interpolate meets the
function itself at both ends of the panel. A kernel k(x, ·) is steepest next to x, so that on a panel without x in it
the nearer end sees what the nodes may miss: a kink, a bandwidth far smaller than the panel. A panel with x in it is
split there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.polynomial import legendre
from torch import Tensor

from divergences.kernels import DistanceInduced, Kernel, Polynomial, Scaled, Sum
from divergences.laws import ConvergenceError, Empirical
from divergences.line import Line
from divergences.line_metrics import Law, refuse_gradient
from divergences.pieces import TOLERANCE, Array, Charts, Integral, Pieces

Points = tuple[Array, Array]  # anchor + offset, relative to the centre: distances to an end keep their digits
Values = Callable[[Points, Points], Array]  # k of (m, 1) and (m or 1, n) points: (m, n)

_NODES, _WEIGHTS = legendre.leggauss(16)
_T = np.concatenate([_NODES, [-1.0, 1.0]])
_TO_MODES = np.linalg.inv(legendre.legvander(_NODES, 15)).T  # values (..., 16) -> Legendre coefficients
_TO_ENDS = _TO_MODES @ legendre.legvander(_T[16:], 15).T
_INNER, _OUTER, _DROPPED = 1e-13, 1e-12, 1e-14  # of the scale of the answer: a pair, a panel, all that is left out
_BLOCK, _LEVELS, _PANELS, _ROUNDS = 1 << 21, 60, 20_000, 30


def squared_mmd(p: Law, q: Law, kernel: Kernel) -> Tensor:
    """Return MMD² = ∬ k(x, y) (p − q)(dx) (p − q)(dy); one law may be weighted points.

    The potential u(x) = ∫ k(x, y) (p − q)(dy) is integrated over y panel by panel, bisecting towards x, and then
    u·(p − q) over x. What is left out obeys |k(x, y)| ≤ √k(x, x)·√k(y, y). `Polynomial` kernels see moments alone:
    MMD² = Σⱼ C(d, j) c^{d−j} (E Xʲ − E Yʲ)². Sums and multiples that are not radial are taken term by term.

    Bound: in [0, ∞]; infinite for `DistanceInduced` of order β where ∫|x|^{β/2}|p − q| diverges, and for `Polynomial`
    where a moment of that order does.
    Cost: O(N²) kernel values in blocks, N ≈ 1000 nodes for smooth laws; O(n²) more for n points.
    Gradients: none.

    Args:
        p: P, a law with a density, or weighted points where q has a density.
        q: Q.
        kernel: of `divergences.kernels`, every bandwidth a number.

    Raises:
        ConvergenceError: the estimated error is above 1e-8·max(1, MMD²), or the tails outgrow a kernel of another kind.
        NotImplementedError: a gradient is wanted, or the kernel is a batch of kernels, or a plain function.
        ValueError: a bandwidth is still "median".

    References: Gretton et al. 2012, lemma 6; Sejdinovic et al. 2013, theorem 22.

    Example:
        >>> import torch.distributions as td
        >>> from divergences.kernels import Laplace
        >>> from divergences.line import line
        >>> round(squared_mmd(line(td.Uniform(0.0, 1.0)), line(td.Uniform(1.0, 2.0)), Laplace(1.0)).item(), 12)
        0.672364962898
    """
    refuse_gradient(p, q)
    _check(kernel)
    return torch.tensor(_value(p, q, kernel), dtype=torch.float64)


def _check(kernel: Any) -> None:
    if not isinstance(kernel, Kernel):
        raise NotImplementedError(f"between densities the kernel must be one of divergences.kernels: got {kernel!r}")
    if kernel.needs_points:
        raise ValueError(f"{kernel!r} waits for a sample: give it a number, or call .resolved(points)")
    zero = torch.zeros(1, 1, dtype=torch.float64)
    value = kernel.matrix(zero, zero)
    if value.requires_grad and torch.is_grad_enabled():
        raise NotImplementedError(f"quadrature gives no gradient in the parameters of {kernel!r}: detach them")
    if value.shape != (1, 1):
        raise NotImplementedError(f"between densities one kernel at a time: {kernel!r} is a batch")


def _value(p: Law, q: Law, kernel: Kernel) -> float:
    if isinstance(kernel, Sum) and not kernel.is_radial:
        return _value(p, q, kernel.left) + _value(p, q, kernel.right)
    if isinstance(kernel, Scaled):
        return kernel.factor * _value(p, q, kernel.kernel)
    lines, points, weights = _parts(p, q)
    if isinstance(kernel, Polynomial):
        found = _by_moments(lines, points, weights, kernel)
    else:
        found = _by_potentials(lines, points, weights, kernel)
    if found is None:
        return math.inf
    value = found.settled()
    if value < -max(TOLERANCE, found.error):
        raise ConvergenceError(f"quadrature gives {value:.9g} for a squared MMD")
    return max(value, 0.0)


def _parts(p: Law, q: Law) -> tuple[list[Line], Array, Array]:
    """The laws with a density, and the points and weights of the other."""
    if isinstance(p, Empirical):
        p, q = q, p
    assert isinstance(p, Line)  # two samples are a finite problem
    if isinstance(q, Line):
        return [p, q], np.empty(0), np.empty(0)
    x, weights = (part.detach().double().cpu().numpy() for part in (q.points[:, 0], q.weights))
    return [p], x, weights / weights.sum()


def _by_moments(lines: list[Line], points: Array, weights: Array, kernel: Polynomial) -> Integral | None:
    """Moments about the middle, whose differences keep the digits that an offset takes."""
    d, c, centre = kernel.degree, kernel.c, _middle(lines)
    measured = _measured(lines, lambda x: d / 2 * np.log1p((x - centre) ** 2), False)
    if measured is None:
        return None
    panels, _, slack, log_masses = measured
    anchor, offset, (signed, _) = *panels.at(_within(panels, _NODES))[:2], _densities(lines, log_masses, panels)
    x, z, mass = (anchor - centre) + offset, points - centre, signed * _WEIGHTS
    about = [math.fsum((mass * x**i).ravel()) - math.fsum(weights * z**i) for i in range(1, d + 1)]
    value = error = 0.0
    for j in range(1, d + 1):
        raw = sum(math.comb(j, i) * centre ** (j - i) * about[i - 1] for i in range(1, j + 1))
        raw_error = slack * ((1 + abs(centre)) ** j - abs(centre) ** j)
        factor = math.comb(d, j) * c ** (d - j)
        value, error = value + factor * raw**2, error + factor * raw_error * (2 * abs(raw) + raw_error)
    return Integral(value, error, 0.0, panels)


def _by_potentials(lines: list[Line], points: Array, weights: Array, kernel: Kernel) -> Integral | None:
    k, centre = _values(kernel), _middle(lines) if kernel.is_shift_free else 0.0
    spread = min(float(np.diff(law.marks[len(law.marks) // 2 - 1 :][:3]).sum()) for law in lines)

    def log_root(x: Array) -> Array:
        if isinstance(kernel, DistanceInduced):  # a bound without a cusp
            return (math.log(2) + kernel.order / 2 * np.log(spread**2 + (x - centre) ** 2)) / 2
        with np.errstate(all="ignore"):
            return np.log(_diagonal(k, (0 * x, x - centre))) / 2

    measured, noise = _measured(lines, log_root, False), 0.0
    if measured is None and kernel.is_shift_free and len(lines) == 2:  # |p − q| may fall faster
        measured, noise = _measured(lines, log_root, True), 1e-15
    if measured is None and isinstance(kernel, DistanceInduced):
        return None
    if measured is None:
        raise ConvergenceError(f"the tails outgrow {kernel!r}: its squared MMD is not known to be finite")
    if measured.scale == 0:
        return Integral(0.0, 0.0, 0.0, measured.panels)
    field, left_out = _field(lines, measured, k, centre)
    every, worst = np.arange(len(field.mass)), 0.0

    def potential(_: Array, panel: Array, t: Array) -> Array:
        nonlocal worst
        anchor, offset = field.points(panel, t)
        x = anchor.reshape(-1, 1), offset.reshape(-1, 1)
        u, error = field.potential(np.repeat(panel, t.shape[1]), t.ravel(), x)
        worst = max(worst, error)
        return u.reshape(t.shape)

    S = field.scale
    (value,), (error,) = field.integrated(potential, 0 * every, every, -1.0 + 0 * every, 1.0 + 0 * every, _OUTER * S**2)
    error += 2 * S * (left_out + noise * S + worst * S)
    if len(points):
        z = points - centre
        own, t, at = field.located(z)
        u, bound = field.potential(own, t, at)
        value += _among(k, z, weights) - 2 * float(weights @ u)
        error += 2 * bound * S * float(weights @ np.sqrt(_diagonal(k, at)[:, 0]) + S)
    return Integral(value, error, 0.0, field.charts)


class _Measured(NamedTuple):
    """Panels, ∫ weight·(p + q) over them, its error, and the logarithm of each law's mass there: it is made 1."""

    panels: Charts
    scale: float
    error: float
    log_masses: Array


def _measured(lines: list[Line], log_weight: Callable[[Array], Array], of_difference: bool) -> _Measured | None:
    """∫ weight·(p + q), or ∫ weight·|p − q|, and the panels it takes; None where it diverges."""

    def size(anchor: Array, offset: Array) -> tuple[Array, Array]:
        logs = [_log(law, anchor, offset) for law in lines]
        total, weight = np.logaddexp.reduce(logs), log_weight(anchor + offset)
        if of_difference:
            gap, top = np.nan_to_num(np.abs(logs[0] - logs[1])), np.maximum(*logs)
            total = np.where(gap > 1e-14 * np.maximum(1, np.abs(top)), top + np.log(-np.expm1(-gap)), math.nan)
            total = np.where((top > -math.inf) & gap.any(), total, -math.inf)
        value = np.where(total == -math.inf, -math.inf, np.where(weight < math.inf, weight + total, math.nan))
        return value, np.ones_like(value)

    found = Pieces(*lines).integrate(size)
    if found is None:
        return None
    panels = found.panels
    for _ in range(_ROUNDS):
        middle = (panels.low + panels.high) / 2
        low, high = panels._replace(high=middle), panels._replace(low=middle)
        halves = _over(size, low) + _over(size, high)
        gap = np.abs(_over(size, panels) - halves)
        coarse = (panels.kind != 0) & (gap > _INNER * halves.sum())  # a slow tail, wide panels in log-distance
        if not coarse.any() or len(panels.kind) > _PANELS:
            break
        panels = Charts.joined(panels.taken(~coarse), low.taken(coarse), high.taken(coarse))
    last = [
        np.flatnonzero(chart)[panels.high[chart].argmax()]  # more than lies beyond, where what is left falls
        for start, way in set(zip(panels.start, panels.scale, strict=True))
        if (chart := (panels.kind != 0) & (panels.start == start) & (panels.scale == way)).any()
    ]
    scale, error = float(halves.sum()), float(gap.sum() + halves[last].sum())
    masses = np.ones(len(lines))
    if not of_difference:  # which may leave out tails that p and q share
        masses = np.asarray([_densities([law], [0.0], panels)[0].sum(0) @ _WEIGHTS for law in lines])
        if not (np.abs(masses - 1) <= TOLERANCE).all():
            raise ConvergenceError(f"the densities integrate to {masses}: quadrature missed part of them")
    return _Measured(panels, scale, error + scale * float(np.abs(masses - 1).max()), np.log(masses))


def _over(size: Callable[[Array, Array], tuple[Array, Array]], panels: Charts) -> Array:
    anchor, offset, log_jacobian = panels.at(_within(panels, _NODES))
    return np.nan_to_num(np.exp(size(anchor, offset)[0] + log_jacobian)) @ _WEIGHTS * _halves(panels)


def _densities(lines: list[Line], log_masses: Any, panels: Charts) -> tuple[Array, Array]:
    """(p − q) dx/dt and (p + q) dx/dt at the nodes (panels, 16)."""
    anchor, offset, log_jacobian = panels.at(_within(panels, _NODES))
    logs = [_log(law, anchor, offset) + log_jacobian - log for law, log in zip(lines, log_masses, strict=True)]
    parts = [np.exp(log) * _halves(panels)[:, None] for log in logs]
    return parts[0] - sum(parts[1:]), parts[0] + sum(parts[1:])


class _Field(NamedTuple):
    """P − Q on panels as Legendre series there, and the kernel."""

    k: Values
    charts: Charts  # relative to the centre
    coefficients: Array  # (16, panels)
    mass: Array  # (panels,): ∫|p − q|
    scale: float  # S = ∫√k(x, x)·(p + q), so that |MMD²| ≤ S²

    def points(self, panel: Array, t: Array) -> Points:
        """``t`` (n, m) of [−1, 1] on the panels (n,): from its middle, or where its chart starts."""
        kind, start, scale, low, high = (part[panel, None] for part in tuple(self.charts))
        along = (high - low) / 2 * t
        tau = (high + low) / 2 + along
        anchor = np.where(kind == 0, (high + low) / 2, start) + 0 * t
        with np.errstate(over="ignore"):
            return anchor, np.where(kind == 0, along, scale * np.where(kind == 1, np.expm1(tau), np.exp(-tau)))

    def weights(self, panel: Array, t: Array, half: Array) -> Array:
        """Weights for (p − q)(dx) of nodes t (n, 16) on parts of the panels (n,)."""
        values = legendre.legval(t, self.coefficients[:, panel, None], tensor=False)
        return values * _WEIGHTS * half[:, None]

    def integrated(
        self, f: Callable[..., Array], row: Array, panel: Array, low: Array, high: Array, allowed: Any
    ) -> tuple[Array, Array]:
        """Σ ∫ f d(p − q) over [low, high] of the panels, and what may be missed, by row: halved as far as allowed."""
        allowed = np.atleast_1d(allowed)
        total, missed, count = np.zeros(len(allowed)), np.zeros(len(allowed)), 0
        for level in range(_LEVELS):
            middle, half = (low + high) / 2, (high - low) / 2
            t = middle[:, None] + half[:, None] * _T
            values, w = f(row, panel, t), self.weights(panel, t[:, :16], half)
            gap, count = _missed(values) * np.abs(w).sum(-1), count + len(row)
            done = (gap <= allowed[row]) | (level == _LEVELS - 1) | (count > _PANELS * len(allowed))
            total += np.bincount(row[done], (values[:, :16] * w).sum(-1)[done], len(total))
            missed += np.bincount(row[done], gap[done], len(total))
            rest = ~done
            if not rest.any():
                break
            row, panel = np.tile(row[rest], 2), np.tile(panel[rest], 2)
            low, high = np.concatenate([low[rest], middle[rest]]), np.concatenate([middle[rest], high[rest]])
        return total, missed

    def potential(self, own: Array, t: Array, x: Points) -> tuple[Array, float]:
        """u(x) at points (m, 1), at ``t`` of the panel ``own`` or −1 for none; its error over S·(√k(x, x) + S/2)."""
        every = np.arange(len(self.mass))
        ones = np.ones(len(every))
        at = self.points(every, np.tile(_T, (len(every), 1)))
        y, w = (at[0].reshape(1, -1), at[1].reshape(1, -1)), self.weights(every, np.tile(_NODES, (len(every), 1)), ones)
        unit = self.scale * (np.sqrt(_diagonal(self.k, x)[:, 0]) + self.scale / 2)
        allowed, worst = _INNER * unit, 0.0
        u, step = np.zeros(len(t)), max(1, _BLOCK // y[0].size)
        for rows in (slice(i, i + step) for i in range(0, len(t), step)):
            some = x[0][rows], x[1][rows]
            values = self.k(some, y).reshape(-1, len(every), len(_T))
            inside = own[rows, None] == every
            near = inside | (_missed(values) * self.mass > allowed[rows, None])
            u[rows] = np.where(near[..., None], 0.0, values[..., :16]).reshape(len(values), -1) @ w.ravel()
            i, j = np.nonzero(near)  # cut at x where x lies inside
            own_i, own_j = np.nonzero(inside)
            cut = np.where(inside[i, j], t[rows][i], 1.0)
            low = np.concatenate([-np.ones(len(i)), t[rows][own_i]])
            high = np.concatenate([cut, np.ones(len(own_i))])
            i, j = np.concatenate([i, own_i]), np.concatenate([j, own_j])
            close, missed = self.integrated(partial(self._close, some), i, j, low, high, allowed[rows])
            u[rows], worst = u[rows] + close, max(worst, float((missed / unit[rows]).max()))
        return u, worst + _INNER * len(every)

    def _close(self, x: Points, row: Array, panel: Array, t: Array) -> Array:
        return self.k((x[0][row], x[1][row]), self.points(panel, t))

    def located(self, z: Array) -> tuple[Array, Array, Points]:
        """The panel of each point z (m,), −1 for none; its place in [−1, 1] there; the points (m, 1)."""
        c = self.charts
        with np.errstate(all="ignore"):
            along = (z[:, None] - c.start) / c.scale  # (m, panels), the charts inverted
            tau = np.where(c.kind == 0, z[:, None], np.where(c.kind == 1, np.log1p(along), -np.log(along)))
        t = (2 * tau - c.low - c.high) / (c.high - c.low)
        inside = np.abs(t) <= 1
        own = np.where(inside.any(-1), inside.argmax(-1), -1)
        return own, t[np.arange(len(z)), own], (np.zeros((len(z), 1)), z[:, None])


def _field(lines: list[Line], measured: _Measured, k: Values, centre: float) -> tuple[_Field, float]:
    """P − Q on the panels, halved until 16 coefficients give it and joined where they still do; what is left out."""
    scale = measured.scale

    def series(panels: Charts) -> tuple[Array, Array, Array]:
        """Coefficients, ∫√k·(p + q), and whether the last coefficients are small, or rounding of x."""
        anchor, offset, log_jacobian = panels.at(_within(panels, _NODES))
        signed, both = _densities(lines, measured.log_masses, panels)
        root = np.sqrt(_diagonal(k, (anchor, offset - centre)))
        modes = signed @ _TO_MODES
        rounded = 4e-16 * (np.abs(offset) * np.exp(-log_jacobian)).max(-1) / np.maximum(_halves(panels), 1e-300)
        least = rounded * (np.abs(modes) @ np.arange(16)) + 1e-15 * np.abs(modes).max(-1)
        rest = np.abs(modes[:, 14:]).sum(-1)
        return modes, (both * root) @ _WEIGHTS, (rest <= least) | (rest * root.max(-1) <= _INNER * scale)

    panels = measured.panels
    for _ in range(_ROUNDS):
        rest = ~series(panels)[2]
        if not rest.any() or len(panels.kind) > _PANELS:
            break
        middle = ((panels.low + panels.high) / 2)[rest]
        coarse = panels.taken(rest)
        panels = Charts.joined(panels.taken(~rest), coarse._replace(high=middle), coarse._replace(low=middle))
    panels = panels.taken(np.lexsort((panels.low, panels.scale, panels.start, panels.kind)))
    first, before = 0, math.inf
    while len(panels.kind) < before or first == 1:
        before, one = len(panels.kind), np.arange(first, len(panels.kind) - 1, 2)
        a, b = panels.taken(one), panels.taken(one + 1)
        fit = (a.kind == b.kind) & (a.start == b.start) & (a.scale == b.scale) & (a.high == b.low)
        one, both = one[fit], a._replace(high=b.high).taken(fit)
        apart, (_, together, resolved) = series(panels)[1], series(both)
        fit = resolved & (np.abs(apart[one] + apart[one + 1] - together) <= _INNER * scale)
        panels.high[one[fit]] = both.high[fit]
        panels, first = panels.taken(np.setdiff1d(np.arange(before), one[fit] + 1)), 1 - first
    modes, density, _ = series(panels)
    order = np.argsort(density)
    small = order[np.cumsum(density[order]) <= _DROPPED * scale]
    left_out = measured.error + float(density[small].sum())
    keep = np.setdiff1d(np.arange(len(density)), small)
    c = panels.taken(keep)
    moved, plain = c._replace(start=c.start - centre), c._replace(low=c.low - centre, high=c.high - centre)
    charts = Charts(*(np.where(c.kind == 0, own, other) for own, other in zip(plain, moved, strict=True)))
    mass = np.abs(_densities(lines, measured.log_masses, c)[0]) @ _WEIGHTS
    return _Field(k, charts, modes[keep].T, mass, float(density.sum())), left_out


def _values(kernel: Kernel) -> Values:
    def values(x: Points, y: Points) -> Array:
        if isinstance(kernel, DistanceInduced):
            return _distance_induced(kernel.order, x, y)
        if kernel.is_radial:
            gap = (x[0] - y[0]) + (x[1] - y[1])
            return kernel.of_squared_distance(torch.from_numpy(gap * gap)).numpy()
        a, b = (torch.from_numpy(anchor + offset)[..., None] for anchor, offset in (x, y))
        return kernel.matrix(a, b)[..., 0, :].numpy()

    return values


def _distance_induced(order: float, x: Points, y: Points) -> Array:
    """|x|^β + |y|^β − |x − y|^β, in a form that keeps its digits where one of them is far out."""
    a, b = x[0] + x[1], y[0] + y[1]
    size_a, size_b = np.abs(a), np.abs(b)
    if order == 1:
        return np.where((a > 0) == (b > 0), 2 * np.minimum(size_a, size_b), 0.0)
    value = size_a**order + size_b**order - np.abs((x[0] - y[0]) + (x[1] - y[1])) ** order
    far = (size_a < 1e-3 * size_b) | (size_b < 1e-3 * size_a)
    if far.any():
        a, b = np.broadcast_to(a, far.shape)[far], np.broadcast_to(b, far.shape)[far]
        small, large = np.where(np.abs(a) < np.abs(b), a, b), np.where(np.abs(a) < np.abs(b), b, a)
        value[far] = np.abs(small) ** order - np.abs(large) ** order * np.expm1(order * np.log1p(-small / large))
    return value


def _diagonal(k: Values, x: Points) -> Array:
    flat = x[0].reshape(-1, 1), x[1].reshape(-1, 1)
    return k(flat, flat).reshape(x[0].shape)


def _among(k: Values, z: Array, weights: Array) -> float:
    """Σᵢⱼ wᵢ wⱼ k(zᵢ, zⱼ)."""
    y, total, step = (np.zeros((1, len(z))), z[None, :]), 0.0, max(1, _BLOCK // len(z))
    for rows in (slice(i, i + step) for i in range(0, len(z), step)):
        x = z[rows, None]
        total += float(weights[rows] @ k((0 * x, x), y) @ weights)
    return total


def _log(law: Line, anchor: Array, offset: Array) -> Array:
    """The log-density; −inf where it has left the range of floating point."""
    value = law.at(anchor.ravel(), offset.ravel()).reshape(anchor.shape)
    return np.where(np.isnan(value), -math.inf, value)


def _middle(lines: list[Line]) -> float:
    return float(lines[0].marks[len(lines[0].marks) // 2])


def _missed(values: Array) -> Array:
    """How far the polynomial through the 16 nodes is from the values (..., 18) at the ends."""
    return np.abs(values[..., :16] @ _TO_ENDS - values[..., 16:]).max(-1)


def _halves(charts: Charts) -> Array:
    return (charts.high - charts.low) / 2


def _within(charts: Charts, t: Array) -> Array:
    """τ of t in [−1, 1], one row or one for each chart."""
    return ((charts.high + charts.low) / 2)[:, None] + _halves(charts)[:, None] * t
