"""Sums over the integers against 50-digit sums written here, and the claim itself: what is left out is bounded."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributions as td
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mpmath import mp, mpf
from scipy import stats

import divergences as dv
from divergences import countable
from divergences.countable_tails import Envelope, Side
from divergences.laws import ConvergenceError
from tests.cases import INF, MORE, ROWS

mp.dps = 50
ALL = [dv.get(name, **parameters) for name, parameters in [*ROWS.items(), *MORE]]
END = mpf(10) ** -45


def t(x):
    return torch.tensor(x, dtype=torch.float64)


@dataclass(frozen=True)
class Truth:
    """A law, and its masses in 50 digits; ``tail`` is (c, θ, κ) of Γ(k)^−c e^{θk} k^κ, or the last integer."""

    law: Any
    mass: Any
    low: float
    tail: Any

    @property
    def last(self):
        return INF if isinstance(self.tail, tuple) else self.tail


def poisson(rate, low=0, law=None):
    x = mpf(rate)
    mass = cache(lambda k: mp.exp((k - low) * mp.log(x) - x - mp.loggamma(k - low + 1)))
    return Truth(law or stats.poisson(rate, loc=low), mass, low, (1, mp.log(x), low))


def negative_binomial(r, p, low=0):
    """In torch's convention: p is the ratio of the tail."""
    R, P = mpf(r), mpf(p)
    norm = R * mp.log1p(-P) - mp.loggamma(R)
    mass = cache(lambda k: mp.exp(mp.loggamma(k - low + R) - mp.loggamma(k - low + 1) + norm + (k - low) * mp.log(P)))
    law = td.NegativeBinomial(t(r), probs=t(p)) if low == 0 else stats.nbinom(r, 1 - p, loc=low)
    return Truth(law, mass, low, (0, mp.log(P), R - 1))


def geometric(p, law=None):
    P = mpf(p)
    return Truth(law or td.Geometric(t(p)), cache(lambda k: P * (1 - P) ** k), 0, (0, mp.log1p(-P), 0))


def binomial(n, p, low=0):
    P = mpf(p)
    mass = cache(lambda k: mp.binomial(n, k - low) * P ** (k - low) * (1 - P) ** (n - k + low))
    return Truth(stats.binom(n, p, loc=low), mass, low, low + n)


def logser(p):
    P = mpf(p)
    return Truth(stats.logser(p), cache(lambda k: P**k / k / -mp.log1p(-P)), 1, (0, mp.log(P), -1))


def two_sided(a):
    A = mpf(a)
    return Truth(stats.dlaplace(a), cache(lambda k: mp.tanh(A / 2) * mp.exp(-A * abs(k))), -INF, (0, -A, 0))


PAIRS = {
    "poisson-poisson": (poisson(3.0, law=td.Poisson(t(3.0))), poisson(5.0, law=td.Poisson(t(5.0)))),
    "poisson-far": (poisson(0.5), poisson(15.0)),
    "poisson-shifted": (poisson(3.0, low=2), poisson(4.0)),
    "geometric-poisson": (geometric(0.3), poisson(2.5)),
    "poisson-geometric": (poisson(2.5), geometric(0.3)),
    "negative-binomial-poisson": (negative_binomial(2.5, 0.4), poisson(2.0)),
    "poisson-negative-binomial": (poisson(2.0), negative_binomial(0.3, 0.8)),
    "negative-binomials": (negative_binomial(2.5, 0.4), negative_binomial(0.7, 0.6)),
    "negative-binomial-shifted": (negative_binomial(2.5, 0.4, low=-3), negative_binomial(3.0, 0.5, low=-3)),
    "geometric-negative-binomial": (geometric(0.45), negative_binomial(4.0, 0.6)),
    "logser-geometric": (logser(0.6), geometric(0.2)),
    "binomials": (binomial(12, 0.3), binomial(20, 0.35)),
    "binomial-poisson": (binomial(12, 0.3), poisson(3.6)),
    "two-sided-negative-binomial": (two_sided(1.2), two_sided(0.8)),
    "poisson-two-sided": (poisson(2.0), two_sided(1.2)),
}
pairs = pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)


