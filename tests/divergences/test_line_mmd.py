"""MMD² between densities on the line, against Fourier integrals in mpmath, closed forms, and the laws themselves."""

import math

import mpmath as mp
import numpy as np
import pytest
import torch
import torch.distributions as td
from scipy import stats

import divergences as dv
from divergences import kernels as K
from divergences.laws import ConvergenceError, Empirical
from divergences.line import line
from divergences.line_metrics import squared_energy
from divergences.line_mmd import squared_mmd


def number(x):
    return torch.tensor(float(x), dtype=torch.float64)


def normal(mean, deviation):
    return td.Normal(number(mean), number(deviation))


def uniform(low, high):
    return td.Uniform(number(low), number(high))


LAWS = {
    "normal": normal(0, 1),
    "wider": normal(1, 2),
    "laplace": td.Laplace(number(0), number(1)),
    "laplace 1 2": td.Laplace(number(1), number(2)),
    "cauchy": td.Cauchy(number(0), number(1)),
    "cauchy 1": td.Cauchy(number(1), number(1)),
    "expon": td.Exponential(number(1)),
    "expon 2": td.Exponential(number(2)),
    "gamma": td.Gamma(number(2), number(1)),
    "uniform 0 2": uniform(0, 2),
    "uniform 1 4": uniform(1, 4),
    "arcsine": td.Beta(number(0.5), number(0.5)),
}


def mmd(p, q, kernel):
    return float(squared_mmd(*(law if isinstance(law, Empirical) else line(law) for law in (p, q)), kernel))


# ∫|φ_p − φ_q|² dΛ over the kernel's spectral measure, in mpmath with 25 digits.
SPECTRAL = [
    ("normal", "wider", K.Gaussian(0.5), 0.110622587571),
    ("normal", "laplace", K.Laplace(0.4), 0.0039164823767211),
    ("normal", "laplace", K.DistanceInduced(0.5), 0.0074432669299184),
    ("laplace", "laplace 1 2", K.InverseMultiquadric(0.09), 0.06194739731547),
    ("laplace", "laplace 1 2", K.DistanceInduced(1.5), 1.0347607820811),
    ("expon", "expon 2", K.Laplace(3.0), 1 / 28),
    ("expon", "expon 2", K.DistanceInduced(0.5), 0.086523285598336),
    ("gamma", "expon 2", K.Gaussian(1.5), 0.32942681599643),
    ("gamma", "expon 2", K.Laplace(0.4), 0.29352481733434),
    ("gamma", "expon 2", K.DistanceInduced(1.5), 2.3300569415349),
    ("cauchy", "normal", K.Laplace(3.0), 0.032734580298155),
    ("cauchy", "normal", K.InverseMultiquadric(4.0), 0.039510961300899),
    ("cauchy", "cauchy 1", K.InverseMultiquadric(4.0), 1 / 17),
    ("cauchy", "cauchy 1", K.DistanceInduced(1.5), 0.73905243442721),
    ("cauchy", "laplace 1 2", K.Gaussian(0.5), 0.047869709557894),
    ("uniform 0 2", "uniform 1 4", K.Gaussian(0.5), 0.44610524447955),
    ("uniform 0 2", "uniform 1 4", K.InverseMultiquadric(0.09), 0.29532668449473),
    ("expon", "uniform 0 2", K.Gaussian(0.5), 0.06719916904064),
    ("arcsine", "expon", K.Gaussian(1.5), 0.049118878767727),
    ("arcsine", "uniform 0 2", K.InverseMultiquadric(0.09), 0.16844799578935),
]


@pytest.mark.parametrize("p, q, kernel, truth", SPECTRAL, ids=lambda v: v if isinstance(v, str) else repr(v))
def test_spectral_truths(p, q, kernel, truth):
    assert mmd(LAWS[p], LAWS[q], kernel) == pytest.approx(truth, abs=1e-12)
    assert mmd(LAWS[q], LAWS[p], kernel) == pytest.approx(truth, abs=1e-12)


