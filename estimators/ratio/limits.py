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

    The value is the mean of the cross-fitted and the in-sample one-step values; the interval is the normal limit on
    either side of it, widened by half their difference, above by what comes from ratios beyond the other sample, and
    above by what the rival that finds most finds more: every model falls short of D by what it cannot express, which
    is no part of that difference, and a rival that the evidence does not refute may express it.
    """
    open_above = unsupported(d, found, s)
    if open_above or doubts(d, found.held_out, s):
        return lower_bound(d, found.held_out, s, confidence, open_above)
    out, inside = one_step(d, found.held_out, s), one_step(d, found.in_sample, s)
    below, above = map(math.hypot, halves(out, confidence), unseen(d, out, s))  # they err independently
    half = (below + above) / 2
    gap, beyond = abs(inside.value - out.value) / 2, extrapolated(d, found.held_out, s)
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
    bottom, top = certain(d, s)
    clipped = Sides(g.x.clip(bottom, top), g.y.clip(bottom, top))
    found = one_step(d, clipped, s)
    low = found.value - math.hypot(halves(found, 2 * confidence - 1)[0], unseen(d, found, s)[0])
    why += doubts(d, g, s)
    notes = (*why, f"no upper limit: the value is a lower bound, with a one-sided {100 * confidence:g}% limit")
    return Inference(found.value, found.stderr, _clipped(d, low, math.inf), notes, "lower")


def _clipped(d: dv.FDivergence, low: float, high: float) -> tuple[float, float]:
    """The limits within the values that D can take."""
    least, most = float(d.f(1.0)), float(d.upper_bound)
    return min(max(low, least), most), max(min(high, most), least)
