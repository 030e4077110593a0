"""Every row against its printed formulas in many digits: at the ends of floating point and next to P = Q.

The formulas are typed here in mpmath, apart from the code: f, T* = f', f* over u ≥ 0, g, f*∘g and the log-ratio.
"""

import math
from dataclasses import dataclass
from typing import Any

import mpmath as mp
import numpy as np
import pytest
import torch

import divergences as dv
from divergences import blocks

INF = math.inf
exp, log, sqrt, tanh = mp.exp, mp.log, mp.sqrt, mp.tanh
SMALL, LARGE = [0.0, 1e-310, 1e-300, 1e-150, 1e-30, 1e-8, 0.01, 0.3], [3.0, 50.0, 1e8, 1e30, 1e150, 1e300]
RATIOS = [*SMALL, *(1 + s * 10.0**-k for k in (1, 2, 4, 8, 12) for s in (-1, 1)), 1.0, *LARGE]
V = [s * v for v in (0.0, 1e-12, 1e-6, 0.01, 0.3, 1.0, 5.0, 20.0, 20.5, 40.0, 200.0) for s in (1, -1)]


@dataclass(frozen=True)
class Row:
    """The printed formulas of one row; ``star`` is f* inside its domain, ``v`` takes log r to the critic's value."""

    d: Any
    f: Any
    slope: Any
    star: Any
    g: Any
    star_of_g: Any
    v: Any = lambda x: x
    domain: float = INF
    ends: tuple[float, float] = (0.0, INF)  # f(0) and f'(∞)
    kinks: tuple[float, ...] = ()

    @property
    def id(self):
        return repr(self.d)

    def divergence(self, p, q):
        """D of two lists of floats, from the definition."""
        total = mp.mpf(0)
        for a, b in zip(p, q, strict=True):
            a, b = mp.mpf(a), mp.mpf(b)
            if b == 0:
                total += a * self.ends[1] if a else 0
            elif a == 0:
                total += b * self.ends[0]
            else:
                total += b * self.f(a / b)
        return total - (self.slope(mp.mpf(1)) * (mp.fsum(p) - mp.fsum(q)))  # 0 for exact probabilities


def xlogx(u):
    return u * log(u) if u else mp.mpf(0)


def sigmoid(v):
    return 1 / (1 + exp(-v))


def alpha_row(a):
    def f(u):
        return (u**a - a * u - (1 - a)) / (a * (a - 1)) if u or a > 0 else mp.inf

    def star(t):
        base = 1 + (a - 1) * t
        return (base ** (a / (a - 1)) - 1) / a if base > 0 else -1 / a

    a = mp.mpf(a)
    return Row(
        dv.Alpha(float(a)), f, lambda u: (u ** (a - 1) - 1) / (a - 1) if u or a > 1 else -mp.inf, star,
        lambda v: (exp((a - 1) * v) - 1) / (a - 1), lambda v: (exp(a * v) - 1) / a,
        domain=float(1 / (1 - a)) if a < 1 else INF,
        ends=(float(1 / a) if a > 0 else INF, float(1 / (1 - a)) if a < 1 else INF),
    )  # fmt: skip


def hockey_row(c):
    g, rest = mp.mpf(c), max(1 - mp.mpf(c), 0)
    return Row(
        dv.HockeyStick(c), lambda u: max(u - g, 0) - rest, lambda u: (mp.sign(u - g) + 1) / 2,
        lambda t: g * max(t, 0) + rest, sigmoid, lambda v: g * sigmoid(v) + rest,
        domain=1.0, ends=(float(-rest), 1.0), kinks=(c,),
    )  # fmt: skip


def skew_js_row(weight):
    w = mp.mpf(weight)

    def m(u):
        return w * u + 1 - w

    return Row(
        dv.SkewJensenShannon(weight), lambda u: w * xlogx(u) - xlogx(m(u)),
        lambda u: w * log(u / m(u)) if u else -mp.inf,
        lambda t: (1 - w) * log((1 - w) / (1 - w * exp(t / w))),
        lambda v: w * log(exp(v) / m(exp(v))), lambda v: (1 - w) * log(m(exp(v))),
        domain=float(-w * log(w)), ends=(float(-(1 - w) * log(1 - w)), float(-w * log(w))),
    )  # fmt: skip


