"""Optimal transport between samples: exact by the network simplex, or smoothed by entropy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from divergences import ConvergenceError, kernels
from estimators import intervals
from estimators.base import Estimator, Inference, variance_of_mean
from estimators.door import Samples, check_finite, check_weights
from estimators.ops import sinkhorn
from estimators.sliced import one_dimensional, root, rooted_inference

Metric = Literal["euclidean", "cityblock"] | Callable[[Tensor, Tensor], Tensor]

BLUR = (
    0.25  # with less, a minibatch in many dimensions sees its own noise: generators trained on digits end further off
)
TRAINING = 5e-3  # marginal error of a training step; the dual value errs by its square
EXACT = 1e-5  # marginal error of an estimate
ACCEPTED = 1e-4  # marginal error, and a tenth of the relative gap, that an estimate may have when iterations run out
GROSS = 0.1  # marginal error at which not even a training step may go on


def ground_cost(x: Tensor, y: Tensor, order: float, metric: Metric = "euclidean") -> Tensor:
    """d(x_i, y_j)^order, (..., n, m), with zero gradient at coincident points."""
    if callable(metric):
        return metric(x, y).pow(order)
    if metric == "cityblock":
        distance: Tensor = sum((x[..., :, None, k] - y[..., None, :, k]).abs() for k in range(x.shape[-1]))  # type: ignore[assignment]
        return distance if order == 1 else distance.pow(order)
    d2 = kernels.squared_distances(x, y)
    if order == 2:
        return d2
    positive = d2 > 0
    return torch.where(positive, torch.where(positive, d2, 1.0).pow(order / 2), 0.0)


class EMD(Estimator):
    """The Wasserstein distance of two samples, by an exact solver.

    W_p = (min_Γ Σ_ij Γ_ij d(x_i, y_j)^p)^(1/p) over plans Γ with the weights as marginals. ``metric`` is "euclidean",
    "cityblock" or a callable d(x, y) -> (..., n, m); ``rooted=False`` gives W_p^p, which a model should minimise.

    Bound: upper (the empirical distance exceeds W_p(P, Q) in expectation, by far in many dimensions).
    Shapes: x (..., n, d), y (..., m, d), value (...,); a batch is solved one by one.
    Cost: about O((n + m)³) time, memory O(nm); O(n log n) for d = 1.
    Gradients: in x, y and the weights with the plan held (envelope theorem); first order only for d > 1.
    Interval: the normal limit of the dual potentials, widened by the bias that half samples show at the slow rate that
    d allows, and refused where that is beyond the sampling error.

    Raises:
        ValueError: order below 1; non-finite points or bad weights (checked before native code).
        ConvergenceError: the simplex stopped at ``iterations``.

    References: Bonneel et al. 2011 (solver); del Barrio and Loubes 2019, theorem 4.1 (normal limit).

    Example:
        >>> x, y = torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 2.0], [1.0, 2.0]])
        >>> EMD()(x, y)
        tensor(2.)
    """

    divergence_name = "wasserstein"
    bound = "upper"

    def __init__(
        self, order: float = 1, metric: Metric = "euclidean", rooted: bool = True, iterations: int = 10_000_000
    ) -> None:
        super().__init__()
        if order < 1:
            raise ValueError(f"order must be at least 1: got {order}")
        if not callable(metric) and metric not in ("euclidean", "cityblock"):
            raise ValueError(f'metric must be "euclidean", "cityblock" or a callable: got {metric!r}')
        self.order = order
        self.metric = metric
        self.rooted = rooted
        self.iterations = iterations

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """The distance, or its p-th power."""
        power = self._power(s)
        return root(power, self.order) if self.rooted else power

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """The value with an interval, or the reason why there is none."""
        d, seed = s.x.shape[-1], generator.initial_seed()
        degrees = math.inf
        if min(len(s.x), len(s.y)) < 8:
            found = Inference(float(self._power(s)), None, None, ("no interval: needs at least 8 points a side",))
            return rooted_inference(found, self.order) if self.rooted else found
        if self._on_the_line(s):
            value, stderr, _, notes = intervals.jackknife(lambda p: float(self._power(p)), s, confidence, seed)
            degrees = min(len(s.x), len(s.y), intervals.BLOCKS) - 1
        else:
            _, f, g, cost = self._solve(ground_cost(*_centred(s), self.order, self.metric), *_weights(s))
            value, stderr, notes = float(cost), _potential_error(f, g, s), ()
        # The empirical W_p^p errs by n^(−1/d) for p = 1 and n^(−2/d) for p ≥ 2 (Fournier and Guillin 2015; Manole and
        # Niles-Weed 2024), not faster than n^(−1/2) where P = Q; for d = p = 1 a little less, to be careful.
        rate = min(0.4, 1 / d) if self.order < 2 else min(0.5, 2 / d)
        if stderr is None:
            found = Inference(value, None, None, notes)
        else:
            bias = intervals.half_sample_bias(lambda p: float(self._power(p)), s, value, rate, seed)
            interval, notes = intervals.declare(value, stderr, max(bias, 0.0), confidence, degrees)
            found = Inference(value, stderr, interval, notes)
        return rooted_inference(found, self.order) if self.rooted else found

    def _on_the_line(self, s: Samples) -> bool:
        return s.x.shape[-1] == 1 and not callable(self.metric)

    def _power(self, s: Samples) -> Tensor:
        if self._on_the_line(s):
            x, y = (p.squeeze(-1) for p in _centred(s))
            return one_dimensional(x, y, self.order, s.x_weights, s.y_weights)
        check_finite(s.x, "x")  # before native code, which would crash or answer 0
        check_finite(s.y, "y")
        a, b = _weights(s)
        for name, weights in (("x_weights", a), ("y_weights", b)):
            for row in weights.detach().double().reshape(-1, weights.shape[-1]):
                check_weights(row, name)
        C = ground_cost(*_centred(s), self.order, self.metric)
        lead = C.shape[:-2]
        problems = C.detach().reshape(-1, *C.shape[-2:])
        a_rows, b_rows = a.expand(*lead, -1).reshape(-1, a.shape[-1]), b.expand(*lead, -1).reshape(-1, b.shape[-1])
        solved = [self._solve(M, u, v) for M, u, v in zip(problems, a_rows, b_rows, strict=True)]
        plan, f, g, value = (torch.stack(parts).to(C).unflatten(0, lead or (1,)) for parts in zip(*solved, strict=True))
        if not lead:
            plan, f, g, value = plan[0], f[0], g[0], value[0]
        return _Envelope.apply(C, a, b, value, plan, f, g)

    def _solve(self, C: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The plan, the dual potentials and the cost of one problem, in float64."""
        import ot

        M, a, b = (v.detach().cpu().double().contiguous() for v in (C, a, b))
        a, b = a / a.sum(), b / b.sum()
        if not bool(torch.isfinite(M).all()):
            raise ValueError("the ground cost of x and y is not finite")
        plan, log = ot.lp.emd(
            a.numpy(), b.numpy(), M.numpy(), numItermax=self.iterations, log=True, check_marginals=False
        )
        if log["result_code"] != 1:
            raise ConvergenceError(
                f"EMD did not reach the optimum in iterations={self.iterations}: the best plan so far costs "
                f"{log['cost']:.6g} (solver status {log['result_code']})"
            )
        found = (plan, log["u"], log["v"], log["cost"])
        plan, f, g, value = (torch.as_tensor(v, dtype=torch.float64, device=C.device) for v in found)
        return plan, f, g, value


