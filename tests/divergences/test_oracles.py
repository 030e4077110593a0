"""Exact values against truths at 50 digits from `oracles`, which are written in mpmath and know nothing of the library.

A law is written "name parameters…", P and Q with a bar between them; divergences by name, "!" where the truth is ∞.
"""

import math
from functools import cache

import numpy as np
import pytest
import torch
import torch.distributions as td
from scipy import stats

import divergences as dv
from tests.divergences import oracles as o

mp = o.mp
SHORT = {
    "rkl": "reverse_kl",
    "tv": "total_variation",
    "h2": "squared_hellinger",
    "bc": "bhattacharyya",
    "neyman": "neyman_chi2",
    "hs": "hockey_stick",
    "ks": "kolmogorov_smirnov",
    "w1": "wasserstein",
    "energy": "energy_distance",
}
PARAMETER = {"alpha": "alpha", "renyi": "alpha", "hockey_stick": "gamma", "skew_js": "weight", "skew_kl": "weight"}


def value(name, p, q, **keywords):
    kind, a = o.split(name)
    if kind == "gan":
        return float(dv.GAN()(p, q, **keywords))
    if a is not None:
        keywords[PARAMETER[kind]] = a
    return float(getattr(dv, kind)(p, q, **keywords))


def agree(got, truth, exact):
    """Relative 1e-9 for sums and closed forms; for integrals 1e-8, absolute below 1."""
    if truth == mp.inf:
        assert got == math.inf
        return
    bound = mp.mpf("1e-9") * abs(truth) if exact else mp.mpf("1e-8") * max(1, abs(truth))
    if abs(truth) < mp.mpf("1e-40"):  # an exact 0 is met to rounding
        bound = mp.mpf(2) ** -52
    assert math.isfinite(got) and abs(mp.mpf(got) - truth) <= bound, f"{got!r}, but the truth is {mp.nstr(truth, 17)}"


def full(token):
    """The name of a divergence, and whether it is marked as infinite."""
    kind, equals, parameter = token.removeprefix("!").partition("=")
    return SHORT.get(kind, kind) + equals + parameter, token.startswith("!")


def spread(table):
    """(case, token) for every token of every row, with ids that say both."""
    rows = [(case, token) for case, tokens, *_ in table for token in tokens.split()]
    return pytest.mark.parametrize(("case", "token"), rows, ids=[f"{case}-{token}" for case, token in rows])


def T(*values):
    return [torch.tensor(v, dtype=torch.float64) for v in values]


# ------------------------------------------------------------------------------------------ probability vectors

LONG = np.arange(1, 2001) ** -1.5
EVERY = (
    "kl rkl js jeffreys tv h2 hellinger bc chi2 neyman le_cam alpha=-1.5 alpha=0 alpha=0.5 alpha=1 alpha=0.999999 "
    "alpha=1.000001 alpha=3 renyi=0 renyi=0.5 renyi=1 renyi=2 renyi=inf hs=0.5 hs=2 skew_js=0.3 skew_kl=0.3 gan"
)
NEAR = 2.0**-30
VECTORS = {
    "plain": ([0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.3, 0.2]),
    "uneven": ([1e-12, 1e-6, 0.25, 0.75 - 1.000001e-6], [0.5, 1e-9, 0.5 - 1e-9 - 1e-7, 1e-7]),
    "tiny": ([1e-300, 1e-200, 0.25, 0.75], [1e-100, 1e-300, 0.625, 0.375]),
    "zeros in p": ([0.5, 0.25, 0.25, 0.0, 0.0], [0.25, 0.25, 0.125, 0.375, 0.0]),
    "zeros in q": ([0.25, 0.25, 0.125, 0.375, 0.0], [0.5, 0.25, 0.25, 0.0, 0.0]),
    "zeros in both": ([0.5, 0.25, 0.25, 0.0], [0.5, 0.0, 0.25, 0.25]),
    "disjoint": ([0.5, 0.5, 0.0], [0.0, 0.0, 1.0]),
    "near": ([0.25, 0.125, 0.5, 0.125], [0.25 + NEAR, 0.125 - NEAR, 0.5 - NEAR, 0.125 + NEAR]),
    "long": (LONG / LONG.sum(), LONG[::-1] / LONG.sum()),
}


@cache
def paired(case):
    return o.paired(*VECTORS[case])


@spread([(name, EVERY) for name in VECTORS])
def test_probability_vectors(case, token):
    name, _ = full(token)
    agree(value(name, *VECTORS[case]), o.between_vectors(name, paired(case)), exact=True)


OWN = {
    "u log u": (lambda u: torch.special.xlogy(u, u), lambda u: u * mp.log(u) if u else mp.zero, math.inf),
    "(√u − 1)²": (lambda u: (u.sqrt() - 1) ** 2, lambda u: (mp.sqrt(u) - 1) ** 2, 1),
    "u² − 1": (lambda u: u**2 - 1, lambda u: u**2 - 1, math.inf),
    "(u − 1)²/(u + 2)": (lambda u: (u - 1) ** 2 / (u + 2), lambda u: (u - 1) ** 2 / (u + 2), 1),
}


@pytest.mark.parametrize("case", ["plain", "uneven", "zeros in p", "zeros in q", "zeros in both", "long"])
@pytest.mark.parametrize("own", OWN)
def test_a_function_of_ones_own(case, own):
    p, q = VECTORS[case]
    f, oracle, slope = OWN[own]
    truth = mp.fsum(y * oracle(x / y) if y else mp.mpf(slope) * x for x, y, _, _ in paired(case))
    agree(float(dv.FDivergence.from_f(f, name="mine")(p, q)), truth, exact=True)


# ------------------------------------------------------------------------------------------ densities on the line


def _torch(law):
    return lambda *values: law(*T(*values))


def _mixture(*numbers):
    means, deviations = numbers[::2], numbers[1::2]
    even = torch.full((len(means),), 1 / len(means), dtype=torch.float64)
    return td.MixtureSameFamily(td.Categorical(even), td.Normal(*T(means, deviations)))


def _mixed(*numbers):
    parts = [o.normal(m, s) for m, s in zip(numbers[::2], numbers[1::2], strict=True)]
    return o.mixture([1.0] * len(parts), parts)


