"""The exact value of an f-divergence of two known laws: which way leads to it.

The ways, in the order in which ``method="auto"`` tries them: a finite support is summed; points against a density are
mutually singular; a registered closed form; a countable support is summed to a proven tail; a product of independent
coordinates is taken coordinate by coordinate; on the line, quadrature. A batch is one value for each of its elements.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor

from divergences import countable, discrete, embeddings, families, gaussian, gaussian_transport, quadrature
from divergences._arrays import as_given
from divergences._generator import FDivergence
from divergences.exact import closed_form, missing, type_name
from divergences.laws import Empirical, Probabilities, as_law, is_torch
from divergences.named import get

METHODS = ("auto", "closed_form", "discrete", "quadrature")
LOGARITHMIC = frozenset({"kl", "reverse_kl", "js", "jeffreys", "skew_js", "skew_kl", "gan", "bhattacharyya", "renyi"})
REGISTERED = (families, gaussian, gaussian_transport, embeddings)  # imported for the closed forms that they register
_POWERS = {"pearson_chi2": (2.0, 1.0), "neyman_chi2": (-1.0, 1.0), "squared_hellinger": (0.5, -2.0)}  # (α, c)


def evaluate(divergence: str | FDivergence, p: Any, q: Any, method: str = "auto", base: float | None = None) -> Any:
    """Return the exact D_f(P‖Q); `divergences.f_divergence` documents it."""
    d = get(divergence) if isinstance(divergence, str) else divergence
    if not isinstance(d, FDivergence):
        raise TypeError(f"divergence must be an f-divergence, by name or as an object: got {divergence!r}")
    factor = unit(base, d.name)
    P, Q = laws(p, q, method)
    value = f_value(d, P, Q, method)
    return answer(value if factor == 1 else value * factor, p, q)


def laws(p: Any, q: Any, method: str) -> tuple[Any, Any]:
    """Both laws, checked against each other. Raises ValueError or TypeError."""
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}: got {method!r}")
    P, Q = as_law(p, "p"), as_law(q, "q")
    if isinstance(P, Probabilities) != isinstance(Q, Probabilities):
        raise TypeError(f"probability vectors meet only probability vectors: got {type_name(p)} and {type_name(q)}")
    return P, Q


def unit(base: float | None, name: str) -> float:
    """Return what turns nats into the unit of ``base``; only where the divergence is logarithmic."""
    if base is None:
        return 1.0
    if name not in LOGARITHMIC:
        raise ValueError(f"{name} is not in logarithmic units: base= has no meaning for it")
    if not base > 0 or base == 1:
        raise ValueError(f"base must be positive and not 1: got {base}")
    return 1 / math.log(base)


def answer(value: Any, p: Any, q: Any) -> Any:
    """``value`` as a tensor if either law was torch's, else as a float or a numpy array."""
    result = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
    if is_torch(p) or is_torch(q):
        return result
    return as_given(result, None)


def f_value(d: FDivergence, p: Any, q: Any, method: str = "auto") -> Tensor:
    """D_f of two laws, by the first way that applies and that ``method`` allows."""
    p, q = families.without_transforms(p, q)
    vectors = discrete.aligned(p, q)
    if vectors is not None:
        if method in ("auto", "discrete"):
            return discrete.value(d, *vectors)
        raise ValueError(f'laws on finite supports need method="discrete" or "auto": got {method!r}')
    sums = countable.pair(p, q) if method in ("auto", "discrete") else None
    if method == "discrete" and sums is None:
        raise ValueError(f'method="discrete" needs countable supports: got {type_name(p)} and {type_name(q)}')
    if sums is None and (isinstance(p, Empirical) or isinstance(q, Empirical)):
        if not (discrete.has_density(p) or discrete.has_density(q)):
            raise _missing(d, p, q)
        return torch.tensor(d.upper_bound, dtype=torch.float64)  # mutually singular: points have no mass there
    if method in ("auto", "closed_form"):
        value = closed_f_value(d, p, q)
        if value is not None:
            return value
        if method == "closed_form":
            raise NotImplementedError(f"no closed form of {d!r} for {type_name(p)} and {type_name(q)}")
    if sums is not None:
        return countable.f_value(d, *sums)
    value = _of_product(d, p, q, method)
    if value is None:
        value = quadrature.batched(quadrature.f_value, p, q, d)
    if value is None:
        raise _missing(d, p, q)
    return value


def closed_f_value(d: FDivergence, p: Any, q: Any) -> Tensor | None:
    """Return a closed form of d, of its reversal with the laws exchanged, or what follows from KL or the affinity."""
    for one, a, b in ((d, p, q), (d.reversed(), q, p)):
        value = closed_form(one.name, a, b, **one.arguments)
        if value is not None:
            return value
    if d.name == "jeffreys":
        forward, backward = closed_form("kl", p, q), closed_form("kl", q, p)
        return None if forward is None or backward is None else forward + backward
    if (power := as_power(d)) is None:
        return None
    order, scale = power
    if order in (0, 1):
        return closed_form("kl", *((p, q) if order == 1 else (q, p)))
    log_affinity = closed_affinity(p, q, order)
    return None if log_affinity is None else scale * torch.expm1(log_affinity)


def closed_affinity(p: Any, q: Any, order: float) -> Tensor | None:
    """Return log ∫ p^α q^{1−α} in closed form, for either order of the laws; None where there is none."""
    value = closed_form("log_affinity", p, q, alpha=order)
    return closed_form("log_affinity", q, p, alpha=1 - order) if value is None else value


def as_power(d: FDivergence) -> tuple[float, float] | None:
    """``(α, c)`` where D_f = c·(∫ p^α q^{1−α} − 1); None for any other row. At α = 0 and 1 c is nan: it is a KL."""
    if d.name != "alpha":
        return _POWERS.get(d.name)
    order = float(d.arguments["alpha"])
    return order, math.nan if order in (0, 1) else 1 / (order * (order - 1))


def _of_product(d: FDivergence, p: Any, q: Any, method: str) -> Tensor | None:
    """Independent coordinates: KL adds, ∫ p^α q^{1−α} multiplies; None for other laws and divergences."""
    if not (isinstance(p, td.Independent) and isinstance(q, td.Independent)) or p.event_shape != q.event_shape:
        return None
    a, b, axes = p.base_dist, q.base_dist, tuple(range(-len(p.event_shape), 0))
    if not axes or a.event_shape or b.event_shape or p.event_shape.numel() == 1:
        return None
    if d.name in ("kl", "reverse_kl", "jeffreys"):
        return f_value(d, a, b, method).sum(axes)
    power = as_power(d)
    if power is None or math.isnan(power[1]):
        return None
    return power[1] * torch.expm1(torch.log1p(f_value(d, a, b, method) / power[1]).sum(axes))


def _missing(d: FDivergence, p: Any, q: Any) -> NotImplementedError:
    return missing(d.name, p, q, f"dv.monte_carlo(p, q, {d.name!r}) estimates it")
