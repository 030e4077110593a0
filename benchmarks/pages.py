"""Pages with generated sections: what stands between ``<!-- name -->`` and ``<!-- end name -->`` is made anew."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def made(text: str, sections: Mapping[str, Callable[[], str]]) -> str:
    """The page with each of its sections made anew.

    Raises:
        ValueError: a section that the page lacks.
    """
    for name, make in sections.items():
        body = make()
        marker = rf"(<!-- {name} -->\n).*?\n?(<!-- end {name} -->)"
        text, places = re.subn(marker, lambda m, body=body: f"{m[1]}{body}\n{m[2]}", text, flags=re.DOTALL)
        if places != 1:
            raise ValueError(f"the page must have one section {name!r}: it has {places}")
    return text


def main(page: Path, sections: Mapping[str, Callable[[], str]]) -> int:
    """Write the page, or with ``--check`` say by the exit status whether it is up to date."""
    before = page.read_text()
    after = made(before, sections)
    if "--check" in sys.argv[1:]:
        return int(before != after)
    page.write_text(after)
    return 0
