import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import estimators as est
from estimators import marginals, resampling
from estimators.joint import design
from estimators.tables import Column
from estimators.two_sample import two_sample_test
from estimators.writing import write_atomically

QUICK = {"permutations": 199, "progress": False}


@pytest.fixture(scope="module")
def mixed():
    rng = np.random.default_rng(1)
    n, m = 150, 120
    x = {
        "shifted": rng.normal(size=n),
        "same": rng.normal(size=n),
        "counts": rng.poisson(2, n),
        "label": rng.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2]),
        "constant": np.ones(n),
        "gappy": np.where(np.arange(n) < 30, np.nan, rng.normal(size=n)),
        "infinite": np.where(np.arange(n) < 1, np.inf, 0.0),
        "identifier": [f"id{i}" for i in range(n)],
        "left": np.zeros(n),
    }
    y = {
        "label": rng.choice(["a", "b", "d"], m, p=[0.2, 0.3, 0.5]),
        "shifted": rng.normal(1.0, 1.0, size=m),
        "same": rng.normal(size=m),
        "counts": rng.poisson(2, m),
        "constant": np.ones(m),
        "gappy": rng.normal(size=m),
        "infinite": np.zeros(m),
        "identifier": [f"id{i}" for i in range(m)],
        "right": np.zeros(m),
    }
    return x, y, est.compare(x, y, **QUICK)


def row(found, name):
    return next(r for r in found.table if r["column"] == name)


def test_w1_is_scipys(mixed):
    x, y, found = mixed
    for name in ("shifted", "same", "counts"):
        expected = stats.wasserstein_distance(x[name], y[name])
        assert row(found, name)["statistic"] == pytest.approx(expected, rel=1e-12)
    pooled = math.sqrt((149 * np.var(x["same"], ddof=1) + 119 * np.var(y["same"], ddof=1)) / 268)
    assert row(found, "same")["effect"] == pytest.approx(row(found, "same")["statistic"] / pooled)


def test_total_variation(mixed):
    x, y, found = mixed
    p, q = ([np.mean(side["label"] == label) for label in "abcd"] for side in (x, y))
    got = row(found, "label")
    assert got["statistic"] == pytest.approx(0.5 * np.abs(np.subtract(p, q)).sum())
    assert got["decision"] == "differs"
    assert any("only in the current: 'd'" in note for note in got["notes"])


def test_benjamini_hochberg_is_scipys(mixed):
    tested = [r for r in mixed[2].table if r["p"] is not None]
    np.testing.assert_allclose(
        [r["p_adjusted"] for r in tested], stats.false_discovery_control([r["p"] for r in tested])
    )


def test_the_planted_differences_come_first(mixed):
    found = mixed[2]
    assert [r["column"] for r in found.table[:2]] == ["shifted", "label"]
    assert [r["decision"] for r in found.table[:2]] == ["differs", "differs"]
    assert found.summary.startswith("2 of 6 columns differ; the largest difference is in 'shifted'")
    assert found.difference_found


def test_odd_columns_have_rows(mixed):
    found = mixed[2]
    constant = row(found, "constant")
    assert (constant["p"], constant["effect"], constant["decision"]) == (1.0, 0.0, "no difference found")
    assert (row(found, "gappy")["missing_ref"], row(found, "gappy")["n_ref"]) == (30, 120)
    assert any("rates of missing values differ" in note for note in row(found, "gappy")["notes"])
    assert "infinite" in row(found, "infinite")["error"]
    assert "identifiers" in row(found, "identifier")["error"]
    assert row(found, "left")["decision"] == "only in the reference"
    assert row(found, "right")["decision"] == "only in the current"


def test_joint_rows(mixed):
    joint = mixed[2].joint
    assert joint[0]["metric"] == "test of equality"
    assert joint[0]["p"] == pytest.approx(1 / 200)
    assert [r["error"] for r in joint] == [None] * 5
    assert all(r["method"] and r["notes"] for r in joint)


def test_the_same_seed_gives_the_same_answer(mixed):
    x, y, found = mixed
    assert est.compare(x, y, **QUICK).to_json() == found.to_json()


def test_json_round_trip(mixed, tmp_path):
    found = mixed[2]
    text = found.to_json(tmp_path / "a.json")
    data = json.loads((tmp_path / "a.json").read_text())
    assert data == json.loads(text) == found.to_dict()
    assert list(data) == ["schema", "version", "seed", "rows", "joint", "pairs", "summary"]
    wanted = (
        "column kind n_ref n_cur missing_ref missing_cur metric statistic unit interval p p_adjusted effect decision"
    )
    assert set(wanted.split()) | {"method", "seed", "notes", "error"} <= set(data["rows"][0])


