"""Sliced transport: the exact distance of one-dimensional projections, over many directions or over the worst one."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from estimators import intervals, scale
from estimators.base import Estimator, Inference
from estimators.door import Samples
from estimators.ops import sort1d
from estimators.transport.ground_costs import centred, check_order, in_units, weights_of
from estimators.transport.line import one_dimensional, root, rooted_inference
from estimators.transport.potentials import degrees, limits, potentials, refusal, standard_error


class SlicedWasserstein(Estimator):
    """The sliced Wasserstein distance: the p-th root of the mean of W_p^p over directions.

    SW_p^p = E_θ W_p^p(⟨θ, X⟩, ⟨θ, Y⟩), θ uniform on the sphere; ``projections`` directions are drawn from the generator
    (seed 0 without one). ``rooted=False`` gives SW_p^p, which is what a model should minimise.

    Bound: consistent (in n, m and the number of projections).
    Rate: n^(−1/2) in the points, in every dimension, and projections^(−1/2).
    Shapes: x (..., n, d), y (..., m, d), value (...,); one set of directions serves the whole batch.
    Cost: O(L·(n log n + n·d)) for L projections; memory O(L·(n + m)).
    Gradients: in x, y and the weights, almost everywhere; 0 where two projected points coincide and the order is 1.
    Interval: the normal limit of the dual potentials, averaged over the directions, and the spread over directions,
    widened by the bias that half samples show; one-sided near 0.

    Raises:
        ValueError: order below 1 or infinite; projections below 1.

    References: Bonneel et al. 2015, definition 5; Nadjahi et al. 2020 (errors in n and in L); Xi and Niles-Weed 2022
    (normal limit).

    Example:
        >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [3.0]])
        >>> SlicedWasserstein()(x, y)  # one direction is all there is in one dimension
        tensor(2.)
    """

    divergence_name = "sliced_wasserstein"

    def __init__(self, order: float = 2, projections: int = 100, rooted: bool = True) -> None:
        super().__init__()
        if not isinstance(projections, int) or projections < 1:
            raise ValueError(f"projections must be at least 1, an integer: got {projections!r}")
        self.order = check_order(order)
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
        x, y = centred(s)
        if s.x_weights is None and s.y_weights is None:
            return sort1d.projected(x, y, theta, self.order)
        x, y = theta @ x.mT, theta @ y.mT
        weights = [None if w is None else w.unsqueeze(-2) for w in (s.x_weights, s.y_weights)]
        return one_dimensional(x, y, self.order, weights[0], weights[1])

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """The distance, or its p-th power."""
        power = self.along(s, self.directions(s.x, generator)).mean(-1)
        return root(power, self.order) if self.rooted else power

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """The value with an interval that covers the draw of points and of directions."""
        degree = 1 if self.rooted else self.order
        found = in_units(lambda p, _: self._inferred(p, confidence, generator), s, degree)
        return found._replace(notes=found.notes + scale.units(s))

    def _inferred(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        theta = self.directions(s.x, generator)

        def power(part: Samples) -> Tensor:
            return self.along(part, theta).mean(-1)

        each = self.along(s, theta)
        value = float(each.mean())
        f, g = potentials(power, s)
        why = refusal(f, g, s, 2 * self.order)
        if why is not None:
            found = Inference(value, None, None, (why,))
            return rooted_inference(found, self.order) if self.rooted else found
        rate = 0.4 if self.order < 2 else 0.5  # n^(−1/2) where P = Q, and for order 1 a little less, to be careful
        bias = intervals.half_sample_bias(lambda p: float(power(p)), s, value, rate, generator.initial_seed())
        spread = float(each.std()) / math.sqrt(len(each)) if len(each) > 1 else 0.0
        found = limits(value, math.hypot(standard_error(f, g, s), spread), bias, confidence, degrees(f, g, s))
        if spread > 0:
            note = f"of the standard error, {len(each)} directions make {spread:.3g} (before the root)"
            found = found._replace(notes=(*found.notes, note))
        return rooted_inference(found, self.order) if self.rooted else found


class MaxSlicedWasserstein(SlicedWasserstein):
    """The max-sliced Wasserstein distance: the largest W_p of a one-dimensional projection.

    max_θ W_p(⟨θ, X⟩, ⟨θ, Y⟩). The best of the mean difference and ``projections`` random directions is improved by
    ``steps`` of gradient ascent on the sphere; the search may end in a local maximum.

    Bound: consistent; on the sample a lower bound of the maximum, against the law biased upwards by the search.
    Rate: n^(−1/2), as far as the search finds the maximum.
    Shapes: x (..., n, d), y (..., m, d), value (...,); each problem has its own direction.
    Cost: that of `SlicedWasserstein`, and ``steps`` sorts of one projection with a gradient.
    Gradients: in x, y and the weights with the direction held. Between few points the best direction may lie where two
    plans cost the same; there this is one of several slopes, and the value has a kink.
    Interval: the normal limit of the potentials along the direction found, widened or refused by the bias that half
    samples, searched anew, show. A search that ended in a local maximum is not seen by it.

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
        means = [(w[..., :, None] * p).sum(-2, keepdim=True) for p, w in zip((s.x, s.y), weights_of(s), strict=True)]
        shift = means[0] - means[1]
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

    def _inferred(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        seed = generator.initial_seed()
        theta = self.worst(s, generator)

        def power(part: Samples) -> Tensor:
            return self.along(part, theta).squeeze(-1)

        def searched(part: Samples) -> float:
            return float(self.along(part, self.worst(part, torch.Generator().manual_seed(seed))))

        value = float(power(s))
        f, g = potentials(power, s)
        why = refusal(f, g, s, 2 * self.order)
        if why is None:
            stderr = standard_error(f, g, s)
            bias = intervals.half_sample_bias(searched, s, value, 0.5, seed)
            interval, notes = intervals.declare(value, stderr, bias, confidence, degrees(f, g, s))
            found = Inference(value, stderr, interval, notes)
        else:
            found = Inference(value, None, None, (why,))
        return rooted_inference(found, self.order) if self.rooted else found
