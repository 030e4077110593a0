"""Measure the goals that are named (all of them by default) and keep the others' rows as they were."""

from __future__ import annotations

import argparse
import time

from benchmarks import results
from benchmarks.accuracy import GOALS, estimates, kernels, power  # noqa: F401 - the modules register their goals


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("goals", nargs="*", metavar="GOAL", help=f"of {', '.join(GOALS)}")
    parser.add_argument("--full", action="store_true", help="as many repetitions as the bar asks for (hours)")
    options = parser.parse_args()
    unknown = set(options.goals) - set(GOALS)
    if unknown:
        parser.error(f"unknown goal {min(unknown)!r}: choose from {', '.join(GOALS)}")
    for name in options.goals or GOALS:
        start = time.perf_counter()
        rows = []
        for row in GOALS[name](options.full):
            mark = {True: "met", False: "SHORT", None: "undecided"}[row.met]
            print(
                f"{name}  {row.problem} · {row.method} · n = {row.n}: {row.figure}  (bar: {row.bar or '–'}) {mark}",
                flush=True,
            )
            rows.append(row.to_dict(name))
        stored(name, rows, options.full, time.perf_counter() - start)


def stored(name: str, rows: list[dict[str, object]], full: bool, seconds: float) -> None:
    """Replace one goal's entry in the results: each goal carries the machine it was measured on."""
    found = results.read("accuracy") or {}
    goals = found.get("goals", {})
    tier = "full" if full else "fast"
    goals[name] = {"tier": tier, "seconds": round(seconds), "rows": rows, "machine": results.machine()}
    results.save("accuracy", "make accuracy", {"goals": {key: goals[key] for key in GOALS if key in goals}})


if __name__ == "__main__":
    main()
