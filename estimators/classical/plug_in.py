"""f-divergences of frequencies: continuous data on stated bins, discrete data by their values."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import norm
from torch import Tensor

from divergences import FDivergence
from estimators import intervals
from estimators.base import Estimator, Inference
from estimators.classical.cells import Cells, checked_bins, joined
from estimators.classical.neighbors import DISCRETE, Array, repeated
from estimators.classical.targets import one_by_one, target
from estimators.door import Samples

MOST = 3  # dimensions: products of bins are too many beyond
RARE = 5.0  # points in a cell below which a correction to second order says little


class Histogram(Estimator):
    """D_f(p‖q) of the frequencies p of x and q of y in cells, less the bias that sampling gives it.

    Discrete data (more than half of the points of x or of y repeat another) are counted by value: each value is a cell.
    Continuous data are binned, on each axis at equal probability of the half-and-half mixture of the two samples, into
    2 n^{2/5} cells in all, n the smaller size (Moore 1986), or n^{2/5} where f is unbounded, so that few cells lack
    points; ``bins`` gives the number on each axis, or the edges.
    With v_p(c) the variance of p_c, r = p_c/q_c and κ = f''(r)/q_c, the value is

        D_f(p‖q) − ½ Σ_c κ_c (v_p(c) + r_c² v_q(c)),

    where the sum is (K − 1)/(2n) + … for KL (Miller 1955). Where f has a kink at γ instead (total_variation,
    hockey_stick), what is taken off is Σ_c E(δ + σZ)₊ − δ₊, δ = p_c − γq_c, σ² = v_p + γ²v_q. Cells that one sample
    misses have no variance there. The value may be negative.

    Bound: "lower" for bins, since binning loses information: in the population D of the cells is at most D(P‖Q), and
    tends to it as the bins become fine; "consistent" for discrete data. For discrete data and given bins KL is infinite
    where P has points in a cell and Q has none, and a note says so. That is no sign of an infinite KL of continuous
    laws: there, of automatic bins, those that make the value infinite are joined to the nearest until none does, which
    a note counts; of laws far apart little is left.
    Rate: n^(−1/2) for discrete data; for smooth densities and bounded f what the cells hide falls as n^(−4/(5d)).
    Shapes: x (..., n, d), y (..., m, d), d ≤ 3 for bins, value (...,); a batch is solved one by one, on the CPU.
    Cost: O((n + m) d log(n + m)).
    Gradients: none; a tensor that requires a gradient raises TypeError.
    Interval: normal, by the delta method with its second-order term (which is what is left at P = Q); both ends are
    those D whose own error, which near P = Q grows with D, puts the value there. For discrete data it is two-sided; for
    bins it is two-sided for the divergence of the cells (a note has it), and for D(P‖Q) runs from its low end to the
    largest value of D, since no sample shows what the cells hide. It is refused where the value is infinite, where what
    cells with fewer than five points may add is not small against the sampling error, and where f is unbounded and more
    than a fifth of the variance comes from such cells.

    Args:
        divergence: a name or an object; f-divergences, hellinger, bhattacharyya and renyi.
        bins: "auto", the number on each axis, or the edges, increasing: K of them make K + 1 cells, the outer ones
            unbounded. For d > 1 a sequence of d such sequences. Given, they are used for discrete data too.
        smoothing: what is added to the number of points of each sample in each cell that either sample reaches.

    Raises:
        ValueError: more than 3 dimensions with bins; bins or smoothing that are none.
        TypeError: a gradient is asked for.

    References: Miller 1955 and Paninski 2003 (bias); Moore 1986 (number of bins); Wilson 1927 (ends of the interval).

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.randint(0, 2, (500, 1), generator=g), torch.randint(0, 4, (500, 1), generator=g)
        >>> round(Histogram("kl")(x, y).item(), 1)  # log 2
        0.7
    """

    differentiable = False
    bound = "lower"

    def __init__(self, divergence: Any = "kl", bins: Any = "auto", smoothing: float = 0.0) -> None:
        super().__init__()
        self.target = target(divergence, "Histogram")
        if not 0 <= smoothing < math.inf:
            raise ValueError(f"smoothing must be a finite number of points, at least 0: got {smoothing}")
        self.divergence, self.bins, self.smoothing = divergence, checked_bins(bins), smoothing
        self.divergence_name = self.target.name

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """The value, without a gradient."""
        return one_by_one(s, "Histogram", lambda part: self.target.outer(self._found(self._cells(part)).value))

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """The value with an interval, or the reason why there is none."""
        cells = self._cells(s)
        found, outer, discrete = self._found(cells), self.target.outer, cells.discrete
        value, bound = outer(found.value), "consistent" if discrete else "lower"
        notes: tuple[str, ...] = (cells.description,)
        if not discrete:
            notes += ("a lower bound on D(P‖Q) in the population: binning loses information",)
        if self.smoothing:
            notes += (f"smoothing: {self.smoothing:g} points were added to each sample in each cell",)
        raw = self._found(cells, 0.0) if self.smoothing else found
        if not math.isfinite(raw.value):
            p_only, q_only = (int(((a > 0) & (b == 0)).sum()) for a, b in ((cells.p, cells.q), (cells.q, cells.p)))
            notes += (
                f"infinite: {p_only} cells have points of x alone, {q_only} of y alone; fewer bins, or smoothing=, "
                "give a finite value of another problem",
                "no interval: without smoothing the value is infinite",
            )
            return Inference(value, None, None, notes, bound)  # type: ignore[arg-type]
        if not discrete and len(cells.p) == 1:
            return Inference(value, None, None, (*notes, "no interval: one cell tells nothing"), bound)  # type: ignore[arg-type]
        error = self.target.error(found.value, found.stderr)
        if found.rare > 0.2:
            notes += (f"no interval: {found.rare:.0%} of the error comes from cells with fewer than {RARE:g} points",)
            return Inference(value, error, None, notes, bound)  # type: ignore[arg-type]
        interval, why = intervals.declare(
            found.value, found.stderr, found.value - raw.value, confidence, doubt=found.doubt
        )
        if interval is not None:
            rise = found.rise(confidence)
            interval = interval[0] + rise[0], interval[1] + rise[1]
        if interval is not None and discrete:
            interval = outer(interval[0]), outer(interval[1])
        elif interval is not None:
            low, high = (outer(end) for end in interval)
            why = (
                f"the interval for the divergence of the cells is [{low:.4g}, {high:.4g}]; D(P‖Q) is above its low end",
            )
            interval = outer(interval[0]), outer(self.target.f.upper_bound)
        return Inference(value, error, interval, notes + why, bound)  # type: ignore[arg-type]

    def _found(self, cells: Cells, smoothing: float | None = None) -> _Found:
        """The corrected D_f with its standard error."""
        f, a = self.target.f, self.smoothing if smoothing is None else smoothing
        (p, v_p, e_p), (q, v_q, e_q) = (
            _smoothed(masses, squares, a) for masses, squares in ((cells.p, cells.p2), (cells.q, cells.q2))
        )
        value = float(f(p, q))
        if not math.isfinite(value):
            return _Found(value, math.nan, 0.0, 0.0)
        both = (p > 0) & (q > 0)
        ratio = torch.from_numpy(np.where(both, p, 1.0) / np.where(both, q, 1.0))
        slope, curvature = _derivatives(f, ratio)
        at_p = np.where(both, slope, f.slope_at_infinity if math.isfinite(f.slope_at_infinity) else 0.0)
        at_q = np.where(both, f.f(ratio).numpy() - ratio.numpy() * slope, f.f_at_zero if f.f_at_zero < math.inf else 0)
        r = ratio.numpy()
        first = e_p * (at_p - (p * at_p).sum()) ** 2 + e_q * (at_q - (q * at_q).sum()) ** 2
        total_p, total_q = float(cells.p2.sum()), float(cells.q2.sum())
        kink = {"total_variation": 1.0, "hockey_stick": float(f.arguments.get("gamma", 1.0))}.get(f.row or "")
        if kink is None:
            moved = np.where(both, curvature / np.where(q > 0, q, 1.0) * (v_p + r**2 * v_q), 0.0)
            bias, second = float(moved.sum()) / 2, moved**2 / 2
            doubt = float(moved[(cells.p < RARE * total_p) | (cells.q < RARE * total_q)].sum()) / 2
            doubt += _unseen(f, p, q, total_p / 2, total_q / 2)
        else:
            sigma = np.sqrt(v_p + kink**2 * v_q)
            t = np.abs(p - kink * q) / np.where(sigma > 0, sigma, 1.0)
            bias = float((sigma * (norm.pdf(t) - t * norm.sf(t))).sum())
            second, doubt = np.zeros_like(p), 1.5 * bias  # at δ = 0 the estimate of the bias finds 2/5 of it
        # The slopes carry the noise of the frequencies, which adds twice the second-order term to the first.
        near = bool(first.sum() < 2 * second.sum())
        rows = np.maximum(first - second, second) if near else first - second
        few = np.zeros(len(p), dtype=bool)  # what f does not bound is decided by few points
        for end, masses, point in ((f.f_at_zero, cells.p, total_p), (f.slope_at_infinity, cells.q, total_q)):
            few |= math.isinf(end) & (masses < RARE * point)
        total = float(rows.sum())
        at_one = float(_derivatives(f, torch.ones(1, dtype=torch.float64))[1][0]) if kink is None else 0.0
        growth = 2 * at_one * (total_p + total_q)
        return _Found(value - bias, math.sqrt(total), doubt, float(rows[few].sum()) / total if total else 0.0, growth)

    def _cells(self, s: Samples) -> Cells:
        x, y = (part.detach().cpu().double().numpy() for part in (s.x, s.y))
        weights = [
            np.full(len(part), 1 / len(part)) if w is None else w.detach().cpu().double().numpy()
            for part, w in ((x, s.x_weights), (y, s.y_weights))
        ]
        if isinstance(self.bins, str) and max(repeated(x), repeated(y)) > DISCRETE:
            values, cell = np.unique(np.concatenate([x, y]) + 0.0, axis=0, return_inverse=True)
            return Cells.of(cell.ravel(), weights, True, f"cells: the {len(values)} distinct values, by frequency")
        d = x.shape[1]
        if d > MOST:
            raise ValueError(
                f"Histogram bins at most {MOST} dimensions: got {d}; use est.NearestNeighbor, est.DensityRatio or "
                "est.Variational"
            )
        edges = self._edges(x, y, weights)
        automatic = isinstance(self.bins, str)
        at = np.stack([np.searchsorted(edges[j], np.concatenate([x[:, j], y[:, j]]), "left") for j in range(d)], 1)
        shape = " × ".join(str(len(one) + 1) for one in edges)
        way = "of equal probability in the mixed samples" if isinstance(self.bins, str | int) else "between given edges"
        # A cell without points adds nothing to any D.
        places, cell = np.unique(at, axis=0, return_inverse=True)
        cells = Cells.of(cell.ravel(), weights, False, f"cells: {shape} bins {way}")
        return joined(cells, places.astype(float), self.target.f) if automatic and not self.smoothing else cells

    def _edges(self, x: Array, y: Array, weights: list[Array]) -> list[Array]:
        d = x.shape[1]
        if not isinstance(self.bins, str | int):
            given = self.bins if np.ndim(self.bins[0]) else [self.bins]
            if len(given) != d:
                raise ValueError(f"bins must have edges for each of {d} axes: got {len(given)}")
            return [np.asarray(one, dtype=float) for one in given]
        if isinstance(self.bins, int):
            number = self.bins
        else:
            size = min(1 / float((w**2).sum()) for w in weights)
            bounded = math.isfinite(self.target.f.upper_bound)
            number = max(2, round(((1 + bounded) * size**0.4) ** (1 / d)))
        mixed = np.concatenate(weights) / 2
        edges = []
        for column in np.concatenate([x, y]).T:
            order = np.argsort(column, kind="stable")
            reached = np.cumsum(mixed[order])
            at = np.searchsorted(reached, np.arange(1, number) / number - 1e-12)
            inner = np.unique(column[order][np.minimum(at, len(column) - 1)])
            edges.append(inner[inner < column.max()])
        return edges


class _Found(NamedTuple):
    value: float  # D_f
    stderr: float
    doubt: float  # what the correction of the bias may have missed
    rare: float  # the part of the variance from cells with few points
    growth: float = 0.0  # of the variance with D near P = Q, 2f''(1)(1/n + 1/m)

    def rise(self, confidence: float) -> tuple[float, float]:
        """What is added to both ends of value ± z·stderr, so that each D has the standard error that it would have.

        The ends solve (value − D)² = z²(stderr² + growth·(D − value)).
        """
        z = intervals.half_width(1.0, confidence)
        shift, half = z**2 * self.growth / 2, z * self.stderr
        wider = math.hypot(shift, half) - half
        return shift - wider, shift + wider


def _smoothed(masses: Array, squares: Array, a: float) -> tuple[Array, Array, Array]:
    """Masses with ``a`` points added to each cell; their variances; the squared weights that carry an influence."""
    total = float(squares.sum())  # 1/n
    shrink = 1 / (1 + a * len(masses) * total)
    p = (masses + a * total) * shrink
    variance = ((1 - 2 * masses) * squares + masses**2 * total) * shrink**2
    return p / p.sum(), variance, squares * shrink**2


def _unseen(f: FDivergence, p: Array, q: Array, least_p: float, least_q: float) -> float:
    """How far D_f moves if cells without a point of one sample have the mass of half a point."""
    a, b = torch.from_numpy(p), torch.from_numpy(q)
    moved = f.perspective(a.clamp(min=least_p), b.clamp(min=least_q)) - f.perspective(a, b)
    return float(moved[(a == 0) | (b == 0)].sum().abs())


def _derivatives(f: FDivergence, ratio: Tensor) -> tuple[Array, Array]:
    """Return f' and f''."""
    with torch.enable_grad():
        u = ratio.clone().requires_grad_()
        slope = f.derivative(u)
        curvature = torch.autograd.grad(slope.sum(), u)[0] if slope.requires_grad else torch.zeros_like(u)
    return slope.detach().numpy(), curvature.numpy()
