"""Maximum mean discrepancy: the distance of two laws in the feature space of a kernel, from samples."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from divergences import kernels
from estimators import intervals, scale
from estimators.base import Estimator, Inference, full_precision, same_kind
from estimators.door import Samples, admit, admit_thoroughly, tensor
from estimators.kernel import random_features
from estimators.kernel import variance as mmd_variance
from estimators.kernel.witness import Witness, witness
from estimators.ops import pairwise

if TYPE_CHECKING:
    from typing import Self

_MINIMUM = {"unbiased": 2, "biased": 1, "linear": 4, "block": 4, "random_features": 2}
STATISTICS = tuple(_MINIMUM)
_OF_TERMS = 1.5  # b of a + b/√n, the part of their variance that one of n terms may make up


class MMD(Estimator):
    """The squared maximum mean discrepancy of a kernel k.

    MMD² = E k(X, X') + E k(Y, Y') − 2 E k(X, Y), in [0, 2 sup k]. The statistics, for n points of P and m of Q:

    - ``"unbiased"``: Σ_{i≠j} k(x_i, x_j)/(n(n−1)) + Σ_{i≠j} k(y_i, y_j)/(m(m−1)) − 2 Σ_ij k(x_i, y_j)/(nm); it may be
      negative. With weights Σ_{i≠j} w_i w_j k(x_i, x_j)/(1 − Σ w_i²).
    - ``"biased"``: the same with the pairs i = j, divided by n² and m²; MMD² of the empirical laws, never negative.
    - ``"linear"``: the mean over disjoint pairs of points; the longer sample is cut to the shorter.
    - ``"block"``: the mean of unbiased statistics over about √min(n, m) blocks of points. Both take points in the given
      order, which must be random (`estimate` shuffles them by its seed): in a sorted sample neighbours are alike.
    - ``"random_features"``: the unbiased statistic of the kernel that ``features`` random frequencies approximate; its
      error falls as features^(−1/2), is part of the interval and stands in the notes. The frequencies are drawn anew
      from the generator in each call (from seed 0 without one), once for a batch.

    ``squared=False`` gives the root of the biased statistic, MMD itself.

    ``kernel`` is a name, an object of `divergences.kernels`, or any callable k(x, y) -> (..., n, m). A bandwidth
    "median" is the median distance of the pooled sample, taken anew in each call and without a gradient. A learned one
    is `DeepKernel`: `fit` trains it, and the fitted one is then for other points.

    Bound: unbiased for a fixed kernel ("biased" is an upper bound in expectation).
    Rate: n^(−1/2), and n^(−1) at P = Q ("linear" n^(−1/2) and "block" n^(−3/4) there), in every dimension; random
    features add an error of features^(−1/2).
    Shapes: x (..., n, d), y (..., m, d), value (...,).
    Cost: O((n + m)²·d) time ("linear" O(n·d), "block" O(n^1.5·d), "random_features" O((n + m)·features·d)), memory
    O((n + m)·d) and one tile.
    Gradients: in x, y and the weights, twice where the kernel is twice differentiable. Those of random features for the
    Laplace kernel have no variance, as its frequencies have no mean.
    Interval: normal, from the unbiased variance with its second-order part, above with the variance at the limit, so
    that it holds for P = Q, P ≠ Q and in between. ``stderr`` is never below the second-order part, which makes it
    conservative near P = Q, where the unbiased estimate, `variance`, may be negative ("linear" and "block": both from
    the spread of the terms). With weights Σw² takes the place of 1/n: right to first order. Refused where no variation
    is seen beyond rounding, and where one point makes up over 40% of the variance, or over 70% of that of the row sums
    within the samples, where its part may cancel.

    Raises:
        ValueError: an unknown name; fewer points than the statistic needs; weights for "linear" or "block".
        NotImplementedError: random features of a kernel whose spectral law is not known.

    References: Gretton et al. 2012, eqs. (3), (5), lemma 14; Zaremba et al. 2013 (block); Sutherland and Deka 2019
    (unbiased variance); Rahimi and Recht 2007 (random features).

    Example:
        >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [3.0]])
        >>> MMD(kernels.Gaussian(1.0))(x, y).item()  # e^(−1/2) + e^(−9/2) − (1 + e^(−9/2) + e^(−1/2) + e^(−2))/2
        -0.2588...
    """

    divergence_name = "mmd"

    def __init__(
        self, kernel: Any = "gaussian", statistic: str = "unbiased", squared: bool = True, features: int = 1000
    ) -> None:
        super().__init__()
        named = kernels.get(kernel) if isinstance(kernel, str) else kernel  # raises for a name that is none
        if not callable(named):
            raise TypeError(f"kernel must be a name or a callable k(x, y): got {type(kernel).__name__}")
        if statistic not in STATISTICS:
            raise ValueError(f"statistic must be one of {', '.join(STATISTICS)}: got {statistic!r}")
        if not squared and statistic != "biased":
            raise ValueError(f'squared=False needs statistic="biased", as the {statistic} statistic may be negative')
        if features < 1 or features != int(features):
            raise ValueError(f"features must be a positive integer: got {features!r}")
        if statistic == "random_features":
            random_features.check(named)
        self.kernel = kernel
        self.statistic = statistic
        self.squared = squared
        self.features = int(features)
        self.bound = "upper" if statistic == "biased" else "unbiased"
        self.minimum = _MINIMUM[statistic]

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

    def fit(self, x: Any, y: Any, **options: Any) -> Self:
        """Train the kernel on x and y, by its own method ``fitted`` with these options; itself, to be used on new data.

        The kernel object that was given stays as it is.

        Raises:
            TypeError: a kernel that has nothing to learn.
        """
        kernel = kernels.get(self.kernel) if isinstance(self.kernel, str) else self.kernel
        if not hasattr(kernel, "fitted"):
            raise TypeError(
                f"fit needs a kernel that can be learned, such as DeepKernel(): {kernel!r} has nothing to learn, and a "
                'bandwidth "median" is taken from the points of each call'
            )
        self.kernel = kernel.fitted(admit_thoroughly(x, y), **options)
        return self

    def witness(self, x: Any, y: Any, points: Any = None, x_weights: Any = None, y_weights: Any = None) -> Witness:
        """w(z) = E k(z, X) − E k(z, Y), estimated at ``points`` (..., p, d), with standard errors.

        w is positive where P has more mass than Q at the scale of the kernel; MMD² = E w(X) − E w(Y). Without
        ``points`` it is taken at the pooled sample, x before y, where the mean over a sample leaves out the point
        itself, and so stays unbiased. ``.standardized`` divides by the standard errors; ``.top(5, "x")`` are the points
        that speak most for P, "y" for Q. Differentiable in the points, in x, y and the weights.

        Cost: O(p·(n + m)·d) time, one tile of memory. References: Gretton et al. 2012, §2.3.

        Raises:
            ValueError: fewer than 3 points on a side; points of another dimension.

        Example:
            >>> x, y = torch.tensor([[0.0], [0.1], [0.2]]), torch.tensor([[4.0], [4.1], [4.3]])
            >>> found = MMD(kernels.Gaussian(1.0)).witness(x, y, torch.tensor([[0.0], [4.0]]))
            >>> found.values, found.top(1, "y")
            (tensor([ 0.9915, -0.9831]), tensor([[4.]]))
        """
        s = admit(x, y, x_weights, y_weights, minimum=3)
        z = None if points is None else tensor(points, "points").to(s.x)
        if z is not None and (z.ndim < 2 or z.shape[-1] != s.x.shape[-1]):
            raise ValueError(f"points must be (..., p, {s.x.shape[-1]}), as x and y: got shape {tuple(z.shape)}")
        with full_precision(s.x):
            found = witness(self.resolved_kernel(s), s, z)
        given = (x, y, points)
        return Witness(*(same_kind(part, *given) for part in found))

    def variance(self, x: Any, y: Any, x_weights: Any = None, y_weights: Any = None) -> Any:
        """The unbiased estimate of the variance of the unbiased statistic, (...,); near P = Q it may be negative.

        With weights, or a bandwidth taken from the points, to first order only. Raises ValueError below 4 points.

        Example:
            >>> x = torch.arange(8.0)[:, None]
            >>> bool(MMD(kernels.Gaussian(1.0)).variance(x, x + 0.5) < 0)
            True
        """
        s = admit(x, y, x_weights, y_weights, minimum=mmd_variance.FEWEST)
        with full_precision(s.x):
            kernel = self.resolved_kernel(s)
            return same_kind(mmd_variance.moments(kernel, _centred(kernel, s)).variance, x, y)

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """The statistic, squared or its root."""
        kernel = self.resolved_kernel(s)
        s = _centred(kernel, s)
        if self.statistic == "random_features":
            return random_features.compute(kernel, s, self.features, generator)
        return self._rooted(self._statistic(kernel, s))

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """The statistic with an interval for MMD² of the kernel at the bandwidth that these points chose."""
        if hasattr(self.kernel, "on_new_points"):  # a learned kernel, which no interval holds for where it learned
            kernel, s, notes = self.kernel.on_new_points(s, generator)
            found = self._with(kernel)._infer(s, confidence, generator)
            return found._replace(notes=(*notes, *found.notes))
        return self._infer(s, confidence, generator)

    def _with(self, kernel: Any) -> Self:
        other = copy.copy(self)
        other._modules = dict(self._modules)  # nn.Module keeps modules apart, and a copy would share them
        other.kernel = kernel
        return other

    def _infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        kernel = self.resolved_kernel(s)
        s = _centred(kernel, s)
        if (why := scale.constant(s)) is not None:
            found = Inference(float(self.compute(s, generator)), None, None, (why,))
        elif self.statistic in ("linear", "block"):
            found = self._from_terms(kernel, _shuffled(s, generator), confidence)
        elif self.statistic == "random_features":
            found = random_features.infer(kernel, s, self.features, confidence, generator)
        else:
            found = self._from_moments(kernel, s, confidence)
        if isinstance(kernel, kernels.Kernel):
            found = found._replace(notes=found.notes + scale.units(s))
        if repr(kernel) == repr(self.kernel):
            return found
        note = f"kernel {kernel!r}; a bandwidth chosen from the points is part of the definition here"
        return found._replace(notes=(note, *found.notes))

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

    def _from_moments(self, kernel: Any, s: Samples, confidence: float) -> Inference:
        effective = mmd_variance.effective(s)
        if effective < mmd_variance.FEWEST - 1e-9:
            return Inference(float(self._rooted(self._statistic(kernel, s))), None, None, (mmd_variance.TOO_FEW,))
        moments = mmd_variance.moments(kernel, s)
        value, stderr = float(moments.unbiased), moments.stderr
        interval = moments.interval(confidence, effective - 1)
        notes: tuple[str, ...] = ()
        if s.x_weights is not None or s.y_weights is not None:
            notes += (f"the weights leave {effective:.3g} effective points on the smaller side",)
        if self.statistic == "biased":
            value, unbiased = float(self._statistic(kernel, s)), value
            interval = (interval[0], interval[1] + max(value - unbiased, 0.0))
            notes += (f"biased upwards by about {value - unbiased:.3g}, which the interval makes up for",)
        root = math.sqrt(max(value, 0.0))
        if (why := moments.refusal()) is not None:
            return Inference(value if self.squared else root, None, None, (*notes, why))
        if self.squared:
            return Inference(value, stderr, interval, notes)
        interval = (math.sqrt(max(interval[0], 0.0)), math.sqrt(max(interval[1], 0.0)))
        return Inference(root, stderr / (2 * root) if root > 0 else None, interval, notes)  # the delta method

    def _from_terms(self, kernel: Any, s: Samples, confidence: float) -> Inference:
        value = float(self._statistic(kernel, s))
        terms = (_linear if self.statistic == "linear" else _block)(kernel, s.x, s.y)
        used = 2 * len(terms) if self.statistic == "linear" else _sizes(s.x, s.y)
        notes = (f"the {self.statistic} statistic uses {used} of {len(s.x)} and {len(s.y)} points, in random order",)
        if len(terms) < intervals.FEWEST:
            return Inference(value, None, None, notes + (f"no interval from {len(terms)} terms",))
        if (why := _refusal(terms, kernel, s)) is not None:
            return Inference(value, None, None, (*notes, why))
        stderr = float(terms.std()) / math.sqrt(len(terms))
        return Inference(value, stderr, intervals.normal(value, stderr, confidence, len(terms) - 1), notes)


def _refusal(terms: Tensor, kernel: Any, s: Samples) -> str | None:
    """Why their mean has no interval, where they do not vary or one of them makes up most of the variance."""
    largest = max(float(kernel(p, q[:1]).abs().amax()) for p, q in ((s.x, s.y), (s.y, s.x)))
    rounding = len(terms) * torch.finfo(terms.dtype).eps * largest  # a term is a difference of values of the kernel
    if not float(terms.std()) > rounding:
        return "no interval: the terms show no sampling variation beyond rounding"
    share = intervals.largest_share(terms - terms.mean())
    if share > mmd_variance.HEAVY + _OF_TERMS / math.sqrt(len(terms)):
        return (
            f"no interval: one of {len(terms)} terms makes up {share:.0%} of the variance, so the limit is not normal"
        )
    return None


def _shuffled(s: Samples, generator: torch.Generator) -> Samples:
    """The points in random order: blocks of a sorted file are no samples of its law."""
    x, y = (p[torch.randperm(len(p), generator=generator).to(p.device)] for p in (s.x, s.y))
    return s._replace(x=x, y=y)


def _centred(kernel: Any, s: Samples) -> Samples:
    """The points with the origin at the middle of their means, where MMD does not depend on the origin."""
    if not getattr(kernel, "is_shift_free", False):
        return s
    c = (s.x.detach().mean(-2, keepdim=True) + s.y.detach().mean(-2, keepdim=True)) / 2
    return s._replace(x=s.x - c, y=s.y - c)


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
