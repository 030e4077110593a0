"""Is P = Q? Permutation tests, exact at every sample size, for discrete and tied data and for unequal samples.

The points are pooled and shuffled; everything that a statistic learns from data (bandwidths, directions) it learns from
the shuffled pool, without the labels. Under P = Q all labellings of the pool are then equally likely, and the rank of
the observed one among random ones is a valid p-value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from divergences import kernels
from estimators import intervals
from estimators.base import Estimator
from estimators.door import Samples, admit_thoroughly
from estimators.energy import EnergyDistance
from estimators.mmd import MMD
from estimators.results import TestResult
from estimators.sliced import MaxSlicedWasserstein, SlicedWasserstein, coupling, root
from estimators.transport import EMD, Sinkhorn

NAMED: dict[str, Callable[[], Estimator]] = {
    "mmd": MMD,
    "energy_distance": EnergyDistance,
    "sliced_wasserstein": SlicedWasserstein,
    "sinkhorn": Sinkhorn,
    "emd": EMD,
}
NAMES = ("auto", *NAMED, "kolmogorov_smirnov")

BANDWIDTHS = 5
DOUBLE = 3000  # pooled points up to which kernel matrices are in double precision
LARGEST = 12_000  # pooled points whose kernel matrix is still built: 0.6 GB each in single precision
HELD = 2**23  # numbers held at once for a chunk of permutations


class _Statistic(NamedTuple):
    """A statistic of labellings: (C, N) booleans, True for x, to values (C,). Values within ``rounding`` are ties."""

    evaluate: Callable[[Tensor], Tensor]
    chunk: int
    rounding: float = 0.0  # absolute


def two_sample_test(
    x: Any,
    y: Any,
    statistic: str | Estimator = "auto",
    permutations: int = 999,
    seed: int = 0,
    *,
    nan_policy: str = "raise",
) -> TestResult:
    """Test P = Q by permutations: p = (1 + k)/(1 + B), k of the B permuted statistics at least the observed one.

    ``statistic``: "mmd", "energy_distance", "sliced_wasserstein", "sinkhorn", "emd", "kolmogorov_smirnov" (the largest
    over coordinates), an estimator, or "auto": the largest of five Gaussian MMDs, with bandwidths from half of the 5%
    quantile of the pooled distances to twice their median, each standardised by its own permutations.

    The level is exact: P(p ≤ α) ≤ α for exchangeable points, with equality where α(B + 1) is an integer and there are
    no ties; ties make the test conservative. p is never 0. Cost for N = n + m: kernel statistics O(N²(d + B)), memory
    some N × N matrices (in single precision above 3000 points; refused above 12,000); sliced O(B·L·N); others one value
    a permutation, which for "sinkhorn" and "emd" means minutes from some hundreds of points.

    Raises:
        ValueError: an unknown name, permutations below 1, fewer than 2 points, samples refused at the door, or too many
            points for a kernel matrix.
        TypeError: an estimator with a critic: it would have to be trained anew for each permutation.

    References: Phipson and Smyth 2010 (p > 0); Hemerik and Goeman 2018, theorem 2; Biggs et al. 2023 (several kernels).

    Example:
        >>> x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
        >>> two_sample_test(x, x + 1.0, permutations=199).p_value
        0.005
    """
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1: got {permutations}")
    name, estimator = _resolved(statistic)
    s = admit_thoroughly(x, y, minimum=max(2, estimator.minimum if estimator else 2), nan_policy=nan_policy)
    n, m = len(s.x), len(s.y)
    generator = torch.Generator().manual_seed(seed)
    shuffle = torch.randperm(n + m, generator=generator)
    z = torch.cat([s.x, s.y])
    z = (z - z.mean(0))[shuffle.to(z.device)]
    labels = torch.cat([(shuffle < n)[None], _labels(n, m, permutations, generator)]).to(z.device)
    notes: list[str] = list(s.notes)
    families = _families(name, estimator, z, n, m, generator, notes)
    values, rounding = _combined([_evaluated(family, labels) for family in families])
    observed, null = float(values[0]), values[1:]
    k = int((null >= observed - rounding).sum())
    if bool((z == z[0]).all()):
        notes.append("all points are equal: nothing distinguishes the samples")
    return TestResult(
        statistic=observed,
        p_value=(1 + k) / (1 + permutations),
        name=name,
        permutations=permutations,
        interval=intervals.monte_carlo(k, permutations),
        n=n,
        m=m,
        notes=tuple(notes),
        seed=seed,
        null=tuple(null.tolist()),
    )


def _resolved(statistic: str | Estimator) -> tuple[str, Estimator | None]:
    """The statistic's name, and its estimator where it has one."""
    if isinstance(statistic, str):
        if statistic not in NAMES:
            raise ValueError(f"statistic must be one of {', '.join(NAMES)}, or an estimator: got {statistic!r}")
        return statistic, NAMED[statistic]() if statistic in NAMED else None
    if hasattr(statistic, "critic"):
        raise TypeError(
            f"{type(statistic).__name__} has a critic, which would have to be trained anew for each permutation: "
            'use statistic="auto" or a statistic without one'
        )
    if not isinstance(statistic, Estimator):
        raise TypeError(f"statistic must be a name or an estimator: got {type(statistic).__name__}")
    return repr(statistic), statistic


