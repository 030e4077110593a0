"""A9: W1 by critics that are 1-Lipschitz by proof, on pairs with known truth from 2 to 128 dimensions."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from functools import partial

import estimators as est
from benchmarks import results
from benchmarks.accuracy import Case, Figure, generator, goal
from benchmarks.transport_problems import TransportProblem, problems

FULL, FAST = 200_000, 3_000  # points a side; with a third of them the critic is evaluated
PUBLISHED = "median 8.8%, worst 32%"  # of the best critic on such cones, Korotin et al. 2022


ALL, METHOD = "all pairs", "KantorovichRubinstein"


@goal("A9")
def critics(full: bool) -> Iterator[Case]:
    n = FULL if full else FAST
    for problem in problems() if full else problems()[:4]:
        yield Case(problem.name, METHOD, n, partial(lower_bound, problem, n, full))
    yield Case(ALL, METHOD, n, partial(over_all, n, full))


def over_all(n: int, full: bool) -> Figure:
    """Median and worst error over the pairs, of the rows that are stored."""
    names = {problem.name for problem in problems()}
    stored = (results.read("accuracy") or {}).get("goals", {}).get("A9", {"rows": []})["rows"]
    errors = [abs(row["values"]["error"]) for row in stored if row["problem"] in names and row["n"] == n]
    if not errors:
        return Figure(0, "no pair is measured", "median ≤ 3%", None)
    cones = [abs(row["values"]["error"]) for row in stored if "cones" in row["problem"] and row["n"] == n]
    median, worst = statistics.median(errors), max(errors)
    return Figure(
        len(errors),
        f"median error {median:.1%}, worst {worst:.1%}; of the {len(cones)} cones {statistics.median(cones):.1%}, "
        f"{max(cones):.1%} (published: {PUBLISHED})",
        "median ≤ 3%, worst ≤ 15%",
        (median <= 0.03 and worst <= 0.15) if full and len(errors) == len(names) else None,
        {"median": median, "worst": worst},
    )


def lower_bound(problem: TransportProblem, n: int, full: bool) -> Figure:
    """The signed error of one estimate with the one default configuration, what is proven, and the seconds."""
    truth = problem.truth()
    x, y = problem.draw(generator(9, n), n)
    start = time.perf_counter()
    found = est.KantorovichRubinstein().estimate(x, y, seed=0)
    seconds = time.perf_counter() - start
    error, low = found.value / truth - 1, found.interval[0] if found.interval else float("nan")
    chosen = next(note for note in found.notes if note.startswith("critic:")).removeprefix("critic: ").split(",")[0]
    proven = found.bound == "lower"
    return Figure(
        1,
        f"{error:+.1%}, lower limit {low / truth - 1:+.1%}, {'K = 1 proven' if proven else 'not proven'}, {chosen}, "
        f"{seconds:.0f} s",
        "|error| ≤ 15%, lower limit below the truth, K proven",
        (abs(error) <= 0.15 and low <= truth and proven) if full else None,
        {"error": error, "lower_limit": low, "truth": truth, "seconds": seconds},
    )
