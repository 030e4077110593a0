"""Reduced costs ‖x_i − y_j‖^p − f_i − g_j over all pairs, without their matrix: the lowest of a row, and those below 0.

The first is the c-transform of g, by which potentials become feasible; the others are the pairs by which a transport
plan could be cheaper. Points (n, d) and (m, d) on the CPU go to the library of `estimators.ops.native` where that is
built, any others to tiles of torch: `explain` tells which.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from estimators.ops import native
from estimators.ops.sinkhorn.native import why_not
from estimators.ops.sinkhorn.solver import Problem, Side

Path = Literal["native", "tiled"]

TILE = 2**22  # costs held at once


class Explained(NamedTuple):
    """Which path is taken, and why."""

    path: Path
    why: str


def explain(x: Tensor, y: Tensor, power: float) -> Explained:
    """The path: "native", the library of `estimators.ops.native`, or "tiled", torch."""
    why = why_not(x, y, x[:, 0], y[:, 0], power)
    return Explained("tiled", why) if why else Explained("native", "distances by squared differences")


def lowest(x: Tensor, y: Tensor, g: Tensor, power: float, path: Path | None = None) -> Tensor:
    """min_j ‖x_i − y_j‖^p − g_j, (n,), in the dtype of the points. Cost: O(nmd) time, O((n + m)d) memory.

    Raises:
        ValueError: potentials of another length than the points; a path that cannot be taken, and why.
    """
    if not _is_native(x, y, power, path, None, g):
        return torch.cat([(C - g).amin(-1) for _, C in _tiles(x, y, power)])
    problem = _problem(x, y, g, power)
    out = torch.empty(len(x), dtype=torch.float64)
    problem.call("lowest", ctypes.c_void_p(out.data_ptr()))
    return out.to(x.dtype)


def below(
    x: Tensor, y: Tensor, f: Tensor, g: Tensor, limit: float, power: float, path: Path | None = None
) -> tuple[Tensor, Tensor]:
    """The rows and the columns of all pairs whose reduced cost is below ``limit``, by rows.

    Cost: O(nmd) time, O((n + m)d) memory and what is found.

    Raises:
        ValueError: potentials of another length than the points; a path that cannot be taken, and why.
    """
    if not _is_native(x, y, power, path, f, g):
        parts = [
            (C - f[start : start + len(C), None] - g < limit).nonzero() + torch.tensor([start, 0])
            for start, C in _tiles(x, y, power)
        ]
        rows, columns = torch.cat(parts).unbind(-1)
        return rows, columns
    problem = _problem(x, y, g, power)
    problem.f.copy_(f)
    room = 8 * (len(x) + len(y))
    while True:
        out = torch.empty(problem.workers, room, dtype=torch.int64)
        found = torch.zeros(problem.workers, dtype=torch.int64)
        problem.call(
            "arcs", ctypes.c_double(limit), ctypes.c_void_p(out.data_ptr()), ctypes.c_int64(room),
            ctypes.c_void_p(found.data_ptr()),
        )  # fmt: skip
        if int(found.max()) <= room:
            pairs = torch.cat([row[:count] for row, count in zip(out, found.tolist(), strict=True)])
            return pairs // len(y), pairs % len(y)
        room = int(found.max())


def _is_native(x: Tensor, y: Tensor, power: float, path: Path | None, *potentials: Tensor | None) -> bool:
    if path not in (None, "native", "tiled"):
        raise ValueError(f'path must be None, "native" or "tiled": got {path!r}')
    for name, h, points in zip("fg", potentials, (x, y), strict=True):
        if h is not None and h.shape != points.shape[:1]:
            raise ValueError(f"{name} must have one number a point, ({len(points)},): got shape {tuple(h.shape)}")
    why = why_not(x, y, x[:, 0], y[:, 0], power)
    if path == "native" and why:
        raise ValueError(f'path="native" cannot be taken: {why}')
    return path != "tiled" and not why


def _problem(x: Tensor, y: Tensor, g: Tensor, power: float) -> Problem:
    """The points as the library reads them, with g where it reads masses."""
    none_x, none_y = (torch.zeros(len(p), dtype=torch.float64) for p in (x, y))
    rows, columns = (Side.of(p.detach(), none, p.dtype) for p, none in ((x, none_x), (y, none_y)))
    workers = native.threads(len(x), x.shape[0] * y.shape[0] * (x.shape[1] + 4))
    problem = Problem(rows, columns, none_x, none_y, [1.0], float("inf"), power, workers)
    problem.mass.fill_(-torch.finfo(x.dtype).max)[: len(g)] = g  # columns past the end are never the lowest
    return problem


def _tiles(x: Tensor, y: Tensor, power: float) -> Iterator[tuple[int, Tensor]]:
    """Rows of costs, with the index of the first."""
    size = max(1, TILE // len(y))
    for start in range(0, len(x), size):
        yield start, torch.cdist(x[start : start + size], y, compute_mode="donot_use_mm_for_euclid_dist") ** power
