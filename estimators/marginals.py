"""One column against another: how far apart the two samples are, how sure that is, and whether chance explains it.

For numbers the distance is W1 = ∫|F − G|, in the units of the column; for labels it is the total variation ½Σ|p − q|.
Both are the L1 norm of a difference of empirical measures, and both are treated alike:

- the p-value permutes the labels "reference" and "current", so it is exact at every sample size and under ties;
- the interval is D ± q, where q is the 1 − α quantile of the bootstrapped norm of (P* − Pₙ) − (Q* − Qₘ). By the
  triangle inequality the error of D is at most the norm of (Pₙ − P) − (Qₘ − Q), so the interval covers at equality too,
  where D is biased upward and percentile intervals fail; the price is that it is a little wide elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from estimators import resampling

Array = NDArray[np.float64]

_FEW = 10  # a p-value on so few exceeding permutations is refined with more of them
_FEWEST_FOR_INTERVAL = 8
_MOST_WORK = 1 << 30  # labels drawn at most while refining


@dataclass
class Marginal:
    """The distance of one column, with its interval, p-value and expectation when nothing differs."""

    statistic: float
    interval: tuple[float, float] | None
    effect: float
    p: float = math.nan
    permutations: int = 0
    expected: float = math.nan
    notes: list[str] = field(default_factory=list)


def wasserstein(x: Array, y: Array) -> float:
    """W1 = ∫|F − G| of two samples.

    Example:
        >>> wasserstein(np.array([0.0, 1.0]), np.array([1.0, 2.0]))
        1.0
    """
    n, m = len(x), len(y)
    gaps, from_x = resampling.pooled(x, y)
    # whole numbers, so that equal samples are at distance 0 and not at a rounding error
    heights = np.abs(np.cumsum(from_x)[:-1] * (n + m) - np.arange(1, n + m) * n)
    return float(heights @ gaps) / (n * m)


def pooled_deviation(x: Array, y: Array) -> float:
    """The pooled standard deviation of two samples: the root of the mean variance within them, ddof = 1."""
    degrees = len(x) + len(y) - 2
    if degrees < 1:
        return math.nan
    return math.sqrt((((x - x.mean()) ** 2).sum() + ((y - y.mean()) ** 2).sum()) / degrees)


def numeric(
    x: Array,
    y: Array,
    x_draws: NDArray[np.uint16] | None,
    y_draws: NDArray[np.uint16] | None,
    confidence: float,
    seed: int = 0,
) -> Marginal:
    """W1 with its interval and its effect in pooled standard deviations; the p-value comes from `permutation_tests`.

    ``x_draws`` (B, n) and ``y_draws`` (B, m) say how often each value is in each bootstrap sample; without them the
    bootstrap counts the values between pooled quantiles.
    """
    statistic = wasserstein(x, y)
    notes: list[str] = []
    interval = None
    if min(len(x), len(y)) < _FEWEST_FOR_INTERVAL:
        notes.append(f"no interval: it needs at least {_FEWEST_FOR_INTERVAL} values a side")
    else:
        if x_draws is None or y_draws is None:
            errors = resampling.grid_errors(x, y, np.random.default_rng([seed, len(x), len(y), 2]))
        else:
            errors = resampling.bootstrap_errors(x, y, x_draws, y_draws)
        interval = _around(statistic, errors, confidence, len(x), len(y), math.inf)
    deviation = pooled_deviation(x, y)
    effect = statistic / deviation if deviation > 0 else (math.inf if statistic > 0 else 0.0)
    if math.isinf(effect):
        notes.append(
            "each side is constant, at a different value: the effect has no finite size in standard deviations"
        )
    return Marginal(statistic, interval, effect, notes=notes)


def permutation_tests(
    pairs: Sequence[tuple[Array, Array]], marginals: Sequence[Marginal], permutations: int, finest: float, seed: int
) -> None:
    """Give each marginal the permutation p-value of its W1, (1 + k)/(1 + B).

    Columns of equal sizes share the permutations. A column with fewer than 10 exceeding permutations gets more of them,
    until p-values as small as ``finest`` can be told apart. That keeps the p-value valid: for t below 10/B only the
    longer run can give p ≤ t, and for larger t going on can only happen where p ≤ t already.
    """
    groups: dict[tuple[int, int, bytes], list[int]] = {}
    grids = {i: resampling.grid(x, y) for i, (x, y) in enumerate(pairs) if resampling.is_large(len(x), len(y))}
    for i, (x, y) in enumerate(pairs):
        sizes = (grids[i].a + grids[i].b).tobytes() if i in grids else b""
        groups.setdefault((len(x), len(y), sizes), []).append(i)
    for (n, m, _), members in groups.items():
        chosen = [marginals[i] for i in members]
        first = grids.get(members[0])
        if first is not None:
            heights, width = partial(resampling.null_grid_heights, first.a + first.b, n), len(first.a)
            gaps = np.stack([grids[i].gaps for i in members], axis=1)
            observed = np.array([resampling.grid_heights(grids[i].a, grids[i].b) @ grids[i].gaps for i in members])
            for marginal in chosen:
                marginal.notes.append(f"p-value and interval by W1 on a grid of {width:,} pooled quantiles")
        else:
            heights, width = partial(resampling.null_heights, n, m), n + m
            gaps = np.stack([resampling.pooled(*pairs[i])[0] for i in members], axis=1)
            observed = np.array([marginal.statistic for marginal in chosen])
        draw = partial(_null_distances, heights, gaps)
        _sequential(chosen, observed, draw, permutations, finest, width, [seed, n, m])


def _null_distances(
    heights: Callable[[int, np.random.Generator], Iterator[Array]],
    gaps: Array,
    B: int,
    rng: np.random.Generator,
    keep: NDArray[np.intp],
) -> Iterator[Array]:
    """W1 of the chosen columns for B random labellings, in blocks (b, columns)."""
    kept = np.ascontiguousarray(gaps[:, keep])
    for block in heights(B, rng):
        yield block @ kept


def categorical(
    x: Sequence[str], y: Sequence[str], permutations: int, finest: float, confidence: float, seed: int
) -> Marginal:
    """The total variation of two samples of labels, with its interval and p-value; it is its own effect."""
    labels, codes = np.unique(np.concatenate([np.asarray(x, dtype=str), np.asarray(y, dtype=str)]), return_inverse=True)
    n, m, k = len(x), len(y), len(labels)
    a, b = np.bincount(codes[:n], minlength=k), np.bincount(codes[n:], minlength=k)
    statistic = 0.5 * float(np.abs(a / n - b / m).sum())
    rng = np.random.default_rng([seed, n, m, k])
    found = Marginal(statistic, None, statistic)
    if min(n, m) < _FEWEST_FOR_INTERVAL:
        found.notes.append(f"no interval: it needs at least {_FEWEST_FOR_INTERVAL} values a side")
    else:
        p_error = rng.multinomial(n, a / n, resampling.BOOTSTRAPS) / n - a / n
        q_error = rng.multinomial(m, b / m, resampling.BOOTSTRAPS) / m - b / m
        errors = 0.5 * np.abs(p_error - q_error).sum(axis=1)
        found.interval = _around(statistic, errors, confidence, n, m, 1.0)

    def count(B: int, rng: np.random.Generator, keep: NDArray[np.intp]) -> Iterator[Array]:
        for size in resampling.blocks(B, k):
            drawn = rng.multivariate_hypergeometric(a + b, n, size=size, method="marginals")
            yield 0.5 * np.abs(drawn / n - (a + b - drawn) / m).sum(axis=1, keepdims=True)

    _sequential([found], np.array([statistic]), count, permutations, finest, k, [seed, n, m, k])
    only = [f"{str(labels[i])!r} ({b[i]})" for i in np.flatnonzero((b > 0) & (a == 0))]
    gone = [f"{str(labels[i])!r} ({a[i]})" for i in np.flatnonzero((a > 0) & (b == 0))]
    for names, side in ((only, "current"), (gone, "reference")):
        if names:
            found.notes.append(f"only in the {side}: " + ", ".join(names[:5]) + (" …" if len(names) > 5 else ""))
    return found


def _sequential(
    found: Sequence[Marginal],
    observed: Array,
    draw: Callable[[int, np.random.Generator, NDArray[np.intp]], Iterator[Array]],
    permutations: int,
    finest: float,
    width: int,
    seed: list[int],
) -> None:
    """A first run of permutations for all columns, and a longer one for those with few exceeding permutations."""
    rng = np.random.default_rng([*seed, 1])
    # equal statistics differ by rounding, and a tie must count as exceeding
    threshold = observed * (1 - 1e-9)
    exceeding, total = np.zeros(len(found), dtype=int), np.zeros(len(found))
    everyone = np.arange(len(found))
    for null in draw(permutations, rng, everyone):
        exceeding += (null >= threshold).sum(axis=0)
        total += null.sum(axis=0)
    longer = min(max(permutations, math.ceil(1 / finest) - 1), max(permutations, _MOST_WORK // max(width, 1)))
    going_on = np.flatnonzero(exceeding < _FEW)
    if longer > permutations and len(going_on):
        for null in draw(longer - permutations, rng, going_on):
            exceeding[going_on] += (null >= threshold[going_on]).sum(axis=0)
    for i, marginal in enumerate(found):
        marginal.permutations = longer if i in going_on else permutations
        marginal.p = float((1 + exceeding[i]) / (1 + marginal.permutations))
        marginal.expected = float(total[i] / permutations)


def _around(value: float, errors: Array, confidence: float, n: int, m: int, most: float) -> tuple[float, float]:
    """The value ± the quantile of the bootstrapped errors, which are a little small in small samples."""
    least = min(n, m)
    q = float(np.quantile(errors, confidence, method="higher")) * math.sqrt(least / (least - 1))
    return max(0.0, value - q), min(most, value + q)
