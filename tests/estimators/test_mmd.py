"""MMD and the energy distance: known values, tiled sums, variance, coverage, the witness, random features."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.stats import binom, energy_distance
from sklearn.metrics.pairwise import laplacian_kernel, polynomial_kernel, rbf_kernel

import divergences as dv
import estimators as est
from divergences import kernels, testing
from estimators.ops import pairwise
from estimators.ops.pairwise import reference

GAUSSIAN = kernels.Gaussian(1.0)
TRUTH = 0.1772676349  # N(0,1), N(1,1), kernel variance 1
F64 = torch.float64


def normal(*shape, seed=0, shift=0.0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64) + shift


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
    u = torch.rand(2, 37, generator=g, dtype=torch.float64)
    v = u if exclude_self else torch.rand(2, 23, generator=g, dtype=torch.float64)
    options = {"exclude_self": exclude_self, "shift": 0.3 * weighted}
    expected = reference.row_sums(GAUSSIAN, x, y, w, exclude_self=exclude_self)
    for tile in (10, 300, 2**22):
        found = pairwise.row_sums(GAUSSIAN, x, y, w, exclude_self=exclude_self, tile=tile)
        torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)
        moments = pairwise.row_moments(GAUSSIAN, x, y, u, v, tile=tile, **options)
        for part, plain in zip(moments, reference.row_moments(GAUSSIAN, x, y, u, v, **options), strict=True):
            torch.testing.assert_close(part, plain, rtol=1e-13, atol=1e-13)


MEMORY = """
import resource, torch, estimators as est
x, peak = torch.randn(6000, 1), lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
est.EnergyDistance()(x[:2000], x[:2000])
before = peak()
est.EnergyDistance()(x[:50], x)
est.EnergyDistance().variance(x[:50], x)
print((peak() - before) / 1024)
"""


def test_sums_over_all_pairs_hold_a_few_tiles_in_memory():
    found = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert float(found.stdout) < 80  # MB; the matrix of 6000² in single precision has 144, in double 288


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


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0, 4.0])
@pytest.mark.parametrize("kernel", [GAUSSIAN, kernels.DistanceInduced()], ids=repr)
def test_the_variance_is_that_of_the_statistic(kernel, shift):
    x, y = normal(3000, 30, 1, seed=3), normal(3000, 45, 1, seed=4, shift=shift)
    mmd = est.MMD(kernel)
    U, V = mmd(x, y), mmd.variance(x, y)
    spread = (U - U.mean()).square() - V  # of mean 0
    assert abs(float(spread.mean())) <= 4 * float(spread.std()) / math.sqrt(3000)


def exact_variance(n, m, shift):
    """Var U for N(0, 1) and N(shift, 1) and the kernel of variance 1: one-dimensional means by Gauss–Hermite."""
    z, w = np.polynomial.hermite_e.hermegauss(80)

    def variance(f):
        return w @ f**2 / w.sum() - (w @ f / w.sum()) ** 2

    own, other = (np.exp(-((z - a) ** 2) / 4) / math.sqrt(2) for a in (0.0, shift))  # E k(z, X) and E k(z, Y)
    h_xx = 1 / math.sqrt(5) - 1 / 3 - 2 * variance(own)
    h_xy = math.exp(-(shift**2) / 5) / math.sqrt(5) - math.exp(-(shift**2) / 3) / 3 - 2 * variance(other)
    second = 2 * h_xx * (1 / (n * (n - 1)) + 1 / (m * (m - 1))) + 4 * h_xy / (n * m)
    return 4 * variance(own - other) * (1 / n + 1 / m) + second


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0, 4.0])
@pytest.mark.parametrize(("n", "m", "draws"), [(50, 30, 1500), (400, 300, 40)])
def test_the_variance_has_its_closed_form(n, m, draws, shift):
    V = est.MMD(GAUSSIAN).variance(normal(draws, n, 1, seed=8), normal(draws, m, 1, seed=9, shift=shift))
    assert abs(float(V.mean()) - exact_variance(n, m, shift)) <= 4 * float(V.std()) / math.sqrt(draws)


def test_the_bandwidth_is_recorded_and_that_of_the_pool():
    x, y = torch.zeros(5, 1), torch.full((5, 1), 2.0)
    assert any("bandwidth=2.0" in note for note in est.MMD().estimate(x, y).notes)


def test_a_large_sample_stays_in_bounds():
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(3000, 2, generator=g) for _ in range(2))
    y.requires_grad_()
    (slope,) = torch.autograd.grad(est.MMD(GAUSSIAN)(x, y), y)
    assert bool(torch.isfinite(slope).all())


PARITY = {
    "gaussian": (kernels.Gaussian(1.3), 3, lambda a, b: rbf_kernel(a, b, gamma=1 / (2 * 1.3**2))),
    "laplace": (
        kernels.Laplace(0.7),
        1,
        lambda a, b: laplacian_kernel(a, b, gamma=1 / 0.7),
    ),  # theirs is of the L1 norm
    "polynomial": (kernels.Polynomial(3, 2.0), 3, lambda a, b: polynomial_kernel(a, b, degree=3, gamma=1.0, coef0=2.0)),
}


@pytest.mark.parametrize(("kernel", "d", "theirs"), PARITY.values(), ids=PARITY)
def test_parity_with_kernels_of_sklearn(kernel, d, theirs):
    x, y = normal(30, d).numpy(), normal(20, d, seed=1, shift=0.5).numpy()
    K, L, M = theirs(x, x), theirs(y, y), theirs(x, y)
    biased = K.mean() + L.mean() - 2 * M.mean()
    unbiased = (K.sum() - K.trace()) / 870 + (L.sum() - L.trace()) / 380 - 2 * M.mean()
    assert est.MMD(kernel, "biased")(x, y) == pytest.approx(biased, rel=1e-11)
    assert est.MMD(kernel)(x, y) == pytest.approx(unbiased, rel=1e-11)


@pytest.mark.parametrize("weighted", [False, True])
def test_parity_with_the_energy_distance_of_scipy(weighted):
    x, y = normal(40, 1).numpy(), normal(25, 1, seed=1, shift=0.5).numpy()
    w = np.random.default_rng(0).dirichlet(np.ones(40)) if weighted else None
    expected = energy_distance(x[:, 0], y[:, 0], w) ** 2  # theirs is the root
    assert est.EnergyDistance(statistic="biased")(x, y, w) == pytest.approx(expected, rel=1e-11)


POPULATIONS = {
    "different": ([[0.0, 0.0], [1.0, 0.5], [0.3, -2.0]], (0.2, 0.5, 0.3), [[0.2, 0.1], [1.5, 1.0]], (0.6, 0.4)),
    "equal": ([[0.0, 0.0], [1.0, 0.5]], (0.3, 0.7), [[0.0, 0.0], [1.0, 0.5]], (0.3, 0.7)),
}


def every_sample(population, n, m):
    """All samples of n and m points from laws on a few points, with their probabilities."""
    points = [torch.tensor(population[k], dtype=F64) for k in (0, 2)]
    chances = [torch.tensor(population[k], dtype=F64) for k in (1, 3)]
    draws = itertools.product(*[range(len(points[0]))] * n, *[range(len(points[1]))] * m)
    index = torch.tensor(list(draws))
    p = chances[0][index[:, :n]].prod(-1) * chances[1][index[:, n:]].prod(-1)
    return points[0][index[:, :n]], points[1][index[:, n:]], p


@pytest.mark.parametrize("name", POPULATIONS)
@pytest.mark.parametrize(("n", "m"), [(4, 4), (4, 6), (6, 5)])
@pytest.mark.parametrize("kernel", [GAUSSIAN, kernels.DistanceInduced(), kernels.Polynomial(2, 1.0)], ids=repr)
def test_the_variance_is_exactly_unbiased(name, n, m, kernel):
    x, y, p = every_sample(POPULATIONS[name], n, m)
    mmd = est.MMD(kernel)
    U = mmd(x, y)
    mean = (p * U).sum()
    truth = dv.mmd(*(dv.Empirical(POPULATIONS[name][k], POPULATIONS[name][k + 1]) for k in (0, 2)), kernel)
    assert float(mean) == pytest.approx(float(truth), abs=1e-9)
    variance = float((p * (U - mean) ** 2).sum())
    assert float((p * mmd.variance(x, y)).sum()) == pytest.approx(variance, rel=1e-9)


def test_the_variance_with_weights():
    """Exact for equal weights, and near the truth for others."""
    x, y, p = every_sample(POPULATIONS["different"], 4, 5)
    equal = torch.full((4,), 0.25, dtype=F64), torch.full((5,), 0.2, dtype=F64)
    mmd = est.MMD(GAUSSIAN)
    torch.testing.assert_close(mmd.variance(x, y, *equal), mmd.variance(x, y), rtol=1e-9, atol=1e-12)
    w, v = torch.tensor([0.2, 0.3, 0.22, 0.28], dtype=F64), torch.tensor([0.15, 0.25, 0.2, 0.18, 0.22], dtype=F64)
    U = mmd(x, y, w, v)
    variance = float((p * (U - (p * U).sum()) ** 2).sum())
    assert float((p * mmd.variance(x, y, w, v)).sum()) == pytest.approx(variance, rel=0.03)


def test_weighted_intervals_cover():
    """Importance weights take draws of N(0, 2) to N(0, 1)."""
    truth, covered = TRUTH, 0
    for k in range(200):
        x, y = normal(150, 1, seed=k) * math.sqrt(2), normal(100, 1, seed=1000 + k, shift=1.0)
        w = torch.exp(-(x[:, 0] ** 2) / 4)
        e = est.MMD(GAUSSIAN).estimate(x, y, x_weights=w, normalize=True)
        covered += e.interval[0] <= truth <= e.interval[1]
        assert any("effective points" in note for note in e.notes)
    assert covered / 200 >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 200)


KINDS = {
    "gaussian": est.MMD(kernels.Gaussian(0.8)),
    "median": est.MMD(),
    "laplace": est.MMD("laplace"),
    "mixture": est.MMD(kernels.RationalQuadratic([0.5, 2.0]) + kernels.Gaussian(1.0)),
    "energy": est.EnergyDistance(),
    "random_features": est.MMD(kernels.Gaussian(1.0), "random_features", features=200),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("d", [1, 40])
def test_an_offset_costs_nothing_but_the_rounding_of_the_points(name, d):
    x, y = normal(60, d) + 1e6, normal(50, d, seed=1, shift=0.5) + 1e6
    near_x, near_y = x - 1e6, y - 1e6  # exact: the same rounded points without the offset
    assert float(KINDS[name](x, y)) == pytest.approx(float(KINDS[name](near_x, near_y)), rel=1e-9, abs=1e-9)
    single_x, single_y = (x.float(), y.float())
    near = float(KINDS[name](single_x.double() - 1e6, single_y.double() - 1e6))
    assert float(KINDS[name](single_x, single_y)) == pytest.approx(near, rel=1e-5, abs=1e-5)


def test_a_wide_bandwidth_keeps_the_digits_of_the_variance():
    """k ≈ 1 − ‖x − y‖²/(2h²): for a wide kernel the statistic and its error are those of the means over h²."""
    x, y = normal(40, 1), normal(30, 1, seed=1, shift=1.0)
    wide, linear = (est.MMD(k).estimate(x, y) for k in (kernels.Gaussian(1e4), kernels.Polynomial(1, 0.0)))
    assert wide.value * 1e8 == pytest.approx(linear.value, rel=1e-5)
    assert wide.stderr * 1e8 == pytest.approx(linear.stderr, rel=1e-5)


@pytest.mark.parametrize("kernel", [GAUSSIAN, kernels.Laplace(1.0), kernels.DistanceInduced(), kernels.Polynomial(2)])
def test_the_witness_is_a_difference_of_means(kernel):
    x, y, z = normal(12, 2).numpy(), normal(9, 2, seed=1, shift=1.0).numpy(), normal(5, 2, seed=2).numpy()
    found = est.MMD(kernel).witness(x, y, z)
    K, L = kernel(z, x), kernel(z, y)
    assert isinstance(found.values, np.ndarray)
    np.testing.assert_allclose(found.values, K.mean(1) - L.mean(1), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.stderr, np.sqrt(K.var(1, ddof=1) / 12 + L.var(1, ddof=1) / 9), rtol=1e-7)
    w = np.random.default_rng(0).dirichlet(np.ones(12))
    np.testing.assert_allclose(est.MMD(kernel).witness(x, y, z, w).values, K @ w - L.mean(1), rtol=1e-10, atol=1e-12)


def test_the_statistics_are_means_of_the_witness():
    x, y = normal(2, 12, 3), normal(9, 3, seed=1, shift=1.0)
    own = est.MMD(GAUSSIAN).witness(x, y)
    assert own.points.shape == (2, 21, 3) and own.values.shape == (2, 21)
    torch.testing.assert_close(own.values[:, :12].mean(-1) - own.values[:, 12:].mean(-1), est.MMD(GAUSSIAN)(x, y))
    at_x, at_y = (est.MMD(GAUSSIAN).witness(x, y, p).values.mean(-1) for p in (x, y))
    torch.testing.assert_close(at_x - at_y, est.MMD(GAUSSIAN, "biased")(x, y))


def test_the_witness_has_gradients():
    inputs = tuple(p.requires_grad_() for p in (normal(6, 2), normal(5, 2, seed=1), normal(4, 2, seed=2)))
    assert torch.autograd.gradcheck(lambda x, y, z: est.MMD(GAUSSIAN).witness(x, y, z)[1:], inputs)


def test_the_witness_finds_what_was_planted():
    x, y = normal(300, 2), normal(300, 2, seed=1)
    x[:40] = 0.2 * normal(40, 2, seed=2) + torch.tensor([3.0, 0.0])
    y[:40] = 0.2 * normal(40, 2, seed=3) + torch.tensor([0.0, -3.0])
    found = est.MMD(kernels.Gaussian(0.5)).witness(x, y)
    assert bool(((found.top(10, "x") - torch.tensor([3.0, 0.0])).norm(dim=-1) < 0.8).all())
    assert bool(((found.top(10, "y") - torch.tensor([0.0, -3.0])).norm(dim=-1) < 0.8).all())
    assert float(found.standardized.abs().max()) > 5
    with pytest.raises(ValueError, match="side must be"):
        found.top(1, "p")
    with pytest.raises(ValueError, match="count must lie in 1 to 600"):
        found.top(0)
    with pytest.raises(ValueError, match=r"points must be \(..., p, 2\)"):
        est.MMD().witness(x, y, torch.zeros(3, 5))


SPECTRAL = {
    "gaussian": kernels.Gaussian(1.0),
    "mixture": kernels.Gaussian([0.3, 1.0, 3.0]),
    "laplace": kernels.Laplace(1.0),
    "rq": kernels.RationalQuadratic(0.8, 0.6),
    "imq": kernels.InverseMultiquadric(2.0),
    "sum": 2.0 * kernels.Gaussian(0.5) + kernels.Laplace(2.0),
    "product": kernels.Gaussian(2.0) * (kernels.Laplace(1.0) + kernels.RationalQuadratic(1.0, 2.0)),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", SPECTRAL)
def test_random_features_tend_to_the_exact_statistic(name, weighted):
    """Unbiased for it, at the rate features^(−1/2), with the error that the notes give."""
    x, y = normal(20, 2), normal(25, 2, seed=1, shift=0.7)
    w = None
    if weighted:
        w = torch.linspace(1, 3, 20, dtype=F64)
        w = w / w.sum()
    exact = float(est.MMD(SPECTRAL[name])(x, y, w))
    rms, repeats = [], 150
    for features in (40, 640):
        mmd = est.MMD(SPECTRAL[name], "random_features", features=features)
        g = torch.Generator().manual_seed(1)
        errors = torch.stack([mmd(x, y, w, generator=g) for _ in range(repeats)]) - exact
        assert abs(float(errors.mean())) <= 4 * float(errors.std()) / math.sqrt(repeats)
        rms.append(float(errors.square().mean().sqrt()))
    assert rms[0] / rms[1] == pytest.approx(4, rel=4 / math.sqrt(repeats))  # the relative error of a ratio of two


@pytest.mark.parametrize("name", SPECTRAL)
def test_random_features_know_their_error(name):
    x, y = normal(40, 2), normal(50, 2, seed=1, shift=0.7)
    mmd = est.MMD(SPECTRAL[name], "random_features", features=100)
    found = [mmd.estimate(x, y, seed=seed) for seed in range(100)]
    noted = np.mean([float(e.notes[-1].split()[-1]) ** 2 for e in found])
    actual = np.var([e.value for e in found], ddof=1)
    assert actual <= noted * (1 + 4 * math.sqrt(2 / 100))  # with terms of a sum apart, it is less
    assert noted <= actual * (4 if name in ("mixture", "sum", "product") else 1 + 6 * math.sqrt(2 / 100))
    exact = est.MMD(SPECTRAL[name]).estimate(x, y)
    stderr = np.mean([e.stderr**2 for e in found]) - noted
    assert stderr == pytest.approx(exact.stderr**2, rel=0.25)


@pytest.mark.parametrize("statistic", ["random_features"])
def test_random_features_cover(statistic):
    covered = 0
    for k in range(150):
        x, y = normal(80, 1, seed=k), normal(60, 1, seed=500 + k, shift=1.0)
        e = est.MMD(GAUSSIAN, statistic, features=100).estimate(x, y, seed=k)
        covered += e.interval[0] <= TRUTH <= e.interval[1]
    assert covered / 150 >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 150)


def test_random_features_have_gradients_and_tiles(monkeypatch):
    from estimators.kernel import random_features

    x, y = normal(7, 2).requires_grad_(), normal(6, 2, seed=1).requires_grad_()
    mmd = est.MMD(SPECTRAL["product"], "random_features", features=12)
    assert torch.autograd.gradcheck(lambda x, y: mmd(x, y), (x, y))
    whole = mmd(x, y)
    slopes = torch.autograd.grad(whole, (x, y))
    monkeypatch.setattr(random_features, "HELD", 50)
    tiled = mmd(x, y)
    torch.testing.assert_close(tiled, whole)
    torch.testing.assert_close(torch.autograd.grad(tiled, (x, y)), slopes)


@pytest.mark.parametrize(
    "kernel",
    [kernels.Polynomial(2), kernels.DistanceInduced(), GAUSSIAN * kernels.Polynomial(1), lambda x, y: x @ y.mT],
)
def test_random_features_need_a_spectral_law(kernel):
    with pytest.raises(NotImplementedError, match="spectral law is known: Gaussian, Laplace"):
        est.MMD(kernel, "random_features")


def test_a_heavy_tail_is_noted():
    heavy, light, named = np.random.default_rng(0), np.random.default_rng(0), 0
    for _ in range(50):
        e = est.EnergyDistance().estimate(heavy.standard_cauchy((100, 1)), heavy.standard_cauchy((100, 1)))
        named += any("does not exist" in note for note in e.notes)
        e = est.EnergyDistance().estimate(light.normal(size=(100, 1)), light.standard_t(4, size=(100, 1)))
        assert not any("does not exist" in note for note in e.notes) and e.interval is not None
    assert named >= 35
    huge = np.exp(20 * np.random.default_rng(1).standard_exponential((200, 1)))  # a tail index of 1/20
    assert est.EnergyDistance().estimate(huge, huge[:150] + 1).interval is None
    same = np.zeros((50, 1))
    assert est.EnergyDistance().estimate(same, same).value == 0.0


@pytest.mark.parametrize(
    "estimator",
    [
        *(est.MMD(GAUSSIAN, statistic) for statistic in ("unbiased", "biased", "linear", "block", "random_features")),
        est.MMD(GAUSSIAN, "biased", squared=False),
        est.EnergyDistance(),
    ],
    ids=repr,
)
def test_where_no_variation_is_seen_there_is_no_interval(estimator):
    z = np.zeros((30, 1))
    one = z.copy()
    one[0] = 1.0  # E h² and the effects of the points vanish for one 1 among zeros against zeros
    for x, y in [(z, z[:20]), (z + 0.1, z[:20] + 0.1), (z, z + 1), (one, z)]:
        e = estimator.estimate(x, y, seed=0)
        assert e.interval is None and e.stderr is None
        assert any("no sampling" in note for note in e.notes) or (x is one and estimator.statistic == "biased")
    weights = np.r_[np.full(20, 0.05), np.zeros(10)]
    far = np.r_[z[:20], z[:10] + 9]  # points that differ, without weight
    if estimator.statistic not in ("linear", "block"):
        assert estimator.estimate(far, z, x_weights=weights, seed=0).interval is None


def test_one_far_point_has_no_interval():
    x, y = normal(40, 1), normal(50, 1, seed=1)
    x[3] = 1e4
    e = est.EnergyDistance().estimate(x, y)
    assert e.interval is None and any("one point makes up" in note for note in e.notes)
    e = est.EnergyDistance().estimate(y, x + 3)
    assert e.interval is None and any("one point makes up" in note for note in e.notes)
    assert est.MMD(GAUSSIAN).estimate(x, y).interval is not None  # a bounded kernel does not see how far


ORDINARY = {
    "equal": lambda g, n: (g.normal(size=(n, 1)), g.normal(size=(n, 1))),
    "shift": lambda g, n: (g.normal(size=(n, 2)), g.normal(size=(n, 2)) + [0.5, 0]),
    "far": lambda g, n: (g.normal(size=(n, 1)), g.normal(size=(n, 1)) + 2),
    "exponential": lambda g, n: (g.exponential(size=(n, 1)), 2 * g.exponential(size=(n, 1))),
}


@pytest.mark.parametrize("name", ORDINARY)
@pytest.mark.parametrize("estimator", [est.MMD(), est.EnergyDistance()], ids=["mmd", "energy"])
def test_ordinary_points_are_refused_in_less_than_3_of_100(estimator, name):
    refused, R = 0, 0
    for n, draws in ((20, 60), (100, 20), (500, 3)):
        for k in range(draws):
            e = estimator.estimate(*ORDINARY[name](np.random.default_rng([30, n, k]), n))
            refused, R = refused + (e.interval is None), R + 1
    assert binom.sf(refused - 1, R, 0.03) > 1e-3


def test_rare_ones_are_covered_or_refused():
    g, covered, printed = np.random.default_rng(20), 0, 0
    for _ in range(200):
        e = est.EnergyDistance().estimate(1.0 * (g.random((30, 1)) < 0.02), np.zeros((30, 1)))
        if e.interval is not None:
            printed += 1
            covered += e.interval[0] <= 2 * 0.02**2 <= e.interval[1]  # 2p − 2p(1 − p)
    assert binom.cdf(covered, printed, 0.95) > 1e-3


LAWFUL = {
    "unbiased": (est.MMD(GAUSSIAN), ()),
    "block": (est.MMD(GAUSSIAN, "block"), ("order_of_points",)),
    "random_features": (est.MMD("laplace", "random_features", features=50), ("gradients",)),
    "random_features of a sum": (est.MMD(SPECTRAL["sum"], "random_features", features=50), ()),
    "energy_1.5": (est.EnergyDistance(1.5), ()),
}
LAWS = (
    "order_of_points", "batch_is_loop", "same_kind", "no_side_effects", "float32", "symmetry",
    "translation_invariance", "gradients", "complete_estimate",
)  # fmt: skip


@pytest.mark.parametrize("name", LAWFUL)
def test_laws(name):
    estimator, without = LAWFUL[name]
    testing.check_estimator(estimator, [law for law in LAWS if law not in without], examples=8)


def test_faults():
    one = torch.zeros(1, 2)
    with pytest.raises(ValueError, match="needs at least 2"):
        est.MMD()(one, torch.zeros(5, 2))
    with pytest.raises(ValueError, match="kernel must be one of gaussian"):
        est.MMD("gausian")
    with pytest.raises(ValueError, match="statistic must be one of"):
        est.MMD(statistic="quadratic")
    assert est.MMD(statistic="biased").estimate(one, one).interval is None
    with pytest.raises(ValueError, match="features must be a positive integer: got 0"):
        est.MMD(features=0)
    with pytest.raises(TypeError, match="kernel must be a name or a callable"):
        est.MMD(1.5)
    few = torch.full((8,), 1 / 8)
    few[0], few[1:] = 0.86, 0.02
    e = est.MMD().estimate(normal(8, 1), normal(9, 1), x_weights=few)
    assert e.interval is None and any("at least 4 points a side" in note for note in e.notes)
