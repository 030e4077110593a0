"""Closed forms between the Gaussian laws that are fitted to both samples."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.special import digamma
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

import divergences as dv
from estimators import intervals
from estimators.base import Estimator, Inference
from estimators.classical.neighbors import refuse_discrete, repeated
from estimators.classical.normality import normality
from estimators.classical.targets import on_cpu, one_by_one
from estimators.door import Samples
from estimators.kernel.variance import growing_interval

LEVEL = 0.05  # of all tests of normality together
_WISHART = {"kl": (False,), "reverse_kl": (True,), "jeffreys": (False, True)}  # from which side
_STEP = 0.02  # of the differences, in standard deviations and variances
_FAR = {"interval": 10.0, "bias": 3.0}  # standard errors to an infinite D from which first-order limits are taken
_HELD = 2_000_000  # numbers of covariances at a time
Value = Callable[[Tensor, Tensor], Tensor]


class GaussianPlugIn(Estimator):
    """D(N(μ_x, Σ_x)‖N(μ_y, Σ_y)) with the moments of both samples, less its bias of first order.

    Any divergence that `divergences` evaluates between Gaussians: kl, renyi, alpha, hellinger and others of a closed
    form in every dimension, ``dv.get("wasserstein", order=2)``, and all f-divergences at d = 1, by quadrature. The bias
    is removed by the jackknife: with θ of all points, θ_i without point i and weights w_i (1/n without),

        θ − Σ_i (1 − w_i)(θ_i − θ) over x − the same over y,        stderr² = Σ_i (1 − w_i)(θ_i − θ̄)² over both,

    which leaves a bias of second order. That of kl, reverse_kl and jeffreys is removed exactly, from the expectations
    of S⁻¹ and log|S| under normality: they are unbiased for Gaussian laws (with weights nearly). Hellinger's and
    Wasserstein's distances are roots: their squares are what is corrected, and a square that comes out negative gives 0
    and a note. Covariances have n − 1 for divisor (with weights 1 − Σw²). Where no closed form exists, θ_i is taken to
    second order in the moments.

    A divergence of powers of p/q, such as chi2 or Rényi's of an order above 1, is infinite between Gaussians whose
    covariances differ by too much. The value is inf where that of the fitted ones is. Where it is finite, but infinite
    without one of the points or for moments that are 3 standard errors up in D, no bias is removed: to first order it
    would be far too much, and the value negative.

    Bound: consistent for Gaussian laws alone; for others it tends to the divergence of Gaussians with their moments.
    Rate: n^(−1/2) for Gaussian laws, in every dimension.
    Shapes: x (..., n, d), y (..., m, d) with n, m ≥ d + 4, value (...,); a batch is solved one by one, on the CPU.
    Cost: O((n + m) d³), memory O((n + m) d).
    Gradients: none; a tensor that requires a gradient raises TypeError.
    Interval: normal, with an upper end whose own error, which near P = Q grows with D, puts the value there. Where
    moments that are 10 standard errors up in D make it infinite, the limit is skewed, and the interval takes in D at
    the moments that lie the normal quantile of standard errors down and up; where the upper is inf there is no upper
    limit. It is refused where D is infinite, of
    all points or without one, where points repeat, where tests of normality of x and y (Mardia's of skewness and
    kurtosis, that of Henze and Zirkler, and one by neighbours, on at most 1000 points) reject at level 0.05 in all, and
    where a corrected square is below 0 by its error. The tests see a narrow spike that holds a tenth of the mass from
    n = 400 on, mostly; a departure that they do not see at the given n is not covered.

    Raises:
        ValueError: fewer than d + 4 points; a covariance that is singular; discrete data or columns.
        NotImplementedError: a divergence without a value between Gaussians of that dimension.
        TypeError: a gradient is asked for.

    References: Efron and Stein 1981 (jackknife); Muirhead 1982, chapter 3 (Wishart expectations);
    Mardia 1974, Henze and Zirkler 1990, Vasicek 1976 (tests); Dowson and Landau 1982 (W₂ between Gaussians).

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(2000, 5, generator=g), torch.randn(2000, 5, generator=g) + 0.2
        >>> round(GaussianPlugIn("kl")(x, y).item(), 1)  # ½·5·0.04
        0.1
    """

    differentiable = False
    minimum = 5

    def __init__(self, divergence: Any = "kl") -> None:
        super().__init__()
        found = dv.get(divergence) if isinstance(divergence, str) else divergence
        if not isinstance(found, dv.FDivergence | dv.Named):
            raise TypeError(f"divergence must be a name, an FDivergence or a Named: got {type(found).__name__}")
        if found.name in ("mmd", "kolmogorov_smirnov"):
            raise NotImplementedError(f"GaussianPlugIn has no closed form of {found.name}: use est.MMD or a test")
        self.divergence, self.exact = divergence, found
        self.divergence_name = found.name
        self.root = {"hellinger": 2.0, "wasserstein": 2.0}.get(found.name, 1.0)

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """The value, without a gradient."""
        return one_by_one(s, "GaussianPlugIn", lambda part: self._rooted(self._found(part).value))

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """The value with an interval, or the reason why there is none."""
        s = on_cpu(s)
        found = self._found(s)
        value = self._rooted(found.value)
        doubt = _not_gaussian(s)
        notes: tuple[str, ...] = ()
        if doubt:
            notes = (f"not Gaussian ({doubt}): this is the divergence of Gaussians with their moments",)
        if found.along is None:
            if math.isinf(value):
                why = "infinite for the fitted Gaussians; for others within their error it may be finite"
                refusal = "no interval: the value is infinite"
            else:
                why = "no bias was removed: it takes a finite value without each point"
                refusal = "no interval: without one of the points the fitted Gaussians have an infinite value"
            return Inference(value, None, None, (*notes, why, refusal))
        if found.removed:
            notes += (f"a bias of {found.bias:.3g} was removed{' from the square' * (self.root > 1)}",)
        else:
            notes += (f"no bias was removed: moments within {_FAR['bias']:g} standard errors make the value infinite",)
        stderr = found.stderr / (self.root * value ** (self.root - 1)) if value > 0 or self.root == 1 else None
        if self.root > 1 and found.value <= 0:
            notes += ("the corrected square is negative: 0 is returned",)
        if doubt:
            return Inference(value, stderr, None, (*notes, f"no interval: the samples are not Gaussian ({doubt})"))
        notes += ("holds for Gaussian laws, which no test of normality rejects",)
        low, high = growing_interval(found.whole - found.bias, found.stderr**2, found.growth, confidence, math.inf)
        if self._is_infinite(found.along, _FAR["interval"]):
            t = intervals.half_width(1.0, confidence, math.inf)
            low, high = min(low, found.along(-t)), max(high, found.along(t))
            notes += ("the interval allows for moments near the fitted ones that make the value infinite",)
        if math.isinf(high):
            notes += ("no upper limit: within the error of the moments it is infinite",)
        if self.root > 1 and high <= 0:
            return Inference(value, stderr, None, (*notes, "no interval: the corrected square is below 0 by its error"))
        return Inference(value, stderr, (self._rooted(low), self._rooted(high)), notes)

    def _rooted(self, value: float) -> float:
        return max(value, 0.0) ** (1 / self.root) if self.root > 1 else value

    def _found(self, s: Samples) -> _Found:
        d = s.x.shape[-1]
        refuse_discrete(s.x.numpy(), s.y.numpy(), "GaussianPlugIn")
        for name, part in (("x", s.x), ("y", s.y)):
            if len(part) < d + 4:
                raise ValueError(f"{name} needs at least {d + 4} points in {d} dimensions: got {len(part)}")
        x, y = (_Fit.of(*side) for side in (("x", s.x, s.x_weights), ("y", s.y, s.y_weights)))
        whole = float(self._between(x.mean, x.covariance, y.mean, y.covariance))
        if math.isinf(whole):
            return _Found(whole)
        quick = self._is_closed(d)
        of_x = _jackknife(x, lambda m, C: self._between(m, C, y.mean, y.covariance), whole, quick)
        of_y = _jackknife(y, lambda m, C: self._between(x.mean, x.covariance, m, C), whole, quick)
        bias, stderr = of_x.bias + of_y.bias, math.sqrt(of_x.variance + of_y.variance)
        if not math.isfinite(bias) or not math.isfinite(stderr):
            return _Found(whole)
        if self.exact.name in _WISHART:
            bias = sum(_wishart_bias(*((y, x) if swapped else (x, y))) for swapped in _WISHART[self.exact.name])

        def along(t: float) -> float:
            step = t / stderr if stderr else 0.0
            return float(self._between(*x.moved(of_x, step), *y.moved(of_y, step)))

        removed = not self._is_infinite(along, _FAR["bias"])
        return _Found(whole, bias, removed, stderr, self._growth(x, y), along)

    def _is_infinite(self, along: Callable[[float], float], steps: float) -> bool:
        return math.isinf(self.exact.upper_bound) and math.isinf(along(steps))

    def _growth(self, x: _Fit, y: _Fit) -> float:
        """How fast the variance of the value grows with it near P = Q, along the principal axes of both samples.

        With θ the moments, D = ½ h θ² along an axis and v the variance of θ̂, the variance of D is h² θ² v = 2 h v D.
        """
        sizes = [1 / float((fit.weights**2).sum()) for fit in (x, y)]
        scatter = (x.covariance * sizes[0] + y.covariance * sizes[1]) / sum(sizes)
        levels, axes = torch.linalg.eigh(scatter)
        d = len(levels)
        mean, L = torch.zeros(d, d, dtype=levels.dtype), axes * levels.sqrt()
        means, scales = _STEP * L.T, torch.diag_embed(_STEP * torch.eye(d, dtype=levels.dtype))
        moved = self._between(mean, scatter.expand(d, d, d), means, scatter.expand(d, d, d))
        spread = self._between(mean, scatter.expand(d, d, d), mean, scatter + L @ scales @ L.T)
        # v is 1 for a mean and 2 for a variance, in the units of the steps and of (1/n + 1/m).
        return 2 * float(torch.maximum(2 * moved, 4 * spread).max()) / _STEP**2 * (1 / sizes[0] + 1 / sizes[1])

    def _between(self, mean_x: Tensor, cov_x: Tensor, mean_y: Tensor, cov_y: Tensor) -> Tensor:
        """The divergence, or its square where that is corrected, of batches of Gaussians."""
        if mean_x.shape[-1] == 1:
            laws: list[Any] = [Normal(m[..., 0], C[..., 0, 0].sqrt()) for m, C in ((mean_x, cov_x), (mean_y, cov_y))]
        else:
            laws = [MultivariateNormal(mean_x, cov_x), MultivariateNormal(mean_y, cov_y)]
        return torch.as_tensor(self.exact(*laws)).double() ** self.root

    def _is_closed(self, d: int) -> bool:
        if d > 1:
            return True  # nothing else exists
        unit = Normal(torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64))
        try:
            self.exact(unit, Normal(unit.mean + 0.5, unit.stddev * 1.5), method="closed_form")
        except NotImplementedError:
            return False
        return True


def _not_gaussian(s: Samples) -> str:
    """Why the samples are not two of Gaussian laws, or an empty string."""
    tied = max(repeated(s.x.numpy()), repeated(s.y.numpy()))
    if tied:
        return f"{tied:.2g} of the points repeat another one"
    p_values = [
        (p * len(tests), name, test)
        for name, tests in (("x", normality(s.x, s.x_weights)), ("y", normality(s.y, s.y_weights)))
        for test, p in tests.items()
    ]
    least, name, test = min(p_values)
    return f"{name}: the test by {test} has p = {min(2 * least, 1.0):.2g} in all" if 2 * least < LEVEL else ""


class _Found(NamedTuple):
    """What the jackknife finds; a value alone where that, or one without a point, is infinite."""

    whole: float  # of all points; of the square where that is corrected
    bias: float = 0.0
    removed: bool = False  # whether the bias is
    stderr: float = 0.0
    growth: float = 0.0  # of the variance with the value, near P = Q
    along: Callable[[float], float] | None = None  # D at the likeliest moments t of its standard errors away

    @property
    def value(self) -> float:
        return self.whole - self.bias if self.removed else self.whole


class _Jackknife(NamedTuple):
    bias: float  # of first order
    variance: float
    mean: Tensor  # (d,), the covariance of the mean with the value
    covariance: Tensor  # (d, d), the covariance of the covariance with the value


class _Fit(NamedTuple):
    """Weighted points, their mean and their covariance S/(1 − Σw²)."""

    points: Tensor
    weights: Tensor
    mean: Tensor
    covariance: Tensor

    @staticmethod
    def of(name: str, points: Tensor, weights: Tensor | None) -> _Fit:
        x, n = points.double(), len(points)
        w = torch.full((n,), 1 / n, dtype=x.dtype) if weights is None else weights.double()
        mean = (w[:, None] * x).sum(0)
        z = x - mean
        covariance = (w[:, None] * z).T @ z / (1 - (w**2).sum())
        spread = covariance.diagonal()
        root = spread.clamp(min=1e-300).sqrt()
        correlation = covariance / root[:, None] / root
        if bool((spread <= 0).any()) or float(torch.linalg.eigvalsh(correlation)[0]) < 1e-10:
            raise ValueError(
                f"{name} has a singular covariance: a constant column, or one that follows from others; drop it"
            )
        return _Fit(x, w, mean, covariance)

    def without(self, part: slice) -> tuple[Tensor, Tensor]:
        """The means (n, d) and covariances (n, d, d) without each point of a part."""
        w, z = self.weights[part], self.points[part] - self.mean
        square, rest = (self.weights**2).sum(), 1 - w
        outer = z[:, :, None] * z[:, None, :] * (w / rest)[:, None, None]
        kept = 1 - (square - w**2) / rest**2
        scatter = (self.covariance * (1 - square) - outer) / (rest * kept)[:, None, None]
        return self.mean - z * (w / rest)[:, None], scatter

    def moved(self, found: _Jackknife, step: float) -> tuple[Tensor, Tensor]:
        """The moments a step along their covariances with the value, where a covariance stays one at any step."""
        L = torch.linalg.cholesky(self.covariance)
        half = torch.linalg.solve_triangular(L, found.covariance, upper=False)
        root = L @ torch.linalg.matrix_exp(step / 2 * torch.linalg.solve_triangular(L, half.mT, upper=False))
        return self.mean + step * found.mean, root @ root.mT


def _jackknife(fit: _Fit, value: Value, whole: float, quick: bool) -> _Jackknife:
    """The bias, the variance and the covariances with the moments, from the values without each point."""
    w = fit.weights
    value = value if quick else _expanded(value, fit.mean, fit.covariance)
    rows = max(1, _HELD // fit.points.shape[1] ** 2)
    parts = [value(*fit.without(slice(start, start + rows))) for start in range(0, len(w), rows)]
    values = torch.where(w > 0, torch.cat(parts), whole)
    off, z = values - (w * values).sum(), fit.points - fit.mean
    pull = -w * off  # (1 − w) off times the change of the mean, −z w/(1 − w), without a point
    return _Jackknife(
        float(((1 - w) * (values - whole)).sum()), float(((1 - w) * off**2).sum()), pull @ z, (pull[:, None] * z).T @ z
    )


def _expanded(value: Value, mean: Tensor, covariance: Tensor) -> Value:
    """``value`` on the line, to second order around the moments: nine values in place of one for each point."""
    steps = [_STEP * covariance[0].sqrt(), _STEP * covariance[0]]
    grid = [[value(mean + i * steps[0], covariance + j * steps[1]).squeeze() for j in (-1, 0, 1)] for i in (-1, 0, 1)]
    (aa, ab, ac), (ba, bb, bc), (ca, cb, cc) = grid

    def quadratic(means: Tensor, covariances: Tensor) -> Tensor:
        u, v = (means[:, 0] - mean) / steps[0], (covariances[:, 0, 0] - covariance[0]) / steps[1]
        first = (cb - ab) * u / 2 + (bc - ba) * v / 2
        return (
            bb + first + (cb - 2 * bb + ab) * u**2 / 2 + (bc - 2 * bb + ba) * v**2 / 2 + (cc - ca - ac + aa) * u * v / 4
        )

    return quadratic


def _wishart_bias(p: _Fit, q: _Fit) -> float:
    """E KL(N(x̄, S_x)‖N(ȳ, S_y)) − KL, estimated without bias, from E S⁻¹ and E log|S| under normality.

    With weights the sizes are the effective ones, 1/Σw².
    """
    d, (n, m) = p.points.shape[1], (1 / float((fit.weights**2).sum()) for fit in (p, q))

    def log_bias(size: float) -> float:  # E log|S| − log|Σ|
        nu = size - 1
        return float(digamma((nu - np.arange(d)) / 2).sum()) - d * math.log(nu / 2)

    shrink = (m - 1) / (m - d - 2)  # E S_y⁻¹ = shrink Σ_y⁻¹
    trace = float(torch.linalg.solve(q.covariance, p.covariance).trace())
    shift = p.mean - q.mean
    distance = float(shift @ torch.linalg.solve(q.covariance, shift))
    unbiased = (trace + distance - trace / n) / shrink - d / m
    return (trace + distance - unbiased + log_bias(m) - log_bias(n)) / 2
