"""MMD² of many labellings at once: products of the label vectors with one kernel matrix, kept or made by tiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from divergences import kernels
from estimators.door import Samples
from estimators.kernel.mmd import MMD
from estimators.ops import permute
from estimators.two_sample.permutation import HELD, Statistic
from estimators.two_sample.pool import Pool

DOUBLE = 3000  # pooled points up to which kernel matrices are in double precision
STORED = 12_000  # pooled points whose kernel matrix is kept: 0.6 GB in single precision; beyond, it is made by tiles
LARGEST = 50_000  # pooled points whose kernel matrix is made at all
# Pooled points up to which labels of points are permuted on a GPU, kernel values being made anew by tiles: by the peak
# rates of an H200 some 0.2 s for a thousand labellings. Bins would take a fifth of that, but have fewer labellings.
ON_GPU = 200_000
LABELLINGS = 1024  # for which kernel values are made once there
_PROBED = 1000  # points that show the size of a kernel's values
_BLOCK = 2**21  # entries of a kept kernel matrix that are centred at once
_FEWEST = 1000  # pooled points from which bounds pay
_DIAGONAL = 256  # points whose kernel matrix is made for the sake of its diagonal
_PART = 8192  # labels of each labelling that are numbers at once


def mmd(estimator: MMD, pool: Pool) -> Statistic:
    """The unbiased or biased statistic of ``estimator``, its kernel resolved on the pooled points."""
    kernel, points = resolved(estimator, pool)
    pool.notes.append(resolved_note(kernel))
    distances, biased = of_distance(kernel), estimator.statistic == "biased"
    if _makes_tiles(distances, points):
        return of(estimator, _by_tiles(distances, points.float(), pool, biased))
    points = precise(points)

    def matrix(columns: slice) -> Tensor:
        return distances(points, points[columns])

    return of(estimator, statistic(matrix, pool, biased))


def resolved(estimator: MMD, pool: Pool) -> tuple[Any, Tensor]:
    """The kernel, and the points that it is taken of."""
    kernel = estimator.resolved_kernel(Samples(pool.points[: pool.n], pool.points[pool.n :], None, None))
    return kernel, pool.centred if getattr(kernel, "is_shift_free", False) else pool.points


def resolved_note(kernel: Any) -> str:
    """What a reader should know of the kernel."""
    return f"kernel {kernel!r}; what it takes from points it took from the pooled sample"


class _Distance:
    """−‖x − y‖^β, without what the kernel has of one point alone, which cancels in the MMD, with weights not quite."""

    def __init__(self, kernel: kernels.DistanceInduced) -> None:
        self.kernel = kernel
        self.terms = kernel.terms

    def one_point(self, points: Tensor) -> None:
        return None

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        return -self.kernel.distance(kernels.squared_distances(x, y))


def of_distance(kernel: Any) -> Any:
    """A kernel of equal MMD, without norms."""
    return _Distance(kernel) if isinstance(kernel, kernels.DistanceInduced) else kernel


def most(estimator: MMD, pool: Pool) -> int:
    """Pooled points up to which labels of points are permuted, and not of bins, where nobody asked for either."""
    if pool.points.device.type != "cuda" or len(pool.points) <= STORED:
        return STORED
    kernel, points = resolved(estimator, pool)
    tiles = permute.explain_label_sums(of_distance(kernel), points[:1].float()).path == "triton"
    return ON_GPU if tiles else STORED


def _makes_tiles(kernel: Any, points: Tensor) -> bool:
    """Whether the kernel matrix is made by tiles on a GPU: where it would be too large to be kept."""
    return len(points) > STORED and permute.explain_label_sums(kernel, points[:1].float()).path == "triton"


def of(estimator: MMD, found: Statistic) -> Statistic:
    """A statistic MMD², or its root where the estimator is that."""
    if estimator.squared:
        return found
    evaluate, bounds = found.evaluate, found.bounds

    def root(values: Tensor) -> Tensor:
        return values.clamp_min(0.0).sqrt()

    def roots(labels: Tensor) -> tuple[Tensor, Tensor]:
        assert bounds is not None
        low, high = bounds(labels)
        return root(low), root(high)

    return found._replace(
        evaluate=lambda labels: root(evaluate(labels)),
        rounding=math.sqrt(found.rounding),
        bounds=bounds and roots,
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


class Sums(NamedTuple):
    """Of each labelling with masses r, v = ±r by label, over i ≠ j: q = vᵀKv, s = vᵀKr and T = rᵀKr; the rest alone.

    S_xx, S_yy = (T + q ± 2s)/4 and S_xy = (T − q)/4, each divided by the sum of r_i r_j over its pairs.
    """

    q: Tensor
    s: Tensor
    T: Tensor
    own_x: Tensor  # Σ r_i² K_ii over x
    own: Tensor  # over all
    W_x: Tensor  # Σ r_i over x
    W: Tensor
    squares_x: Tensor  # Σ r_i² over x
    squares: Tensor

    def mmd2(self, biased: bool) -> Tensor:
        """MMD², with the pairs i = j where ``biased``."""
        q, s, T, own_x, own, W_x, W, squares_x, squares = self
        S_xx, S_yy, S_xy = (T + q + 2 * s) / 4, (T + q - 2 * s) / 4, (T - q) / 4
        W_y = W - W_x
        of_x, of_y = W_x.square(), W_y.square()
        if biased:
            S_xx, S_yy = S_xx + own_x, S_yy + own - own_x
        else:
            of_x, of_y = of_x - squares_x, of_y - (squares - squares_x)
        return _ratio(S_xx, of_x) + _ratio(S_yy, of_y) - 2 * _ratio(S_xy, W_x * W_y)


def statistic(
    matrix: Callable[[slice], Tensor], pool: Pool, biased: bool = False, normalised: bool = False, name: str = ""
) -> Statistic:
    """MMD² of every labelling; ``matrix`` gives columns of the kernel matrix.

    ``normalised`` divides it by the root mean square of k over the pairs of a thousand of the shuffled points. A
    constant taken from all K_ij changes no statistic, and removing the mean keeps the digits. Where any n of the points
    may be those of x, half of the matrix in 16 bits bounds the values, so that few of them need the whole.
    """
    N = len(pool.points)
    mass = pool.mass
    whole = matrix(slice(0, N)) if N <= STORED else None
    probe = (matrix(slice(0, _PROBED)) if whole is None else whole)[:_PROBED, :_PROBED]
    own, pairs = probe.diagonal(), len(probe) * (len(probe) - 1)
    constant = float((probe.sum() - own.sum()) / pairs)
    unit = math.sqrt(float((probe.square().sum() - own.square().sum()) / pairs)) or 1.0 if normalised else 1.0
    # Rounding of a mean of N² terms, and nothing else, may separate labellings of equal value.
    size = _finite(float((probe - constant).abs().mean() + (own - constant).abs().mean() / N))
    rounding = 100 * torch.finfo(probe.dtype).eps * size / unit
    if whole is None:
        pool.notes.append(f"the kernel matrix of {N} points is not kept but made anew for each chunk of permutations")

    def tiles() -> Iterator[_Tile]:
        width = max(1, (4 * HELD if whole is None else _BLOCK) // N)
        for start in range(0, N, width):
            columns = slice(start, min(start + width, N))
            K = (matrix(columns) if whole is None else whole[:, columns]) - constant
            diagonal = K.diagonal(-start).clone()
            K.diagonal(-start).zero_()
            sums = K.sum(0) if pool.weights is None else (mass.to(K)[:, None] * K).sum(0)
            yield _Tile(columns, K, sums.double(), diagonal.double())

    def evaluate(labels: Tensor) -> Tensor:
        a = labels * mass
        v = 2 * a - mass
        q, s, T = torch.zeros_like(a[:, 0]), torch.zeros_like(a[:, 0]), torch.zeros_like(mass[0])
        own_x, own_all = torch.zeros_like(q), torch.zeros_like(T)
        for columns, K, sums, diagonal in tiles():
            q += permute.forms(K, v, columns)
            s += v[:, columns] @ sums
            T += mass[columns] @ sums
            own_x += a[:, columns].square() @ diagonal
            own_all += mass[columns].square() @ diagonal
        all_sums = Sums(q, s, T, own_x, own_all, a.sum(-1), mass.sum(), a.square().sum(-1), mass.square().sum())
        return all_sums.mmd2(biased) / unit

    found = Statistic(evaluate, HELD // N, rounding, name)
    plain = pool.weights is None and pool.design.is_plain
    if whole is None or not plain or N < _FEWEST or permute.explain(whole).path != "native":
        return found
    return found._replace(bounds=_bounds(whole, constant, pool, biased, unit, rounding))


def _by_tiles(kernel: Any, points: Tensor, pool: Pool, biased: bool) -> Statistic:
    """MMD² of every labelling, from sums over pairs for which kernel values are made anew, on a GPU."""
    N = len(points)
    pool.notes.append(
        f"the kernel matrix of {N} points is not kept but made anew, by tiles, for each {LABELLINGS} permutations"
    )
    w = None if pool.weights is None else pool.weights.to(points)
    r = pool.mass
    probe = kernel(points[:_PROBED], points[:_PROBED]).double()
    pairs = len(probe) * (len(probe) - 1)
    constant = float((probe.sum() - probe.diagonal().sum()) / pairs)  # which changes no MMD²
    size = _finite(float((probe - constant).abs().sum() / pairs))
    own = torch.zeros_like(r)  # k(x, x) is for the biased statistic alone
    if biased:
        own = diagonal(kernel, points) - constant
    alone = torch.stack([own * r.square(), r, r.square()], -1)

    def evaluate(labels: Tensor) -> Tensor:
        q, s, T = permute.label_sums(kernel, points, labels, w, shift=constant, path="triton")
        of_x = alone.new_zeros(len(labels), 3)
        for start in range(0, N, _PART):
            part = slice(start, start + _PART)
            of_x += labels[:, part].to(alone) @ alone[part]
        (own_x, W_x, squares_x), (own_all, W, squares) = of_x.T, alone.sum(0)
        return Sums(q, s, T, own_x, own_all, W_x, W, squares_x, squares).mmd2(biased)

    # Sums of some thousand pairs are rounded in single precision, apart from each other; q counts (1/n + 1/m)²/4 times.
    rounding = 100 * torch.finfo(points.dtype).eps * size / math.sqrt(N) * (N**2 / (4 * pool.n * pool.m)) ** 2
    return Statistic(evaluate, LABELLINGS, rounding)


def _finite(size: float) -> float:
    """The size of a kernel's values, without which nobody knows which labellings are tied."""
    if not math.isfinite(size):
        raise ValueError("the kernel has values that are not finite on these points: no statistic can be made of them")
    return size


