"""Row G3 of `benchmarks.ops_gpu`: KL from the 5 nearest of each point in both samples, in float32, and its searches."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

import estimators as est
from estimators.ops import knn
from estimators.ops.knn import tiled

K = 5
D = 64
# Seconds on an NVIDIA H200, must and stretch.
SIZES = {"n = 10⁵": (100_000, 25e-3, 16e-3), "n = 10⁶": (1_000_000, 2.2, 1.5)}
ROWS = 2048  # of x, whose neighbours are held against float64
TIED = 1e-12  # relative difference of distances below which the order of two points is nobody's mistake
BLOCK = 2**31  # distances that a peer holds at once: 8 GiB
Pair = tuple[Tensor, Tensor]


def kl(rho: Tensor, nu: Tensor, d: int, m: int) -> Tensor:
    """mean_i d log(ν_i/ρ_i) + log(m/(n − 1)), with k the same on both sides."""
    return d * (nu.double().log() - rho.double().log()).mean() + math.log(m / (len(rho) - 1))


def searches(x: Tensor, y: Tensor) -> tuple[Pair, Pair]:
    """Distances and indices of the neighbours of x among the others of x, and among y."""
    return knn.nearest(x, x, K, exclude_self=True), knn.nearest(y, x, K)


def by_torch(x: Tensor, y: Tensor) -> Tensor:
    """By blocks of full matrices; the own point is the nearest."""
    own, other = [], []
    for part in x.split(max(1, BLOCK // len(y))):
        own.append(torch.cdist(part, x).topk(K + 1, largest=False).values[:, -1])
        other.append(torch.cdist(part, y).topk(K, largest=False).values[:, -1])
    return kl(torch.cat(own), torch.cat(other), x.shape[1], len(y))


def by_keops(x: Tensor, y: Tensor) -> Tensor:
    """By symbolic matrices."""
    from pykeops.torch import LazyTensor

    def farthest(points: Tensor, k: int) -> Tensor:
        gap = ((LazyTensor(x[:, None]) - LazyTensor(points[None])) ** 2).sum(-1)
        return gap.Kmin(k, dim=1)[:, -1].sqrt()

    return kl(farthest(x, K + 1), farthest(y, K), x.shape[1], len(y))


def mismatches(x: Tensor, y: Tensor, found: tuple[Pair, Pair], rows: Tensor) -> int:
    """How many indices of some rows differ from those of torch in float64 by more than a tie."""
    wrong = 0
    for points, (_, index), itself in ((x, found[0], rows), (y, found[1], None)):
        exact = tiled.nearest(points, x[rows], K, "euclidean", itself is not None, itself)[1]
        here, there = (
            torch.linalg.vector_norm(points[which].double() - x[rows, None].double(), dim=-1)
            for which in (index[rows], exact)
        )
        if itself is not None:
            here = here.masked_fill(index[rows] == itself[:, None], torch.inf)
        wrong += int(((here - there).abs() > TIED * there).sum())
    return wrong


def rows(
    drawn: Callable[..., Pair],
    seconds: Callable[..., float],
    extra: Callable[..., int],
    row: Callable[..., dict[str, Any]],
    bar: Any,
) -> Iterator[dict[str, Any]]:
    """With the points, the clock, the gauge, the row and the bar of `benchmarks.ops_gpu`."""
    estimator = est.NearestNeighbor("kl", K)
    for part, (n, must, stretch) in SIZES.items():
        x, y = drawn(n)
        calls: dict[str, Callable[[], Any]] = {"ours": partial(estimator.value, x, y)}
        calls["torch"] = partial(by_torch, x, y)
        if importlib.util.find_spec("pykeops") is not None:
            calls["KeOps"] = partial(by_keops, x, y)
        some = torch.arange(0, n, max(1, n // ROWS), device=x.device)
        wrong = mismatches(x, y, searches(x, y), some)
        value = calls["ours"]()
        apart = max(abs(float(call() - value)) for call in calls.values())
        times = {name: seconds(call) for name, call in (calls | {"searches": partial(searches, x, y)}).items()}
        share = extra(calls["ours"]) / (x.nbytes + y.nbytes)
        path = knn.explain(y, x, K)
        note = (
            f"{path.path}: {path.why}; {wrong} mismatches outside ties in {len(some)} rows; KL {apart:.0e} apart; "
            f"memory {share:.1f} × the inputs"
        )
        gate = not wrong and path.path == "triton"
        yield row("G3", part, times, times["ours"], bar(must, stretch, below=True), gate, note, " s")
