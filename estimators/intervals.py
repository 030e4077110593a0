"""Confidence intervals: the block jackknife, the normal limit, a probe of the bias, and limits for a p-value.

Every estimator may centre its interval where it likes, but none may print one whose bias was neither removed nor
declared: `jackknife` widens by its estimate of a bias of order 1/n, `declare` by a bias measured on half samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from scipy.stats import binomtest, norm, t
from torch import Tensor

from estimators.door import Samples

Interval = tuple[float, float]
Found = tuple[float, float | None, Interval | None, tuple[str, ...]]

BLOCKS = 20
FEWEST = 5  # with fewer blocks the t quantile says more about the number of blocks than about the data


def normal(value: float, stderr: float, confidence: float, degrees: float = math.inf) -> Interval:
    """The interval value ± t·stderr, with t the two-sided quantile at ``confidence`` (normal for infinite ``degrees``).

    Example:
        >>> low, high = normal(0.0, 1.0, 0.95)
        >>> round(high, 3)
        1.96
    """
    half = half_width(stderr, confidence, degrees)
    return value - half, value + half


def half_width(stderr: float, confidence: float, degrees: float = math.inf) -> float:
    """t·stderr, with t the two-sided quantile at ``confidence``."""
    return float(t.ppf(0.5 + confidence / 2, degrees)) * stderr


def monte_carlo(exceeding: int, permutations: int, confidence: float = 0.95) -> Interval:
    """Clopper–Pearson limits for the p-value of which ``exceeding`` of ``permutations`` draws were counted.

    Example:
        >>> low, high = monte_carlo(0, 999)
        >>> low, round(high, 5)
        (0.0, 0.00369)
    """
    limits = binomtest(exceeding, permutations).proportion_ci(confidence, method="exact")
    return float(limits.low), float(limits.high)


def jackknife(value: Callable[[Samples], float], s: Samples, confidence: float, seed: int) -> Found:
    """The value of ``s``, its standard error, an interval and notes, by a delete-a-block two-sample jackknife.

    Both samples are cut at random into B blocks, and block b of both is left out at once. With θ the value of all
    points and θ_b without block b,

        stderr² = (B − 1)/B Σ_b (θ_b − θ̄)²,    bias = (B − 1)(θ̄ − θ).

    The interval is the union of θ ± t·stderr and (θ − bias) ± t·stderr, with t of B − 1 degrees of freedom. It assumes
    independent points, a value that is smooth in the empirical measures, and a bias that falls as 1/n.
    Cost: B + 1 values. References: Efron and Stein 1981; Shao and Wu 1989 (delete-d).

    Returns:
        Value, standard error, interval and notes; neither error nor interval with fewer than 5 points a side.

    Example:
        >>> x, y = torch.arange(40.0)[:, None], torch.arange(40.0)[:, None] + 3
        >>> found = jackknife(lambda s: float(s.y.mean() - s.x.mean()), Samples(x, y, None, None), 0.95, seed=0)
        >>> found[0], found[2][0] < 3 < found[2][1]
        (3.0, True)
    """
    theta = value(s)
    n, m = len(s.x), len(s.y)
    B = min(BLOCKS, n, m)
    if B < FEWEST:
        return theta, None, None, (f"no interval: a jackknife needs at least {FEWEST} points a side, got {n} and {m}",)
    if not math.isfinite(theta):
        return theta, None, None, ("no interval: the value is not finite",)
    generator = torch.Generator().manual_seed(seed)
    bx, by = _blocks(n, B, generator), _blocks(m, B, generator)
    parts = [_part(s, bx != b, by != b) for b in range(B)]
    if any(part is None for part in parts):
        return theta, None, None, ("no interval: the weight lies on too few points to leave any out",)
    leave = torch.tensor([value(part) for part in parts if part is not None], dtype=torch.float64)
    if not bool(torch.isfinite(leave).all()):
        return theta, None, None, ("no interval: the value is not finite on a part of the sample",)
    mean = float(leave.mean())
    stderr = math.sqrt((B - 1) / B * float((leave - mean).square().sum()))
    bias = (B - 1) * (mean - theta)
    notes = (
        f"interval: jackknife over {B} blocks, t with {B - 1} degrees of freedom, widened by the estimated bias "
        f"{bias:.3g}, which is taken to fall as 1/n",
    )
    return theta, stderr, widen(normal(theta, stderr, confidence, B - 1), bias), notes


def widen(interval: Interval, bias: float) -> Interval:
    """The union of the interval and the interval less ``bias``."""
    low, high = interval
    return low - max(bias, 0.0), high - min(bias, 0.0)


def half_sample_bias(
    value: Callable[[Samples], float], s: Samples, theta: float, rate: float, seed: int, splits: int = 4
) -> float:
    """The bias of ``theta``, the value of all points, seen in values on half of the points.

    For a bias c·n^(−rate) the mean of the values on two disjoint halves exceeds θ by (2^rate − 1) times the bias of θ;
    the two have the same first-order error, which cancels. A smaller rate gives a larger, more careful bias. It is NaN
    where the halves have no finite value.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(splits):
        bx, by = _blocks(len(s.x), 2, generator), _blocks(len(s.y), 2, generator)
        for b in range(2):
            part = _part(s, bx == b, by == b)
            found.append(math.nan if part is None else value(part))
    return (math.fsum(found) / len(found) - theta) / (2.0**rate - 1)


