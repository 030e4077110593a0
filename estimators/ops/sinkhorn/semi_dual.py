"""The semi-dual of entropic transport maximised for a batch of problems at once, where branches would wait for a GPU.

As in `estimators/ops/native/transport.cpp`: f is exact given g, plain sweeps run while ε falls, then L-BFGS goes on in
g. What is a branch there is a choice by problem here, so that nothing but a look from time to time reads a number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

LN2 = 0.6931471805599453
MEMORY = 10  # pairs of steps and changes of the slope that L-BFGS goes by
ROUNDING = 4.0  # units of rounding, of ε, that a value of the dual may seem to fall by
STEEP = 0.9  # share of a slope that is left after a step which was too short
FURTHER, SHORTEST = 4.0, 1e-3
HIGHEST = 100.0  # exponent of what a column may hold: sums of it are numbers

# (hint, potentials of the other side, which side, ε, problems that count) -> log₂ Σ_j w_j 2^((hint_i + h_j − c_ij)·s)
Softmin = Callable[[Tensor, Tensor, int, Tensor, Tensor], Tensor]


class Tried(NamedTuple):
    """Potentials g (B, m) of problems, and what the dual is there; those without a name here as in the C++ source."""

    g: Tensor
    f: Tensor  # (B, n) exact for g
    down: Tensor  # Σ_i of the plan at (f, g)
    slope: Tensor
    target: Tensor  # g that is exact for f
    value: Tensor  # (B,) of the dual, up to a constant
    error: Tensor  # (B,) L1, of the columns


class SemiDual:
    """Problems with weights (B, n) and (B, m), whose costs ``softmin`` knows, in float64; ``eps`` is their rounding."""

    def __init__(self, softmin: Softmin, a: Tensor, b: Tensor, rho: Tensor | None, eps: float, symmetric: bool) -> None:
        self.softmin, self.a, self.b, self.rho, self.eps, self.symmetric = softmin, a, b, rho, eps, symmetric

    def evaluate(self, g: Tensor, f: Tensor, epsilon: Tensor, active: Tensor) -> Tried:
        """The dual at g; f is a guess of what is exact for it, which keeps digits."""
        a, b, e = self.a, self.b, epsilon[:, None]
        damp = 1.0 if self.rho is None else 1 / (1 + e / self.rho[:, None])
        unit = e * LN2
        f = damp * (f - unit * self.softmin(f, g, 0, epsilon, active))
        log_ratio = self.softmin(g, f, 1, epsilon, active)
        down = b * log_ratio.clamp(max=HIGHEST).exp2()
        target = damp * (g - unit * log_ratio)
        if self.rho is None:
            slope, value = b - down, (a * f).sum(-1) + (b * g).sum(-1)
        else:
            r = self.rho[:, None]
            slope = b * (-g / r).exp() - down
            value = -self.rho * ((a * torch.expm1(-f / r)).sum(-1) + (b * torch.expm1(-g / r)).sum(-1))
            value -= epsilon * (a * (-f / r).exp()).sum(-1)
        return Tried(g, f, down, slope, target, value, slope.abs().sum(-1))

    def anneal(self, f: Tensor, g: Tensor, epsilons: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Plain sweeps, one at each ε."""
        for epsilon in epsilons:
            found = self.evaluate(g, f, epsilon, torch.ones_like(epsilon, dtype=torch.bool))
            f, g = found.f, (found.g + found.f) / 2 if self.symmetric else found.target
        return f, g

    def start(self, f: Tensor, g: Tensor, epsilon: Tensor) -> Ascent:
        """L-BFGS from g."""
        return Ascent(self, self.evaluate(g, f, epsilon, torch.ones_like(epsilon, dtype=torch.bool)), epsilon)


