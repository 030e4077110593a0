"""Values, gradients and messages that were once wrong, against closed formulas, scipy and finite differences."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch
import torch.distributions as td
from scipy import integrate, stats

import divergences as dv
from divergences import countable, discrete, gaussian
from divergences.countable_growth import approach, growth


def leaf(x: float) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float64, requires_grad=True)


def wide(*x: float) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float64)


def binomial_kl(n: int, p: float, q: float) -> float:
    return n * (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))


def close(value: object, expected: float, rel: float = 1e-9) -> bool:
    return float(torch.as_tensor(value).detach()) == pytest.approx(expected, rel=rel, abs=0)  # type: ignore[arg-type]


def binomial(n: int | list[int], p: float | list[float]) -> td.Binomial:
    return td.Binomial(torch.tensor(n), torch.tensor(p, dtype=torch.float32))


def test_binomials_of_float32() -> None:
    value = dv.kl(binomial(1000, [0.3, 0.3]), binomial(1000, [0.31, 0.3]))
    assert close(value[0], binomial_kl(1000, 0.3, 0.31), 1e-4) and abs(float(value[1])) < 1e-12
    k = np.arange(101)
    p, q = stats.binom.pmf(k, 100, 0.3), stats.binom.pmf(k, 100, 0.31)
    assert close(dv.total_variation(binomial(100, 0.3), binomial(100, 0.31)), np.abs(p - q).sum() / 2, 1e-5)


def test_binomials_keep_gradients() -> None:
    p = leaf(0.3)
    (slope,) = torch.autograd.grad(dv.total_variation(td.Binomial(20, p), td.Binomial(20, wide(0.4)[0])), p)

    def at(x: float) -> float:
        k = np.arange(21)
        return float(np.abs(stats.binom.pmf(k, 20, x) - stats.binom.pmf(k, 20, 0.4)).sum() / 2)

    assert close(slope, (at(0.3 + 1e-6) - at(0.3 - 1e-6)) / 2e-6, 1e-6)


def test_binomials_of_different_n() -> None:
    k = np.arange(60)

    def js(n: int, m: int) -> float:
        p, q = stats.binom.pmf(k, n, 0.3), stats.binom.pmf(k, m, 0.4)
        mean = (p + q) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            return float(np.nansum(p * np.log(p / mean)) + np.nansum(q * np.log(q / mean))) / 2

    for n, m in ((10, 12), ([10, 50], [12, 50]), ([10, 50], 12)):
        p, q = (td.Binomial(torch.tensor(c), torch.full((2,), x, dtype=torch.float64)) for c, x in ((n, 0.3), (m, 0.4)))
        value = dv.js(p, q)
        for i in range(2):
            assert close(value[i], js(int(p.total_count[i]), int(q.total_count[i])))


def test_logits_that_underflow() -> None:
    kl = dv.KL()
    one, other = (td.Categorical(logits=wide(*x)) for x in ((0, -800), (-800, 0)))
    assert close(discrete.from_logits(kl, one, other), 800)
    one, other = (td.Categorical(logits=wide(*x).float()) for x in ((0, -120), (-120, 0)))
    value = discrete.from_logits(kl, one, other)
    assert value is not None and value.dtype == torch.float32 and close(value, 120, 1e-6)
    one, other = (td.Bernoulli(logits=wide(x)[0]) for x in (0, 800))
    assert close(discrete.from_logits(kl, one, other), 400 - math.log(2))
    assert close(discrete.from_logits(dv.PearsonChi2(), one, td.Bernoulli(logits=wide(300)[0])), math.exp(300) / 4)
    p, q = (td.Binomial(1000, wide(x)[0]) for x in (0.5, 0.01))
    assert close(discrete.from_logits(kl, p, q), binomial_kl(1000, 0.5, 0.01))


def test_probabilities_of_zero_are_zero() -> None:
    for law in (td.Categorical(probs=wide(1, 0)), td.Bernoulli(wide(0.0)[0])):
        other = type(law)(**{"probs": law.probs * 0 + 0.5})
        assert discrete.from_logits(dv.KL(), other, law) is None and dv.kl(other, law) == math.inf
        assert close(dv.kl(law, other), math.log(2))
    one, other = td.Categorical(logits=wide(0, -math.inf)), td.Categorical(logits=wide(-800, 0))
    assert close(discrete.from_logits(dv.KL(), one, other), 800)
    assert discrete.from_logits(dv.KL(), other, one) == math.inf


def test_logits_keep_gradients() -> None:
    a = torch.tensor([0.0, -700.0, -1.0], dtype=torch.float64, requires_grad=True)
    b = wide(-700, 0, -1)
    value = discrete.from_logits(dv.KL(), td.Categorical(logits=a), td.Categorical(logits=b))
    assert value is not None
    p = a.softmax(-1)
    expected = (p * (a.log_softmax(-1) - b.log_softmax(-1))).sum()
    assert close(value, expected.item())
    found, right = (torch.autograd.grad(v, a, retain_graph=True)[0] for v in (value, expected))
    assert torch.allclose(found, right, rtol=1e-9, atol=1e-12)


def test_rows_are_not_recognised_by_a_name() -> None:
    assert dv.KL().row == "kl" and dv.Alpha(0.5).row == "alpha" and dv.Alpha(0.3).reversed().row == "alpha"
    assert pickle.loads(pickle.dumps(dv.KL())).row == "kl"
    assert dv.Reversed(dv.LeCam()).row is None
    for name in ("kl", "alpha", "squared_hellinger", "jeffreys", "pearson_chi2"):
        mine = dv.FDivergence.from_f(lambda u: (u - 1) ** 2 * (u + 2), name=name)
        assert mine.row is None and mine.name == name
        bound = growth(mine)
        assert not bound.exact and close(bound.exponent, 3, 1e-2)
    half = dv.FDivergence.from_f(lambda u: (u.sqrt() - 1) ** 2 / 2, name="kl")
    near = approach(half)
    assert near is not None and not near.exact
    sums = countable.pair(td.Poisson(wide(2.0)[0]), td.Poisson(wide(3.0)[0]))
    assert sums is not None
    expected = 1 - math.exp(-((math.sqrt(3) - math.sqrt(2)) ** 2) / 2)
    assert close(countable.f_value(half, *sums), expected)


@pytest.mark.parametrize("name", ["squared_hellinger", "kl", "alpha", "reverse_kl"])
def test_value_of_the_users_own_f(name: str) -> None:
    mine = dv.FDivergence.from_f(lambda u: (u.sqrt() - 1) ** 2 / 2, name=name)
    p, q = td.Normal(wide(0.0)[0], 1.0), td.Normal(wide(1.0)[0], 1.0)
    assert close(mine(p, q), 1 - math.exp(-1 / 8))
    with pytest.raises(ValueError, match="logarithmic"):
        mine(p, q, base=2)


def test_gradient_of_total_variation_in_a_deviation() -> None:
    s = leaf(1.0)
    value = dv.total_variation(td.Normal(wide(0.0)[0], s), td.Normal(wide(1.0)[0], 1.0))
    (slope,) = torch.autograd.grad(value, s)

    def at(x: float) -> float:
        def gap(t: float) -> float:
            return abs(stats.norm.pdf(t, 0, x) - stats.norm.pdf(t, 1, 1)) / 2

        cuts = sorted(np.roots([1 / x**2 - 1, 2, 2 * math.log(x) - 1]).real)
        return sum(integrate.quad(gap, a, b, epsabs=1e-13)[0] for a, b in _pairs([-12, *cuts, 12]))

    assert close(slope, (at(1.01) - at(0.99)) / 0.02, 1e-3)
    assert close(slope, -0.17603266, 1e-5)


def _pairs(ends: list[float]) -> list[tuple[float, float]]:
    inside = [min(max(e, -12), 12) for e in ends]
    return list(zip(inside, inside[1:], strict=False))


def test_one_trainable_covariance_is_one() -> None:
    s, m = leaf(2.0), leaf(1.0)
    both = gaussian.pair(td.Normal(wide(0.0)[0], s), td.Normal(m, s))
    assert both is not None
    value = gaussian.total_variation(*both)
    assert value is not None and close(value, 2 * stats.norm.cdf(0.25) - 1)
    (slope,) = torch.autograd.grad(value, s)
    assert close(slope, -stats.norm.pdf(0.25) / 4)  # of erf(1/(2√2 s)) at s = 2
    apart = gaussian.pair(td.Normal(wide(0.0)[0], leaf(2.0)), td.Normal(m, s))
    assert apart is not None and gaussian.mahalanobis(*apart) is None
    with torch.no_grad():
        assert gaussian.mahalanobis(*apart) is not None


def weibull_kl(scale: float, k: float, other: float, m: float) -> float:
    gamma = 0.5772156649015329
    return (
        math.log(k / scale**k)
        - math.log(m / other**m)
        + (k - m) * (math.log(scale) - gamma / k)
        + (scale / other) ** m * math.gamma(m / k + 1)
        - 1
    )


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_gradient_in_a_weibull_shape(scale: float) -> None:
    k = leaf(1.5)
    p, q = td.Weibull(wide(scale)[0], k), td.Weibull(wide(2.0)[0], wide(1.5)[0])
    (slope,) = torch.autograd.grad(dv.kl(p, q), k)
    expected = (weibull_kl(scale, 1.5 + 1e-5, 2, 1.5) - weibull_kl(scale, 1.5 - 1e-5, 2, 1.5)) / 2e-5
    assert float(slope) == pytest.approx(expected, abs=1e-7)


def test_gradient_through_equal_transforms() -> None:
    s = leaf(2.0)
    laws = [
        td.TransformedDistribution(td.Normal(wide(m)[0], 1.0), [td.AffineTransform(wide(0.0)[0], t)])
        for m, t in ((0.0, s), (1.0, wide(2.0)[0]))
    ]
    (slope,) = torch.autograd.grad(dv.kl(*laws), s)
    assert abs(float(slope)) < 1e-8  # of log(2/s) + (s² + 4)/8 − ½ at s = 2
    (slope,) = torch.autograd.grad(dv.kl(*laws[::-1]), s)
    assert close(slope, -0.5, 1e-6)  # KL(N(2, 4)‖N(0, s²)) = log(s/2) + 8/(2s²) − ½, at s = 2: ½ − 1


def test_gradient_in_the_number_of_failures() -> None:
    r = leaf(2.0)
    p = td.NegativeBinomial(r, probs=wide(0.4)[0])
    q = td.NegativeBinomial(wide(2.0)[0], probs=wide(0.5)[0])
    (slope,) = torch.autograd.grad(dv.kl(p, q), r)

    def at(x: float) -> float:
        k = np.arange(400)
        a, b = stats.nbinom.logpmf(k, x, 0.6), stats.nbinom.logpmf(k, 2, 0.5)
        return float((np.exp(a) * (a - b)).sum())

    assert close(slope, (at(2 + 1e-5) - at(2 - 1e-5)) / 2e-5, 1e-6)


def test_laplace_and_gumbel_near_equality() -> None:
    one = (wide(0.0)[0], wide(1.0)[0])
    for kind, in_loc, in_scale in ((td.Laplace, 1.0, 1.0), (td.Gumbel, 1.0, math.pi**2 / 6 + 0.4227843350984671**2)):
        assert close(dv.kl(kind(*one), kind(wide(1e-9)[0], one[1])), in_loc * 5e-19, 1e-6)  # ½ of Fisher's information
        assert close(dv.kl(kind(*one), kind(one[0], wide(1 + 2.0**-30)[0])), in_scale * 2.0**-61, 1e-5)
        wide_apart = kind(wide(0.3)[0], wide(1.2)[0]), kind(wide(1.0)[0], wide(2.0)[0])
        assert close(dv.kl(*wide_apart), float(td.kl_divergence(*wide_apart)))
        pair = [td.Independent(kind(torch.full((3,), x, dtype=torch.float64), wide(1.0)), 1) for x in (0.0, 1e-9)]
        assert close(dv.kl(*pair), 1.5e-18, 1e-6)


def test_torchs_kl_is_computed_in_float64() -> None:
    p, q = td.Pareto(torch.tensor(1.001), torch.tensor(3.0)), td.Pareto(torch.tensor(1.0), torch.tensor(3.001))
    value, (a, b) = dv.kl(p, q), (float(p.alpha), float(q.alpha))
    assert value.dtype == torch.float32
    assert close(value, b * math.log(float(p.scale)) + math.log(a / b) + b / a - 1, 1e-6)


N = td.Normal(0.0, 1.0)


@pytest.mark.parametrize(
    ("p", "q", "options", "error", "message"),
    [
        (N, N, {"divergence": "wasserstein"}, TypeError, "must be an f-divergence"),
        (N, td.Poisson(1.0), {}, TypeError, "mutually singular: the value is known exactly"),
        (stats.poisson(2), stats.norm(), {}, TypeError, "mutually singular"),
        (N, N, {"n": 10.5}, TypeError, "n must be an integer: got 10.5"),
        (N, N, {"n": "x"}, TypeError, "n must be an integer"),
        (N, N, {"seed": 1.5}, TypeError, "seed must be an integer or None: got 1.5"),
        (N, td.MultivariateNormal(torch.zeros(2), torch.eye(2)), {}, ValueError, "one event shape"),
        (
            *(td.RelaxedBernoulli(torch.tensor(0.5), probs=torch.tensor(x)) for x in (0.4, 0.5)),
            {},
            NotImplementedError,
            "RelaxedBernoulli",
        ),
    ],
)
def test_monte_carlo_refuses(p: object, q: object, options: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        dv.monte_carlo(p, q, **options)


def test_monte_carlo_refuses_laws_without_draws() -> None:
    if hasattr(stats, "Normal"):
        with pytest.raises(TypeError, match="p must be"):
            dv.monte_carlo(stats.Normal(), N)


@pytest.mark.parametrize("wrong", ["x", None, [0.5], np.ones(1), torch.ones(1), 1j])
def test_parameters_must_be_numbers(wrong: object) -> None:
    for name, parameter in (
        ("alpha", "alpha"),
        ("hockey_stick", "gamma"),
        ("skew_js", "weight"),
        ("skew_kl", "weight"),
    ):
        with pytest.raises(TypeError, match=f"{parameter} must be a number: got"):
            dv.get(name, **{parameter: wrong})


def test_scalars_of_any_library_are_numbers() -> None:
    for half in (np.float32(0.5), np.array(0.5), torch.tensor(0.5)):
        assert dv.Alpha(half) == dv.Alpha(0.5) and hash(dv.Alpha(half)) == hash(dv.Alpha(0.5))
    with pytest.raises(ValueError, match="gamma must be positive and finite"):
        dv.HockeyStick(math.inf)


def test_suggestions_do_not_depend_on_case() -> None:
    with pytest.raises(ValueError, match="choose from kl, "):
        dv.get("KL")


@pytest.mark.parametrize("scale", [0.72, 0.75, 0.9, 2.0])
def test_a_generator_that_overflows_far_out_is_no_infinite_value(scale: float) -> None:
    """u² leaves floating point at a ratio of 1e154, where p²/q is long negligible."""
    mine = dv.FDivergence.from_f(lambda u: (u - 1) ** 2, "mine")
    variance = scale**2
    chi2 = variance / math.sqrt(2 * variance - 1) - 1  # ∫ p²/q − 1 of N(0, 1) and N(0, s²)
    assert mine(stats.norm(), stats.norm(0, scale)) == pytest.approx(chi2, rel=1e-8)
    assert mine(stats.norm(), stats.norm(0, 0.7)) == math.inf