LAWS = {
    "normal": (stats.norm, o.normal),
    "laplace": (stats.laplace, o.laplace),
    "logistic": (stats.logistic, o.logistic),
    "gumbel": (stats.gumbel_r, o.gumbel),
    "cauchy": (stats.cauchy, o.cauchy),
    "t": (lambda k, m=0.0, s=1.0: stats.t(k, m, s), lambda k, m=0.0, s=1.0: o.student(k, m, s)),
    "expon": (lambda s, low=0.0: stats.expon(low, s), o.exponential),
    "gamma": (lambda a, s, low=0.0: stats.gamma(a, low, s), o.gamma),
    "chisq": (stats.chi2, lambda k: o.gamma(k / 2, 2.0)),
    "invgamma": (lambda a, s: stats.invgamma(a, scale=s), o.inverse_gamma),
    "weibull": (lambda c, s, low=0.0: stats.weibull_min(c, low, s), o.weibull),
    "pareto": (lambda b, s: stats.pareto(b, scale=s), o.pareto),
    "beta": (stats.beta, o.beta),
    "uniform": (lambda a, b: stats.uniform(a, b - a), o.uniform),
    "triang": (stats.triang, o.triangular),
    "truncnorm": (stats.truncnorm, o.truncated_normal),
    "halfnorm": (lambda s, low=0.0: stats.halfnorm(low, s), o.half_normal),
    "halfcauchy": (lambda s: stats.halfcauchy(scale=s), o.half_cauchy),
    "vonmises": (lambda m, k: stats.vonmises(k, m), o.von_mises),
    "rayleigh": (lambda s: stats.rayleigh(scale=s), o.rayleigh),
    "maxwell": (lambda s: stats.maxwell(scale=s), o.maxwell),
    "invgauss": (lambda mu, s: stats.invgauss(mu, scale=s), lambda mu, s: o.inverse_gaussian(mu * s, s)),
    "skewnorm": (stats.skewnorm, o.skew_normal),
    "frechet": (lambda c: stats.genextreme(-c), o.extreme),
    "f": (stats.f, o.fisher),
    "t.normal": (_torch(td.Normal), o.normal),
    "t.laplace": (_torch(td.Laplace), o.laplace),
    "t.gumbel": (_torch(td.Gumbel), o.gumbel),
    "t.cauchy": (_torch(td.Cauchy), o.cauchy),
    "t.student": (_torch(td.StudentT), o.student),
    "t.expon": (lambda s: td.Exponential(*T(1 / s)), o.exponential),  # scales that are powers of two
    "t.gamma": (lambda a, s: td.Gamma(*T(a, 1 / s)), o.gamma),
    "t.chisq": (_torch(td.Chi2), lambda k: o.gamma(k / 2, 2.0)),
    "t.weibull": (lambda c, s: td.Weibull(*T(s, c)), o.weibull),
    "t.lognormal": (_torch(td.LogNormal), o.lognormal),
    "t.pareto": (lambda b, s: td.Pareto(*T(s, b)), o.pareto),
    "t.beta": (_torch(td.Beta), o.beta),
    "t.uniform": (_torch(td.Uniform), o.uniform),
    "t.halfnorm": (_torch(td.HalfNormal), o.half_normal),
    "t.halfcauchy": (_torch(td.HalfCauchy), o.half_cauchy),
    "t.invgamma": (_torch(td.InverseGamma), o.inverse_gamma),
    "t.vonmises": (_torch(td.VonMises), o.von_mises),
    "t.kumaraswamy": (_torch(td.Kumaraswamy), o.kumaraswamy),
    "t.f": (_torch(td.FisherSnedecor), o.fisher),
    "t.mix": (_mixture, _mixed),
}


def sides(case):
    """The words of P and of Q."""
    for side in case.split(" | "):
        name, *numbers = side.split()
        yield name, [float(x) for x in numbers]


@cache
def laws(case):
    return tuple(LAWS[name][0](*numbers) for name, numbers in sides(case))


@cache
def densities(case):
    return tuple(LAWS[name][1](*numbers) for name, numbers in sides(case))