class Ascent:
    """L-BFGS on a `SemiDual`, which goes on until the columns of each problem are right to ``goal`` in L1.

    Symmetric problems take averaged steps, g + (f − g)/2, which halve the error.
    References: Byrd, Nocedal and Schnabel 1994, theorem 2.2 (the direction by a few products, where the recursion of
    Nocedal and Wright 2006, algorithm 7.4, would be some 60 small launches).
    """

    def __init__(self, dual: SemiDual, best: Tried, epsilon: Tensor) -> None:
        self.dual, self.best, self.epsilon = dual, best, epsilon
        g = best.g
        self.steps, self.changes = g.new_zeros(2, len(g), MEMORY, g.shape[1]).unbind(0)
        self.pairs = g.new_zeros(len(g), MEMORY, dtype=torch.bool)  # the oldest first
        self.unit, self.length = torch.ones_like(epsilon), torch.ones_like(epsilon)
        self.inverse = torch.where(dual.b > 0, 1 / dual.b, 0.0)
        self.step = best.target - g

    def active(self, goal: Tensor) -> Tensor:
        """Problems whose columns are not yet right."""
        return ~(self.best.error <= goal)

    def advance(self, goal: Tensor) -> None:
        """One evaluation, and what follows from it; a problem that is solved is left as it is."""
        best, dual, active = self.best, self.dual, self.active(goal)
        if dual.symmetric:
            tried = dual.evaluate((best.g + best.f) / 2, best.f, self.epsilon, active)
            self.best = _chosen(active, tried, best)
            return
        at = best.g + self.length[:, None] * self.step
        tried = dual.evaluate(at, best.f, self.epsilon, active)
        better = active & (tried.value >= best.value - ROUNDING * dual.eps * self.epsilon)
        step, change = at - best.g, best.slope - tried.slope
        along = (step * change).sum(-1)
        curved = along > 1e-8 * (step.square().sum(-1) * change.square().sum(-1)).sqrt()
        too_short = (step * tried.slope).sum(-1) > STEEP * (step * best.slope).sum(-1)
        worse = active & ~better
        exhausted = worse & (self.length / FURTHER < SHORTEST)  # to the plain sweep, by which no value falls
        self._remember(better & curved, exhausted | (better & ~curved), step, change, along)
        self.best = _chosen(better, tried, best)
        self.length = torch.where(worse, self.length / FURTHER, torch.where(too_short, self.length * FURTHER, 1.0))
        self.length = torch.where(exhausted, 1.0, self.length)
        # Where the slope is nearly what it was: on, and further.
        turn = exhausted | (better & ~too_short)
        self.step = torch.where(turn[:, None], self._direction(), self.step)

    def _remember(self, push: Tensor, clear: Tensor, step: Tensor, change: Tensor, along: Tensor) -> None:
        one = push[:, None, None]
        for name, new in (("steps", step), ("changes", change)):
            old = getattr(self, name)
            setattr(self, name, torch.where(one, torch.cat([old[:, 1:], new[:, None]], 1), old))
        kept = torch.where(push[:, None], torch.cat([self.pairs[:, 1:], push[:, None]], 1), self.pairs)
        self.pairs = kept & ~clear[:, None]
        # The first guess of the inverse curvature is ε·damp/b, scaled to the last change.
        scaled = (change.square() * self.inverse).sum(-1)
        self.unit = torch.where(push, along / scaled, self.unit)

    def _direction(self) -> Tensor:
        """H·slope, H₀ = unit/b; without pairs the plain sweep."""
        q, pairs = self.best.slope[..., None], self.pairs[..., None]
        S, Y = torch.where(pairs, self.steps, 0.0), torch.where(pairs, self.changes, 0.0)
        H0 = self.unit[:, None] * self.inverse
        HY = (Y * H0[:, None]).mT
        SY = S @ Y.mT
        D = torch.diagonal(SY, dim1=-2, dim2=-1)
        R = SY.triu(1) + torch.diag_embed(torch.where(self.pairs, D, 1.0))
        p = torch.linalg.solve_triangular(R, S @ q, upper=True)
        rest = D[..., None] * p + Y @ (HY @ p - H0[..., None] * q)
        u = torch.linalg.solve_triangular(R.mT, rest, upper=False)
        found = H0[..., None] * q + S.mT @ u - HY @ p
        return torch.where(self.pairs.any(-1, keepdim=True), found[..., 0], self.best.target - self.best.g)


def _chosen(which: Tensor, new: Tried, old: Tried) -> Tried:
    return Tried(*(torch.where(which.reshape(-1, *[1] * (n.ndim - 1)), n, o) for n, o in zip(new, old, strict=True)))
