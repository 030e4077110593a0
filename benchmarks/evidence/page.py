"""docs/evidence.md: each picture, what it shows in the numbers of its result, and what was measured on what."""

from __future__ import annotations

from functools import partial
from types import ModuleType

from benchmarks import results
from benchmarks.evidence import parallel_lines, pictures, vanishing_gradient
from benchmarks.pages import ROOT
from benchmarks.readme import source

PAGE = ROOT / "docs" / "evidence.md"
PICTURED: dict[str, ModuleType] = {"vanishing_gradient": vanishing_gradient, "parallel_lines": parallel_lines}


def section(name: str) -> str:
    """The picture of a piece, and its reading."""
    found, piece = results.read(name), PICTURED[name]
    if found is None:
        return "Not measured yet."
    picture = pictures.path(name).relative_to(ROOT).as_posix()
    return f"![{piece.TITLE}](../{picture})\n\n{piece.reading(found)}\n\n{source(found)}"


SECTIONS = {name: partial(section, name) for name in PICTURED}