def term(d, p, q):
    """The summand of D in 50 digits, on its own formulas."""
    u = p / q
    w = mpf(d.arguments.get("weight", 0.5))
    a = mpf(d.arguments.get("alpha", 2))
    if d.name == "alpha" and a in (0, 1):
        return q * mp.log(q / p) + p - q if a == 0 else p * mp.log(u) - p + q
    m = (p + q) / 2
    mixed = w * p + (1 - w) * q
    return {
        "kl": lambda: p * mp.log(u),
        "reverse_kl": lambda: -q * mp.log(u),
        "js": lambda: (p * mp.log(p / m) + q * mp.log(q / m)) / 2,
        "jeffreys": lambda: (p - q) * mp.log(u),
        "total_variation": lambda: abs(p - q) / 2,
        "squared_hellinger": lambda: (mp.sqrt(p) - mp.sqrt(q)) ** 2,
        "pearson_chi2": lambda: (p - q) ** 2 / q,
        "neyman_chi2": lambda: (p - q) ** 2 / p,
        "le_cam": lambda: (p - q) ** 2 / (p + q),
        "alpha": lambda: (p**a * q ** (1 - a) - a * p - (1 - a) * q) / (a * (a - 1)),
        "hockey_stick": lambda: max(p - mpf(d.arguments["gamma"]) * q, 0) - max(1 - mpf(d.arguments["gamma"]), 0) * q,
        "skew_js": lambda: w * p * mp.log(p / mixed) + (1 - w) * q * mp.log(q / mixed),
        "skew_kl": lambda: p * mp.log(p / ((1 - w) * p + w * q)),
        "gan": lambda: p * mp.log(p / (p + q)) + q * mp.log(q / (p + q)),
    }[d.name]()  # fmt: skip


def summed(terms, p, q):
    """Σ terms(p_k, q_k), until they have become negligible at both ends."""
    low = min(p.low, q.low)
    total = mpf(0)
    for start, way, end in ((0 if low == -INF else low, 1, max(p.last, q.last)), (-1, -1, 0 if low > -INF else INF)):
        k, small = start, 0
        while abs(k) <= abs(end) and k * way <= end and small < 3 and (way > 0 or low == -INF):
            masses = [x.mass(k) if x.low <= k <= x.last else mpf(0) for x in (p, q)]
            value = terms(*masses)
            small = small + 1 if abs(value) < END and abs(k) > 60 else 0
            total, k = total + value, k + way
    return total


def limit(x):
    return mpf(x) if x < INF else mp.inf


def truth(d, p, q):
    def terms(a, b):
        if a > 0 and b > 0:
            return term(d, a, b)
        return (a * limit(d.slope_at_infinity) if a > 0 else mpf(0)) + (b * limit(d.f_at_zero) if b > 0 else mpf(0))

    return summed(terms, p, q)


def escapes(p, q):
    return p.low < q.low or p.last > q.last


def diverges(p, q, power):
    """Whether Σ p^power q^{1 − power} diverges at an end that both laws have at infinity."""
    if p.last < INF or q.last < INF:
        return False
    c, theta, kappa = (power * x + (1 - power) * y for x, y in zip(p.tail, q.tail, strict=True))
    return c < 0 or (c == 0 and (theta > END or (abs(theta) < END and kappa >= -1)))


@pytest.mark.parametrize("d", ALL, ids=repr)
@pairs
def test_rows_against_fifty_digits(d, pair):
    p, q = pair
    value = float(countable.f_value(d, *countable.pair(p.law, q.law)))
    powers = {"pearson_chi2": [2], "neyman_chi2": [-1], "alpha": [d.arguments.get("alpha")]}.get(d.name, [])
    infinite = (d.slope_at_infinity == INF and escapes(p, q)) or (d.f_at_zero == INF and escapes(q, p))
    if infinite or any(diverges(p, q, power) for power in powers):
        assert value == INF
    else:
        assert value == pytest.approx(float(truth(d, p, q)), rel=1e-13, abs=1e-16)


@pairs
@pytest.mark.parametrize("alpha", [0.3, 0.5, 1.5, 2, 7])
def test_affinities_against_fifty_digits(pair, alpha):
    p, q = pair
    value = float(countable.log_affinity(*countable.pair(p.law, q.law), alpha))
    if (alpha > 1 and escapes(p, q)) or diverges(p, q, alpha):
        assert value == INF
    else:
        total = summed(lambda a, b: a**alpha * b ** (1 - mpf(alpha)) if a * b > 0 else mpf(0), p, q)
        assert value == pytest.approx(float(mp.log(total)), rel=1e-13, abs=1e-15)


