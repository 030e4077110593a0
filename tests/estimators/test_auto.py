"""`estimate(method="auto")`: it is as good as knowing the ratio on several families, and says where it cannot know."""

import math

import numpy as np
import pytest
from scipy import stats

import divergences as dv
import estimators as est
from estimators.ratio.cross_fitting import CrossFit, Problem, Sides
from estimators.ratio.limits import two_sided
from estimators.ratio.one_step import one_step


def pair(p, q):
    return lambda g, n: (p.rvs(size=(n, 1), random_state=g), q.rvs(size=(n, 1), random_state=g))


PLANE = stats.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]]), stats.multivariate_normal([0.3, 0.3])
FAMILIES = {
    "gamma": ("kl", stats.gamma(2), stats.gamma(3)),
    "beta": ("js", stats.beta(2, 3), stats.uniform()),
    "student": ("reverse_kl", stats.t(2), stats.t(2, 1)),
    "plane": ("kl", *PLANE),
    "poisson": ("kl", stats.poisson(3), stats.poisson(4)),
}


@pytest.mark.parametrize("case", FAMILIES)
def test_it_is_as_good_as_knowing_the_ratio(case):
    name, p, q = FAMILIES[case]
    d, errors, widths = dv.get(name), [], []
    for seed in range(4):
        g = np.random.default_rng([11, seed])
        x, y = (law.rvs(size=600, random_state=g).reshape(600, -1).astype(float) for law in (p, q))
        e = est.estimate(x, y, name, seed=seed)
        log = [getattr(law, "logpmf" if case == "poisson" else "logpdf") for law in (p, q)]
        known = Sides(*((log[0](z) - log[1](z)).reshape(600) for z in (x, y)))
        oracle = one_step(d, known, Problem(x, y, None, None))
        assert e.interval[0] <= oracle.value <= e.interval[1]
        errors.append((e.value - oracle.value) / oracle.stderr)
        if e.bound == "consistent":
            widths.append((e.interval[1] - e.interval[0]) / (2 * 1.96 * oracle.stderr))
    assert np.sqrt(np.mean(np.square(errors))) < 1
    assert len(widths) >= 2 and 0.7 < np.mean(widths) < 1.6


@pytest.mark.parametrize("name", ["kl", "js", "total_variation"])
def test_equal_laws_have_an_interval_that_begins_at_zero(name):
    begins = 0
    for seed in range(5):
        g = np.random.default_rng([12, seed])
        e = est.estimate(g.normal(size=(300, 3)), g.normal(size=(300, 3)), name, seed=seed)
        begins += e.interval[0] == 0 <= e.interval[1]
    assert begins >= 4


HARD = {
    "saturated": (pair(stats.expon(), stats.expon(scale=1 / 12)), 8.515093),
    "beyond": (pair(stats.uniform(0, 1), stats.uniform(0, 0.5)), math.inf),
    "disjoint": (pair(stats.uniform(0, 1), stats.uniform(2, 1)), math.inf),
    "edge": (pair(stats.uniform(0, 1), stats.uniform(0, 0.95)), math.inf),
    "rare mode": (
        lambda g, n: (np.where(g.random((n, 1)) < 0.01, 2, 0) + g.random((n, 1)), g.random((n, 1))),
        math.inf,
    ),
    "d = 10": (lambda g, n: (g.normal(size=(n, 10)), g.normal(size=(n, 10)) + 2 / math.sqrt(10)), 2.0),
}


@pytest.mark.parametrize("case", HARD)
def test_where_it_cannot_know_only_a_lower_limit_is_given(case):
    draw, truth = HARD[case]
    for seed in range(2):
        e = est.estimate(*draw(np.random.default_rng([13, seed]), 1500), "kl", seed=seed)
        assert e.bound == "lower" and e.interval[0] <= truth and e.interval[1] == math.inf
        assert any("far larger" in note for note in e.notes) and math.isfinite(e.value)


