"""The rank of the observed labelling among random ones: all of them at once, or as many as are needed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

HELD = 2**23  # numbers held at once for a chunk of labellings
EXCEEDANCES = 20  # a p-value that stops early has a relative standard error of 1/√20


class Statistic(NamedTuple):
    """A statistic of labellings: (C, N) booleans, True for x, to values (C,). Values within ``rounding`` are ties.

    ``describe`` says of one labelling, (N,), in plain words what carried its value. ``second``, of order 1, orders
    labellings of equal value: a statistic of few values would make the test conservative. ``bounds``, (C,) and (C,),
    are limits for the values of random labellings that cost less, and take rounding in `evaluate` into account.
    """

    evaluate: Callable[[Tensor], Tensor]
    chunk: int
    rounding: float = 0.0  # absolute
    name: str = ""
    describe: Callable[[Tensor], str] | None = None
    second: Callable[[Tensor], Tensor] | None = None
    bounds: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None


def values(statistic: Statistic, labels: Tensor, stop: bool = False, ranked: bool = False) -> Tensor:
    """The value of each labelling, (1 + B,), the observed one first, in float64; −∞ where there is no value.

    With ``ranked`` only comparisons with the observed value are asked for: where the bounds tell which of the two is
    larger, their middle is the value.

    With ``stop`` it ends with the permutation that is the 20th to be at least the observed one, if that comes: parts
    double in size, and what lies behind that permutation is dropped, so that the answer does not depend on the parts.
    """
    largest = max(1, statistic.chunk)
    size = min(32, largest) if stop else largest
    found = torch.empty(0, dtype=torch.float64)
    with torch.no_grad(), tqdm(total=len(labels), desc="permutations", delay=2, leave=False) as progress:
        while len(found) < len(labels):
            part = labels[len(found) : len(found) + size]
            new = _compared(statistic, part, found) if ranked else statistic.evaluate(part).double().cpu()
            found = torch.cat([found, torch.where(torch.isnan(new), -math.inf, new)])
            progress.update(len(part))
            size = min(2 * size, largest)
            if stop and len(hits := exceeding(statistic, labels, found).nonzero()) >= EXCEEDANCES:
                return found[: int(hits[EXCEEDANCES - 1]) + 2]
    return found


def _compared(statistic: Statistic, labels: Tensor, found: Tensor) -> Tensor:
    """Values of which those that the bounds leave on both sides of the observed one are evaluated."""
    if statistic.bounds is None:
        return statistic.evaluate(labels).double().cpu()
    low, high = (limit.double().cpu() for limit in statistic.bounds(labels))
    new = (low + high) / 2
    known = torch.zeros(len(new), dtype=torch.bool)
    first = not len(found)
    observed = float(new[0] if first else found[0])
    while True:  # once more where the bounds, which hold for random labellings, have not held for the observed one
        limit = observed - statistic.rounding
        unsure = (~((low > limit) | (high < limit)) | ~new.isfinite()) & ~known
        unsure[0] |= first and not bool(known[0])
        if not bool(unsure.any()):
            return new
        new[unsure] = statistic.evaluate(labels[unsure.to(labels.device)]).double().cpu()
        known |= unsure
        observed = float(new[0]) if first else observed


def exceeding(statistic: Statistic, labels: Tensor, found: Tensor) -> Tensor:
    """Which of the permuted values are at least the observed one, (B,), equal ones by the second statistic."""
    at_least = found[1:] >= found[0] - statistic.rounding
    if statistic.second is not None:
        equal = (at_least & (found[1:] <= found[0] + statistic.rounding)).nonzero().squeeze(-1) + 1
        with torch.no_grad():
            own = statistic.second(labels[:1]).cpu()
            for part in equal.split(max(1, statistic.chunk)):
                at_least[part - 1] = statistic.second(labels[part.to(labels.device)]).cpu() >= own - 1e-12
    return at_least


def p_value(exceedances: int, permutations: int, stopped: bool) -> float:
    """(1 + k)/(1 + B), or h/L where sampling stopped at the h-th exceedance, the L-th permutation.

    Both are valid: P(p ≤ α) ≤ α. References: Phipson and Smyth 2010; Besag and Clifford 1991, section 2.

    Example:
        >>> p_value(0, 999, stopped=False), p_value(20, 25, stopped=True)
        (0.001, 0.8)
    """
    return exceedances / permutations if stopped else (1 + exceedances) / (1 + permutations)


def stopped_interval(exceedances: int, permutations: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact limits for the p-value when permutations were drawn until the ``exceedances``-th exceedance.

    The number of draws is negative binomial, whose distribution function is an incomplete beta function.

    Example:
        >>> low, high = stopped_interval(20, 400)
        >>> round(low, 4), round(high, 4)
        (0.0308, 0.0734)
    """
    from scipy.stats import beta

    h, L, tail = exceedances, permutations, (1 - confidence) / 2
    high = float(beta.ppf(1 - tail, h, L - h)) if L > h else 1.0
    return float(beta.ppf(tail, h, L - h + 1)), high


def p_values(found: Tensor, rounding: float = 0.0) -> Tensor:
    """The p-value of every labelling among all, itself included: the share of values at least its own, less rounding.

    Example:
        >>> p_values(torch.tensor([3.0, 1.0, 2.0, 2.0]))
        tensor([0.2500, 1.0000, 0.7500, 0.7500], dtype=torch.float64)
    """
    ordered = found.sort().values
    return (len(found) - torch.searchsorted(ordered, found - rounding)).double() / len(found)
