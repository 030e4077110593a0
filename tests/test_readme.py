"""The README: its tables are those of `benchmarks/results/`, and its examples run."""

import doctest
from pathlib import Path

from benchmarks import readme
from benchmarks.pages import made

ROOT = Path(__file__).parent.parent


def test_its_tables_come_from_the_results():
    text = (ROOT / "README.md").read_text()
    assert made(text, readme.SECTIONS) == text, "run `make readme`"
    assert all(f"<!-- {name} -->" in text and f"<!-- end {name} -->" in text for name in readme.SECTIONS)


def test_its_examples_run():
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    done = doctest.testfile(str(ROOT / "README.md"), module_relative=False, optionflags=flags)
    assert done.attempted > 5 and done.failed == 0