def skew_kl_row(weight):
    w = mp.mpf(weight)

    def m(u):
        return (1 - w) * u + w

    return Row(
        dv.SkewKL(weight), lambda u: u * log(u / m(u)) if u else mp.mpf(0),
        lambda u: log(u / m(u)) + w / m(u) if u else -mp.inf,
        lambda t: (-w * mp.lambertw(-(1 - w) * exp(t - 1)).real / (1 - w)) if weight < 1 else exp(t - 1),
        lambda v: log(exp(v) / m(exp(v))) + w / m(exp(v)), lambda v: w * exp(v) / m(exp(v)),
        domain=float(-log(1 - w)) if weight < 1 else INF, ends=(0.0, float(-log(1 - w)) if weight < 1 else INF),
    )  # fmt: skip


def jeffreys_star(t):
    W = mp.lambertw(exp(1 - t)).real if t > -1000 else None
    if W is None:  # W + log W = 1 − t
        W = mp.findroot(lambda x: x + log(x) - 1 + t, 1 - t)
    return 1 / W + W + t - 2


def under(u, value, at_zero):
    return value(u) if u else at_zero


def table():
    return [
        Row(dv.KL(), xlogx, lambda u: 1 + log(u) if u else -mp.inf, lambda t: exp(t - 1), lambda v: v,
            lambda v: exp(v - 1), v=lambda x: 1 + x),
        Row(dv.ReverseKL(), lambda u: -log(u) if u else mp.inf, lambda u: -1 / u if u else -mp.inf,
            lambda t: -1 - log(-t), lambda v: -exp(-v), lambda v: v - 1, domain=0.0, ends=(INF, 0.0)),
        Row(dv.JensenShannon(), lambda u: (xlogx(u) - (1 + u) * log((1 + u) / 2)) / 2,
            lambda u: log(2 * u / (1 + u)) / 2 if u else -mp.inf, lambda t: -log(2 - exp(2 * t)) / 2,
            lambda v: (log(2) - log(1 + exp(-v))) / 2, lambda v: (log(1 + exp(v)) - log(2)) / 2,
            domain=math.log(2) / 2, ends=(math.log(2) / 2, math.log(2) / 2)),
        Row(dv.Jeffreys(), lambda u: (u - 1) * log(u) if u else mp.inf, lambda u: 1 + log(u) - 1 / u if u else -mp.inf,
            jeffreys_star, lambda v: 1 + v - exp(-v), lambda v: v + exp(v) - 1, ends=(INF, INF)),
        Row(dv.TotalVariation(), lambda u: abs(u - 1) / 2, lambda u: mp.sign(u - 1) / 2, lambda t: max(t, mp.mpf(-0.5)),
            lambda v: tanh(v / 2) / 2, lambda v: sigmoid(v) - mp.mpf(0.5), domain=0.5, ends=(0.5, 0.5), kinks=(1.0,)),
        Row(dv.SquaredHellinger(), lambda u: (sqrt(u) - 1) ** 2, lambda u: 1 - 1 / sqrt(u) if u else -mp.inf,
            lambda t: t / (1 - t), lambda v: 1 - exp(-v), lambda v: exp(v) - 1, v=lambda x: x / 2, domain=1.0,
            ends=(1.0, 1.0)),
        Row(dv.PearsonChi2(), lambda u: (u - 1) ** 2, lambda u: 2 * (u - 1),
            lambda t: t * t / 4 + t if t >= -2 else mp.mpf(-1), lambda v: v, lambda v: v * v / 4 + v,
            v=lambda x: 2 * (exp(x) - 1), ends=(1.0, INF)),
        Row(dv.NeymanChi2(), lambda u: (u - 1) ** 2 / u if u else mp.inf, lambda u: 1 - u**-2 if u else -mp.inf,
            lambda t: 2 - 2 * sqrt(1 - t), lambda v: 1 - exp(-v), lambda v: 2 - 2 * exp(-v / 2), v=lambda x: 2 * x,
            domain=1.0, ends=(INF, 1.0)),
        Row(dv.LeCam(), lambda u: (u - 1) ** 2 / (u + 1), lambda u: 1 - 4 / (1 + u) ** 2,
            lambda t: 4 - t - 4 * sqrt(1 - t) if t >= -3 else mp.mpf(-1),
            lambda v: tanh(v / 2) * (2 - tanh(v / 2)), lambda v: tanh(v / 2) * (2 + tanh(v / 2)), domain=1.0,
            ends=(1.0, 1.0)),
        Row(dv.Alpha(1.0), lambda u: xlogx(u) - u + 1, lambda u: log(u) if u else -mp.inf, lambda t: exp(t) - 1,
            lambda v: v, lambda v: exp(v) - 1, ends=(1.0, INF)),
        Row(dv.Alpha(0.0), lambda u: u - 1 - log(u) if u else mp.inf, lambda u: 1 - 1 / u if u else -mp.inf,
            lambda t: -log(1 - t), lambda v: 1 - exp(-v), lambda v: v, domain=1.0, ends=(INF, 1.0)),
        *(alpha_row(a) for a in (-1.5, 1e-7, 0.3, 0.5, 0.9999, 1.0001, 2.0, 3.0, 7.5)),
        *(hockey_row(c) for c in (0.5, 1.0, 2.0, 20.0)),
        *(skew_js_row(w) for w in (1e-6, 0.3, 0.5, 0.999)),
        *(skew_kl_row(w) for w in (1e-6, 0.3, 0.9, 1.0)),
        Row(dv.GAN(), lambda u: xlogx(u) - (1 + u) * log(1 + u), lambda u: log(u / (1 + u)) if u else -mp.inf,
            lambda t: -log(1 - exp(t)), lambda v: -log(1 + exp(-v)), lambda v: log(1 + exp(v)), domain=0.0,
            ends=(0.0, 0.0)),
    ]  # fmt: skip


