"""Nearest neighbours in the metrics of ℓ1, ℓ2 and ℓ∞: a tree in few dimensions, all distances in many."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

Array = NDArray[np.float64]

METRICS = {"euclidean": 2.0, "cityblock": 1.0, "chebyshev": math.inf}
FEW = 8  # dimensions up to which a tree is faster than all distances; at 15 it is five times slower (n = 5000)
_ROWS = 1000


def nearest(points: Array, queries: Array, k: int, metric: str) -> tuple[Array, NDArray[np.int64]]:
    """The distances (q, k), increasing, of ``queries`` to their k nearest ``points``, and which points these are.

    Distances are those of the differences of coordinates: a point is at 0 from its copy.
    """
    from scipy.spatial import cKDTree

    p = METRICS[metric]
    if points.shape[1] <= FEW:
        distance, index = cKDTree(points).query(queries, k=list(range(1, k + 1)), p=p)
        return np.asarray(distance), np.asarray(index)
    from sklearn.neighbors import NearestNeighbors

    index = NearestNeighbors(n_neighbors=k, algorithm="brute", metric=metric).fit(points).kneighbors(queries)[1]
    distance = np.empty(index.shape)
    for start in range(0, len(queries), _ROWS):  # its distances come from x² + y² − 2xy, which loses small ones
        rows = slice(start, start + _ROWS)
        distance[rows] = np.linalg.norm(points[index[rows]] - queries[rows, None], ord=p, axis=-1)
    order = np.argsort(distance, axis=1, kind="stable")
    return np.take_along_axis(distance, order, 1), np.take_along_axis(index, order, 1)


def nearest_others(points: Array, k: int, metric: str) -> tuple[Array, NDArray[np.int64]]:
    """`nearest` of each point among the others; a copy of the point is another one."""
    distance, index = nearest(points, points, k + 1, metric)
    own = index == np.arange(len(points))[:, None]
    own[~own.any(1), -1] = True  # hidden behind more than k copies of itself
    return distance[~own].reshape(len(points), k), index[~own].reshape(len(points), k)


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