@pairs
def test_the_ends_of_renyi(pair):
    p, q = pair
    a, b = countable.pair(p.law, q.law)
    mass = summed(lambda x, y: y if x > 0 else mpf(0), p, q)
    assert float(countable.log_mass(a, b)) == pytest.approx(float(mp.log(mass)), rel=1e-13, abs=1e-15)
    value = float(countable.log_ess_sup(a, b))
    grows = p.last == q.last == INF and (
        next((sign * (x - y) for sign, x, y in zip((-1, 1, 1), p.tail, q.tail, strict=True) if abs(x - y) > END), 0) > 0
    )
    if escapes(p, q) or grows:
        assert value == INF
    else:
        ratios = []
        summed(lambda x, y: ratios.append(mp.log(x / y)) or x if x > 0 and y > 0 else y, p, q)
        assert value == pytest.approx(float(max(ratios)), rel=1e-13, abs=1e-15)


@pairs
def test_distances_against_fifty_digits(pair):
    p, q = pair
    a, b = countable.pair(p.law, q.law)
    gaps, F, G = [], mpf(0), mpf(0)
    low, last = (max(min(p.low, q.low), -150), 400)
    for k in range(low, last):
        F, G = (c + (x.mass(k) if x.low <= k <= x.last else 0) for c, x in ((F, p), (G, q)))
        gaps.append(F - G)
    assert float(countable.wasserstein(a, b)) == pytest.approx(float(sum(map(abs, gaps))), rel=1e-13)
    assert float(countable.squared_energy(a, b)) == pytest.approx(float(2 * sum(g * g for g in gaps)), rel=1e-13)
    assert float(countable.largest_cdf_gap(a, b)) == pytest.approx(float(max(map(abs, gaps))), rel=1e-13)
    assert float(countable.wasserstein(a, b, 2)) == pytest.approx(float(mp.sqrt(coupled(p, q, low, last))), rel=1e-13)


def coupled(p, q, low, last):
    """Σ (x − y)² over the monotone coupling, by always moving the smaller of the two masses that are left."""
    total, i, j = mpf(0), low, low
    left, right = (x.mass(low) if x.low <= low else mpf(0) for x in (p, q))
    while i < last and j < last:
        if left <= 0:
            i, left = i + 1, p.mass(i + 1) if p.low <= i + 1 <= p.last else mpf(0)
        elif right <= 0:
            j, right = j + 1, q.mass(j + 1) if q.low <= j + 1 <= q.last else mpf(0)
        else:
            moved = min(left, right)
            total, left, right = total + moved * (i - j) ** 2, left - moved, right - moved
    return total


RATES, RATIOS = st.floats(0.05, 30), st.floats(0.02, 0.95)
LAWS = st.one_of(
    st.builds(lambda rate, low: stats.poisson(rate, loc=low), RATES, st.integers(-3, 3)),
    st.builds(lambda r, p, low: stats.nbinom(r, p, loc=low), RATES, RATIOS, st.integers(-3, 3)),
    st.builds(stats.geom, RATIOS),
    st.builds(stats.logser, RATIOS),
    st.builds(stats.zipf, st.floats(1.1, 9)),
    st.builds(stats.yulesimon, st.floats(0.2, 9)),
    st.builds(stats.dlaplace, st.floats(0.05, 4)),
    st.builds(stats.betanbinom, st.integers(1, 9), st.floats(0.3, 9), st.floats(0.3, 9)),
    st.builds(stats.binom, st.integers(1, 60), RATIOS),
    st.builds(stats.betabinom, st.integers(1, 60), st.floats(0.3, 9), st.floats(0.3, 9)),
    st.builds(stats.hypergeom, st.just(90), st.integers(1, 60), st.integers(1, 60)),
    st.builds(stats.nhypergeom, st.just(90), st.integers(1, 40), st.integers(1, 40)),
    st.builds(stats.boltzmann, st.floats(0.05, 2), st.integers(1, 30)),
    st.builds(lambda mu, nu: stats.skellam(mu, nu), RATES, RATES),
)
ENVELOPES = st.one_of(
    st.sampled_from([Envelope(a, 1 - a, moment=r) for a in (0.0, 1.0) for r in (0.0, 1.0, 2.5)]),
    st.sampled_from([Envelope(1.0, 0.0, logs=True, common=True), Envelope(0.0, 1.0, logs=True, common=True)]),
    st.sampled_from([Envelope(a, 1 - a, common=True) for a in (-2.0, -0.5, 0.5, 1.5, 2.0, 4.0)]),
)


