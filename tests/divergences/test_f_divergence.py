"""Every row obeys the laws of an f-divergence; expected values come from brute force or from printed formulas."""

import copy
import math
import pickle
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import divergences as dv
from divergences._spec import from_spec, to_spec
from tests.cases import INF, LOG2, MORE, ROWS

ALL = [*ROWS.items(), *MORE]
IDS = [name + "".join(f"-{value}" for value in parameters.values()) for name, parameters in ALL]
EVERY = [dv.get(name, **parameters) for name, parameters in ALL]
USER = dv.FDivergence.from_f(lambda u: u * u.log() - u + 1, name="mine")
REVERSED = dv.HockeyStick(2.0).reversed()
WITH_MORE = [*EVERY, USER, REVERSED, dv.SkewKL(0.3).reversed()]
MORE_IDS = [*IDS, "from_f", "reversed-hockey_stick", "reversed-skew_kl"]

rows = pytest.mark.parametrize("d", WITH_MORE, ids=MORE_IDS)
V = torch.linspace(-6, 6, 49, dtype=torch.float64)
R = torch.logspace(-3, 3, 61, dtype=torch.float64)
U = torch.cat([torch.tensor([0, 0.5, 2], dtype=torch.float64), torch.logspace(-9, 9, 200_001, dtype=torch.float64)])


def kinked(d):
    return d._log_ratio is None


def inside(d):
    """Points of f*'s domain."""
    low, high = d.activation(-4.0), d.activation(4.0)
    return torch.linspace(low, high, 23, dtype=torch.float64)


def test_names_come_in_the_order_of_the_table():
    assert dv.names()[: len(ROWS)] == tuple(ROWS)


@rows
def test_fenchel_young_holds_with_equality_at_the_optimal_critic(d):
    T = d.optimal_critic(R)
    torch.testing.assert_close(d.conjugate(T), R * T - d.f(R), rtol=1e-9, atol=1e-8)


@rows
def test_fenchel_young_is_an_inequality_elsewhere(d):
    t = inside(d)[:, None]
    assert bool((d.conjugate(t) + d.f(R) - R * t > -1e-9 * (1 + R)).all())


@rows
def test_conjugate_is_the_supremum_over_non_negative_u(d):
    t = inside(d)
    brute = (U * t[:, None] - d.f(U)).amax(1)
    torch.testing.assert_close(d.conjugate(t), brute, rtol=1e-6, atol=1e-6)


@rows
def test_conjugate_far_below_is_minus_f_at_zero(d):
    t = torch.tensor(-1e6, dtype=torch.float64)
    brute = (U * t - d.f(U)).amax()
    assert d.conjugate(t).item() == pytest.approx(brute.item(), rel=1e-3, abs=1e-6)


@rows
def test_conjugate_is_infinite_above_its_domain(d):
    high = d.conjugate_domain[1]
    if math.isfinite(high):
        assert d.conjugate(high + 1e-3) == INF


@rows
def test_composition_is_conjugate_of_activation(d):
    torch.testing.assert_close(
        d.conjugate_of_activation(V), d.extended_conjugate(d.activation(V)), rtol=1e-8, atol=1e-8
    )


@rows
def test_activation_is_increasing_and_inside_the_domain(d):
    T = d.activation(torch.linspace(-40, 40, 801, dtype=torch.float64))
    assert bool((T.diff() >= -1e-14).all())
    assert bool((T <= d.conjugate_domain[1] + 1e-12).all())
    assert bool((d.activation(V).diff() > 0).all()) or d is REVERSED


@pytest.mark.parametrize("d", EVERY, ids=IDS)
def test_single_precision_is_finite_far_out(d):
    v = torch.tensor([-40.0, -20.0, 0.0, 20.0, 40.0])
    for function in (d.activation, d.conjugate_of_activation):
        exact = function(v.double())
        representable = exact.abs() < 3e38
        value = function(v)
        assert bool(value.isfinite()[representable].all())
        torch.testing.assert_close(value.double()[representable], exact[representable], rtol=2e-5, atol=1e-6)
        held = v[representable].requires_grad_()
        (gradient,) = torch.autograd.grad(function(held).sum(), held)
        assert bool(gradient.isfinite().all())


@rows
def test_derivative_is_the_gradient_of_f(d):
    u = R[R != 1].clone().requires_grad_()
    u = u[(u != 2).detach() & (u != 0.5).detach()]
    (gradient,) = torch.autograd.grad(d.f(u).sum(), u)
    torch.testing.assert_close(d.derivative(u.detach()), gradient, rtol=1e-8, atol=1e-8)


