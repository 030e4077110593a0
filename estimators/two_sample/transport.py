"""Transport distances of many labellings: one sort for sliced ones, one cost matrix for entropic ones."""

from __future__ import annotations

import torch
from torch import Tensor

from estimators.base import Estimator
from estimators.door import Samples
from estimators.ops.sort1d import coupling
from estimators.transport.ground_costs import ground_cost
from estimators.transport.line import root
from estimators.transport.sinkhorn import Sinkhorn
from estimators.transport.sliced import SlicedWasserstein
from estimators.two_sample.permutation import HELD, Statistic
from estimators.two_sample.pool import Pool

SWEEPS = 20  # leave about a thousandth of the divergence, where its permutations differ by tenths
_STEEPEST = 300.0  # of cost / ε: e^−300 and its inverse are double-precision numbers, and so are their products


def value_of(estimator: Estimator, pool: Pool) -> Statistic:
    """Any estimator's value, one labelling after the other, with the same random numbers for each."""
    state = pool.generator.get_state()
    points, weights = pool.points, pool.weights

    def one(labelling: Tensor) -> Tensor:
        parts = [None if weights is None else weights[side] / weights[side].sum() for side in (labelling, ~labelling)]
        pool.generator.set_state(state)
        s = Samples(points[labelling], points[~labelling], parts[0], parts[1])
        return estimator.compute(s, pool.generator)

    N = len(points)
    some = torch.stack([one((torch.arange(N, device=points.device) + k) % N < pool.n) for k in range(0, N, -(-N // 4))])
    size = float(torch.where(torch.isfinite(some), some.abs(), 0.0).max())
    return Statistic(lambda labels: torch.stack([one(labelling) for labelling in labels]), 8, 1e-9 * size)


def sliced(estimator: SlicedWasserstein, pool: Pool) -> Statistic:
    """The sliced distance along fixed directions, from one sort of each projection, for labellings of equal size."""
    points, n, m = pool.centred, pool.n, pool.m
    theta = estimator.directions(points, pool.generator)
    ordered, order = (theta @ points.T).sort(-1)
    i, j, w = coupling(n, m, points.device)
    L = len(theta)

    def evaluate(labels: Tensor) -> Tensor:
        is_x = labels[:, order]
        all_values = ordered.expand_as(is_x)
        x, y = all_values[is_x].view(len(labels), L, n), all_values[~is_x].view(len(labels), L, m)
        difference = (x - y) if n == m else (x[..., i] - y[..., j])
        power = difference.abs().pow(estimator.order)
        power = power.mean((-2, -1)) if n == m else (power @ w).mean(-1)
        return root(power, estimator.order) if estimator.rooted else power

    size = float(ordered.abs().max()) ** (1 if estimator.rooted else estimator.order)
    return Statistic(evaluate, HELD // (L * (n + m)), 1e-10 * size)


def sinkhorn(estimator: Sinkhorn, pool: Pool) -> Statistic:
    """The Sinkhorn divergence of all labellings as weights on the pooled points, after a fixed number of sweeps.

    With K = e^(−C/ε), u = e^(f/ε) and v = e^(g/ε), a sweep is v = 1/K(a u), u = 1/K(b v): products of one matrix with
    the vectors of all labellings. Any fixed function of the labelling keeps the level, so that no sweep waits for the
    slowest labelling. Where costs are too steep for scaling, and for ``reach``, each labelling is solved on its own.
    """
    points = pool.centred
    blur = float(estimator.blur_of(Samples(points, points, None, None)))
    epsilon = estimator.order * blur**estimator.order
    C = ground_cost(points, points, estimator.order, estimator.metric) / epsilon
    if estimator.reach is not None or not float(C.max()) <= _STEEPEST:
        return value_of(estimator, pool)
    pool.notes.append(f"blur {blur:.4g}" + (" from the pooled sample" if estimator.blur == "auto" else ""))
    K = (-C).exp()
    mass = pool.mass

    def value(a: Tensor, b: Tensor) -> Tensor:
        """The dual value of OT(a, b), each (C, N), in units of ε."""
        u = torch.ones_like(a)
        for _ in range(SWEEPS):
            v = 1 / ((a * u) @ K)
            u = 1 / ((b * v) @ K)
        return (a * u.log()).sum(-1) + (b * v.log()).sum(-1)

    def own_value(a: Tensor) -> Tensor:
        """The dual value of OT(a, a), by averaging f with its update (Feydy et al. 2019, section 3.1)."""
        u = torch.ones_like(a)
        for _ in range(SWEEPS // 2):
            u = (u / ((a * u) @ K)).sqrt()
        return 2 * (a * u.log()).sum(-1) - (((a * u) @ K) * a * u).sum(-1) + 1

    def evaluate(labels: Tensor) -> Tensor:
        a, b = labels * mass, ~labels * mass
        a, b = a / a.sum(-1, keepdim=True), b / b.sum(-1, keepdim=True)
        found = value(a, b)
        return epsilon * (found - (own_value(a) + own_value(b)) / 2 if estimator.debiased else found)

    return Statistic(evaluate, HELD // (8 * len(points)), 1e-9 * epsilon)
