"""Cross-fitting of a log ratio, and the one-step value of any f-divergence with its influence-function interval.

With g an estimate of log p/q, a = f'(e^g) and b = f*(a), the one-step value

    J(g) = E_P a − E_Q b ≤ D_f(P‖Q)

is tight at g = log p/q and errs by the square of the error of g. On points that g was not trained on it falls short of
D, on its training points it exceeds it, and for a likelihood model by the same amount to first order.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from estimators.base import Inference
from estimators.intervals import half_width
from estimators.ratio.repeats import TIES, copies, strays

if TYPE_CHECKING:
    from collections.abc import Callable

    import divergences as dv
    from estimators.ratio.models import Array, LogRatio, RatioModel

FOLDS = 5
SCARCE = 0.25  # m^(−¼) is the effective share of m points below which their mean is not near normal: with log-normal
# weights of variance σ² the skewness of the mean is then about ½ at m = 10³ and ⅓ at 10⁴
BEYOND = 2.0  # share of one side's points beyond all m of the other's, times √m: where r is log-normal it is about 0.5
FEW = 10  # points, by their share of the variance, below which others of their kind may be missing altogether
OPTIMISM = 1.0  # largest part of the interval, over its normal half-width, that an error of the ratio may take


class Sides(NamedTuple):
    """One number for each point of x and of y."""

    x: NDArray[Any]
    y: NDArray[Any]


class Problem(NamedTuple):
    """Two samples, and weights that sum to the number of points, or None."""

    x: Array
    y: Array
    x_weights: Array | None
    y_weights: Array | None

    def rows(self, x: Array, y: Array) -> Problem:
        """The chosen rows."""
        wx, wy = self.x_weights, self.y_weights
        return Problem(self.x[x], self.y[y], None if wx is None else wx[x], None if wy is None else wy[y])


class CrossFit(NamedTuple):
    """Log ratios at every point by a model that has not seen it, and by one that has seen all."""

    held_out: Sides
    in_sample: Sides


def folds(s: Problem, generator: torch.Generator) -> Sides:
    """A fold 0 … 4 for every point of both samples, equal in size to one point, at random; copies share theirs."""

    def drawn(k: int) -> Array:
        return (torch.arange(k) % FOLDS)[torch.randperm(k, generator=generator)].numpy()

    if strays(s.x, s.y) <= TIES:
        return Sides(drawn(len(s.x)), drawn(len(s.y)))
    row = copies(s.x, s.y)
    fold = drawn(int(row.max()) + 1)[row]
    return Sides(fold[: len(s.x)], fold[len(s.x) :])


def fitted(model: RatioModel, seen: Problem) -> LogRatio:
    """The log ratio, kept within the range that it takes on the points it was trained on."""
    g = model.fit(seen.x, seen.y, seen.x_weights, seen.y_weights)
    inside = np.concatenate([g(seen.x), g(seen.y)])
    inside = inside[np.isfinite(inside)]
    if not len(inside):
        raise ValueError(f"the model {model.name!r} gave no finite ratio on the points it was trained on")
    low, high = float(inside.min()), float(inside.max())
    return lambda points: np.nan_to_num(g(points), nan=0.0, posinf=high, neginf=low).clip(low, high)


def held_out_rows(fold: Sides, k: int) -> Sides:
    """The points of fold ``k``, as masks of both sides."""
    return Sides(fold.x == k, fold.y == k)


def cross_fit(model: RatioModel, s: Problem, fold: Sides) -> Sides:
    """The log ratios at every point by the model fitted to the other folds."""
    found = Sides(np.empty(len(s.x)), np.empty(len(s.y)))
    for k in tqdm(range(FOLDS), desc=f"density ratio, {model.name}", delay=2, leave=False):
        out = held_out_rows(fold, k)
        g = fitted(model, s.rows(~out.x, ~out.y))
        found.x[out.x], found.y[out.y] = g(s.x[out.x]), g(s.y[out.y])
    return found


def evaluated(model: RatioModel, s: Problem) -> Sides:
    """The log ratios of a model at the points that it was fitted to."""
    g = fitted(model, s)
    return Sides(g(s.x), g(s.y))


class OneStep(NamedTuple):
    """J(g), its standard error, and the terms a on x and b on y that it is the difference of means of.

    ``degrees`` of freedom say how well the error itself is known (Satterthwaite, with the kurtosis of the terms);
    ``skewness`` is that of the value.
    """

    value: float
    stderr: float
    degrees: float
    skewness: float
    a: Array
    b: Array


def one_step(d: dv.FDivergence, g: Sides, s: Problem) -> OneStep:
    """E_P f'(e^g) − E_Q f*(f'(e^g)); its influence function is a − E_P a on P and E_Q b − b on Q."""
    a, b = terms(d, g.x, g.y)
    (ma, va), (mb, vb) = weighted_mean(a, s.x_weights), weighted_mean(b, s.y_weights)
    unknown = va**2 * (_kurtosis(a) - 1) / len(a) + vb**2 * (_kurtosis(b) - 1) / len(b)
    degrees = 2 * (va + vb) ** 2 / unknown if unknown > 0 else math.inf
    third = _third(a - ma, s.x_weights) - _third(b - mb, s.y_weights)
    skewness = third / (va + vb) ** 1.5 if va + vb > 0 else 0.0
    return OneStep(ma - mb, math.sqrt(va + vb), degrees, skewness, a, b)


def _third(v: Array, weights: Array | None) -> float:
    """The third cumulant of a weighted mean."""
    w = 1.0 if weights is None else weights * len(v) / weights.sum()
    return float(np.power(w * v, 3).sum() / len(v) ** 3)


def _halves(found: OneStep, confidence: float) -> tuple[float, float]:
    """How far the limits are below and above the value: t·stderr, and more on the side that the value leans to.

    Johnson 1978: the limits of a skewed mean move by stderr·skewness·(1 + 2z²)/6; here they only move out.
    """
    half = half_width(found.stderr, confidence, found.degrees)
    move = found.stderr * found.skewness * (1 + 2 * half_width(1.0, confidence) ** 2) / 6
    return half + max(-move, 0.0), half + max(move, 0.0)


def _kurtosis(v: Array) -> float:
    squares = np.square(v - v.mean())
    return float(np.square(squares).mean() / squares.mean() ** 2) if squares.any() else 1.0


def terms(d: dv.FDivergence, at_x: Array, at_y: Array) -> tuple[Array, Array]:
    """f'(e^g) at the log ratios of x and f*(f'(e^g)) at those of y, composed stably."""
    a, b = d._slopes(torch.from_numpy(at_x))[0], d._slopes(torch.from_numpy(at_y))[1]
    return a.numpy(), b.numpy()


def _limit(term: Callable[[Array], Array], points: int) -> float:
    """The log ratio up to which an increasing term has risen by √points at the most, in units in which KL's is e^v."""
    v = np.linspace(0, 20, 2001)
    rise = term(v) - term(v[:1])
    unit = rise[1] / math.expm1(v[1])
    return float(v[max(int(np.searchsorted(rise, unit * math.sqrt(points))) - 1, 0)])