@rows
def test_optimal_critic_is_the_derivative(d):
    assert torch.equal(d.optimal_critic(R), d.derivative(R))


@rows
def test_log_ratio_inverts_the_activation(d):
    if kinked(d):
        with pytest.raises(ValueError, match="does not determine"):
            d.log_ratio(1.0)
        return
    if d.name == "kl":
        v = 1 + R.log()
    elif d.name == "pearson_chi2":
        v = 2 * (R - 1)
    else:  # by bisection of g(v) = T*
        low, high = torch.full_like(R, -30), torch.full_like(R, 30)
        for _ in range(100):
            middle = (low + high) / 2
            less = d.activation(middle) < d.optimal_critic(R)
            low, high = torch.where(less, middle, low), torch.where(less, high, middle)
        v = (low + high) / 2
    torch.testing.assert_close(d.log_ratio(v), R.log(), rtol=1e-5, atol=1e-5)


@rows
def test_reversal_is_u_f_of_its_inverse_and_an_involution(d):
    # A multiple of u − 1 changes no divergence: the symmetric hockey-stick, (u − 1)₊, is its own reversal up to one.
    c = 1.0 if d == dv.HockeyStick(1.0) else 0.0
    torch.testing.assert_close(d.reversed().f(R), R * d.f(1 / R) + c * (R - 1), rtol=1e-9, atol=1e-9)
    assert d.reversed().reversed() == d
    slope = d.f(1 / R) - d.derivative(1 / R) / R + c
    torch.testing.assert_close(d.reversed().derivative(R), slope, rtol=1e-6, atol=1e-7)


@rows
def test_f_has_its_limits(d):
    assert d.f(0.0) == d.f_at_zero
    assert d.f_at_zero == pytest.approx(d.f(1e-300), abs=1e-6) or d.f(1e-300) > 100 and d.f_at_zero == INF
    assert d.upper_bound == d.f_at_zero + d.slope_at_infinity
    assert d.f(-1.0) == INF
    far = d.f(1e12) / 1e12
    assert far == pytest.approx(d.slope_at_infinity, abs=1e-3) or d.slope_at_infinity == INF and far > 10
    assert math.isinf(d.f(INF)) or d is REVERSED


@rows
def test_f_of_one_is_zero_but_for_the_shifted_game(d):
    assert d.f(1.0) == pytest.approx(-math.log(4) if d.name == "gan" else 0.0, abs=1e-15)


@rows
def test_same_kind_out_as_in(d):
    assert isinstance(d.f(2.0), float)
    assert isinstance(d.f(2), float)
    assert isinstance(d.conjugate(np.asarray([-0.5, -0.2])), np.ndarray)
    single = d.activation(torch.ones(2, 3))
    assert single.dtype == torch.float32
    assert single.shape == (2, 3)


@pytest.mark.parametrize("d", [*EVERY, REVERSED], ids=[*IDS, "reversed"])
def test_written_down_and_rebuilt(d):
    for twin in (from_spec(to_spec(d)), copy.deepcopy(d), pickle.loads(pickle.dumps(d))):
        assert twin == d
        assert hash(twin) == hash(d)
        assert repr(twin) == repr(d)


def test_repr_is_the_call():
    assert repr(dv.KL()) == "KL()"
    assert repr(dv.get("alpha", alpha=2.0)) == "Alpha(alpha=2.0)"
    assert dv.KL() != dv.ReverseKL()
    assert dv.Alpha(1.0) != dv.Alpha(2.0)


def test_alias_and_errors():
    assert dv.get("chi2") == dv.PearsonChi2()
    with pytest.raises(ValueError, match="unknown divergence 'reverse-kl': choose from reverse_kl"):
        dv.get("reverse-kl")
    with pytest.raises(TypeError, match="alpha"):
        dv.get("alpha")
    for bad in (lambda: dv.HockeyStick(-1.0), lambda: dv.SkewKL(0.0), lambda: dv.SkewJensenShannon(1.0)):
        with pytest.raises(ValueError, match="must"):
            bad()


