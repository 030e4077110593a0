"""Two-sample problems from the literature, and nulls: functions of a NumPy generator that return the two samples.

The mode of every point is drawn at random: a fixed count for each mode would not be an independent sample.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

Pair = tuple[np.ndarray, np.ndarray]


def hdgm(rng: Generator, n: int, d: int = 10) -> Pair:
    """Liu et al. 2020: two modes, at 0 and 0.5·1; in Q coordinates 0 and 1 correlate +0.5 in one, −0.5 in the other."""

    def sample(correlation: float) -> np.ndarray:
        mode = rng.integers(0, 2, n)
        points = rng.normal(size=(n, d))
        rho = np.where(mode == 0, correlation, -correlation)
        points[:, 1] = rho * points[:, 0] + np.sqrt(1 - rho**2) * points[:, 1]
        return points + 0.5 * mode[:, None]

    return sample(0.0), sample(0.5)


def blob(rng: Generator, n: int, published: bool = False) -> Pair:
    """Liu et al. 2020: a 3×3 grid of modes, variance 0.03; in Q off-diagonals −0.02 − 0.002i and 0.02 + 0.002(i − 5).

    ``published``: points of Q are Y·L with the lower Cholesky factor L, as in the published code, so that their
    covariance is LᵀL in place of LLᵀ.
    """
    off = np.array([-0.02 - 0.002 * i if i < 4 else 0.0 if i == 4 else 0.02 + 0.002 * (i - 5) for i in range(9)])
    L = np.linalg.cholesky(0.03 * np.eye(2) + off[:, None, None] * np.array([[0.0, 1.0], [1.0, 0.0]]))
    modes = rng.integers(0, 9, (2, n))
    x, y = rng.normal(size=(2, n, 2))
    y = np.einsum("ni,nij->nj" if published else "nj,nij->ni", y, L[modes[1]])
    means = np.stack([modes // 3, modes % 3], -1)
    return np.sqrt(0.03) * x + means[0], y + means[1]


def four_modes(rng: Generator, n: int, scale: float = 1.3, d: int = 2) -> Pair:
    """Biggs et al. 2023: modes at (±20, ±20) with unit deviation, ``scale`` for that at (−20, −20) in Q."""

    def sample(last: float) -> np.ndarray:
        mode = rng.integers(0, 4, n)
        points = rng.normal(size=(n, d)) * np.where(mode == 3, last, 1.0)[:, None]
        points[:, 0] += np.where(mode & 1, -20.0, 20.0)
        points[:, 1] += np.where(mode & 2, -20.0, 20.0)
        return points

    return sample(1.0), sample(scale)


def perturbed_uniform(rng: Generator, n: int, d: int, scale: float, count: int = 2) -> Pair:
    """Schrab et al. 2023, eq. (17), with the amplitude of Biggs et al. 2023: a perturbed P and a uniform Q.

    The density of P is 1 + scale·Σ_j θ_j Π_i g(count·x_i − j_i) on the unit cube, with signs θ at random for each set
    and g two opposite bumps of height 1.
    """
    signs = rng.choice([-1.0, 1.0], size=(count,) * d)
    found = np.empty((0, d))
    while len(found) < n:
        u = rng.uniform(size=(4 * n, d))
        cell = np.minimum((count * u).astype(int), count - 1)
        density = 1 + scale * signs[tuple(cell.T)] * _bumps(count * u - cell).prod(-1)
        found = np.concatenate([found, u[rng.uniform(0, 1 + scale, 4 * n) < density]])
    return found[:n], rng.uniform(size=(n, d))


def _bumps(t: np.ndarray) -> np.ndarray:
    """exp(1 − 1/(1 − v²)) on each half of [0, 1], v from −1 to 1 there, the second half with the opposite sign."""
    v = 4 * (t % 0.5) - 1
    with np.errstate(divide="ignore", over="ignore"):
        height = np.where(np.abs(v) < 1, np.exp(1 - 1 / np.maximum(1 - v**2, 1e-300)), 0.0)
    return np.where(t < 0.5, height, -height)


POWER: dict[str, tuple[Callable[[Generator, int], Pair], int, float]] = {
    "HDGM d=10, n=2000": (hdgm, 2000, 0.99),
    "HDGM d=10, n=1000": (hdgm, 1000, 0.9),
    "Blob 3×3, n=180": (blob, 180, 0.985),
    "Blob 3×3 as published, n=180": (lambda rng, n: blob(rng, n, published=True), 180, 0.985),
    "four modes, n=500": (four_modes, 500, 0.70),
    "four modes, n=1000": (four_modes, 1000, 0.95),
    "perturbed uniform d=1, n=500": (lambda rng, n: perturbed_uniform(rng, n, 1, 0.2), 500, 0.30),
    "perturbed uniform d=2, n=1000": (lambda rng, n: perturbed_uniform(rng, n, 2, 0.4), 1000, 0.45),
}
"""The problem, n for each sample, and the power to reach at level 0.05."""


def _same(draw: Callable[[Generator, int], np.ndarray], ratio: float = 1.0) -> Callable[[Generator, int], Pair]:
    return lambda rng, n: (draw(rng, n), draw(rng, max(2, round(ratio * n))))


def _correlated(rng: Generator, n: int) -> np.ndarray:
    return rng.normal(size=(n, 1)) * 0.9 + rng.normal(size=(n, 5)) * 0.3


NULLS: dict[str, Callable[[Generator, int], Pair]] = {
    "normal d=1": _same(lambda rng, n: rng.normal(size=(n, 1))),
    "normal d=10": _same(lambda rng, n: rng.normal(size=(n, 10))),
    "correlated d=5": _same(_correlated),
    "unequal n, d=2": _same(lambda rng, n: rng.normal(size=(n, 2)), ratio=3.0),
    "Cauchy d=2": _same(lambda rng, n: rng.standard_cauchy(size=(n, 2))),
    "log-normal d=3, unequal n": _same(lambda rng, n: np.exp(2 * rng.normal(size=(n, 3))), ratio=0.5),
    "mixture d=2": _same(lambda rng, n: rng.normal(size=(n, 2)) + 6 * rng.integers(0, 3, (n, 1))),
    "binary d=3": _same(lambda rng, n: rng.integers(0, 2, (n, 3)).astype(float)),
    "Poisson d=2, unequal n": _same(lambda rng, n: rng.poisson(1.0, (n, 2)).astype(float), ratio=2.0),
    "rounded normal and a constant": _same(
        lambda rng, n: np.concatenate([rng.normal(size=(n, 2)).round(), np.ones((n, 1))], -1)
    ),
}
"""Pairs with P = Q, any n from 2; the last three have ties."""

CONTINUOUS = tuple(list(NULLS)[:7])
