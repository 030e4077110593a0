"""What two samples leave open: where one has points and the other may have no mass, and what neither has seen."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from estimators.ratio.cross_fitting import CrossFit, Problem, Sides
from estimators.ratio.one_step import OneStep, kurtosis, one_step, terms, weighted_mean
from estimators.repeats import atoms, copies

if TYPE_CHECKING:
    from collections.abc import Callable

    import divergences as dv
    from estimators.ratio.models import Array

SCARCE = 0.25  # m^(−¼) is the effective share of m points below which their mean is not near normal: with log-normal
# weights of variance σ² the skewness of the mean is then about ½ at m = 10³ and ⅓ at 10⁴
BEYOND = 2.0  # share of one side's points beyond all m of the other's, times √m: where r is log-normal it is about 0.5
FAR = 1.5  # half-ranges of one side's coordinate from its middle, past which the other side's points are far from it
MISSED = 3.0  # points that a side has by chance not seen at all with a probability of 5%
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
    share = _mass(alone, alone_weights)
    if share * math.sqrt(len(shares)) > BEYOND:
        why.append(
            f"{share:.0%} of {one} lies where the fitted ratio finds no {other}: the divergence may be far larger, or "
            "infinite"
        )
    part = effective(shares, shares) / len(shares) if shares.any() else 1.0
    if part < len(shares) ** -SCARCE:
        why.append(
            f"effective sample size of the density ratio on {other}: {part:.1%} of its points; a few points carry "
            "the mean, and the divergence may be far larger"
        )
    return why


def unsupported(d: dv.FDivergence, found: CrossFit, s: Problem) -> tuple[str, ...]:
    """Why nothing bounds an unbounded D from above: a side has points where the other may have no mass at all."""
    out, seen = found.held_out, found.in_sample
    why = []
    # A far point has a large ratio only in a model that has seen it, and then held out it shows none: either will do.
    if math.isinf(d.slope_at_infinity):
        why += _beyond(Sides(np.maximum(out.x, seen.x), out.y), s, ("x", "y"))
    if math.isinf(d.f_at_zero):
        why += _beyond(Sides(np.maximum(-out.y, -seen.y), -out.x), s.exchanged(), ("y", "x"))
    return tuple(why)


def _beyond(g: Sides, s: Problem, names: tuple[str, str]) -> list[str]:
    """Where the first side is and the second may not be: its values, places, or an end of the second's density.

    ``g`` are log ratios of the first over the second. A density that falls smoothly is followed beyond its last point;
    that is no more than a guess where the points lie far beyond, where values are atoms, and where it did not fall. The
    first side's mass there, times the number of the second's points, is how many of these would be expected at p = q.
    """
    one, other = names
    if atoms(s.x, s.y):
        row = copies(s.x, s.y)
        only = _mass(~np.isin(row[: len(s.x)], row[len(s.x) :]), s.x_weights)
        if only * effective(s.y, s.y_weights) < MISSED:
            return []
        return [f"{only:.2g} of {one} has values that {other} never has: the divergence may be infinite"]
    beyond = g.x > max(g.y.max(), 0.0)
    far = beyond & (_half_ranges(s.x, s.y) > FAR)
    if _mass(far, s.x_weights) * effective(s.y, s.y_weights) >= MISSED:
        return [f"{int(far.sum())} of {one} far from all of {other}: the divergence may be far larger, or infinite"]
    if _expected_beyond(g, s) > MISSED:
        return [
            f"{int(beyond.sum())} of {one} lie where {other} stops without having thinned out: the divergence may be "
            "far larger, or infinite"
        ]
    return []


def _mass(which: NDArray[Any], weights: Array | None) -> float:
    return float(np.average(which, weights=weights))


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

    def others(low: float, high: float) -> tuple[Array, float]:  # points with low ≤ ratio < high, and for each of ours
        held = wy[(low <= g.y) & (g.y < high)]
        own = float(wx[(low <= g.x) & (g.x < high)].sum())
        return held, float(held.sum()) / own if own > 0 else 0.0

    (held, near), (_, next_) = others(second, top), others(third, second)
    if near == 0:
        return 0.0
    sure = max(1 - math.sqrt(float(np.square(held).sum())) / float(held.sum()), 0.0)
    known = effective(s.y, s.y_weights) / len(s.y)  # of weighted points as many as there are in effect
    return known * sure * k * near * (near / next_ if next_ > near else 1.0)


def _half_ranges(points: Array, other: Array) -> Array:
    """How far points lie from the middle of the other side, in half-ranges of its coordinates; the largest of them.

    A coordinate without a range has the rounding of its values for one.
    """
    low, high = other.min(0), other.max(0)
    half = np.maximum((high - low) / 2, 1e-9 * np.maximum(np.abs(low), np.abs(high)) + 1e-300)
    return np.asarray((np.abs(points - (low + high) / 2) / half).max(1))


def extrapolated(d: dv.FDivergence, g: Sides, s: Problem) -> float:
    """How much larger an unbounded D may be by points whose ratio is beyond all of the other sample's.

    Nothing there bounds the ratio from above. Allowed for is a log ratio that is half as large again, and of points
    that lie far one that grows with the square of their distance, as that of a normal law does.
    """
    part = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        if math.isinf(d.slope_at_infinity):
            beyond = g.x > max(g.y.max(), 0.0)
            more = terms(d, g.x * _allowed(_half_ranges(s.x, s.y)), g.y)[0] - terms(d, g.x, g.y)[0]
            part += weighted_mean(np.where(beyond, more, 0.0), s.x_weights)[0]
        if math.isinf(d.f_at_zero):
            beyond = g.y < min(g.x.min(), 0.0)
            more = terms(d, g.x, g.y)[1] - terms(d, g.x, g.y * _allowed(_half_ranges(s.y, s.x)))[1]
            part += weighted_mean(np.where(beyond, more, 0.0), s.y_weights)[0]
    return part


def _allowed(half_ranges: Array) -> Array:
    return np.where(half_ranges > FAR, 1 + np.square(half_ranges), 1.5)


def unseen(d: dv.FDivergence, found: OneStep, s: Problem) -> tuple[float, float]:
    """How far below and above the limits D may be by kinds of points that were not seen.

    A kind that is absent from n points has a mass of at most 3/n (with 95% confidence). Where D is bounded it matters
    where almost all terms are alike, and then on both sides. Where D is not, a tail that was not seen adds to it by its
    log ratio, of which nothing is known; it is taken as the largest that a lower bound would count.
    """
    mass = MISSED / effective(s.x, s.x_weights), MISSED / effective(s.y, s.y_weights)
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
    bottom, top = -math.inf, math.inf
    if math.isinf(d.slope_at_infinity):
        top = _limit(lambda v: terms(d, v, v)[1], effective(s.y, s.y_weights))
    if math.isinf(d.f_at_zero):
        bottom = -_limit(lambda v: -terms(d, -v, v)[0], effective(s.x, s.x_weights))
    return bottom, top


def _limit(term: Callable[[Array], Array], points: float) -> float:
    """The log ratio up to which an increasing term has risen by √points at the most, in units in which KL's is e^v.

    The unit is that of its rise to a ratio of 2, or of the first power of 2 to which it rises.
    """
    doubled = np.linspace(math.log(2), 29 * math.log(2), 29)
    rises = term(doubled) - term(np.zeros(1))
    first = int((rises > 0).argmax())
    unit = rises[first] / math.expm1(doubled[first])
    v = np.linspace(0.0, 20.0, 2001)
    return float(v[max(int(np.searchsorted(term(v) - term(v[:1]), unit * math.sqrt(points))) - 1, 0)])


def effective(points: Array, weights: Array | None) -> float:
    """How many equally weighted points the weights come to, (Σw)²/Σw²."""
    return float(len(points) if weights is None else weights.sum() ** 2 / np.square(weights).sum())
