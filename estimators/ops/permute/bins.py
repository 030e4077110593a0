"""Sums of a kernel over pairs of bins of points, from half of the pairs: by the library, or by tiles of torch."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from estimators.ops import native
from estimators.ops.pairwise import native as pairs

TILE = 2**20  # kernel values held at once by torch


def terms_of(kernel: Any, points: Tensor) -> tuple[Any, str]:
    """The terms of a kernel that is a function of ‖x − y‖² alone, as some are for which they say it; or why not."""
    terms, alone = (getattr(kernel, name, None) for name in ("terms", "one_point"))
    if not callable(terms) or not callable(alone):
        return None, ""
    return terms(), "" if alone(points[:1]) is None else "the kernel is more than a function of ‖x − y‖²"


def why_not(kernel: Any, points: Tensor, weights: Tensor | None) -> str:
    """What keeps the library from these sums; nothing where it can."""
    terms, why = terms_of(kernel, points)
    return pairs.why_not(terms, points, points, *(() if weights is None else (weights,))) or why


def described(points: Tensor) -> str:
    """The way that the library takes."""
    return pairs.described(points)


def native_sums(
    kernel: Any,
    points: Tensor,
    sizes: Tensor,
    weights: Tensor | None,
    progress: Callable[[Any], Iterable[Any]],
) -> Tensor:
    """Rows of one bin after another, each with the columns behind it, whose sums fall into bins."""
    packed = pairs._packed(tuple(kernel.terms()), points, points, weights)
    problem = packed.problem(pairs.ABOVE)
    call = native.library().of("sums", points.dtype)  # type: ignore[union-attr]  # `why_not` was asked
    U, N = len(sizes), len(points)
    starts = [0, *sizes.cumsum(0).tolist()]
    w = None if weights is None else weights.double()
    count = native.threads(U, N * N * max(points.shape[1], pairs.LEAST) / 2)
    rows, columns = torch.zeros(2, count, N, dtype=torch.float64)
    found = torch.zeros(U, U, dtype=torch.float64)

    def run(worker: int, a: int) -> None:
        begin, end = starts[a], starts[a + 1]
        down = columns[worker, begin:].zero_()
        out = pairs._Sums(rows[worker].data_ptr(), columns[worker].data_ptr(), None, None, None)
        call(ctypes.byref(problem), ctypes.c_int64(begin), ctypes.c_int64(end), ctypes.byref(out))
        found[a, a:] = _of_bins(down if w is None else down * w[begin:], sizes[a:])

    native.share_out(U, count, run, progress)
    return found + found.T


def tiled(
    kernel: Callable[[Tensor, Tensor], Tensor],
    points: Tensor,
    sizes: Tensor,
    weights: Tensor | None,
    progress: Callable[[Any], Iterable[Any]],
) -> Tensor:
    """The same for any kernel: the rows of each bin in parts, each with the columns from its bin on."""
    U, N = len(sizes), len(points)
    starts = [0, *sizes.cumsum(0).tolist()]
    w = None if weights is None else weights.double()
    found = torch.zeros(U, U, dtype=torch.float64)
    for a in progress(range(U)):
        begin, end = starts[a], starts[a + 1]
        for rows in torch.arange(begin, end, device=points.device).split(max(1, TILE // (N - begin))):
            K = kernel(points[rows], points[begin:])
            K[torch.arange(len(rows), device=K.device), rows - begin] = 0  # i = j
            down = K.sum(0, dtype=torch.float64) if w is None else w[rows] @ K.double() * w[begin:]
            found[a, a:] += _of_bins(down.cpu(), sizes[a:])
    within = found.diagonal().clone()  # both halves of the pairs inside of a bin
    found = found + found.T
    found.diagonal().copy_(within)
    return found.to(points.device)


def _of_bins(sums: Tensor, sizes: Tensor) -> Tensor:
    """Sums of columns added up over bins."""
    return torch.segment_reduce(sums, "sum", lengths=sizes, unsafe=True)  # unsafe: lengths are known to add up
