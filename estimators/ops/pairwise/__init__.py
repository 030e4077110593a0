"""Sums of k(x_i, y_j) over pairs of points, without the (n, m) matrix in memory.

The kernel is any callable ``k(x, y) -> (..., n, m)``. Rows are taken in tiles, so that memory is O((n + m)·d) plus one
tile; where a gradient is wanted each tile is computed again in the backward pass. Sums run in the dtype of the points.
Without a gradient a kernel that says it ``is_radial`` is called as ``k.of_squared_distance(d2)``, with d2 from a matrix
product in double precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Kernel = Callable[[Tensor, Tensor], Tensor]
Tile = tuple[int, Tensor]  # rows of x, and the index of the first

TILE = 2**20  # kernel values held at once: 8 MB in float64


def row_sums(
    kernel: Kernel,
    x: Tensor,
    y: Tensor,
    y_weights: Tensor | None = None,
    *,
    exclude_self: bool = False,
    tile: int = TILE,
) -> Tensor:
    """Σ_j w_j k(x_i, y_j), (..., n), with w = 1 where no weights are given.

    ``exclude_self`` leaves out the pairs i = j, for y the same points as x. Twice differentiable in x, y and the
    weights where the kernel is.
    """

    def part(rows: Tensor, y: Tensor, start: int) -> Tensor:
        K = _without_self(kernel(rows, y), start) if exclude_self else kernel(rows, y)
        return K.sum(-1) if y_weights is None else (K @ y_weights.unsqueeze(-1)).squeeze(-1)

    pieces = _tiles(x, y, tile)
    if len(pieces) == 1:
        return part(x, y, 0)
    if _wants_gradient(kernel, x, y, y_weights):
        found = [
            checkpoint(part, rows, y, start, use_reentrant=False, preserve_rng_state=False) for start, rows in pieces
        ]
        return torch.cat(found, -1)
    kernel = _fast(kernel, y)
    sums = part(pieces[0][1], y, 0)
    whole = sums.new_empty((*sums.shape[:-1], x.shape[-2]))  # small results left between tiles would fragment the heap
    for start, rows in pieces:
        whole[..., start : start + rows.shape[-2]] = part(rows, y, start)
    return whole


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
    progress: Callable[[list[Tile]], Iterable[Tile]] = iter,
) -> RowMoments:
    """The sums of `RowMoments` with w = ``x_weights`` and v = ``y_weights``, in one pass.

    ``shift``, a number or (..., 1, 1), is taken from every kernel value, so that its variation keeps its digits.
    ``progress`` is given the tiles and gives them back, one by one, such as a bar.
    """
    if not _wants_gradient(kernel, x, y, x_weights, y_weights):
        kernel = _fast(kernel, y)
    v = torch.stack([y_weights, y_weights.square()], -1)
    w = torch.stack([x_weights, x_weights.square()], -1)
    one = kernel(x[..., :1, :], y[..., :1, :]) - shift
    lead = one.shape[:-2]
    # Written in place: small results that are left between tiles would fragment the heap.
    rows, columns = one.new_zeros((*lead, x.shape[-2], 2)), one.new_zeros((*lead, y.shape[-2], 2))
    squares = one.new_zeros(lead)
    for start, points in progress(_tiles(x, y, tile)):
        K = kernel(points, y) - shift
        K = _without_self(K, start) if exclude_self else K
        u = w[..., start : start + points.shape[-2], :]
        rows[..., start : start + points.shape[-2], :] = K @ v
        columns += K.mT @ u
        squares += (u[..., 1] * (K.square() @ v[..., 1:]).squeeze(-1)).sum(-1)
    return RowMoments(rows[..., 0], columns[..., 0], rows[..., 1], columns[..., 1], squares)


def _wants_gradient(kernel: Kernel, x: Tensor, y: Tensor, *weights: Tensor | None) -> bool:
    """Whether the sums have a gradient, in the points, the weights or what the kernel holds, such as a network."""
    if not torch.is_grad_enabled():
        return False
    if any(w is not None and w.requires_grad for w in weights):
        return True
    return bool(kernel(x[..., :1, :], y[..., :1, :]).requires_grad)


def _fast(kernel: Kernel, y: Tensor) -> Kernel:
    """A radial kernel against ``y``, by products with y that are prepared once; any other kernel as it is."""
    if not getattr(kernel, "is_radial", False):
        return kernel
    centre = y.double().mean(-2, keepdim=True)
    b = y.double() - centre
    b2, bT = b.square().sum(-1).unsqueeze(-2), -2 * b.mT

    def against_y(x: Tensor, y: Tensor) -> Tensor:
        a = x.double() - centre
        d2 = (a @ bT).add_(b2).add_(a.square().sum(-1).unsqueeze(-1)).clamp_(min=0)
        return kernel.of_squared_distance(d2.to(x.dtype))  # type: ignore[attr-defined]

    return against_y


def _tiles(x: Tensor, y: Tensor, tile: int) -> list[Tile]:
    """Rows of x with the index of the first, few enough that a tile has at most ``tile`` kernel values."""
    n, m = x.shape[-2], y.shape[-2]
    batch = max(x[..., 0, 0].numel(), y[..., 0, 0].numel())
    size = max(1, tile // max(1, batch * m))
    return [(start, x[..., start : start + size, :]) for start in range(0, n, size)]


def _without_self(K: Tensor, start: int) -> Tensor:
    """K with zeros where row i is column i, the first row being ``start``."""
    n, m = K.shape[-2:]
    own = torch.arange(start, start + n, device=K.device)[:, None] == torch.arange(m, device=K.device)
    return K.masked_fill(own, 0.0)