LINE = [
    # normals
    ("normal 0 1 | normal 1 2", "kl rkl js jeffreys tv h2 hellinger bc chi2 !neyman le_cam alpha=0.3 alpha=1.5 "
     "!alpha=-1.5 renyi=0.5 renyi=2 hs=0.5 hs=2 skew_js=0.3 skew_kl=0.3 gan"),
    ("normal 0 1.41 | normal 0 1", "kl js tv h2 chi2 renyi=2"),
    ("normal 0 1.5 | normal 0 1", "kl js tv h2 !chi2 !renyi=2 renyi=0.5"),
    ("normal 0 0.001 | normal 0 1", "kl rkl js tv h2 chi2 renyi=2 !neyman"),
    ("normal 5 0.001 | normal 0 1", "kl js tv h2 le_cam"),
    ("normal 0 1 | normal 3 0.001", "kl js tv h2 !chi2"),
    ("normal 0 1 | normal 40 1", "kl js tv h2 renyi=0.5 bc"),
    ("normal 1000000 1 | normal 1000001 1", "kl js tv h2 chi2"),
    ("t.normal 0 1 | t.normal 0.5 3", "kl js tv h2 chi2 renyi=0.5 renyi=2 !neyman"),
    # Laplace, logistic, Gumbel
    ("laplace 0 1 | normal 0 1.5", "kl rkl js tv h2 !chi2 neyman !renyi=2 renyi=0.5"),
    ("normal 0 1 | laplace 0 1", "kl js tv h2 chi2 !neyman renyi=2"),
    ("laplace 0 1 | laplace 2 1", "kl js tv h2 chi2 renyi=0.5 renyi=2"),
    ("laplace 0 1 | laplace 1 2", "kl rkl js tv h2 chi2 !neyman"),
    ("laplace 0 1.9 | laplace 0 1", "kl js tv h2 chi2"),
    ("laplace 0 2 | laplace 0 1", "kl js tv h2 !chi2 !renyi=2"),
    ("t.laplace 1 0.5 | t.normal 0 1", "kl js tv h2 !chi2"),
    ("logistic 0 1 | logistic 2 1", "kl js tv h2 chi2 neyman renyi=2"),
    ("logistic 0 1 | laplace 0 1", "kl js tv h2 chi2"),
    ("logistic 0 1 | normal 0 2", "kl js tv h2 !chi2"),
    ("normal 0 2 | logistic 0 1", "kl js tv h2 chi2"),
    ("gumbel 0 1 | gumbel 1 2", "kl rkl js tv h2 chi2 !neyman"),
    ("gumbel 0 1 | normal 0.5 1.3", "kl js tv h2 !chi2"),
    ("normal 0 1 | gumbel 0 1", "kl js tv h2 !chi2"),
    ("t.gumbel 0 1 | t.gumbel 0.5 0.75", "kl js tv h2"),
    # Cauchy and Student
    ("cauchy 0 1 | cauchy 1 1", "kl js tv h2 chi2 neyman renyi=2 renyi=0.5"),
    ("cauchy 0 1 | cauchy 3 0.5", "kl js tv h2 chi2"),
    ("cauchy 0 1 | cauchy 1000 1", "kl js tv h2 chi2"),
    ("cauchy 0 1 | normal 0 1", "!kl rkl js tv h2 !chi2 !renyi=2 renyi=0.5 neyman"),
    ("normal 0 1 | cauchy 0 1", "kl js tv h2 chi2 !neyman"),
    ("cauchy 0 1 | laplace 0 1", "!kl js tv h2 !chi2"),
    ("t 2 | normal 0 1", "!kl js tv h2 !chi2 !renyi=2 renyi=0.5"),
    ("t 3 | normal 0 1", "kl rkl js tv h2 !chi2"),
    ("t 1.5 | logistic 0 1", "kl js tv h2 !chi2"),
    ("t 5 | t 3 1 2", "kl rkl js tv h2 chi2 neyman"),
    ("t 3 | t 5", "kl js tv h2 chi2"),
    ("t 3 | t 7", "kl js tv h2 !chi2"),
    ("t 0.7 | cauchy 0 1", "kl js tv h2 chi2"),
    ("t.student 4 0 1 | t.cauchy 0 1", "kl js tv h2 chi2"),
    # exponential, gamma, Weibull and their kin
    ("expon 0.0625 | expon 1", "kl rkl js tv h2 chi2 !neyman"),
    ("expon 1 | expon 0.5", "kl js tv h2 !chi2 !renyi=2"),
    ("expon 1 | expon 0.50048828125", "kl js tv h2 chi2"),
    ("expon 1 2 | expon 1 0", "kl !rkl js tv h2 chi2 !neyman bc"),
    ("expon 1 1 | normal 0 2", "kl !rkl js tv h2 !chi2"),
    ("expon 1 | normal 0 1", "kl !rkl js tv h2 !chi2 !neyman"),
    ("t.expon 1 | t.expon 4", "kl js tv h2 chi2 renyi=0.5 renyi=2"),
    ("gamma 2 1 | gamma 3 1.5", "kl rkl js tv h2 chi2 neyman"),
    ("gamma 2 1 | gamma 3 2.5", "kl js tv h2 chi2 !neyman"),
    ("gamma 0.3 1 | gamma 2 1", "kl js tv h2 !chi2"),
    ("gamma 0.3 1 | weibull 0.7 1", "kl js tv h2 !chi2"),
    ("gamma 2 1 5 | gamma 3 1 4", "kl !rkl js tv h2"),
    ("gamma 50 0.1 | normal 5 0.7", "kl !rkl js tv h2 !chi2"),
    ("t.gamma 2.5 0.5 | t.lognormal 0 1", "kl js tv h2"),
    ("chisq 3 | chisq 5", "kl js tv h2 chi2"),
    ("t.chisq 4 | t.gamma 2 1", "kl js tv h2 !chi2 neyman"),
    ("weibull 1.5 1 | weibull 2 2", "kl rkl js tv h2 !chi2"),
    ("weibull 0.5 1 | expon 1", "kl js tv h2 !chi2"),
    ("expon 1 | weibull 0.5 1", "kl js tv h2 chi2"),
    ("weibull 1.5 1 2 | gamma 2 1", "kl !rkl js tv h2"),
    ("t.weibull 3 2 | t.weibull 2 1", "kl js tv h2"),
    ("invgamma 3 2 | invgamma 2 1", "kl js tv h2 chi2"),
    ("invgamma 2 1 | invgamma 3 2.5", "kl js tv h2 !chi2"),
    ("t.invgamma 3 2 | t.lognormal 0 1", "kl js tv h2 !chi2"),
    ("t.lognormal 0 1 | t.lognormal 0.5 1.5", "kl rkl js tv h2 chi2 !neyman renyi=2"),
    ("t.lognormal 0 0.5 | t.gamma 3 0.5", "kl js tv h2 !chi2"),
    ("rayleigh 1 | rayleigh 2", "kl rkl js tv h2 chi2 !neyman"),
    ("rayleigh 1 | maxwell 1", "kl js tv h2 chi2 neyman"),
    ("rayleigh 1 | halfnorm 1", "kl js tv h2 chi2"),
    ("maxwell 1 | gamma 3 0.6", "kl js tv h2 chi2"),
    ("invgauss 0.5 2 | expon 1", "kl js tv h2"),
    ("halfnorm 1 | halfnorm 2", "kl rkl js tv h2 chi2 !neyman"),
    ("halfnorm 1 | normal 0 1", "kl !rkl js tv h2 chi2 !neyman bc"),
    ("halfnorm 1 | expon 1", "kl js tv h2 chi2 !neyman"),
    ("halfnorm 1 0.5 | cauchy 0 1", "kl !rkl js tv h2 chi2"),
    ("t.halfnorm 1 | t.halfcauchy 1", "kl !rkl js tv h2 chi2"),
    ("halfcauchy 1 | halfcauchy 3", "kl js tv h2 chi2"),
    ("halfcauchy 1 | expon 1", "!kl js tv h2 !chi2"),
    ("expon 1 | halfcauchy 1", "kl js tv h2 chi2"),
    ("f 5 8 | chisq 3", "kl js tv h2 !chi2"),
    ("t.f 6 7 | t.halfcauchy 1", "kl js tv h2 chi2"),
    # Pareto
    ("pareto 2 1 | pareto 3 1", "kl rkl js tv h2 chi2 neyman"),
    ("pareto 1.5 1 | pareto 3 1", "kl js tv h2 !chi2"),
    ("pareto 2 2 | pareto 3 1", "kl !rkl js tv h2 chi2 !neyman"),
    ("pareto 2 1 | pareto 3 2", "!kl rkl js tv h2 !chi2"),
    ("pareto 1 1 | expon 1", "!kl !rkl js tv h2 !chi2"),
    ("pareto 2 1 | expon 1", "kl !rkl js tv h2 !chi2"),
    ("pareto 3 1 | cauchy 0 1", "kl !rkl js tv h2 chi2"),
    ("t.pareto 2.5 1 | t.pareto 2 1", "kl js tv h2 chi2"),
    # bounded supports
    ("beta 2 3 | beta 4 1.5", "kl rkl js tv h2"),
    ("beta 0.5 0.5 | beta 2 2", "kl rkl js tv h2 !chi2 neyman"),
    ("beta 0.5 0.5 | uniform 0 1", "kl js tv h2 !chi2 neyman"),
    ("beta 0.1 0.1 | beta 5 5", "kl rkl js tv h2 !chi2 neyman"),
    ("beta 5 5 | beta 0.1 0.1", "kl js tv h2 chi2"),
    ("beta 0.5 0.5 3 2 | uniform 3 5", "kl js tv h2"),
    ("beta 30 2 | beta 2 30", "kl js tv h2"),
    ("beta 2 2 | normal 0.5 0.3", "kl !rkl js tv h2 chi2"),
    ("t.beta 0.5 3 | t.uniform 0 1", "kl js tv h2"),
    ("t.beta 2 5 | t.kumaraswamy 2 3", "kl js tv h2"),
    ("uniform 0 0.5 | uniform 0 1", "kl !rkl js tv h2 chi2 !neyman bc renyi=2 hs=0.5"),
    ("uniform 0 2 | uniform 1 4", "!kl !rkl js tv h2 !chi2 !neyman bc renyi=0.5 !renyi=2"),
    ("uniform 0 1 | uniform 2 3", "!kl !rkl js tv h2 !chi2 !bc !renyi=0.5 le_cam gan"),
    ("uniform 0 1 | uniform 1 2", "!kl js tv h2 !chi2 !bc"),
    ("uniform -1 1 | normal 0 1", "kl !rkl js tv h2 chi2"),
    ("normal 0 1 | uniform -1 1", "!kl rkl js tv h2 !chi2"),
    ("uniform 0 0.001 | normal 0 1", "kl js tv h2 chi2"),
    ("uniform -1 1 | laplace 0 1", "kl js tv h2 chi2"),
    ("uniform 2 3 | t 3", "kl js tv h2 chi2"),
    ("triang 0.25 0 1 | triang 0.75 0 1", "kl js tv h2 chi2"),
    ("triang 0.5 0 2 | uniform 0 2", "kl rkl js tv h2 chi2 !neyman"),
    ("triang 0.5 -1 2 | normal 0 0.5", "kl !rkl js tv h2 chi2"),
    ("truncnorm -1 2 0 1 | normal 0 1", "kl !rkl js tv h2 chi2"),
    ("truncnorm -1 2 0 1 | truncnorm -2 1 0 1", "!kl !rkl js tv h2"),
    ("truncnorm -1 1 0 1 | uniform -1 1", "kl rkl js tv h2 chi2 neyman"),
    ("vonmises 0 2 | vonmises 0 0.5", "kl rkl js tv h2 chi2"),
    ("t.vonmises 0 3 | t.vonmises 1 3", "kl js tv h2 chi2"),
    # mixtures, skewness
    ("t.mix -2 1 2 1 | t.normal 0 2.25", "kl rkl js tv h2 chi2"),
    ("t.mix -10 0.1 10 0.1 | t.normal 0 10", "kl js tv h2 chi2"),
    ("t.mix -3 1 3 1 | t.mix -2.5 1 3.5 0.75", "kl js tv h2"),
    ("t.mix 0 1 0 0.01 | t.normal 0 1", "kl rkl js tv h2 chi2"),
    ("t.normal 0 1 | t.mix 0 1 0 0.01", "kl js tv h2 chi2 skew_kl=0.3 skew_js=0.3"),
    ("t.mix 0 0.5 5 2 9 0.125 | t.normal 1 3", "kl js tv h2"),
    ("t.mix 0 1 4 1 | t.laplace 2 1", "kl rkl js tv h2"),
    ("skewnorm 4 | normal 0 1", "kl rkl js tv h2 chi2"),
    ("frechet 0.2 | gumbel 0 1", "kl js tv h2"),
]  # fmt: skip


