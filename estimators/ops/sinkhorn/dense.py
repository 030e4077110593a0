"""Entropic optimal transport for a given cost matrix: the potentials that solve its dual.

For weights a, b, cost C and ε > 0 the dual is

    D(f, g) = ⟨a, f⟩ + ⟨b, g⟩ − ε (Σ_ij π_ij − 1),    π_ij = a_i b_j exp((f_i + g_j − C_ij)/ε),

and for marginals relaxed by ρ·KL the terms ⟨a, f⟩ become −ρ⟨a, e^(−f/ρ) − 1⟩. One sweep sets f, then g, to the exact
maximum given the other. Sweeps run on K = exp((f + g − C)/ε) with the potentials absorbed, one product each, and every
few of them one exact sweep in log space absorbs them anew, so that no ε overflows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

SWEEPS = 20  # products between two exact sweeps
PLAIN = 6  # of them unrelaxed: they measure the rate from which the relaxation follows
NEAR = 0.1  # marginal error below which over-relaxation is safe: further away it may circle
FARTHEST = 50.0  # |log u| beyond which the absorbed products lose digits in single precision


class Solution(NamedTuple):
    """Potentials f (..., n) and g (..., m), the dual value, the L1 error of the first marginal, and the sweeps done."""

    f: Tensor
    g: Tensor
    value: Tensor
    error: Tensor
    sweeps: int


def solve(
    C: Tensor,
    a: Tensor,
    b: Tensor,
    epsilon: Tensor,
    rho: Tensor | None = None,
    *,
    symmetric: bool = False,
    tolerance: float = 1e-3,
    iterations: int = 1000,
    progress: Callable[[int], None] | None = None,
) -> Solution:
    """The potentials for cost C (..., n, m), weights a (..., n), b (..., m), and ε (...,), without a gradient.

    ε falls in steps of 4 from the largest cost, with a round of sweeps at each (annealing), then sweeps run until the
    marginal error of every problem is at most ``tolerance`` or ``iterations`` are done; the caller looks at ``error``.
    ``symmetric`` says that the two measures are the same: then f = g, and averaged updates, f ← (f + T(f))/2, halve the
    error each time. ``progress`` is told the sweeps done so far, from time to time.
    Cost: O(nm) a sweep; memory two matrices of the size of C.

    References: Peyré and Cuturi 2019, remark 4.23 and section 4.4 (stabilisation); Lehmann et al. 2021, eq. (12)
    (over-relaxation); Séjourné et al. 2019, proposition 7 (ρ).
    """
    C, a, b, epsilon = C.detach(), a.detach(), b.detach(), epsilon.detach()
    log_a, log_b = a.log(), b.log()
    e = epsilon[..., None]
    top = (C * ((a > 0)[..., :, None] & (b > 0)[..., None, :])).amax((-2, -1))
    none_x, none_y = a == 0, b == 0
    # Between two points without weight nothing holds f + g − C down, and 0·∞ would be no number.
    padded = none_x[..., :, None] & none_y[..., None, :] if bool(none_x.any()) and bool(none_y.any()) else None
    if not bool(torch.isfinite(top).all()):
        raise ValueError(f"the costs between x and y must be finite: the largest is {float(top.sum())}")
    steps = max(0, math.ceil(math.log(max(float((top / epsilon).max()), 1.0), 4.0)))

    def damp(h: Tensor, e: Tensor) -> Tensor:
        return h if rho is None else h / (1 + e / rho[..., None])

    def update_f(g: Tensor, e: Tensor) -> Tensor:
        return damp(-e * torch.logsumexp((g[..., None, :] - C) / e[..., None] + log_b[..., None, :], -1), e)

    def update_g(f: Tensor, e: Tensor) -> Tensor:
        return damp(-e * torch.logsumexp((f[..., :, None] - C) / e[..., None] + log_a[..., :, None], -2), e)

    def mismatch(f: Tensor, f_new: Tensor, e: Tensor) -> Tensor:
        return (a * torch.expm1(((f - f_new) / e).clamp(max=FARTHEST)).abs()).sum(-1)

    f, g = torch.zeros_like(C[..., 0]), torch.zeros_like(C[..., 0, :])
    sweeps = steps + 1
    for k in range(steps + 1):
        scale = torch.maximum(epsilon, top * 4.0**-k)[..., None]
        if symmetric:
            f = (f + update_f(f, scale)) / 2 if k else update_f(f, scale) / 2
            g = f
        else:
            f = update_f(g, scale)
            g = update_g(f, scale)
            if 0 < k < steps and sweeps < iterations:
                near = mismatch(f, update_f(g, scale), scale) < NEAR
                f, g = _absorbed(C, a, b, scale, rho, f, g, near, symmetric, padded)
                sweeps += 1 + SWEEPS
    before = torch.full_like(epsilon, math.inf)
    while True:
        if progress is not None:
            progress(sweeps)
        f_new = update_f(g, e)
        error = mismatch(f, f_new, e)
        if symmetric:
            f, g = ((f + f_new) / 2,) * 2
        else:
            f, g = f_new, update_g(f_new, e)
        if sweeps >= iterations or bool((error <= tolerance).all()):
            break
        near = (error < before) & (error < NEAR)
        before = error
        f, g = _absorbed(C, a, b, e, rho, f, g, near, symmetric, padded)
        sweeps += 1 + SWEEPS
    if symmetric:
        g = update_g(f, e)
    value = dual(C, a, b, epsilon, rho, f, g)
    return Solution(f, g, value, error, sweeps)


def _absorbed(
    C: Tensor,
    a: Tensor,
    b: Tensor,
    e: Tensor,
    rho: Tensor | None,
    f: Tensor,
    g: Tensor,
    near: Tensor,
    symmetric: bool,
    padded: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Sweeps from (f, g) as products with K, over-relaxed where ``near``; (f, g) where they leave safe ground."""
    K = torch.exp((f[..., :, None] + g[..., None, :] - C) / e[..., None])
    if padded is not None:
        K.masked_fill_(padded, 0.0)
    KT = K.transpose(-2, -1)
    damping = 1.0 if rho is None else 1 / (1 + e / rho[..., None])
    f_e, g_e = f / e, g / e
    u, v = torch.zeros_like(f), torch.zeros_like(g)  # f + ε u and g + ε v are the potentials

    def target(product: Tensor, own: Tensor) -> Tensor:
        return damping * (own - product.clamp_min(1e-38).log()) - own if rho is not None else -product.log()

    def times(M: Tensor, v: Tensor) -> Tensor:
        return (M @ v.unsqueeze(-1)).squeeze(-1)

    if symmetric:
        for _ in range(SWEEPS):
            u = (u + target(times(K, b * u.exp()), f_e)) / 2
        v = u
    else:
        omega: Tensor | float = 1.0
        change = torch.ones_like(e)
        for k in range(SWEEPS):
            move = target(times(K, b * v.exp()), f_e) - u
            u = u + omega * move
            v = v + omega * (target(times(KT, a * u.exp()), g_e) - v)
            if k == PLAIN - 2:
                change = (a * move.abs()).sum(-1, keepdim=True)
            elif k == PLAIN - 1:
                rate = ((a * move.abs()).sum(-1, keepdim=True) / change.clamp_min(1e-30)).clamp(0.0, 0.999)
                omega = torch.where(near[..., None], 2 / (1 + (1 - rate).sqrt()), 1.0)
    furthest = torch.maximum(u.abs().amax(-1, keepdim=True), v.abs().amax(-1, keepdim=True))
    safe = furthest < FARTHEST  # false for NaN as well
    f_new, g_new = torch.where(safe, f + e * u, f), torch.where(safe, g + e * v, g)
    return f_new, g_new


