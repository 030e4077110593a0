"""Distances on the line from distribution functions and quantiles: W_p, the energy distance, Kolmogorov–Smirnov.

Either law may be a weighted sample, whose distribution function is a staircase.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from divergences.cumulative import with_distribution
from divergences.laws import ConvergenceError, Empirical
from divergences.line import Line
from divergences.pieces import TOLERANCE, Array, Pieces, integrate, towards_zero

Law = Line | Empirical
_CELLS = 500_000


def wasserstein(p: Law, q: Law, order: float) -> Tensor:
    """W_p: ∫|F − G| for p = 1, else from quantiles; inf where the integral diverges, as without a p-th moment."""
    if isinstance(p, Empirical):
        p, q = q, p
    assert isinstance(p, Line)  # two samples are a finite problem
    refuse_gradient(p, q)
    _complete(p, q)
    if isinstance(q, Empirical):
        return _to_points(p, q, order)
    if order == 1:
        difference = _difference(p, q)
        return _settled(Pieces(p, q), lambda anchor, offset: np.abs(difference(anchor + offset)))
    total = 0.0
    for one, other in ((p.ppf, q.ppf), (p.isf, q.isf)):

        def power(_: Array, u: Array, one: Any = one, other: Any = other) -> tuple[Array, Array]:
            gap = np.abs(one(u) - other(u))  # some quantiles leave floating point before u does
            known = np.isfinite(gap) & (u >= max(p.least_level, q.least_level))
            return order * np.log(np.where(known, gap, math.nan)), np.ones_like(u)

        found = integrate(power, towards_zero(0.5))
        if found is None:
            return torch.tensor(math.inf, dtype=torch.float64)
        total += found.settled()
    return torch.tensor(total ** (1 / order), dtype=torch.float64)


def _to_points(p: Line, q: Empirical, order: float) -> Tensor:
    """W_p of a law and points: the point in order i takes the mass of P between its cumulative weights."""
    x, levels = _staircase(q)
    assert p.ppf is not None and p.isf is not None  # `_complete` has seen it
    starts = p.ppf(levels[:-1])  # below ½ from one side, above from the other, where it has digits
    starts = np.where(levels[:-1] > 0.5, p.isf(1 - levels[:-1]), starts)

    def power(anchor: Array, offset: Array) -> tuple[Array, Array]:
        y = anchor + offset
        to = x[np.searchsorted(starts, y, side="right")]
        return order * np.log(np.abs(to - y)) + p.at(anchor, offset), np.ones_like(y)

    inside = [cut for cut in np.concatenate([starts, x]) if p.support[0] < cut < p.support[1]]
    found = Pieces(p, cuts=np.asarray(inside)).integrate(power)
    return torch.tensor(math.inf if found is None else found.settled() ** (1 / order), dtype=torch.float64)


def squared_energy(p: Law, q: Law) -> Tensor:
    """2∫(F − G)² (Székely, Rizzo 2005)."""
    refuse_gradient(p, q)
    _complete(p, q)
    difference = _difference(p, q)
    lines = [law for law in (p, q) if isinstance(law, Line)]
    points = [_staircase(law)[0] for law in (p, q) if isinstance(law, Empirical)]
    pieces = Pieces(*lines, cuts=np.concatenate(points) if points else None)
    return _settled(pieces, lambda anchor, offset: 2 * difference(anchor + offset) ** 2)


def largest_cdf_gap(p: Law, q: Law) -> Tensor:
    """Return sup |F − G|, on either side of every point, to 1e-8.

    Between two laws with a density a cell [a, b] holds at most max(|D(a)|, |D(b)|) + min(F(b) − F(a), G(b) − G(a)),
    D = F − G. Cells that may hold more than what is found are halved.

    Raises:
        ConvergenceError: the bound stays more than 1e-8 above what is found.
    """
    refuse_gradient(p, q)
    if isinstance(p, Empirical):
        p, q = q, p
    assert isinstance(p, Line)
    _complete(p, q)
    F, _ = _functions(p)
    if isinstance(q, Empirical):
        x, levels = _staircase(q)
        gap = np.maximum(np.abs(F(x) - levels), np.abs(F(x) - np.concatenate([[0.0], levels[:-1]])))
        return torch.tensor(float(gap.max()), dtype=torch.float64)
    G, _ = _functions(q)
    difference, x = _difference(p, q), Pieces(p, q).cuts
    a, b, best = x[:-1], x[1:], float(np.nanmax(np.abs(difference(x))))
    for _ in range(60):
        ends = np.fmax(np.abs(difference(a)), np.abs(difference(b)))
        ends = np.nan_to_num(ends)  # both below their rounding
        open_ = ends + np.minimum(F(b) - F(a), G(b) - G(a)) > best + TOLERANCE
        a, b = a[open_], b[open_]
        if not len(a):
            return torch.tensor(best, dtype=torch.float64)
        middle = a + (b - a) / 2
        best = max(best, float(np.nanmax(np.abs(difference(middle)), initial=0.0)))
        a, b = np.concatenate([a, middle]), np.concatenate([middle, b])
        if len(a) > _CELLS:
            break
    raise ConvergenceError(f"sup |F − G| is at least {best:.9g}, and its bound is more than {TOLERANCE:g} above")


def _staircase(law: Empirical) -> tuple[Array, Array]:
    """Points in order, and the distribution function at each."""
    x, order = law.points[:, 0].detach().double().sort()
    levels = law.weights.detach().double()[order].cumsum(0).numpy()
    return x.numpy(), levels / levels[-1]


def _difference(p: Law, q: Law) -> Callable[[Array], Array]:
    """F − G, from survival functions in the upper half, where 1 − F has digits that F has not."""
    (F, F_bar), (G, G_bar) = _functions(p), _functions(q)

    def difference(x: Array) -> Array:
        gap = np.where(F(x) + G(x) > 1, G_bar(x) - F_bar(x), F(x) - G(x))
        return np.where((gap != 0) & (np.abs(gap) < rounding), beyond, gap)

    lines = [law for law in (p, q) if isinstance(law, Line)]
    rounding = max(law.rounding for law in lines)
    beyond = math.nan if any(law.is_heavy for law in lines) else 0.0  # light tails hold nothing there
    return difference


def _functions(law: Law) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    if isinstance(law, Line):
        assert law.cdf is not None and law.sf is not None  # `_complete` has seen it
        return law.cdf, law.sf
    x, levels = _staircase(law)
    steps = np.concatenate([[0.0], levels])

    def cdf(at: Array) -> Array:
        return steps[np.searchsorted(x, at, side="right")]

    return cdf, lambda at: 1 - cdf(at)


def _settled(pieces: Pieces, gap: Callable[[Array, Array], Array]) -> Tensor:
    def size(anchor: Array, offset: Array) -> tuple[Array, Array]:
        value = gap(anchor, offset)
        return np.log(value), np.ones_like(value)

    found = pieces.integrate(size)
    return torch.tensor(math.inf if found is None else found.settled(), dtype=torch.float64)


def _complete(*laws: Law) -> None:
    for law in laws:
        if isinstance(law, Line):
            with_distribution(law)


def refuse_gradient(*laws: Law) -> None:
    """Raise NotImplementedError where a parameter waits for a gradient that distribution functions do not give."""
    for law in laws:
        if isinstance(law, Line) and law.needs_gradient:
            raise NotImplementedError(
                f"distribution functions give no gradient in the parameters of {law.name}: detach them, or call under "
                "torch.no_grad()"
            )
        waits = isinstance(law, Empirical) and (law.points.requires_grad or law.weights.requires_grad)
        if waits and torch.is_grad_enabled():
            raise NotImplementedError("points against a density have no gradient here: detach them")
