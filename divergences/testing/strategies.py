"""Hypothesis strategies for the arguments of divergences: vectors, pairs, Gaussians, Markov kernels, point clouds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch.distributions import MultivariateNormal

from divergences.testing.simplex import (
    KINDS,
    Array,
    Codes,
    Entries,
    Range,
    bounds,
    choices,
    chosen,
    probabilities,
    related,
    tables,
    weights,
)

Strategy = st.SearchStrategy
COORDINATES = (0.0, 1.0, -1.0, 2.0, 0.5, -2.0, 3.0, -0.5, 0.25, -3.0, 1.5, 0.125, 4.0, -1.25, 2.75, -3.5)


def probability_vectors(n: Range = (2, 6), *, zeros: bool = True, least: float = 1e-9) -> Strategy[Array]:
    """Probability vectors p, pᵢ ≥ 0, Σᵢ pᵢ = 1 to the last bit, as 1-D float64 arrays; often uneven, shrinking to 1/n.

    Args:
        n: the number of outcomes, an integer or (low, high).
        zeros: whether entries may be exactly 0.
        least: the smallest positive entry, in (0, 1/n].

    Raises:
        TypeError: an argument of another type.
        ValueError: n below 1, an empty range, or ``least`` outside (0, 1/n].

    Example:
        >>> from hypothesis import find
        >>> p = find(probability_vectors(3), lambda p: (p > 0).all() and p.min() < 1e-8)
        >>> p.shape, float(p.min())
        ((3,), 1e-09)
    """
    n, entries = counted("n", n), allowed(n, zeros, least)
    return tables(lambda codes, _: probabilities(weights(codes)[:, 0], entries), 1, n, 0)


def pairs(
    n: Range = (2, 6), *, zeros: bool = True, least: float = 1e-9, nearest: float = 1e-12
) -> Strategy[tuple[Array, Array]]:
    """Pairs (p, q) on the same outcomes: independent, equal, near, with nested or disjoint supports, or permuted.

    Near pairs share their support and are at total variation from 10⁻¹ down to ``nearest``; no pair differs by
    less than a quarter of it. Raises as `probability_vectors`.

    Args:
        n: the number of outcomes, an integer or (low, high).
        zeros: whether entries may be exactly 0.
        least: the smallest positive entry.
        nearest: the smallest total variation between the two of a near pair, in (0, 0.1].

    Example:
        >>> from hypothesis import find
        >>> p, q = find(pairs(2), lambda pair: (pair[0] * pair[1]).sum() == 0)
        >>> sorted(p.tolist()), sorted(q.tolist())
        ([0.0, 1.0], [0.0, 1.0])
    """
    n, entries = counted("n", n), allowed(n, zeros, least, nearest)
    return tables(lambda codes, header: related(KINDS[header[0] % len(KINDS)], codes, header[1], entries), 3, n, 2)


def dominated_pairs(
    n: Range = (2, 6), *, zeros: bool = True, least: float = 1e-9, nearest: float = 1e-12
) -> Strategy[tuple[Array, Array]]:
    """Pairs (p, q) with P ≪ Q: no outcome has mass under P and none under Q. Arguments and errors as `pairs`.

    Example:
        >>> from hypothesis import find
        >>> p, q = find(dominated_pairs(2), lambda pair: (pair[0] == 0).any())
        >>> bool((q[p > 0] > 0).all())
        True
    """
    n, entries = counted("n", n), allowed(n, zeros, least, nearest)

    def dominated(codes: Codes, header: Codes) -> tuple[Array, Array]:
        kind = KINDS[header[0] % len(KINDS)]
        q, p = related("nested" if kind == "disjoint" else kind, codes, int(header[1]), entries)
        inside = np.where(q > 0, p, 0)
        if (inside == p).all():
            return p, q
        return (probabilities(inside, entries), q) if inside.any() else (q.copy(), q)

    return tables(dominated, 3, n, 2)


def markov_kernels(n: Range, m: Range, *, zeros: bool = True, least: float = 2**-4) -> Strategy[Array]:
    """Row-stochastic (n, m) arrays K, so that p @ K is the law of the outcome after the channel K.

    Deterministic lumpings and, where n = m, permutations as well as channels with noise; positive entries are at least
    ``least``. ``zeros=False`` leaves the noisy ones. Raises as `probability_vectors`.

    Example:
        >>> from hypothesis import find
        >>> K = find(markov_kernels(3, 2), lambda K: K[0, 0] == 0)
        >>> K.shape, K.sum(1).tolist()
        ((3, 2), [1.0, 1.0, 1.0])
    """
    n, m = counted("n", n), counted("m", m)
    entries = allowed(m, zeros, least)
    low, high = bounds(m)
    kinds = ("lumping", "permutation", "noisy", "noisy") if zeros else ("noisy",)

    def kernel(codes: Codes, header: Codes) -> Array:
        size, choice = (int(code) for code in header)
        width, kind = low + size % (high - low + 1), kinds[choice % len(kinds)]
        if kind == "permutation" and low <= len(codes) <= high:
            return np.eye(len(codes))[permutation(codes[:, 0])]
        if kind != "noisy":
            return np.eye(width)[codes[:, 0] % width]
        return np.array([probabilities(row, entries) for row in weights(codes[:, 1 : 1 + width])])

    return tables(kernel, 1 + high, n, 2)


def gaussians(d: Range = (1, 3)) -> Strategy[MultivariateNormal]:
    """Normal laws N(μ, LLᵀ) on ℝᵈ in float64, shrinking to N(0, I).

    μ has entries in [−3.5, 4]; the triangular L has a diagonal in [1/4, 4] and entries in [−1, 1] below it, so that
    covariances differ in scale, direction and correlation and stay well-conditioned. Raises as `probability_vectors`.

    Example:
        >>> from hypothesis import find
        >>> law = find(gaussians(2), lambda law: law.mean[1] > 0)
        >>> law.event_shape, law.mean.dtype
        (torch.Size([2]), torch.float64)
    """
    low, high = bounds(counted("d", d))
    return choices(1 + high * (high + 3) // 2).map(
        lambda codes: _gaussian(low + int(codes[0]) % (high - low + 1), codes[1:])
    )


def _gaussian(d: int, codes: Codes) -> MultivariateNormal:
    mean = chosen(COORDINATES, codes[:d])
    L = np.diag(chosen((1.0, 2.0, 0.5, 4.0, 0.25), codes[d : 2 * d]))
    L[np.tril_indices(d, -1)] = chosen((0.0, 0.5, -0.5, 1.0, -1.0, 0.25), codes[2 * d : d * (d + 3) // 2])
    return MultivariateNormal(torch.as_tensor(mean), scale_tril=torch.as_tensor(L))


def point_clouds(n: Range = (1, 6), d: Range = (1, 3), *, duplicates: bool = True) -> Strategy[Array]:
    """Point clouds x, (n, d) float64 arrays with coordinates in [−3.5, 4] that sums and shifts do not round.

    Args:
        n: the number of points, an integer or (low, high).
        d: the number of coordinates, an integer or (low, high).
        duplicates: whether points may coincide. Without, n is at most 16.

    Raises:
        TypeError: an argument of another type.
        ValueError: n or d below 1, an empty range, or too many points for ``duplicates=False``.

    Example:
        >>> from hypothesis import find
        >>> x = find(point_clouds(3, 2), lambda x: (x[0] == x[1]).all() and (x[0] != x[2]).any())
        >>> x.shape, x.dtype
        ((3, 2), dtype('float64'))
    """
    n, d = counted("n", n), counted("d", d)
    if not duplicates and bounds(n)[1] > len(COORDINATES):
        raise ValueError(f"n must be at most {len(COORDINATES)} where duplicates=False: got {bounds(n)[1]}")
    low, high = bounds(d)

    def cloud(codes: Codes, header: Codes) -> Array:
        size, repeat = (int(code) for code in header)
        x = chosen(COORDINATES, codes[:, : low + size % (high - low + 1)])
        if duplicates and repeat % 4 == 1:  # chance alone seldom repeats a point in several dimensions
            x[-1] = x[0]
        return x

    first = None if duplicates else lambda row: row[0] % len(COORDINATES)
    return tables(cloud, high, n, 2, unique_by=first)


def permutation(keys: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the order of the keys from the largest down, ties as they stand: equal keys are the identity."""
    return np.argsort(-np.asarray(keys, dtype=np.int64), kind="stable")


