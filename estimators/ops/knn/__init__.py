"""The k nearest points of each query, and how far they are: all distances, of which the smallest are kept.

The library of `estimators.ops.native` takes float32 and float64 points on the CPU where it is built, and Triton those
on CUDA where it is installed, for up to 64 neighbours; torch any others: `explain` tells which. All rank in float64 by
differences of coordinates, so that a point is at 0 from its copy.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from estimators.ops.knn import native, tiled, triton
from estimators.ops.knn.reference import ORDERS

Path = Literal["native", "triton", "tiled"]
LARGEST = 1e150  # beyond it squares of differences overflow


class Explained(NamedTuple):
    """Which path is taken, and why."""

    path: Path
    why: str


_BY: dict[str, Any] = {"native": native, "triton": triton, "tiled": tiled}


def explain(points: Tensor, queries: Tensor, k: int = 1, metric: str = "euclidean") -> Explained:
    """The path of `nearest`: "native", the library of `estimators.ops.native`, "triton", or "tiled", torch."""
    return _taken(None, points, queries, k, metric)


def nearest(
    points: Tensor,
    queries: Tensor,
    k: int,
    *,
    metric: str = "euclidean",
    exclude_self: bool = False,
    path: Path | None = None,
) -> tuple[Tensor, Tensor]:
    """The distances of ``queries`` to their k nearest ``points``, increasing, and the indices of these.

    Equal distances are in the order of their indices, whatever the path and the threads. They are compared in float64,
    for float32 points too: between paths the order differs at most where distances are equal to its rounding.

    Shapes: points (..., n, d), queries (..., q, d), distances and indices (..., q, k); leading axes broadcast.
    Cost: O(n·q·d) time; memory O((n + q)·d + q·k), on the path "tiled" besides a tile of 8 MB, or n distances, and on
    the path "triton" up to twice the points, four times where neighbours are hard to tell apart, and 128 MiB, or as
    much again as the points take. That path waits for the device twice, and again where they are.
    Gradients: in points and queries, through the pairs that are found; 0 between copies.

    Args:
        points: among which neighbours are sought, of any floating dtype.
        queries: of the same dtype.
        k: number of neighbours.
        metric: "euclidean", "cityblock" or "chebyshev".
        exclude_self: query i is point i, which is left out; its copies are not.
        path: "native", "triton" or "tiled"; None is the fastest that can be taken.

    Raises:
        ValueError: shapes, dtypes or devices that do not fit; k below 1 or above the number of points (without the own
            one); points that are not finite, or beyond 1e150; no such metric or path, or a path that cannot be taken.

    Example:
        >>> points = torch.tensor([[0.0], [1.0], [3.0]])
        >>> distance, index = nearest(points, points, 1, exclude_self=True)
        >>> distance.squeeze(-1), index.squeeze(-1)
        (tensor([1., 1., 2.]), tensor([1, 0, 1]))
    """
    _check(points, queries, k, metric, exclude_self)
    by = _BY[_taken(path, points, queries, k, metric).path]
    with torch.no_grad():
        distance, index = by.nearest(points.detach(), queries.detach(), k, metric, exclude_self)
    if torch.is_grad_enabled() and (points.requires_grad or queries.requires_grad):
        distance = _between(points, queries, index, metric)
    return distance, index


def _between(points: Tensor, queries: Tensor, index: Tensor, metric: str) -> Tensor:
    """The distances of the pairs, differentiable."""
    *lead, q, k = index.shape
    n, d = points.shape[-2:]
    flat = index.reshape(*lead, q * k, 1).expand(*lead, q * k, d)
    found = points.expand(*lead, n, d).gather(-2, flat).reshape(*lead, q, k, d)
    return torch.linalg.vector_norm(queries.unsqueeze(-2) - found, ORDERS[metric], -1)


def _taken(path: Path | None, points: Tensor, queries: Tensor, k: int, metric: str) -> Explained:
    """The path that is asked for or, where none is, the one of the device that the points are on."""
    if path not in (None, *_BY):
        raise ValueError(f'path must be None, "native", "triton" or "tiled": got {path!r}')
    if path == "tiled":
        return Explained("tiled", "asked for")
    wanted: Path = path or ("triton" if points.device.type == "cuda" else "native")
    why = _BY[wanted].why_not(points, queries, k)
    if why and path:
        raise ValueError(f'path="{path}" cannot be taken: {why}')
    return Explained("tiled", why) if why else Explained(wanted, _BY[wanted].described(points, metric))


def _check(points: Tensor, queries: Tensor, k: int, metric: str, exclude_self: bool) -> None:
    if metric not in ORDERS:
        raise ValueError(f"metric must be one of {', '.join(ORDERS)}: got {metric!r}")
    shapes = tuple(points.shape), tuple(queries.shape)
    if min(points.ndim, queries.ndim) < 2 or points.shape[-1] != queries.shape[-1] or not points.shape[-1]:
        raise ValueError(f"points must be (..., n, d) and queries (..., q, d), d > 0: got {shapes[0]} and {shapes[1]}")
    if points.dtype != queries.dtype or points.device != queries.device or not points.is_floating_point():
        raise ValueError(
            "points and queries must have one floating dtype and one device: "
            f"got {points.dtype} on {points.device} and {queries.dtype} on {queries.device}"
        )
    n = points.shape[-2]
    if exclude_self and queries.shape[-2] != n:
        raise ValueError(f"exclude_self needs the points as queries: got {n} points and {queries.shape[-2]} queries")
    if not 1 <= k <= n - exclude_self:
        others = " without the own one" if exclude_self else ""
        raise ValueError(f"k must lie between 1 and {n - exclude_self}, the number of points{others}: got {k}")
    named = [(name, t.detach()) for name, t in (("points", points), ("queries", queries)) if t.numel()]
    ends = torch.stack([end for _, t in named for end in t.aminmax()]).tolist() if named else []  # one look at a device
    for (name, _), low, high in zip(named, ends[::2], ends[1::2], strict=True):
        if not (abs(low) <= LARGEST and abs(high) <= LARGEST):  # false for NaN
            raise ValueError(f"{name} must be finite, and at most {LARGEST:g}: got values from {low} to {high}")
