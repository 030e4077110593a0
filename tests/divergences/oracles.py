"""Truths at 50 digits, written from the definitions in mpmath alone: nothing here knows scipy, torch or the library.

Integrals are cut at the marks of both laws, done by tanh-sinh (exp-sinh on half lines) at two step sizes that must
agree to 1e-15, and carry along ∫p = ∫q = 1; a panel that does not agree is halved, and in the end refused.
"""

from dataclasses import dataclass
from functools import cache
from statistics import NormalDist
from typing import Any

from mpmath import MPContext

mp = MPContext()  # its own, so that nobody else's digits change
mp.dps = 50
INF = mp.inf
AGREE = mp.mpf("1e-15")
NOTHING = mp.mpf("1e-40")
HALF_PI = mp.pi / 2


# ---------------------------------------------------------------------------------------------- integration


@cache
def tanh_sinh(level: int, old: bool) -> list:
    """(distance from the nearer end of [0, 1], weight) of the nodes t > 0: all of this level, or only the new ones."""
    h, start, step = mp.mpf(2) ** -level, (1 if old else 0), (2 if old else 1)
    rows = []
    for k in range(start, int(6.2 / h) + 1, step):
        t = k * h
        d = 1 / (1 + mp.exp(mp.pi * mp.sinh(t)))
        rows.append((d, d * (1 - d) * mp.pi * mp.cosh(t) * h))
    return rows


@cache
def exp_sinh(level: int, old: bool) -> tuple[list, list]:
    """(distance from the end, weight) of the nodes on (0, ∞), outwards to both sides of t = 0."""
    h, start, step = mp.mpf(2) ** -level, (1 if old else 0), (2 if old else 1)
    sides = ([], [])
    for sign, side in zip((1, -1), sides, strict=True):
        for k in range(start if sign > 0 else max(start, 1), int(6.2 / h) + 1, step):
            t = sign * k * h
            x = mp.exp(HALF_PI * mp.sinh(t))
            side.append((x, x * HALF_PI * mp.cosh(t) * h))
    return sides


def _side(f, point, nodes, weights, rows, first):
    """Collect the values at the nodes of one side, outwards, until three in a row add nothing far from the centre."""
    quiet, size = 0, mp.zero
    for index, (d, weight) in enumerate(nodes):
        values = f(point(d))
        weights.append(weight)
        rows.append(values)
        if index * first >= 2:
            size = max(map(abs, values)) * weight
            quiet = quiet + 1 if size < NOTHING else 0
            if quiet == 3:
                return
    assert size < mp.mpf("1e-18"), f"the integrand does not end: {mp.nstr(size)}"


def _sums(f, a, b, level, old):
    """The sums of one level over (a, b); b may be ∞."""
    weights, rows, first = [], [], mp.mpf(2) ** -level * (2 if old else 1)
    if b == INF:
        for nodes in exp_sinh(level, old):
            _side(f, lambda x: a + x, nodes, weights, rows, first)
    else:
        width = b - a
        nodes = [(width * d, width * w) for d, w in tanh_sinh(level, old)]
        _side(f, lambda d: b - d, nodes, weights, rows, first)
        _side(f, lambda d: a + d, nodes if old else nodes[1:], weights, rows, first)
    return [mp.fdot(weights, values) for values in zip(*rows, strict=True)]


def panel(f, a, b, count, depth=0):
    """∫ of each of the ``count`` integrands that ``f(x)`` lists over (a, b), the last two steps agreeing to 1e-15."""
    value = _sums(f, a, b, 2, False)
    for level in range(3, 7):
        new = _sums(f, a, b, level, True)
        value, before = [v / 2 + n for v, n in zip(value, new, strict=True)], value
        if all(abs(v - w) <= AGREE * max(1, abs(v)) / 10 for v, w in zip(value, before, strict=True)):
            return value
    assert depth < (12 if b == INF else 6), f"no agreement over ({mp.nstr(a)}, {mp.nstr(b)})"
    middle = a + max(1, abs(a)) if b == INF else (a + b) / 2
    parts = panel(f, a, middle, count, depth + 1), panel(f, middle, b, count, depth + 1)
    return [v + w for v, w in zip(*parts, strict=True)]


def integrate(f, points, count=1):
    """The integrals of the list ``f(x)`` over consecutive points, of which the outer ones may be infinite."""
    points = sorted({mp.mpf(x) for x in points})
    total = [mp.zero] * count
    for a, b in zip(points, points[1:], strict=False):
        if a == -INF and b == INF:
            raise ValueError("an integral over the line needs a mark")
        part = panel(lambda x: f(-x), -b, INF, count) if a == -INF else panel(f, a, b, count)
        total = [s + v for s, v in zip(total, part, strict=True)]
    return total


def roots(g, points, samples=24):
    """Sign changes of g, seen on a grid between the points (and geometrically beyond the last ones)."""
    points, found = sorted({mp.mpf(x) for x in points}), []
    finite = [x for x in points if abs(x) != INF]
    scale = max(finite[-1] - finite[0], mp.mpf(1) / 8)
    for a, b in zip(points, points[1:], strict=False):
        if a == -INF:
            grid = [b - scale * mp.mpf(2) ** k for k in range(40, -20, -1)]
        elif b == INF:
            grid = [a + scale * mp.mpf(2) ** k for k in range(-20, 40)]
        else:
            grid = [a + (b - a) * (k + mp.mpf(1) / 3) / samples for k in range(samples)]
            grid = [a + (b - a) * mp.mpf(10) ** -6] + grid + [b - (b - a) * mp.mpf(10) ** -6]
        values = [g(x) for x in grid]
        for (x, u), (y, v) in zip(zip(grid, values, strict=True), zip(grid[1:], values[1:], strict=True), strict=False):
            if u != u or v != v or u == 0 or (u > 0) == (v > 0) or v == 0:
                found += [y] if v == 0 and u != 0 and u == u else []
                continue
            found.append(_bisect(g, x, y, u))
    return found


