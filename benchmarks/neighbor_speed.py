"""Row S11 of `benchmarks.ops_speed`: the 5 nearest of 10⁵ points to 10⁴ queries, in float64, as the estimators ask."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from estimators.classical import neighbors
from estimators.ops import knn

POINTS, QUERIES, K = 100_000, 10_000, 5
TIED = 1e-12  # relative difference of distances below which the order of two points is nobody's mistake
Array = NDArray[np.float64]
Index = NDArray[np.int64]


def drawn(d: int) -> tuple[Array, Array]:
    both = torch.randn(POINTS + QUERIES, d, generator=torch.Generator().manual_seed(d), dtype=torch.float64).numpy()
    return both[:POINTS], both[POINTS:]


def ours(points: Array, queries: Array) -> Index:
    """The index of `estimators.classical.neighbors`, which takes a tree or the op."""
    return neighbors.nearest(points, queries, K, "euclidean")[1]


def by_tree(points: Array, queries: Array) -> Index:
    """By SciPy's tree, on as many threads as torch has."""
    from scipy.spatial import cKDTree

    return np.asarray(cKDTree(points).query(queries, K, workers=torch.get_num_threads())[1])


def by_scikit_learn(points: Array, queries: Array) -> Index:
    """By all distances, which it takes from products."""
    from sklearn.neighbors import NearestNeighbors

    search = NearestNeighbors(n_neighbors=K, algorithm="brute").fit(points)
    return np.asarray(search.kneighbors(queries, return_distance=False))


def by_keops(points: Array, queries: Array) -> Index:
    """By symbolic matrices."""
    from pykeops.numpy import LazyTensor

    gap = ((LazyTensor(queries[:, None]) - LazyTensor(points[None])) ** 2).sum(-1)
    return np.asarray(gap.argKmin(K, dim=1))


def mismatches(found: Index, exact: Index, points: Array, queries: Array) -> int:
    """How many indices differ from the exact ones by more than a tie."""
    rows, ranks = (found != exact).nonzero()
    here, there = (np.linalg.norm(points[index[rows, ranks]] - queries[rows], axis=-1) for index in (found, exact))
    return int((np.abs(here - there) > TIED * there).sum())


def rows(
    seconds: Callable[..., dict[str, float]], row: Callable[..., dict[str, Any]], bar: Any
) -> Iterator[dict[str, Any]]:
    """With the clock, the row and the bar of `benchmarks.ops_speed`."""
    peers = {"cKDTree": by_tree, "scikit-learn": by_scikit_learn}
    if importlib.util.find_spec("pykeops") is not None:
        peers["KeOps"] = by_keops
    for d, least in ((3, bar(1, 1)), (10, bar(3, 6)), (50, bar(2, 3))):
        points, queries = drawn(d)
        y, x = torch.from_numpy(points), torch.from_numpy(queries)
        exact = knn.nearest(y, x, K, path="tiled")[1].numpy()
        asked = {name: call for name, call in peers.items() if name != "cKDTree" or d < 50}  # there it takes a minute
        calls = {"ours": ours, **asked}
        wrong = {name: mismatches(call(points, queries), exact, points, queries) for name, call in calls.items()}
        times = seconds({name: partial(call, points, queries) for name, call in calls.items()}, 3)
        way = "SciPy's tree" if neighbors.by_tree(points) else knn.explain(y, x).why
        note = f"mismatches outside ties: {', '.join(f'{count} by {name}' for name, count in wrong.items())}; {way}"
        figure = min(times[name] for name in asked) / times["ours"]
        yield row("S11", times, figure, least, not any(wrong.values()), note, f", d = {d}")