@cache
def finite(case):
    names = dict(full(token) for token in dict(LINE)[case].split())
    return o.on_the_line([name for name, infinite in names.items() if not infinite], *densities(case))


def on_the_line(case, token):
    name, infinite = full(token)
    return mp.inf if infinite else finite(case)[name]


@spread(LINE)
def test_densities_on_the_line(case, token):
    agree(value(full(token)[0], *laws(case)), on_the_line(case, token), exact=False)


CLOSED = ("kl", "reverse_kl", "squared_hellinger", "bhattacharyya", "chi2", "neyman_chi2", "alpha", "renyi")
SAME = [
    (case, " ".join(token for token in tokens.split() if o.split(full(token)[0])[0] in CLOSED))
    for case, tokens in LINE
    if len({name for name, _ in sides(case)}) == 1 and "mix" not in case
]


@spread(SAME)
def test_quadrature_where_there_may_be_a_closed_form(case, token):
    agree(value(full(token)[0], *laws(case), method="quadrature"), on_the_line(case, token), exact=False)


# Rényi at the ends, −log Q(p > 0) and log sup p/q, and where the integral itself leaves the range of floats.
ENDS = [
    ("normal 0 1 | normal 40 1", 2, mp.mpf(1600)),
    ("uniform 0 0.5 | uniform 0 1", 0, mp.ln2),
    ("uniform 0 0.5 | uniform 0 1", math.inf, mp.ln2),
    ("uniform 0 1 | uniform 2 3", 0, mp.inf),
    ("uniform 0 2 | uniform 1 4", 0, mp.log(3)),
    ("uniform 0 2 | uniform 1 4", math.inf, mp.inf),
    ("expon 1 2 | expon 1 0", 0, mp.mpf(2)),
    ("expon 1 2 | expon 1 0", math.inf, mp.mpf(2)),
    ("normal 0 1 | normal 1 2", 0, mp.mpf(0)),
    ("normal 0 1 | normal 1 2", math.inf, mp.ln2 + mp.mpf(1) / 6),
    ("normal 0 1 | normal 1 1", math.inf, mp.inf),
    ("laplace 0 1 | laplace 2 1", math.inf, mp.mpf(2)),
    ("cauchy 0 1 | normal 0 1", math.inf, mp.inf),
    ("cauchy 0 1 | cauchy 1 1", math.inf, mp.log((3 + mp.sqrt(5)) / 2)),
    ("halfnorm 1 | normal 0 1", math.inf, mp.ln2),
    ("pareto 3 1 | pareto 2 1", math.inf, mp.log(1.5)),
    ("t.mix -2 1 2 1 | t.mix -2 1 2 2", math.inf, None),
]


@pytest.mark.parametrize(("case", "alpha", "truth"), ENDS, ids=[f"{case}-{alpha}" for case, alpha, _ in ENDS])
def test_renyi_at_the_extremes(case, alpha, truth):
    if truth is None:  # the highest ratio by its stationary points
        p, q = densities(case)
        slope = lambda x: mp.diff(lambda y: p.log(y) - q.log(y), x)  # noqa: E731
        truth = max(p.log(x) - q.log(x) for x in o.roots(slope, [-12, -6, -2, 0, 2, 6]))
    agree(value(f"renyi={alpha}", *laws(case)), truth, exact=False)


