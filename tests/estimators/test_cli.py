import json
import subprocess
import sys

import numpy as np
import pytest

from estimators.cli import main


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("ref.npy", rng.normal(size=(80, 2)))
    np.save("same.npy", rng.normal(size=(80, 2)))
    np.save("other.npy", rng.normal(2.0, 1.0, size=(80, 2)))
    np.save("wide.npy", rng.normal(size=(80, 3)))
    np.save("empty.npy", np.empty((0, 2)))
    np.save("nan.npy", np.where(np.arange(160).reshape(80, 2) == 5, np.nan, 0.5))
    (tmp_path / "a.csv").write_text("age,city\n" + "\n".join(f"{20 + i % 30},{'xy'[i % 2]}" for i in range(60)))
    (tmp_path / "b.csv").write_text("city,age\n" + "\n".join(f"{'xy'[i % 2]},{50 + i % 30}" for i in range(60)))
    (tmp_path / "short.csv").write_text("age,city\n1,x\n2\n")
    return tmp_path


def run(capsys, *argv):
    status = main(argv)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


QUICK = ("--permutations", "99")


def test_compare(files, capsys):
    status, out, err = run(capsys, "compare", "a.csv", "b.csv", "--html", "a.html", *QUICK)
    assert (status, err) == (0, "")
    assert "1 of 2 columns differs" in out
    assert "'age'" in out
    assert "divergences compare a.csv b.csv --html a.html --seed 0" in (files / "a.html").read_text(encoding="utf-8")


def test_compare_json(files, capsys):
    status, out, _ = run(capsys, "compare", "ref.npy", "other.npy", "--json", "--seed", "3", "--columns", "x1", *QUICK)
    data = json.loads(out)
    assert (status, data["seed"], [row["column"] for row in data["rows"]]) == (0, 3, ["x1"])


def test_fail_on_difference(files, capsys):
    assert run(capsys, "compare", "ref.npy", "other.npy", "--fail-on-difference", *QUICK)[0] == 1
    assert run(capsys, "compare", "ref.npy", "ref.npy", "--fail-on-difference", *QUICK)[0] == 0
    assert run(capsys, "compare", "ref.npy", "wide.npy", "--fail-on-difference", *QUICK)[0] == 1


def test_compare_counts_missing_values(files, capsys):
    status, out, _ = run(capsys, "compare", "ref.npy", "nan.npy", "--json", *QUICK)
    rows = {row["column"]: row for row in json.loads(out)["rows"]}
    assert status == 0
    assert (rows["x0"]["missing_cur"], rows["x1"]["missing_cur"]) == (0, 1)


def test_estimate_and_test(files, capsys):
    status, out, _ = run(capsys, "estimate", "kl", "ref.npy", "other.npy", "--method", "knn", "--json")
    assert status == 0
    assert json.loads(out)["value"] == pytest.approx(4.0, abs=2.0)  # ½·‖shift‖² = 4
    status, out, _ = run(capsys, "test", "ref.npy", "other.npy", "--statistic", "mmd", "--json", *QUICK)
    assert status == 0
    assert json.loads(out)["p_value"] == pytest.approx(0.01)


def test_options_of_a_divergence_and_its_estimator(files, capsys):
    half = json.loads(run(capsys, *"estimate renyi ref.npy other.npy --option alpha=0.5 --json".split())[1])
    bhattacharyya = json.loads(run(capsys, *"estimate bhattacharyya ref.npy other.npy --json".split())[1])
    assert half["value"] == pytest.approx(2 * bhattacharyya["value"])
    wide, narrow = (
        json.loads(run(capsys, *f"estimate wasserstein ref.npy other.npy --option order=2 {c} --json".split())[1])
        for c in ("--confidence 0.99", "")
    )
    assert wide["interval"][0] < narrow["interval"][0] < narrow["interval"][1] < wide["interval"][1]


@pytest.mark.parametrize("command", ["estimate energy_distance", "test --statistic mmd --permutations 19"])
def test_rows_with_missing_values_are_dropped_where_asked(files, capsys, command):
    status, out, _ = run(capsys, *command.split(), "ref.npy", "nan.npy", "--drop-missing", "--json")
    assert status == 0
    found = json.loads(out)
    assert (found["n"], found["m"]) == (len(np.load("ref.npy")), len(np.load("nan.npy")) - 1)
    assert any("1 of" in note and "dropped for NaN" in note for note in found["notes"])


def test_list(files, capsys):
    status, out, _ = run(capsys, "list", "--json")
    assert status == 0
    assert {"kl", "mmd", "sinkhorn"} <= set(json.loads(out)["estimate"])
    for name in json.loads(out)["more"]:  # each is estimated, or asks for its parameter
        _, out, err = run(capsys, "estimate", name, "ref.npy", "same.npy", "--json")
        assert out or "needs its parameter" in err
    assert "sliced_wasserstein" in run(capsys, "list")[1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("compare ref.npy none.npy", "no such file or folder: none.npy"),
        ("compare ref.npy empty.npy", "empty.npy is empty"),
        ("compare a.csv short.csv", "short.csv, line 3: short row"),
        ("compare a.csv b.csv --columns weight", "no column 'weight'"),
        ("compare a.csv b.csv --html none/a.html", "no such folder"),
        ("compare a.csv b.csv --alpha 2", "alpha must lie in (0, 1)"),
        ("compare a.csv", "the following arguments are required: CUR"),
        ("estimate kl ref.npy nan.npy", "nan.npy: column 'x1' has 1 missing or NaN value(s), first in row 2"),
        ("test nan.npy ref.npy", "nan.npy: column 'x1' has 1 missing or NaN"),
        ("estimate kl ref.npy wide.npy", "wide.npy has 3 and ref.npy has 2; only in wide.npy: 'x2'"),
        ("test ref.npy wide.npy", "the same columns"),
        ("estimate kl ref.npy empty.npy", "empty.npy is empty"),
        ("estimate kll ref.npy same.npy", "'kll'"),
        ("estimate kl ref.npy same.npy --method none", "'none'"),
        ("estimate renyi ref.npy same.npy --option alpha", "must be KEY=VALUE"),
        ("estimate kl ref.npy same.npy --option alpha=2", "alpha"),
        ("estimate kl ref.npy same.npy --confidence 95", "confidence must lie in (0, 1)"),
        ("test ref.npy same.npy --statistic none", "'none'"),
        ("test a.csv b.csv", "a.csv: column 'city' is not numeric"),
        ("nonsense", "invalid choice"),
        ("", "required"),
    ],
)
def test_errors_are_one_line(files, capsys, argv, message):
    before = set(files.iterdir())
    status, out, err = run(capsys, *argv.split())
    assert (status, out) == (2, "")
    assert err.startswith("divergences: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert set(files.iterdir()) == before


def test_interrupt(files, capsys, monkeypatch):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("estimators.registry.estimate", interrupted)
    assert run(capsys, "estimate", "kl", "ref.npy", "same.npy")[0] == 130


@pytest.mark.parametrize("command", ["compare", "estimate", "test", "list"])
def test_help_has_examples(capsys, command):
    status, out, _ = run(capsys, command, "--help")
    assert status == 0
    assert f"divergences {command}" in out.split("example")[1]
    assert command in run(capsys, "--help")[1]


def test_as_a_process(files):
    done = subprocess.run(
        [sys.executable, "-m", "estimators.cli", "compare", "none.csv", "a.csv"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip().endswith("divergences: error: no such file or folder: none.csv")
