"""One name, one statistic: what a string means in `two_sample_test`, and which estimators may stand in its place."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import NamedTuple

from estimators.base import Estimator
from estimators.kernel.energy import EnergyDistance
from estimators.kernel.mmd import MMD
from estimators.neural.deep_kernel import DeepKernel
from estimators.transport import EMD, Sinkhorn
from estimators.transport.sliced import MaxSlicedWasserstein, SlicedWasserstein
from estimators.two_sample import aggregate, binned, kernel, learned, transport
from estimators.two_sample.c2st import C2ST
from estimators.two_sample.default import default
from estimators.two_sample.kolmogorov_smirnov import kolmogorov_smirnov
from estimators.two_sample.pool import Plan, Pool


class Entry(NamedTuple):
    """How a test is planned, the points it needs on each side, and the designs it can cope with."""

    name: str
    plan: Callable[[Pool], Plan]
    minimum: int = 2
    takes_weights: bool = True
    takes_unequal: bool = True  # clusters of unequal size, so that the samples' sizes differ between labellings
    takes_bins: bool = False


_ENTRIES: dict[str, Callable[[], Entry]] = {
    "auto": lambda: Entry("auto", default, takes_weights=False),
    "mmd": lambda: _of_estimator(MMD()),
    "mmd_agg": lambda: Entry("mmd_agg", aggregate.aggregated),
    "mmd_fuse": lambda: Entry("mmd_fuse", aggregate.fused),
    "energy_distance": lambda: _of_estimator(EnergyDistance()),
    "kolmogorov_smirnov": lambda: Entry("kolmogorov_smirnov", lambda pool: Plan([kolmogorov_smirnov(pool)])),
    "sliced_wasserstein": lambda: _of_estimator(SlicedWasserstein()),
    "sinkhorn": lambda: _of_estimator(Sinkhorn()),
    "emd": lambda: _of_estimator(EMD()),
    "c2st": lambda: _of_classifier(C2ST()),
}
NAMES = tuple(_ENTRIES)


def resolved(statistic: str | Estimator | C2ST) -> Entry:
    """The entry of a name, of an estimator, or of a classifier test.

    Raises:
        ValueError: an unknown name.
        TypeError: an estimator with a critic, or none of these.
    """
    if isinstance(statistic, str):
        if statistic not in NAMES:
            near = difflib.get_close_matches(statistic, NAMES, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(f"statistic must be one of {', '.join(NAMES)}, or an estimator: got {statistic!r}{hint}")
        return _ENTRIES[statistic]()._replace(name=statistic)
    if isinstance(statistic, C2ST):
        return _of_classifier(statistic)
    if hasattr(statistic, "critic"):
        raise TypeError(
            f"{type(statistic).__name__} has a critic, which would have to be trained anew for each permutation: "
            'use statistic="auto" or "c2st", or a statistic without a critic'
        )
    if not isinstance(statistic, Estimator):
        hint = f"; a classifier goes into est.C2ST({type(statistic).__name__}(…))" if hasattr(statistic, "fit") else ""
        raise TypeError(f"statistic must be a name, an estimator or C2ST: got {type(statistic).__name__}{hint}")
    return _of_estimator(statistic)


def _of_classifier(statistic: C2ST) -> Entry:
    return Entry(repr(statistic), statistic.plan, takes_weights=False)


def _of_estimator(estimator: Estimator) -> Entry:
    if isinstance(estimator, MMD) and isinstance(estimator.kernel, DeepKernel):
        fitted = estimator.kernel.is_fitted
        return Entry(repr(estimator), lambda pool: learned.plan(estimator, pool), takes_weights=fitted)

    def plan(pool: Pool) -> Plan:
        if isinstance(estimator, MMD) and estimator.statistic in ("unbiased", "biased"):
            return binned.plan(estimator, pool) or Plan([kernel.mmd(estimator, pool)])
        if isinstance(estimator, Sinkhorn):
            return Plan([transport.sinkhorn(estimator, pool)])
        plain = pool.weights is None and pool.design.has_equal_sizes
        if isinstance(estimator, SlicedWasserstein) and not isinstance(estimator, MaxSlicedWasserstein) and plain:
            return Plan([transport.sliced(estimator, pool)])
        return Plan([transport.value_of(estimator, pool)])

    weighted = isinstance(estimator, MMD | SlicedWasserstein | Sinkhorn | EMD)
    in_bins = isinstance(estimator, MMD) and estimator.statistic in ("unbiased", "biased")
    return Entry(repr(estimator), plan, max(2, estimator.minimum), takes_weights=weighted, takes_bins=in_bins)
