"""Pairs of known laws with known answers, from closed forms typed as numbers. N(a, b) is mean and variance."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.distributions as td
from scipy import stats

INF = math.inf
LOG2 = math.log(2)
ROWS = {  # every row of the table, with parameters where it needs them
    "kl": {},
    "reverse_kl": {},
    "js": {},
    "jeffreys": {},
    "total_variation": {},
    "squared_hellinger": {},
    "pearson_chi2": {},
    "neyman_chi2": {},
    "le_cam": {},
    "alpha": {"alpha": 0.3},
    "hockey_stick": {"gamma": 2.0},
    "skew_js": {"weight": 0.3},
    "skew_kl": {"weight": 0.3},
    "gan": {},
}
MORE = [("alpha", {"alpha": a}) for a in (-1.5, 0.0, 0.5, 1.0, 2.0, 3.0)] + [
    ("hockey_stick", {"gamma": 0.5}),
    ("hockey_stick", {"gamma": 1.0}),
]


def normal(mean: float, variance: float) -> Any:
    return stats.norm(mean, math.sqrt(variance))


def gaussian(mean: Any, covariance: Any) -> td.MultivariateNormal:
    as_tensor = (torch.as_tensor(np.asarray(part, dtype=float)) for part in (mean, covariance))
    return td.MultivariateNormal(*as_tensor)


def unit_shift(d: int, length: float = 1.0) -> tuple[Any, Any]:
    return gaussian(np.full(d, length / math.sqrt(d)), np.eye(d)), gaussian(np.zeros(d), np.eye(d))


def mixture(means: list[float], deviation: float = 1.0) -> td.MixtureSameFamily:
    loc = torch.tensor(means, dtype=torch.float64)
    weights = torch.full_like(loc, 1 / len(means))
    return td.MixtureSameFamily(td.Categorical(weights), td.Normal(loc, torch.full_like(loc, deviation)))


@dataclass(frozen=True)
class Case:
    """Two laws, and D(P‖Q) by the name of the function; ``digits`` that the truths are given to."""

    name: str
    p: Any
    q: Any
    truths: dict[str, float]
    digits: float = 1e-10
    keywords: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


def _case_5(d: int) -> tuple[Any, Any]:
    return gaussian(np.zeros(d), np.eye(d)), gaussian(np.zeros(d), 2 * np.eye(d))


# The table of known truths; the numbers in the names are its rows.
CASES = [
    Case(
        "1 N(0,1) N(1,1)", normal(0, 1), normal(1, 1),
        {"kl": 0.5, "reverse_kl": 0.5, "jeffreys": 1.0, "js": 0.1114214822, "total_variation": 0.3829249225,
         "chi2": math.e - 1, "neyman_chi2": math.e - 1, "wasserstein": 1.0, "energy_distance": 0.5418065793,
         "bhattacharyya": 0.125, "squared_hellinger": 2 * (1 - math.exp(-0.125))},
    ),
    Case("2 N(0,1) N(2,1)", normal(0, 1), normal(2, 1), {"kl": 2.0, "js": 0.3368308203}),
    Case(
        "2b N(0,1) N(1,4)", normal(0, 1), normal(1, 4), {"kl": 0.4431471806, "reverse_kl": 1.3068528194},
    ),
    *[Case(f"3 unit shift d={d}", *unit_shift(d), {"kl": 0.5, "js": 0.1114214822}) for d in (2, 5, 10)],
    Case("4 shift 2 d=10", *unit_shift(10, 2.0), {"kl": 2.0}),
    Case("5 I 2I d=5", *_case_5(5), {"kl": 0.482868}, 1e-6),
    Case("5 I 2I d=10", *_case_5(10), {"kl": 0.965736}, 1e-6),
    Case(
        "6 Exp(12) Exp(1)", stats.expon(scale=1 / 12), stats.expon(), {"kl": 1.568240, "reverse_kl": 8.515093}, 1e-6
    ),
    Case("7 U[0,1/2] U[0,1]", stats.uniform(0, 0.5), stats.uniform(0, 1), {"kl": LOG2, "reverse_kl": INF}),
    Case(
        "8 Laplace N(0,2)", stats.laplace(), normal(0, 2), {"kl": 0.0723649429, "reverse_kl": 0.0560142242},
    ),
    Case("9 Cauchy shift 1", stats.cauchy(), stats.cauchy(1), {"kl": math.log(5 / 4), "wasserstein": 1.0}),
    Case("10 mixture N(0,5)", mixture([-2.0, 2.0]), normal(0, 5), {"kl": 0.1719987625}),
    Case("11 vectors", [0.1, 0.2, 0.3, 0.4], [0.25] * 4, {"kl": 0.1064401353, "js": 0.0278656135}),
    Case("15 disjoint vectors", [0.5, 0.5, 0.0], [0.0, 0.0, 1.0],
         {"kl": INF, "reverse_kl": INF, "jeffreys": INF, "chi2": INF, "neyman_chi2": INF, "bhattacharyya": INF,
          "js": LOG2, "total_variation": 1.0, "squared_hellinger": 2.0, "hellinger": 1.0, "le_cam": 2.0}),
    Case("15 disjoint uniforms", stats.uniform(0, 1), stats.uniform(2, 1),
         {"kl": INF, "reverse_kl": INF, "js": LOG2, "total_variation": 1.0, "squared_hellinger": 2.0,
          "wasserstein": 2.0, "kolmogorov_smirnov": 1.0}),
]  # fmt: skip
