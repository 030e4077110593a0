"""Planted defects: plausible broken divergences, metrics, kernels and estimators, and the law that catches each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from divergences import testing
from tests.divergences.correct import (
    ALL,
    CORRECT,
    INF,
    SAMPLES,
    Mean,
    chi2,
    distances,
    energy_distance,
    js,
    kl,
    kl_object,
    laplace,
    mmd2,
    renyi,
    reverse_kl,
    squared_hellinger,
    total_variation,
    wasserstein,
)  # fmt: skip

COMPANIONS = {name for law in testing.laws() for name in law.companions}


@dataclass(frozen=True, eq=False)
class Defect:
    """A broken version of ``CORRECT[of]``.

    ``caught_by`` is the law that fails first of the ``laws`` that are asked: that one alone by default. None is a
    defect that obeys all laws of the right version, so that only a known value tells the two apart.
    """

    name: str
    of: str
    fn: Any
    caught_by: str | None
    laws: tuple[str, ...] = ()
    options: dict[str, Any] | None = None

    def run(self) -> testing.LawViolation | None:
        """Return how it fails, or None where it obeys every law asked of it."""
        right = CORRECT[self.of]
        laws = self.laws or (right.laws if self.caught_by is None else (self.caught_by,))
        options = {**right.options, **(self.options or {})}
        needed = {name for law in testing.laws() if law.name in laws for name in law.companions}
        options = {name: value for name, value in options.items() if name in needed or name not in COMPANIONS}
        try:
            right.check(self.fn, laws, **options)
        except testing.LawViolation as violation:
            return violation
        return None


def kl_that_writes(p, q):
    q[q == 0] = 1e-12
    return kl(p, q)


def kl_with_zeros_out(p, q):
    return INF if (p * q == 0).any() else kl(p, q)


def kl_of_common_support(p, q):
    on = p * q > 0
    return np.sum(p[on] * np.log(p[on] / q[on]))


def smoothed(p, q):
    p, q = p + 1e-6, q + 1e-6
    return kl(p / p.sum(), q / q.sum())


def clamped(least):
    return lambda p, q: np.sum(np.clip(p, least, 1) * np.log(np.clip(p, least, 1) / np.clip(q, least, 1)))


def chi2_over_p(p, q):
    return chi2(q, p)


def chi2_of_support_of_p(p, q):
    on = p > 0
    return INF if (q[on] == 0).any() else np.sum((p[on] - q[on]) ** 2 / q[on])


def halved_at_the_ends(p, q):
    on = (p > 0) & (q > 0)
    terms = np.where(on, p * np.log(np.where(on, p / np.where(on, q, 1), 1)) - p + q, 0)
    return np.trapezoid(terms)


def single(p, q):
    return float(np.float32(kl(p.astype(np.float32), q.astype(np.float32))))


def truncating_w1(x, y):
    n = min(len(x), len(y))
    return np.abs(np.sort(x[:n, 0]) - np.sort(y[:n, 0])).mean()


def standardised_w1(x, y):
    spread = np.concatenate([x, y]).std()
    return wasserstein(x, y) / spread if spread > 0 else 0.0


def mmd2_diagonal_kept(x, y):
    n, m = len(x), len(y)
    k, l, c = laplace(x, x), laplace(y, y), laplace(x, y)
    return k.sum() / (n * (n - 1)) + l.sum() / (m * (m - 1)) - 2 * c.mean()


def mmd2_diagonal_dropped(x, y):
    k, l, c = laplace(x, x), laplace(y, y), laplace(x, y)
    return (k.sum() - len(x)) / len(x) ** 2 + (l.sum() - len(y)) / len(y) ** 2 - 2 * c.mean()


class InPlace(Mean):
    def gap(self, x, y):
        x -= y.mean(-2)[..., None, :]
        return (x.mean(-2) ** 2).sum(-1)


class Pooled(Mean):
    def gap(self, x, y):
        return super().gap(x, y).mean()


class FirstHalf(Mean):
    def gap(self, x, y):
        return super().gap(x[..., ::2, :], y)


class GlobalRandom(Mean):
    def gap(self, x, y):
        torch.randn(1)
        return super().gap(x, y)


class AlwaysFloat(Mean):
    def __call__(self, x, y):
        found = self.gap(x, y)
        return float(found) if found.ndim == 0 else found


class Half(Mean):
    def gap(self, x, y):
        return super().gap(x.half(), y.half()).to(x.dtype) if x.dtype == torch.float32 else super().gap(x, y)


class Detached(Mean):
    def gap(self, x, y):
        return super().gap(x, y.detach())


class WeightedByX(Mean):
    def gap(self, x, y):
        return super().gap(x, y) * (1 + x.mean((-2, -1)) ** 2)


class Biased(Mean):
    def gap(self, x, y):
        return super().gap(x, y) + 1 / x.shape[-2]


class SwappedSizes(Mean):
    def estimate(self, x, y, seed=None):
        e = super().estimate(x, y, seed)
        e.n, e.m = e.m, e.n
        return e


class Optimistic(Mean):
    def estimate(self, x, y, seed=None):
        e = super().estimate(x, y, seed)
        e.bound = "lower"
        return e


class TwiceDivided(Mean):
    def mean(self, x, weights):
        return x.mean(-2) if weights is None else (weights[..., None] * x).mean(-2)


class Unweighted(Mean):
    def mean(self, x, weights):
        return x.mean(-2)


class KeepsHalf(Mean):
    def __call__(self, x, y, *weights):
        return self.gap(x, y, *weights)


class Standardised(Mean):
    def gap(self, x, y, a=None, b=None):
        return super().gap(x, y, a, b) / x.var((-2, -1))


class Inconsistent(Mean):
    def gap(self, x, y, a=None, b=None):
        return super().gap(x, y, a, b) + 0.15


class FirstPoints(Mean):
    def gap(self, x, y, a=None, b=None):
        return super().gap(x[..., :40, :], y[..., :40, :])


DEFECTS = (
    Defect("KL with the sign flipped", "kl", lambda p, q: -kl(p, q), "non_negativity"),
    Defect("KL as sum(p*log(p/q)), NaN at entries of 0", "kl", lambda p, q: np.sum(p * np.log(p / q)), "identity", ALL),
    Defect("KL that is inf wherever an entry is 0", "kl", kl_with_zeros_out, "identity"),
    Defect("KL that is 0 where it should be inf", "kl", lambda p, q: 0.0 if kl(p, q) == INF else kl(p, q), "identity"),
    Defect("KL that forgets the mass of P where Q has none", "kl", kl_of_common_support, "identity", ALL),
    Defect(
        "KL that forgets that mass, behind max(0, ·)", "kl",
        lambda p, q: max(0.0, kl_of_common_support(p, q)),
        "identity",
    ),
    Defect("KL of probabilities clamped at 1e-3", "kl", clamped(1e-3), "data_processing"),
    Defect("KL of probabilities clamped at 1e-8", "kl", clamped(1e-8), "data_processing"),
    Defect("KL smoothed by 1e-6 and normalised again", "kl", smoothed, "data_processing"),
    Defect(
        "KL with abs() around each term", "kl",
        lambda p, q: kl(p, q) if kl(p, q) == INF else np.abs(p[p > 0] * np.log(p[p > 0] / q[p > 0])).sum(),
        "data_processing",
    ),
    Defect("KL as a mean over outcomes", "kl", lambda p, q: kl(p, q) / len(p), "data_processing"),
    Defect("KL by the trapezoidal rule", "kl", halved_at_the_ends, "permutation_invariance"),
    Defect("KL accumulated in float32", "kl", single, "data_processing"),
    Defect("KL that writes to its input", "kl", kl_that_writes, "identity"),
    Defect("KL with the arguments swapped", "kl", reverse_kl, "finite_where_dominated"),
    Defect("KL halved", "kl", lambda p, q: kl(p, q) / 2, "pinsker"),
    Defect("KL divided by 8", "kl", lambda p, q: kl(p, q) / 8, "bretagnolle_huber"),
    Defect(
        "KL in bits", "kl",
        lambda p, q: kl(p, q) / math.log(2),
        None, (*ALL, "additivity"), {"examples": 60},
    ),
    Defect("reverse KL that is KL", "reverse_kl", kl, "reversal"),
    Defect("JS without its ½", "js", lambda p, q: 2 * js(p, q), "js_bound"),
    Defect("JS with M = P + Q", "js", lambda p, q: (kl(p, p + q) + kl(q, p + q)) / 2, "identity"),
    Defect("JS in bits", "js", lambda p, q: js(p, q) / math.log(2), "gan_chain"),
    Defect("JS with one side only", "js", lambda p, q: kl(p, (p + q) / 2), "symmetry"),
    Defect("Jeffreys with a ½", "jeffreys", lambda p, q: (kl(p, q) + kl(q, p)) / 2, None, options={"examples": 60}),
    Defect("total variation without its ½", "total_variation", lambda p, q: np.abs(p - q).sum(), "bounded"),
    Defect(
        "total variation that forgets the mass of Q where P has none", "total_variation",
        lambda p, q: np.abs(p - q)[p > 0].sum() / 2,
        "continuity",
    ),
    Defect("total variation as a mean", "total_variation", lambda p, q: np.abs(p - q).mean(), "sufficiency"),
    Defect(
        "Euclidean distance for total variation", "total_variation",
        lambda p, q: np.linalg.norm(p - q),
        "data_processing",
    ),
    Defect(
        "total variation of sorted vectors", "total_variation",
        lambda p, q: total_variation(np.sort(p), np.sort(q)),
        "identity",
    ),
    Defect(
        "vectors divided by their Euclidean norm", "total_variation",
        lambda p, q: total_variation(p / np.linalg.norm(p), q / np.linalg.norm(q)),
        "data_processing",
    ),
    Defect(
        "squared Hellinger with a ½ too many", "squared_hellinger",
        lambda p, q: squared_hellinger(p, q) / 2,
        "le_cam",
    ),
    Defect(
        "the root of Hellinger where its square is meant", "squared_hellinger",
        lambda p, q: math.sqrt(squared_hellinger(p, q)),
        "joint_convexity",
    ),
    Defect(
        "the square of Hellinger where its root is meant", "hellinger",
        lambda p, q: squared_hellinger(p, q) / 2,
        "triangle_inequality",
    ),
    Defect("Hellinger without its ½", "hellinger", lambda p, q: math.sqrt(squared_hellinger(p, q)), "bounded"),
    Defect("JS without its root as a metric", "rooted_js", js, "triangle_inequality"),
    Defect("χ² over p instead of q", "chi2", chi2_over_p, "finite_where_dominated"),
    Defect(
        "χ² over p + q instead of q", "chi2",
        lambda p, q: np.sum((p - q)[p + q > 0] ** 2 / (p + q)[p + q > 0]),
        "infinite_where_not_dominated",
    ),
    Defect("χ² that drops outcomes with p = 0", "chi2", chi2_of_support_of_p, "continuity"),
    Defect("χ² with a ½", "chi2", lambda p, q: chi2(p, q) / 2, None, options={"examples": 60}),
    Defect(
        "Rényi of order 2 with prefactor 1/α", "renyi_2",
        lambda p, q: renyi(p, q, 2.0) / 2,
        None, options={"examples": 60},
    ),
    Defect(
        "Rényi without its prefactor", "renyi",
        lambda p, q, alpha: abs(renyi(p, q, alpha) * (alpha - 1)),
        "monotone_in_order",
    ),
    Defect("Bhattacharyya without its logarithm", "bhattacharyya", lambda p, q: 1 - np.sqrt(p * q).sum(), "additivity"),
    Defect("KS without abs()", "kolmogorov_smirnov", lambda p, q: max(0.0, np.cumsum(p - q).max()), "identity"),
    Defect(
        "KS as a sum instead of a maximum", "kolmogorov_smirnov",
        lambda p, q: np.abs(np.cumsum(p - q)).sum(),
        "ks_tv",
    ),
    Defect(
        "KS of the probabilities, not of their sums", "kolmogorov_smirnov",
        lambda p, q: np.abs(p - q).max(),
        None, options={"examples": 60},
    ),
    Defect(
        "KL's conjugate with a sign error", "kl_object",
        kl_object(conjugate=lambda t: np.exp(1 - t)),
        "fenchel_young",
    ),
    Defect(
        "KL's optimal critic log r instead of 1 + log r", "kl_object",
        kl_object(optimal_critic=np.log),
        "variational_bound",
    ),
    Defect("KL's composition without the − 1", "kl_object", kl_object(conjugate_of_activation=np.exp), "composition"),
    Defect("W2 without its root", "wasserstein_metric", lambda x, y: wasserstein(x, y, 2) ** 2, "triangle_inequality"),
    Defect("W2 without its root, moved", "wasserstein", lambda x, y: wasserstein(x, y, 2) ** 2, "translation"),
    Defect(
        "W_p without its root", "wasserstein_order",
        lambda x, y, order: wasserstein(x, y, order) ** order,
        "w1_le_w2",
    ),
    Defect("W1 of the first min(n, m) points", "wasserstein", truncating_w1, "w1_dual"),
    Defect(
        "W1 without sorting", "wasserstein",
        lambda x, y: np.abs(np.resize(x, (12, 1)) - np.resize(y, (12, 1))).mean(),
        "order_of_points",
    ),
    Defect("W1 of standardised points", "wasserstein", standardised_w1, "scaling"),
    Defect(
        "W1 that ignores its weights", "weighted_wasserstein",
        lambda x, y, a, b: wasserstein(x, y),
        "weights_are_repetition",
    ),
    Defect("a box for a kernel", "laplace", lambda x, y: (distances(x, y) <= 1).astype(float), "positive_definite"),
    Defect("a distance for a kernel, without its minus", "laplace", distances, "mmd_non_negative"),
    Defect("MMD² over n(n − 1) with the diagonal kept", "mmd2", mmd2_diagonal_kept, "zero_at_equality"),
    Defect("MMD² over n² with the diagonal dropped", "mmd2", mmd2_diagonal_dropped, "non_negativity"),
    Defect("MMD² of centred points each", "mmd2", lambda x, y: mmd2(x - x.mean(0), y - y.mean(0)), "identity"),
    Defect(
        "MMD² of the points' distances to 0", "mmd2",
        lambda x, y: mmd2(*(np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))),
        "translation_invariance",
    ),
    Defect(
        "energy distance without its 2", "energy_distance",
        lambda x, y: energy_distance(x, y) - distances(x, y).mean(),
        "identity",
    ),
    Defect("an estimator that writes to its input", "mean", InPlace(), "order_of_points", SAMPLES),
    Defect("an estimator that pools its batch", "mean", Pooled(), "batch_is_loop", SAMPLES),
    Defect("an estimator of every second point", "mean", FirstHalf(), "order_of_points", SAMPLES),
    Defect("an estimator that draws from the global generator", "mean", GlobalRandom(), "no_side_effects", SAMPLES),
    Defect("an estimator that always returns a float", "mean", AlwaysFloat(), "same_kind", SAMPLES),
    Defect("an estimator that takes float32 down to half precision", "mean", Half(), "float32"),
    Defect("an estimator whose gradient in y is cut", "mean", Detached(), "gradients"),
    Defect("an estimator weighted by x alone", "mean", WeightedByX(), "symmetry"),
    Defect("an estimator that depends on the origin", "mean", WeightedByX(), "translation_invariance"),
    Defect("an estimator with a bias of 1/n", "mean", Biased(), "zero_at_equality"),
    Defect("an estimator that divides by n although it has weights", "mean", TwiceDivided(), "equal_weights"),
    Defect("an estimator that ignores its weights", "mean", Unweighted(), "weights_are_repetition"),
    Defect("an estimator that adds up in half precision", "mean", KeepsHalf(), "half_precision"),
    Defect("an estimator in units of its own sample", "mean", Standardised(), "scaling"),
    Defect("an estimator that looks at forty points", "mean", FirstPoints(), "error_shrinks"),
    Defect("an estimator with a bias that stays", "mean", Inconsistent(), "error_shrinks"),
    Defect("an estimate with n and m exchanged", "mean", SwappedSizes(), "complete_estimate"),
    Defect(
        'an estimate that claims "lower" and lies above', "mean",
        Optimistic(),
        "bound_holds",
    ),
)  # fmt: skip
