"""InfoNCE: the bound in its own terms, against a Monte Carlo of its own, and what it says of log K."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import estimators as est
from divergences import testing
from estimators.neural.info_nce import guessed


class Oracle(torch.nn.Module):
    """Log p/q of N(0, 1) and N(shift, 1), times a factor, and a constant."""

    def __init__(self, shift=1.0, factor=1.0, constant=0.0):
        super().__init__()
        self.shift, self.factor, self.constant = shift, factor, constant

    def forward(self, points):
        return self.factor * (self.shift**2 / 2 - self.shift * points).squeeze(-1) + self.constant


class Waves(torch.nn.Module):
    """A critic of points of any dimension."""

    def forward(self, points):
        return torch.sin(points).sum(-1)


def samples(n, m, shift=1.0, d=1, seed=0):
    g = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(k, d, generator=g, dtype=torch.float64) for k in (n, m))
    return x, y + shift


def expectation(K, shift, draws, seed):
    """E log [K r(x)/(r(x) + Σ_j r(y_j))] for the ratio r itself and its error, drawn and written in NumPy."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=draws), rng.normal(shift, 1, size=(draws, K - 1))
    r, s = (np.exp(shift**2 / 2 - shift * v) for v in (x, y))
    terms = np.log(K * r / (r + s.sum(1)))
    return terms.mean(), terms.std() / math.sqrt(draws)


def bound(critic, K, n, shift=1.0, seed=0):
    """The mean over blocks, and its error."""
    means = est.InfoNCE(critic, negatives=K - 1).pieces(*samples(n, n * (K - 1), shift, seed=seed))[0]
    return float(means.mean()), float(means.std()) / math.sqrt(len(means))


def test_the_place_is_guessed_by_the_softmax():
    rng = np.random.default_rng(0)
    t, w = rng.normal(size=20), rng.normal(size=(20, 6))
    expected = np.log(7 * np.exp(t) / (np.exp(t) + np.exp(w).sum(1)))
    found = guessed(torch.from_numpy(t), torch.from_numpy(w).logsumexp(1), 6)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    far = guessed(torch.tensor([800.0, -800.0]), torch.zeros(2), 6)
    np.testing.assert_allclose(far.numpy(), [math.log(7), math.log(7) - 800], rtol=1e-6)


@pytest.mark.parametrize("K", [2, 8, 32])
def test_the_oracle_critic_has_the_expectation_of_its_K(K):
    found, error = bound(Oracle(), K, 40_000)
    expected, doubt = expectation(K, 1.0, 40_000, seed=1)
    assert abs(found - expected) < 4 * math.hypot(error, doubt)
    assert found < 0.5


def test_the_bound_of_the_oracle_rises_to_kl_with_K():
    values = [bound(Oracle(), K, n) for K, n in ((2, 20_000), (8, 20_000), (64, 20_000), (1024, 2000))]
    assert all(a[0] < b[0] for a, b in zip(values[:3], values[1:3], strict=False))
    # To second order the bound falls short by var(r)/(2K) = (e − 1)/(2K).
    assert abs(values[3][0] + (math.e - 1) / 2048 - 0.5) < 4 * values[3][1] + 1e-3


@settings(max_examples=15, deadline=None)
@given(factor=st.floats(-3, 3), constant=st.floats(-50, 50), shift=st.floats(-2, 2), K=st.integers(2, 40))
def test_it_is_below_kl_and_log_K_for_every_critic_and_every_K(factor, constant, shift, K):
    found, error = bound(Oracle(shift, factor, constant), K, 2000, shift)
    assert found <= min(shift**2 / 2 + 5 * error, math.log(K)) + 1e-9
    assert found == pytest.approx(bound(Oracle(shift, factor), K, 2000, shift)[0], abs=1e-9)


def fitted(critic, **options):
    estimator = est.InfoNCE(critic, **options)
    estimator.fitted = True
    return estimator


