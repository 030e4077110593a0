"""Sums of k(x_i, y_j) over pairs of points, without the (n, m) matrix in memory.

The kernel is any callable ``k(x, y) -> (..., n, m)``; memory is O((n + m)·d) and one tile. A kernel whose ``terms`` say
what function of ‖x − y‖² it is goes to the library of `estimators.ops.native` where that is built and the points are on
the CPU, and to Triton where that is installed and they are on a CUDA device; any other to tiles of torch: `explain`
tells which. All run in the dtype of the points; the library and Triton add up in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from estimators.ops.pairwise import forms, native, tiled, triton
from estimators.ops.pairwise.triton import Precision, check_precision

Kernel = Callable[[Tensor, Tensor], Tensor]
Path = Literal["native", "triton", "tiled"]

TILE = 2**20  # kernel values held at once: 8 MB in float64


def row_sums(
    kernel: Kernel,
    x: Tensor,
    y: Tensor,
    y_weights: Tensor | None = None,
    *,
    exclude_self: bool = False,
    tile: int = TILE,
    path: Path | None = None,
    precision: Precision = "accurate",
) -> Tensor:
    """Σ_j w_j k(x_i, y_j), (..., n), with w = 1 where no weights are given.

    ``exclude_self`` leaves out the pairs i = j, for y the same points as x. Where y *is* x half of the pairs are enough
    for the path "native". Twice differentiable in x, y and the weights where the kernel is. ``path`` None is the
    fastest that can be taken, which `explain` tells. ``precision`` "tf32" multiplies float32 points of more than 16
    coordinates in TF32 on tensor cores: faster, and distances are right to about three digits of the spread of the
    points. It needs the path "triton"; all paths have "accurate".

    Raises:
        ValueError: points or weights that do not fit; no such path or precision, or one that cannot be taken, and why.
    """
    forms.check(x, y, y_weights, exclude_self=exclude_self)
    taken = _taken(path, kernel, x, y, y_weights)
    check_precision(precision, *taken, x.dtype)
    if taken.path == "tiled":
        return tiled.row_sums(kernel, x, y, y_weights, exclude_self, tile)
    by = native.row_sums if taken.path == "native" else partial(triton.row_sums, precision=precision)
    return _by_library(by, kernel, x, y, y_weights, exclude_self, tile)


class Explained(NamedTuple):
    """Which path sums take, and why."""

    path: Path
    why: str


def explain(kernel: Kernel, x: Tensor, y: Tensor, *weights: Tensor | None) -> Explained:
    """The path of the sums: "native", the library of `estimators.ops.native`, "triton", or "tiled", torch."""
    return _taken(None, kernel, x, y, *weights)


_LIBRARIES: dict[str, Any] = {"native": native, "triton": triton}


def _taken(path: Path | None, kernel: Kernel, x: Tensor, y: Tensor, *weights: Tensor | None) -> Explained:
    """The path that is asked for or, where none is, the one of the device that the points are on."""
    if path not in (None, "tiled", *_LIBRARIES):
        raise ValueError(f'path must be None, "native", "triton" or "tiled": got {path!r}')
    if path == "tiled":
        return Explained("tiled", "asked for")
    wanted: Path = path or ("triton" if x.device.type == "cuda" else "native")
    why = _LIBRARIES[wanted].why_not(_terms(kernel), x, y, *weights)
    if why and path:
        raise ValueError(f'path="{path}" cannot be taken: {why}')
    return Explained("tiled", why) if why else Explained(wanted, _LIBRARIES[wanted].described(x))


def _terms(kernel: Kernel) -> Any:
    terms, alone = (getattr(kernel, name, None) for name in ("terms", "one_point"))
    return terms() if callable(terms) and callable(alone) else None


def _alone(kernel: Any, points: Tensor) -> Tensor:
    """O of k(x, y) = o(x) + o(y) + Σ f_t(‖x − y‖²), in float64, (..., n)."""
    found = kernel.one_point(points.double())
    return points.new_zeros(points.shape[:-1], dtype=torch.float64) if found is None else found


def _by_library(
    by: Callable[..., Tensor],
    kernel: Any,
    x: Tensor,
    y: Tensor,
    y_weights: Tensor | None,
    exclude_self: bool,
    tile: int,
) -> Tensor:
    """With what each point gives alone, o(x) + o(y), beside the terms of their distance."""

    def twin(x: Tensor, y: Tensor, w: Tensor | None) -> Tensor:
        return tiled.row_sums(_of_distance(kernel), x, y, w, exclude_self, tile)

    sums = by(kernel.terms(), x, y, y_weights, exclude_self, twin)
    of_x, of_y = kernel.one_point(x.double()), kernel.one_point(y.double())
    if of_x is not None:
        w = torch.ones_like(of_y) if y_weights is None else y_weights.double()
        sums = sums + w.sum(-1, keepdim=True) * of_x + (w * of_y).sum(-1, keepdim=True)
        sums = sums - w * (of_x + of_y) if exclude_self else sums
    return sums.to(x.dtype)


def _of_distance(kernel: Any) -> Kernel:
    """The kernel less o(x) + o(y)."""

    def of_distance(x: Tensor, y: Tensor) -> Tensor:
        of_x = kernel.one_point(x)
        K = kernel(x, y)
        return K if of_x is None else K - of_x.unsqueeze(-1) - kernel.one_point(y).unsqueeze(-2)

    return of_distance


class RowMoments(NamedTuple):
    """Weighted sums of k_ij = k(x_i, y_j) − shift over one index or both."""

    rows: Tensor  # Σ_j v_j k_ij, (..., n)
    columns: Tensor  # Σ_i w_i k_ij, (..., m)
    rows_2: Tensor  # Σ_j v_j² k_ij, (..., n)
    columns_2: Tensor  # Σ_i w_i² k_ij, (..., m)
    squares: Tensor  # Σ_ij w_i² v_j² k_ij², (...,)


def row_moments(
    kernel: Kernel,
    x: Tensor,
    y: Tensor,
    x_weights: Tensor,
    y_weights: Tensor,
    *,
    exclude_self: bool = False,
    shift: float | Tensor = 0.0,
    tile: int = TILE,
    progress: Callable[[Any], Iterable[Any]] = iter,
    path: Path | None = None,
) -> RowMoments:
    """The sums of `RowMoments` with w = ``x_weights`` and v = ``y_weights``, in one pass.

    ``shift``, a number or (..., 1, 1), is taken from every kernel value, so that its variation keeps its digits.
    ``progress`` is given the tiles, or other parts of the work, and gives them back, one by one, such as a bar. The
    paths "native" and "triton" have no gradient: where one is wanted the sums are tiled.

    Raises:
        ValueError: points or weights that do not fit; no such path, or one that cannot be taken, and why.
    """
    forms.check(x, y, x_weights, y_weights, exclude_self=exclude_self)
    wanted = tiled.wants_gradient(kernel, x, y, x_weights, y_weights)
    if wanted and path in _LIBRARIES:
        raise ValueError(f'path="{path}" cannot be taken: moments have no gradient there')
    taken = _taken("tiled" if wanted else path, kernel, x, y, x_weights, y_weights).path
    if taken != "tiled":
        with torch.no_grad():
            half = torch.as_tensor(shift, dtype=torch.float64)
            half = (half.squeeze(-1) if half.ndim else half) / 2
            alone = [_alone(kernel, points) - half for points in (x, y)]
        found = _LIBRARIES[taken].row_moments(
            _terms(kernel), x, y, x_weights, y_weights, (alone[0], alone[1]), exclude_self, progress
        )
        return RowMoments(*(part.to(x.dtype) for part in found))
    sums = tiled.row_moments(kernel, x, y, x_weights, y_weights, exclude_self, shift, tile, progress)
    return RowMoments(*sums)
