"""Quadrature: gradients against finite differences, what is infinite, laws of every kind, distribution functions."""

import math

import numpy as np
import pytest
import torch
import torch.distributions as td
from scipy import stats
from scipy.integrate import quad

import divergences as dv

INF = math.inf
ZERO, ONE = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
CAUCHY = stats.cauchy(0, 2)


def two_bumps(m):
    return td.MixtureSameFamily(td.Categorical(torch.stack([ONE, ONE])), td.Normal(torch.stack([0 * m, m]), ONE))


def moved(m):
    return td.TransformedDistribution(td.Normal(ZERO, ONE), [td.AffineTransform(m, ONE)])


GRADIENTS = {
    "kl of a mixture from a narrow law": (lambda m: dv.kl(two_bumps(m), td.Normal(ZERO, 0.1 * ONE)), 5.0),
    "js": (lambda m: dv.js(td.Laplace(m, ONE), td.Normal(ZERO, ONE)), 0.4),
    "tv": (lambda m: dv.total_variation(td.Laplace(m, ONE), td.Normal(ZERO, ONE)), 0.4),
    "tv at equal scales": (lambda s: dv.total_variation(td.Normal(ZERO, s), td.Normal(ONE, ONE)), 1.0),
    "chi2": (lambda s: dv.chi2(td.Normal(ZERO, ONE), td.StudentT(3 * ONE, ZERO, s)), 1.2),
    "through a transform": (lambda m: dv.js(moved(m), td.Laplace(ZERO, ONE)), 0.3),
    "a shape": (lambda a: dv.js(td.Gamma(a, ONE), td.LogNormal(ZERO, ONE)), 2.0),
    "half a support": (lambda a: dv.js(td.Gamma(a, ONE), td.Normal(ZERO, ONE)), 2.0),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_finite_differences(name):
    function, at = GRADIENTS[name]
    x = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(function(x), x)
    h = 1e-4
    difference = (function(x.detach() + h) - function(x.detach() - h)) / (2 * h)
    assert float(gradient) == pytest.approx(float(difference), rel=1e-5, abs=1e-8)


def test_there_is_no_second_derivative():
    m = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    for function in (dv.js, dv.total_variation):  # kinks of f and of densities move, and fixed nodes do not see it
        with pytest.raises(NotImplementedError, match="no second derivative"):
            torch.autograd.grad(function(td.Laplace(m, ONE), td.Normal(ZERO, ONE)), m, create_graph=True)


def test_moving_ends_are_refused():
    high = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    mixture = td.MixtureSameFamily(
        td.Categorical(torch.stack([ONE, ONE])), td.Uniform(torch.stack([ZERO, ZERO]), torch.stack([ONE, high]))
    )
    for law in (td.Uniform(ZERO, high), mixture):
        with pytest.raises(NotImplementedError, match="no gradient in the ends"):
            dv.js(law, td.Normal(ZERO, ONE))


@pytest.mark.parametrize(
    ("p", "q"),
    [
        (stats.norm(), stats.uniform(-8, 16)),
        (stats.norm(), stats.truncnorm(-8, 8)),
        (stats.norm(), stats.expon(-9)),
        (stats.uniform(0, 1 + 1e-9), stats.uniform()),
    ],
)
def test_a_little_mass_outside_is_infinite(p, q):
    for name in ("kl", "chi2", "jeffreys"):
        assert getattr(dv, name)(p, q) == INF
    assert dv.renyi(p, q, 2) == dv.renyi(p, q, INF) == INF
    assert dv.reverse_kl(q, p) == INF
    assert math.isfinite(dv.js(p, q))


def test_ends_that_differ_by_rounding_are_equal():
    p, q = stats.uniform(0.1, 0.2), stats.uniform(0, 0.3)  # 0.1 + 0.2 is 0.30000000000000004
    assert dv.kl(p, q) == pytest.approx(math.log(1.5), abs=1e-9)


ORDINARY = [
    stats.moyal(), stats.hypsecant(), stats.rice(1), stats.gompertz(1), stats.pearson3(1), stats.loggamma(2),
    stats.johnsonsu(1, 2), stats.exponpow(2), stats.semicircular(), stats.trapezoid(0.2, 0.6), stats.argus(1),
    stats.johnsonsb(1, 2), stats.cosine(), stats.genextreme(0.1), stats.genhalflogistic(0.5), stats.tukeylambda(0.14),
    stats.gumbel_l(), stats.triang(0.3), stats.skewnorm(3), stats.exponnorm(1), stats.loglaplace(3),
]  # fmt: skip


@pytest.mark.parametrize("law", ORDINARY, ids=lambda law: law.dist.name)
def test_ordinary_laws_against_another_integrator(law):
    low, high = (float(law.ppf(u)) for u in (1e-13, 1 - 1e-13))
    cuts = [low, *law.ppf([1e-6, 0.01, 0.2, 0.5, 0.8, 0.99, 1 - 1e-6]), high]

    def kl(x):
        return law.pdf(x) * (law.logpdf(x) - CAUCHY.logpdf(x)) if law.pdf(x) > 0 else 0.0

    truth = sum(quad(kl, a, b, limit=200)[0] for a, b in zip(cuts[:-1], cuts[1:], strict=True))
    assert dv.kl(law, CAUCHY) == pytest.approx(truth, abs=2e-6)
    assert 0 < dv.js(law, CAUCHY) < math.log(2)


def test_arcsine_is_a_beta_law():
    assert dv.kl(stats.arcsine(), stats.uniform()) == pytest.approx(math.log(4 / math.pi), abs=1e-8)


class Bell(stats.rv_continuous):
    """A law of the user's own, by its density alone."""

    def _pdf(self, x):
        return np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def test_distribution_functions_from_the_density():
    own, shifted = Bell()(), stats.norm(1)
    assert dv.wasserstein(own, shifted) == pytest.approx(1, abs=1e-8)
    assert dv.wasserstein(own, stats.norm()) == pytest.approx(0, abs=1e-8)
    assert dv.wasserstein(own, shifted, order=2) == pytest.approx(1, abs=1e-8)
    assert dv.energy_distance(own, shifted) == pytest.approx(0.5418065793, abs=1e-8)
    assert dv.kolmogorov_smirnov(own, shifted) == pytest.approx(0.3829249225, abs=1e-8)


@pytest.mark.parametrize(
    ("law", "truth"), [(stats.geninvgauss(2, 1), 4.37044), (stats.norminvgauss(1, 0.5), 0.57769)], ids=["gig", "nig"]
)
def test_laws_whose_cdf_is_only_rough(law, truth):
    x = np.linspace(-60, 120, 400_001)
    density = law.pdf(x)
    F = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(x))])
    brute = np.trapezoid(np.abs(F - stats.norm.cdf(x)), x)
    assert brute == pytest.approx(truth, abs=1e-4)
    assert dv.wasserstein(law, stats.norm()) == pytest.approx(brute, abs=1e-5)


