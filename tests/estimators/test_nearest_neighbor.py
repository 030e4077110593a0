"""Nearest-neighbour KL: the published formula, ties, and no interval that hides a bias."""

import math

import numpy as np
import pytest
import torch
from scipy.special import digamma

import estimators as est


def brute(x, y, k):
    own = np.sort(np.linalg.norm(x[:, None] - x[None], axis=-1), -1)[:, k]
    other = np.sort(np.linalg.norm(x[:, None] - y[None], axis=-1), -1)[:, k - 1]
    return x.shape[1] * np.log(other / own).mean() + math.log(len(y) / (len(x) - 1))


@pytest.mark.parametrize("k", [1, 5])
def test_value_is_the_published_formula(k):
    g = np.random.default_rng(0)
    x, y = g.normal(size=(40, 3)), g.normal(size=(55, 3)) + 0.5
    assert est.NearestNeighbor(k=k)(x, y) == pytest.approx(brute(x, y, k), rel=1e-10)
    assert est.NearestNeighbor("reverse_kl", k)(x, y) == pytest.approx(brute(y, x, k), rel=1e-10)


def test_consistent_in_low_dimension():
    g = np.random.default_rng(1)
    errors = [
        abs(np.mean([est.NearestNeighbor()(g.normal(size=(n, 1)), g.normal(size=(n, 1)) + 1) for _ in range(20)]) - 0.5)
        for n in (100, 1000, 10_000)
    ]
    assert errors[2] < 0.02 and errors[2] < errors[0]


def test_ties_are_counted_and_noted():
    g = np.random.default_rng(2)
    x = np.concatenate([g.normal(size=160), np.full(40, 1000.0)])[:, None]  # an atom far from the rest, in both
    y = np.concatenate([g.normal(size=240), np.full(60, 1000.0)])[:, None]
    e = est.NearestNeighbor(k=3).estimate(x, y)
    rho = np.sort(np.abs(x[:160] - x[:160].T), 1)[:, 3]  # the third neighbour besides the point itself
    nu = np.sort(np.abs(x[:160] - y[:240].T), 1)[:, 2]
    expected = (np.log(nu / rho).sum() + 40 * (digamma(39) - digamma(60))) / 200 + math.log(300 / 199)
    assert e.value == pytest.approx(expected, rel=1e-10)
    assert e.interval is None and any("no density" in note for note in e.notes)
    x = g.normal(size=(1000, 1))
    x[0] = x[1]
    e = est.NearestNeighbor(k=1).estimate(x, g.normal(size=(1000, 1)))
    assert math.isfinite(e.value) and any("repeated" in note for note in e.notes)


@pytest.mark.parametrize(("d", "shift"), [(1, 1.0), (2, 1.0), (5, 1.0), (10, 2.0)])
def test_a_printed_interval_covers(d, shift):
    truth, covered, printed = shift**2 / 2, 0, 0
    for seed in range(40):
        g = np.random.default_rng(seed)
        e = est.NearestNeighbor().estimate(g.normal(size=(1000, d)), g.normal(size=(1000, d)) + np.eye(d)[0] * shift)
        if e.interval is None:
            assert any("not small against the sampling error" in note for note in e.notes)
        else:
            printed += 1
            covered += e.interval[0] <= truth <= e.interval[1]
    assert covered >= 0.95 * printed - 3 * math.sqrt(0.95 * 0.05 * max(printed, 1))
    assert printed >= 20 if d == 1 else True
    assert printed == 0 if d == 10 else True


def test_the_saturated_case_prints_no_interval():
    g = np.random.default_rng(3)
    e = est.NearestNeighbor().estimate(g.exponential(1, size=(1000, 1)), g.exponential(1 / 12, size=(1000, 1)))
    assert e.interval is None and e.value < 8.515


def test_refusals():
    x = torch.randn(20, 2, requires_grad=True)
    with pytest.raises(TypeError, match="NearestNeighbor has no gradient"):
        est.NearestNeighbor()(x, x)
    with torch.no_grad():
        est.NearestNeighbor()(x, x + 1)
    with pytest.raises(NotImplementedError, match=r"est\.Variational"):
        est.NearestNeighbor("js")
    with pytest.raises(ValueError, match="k must be at least 1"):
        est.NearestNeighbor(k=0)
    with pytest.raises(ValueError, match="x needs at least 6"):
        est.NearestNeighbor()(torch.zeros(5, 1), torch.zeros(20, 1))


def test_discrete_data_are_refused_with_what_fits_them():
    for x, y in [(np.zeros((50, 1)), np.ones((50, 1))), (np.arange(60)[:, None] % 3, 10 + np.arange(60)[:, None] % 3)]:
        with pytest.raises(ValueError, match=r"repeats \d+% of its points: .* continuous data; .* dv.kl"):
            est.NearestNeighbor("kl").estimate(x.astype(float), y.astype(float), seed=0)
