"""The value and the limits of an f-divergence from cross-fitted log ratios."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from estimators.base import Inference
from estimators.ratio.cross_fitting import CrossFit, Problem, Sides
from estimators.ratio.one_step import halves, one_step
from estimators.ratio.support import certain, doubts, extrapolated, unseen, unsupported

if TYPE_CHECKING:
    import divergences as dv

OPTIMISM = 1.0  # largest part of the interval, over its normal half-width, that an error of the ratio may take


def two_sided(
    d: dv.FDivergence, found: CrossFit, rivals: tuple[CrossFit, ...], s: Problem, confidence: float
) -> Inference:
    """The value and its interval, or only a lower bound where the ratio is not known well enough for more.

    The value is the mean of the cross-fitted and the in-sample one-step values, cut to the range
    of D: no ratio is worse than the constant one, whose value is the least. The interval is the normal limit on
    either side of it, widened by half their difference, above by what comes from ratios beyond the other sample, and
    above by what the rival that finds most finds more: every model falls short of D by what it cannot express, which
    is no part of that difference, and a rival that the evidence does not refute may express it.
    """
    open_above = unsupported(d, found, s)
    if open_above or doubts(d, found.held_out, s):
        return lower_bound(d, found.held_out, s, confidence, open_above)
    out, inside = one_step(d, found.held_out, s), one_step(d, found.in_sample, s)
    # What was not seen is a second error, as large as the first in one sample of twenty: seldom are both that large.
    below, above = map(math.hypot, halves(out, confidence), unseen(d, out, s))
    half = (below + above) / 2
    gap, beyond = abs(inside.value - out.value) / 2, extrapolated(d, found.held_out, s)
    value = (out.value + inside.value) / 2
    more = max([sum(one_step(d, g, s).value for g in rival) / 2 - value for rival in rivals] + [0.0])
    if not all(error <= OPTIMISM * half for error in (gap, beyond, more)):  # NaN is refused as well
        error = gap + beyond + more
        why = f"the error of the fitted ratio, {error:.2g}, is not small against the sampling error {half:.2g}"
        return lower_bound(d, found.held_out, s, confidence, (why,))
    low, high = _within(d, value - below - gap), _within(d, value + above + gap + beyond + more)
    note = f"interval: normal limit of the one-step value, widened by {gap:.2g} for the error of the fitted ratio"
    if beyond:
        note += f", above by {beyond:.2g} for what lies where the other sample has no points"
    if more:
        note += f", above by {more:.2g} that other models find, which the evidence does not refute"
    return Inference(_within(d, value), out.stderr, (low, high), (note,))


def lower_bound(d: dv.FDivergence, g: Sides, s: Problem, confidence: float, why: tuple[str, ...] = ()) -> Inference:
    """The one-step value of a clipped ratio, a lower bound in expectation, with a one-sided normal limit.

    Where a term of J has no limit the ratio is clipped where that term is the root of the number of its points. Where
    J is less than D can be, the constant ratio gives more, and its value is taken.
    """
    bottom, top = certain(d, s)
    clipped = Sides(g.x.clip(bottom, top), g.y.clip(bottom, top))
    found = one_step(d, clipped, s)
    low = found.value - math.hypot(halves(found, 2 * confidence - 1)[0], unseen(d, found, s)[0])
    why += doubts(d, g, s)
    notes = (*why, f"no upper limit: the value is a lower bound, with a one-sided {100 * confidence:g}% limit")
    interval = _within(d, low), _within(d, math.inf)
    return Inference(_within(d, found.value), found.stderr, interval, notes, "lower")


def _within(d: dv.FDivergence, value: float) -> float:
    """The nearest value that D can take."""
    return min(max(value, float(d.f(1.0))), float(d.upper_bound))
