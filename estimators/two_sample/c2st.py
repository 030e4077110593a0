"""The classifier two-sample test: can a classifier tell held-out points of x from those of y?"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from divergences._spec import Specified
from estimators import intervals
from estimators.two_sample.labelling import Design
from estimators.two_sample.permutation import HELD, Statistic
from estimators.two_sample.pool import Plan, Pool

FEWEST = 4  # points or clusters a side: two to train on, two held out
_MANY_STRATA = 8  # from here on whole strata are held out, so that pairs stay pairs
_BOOSTING = 1000  # training points from which boosted trees compete with the logistic classifier
_MOST_FEATURES = 500


class C2ST(Specified):
    """The classifier two-sample test, as a ``statistic`` of `two_sample_test`.

    A random half of each sample trains a classifier to tell x from y; the statistic is its AUC on the other half,
    P(score of x > score of y) + ½P(equal). Only labels of the held-out half are permuted, with the classifier held, so
    that the test is exact. The AUC uses the order of the scores, which accuracy throws away, and it needs neither equal
    sizes nor a threshold; equal AUCs are ordered by the difference of mean scores. Scores of k folds pooled and
    permuted without training anew would not be exact; training anew for each permutation would, at B times the cost.

    ``classifier`` is any scikit-learn classifier with ``decision_function`` or ``predict_proba`` (a clone is trained),
    or None: logistic regression on standardised coordinates with their squares and products, or, from 1000 training
    points, gradient boosted trees where these have the smaller cross-validated logistic loss on the training half.

    Cost: one training, and O(B·N). Interval: on the held-out AUC (DeLong) and accuracy (Clopper and Pearson), in the
    evidence of the result; both take held-out points as independent, and so say nothing where there are clusters.

    Raises:
        TypeError: no scikit-learn classifier.

    References: Lopez-Paz and Oquab 2017; Kim, Ramdas, Singh and Wasserman 2021; DeLong et al. 1988 (interval).

    Example:
        >>> C2ST()
        C2ST(classifier=None)
    """

    def __init__(self, classifier: Any = None) -> None:
        if classifier is not None:
            from sklearn.base import BaseEstimator, is_classifier

            scores = any(hasattr(classifier, method) for method in ("decision_function", "predict_proba"))
            if not isinstance(classifier, BaseEstimator) or not is_classifier(classifier) or not scores:
                raise TypeError(
                    "classifier must be a scikit-learn classifier with decision_function or predict_proba: got "
                    f"{classifier!r}"
                )
        self.classifier = classifier

    def plan(self, pool: Pool) -> Plan:
        """Train on one half; the AUC on the other, whose labels alone are permuted."""
        train = _training_units(pool.design, pool.generator)
        rows = train[pool.design.unit]
        held = (~rows).nonzero().squeeze(-1)
        points, is_x = pool.centred.cpu().numpy(), pool.design.observed.numpy()
        for half, chosen in (("training", rows), ("held-out", ~rows)):
            if len(np.unique(is_x[chosen.numpy()])) < 2:
                raise ValueError(f"c2st: the {half} half has points of one sample only, as few strata have both")
        seed = int(torch.randint(2**31, (), generator=pool.generator))
        scores, accepted, about = self._scores(points, is_x, rows.numpy(), seed)
        n, m = int(rows.sum()), len(held)
        pool.notes.append(f"c2st: {about} trained on {n} points; the labels of the other {m} are permuted")
        _, rank, ties = np.unique(scores[held.numpy()], return_inverse=True, return_counts=True)
        ranks = torch.as_tensor((ties.cumsum() - (ties - 1) / 2)[rank])  # equal scores share their mean rank

        centred = torch.as_tensor(scores[held.numpy()] - scores[held.numpy()].mean())
        spread = centred / centred.abs().max().clamp_min(1e-300)

        def evaluate(labels: Tensor) -> Tensor:
            chosen = labels[:, held.to(labels.device)].cpu().double()
            a = chosen.sum(-1)
            b = len(held) - a
            wins = chosen @ ranks - a * (a + 1) / 2
            return torch.where(a * b > 0, wins / (a * b).clamp_min(1.0), 0.5)

        def second(labels: Tensor) -> Tensor:
            chosen = labels[:, held.to(labels.device)].cpu().double()
            a = chosen.sum(-1).clamp(1, m - 1)
            return (chosen @ spread) / a - (spread.sum() - chosen @ spread) / (m - a)

        def describe(labels: Tensor) -> str:
            side = labels.cpu()[held].numpy()
            right = int((accepted[held.numpy()] == side).sum())
            low, high = intervals.monte_carlo(right, m)
            auc, below, above = _auc(ranks.numpy(), side)
            return (
                f"held-out AUC {auc:.3f} [{below:.3f}, {above:.3f}], accuracy {right / m:.3f} [{low:.3f}, {high:.3f}] "
                f"where always naming the larger side has {max(side.mean(), 1 - side.mean()):.3f}"
            )

        found = Statistic(evaluate, HELD // len(points), 1e-12, "c2st", describe, second)
        return Plan([found], fixed=train)

    def _scores(
        self, points: NDArray[np.float64], is_x: NDArray[np.bool_], train: NDArray[np.bool_], seed: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], str]:
        """A score of every point, whether it is taken for one of x, and the name of the classifier."""
        from sklearn.base import clone

        chosen = _default(points[train], is_x[train]) if self.classifier is None else clone(self.classifier)
        names = [name for name, value in chosen.get_params().items() if name.endswith("random_state") and value is None]
        chosen.set_params(**dict.fromkeys(names, seed))  # else it would draw from NumPy's global state
        chosen.fit(points[train], is_x[train])
        if hasattr(chosen, "decision_function"):
            scores = np.asarray(chosen.decision_function(points), dtype=np.float64)
        else:
            scores = np.asarray(chosen.predict_proba(points), dtype=np.float64)[:, list(chosen.classes_).index(True)]
        last = chosen.steps[-1][1] if hasattr(chosen, "steps") else chosen
        return scores, np.asarray(chosen.predict(points), dtype=bool), type(last).__name__


def _training_units(design: Design, generator: torch.Generator) -> Tensor:
    """A random half of the units of each side in each stratum, or of the strata where there are many, (U,).

    Raises:
        ValueError: too few to train on.
    """
    sides = [int((design.is_x == side).sum()) for side in (True, False)]
    if min(sides) < FEWEST:
        raise ValueError(
            f"c2st needs at least {FEWEST} points or clusters in x and in y, to train on some and hold out others: got "
            f"{sides[0]} and {sides[1]}"
        )
    names = design.stratum.unique()
    many = len(names) >= _MANY_STRATA
    kind = design.stratum if many else 2 * design.stratum + design.is_x
    order = torch.randperm(len(kind if not many else names), generator=generator)
    if many:
        return torch.isin(kind, names[order[: len(names) // 2]])
    train = torch.zeros_like(design.is_x)
    for value in kind.unique():
        members = order[kind[order] == value]
        train[members[: len(members) // 2]] = True
    return train


def _default(points: NDArray[np.float64], is_x: NDArray[np.bool_]) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    d = points.shape[1]
    quadratic = d * (d + 3) // 2 <= min(_MOST_FEATURES, len(points))
    expand = [PolynomialFeatures(2, include_bias=False), StandardScaler()] if quadratic else []
    logistic = make_pipeline(StandardScaler(), *expand, LogisticRegression(C=0.1, max_iter=300))
    if len(points) < _BOOSTING:
        return logistic
    trees = HistGradientBoostingClassifier(max_iter=100, early_stopping=True, random_state=0)
    losses = [-cross_val_score(one, points, is_x, cv=3, scoring="neg_log_loss").mean() for one in (logistic, trees)]
    return trees if losses[1] < losses[0] else logistic


def _auc(ranks: NDArray[np.float64], is_x: NDArray[np.bool_]) -> tuple[float, float, float]:
    """The AUC and 95% limits, from the placements of each side among the other (DeLong et al. 1988)."""
    a, b = int(is_x.sum()), int((~is_x).sum())
    own_x, own_y = _midranks(ranks[is_x]), _midranks(ranks[~is_x])
    of_x = (ranks[is_x] - own_x) / b  # the share of y below each point of x
    of_y = 1 - (ranks[~is_x] - own_y) / a
    value = float(of_x.mean())
    error = math.sqrt(of_x.var(ddof=1) / a + of_y.var(ddof=1) / b)
    low, high = intervals.normal(value, error, 0.95)
    return value, max(low, 0.0), min(high, 1.0)


def _midranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.stats import rankdata

    return np.asarray(rankdata(values))
