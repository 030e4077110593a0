"""Laws of distances between point clouds (the laws that put 1/n on each point), and of kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from divergences.testing.examples import clouds
from divergences.testing.law import Claim, Example, Scope, at_least, at_most, equal, law, same
from divergences.testing.simplex import Array, Codes, bounds, chosen, coded
from divergences.testing.strategies import COORDINATES, Strategy, permutation
from divergences.testing.subject import Subject

ON = "point_clouds"
Counts = np.ndarray[Any, np.dtype[np.int64]]
WASSERSTEIN = "W_p with a norm as ground metric, energy distance"


def two_clouds(scope: Scope) -> Strategy[Example]:
    """Clouds of one dimension."""
    return clouds(2, scope).map(lambda found: {"x": found[0], "y": found[1]})


def reordered(scope: Scope) -> Strategy[Example]:
    """Two clouds and an order of the points of each."""

    def example(found: list[Array], keys: Codes) -> Example:
        x, y = found
        return {"x": x, "y": y, "i": permutation(keys[: len(x)]), "j": permutation(keys[: len(y)])}

    return coded(clouds(2, scope), bounds(scope.n)[1], example)


@law(
    "D(x[i], y[j]) = D(x, y) for any orders i, j",
    "every function of the laws of the points",
    on=ON,
    examples=reordered,
    call="x, y",
)
def order_of_points(D: Subject, x: Array, y: Array, i: Array, j: Array) -> Iterator[Claim]:
    """Check that points have no order."""
    yield equal("D(x[i], y[j])", D(x[i], y[j]), "D(x, y)", D(x, y))


def shifted(scope: Scope) -> Strategy[Example]:
    """Two clouds and a vector on the grid of their coordinates, so that sums are exact."""

    def example(found: list[Array], codes: Codes) -> Example:
        x, y = found
        far = np.abs(np.concatenate([x, y])).max() > 10
        return {"x": x, "y": y, "c": chosen(COORDINATES, codes[: x.shape[1]]) * (1000.0 if far else 1.0)}

    return coded(clouds(2, scope), bounds(scope.d)[1], example)


@law("D(x + c, y + c) = D(x, y)", WASSERSTEIN + ", MMD with a kernel of x − y", on=ON, examples=shifted, call="x, y")
def translation_invariance(D: Subject, x: Array, y: Array, c: Array) -> Iterator[Claim]:
    """Check that the origin does not matter."""
    size = float(np.abs(np.concatenate([x, y])).max() + np.abs(c).max())
    yield equal("D(x + c, y + c)", D(x + c, y + c), "D(x, y)", D(x, y), scale=size)


def moved(scope: Scope) -> Strategy[Example]:
    """A cloud and a vector."""
    return shifted(scope).map(lambda example: {"x": example["x"], "c": example["c"]})


@law("D(x, x + c) = ‖c‖", "W_p with the Euclidean ground metric, for every p ≥ 1", on=ON, examples=moved, call="x, y")
def translation(D: Subject, x: Array, c: Array) -> Iterator[Claim]:
    """Check that moving a cloud costs the length of the move."""
    yield equal("D(x, x + c)", D(x, x + c), "np.linalg.norm(c)", float(np.linalg.norm(c)))


def scaled(scope: Scope) -> Strategy[Example]:
    """Two clouds and a power of 2."""
    factors = (2.0, 0.5, 8.0, -1.0, -4.0)
    return coded(
        clouds(2, scope), 1, lambda z, codes: {"x": z[0], "y": z[1], "factor": factors[codes[0] % len(factors)]}
    )


@law(
    "D(s x, s y) = |s|^k D(x, y), k = 1 or degree=",
    WASSERSTEIN + "; W_p^p has degree p",
    on=ON,
    examples=scaled,
    call="x, y",
)
def scaling(D: Subject, x: Array, y: Array, factor: float, *, degree: float = 1.0) -> Iterator[Claim]:
    """Check the unit of the value."""
    right = abs(factor) ** degree * D(x, y)
    yield equal("D(factor*x, factor*y)", D(factor * x, factor * y), f"abs(factor)**{degree:g} * D(x, y)", right)


@law("W_1(x, y) ≤ W_2(x, y)", "W_p, called as fn(x, y, p)", on=ON, examples=two_clouds, call="x, y, order")
def w1_le_w2(D: Subject, x: Array, y: Array) -> Iterator[Claim]:
    """Check Jensen's inequality."""
    yield at_most("D(x, y, 1)", D(x, y, 1), "D(x, y, 2)", D(x, y, 2))


def with_critic(scope: Scope) -> Strategy[Example]:
    """Two clouds and what makes a 1-Lipschitz function: centres and heights of cones, their lower or upper envelope."""

    def example(found: list[Array], header: Codes) -> Example:
        (x, y, centres), (sign, *codes) = found, header
        scale = np.abs(np.concatenate([x, y, centres])).max() / 4
        heights = chosen(COORDINATES, codes[: len(centres)]) * scale
        return {"x": x, "y": y, "centres": centres, "heights": heights, "sign": 1 - 2 * int(sign % 2)}

    return coded(clouds(3, scope), 1 + bounds(scope.n)[1], example)