def _bisect(g, a, b, at_a):
    """Regula falsi kept honest by bisection, to all digits."""
    at_b = g(b)
    for step in range(200):
        ends_finite = abs(at_a) != INF and abs(at_b) != INF
        x = b - at_b * (b - a) / (at_b - at_a) if ends_finite and step % 3 else (a + b) / 2
        at_x = g(x)
        if at_x == 0 or abs(b - a) <= mp.mpf(10) ** -45 * max(abs(a), abs(b)):
            return x
        if (at_x > 0) == (at_a > 0):
            a, at_a = x, at_x
            at_b = at_b / 2 if step % 3 and abs(at_b) != INF else at_b
        else:
            b, at_b = x, at_x
            at_a = at_a / 2 if step % 3 and abs(at_a) != INF else at_a
    return (a + b) / 2


# ---------------------------------------------------------------------------------------------- laws on the line


@dataclass(frozen=True, eq=False)
class Law:
    """A density by its logarithm inside (low, high); marks are where it turns or bends."""

    log: Any
    low: Any
    high: Any
    marks: tuple
    cdf: Any = None
    sf: Any = None
    quantile: Any = None  # of (probability, from_below)
    cf: Any = None
    mirrored: Any = None  # the law of 1 − X, where the upper end needs its own digits
    affine: Any = None  # (kind, centre, scale) of a family closed under x → a + bx

    def at(self, x):
        if not self.low < x < self.high:
            return -INF
        return self.log(x)

    def below(self, x):
        return mp.zero if x <= self.low else mp.one if x >= self.high else self.cdf(x)

    def above(self, x):
        return mp.one if x <= self.low else mp.zero if x >= self.high else self.sf(x)


def _around(m, s, *steps):
    return (m, *(m + sign * s * k for k in steps for sign in (-1, 1)))


def _numbers(f):
    return lambda *parameters: f(*(mp.mpf(float(p)) for p in parameters))


def _normal_tail(u):
    """z ≥ 0 with P(Z > z) = u ≤ 1/2: Newton on the logarithm."""
    z = mp.mpf(-NormalDist().inv_cdf(float(u))) if u > 1e-300 else mp.sqrt(-2 * mp.log(u))
    for _ in range(60):
        tail = mp.erfc(z / mp.sqrt(2)) / 2
        step = (mp.log(tail) - mp.log(u)) * tail * mp.sqrt(2 * mp.pi) * mp.exp(z * z / 2)
        z += step
        if abs(step) < mp.mpf("1e-35") * max(1, abs(z)):
            return z
    raise AssertionError("no quantile")


@_numbers
def normal(m, s):
    c = -mp.log(s * mp.sqrt(2 * mp.pi))
    two = 1 / (2 * s * s)
    root = s * mp.sqrt(2)
    return Law(
        lambda x: c - (x - m) ** 2 * two, -INF, INF, _around(m, s, 6),
        lambda x: mp.erfc((m - x) / root) / 2, lambda x: mp.erfc((x - m) / root) / 2,
        lambda u, below: m + s * _normal_tail(u) * (-1 if below else 1),
        lambda w: mp.expj(m * w) * mp.exp(-((s * w) ** 2) / 2), affine=("normal", m, s),
    )  # fmt: skip


@_numbers
def laplace(m, b):
    c = -mp.log(2 * b)

    def tail(z):
        return mp.exp(-z) / 2 if z >= 0 else 1 - mp.exp(z) / 2

    return Law(
        lambda x: c - abs(x - m) / b, -INF, INF, _around(m, b, 4, 16),
        lambda x: tail((m - x) / b), lambda x: tail((x - m) / b),
        lambda u, below: m + b * mp.log(2 * u) * (1 if below else -1),
        lambda w: mp.expj(m * w) / (1 + (b * w) ** 2),
    )  # fmt: skip


@_numbers
def logistic(m, s):
    def log(x):
        e = mp.exp(-abs(x - m) / s)
        return mp.log(e / s) - 2 * mp.log1p(e)

    return Law(
        log, -INF, INF, _around(m, s, 4, 16),
        lambda x: 1 / (1 + mp.exp((m - x) / s)), lambda x: 1 / (1 + mp.exp((x - m) / s)),
        lambda u, below: m + s * mp.log(u / (1 - u)) * (1 if below else -1),
    )  # fmt: skip


@_numbers
def gumbel(m, s):
    def inner(x):
        return mp.exp(min((m - x) / s, 100))  # farther out nothing is left

    def log(x):
        return (m - x) / s - inner(x) - mp.log(s)

    return Law(
        log, -INF, INF, (m - 4 * s, m - 2 * s, m, m + 4 * s, m + 16 * s, m + 40 * s),
        lambda x: mp.exp(-inner(x)), lambda x: -mp.expm1(-inner(x)),
        lambda u, below: m - s * mp.log(-mp.log(u) if below else -mp.log1p(-u)),
    )  # fmt: skip


@_numbers
def cauchy(m, s):
    def tail(z):
        return mp.atan(1 / z) / mp.pi if z > 0 else mp.mpf(1) / 2 - mp.atan(z) / mp.pi

    return Law(
        lambda x: -mp.log(mp.pi * s * (1 + ((x - m) / s) ** 2)), -INF, INF, _around(m, s, 2, 10),
        lambda x: tail((m - x) / s), lambda x: tail((x - m) / s),
        lambda u, below: m + s * mp.cot(mp.pi * u) * (-1 if below else 1),
        lambda w: mp.expj(m * w) * mp.exp(-s * abs(w)),
    )  # fmt: skip


