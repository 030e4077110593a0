"""Families of laws on the integers. Adding one is adding its masses and its steps (`countable_laws`)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.distributions as td
from torch import Tensor
from torch.nn.functional import logsigmoid

from divergences.countable_laws import (
    Bounds,
    Lattice,
    Steps,
    deviance,
    log_bessel,
    log_binomial,
    log_rising,
    one_sided,
    stirling,
    with_gradient,
)  # fmt: skip
from divergences.laws import ConvergenceError, Empirical, line_arguments

INF = math.inf
_TABLE = 20_000_000


def lattice(law: Any) -> Lattice | None:
    """Return the view of a law of one integer, or of a batch of them; None for any other law."""
    if isinstance(law, Empirical):
        return _of_points(law)
    if isinstance(law, td.Distribution):
        translate = _TORCH.get(type(law))
        return None if translate is None or law.event_shape else translate(law)
    if hasattr(law, "logpmf") and hasattr(law, "dist") and hasattr(law.dist, "_parse_args"):
        return _of_scipy(law)
    return None


def poisson(rate: Tensor) -> Lattice:
    """λᵏe^{−λ}/k!; λ = 0 is the point 0."""
    rate, high = _inside(rate, rate > 0)

    def log_masses(k: Tensor) -> Tensor:
        with torch.no_grad():
            above = k > 0
            n = torch.where(above, k, 1.0)
            value = -stirling(n) - deviance(n, rate) - (2 * math.pi * n).log() / 2
            value = torch.where(above, value, torch.where(high > 0, -rate, 0.0))
        return with_gradient(value, lambda: k * rate.log() - rate, rate)

    return one_sided("poisson", 0, high, log_masses, Steps(rate.detach().log(), ((-1, 1),)), rate)


def geometric(success: Tensor, log_success: Tensor, log_failure: Tensor) -> Lattice:
    """π(1 − π)ᵏ from π, log π and log(1 − π); π = 1 is the point 0."""
    log_failure, high = _inside(log_failure, success < 1, -1.0)

    def log_masses(k: Tensor) -> Tensor:
        return k * log_failure + log_success

    return one_sided("geometric", 0, high, log_masses, Steps(log_failure.detach()), log_failure)


def negative_binomial(r: Tensor, p: Tensor, rest: Tensor, log_p: Tensor, log_rest: Tensor) -> Lattice:
    """Γ(k + r)/(k! Γ(r)) pᵏ(1 − p)^r, from p, 1 − p and their logarithms; r = 0 and p = 0 are the point 0."""
    proper = (r > 0) & (p > 0)
    r, high = _inside(r, proper)
    p, rest, log_p, log_rest = (
        torch.where(proper, x, c) for x, c in ((p, 0.5), (rest, 0.5), (log_p, -1.0), (log_rest, -1.0))
    )
    log_rest = torch.where(high == 0, 0.0, log_rest)

    def log_masses(k: Tensor) -> Tensor:
        with torch.no_grad():
            above = k > 0
            m = torch.where(above, k, 1.0)
            value = log_binomial(r, m + r, rest, p) + torch.log(r / (m + r))
            value = torch.where(above, value, r * log_rest)
        return with_gradient(
            value, lambda: (k + r).lgamma() - r.lgamma() + r * log_rest + k * log_p, r, log_p, log_rest
        )

    steps = Steps(log_p.detach(), ((1, r.detach()), (-1, 1)))
    return one_sided("negative_binomial", 0, high, log_masses, steps, r, log_p, log_rest)


def binomial(n: Tensor, p: Tensor, rest: Tensor, log_p: Tensor, log_rest: Tensor) -> Lattice:
    """n!/(k!(n − k)!) pᵏ(1 − p)ⁿ⁻ᵏ, from p, 1 − p and their logarithms."""
    low, high = torch.where(rest > 0, 0.0, n), torch.where(p > 0, n, 0.0)
    proper = (rest > 0) & (p > 0)
    p, rest = (torch.where(proper, x, 0.5) for x in (p, rest))
    log_p, log_rest = (torch.where(proper, x, 0.0) for x in (log_p, log_rest))

    def log_masses(k: Tensor) -> Tensor:
        with torch.no_grad():
            between = (k > 0) & (k < n)
            m = torch.where(between, k, 0.5)
            value = log_binomial(m, torch.where(between, n, 1.0), p, rest)
            value = torch.where(between, value, torch.where(k > 0, n * log_p, n * log_rest))
        return with_gradient(value, lambda: k * log_p + (n - k) * log_rest, log_p, log_rest)

    steps = Steps((log_p - log_rest).detach(), ((-1, 1),), ((1, n),))
    return one_sided("binomial", low, high, log_masses, steps, log_p, log_rest)


def _inside(parameter: Tensor, proper: Tensor, otherwise: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return the parameter, harmless where the law is a point, and the end of the support: inf, or 0 there."""
    return torch.where(proper, parameter, otherwise), torch.where(proper, INF, 0.0).double()


