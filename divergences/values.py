"""The public functions: D(P‖Q) of two known laws, P the data or target, Q the model or reference.

``p`` and ``q`` are each an array of probabilities on the last axis (batched over the rest, broadcast), a
``torch.distributions`` object, a frozen ``scipy.stats`` law, an `Empirical` or a `PointMass`. Tensors and torch laws
give a tensor, with gradients from closed forms and finite supports; everything else gives a float or a numpy array.
Values are in nats or in the unit of ``base``. ``method`` is "auto", "closed_form", "discrete" or "quadrature".

Raised by all: ValueError for probabilities that are negative, NaN, or do not sum to 1; NotImplementedError, naming
`monte_carlo`, where no exact way exists; `ConvergenceError` where quadrature misses its tolerance of 1e-8.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from divergences import discrete, line_metrics, transport
from divergences._arrays import tensor
from divergences.affinity import log_affinity, renyi_value
from divergences.batches import batched
from divergences.evaluate import answer, evaluate, f_value, laws, unit
from divergences.exact import closed_form, missing
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
from divergences.kernels import DistanceInduced, Kernel, safe_sqrt
from divergences.laws import Empirical, Probabilities
from divergences.named import other


def f_divergence(
    p: Any, q: Any, divergence: str | FDivergence, *, base: float | None = None, method: str = "auto"
) -> Any:
    """∫ q f(p/q) + f'(∞)·P[q = 0] for a row of the table, by name or as an object.

    Example:
        >>> f_divergence([0.5, 0.5], [1.0, 0.0], "kl"), round(f_divergence([0.5, 0.5], [1.0, 0.0], "js"), 6)
        (inf, 0.215762)
    """
    return evaluate(divergence, p, q, method=method, base=base)


def kl(p: Any, q: Any, *, base: float | None = None, method: str = "auto") -> Any:
    """KL(P‖Q) = ∫ p log(p/q), in [0, ∞]; inf where P has mass and Q none. Kullback, Leibler 1951.

    Example:
        >>> kl([0.5, 0.5], [0.25, 0.75], base=2).__round__(6)
        0.207519
    """
    return evaluate(KL(), p, q, method=method, base=base)


def reverse_kl(p: Any, q: Any, *, base: float | None = None, method: str = "auto") -> Any:
    """KL(Q‖P) = ∫ q log(q/p), in [0, ∞]; inf where Q has mass and P none."""
    return evaluate(ReverseKL(), p, q, method=method, base=base)


def js(p: Any, q: Any, *, base: float | None = None, method: str = "auto") -> Any:
    """½KL(P‖M) + ½KL(Q‖M), M = (P + Q)/2, in [0, log 2]. Lin 1991.

    Example:
        >>> js([1.0, 0.0], [0.0, 1.0], base=2)
        1.0
    """
    return evaluate(JensenShannon(), p, q, method=method, base=base)


def jeffreys(p: Any, q: Any, *, base: float | None = None, method: str = "auto") -> Any:
    """KL(P‖Q) + KL(Q‖P), without a ½, in [0, ∞]."""
    return evaluate(Jeffreys(), p, q, method=method, base=base)


def total_variation(p: Any, q: Any, *, method: str = "auto") -> Any:
    """½∫|p − q|, in [0, 1]."""
    return evaluate(TotalVariation(), p, q, method=method)


def squared_hellinger(p: Any, q: Any, *, method: str = "auto") -> Any:
    """∫(√p − √q)², in [0, 2]; `hellinger`² is its half."""
    return evaluate(SquaredHellinger(), p, q, method=method)


@other(is_symmetric=True, is_metric=True, upper_bound=1.0)
def hellinger(p: Any, q: Any, *, method: str = "auto") -> Any:
    """√(½∫(√p − √q)²), in [0, 1]: hellinger² = squared_hellinger/2."""
    return answer(safe_sqrt(f_value(SquaredHellinger(), *laws(p, q, method), method) / 2), p, q)


@other(is_symmetric=True, is_metric=False)
def bhattacharyya(p: Any, q: Any, *, base: float | None = None, method: str = "auto") -> Any:
    """−log ∫√(pq), in [0, ∞]; inf for disjoint supports. Half the Rényi divergence of order ½. Bhattacharyya 1943."""
    factor = unit(base, "bhattacharyya")
    return answer(-log_affinity(*laws(p, q, method), 0.5, method) * factor, p, q)


@other(is_symmetric=False, is_metric=False)
def renyi(p: Any, q: Any, alpha: float, *, base: float | None = None, method: str = "auto") -> Any:
    """Rényi divergence of order α ≥ 0, log(∫ p^α q^{1−α})/(α − 1), in [0, ∞]; non-decreasing in α.

    Order 1 is KL(P‖Q), order 0 is −log Q(p > 0), order ∞ is log ess sup p/q. It is inf where α ≥ 1 and P has mass that
    Q has not, and at every order for disjoint supports. van Erven, Harremoës 2014, eqs. 1, 8–11.

    Raises:
        ValueError: alpha is negative.

    Example:
        >>> renyi([0.5, 0.5, 0.0], [0.25, 0.25, 0.5], alpha=0, base=2)
        1.0
        >>> renyi([0.5, 0.5], [0.25, 0.75], alpha=float("inf"), base=2)
        1.0
    """
    factor = unit(base, "renyi")
    if not alpha >= 0:
        raise ValueError(f"alpha must be at least 0: got {alpha}")
    return answer(renyi_value(*laws(p, q, method), alpha, method) * factor, p, q)


def chi2(p: Any, q: Any, *, method: str = "auto") -> Any:
    """Pearson's ∫(p − q)²/q, in [0, ∞]."""
    return evaluate(PearsonChi2(), p, q, method=method)


