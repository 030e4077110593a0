"""The table of f-divergences. Adding one is adding a row.

A row writes what follows from f on paper: the term q f(p/q), f*, the activation g and f*∘g (`FDivergence` lists them).
Notation: u = r = p/q is a ratio, d = p − q, x = log r, t a point of f*'s domain, v a free critic value, T = g(v). Where
the docstring does not say otherwise, v = x: the critic is the log-ratio.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from divergences._generator import FDivergence, named
from divergences.conjugates import solve
from divergences.derived import Reversed
from divergences.terms import js_sum, kl_sum, log_mean, power_sum, relative_entropy

__all__ = [
    "GAN", "KL", "Alpha", "FDivergence", "HockeyStick", "Jeffreys", "JensenShannon", "LeCam", "NeymanChi2",
    "PearsonChi2", "ReverseKL", "Reversed", "SkewJensenShannon", "SkewKL", "SquaredHellinger", "TotalVariation",
    "row",
]  # fmt: skip

INF = math.inf
LOG2 = math.log(2)
row = named


@row("kl")
def KL() -> FDivergence:
    """Kullback–Leibler divergence ∫ p log(p/q), in [0, ∞] nats.

    f = u log u, T* = 1 + log r, g(v) = v, so v = 1 + log r, f*(t) = exp(t − 1). Nowozin et al. 2016, table 1.
    """
    return FDivergence(
        f=lambda u: torch.xlogy(u, u),
        term=relative_entropy,
        quick=kl_sum,
        conjugate=lambda t: (t - 1).exp(),
        activation=lambda v: v,
        conjugate_of_activation=lambda v: (v - 1).exp(),
        critic=lambda x: 1 + x,
        log_ratio=lambda v: v - 1,
        f_at_zero=0.0,
        slope_at_infinity=INF,
        slope_at_one=1.0,
        conjugate_domain=(-INF, INF),
        reversal=ReverseKL,
    )


@row("reverse_kl")
def ReverseKL() -> FDivergence:
    """Reverse Kullback–Leibler divergence KL(Q‖P) = ∫ q log(q/p), in [0, ∞] nats.

    f = −log u, T* = −1/r, g(v) = −exp(−v), f*(t) = −1 − log(−t) for t < 0, f*(g(v)) = v − 1. Nowozin et al. 2016,
    table 1.
    """
    return FDivergence(
        f=lambda u: -u.log(),
        term=lambda p, q, d, x: relative_entropy(q, p, -d, -x),
        quick=lambda p, q: kl_sum(q, p),
        derivative=lambda u: -1 / u,
        conjugate=lambda t: -1 - (-t).log(),
        activation=lambda v: -(-v).exp(),
        conjugate_of_activation=lambda v: v - 1,
        log_ratio=lambda v: v,
        f_at_zero=INF,
        slope_at_infinity=0.0,
        slope_at_one=-1.0,
        conjugate_domain=(-INF, 0.0),
        reversal=KL,
    )


def _skew_js_term(w: float) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Return w·KL(p‖m) + (1 − w)·KL(q‖m) with m = wp + (1 − w)q."""

    def term(p: Tensor, q: Tensor, d: Tensor, x: Tensor) -> Tensor:
        rest = 1 - w
        m = w * p + rest * q
        at_p = relative_entropy(p, m, rest * d, -log_mean(-x, rest, w))
        return w * at_p + rest * relative_entropy(q, m, -w * d, -log_mean(x, w, rest))

    return term


@row("js")
def JensenShannon() -> FDivergence:
    """Jensen–Shannon divergence ½KL(P‖M) + ½KL(Q‖M), M = (P + Q)/2, in [0, log 2] nats.

    f = ½[u log u − (1 + u) log((1 + u)/2)], T* = ½ log(2r/(1 + r)), g(v) = ½(log 2 − softplus(−v)),
    f*(t) = −½ log(2 − e^{2t}) for t < ½ log 2, f*(g(v)) = ½(softplus(v) − log 2). Lin 1991. Nowozin et al. 2016,
    table 1, print its double.
    """
    return FDivergence(
        term=_skew_js_term(0.5),
        quick=js_sum,
        conjugate=lambda t: -torch.log1p(-torch.expm1(2 * t)) / 2,
        activation=lambda v: -log_mean(-v, 0.5, 0.5) / 2,
        conjugate_of_activation=lambda v: log_mean(v, 0.5, 0.5) / 2,
        log_ratio=lambda v: v,
        f_at_zero=LOG2 / 2,
        slope_at_infinity=LOG2 / 2,
        conjugate_domain=(-INF, LOG2 / 2),
        is_symmetric=True,
    )


