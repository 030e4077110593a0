"""A11: MMD and energy distance against closed forms: bias, the variance estimate, and what an offset costs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import estimators as est
from benchmarks.accuracy import Row, generator, goal, repeated
from divergences import kernels

# Problems 13 and 14; the kernel's variance is the square of its bandwidth.
PROBLEMS = (
    ("MMD², N(0,1), N(1,1), bandwidth 1", est.MMD(kernels.Gaussian(1.0)), 1, 0.1772676349),
    ("MMD², d = 10, unit shift, bandwidth √10", est.MMD(kernels.Gaussian(10**0.5)), 10, 0.0328016838),
    ("MMD², P = Q, d = 2, bandwidth 1", est.MMD(kernels.Gaussian(1.0)), 2, 0.0),
    ("energy distance, N(0,1), N(1,1)", est.EnergyDistance(), 1, 0.5418065793),
)


def drawn(d: int, shift: float, n: int, r: int) -> tuple[np.ndarray, np.ndarray]:
    rng = generator(11, n, d, r)
    x, y = rng.normal(size=(n, d)), rng.normal(size=(n, d))
    y[:, 0] += shift
    return x, y


@goal("A11")
def moments(full: bool) -> Iterator[Row]:
    for problem, estimator, d, truth in PROBLEMS:
        for n in (50, 200, 1000):
            draws = (40_000 if n < 1000 else 10_000) if full else (4000 if n < 1000 else 400)

            def one(r: int, n: int = n, d: int = d, truth: float = truth, estimator: est.Estimator = estimator):
                x, y = drawn(d, float(truth > 0), n, r)
                return estimator(x, y), estimator.variance(x, y)

            found = np.array(repeated(one, draws, f"{problem}, n = {n}"))
            values, variances = found.T
            bias = (values.mean() - truth) / (values.std(ddof=1) / np.sqrt(draws))
            squares = (values - values.mean()) ** 2
            ratio = variances.mean() / values.var(ddof=1)
            spread = np.hypot(squares.std() / squares.mean(), variances.std() / variances.mean())
            error = ratio * spread / np.sqrt(draws)
            yield Row(
                problem,
                type(estimator).__name__,
                n,
                draws,
                f"bias {bias:+.1f} SE, variance estimate {ratio:.3f} ± {error:.3f} of the variance",
                "|bias| ≤ 3 SE, variance within 2%",
                bool(abs(bias) <= 3 and abs(ratio - 1) <= 0.02) if full else None,
                {"bias_in_se": float(bias), "variance_ratio": float(ratio), "ratio_se": float(error)},
            )
    for problem, estimator, d, truth in PROBLEMS:
        if truth:
            yield offset(problem, estimator, d)


def offset(problem: str, estimator: est.Estimator, d: int) -> Row:
    """The value at an offset of 10⁶ against the value of the same points, rounded by that offset, moved back."""
    worst = 0.0
    for r in range(20):
        x, y = (z + 1e6 for z in drawn(d, 1.0, 500, r))
        moved, back = estimator(x, y), estimator(x - 1e6, y - 1e6)
        worst = max(worst, abs(moved - back))
    return Row(
        f"{problem}, all points moved by 10⁶",
        type(estimator).__name__,
        500,
        20,
        f"changed by {worst:.1e}",
        "≤ 1e-9 in float64",
        worst <= 1e-9,
        {"largest_change": worst},
    )
