"""MMD² by permutations of bins of points, for samples whose points are too many to be permuted one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

from estimators.kernel.mmd import MMD
from estimators.ops import permute
from estimators.two_sample import kernel as by_points
from estimators.two_sample.labelling import Design
from estimators.two_sample.permutation import HELD, Statistic
from estimators.two_sample.pool import Plan, Pool

BINS = 512  # of x and y together; no more power was seen with more, and their pairs cost next to nothing
MOST = 4096  # whose matrix of pairs is kept
FEW = 16  # bins of the smaller sample, below which bins are made smaller where that is possible


class Bins(NamedTuple):
    """Points in the order of their bins; those left over, ``fixed``, are bins that keep their label."""

    order: Tensor  # (N,)
    sizes: Tensor  # (U,)
    design: Design  # of the bins
    fixed: Tensor  # (U,)


def plan(estimator: MMD, pool: Pool) -> Plan | None:
    """The plan of a binned test where it was asked for, or points are too many for others; None where it was not.

    Points of x, in random order, are put into bins of equal size, and points of y as well; under P = Q all labellings
    of the bins are equally likely, as they are permutations of points, so that the level is exact. In strata bins are
    made, and permuted, within each.

    References: Domingo-Enrich, Dwivedi and Mackey 2023, "Cheap permutation testing", algorithm 1 (of equal n and m).

    Raises:
        ValueError: bins that were asked for, or that alone are left, and cannot be made.
    """
    N, most = len(pool.points), by_points.most(estimator, pool)
    if pool.bins == 0 or (pool.bins is None and N <= most):
        return None
    found = _bins(pool)
    if isinstance(found, str):
        if pool.bins is None and N <= by_points.LARGEST:
            return None
        hint = "" if pool.bins else f", and {N} pooled points are too many to be permuted one by one"
        raise ValueError(f"the points cannot be permuted in bins: {found}{hint}")
    statistic = _statistic(estimator, pool, found)
    _remark(pool, found, most)
    return Plan([statistic], fixed=found.fixed, design=found.design)


def _bins(pool: Pool) -> Bins | str:
    """The bins, or why there are none."""
    N, design = len(pool.points), pool.design
    if len(design.is_x) < N:
        return "clusters are labelled as a whole, and of unequal sizes"
    stratum, is_x = design.stratum[design.unit], design.observed
    rows: list[Tensor] = []
    of: list[tuple[int, bool, bool]] = []  # stratum, label and whether it stays
    for s in range(int(stratum.max()) + 1):
        sides = [((stratum == s) & (is_x == side)).nonzero().squeeze(-1) for side in (True, False)]
        size = _size(pool.bins, N, *(len(side) for side in sides))
        for label, side in zip((True, False), sides, strict=True):
            count = len(side) // size if min(map(len, sides)) >= size else 0
            rows += side[: count * size].split(size) if count else []
            of += [(s, label, False)] * count
            if count * size < len(side):
                rows.append(side[count * size :])
                of.append((s, label, True))
        if len(rows) > MOST:
            return f"the design needs more than {MOST} of them"
    strata, labels, fixed = (torch.tensor(column) for column in zip(*of, strict=True))
    arranged = Design(torch.arange(len(rows)), strata, labels)
    if fixed.all() or arranged.labellings(fixed) < 1.5:
        return "x or y has fewer points than a bin; use fewer points of the other"
    return Bins(torch.cat(rows), torch.tensor([len(row) for row in rows]), arranged, fixed)


def _size(bins: int | None, N: int, n: int, m: int) -> int:
    """Points of a bin of a stratum with n and m points: of those that are near to what is wanted, with fewest left."""
    if bins is not None:
        wanted = max(1, N // bins)
    else:
        wanted = max(1, min(N // BINS, min(n, m) // FEW), -(-N // (MOST - 2)))
    fewest = wanted if bins is not None or N // wanted > MOST // 2 else -(-3 * wanted // 4)
    return min(range(fewest, wanted + 1), key=lambda b: (n % b + m % b, -b))


def _remark(pool: Pool, found: Bins, most: int) -> None:
    sizes = found.sizes[~found.fixed]
    of = f"{sizes.min()}" if sizes.min() == sizes.max() else f"{sizes.min()} to {sizes.max()}"
    left = int(found.sizes[found.fixed].sum())
    why = "" if pool.bins else f" as {len(pool.points)} pooled points are more than {most}"
    kept = f"; {left} points that are left over keep their label" if left else ""
    pool.notes.append(
        f"permutations of {len(sizes)} bins of {of} points each{why}: the level is exact, as it is for points{kept}"
    )


def _statistic(estimator: MMD, pool: Pool, found: Bins) -> Statistic:
    """MMD² of labellings of the bins, by the sums of k over their pairs."""
    kernel, points = by_points.resolved(estimator, pool)
    pool.notes.append(by_points.resolved_note(kernel))
    kernel, points = by_points.of_distance(kernel), points[found.order]
    points = points if len(points) <= by_points.DOUBLE else points.float()
    r = None if pool.weights is None else pool.weights[found.order]
    K = permute.bin_sums(kernel, points, found.sizes, None if r is None else r.to(points), progress=_bar)
    mass = torch.ones(len(points), dtype=K.dtype, device=K.device) if r is None else r
    biased = estimator.statistic == "biased"
    # k(x, x) is for the biased statistic alone.
    own = by_points.diagonal(kernel, points) if biased else torch.zeros_like(mass)
    R, squares, own = (
        torch.segment_reduce(part, "sum", lengths=found.sizes.to(K.device), unsafe=True)
        for part in (mass, mass.square(), mass.square() * own)
    )
    pairs = R[:, None] * R - squares.diag()
    size, constant = float(K.abs().sum() / pairs.sum()), float(K.sum() / pairs.sum())
    K, own = K - constant * pairs, own - constant * squares  # a constant changes no MMD²
    sums = K.sum(0)

    def evaluate(labels: Tensor) -> Tensor:
        a = labels.to(K)
        v = 2 * a - 1
        given = by_points.Sums(
            permute.forms(K, v), v @ sums, sums.sum(), a @ own, own.sum(), a @ R, R.sum(), a @ squares, squares.sum()
        )
        return given.mmd2(biased)

    # Sums of pairs are rounded apart from each other.
    rounding = 16 * torch.finfo(points.dtype).eps * size / len(R)
    return by_points.of(estimator, Statistic(evaluate, max(1, HELD // len(R)), rounding))


def _bar(tasks: Sequence[int]) -> Iterable[int]:
    return tqdm(tasks, desc="pairs of bins", delay=2, leave=False)