@row("jeffreys")
def Jeffreys() -> FDivergence:
    """Jeffreys divergence KL(P‖Q) + KL(Q‖P) = ∫ (p − q) log(p/q), without a ½, in [0, ∞] nats.

    f = (u − 1) log u, T* = 1 + log r − 1/r, g(v) = 1 + v − e^{−v}, f*(t) = 1/W + W + t − 2 with W = W₀(e^{1−t}),
    f*(g(v)) = v + e^v − 1. In the code v = −log W, the solution of g(v) = t. Jeffreys 1946; f* by Lambert's W.
    """

    def newton(v: Tensor, t: Tensor) -> Tensor:  # g is concave: from the left the steps are monotone
        return v - (v - torch.expm1(-v) - t) / (1 + (-v).exp())

    def conjugate(t: Tensor) -> Tensor:
        start = torch.where(t > 0, t / 2, -torch.log1p(-t.clamp(max=0)))
        v = solve(newton, start, t)
        return v + torch.expm1(v)

    return FDivergence(
        term=lambda p, q, d, x: d * x,
        conjugate=conjugate,
        activation=lambda v: v - torch.expm1(-v),
        conjugate_of_activation=lambda v: v + torch.expm1(v),
        log_ratio=lambda v: v,
        f_at_zero=INF,
        slope_at_infinity=INF,
        conjugate_domain=(-INF, INF),
        is_symmetric=True,
    )


def _infinite(x: Tensor) -> Tensor:
    """Return the critic value ±∞ of a sign: f' of a piecewise linear f, reached by a sigmoid at its ends."""
    return torch.where(x == 0, 0.0, INF).to(x.dtype).copysign(x.detach())


@row("total_variation")
def TotalVariation() -> FDivergence:
    """Total variation ½∫|p − q|, in [0, 1].

    f = ½|u − 1|, T* = ½ sign(r − 1), f*(t) = max(t, −½) for t ≤ ½. g(v) = ½ tanh(v/2) = σ(v) − ½ = f*(g(v)) reaches
    every |T| < ½, with v on the scale of a log-ratio as in the other rows (Nowozin et al. 2016, appendix C, take
    ½ tanh v). T* gives only the sign of log r, so `log_ratio` raises.
    """
    return FDivergence(
        term=lambda p, q, d, x: d.abs() / 2,
        quick=lambda p, q: (p - q).abs_().sum(-1) / 2,
        derivative=lambda u: (u - 1).sign() / 2,
        conjugate=lambda t: t.clamp(min=-0.5),
        activation=lambda v: (v / 2).tanh() / 2,
        conjugate_of_activation=lambda v: (v / 2).tanh() / 2,
        critic=_infinite,
        log_ratio=None,
        f_at_zero=0.5,
        slope_at_infinity=0.5,
        conjugate_domain=(-INF, 0.5),
        is_symmetric=True,
    )


@row("squared_hellinger")
def SquaredHellinger() -> FDivergence:
    """Squared Hellinger divergence ∫ (√p − √q)², in [0, 2]; `hellinger`² is its half.

    f = (√u − 1)², T* = 1 − r^{−1/2}, g(v) = 1 − e^{−v}, so v = ½ log r, f*(t) = t/(1 − t) for t < 1,
    f*(g(v)) = e^v − 1. Nowozin et al. 2016, table 1.
    """
    return FDivergence(
        term=lambda p, q, d, x: (d / (p.sqrt() + q.sqrt())) ** 2,
        quick=lambda p, q: (p.sqrt() - q.sqrt()).square_().sum(-1),
        derivative=lambda u: (u - 1) / (u + u.sqrt()),
        conjugate=lambda t: t / (1 - t),
        activation=lambda v: -torch.expm1(-v),
        conjugate_of_activation=torch.expm1,
        critic=lambda x: x / 2,
        log_ratio=lambda v: 2 * v,
        f_at_zero=1.0,
        slope_at_infinity=1.0,
        conjugate_domain=(-INF, 1.0),
        is_symmetric=True,
    )


