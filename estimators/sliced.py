"""Sliced transport: the exact distance of one-dimensional projections, over many directions or over the worst one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from estimators import intervals
from estimators.base import Estimator, Inference
from estimators.door import Samples


def one_dimensional(
    x: Tensor, y: Tensor, order: float, x_weights: Tensor | None = None, y_weights: Tensor | None = None
) -> Tensor:
    """W_p^p of samples on the line, ∫ |F⁻¹(t) − G⁻¹(t)|^p dt, for x (..., n) and y (..., m), differentiable, p ≥ 1.

    Both quantile functions are steps; they are matched on the union of their jumps. Cost: a sort.
    """
    if x_weights is None and y_weights is None:
        x, y = _sorted(x), _sorted(y)
        if x.shape[-1] == y.shape[-1]:
            return _power(x - y, order).mean(-1)
        i, j, w = coupling(x.shape[-1], y.shape[-1], x.device)
        return (w.to(x.dtype) * _power(x[..., i] - y[..., j], order)).sum(-1)
    x, F = _steps(x, x_weights)
    y, G = _steps(y, y_weights)
    lead = torch.broadcast_shapes(x.shape[:-1], y.shape[:-1])
    F, G = (T.expand(*lead, T.shape[-1]).contiguous() for T in (F, G))
    levels = torch.cat([F, G], -1).sort(-1).values
    w = levels.diff(dim=-1, prepend=torch.zeros_like(levels[..., :1]))
    middle = (levels - w / 2).detach()  # inside the step that ends at the level, whatever the rounding
    i = torch.searchsorted(F.detach(), middle).clamp(max=F.shape[-1] - 1)
    j = torch.searchsorted(G.detach(), middle).clamp(max=G.shape[-1] - 1)
    x, y = x.expand(*lead, x.shape[-1]), y.expand(*lead, y.shape[-1])
    return (w * _power(x.gather(-1, i) - y.gather(-1, j), order)).sum(-1)


def coupling(n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """The monotone coupling of n and m equal weights: indices i, j into the sorted points, and the mass w of each pair.

    Example:
        >>> coupling(1, 2, torch.device("cpu"))
        (tensor([0, 0]), tensor([0, 1]), tensor([0.5000, 0.5000], dtype=torch.float64))
    """
    ends = torch.cat([torch.arange(1, n + 1, device=device) * m, torch.arange(1, m + 1, device=device) * n])
    ends = ends.unique()  # in units of 1/(nm), so that equal levels are equal
    w = ends.diff(prepend=ends.new_zeros(1)).double() / (n * m)
    return (ends - 1) // m, (ends - 1) // n, w


def _sorted(x: Tensor) -> Tensor:
    if x.device.type == "cpu" and not (torch.is_grad_enabled() and x.requires_grad):
        import numpy as np  # its sort is over ten times torch's on the CPU

        return torch.from_numpy(np.sort(x.detach().contiguous().numpy(), axis=-1))
    return x.sort(-1).values


def _steps(x: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Sorted points and the distribution function after each, which ends at 1."""
    x, index = x.sort(-1)
    if weights is None:
        weights = torch.full_like(x, 1 / x.shape[-1])
    F = weights.expand_as(index).gather(-1, index).cumsum(-1)
    return x, F / F[..., -1:]


def _power(difference: Tensor, order: float) -> Tensor:
    if order == 2:
        return difference.square()
    return difference.abs() if order == 1 else difference.abs().pow(order)


def root(value: Tensor, order: float) -> Tensor:
    """value^(1/order), with the subgradient 0 at 0."""
    if order == 1:
        return value
    positive = value > 0
    return torch.where(positive, torch.where(positive, value, 1.0).pow(1 / order), 0.0)


def rooted_inference(found: Inference, order: float) -> Inference:
    """The inference on W_p from one on W_p^p: limits through the root, the error by the delta method."""
    value = max(found.value, 0.0) ** (1 / order)
    stderr = None if found.stderr is None or value == 0 else found.stderr / (order * value ** (order - 1))
    interval = found.interval
    if interval is not None:
        low, high = (max(limit, 0.0) ** (1 / order) for limit in interval)
        interval = (low, high)
    return found._replace(value=value, stderr=stderr, interval=interval)


