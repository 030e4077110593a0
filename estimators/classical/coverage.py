"""Precision, recall, density and coverage: which part of a model's samples is realistic, and which data it misses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from estimators.classical.neighbors import METRICS, Array, nearest_others
from estimators.door import Samples, admit_thoroughly
from estimators.intervals import normal
from estimators.results import Estimate

NAMES = ("precision", "recall", "density", "coverage")
_BLOCKS = 20
_FEW = 8  # coordinates up to which differences cost no more than a matrix product
_CLOSED = 1 + 1e-9  # a copy of the neighbour that gives a ball its radius lies in it, whatever the rounding
_ALONE = 0.1  # of the points, which one ball holds and no other: from here on the value hangs on it
_TILE = 4_000_000  # distances at a time


@dataclass(frozen=True)
class PrecisionRecall:
    """Four `Estimate`s, and ``dropped``: the indices of the points of x (data) without a point of y (model) near.

    ``expected_coverage`` is the mean of coverage for P = Q at these sizes; that of density is 1.
    """

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate
    dropped: NDArray[np.int64]
    expected_coverage: float

    def to_dict(self) -> dict[str, Any]:
        """Every field as plain JSON types."""
        found: dict[str, Any] = {name: getattr(self, name).to_dict() for name in NAMES}
        return found | {"dropped": self.dropped.tolist(), "expected_coverage": self.expected_coverage}

    def __repr__(self) -> str:
        lines = []
        for name in NAMES:
            found: Estimate = getattr(self, name)
            limits = "no interval" if found.interval is None else "[{:.3f}, {:.3f}]".format(*found.interval)
            equal = f" ({self.expected_coverage:.3f} for P = Q)" if name == "coverage" else ""
            lines.append(f"{name:<9} {found.value:.3f} {limits}{equal}")
        lines.append(f"{len(self.dropped)} of {self.precision.n} points of x have no point of y near: see dropped")
        return "\n".join(lines)


def precision_recall(
    x: Any,
    y: Any,
    k: int = 5,
    metric: str = "euclidean",
    *,
    confidence: float = 0.95,
    seed: int | None = None,
    nan_policy: str = "raise",
) -> PrecisionRecall:
    """How much of the model y ~ Q lies among the data x ~ P, and how much of the data the model reaches.

    With B(x_i) the closed ball around x_i that reaches its k-th neighbour among the other x, B(y_j) the same for y,

        precision = mean_j 1[y_j in some B(x_i)],       recall   = mean_i 1[x_i in some B(y_j)],
        density   = Σ_ij 1[y_j ∈ B(x_i)]/(k m),         coverage = mean_i 1[some y_j ∈ B(x_i)].

    Precision and density fall where the model leaves the data; recall and coverage fall where it drops a mode. One
    outlier of x inflates precision, one of y recall; density and coverage, whose balls are all around x, withstand the
    second, and density rises by at most 1/k of the first. A note names the ball that alone covers a tenth of the points
    or more. They measure the supports, not the densities on them, and depend on n, m and k: compare models at equal
    sizes. For features of images (n, d) of a network, as for any points.

    Bound: "consistent" for the expectation of each at these n, m and k, not for a functional of P and Q.
    Shapes: x (n, d), y (m, d). Cost: O((n + m)² d), 20 times; memory O(n + m).
    Interval: normal with t of 19 degrees of freedom, by leaving out 20 random blocks of both samples; cut to [0, 1]
    but for density. At 0 and 1 the points agree and nothing is seen to vary: there it is the binomial (Clopper–Pearson)
    interval of n or m points. Refused with fewer than 5(k + 1) points a side.

    Raises:
        ValueError: k that is no integer, below 1 or not below n and m; an unknown metric; samples refused at the door.

    References: Kynkäänniemi, Karras, Laine, Lehtinen and Aila 2019, section 2; Naeem, Oh, Uh, Choi and Yoo 2020,
    section 3, with the expected coverage.

    Example:
        >>> g = np.random.default_rng(0)
        >>> x = np.concatenate([g.normal(-9, 1, (100, 2)), g.normal(9, 1, (100, 2))])  # two modes, of which y has one
        >>> found = precision_recall(x, g.normal(9, 1, (200, 2)))
        >>> found.precision.value > 0.9, found.recall.value < 0.6, bool((found.dropped < 100).sum() == 100)
        (True, True, True)
    """
    if not isinstance(k, int) or k < 1:
        raise ValueError(f"k must be an integer of at least 1: got {k!r}")
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}: got {metric!r}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1): got {confidence}")
    s = admit_thoroughly(x, y, minimum=k + 1, nan_policy=nan_policy)
    a, b = (part.cpu().numpy() for part in _centred(s))
    n, m = len(a), len(b)
    values, covered, alone = _four(a, b, k, metric)
    spread = _spread(a, b, k, metric, values, 0 if seed is None else seed)
    expected = 1 - math.exp(sum(math.log(n - j) - math.log(n + m - j) for j in range(1, k + 1)))
    about = (f"of the data (x) and the model (y) at n = {n}, m = {m}, k = {k}: compare at equal sizes",)
    results = {}
    for name, value, stderr in zip(NAMES, values, spread, strict=True):
        notes = s.notes + about
        if name == "coverage":
            notes += (f"for P = Q its mean is {expected:.4g}",)
        if name in alone and alone[name].share >= _ALONE:
            notes += (_warning(name, alone[name], k),)
        interval = None
        if math.isnan(stderr):
            notes += (f"no interval: it needs {5 * (k + 1)} points a side",)
        elif stderr == 0 and name != "density" and value in (0.0, 1.0):
            interval, notes = (
                _binomial(value, m if name == "precision" else n, confidence),
                (*notes, "binomial interval"),
            )
        else:
            low, high = normal(float(value), stderr, confidence, _BLOCKS - 1)
            interval = max(low, 0.0), high if name == "density" else min(high, 1.0)
        results[name] = Estimate(
            float(value), None if math.isnan(stderr) else float(stderr), interval, "consistent", name,
            f"precision_recall(k={k}, metric={metric!r})", n, m, notes, confidence, seed,
        )  # fmt: skip
    return PrecisionRecall(**results, dropped=np.flatnonzero(~covered), expected_coverage=expected)


def _centred(s: Samples) -> tuple[Any, Any]:
    centre = s.x.mean(0)
    return s.x - centre, s.y - centre


class _Alone(NamedTuple):
    """The point whose ball holds the most points that no other ball holds, and their share of all points."""

    point: int
    share: float

    @staticmethod
    def of(times: NDArray[np.int64], ball: NDArray[np.int64]) -> _Alone:
        """From how many balls hold each point, and one of them."""
        held = np.bincount(ball[times == 1], minlength=1)
        return _Alone(int(held.argmax()), float(held.max()) / len(times))


def _warning(name: str, alone: _Alone, k: int) -> str:
    around, of, other = ("x", "y", "density") if name == "precision" else ("y", "x", "coverage")
    why = f"one ball adds at most 1/k = {1 / k:.2g} to it" if name == "precision" else "its balls are all around x"
    return (
        f"the ball around point {alone.point} of {around} alone covers {alone.share:.1%} of {of}: if that point is an "
        f"outlier {name} is too large; drop outliers of {around}, or see {other}, which is less sensitive ({why})"
    )


def _four(a: Array, b: Array, k: int, metric: str) -> tuple[Array, NDArray[np.bool_], dict[str, _Alone]]:
    """The four values in the order of `NAMES`, which x are covered, and what hangs on one ball."""
    radius_a, radius_b = (nearest_others(part, k, metric)[0][:, -1] for part in (a, b))
    n, m = len(a), len(b)
    held_b, ball_b, held_a, ball_a, reached = (np.zeros(size, dtype=np.int64) for size in (m, m, n, n, n))
    rows = max(1, _TILE // m)
    for start in range(0, n, rows):
        part = slice(start, start + rows)
        distance = _distances(a[part], b, metric)
        inside = distance <= radius_a[part, None] * _CLOSED
        held_b += inside.sum(0)
        ball_b = np.where(inside.any(0), start + inside.argmax(0), ball_b)
        reached[part] = inside.sum(1)
        back = distance <= radius_b * _CLOSED
        held_a[part], ball_a[part] = back.sum(1), back.argmax(1)
    covered = reached > 0
    values = np.array([(held_b > 0).mean(), (held_a > 0).mean(), reached.sum() / (k * m), covered.mean()])
    return values, covered, {"precision": _Alone.of(held_b, ball_b), "recall": _Alone.of(held_a, ball_a)}


def _distances(a: Array, b: Array, metric: str) -> Array:
    from scipy.spatial.distance import cdist
    from sklearn.metrics.pairwise import euclidean_distances

    if metric == "euclidean" and a.shape[1] > _FEW:
        return np.asarray(euclidean_distances(a, b))
    return np.asarray(cdist(a, b, "minkowski", p=METRICS[metric]))


def _spread(a: Array, b: Array, k: int, metric: str, values: Array, seed: int) -> Array:
    """The standard errors by leaving out blocks of both samples, NaN where there are too few points."""
    if min(len(a), len(b)) < 5 * (k + 1):
        return np.full(4, math.nan)
    g = np.random.default_rng(seed)
    blocks = min(_BLOCKS, len(a) // 2, len(b) // 2)
    in_a, in_b = (g.permutation(np.arange(len(part)) % blocks) for part in (a, b))
    left = np.array([_four(a[in_a != j], b[in_b != j], k, metric)[0] for j in range(blocks)])
    return np.asarray(np.sqrt((blocks - 1) / blocks * ((left - left.mean(0)) ** 2).sum(0)))


def _binomial(value: float, size: int, confidence: float) -> tuple[float, float]:
    from scipy.stats import binomtest

    limits = binomtest(round(value * size), size).proportion_ci(confidence, method="exact")
    return float(limits.low), float(limits.high)