@pytest.mark.parametrize("case", ["normal 0 1 | normal 1 2", "uniform 0 0.5 | uniform 0 1", "t 3 | normal 0 1"])
def test_a_function_of_ones_own_on_the_line(case):
    mine = dv.FDivergence.from_f(lambda u: torch.special.xlogy(u, u), name="mine")
    agree(float(mine(*laws(case))), on_the_line(case, "kl"), exact=False)


# ------------------------------------------------------------------------------------------ exponential families


def _stick(values):
    return [mp.mpf(v) for v in values]


def _rate(scale):
    return 1 / mp.mpf(scale)


def _go(p):
    return [mp.log(1 - mp.mpf(p))]


USUAL = "kl rkl jeffreys bc h2 hellinger renyi=0.5 renyi=1 alpha=0.3 alpha=0 alpha=1"
ABOVE = " chi2 renyi=2 alpha=1.5"
BELOW = " neyman alpha=-0.5"
FAMILIES = {
    "gamma": (stats.gamma(2.5, scale=0.5), stats.gamma(4, scale=0.75), o.GAMMA, [2.5, 2], [4, _rate(0.75)],
              USUAL + ABOVE),
    "gamma of torch": (td.Gamma(*T(3.0, 2.0)), td.Gamma(*T(2.0, 1.5)), o.GAMMA, [3, 2], [2, 1.5],
                       USUAL + ABOVE + BELOW),
    "gamma, infinite": (td.Gamma(*T(0.5, 1.0)), td.Gamma(*T(2.0, 3.0)), o.GAMMA, [0.5, 1], [2, 3], USUAL + ABOVE),
    "beta": (stats.beta(2.5, 3), stats.beta(4, 1.5), o.BETA, [2.5, 3], [4, 1.5], USUAL + ABOVE),
    "beta of torch": (td.Beta(*T(0.5, 0.5)), td.Beta(*T(0.75, 0.6)), o.BETA, [0.5, 0.5], [0.75, mp.mpf(0.6)],
                      USUAL + ABOVE + BELOW),
    "beta, infinite": (stats.beta(0.1, 0.1), stats.beta(5, 5), o.BETA, [mp.mpf(0.1)] * 2, [5, 5],
                       USUAL + ABOVE + BELOW),
    "exponential": (stats.expon(scale=0.125), stats.expon(), o.EXPONENTIAL, [8], [1], USUAL + ABOVE + BELOW),
    "exponential of torch": (td.Exponential(*T(1.0)), td.Exponential(*T(1.9)), o.EXPONENTIAL, [1], [mp.mpf(1.9)],
                             USUAL + ABOVE + BELOW),
    "Pareto, one scale": (td.Pareto(*T(2.0, 3.0)), td.Pareto(*T(2.0, 2.5)), o.EXPONENTIAL, [3], [2.5],
                          USUAL + ABOVE + BELOW),
    "Laplace, one centre": (td.Laplace(*T(1.0, 2.0)), td.Laplace(*T(1.0, 1.25)), o.EXPONENTIAL, [0.5], [_rate(1.25)],
                            USUAL + ABOVE + BELOW),
    "Weibull, one shape": (stats.weibull_min(2, scale=1), stats.weibull_min(2, scale=1.25), o.EXPONENTIAL, [1],
                           [_rate(1.25) ** 2], USUAL + ABOVE + BELOW),
    "Rayleigh": (stats.rayleigh(scale=1), stats.rayleigh(scale=1.25), o.EXPONENTIAL, [1], [_rate(1.25) ** 2],
                 USUAL + ABOVE + BELOW),
    "half-normal": (td.HalfNormal(*T(1.0)), td.HalfNormal(*T(1.25)), o.times(0.5, o.EXPONENTIAL), [1],
                    [_rate(1.25) ** 2], USUAL + ABOVE + BELOW),
    "chi-squared": (stats.chi2(3), stats.chi2(5), o.GAMMA, [1.5, 0.5], [2.5, 0.5], USUAL + ABOVE + BELOW),
    "inverse gamma": (stats.invgamma(3, scale=2), stats.invgamma(4, scale=3), o.GAMMA, [3, 2], [4, 3], USUAL + ABOVE),
    "von Mises": (td.VonMises(*T(0.0, 3.0)), td.VonMises(*T(1.0, 2.0)), o.VON_MISES, [3, 0],
                  [2 * mp.cos(1), 2 * mp.sin(1)], "kl rkl bc h2"),
    "Dirichlet": (td.Dirichlet(T([1.0, 2.0, 3.5])[0]), td.Dirichlet(T([2.0, 2.5, 1.5])[0]), o.DIRICHLET, [1, 2, 3.5],
                  [2, 2.5, 1.5], USUAL + ABOVE),
    "Dirichlet of scipy": (stats.dirichlet([0.5, 0.75, 1, 2]), stats.dirichlet([0.6, 0.9, 1, 1]), o.DIRICHLET,
                           _stick([0.5, 0.75, 1, 2]), _stick([0.6, 0.9, 1, 1]), USUAL + ABOVE),
    "Poisson": (td.Poisson(*T(3.0)), td.Poisson(*T(4.5)), o.POISSON, [mp.log(3)], [mp.log(4.5)], USUAL + ABOVE + BELOW),
    "Poisson of scipy": (stats.poisson(300), stats.poisson(320), o.POISSON, [mp.log(300)], [mp.log(320)],
                         USUAL + ABOVE + BELOW),
    "geometric": (td.Geometric(*T(0.3)), td.Geometric(*T(0.5)), o.GEOMETRIC, _go(0.3), _go(0.5), USUAL + ABOVE),
    "geometric of scipy": (stats.geom(0.2), stats.geom(0.5), o.GEOMETRIC, _go(0.2), _go(0.5), USUAL + ABOVE + BELOW),
    "negative binomial": (td.NegativeBinomial(*T(4.0, 0.4)), td.NegativeBinomial(*T(4.0, 0.6)),
                          o.times(4, o.GEOMETRIC), o.logs([0.4]), o.logs([0.6]), USUAL + ABOVE + BELOW),
    "negative binomial of scipy": (stats.nbinom(2.5, 0.3), stats.nbinom(2.5, 0.45), o.times(2.5, o.GEOMETRIC),
                                   _go(0.3), _go(0.45), USUAL + ABOVE + BELOW),
    "Bernoulli": (td.Bernoulli(*T(0.3)), td.Bernoulli(*T(0.65)), o.BERNOULLI, o.logit(0.3), o.logit(0.65),
                  USUAL + ABOVE + BELOW),
    "Bernoulli of scipy": (stats.bernoulli(1e-9), stats.bernoulli(1e-6), o.BERNOULLI, o.logit(1e-9), o.logit(1e-6),
                           "kl rkl jeffreys renyi=0.5 renyi=2 chi2"),
    "binomial": (td.Binomial(12, *T(0.3)), td.Binomial(12, *T(0.65)), o.times(12, o.BERNOULLI), o.logit(0.3),
                 o.logit(0.65), USUAL + ABOVE + BELOW),
    "binomial of scipy": (stats.binom(400, 0.5), stats.binom(400, 0.55), o.times(400, o.BERNOULLI), o.logit(0.5),
                          o.logit(0.55), USUAL + ABOVE + BELOW),
    "categorical": (td.Categorical(T([0.1, 0.2, 0.3, 0.4])[0]), td.Categorical(T([0.25, 0.25, 0.25, 0.25])[0]),
                    o.CATEGORICAL, o.logs([0.1, 0.2, 0.3, 0.4]), o.logs([0.25] * 4), USUAL + ABOVE + BELOW),
}  # fmt: skip


