"""The table of f-divergences. Adding one is adding a row.

A row writes f and what follows from it on paper: f', f*, the activation g and f*∘g. Notation: u = r = p/q is a ratio,
t a point of f*'s domain, v a free critic value, T = g(v). Where g and f*∘g have tanh or softplus, v = log r.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from divergences._generator import FDivergence, Function, named
from divergences.conjugates import (
    autograd_derivative,
    check_generator,
    limits,
    numerical_conjugate,
    wright_omega_logarithm,
)

__all__ = [
    "GAN", "KL", "Alpha", "FDivergence", "HockeyStick", "Jeffreys", "JensenShannon", "LeCam", "NeymanChi2",
    "PearsonChi2", "ReverseKL", "Reversed", "SkewJensenShannon", "SkewKL", "SquaredHellinger", "TotalVariation",
    "row",
]  # fmt: skip

INF = math.inf
LOG2 = math.log(2)
_LOG_MAX = 700.0  # exp of it is finite in float64
row = named


@row("kl")
def KL() -> FDivergence:
    """Kullback–Leibler divergence ∫ p log(p/q), in [0, ∞] nats.

    f = u log u, T* = 1 + log r, g(v) = v, f*(t) = exp(t − 1). Nowozin et al. 2016, table 1.
    """
    return FDivergence(
        f=lambda u: torch.xlogy(u, u),
        derivative=lambda u: 1 + u.log(),
        conjugate=lambda t: (t - 1).exp(),
        activation=lambda v: v,
        conjugate_of_activation=lambda v: (v - 1).exp(),
        log_ratio=lambda v: v - 1,
        f_at_zero=0.0,
        slope_at_infinity=INF,
        conjugate_domain=(-INF, INF),
        reversal=ReverseKL,
    )


@row("reverse_kl")
def ReverseKL() -> FDivergence:
    """Reverse Kullback–Leibler divergence KL(Q‖P) = ∫ q log(q/p), in [0, ∞] nats.

    f = −log u, T* = −1/r, g(v) = −exp(−v), f*(t) = −1 − log(−t) for t < 0. Nowozin et al. 2016, table 1.
    """
    return FDivergence(
        f=lambda u: -u.log(),
        f_of_log=lambda log_u: -log_u,
        derivative=lambda u: -1 / u,
        conjugate=lambda t: -1 - (-t).log(),
        activation=lambda v: -(-v).exp(),
        conjugate_of_activation=lambda v: v - 1,
        log_ratio=lambda v: v,
        f_at_zero=INF,
        slope_at_infinity=0.0,
        conjugate_domain=(-INF, 0.0),
        reversal=KL,
    )


@row("js")
def JensenShannon() -> FDivergence:
    """Jensen–Shannon divergence ½KL(P‖M) + ½KL(Q‖M), M = (P + Q)/2, in [0, log 2] nats.

    f = ½[u log u − (1 + u) log((1 + u)/2)], T* = ½ log(2r/(1 + r)), g(v) = ½(log 2 − softplus(−v)),
    f*(t) = −½ log(2 − e^{2t}) for t < ½ log 2. Nowozin et al. 2016, table 1, print its double. Lin 1991.
    """
    return FDivergence(
        f=lambda u: (torch.xlogy(u, u) - (1 + u) * (torch.log1p(u) - LOG2)) / 2,
        derivative=lambda u: (LOG2 + u.log() - torch.log1p(u)) / 2,
        conjugate=lambda t: -torch.log1p(-torch.expm1(2 * t)) / 2,
        activation=lambda v: (LOG2 - softplus(-v)) / 2,
        conjugate_of_activation=lambda v: (softplus(v) - LOG2) / 2,
        log_ratio=lambda v: v,
        f_at_zero=LOG2 / 2,
        slope_at_infinity=LOG2 / 2,
        conjugate_domain=(-INF, LOG2 / 2),
        is_symmetric=True,
    )


@row("jeffreys")
def Jeffreys() -> FDivergence:
    """Jeffreys divergence KL(P‖Q) + KL(Q‖P) = ∫ (p − q) log(p/q), without a ½, in [0, ∞] nats.

    f = (u − 1) log u, T* = 1 + log r − 1/r, g(v) = 1 + v − e^{−v}, f*(t) = 1/W + W + t − 2 with W = W₀(e^{1−t}).
    """

    def conjugate(t: Tensor) -> Tensor:
        log_w = wright_omega_logarithm(1 - t)
        return (-log_w).exp() + log_w.exp() + t - 2

    return FDivergence(
        f=lambda u: (u - 1) * u.log(),
        f_of_log=lambda log_u: torch.expm1(log_u) * log_u,
        derivative=lambda u: 1 + u.log() - 1 / u,
        conjugate=conjugate,
        activation=lambda v: v - torch.expm1(-v),
        conjugate_of_activation=lambda v: v + torch.expm1(v),
        log_ratio=lambda v: v,
        f_at_zero=INF,
        slope_at_infinity=INF,
        conjugate_domain=(-INF, INF),
        is_symmetric=True,
    )


@row("total_variation")
def TotalVariation() -> FDivergence:
    """Total variation ½∫|p − q|, in [0, 1].

    f = ½|u − 1|, T* = ½ sign(r − 1), f*(t) = max(t, −½) for t ≤ ½. g(v) = ½ tanh(v/2) = σ(v) − ½ reaches every
    |T| < ½, with v on the scale of a log ratio as in the other rows (Nowozin et al. 2016, appendix C, take ½ tanh v).
    T* gives only the sign of log r, so `log_ratio` raises.
    """
    return FDivergence(
        f=lambda u: (u - 1).abs() / 2,
        f_of_log=lambda log_u: torch.expm1(log_u).abs() / 2,
        derivative=lambda u: (u - 1).sign() / 2,
        conjugate=lambda t: t.clamp(min=-0.5),
        activation=lambda v: (v / 2).tanh() / 2,
        conjugate_of_activation=lambda v: (v / 2).tanh() / 2,
        log_ratio=None,
        f_at_zero=0.5,
        slope_at_infinity=0.5,
        conjugate_domain=(-INF, 0.5),
        is_symmetric=True,
    )


@row("squared_hellinger")
def SquaredHellinger() -> FDivergence:
    """Squared Hellinger divergence ∫ (√p − √q)², in [0, 2]; `hellinger`² is its half.

    f = (√u − 1)², T* = 1 − r^{−1/2}, g(v) = 1 − e^{−v}, f*(t) = t/(1 − t) for t < 1. Nowozin et al. 2016, table 1.
    """
    return FDivergence(
        f=lambda u: (u.sqrt() - 1) ** 2,
        f_of_log=lambda log_u: torch.expm1(log_u / 2) ** 2,
        derivative=lambda u: 1 - u.rsqrt(),
        conjugate=lambda t: t / (1 - t),
        activation=lambda v: -torch.expm1(-v),
        conjugate_of_activation=lambda v: torch.expm1(v),
        log_ratio=lambda v: 2 * v,
        f_at_zero=1.0,
        slope_at_infinity=1.0,
        conjugate_domain=(-INF, 1.0),
        is_symmetric=True,
    )


@row("pearson_chi2")
def PearsonChi2() -> FDivergence:
    """Pearson χ² divergence ∫ (p − q)²/q, in [0, ∞].

    f = (u − 1)², T* = 2(r − 1), g(v) = v. Over u ≥ 0, f*(t) = t²/4 + t for t ≥ −2 and −1 below: `conjugate`.
    `conjugate_of_activation` is the conjugate of f extended to all reals, t²/4 + t everywhere (`extended_conjugate`):
    a valid, looser bound whose gradient does not vanish at T < −2. `log_ratio` is −inf there.
    """
    return FDivergence(
        f=lambda u: (u - 1) ** 2,
        f_of_log=lambda log_u: torch.expm1(log_u) ** 2,
        derivative=lambda u: 2 * (u - 1),
        conjugate=lambda t: torch.where(t < -2, -torch.ones_like(t), t * (t / 4 + 1)),
        extended_conjugate=lambda t: t * (t / 4 + 1),
        activation=lambda v: v,
        conjugate_of_activation=lambda v: v * (v / 4 + 1),
        log_ratio=lambda v: torch.where(v > -2, torch.log1p(torch.where(v > -2, v, 0.0) / 2), -INF),
        f_at_zero=1.0,
        slope_at_infinity=INF,
        conjugate_domain=(-INF, INF),
        reversal=NeymanChi2,
    )


@row("neyman_chi2")
def NeymanChi2() -> FDivergence:
    """Neyman χ² divergence ∫ (p − q)²/p, in [0, ∞]: Pearson's with the laws exchanged.

    f = (u − 1)²/u, T* = 1 − r^{−2}, g(v) = 1 − e^{−v}, f*(t) = 2 − 2√(1 − t) for t ≤ 1.
    """
    return FDivergence(
        f=lambda u: (u - 1) * (1 - 1 / u),
        f_of_log=lambda log_u: 4 * (log_u / 2).sinh() ** 2,
        derivative=lambda u: 1 - u**-2,
        conjugate=lambda t: 2 - 2 * (1 - t).sqrt(),
        activation=lambda v: -torch.expm1(-v),
        conjugate_of_activation=lambda v: -2 * torch.expm1(-v / 2),
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
    th = tanh(v/2): g(v) = th(2 − th), onto (−3, 1), and f*(g(v)) = th(2 + th).
    """

    def conjugate(t: Tensor) -> Tensor:
        s = (1 - t).sqrt()
        return torch.where(t < -3, -torch.ones_like(t), (s - 1) * (s - 3))

    return FDivergence(
        f=lambda u: (u - 1) * (1 - 2 / (u + 1)),
        f_of_log=lambda log_u: torch.expm1(log_u) * (log_u / 2).tanh(),
        derivative=lambda u: 1 - 4 / (u + 1) ** 2,
        conjugate=conjugate,
        activation=lambda v: (v / 2).tanh() * (2 - (v / 2).tanh()),
        conjugate_of_activation=lambda v: (v / 2).tanh() * (2 + (v / 2).tanh()),
        log_ratio=lambda v: v,
        f_at_zero=1.0,
        slope_at_infinity=1.0,
        conjugate_domain=(-INF, 1.0),
        is_symmetric=True,
    )