def weighted_mean(v: Array, weights: Array | None) -> tuple[float, float]:
    """The mean and its variance."""
    if weights is None:
        return float(v.mean()), float(v.var(ddof=1) / len(v))
    w = weights / weights.sum()
    mean = float(w @ v)
    return mean, float(np.square(w * (v - mean)).sum() / max(1 - np.square(w).sum(), 1e-12))


def two_sided(
    d: dv.FDivergence, found: CrossFit, rivals: tuple[CrossFit, ...], s: Problem, confidence: float
) -> Inference:
    """The value and its interval, or only a lower bound where the ratio is not known well enough for more.

    The value is the mean of the cross-fitted and the in-sample one-step values; the interval is the normal limit on
    either side of it, widened by half their difference, above by what comes from ratios beyond the other sample, and
    above by what the rival that finds most finds more: every model falls short of D by what it cannot express, which
    is no part of that difference, and a rival that the evidence does not refute may express it.
    """
    if _doubts(d, found.held_out, s):
        return lower_bound(d, found.held_out, s, confidence)
    out, inside = one_step(d, found.held_out, s), one_step(d, found.in_sample, s)
    below, above = (part + _unseen(d, out) for part in _halves(out, confidence))
    half = (below + above) / 2
    gap, beyond = abs(inside.value - out.value) / 2, _extrapolated(d, found.held_out)
    value = (out.value + inside.value) / 2
    more = max([sum(one_step(d, g, s).value for g in rival) / 2 - value for rival in rivals] + [0.0])
    if max(gap, beyond, more) > OPTIMISM * half:
        error = gap + beyond + more
        why = f"the error of the fitted ratio, {error:.2g}, is not small against the sampling error {half:.2g}"
        return lower_bound(d, found.held_out, s, confidence, (why,))
    low, high = _clipped(d, value - below - gap, value + above + gap + beyond + more)
    note = f"interval: normal limit of the one-step value, widened by {gap:.2g} for the error of the fitted ratio"
    if beyond:
        note += f", above by {beyond:.2g} for what lies where the other sample has no points"
    if more:
        note += f", above by {more:.2g} that other models find, which the evidence does not refute"
    return Inference(value, out.stderr, (low, high), (note,))


