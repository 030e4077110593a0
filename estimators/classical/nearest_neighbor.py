"""f-divergences from nearest neighbours, without a density model: by their distances, or by counting whose they are."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor

from divergences import FDivergence
from estimators import intervals
from estimators.base import Estimator, Inference
from estimators.classical import by_distance, on_device
from estimators.classical.neighbors import (
    METRICS,
    Array,
    dimension,
    nearest_others,
    refuse_discrete,
    refuse_flat,
    repeated,
)
from estimators.classical.targets import POWERS, on_cpu, one_by_one, sides, target
from estimators.door import Samples

DEPENDENCE = 1.4  # the change from k to a wider k is common to neighbours: measured against independent terms
TIES = 0.01  # share of repeated points beyond which a sample is no draw from a density
SATURATED = 0.1  # effective share of y below which the tail of P where Q has few points decides


class NearestNeighbor(Estimator):
    """D(P‖Q) of any f-divergence that is bounded, logarithmic or a power, from nearest neighbours.

    Distances. With ρ_i the distance from x_i to its k_x-th neighbour among the other x and ν_i to its k_y-th among y,

        log r_i = d log(ν_i/ρ_i) + log(m/(n − 1)) + ψ(k_x) − ψ(k_y),        KL = mean_i log r_i,
        ∫ p^α q^{1−α} = B mean_i e^{(α−1) log r_i},    B from Γ(k_x)Γ(k_y)/(Γ(k_x + 1 − α)Γ(k_y + α − 1)),

    from the side on which the power is smaller (both at α = ½). They are right for every fixed k as n grows. So are
    kl, reverse_kl, jeffreys, alpha, both χ², squared_hellinger, hellinger, bhattacharyya and renyi estimated. Where a
    distance is 0 (ties), both counts are taken instead within max(ρ_i, ν_i): l_i of x, k_i of y, and ψ(l_i) − ψ(k_i).

    Counts. Every other bounded f (js, total_variation, le_cam, hockey_stick, skew_js, skew_kl, gan, your own) takes
    the share of x among the k neighbours of a point in the pooled sample, which gives the ratio r̂ there, and

        D = mean_x f'(r̂) − mean_y f*(f'(r̂)) + mean_xy Δ(r̂),

    where Δ, the rise of the binomial mean of the plug-in over its value, removes the variance of r̂ to second order.
    The number of neighbours must grow with n: it is the root of n + m by default.

    Bound: consistent. A value less its bias may be negative near P = Q; one above the largest value of D is cut there.
    The bias is of order (k/n)^{1/d} to (k/n)^{2/d}: at n = 1000, d = 10 it may be half of the value.
    Rate: n^(−1/2) for smooth densities in one dimension, and about n^(−1/d) to n^(−2/d) beyond two, by the bias; counts
    are slower, as their k is √n.
    Shapes: x (..., n, d), y (..., m, d), value (...,); a batch is solved one by one, on the CPU, but for values from
    distances between points on CUDA that do not repeat.
    Cost: O(n log(nm)) for d ≤ 4 (6 from 50,000 points on), O((n + m)² d) beyond; memory O((n + m)(d + k)).
    Gradients: none; a tensor that requires a gradient raises TypeError.
    Interval: normal, with the error of both samples, widened by the bias that a wider k shows, and for logarithms by
    what Gaussian tails would add where one sample lies beyond the other. It is refused where that is not small against
    the sampling error (most often from d = 3 on, or where tails are heavy), where points repeat, where distances are
    taken of points that lie near a surface of less than d dimensions (on a circle in the plane kl comes out twice too
    large), for powers above 1 (renyi of order 2, chi2), which may be infinite without a sign in the sample, and where
    the estimate is saturated: few y carry it, and it is then most often far too small.

    Args:
        divergence: a name or an object, such as ``dv.get("renyi", alpha=0.5)``.
        k: the number of neighbours, or (k_x, k_y); None is 5, and √(n + m) for counts, which take one number.
        metric: "euclidean", "cityblock" or "chebyshev".
        weighted: combine the distances of the neighbours 1 … 4k so that the bias of order (k/n)^{2/d} cancels. On
            Gaussian laws it halved the error at d = 10 and changed little at d = 1.

    Raises:
        NotImplementedError: an unbounded f that is neither logarithmic nor a power.
        ValueError: k that is no positive number, or too small for a power; too few points; weights; discrete
            data, or for distances a column with 20 values or fewer, or that follows from other columns.
        TypeError: a gradient is asked for.

    References: Wang, Kulkarni and Verdú 2009, eqs. (14), (25); Póczos and Schneider 2011, and Leonenko, Pronzato and
    Savani 2008, for powers; Gao, Kannan, Oh and Viswanath 2017, for ties; Noshad, Moon, Sekeh and Hero 2017, for ratios
    by counting, here in the one-step form of Kandasamy et al. 2015; Berrett, Samworth and Yuan 2019, for the weights.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.rand(2000, 1, generator=g), 2 * torch.rand(2000, 1, generator=g)
        >>> [round(NearestNeighbor(name)(x, y).item(), 1) for name in ("kl", "total_variation")]  # log 2, ½
        [0.7, 0.5]
    """

    differentiable = False

    def __init__(
        self,
        divergence: Any = "kl",
        k: int | tuple[int, int] | None = None,
        metric: str = "euclidean",
        weighted: bool = False,
    ) -> None:
        super().__init__()
        if metric not in METRICS:
            raise ValueError(f"metric must be one of {', '.join(METRICS)}: got {metric!r}")
        self.target = target(divergence, "NearestNeighbor")
        self.sides = sides(self.target.f)
        if not self.sides and not math.isfinite(self.target.f.upper_bound):
            raise NotImplementedError(
                "NearestNeighbor estimates divergences that are bounded, logarithmic or powers, not "
                f"{self.target.f!r}: use est.Variational, which takes every f-divergence"
            )
        if k is None and self.sides:
            k = 5
        pair: Any = k if isinstance(k, tuple | list) else (k, k)
        if len(pair) != 2 or any(one is not None and (not isinstance(one, int) or one < 1) for one in pair):
            raise ValueError(f"k must be an integer of at least 1, or a pair (k_x, k_y): got {k!r}")
        if not self.sides and pair[0] != pair[1]:
            raise ValueError(
                f"{self.target.name} counts neighbours in the pooled sample: k must be one number, got {k}"
            )
        if weighted and (not self.sides or pair[0] != pair[1]):
            raise ValueError("weighted=True is for distances (kl and powers) with one k for both samples")
        for swapped, power, _ in self.sides:
            own, other = pair[::-1] if swapped else pair
            if own + 1 - power <= 0 or other + power - 1 <= 0:
                raise ValueError(f"k must exceed {max(power - 1, 1 - power):g} for {divergence!r}: got {k}")
        self.divergence, self.k, self.metric, self.weighted = divergence, k, metric, weighted
        self.divergence_name = self.target.name
        self.minimum = max(pair) + 1 if pair[0] is not None and pair[1] is not None else 2
        if weighted:
            self.minimum += 1  # two neighbours at least, for two conditions

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """The value, without a gradient."""
        _refuse_weights(s)
        if not (s.x.is_cuda and self.sides) or self.weighted:
            return one_by_one(s, "NearestNeighbor", lambda part: self.target.outer(self._found(part, 1).value))

        def value(part: Samples) -> float:
            found = on_device.total(part.x, part.y, self.sides, self._ks, self.metric)
            return self.target.outer(self._found(on_cpu(part), 1).value if found is None else found)

        return one_by_one(s, "NearestNeighbor", value, moved=False)

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """The value with an interval, or the reason why there is none."""
        _refuse_weights(s)
        s = on_cpu(s)
        found, outer = self._found(s, 1), self.target.outer
        error = self.target.error(found.value, found.stderr)
        value, notes = outer(found.value), found.notes
        if found.value > self.target.f.upper_bound:
            notes += ("cut at the largest value of D",)
        few = min(len(s.x), len(s.y))
        if found.tied > TIES:
            why = (
                f"{found.tied:.0%} of the points are repeated, so that P or Q has no density; est.Histogram counts them"
            )
            return Inference(value, error, None, (*notes, f"no interval: {why}"))
        if found.tied:
            notes += (f"{found.tied:.2g} of the points are repeated and were counted",)
        if few < 16 * found.k:
            return Inference(value, error, None, (*notes, f"no interval: it needs {16 * found.k} points a side"))
        if any(power > 1 for _, power, _ in self.sides):
            return Inference(value, error, None, (*notes, f"no interval: {POWERS}"))
        if found.saturated:
            return Inference(value, error, None, (*notes, "no interval: the estimate is saturated"))
        # The bias is a function of k/n, about c·(k/n)^rate, so that a larger k on the same points shows it. For smooth
        # densities the rate is 1/d or more; tails slow it: measured n^(−0.4) in one dimension, n^(−0.15) in ten.
        d = s.x.shape[-1]
        rate = 1 / (d + 1.5)
        wider = self._found(s, 8 if self.sides else 4)
        lever = (wider.k / found.k) ** rate - 1
        bias = (wider.value - found.value) / lever - found.beyond
        spread = sum(float((b - a).var(ddof=1)) / len(a) for a, b in zip(found.terms, wider.terms, strict=True))
        doubt = DEPENDENCE * math.sqrt(spread) / lever
        if found.beyond:
            notes += (
                f"{found.beyond:.2g} is added where x or y lies beyond the other sample, for Gaussian tails there",
            )
        interval, why_not = intervals.declare(found.value, found.stderr, bias, confidence, doubt=doubt)
        if self.sides:  # the distances are raised to the power d
            seen = min(dimension(points.numpy(), self.metric) for points in (s.x, s.y))
            if seen < d - 0.5:
                notes += (
                    f"no interval: neighbours are spread as in {seen:.2g} dimensions and the value takes {d}, which is "
                    "wrong where P or Q lies near a surface",
                )
                interval, why_not = None, why_not if interval is None else ()
        if interval is not None:
            interval = outer(interval[0]), outer(interval[1])
        return Inference(value, error, interval, notes + why_not)

    def _found(self, s: Samples, wide: int) -> _Found:
        """The value of D_f with ``wide`` times as many neighbours, as far as there are."""
        a, b = s.x.numpy(), s.y.numpy()
        centre = a.mean(0)
        a, b = a - centre, b - centre
        refuse_discrete(a, b, "NearestNeighbor", columns=bool(self.sides))
        if self.sides:
            refuse_flat(a, b, "NearestNeighbor")
        found = self._by_distance(a, b, wide) if self.sides else self._by_count(a, b, wide)
        return found._replace(tied=max(repeated(a), repeated(b)))

    @property
    def _ks(self) -> tuple[int, int]:
        """(k_x, k_y), for distances."""
        pair: Any = self.k if isinstance(self.k, tuple | list) else (self.k, self.k)
        return pair[0], pair[1]

    def _by_distance(self, a: Array, b: Array, wide: int) -> _Found:
        pair = self._ks
        most = min(len(a), len(b)) // (16 if self.weighted else 4)
        k_x, k_y = (one if wide == 1 else max(one, min(wide * one, most)) for one in pair)
        effects: list[Array | float] = [0.0, 0.0]
        terms: list[Array] = []
        value, share, beyond = 0.0, 1.0, 0.0
        for swapped, power, scale in self.sides:
            one, other, ks = (b, a, (k_y, k_x)) if swapped else (a, b, (k_x, k_y))
            side = by_distance.side(one, other, ks, power, self.metric, self.weighted)
            value += scale * (float(side.terms.mean()) - (power != 1))
            terms.append(scale * side.terms)
            effects[swapped] = effects[swapped] + scale * side.own
            effects[not swapped] = effects[not swapped] + scale * side.other
            share = min(share, side.share)
            beyond += side.beyond
        variance = sum(float(np.var(e, ddof=1)) / np.size(e) for e in effects if np.ndim(e))
        notes: tuple[str, ...] = ()
        if share < SATURATED:
            notes = (
                f"saturated: about {share:.1%} of the other sample carry the estimate, which hangs on where one sample "
                "has hardly any points; with so few the value is most often too small",
            )
        return _Found(value, math.sqrt(variance), tuple(terms), max(k_x, k_y), notes, share < SATURATED, beyond)

    def _by_count(self, a: Array, b: Array, wide: int) -> _Found:
        n, m = len(a), len(b)
        total, f = n + m, self.target.f
        k = self.k if isinstance(self.k, int) else round(math.sqrt(total))
        k = min(k * wide, max(k, total // 4), total - 1)
        pooled = np.concatenate([a, b])
        count = (nearest_others(pooled, k, self.metric)[1] < n).sum(1)
        at_x, at_y, rise = _tables(f, k, n / total)
        on_x, on_y = at_x[count[:n]] + rise[count[:n]] * n / total, at_y[count[n:]] - rise[count[n:]] * m / total
        terms = at_x[count[:n]], -at_y[count[n:]]
        value = float(terms[0].mean() + terms[1].mean() + rise[count].mean())
        variance = float(terms[0].var(ddof=1)) / n + float(terms[1].var(ddof=1)) / m
        notes = (f"by the {k} nearest of the {total} pooled points",)
        return _Found(value, math.sqrt(variance), (on_x, -on_y), k, notes)


class _Found(NamedTuple):
    value: float  # D_f
    stderr: float
    terms: tuple[Array, ...]  # whose means add up to the value, up to a constant
    k: int
    notes: tuple[str, ...]
    saturated: bool = False
    beyond: float = 0.0  # what may be missing of a logarithm in the tails
    tied: float = 0.0  # share of repeated points


def _tables(f: FDivergence, k: int, prior: float) -> tuple[Array, Array, Array]:
    """f'(r̂), f*(f'(r̂)) and Δ for c = 0 … k neighbours of x, whose share is r π/(r π + 1 − π) for a prior π of x.

    The share is taken as (c + ½)/(k + 1), so that neither end has an infinite ratio.
    """
    c = np.arange(k + 1)
    share = torch.from_numpy((c + 0.5) / (k + 1))
    ratio = share / (1 - share) * (1 - prior) / prior
    slope = f.derivative(ratio)
    raw = torch.from_numpy(c / k)
    level = f.perspective(raw / prior, (1 - raw) / (1 - prior)).numpy()
    at_share = f.perspective(share / prior, (1 - share) / (1 - prior)).numpy()
    rise = binom.pmf(c, k, share.numpy()[:, None]) @ level - at_share
    return slope.numpy(), (ratio * slope - f.f(ratio)).numpy(), np.asarray(rise)


def _refuse_weights(s: Samples) -> None:
    if s.x_weights is not None or s.y_weights is not None:
        raise ValueError("NearestNeighbor takes no weights: a distance to the k-th neighbour has no weighted form here")
