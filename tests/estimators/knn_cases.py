"""Shared by the tests of nearest neighbours, with and without a GPU."""

import torch

from estimators.ops import knn
from estimators.ops.knn import reference

METRICS = list(reference.ORDERS)
# Points, queries, coordinates and neighbours; 1023 points of 70 coordinates are more than one block of the cache.
SIZES = [
    (1, 1, 1, 1),
    (63, 65, 2, 63),
    (64, 1, 10, 5),
    (65, 64, 3, 1),
    (1000, 130, 13, 7),
    (1023, 63, 70, 100),
    (130, 9, 1100, 3),
]


def drawn(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def lattice(*shape, dtype=torch.float64, seed=0):
    """Points of whole coordinates, many of them equal: their distances are exact, and most are ties."""
    return torch.randint(0, 3, shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def agrees(points, queries, k, metric="euclidean", exclude_self=False, path=None):
    """The indices are those of the reference; distances are rounded, d + 2 times or to the dtype."""
    distance, index = knn.nearest(points, queries, k, metric=metric, exclude_self=exclude_self, path=path)
    expected, where = reference.nearest(points, queries, k, metric=metric, exclude_self=exclude_self)
    assert distance.dtype == points.dtype and distance.shape == index.shape == expected.shape
    torch.testing.assert_close(index, where, rtol=0, atol=0)
    rounding = torch.finfo(points.dtype).eps + (points.shape[-1] + 2) * torch.finfo(torch.float64).eps
    torch.testing.assert_close(distance.double(), expected, rtol=rounding, atol=0)


def in_clusters(n, d, wide=0.01, apart=1000.0):
    """Two clusters in float32, in turn: the rounding of products, of apart², is far more than their points differ."""
    points = (drawn(n, d, seed=1) * wide / d**0.5).float()
    points[::2, 0] += apart
    return points


def worst_of_halves():
    """Points and one query of 64 coordinates, whose nearest point, 40, products of halves find behind the point 0.

    A query rounds down in half of its coordinates and up in the others, by nearly ε = 2^−11. The point 40 is equal to
    it in the former, which makes 2ab − 2ãb̃ = 4ε·32, and the point 0 in the latter, −4ε·32. All others are far.
    """
    query = torch.cat([torch.full((32,), 1 + 0.49 * 2.0**-10), torch.full((32,), 1 + 0.51 * 2.0**-10)])
    points = torch.zeros(150, 64)
    points[40, :32], points[40, 32], points[0, 32:] = query[:32], 2.0**-9, query[32:]
    return points, query[None]
