"""Any f-divergence from an estimate of the density ratio p/q, corrected for the error of that estimate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from estimators.base import Estimator, Inference, same_kind
from estimators.classical.neighbors import repeated
from estimators.classical.targets import one_by_one, target
from estimators.door import Samples, admit_thoroughly, check_finite, tensor
from estimators.ratio import models as ratio_models
from estimators.ratio.auto import choose
from estimators.ratio.cross_fitting import FOLDS, Problem, cross_fit, fitted, folds
from estimators.ratio.kernel_ratio import KLIEP, ULSIF
from estimators.ratio.limits import lower_bound, two_sided
from estimators.repeats import TIES, decimals, rounded, strays

if TYPE_CHECKING:
    from estimators.ratio.models import LogRatio, RatioModel

MODELS = ("auto", "logistic", "ulsif", "kliep")
PRODUCTS = 20  # coordinates up to which the logistic model has products of coordinates


class DensityRatio(Estimator):
    """D_f(P‖Q) from g, an estimate of log p/q, by the one-step value with cross-fitting.

        J(g) = E_P f'(e^g) − E_Q f*(f'(e^g)),    D = (J(g₋ₖ) + J(g))/2.

    J falls short of D by the square of the error of g. It is computed with g₋ₖ, fitted to four of five folds and
    evaluated on the fifth, which is too low by what g does not generalise, and with g fitted to and evaluated on all
    points, which is too high by as much to first order. g is kept within the range of its training points.

    Models of g:

    - "logistic": logistic regression on coordinates, squares and products (up to 20 coordinates; beyond, coordinates
      alone); right for two Gaussians and for all laws whose log ratio is quadratic.
    - "ulsif", "kliep": kernel models of the ratio itself, cross-validated, which see no ratio below 10⁻³.
    - "auto": the simplest of about ten candidates within half a standard error of the best by the held-out logistic
      loss and, where f is unbounded, within one by J(g₋ₖ): logistic regressions, splines, Gaussian mixtures, kernels,
      boosted trees, frequencies (at once, where each distinct value has 5 points of both sides). The notes tell it.
    - any scikit-learn classifier with `predict_proba` (calibrated), g = logit P(class P) − log(π/(1 − π)).

    Bound: "consistent" for "auto" unless the notes give a reason against it; else "lower".
    Rate: n^(−1/2) where the error of g falls faster than n^(−1/4), as it does for a model that holds the true ratio;
    else the square of that error.
    Shapes: x (..., n, d), y (..., m, d), value (...,); a batch is solved one by one, on the CPU.
    Cost: five fits of the model; "auto" about thirty, which is seconds at n = 10⁴, d = 10.
    Gradients: none; a tensor that requires a gradient raises TypeError.
    Interval: for "auto" the normal limit by the influence function, f'(e^g) on P and −f*(f'(e^g)) on Q (Student's t
    where few points make up the variance), widened by half the difference of the two values and above by what any other
    candidate finds more that is within one standard error of the best (the simplest was chosen, and may be too simple).
    Where f is unbounded it is widened above by half the part of D from ratios beyond all of the other sample's (more
    from points that lie far out), and by a tail of mass 3/n, which n points may have missed. Where these are not small,
    where few points carry a mean, and where f is unbounded and a side has values, places or an end of its support that
    the other does not reach, the value is J(g₋ₖ) of clipped ratios, a lower bound, and only the lower limit is given.
    So it is for every other model, since a model that no evidence chose may be wrong. What no candidate can see, such
    as an interaction of three coordinates, is missed.

    Args:
        divergence: a name or an object; f-divergences, hellinger, bhattacharyya and renyi.
        model: see above.
        prior: π, the prior of class P that classifiers are trained at, by weights; None is n/(n + m).

    Raises:
        ValueError: weights or a prior with a model that takes none; fewer than 10 points on a side.
        TypeError: a gradient is asked for; a model that gives no probability.

    References: Nguyen, Wainwright and Jordan 2010, eq. (5); Chernozhukov et al. 2018 (cross-fitting); Qin 1998 (ratio
    by logistic regression); Kanamori, Hido and Sugiyama 2009; Sugiyama et al. 2008.

    Example:
        >>> g = np.random.default_rng(0)
        >>> x, y = g.normal(size=(2000, 1)), g.normal(1, 1, size=(2000, 1))
        >>> found = DensityRatio("kl", "auto").estimate(x, y, seed=0)
        >>> found.interval[0] < 0.5 < found.interval[1]
        True
    """

    differentiable = False
    minimum = 2 * FOLDS

    def __init__(
        self,
        divergence: Any = "kl",
        model: str | Any = "logistic",
        prior: float | None = None,
    ) -> None:
        super().__init__()
        if isinstance(model, str) and model not in MODELS:
            raise ValueError(f"model must be one of {', '.join(MODELS)} or a scikit-learn classifier: got {model!r}")
        if not isinstance(model, str) and not (hasattr(model, "fit") and hasattr(model, "predict_proba")):
            raise TypeError(
                "model must be a classifier with fit and predict_proba (wrap others in CalibratedClassifierCV): got "
                f"{type(model).__name__}"
            )
        if prior is not None and not 0 < prior < 1:
            raise ValueError(f"prior must lie in (0, 1): got {prior}")
        if prior is not None and model in ("auto", "ulsif", "kliep"):
            raise ValueError(f'model="{model}" has no class prior: leave prior out')
        self.target = target(divergence, "DensityRatio")
        self.divergence, self.model, self.prior = divergence, model, prior
        self.divergence_name = self.target.name

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """The value, without a gradient."""
        seeded = generator or torch.Generator().manual_seed(0)
        state = seeded.get_state()

        def value(part: Samples) -> float:
            seeded.set_state(state)  # the same folds for every problem of a batch
            return self.infer(part, 0.95, seeded).value

        return one_by_one(s, "DensityRatio", value)

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """The value with its interval, and what the ratio was taken from."""
        problem, f = _problem(s), self.target.f
        seed = int(torch.randint(2**31, (), generator=generator))
        fold = folds(problem, generator)
        notes: tuple[str, ...] = ()
        if self.model == "auto":
            chosen = choose(problem, fold, seed, f)
            found, notes = two_sided(f, chosen.found, chosen.rivals, problem, confidence), chosen.notes
        else:
            g = cross_fit(self._ratio_model(problem, seed), problem, fold)
            why = 'the model was given, not chosen by evidence (model="auto" does that)'
            found = lower_bound(f, g, problem, confidence, (why,))
        outer, interval = self.target.outer, found.interval
        error = None if found.stderr is None else self.target.error(found.value, found.stderr)
        interval = None if interval is None else (outer(interval[0]), outer(interval[1]))
        copied, tied = strays(problem.x, problem.y), max(repeated(problem.x), repeated(problem.y))
        if copied > TIES:
            refused = (
                f"no interval: {copied:.0%} of the points of one side repeat others: as copies they are not "
                "independent, and as atoms there are too few of each"
            )
            return Inference(outer(found.value), None, None, (*notes, refused), "lower")
        if tied > TIES:
            notes += (f"{tied:.0%} of the points of one side are repeated: the ratio is one of masses",)
        return Inference(outer(found.value), error, interval, notes + found.notes, found.bound)

    def fit(self, x: Any, y: Any, x_weights: Any = None, y_weights: Any = None, *, seed: int = 0) -> FittedRatio:
        """The log ratio as a function, fitted to all points."""
        problem = _problem(admit_thoroughly(x, y, x_weights, y_weights, minimum=self.minimum))
        generator = torch.Generator().manual_seed(seed)
        if self.model == "auto":
            model = choose(problem, folds(problem, generator), seed, self.target.f).model
        else:
            model = self._ratio_model(problem, seed)
        g, digits = fitted(model, problem), decimals(problem.x, problem.y)
        return FittedRatio(lambda points: g(rounded(points, digits)), problem.x.shape[1])

    def _ratio_model(self, s: Problem, seed: int) -> RatioModel:
        if self.model == "ulsif":
            return ULSIF(seed)
        if self.model == "kliep":
            return KLIEP(seed)
        if self.model == "logistic":
            small = s.x.shape[1] <= PRODUCTS
            return ratio_models.Classifier(
                "logistic", ratio_models.quadratic if small else ratio_models.logistic, self.prior
            )

        def build() -> Any:
            from sklearn.base import clone

            classifier = clone(self.model)
            free = [k for k, v in classifier.get_params().items() if k.endswith("random_state") and v is None]
            return classifier.set_params(**dict.fromkeys(free, seed))  # else numpy's global generator decides

        return ratio_models.Classifier(type(self.model).__name__, build, self.prior)


@dataclass(frozen=True)
class FittedRatio:
    """The log density ratio that `DensityRatio.fit` found, within its range on the points it was fitted to."""

    function: LogRatio
    dimension: int

    def log_ratio(self, points: Any) -> Any:
        """Log p/q at ``points``, (..., d): arrays give arrays, (...,), tensors tensors, without a gradient."""
        z = tensor(points, "points")
        if z.ndim < 1 or z.shape[-1] != self.dimension:
            raise ValueError(f"points must have {self.dimension} coordinates, (..., d): got shape {tuple(z.shape)}")
        check_finite(z, "points")
        flat = z.detach().cpu().double().reshape(-1, self.dimension).numpy()
        found = torch.from_numpy(self.function(flat)).to(z).reshape(z.shape[:-1])
        return same_kind(found, points, points)


def _problem(s: Samples) -> Problem:
    """The samples as arrays in lexicographic order, so that folds and models do not hang on the order of points.

    Points without weight are left out. Values of atoms that differ by rounding alone are one.
    """
    arrays = [points.detach().cpu().double().numpy() for points in (s.x, s.y)]
    digits = decimals(*arrays)
    sides = []
    for name, z, weights in (("x", arrays[0], s.x_weights), ("y", arrays[1], s.y_weights)):
        z, w = rounded(z, digits), None if weights is None else weights.detach().cpu().double().numpy()
        if w is not None:
            z, w = z[w > 0], w[w > 0]
            if len(z) < 2 * FOLDS:
                raise ValueError(f"{name}_weights leave {len(z)} points with weight: {2 * FOLDS} are needed")
            w = w * (len(z) / w.sum())
        order = np.lexsort(z.T[::-1])
        sides.append((z[order], None if w is None else w[order]))
    (x, wx), (y, wy) = sides
    return Problem(x, y, wx, wy)
