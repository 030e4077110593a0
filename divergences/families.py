"""Closed forms of exponential families: KL, and log ∫ p^α q^{1−α}, from which the other powers follow.

A family with natural parameter η and log-normaliser F has log ∫ p^α q^{1−α} = F(η_m) − αF(η_p) − (1 − α)F(η_q) at
η_m = αη_p + (1 − α)η_q, infinite where η_m is no parameter (Nielsen, Nock 2011, "On Rényi and Tsallis entropies and
divergences for exponential families"). What torch registers for KL stands behind.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor

from divergences._arrays import with_infinity
from divergences.exact import closed_form, exact
from divergences.f_divergence import Alpha
from divergences.special import excess, lgamma_bregman, lgamma_jensen, log_excess

Parameters = tuple[Tensor, ...]


def family(divergence: str, parameters: Callable[[Any], Parameters | None], *types: type) -> Any:
    """Register a form for every pair of ``types``; it gets the float64 ``parameters`` of both laws."""

    def register(form: Callable[..., Tensor | None]) -> Callable[..., Tensor | None]:
        def of_laws(p: Any, q: Any, **options: Any) -> Tensor | None:
            a, b = parameters(p), parameters(q)
            if a is None or b is None:
                return None
            value = form([part.double() for part in a], [part.double() for part in b], **options)
            return (
                None if value is None else value.to(functools.reduce(torch.promote_types, (t.dtype for t in (*a, *b))))
            )

        for one in types:
            for other in types:
                exact(divergence, one, other)(of_laws)
        return form

    return register


@exact("kl", td.Distribution, td.Distribution)
def _kl_of_torch(p: td.Distribution, q: td.Distribution) -> Tensor | None:
    if p.event_shape != q.event_shape:
        raise ValueError(f"p and q must have one event shape: got {tuple(p.event_shape)} and {tuple(q.event_shape)}")
    try:
        return td.kl_divergence(p, q)
    except NotImplementedError:
        return None


@exact("log_affinity", td.Independent, td.Independent)
def _of_coordinates(p: td.Independent, q: td.Independent, alpha: float) -> Tensor | None:
    if p.event_shape != q.event_shape or p.base_dist.event_shape != q.base_dist.event_shape:
        return None
    value = closed_form("log_affinity", p.base_dist, q.base_dist, alpha=alpha)
    axes = tuple(range(-p.reinterpreted_batch_ndims, 0))
    return value if value is None or not axes else value.sum(axes)


def _gamma(law: Any) -> Parameters:
    """``(shape, rate)``."""
    if isinstance(law, td.Exponential):
        return torch.ones_like(law.rate), law.rate
    return law.concentration, law.rate


GAMMAS = (td.Exponential, td.Gamma)


@family("kl", _gamma, *GAMMAS)
def gamma_kl(p: Parameters, q: Parameters) -> Tensor:
    """KL of Gamma(a, β) and Gamma(b, γ): B(b‖a) + a(w − 1) − b log w, w = γ/β, B the Bregman divergence of log Γ."""
    (a, beta), (b, gamma) = p, q
    w = gamma / beta
    return lgamma_bregman(b, a) + a * log_excess(w) + (a - b) * w.log()


@family("log_affinity", _gamma, *GAMMAS)
def gamma_affinity(p: Parameters, q: Parameters, alpha: float) -> Tensor:
    """Log ∫ p^α q^{1−α} of Gamma laws; infinite unless the mixed shape and the mixed rate are positive."""
    (a, beta), (b, gamma) = p, q
    shape, rate = alpha * a + (1 - alpha) * b, alpha * beta + (1 - alpha) * gamma
    finite = (shape > 0) & (rate > 0)
    rate, a, b = torch.where(finite, rate, 1.0), torch.where(finite, a, 1.0), torch.where(finite, b, 1.0)
    over = alpha * a * torch.log(rate / beta) + (1 - alpha) * b * torch.log(rate / gamma)
    return with_infinity(~finite, lgamma_jensen(a, b, alpha) - over)


def _dirichlet(law: Any) -> Parameters:
    if isinstance(law, td.Beta):
        return (torch.stack([law.concentration1, law.concentration0], -1),)
    return (law.concentration,)


@family("kl", _dirichlet, td.Dirichlet)
@family("kl", _dirichlet, td.Beta)
def dirichlet_kl(p: Parameters, q: Parameters) -> Tensor:
    """Σ B(b_i‖a_i) − B(Σb‖Σa), B the Bregman divergence of log Γ."""
    (a,), (b,) = p, q
    _same_length(a, b)
    return lgamma_bregman(b, a).sum(-1) - lgamma_bregman(b.sum(-1), a.sum(-1))


@family("log_affinity", _dirichlet, td.Dirichlet)
@family("log_affinity", _dirichlet, td.Beta)
def dirichlet_affinity(p: Parameters, q: Parameters, alpha: float) -> Tensor:
    """Log ∫ p^α q^{1−α} of Dirichlet and Beta laws; infinite unless every mixed concentration is positive."""
    (a,), (b,) = p, q
    _same_length(a, b)
    finite = (alpha * a + (1 - alpha) * b > 0).all(-1)
    a, b = (torch.where(finite.unsqueeze(-1), part, 1.0) for part in (a, b))
    each = lgamma_jensen(a, b, alpha).sum(-1)
    return with_infinity(~finite, each - lgamma_jensen(a.sum(-1), b.sum(-1), alpha))


def _same_length(a: Tensor, b: Tensor) -> None:
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"p and q must have one event shape: got ({a.shape[-1]},) and ({b.shape[-1]},)")


def _rate(law: Any) -> Parameters:
    return (law.rate,)


@family("kl", _rate, td.Poisson)
def poisson_kl(p: Parameters, q: Parameters) -> Tensor:
    """λ log(λ/μ) − λ + μ."""
    return excess(p[0], q[0])


@family("log_affinity", _rate, td.Poisson)
def poisson_affinity(p: Parameters, q: Parameters, alpha: float) -> Tensor:
    """λ^α μ^{1−α} − αλ − (1 − α)μ."""
    return alpha * (alpha - 1) * Alpha(alpha).perspective(p[0], q[0])


def _failures(law: Any) -> Parameters | None:
    """``(r, π)``: the number of failures before the r-th success of probability π."""
    if isinstance(law, td.Geometric):
        return torch.ones_like(law.probs), law.probs
    return law.total_count, 1 - law.probs


COUNTS = (td.Geometric, td.NegativeBinomial)


@family("kl", _failures, *COUNTS)
def negative_binomial_kl(p: Parameters, q: Parameters) -> Tensor | None:
    """r·KL(Bernoulli π‖Bernoulli ρ)/π with one r; None where r differs."""
    (r, a), (s, b) = p, q
    if not bool((r == s).all()):
        return None
    return r * (excess(a, b) + excess(1 - a, 1 - b)) / a


@family("log_affinity", _failures, *COUNTS)
def negative_binomial_affinity(p: Parameters, q: Parameters, alpha: float) -> Tensor | None:
    """R log(π^α ρ^{1−α}/(1 − (1 − π)^α (1 − ρ)^{1−α})) with one r; infinite where the last product reaches 1."""
    (r, a), (s, b) = p, q
    if not bool((r == s).all()):
        return None
    log_step = alpha * torch.log1p(-a) + (1 - alpha) * torch.log1p(-b)
    finite = log_step < 0
    return with_infinity(
        ~finite,
        r * (alpha * a.log() + (1 - alpha) * b.log() - torch.log(-torch.expm1(torch.where(finite, log_step, -1.0)))),
    )


def _scale_family(law: Any) -> Parameters:
    """``(key, log rate)`` of laws whose T(x)/rate^{−1} is exponential or gamma with a fixed shape, one for each key."""
    if isinstance(law, td.Laplace):
        return law.loc, -law.scale.log()
    if isinstance(law, td.Weibull):
        return law.concentration, -law.concentration * law.scale.log()
    return torch.full_like(law.scale, 0.5), -2 * law.scale.log()  # HalfNormal: x² is Gamma(½, 1/(2σ²))


def _of_scales(kind: type) -> None:
    """A law with density ∝ λ^c e^{−λT(x)}: c = 1, or ½ for HalfNormal; None unless the keys (loc, shape) are equal."""

    def same(p: Parameters, q: Parameters) -> bool:
        return bool((p[0] == q[0]).all())

    shape = 0.5 if kind is td.HalfNormal else 1.0

    def kl(p: Parameters, q: Parameters) -> Tensor | None:
        return shape * log_excess((q[1] - p[1]).exp()) if same(p, q) else None

    def affinity(p: Parameters, q: Parameters, alpha: float) -> Tensor | None:
        if not same(p, q):
            return None
        ratio = (p[1] - q[1]).exp()  # in units where the rate of Q is 1
        mixed = alpha * (ratio - 1)
        finite = mixed > -1
        value = shape * (alpha * ratio.log() - torch.log1p(torch.where(finite, mixed, 0.0)))
        return with_infinity(~finite, value)

    family("kl", _scale_family, kind)(kl)
    family("log_affinity", _scale_family, kind)(affinity)


for _kind in (td.Laplace, td.Weibull, td.HalfNormal):
    _of_scales(_kind)


def _von_mises(law: Any) -> Parameters:
    return law.loc, law.concentration


@family("log_affinity", _von_mises, td.VonMises)
def von_mises_affinity(p: Parameters, q: Parameters, alpha: float) -> Tensor:
    """Log I₀(‖η_m‖) − α log I₀(κ_p) − (1 − α) log I₀(κ_q), η = κ(cos μ, sin μ)."""
    (mu, kappa), (nu, rho) = p, q
    mixed = torch.hypot(
        alpha * kappa * mu.cos() + (1 - alpha) * rho * nu.cos(), alpha * kappa * mu.sin() + (1 - alpha) * rho * nu.sin()
    )
    return _log_i0(mixed) - alpha * _log_i0(kappa) - (1 - alpha) * _log_i0(rho)


@family("kl", _von_mises, td.VonMises)
def von_mises_kl(p: Parameters, q: Parameters) -> Tensor:
    """Log(I₀(κ_q)/I₀(κ_p)) + (κ_p − κ_q cos(μ_p − μ_q)) I₁(κ_p)/I₀(κ_p)."""
    (mu, kappa), (nu, rho) = p, q
    mean = torch.special.i1e(kappa) / torch.special.i0e(kappa)
    return _log_i0(rho) - _log_i0(kappa) + (kappa - rho * (mu - nu).cos()) * mean


def _log_i0(x: Tensor) -> Tensor:
    return torch.special.i0e(x).log() + x.abs()


def without_transforms(p: Any, q: Any) -> tuple[Any, Any]:
    """Both laws before a bijection that they share, under which no f-divergence changes."""
    while (
        isinstance(p, td.TransformedDistribution)
        and isinstance(q, td.TransformedDistribution)
        and len(p.transforms) == len(q.transforms)
        and all(t.bijective and t == s for t, s in zip(p.transforms, q.transforms, strict=True))
        and p.base_dist.event_shape == p.event_shape
    ):
        p, q = p.base_dist, q.base_dist
    return p, q
