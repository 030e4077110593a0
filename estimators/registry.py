"""One name, one estimator: what a string means wherever an estimator is asked for."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import difflib
import inspect
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import divergences as dv
from divergences.named import ALIASES, required
from estimators.base import Estimator
from estimators.classical.gaussian_plug_in import GaussianPlugIn
from estimators.classical.kernel_density import KernelDensity
from estimators.classical.nearest_neighbor import NearestNeighbor
from estimators.classical.plug_in import Histogram
from estimators.kernel.energy import EnergyDistance
from estimators.kernel.frechet import Frechet
from estimators.kernel.mmd import MMD
from estimators.neural.adversarial import Hinge, LeastSquares, MinimaxGAN, NonSaturatingGAN
from estimators.neural.donsker_varadhan import DonskerVaradhan
from estimators.neural.info_nce import InfoNCE
from estimators.neural.kantorovich import KantorovichRubinstein
from estimators.neural.variational import Variational
from estimators.ratio.density_ratio import DensityRatio
from estimators.transport import EMD, Sinkhorn
from estimators.transport.affine_wasserstein import AffineWasserstein
from estimators.transport.sliced import SlicedWasserstein
from estimators.transport.wasserstein import Wasserstein

if TYPE_CHECKING:
    from estimators.results import Estimate

_ESTIMATORS: dict[str, Callable[[], Estimator]] = {
    "mmd": MMD,
    "energy_distance": EnergyDistance,
    "sinkhorn": Sinkhorn,
    "sliced_wasserstein": SlicedWasserstein,
    "emd": EMD,
    "frechet": Frechet,
    "wasserstein": KantorovichRubinstein,
    "non_saturating_gan": NonSaturatingGAN,
    "minimax_gan": MinimaxGAN,
    "least_squares": LeastSquares,
    "hinge": Hinge,
}


def _of_kl(estimator: Callable[[], Estimator], divergence: Any) -> Estimator:
    """A method of KL alone."""
    found = dv.get(divergence) if isinstance(divergence, str) else divergence
    if not isinstance(found, dv.FDivergence) or found.name != "kl":
        raise NotImplementedError(f"{estimator.__name__} estimates kl alone")
    return estimator()


# How `estimate` may estimate what is a function of an f-divergence.
_F_METHODS: dict[str, Callable[[Any], Estimator]] = {
    "auto": lambda divergence: DensityRatio(divergence, "auto"),
    "ratio": DensityRatio,
    "knn": NearestNeighbor,
    "histogram": Histogram,
    "kde": KernelDensity,
    "gaussian": GaussianPlugIn,
    "variational": Variational,
    "donsker_varadhan": partial(_of_kl, DonskerVaradhan),
    "infonce": partial(_of_kl, InfoNCE),
}
# The same for the other names that have more than one way.
_METHODS: dict[str, dict[str, Callable[[], Estimator]]] = {
    "wasserstein": {"auto": Wasserstein, "emd": EMD, "affine": AffineWasserstein, "critic": KantorovichRubinstein},
}

_TEST = "est.two_sample_test(x, y, 'kolmogorov_smirnov')"
# What the names by which a divergence is also known, or asked for here by mistake, may stand for.
_MEANT: dict[str, str] = {
    **dict.fromkeys(("tv", "tvd", "total_variation_distance"), "'total_variation'"),
    **dict.fromkeys(("jsd", "jensen_shannon", "jensen_shannon_divergence"), "'js'"),
    **dict.fromkeys(("kld", "kullback_leibler", "kl_divergence"), "'kl'"),
    **dict.fromkeys(("chi2", "chi_square", "chi_squared", "chisquare", "chisquared"), "'pearson_chi2'"),
    **dict.fromkeys(("fid", "frechet_inception_distance", "frechet_distance"), "'frechet'"),
    **dict.fromkeys(("energy", "cramer"), "'energy_distance'"),
    **dict.fromkeys(("sliced", "swd"), "'sliced_wasserstein'"),
    **dict.fromkeys(("w1", "earth_mover", "earth_movers_distance", "wasserstein_1"), "'wasserstein'"),
    **dict.fromkeys(("w2", "wasserstein_2"), "'wasserstein', order=2"),
    **dict.fromkeys(("ks", "kolmogorov_smirnov"), _TEST),
    "precision_recall": "est.precision_recall(x, y)",
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
    x: Any, y: Any, divergence: str | dv.FDivergence | dv.Named | Estimator = "kl", method: str = "auto", **options: Any
) -> Estimate:
    """D(P‖Q) from samples, by the estimator that fits the name and the method; the choice stands in the notes.

    Args:
        x: data or target, (n, d), or (n,) for one coordinate where y has one axis too.
        y: model or reference, (m, d) or (m,).
        divergence: a name of `names()`, "hellinger", "bhattacharyya", an object such as
            ``dv.get("renyi", alpha=2)``, or an estimator. Parameters may be options: ``"renyi", alpha=2``.
        method: "auto", or for what follows from an f-divergence "ratio", "knn", "histogram", "kde", "gaussian" or
            "variational", where that estimator takes it, and for "kl" also "donsker_varadhan" or "infonce". "auto"
            chooses a model of the density ratio by held-out evidence, see `DensityRatio`; the other divergences have a
            default each.
        options: those of `Estimator.estimate`: confidence, seed (None is 0, a fixed seed), weights, nan_policy; and
            arguments of the estimator that is taken, such as ``order=2`` for "wasserstein".

    Raises:
        ValueError: an unknown name or method, or samples refused at the door.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(500, 1))
        >>> estimate(x, x[:250] + 1, "kl", seed=0).estimator
        "DensityRatio(divergence='kl', model='auto', prior=None)"
    """
    if isinstance(divergence, dv.Named) and divergence.name in _ESTIMATORS:
        options = {**divergence.arguments, **options}
        divergence = divergence.name
    divergence, options = _parametrised(divergence, options)
    ways = methods(divergence)
    name = divergence if isinstance(divergence, str) else getattr(divergence, "name", type(divergence).__name__)
    if method != "auto" and method not in ways:
        valid = ", ".join(dict.fromkeys(["auto", *ways]))
        raise ValueError(f"method must be one of {valid} for {name}: got {method!r}")
    others = [other for other in ways if other not in ("auto", method)]
    note = f"method {method!r}; also: {', '.join(others)}" if others else ""
    chosen = ways[method] if ways else as_estimator(divergence)
    own = {key: options.pop(key) for key in set(options) - set(inspect.signature(Estimator.estimate).parameters)}
    if own:
        unknown = set(own) - set(chosen.arguments)
        if unknown:
            its_own = [key for key in chosen.arguments if key != "divergence"]
            valid = ", ".join([*list(inspect.signature(Estimator.estimate).parameters)[3:], *its_own])
            raise TypeError(f"{type(chosen).__name__} has no option {min(unknown)!r}: choose from {valid}")
        chosen = type(chosen)(**{**chosen.arguments, **own})
    found = chosen.estimate(x, y, **options)
    return dataclasses.replace(found, notes=(*found.notes, note)) if note else found


def _parametrised(divergence: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A name that needs parameters, with those among the options, as the object it stands for.

    Raises:
        TypeError: one is missing.
    """
    if not isinstance(divergence, str) or divergence in _ESTIMATORS:
        return divergence, options
    if divergence not in dv.names() and divergence not in ALIASES:
        return divergence, options
    needed = required(divergence)
    own = {key: value for key, value in options.items() if key in needed}
    missing = [key for key, required in needed.items() if required and key not in own]
    if missing:
        call = f"est.estimate(x, y, {divergence!r}, {missing[0]}=…)"
        raise TypeError(f"{divergence!r} needs its parameter {missing[0]}: {call}")
    if not own:
        return divergence, options
    return dv.get(divergence, **own), {key: value for key, value in options.items() if key not in own}


