"""Laws of estimators about what is true: bounds that hold, errors that shrink, and weights that mean repetition."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import MultivariateNormal

from divergences.testing.law import Claim, Example, Scope, at_most, equal, law
from divergences.testing.samples import ON, Samples, estimated, sampled
from divergences.testing.simplex import bounds
from divergences.testing.strategies import Strategy, gaussians
from divergences.testing.subject import Subject

DRAWS = 20
FACTOR = 25  # how many times more points
SLACK = 2.0  # the ratio of two root mean squares of 20 errors each has a standard error of 22%: three of them


@law(
    "D(x, y, 1/n, 1/m) = D(x, y)",
    "estimators that take weights, called as D(x, y, x_weights, y_weights)",
    on=ON,
    examples=sampled,
    call="x, y, x_weights, y_weights",
)
def equal_weights(D: Subject, sample: Samples) -> Iterator[Claim]:
    """Check that weights of 1/n are no weights."""
    x, y = sample
    a, b = (_like(np.full(len(z), 1 / len(z)), z) for z in (x, y))
    yield equal("D(x, y, 1/n, 1/m)", D(x, y, a, b), "D(x, y)", D(x, y))


@law(
    "D(x, y, i/Σi, j/Σj) = D of the samples with point k repeated i_k, j_k times",
    "estimators of the empirical laws (V-statistics, transport); a U-statistic leaves out pairs of repeated points",
    on=ON,
    examples=sampled,
    call="x, y, x_weights, y_weights",
)
def weights_are_repetition(D: Subject, sample: Samples) -> Iterator[Claim]:
    """Check what a weight means, zero included."""
    x, y = sample
    g = np.random.default_rng(sample.seed)
    i, j = (np.concatenate([[1, 2, 0], g.integers(0, 4, max(0, len(z) - 3))])[: len(z)] for z in (x, y))
    left = D(x, y, _like(i / i.sum(), x), _like(j / j.sum(), y))
    longer = [z[np.repeat(np.arange(len(z)), c)] for z, c in ((x, i), (y, j))]
    yield equal("D(x, y, i/i.sum(), j/j.sum())", left, "D(x repeated i times, y repeated j times)", D(*longer))


def _like(weights: np.ndarray[Any, Any], points: Any) -> Any:
    return torch.as_tensor(weights) if isinstance(points, Tensor) else weights


def of_gaussians(scope: Scope) -> Strategy[Example]:
    """Two Gaussian laws and samples of them."""
    return st.integers(*bounds(scope.d)).flatmap(
        lambda d: st.tuples(gaussians(d), gaussians(d), st.integers(*bounds(scope.n)), st.integers(0, 999)).map(
            lambda e: {"P": e[0], "Q": e[1], "n": e[2], "seed": e[3]}
        )
    )


@law(
    'estimate ≤ D(P, Q) + 6 stderr where its bound is "lower", ≥ D(P, Q) − 6 stderr where it is "upper"',
    "estimators with a method estimate; truth=, a function of two torch laws, gives D(P, Q)",
    on=ON,
    examples=of_gaussians,
    call="x, y",
    methods=("estimate",),
)
def bound_holds(D: Subject, P: Any, Q: Any, n: int, seed: int, *, truth: Callable[..., Any]) -> Iterator[Claim]:
    """Check the side on which an estimate of a known divergence lies."""
    g = np.random.default_rng(seed)
    x, y = (law.mean + torch.as_tensor(g.normal(size=(n, len(law.mean)))) @ law.scale_tril.mT for law in (P, Q))
    e, exact = estimated(D, x, y, seed=seed), Subject(truth, "truth")(P, Q)
    room = 6 * float(e.stderr or 0.0)
    if e.bound == "lower":
        yield at_most("e.value", float(e.value), "truth(P, Q) + 6*e.stderr", exact + room)
    elif e.bound == "upper":
        yield at_most("truth(P, Q) - 6*e.stderr", exact - room, "e.value", float(e.value))


def of_sizes(scope: Scope) -> Strategy[Example]:
    """A dimension and a seed: the laws are those of `Samples`."""
    return st.tuples(st.integers(*bounds(scope.d)), st.integers(0, 999)).map(lambda e: {"d": e[0], "seed": e[1]})


@law(
    "the root mean squared error, and the bias, fall as n^(-rate) from n = 40 to 1000, within three standard errors",
    "consistent estimators; rate=, and truth=, a function of two torch laws",
    on=ON,
    examples=of_sizes,
    call="x, y",
)
def error_shrinks(D: Subject, d: int, seed: int, *, truth: Callable[..., Any], rate: float) -> Iterator[Claim]:
    """Check the documented rate on N(0, I) and N(½, 0.8² I), by twenty samples of each size."""
    eye = torch.eye(d, dtype=torch.float64)
    P, Q = MultivariateNormal(0 * eye[0], eye), MultivariateNormal(0 * eye[0] + 0.5, 0.64 * eye)
    exact = Subject(truth, "truth")(P, Q)

    def moments(n: int) -> tuple[float, float]:
        errors = [D(*Samples(n, n, d, seed=1000 * seed + r)) - exact for r in range(DRAWS)]
        bias = sum(errors) / DRAWS
        return bias, sum((e - bias) ** 2 for e in errors) / (DRAWS - 1)

    (few_bias, few_variance), (bias, variance) = moments(40), moments(40 * FACTOR)
    fallen = FACTOR**-rate * math.hypot(few_bias, math.sqrt(few_variance))
    left = math.hypot(bias, math.sqrt(variance))
    yield at_most("rmse(n=1000)", left, f"{SLACK} * {FACTOR}**-rate * rmse(n=40)", SLACK * fallen)
    room = fallen + 3 * math.sqrt(variance / DRAWS)
    yield at_most("abs(bias(n=1000))", abs(bias), f"{FACTOR}**-rate * rmse(n=40) + 3 standard errors", room)
