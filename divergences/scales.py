"""Radial kernels as mixtures of Gaussian kernels, k(r²) = ∫ μ(ds) exp(−s r²/u) with the squared length u.

In τ = log s the integrand is analytic in the strip |Im τ| < π/2 and decays at both ends, so that the trapezoid rule of
step h errs by about exp(−π²/h): 1e-17 for h = ¼ (Trefethen, Weideman 2014, theorem 5.1). The ends are chosen for the
laws at hand; what lies beyond the left one, where exp(−s r²/u) is 1 or 1 − s r²/u, is a geometric series.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from divergences.atoms import Difference
from divergences.distances import safe_power
from divergences.kernels import Gaussian, InverseMultiquadric, Kernel, Laplace, RationalQuadratic

_STEP = 0.25
_LOG_EPSILON = -40.0  # log 4e-18: what is smaller beside the largest term is left out
_GRID = torch.arange(-120.0, 120.0, 0.5, dtype=torch.float64)
_ELEMENTS = 2**21  # of an intermediate tensor; nodes beyond are taken in turns


class Scale(NamedTuple):
    """The law of s in one radial kernel: log-density of τ = log s; None for the Gaussian kernel, where s = 1.

    ``tail`` is α where the density is e^{ατ}·``front`` towards −∞, else None: it ends there faster than any power.
    """

    unit: Tensor | float
    log_density: Callable[[Tensor], Tensor] | None = None
    step: float = _STEP
    tail: float | None = None


Mixture = list[tuple[float, tuple[Scale, ...]]]  # weights, and the factors of a product


def radial(kernels: list[Kernel]) -> Mixture | None:
    """Return the product of ``kernels`` as a mixture; None where one of them is not a known radial kernel."""
    parts = []
    for kernel in kernels:
        if not isinstance(kernel, Gaussian | Laplace | InverseMultiquadric | RationalQuadratic):
            return None
        parts.append([_scale(kernel, length) for length in kernel.lengths])
    count = math.prod(len(part) for part in parts)
    return [(1 / count, factors) for factors in itertools.product(*parts)]


def _scale(kernel: Kernel, length: Tensor | float) -> Scale:
    if isinstance(length, Tensor):
        length = length.double()
    if isinstance(kernel, Gaussian):
        return Scale(2 * length**2)
    if isinstance(kernel, Laplace):  # e^{−√x} = ∫ s^{−3/2} e^{−1/(4s)} e^{−sx} ds / (2√π): the Lévy law
        return Scale(length**2, lambda tau: -tau / 2 - (-tau).exp() / 4 - math.log(2 * math.sqrt(math.pi)))
    if isinstance(kernel, RationalQuadratic):
        return _gamma(kernel.alpha, 2 * kernel.alpha * length**2)
    return _gamma(1.0, length)


def _gamma(alpha: float, unit: Tensor | float) -> Scale:
    """(1 + x)^{−α} = ∫ s^{α−1} e^{−s} e^{−sx} ds / Γ(α)."""
    step = min(_STEP, 0.7 / math.sqrt(alpha))  # the peak of τ narrows
    return Scale(unit, lambda tau: alpha * tau - tau.exp() - math.lgamma(alpha), step, alpha)


def mean(mixture: Mixture, Z: Difference) -> Tensor:
    """E k(‖Z‖²) for every pair of atoms."""
    total = Z.c.new_zeros(())
    for weight, factors in mixture:
        for w, t in nodes(factors, Z):
            total = total + weight * (w * Z.log_transform(t).exp()).sum(0)
    return total


def nodes(factors: tuple[Scale, ...], Z: Difference, elements: int | None = None) -> list[tuple[Tensor, Tensor]]:
    """Weights and rates (T, ..., 1, 1) of Π k(r²) ≈ Σ w e^{−t r²}, in portions that keep intermediates small."""
    w, t = Z.c.new_ones(1), Z.c.new_zeros(1)
    for factor in factors:
        unit = torch.as_tensor(factor.unit, dtype=torch.float64, device=Z.c.device).unsqueeze(0)
        more_w, s = (Z.c.new_ones(1), Z.c.new_ones(1)) if factor.log_density is None else _trapezoid(factor, Z)
        axes = max(t.ndim, unit.ndim) - 1
        rates = _spread(s, axes) / _spread(unit, axes)
        t = (_spread(t, axes).unsqueeze(1) + rates.unsqueeze(0)).flatten(0, 1)
        w = (w.unsqueeze(-1) * more_w).flatten()
    pairs = torch.broadcast_shapes(Z.c.shape[:-1], t.shape[1:])
    w, t = _spread(w, len(pairs)), _spread(t, len(pairs))
    portion = max(1, _ELEMENTS // (elements or math.prod(pairs) * Z.c.shape[-1]))
    return list(zip(w.split(portion), t.split(portion), strict=True))


def _spread(x: Tensor, axes: int) -> Tensor:
    """X (T, ...) with ``axes`` axes after the first."""
    return x.reshape(len(x), *[1] * (axes + 1 - x.ndim), *x.shape[1:])


def _trapezoid(scale: Scale, Z: Difference) -> tuple[Tensor, Tensor]:
    """Weights and nodes s, a first node 0 holding what lies left of the others."""
    assert scale.log_density is not None
    unit = torch.as_tensor(scale.unit, dtype=torch.float64).detach().cpu()
    far, widths = Z.mean_square().detach().max().cpu() / unit.min(), _narrowest(Z) / unit.max()
    density = scale.log_density(_GRID)
    least = (density - _GRID.exp() * far).max() + _LOG_EPSILON  # Jensen: E e^{−s‖Z‖²} ≥ e^{−s E‖Z‖²}
    left = density if scale.tail is None else density + _GRID + far.log().clamp(min=0)
    low, high = _ends(left, density + _decay(widths), least)
    tau = low + scale.step * torch.arange(math.ceil((high - low) / scale.step) + 1, dtype=torch.float64)
    w, s = scale.step * scale.log_density(tau).exp(), tau.exp()
    if scale.tail is not None:
        q = math.exp(-scale.tail * scale.step)
        w, s = torch.cat([w[:1] * q / (1 - q), w]), torch.cat([s.new_zeros(1), s])
    return w.to(Z.c.device), s.to(Z.c.device)


def mean_distance(order: float, Z: Difference) -> Tensor:
    """E‖Z‖^β = β/(2Γ(1 − β/2)) ∫ (1 − E e^{−s‖Z‖²}) s^{−1−β/2} ds, β in (0, 2)."""
    if Z.c.shape[-1] == 1 and order == 1:
        return folded_mean(Z.c, safe_power(Z.l, 0.5)).squeeze(-1)
    squares, half = Z.mean_square(), order / 2
    sizes = squares.detach()
    unit = float(sizes.max())
    if unit == 0:
        return squares * 0
    least = _LOG_EPSILON + half * float((sizes[sizes > 0].min() / unit).log())
    low, high = _ends(2 * _GRID - half * _GRID, _decay(_narrowest(Z) / unit) - half * _GRID, least)
    tau = low + _STEP * torch.arange(math.ceil((high - low) / _STEP) + 1, dtype=torch.float64, device=Z.c.device)
    front = _STEP * half / math.gamma(1 - half)
    w, t = front * (-half * tau).exp(), tau.exp() / unit
    total = front * _beyond(-float(tau[0]), 1 - half) * squares / unit  # where the transform is 1 − t E‖Z‖²
    total = total + front * _beyond(float(tau[-1]), half)  # where it is 0
    portion = max(1, _ELEMENTS // Z.c.numel())
    for some_w, some_t in zip(w.split(portion), t.split(portion), strict=True):
        gap = -torch.expm1(Z.log_transform(_spread(some_t, squares.ndim)))
        total = total + (_spread(some_w, squares.ndim) * gap).sum(0)
    return total * unit**half


def _beyond(end: float, rate: float) -> float:
    """Σ_{m ≥ 1} e^{−rate·(end + m h)}."""
    return math.exp(-rate * end) / math.expm1(rate * _STEP)


def _narrowest(Z: Difference) -> Tensor:
    """The least variance of every coordinate over the batch, (d,)."""
    return Z.l.detach().flatten(0, -2).amin(0).cpu()


def _decay(variances: Tensor) -> Tensor:
    """Upper bound of log E exp(−s‖Z‖²) on the grid."""
    return -torch.log1p(2 * _GRID.exp().unsqueeze(-1) * variances).sum(-1) / 2


def _ends(left: Tensor, right: Tensor, least: Tensor | float) -> tuple[float, float]:
    """The part of the grid outside of which both bounds are below ``least``."""
    low = int((left >= least).nonzero()[0])
    high = int((right >= least).nonzero()[-1])
    return float(_GRID[max(low - 1, 0)]), float(_GRID[min(high + 1, len(_GRID) - 1)])


def folded_mean(mean: Tensor, deviation: Tensor) -> Tensor:
    """E|mean + deviation·z|, z standard normal."""
    s = deviation.abs()
    wide = s > 0
    z = mean / torch.where(wide, s, 1.0)
    spread = s * math.sqrt(2 / math.pi) * (-(z**2) / 2).exp() + mean * torch.erf(z / math.sqrt(2))
    return torch.where(wide, spread, mean.abs())