def largest_share(effects: Tensor) -> float:
    """The part of Σe² that the single largest of centred ``effects`` makes up, 0 where they are all 0.

    Example:
        >>> largest_share(torch.tensor([1.0, 1.0, 2.0, -2.0]))
        0.4
    """
    squares = effects.double().square()
    return float(squares.amax()) / float(squares.sum()) if bool(squares.any()) else 0.0


class Shape(NamedTuple):
    """How far a mean of independent effects is from normal."""

    heaviest: float  # the part of the variance that one effect makes up, in the sample where it is largest
    skewness: float  # of the mean

    @classmethod
    def of(cls, *samples: Tensor) -> Shape:
        """The shape of a sum of effects with mean 0, such as (a_i − ā)/n and −(b_j − b̄)/m for ā − b̄.

        Example:
            >>> Shape.of(torch.tensor([1.0, 1.0, 2.0, -4.0])).heaviest
            0.7272727...
        """
        effects = torch.cat(samples).double()
        scale = effects.square().sum().sqrt()
        skewness = float((effects / scale).pow(3).sum()) if bool(scale > 0) else 0.0
        return cls(max(largest_share(sample) for sample in samples), skewness)


def lower_limit(value: float, stderr: float, confidence: float, skewness: float) -> float:
    """A one-sided limit, value − t·stderr, with the first term of the Edgeworth expansion where it makes t larger.

    A mean whose effects have a long tail below is too large, and its standard error too small, in most samples:
    P((value − mean)/stderr ≤ z) = Φ(z) + skewness·(2z² + 1)φ(z)/6 + O(1/n) (Hall 1992, section 2.6). A long tail above
    errs on the safe side, and is left alone.
    """
    z = float(norm.ppf(confidence))
    return value - (z + max(0.0, -skewness) * (2 * z * z + 1) / 6) * stderr


def degrees_of_freedom(*samples: Tensor) -> float:
    """How well a variance Σ_k Σ_i e_ki² of centred effects is known: Satterthwaite, with the kurtosis of each sample.

    Example:
        >>> degrees_of_freedom(torch.tensor([1.0, -1.0, 1.0, -1.0]))  # the squares do not vary
        inf
    """
    squares = [effects.double().square() for effects in samples]
    total = math.fsum(float(v.sum()) for v in squares)
    unknown = math.fsum(float((v - v.mean()).square().sum()) for v in squares)
    return 2 * total**2 / unknown if unknown > 0 else math.inf


def declare(
    theta: float, stderr: float, bias: float, confidence: float, degrees: float = math.inf, doubt: float = 0.0
) -> tuple[Interval | None, tuple[str, ...]]:
    """The interval of a value with a probed bias, widened by bias ± doubt, or None where that is not small.

    Beyond the half-width t·stderr a bias is no correction but the main thing, and then the interval is refused.
    """
    half = half_width(stderr, confidence, degrees)
    below, above = max(bias + doubt, 0.0), max(doubt - bias, 0.0)
    size = f"{bias:.3g} ± {doubt:.2g}" if doubt else f"{bias:.3g}"
    if not below + above <= half:  # NaN is refused as well
        return None, (f"no interval: a bias of about {size} is not small against the sampling error {half:.3g}",)
    return (theta - half - below, theta + half + above), (
        f"interval: normal limit, widened by an estimated bias of {size}",
    )


def _blocks(n: int, B: int, generator: torch.Generator) -> Tensor:
    """A block in 0 … B − 1 for each of n points, equal in size to one point, in random order."""
    return (torch.arange(n) % B)[torch.randperm(n, generator=generator)]


def _part(s: Samples, keep_x: Tensor, keep_y: Tensor) -> Samples | None:
    """The chosen points with their weights made to sum to 1; None where they have no weight."""
    weights = list(_renormalised(s, keep_x, keep_y))
    if any(w is not None and not bool(torch.isfinite(w).all()) for w in weights):
        return None
    return Samples(s.x[keep_x], s.y[keep_y], weights[0], weights[1])


def _renormalised(s: Samples, keep_x: Tensor, keep_y: Tensor) -> Iterator[Tensor | None]:
    for weights, keep in ((s.x_weights, keep_x), (s.y_weights, keep_y)):
        yield None if weights is None else weights[keep] / weights[keep].sum()
