"""The axioms of divergences and metrics, for functions of vectors, of point clouds and of Gaussian laws."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from divergences.testing.examples import apart, three, two
from divergences.testing.law import Claim, at_least, at_most, equal, law, positive
from divergences.testing.subject import Subject

ANY = ("vectors", "point_clouds", "gaussians")


@law(
    "D(P, P) = 0, and D(P, Q) > 0 where P ≠ Q (asked of vectors at total variation ≥ 1e-6)",
    "every divergence and metric but hockey-stick with γ ≠ 1 (f is not strictly convex at 1) and Rényi of order 0",
    on=ANY,
    examples=two,
    groups=("divergence", "metric"),
)
def identity(D: Subject, p: Any, q: Any) -> Iterator[Claim]:
    """Check D(P, P) = 0 < D(P, Q)."""
    yield equal("D(p, p)", D(p, p), "0", 0.0)
    if apart(p, q):
        yield positive("D(p, q)", D(p, q))


@law("D(P, Q) ≥ 0", "every divergence and metric", on=ANY, examples=two, groups=("divergence", "metric"))
def non_negativity(D: Subject, p: Any, q: Any) -> Iterator[Claim]:
    """Check D ≥ 0."""
    yield at_least("D(p, q)", D(p, q), "0", 0.0)


@law("D(P, P) = 0", "what vanishes at equality but may vanish elsewhere", on=ANY, examples=two)
def zero_at_equality(D: Subject, p: Any, q: Any) -> Iterator[Claim]:
    """Check D(P, P) = 0."""
    yield equal("D(p, p)", D(p, p), "0", 0.0)
    yield equal("D(q, q)", D(q, q), "0", 0.0)


@law("D(P, Q) = D(Q, P)", "symmetric divergences and metrics", on=ANY, examples=two, groups="metric")
def symmetry(D: Subject, p: Any, q: Any) -> Iterator[Claim]:
    """Check that the order of the arguments does not matter."""
    yield equal("D(p, q)", D(p, q), "D(q, p)", D(q, p))


@law(
    "D(P, R) ≤ D(P, Q) + D(Q, R)",
    "metrics: total variation, rooted Hellinger and Jensen–Shannon, W_p, rooted MMD, Kolmogorov–Smirnov",
    on=ANY,
    examples=three,
    groups="metric",
)
def triangle_inequality(D: Subject, p: Any, q: Any, r: Any) -> Iterator[Claim]:
    """Check that no detour is shorter."""
    yield at_most("D(p, r)", D(p, r), "D(p, q) + D(q, r)", D(p, q) + D(q, r))
