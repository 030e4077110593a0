"""Gaussian closed forms against 50-digit arithmetic on the same parameters, in dimensions, conditions and nearness."""

import math

import mpmath as mp
import pytest
import torch
import torch.distributions as td

import divergences as dv
from divergences import gaussian_transport, nuclear
from divergences.exact import closed_form

DOUBLE = torch.float64
ORDERS = [-1.0, 1e-6, 0.1, 0.5, 1 - 1e-6, 1.0001, 1.3, 2.0, 5.0]
NEARNESS = ["far", "wide", 1e-2, 1e-5, 1e-9, 1e-13]


@pytest.fixture(autouse=True)
def digits():
    with mp.workdps(50):
        yield


def matrix(x):
    return mp.matrix([[mp.mpf(float(v)) for v in row] for row in x.tolist()])


def log_det(S):
    return 2 * mp.fsum(mp.log(mp.cholesky(S)[i, i]) for i in range(S.rows))


def is_definite(S):
    return all(e > 0 for e in mp.eigsy(S, eigvals_only=True))


class Truth:
    """The textbook forms of N(Δ, L_pL_pᵀ) and N(0, L_qL_qᵀ)."""

    def __init__(self, L_p, L_q, shift):
        self.P, self.Q = matrix(L_p) * matrix(L_p).T, matrix(L_q) * matrix(L_q).T
        self.shift, self.d = mp.matrix([mp.mpf(float(v)) for v in shift.tolist()]), len(shift)

    def square(self, S):
        return (self.shift.T * S**-1 * self.shift)[0]

    def kl(self):
        ratio = self.Q**-1 * self.P
        trace = sum(ratio[i, i] for i in range(self.d))
        return (trace - self.d + log_det(self.Q) - log_det(self.P) + self.square(self.Q)) / 2

    def log_affinity(self, alpha):
        a = mp.mpf(alpha)
        b = 1 - a
        S = a * self.Q + b * self.P
        if not is_definite(S):
            return mp.inf
        return (b * log_det(self.P) + a * log_det(self.Q) - log_det(S) - a * b * self.square(S)) / 2

    def log_ess_sup(self):
        S = self.Q - self.P
        if not is_definite(S):
            return mp.inf
        return (log_det(self.Q) - log_det(self.P) + self.square(S)) / 2

    def w2(self):
        values, vectors = mp.eigsy(self.Q)
        root = vectors * mp.diag([mp.sqrt(v) for v in values]) * vectors.T
        cross = sum(mp.sqrt(v) for v in mp.eigsy(root * self.P * root, eigvals_only=True))
        traces = sum(self.P[i, i] + self.Q[i, i] for i in range(self.d))
        return mp.sqrt((self.shift.T * self.shift)[0] + traces - 2 * cross)


def covariance_factor(d, condition, generator):
    turn = torch.linalg.qr(torch.randn(d, d, dtype=DOUBLE, generator=generator)).Q
    return torch.linalg.cholesky((turn * torch.logspace(0, -math.log10(condition), d, dtype=DOUBLE)) @ turn.mT)


def problem(d, condition, nearness, seed=0):
    g = torch.Generator().manual_seed(seed)
    L_q = covariance_factor(d, condition, g)
    noise, shift = torch.randn(d, d, dtype=DOUBLE, generator=g).tril(), torch.randn(d, dtype=DOUBLE, generator=g)
    if nearness == "far":
        return covariance_factor(d, condition, g), L_q, shift
    if nearness == "wide":
        return 1e-6 * covariance_factor(d, condition, g), L_q, 1e-3 * shift
    return L_q @ (torch.eye(d, dtype=DOUBLE) + nearness * noise), L_q, nearness * (L_q @ shift)


def laws(L_p, L_q, shift):
    return td.MultivariateNormal(shift, scale_tril=L_p), td.MultivariateNormal(0 * shift, scale_tril=L_q)


