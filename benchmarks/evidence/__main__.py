"""Measure the pieces of evidence that are named (all by default), draw them, and write docs/evidence.md anew."""

from __future__ import annotations

import argparse
import sys

from benchmarks import results
from benchmarks.evidence import demo, page, parallel_lines, pictures, vanishing_gradient
from benchmarks.pages import made

MEASURES = {
    "demo": demo.measure,
    "vanishing_gradient": vanishing_gradient.measure,
    "parallel_lines": parallel_lines.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.evidence", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASURES)}")
    names = parser.parse_args().names or list(MEASURES)
    if unknown := [name for name in names if name not in MEASURES]:
        parser.error(f"unknown evidence {unknown[0]!r}: choose from {', '.join(MEASURES)}")
    for name in names:
        print(name, file=sys.stderr, flush=True)
        found = MEASURES[name]()
        written = [results.save(name, "make evidence", found)]
        if name in page.PICTURED:
            written.append(pictures.keep(name, page.PICTURED[name].draw(found), found))
        print(f"written: {', '.join(map(str, written))}")
    page.PAGE.write_text(made(page.PAGE.read_text(), page.SECTIONS))


if __name__ == "__main__":
    main()
