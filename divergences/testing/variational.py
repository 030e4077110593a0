"""Laws of f-divergence objects: the conjugate f*, the optimal critic T*, the activation g and their composition."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from hypothesis import strategies as st

from divergences.testing.examples import vectors
from divergences.testing.law import Claim, Example, Scope, at_most, equal, law
from divergences.testing.simplex import Array, bounds, choices, chosen, coded
from divergences.testing.strategies import Strategy
from divergences.testing.subject import Subject

ON = "vectors"
RATIOS = (1.0, 2.0, 0.5, 4.0, 0.25, 1.5, 10.0, 0.1, 100.0, 0.01, 1e-3, 30.0)
CRITICS = (0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 0.1, -3.0, 3.0, 5.0, -5.0)


def ratios(scope: Scope) -> Strategy[Example]:
    """Two positive ratios."""
    return choices(2).map(lambda codes: dict(zip("us", chosen(RATIOS, codes).tolist(), strict=True)))


@law(
    "f(u) + f*(t) ≥ u t, with equality at t = f'(u)",
    "objects with methods f, derivative and conjugate",
    on=ON,
    examples=ratios,
    methods=("f", "derivative", "conjugate"),
)
def fenchel_young(D: Subject, u: float, s: float) -> Iterator[Claim]:
    """Check f* against f at the slopes t = f'(s) of f. Fenchel 1949."""
    at = np.array([u])
    t = D.elementwise("derivative", np.array([s]))
    f, conjugate = float(D.elementwise("f", at)[0]), float(D.elementwise("conjugate", t)[0])
    product = u * float(t[0])
    size = max(abs(f), abs(product))
    yield at_most("u*t, t = D.derivative(s)", product, "D.f(u) + D.conjugate(t)", f + conjugate, scale=size)
    if u == s:
        yield equal("D.f(u) + D.conjugate(t)", f + conjugate, "u*t, t = D.derivative(u)", product, scale=size)


def with_critic(scope: Scope) -> Strategy[Example]:
    """A pair and a free critic value for each outcome."""
    pairs = vectors(scope._replace(entries=scope.entries._replace(least=max(1e-6, scope.entries.least))))
    return coded(
        pairs, bounds(scope.n)[1], lambda pq, codes: {"p": pq[0], "q": pq[1], "v": chosen(CRITICS, codes[: len(pq[0])])}
    )


@law(
    "E_P T − E_Q f*(T) ≤ D(P, Q) for every critic T = g(v), with equality at T* = f'(p/q)",
    "objects with methods activation, conjugate and optimal_critic, called as D(p, q)",
    on=ON,
    examples=with_critic,
    methods=("activation", "conjugate", "optimal_critic"),
)
def variational_bound(D: Subject, p: Array, q: Array, v: Array) -> Iterator[Claim]:
    """Check the bound by which critics are trained. Nguyen, Wainwright, Jordan 2010, lemma 1."""
    value = D(p, q)
    T = D.elementwise("activation", v)
    label = "p @ T - q @ D.conjugate(T), T = D.activation(v)"
    yield at_most(label, _objective(D, p, q, T), "D(p, q)", value)
    if ((p > 0) == (q > 0)).all():
        inside = q > 0
        P, Q = p[inside], q[inside]
        T = D.elementwise("optimal_critic", P / Q)
        found, size = _objective(D, P, Q, T), float(np.abs(P * T).sum())
        yield equal("p @ T - q @ D.conjugate(T), T = D.optimal_critic(p/q)", found, "D(p, q)", value, scale=size)


def _objective(D: Subject, p: Array, q: Array, T: Array) -> float:
    conjugate = D.elementwise("conjugate", T)
    first, second = math.fsum(p[p > 0] * T[p > 0]), math.fsum(q[q > 0] * conjugate[q > 0])
    return -math.inf if second == math.inf else first - second


def free_values(scope: Scope) -> Strategy[Example]:
    """A free critic value."""
    return st.sampled_from(CRITICS).map(lambda v: {"v": v})


@law(
    "conjugate_of_activation(v) = f*(g(v))",
    "objects with methods activation, conjugate_of_activation and conjugate (extended_conjugate, where there is one)",
    on=ON,
    examples=free_values,
    methods=("activation", "conjugate", "conjugate_of_activation"),
)
def composition(D: Subject, v: float) -> Iterator[Claim]:
    """Check the stable form against its parts. Nowozin, Cseke, Tomioka 2016, section 2.4."""
    at = np.array([v])
    T = D.elementwise("activation", at)
    name = "extended_conjugate" if hasattr(D.function, "extended_conjugate") else "conjugate"
    parts, composed = D.elementwise(name, T), D.elementwise("conjugate_of_activation", at)
    labels = "D.conjugate_of_activation(v)", f"D.{name}(D.activation(v))"
    yield equal(labels[0], float(composed[0]), labels[1], float(parts[0]), scale=float(np.abs(T).max()))
