"""Statistics of many labellings of one pooled sample, from its kernel matrix or without one.

With v = ±1 by label, q = Σ_{i≠j} K_ij v_i v_j and s = Σ_{i≠j} K_ij v_i give the sums of K within both samples and
between them, and so every permuted MMD². `forms` is one product with K in its own precision. `rounded` keeps half of K
in 16 bits: q of the rounded matrix is then an integer and exact, and a bound says how far it is from that of K.
`label_sums` makes K by tiles and keeps none of it. `bin_sums` adds k up over pairs of bins, so that labellings of bins
are those of a small matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from estimators.ops.pairwise.triton import Precision, check_precision
from estimators.ops.permute import bins, integers, triton
from estimators.ops.permute import labels as by_tiles
from estimators.ops.permute.integers import Rounded

__all__ = [
    "Explained", "LabelSums", "Rounded", "bin_sums", "explain", "explain_bin_sums", "explain_label_sums", "forms",
    "label_sums", "rounded",
]  # fmt: skip

Kernel = Callable[[Tensor, Tensor], Tensor]
Path = Literal["native", "triton", "tiled"]


def forms(K: Tensor, v: Tensor, columns: slice = slice(None)) -> Tensor:
    """Σ_ij v_i K_ij v_j for each row of v (C, N) over the ``columns`` of a matrix that K, (N, ·), has, in float64.

    One product in the precision of K; v may be any masses. Cost: O(C·N) a column.

    Raises:
        ValueError: v that is not of N points.

    Example:
        >>> K = torch.tensor([[0.0, 2.0], [2.0, 0.0]])
        >>> forms(K, torch.tensor([[1.0, 1.0], [1.0, -1.0]])).tolist()
        [4.0, -4.0]
    """
    if K.ndim != 2 or v.ndim != 2 or v.shape[1] != len(K) or v[:1, columns].shape[1] != K.shape[1]:
        raise ValueError(
            f"v must be (C, N), and its columns those of K, (N, ·): got {tuple(v.shape)}, {columns} and "
            f"{tuple(K.shape)}"
        )
    return ((v.to(K.dtype) @ K).double() * v[:, columns]).sum(-1)


class Explained(NamedTuple):
    """Which path is taken, and why."""

    path: str
    why: str


def explain(K: Tensor) -> Explained:
    """The path of labellings ±1: "native", half of K in 16 bits by the library, or "product", `forms`."""
    why = integers.why_not(K)
    return Explained("product", why) if why else Explained("native", "half of the pairs, in steps of 16 bits")


def rounded(K: Tensor, shift: float = 0.0) -> Rounded:
    """(K + Kᵀ)/2 − shift without its diagonal, K (N, N), in whole steps of max|K − shift|/32766, for any labels.

    Cost: O(N²) time; N² bytes.

    Raises:
        ValueError: a matrix that the library does not take, and why.

    Example:
        >>> K = torch.tensor([[9.0, 2.0, 1.0], [2.0, 9.0, 1.0], [1.0, 1.0, 9.0]])
        >>> labels = torch.tensor([[True, True, False]])
        >>> is_native = explain(K).path == "native"
        >>> found = rounded(K).forms(labels) if is_native else forms(K.fill_diagonal_(0), 2.0 * labels - 1)
        >>> abs(float(found)) < 1e-3
        True
    """
    if why := integers.why_not(K):
        raise ValueError(f"the matrix cannot be rounded by the library: {why}")
    return integers.rounded(K, shift)


class LabelSums(NamedTuple):
    """Over i ≠ j, with r the weights and v = ±r by label, in float64: all that an MMD² is made of."""

    q: Tensor  # vᵀKv, (C,)
    s: Tensor  # vᵀKr, (C,)
    T: Tensor  # rᵀKr, ()


def label_sums(
    kernel: Kernel,
    points: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    *,
    shift: float = 0.0,
    path: Path | None = None,
    precision: Precision = "accurate",
) -> LabelSums:
    """The sums of `LabelSums` for labellings (C, N), True for v = r, of points (N, d), with K_ij = k(p_i, p_j) − shift.

    K is made by tiles, once for all labellings, and not kept: give as many at once as there are. k must be symmetric. A
    shift near the mean of k keeps the digits of its variation.

    On the path "triton" K is float32's to 2⁻²² of each value, or 2⁻⁴⁰ of the largest that the kernel could have: twice
    11 bits, multiplied by labels without rounding and added up in float32 over 8192 points of a row at most, then in
    float64. In float64 all of it is float64. ``precision`` "tf32" has 11 bits alone, and distances as in `pairwise`. On
    the path "tiled" rows are products in the precision of the points. Repeats give the same bits.

    Cost: O(N²·(d + C)) time, half of that on the path "triton"; memory O(N·d) beside the labels, and a tile: on the
    path "triton" up to 128 MiB for K and 96 kB a labelling, in float64 twice that.

    Raises:
        ValueError: points, labels or weights that do not fit each other; no such path or precision, or one that cannot
            be taken.

    Example:
        >>> points = torch.tensor([[0.0], [1.0], [3.0]])
        >>> labels = torch.tensor([[True, True, False]])
        >>> label_sums(lambda x, y: (x - y.mT).abs(), points, labels)
        LabelSums(q=tensor([-8.], dtype=torch.float64), s=tensor([2.], dtype=torch.float64),
                  T=tensor(12., dtype=torch.float64))
    """
    _check(points, weights)
    integers.check_labels(labels, len(points), points.device)
    taken = _label_path(path, kernel, points, weights)
    check_precision(precision, taken.path, taken.why, points.dtype)
    with torch.no_grad():
        if taken.path == "triton":
            terms, _ = bins.terms_of(kernel, points)
            return LabelSums(*triton.label_sums(terms, points, labels, weights, shift, precision))
        return LabelSums(*by_tiles.tiled(kernel, points, labels, weights, shift))


def explain_label_sums(kernel: Kernel, points: Tensor, weights: Tensor | None = None) -> Explained:
    """The path of `label_sums`: "triton" for points on CUDA and a kernel that is a function of ‖x − y‖², or "tiled"."""
    return _label_path(None, kernel, points, weights)


def bin_sums(
    kernel: Kernel,
    points: Tensor,
    sizes: Tensor,
    weights: Tensor | None = None,
    *,
    progress: Callable[[Any], Iterable[Any]] = iter,
    path: Path | None = None,
    precision: Precision = "accurate",
) -> Tensor:
    """B_ab = Σ w_i w_j k(p_i, p_j) over i in bin a and j ≠ i in bin b, (U, U), in float64.

    The first ``sizes``[0] points (N, d) are bin 0, and so on. Half of the pairs are enough: k must be symmetric. The
    paths "native" and "triton" are those of `estimators.ops.pairwise`, as is ``precision``, "tiled" is torch.
    Cost: O(N²·d/2) time, O(N·d + U²) memory, and on the path "triton" 8·N·U/128 bytes.

    Raises:
        ValueError: sizes that are not positive or do not add up to N; weights that do not fit; no such path or
            precision, or one that cannot be taken.

    Example:
        >>> points = torch.tensor([[0.0], [1.0], [3.0]])
        >>> bin_sums(lambda x, y: (x - y.mT).abs(), points, torch.tensor([2, 1]))
        tensor([[2., 5.],
                [5., 0.]], dtype=torch.float64)
    """
    _check(points, weights)
    sizes = sizes.cpu()
    if sizes.dtype.is_floating_point or sizes.ndim != 1 or int(sizes.sum()) != len(points) or int(sizes.min()) < 1:
        raise ValueError(f"sizes must be positive and add up to the {len(points)} points: got {sizes.tolist()}")
    taken = _bin_path(path, kernel, points, weights)
    check_precision(precision, taken.path, taken.why, points.dtype)
    with torch.no_grad():
        if taken.path == "triton":
            terms, _ = bins.terms_of(kernel, points)
            (found,) = [triton.bin_sums(terms, points, sizes, weights, precision) for _ in progress(range(1))]
            return found
        return (bins.native_sums if taken.path == "native" else bins.tiled)(kernel, points, sizes, weights, progress)


def explain_bin_sums(kernel: Kernel, points: Tensor, weights: Tensor | None = None) -> Explained:
    """The path of `bin_sums`: "native" on the CPU or "triton" on CUDA for a function of ‖x − y‖², or "tiled"."""
    return _bin_path(None, kernel, points, weights)


def _bin_path(path: Path | None, kernel: Kernel, points: Tensor, weights: Tensor | None) -> Explained:
    return _taken(path, {"native": bins, "triton": triton}, kernel, points, weights)


def _label_path(path: Path | None, kernel: Kernel, points: Tensor, weights: Tensor | None) -> Explained:
    return _taken(path, {"triton": triton}, kernel, points, weights)


def _taken(path: Path | None, by: dict[str, Any], kernel: Kernel, points: Tensor, weights: Tensor | None) -> Explained:
    """The path that is asked for or, where none is, the one of the device that the points are on."""
    if path not in (None, "tiled", *by):
        names = ", ".join(f'"{name}"' for name in by)
        raise ValueError(f'path must be None, {names} or "tiled": got {path!r}')
    if path == "tiled":
        return Explained("tiled", "asked for")
    wanted = path or ("triton" if points.device.type == "cuda" else "native")
    if wanted not in by:
        return Explained("tiled", "the points are not on a CUDA device")
    why = by[wanted].why_not(kernel, points, weights)
    if why and path:
        raise ValueError(f'path="{path}" cannot be taken: {why}')
    return Explained("tiled", why) if why else Explained(wanted, by[wanted].described(points))


def _check(points: Tensor, weights: Tensor | None) -> None:
    if points.ndim != 2 or not len(points):
        raise ValueError(f"points must be (N, d), at least one: got shape {tuple(points.shape)}")
    if weights is not None and weights.shape != points.shape[:1]:
        raise ValueError(f"weights must be ({len(points)},), one a point: got shape {tuple(weights.shape)}")
