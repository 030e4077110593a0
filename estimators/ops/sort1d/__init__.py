"""Sorting on lines: rows by NumPy in threads, and projections that are sorted and compared one by one.

A projected sample stays in the cache between projection, sort and difference, so that many directions cost little more
than their sorts: the library of `estimators.ops.native` projects, NumPy sorts, threads share out the directions.
"""

from __future__ import annotations

import ctypes
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from estimators.ops import native

Path = Literal["native", "tiled"]

TOGETHER = 4  # directions that the library projects on at once
SORTED = 10  # coordinates of pairs that a sorted number costs as much as


class Explained(NamedTuple):
    """Which path is taken, and why."""

    path: Path
    why: str


def sorted_rows(*samples: Tensor) -> list[Tensor]:
    """Each sample sorted along its last axis, in memory of its own, with the gradient of its order.

    On the CPU by NumPy, whose sort is over ten times as fast as torch's, and the rows by threads.
    """
    if not native.is_plain(*samples):
        return [x.sort(-1).values for x in samples]
    ordered = [torch.is_grad_enabled() and x.requires_grad for x in samples]  # then their order has the gradient
    rows = [x.detach().reshape(-1, x.shape[-1]).numpy() for x in samples]
    # NumPy's own memory comes in large pages, which new arrays of megabytes take half as long to write.
    found = [type(r)(r.shape, "int64" if o else r.dtype) for r, o in zip(rows, ordered, strict=True)]
    tasks = [(k, row) for k, part in enumerate(rows) for row in range(len(part))]

    def run(_: int, task: int) -> None:
        k, row = tasks[task]
        if ordered[k]:
            found[k][row] = rows[k][row].argsort()
        else:
            found[k][row] = rows[k][row]
            found[k][row].sort()

    native.hand_out(len(tasks), native.threads(len(tasks), SORTED * sum(r.size for r in rows)), run)
    parts = [torch.from_numpy(part).reshape(x.shape) for part, x in zip(found, samples, strict=True)]
    return [x.gather(-1, part) if o else part for x, part, o in zip(samples, parts, ordered, strict=True)]


def explain(x: Tensor, y: Tensor, theta: Tensor) -> Explained:
    """The path of `projected`: "native", one direction after another, or "tiled", all at once by torch."""
    why = _why_not(x, y, theta)
    return Explained("tiled", why) if why else Explained("native", "one direction after another, in the cache")


def _why_not(x: Tensor, y: Tensor, theta: Tensor) -> str:
    if not native.is_plain(x, y, theta):
        return "points that are not on the CPU, or a transform of torch.func"
    if x.ndim > 2 or y.ndim > 2 or theta.ndim > 2:
        return "a batch"
    if not x.shape[-1] == y.shape[-1] == theta.shape[-1] or not x.numel() or not y.numel():
        return "shapes that do not fit, or no points"
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, y, theta)):
        return "a gradient"
    if x.dtype not in native.SUFFIX or any(t.dtype != x.dtype for t in (y, theta)):
        return f"points of {x.dtype}"
    if native.library() is None:
        return "the library is not built: python -m estimators.ops.native"
    return ""


