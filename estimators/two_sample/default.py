"""The default two-sample test: kernels, ranks, dependence and clusters in one, with no training and no split."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from estimators.two_sample import features, local
from estimators.two_sample.aggregate import bandwidths
from estimators.two_sample.combine import combined
from estimators.two_sample.features import Features, Reduction, statistics
from estimators.two_sample.permutation import HELD, Statistic
from estimators.two_sample.pool import Plan, Pool

DOUBLE = 3000  # pooled points up to which distances are in double precision
STORED = 12_000  # pooled points whose kernel matrices are built: some of 0.6 GB, in single precision
_FOURIER = 256  # random frequencies for each bandwidth beyond that
_PAIRED = 63  # coordinates whose pairs are all compared; principal components of more

# How much each statistic of a family counts, by the number of coordinates. On the line ranks see everything there is;
# in the plane there is one pair, and dependence is as likely to change as the margins; beyond, location leads.
_KINDS = ("fine", "middle", "location", "margin", "one margin", "whole", "other", "dependence", "one dependence")
_LINE = dict(zip(_KINDS, (1.2, 2.5, 1.0, 5.0, 0.2, 0.2, 0.2, 0.0, 0.0), strict=True))
_PLANE = dict(zip(_KINDS, (1.5, 0.4, 1.5, 0.3, 0.2, 0.5, 0.6, 9.0, 0.4), strict=True))
_SPACE = dict(zip(_KINDS, (1.0, 1.0, 2.5, 0.6, 0.3, 0.5, 0.7, 3.0, 0.4), strict=True))
_APART, _NOT_APART = 5.0, 0.35  # the same for clusters: real modes, or pieces of one

Weighed = tuple[str, Statistic]


def default(pool: Pool) -> Plan:
    """Statistics of the pooled points, each looking for another kind of change, and their combination.

    - kernels: unbiased MMD with Gaussian kernels at five bandwidths, from half of the 5% quantile of the distances to
      twice their median;
    - ranks: cosines and sines of each coordinate's ranks, summed, and the largest over coordinates;
    - dependence: products of these for two coordinates, and of the ranks of three;
    - the whole: means, covariances and radii after whitening, and covariances that turn along the main axis;
    - clusters, as many as the BIC finds: shares, means, covariances, radii in each.

    Sums find changes that are spread out, maxima those in few places. All that is learnt (bandwidths, ranks, axes,
    clusters) comes from the shuffled pool without its labels, so that the level is exact.
    """
    z = pool.centred
    z = z[:, (z != z[0]).any(0)]
    if z.shape[-1] == 0:
        return Plan([Statistic(lambda labels: torch.zeros(len(labels)), HELD // len(z), name="nothing varies")])
    weights: list[float] = []
    table = {1: _LINE, 2: _PLANE}.get(z.shape[-1], _SPACE)

    def families() -> Iterator[Statistic]:
        t = local.scaled(z)
        tree = local.tree(t)
        found = local.number(tree)
        apart = found > 1 and local.apart(tree, found)
        counts = table | {"cluster": _APART if apart else _NOT_APART}
        yield from _weighed(_kernels(z, pool), counts, weights)
        yield from _weighed(_ranks(z), counts, weights)
        yield from _weighed(_whole(t, tree), counts, weights)
        if found > 1:
            yield from _weighed(_clusters(tree, found), counts, weights)

    def combine(values: list[Tensor], roundings: list[float]) -> tuple[Tensor, list[float]]:
        return combined(values, roundings, weights)

    return Plan(families(), combine)


def _weighed(family: Iterator[Weighed], table: dict[str, float], weights: list[float]) -> Iterator[Statistic]:
    for kind, statistic in family:
        weights.append(table[kind])
        yield statistic


def _reduced(found: Features, *rows: tuple[str, str, str, float]) -> Iterator[Weighed]:
    """Statistics of features by rows of (family, name, kind of reduction, decay)."""
    family_of = {name: family for family, name, _, _ in rows}
    for statistic in statistics(found, *(Reduction(name, kind, decay) for _, name, kind, decay in rows)):
        yield family_of[statistic.name], statistic


def _kernels(z: Tensor, pool: Pool) -> Iterator[Weighed]:
    lengths = bandwidths(z[:500], 5, 0.5)
    families = ("fine", "fine", "middle", "location", "location")[: len(lengths)]
    names = [f"Gaussian kernel, bandwidth {h:.3g}" for h in lengths]
    if len(z) > STORED:
        pool.notes.append(
            f"{len(z)} pooled points, more than {STORED}: Gaussian kernels by {_FOURIER} random frequencies each, "
            "other features fewer"
        )
        for h, family, name in zip(lengths, families, names, strict=True):
            yield from _reduced(_fourier(z, h, pool.generator), (family, name, "all", 0.0))
        return
    z = z / lengths[-1]  # no overflow in single precision
    z = z if len(z) <= DOUBLE else z.float()
    square = z.square().sum(-1)
    d2 = (square[:, None] + square - 2 * (z @ z.T)).clamp_min_(0).float()
    for h, family, name in zip(lengths, families, names, strict=True):
        yield family, _kernel((d2 * (-0.5 * (lengths[-1] / h) ** 2)).exp_(), name)


def _kernel(K: Tensor, name: str) -> Statistic:
    """The unbiased MMD² of every labelling.

    With K centred in both arguments the sums over all pairs are S_xx = S_yy = −S_xy, and centring changes no MMD².
    """
    N = len(K)
    K -= K.mean(0)
    K -= K.mean(1, keepdim=True)
    own = K.diagonal().double()

    def evaluate(labels: Tensor) -> Tensor:
        n = labels.sum(-1).double()
        m = N - n
        a = labels.to(K.dtype)
        S = ((a @ K) * a).sum(-1).double()
        S_xx, S_yy = S - labels.double() @ own, S - (~labels).double() @ own
        return S_xx / (n * (n - 1)).clamp_min(1) + S_yy / (m * (m - 1)).clamp_min(1) + 2 * S / (n * m).clamp_min(1)

    return Statistic(evaluate, max(1, HELD // N), 1e-6 * float(own.mean()) / N, name)


def _fourier(z: Tensor, h: float, generator: torch.Generator) -> Features:
    """The waves of ⟨w, z⟩, w ~ N(0, I/h²), whose mean product is the Gaussian kernel (Rahimi and Recht 2007)."""
    w = torch.randn(z.shape[-1], _FOURIER, generator=generator, dtype=torch.float64).to(z.device) / h
    angle = (z @ w).float()
    waves = torch.stack([angle.cos(), angle.sin()], -1)
    return features.plain(waves, lambda a: f"random frequency {a}", lambda b: "the wave")


def _ranks(z: Tensor) -> Iterator[Weighed]:
    d = z.shape[-1]
    u = features.ranks(z)
    yield from _reduced(
        features.waves(u),
        ("margin", "distribution of each coordinate", "all", 0.0),
        ("one margin", "low frequencies of each coordinate", "all", 1.0),
        ("location", "lowest frequencies of each coordinate", "all", 2.0),
        ("one margin", "distribution of one coordinate", "group", 1.0),
        ("one margin", "one feature of one coordinate", "one", 0.0),
    )
    yield from _reduced(
        features.periodic(u),
        ("margin", "periodic changes of each coordinate", "all", 0.0),
        ("one margin", "periodic change of one coordinate", "group", 0.0),
    )
    if d == 1:
        return
    few, axes = min(_PAIRED, max(2, math.isqrt(features.columns(len(z))))), "coordinates"
    if d > few:
        u, axes = features.ranks(z @ local.principal(z, few)), "principal components"
    yield from _reduced(
        features.pairs(u, axes),
        ("dependence", "dependence of pairs", "all", 0.0),
        ("one dependence", "smooth dependence of pairs", "all", 1.0),
        ("one dependence", "dependence of one pair", "group", 1.0),
        ("one dependence", "one feature of one pair", "one", 0.0),
    )
    if d <= 5:
        yield from _reduced(
            features.periodic_pairs(u), ("dependence", "dependence of pairs away from the edges", "all", 0.0)
        )
    if d > 2:
        yield from _reduced(features.triples(u, axes), ("other", "dependence of one triple", "group", 0.0))


def _whole(t: Tensor, tree: local.Tree) -> Iterator[Weighed]:
    one = local.clusters(tree, 1)
    yield from _reduced(local.means(one), ("location", "mean after whitening", "all", 0.0))
    yield from _reduced(
        local.spreads(one),
        ("whole", "covariance after whitening", "all", 0.0),
        ("whole", "one entry of the covariance", "one", 0.0),
    )
    radius = features.ranks(one.inside.square().sum(-1, keepdim=True))
    yield from _reduced(features.waves(radius, "the distance from the centre"), ("whole", "radius", "all", 1.0))
    if t.shape[-1] > 1:
        yield from _reduced(local.twisted(t), ("other", "covariance along the main axis", "group", 0.0))
        halves = local.spreads(local.clusters(tree, 2))
        yield from _reduced(halves, ("other", "covariance in two halves", "part", 0.0))


def _clusters(tree: local.Tree, K: int) -> Iterator[Weighed]:
    found = local.clusters(tree, K)
    yield from _reduced(local.counts(found), ("cluster", "share of each cluster", "all", 0.0))
    yield from _reduced(local.means(found), ("cluster", "mean in one cluster", "group", 0.0))
    yield from _reduced(
        local.spreads(found),
        ("cluster", "covariance in each cluster", "all", 0.0),
        ("cluster", "one entry of one cluster's covariance", "one", 0.0),
    )
    yield from _reduced(local.sizes(found), ("cluster", "size of one cluster", "group", 0.0))
