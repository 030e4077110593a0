"""Whether one sample may come from a Gaussian law: its moments, its characteristic function, its nearest neighbours."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from scipy.stats import chi2, lognorm, norm
from torch import Tensor

from estimators.classical.neighbors import Array, nearest_others

MOST = 1000  # points of a sample that the tests by pairs look at
FEWEST = 20  # points from which they say anything
NEIGHBOR = 5
DRAWS = 60  # of the null law of the test by neighbours


def normality(points: Tensor, weights: Tensor | None) -> dict[str, float]:
    """The p-values of tests that the law of a sample, with distinct points, is Gaussian.

    Mardia's tests see skewness and kurtosis, that of Henze and Zirkler other smooth departures, and that by neighbours
    narrow ones, such as a spike that holds a tenth of the mass. The last two take at most 1000 points, drawn without
    repetition; with weights a point is kept with a probability in their proportion, which leaves equal weights.
    """
    p_values = dict(zip(("skewness", "kurtosis"), mardia(points, weights), strict=True))
    x = thinned(points, weights)
    if len(x) >= max(FEWEST, points.shape[-1] + 4):
        z = whitened(x)
        p_values |= {"Henze–Zirkler": henze_zirkler(z), "neighbours": by_neighbors(z)}
    return p_values


def mardia(points: Tensor, weights: Tensor | None) -> tuple[float, float]:
    """The p-values of Mardia's tests of skewness and kurtosis; with weights n is the effective size.

    With z the standardised points, ‖E z⊗z⊗z‖² times n/6 and a factor that makes its mean right is compared with χ²
    of d(d + 1)(d + 2)/6 degrees, and E‖z‖⁴ with its exact mean and variance under normality. Beyond d = 40 the third
    moments are not formed.
    """
    w = points.new_full((len(points),), 1 / len(points)) if weights is None else weights
    centred = points - w @ points
    d, n = points.shape[-1], 1 / float((w**2).sum())
    L = torch.linalg.cholesky((w[:, None] * centred).T @ centred)
    z = torch.linalg.solve_triangular(L, centred.T, upper=False).T
    third = torch.einsum("i,ij,ik,il->jkl", w, z, z, z) if d <= 40 else None
    fourth = float((w * (z**2).sum(1) ** 2).sum())
    exact = (n + 1) * (n + 3) * (d + 1) / (n * ((n + 1) * (d + 1) - 6))  # makes the mean of n b/6 its degrees
    skewness = 1.0
    if third is not None:
        skewness = float(chi2.sf(n * exact * float((third**2).sum()) / 6, d * (d + 1) * (d + 2) / 6))
    mean = d * (d + 2) * (n - 1) / (n + 1)
    variance = 8 * d * (d + 2) * (n - 3) * (n - d - 1) * (n - d + 1) / ((n + 1) ** 2 * (n + 3) * (n + 5))
    kurtosis = 2 * float(norm.sf(abs(fourth - mean) / math.sqrt(variance)))
    return skewness, kurtosis


def henze_zirkler(z: Array) -> float:
    """The p-value of the test of Henze and Zirkler 1990 on whitened points, with the log-normal law of their section 4.

    n‖ψ_n − ψ‖² between the characteristic functions of z and of N(0, I), under the weight of N(0, β²I).
    """
    n, d = z.shape
    b = ((2 * d + 1) * n / 4) ** (2 / (d + 4)) / 2  # β²
    norms = (z**2).sum(1)
    pairs = np.maximum(norms[:, None] + norms - 2 * z @ z.T, 0)
    statistic = float(np.exp(-b / 2 * pairs).sum()) / n + n * (1 + 2 * b) ** (-d / 2)
    statistic -= 2 * (1 + b) ** (-d / 2) * float(np.exp(-b / (2 * (1 + b)) * norms).sum())
    a, c, w = 1 + 2 * b, 1 + 4 * b, (1 + b) * (1 + 3 * b)
    mean = 1 - a ** (-d / 2) * (1 + d * b / a + d * (d + 2) * b**2 / (2 * a**2))
    variance = 2 * c ** (-d / 2) + 2 * a**-d * (1 + 2 * d * b**2 / a**2 + 3 * d * (d + 2) * b**4 / (4 * a**4))
    variance -= 4 * w ** (-d / 2) * (1 + 3 * d * b**2 / (2 * w) + d * (d + 2) * b**4 / (2 * w**2))
    shape = math.sqrt(math.log1p(variance / mean**2))
    return float(lognorm.sf(statistic, shape, scale=mean / math.sqrt(1 + variance / mean**2)))


def by_neighbors(z: Array) -> float:
    """The p-value, one-sided and by the normal limit, of the negentropy that neighbours find in whitened points.

    A Gaussian law has the largest entropy of all with its covariance, and KL from it is what the entropy lacks
    (Vasicek 1976, Goria et al. 2005). Mean and variance under normality are those of 60 draws of the same size.
    """
    mean, spread = _null(*z.shape)
    return float(norm.sf((_negentropy(z) - mean) / spread))


def _negentropy(z: Array) -> float:
    """Up to a constant of n and d."""
    return -z.shape[1] * float(np.log(nearest_others(z, NEIGHBOR, "euclidean")[0][:, -1]).mean())


@lru_cache(maxsize=256)
def _null(n: int, d: int) -> tuple[float, float]:
    g = np.random.default_rng(0)
    found = [_negentropy(whitened(g.normal(size=(n, d)))) for _ in range(DRAWS)]
    return float(np.mean(found)), float(np.std(found, ddof=1))


def whitened(x: Array) -> Array:
    """Points with mean 0 and the unit matrix for covariance, with n for divisor."""
    centred = x - x.mean(0)
    L = np.linalg.cholesky(centred.T @ centred / len(x))
    return np.asarray(np.linalg.solve(L, centred.T).T)


def thinned(points: Tensor, weights: Tensor | None) -> Array:
    """At most `MOST` of the points; with weights each is kept with a probability in proportion to its weight."""
    g, x = np.random.default_rng(0), points.numpy()
    if weights is not None:
        w = weights.numpy()
        x = x[g.random(len(x)) < w / w.max()]
    return x if len(x) <= MOST else x[g.choice(len(x), MOST, replace=False)]
