"""Every estimator from samples with what it claims: the laws it obeys, its unit, its rate, and the truth it estimates.

A new estimator is one row here; the laws of `divergences.testing` and the faults are tried on all rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import divergences as dv
import estimators as est
from divergences import kernels

ALWAYS = ("order_of_points", "batch_is_loop", "same_kind", "no_side_effects", "float32", "half_precision")
SMOOTH = ("gradients",)
METRIC = ("symmetry", "zero_at_equality", "translation_invariance")
WEIGHTED = ("equal_weights", "weights_are_repetition")


@dataclass(frozen=True)
class Case:
    """An estimator; the laws that it obeys besides those of all; the power of a length in its value.

    ``rate`` is the documented power of n of its error where ``truth(P, Q)`` is known for Gaussian laws in ``d``
    dimensions. ``without`` are laws of all that it does not obey, with the reason.
    """

    estimator: est.Estimator
    laws: tuple[str, ...]
    degree: float | None = None
    truth: Callable[[Any, Any], float] | None = None
    rate: float = 0.5
    d: tuple[int, int] = (1, 3)
    n: tuple[int, int] = (8, 24)
    examples: int = 15
    atol: float = 1e-9
    without: dict[str, str] = field(default_factory=dict)

    @property
    def differentiable(self) -> bool:
        """Whether it trains a model."""
        return "gradients" in self.laws

    @property
    def weighted(self) -> bool:
        """Whether it takes weights."""
        return "equal_weights" in self.laws


def sliced_power(P: Any, Q: Any) -> float:
    """SW_2² of isotropic Gaussians: E⟨θ, Δ⟩² = ‖Δ‖²/d, and the standard deviations differ along every direction."""
    shift, spread = P.mean - Q.mean, P.stddev[0] - Q.stddev[0]
    return float(shift.square().sum() / len(shift) + spread.square())


def largest_slice(P: Any, Q: Any) -> float:
    """The largest W_2² of a projection of isotropic Gaussians: along the difference of the means."""
    return float((P.mean - Q.mean).square().sum() + (P.stddev[0] - Q.stddev[0]).square())


def of_kernel(kernel: Any) -> Callable[[Any, Any], float]:
    return lambda P, Q: float(dv.mmd(P, Q, kernel))


def power(P: Any, Q: Any) -> float:
    return float(dv.wasserstein(P, Q, order=2)) ** 2


GAUSSIAN = kernels.Gaussian(1.3)
SOLVED = 1e-4  # Sinkhorn in training is solved to 5e-3 in the marginals, squared in the value
MMD = ("symmetry", "translation_invariance", *SMOOTH)
RATIO = ("translation_invariance", "scaling")
WEIGHTS = ("equal_weights",)
V_STATISTIC = (*METRIC, *SMOOTH, *WEIGHTED)
INEXACT = {"gradients": "training solves to marginals of 5e-3; compared with an exactly solved problem elsewhere"}
ORDERED = {"order_of_points": "pairs or blocks of points are taken in their order"}
BLOCKS = {"order_of_points": "blocks are drawn by position"}
SEPARATED = {"bound_holds": "where the cells of 60 points are separated no error is seen; the interval is refused"}
REFUSED = {"bound_holds": "near P = Q one of 60 points may be half of the variance; the interval is refused"}
SEARCHED = {
    "gradients": "the worst direction of few points is often a kink, where their order changes",
    "weights_are_repetition": "a search from random directions may end elsewhere after rounding",
    "float32": "the same",
    "half_precision": "the same",
}

CASES = {
    "mmd": Case(est.MMD(GAUSSIAN), (*MMD, "equal_weights"), truth=of_kernel(GAUSSIAN)),
    "mmd_median": Case(est.MMD(), ("symmetry", "translation_invariance", "equal_weights", "scaling"), 0.0),
    "mmd_biased": Case(est.MMD(kernels.Laplace(1.3), "biased"), V_STATISTIC, truth=of_kernel(kernels.Laplace(1.3))),
    "mmd_rq": Case(est.MMD(kernels.RationalQuadratic()), (*MMD, "equal_weights")),
    "mmd_polynomial": Case(est.MMD(kernels.Polynomial(2, 1.0)), ("symmetry", *SMOOTH, "equal_weights")),
    "mmd_sum": Case(est.MMD(kernels.Gaussian(1.0) + kernels.Laplace(2.0)), (*MMD, "equal_weights")),
    "energy": Case(
        est.EnergyDistance(), (*MMD, "equal_weights", "scaling"), 1.0, lambda P, Q: float(dv.energy_distance(P, Q))
    ),
    "energy_1.5": Case(est.EnergyDistance(1.5), (*MMD, "equal_weights", "scaling"), 1.5),
    "emd": Case(est.EMD(), (*V_STATISTIC, "scaling"), 1.0),
    "emd_2": Case(est.EMD(2, rooted=False), (*V_STATISTIC, "scaling"), 2.0, power, d=(1, 2)),
    "emd_cityblock": Case(est.EMD(1, "cityblock"), (*V_STATISTIC, "scaling"), 1.0),
    "sliced": Case(est.SlicedWasserstein(rooted=False), (*V_STATISTIC, "scaling"), 2.0, sliced_power, d=(1, 1)),
    "sliced_1": Case(est.SlicedWasserstein(1, rooted=False), (*V_STATISTIC, "scaling"), 1.0),
    "mmd_linear": Case(
        est.MMD(GAUSSIAN, "linear"), ("translation_invariance", *SMOOTH), truth=of_kernel(GAUSSIAN), without=ORDERED
    ),
    "mmd_block": Case(
        est.MMD(GAUSSIAN, "block"), ("translation_invariance", *SMOOTH), truth=of_kernel(GAUSSIAN), without=ORDERED
    ),
    "sinkhorn": Case(est.Sinkhorn(blur=0.5), V_STATISTIC, atol=SOLVED, without=INEXACT),
    "sinkhorn_1": Case(est.Sinkhorn(1, blur=0.5), V_STATISTIC, atol=SOLVED, without=INEXACT),
    "sinkhorn_biased": Case(
        est.Sinkhorn(blur=0.5, debiased=False), ("symmetry", "translation_invariance", *WEIGHTED), atol=SOLVED
    ),
    "sinkhorn_reach": Case(est.Sinkhorn(blur=0.5, reach=1.0), V_STATISTIC, atol=SOLVED, without=INEXACT),
    "sinkhorn_auto": Case(est.Sinkhorn(), (*METRIC, "equal_weights", "scaling"), 2.0, atol=SOLVED),
    "max_sliced": Case(
        est.MaxSlicedWasserstein(rooted=False),
        (*V_STATISTIC, "scaling"),
        2.0,
        largest_slice,
        atol=1e-7,
        without=SEARCHED,
    ),
    "knn": Case(est.NearestNeighbor(), ("translation_invariance", "scaling"), 0.0, dv.kl, 0.5, (1, 1)),
    "knn_reverse": Case(est.NearestNeighbor("reverse_kl", 3), ("translation_invariance", "scaling"), 0.0),
    "knn_weighted": Case(est.NearestNeighbor(k=3, weighted=True), RATIO, 0.0, n=(14, 24)),
    "knn_hellinger": Case(est.NearestNeighbor("squared_hellinger"), ("symmetry", *RATIO), 0.0),
    "knn_js": Case(est.NearestNeighbor("js"), ("symmetry", *RATIO), 0.0, dv.js, 0.35, (1, 1)),
    "knn_tv": Case(est.NearestNeighbor("total_variation"), ("symmetry", *RATIO), 0.0),
    "histogram": Case(est.Histogram("js"), ("symmetry", *WEIGHTS), None, dv.js, 0.3, (1, 1), without=SEPARATED),
    "histogram_kl": Case(est.Histogram("kl", bins=2), WEIGHTS, None, d=(1, 2)),
    "kde_kl": Case(est.KernelDensity("kl"), (*RATIO, *WEIGHTS), 0.0, dv.kl, 0.35, (1, 2), atol=1e-6),
    "kde_js": Case(est.KernelDensity("js"), ("symmetry", *RATIO, *WEIGHTS), 0.0, atol=1e-6),
    "gaussian_kl": Case(est.GaussianPlugIn("kl"), (*RATIO, *WEIGHTS), 0.0, dv.kl, n=(8, 24), atol=1e-7),
    "gaussian_w2": Case(
        est.GaussianPlugIn(dv.get("wasserstein", order=2)),
        ("symmetry", "translation_invariance", "scaling", *WEIGHTS),
        1.0,
        lambda P, Q: dv.wasserstein(P, Q, order=2),
        atol=1e-6,
    ),
    "ratio": Case(est.DensityRatio("kl"), WEIGHTS, 0.0, dv.kl, d=(1, 2), n=(16, 24), examples=4, atol=1e-4),
    "ratio_js": Case(est.DensityRatio("js"), WEIGHTS, 0.0, dv.js, d=(1, 1), n=(16, 24), examples=3, atol=1e-4),
    "ratio_ulsif": Case(est.DensityRatio("chi2", "ulsif"), (), n=(16, 24), examples=3, atol=1e-4),
    "ratio_kliep": Case(est.DensityRatio("kl", "kliep"), (), n=(16, 24), examples=3, atol=1e-4),
    "frechet": Case(
        est.Frechet(),
        ("symmetry", "translation_invariance", "scaling", "zero_at_equality", "equal_weights", *SMOOTH),
        2.0,
        power,
        atol=1e-7,
    ),
    "frechet_debiased": Case(
        est.Frechet(debiased=True),
        ("translation_invariance", "scaling", *WEIGHTS),
        2.0,
        power,
        atol=1e-7,
        without=BLOCKS,
    ),
    "wasserstein": Case(est.Wasserstein(), (*V_STATISTIC, "scaling"), 1.0),
    "wasserstein_2": Case(
        est.Wasserstein(2, rooted=False),
        ("symmetry", "translation_invariance", "scaling", *WEIGHTS),
        2.0,
        power,
        d=(4, 5),
    ),
    "affine": Case(
        est.AffineWasserstein(rooted=False),
        ("symmetry", "scaling", "equal_weights"),
        2.0,
        power,
        atol=1e-7,
        without=REFUSED,
    ),
    "mmd_features": Case(
        est.MMD(GAUSSIAN, "random_features"), ("translation_invariance", *SMOOTH, "equal_weights"), atol=1e-7
    ),
}


def laws_of(case: Case) -> tuple[str, ...]:
    """The names of the laws that a case obeys."""
    known = ("bound_holds", "error_shrinks") if case.truth is not None else ()
    return tuple(name for name in (*ALWAYS, *case.laws, *known) if name not in case.without)
