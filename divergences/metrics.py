"""The public functions of metric spaces and kernels: transport, MMD, energy distance, Kolmogorov–Smirnov.

``p`` (P, the data or target) and ``q`` (Q, the model or reference) are as in `divergences.values`: the laws, the kinds
that come out, ``method`` and what is raised. Gradients reach the points of samples and the parameters of Gaussians; a
way without a gradient refuses parameters that wait for one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from divergences import countable, discrete, embeddings, kernels, line_metrics, line_mmd, transport
from divergences._arrays import tensor
from divergences.batches import batched
from divergences.distances import safe_sqrt
from divergences.evaluate import answer, laws
from divergences.exact import closed_form, missing
from divergences.kernels import DistanceInduced, Kernel
from divergences.laws import Empirical, Probabilities
from divergences.moments import pair as gaussians
from divergences.named import other


@other(is_symmetric=True, is_metric=True)
def wasserstein(
    p: Any, q: Any, order: float = 1, metric: str = "euclidean", *, cost: Any = None, method: str = "auto"
) -> Any:
    """Wasserstein distance W_p(P, Q) = (min E d(X, Y)^p)^{1/p} over couplings: the distance itself.

    Between finite supports it is the exact linear program (quantiles for d = 1), between Gaussians the Bures form at
    order 2, between laws on the line or the integers an integral of distribution functions or quantiles, points
    against a law on the line included. Range: [0, ∞]; inf without a p-th moment where the quantiles differ so much.
    Cost: O(n³ log n) for n points in the plane or higher, O(n log n) on the line. Villani 2009, definition 6.1.

    Args:
        p: P, a law with points. Probability vectors carry none and need ``cost``.
        q: Q.
        order: p ≥ 1.
        metric: "euclidean", "cityblock" or "chebyshev"; the same on the line.
        cost: distances d(xᵢ, yⱼ), (n, m), between the outcomes of two probability vectors; their p-th power is moved.
        method: as everywhere.

    Raises:
        ConvergenceError: the linear program's solver stopped early.

    Example:
        >>> from divergences import Empirical
        >>> wasserstein(Empirical([0.0, 1.0]), Empirical([1.0, 3.0]))
        1.5
    """
    if isinstance(order, str) or not 1 <= order < math.inf:
        raise ValueError(f"order must be a number, at least 1 and finite: got {order!r}")
    if metric not in transport.METRICS:
        raise ValueError(f"metric must be one of {', '.join(transport.METRICS)}: got {metric!r}")
    P, Q = laws(p, q, method)
    if isinstance(P, Probabilities):
        value = transport.linear_program(P.values, Q.values, _cost(cost, "wasserstein"), order)
        return answer(value, p, q)
    _refuse(cost)
    return answer(_by_first_way("wasserstein", P, Q, method, order=order, metric=metric), p, q)


@other(is_symmetric=True, is_metric=False)
def mmd(p: Any, q: Any, kernel: Kernel | str, squared: bool = True, *, method: str = "auto") -> Any:
    """Squared maximum mean discrepancy MMD² = E k(X, X') + E k(Y, Y') − 2 E k(X, Y) of P (data) and Q (model).

    Exact for samples, in closed form for Gaussians, their mixtures and points in any dimension, and by quadrature for
    other laws on the line, with every kernel.
    Range: [0, ∞); with ``squared=False`` its root, a metric for characteristic kernels. Cost: O(n²d) for n points.
    Gretton et al. 2012, lemma 6.

    Args:
        p: P, a law with points.
        q: Q.
        kernel: one of `divergences.kernels` or its name; between samples any k(x, y) of tensors (n, d) and (m, d). A
            "median" bandwidth needs samples, and no gradient passes through it.
        squared: whether the root is not taken.
        method: as everywhere.

    Example:
        >>> from scipy import stats
        >>> from divergences.kernels import Gaussian
        >>> round(mmd(stats.norm(0, 1), stats.norm(1, 1), Gaussian(1.0)), 6)
        0.177268
    """
    P, Q = laws(p, q, method)
    if isinstance(P, Probabilities):
        raise TypeError("probability vectors carry no points for a kernel: pass Empirical(points, weights)")
    if isinstance(kernel, str):
        kernel = kernels.get(kernel)
    if not callable(kernel):
        raise TypeError(f"kernel must be one of divergences.kernels or k(x, y): got {kernel!r}")
    a, b = (law if found is None else found for law, found in _finite(P, Q))
    if isinstance(kernel, Kernel):
        kernel = embeddings.resolved(kernel, a, b)
    if isinstance(kernel, DistanceInduced) and kernel.order == 1:
        value = _by_first_way("energy_distance", P, Q, method)
    else:
        value = _by_first_way("mmd", P, Q, method, kernel=kernel)
    return answer(value if squared else safe_sqrt(value), p, q)


@other(is_symmetric=True, is_metric=False)
def energy_distance(p: Any, q: Any, squared: bool = True, *, cost: Any = None, method: str = "auto") -> Any:
    """Energy distance 2E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖ of P (data) and Q (model): the squared statistic.

    On the line it is 2∫(F − G)². Range: [0, ∞]; with ``squared=False`` its root, a metric. Székely, Rizzo 2005, eq. 1.

    Args:
        p: P, a law with points, or probabilities of outcomes with ``cost``.
        q: Q.
        squared: whether the root is not taken.
        cost: for probability vectors, the (n, n) distances between the outcomes, which both share.
        method: as everywhere.

    Example:
        >>> from divergences import PointMass
        >>> energy_distance(PointMass(0.0), PointMass(3.0))
        6.0
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
        value = _by_first_way("energy_distance", P, Q, method)
    return answer(value if squared else safe_sqrt(value), p, q)