class SlicedWasserstein(Estimator):
    """The sliced Wasserstein distance: the p-th root of the mean of W_p^p over directions.

    SW_p^p = E_θ W_p^p(⟨θ, X⟩, ⟨θ, Y⟩), θ uniform on the sphere; ``projections`` directions are drawn from the generator
    (seed 0 without one). ``rooted=False`` gives SW_p^p, which is what a model should minimise.

    Bound: consistent (in n, m and the number of projections).
    Shapes: x (..., n, d), y (..., m, d), value (...,); one set of directions serves the whole batch.
    Cost: O(L·(n log n + n·d)) for L projections; memory O(L·(n + m)).
    Gradients: in x, y and the weights, almost everywhere; 0 where two projected points coincide and the order is 1.
    Interval: block jackknife on SW_p^p with the directions held, plus the spread over directions.

    Raises:
        ValueError: order below 1; projections below 1.

    References: Bonneel et al. 2015, definition 5; Nadjahi et al. 2020 (errors in n and in L).

    Example:
        >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [3.0]])
        >>> SlicedWasserstein()(x, y)  # one direction is all there is in one dimension
        tensor(2.)
    """

    divergence_name = "sliced_wasserstein"

    def __init__(self, order: float = 2, projections: int = 100, rooted: bool = True) -> None:
        super().__init__()
        if order < 1:
            raise ValueError(f"order must be at least 1: got {order}")
        if projections < 1:
            raise ValueError(f"projections must be at least 1: got {projections}")
        self.order = order
        self.projections = projections
        self.rooted = rooted

    def directions(self, points: Tensor, generator: torch.Generator | None) -> Tensor:
        """Unit vectors, (L, d), in the dtype and on the device of ``points``."""
        d = points.shape[-1]
        if d == 1:
            return torch.ones(1, 1, dtype=points.dtype, device=points.device)
        generator = torch.Generator().manual_seed(0) if generator is None else generator
        theta = torch.randn(self.projections, d, generator=generator, device=generator.device, dtype=torch.float64)
        return (theta / theta.norm(dim=-1, keepdim=True)).to(points)

    def along(self, s: Samples, theta: Tensor) -> Tensor:
        """W_p^p for each direction, (..., L)."""
        c = (s.x.detach().mean(-2, keepdim=True) + s.y.detach().mean(-2, keepdim=True)) / 2
        x, y = (theta @ (p - c).transpose(-2, -1) for p in (s.x, s.y))
        weights = [None if w is None else w.unsqueeze(-2) for w in (s.x_weights, s.y_weights)]
        return one_dimensional(x, y, self.order, weights[0], weights[1])

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """The distance, or its p-th power."""
        power = self.along(s, self.directions(s.x, generator)).mean(-1)
        return root(power, self.order) if self.rooted else power

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """The value with an interval that covers the draw of points and of directions."""
        theta = self.directions(s.x, generator)
        L = len(theta)
        value, stderr, interval, notes = intervals.jackknife(
            lambda part: float(self.along(part, theta).mean(-1)), s, confidence, generator.initial_seed()
        )
        degrees = min(len(s.x), len(s.y), intervals.BLOCKS) - 1
        if interval is not None:
            # Near P = Q and for order 1 the bias falls as n^(−1/2) only, which a jackknife sees half of.
            slow = intervals.half_sample_bias(
                lambda part: float(self.along(part, theta).mean(-1)), s, value, 0.5, generator.initial_seed()
            )
            low = min(interval[0], value - intervals.half_width(stderr or 0.0, confidence, degrees) - slow)
            interval = (low, interval[1])
            notes += (f"bias at the rate n^(−1/2), by half samples: {slow:.3g} (before the root)",)
        if stderr is not None and interval is not None and L > 1:
            spread = float(self.along(s, theta).std(-1)) / math.sqrt(L)
            more = intervals.half_width(math.hypot(stderr, spread), confidence, degrees)
            more -= intervals.half_width(stderr, confidence, degrees)
            stderr, interval = math.hypot(stderr, spread), (interval[0] - more, interval[1] + more)
            notes += (f"{L} directions add a standard error of {spread:.3g} (before the root)",)
        found = Inference(value, stderr, interval, notes)
        return rooted_inference(found, self.order) if self.rooted else found