@settings(max_examples=200, deadline=None)
@given(LAWS, LAWS, ENVELOPES, st.sampled_from([1, -1]), st.integers(0, 60))
def test_what_is_left_out_is_at_most_its_bound(p, q, envelope, sign, start):
    a, b = countable.pair(p, q)
    side = Side(a, b, sign)
    first, last = (float(end) for end in side.support(envelope))
    first = max(first, -60)
    if first > last:
        return
    j = t([min(first + start, last)])
    bound = float(side.log_bound(envelope, j))
    beyond = j + torch.arange(1, 20001)
    beyond = beyond[beyond <= last]
    terms = side.log_mass(envelope, beyond) + envelope.moment * (beyond - j).log()
    if envelope.logs:
        terms = terms + torch.log1p((a.log_mass(sign * beyond) - b.log_mass(sign * beyond)).abs())
    assert float(terms.logsumexp(-1)) <= bound + 1e-9


@settings(max_examples=200, deadline=None)
@given(LAWS, LAWS, st.sampled_from([-2.0, -0.5, 0.0, 0.5, 1.0, 3.0]), st.sampled_from([1, -1]), st.integers(0, 60))
@example(stats.poisson(2.0), stats.skellam(9.0, 9.0), 3.0, 1, 0)
def test_no_step_outwards_exceeds_its_bound(p, q, alpha, sign, start):
    side, envelope = Side(*countable.pair(p, q), sign), Envelope(alpha, 1 - alpha, common=True)
    first, last = side.support(envelope)
    j = (first.clamp(min=-60) + start).minimum(last)
    k = j + torch.arange(400.0)
    k = k[k <= last]
    if bool(first > last) or len(k) < 2:
        return
    steps = side.log_mass(envelope, k).diff()
    assert float(steps.max()) <= float(side.largest_step(alpha, 1 - alpha, j, last)) + 1e-9


def value(name, p, q, **parameters):
    return float(countable.f_value(dv.get(name, **parameters), *countable.pair(p, q)))


@pytest.mark.parametrize("p", [0.5, 0.25, 0.1, 0.7])
def test_chi2_of_geometric_laws_is_infinite_from_its_boundary_on(p):
    """(1 − π_p)² = 1 − π_q is the boundary; inside, χ² = π_p²/(π_q(1 − (1 − π_p)²/(1 − π_q))) − 1."""
    boundary = 1 - (1 - p) ** 2
    assert value("chi2", td.Geometric(t(p)), td.Geometric(t(boundary))) == INF
    assert value("chi2", td.Geometric(t(p)), td.Geometric(t(boundary + 1e-9))) == INF
    q = boundary * 0.999
    exact = mpf(p) ** 2 / (mpf(q) * (1 - (1 - mpf(p)) ** 2 / (1 - mpf(q)))) - 1
    assert value("chi2", td.Geometric(t(p)), td.Geometric(t(q))) == pytest.approx(float(exact), rel=1e-11)
    assert value("kl", td.Geometric(t(p)), td.Geometric(t(boundary))) < INF


def test_a_boundary_in_the_power_of_k():
    """χ² of NB(r, p) against a geometric law with ratio p² is Σ k^{2(r − 1)}: finite for r < ½ alone."""
    assert value("chi2", td.NegativeBinomial(t(0.5), probs=t(0.5)), td.Geometric(t(0.75))) == INF
    assert value("chi2", td.NegativeBinomial(t(3.0), probs=t(0.4)), td.Geometric(t(0.9))) == INF
    exact = mpf("0.5") ** 0.2 / mpf("0.75") * mp.hyp2f1("0.1", "0.1", 1, 1) - 1  # Σ ((r)_k/k!)²
    with pytest.raises(ConvergenceError, match="terms prove"):  # k^{−1.8}
        value("chi2", td.NegativeBinomial(t(0.1), probs=t(0.5)), td.Geometric(t(0.75)))
    near = value("chi2", td.NegativeBinomial(t(0.1), probs=t(0.5)), td.Geometric(t(0.749)))
    assert near == pytest.approx(float(exact), rel=0.01)


