"""MMD and the energy distance: known values, the tiled sums against the plain ones, unbiasedness and coverage."""

import math

import numpy as np
import pytest
import torch

import estimators as est
from divergences import kernels
from estimators.ops import pairwise
from estimators.ops.pairwise import reference

GAUSSIAN = kernels.Gaussian(1.0)
TRUTH = 0.1772676349  # N(0,1), N(1,1), kernel variance 1


def brute(k, x, y, unbiased):
    def mean(a, b, same):
        pairs = [float(k(p[None], q[None])) for i, p in enumerate(a) for j, q in enumerate(b) if not (same and i == j)]
        return math.fsum(pairs) / len(pairs)

    return mean(x, x, unbiased) + mean(y, y, unbiased) - 2 * mean(x, y, False)


@pytest.mark.parametrize("statistic", ["unbiased", "biased"])
@pytest.mark.parametrize(
    "kernel", [GAUSSIAN, kernels.Laplace([0.5, 2.0]), kernels.Polynomial(2, 1.0), kernels.DistanceInduced()]
)
def test_value_is_the_double_sum(kernel, statistic):
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(6, 2, generator=g, dtype=torch.float64), torch.randn(9, 2, generator=g, dtype=torch.float64)
    expected = brute(kernel, x, y, statistic == "unbiased")
    assert float(est.MMD(kernel, statistic)(x, y)) == pytest.approx(expected, abs=1e-12)


def test_energy_is_its_own_double_sum():
    g = np.random.default_rng(0)
    x, y = g.normal(size=(8, 3)), g.normal(size=(11, 3)) + 1
    d = np.linalg.norm
    between = np.mean([d(a - b) for a in x for b in y])
    within = [np.sum([d(a - b) for a in p for b in p]) / (len(p) * (len(p) - 1)) for p in (x, y)]
    assert est.EnergyDistance()(x, y) == pytest.approx(2 * between - within[0] - within[1], abs=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("exclude_self", [False, True])
def test_tiles_equal_the_reference(weighted, exclude_self):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 37, 3, generator=g, dtype=torch.float64)
    y = x if exclude_self else torch.randn(2, 23, 3, generator=g, dtype=torch.float64)
    w = torch.rand(2, y.shape[-2], generator=g, dtype=torch.float64) if weighted else None
    expected = reference.row_sums(GAUSSIAN, x, y, w, exclude_self=exclude_self)
    for tile in (10, 300, 2**22):
        found = pairwise.row_sums(GAUSSIAN, x, y, w, exclude_self=exclude_self, tile=tile)
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
        moments = pairwise.row_moments(GAUSSIAN, x, y, exclude_self=exclude_self, tile=tile)
        for part, plain in zip(moments, reference.row_moments(GAUSSIAN, x, y, exclude_self=exclude_self), strict=True):
            torch.testing.assert_close(part, plain, rtol=1e-13, atol=1e-13)


def test_tiles_have_the_gradients_of_the_reference():
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, 2, generator=g, dtype=torch.float64, requires_grad=True) for n in (15, 11))
    w = torch.rand(11, generator=g, dtype=torch.float64, requires_grad=True)
    plain = torch.autograd.grad(reference.row_sums(GAUSSIAN, x, y, w).square().sum(), (x, y, w))
    tiled = torch.autograd.grad(pairwise.row_sums(GAUSSIAN, x, y, w, tile=40).square().sum(), (x, y, w))
    for a, b in zip(tiled, plain, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("statistic", ["unbiased", "linear", "block"])
def test_unbiased(statistic):
    g = torch.Generator().manual_seed(5)
    x, y = (torch.randn(4000, 20, 1, generator=g, dtype=torch.float64) + shift for shift in (0.0, 1.0))
    values = est.MMD(GAUSSIAN, statistic)(x, y)
    assert abs(float(values.mean()) - TRUTH) <= 3.5 * float(values.std()) / math.sqrt(len(values))


@pytest.mark.parametrize(
    ("shift", "truth"), [(0.0, 0.0), (0.4, 2 / math.sqrt(3) * -math.expm1(-0.16 / 6)), (1.0, TRUTH)]
)
def test_intervals_cover(shift, truth):
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(300):
        e = est.MMD(GAUSSIAN).estimate(rng.normal(size=(100, 1)), rng.normal(size=(100, 1)) + shift)
        covered += e.interval[0] <= truth <= e.interval[1]
    assert covered / 300 >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 300)


def test_the_variance_is_that_of_the_statistic():
    rng = np.random.default_rng(3)
    estimates = [
        est.MMD(GAUSSIAN).estimate(rng.normal(size=(30, 1)), rng.normal(size=(45, 1)) + 1.0) for _ in range(1500)
    ]
    ratio = np.mean([e.stderr**2 for e in estimates]) / np.var([e.value for e in estimates])
    assert abs(ratio - 1) <= 4 * math.sqrt(2 / 1500)  # the relative error of a variance of normal values


def test_the_bandwidth_is_recorded_and_that_of_the_pool():
    x, y = torch.zeros(5, 1), torch.full((5, 1), 2.0)
    assert any("bandwidth=2.0" in note for note in est.MMD().estimate(x, y).notes)


def test_a_large_sample_stays_in_bounds():
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(3000, 2, generator=g) for _ in range(2))
    y.requires_grad_()
    (slope,) = torch.autograd.grad(est.MMD(GAUSSIAN)(x, y), y)
    assert bool(torch.isfinite(slope).all())


def test_faults():
    one = torch.zeros(1, 2)
    with pytest.raises(ValueError, match="needs at least 2"):
        est.MMD()(one, torch.zeros(5, 2))
    with pytest.raises(ValueError, match="kernel must be one of gaussian"):
        est.MMD("gausian")
    with pytest.raises(ValueError, match="statistic must be one of"):
        est.MMD(statistic="quadratic")
    assert est.MMD(statistic="biased").estimate(one, one).interval is None
