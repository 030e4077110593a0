"""Measure the goals that are named (all of them by default); what else the table has stays as it was."""

from __future__ import annotations

import argparse
import hashlib
import time
from dataclasses import asdict
from typing import Any

from filelock import FileLock

from benchmarks import results
from benchmarks.accuracy import TITLES, Case
from benchmarks.accuracy.goals import GOALS
from benchmarks.pages import ROOT


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy", description=__doc__)
    parser.add_argument("goals", nargs="*", metavar="GOAL", help=f"of {', '.join(TITLES)}")
    parser.add_argument(
        "--full",
        action="store_true",
        help="as many repetitions as the bar asks for (hours); without it a goal stored in full is only printed",
    )
    parser.add_argument("--problem", metavar="TEXT", default="", help="only cases whose problem has this text")
    parser.add_argument("--resume", action="store_true", help="leave out what this code has measured")
    parser.add_argument(
        "--backwards", action="store_true", help="last case first: with --resume a second process helps"
    )
    options = parser.parse_args()
    unknown = set(options.goals) - set(GOALS)
    if unknown:
        parser.error(f"unknown goal {min(unknown)!r}: choose from {', '.join(TITLES)}")
    tier, at = "full" if options.full else "fast", code()
    for name in options.goals or TITLES:
        cases = list(GOALS[name](options.full))
        if keep := tier == "fast" and on_file(name)["tier"] == "full":
            print(f"{name}  is stored with all repetitions; these, of fewer, are printed only", flush=True)
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
            if not keep:
                stored(name, tier, cases, row)


def code() -> str:
    """A digest of the code that is measured and of what measures it."""
    files = sorted(
        path for folder in ("divergences", "estimators", "benchmarks") for path in (ROOT / folder).rglob("*.py")
    )
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def on_file(name: str) -> dict[str, Any]:
    """What the file has of a goal."""
    return dict((results.read("accuracy") or {}).get("goals", {}).get(name, {"tier": None, "rows": []}))


def same(row: dict[str, Any], case: Case) -> bool:
    """Whether a stored row is the case's."""
    return (row["problem"], row["method"], row["n"]) == (case.problem, case.method, case.n)


def kept(name: str, tier: str, cases: list[Case]) -> list[dict[str, Any]]:
    """The rows of a goal that the file has at this tier and that are still its cases."""
    goal = on_file(name)
    rows = goal["rows"] if goal["tier"] == tier else []
    return [row for row in rows if "code" in row and any(same(row, case) for case in cases)]


def stored(name: str, tier: str, cases: list[Case], row: dict[str, Any]) -> None:
    """Put one row in its place: each goal carries the machine it was measured on."""
    with FileLock(results.FOLDER / "accuracy.lock"):  # another process may be measuring other rows
        _stored(name, tier, cases, row)


def _stored(name: str, tier: str, cases: list[Case], row: dict[str, Any]) -> None:
    rows = {(r["problem"], r["method"], r["n"]): r for r in [*kept(name, tier, cases), row]}
    ordered = [rows[key] for case in cases if (key := case[:3]) in rows]
    goals = (results.read("accuracy") or {}).get("goals", {})
    goals[name] = {"tier": tier, "rows": ordered, "machine": results.machine()}
    results.save("accuracy", "make accuracy", {"goals": {key: goals[key] for key in TITLES if key in goals}})


if __name__ == "__main__":
    main()
