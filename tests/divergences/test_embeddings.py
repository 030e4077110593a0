"""Kernel means under Gaussians, mixtures and points, against integrals of the kernels themselves."""

import math

import mpmath as mp
import numpy as np
import pytest
import torch
import torch.distributions as td

import divergences as dv
from divergences import embeddings
from divergences import kernels as K

DOUBLE = torch.float64
RADIAL = {
    "gaussian": (K.Gaussian(0.8), lambda r: mp.exp(-(r**2) / (2 * mp.mpf(0.8) ** 2))),
    "mixture": (K.Gaussian((0.5, 3.0)), lambda r: (mp.exp(-2 * r**2) + mp.exp(-(r**2) / 18)) / 2),
    "laplace": (K.Laplace(0.7), lambda r: mp.exp(-r / mp.mpf(0.7))),
    "narrow laplace": (K.Laplace(0.02), lambda r: mp.exp(-r / mp.mpf(0.02))),
    "imq": (K.InverseMultiquadric(2.0), lambda r: 2 / (2 + r**2)),
    "rq": (K.RationalQuadratic(1.3, 0.3), lambda r: (1 + r**2 / (2 * mp.mpf(0.3) * mp.mpf(1.3) ** 2)) ** -mp.mpf(0.3)),
    "smooth rq": (K.RationalQuadratic(1.0, 200.0), lambda r: (1 + r**2 / 400) ** -200),
    "energy": (K.DistanceInduced(), lambda r: -r),
    "low order": (K.DistanceInduced(0.1), lambda r: -(r ** mp.mpf(0.1))),
    "high order": (K.DistanceInduced(1.95), lambda r: -(r ** mp.mpf(1.95))),
    "sum": (K.Laplace(1.0) + 2.0 * K.Gaussian(1.0), lambda r: mp.exp(-r) + 2 * mp.exp(-(r**2) / 2)),
    "product with gaussian": (K.Laplace(1.0) * K.Gaussian(1.0), lambda r: mp.exp(-r - r**2 / 2)),
    "product": (K.Laplace(2.0) * K.InverseMultiquadric(1.0), lambda r: mp.exp(-r / 2) / (1 + r**2)),
}


def in_space(k, shift, variance):
    """E k(‖Z‖), Z ~ N(Δ, s²I₃): the density of the norm is elementary in three dimensions."""
    s = mp.sqrt(variance)
    cuts = sorted({mp.mpf(0), *(max(mp.mpf(0), shift + a * s) for a in (-12, -4, -1, 0, 1, 4, 12)), s / 50, s / 5})
    if shift == 0:
        return mp.quad(lambda r: k(r) * mp.sqrt(2 / mp.pi) * r**2 / s**3 * mp.exp(-(r**2) / (2 * variance)), cuts)

    def density(r):
        bumps = mp.exp(-((r - shift) ** 2) / (2 * variance)) - mp.exp(-((r + shift) ** 2) / (2 * variance))
        return r / (shift * s * mp.sqrt(2 * mp.pi)) * bumps

    return mp.quad(lambda r: k(r) * density(r), cuts)


def ball(shift, deviation):
    mean = torch.tensor([shift, 0.0, 0.0], dtype=DOUBLE)
    return td.Independent(td.Normal(mean, torch.full_like(mean, deviation)), 1)


@pytest.mark.parametrize("name", RADIAL)
@pytest.mark.parametrize(("shift", "s_p", "s_q"), [(0.9, 1.0, 0.3), (5.0, 0.5, 0.5), (1e-3, 1.0, 1.001)])
def test_radial_kernels_in_space(name, shift, s_p, s_q):
    kernel, k = RADIAL[name]
    with mp.workdps(30):
        P, Q, D = mp.mpf(s_p) ** 2, mp.mpf(s_q) ** 2, mp.mpf(shift)
        same_p, same_q, across = in_space(k, 0, 2 * P), in_space(k, 0, 2 * Q), in_space(k, D, P + Q)
        truth = same_p + same_q - 2 * across
        value = float(dv.mmd(ball(shift, s_p), ball(0.0, s_q), kernel))
        assert abs(value - truth) < 1e-10 * abs(truth) + 1e-14 * abs(same_p)


