"""Exact optimal transport between samples: the network simplex, and sorting on the line."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor

from divergences import ConvergenceError
from estimators import intervals, scale
from estimators.base import Estimator, Inference, same_kind
from estimators.door import Samples, admit_thoroughly, check_finite, check_weights
from estimators.ops import sinkhorn
from estimators.ops.envelope import Envelope
from estimators.transport import arcs
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
from estimators.transport.line import monotone_plan, one_dimensional, root, rooted_inference
from estimators.transport.potentials import counted, degrees, limits, potentials, refusal, standard_error


class EMD(Estimator):
    """The Wasserstein distance of two samples, by an exact solver.

    W_p = (min_Γ Σ_ij Γ_ij d(x_i, y_j)^p)^(1/p) over plans Γ with the weights as marginals. ``metric`` is "euclidean",
    "cityblock" or a callable d(x, y) -> (..., n, m); ``rooted=False`` gives W_p^p, which a model should minimise.

    Bound: upper (the empirical distance exceeds W_p(P, Q) in expectation, by far in many dimensions).
    Rate: n^(−1/2) on the line. Beyond, the fluctuation is of that order and the bias of W_p^p is n^(−1/d) for order 1
    and n^(−2/d) for order 2, d > 4.
    Shapes: x (..., n, d), y (..., m, d), value (...,); a batch is solved one by one. Samples of unequal size are padded
    with points of weight 0.
    Cost: about O((n + m)³) time, memory O(nm); O(n log n) for d = 1. Euclidean problems of more than 2 million pairs go
    by the few pairs that an optimal plan may use, at n = 5000 2 to 13 times as fast and in O((n + m)·d) memory, to the
    same optimum: primal and dual cost agree to 1e-10.
    Gradients: in x, y and the weights with the plan held (envelope theorem); first order only for d > 1.
    Interval: the normal limit of the dual potentials. On the line it is widened by the bias that half samples show, and
    one-sided near 0. In more dimensions the bias is taken at the slow rate that d allows, and the interval refused
    where that is beyond the sampling error.

    Raises:
        ValueError: order below 1 or infinite; non-finite points or bad weights (checked before native code).
        ConvergenceError: the simplex stopped at ``iterations``; the message has bounds of the optimum.

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
        self.order = check_order(order)
        self.metric = check_metric(metric)
        self.rooted = rooted
        self.iterations = iterations

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """The distance, or its p-th power."""
        power = self._power(s)
        return root(power, self.order) if self.rooted else power

    def coupling(
        self, x: Any, y: Any, x_weights: Any = None, y_weights: Any = None, *, strict: bool = True
    ) -> Coupling:
        """The optimal plan of one problem, in float64, with its potentials, bounds of the cost and the map.

        With ``strict=False`` a solver that stops at ``iterations`` is no error: the result has ``converged=False``, a
        plan rounded onto the marginals, and ``bounds`` that hold all the same.

        Raises:
            ValueError: samples refused at the door.
            ConvergenceError: not converged, and ``strict``.
        """
        s = admit_thoroughly(x, y, x_weights, y_weights)
        (u, v), (a, b) = centred(s), weights_of(s)
        if self._on_the_line(s):
            plan = monotone_plan(u[:, 0], v[:, 0], a, b)
            f, g = potentials(self._power, s)
            primal = float((plan * ground_cost(u, v, self.order, self.metric)).sum())
            f = f - (a * f).sum() + primal / 2  # the derivatives are centred, the potentials add up to the cost
            g = g - (b * g).sum() + primal / 2
            found = _Solved(plan, f, g, primal, primal, True)
        else:
            found = self._optimum(u, v, a, b)
            if strict and not found.converged:
                raise self._failure(found)
        x_mean = s.x[0] - u[0]
        project = projection(
            found.plan, s.y, b, found.g, lambda z: ground_cost(z - x_mean, v, self.order, self.metric), None
        )
        plan, f, g = (same_kind(part, x, y) for part in (found.plan, found.f, found.g))
        return Coupling(plan, f, g, found.primal, (found.dual, found.primal), found.converged, project)

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """The value with an interval, or the reason why there is none."""

        def found(p: Samples, unit: float = 1.0) -> Inference:
            power = self._inferred(p, confidence, generator.initial_seed())
            return rooted_inference(power, self.order) if self.rooted else power

        if callable(self.metric):
            return found(s)
        inferred = in_units(found, s, 1 if self.rooted else self.order)
        return inferred._replace(notes=inferred.notes + scale.units(s))

    def _inferred(self, s: Samples, confidence: float, seed: int) -> Inference:
        d = s.x.shape[-1]
        if self._on_the_line(s):
            value = float(self._power(s))
            f, g = potentials(self._power, s)
        else:
            check_finite(s.x, "x")
            found = self._optimum(*centred(s), *weights_of(s))
            if not found.converged:
                raise self._failure(found)
            value, f, g = found.primal, found.f, found.g
        why = refusal(f, g, s, 0.0 if callable(self.metric) else 2 * self.order)
        if why is not None:
            return Inference(value, None, None, (why,))
        # The empirical W_p^p errs by n^(−1/d) for p = 1 and n^(−2/d) for p ≥ 2 (Fournier and Guillin 2015; Manole and
        # Niles-Weed 2024), not faster than n^(−1/2) where P = Q; for d = p = 1 a little less, to be careful.
        rate = min(0.4, 1 / d) if self.order < 2 else min(0.5, 2 / d)
        with counted(lambda p: float(self._power(p)), 8, "EMD, bias") as power:
            bias = intervals.half_sample_bias(power, s, value, rate, seed)
        stderr, known = standard_error(f, g, s), degrees(f, g, s)
        if self._on_the_line(s):
            return limits(value, stderr, bias, confidence, known)
        interval, notes = intervals.declare(value, stderr, max(bias, 0.0), confidence, known)
        return Inference(value, stderr, interval, notes)

    def _on_the_line(self, s: Samples) -> bool:
        return s.x.shape[-1] == 1 and not callable(self.metric)

    def _power(self, s: Samples) -> Tensor:
        if self._on_the_line(s):
            # Differences of the points themselves, which no shift would make more exact.
            return one_dimensional(s.x.squeeze(-1), s.y.squeeze(-1), self.order, s.x_weights, s.y_weights)
        check_finite(s.x, "x")  # before native code, which would crash or answer 0
        check_finite(s.y, "y")
        a, b = weights_of(s)
        for name, weights in (("x_weights", a), ("y_weights", b)):
            for row in weights.detach().double().reshape(-1, weights.shape[-1]):
                check_weights(row, name)
        x, y = centred(s)
        if (few := self._by_arcs(x, y, a, b)) is not None:
            costs = ground_cost(x[few.rows].unsqueeze(-2), y[few.columns].unsqueeze(-2), self.order).flatten()
            mass, f, g = (t.to(costs) for t in (few.mass, few.f, few.g))
            return Envelope.apply(costs, a, b, costs.new_tensor(few.primal), mass, f, g)
        C = ground_cost(x, y, self.order, self.metric)
        lead = C.shape[:-2]
        problems = C.detach().reshape(-1, *C.shape[-2:])
        a_rows, b_rows = a.expand(*lead, -1).reshape(-1, a.shape[-1]), b.expand(*lead, -1).reshape(-1, b.shape[-1])
        solved = [self._solve(M, u, v) for M, u, v in zip(problems, a_rows, b_rows, strict=True)]
        for found in solved:
            if not found.converged:
                raise self._failure(found)
        plan, f, g = (torch.stack(part).to(C) for part in zip(*(found[:3] for found in solved), strict=True))
        value = C.new_tensor([found.primal for found in solved])
        shape = (*lead,)
        return Envelope.apply(
            C, a, b, value.reshape(shape), plan.reshape(C.shape), f.reshape(*shape, -1), g.reshape(*shape, -1)
        )

    def _by_arcs(self, x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> arcs.Found | None:
        """The optimum of one large problem without its matrix of costs, where that pays."""
        if self.metric != "euclidean" or arcs.why_not(x, y, a, b, self.order):
            return None
        return arcs.solve(x, y, a, b, self.order)

    def _optimum(self, x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> _Solved:
        """One problem in float64, by few arcs or by all."""
        if (few := self._by_arcs(x, y, a, b)) is None:
            return self._solve(ground_cost(x, y, self.order, self.metric), a, b)
        plan = torch.zeros(len(x), len(y), dtype=torch.float64).index_put_((few.rows, few.columns), few.mass)
        return _Solved(plan, few.f, few.g, few.primal, few.dual, True)

    def _solve(self, C: Tensor, a: Tensor, b: Tensor) -> _Solved:
        """One problem in float64, by the network simplex on all pairs."""
        import ot

        M, a, b = (v.detach().cpu().double().contiguous() for v in (C, a, b))
        a, b = a / a.sum(), b / b.sum()
        check_finite(M, "the ground cost of x and y")
        unit = float(M.abs().max()) or 1.0  # the solver has absolute tolerances
        M = M / unit
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the status says it
            plan, log = ot.lp.emd(
                a.numpy(), b.numpy(), M.numpy(), numItermax=self.iterations, log=True, check_marginals=False
            )
        converged = log["result_code"] == 1
        plan = torch.as_tensor(plan)
        if not converged:  # such a plan may leave mass behind, and then it costs less than the optimum
            plan = sinkhorn.rounded(plan, a, b)
        g = torch.as_tensor(log["v"])
        f = (M - g).masked_fill(b == 0, torch.inf).amin(-1)  # feasible potentials, whatever the solver left
        g = (M - f[:, None]).masked_fill((a == 0)[:, None], torch.inf).amin(-2)
        primal, dual = unit * float((plan * M).sum()), unit * float((a * f).sum() + (b * g).sum())
        return _Solved(plan.to(C.device), unit * f.to(C.device), unit * g.to(C.device), primal, dual, converged)

    def _failure(self, found: _Solved) -> ConvergenceError:
        return ConvergenceError(
            f"EMD did not reach the optimum in iterations={self.iterations}: the cost lies in "
            f"[{found.dual:.6g}, {found.primal:.6g}]; coupling(x, y, strict=False) returns what was found"
        )


class _Solved(NamedTuple):
    plan: Tensor
    f: Tensor
    g: Tensor
    primal: float
    dual: float
    converged: bool