def agree(value, truth, relative=1e-9):
    value = float(value)
    truth = mp.inf if truth > 1.7e308 else truth
    if mp.isinf(truth) or math.isinf(value):
        assert mp.isinf(truth) and math.isinf(value), f"{value} and {mp.nstr(truth, 10)}"
    else:
        assert abs(mp.mpf(value) - truth) <= relative * abs(truth), f"{value} and {mp.nstr(truth, 17)}"


@pytest.mark.parametrize("nearness", NEARNESS)
@pytest.mark.parametrize(("d", "condition"), [(1, 1.0), (2, 1e6), (4, 10.0), (5, 1e12)])
def test_against_fifty_digits(d, condition, nearness):
    L_p, L_q, shift = problem(d, condition, nearness, seed=d)
    (p, q), truth = laws(L_p, L_q, shift), Truth(L_p, L_q, shift)
    back = Truth(L_q, L_p, -shift)
    agree(dv.kl(p, q), truth.kl())
    agree(dv.reverse_kl(p, q), back.kl())
    agree(dv.jeffreys(p, q), truth.kl() + back.kl())
    agree(dv.wasserstein(p, q, order=2), truth.w2())
    for alpha in ORDERS:
        power = truth.log_affinity(alpha)
        agree(closed_form("log_affinity", p, q, alpha=alpha), power)
        agree(dv.alpha(p, q, alpha), mp.expm1(power) / (mp.mpf(alpha) * (mp.mpf(alpha) - 1)))
        if alpha > 0:
            agree(dv.renyi(p, q, alpha), power / (mp.mpf(alpha) - 1))
    half = truth.log_affinity(0.5)
    agree(dv.bhattacharyya(p, q), -half)
    agree(dv.hellinger(p, q), mp.sqrt(-mp.expm1(half)))
    agree(dv.chi2(p, q), mp.expm1(truth.log_affinity(2)))
    agree(dv.neyman_chi2(p, q), mp.expm1(truth.log_affinity(-1)))


@pytest.mark.parametrize("nearness", ["far", "wide", 1e-2, 1e-5])
def test_log_ess_sup_against_fifty_digits(nearness):
    for seed in range(4):
        L_p, L_q, shift = problem(3, 10.0, nearness, seed)
        agree(dv.renyi(*laws(L_p, L_q, shift), math.inf), Truth(L_p, L_q, shift).log_ess_sup())
        agree(dv.renyi(*laws(0.3 * L_p, L_q, shift), math.inf), Truth(0.3 * L_p, L_q, shift).log_ess_sup())


def test_the_supremum_needs_equal_means_where_covariances_are_equal():
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))).Q
    S_p, S_q = ((turn * torch.tensor(v, dtype=DOUBLE)) @ turn.mT for v in ([1.0, 1.0, 2.0], [1.0, 3.0, 2.0]))
    for along, value in ((1, math.log(3) / 2 + 1 / 4), (0, math.inf), (2, math.inf)):
        p, q = td.MultivariateNormal(turn[:, along], S_p), td.MultivariateNormal(0 * turn[:, 0], S_q)
        assert float(dv.renyi(p, q, math.inf)) == pytest.approx(value, rel=1e-12)
        assert float(dv.renyi(q, p, math.inf)) == math.inf
    a, b = (
        td.Independent(td.Normal(torch.tensor(m), torch.tensor(s)), 1)
        for m, s in (([0.0, 1.0], [1.0, 1.0]), ([0.0, 0.0], [1.0, 2.0]))
    )
    assert float(dv.renyi(a, b, math.inf)) == pytest.approx(math.log(2) + 1 / 6, rel=1e-6)
    assert float(dv.renyi(a, a, math.inf)) == 0
    assert float(dv.renyi(a, b, 0)) == 0