@spread([(name, row[-1]) for name, row in FAMILIES.items()])
def test_exponential_families(case, token):
    p, q, family, one, other, _ = FAMILIES[case]
    name, _ = full(token)
    truth = o.between_members(name, family, [mp.mpf(x) for x in one], [mp.mpf(x) for x in other])
    agree(value(name, p, q), truth, exact=case != "von Mises")  # which torch itself knows to eight digits


# ------------------------------------------------------------------------------------------ Gaussians

ROTATED = [[2.0, 0.6, -0.3], [0.6, 1.0, 0.2], [-0.3, 0.2, 0.5]]
OTHER = [[1.5, -0.4, 0.1], [-0.4, 2.0, 0.3], [0.1, 0.3, 0.75]]
MOMENTS = {
    "d=1": (([0.5], [[1.5]]), ([0.0], [[2.0]])),
    "d=2": (([1.0, 0.0], [[1.0, 0.5], [0.5, 1.0]]), ([0.0, 0.5], [[1.0, -0.25], [-0.25, 0.75]])),
    "d=3": (([1.0, 0.0, -0.5], ROTATED), ([0.0, 0.25, 0.0], OTHER)),
    "d=3, one covariance": (([1.0, 0.0, -0.5], ROTATED), ([0.0, 0.25, 0.0], ROTATED)),
    "d=2, thin": (([0.0, 0.0], [[1.0, 0.999], [0.999, 1.0]]), ([0.5, -0.5], [[1.0, 0.0], [0.0, 1.0]])),
    "d=2, infinite": (([0.0, 0.0], [[2.0, 0.5], [0.5, 1.0]]), ([0.0, 0.0], [[0.5, 0.0], [0.0, 1.0]])),
    "d=2, near": (([0.0, 0.0], [[1.0, 0.5], [0.5, 1.0]]), ([0.0, NEAR], [[1.0, 0.5], [0.5, 1.0 + NEAR]])),
}
EVERY_GAUSSIAN = (
    "kl rkl jeffreys bc h2 hellinger chi2 neyman alpha=-1.5 alpha=0 alpha=0.3 alpha=1 alpha=3 renyi=0.5 renyi=1 "
    "renyi=2 renyi=3"
)


def _gaussian(mean, covariance):
    return td.MultivariateNormal(*T(mean, covariance))


@spread([(name, EVERY_GAUSSIAN) for name in MOMENTS if name != "d=2, near"] + [("d=2, near", "kl bc h2 chi2 renyi=2")])
def test_gaussians(case, token):
    p, q = MOMENTS[case]
    name, _ = full(token)
    truth = o.between_gaussians(name, o.gaussian(*p), o.gaussian(*q))
    agree(value(name, _gaussian(*p), _gaussian(*q)), truth, exact=case != "d=2, near")


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "bhattacharyya", "chi2"])
def test_gaussians_of_scipy(name):
    p, q = MOMENTS["d=3"]
    truth = o.between_gaussians(name, o.gaussian(*p), o.gaussian(*q))
    agree(value(name, stats.multivariate_normal(*p), stats.multivariate_normal(*q)), truth, exact=True)


@pytest.mark.parametrize("token", ["js", "tv", "le_cam", "hs=2", "skew_js=0.3", "skew_kl=0.3"])
def test_gaussians_of_one_covariance_are_a_problem_on_the_line(token):
    (mean, covariance), (other, _) = MOMENTS["d=3, one covariance"]
    gap = o.column(mean) - o.column(other)
    distance = mp.sqrt((gap.T * o.matrix(covariance) ** -1 * gap)[0])
    name, _ = full(token)
    truth = o.on_the_line([name], o.normal(0, 1), o.normal(distance, 1))[name]
    agree(value(name, _gaussian(mean, covariance), _gaussian(other, covariance)), truth, exact=False)


@pytest.mark.parametrize("case", MOMENTS)
def test_bures(case):
    p, q = MOMENTS[case]
    truth = o.between_gaussians("bures", o.gaussian(*p), o.gaussian(*q))
    near = case == "d=2, near"
    agree(float(dv.wasserstein(_gaussian(*p), _gaussian(*q), order=2)), truth, exact=not near)


