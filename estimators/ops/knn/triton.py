"""`nearest` on CUDA by Triton: a filter that takes all pairs once, in low precision, then float64 for what it leaves.

The filter gives a lower bound of the least distance from a row to each group of `GROUP` points: one number a group. The
k-th smallest of upper bounds of these bounds the k-th distance, as the groups have no point in common; what it leaves
is every group whose lower bound is not above it: k of them and those that rounding cannot tell from these, however the
points are sorted. They go to float64, by differences of coordinates, in the order of distance and index. How far the
filter may be off is in `bounds`. Rows for which too many groups are left go to a filter that rounds less, or to torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from estimators.ops.knn import bounds, tiled
from estimators.ops.knn.bounds import FEW, GROUP, Kind
from estimators.ops.knn.native import METRICS, WIDEST
from estimators.ops.pairwise import gradient
from estimators.ops.pairwise import triton as pairwise

MOST = 64  # neighbours: the selection takes a round for each
# By kind, rows, columns and warps of a tile: by what compiles for Hopper without spilled registers; not yet by time.
TILES = {"products": (128, 128, 4), "differences": (128, 64, 4)}
SLOTS = 1024  # groups of which the least is kept, in the search of a bound: far more than neighbours
ROOMS = {16: 64, MOST: 256}  # groups that may be left for a row, by the number of neighbours
WIDTH = 16  # groups that are most often left, at the most
BYTES = 2**27  # of rows that are taken at once, or as many as the points have
WAVES = 8  # programs for each multiprocessor


def why_not(points: Tensor, queries: Tensor, k: int) -> str:
    """What keeps Triton from these points; nothing where it can. No number on the GPU is read."""
    if wrong := pairwise.absent(points.device):
        return wrong
    if not gradient.is_plain(points, queries):
        return "a transform of torch.func, or a subclass of Tensor"
    if points.dtype not in (torch.float32, torch.float64):
        return f"points of {points.dtype}"
    if points.shape[-1] > WIDEST:
        return f"more than {WIDEST} coordinates"
    return f"more than {MOST} neighbours" if k > MOST else ""


def described(points: Tensor, metric: str) -> str:
    """The way that Triton takes."""
    where = "interpreted" if pairwise.is_interpreted() else torch.cuda.get_device_name(points.device)
    first = bounds.kinds(points.shape[-1], metric)[0]
    how = "half precision by matrix products" if first == "halves" else "float32 by differences"
    return f"Triton, {where}, all distances in {how} as a filter, those that pass in float64"


def nearest(points: Tensor, queries: Tensor, k: int, metric: str, exclude_self: bool) -> tuple[Tensor, Tensor]:
    """The distances (..., q, k), increasing, and the indices; equal ones by index."""
    lead = torch.broadcast_shapes(points.shape[:-2], queries.shape[:-2])
    B, q = math.prod(lead), queries.shape[-2]
    y, x = (p.expand(*lead, *p.shape[-2:]).reshape(B, *p.shape[-2:]) for p in (points, queries))
    distance, index = x.new_empty(B, q, k), torch.empty(B, q, k, dtype=torch.int64, device=x.device)
    if index.numel():
        own = torch.arange(q, dtype=torch.int32, device=x.device).expand(B, q) if exclude_self else None
        first, *others = bounds.kinds(x.shape[-1], metric)
        left = _filtered(y, x, own, metric, first, distance, index).nonzero()  # the one look at the device
        for b in left[:, 0].unique().tolist() if len(left) else []:
            rows = left[left[:, 0] == b, 1]
            _again(y[b], x[b], rows, metric, exclude_self, others, distance[b], index[b])
    return distance.reshape(*lead, q, k), index.reshape(*lead, q, k)


def _again(
    y: Tensor, x: Tensor, rows: Tensor, metric: str, exclude: bool, kinds: Sequence[Kind], distance: Tensor,
    index: Tensor,
) -> None:  # fmt: skip
    """Rows of one problem for which the first filter leaves too many groups: by others, and what is tied by torch."""
    k = index.shape[-1]
    for kind in kinds:
        some, own = x[rows][None], rows.to(torch.int32)[None] if exclude else None
        found = some.new_empty(1, len(rows), k), torch.empty_like(index[rows])[None]
        over = _filtered(y[None], some, own, metric, kind, *found)[0]
        distance[rows], index[rows] = found[0][0], found[1][0]
        rows = rows[over]
        if not len(rows):
            return
    distance[rows], index[rows] = tiled.nearest(y, x[rows], k, metric, exclude, rows)


class _Room(NamedTuple):
    """What the kernels leave for each other, of the rows of some problems."""

    low: Tensor  # (problems · rows · groups): of each group the least lower bound
    near: Tensor  # (problems · rows · ROOM): groups that are left
    counts: Tensor  # (problems, rows): how many
    gap: Tensor  # (problems · rows · ROOM · GROUP): distances to their points

    @classmethod
    def of(cls, problems: int, rows: int, groups: int, room: int, device: torch.device) -> _Room:
        size = problems * rows
        return cls(
            torch.empty(size * groups, device=device, dtype=torch.float32),
            torch.empty(size * room, device=device, dtype=torch.int32),
            torch.empty(problems, rows, device=device, dtype=torch.int32),
            torch.empty(size * room * GROUP, device=device, dtype=torch.float64),
        )


def _filtered(
    y: Tensor, x: Tensor, own: Tensor | None, metric: str, kind: Kind, distance: Tensor, index: Tensor
) -> Tensor:
    """Neighbours into ``distance`` and ``index``; True, (B, q), for rows that are not done, as their groups lack room.

    ``own`` (B, q) are the points that the queries are, if any.
    """
    B, q, _ = x.shape
    how = constants(x, y, index.shape[-1], kind)
    narrow = bounds.narrowed(kind, y, x, metric, how)
    groups, room = narrow.spread.shape[1], how["ROOM"]
    most = max(BYTES, x.nbytes + y.nbytes) // (4 * groups + room * (4 + 8 * GROUP))  # rows at once
    rows = min(-(-q // how["BM"]), max(1, most // how["BM"])) * how["BM"]
    problems = max(1, min(B, most // rows))
    held = _Room.of(problems, rows, groups, room, x.device)
    over = torch.empty(B, q, dtype=torch.bool, device=x.device)
    with pairwise.on(x.device):
        for b in range(0, B, problems):
            for start in range(0, q, rows):
                whose, which = slice(b, b + problems), slice(start, start + rows)
                _bound(narrow, whose, start, min(rows, q - start), held, metric, kind, how)
                itself = None if own is None else own[whose, which]
                found = distance[whose, which], index[whose, which]
                _rank(y[whose], x[whose, which], itself, narrow, whose, start, held, metric, found, how)
                over[whose, which] = held.counts[: len(found[0]), : found[0].shape[1]] > room
    return over


def _bound(
    narrow: bounds.Narrow, whose: slice, start: int, some: int, held: _Room, metric: str, kind: Kind, how: Any
) -> None:
    """The lower bounds of some rows of some problems."""
    from estimators.ops.knn import triton_kernels as kernels

    x, y, term = narrow.x[whose], narrow.y[whose], narrow.term[whose]
    blocks, tiles = -(-some // how["BM"]), term.shape[1] // how["BN"]
    wanted = -(-WAVES * _processors(x.device) // (len(x) * blocks))
    step = -(-tiles // min(tiles, wanted))
    grid = len(x) * blocks, -(-tiles // step)
    sizes = blocks, held.counts.shape[1], term.shape[1], narrow.spread.shape[1], step * how["BN"]
    given = {"BM": how["BM"], "BN": how["BN"], "GROUP": GROUP, "num_warps": how["warps"]}
    if kind != "differences":
        kernels.products_kernel[grid](
            x[:, start:], y, term, held.low, *sizes, x.shape[2], x.stride(0), BK=how["BK"], SINGLE=how["SINGLE"],
            **given,
        )  # fmt: skip
    else:
        kernels.differences_kernel[grid](
            x[:, :, start:], y, term, held.low, *sizes, x.shape[1], *x.stride()[:2], D=how["D"],
            METRIC=METRICS.index(metric), **given,
        )  # fmt: skip


def _rank(
    y: Tensor, x: Tensor, own: Tensor | None, narrow: bounds.Narrow, whose: slice, start: int, held: _Room,
    metric: str, found: tuple[Tensor, Tensor], how: Any,
) -> None:  # fmt: skip
    """The nearest points of some rows by their bounds: groups, distances, the smallest of these."""
    from estimators.ops.knn import triton_kernels as kernels

    (B, some, d), m, k, R = x.shape, y.shape[1], found[1].shape[-1], how["R"]
    spread, slack = narrow.spread[whose], narrow.slack[whose, start:]
    blocks = -(-some // R)
    grid, sizes = (B * blocks,), (blocks, held.counts.shape[1], some)
    given = {"R": R, "GROUP": GROUP, "ROOM": how["ROOM"], "METRIC": METRICS.index(metric)}
    kernels.closest_kernel[grid](
        held.low, spread, slack, held.near, held.counts, *sizes, spread.shape[1], k + (own is not None),
        narrow.stretch, slack.stride(0), R=R, T=how["T"], ROOM=how["ROOM"],
    )  # fmt: skip
    itself = x if own is None else own
    kernels.measure_kernel[grid](
        x, y, itself, held.near, held.counts, held.gap, *sizes, m, d, *x.stride(), *y.stride(), itself.stride(0),
        BK=how["BD"], EXCLUDE=own is not None, num_warps=2, **given,
    )  # fmt: skip
    kernels.smallest_kernel[grid](
        held.gap, held.near, held.counts, *found, *sizes, k, found[0].stride(0), FEW=WIDTH, **given
    )


def constants(x: Tensor, y: Tensor, k: int, kind: Kind) -> dict[str, Any]:
    """How the kernels of points like these are compiled."""
    (_, q, d), m = x.shape, y.shape[1]
    BM, BN, warps = TILES["differences" if kind == "differences" else "products"]
    interpreted = pairwise.is_interpreted()
    if interpreted:  # a tile takes milliseconds whatever its size
        BM, BN = (pairwise.power_of_2(size, pairwise.INTERPRETED) for size in (q, max(GROUP, m)))
    BK = pairwise.power_of_2(d, 64)
    groups = -(-m // BN) * BN // GROUP
    return {
        "BM": BM, "BN": BN, "BK": BK, "SINGLE": d <= BK and kind == "halves", "D": d if d <= FEW else 0, "BD": BK,
        "R": pairwise.power_of_2(q, 128) if interpreted else 1,
        "T": pairwise.power_of_2(groups, SLOTS) if interpreted else SLOTS,
        "ROOM": next(room for most, room in ROOMS.items() if k <= most), "warps": warps,
    }  # fmt: skip


def _processors(device: torch.device) -> int:
    return 1 if pairwise.is_interpreted() else pairwise.multiprocessors(device)
