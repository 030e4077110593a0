"""Which model of the density ratio: chosen by held-out evidence among candidates of growing complexity."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from tqdm import tqdm

from estimators.ratio import models as models
from estimators.ratio.cross_fitting import FOLDS, CrossFit, Problem, Sides, evaluated, fitted, held_out_rows
from estimators.ratio.one_step import terms, weighted_mean
from estimators.repeats import atoms, supported

if TYPE_CHECKING:
    from collections.abc import Callable

    import divergences as dv
    from estimators.ratio.models import Array, RatioModel

ALIKE = (0.5, 1.0)  # standard errors within which the simpler of two candidates is taken, by the loss and by J
HOPELESS = 2.0  # standard errors behind the best by the loss on the folds so far, at which a candidate is given up
REFUTED = 1.0  # the same on all folds: candidates that are nearer are rivals of the chosen one
CAPACITY = 5  # points a feature needs at the least
MANY = 30  # coordinates from which products and mixtures are left out


class Choice(NamedTuple):
    """The chosen model, its ratios and those of its rivals, and why it was chosen."""

    model: RatioModel
    found: CrossFit
    rivals: tuple[CrossFit, ...]  # the ratios of candidates that the evidence does not refute either
    notes: tuple[str, ...]


def candidates(s: Problem, seed: int) -> list[RatioModel]:
    """Models of log p/q for samples of this size, the simplest first."""
    n, d = min(len(s.x), len(s.y)), s.x.shape[1]
    weighted = s.x_weights is not None or s.y_weights is not None
    discrete = atoms(s.x, s.y)
    if discrete and supported(s.x, s.y, s.x_weights, s.y_weights):
        return [models.Counts()]  # it holds every ratio of these values
    rows: list[tuple[int, RatioModel]] = [
        (d, models.Classifier("linear logistic regression", models.logistic)),
        (d + 1, models.Classifier("logistic regression on coordinates and their squared norm",
                                  partial(_with, models.with_radius))),
        (2 * d, models.Classifier("logistic regression on coordinates and squares",
                                  partial(_with, models.with_squares))),
        (d * (d + 3) // 2, models.Classifier("logistic regression on coordinates, squares and products",
                                             models.quadratic)),
    ]  # fmt: skip
    if d == 1:
        rows = [rows[0], rows[2]]
    positive = np.concatenate([s.x, s.y]).min(0) > 0
    if positive.any():
        name = "logistic regression on coordinates, logarithms and their squares"
        logs = partial(models.logistic_of, partial(models.with_logs, positive=positive))
        rows.append((d + 2 * int(positive.sum()), models.Classifier(name, logs)))
    for knots in (5, 9, 16) if d == 1 else (5, 9):
        for tails in (False, True):
            name = f"{'additive ' if d > 1 else ''}splines with {knots} knots{' of arsinh' if tails else ''}"
            rows.append(((knots + 1) * d, models.Classifier(name, partial(models.spline, knots, tails=tails))))
    rows.sort(key=lambda row: row[0])
    if d <= MANY and not weighted and not discrete:  # a mixture's component on an atom has no width
        rows.append((d * (d + 3), models.MixturePair(seed=seed)))
    chosen = [model for size, model in rows if CAPACITY * size <= n]
    if CAPACITY * d > n:
        chosen.append(models.Classifier("linear logistic regression with a strong ridge", models.ridge))
    if n >= 100:
        for scale in (1.0, 0.5):
            centres = min(150, n // 5)
            chosen.append(models.Classifier(f"kernel logistic regression with {centres} centres, scale {scale}",
                                            partial(models.kernel, centres, scale)))  # fmt: skip
        chosen.append(models.Classifier("boosted trees", models.boosting))
    if discrete:
        chosen.append(models.Counts())
    return chosen


def _with(function: Callable[[Array], Array]) -> Any:
    return models.logistic(models.feature(function))


def choose(s: Problem, fold: Sides, seed: int, f: dv.FDivergence) -> Choice:
    """The simplest candidate that is not clearly worse than the best by held-out scores.

    They are the logistic loss and, for unbounded f, −J, the one-step value, which is a lower bound of D for every
    ratio: the loss hardly sees an error where p/q is large, and J hangs on little else. A bounded f has no need of it,
    and the largest of many J is too large, so J has the wider limit.
    """
    odds = math.log(len(s.x) / len(s.y))
    racing = candidates(s, seed)
    total = len(racing)
    ratios = {model.name: Sides(np.zeros(len(s.x)), np.zeros(len(s.y))) for model in racing}
    bar = tqdm(total=total * FOLDS, desc="density ratio", delay=2, leave=False)
    for k in range(FOLDS):
        out = held_out_rows(fold, k)
        seen, held = s.rows(~out.x, ~out.y), s.rows(out.x, out.y)
        for model in racing:
            g = fitted(model, seen)
            ratios[model.name].x[out.x], ratios[model.name].y[out.y] = g(held.x), g(held.y)
            bar.update()
        if k < FOLDS - 1:
            done = fold.x <= k, fold.y <= k
            part = s.rows(*done)
            loss = {m.name: _scores(ratios[m.name].rows(*done), part, odds, f)[0] for m in racing}
            best = min(racing, key=lambda model: loss[model.name].mean(part))
            racing = [m for m in racing if loss[m.name].behind(loss[best.name], part) < HOPELESS]
            bar.total = bar.n + len(racing) * (FOLDS - 1 - k)
    bar.close()
    scores = {model.name: _scores(ratios[model.name], s, odds, f) for model in racing}
    bests = [min((scores[m.name][i] for m in racing), key=lambda score: score.mean(s)) for i in range(2)]
    limits = ALIKE[:1] if math.isfinite(f.upper_bound) else ALIKE
    behind = {m.name: [scores[m.name][i].behind(bests[i], s) for i in range(len(limits))] for m in racing}
    unlike = {name: max(by / limit for by, limit in zip(each, limits, strict=True)) for name, each in behind.items()}
    least = min(unlike.values())
    chosen = next(model for model in racing if unlike[model.name] <= max(1.0, least))
    rivals = [m for m in racing if m is not chosen and max(behind[m.name]) < REFUTED]
    note = f"log ratio: {chosen.name}" + (
        ""
        if total == 1
        else f", chosen among {total} candidates by held-out logistic loss "
        f"({scores[chosen.name][0].mean(s):.4f}, the best {bests[0].mean(s):.4f}) and lower bound "
        f"({-scores[chosen.name][1].mean(s):.4g}, the best {-bests[1].mean(s):.4g})"
    )
    found, *others = (CrossFit(ratios[model.name], evaluated(model, s)) for model in (chosen, *rivals))
    return Choice(chosen, found, tuple(others), (note,))


class Score(NamedTuple):
    """What a candidate is to minimise: a mean over x plus a mean over y."""

    x: Array
    y: Array

    def mean(self, s: Problem) -> float:
        """The sum of the two weighted means."""
        return weighted_mean(self.x, s.x_weights)[0] + weighted_mean(self.y, s.y_weights)[0]

    def behind(self, best: Score, s: Problem) -> float:
        """By how many paired standard errors this is above the best."""
        dx, dy = (
            weighted_mean(here - there, weights)
            for here, there, weights in ((self.x, best.x, s.x_weights), (self.y, best.y, s.y_weights))
        )
        difference, spread = dx[0] + dy[0], math.sqrt(dx[1] + dy[1])
        return difference / spread if spread > 0 else 0.0


def _scores(g: Sides, s: Problem, odds: float, f: dv.FDivergence) -> tuple[Score, Score]:
    """The logistic loss and −J."""
    n, m = len(s.x), len(s.y)
    a, b = terms(f, g.x, g.y)
    loss = Score(np.logaddexp(0, -g.x - odds) * (n / (n + m)), np.logaddexp(0, g.y + odds) * (m / (n + m)))
    return loss, Score(-a, b)
