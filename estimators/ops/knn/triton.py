"""`nearest` on CUDA by Triton: a filter that takes all pairs once, in low precision, then float64 for what it leaves.

The filter gives a lower bound of the least distance from a row to each group of `GROUP` points: one number a group. The
k-th smallest of upper bounds of these bounds the k-th distance, as the groups have no point in common; what it leaves
is every group whose lower bound is not above it: k of them and those that rounding cannot tell from these, however the
points are sorted. They go to float64, by differences of coordinates, in the order of distance and index.

The bounds. Points are scaled by a power of two s, so that the largest coordinate is in [2^12, 2^13): exactly, but below
2^−126. In more than `FEW` coordinates ℓ2 is taken from products, on tensor cores in half precision: 11 bits, as in TF32,
at twice the speed. With a = s(x − c), b = s(y − c) around a centre c and ã, b̃ rounded to halves, ε = 2^−11, each
coordinate is wrong by ε times itself and 2^−25, and with A = ‖a‖², B = ‖b‖²

    |2ab − 2ãb̃| <= (4ε + 2ε²)‖a‖‖b‖ + 2^−24 √d (‖a‖ + ‖b‖) + d 2^−48 <= (2^−10 + 2^−16)(A + B) + d 2^−32.

Products of halves are exact in float32; tensor cores add them up with a truncation each, at most d 2^−23 (A + B) here.
Together with what a, b, A, B and sums of three of them are rounded by, also in float64 at the end,

    |A + B − 2ãb̃ − s²‖x − y‖²| <= h(A + B) + z,    h = 2^−10 + 2^−15 + (d + 64) 2^−22,    z = d 2^−32,

so that L = B(1 − h) − 2ãb̃ is a lower bound of s²‖x − y‖² − A(1 − h) + z, and L + 2hB + 2hA + 2z an upper one.

Otherwise t = ‖x̃ − ỹ‖, squared for ℓ2, is taken in float32 by differences: of points of float32 as they are, so that its
relative error is below λ = (d + 8) 2^−21 and nothing more is lost, and of points of float64 less the centre rounded, by
r <= 2^−24 ‖x̃‖ each. For p = 1, |‖x − y‖ − ‖x̃ − ỹ‖| <= r_i + r_j; for p = 2 with any η, here 2^−18,

    ‖x − y‖² <= (1 + η)‖x̃ − ỹ‖² + u_i + u_j,    u = (1 + η)(2/η) r² <= 2^−28 ‖x̃‖²,

and the other way round. u is taken twice as large, for its own rounding.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from estimators.ops.knn import tiled
from estimators.ops.knn.native import METRICS, SOME, WIDEST
from estimators.ops.knn.reference import ORDERS
from estimators.ops.pairwise import gradient
from estimators.ops.pairwise import triton as pairwise

MOST = 64  # neighbours: the selection takes a round for each
FEW = 8  # coordinates up to which distances are differences
GROUP = 32  # points
LARGE = 13  # the scaled coordinates are below 2^LARGE, and less their centre, times −2, no more than halves hold
HALF = 2.0**-10 + 2.0**-15
DIFFERENCES = 2.0**-17  # 2η, in float64
# By kind, rows, columns and warps of a tile: by what compiles for Hopper without spilled registers; not yet by time.
TILES = {"products": (128, 128, 4), "differences": (128, 64, 4)}
LEAST = 128  # rows of a tile of a small problem
SLOTS = 1024  # groups of which the least is kept, in the search of a bound: far more than neighbours
ROOMS = {16: 64, MOST: 256}  # groups that may be left for a row, by the number of neighbours
WIDTH = 16  # groups that are most often left, at the most
BYTES = 2**27  # of rows that are taken at once, or as many as the points have
WAVES = 4  # programs for each multiprocessor


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
    how = "half precision by matrix products" if by_products(points.shape[-1], metric) else "float32 by differences"
    return f"Triton, {where}, all distances in {how} as a filter, those that pass in float64"


def by_products(d: int, metric: str) -> bool:
    """Whether the filter multiplies."""
    return metric == "euclidean" and d > FEW


def nearest(points: Tensor, queries: Tensor, k: int, metric: str, exclude_self: bool) -> tuple[Tensor, Tensor]:
    """The distances (..., q, k), increasing, and the indices; equal ones by index."""
    lead = torch.broadcast_shapes(points.shape[:-2], queries.shape[:-2])
    B, q = math.prod(lead), queries.shape[-2]
    y, x = (p.expand(*lead, *p.shape[-2:]).reshape(B, *p.shape[-2:]) for p in (points, queries))
    distance, index = x.new_empty(B, q, k), torch.empty(B, q, k, dtype=torch.int64, device=x.device)
    if index.numel():
        own = torch.arange(q, dtype=torch.int32, device=x.device).expand(B, q) if exclude_self else None
        products = by_products(x.shape[-1], metric)
        left = _filtered(y, x, own, metric, products, distance, index).nonzero()  # the one look at the device
        for b in left[:, 0].unique().tolist():
            _again(y[b], x[b], left[left[:, 0] == b, 1], metric, exclude_self, products, distance[b], index[b])
    return distance.reshape(*lead, q, k), index.reshape(*lead, q, k)


def _again(
    y: Tensor, x: Tensor, rows: Tensor, metric: str, exclude: bool, products: bool, distance: Tensor, index: Tensor
) -> None:
    """The rows of one problem that have too many groups within the rounding of products, or ties, for the filter."""
    k = index.shape[-1]
    if products:
        some = x[rows][None]
        found = some.new_empty(1, len(rows), k), torch.empty_like(index[rows])[None]
        own = rows.to(torch.int32)[None] if exclude else None
        over = _filtered(y[None], some, own, metric, False, *found)[0]
        distance[rows], index[rows] = found[0][0], found[1][0]
        rows = rows[over]
    if len(rows):
        distance[rows], index[rows] = tiled.nearest(y, x[rows], k, metric, exclude, rows)


class _Narrow(NamedTuple):
    """What a filter reads of all problems, in whole tiles, and how its sums bound distances."""

    x: Tensor  # (B, Q, d) of halves, or (B, d, Q) of float32
    y: Tensor  # (B, M, d) or (B, d, M)
    term: Tensor  # (B, M), infinite beyond the last point
    spread: Tensor  # (B, groups): upper bounds less lower ones, by their columns
    slack: Tensor  # (B, q): the same by their rows
    stretch: float  # and relative to the sum


def _filtered(
    y: Tensor, x: Tensor, own: Tensor | None, metric: str, products: bool, distance: Tensor, index: Tensor
) -> Tensor:
    """Neighbours into ``distance`` and ``index``; True for rows (B, q) whose groups have no room, which are not done."""
    from estimators.ops.knn import triton_kernels as kernels

    (B, q, d), m, k = x.shape, y.shape[1], index.shape[-1]
    how = constants(x, y, k, metric, products)
    narrow = (_halves if products else _singles)(y, x, metric, how)
    groups, room = narrow.spread.shape[1], how["ROOM"]
    BM, BN = how["BM"], how["BN"]
    row = 4 * groups + room * (4 + 8 * GROUP)  # bytes
    most = max(BYTES, x.nbytes + y.nbytes) // row
    rows = min(-(-q // BM), max(1, most // BM)) * BM
    problems = max(1, min(B, most // rows))
    size = problems * rows
    low = torch.empty(size * groups, dtype=torch.float32, device=x.device)
    near = torch.empty(size * room, dtype=torch.int32, device=x.device)
    count = torch.empty(problems, rows, dtype=torch.int32, device=x.device)
    gap = torch.empty(size * room * GROUP, dtype=torch.float64, device=x.device)
    over = torch.empty(B, q, dtype=torch.bool, device=x.device)
    R, kind, given = how["R"], METRICS.index(metric), {"GROUP": GROUP, "ROOM": room, "METRIC": METRICS.index(metric)}
    with pairwise.on(x.device):
        for b in range(0, B, problems):
            here = min(problems, B - b)
            whose = slice(b, b + here)
            part = [t[whose] for t in narrow[:5]]
            for start in range(0, q, rows):
                some = min(rows, q - start)
                which = (whose, slice(start, start + some))
                blocks = -(-some // BM)
                tiles = part[2].shape[1] // BN
                parts = min(tiles, -(-WAVES * _processors(x.device) // (here * blocks)))
                step = -(-tiles // parts)
                grid, sizes = (here * blocks, -(-tiles // step)), (rows, tiles * BN, groups, step * BN)
                options = {"num_warps": how["warps"]}
                if products:
                    kernels.products_kernel[grid](
                        part[0][:, start:], *part[1:3], low, blocks, *sizes, part[0].shape[2], part[0].stride(0),
                        BM=BM, BN=BN, BK=how["BK"], GROUP=GROUP, SINGLE=how["SINGLE"], **options,
                    )  # fmt: skip
                else:
                    kernels.differences_kernel[grid](
                        part[0][:, :, start:], *part[1:3], low, blocks, *sizes, d, *part[0].stride()[:2],
                        BM=BM, BN=BN, GROUP=GROUP, D=how["D"], METRIC=kind, **options,
                    )  # fmt: skip
                blocks = -(-some // R)
                grid, sizes = (here * blocks,), (blocks, rows, some)
                kernels.closest_kernel[grid](
                    low, part[3], part[4][:, start:], near, count, *sizes, groups, k + (own is not None),
                    narrow.stretch, part[4].stride(0), R=R, T=how["T"], ROOM=room,
                )  # fmt: skip
                rest, itself = x[which], x if own is None else own[which]
                kernels.measure_kernel[grid](
                    rest, y[whose], itself, near, count, gap, *sizes, m, d, *rest.stride(), *y.stride(),
                    itself.stride(0), R=R, BK=how["BD"], EXCLUDE=own is not None, num_warps=2, **given,
                )  # fmt: skip
                kernels.smallest_kernel[grid](
                    gap, near, count, distance[which], index[which], *sizes, k, q * k, R=R, FEW=WIDTH, **given
                )
                over[which] = count[:here, :some] > room
    return over


def constants(x: Tensor, y: Tensor, k: int, metric: str, products: bool) -> dict[str, Any]:
    """How the kernels of points like these are compiled."""
    (_, q, d), m = x.shape, y.shape[1]
    BM, BN, warps = TILES["products" if products else "differences"]
    interpreted = pairwise.is_interpreted()  # a tile takes milliseconds whatever its size
    if interpreted:
        BM, BN = (pairwise.power_of_2(size, pairwise.INTERPRETED) for size in (q, max(GROUP, m)))
    elif q <= LEAST:
        BM = LEAST
    BK = pairwise.power_of_2(d, 64)
    groups = -(-m // BN) * BN // GROUP
    return {
        "BM": BM, "BN": BN, "BK": BK, "SINGLE": d <= BK, "D": d if d <= FEW else 0, "warps": warps, "BD": BK,
        "R": pairwise.power_of_2(q, 128) if interpreted else 1,
        "T": pairwise.power_of_2(groups, SLOTS) if interpreted else SLOTS,
        "ROOM": next(room for most, room in ROOMS.items() if k <= most),
    }  # fmt: skip


def _processors(device: torch.device) -> int:
    return 1 if pairwise.is_interpreted() else pairwise.multiprocessors(device)


def _scaled(y: Tensor, x: Tensor, centred: bool) -> tuple[Tensor, Tensor]:
    """Both times a power of two, (B, 1, 1), that makes the largest coordinate some 2^LARGE, and less a centre of y."""
    largest = torch.maximum(*(torch.linalg.vector_norm(p, torch.inf, (-2, -1), True) for p in (y, x)))
    kind, bits, bias, most = (
        (torch.int32, 23, 127, 120) if y.dtype == torch.float32 else (torch.int64, 52, 1023, 1000)
    )
    exponent = (LARGE - largest.frexp().exponent).clamp(-most, most)
    s = ((exponent.to(kind) + bias) << bits).view(y.dtype)  # exactly
    if not centred:
        return y * s, x * s
    # By the median an outlier does not move the others' origin, from which rounding counts.
    sample = (y[:, :: -(-y.shape[1] // SOME)] * s).sort(1).values
    c = sample[:, sample.shape[1] // 2, None]
    return (y * s).sub_(c), (x * s).sub_(c)


def _norms(a: Tensor, order: float) -> Tensor:
    """In float64."""
    return torch.linalg.vector_norm(a, order, -1, dtype=torch.float64)


def _by_group(term: Tensor, spread: Tensor, how: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The terms of the columns of whole tiles, and the largest spread of each group, in float32."""
    B, m = term.shape
    M = -(-m // how["BN"]) * how["BN"]
    padded = term.new_full((B, M), torch.inf, dtype=torch.float32)
    padded[:, :m] = term
    widest = term.new_zeros(B, M)
    widest[:, :m] = spread
    return padded, widest.unflatten(1, (-1, GROUP)).amax(-1).float()


def _halves(y: Tensor, x: Tensor, metric: str, how: dict[str, Any]) -> _Narrow:
    """For the filter by products, of −2ã and b̃."""
    d = x.shape[-1]
    h, z = HALF + (d + 64) * 2.0**-22, d * 2.0**-32
    b, a = _scaled(y, x, True)
    A, B = (_norms(part, 2).square_() for part in (a, b))
    D = -(-d // how["BK"]) * how["BK"]
    narrow = []
    for part, factor, rows in ((a, -2, how["BM"]), (b, 1, how["BN"])):
        whole = part.new_zeros(len(part), -(-part.shape[1] // rows) * rows, D, dtype=torch.float16)
        whole[:, : part.shape[1], :d] = part if factor == 1 else part.mul_(factor)
        narrow.append(whole)
    term, spread = _by_group(B * (1 - h), 2 * h * B, how)
    return _Narrow(*narrow, term, spread, (2 * h * A + 2 * z).float(), 0.0)


def _singles(y: Tensor, x: Tensor, metric: str, how: dict[str, Any]) -> _Narrow:
    """For the filter by differences."""
    d, exact = x.shape[-1], x.dtype == torch.float32
    stretch = (d + 8) * 2.0**-20 + (0.0 if exact else 2 * DIFFERENCES)
    given = _scaled(y, x, not exact)
    narrow = []
    for part, rows in zip(given, (how["BN"], how["BM"]), strict=True):
        whole = torch.zeros(len(part), d, -(-part.shape[1] // rows) * rows, device=x.device)
        whole[:, :, : part.shape[1]] = part.mT
        narrow.append(whole)
    order = ORDERS[metric]
    u, v = (_norms(part, order) for part in given)
    if order == 2:
        u, v = u.square() * 2.0**-27, v.square() * 2.0**-27
    else:
        u, v = u * 2.0**-23, v * 2.0**-23
    if exact:
        u, v = torch.zeros_like(u), torch.zeros_like(v)
    term, spread = _by_group(-u, 2 * u, how)
    return _Narrow(narrow[1], narrow[0], term, spread, (4 * v + d * 2.0**-100).float(), stretch)