def counted(name: str, value: Any) -> Range:
    """Return a size, an integer or (low, high), if it is one. Raises TypeError or ValueError naming it."""
    range_ = tuple(value) if isinstance(value, tuple | list) else (value, value)
    if len(range_) != 2 or not all(isinstance(end, int | np.integer) and not isinstance(end, bool) for end in range_):
        raise TypeError(f"{name} must be an integer or (low, high): got {value!r}")
    low, high = int(range_[0]), int(range_[1])
    if not 1 <= low <= high:
        raise ValueError(f"{name} must be at least 1, or (low, high) with 1 ≤ low ≤ high: got {value!r}")
    return (low, high)


def allowed(n: Range, zeros: Any, least: Any, nearest: Any = 1e-12) -> Entries:
    """Return the entries that vectors of n outcomes may have. Raises TypeError or ValueError naming the argument."""
    if not isinstance(zeros, bool):
        raise TypeError(f"zeros must be True or False: got {zeros!r}")
    for name, value in (("least", least), ("nearest", nearest)):
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} must be a number: got {value!r}")
    high = bounds(counted("n", n))[1]
    if not 0 < least <= 1 / high:
        raise ValueError(f"least must lie in (0, 1/{high}] for up to {high} outcomes: got {least!r}")
    if not 0 < nearest <= 0.1:
        raise ValueError(f"nearest must lie in (0, 0.1]: got {nearest!r}")
    return Entries(zeros, float(least), float(nearest))
