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
from divergences.line_metrics import Law, _refuse_gradient
from divergences.pieces import TOLERANCE, Array, Charts, Integral, Pieces, nodes

Points = tuple[Array, Array]  # anchor + offset, relative to the centre: distances to an end keep their digits
Values = Callable[[Points, Points], Array]  # k of (m, 1) and (m or 1, n) points: (m, n)

_NODES, _WEIGHTS = legendre.leggauss(16)
_T = np.concatenate([_NODES, [-1.0, 1.0]])
_TO_MODES = np.linalg.inv(legendre.legvander(_NODES, 15)).T  # values (..., 16) -> Legendre coefficients
_TO_ENDS = _TO_MODES @ legendre.legvander(_T[16:], 15).T
_INNER, _OUTER, _DROPPED = 1e-13, 1e-12, 1e-14  # of the scale of the answer: a pair, a panel, all that is left out
_BLOCK, _LEVELS, _PANELS = 1 << 21, 60, 20_000


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
        0.672366634157
    """
    _refuse_gradient(p, q)
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
    found = (_by_moments if isinstance(kernel, Polynomial) else _by_potentials)(lines, points, weights, kernel)
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
    found = _measured(lines, lambda x: d / 2 * np.log1p((x - centre) ** 2), False)
    if found is None:
        return None
    anchor, offset, log_jacobian = found.panels.at(_within(found.panels, _NODES))
    mass = (_signed(lines, anchor, offset, log_jacobian) * _WEIGHTS).ravel() * np.repeat(_halves(found.panels), 16)
    x, z = ((anchor - centre) + offset).ravel(), points - centre
    about = [math.fsum(mass * x**i) - math.fsum(weights * z**i) for i in range(1, d + 1)]
    slack = _plain(found.error, found)
    value = error = 0.0
    for j in range(1, d + 1):
        raw = sum(math.comb(j, i) * centre ** (j - i) * about[i - 1] for i in range(1, j + 1))
        raw_error = slack * ((1 + abs(centre)) ** j - abs(centre) ** j)
        factor = math.comb(d, j) * c ** (d - j)
        value, error = value + factor * raw**2, error + factor * raw_error * (2 * abs(raw) + raw_error)
    return Integral(value, error, 0.0, found.panels)


def _by_potentials(lines: list[Line], points: Array, weights: Array, kernel: Kernel) -> Integral | None:
    k, centre = _values(kernel), _middle(lines) if kernel.is_shift_free else 0.0

    def log_root(x: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.log(_diagonal(k, (0 * x, x - centre))) / 2

    found, noise = _measured(lines, log_root, False), 0.0
    if found is None and kernel.is_shift_free and len(lines) == 2:  # |p − q| may fall faster
        found, noise = _measured(lines, log_root, True), 1e-15
    if found is None and isinstance(kernel, DistanceInduced):
        return None
    if found is None:
        raise ConvergenceError(f"the tails outgrow {kernel!r}: its squared MMD is not known to be finite")
    field, left_out = _field(lines, found, k, centre)
    value, error = field.energy()
    error += 2 * field.scale * (left_out + noise * float(field.density.sum()))
    if len(points):
        z = points - centre
        u, slack = field.potential(*field.located(z))
        among = _among(k, z, weights)
        value, error = value - 2 * float(weights @ u) + among, error + 2 * float(weights @ slack)
    return Integral(value, error, 0.0, found.panels)


def _measured(lines: list[Line], log_weight: Callable[[Array], Array], of_difference: bool) -> Integral | None:
    """∫ weight·(p + q), or ∫ weight·|p − q|, and the panels it takes; None where it diverges."""

    def size(anchor: Array, offset: Array) -> tuple[Array, Array]:
        logs = [_log(law, anchor, offset) for law in lines]
        total, weight = np.logaddexp.reduce(logs), log_weight(anchor + offset)
        if of_difference:
            gap, top = np.abs(logs[0] - logs[1]), np.maximum(*logs)
            total = np.where(gap > 1e-14 * np.maximum(1, np.abs(top)), top + np.log(-np.expm1(-gap)), math.nan)
            total = np.where(top > -math.inf, total, -math.inf)
        value = np.where(total == -math.inf, -math.inf, np.where(weight < math.inf, weight + total, math.nan))
        return value, np.ones_like(value)

    found = Pieces(*lines).integrate(size)
    for law in lines if found is not None and not of_difference else ():
        anchor, offset, log_jacobian = found.panels.at(_within(found.panels, _NODES))
        mass = float(_halves(found.panels) @ np.exp(_log(law, anchor, offset) + log_jacobian) @ _WEIGHTS)
        if not abs(mass - 1) <= TOLERANCE:
            raise ConvergenceError(f"the density of {law.name} integrates to {mass:.9g}: quadrature missed part of it")
    return found


class _Field(NamedTuple):
    """p − q on panels: its Legendre ``coefficients`` there, its weights at the nodes, and k(x, y) between them."""

    k: Values
    charts: Charts  # relative to the centre
    coefficients: Array  # (16, panels)
    weighted: Array  # (panels, 16): weight·(p − q)
    density: Array  # (panels,): ∫√k(x, x)·(p + q)
    scale: float  # S with |MMD²| ≤ S²

    def points(self, panel: Array, t: Array) -> Points:
        """``t`` (n, m) of [−1, 1] on the panels (n,)."""
        charts = self.charts[panel]
        anchor, offset, _ = charts.at(_within(charts, t))
        return anchor, offset

    def weights(self, panel: Array, t: Array, half: Array) -> Array:
        """Weights for (p − q)(dx) of nodes t (n, 16) on a part of the panels (n,)."""
        values = legendre.legval(t, self.coefficients[:, panel, None], tensor=False)
        return values * _WEIGHTS * half[:, None]

    def energy(self) -> tuple[float, float]:
        """∫ u d(p − q) and a bound on its error."""
        panel = np.arange(len(self.charts.kind))
        low, high = -np.ones(len(panel)), np.ones(len(panel))
        value, error, count = 0.0, 0.0, 0
        for level in range(_LEVELS):
            half, t = (high - low) / 2, _part(low, high)
            places = self.points(panel, t)
            x = places[0].reshape(-1, 1), places[1].reshape(-1, 1)
            u, slack = (part.reshape(t.shape) for part in self.potential(np.repeat(panel, len(_T)), t.ravel(), x))
            w = self.weights(panel, t[:, :16], half)
            gap = _missed(u) * np.abs(w).sum(-1)
            count += len(panel)
            done = (gap <= _OUTER * self.scale**2) | (level == _LEVELS - 1) | (count > _PANELS)
            value += math.fsum((u[:, :16] * w)[done].ravel())
            error += float(gap[done].sum() + (slack[:, :16] * np.abs(w))[done].sum())
            panel, low, high = _bisected(~done, panel, low, high)
            if not len(panel):
                break
        return value, error

    def potential(self, own: Array, t: Array, x: Points) -> tuple[Array, Array]:
        """u(x) and a bound on its error, at points (m, 1) that lie at ``t`` of the panel ``own``; −1 for none."""
        every = np.arange(len(self.charts.kind))
        at = self.points(every, np.broadcast_to(_T, (len(every), len(_T))))
        y = at[0].reshape(1, -1), at[1].reshape(1, -1)
        mass, average = np.abs(self.weighted).sum(-1), self.scale / 2
        allowed = _INNER * self.scale * (np.sqrt(_diagonal(self.k, x)[:, 0]) + average)
        u, slack = np.zeros(len(t)), np.zeros(len(t))
        step = max(1, _BLOCK // y[0].size)
        for rows in (slice(i, i + step) for i in range(0, len(t), step)):
            some = x[0][rows], x[1][rows]
            values = self.k(some, y).reshape(-1, len(every), len(_T))
            gap = _missed(values) * mass
            near = (gap > allowed[rows, None]) | (own[rows, None] == every)
            far = np.where(near[..., None], 0.0, values[..., :16])
            u[rows] = far.reshape(len(far), -1) @ self.weighted.ravel()
            slack[rows] = np.where(near, 0.0, gap).sum(-1)
            close = self._close(some, own[rows], t[rows], near, allowed[rows])
            u[rows] += close[0]
            slack[rows] += close[1]
        return u, slack

    def _close(self, x: Points, own: Array, t: Array, near: Array, allowed: Array) -> tuple[Array, Array]:
        """What the ``near`` panels (m, panels) add to u: bisected, after a cut at x where x lies in one."""
        row, panel = np.nonzero(near)
        low, high = -np.ones(len(row)), np.ones(len(row))
        inside = own[row] == panel
        cut = np.where(inside, t[row], 1.0)
        row, panel = np.concatenate([row, row[inside]]), np.concatenate([panel, panel[inside]])
        low, high = np.concatenate([low, cut[inside]]), np.concatenate([cut, high[inside]])
        u, slack = np.zeros(len(t)), np.zeros(len(t))
        for level in range(_LEVELS):
            s = _part(low, high)
            values = self.k((x[0][row], x[1][row]), self.points(panel, s))
            w = self.weights(panel, s[:, :16], (high - low) / 2)
            gap = _missed(values) * np.abs(w).sum(-1)
            done = (gap <= allowed[row]) | (level == _LEVELS - 1)
            u += np.bincount(row[done], (values[:, :16] * w).sum(-1)[done], len(t))
            slack += np.bincount(row[done], gap[done], len(t))
            row, panel, low, high = _bisected(~done, row, panel, low, high)
            if not len(row):
                break
        return u, slack

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


def _field(lines: list[Line], found: Integral, k: Values, centre: float) -> tuple[_Field, float]:
    """p − q on the panels of `_measured`, halved until 16 coefficients give it, and what √k·(p + q) leaves out."""
    scale, left_out = _plain(found.value, found), _plain(found.error, found)
    panels, kept = found.panels, []
    for level in range(30):
        anchor, offset, log_jacobian = panels.at(_within(panels, _NODES))
        half = _halves(panels)[:, None]
        values = _signed(lines, anchor, offset, log_jacobian) * half
        both = np.exp(np.logaddexp.reduce([_log(law, anchor, offset) for law in lines]) + log_jacobian) * half
        root = np.sqrt(_diagonal(k, (anchor, offset - centre)))
        modes = values @ _TO_MODES
        rounded = 4e-16 * np.maximum(np.abs(panels.low), np.abs(panels.high)) / half[:, 0]
        least = rounded * (np.abs(modes) @ np.arange(16)) + 1e-15 * np.abs(modes).max(-1)
        rest = np.abs(modes[:, 14:]).sum(-1)
        done = (rest <= least) | (rest * root.max(-1) <= _INNER * scale) | (level == 29)
        kept.append((panels[done], modes[done], values[done] * _WEIGHTS, ((both * root) @ _WEIGHTS)[done]))
        left, right = (panels[~done]._replace(**{side: _middles(panels[~done])}) for side in ("high", "low"))
        panels = Charts(*(np.concatenate(pair) for pair in zip(left, right, strict=True)))
        if done.all():
            break
    columns = list(zip(*kept, strict=True))
    charts = Charts(*(np.concatenate(part) for part in zip(*columns[0], strict=True)))
    modes, weighted, density = (np.concatenate(part) for part in columns[1:])
    order = np.argsort(density)
    small = np.cumsum(density[order]) <= _DROPPED * scale
    left_out += float(density[order[small]].sum())
    keep = np.sort(order[~small])
    charts, plain = charts[keep], charts.kind[keep] == 0
    charts = charts._replace(
        start=np.where(plain, charts.start, charts.start - centre),
        low=np.where(plain, charts.low - centre, charts.low),
        high=np.where(plain, charts.high - centre, charts.high),
    )
    return _Field(k, charts, modes[keep].T, weighted[keep], density[keep], scale), left_out


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
    gap = np.abs((x[0] - y[0]) + (x[1] - y[1]))
    a, b = x[0] + x[1], y[0] + y[1]
    small, large = np.minimum(np.abs(a), np.abs(b)), np.maximum(np.abs(a), np.abs(b))
    with np.errstate(all="ignore"):
        ratio = np.where(large > 0, small / large, 0.0)
        far = -(large**order) * np.expm1(order * np.log1p(np.minimum(ratio, 0.5) * -np.sign(a) * np.sign(b)))
    return small**order + np.where(ratio < 0.5, far, large**order - gap**order)


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
    return np.nan_to_num(law.at(anchor, offset), nan=-math.inf, neginf=-math.inf, posinf=math.inf)


def _signed(lines: list[Line], anchor: Array, offset: Array, log_jacobian: Array) -> Array:
    """(p − q) dx/dτ."""
    parts = [np.exp(_log(law, anchor, offset) + log_jacobian) for law in lines]
    return parts[0] - parts[1] if len(parts) == 2 else parts[0]


def _middle(lines: list[Line]) -> float:
    return float(lines[0].marks[len(lines[0].marks) // 2])


def _plain(size: float, found: Integral) -> float:
    return size * math.exp(found.log_scale) if size else 0.0


def _missed(values: Array) -> Array:
    """How far the polynomial through the 16 nodes is from the values (..., 18) at the ends."""
    return np.abs(values[..., :16] @ _TO_ENDS - values[..., 16:]).max(-1)


def _halves(charts: Charts) -> Array:
    return (charts.high - charts.low) / 2


def _middles(charts: Charts) -> Array:
    return (charts.high + charts.low) / 2


def _within(charts: Charts, t: Array) -> Array:
    """τ of t in [−1, 1], one row or one for each chart."""
    return _middles(charts)[:, None] + _halves(charts)[:, None] * t


def _part(low: Array, high: Array) -> Array:
    return ((low + high) / 2)[:, None] + ((high - low) / 2)[:, None] * _T


def _bisected(rest: Array, *columns: Array) -> tuple[Array, ...]:
    """Both halves of the intervals that are left, the last two columns."""
    *others, low, high = (column[rest] for column in columns)
    middle = (low + high) / 2
    pairs = [(other, other) for other in others] + [(low, middle), (middle, high)]
    return tuple(np.concatenate(pair) for pair in pairs)
