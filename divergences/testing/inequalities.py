"""Laws of one named divergence, or of one with its companion: bounds, known inequalities, orders, the GAN's value."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from divergences.testing.examples import total_variation, two
from divergences.testing.law import Claim, Example, Scope, at_most, equal, law
from divergences.testing.simplex import Array, Codes, chosen, coded
from divergences.testing.strategies import Strategy
from divergences.testing.subject import Subject

LOG2 = math.log(2)


@law(
    "D(P, Q) ≤ U",
    "divergences with a largest value U, given as upper_bound=",
    on=("vectors", "point_clouds"),
    examples=two,
)
def bounded(D: Subject, p: Any, q: Any, *, upper_bound: float) -> Iterator[Claim]:
    """Check D ≤ U."""
    yield at_most("D(p, q)", D(p, q), "upper_bound", upper_bound)


@law(
    "D(P, Q) = R(Q, P) for the companion R, given as reverse=",
    "divergences with a named reversal",
    on="vectors",
    examples=two,
)
def reversal(D: Subject, p: Array, q: Array, *, reverse: Callable[..., Any]) -> Iterator[Claim]:
    """Check the companion with the arguments exchanged."""
    yield equal("D(p, q)", D(p, q), "reverse(q, p)", Subject(reverse, "reverse")(q, p))


def two_orders(scope: Scope) -> Strategy[Example]:
    """P, Q and two orders other than 1, of which the first is smaller."""
    orders = (2.0, 3.0, 1.5, 1.1, 5.0) + ((0.5, 0.25, 0.75, 0.9) if scope.on == "vectors" else ())

    def example(laws: Example, codes: Codes) -> Example:
        alpha, beta = sorted(float(order) for order in chosen(orders, codes))
        return {**laws, "alpha": alpha, "beta": beta}

    return coded(two(scope), 2, example)


@law(
    "D_α(P, Q) ≤ D_β(P, Q) for orders α ≤ β",
    "Rényi divergences, called as fn(p, q, α); W_p between point clouds, called as fn(x, y, p)",
    on=("vectors", "point_clouds"),
    examples=two_orders,
    call="p, q, order",
)
def monotone_in_order(D: Subject, p: Any, q: Any, alpha: float, beta: float) -> Iterator[Claim]:
    """Check that the value does not fall as the order rises. van Erven, Harremoës 2014, theorem 3."""
    yield at_most("D(p, q, alpha)", D(p, q, alpha), "D(p, q, beta)", D(p, q, beta))


@law("2 TV² ≤ KL", "KL(P‖Q) in nats", on="vectors", examples=two)
def pinsker(D: Subject, p: Array, q: Array) -> Iterator[Claim]:
    """Check Pinsker's inequality, with the constant of Csiszár 1967."""
    yield at_most("2*TV(p, q)**2", 2 * total_variation(p, q) ** 2, "D(p, q)", D(p, q))


@law("TV ≤ √(1 − exp(−KL))", "KL(P‖Q) in nats", on="vectors", examples=two)
def bretagnolle_huber(D: Subject, p: Array, q: Array) -> Iterator[Claim]:
    """Check the bound that stays below 1. Bretagnolle, Huber 1979, lemma 2.1."""
    # Both sides are squared, for the root of what rounding leaves of a KL of 0 is larger than rounding.
    yield at_most("TV(p, q)**2", total_variation(p, q) ** 2, "1 - exp(-D(p, q))", -math.expm1(-D(p, q)))


@law(
    "H²/2 ≤ TV ≤ H √(1 − H²/4), H² = Σ(√pᵢ − √qᵢ)² in [0, 2]",
    "the squared Hellinger divergence H², without a ½ and without a root",
    on="vectors",
    examples=two,
)
def le_cam(D: Subject, p: Array, q: Array) -> Iterator[Claim]:
    """Check Le Cam's inequalities between H² and total variation. Tsybakov 2009, lemma 2.3."""
    tv, h2 = total_variation(p, q), D(p, q)
    yield at_most("D(p, q)/2", h2 / 2, "TV(p, q)", tv)
    # Squared as well.
    yield at_most("TV(p, q)**2", tv**2, "D(p, q)*(1 - D(p, q)/4)", h2 * (1 - h2 / 4))


@law(
    "JS ≤ log 2, with equality where P and Q have no outcome in common",
    "the Jensen–Shannon divergence in nats, with its ½s",
    on="vectors",
    examples=two,
)
def js_bound(D: Subject, p: Array, q: Array) -> Iterator[Claim]:
    """Check the largest value. Lin 1991, theorem 3."""
    if (p * q > 0).any():
        yield at_most("D(p, q)", D(p, q), "math.log(2)", LOG2)
    else:
        yield equal("D(p, q)", D(p, q), "math.log(2)", LOG2)


@law(
    "E_P log D* + E_Q log(1 − D*) = −log 4 + 2 JS(P, Q) at the optimal discriminator D* = p/(p + q)",
    "the Jensen–Shannon divergence in nats, with its ½s",
    on="vectors",
    examples=two,
)
def gan_chain(D: Subject, p: Array, q: Array) -> Iterator[Claim]:
    """Check the value of the GAN game. Goodfellow et al. 2014, theorem 1."""
    P, Q = p[p > 0], q[q > 0]
    game = math.fsum(P * np.log(P / (p + q)[p > 0])) + math.fsum(Q * np.log(Q / (p + q)[q > 0]))
    label = "E_P log D* + E_Q log(1 - D*)"
    yield equal(label, game, "-math.log(4) + 2*D(p, q)", -2 * LOG2 + 2 * D(p, q))


@law("KS ≤ TV", "the Kolmogorov–Smirnov distance max|F − G|, outcomes ordered by index", on="vectors", examples=two)
def ks_tv(D: Subject, p: Array, q: Array) -> Iterator[Claim]:
    """Check that half-lines tell apart no more than all events."""
    yield at_most("D(p, q)", D(p, q), "TV(p, q)", total_variation(p, q))