@_numbers
def student(k, m, s):
    c = mp.loggamma((k + 1) / 2) - mp.loggamma(k / 2) - mp.log(k * mp.pi) / 2 - mp.log(s)
    return Law(lambda x: c - (k + 1) / 2 * mp.log1p(((x - m) / s) ** 2 / k), -INF, INF, _around(m, s, 3, 12))


@_numbers
def exponential(scale, low=mp.zero):
    rate = 1 / scale

    def tail(x):
        return mp.exp(-rate * (x - low))

    return Law(
        lambda x: mp.log(rate) - rate * (x - low), low, INF, (low, low + 1 / rate, low + 5 / rate, low + 20 / rate),
        lambda x: -mp.expm1(-rate * (x - low)), tail,
        lambda u, below: low - (mp.log1p(-u) if below else mp.log(u)) / rate,
        lambda w: mp.expj(low * w) / mp.mpc(1, -w / rate),
    )  # fmt: skip


@_numbers
def gamma(a, scale, low=mp.zero):
    c = -mp.loggamma(a) - a * mp.log(scale)
    mode = max(a - 1, mp.mpf(1) / 4) * scale
    return Law(
        lambda x: c + (a - 1) * mp.log(x - low) - (x - low) / scale, low, INF,
        (low, low + mode / 8, low + mode, low + (a + 4) * scale, low + (a + 20) * scale),
        lambda x: mp.gammainc(a, 0, (x - low) / scale, regularized=True),
        lambda x: mp.gammainc(a, (x - low) / scale, regularized=True),
        cf=lambda w: mp.expj(low * w) * mp.mpc(1, -w * scale) ** -a,
    )  # fmt: skip


@_numbers
def inverse_gamma(a, scale):
    c = a * mp.log(scale) - mp.loggamma(a)
    mode = scale / (a + 1)
    return Law(
        lambda x: c - (a + 1) * mp.log(x) - scale / x, mp.zero, INF, (0, mode / 8, mode / 2, mode, 4 * mode, 20 * mode)
    )


@_numbers
def weibull(c, scale, low=mp.zero):
    def log(x):
        z = (x - low) / scale
        return mp.log(c / scale) + (c - 1) * mp.log(z) - z**c

    mode = scale * max((c - 1) / c, mp.mpf(1) / 4) ** (1 / c)
    return Law(
        log, low, INF, (low, low + mode, low + 3 * mode, low + scale * mp.mpf(20) ** (1 / c)),
        lambda x: -mp.expm1(-(((x - low) / scale) ** c)), lambda x: mp.exp(-(((x - low) / scale) ** c)),
        lambda u, below: low + scale * (-(mp.log1p(-u) if below else mp.log(u))) ** (1 / c),
    )  # fmt: skip


@_numbers
def lognormal(mu, s):
    inner = normal(mu, s)
    return Law(
        lambda x: inner.log(mp.log(x)) - mp.log(x), mp.zero, INF, (0, *(mp.exp(mu + s * k) for k in (-3, -1, 0, 2, 5))),
        lambda x: inner.cdf(mp.log(x)), lambda x: inner.sf(mp.log(x)),
        lambda u, below: mp.exp(inner.quantile(u, below)),
    )  # fmt: skip


@_numbers
def pareto(b, scale):
    return Law(
        lambda x: mp.log(b) + b * mp.log(scale) - (b + 1) * mp.log(x), scale, INF, (scale, 2 * scale, 8 * scale),
        lambda x: -mp.expm1(b * mp.log(scale / x)), lambda x: (scale / x) ** b,
        lambda u, below: scale * mp.exp(-(mp.log1p(-u) if below else mp.log(u)) / b),
    )  # fmt: skip


@_numbers
def beta(a, b, low=mp.zero, width=mp.one):
    c = -mp.log(mp.beta(a, b)) - (a + b - 1) * mp.log(width)

    def one(first, second, start):
        return Law(
            lambda x: c + (first - 1) * mp.log(x - start) + (second - 1) * mp.log(start + width - x),
            start, start + width, (start, start + width / 2, start + width),
        )  # fmt: skip

    law, other = one(a, b, low), one(b, a, 1 - low - width)
    return Law(law.log, law.low, law.high, law.marks, mirrored=other)


@_numbers
def uniform(low, high):
    def wave(w):
        z = w * (high - low) / 2
        return mp.expj(w * (low + high) / 2) * (mp.sin(z) / z if z else 1)

    law = Law(
        lambda x: -mp.log(high - low), low, high, (low, high),
        lambda x: (x - low) / (high - low), lambda x: (high - x) / (high - low),
        lambda u, below: low + u * (high - low) if below else high - u * (high - low), wave,
    )  # fmt: skip
    other = Law(lambda x: -mp.log(high - low), 1 - high, 1 - low, (1 - high, 1 - low))
    return Law(law.log, low, high, law.marks, law.cdf, law.sf, law.quantile, wave, other)


@_numbers
def triangular(peak, low, width):
    top = low + peak * width
    c = mp.log(2 / width)

    def log(x):
        return c + (mp.log((x - low) / (top - low)) if x < top else mp.log((low + width - x) / (low + width - top)))

    return Law(log, low, low + width, (low, top, low + width))


@_numbers
def truncated_normal(a, b, m, s):
    inner, mass = normal(m, s), mp.log((mp.erfc(a / mp.sqrt(2)) - mp.erfc(b / mp.sqrt(2))) / 2)
    low, high = m + a * s, m + b * s
    return Law(lambda x: inner.log(x) - mass, low, high, (low, *(x for x in inner.marks if low < x < high), high))


