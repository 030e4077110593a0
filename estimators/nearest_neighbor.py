"""Kullback–Leibler divergence from nearest-neighbour distances, without a density model."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import digamma
from torch import Tensor

from estimators import intervals
from estimators.base import Estimator, Inference
from estimators.door import Samples, check_finite

DIVERGENCES = ("kl", "reverse_kl")
DEPENDENCE = 1.4  # the change from k to 8k is common to neighbours: measured against independent terms
TIES = 0.01  # share of repeated points beyond which a sample is no draw from a density
DISCRETE = 0.5  # share of repeated points from which the data are taken to be discrete, and refused


class NearestNeighbor(Estimator):
    """KL(P‖Q) or KL(Q‖P) from the distances of each point to its k-th neighbour in both samples.

    With ρ_i the distance from x_i to its k-th neighbour among the other x and ν_i to its k-th neighbour among the y,

        D = d/n Σ_i log(ν_i/ρ_i) + log(m/(n − 1)).

    Where a distance is 0 (ties), both counts are taken instead within r_i = max(ρ_i, ν_i), l_i points of x and k_i of
    y, and the term is ψ(l_i) − ψ(k_i), which is finite always. P and Q should have densities: a sample with repeated
    points gets a note and no interval.

    Bound: consistent, with a bias that falls slowly: at n = 1000, d = 10 it may be half of the value.
    Shapes: x (..., n, d), y (..., m, d), value (...,); a batch is solved one by one, on the CPU.
    Cost: O(n log(nm)) for small d, O(nm) for large; memory O((n + m)·(d + k)).
    Gradients: none; a tensor that requires a gradient raises TypeError.
    Interval: normal, with the error of both samples, widened by the bias that 8k neighbours show, and refused where
    that is not small against the sampling error (most often from d = 3 on).

    Raises:
        NotImplementedError: another divergence.
        ValueError: k below 1; k + 1 points or fewer on a side; weights.
        TypeError: a gradient is asked for.

    References: Wang, Kulkarni and Verdú 2009, eqs. (14), (25).

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, y = torch.rand(2000, 1, generator=g), 2 * torch.rand(2000, 1, generator=g)
        >>> round(NearestNeighbor()(x, y).item(), 1)  # log 2
        0.7
    """

    divergence_name = "kl"

    differentiable = False

    def __init__(self, divergence: str = "kl", k: int = 5) -> None:
        super().__init__()
        if divergence not in DIVERGENCES:
            raise NotImplementedError(
                f"NearestNeighbor estimates {' and '.join(DIVERGENCES)}, not {divergence!r}: use est.Variational, "
                "which takes every f-divergence"
            )
        if k < 1:
            raise ValueError(f"k must be at least 1: got {k}")
        self.divergence = divergence
        self.k = k
        self.divergence_name = divergence
        self.minimum = k + 1

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """The value, without a gradient."""
        _refuse_weights(s)
        if torch.is_grad_enabled() and (s.x.requires_grad or s.y.requires_grad):
            raise TypeError(
                "NearestNeighbor has no gradient: detach x and y, or train with est.Variational or est.MMD instead"
            )
        lead = torch.broadcast_shapes(s.x.shape[:-2], s.y.shape[:-2])
        x, y = (p.detach().expand(*lead, *p.shape[-2:]).reshape(-1, *p.shape[-2:]) for p in (s.x, s.y))
        check_finite(x, "x")
        check_finite(y, "y")
        values = [float(self._ratios(a, b).terms.mean()) for a, b in zip(x, y, strict=True)]
        return torch.tensor(values, dtype=s.x.dtype, device=s.x.device).reshape(lead)

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """The value with an interval, or the reason why there is none."""
        _refuse_weights(s)
        found = self._ratios(s.x, s.y)
        terms, n, m = found.terms, len(found.terms), len(found.shares)
        value = float(terms.mean())
        stderr = math.sqrt(float(terms.var(ddof=1)) / n + float(found.shares.var(ddof=1)) / m)
        if found.tied > TIES:
            return Inference(
                value, stderr, None, (
                    f"no interval: {found.tied:.0%} of the points are repeated, so that P or Q has no density; "
                    "an estimator for discrete data fits better",
                ),
            )  # fmt: skip
        notes = (f"{found.tied:.2g} of the points are repeated and were counted",) if found.tied else ()
        if min(n, m) < 16 * self.k:
            return Inference(value, stderr, None, notes + (f"no interval: it needs {16 * self.k} points a side",))
        # The bias is a function of k/n, about c·(k/n)^rate, so that a larger k on the same points shows it. For smooth
        # densities the rate is 1/d or more; tails slow it: measured n^(−0.4) in one dimension, n^(−0.15) in ten.
        rate = 1 / (s.x.shape[-1] + 1.5)
        wide = min(8 * self.k, min(n, m) // 4)
        change = NearestNeighbor(self.divergence, wide)._ratios(s.x, s.y).terms - terms
        lever = (wide / self.k) ** rate - 1
        bias = float(change.mean()) / lever
        doubt = DEPENDENCE * float(change.std(ddof=1)) / math.sqrt(n) / lever
        interval, why = intervals.declare(value, stderr, bias, confidence, doubt=doubt)
        return Inference(value, stderr, interval, notes + why)

    def _ratios(self, x: Tensor, y: Tensor) -> _Ratios:
        from scipy.spatial import cKDTree

        a, b = (p.detach().cpu().double().numpy() for p in ((x, y) if self.divergence == "kl" else (y, x)))
        centre = a.mean(0)
        a, b = a - centre, b - centre
        (n, d), m, k = a.shape, len(b), self.k
        tree_a, tree_b = cKDTree(a), cKDTree(b)
        rho = np.asarray(tree_a.query(a, k=[k + 1])[0])[:, 0]  # the point itself is its own first neighbour
        distances, index = (np.asarray(found) for found in tree_b.query(a, k=list(range(1, k + 1))))
        nu = distances[:, -1]
        tied = (rho == 0) | (nu == 0)
        terms = np.zeros(n)
        plain = ~tied
        terms[plain] = d * (np.log(nu[plain]) - np.log(rho[plain]))
        if tied.any():
            radius = np.nextafter(np.maximum(rho, nu)[tied], np.inf)
            l = tree_a.query_ball_point(a[tied], radius, return_length=True) - 1
            k_y = tree_b.query_ball_point(a[tied], radius, return_length=True)
            terms[tied] = digamma(l) - digamma(k_y)
        # The share of the estimate that hangs on each y: how often it is among the k neighbours, about m r(y)/n.
        shares = np.bincount(index.ravel(), minlength=m) * (m / (n * k))
        repeated = [1 - len(np.unique(p, axis=0)) / len(p) for p in (a, b)]
        if max(repeated) > DISCRETE:
            raise ValueError(
                f"x or y repeats {max(repeated):.0%} of its points: NearestNeighbor needs continuous data; of "
                "discrete data compare the frequencies of the values by dv.kl(p, q)"
            )
        return _Ratios(terms + math.log(m / (n - 1)), shares, max(repeated))


class _Ratios(NamedTuple):
    terms: np.ndarray  # log p(x_i)/q(x_i)
    shares: np.ndarray  # p(y_j)/q(y_j), which is the first-order effect of y_j
    tied: float  # share of repeated points


def _refuse_weights(s: Samples) -> None:
    if s.x_weights is not None or s.y_weights is not None:
        raise ValueError("NearestNeighbor takes no weights: a distance to the k-th neighbour has no weighted form here")
