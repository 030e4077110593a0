"""Precision, recall, density and coverage against their definitions, written out; dropped modes; honest errors."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

import estimators as est
from estimators.classical.coverage import NAMES


def brute(x, y, k, metric="euclidean"):
    """The definitions of Kynkäänniemi et al. 2019 and Naeem et al. 2020."""
    n, m, between = len(x), len(y), cdist(x, y, metric)
    balls_x, balls_y = (np.sort(cdist(p, p, metric), 1)[:, k] for p in (x, y))
    precision = sum(any(between[i, j] <= balls_x[i] for i in range(n)) for j in range(m)) / m
    recall = sum(any(between[i, j] <= balls_y[j] for j in range(m)) for i in range(n)) / n
    density = sum(between[i, j] <= balls_x[i] for i in range(n) for j in range(m)) / (k * m)
    covered = [any(between[i, j] <= balls_x[i] for j in range(m)) for i in range(n)]
    return (precision, recall, density, sum(covered) / n), np.flatnonzero(~np.array(covered))


@pytest.mark.parametrize(("d", "metric"), [(1, "euclidean"), (2, "cityblock"), (3, "chebyshev"), (12, "euclidean")])
@pytest.mark.parametrize("k", [1, 4])
def test_values_are_the_definitions(d, metric, k):
    g = np.random.default_rng(d)
    x, y = g.normal(size=(60, d)), g.normal(size=(45, d)) * 0.7 + 0.4
    found = est.precision_recall(x, y, k, metric)
    values, dropped = brute(x, y, k, metric)
    assert tuple(getattr(found, name).value for name in NAMES) == pytest.approx(values, rel=1e-12)
    np.testing.assert_array_equal(found.dropped, dropped)
    assert (found.precision.n, found.precision.m, found.recall.divergence) == (60, 45, "recall")
    moved = est.precision_recall(torch.from_numpy(x[::-1].copy()) + 1e4, torch.from_numpy(y) + 1e4, k, metric)
    assert moved.coverage.value == found.coverage.value and moved.precision.value == found.precision.value
    np.testing.assert_array_equal(np.sort(59 - moved.dropped), dropped)


def test_recall_and_coverage_see_a_dropped_mode_precision_an_invented_one():
    g = np.random.default_rng(0)
    modes = np.array([[-10.0, 0.0], [0.0, 0.0], [10.0, 0.0]])
    x = np.concatenate([g.normal(size=(100, 2)) + mode for mode in modes])
    dropped = est.precision_recall(x, np.concatenate([g.normal(size=(150, 2)) + mode for mode in modes[:2]]))
    assert dropped.precision.value > 0.95 and dropped.density.value > 0.8
    assert dropped.recall.value < 0.68 and dropped.coverage.value < 0.68
    assert set(range(200, 300)) <= set(dropped.dropped.tolist()) and (dropped.dropped < 200).sum() < 20
    for e in (dropped.recall, dropped.coverage):
        assert e.interval[1] < 0.8
    invented = est.precision_recall(x, np.concatenate([x + 0.1 * g.normal(size=x.shape), g.normal(size=(150, 2)) + 30]))
    assert invented.precision.value < 0.7 and invented.recall.value > 0.95 and len(invented.dropped) < 10


@pytest.mark.parametrize(("n", "m", "k"), [(80, 80, 5), (60, 120, 3)])
def test_the_mean_of_coverage_and_density_for_equal_laws(n, m, k):
    found = []
    for seed in range(60):
        g = np.random.default_rng(seed)
        found.append(est.precision_recall(g.normal(size=(n, 2)), g.normal(size=(m, 2)), k))
    coverage, density = (np.array([getattr(one, name).value for one in found]) for name in ("coverage", "density"))
    assert abs(coverage.mean() - found[0].expected_coverage) < 3 * coverage.std() / math.sqrt(60)
    assert abs(density.mean() - 1) < 3 * density.std() / math.sqrt(60)
    assert 0.8 < np.mean([one.density.stderr for one in found]) / density.std() < 2.2  # wide rather than narrow


def test_intervals_hold_the_mean_of_the_statistic():
    draws = []
    for seed in range(40):
        g = np.random.default_rng(seed)
        draws.append(est.precision_recall(g.normal(size=(150, 3)), g.normal(size=(120, 3)) + [1.5, 0, 0], 3, seed=0))
    for name in NAMES:
        estimates = [getattr(one, name) for one in draws]
        mean = np.mean([e.value for e in estimates])
        assert sum(e.interval[0] <= mean <= e.interval[1] for e in estimates) >= 34
        assert all(e.interval[0] <= e.value <= e.interval[1] for e in estimates)


def test_copies_of_the_data_are_covered_in_many_dimensions():
    x = np.random.default_rng(1).normal(size=(70, 30)) + 100
    found = est.precision_recall(x, x[::-1], 3)
    assert [getattr(found, name).value for name in ("precision", "recall", "coverage")] == [1, 1, 1]
    assert found.density.value == pytest.approx(4 / 3)  # the point itself and its three neighbours
    assert found.precision.interval[0] > 0.9 and found.precision.interval[1] == 1
    apart = est.precision_recall(x, x + 1e3, 3).precision
    assert (apart.value, apart.stderr, apart.interval[0]) == (0, 0, 0) and 0.03 < apart.interval[1] < 0.08
    assert any("binomial" in note for note in apart.notes)


def test_few_points_have_values_without_intervals_and_faults_are_named():
    x = np.random.default_rng(2).normal(size=(20, 2))
    found = est.precision_recall(x, x + 0.1)
    assert found.recall.interval is None and any("30 points a side" in note for note in found.recall.notes)
    assert found.to_dict()["coverage"]["divergence"] == "coverage"
    for arguments, message in (
        ((x, x, 0), "k must be an integer of at least 1: got 0"),
        ((x, x, 2.5), r"k must be an integer of at least 1: got 2\.5"),
        ((x, x, 5, "cosine"), "metric must be one of"),
        ((x[:5], x), "x needs at least 6 points"),
        ((x, x[:, :1]), "share their last axis"),
    ):
        with pytest.raises(ValueError, match=message):
            est.precision_recall(*arguments)
    with pytest.raises(ValueError, match="y has 1 NaN"):
        est.precision_recall(x, np.where(np.arange(40).reshape(20, 2) == 3, np.nan, x))


@pytest.mark.parametrize(("n", "place"), [(1000, 0), (300, 299)])
def test_a_ball_that_alone_covers_much_is_named(n, place, monkeypatch):
    g = np.random.default_rng(3)
    x = g.normal(size=(n, 2))
    half = np.concatenate([g.normal(size=(n // 2, 2)), g.normal(50, 1, size=(n // 2, 2))])
    outlier = x.copy()
    outlier[place] = 1e6
    clean, fooled = est.precision_recall(x, half), est.precision_recall(outlier, half)
    assert clean.precision.value < 0.51 and fooled.precision.value > 0.99
    assert not any("alone covers" in note for name in NAMES for note in getattr(clean, name).notes)
    (note,) = [note for note in fooled.precision.notes if "alone covers" in note]
    assert f"point {place} of x" in note and "density" in note
    share = float(note.split("alone covers ")[1].split("%")[0]) / 100
    assert share == pytest.approx(fooled.precision.value - clean.precision.value, abs=0.011)
    assert fooled.density.value - clean.density.value <= 1 / 5 + 0.011
    swapped = est.precision_recall(half, outlier)
    (note,) = [note for note in swapped.recall.notes if "alone covers" in note]
    assert f"point {place} of y" in note and "coverage" in note
    assert not any("alone covers" in note for note in swapped.precision.notes)
    monkeypatch.setattr("estimators.classical.coverage._TILE", 7 * n)
    assert est.precision_recall(outlier, half).precision.notes == fooled.precision.notes


def test_no_ball_is_named_for_equal_laws():
    for seed in range(30):
        g = np.random.default_rng(seed)
        found = est.precision_recall(g.normal(size=(60, 3)), g.normal(size=(60, 3)))
        assert not any("alone covers" in note for name in NAMES for note in getattr(found, name).notes)