def test_infinite_on_the_right_side_of_the_boundary():
    one = td.Normal(torch.tensor(0.0, dtype=DOUBLE), 1.0)
    for gap, finite in ((1e-6, True), (-1e-6, False)):
        wide = td.Normal(torch.tensor(0.0, dtype=DOUBLE), math.sqrt(2 - gap))
        assert math.isfinite(float(dv.chi2(wide, one))) == finite
        S = torch.tensor([[1.0, 0.0], [0.0, 2 - gap]], dtype=DOUBLE)
        p, q = (td.MultivariateNormal(torch.zeros(2, dtype=DOUBLE), C) for C in (S, torch.eye(2, dtype=DOUBLE)))
        assert math.isfinite(float(dv.chi2(p, q))) == finite
        agree(dv.chi2(p, q), mp.expm1(Truth(p.scale_tril, q.scale_tril, p.loc).log_affinity(2)))


def test_low_rank_is_its_covariance_also_where_the_diagonal_is_small():
    g = torch.Generator().manual_seed(0)
    W, D = torch.randn(4, 2, dtype=DOUBLE, generator=g), torch.full((4,), 1e-10, dtype=DOUBLE)
    p = td.LowRankMultivariateNormal(torch.zeros(4, dtype=DOUBLE), W, D)
    q = td.LowRankMultivariateNormal(torch.ones(4, dtype=DOUBLE), W, 2 * D)
    truth = Truth(torch.eye(4), torch.eye(4), p.loc - q.loc)
    truth.P, truth.Q = (matrix(W) * matrix(W).T + mp.mpf(float(v[0])) * mp.eye(4) for v in (D, 2 * D))
    agree(dv.kl(p, q), truth.kl())
    agree(dv.renyi(p, q, 0.3), truth.log_affinity(0.3) / (mp.mpf(0.3) - 1))
    assert float(dv.wasserstein(p, p, order=2)) == 0


def test_large_dimension():
    d = 500
    g = torch.Generator().manual_seed(0)
    roots = [torch.randn(d, d, dtype=DOUBLE, generator=g) for _ in range(2)]
    a, b = (R @ R.mT / d + 0.1 * torch.eye(d, dtype=DOUBLE) for R in roots)
    p, q = td.MultivariateNormal(torch.zeros(d, dtype=DOUBLE), a), td.MultivariateNormal(torch.ones(d).double(), b)
    assert float(dv.kl(p, q)) == pytest.approx(float(td.kl_divergence(p, q)), rel=1e-10)
    mixed = (torch.linalg.slogdet((a + b) / 2)[1] - (torch.linalg.slogdet(a)[1] + torch.linalg.slogdet(b)[1]) / 2) / 2
    square = q.loc @ torch.linalg.solve((a + b) / 2, q.loc) / 8
    assert float(dv.bhattacharyya(p, q)) == pytest.approx(float(mixed + square), rel=1e-10)
    roots_of_product = torch.linalg.eigvals(a @ b).real.sqrt().sum()
    bures = float((a.trace() + b.trace() - 2 * roots_of_product + d).sqrt())
    assert float(dv.wasserstein(p, q, order=2)) == pytest.approx(bures, rel=1e-9)


def one_number(kind, mean, deviation):
    m, s = torch.tensor(mean, dtype=DOUBLE), torch.tensor(deviation, dtype=DOUBLE)
    if kind == "normal":
        return td.Normal(m, s)
    if kind == "independent":
        return td.Independent(td.Normal(m.unsqueeze(-1), s.unsqueeze(-1)), 1)
    return td.MultivariateNormal(m.unsqueeze(-1), scale_tril=s[..., None, None])


