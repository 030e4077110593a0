"""How f grows towards an infinite limit, and approaches a finite one: what bounds the terms of D_f in the tails.

With f̃(u) = f(u) − f'(1)(u − 1) ≥ 0, which falls on u ≤ 1 and rises on u ≥ 1, and u = p/q:

- by convexity q f̃ ≤ p·(f'(∞) − f'(1)) where u ≥ 1 and q f̃ ≤ q·(f(0) + f'(1)) where u ≤ 1, if the limits are finite;
- f̃ ≤ C u^a (1 + log u) on u ≥ 1 where f'(∞) = ∞: a is 1 for KL, 2 for Pearson's χ², α for α-divergences;
- f̃(0) − f̃(u) ≤ C u^a (1 − log u) on u ≤ 1 where f(0) is finite: with Σ q = 1 the terms q f̃(0) outside the windows
  are then known, and only p^a q^{1−a} has to be small there. One heavy tail of two is so no obstacle.

The same at the other end by exchanging the laws. C is the largest quotient on a grid of log u, which monotony extends
to all u between; beyond |log u| = 600, and for the exponents of an f that is not in the table, it is read off f.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch

from divergences._generator import FDivergence
from divergences.countable_sums import Plan
from divergences.countable_tails import Envelope

INF = math.inf
_FLAT = 700.0  # u^½ is below 1e−150 there


class Growth(NamedTuple):
    """C u^exponent (1 + |log u|)^logs; ``far`` is the log u beyond which f̃ is that power to rounding.

    ``exact`` says that the exponent is known, not read off f.
    """

    exponent: float
    logs: bool
    log_c: float
    far: float
    exact: bool


@lru_cache(maxsize=256)
def growth(d: FDivergence) -> Growth:
    """Return a bound on f̃(u) for u ≥ 1, where f'(∞) = ∞.

    Raises:
        NotImplementedError: f grows faster than any power.
    """
    known = _exponent_of_growth(d)
    far = 600.0
    while True:
        x = torch.linspace(0, far, 6001, dtype=torch.float64)
        logs = d.log_perspective(x, torch.zeros_like(x))[1].log()  # of f̃(u)/u
        if bool((logs[1:] < 700).all()) or far < 4:
            break
        far /= 2
    slopes = (logs[3001:] - logs[3000:-1]) / (x[1] - x[0])
    if far < 4 or not bool(slopes[-1] <= slopes[0] * 1.01 + 1e-3):
        raise NotImplementedError(f"{d!r} grows faster than a power of the ratio: its tail has no bound here")
    exponent, has_logs = known or (1 + max(float(slopes.max()), 0.0), True)
    quotient = (logs[1:] + x[1:]) - exponent * x[:-1]  # f̃ at the end of a cell bounds it there
    if has_logs:
        quotient = quotient - torch.log1p(x[:-1])
    return Growth(exponent, has_logs, float(quotient.max()), INF if exponent == 1 else far, known is not None)


def _exponent_of_growth(d: FDivergence) -> tuple[float, bool] | None:
    if d.row in ("kl", "jeffreys", "skew_kl"):
        return 1.0, True
    if d.row == "pearson_chi2":
        return 2.0, False
    if d.row == "alpha":
        order = float(d.arguments["alpha"])
        return order, order == 1
    return None


@lru_cache(maxsize=256)
def approach(d: FDivergence) -> Growth | None:
    """Return a bound on f̃(0) − f̃(u) = ∫ −f̃' over [0, u] for u ≤ 1; None where its exponent is not positive."""
    known = _exponent_of_approach(d)
    x = torch.linspace(0, 600, 6001, dtype=torch.float64)
    slopes = d._slope_at_one - d.derivative((-x).exp())  # rises with x
    if not bool(slopes.isfinite().all()) or not float(slopes[-1]) > 0:
        return None
    logs = slopes.clamp(min=1e-300).log()
    measured = 1 - max(float((logs[3001:] - logs[3000:-1]).max() / (x[1] - x[0])), 0.0)
    a, has_logs = known or (measured, True)
    if not a > 1e-3:
        return None
    quotient = logs[1:] - (1 - a) * x[:-1] - (torch.log1p(x[:-1]) if has_logs else 0)
    log_c = float(quotient.max()) + 0.01 + math.log(1 / a + (1 / a**2 if has_logs else 0))
    return Growth(a, has_logs, log_c, INF, known is not None)