def test_large_rates():
    p, q = td.Poisson(t(1e6)), td.Poisson(t(1e6 + 1000))
    a, b, m = mpf(10) ** 6, mpf(10) ** 6 + 1000, countable.pair(p, q)
    assert value("kl", p, q) == pytest.approx(float(a * mp.log(a / b) + b - a), rel=1e-12)
    assert value("chi2", p, q) == pytest.approx(float(mp.expm1((a - b) ** 2 / b)), rel=1e-12)
    overlap = mp.exp(-((mp.sqrt(a) - mp.sqrt(b)) ** 2) / 2)
    assert value("squared_hellinger", p, q) == pytest.approx(float(2 - 2 * overlap), rel=1e-12)
    assert float(countable.wasserstein(*m)) == pytest.approx(1000, rel=1e-12)
    assert value("js", td.Poisson(t(1.0)), td.Poisson(t(1e9))) == pytest.approx(math.log(2), rel=1e-15)
    far = countable.pair(td.Poisson(t(1e5)), td.Poisson(t(10.0)))
    assert float(countable.log_affinity(*far, 0.5)) == pytest.approx(-((1e5**0.5 - 10**0.5) ** 2) / 2, rel=1e-13)
    assert float(countable.log_affinity(*far, 2)) == pytest.approx((1e5 - 10) ** 2 / 10, rel=1e-13)


def test_slow_geometric_laws_and_close_laws():
    def kl(a, b):
        a, b = mpf(a), mpf(b)
        return float(mp.log(a / b) + (1 - a) / a * (mp.log1p(-a) - mp.log1p(-b)))

    for a, b in ((1e-4, 2e-4), (1e-4, 1e-6), (1e-3, 0.9)):
        assert value("kl", td.Geometric(t(a)), td.Geometric(t(b))) == pytest.approx(kl(a, b), rel=1e-11)
    near = td.Poisson(t(3.0)), td.Poisson(t(3.0 + 1e-5))
    exact = 3 * mp.log(3 / mpf(float(near[1].rate))) + mpf(float(near[1].rate)) - 3
    assert value("kl", *near) == pytest.approx(float(exact), rel=1e-5)  # masses have 1e−16, their ratio 1e−5
    tiny = mpf("1e-30") * (1 - mp.log(2))
    assert value("kl", td.Poisson(t(1e-30)), td.Poisson(t(2e-30))) == pytest.approx(float(tiny), rel=1e-12)


def zipf_kl(a, b):
    a, b = mpf(a), mpf(b)
    return float((a - b) * mp.zeta(a, 1, 1) / mp.zeta(a) + mp.log(mp.zeta(b) / mp.zeta(a)))


def test_power_tails():
    for a, b in ((6.0, 5.0), (5.0, 2.0), (4.0, 1.5)):
        assert value("kl", stats.zipf(a), stats.zipf(b)) == pytest.approx(zipf_kl(a, b), rel=1e-10)
    assert value("chi2", stats.zipf(5.0), stats.zipf(9.5)) == INF  # Σ k^{−0.5}
    assert value("chi2", stats.zipf(5.0), stats.zipf(9.0)) == INF  # Σ 1/k
    assert value("kl", stats.zipf(2.0), stats.poisson(3.0, loc=1)) == INF  # Σ k^{−2} k log k
    assert value("kl", stats.zipf(2.0), stats.geom(0.3)) == INF
    assert value("kl", stats.poisson(3.0, loc=1), stats.zipf(1.2)) < INF  # light against heavy
    with pytest.raises(ConvergenceError, match="terms prove"):
        value("js", stats.zipf(1.5), stats.zipf(1.6))
    assert value("js", stats.zipf(1.5), stats.zipf(1.5)) == 0


HEAVY, LIGHT = stats.zipf(1.5), poisson(3.0, low=1)
MASSES = [(LIGHT.mass(k), mpf(k) ** -1.5 / mp.zeta(1.5)) for k in range(1, 150)]


@pytest.mark.parametrize("d", ALL, ids=repr)
def test_a_light_tail_against_a_heavy_one(d):
    forward, backward = countable.pair(LIGHT.law, HEAVY), countable.pair(HEAVY, LIGHT.law)
    rest = 1 - sum(b for _, b in MASSES)  # where the light law has nothing
    for pair, masses, limit in (
        (forward, MASSES, d.f_at_zero),
        (backward, [m[::-1] for m in MASSES], d.slope_at_infinity),
    ):
        if limit == INF:
            assert float(countable.f_value(d, *pair)) == INF
        else:
            exact = sum(term(d, a, b) for a, b in masses) + rest * mpf(limit)
            assert float(countable.f_value(d, *pair)) == pytest.approx(float(exact), rel=1e-14, abs=2e-15)
    assert float(countable.log_mass(*forward)) == float(countable.log_mass(*backward)) == 0


