"""A1–A5: the level of every named test on ten nulls, and the power of the default one on problems of the literature."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

import estimators as est
from benchmarks.accuracy import Case, Figure, generator, goal, repeated
from benchmarks.two_sample_problems import CONTINUOUS, NULLS, POWER, Pair
from estimators.two_sample import NAMES

ALPHA = 0.05
PERMUTATIONS = 299
FEW = 19  # the level is exact for any number; α(B + 1) = 1
SLOW = {"sinkhorn": 0.2, "emd": 0.2}  # share of the draws of the others, in the fast tier
LARGE = ("normal d=10", "binary d=3")  # the nulls at n = 2000, where kernels are in single precision


def rejected(pair: Pair, r: int, statistic: str = "auto", permutations: int = PERMUTATIONS) -> bool:
    return est.two_sample_test(*pair, statistic=statistic, permutations=permutations, seed=r).reject(ALPHA)


def share(problem: Callable[..., Pair], n: int, repetitions: int, title: str, key: int, **test: object) -> float:
    """How often a test rejects, repetition r a function of (key, n, r)."""

    def one(r: int) -> bool:
        return rejected(problem(generator(key, n, r), n), r, **test)

    return float(np.mean(repeated(one, repetitions, title)))


def error(p: float, repetitions: int) -> float:
    return math.sqrt(p * (1 - p) / repetitions)


@goal("A1")
def level(full: bool) -> Iterator[Case]:
    for statistic in NAMES:
        for n in (20, 200, 2000) if statistic == "auto" and full else (20,):
            draws = (500 if n == 2000 else 2000) if full else round(200 * SLOW.get(statistic, 1.0))
            nulls = {name: null for name, null in NULLS.items() if n < 2000 or name in LARGE}
            method = f"two_sample_test, {statistic}"
            yield Case(
                f"P = Q, {len(nulls)} pairs of laws", method, n, partial(levels, statistic, nulls, n, draws, full)
            )


def levels(statistic: str, nulls: dict[str, Callable[..., Pair]], n: int, draws: int, full: bool) -> Figure:
    """How often a test rejects on each null."""
    found = {
        name: share(null, n, draws, f"{statistic}, {name}", 1, statistic=statistic, permutations=FEW)
        for name, null in nulls.items()
    }
    smooth = [found[name] for name in CONTINUOUS if name in found]
    tied = [rate for name, rate in found.items() if name not in CONTINUOUS]
    room = 3 * error(ALPHA, draws)
    return Figure(
        draws,
        f"rejects {min(smooth):.3f}–{max(smooth):.3f}; with ties {min(tied):.3f}–{max(tied):.3f}",
        f"{max(0, ALPHA - room):.3f}–{ALPHA + room:.3f}; with ties at most that",
        (max(*smooth, *tied) <= ALPHA + room and min(smooth) >= ALPHA - room) if full else None,
        found,
    )


GOALS = {"A2": "HDGM", "A3": "Blob", "A4": "four modes", "A5": "perturbed uniform"}


def powers(name: str, full: bool) -> Iterator[Case]:
    repetitions = (1000 if name in ("A3", "A5") else 200) if full else 40
    for title, (problem, n, bar) in POWER.items():
        if title.startswith(GOALS[name]):
            measure = partial(power, title, problem, n, bar, repetitions, full)
            yield Case(title, f"two_sample_test, auto, {PERMUTATIONS} permutations", n, measure)


def power(title: str, problem: Callable[..., Pair], n: int, bar: float, repetitions: int, full: bool) -> Figure:
    """How often the default test rejects, and how often on a null of the same shape."""
    found = share(problem, n, repetitions, title, 2)
    same = share(_pooled(problem), n, repetitions, f"{title}, level", 3)
    return Figure(
        repetitions,
        f"power {found:.3f} ± {error(found, repetitions):.3f}, level {same:.3f} ± {error(same, repetitions):.3f}",
        f"≥ {bar:g}, at level 0.05",
        (found >= bar and same <= ALPHA + 3 * error(ALPHA, repetitions)) if full else None,
        {"power": found, "level": same},
    )


def _pooled(problem: Callable[..., Pair]) -> Callable[..., Pair]:
    """Both samples from the mixture of P and Q: a null of the same shape."""

    def null(rng: np.random.Generator, n: int) -> Pair:
        x, y = problem(rng, 2 * n)
        z = np.where(rng.integers(0, 2, (2 * n, 1)), x, y)
        return z[:n], z[n:]

    return null


@goal("A2")
def hdgm(full: bool) -> Iterator[Case]:
    yield from powers("A2", full)


@goal("A3")
def blob(full: bool) -> Iterator[Case]:
    yield from powers("A3", full)


@goal("A4")
def modes(full: bool) -> Iterator[Case]:
    yield from powers("A4", full)


@goal("A5")
def uniform(full: bool) -> Iterator[Case]:
    yield from powers("A5", full)
    yield Case("time, N(0, I), d = 10", f"two_sample_test, auto, {PERMUTATIONS} permutations", 500, timed)


def timed() -> Figure:
    """The default test at n = 500, d = 10 with 299 permutations, in this process."""
    rng = np.random.default_rng(0)
    seconds = []
    for r in range(5):
        x, y = rng.normal(size=(2, 500, 10))
        start = time.perf_counter()
        rejected((x, y), r)
        seconds.append(time.perf_counter() - start)
    middle = statistics.median(seconds)
    return Figure(5, f"{middle:.2f} s", "< 2 s", middle < 2, {"seconds": middle})
