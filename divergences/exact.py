"""The value of D(P‖Q) for known P and Q: which way leads to it.

Closed forms are looked up by the divergence's name and the two types, the most specific pair first. Adding one is
adding one function with the decorator `exact`; it gets both laws and the divergence's parameters by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor

from divergences._arrays import as_given
from divergences.f_divergence import FDivergence, Jeffreys, get
from divergences.laws import Empirical, Probabilities, as_law, is_torch

METHODS = ("auto", "closed_form", "discrete", "quadrature")
LOGARITHMIC = frozenset({"kl", "reverse_kl", "js", "jeffreys", "skew_js", "skew_kl", "gan", "bhattacharyya", "renyi"})
Form = Callable[..., Tensor | None]
_FORMS: dict[tuple[str, type, type], Form] = {}


def exact(divergence: str, p: type, q: type) -> Callable[[Form], Form]:
    """Register a closed form of ``divergence`` between laws of types ``p`` and ``q``."""

    def register(form: Form) -> Form:
        _FORMS[divergence, p, q] = form
        return form

    return register


def closed_form(divergence: str, p: Any, q: Any, /, **parameters: Any) -> Tensor | None:
    """Return the registered closed form's value; None where there is none or it does not cover the parameters."""
    pairs = [
        (i + j, i, form)
        for i, a in enumerate(type(p).__mro__)
        for j, b in enumerate(type(q).__mro__)
        if (form := _FORMS.get((divergence, a, b))) is not None
    ]
    for _, _, form in sorted(pairs, key=lambda pair: pair[:2]):
        value = form(p, q, **parameters)
        if value is not None:
            return value
    return None


def evaluate(divergence: str | FDivergence, p: Any, q: Any, method: str = "auto", base: float | None = None) -> Any:
    """Return the exact D_f(P‖Q); `divergences.f_divergence` documents it."""
    d = get(divergence) if isinstance(divergence, str) else divergence
    if not isinstance(d, FDivergence):
        raise TypeError(f"divergence must be a name or an FDivergence: got {type(divergence).__name__}")
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
        raise TypeError(f"probability vectors meet only probability vectors: got {_type(p)} and {_type(q)}")
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
    from divergences import discrete, quadrature

    vectors = discrete.aligned(p, q)
    if vectors is not None:
        if method in ("auto", "discrete"):
            return discrete.value(d, *vectors)
        raise ValueError(f'laws on finite supports need method="discrete" or "auto": got {method!r}')
    if method == "discrete":
        raise ValueError(f'method="discrete" needs finite supports: got {_type(p)} and {_type(q)}')
    if isinstance(p, Empirical) or isinstance(q, Empirical):
        if not (discrete.has_density(p) or discrete.has_density(q)):
            raise missing(d, p, q)
        return torch.tensor(
            d.upper_bound, dtype=torch.float64
        )  # mutually singular: points have no mass under a density
    if method in ("auto", "closed_form"):
        value = closed_f_value(d, p, q)
        if value is not None:
            return value
        if method == "closed_form":
            raise NotImplementedError(f"no closed form of {d!r} for {_type(p)} and {_type(q)}")
    reduced = quadrature.reduced(p, q)
    if reduced is None:
        raise missing(d, p, q)
    if torch.is_grad_enabled() and any(_needs_gradient(law) for law in (p, q)):
        raise NotImplementedError(
            f"{d!r} of {_type(p)} and {_type(q)} is found by quadrature, which has no gradient: detach the parameters, "
            "or call under torch.no_grad()"
        )
    return quadrature.f_value(d, *reduced)


def _needs_gradient(law: Any) -> bool:
    """Whether a parameter of a torch law requires a gradient."""
    found = [getattr(law, "base_dist", None), *vars(law).values()] if is_torch(law) else []
    return any(v.requires_grad for v in found if isinstance(v, Tensor)) or any(
        _needs_gradient(v) for v in found if isinstance(v, torch.distributions.Distribution)
    )


def closed_f_value(d: FDivergence, p: Any, q: Any) -> Tensor | None:
    """Return a closed form of d, of its reversal with the laws exchanged, or of a sum of both."""
    import divergences.gaussian  # noqa: F401  # registers its forms

    value = closed_form(d.name, p, q, **d.arguments)
    if value is None and d.reversed().name != d.name:
        back = d.reversed()
        value = closed_form(back.name, q, p, **back.arguments)
    if value is None and d == Jeffreys():
        forward, backward = closed_form("kl", p, q), closed_form("kl", q, p)
        value = None if forward is None or backward is None else forward + backward
    return value


@exact("kl", td.Distribution, td.Distribution)
def _kl_of_torch(p: td.Distribution, q: td.Distribution) -> Tensor | None:
    if p.event_shape != q.event_shape:
        raise ValueError(f"p and q must have one event shape: got {tuple(p.event_shape)} and {tuple(q.event_shape)}")
    try:
        return td.kl_divergence(p, q)
    except NotImplementedError:
        return None


def missing(divergence: Any, p: Any, q: Any) -> NotImplementedError:
    """Return what to raise where no exact way exists."""
    name = getattr(divergence, "name", divergence)
    if isinstance(divergence, FDivergence):
        way = f"dv.monte_carlo(p, q, {name!r}) estimates it"
    else:
        way = "dv.monte_carlo is for f-divergences alone, so draw from both and estimate it"
    return NotImplementedError(f"no exact value of {name} for {_type(p)} and {_type(q)}: {way}")


def _type(law: Any) -> str:
    return getattr(getattr(law, "dist", None), "name", None) or type(law).__name__


__all__ = ["LOGARITHMIC", "closed_form", "evaluate", "exact", "f_value"]