@row("pearson_chi2")
def PearsonChi2() -> FDivergence:
    """Pearson χ² divergence ∫ (p − q)²/q, in [0, ∞].

    f = (u − 1)², T* = 2(r − 1), g(v) = v, so v = 2(r − 1). Over u ≥ 0, f*(t) = t²/4 + t for t ≥ −2 and −1 below:
    `conjugate`. `conjugate_of_activation` is the conjugate of f extended to all reals, t²/4 + t everywhere
    (`extended_conjugate`; Nowozin et al. 2016, table 1): a valid, looser bound whose gradient does not vanish at
    T < −2, where `log_ratio` is −inf.
    """
    return FDivergence(
        term=lambda p, q, d, x: d * (d / q),
        derivative=lambda u: 2 * (u - 1),
        conjugate=lambda t: torch.where(t < -2, -1.0, t * (t / 4 + 1)),
        extended_conjugate=lambda t: t * (t / 4 + 1),
        activation=lambda v: v,
        conjugate_of_activation=lambda v: v * (v / 4 + 1),
        critic=lambda x: 2 * torch.expm1(x),
        log_ratio=lambda v: torch.where(v > -2, torch.log1p(torch.where(v > -2, v, 0.0) / 2), -INF),
        f_at_zero=1.0,
        slope_at_infinity=INF,
        conjugate_domain=(-INF, INF),
        reversal=NeymanChi2,
    )


@row("neyman_chi2")
def NeymanChi2() -> FDivergence:
    """Neyman χ² divergence ∫ (p − q)²/p, in [0, ∞]: Pearson's with the laws exchanged.

    f = (u − 1)²/u, T* = 1 − r^{−2}, g(v) = 1 − e^{−v}, so v = 2 log r, f*(t) = 2 − 2√(1 − t) for t ≤ 1,
    f*(g(v)) = 2 − 2e^{−v/2}. Nowozin et al. 2016, table 6.
    """
    return FDivergence(
        term=lambda p, q, d, x: d * (d / p),
        derivative=lambda u: ((u - 1) / u) * ((u + 1) / u),
        conjugate=lambda t: 2 * t / (1 + (1 - t).sqrt()),
        activation=lambda v: -torch.expm1(-v),
        conjugate_of_activation=lambda v: -2 * torch.expm1(-v / 2),
        critic=lambda x: 2 * x,
        log_ratio=lambda v: v / 2,
        f_at_zero=INF,
        slope_at_infinity=1.0,
        conjugate_domain=(-INF, 1.0),
        reversal=PearsonChi2,
    )


@row("le_cam")
def LeCam() -> FDivergence:
    """Le Cam (triangular) divergence ∫ (p − q)²/(p + q), in [0, 2].

    f = (u − 1)²/(u + 1), T* = 1 − 4/(1 + r)², f*(t) = 4 − t − 4√(1 − t) for −3 ≤ t ≤ 1 and −1 below. With
    th = tanh(v/2): g(v) = th(2 − th), onto (−3, 1), and f*(g(v)) = th(2 + th). Le Cam 1986; Vajda 2009.
    """

    def conjugate(t: Tensor) -> Tensor:
        s = (1 - t).sqrt()
        return torch.where(t < -3, -1.0, t * (3 - s) / (1 + s))

    return FDivergence(
        term=lambda p, q, d, x: d * (d / (p + q)),
        derivative=lambda u: ((u - 1) / (u + 1)) * ((u + 3) / (u + 1)),
        conjugate=conjugate,
        activation=lambda v: (v / 2).tanh() * (2 - (v / 2).tanh()),
        conjugate_of_activation=lambda v: (v / 2).tanh() * (2 + (v / 2).tanh()),
        log_ratio=lambda v: v,
        f_at_zero=1.0,
        slope_at_infinity=1.0,
        conjugate_domain=(-INF, 1.0),
        is_symmetric=True,
    )