def test_distances_without_a_moment():
    assert float(countable.wasserstein(*countable.pair(stats.zipf(1.9), stats.poisson(2.0)))) == INF
    assert float(countable.squared_energy(*countable.pair(stats.zipf(1.9), stats.poisson(2.0)))) == INF
    assert float(countable.wasserstein(*countable.pair(stats.zipf(2.9), stats.poisson(2.0)), 2)) == INF
    assert float(countable.wasserstein(*countable.pair(stats.zipf(1.5), stats.zipf(1.5)))) == 0
    with pytest.raises(NotImplementedError, match="equal tails"):
        countable.wasserstein(*countable.pair(stats.zipf(1.5), stats.zipf(1.5, loc=1)))


def test_a_shift_of_one_law():
    for law in (stats.poisson(2.0), stats.nbinom(2.5, 0.3), stats.dlaplace(0.7), stats.binom(9, 0.3)):
        moved = law.dist(*law.args, loc=3)
        a, b = countable.pair(law, moved)
        for order in (1, 1.5, 2, 4):
            assert float(countable.wasserstein(a, b, order)) == pytest.approx(3, rel=1e-12)
        both = countable.pair(law.dist(*law.args, loc=-7), law.dist(*law.args, loc=-4))
        assert float(countable.squared_energy(*both)) == pytest.approx(float(countable.squared_energy(a, b)), rel=1e-13)


@pytest.mark.parametrize("d", ALL, ids=repr)
def test_disjoint_supports_and_equal_laws(d):
    p, q = stats.binom(4, 0.3), stats.poisson(2.0, loc=5)
    assert float(countable.f_value(d, *countable.pair(p, q))) == pytest.approx(d.upper_bound, rel=1e-14)
    assert float(countable.f_value(d, *countable.pair(q, q))) == pytest.approx(float(d.f(1.0)), abs=1e-15)
    a, b = countable.pair(p, q)
    assert float(countable.log_affinity(a, b, 0.5)) == float(countable.log_mass(a, b)) == -INF
    assert float(countable.log_ess_sup(a, b)) == INF
    assert float(countable.largest_cdf_gap(a, b)) == pytest.approx(1, abs=1e-15)


def test_points_and_finite_laws_against_infinite_ones():
    q = td.Poisson(t(3.0))
    log_q = 2 * math.log(3) - 3 - math.log(2)
    assert value("kl", dv.PointMass(2.0), q) == pytest.approx(-log_q, rel=1e-14)
    assert value("reverse_kl", dv.PointMass(2.0), q) == INF
    assert value("total_variation", q, dv.PointMass(2.0)) == pytest.approx(1 - math.exp(log_q), rel=1e-14)
    assert float(countable.wasserstein(*countable.pair(dv.PointMass(0.0), q))) == pytest.approx(3, rel=1e-13)
    assert float(countable.wasserstein(*countable.pair(dv.PointMass(0.0), q), 2)) == pytest.approx(12**0.5, rel=1e-13)
    die = dv.Empirical([0.0, 4.0, 0.0, 1.0])
    expected = 0.5 * (math.log(0.5) + 3) + 0.25 * (math.log(0.25) + 3 + math.log(24) - 4 * math.log(3))
    expected += 0.25 * (math.log(0.25) + 3 - math.log(3))
    assert value("kl", die, q) == pytest.approx(expected, rel=1e-14)
    assert value("kl", td.Categorical(t([0.5, 0.25, 0.0, 0.0, 0.25])), q) == pytest.approx(expected, rel=1e-14)
    assert value("kl", td.Bernoulli(t(0.0)), q) == pytest.approx(3, rel=1e-14)
    assert value("kl", td.Poisson(t(0.0)), q) == pytest.approx(3, rel=1e-14)