@_numbers
def half_normal(s, low=mp.zero):
    inner = normal(low, s)
    return Law(
        lambda x: inner.log(x) + mp.ln2, low, INF, (low, low + 2 * s, low + 5 * s, low + 10 * s),
        lambda x: mp.erf((x - low) / (s * mp.sqrt(2))), lambda x: mp.erfc((x - low) / (s * mp.sqrt(2))),
    )  # fmt: skip


@_numbers
def half_cauchy(s):
    inner = cauchy(0, s)
    return Law(lambda x: inner.log(x) + mp.ln2, mp.zero, INF, (0, s, 4 * s, 20 * s))


@_numbers
def von_mises(m, k):
    c = -mp.log(2 * mp.pi * mp.besseli(0, k))
    return Law(lambda x: c + k * mp.cos(x - m), -mp.pi, mp.pi, (-mp.pi, -1, m, 1, mp.pi))


@_numbers
def rayleigh(s):
    return Law(
        lambda x: mp.log(x) - 2 * mp.log(s) - (x / s) ** 2 / 2, mp.zero, INF, (0, s, 3 * s, 8 * s),
        lambda x: -mp.expm1(-((x / s) ** 2) / 2), lambda x: mp.exp(-((x / s) ** 2) / 2),
        lambda u, below: s * mp.sqrt(-2 * (mp.log1p(-u) if below else mp.log(u))),
    )  # fmt: skip


@_numbers
def maxwell(s):
    c = mp.log(2 / mp.pi) / 2 - 3 * mp.log(s)
    return Law(lambda x: c + 2 * mp.log(x) - (x / s) ** 2 / 2, mp.zero, INF, (0, s, 3 * s, 8 * s))


@_numbers
def kumaraswamy(a, b):
    return Law(lambda x: mp.log(a * b) + (a - 1) * mp.log(x) + (b - 1) * mp.log(1 - x**a), mp.zero, mp.one, (0, 0.5, 1))


@_numbers
def fisher(d1, d2):
    c = d1 / 2 * mp.log(d1 / d2) - mp.log(mp.beta(d1 / 2, d2 / 2))
    return Law(
        lambda x: c + (d1 / 2 - 1) * mp.log(x) - (d1 + d2) / 2 * mp.log1p(d1 * x / d2),
        mp.zero,
        INF,
        (0, 0.25, 1, 4, 20),
    )


@_numbers
def inverse_gaussian(mu, lam):
    return Law(
        lambda x: mp.log(lam / (2 * mp.pi * x**3)) / 2 - lam * (x - mu) ** 2 / (2 * mu**2 * x), mp.zero, INF,
        (0, mu / 8, mu / 2, mu, 3 * mu, 10 * mu),
    )  # fmt: skip


@_numbers
def skew_normal(a):
    inner = normal(0, 1)
    return Law(lambda x: inner.log(x) + mp.log(mp.erfc(-a * x / mp.sqrt(2))), -INF, INF, inner.marks)


@_numbers
def extreme(c):
    """Fréchet's side, c > 0: support above −1/c."""
    return Law(
        lambda x: -(1 + 1 / c) * mp.log1p(c * x) - mp.exp(-mp.log1p(c * x) / c), -1 / c, INF,
        (-1 / c, -1 / c + mp.mpf(1) / 4, mp.mpf(-1) / 2, 0, 1, 6, 40),
    )  # fmt: skip