def _labels(n: int, m: int, permutations: int, generator: torch.Generator) -> Tensor:
    """Random labellings, (permutations, n + m), with n True each."""
    chosen = torch.rand(permutations, n + m, generator=generator, dtype=torch.float64).argsort(-1)[:, :n]
    return torch.zeros(permutations, n + m, dtype=torch.bool).scatter_(-1, chosen, True)


def _families(
    name: str,
    estimator: Estimator | None,
    z: Tensor,
    n: int,
    m: int,
    generator: torch.Generator,
    notes: list[str],
) -> Iterator[_Statistic]:
    """The statistics to combine, one after the other, so that one kernel matrix is held at a time."""
    if name == "auto":
        _check_size(z)
        lengths = _bandwidths(z)
        notes.append(
            f"auto: the largest of {len(lengths)} standardised Gaussian MMDs, bandwidths {lengths[0]:.3g} to "
            f"{lengths[-1]:.3g} from the pooled sample"
        )
        z = z if len(z) <= DOUBLE else z.float()
        d2 = kernels.squared_distances(z, z)
        for h in lengths:
            yield _kernel_statistic(kernels.Gaussian(h).of_squared_distance(d2), n, m)
    elif name == "kolmogorov_smirnov":
        yield _kolmogorov_smirnov(z, n, m)
    elif isinstance(estimator, MMD):
        kernel = estimator.resolved_kernel(Samples(z[:n], z[n:], None, None))
        notes.append(f"kernel {kernel!r}; what it takes from points it took from the pooled sample")
        if estimator.statistic in ("linear", "block"):
            yield _any(MMD(kernel, estimator.statistic), z, n, m, generator)
            return
        _check_size(z)
        z = z if len(z) <= DOUBLE else z.float()
        found = _kernel_statistic(kernel(z, z), n, m, biased=estimator.statistic == "biased")
        if not estimator.squared:
            found = found._replace(evaluate=_root_of(found.evaluate))
        yield found
    elif isinstance(estimator, SlicedWasserstein) and not isinstance(estimator, MaxSlicedWasserstein):
        yield _sliced(estimator, estimator.directions(z, generator), z, n, m)
    else:
        assert estimator is not None  # every name without an estimator has its branch above
        yield _any(estimator, z, n, m, generator)


def _evaluated(family: _Statistic, labels: Tensor) -> tuple[Tensor, float]:
    """The values of all labellings, the observed one first, in float64."""
    found = []
    with torch.no_grad(), tqdm(total=len(labels), desc="permutations", delay=2, leave=False) as progress:
        for part in labels.split(max(1, family.chunk)):
            found.append(family.evaluate(part).double().cpu())
            progress.update(len(part))
    return torch.cat(found), family.rounding


def _combined(families: list[tuple[Tensor, float]]) -> tuple[Tensor, float]:
    """One statistic from several: the largest after each is standardised over all labellings, the observed included."""
    if len(families) == 1:
        return families[0]
    total, rounding = torch.full_like(families[0][0], -math.inf), 0.0
    for values, error in families:
        spread = float(values.std())
        if spread > error:
            total = torch.maximum(total, (values - values.mean()) / spread)
            rounding = max(rounding, error / spread)
    return torch.where(total == -math.inf, 0.0, total), rounding


