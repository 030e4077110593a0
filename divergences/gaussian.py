"""Closed forms between Gaussians, of any dimension and batch shape.

Univariate laws and products of them are (mean, deviation) per coordinate; the others have a Cholesky factor. All are
differentiable in the parameters. Δ = μ_p − μ_q throughout.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.distributions as td
from torch import Tensor

from divergences.exact import exact
from divergences.kernels import Gaussian, Kernel, Scaled, Sum, safe_sqrt

SQRT2 = math.sqrt(2)


class Moments(NamedTuple):
    """Mean (..., d); deviations (..., d) where the coordinates are independent, else a Cholesky factor (..., d, d)."""

    mean: Tensor
    deviation: Tensor | None
    tril: Tensor | None

    def to(self, dtype: torch.dtype) -> Moments:
        """Return the same in another dtype."""
        deviation, tril = (part if part is None else part.to(dtype) for part in (self.deviation, self.tril))
        return Moments(self.mean.to(dtype), deviation, tril)

    @property
    def factor(self) -> Tensor:
        """L with Σ = LLᵀ."""
        return torch.diag_embed(self.deviation) if self.tril is None else self.tril  # type: ignore[arg-type]


def moments(law: Any) -> Moments | None:
    """Return the moments of a Gaussian law, its event axes flattened; None for a law that is not Gaussian."""
    if isinstance(law, td.Normal):
        return Moments(law.loc.unsqueeze(-1), law.scale.unsqueeze(-1), None)
    if isinstance(law, td.MultivariateNormal):
        return Moments(law.loc, None, law.scale_tril)
    if isinstance(law, td.Independent) and isinstance(law.base_dist, td.Normal):
        shape, base = law.batch_shape, law.base_dist
        return Moments(base.loc.reshape(*shape, -1), base.scale.reshape(*shape, -1), None)
    return None


def pair(p: Any, q: Any) -> tuple[Moments, Moments] | None:
    """Both as moments, in one dtype; None unless both are Gaussian. Raises ValueError where their dimensions differ."""
    a, b = moments(p), moments(q)
    if a is None or b is None:
        return None
    if a.mean.shape[-1] != b.mean.shape[-1]:
        raise ValueError(f"p and q must have one dimension: got {a.mean.shape[-1]} and {b.mean.shape[-1]}")
    dtype = torch.promote_types(a.mean.dtype, b.mean.dtype)
    a, b = (m.to(dtype) for m in (a, b))
    return a, b


def _gaussians(divergence: str) -> Any:
    """Register a form that takes two `Moments` for every pair of Gaussian types."""

    def register(form: Any) -> Any:
        def of_laws(p: Any, q: Any, **parameters: Any) -> Tensor | None:
            both = pair(p, q)
            return None if both is None else form(*both, **parameters)

        for a in (td.Normal, td.MultivariateNormal, td.Independent):
            for b in (td.Normal, td.MultivariateNormal, td.Independent):
                exact(divergence, a, b)(of_laws)
        return form

    return register


@_gaussians("kl")
def kl(p: Moments, q: Moments) -> Tensor:
    """½[tr(Σ_q⁻¹Σ_p) − d − log det(Σ_q⁻¹Σ_p) + Δᵀ Σ_q⁻¹ Δ]."""
    if p.deviation is not None and q.deviation is not None:
        ratio = p.deviation / q.deviation
        shift = (p.mean - q.mean) / q.deviation
        return ((ratio - 1) * (ratio + 1) - 2 * ratio.log() + shift**2).sum(-1) / 2
    L_p, L_q = p.factor, q.factor
    whitened = torch.linalg.solve_triangular(L_q, L_p, upper=False)
    shift = torch.linalg.solve_triangular(L_q, (p.mean - q.mean).unsqueeze(-1), upper=False)
    diagonal = whitened.diagonal(dim1=-2, dim2=-1)
    off = (whitened**2).sum((-2, -1)) - (diagonal**2).sum(-1)
    return (((diagonal - 1) * (diagonal + 1) - 2 * diagonal.log()).sum(-1) + off + (shift**2).sum((-2, -1))) / 2


def log_integral(p: Moments, q: Moments, a: float) -> Tensor:
    """Return log ∫ p^a q^b, b = 1 − a, in coordinates where Q is standard: ½[b log|Σ| − log|S| − ab ΔᵀS⁻¹Δ].

    S = I + b(Σ − I); the integral is infinite exactly where S is not positive definite.
    """
    b, shift = 1 - a, p.mean - q.mean
    if p.deviation is not None and q.deviation is not None:
        ratio, white = p.deviation / q.deviation, shift / q.deviation
        excess = b * (ratio - 1) * (ratio + 1)
        finite = (excess > -1).all(-1)
        excess = torch.where(excess > -1, excess, 0.0)
        value = (2 * b * ratio.log() - torch.log1p(excess) - a * b * white**2 / (1 + excess)).sum(-1) / 2
    else:
        M = torch.linalg.solve_triangular(q.factor, p.factor, upper=False)
        white = torch.linalg.solve_triangular(q.factor, shift.unsqueeze(-1), upper=False)
        identity = torch.eye(M.shape[-1], dtype=M.dtype, device=M.device)
        L, info = torch.linalg.cholesky_ex(identity + b * (M @ M.mT - identity))
        finite = info == 0
        L = torch.where(finite[..., None, None], L, identity)
        white = torch.linalg.solve_triangular(L, white, upper=False)
        value = b * _log_diagonal(M) - _log_diagonal(L) - a * b * (white**2).sum((-2, -1)) / 2
    return torch.where(finite, value, math.inf)


def _log_diagonal(L: Tensor) -> Tensor:
    return L.diagonal(dim1=-2, dim2=-1).log().sum(-1)


@_gaussians("pearson_chi2")
def pearson_chi2(p: Moments, q: Moments) -> Tensor:
    """∫ p²/q − 1; infinite where 2Σ_q − Σ_p is not positive definite."""
    return torch.expm1(log_integral(p, q, 2.0))


@_gaussians("bhattacharyya")
def bhattacharyya(p: Moments, q: Moments) -> Tensor:
    """−log ∫ √(pq)."""
    return -log_integral(p, q, 0.5)


@_gaussians("squared_hellinger")
def squared_hellinger(p: Moments, q: Moments) -> Tensor:
    """2(1 − ∫ √(pq))."""
    return -2 * torch.expm1(log_integral(p, q, 0.5))


@_gaussians("alpha")
def alpha(p: Moments, q: Moments, alpha: float) -> Tensor:
    """(∫ p^α q^{1−α} − 1)/(α(α − 1)), and both KL limits."""
    if alpha in (0, 1):
        return kl(p, q) if alpha else kl(q, p)
    return torch.expm1(log_integral(p, q, alpha)) / (alpha * (alpha - 1))


@_gaussians("total_variation")
def total_variation(p: Moments, q: Moments) -> Tensor | None:
    """With equal covariances, erf(‖Δ‖_Σ⁻¹/(2√2))."""
    distance = mahalanobis(p, q)
    return None if distance is None else torch.erf(distance / (2 * SQRT2))


def mahalanobis(p: Moments, q: Moments) -> Tensor | None:
    """‖Σ^{−½}Δ‖ of Gaussians with equal covariances, on which alone every f-divergence depends; else None."""
    shift = p.mean - q.mean
    if p.deviation is not None and q.deviation is not None:
        if not bool((p.deviation == q.deviation).all()):
            return None
        return safe_sqrt(((shift / q.deviation) ** 2).sum(-1))
    L_p, L_q = p.factor, q.factor
    if not bool((L_p == L_q).all()):
        return None
    return safe_sqrt((torch.linalg.solve_triangular(L_q, shift.unsqueeze(-1), upper=False) ** 2).sum((-2, -1)))


@_gaussians("wasserstein")
def wasserstein(p: Moments, q: Moments, order: float, metric: str) -> Tensor | None:
    """W₂² = ‖Δ‖² + min_U ‖L_p − L_q U‖² (Bures); in one dimension W_p = (E|Δ + (σ_p − σ_q)Z|^p)^{1/p}, p = 1, 2."""
    shift = p.mean - q.mean
    if shift.shape[-1] == 1 and order == 1:
        return folded_mean(shift, p.factor[..., 0] - q.factor[..., 0]).squeeze(-1)
    if order != 2 or (metric != "euclidean" and shift.shape[-1] > 1):
        return None
    if p.deviation is not None and q.deviation is not None:
        return safe_sqrt((shift**2 + (p.deviation - q.deviation) ** 2).sum(-1))
    L_p, L_q = p.factor, q.factor
    with torch.no_grad():  # U is the minimiser: no gradient passes through it (envelope theorem)
        W, _, Vh = torch.linalg.svd(L_q.mT @ L_p)
        same = (L_p == L_q).all(-1).all(-1)[..., None, None]
        U = torch.where(same, torch.eye(L_p.shape[-1], dtype=L_p.dtype, device=L_p.device), W @ Vh)
    return safe_sqrt((shift**2).sum(-1) + ((L_p - L_q @ U) ** 2).sum((-2, -1)))


def folded_mean(mean: Tensor, deviation: Tensor) -> Tensor:
    """E|mean + deviation·Z|."""
    s = deviation.abs()
    wide = s > 0
    z = mean / torch.where(wide, s, 1.0)
    spread = s * math.sqrt(2 / math.pi) * (-(z**2) / 2).exp() + mean * torch.erf(z / SQRT2)
    return torch.where(wide, spread, mean.abs())


@_gaussians("mmd")
def squared_mmd(p: Moments, q: Moments, kernel: Kernel) -> Tensor | None:
    """E k(X, X') + E k(Y, Y') − 2 E k(X, Y) for Gaussian kernels, their mixtures, sums and multiples."""
    if isinstance(kernel, Sum):
        left, right = squared_mmd(p, q, kernel.left), squared_mmd(p, q, kernel.right)
        return None if left is None or right is None else left + right
    if isinstance(kernel, Scaled):
        inner = squared_mmd(p, q, kernel.kernel)
        return None if inner is None else kernel.factor * inner
    if not isinstance(kernel, Gaussian):
        return None
    values = [_mean_kernel(p, p, h) + _mean_kernel(q, q, h) - 2 * _mean_kernel(p, q, h) for h in kernel.lengths]
    return torch.stack(values).mean(0)


def _mean_kernel(p: Moments, q: Moments, h: float) -> Tensor:
    """E k(X, Y) = |I + S/h²|^{−½} exp(−½Δᵀ(h²I + S)⁻¹Δ), S = Σ_p + Σ_q."""
    shift = p.mean - q.mean
    if p.deviation is not None and q.deviation is not None:
        S = p.deviation**2 + q.deviation**2
        return (-(torch.log1p(S / h**2) + shift**2 / (h**2 + S)).sum(-1) / 2).exp()
    d = shift.shape[-1]
    S = torch.eye(d, dtype=shift.dtype, device=shift.device) * h**2 + p.factor @ p.factor.mT + q.factor @ q.factor.mT
    L = torch.linalg.cholesky(S)
    white = torch.linalg.solve_triangular(L, shift.unsqueeze(-1), upper=False)
    return (d * math.log(h) - _log_diagonal(L) - (white**2).sum((-2, -1)) / 2).exp()


@_gaussians("energy_distance")
def squared_energy(p: Moments, q: Moments) -> Tensor:
    """2E|X − Y| − E|X − X'| − E|Y − Y'|: folded normals for d = 1, else one quadrature (of no gradient)."""
    if p.mean.shape[-1] > 1:
        return _energy_by_quadrature(p, q)
    mean, s_p, s_q = p.mean - q.mean, p.factor[..., 0], q.factor[..., 0]
    across = folded_mean(mean, (s_p**2 + s_q**2).sqrt())
    return (2 * across - (s_p + s_q) * 2 / math.sqrt(math.pi)).squeeze(-1)


def _energy_by_quadrature(p: Moments, q: Moments) -> Tensor:
    """E‖Z‖ = (1/√π)∫₀^∞ (1 − E exp(−s²‖Z‖²)) s⁻² ds, Z Gaussian with E exp(−t‖Z‖²) in closed form."""
    from divergences.quadrature import integral

    shape = torch.broadcast_shapes(p.mean.shape[:-1], q.mean.shape[:-1])
    d = p.mean.shape[-1]
    covariances = [(m.factor @ m.factor.mT).detach().double().expand(*shape, d, d).reshape(-1, d, d) for m in (p, q)]
    shifts = (p.mean - q.mean).detach().double().expand(*shape, d).reshape(-1, d)
    values = []
    for shift, C_p, C_q in zip(shifts, *covariances, strict=True):
        terms = []
        for weight, mean, S in ((2.0, shift, C_p + C_q), (-1.0, 0 * shift, 2 * C_p), (-1.0, 0 * shift, 2 * C_q)):
            eigenvalues, vectors = torch.linalg.eigh(S)
            terms.append((weight, (vectors.T @ mean).numpy() ** 2, eigenvalues.clamp(min=0).numpy()))
        values.append(_norm_integral(terms, integral))
    return torch.tensor(values, dtype=p.mean.dtype).reshape(shape)


def _norm_integral(terms: list[tuple[float, Any, Any]], integral: Any) -> float:
    import numpy as np

    scale = max(float(np.sqrt((m2 + l).max())) for _, m2, l in terms)

    def integrand(log_s: Any) -> Any:
        t = np.exp(2 * log_s)[:, None]
        total = 0.0
        for weight, m2, l in terms:
            total = total - weight * np.expm1(-(np.log1p(2 * t * l) / 2 + t * m2 / (1 + 2 * t * l)).sum(1))
        return total * np.exp(-log_s) / math.sqrt(math.pi)  # ds/s² = e^{−log s} d log s

    centre = -math.log(scale)
    return integral(integrand, centre + np.linspace(-40, 40, 41))