def plan(C: Tensor, a: Tensor, b: Tensor, epsilon: Tensor, f: Tensor, g: Tensor) -> Tensor:
    """π_ij = a_i b_j exp((f_i + g_j − C_ij)/ε)."""
    e = epsilon[..., None]  # weights as logarithms: padding gives e^(−∞), however large its potentials are
    return torch.exp((f / e + a.log())[..., :, None] + (g / e + b.log())[..., None, :] - C / e[..., None])


def dual(C: Tensor, a: Tensor, b: Tensor, epsilon: Tensor, rho: Tensor | None, f: Tensor, g: Tensor) -> Tensor:
    """D(f, g), which is at most the value of the problem and wrong by the square of the error of f and g."""
    mass = plan(C, a, b, epsilon, f, g).sum((-2, -1))
    if rho is None:
        return (a * f).sum(-1) + (b * g).sum(-1) - epsilon * (mass - 1)
    r = rho[..., None]
    return -rho * ((a * torch.expm1(-f / r)).sum(-1) + (b * torch.expm1(-g / r)).sum(-1)) - epsilon * (mass - 1)


def primal(C: Tensor, a: Tensor, b: Tensor, epsilon: Tensor, rho: Tensor | None, f: Tensor, g: Tensor) -> Tensor:
    """The cost of a feasible plan near π(f, g), at least the value of the problem: with `dual`, a certified gap.

    For exact marginals π is rounded onto them.
    """
    pi = plan(C, a, b, epsilon, f, g)
    if rho is None:
        pi = rounded(pi, a, b)
    product = a[..., :, None] * b[..., None, :]
    cost = (pi * C).sum((-2, -1)) + epsilon * _kl(pi, product, (-2, -1))
    if rho is None:
        return cost
    return cost + rho * (_kl(pi.sum(-1), a, (-1,)) + _kl(pi.sum(-2), b, (-1,)))


def rounded(pi: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """A plan with marginals a and b near π ≥ 0. References: Altschuler et al. 2017, algorithm 2."""
    pi = pi * (a / pi.sum(-1)).nan_to_num(1.0).clamp(max=1.0)[..., :, None]
    pi = pi * (b / pi.sum(-2)).nan_to_num(1.0).clamp(max=1.0)[..., None, :]
    # By rounding alone a side may be owed nothing, or less, while the other is: it is then filled by neither.
    left_a, left_b = (a - pi.sum(-1)).clamp_min(0.0), (b - pi.sum(-2)).clamp_min(0.0)
    total = left_b.sum(-1, keepdim=True)
    share = torch.where(total > 0, left_b / torch.where(total > 0, total, 1.0), 0.0)
    return pi + left_a[..., :, None] * share[..., None, :]


def _kl(p: Tensor, q: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Σ p log(p/q) − p + q, with 0 log 0 = 0."""
    return (torch.xlogy(p, p / q).nan_to_num(0.0) - p + q).sum(axes)