def mixture(weights, parts):
    weights = [mp.mpf(float(w)) for w in weights]
    weights = [w / sum(weights) for w in weights]
    return Law(
        lambda x: mp.log(sum(w * mp.exp(part.at(x)) for w, part in zip(weights, parts, strict=True))),
        min(part.low for part in parts), max(part.high for part in parts),
        tuple(x for part in parts for x in part.marks),
        lambda x: sum(w * part.below(x) for w, part in zip(weights, parts, strict=True)),
        lambda x: sum(w * part.above(x) for w, part in zip(weights, parts, strict=True)),
        cf=lambda t: sum(w * part.cf(t) for w, part in zip(weights, parts, strict=True)),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------- f-divergences


def _power(a):
    """p^a q^(1 − a), with its limits at zeros."""

    simple = {0.5: lambda p, q: mp.sqrt(p * q), 2: lambda p, q: p * p / q, -1: lambda p, q: q * q / p}.get(a)
    a = mp.mpf(a)

    def term(p, q, lp, lq):
        if not p:
            return INF if a < 0 else mp.zero
        if not q:
            return INF if a > 1 else mp.zero
        return simple(p, q) if simple else mp.exp(a * lp + (1 - a) * lq)

    return term


def _kl(p, q, lp, lq):
    return p * (lp - lq) if p else mp.zero


def _mixed(w):
    """w·KL(P‖M) + (1 − w)·KL(Q‖M), M = wP + (1 − w)Q, pointwise."""
    w = mp.mpf(w)

    def term(p, q, lp, lq):
        middle = mp.log(w * p + (1 - w) * q)
        return (w * p * (lp - middle) if p else 0) + ((1 - w) * q * (lq - middle) if q else 0)

    return term


def _skew_kl(w):
    w = mp.mpf(w)
    return lambda p, q, lp, lq: p * (lp - mp.log((1 - w) * p + w * q)) if p else mp.zero


def _le_cam(p, q, lp, lq):
    return (p - q) ** 2 / (p + q)


def _square(first):
    def term(p, q, lp, lq):
        below = q if first else p
        return (p - q) ** 2 / below if below else (INF if p != q else mp.zero)

    return term


def split(name):
    """'alpha=3' → ('alpha', 3.0)."""
    kind, _, value = name.partition("=")
    return kind, float(value) if value else None


def terms(name):
    """The pointwise term of a divergence, a function of p, q and their logarithms, and what is made of the sum."""
    kind, a = split(name)
    if (kind, a) in (("alpha", 1), ("renyi", 1)):
        return terms("kl")
    if (kind, a) == ("alpha", 0):
        return terms("reverse_kl")
    whole = {
        "kl": _kl,
        "reverse_kl": lambda p, q, lp, lq: q * (lq - lp) if q else mp.zero,
        "js": _mixed(0.5),
        "jeffreys": lambda p, q, lp, lq: (p - q) * (lp - lq),
        "total_variation": lambda p, q, lp, lq: abs(p - q) / 2,
        "squared_hellinger": lambda p, q, lp, lq: (mp.sqrt(p) - mp.sqrt(q)) ** 2,
        "chi2": _square(True),
        "neyman_chi2": _square(False),
        "le_cam": _le_cam,
    }
    if kind in whole:
        return whole[kind], lambda s: s
    if kind == "hellinger":
        return whole["squared_hellinger"], lambda s: mp.sqrt(s / 2)
    if kind == "bhattacharyya":
        return _power(0.5), lambda s: -mp.log(s) if s else INF
    if kind == "hockey_stick":
        return lambda p, q, lp, lq: max(p - a * q, 0), lambda s: s - max(1 - mp.mpf(a), 0)
    if kind == "skew_js":
        return _mixed(a), lambda s: s
    if kind == "skew_kl":
        return _skew_kl(a), lambda s: s
    if kind == "gan":
        return _mixed(0.5), lambda s: 2 * s - mp.log(4)
    a = mp.mpf(a)
    if kind == "alpha":
        power = _power(float(a))
        return lambda p, q, lp, lq: power(p, q, lp, lq) - a * p - (1 - a) * q, lambda s: s / (a * (a - 1))
    if kind == "renyi" and a == 0:
        return lambda p, q, lp, lq: q if p else mp.zero, lambda s: -mp.log(s) if s else INF
    if kind == "renyi":
        return _power(float(a)), lambda s: (mp.log(s) if s else -INF) / (a - 1)
    raise ValueError(name)


def paired(p, q):
    """(p, q, log p, log q) of the outcomes of two vectors of floats; what they lack of the sum 1 is shared out."""
    p, q = ([x / total for x in law] for law, total in ((law, mp.fsum(law)) for law in (vector(p), vector(q))))
    return [(x, y, _log(x), _log(y)) for x, y in zip(p, q, strict=True) if x or y]


def between_vectors(name, rows):
    """The divergence of two finite laws as its definition sums it."""
    if name == "renyi=inf":
        return max(lp - lq for p, _, lp, lq in rows if p)
    term, finish = terms(name)
    return finish(mp.fsum(term(*row) for row in rows))


def _log(x):
    return mp.log(x) if x else -INF


def vector(values):
    return [mp.mpf(float(x)) for x in values]


def on_the_line(names, p, q, marks=()):
    """The divergences of two laws on the line by their names, all in one go over the same nodes."""
    pieces = [(p, q, min(p.low, q.low), max(p.high, q.high))]
    if p.mirrored and q.mirrored and (p.low, p.high) == (q.low, q.high):  # each half from its own end
        halves = (p, q), (p.mirrored, q.mirrored)
        pieces = [(one, other, one.low, (one.low + one.high) / 2) for one, other in halves]
    rows = [_lifted(name, p, q, marks) or terms(name) for name in names]
    total = [mp.zero] * (len(names) + 2)
    for one, other, low, high in pieces:
        cuts = {mp.mpf(x) for x in (*one.marks, *other.marks, *marks)}
        cuts = {low, high} | {x for x in cuts if low < x < high}
        bars = {split(name) for name in names if split(name)[0] in ("total_variation", "hockey_stick")}
        for _, level in bars:  # the integrand bends where p = γq
            bar = mp.log(level) if level else mp.zero
            cuts |= set(roots(lambda x, a=one, b=other, bar=bar: _gap(a.at(x), b.at(x), bar), cuts))

        def integrands(x, one=one, other=other):
            lp, lq = one.at(x), other.at(x)
            a, b = mp.exp(lp), mp.exp(lq)
            if not a and not b:
                return [mp.zero] * (len(rows) + 2)
            return [*(term(a, b, lp, lq) for term, _ in rows), a, b]

        total = [s + v for s, v in zip(total, integrate(integrands, cuts, len(total)), strict=True)]
    *values, one, other = total
    assert max(abs(one - 1), abs(other - 1)) < AGREE, (mp.nstr(one, 20), mp.nstr(other, 20))
    return {name: finish(value) for name, (_, finish), value in zip(names, rows, values, strict=True)}


def _lifted(name, p, q, marks):
    """Where a logarithm is taken of a tiny integral: the integrand over its height, as digits are absolute."""
    kind, a = split(name)
    if kind not in ("renyi", "bhattacharyya") or a in (0, 1):
        return None
    a = mp.mpf(a or 0.5)
    places = sorted(mp.mpf(x) for x in {*p.marks, *q.marks, *marks})
    places += [(x + y) / 2 for x, y in zip(places, places[1:], strict=False)]
    height = max((a * p.at(x) + (1 - a) * q.at(x) for x in places if p.at(x) != -INF != q.at(x)), default=0)
    if height > -20:
        return None
    term = lambda p, q, lp, lq: mp.exp(a * lp + (1 - a) * lq - height)  # noqa: E731
    return term, lambda s: (mp.log(s) + height) / (a - 1 if kind == "renyi" else -1)


def _gap(lp, lq, bar):
    return mp.nan if lp == lq == -INF else lp - lq - bar


def kolmogorov(p, q, marks=()):
    """sup |F − G|: at a crossing of the densities or at the end of a support."""
    cuts = sorted({mp.mpf(x) for x in (*p.marks, *q.marks, *marks, p.low, p.high, q.low, q.high)})
    places = [*cuts, *roots(lambda x: _gap(p.at(x), q.at(x), 0), cuts)]
    return max(abs(_difference(p, q, x)) for x in places if abs(x) != INF)


def _difference(p, q, x):
    """F − G from the side that keeps the digits."""
    return p.below(x) - q.below(x) if p.below(x) + q.below(x) < 1 else q.above(x) - p.above(x)


def wasserstein_1(p, q, marks=()):
    """∫ |F − G|."""
    cuts = sorted({mp.mpf(x) for x in (*p.marks, *q.marks, *marks, min(p.low, q.low), max(p.high, q.high))})
    cuts = sorted({*cuts, *roots(lambda x: _difference(p, q, x), cuts)})
    return integrate(lambda x: (abs(_difference(p, q, x)),), cuts)[0]


def energy_on_the_line(p, q, marks=()):
    """2 ∫ (F − G)²."""
    cuts = {mp.mpf(x) for x in (*p.marks, *q.marks, *marks, min(p.low, q.low), max(p.high, q.high))}
    return 2 * integrate(lambda x: (_difference(p, q, x) ** 2,), cuts)[0]


def wasserstein(orders, p, q):
    """(∫ |T(x) − x|^order p(x) dx)^(1/order), T = G⁻¹∘F monotone, by order; Q needs a quantile function."""
    known = {}

    def move(x):
        if p.affine and q.affine and p.affine[0] == q.affine[0]:
            return q.affine[1] + q.affine[2] * (x - p.affine[1]) / p.affine[2] - x
        if x not in known:
            low, high = p.below(x), p.above(x)
            known[x] = q.quantile(low, True) - x if low <= high else q.quantile(high, False) - x
        return known[x]

    def integrands(x):
        density = mp.exp(p.at(x))
        if density == 0 or p.below(x) == 0 or p.above(x) == 0:
            return [mp.zero] * (len(orders) + 1)
        size = abs(move(x))
        return [*(size**order * density for order in orders), density]

    middle = _bisect(lambda x: p.below(x) - p.above(x), *_bracket(p), -1)
    cuts = sorted({mp.mpf(x) for x in (*p.marks, p.low, p.high, middle)})
    inner = [x for x in cuts if abs(x) != INF]
    cuts = {*cuts, *roots(lambda x: move(x) if 0 < p.below(x) and 0 < p.above(x) else mp.nan, inner, 60)}
    *values, mass = integrate(integrands, cuts, len(orders) + 1)
    assert abs(mass - 1) < AGREE
    return {order: value ** (mp.one / order) for order, value in zip(orders, values, strict=True)}


def _bracket(p):
    inner = [x for x in p.marks if abs(x) != INF]
    return mp.mpf(min(inner)), mp.mpf(max(inner))


def wasserstein_to_points(orders, p, points, weights):
    """The same between a law with a quantile function and a weighted set of points."""
    rows = sorted(zip(vector(points), vector(weights), strict=True))
    total, mass, edge = [mp.zero] * len(orders), mp.zero, p.low
    for index, (point, weight) in enumerate(rows):
        mass += weight
        upper = p.high if index == len(rows) - 1 else p.quantile(*((mass, True) if mass <= 0.5 else (1 - mass, False)))
        cuts = [edge, upper, *(mp.mpf(x) for x in (*p.marks, point) if edge < x < upper)]

        def integrands(x, y=point):
            density = mp.exp(p.at(x))
            return [abs(x - y) ** order * density for order in orders]

        total = [s + v for s, v in zip(total, integrate(integrands, cuts, len(orders)), strict=True)]
        edge = upper
    return {order: value ** (mp.one / order) for order, value in zip(orders, total, strict=True)}


def mmd_by_waves(p, q, bandwidth):
    """MMD² with the Gaussian kernel: h √(2/π) ∫ |φ − ψ|² exp(−h²w²/2) dw over w > 0."""
    h = mp.mpf(bandwidth)

    def integrand(w):
        gap = p.cf(w) - q.cf(w)
        return (abs(gap) ** 2 * mp.exp(-((h * w) ** 2) / 2),)

    return h * mp.sqrt(2 / mp.pi) * integrate(integrand, [mp.mpf(k) / h for k in (0, 1, 3, 6, 10, 18)])[0]


# ---------------------------------------------------------------------------------------------- countable laws


class Counts:
    """Probabilities of first, first + 1, …, from the first one and the ratios p(k + 1)/p(k)."""

    def __init__(self, start, ratio, first=0, last=None):
        self.ratio, self.first, self.last, self.p = ratio, int(first), last, [mp.mpf(start)]

    def at(self, k):
        k -= self.first
        if k < 0 or (self.last is not None and k > self.last):
            return mp.zero
        while len(self.p) <= k:
            self.p.append(self.p[-1] * self.ratio(len(self.p) - 1))
        return self.p[k]


@_numbers
def poisson(rate, first=mp.zero):
    return Counts(mp.exp(-rate), lambda k: rate / (k + 1), first)


@_numbers
def geometric(p, first=mp.zero):
    return Counts(p, lambda k: 1 - p, first)


@_numbers
def negative_binomial(n, stop):
    """Failures before the n-th success, each with probability ``stop``."""
    return Counts(stop**n, lambda k: (k + n) / (k + 1) * (1 - stop))


@_numbers
def binomial(n, p):
    return Counts((1 - p) ** n, lambda k: (n - k) / (k + 1) * p / (1 - p), last=int(n))


def between_counts(names, p, q):
    """All the sums, until both laws are exhausted and no term adds anything for a while."""
    rows = {name: terms(name) for name in names if name not in ("kolmogorov_smirnov", "wasserstein", "energy_distance")}
    sums, gaps = dict.fromkeys(rows, mp.zero), []
    mass, gap, quiet, k = [mp.zero, mp.zero], mp.zero, 0, min(p.first, q.first)
    while quiet < 20:
        x, y = p.at(k), q.at(k)
        mass, gap = [mass[0] + x, mass[1] + y], gap + x - y
        gaps.append(abs(gap))
        left, row = abs(1 - mass[0]) + abs(1 - mass[1]), (x, y, _log(x), _log(y))
        new = {name: term(*row) for name, (term, _) in rows.items()} if x or y else {}
        for name, value in new.items():
            sums[name] += value
        small = left < mp.mpf("1e-30") and all(abs(value) < mp.mpf("1e-30") for value in new.values())
        quiet, k = quiet + 1 if small else 0, k + 1
        assert k < 20_000, "the sum does not end"
    values = {name: finish(sums[name]) for name, (_, finish) in rows.items()}
    functions = {"kolmogorov_smirnov": max(gaps), "wasserstein": mp.fsum(gaps)}
    functions["energy_distance"] = 2 * mp.fsum(g * g for g in gaps)
    return values | functions


# ---------------------------------------------------------------------------------------------- exponential families


@dataclass(frozen=True, eq=False)
class Family:
    """exp(θ·T(x) − A(θ)) against a fixed carrier; ``inside`` says whether A is finite there."""

    a: Any
    inside: Any

    def gradient(self, theta):
        return [mp.diff(lambda t, i=i: self.a([*theta[:i], t, *theta[i + 1 :]]), theta[i]) for i in range(len(theta))]


def between_members(name, family, one, other):
    """KL by Bregman's formula, and whatever depends on ∫ p^a q^(1 − a) = exp(A(mix) − a·A(θ) − (1 − a)·A(θ'))."""
    one, other = list(one), list(other)
    kind, a = split(name)

    def kl(s, t):
        slope = family.gradient(s)
        return family.a(t) - family.a(s) - sum(g * (y - x) for g, x, y in zip(slope, s, t, strict=True))

    def power(w):
        w = mp.mpf(w)
        mix = [w * x + (1 - w) * y for x, y in zip(one, other, strict=True)]
        return family.a(mix) - w * family.a(one) - (1 - w) * family.a(other) if family.inside(mix) else INF

    if kind == "kl" or (kind, a) in (("renyi", 1), ("alpha", 1)):
        return kl(one, other)
    if kind == "reverse_kl" or (kind, a) == ("alpha", 0):
        return kl(other, one)
    if kind == "jeffreys":
        return kl(one, other) + kl(other, one)
    if kind == "bhattacharyya":
        return -power(0.5)
    if kind == "squared_hellinger":
        return -2 * mp.expm1(power(0.5))
    if kind == "hellinger":
        return mp.sqrt(-mp.expm1(power(0.5)))
    if kind == "chi2":
        return mp.expm1(power(2))
    if kind == "neyman_chi2":
        return mp.expm1(power(-1))
    if kind == "alpha":
        return mp.expm1(power(a)) / (mp.mpf(a) * (mp.mpf(a) - 1))
    if kind == "renyi":
        return power(a) / (mp.mpf(a) - 1)
    raise ValueError(name)


def _positive(theta):
    return all(t > 0 for t in theta)


def _real(theta):
    return True


EXPONENTIAL = Family(lambda t: -mp.log(t[0]), _positive)  # the rate, T = −x; Pareto with a fixed scale too
GAMMA = Family(lambda t: mp.loggamma(t[0]) - t[0] * mp.log(t[1]), _positive)  # shape and rate
BETA = Family(lambda t: mp.loggamma(t[0]) + mp.loggamma(t[1]) - mp.loggamma(t[0] + t[1]), _positive)
DIRICHLET = Family(lambda t: sum(mp.loggamma(x) for x in t) - mp.loggamma(sum(t)), _positive)
POISSON = Family(lambda t: mp.exp(t[0]), _real)  # log of the rate
BERNOULLI = Family(lambda t: mp.log1p(mp.exp(t[0])), _real)  # the logit
CATEGORICAL = Family(lambda t: mp.log(sum(mp.exp(x) for x in t)), _real)  # the logits
VON_MISES = Family(lambda t: mp.log(mp.besseli(0, mp.hypot(*t))), _real)  # κ cos, κ sin


def times(n, family):
    return Family(lambda t: mp.mpf(n) * family.a(t), family.inside)


GEOMETRIC = Family(lambda t: -mp.log(-mp.expm1(t[0])), lambda t: t[0] < 0)  # log of the chance to go on


# ---------------------------------------------------------------------------------------------- Gaussians


def matrix(rows):
    return mp.matrix([[mp.mpf(float(x)) for x in row] for row in rows])


def column(values):
    return mp.matrix([mp.mpf(float(x)) for x in values])


def _definite(m):
    return all(e > 0 for e in mp.eigsy(m, eigvals_only=True))


def _log_normaliser(h, precision):
    return (h.T * precision**-1 * h)[0] / 2 - mp.log(mp.det(precision)) / 2


@dataclass(frozen=True, eq=False)
class Gaussian:
    mean: Any
    covariance: Any

    def natural(self):
        precision = self.covariance**-1
        return precision * self.mean, precision


def gaussian(mean, covariance):
    return Gaussian(column(mean), matrix(covariance))


def between_gaussians(name, p, q):
    kind, a = split(name)

    def kl(p, q):
        inverse, gap, d = q.covariance**-1, q.mean - p.mean, len(p.mean)
        trace = sum((inverse * p.covariance)[i, i] for i in range(d))
        logs = mp.log(mp.det(q.covariance)) - mp.log(mp.det(p.covariance))
        return (trace + (gap.T * inverse * gap)[0] - d + logs) / 2

    def power(w):
        w, (h, precision), (k, other) = mp.mpf(w), p.natural(), q.natural()
        mixed = w * precision + (1 - w) * other
        if not _definite(mixed):
            return INF
        ends = w * _log_normaliser(h, precision) + (1 - w) * _log_normaliser(k, other)
        return _log_normaliser(w * h + (1 - w) * k, mixed) - ends

    if kind == "kl" or (kind, a) in (("renyi", 1), ("alpha", 1)):
        return kl(p, q)
    if kind == "reverse_kl" or (kind, a) == ("alpha", 0):
        return kl(q, p)
    if kind == "jeffreys":
        return kl(p, q) + kl(q, p)
    if kind == "bures":
        root = _root(q.covariance)
        gap, cross = p.mean - q.mean, _root(root * p.covariance * root)
        d = len(gap)
        return mp.sqrt(
            (gap.T * gap)[0] + sum(p.covariance[i, i] + q.covariance[i, i] - 2 * cross[i, i] for i in range(d))
        )
    return {
        "bhattacharyya": lambda: -power(0.5),
        "squared_hellinger": lambda: -2 * mp.expm1(power(0.5)),
        "hellinger": lambda: mp.sqrt(-mp.expm1(power(0.5))),
        "chi2": lambda: mp.expm1(power(2)),
        "neyman_chi2": lambda: mp.expm1(power(-1)),
        "alpha": lambda: mp.expm1(power(a)) / (mp.mpf(a) * (mp.mpf(a) - 1)),
        "renyi": lambda: power(a) / (mp.mpf(a) - 1),
    }[kind]()


def _root(m):
    values, vectors = mp.eigsy(m)
    return vectors * mp.diag([mp.sqrt(max(v, 0)) for v in values]) * vectors.T


class Differences:
    """φ(s) = E exp(−s‖·‖²) of X − X', Y − Y' and X − Y, combined as MMD² combines them."""

    def __init__(self, p, q):
        zero = p.mean * 0
        self.rows = [
            (1, *self._axes(zero, 2 * p.covariance)),
            (1, *self._axes(zero, 2 * q.covariance)),
            (-2, *self._axes(p.mean - q.mean, p.covariance + q.covariance)),
        ]

    @staticmethod
    def _axes(gap, covariance):
        """2v for each axis with its squared gap, and the coefficients of ∏(1 + 2vs) − 1."""
        values, vectors = mp.eigsy(covariance)
        doubled, turned, product = [2 * v for v in values], vectors.T * gap, [mp.one]
        for v in doubled:
            product = [a + v * b for a, b in zip([*product, 0], [0, *product], strict=True)]
        return [(v, g * g) for v, g in zip(doubled, turned, strict=True) if g], product[:0:-1]

    def at(self, s):
        total = mp.zero
        for sign, axes, product in self.rows:
            less = mp.zero
            for coefficient in product:
                less = (less + coefficient) * s
            exponent = mp.log1p(less) / 2 + sum(s * square / (1 + v * s) for v, square in axes)
            total += sign * mp.expm1(-exponent)  # the signs sum to 0
        return total


HALF_LINE = [mp.mpf(x) for x in ("0", "1e-6", "1e-4", "1e-2", "0.1", "1", "10", "100", "1e4")] + [INF]


def between_gaussians_by_kernel(kind, p, q, a=None, b=None):
    phi = Differences(p, q)
    if kind == "gaussian":
        return phi.at(1 / (2 * mp.mpf(a) ** 2))
    if kind == "energy":  # ‖z‖^β by its mixture of Gaussians, sign reversed
        beta = mp.mpf(a or 1)
        front = beta / 2 / mp.gamma(1 - beta / 2)
        return front * integrate(lambda s: (s ** (-beta / 2 - 1) * phi.at(s),), HALF_LINE)[0]
    if kind == "laplace":
        rate = 1 / mp.mpf(a)
        weight = rate / (2 * mp.sqrt(mp.pi))
        values = integrate(
            lambda s: (weight * s ** mp.mpf(-1.5) * mp.exp(-(rate**2) / (4 * s)) * phi.at(s),), HALF_LINE
        )
        return values[0]
    if kind == "imq":
        c = mp.mpf(a)
        return integrate(lambda s: (c * mp.exp(-c * s) * phi.at(s),), HALF_LINE)[0]
    if kind == "rq":
        length, alpha = mp.mpf(a), mp.mpf(b)
        return integrate(
            lambda s: (s ** (alpha - 1) * mp.exp(-s) * phi.at(s / (2 * alpha * length**2)) / mp.gamma(alpha),),
            HALF_LINE,
        )[0]
    raise ValueError(kind)


def between_gaussians_by_polynomial(degree, c, p, q):
    """E (xᵀy + c)^degree of independent draws, from the moments up to the third."""
    d, c = len(p.mean), mp.mpf(c)
    three = range(d)

    def moments(g):
        m, s = g.mean, g.covariance
        second = {(i, j): m[i] * m[j] + s[i, j] for i in three for j in three}
        third = {
            (i, j, k): m[i] * m[j] * m[k] + m[i] * s[j, k] + m[j] * s[i, k] + m[k] * s[i, j]
            for i in three
            for j in three
            for k in three
        }
        return [{(): mp.one}, {(i,): m[i] for i in three}, second, third]

    def mean(g, h):
        one, other = moments(g), moments(h)
        inner = [sum(one[k][i] * other[k][i] for i in one[k]) for k in range(degree + 1)]
        return sum(mp.binomial(degree, k) * c ** (degree - k) * inner[k] for k in range(degree + 1))

    return mean(p, p) + mean(q, q) - 2 * mean(p, q)


def logs(values):
    return [mp.log(v) for v in vector(values)]


def logit(p):
    p = mp.mpf(float(p))
    return [mp.log(p / (1 - p))]