KERNELS = {
    "Gaussian": (lambda: dv.kernels.Gaussian(1.25), lambda p, q: o.between_gaussians_by_kernel("gaussian", p, q, 1.25)),
    "Gaussians": (
        lambda: dv.kernels.Gaussian((0.5, 1.0, 4.0)),
        lambda p, q: sum(o.between_gaussians_by_kernel("gaussian", p, q, h) for h in (0.5, 1, 4)) / 3,
    ),
    "sum": (
        lambda: dv.kernels.Gaussian(0.5) + dv.kernels.Gaussian(2.0),
        lambda p, q: sum(o.between_gaussians_by_kernel("gaussian", p, q, h) for h in (0.5, 2)),
    ),
    "product": (
        lambda: dv.kernels.Gaussian(1.0) * dv.kernels.Gaussian(2.0),
        lambda p, q: o.between_gaussians_by_kernel("gaussian", p, q, 1 / mp.sqrt(1.25)),
    ),
    "product of mixtures": (
        lambda: dv.kernels.Gaussian((1.0, 2.0)) * dv.kernels.Gaussian(0.5),
        lambda p, q: (
            sum(o.between_gaussians_by_kernel("gaussian", p, q, 1 / mp.sqrt(4 + 1 / h**2)) for h in (1, mp.mpf(2))) / 2
        ),
    ),
    "polynomial 1": (
        lambda: dv.kernels.Polynomial(1, 0.5),
        lambda p, q: o.between_gaussians_by_polynomial(1, 0.5, p, q),
    ),
    "polynomial 2": (lambda: dv.kernels.Polynomial(2, 1.0), lambda p, q: o.between_gaussians_by_polynomial(2, 1, p, q)),
    "polynomial 3": (
        lambda: dv.kernels.Polynomial(3, 0.5),
        lambda p, q: o.between_gaussians_by_polynomial(3, 0.5, p, q),
    ),
    "distance": (lambda: dv.kernels.DistanceInduced(), lambda p, q: o.between_gaussians_by_kernel("energy", p, q)),
    "distance 1.5": (
        lambda: dv.kernels.DistanceInduced(1.5),
        lambda p, q: o.between_gaussians_by_kernel("energy", p, q, 1.5),
    ),
    "Laplace": (lambda: dv.kernels.Laplace(1.5), lambda p, q: o.between_gaussians_by_kernel("laplace", p, q, 1.5)),
    "Laplaces": (
        lambda: dv.kernels.Laplace((0.5, 2.0)),
        lambda p, q: sum(o.between_gaussians_by_kernel("laplace", p, q, h) for h in (0.5, 2)) / 2,
    ),
    "inverse multiquadric": (
        lambda: dv.kernels.InverseMultiquadric(2.0),
        lambda p, q: o.between_gaussians_by_kernel("imq", p, q, 2),
    ),
    "rational quadratic": (
        lambda: dv.kernels.RationalQuadratic(1.5, 0.75),
        lambda p, q: o.between_gaussians_by_kernel("rq", p, q, 1.5, 0.75),
    ),
}
SUMS = "Gaussian", "Gaussians", "sum", "product", "product of mixtures", "polynomial 1", "polynomial 2", "polynomial 3"
MMDS = [(kernel, case) for kernel in KERNELS for case in ("d=1", "d=3", *(("d=2", "d=2, thin") * (kernel in SUMS)))]


@pytest.mark.parametrize(("kernel", "case"), MMDS)
def test_mmd_between_gaussians(case, kernel):
    p, q = MOMENTS[case]
    build, oracle = KERNELS[kernel]
    truth = oracle(o.gaussian(*p), o.gaussian(*q))
    agree(float(dv.mmd(_gaussian(*p), _gaussian(*q), build())), truth, exact=kernel in SUMS)


@pytest.mark.parametrize("case", ["d=1", "d=2", "d=3", "d=3, one covariance", "d=2, thin"])
def test_energy_distance_between_gaussians(case):
    p, q = MOMENTS[case]
    truth = o.between_gaussians_by_kernel("energy", o.gaussian(*p), o.gaussian(*q))
    agree(float(dv.energy_distance(_gaussian(*p), _gaussian(*q))), truth, exact=False)


# ------------------------------------------------------------------------------------------ countable laws

COUNTED = {
    "poisson": (stats.poisson, o.poisson),
    "geom": (stats.geom, lambda p: o.geometric(p, 1)),
    "nbinom": (stats.nbinom, o.negative_binomial),
    "binom": (lambda n, p: stats.binom(int(n), p), o.binomial),
    "t.poisson": (_torch(td.Poisson), o.poisson),
    "t.geom": (_torch(td.Geometric), o.geometric),
    "t.nbinom": (_torch(td.NegativeBinomial), lambda n, p: o.negative_binomial(n, 1 - p)),
}
COUNTABLE = [
    ("poisson 3 | poisson 5", "kl rkl js jeffreys h2 hellinger bc tv chi2 neyman le_cam renyi=0.5 renyi=2 alpha=0.3 "
     "alpha=3 hs=2 skew_js=0.3 skew_kl=0.3 gan ks w1 energy"),
    ("t.poisson 3 | t.poisson 5", "kl js hellinger tv chi2 renyi=0.5 renyi=2 ks w1 energy"),
    ("poisson 300 | poisson 320", "kl js h2 tv chi2 renyi=2 ks w1 energy"),
    ("poisson 0.01 | poisson 20", "kl rkl js h2 tv chi2 renyi=0.5 ks w1 energy"),
    ("poisson 3 | poisson 3.001", "kl js h2 tv chi2 ks w1"),
    ("poisson 3 2 | poisson 4", "kl !rkl js h2 tv chi2 !neyman ks w1 energy"),
    ("geom 0.3 | geom 0.5", "kl rkl js h2 tv chi2 renyi=0.5 renyi=2 ks w1 energy"),
    ("geom 0.2 | geom 0.5", "kl js h2 tv !chi2 !renyi=2 neyman ks w1 energy"),
    ("t.geom 0.3 | t.geom 0.5", "kl js hellinger tv chi2 renyi=0.5 renyi=2 ks w1 energy"),
    ("t.geom 0.05 | t.geom 0.0625", "kl js h2 tv chi2 ks w1 energy"),
    ("nbinom 4 0.4 | nbinom 4 0.6", "kl js h2 tv chi2 renyi=2 ks w1 energy"),
    ("nbinom 3 0.5 | nbinom 5.5 0.6", "kl rkl js h2 tv chi2 ks w1 energy"),
    ("nbinom 3 0.2 | nbinom 5 0.6", "kl js h2 tv !chi2 !renyi=2 renyi=0.5 ks w1 energy"),
    ("t.nbinom 4 0.25 | t.nbinom 2.5 0.5", "kl js hellinger tv chi2 ks w1 energy"),
    ("poisson 3 | geom 0.3", "!kl rkl js h2 tv !chi2 !neyman ks w1 energy"),
    ("t.poisson 3 | t.geom 0.3", "kl rkl js h2 tv chi2 !neyman renyi=0.5 renyi=2 ks w1 energy"),
    ("nbinom 2 0.05 | poisson 40", "kl js h2 tv !chi2 renyi=0.5 ks w1 energy"),
    ("poisson 40 | nbinom 2 0.05", "kl js h2 tv chi2 ks w1 energy"),
    ("nbinom 4 0.4 | poisson 6", "kl rkl js h2 tv !chi2 neyman ks w1"),
    ("binom 10 0.3 | poisson 3", "kl !rkl js h2 tv chi2 !neyman ks w1 energy"),
    ("binom 200 0.015 | poisson 3", "kl js h2 tv chi2 ks w1 energy"),
    ("binom 10 0.3 | binom 20 0.2", "kl !rkl js h2 tv chi2 ks w1 energy"),
]  # fmt: skip


