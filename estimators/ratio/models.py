"""Models of the log density ratio log p/q that are trained as classifiers, as densities or as counts.

A model has a `name` and `fit(x, y, x_weights, y_weights)`, which returns the log ratio as a function of points. Weights
sum to the number of points of their side, or are None.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LogRatio = Callable[[Array], Array]
RIDGE = 10.0  # inverse strength: nothing beside hundreds of points, yet the weights of separable classes stay finite
STRONG = 0.01  # the same where coordinates are many: it shrinks them together
SURE = 1e-12  # a classifier's probability is kept this far from 0 and 1


class RatioModel(Protocol):
    """What can be fitted to two samples and then gives log p/q at any point."""

    @property
    def name(self) -> str:
        """What the notes call it."""
        ...

    def fit(self, x: Array, y: Array, x_weights: Array | None, y_weights: Array | None) -> LogRatio:
        """The log ratio of the laws of ``x`` and ``y``."""
        ...


@dataclass(frozen=True)
class Classifier:
    """log r = logit P(class P | point) − log(π/(1 − π)), of a fresh classifier from ``build`` trained at prior π."""

    name: str
    build: Callable[[], Any]
    prior: float | None = None  # None is n/(n + m), as the samples are

    def fit(self, x: Array, y: Array, x_weights: Array | None, y_weights: Array | None) -> LogRatio:
        """Train on both samples; weights, and a prior that is not n/(n + m), enter as sample weights."""
        n, m = len(x), len(y)
        prior = n / (n + m) if self.prior is None else self.prior
        weighted = self.prior is not None or x_weights is not None or y_weights is not None
        options = {}
        classifier = self.build()
        if weighted:
            wx = np.ones(n) if x_weights is None else x_weights
            wy = np.ones(m) if y_weights is None else y_weights
            both = np.concatenate([wx * (prior * (n + m) / wx.sum()), wy * ((1 - prior) * (n + m) / wy.sum())])
            options[_weight_argument(classifier)] = both
        labels = np.concatenate([np.ones(n, dtype=int), np.zeros(m, dtype=int)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # slow convergence on separable classes: the held-out points judge
            classifier.fit(np.concatenate([x, y]), labels, **options)
        offset = math.log(prior / (1 - prior))
        return lambda points: log_odds(classifier, points) - offset


def log_odds(classifier: Any, points: Array) -> Array:
    """Log P(class 1 | point)/P(class 0 | point) of a fitted scikit-learn classifier of the classes 0 and 1."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression

    exact = (LogisticRegression, HistGradientBoostingClassifier, LinearDiscriminantAnalysis,
             QuadraticDiscriminantAnalysis)  # fmt: skip
    if isinstance(_last(classifier), exact):  # their decision is the log-odds; a probability near 1 has lost it
        return np.asarray(classifier.decision_function(points), dtype=float)
    p = np.clip(classifier.predict_proba(points)[:, 1], SURE, 1 - SURE)
    return np.log(p) - np.log1p(-p)


def _last(classifier: Any) -> Any:
    return classifier.steps[-1][1] if hasattr(classifier, "steps") else classifier


def _weight_argument(classifier: Any) -> str:
    last = _last(classifier)
    if "sample_weight" not in inspect.signature(last.fit).parameters:
        raise ValueError(
            f"{type(last).__name__} takes no sample_weight: leave out x_weights, y_weights and prior, or use another "
            "model"
        )
    return f"{classifier.steps[-1][0]}__sample_weight" if hasattr(classifier, "steps") else "sample_weight"


def logistic(*features: Any) -> Any:
    """Logistic regression, almost without a penalty, on standardised coordinates and then ``features`` of them."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(
        StandardScaler(), *features, LogisticRegression(C=RIDGE, solver="newton-cholesky", max_iter=50)
    )


def ridge() -> Any:
    """Linear logistic regression for more coordinates than points can bear."""
    return logistic().set_params(logisticregression__C=STRONG)


def with_radius(z: Array) -> Array:
    """Coordinates and their squared norm."""
    return np.column_stack([z, np.square(z).sum(1)])


def with_squares(z: Array) -> Array:
    """Coordinates and their squares."""
    return np.column_stack([z, np.square(z)])


def with_logs(points: Array, positive: NDArray[np.bool_]) -> Array:
    """Coordinates, and the logarithms of the positive ones with their squares; no point is far below the smallest."""
    logs = np.log(np.maximum(points[:, positive], np.finfo(float).tiny))
    return np.column_stack([points, logs, np.square(logs)])


def logistic_of(function: Callable[[Array], Array]) -> Any:
    """Logistic regression on a function of the points as they are."""
    from sklearn.pipeline import Pipeline

    return Pipeline([("features", feature(function)), *logistic().steps])


def feature(function: Callable[[Array], Array]) -> Any:
    """A function of standardised points as a step of a pipeline."""
    from sklearn.preprocessing import FunctionTransformer

    return FunctionTransformer(function)


def quadratic() -> Any:
    """Logistic regression on coordinates, squares and products: exact for two Gaussians."""
    from sklearn.preprocessing import PolynomialFeatures

    return logistic(PolynomialFeatures(2, include_bias=False))


def spline(knots: int, *, tails: bool = False) -> Any:
    """Additive cubic splines with knots at quantiles; with ``tails`` of arsinh of coordinates over their quartiles."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import RobustScaler, SplineTransformer, StandardScaler

    scaled = (RobustScaler(), feature(np.arcsinh)) if tails else (StandardScaler(),)
    basis = SplineTransformer(n_knots=knots, knots="quantile", extrapolation="linear")
    return make_pipeline(*scaled, basis, LogisticRegression(C=RIDGE, solver="newton-cholesky", max_iter=50))