DIGITS = 340  # 1 + 1e-300 is not 1
with mp.workdps(DIGITS):
    TABLE = table()
rows = pytest.mark.parametrize("row", TABLE, ids=lambda row: row.id)


@pytest.fixture(autouse=True)
def digits():
    with mp.workdps(DIGITS):
        yield


WIDTHS = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


def check(found, exact, points, rtol, atol=0.0):
    """``found`` against numbers of 50 digits; beyond the range of the dtype both may be infinite, or 0."""
    largest, least = torch.finfo(found.dtype).max, torch.finfo(found.dtype).tiny
    for value, truth, point in zip(found.tolist(), exact, points, strict=True):
        if abs(truth) > largest * (1 - 1e-3):
            assert abs(value) >= largest * (1 - 1e-2), (point, value, truth)
            assert math.copysign(1, value) == mp.sign(truth)
        else:
            assert abs(value - truth) <= rtol * abs(truth) + atol + least, (point, value, mp.nstr(truth, 17))


def points(values, dtype):
    return torch.tensor(values, dtype=torch.float64).to(dtype)


def precise(row, dtype):
    """Rounding of u, v or t in the exponent: some hundred units, and no more."""
    return 1e-12 if dtype == torch.float64 else 3e-5


@rows
@WIDTHS
def test_f_and_its_derivative(row, dtype):
    u = points([r for r in RATIOS if dtype == torch.float64 or r < 1e38], dtype)
    exact = [mp.mpf(x) for x in u.tolist()]
    check(row.d.f(u), [row.f(x) for x in exact], u, precise(row, dtype))
    # f' crosses 0 where log u is of order 1: there its rounding is absolute
    crossing = 0.0 if abs(row.slope(mp.mpf(1))) == 0 else 1e-15 if dtype == torch.float64 else 1e-6
    check(row.d.derivative(u), [row.slope(x) for x in exact], u, precise(row, dtype), crossing)
    assert torch.equal(row.d.optimal_critic(u), row.d.derivative(u))


@rows
@WIDTHS
def test_conjugate(row, dtype):
    """At slopes of all sizes up to the last number below the end of the domain, and far below f'(0)."""
    low = points([-1e30, -1e8, -700.0, -90.0, -20.0, -3.5, -3.0, -2.0, -1.0, -0.3, -1e-4, -1e-8, -1e-12], dtype)
    if row.domain == INF:
        t = torch.cat([low, points([0.0, 1e-12, 1e-8, 1e-4, 0.3, 1.0, 3.0, 20.0, 60.0], dtype)])
    else:
        gaps = points([1e-1, 1e-3, 1e-6], dtype)
        t = torch.cat([low, row.domain * points([1e-8, 0.01, 0.3, 0.7], dtype), row.domain - gaps])
    t = t[t < row.domain]
    exact = [mp.mpf(x) for x in t.tolist()]
    truth = [row.star(x) for x in exact]
    slope = [
        float((row.star(x * (1 + mp.mpf(10) ** -20)) - row.star(x)) * mp.mpf(10) ** 20) if x else 0.0 for x in exact
    ]
    rounding = 8 * torch.finfo(dtype).eps  # a number next to t is as good: u·t·eps
    for i in range(len(t)):
        check(row.d.conjugate(t[i : i + 1]), truth[i : i + 1], t[i : i + 1], precise(row, dtype),
              rounding * abs(slope[i]))  # fmt: skip
    assert row.d.conjugate(points([INF], dtype)).item() == INF
    assert row.d.conjugate(points([-INF], dtype)).item() == pytest.approx(-row.d.f_at_zero)


