"""Exact Wasserstein distances on finite supports: the linear program, and quantiles on the line."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from torch import Tensor

from divergences.discrete import matched
from divergences.kernels import safe_sqrt, squared_distances
from divergences.laws import ConvergenceError, Empirical

METRICS = ("euclidean", "cityblock", "chebyshev")
ITERATIONS = 10_000_000


def empirical(p: Empirical, q: Empirical, order: float, metric: str) -> Tensor:
    """W_p between weighted points: quantiles for d = 1, else the linear program. Differentiable in the points."""
    x, y = p.points, q.points
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"p and q must have points of one dimension: got {tuple(x.shape)} and {tuple(y.shape)}")
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    x, y = x.to(dtype), y.to(dtype)
    weighs = torch.is_grad_enabled() and (p.weights.requires_grad or q.weights.requires_grad)
    if x.shape[1] == 1 and not weighs:  # the linear program has the gradient in the weights
        i, j, mass = _monotone_plan(x[:, 0], p.weights, y[:, 0], q.weights)
        return _root((mass.to(dtype) * (x[i, 0] - y[j, 0]).abs() ** order).sum(), order)
    distances = ground(x, y, metric)
    return linear_program(p.weights, q.weights, distances, order)


def ground(x: Tensor, y: Tensor, metric: str) -> Tensor:
    """Return the matrix of distances d(x_i, y_j)."""
    if metric == "euclidean":
        return safe_sqrt(squared_distances(x, y))
    if metric == "cityblock":
        return (x.unsqueeze(-2) - y.unsqueeze(-3)).abs().sum(-1)
    if metric == "chebyshev":
        return (x.unsqueeze(-2) - y.unsqueeze(-3)).abs().amax(-1)
    raise ValueError(f"metric must be one of {', '.join(METRICS)}: got {metric!r}")


def linear_program(a: Tensor, b: Tensor, distances: Tensor, order: float = 1) -> Tensor:
    """(min Σ Γ_ij d_ij^p)^{1/p} over couplings Γ of a (n,) and b (m,), by network simplex.

    Differentiable in the distances, with the plan held fixed (envelope theorem), and in weights on the simplex, where
    the dual potentials are the gradient.

    Raises:
        ValueError: empty weights, a cost of another shape, or one that is NaN, infinite or negative.
        ConvergenceError: the solver stopped before the optimum.
    """
    if a.ndim != 1 or b.ndim != 1 or 0 in (len(a), len(b)):
        raise ValueError(f"one problem with at least one outcome is needed: got {tuple(a.shape)} and {tuple(b.shape)}")
    if distances.shape != (len(a), len(b)):
        raise ValueError(f"cost must be ({len(a)}, {len(b)}): got {tuple(distances.shape)}")
    if not bool(distances.isfinite().all()) or bool((distances < 0).any()):
        raise ValueError("cost must be finite and non-negative: got NaN, infinite or negative entries")
    import ot

    weights_a, weights_b = (w.detach().double().cpu().numpy() for w in (a, b))
    weights_a, weights_b = weights_a / weights_a.sum(), weights_b / weights_b.sum()
    cost = distances**order
    matrix = np.ascontiguousarray(cost.detach().double().cpu().numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the status below says it, and an exception is raised
        plan, log = ot.emd(weights_a, weights_b, matrix, numItermax=ITERATIONS, log=True)
    if log["warning"] is not None or log["result_code"] != 1:
        raise ConvergenceError(f"the network simplex stopped before the optimum: {log['warning']}")
    total = (torch.as_tensor(plan, device=cost.device).to(cost.dtype) * cost).sum()
    for weights, potential in ((a, log["u"]), (b, log["v"])):
        if weights.requires_grad:
            gradient = torch.as_tensor(potential, device=cost.device).to(cost.dtype)
            total = total + (gradient * (weights - weights.detach()).to(cost.dtype)).sum()
    return _root(total, order)


def _monotone_plan(x: Tensor, a: Tensor, y: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the optimal coupling on the line, as (i, j, mass): both in order, cut at all cumulative weights."""
    sorted_x, sorted_y = x.detach().argsort(), y.detach().argsort()
    A, B = (w.detach().double().cumsum(0) for w in (a[sorted_x], b[sorted_y]))
    A, B = A / A[-1], B / B[-1]
    levels, _ = torch.cat([A, B]).sort()
    mass = torch.diff(levels, prepend=levels.new_zeros(1))
    middle = levels - mass / 2
    i = torch.searchsorted(A, middle).clamp(max=len(A) - 1)
    j = torch.searchsorted(B, middle).clamp(max=len(B) - 1)
    return sorted_x[i], sorted_y[j], mass


def _root(total: Tensor, order: float) -> Tensor:
    if order == 1:
        return total
    return torch.where(total > 0, torch.where(total > 0, total, 1.0) ** (1 / order), 0.0)


def largest_cdf_gap(p: Empirical, q: Empirical) -> Tensor:
    """Return the sup |F − G| of two weighted samples on the line."""
    a, b = matched(p, q)  # on the sorted union of the points
    return (a - b).cumsum(0).abs().max()