@pytest.mark.parametrize(
    ("name", "f", "t"),
    [  # printed closed forms, over u >= 0
        ("kl", lambda t: math.exp(t - 1), (-3.0, 0.0, 2.0)),
        ("reverse_kl", lambda t: -1 - math.log(-t), (-3.0, -0.1)),
        ("js", lambda t: -0.5 * math.log(2 - math.exp(2 * t)), (-3.0, 0.1, 0.34)),
        ("pearson_chi2", lambda t: t * t / 4 + t if t >= -2 else -1.0, (-5.0, -2.0, -1.0, 3.0)),
        ("squared_hellinger", lambda t: t / (1 - t), (-5.0, 0.5)),
        ("neyman_chi2", lambda t: 2 - 2 * math.sqrt(1 - t), (-5.0, 0.5, 1.0)),
        ("total_variation", lambda t: max(t, -0.5), (-2.0, -0.3, 0.5)),
        ("le_cam", lambda t: -1.0 if t < -3 else 4 - t - 4 * math.sqrt(1 - t), (-9.0, -3.0, 0.0, 0.9)),
        ("gan", lambda t: -math.log(1 - math.exp(t)), (-3.0, -0.1)),
    ],
)
def test_conjugates_as_printed(name, f, t):
    for point in t:
        assert dv.get(name).conjugate(point) == pytest.approx(f(point), rel=1e-12, abs=1e-12)


def test_pearson_trains_with_the_extended_conjugate():
    d = dv.PearsonChi2()
    assert d.conjugate(-4.0) == -1.0
    assert d.extended_conjugate(-4.0) == 0.0 == d.conjugate_of_activation(-4.0)


def test_alpha_beyond_one_is_constant_below_its_kink():
    assert dv.Alpha(3.0).conjugate(-0.7) == pytest.approx(-1 / 3)


def test_jeffreys_conjugate_solves_wright_omega():
    from scipy.special import wrightomega

    for t in (-700.0, -3.0, 0.0, 1.0, 5.0, 50.0):
        W = wrightomega(1 - t).real
        assert dv.Jeffreys().conjugate(t) == pytest.approx(1 / W + W + t - 2, rel=1e-12)


def test_the_oracle_critic_attains_the_exact_value():
    p = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    q = torch.tensor([0.4, 0.1, 0.25, 0.25], dtype=torch.float64)
    for d in WITH_MORE:
        T = d.optimal_critic(p / q)
        attained = (p * T).sum() - (q * d.conjugate(T)).sum()
        torch.testing.assert_close(attained, d(p, q), rtol=1e-9, atol=1e-10)


@st.composite
def pairs_with_zeros(draw):
    """Two probability vectors of one length, zeros included."""
    n = draw(st.integers(2, 8))
    entries = st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1.0)), min_size=n, max_size=n).filter(any)
    return tuple(torch.tensor(draw(entries), dtype=torch.float64) for _ in range(2))


