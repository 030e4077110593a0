"""What a plug-in estimates: a divergence as an increasing function of an f-divergence; and one problem at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

import divergences as dv
from divergences import FDivergence
from divergences.evaluate import as_power
from estimators.door import Samples, check_finite, check_unit

POWERS = "a power of p/q above 1 hangs on its largest values, and may be infinite without a sign of it in the samples"


class Target(NamedTuple):
    """D = outer(D_f): ``f`` is estimated, and its value, error and interval are carried through ``outer``.

    ``outer`` increases; it is given any real number and answers at the nearest value that D can have, but for an
    f-divergence below 0: an estimate less its bias is centred at 0 where P = Q, and would not be if it were cut there.
    At the largest value, which disjoint laws alone have, nothing is centred.
    """

    name: str
    f: FDivergence
    outer: Callable[[float], float]

    def error(self, inner: float, stderr: float) -> float | None:
        """The standard error of D, to first order, or None where outer has no finite slope there."""
        inner = min(inner, self.f.upper_bound)
        step = max(1e-6, 1e-6 * abs(inner))
        slope = (self.outer(inner) - self.outer(inner - step)) / step
        return stderr * slope if math.isfinite(slope) and slope > 0 else None


def target(divergence: Any, estimator: str) -> Target:
    """The target that a name or an object stands for: an f-divergence, or one of Hellinger, Bhattacharyya and Rényi.

    Raises:
        NotImplementedError: a divergence that is no function of an f-divergence.
        TypeError: neither a name nor a divergence, a name that needs a parameter, or one that is no number.
        ValueError: an unknown name.
    """
    found = dv.get(divergence) if isinstance(divergence, str) else divergence
    if isinstance(found, FDivergence):
        return _bounded(found.name, found)
    if not isinstance(found, dv.Named):
        raise TypeError(
            f"divergence must be a name, an FDivergence or a Named: got {type(found).__name__}; "
            'parameters are given as dv.get("renyi", alpha=0.5)'
        )
    if found.name == "hellinger":
        return Target(found.name, dv.SquaredHellinger(), lambda v: math.sqrt(min(max(v, 0.0), 2.0) / 2))
    if found.name == "bhattacharyya":
        return Target(found.name, dv.Alpha(0.5), lambda v: 0.5 * _log_power(v, 0.5))
    if found.name == "renyi":
        alpha = found.arguments["alpha"]
        if not isinstance(alpha, Real):
            raise TypeError(f"alpha must be a number: got {alpha!r}")
        alpha = float(alpha)
        if alpha == 1:
            return _bounded(found.name, dv.KL())
        if 0 < alpha < math.inf:
            return Target(found.name, dv.Alpha(alpha), lambda v: _log_power(v, alpha))
    raise NotImplementedError(
        f"{estimator} estimates f-divergences and what follows from them (hellinger, bhattacharyya, renyi of order in "
        f"(0, ∞)), not {found!r}: est.estimate(x, y, {found.name!r}) chooses an estimator that does"
    )


def _bounded(name: str, f: FDivergence) -> Target:
    return Target(name, f, lambda value: min(value, f.upper_bound))


class Side(NamedTuple):
    """scale·(E_P (p/q)^{power − 1} − 1), or scale·E_P log(p/q) for power 1; P and Q are exchanged if ``swapped``."""

    swapped: bool
    power: float
    scale: float


def sides(f: FDivergence) -> tuple[Side, ...]:
    """The means that add up to a logarithmic D_f or a power, each from the sample where the power is least; else ()."""
    logarithms = {"kl": (False,), "reverse_kl": (True,), "jeffreys": (False, True)}
    if f.row in logarithms:
        return tuple(Side(swapped, 1.0, 1.0) for swapped in logarithms[f.row])
    form = as_power(f)
    if form is None:
        return ()
    power, scale = form
    if power in (0, 1):
        return (Side(power == 0, 1.0, 1.0),)
    if power == 0.5:
        return (Side(False, 0.5, scale / 2), Side(True, 0.5, scale / 2))
    return (Side(False, power, scale),) if power > 0.5 else (Side(True, 1 - power, scale),)


def _log_power(value: float, alpha: float) -> float:
    """log(1 + α(α − 1) D_α)/(α − 1), the Rényi divergence; inf where the affinity is 0."""
    excess = alpha * (alpha - 1) * value
    return math.log1p(excess) / (alpha - 1) if excess > -1 else math.inf * (1 - alpha)


def on_cpu(s: Samples) -> Samples:
    """The samples and weights of one problem in float64 on the CPU, where these estimators work."""
    x, y = (part.detach().cpu().double() for part in (s.x, s.y))
    w, v = (None if part is None else part.detach().cpu().double() for part in (s.x_weights, s.y_weights))
    return Samples(x, y, w, v, s.notes)


def one_by_one(s: Samples, estimator: str, value: Callable[[Samples], float], *, moved: bool = True) -> Tensor:
    """``value`` of each problem of a batch, as a tensor without a gradient.

    It is given them in float64 on the CPU or, where they are not to be ``moved``, as they are.

    Raises:
        TypeError: a gradient is asked for.
        ValueError: the points are not finite, or the squares of their differences are no numbers.
    """
    if torch.is_grad_enabled() and (s.x.requires_grad or s.y.requires_grad):
        raise TypeError(
            f"{estimator} has no gradient: detach x and y, or train with est.Variational or est.MMD instead"
        )
    lead = torch.broadcast_shapes(s.x.shape[:-2], s.y.shape[:-2])

    def flat(points: Tensor | None, kept: int) -> list[Any]:
        if points is None:
            return [None] * math.prod(lead)
        shape, plain = points.shape[-kept:], points.detach()
        plain = plain.cpu().double() if moved else plain
        return list(plain.expand(*lead, *shape).reshape(-1, *shape))

    check_finite(s.x, "x")
    check_finite(s.y, "y")
    check_unit(s.x.detach().reshape(-1, s.x.shape[-1]), s.y.detach().reshape(-1, s.y.shape[-1]))
    parts = zip(flat(s.x, 2), flat(s.y, 2), flat(s.x_weights, 1), flat(s.y_weights, 1), strict=True)
    return torch.tensor([value(Samples(*part)) for part in parts], dtype=s.x.dtype, device=s.x.device).reshape(lead)
