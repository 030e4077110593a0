"""The Fréchet distance of two laws through their means and covariances, of points or of features of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from estimators import intervals, scale
from estimators.base import Estimator, Inference
from estimators.door import Samples
from estimators.kernel.energy import tail_index
from estimators.kernel.variance import growing_interval

BLOCKS = 20
MOMENTS = 4  # of the points, that a variance of second moments takes
HEAVY = 0.5, 1.5  # a + b/√n, the share of the variance of ‖x − μ‖² that one of n points may make up at the most
ERRORS = 2  # standard errors by which a tail index is below that: of exponential points it is, by one, often
HELD = 512  # points that go through the features at once
_MOODY = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)  # differ in training


class Frechet(Estimator):
    """The squared Fréchet distance ‖μ_P − μ_Q‖² + tr(Σ_P + Σ_Q − 2(Σ_P Σ_Q)^½), of points or of their features.

    It is W₂² of the Gaussians with these means and covariances, a lower bound of W₂² of the laws themselves, and 0 for
    any laws that share them. Covariances have ddof = 1 (with weights Σ w (x − μ)(x − μ)ᵀ/(1 − Σw²)); all is in float64.
    With the Inception network of Heusel et al. as ``features`` it is the FID.

    ``features`` is a callable or module from (N, d) points to (N, k) numbers. 512 points go through it at once, a
    module in its own precision and mode (call ``.eval()`` first). The plain value is biased upwards by a constant over
    n, which grows with the square of k. ``debiased=True`` takes off the jackknife's estimate of that bias, from leaving
    out each of 20 blocks of both samples that the generator draws (seed 0 without one); the result may be negative.

    Bound: the plain value is an upper bound in expectation, as the distance is convex in means and covariances; the
    debiased one is consistent.
    Rate: n^(−1/2), and n^(−1) at P = Q; the bias of the plain value is of order k²/n.
    Shapes: x (..., n, d), y (..., m, d), value (...,).
    Cost: O((n + m)·k² + k³), with n in place of k where there are fewer points than features; 21 times that for
    ``debiased``, 29 for `estimate`. Memory O((n + m)·k).
    Gradients: in x, y, the weights and the features, once, also where covariances have no full rank (a subgradient).
    Interval: around the debiased value, with the block jackknife's variance (above, the variance at the limit), widened
    by how far half samples extrapolate to another value, and reaching up to the plain value where that is asked for.
    Refused below 5 points a side, where no variation is seen beyond rounding, where the two ways to take off the bias
    do not agree, such as for n < k, and where one point makes up most of the variance; a note says where the tail makes
    doubtful the fourth moments that it takes.

    Raises:
        TypeError: features that cannot be called.
        ValueError: fewer than 2 points on a side (4 for ``debiased``); features that are not (N, k).

    References: Dowson and Landau 1982, eq. (4); Heusel et al. 2017, eq. (6); Chong and Forsyth 2020 (bias); Bhatia,
    Jain, Lim 2019, theorem 1.

    Example:
        >>> x, y = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [7.0]])
        >>> Frechet()(x, y)  # (1 − 4)² + (√2 − √18)²
        tensor(17.)
    """

    divergence_name = "frechet"

    def __init__(self, features: Callable[[Tensor], Tensor] | None = None, debiased: bool = False) -> None:
        super().__init__()
        if features is not None and not callable(features):
            raise TypeError(f"features must be callable, (N, d) -> (N, k): got {type(features).__name__}")
        self.features = features
        self.debiased = debiased
        self.bound = "consistent" if debiased else "upper"
        self.minimum = 4 if debiased else 2

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """The squared distance, less its estimated bias where that is asked for."""
        found = self._featured(s)
        value = squared_distance(found)
        if self.debiased:
            value = value - _bias(value, _leaving_out(found, generator))
        return value.to(s.x.dtype)

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """The value with an interval around the debiased value."""
        notes: tuple[str, ...] = ()
        if isinstance(self.features, nn.Module) and any(
            m.training for m in self.features.modules() if isinstance(m, _MOODY)
        ):
            notes += ("the features are in training mode, where batches and chance change them: call .eval() first",)
        if self.features is None:  # the units of features are their own
            notes += scale.units(s)
        s = self._featured(s)
        if (why := scale.constant(s)) is not None:
            return Inference(float(squared_distance(s)), None, None, (*notes, why))
        n, m, k = len(s.x), len(s.y), s.x.shape[-1]
        if min(n, m) <= k:
            notes += (f"the covariances are rank deficient: {n} and {m} points in {k} dimensions",)
        plain, seed = float(squared_distance(s)), generator.initial_seed()
        leave = _leaving_out(s, generator) if self.debiased or min(n, m) >= intervals.FEWEST else s.x.new_zeros(1)
        bias = float(_bias(leave.new_tensor(plain), leave))
        debiased, B = plain - bias, leave.shape[-1]
        value = debiased if self.debiased else plain
        if B < intervals.FEWEST:
            why = f"no interval: a jackknife needs at least {intervals.FEWEST} points a side, got {n} and {m}"
            return Inference(value, None, None, (*notes, why))
        if not math.isfinite(bias):
            why = "no interval: the weight lies on too few points to leave any out"
            return Inference(value, None, None, (*notes, why))
        variance = (B - 1) * float(leave.var(correction=0))
        if not math.sqrt(variance) > (n + m) * torch.finfo(leave.dtype).eps * float(leave.abs().amax()):
            why = "no interval: leaving out points changes nothing beyond rounding, so no sampling error can be seen"
            return Inference(value, None, None, (*notes, why))
        half = intervals.half_width(math.sqrt(variance), confidence, B - 1)
        doubt = abs(intervals.half_sample_bias(lambda part: float(squared_distance(part)), s, plain, 1.0, seed) - bias)
        notes += (
            f"the plain value is biased upwards by about {bias:.3g} (jackknife over {B} blocks; half samples agree "
            f"within {doubt:.2g}), which " + ("was taken off" if self.debiased else "debiased=True takes off"),
        )
        if not doubt <= half:  # NaN is refused as well
            why = f"no interval: that is not known well enough against the sampling error {half:.3g}"
            return Inference(value, math.sqrt(variance), None, (*notes, why))
        if (heavy := _heavy(s)) is not None:
            return Inference(value, math.sqrt(variance), None, (*notes, heavy))
        if s.x_weights is None and s.y_weights is None:
            notes += _tail(s)
        low, high = growing_interval(debiased, variance, _slope(s), confidence, B - 1)
        interval = (low - doubt, high + doubt)
        if not self.debiased:
            interval = max(interval[0], 0.0), max(interval[1], plain)
        return Inference(value, math.sqrt(variance), interval, notes)

    def _featured(self, s: Samples) -> Samples:
        """The features of both samples in float64."""
        return s._replace(
            x=self._features_of(s.x),
            y=self._features_of(s.y),
            x_weights=None if s.x_weights is None else s.x_weights.double(),
            y_weights=None if s.y_weights is None else s.y_weights.double(),
        )

    def _features_of(self, x: Tensor) -> Tensor:
        if self.features is None:
            return x.double()
        points = x.reshape(-1, x.shape[-1])
        if isinstance(self.features, nn.Module):
            points = points.to(next((p.dtype for p in self.features.parameters()), points.dtype))
        found = torch.cat([self.features(part) for part in points.split(HELD)])
        if found.ndim != 2 or len(found) != len(points):
            raise ValueError(f"features must be (N, k), here ({len(points)}, k): got shape {tuple(found.shape)}")
        return found.double().reshape(*x.shape[:-1], found.shape[-1])


def squared_distance(s: Samples) -> Tensor:
    """The squared distance, (...,), of samples in float64.

    With AᵀA and BᵀB the covariances, the part without the means is min ‖A − UᵀB‖² over orthogonal U, at the polar
    factor of BAᵀ: no difference of large numbers, no root of a covariance, and, with U held, the right gradient.
    """
    mean_x, A = _mean_and_root(s.x, s.x_weights)
    mean_y, B = _mean_and_root(s.y, s.y_weights)
    A, B = _reduced(A), _reduced(B)
    rows = max(A.shape[-2], B.shape[-2])
    A, B = (nn.functional.pad(part, (0, 0, 0, rows - part.shape[-2])) for part in (A, B))
    with torch.no_grad():
        W, _, Vh = torch.linalg.svd((B @ A.mT).nan_to_num(0.0, 0.0, 0.0))  # NaN comes out of the next line as NaN
    return (mean_x - mean_y).square().sum(-1) + (A - (W @ Vh).mT @ B).square().sum((-2, -1))


def _heavy(s: Samples) -> str | None:
    """Why the error is not known, where one point makes up most of the variance of the squared norms."""
    for name, points, w in (("x", s.x, s.x_weights), ("y", s.y, s.y_weights)):
        w = points.new_full((len(points),), 1 / len(points)) if w is None else w
        squares = (points - w @ points).square().sum(-1)
        share = intervals.largest_share(w * (squares - w @ squares))
        if share > HEAVY[0] + HEAVY[1] * math.sqrt(float(w.square().sum())):
            return f"no interval: one point of {name} makes up {share:.0%} of the variance of a second moment"
    return None


def _tail(s: Samples) -> tuple[str, ...]:
    """A note where the tail looks as if fourth moments were missing, by its √N farthest points."""
    index, error = tail_index(s, math.isqrt(len(s.x) + len(s.y)))
    if index >= MOMENTS * (1 - ERRORS * error):
        return ()
    return (
        f"the tail of the points has an estimated index of {index:.2g}; below {MOMENTS} the moments of that order are "
        "missing, and the interval is too short",
    )


def _slope(s: Samples) -> float:
    """How fast the variance grows with the distance, at most, for normal points: 4λ(Σ_P)/n + 4λ(Σ_Q)/m.

    The mean's part is 4 δᵀΣδ/n ≤ 4 λ‖δ‖²/n, and with the transport map T between centred normal laws the other is
    2 tr((I − T)Σ)²/n ≤ 2 λ tr((I − T)Σ(I − T))/n, a multiple of the distance itself.
    """
    slope = 0.0
    for points, w in ((s.x, s.x_weights), (s.y, s.y_weights)):
        largest = float(torch.linalg.matrix_norm(_reduced(_mean_and_root(points, w)[1]), 2)) ** 2
        slope += 4 * largest * (1 / len(points) if w is None else float(w.square().sum()))
    return slope


def _mean_and_root(x: Tensor, w: Tensor | None) -> tuple[Tensor, Tensor]:
    """The mean, (..., k), and centred points A, (..., n, k), with AᵀA the covariance."""
    if w is None:
        mean = x.mean(-2, keepdim=True)
        return mean.squeeze(-2), (x - mean) / math.sqrt(x.shape[-2] - 1)
    w = w.unsqueeze(-1)
    mean = (w * x).sum(-2, keepdim=True)
    root = ((w + 1e-300) / (1 - w.square().sum(-2, keepdim=True))).sqrt()  # with a derivative at w = 0
    return mean.squeeze(-2), root * (x - mean)


def _reduced(A: Tensor) -> Tensor:
    """At most k rows with the same AᵀA; the basis is held in the gradient, where its rotation does not matter."""
    with torch.no_grad():
        Q = torch.linalg.qr(A)[0]
    return Q.mT @ A


def _leaving_out(s: Samples, generator: torch.Generator | None) -> Tensor:
    """The squared distances without each block of both samples, (..., B)."""
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    B = min(BLOCKS, s.x.shape[-2], s.y.shape[-2])
    blocks = [
        (torch.arange(p.shape[-2]) % B)[torch.randperm(p.shape[-2], generator=generator)].to(p.device)
        for p in (s.x, s.y)
    ]

    def without(b: int) -> Samples:
        sides = []
        for points, w, block in ((s.x, s.x_weights, blocks[0]), (s.y, s.y_weights, blocks[1])):
            w = None if w is None else w[..., block != b] / w[..., block != b].sum(-1, keepdim=True)
            sides.append((points[..., block != b, :], w))
        return Samples(sides[0][0], sides[1][0], sides[0][1], sides[1][1])

    return torch.stack([squared_distance(without(b)) for b in range(B)], -1)


def _bias(value: Tensor, leave: Tensor) -> Tensor:
    """The jackknife's estimate of the bias of ``value``, which is taken to fall as 1/n."""
    return (leave.shape[-1] - 1) * (leave.mean(-1) - value)
