"""The registry of closed forms: the value of D(P‖Q) by the divergence's name and the types of the two laws.

Adding a closed form is adding one function with the decorator `exact`; it gets both laws and the divergence's
parameters by name, and returns None where it does not cover them. Two names stand for whole families:

- "log_affinity", log ∫ p^α q^{1−α}: the α-divergences, Rényi, χ², Hellinger and Bhattacharyya follow from it;
- "kl": reverse KL and Jeffreys follow from it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

Form = Callable[..., Tensor | None]
_FORMS: dict[tuple[str, type, type], list[Form]] = {}


def exact(divergence: str, p: type, q: type) -> Callable[[Form], Form]:
    """Register a closed form of ``divergence`` between laws of types ``p`` and ``q``."""

    def register(form: Form) -> Form:
        _FORMS.setdefault((divergence, p, q), []).append(form)
        return form

    return register


def closed_form(divergence: str, p: Any, q: Any, /, **parameters: Any) -> Tensor | None:
    """Return the registered closed form's value, the most specific pair of types first; None where none covers it."""
    found = [
        (i + j, i, form)
        for i, a in enumerate(type(p).__mro__)
        for j, b in enumerate(type(q).__mro__)
        for form in _FORMS.get((divergence, a, b), ())
    ]
    for _, _, form in sorted(found, key=lambda row: row[:2]):
        value = form(p, q, **parameters)
        if value is not None:
            return value
    return None


def missing(name: str, p: Any, q: Any, way: str) -> NotImplementedError:
    """Return what to raise where no exact way exists; ``way`` says what the caller can do instead."""
    return NotImplementedError(f"no exact value of {name} for {type_name(p)} and {type_name(q)}: {way}")


def type_name(law: Any) -> str:
    """Return a law's family, as a message names it."""
    return getattr(getattr(law, "dist", None), "name", None) or type(law).__name__