def neyman_chi2(p: Any, q: Any, *, method: str = "auto") -> Any:
    """Neyman's ∫(p − q)²/p, in [0, ∞]."""
    return evaluate(NeymanChi2(), p, q, method=method)


def le_cam(p: Any, q: Any, *, method: str = "auto") -> Any:
    """∫(p − q)²/(p + q), in [0, 2]."""
    return evaluate(LeCam(), p, q, method=method)


def alpha(p: Any, q: Any, alpha: float, *, method: str = "auto") -> Any:
    """(∫ p^α q^{1−α} − 1)/(α(α − 1)), any real α; KL(P‖Q) at 1, KL(Q‖P) at 0."""
    return evaluate(Alpha(alpha), p, q, method=method)


def hockey_stick(p: Any, q: Any, gamma: float, *, method: str = "auto") -> Any:
    """∫(p − γq)₊ − (1 − γ)₊, in [0, min(1, γ)]; γ = 1 is total variation."""
    return evaluate(HockeyStick(gamma), p, q, method=method)


def skew_js(p: Any, q: Any, weight: float = 0.5, *, base: float | None = None, method: str = "auto") -> Any:
    """w·KL(P‖M) + (1 − w)·KL(Q‖M), M = wP + (1 − w)Q, in [0, H(w)]."""
    return evaluate(SkewJensenShannon(weight), p, q, method=method, base=base)


def skew_kl(p: Any, q: Any, weight: float, *, base: float | None = None, method: str = "auto") -> Any:
    """KL(P‖(1 − w)P + wQ), 0 < w ≤ 1, in [0, −log(1 − w)]; w = 1 is KL. Lee 1999, eq. 2."""
    return evaluate(SkewKL(weight), p, q, method=method, base=base)


@other(is_symmetric=True, is_metric=True)
def wasserstein(
    p: Any, q: Any, order: float = 1, metric: str = "euclidean", *, cost: Any = None, method: str = "auto"
) -> Any:
    """W_p(P, Q) = (min E d(X, Y)^p)^{1/p} over couplings, the distance itself, in [0, ∞].

    On finite supports this is the exact linear program (quantiles for d = 1). Probability vectors carry no points:
    they need ``cost``, the matrix of distances d(xᵢ, yⱼ), whose p-th power is transported.

    Args:
        p: P, see the module.
        q: Q.
        order: p ≥ 1.
        metric: "euclidean", "cityblock" or "chebyshev"; the same on the line.
        cost: distances (n, m) between the outcomes of two probability vectors.
        method: as everywhere.

    Raises:
        ConvergenceError: the linear program's solver stopped early.

    Example:
        >>> from divergences import Empirical
        >>> wasserstein(Empirical([0.0, 1.0]), Empirical([1.0, 3.0]))
        1.5
    """
    if not 1 <= order < math.inf:
        raise ValueError(f"order must be at least 1 and finite: got {order}")
    if metric not in transport.METRICS:
        raise ValueError(f"metric must be one of {', '.join(transport.METRICS)}: got {metric!r}")
    P, Q = laws(p, q, method)
    if isinstance(P, Probabilities):
        value = transport.linear_program(P.values, Q.values, _cost(cost, "wasserstein"), order)
        return answer(value, p, q)
    _refuse(cost)
    return answer(_integral_metric("wasserstein", P, Q, method, order=order, metric=metric), p, q)


@other(is_symmetric=True, is_metric=False)
def mmd(p: Any, q: Any, kernel: Kernel, squared: bool = True, *, method: str = "auto") -> Any:
    """MMD² = E k(X, X') + E k(Y, Y') − 2 E k(X, Y), or its root with ``squared=False``; in [0, ∞)."""
    P, Q = laws(p, q, method)
    if isinstance(P, Probabilities):
        raise TypeError("probability vectors carry no points for a kernel: pass Empirical(points, weights)")
    if not callable(kernel):
        raise TypeError(f"kernel must be one of divergences.kernels or k(x, y): got {kernel!r}")
    a, b = discrete.as_empirical(P), discrete.as_empirical(Q)
    if a is not None and b is not None:
        value = _quadratic(a, b, kernel)
    elif isinstance(kernel, DistanceInduced) and kernel.order == 1:
        value = _integral_metric("energy_distance", P, Q, method)
    else:
        value = _integral_metric("mmd", P, Q, method, kernel=kernel)
    return answer(value if squared else safe_sqrt(value), p, q)


