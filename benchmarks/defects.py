"""`python -m benchmarks.defects`: the tables of docs/testing.md, from the laws and the planted defects; ``--check``."""

from __future__ import annotations

import sys
from functools import cache

import hypothesis

from benchmarks.pages import ROOT, main, table
from divergences import testing
from tests.divergences.correct import CORRECT
from tests.divergences.defects import DEFECTS, Defect

PAGE = ROOT / "docs" / "testing.md"


def laws() -> str:
    rows = []
    for law in testing.laws():
        needs = [f"`{name}=`" for name, needed in law.companions.items() if needed]
        checks = [f"`check_{group}`" for group in law.groups]
        about = ", ".join([*law.on, *(["needs " + ", ".join(needs)] if needs else [])])
        cells = [f"`{law.name}`", law.statement, law.applies, about, ", ".join(checks) or "–"]
        rows.append([cell.replace("|", "\\|") for cell in cells])
    return table(["law", "statement", "for", "arguments", "among all of"], rows)


@cache
def block(defect: Defect) -> str:
    """One defect, the law that catches it and what is printed."""
    violation = defect.run()
    if violation is not None:
        return f"**{defect.name}** is caught by `{violation.law}`:\n\n```text\n{violation}\n```"
    p, q, value = CORRECT[defect.of].value or (None, None, 0.0)
    found = float(defect.fn(p.copy(), q.copy()))
    call = f"D({p.tolist()}, {q.tolist()})"
    return f"**{defect.name}** obeys its laws, and only a value catches it: {call} = {found:.9g}, not {value:.9g}."


def version() -> str:
    return f"Printed with Hypothesis {hypothesis.__version__}. "


def defects() -> str:
    caught = sum(defect.caught_by is not None for defect in DEFECTS)
    summary = f"{caught} of {len(DEFECTS)} are caught by a law; the others need a known value."
    return "\n\n".join([version() + summary, *(block(defect) for defect in DEFECTS)])


SECTIONS = {"laws": laws, "defects": defects}

if __name__ == "__main__":
    sys.exit(main(PAGE, SECTIONS))
