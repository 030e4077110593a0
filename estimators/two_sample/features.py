"""Statistics that are linear in the labels: one matrix product gives all labellings the means of many features.

A feature is a function of a point that may depend on the pooled points, never on the labels. Its difference of means,
in units of its standard deviation over labellings, is z; a statistic is a weighted sum or a maximum of z².
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from estimators.two_sample.permutation import HELD, Statistic

COLUMNS = 4096  # features of one family
DOUBLE = 2**20  # feature values up to which products are in double precision
STORED = 2**27  # feature values of one family: 0.5 GB in single precision
FREQUENCIES = 6
_TRIPLED = 12  # coordinates whose triples are compared


class Features(NamedTuple):
    """Features in a table: A groups (coordinates, pairs, clusters) of B functions each."""

    values: Tensor  # (N, A, B)
    group: Callable[[int], str]  # what a group is, in words
    part: Callable[[int], str]  # and one of its functions
    order: Tensor  # (B,) 1 for the smoothest functions


class Reduction(NamedTuple):
    """How the z² of a table become one number: Σ w z² over B, with w = order^-decay, then by ``kind``.

    "all": the sum over everything. "group": the largest group. "part": the largest function, summed over groups.
    "one": the largest single z².
    """

    name: str
    kind: str
    decay: float = 0.0


def statistics(features: Features, *reductions: Reduction) -> Iterator[Statistic]:
    """A statistic for each reduction, but for those that a table of one group or function has under another name."""
    N, A, B = features.values.shape
    table = features.values.reshape(N, A * B)
    table = table.double() if table.numel() <= DOUBLE else table.float()
    table = table - table.mean(0)
    size = table.square().mean(0).sqrt()
    table = torch.where(size > 1e-6, table / size.clamp_min(1e-6), 0.0)  # a feature that is constant says nothing
    if not bool(table.any()):
        return
    double = {"group": A == 1, "part": A == 1 or B == 1, "one": B == 1}
    for reduction in reductions:
        if not double.get(reduction.kind, False):
            yield _statistic(table, features, reduction)


def number(features: Features, reduction: Reduction) -> float:
    """How many functions a statistic looks at; of those with weights w each group counts (Σ w)²/Σ w²."""
    weight = features.order.double() ** -reduction.decay
    return features.values.shape[1] * float(weight.sum() ** 2 / weight.square().sum())


def _statistic(table: Tensor, features: Features, reduction: Reduction) -> Statistic:
    N, A, B = features.values.shape
    weight = features.order.double() ** -reduction.decay
    weight = weight / weight.sum()

    def z2(labels: Tensor) -> Tensor:
        n = labels.sum(-1, keepdim=True).double()
        scale = (N - 1) / (n * (N - n)).clamp_min(1)  # var(Σ_x φ) = n m/(N − 1) for φ of mean 0 and variance 1
        return ((labels.to(table.dtype) @ table).double().square() * scale).view(-1, A, B)

    def evaluate(labels: Tensor) -> Tensor:
        found = z2(labels)
        if reduction.kind == "one":
            return found.flatten(1).amax(-1)
        if reduction.kind == "part":
            return found.mean(1).amax(-1)
        grouped = found @ weight
        return grouped.mean(-1) if reduction.kind == "all" else grouped.amax(-1)

    def describe(labels: Tensor) -> str:
        found = z2(labels[None])[0]
        if reduction.kind == "one":
            a, b = divmod(int(found.flatten().argmax()), B)
            return f"{features.part(b)} of {features.group(a)}: |z| = {float(found[a, b].sqrt()):.1f}"
        if reduction.kind == "part":
            b = int(found.mean(0).argmax())
            return f"{features.part(b)}, over {A} groups: mean z² = {float(found[:, b].mean()):.1f} (1 when P = Q)"
        grouped = found @ weight
        a = int(grouped.argmax())
        return f"strongest in {features.group(a)}: mean z² = {float(grouped[a]):.1f} (1 when P = Q)"

    rounding = 1e-10 if table.dtype == torch.float64 else 1e-5
    return Statistic(evaluate, max(1, HELD // max(N, A * B)), rounding, reduction.name, describe)


def ranks(z: Tensor) -> Tensor:
    """Mid-ranks of every coordinate over N, in (0, 1): the same for any increasing transformation of a coordinate."""
    columns = z.T.contiguous()
    ordered = columns.sort(-1).values
    below = torch.searchsorted(ordered, columns)
    upto = torch.searchsorted(ordered, columns, right=True)
    return ((below + upto).double() / (2 * len(z))).T


def columns(N: int) -> int:
    """How many features of N points are kept at once."""
    return max(1, min(COLUMNS, STORED // N))


def waves(u: Tensor, what: str = "") -> Features:
    """cos(πku) of each coordinate's ranks: shift (k = 1), spread (k = 2), then finer changes of its distribution."""
    N, d = u.shape
    u = u[:, : columns(N)]
    k = torch.arange(1, min(FREQUENCIES, max(1, columns(N) // d)) + 1, device=u.device)
    return Features(
        torch.cos(math.pi * u[..., None] * k), lambda a: what or _coordinate(a), lambda b: _SHAPES[min(b, 2)], k
    )


def periodic(u: Tensor) -> Features:
    """sin(2πku) and cos(2πku) of each coordinate's ranks, a group for each coordinate and k: changes in the middle."""
    N, d = u.shape
    k = torch.arange(1, 1 + min(3, columns(N) // (2 * d)), device=u.device)
    angle = 2 * math.pi * u[..., None] * k
    values = torch.stack([angle.sin(), angle.cos()], -1).reshape(N, -1, 2)
    return plain(values, lambda a: _coordinate(a // len(k)), lambda b: "periodic change")


_SHAPES = ("shift", "spread", "finer shape")


def _coordinate(a: int) -> str:
    return f"coordinate {a}"


def pairs(u: Tensor, axes: str = "coordinates") -> Features:
    """Products cos(πku_i)·cos(πlu_j), i < j, of functions with mean 0: dependence between two coordinates."""
    N, d = u.shape
    i, j = torch.triu_indices(d, d, 1, device=u.device)
    K = max(1, min(FREQUENCIES, round(math.sqrt(300 / len(i)))))
    k = torch.arange(1, K + 1, device=u.device)
    c = torch.cos(math.pi * u[..., None] * k)
    c = c - c.mean(0)
    values = (c[:, i, :, None] * c[:, j, None, :]).reshape(N, len(i), K * K)
    order = torch.maximum(k[:, None], k).flatten()
    return Features(values, lambda a: f"{axes} {int(i[a])} and {int(j[a])}", lambda b: "dependence", order)


def periodic_pairs(u: Tensor) -> Features:
    """Products of sin and cos of 2πku_i and 2πlu_j, k, l ≤ 3: dependence that does not reach the edges."""
    N, d = u.shape
    i, j = torch.triu_indices(d, d, 1, device=u.device)
    angle = 2 * math.pi * u[..., None] * torch.arange(1, 4, device=u.device)
    c = torch.cat([angle.sin(), angle.cos()], -1)
    c = c - c.mean(0)
    values = (c[:, i, :, None] * c[:, j, None, :]).reshape(N, len(i), 36)
    return plain(values, lambda a: f"coordinates {int(i[a])} and {int(j[a])}", lambda b: "periodic dependence")


def triples(u: Tensor, axes: str = "coordinates") -> Features:
    """Products of the centred ranks of three of up to 12 coordinates: dependence that no pair shows."""
    c = u[:, :_TRIPLED] - u[:, :_TRIPLED].mean(0)
    i, j, k = torch.combinations(torch.arange(c.shape[-1], device=u.device), 3).T
    values = (c[:, i] * c[:, j] * c[:, k])[..., None]
    words = f"{axes} {{}}, {{}} and {{}}"
    return plain(values, lambda a: words.format(int(i[a]), int(j[a]), int(k[a])), lambda b: "three-way dependence")


def plain(values: Tensor, group: Callable[[int], str], part: Callable[[int], str]) -> Features:
    """A table whose functions are all of one order."""
    return Features(values, group, part, values.new_ones(values.shape[-1]))
