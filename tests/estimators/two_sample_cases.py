"""Pools, statistics and samples that the tests of permutation tests share."""

import numpy as np
import torch

import estimators as est
from estimators.two_sample import permutation
from estimators.two_sample.labelling import design
from estimators.two_sample.named import resolved
from estimators.two_sample.pool import Pool

ESTIMATORS = [est.SlicedWasserstein(1, 10), est.MMD("laplace", "biased"), est.MMD(statistic="block")]


def samples(g, n=12, m=9, d=2):
    return g.normal(size=(n, d)), g.normal(size=(m, d))


def pool(n=12, m=9, d=2, weighted=False, clusters=None, strata=None, is_x=None):
    """A pool without shuffling, whose observed labels may be replaced."""
    points = torch.as_tensor(np.random.default_rng(8).normal(size=(n + m, d)))
    keep = torch.ones(n, dtype=torch.bool), torch.ones(m, dtype=torch.bool)
    arranged = design(n, m, clusters, strata, keep, torch.arange(n + m))
    if is_x is not None:
        arranged = arranged._replace(is_x=is_x)
    weights = torch.linspace(0.2, 1.8, n + m, dtype=torch.float64) if weighted else None
    return Pool(points, weights, n, m, arranged, torch.Generator().manual_seed(3), [])


def values(statistic, given, labels):
    """The values of labellings by a single statistic, or by each of several."""
    plan = resolved(statistic).plan(given)
    found = [permutation.values(family, labels) for family in plan.families]
    return found[0] if plan.combine is None else plan.combine(found, [0.0] * len(found))[0]


def weighted(g):
    """A common importance scheme."""
    x, y = samples(g)
    return x, y, {"x_weights": np.exp(x[:, 0]), "y_weights": np.exp(y[:, 0]), "normalize": True}
