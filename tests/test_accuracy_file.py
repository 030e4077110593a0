"""The file of `make accuracy`: rows come one by one, are resumed, and few repetitions never replace many."""

import sys

import pytest

from benchmarks import accuracy, results
from benchmarks.accuracy import Case, Figure
from benchmarks.accuracy.__main__ import main


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Runs the command for a goal A1 of two rows; the list has what was measured."""
    calls = []

    def cases(full):
        for problem in ("one", "two"):
            yield Case(problem, "test", 10, lambda p=problem: (calls.append((p, full)), Figure(1, p, "", full))[1])

    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setitem(accuracy.GOALS, "A1", cases)

    def run(*arguments):
        calls.clear()
        monkeypatch.setattr(sys, "argv", ["accuracy", "A1", *arguments])
        main()
        return list(calls)

    return run


def rows():
    goal = results.read("accuracy")["goals"]["A1"]
    return goal["tier"], [row["problem"] for row in goal["rows"]]


def test_rows_are_stored_one_by_one_in_the_order_of_the_table(measured):
    assert measured("--full", "--problem", "two") == [("two", True)]
    assert rows() == ("full", ["two"])
    assert measured("--full", "--resume", "--backwards") == [("one", True)]
    assert rows() == ("full", ["one", "two"])


def test_few_repetitions_never_replace_many(measured, capsys):
    measured()
    assert rows() == ("fast", ["one", "two"])
    measured("--full", "--problem", "one")
    assert rows() == ("full", ["one"])
    assert measured() == [("one", False), ("two", False)]
    assert rows() == ("full", ["one"]) and "printed only" in capsys.readouterr().out


def test_a_goal_that_is_none(measured, capsys):
    with pytest.raises(SystemExit):
        measured("A99")
    assert "'A99'" in capsys.readouterr().err
