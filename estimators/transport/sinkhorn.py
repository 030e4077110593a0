"""Entropic optimal transport between samples: smooth, and in many dimensions less noisy than the exact plan."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from divergences import ConvergenceError
from estimators import scale
from estimators.base import Estimator, Inference, same_kind
from estimators.door import Samples, admit_thoroughly, check_finite
from estimators.ops import sinkhorn
from estimators.transport.coupling import Coupling, projection
from estimators.transport.ground_costs import (
    Metric,
    centred,
    check_metric,
    check_order,
    ground_cost,
    in_units,
    weights_of,
)
from estimators.transport.potentials import SPLITS, between_halves, counted, degrees, limits, refusal, standard_error

BLUR = (
    0.25  # with less, a minibatch in many dimensions sees its own noise: generators trained on digits end further off
)
TRAINING = 5e-4  # marginal error of a training step, with which the dual value errs by some 1e-5 of itself
EXACT = 1e-5  # marginal error of an estimate
ACCEPTED = 1e-4  # marginal error, and a tenth of the relative gap, that an estimate may have when iterations run out
GROSS = 0.1  # marginal error at which not even a training step may go on


class Sinkhorn(Estimator):
    """Entropic optimal transport, by default debiased: the Sinkhorn divergence.

    OT(a, b) = min_Γ Σ Γ_ij d(x_i, y_j)^p + p·blur^p·KL(Γ‖a⊗b) and, ``debiased``, S = OT(a, b) − ½OT(a, a) − ½OT(b, b),
    which tends to W_p^p as blur → 0; S ≥ 0 for Euclidean distances and p ≤ 2, and for cityblock and p = 1. It is not
    rooted. The value is that of the dual. ``blur`` is a length (for p = 2 a standard deviation); "auto" is a quarter of
    the root mean squared distance within the pooled sample, where x and y count half each, without a gradient.
    ``reach`` relaxes both marginals to penalties p·reach^p·KL, so that mass further away than that need not be moved.
    ``metric`` is "euclidean", "cityblock" or a callable d(x, y) -> (..., n, m).

    Bound: consistent, for the divergence at this blur (which is not W_p^p).
    Rate: n^(−1/2) at a fixed blur, with a constant that grows as blur^(−d/2); n^(−1) at P = Q where debiased (Genevay
    et al. 2019).
    Shapes: x (..., n, d), y (..., m, d), value (...,). Samples of unequal size are padded with points of weight 0.
    Cost: O(nm) a sweep, some 10 to 100 sweeps; memory O(nm).
    Gradients: in x, y and the weights with the potentials held (envelope theorem); first order only.
    Interval: the normal limit of the dual potentials (with ``reach``, of the derivatives in the weights), widened
    downwards by the divergence between two halves of one sample, an upper estimate of the bias, which in many
    dimensions is most of the value; one-sided near 0, and refused where the tail is too heavy.
    An estimate solves to a marginal error of 1e-5; `value` and training to 5e-4.

    Raises:
        ValueError: order below 1 or infinite, blur or reach not positive, an unknown metric, a cost that is not finite.
        ConvergenceError: in `estimate`, not converged within ``iterations``; in training, marginals wrong by over 10%.

    References: Cuturi 2013; Feydy et al. 2019, eq. (3), theorem 1; Séjourné et al. 2019 (reach); del Barrio et al. 2023
    (normal limit).

    Example:
        >>> x = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
        >>> round(Sinkhorn(blur=0.1)(x, x + torch.tensor([1.0, 0.0])).item(), 2)  # a shift costs its square
        1.0
    """

    divergence_name = "sinkhorn"

    def __init__(
        self,
        order: float = 2,
        blur: float | str = "auto",
        debiased: bool = True,
        reach: float | None = None,
        iterations: int = 5000,
        metric: Metric = "euclidean",
    ) -> None:
        super().__init__()
        if blur != "auto" and not (not isinstance(blur, str) and blur > 0):
            raise ValueError(f'blur must be positive or "auto": got {blur!r}')
        if reach is not None and not reach > 0:
            raise ValueError(f"reach must be positive or None: got {reach}")
        self.order = check_order(order)
        self.blur = blur
        self.debiased = debiased
        self.reach = reach
        self.iterations = iterations
        self.metric = check_metric(metric)

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """The divergence, solved as far as a training step needs."""
        value, parts = self._divergence(s, self.blur_of(s), TRAINING)
        worst = float(torch.stack([part.error.amax() for part in parts]).amax())
        if not worst <= GROSS:
            raise self._failure(worst)
        return value

    def coupling(
        self, x: Any, y: Any, x_weights: Any = None, y_weights: Any = None, *, strict: bool = True
    ) -> Coupling:
        """The entropic plan of one problem, in float64, with its potentials, bounds of OT(a, b) and the entropic map.

        Only the cross term is solved: ``value`` is OT(a, b), whether or not the estimator is debiased. With
        ``strict=False`` iterations that run out are no error: the result has ``converged=False``, and its bounds hold.

        Raises:
            ValueError: samples refused at the door.
            ConvergenceError: not converged, and ``strict``.
        """
        s = admit_thoroughly(x, y, x_weights, y_weights)
        (u, v), (a, b) = centred(s), weights_of(s)
        blur = self.blur_of(s)
        with torch.no_grad():
            solved = self._transport(u, v, a, b, blur, EXACT, certify=True)
        value, gap = float(solved.value), float(solved.gap)
        converged = self._converged(float(solved.error), gap, value, blur)
        if strict and not converged:
            raise self._failure(float(solved.error), (value, value + gap))
        plan = sinkhorn.plan(self._cost(u, v), a, b, solved.epsilon, solved.f, solved.g)
        epsilon, origin = float(solved.epsilon), s.x[0] - u[0]
        project = projection(
            plan, s.y, b, solved.g, lambda z: ground_cost(z - origin, v, self.order, self.metric), epsilon
        )
        plan, f, g = (same_kind(part, x, y) for part in (plan, solved.f, solved.g))
        return Coupling(plan, f, g, value, (value, value + gap), converged, project)

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """The divergence with a certificate of its convergence, and its interval or why there is none."""
        seed = generator.initial_seed()
        if callable(self.metric):
            return self._inferred(s, confidence, seed)

        def found(p: Samples, unit: float) -> Inference:
            blur = self.blur if isinstance(self.blur, str) else self.blur / unit
            reach = None if self.reach is None else self.reach / unit
            scaled = Sinkhorn(self.order, blur, self.debiased, reach, self.iterations, self.metric)
            return scaled._inferred(p, confidence, seed)

        inferred = in_units(found, s, self.order)
        return inferred._replace(notes=inferred.notes + scale.units(s))

    def _inferred(self, s: Samples, confidence: float, seed: int) -> Inference:
        blur = self.blur_of(s)
        divergence, parts = self._divergence(s, blur, EXACT, certify=True)
        value, gaps = float(divergence), [float(part.gap) for part in parts]
        worst = max(float(part.error) for part in parts)
        if not self._converged(worst, sum(gaps), float(parts[0].value), blur):
            own = (gaps[1] / 2 + gaps[2] / 2) if self.debiased else 0.0
            raise self._failure(worst, (value - own, value + gaps[0]))
        at = f"blur {float(blur):.4g}" + (f" ({BLUR} of the pooled scale)" if self.blur == "auto" else "")
        notes = (
            f"{at}; the interval is for the divergence at this blur",
            f"converged: marginal error {worst:.1g}, sum of primal–dual gaps {sum(gaps):.1g}",
        )
        if self._definite():
            value = max(value, 0.0)  # what is below is the error of the solver
        f, g = parts[0].slope_f, parts[0].slope_g
        if self.debiased:
            f, g = f - parts[1].slope_f, g - parts[2].slope_g
        # With ``reach`` the potentials are bounded, and what a callable takes of the points is not known.
        moments = 0.0 if self.reach is not None or callable(self.metric) else 2 * self.order
        why = refusal(f, g, s, moments)
        if why is not None:
            return Inference(value, None, None, (*notes, why))
        debiased = (
            self
            if self.debiased
            else Sinkhorn(self.order, reach=self.reach, iterations=self.iterations, metric=self.metric)
        )
        with counted(lambda p: float(debiased._divergence(p, blur, TRAINING)[0]), 2 * SPLITS, "Sinkhorn, bias") as cost:
            bias = between_halves(cost, s, seed)
        least = 0.0 if self._definite() else -math.inf
        found = limits(value, standard_error(f, g, s), bias, confidence, degrees(f, g, s), least)
        return found._replace(notes=notes + found.notes)

    def _definite(self) -> bool:
        """Whether the divergence is known to be at least 0: e^(−cost/ε) is a positive definite kernel."""
        highest = {"euclidean": 2, "cityblock": 1}.get(self.metric, 0) if isinstance(self.metric, str) else 0
        return self.debiased and self.order <= highest

    def _converged(self, error: float, gap: float, value: float, blur: Tensor) -> bool:
        return error <= ACCEPTED and gap <= 10 * ACCEPTED * (abs(value) + float(blur) ** self.order)

    def blur_of(self, s: Samples) -> Tensor:
        """The blur for these samples, (...,): the number that was given, or what "auto" makes of their spread."""
        lead = torch.broadcast_shapes(s.x.shape[:-2], s.y.shape[:-2])
        if not isinstance(self.blur, str):
            return torch.full(lead, float(self.blur), dtype=s.x.dtype, device=s.x.device)
        with torch.no_grad():
            a, b = (w.expand(*lead, -1) / 2 for w in weights_of(s))
            pooled = torch.cat([p.expand(*lead, *p.shape[-2:]) for p in centred(s)], -2)
            weights = torch.cat([a, b], -1)
            if self.metric == "euclidean":
                mean = (weights[..., None] * pooled).sum(-2, keepdim=True)
                spread = (weights * (pooled - mean).square().sum(-1)).sum(-1)
                squared = 2 * spread  # E‖Z − Z'‖² = 2 E‖Z − E Z‖²
            else:
                C = ground_cost(pooled, pooled, 2, self.metric)
                squared = (weights[..., :, None] * weights[..., None, :] * C).sum((-2, -1))
            return BLUR * torch.where(squared > 0, squared, 1.0).sqrt()

    def _divergence(
        self, s: Samples, blur: Tensor, tolerance: float, certify: bool = False
    ) -> tuple[Tensor, list[sinkhorn.Transported]]:
        x, y = centred(s)
        a, b = weights_of(s)
        cross = self._transport(x, y, a, b, blur, tolerance, certify=certify)
        if not self.debiased:
            return cross.value, [cross]
        if x.shape == y.shape and not certify:
            z, c = torch.stack([x, y]), torch.stack([a.expand(x.shape[:-1]), b.expand(y.shape[:-1])])
            both = self._transport(z, z, c, c, blur, tolerance, symmetric=True)
            xx, yy = (sinkhorn.Transported(*(field[k] for field in both)) for k in range(2))
        else:
            xx, yy = (
                self._transport(p, p, w, w, blur, tolerance, symmetric=True, certify=certify)
                for p, w in ((x, a), (y, b))
            )
        return cross.value - (xx.value + yy.value) / 2, [cross, xx, yy]

    def _transport(
        self,
        x: Tensor,
        y: Tensor,
        a: Tensor,
        b: Tensor,
        blur: Tensor,
        tolerance: float,
        symmetric: bool = False,
        certify: bool = False,
    ) -> sinkhorn.Transported:
        rho = None if self.reach is None else torch.full_like(blur, self.order * self.reach**self.order)
        bar = tqdm(total=self.iterations, desc="Sinkhorn", unit="sweep", delay=2, leave=False, disable=not certify)
        with bar:
            return sinkhorn.transport(
                x,
                y,
                a,
                b,
                self.order * blur**self.order,
                sinkhorn.Cost(self._cost, self.order if self.metric == "euclidean" else None),
                rho,
                symmetric=symmetric,
                tolerance=tolerance,
                iterations=self.iterations,
                certify=certify,
                progress=(lambda sweeps: bar.update(sweeps - bar.n)) if certify else None,
            )

    def _cost(self, x: Tensor, y: Tensor) -> Tensor:
        C = ground_cost(x, y, self.order, self.metric)
        if callable(self.metric):
            check_finite(C.detach().flatten(0, -2), "the ground cost of x and y")
        return C

    def _failure(self, error: float, bounds: tuple[float, float] | None = None) -> ConvergenceError:
        certified = "" if bounds is None else f" and the value lies in [{bounds[0]:.6g}, {bounds[1]:.6g}]"
        return ConvergenceError(
            f"Sinkhorn did not converge in iterations={self.iterations}: the marginals are wrong by {error:.2g} in L1"
            f"{certified}; a larger blur or more iterations would help"
        )
