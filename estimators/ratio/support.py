"""What two samples leave open: where one has points and the other may have no mass, and what neither has seen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from estimators.ratio.cross_fitting import CrossFit, Problem, Sides
from estimators.ratio.one_step import OneStep, kurtosis, one_step, terms, weighted_mean
from estimators.ratio.repeats import atoms, copies

if TYPE_CHECKING:
    from collections.abc import Callable

    import divergences as dv
    from estimators.ratio.models import Array

SCARCE = 0.25  # m^(−¼) is the effective share of m points below which their mean is not near normal: with log-normal
# weights of variance σ² the skewness of the mean is then about ½ at m = 10³ and ⅓ at 10⁴
BEYOND = 2.0  # share of one side's points beyond all m of the other's, times √m: where r is log-normal it is about 0.5
FAR = 1.5  # half-ranges of one side's coordinate from its middle, past which the other side's points are far from it
SEVERAL = 3  # points that lie far: no stray ones any more
JUMP = 3.0  # points that a side would have beyond its last one, did its density go on as it fell: none comes by 5%
FEW = 10  # points, by their share of the variance, below which others of their kind may be missing altogether


def doubts(d: dv.FDivergence, g: Sides, s: Problem) -> tuple[str, ...]:
    """Why a two-sided interval would be a pretence: too few points carry a mean, or a side has no overlap."""
    found, why = one_step(d, g, s), []
    if found.stderr == 0 and math.isinf(d.upper_bound):
        why.append("all points have one ratio: points of other kinds were not seen, and could make it far larger")
    if math.isinf(d.slope_at_infinity):
        why += _one_sided(found.b - found.b.min(), s.y_weights, g.x > g.y.max(), s.x_weights, ("x", "y"))
    if math.isinf(d.f_at_zero):
        why += _one_sided(found.a.max() - found.a, s.x_weights, g.y < g.x.min(), s.y_weights, ("y", "x"))
    return tuple(why)


def _one_sided(
    shares: Array, weights: Array | None, alone: Array, alone_weights: Array | None, names: tuple[str, str]
) -> list[str]:
    one, other = names
    why, shares = [], shares if weights is None else shares * weights
    share = weighted_mean(alone.astype(float), alone_weights)[0]
    if share * math.sqrt(len(shares)) > BEYOND:
        why.append(
            f"{share:.0%} of {one} lies where the fitted ratio finds no {other}: the divergence may be far larger, or "
            "infinite"
        )
    total = shares.sum()
    effective = float(total**2 / np.square(shares).sum() / len(shares)) if total > 0 else 1.0
    if effective < len(shares) ** -SCARCE:
        why.append(
            f"effective sample size of the density ratio on {other}: {effective:.1%} of its points; a few points carry "
            "the mean, and the divergence may be far larger"
        )
    return why


def unsupported(d: dv.FDivergence, found: CrossFit, s: Problem) -> tuple[str, ...]:
    """Why nothing bounds an unbounded D from above: a side has points where the other may have no mass at all."""
    out, seen = found.held_out, found.in_sample
    why = []
    if math.isinf(d.slope_at_infinity):
        g = Sides(np.maximum(out.x, seen.x), out.y)
        why += _reached(g, s, ("x", "y"))
    if math.isinf(d.f_at_zero):
        g = Sides(np.maximum(-out.y, -seen.y), -out.x)
        why += _reached(g, Problem(s.y, s.x, s.y_weights, s.x_weights), ("y", "x"))
    return tuple(why)


def _reached(g: Sides, s: Problem, names: tuple[str, str]) -> list[str]:
    """The reasons for one side: values, places, or a jump of the density, that the other side does not reach.

    ``g`` are log ratios of this side over the other. Between points that lie close together a density that falls
    smoothly is followed beyond its last point; that is no more than a guess where the points lie far beyond, where
    values are atoms, and where the density did not fall before it ended.
    """
    one, other = names
    if atoms(s.x, s.y):
        row = copies(s.x, s.y)
        only = float((~np.isin(row[: len(s.x)], row[len(s.x) :])).mean())
        return (
            [f"{only:.2g} of {one} has values that {other} never has: the divergence may be infinite"] if only else []
        )
    beyond = g.x > max(g.y.max(), 0.0)
    far = beyond & (_half_ranges(s.x, s.y) > FAR)
    if far.sum() >= SEVERAL:
        return [f"{int(far.sum())} of {one} far from all of {other}: the divergence may be far larger, or infinite"]
    if _expected_beyond(g, s) > JUMP:
        return [
            f"{int(beyond.sum())} of {one} lie where {other} ends without having thinned out: the divergence may be "
            "far larger, or infinite"
        ]
    return []


def _expected_beyond(g: Sides, s: Problem) -> float:
    """How many of the other side's points would lie beyond its last one by the log ratio, had its density gone on.

    With k points of this side beyond, the next k and the k after them, by falling ratio, hold c₁ and c₂ points of the
    other, its last one not counted; if they go on in that proportion, c₁·c₁/c₂ lie among the first k, or at most c₁.
    Of c₁ its standard error √c₁ is taken off.
    """
    wx, wy = (np.ones(len(v)) if w is None else w for v, w in ((g.x, s.x_weights), (g.y, s.y_weights)))
    top = max(float(g.y.max()), 0.0)
    k = float(wx[g.x > top].sum())
    if k == 0:
        return 0.0
    falling = np.argsort(-g.x, kind="stable")
    edges = np.searchsorted(np.cumsum(wx[falling]), [2 * k, 3 * k]).clip(max=len(falling) - 1)
    second, third = g.x[falling][edges]

    def others(low: float, high: float) -> tuple[float, float]:  # points with low ≤ ratio < high, and for each of ours
        held = float(wy[(low <= g.y) & (g.y < high)].sum())
        own = float(wx[(low <= g.x) & (g.x < high)].sum())
        return held, held / own if own > 0 else 0.0

    (held, near), (_, next_) = others(second, top), others(third, second)
    sure = max(held - math.sqrt(held), 0.0) / held if held > 0 else 0.0
    return sure * k * near * (near / next_ if next_ > near else 1.0)


def _half_ranges(points: Array, other: Array) -> Array:
    """How far points lie from the middle of the other side, in half-ranges of its coordinates; the largest of them."""
    low, high = other.min(0), other.max(0)
    away = np.abs(points - (low + high) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.nan_to_num(away / ((high - low) / 2), nan=0.0, posinf=math.inf).max(1))


def extrapolated(d: dv.FDivergence, g: Sides, s: Problem) -> float:
    """How much larger an unbounded D may be by points whose ratio is beyond all of the other sample's.

    Nothing there bounds the ratio from above. Half of their part of D allows for a log ratio that is half as large
    again; for points that lie far, by the square of their distance, for one that grows as that of a normal law does.
    The part is relative to p = q, where the terms are f'(1) and f*(f'(1)).
    """
    (a, b), (a_1, b_1) = terms(d, g.x, g.y), terms(d, np.zeros(1), np.zeros(1))
    part = 0.0
    if math.isinf(d.slope_at_infinity):
        more = (a - a_1) * (g.x > max(g.y.max(), 0.0)) * _allowed(_half_ranges(s.x, s.y))
        part += weighted_mean(more, s.x_weights)[0]
    if math.isinf(d.f_at_zero):
        more = (b_1 - b) * (g.y < min(g.x.min(), 0.0)) * _allowed(_half_ranges(s.y, s.x))
        part += weighted_mean(more, s.y_weights)[0]
    return part


def _allowed(half_ranges: Array) -> Array:
    return np.where(half_ranges > FAR, np.square(half_ranges), 0.5)


def unseen(d: dv.FDivergence, found: OneStep, s: Problem) -> tuple[float, float]:
    """How far below and above the limits D may be by kinds of points that were not seen.

    A kind that is absent from n points has a mass of at most 3/n (with 95% confidence). Where D is bounded it matters
    where almost all terms are alike, and then on both sides. Where D is not, a tail that was not seen adds to it by its
    log ratio, of which nothing is known; it is taken as the largest that a lower bound would count.
    """
    mass = [3 / (len(g) if w is None else w.sum() ** 2 / np.square(w).sum())
            for g, w in ((found.a, s.x_weights), (found.b, s.y_weights))]  # fmt: skip
    if math.isfinite(d.upper_bound):
        extra = 0.0
        for v, w, share in ((found.a, s.x_weights, mass[0]), (found.b, s.y_weights, mass[1])):
            if np.ptp(v) == 0 or len(v) < FEW * kurtosis(v, w):
                extra += share * float(max(abs(d.upper_bound), np.ptp(v)))
        return extra, extra
    bottom, top = certain(d, s)
    at = np.nan_to_num([[0.0, top], [0.0, bottom]], posinf=0.0, neginf=0.0)  # a side without a limit adds nothing
    a, b = terms(d, *at)
    return 0.0, mass[0] * float(a[1] - a[0]) + mass[1] * float(b[0] - b[1])


def certain(d: dv.FDivergence, s: Problem) -> tuple[float, float]:
    """The log ratios between which the terms of J are bounded by the roots of the numbers of points."""
    top = _limit(lambda v: terms(d, v, v)[1], len(s.y)) if math.isinf(d.slope_at_infinity) else math.inf
    bottom = -_limit(lambda v: -terms(d, -v, v)[0], len(s.x)) if math.isinf(d.f_at_zero) else -math.inf
    return bottom, top


def _limit(term: Callable[[Array], Array], points: int) -> float:
    """The log ratio up to which an increasing term has risen by √points at the most, in units in which KL's is e^v."""
    v = np.linspace(0, 20, 2001)
    rise = term(v) - term(v[:1])
    unit = rise[1] / math.expm1(v[1])
    return float(v[max(int(np.searchsorted(rise, unit * math.sqrt(points))) - 1, 0)])
