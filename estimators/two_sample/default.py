"""The default two-sample test: kernels, ranks, dependence and clusters in one, with no training and no split."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from estimators.two_sample import features, local
from estimators.two_sample.aggregate import bandwidths
from estimators.two_sample.combine import combined
from estimators.two_sample.features import Features, Reduction, statistics
from estimators.two_sample.permutation import HELD, Statistic
from estimators.two_sample.pool import Plan, Pool

DOUBLE = 3000  # pooled points up to which distances are in double precision
SHOWN = 4  # coordinates up to which a place is told by them
STORED = 12_000  # pooled points whose kernel matrices are built: some of 0.6 GB, in single precision
_FOURIER = 256  # random frequencies for each bandwidth beyond that
_PAIRED = 63  # coordinates whose pairs are all compared; principal components of more

# What is not known of the change must be assumed, by a rule that does not look at the problem:
# - A statistic counts as many functions as it looks at, at most one for every fifty points. So with few points all
#   kinds of change count alike. With many, all that is large is found whatever the weights are; of what is hard to
#   find, a change of few functions is tiny, and one that is spread over many is where most is to be gained.
# - The statistics of a kind share its weight: no kind gains from having many.
# - Location, the change that is most common, counts twice, and what is inside modes that lie apart five times, as
#   statistics of the whole see little of it.
# The constants were chosen on some forty problems in 1 to 256 dimensions, where 25 to 100 and three to six are much the
# same; 50 and five are within that for the sake of perturbed uniform laws in the plane and of one mode among four.
_SHARES = {"location": 2, "margins": 1, "dependence": 1, "whole": 1, "kernels": 1, "clusters": 1, "modes": 5}
_POINTS = 50  # for one function
_SOME = 1000  # points that show how many functions a kernel looks at


class Weighed(NamedTuple):
    """A statistic, the kind of change that it is for, and how many functions it looks at."""

    kind: str
    functions: float
    statistic: Statistic


def default(pool: Pool) -> Plan:
    """Statistics of the pooled points, each looking for another kind of change, and their combination.

    - kernels: unbiased MMD with Gaussian kernels at five bandwidths, from half of the 5% quantile of the distances to
      twice their median;
    - ranks: cosines and sines of each coordinate's ranks, summed, and the largest over coordinates;
    - dependence: products of these for two coordinates, and of the ranks of three;
    - the whole: means, covariances and radii after whitening, and covariances that turn along the main axis;
    - clusters, as many as the BIC finds: shares, means, covariances, radii in each.

    Sums find changes that are spread out, maxima those in few places. Each kind of change has a share of the weight
    that follows from how many functions its statistics look at, and from N. All that is learnt (bandwidths, ranks,
    axes, clusters, weights) comes from the shuffled pool without its labels, so that the level is exact.
    """
    z = pool.centred
    z = z[:, (z != z[0]).any(0)]
    if z.shape[-1] == 0:
        return Plan([Statistic(lambda labels: torch.zeros(len(labels)), HELD // len(z), name="nothing varies")])
    made: list[Weighed] = []

    def families() -> Iterator[Statistic]:
        for weighed in _statistics(z, pool):
            made.append(weighed)
            yield weighed.statistic

    def combine(values: list[Tensor], roundings: list[float]) -> tuple[Tensor, list[float]]:
        return combined(values, roundings, _weights(made, len(z)))

    return Plan(families(), combine)


def _statistics(z: Tensor, pool: Pool) -> Iterator[Weighed]:
    t = local.scaled(z)
    tree = local.tree(t)
    found = local.number(tree)
    yield from _kernels(z, pool)
    yield from _ranks(z)
    yield from _whole(t, tree)
    if found > 1:
        yield from _clusters(tree, found)


def _weights(made: Sequence[Weighed], N: int) -> list[float]:
    """The weight of each statistic, by the rule above."""
    number = Counter(weighed.kind for weighed in made)
    most = max(1.0, N / _POINTS)
    return [_SHARES[kind] * min(max(functions, 1.0), most) / number[kind] for kind, functions, _ in made]


def _reduced(found: Features, *rows: tuple[str, str, str, float]) -> Iterator[Weighed]:
    """Statistics of features by rows of (kind of change, name, kind of reduction, decay)."""
    reductions = {name: (change, Reduction(name, kind, decay)) for change, name, kind, decay in rows}
    for statistic in statistics(found, *(reduction for _, reduction in reductions.values())):
        change, reduction = reductions[statistic.name]
        yield Weighed(change, features.number(found, reduction), statistic)


def _kernels(z: Tensor, pool: Pool) -> Iterator[Weighed]:
    lengths = bandwidths(z[:500], 5, 0.5)
    kinds = ("kernels", "kernels", "kernels", "location", "location")[: len(lengths)]
    names = [f"Gaussian kernel, bandwidth {h:.3g}" for h in lengths]
    some = _squares(z[:_SOME] / lengths[-1])
    exponents = [-0.5 * (lengths[-1] / h) ** 2 for h in lengths]
    numbers = [_rank((some * exponent).exp_()) for exponent in exponents]
    if len(z) > STORED:
        pool.notes.append(
            f"{len(z)} pooled points, more than {STORED}: Gaussian kernels by {_FOURIER} random frequencies each, "
            "other features fewer"
        )
        for h, kind, number, name in zip(lengths, kinds, numbers, names, strict=True):
            for weighed in _reduced(_fourier(z, h, pool.generator), (kind, name, "all", 0.0)):
                yield weighed._replace(functions=number)
        return
    # In units of the bandwidth, from the median: a few points far off cost the others no digits in single precision.
    z = (z - z.median(0).values) / lengths[-1]
    d2 = _squares(z if len(z) <= DOUBLE else z.float())
    for exponent, kind, number, name in zip(exponents, kinds, numbers, names, strict=True):
        yield Weighed(kind, number, _kernel((d2 * exponent).exp_(), name, pool.points))


def _squares(z: Tensor) -> Tensor:
    """Squared distances, in single precision."""
    square = z.square().sum(-1)
    return (square[:, None] + square - 2 * (z @ z.T)).clamp_min_(0).float()


def _rank(K: Tensor) -> float:
    """The effective rank (Σ λ)²/Σ λ² of a kernel, centred: how many functions of about equal weight it consists of."""
    K = K - K.mean(0)
    K = K - K.mean(1, keepdim=True)
    return float(K.diagonal().sum() ** 2 / K.square().sum().clamp_min(1e-30))


def _kernel(K: Tensor, name: str, points: Tensor) -> Statistic:
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

    def describe(labels: Tensor) -> str:
        if points.shape[-1] > SHOWN:
            return ""
        n = int(labels.sum())
        witness = K @ (labels.to(K.dtype) / n - (~labels).to(K.dtype) / (N - n))
        more, fewer = (", ".join(f"{v:.3g}" for v in points[i].tolist()) for i in (witness.argmax(), witness.argmin()))
        return f"more of x than of y around ({more}), fewer around ({fewer})"

    return Statistic(evaluate, max(1, HELD // N), 1e-6 * float(own.mean()) / N, name, describe)


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
        ("margins", "distribution of each coordinate", "all", 0.0),
        ("margins", "low frequencies of each coordinate", "all", 1.0),
        ("location", "lowest frequencies of each coordinate", "all", 2.0),
        ("margins", "distribution of one coordinate", "group", 1.0),
        ("margins", "one feature of one coordinate", "one", 0.0),
    )
    yield from _reduced(
        features.periodic(u),
        ("margins", "periodic changes of each coordinate", "all", 0.0),
        ("margins", "periodic change of one coordinate", "group", 0.0),
    )
    if d == 1:
        return
    few, axes = min(_PAIRED, max(2, math.isqrt(features.columns(len(z))))), "coordinates"
    if d > few:
        u, axes = features.ranks(z @ local.principal(z, few)), "principal components"
    yield from _reduced(
        features.pairs(u, axes),
        ("dependence", "dependence of pairs", "all", 0.0),
        ("dependence", "smooth dependence of pairs", "all", 1.0),
        ("dependence", "dependence of one pair", "group", 1.0),
        ("dependence", "one feature of one pair", "one", 0.0),
    )
    if d <= 5:
        yield from _reduced(
            features.periodic_pairs(u), ("dependence", "dependence of pairs away from the edges", "all", 0.0)
        )
    if d > 2:
        yield from _reduced(features.triples(u, axes), ("dependence", "dependence of one triple", "group", 0.0))


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
        yield from _reduced(local.twisted(t), ("whole", "covariance along the main axis", "group", 0.0))
        halves = local.spreads(local.clusters(tree, 2))
        yield from _reduced(halves, ("whole", "covariance in two halves", "part", 0.0))


def _clusters(tree: local.Tree, K: int) -> Iterator[Weighed]:
    kind = "modes" if local.apart(tree, K) else "clusters"
    found = local.clusters(tree, K)
    yield from _reduced(local.counts(found), (kind, "share of each cluster", "all", 0.0))
    yield from _reduced(local.means(found), (kind, "mean in one cluster", "group", 0.0))
    yield from _reduced(
        local.spreads(found),
        (kind, "covariance in each cluster", "all", 0.0),
        (kind, "one entry of one cluster's covariance", "one", 0.0),
    )
    yield from _reduced(local.sizes(found), (kind, "size of one cluster", "group", 0.0))
