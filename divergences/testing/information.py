"""Laws of divergences between probability vectors: what channels, mixtures, relabelling and splitting do to them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from hypothesis import strategies as st

from divergences.testing.examples import pair_of, two, vectors
from divergences.testing.law import Claim, Example, Scope, at_most, equal, law
from divergences.testing.simplex import Array, Codes, bounds, chosen, coded, summing_to_one, tables
from divergences.testing.strategies import Strategy, dominated_pairs, pairs, permutation
from divergences.testing.subject import Subject

ON = "vectors"
F_DIVERGENCES = "f-divergences, Rényi and Bhattacharyya divergences, rooted Hellinger and Jensen–Shannon"


def through_channel(scope: Scope) -> Strategy[Example]:
    """A pair and a kernel K: each outcome goes to its target, or with probability 1/2, 1/4 or 1/16 to another one."""
    high = bounds(scope.n)[1]
    leaks = (0.0, 0.0, 0.0, 0.5, 0.25, 0.0625)

    def example(codes: Codes, header: Codes) -> Example:
        kind, distance, noisy = header
        leak = chosen(leaks, codes[:, 5]) * (noisy % 2)
        p, q = pair_of(codes, kind, distance, _coarser(scope) if leak.any() else scope)
        K, i = np.zeros((len(codes), high)), np.arange(len(codes))
        K[i, codes[:, 3] % high] = 1 - leak
        K[i, codes[:, 4] % high] += leak
        return {"p": p, "q": q, "K": K[:, K.any(0)]}

    return tables(example, 6, scope.n, 3)


def _coarser(scope: Scope) -> Scope:
    return scope._replace(entries=scope.entries.coarser(16, bounds(scope.n)[1]))


@law(
    "D(PK, QK) ≤ D(P, Q) for every Markov kernel K",
    F_DIVERGENCES,
    on=ON,
    examples=through_channel,
    groups="divergence",
)
def data_processing(D: Subject, p: Array, q: Array, K: Array) -> Iterator[Claim]:
    """Check that a channel brings laws together. Csiszár 1967; van Erven, Harremoës 2014, theorem 9, for Rényi."""
    yield at_most("D(p @ K, q @ K)", D(p @ K, q @ K), "D(p, q)", D(p, q))


def mixtures(scope: Scope) -> Strategy[Example]:
    """Two pairs on the same outcomes and a weight, a multiple of 1/16."""
    shares = (0.5, 0.25, 0.75, 0.0625, 0.9375)

    def example(codes: Codes, header: Codes) -> Example:
        kind, distance, other_kind, other_distance, share = header
        p, q = pair_of(codes[:, :3], kind, distance, _coarser(scope))
        r, s = pair_of(codes[:, 3:], other_kind, other_distance, _coarser(scope))
        return {"p": p, "q": q, "r": r, "s": s, "w": shares[share % len(shares)]}

    return tables(example, 6, scope.n, 5)


@law(
    "D(wP + (1 − w)R, wQ + (1 − w)S) ≤ w D(P, Q) + (1 − w) D(R, S)",
    "f-divergences, Bhattacharyya, Rényi of order ≤ 1; not rooted Hellinger or Jensen–Shannon, not Rényi of order > 1",
    on=ON,
    examples=mixtures,
    groups="divergence",
)
def joint_convexity(D: Subject, p: Array, q: Array, r: Array, s: Array, w: float) -> Iterator[Claim]:
    """Check that mixing both arguments mixes no more than the values. van Erven, Harremoës 2014, theorem 11."""
    mixed = D(w * p + (1 - w) * r, w * q + (1 - w) * s)
    yield at_most(
        "D(w*p + (1 - w)*r, w*q + (1 - w)*s)", mixed, "w*D(p, q) + (1 - w)*D(r, s)", w * D(p, q) + (1 - w) * D(r, s)
    )


def permuted(scope: Scope) -> Strategy[Example]:
    """A pair and an order of its outcomes."""

    def example(codes: Codes, header: Codes) -> Example:
        kind, distance = header
        p, q = pair_of(codes, kind, distance, scope)
        order = permutation(codes[:, 3])
        return {"p": p, "q": q, "order": order if (order != np.arange(len(p))).any() else order[::-1].copy()}

    return tables(example, 4, scope.n, 2)


@law(
    "D(Pπ, Qπ) = D(P, Q): relabelling the outcomes changes nothing",
    F_DIVERGENCES + "; not distances that know where outcomes are",
    on=ON,
    examples=permuted,
    groups="divergence",
)
def permutation_invariance(D: Subject, p: Array, q: Array, order: Array) -> Iterator[Claim]:
    """Check that outcomes have no order."""
    yield equal("D(p[order], q[order])", D(p[order], q[order]), "D(p, q)", D(p, q))


def products(scope: Scope) -> Strategy[Example]:
    """Two pairs, of up to four outcomes each, whose products are allowed entries still."""
    low, high = (min(end, 4) for end in bounds(scope.n))
    entries = scope.entries._replace(
        least=max(min(math.sqrt(2 * scope.entries.least), 0.5 / high), scope.entries.least)
    )
    two_laws = pairs((low, high), **entries._asdict())
    return st.tuples(two_laws, two_laws).map(lambda d: {"p": d[0][0], "q": d[0][1], "r": d[1][0], "s": d[1][1]})


@law(
    "D(P × R, Q × S) = D(P, Q) + D(R, S) for product laws",
    "KL, reverse KL, Jeffreys, Rényi and Bhattacharyya divergences",
    on=ON,
    examples=products,
)
def additivity(D: Subject, p: Array, q: Array, r: Array, s: Array) -> Iterator[Claim]:
    """Check independent parts. van Erven, Harremoës 2014, theorem 28."""
    joint = D(np.outer(p, r).ravel(), np.outer(q, s).ravel())
    yield equal("D(np.outer(p, r).ravel(), np.outer(q, s).ravel())", joint, "D(p, q) + D(r, s)", D(p, q) + D(r, s))


def splittings(scope: Scope) -> Strategy[Example]:
    """A pair, the outcome that is split, and the share of its first part."""
    shares = (0.5, 0.25, 0.0625)

    def example(pair: tuple[Array, Array], codes: Codes) -> Example:
        (p, q), (place, share) = pair, codes
        return {"p": p, "q": q, "i": int(place % len(p)), "share": shares[share % len(shares)]}

    return coded(vectors(_coarser(scope)), 2, example)


@law(
    "splitting an outcome in one proportion for both, or adding an impossible one, changes nothing",
    F_DIVERGENCES,
    on=ON,
    examples=splittings,
)
def sufficiency(D: Subject, p: Array, q: Array, i: int, share: float) -> Iterator[Claim]:
    """Check that what tells P and Q apart is kept. Liese, Vajda 2006, theorem 14."""

    def split(v: Array) -> Array:
        return np.concatenate([v[:i], [v[i] * share, v[i] * (1 - share)], v[i + 1 :]])

    value = D(p, q)
    yield equal("D(split(p), split(q)), p[i] split in share and 1 - share", D(split(p), split(q)), "D(p, q)", value)
    if (p * q == 0).any():  # impossible outcomes are among the arguments it knows
        longer = D(np.append(p, 0.0), np.append(q, 0.0))
        yield equal("D(np.append(p, 0), np.append(q, 0))", longer, "D(p, q)", value)


def coarse(scope: Scope) -> Strategy[Example]:
    """P ≪ Q, or at times Q ≪ P, whose smallest entries are a thousandth, so that a millionth of it is allowed."""

    def example(pair: tuple[Array, Array], codes: Codes) -> Example:
        p, q = pair[::-1] if codes[0] % 3 == 1 else pair
        return {"p": p, "q": q}

    least = max(1e-3, scope.entries.least)
    return coded(dominated_pairs(scope.n, zeros=scope.entries.zeros, least=least), 1, example)


@law(
    "D((1 − ε)P + εQ, Q) → D(P, Q) as ε → 0, where D(P, Q) is finite",
    F_DIVERGENCES + "; not Rényi of order 0",
    on=ON,
    examples=coarse,
)
def continuity(D: Subject, p: Array, q: Array) -> Iterator[Claim]:
    """Check limits at entries of 0: from ε = 1e-3 to 1e-6 a gap of ε^a loses a quarter if a ≥ 0.05, a jump stays."""
    value = D(p, q)
    if math.isfinite(value):
        near, nearer = (D(summing_to_one((1 - e) * p + e * q), q) for e in (1e-3, 1e-6))
        gap, less = "abs(D((1 - {0})*p + {0}*q, q) - D(p, q))", "3/4*abs(D((1 - {0})*p + {0}*q, q) - D(p, q))"
        labels = gap.format("1e-6"), less.format("1e-3")
        yield at_most(labels[0], abs(nearer - value), labels[1], 0.75 * abs(near - value), scale=abs(value))


def dominated(scope: Scope) -> Strategy[Example]:
    """A pair with P ≪ Q."""
    return dominated_pairs(scope.n, **scope.entries._asdict()).map(lambda d: {"p": d[0], "q": d[1]})


@law(
    "D(P, Q) < ∞ where P ≪ Q: no outcome has mass under P and none under Q",
    "f-divergences on finite supports with f(0) finite: KL, χ², and what is bounded",
    on=ON,
    examples=dominated,
)
def finite_where_dominated(D: Subject, p: Array, q: Array) -> Iterator[Claim]:
    """Check that an outcome without mass under P costs a finite amount."""
    yield Claim("D(p, q)", D(p, q), "<", "math.inf", math.inf)


@law(
    "D(P, Q) = ∞ where P has mass and Q has none",
    "f-divergences with f'(∞) = ∞: KL, Jeffreys, Pearson χ²; Rényi of order ≥ 1",
    on=ON,
    examples=two,
)
def infinite_where_not_dominated(D: Subject, p: Array, q: Array) -> Iterator[Claim]:
    """Check that an impossible outcome which occurs is not smoothed away."""
    if ((p > 0) & (q == 0)).any():
        yield equal("D(p, q)", D(p, q), "math.inf", math.inf)