@pytest.mark.parametrize(
    "law", ["order_of_points", "same_kind", "no_side_effects", "float32", "half_precision", "gradients"]
)
def test_laws_of_estimators_hold_for_a_given_critic(law):
    testing.check_estimator(fitted(Waves()), [law], 10, n=(8, 24), d=(1, 3), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("in_order", [False, True], ids=["shuffled", "sorted"])
def test_the_error_is_that_of_the_value_and_the_limit_holds(in_order):
    """400 samples: the spread of the values, and how often the 95% limit exceeds their mean, 20 times on average."""
    values, errors, lows = [], [], []
    for seed in range(400):
        x, y = samples(300, 1000, seed=seed)
        if in_order:
            x, y = x.sort(0).values, y.sort(0).values
        found = fitted(Oracle(), negatives=19).estimate(x, y, seed=seed)
        values.append(found.value)
        errors.append(found.stderr)
        lows.append(found.interval[0] if found.interval else -math.inf)  # refused where one block is too large
    expected, _ = expectation(20, 1.0, 100_000, seed=2)
    assert 0.85 < np.std(values) / np.mean(errors) < 1.15  # 3.5% each for 400 values
    assert abs(np.mean(values) - expected) < 4 * np.std(values) / 20
    assert np.sum(np.array(lows) > expected) <= 20 + 4 * 4.4 and np.isfinite(lows).mean() > 0.9


def test_trained_bounds_stay_below_kl_and_mean_the_log_ratio():
    found = est.InfoNCE().estimate(*samples(2000, 2000), seed=0)
    assert found.bound == "lower" and 0.3 < found.value < 0.5 + 4 * found.stderr and found.interval[1] == math.inf
    assert "51 blocks of K = 14" in found.notes
    critic = est.InfoNCE().fit(*samples(2000, 2000), steps=400, seed=0)
    z = samples(500, 1, shift=0.5, seed=9)[0]
    truth = 0.5 - z[:, 0]
    assert float((critic.log_ratio(z).detach() - truth).square().mean().sqrt()) < 0.4
    assert critic.log_ratio(z.numpy().reshape(5, 100, 1)).shape == (5, 100)


def test_a_stack_of_critics_has_the_values_of_its_critics():
    problems = [samples(200, 150, shift, 2, seed) for seed, shift in enumerate((0.5, 1.0))]
    x, y = (torch.stack(side) for side in zip(*problems, strict=True))
    stack = est.InfoNCE().fit(x, y, steps=60)
    assert stack(x, y).shape == (2,)
    for one, value, (a, b) in zip(stack.unstacked(), stack(x, y), problems, strict=True):
        torch.testing.assert_close(one(a, b), value)
        ratio = one.log_ratio(b).detach()
        assert float(ratio.exp().mean()) == pytest.approx(1, abs=1e-4)  # so the constant was chosen
        assert one.log_ratio(b[0]).shape == ()


def test_a_value_near_log_K_says_so():
    found = fitted(Oracle(30.0)).estimate(*samples(300, 300, shift=30.0), seed=0)  # the truth is 450
    assert found.value == pytest.approx(math.log(7), abs=1e-6)
    assert any("cannot exceed log K = 1.95: the divergence may be far larger" in note for note in found.notes)
    near = fitted(Oracle()).estimate(*samples(3000, 3000), seed=0)
    assert not any("cannot exceed" in note for note in near.notes)


def test_bad_calls_are_refused_and_few_blocks_have_no_interval():
    x, y = samples(300, 300)
    found = fitted(Oracle(), negatives=30).estimate(x, y, seed=0)
    assert found.interval is None and "no interval: 10 blocks show no spread, 20 are needed" in found.notes
    weights = torch.full((300,), 1 / 300, dtype=torch.float64)
    for call in (fitted(Oracle()), fitted(Oracle()).value, fitted(Oracle()).estimate):
        with pytest.raises(ValueError, match="InfoNCE takes no weights"):
            call(x, y, x_weights=weights)
    with pytest.raises(ValueError, match="negatives must be at most half of the 300 new points of y: got 151"):
        fitted(Oracle(), negatives=151).estimate(x, y)
    with pytest.raises(ValueError, match="negatives must be at least 1: got 0"):
        est.InfoNCE(negatives=0)
    with pytest.raises(ValueError, match="no fitted critic yet"):
        est.InfoNCE(Oracle()).log_ratio(x)
    with pytest.raises(ValueError, match="has no critic yet"):
        est.InfoNCE()(x, y)
    with pytest.raises(ValueError, match="x and y need at least 20 points each.*: got 8 and 300"):
        est.InfoNCE().estimate(x[:8], y)
