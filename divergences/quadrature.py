"""Exact values in one dimension by adaptive quadrature, for any two laws with a log-density on the line.

The integrand q·f(p/q) is formed from logarithms, with the growth of f known where the ratio p/q overflows, so that a
value is finite or infinite by its tails and not by the range of floating point.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.distributions as td
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from divergences import batches, gaussian
from divergences._generator import FDivergence
from divergences.laws import ConvergenceError
from divergences.line import Line
from divergences.pieces import TOLERANCE, Array, Integrand, Pieces, nodes


def batched(value: Callable[..., Tensor], p: Any, q: Any, *arguments: Any) -> Tensor | None:
    """``value(*arguments, p, q)`` of laws that differ along a line, element by element; None for others."""
    return batches.batched(value, *_on_a_line(p, q), *arguments)


def _on_a_line(p: Any, q: Any) -> tuple[Any, Any]:
    """Gaussians with equal covariances differ along Δ alone: the same values as N(‖Δ‖_Σ⁻¹, 1) and N(0, 1)."""
    both = gaussian.pair(p, q)
    if both is None or both[0].mean.shape[-1] == 1:
        return p, q
    distance = gaussian.mahalanobis(*both)
    if distance is None:
        return p, q
    distance = distance.double()
    return td.Normal(distance, torch.ones_like(distance)), td.Normal(0 * distance, torch.ones_like(distance))


def f_value(d: FDivergence, p: Line, q: Line) -> Tensor:
    """D_f(P‖Q) by quadrature; inf where P has mass outside the support of Q and f'(∞) = ∞, and so on.

    Differentiable once in the parameters of torch laws, on the nodes of the value.
    """
    _refuse_moving_ends(p, q)
    only_p, only_q = d.slope_at_infinity - d._slope_at_one, d.f_at_zero + d._slope_at_one
    pieces = Pieces(p, q)
    for law in (p, q):
        _check_mass(law, pieces)
    sides = [(a, b) for a, b, factor in ((p, q, only_p), (q, p, only_q)) if math.isinf(factor)]
    if any(_escapes(pieces, a, b) for a, b in sides):
        return torch.tensor(math.inf, dtype=torch.float64)
    found = pieces.integrate(_terms(d, p, q, only_p, only_q))
    if found is None:
        return torch.tensor(math.inf, dtype=torch.float64)
    value = torch.tensor(min(found.settled(), d.upper_bound), dtype=torch.float64)
    if p.needs_gradient or q.needs_gradient:
        with saved_tensors_hooks(lambda saved: saved, _once):
            again = _differentiable(d, p, q, only_p, only_q, *nodes(found.panels))
        value = value + again - again.detach()
    return value


def log_affinity(alpha: float, p: Line, q: Line) -> Tensor:
    """Return log ∫ p^α q^{1−α} with relative precision, however small or large the integral is."""

    def terms(anchor: Array, offset: Array) -> tuple[Array, Array]:
        log_p, log_q = p.at(anchor, offset), q.at(anchor, offset)
        both = (log_p > -math.inf) & (log_q > -math.inf)
        size = np.where(both, alpha * log_p + (1 - alpha) * log_q, -math.inf)
        error = _error(log_p, log_q) * (1 + abs(alpha))
        return np.where((error > 1e-2) & (np.abs(size) < 1e3 * error), math.nan, size), np.ones_like(size)

    if p.needs_gradient or q.needs_gradient:
        raise NotImplementedError("far from P = Q this order has no gradient: detach the parameters")
    pieces = Pieces(p, q)
    if alpha > 1 and _escapes(pieces, p, q):
        return torch.tensor(math.inf, dtype=torch.float64)
    found = pieces.integrate(terms)
    return torch.tensor(math.inf if found is None else found.logarithm(), dtype=torch.float64)


def log_ess_sup(p: Line, q: Line) -> Tensor:
    """Return log ess sup p/q."""

    def log_ratio(anchor: Array, offset: Array) -> Array:
        log_p, log_q = p.at(anchor, offset), q.at(anchor, offset)
        ratio = np.where(log_p > -math.inf, log_p - np.where(log_p > -math.inf, log_q, 0.0), -math.inf)
        return np.where(_error(log_p, log_q) > 1e-10 * np.maximum(1, np.abs(ratio)), math.nan, ratio)

    if p.needs_gradient or q.needs_gradient:
        raise NotImplementedError(
            "the Rényi divergence of order ∞ has no gradient by quadrature: detach the parameters"
        )
    pieces = Pieces(p, q)
    if _escapes(pieces, p, q):
        return torch.tensor(math.inf, dtype=torch.float64)
    return torch.tensor(pieces.supremum(log_ratio), dtype=torch.float64)


def log_mass(p: Line, q: Line) -> Tensor:
    """Return log Q(p > 0)."""
    if not p.has_gaps and p.support[0] <= q.support[0] and p.support[1] >= q.support[1]:
        return torch.zeros((), dtype=torch.float64)

    def inside(anchor: Array, offset: Array) -> tuple[Array, Array]:
        size = np.where(p.at(anchor, offset) > -math.inf, q.at(anchor, offset), -math.inf)
        return size, np.ones_like(size)

    found = Pieces(p, q).integrate(inside)
    assert found is not None  # a density is integrable
    return torch.tensor(min(found.logarithm(), 0.0), dtype=torch.float64)


def _terms(d: FDivergence, p: Line, q: Line, only_p: float, only_q: float) -> Integrand:
    """Return log |q f(p/q)| and its sign, of the form that is ≥ 0 where f(1) = 0."""
    growth = Growth(d)

    def terms(anchor: Array, offset: Array) -> tuple[Array, Array]:
        log_p, log_q = p.at(anchor, offset), q.at(anchor, offset)
        unknown, log_p, log_q = _without_lost(log_p, log_q, (only_p, only_q), growth)
        in_p, in_q = log_p > -math.inf, log_q > -math.inf
        both = in_p & in_q
        a, b = (torch.from_numpy(np.where(both, log, 0.0)) for log in (log_p, log_q))
        scale, value = (part.numpy() for part in d.log_perspective(a, b))
        overflown = np.isinf(value)
        size = scale + np.where(overflown, growth((a - b).numpy()), np.log(np.abs(np.where(overflown, 1.0, value))))
        sign = np.where(overflown, 1.0, np.sign(value))
        error = _error(log_p, log_q)  # it matters where p/q enters exponentially, or is near 1
        doubtful = (error > 1e-2) & (np.abs(size) < 1e3 * error) & (overflown | (np.abs((a - b).numpy()) < 1e3 * error))
        size = np.where(both, np.where(doubtful, math.nan, size), -math.inf)
        for alone, log, factor in ((in_p & ~in_q, log_p, only_p), (in_q & ~in_p, log_q, only_q)):
            if math.isfinite(factor) and factor:
                size = np.where(alone, log + math.log(abs(factor)), size)
                sign = np.where(alone, math.copysign(1.0, factor), sign)
        return np.where(unknown, math.nan, size), sign

    return terms


def _without_lost(log_p: Array, log_q: Array, alone: tuple[float, float], growth: Growth) -> tuple[Array, Array, Array]:
    """Where a density underflowed (nan, below e^−700) and that matters; and both logarithms with −inf in place of nan.

    It does not matter where f gives the mass of the other law alone a finite factor, nor where the other is as small.
    """
    lost_p, lost_q = np.isnan(log_p), np.isnan(log_q)
    p, q = (np.where(lost, -math.inf, log) for lost, log in ((lost_p, log_p), (lost_q, log_q)))
    (up, down), (only_p, only_q) = growth.is_power, alone
    harmless_p = math.isfinite(only_q) | (q < -600.0) & (not down)
    harmless_q = math.isfinite(only_p) | (p < -600.0) & (not up)
    return lost_p & ~harmless_p | lost_q & ~harmless_q | (lost_p & lost_q & (up or down)), p, q


def _error(log_p: Array, log_q: Array) -> Array:
    """Return the rounding error of log p − log q; nan where either is not known."""
    size = np.abs(log_p), np.abs(log_q)
    return 1e-15 * np.maximum(*(np.where(np.isinf(part), 0.0, part) for part in size))


class Growth:
    """The logarithm of the perspective's value at log-ratios where it overflows: it is linear there."""

    def __init__(self, d: FDivergence) -> None:
        points = torch.tensor([200.0, 400.0, -200.0, -400.0], dtype=torch.float64)
        self.logs = d.log_perspective(points, torch.zeros_like(points))[1].abs().log().numpy()
        self.is_power = bool(self.logs[1] > 100), bool(self.logs[3] > 100)

    def __call__(self, log_u: Array) -> Array:
        """Return it at log-ratios beyond ±400."""
        near, far = (np.where(log_u > 0, self.logs[i], self.logs[i + 2]) for i in (0, 1))
        return far + (far - near) * (np.abs(log_u) - 400) / 200

    def of_tensor(self, log_u: Tensor) -> Tensor:
        """Return the same, differentiable."""
        near, far = (torch.where(log_u > 0, float(self.logs[i]), float(self.logs[i + 2])) for i in (0, 1))
        return far + (far - near) * (log_u.abs() - 400) / 200