def test_frame_and_repr(mixed):
    found = mixed[2]
    frame = found.to_frame()
    assert list(frame["column"]) == [r["column"] for r in found.table]
    assert "shifted" in repr(found)
    assert found.summary in repr(found)


@pytest.mark.parametrize(
    "draw", [lambda r, s: r.normal(size=s), lambda r, s: r.poisson(1.0, size=s)], ids=["real", "ties"]
)
def test_null_p_values_are_uniform(draw):
    rng = np.random.default_rng(5)
    columns, n, m = 150, 40, 30
    x, y = draw(rng, (columns, n)).astype(float), draw(rng, (columns, m)).astype(float)
    # one column at a time, so that no two share permutations
    p = []
    for k in range(columns):
        found = [marginals.Marginal(marginals.wasserstein(x[k], y[k]), None, 0.0)]
        marginals.permutation_tests([(x[k], y[k])], found, 199, 1 / 200, seed=k)
        p.append(found[0].p)
    for level in (0.1, 0.3, 0.6):
        share, error = np.mean(np.array(p) <= level), math.sqrt(level * (1 - level) / columns)
        assert share <= level + 3.5 * error  # ties make p-values larger, never smaller
        assert draw(rng, 1).dtype == np.int64 or share >= level - 3.5 * error


def test_a_null_table_has_no_differences():
    rng = np.random.default_rng(2)
    found = est.compare(rng.normal(size=(100, 30)), rng.normal(size=(100, 30)), **QUICK)
    assert [r["column"] for r in found.table if r["decision"] == "differs"] == []
    assert found.summary.startswith("No difference was found in 30 columns")


def test_one_difference_among_many_columns_can_be_found():
    # with 999 permutations alone, no p-value could survive the adjustment for 100 columns
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(80, 100)), rng.normal(size=(80, 100))
    y[:, 17] += 2
    found = est.compare(x, y, permutations=999, progress=False)
    assert (found.table[0]["column"], found.table[0]["decision"]) == ("x17", "differs")


def test_permutation_p_value_is_the_exhaustive_one_under_ties():
    from itertools import combinations

    x, y = np.array([0.0, 0.0, 1.0, 1.0]), np.array([1.0, 1.0, 2.0, 2.0])
    pooled = np.concatenate([x, y])
    observed = stats.wasserstein_distance(x, y)
    null = []
    for chosen in combinations(range(8), 4):
        rest = [i for i in range(8) if i not in chosen]
        null.append(stats.wasserstein_distance(pooled[list(chosen)], pooled[rest]))
    exact = np.mean(np.array(null) >= observed - 1e-12)
    found = [marginals.Marginal(marginals.wasserstein(x, y), None, 0.0)]
    marginals.permutation_tests([(x, y)], found, 4999, 1.0, seed=0)
    assert found[0].p == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 4999))


@pytest.mark.parametrize("shift", [0.0, 0.5])
@pytest.mark.parametrize("large", [False, True], ids=["rows", "grid"])
def test_intervals_cover(shift, large):
    rng = np.random.default_rng(8)
    hits = 0
    for k in range(60):
        x, y = rng.normal(size=60), rng.normal(shift, 1.0, size=60)
        draws = [None, None] if large else [resampling.bootstrap_draws(60, rng) for _ in "xy"]
        low, high = marginals.numeric(x, y, *draws, 0.95, seed=k).interval
        hits += low <= shift <= high
    assert hits / 60 >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 60)


def test_the_grid_of_a_large_column_is_exact_enough():
    rng = np.random.default_rng(0)
    x, y = rng.standard_t(3, 20_000), rng.standard_t(3, 20_000) * 1.1
    a, b, gaps = resampling.grid(x, y)
    assert (a.sum(), b.sum()) == (20_000, 20_000)
    exact = stats.wasserstein_distance(x, y)
    assert resampling.grid_heights(a, b) @ gaps == pytest.approx(exact, rel=0.02)
    x, y = rng.poisson(1, 9000), rng.poisson(1, 9000)
    a, b, _ = resampling.grid(x, y)
    np.testing.assert_array_equal(a + b, np.bincount(np.concatenate([x, y])))


def test_identical_samples_are_at_distance_zero():
    x = np.random.default_rng(0).normal(size=(77, 3))
    found = est.compare(x, x[::-1], **QUICK)
    assert all((r["statistic"], r["p"], r["decision"]) == (0.0, 1.0, "no difference found") for r in found.table)


def test_constants_that_differ():
    found = est.compare({"a": np.zeros(20)}, {"a": np.ones(20)}, **QUICK)
    assert found.table[0]["effect"] == math.inf
    assert found.table[0]["decision"] == "differs"
    assert found.to_dict()["rows"][0]["effect"] == "inf"


