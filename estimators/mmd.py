"""Maximum mean discrepancy: the distance of two laws in the feature space of a kernel, from samples."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from divergences import kernels
from estimators import intervals
from estimators.base import Estimator, Inference
from estimators.door import Samples
from estimators.ops import pairwise

STATISTICS = ("unbiased", "biased", "linear", "block")


class MMD(Estimator):
    """The squared maximum mean discrepancy of a kernel k.

    MMD² = E k(X, X') + E k(Y, Y') − 2 E k(X, Y), in [0, 2 sup k]. The statistics, for n points of P and m of Q:

    - ``"unbiased"``: Σ_{i≠j} k(x_i, x_j)/(n(n−1)) + Σ_{i≠j} k(y_i, y_j)/(m(m−1)) − 2 Σ_ij k(x_i, y_j)/(nm); it may be
      negative. With weights Σ_{i≠j} w_i w_j k(x_i, x_j)/(1 − Σ w_i²).
    - ``"biased"``: the same with the pairs i = j, divided by n² and m²; MMD² of the empirical laws, never negative.
    - ``"linear"``: the mean over disjoint pairs of points, in the given order; the longer sample is cut to the shorter.
    - ``"block"``: the mean of unbiased statistics over about √min(n, m) blocks of points, in the given order.

    ``squared=False`` gives the root of the biased statistic, MMD itself.

    ``kernel`` is a name, an object of `divergences.kernels`, or any callable k(x, y) -> (..., n, m). A bandwidth
    "median" is the median distance of the pooled sample, taken anew in each call and without a gradient.

    Bound: unbiased for a fixed kernel ("biased" is an upper bound in expectation).
    Shapes: x (..., n, d), y (..., m, d), value (...,).
    Cost: O((n + m)²·d) time ("linear" O(n·d), "block" O(n^1.5·d)), memory O((n + m)·d) and one tile.
    Gradients: in x, y and the weights, twice where the kernel is twice differentiable.
    Interval: normal, from the unbiased variance with its second-order part, above with the variance at the limit, so
    that it holds for P = Q, P ≠ Q and in between ("linear" and "block": from the spread of the terms; with weights:
    block jackknife).

    Raises:
        ValueError: an unknown name; fewer points than the statistic needs; weights for "linear" or "block".

    References: Gretton et al. 2012, eqs. (3), (5), lemma 14; Zaremba et al. 2013 (block); Sutherland and Deka 2019
    (unbiased variance).

    Example:
        >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [3.0]])
        >>> MMD(kernels.Gaussian(1.0))(x, y).item()  # e^(−1/2) + e^(−9/2) − (1 + e^(−9/2) + e^(−1/2) + e^(−2))/2
        -0.2588...
    """

    divergence_name = "mmd"

    def __init__(self, kernel: Any = "gaussian", statistic: str = "unbiased", squared: bool = True) -> None:
        super().__init__()
        if isinstance(kernel, str):
            kernels.get(kernel)  # raises for a name that is none
        if statistic not in STATISTICS:
            raise ValueError(f"statistic must be one of {', '.join(STATISTICS)}: got {statistic!r}")
        if not squared and statistic != "biased":
            raise ValueError(f'squared=False needs statistic="biased", as the {statistic} statistic may be negative')
        self.kernel = kernel
        self.statistic = statistic
        self.squared = squared
        self.bound = "upper" if statistic == "biased" else "unbiased"
        self.minimum = {"unbiased": 2, "biased": 1, "linear": 4, "block": 4}[statistic]

    def resolved_kernel(self, s: Samples) -> Any:
        """The kernel that ``s`` is compared with: names looked up, a median bandwidth replaced by its value."""
        kernel = kernels.get(self.kernel) if isinstance(self.kernel, str) else self.kernel
        if not hasattr(kernel, "resolved"):
            return kernel
        lead = torch.broadcast_shapes(s.x.shape[:-2], s.y.shape[:-2])
        pooled = [p.detach().expand(*lead, *p.shape[-2:]) for p in (s.x, s.y)]
        points = torch.cat(pooled, -2)
        if lead and self.statistic in ("linear", "block"):
            points = points.unsqueeze(-3)  # one bandwidth a problem, for all of its terms
        return kernel.resolved(points)

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """The statistic, squared or its root."""
        kernel = self.resolved_kernel(s)
        return self._rooted(self._statistic(kernel, _centred(kernel, s)))

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """The statistic with an interval for MMD² of the kernel at the bandwidth that these points chose."""
        kernel = self.resolved_kernel(s)
        s = _centred(kernel, s)
        notes: tuple[str, ...] = ()
        if repr(kernel) != repr(self.kernel):
            notes += (f"kernel {kernel!r}; a bandwidth chosen from the points is part of the definition here",)
        if self.statistic in ("linear", "block"):
            return self._from_terms(kernel, s, confidence, notes)
        if s.x_weights is not None or s.y_weights is not None:
            value, stderr, interval, why = intervals.jackknife(
                lambda part: float(self._rooted(self._statistic(kernel, part))), s, confidence, generator.initial_seed()
            )
            return Inference(value, stderr, interval, notes + why)
        moments = _Moments.of(kernel, s.x, s.y)
        biased = float(self._statistic(kernel, s)) if self.statistic == "biased" else None
        value = moments.unbiased if biased is None else biased
        if min(len(s.x), len(s.y)) < 4:
            value = value if self.squared else math.sqrt(max(value, 0.0))
            return Inference(value, None, None, notes + ("no interval: its variance needs at least 4 points a side",))
        stderr = math.sqrt(moments.variance)
        interval = moments.interval(confidence, min(len(s.x), len(s.y)) - 1)
        if biased is not None:
            interval = (interval[0], interval[1] + max(biased - moments.unbiased, 0.0))
            notes += (f"biased upwards by about {biased - moments.unbiased:.3g}, which the interval makes up for",)
        if not self.squared:
            value = math.sqrt(max(value, 0.0))
            stderr = stderr / (2 * value) if value > 0 else None  # the delta method
            interval = (math.sqrt(max(interval[0], 0.0)), math.sqrt(max(interval[1], 0.0)))
        return Inference(value, stderr, interval, notes)

    def _rooted(self, squared: Tensor) -> Tensor:
        return squared if self.squared else kernels.safe_sqrt(squared)

    def _statistic(self, kernel: Any, s: Samples) -> Tensor:
        if self.statistic in ("linear", "block"):
            if s.x_weights is not None or s.y_weights is not None:
                raise ValueError(f'statistic "{self.statistic}" takes no weights: use "unbiased" or "biased"')
            return (_linear if self.statistic == "linear" else _block)(kernel, s.x, s.y).mean(-1)
        unbiased = self.statistic == "unbiased"
        S_xx = _within(kernel, s.x, s.x_weights, unbiased)
        S_yy = _within(kernel, s.y, s.y_weights, unbiased)
        S_xy = _mean(pairwise.row_sums(kernel, s.x, s.y, s.y_weights), s.x_weights)
        return S_xx + S_yy - 2 * (S_xy if s.y_weights is not None else S_xy / s.y.shape[-2])

    def _from_terms(self, kernel: Any, s: Samples, confidence: float, notes: tuple[str, ...]) -> Inference:
        value = float(self._statistic(kernel, s))
        terms = (_linear if self.statistic == "linear" else _block)(kernel, s.x, s.y)
        used = 2 * len(terms) if self.statistic == "linear" else _sizes(s.x, s.y)
        notes += (f"the {self.statistic} statistic uses {used} of {len(s.x)} and {len(s.y)} points, in their order",)
        if len(terms) < intervals.FEWEST:
            return Inference(value, None, None, notes + (f"no interval from {len(terms)} terms",))
        stderr = float(terms.std()) / math.sqrt(len(terms))
        return Inference(value, stderr, intervals.normal(value, stderr, confidence, len(terms) - 1), notes)


class _Moments(NamedTuple):
    """The unbiased statistic of one problem and the unbiased estimate of its variance."""

    unbiased: float
    variance: float
    slope: float  # bounds how fast the variance grows with MMD²

    @classmethod
    def of(cls, kernel: Any, x: Tensor, y: Tensor) -> _Moments:
        """From row sums of k and the sum of k², O(nm).

        With k(x, x') = E k + u(x) + u(x') + h_xx(x, x') and k(x, y) = E k + p(x) + q(y) + h_xy(x, y), and likewise for
        yy with v and h_yy (Hoeffding), the variance of the U-statistic is exactly

            4/n Var(u − p) + 4/m Var(v − q) + 2/(n(n−1)) E h_xx² + 2/(m(m−1)) E h_yy² + 4/(nm) E h_xy².

        Each part has an unbiased estimate: E h² from residual sums of squares of the additive fit, Var(u − p) from the
        sample variance of a_i/(n−2) − c_i/m with row sums a, c, less the noise of the row sums.

        The first part is at most slope·MMD²: with the witness w = μ_P − μ_Q and the covariance operator Σ of the
        features under P, Var(u − p) = ⟨w, Σw⟩ ≤ ‖Σ‖·MMD², and ‖Σ‖² ≤ tr Σ² = E h_xx².
        """
        n, m = len(x), len(y)
        a, _, k2_xx = pairwise.row_moments(kernel, x, x, exclude_self=True)
        b, _, k2_yy = pairwise.row_moments(kernel, y, y, exclude_self=True)
        c, e, k2_xy = pairwise.row_moments(kernel, x, y)
        unbiased = float(a.sum() / (n * (n - 1)) + b.sum() / (m * (m - 1)) - 2 * c.sum() / (n * m))
        if min(n, m) < 4:
            return cls(unbiased, math.nan, math.nan)
        h_xx, h_yy, h_xy = _within_residual(a, k2_xx), _within_residual(b, k2_yy), _between_residual(c, e, k2_xy)
        s_x = float((a / (n - 2) - c / m).var()) - h_xx / (n - 2) - h_xy / m
        s_y = float((b / (m - 2) - e / n).var()) - h_yy / (m - 2) - h_xy / n
        second = 2 * h_xx / (n * (n - 1)) + 2 * h_yy / (m * (m - 1)) + 4 * h_xy / (n * m)
        first = 4 * s_x / n + 4 * s_y / m  # negative by chance near P = Q, and then no guide to the variance
        slope = 4 * (math.sqrt(h_xx) / n + math.sqrt(h_yy) / m)
        return cls(unbiased, max(first + second, second / 2), slope)

    def interval(self, confidence: float, degrees: int) -> tuple[float, float]:
        """Limits θ with |U − θ| ≤ t·sd(θ), where above U the variance grows with θ by half the slope.

        A statistic that is small by chance comes with a variance that is too small, so that U + t·sd(U) fails: it
        covered 86% at n = 100 between the two regimes. Half of the slope (the bound is met by the worst witness of the
        worst kernel) covered 96% and more in every regime tried.
        """
        t = intervals.half_width(1.0, confidence, degrees)
        half = t * math.sqrt(self.variance)
        lift = t * t * self.slope / 4  # Δ² = t² (variance + slope/2 Δ)
        return self.unbiased - half, self.unbiased + lift + math.hypot(lift, half)


def _centred(kernel: Any, s: Samples) -> Samples:
    """The points with the origin at the middle of their means, where MMD does not depend on the origin."""
    if not getattr(kernel, "is_shift_free", False):
        return s
    c = (s.x.detach().mean(-2, keepdim=True) + s.y.detach().mean(-2, keepdim=True)) / 2
    return s._replace(x=s.x - c, y=s.y - c)


def _within_residual(a: Tensor, k2: Tensor) -> float:
    """Unbiased E h², for k(x_i, x_j) = μ + u_i + u_j + h_ij with row sums a over j ≠ i and k2 = Σ_{i≠j} k²."""
    n = len(a)
    total = a.sum()
    residual = k2 / 2 - total.square() / (2 * n * (n - 1)) - (a - total / n).square().sum() / (n - 2)
    return max(float(residual), 0.0) / (n * (n - 3) / 2)


def _between_residual(c: Tensor, e: Tensor, k2: Tensor) -> float:
    """Unbiased E h², for k(x_i, y_j) = μ + p_i + q_j + h_ij with row sums c, column sums e and k2 = Σ k²."""
    n, m = len(c), len(e)
    total = c.sum()
    rows, columns = (c - total / n).square().sum() / m, (e - total / m).square().sum() / n
    return max(float(k2 - total.square() / (n * m) - rows - columns), 0.0) / ((n - 1) * (m - 1))


def _within(kernel: Any, x: Tensor, w: Tensor | None, unbiased: bool) -> Tensor:
    """The mean of k over pairs of points of one sample; over distinct pairs where ``unbiased``."""
    n = x.shape[-2]
    sums = _mean(pairwise.row_sums(kernel, x, x, w, exclude_self=unbiased), w)
    if w is None:
        return sums / (n - 1 if unbiased else n)
    return sums / (1 - w.square().sum(-1)) if unbiased else sums


def _mean(sums: Tensor, w: Tensor | None) -> Tensor:
    return sums.mean(-1) if w is None else (w * sums).sum(-1)


def _linear(kernel: Any, x: Tensor, y: Tensor) -> Tensor:
    """H of lemma 14, Gretton et al. 2012, for each disjoint pair of points, (..., min(n, m)//2)."""
    half = min(x.shape[-2], y.shape[-2]) // 2
    x1, x2, y1, y2 = (p[..., start : 2 * half : 2, None, :] for p in (x, y) for start in (0, 1))
    return (kernel(x1, x2) + kernel(y1, y2) - kernel(x1, y2) - kernel(x2, y1)).squeeze((-2, -1))


def _sizes(x: Tensor, y: Tensor) -> str:
    blocks = _block_count(x, y)
    return f"{len(x) // blocks * blocks} and {len(y) // blocks * blocks} (in {blocks} blocks)"


def _block_count(x: Tensor, y: Tensor) -> int:
    shorter = min(x.shape[-2], y.shape[-2])
    return min(max(1, math.isqrt(shorter)), shorter // 2)


def _block(kernel: Any, x: Tensor, y: Tensor) -> Tensor:
    """The unbiased statistic of each block of points, (..., blocks)."""
    blocks = _block_count(x, y)
    parts = []
    for p in (x, y):
        size = p.shape[-2] // blocks
        parts.append(p[..., : size * blocks, :].reshape(*p.shape[:-2], blocks, size, p.shape[-1]))
    x, y = parts
    S_xy = pairwise.row_sums(kernel, x, y).mean(-1) / y.shape[-2]
    return _within(kernel, x, None, True) + _within(kernel, y, None, True) - 2 * S_xy
