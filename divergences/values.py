"""The public functions of densities: D(P‖Q) of two known laws, P the data or target, Q the model or reference.

``p`` (P) and ``q`` (Q) are each an array of probabilities on the last axis (batched over the rest, broadcast), a
``torch.distributions`` object, a frozen ``scipy.stats`` law, an `Empirical` or a `PointMass`. Tensors and torch laws
give a tensor of the batch shape, with gradients; everything else gives a float or a numpy array. Values are in nats,
or in the unit of ``base`` where logarithms occur. ``method`` is "auto", "closed_form", "discrete" or "quadrature".

Cost: probability vectors and closed forms, one pass over the input; quadrature and countable sums, about 10–100 ms for
each pair of a batch.

Raised by all: ValueError for probabilities that are negative, NaN, or do not sum to 1, and for shapes that do not meet;
TypeError for what is no law; NotImplementedError, naming `monte_carlo`, where no exact way exists; `ConvergenceError`
where quadrature misses its tolerance of 1e-8, or a sum its proven bound.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from divergences.affinity import log_affinity, renyi_value
from divergences.distances import safe_sqrt
from divergences.evaluate import answer, evaluate, f_value, laws, unit
from divergences.f_divergence import (
    KL,
    Alpha,
    FDivergence,
    HockeyStick,
    Jeffreys,
    JensenShannon,
    LeCam,
    NeymanChi2,
    PearsonChi2,
    ReverseKL,
    SkewJensenShannon,
    SkewKL,
    SquaredHellinger,
    TotalVariation,
)
from divergences.named import other


def f_divergence(
    p: Any, q: Any, divergence: str | FDivergence, *, base: float | None = None, method: str = "auto"
) -> Any:
    """f-divergence of P (data) from Q (model): ∫ q f(p/q) + f'(∞)·P[q = 0], by a row's name or as an object.

    Range: [0, f(0) + f'(∞)]. Csiszár 1967; Ali, Silvey 1966.

    Example:
        >>> f_divergence([0.5, 0.5], [1.0, 0.0], "kl"), round(f_divergence([0.5, 0.5], [1.0, 0.0], "js"), 6)
        (inf, 0.215762)
    """
    return evaluate(divergence, p, q, method=method, base=base)


def kl(p: Any, q: Any, *, base: float | None = None, method: str = "auto") -> Any:
    """Kullback–Leibler divergence KL(P‖Q) = ∫ p log(p/q), P the data, Q the model.

    Range: [0, ∞]; inf where P has mass and Q none. Kullback, Leibler 1951, eq. 2.6.

    Example:
        >>> kl([0.5, 0.5], [0.25, 0.75], base=2).__round__(6)
        0.207519
    """
    return evaluate(KL(), p, q, method=method, base=base)


def reverse_kl(p: Any, q: Any, *, base: float | None = None, method: str = "auto") -> Any:
    """Reverse Kullback–Leibler divergence KL(Q‖P) = ∫ q log(q/p), P the data, Q the model.

    Range: [0, ∞]; inf where Q has mass and P none. Kullback, Leibler 1951.

    Example:
        >>> reverse_kl([0.25, 0.75], [0.5, 0.5], base=2).__round__(6)
        0.207519
    """
    return evaluate(ReverseKL(), p, q, method=method, base=base)


def js(p: Any, q: Any, *, base: float | None = None, method: str = "auto") -> Any:
    """Jensen–Shannon divergence ½KL(P‖M) + ½KL(Q‖M), M = (P + Q)/2, with its ½s.

    Range: [0, log 2]; symmetric, and its root is a metric. Lin 1991, eq. 3.5; Endres, Schindelin 2003.

    Example:
        >>> js([1.0, 0.0], [0.0, 1.0], base=2)
        1.0
    """
    return evaluate(JensenShannon(), p, q, method=method, base=base)


def jeffreys(p: Any, q: Any, *, base: float | None = None, method: str = "auto") -> Any:
    """Jeffreys divergence KL(P‖Q) + KL(Q‖P) = ∫ (p − q) log(p/q), without a ½.

    Range: [0, ∞]; symmetric. Jeffreys 1946.

    Example:
        >>> jeffreys([0.75, 0.25], [0.25, 0.75]).__round__(6)  # log 3
        1.098612
    """
    return evaluate(Jeffreys(), p, q, method=method, base=base)


def total_variation(p: Any, q: Any, *, method: str = "auto") -> Any:
    """Total variation ½∫|p − q| = sup over events of P(A) − Q(A).

    Range: [0, 1]; a metric.

    Example:
        >>> total_variation([0.75, 0.25], [0.25, 0.75])
        0.5
    """
    return evaluate(TotalVariation(), p, q, method=method)


def squared_hellinger(p: Any, q: Any, *, method: str = "auto") -> Any:
    """Squared Hellinger divergence ∫(√p − √q)² of P and Q; `hellinger`² is its half.

    Range: [0, 2]; symmetric. Hellinger 1909.

    Example:
        >>> squared_hellinger([1.0, 0.0], [0.0, 1.0])
        2.0
    """
    return evaluate(SquaredHellinger(), p, q, method=method)


@other(is_symmetric=True, is_metric=True, upper_bound=1.0)
def hellinger(p: Any, q: Any, *, method: str = "auto") -> Any:
    """Hellinger distance √(½∫(√p − √q)²) of P and Q: hellinger² = squared_hellinger/2.

    Range: [0, 1]; a metric. Its subgradient at P = Q is 0. Hellinger 1909.

    Example:
        >>> hellinger([1.0, 0.0], [0.0, 1.0])
        1.0
    """
    return answer(safe_sqrt(f_value(SquaredHellinger(), *laws(p, q, method), method) / 2), p, q)


@other(is_symmetric=True, is_metric=False)
def bhattacharyya(p: Any, q: Any, *, base: float | None = None, method: str = "auto") -> Any:
    """Bhattacharyya distance −log ∫√(pq) of P and Q: half the Rényi divergence of order ½.

    Range: [0, ∞]; symmetric, inf for disjoint supports, no metric. Bhattacharyya 1943.

    Example:
        >>> from scipy import stats
        >>> bhattacharyya(stats.norm(0, 1), stats.norm(1, 1))
        0.125
    """
    factor = unit(base, "bhattacharyya")
    return answer(-log_affinity(*laws(p, q, method), 0.5, method) * factor, p, q)


@other(is_symmetric=False, is_metric=False)
def renyi(p: Any, q: Any, alpha: float, *, base: float | None = None, method: str = "auto") -> Any:
    """Rényi divergence of P (data) from Q (model), order α ≥ 0: log(∫ p^α q^{1−α})/(α − 1).

    Order 1 is KL(P‖Q), order 0 is −log Q(p > 0), order ∞ is log ess sup p/q. Range: [0, ∞], non-decreasing in α; inf
    where α ≥ 1 and P has mass that Q has not, and at every order for disjoint supports. van Erven, Harremoës 2014,
    eqs. 1, 8–11.

    Raises:
        ValueError: alpha is negative.

    Example:
        >>> renyi([0.5, 0.5, 0.0], [0.25, 0.25, 0.5], alpha=0, base=2)
        1.0
        >>> renyi([0.5, 0.5], [0.25, 0.75], alpha=float("inf"), base=2)
        1.0
    """
    factor = unit(base, "renyi")
    if not isinstance(alpha, int | float | np.number) or isinstance(alpha, np.complexfloating):
        raise TypeError(f"alpha must be a number: got {alpha!r}")
    if not alpha >= 0:
        raise ValueError(f"alpha must be at least 0: got {alpha}")
    return answer(renyi_value(*laws(p, q, method), alpha, method) * factor, p, q)


def chi2(p: Any, q: Any, *, method: str = "auto") -> Any:
    """Pearson's χ² divergence ∫(p − q)²/q of P (data) from Q (model).

    Range: [0, ∞]; inf where P has mass and Q none, and where the tails of P are too heavy for Q. Pearson 1900.

    Example:
        >>> chi2([0.5, 0.5], [0.25, 0.75]).__round__(6)
        0.333333
    """
    return evaluate(PearsonChi2(), p, q, method=method)


def neyman_chi2(p: Any, q: Any, *, method: str = "auto") -> Any:
    """Neyman's χ² divergence ∫(p − q)²/p of P (data) from Q (model): Pearson's with the laws exchanged.

    Range: [0, ∞]; inf where Q has mass and P none. Neyman 1949.

    Example:
        >>> neyman_chi2([0.25, 0.75], [0.5, 0.5]).__round__(6)
        0.333333
    """
    return evaluate(NeymanChi2(), p, q, method=method)


def le_cam(p: Any, q: Any, *, method: str = "auto") -> Any:
    """Le Cam (triangular) divergence ∫(p − q)²/(p + q) of P and Q.

    Range: [0, 2]; symmetric, and its root is a metric. Le Cam 1986, section 4.2; Topsøe 2000.

    Example:
        >>> le_cam([1.0, 0.0], [0.5, 0.5]).__round__(6)
        0.666667
    """
    return evaluate(LeCam(), p, q, method=method)


def alpha(p: Any, q: Any, alpha: float, *, method: str = "auto") -> Any:
    """α-divergence (∫ p^α q^{1−α} − 1)/(α(α − 1)) of P (data) from Q (model), for any real α.

    KL(P‖Q) at 1, KL(Q‖P) at 0, ½χ² at 2, twice `squared_hellinger` at ½. Range: [0, 1/(α(1 − α))] for 0 < α < 1, else
    [0, ∞]. Amari 2016, eq. 3.28.

    Example:
        >>> alpha([0.5, 0.5], [0.25, 0.75], alpha=2).__round__(6)
        0.166667
    """
    return evaluate(Alpha(alpha), p, q, method=method)


def hockey_stick(p: Any, q: Any, gamma: float, *, method: str = "auto") -> Any:
    """Hockey-stick divergence E_γ = ∫(p − γq)₊ − (1 − γ)₊ of P (data) from Q (model), γ > 0.

    Range: [0, min(1, γ)]; γ = 1 is total variation. Polyanskiy, Poor, Verdú 2010, eq. 2.

    Raises:
        ValueError: gamma is not positive.

    Example:
        >>> hockey_stick([0.75, 0.25], [0.25, 0.75], gamma=2).__round__(6)
        0.25
    """
    return evaluate(HockeyStick(gamma), p, q, method=method)


def skew_js(p: Any, q: Any, weight: float = 0.5, *, base: float | None = None, method: str = "auto") -> Any:
    """Skewed Jensen–Shannon divergence w·KL(P‖M) + (1 − w)·KL(Q‖M), M = wP + (1 − w)Q, 0 < w < 1.

    Range: [0, H(w)], H(w) = −w log w − (1 − w) log(1 − w). Lin 1991, eq. 4.1.

    Raises:
        ValueError: weight lies outside (0, 1).

    Example:
        >>> skew_js([1.0, 0.0], [0.0, 1.0], weight=0.25, base=2).__round__(6)
        0.811278
    """
    return evaluate(SkewJensenShannon(weight), p, q, method=method, base=base)


def skew_kl(p: Any, q: Any, weight: float, *, base: float | None = None, method: str = "auto") -> Any:
    """Skewed Kullback–Leibler divergence KL(P‖(1 − w)P + wQ), 0 < w ≤ 1, P the data, Q the model.

    Range: [0, −log(1 − w)]; w = 1 is KL. Lee 1999, eq. 2.

    Raises:
        ValueError: weight lies outside (0, 1].

    Example:
        >>> skew_kl([1.0, 0.0], [0.0, 1.0], weight=0.5, base=2)
        1.0
    """
    return evaluate(SkewKL(weight), p, q, method=method, base=base)