def _alpha_of_log(alpha: float, x: Tensor) -> Tensor:
    """(e^{αx} − αe^x − (1 − α))/(α(α − 1)), with its limits at α = 0 and 1, and relative precision near x = 0."""

    def h(order: float) -> Tensor:
        return torch.expm1(order * x) / order if order else x

    if alpha >= 0.5:  # two forms of one function: neither divides by the order near 0
        beta = alpha - 1
        rise = torch.expm1((beta * x).clamp(max=30)) / beta if beta else x
        power = torch.where(beta * x > 30, ((alpha * x).exp() - x.exp()) / (beta or 1), x.exp() * rise)
        far = (power - torch.expm1(x)) / alpha
    else:
        far = (h(alpha) - torch.expm1(x)) / (alpha - 1)
    near = x.abs() * max(1, abs(alpha)) < 1 / 8
    small = torch.where(near, x, 0.0)
    powers = [sum(alpha**j for j in range(k - 1)) / math.factorial(k) for k in range(2, 12)]
    series = torch.zeros_like(x)
    for coefficient in reversed(powers):  # Σ_{k ≥ 2} x^k/k!·(α^k − α)/(α(α − 1)) = Σ x^k/k!·(1 + α + … + α^{k−2})
        series = series * small + coefficient
    return torch.where(near, series * small * small, far)


@row("alpha")
def Alpha(alpha: float) -> FDivergence:
    """α-divergence, any real α: KL(P‖Q) at 1, KL(Q‖P) at 0, ½χ² at 2, twice the squared Hellinger divergence at ½.

    f = (u^α − αu − (1 − α))/(α(α − 1)), in [0, 1/(α(1 − α))] for 0 < α < 1, else [0, ∞], T* = (r^{α−1} − 1)/(α − 1).
    With h_β(x) = (e^{βx} − 1)/β, h₀(x) = x: g(v) = h_{α−1}(v), f*(g(v)) = h_α(v), and f*(t) = h_α(g⁻¹(t)), that is
    ((1 + (α − 1)t)^{α/(α−1)} − 1)/α; for α > 1, f* = −1/α below t = −1/(α − 1). Amari 2016, eq. 3.28.
    """
    beta = alpha - 1
    if not math.isfinite(alpha):
        raise ValueError(f"alpha must be finite: got {alpha}")

    def h(order: float, x: Tensor) -> Tensor:
        return torch.expm1(order * x) / order if order else x

    def conjugate(t: Tensor) -> Tensor:
        inside = 1 + beta * t > 0
        log_u = torch.log1p(beta * torch.where(inside, t, 0.0)) / beta if beta else t
        at_end = -1 / alpha if alpha < 0 or alpha > 1 else INF
        return torch.where(inside, h(alpha, log_u), at_end)

    def term(p: Tensor, q: Tensor, d: Tensor, x: Tensor) -> Tensor:  # the larger side times f or u f(1/u) at u ≤ 1
        below = -x.abs()
        return torch.maximum(p, q) * torch.where(x > 0, _alpha_of_log(1 - alpha, below), _alpha_of_log(alpha, below))

    return FDivergence(
        f=lambda u: _alpha_of_log(alpha, u.log()),
        term=term,
        quick=(lambda p, q: power_sum(p, q, alpha) / (alpha * beta)) if abs(alpha * beta) > 0.01 else None,
        conjugate=conjugate,
        activation=lambda v: h(beta, v),
        conjugate_of_activation=lambda v: h(alpha, v),
        log_ratio=lambda v: v,
        f_at_zero=1 / alpha if alpha > 0 else INF,
        slope_at_infinity=1 / (1 - alpha) if alpha < 1 else INF,
        conjugate_domain=(-INF, 1 / (1 - alpha) if alpha < 1 else INF),
        is_symmetric=alpha == 0.5,
        reversal=lambda: Alpha(1 - alpha),
    )