@pytest.mark.parametrize(("name", "truth"), [("js", math.log(2)), ("total_variation", 1.0), ("squared_hellinger", 2.0)])
def test_disjoint_supports_reach_the_upper_bound(name, truth):
    g = np.random.default_rng(14)
    e = est.estimate(g.random((400, 1)), 2 + g.random((400, 1)), name, seed=0)
    assert e.interval[0] < truth and e.interval[1] == pytest.approx(truth)
    assert e.interval[0] > 0.8 * truth


def test_points_that_are_all_alike_prove_little():
    same = np.ones((50, 1))
    kl, js = (est.estimate(same, same, name, seed=0) for name in ("kl", "js"))
    assert kl.value == js.value == 0 and kl.interval == (0, math.inf) and kl.bound == "lower"
    # a point that P lacks in 50 draws may have 3/50 of its mass
    assert js.interval[0] == 0 and js.interval[1] >= dv.js([1.0, 0.0], [0.94, 0.06])


def test_discrete_data_are_counted_where_order_says_nothing():
    g = np.random.default_rng(15)
    p, q = np.array([0.3, 0.05, 0.3, 0.05, 0.3]), np.full(5, 0.2)
    x, y = g.choice(5, size=(2000, 1), p=p).astype(float), g.choice(5, size=(2000, 1), p=q).astype(float)
    e = est.estimate(x, y, "kl", seed=0)
    truth = dv.kl(p, q)
    assert e.interval[0] < truth < e.interval[1] and any("one of masses" in note for note in e.notes)
    assert e.interval[1] - e.interval[0] < 0.6 * truth


def test_a_value_that_only_p_has_leaves_no_upper_limit():
    g = np.random.default_rng(20)
    x, y = (g.choice(4, size=(500, 1), p=p).astype(float) for p in ([0.48, 0.3, 0.2, 0.02], [0.5, 0.3, 0.2, 0]))
    kl, js = (est.estimate(x, y, name, seed=0) for name in ("kl", "js"))
    assert kl.interval[1] == math.inf and kl.value < 0.1 and any("y never has" in note for note in kl.notes)
    assert js.interval[1] < 0.05
    back = est.estimate(y, x, "kl", seed=0)  # Q has all that P has
    assert back.interval[1] < 0.1
    rare = est.estimate(np.r_[x[x[:, 0] < 3], [[3.0]]], y, "kl", seed=0)  # one point, which y may well have missed
    assert rare.interval[1] < 0.1


def test_equal_values_are_one_however_they_were_computed():
    k = np.random.default_rng(22).integers(0, 5, size=(2, 400, 1))
    found = est.estimate(0.1 * k[0], k[1] / 10, "kl", seed=0)
    assert found.interval == est.estimate(k[0] * 1.0, k[1] * 1.0, "kl", seed=0).interval
    ratio = est.DensityRatio("kl", "auto").fit(0.1 * k[0], k[1] / 10)
    assert ratio.log_ratio([[3 * 0.1]]) == ratio.log_ratio([[0.3]]) != 0


@pytest.mark.parametrize("offset", [1e6, 1e9, 1e12])
def test_far_from_zero_a_density_keeps_its_digits(offset):
    g = np.random.default_rng(24)
    x, y = g.normal(size=(500, 1)), g.normal(0.5, 1, size=(400, 1))
    there = est.estimate(x + offset, y + offset, "kl", seed=0)
    assert there.interval == pytest.approx(est.estimate(x, y, "kl", seed=0).interval, rel=0.01)
    ratio = est.DensityRatio("kl").fit(x + offset, y + offset).log_ratio(np.array([[0.25], [0.251]]) + offset)
    assert 0 < ratio[0] - ratio[1] < 0.001  # the true slope is −0.5


def test_copies_of_rows_with_tens_of_each_are_no_atoms():
    g = np.random.default_rng(23)
    x, y = (np.repeat(g.normal(size=(100, 1)), 10, axis=0) for _ in range(2))
    found = est.estimate(x, y, "kl", seed=0)
    assert found.interval is None and any("repeat others" in note for note in found.notes)