@given(pairs_with_zeros())
@settings(deadline=None)
def test_gan_value_at_its_optimal_discriminator(pair):
    """E_P log D* + E_Q log(1 − D*) at D* = p/(p + q) is −log 4 + 2·JSD, for disjoint supports as well."""
    p, q = (v / v.sum() for v in pair)
    D = torch.where(p + q > 0, p / (p + q).clamp(min=1e-300), 0.5)
    value = torch.xlogy(p, D).sum() + torch.xlogy(q, 1 - D).sum()
    torch.testing.assert_close(value, -math.log(4) + 2 * dv.js(p, q), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(value, dv.GAN()(p, q), rtol=1e-9, atol=1e-12)


WRITTEN = {  # as a user would write them, and the row that each repeats
    "kl": (lambda u: u * u.log(), dv.KL()),
    "reverse_kl": (lambda u: -(u.log()), dv.ReverseKL()),
    "pearson_chi2": (lambda u: (u - 1) ** 2, dv.PearsonChi2()),
    "neyman_chi2": (lambda u: (u - 1) ** 2 / u, dv.NeymanChi2()),
    "squared_hellinger": (lambda u: (u.sqrt() - 1) ** 2, dv.SquaredHellinger()),
    "js": (lambda u: 0.5 * (u * u.log() - (1 + u) * ((1 + u) / 2).log()), dv.JensenShannon()),
    "jeffreys": (lambda u: (u - 1) * u.log(), dv.Jeffreys()),
    "le_cam": (lambda u: (u - 1) ** 2 / (u + 1), dv.LeCam()),
    "alpha 3": (lambda u: (u**3 - 3 * u + 2) / 6, dv.Alpha(3.0)),
    "alpha 0.3": (lambda u: (u**0.3 - 0.3 * u - 0.7) / -0.21, dv.Alpha(0.3)),
    "alpha -1.5": (lambda u: (u**-1.5 + 1.5 * u - 2.5) / 3.75, dv.Alpha(-1.5)),
    "skew_js": (lambda u: 0.3 * u * u.log() - (0.3 * u + 0.7) * (0.3 * u + 0.7).log(), dv.SkewJensenShannon(0.3)),
    "skew_kl": (lambda u: u * (u / (0.7 * u + 0.3)).log(), dv.SkewKL(0.3)),
    "total_variation": (lambda u: (u - 1).abs() / 2, dv.TotalVariation()),
    "hockey_stick 2": (lambda u: (u - 2).clamp(min=0), dv.HockeyStick(2.0)),
    "hockey_stick 0.5": (lambda u: (u - 0.5).clamp(min=0) - 0.5, dv.HockeyStick(0.5)),
}
MADE = {name: (dv.FDivergence.from_f(f, name=name), row) for name, (f, row) in WRITTEN.items()}
SMOOTH = {name: pair for name, pair in MADE.items() if not kinked(pair[1])}
written = pytest.mark.parametrize(("mine", "row"), MADE.values(), ids=MADE)
smooth = pytest.mark.parametrize(("mine", "row"), SMOOTH.values(), ids=SMOOTH)
OTHERS = {
    "a kink in a curve": lambda u: u * u.log() + (u - 1).abs(),
    "two kinks": lambda u: (u - 1).abs() + (u - 3).clamp(min=0),
    "two lines and a parabola": lambda u: torch.where((u - 1).abs() < 0.5, (u - 1) ** 2, (u - 1).abs() - 0.25),
    "an exponential": lambda u: u.exp() - math.e,
    "a hyperbola": lambda u: (1 + (u - 1) ** 2).sqrt() - 1,
    "bounded slopes and a kink": lambda u: (u - 1) ** 2 / (u + 1) + (u - 2).clamp(min=0),
}


class TestUserDefined:
    @written
    def test_the_conjugate_is_exact_up_to_the_ends_of_its_domain(self, mine, row):
        x = torch.linspace(-30, 14, 89, dtype=torch.float64)
        t = torch.linspace(-3, row.conjugate_domain[1], 57).double() if kinked(row) else row._slopes(x)[0]
        t = t[(t - row._slope_at_one).abs() > 1e-3]  # next to f'(1), f* is f itself: f(1) is 0 but for its rounding
        u = x.exp().max() if math.isfinite(row.slope_at_infinity) else 1.0
        rounding = 4e-16 * float(t.abs().max() * u) if not kinked(row) else 0.0  # the next number has f* larger by that
        torch.testing.assert_close(mine.conjugate(t), row.conjugate(t), rtol=1e-8, atol=min(rounding, 1e-9) + 1e-12)
        assert mine.conjugate(t.float()).dtype == torch.float32

    @written
    def test_its_limits_and_slopes(self, mine, row):
        assert (mine.f_at_zero, mine.slope_at_infinity) == pytest.approx((row.f_at_zero, row.slope_at_infinity))
        torch.testing.assert_close(mine.f(R), row.f(R), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(mine.derivative(R), row.derivative(R), rtol=1e-9, atol=1e-12)
        assert mine.f(0.0) == mine.f_at_zero
        assert mine.f(-1.0) == INF

    @written
    def test_its_exact_value_on_vectors_with_zeros(self, mine, row):
        p, q = torch.tensor([[0.0, 0.2, 0.8], [0.5, 0.5, 0.0]]), torch.tensor([[0.5, 0.3, 0.2], [0.4, 0.2, 0.4]])
        for a, b in ((p, q), (q, p), (p, p), (p.double(), q.double())):
            torch.testing.assert_close(mine(a, b), row(a, b), rtol=1e-5, atol=1e-6)
        assert mine(p, q).dtype == torch.float32
        assert mine.reversed()([0.1, 0.9], [0.4, 0.6]) == pytest.approx(row([0.4, 0.6], [0.1, 0.9]), rel=1e-6)

    @written
    def test_its_activation_is_valid_and_composes(self, mine, row):
        v = torch.linspace(-40, 40, 161, dtype=torch.float64)
        T = mine.activation(v)
        assert bool((T.diff() >= -1e-15).all())
        assert bool((mine.activation(v[60:101]).diff() > 0).all())
        assert bool((T <= row.conjugate_domain[1]).all())
        composed = mine.conjugate_of_activation(v)
        assert bool(composed.isfinite().all())
        near = v.abs() <= 12
        torch.testing.assert_close(composed[near], row.conjugate(T[near]), rtol=1e-8, atol=1e-9)
        assert bool(mine.conjugate_of_activation(v.float()).isfinite()[composed < 3e38].all())
        if kinked(row):
            with pytest.raises(ValueError, match="does not determine"):
                mine.log_ratio(v)
        else:
            torch.testing.assert_close(mine.derivative(mine.log_ratio(v[near]).exp()), T[near], rtol=1e-8, atol=1e-9)

    @smooth
    def test_gradients_of_the_conjugate_are_the_maximiser_and_one_over_the_curvature(self, mine, row):
        t = row._slopes(torch.linspace(-3, 3, 12, dtype=torch.float64))[0].requires_grad_()
        (u,) = torch.autograd.grad(mine.conjugate(t).sum(), t, create_graph=True)
        torch.testing.assert_close(row.derivative(u.detach()), t.detach(), rtol=1e-9, atol=1e-10)
        (second,) = torch.autograd.grad(u.sum(), t)
        at = u.detach().requires_grad_()
        (curvature,) = torch.autograd.grad(row.derivative(at).sum(), at)
        torch.testing.assert_close(second, 1 / curvature, rtol=1e-7, atol=1e-9)

    @written
    def test_gradients_flow_twice(self, mine, row):
        v = torch.tensor([[0.3, -0.2], [1.1, -2.0]], dtype=torch.float64, requires_grad=True)
        t = mine.activation(v.detach()).requires_grad_()
        for function, point in ((mine.activation, v), (mine.conjugate_of_activation, v), (mine.conjugate, t)):
            assert torch.autograd.gradcheck(function, point, atol=1e-4)
            assert torch.autograd.gradgradcheck(function, point, atol=1e-4)

    @smooth
    def test_gradients_of_its_exact_value(self, mine, row):
        logits = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
        q = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
        for d in (mine, row):
            assert torch.autograd.gradgradcheck(lambda x, d=d: d(x.softmax(-1), q), logits)
        ours, theirs = (torch.autograd.grad(d(logits.softmax(-1), q), logits)[0] for d in (mine, row))
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)

    @pytest.mark.parametrize("name", OTHERS)
    def test_conjugate_and_activation_of_any_other(self, name):
        f = OTHERS[name]
        mine = dv.FDivergence.from_f(f)
        u = torch.cat([torch.logspace(-12, 12, 240_001), torch.linspace(1e-3, 5, 50_001)]).double()
        v = torch.linspace(-8, 8, 33, dtype=torch.float64)
        T = mine.activation(v)
        assert bool((T.diff() > 0).all()) or name == "an exponential"
        brute = (u * T[:, None] - f(u)).amax(1)
        composed = mine.conjugate_of_activation(v)
        few = composed.abs() < 1e6
        torch.testing.assert_close(composed[few], brute[few], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(mine.conjugate(T), composed, rtol=1e-8, atol=1e-9)
        assert bool((mine.conjugate(T) + 1e-9 >= brute - 1e-9 * brute.abs()).all())

    @pytest.mark.parametrize(
        ("f", "zero", "infinity"),
        [
            (lambda u: (u**0.99 - 0.99 * u - 0.01) / -0.0099, 1 / 0.99, 100.0),
            (lambda u: (u**0.9999 - 0.9999 * u - 0.0001) / (0.9999 * -0.0001), 1 / 0.9999, 1e4),
            (lambda u: (u**0.001 - 0.001 * u - 0.999) / (0.001 * -0.999), 1000.0, 1 / 0.999),
            (lambda u: u * torch.log1p(torch.log1p(u)) - math.log1p(LOG2), -math.log1p(LOG2), INF),
            (lambda u: u * torch.log1p(u).sqrt() - math.sqrt(LOG2), -math.sqrt(LOG2), INF),
            (lambda u: (1 + u**2).sqrt() - math.sqrt(2), 1 - math.sqrt(2), 1.0),
            (lambda u: torch.cosh(u) - math.cosh(1), 1 - math.cosh(1), INF),
            (lambda u: 2 - 2 * u.sqrt(), 2.0, 0.0),
            (lambda u: 1 / u - 1, INF, 0.0),
        ],
    )
    def test_limits_that_are_approached_slowly_or_not_at_all(self, f, zero, infinity):
        mine = dv.FDivergence.from_f(f)
        assert (mine.f_at_zero, mine.slope_at_infinity) == pytest.approx((zero, infinity), rel=1e-9, abs=1e-14)

    def test_kinks_have_an_exact_conjugate(self):
        mine = dv.FDivergence.from_f(lambda u: (u - 1).abs() / 2)
        t = torch.linspace(-2, 0.5, 26, dtype=torch.float64)
        torch.testing.assert_close(mine.conjugate(t), t.clamp(min=-0.5), rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize(
        ("f", "low", "high"),
        [  # a local defect, and where the witness must lie
            (lambda u: u.log(), 0.0, INF),
            (lambda u: torch.sin(u - 1), 0.0, INF),
            (lambda u: (u - 1) ** 2 + 0.01 * torch.sin(20 * (u - 1)), 0.0, INF),
            (lambda u: (u - 1) ** 2 - 1e-4 * torch.exp(-(((u - 3) / 1e-3) ** 2)), 2.9, 3.1),
            (lambda u: (u - 1) ** 2 - 0.01 * (u - 5).abs() + 0.04, 4.99, 5.01),
            (lambda u: torch.where(u < 100, (u - 1) ** 2, 9801 + 198 * (u - 100) - 1e-3 * (u - 100) ** 2), 100.0, INF),
            (lambda u: torch.where(u < 100, (u - 1) ** 2, 9801 + 197 * (u - 100)), 99.0, 101.0),
            (lambda u: (u - 1) ** 2 - torch.where(u < 1e-3, 10 * (u - 1e-3) ** 2, 0 * u), 0.0, 1.001e-3),
            (lambda u: (u - 1) ** 2 + (u > 2).double(), 1.99, 2.01),
        ],
    )
    def test_refuses_what_is_not_convex_with_three_points_that_show_it(self, f, low, high):
        with pytest.raises(ValueError, match=r"mine: f must be convex: at u = ") as raised:
            dv.FDivergence.from_f(f, name="mine")
        at, value, a, b, chord = (float(x) for x in re.findall(r"[-\d.]+(?:e[-+]\d+)?(?=[, ]|$)", str(raised.value)))
        assert low <= a < at < b <= high
        assert f(torch.tensor(at).double()).item() == pytest.approx(value, rel=1e-6)
        assert value > chord
        weight = (at - a) / (b - a)
        ends = [f(torch.tensor(end).double()).item() for end in (a, b)]
        assert chord == pytest.approx((1 - weight) * ends[0] + weight * ends[1], rel=1e-4)

    @pytest.mark.parametrize(
        ("f", "error", "message"),
        [
            (lambda u: u**2, ValueError, r"mine: f\(1\) must be 0: got f\(1\) = 1"),
            (lambda u: torch.where(u > 3, INF, (u - 1) ** 2), ValueError, r"finite for u > 0: got f\(3\.0\d*\) = inf"),
            (lambda u: (u * u.log()).sum(), ValueError, r"elementwise: got shape \(\) from shape \(2, 3\)"),
            (lambda u: (u - 1) * u.mean(), ValueError, r"elementwise: at u = .* alone, .* among others"),
            (lambda u: ((u - 1) ** 2).detach(), TypeError, "torch operations: got a result without a gradient"),
            (lambda u: torch.from_numpy((u.detach().numpy() - 1) ** 2), TypeError, "without a gradient"),
            (lambda u: ((u - 1) ** 2).float(), TypeError, "dtype: got torch.float32 from torch.float64"),
            (lambda u: 1.0, TypeError, "must return a tensor: got float"),
            (3, TypeError, "must be a function of a tensor: got int"),
        ],
    )
    def test_refuses_what_is_no_generator(self, f, error, message):
        with pytest.raises(error, match=message):
            dv.FDivergence.from_f(f, name="mine")


@settings(max_examples=60, deadline=None)
@given(st.floats(-30, 30))
def test_the_gradient_of_the_conjugate_is_the_maximiser(t):
    slope = torch.tensor(t, dtype=torch.float64, requires_grad=True)
    (u,) = torch.autograd.grad(dv.Jeffreys().conjugate(slope), slope)
    assert dv.Jeffreys().derivative(u).item() == pytest.approx(t, rel=1e-8, abs=1e-8)


def test_bounds_of_the_bounded():
    for name, bound in {"js": LOG2, "total_variation": 1.0, "squared_hellinger": 2.0, "le_cam": 2.0}.items():
        assert dv.get(name).upper_bound == pytest.approx(bound)
        assert dv.get(name)([1.0, 0.0], [0.0, 1.0]) == pytest.approx(bound)
    assert dv.HockeyStick(0.5).upper_bound == 0.5
    assert dv.SkewJensenShannon(0.3).upper_bound == pytest.approx(-0.3 * math.log(0.3) - 0.7 * math.log(0.7))