def _density(law: Line, anchor: Array, offset: Array) -> tuple[Array, Array]:
    log = _present(law.at(anchor, offset))
    return log, np.ones_like(log)


def _present(log: Array) -> Array:
    """A density lost to underflow is no mass."""
    return np.where(np.isnan(log), -math.inf, log)


def _check_mass(law: Line, pieces: Pieces) -> None:
    found = pieces.integrate(partial(_density, law))
    try:
        mass = math.inf if found is None else found.settled()
    except ConvergenceError as error:  # its number is a mass, and not the value that was asked for
        raise ConvergenceError(f"the mass of {law.name} is not found: {error}") from None
    if not abs(mass - 1) <= TOLERANCE:
        raise ConvergenceError(f"the density of {law.name} integrates to {mass:.9g}: quadrature missed part of it")


def _escapes(pieces: Pieces, p: Line, q: Line) -> bool:
    """Whether P has mass where Q has none. Supports are known; a gap inside that of Q is looked for."""
    slack = [4e-16 * abs(end) if math.isfinite(end) else 0.0 for end in q.support]  # loc + scale rounds
    if p.support[0] < q.support[0] - slack[0] or p.support[1] > q.support[1] + slack[1]:
        return True
    if not q.has_gaps:
        return False

    def alone(anchor: Array, offset: Array) -> tuple[Array, Array]:
        size = np.where(q.at(anchor, offset) == -math.inf, _present(p.at(anchor, offset)), -math.inf)
        return size, np.ones_like(size)

    found = pieces.integrate(alone)
    assert found is not None  # a density is integrable
    return found.settled() > 1e-12


