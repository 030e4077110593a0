"""`nearest` on the CPU by the library of `estimators.ops.native`, in float32 and float64."""

from __future__ import annotations

import ctypes
import math

import torch
from torch import Tensor

from estimators.ops import native

METRICS = ("euclidean", "cityblock", "chebyshev")  # in the order of the library
FEWEST = 4096  # pairs of each problem of a batch, from which a call of the library for each pays
LEAST = 8  # coordinates that a distance costs, at the least
SOME = 1000  # points whose medians are the centre
WIDEST = 2**20  # coordinates up to which the filter is proven


class _Neighbors(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("points", "queries", "panels", "rows", "far", "own")),
        *((name, ctypes.c_void_p) for name in ("distance", "index")),
        *((name, ctypes.c_int64) for name in ("n", "d", "k")),
        ("scale", ctypes.c_double),
        ("metric", ctypes.c_int32),
        ("others", ctypes.c_int32),
    )


def why_not(points: Tensor, queries: Tensor, k: int) -> str:
    """What keeps the library from these points; nothing where it can, which no number of neighbours does."""
    if points.device.type != "cpu":
        return "the points are not on the CPU"
    if not native.is_plain(points, queries):
        return "a transform of torch.func, or a subclass of Tensor"
    if points.dtype not in native.SUFFIX:
        return f"points of {points.dtype}"
    if points.shape[-1] > WIDEST:
        return f"more than {WIDEST} coordinates"
    if (points.ndim > 2 or queries.ndim > 2) and points.shape[-2] * queries.shape[-2] < FEWEST:
        return f"a batch of problems with fewer than {FEWEST} pairs, which torch takes all at once"
    if native.library() is None:
        return "the library is not built: python -m estimators.ops.native"
    return ""


def described(points: Tensor, metric: str) -> str:
    """The way that the library takes."""
    return f"{_library().instruction_set}, all distances in float32 as a filter, those that pass in float64"


def _library() -> native.Library:
    found = native.library()
    assert found is not None  # `why_not` was asked
    return found


def nearest(points: Tensor, queries: Tensor, k: int, metric: str, exclude_self: bool) -> tuple[Tensor, Tensor]:
    """The distances (..., q, k), increasing, and the indices; equal ones by index."""
    library, dtype = _library(), points.dtype
    lead = torch.broadcast_shapes(points.shape[:-2], queries.shape[:-2])
    B, (n, d), q = math.prod(lead), points.shape[-2:], queries.shape[-2]
    y, x = (p.expand(*lead, *p.shape[-2:]).reshape(B, *p.shape[-2:]).contiguous() for p in (points, queries))
    W, rows = library.of("width", torch.float32)(), int(library.c.neighbor_rows())
    panels, tasks = -(-n // W), -(-q // rows)
    # By the median an outlier does not move the others' origin, from which rounding counts.
    centre = y[:, :: -(-n // SOME)].double().median(1).values
    largest = max((abs(float(end)) for p in (y, x) if p.numel() for end in p.aminmax()), default=0.0)
    scale = 2.0 ** min(1000, -math.frexp(largest)[1])  # no square overflows in single precision
    narrow_y, narrow_x = (torch.empty(B, size, dtype=torch.float32) for size in (panels * W * d, q * d))
    far, own = (torch.empty(B, size, dtype=torch.float64) for size in (panels, q))
    distance, index = x.new_empty(B, q, k), torch.empty(B, q, k, dtype=torch.int64)
    narrow, call = library.of("narrow", dtype), library.of("nearest", dtype)
    kind = METRICS.index(metric)
    problems = []
    for b in range(B):
        for given, width, into, norms in ((y, W, narrow_y, far), (x, 1, narrow_x, own)):
            narrow(
                _pointer(given[b]), ctypes.c_int64(given.shape[1]), ctypes.c_int64(d), _pointer(centre[b]),
                ctypes.c_double(scale), ctypes.c_int32(kind), ctypes.c_int64(width), _pointer(into[b]),
                _pointer(norms[b]),
            )  # fmt: skip
        held = (y, x, narrow_y, narrow_x, far, own, distance, index)
        problems.append(_Neighbors(*(t[b].data_ptr() for t in held), n, d, k, scale, kind, exclude_self))
    count = native.threads(B * tasks, B * n * q * max(d, LEAST))
    room = torch.empty(count, rows * k * 2, dtype=torch.float64)

    def run(worker: int, task: int) -> None:
        b, part = divmod(task, tasks)
        begin, end = part * rows, min(q, (part + 1) * rows)
        call(ctypes.byref(problems[b]), ctypes.c_int64(begin), ctypes.c_int64(end), _pointer(room[worker]))

    native.share_out(B * tasks, count, run)
    return distance.reshape(*lead, q, k), index.reshape(*lead, q, k)


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
