"""Statistics of many labellings of one pooled sample, from its kernel matrix or from sums over pairs of bins.

With v = ±1 by label, q = Σ_{i≠j} K_ij v_i v_j and s = Σ_{i≠j} K_ij v_i give the sums of K within both samples and
between them, and so every permuted MMD². `forms` is one product with K in its own precision. `rounded` keeps half of K
in 16 bits: q of the rounded matrix is then an integer and exact, and a bound says how far it is from that of K.
`bin_sums` adds k up over pairs of bins, so that labellings of bins are those of a small matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from estimators.ops.permute import bins, integers
from estimators.ops.permute.integers import Rounded

__all__ = ["Explained", "Rounded", "bin_sums", "explain", "forms", "rounded"]

Path = Literal["native", "tiled"]


def forms(K: Tensor, v: Tensor, columns: slice = slice(None)) -> Tensor:
    """Σ_ij v_i K_ij v_j for each row of v (C, N) over the ``columns`` of a matrix that K, (N, ·), has, in float64.

    One product in the precision of K; v may be any masses. Cost: O(C·N) a column.

    Example:
        >>> K = torch.tensor([[0.0, 2.0], [2.0, 0.0]])
        >>> forms(K, torch.tensor([[1.0, 1.0], [1.0, -1.0]])).tolist()
        [4.0, -4.0]
    """
    return ((v.to(K.dtype) @ K).double() * v[:, columns]).sum(-1)


class Explained(NamedTuple):
    """Which path q takes, and why."""

    path: Literal["native", "product"]
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


def bin_sums(
    kernel: Callable[[Tensor, Tensor], Tensor],
    points: Tensor,
    sizes: Tensor,
    weights: Tensor | None = None,
    *,
    progress: Callable[[Any], Iterable[Any]] = iter,
    path: Path | None = None,
) -> Tensor:
    """B_ab = Σ w_i w_j k(p_i, p_j) over i in bin a and j ≠ i in bin b, (U, U), in float64.

    The first ``sizes``[0] points (N, d) are bin 0, and so on. Half of the pairs are enough: k must be symmetric. The
    path "native" is that of `estimators.ops.pairwise`, "tiled" is torch.
    Cost: O(N²·d/2) time, O(N·d + U²) memory.

    Raises:
        ValueError: sizes that are not positive or do not add up to N; a path that cannot be taken.

    Example:
        >>> points = torch.tensor([[0.0], [1.0], [3.0]])
        >>> bin_sums(lambda x, y: (x - y.mT).abs(), points, torch.tensor([2, 1]))
        tensor([[2., 5.],
                [5., 0.]], dtype=torch.float64)
    """
    if int(sizes.sum()) != len(points) or int(sizes.min()) < 1:
        raise ValueError(f"sizes must be positive and add up to the {len(points)} points: got {sizes.tolist()}")
    why = bins.why_not(kernel, points, weights)
    if path == "native" and why:
        raise ValueError(f'path="native" cannot be taken: {why}')
    with torch.no_grad():
        found = (bins.tiled if path == "tiled" or why else bins.native_sums)(kernel, points, sizes, weights, progress)
    return found
