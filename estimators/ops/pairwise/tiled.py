"""`row_sums` and `row_moments` by torch, for any kernel on any device: rows in tiles, taken again in the backward pass.

Without a gradient a kernel that says it ``is_radial`` is called as ``k.of_squared_distance(d2)``, with d2 from a matrix
product in double precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Kernel = Callable[[Tensor, Tensor], Tensor]
Tile = tuple[int, Tensor]  # rows of x, and the index of the first


def row_sums(kernel: Kernel, x: Tensor, y: Tensor, y_weights: Tensor | None, exclude_self: bool, tile: int) -> Tensor:
    """Σ_j w_j k(x_i, y_j), (..., n), with at most ``tile`` kernel values at once."""

    def part(rows: Tensor, y: Tensor, start: int) -> Tensor:
        K = _without_self(kernel(rows, y), start) if exclude_self else kernel(rows, y)
        return K.sum(-1) if y_weights is None else (K @ y_weights.unsqueeze(-1)).squeeze(-1)

    pieces = _tiles(x, y, tile)
    if len(pieces) == 1:
        return part(x, y, 0)
    if wants_gradient(kernel, x, y, y_weights):
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


def row_moments(
    kernel: Kernel,
    x: Tensor,
    y: Tensor,
    x_weights: Tensor,
    y_weights: Tensor,
    exclude_self: bool,
    shift: float | Tensor,
    tile: int,
    progress: Callable[[Any], Iterable[Any]],
) -> tuple[Tensor, ...]:
    """The sums of `RowMoments`, in their order."""
    if not wants_gradient(kernel, x, y, x_weights, y_weights):
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
    return rows[..., 0], columns[..., 0], rows[..., 1], columns[..., 1], squares


def wants_gradient(kernel: Kernel, x: Tensor, y: Tensor, *weights: Tensor | None) -> bool:
    """Whether the sums have a gradient, in the points, the weights or what the kernel holds, such as a network."""
    if not torch.is_grad_enabled():
        return False
    if any(w is not None and w.requires_grad for w in weights):
        return True
    return bool(kernel(x[..., :1, :], y[..., :1, :]).requires_grad)


def _fast(kernel: Any, y: Tensor) -> Kernel:
    """A radial kernel against ``y``, by products with y that are prepared once; any other kernel as it is."""
    if not getattr(kernel, "is_radial", False):
        return kernel
    centre = y.double().mean(-2, keepdim=True)
    b = y.double() - centre
    rounding = 4 * y.shape[-1] * torch.finfo(torch.float64).eps
    b2, bT = b.square().sum(-1).unsqueeze(-2), -2 * b.mT

    def against_y(x: Tensor, y: Tensor) -> Tensor:
        a = x.double() - centre
        a2 = a.square().sum(-1).unsqueeze(-1)
        d2 = (a @ bT).add_(b2).add_(a2)
        d2.masked_fill_(d2 <= rounding * torch.maximum(a2, b2), 0.0)  # a root would make a distance of rounding
        return kernel.of_squared_distance(d2.to(x.dtype))

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
