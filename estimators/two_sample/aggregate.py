"""Several kernels in one test: MMDAgg and MMD-FUSE."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from divergences import kernels
from estimators.two_sample.kernel import STORED, precise, statistic
from estimators.two_sample.permutation import Statistic, p_values
from estimators.two_sample.pool import Plan, Pool

_BANDWIDTHS = 10  # for each of the two kernels


def aggregated(pool: Pool) -> Plan:
    """MMDAgg: the smallest p-value among the kernels, ranked among those of the permutations.

    Schrab et al. 2023 reject where a kernel's MMD² exceeds its 1 − u·w_k quantile, for the largest u at which that
    happens in at most a share α of the permutations (algorithm 1, equal weights w_k). With one set of permutations for
    both that is the test of min_k p_k, and its p-value is the smallest α at which it rejects. Equal minima, which are
    frequent as p_k is a multiple of 1/(1 + B), are ordered by the mean of the p_k.
    """

    def combine(found: list[Tensor], rounding: list[float]) -> tuple[Tensor, list[float]]:
        p = torch.stack([p_values(v, e) for v, e in zip(found, rounding, strict=True)])
        return -(p.amin(0) + p.mean(0) / (2 * p.shape[-1])), p[:, 0].tolist()

    return Plan(_kernels(pool), combine)


def fused(pool: Pool) -> Plan:
    """MMD-FUSE: λ⁻¹ log mean_k exp(λ MMD²_k/√N_k), N_k the mean of k² over pairs of the pool, λ = √(n(n − 1)).

    n is the smaller sample. References: Biggs, Schrab and Gretton 2023, definition 2 and section 5.
    """
    n = min(pool.n, pool.m)
    scale = math.sqrt(n * (n - 1))

    def combine(found: list[Tensor], rounding: list[float]) -> tuple[Tensor, list[float]]:
        p = [float(p_values(v, e)[0]) for v, e in zip(found, rounding, strict=True)]
        total = torch.logsumexp(scale * torch.stack(found), 0) - math.log(len(found))
        return total / scale, p

    return Plan(_kernels(pool, normalised=True), combine)


def _kernels(pool: Pool, normalised: bool = False) -> Iterator[Statistic]:
    """MMD² by Gaussian and Laplace kernels at ten bandwidths, one kernel matrix at a time."""
    points = precise(pool.centred)
    d2 = kernels.squared_distances(points, points) if len(points) <= STORED else None
    lengths = bandwidths(points, _BANDWIDTHS)
    pool.notes.append(
        f"{2 * len(lengths)} kernels: Gaussian and Laplace, bandwidths {lengths[0]:.3g} to {lengths[-1]:.3g} from the "
        "pooled sample"
    )
    for family in (kernels.Gaussian, kernels.Laplace):
        for h in lengths:
            kernel = family(h)

            def matrix(columns: slice, kernel: kernels.Kernel = kernel) -> Tensor:
                if d2 is None:
                    return kernel(points, points[columns])
                return kernel.of_squared_distance(d2[:, columns])

            name = f"MMD, {family.__name__} kernel, bandwidth {h:.3g}"
            yield statistic(matrix, pool, normalised=normalised, name=name)


def bandwidths(points: Tensor, count: int, upper: float = 0.95) -> list[float]:
    """Lengths in equal ratios from half of the 5% quantile of the positive distances to twice the ``upper`` one."""
    some = points[:1000]  # the points are shuffled, so that these are a random part of the pool
    i, j = torch.triu_indices(len(some), len(some), 1, device=points.device)
    d2 = kernels.squared_distances(some, some)[i, j]
    d = d2[d2 > 0].sqrt().sort().values
    if len(d) == 0:
        return [1.0]
    low, high = float(d[int(len(d) * 0.05)]) / 2, float(d[int(len(d) * upper)]) * 2
    return [low * (high / low) ** (k / (count - 1)) for k in range(count)]
