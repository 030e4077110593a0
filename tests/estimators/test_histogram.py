"""`Histogram`: frequencies, bins, their bias and bounds."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import divergences as dv
import estimators as est
from estimators.door import Samples


def test_frequencies_of_discrete_data_less_the_bias_of_miller():
    g = np.random.default_rng(0)
    p, q = [0.1, 0.2, 0.3, 0.4], [0.25] * 4
    x, y = g.choice(4, (900, 1), p=p), g.choice(4, (700, 1), p=q)
    a, b = (np.bincount(part[:, 0], minlength=4) / len(part) for part in (x, y))
    r = a / b
    bias = 3 / 1800 + (r * (1 - b)).sum() / 1400  # ½Σ[(1 − p)/n + r(1 − q)/m], f'' = 1/u
    e = est.Histogram("kl").estimate(x, y)
    assert e.value == pytest.approx(dv.kl(a, b) - bias, rel=1e-9) and e.bound == "consistent"
    influence = (a * np.log(r) ** 2).sum() - (a * np.log(r)).sum() ** 2, (b * r**2).sum() - 1
    assert e.stderr == pytest.approx(math.sqrt(influence[0] / 900 + influence[1] / 700), rel=0.05)
    assert any("4 distinct values" in note for note in e.notes)


@pytest.mark.parametrize("name", ["kl", "js", "squared_hellinger", "total_variation", "le_cam", "pearson_chi2"])
def test_discrete_intervals_cover_and_the_bias_is_gone(name):
    p, q = [0.15, 0.2, 0.3, 0.35], [0.3, 0.3, 0.2, 0.2]
    truth, found = float(dv.get(name)(p, q)), []
    for seed in range(200):
        g = np.random.default_rng(seed)
        found.append(est.Histogram(name).estimate(g.choice(4, (150, 1), p=p), g.choice(4, (120, 1), p=q)))
    values = np.array([e.value for e in found])
    spread = values.std()
    # The correction of total variation is exact on average over the distance from its kink, not at each distance.
    assert abs(values.mean() - truth) < 3 * spread / math.sqrt(200) + (
        0.05 * spread if name == "total_variation" else 0
    )
    assert 0.85 < np.mean([e.stderr for e in found]) / spread < 1.15
    covered = sum(e.interval[0] <= truth <= e.interval[1] for e in found)
    assert covered >= 200 * 0.95 - 3 * math.sqrt(200 * 0.95 * 0.05)


def test_at_equal_laws_the_error_is_that_of_the_second_order():
    values, errors = [], []
    for seed in range(150):
        g = np.random.default_rng(seed)
        e = est.Histogram("js").estimate(g.integers(0, 12, (600, 1)), g.integers(0, 12, (600, 1)))
        values.append(e.value)
        errors.append(e.stderr)
    assert abs(np.mean(values)) < 3 * np.std(values) / math.sqrt(150)
    assert 0.8 < np.mean(errors) / np.std(values) < 1.25


@pytest.mark.parametrize("name", ["kl", "js", "renyi", "total_variation"])
def test_bins_are_a_lower_bound_with_a_lower_limit(name):
    divergence = dv.get("renyi", alpha=0.6) if name == "renyi" else dv.get(name)
    truth = float(divergence(stats.laplace(), stats.norm(0.5, 2)))
    values, below = [], 0
    for seed in range(40):
        x, y = (
            stats.laplace.rvs(size=(900, 1), random_state=seed),
            stats.norm.rvs(0.5, 2, (900, 1), random_state=seed + 999),
        )
        e = est.Histogram(divergence).estimate(x, y)
        values.append(e.value)
        below += e.interval is None or e.interval[0] <= truth
        assert e.bound == "lower" and any("binning loses information" in note for note in e.notes)
    assert np.mean(values) <= truth + 3 * np.std(values) / math.sqrt(40) and np.mean(values) > 0.5 * truth
    assert below >= 36


def test_given_edges_are_the_divergence_of_the_binned_laws():
    P, Q, edges = stats.norm(0, 1), stats.norm(0.7, 1.2), (-1.0, -0.3, 0.2, 0.9)
    p, q = (np.diff([0, *law.cdf(edges), 1]) for law in (P, Q))
    values = [
        est.Histogram("kl", edges)(P.rvs((500, 1), seed), Q.rvs((500, 1), seed + 500)) for seed in range(60)
    ]  # fmt: skip
    assert np.mean(values) == pytest.approx(dv.kl(p, q), abs=4 * np.std(values) / math.sqrt(60))
    x, y = np.array([[-1.0], [0.2], [0.9], [5.0]]), np.array([[-2.0], [-0.5], [0.0], [3.0], [-0.9]])
    a, b = np.array([1, 0, 1, 1, 1]) / 4, np.array([1, 2, 1, 0, 1]) / 5  # cells hold their upper edge
    assert est.Histogram("total_variation", edges)(x, y) < dv.total_variation(a, b)  # the plug-in less its bias
    assert est.Histogram("kl", edges)(x, y) == math.inf == dv.kl(a, b)


def test_bins_have_equal_probability_in_two_dimensions_and_weights_count():
    g = np.random.default_rng(3)
    x, y = g.normal(size=(4000, 2)), g.normal(size=(4000, 2)) + 0.5
    e = est.Histogram("js", 6).estimate(x, y)
    assert any("6 × 6 bins of equal probability" in note for note in e.notes)
    truth = dv.js(stats.norm(0, 1), stats.norm(math.sqrt(0.5), 1))
    assert truth - 0.012 < e.value < truth + 3 * e.stderr
    # Weights that turn N(0, 1) into N(0.5, 1): the divergence from N(0.5, 1) is 0.
    tilt = np.exp(0.5 * x[:, 0])
    e = est.Histogram("js").estimate(x[:, :1], y[:, :1], x_weights=tilt / tilt.sum())
    assert abs(e.value) < 3 * e.stderr
    assert e.interval[0] <= 0


def test_empty_cells_and_smoothing_only_when_asked():
    x, y = np.array([[0], [1]] * 30), np.array([[1], [2]] * 30)
    e = est.Histogram("kl").estimate(x, y)
    assert e.value == math.inf and e.interval is None
    assert any("1 cells have points of x alone, 1 of y alone" in note and "smoothing=" in note for note in e.notes)
    assert est.Histogram("js")(x, y) == pytest.approx(dv.js([0.5, 0.5, 0], [0, 0.5, 0.5]), abs=0.02)
    e = est.Histogram("kl", smoothing=0.5).estimate(x, y)
    p, q = np.array([30.5, 30.5, 0.5]) / 61.5, np.array([0.5, 30.5, 30.5]) / 61.5
    assert math.isfinite(e.value) and e.value < dv.kl(p, q) and e.interval is None
    assert any("smoothing: 0.5 points" in note for note in e.notes)
    far = np.random.default_rng(0).normal(size=(200, 1))
    assert est.Histogram("kl", 8)(far, far + 100) == math.inf
    assert est.Histogram("total_variation", 4)(far, far + 100) == pytest.approx(1.0)


JOINED = {  # P, Q and a divergence that is finite, and infinite on the cells of most draws
    "kl": ("kl", stats.norm(0, 1), stats.norm(3, 1)),
    "reverse_kl": ("reverse_kl", stats.expon(), stats.expon(scale=4)),
    "jeffreys": ("jeffreys", stats.laplace(), stats.norm(1, 0.6)),
    "far": ("kl", stats.norm(0, 1), stats.norm(20, 1)),
}


@pytest.mark.parametrize("name", JOINED)
def test_automatic_bins_of_continuous_data_are_joined_to_a_finite_lower_bound(name):
    divergence, P, Q = JOINED[name]
    g, values, joined, above, printed = np.random.default_rng(60), [], 0, 0, 0
    truth = float(dv.get(divergence)(P, Q))
    for _ in range(100):
        x, y = P.rvs((300, 1), g), Q.rvs((400, 1), g)
        e = est.Histogram(divergence).estimate(x, y)
        values.append(e.value)
        joined += any("joined to others" in note for note in e.notes)
        printed += e.interval is not None
        above += e.interval is not None and e.interval[0] > truth
    assert joined > 20 and e.bound == "lower" and np.isfinite(values).all()
    assert np.mean(values) < truth and np.mean(values) > min(0.4 * truth, 0.5)
    assert above <= 0.05 * printed + 3 * math.sqrt(0.0475 * printed)


def test_joining_keeps_the_mass_and_says_when_nothing_is_left():
    g = np.random.default_rng(61)
    x = g.normal(size=(300, 1))
    e = est.Histogram("jeffreys").estimate(x, g.normal(size=(300, 1)) + 30)
    assert e.value == 0 and e.interval is None and any("tells nothing" in note for note in e.notes)
    cells = est.Histogram("kl")._cells(Samples(torch.from_numpy(x), torch.from_numpy(x + 3), None, None))
    assert cells.p.sum() == pytest.approx(1) and cells.q.sum() == pytest.approx(1) and (cells.q > 0).all()
    smoothed = est.Histogram("kl", smoothing=0.5).estimate(x, x + 3)
    assert any("smoothing" in note for note in smoothed.notes) and not any("joined" in n for n in smoothed.notes)