def kernel(points: int, scale: float) -> Any:
    """Quadratic logistic regression with Gaussian kernel features (Nyström) on ``points`` centres, scale²·d/2 = h²."""
    from sklearn.kernel_approximation import Nystroem
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    class _Scaled(Nystroem):  # the bandwidth is relative to the number of coordinates
        def fit(self, X: Array, y: Any = None) -> Any:
            self.gamma = 1 / (scale**2 * X.shape[1])
            return super().fit(X, y)

    union = make_union(FunctionTransformer(with_squares), _Scaled(n_components=points, random_state=0))
    return make_pipeline(StandardScaler(), union, LogisticRegression(C=1.0, solver="newton-cholesky", max_iter=50))


def boosting() -> Any:
    """Boosted trees that stop where a tenth of the points says so."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        learning_rate=0.08, max_leaf_nodes=12, max_iter=200, l2_regularization=1.0, early_stopping=True, random_state=0
    )


class MixturePair:
    """The ratio of two Gaussian mixtures, each with as many full-covariance components as its BIC chooses."""

    name = "Gaussian mixtures"

    def __init__(self, most: int = 4, seed: int = 0) -> None:
        self.most, self.seed = most, seed
        self.chosen: dict[str, int] = {}  # the BIC of the first fit speaks for all folds

    def fit(self, x: Array, y: Array, x_weights: Array | None, y_weights: Array | None) -> LogRatio:
        """Fit both by expectation–maximisation. Raises ValueError for weights."""
        if x_weights is not None or y_weights is not None:
            raise ValueError("Gaussian mixtures take no weights: leave out x_weights and y_weights")
        both = np.concatenate([x, y])
        centre, scale = both.mean(0), both.std(0)
        scale[scale == 0] = 1.0
        p, q = (self._mixture((v - centre) / scale, side) for v, side in ((x, "x"), (y, "y")))
        return lambda points: p((points - centre) / scale) - q((points - centre) / scale)

    def _mixture(self, z: Array, side: str) -> LogRatio:
        from sklearn.mixture import GaussianMixture

        best, lowest = None, math.inf
        sizes = [self.chosen[side]] if side in self.chosen else range(1, self.most + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for size in sizes:
                mixture = GaussianMixture(size, reg_covar=1e-5, tol=1e-4, random_state=self.seed).fit(z)
                bic = mixture.bic(z) if len(sizes) > 1 else 0.0
                if bic >= lowest:
                    break
                best, lowest = mixture, bic
        assert best is not None  # the first size always enters
        self.chosen[side] = best.n_components
        return best.score_samples


class Counts:
    """The ratio of the frequencies of each distinct point, with ½ added to every count (Krichevsky–Trofimov)."""

    name = "frequencies of the distinct points"

    def fit(self, x: Array, y: Array, x_weights: Array | None, y_weights: Array | None) -> LogRatio:
        """Count both samples."""
        values, index = np.unique(np.concatenate([x, y]), axis=0, return_inverse=True)
        index, size = index.ravel(), len(values)
        p = np.bincount(index[: len(x)], x_weights, size) + 0.5
        q = np.bincount(index[len(x) :], y_weights, size) + 0.5
        table = np.log(p / p.sum()) - np.log(q / q.sum())

        def log_ratio(points: Array) -> Array:
            _, where = np.unique(np.concatenate([values, points]), axis=0, return_inverse=True)
            where = where.ravel()
            known = np.zeros(where.max() + 1)  # a point that neither sample has: nothing is known, ratio 1
            known[where[:size]] = table
            return known[where[size:]]

        return log_ratio