@rows
@WIDTHS
def test_activation_and_composition(row, dtype):
    v = points([x for x in V if dtype == torch.float64 or abs(x) <= 40], dtype)
    exact = [mp.mpf(x) for x in v.tolist()]
    eps = torch.finfo(dtype).eps
    g, star = [row.g(x) for x in exact], [row.star_of_g(x) for x in exact]
    check(row.d.activation(v), g, v, precise(row, dtype), 4 * eps * abs(row.g(mp.mpf(0))))
    check(row.d.conjugate_of_activation(v), star, v, precise(row, dtype), 4 * eps * abs(row.star_of_g(mp.mpf(0))))
    held = v.clone().requires_grad_()
    for function in (row.d.activation, row.d.conjugate_of_activation):
        (gradient,) = torch.autograd.grad(function(held).sum(), held)
        wide = v.double().requires_grad_()
        (truth,) = torch.autograd.grad(function(wide).sum(), wide)
        assert bool(gradient.isfinite()[truth.abs() < torch.finfo(dtype).max / 2].all())
        assert bool((gradient >= -eps).all()) or row.d.name == "pearson_chi2"


@rows
def test_log_ratio_is_the_logarithm_of_the_ratio_at_which_the_critic_is_optimal(row):
    x = points([-300.0, -40.0, -3.0, -1e-3, -1e-9, 0.0, 1e-9, 1e-3, 3.0, 40.0, 300.0], torch.float64)
    if row.kinks:
        with pytest.raises(ValueError, match="does not determine"):
            row.d.log_ratio(x)
        return
    exact = [mp.mpf(value) for value in x.tolist()]
    v = torch.tensor([float(row.v(value)) for value in exact], dtype=torch.float64)
    away = x > -20 if row.d.name == "pearson_chi2" else x < INF  # v = 2(r − 1) is −2 there
    check(row.d.log_ratio(v[away]), [e for e, a in zip(exact, away.tolist(), strict=True) if a], x[away], 1e-9, 1e-15)
    for value in exact:
        if abs(value) < 50:
            assert abs(row.g(row.v(value)) - row.slope(exp(value))) <= mp.mpf(10) ** -20 * (
                1 + abs(row.g(row.v(value)))
            )


def vectors():
    """Pairs of probabilities: ordinary, with zeros, of all sizes, subnormal, next to each other, and many outcomes."""
    rng = np.random.default_rng(0)

    def law(w):
        return (w / w.sum()).tolist()

    p = rng.random(7)
    near = [law(p * (1 + size * rng.standard_normal(7))) for size in (1e-2, 1e-5, 1e-8, 1e-12)]
    sizes = 10.0 ** -np.arange(0.0, 300, 30)
    wide = rng.gamma(0.05, size=(2, 500)) + 1e-300
    return {
        "ordinary": (law(p), law(rng.random(7))),
        "zeros in p": ([0.0, 0.25, 0.75], [0.5, 0.25, 0.25]),
        "zeros in q": ([0.5, 0.25, 0.25], [0.0, 0.25, 0.75]),
        "zeros in both": ([0.0, 0.25, 0.75], [0.0, 0.5, 0.5]),
        "disjoint": ([1.0, 0.0], [0.0, 1.0]),
        "down to 1e-270": (law(sizes), law(sizes[::-1])),
        "1e-300 in p": ([1e-300, 1.0], [0.5, 0.5]),
        "1e-300 in q": ([0.5, 0.5], [1e-300, 1.0]),
        "subnormal in p": ([1e-310, 1.0], [0.5, 0.5]),
        "subnormal in q": ([0.5, 0.5], [1e-310, 1.0]),
        "subnormal in both": ([1e-310, 1.0], [3e-310, 1.0]),
        "500 outcomes": (law(wide[0]), law(wide[1])),
        **{f"near {k}": (law(p), law_) for k, law_ in enumerate(near)},
    }


VECTORS = vectors()


def truth_of(row, p, q):
    """Infinite where the table says so; the mass of P and of Q is what the floats sum to."""
    if any(a > 0 and b == 0 for a, b in zip(p, q, strict=True)) and row.ends[1] == INF:
        return mp.inf
    if any(b > 0 and a == 0 for a, b in zip(p, q, strict=True)) and row.ends[0] == INF:
        return mp.inf
    return row.divergence(p, q)


