"""Every row obeys the laws of an f-divergence; expected values come from brute force or from printed formulas."""

import copy
import math
import pickle

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
    assert dv.names() == tuple(ROWS)


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
    torch.testing.assert_close(d.reversed().f(R), R * d.f(1 / R), rtol=1e-9, atol=1e-9)
    assert d.reversed().reversed() == d
    torch.testing.assert_close(d.reversed().derivative(R), d.f(1 / R) - d.derivative(1 / R) / R, rtol=1e-6, atol=1e-7)


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


class TestUserDefined:
    def test_agrees_with_the_row_it_repeats(self):
        mine = dv.FDivergence.from_f(lambda u: (u.sqrt() - 1) ** 2, name="mine")
        row, t = dv.SquaredHellinger(), torch.linspace(-4, 0.9, 20, dtype=torch.float64)
        torch.testing.assert_close(mine.conjugate(t), row.conjugate(t), rtol=1e-9, atol=1e-9)
        assert (mine.name, mine.f_at_zero) == ("mine", 1.0)
        assert mine.slope_at_infinity == pytest.approx(1.0)
        assert mine([0.5, 0.5], [0.1, 0.9]) == pytest.approx(row([0.5, 0.5], [0.1, 0.9]))

    def test_kinks_have_an_exact_conjugate(self):
        mine = dv.FDivergence.from_f(lambda u: (u - 1).abs() / 2)
        t = torch.linspace(-2, 0.5, 26, dtype=torch.float64)
        torch.testing.assert_close(mine.conjugate(t), t.clamp(min=-0.5), rtol=1e-9, atol=1e-9)

    def test_a_gradient_flows_twice(self):
        mine = dv.FDivergence.from_f(lambda u: u * u.log())
        v = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradgradcheck(lambda x: mine.conjugate_of_activation(x), v)

    @pytest.mark.parametrize(
        ("f", "message"),
        [
            (lambda u: u.log(), r"mine: f must be convex: at u = "),
            (lambda u: u**2, r"mine: f\(1\) must be 0: got f\(1\) = 1"),
            (lambda u: torch.sin(u - 1), r"mine: f must be convex: at u = "),
        ],
    )
    def test_refuses_what_is_no_generator(self, f, message):
        with pytest.raises(ValueError, match=message):
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
