"""Sums over the integers against 50-digit sums written here, and the claim itself: what is left out is bounded."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributions as td
from hypothesis import given, settings
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
    """A law, and the same by its masses in 50 digits; ``tail`` is (c, θ, κ) of Γ(k)^−c e^{θk} k^κ, or its last integer."""

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
    st.builds(Envelope, st.just(1.0), st.just(0.0), moment=st.sampled_from([0.0, 1.0, 2.5])),
    st.builds(Envelope, st.just(0.0), st.just(1.0), moment=st.sampled_from([0.0, 1.0, 2.5])),
    st.sampled_from([Envelope(1.0, 0.0, logs=True, common=True), Envelope(0.0, 1.0, logs=True, common=True)]),
    st.builds(lambda a: Envelope(a, 1 - a, common=True), st.sampled_from([-2.0, -0.5, 0.5, 1.5, 2.0, 4.0])),
)


@settings(max_examples=400, deadline=None)
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
    log_u = torch.where(envelope.logs, (a.log_mass(sign * beyond) - b.log_mass(sign * beyond)).abs(), t(0.0))
    terms = side.log_mass(envelope, beyond) + torch.log1p(log_u) + envelope.moment * (beyond - j).log()
    assert float(terms.logsumexp(-1)) <= bound + 1e-9