def _bandwidths(z: Tensor) -> list[float]:
    """Lengths from half of the 5% quantile of the positive distances to twice the median, in equal ratios."""
    some = z[:1000]  # z is shuffled, so that these are a random part of the pool
    i, j = torch.triu_indices(len(some), len(some), 1, device=z.device)
    d2 = kernels.squared_distances(some, some)[i, j]
    d = d2[d2 > 0].sqrt().sort().values
    if len(d) == 0:
        return [1.0]
    low, high = float(d[len(d) // 20]) / 2, float(d[len(d) // 2]) * 2
    return [low * (high / low) ** (k / (BANDWIDTHS - 1)) for k in range(BANDWIDTHS)]


def _check_size(z: Tensor) -> None:
    if len(z) > LARGEST:
        raise ValueError(
            f"{len(z)} pooled points are beyond the {LARGEST} whose kernel matrix is built (this one would take "
            f'{4e-9 * len(z) ** 2:.1f} GB): use statistic="sliced_wasserstein" or "kolmogorov_smirnov", or fewer points'
        )


def _kernel_statistic(K: Tensor, n: int, m: int, biased: bool = False) -> _Statistic:
    """MMD² of every labelling from products with K.

    With v = ±1, T = 1ᵀK1 and q = vᵀKv over i ≠ j: S_xx, S_yy = (T + q ± 2vᵀK1)/4 and S_xy = (T − q)/4. A constant taken
    from all K_ij changes no statistic, and removing the mean keeps the digits.
    """
    N = n + m
    diagonal = K.diagonal().clone()
    mean = (K.sum() - diagonal.sum()) / (N * (N - 1))
    K = (K - mean).fill_diagonal_(0.0)
    diagonal -= mean
    K1 = K.sum(-1).double()
    T = K1.sum()
    # Rounding of a mean of N² terms, and nothing else, may separate labellings of equal value.
    rounding = 100 * torch.finfo(K.dtype).eps * float(K.abs().mean() + diagonal.abs().mean() / N)

    def evaluate(labels: Tensor) -> Tensor:
        v = 2 * labels.to(K.dtype) - 1
        q = ((v @ K).double() * v).sum(-1)
        s = v.double() @ K1
        S_xx, S_yy, S_xy = (T + q + 2 * s) / 4, (T + q - 2 * s) / 4, (T - q) / 4
        if not biased:
            return S_xx / (n * (n - 1)) + S_yy / (m * (m - 1)) - 2 * S_xy / (n * m)
        own_x = labels.double() @ diagonal.double()
        own_y = diagonal.double().sum() - own_x
        return (S_xx + own_x) / n**2 + (S_yy + own_y) / m**2 - 2 * S_xy / (n * m)

    return _Statistic(evaluate, HELD // N, rounding)


def _root_of(evaluate: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda labels: evaluate(labels).clamp_min(0.0).sqrt()


def _kolmogorov_smirnov(z: Tensor, n: int, m: int) -> _Statistic:
    """The largest |F − G| over points and coordinates."""
    ordered, order = z.T.contiguous().sort(-1)
    last = torch.ones_like(ordered, dtype=torch.bool)  # F and G are read after the last of equal points
    last[:, :-1] = ordered[:, 1:] > ordered[:, :-1]

    def evaluate(labels: Tensor) -> Tensor:
        found = torch.zeros(len(labels), dtype=torch.float64, device=z.device)
        for k in range(len(order)):
            F = labels[:, order[k]].double().cumsum(-1)
            count = torch.arange(1, n + m + 1, dtype=torch.float64, device=z.device)
            gap = (F / n - (count - F) / m).abs()[:, last[k]]
            found = torch.maximum(found, gap.amax(-1))
        return found

    return _Statistic(evaluate, HELD // (n + m), 1e-12)


def _sliced(estimator: SlicedWasserstein, theta: Tensor, z: Tensor, n: int, m: int) -> _Statistic:
    """The sliced distance along fixed directions, from one sort of each projection."""
    ordered, order = (theta @ z.T).sort(-1)
    i, j, w = coupling(n, m, z.device)
    L = len(theta)

    def evaluate(labels: Tensor) -> Tensor:
        is_x = labels[:, order]
        all_values = ordered.expand_as(is_x)
        x, y = all_values[is_x].view(len(labels), L, n), all_values[~is_x].view(len(labels), L, m)
        difference = (x - y) if n == m else (x[..., i] - y[..., j])
        power = difference.abs().pow(estimator.order)
        power = power.mean((-2, -1)) if n == m else (power @ w).mean(-1)
        return root(power, estimator.order) if estimator.rooted else power

    return _Statistic(evaluate, HELD // (L * (n + m)), 1e-10 * float(ordered.abs().max()))


def _any(estimator: Estimator, z: Tensor, n: int, m: int, generator: torch.Generator) -> _Statistic:
    """Any estimator's value, with the same random numbers for every labelling."""
    state = generator.get_state()

    def evaluate(labels: Tensor) -> Tensor:
        x = z.expand(len(labels), -1, -1)[labels].view(len(labels), n, -1)
        y = z.expand(len(labels), -1, -1)[~labels].view(len(labels), m, -1)
        generator.set_state(state)
        return estimator.compute(Samples(x, y, None, None), generator)

    return _Statistic(evaluate, HELD // (4 * n * m), 1e-9 * float(z.abs().max()))