class MaxSlicedWasserstein(SlicedWasserstein):
    """The max-sliced Wasserstein distance: the largest W_p of a one-dimensional projection.

    max_θ W_p(⟨θ, X⟩, ⟨θ, Y⟩). The best of the mean difference and ``projections`` random directions is improved by
    ``steps`` of gradient ascent on the sphere; the search may end in a local maximum.

    Bound: consistent; on the sample a lower bound of the maximum, against the law biased upwards by the search.
    Shapes: x (..., n, d), y (..., m, d), value (...,); each problem has its own direction.
    Cost: that of `SlicedWasserstein`, and ``steps`` sorts of one projection with a gradient.
    Gradients: in x, y and the weights with the direction held (envelope theorem).
    Interval: jackknife with the direction held, widened or refused by the bias that half samples show.

    References: Deshpande et al. 2019, eq. (6).

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
        >>> round(MaxSlicedWasserstein(rooted=False)(x, x + torch.tensor([3.0, 4.0])).item(), 3)
        25.0
    """

    divergence_name = "max_sliced_wasserstein"

    def __init__(self, order: float = 2, projections: int = 100, steps: int = 50, rooted: bool = True) -> None:
        super().__init__(order, projections, rooted)
        self.steps = steps

    def worst(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """The direction found, (..., 1, d), without a gradient."""
        weights = [None if w is None else w.detach() for w in (s.x_weights, s.y_weights)]
        s = Samples(s.x.detach(), s.y.detach(), weights[0], weights[1])
        shift = s.x.mean(-2, keepdim=True) - s.y.mean(-2, keepdim=True)
        theta = self.directions(s.x, generator).expand(*shift.shape[:-2], -1, -1)
        length = shift.norm(dim=-1, keepdim=True)
        theta = torch.cat([torch.where(length > 0, shift / length.clamp_min(1e-30), theta[..., :1, :]), theta], -2)
        values = self.along(s, theta)
        best = values.argmax(-1)[..., None, None].expand(*values.shape[:-1], 1, s.x.shape[-1])
        theta, value = theta.gather(-2, best), values.amax(-1)[..., None, None]
        step = torch.full_like(value, 0.5)
        for _ in range(self.steps if s.x.shape[-1] > 1 else 0):
            with torch.enable_grad():
                at = theta.requires_grad_()
                (slope,) = torch.autograd.grad(self.along(s, at).sum(), at)
            theta = theta.detach()
            tangent = slope - (slope * theta).sum(-1, keepdim=True) * theta
            move = theta + step * tangent / tangent.norm(dim=-1, keepdim=True).clamp_min(1e-30)
            move = move / move.norm(dim=-1, keepdim=True)
            found = self.along(s, move)[..., None]
            better = found > value
            theta, value = torch.where(better, move, theta), torch.where(better, found, value)
            step = torch.where(better, step * 1.2, step / 2)
        return theta

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """The distance along the direction found, or its p-th power."""
        power = self.along(s, self.worst(s, generator)).squeeze(-1)
        return root(power, self.order) if self.rooted else power

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """The value with an interval, refused where the search itself moves the value more than sampling does."""
        seed = generator.initial_seed()
        theta = self.worst(s, generator)
        value, stderr, _, notes = intervals.jackknife(lambda p: float(self.along(p, theta)), s, confidence, seed)
        if stderr is None:
            found = Inference(value, None, None, notes)
        else:

            def searched(part: Samples) -> float:
                return float(self.along(part, self.worst(part, torch.Generator().manual_seed(seed))))

            bias = intervals.half_sample_bias(searched, s, value, 0.5, seed)
            degrees = min(len(s.x), len(s.y), intervals.BLOCKS) - 1
            interval, why = intervals.declare(value, stderr, bias, confidence, degrees)
            found = Inference(value, stderr, interval, why)
        return rooted_inference(found, self.order) if self.rooted else found
