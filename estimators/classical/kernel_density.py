"""f-divergences from two kernel density estimates."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from scipy.optimize import minimize_scalar
from scipy.stats import kurtosis
from torch import Tensor
from tqdm import tqdm

from divergences.distances import squared_distances
from divergences.kernels import Gaussian
from estimators import intervals
from estimators.base import Estimator, Inference, mean, variance_of_mean
from estimators.classical.neighbors import refuse_discrete, repeated
from estimators.classical.targets import POWERS, on_cpu, one_by_one, sides, target
from estimators.door import Samples
from estimators.ops import pairwise

MANY = 6  # dimensions from which a kernel estimate is mostly bias
SPARSE = 0.1  # effective share of a sample below which the tail of the other decides
TAILS = 7.5  # kurtosis, 3 of a normal law and 6 of a Laplace law
HEAVY = 0.3  # share of the variance of one point from which the limit is not normal
FAILED = 4.0  # standard errors below 0 at which no chance put the value there
SOUGHT = 1000  # points of a sample on which its bandwidth is sought
SPLITS = 4
_SMALLEST = 1e-280  # sum of kernel values that has lost none that matters to underflow
_TILE = 4_000_000  # distances at a time
_REACH = 8.0  # the bandwidth is sought from 1/8 to 4 times that of Scott's rule


class KernelDensity(Estimator):
    """D(P‖Q) with Gaussian kernel estimates of both densities in the place of p and q.

    p̂ is the mean of N(x_i, H); at a point of its own sample that point is left out. ``bandwidth="auto"`` takes H = h²Σ̂
    with the covariance Σ̂ of the sample and h of the largest leave-one-out likelihood, for each sample; a number is the
    standard deviation of the kernel in the units of the data, H = h²I, for both. With r̂ = p̂/q̂,

        KL: mean_x log r̂;   powers: mean_x r̂^{α−1}, from the side where the power is less, both at α = ½;
        others: mean_x f'(r̂) − mean_y f*(f'(r̂)), whose bias is of second order in the error of r̂.

    But for KL |log r̂| is held to log(n + m), which the data do not tell from more. Of more than 1000 points as many,
    drawn with a fixed seed, give the bandwidth, which is then taken to fall as n^(−1/(d + 4)).

    Bound: consistent; a kernel smooths, so that the value is too small for laws that differ in detail. Outliers of one
    sample have log r̂ that grows with the squared distance: KL between shifted laws is noisy, js is not. The likelihood
    oversmooths where tails are heavy (Schuster and Gregory 1981). Values near 0 may be negative; where one is so by
    more than four standard errors, such as for heavy tails, the kernels do not fit, and 0 is returned with a note.
    Values above the largest D are cut there.
    Rate: n^(−2/(d + 4)) for smooth densities.
    Shapes: x (..., n, d), y (..., m, d), value (...,); a batch is solved one by one, on the CPU. Meant for d ≤ 6.
    Cost: O((n + m)² d), four times that for an interval; memory O(n + m).
    Gradients: none; a tensor that requires a gradient raises TypeError.
    Interval: normal, by the influence of each point, widened by the bias that half of the points show, and refused
    where that is not small, where the value has failed, where points repeat, where tails are heavy (a kurtosis above
    7.5), for powers above 1 (chi2), and where few points of one sample carry the estimate.

    Raises:
        ValueError: bandwidth that is no positive number; "auto" with a sample whose covariance is singular;
            discrete data or columns.
        TypeError: a gradient is asked for.

    References: Hall 1987 and Duin 1976 (bandwidth); Kandasamy, Krishnamurthy, Póczos, Wasserman and Robins 2015
    (leave-one-out estimators of functionals).

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randn(400, 1, generator=g), torch.randn(400, 1, generator=g) + 1
        >>> round(KernelDensity("js")(x, y).item(), 1)  # 0.11
        0.1
    """

    differentiable = False
    minimum = 4

    def __init__(self, divergence: Any = "kl", bandwidth: str | float = "auto") -> None:
        super().__init__()
        self.target = target(divergence, "KernelDensity")
        if isinstance(bandwidth, str):
            if bandwidth != "auto":
                raise ValueError(f'bandwidth must be "auto" or a positive number: got {bandwidth!r}')
        elif not 0 < bandwidth < math.inf:
            raise ValueError(f'bandwidth must be "auto" or a positive number: got {bandwidth}')
        self.divergence, self.bandwidth = divergence, bandwidth
        self.divergence_name = self.target.name

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """The value, without a gradient."""
        return one_by_one(s, "KernelDensity", lambda part: self.target.outer(self._found(part).value))

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """The value with an interval, or the reason why there is none."""
        s = on_cpu(s)
        found, outer, d = self._found(s), self.target.outer, s.x.shape[-1]
        value, error = outer(found.value), self.target.error(found.value, found.stderr)
        notes: tuple[str, ...] = (f"bandwidths {found.h_x:.3g} and {found.h_y:.3g} {found.unit}",)
        if self.bandwidth == "auto" and max(len(s.x), len(s.y)) > SOUGHT:
            notes += (f"sought on at most {SOUGHT} points a side",)
        if found.held:
            notes += (f"{found.held} log-ratios were held to ±log(n + m)",)
        if d > MANY:
            notes += (f"{d} dimensions: a kernel estimate is mostly bias from {MANY + 1} on",)
        if found.failed:
            why = f"the kernel estimates do not fit: they give {found.failed:.3g}, below 0 by more than its error"
            return Inference(value, None, None, (*notes, f"{why}; 0 is returned", f"no interval: {why}"))
        tied = max(repeated(part.numpy()) for part in (s.x, s.y))
        if tied:
            return Inference(
                value,
                error,
                None,
                (*notes, f"no interval: {tied:.0%} of the points are repeated; P or Q has no density"),
            )
        tails = max(float(kurtosis(part.numpy(), fisher=False).max()) for part in (s.x, s.y))
        if tails > TAILS:
            why = f"heavy tails (kurtosis {tails:.3g}), to which no one bandwidth fits"
            return Inference(value, error, None, (*notes, f"no interval: {why}"))
        if any(power > 1 for _, power, _ in sides(self.target.f)):
            return Inference(value, error, None, (*notes, f"no interval: {POWERS}"))
        if not math.isfinite(found.value) or found.share < SPARSE:
            why = "few points of one sample carry the estimate, which hangs on the tail of the other"
            return Inference(
                value, error, None, (*notes, f"saturated: {why}", "no interval: the estimate is saturated")
            )

        if min(len(s.x), len(s.y)) < 2 * self.minimum:
            return Inference(value, error, None, (*notes, f"no interval: it needs {2 * self.minimum} points a side"))
        # A squared error of r̂ falls as n^(−4/(d + 4)) for smooth densities. What a kernel cuts off a cusp or a tail
        # falls slower: a quarter of that power gives the larger, more careful bias.
        with tqdm(total=2 * SPLITS, desc="kernel densities of halves", delay=2, leave=False) as bar:

            def on(part: Samples) -> float:
                bar.update()
                return self._found(part).value

            bias = intervals.half_sample_bias(on, s, found.value, 1 / (d + 4), generator.initial_seed(), SPLITS)
        interval, why_not = intervals.declare(found.value, found.stderr, bias, confidence)
        if interval is not None:
            interval = outer(interval[0]), outer(interval[1])
        return Inference(value, error, interval, notes + why_not)

    def _found(self, s: Samples) -> _Found:
        refuse_discrete(s.x.numpy(), s.y.numpy(), "KernelDensity")
        p, q = (_Density.fit(*side, self.bandwidth) for side in (("x", s.x, s.x_weights), ("y", s.y, s.y_weights)))
        at_x, at_y = p.own() - q.at(s.x), p.at(s.y) - q.own()  # log r̂
        f, means = self.target.f, sides(self.target.f)
        effects = [torch.zeros_like(at_x), torch.zeros_like(at_y)]
        value, held = 0.0, 0
        if any(side.power != 1 for side in means) or not means:
            most = math.log(len(at_x) + len(at_y))  # beyond it a ratio is the shape of the kernel and not of the data
            held = int((at_x.abs() > most).sum() + (at_y.abs() > most).sum())
            at_x, at_y = at_x.clamp(-most, most), at_y.clamp(-most, most)
        for swapped, power, scale in means:
            own, other = (-at_y, -at_x) if swapped else (at_x, at_y)
            terms = (own if power == 1 else torch.exp((power - 1) * own)) * scale
            value += float(mean(terms, (s.y_weights if swapped else s.x_weights))) - scale * (power != 1)
            effects[swapped] = effects[swapped] + (terms if power == 1 else power * terms)
            weight = -1.0 if power == 1 else 1 - power  # d/dq of ∫ p log(p/q) and of ∫ p^α q^{1−α}
            effects[not swapped] = effects[not swapped] + weight * scale * torch.exp(power * other)
        if not means:
            r = at_y.exp()
            slope = f.derivative(torch.cat([at_x.exp(), r]))
            effects = [slope[: len(at_x)], f.f(r) - r * slope[len(at_x) :]]
            value = float(mean(effects[0], s.x_weights) + mean(effects[1], s.y_weights))
        variance = variance_of_mean(effects[0], s.x_weights) + variance_of_mean(effects[1], s.y_weights)
        share = min((_share(effects[not side.swapped]) for side in means), default=1.0)
        if max(intervals.largest_share(effect - effect.mean()) for effect in effects) > HEAVY:
            share = 0.0
        stderr = math.sqrt(variance) if variance >= 0 else math.nan
        failed = value if value < -FAILED * stderr else 0.0
        return _Found(0.0 if failed else value, stderr, share, p.h, q.h, p.unit, held, failed)


class _Found(NamedTuple):
    value: float
    stderr: float
    share: float
    h_x: float
    h_y: float
    unit: str
    held: int  # log-ratios
    failed: float  # a value that cannot be, or 0


class _Density(NamedTuple):
    """The mean of N(z_i, h²I) in coordinates z = L⁻¹x."""

    z: Tensor
    log_weights: Tensor
    L: Tensor
    h: float
    unit: str

    @staticmethod
    def fit(name: str, points: Tensor, weights: Tensor | None, bandwidth: str | float) -> _Density:
        x = points.double()
        n, d = x.shape
        w = torch.full((n,), 1 / n, dtype=x.dtype) if weights is None else weights.double()
        L = torch.eye(d, dtype=x.dtype)
        if not isinstance(bandwidth, str):
            return _Density(x, w.log(), L, float(bandwidth), "in the units of the data")
        L, info = torch.linalg.cholesky_ex(torch.cov(x.T, aweights=w, correction=0).reshape(d, d))
        if int(info) or float(L.diagonal().min()) <= 1e-7 * float(L.diagonal().max()):
            raise ValueError(
                f"{name} has a singular covariance (a constant column, or one that follows from others): "
                'bandwidth="auto" needs a density; drop the column, or give bandwidth as a number'
            )
        found = _Density(torch.linalg.solve_triangular(L, x.T, upper=False).T, w.log(), L, 1.0, "of the covariances")
        scott = float((w**2).sum()) ** (1 / (d + 4))
        sought, v = found, w
        if n > SOUGHT:
            # With equal probability and the weights kept: the rule of Scott then has the size of the part.
            heavy = w.nonzero()[:, 0]
            chosen = heavy[torch.randperm(len(heavy), generator=torch.Generator().manual_seed(0))[:SOUGHT]]
            v = w[chosen] / w[chosen].sum()
            sought = found._replace(z=found.z[chosen], log_weights=v.log())
        part = float((v**2).sum()) ** (1 / (d + 4))

        def loss(log_h: float) -> float:
            return -float(mean(sought._replace(h=part * math.exp(log_h)).own(), v))

        best = minimize_scalar(
            loss, bounds=(-math.log(_REACH), math.log(_REACH / 2)), method="bounded", options={"xatol": 0.02}
        )
        return found._replace(h=scott * math.exp(best.x))

    def at(self, points: Tensor) -> Tensor:
        """The log-density."""
        z = torch.linalg.solve_triangular(self.L, points.double().T, upper=False).T
        return self._logs(z, False)

    def own(self) -> Tensor:
        """The log-density at the points themselves, each left out of its own."""
        return self._logs(self.z, True) - torch.log1p(-self.log_weights.exp())

    def _logs(self, z: Tensor, leave_out: bool) -> Tensor:
        """Of the sums of the kernel where these are numbers, and else of logarithms, row by row."""
        sums = pairwise.row_sums(Gaussian(self.h), z, self.z, self.log_weights.exp(), exclude_self=leave_out)
        found = sums.log()
        for rows in (sums < _SMALLEST).nonzero()[:, 0].split(max(1, _TILE // len(self.z))):
            exponents = squared_distances(z[rows], self.z).mul_(-0.5 / self.h**2) + self.log_weights
            if leave_out:
                exponents[torch.arange(len(rows)), rows] = -math.inf
            found[rows] = exponents.logsumexp(1)
        d = z.shape[1]
        return found - d * math.log(self.h * math.sqrt(2 * math.pi)) - self.L.diagonal().log().sum()


def _share(effects: Tensor) -> float:
    """(Σe)²/(n Σe²): the part of the points that carry a mean."""
    return float(effects.sum()) ** 2 / (len(effects) * max(float(effects.square().sum()), 1e-300))
