"""`GaussianPlugIn`: values, errors, and the tests of normality that stand before an interval."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import divergences as dv
import estimators as est
from estimators.classical.gaussian_plug_in import GaussianPlugIn, _Fit, _jackknife
from estimators.classical.normality import henze_zirkler, normality, whitened
from estimators.door import Samples


@pytest.mark.parametrize(("n", "m", "d"), [(12, 10, 2), (30, 40, 5)])
def test_kl_of_fitted_gaussians_is_unbiased(n, m, d):
    C = 0.5 * np.eye(d) + 0.5
    truth = float(dv.kl(stats.multivariate_normal(np.zeros(d), C), stats.multivariate_normal(np.full(d, 0.3))))
    g = np.random.default_rng(7)
    L = np.linalg.cholesky(C)
    values = [
        est.GaussianPlugIn("kl")(g.normal(size=(n, d)) @ L.T, g.normal(size=(m, d)) + 0.3) for _ in range(400)
    ]  # fmt: skip
    assert np.mean(values) == pytest.approx(truth, abs=3.5 * np.std(values) / 20)


CLOSED = {
    "kl": "kl",
    "hellinger": "hellinger",
    "renyi": dv.get("renyi", alpha=0.5),
    "W2": dv.get("wasserstein", order=2),
    "energy_distance": "energy_distance",
}


@pytest.mark.parametrize("name", CLOSED)
def test_gaussian_values_errors_and_intervals(name):
    d, divergence = 3, CLOSED[name]
    exact = dv.get(divergence) if isinstance(divergence, str) else divergence
    C = torch.tensor([[1.0, 0.4, 0.0], [0.4, 1.5, 0.2], [0.0, 0.2, 0.8]], dtype=torch.float64)
    P = torch.distributions.MultivariateNormal(torch.zeros(d, dtype=torch.float64), torch.eye(d, dtype=torch.float64))
    Q = torch.distributions.MultivariateNormal(torch.full((d,), 0.4, dtype=torch.float64), C)
    truth, z, covered, printed = float(exact(P, Q)), [], 0, 0
    g = np.random.default_rng(8)
    for _ in range(100):
        x = g.normal(size=(250, d))
        y = 0.4 + g.normal(size=(200, d)) @ np.linalg.cholesky(C.numpy()).T
        e = est.GaussianPlugIn(divergence).estimate(x, y)
        z.append((e.value - truth) / e.stderr)
        if e.interval is not None:
            printed += 1
            covered += e.interval[0] <= truth <= e.interval[1]
    assert abs(np.mean(z)) < 3 / 10 + 0.1 and 0.75 < np.std(z) < 1.25
    assert printed >= 87 and covered >= 0.95 * printed - 3 * math.sqrt(0.0475 * printed)


def test_quadrature_on_the_line_and_the_closed_form_agree():
    g = np.random.default_rng(9)
    x, y = g.normal(size=(80, 1)), g.normal(size=(60, 1)) * 1.5 + 0.5
    by_points = est.GaussianPlugIn("squared_hellinger").estimate(x, y)
    numerical = dv.FDivergence.from_f(lambda u: (u.sqrt() - 1) ** 2, "mine")  # has no closed form
    expanded = est.GaussianPlugIn(numerical).estimate(x, y)
    assert expanded.value == pytest.approx(by_points.value, rel=5e-3)
    assert expanded.stderr == pytest.approx(by_points.stderr, rel=2e-2)


def test_gaussian_weights_count():
    g = np.random.default_rng(10)
    x, y = g.normal(size=(3000, 2)), g.normal(size=(3000, 2)) + [0.6, 0.0]
    tilt = np.exp(0.6 * x[:, 0])
    e = est.GaussianPlugIn("kl").estimate(x, y, x_weights=tilt / tilt.sum())
    assert abs(e.value) < 4 * e.stderr and est.GaussianPlugIn("kl")(x, y) > 0.1
    counts = np.arange(3000) % 3
    repeated = est.GaussianPlugIn("kl").estimate(np.repeat(x, counts, 0), y).value
    assert est.GaussianPlugIn("kl").estimate(x, y, x_counts=counts).value == repeated


NEAR = {  # divergence, n, shift of one mean, scale of one standard deviation, d
    "kl_0": ("kl", 200, 0.0, 1.0, 1),
    "kl_0.1": ("kl", 200, 0.1, 1.0, 1),
    "kl_0.3": ("kl", 200, 0.3, 1.0, 1),
    "kl_scale": ("kl", 150, 0.0, 1.25, 1),
    "kl_5": ("kl", 200, 0.3, 1.0, 5),
    "W2": ("W2", 200, 0.25, 1.0, 1),
    "W2_scale_5": ("W2", 200, 0.0, 1.3, 5),
    "hellinger": ("hellinger", 200, 0.2, 1.0, 1),
    "renyi": ("renyi", 200, 0.3, 1.0, 1),
    "energy_distance": ("energy_distance", 200, 0.3, 1.0, 1),
}


@pytest.mark.parametrize("name", NEAR)
def test_gaussian_intervals_cover_near_equality(name):
    divergence, n, shift, scale, d = NEAR[name]
    exact = dv.get(CLOSED[divergence]) if isinstance(CLOSED[divergence], str) else CLOSED[divergence]
    mean, spread = torch.zeros(d, dtype=torch.float64), torch.ones(d, dtype=torch.float64)
    mean[0], spread[-1] = shift, scale
    laws = [(0 * mean, torch.ones_like(spread)), (mean, spread)]
    if d == 1:
        P, Q = (torch.distributions.Normal(m[0], s[0]) for m, s in laws)
    else:
        P, Q = (torch.distributions.MultivariateNormal(m, torch.diag(s**2)) for m, s in laws)
    truth, g, printed, covered = float(exact(P, Q)), np.random.default_rng(64), 0, 0
    for _ in range(150):
        x, y = g.normal(size=(n, d)), mean.numpy() + spread.numpy() * g.normal(size=(n, d))
        e = est.GaussianPlugIn(exact).estimate(x, y)
        if e.interval is not None:
            printed += 1
            covered += e.interval[0] <= truth <= e.interval[1]
    assert printed >= 0.87 * 150 and covered >= 0.95 * printed - 3 * math.sqrt(0.0475 * printed)


def test_the_jackknife_in_parts_is_that_at_once(monkeypatch):
    from estimators.classical import gaussian_plug_in

    g = torch.Generator().manual_seed(65)
    x, y = (torch.randn(50, 3, generator=g, dtype=torch.float64) for _ in range(2))
    once = GaussianPlugIn("kl").estimate(x, y)
    fit = _Fit.of("x", x, None)
    left_out = torch.cat([x[:7], x[8:]])
    mean, covariance = fit.without(slice(7, 8))
    torch.testing.assert_close(mean[0], left_out.mean(0))
    torch.testing.assert_close(covariance[0], torch.cov(left_out.T))
    monkeypatch.setattr(gaussian_plug_in, "_HELD", 30)
    sizes = []
    _jackknife(fit, lambda m, C: (sizes.append(len(m)), C[:, 0, 0])[1], 1.0, True)
    assert max(sizes) == 3 and sum(sizes) == 50
    parts = GaussianPlugIn("kl").estimate(x, y)
    assert parts.stderr == pytest.approx(once.stderr, rel=1e-12) and parts.value == pytest.approx(once.value, rel=1e-12)


def spiked(g, n, d):
    """A tenth of the mass near 0: skewness is 0 and kurtosis 3.3."""
    x = g.normal(size=(n, d))
    return np.where(g.random((n, 1)) < 0.1, 0.005 * x, x)


@pytest.mark.parametrize("name", ["laplace", "mixture", "skewed", "spike", "repeated"])
def test_no_interval_where_the_samples_are_not_gaussian(name):
    g = np.random.default_rng(11)
    x = {
        "laplace": g.laplace(size=(600, 2)),
        "mixture": g.normal(size=(600, 2)) + 2 * g.choice([-1, 1], (600, 1)),
        "skewed": g.gamma(4, size=(600, 2)),
        "spike": spiked(g, 600, 2),
        "repeated": np.repeat(g.normal(size=(550, 2)), [2] * 50 + [1] * 500, 0),
    }[name]
    for pair in ((x, g.normal(size=(600, 2))), (g.normal(size=(600, 2)), x)):
        e = est.GaussianPlugIn("kl").estimate(*pair)
        about = next(note for note in e.notes if note.startswith("not Gaussian"))
        assert e.interval is None and ("repeat" in about) == (name == "repeated")


def test_a_spike_is_seen():  # Mardia's tests saw 4 of 25
    g = np.random.default_rng(66)
    given = sum(
        est.GaussianPlugIn("kl").estimate(spiked(g, 400, 1), g.normal(size=(400, 1))).interval is not None
        for _ in range(100)
    )
    assert given <= 15


@pytest.mark.parametrize(("n", "d"), [(60, 1), (200, 3)])
def test_the_tests_of_normality_have_their_level(n, d):
    g = np.random.default_rng(12)
    found = [normality(torch.from_numpy(g.normal(size=(n, d)) * 3 - 1), None) for _ in range(400)]
    p = np.array([list(one.values()) for one in found])
    assert p.shape == (400, 4)
    assert (np.abs((p < 0.1).mean(0) - 0.1) < 3 * math.sqrt(0.09 / 400) + 0.02).all()
    assert normality(torch.from_numpy(g.standard_t(3, (300, d))), None)["kurtosis"] < 1e-4


def test_the_statistic_of_henze_and_zirkler_is_its_integral():
    from scipy.integrate import quad
    from scipy.stats import lognorm

    z = whitened(np.random.default_rng(67).normal(size=(30, 1)) ** 3)
    beta = (3 * 30 / 4) ** 0.2 / math.sqrt(2)

    def at(t):
        return abs(np.exp(1j * t * z).mean() - math.exp(-(t**2) / 2)) ** 2 * stats.norm.pdf(t, 0, beta)

    statistic = 30 * quad(at, -12 * beta, 12 * beta, limit=400)[0]
    # Under the null law the mean and variance of the statistic, by simulation, give the log-normal law.
    g = np.random.default_rng(68)
    draws = [_integral(whitened(g.normal(size=(30, 1))), beta) for _ in range(4000)]
    assert _integral(z, beta) == pytest.approx(statistic, rel=1e-6)
    mean, ratio = np.mean(draws), np.var(draws) / np.mean(draws) ** 2
    expected = lognorm.sf(statistic, math.sqrt(math.log1p(ratio)), scale=mean / math.sqrt(1 + ratio))
    assert math.log(henze_zirkler(z)) == pytest.approx(math.log(expected), rel=0.15)


def _integral(z, beta):
    n = len(z)
    pairs = np.exp(-(beta**2) / 2 * (z - z.T) ** 2).sum() / n
    return (
        pairs
        - 2 / math.sqrt(1 + beta**2) * np.exp(-(beta**2) * z**2 / (2 * (1 + beta**2))).sum()
        + n / math.sqrt(1 + 2 * beta**2)
    )


def test_weights_are_thinned_for_the_tests_of_normality():
    g = np.random.default_rng(69)
    x = g.normal(size=(4000, 1))
    tilt = np.exp(0.5 * x[:, 0])  # N(0.5, 1) again
    e = est.GaussianPlugIn("kl").estimate(x, g.normal(size=(500, 1)), x_weights=tilt / tilt.sum())
    assert e.interval is not None and e.interval[0] < 0.125 < e.interval[1]
    half = np.where(x[:, 0] > 0, 1.0, 0.05)
    e = est.GaussianPlugIn("kl").estimate(x, g.normal(size=(500, 1)), x_weights=half / half.sum())
    assert e.interval is None and e.notes[0].startswith("not Gaussian")


def infinite_region(s):
    """Whether χ²(N(0, 1)‖N(0, s²)) is infinite: ∫ p²/q has the exponent −x²(2 − 1/s²)/2."""
    return 2 - 1 / s**2 <= 0


@pytest.mark.parametrize("name", ["chi2", "renyi", "neyman_chi2"])
def test_an_infinite_divergence_of_the_fitted_laws_is_infinite(name):
    g = np.random.default_rng(11)
    x, y = g.normal(size=(500, 1)), g.normal(0, 0.5, size=(500, 1))
    assert infinite_region(y.std() / x.std())
    divergence = dv.get("renyi", alpha=2) if name == "renyi" else name
    e = est.GaussianPlugIn(divergence).estimate(*((y, x) if name == "neyman_chi2" else (x, y)))
    assert e.value == math.inf and e.interval is None and e.stderr is None
    assert any("infinite" in note for note in e.notes) and any(note.startswith("no interval") for note in e.notes)
    assert est.GaussianPlugIn(divergence)(*((y, x) if name == "neyman_chi2" else (x, y))) == math.inf


def test_a_divergence_that_is_infinite_without_one_point_is_not_corrected():
    g = np.random.default_rng(70)
    z = stats.norm.ppf((np.arange(60) + 0.5) / 60)[:, None]
    x, y = z / z.std(), 0.9 * g.normal(size=(60, 1))
    y = (y - y.mean()) / y.std() * math.sqrt(0.5) * 1.002
    # The point of y that lies farthest out holds y's variance above one half.
    far = np.abs(y).argmax()
    assert not infinite_region(y.std() / x.std()) and infinite_region(np.delete(y, far).std(ddof=1) / x.std(ddof=1))
    e = est.GaussianPlugIn("chi2").estimate(x, y)
    laws = [stats.norm(part.mean(), part.std(ddof=1)) for part in (x, y)]
    ratio = laws[1].var() / laws[0].var()
    at_equal_means = ratio / math.sqrt(2 * ratio - 1) - 1
    assert e.value == pytest.approx(at_equal_means, rel=1e-6) and e.interval is None
    assert any("no bias was removed" in note for note in e.notes)


@pytest.mark.parametrize("s", [0.9, 0.8, 0.75])
def test_gaussian_intervals_cover_near_an_infinite_divergence(s):
    truth = s**2 / math.sqrt(2 * s**2 - 1) - 1
    g, printed, covered, below, open_ended = np.random.default_rng(71), 0, 0, 0, 0
    for _ in range(150):
        e = est.GaussianPlugIn("chi2").estimate(g.normal(size=(300, 1)), s * g.normal(size=(300, 1)))
        assert not math.isnan(e.value)
        if e.interval is not None:
            low, high = e.interval
            printed, covered, below = printed + 1, covered + (low <= truth <= high), below + (high < truth)
            open_ended += math.isinf(high)
            assert low <= e.value <= high and (e.value >= 0 or math.isfinite(high))
            assert any(note.startswith("no upper limit") for note in e.notes) == math.isinf(high)
    assert printed >= 75 and covered >= 0.95 * printed - 3 * math.sqrt(0.0475 * printed)
    assert below <= 0.025 * printed + 3 * math.sqrt(0.025 * printed)
    assert open_ended < printed


def test_moments_move_along_the_divergence():
    """N(0, σ²) for σ² = exp(t·sd(log σ²)): the steps are those of the scale that D is a function of."""
    n = 2000
    z = stats.norm.ppf((np.arange(n) + 0.5) / n)[:, None]
    x, y = z / z.std(ddof=1), 0.8 * z / z.std(ddof=1)
    along = est.GaussianPlugIn("chi2")._found(admitted(x, y)).along
    for t in (-2.0, 0.0, 1.5):
        ratio = 0.64 * math.exp(-t * math.sqrt(4 / n))  # D falls with the variance of y over that of x
        assert along(t) == pytest.approx(ratio / math.sqrt(2 * ratio - 1) - 1, rel=0.02)
    assert math.isinf(along(math.log(0.64 / 0.5) / math.sqrt(4 / n) * 1.05))


def admitted(x, y):
    return Samples(torch.from_numpy(x), torch.from_numpy(y), None, None)
