"""The one-step value of an f-divergence, with its influence-function error.

With g an estimate of log p/q, a = f'(e^g) and b = f*(a), the one-step value

    J(g) = E_P a − E_Q b ≤ D_f(P‖Q)

is tight at g = log p/q and errs by the square of the error of g. On points that g was not trained on it falls short of
D, on its training points it exceeds it, and for a likelihood model by the same amount to first order.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from estimators.intervals import half_width
from estimators.ratio.cross_fitting import Problem, Sides

if TYPE_CHECKING:
    import divergences as dv
    from estimators.ratio.models import Array


class OneStep(NamedTuple):
    """J(g), its standard error, and the terms a on x and b on y that it is the difference of means of.

    ``degrees`` of freedom say how well the error itself is known (Satterthwaite, with the kurtosis of the terms);
    ``skewness`` is that of the value.
    """

    value: float
    stderr: float
    degrees: float
    skewness: float
    a: Array
    b: Array


def one_step(d: dv.FDivergence, g: Sides, s: Problem) -> OneStep:
    """E_P f'(e^g) − E_Q f*(f'(e^g)); its influence function is a − E_P a on P and E_Q b − b on Q."""
    a, b = terms(d, g.x, g.y)
    (ma, va), (mb, vb) = weighted_mean(a, s.x_weights), weighted_mean(b, s.y_weights)
    unknown = sum(
        v**2 * (kurtosis(term, w) - 1) / len(term) for v, term, w in ((va, a, s.x_weights), (vb, b, s.y_weights))
    )
    degrees = 2 * (va + vb) ** 2 / unknown if unknown > 0 else math.inf
    third = _third(a - ma, s.x_weights) - _third(b - mb, s.y_weights)
    skewness = third / (va + vb) ** 1.5 if va + vb > 0 else 0.0
    return OneStep(ma - mb, math.sqrt(va + vb), degrees, skewness, a, b)


def _third(v: Array, weights: Array | None) -> float:
    """The third cumulant of a weighted mean."""
    w = 1.0 if weights is None else weights * len(v) / weights.sum()
    return float(np.power(w * v, 3).sum() / len(v) ** 3)


def halves(found: OneStep, confidence: float) -> tuple[float, float]:
    """How far the limits are below and above the value: t·stderr, and more on the side that the value leans to.

    Johnson 1978: the limits of a skewed mean move by stderr·skewness·(1 + 2z²)/6; here they only move out.
    """
    half = half_width(found.stderr, confidence, found.degrees)
    move = found.stderr * found.skewness * (1 + 2 * half_width(1.0, confidence) ** 2) / 6
    return half + max(-move, 0.0), half + max(move, 0.0)


def kurtosis(v: Array, weights: Array | None) -> float:
    """That of the terms of a weighted mean; 1, the least, where they are all alike."""
    w = np.ones(len(v)) if weights is None else weights * len(v) / weights.sum()
    squares = np.square(w * (v - np.average(v, weights=w)))
    return float(np.square(squares).mean() / squares.mean() ** 2) if squares.any() else 1.0


def terms(d: dv.FDivergence, at_x: Array, at_y: Array) -> tuple[Array, Array]:
    """f'(e^g) at the log ratios of x and f*(f'(e^g)) at those of y, composed stably."""
    a, b = d.slopes(torch.from_numpy(at_x))[0], d.slopes(torch.from_numpy(at_y))[1]
    return a.numpy(), b.numpy()


@np.errstate(over="ignore", invalid="ignore")  # terms of a poor ratio may be as large as e^700
def weighted_mean(v: Array, weights: Array | None) -> tuple[float, float]:
    """The mean and its variance."""
    if weights is None:
        return float(v.mean()), float(v.var(ddof=1) / len(v))
    w = weights / weights.sum()
    mean = float(w @ v)
    return mean, float(np.square(w * (v - mean)).sum() / max(1 - np.square(w).sum(), 1e-12))