@pytest.mark.parametrize("b", ["normal", "independent", "multivariate"])
@pytest.mark.parametrize("a", ["normal", "independent", "multivariate"])
@pytest.mark.parametrize(
    "function",
    [dv.kl, dv.chi2, dv.bhattacharyya, dv.energy_distance, lambda p, q: dv.wasserstein(p, q, order=3),
     lambda p, q: dv.renyi(p, q, math.inf), lambda p, q: dv.mmd(p, q, dv.kernels.Laplace(1.0))],
)  # fmt: skip
def test_one_number_is_the_same_in_every_type(function, a, b):
    p, q = one_number(a, [[0.0], [1.0]], [[1.0], [0.5]]), one_number(b, [0.0, 2.0, -1.0], [1.0, 2.0, 3.0])
    value = function(p, q)
    assert value.shape == (2, 3)
    plain = function(one_number("normal", 1.0, 0.5), one_number("normal", 2.0, 2.0))
    assert float(value[1, 1]) == pytest.approx(float(plain), rel=1e-12)


def test_diagonal_and_full_covariances_agree():
    g = torch.Generator().manual_seed(0)
    m, s = torch.randn(2, 1, 3, dtype=DOUBLE, generator=g), torch.rand(2, 4, 3, dtype=DOUBLE, generator=g) + 0.5
    p, q = td.Independent(td.Normal(m, s), 1), td.Independent(td.Normal(0 * m, 1 + 0 * s[:, :1]), 1)
    P, Q = (td.MultivariateNormal(law.mean, scale_tril=torch.diag_embed(law.stddev)) for law in (p, q))
    for function in (dv.kl, dv.squared_hellinger, lambda a, b: dv.wasserstein(a, b, order=2), dv.energy_distance,
                     lambda a, b: dv.renyi(a, b, 0.3), lambda a, b: dv.renyi(a, b, math.inf)):  # fmt: skip
        for pair in ((P, Q), (p, Q), (P, q)):
            assert function(*pair).shape == (2, 4)
            torch.testing.assert_close(function(*pair), function(p, q), rtol=1e-12, atol=1e-15)


def test_float32_parameters_are_computed_in_float64_and_kept_in_kind():
    m = torch.tensor([1.0, 2.0]) * 1e-4
    p, q = td.MultivariateNormal(m, torch.eye(2)), td.MultivariateNormal(0 * m, torch.eye(2))
    for function in (dv.kl, dv.chi2, lambda a, b: dv.wasserstein(a, b, order=2), dv.energy_distance):
        wide = function(*(td.MultivariateNormal(law.loc.double(), law.covariance_matrix.double()) for law in (p, q)))
        assert function(p, q).dtype == torch.float32
        assert float(function(p, q)) == pytest.approx(float(wide), rel=1e-7)


def triangular(B):
    return torch.diag_embed(B.diagonal(dim1=-2, dim2=-1).exp()) + B.tril(-1)


def gradient_cases():
    g = torch.Generator().manual_seed(0)

    def draw(*shape):
        return 0.3 * torch.randn(*shape, dtype=DOUBLE, generator=g)

    B = draw(3, 3)
    return {
        "batches": (draw(2, 3), draw(2, 3, 3), draw(3), draw(3, 3)),
        "repeated eigenvalues": (draw(3), 0 * B, draw(3), 0.3 * torch.eye(3, dtype=DOUBLE)),
        "equal covariances": (draw(3), B, draw(3), B.clone()),
        "close": (0.01 * draw(3), B, 0.01 * draw(3), B + 0.01 * draw(3, 3)),
    }