@pytest.mark.parametrize(
    "law",
    [
        stats.hypergeom(30, 10, 12), stats.nhypergeom(30, 10, 5), stats.betabinom(10, 2.0, 3.0), stats.randint(2, 9),
        stats.poisson_binom([0.1, 0.5, 0.7]), stats.nchypergeom_fisher(30, 10, 12, 1.5), stats.boltzmann(0.3, 10),
        stats.zipfian(1.2, 20), stats.nchypergeom_wallenius(30, 10, 12, 1.5), stats.skellam(3.0, 1.0),
        stats.planck(0.5, loc=-2), stats.betanbinom(3, 5.0, 2.0), stats.yulesimon(4.0), stats.bernoulli(0.3, loc=2),
        stats.rv_discrete(values=([1, 2, 5], [0.2, 0.3, 0.5]))(),
    ],
    ids=lambda law: law.dist.name,
)  # fmt: skip
def test_masses_are_scipys(law):
    (a, _), k = countable.pair(law, stats.poisson(1.0)), torch.arange(-9.0, 60.0, dtype=torch.float64)
    assert np.allclose(a.log_mass(k).exp().numpy(), law.pmf(k.numpy()), rtol=1e-9, atol=1e-15)
    assert 0 < value("js", law, stats.poisson(2.5)) < math.log(2)


def test_batches_are_their_elements():
    p, q = td.Poisson(t([[0.5], [3.0], [400.0]])), td.NegativeBinomial(t([1.0, 2.5]), probs=t([0.3, 0.6]))
    every = countable.pair(p, q)
    functions = {
        "kl": lambda a, b: countable.f_value(dv.get("kl"), a, b),
        "js": lambda a, b: countable.f_value(dv.get("js"), a, b),
        "chi2": lambda a, b: countable.f_value(dv.get("neyman_chi2"), a, b),
        "affinity": lambda a, b: countable.log_affinity(a, b, 0.5),
        "mass": countable.log_mass,
        "sup": countable.log_ess_sup,
        "w1": countable.wasserstein,
        "w2": lambda a, b: countable.wasserstein(a, b, 2),
        "energy": countable.squared_energy,
        "gap": countable.largest_cdf_gap,
    }
    for name, function in functions.items():
        values = function(*every)
        assert values.shape == (3, 2) and values.dtype == torch.float64
        for i in range(3):
            for j in range(2):
                one = td.Poisson(p.rate[i, 0]), td.NegativeBinomial(q.total_count[j], probs=q.probs[j])
                alone = function(*countable.pair(*one))
                assert alone.shape == ()
                assert float(values[i, j]) == pytest.approx(float(alone), rel=1e-12, abs=1e-15), name
    many = stats.binom(np.array([5, 9]), 0.4)
    assert countable.f_value(dv.get("js"), *countable.pair(many, td.Poisson(t([[1.0], [2.0]])))).shape == (2, 2)


@pytest.mark.parametrize("d", [d for d in ALL if d.name not in ("neyman_chi2", "hockey_stick")], ids=repr)
def test_gradients(d):
    def of_two(rate, logits, r):
        p, q = td.Poisson(rate), td.NegativeBinomial(r, logits=logits)
        return countable.f_value(d, *countable.pair(p, q) if d.name != "alpha" or d.arguments["alpha"] >= 0
                                 else countable.pair(td.Poisson(rate), td.Poisson(r)))  # fmt: skip

    if d.f_at_zero == INF and d.name != "alpha":  # the heavier law first
        inputs = (t(2.5), t(0.3), t(1.7))
        assert torch.isfinite(of_two(*inputs))
    x = [v.requires_grad_() for v in (t([2.5, 6.0]), t(-0.4), t(1.7))]
    finite = of_two(*x).isfinite().all()
    if finite:
        assert torch.autograd.gradcheck(of_two, x, rtol=1e-5, atol=1e-8)


def test_gradients_of_the_others():
    x = [v.requires_grad_() for v in (t([2.5, 6.0]), t(0.3))]

    def pair(rate, probs):
        return countable.pair(td.Poisson(rate), td.Geometric(probs))

    for function in (
        lambda *x: countable.log_affinity(*pair(*x), 0.4),
        lambda *x: countable.log_affinity(*pair(*x), 1.5),
        lambda *x: countable.log_ess_sup(*pair(*x)),
        lambda *x: countable.wasserstein(*pair(*x)),
        lambda *x: countable.wasserstein(*pair(*x), 2),
        lambda *x: countable.squared_energy(*pair(*x)),
        lambda *x: countable.largest_cdf_gap(*pair(*x)),
        lambda rate, p: countable.f_value(dv.get("js"), *countable.pair(td.Binomial(7, p), td.Poisson(rate))),
        lambda rate, p: countable.f_value(dv.get("js"), *countable.pair(td.Bernoulli(p), td.Poisson(rate))),
    ):
        assert torch.autograd.gradcheck(function, x, rtol=1e-5, atol=1e-8)
    same = t(3.0).requires_grad_()
    countable.f_value(dv.get("kl"), *countable.pair(td.Poisson(same), td.Poisson(t(3.0)))).backward()
    assert float(same.grad) == pytest.approx(0, abs=1e-12)
    far = t(1e-4).requires_grad_()
    countable.f_value(dv.get("kl"), *countable.pair(td.Geometric(far), td.Geometric(t(2e-4)))).backward()
    assert float(far.grad) == pytest.approx(-(math.log1p(-1e-4) - math.log1p(-2e-4)) / 1e-8, rel=1e-9)