def coupling(n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The monotone coupling of n and m equal weights: indices i, j into the sorted points, and the mass w of each pair.

    Example:
        >>> coupling(1, 2, torch.device("cpu"))
        (tensor([0, 0]), tensor([0, 1]), tensor([0.5000, 0.5000], dtype=torch.float64))
    """
    ends = torch.cat([torch.arange(1, n + 1, device=device) * m, torch.arange(1, m + 1, device=device) * n])
    ends = ends.unique()  # in units of 1/(nm), so that equal levels are equal
    w = ends.diff(prepend=ends.new_zeros(1)).double() / (n * m)
    return (ends - 1) // m, (ends - 1) // n, w


def quantile_power(x: Tensor, y: Tensor, order: float) -> Tensor:
    """∫ |F⁻¹(t) − G⁻¹(t)|^p dt of equal weights, x (..., n) and y (..., m), differentiable. Cost: a sort."""
    x, y = sorted_rows(x, y)
    if x.shape[-1] != y.shape[-1]:
        i, j, w = coupling(x.shape[-1], y.shape[-1], x.device)
        return (w.to(x.dtype) * _power(x[..., i] - y[..., j], order)).sum(-1)
    if x.shape == y.shape and native.is_plain(x, y) and not (x.requires_grad or y.requires_grad):
        gap = x.numpy()  # on one thread: for three passes it does not pay to wake the others
        gap -= y.numpy()
        return torch.from_numpy(_mean_power(gap.reshape(-1, gap.shape[-1]), order)).reshape(x.shape[:-1]).to(x.dtype)
    return _power(x - y, order).mean(-1)


def projected(x: Tensor, y: Tensor, theta: Tensor, order: float, path: Path | None = None) -> Tensor:
    """`quantile_power` of ⟨θ_l, x⟩ and ⟨θ_l, y⟩ for x (..., n, d), y (..., m, d) and θ (..., L, d): (..., L).

    Cost: O(L·(n log n + n·d)); memory O(L·(n + m)), and O((n + m)·d) on the path "native", which has no gradient.

    Raises:
        ValueError: no such path, or one that cannot be taken, and why.
    """
    if path not in (None, "native", "tiled"):
        raise ValueError(f'path must be None, "native" or "tiled": got {path!r}')
    why = _why_not(x, y, theta)
    if path == "native" and why:
        raise ValueError(f'path="native" cannot be taken: {why}')
    if why or path == "tiled":
        return quantile_power(theta @ x.mT, theta @ y.mT, order)
    return _one_by_one(x.detach(), y.detach(), theta.detach().contiguous(), order)


def _one_by_one(x: Tensor, y: Tensor, theta: Tensor, order: float) -> Tensor:
    library = native.library()
    assert library is not None
    (n, d), m, L = x.shape, len(y), len(theta)
    width, pack, project = (library.of(name, x.dtype) for name in ("width", "pack", "project"))
    panels = [-(-k // width()) for k in (n, m)]
    packed = [x.new_empty(count * width() * d) for count in panels]
    for points, into in zip((x.contiguous(), y.contiguous()), packed, strict=True):
        pack(_at(points), *map(ctypes.c_int64, (1, len(points), d)), _at(into))
    groups = -(-L // TOGETHER)
    whole = theta.new_zeros(groups, TOGETHER, d)
    whole.view(-1, d)[:L] = theta
    count = native.threads(groups, L * (n + m) * (SORTED + d))
    lines = [[x.new_empty(TOGETHER, k * width()) for k in panels] for _ in range(count)]
    found = torch.zeros(groups * TOGETHER, dtype=torch.float64)
    i, j, w = (part.numpy() for part in coupling(n, m, x.device)) if n != m else (None, None, None)

    def run(worker: int, group: int) -> None:
        for into, own, length in zip(lines[worker], packed, panels, strict=True):
            project(_at(own), ctypes.c_int64(length), ctypes.c_int64(d), _at(whole[group]), _at(into))
        for k in range(min(TOGETHER, L - group * TOGETHER)):
            found[group * TOGETHER + k] = compared(*(into[k].numpy() for into in lines[worker]))

    def compared(a: Any, b: Any) -> float:
        a, b = a[:n], b[:m]
        a.sort()
        b.sort()
        if w is None:
            a -= b
        gap = a if w is None else a[i] - b[j]
        return float(_mean_power(gap, order, w))

    native.hand_out(groups, count, run)
    return found[:L].to(x.dtype)


def _mean_power(gap: Any, order: float, w: Any = None) -> Any:
    """The mean of |gap|^p along the last axis of an array, in float64, with weights w if given; gap is overwritten."""
    if order == 2:
        gap *= gap
    else:
        gap = abs(gap) ** order if order != 1 else abs(gap)
    return gap.mean(-1, dtype="float64") if w is None else gap @ w


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _power(difference: Tensor, order: float) -> Tensor:
    """|difference|^order, in the memory of the difference where nobody else needs it."""
    if difference.requires_grad:
        return difference.square() if order == 2 else difference.abs() if order == 1 else difference.abs().pow(order)
    return difference.square_() if order == 2 else difference.abs_() if order == 1 else difference.abs_().pow_(order)