@row("alpha")
def Alpha(alpha: float) -> FDivergence:
    """α-divergence, any real α: KL(P‖Q) at 1, KL(Q‖P) at 0, ½χ² at 2, twice the squared Hellinger divergence at ½.

    f = (u^α − αu − (1 − α))/(α(α − 1)), T* = (r^{α−1} − 1)/(α − 1). With h_β(x) = (e^{βx} − 1)/β, h₀(x) = x:
    g(v) = h_{α−1}(v) and f*(g(v)) = h_α(v), v = log r; for α > 1, f* = −1/α below t = −1/(α − 1). Amari 2016, eq. 3.28.
    """
    beta = alpha - 1

    def h(order: float, x: Tensor) -> Tensor:
        return torch.expm1(order * x) / order if order else x

    def f_of_log(log_u: Tensor) -> Tensor:  # two forms of one function: neither divides by the order near 0
        if alpha >= 0.5:
            return (log_u.exp() * h(beta, log_u) - torch.expm1(log_u)) / alpha
        return (h(alpha, log_u) - torch.expm1(log_u)) / beta

    def conjugate(t: Tensor) -> Tensor:
        inside = 1 + beta * t > 0
        log_u = torch.log1p(beta * torch.where(inside, t, 0.0)) / beta if beta else t
        at_end = -1 / alpha if alpha < 0 or alpha > 1 else INF
        return torch.where(inside, h(alpha, log_u), at_end)

    return FDivergence(
        f=lambda u: f_of_log(u.log()),
        f_of_log=f_of_log,
        derivative=lambda u: h(beta, u.log()),
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

    f = (u − γ)₊ − (1 − γ)₊, T* = 1[r > γ], g(v) = σ(v), f*(t) = γ max(t, 0) + (1 − γ)₊ for t ≤ 1. `log_ratio` raises.
    Polyanskiy, Poor, Verdú 2010, eq. 2.
    """
    if not gamma > 0:
        raise ValueError(f"gamma must be positive: got {gamma}")
    rest = max(1 - gamma, 0.0)
    return FDivergence(
        f=lambda u: (u - gamma).clamp(min=0) - rest,
        derivative=lambda u: ((u - gamma).sign() + 1) / 2,
        conjugate=lambda t: gamma * t.clamp(min=0) + rest,
        activation=torch.sigmoid,
        conjugate_of_activation=lambda v: gamma * v.sigmoid() + rest,
        log_ratio=None,
        f_at_zero=0.0 - rest,
        slope_at_infinity=1.0,
        conjugate_domain=(-INF, 1.0),
        is_symmetric=gamma == 1,
    )


@row("skew_js")
def SkewJensenShannon(weight: float = 0.5) -> FDivergence:
    """Skewed Jensen–Shannon divergence w·KL(P‖M) + (1 − w)·KL(Q‖M), M = wP + (1 − w)Q, in [0, H(w)] nats.

    With m = wu + 1 − w: f = w u log u − m log m, T* = w log(r/(wr + 1 − w)), and for t < −w log w
    f*(t) = (1 − w) log((1 − w)/(1 − w e^{t/w})). With v = log r, f*(g(v)) = (1 − w) log m. Lin 1991, eq. 4.1.
    """
    if not 0 < weight < 1:
        raise ValueError(f"weight must lie in (0, 1): got {weight}")
    w, log_w, log_rest = weight, math.log(weight), math.log1p(-weight)

    def log_mean(v: Tensor) -> Tensor:
        return torch.logaddexp(v + log_w, torch.full_like(v, log_rest))

    return FDivergence(
        f=lambda u: w * torch.xlogy(u, u) - torch.xlogy(w * u + (1 - w), w * u + (1 - w)),
        derivative=lambda u: w * (u.log() - (w * u + (1 - w)).log()),
        conjugate=lambda t: (1 - w) * (log_rest - torch.log1p(-w * (t / w).exp())),
        activation=lambda v: w * -torch.logaddexp(log_rest - v, torch.full_like(v, log_w)),
        conjugate_of_activation=lambda v: (1 - w) * log_mean(v),
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

    With m = (1 − w)u + w: f = u log(u/m), T* = log(r/m) + w/m, and with v = log r, f*(g(v)) = w r/m. f* is numerical.
    """
    if not 0 < weight <= 1:
        raise ValueError(f"weight must lie in (0, 1]: got {weight}")
    w, log_w, log_rest = weight, math.log(weight), math.log1p(-weight) if weight < 1 else -INF

    def derivative(u: Tensor) -> Tensor:
        m = (1 - w) * u + w
        return (u / m).log() + w / m

    def activation(v: Tensor) -> Tensor:
        return w / ((1 - w) * v.exp() + w) - torch.logaddexp(log_w - v, torch.full_like(v, log_rest))

    def composed(v: Tensor) -> Tensor:
        return w / ((1 - w) + w * (-v).exp())

    return FDivergence(
        f=lambda u: torch.xlogy(u, u / ((1 - w) * u + w)),
        derivative=derivative,
        conjugate=numerical_conjugate(activation, composed),
        activation=activation,
        conjugate_of_activation=composed,
        log_ratio=lambda v: v,
        f_at_zero=0.0,
        slope_at_infinity=-log_rest,
        conjugate_domain=(-INF, -log_rest),
    )


@row("gan")
def GAN() -> FDivergence:
    """Value of the original GAN game, 2·JSD − log 4, in [−log 4, 0] nats: a divergence shifted by a constant.

    f = u log u − (1 + u) log(1 + u), T* = log(r/(1 + r)), g(v) = −softplus(−v), f*(t) = −log(1 − e^t) for t < 0.
    f(1) = −log 4, not 0, so it is −log 4 at P = Q. Goodfellow et al. 2014, theorem 1.
    """

    def f(u: Tensor) -> Tensor:  # for u > 1, u log(u/(1 + u)) − log(1 + u), whose first term tends to −1
        small, large = u.clamp(max=1), u.clamp(min=1)
        below = torch.xlogy(small, small) - (1 + small) * torch.log1p(small)
        above = (-large * torch.log1p(1 / large)).nan_to_num(nan=-1) - torch.log1p(large)
        return torch.where(u > 1, above, below)

    return FDivergence(
        f=f,
        derivative=lambda u: u.log() - torch.log1p(u),
        conjugate=lambda t: -(-torch.expm1(t)).log(),
        activation=lambda v: -softplus(-v),
        conjugate_of_activation=lambda v: softplus(v),
        log_ratio=lambda v: v,
        f_at_zero=0.0,
        slope_at_infinity=0.0,
        conjugate_domain=(-INF, 0.0),
        is_symmetric=True,
    )


@named(None)
def Reversed(divergence: FDivergence) -> FDivergence:
    """D(Q‖P) of a row that has no named reversal.

    Its generator is f°(u) = u f(1/u). At s = 1/u, T° = f°'(u) = f(s) − s f'(s) = −f*(f'(s)) and f°*(T°) = −f'(s), so
    activation and conjugate exchange: g°(v) = −f*(g(−v)), f°*(g°(v)) = −g(−v).
    """
    d = divergence

    def derivative(u: Tensor) -> Tensor:
        return -d.conjugate(d.derivative(1 / u).clamp(max=d.conjugate_domain[1]))

    def f(u: Tensor) -> Tensor:
        end = u.isinf()  # reached where f(0) = 0, and then the limit is f'(0)
        return torch.where(
            end, d.derivative(torch.zeros_like(u)), u * d._f(1 / torch.where(end, torch.ones_like(u), u))
        )

    return FDivergence(
        f=f,
        f_of_log=lambda log_u: log_u.exp() * d._f_of_log((-log_u).clamp(max=_LOG_MAX)),
        derivative=derivative,
        conjugate=numerical_conjugate(lambda v: derivative(v.exp()), lambda v: -d.derivative(1 / v.exp())),
        activation=lambda v: -d._conjugate_of_activation(-v),
        conjugate_of_activation=lambda v: -d._activation(-v),
        log_ratio=(lambda v: -d.log_ratio(-v)) if d._log_ratio else None,
        f_at_zero=d.slope_at_infinity,
        slope_at_infinity=d.f_at_zero,
        conjugate_domain=(-INF, d.f_at_zero),
        is_symmetric=d.is_symmetric,
        reversal=lambda: d,
    )


@named(None, "FDivergence.from_f")
def _from_f(f: Function, name: str = "f") -> FDivergence:
    derivative = autograd_derivative(f)
    check_generator(f, name)
    f_at_zero, slope_at_infinity = limits(f, derivative)

    def activation(v: Tensor) -> Tensor:
        return derivative(v.exp())

    def composed(v: Tensor) -> Tensor:
        u = v.exp()
        return u * derivative(u) - f(u)

    return FDivergence(
        f=f,
        derivative=derivative,
        conjugate=numerical_conjugate(activation, composed),
        activation=activation,
        conjugate_of_activation=composed,
        log_ratio=lambda v: v,
        f_at_zero=f_at_zero,
        slope_at_infinity=slope_at_infinity,
        conjugate_domain=(-INF, slope_at_infinity),
    )
