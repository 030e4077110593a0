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
from typing import Any

import torch
from torch import Tensor

import divergences.gaussian  # noqa: F401  # registers its closed forms
from divergences import discrete, transport
from divergences._arrays import tensor
from divergences.exact import answer, closed_form, evaluate, f_value, laws, missing, unit
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
    SquaredHellinger,
    TotalVariation,
)
from divergences.kernels import DistanceInduced, Kernel, safe_sqrt
from divergences.laws import Empirical, Probabilities
from divergences.line import line


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


def hellinger(p: Any, q: Any, *, method: str = "auto") -> Any:
    """√(½∫(√p − √q)²), in [0, 1]: hellinger² = squared_hellinger/2."""
    return answer(safe_sqrt(f_value(SquaredHellinger(), *laws(p, q, method), method) / 2), p, q)


def bhattacharyya(p: Any, q: Any, *, base: float | None = None, method: str = "auto") -> Any:
    """−log ∫√(pq), in [0, ∞]; inf for disjoint supports."""
    factor = unit(base, "bhattacharyya")
    P, Q = laws(p, q, method)
    value = closed_form("bhattacharyya", P, Q) if method in ("auto", "closed_form") else None
    if value is None:
        value = -torch.log1p(-f_value(SquaredHellinger(), P, Q, method).clamp(max=2) / 2)
    return answer(value * factor, p, q)


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
    a, b = discrete.as_empirical(P), discrete.as_empirical(Q)
    if a is not None and b is not None:
        return answer(transport.empirical(a, b, order, metric), p, q)
    return answer(_integral_metric("wasserstein", P, Q, method, order=order, metric=metric), p, q)


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
        a, b = discrete.as_empirical(P), discrete.as_empirical(Q)
        if a is not None and b is not None:
            value = _quadratic(a, b, DistanceInduced())
        else:
            value = _integral_metric("energy_distance", P, Q, method)
    return answer(value if squared else safe_sqrt(value), p, q)


def kolmogorov_smirnov(p: Any, q: Any, *, method: str = "auto") -> Any:
    """Return sup |F − G| of the distribution functions, in [0, 1]; probability vectors are ordered by index."""
    P, Q = laws(p, q, method)
    if isinstance(P, Probabilities):
        if P.values.shape[-1] != Q.values.shape[-1]:
            raise ValueError(f"p and q must share their last axis: got {P.values.shape} and {Q.values.shape}")
        return answer((P.values - Q.values).cumsum(-1).abs().amax(-1), p, q)
    a, b = discrete.as_empirical(P), discrete.as_empirical(Q)
    if any(law is not None and law.points.shape[1] > 1 for law in (a, b)):
        raise ValueError("kolmogorov_smirnov is defined on the line: got points with more than one coordinate")
    value: Tensor | float | None = None
    if a is not None and b is not None:
        value = transport.largest_gap_of_points(a, b)
    elif a is not None or b is not None:
        points, rest = (a, line(Q)) if a is not None else (b, line(P))
        value = None if rest is None or points is None else transport.largest_gap_to_line(points, rest)
    else:
        u, v = line(P), line(Q)
        value = None if u is None or v is None else transport.largest_cdf_gap(u, v)
    if value is None:
        raise missing("kolmogorov_smirnov", P, Q)
    return answer(value, p, q)


def _integral_metric(name: str, p: Any, q: Any, method: str, **parameters: Any) -> Tensor:
    value: Tensor | float | None = None
    if method in ("auto", "closed_form"):
        value = closed_form(name, p, q, **parameters)
    if value is None and method in ("auto", "quadrature"):
        a, b = line(p), line(q)
        if a is not None and b is not None:
            if name == "wasserstein":
                value = transport.of_lines(a, b, parameters["order"])
            elif name == "energy_distance":
                value = transport.squared_energy_of_lines(a, b)
    if value is None:
        raise missing(name, p, q)
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


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