def test_all_dimensions_have_their_mean_distance():
    # E‖Z‖^β = (2s²)^{β/2} Γ((d + β)/2)/Γ(d/2) ₁F₁(−β/2; d/2; −Δ²/(2s²)) for Z ~ N(Δ, s²I)
    for d in (1, 2, 16, 300):
        for shift, deviation in ((0.0, 1.0), (1e-3, 1.0), (1e5, 1.0), (3.0, 1e-4)):
            for order in (0.02, 1, 1.99):
                mean = torch.zeros(d, dtype=DOUBLE)
                mean[0] = shift
                p = td.Independent(td.Normal(mean, torch.full_like(mean, deviation)), 1)
                value = embeddings.mean_distance(p, dv.PointMass(0 * mean), order)
                b, v = mp.mpf(order), mp.mpf(deviation) ** 2
                scale = (2 * v) ** (b / 2) * mp.gamma((d + b) / 2) / mp.gamma(mp.mpf(d) / 2)
                truth = scale * mp.hyp1f1(-b / 2, mp.mpf(d) / 2, -(mp.mpf(shift) ** 2) / (2 * v))
                assert float(value) == pytest.approx(float(truth), rel=1e-13)


def law(seed, d=2, batch=()):
    g = torch.Generator().manual_seed(seed)
    A = torch.randn(*batch, d, d, dtype=DOUBLE, generator=g)
    S = 0.3 * A @ A.mT + 0.1 * torch.eye(d, dtype=DOUBLE)
    return td.MultivariateNormal(torch.randn(*batch, d, dtype=DOUBLE, generator=g), S)


def mixture(seed, n=3, d=2):
    weights = torch.rand(n, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))
    return td.MixtureSameFamily(td.Categorical(weights / weights.sum()), law(seed, d, (n,)))


def hermite(p, count=24):
    """A Gaussian in the plane as weighted points that integrate polynomials to degree 47."""
    x, w = np.polynomial.hermite_e.hermegauss(count)
    grid = torch.as_tensor(np.stack(np.meshgrid(x, x), -1).reshape(-1, 2))
    weights = torch.as_tensor(np.outer(w, w).ravel() / w.sum() ** 2)
    return p.loc + grid @ p.scale_tril.mT, weights


def nodes(p):
    if isinstance(p, dv.Empirical):
        return p.points, p.weights
    if not isinstance(p, td.MixtureSameFamily):
        return hermite(p)
    parts = p.component_distribution
    found = [hermite(td.MultivariateNormal(m, scale_tril=L)) for m, L in zip(parts.loc, parts.scale_tril, strict=True)]
    weights = [w * share for (_, w), share in zip(found, p.mixture_distribution.probs, strict=True)]
    return torch.cat([x for x, _ in found]), torch.cat(weights)


SMOOTH = [
    K.InverseMultiquadric(60.0), K.RationalQuadratic(7.0, 0.5), K.Gaussian(5.0), K.Polynomial(1, 0.0),
    K.Polynomial(2, 1.0), K.Polynomial(5, 0.5), K.Polynomial(2, 0.5) * K.Polynomial(1, 2.0),
    K.Gaussian(5.0) * K.Polynomial(3, 0.5), K.Gaussian((5.0, 6.0)) * K.Polynomial(1, 0.0) * K.Polynomial(2, 1.0),
    K.InverseMultiquadric(60.0) * K.Polynomial(2, 1.0), K.RationalQuadratic(7.0) * K.InverseMultiquadric(80.0),
]  # fmt: skip
SAMPLE = dv.Empirical(torch.randn(7, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(9)), np.full(7, 1 / 7))


@pytest.mark.parametrize("kernel", SMOOTH, ids=repr)
def test_full_covariances_mixtures_and_samples_by_gauss_hermite(kernel):
    for p, q in ((law(0), law(1)), (law(0), SAMPLE), (SAMPLE, mixture(2))):
        (x, a), (y, b) = nodes(p), nodes(q)
        form = [u @ (kernel(s, t) @ v) for (s, u), (t, v) in (((x, a), (x, a)), ((y, b), (y, b)), ((x, a), (y, b)))]
        truth = float(form[0] + form[1] - 2 * form[2])
        for value in (dv.mmd(p, q, kernel), dv.mmd(q, p, kernel)):
            assert float(value) == pytest.approx(truth, rel=1e-9, abs=1e-13 * float(form[0]))


