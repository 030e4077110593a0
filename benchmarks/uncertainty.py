"""`python -m benchmarks.uncertainty`: docs/uncertainty.md's table, from the estimators' docstrings; ``--check``."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator

import estimators as est
from benchmarks.pages import ROOT, main

PAGE = ROOT / "docs" / "uncertainty.md"
PARTS = ("Bound", "Rate", "Interval", "References")
ABSTRACT = (est.Estimator, est.CriticEstimator)


def estimators() -> Iterator[type[est.Estimator]]:
    """Every public estimator, in the order of their names."""
    for name in est.__all__:
        found = getattr(est, name)
        if inspect.isclass(found) and issubclass(found, est.Estimator) and found not in ABSTRACT:
            yield found


def parts(estimator: type[est.Estimator]) -> dict[str, str]:
    """The parts of a docstring by their heads, its own before its base's; a part ends where the next head stands."""
    found: dict[str, str] = {}
    for cls in estimator.__mro__:
        if not issubclass(cls, est.Estimator) or cls in ABSTRACT:
            break
        pieces = re.split(r"^([A-Z][a-z]+):", inspect.cleandoc(cls.__doc__ or ""), flags=re.MULTILINE)
        own = {head: " ".join(body.split()) for head, body in zip(pieces[1::2], pieces[2::2], strict=True)}
        found = own | found
    return found


def entries() -> str:
    blocks = []
    for estimator in estimators():
        found = parts(estimator)
        sentence = inspect.cleandoc(estimator.__doc__ or "").splitlines()[0]
        lines = [f"- **{head}.** {_capital(found[head])}" for head in PARTS if head in found]
        blocks.append("\n".join([f"### `{estimator.__name__}`", "", sentence, "", *lines]))
    return "\n\n".join(blocks)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:] if not text.startswith("n^") else text


SECTIONS = {"estimators": entries}

if __name__ == "__main__":
    sys.exit(main(PAGE, SECTIONS))
