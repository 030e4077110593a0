"""W₂ by the best affine map: the closed form, the bias that is removed, and what the check lets through."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.stats import binom

import divergences as dv
import estimators as est


def covariance(d):
    S = np.eye(d)
    S[0, 1] = S[1, 0] = 0.5
    return S


def test_the_plug_in_is_the_distance_of_the_fitted_gaussians():
    g = np.random.default_rng(0)
    x, y = g.normal(size=(60, 4)), 1.0 + g.normal(size=(50, 4)) @ np.linalg.cholesky(covariance(4)).T
    found = est.AffineWasserstein(rooted=False).estimate(x, y)
    removed = float(found.notes[0].split(":")[1].split("(")[0])
    Sx, Sy = np.cov(x.T), np.cov(y.T)
    root = np.real(sqrtm(Sx))
    bures = np.trace(Sx) + np.trace(Sy) - 2 * np.trace(np.real(sqrtm(root @ Sy @ root)))
    shift = ((x.mean(0) - y.mean(0)) ** 2).sum() - np.trace(Sx) / 60 - np.trace(Sy) / 50
    assert found.value == pytest.approx(shift + bures - removed, abs=6e-3 * removed)


@pytest.mark.parametrize("law", ["normal", "uniform"])
@pytest.mark.parametrize("case", ["equal laws", "covariance"])
def test_has_no_bias_of_first_order(law, case):
    d, n, R = 4, 200, 1000
    g = np.random.default_rng(1)
    draw = g.normal if law == "normal" else (lambda size: math.sqrt(3) * g.uniform(-1, 1, size))
    S = np.eye(d) if case == "equal laws" else covariance(d)
    A = np.real(sqrtm(S))
    x, y = draw(size=(R, n, d)), draw(size=(R, n, d)) @ A
    values = est.AffineWasserstein(rooted=False)(x, y)
    normals = [torch.distributions.MultivariateNormal(torch.zeros(d), torch.from_numpy(V)) for V in (np.eye(d), S)]
    truth = float(dv.wasserstein(*normals, order=2)) ** 2
    plain = d * (d + 1) / (2 * n)  # the bias of the plug-in for equal Gaussian laws
    assert abs(values.mean() - truth) <= 3 * values.std() / math.sqrt(R) + 0.05 * plain


def test_gradient_is_that_of_the_plug_in():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(30, 3, generator=g, dtype=torch.float64)
    shift = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
    value = est.AffineWasserstein(rooted=False)(x, x + shift)
    (slope,) = torch.autograd.grad(value, shift)
    torch.testing.assert_close(slope, 2 * shift.detach())


@pytest.mark.parametrize("case", ["shift", "covariance"])
def test_intervals_cover_in_ten_dimensions(case):
    d, n, R = 10, 1000, 60
    S, mean = (np.eye(d), np.eye(d)[0]) if case == "shift" else (covariance(d), np.zeros(d))
    A = np.real(sqrtm(S))
    truth = mean @ mean + np.trace(np.eye(d) + S - 2 * A)
    errors, covered, printed = [], 0, 0
    for r in range(R):
        g = np.random.default_rng([31, r])
        x, y = g.normal(size=(n, d)), mean + g.normal(size=(n, d)) @ A
        e = est.AffineWasserstein(rooted=False).estimate(x, y, seed=r)
        errors.append(e.value - truth)
        if e.interval is not None:
            printed += 1
            covered += e.interval[0] <= truth <= e.interval[1]
    assert abs(np.mean(errors)) <= 3 * np.std(errors) / math.sqrt(R)
    assert printed >= R - 10  # the check rejects one in twenty
    assert binom.cdf(covered, printed, 0.93) > 1e-3


def test_few_points_in_many_dimensions_have_a_lower_limit_only():
    """The third sign is the product of the first two: every pair of coordinates is independent, W₂ > 0 and G = 0."""
    found = []
    for r in range(20):
        g = np.random.default_rng([41, r])
        x, y = g.normal(size=(100, 4)), g.normal(size=(100, 4))
        y[:, 2] = np.abs(y[:, 2]) * np.sign(y[:, 0] * y[:, 1])
        found.append(est.AffineWasserstein().estimate(x, y, seed=r))
    assert all(e.interval is None and e.bound == "lower" for e in found)
    assert any("fewer than 100 for each" in " ".join(e.notes) for e in found)


@pytest.mark.parametrize("case", ["uniform margins", "two modes", "dependence"])
def test_another_law_is_a_lower_bound(case):
    g = np.random.default_rng(2)
    x, y = g.normal(size=(600, 5)), g.normal(size=(600, 5))
    if case == "uniform margins":
        y = math.sqrt(3) * g.uniform(-1, 1, size=(600, 5))
    elif case == "two modes":
        y[:, 2] = 0.9 * g.choice([-1, 1], size=600) + math.sqrt(1 - 0.81) * y[:, 2]
    else:
        y[:, 1] *= np.sign(y[:, 0]) * np.sign(g.normal(size=600) + 2 * y[:, 2])  # the same margins
        y[:, 3] = np.abs(y[:, 3]) * np.sign(y[:, 4] * y[:, 2])
    e = est.AffineWasserstein().estimate(x, y, seed=0)
    assert e.interval is None and e.bound == "lower"
    assert any("no affine map takes P to Q" in note for note in e.notes)


@pytest.mark.parametrize("law", ["heavy tails", "skew"])
def test_a_shift_of_any_law_passes(law):
    g = np.random.default_rng(4)
    draw = (lambda: g.standard_t(6, size=(500, 5))) if law == "heavy tails" else (lambda: g.exponential(size=(500, 5)))
    e = est.AffineWasserstein().estimate(draw(), draw() + 0.5, seed=0)
    assert e.interval is not None and e.interval[0] <= math.sqrt(5 * 0.25) <= e.interval[1]


def test_what_it_cannot_do_it_says():
    g = np.random.default_rng(0)
    x = g.normal(size=(50, 3))
    flat = x * [1.0, 1.0, 0.0]
    assert "no full rank" in " ".join(est.AffineWasserstein().estimate(flat, flat + 1.0).notes)
    weights = np.full(50, 1 / 50)
    assert "takes no weights" in " ".join(est.AffineWasserstein().estimate(x, x + 1.0, x_weights=weights).notes)
    with pytest.raises(ValueError, match=r"x needs at least d \+ 2 = 5 points"):
        est.AffineWasserstein()(x[:4], x)