FORMS = {
    "kl": dv.kl,
    "jeffreys": dv.jeffreys,
    "hellinger": dv.squared_hellinger,
    "renyi": lambda p, q: dv.renyi(p, q, 1.2),
    "alpha": lambda p, q: dv.alpha(p, q, -0.2),
    "w2": lambda p, q: dv.wasserstein(p, q, order=2),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", gradient_cases())
def test_first_and_second_derivatives(form, case):
    inputs = [x.clone().requires_grad_() for x in gradient_cases()[case]]

    def value(m, A, n, B):
        laws = (td.MultivariateNormal(mean, scale_tril=triangular(L)) for mean, L in ((m, A), (n, B)))
        return FORMS[form](*laws)

    scale = {"eps": 1e-7, "atol": 1e-4, "rtol": 1e-3} if form == "w2" and case == "close" else {}
    assert torch.autograd.gradcheck(value, inputs, **scale)
    assert torch.autograd.gradgradcheck(value, inputs, **({"atol": 1e-4, "rtol": 1e-2} | scale))


def test_derivatives_of_the_supremum():
    m, A, n, B = gradient_cases()["batches"]
    inputs = [x.requires_grad_() for x in (m, A - torch.eye(3, dtype=DOUBLE), n, B)]

    def value(m, A, n, B):
        laws = (td.MultivariateNormal(mean, scale_tril=triangular(L)) for mean, L in ((m, A), (n, B)))
        return dv.renyi(*laws, math.inf)

    assert bool(value(*inputs).isfinite().all())
    assert torch.autograd.gradcheck(value, inputs)
    assert torch.autograd.gradgradcheck(value, inputs)


def test_the_subgradient_at_equal_laws_is_zero_twice():
    m, B = torch.zeros(3, dtype=DOUBLE, requires_grad=True), gradient_cases()["close"][1].requires_grad_()
    q = td.MultivariateNormal(torch.zeros(3, dtype=DOUBLE), scale_tril=triangular(B.detach()))
    for form in (*FORMS.values(), dv.energy_distance, lambda p, q: dv.mmd(p, q, dv.kernels.Laplace(1.0))):
        value = form(td.MultivariateNormal(m, scale_tril=triangular(B)), q)
        assert value.item() == 0
        gradients = torch.autograd.grad(value, (m, B), create_graph=True)
        assert all(float(g.abs().max()) < 1e-12 for g in gradients)
        again = torch.autograd.grad(sum(g.sum() for g in gradients), (m, B))
        assert all(bool(g.isfinite().all()) for g in again)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_wasserstein_on_the_line_is_a_folded_moment(order):
    for mean, s_p, s_q in ((0.7, 1.3, 0.2), (0.0, 1.0, 3.0), (-50.0, 1.0, 1.1), (2.0, 1.0, 1.0)):
        p, q = one_number("normal", mean, s_p), one_number("normal", 0.0, s_q)
        spread = mp.mpf(s_p) - mp.mpf(s_q)

        def integrand(z, mean=mean, spread=spread):
            return abs(mean + spread * z) ** order * mp.npdf(z)

        zero = [-mp.mpf(mean) / spread] if spread and abs(mean / spread) < 30 else []
        truth = mp.quad(integrand, sorted([-30, -8, 0, 8, 30, *zero])) ** (mp.mpf(1) / order)
        agree(dv.wasserstein(p, q, order=order), truth, 1e-12)


@pytest.mark.parametrize("order", [1, 1.5, 3, 7.5])
def test_a_translation_moves_as_far_as_it_moves(order):
    g = torch.Generator().manual_seed(0)
    shift, L = torch.randn(3, dtype=DOUBLE, generator=g), covariance_factor(3, 10.0, g)
    for p, q in (laws(L, L, shift), [td.Independent(td.Normal(m, L.diagonal()), 1) for m in (shift, 0 * shift)]):
        lengths = {"euclidean": shift.norm(), "cityblock": shift.abs().sum(), "chebyshev": shift.abs().max()}
        for metric, length in lengths.items():
            assert float(dv.wasserstein(p, q, order, metric)) == pytest.approx(float(length), rel=1e-14)
    line = one_number("normal", 0.3, 2.0), one_number("normal", -1.0, 2.0)
    assert float(dv.wasserstein(*line, order=order)) == pytest.approx(1.3, rel=1e-14)


def test_independent_coordinates_in_the_city():
    p, q = (
        td.Independent(td.Normal(torch.tensor(m, dtype=DOUBLE), torch.tensor(s, dtype=DOUBLE)), 1)
        for m, s in (([0.0, 1.0], [1.0, 2.0]), ([1.0, -1.0], [3.0, 2.5]))
    )
    apart = sum(float(dv.wasserstein(one_number("normal", *a), one_number("normal", *b)))
                for a, b in (((0.0, 1.0), (1.0, 3.0)), ((1.0, 2.0), (-1.0, 2.5))))  # fmt: skip
    assert float(dv.wasserstein(p, q, 1, "cityblock")) == pytest.approx(apart, rel=1e-14)


def test_a_point_and_a_gaussian():
    x, g = [1.0, -1.0], torch.Generator().manual_seed(0)
    q = td.MultivariateNormal(torch.zeros(2, dtype=DOUBLE), scale_tril=covariance_factor(2, 5.0, g))
    square = 2 + float(q.covariance_matrix.trace())
    for pair in ((dv.PointMass(x), q), (q, dv.PointMass(x))):
        assert float(dv.wasserstein(*pair, order=2)) == pytest.approx(math.sqrt(square), rel=1e-14)
    standard = td.MultivariateNormal(torch.zeros(3, dtype=DOUBLE), torch.eye(3, dtype=DOUBLE))
    for order in (1, 1.5, 2):  # E‖Z‖^p = 2^{p/2} Γ((3 + p)/2)/Γ(3/2)
        truth = (2 ** (order / 2) * math.gamma((3 + order) / 2) / math.gamma(1.5)) ** (1 / order)
        assert float(dv.wasserstein(dv.PointMass([0.0] * 3), standard, order)) == pytest.approx(truth, rel=1e-13)
    with pytest.raises(ValueError, match="one dimension"):
        dv.wasserstein(dv.PointMass([0.0]), q, order=2)


@pytest.mark.parametrize(("d", "ridge", "n"), [(2, 0.1, 500), (16, 0.1, 500), (16, 0.0, 500), (64, 0.1, 70)])
def test_many_pairs_at_once_are_each_as_alone(d, ridge, n):
    g = torch.Generator().manual_seed(0)
    roots = (torch.randn(n, d, d, dtype=DOUBLE, generator=g) for _ in range(2))
    L_p, L_q = (torch.linalg.cholesky(A @ A.mT / d + ridge * torch.eye(d, dtype=DOUBLE)) for A in roots)
    L_p[:5], L_p[5:10], L_p[10] = L_q[:5], L_q[5:10] * (1 + 1e-9), 1e-150 * L_q[10]
    many = gaussian_transport.squared_bures(L_p, L_q)
    alone = torch.stack([gaussian_transport.squared_bures(*pair) for pair in zip(L_p, L_q, strict=True)])
    torch.testing.assert_close(many, alone, rtol=1e-9, atol=0)
    total, error = nuclear.nuclear_norms(L_p, L_q)
    truth = torch.linalg.svdvals(L_q.mT @ L_p).sum(-1)
    assert bool(((total - truth).abs() <= error + 1e-14 * truth).all())
    if ridge:
        assert float((error < 1e-9 * truth)[11:].double().mean()) > 0.95


@pytest.mark.parametrize(
    ("p", "q", "message"),
    [
        (td.Normal(torch.zeros(3), 1.0), td.Normal(torch.zeros(2), 1.0), r"batch shapes .* got \(3,\) and \(2,\)"),
        (td.Independent(td.Normal(torch.zeros(2, 3), 1.0), 2), td.MultivariateNormal(torch.zeros(6), torch.eye(6)),
         r"event shape: got \(2, 3\) and \(6,\)"),
        (td.Normal(torch.zeros(2), 1.0), td.MultivariateNormal(torch.zeros(2), torch.eye(2)), r"got \(\) and \(2,\)"),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_one_line(p, q, message):
    for function in (dv.kl, dv.chi2, lambda a, b: dv.wasserstein(a, b, order=2)):
        with pytest.raises(ValueError, match=message) as caught:
            function(p, q)
        assert "\n" not in str(caught.value)
