"""The permutation tests: exact level, power, ties, and statistics equal to those of the estimators."""

import math

import numpy as np
import pytest
from scipy.stats import ks_2samp

import estimators as est
from estimators.intervals import monte_carlo

NULLS = {
    "gaussian": lambda g: (g.normal(size=(30, 2)), g.normal(size=(30, 2))),
    "discrete": lambda g: (g.integers(0, 3, size=(20, 2)), g.integers(0, 3, size=(30, 2))),
    "unequal": lambda g: (g.standard_cauchy(size=(15, 1)), g.standard_cauchy(size=(45, 1))),
}
STATISTICS = [
    "auto",
    "mmd",
    "energy_distance",
    "kolmogorov_smirnov",
    est.SlicedWasserstein(1, 10),
    est.MMD("laplace", "biased"),
]
DRAWS = 600


@pytest.mark.parametrize("null", NULLS)
@pytest.mark.parametrize("statistic", STATISTICS, ids=repr)
def test_the_level_is_exact(statistic, null):
    rejected = sum(
        est.two_sample_test(*NULLS[null](np.random.default_rng(draw)), statistic, 99, seed=draw).reject(0.05)
        for draw in range(DRAWS)
    )
    error = math.sqrt(0.05 * 0.95 / DRAWS)
    assert rejected / DRAWS <= 0.05 + 3 * error
    if null != "discrete" and statistic != "kolmogorov_smirnov":  # ties between statistics make a test conservative
        assert rejected / DRAWS >= 0.05 - 3 * error


@pytest.mark.parametrize("statistic", [*STATISTICS, "sliced_wasserstein", "emd", "sinkhorn"], ids=repr)
def test_a_shift_is_seen(statistic):
    g = np.random.default_rng(0)
    x, y = g.normal(size=(60, 2)), g.normal(size=(40, 2)) + 1.0
    test = est.two_sample_test(x, y, statistic, permutations=39, seed=0)
    assert test.p_value == 1 / 40 and test.reject(0.05)
    assert test.interval[0] <= test.p_value <= test.interval[1]
    assert len(test.null) == 39 and max(test.null) < test.statistic


@pytest.mark.parametrize("n", [30, 45])
@pytest.mark.parametrize(
    "estimator",
    [
        est.MMD(),
        est.MMD("laplace", "biased"),
        est.MMD("laplace", "biased", squared=False),
        est.EnergyDistance(),
        est.SlicedWasserstein(1),
        est.SlicedWasserstein(),
    ],
    ids=repr,
)
def test_the_statistic_is_the_estimators_value(estimator, n):
    g = np.random.default_rng(1)
    x, y = g.normal(size=(n, 1)), g.normal(size=(30, 1)) * 2
    assert est.two_sample_test(x, y, estimator, 9).statistic == pytest.approx(estimator.value(x, y), rel=1e-9)


def test_kolmogorov_smirnov_is_scipys():
    g = np.random.default_rng(2)
    x, y = g.integers(0, 6, size=(40, 3)), g.integers(0, 7, size=(25, 3))
    expected = max(ks_2samp(x[:, k], y[:, k]).statistic for k in range(3))
    assert est.two_sample_test(x, y, "kolmogorov_smirnov", 9).statistic == pytest.approx(expected)


def test_single_precision_kernels_give_the_same_answer(monkeypatch):
    g = np.random.default_rng(3)
    x, y = g.normal(size=(80, 3)) + 1e6, g.normal(size=(50, 3)) + 1e6 + 0.2
    double = est.two_sample_test(x, y, "auto", 199)
    monkeypatch.setattr("estimators.two_sample.DOUBLE", 10)
    single = est.two_sample_test(x, y, "auto", 199)
    assert single.statistic == pytest.approx(double.statistic, rel=1e-3)
    assert abs(single.p_value - double.p_value) <= 0.011


@pytest.mark.parametrize("statistic", [*STATISTICS, "sliced_wasserstein"], ids=repr)
def test_equal_points_give_p_of_one(statistic):
    test = est.two_sample_test(np.ones((20, 2)), np.ones((30, 2)), statistic, 99)
    assert test.p_value == 1.0 and any("all points are equal" in note for note in test.notes)


def test_the_same_seed_gives_the_same_answer():
    g = np.random.default_rng(4)
    x, y = g.normal(size=(20, 2)), g.normal(size=(20, 2))
    assert est.two_sample_test(x, y, seed=5) == est.two_sample_test(x, y, seed=5)
    assert est.two_sample_test(x, y, seed=5).null != est.two_sample_test(x, y, seed=6).null


def test_refusals():
    x = np.zeros((20, 2))
    with pytest.raises(ValueError, match="statistic must be one of auto, mmd"):
        est.two_sample_test(x, x, "mdm")
    with pytest.raises(TypeError, match="trained anew for each permutation"):
        est.two_sample_test(x, x, est.KantorovichRubinstein())
    with pytest.raises(ValueError, match="permutations must be at least 1"):
        est.two_sample_test(x, x, permutations=0)
    with pytest.raises(ValueError, match="x needs at least 2"):
        est.two_sample_test(x[:1], x)
    with pytest.raises(ValueError, match="y has 1 NaN"):
        est.two_sample_test(x, np.where(np.arange(40).reshape(20, 2) == 3, np.nan, x))
    with pytest.raises(ValueError, match=r"13000 pooled points .*sliced_wasserstein"):
        est.two_sample_test(np.arange(13000.0)[:6500, None], np.arange(13000.0)[6500:, None])


def test_the_interval_on_p_is_clopper_pearsons():
    low, high = monte_carlo(5, 99)
    assert low < 5 / 99 < high and high == pytest.approx(0.1139, abs=2e-4)