@row("hockey_stick")
def HockeyStick(gamma: float) -> FDivergence:
    """Hockey-stick divergence E_γ = ∫ (p − γq)₊ − (1 − γ)₊, γ > 0, in [0, min(1, γ)]; γ = 1 is total variation.

    f = (u − γ)₊ − (1 − γ)₊, T* = 1[r > γ], g(v) = σ(v), f*(t) = γ max(t, 0) + (1 − γ)₊ for t ≤ 1,
    f*(g(v)) = γσ(v) + (1 − γ)₊. `log_ratio` raises. Polyanskiy, Poor, Verdú 2010, eq. 2.
    """
    if not 0 < gamma < INF:
        raise ValueError(f"gamma must be positive and finite: got {gamma}")
    rest, log_gamma = max(1 - gamma, 0.0), math.log(gamma)

    def term(p: Tensor, q: Tensor, d: Tensor, x: Tensor) -> Tensor:
        if gamma == 1:
            return d.abs() / 2
        return (p - gamma * q if gamma > 1 else gamma * q - p).clamp(min=0)

    return FDivergence(
        f=lambda u: (u - gamma).clamp(min=0) if gamma >= 1 else (u - 1) + (gamma - u).clamp(min=0),
        term=term,
        derivative=lambda u: ((u - gamma).sign() + 1) / 2,
        conjugate=lambda t: gamma * t.clamp(min=0) + rest,
        activation=torch.sigmoid,
        conjugate_of_activation=lambda v: gamma * v.sigmoid() + rest,
        critic=lambda x: _infinite(x - log_gamma),
        log_ratio=None,
        f_at_zero=0.0 - rest,
        slope_at_infinity=1.0,
        slope_at_one=(1 + math.copysign(1, 1 - gamma)) / 2 if gamma != 1 else 0.5,
        conjugate_domain=(-INF, 1.0),
        is_symmetric=gamma == 1,
    )


@row("skew_js")
def SkewJensenShannon(weight: float = 0.5) -> FDivergence:
    """Skewed Jensen–Shannon divergence w·KL(P‖M) + (1 − w)·KL(Q‖M), M = wP + (1 − w)Q, in [0, H(w)] nats.

    With m = wu + 1 − w: f = w u log u − m log m, T* = w log(r/m), g(v) = −w log(w + (1 − w)e^{−v}), and for
    t < −w log w, f*(t) = (1 − w) log((1 − w)/(1 − w e^{t/w})), f*(g(v)) = (1 − w) log m. Lin 1991, eq. 4.1.
    """
    if not 0 < weight < 1:
        raise ValueError(f"weight must lie in (0, 1): got {weight}")
    w, log_w, log_rest = weight, math.log(weight), math.log1p(-weight)
    return FDivergence(
        term=_skew_js_term(w),
        quick=lambda p, q: w * kl_sum(p, m := torch.lerp(q, p, w)) + (1 - w) * kl_sum(q, m),
        conjugate=lambda t: -(1 - w) * torch.log1p(-w / (1 - w) * torch.expm1(t / w)),
        activation=lambda v: -w * log_mean(-v, 1 - w, w),
        conjugate_of_activation=lambda v: (1 - w) * log_mean(v, w, 1 - w),
        log_ratio=lambda v: v,
        f_at_zero=-(1 - w) * log_rest,
        slope_at_infinity=-w * log_w,
        conjugate_domain=(-INF, -w * log_w),
        is_symmetric=weight == 0.5,
        reversal=lambda: SkewJensenShannon(1 - weight),
    )


