"""Sliced transport against SciPy and POT along the same directions, and its intervals on Gaussians."""

import math

import numpy as np
import ot
import pytest
import torch
from scipy.stats import binom, wasserstein_distance

import estimators as est


def samples(n, m, d, seed=0):
    g = np.random.default_rng(seed)
    return g.normal(size=(n, d)), 0.7 * g.normal(size=(m, d)) + 0.5


def test_is_the_mean_over_projections():
    x, y = samples(50, 33, 4)
    estimator = est.SlicedWasserstein(1, projections=30)
    theta = estimator.directions(torch.from_numpy(x), None).numpy()
    expected = np.mean([wasserstein_distance(x @ t, y @ t) for t in theta])
    assert estimator(x, y) == pytest.approx(expected, rel=1e-10)
    assert estimator(x, y) == estimator(x, y)
    other = estimator(torch.from_numpy(x), torch.from_numpy(y), generator=torch.Generator().manual_seed(1))
    assert float(other) != estimator(x, y)


@pytest.mark.parametrize("order", [1, 2])
def test_is_that_of_pot(order):
    x, y = samples(50, 33, 4)
    a, b = (np.random.default_rng(k).dirichlet(np.ones(n)) for k, n in ((1, 50), (2, 33)))
    estimator = est.SlicedWasserstein(order, projections=30)
    theta = estimator.directions(torch.from_numpy(x), None).numpy()
    expected = ot.sliced_wasserstein_distance(x, y, a, b, p=order, projections=theta.T)
    assert estimator(x, y, a, b) == pytest.approx(expected, rel=1e-9)


def test_max_sliced_finds_the_shift():
    x, _ = samples(200, 1, 20)
    shift = np.zeros(20)
    shift[7] = 2.0
    assert est.MaxSlicedWasserstein()(x, x + shift) == pytest.approx(2.0, rel=1e-3)
    assert est.MaxSlicedWasserstein()(x, x + shift) >= est.SlicedWasserstein()(x, x + shift)


@pytest.mark.parametrize("order", [1, 2])
def test_max_sliced_of_a_shift_is_that_of_pot_at_the_best_direction(order):
    x, y = samples(40, 40, 3)
    y = y + np.array([5.0, 0.0, 0.0])
    estimator = est.MaxSlicedWasserstein(order, projections=200)
    directions = np.random.default_rng(0).normal(size=(3, 2000))
    peer = ot.max_sliced_wasserstein_distance(
        x, y, p=order, projections=directions / np.linalg.norm(directions, axis=0)
    )
    assert estimator(x, y) >= peer * (1 - 1e-9)  # ascent does not end below 2,000 random directions
    assert estimator(x, y) <= peer * 1.05


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: est.SlicedWasserstein(0.5), "order must be at least 1"),
        (lambda: est.SlicedWasserstein(projections=0), "projections must be at least 1"),
        (lambda: est.SlicedWasserstein(projections=1.5), "projections must be at least 1, an integer: got 1.5"),
        (lambda: est.SlicedWasserstein(math.inf), "order must be at least 1 and finite: got inf"),
        (lambda: est.MaxSlicedWasserstein(0.5), "order must be at least 1"),
    ],
)
def test_bad_choices_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def truth(order, d, shift, scale):
    """SW_p of N(0, I) and N(shift·e₁, scale²·I), one of them trivial: E|⟨θ, e₁⟩|^p or E|Z|^p times the difference."""
    if order == 2:
        return math.sqrt(shift**2 / d + (scale - 1) ** 2)
    along = math.gamma(d / 2) / (math.sqrt(math.pi) * math.gamma((d + 1) / 2))
    return along * shift + abs(scale - 1) * math.sqrt(2 / math.pi)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(
    ("d", "shift", "scale"),
    [(2, 0.0, 1.0), (10, 0.0, 1.0), (2, 0.2, 1.0), (2, 1.0, 1.0), (10, 0.0, 1.3)],
    ids=["equal laws", "equal laws d = 10", "near", "shift", "scale"],
)
def test_intervals_cover(order, d, shift, scale):
    estimator, printed, covered = est.SlicedWasserstein(order, projections=50), 0, 0
    for r in range(120):
        g = np.random.default_rng([23, r])
        x, y = g.normal(size=(150, d)), scale * g.normal(size=(150, d))
        y[:, 0] += shift
        e = estimator.estimate(x, y, seed=r)
        if e.interval is not None:
            printed += 1
            covered += e.interval[0] <= truth(order, d, shift, scale) + 1e-12 and (
                truth(order, d, shift, scale) <= e.interval[1]
            )
    assert printed >= 80
    assert binom.cdf(covered, printed, 0.93) > 1e-3


def test_few_directions_widen_the_interval():
    x, y = samples(300, 300, 5)
    few, many = (est.SlicedWasserstein(projections=L).estimate(x, y + 1, seed=0) for L in (5, 500))
    assert few.stderr > many.stderr
    assert any("5 directions make" in note for note in few.notes)


def test_max_sliced_interval_covers_or_is_refused():
    printed = covered = 0
    for r in range(100):
        g = np.random.default_rng([29, r])
        e = est.MaxSlicedWasserstein(projections=20, steps=20).estimate(
            g.normal(size=(150, 3)), g.normal(size=(150, 3)) + np.eye(3)[0], seed=r
        )
        if e.interval is not None:
            printed += 1
            covered += e.interval[0] <= 1.0 <= e.interval[1]
    assert printed >= 30 and binom.cdf(covered, printed, 0.93) > 1e-3
    same = est.MaxSlicedWasserstein().estimate(*(np.random.default_rng(0).normal(size=(2, 200, 10))))
    assert same.interval is None and any("not small against" in note for note in same.notes)
