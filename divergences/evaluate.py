"""The exact value of an f-divergence of two known laws: which way leads to it.

The ways, in the order in which ``method="auto"`` tries them: a finite support is summed; points against a density are
mutually singular; a registered closed form; a countable support is summed to a proven tail; a product of independent
coordinates is taken coordinate by coordinate; on the line, quadrature. A batch is one value for each of its elements.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
import torch.distributions as td
from torch import Tensor

from divergences import countable, discrete, embeddings, families, gaussian, gaussian_transport, quadrature
from divergences._arrays import as_given, mapped
from divergences._generator import FDivergence
from divergences.batches import batch_shape
from divergences.exact import closed_form, missing, type_name
from divergences.laws import Empirical, Probabilities, as_law, is_torch
from divergences.named import f_divergence_named

METHODS = ("auto", "closed_form", "discrete", "quadrature")
LOGARITHMIC = frozenset({"kl", "reverse_kl", "js", "jeffreys", "skew_js", "skew_kl", "gan", "bhattacharyya", "renyi"})
REGISTERED = (families, gaussian, gaussian_transport, embeddings)  # imported for the closed forms that they register
_POWERS = {"pearson_chi2": (2.0, 1.0), "neyman_chi2": (-1.0, 1.0), "squared_hellinger": (0.5, -2.0)}  # (α, c)


def evaluate(divergence: str | FDivergence, p: Any, q: Any, method: str = "auto", base: float | None = None) -> Any:
    """Return the exact D_f(P‖Q); `divergences.f_divergence` documents it."""
    d = f_divergence_named(divergence)
    factor = unit(base, d.row or "", d.name)
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


def unit(base: float | None, row: str, name: str = "") -> float:
    """Return what turns nats into the unit of ``base``; only where the divergence is logarithmic."""
    if base is None:
        return 1.0
    if row not in LOGARITHMIC:
        raise ValueError(f"{name or row} is not in logarithmic units: base= has no meaning for it")
    if isinstance(base, str | complex) or not 1 < base < math.inf:
        raise ValueError(f"base must be a finite number above 1: got {base!r}")
    return 1 / math.log(base)


def answer(value: Any, p: Any, q: Any) -> Any:
    """``value`` as a tensor if either law was torch's, else as a float or a numpy array."""
    result = value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
    if is_torch(p) or is_torch(q):
        laws_ = [law for law in (p, q) if isinstance(law, td.Distribution)]
        return result.to(functools.reduce(torch.promote_types, map(dtype_of, laws_))) if len(laws_) == 2 else result
    return as_given(result, None)


def dtype_of(law: td.Distribution) -> torch.dtype:
    """Return the dtype that a law's parameters promote to."""
    found = [torch.float32]

    def look(part: Tensor) -> Tensor:
        found.append(part.dtype if part.is_floating_point() else torch.float32)
        return part

    mapped(law, look)
    return functools.reduce(torch.promote_types, found)


def f_value(d: FDivergence, p: Any, q: Any, method: str = "auto") -> Tensor:
    """D_f of two laws, by the first way that applies and that ``method`` allows."""
    p, q = families.without_transforms(p, q)
    vectors = discrete.aligned(p, q)
    if vectors is not None:
        if method in ("auto", "discrete"):
            value = discrete.from_logits(d, p, q)
            return discrete.value(d, *vectors) if value is None else value
        raise ValueError(f'laws on finite supports need method="discrete" or "auto": got {method!r}')
    sums = countable.pair(p, q) if method in ("auto", "discrete") else None
    if method == "discrete" and sums is None and singular(p, q) is None:
        raise ValueError(f'method="discrete" needs countable supports: got {type_name(p)} and {type_name(q)}')
    if sums is None and (shape := singular(p, q)) is not None:
        if method not in ("auto", "discrete"):
            raise ValueError(f'points against a density need method="discrete" or "auto": got {method!r}')
        return torch.full(shape, d.upper_bound, dtype=torch.float64)
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


def singular(p: Any, q: Any) -> torch.Size | None:
    """Return the batch shape of two laws of which one has points and the other a density; None for other pairs.

    Raises:
        ValueError: they live in different dimensions.
    """
    kinds = [(is_on_points(law), discrete.has_density(law)) for law in (p, q)]
    if not (kinds[0][0] and kinds[1][1] or kinds[0][1] and kinds[1][0]):
        return None
    sizes = [law.points.shape[1] if isinstance(law, Empirical) else _dimension(law) for law in (p, q)]
    if sizes[0] != sizes[1]:
        raise ValueError(f"p and q must have one dimension: got {sizes[0]} and {sizes[1]}")
    return torch.broadcast_shapes(*(batch_shape(law) for law in (p, q)))


def is_on_points(law: Any) -> bool:
    """Whether a law has masses at points."""
    if isinstance(law, Empirical):
        return True
    if isinstance(law, td.Distribution):
        return law.support is not None and law.support.is_discrete
    return hasattr(law, "logpmf")


def _dimension(law: Any) -> int:
    if isinstance(law, td.Distribution):
        return law.event_shape.numel()
    return np.size(law.mean())


def closed_f_value(d: FDivergence, p: Any, q: Any) -> Tensor | None:
    """Return a closed form of d, of its reversal with the laws exchanged, or what follows from KL or the affinity."""
    for one, a, b in ((d, p, q), (d.reversed(), q, p)):
        value = closed_form(one.row, a, b, **one.arguments) if one.row else None
        if value is not None:
            return value
    if d.row == "jeffreys":
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
    if d.row != "alpha":
        return _POWERS.get(d.row or "")
    order = float(d.arguments["alpha"])
    return order, math.nan if order in (0, 1) else 1 / (order * (order - 1))


def _of_product(d: FDivergence, p: Any, q: Any, method: str) -> Tensor | None:
    """Independent coordinates: KL adds, ∫ p^α q^{1−α} multiplies; None for other laws and divergences."""
    parts = coordinates(p, q)
    if parts is None:
        return None
    a, b, axes = parts
    if d.row in ("kl", "reverse_kl", "jeffreys"):
        return f_value(d, a, b, method).sum(axes)
    power = as_power(d)
    if power is None or math.isnan(power[1]):
        return None
    return power[1] * torch.expm1(torch.log1p(f_value(d, a, b, method) / power[1]).sum(axes))


def coordinates(p: Any, q: Any) -> tuple[Any, Any, tuple[int, ...]] | None:
    """Return the laws of the coordinates of two products, and the axes that they are on; None for other laws.

    Raises:
        ValueError: the products have different shapes.
    """
    if not (isinstance(p, td.Independent) and isinstance(q, td.Independent)):
        return None
    if p.event_shape != q.event_shape:
        raise ValueError(f"p and q must have one event shape: got {tuple(p.event_shape)} and {tuple(q.event_shape)}")
    a, b, axes = p.base_dist, q.base_dist, tuple(range(-len(p.event_shape), 0))
    if not axes or a.event_shape or b.event_shape or p.event_shape.numel() == 1:
        return None
    return a, b, axes


def _missing(d: FDivergence, p: Any, q: Any) -> NotImplementedError:
    return missing(d.name, p, q, f"dv.monte_carlo(p, q, {d.name!r}) estimates it")