@other(is_symmetric=True, is_metric=True, upper_bound=1.0)
def kolmogorov_smirnov(p: Any, q: Any, *, method: str = "auto") -> Any:
    """Kolmogorov–Smirnov distance sup |F − G| of the distribution functions of P and Q, laws on the line.

    Probability vectors are ordered by index. Range: [0, 1]; a metric, at most the total variation. Kolmogorov 1933.

    Example:
        >>> kolmogorov_smirnov([0.5, 0.5, 0.0], [0.0, 0.5, 0.5])
        0.5
    """
    P, Q = laws(p, q, method)
    if isinstance(P, Probabilities):
        if P.values.shape[-1] != Q.values.shape[-1]:
            shapes = tuple(P.values.shape), tuple(Q.values.shape)
            raise ValueError(f"p and q must have the same number of outcomes: got {shapes[0]} and {shapes[1]}")
        return answer((P.values - Q.values).cumsum(-1).abs().amax(-1), p, q)
    if any(isinstance(law, Empirical) and law.points.shape[1] > 1 for law in (P, Q)):
        raise ValueError("kolmogorov_smirnov is defined on the line: got points with more than one coordinate")
    return answer(_by_first_way("kolmogorov_smirnov", P, Q, method), p, q)


_ON_FINITE: dict[str, Callable[..., Tensor | None]] = {
    "wasserstein": transport.empirical,
    "mmd": embeddings.squared_mmd,
    "energy_distance": embeddings.squared_energy,
    "kolmogorov_smirnov": transport.largest_cdf_gap,
}
_ON_INTEGERS: dict[str, Callable[..., Tensor]] = {
    "wasserstein": countable.wasserstein,
    "energy_distance": countable.squared_energy,
    "kolmogorov_smirnov": countable.largest_cdf_gap,
}
_ON_LINE: dict[str, Callable[..., Tensor]] = {
    "wasserstein": line_metrics.wasserstein,
    "mmd": line_mmd.squared_mmd,
    "energy_distance": line_metrics.squared_energy,
    "kolmogorov_smirnov": line_metrics.largest_cdf_gap,
}


def _by_first_way(name: str, p: Any, q: Any, method: str, **parameters: Any) -> Tensor:
    """Finite supports, then a closed form, then sums over the integers, then distribution functions on the line."""
    (p, a), (q, b) = _finite(p, q)
    if a is not None and b is not None:
        if method not in ("auto", "discrete"):
            raise ValueError(f'laws on finite supports need method="discrete" or "auto": got {method!r}')
        value = _ON_FINITE[name](a, b, **parameters)
        assert value is not None  # points are atoms
        return value
    value = closed_form(name, p, q, **parameters) if method in ("auto", "closed_form") else None
    on_line = {key: given for key, given in parameters.items() if key != "metric"}  # all are |x − y| there
    if value is None and method in ("auto", "discrete") and name in _ON_INTEGERS:
        sums = countable.pair(p, q)
        value = None if sums is None else _ON_INTEGERS[name](*sums, **on_line)
    if value is None and method in ("auto", "quadrature") and name in _ON_LINE:
        value = batched(_ON_LINE[name], p if a is None else a, q if b is None else b, **on_line)
    if value is None:
        raise _missing(name, p, q)
    return value


def _finite(p: Any, q: Any) -> tuple[tuple[Any, Empirical | None], tuple[Any, Empirical | None]]:
    """Each law beside what it is as weighted points, None where its support is not finite."""
    return (p, discrete.as_empirical(p)), (q, discrete.as_empirical(q))


def _missing(name: str, p: Any, q: Any) -> NotImplementedError:
    way = "dv.monte_carlo is for f-divergences alone, so draw from both and estimate it"
    if name == "wasserstein" and gaussians(p, q) is not None:
        way = f"between Gaussians order=2 has a closed form; {way}"
    return missing(name, p, q, way)


def _cost(cost: Any, name: str) -> Tensor:
    if cost is None:
        raise TypeError(
            f"{name} of probability vectors needs cost=, or Empirical(points, weights): they carry no points"
        )
    return tensor(cost)


def _refuse(cost: Any) -> None:
    if cost is not None:
        raise TypeError("cost= is for probability vectors: these laws carry their own points")