class Sinkhorn(Estimator):
    """Entropic optimal transport, by default debiased: the Sinkhorn divergence.

    OT(a, b) = min_Γ Σ Γ_ij ‖x_i − y_j‖^p + p·blur^p·KL(Γ‖a⊗b) and, ``debiased``, S = OT(a, b) − ½OT(a, a) − ½OT(b, b),
    S ≥ 0, which tends to W_p^p as blur → 0. It is not rooted. The value is that of the dual. ``blur`` is a length (for
    p = 2 a standard deviation); "auto" is a quarter of the root mean squared distance within the pooled sample, without
    a gradient.
    ``reach`` relaxes both marginals to penalties p·reach^p·KL, so that mass further away than that need not be moved.

    Bound: consistent, for the divergence at this blur (which is not W_p^p).
    Shapes: x (..., n, d), y (..., m, d), value (...,).
    Cost: O(nm) a sweep, some 10 to 100 sweeps; memory O(nm).
    Gradients: in x, y and the weights with the potentials held (envelope theorem); first order only.
    Interval: the normal limit of the dual potentials, widened or refused by the bias that half samples show.
    An estimate solves to a marginal error of 1e-5; `value` and training to 5e-3, which the value feels squared.

    Raises:
        ValueError: order below 1, blur or reach not positive.
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
    ) -> None:
        super().__init__()
        if order < 1:
            raise ValueError(f"order must be at least 1: got {order}")
        if blur != "auto" and not (not isinstance(blur, str) and blur > 0):
            raise ValueError(f'blur must be positive or "auto": got {blur!r}')
        if reach is not None and not reach > 0:
            raise ValueError(f"reach must be positive or None: got {reach}")
        self.order = order
        self.blur = blur
        self.debiased = debiased
        self.reach = reach
        self.iterations = iterations

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """The divergence, solved as far as a training step needs."""
        value, parts = self._divergence(s, self._blur(s), TRAINING)
        worst = float(torch.stack([part.error.amax() for part in parts]).amax())
        if not worst <= GROSS:
            raise self._failure(worst)
        return value

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """The divergence with a certificate of its convergence, and its interval or why there is none."""
        blur = self._blur(s)

        divergence, parts = self._divergence(s, blur, EXACT, certify=True)
        value, gap = float(divergence), sum(float(part.gap) for part in parts)
        worst = max(float(part.error) for part in parts)
        if not (worst <= ACCEPTED and gap <= 10 * ACCEPTED * (float(parts[0].value.abs()) + float(blur) ** self.order)):
            raise self._failure(worst, gap)
        at = f"blur {float(blur):.4g}" + (f" ({BLUR} of the pooled scale)" if self.blur == "auto" else "")
        notes = (f"{at}; the interval is for the divergence at this blur", f"sum of primal–dual gaps {gap:.1g}")
        if self.reach is not None:
            return Inference(value, None, None, notes + ("no interval: its limit law is not implemented for reach",))
        if min(len(s.x), len(s.y)) < 8:
            return Inference(value, None, None, notes + ("no interval: needs at least 8 points a side",))
        f, g = parts[0].f, parts[0].g
        if self.debiased:
            f, g = f - parts[1].f, g - parts[2].f
        stderr = _potential_error(f, g, s)
        bias = intervals.half_sample_bias(
            lambda p: float(self._divergence(p, blur, ACCEPTED)[0]), s, value, 0.5, generator.initial_seed()
        )
        interval, why = intervals.declare(value, stderr, bias, confidence)
        if interval is not None and self.debiased:
            interval = (max(interval[0], 0.0), max(interval[1], 0.0))
        return Inference(value, stderr, interval, notes + why)

    def _blur(self, s: Samples) -> Tensor:
        lead = torch.broadcast_shapes(s.x.shape[:-2], s.y.shape[:-2])
        if isinstance(self.blur, str):
            pooled = torch.cat([p.detach().expand(*lead, *p.shape[-2:]) for p in _centred(s)], -2)
            spread = (pooled - pooled.mean(-2, keepdim=True)).square().sum(-1).mean(-1)
            squared = 2 * spread  # E‖Z − Z'‖² = 2 E‖Z − E Z‖²
            return BLUR * torch.where(squared > 0, squared, 1.0).sqrt()
        return torch.full(lead, float(self.blur), dtype=s.x.dtype, device=s.x.device)

    def _divergence(
        self, s: Samples, blur: Tensor, tolerance: float, certify: bool = False
    ) -> tuple[Tensor, list[_Solved]]:
        x, y = _centred(s)
        a, b = _weights(s)
        cross = self._transport(x, y, a, b, blur, tolerance, certify=certify)
        if not self.debiased:
            return cross.value, [cross]
        if x.shape == y.shape and not certify:
            z, c = torch.stack([x, y]), torch.stack([a.expand(x.shape[:-1]), b.expand(y.shape[:-1])])
            both = self._transport(z, z, c, c, blur, tolerance, symmetric=True)
            xx, yy = (_Solved(*(field[k] for field in both)) for k in range(2))
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
    ) -> _Solved:
        C = ground_cost(x, y, self.order)
        lead = C.shape[:-2]
        a, b, blur = a.expand(*lead, -1), b.expand(*lead, -1), blur.expand(lead)
        epsilon = self.order * blur**self.order
        rho = None if self.reach is None else torch.full_like(epsilon, self.order * self.reach**self.order)
        with torch.no_grad():
            f, g, value, error, _ = sinkhorn.solve(
                C, a, b, epsilon, rho, symmetric=symmetric, tolerance=tolerance, iterations=self.iterations
            )
            gap = sinkhorn.primal(C, a, b, epsilon, rho, f, g) - value if certify else torch.zeros_like(value)
            plan = sinkhorn.plan(C, a, b, epsilon, f, g)
        value = _Envelope.apply(C, a, b, value, plan, *_slopes(f, g, epsilon, rho))
        return _Solved(value, f, g, error, gap)

    def _failure(self, error: float, gap: float | None = None) -> ConvergenceError:
        certified = "" if gap is None else f" and the primal–dual gap is {gap:.2g}"
        return ConvergenceError(
            f"Sinkhorn did not converge in iterations={self.iterations}: the marginals are wrong by {error:.2g} in L1"
            f"{certified}; a larger blur or more iterations would help"
        )


class _Solved(NamedTuple):
    value: Tensor
    f: Tensor
    g: Tensor
    error: Tensor
    gap: Tensor


class _Envelope(torch.autograd.Function):
    """The optimal value of a transport problem, whose derivatives are the plan (in C) and the potentials (in a, b)."""

    @staticmethod
    def forward(ctx: Any, C: Tensor, a: Tensor, b: Tensor, value: Tensor, plan: Tensor, f: Tensor, g: Tensor) -> Tensor:
        ctx.save_for_backward(C, plan, f, g)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        C, plan, f, g = ctx.saved_tensors
        if torch.is_grad_enabled():
            plan = _Fixed.apply(plan, C)
        return grad[..., None, None] * plan, grad[..., None] * f, grad[..., None] * g, None, None, None, None


class _Fixed(torch.autograd.Function):
    """A plan that is no function of the cost as far as autograd can tell: its derivative is refused, not taken as 0."""

    @staticmethod
    def forward(ctx: Any, plan: Tensor, C: Tensor) -> Tensor:
        return plan.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:
        raise RuntimeError("transport has first derivatives only: the plan's own derivative is not implemented")


def _slopes(f: Tensor, g: Tensor, epsilon: Tensor, rho: Tensor | None) -> tuple[Tensor, Tensor]:
    """The derivatives of the dual in a and b; for exact marginals up to a constant, which weights cannot feel."""
    if rho is None:
        return f, g
    r, e = rho[..., None], epsilon[..., None]
    return -r * torch.expm1(-f / r) - e * (-f / r).exp(), -r * torch.expm1(-g / r) - e * (-g / r).exp()


def _centred(s: Samples) -> tuple[Tensor, Tensor]:
    """X and y with the origin at the middle of their means: costs of differences do not change, rounding does."""
    c = (s.x.detach().mean(-2, keepdim=True) + s.y.detach().mean(-2, keepdim=True)) / 2
    return s.x - c, s.y - c


def _weights(s: Samples) -> tuple[Tensor, Tensor]:
    """Weights of both samples in the dtype of the points, equal where none were given."""
    given = []
    for points, weights in ((s.x, s.x_weights), (s.y, s.y_weights)):
        if weights is None:
            weights = points.new_full((points.shape[-2],), 1 / points.shape[-2])
        given.append(weights)
    return given[0], given[1]


def _potential_error(f: Tensor, g: Tensor, s: Samples) -> float:
    """The standard error of the dual ⟨a, f⟩ + ⟨b, g⟩, from the spread of the potentials."""
    return math.sqrt(sum(variance_of_mean(h, w) for h, w in ((f, s.x_weights), (g, s.y_weights))))