@other(is_symmetric=True, is_metric=False)
def energy_distance(p: Any, q: Any, squared: bool = True, *, cost: Any = None, method: str = "auto") -> Any:
    """2E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖, or its root with ``squared=False``; in [0, ∞]. Székely, Rizzo 2005.

    For probability vectors ``cost`` is the matrix of distances between the outcomes, which both share.
    """
    P, Q = laws(p, q, method)
    if isinstance(P, Probabilities):
        D = _cost(cost, "energy_distance").to(torch.promote_types(P.values.dtype, Q.values.dtype))
        n = P.values.shape[-1]
        if D.shape != (n, n) or Q.values.shape[-1] != n:
            raise ValueError(f"cost must be ({n}, {n}), between outcomes that both share: got {tuple(D.shape)}")
        gap = P.values.to(D.dtype) - Q.values.to(D.dtype)
        value = -((gap @ D) * gap).sum(-1)
    else:
        _refuse(cost)
        value = _integral_metric("energy_distance", P, Q, method)
    return answer(value if squared else safe_sqrt(value), p, q)


@other(is_symmetric=True, is_metric=True, upper_bound=1.0)
def kolmogorov_smirnov(p: Any, q: Any, *, method: str = "auto") -> Any:
    """Return sup |F − G| of the distribution functions, in [0, 1]; probability vectors are ordered by index."""
    P, Q = laws(p, q, method)
    if isinstance(P, Probabilities):
        if P.values.shape[-1] != Q.values.shape[-1]:
            raise ValueError(f"p and q must share their last axis: got {P.values.shape} and {Q.values.shape}")
        return answer((P.values - Q.values).cumsum(-1).abs().amax(-1), p, q)
    if any(isinstance(law, Empirical) and law.points.shape[1] > 1 for law in (P, Q)):
        raise ValueError("kolmogorov_smirnov is defined on the line: got points with more than one coordinate")
    return answer(_integral_metric("kolmogorov_smirnov", P, Q, method), p, q)


_ON_FINITE: dict[str, Callable[..., Tensor]] = {
    "wasserstein": transport.empirical,
    "energy_distance": lambda p, q: _quadratic(p, q, DistanceInduced()),
    "kolmogorov_smirnov": transport.largest_cdf_gap,
}
_ON_LINE: dict[str, Callable[..., Tensor]] = {
    "wasserstein": line_metrics.wasserstein,
    "energy_distance": line_metrics.squared_energy,
    "kolmogorov_smirnov": line_metrics.largest_cdf_gap,
}


def _integral_metric(name: str, p: Any, q: Any, method: str, **parameters: Any) -> Tensor:
    """Return what has a closed form, or finite supports, or distribution functions on the line."""
    a, b = discrete.as_empirical(p), discrete.as_empirical(q)
    if a is not None and b is not None and name in _ON_FINITE:
        return _ON_FINITE[name](a, b, **parameters)
    value = closed_form(name, p, q, **parameters) if method in ("auto", "closed_form") else None
    if value is None and method in ("auto", "quadrature") and name in _ON_LINE:
        parameters.pop("metric", None)  # all are |x − y| on the line
        value = batched(_ON_LINE[name], p if a is None else a, q if b is None else b, **parameters)
    if value is None:
        raise _missing(name, p, q)
    return value


def _quadratic(p: Empirical, q: Empirical, kernel: Any) -> Tensor:
    dtype = torch.promote_types(p.points.dtype, q.points.dtype)
    both = torch.cat([p.points.to(dtype), q.points.to(dtype)])
    if isinstance(kernel, Kernel):
        if kernel.is_shift_free:
            both = both - both.detach().mean(0)
        if kernel.needs_points:
            raise ValueError(f"{kernel!r} waits for a sample: give it a number, or call .resolved(points)")
    signed = torch.cat([p.weights.to(dtype), -q.weights.to(dtype)])
    return signed @ kernel(both, both) @ signed


def _cost(cost: Any, name: str) -> Tensor:
    if cost is None:
        raise TypeError(
            f"{name} of probability vectors needs cost=, or Empirical(points, weights): they carry no points"
        )
    return tensor(cost)


def _refuse(cost: Any) -> None:
    if cost is not None:
        raise TypeError("cost= is for probability vectors: these laws carry their own points")


def _missing(name: str, p: Any, q: Any) -> NotImplementedError:
    return missing(name, p, q, "dv.monte_carlo is for f-divergences alone, so draw from both and estimate it")
