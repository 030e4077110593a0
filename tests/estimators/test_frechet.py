"""The Fréchet distance: the usual formula, exact truths, gradients, rank deficiency, its bias and its intervals."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
import torch.distributions as td
from scipy.stats import binom
from torch import nn

import divergences as dv
import estimators as est
from divergences import testing
from estimators.door import Samples
from estimators.kernel.frechet import _heavy

F64 = torch.float64


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def usual(x, y):
    """‖μ_x − μ_y‖² + tr(Σ_x + Σ_y − 2(Σ_x Σ_y)^½) by the matrix root, as published code has it."""
    S, T = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = scipy.linalg.sqrtm(S @ T)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(S) + np.trace(T) - 2 * np.trace(root).real)


@pytest.mark.parametrize(("n", "m", "d"), [(50, 40, 5), (200, 100, 30), (30, 30, 2)])
def test_the_usual_formula(n, m, d):
    x, y = normal(n, d), normal(m, d, seed=1) @ normal(d, d, seed=2) + 0.5
    assert est.Frechet()(x.numpy(), y.numpy()) == pytest.approx(usual(x.numpy(), y.numpy()), rel=1e-9)


@pytest.mark.parametrize(("n", "m", "d"), [(6, 9, 12), (9, 6, 12), (6, 30, 12), (30, 6, 12), (2, 2, 7)])
def test_fewer_points_than_dimensions(n, m, d):
    """The root of a singular product is good to 1e-7 alone, so that here it is the looser side."""
    x, y = normal(n, d), 1.5 * normal(m, d, seed=1) + 0.3
    S, T = (np.cov(p.numpy(), rowvar=False) for p in (x, y))
    values, vectors = np.linalg.eigh(S)
    root = vectors @ np.diag(np.sqrt(values.clip(0))) @ vectors.T
    between = np.sqrt(np.linalg.eigvalsh(root @ T @ root).clip(0)).sum()
    expected = float((x.mean(0) - y.mean(0)).square().sum()) + np.trace(S) + np.trace(T) - 2 * between
    assert float(est.Frechet()(x, y)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_it_is_the_wasserstein_distance_of_gaussians(weighted):
    x, y = normal(30, 3), normal(25, 3, seed=1) * torch.tensor([0.5, 1.0, 2.0])
    w = np.random.default_rng(0).dirichlet(np.ones(30)) if weighted else np.full(30, 1 / 30)
    S = np.cov(x.numpy(), rowvar=False, aweights=w)  # Σ w (x − μ)(x − μ)ᵀ/(1 − Σw²)
    P = td.MultivariateNormal(torch.as_tensor(w) @ x, torch.as_tensor(S))
    Q = td.MultivariateNormal(y.mean(0), torch.as_tensor(np.cov(y.numpy(), rowvar=False)))
    expected = float(dv.wasserstein(P, Q, order=2)) ** 2
    assert float(est.Frechet()(x, y, torch.as_tensor(w) if weighted else None)) == pytest.approx(expected, rel=1e-9)


def test_near_and_equal_samples_keep_their_digits():
    x = normal(40, 4)
    assert float(est.Frechet()(x, x.flip(0))) < 1e-25
    moved = x * (1 + 1e-7)
    expected = float((x.mean(0).square().sum() + x.var(0).sum()) * 1e-14)  # Σ^½ changes by 1e-7 of itself
    assert float(est.Frechet()(x, moved)) == pytest.approx(expected, rel=1e-4)
    far = est.Frechet()((x + 1e6).float(), (2 * x + 1e6).float())
    near = est.Frechet()((x + 1e6).float().double() - 1e6, (2 * x + 1e6).float().double() - 1e6)
    assert far.dtype == torch.float32 and float(far) == pytest.approx(float(near), rel=1e-6)


@pytest.mark.parametrize(
    ("n", "m", "d"), [(9, 8, 3), (5, 7, 9), (7, 5, 9)], ids=["full rank", "n < m < d", "m < n < d"]
)
def test_gradients(n, m, d):
    x, y = normal(n, d).requires_grad_(), (1.3 * normal(m, d, seed=1) + 0.2).requires_grad_()
    logits = normal(n, seed=2).requires_grad_()  # weights sum to 1, and only along such is there a gradient
    assert torch.autograd.gradcheck(lambda x, y, l: est.Frechet()(x, y, l.softmax(0)), (x, y, logits), atol=1e-5)


def test_gradients_at_zero_weights_and_equal_points():
    x, y = normal(8, 2), normal(9, 2, seed=1)
    w = torch.full((8,), 1 / 7, dtype=F64)
    w[3] = 0.0
    w.requires_grad_()
    (slope,) = torch.autograd.grad(est.Frechet()(x, y, w), w)
    step = torch.zeros(8, dtype=F64)
    step[3] = 1e-7
    with torch.no_grad():
        quotient = (est.Frechet()(x, y, w + step) - est.Frechet()(x, y, w)) / 1e-7
    assert float(slope[3]) == pytest.approx(float(quotient), rel=1e-4)
    same = torch.ones(6, 3, dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(est.Frechet()(same, torch.ones(5, 3, dtype=F64)), same)
    assert bool(torch.isfinite(slope).all())


def test_training_reaches_the_mean_and_covariance():
    x, z = normal(400, 3) @ normal(3, 3, seed=5) + 1.0, normal(400, 3, seed=1)
    A, b = torch.eye(3, dtype=F64, requires_grad=True), torch.zeros(3, dtype=F64, requires_grad=True)
    optimizer = torch.optim.Adam([A, b], lr=0.05)
    for _ in range(400):
        loss = est.Frechet()(x, z @ A + b)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-4


def test_features():
    x, y = normal(700, 4), normal(30, 4, seed=1)  # more than go through at once
    layer = nn.Linear(4, 3)
    with torch.no_grad():
        fx, fy = layer(x.float()).double(), layer(y.float()).double()
    assert est.Frechet(layer)(x, y).item() == pytest.approx(float(est.Frechet()(fx, fy)), rel=1e-6)
    assert est.Frechet(lambda p: p[:, :2] ** 2).estimate(x, y).value == pytest.approx(
        float(est.Frechet()(x[:, :2] ** 2, y[:, :2] ** 2)), rel=1e-9
    )
    batch = est.Frechet(layer)(x.reshape(7, 100, 4), y)
    torch.testing.assert_close(batch[2], est.Frechet(layer)(x[200:300], y))
    est.Frechet(layer)(x, y).backward()
    assert layer.weight.grad is not None
    noisy = nn.Sequential(layer, nn.Dropout())
    assert any("training mode" in note for note in est.Frechet(noisy).estimate(x, y).notes)
    assert not any("training mode" in note for note in est.Frechet(noisy.eval()).estimate(x, y).notes)
    with pytest.raises(ValueError, match=r"features must be \(N, k\)"):
        est.Frechet(lambda p: p.sum(-1))(x, y)
    with pytest.raises(TypeError, match="features must be callable"):
        est.Frechet("inception")


CASES = {  # deviations of Q against 1, shift
    "equal": (torch.ones(10, dtype=F64), 0.0),
    "shift": (torch.ones(10, dtype=F64), 1.0),
    "scale": (torch.linspace(0.5, 2, 10, dtype=F64), 0.0),
}


@pytest.mark.parametrize("name", CASES)
def test_the_bias_is_upwards_and_is_taken_off(name):
    scale, shift = CASES[name]
    truth = float((scale - 1).square().sum()) + shift**2
    x, y = normal(150, 60, 10), normal(150, 60, 10, seed=1) * scale
    y[..., 0] += shift
    plain, debiased = est.Frechet()(x, y), est.Frechet(debiased=True)(x, y)
    error = 4 * float(debiased.std()) / math.sqrt(150)
    assert float(plain.mean()) - truth > 1.0  # measured for 1/n: 1.3 and more
    assert abs(float(debiased.mean()) - truth) <= error


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("debiased", [False, True])
def test_intervals_cover(name, debiased):
    scale, shift = CASES[name]
    truth = float((scale - 1).square().sum()) + shift**2
    covered, R = 0, 60
    for k in range(R):
        x, y = normal(80, 10, seed=k), normal(100, 10, seed=1000 + k) * scale
        y[:, 0] += shift
        e = est.Frechet(debiased=debiased).estimate(x, y, seed=k)
        assert e.interval is None or e.interval[0] <= e.value <= e.interval[1]
        covered += e.interval is None or e.interval[0] <= truth <= e.interval[1]
        assert any("biased upwards by about" in note for note in e.notes)
    assert covered / R >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / R)


def test_intervals_cover_between_the_regimes():
    """A small distance on the line, where a value that is small by chance has a small standard error."""
    covered, R = 0, 100
    for k in range(R):
        e = est.Frechet(debiased=True).estimate(normal(50, 1, seed=k), normal(50, 1, seed=1000 + k) + 0.28, seed=k)
        covered += e.interval is None or e.interval[0] <= 0.28**2 <= e.interval[1]
    assert covered / R >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / R)


def test_too_few_points_for_the_dimension_are_refused():
    x, y = normal(30, 64), normal(40, 64, seed=1)
    for debiased in (False, True):
        e = est.Frechet(debiased=debiased).estimate(x, y)
        assert e.interval is None and any("not known well enough" in note for note in e.notes)


TAILS = {  # law, points a side, and whether moments of order 4 are missing
    "exponential 800": (lambda g, n: g.exponential(size=(n, 1)), 800, False),
    "exponential 5000": (lambda g, n: g.exponential(size=(n, 1)), 5000, False),
    "Laplace 800": (lambda g, n: g.laplace(size=(n, 1)), 800, False),
    "Laplace 5000": (lambda g, n: g.laplace(size=(n, 1)), 5000, False),
    "Pareto 2.5": (lambda g, n: g.pareto(2.5, (n, 1)), 800, True),
}


@pytest.mark.parametrize("name", TAILS)
def test_missing_fourth_moments_are_refused_or_said(name):
    """At a rate of at least 97% where they are missing; where they are not, the note comes in at most 10%."""
    law, n, missing = TAILS[name]
    noted = refused_or_noted = 0
    R = 30
    for k in range(R):
        g = np.random.default_rng([8, k])
        notes = est.Frechet().estimate(law(g, n), 1.5 * law(g, n), seed=0).notes
        noted += any("of that order are missing" in note for note in notes)
        refused_or_noted += any("variance of a second moment" in n or "of that order are missing" in n for n in notes)
    if missing:
        assert binom.cdf(refused_or_noted, R, 0.97) > 1e-3
    else:
        assert binom.sf(noted - 1, R, 0.1) > 1e-3


def test_heavy_points_are_looked_at_on_their_own_device():
    x = normal(40, 2)
    x[0] = 1e3
    with torch.device("meta"):  # where a new tensor without a device would be
        assert "one point of x" in _heavy(Samples(x, normal(40, 2, seed=1), None, None))


def test_where_no_variation_is_seen_there_is_no_interval():
    z = np.zeros((30, 2))
    balanced = np.tile([1.0, -1.0], 10)[:, None]  # without any of them mean² + variance is the same
    for x, y in [(z, z[:20]), (z + 0.1, z[:20] + 0.1), (z, z + 1), (balanced, np.zeros((20, 1)))]:
        e = est.Frechet().estimate(x, y, seed=0)
        assert e.interval is None and e.stderr is None and any("no sampling error can be seen" in n for n in e.notes)
    assert est.Frechet(lambda p: 0 * p[:, :1] + 3).estimate(normal(20, 2), normal(20, 2, seed=1)).interval is None


def test_rare_ones_are_covered_or_refused():
    g, covered, printed = np.random.default_rng(20), 0, 0
    for _ in range(100):
        e = est.Frechet().estimate(1.0 * (g.random((30, 1)) < 0.02), np.zeros((30, 1)), seed=0)
        if e.interval is not None:
            printed += 1
            covered += e.interval[0] <= 0.02 <= e.interval[1]  # p² + p(1 − p)
    assert binom.cdf(covered, printed, 0.95) > 1e-3


def test_what_an_estimate_says():
    x, y = normal(40, 3), normal(30, 3, seed=1)
    e = est.Frechet(debiased=True).estimate(x, y, seed=0)
    assert e.value == pytest.approx(float(est.Frechet(debiased=True)(x, y)), rel=1e-12)  # both from seed 0
    assert (e.bound, est.Frechet().estimate(x, y).bound) == ("consistent", "upper")
    few = est.Frechet().estimate(x[:4], y)
    assert few.interval is None and any("at least 5 points" in note for note in few.notes)
    wide = est.Frechet().estimate(normal(20, 30), normal(30, 30, seed=1))
    assert any("rank deficient: 20 and 30 points in 30 dimensions" in note for note in wide.notes)
    with pytest.raises(ValueError, match="x needs at least 2 points"):
        est.Frechet()(x[:1], y)
    weights = torch.zeros(40, dtype=F64)
    weights[0] = 0.5
    weights[1] = 0.5
    assert est.Frechet().estimate(x, y, x_weights=weights).interval is None
    assert math.isnan(float(est.Frechet()(x * math.nan, y)))


@pytest.mark.parametrize("debiased", [False, True])
def test_laws(debiased):
    laws = ["batch_is_loop", "same_kind", "no_side_effects", "float32", "gradients", "complete_estimate"]
    laws += ["translation_invariance"] + ([] if debiased else ["order_of_points", "symmetry", "zero_at_equality"])
    testing.check_estimator(est.Frechet(debiased=debiased), laws, examples=8)
