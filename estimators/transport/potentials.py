"""Uncertainty from dual potentials: the derivative of a transport cost in its weights is its influence function.

With f on x and g on y the cost fluctuates as Σ f(x_i)/n + Σ g(y_j)/m does, whose variance is the spread of the
potentials. References: del Barrio and Loubes 2019, theorem 4.1; del Barrio, Gordaliza and Loubes 2019 (the line); del
Barrio et al. 2023 (entropic); Xi and Niles-Weed 2022 (sliced).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from estimators import intervals
from estimators.base import Inference, variance_of_mean
from estimators.door import Samples
from estimators.transport.ground_costs import weights_of

FEWEST = 8  # points a side
HEAVY = (
    0.3  # share of the variance in one point beyond which the limit is not normal yet; of 200 normal points about 4%
)


def potentials(cost: Callable[[Samples], Tensor], s: Samples) -> tuple[Tensor, Tensor]:
    """The derivatives f (n,) and g (m,) of ``cost`` in the weights of ``s``, up to constants."""
    with torch.enable_grad():
        a, b = (w.detach().clone().requires_grad_() for w in weights_of(s))
        f, g = torch.autograd.grad(cost(Samples(s.x.detach(), s.y.detach(), a, b)), (a, b))
    return f, g


def standard_error(f: Tensor, g: Tensor, s: Samples) -> float:
    """The standard error of a cost with potentials f and g."""
    return math.sqrt(sum(variance_of_mean(h, w) for h, w in ((f, s.x_weights), (g, s.y_weights))))


def refusal(f: Tensor, g: Tensor, s: Samples) -> str | None:
    """Why no normal limit may be used, if so: too few points, or one that makes up most of the variance."""
    if min(len(s.x), len(s.y)) < FEWEST:
        return f"no interval: needs at least {FEWEST} points a side"
    for name, h, w in (("x", f, s.x_weights), ("y", g, s.y_weights)):
        weights = torch.full_like(h, 1 / len(h)) if w is None else w
        if int((weights > 0).sum()) < FEWEST:
            return f"no interval: the weight of {name} lies on fewer than {FEWEST} points"
        squares = weights.square() * (h - (weights * h).sum()).square()
        share = float(squares.amax() / squares.sum()) if float(squares.sum()) > 0 else 0.0
        if share > HEAVY:
            return f"no interval: one point of {name} makes up {share:.0%} of its variance, so the limit is not normal"
    return None


def limits(value: float, stderr: float, bias: float, confidence: float, least: float = 0.0) -> Inference:
    """The interval of a cost whose upward bias falls at least as n^(−½), also where P = Q.

    The limits are value − bias − z·stderr, but at least ``least``, and value + z·stderr: transport between samples
    costs more than between laws, so that the bias, however large, moves the lower limit only.
    """
    half = intervals.half_width(stderr, confidence)
    below, above = max(bias, 0.0), max(-bias, 0.0)
    low, high = max(value - half - below, least), value + half + above
    note = f"interval: normal limit of the potentials, widened by an estimated bias of {bias:.3g}"
    if low == least:
        note += f"; it reaches {least:g}, where the limit is one-sided"
    return Inference(value, stderr, (low, high), (note,))
