"""The block jackknife, the probe of the bias, and the refusal of intervals that would hide one."""

import math

import pytest
import torch

from estimators import intervals
from estimators.door import Samples


def samples(n, m, seed=0, weights=None):
    g = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(k, 1, generator=g, dtype=torch.float64) for k in (n, m))
    return Samples(x, y, weights, None)


def squared_mean(s):
    """(E X − E Y)², whose plug-in has bias 1/n + 1/m."""
    mean = s.x.mean() if s.x_weights is None else (s.x_weights * s.x[:, 0]).sum()
    return float((mean - s.y.mean()) ** 2)


def test_the_standard_error_is_that_of_a_mean():
    found = [intervals.jackknife(lambda s: float(s.x.mean()), samples(100, 100, k), 0.95, k) for k in range(200)]
    errors = torch.tensor([f[1] for f in found])
    assert float(errors.square().mean()) == pytest.approx(1 / 100, rel=4 * math.sqrt(2 / 19 / 200) + 0.01)


def test_the_bias_is_seen_and_covered():
    covered = 0
    for k in range(200):
        value, _, interval, notes = intervals.jackknife(squared_mean, samples(60, 60, k), 0.95, k)
        covered += interval[0] <= 0 <= interval[1]
        assert interval[0] <= value <= interval[1] and any("1/n" in note for note in notes)
    assert covered / 200 >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 200)


def test_equal_weights_change_nothing():
    s = samples(40, 30)
    weighted = s._replace(x_weights=torch.full((40,), 1 / 40, dtype=torch.float64))
    plain, found = (intervals.jackknife(squared_mean, p, 0.95, 1) for p in (s, weighted))
    assert found[1] == pytest.approx(plain[1], rel=1e-9) and found[2] == pytest.approx(plain[2], rel=1e-9)


def test_refusals():
    value, stderr, interval, notes = intervals.jackknife(squared_mean, samples(4, 40), 0.95, 0)
    assert stderr is None and interval is None and "at least 5 points" in notes[0]
    point = torch.zeros(40, dtype=torch.float64)
    point[0] = 1.0
    assert intervals.jackknife(squared_mean, samples(40, 40, weights=point), 0.95, 0)[2] is None
    assert intervals.jackknife(lambda s: math.inf, samples(40, 40), 0.95, 0)[2] is None
    assert intervals.declare(1.0, 0.1, 0.3, 0.95)[0] is None
    assert intervals.declare(1.0, 0.1, math.nan, 0.95)[0] is None


def test_a_declared_bias_moves_one_end():
    low, high = intervals.declare(1.0, 0.1, 0.05, 0.95)[0]
    plain_low, plain_high = intervals.normal(1.0, 0.1, 0.95)
    assert high == pytest.approx(plain_high) and low == pytest.approx(plain_low - 0.05)


@pytest.mark.parametrize("rate", [0.5, 1.0])
def test_half_samples_show_the_bias(rate):
    """A value of known bias n^(−rate) and no noise."""
    found = intervals.half_sample_bias(lambda s: len(s.x) ** -rate, samples(100, 100), 100**-rate, rate, seed=0)
    assert found == pytest.approx(100**-rate)