def test_no_value_lies_outside_its_interval():
    for seed in range(6):
        g = np.random.default_rng([24, seed])
        for name in ("kl", "total_variation"):
            e = est.estimate(g.normal(size=(120, 2)), g.normal(size=(120, 2)), name, seed=seed)
            assert e.interval[0] <= e.value <= e.interval[1]


def test_a_mode_where_y_has_next_to_nothing_is_counted_no_higher_than_the_points_can_tell():
    law = stats.norm(30)
    truth = 0.02 * math.log(0.02 / 0.0005) + 0.98 * math.log(0.98 / 0.9995)
    held = 0
    for seed in range(8):
        g = np.random.default_rng([21, seed])
        x, y = (np.where(g.random((400, 1)) < w, law.rvs((400, 1), random_state=g), g.normal(size=(400, 1)))
                for w in (0.02, 0.0005))  # fmt: skip
        e = est.estimate(x, y, "kl", seed=seed)
        assert e.value < 0.2 and e.interval[1] == math.inf
        held += e.interval[0] <= truth
    assert held >= 6  # of 8 one-sided 95% limits, of a mean that some eight points carry


def test_the_choice_is_explained_and_fits():
    g = np.random.default_rng(16)
    shift = est.estimate(g.normal(size=(800, 3)), g.normal(size=(800, 3)) + 0.5, "kl", seed=0)
    assert any("linear logistic regression, chosen among" in note for note in shift.notes)
    x = g.normal(size=(800, 2)) + 2.5 * g.choice([-1, 1], size=(800, 1))
    modes = est.estimate(x, g.normal(size=(800, 2)) @ np.linalg.cholesky(np.cov(x.T)).T, "kl", seed=0)
    assert any("chosen among" in note for note in modes.notes) and modes.interval[0] > 0.05  # its moments are the same


def test_the_upper_limit_allows_for_a_better_model_that_the_evidence_does_not_refute():
    g = np.random.default_rng(19)
    x, y = g.normal(size=(200, 1)), 1 + g.normal(size=(200, 1))
    s, d = Problem(x, y, None, None), dv.get("kl")
    poor, close, right, wild = (CrossFit(v, v) for v in (Sides(c * (0.5 - x[:, 0]), c * (0.5 - y[:, 0]))
                                                         for c in (0.5, 0.8, 1.0, 2.0)))  # fmt: skip

    def bound(of):  # E_P g − E_Q e^g + 1
        return of.held_out.x.mean() - np.exp(of.held_out.y).mean() + 1

    alone, found = (two_sided(d, close, rivals, s, 0.95) for rivals in ((), (wild, right)))
    more = bound(right) - bound(close)
    assert more > 0.01 and found.value == pytest.approx(bound(close)) and found.interval[0] == alone.interval[0]
    assert found.interval[1] == pytest.approx(alone.interval[1] + more)
    far = two_sided(d, poor, (right,), s, 0.95)  # beyond the sampling error
    assert bound(right) - bound(poor) > 2 * found.stderr and far.bound == "lower" and far.interval[1] == math.inf


def test_weights_change_the_law():
    g = np.random.default_rng(17)
    x, y = 0.5 + g.normal(size=(3000, 1)), 1 + g.normal(size=(2000, 1))
    w = np.exp(0.125 - 0.5 * x[:, 0])  # from N(½, 1) to N(0, 1)
    e = est.estimate(x, y, "kl", seed=0, x_weights=w, normalize=True)
    assert e.interval[0] < 0.5 < e.interval[1]


def test_the_same_seed_gives_the_same_answer():
    g = np.random.default_rng(18)
    x, y = g.normal(size=(150, 2)), g.normal(size=(150, 2)) + 1
    assert est.estimate(x, y, "js", seed=3) == est.estimate(x, y, "js", seed=3)
