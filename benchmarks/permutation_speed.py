"""Rows S12 and S13 of `benchmarks.ops_speed`: permutations of MMD by labels and by bins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

import estimators as est
from divergences.kernels import Gaussian
from estimators.ops import permute
from estimators.two_sample import kernel, permutation
from estimators.two_sample.labelling import design
from estimators.two_sample.pool import Pool

POINTS, PERMUTATIONS, NAIVE = 2000, 1000, 5
BINNED = 100_000  # points a side, S13
SEEDS = 8  # problems whose p-values must agree


def shifted(seed: int, n: int, d: int = 10, by: float = 0.0) -> tuple[Tensor, Tensor]:
    x, y = torch.randn(2, n, d, generator=torch.Generator().manual_seed(seed))
    return x, y + by


def pooled(n: int, points: Tensor) -> Pool:
    """Points without weights or a design, in the order in which they are."""
    keep = torch.ones(n, dtype=torch.bool)
    arranged = design(n, n, None, None, (keep, keep), torch.arange(2 * n))
    return Pool(points.double(), None, n, n, arranged, torch.Generator(), [])


def ours(K: Tensor, labels: Tensor, given: Pool, ranked: bool = True) -> float:
    """The p-value as `two_sample_test` takes it from a kernel matrix, whose making nobody times."""
    statistic = kernel.statistic(lambda columns: K[:, columns], given)
    found = permutation.values(statistic, labels, ranked=ranked)
    return permutation.p_value(int(permutation.exceeding(statistic, labels, found).sum()), len(labels) - 1, False)


def mmd2(S_xx: Tensor, S_yy: Tensor, S_xy: Tensor, n: int) -> Tensor:
    """From the sums over all pairs, i = j included, of a kernel that is 1 there."""
    return (S_xx + S_yy - 2 * n) / (n * (n - 1)) - 2 * S_xy / n**2


def by_products(K: Tensor, labels: Tensor, given: Pool, rounding: float = 0.0) -> float:
    """Three matrix products."""
    a = labels.to(K.dtype)
    b = 1 - a
    sums = [((left @ K) * right).sum(-1) for left, right in ((a, a), (b, b), (a, b))]
    found = mmd2(*sums, given.n)
    return permutation.p_value(int((found[1:] >= found[0] - rounding).sum()), len(labels) - 1, False)


def naive(K: Tensor, labels: Tensor, n: int) -> Tensor:
    """A loop over labellings, each with three blocks of the matrix."""
    found = []
    for row in labels:
        x, y = row.nonzero().squeeze(-1), (~row).nonzero().squeeze(-1)
        found.append(mmd2(K[x][:, x].sum(), K[y][:, y].sum(), K[x][:, y].sum(), n))
    return torch.stack(found)


def rows(
    seconds: Callable[..., dict[str, float]], row: Callable[..., dict[str, Any]], bar: Any
) -> Iterator[dict[str, Any]]:
    """With the clock, the row and the bar of `benchmarks.ops_speed`."""
    yield from labelled(seconds, row, bar)
    yield from binned(seconds, row, bar)


def labelled(seconds: Any, row: Any, bar: Any) -> Iterator[dict[str, Any]]:
    """S12: p-values equal to those of the whole matrix, and as float64 has them, from clear to hopeless problems."""
    n, same, p = POINTS, True, []
    for seed in range(SEEDS):
        points = torch.cat(shifted(seed, n, by=0.006 * seed))
        K = Gaussian(10.0**0.5)(points, points)
        given = pooled(n, points)
        labels = given.design.labels(PERMUTATIONS, torch.Generator().manual_seed(seed))
        labels = torch.cat([given.design.observed[None], labels])
        p.append(ours(K, labels, given))
        # Values within the rounding of single precision are ties in ours: a multiple of it on both sides of the limit.
        rounding = kernel.statistic(lambda columns, K=K: K[:, columns], given).rounding
        low, high = (by_products(K.double(), labels, given, part * rounding) for part in (0.75, 1.25))
        same = same and low <= p[-1] <= high and p[-1] == ours(K, labels, given, ranked=False)
    few = labels[:NAIVE]
    # Single precision, in which sums of all pairs are known to some eight digits of n².
    exact = naive(K.double(), few, n)
    apart = float((naive(K, few, n).double() - exact).abs().max())
    times = seconds({
        "ours": lambda: ours(K, labels, given),
        "three products": lambda: by_products(K, labels, given),
        "naive": lambda: naive(K, few, n),
    })  # fmt: skip
    times["naive"] *= PERMUTATIONS / NAIVE
    for name, must, stretch in (("naive", 300, 1000), ("three products", 6, 15)):
        note = f"p-values {min(p):.3g} to {max(p):.3g} {'equal' if same else 'NOT equal'}; {permute.explain(K).why}"
        if name == "naive":
            note += f"; {NAIVE} permutations timed and scaled, {apart:.0e} from float64"
        pair = {key: times[key] for key in ("ours", name)}
        yield row("S12", pair, times[name] / times["ours"], bar(must, stretch), same, note, f", against {name}")


def binned(seconds: Any, row: Any, bar: Any) -> Iterator[dict[str, Any]]:
    """S13: a whole test by 999 permutations of bins over the statistic alone."""
    x, y = shifted(0, BINNED)
    estimator = est.MMD(Gaussian(10.0**0.5))
    found = est.two_sample_test(x, y, estimator)
    apart = abs(found.statistic - float(estimator.value(x.double(), y.double())))
    times = seconds({
        "ours": lambda: est.two_sample_test(x, y, estimator),
        "one statistic": lambda: float(estimator.value(x, y)),
    }, 3)  # fmt: skip
    note = f"values {apart:.0e} apart; {next(note for note in found.notes if 'bins' in note)}"
    yield row("S13", times, times["ours"] / times["one statistic"], bar(1.5, 1.1, below=True), apart <= 1e-8, note)
