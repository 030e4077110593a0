"""Pairs of laws with samplers, the exact log ratio, and truths that come from closed forms and quadrature alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special, stats

import divergences as dv

Array = NDArray[np.float64]
Sampler = Callable[[np.random.Generator, int], Array]
DRAWS = 400_000  # for variances of what has light tails, where a relative error of 1% is nothing


@dataclass(frozen=True)
class KnownProblem:
    """x ~ P, y ~ Q as (n, d) arrays, log p/q, and the laws as `divergences` takes them (or the truths themselves)."""

    name: str
    p: Sampler
    q: Sampler
    log_ratio: Callable[[Array], Array] | None
    laws: tuple[Any, Any] | None = None
    truths: dict[str, float] | None = None

    def truth(self, divergence: str) -> float:
        """D(P‖Q) by closed form or quadrature."""
        if self.truths and divergence in self.truths:
            return self.truths[divergence]
        if self.laws is None:
            raise ValueError(f"no truth of {divergence!r} for {self.name!r}")
        return float(dv.get(divergence)(*self.laws))

    @cached_property
    def _ratios(self) -> tuple[torch.Tensor, torch.Tensor]:
        rng = np.random.default_rng(20_000)
        assert self.log_ratio is not None  # a problem without one has no oracle
        return tuple(torch.from_numpy(self.log_ratio(draw(rng, DRAWS))) for draw in (self.p, self.q))  # type: ignore[return-value]

    def floor(self, divergence: str, n: int, m: int) -> float:
        """√(Var_P f'(r)/n + Var_Q f*(f'(r))/m), the smallest standard deviation without a model; inf where it is.

        Powers of r are exact, since their means by Monte Carlo may be anything; log r and bounded functions are drawn.
        """
        d = dv.get(divergence)
        if divergence == "kl":
            return math.sqrt(float(self._ratios[0].var()) / n + (self._power(2) - 1) / m)
        if divergence == "chi2":
            return math.sqrt(
                4 * (self._power(3) - self._power(2) ** 2) / n + (self._power(4) - self._power(2) ** 2) / m
            )
        if not math.isfinite(d.upper_bound):
            raise NotImplementedError(f"the floor of {divergence} is not exact: write it down")
        parts = [(d.derivative(u), d.conjugate(d.derivative(u))) for u in (z.exp() for z in self._ratios)]
        return math.sqrt(float(parts[0][0].var()) / n + float(parts[1][1].var()) / m)

    def _power(self, a: int) -> float:
        """∫ p^a q^(1−a), exact."""
        if self.laws is None:
            raise NotImplementedError(f"{self.name}: no laws to take ∫ p^{a} q^(1−{a}) from")
        return math.exp((a - 1) * float(dv.renyi(*self.laws, alpha=float(a))))


def scipy_pair(name: str, p: Any, q: Any, **truths: float) -> KnownProblem:
    """Two frozen one-dimensional laws of scipy."""
    density = "logpmf" if hasattr(p.dist, "logpmf") and not hasattr(p.dist, "pdf") else "logpdf"

    def log_ratio(points: Array) -> Array:
        return np.asarray(getattr(p, density)(points[:, 0]) - getattr(q, density)(points[:, 0]), dtype=float)

    def sampler(law: Any) -> Sampler:
        return lambda rng, n: np.asarray(law.rvs(size=(n, 1), random_state=rng), dtype=float)

    return KnownProblem(name, sampler(p), sampler(q), log_ratio, (p, q), truths)


def gaussian_pair(name: str, mean_p: Any, cov_p: Any, mean_q: Any, cov_q: Any) -> KnownProblem:
    """Two Gaussians of any dimension."""
    sides = [(np.asarray(m, float), np.asarray(c, float)) for m, c in ((mean_p, cov_p), (mean_q, cov_q))]
    laws = [torch.distributions.MultivariateNormal(torch.from_numpy(m), torch.from_numpy(c)) for m, c in sides]
    (mp, cp), (mq, cq) = sides

    def log_ratio(points: Array) -> Array:
        return np.asarray(stats.multivariate_normal(mp, cp).logpdf(points)
                          - stats.multivariate_normal(mq, cq).logpdf(points))  # fmt: skip

    def sampler(mean: Array, cov: Array) -> Sampler:
        root = np.linalg.cholesky(cov)
        return lambda rng, n: mean + rng.normal(size=(n, len(mean))) @ root.T

    return KnownProblem(name, sampler(mp, cp), sampler(mq, cq), log_ratio, (laws[0], laws[1]))


def shift(d: int, length: float) -> KnownProblem:
    """N(0, I) and N(μ, I) with ‖μ‖ = length, spread over all coordinates."""
    return gaussian_pair(
        f"shift {length:g}, d = {d}", np.zeros(d), np.eye(d), np.full(d, length / math.sqrt(d)), np.eye(d)
    )


def scaled(d: int, variance: float) -> KnownProblem:
    """N(0, I) and N(0, variance·I)."""
    return gaussian_pair(f"I ‖ {variance:g}I, d = {d}", np.zeros(d), np.eye(d), np.zeros(d), variance * np.eye(d))


def _two_modes() -> KnownProblem:
    def p(rng: np.random.Generator, n: int) -> Array:
        return rng.normal(size=(n, 1)) + 2 * rng.choice([-1.0, 1.0], size=(n, 1))

    def q(rng: np.random.Generator, n: int) -> Array:
        return math.sqrt(5) * rng.normal(size=(n, 1))

    def log_ratio(points: Array) -> Array:
        z = points[:, 0]
        modes = np.logaddexp(stats.norm.logpdf(z, -2), stats.norm.logpdf(z, 2)) - math.log(2)
        return np.asarray(modes - stats.norm.logpdf(z, 0, math.sqrt(5)))

    loc = torch.tensor([-2.0, 2.0], dtype=torch.float64)
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(2, dtype=torch.float64)),
        torch.distributions.Normal(loc, torch.ones_like(loc)),
    )
    return KnownProblem("½N(±2,1) ‖ N(0,5)", p, q, log_ratio, (mixture, stats.norm(0, math.sqrt(5))))


def categorical(name: str, p: Any, q: Any) -> KnownProblem:
    """Two laws on the first whole numbers."""
    p, q = np.asarray(p, float), np.asarray(q, float)
    with np.errstate(divide="ignore"):
        table = np.log(p) - np.log(q)

    def sampler(law: Array) -> Sampler:
        return lambda rng, n: rng.choice(len(law), size=(n, 1), p=law).astype(float)

    return KnownProblem(name, sampler(p), sampler(q), lambda points: table[points[:, 0].astype(int)], (p, q))


def student_shift(d: int, degrees: float, length: float) -> KnownProblem:
    """Independent Student coordinates, the first of them shifted; truths by quadrature of that coordinate."""
    p, q = stats.t(degrees), stats.t(degrees, loc=length)

    def sampler(loc: float) -> Sampler:
        move = np.eye(d)[0] * loc
        return lambda rng, n: rng.standard_t(degrees, size=(n, d)) + move

    def log_ratio(points: Array) -> Array:
        return np.asarray(p.logpdf(points[:, 0]) - q.logpdf(points[:, 0]))

    return KnownProblem(f"t({degrees:g}) shift {length:g}, d = {d}", sampler(0.0), sampler(length), log_ratio, (p, q))


def ring(shift: float) -> KnownProblem:
    """½N(±a, I) against ½N(±b, I) in the plane, a on the first axis and b on the second; truths by quadrature."""

    def sampler(axis: int) -> Sampler:
        def draw(rng: np.random.Generator, n: int) -> Array:
            z = rng.normal(size=(n, 2))
            z[:, axis] += shift * rng.choice([-1.0, 1.0], size=n)
            return z

        return draw

    def log_ratio(points: Array) -> Array:  # log cosh(s x₁) − log cosh(s x₂)
        u, v = (np.logaddexp(shift * points[:, i], -shift * points[:, i]) for i in (0, 1))
        return np.asarray(u - v)

    # E_P log cosh(s x₁) − E_P log cosh(s x₂), each over one coordinate by Gauss–Hermite
    nodes, weights = special.roots_hermitenorm(100)
    weights = weights / weights.sum()
    kl = weights @ (np.logaddexp(shift * (nodes + shift), -shift * (nodes + shift))
                    - np.logaddexp(shift * nodes, -shift * nodes))  # fmt: skip
    return KnownProblem(f"crossed modes ±{shift:g}", sampler(0), sampler(1), log_ratio, None, {"kl": float(kl)})


TABLE: dict[str, KnownProblem] = {
    "1": scipy_pair("N(0,1), N(1,1)", stats.norm(), stats.norm(1)),
    "2": scipy_pair("N(0,1), N(2,1)", stats.norm(), stats.norm(2)),
    "2b": scipy_pair("N(0,1) ‖ N(1,4)", stats.norm(), stats.norm(1, 2)),
    "2b reversed": scipy_pair("N(1,4) ‖ N(0,1)", stats.norm(1, 2), stats.norm()),
    **{f"3 d={d}": shift(d, 1.0) for d in (2, 5, 10)},
    "4": shift(10, 2.0),
    **{f"5 d={d}": scaled(d, 2.0) for d in (5, 10)},
    "6": scipy_pair("Exp(12) ‖ Exp(1)", stats.expon(scale=1 / 12), stats.expon()),
    "6 reversed": scipy_pair("Exp(1) ‖ Exp(12)", stats.expon(), stats.expon(scale=1 / 12)),
    "7": scipy_pair("U[0,½] ‖ U[0,1]", stats.uniform(0, 0.5), stats.uniform(0, 1)),
    "7 reversed": scipy_pair("U[0,1] ‖ U[0,½]", stats.uniform(0, 1), stats.uniform(0, 0.5)),
    "8": scipy_pair("Laplace ‖ N(0,2)", stats.laplace(), stats.norm(0, math.sqrt(2))),
    "8 reversed": scipy_pair("N(0,2) ‖ Laplace", stats.norm(0, math.sqrt(2)), stats.laplace()),
    "9": scipy_pair("Cauchy shift 1", stats.cauchy(), stats.cauchy(1)),
    "10": _two_modes(),
    "11": categorical("(0.1,0.2,0.3,0.4) ‖ uniform", [0.1, 0.2, 0.3, 0.4], [0.25] * 4),
    "15": scipy_pair("disjoint supports", stats.uniform(0, 1), stats.uniform(2, 1)),
}
# Other families, dimensions and tails, which were looked at while the rules of "auto" were chosen.
OTHERS: dict[str, KnownProblem] = {
    "equal": shift(3, 0.0),
    "t(4) shift": student_shift(3, 4.0, 1.0),
    "log-normal": scipy_pair("log-normal pair", stats.lognorm(1.0), stats.lognorm(0.9, scale=math.exp(0.5))),
    "gamma": scipy_pair("Gamma(2,1) ‖ Gamma(3,1)", stats.gamma(2), stats.gamma(3)),
    "beta": scipy_pair("Beta(2,3) ‖ U[0,1]", stats.beta(2, 3), stats.uniform()),
    "crossed modes": ring(1.5),
    "correlated": gaussian_pair("correlated ‖ I, d = 3", np.zeros(3), np.full((3, 3), 0.4) + 0.6 * np.eye(3),
                                np.full(3, 0.3), np.eye(3)),
    "binomial": categorical("Bin(6, 0.4) ‖ Bin(6, ½)", stats.binom(6, 0.4).pmf(range(7)),
                            stats.binom(6, 0.5).pmf(range(7))),
}  # fmt: skip
