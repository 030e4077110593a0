"""Closed forms between Gaussians, of any dimension and batch shape; `gaussian_transport` has those of Wasserstein.

Δ = μ_p − μ_q, Σ = LLᵀ. The forms are computed in float64 in coordinates where Q is standard, from

    E = L_q⁻¹(L_p − L_q),   δ = L_q⁻¹Δ,   so that P becomes N(δ, MMᵀ), M = I + E.

L_p − L_q has no rounding where the laws are close, and the leading terms, which cancel there, are never formed: a value
has the same digits near P = Q as far from it. All are differentiable twice in the parameters. A law is taken at its
``scale_tril``: one made from a covariance of condition κ has lost κ·1e-16 to that factor already.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.distributions as td
from torch import Tensor

from divergences import gaussian_transport
from divergences._arrays import with_infinity
from divergences.distances import safe_sqrt
from divergences.exact import exact
from divergences.moments import GAUSSIANS, Moments, moments, pair, result_type, same

__all__ = ["Moments", "kl", "log_affinity", "log_ess_sup", "log_mass", "mahalanobis", "moments", "pair"]

_EPSILON = torch.finfo(torch.float64).eps
_SQRT2 = math.sqrt(2)
_NEAR = 0.25  # ‖F‖, F = MMᵀ − I, below which the affinity is written without its leading terms
_WIDE = 1e4  # ‖F‖ above which MMᵀ loses the digits of its small eigenvalues, and M is factored instead

Form = Callable[..., Tensor | None]


def gaussians(divergence: str) -> Callable[[Form], Form]:
    """Register a form that takes two `Moments` for every pair of Gaussian types."""

    def register(form: Form) -> Form:
        def of_laws(p: Any, q: Any, **parameters: Any) -> Tensor | None:
            both = pair(p, q)
            value = None if both is None else form(*both, **parameters)
            return None if value is None else value.to(result_type(p, q))

        for a in GAUSSIANS:
            for b in GAUSSIANS:
                if (divergence, a, b) != ("log_affinity", td.Independent, td.Independent):  # any product of laws has it
                    exact(divergence, a, b)(of_laws)
        return form

    return register


class _Whitened(NamedTuple):
    """E (..., d, d), or its diagonal (..., d); δ (..., d); log m_ii (..., d); x − log(1 + x) at x = e_ii (..., d)."""

    E: Tensor
    delta: Tensor
    log_m: Tensor
    gap: Tensor

    @property
    def is_diagonal(self) -> bool:
        return self.E.ndim == self.log_m.ndim

    def squares(self) -> Tensor:
        """‖E‖²."""
        return (self.E**2).sum(-1) if self.is_diagonal else (self.E**2).sum((-2, -1))


def _whitened(p: Moments, q: Moments) -> _Whitened:
    shift = p.mean - q.mean
    if p.deviation is not None and q.deviation is not None:
        E, delta = (p.deviation - q.deviation) / q.deviation, shift / q.deviation
        e, numerator, denominator = E, p.deviation, q.deviation
    else:
        L_p, L_q = p.factor, q.factor
        E = torch.linalg.solve_triangular(L_q, L_p - L_q, upper=False)
        delta = torch.linalg.solve_triangular(L_q, shift.unsqueeze(-1), upper=False).squeeze(-1)
        e, numerator, denominator = (M.diagonal(dim1=-2, dim2=-1) for M in (E, L_p, L_q))
    gap, log_m = gap_and_log(e, numerator / denominator)
    return _Whitened(E, delta, log_m, gap)


def gap_and_log(x: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """X − log u ≥ 0 and log u, u = 1 + x > 0, with all their digits; for small x by log u = 2 artanh(x/(2 + x))."""
    near = x.abs() < 0.05
    y = torch.where(near, x, 0.0)
    r = y / (2 + y)
    r2 = r * r
    series = r2 / 11 + 1 / 9
    for k in (7, 5, 3):
        series = r2 * series + 1 / k
    small = r * (y - 2 * r2 * series)
    log = torch.where(near, y - small, u.log())
    return torch.where(near, small, x - log), log


@gaussians("kl")
def kl(p: Moments, q: Moments) -> Tensor:
    """½[tr(Σ_q⁻¹Σ_p) − d − log|Σ_q⁻¹Σ_p| + ΔᵀΣ_q⁻¹Δ] = Σᵢ (e_ii − log(1 + e_ii)) + ½‖E‖² + ½‖δ‖², in [0, ∞).

    Every term is non-negative, so nothing cancels. Cost: O(d³), one triangular solve.
    """
    w = _whitened(p, q)
    return w.gap.sum(-1) + (w.squares() + (w.delta**2).sum(-1)) / 2


@gaussians("log_affinity")
def log_affinity(p: Moments, q: Moments, alpha: float) -> Tensor:
    """Return log ∫ p^a q^b = ½[b log|MMᵀ| − log|S| − ab δᵀS⁻¹δ], a = α, b = 1 − α, S = aI + b MMᵀ, in (−∞, ∞].

    It is infinite exactly where S is not positive definite. For a < ½ the laws change places, so that b ≤ ½ and nothing
    cancels as α tends to 0 or 1. Cost: O(d³). References: Gil, Alajaji, Linder 2013, table 2.
    """
    a, b = alpha, 1 - alpha
    if a < 0.5:
        p, q, a, b = q, p, b, a
    w = _whitened(p, q)
    return _diagonal_affinity(w, a, b) if w.is_diagonal else _full_affinity(w, a, b)


def _diagonal_affinity(w: _Whitened, a: float, b: float) -> Tensor:
    f = w.E * (2 + w.E)  # m² − 1
    finite = b * f > -1
    f = torch.where(finite, f, 0.0)
    gap, log_s = gap_and_log(b * f, 1 + b * f)
    near = f.abs() * max(1, abs(b)) < _NEAR
    close = gap - b * (2 * w.gap + w.E**2)
    value = (torch.where(near, close, 2 * b * w.log_m - log_s) - a * b * w.delta**2 / (1 + b * f)).sum(-1) / 2
    return with_infinity(~finite.all(-1), value)


def _full_affinity(w: _Whitened, a: float, b: float) -> Tensor:
    F = w.E + w.E.mT + w.E @ w.E.mT
    I = torch.eye(F.shape[-1], dtype=F.dtype, device=F.device)  # noqa: E741
    size = torch.linalg.matrix_norm(F.detach())
    if b > 0 and bool((size > _WIDE).any()):
        stacked = torch.cat([math.sqrt(a) * I.expand_as(F), math.sqrt(b) * (I + w.E).mT], -2)
        R = torch.linalg.qr(stacked).R
        C = (R * R.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-1)).mT
        finite = torch.ones_like(size, dtype=torch.bool)
    else:
        C, info = torch.linalg.cholesky_ex(I + b * F)
        finite = info == 0
        C = torch.where(finite[..., None, None], C, I)
    value = 2 * (b * w.log_m.sum(-1) - C.diagonal(dim1=-2, dim2=-1).log().sum(-1))
    near = finite & (size * max(1, abs(b)) < _NEAR)
    if bool(near.any()):
        inside = near[..., None, None]
        close = _trace_gap(torch.where(inside, b * F, 0.0), torch.where(inside, C, I), I)
        value = torch.where(near, close - b * (2 * w.gap.sum(-1) + w.squares()), value)
    white = torch.linalg.solve_triangular(C, w.delta.unsqueeze(-1), upper=False)
    return with_infinity(~finite, (value - a * b * (white**2).sum((-2, -1))) / 2)


def _trace_gap(X: Tensor, C: Tensor, I: Tensor) -> Tensor:  # noqa: E741
    """Tr X − log|I + X| for small X, CCᵀ = I + X, where rounding in C counts to second order alone.

    For any triangular T, log|I + X| ≤ tr(Tᵀ(I + X)T) − d − 2 log|T|, with equality at T = C⁻ᵀ; written in H = T − I.
    A Newton step on Tᵀ(I + X)T = I gives H the relative precision of X.
    """
    H = torch.linalg.solve_triangular(C, I - C, upper=False).mT
    rest = H + H.mT + H.mT @ H + X + X @ H + H.mT @ X + H.mT @ X @ H
    step = rest.triu(1) + torch.diag_embed(rest.diagonal(dim1=-2, dim2=-1) / 2)
    H = H - step - H @ step
    h = H.diagonal(dim1=-2, dim2=-1)
    gap = gap_and_log(h, 1 + h)[0].sum(-1)
    return -2 * gap - (H**2).sum((-2, -1)) - (X * (2 * H + H @ H.mT)).sum((-2, -1))


@gaussians("log_ess_sup")
def log_ess_sup(p: Moments, q: Moments) -> Tensor:
    """Return log sup p/q = ½ log|Σ_q|/|Σ_p| + ½Δᵀ(Σ_q − Σ_p)⁻¹Δ, in [0, ∞]; the Rényi divergence of order ∞.

    It is finite where Σ_q − Σ_p is positive definite; a direction in which the covariances are equal needs equal means
    as well and then adds 0. Directions equal to within the rounding of the factors count as equal.
    """
    w = _whitened(p, q)
    if w.is_diagonal:
        f = w.E * (2 + w.E)
        equal = (f == 0) & (w.delta == 0)
        finite = (f < 0) | equal
        added = w.delta**2 / torch.where(f < 0, -f, 1.0)
        return with_infinity(~finite.all(-1), (added / 2 - w.log_m).sum(-1))
    F = w.E + w.E.mT + w.E @ w.E.mT
    V = torch.linalg.eigh(F.detach()).eigenvectors  # without a gradient: expanded to second order in what is off it
    turned, c = V.mT @ F @ V, (V.mT @ w.delta.unsqueeze(-1)).squeeze(-1)
    f = turned.diagonal(dim1=-2, dim2=-1)
    rounding = _rounding(p, q, w)
    equal = (f.abs() <= rounding) & (c.abs() <= rounding * (1 + c.abs().amax(-1, keepdim=True)))
    less = (f < -4 * f.shape[-1] * _EPSILON) & ~equal
    u = torch.where(less, c / torch.where(less, -f, 1.0), 0.0)  # −F⁻¹δ
    value = (u * c + torch.log1p(torch.where(equal, f, 0.0))).sum(-1) / 2 - w.log_m.sum(-1)
    if turned.requires_grad:
        O = turned - torch.diag_embed(f)  # noqa: E741
        Ou = ((O - O.detach()) @ u.unsqueeze(-1)).squeeze(-1)
        value = value + (u * Ou + Ou**2 / torch.where(less, -f, math.inf)).sum(-1) / 2
    return with_infinity(~(less | equal).all(-1), value)


def _rounding(p: Moments, q: Moments, w: _Whitened) -> Tensor:
    """What rounding in both factors may move the eigenvalues of F by, (..., 1)."""
    d = w.delta.shape[-1]
    inverse = torch.linalg.solve_triangular(q.factor, torch.eye(d, dtype=w.E.dtype, device=w.E.device), upper=False)
    size = (inverse.abs() @ (p.factor.abs() + q.factor.abs())).amax((-2, -1)) * (1 + w.E.abs().amax((-2, -1)))
    return 4 * d * _EPSILON * size.unsqueeze(-1)


@gaussians("log_mass")
def log_mass(p: Moments, q: Moments) -> Tensor:
    """Return log Q(p > 0) = 0: both are positive everywhere."""
    return torch.zeros(
        torch.broadcast_shapes(p.mean.shape, q.mean.shape)[:-1], dtype=p.mean.dtype, device=p.mean.device
    )


@gaussians("total_variation")
def total_variation(p: Moments, q: Moments) -> Tensor | None:
    """With equal covariances, erf(‖Δ‖_Σ⁻¹/(2√2)), in [0, 1]."""
    distance = mahalanobis(p, q)
    return None if distance is None else torch.erf(distance / (2 * _SQRT2))


def mahalanobis(p: Moments, q: Moments) -> Tensor | None:
    """‖Σ^{−½}Δ‖ of Gaussians with equal covariances, on which alone every f-divergence depends; else None.

    Covariances that are trained apart count as different: the gradient is not that of one covariance.
    """
    shift = p.mean - q.mean
    if p.deviation is not None and q.deviation is not None:
        if not same(p.deviation, q.deviation):
            return None
        return safe_sqrt(((shift / q.deviation) ** 2).sum(-1))
    L_p, L_q = p.factor, q.factor
    if not same(L_p, L_q):
        return None
    return safe_sqrt((torch.linalg.solve_triangular(L_q, shift.unsqueeze(-1), upper=False) ** 2).sum((-2, -1)))


gaussians("wasserstein")(gaussian_transport.wasserstein)