def diagonal(kernel: Any, points: Tensor) -> Tensor:
    """k(x, x) of each point, in double precision."""
    return torch.cat([kernel(part, part).diagonal().double() for part in points.split(_DIAGONAL)])


def _bounds(
    whole: Tensor, constant: float, pool: Pool, biased: bool, unit: float, rounding: float
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Limits for MMD² of random labellings: q of the rounded matrix and what it may be off, the rest as it is."""
    n, m = pool.n, pool.m
    own = (whole.diagonal() - constant).double()
    made: list[permute.Rounded] = []

    def bounds(labels: Tensor) -> tuple[Tensor, Tensor]:
        if not made:
            made.append(permute.rounded(whole, constant))
        (rounded,) = made
        q = rounded.forms(labels)
        T, N = rounded.rows.sum(), float(n + m)
        v = 2.0 * labels.double() - 1 if n != m or biased else None  # else s cancels, and no labels are alone
        s, own_x = torch.zeros(2, len(q), dtype=q.dtype) if v is None else (v @ rounded.rows, (v @ own + own.sum()) / 2)
        one = torch.ones_like(T)
        value = Sums(q, s, T, own_x, own.sum(), n * one, N * one, n * one, N * one).mmd2(biased) / unit
        # MMD² is linear in q.
        pairs = 1 / n**2 + 1 / m**2 if biased else 1 / (n * (n - 1)) + 1 / (m * (m - 1))
        off = (pairs / 4 + 1 / (2 * n * m)) * rounded.bound(n) / unit + rounding
        return value - off, value + off

    return bounds


def _ratio(total: Tensor, pairs: Tensor) -> Tensor:
    """The mean over pairs; 0 where a labelling leaves none, as clusters of unequal size can."""
    some = pairs > 1e-12
    return torch.where(some, total / torch.where(some, pairs, 1.0), 0.0)