def test_a_trifle_is_not_a_difference():
    rng = np.random.default_rng(0)
    found = est.compare(rng.normal(size=3000), rng.normal(0.15, 1, size=3000), min_effect=0.5, **QUICK)
    assert found.table[0]["p_adjusted"] <= 0.05
    assert found.table[0]["decision"] == "no difference found"
    assert "beyond chance" in found.table[0]["notes"][-1]


def test_kinds_that_do_not_fit_are_an_error_of_the_row():
    found = est.compare({"a": [1.0, 2.0], "b": [1.0, 2.0]}, {"a": ["u", "v"], "b": [1.0, 2.0]}, **QUICK)
    assert "numbers" in row(found, "a")["error"]
    assert row(found, "b")["error"] is None


def test_nothing_to_compare():
    found = est.compare({"a": [1.0, 2.0]}, {"b": [1.0, 2.0]}, **QUICK)
    assert {r["decision"] for r in found.table} == {"only in the reference", "only in the current"}
    assert found.joint[0]["error"]
    assert found.summary.startswith("No column could be compared.")


def test_a_side_that_is_all_missing():
    found = est.compare(pd.DataFrame({"a": [None, None, None]}), pd.DataFrame({"a": [1.0, 2.0, 3.0]}), **QUICK)
    assert found.table[0]["decision"] == "not compared"
    assert found.table[0]["error"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0}, "alpha"),
        ({"permutations": 5}, "permutations"),
        ({"min_effect": -1}, "min_effect"),
        ({"nan_policy": "drop"}, "nan_policy"),
        ({"columns": ["z"]}, "no column 'z'"),
        ({"seed": -1}, "seed"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        est.compare(np.zeros((3, 1)), np.zeros((3, 1)), **options)


def test_nan_policy_raise():
    with pytest.raises(ValueError, match="'x1' has 1 missing"):
        est.compare(np.array([[0.0, np.nan]]), np.zeros((1, 2)), nan_policy="raise")


def test_inputs_and_global_state_are_left_alone(mixed):
    x, y, _ = mixed
    before = {name: np.array(values, copy=True) for name, values in x.items()}
    state = np.random.get_state()[1].copy()
    est.compare(x, y, **QUICK)
    assert all(np.array_equal(before[name], x[name], equal_nan=before[name].dtype.kind == "f") for name in x)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    (tmp_path / "a.json").write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "a.json", "new \ud800")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


def test_the_joint_p_value_is_exact_for_few_rows_and_many_columns():
    """The columns' scales may not know which row is from which side: with 5 + 5 rows of 20 columns that shows."""
    draws = 400
    rejected = 0
    for seed in range(draws):
        rng = np.random.default_rng([5, seed])
        whole = np.zeros(5, dtype=bool)
        pairs = [[Column(f"c{i}", rng.normal(size=5), whole, True) for _ in "xy"] for i in range(20)]
        found = design(pairs, seed)
        rejected += two_sample_test(found.x, found.y, permutations=39, seed=seed).p_value <= 0.05
    assert rejected / draws <= 0.05 + 3 * (0.05 * 0.95 / draws) ** 0.5


def test_lost_values_and_changed_kinds_are_differences():
    rng = np.random.default_rng(3)
    reference = pd.DataFrame({"a": rng.normal(size=200), "b": rng.normal(size=200), "c": rng.normal(size=200)})
    current = pd.DataFrame({"a": rng.normal(size=200), "b": rng.normal(size=200), "c": ["text"] * 100 + ["word"] * 100})
    current.loc[:149, "b"] = np.nan
    found = est.compare(reference, current, **QUICK)
    decisions = {row["column"]: row["decision"] for row in found.table}
    assert decisions == {"a": "no difference found", "b": "missing values differ", "c": "kinds differ"}
    assert found.difference_found
    assert "differs in missing values: 'b'" in found.summary and "differs in kind: 'c'" in found.summary
    emptied = est.compare(reference, reference.assign(b=np.nan), **QUICK)
    assert {row["column"]: row["decision"] for row in emptied.table}["b"] == "missing values differ"


def test_equal_missing_rates_are_rarely_called_different():
    rng = np.random.default_rng(4)
    called = 0
    for _ in range(60):
        x, y = (pd.DataFrame({"a": np.where(rng.random(100) < 0.2, np.nan, rng.normal(size=100))}) for _ in "xy")
        called += est.compare(x, y, **QUICK).table[0]["decision"] == "missing values differ"
    assert called <= 60 * 0.05 + 3 * (60 * 0.05 * 0.95) ** 0.5
