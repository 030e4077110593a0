"""One name, one estimator: what a string means wherever an estimator is asked for."""

from __future__ import annotations

import copy
import dataclasses
import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import divergences as dv
from estimators.adversarial import MinimaxGAN, NonSaturatingGAN
from estimators.base import Estimator
from estimators.energy import EnergyDistance
from estimators.kantorovich import KantorovichRubinstein
from estimators.mmd import MMD
from estimators.nearest_neighbor import NearestNeighbor
from estimators.sliced import SlicedWasserstein
from estimators.transport import EMD, Sinkhorn
from estimators.variational import Variational

if TYPE_CHECKING:
    from estimators.results import Estimate

_ESTIMATORS: dict[str, Callable[[], Estimator]] = {
    "mmd": MMD,
    "energy_distance": EnergyDistance,
    "sinkhorn": Sinkhorn,
    "sliced_wasserstein": SlicedWasserstein,
    "emd": EMD,
    "wasserstein": KantorovichRubinstein,
    "non_saturating_gan": NonSaturatingGAN,
    "minimax_gan": MinimaxGAN,
}
# How a named divergence may be estimated by `estimate`; the first one is "auto".
_METHODS: dict[str, dict[str, Callable[[], Estimator]]] = {
    "kl": {"knn": lambda: NearestNeighbor("kl"), "variational": lambda: Variational("kl")},
    "reverse_kl": {"knn": lambda: NearestNeighbor("reverse_kl"), "variational": lambda: Variational("reverse_kl")},
    "wasserstein": {"emd": EMD, "critic": KantorovichRubinstein},
    "js": {"variational": lambda: Variational("js"), "classifier": MinimaxGAN},
}


def names() -> tuple[str, ...]:
    """Every name that stands for a divergence which can be estimated and trained with."""
    return tuple(name for name in dv.names() if name not in _ESTIMATORS and _trains(name)) + tuple(_ESTIMATORS)


def as_estimator(divergence: str | dv.FDivergence | dv.Named | Estimator) -> Estimator:
    """The estimator that a name or an f-divergence stands for; a copy of an estimator object.

    An f-divergence stands for its variational bound, "wasserstein" for the Kantorovich–Rubinstein critic.

    Raises:
        ValueError: an unknown name; the message lists those that exist.
        TypeError: neither a name nor a divergence nor an estimator.
    """
    if isinstance(divergence, Estimator):
        return copy.deepcopy(divergence)
    if isinstance(divergence, dv.FDivergence):
        return Variational(divergence)
    if isinstance(divergence, dv.Named) and not divergence.arguments:
        divergence = divergence.name
    if not isinstance(divergence, str):
        raise TypeError(f"divergence must be a name, an FDivergence or an Estimator: got {type(divergence).__name__}")
    if divergence in _ESTIMATORS:
        return _ESTIMATORS[divergence]()
    return Variational(_f_divergence(divergence))


def estimate(
    x: Any, y: Any, divergence: str | dv.FDivergence | Estimator = "kl", method: str = "auto", **options: Any
) -> Estimate:
    """D(P‖Q) from samples, by the estimator that fits the name and the method; the choice stands in the notes.

    Args:
        x: data or target, (n, d).
        y: model or reference, (m, d).
        divergence: a name of `names()`, an f-divergence, or an estimator.
        method: "auto", or one of the methods for that divergence, such as "knn" or "variational" for "kl".
        options: those of `Estimator.estimate`: confidence, seed, weights, nan_policy.

    Raises:
        ValueError: an unknown name or method, or samples refused at the door.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(500, 1))
        >>> estimate(x, x[:250] + 1, "kl", seed=0).estimator
        "NearestNeighbor(divergence='kl', k=5)"
    """
    name = divergence if isinstance(divergence, str) else getattr(divergence, "name", "")
    methods = _METHODS.get(name, {})
    if method == "auto":
        if methods:
            method = next(iter(methods))
            chosen = methods[method]()
            note = f"method {method!r} is the default for {name!r}; also: {', '.join(list(methods)[1:])}"
        else:
            chosen, note = as_estimator(divergence), ""
    elif method in methods:
        chosen, note = methods[method](), ""
    else:
        valid = ", ".join(["auto", *methods])
        raise ValueError(f"method must be one of {valid} for {name or type(divergence).__name__}: got {method!r}")
    found = chosen.estimate(x, y, **options)
    return dataclasses.replace(found, notes=(*found.notes, note)) if note else found


def _f_divergence(name: str) -> dv.FDivergence:
    try:
        found = dv.get(name)
    except ValueError:
        found = None
    if isinstance(found, dv.FDivergence):
        return found
    near = difflib.get_close_matches(name, names(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    what = "unknown divergence" if found is None else "no estimator of the divergence"
    raise ValueError(f"{what} {name!r}{hint} Known names: {', '.join(names())}")


def _trains(name: str) -> bool:
    try:
        return isinstance(dv.get(name), dv.FDivergence)
    except TypeError:  # it needs a parameter, so the bare name stands for nothing
        return False
