"""Pairs of laws in many dimensions whose W1 is known, with samplers: minima of cones, and what is not of cones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy import integrate, special, stats
from sklearn.datasets import load_digits

Array = NDArray[np.float64]
Pair = tuple[Array, Array]
HALF = 2.5  # the cube is [−2.5, 2.5]^D
DRAWS = 1_000_000  # for a truth that is a mean
CHUNK = 20_000


@dataclass(frozen=True)
class TransportProblem:
    """x ~ P, y ~ Q, each independent of the other, and W1."""

    name: str
    draw: Callable[[np.random.Generator, int], Pair]
    truth: Callable[[], float]


class ConesProblem:
    """Q uniform on the cube, and P what Q is when each point moves along its cone, u(y) = min_k (‖y − a_k‖ + b_k).

    Within the part of the cube where cone k is the least, each point lies on a ray from a_k, at a share t of the way to
    where the part ends; it moves to the share t⁸. That is along the gradient of u, 1-Lipschitz, so that W1 is the mean
    distance. (Made as in Korotin, Kolesov and Burnaev 2022.)
    """

    def __init__(self, D: int, N: int, seed: int) -> None:
        rng = np.random.default_rng([9, D, N, seed])
        self.D, self.N = D, N
        self.centers = rng.uniform(-HALF, HALF, (N, D))
        self.heights = 0.1 * rng.normal(size=N)

    def moved(self, y: Array) -> Array:
        """T(y)."""
        a, b = self.centers, self.heights
        squares = np.square(y).sum(1)[:, None] + np.square(a).sum(1) - 2 * y @ a.T
        k = (np.sqrt(np.maximum(squares, 0)) + b).argmin(1)
        start = a[k]
        r = np.linalg.norm(y - start, axis=1)
        e = (y - start) / r[:, None]
        with np.errstate(divide="ignore", invalid="ignore"):
            to_wall = np.where(e > 0, (HALF - start) / e, np.where(e < 0, (-HALF - start) / e, np.inf)).min(1)
            # on the ray, s + b_k = ‖start + s e − a_j‖ + b_j where s = (‖w‖² − δ²)/(2(δ − ⟨w, e⟩)), w = start − a_j
            gap = np.square(start).sum(1)[:, None] + np.square(a).sum(1) - 2 * start @ a.T
            along = np.einsum("nd,nd->n", start, e)[:, None] - e @ a.T
            delta = b[k][:, None] - b
            s = np.where(delta > along, (gap - delta**2) / (2 * (delta - along)), np.inf)
        s[np.arange(len(y)), k] = np.inf
        end = np.minimum(to_wall, np.where(s > 0, s, np.inf).min(1))
        share = np.minimum(r / end, 1.0)
        return np.asarray(start + (end * share**8)[:, None] * e)

    def draw(self, rng: np.random.Generator, n: int) -> Pair:
        """Points of P and of Q, not those that they came from."""
        first, y = rng.uniform(-HALF, HALF, (2, n, self.D))
        x = np.concatenate([self.moved(first[i : i + CHUNK]) for i in range(0, n, CHUNK)])
        return x, y

    def truth(self) -> float:
        """E‖Y − T(Y)‖ by the mean of 10⁶ draws."""
        rng = np.random.default_rng([9, self.D, self.N, 10**6])
        total = 0.0
        for _ in range(DRAWS // CHUNK):
            y = rng.uniform(-HALF, HALF, (CHUNK, self.D))
            total += float(np.linalg.norm(y - self.moved(y), axis=1).sum())
        return total / DRAWS


def _rotation(D: int) -> Array:
    return np.asarray(stats.special_ortho_group.rvs(D, random_state=D))


def _along_a_line(name: str, D: int, p: tuple[float, float, float], q: tuple[float, float, float]) -> TransportProblem:
    """Normal mixtures (weight, mean of the first, mean of the second) in one direction, and equal noise in the others.

    The noise is a product, so that W1 is that of the direction, ∫|F − G|.
    """
    axes = _rotation(D)

    def one(rng: np.random.Generator, n: int, law: tuple[float, float, float]) -> Array:
        z = rng.normal(size=(n, D))
        z[:, 0] += np.where(rng.uniform(size=n) < law[0], law[1], law[2])
        return np.asarray(z @ axes)

    def cdf(u: float, law: tuple[float, float, float]) -> float:
        weight, low, high = law
        return float(weight * stats.norm.cdf(u - low) + (1 - weight) * stats.norm.cdf(u - high))

    def truth() -> float:
        return float(integrate.quad(lambda u: abs(cdf(u, p) - cdf(u, q)), -20, 20, limit=500, epsabs=1e-10)[0])

    return TransportProblem(name, lambda rng, n: (one(rng, n, p), one(rng, n, q)), truth)


def _shift(D: int) -> TransportProblem:
    axis = _rotation(D)[0]
    return TransportProblem(
        f"normal, unit shift, D = {D}",
        lambda rng, n: (rng.normal(size=(n, D)) + axis, rng.normal(size=(n, D))),
        lambda: 1.0,
    )


def _scale(D: int) -> TransportProblem:
    norm = math.sqrt(2) * math.exp(special.gammaln((D + 1) / 2) - special.gammaln(D / 2))
    return TransportProblem(
        f"N(0, I), N(0, 2.25 I), D = {D}",
        lambda rng, n: (rng.normal(size=(n, D)), 1.5 * rng.normal(size=(n, D))),
        lambda: 0.5 * norm,  # u = ‖·‖ and the plan z → 1.5z agree
    )


@cache
def _digits() -> Array:
    return np.asarray(load_digits().data / 16)


def _digit_images() -> TransportProblem:
    """8 × 8 digits with a little noise, and the same darker by a fifth: W1 = E‖0.2 z‖ by u = ‖·‖ and z → 0.8z."""

    def drawn(rng: np.random.Generator, n: int) -> Array:
        images = _digits()
        return np.asarray(images[rng.integers(0, len(images), n)] + 0.05 * rng.normal(size=(n, images.shape[1])))

    def truth() -> float:
        rng = np.random.default_rng([9, 64])
        return 0.2 * float(np.mean([np.linalg.norm(drawn(rng, CHUNK), axis=1).mean() for _ in range(DRAWS // CHUNK)]))

    return TransportProblem(
        "digits, darker by a fifth, D = 64", lambda rng, n: (drawn(rng, n), 0.8 * drawn(rng, n)), truth
    )


def problems() -> list[TransportProblem]:
    """Twelve pairs of cones and eight others."""
    cones = [(D, N, ConesProblem(D, N, 0)) for D in (2, 16, 64, 128) for N in (4, 16, 64)]
    return [
        *(TransportProblem(f"{N} cones, D = {D}", made.draw, made.truth) for D, N, made in cones),
        _shift(2),
        _shift(64),
        _scale(2),
        _scale(16),
        _along_a_line("modes drawn together, D = 2", 2, (0.5, -3.0, 3.0), (0.5, -1.5, 1.5)),
        _along_a_line("modes drawn together, D = 16", 16, (0.5, -3.0, 3.0), (0.5, -1.5, 1.5)),
        _along_a_line("modes of other weight, D = 16", 16, (0.3, -3.0, 3.0), (0.5, -3.0, 3.0)),
        _digit_images(),
    ]
