"""Nearest neighbours in the metrics of ℓ1, ℓ2 and ℓ∞: a tree in few dimensions, all distances in many."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import digamma

from estimators.ops import knn, native

Array = NDArray[np.float64]

METRICS = {"euclidean": 2.0, "cityblock": 1.0, "chebyshev": math.inf}

# Coordinates up to which SciPy's tree is faster than all distances by the library. One thread of AVX-512, k = 5, normal
# points; seconds of the tree and of all distances, for 10⁴ queries in n points, but 2000 at n = 10⁶:
#     n = 10⁴: d = 4: 0.029, 0.035; d = 5: 0.050, 0.037; d = 8: 0.25, 0.045
#     n = 10⁵: d = 5: 0.16, 0.29;   d = 6: 0.36, 0.28;   d = 7: 0.80, 0.31
#     n = 10⁶: d = 6: 0.31, 0.57
# By torch, where the library is not built, 2000 queries, n = 10⁴: d = 6: 0.037, 0.049; d = 8: 0.10, 0.042.
FEW, FEW_OF_MANY, MANY = 4, 6, 50_000


def nearest(points: Array, queries: Array, k: int, metric: str) -> tuple[Array, NDArray[np.int64]]:
    """The distances (q, k), increasing, of ``queries`` to their k nearest ``points``, and which points these are.

    Distances are those of the differences of coordinates: a point is at 0 from its copy.
    """
    return _by_tree(points, queries, k, metric) if by_tree(points) else _by_all(points, queries, k, metric)


def nearest_others(points: Array, k: int, metric: str) -> tuple[Array, NDArray[np.int64]]:
    """`nearest` of each point among the others; a copy of the point is another one."""
    if not by_tree(points):
        return _by_all(points, points, k, metric, exclude_self=True)
    distance, index = _by_tree(points, points, k + 1, metric)
    own = index == np.arange(len(points))[:, None]
    own[~own.any(1), -1] = True  # hidden behind more than k copies of itself
    return distance[~own].reshape(len(points), k), index[~own].reshape(len(points), k)


def by_tree(points: Array) -> bool:
    """Whether a tree is expected to be faster than all distances."""
    n, d = points.shape
    return d <= (FEW if n < MANY and native.library() is not None else FEW_OF_MANY)


def _by_tree(points: Array, queries: Array, k: int, metric: str) -> tuple[Array, NDArray[np.int64]]:
    from scipy.spatial import cKDTree

    tree = cKDTree(points, balanced_tree=False)
    distance, index = tree.query(queries, list(range(1, k + 1)), p=METRICS[metric], workers=torch.get_num_threads())
    return np.asarray(distance), np.asarray(index)


def _by_all(
    points: Array, queries: Array, k: int, metric: str, exclude_self: bool = False
) -> tuple[Array, NDArray[np.int64]]:
    y, x = (torch.tensor(np.ascontiguousarray(part)) for part in (points, queries))
    distance, index = knn.nearest(y, x, k, metric=metric, exclude_self=exclude_self)
    return distance.numpy(), index.numpy()


def within(points: Array, queries: Array, radius: Array, metric: str) -> NDArray[np.int64]:
    """How many ``points`` lie at ``radius`` (q,) or nearer from each of ``queries``."""
    from scipy.spatial import cKDTree

    reach = np.nextafter(radius, math.inf)
    return np.asarray(cKDTree(points).query_ball_point(queries, reach, p=METRICS[metric], return_length=True))


SEEN = 5  # neighbours that tell the dimension


def dimension(points: Array, metric: str) -> float:
    """The dimension in which the nearest neighbours of ``points`` are spread, less than d near a surface.

    With ρ_j the distance to the j-th of k neighbours, E log(ρ_k/ρ_j) = (ψ(k) − ψ(j))/dimension for a density, whatever
    it is. Points with copies are left out.

    References: Levina and Bickel 2004, eq. (8), averaged over the inverses.
    """
    rho = nearest_others(points, SEEN, metric)[0]
    rho = rho[rho[:, 0] > 0]
    spread = np.log(rho[:, -1:] / rho[:, :-1]).sum(1).mean() if len(rho) else 0.0
    return float((digamma(SEEN) - digamma(np.arange(1, SEEN))).sum() / spread) if spread else math.inf


DISCRETE = 0.5  # share of repeated points from which the data are taken to be discrete
FEW_VALUES = 20  # of a column that is no draw from a density on the line


def refuse_discrete(x: Array, y: Array, estimator: str, columns: bool = True) -> None:
    """Raise ValueError for samples of which more than half are repeated points, or a column has few values."""
    share = max(repeated(x), repeated(y))
    if share > DISCRETE:
        raise ValueError(
            f"x or y repeats {share:.0%} of its points: {estimator} needs continuous data; of discrete data "
            "est.Histogram compares the frequencies, as does dv.kl(p, q) where they are known"
        )
    for j in range(x.shape[1] if columns else 0):
        for name, column in (("x", x[:, j]), ("y", y[:, j])):
            values = len(np.unique(column))
            if values <= min(FEW_VALUES, len(column) // 5):
                raise ValueError(
                    f"column {j} of {name} has {values} distinct value{'s' * (values > 1)} in {len(column)} points: "
                    f"{estimator} needs a density in all columns; est.Histogram takes discrete data, est.MMD, "
                    "est.DensityRatio and est.Variational take mixed data"
                )


SINGULAR = 1e-10  # smallest eigenvalue of correlations that is not rounding


def refuse_flat(x: Array, y: Array, estimator: str) -> None:
    """Raise ValueError for a sample of more points than dimensions that lies in a plane of fewer dimensions."""
    for name, points in (("x", x), ("y", y)):
        n, d = points.shape
        spread = points.std(0)
        if n <= d or d == 1:
            continue
        z = (points - points.mean(0)) / np.where(spread > 0, spread, 1.0)
        if not spread.all() or np.linalg.eigvalsh(z.T @ z / n)[0] < SINGULAR:
            raise ValueError(
                f"{name} has a singular covariance, so that its points lie in fewer than {d} dimensions: {estimator} "
                "needs a density in all; drop constant columns and those that follow from others"
            )


def repeated(points: Array) -> float:
    """The share of points that repeat another one."""
    return 1 - len(np.unique(points, axis=0)) / len(points)
