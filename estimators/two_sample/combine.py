"""One test from many: tail probabilities fitted over all labellings, the observed included, and a mean of them.

Whatever is done to the values is done to all labellings alike, so that under P = Q the combined values stay
exchangeable and the rank of the observed one is an exact p-value, however rough the fit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from estimators.two_sample.permutation import p_values

_EXPONENT = 0.75
_FAR = 4.0  # robust deviations beyond which a value does not move the fit


def combined(values: list[Tensor], roundings: list[float], weights: list[float]) -> tuple[Tensor, list[float]]:
    """The combined value log Σ_j w_j p_j^(−3/4) of every labelling, the observed first, and each p-value of that one.

    p_j is the tail of a gamma law fitted to statistic j. Such a mean follows its smallest terms, as Bonferroni does,
    yet loses less where several statistics see the same. A statistic with one value for all labellings is left out.

    References: Wilson and Hilferty 1931; Vovk and Wang 2020 (means of p-values; at exponent −1 the harmonic).
    """
    alone = [float(p_values(v, e)[0]) for v, e in zip(values, roundings, strict=True)]
    terms = [
        math.log(w) - _EXPONENT * log_tail(level)
        for v, e, w in zip(values, roundings, weights, strict=True)
        if bool(((level := tied(v, e)) > level.min()).any())
    ]
    if not terms:
        return torch.zeros_like(values[0]), alone
    return tied(torch.logsumexp(torch.stack(terms), 0), 1e-9), alone


def tied(values: Tensor, rounding: float) -> Tensor:
    """The values, with those that a chain of steps no longer than ``rounding`` connects made equal.

    Example:
        >>> tied(torch.tensor([1.0, 3.0, 1.5, 3.2], dtype=torch.float64), 0.6)
        tensor([1., 3., 1., 3.], dtype=torch.float64)
    """
    ordered, order = values.sort()
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[1:] = ordered.diff() > rounding
    first = ordered[starts]
    return torch.empty_like(values).scatter_(0, order, first[starts.cumsum(0) - 1])


def log_tail(values: Tensor) -> Tensor:
    """The log tail, log P(V ≥ v), of a gamma law fitted to the values, by Wilson and Hilferty's cube root.

    The moments are of values clipped at four robust deviations above the median: one far value, such as the observed
    one under an alternative, hardly makes itself more likely.
    """
    median = values.median()
    spread = (values.quantile(0.75) - median) / 0.6745
    near = values.clamp_max(float(median + _FAR * spread)) if spread > 0 else values
    mean, deviation = near.mean(), near.std(correction=0)
    if not deviation > 0:
        near = values
        mean, deviation = near.mean(), near.std(correction=0)
    skewness = float((((near - mean) / deviation) ** 3).mean())
    k = 4 / min(max(skewness, 0.05), 2.8) ** 2  # the shape: from a normal law to more skew than an exponential
    g = (k + math.sqrt(k) * (values - mean) / deviation).clamp_min(1e-9)
    return torch.special.log_ndtr(-3 * math.sqrt(k) * ((g / k) ** (1 / 3) - (1 - 1 / (9 * k))))
