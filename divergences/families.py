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

from divergences._arrays import mapped, with_infinity
from divergences.exact import closed_form, exact
from divergences.f_divergence import Alpha
from divergences.gaussian import gap_and_log
from divergences.moments import same
from divergences.special import excess, lgamma_bregman, lgamma_jensen, log_excess

Parameters = tuple[Tensor, ...]
_EULER = 0.5772156649015329


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
    if isinstance(p, td.Independent) and isinstance(q, td.Independent):
        return None  # `_kl_of_coordinates` has asked for the coordinates
    if isinstance(p, td.TransformedDistribution) and not isinstance(p, _WITH_OWN_KL) and not _share_transforms(p, q):
        return None  # torch takes transforms that are trained apart for one while they are equal
    try:
        value = td.kl_divergence(mapped(p, _double), mapped(q, _double))
    except NotImplementedError:
        return None
    dtypes = [t.dtype for t in (*_tensors(p), *_tensors(q)) if t.is_floating_point()]
    return value.to(functools.reduce(torch.promote_types, dtypes, torch.float32)) if dtypes else value


_WITH_OWN_KL = (td.Gumbel, td.Pareto)  # transformed laws whose KL torch has by their parameters


def _double(t: Tensor) -> Tensor:
    return t.double() if t.is_floating_point() else t


def _tensors(value: Any) -> list[Tensor]:
    found: list[Tensor] = []

    def keep(t: Tensor) -> Tensor:
        found.append(t)
        return t

    mapped(value, keep)
    return found


@exact("kl", td.Independent, td.Independent)
def _kl_of_coordinates(p: td.Independent, q: td.Independent) -> Tensor | None:
    if p.event_shape != q.event_shape or p.base_dist.event_shape != q.base_dist.event_shape:
        return None
    value = closed_form("kl", p.base_dist, q.base_dist)
    axes = tuple(range(-p.reinterpreted_batch_ndims, 0))
    return value if value is None or not axes else value.sum(axes)


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
    if not same(r, s):
        return None
    return r * (excess(a, b) + excess(1 - a, 1 - b)) / a


@family("log_affinity", _failures, *COUNTS)
def negative_binomial_affinity(p: Parameters, q: Parameters, alpha: float) -> Tensor | None:
    """R log(π^α ρ^{1−α}/(1 − (1 − π)^α (1 − ρ)^{1−α})) with one r; infinite where the last product reaches 1."""
    (r, a), (s, b) = p, q
    if not same(r, s):
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

    def fits(p: Parameters, q: Parameters) -> bool:
        if kind is td.Laplace:  # both are even functions of the difference of the locs: at 0 their gradient in it is 0
            return bool((p[0] == q[0]).all())
        return same(p[0], q[0])

    shape = 0.5 if kind is td.HalfNormal else 1.0

    def kl(p: Parameters, q: Parameters) -> Tensor | None:
        return shape * log_excess((q[1] - p[1]).exp()) if fits(p, q) else None

    def affinity(p: Parameters, q: Parameters, alpha: float) -> Tensor | None:
        if not fits(p, q):
            return None
        ratio = (p[1] - q[1]).exp()  # in units where the rate of Q is 1
        mixed = alpha * (ratio - 1)
        finite = mixed > -1
        value = shape * (alpha * ratio.log() - torch.log1p(torch.where(finite, mixed, 0.0)))
        return with_infinity(~finite, value)

    if kind is not td.Laplace:
        family("kl", _scale_family, kind)(kl)
    family("log_affinity", _scale_family, kind)(affinity)


for _kind in (td.Laplace, td.Weibull, td.HalfNormal):
    _of_scales(_kind)


def _loc_scale(law: Any) -> Parameters:
    return law.loc, law.scale


def _exp_excess(x: Tensor) -> Tensor:
    """E^x − 1 − x ≥ 0 with all its digits."""
    near = x.abs() < 0.04
    y = torch.expm1(torch.where(near, x, 0.0))
    return torch.where(near, gap_and_log(y, 1 + y)[0], torch.expm1(x) - x)


@family("kl", _loc_scale, td.Laplace)
def laplace_kl(p: Parameters, q: Parameters) -> Tensor:
    """W(e^{−x} − 1 + x) + w − 1 − log w, w = b_p/b_q, x = |μ_p − μ_q|/b_p."""
    (mu, b), (nu, c) = p, q
    return b / c * _exp_excess(-(mu - nu).abs() / b) + excess(c, b) / c


@family("kl", _loc_scale, td.Gumbel)
def gumbel_kl(p: Parameters, q: Parameters) -> Tensor:
    """E^L − 1 − L + B(w‖1), L = log Γ(1 + w) − (μ_p − μ_q)/β_q, w = β_p/β_q, B the Bregman divergence of log Γ."""
    (mu, beta), (nu, gamma) = p, q
    w, rest = beta / gamma, (beta - gamma) / gamma
    bregman = lgamma_bregman(w, torch.ones_like(w))
    log_gamma = gap_and_log(rest, w)[1] + bregman - _EULER * rest  # log Γ(1 + w), exact near w = 1
    return _exp_excess(log_gamma - (mu - nu) / gamma) + bregman


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


def _share_transforms(p: td.TransformedDistribution, q: td.Distribution) -> bool:
    """Whether two transformed laws have the same bijections, which stay the same as parameters move."""
    if not isinstance(q, td.TransformedDistribution) or len(p.transforms) != len(q.transforms):
        return False
    if not all(t.bijective and t == s for t, s in zip(p.transforms, q.transforms, strict=True)):
        return False
    a, b = _tensors(p.transforms), _tensors(q.transforms)
    if len(a) != len(b):
        return not (torch.is_grad_enabled() and any(t.requires_grad for t in (*a, *b)))
    return all(same(t, s) for t, s in zip(a, b, strict=True))


def without_transforms(p: Any, q: Any) -> tuple[Any, Any]:
    """Both laws before a bijection that they share, under which no f-divergence changes."""
    while (
        isinstance(p, td.TransformedDistribution)
        and isinstance(q, td.TransformedDistribution)
        and _share_transforms(p, q)
        and p.base_dist.event_shape == p.event_shape
    ):
        p, q = p.base_dist, q.base_dist
    return p, q


def _ends(law: Any) -> Parameters:
    return law.low, law.high


@family("kl", _ends, td.Uniform)
def uniform_kl(p: Parameters, q: Parameters) -> Tensor:
    """Log of the ratio of the widths; infinite where P reaches outside Q by more than rounding of its ends."""
    (a, b), (c, d) = p, q
    slack = 4e-16 * torch.maximum(c.abs(), d.abs())
    return with_infinity((a < c - slack) | (b > d + slack), ((d - c) / (b - a)).log())