@pytest.mark.parametrize("length", [1e-6, 1e-3, 0.1, 1.0, 30.0, 1e6])
@pytest.mark.parametrize("family", [K.Gaussian, K.Laplace, K.RationalQuadratic, lambda h: K.InverseMultiquadric(h**2)])
def test_gaussians_at_every_bandwidth(family, length):
    p, q, kernel = LAWS["normal"], LAWS["wider"], family(length)
    assert mmd(p, q, kernel) == pytest.approx(float(dv.mmd(p, q, kernel)), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("length", [1e-8, 1e-4, 1e-3, 3e-3, 0.01, 0.1, 1.0, 100.0])
def test_a_kink_between_jumps_at_every_bandwidth(length):
    with mp.workdps(60):
        h = mp.mpf(length)

        def mean(a, b, c, d):  # E exp(−|X − Y|/h), from the second antiderivative
            F = [h**2 * mp.exp(-abs(gap) / h) + h * abs(gap) for gap in (b - c, a - c, b - d, a - d)]
            return (F[0] - F[1] - F[2] + F[3]) / ((b - a) * (d - c))

        p, q = (mp.mpf(0), mp.mpf(1)), (mp.mpf(1) / 2, mp.mpf(2))
        truth = float(mean(*p, *p) + mean(*q, *q) - 2 * mean(*p, *q))
    assert mmd(uniform(0, 1), uniform(0.5, 2), K.Laplace(length)) == pytest.approx(truth, abs=1e-13)


MIXTURE = td.MixtureSameFamily(
    td.Categorical(torch.ones(3)), td.Uniform(torch.tensor([0.0, 0.5, 3.0]), torch.tensor([1.0, 2.0, 4.0]))
)
POINTS = Empirical(np.random.default_rng(0).normal(size=50))
ENERGIES = [
    ("jumps inside", MIXTURE, LAWS["normal"]),
    ("singular ends", td.Beta(number(0.1), number(0.1)), uniform(0, 1)),
    ("arcsine", LAWS["arcsine"], td.Beta(number(0.2), number(3))),
    ("no mean", LAWS["cauchy"], LAWS["cauchy 1"]),
    ("same", LAWS["cauchy"], LAWS["cauchy"]),
    ("heavy", td.Pareto(number(1), number(0.7)), LAWS["normal"]),
    ("infinite", td.Pareto(number(1), number(0.5)), LAWS["normal"]),
    ("lognormal", td.LogNormal(number(0), number(2)), LAWS["expon"]),
    ("scales", normal(0, 1e-3), normal(0, 1e3)),
    ("far", LAWS["normal"], normal(1e6, 2)),
    ("offset", normal(1e6, 1), normal(1e6 + 1, 2)),
    ("scipy", stats.triang(0.3), stats.trapezoid(0.2, 0.7)),
    ("points", LAWS["normal"], POINTS),
    ("points first", Empirical([1e6, 1e6 + 2.0], [0.3, 0.7]), normal(1e6, 1)),
    ("many points", LAWS["cauchy"], Empirical(3 * np.random.default_rng(1).normal(size=1000))),
]


@pytest.mark.parametrize("p, q", [case[1:] for case in ENERGIES], ids=[case[0] for case in ENERGIES])
def test_distance_induced_is_the_energy_distance(p, q):
    truth = float(squared_energy(*(law if isinstance(law, Empirical) else line(law) for law in (p, q))))
    assert mmd(p, q, K.DistanceInduced()) == pytest.approx(truth, abs=1e-9, rel=1e-9)


@pytest.mark.parametrize("kernel", [K.Gaussian(0.01), K.Gaussian(1.0), K.Laplace([0.1, 2.0]), K.DistanceInduced(0.7)])
def test_points_outside_the_support(kernel):
    """Against the mean of k(·, z) over the law, by quantiles: ∫k(F⁻¹(u), z) du, cut where it bends."""
    z, w = np.asarray([-0.5, 0.25, 1.5]), np.asarray([0.2, 0.5, 0.3])
    nodes, weights = np.polynomial.legendre.leggauss(100)
    cuts = np.unique(
        np.concatenate([np.linspace(0, 1, 41), 0.25 + 0.2 * 0.5 ** np.arange(30), 0.25 - 0.2 * 0.5 ** np.arange(30)])
    )
    half = np.diff(cuts)[:, None] / 2
    x = ((cuts[1:] + cuts[:-1])[:, None] / 2 + half * nodes).reshape(-1, 1)
    cross = float((half * weights).ravel() @ kernel(x, z[:, None]) @ w)
    gap, at = np.polynomial.legendre.leggauss(200), np.zeros((1, 1))
    d = ((gap[0] + 1) / 2) ** 6  # k(x, x') of U(0, 1) through d = |x − x'|, of density 2(1 − d)
    jacobian = gap[1] / 2 * 6 * ((gap[0] + 1) / 2) ** 5
    if isinstance(kernel, K.DistanceInduced):
        alone = float(jacobian @ (2 * (1 - d) * -(d**0.7))) + 2 / 1.7
    else:
        alone = float(jacobian @ (2 * (1 - d) * kernel(d[:, None], at)[:, 0]))
    truth = alone - 2 * cross + w @ kernel(z[:, None], z[:, None]) @ w
    assert mmd(uniform(0, 1), Empirical(z, w), kernel) == pytest.approx(truth, abs=1e-10)


@pytest.mark.parametrize(
    "kernel", [K.Gaussian(0.5), K.Laplace(2.0), K.RationalQuadratic(0.3, 0.2), K.Laplace([0.1, 3.0])]
)
def test_points_and_a_gaussian(kernel):
    assert mmd(LAWS["normal"], POINTS, kernel) == pytest.approx(
        float(dv.mmd(LAWS["normal"], POINTS, kernel)), abs=1e-12
    )


@pytest.mark.parametrize("kernel", [K.Gaussian(1.0), K.Laplace(1.0), K.DistanceInduced(0.5)], ids=repr)
def test_an_offset_changes_nothing(kernel):
    for p, q in ((normal, normal), (uniform, uniform)):
        here, there = (mmd(p(c, c + 1), q(c + 0.5, c + 2), kernel) for c in (0.0, 1e6)) if p is uniform else (
            mmd(p(c, 1), q(c + 1, 2), kernel) for c in (0.0, 1e6)
        )  # fmt: skip
        assert there == pytest.approx(here, abs=1e-9)


def test_far_apart():
    assert mmd(LAWS["normal"], normal(1e7, 1), K.Gaussian(1.0)) == pytest.approx(2 / math.sqrt(3), abs=1e-8)
    assert mmd(LAWS["cauchy"], td.Cauchy(number(1e7), number(1)), K.InverseMultiquadric(1.0)) == pytest.approx(
        2 / 3, abs=1e-8
    )


def test_sums_products_and_multiples():
    p, q = LAWS["gamma"], LAWS["laplace"]
    a, b, c = K.Gaussian(0.7), K.DistanceInduced(), K.Polynomial(2, 1.0)
    each = [mmd(p, q, kernel) for kernel in (a, b, c)]
    assert mmd(p, q, a + 2 * b + c) == pytest.approx(each[0] + 2 * each[1] + each[2], abs=1e-11)
    assert mmd(p, q, K.Polynomial(1, 1.0) * K.Polynomial(1, 1.0)) == pytest.approx(each[2], rel=1e-10)
    narrow = K.Gaussian(1.0) * K.Gaussian(0.5)
    assert mmd(p, q, narrow) == pytest.approx(mmd(p, q, K.Gaussian(0.2**0.5)), abs=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_polynomials_see_moments(offset):
    p, q = normal(offset, 1), normal(offset + 1, 2)
    first, second = 1.0, (offset + 1) ** 2 + 4 - offset**2 - 1
    assert mmd(p, q, K.Polynomial(1, 0.0)) == pytest.approx(1, rel=1e-9)
    assert mmd(p, q, K.Polynomial(2, 0.5)) == pytest.approx(2 * 0.5 * first**2 + second**2, rel=1e-9)
    points = Empirical([offset, offset + 1])
    assert mmd(p, points, K.Polynomial(2, 0.0)) == pytest.approx((offset + 0.5 - 1) ** 2, rel=1e-8)


def test_infinite_where_the_moments_are():
    t = td.StudentT(number(2.5))
    assert mmd(t, LAWS["normal"], K.Polynomial(2, 0.0)) == pytest.approx(16)
    assert mmd(t, LAWS["normal"], K.Polynomial(3, 0.0)) == math.inf
    assert mmd(LAWS["cauchy"], LAWS["normal"], K.Polynomial(1)) == math.inf
    with pytest.raises(ConvergenceError, match="tails outgrow"):
        mmd(LAWS["cauchy"], LAWS["normal"], K.Polynomial(1) * K.Gaussian(1.0))


@pytest.mark.parametrize(
    "kernel", [K.Gaussian(1.0), K.Laplace(1e-3), K.DistanceInduced(1.5), K.Polynomial(3)], ids=repr
)
@pytest.mark.parametrize("name", ["normal", "arcsine", "uniform 1 4"])
def test_zero_at_equality(name, kernel):
    assert 0 <= mmd(LAWS[name], LAWS[name], kernel) < 1e-15


def test_refusals():
    moving = td.Normal(number(0).requires_grad_(), number(1))
    p, q = LAWS["normal"], LAWS["wider"]
    with pytest.raises(NotImplementedError, match="gradient"):
        mmd(moving, q, K.Gaussian(1.0))
    with pytest.raises(NotImplementedError, match="gradient"):
        mmd(p, q, K.Gaussian(number(1).requires_grad_()))
    with pytest.raises(NotImplementedError, match="batch"):
        mmd(p, q, K.Gaussian(torch.ones(3, 1, 1)))
    with pytest.raises(NotImplementedError, match="divergences.kernels"):
        mmd(p, q, lambda x, y: x @ y.mT)
    with pytest.raises(ValueError, match="resolved"):
        mmd(p, q, K.Gaussian("median"))
    far_out = td.StudentT(number(0.4))  # its tail matters beyond the squares that floating point holds
    with pytest.raises(ConvergenceError):
        mmd(far_out, p, K.DistanceInduced(1))
