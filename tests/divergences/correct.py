"""Right versions of divergences, metrics, kernels and estimators, each with every law it obeys and a known value."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from divergences import testing

INF = math.inf
ALL = ("identity", "non_negativity", "data_processing", "joint_convexity", "permutation_invariance")
METRIC = ("identity", "non_negativity", "symmetry", "triangle_inequality")
SAMPLES = ("order_of_points", "batch_is_loop", "same_kind", "no_side_effects", "float32")


@dataclass(frozen=True)
class Right:
    """A right version: the check, the laws it obeys, the check's options, and a value, D(P, Q) = ``value``."""

    fn: Any
    laws: tuple[str, ...]
    check: Callable[..., None] = testing.check_divergence
    options: dict[str, Any] = field(default_factory=dict)
    value: tuple[Any, Any, float] | None = None


def kl(p, q):
    on = p > 0
    return INF if (q[on] == 0).any() else float(np.sum(p[on] * np.log(p[on] / q[on])))


def reverse_kl(p, q):
    return kl(q, p)


def js(p, q):
    m = (p + q) / 2
    return (kl(p, m) + kl(q, m)) / 2


def total_variation(p, q):
    return np.abs(p - q).sum() / 2


def squared_hellinger(p, q):
    return np.sum((np.sqrt(p) - np.sqrt(q)) ** 2)


def hellinger(p, q):
    return math.sqrt(squared_hellinger(p, q) / 2)


def chi2(p, q):
    on = q > 0
    return INF if (p[~on] > 0).any() else float(np.sum((p[on] - q[on]) ** 2 / q[on]))


def renyi(p, q, alpha):
    on = p * q > 0
    if (alpha > 1 and ((p > 0) & (q == 0)).any()) or not on.any():
        return INF
    return math.log(np.sum(p[on] ** alpha * q[on] ** (1 - alpha))) / (alpha - 1)


def bhattacharyya(p, q):
    affinity = float(np.sum(np.sqrt(p * q)))
    return -math.log(affinity) if affinity > 0 else INF


def kolmogorov_smirnov(p, q):
    return np.abs(np.cumsum(p - q)).max()


def wasserstein(x, y, order=1, a=None, b=None):
    """W_p on the line, by quantiles."""
    i, j = np.argsort(x[:, 0]), np.argsort(y[:, 0])
    A, B = (np.full(len(z), 1 / len(z)) if w is None else w for z, w in ((x, a), (y, b)))
    F, G = np.cumsum(A[i]), np.cumsum(B[j])
    levels = np.sort(np.concatenate([F, G]))
    mass, middle = np.diff(levels, prepend=0), levels - np.diff(levels, prepend=0) / 2
    u = x[i, 0][np.searchsorted(F, middle).clip(max=len(F) - 1)]
    v = y[j, 0][np.searchsorted(G, middle).clip(max=len(G) - 1)]
    return float(np.sum(mass * np.abs(u - v) ** order)) ** (1 / order)


def weighted_wasserstein(x, y, a, b):
    return wasserstein(x, y, 1, a, b)


def distances(x, y):
    return np.linalg.norm(x[:, None] - y[None], axis=-1)


def laplace(x, y):
    return np.exp(-distances(x, y))


def mmd2(x, y):
    return laplace(x, x).mean() + laplace(y, y).mean() - 2 * laplace(x, y).mean()


def energy_distance(x, y):
    return 2 * distances(x, y).mean() - distances(x, x).mean() - distances(y, y).mean()


def kl_object(**changed):
    class Object(SimpleNamespace):
        def __call__(self, p, q):
            return kl(p, q)

    methods = {
        "f": lambda u: u * np.log(u),
        "derivative": lambda u: 1 + np.log(u),
        "conjugate": lambda t: np.exp(t - 1),
        "activation": lambda v: v,
        "conjugate_of_activation": lambda v: np.exp(v - 1),
        "optimal_critic": lambda r: 1 + np.log(r),
    }
    return Object(**{**methods, **changed})


def squared_gap_of_means(P, Q):
    return ((P.mean - Q.mean) ** 2).sum()


class Mean:
    """The squared distance of the means, as an estimator with an `estimate`."""

    def gap(self, x, y, a=None, b=None):
        return ((self.mean(x, a) - self.mean(y, b)) ** 2).sum(-1)

    def mean(self, x, weights):
        return x.mean(-2) if weights is None else (weights[..., None] * x).sum(-2)

    def __call__(self, x, y, *weights):
        if isinstance(x, torch.Tensor) and x.dtype == torch.float16:
            x, y = x.float(), y.float()
        found = self.gap(x, y, *weights)
        return float(found) if isinstance(found, np.generic) else found

    def estimate(self, x, y, seed=None):
        value = float(self(x, y))
        return SimpleNamespace(
            value=value, stderr=0.0, interval=None, bound="consistent", n=len(x), m=len(y), notes=("no interval",)
        )


