"""Tests with a learned kernel: cross-fitted anew for each labelling, or trained on one half and tested on the other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn

from divergences import kernels
from estimators.door import Samples
from estimators.kernel.mmd import MMD
from estimators.neural.critics import mlp, readable
from estimators.neural.cross_fitted import cross_fitted
from estimators.neural.deep_kernel import FEWEST, DeepKernel
from estimators.neural.representation import Representation
from estimators.two_sample import kernel
from estimators.two_sample.combine import combined
from estimators.two_sample.default import default
from estimators.two_sample.permutation import HELD, Statistic
from estimators.two_sample.pool import Plan, Pool

_NARROW = (32,)  # the hidden layer of networks that are trained for every labelling
_CODE = 8
_STACKED = 64  # labellings whose networks are trained at once
_WIDTH = 64  # numbers that such a network makes of a point, or so


def plan(estimator: MMD, pool: Pool) -> Plan:
    """The form that the kernel asks for.

    Raises:
        ValueError: a statistic of MMD that is not a mean over all pairs; too few points.
    """
    assert isinstance(estimator.kernel, DeepKernel)  # asked by the caller
    if estimator.statistic not in ("unbiased", "biased"):
        raise ValueError(f'a learned kernel is tested by statistic="unbiased" or "biased": got {estimator.statistic!r}')
    if estimator.kernel.is_fitted:
        estimator.kernel.check_new(Samples(pool.points, pool.points, None, None))
        pool.notes.append("the kernel was fitted before: p is exact for points that fit has not seen")
        return Plan([_mmd(estimator, estimator.kernel, pool)])
    for side, size in (("x", pool.n), ("y", pool.m)):
        if size < 2 * FEWEST:
            raise ValueError(
                f"a learned kernel needs at least {2 * FEWEST} points in {side}, to train on some and judge by others: "
                f"got {size}"
            )
    return _cross_fitted(estimator.kernel, pool) if estimator.kernel.cross_fit else _split(estimator, pool)


def _split(estimator: MMD, pool: Pool) -> Plan:
    """Train on a random half of each sample; the statistic on the other half, whose labels alone are permuted."""
    design = pool.design
    if len(design.is_x) < len(design.unit) or len(design.stratum.unique()) > 1:
        raise ValueError(
            "DeepKernel(cross_fit=False) splits independent points, and takes no clusters or strata: "
            "cross_fit=True permutes as the design says"
        )
    assert isinstance(estimator.kernel, DeepKernel)  # asked by the caller
    is_x = design.observed
    fixed = torch.zeros_like(is_x)
    for side in (is_x, ~is_x):
        rows = side.nonzero().squeeze(-1)
        fixed[rows[torch.randperm(len(rows), generator=pool.generator)[: len(rows) // 2]]] = True
    held = (~fixed).nonzero().squeeze(-1)
    points, device = pool.points, pool.points.device
    seen = Samples(points[(fixed & is_x).to(device)], points[(fixed & ~is_x).to(device)], None, None)
    seed = int(torch.randint(2**31, (), generator=pool.generator))
    learned = estimator.kernel.fitted(seen, seed=seed)
    n = int(is_x[held].sum())
    part = pool._replace(points=points[held.to(device)], n=n, m=len(held) - n)
    found = _mmd(estimator, learned, part)
    pool.notes.append(
        f"the kernel was trained on {len(seen.x)} + {len(seen.y)} points; the labels of the other {n} + "
        f"{len(held) - n} are permuted"
    )
    evaluate = found.evaluate
    on_held = found._replace(evaluate=lambda labels: evaluate(labels[:, held.to(labels.device)]))
    # Training units are rows here, in the order of the units.
    return Plan([on_held], fixed=fixed[design.unit.argsort()])


def _mmd(estimator: MMD, learned: DeepKernel, pool: Pool) -> Statistic:
    """MMD² of every labelling with a kernel that is held."""
    points = kernel.precise(pool.points)

    def matrix(columns: slice) -> Tensor:
        with torch.no_grad():
            return learned(points, points[columns])

    found = kernel.statistic(matrix, pool, estimator.statistic == "biased", name="MMD with the learned kernel")
    evaluate = found.evaluate
    return found if estimator.squared else found._replace(evaluate=lambda labels: evaluate(labels).clamp_min(0).sqrt())


def _cross_fitted(deep: DeepKernel, pool: Pool) -> Plan:
    """The default test, and what learned features see beside it, in one.

    - the default test's own combination of statistics, as one voice;
    - a Gaussian kernel on the axes of the pool's `Representation`, which sees no labels;
    - each of its distances: points that are unlike most others;
    - the network's witness, trained on folds and judged on others, anew for each labelling.

    Each voice becomes a tail probability fitted over all labellings. A mean of these, where all voices count alike, is
    ranked among its permutations.
    """
    base = default(pool)
    with torch.no_grad():
        seen = Representation(pool.points)
        z = seen(pool.points)
    far = [_distance(z[:, seen.white + j], name) for j, name in enumerate(seen.distances)]
    ours = [_gaussian(z[:, : seen.white], pool), *far, _witness(deep, seen, z, pool)]
    about = "edges in images" if seen.image else "the points"
    pool.notes.append(
        f"beside the default test: {seen.white} principal axes of {about}, and networks that are trained anew for "
        "each labelling"
    )

    def families() -> Iterator[Statistic]:
        return chain(base.families, ours)

    def combine(values: list[Tensor], roundings: list[float]) -> tuple[Tensor, list[float]]:
        k = len(ours)
        first, learned = (values[:-k], roundings[:-k]), (values[-k:], roundings[-k:])
        if base.combine is None:
            whole, parts = first[0][0], [1.0]
        else:
            whole, parts = base.combine(*first)
        together, alone = combined([whole, *learned[0]], [1e-9, *learned[1]], [1.0] * (k + 1))
        return together, parts + alone[1:]

    return Plan(families(), combine)


def _gaussian(z: Tensor, pool: Pool) -> Statistic:
    """MMD² with a Gaussian kernel on the axes, at the median distance."""
    axes = kernel.precise(z.to(pool.points))
    some = kernels.squared_distances(axes[:1000], axes[:1000])
    square = float(some[some > 0].median()) if bool((some > 0).any()) else 1.0

    def matrix(columns: slice) -> Tensor:
        return torch.exp(-0.5 / square * kernels.squared_distances(axes, axes[columns]))

    return kernel.statistic(matrix, pool, name="Gaussian kernel on learned axes")


def _distance(values: Tensor, name: str) -> Statistic:
    """The difference of means of exponential scores, which stress the largest values."""
    N = len(values)
    _, place, ties = values.unique(return_inverse=True, return_counts=True)
    middle = ties.cumsum(0) - (ties + 1) / 2  # equal ones share their mean rank, from 0
    scores = -torch.log1p(-(middle + 0.5) / N)[place].double()
    scores = scores - scores.mean()

    def evaluate(labels: Tensor) -> Tensor:
        n = labels.sum(-1).double()
        return (labels.double() @ scores).abs() * (1 / n.clamp_min(1) + 1 / (N - n).clamp_min(1))

    def describe(labels: Tensor) -> str:
        side = "x" if float(labels.double() @ scores) > 0 else "y"
        return f"{side} has more of the large ones"

    return Statistic(evaluate, max(1, HELD // N), 1e-9, name, describe)


def _witness(deep: DeepKernel, seen: Representation, z: Tensor, pool: Pool) -> Statistic:
    network: nn.Module
    if deep.network is None:
        network, points = mlp(seen.dim, _CODE, _NARROW, slope=0.1, generator=pool.generator), z
    else:
        network, points = deep.network, readable(deep.network, pool.points)
    evaluate = cross_fitted(network.to(points.device), points, pool.generator)
    chunk = max(1, min(_STACKED, 16 * HELD // (len(points) * (points.shape[1] + _WIDTH))))
    return Statistic(evaluate, chunk, 1e-5, "network trained on other folds")