@row("skew_kl")
def SkewKL(weight: float) -> FDivergence:
    """Skewed Kullback–Leibler divergence KL(P‖(1 − w)P + wQ), 0 < w ≤ 1, in [0, −log(1 − w)] nats; w = 1 is KL.

    With m = (1 − w)u + w: f = u log(u/m), T* = log(r/m) + w/m, g(v) = T* at r = e^v, f*(g(v)) = w r/m. For
    t ≤ −log(1 − w), f*(t) = −w W₀(−(1 − w)e^{t−1})/(1 − w). In the code z = log(1 − w/m) ≤ 0 solves
    e^z − 1 − z = −log(1 − w) − t. Lee 1999; f* by Lambert's W.
    """
    if not 0 < weight <= 1:
        raise ValueError(f"weight must lie in (0, 1]: got {weight}")
    w, log_rest = weight, math.log1p(-weight) if weight < 1 else -INF

    def newton(z: Tensor, gap: Tensor) -> Tensor:
        return z - (torch.expm1(z) - z - gap) / torch.expm1(z)

    def conjugate(t: Tensor) -> Tensor:
        if weight == 1:
            return (t - 1).exp()
        gap = -(t.double() + log_rest)
        inside = gap > 0
        gap = torch.where(inside, gap, 1.0)
        z = solve(newton, torch.where(gap < 0.5, -(2 * gap).sqrt(), -1 - gap), gap)
        return (w / (1 - w) * torch.where(inside, z.exp(), 1.0)).to(t.dtype)

    return FDivergence(
        f=lambda u: -u * log_mean(-u.log(), w, 1 - w),
        term=lambda p, q, d, x: relative_entropy(p, (1 - w) * p + w * q, w * d, -log_mean(-x, w, 1 - w)),
        quick=lambda p, q: kl_sum(p, torch.lerp(p, q, w)),
        conjugate=conjugate,
        activation=lambda v: w * (-log_mean(v, 1 - w, w)).exp() - log_mean(-v, w, 1 - w),
        conjugate_of_activation=lambda v: w * (-log_mean(-v, w, 1 - w)).exp(),
        log_ratio=lambda v: v,
        f_at_zero=0.0,
        slope_at_infinity=-log_rest,
        slope_at_one=w,
        conjugate_domain=(-INF, -log_rest),
    )


@row("gan")
def GAN() -> FDivergence:
    """Value of the original GAN game, 2·JSD − log 4, in [−log 4, 0] nats: a divergence shifted by a constant.

    f = u log u − (1 + u) log(1 + u), T* = log(r/(1 + r)), g(v) = −softplus(−v), f*(t) = −log(1 − e^t) for t < 0,
    f*(g(v)) = softplus(v). f(1) = −log 4, not 0, so it is −log 4 at P = Q. Goodfellow et al. 2014, theorem 1.
    """
    js_term = _skew_js_term(0.5)

    def f(u: Tensor) -> Tensor:  # for u > 1, u log(u/(1 + u)) − log(1 + u), whose first term tends to −1
        small, large = u.clamp(max=1), u.clamp(min=1)
        below = torch.xlogy(small, small) - (1 + small) * torch.log1p(small)
        above = (-large * torch.log1p(1 / large)).nan_to_num(nan=-1) - torch.log1p(large)
        return torch.where(u > 1, above, below)

    def conjugate(t: Tensor) -> Tensor:  # two forms of one function: one for e^t small, one for 1 − e^t small
        low, high = t.clamp(max=-LOG2), t.clamp(min=-LOG2)
        return torch.where(t < -LOG2, -torch.log1p(-low.exp()), -(-torch.expm1(high)).log())

    return FDivergence(
        f=f,
        term=lambda p, q, d, x: 2 * js_term(p, q, d, x) - 2 * LOG2 * q,
        quick=lambda p, q: 2 * js_sum(p, q) - 2 * LOG2 * q.sum(-1),
        conjugate=conjugate,
        activation=lambda v: -torch.logaddexp(-v, torch.zeros_like(v)),
        conjugate_of_activation=lambda v: torch.logaddexp(v, torch.zeros_like(v)),
        log_ratio=lambda v: v,
        f_at_zero=0.0,
        slope_at_infinity=0.0,
        slope_at_one=-LOG2,
        f_at_one=-2 * LOG2,
        conjugate_domain=(-INF, 0.0),
        is_symmetric=True,
    )