def _exponent_of_approach(d: FDivergence) -> tuple[float, bool] | None:
    if d.row in ("kl", "js", "skew_js", "skew_kl", "gan"):
        return 1.0, True
    if d.row in ("total_variation", "hockey_stick", "pearson_chi2", "le_cam"):
        return 1.0, False
    if d.row == "squared_hellinger":
        return 0.5, False
    if d.row == "alpha":
        order = float(d.arguments["alpha"])
        return min(order, 1.0), order == 1
    return None


def plans(d: FDivergence) -> list[Plan]:
    """Return the ways to bound what is left out of D_f, the plainest first."""
    back = d.reversed()
    rises = [
        None if math.isfinite(limit) else growth(e) for limit, e in ((d.slope_at_infinity, d), (d.f_at_zero, back))
    ]
    p_limit, q_limit = limits(d)
    sides = []
    for rise, limit, swapped in ((rises[0], p_limit, False), (rises[1], q_limit, True)):
        if rise is not None:
            sides.append([_envelope(rise, swapped)])
        else:
            sides.append([Envelope(*_alone(swapped), log_c=math.log(limit))] if limit > 0 else [])
    result = [Plan((*sides[0], *sides[1]))]
    for swapped, row, limit, other in ((False, d, q_limit, p_limit), (True, back, p_limit, q_limit)):
        near = approach(row) if 0 < limit < INF else None
        if near is not None:  # where u > 1, q f̃(0) is at most p f̃(0)
            both = limit + (other if other < INF else 0.0)
            rise = rises[int(swapped)]
            own = (_envelope(near, swapped), Envelope(*_alone(swapped), log_c=math.log(both)))
            rest = {"p_rest" if swapped else "q_rest": limit}
            result.append(Plan(own if rise is None else (*own, _envelope(rise, swapped)), **rest))
    return result


class Power(NamedTuple):
    """Beyond |log u| = ``far``, f̃ divided by the larger mass is e^{rate·|log u|} times its value there, to rounding."""

    far: float
    rate: float


def powers(d: FDivergence) -> tuple[Power, Power]:
    """Return where f becomes a power, or its limit, towards u = ∞ and towards u = 0."""
    back = d.reversed()
    return _power(d.slope_at_infinity, d, back), _power(d.f_at_zero, back, d)


def _power(limit: float, d: FDivergence, back: FDivergence) -> Power:
    if math.isinf(limit):
        g = growth(d)
        return Power(g.far, g.exponent - 1)
    near = approach(back)
    return Power(_FLAT if near is not None and near.exponent >= 0.5 else INF, 0.0)


def limits(d: FDivergence) -> tuple[float, float]:
    """``(f̃'(∞), f̃(0))``, with f̃ shifted to vanish at 1: what a mass of P, or of Q, alone counts."""
    at_one = 0.0 if d._vanishes else float(d.f(1.0))
    return d.slope_at_infinity - d._slope_at_one, d.f_at_zero + d._slope_at_one - at_one


def _alone(swapped: bool) -> tuple[float, float]:
    return (0.0, 1.0) if swapped else (1.0, 0.0)


def _envelope(g: Growth, swapped: bool) -> Envelope:
    alpha, beta = (1 - g.exponent, g.exponent) if swapped else (g.exponent, 1 - g.exponent)
    return Envelope(alpha, beta, g.log_c, g.logs, common=True, exact=g.exact)