@pytest.mark.parametrize("kernel", [K.Laplace(0.5), K.DistanceInduced(), K.Polynomial(3), K.Gaussian(1.0)], ids=repr)
def test_atoms_add_up_whatever_type_they_come_in(kernel):
    p, q = law(0), law(1)
    twice = td.MixtureSameFamily(td.Categorical(torch.tensor([0.3, 0.7], dtype=DOUBLE)), p.expand((2,)))
    thin = td.Independent(td.Normal(SAMPLE.points, torch.full_like(SAMPLE.points, 1e-9)), 1)
    thin = td.MixtureSameFamily(td.Categorical(torch.ones(7, dtype=DOUBLE)), thin)
    low_rank = td.LowRankMultivariateNormal(p.loc, p.scale_tril, torch.full((2,), 1e-18, dtype=DOUBLE))
    value = float(dv.mmd(p, q, kernel))
    assert float(dv.mmd(twice, q, kernel)) == pytest.approx(value, rel=1e-12)
    assert float(dv.mmd(low_rank, q, kernel)) == pytest.approx(value, rel=1e-9)
    assert float(dv.mmd(p, p, kernel)) == 0
    assert float(dv.mmd(thin, q, kernel)) == pytest.approx(float(dv.mmd(SAMPLE, q, kernel)), rel=1e-7)
    assert float(dv.mmd(thin, SAMPLE, kernel)) == pytest.approx(0, abs=1e-7)


def test_rotations_and_shifts_change_nothing():
    g = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(4, 4, dtype=DOUBLE, generator=g)).Q
    m, n, s, t = torch.rand(4, 4, dtype=DOUBLE, generator=g) + 0.1
    p, q = (td.Independent(td.Normal(mean, scale), 1) for mean, scale in ((m, s), (n, t)))
    P, Q = (td.MultivariateNormal(turn @ l.mean + 1e3, (turn * l.variance) @ turn.mT) for l in (p, q))
    for kernel in (K.Laplace(0.3), K.InverseMultiquadric(0.5), K.DistanceInduced(0.7)):
        assert float(dv.mmd(P, Q, kernel)) == pytest.approx(float(dv.mmd(p, q, kernel)), rel=1e-10)


def test_batches_broadcast_and_mixed_types_meet():
    p, q = law(0, 2, (3, 1)), law(1, 2, (4,))
    kernel = K.Laplace(1.0) + K.Polynomial(2)
    value = dv.mmd(p, q, kernel)
    assert value.shape == (3, 4)
    one = [td.MultivariateNormal(l.loc[i], scale_tril=l.scale_tril[i]) for l, i in ((p, (2, 0)), (q, (1,)))]
    torch.testing.assert_close(value[2, 1], dv.mmd(*one, kernel))
    assert dv.mmd(p, SAMPLE, kernel).shape == (3, 1)
    assert dv.energy_distance(mixture(1), q).shape == (4,)
    bandwidths = torch.tensor([0.5, 2.0], dtype=DOUBLE)[:, None, None]
    each = dv.mmd(law(0), law(1), K.Laplace(bandwidths))
    torch.testing.assert_close(each, torch.stack([dv.mmd(law(0), law(1), K.Laplace(h)) for h in (0.5, 2.0)]))
    scales = [1e-6, 1.0, 1e6]
    wide = td.Normal(torch.zeros(3, dtype=DOUBLE), torch.tensor(scales, dtype=DOUBLE))
    got = embeddings.squared_energy(wide, td.Normal(torch.zeros(3, dtype=DOUBLE), 2 * wide.scale), 1.5)
    torch.testing.assert_close(got, got[1] * torch.tensor(scales, dtype=DOUBLE) ** 1.5, rtol=1e-12, atol=0)
    line = td.MixtureSameFamily(td.Categorical(torch.ones(2)), td.Normal(torch.tensor([0.0, 3.0]), torch.ones(2)))
    assert dv.energy_distance(line, td.Normal(0.0, 1.0)).dtype == torch.float32
    assert float(dv.mmd(line, dv.Empirical([0.0, 3.0]), K.Laplace(1.0))) > 0