def _column(value: Any) -> Tensor:
    x = value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value, dtype=np.float64))
    return x.double().unsqueeze(-1)


def _probability(law: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """p, 1 − p and their logarithms, from the parameter that the law was given."""
    given = next(name for name in vars(law) if name in ("probs", "logits"))
    x = _column(getattr(law, given))
    if given == "logits":
        return x.sigmoid(), (-x).sigmoid(), logsigmoid(x), logsigmoid(-x)
    return _complements(x)


def _complements(p: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    inside = torch.where((p > 0) & (p < 1), p, 0.5)
    log_p = torch.where(p > 0, torch.where(p < 1, inside.log(), 0.0), -INF)
    log_rest = torch.where(p < 1, torch.where(p > 0, torch.log1p(-inside), 0.0), -INF)
    return p, 1 - p, log_p, log_rest


def _torch_geometric(law: td.Geometric) -> Lattice:
    p, _, log_p, log_rest = _probability(law)
    return geometric(p, log_p, log_rest)


def _of_table(name: str, low: Tensor, table: Tensor, high: Tensor | None = None, steps: Steps | None = None) -> Lattice:
    """Return the law with the log-masses ``table`` (..., n) at low, low + 1 and on."""
    n = table.shape[-1]
    low = low.expand(*table.shape[:-1], 1)

    def log_masses(k: Tensor) -> Tensor:
        shape = torch.broadcast_shapes(k.shape[:-1], table.shape[:-1])
        index = (k - low).long().expand(*shape, k.shape[-1])
        return table.expand(*shape, n).gather(-1, index)

    return one_sided(name, low, low + (n - 1) if high is None else high, log_masses, steps, table)


def _log(masses: Tensor) -> Tensor:
    return torch.where(masses > 0, torch.where(masses > 0, masses, 1.0).log(), -INF)


def _of_points(law: Empirical) -> Lattice | None:
    x = law.points.detach().double()
    if x.shape[1] != 1 or bool((x != x.round()).any()) or bool((x.abs() > 2**52).any()):
        return None
    points, outcome = x[:, 0].unique(return_inverse=True)
    weights = torch.zeros(len(points), dtype=torch.float64, device=x.device)
    weights = weights.index_add(0, outcome, law.weights.double())
    log_weights = _log(weights)

    def log_masses(k: Tensor) -> Tensor:
        at = torch.searchsorted(points, k.contiguous()).clamp(max=len(points) - 1)
        return torch.where(points[at] == k, log_weights[at], -INF)

    return one_sided("Empirical", points[:1], points[-1:], log_masses, None, law.weights)


_TORCH: dict[type, Callable[[Any], Lattice]] = {
    td.Poisson: lambda law: poisson(_column(law.rate)),
    td.Geometric: _torch_geometric,
    td.NegativeBinomial: lambda law: negative_binomial(_column(law.total_count), *_probability(law)),
    td.Binomial: lambda law: binomial(_column(law.total_count), *_probability(law)),
    td.Bernoulli: lambda law: binomial(_column(torch.ones_like(law.probs)), *_probability(law)),
    td.Categorical: lambda law: _of_table("categorical", _column(0.0), _log(law.probs.double())),
}


def _logser(p: Tensor) -> tuple[Tensor, Any, Steps, Any]:
    log_norm = (-torch.log1p(-p)).log()
    return _column(1.0), INF, Steps(p.log(), ((1, 0), (-1, 1))), lambda k: k * p.log() - k.log() - log_norm


def _zipf(a: Tensor) -> tuple[Tensor, Any, Steps, Any]:
    log_norm = torch.special.zeta(a, torch.ones_like(a)).log()
    return _column(1.0), INF, Steps(torch.zeros_like(a), ((a, 0), (-a, 1))), lambda k: -a * k.log() - log_norm


def _zipfian(a: Tensor, n: Tensor) -> tuple[Tensor, Any, Steps, Any]:
    k = torch.arange(1.0, float(n.max()) + 1, dtype=torch.float64)
    norm = torch.where(k <= n, k**-a, 0.0).sum(-1, keepdim=True)
    return _column(1.0), n, Steps(torch.zeros_like(a), ((a, 0), (-a, 1))), lambda k: -a * k.log() - norm.log()


def _truncated_geometric(rate: Tensor, n: Any) -> tuple[Tensor, Any, Steps, Any]:
    log_norm = (-torch.expm1(-rate)).log() - (-torch.expm1(-rate * n)).log()
    return _column(0.0), n - 1, Steps(-rate), lambda k: -rate * k + log_norm


def _uniform(low: Tensor, high: Tensor) -> tuple[Tensor, Any, Steps, Any]:
    return low, high - 1, Steps(torch.zeros_like(low)), lambda k: -(high - low).log() + 0 * k


def _yule_simon(a: Tensor) -> tuple[Tensor, Any, Steps, Any]:
    log_norm = a.log() + (a + 1).lgamma()
    steps = Steps(torch.zeros_like(a), ((1, 0), (-1, 1 + a)))
    return _column(1.0), INF, steps, lambda k: log_norm - log_rising(k, a + 1)


def _beta_negative_binomial(n: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Any, Steps, Any]:
    log_norm = (a + n).lgamma() - n.lgamma() - a.lgamma() + log_rising(b, a)  # Γ(a + b)/Γ(b)

    def log_masses(k: Tensor) -> Tensor:
        return log_rising(k + 1, n - 1) - log_rising(b + k, a + n) + log_norm

    return _column(0.0), INF, Steps(torch.zeros_like(a), ((1, n), (1, b), (-1, 1), (-1, n + a + b))), log_masses


def _betabinom(n: Tensor, a: Tensor, b: Tensor) -> Lattice:
    return _of_steps("betabinom", 0 * n, n, Steps(0 * n, ((1, a), (-1, 1)), ((1, n), (-1, n - 1 + b))))


def _nhypergeom(M: Tensor, n: Tensor, r: Tensor) -> Lattice:
    return _of_steps("nhypergeom", 0 * n, n, Steps(0 * n, ((1, r), (-1, 1)), ((1, n), (-1, M - r))))


def _hypergeom(M: Tensor, n: Tensor, N: Tensor, odds: Tensor | None = None) -> Lattice:
    theta, name = (0 * n, "hypergeom") if odds is None else (odds.log(), "nchypergeom_fisher")
    steps = Steps(theta, ((-1, 1), (-1, M - n - N + 1)), ((1, n), (1, N)))
    return _of_steps(name, (N + n - M).clamp(min=0), torch.minimum(n, N), steps)


def _of_steps(name: str, low: Tensor, high: Tensor, steps: Steps) -> Lattice:
    """Return the law of a finite support that has these steps."""
    n = int((high - low).max()) + 1
    if n > _TABLE:
        raise ConvergenceError(f"{name} has {n} outcomes: at most {_TABLE} are summed")
    index = torch.arange(n, dtype=torch.float64)
    k = torch.minimum(low + index, high - 1)
    t = steps.theta + sum(w * (k + A).log() for w, A in steps.ups) + sum(v * (E - k).log() for v, E in steps.downs)
    table = torch.cat([torch.zeros_like(t[..., :1]), t[..., :-1].cumsum(-1)], -1)
    table = torch.where(index <= high - low, table, -INF)
    table = table - table.logsumexp(-1, keepdim=True)
    return _of_table(name, low, table, high, steps)


def _poisson_binomial(probabilities: Any) -> Lattice:
    """Return the law of a sum of independent Bernoulli variables: one convolution each, in logarithms."""
    table = torch.zeros(1, dtype=torch.float64)
    none = torch.tensor([-INF], dtype=torch.float64)
    for p in probabilities:
        log_p, log_rest = (x.squeeze() for x in _complements(_column(p))[2:])
        table = torch.logaddexp(torch.cat([table + log_rest, none]), torch.cat([none, table + log_p]))
    return _of_table("poisson_binom", _column(0.0), table)


def _two_sided_geometric(a: Tensor) -> Lattice:
    """tanh(a/2) e^{−a|k|}."""
    steps = Bounds(Steps(-a), Steps(-a))
    ends = torch.full_like(a, INF)
    return Lattice(
        "dlaplace", -ends, ends, lambda k: (a / 2).tanh().log() - a * k.abs(), steps, steps, torch.zeros_like(a)
    )


def _skellam(up: Tensor, down: Tensor) -> Lattice:
    """Return the law of a difference of Poisson variables: e^{−μ−ν} (μ/ν)^{k/2} I_|k|(x), x = 2√(μν).

    I_{k+1}/I_k = 1/(2(k + 1)/x + I_{k+2}/I_{k+1}) lies in [(x/2)/(k + 1 + x²/8), (x/2)/(k + 1)] for k ≥ 0.
    """
    x = 2 * (up * down).sqrt()

    def log_masses(k: Tensor) -> Tensor:
        return k / 2 * (up.log() - down.log()) - (up.sqrt() - down.sqrt()) ** 2 + log_bessel(k.abs(), x)

    def bounds(rate: Tensor) -> Bounds:
        return Bounds(*(Steps(rate.log(), ((-1, 1 + more),)) for more in (0, x * x / 8)))

    end = torch.full_like(up, INF)
    return Lattice("skellam", -end, end, log_masses, bounds(up), bounds(down), torch.zeros_like(up))


_SCIPY: dict[str, Callable[..., tuple[Tensor, Any, Steps, Any]]] = {
    "logser": _logser,
    "zipf": _zipf,
    "zipfian": _zipfian,
    "planck": lambda rate: _truncated_geometric(rate, INF),
    "boltzmann": _truncated_geometric,
    "randint": _uniform,
    "yulesimon": _yule_simon,
    "betanbinom": _beta_negative_binomial,
}
_SCIPY_LAWS: dict[str, Callable[..., Lattice]] = {
    "poisson": poisson,
    "geom": lambda p: geometric(p, *_complements(p)[2:]).shifted(_column(1.0)),
    "nbinom": lambda n, p: negative_binomial(n, *(_complements(p)[i] for i in (1, 0, 3, 2))),
    "binom": lambda n, p: binomial(n, *_complements(p)),
    "bernoulli": lambda p: binomial(torch.ones_like(p), *_complements(p)),
    "dlaplace": _two_sided_geometric,
    "skellam": _skellam,
    "betabinom": _betabinom,
    "hypergeom": _hypergeom,
    "nhypergeom": _nhypergeom,
    "nchypergeom_fisher": _hypergeom,
}


def _of_scipy(frozen: Any) -> Lattice | None:
    name, (shapes, loc, _) = frozen.dist.name, line_arguments(frozen)
    shift = _column(loc)
    if bool((shift != shift.round()).any()):
        return None
    if name == "poisson_binom":
        return _poisson_binomial(shapes).shifted(shift)
    parameters = [_column(x) for x in np.broadcast_arrays(*shapes)] if shapes else []
    if name in _SCIPY_LAWS:
        return _SCIPY_LAWS[name](*parameters).shifted(shift)
    if name in _SCIPY:
        low, high, steps, masses = _SCIPY[name](*parameters)
        high = torch.as_tensor(high, dtype=torch.float64).expand_as(parameters[0])
        return one_sided(name, low, high, masses, steps).shifted(shift)
    return _of_masses(frozen, name)


def _of_masses(frozen: Any, name: str) -> Lattice | None:
    """Return a law of which only the masses are known."""
    values = getattr(frozen.dist, "xk", None)
    if values is not None and np.any(np.asarray(values) != np.round(values)):
        return None
    low, high = (_column(end) for end in frozen.support())

    def log_masses(k: Tensor) -> Tensor:
        masses = frozen.logpmf(np.moveaxis(k.numpy(), -1, 0))  # its parameters broadcast with the last axes
        return torch.as_tensor(np.moveaxis(np.asarray(masses, dtype=np.float64), 0, -1))

    return replace(one_sided(name, low, high, log_masses, None), is_rough=values is None)
