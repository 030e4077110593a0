"""Measure the goals that are named (all of them by default); what else the table has stays as it was."""

from __future__ import annotations

import argparse
import hashlib
import time
from dataclasses import asdict
from typing import Any

from benchmarks import results
from benchmarks.accuracy import GOALS, Case, estimates, kernels, power  # noqa: F401 - the modules register their goals
from benchmarks.pages import ROOT


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("goals", nargs="*", metavar="GOAL", help=f"of {', '.join(GOALS)}")
    parser.add_argument("--full", action="store_true", help="as many repetitions as the bar asks for (hours)")
    parser.add_argument("--problem", metavar="TEXT", default="", help="only cases whose problem has this text")
    parser.add_argument("--resume", action="store_true", help="leave out what this code has measured")
    parser.add_argument(
        "--backwards", action="store_true", help="last case first: with --resume a second process helps"
    )
    options = parser.parse_args()
    unknown = set(options.goals) - set(GOALS)
    if unknown:
        parser.error(f"unknown goal {min(unknown)!r}: choose from {', '.join(GOALS)}")
    tier, at = "full" if options.full else "fast", code()
    for name in options.goals or GOALS:
        cases = list(GOALS[name](options.full))
        for case in reversed(cases) if options.backwards else cases:
            if options.problem not in case.problem:
                continue
            if options.resume and any(row["code"] == at for row in kept(name, tier, cases) if same(row, case)):
                continue
            start = time.perf_counter()
            figure = case.measure()
            mark = {True: "met", False: "SHORT", None: "undecided"}[figure.met]
            what = f"{case.problem} · {case.method} · n = {case.n}"
            print(f"{name}  {what}: {figure.figure}  (bar: {figure.bar or '–'}) {mark}", flush=True)
            row = {"goal": name, "problem": case.problem, "method": case.method, "n": case.n, **asdict(figure)}
            row |= {"seconds": round(time.perf_counter() - start), "code": at}
            stored(name, tier, cases, row)


def code() -> str:
    """A digest of the code that is measured and of what measures it."""
    files = sorted(
        path for folder in ("divergences", "estimators", "benchmarks") for path in (ROOT / folder).rglob("*.py")
    )
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def same(row: dict[str, Any], case: Case) -> bool:
    """Whether a stored row is the case's."""
    return (row["problem"], row["method"], row["n"]) == (case.problem, case.method, case.n)


def kept(name: str, tier: str, cases: list[Case]) -> list[dict[str, Any]]:
    """The rows of a goal that the file has at this tier and that are still its cases."""
    goal = (results.read("accuracy") or {}).get("goals", {}).get(name, {})
    rows = goal.get("rows", []) if goal.get("tier") == tier else []
    return [row for row in rows if "code" in row and any(same(row, case) for case in cases)]


def stored(name: str, tier: str, cases: list[Case], row: dict[str, Any]) -> None:
    """Put one row in its place: each goal carries the machine it was measured on."""
    rows = {(r["problem"], r["method"], r["n"]): r for r in [*kept(name, tier, cases), row]}
    ordered = [rows[key] for case in cases if (key := case[:3]) in rows]
    goals = (results.read("accuracy") or {}).get("goals", {})
    goals[name] = {"tier": tier, "rows": ordered, "machine": results.machine()}
    results.save("accuracy", "make accuracy", {"goals": {key: goals[key] for key in GOALS if key in goals}})


if __name__ == "__main__":
    main()