HALF, QUARTER = np.array([1 / 2, 1 / 2]), np.array([1 / 4, 3 / 4])
ZERO, ONE = np.array([[0.0], [1.0]]), np.array([[1.0], [3.0]])
LINE = {"on": "point_clouds", "d": 1}
CLOUDS = {"on": "point_clouds"}
CORRECT = {
    "kl": Right(
        kl,
        (*ALL, "additivity", "sufficiency", "continuity", "finite_where_dominated", "infinite_where_not_dominated",
         "pinsker", "bretagnolle_huber", "reversal"),
        options={"reverse": reverse_kl},
        value=(HALF, QUARTER, math.log(4 / 3) / 2),
    ),
    "reverse_kl": Right(
        reverse_kl, ("reversal",), options={"reverse": kl}, value=(HALF, QUARTER, math.log(27 / 16) / 4)
    ),
    "js": Right(
        js, ("identity", "data_processing", "joint_convexity", "symmetry", "js_bound", "gan_chain", "bounded"),
        options={"upper_bound": math.log(2)}, value=(np.array([1.0, 0.0]), np.array([0.0, 1.0]), math.log(2)),
    ),
    "jeffreys": Right(
        lambda p, q: kl(p, q) + kl(q, p), ("identity", "data_processing", "symmetry"),
        value=(HALF, QUARTER, math.log(3) / 4),
    ),
    "total_variation": Right(
        total_variation, (*ALL, "symmetry", "bounded", "sufficiency", "continuity"), options={"upper_bound": 1.0},
        value=(HALF, QUARTER, 1 / 4),
    ),
    "squared_hellinger": Right(
        squared_hellinger, (*ALL, "symmetry", "le_cam", "bounded"),
        options={"upper_bound": 2.0}, value=(HALF, QUARTER, 2 - (1 + math.sqrt(3)) / math.sqrt(2)),
    ),
    "chi2": Right(
        chi2, (*ALL, "finite_where_dominated", "infinite_where_not_dominated"),
        value=(HALF, QUARTER, 1 / 3),
    ),
    "renyi_2": Right(
        lambda p, q: renyi(p, q, 2.0), ("identity", "data_processing", "additivity"),
        value=(HALF, QUARTER, math.log(4 / 3)),
    ),
    "renyi": Right(renyi, ("monotone_in_order",)),
    "bhattacharyya": Right(bhattacharyya, ("joint_convexity", "symmetry", "additivity")),
    "kolmogorov_smirnov": Right(
        kolmogorov_smirnov, (*METRIC, "ks_tv", "bounded"), testing.check_metric, {"upper_bound": 1.0},
        value=(np.array([0.3, 0.2, 0.1, 0.4]), np.array([0.1, 0.2, 0.4, 0.3]), 0.2),
    ),
    "hellinger": Right(
        hellinger, ("identity", "triangle_inequality", "bounded"), testing.check_metric, {"upper_bound": 1.0}
    ),
    "rooted_js": Right(
        lambda p, q: math.sqrt(max(0.0, js(p, q))), ("identity", "triangle_inequality"), testing.check_metric
    ),
    "wasserstein": Right(
        wasserstein, ("w1_dual", "translation", "scaling", "translation_invariance", "order_of_points"), options=LINE,
        value=(ZERO, ONE, 1.5),
    ),
    "wasserstein_metric": Right(lambda x, y: wasserstein(x, y, 2), METRIC, testing.check_metric, LINE),
    "wasserstein_order": Right(wasserstein, ("w1_le_w2", "monotone_in_order"), options=LINE),
    "weighted_wasserstein": Right(weighted_wasserstein, ("weights_are_repetition",), options=LINE),
    "laplace": Right(laplace, ("positive_definite", "mmd_non_negative")),
    "mmd2": Right(
        mmd2, ("identity", "non_negativity", "translation_invariance"), options=CLOUDS
    ),
    "energy_distance": Right(
        energy_distance,
        ("identity", "scaling", "translation_invariance"),
        options={**CLOUDS, "atol": 1e-11},
    ),
    "kl_object": Right(kl_object(), ("fenchel_young", "variational_bound", "composition")),
    "mean": Right(
        Mean(),
        (*SAMPLES, "symmetry", "zero_at_equality", "translation_invariance", "scaling", "half_precision", "gradients",
         "equal_weights", "weights_are_repetition", "complete_estimate", "error_shrinks"),
        testing.check_estimator, {"degree": 2.0, "truth": squared_gap_of_means, "rate": 0.5},
    ),
}  # fmt: skip