def lower_bound(d: dv.FDivergence, g: Sides, s: Problem, confidence: float, why: tuple[str, ...] = ()) -> Inference:
    """The one-step value of a clipped ratio, a lower bound in expectation, with a one-sided normal limit.

    Where a term of J has no limit the ratio is clipped where that term is the root of the number of its points.
    """
    top = _limit(lambda v: terms(d, v, v)[1], len(s.y)) if math.isinf(d.slope_at_infinity) else math.inf
    bottom = -_limit(lambda v: -terms(d, -v, v)[0], len(s.x)) if math.isinf(d.f_at_zero) else -math.inf
    clipped = Sides(g.x.clip(bottom, top), g.y.clip(bottom, top))
    found = one_step(d, clipped, s)
    low = found.value - _halves(found, 2 * confidence - 1)[0] - _unseen(d, found)
    why += _doubts(d, g, s)
    notes = (*why, f"no upper limit: the value is a lower bound, with a one-sided {100 * confidence:g}% limit")
    return Inference(found.value, found.stderr, _clipped(d, low, math.inf), notes, "lower")


def _doubts(d: dv.FDivergence, g: Sides, s: Problem) -> tuple[str, ...]:
    """Why a two-sided interval would be a pretence: too few points carry a mean, or a side has no overlap."""
    found, why = one_step(d, g, s), []
    if found.stderr == 0 and math.isinf(d.upper_bound):
        why.append("all points have one ratio: points of other kinds were not seen, and could make it far larger")
    if math.isinf(d.slope_at_infinity):
        why += _one_sided(found.b - found.b.min(), s.y_weights, g.x > g.y.max(), ("x", "y"))
    if math.isinf(d.f_at_zero):
        why += _one_sided(found.a.max() - found.a, s.x_weights, g.y < g.x.min(), ("y", "x"))
    return tuple(why)


def _one_sided(shares: Array, weights: Array | None, alone: Array, names: tuple[str, str]) -> list[str]:
    one, other = names
    why, shares = [], shares if weights is None else shares * weights
    share = float(alone.mean())
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


def _extrapolated(d: dv.FDivergence, g: Sides) -> float:
    """Half the part of an unbounded D that comes from points whose ratio is beyond all of the other sample's.

    Nothing there bounds the ratio from above; half allows for a log ratio that is half as large again. The part is
    relative to p = q, where the terms are f'(1) and f*(f'(1)).
    """
    (a, b), (a_1, b_1) = terms(d, g.x, g.y), terms(d, np.zeros(1), np.zeros(1))
    part = 0.0
    if math.isinf(d.slope_at_infinity):
        part += float(np.mean((a - a_1) * (g.x > max(g.y.max(), 0.0))))
    if math.isinf(d.f_at_zero):
        part += float(np.mean((b_1 - b) * (g.y < min(g.x.min(), 0.0))))
    return part / 2


def _unseen(d: dv.FDivergence, found: OneStep) -> float:
    """What kinds of points that were not seen could take away, where almost all terms of a bounded D are alike.

    A kind that is absent from n points has a mass of at most 3/n (with 95% confidence).
    """
    if not math.isfinite(d.upper_bound):
        return 0.0
    extra = 0.0
    for v in (found.a, found.b):
        if np.ptp(v) == 0 or len(v) < FEW * _kurtosis(v):
            extra += 3 / len(v) * float(max(abs(d.upper_bound), np.ptp(v)))
    return extra


def _clipped(d: dv.FDivergence, low: float, high: float) -> tuple[float, float]:
    """The limits within the values that D can take."""
    least, most = float(d.f(1.0)), float(d.upper_bound)
    return min(max(low, least), most), max(min(high, most), least)
