"""Means of log p/q and of powers of p/q, from the distances to nearest neighbours in both samples."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.special import digamma, gammaln

from estimators.classical.neighbors import METRICS, Array, nearest, nearest_others, within


class Means(NamedTuple):
    """One value for each point of a sample, whose mean is wanted, and what each point of both adds to it."""

    terms: Array
    own: Array  # the first-order effect of each point on the mean of the terms
    other: Array
    beyond: float
    share: float  # (Σe)²/(m Σe²) of the effects e on the other side: the part of the points that carry the estimate


def side(a: Array, b: Array, ks: tuple[int, int], power: float, metric: str, weighted: bool) -> Means:
    """E_A (p_A/p_B)^{power − 1}, or E_A log(p_A/p_B) for power 1, from the neighbours of the points of ``a``."""
    (n, d), m, (k_a, k_b) = a.shape, len(b), ks
    reach = 4 if weighted else 1
    rho, index_a = nearest_others(a, min(reach * k_a, n - 1), metric)
    nu, index_b = nearest(b, a, min(reach * k_b, m), metric)
    columns = [(k_a, k_b, 1.0)]
    if weighted:
        fits = [j for j in range(1, min(rho.shape[1], nu.shape[1]) + 1) if j > abs(power - 1)]
        columns = [(j, j, w) for j, w in zip(fits, _cancelling(np.array(fits), d), strict=True)]
    offset, beta = math.log(m / (n - 1)), power - 1
    terms = np.zeros(n)
    tied = (rho[:, k_a - 1] == 0) | (nu[:, k_b - 1] == 0) | (rho[:, 0] == 0) | (nu[:, 0] == 0)
    plain = ~tied
    for i, j, weight in columns:
        log_r = d * (np.log(nu[plain, j - 1]) - np.log(rho[plain, i - 1])) + offset
        if beta:
            log_b = gammaln(i) - gammaln(i - beta) + gammaln(j) - gammaln(j + beta)
            terms[plain] += weight * np.exp(beta * log_r + log_b)
        else:
            terms[plain] += weight * (log_r + digamma(i) - digamma(j))
    if tied.any():
        radius = np.maximum(rho[:, k_a - 1], nu[:, k_b - 1])[tied]
        l = within(a, a[tied], radius, metric) - 1
        k = within(b, a[tied], radius, metric)
        log_r = digamma(l) - digamma(k) + offset
        terms[tied] = np.exp(beta * log_r) if beta else log_r
    # d term/d log p_A: what a neighbour adds to the term of a point. For the logarithm the sum over a is constant.
    slope = beta * terms if beta else np.ones(n)
    hub = np.bincount(index_b[:, :k_b].ravel(), np.repeat(slope, k_b), m) * (m / (n * k_b))
    own = terms if not beta else terms + np.bincount(index_a[:, :k_a].ravel(), np.repeat(slope, k_a), n) / k_a
    beyond = 0.0 if beta else _beyond(a, b, nu[:, k_b - 1], k_b, metric)
    return Means(terms, own, -hub, beyond, float(hub.sum()) ** 2 / (m * float((hub**2).sum())))


def _beyond(a: Array, b: Array, nu: Array, k: int, metric: str) -> float:
    """What E_A log(1/p_B) lacks if the tails of B are Gaussian where points of ``a`` lie beyond all but k of ``b``.

    There a ball that reaches k points of ``b`` has most of its mass far from its centre, and p_B looks too large.
    """
    (m, d), p = b.shape, METRICS[metric]
    if m <= d:
        return 0.0  # without a covariance there is no interval either
    mean, L = b.mean(0), np.linalg.cholesky(np.atleast_2d(np.cov(b.T)))
    far, reach = (np.square(np.linalg.solve(L, (points - mean).T)).sum(0) for points in (a, b))
    out = far > np.partition(reach, m - k)[m - k]
    log_volume = d * (math.log(2) + gammaln(1 + 1 / p)) - gammaln(1 + d / p)
    by_count = digamma(k) - math.log(m) - log_volume - d * np.log(nu[out])
    gaussian = -far[out] / 2 - np.log(L.diagonal()).sum() - d / 2 * math.log(2 * math.pi)
    return float(np.maximum(by_count - gaussian, 0).sum()) / len(a)


def _cancelling(k: np.ndarray, d: int) -> np.ndarray:
    """The least weights on the k-th neighbours with Σw = 1 and Σ w Γ(k + 2/d)/Γ(k) = 0."""
    growth = gammaln(k + 2 / d) - gammaln(k)
    conditions = np.stack([np.ones(len(k)), np.exp(growth - growth.max())])
    return np.asarray(np.linalg.pinv(conditions) @ np.array([1.0, 0.0]))
