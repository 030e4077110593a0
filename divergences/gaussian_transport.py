"""Wasserstein distances of Gaussians: order 2 in any dimension, any order along a translation, and on the line.

W₂² = ‖Δ‖² + B², B² = tr Σ_p + tr Σ_q − 2 tr(Σ_p^½Σ_qΣ_p^½)^½ the Bures distance. With N = L_qᵀL_p and its orthogonal
polar factor U, B² = min ‖L_p − L_qU‖² over orthogonal U (Bhatia, Jain, Lim 2019, theorem 1).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from divergences.atoms import atoms
from divergences.distances import safe_power, safe_sqrt
from divergences.embeddings import mean_distance
from divergences.exact import exact
from divergences.laws import Empirical
from divergences.moments import GAUSSIANS, Moments, result_type
from divergences.nuclear import nuclear_norms
from divergences.scales import folded_mean

_MANY = 64  # pairs from which the sum of singular values is worth its own iteration


def wasserstein(p: Moments, q: Moments, order: float, metric: str) -> Tensor | None:
    """W_p between Gaussians, where there is a closed form; else None.

    - equal covariances: the norm of Δ, at every order and metric (a translation; the bound is Jensen's);
    - order 2, Euclidean (or d = 1): √(‖Δ‖² + B²);
    - d = 1, whole orders: (E|Δ + (σ_p − σ_q)z|^p)^{1/p};
    - independent coordinates, order 1, cityblock: the sum over coordinates.
    """
    shift = p.mean - q.mean
    line = shift.shape[-1] == 1
    if line:
        metric = "euclidean"
    diagonal = p.deviation is not None and q.deviation is not None
    if order == 2 and metric == "euclidean":
        if diagonal:
            return safe_sqrt((shift**2 + (p.deviation - q.deviation) ** 2).sum(-1))  # type: ignore[operator]
        return safe_sqrt((shift**2).sum(-1) + squared_bures(p.factor, q.factor))
    if line and order == int(order):
        moment = folded_moment(shift, p.factor[..., 0] - q.factor[..., 0], int(order)).squeeze(-1)
        return moment if order == 1 else safe_power(moment, 1 / order)
    if diagonal and order == 1 and metric == "cityblock":
        return folded_moment(shift, p.deviation - q.deviation, 1).sum(-1)  # type: ignore[operator]
    if not bool((p.factor == q.factor).all()):
        return None
    if metric == "euclidean":
        return safe_sqrt((shift**2).sum(-1))
    return shift.abs().sum(-1) if metric == "cityblock" else shift.abs().amax(-1)


def folded_moment(mean: Tensor, deviation: Tensor, order: int) -> Tensor:
    """E|W|^p of W = m + sz for a whole p, by E W^n g(W) = m E W^{n−1} g + (n − 1)s² E W^{n−2} g, g = 1 or the sign."""
    m, s = mean.abs(), deviation.abs()
    if order % 2:
        wide = s > 0
        below = torch.where(wide, torch.erf(m / torch.where(wide, s, 1.0) / math.sqrt(2)), 1.0)  # E g(W)
        last = folded_mean(mean, deviation)
    else:
        below, last = torch.ones_like(m), m
    for n in range(2, order + 1):
        below, last = last, m * last + (n - 1) * s**2 * below
    return last


def squared_bures(L_p: Tensor, L_q: Tensor) -> Tensor:
    """B² of LLᵀ from both factors (..., d, d). Twice differentiable wherever a covariance has full rank."""
    batch = torch.broadcast_shapes(L_p.shape, L_q.shape)
    return _SquaredBures.apply(L_p.expand(batch), L_q.expand(batch))


class _SquaredBures(torch.autograd.Function):
    """The minimum over U has the gradient at the minimiser: that of U is needed for the second derivative alone."""

    @staticmethod
    def forward(ctx: Any, L_p: Tensor, L_q: Tensor) -> Tensor:
        if not any(ctx.needs_input_grad) and L_p[..., 0, 0].numel() >= _MANY:
            return _many(L_p, L_q)
        value, U = _with_rotation(L_p, L_q)
        ctx.save_for_backward(L_p, L_q, U)
        return value

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        L_p, L_q, U = ctx.saved_tensors
        if torch.is_grad_enabled():
            U = _Polar.apply(L_q.mT @ L_p)
        g = 2 * grads[0][..., None, None]
        return g * (L_p - L_q @ U), g * (L_q - L_p @ U.mT)


class _Polar(torch.autograd.Function):
    """U of N = UP, P = (NᵀN)^½. With N = W diag(s) Vᵀ, dU = W [(Z − Zᵀ)_ij/(s_i + s_j)] Vᵀ, Z = WᵀdN V."""

    @staticmethod
    def forward(ctx: Any, N: Tensor) -> Tensor:
        W, s, Vh = torch.linalg.svd(N)
        ctx.save_for_backward(W, s, Vh)
        return W @ Vh

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        W, s, Vh = ctx.saved_tensors
        H = W.mT @ grads[0] @ Vh.mT
        scale = s.unsqueeze(-1) + s.unsqueeze(-2)
        return W @ torch.where(scale > 0, (H - H.mT) / torch.where(scale > 0, scale, 1.0), 0.0) @ Vh


def _with_rotation(L_p: Tensor, L_q: Tensor) -> tuple[Tensor, Tensor]:
    """B² and U, with the digits of L_p − L_q where the laws are close."""
    N = L_q.mT @ L_p
    W, s, Vh = torch.linalg.svd(N)
    I = torch.eye(L_p.shape[-1], dtype=L_p.dtype, device=L_p.device)  # noqa: E741
    same = (L_p == L_q).all(-1).all(-1)[..., None, None]
    U = torch.where(same, I, W @ Vh)
    value = ((L_p - L_q @ U) ** 2).sum((-2, -1))
    close = (value < 1e-8 * (L_p**2).sum((-2, -1))) & ((U - I).abs().amax((-2, -1)) < 0.1)
    if bool(close.any()):
        K = torch.where(close[..., None, None], U, I) - I
        D = torch.where(close[..., None, None], L_p - L_q - L_q @ _refined(K, L_p, L_q, N, s, Vh), 0.0)
        value = torch.where(close, (D**2).sum((-2, -1)), value)
    return value, U


def _refined(K: Tensor, L_p: Tensor, L_q: Tensor, N: Tensor, s: Tensor, Vh: Tensor) -> Tensor:
    """U − I = 2(I − A)⁻¹A of a skew A, orthogonal to the precision of A, one Newton step on skew(UᵀN) = 0 from K."""
    I = torch.eye(K.shape[-1], dtype=K.dtype, device=K.device)  # noqa: E741
    A = torch.linalg.solve(2 * I + K, K)
    A = (A - A.mT) / 2
    K = 2 * torch.linalg.solve(I - A, A)
    rest = L_q.mT @ (L_p - L_q) + K.mT @ N  # UᵀN less L_qᵀL_q, which is symmetric
    Z = Vh @ (rest - rest.mT) @ Vh.mT / (s.unsqueeze(-1) + s.unsqueeze(-2)).clamp(min=torch.finfo(s.dtype).tiny)
    A = A + Vh.mT @ Z @ Vh / 2
    A = (A - A.mT) / 2
    return 2 * torch.linalg.solve(I - A, A)


def _many(L_p: Tensor, L_q: Tensor) -> Tensor:
    """B² of many pairs at once, by the sum of singular values where that is certain to 1e-9, else with U.

    The bound is generous: errors of 1e-12 are usual.
    """
    shape = L_p.shape[:-2]
    L_p, L_q = (L.reshape(-1, *L.shape[-2:]) for L in (L_p, L_q))
    traces = torch.linalg.matrix_norm(L_p) ** 2 + torch.linalg.matrix_norm(L_q) ** 2
    total, error = nuclear_norms(L_p, L_q)
    value = traces - 2 * total
    rest = ~(2 * error + 1e-15 * traces < 1e-9 * value)
    if bool(rest.any()):
        value[rest] = _with_rotation(L_p[rest], L_q[rest])[0]
    return value.reshape(shape)


def _of_point(p: Any, q: Any, order: float, metric: str) -> Tensor | None:
    """W_p(δ_x, Q)^p = E‖x − Y‖^p: the only coupling. Orders 1 to 2, Euclidean (or d = 1)."""
    point = p if isinstance(p, Empirical) else q
    other = q if point is p else p
    a, b = atoms(p), atoms(q)
    if len(point.points) != 1 or isinstance(other, Empirical) or a is None or b is None or order > 2:
        return None
    if a.means.shape[-1] != b.means.shape[-1]:
        raise ValueError(f"p and q must have one dimension: got {a.means.shape[-1]} and {b.means.shape[-1]}")
    if metric != "euclidean" and a.means.shape[-1] > 1:
        return None
    if order == 2:
        moment = a.difference(b).mean_square().squeeze((-2, -1)).to(result_type(p, q))
    else:
        found = mean_distance(p, q, order)
        assert found is not None
        moment = found
    return safe_power(moment, 1 / order)


for _law in GAUSSIANS:
    exact("wasserstein", Empirical, _law)(_of_point)
    exact("wasserstein", _law, Empirical)(_of_point)