@cache
def counted(case):
    rows = [(COUNTED[name], numbers) for name, numbers in sides(case)]
    return tuple(law(*numbers) for (law, _), numbers in rows), tuple(law(*numbers) for (_, law), numbers in rows)


@cache
def summed(case):
    names = dict(full(token) for token in dict(COUNTABLE)[case].split())
    return o.between_counts([name for name, infinite in names.items() if not infinite], *counted(case)[1])


@spread(COUNTABLE)
def test_countable_laws(case, token):
    name, infinite = full(token)
    agree(value(name, *counted(case)[0]), mp.inf if infinite else summed(case)[name], exact=True)


# ------------------------------------------------------------------------------------------ transport and functions

TRANSPORT = [  # the second law needs a quantile function
    ("normal 0 1 | normal 1 2", "1 2 3"),
    ("t.normal 0 1 | t.normal 0.25 1", "1 2 3"),
    ("normal 0 1 | logistic 0.5 1", "1 2 3"),
    ("normal 0 1 | laplace 0 1", "1 2 3"),
    ("normal 0 1 | gumbel 0 1", "1 2"),
    ("normal 0 0.001 | uniform -1 1", "1 2"),
    ("expon 1 | expon 2", "1 2 3"),
    ("expon 1 | normal 1 1", "1 2 3"),
    ("expon 1 2 | weibull 1.5 1", "1 2 3"),
    ("uniform 0 1 | uniform 0.5 3", "1 2 3"),
    ("uniform 0 1 | uniform 5 6", "1 2 3"),
    ("uniform 0 1 | expon 1", "1 2 3"),
    ("t.laplace 0 1 | t.laplace 1 0.5", "1 2 3"),
    ("gamma 2 1 | expon 2", "1 2"),
    ("gamma 3 1 | weibull 2 3", "1 2 3"),
    ("halfnorm 1 | rayleigh 1", "1 2 3"),
    ("pareto 5 1 | pareto 4 1", "1 2 3"),
    ("pareto 3 1 | pareto 2.5 1", "1 2"),
    ("t.lognormal 0 0.5 | t.lognormal 0.25 0.25", "1 2"),
    ("t.mix -2 1 2 1 | t.normal 0 2", "1 2 3"),
    ("cauchy 0 1 | normal 0 1", "!1 !2"),
    ("t 2 | normal 0 1", "!2 !3"),
    ("t 3 | normal 0 1", "!3"),
    ("pareto 3 1 | expon 1", "!3"),
    ("pareto 1 1 | uniform 0 1", "!1"),
]


@cache
def moved(case):
    orders = [int(token) for token in dict(TRANSPORT)[case].split() if not token.startswith("!")]
    return o.wasserstein(orders, *densities(case))


@spread(TRANSPORT)
def test_wasserstein_on_the_line(case, token):
    order = int(token.removeprefix("!"))
    truth = mp.inf if token.startswith("!") else moved(case)[order]
    agree(float(dv.wasserstein(*laws(case), order=order)), truth, exact=False)


@pytest.mark.parametrize("case", ["normal 0 1 | logistic 0.5 1", "expon 1 | normal 1 1", "uniform 0 1 | expon 1"])
def test_the_two_oracles_of_order_one_agree(case):
    assert abs(moved(case)[1] - o.wasserstein_1(*densities(case))) < mp.mpf("1e-14")


POINTS = {
    "at the mean": ([0.5], [1.0]),
    "far": ([-7.0], [1.0]),
    "five": ([-1.0, 0.0, 0.25, 1.5, 4.0], [0.125, 0.25, 0.125, 0.375, 0.125]),
}


@cache
def collected(points, law):
    return o.wasserstein_to_points([1, 2, 3], *densities(law), *POINTS[points])


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("law", ["normal 0 1", "t.normal 1 2", "expon 1", "uniform 0 2", "logistic 1 0.5"])
@pytest.mark.parametrize("points", POINTS)
def test_wasserstein_from_points_to_a_density(points, law, order):
    x, w = POINTS[points]
    given, truth = dv.PointMass(x[0]) if len(x) == 1 else dv.Empirical(x, w), collected(points, law)[order]
    agree(float(dv.wasserstein(*laws(law), given, order=order)), truth, exact=False)
    agree(float(dv.wasserstein(given, *laws(law), order=order)), truth, exact=False)


FUNCTIONS = [
    "normal 0 1 | normal 1 2",
    "t.normal 0 1 | t.normal 1 1",
    "normal 0 0.001 | normal 0 1",
    "normal 0 1 | laplace 0 1",
    "laplace 0 1 | logistic 1 2",
    "gumbel 0 1 | logistic 0 1",
    "expon 1 | expon 3",
    "expon 1 | uniform 0 1",
    "expon 1 1 | normal 0 2",
    "gamma 2 1 | weibull 1.5 2",
    "uniform 0 2 | uniform 1 4",
    "uniform 0 1 | uniform 2 3",
    "pareto 3 1 | expon 1",
    "halfnorm 1 | rayleigh 1",
    "t.lognormal 0 1 | t.weibull 1.5 1",
    "t.mix -2 1 2 1 | t.normal 0 2",
]


@pytest.mark.parametrize("case", [*FUNCTIONS, "cauchy 0 1 | normal 0 1", "cauchy 0 1 | cauchy 2 3"])
def test_kolmogorov_smirnov(case):
    agree(value("kolmogorov_smirnov", *laws(case)), o.kolmogorov(*densities(case)), exact=False)


@pytest.mark.parametrize("case", FUNCTIONS)
def test_energy_distance_on_the_line(case):
    agree(value("energy_distance", *laws(case)), o.energy_on_the_line(*densities(case)), exact=False)


WAVES = [
    "normal 0 1 | normal 1 2",
    "normal 0 1 | laplace 0 1",
    "laplace 0 1 | laplace 1 2",
    "expon 1 | expon 2",
    "expon 1 | uniform 0 1",
    "uniform 0 2 | uniform 1 4",
    "gamma 2 1 | expon 2",
    "cauchy 0 1 | normal 0 1",
    "t.mix -2 1 2 1 | t.normal 0 2",
    "t.mix -2 1 2 1 | t.mix -1 1 3 0.5",
]


@pytest.mark.parametrize("bandwidth", [0.5, 1.5])
@pytest.mark.parametrize("case", WAVES)
def test_mmd_on_the_line(case, bandwidth):
    truth = o.mmd_by_waves(*densities(case), bandwidth)
    agree(float(dv.mmd(*laws(case), dv.kernels.Gaussian(bandwidth))), truth, exact=False)
