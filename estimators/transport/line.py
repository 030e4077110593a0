"""Transport on the line: exact by sorting, its potentials, and limits of it through a root."""

from __future__ import annotations

import torch
from torch import Tensor

from estimators.base import Inference
from estimators.ops import sort1d


def one_dimensional(
    x: Tensor, y: Tensor, order: float, x_weights: Tensor | None = None, y_weights: Tensor | None = None
) -> Tensor:
    """W_p^p of samples on the line, ∫ |F⁻¹(t) − G⁻¹(t)|^p dt, for x (..., n) and y (..., m), differentiable, p ≥ 1.

    Both quantile functions are steps; they are matched on the union of their jumps. Cost: a sort.
    """
    if x_weights is None and y_weights is None:
        return sort1d.quantile_power(x, y, order)
    i, j, w, x, y = _staircase(x, y, x_weights, y_weights)
    return (w * _power(x.gather(-1, i) - y.gather(-1, j), order)).sum(-1)


def monotone_arcs(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The pairs (i, j) that the plan which matches quantiles uses, n + m of them, and the mass of each."""
    order_x, order_y = x.argsort(dim=-1, stable=True), y.argsort(dim=-1, stable=True)
    i, j, w, _, _ = _staircase(x[order_x], y[order_y], a[order_x], b[order_y])
    return order_x[i], order_y[j], w


def monotone_plan(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """The plan (n, m) that matches quantiles, for x (n,), y (m,) and weights a, b: optimal for every order."""
    i, j, w = monotone_arcs(x, y, a, b)
    plan = torch.zeros(len(x), len(y), dtype=x.dtype, device=x.device)
    return plan.index_put_((i, j), w, accumulate=True)


def _staircase(
    x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Indices into the sorted points, the mass of each pair (..., n + m), and the sorted points."""
    x, F = _steps(x, a)
    y, G = _steps(y, b)
    lead = torch.broadcast_shapes(x.shape[:-1], y.shape[:-1])
    levels, source = torch.cat([T.expand(*lead, T.shape[-1]) for T in (F, G)], -1).sort(dim=-1, stable=True)
    w = levels.diff(dim=-1, prepend=torch.zeros_like(levels[..., :1]))
    # One index advances at each level, also at equal levels: the derivative in the weights needs the step of mass 0.
    of_x = source < F.shape[-1]
    i = (of_x.cumsum(-1) - of_x.long()).clamp(max=F.shape[-1] - 1)
    j = ((~of_x).cumsum(-1) - (~of_x).long()).clamp(max=G.shape[-1] - 1)
    return i, j, w, x.expand(*lead, x.shape[-1]), y.expand(*lead, y.shape[-1])


def _steps(x: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sorted points and the distribution function after each, which ends at 1."""
    x, index = x.sort(dim=-1, stable=True)
    if weights is None:
        weights = torch.full_like(x, 1 / x.shape[-1])
    F = weights.expand_as(index).gather(-1, index).cumsum(-1)
    return x, F / F[..., -1:]


def _power(difference: Tensor, order: float) -> Tensor:
    if order == 2:
        return difference.square()
    return difference.abs() if order == 1 else difference.abs().pow(order)


def root(value: Tensor, order: float) -> Tensor:
    """value^(1/order), with the subgradient 0 at 0."""
    if order == 1:
        return value
    none = value <= 0  # false for NaN, which stays
    return torch.where(none, 0.0, torch.where(none, 1.0, value).pow(1 / order))


def rooted_inference(found: Inference, order: float) -> Inference:
    """The inference on W_p from one on W_p^p: limits through the root, the error by the delta method."""
    value = max(found.value, 0.0) ** (1 / order)
    stderr = None if found.stderr is None or value == 0 else found.stderr / (order * value ** (order - 1))
    interval = found.interval
    if interval is not None:
        low, high = (max(limit, 0.0) ** (1 / order) for limit in interval)
        interval = (low, high)
    return found._replace(value=value, stderr=stderr, interval=interval)
