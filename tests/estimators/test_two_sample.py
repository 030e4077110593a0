"""`two_sample_test`: power, evidence, early stopping, edges and refusals."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats

import estimators as est
from estimators.intervals import monte_carlo
from estimators.two_sample import NAMES, permutation
from tests.estimators.two_sample_cases import ESTIMATORS, pool, samples, weighted


@pytest.mark.parametrize("statistic", [*NAMES, *ESTIMATORS], ids=repr)
def test_a_shift_is_seen(statistic):
    g = np.random.default_rng(0)
    x, y = g.normal(size=(60, 2)), g.normal(size=(40, 2)) + 1.5
    test = est.two_sample_test(x, y, statistic, permutations=39, seed=0)
    assert test.p_value == 1 / 40 and test.reject(0.05)
    assert test.interval[0] <= test.p_value <= test.interval[1]
    assert len(test.null) == 39 and max(test.null) < test.statistic
    assert json.loads(json.dumps(test.to_dict()))["evidence"] == [vars(found) for found in test.evidence]


def test_pairs_are_the_sign_flip_test():
    """A shift that is small against the spread between pairs and large within them."""
    g = np.random.default_rng(1)
    x = g.normal(size=(20, 1)) * 10
    y = x + 1 + 0.1 * g.normal(size=(20, 1))
    paired = est.two_sample_test(x, y, "energy_distance", 199, strata=(range(20), range(20)))
    assert paired.p_value == 1 / 200 and est.two_sample_test(x, y, "energy_distance", 199).p_value > 0.5


def test_evidence_says_where():
    g = np.random.default_rng(2)
    x, y = g.normal(size=(80, 3)) + 1e3, g.normal(size=(60, 3)) + [1e3, 1e3, 1e3 + 1.5]
    test = est.two_sample_test(x, y, "kolmogorov_smirnov", 99)
    (found,) = test.evidence
    assert found.p_value == test.p_value and found.description.startswith("coordinate 2, at most 100")
    assert found.description in repr(test)
    several = est.two_sample_test(x, y, "mmd_agg", 99).evidence
    assert len(several) == 20 and [e.p_value for e in several] == sorted(e.p_value for e in several)


def test_early_stopping_keeps_the_decision_and_says_what_it_did():
    g = np.random.default_rng(3)
    x, y = samples(g, 30, 30)
    whole, early = (est.two_sample_test(x, y, "mmd", 999, early_stopping=stop) for stop in (False, True))
    L = early.permutations
    assert L < 500 and early.null == whole.null[:L] and early.p_value == 20 / L
    assert sum(v >= early.statistic for v in early.null) == 20 and early.null[-1] >= early.statistic
    assert early.interval[0] < whole.p_value < early.interval[1]
    assert any(f"stopped after {L} of 999" in note for note in early.notes)
    shifted = est.two_sample_test(x, y + 1.5, "mmd", 99, early_stopping=True)
    assert shifted.permutations == 99 and shifted.p_value == 0.01


@pytest.mark.parametrize("scale", [1e-8, 1e8])
@pytest.mark.parametrize("statistic", [n for n in NAMES if n != "c2st"] + ESTIMATORS, ids=repr)
def test_the_unit_of_the_data_changes_nothing(statistic, scale):
    """Rounding that counts as a tie must follow the values."""
    g = np.random.default_rng(14)
    x, y = g.normal(size=(25, 2)), g.normal(size=(20, 2)) + 0.3
    plain, scaled = (est.two_sample_test(unit * x, unit * y, statistic, 39) for unit in (1.0, scale))
    assert scaled.p_value == plain.p_value and len(set(scaled.null)) > 20


def test_pairs_are_held_out_as_pairs():
    given = pool(10, 10, strata=(range(10), range(10)))
    fixed = est.C2ST().plan(given).fixed
    assert fixed.sum() == 10 and bool((fixed[:10] == fixed[10:]).all())


@pytest.mark.parametrize("statistic", NAMES)
def test_equal_points_give_p_of_one(statistic):
    test = est.two_sample_test(np.ones((20, 2)), np.ones((30, 2)), statistic, 99)
    assert test.p_value == 1.0 and any("all points are equal" in note for note in test.notes)


def test_a_statistic_that_is_always_the_same_gives_p_of_one():
    x = np.random.default_rng(0).normal(size=(10, 1))
    constant = est.MMD(lambda x, y: torch.ones(len(x), len(y), dtype=x.dtype))
    test = est.two_sample_test(x, x, constant, 99)
    assert test.p_value == 1.0 and any("same for all labellings" in note for note in test.notes)


def test_a_value_that_is_nan_is_no_evidence():
    class Undefined(est.MMD):
        def compute(self, s, generator):
            return s.x.new_tensor(math.nan)

    test = est.two_sample_test(np.arange(10.0)[:, None], np.arange(8.0)[:, None], Undefined(statistic="linear"), 19)
    assert test.p_value == 1.0 and any("no finite value" in note for note in test.notes)


def test_few_permutations_and_few_labellings_are_said():
    x = np.arange(3.0)[:, None]
    test = est.two_sample_test(x, x + 10, "mmd", 9)
    assert any("9 permutations: p cannot fall below 0.1" in note for note in test.notes)
    assert any("only 20 different labellings" in note for note in test.notes)


def test_rows_with_nan_take_their_ids_and_weights_along():
    g = np.random.default_rng(11)
    x, y = samples(g, 20, 20)
    ids, w = np.repeat(np.arange(10), 2), g.exponential(size=20)
    gap = np.where(np.arange(40).reshape(20, 2) == 5, np.nan, x)
    kept = np.arange(20) != 2
    options = {"normalize": True, "y_weights": w}
    a = est.two_sample_test(gap, y, "mmd", 19, nan_policy="omit", strata=(ids, ids), x_weights=w, **options)
    b = est.two_sample_test(x[kept], y, "mmd", 19, strata=(ids[kept], ids), x_weights=w[kept], **options)
    assert a.statistic == pytest.approx(b.statistic) and a.null == pytest.approx(b.null)


def test_weights_without_a_common_scale_are_said_to_be_approximate():
    x, y, options = weighted(np.random.default_rng(15))
    w, v = options["x_weights"], options["y_weights"]
    raw = est.two_sample_test(x, y, "mmd", 19, **options)
    apart = est.two_sample_test(x, y, "mmd", 19, x_weights=w / w.sum(), y_weights=v / v.sum())
    assert apart.statistic == pytest.approx(raw.statistic)
    assert [any("level is approximate" in note for note in test.notes) for test in (raw, apart)] == [False, True]
    equal = est.two_sample_test(x, y, "mmd", 19, x_weights=np.full(12, 1 / 12), y_weights=np.full(9, 1 / 9))
    assert equal.notes == est.two_sample_test(x, y, "mmd", 19).notes
    assert equal.null == pytest.approx(est.two_sample_test(x, y, "mmd", 19).null)


def test_the_same_seed_gives_the_same_answer():
    x, y = samples(np.random.default_rng(4), 20, 20)
    assert est.two_sample_test(x, y, seed=5) == est.two_sample_test(x, y, seed=5)
    assert est.two_sample_test(x, y, seed=5).null != est.two_sample_test(x, y, seed=6).null


x20 = np.random.default_rng(12).normal(size=(20, 2))
ids20 = np.repeat(np.arange(5), 4)


@pytest.mark.parametrize("options, error, message", [
    ({"statistic": "mdm"}, ValueError, r"statistic must be one of auto, mmd.*did you mean 'mmd'"),
    ({"statistic": 3}, TypeError, "a name, an estimator or C2ST: got int"),
    ({"statistic": est.KantorovichRubinstein()}, TypeError, "trained anew for each permutation"),
    ({"permutations": 0}, ValueError, "permutations must be at least 1"),
    ({"y": np.where(np.arange(40).reshape(20, 2) == 3, np.nan, x20)}, ValueError, "y has 1 NaN"),
    ({"x": x20[:1]}, ValueError, "x needs at least 2"),
    ({"statistic": "c2st", "x": x20[:3]}, ValueError, "c2st needs at least 4 points or clusters in x and in y"),
    ({"statistic": "mmd_agg", "early_stopping": True}, ValueError, "'mmd_agg' combines several"),
    ({"x_weights": np.full(20, 0.05)}, ValueError, "x_weights came without y_weights"),
    ({"statistic": "c2st", "x_weights": np.full(20, 0.05), "y_weights": np.full(20, 0.05)}, ValueError, "no weights"),
    ({"x_weights": np.full(20, 0.1), "y_weights": np.full(20, 0.05)}, ValueError, "x_weights must sum to 1"),
    ({"clusters": ids20}, TypeError, "clusters must be a pair"),
    ({"clusters": (ids20[1:], ids20 + 5)}, ValueError, r"clusters must have one id a row, \(20,\) for x"),
    ({"clusters": (ids20, ids20)}, ValueError, "cluster 0 has rows in both x and y"),
    ({"clusters": (ids20, ids20 + 5), "strata": (range(20), ids20)}, ValueError, "cluster 0 lies in two strata, 0 and"),
    ({"strata": (ids20, ids20 + 5)}, ValueError, "no stratum has points of both samples"),
    ({"strata": (ids20, [None] * 20)}, ValueError, "strata has 20 missing ids in y"),
    ({"strata": (ids20, ["a"] * 20)}, TypeError, "strata must be ids of one kind"),
])  # fmt: skip
def test_refusals(options, error, message):
    with pytest.raises(error, match=message):
        est.two_sample_test(**({"x": x20, "y": x20 + 0.0, "statistic": "mmd", "permutations": 19} | options))


@pytest.mark.parametrize("n", [30, 700])
def test_a_kernel_that_is_no_number_is_refused(n):
    x, y = np.random.default_rng(0).normal(size=(2, n, 2))
    with pytest.raises(ValueError, match="the kernel has values that are not finite on these points"):
        est.two_sample_test(x, y, est.MMD(lambda a, b: math.nan * (a @ b.mT)), permutations=19)


def test_too_many_points_are_refused_with_the_cost():
    x = np.arange(30_000.0)[:, None]
    with pytest.raises(ValueError, match=r"60000 pooled points .*3.6e\+09 kernel values.*sliced_wasserstein"):
        est.two_sample_test(x, x, "mmd_agg")
    with pytest.raises(TypeError, match="scikit-learn classifier"):
        est.C2ST(classifier="logistic")


def test_the_intervals_on_p_are_exact():
    low, high = monte_carlo(5, 99)
    assert low < 5 / 99 < high and high == pytest.approx(0.1139, abs=2e-4)
    h, L = 20, 130
    low, high = permutation.stopped_interval(h, L)  # the draws up to the h-th exceedance are negative binomial
    assert stats.nbinom.cdf(L - h, h, low) == pytest.approx(0.025)
    assert stats.nbinom.sf(L - h - 1, h, high) == pytest.approx(0.025)


def test_the_command_takes_ids_from_columns(tmp_path, capsys):
    from estimators.cli import main

    g = np.random.default_rng(13)
    sites = 3 * g.normal(size=20)
    for name, shift in (("before", 0.0), ("after", 1.0)):
        rows = "".join(f"{centre + shift + 0.1 * g.normal()},site{k}\n" for k, centre in enumerate(sites))
        (tmp_path / f"{name}.csv").write_text("value,site\n" + rows)
    files = [str(tmp_path / f"{name}.csv") for name in ("before", "after")]
    status = main(
        ["test", *files, "--statistic", "energy_distance", "--strata", "site", "--permutations", "99", "--json"]
    )
    found = json.loads(capsys.readouterr().out)
    assert status == 0 and found["p_value"] == 0.01
    assert main(["test", *files, "--statistic", "mmd", "--clusters", "place"]) == 2
    assert "has no column 'place'" in capsys.readouterr().err
