"""Laws on the integers: their masses to full precision, and the steps of their logarithm, which bound their tails.

Of almost every family in use the step t(j) = log p(j + 1) − log p(j) is, exactly,

    t(j) = θ + Σᵢ wᵢ log(j + Aᵢ) + Σᵢ vᵢ log(Eᵢ − j):

Poisson log λ − log(j + 1), geometric log(1 − π), negative binomial log p + log(j + r) − log(j + 1), binomial
logit p + log(n − j) − log(j + 1), Zipf a log(j/(j + 1)). Adding a family is adding its masses and its steps. Laws of a
finite support need no steps: all of it is summed.

A parameter has its batch shape and one more axis of length 1, along which the integers k run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from scipy import special
from torch import Tensor

INF = math.inf
_STIRLING = (  # `stirling` at 1 to 15 after a 0, from 40 digits
    0.0, 0.08106146679532726, 0.0413406959554093, 0.02767792568499834, 0.020790672103765093, 0.016644691189821193,
    0.013876128823070748, 0.01189670994589177, 0.010411265261972096, 0.009255462182712733, 0.00833056343336287,
    0.007573675487951841, 0.00694284010720953, 0.006408994188004207, 0.0059513701127588475, 0.005554733551962801,
)  # fmt: skip
Factors = tuple[tuple[Any, Any], ...]


class Steps(NamedTuple):
    """θ + Σ w log(j + A) over ``ups`` (w, A) + Σ v log(E − j) over ``downs`` (v, E)."""

    theta: Any
    ups: Factors = ()
    downs: Factors = ()

    def shifted(self, by: Any) -> Steps:
        """Return the steps of the law moved by an integer."""
        return Steps(self.theta, tuple((w, A - by) for w, A in self.ups), tuple((v, E + by) for v, E in self.downs))

    def mirrored(self) -> Steps:
        """Return the steps of the law of −X, in its own coordinate: −t(−j − 1)."""
        ups = tuple((-v, E + 1) for v, E in self.downs)
        return Steps(-self.theta, ups, tuple((-w, A - 1) for w, A in self.ups))


class Bounds(NamedTuple):
    """Steps that bound the true ones from above and below; the same twice where they are exact."""

    upper: Steps
    lower: Steps

    def shifted(self, by: Any) -> Bounds:
        """Return the bounds for X + by."""
        return Bounds(self.upper.shifted(by), self.lower.shifted(by))

    def mirrored(self) -> Bounds:
        """Return the bounds for −X."""
        return Bounds(self.lower.mirrored(), self.upper.mirrored())


@dataclass(frozen=True)
class Lattice:
    """A law on the integers of [low, high]. ``right`` bounds its steps from ``since`` upwards, ``left`` downwards.

    They are None where they are not known, and ``since`` is None where they hold on all of the support.
    """

    name: str
    low: Tensor
    high: Tensor
    log_masses: Callable[[Tensor], Tensor]
    right: Bounds | None = None
    left: Bounds | None = None
    since: Tensor | None = None
    has_gradient: bool = False
    is_rough: bool = False  # a mass may have underflowed to 0

    def log_mass(self, k: Tensor) -> Tensor:
        """Return log p(k) at integers k, −inf off the support."""
        inside = (k >= self.low) & (k <= self.high)
        return torch.where(inside, self.log_masses(torch.minimum(torch.maximum(k, self.low), self.high)), -INF)

    def shifted(self, by: Tensor) -> Lattice:
        """Return the law of X + by."""
        masses = self.log_masses
        return replace(
            self,
            low=self.low + by,
            high=self.high + by,
            log_masses=lambda k: masses(k - by),
            right=self.right and self.right.shifted(by),
            left=self.left and self.left.shifted(-by),
            since=None if self.since is None else self.since + by,
        )


def one_sided(
    name: str, low: Any, high: Any, log_masses: Callable[[Tensor], Tensor], steps: Steps | None, *parameters: Tensor
) -> Lattice:
    """Return a law whose steps, from both ends, are ``steps``; None if they are not known."""
    low = torch.as_tensor(low, dtype=torch.float64, device=high.device).expand_as(high)
    right = None if steps is None else Bounds(steps, steps)
    gradient = torch.is_grad_enabled() and any(x.requires_grad for x in parameters)
    return Lattice(name, low, high, log_masses, right, right and right.mirrored(), None, gradient)


def with_gradient(value: Tensor, plain: Callable[[], Tensor], *parameters: Tensor) -> Tensor:
    """``value``, to full precision, with the gradient of ``plain``, which differs by terms in k and by rounding."""
    if not (torch.is_grad_enabled() and any(x.requires_grad for x in parameters)):
        return value
    form = plain()
    return value + (form - form.detach())


def stirling(n: Tensor) -> Tensor:
    """Return log Γ(n + 1) − [(n + ½) log n − n + ½ log 2π], n > 0; from a table at small integers."""
    x = n.clamp(min=15)
    y = 1 / (x * x)
    series = (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y * (1 / 1680 - y * (1 / 1188 - y * (691 / 360360)))))) / x
    m = n.clamp(max=15)
    table = torch.tensor(_STIRLING, dtype=torch.float64, device=n.device)[m.long()]
    small = torch.where(m == m.round(), table, (m + 1).lgamma() - (m + 0.5) * m.log() + m - math.log(2 * math.pi) / 2)
    return torch.where(n < 15, small, series)


def log_rising(x: Tensor, by: Tensor) -> Tensor:
    """Return log Γ(x + by) − log Γ(x) without cancellation."""
    return (x - 0.5) * torch.log1p(by / x) + by * (x + by).log() - by + stirling(x + by) - stirling(x)


def deviance(x: Tensor, mean: Tensor) -> Tensor:
    """Return x log(x/mean) + mean − x without cancellation. Loader 2000, section 3."""
    gap = x - mean
    v = gap / (x + mean)
    near = v.abs() < 0.1
    y = torch.where(near, v * v, 0.0)
    tail = torch.zeros_like(y)
    for i in range(17, 1, -2):
        tail = y * (1 / i + tail)
    return torch.where(near, gap * v + 2 * x * v * tail, x * (x / mean).log() - gap)


def log_binomial(k: Tensor, n: Tensor, p: Tensor, rest: Tensor) -> Tensor:
    """Return log [n!/(k!(n − k)!) pᵏ(1 − p)ⁿ⁻ᵏ], real 0 < k < n, by deviances. Loader 2000, eq. 5."""
    other = n - k
    constants = stirling(n) - stirling(k) - stirling(other) + torch.log(n / (2 * math.pi * k * other)) / 2
    return constants - deviance(k, n * p) - deviance(other, n * rest)


def log_bessel(order: Tensor, x: Tensor) -> Tensor:
    """Return log I_ν(x) − x; where that underflows, by the power series or by DLMF 10.41.3."""
    order, x = torch.broadcast_tensors(order, x)
    value = torch.from_numpy(special.ive(order.numpy(), x.numpy()))
    y, m = x * x / 4, torch.arange(1.0, 101, dtype=torch.float64)
    few = y < 20 * (order + 1)
    ratios = torch.where(few, y, 1.0).unsqueeze(-1) / (m * (order.unsqueeze(-1) + m))
    series = order * (x / 2).log() - (order + 1).lgamma() - x + torch.log1p(ratios.cumprod(-1).sum(-1))
    v = order.clamp(min=100)
    root = (v * v + x * x).sqrt()
    p = v / root
    U1 = (3 - 5 * p**2) * p / 24
    U2 = (81 - 462 * p**2 + 385 * p**4) * p**2 / 1152
    U3 = (30375 - 369603 * p**2 + 765765 * p**4 - 425425 * p**6) * p**3 / 414720
    uniform = root - x - v * torch.asinh(v / x) - (2 * math.pi * root).log() / 2
    uniform = uniform + torch.log1p((U1 + (U2 + U3 / v) / v) / v)
    return torch.where(value > 1e-290, value.log(), torch.where(few, series, uniform))
