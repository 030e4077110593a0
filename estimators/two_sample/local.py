"""Features inside clusters of the pooled points: how many points each has, where they lie and how they spread.

A change in one of several modes is small in the whole and large in its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from estimators.ops import knn
from estimators.two_sample.features import STORED, Features, plain

AXES = 12  # coordinates, or principal components of more, in which clusters are described
CLUSTERS = 20
_TREE = 1000  # points in the hierarchical clustering; the others follow the nearest centre
_ORDERED = 10_000  # points whose quantiles give the scales
_CLIPPED = 3.0  # deviations beyond which a point counts no more


class Clusters(NamedTuple):
    """A partition of the points, and each point's deviation from its centre in units of its cluster's spread."""

    member: Tensor  # (N, K), one-hot
    inside: Tensor  # (N, p)


class Tree(NamedTuple):
    """Ward's clustering of (some of) the points."""

    points: Tensor  # (N, p)
    some: Tensor
    linkage: Any


def scaled(z: Tensor) -> Tensor:
    """Coordinates with robust scale 1, clipped at 8, and at most `AXES` of them: principal components of more."""
    ordered = z[:_ORDERED].sort(0).values
    low, middle, high = ordered[[int(q * (len(ordered) - 1)) for q in (0.16, 0.5, 0.84)]]
    spread = (high - low) / 2
    deviation = z.std(0, correction=0)
    robust = spread > 1e-3 * deviation  # not so for a coordinate that is mostly one value, such as a pixel
    scale = torch.where(robust, spread, deviation)
    some = scale[scale > 0]
    if len(some) == 0:
        return z[:, :1] * 0
    # A floor keeps coordinates that hardly vary, such as the border of an image, from counting like the others.
    scale = scale.clamp_min(0.1 * float(some.median()))
    t = (z - middle) / scale
    t = torch.where(robust, t.clamp(-8, 8), t)
    t = t - t.mean(0)
    p = min(AXES, max(1, len(z) // 5))
    return t if t.shape[-1] <= p else t @ principal(t, p)


def principal(t: Tensor, p: int) -> Tensor:
    """The first p principal directions, (d, p)."""
    t = t[:_ORDERED] - t[:_ORDERED].mean(0)
    if t.shape[-1] <= len(t):
        return torch.linalg.eigh(t.T @ t).eigenvectors.flip(-1)[:, :p]
    directions = t.T @ torch.linalg.eigh(t @ t.T).eigenvectors.flip(-1)[:, :p]
    return directions / directions.norm(dim=0).clamp_min(1e-300)


def tree(t: Tensor) -> Tree:
    """Ward's hierarchical clustering of the first points, which are a random part of the pool."""
    from scipy.cluster.hierarchy import linkage

    some = t[:_TREE].cpu()
    return Tree(t, some, linkage(some.numpy(), "ward"))


def cut(tree: Tree, K: int, moves: int) -> tuple[Tensor, Tensor]:
    """At most K clusters: the index of each point's, (N,), and their centres, after some steps of Lloyd's algorithm."""
    from scipy.cluster.hierarchy import fcluster

    t = tree.points
    index = torch.from_numpy(fcluster(tree.linkage, K, "maxclust")).long() - 1
    count = index.bincount()
    centres = torch.zeros(len(count), t.shape[-1], dtype=t.dtype).index_add_(0, index, tree.some) / count[:, None]
    centres = centres[count > 0].to(t.device)
    for _ in range(moves):
        index = _nearest(centres, t)
        count = index.bincount(minlength=len(centres))
        total = torch.zeros_like(centres).index_add_(0, index, t)
        centres = (total / count[:, None].clamp_min(1))[count > 0]
    index = _nearest(centres, t)
    used, index = index.unique(return_inverse=True)
    return index, centres[used]


def _nearest(centres: Tensor, t: Tensor) -> Tensor:
    return knn.nearest(centres, t, 1)[1].squeeze(-1)


def number(tree: Tree) -> int:
    """The number of clusters that a mixture of spherical normals makes likely, by the BIC of hard assignments."""
    t = tree.points
    N, p = t.shape
    floor = 0.02 * float(t.var(0, correction=0).mean())  # ties must not make a cluster infinitely likely
    best, found = math.inf, 1
    for K in range(1, max(1, min(CLUSTERS, N // 20)) + 1):
        index, centres = cut(tree, K, 0)
        count = index.bincount(minlength=len(centres)).double()
        square = (t - centres[index]).square().sum(-1)
        variance = (torch.zeros_like(count).index_add_(0, index, square) / p + floor) / (count + 1)
        variance = variance.clamp_min(1e-12)
        fit = (count * ((count / N).log() - p / 2 * variance.log())).sum() - (square / variance[index]).sum() / 2
        score = float(-2 * fit) + len(centres) * (p + 2) * math.log(N)
        if score < best:
            best, found = score, len(centres)
    return found


def apart(tree: Tree, K: int) -> bool:
    """Whether nine tenths of the points are in clusters four deviations or more from the nearest other one.

    Pieces of a uniform law lie 3.5 apart; in a heavy tail there are few points.
    """
    index, centres = cut(tree, K, 5)
    count = index.bincount(minlength=len(centres))
    square = (tree.points - centres[index]).square().mean(-1)
    variance = torch.zeros_like(centres[:, 0]).index_add_(0, index, square) / count
    distance = torch.cdist(centres, centres) / ((variance[:, None] + variance) / 2).sqrt().clamp_min(1e-12)
    lone = distance.fill_diagonal_(math.inf).amin(-1) > 4
    return bool(count[lone].sum() >= 0.9 * len(index))


def clusters(tree: Tree, K: int) -> Clusters:
    """K clusters; deviations are divided by the root of each cluster's covariance, shrunk to the common shape."""
    index, centres = cut(tree, K, 5)
    t = tree.points
    N, p = t.shape
    member = one_hot(index, len(centres)).to(t)
    inside = t - centres[index]
    count = member.sum(0)
    parts = [inside[index == k] for k in range(len(centres))]
    own = torch.stack([part.T @ part for part in parts]) / count[:, None, None]
    common = inside.T @ inside / N
    size = own.diagonal(dim1=-2, dim2=-1).sum(-1) / common.trace().clamp_min(1e-300)
    weight = (2 * p / (count + 2 * p))[:, None, None]
    values, vectors = torch.linalg.eigh((1 - weight) * own + weight * size[:, None, None] * common)
    root = values.clamp_min(1e-6 * max(1e-6, float(values.max()))).rsqrt()
    whiten = torch.einsum("kij,kj,klj->kil", vectors, root, vectors)  # symmetric: axes stay what they are
    inside = torch.einsum("ni,nij->nj", inside, whiten[index])
    far = inside.norm(dim=-1, keepdim=True) / (_CLIPPED * math.sqrt(p))
    return Clusters(member, inside / far.clamp_min(1))


def counts(c: Clusters) -> Features:
    """The share of points in each cluster."""
    return plain(c.member[..., None], _names(c), lambda b: "the share")


def means(c: Clusters) -> Features:
    """Where the points of each cluster lie."""
    return plain(c.member[..., None] * c.inside[:, None, :], _names(c), lambda b: f"the mean along axis {b}")


def spreads(c: Clusters) -> Features:
    """Squares and products of the deviations in each cluster."""
    p = c.inside.shape[-1]
    while p > 1 and len(c.inside) * c.member.shape[-1] * p * (p + 1) // 2 > STORED:
        p -= 1
    i, j = torch.triu_indices(p, p, device=c.inside.device)
    products = c.inside[:, i] * c.inside[:, j] - (i == j).to(c.inside)
    values = c.member[..., None] * products[:, None, :]
    return plain(values, _names(c), lambda b: f"the spread along axes {int(i[b])} and {int(j[b])}")


def sizes(c: Clusters) -> Features:
    """The squared radius in each cluster."""
    radius = c.inside.square().sum(-1, keepdim=True) - c.inside.shape[-1]
    return plain((c.member * radius)[..., None], _names(c), lambda b: "the size")


def twisted(t: Tensor) -> Features:
    """Products of two coordinates times the first principal component: a correlation that turns along the main axis."""
    t = t / t.std(0, correction=0).clamp_min(1e-12)
    main = (t @ principal(t, 1)).clamp(-3 * _CLIPPED, 3 * _CLIPPED)
    t = t.clamp(-_CLIPPED, _CLIPPED)
    i, j = torch.triu_indices(t.shape[-1], t.shape[-1], device=t.device)
    products = t[:, i] * t[:, j]
    values = ((products - products.mean(0)) * main)[..., None]
    return plain(values, lambda a: f"axes {int(i[a])} and {int(j[a])} along the main axis", lambda b: "the spread")


def _names(c: Clusters) -> Callable[[int], str]:
    shares = c.member.mean(0).tolist()
    if len(shares) == 1:
        return lambda a: "the whole sample"
    return lambda a: f"cluster {a + 1} of {len(shares)}, with {100 * shares[a]:.0f}% of the points"