def methods(divergence: Any) -> dict[str, Estimator]:
    """The estimators of a divergence by the name of the method; none where `as_estimator` has the only one."""
    if not isinstance(divergence, str | dv.FDivergence | dv.Named):
        return {}
    if isinstance(divergence, str) and divergence in _ESTIMATORS:
        return {name: build() for name, build in _METHODS.get(divergence, {}).items()}
    if isinstance(divergence, str):
        _known(divergence)
    ways = {}
    for name, build in _F_METHODS.items():
        with contextlib.suppress(NotImplementedError):  # this estimator does not take this divergence
            ways[name] = build(divergence)
    return ways


def _f_divergence(name: str) -> dv.FDivergence:
    found = _known(name)
    if isinstance(found, dv.FDivergence):
        return found
    hint = f"; did you mean {_MEANT[name]}?" if name in _MEANT else "."
    raise ValueError(f"no estimator of the divergence {name!r}{hint} Known names: {', '.join(names())}")


def _known(name: str) -> dv.FDivergence | dv.Named:
    """The divergence of that name. Raises ValueError with the nearest name where there is none."""
    try:
        return dv.get(name)
    except ValueError:
        plain = name.casefold().replace("-", "_").replace(" ", "_")
        near = [_MEANT[plain]] if plain in _MEANT else list(map(repr, difflib.get_close_matches(plain, names(), n=1)))
    hint = f"; did you mean {near[0]}?" if near else "."
    raise ValueError(f"unknown divergence {name!r}{hint} Known names: {', '.join(names())}")


def _trains(name: str) -> bool:
    try:
        return isinstance(dv.get(name), dv.FDivergence)
    except TypeError:  # it needs a parameter, so the bare name stands for nothing
        return False
