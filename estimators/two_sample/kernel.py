"""MMD² of many labellings at once: products of the label vectors with one kernel matrix."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from divergences import kernels
from estimators.door import Samples
from estimators.kernel.mmd import MMD
from estimators.two_sample.permutation import HELD, Statistic
from estimators.two_sample.pool import Pool

DOUBLE = 3000  # pooled points up to which kernel matrices are in double precision
STORED = 12_000  # pooled points whose kernel matrix is kept: 0.6 GB in single precision; beyond, it is made by tiles
LARGEST = 50_000  # pooled points whose kernel matrix is made at all
_PROBED = 1000  # points that show the size of a kernel's values


def mmd(estimator: MMD, pool: Pool) -> Statistic:
    """The unbiased or biased statistic of ``estimator``, its kernel resolved on the pooled points."""
    kernel = estimator.resolved_kernel(Samples(pool.points[: pool.n], pool.points[pool.n :], None, None))
    pool.notes.append(f"kernel {kernel!r}; what it takes from points it took from the pooled sample")
    points = precise(pool.centred if getattr(kernel, "is_shift_free", False) else pool.points)
    if isinstance(kernel, kernels.DistanceInduced):  # the norms in it cancel, with weights not quite: leave them out

        def matrix(columns: slice) -> Tensor:
            return -kernel.distance(kernels.squared_distances(points, points[columns]))
    else:

        def matrix(columns: slice) -> Tensor:
            return kernel(points, points[columns])

    found = statistic(matrix, pool, estimator.statistic == "biased")
    if estimator.squared:
        return found
    evaluate = found.evaluate
    return found._replace(
        evaluate=lambda labels: evaluate(labels).clamp_min(0.0).sqrt(), rounding=math.sqrt(found.rounding)
    )


def precise(points: Tensor) -> Tensor:
    """The points in the precision that their kernel matrix is made in.

    Raises:
        ValueError: too many for a kernel matrix.
    """
    if len(points) > LARGEST:
        raise ValueError(
            f"{len(points)} pooled points are beyond the {LARGEST} for which all pairs are compared (for these, "
            f"{float(len(points)) ** 2:.1e} kernel values and as many products a permutation): use "
            'statistic="sliced_wasserstein" or "kolmogorov_smirnov", or fewer points'
        )
    return points if len(points) <= DOUBLE else points.float()


class _Tile(NamedTuple):
    """Columns of the kernel matrix less a constant, without its diagonal: the columns' sums, and the diagonal apart."""

    columns: slice
    K: Tensor
    sums: Tensor
    diagonal: Tensor


def statistic(
    matrix: Callable[[slice], Tensor], pool: Pool, biased: bool = False, normalised: bool = False, name: str = ""
) -> Statistic:
    """MMD² of every labelling; ``matrix`` gives columns of the kernel matrix.

    ``normalised`` divides it by the root mean square of k over the pairs of a thousand of the shuffled points.

    With masses r, v = ±r by label, T = rᵀKr, q = vᵀKv and s = vᵀKr over i ≠ j: S_xx, S_yy = (T + q ± 2s)/4 and
    S_xy = (T − q)/4, each divided by the sum of r_i r_j over its pairs. A constant taken from all K_ij changes no
    statistic, and removing the mean keeps the digits.
    """
    N = len(pool.points)
    mass = pool.mass
    whole = matrix(slice(0, N)) if N <= STORED else None
    probe = (matrix(slice(0, _PROBED)) if whole is None else whole)[:_PROBED, :_PROBED]
    own, pairs = probe.diagonal(), len(probe) * (len(probe) - 1)
    constant = float((probe.sum() - own.sum()) / pairs)
    unit = math.sqrt(float((probe.square().sum() - own.square().sum()) / pairs)) or 1.0 if normalised else 1.0
    # Rounding of a mean of N² terms, and nothing else, may separate labellings of equal value.
    size = float((probe - constant).abs().mean() + (own - constant).abs().mean() / N)
    rounding = 100 * torch.finfo(probe.dtype).eps * size / unit

    def tile(columns: slice, of_kernel: Tensor) -> _Tile:
        K = of_kernel - constant
        diagonal = K.diagonal(-columns.start).clone()
        K.diagonal(-columns.start).zero_()
        sums = K.sum(0) if pool.weights is None else (mass.to(K)[:, None] * K).sum(0)
        return _Tile(columns, K, sums.double(), diagonal.double())

    kept = None if whole is None else tile(slice(0, N), whole)
    if kept is None:
        pool.notes.append(f"the kernel matrix of {N} points is not kept but made anew for each chunk of permutations")

    def tiles() -> Iterator[_Tile]:
        if kept is not None:
            yield kept
            return
        width = max(1, 4 * HELD // N)
        for start in range(0, N, width):
            columns = slice(start, min(start + width, N))
            yield tile(columns, matrix(columns))

    def evaluate(labels: Tensor) -> Tensor:
        a = labels * mass
        v = 2 * a - mass
        q, s, T = torch.zeros_like(a[:, 0]), torch.zeros_like(a[:, 0]), torch.zeros_like(mass[0])
        own_x, own_all = torch.zeros_like(q), torch.zeros_like(T)
        for columns, K, sums, diagonal in tiles():
            q += ((v.to(K.dtype) @ K).double() * v[:, columns]).sum(-1)
            s += v[:, columns] @ sums
            T += mass[columns] @ sums
            own_x += a[:, columns].square() @ diagonal
            own_all += mass[columns].square() @ diagonal
        S_xx, S_yy, S_xy = (T + q + 2 * s) / 4, (T + q - 2 * s) / 4, (T - q) / 4
        W_x = a.sum(-1)
        W_y = mass.sum() - W_x
        of_x, of_y = W_x.square(), W_y.square()
        if biased:
            S_xx, S_yy = S_xx + own_x, S_yy + own_all - own_x
        else:
            squares = a.square().sum(-1)
            of_x, of_y = of_x - squares, of_y - (mass.square().sum() - squares)
        return (_ratio(S_xx, of_x) + _ratio(S_yy, of_y) - 2 * _ratio(S_xy, W_x * W_y)) / unit

    return Statistic(evaluate, HELD // N, rounding, name)


def _ratio(total: Tensor, pairs: Tensor) -> Tensor:
    """The mean over pairs; 0 where a labelling leaves none, as clusters of unequal size can."""
    some = pairs > 1e-12
    return torch.where(some, total / torch.where(some, pairs, 1.0), 0.0)
