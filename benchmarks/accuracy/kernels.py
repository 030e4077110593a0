"""A11: MMD and energy distance against closed forms: bias, the variance estimate, and what an offset costs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np

import estimators as est
from benchmarks.accuracy import Case, Figure, generator, goal, repeated
from divergences import kernels

# Problems 13 and 14; the kernel's variance is the square of its bandwidth.
PROBLEMS = (
    ("MMD², N(0,1), N(1,1), bandwidth 1", est.MMD(kernels.Gaussian(1.0)), 1, 0.1772676349),
    ("MMD², d = 10, unit shift, bandwidth √10", est.MMD(kernels.Gaussian(10**0.5)), 10, 0.0328016838),
    ("MMD², P = Q, d = 2, bandwidth 1", est.MMD(kernels.Gaussian(1.0)), 2, 0.0),
    ("energy distance, N(0,1), N(1,1)", est.EnergyDistance(), 1, 0.5418065793),
)


DRAWS = {50: 400_000, 200: 40_000, 1000: 10_000}  # the ratio of variances is to be known far better than to 2%
BATCH = {50: 500, 200: 20, 1000: 1}  # problems solved at once


def drawn(d: int, shift: float, n: int, key: int, problems: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = generator(11, n, d, key)
    x, y = rng.normal(size=(problems, n, d)), rng.normal(size=(problems, n, d))
    y[..., 0] += shift
    return x, y


@goal("A11")
def moments(full: bool) -> Iterator[Case]:
    for problem, estimator, d, truth in PROBLEMS:
        for n in BATCH:
            yield Case(problem, type(estimator).__name__, n, partial(unbiased, problem, estimator, d, truth, n, full))
    for problem, estimator, d, truth in PROBLEMS:
        if truth:
            title = f"{problem}, all points moved by 10⁶"
            yield Case(title, type(estimator).__name__, 500, partial(offset, estimator, d))


def unbiased(problem: str, estimator: est.Estimator, d: int, truth: float, n: int, full: bool) -> Figure:
    """The bias in standard errors, and the mean of the variance estimate over the variance."""
    draws = DRAWS[n] if full else DRAWS[n] // 100 + 300

    def some(key: int) -> np.ndarray:
        x, y = drawn(d, float(truth > 0), n, key, BATCH[n])
        return np.stack([np.asarray(estimator(x, y)), np.asarray(estimator.variance(x, y))], -1)

    found = np.concatenate(repeated(some, math.ceil(draws / BATCH[n]), f"{problem}, n = {n}"))
    draws, (values, variances) = len(found), found.T
    bias = (values.mean() - truth) / (values.std(ddof=1) / math.sqrt(draws))
    squares = (values - values.mean()) ** 2
    ratio = variances.mean() / values.var(ddof=1)
    error = ratio * np.hypot(squares.std() / squares.mean(), variances.std() / variances.mean()) / math.sqrt(draws)
    return Figure(
        draws,
        f"bias {bias:+.1f} SE, variance estimate {ratio:.3f} ± {error:.3f} of the variance",
        "|bias| ≤ 3 SE, variance within 2%",
        bool(abs(bias) <= 3 and abs(ratio - 1) <= 0.02) if full else None,
        {"bias_in_se": float(bias), "variance_ratio": float(ratio), "ratio_se": float(error)},
    )


def offset(estimator: est.Estimator, d: int) -> Figure:
    """The value at an offset of 10⁶ against the value of the same points, rounded by that offset, moved back."""
    worst = 0.0
    for r in range(20):
        x, y = (z[0] + 1e6 for z in drawn(d, 1.0, 500, r))
        worst = max(worst, abs(estimator(x, y) - estimator(x - 1e6, y - 1e6)))
    return Figure(20, f"changed by {worst:.1e}", "≤ 1e-9 in float64", worst <= 1e-9, {"largest_change": worst})
