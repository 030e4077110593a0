"""`make accuracy`: bias, RMSE and coverage of the estimators on problems whose answers are known on paper."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

import estimators as est
from benchmarks import results
from divergences import kernels

Sampler = Callable[[np.random.Generator, int], np.ndarray]


@dataclass(frozen=True)
class Problem:
    """x ~ P and y ~ Q, and the value of a divergence between them."""

    name: str
    truth: float
    p: Sampler
    q: Sampler
    estimator: est.Estimator
    n: int


def normal(d: int, shift: float = 0.0, variance: float = 1.0) -> Sampler:
    """N(shift·e₁, variance·I) in d dimensions."""
    mean = np.zeros(d)
    mean[0] = shift
    return lambda rng, n: mean + np.sqrt(variance) * rng.normal(size=(n, d))


KNN, GAUSSIAN = est.NearestNeighbor("kl"), est.MMD(kernels.Gaussian(1.0))
PROBLEMS = (
    Problem("KL, N(0,1) ‖ N(1,1)", 0.5, normal(1), normal(1, 1.0), KNN, 1000),
    Problem("KL, N(0,1) ‖ N(1,4)", 0.4431471806, normal(1), normal(1, 1.0, 4.0), KNN, 1000),
    Problem("KL, unit shift, d = 2", 0.5, normal(2), normal(2, 1.0), KNN, 1000),
    Problem("KL, unit shift, d = 5", 0.5, normal(5), normal(5, 1.0), KNN, 1000),
    Problem("KL, I ‖ 2I, d = 10", 0.965736, normal(10), normal(10, 0.0, 2.0), KNN, 1000),
    Problem("MMD², N(0,1), N(1,1), bandwidth 1", 0.1772676349, normal(1), normal(1, 1.0), GAUSSIAN, 200),
    Problem("MMD², N(0,1) twice, bandwidth 1", 0.0, normal(1), normal(1), GAUSSIAN, 200),
    Problem("energy distance, N(0,1), N(1,1)", 0.5418065793, normal(1), normal(1, 1.0), est.EnergyDistance(), 200),
    Problem("sliced W2, N(0,1), N(1,1)", 1.0, normal(1), normal(1, 1.0), est.SlicedWasserstein(projections=1), 500),
    Problem("Sinkhorn, N(0,1), N(1,1), blur 0.1", 1.0, normal(1), normal(1, 1.0), est.Sinkhorn(blur=0.1), 200),
)


def measure(problem: Problem, repetitions: int, seed: int) -> dict[str, float | str]:
    """Bias, RMSE and coverage over independent samples; repetition r is a function of (seed, r)."""
    values, covered, given = [], 0, 0
    for r in tqdm(range(repetitions), desc=problem.name, delay=2, leave=False):
        rng = np.random.default_rng([seed, r])
        found = problem.estimator.estimate(problem.p(rng, problem.n), problem.q(rng, problem.n), seed=r)
        values.append(found.value)
        if found.interval is not None:
            given += 1
            covered += found.interval[0] <= problem.truth <= found.interval[1]
    errors = np.asarray(values) - problem.truth
    return {
        "problem": problem.name,
        "estimator": type(problem.estimator).__name__,
        "n": problem.n,
        "truth": problem.truth,
        "bias": float(errors.mean()),
        "rmse": float(np.sqrt((errors**2).mean())),
        "coverage": covered / given if given else 0.0,
        "intervals": given,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=200)
    options = parser.parse_args()
    rows = [measure(problem, options.repetitions, seed=0) for problem in PROBLEMS]
    for row in rows:
        print(row)
    results.save("accuracy", "make accuracy", {"repetitions": options.repetitions, "rows": rows})


if __name__ == "__main__":
    main()
