"""`two_sample_test`: from samples, a statistic and a design to a p-value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from estimators import intervals
from estimators.base import Estimator
from estimators.door import Samples, admit_thoroughly, count, seeded, tensor
from estimators.results import Evidence, TestResult
from estimators.two_sample import permutation
from estimators.two_sample.binned import MOST
from estimators.two_sample.c2st import C2ST
from estimators.two_sample.combine import log_tail
from estimators.two_sample.labelling import design
from estimators.two_sample.named import Entry, resolved
from estimators.two_sample.permutation import EXCEEDANCES
from estimators.two_sample.pool import Plan, Pool

Ids = tuple[Sequence[Any], Sequence[Any]]

_TOLD = 0.05  # among several statistics, only those with such a p-value say where they saw something


def two_sample_test(
    x: Any,
    y: Any,
    statistic: str | Estimator | C2ST = "auto",
    permutations: int = 999,
    seed: int | None = 0,
    *,
    early_stopping: bool = False,
    bins: int | None = None,
    clusters: Ids | None = None,
    strata: Ids | None = None,
    x_weights: Any = None,
    y_weights: Any = None,
    normalize: bool = False,
    nan_policy: str = "raise",
) -> TestResult:
    """Test P = Q by permutations: p = (1 + k)/(1 + B), k of the B permuted statistics at least the observed one.

    The level is exact: P(p ≤ α) ≤ α for exchangeable points, with equality where α(B + 1) is an integer and there are
    no ties; ties of all that the statistic sees make the test conservative. p is never 0.

    Statistics, with N = n + m points in d coordinates:

    - "auto": many in one, so that no choice is needed: Gaussian kernels at several bandwidths, ranks of coordinates and
      of pairs, clusters of the pool and what changes inside them. Each becomes a tail probability fitted over all
      labellings, and their weighted harmonic mean is ranked among its permutations. O(N²(d + B)) for the kernels and
      O(B·N) for each of up to some thousand features; the evidence says which of them saw what.
    - "mmd", "energy_distance": the unbiased `MMD` (Gaussian, median distance) and `EnergyDistance`. O(N²(d + B)).
    - "mmd_agg": `MMDAgg`'s smallest p-value over Gaussian and Laplace kernels at ten bandwidths each, and "mmd_fuse":
      the soft maximum of normalised MMD² over the same 20 kernels. O(20 N²(d + B)).
    - "kolmogorov_smirnov": the largest |F − G| over coordinates, equal ones ordered by the mean (F − G)²; the evidence
      says which coordinate, and where. O(B·N·d).
    - "sliced_wasserstein": order 2, 100 directions. O(100·B·N).
    - "sinkhorn": the debiased divergence after a fixed number of sweeps for all labellings at once. O(80·B·N²).
    - "emd": W1, one linear program a permutation, O(N³) or so each.
    - "c2st": the held-out AUC of a classifier trained on half of the points, equal ones ordered by the difference of
      mean scores; `C2ST(classifier)` takes your own. O(B·N) and one training.
    - `MMD(DeepKernel())`, a learned kernel, for images and other points of many coordinates: "auto" together with a
      Gaussian kernel and distances on axes that the pool gives without labels, of edges in images, and a network that
      is trained on folds and judged on others, anew for each labelling, so that all points are used and the level is
      exact, whatever the design. Some 40 steps of B + 1 small networks, as stacks, on 256 points each.
      `DeepKernel(cross_fit=False)` trains the kernel of Liu et al. 2020 on half of the points and permutes the labels
      of the others: exact, but with less power. A fitted kernel is held, and needs points that it was not fitted to.
    - an estimator object without a critic: MMD, energy, sliced and Sinkhorn ones as fast as their names, any other by
      its value on each labelling in turn.

    For n = m = 500, d = 10 and B = 299 on one core: "mmd", "energy_distance", "kolmogorov_smirnov" and "c2st" 0.1 to
    0.3 s, "auto" 1 s, "mmd_agg", "mmd_fuse", "sliced_wasserstein" and "sinkhorn" 1.5 to 3 s, "emd" 25 s. Kernel
    statistics keep some N × N matrices, in single precision above 3000 points. Above 12,000 "mmd", "energy_distance"
    and `MMD` permute bins of points, all pairs being taken once: the level is exact, the notes tell, and the whole
    test takes about the time of one statistic, some 5 s for n = m = 100,000 and d = 10; on a GPU that Triton
    compiles for, points are permuted up to 200,000 of them where the kernel is one of the distance, kernel values being
    made anew by tiles. With clusters, many small
    strata or ``bins=0``, and for "mmd_agg" and "mmd_fuse", the matrices are made anew, tile by tile, for each chunk of
    permutations, and above 50,000 points refused; "auto" takes random frequencies above 12,000.

    Args:
        x: data or target, (n, d), or (n,) for one coordinate where y has one axis too.
        y: model or reference, (m, d) or (m,).
        statistic: a name, an estimator, or a `C2ST`.
        permutations: B, the number of random labellings.
        seed: of the shuffle, the labellings and what the statistic draws; None is 0, a fixed seed as well.
        early_stopping: stop at the 20th permutation whose statistic is at least the observed one, with p = 20/L at the
            L-th permutation; else as above. The level stays exact (Besag and Clifford), p has a relative error of about
            a fifth, and under P = Q a B of 999 takes about 100 permutations. For a single statistic only: where several
            are combined, each labelling is ranked among all.
        bins: of x and y together, that points are put into at random and permuted as wholes, for "mmd",
            "energy_distance" and `MMD`: with strata within each, with weights too, not with clusters. Points that are
            left over keep their label. The level is exact for any number. None takes about 512 above 12,000 points,
            on a GPU as said above 200,000, and permutes the points below; 0 always permutes the points.
        clusters: ids of the rows of x and of y. Rows with one id (a patient, a stretch of time) depend on each other
            and are labelled as a whole; a cluster has rows in one sample only. Exact where clusters, with their sizes,
            are exchangeable; with unequal sizes the sizes of the samples change from labelling to labelling.
        strata: ids of the rows of x and of y. Labels are permuted within each stratum only (site, batch, a pair): exact
            where points of one stratum are exchangeable, whatever differs between strata. With pairs of one point of x
            and one of y labels are swapped within pairs. Where strata lie far apart, take the mean of each, over x and
            y together, from its points first: the level stays exact, and small shifts are seen. Clusters within strata
            are permuted within theirs.
        x_weights: one weight a point of x. A weight goes with its point, and the weights of each side are made to sum
            to 1 for each labelling. Exact where pairs (point, weight) are exchangeable, as for one importance scheme in
            both samples, so that both or neither sample has weights. Not for "auto", "c2st" and most estimators.
        y_weights: the same for y.
        normalize: take the weights as raw ones on a scale common to both samples, which keeps the level exact. Without
            it those of each sample must sum to 1; their common scale is lost, and the level is approximate: in trials
            0.09 instead of 0.05 with 4 effective points a side (1/Σw²), 0.056 with 18.
        nan_policy: "raise", or "omit" to drop rows with a NaN and say how many.

    Returns:
        p with a 95% interval (Clopper–Pearson: what other permutations could have given), the statistic, its permuted
        values, and as `evidence` what each combined statistic found alone. From 1000 points on the permuted values of
        one MMD are known to about a hundredth of their spread where that tells which of them are at least the observed
        one; p is that of the whole precision.

    Raises:
        ValueError: an unknown name; permutations below 1; bins that cannot be; fewer than 2 points; samples, weights or
            ids refused at the door; a design that the statistic cannot cope with; too many points for a kernel matrix.
        TypeError: an estimator with a critic: it would have to be trained anew for each permutation.

    References: Phipson and Smyth 2010 (p > 0); Hemerik and Goeman 2018, theorem 2; Besag and Clifford 1991 (early
    stopping); Schrab et al. 2023 (MMDAgg); Biggs, Schrab and Gretton 2023 (MMD-FUSE); Kim et al. 2021 (C2ST); Liu et
    al. 2020 (learned kernels); Domingo-Enrich, Dwivedi and Mackey 2023 (bins).

    Example:
        >>> x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
        >>> two_sample_test(x, x + 1.0, permutations=199).p_value
        0.005
        >>> pairs = range(50), range(50)
        >>> two_sample_test(x, x + 0.1, "energy_distance", permutations=199, strata=pairs).p_value
        0.005
    """
    permutations = count(permutations, "permutations")
    entry = resolved(statistic)
    if bins is not None and not entry.takes_bins:
        raise ValueError(
            f"bins are for statistics that are sums over pairs, mmd, energy_distance and MMD: got {entry.name!r}"
        )
    if bins is not None and not (bins == int(bins) and (bins == 0 or 4 <= bins <= MOST)):
        raise ValueError(f"bins must be None, 0 or between 4 and {MOST}: got {bins!r}")
    generator = seeded(seed)
    s, pool = _pooled(
        x, y, (x_weights, y_weights), clusters, strata, entry, generator, normalize=normalize, nan_policy=nan_policy
    )
    plan = entry.plan(pool._replace(bins=bins))
    arranged = plan.design or pool.design
    if early_stopping and plan.combine is not None:
        raise ValueError(f"early_stopping needs a single statistic, and {entry.name!r} combines several")
    random = arranged.labels(permutations, generator, plan.fixed, s.x.device).to(s.x.device)
    labels = torch.cat([arranged.observed[None].to(random), random])
    found, exceeding, evidence = _evaluated(plan, labels, early_stopping)
    B, k = len(exceeding), int(exceeding.sum())
    stopped = early_stopping and k == EXCEEDANCES
    _remark(pool, plan, found, permutations)
    if stopped:
        pool.notes.append(
            f"stopped after {B} of {permutations} permutations, at the {k}th exceedance: p = {k}/{B} (Besag and "
            "Clifford 1991)"
        )
    return TestResult(
        statistic=float(found[0]),
        p_value=permutation.p_value(k, B, stopped),
        name=entry.name,
        permutations=B,
        interval=permutation.stopped_interval(k, B) if stopped else intervals.monte_carlo(k, B),
        n=pool.n,
        m=pool.m,
        notes=tuple(pool.notes),
        seed=None if seed is None else int(seed),
        null=tuple(found[1:].tolist()),
        evidence=evidence,
    )


def _pooled(
    x: Any,
    y: Any,
    weights: tuple[Any, Any],
    clusters: Ids | None,
    strata: Ids | None,
    entry: Entry,
    generator: torch.Generator,
    *,
    normalize: bool,
    nan_policy: str,
) -> tuple[Samples, Pool]:
    """The admitted samples, and the pool that the statistic sees."""
    if (weights[0] is None) != (weights[1] is None):
        given, missing = ("x_weights", "y_weights") if weights[1] is None else ("y_weights", "x_weights")
        raise ValueError(
            f"{given} came without {missing}: weights are permuted with their points, which needs weights drawn alike "
            "in both samples"
        )
    if weights[0] is not None and not entry.takes_weights:
        raise ValueError(
            f"statistic {entry.name!r} takes no weights: use mmd, mmd_agg, mmd_fuse, energy_distance, "
            "kolmogorov_smirnov, sliced_wasserstein, sinkhorn or emd"
        )
    s = admit_thoroughly(
        x,
        y,
        *weights,
        minimum=entry.minimum,
        normalize=normalize,
        nan_policy=nan_policy,
        clustered=clusters is not None,
    )
    n, m = len(s.x), len(s.y)
    shuffle = torch.randperm(n + m, generator=generator)
    keep = tuple(_kept(side, name, nan_policy) for side, name in ((x, "x"), (y, "y")))
    arranged = design(n, m, clusters, strata, (keep[0], keep[1]), shuffle)
    if not arranged.has_equal_sizes and not entry.takes_unequal:
        raise ValueError(
            f"statistic {entry.name!r} needs samples of constant size, and clusters of unequal size change them from "
            "labelling to labelling: use mmd, energy_distance or kolmogorov_smirnov"
        )
    notes = list(s.notes)
    pool_weights = None
    if s.x_weights is not None and s.y_weights is not None:
        scales = (float(n), float(m))
        if normalize:
            raw = [tensor(w, name).double() for w, name in zip(weights, _SIDES, strict=True)]
            first, second = (float(w[kept.to(w.device)].sum()) for w, kept in zip(raw, keep, strict=True))
            scales = (first, second)
        pool_weights = torch.cat([s.x_weights * scales[0], s.y_weights * scales[1]])[shuffle]
        pool_weights = pool_weights / pool_weights.mean()
        if not normalize and bool((pool_weights - 1).abs().max() > 1e-6):
            notes.append(
                "weights that sum to 1 in each sample have lost their common scale, and the level is approximate: raw "
                "weights with normalize=True make it exact"
            )
    points = torch.cat([s.x, s.y])[shuffle.to(s.x.device)]
    return s, Pool(points, pool_weights, n, m, arranged, generator, notes)


_SIDES = ("x_weights", "y_weights")


def _kept(points: Any, name: str, nan_policy: str) -> Tensor:
    """Which rows the door keeps, so that their ids and weights can follow them."""
    rows = tensor(points, name)
    if nan_policy == "omit":
        return ~torch.isnan(rows.reshape(len(rows), -1)).any(-1)
    return torch.ones(len(rows), dtype=torch.bool)


def _evaluated(plan: Plan, labels: Tensor, stop: bool) -> tuple[Tensor, Tensor, tuple[Evidence, ...]]:
    """The values of the labellings, which permuted ones are at least the observed one, and what was seen where."""
    if plan.combine is None:
        (family,) = plan.families
        found = permutation.values(family, labels, stop, ranked=True)
        exceeding = permutation.exceeding(family, labels, found)
        if family.describe is None:
            return found, exceeding, ()
        k, B = int(exceeding.sum()), len(exceeding)
        p = permutation.p_value(k, B, stop and k == EXCEEDANCES)
        return found, exceeding, (Evidence(family.name, p, family.describe(labels[0])),)
    values, rounding, told = [], [], []
    for family in plan.families:
        values.append(permutation.values(family, labels))
        rounding.append(family.rounding)
        strong = float(permutation.p_values(values[-1], family.rounding)[0]) <= _TOLD
        told.append((family.name, family.describe(labels[0]) if family.describe and strong else ""))
    found, p_values = plan.combine(values, rounding)
    parts = [Evidence(name, p, about) for (name, about), p in zip(told, p_values, strict=True)]
    exceeding = found[1:] >= found[0] - 1e-10 * float(found.abs().max())
    # Many p-values are the smallest that B permutations can give; a fitted tail tells these apart.
    tails = [float(log_tail(v)[0]) if bool((v != v[0]).any()) else 0.0 for v in values]
    order = sorted(range(len(parts)), key=lambda i: (parts[i].p_value, tails[i]))
    return found, exceeding, tuple(parts[i] for i in order)


def _remark(pool: Pool, plan: Plan, found: Tensor, permutations: int) -> None:
    """Notes on what a reader of the p-value must know."""
    if bool((pool.points == pool.points[0]).all()):
        pool.notes.append("all points are equal: nothing distinguishes the samples")
    elif bool((found == found[0]).all()):
        pool.notes.append("the statistic is the same for all labellings: it distinguishes nothing")
    if not bool(torch.isfinite(found[0])):
        pool.notes.append("the statistic has no finite value on these samples")
    different = (plan.design or pool.design).labellings(plan.fixed)
    if different <= 20:
        pool.notes.append(f"only {different:.0f} different labellings: p cannot fall much below {1 / different:.2g}")
    if permutations < 19:
        pool.notes.append(
            f"{permutations} permutations: p cannot fall below {1 / (1 + permutations):.2g}; 19 are the fewest for a "
            "test at 5%"
        )