def test_a_divergence_of_ones_own():
    quartic = dv.FDivergence.from_f(lambda u: (u - 1) ** 4, name="quartic")
    p, q = poisson(3.0), poisson(5.0)
    exact = summed(lambda a, b: b * (a / b - 1) ** 4, p, q)
    assert float(countable.f_value(quartic, *countable.pair(p.law, q.law))) == pytest.approx(float(exact), rel=1e-12)
    bounded = dv.FDivergence.from_f(lambda u: (u - 1).abs() ** 1.5 / (1 + u).sqrt(), name="bounded")
    exact = summed(lambda a, b: abs(a - b) ** mpf(1.5) / mp.sqrt(a + b), p, q)
    assert float(countable.f_value(bounded, *countable.pair(p.law, q.law))) == pytest.approx(float(exact), rel=1e-12)
    with pytest.raises(NotImplementedError, match="not known"):  # its growth is read off: enough to sum, not for inf
        countable.f_value(quartic, *countable.pair(td.Geometric(t(0.3)), td.Geometric(t(0.9))))


def test_what_is_not_a_law_on_the_integers():
    q = td.Poisson(t(3.0))
    assert countable.pair(td.Normal(t(0.0), t(1.0)), q) is None
    assert countable.pair(stats.poisson(2.0, loc=0.5), q) is None
    assert countable.pair(dv.Empirical([0.5]), q) is None
    assert countable.pair(td.Independent(td.Poisson(t([1.0])), 1), q) is None
    assert countable.pair(stats.norm(), q) is None
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        countable.pair(td.Poisson(t([1.0, 2.0])), td.Poisson(t([1.0, 2.0, 3.0])))

    class Mine(stats.rv_discrete):
        def _pmf(self, k):
            return 0.5**k * 0.5

    for of in (lambda a, b: countable.f_value(dv.get("js"), a, b), countable.wasserstein, countable.largest_cdf_gap):
        with pytest.raises(NotImplementedError, match="tail of mine is not known"):
            of(*countable.pair(Mine(name="mine")(), q))


def test_through_the_front_door():
    single = dv.js(td.Poisson(torch.tensor(3.0)), td.Poisson(torch.tensor(5.0)))
    assert single.dtype == torch.float32
    p, q = td.Poisson(t(3.0)), td.Poisson(t(5.0))
    one = dv.js(p, q, method="discrete")
    assert isinstance(one, torch.Tensor) and one.dtype == torch.float64
    assert isinstance(dv.js(stats.poisson(3), stats.poisson(5)), float)
    assert dv.js(stats.poisson(3), stats.poisson(5)) == pytest.approx(float(one), rel=1e-14)
    assert dv.js(stats.poisson(3), stats.poisson(5), base=2) == pytest.approx(float(one) / math.log(2), rel=1e-14)
    assert dv.js(stats.geom(0.3), td.Geometric(t(0.3))) > 0  # scipy's starts at 1
    assert float(dv.js(stats.geom(0.3, loc=-1), td.Geometric(t(0.3)))) == pytest.approx(0, abs=1e-15)
    assert float(dv.js(stats.nbinom(2, 0.3), td.NegativeBinomial(2, t(0.7)))) == pytest.approx(0, abs=1e-15)
    for alpha in (0, 0.5, 1, 2, INF):
        forms = [float(dv.renyi(p, q, alpha=alpha, method=method)) for method in ("auto", "discrete")]
        assert forms[0] == pytest.approx(forms[1], rel=1e-6, abs=1e-12)
    for name in ("kl", "chi2", "squared_hellinger", "bhattacharyya", "jeffreys"):
        forms = [float(getattr(dv, name)(p, q, method=method)) for method in ("auto", "discrete")]
        assert forms[0] == pytest.approx(forms[1], rel=1e-6)
    assert value("reverse_kl", p, q) == pytest.approx(value("kl", q, p), rel=1e-13)
