"""Kernel models of the ratio p/q itself: uLSIF by least squares and KLIEP by likelihood, cross-validated."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from estimators.ratio.models import Array, LogRatio

CENTRES = 100
WIDTHS = np.geomspace(0.2, 2.0, 6)  # over the median distance
RIDGES = np.geomspace(1e-4, 1.0, 7)
NEAR = 3.0  # points of y, by weight, within a kernel of KLIEP: one that no y comes near would take any height
LEAST = 1e-3  # a ratio below it is taken to be it: its logarithm would be noise


class _Basis(NamedTuple):
    """Gaussian kernels around points of x, in coordinates of unit spread."""

    mean: Array
    scale: Array
    centres: Array
    median: float

    def squares(self, points: Array) -> Array:
        """Squared distances to the centres."""
        from scipy.spatial.distance import cdist

        return np.asarray(cdist((points - self.mean) / self.scale, self.centres, "sqeuclidean"))


def _basis(x: Array, y: Array, seed: int) -> _Basis:
    from scipy.spatial.distance import pdist

    rng = np.random.default_rng(seed)
    both = np.concatenate([x, y])
    mean, scale = both.mean(0), both.std(0)
    scale[scale == 0] = 1.0
    some = rng.choice(len(both), min(len(both), 500), replace=False)
    median = float(np.median(pdist((both[some] - mean) / scale))) or 1.0
    centres = (x[rng.choice(len(x), min(len(x), CENTRES), replace=False)] - mean) / scale
    return _Basis(mean, scale, centres, median)


def _gaussian(squares: Array, width: float) -> Array:
    return np.asarray(np.exp(squares / (-2 * width**2)))


def _unweighted(name: str, *weights: Array | None) -> None:
    if any(w is not None for w in weights):
        raise ValueError(f'model="{name}" takes no weights and no prior: leave them out, or use model="logistic"')


class ULSIF:
    """r(z) = Σ α_l K(z, c_l) with α = max(0, (Ĥ + λI)⁻¹ ĥ), the least-squares fit of p/q under Q.

    Ĥ = mean_y φφᵀ and ĥ = mean_x φ. The bandwidth and λ minimise the leave-one-out score, in closed form (Kanamori,
    Hido and Sugiyama 2009, section 3.3).
    """

    name = "ulsif"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, x: Array, y: Array, x_weights: Array | None = None, y_weights: Array | None = None) -> LogRatio:
        """Fit; the log ratio is at least log(1e-3)."""
        _unweighted(self.name, x_weights, y_weights)
        basis = _basis(x, y, self.seed)
        sx, sy = basis.squares(x), basis.squares(y)
        k = min(len(x), len(y))
        best = (math.inf, 0.0, np.zeros(0))
        for width in WIDTHS * basis.median:
            fx, fy = _gaussian(sx, width), _gaussian(sy, width)
            H, h = fy.T @ fy / len(y), fx.mean(0)
            for ridge in RIDGES:
                score = _leave_one_out(H, h, fx[:k], fy[:k], len(x), len(y), ridge)
                if score < best[0]:
                    alpha = np.linalg.solve(H + ridge * np.eye(len(h)), h).clip(0)
                    best = score, width, alpha
        _, width, alpha = best
        return lambda points: np.log(np.maximum(_gaussian(basis.squares(points), width) @ alpha, LEAST))


def _leave_one_out(H: Array, h: Array, fx: Array, fy: Array, n: int, m: int, ridge: float) -> float:
    """½ mean r(y_i)² − mean r(x_i), r without x_i and y_i, by the Sherman–Morrison formula."""
    from scipy.linalg import cho_factor, cho_solve

    B = cho_factor(H + ridge * (m - 1) / m * np.eye(len(h)))
    Bh, Bx, By = cho_solve(B, h), cho_solve(B, fx.T), cho_solve(B, fy.T)
    below = m - np.einsum("il,li->i", fy, By)
    rest = By / below
    B0 = Bh[:, None] + rest * (fy @ Bh)
    B1 = Bx + rest * np.einsum("il,li->i", fy, Bx)
    B2 = (m - 1) / (m * (n - 1)) * (n * B0 - B1)
    B2 = B2.clip(0)
    ry, rx = np.einsum("il,li->i", fy, B2), np.einsum("il,li->i", fx, B2)
    return float(np.square(ry).mean() / 2 - rx.mean())


class KLIEP:
    """r(z) = Σ α_l K(z, c_l), α ≥ 0, that maximises mean_x log r subject to mean_y r = 1.

    The bandwidth maximises the likelihood of held-out x over five folds (Sugiyama et al. 2008, section 3). With
    π_l = α_l mean_y K(y, c_l) it is the likelihood of a mixture with known components, solved by its EM iteration.
    """

    name = "kliep"

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    def fit(self, x: Array, y: Array, x_weights: Array | None = None, y_weights: Array | None = None) -> LogRatio:
        """Fit; the log ratio is at least log(1e-3)."""
        _unweighted(self.name, x_weights, y_weights)
        basis = _basis(x, y, self.seed)
        sx, sy = basis.squares(x), basis.squares(y)
        fold = np.random.default_rng(self.seed).permutation(len(x)) % 5
        best = (-math.inf, 0.0)
        for width in WIDTHS * basis.median:
            fx, below = _gaussian(sx, width), _gaussian(sy, width).mean(0)
            score = 0.0
            for k in range(5):
                alpha = _most_likely(fx[fold != k], below, len(y), 50)
                score += float(np.log(np.maximum(fx[fold == k] @ alpha, LEAST)).sum())
            if score > best[0]:
                best = score, width
        width = best[1]
        alpha = _most_likely(_gaussian(sx, width), _gaussian(sy, width).mean(0), len(y), 500)
        return lambda points: np.log(np.maximum(_gaussian(basis.squares(points), width) @ alpha, LEAST))


def _most_likely(fx: Array, below: Array, m: int, steps: int) -> Array:
    """α ≥ 0 that maximises mean log(fx α) subject to below·α = 1."""
    used = below * m >= NEAR
    if not used.any():
        used = below == below.max()
    parts = fx[:, used] / below[used]
    share = np.full(parts.shape[1], 1 / parts.shape[1])
    for _ in range(steps):
        mixture = np.maximum(parts @ share, 1e-300)
        update = share * (parts / mixture[:, None]).mean(0)
        total = update.sum()
        if total == 0:
            break
        update /= total
        moved = np.abs(update - share).sum()
        share = update
        if moved < 1e-6:
            break
    alpha = np.zeros(len(below))
    alpha[used] = share / below[used]
    return alpha
