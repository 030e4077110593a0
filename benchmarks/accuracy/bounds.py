"""A13, A14: bounds by critics on problems with known answers: is the optimum reached, and do lower limits hold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

import estimators as est
from benchmarks.accuracy import Case, Figure, generator, goal
from benchmarks.known_problems import TABLE, Array, KnownProblem

OPTIMA = ("1", "2", "3 d=2", "3 d=5", "3 d=10", "8", "8 reversed", "9", "10")
LARGE = 2_000_000  # points a side to train with, and as many new ones to evaluate the critic on
SMALL, RUNS = 1000, 200
Bound = est.CriticEstimator


def of_kl() -> list[Bound]:
    return [est.Variational("kl"), est.Variational("kl", link="log_ratio"), est.DonskerVaradhan()]


def on_every_row() -> list[Bound]:
    """The other rows of the table that take no parameter, and the adversarial losses that bound one."""
    known = [name for name in est.names() if isinstance(est.as_estimator(name), est.Variational) and name != "kl"]
    return [*(est.Variational(name) for name in known), est.MinimaxGAN(), est.LeastSquares(), est.Hinge()]


def titled(estimator: Bound) -> str:
    """The name, the divergence and the link where it is not the default one."""
    parts = [estimator.divergence_name]
    if getattr(estimator, "link", "activation") != "activation":
        parts.append(f"link {estimator.link}")
    return f"{type(estimator).__name__}, {', '.join(parts)}"


def drawn(problem: KnownProblem, n: int, *key: int) -> tuple[Array, Array]:
    rng = generator(*key)
    return problem.p(rng, n), problem.q(rng, n)


@goal("A13")
def optima(full: bool) -> Iterator[Case]:
    n = LARGE if full else LARGE // 200
    for key in OPTIMA if full else OPTIMA[:2]:
        for estimator in of_kl():
            yield Case(TABLE[key].name, titled(estimator), n, partial(reached, TABLE[key], estimator, n, full))
    for estimator in on_every_row() if full else []:
        yield Case(TABLE["1"].name, titled(estimator), n, partial(reached, TABLE["1"], estimator, n, full))


def reached(problem: KnownProblem, estimator: Bound, n: int, full: bool) -> Figure:
    """The trained critic's bound over the truth, on so many new points that their noise is small."""
    truth = problem.truth(estimator.divergence_name)
    torch.set_num_threads(1)
    fitted = estimator.fit(*drawn(problem, n, 13, n), progress=False)
    found = fitted.estimate(*drawn(problem, n, 13, 0))
    error, noise = (found.value - truth) / abs(truth), (found.stderr or math.nan) / abs(truth)
    return Figure(
        1,
        f"{error:+.1%} ± {noise:.1%}",
        "within 2%",
        (abs(error) <= 0.02) if full else None,
        {"error": error, "se": noise, "truth": truth},
    )


@goal("A14")
def validity(full: bool) -> Iterator[Case]:
    runs = RUNS if full else 20
    for key, problem in TABLE.items():
        if math.isfinite(problem.truth("kl")):
            for estimator in of_kl()[0 if key == "1" else 1 :] if full else of_kl()[1:2]:
                yield Case(problem.name, titled(estimator), SMALL, partial(valid, problem, estimator, runs, full))
        if key in ("1", "15"):
            for estimator in on_every_row() if full else []:
                if math.isfinite(problem.truth(estimator.divergence_name)):
                    yield Case(problem.name, titled(estimator), SMALL, partial(valid, problem, estimator, runs, full))


def valid(problem: KnownProblem, estimator: Bound, runs: int, full: bool) -> Figure:
    """How often value and lower limit stay below the truth: what `estimate` does, with all runs as one stack."""
    truth = problem.truth(estimator.divergence_name)
    pairs = [drawn(problem, SMALL, 14, r) for r in range(runs)]
    x, y = (torch.from_numpy(np.stack(side)) for side in zip(*pairs, strict=True))
    seen = round(2 / 3 * SMALL)
    estimator.fit(x[:, :seen], y[:, :seen], progress=False)
    found = [one.estimate(a, b) for one, a, b in zip(estimator.unstacked(), x[:, seen:], y[:, seen:], strict=True)]
    limits = [e.interval[0] for e in found if e.interval is not None]
    rounding = 1e-6 * abs(truth)  # a bound that is reached, such as TV = 1, is met to single precision
    held = float(np.mean([low <= truth + rounding for low in limits])) if limits else math.nan
    mean = float(np.mean([e.value for e in found]))
    low = f", limit {np.mean(limits):.4g}" if limits else ""
    return Figure(
        runs,
        f"lower limit below the truth in {held:.1%} of {len(limits)} given; truth {truth:.4g}, mean value {mean:.4g}"
        + low,
        "≥ 95%, or refused",
        (not limits or held >= 0.95) if full else None,
        {"valid": held, "given": len(limits) / runs, "mean": mean, "truth": truth},
    )
