"""Exact values against known truths, and the laws that any divergence obeys, over every row."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.distributions as td
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

import divergences as dv
from tests.cases import CASES, INF, LOG2, MORE, ROWS, gaussian, mixture, normal, unit_shift

ALL = [dv.get(name, **parameters) for name, parameters in [*ROWS.items(), *MORE]]
PROPER = [d for d in ALL if d.name != "gan"]
TRUTHS = [(case, name) for case in CASES for name in case.truths]
each = pytest.mark.parametrize("d", PROPER, ids=repr)


@st.composite
def vectors(draw, n, least=0.0):
    weights = draw(
        st.lists(st.floats(1e-3, 1.0) | st.just(0.0) if least == 0 else st.floats(1e-3, 1), min_size=n, max_size=n)
    )
    assume(sum(weights) > 0)
    return np.asarray(weights) / sum(weights)


@st.composite
def channels(draw, n, m):
    return np.stack([draw(vectors(m)) for _ in range(n)])


@pytest.mark.parametrize(("case", "name"), TRUTHS, ids=[f"{case}-{name}" for case, name in TRUTHS])
def test_known_truths(case, name):
    value = float(getattr(dv, name)(case.p, case.q))
    assert value == pytest.approx(case.truths[name], abs=max(1e-10, case.digits)) or value == case.truths[name]


ON_THE_LINE = [
    (case, name)
    for case, name in TRUTHS
    if not isinstance(case.p, list) and case.name[0] != "5" and name not in ("bhattacharyya", "kolmogorov_smirnov")
]


@pytest.mark.parametrize(("case", "name"), ON_THE_LINE, ids=[f"{case}-{name}" for case, name in ON_THE_LINE])
def test_quadrature_meets_the_truths_as_well(case, name):
    value = float(getattr(dv, name)(case.p, case.q, method="quadrature"))
    assert value == pytest.approx(case.truths[name], abs=max(1e-8, case.digits)) or value == case.truths[name]


def test_w2_between_gaussians():  # truth 12
    p, q = gaussian([0, 0], np.eye(2)), gaussian([0, 0], [[1, 0.5], [0.5, 1]])
    assert float(dv.wasserstein(p, q, order=2)) ** 2 == pytest.approx(0.1362966948, abs=1e-10)
    assert float(dv.wasserstein(p, p, order=2)) == 0
    for d in (5, 10, 20):
        assert float(dv.wasserstein(*unit_shift(d), order=2)) == pytest.approx(1, abs=1e-12)


def test_mmd_between_gaussians():  # truth 13
    one = dv.kernels.Gaussian(1.0)
    assert dv.mmd(normal(0, 1), normal(1, 1), one) == pytest.approx(0.1772676349, abs=1e-10)
    assert float(dv.mmd(*unit_shift(10), dv.kernels.Gaussian(math.sqrt(10)))) == pytest.approx(0.0328016838, abs=1e-10)
    mixed = dv.mmd(normal(0, 1), normal(1, 1), dv.kernels.Gaussian((1.0, 2.0)))
    both = dv.mmd(normal(0, 1), normal(1, 1), one + dv.kernels.Gaussian(2.0))
    assert 2 * mixed == pytest.approx(both)
    assert dv.mmd(normal(0, 1), normal(1, 1), one, squared=False) ** 2 == pytest.approx(0.1772676349, abs=1e-10)
    assert dv.mmd(normal(0, 1), normal(1, 1), dv.kernels.DistanceInduced()) == pytest.approx(0.5418065793, abs=1e-10)


def test_energy_distance_in_the_plane():
    # E‖N(m, 2I₂)‖ by its Rice mean: √(π) L_{1/2}(−|m|²/4), so 2·1.9873640... at |m| = 1 minus 2√π.
    from scipy.special import ive

    x = -1 / 4
    laguerre = math.exp(x / 2) * ((1 - x) * ive(0, -x / 2) - x * ive(1, -x / 2)) * math.exp(-x / 2)
    truth = 2 * math.sqrt(2) * math.sqrt(math.pi / 2) * laguerre - 2 * math.sqrt(math.pi)
    assert float(dv.energy_distance(gaussian([0, 0], np.eye(2)), gaussian([1, 0], np.eye(2)))) == pytest.approx(
        truth, abs=1e-8
    )


@pytest.mark.parametrize("theta", [0.0, 0.25, -3.0])
def test_parallel_lines(theta):
    y = np.linspace(0, 1, 9)
    p, q = dv.Empirical(np.c_[0 * y, y]), dv.Empirical(np.c_[0 * y + theta, y])
    apart = theta != 0
    assert dv.kl(p, q) == dv.reverse_kl(p, q) == (INF if apart else 0)
    assert dv.js(p, q) == pytest.approx(LOG2 if apart else 0, abs=0)
    assert dv.wasserstein(p, q) == pytest.approx(abs(theta), abs=1e-14)


def test_discrete_earth_mover():
    P, Q = np.asarray([3, 2, 1, 4]), np.asarray([1, 2, 4, 3])
    delta = np.cumsum(P - Q)
    assert delta.tolist() == [2, 2, -1, 0]
    assert np.abs(delta).sum() == 5
    x = np.arange(4.0)
    cost = np.abs(x[:, None] - x)
    assert dv.wasserstein(P / 10, Q / 10, cost=cost) == pytest.approx(0.5, abs=1e-15)
    assert dv.wasserstein(dv.Empirical(x, P / 10), dv.Empirical(x, Q / 10)) == pytest.approx(0.5, abs=1e-15)
    assert dv.kolmogorov_smirnov(P / 10, Q / 10) == pytest.approx(0.2)
    energy = dv.energy_distance(P / 10, Q / 10, cost=cost)
    assert energy == pytest.approx(2 * np.sum((delta / 10) ** 2))
    assert dv.energy_distance(dv.Empirical(x, P / 10), dv.Empirical(x, Q / 10)) == pytest.approx(energy)


def test_linear_program_agrees_with_quantiles_and_the_plane():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=30), rng.normal(1, 2, size=40)
    line = dv.wasserstein(dv.Empirical(x), dv.Empirical(y))
    assert line == pytest.approx(stats.wasserstein_distance(x, y))
    plane = dv.wasserstein(dv.Empirical(np.c_[x, 0 * x]), dv.Empirical(np.c_[y, 0 * y]))
    assert plane == pytest.approx(line)
    square = dv.Empirical([[0.0, 0.0]]), dv.Empirical([[1.0, 1.0]])
    assert dv.wasserstein(*square) == pytest.approx(math.sqrt(2))
    assert dv.wasserstein(*square, metric="cityblock") == 2
    assert dv.wasserstein(*square, metric="chebyshev") == 1
    assert dv.wasserstein(dv.Empirical([0.0, 1.0]), dv.PointMass(3.0), order=2) == pytest.approx(math.sqrt(6.5))


@pytest.mark.parametrize("order", [1, 2, 3])
def test_wasserstein_between_continuous_laws(order):
    # U(0, 1) and U(0, 2) differ by u at level u: W_p = (1/(p + 1))^{1/p}.
    value = dv.wasserstein(stats.uniform(0, 1), stats.uniform(0, 2), order=order)
    assert value == pytest.approx((1 / (order + 1)) ** (1 / order), abs=1e-8)


def test_energy_distance_to_points_outside_the_support():
    # E|U − c| = (c² + (1 − c)²)/2 for c in [0, 1], and |c − ½| outside; E|U − U'| = 1/3.
    x = np.random.default_rng(0).normal(size=50)
    inside = np.clip(x, 0, 1)
    across = np.where((x >= 0) & (x <= 1), (inside**2 + (1 - inside) ** 2) / 2, np.abs(x - 0.5)).mean()
    truth = 2 * across - 1 / 3 - np.abs(x[:, None] - x).mean()
    law, points = stats.uniform(0, 1), dv.Empirical(x)
    assert dv.energy_distance(law, points) == pytest.approx(truth, abs=1e-9)
    assert dv.energy_distance(points, law) == pytest.approx(truth, abs=1e-9)
    assert dv.mmd(law, points, "energy") == pytest.approx(truth, abs=1e-9)


def test_wasserstein_without_moments_is_infinite():
    assert dv.wasserstein(stats.cauchy(), normal(0, 1)) == INF
    assert dv.wasserstein(stats.cauchy(), normal(0, 1), order=2) == INF
    assert dv.wasserstein(stats.t(3), normal(0, 1), order=2) < 2


def test_divergent_integrals_are_infinite_and_others_are_not():
    for variance, finite in ((1.9, True), (2.0, False), (2.1, False)):
        for method in ("auto", "quadrature"):
            value = dv.chi2(normal(0, variance), normal(0, 1), method=method)
            assert math.isfinite(value) == finite
    assert dv.chi2(normal(0, 1.9), normal(0, 1)) == pytest.approx(1 / math.sqrt(1.9 * 0.1) - 1)
    assert dv.neyman_chi2(normal(0, 1), normal(0, 1.9)) == pytest.approx(1 / math.sqrt(1.9 * 0.1) - 1)
    assert dv.kl(stats.cauchy(), normal(0, 1)) == INF
    assert math.isfinite(dv.kl(normal(0, 1), stats.cauchy()))
    assert dv.kl(stats.t(2), normal(0, 1)) == INF
    assert math.isfinite(dv.kl(stats.t(3), normal(0, 1)))


@pytest.mark.parametrize("pair", [(stats.gamma(2), stats.lognorm(1)), (stats.t(3), stats.norm())], ids=["gamma", "t"])
def test_quadrature_against_another_integrator(pair):
    from scipy.integrate import quad

    p, q = pair

    def integrand(x):
        return p.pdf(x) * (p.logpdf(x) - q.logpdf(x)) if p.pdf(x) > 0 else 0

    low = p.support()[0]
    kl = sum(quad(integrand, a, b, limit=500)[0] for a, b in ((low, 1), (1, 20), (20, math.inf)))
    assert dv.kl(p, q) == pytest.approx(kl, abs=1e-7)


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_singular_ends_are_reached(shift):
    # ∫√(arcsine density) over U(0, 1) is B(3/4, 3/4)/√π; KL(arcsine ‖ U) is log 4 − log π.
    p, q = stats.beta(0.5, 0.5, loc=shift), stats.uniform(shift, 1)
    half = math.gamma(0.75) ** 2 / math.gamma(1.5) / math.sqrt(math.pi)
    assert dv.squared_hellinger(p, q) == pytest.approx(2 - 2 * half, abs=1e-8)
    assert dv.kl(p, q, method="quadrature") == pytest.approx(math.log(4 / math.pi), abs=1e-8)
    assert dv.chi2(p, q) == INF
    assert dv.kl(stats.beta(0.5, 0.5), stats.beta(2, 3), method="quadrature") == pytest.approx(1.9155409088, abs=1e-8)


def test_laws_that_scipy_lacks():
    from scipy.integrate import quad

    a, b = (td.VonMises(torch.tensor(loc), torch.tensor(3.0, dtype=torch.float64)) for loc in (0.0, 1.0))
    kl = quad(lambda x: stats.vonmises.pdf(x, 3) * 3 * (math.cos(x) - math.cos(x - 1)), -math.pi, math.pi)[0]
    for method in ("closed_form", "quadrature"):
        assert float(dv.kl(a, b, method=method)) == pytest.approx(kl, abs=1e-8)
    k = td.Kumaraswamy(torch.tensor(2.0), torch.tensor(3.0))
    truth = quad(lambda x: abs(6 * x * (1 - x * x) ** 2 - 1) / 2, 0, 1, points=(0.17, 0.58), limit=200)[0]
    assert float(dv.total_variation(k, td.Uniform(0.0, 1.0))) == pytest.approx(truth, abs=1e-7)


def test_mixtures_far_apart_are_not_missed():
    p, q = mixture([-100.0, 100.0], 0.01), mixture([-100.0, 100.0, 250.0], 0.01)
    assert float(dv.kl(p, q)) == pytest.approx(math.log(1.5), abs=1e-8)
    assert float(dv.total_variation(p, q)) == pytest.approx(1 / 3, abs=1e-8)


class TestLimitsWithZeros:
    """P has mass where Q has none, and the other way round."""

    more, less = [0.5, 0.25, 0.25], [0.5, 0.5, 0.0]

    @pytest.mark.parametrize("name", ["kl", "jeffreys", "chi2"])
    def test_infinite_where_only_p_has_mass(self, name):
        assert getattr(dv, name)(self.more, self.less) == INF

    @pytest.mark.parametrize("name", ["reverse_kl", "jeffreys", "neyman_chi2"])
    def test_infinite_where_only_q_has_mass(self, name):
        assert getattr(dv, name)(self.less, self.more) == INF

    @pytest.mark.parametrize("name", ["kl", "chi2"])
    def test_finite_the_other_way(self, name):
        expected = {"kl": 0.5 * LOG2, "chi2": 0.25 + 0.25}[name]
        assert getattr(dv, name)(self.less, self.more) == pytest.approx(expected)

    @pytest.mark.parametrize("name", ["js", "total_variation", "squared_hellinger", "le_cam", "hellinger"])
    def test_bounded_ones_stay_finite(self, name):
        function = getattr(dv, name)
        assert function(self.less, self.more) == pytest.approx(function(self.more, self.less))
        assert math.isfinite(function(self.more, self.less))

    def test_both_zero_counts_nothing(self):
        assert dv.kl([0.5, 0.5, 0.0], [0.25, 0.75, 0.0]) == dv.kl([0.5, 0.5], [0.25, 0.75])

    def test_points_against_a_density_are_singular(self):
        assert dv.kl(dv.PointMass(0.0), normal(0, 1)) == INF
        assert dv.js(dv.PointMass(0.0), normal(0, 1)) == LOG2


@each
def test_identity_is_exact(d):
    for p in ([0.1, 0.2, 0.3, 0.4], [1.0, 0.0], torch.tensor([0.3, 0.7]), np.full(7, 1 / 7)):
        assert float(d(p, p)) == 0
    assert float(d(normal(1, 3), normal(1, 3))) == 0


@each
@settings(max_examples=40, deadline=None)
@given(p=vectors(4), q=vectors(4))
def test_non_negative_bounded_and_symmetric_where_claimed(d, p, q):
    value = d(p, q)
    assert 0 <= value <= d.upper_bound * (1 + 1e-12)
    assert d.reversed()(q, p) == pytest.approx(value, rel=1e-9, abs=1e-12)
    if d.is_symmetric:
        assert d(q, p) == pytest.approx(value, rel=1e-12, abs=1e-15)


@each
@settings(max_examples=40, deadline=None)
@given(p=vectors(4), q=vectors(4), channel=channels(4, 3))
def test_data_processing(d, p, q, channel):
    before, after = d(p, q), d(p @ channel, q @ channel)
    assert after <= before * (1 + 1e-9) + 1e-12


@each
@settings(max_examples=40, deadline=None)
@given(p=vectors(3), q=vectors(3), r=vectors(3), s=vectors(3), w=st.floats(0.05, 0.95))
def test_joint_convexity(d, p, q, r, s, w):
    mixed = d(w * p + (1 - w) * r, w * q + (1 - w) * s)
    assert mixed <= (w * d(p, q) + (1 - w) * d(r, s)) * (1 + 1e-9) + 1e-12


@each
@settings(max_examples=25, deadline=None)
@given(p=vectors(4, least=1e-3), q=vectors(4, least=1e-3))
def test_value_is_its_definition(d, p, q):
    definition = float((torch.as_tensor(q) * d.f(torch.as_tensor(p / q))).sum())
    assert d(p, q) == pytest.approx(definition, rel=1e-8, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(p=vectors(5), q=vectors(5))
def test_inequalities_between_divergences(p, q):
    tv, h2, kl, chi = dv.total_variation(p, q), dv.squared_hellinger(p, q), dv.kl(p, q), dv.chi2(p, q)
    assert 2 * tv**2 <= kl + 1e-12  # Pinsker
    assert h2 / 2 <= tv + 1e-12 <= math.sqrt(h2) + 2e-12  # Le Cam
    assert kl <= math.log1p(chi) + 1e-12
    assert dv.hellinger(p, q) ** 2 == pytest.approx(h2 / 2)
    assert dv.js(p, q) <= LOG2 * tv + 1e-12


@pytest.mark.parametrize("d", [d for d in ALL if d.name != "hockey_stick"], ids=repr)
def test_gradients_flow_through_probabilities(d):
    logits = torch.tensor([[0.1, -0.3, 0.5], [1.0, 0.0, -1.0]], dtype=torch.float64, requires_grad=True)
    other = torch.tensor([0.2, 0.1, -0.4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: d(a.softmax(-1), b.softmax(-1)), (logits, other))


@each
def test_gradients_are_finite_at_zeros_and_far_out(d):
    p = torch.tensor([0.5, 0.5, 0.0, 0.0], requires_grad=True)
    q = torch.tensor([0.25, 0.25, 0.5, 0.0], requires_grad=True)
    if math.isfinite(d.f_at_zero):
        assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(d(p, q), (p, q)))
    tiny = torch.tensor([1 - 1e-30, 1e-30], dtype=torch.float64, requires_grad=True)
    half = torch.tensor([0.5, 0.5], dtype=torch.float64, requires_grad=True)
    value = d(tiny, half)
    assert bool(value.isfinite())
    assert all(bool(g.isfinite().all()) for g in torch.autograd.grad(value, (tiny, half)))


def test_gradients_of_closed_forms():
    def parts(a):
        return td.MultivariateNormal(a[0], scale_tril=torch.linalg.cholesky(torch.eye(2).double() + a[1:3] @ a[1:3].mT))

    a, b = (
        torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(i)).requires_grad_()
        for i in (0, 1)
    )
    for function in (dv.kl, dv.squared_hellinger, dv.bhattacharyya, lambda p, q: dv.wasserstein(p, q, 2)):
        assert torch.autograd.gradcheck(lambda x, y, f=function: f(parts(x), parts(y)), (a, b))
    x = torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([[3.0, 0.5], [0.2, 2.0], [5.0, 5.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s, t: dv.wasserstein(dv.Empirical(s), dv.Empirical(t), 2), (x, y))


def test_wasserstein_has_gradients_in_the_weights():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, 1, dtype=torch.float64, generator=generator) for n in (3, 4))
    cost = torch.cdist(x, y)
    a, b = (torch.randn(n, dtype=torch.float64, generator=generator, requires_grad=True) for n in (3, 4))
    for order in (1, 2):
        assert torch.autograd.gradcheck(
            lambda u, v, order=order: dv.wasserstein(u.softmax(0), v.softmax(0), order, cost=cost), (a, b)
        )
        assert torch.autograd.gradcheck(
            lambda u, v, order=order: dv.wasserstein(
                dv.Empirical(x, u.softmax(0)), dv.Empirical(y, v.softmax(0)), order
            ),
            (a, b),
        )


def test_batches_broadcast_and_kinds_are_kept():
    p, q = np.full((5, 1, 3), 1 / 3), np.full((4, 3), 1 / 3)
    assert dv.kl(p, q).shape == (5, 4)
    assert isinstance(dv.kl([0.5, 0.5], [0.5, 0.5]), float)
    assert dv.kl(torch.tensor([0.5, 0.5]), [0.5, 0.5]).dtype == torch.float64
    assert dv.js(torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.5])).dtype == torch.float32
    batch = dv.kl(td.Normal(torch.zeros(3), torch.ones(3)), td.Normal(torch.ones(3), torch.ones(3)))
    torch.testing.assert_close(batch, torch.full((3,), 0.5))
    independent = td.Independent(td.Normal(torch.zeros(4, 3), torch.ones(3)), 1)
    assert dv.kl(independent, independent).shape == (4,)


def test_finite_torch_laws_are_exact():
    assert float(dv.kl(td.Bernoulli(0.0), td.Bernoulli(0.5))) == pytest.approx(LOG2)
    assert float(dv.kl(td.Bernoulli(0.5), td.Bernoulli(0.0))) == INF
    a, b = td.Categorical(torch.tensor([0.1, 0.2, 0.7])), td.Categorical(torch.tensor([0.2, 0.2, 0.6]))
    torch.testing.assert_close(dv.js(a, b), dv.js(a.probs, b.probs))
    expected = dv.js(stats.binom(3, 0.3).pmf(range(4)), stats.binom(3, 0.6).pmf(range(4)))
    assert dv.js(stats.binom(3, 0.3), stats.binom(3, 0.6)) == pytest.approx(expected)


def test_base_is_the_unit():
    p, q = [0.5, 0.5], [0.25, 0.75]
    assert dv.kl(p, q, base=2) == pytest.approx(dv.kl(p, q) / LOG2)
    assert dv.js([1.0, 0.0], [0.0, 1.0], base=2) == pytest.approx(1)
    assert dv.bhattacharyya(p, q, base=2) == pytest.approx(-math.log2(math.sqrt(0.125) + math.sqrt(0.375)))
    with pytest.raises(ValueError, match="base= has no meaning"):
        dv.f_divergence(p, q, "total_variation", base=2)
    with pytest.raises(ValueError, match="base must be a finite number above 1"):
        dv.kl(p, q, base=1)


def test_monte_carlo_covers_the_truth():
    for seed in range(5):
        e = dv.monte_carlo(normal(0, 1), normal(1, 4), "kl", n=20_000, seed=seed)
        assert abs(e.value - 0.4431471806) < 4.5 * e.stderr
    assert dv.monte_carlo(normal(0, 1), normal(1, 1), "kl", n=100, seed=3) == dv.monte_carlo(
        normal(0, 1), normal(1, 1), dv.KL(), n=100, seed=3
    )
    e = dv.monte_carlo(*unit_shift(10), dv.JensenShannon(), n=20_000)
    assert abs(e.value - 0.1114214822) < 4.5 * e.stderr
    assert (e.bound, e.divergence, e.estimator) == ("unbiased", "js", "monte_carlo")
    disjoint = dv.monte_carlo(stats.uniform(0, 1), stats.uniform(2, 1), "kl", n=100)
    assert disjoint.value == INF
    assert disjoint.interval is None


def test_monte_carlo_of_mixtures_leaves_the_global_state_alone():
    means = torch.tensor([[-2.0, 0.0], [2.0, 0.0]])
    p = td.MixtureSameFamily(td.Categorical(torch.ones(2)), td.MultivariateNormal(means, torch.eye(2)))
    q = td.MixtureSameFamily(td.Categorical(torch.ones(2)), td.Independent(td.Normal(means + 1, torch.ones(2)), 1))
    with pytest.raises(NotImplementedError, match=r"dv.monte_carlo\(p, q, 'kl'\)"):
        dv.kl(p, q)
    state = torch.random.get_rng_state()
    first, second = (dv.monte_carlo(p, q, "kl", n=2000, seed=1) for _ in range(2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert first == second
    assert first.value > 4 * first.stderr


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: dv.kl([0.5, 0.4], [0.5, 0.5]), ValueError, r"p must sum to 1: got the sum 0\.9"),
        (lambda: dv.kl([0.5, 0.5], [3, 2]), ValueError, "q must sum to 1: got the sum 5"),
        (lambda: dv.kl([1.5, -0.5], [0.5, 0.5]), ValueError, "p must not be negative: got -0.5"),
        (lambda: dv.kl([0.5, float("nan")], [0.5, 0.5]), ValueError, "p must not contain NaN: got 1 of 2"),
        (lambda: dv.kl([], []), ValueError, "p must have at least one outcome"),
        (lambda: dv.kl([0.5, 0.5], [0.2, 0.3, 0.5]), ValueError, r"same number of outcomes: got \(2,\) and \(3,\)"),
        (lambda: dv.kl(np.full((2, 2), 0.5), np.full((3, 2), 0.5)), ValueError, "leading axes"),
        (lambda: dv.kl("p", [1.0]), TypeError, "p must be probabilities"),
        (lambda: dv.kl(["a", "b"], [0.5, 0.5]), TypeError, "p must hold numbers"),
        (lambda: dv.kl([0.5, 0.5], stats.norm()), TypeError, "probability vectors meet only"),
        (lambda: dv.kl([0.5, 0.5], [0.5, 0.5], method="exactly"), ValueError, "method must be one of"),
        (lambda: dv.f_divergence([1.0], [1.0], "kll"), ValueError, "unknown divergence 'kll': choose from kl"),
        (lambda: dv.wasserstein([1.0], [1.0]), TypeError, "needs cost="),
        (lambda: dv.wasserstein([1.0], [1.0], cost=[[float("nan")]]), ValueError, "cost must be finite"),
        (lambda: dv.wasserstein([0.5, 0.5], [1.0], cost=[[1.0]]), ValueError, r"cost must be \(2, 1\)"),
        (lambda: dv.wasserstein(dv.PointMass(0.0), dv.PointMass(1.0), order=0.5), ValueError, "order must be"),
        (lambda: dv.wasserstein(dv.PointMass(0.0), dv.PointMass(1.0), metric="l7"), ValueError, "metric must be"),
        (lambda: dv.wasserstein(dv.PointMass([0.0, 1.0]), dv.PointMass(1.0)), ValueError, "one dimension"),
        (lambda: dv.mmd([1.0], [1.0], dv.kernels.Gaussian(1.0)), TypeError, "Empirical"),
        (lambda: dv.Empirical([]), ValueError, "points must be"),
        (
            lambda: dv.Empirical([[0.0], [float("nan")]]),
            ValueError,
            "points must be finite: got 1 NaN entries, first in row 1",
        ),
        (lambda: dv.Empirical([0.0, 1.0], [0.5, 0.6]), ValueError, "weights must sum to 1: got the sum 1.1"),
        (lambda: dv.Empirical([0.0, 1.0], [1.5, -0.5]), ValueError, "weights must not be negative"),
        (lambda: dv.Empirical([0.0, 1.0], [1.0]), ValueError, "one for each of the 2 points"),
        (lambda: dv.kl(gaussian([0], [[1]]), gaussian([0, 0], np.eye(2))), ValueError, "one dimension"),
    ],
)
def test_bad_input_is_one_clear_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_stopped_linear_program_says_so(monkeypatch):
    from divergences import transport

    monkeypatch.setattr(transport, "ITERATIONS", 1)
    x = np.random.default_rng(0).normal(size=(60, 2))
    with pytest.raises(dv.ConvergenceError, match="stopped before the optimum"):
        dv.wasserstein(dv.Empirical(x), dv.Empirical(x[::-1] + 1))


def test_importing_stays_light():
    heavy = ("ot", "sklearn", "matplotlib", "hypothesis", "estimators")
    code = f"import sys, divergences; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