@rows
@pytest.mark.parametrize("name", VECTORS)
def test_values_of_vectors(row, name):
    p, q = VECTORS[name]
    truth = truth_of(row, p, q)
    a, b = torch.tensor(p, dtype=torch.float64), torch.tensor(q, dtype=torch.float64)
    with_gradient = row.d(a.clone().requires_grad_(), b).detach()
    check(torch.stack([row.d(a, b), with_gradient]), [truth] * 2, ["plain", "gradient"], 1e-12, 1e-30)


@rows
@pytest.mark.parametrize("name", ["ordinary", "zeros in both", "near 1", "500 outcomes"])
def test_values_of_single_precision(row, name):
    """Against the divergence of the rounded vectors."""
    p, q = (torch.tensor(v, dtype=torch.float32) for v in VECTORS[name])
    truth = truth_of(row, p.tolist(), q.tolist())
    found = row.d(p, q)
    assert found.dtype == torch.float32
    check(found[None], [truth], [name], 2e-5)


@rows
def test_half_precision_accumulates_in_single(row):
    p, q = torch.full((512,), 1 / 512), torch.rand(512, generator=torch.Generator().manual_seed(0))
    q = q / q.sum()
    for dtype in (torch.bfloat16, torch.float16):
        a, b = p.to(dtype), q.to(dtype)
        found = row.d(a, b)
        assert found.dtype == torch.float32
        assert found.item() == pytest.approx(row.d.perspective(a.double(), b.double()).sum().item(), rel=1e-4, abs=1e-6)
    v = torch.tensor([-3.0, 0.5], dtype=torch.bfloat16)
    assert row.d.activation(v).dtype == torch.bfloat16
    torch.testing.assert_close(row.d.activation(v), row.d.activation(v.double()).to(torch.bfloat16))