@law(
    "W_1(x, y) ≥ E f(x) − E f(y) for every 1-Lipschitz f; on the line with equality at f' = sign(G − F)",
    "W_1 with the Euclidean ground metric",
    on=ON,
    examples=with_critic,
    call="x, y",
)
def w1_dual(D: Subject, x: Array, y: Array, centres: Array, heights: Array, sign: int) -> Iterator[Claim]:
    """Check the dual of Kantorovich and Rubinstein 1958: a direction, an envelope of cones, the best f on the line."""
    value, across = D(x, y), x.mean(0) - y.mean(0)
    size = float(np.abs(np.concatenate([x, y])).max())
    yield at_most("norm(x.mean(0) - y.mean(0))", float(np.linalg.norm(across)), "D(x, y)", value, scale=size)

    def cones(z: Array) -> float:
        distances = np.linalg.norm(z[:, None] - centres, axis=-1)
        return float((sign * (heights + distances).min(1)).mean())

    label = "f(x).mean() - f(y).mean(), f(z) = sign*min_k(heights[k] + norm(z - centres[k]))"
    yield at_most(label, cones(x) - cones(y), "D(x, y)", value, scale=size)
    if x.shape[1] == 1:
        at = np.unique(np.concatenate([x, y]))
        F, G = ((z[:, 0][:, None] <= at).mean(0) for z in (x, y))
        f = np.concatenate([[0.0], np.cumsum(np.sign(G - F)[:-1] * np.diff(at))])
        best = np.interp(x[:, 0], at, f).mean() - np.interp(y[:, 0], at, f).mean()
        yield equal("D(x, y)", value, "f(x).mean() - f(y).mean(), f' = sign(G - F)", float(best), scale=size)


def repeated(scope: Scope) -> Strategy[Example]:
    """Two clouds and how often each point is counted; at least one point of each is."""

    def example(found: list[Array], codes: Codes) -> Example:
        x, y = found
        i, j = (chosen((1, 2, 0, 3), part[: len(z)]) for part, z in zip(codes.reshape(2, -1), (x, y), strict=True))
        for part in (i, j):
            part[0] = max(part[0], int(not part.any()))
        return {"x": x, "y": y, "i": i, "j": j}

    return coded(clouds(2, scope), 2 * bounds(scope.n)[1], example)


@law(
    "D(x, y, i/Σi, j/Σj) = D of the clouds with point k repeated i_k, j_k times",
    "functions of weighted points, called as fn(x, y, a, b) with weights that sum to 1",
    on=ON,
    examples=repeated,
    call="x, y, a, b",
)
def weights_are_repetition(D: Subject, x: Array, y: Array, i: Counts, j: Counts) -> Iterator[Claim]:
    """Check what a weight means."""
    longer = [np.repeat(x, i, 0), np.repeat(y, j, 0)]
    even = [np.full(len(z), 1 / len(z)) for z in longer]
    right = "D(np.repeat(x, i, 0), np.repeat(y, j, 0), 1/n, 1/m)"
    yield equal("D(x, y, i/i.sum(), j/j.sum())", D(x, y, i / i.sum(), j / j.sum()), right, D(*longer, *even))


@law(
    "k(x, y) = k(y, x)ᵀ and k(x, x) has no negative eigenvalue",
    "kernels of an MMD, called as k(x, y) and giving the (n, m) matrix",
    on="kernels",
    examples=two_clouds,
    call="x, y",
    groups="divergence",
)
def positive_definite(D: Subject, x: Array, y: Array) -> Iterator[Claim]:
    """Check Gram matrices. Aronszajn 1950."""
    both = np.concatenate([x, y])
    gram = D.matrix(both, both)
    size = float(np.abs(gram).max())
    asymmetry = float(np.abs(gram - gram.T).max())
    yield equal("abs(k(z, z) - k(z, z).T).max(), z = np.concatenate([x, y])", asymmetry, "0", 0.0, scale=size)
    lowest = float(np.linalg.eigvalsh((gram + gram.T) / 2).min())
    yield at_least("np.linalg.eigvalsh(k(z, z)).min(), z = np.concatenate([x, y])", lowest, "0", 0.0, scale=size)
    cross = D.matrix(x, y)
    yield same("abs(k(x, y) - k(z, z)[:n, n:]).max() <= 1e-9*size", _close(cross, gram[: len(x), len(x) :], size), True)


def _close(a: Array, b: Array, size: float) -> bool:
    return bool(np.abs(a - b).max() <= 1e-9 * size + 1e-12)


@law(
    "MMD² = mean k(x, x) + mean k(y, y) − 2 mean k(x, y) ≥ 0",
    "kernels that are positive definite, at least conditionally, such as −‖x − y‖; called as k(x, y)",
    on="kernels",
    examples=two_clouds,
    call="x, y",
    groups="divergence",
)
def mmd_non_negative(D: Subject, x: Array, y: Array) -> Iterator[Claim]:
    """Check the squared MMD of two clouds. Gretton et al. 2012, lemma 6; Schoenberg 1938 for distances."""
    xx, yy, xy = D.matrix(x, x), D.matrix(y, y), D.matrix(x, y)
    size = float(max(np.abs(part).max() for part in (xx, yy, xy)))
    value = float(xx.mean() + yy.mean() - 2 * xy.mean())
    yield at_least("k(x, x).mean() + k(y, y).mean() - 2*k(x, y).mean()", value, "0", 0.0, scale=size)