@pytest.mark.parametrize(
    "kernel",
    [K.Gaussian(1.0), K.Laplace(0.7), K.DistanceInduced(1.5), K.Polynomial(3), K.Gaussian(1.0) * K.Polynomial(2)],
    ids=repr,
)  # fmt: skip
def test_derivatives_in_laws_points_and_bandwidths(kernel):
    g = torch.Generator().manual_seed(0)
    m, B, x = (torch.randn(*shape, dtype=DOUBLE, generator=g) * 0.5 for shape in ((2, 2), (2, 2, 2), (3, 2)))
    B[0] = 0  # equal eigenvalues
    w = torch.tensor([0.2, 0.3, 0.5], dtype=DOUBLE)
    inputs = [t.requires_grad_() for t in (m, B, x)]

    def value(m, B, x):
        L = torch.diag_embed(B.diagonal(dim1=-2, dim2=-1).exp()) + B.tril(-1)
        parts = td.MultivariateNormal(m, scale_tril=L)
        return dv.mmd(td.MixtureSameFamily(td.Categorical(torch.ones(2)), parts), dv.Empirical(x, w), kernel)

    assert torch.autograd.gradcheck(value, inputs)
    assert torch.autograd.gradgradcheck(value, inputs)
    for make in (K.Gaussian, K.Laplace, K.RationalQuadratic):
        h = torch.tensor(0.8, dtype=DOUBLE, requires_grad=True)
        assert torch.autograd.gradcheck(lambda h, make=make: dv.mmd(law(0), law(1), make(h)), (h,))


def test_energy_distance_of_points_is_the_plain_sum():
    x, y = SAMPLE.points, SAMPLE.points[:3] + 1
    distance = [torch.cdist(a, b).mean() for a, b in ((x, y), (x, x), (y, y))]
    truth = float(2 * distance[0] - distance[1] - distance[2])
    assert float(embeddings.squared_energy(SAMPLE, dv.Empirical(y))) == pytest.approx(truth, rel=1e-12)


def test_a_median_needs_samples():
    x, y = np.asarray([[0.0], [1.0]]), np.asarray([[3.0]])
    p, q = dv.Empirical(x), dv.Empirical(y)
    median = K.median_distance(np.r_[x, y])
    assert embeddings.resolved(K.Gaussian("median"), p, q) == K.Gaussian(median)
    value = embeddings.squared_mmd(p, q, K.Gaussian("median"))
    assert float(value) == pytest.approx(dv.mmd(p, q, K.Gaussian(median)), rel=1e-12)
    with pytest.raises(ValueError, match="a law with a density is none: give the bandwidth a number"):
        embeddings.squared_mmd(law(0), SAMPLE, K.Gaussian("median"))


def test_what_has_no_form_says_so():
    class Cosine(K.Kernel):
        def matrix(self, x, y):
            return torch.cos(x.sum(-1).unsqueeze(-1) - y.sum(-1).unsqueeze(-2))

    assert embeddings.squared_mmd(law(0), law(1), Cosine()) is None
    assert embeddings.squared_mmd(law(0), td.Laplace(0.0, 1.0), K.Gaussian(1.0)) is None
    assert float(embeddings.squared_mmd(SAMPLE, SAMPLE, Cosine())) == 0
    with pytest.raises(NotImplementedError, match="product with DistanceInduced"):
        embeddings.squared_mmd(law(0), law(1), K.Gaussian(1.0) * K.DistanceInduced())
    with pytest.raises(ValueError, match="one dimension: got 2 and 3"):
        embeddings.squared_mmd(law(0), law(0, 3), K.Gaussian(1.0))
    with pytest.raises(ValueError, match=r"batch shapes .* got \(2,\) and \(3,\)"):
        embeddings.squared_mmd(law(0, 2, (2,)), law(0, 2, (3,)), K.Gaussian(1.0))


def test_the_energy_distance_scales_with_its_root():
    value = dv.energy_distance(law(0), law(1))
    assert float(dv.energy_distance(law(0), law(1), squared=False)) == pytest.approx(math.sqrt(float(value)))
    assert float(dv.mmd(law(0), law(1), K.DistanceInduced())) == pytest.approx(float(value), rel=1e-14)