@rows
def test_equal_laws_are_at_zero_exactly_and_symmetry_is_to_the_last_bit(row):
    p = torch.rand(40, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    q = torch.rand(40, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    if row.d.name != "gan":
        assert bool((row.d(p, p) == 0).all())
        assert bool((row.d.perspective(p, q) >= 0).all())
    if row.d.is_symmetric:
        torch.testing.assert_close(row.d(p, q), row.d(q, p), rtol=1e-14, atol=0)


def test_js_is_symmetric_to_the_last_bit():
    p, q = (torch.rand(999, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    assert torch.equal(dv.js(p, q), dv.js(q, p))


@rows
def test_gradients_are_those_of_the_formula_and_can_be_differentiated_again(row):
    logits = torch.tensor([[0.3, -1.0, 2.0, 0.1], [0.3, -1.0, 2.0, 0.1]], dtype=torch.float64)
    other = torch.tensor([[0.1, 0.4, -0.5, 1.0], [0.3, -1.0, 2.0, 0.1]], dtype=torch.float64)  # P = Q in the second
    if row.kinks:
        logits, other = logits[:1], other[:1]
    p, q = (x.clone().requires_grad_() for x in (logits, other))

    def value(a, b):
        return row.d(a.softmax(-1), b.softmax(-1))

    assert torch.autograd.gradcheck(value, (p, q))
    assert torch.autograd.gradgradcheck(value, (p, q))


@rows
def test_gradients_far_out(row):
    """∂/∂p = f'(u) − f'(1) and ∂/∂q = f'(1) − f*(f'(u)), u = p/q, wherever they are floating-point numbers."""
    sizes = [1e-300, 1e-200, 1e-100, 1e-20, 1e-3, 0.3, 1.0]
    a, b = (torch.tensor(x, dtype=torch.float64) for x in zip(*[(s, t) for s in sizes for t in sizes], strict=True))
    a.requires_grad_()
    b.requires_grad_()
    at_p, at_q = torch.autograd.grad(row.d.perspective(a, b).sum(), (a, b))
    one = row.slope(mp.mpf(1))
    u = [mp.mpf(x) / mp.mpf(y) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    for ratio, p_, q_ in zip(u, at_p.tolist(), at_q.tolist(), strict=True):
        if any(ratio == mp.mpf(kink) for kink in row.kinks):
            continue
        slope = row.slope(ratio)
        star = row.star(slope) if row.kinks else row.star_of_g(row.v(log(ratio)))
        for found, truth in ((p_, slope - one), (q_, one - star)):
            check(torch.tensor([found], dtype=torch.float64), [truth], [ratio], 1e-11, 1e-15)


@rows
def test_batches_broadcast_and_inputs_are_not_written_to(row):
    generator = torch.Generator().manual_seed(3)
    p = torch.rand(3, 1, 5, 500, generator=generator, dtype=torch.float64)
    q = torch.rand(4, 1, 500, generator=generator, dtype=torch.float64)
    p[..., 7], q[..., 9] = 0.0, 1e-200
    p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    kept = p.clone(), q.clone()
    found = row.d(p, q)
    assert found.shape == (3, 4, 5)
    torch.testing.assert_close(found[1, 2, 3], row.d(p[1, 0, 3], q[2, 0]), rtol=1e-13, atol=0)
    row.d(p.numpy(), q.numpy())
    for method in ("f", "derivative", "conjugate", "activation", "conjugate_of_activation", "optimal_critic"):
        getattr(row.d, method)(p)
    assert torch.equal(p, kept[0])
    assert torch.equal(q, kept[1])


@rows
@pytest.mark.parametrize("patience", [0.0, INF], ids=["shared out", "torch's threads"])
def test_large_batches_are_worth_their_rows(row, patience, monkeypatch):
    monkeypatch.setattr(blocks, "_BYTES", 1 << 12)
    monkeypatch.setattr(blocks, "_PATIENCE", patience)
    generator = torch.Generator().manual_seed(4)
    p, q = (torch.rand(3, 67, 9, generator=generator, dtype=torch.float64) for _ in range(2))
    p[0, ::3, 2], q[0, ::5, 2], q[1, ::7, 3] = 0.0, 0.0, 1e-310
    p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    q[2, :9] = p[2, :9] + 1e-9 * (p[2, :9].roll(1, -1) - p[2, :9])
    threads, found = torch.get_num_threads(), row.d(p, q)
    assert torch.get_num_threads() == threads
    with_gradient = row.d(p.clone().requires_grad_(), q)
    for i, j in ((0, 0), (0, 3), (0, 5), (0, 15), (1, 7), (1, 60), (2, 4), (2, 66)):
        for batch in (found, with_gradient.detach()):
            torch.testing.assert_close(batch[i, j], row.d(p[i, j], q[i, j]), rtol=1e-12, atol=0)


@rows
def test_reversal(row):
    """D(Q‖P), its generator u·f(1/u), and the row again when reversed twice."""
    back = row.d.reversed()
    assert back.reversed() == row.d
    assert repr(back).startswith(("Reversed(divergence=", "KL(", "Rev", "Alpha(", "Pearson", "Neyman", "SkewJ")) or (
        back is row.d
    )
    u = points([1e-30, 1e-3, 0.5, 0.999, 1.001, 2.0, 1e3, 1e30], torch.float64)
    exact = [mp.mpf(x) for x in u.tolist()]
    if row.d != dv.HockeyStick(1.0):  # whose u·f(1/u) is f but for a multiple of u − 1
        check(back.f(u), [x * row.f(1 / x) for x in exact], u, 1e-9, 1e-15)  # 1 − w is rounded: it has its own row
        assert (back.f_at_zero, back.slope_at_infinity) == pytest.approx((row.d.slope_at_infinity, row.d.f_at_zero))
    for name in ("ordinary", "zeros in p", "500 outcomes", "near 2"):
        p, q = VECTORS[name]
        check(torch.tensor([back(p, q)], dtype=torch.float64), [truth_of(row, q, p)], [name], 1e-9)


@rows
def test_limits_bound_and_domain(row):
    d = row.d
    assert (d.f_at_zero, d.slope_at_infinity) == pytest.approx(row.ends)
    assert d.upper_bound == d.f_at_zero + d.slope_at_infinity
    assert d.conjugate_domain == (-INF, pytest.approx(row.domain))
    far = mp.mpf(10) ** (10**10)
    if row.ends[1] < INF:
        assert float(row.slope(far)) == pytest.approx(row.ends[1])
    if row.ends[0] < INF:
        assert float(row.f(1 / far)) == pytest.approx(row.ends[0], abs=1e-12)

    def symmetrised(u):  # f up to a multiple of u − 1, which no divergence sees
        return row.f(u) - (row.slope(mp.mpf(1)) - row.f(mp.mpf(1)) / 2) * (u - 1)

    ratios = [mp.mpf(u) for u in (0.01, 0.1, 3.0, 30.0)]
    assert d.is_symmetric == all(abs(symmetrised(u) - u * symmetrised(1 / u)) < 1e-30 for u in ratios)