def test_a_cdf_gap_between_many_crossings():
    counts = np.random.default_rng(0).poisson(30, 200)
    law = stats.rv_histogram((counts, np.linspace(0, 1, 201)), density=False)
    frozen = law()
    edges = np.linspace(0, 1, 201)
    truth = np.abs(np.concatenate([[0.0], np.cumsum(counts) / counts.sum()]) - edges).max()
    assert dv.kolmogorov_smirnov(frozen, stats.uniform()) == pytest.approx(truth, abs=1e-8)


def test_an_undecided_tail_is_not_called_infinite():
    for call in (
        lambda: dv.chi2(stats.lomax(1), stats.lomax(1.9995)),
        lambda: dv.renyi(stats.t(3), stats.t(3.0005), INF),
    ):
        with pytest.raises(dv.ConvergenceError, match="cannot be told"):
            call()


def test_products_far_apart_keep_their_logarithm():
    def student(shift):
        return td.Independent(td.StudentT(3.0, shift * torch.ones(5, dtype=torch.float64), 1.0), 1)

    p, q = student(0.0), student(60.0)
    single = dv.bhattacharyya(stats.t(3), stats.t(3, 60))
    assert float(dv.bhattacharyya(p, q)) == pytest.approx(5 * single, rel=1e-8)
    assert float(dv.renyi(p, q, 0)) == 0
    assert float(dv.renyi(p, q, INF)) == pytest.approx(5 * dv.renyi(stats.t(3), stats.t(3, 60), INF), rel=1e-8)


def test_points_against_a_density_at_every_order_and_batch():
    for order in (0, 0.5, 1, 2, INF):
        assert dv.renyi(dv.PointMass(0.0), stats.norm(), order) == INF
    assert dv.bhattacharyya(dv.PointMass(0.0), stats.norm()) == INF
    assert dv.js(dv.PointMass(0.0), td.Normal(torch.zeros(3), 1.0)).shape == (3,)
    assert dv.kl(stats.poisson(3), stats.norm(3, 2)) == INF
    assert dv.total_variation(stats.poisson(3), stats.norm(3, 2)) == 1
    with pytest.raises(ValueError, match="one dimension: got 3 and 1"):
        dv.js(dv.Empirical(np.zeros((2, 3))), stats.norm())
    with pytest.raises(ValueError, match='need method="discrete"'):
        dv.kl(dv.PointMass(0.0), stats.norm(), method="quadrature")


def test_the_answer_has_the_parameters_dtype():
    for function in (dv.kl, dv.js, dv.total_variation, dv.hellinger, dv.kolmogorov_smirnov, dv.wasserstein):
        assert function(td.Normal(0.0, 1.0), td.Laplace(0.0, 1.0)).dtype == torch.float32
        assert function(td.Normal(ZERO, ONE), td.Laplace(ZERO, ONE)).dtype == torch.float64


def test_a_row_is_known_by_what_it_is_and_not_by_its_name():
    p, q = stats.norm(), stats.norm(1)
    for name in ("squared_hellinger", "kl", "alpha", "jeffreys", "total_variation"):
        half = dv.FDivergence.from_f(lambda u: 0.5 * (u.sqrt() - 1) ** 2, name=name)
        assert half(p, q) == pytest.approx(dv.squared_hellinger(p, q) / 2, abs=1e-8)


def test_a_mass_that_is_not_found_is_not_printed_as_the_value():
    with pytest.raises(dv.ConvergenceError, match="the mass of Beta is not found: "):
        dv.total_variation(stats.beta(0.01, 0.01), stats.uniform())


def test_the_order_infinity_refuses_a_gradient_that_it_does_not_have():
    m = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    with pytest.raises(NotImplementedError, match="no gradient by quadrature"):
        dv.renyi(td.Laplace(m, ONE), td.StudentT(3 * ONE, ZERO, ONE), INF)