def _differentiable(d: FDivergence, p: Line, q: Line, only_p: float, only_q: float, x: Array, weights: Array) -> Tensor:
    """Return Σ w q f(p/q) on fixed nodes: the ends of the supports do not move, so the sum has the value's gradient."""
    log_p, log_q = p.torch_logpdf(x), q.torch_logpdf(x)
    in_p, in_q = log_p > -math.inf, log_q > -math.inf
    both, w, growth = in_p & in_q, torch.from_numpy(weights), Growth(d)
    with torch.no_grad():
        _, value = d.log_perspective(torch.where(both, log_p, 0.0), torch.where(both, log_q, 0.0))
        large = both & (value > 1e100)
    plain = both & ~large
    scale, value = d.log_perspective(torch.where(plain, log_p, 0.0), torch.where(plain, log_q, 0.0))
    total = (w * torch.where(plain, scale.exp() * value, 0.0)).sum()
    a, b = torch.where(large, log_p, 400.0), torch.where(large, log_q, 0.0)
    far = torch.where(large, torch.maximum(a, b) + growth.of_tensor(a - b), -math.inf)
    total = total + (w * far.exp()).sum()
    for alone, log, factor in ((in_p & ~in_q, log_p, only_p), (in_q & ~in_p, log_q, only_q)):
        if math.isfinite(factor):
            total = total + factor * (w * torch.where(alone, torch.where(alone, log, 0.0).exp(), 0.0)).sum()
    return total


def _once(saved: Tensor) -> Tensor:
    """Fixed nodes miss how a kink of f or of a density moves, so a second derivative would be wrong."""
    if torch.is_grad_enabled():  # as it is in a backward pass that is differentiated again
        raise NotImplementedError("quadrature has no second derivative: call without create_graph")
    return saved


def _refuse_moving_ends(*laws: Line) -> None:
    for law in laws:
        if law.has_moving_end:
            raise NotImplementedError(
                f"quadrature has no gradient in the ends of the support of {law.name}: detach the parameters, or call "
                "under torch.no_grad()"
            )
