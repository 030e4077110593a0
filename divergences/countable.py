"""Exact values between laws on the integers: sums over countable supports, with a proven bound on what is left out.

With f̃(u) = f(u) − f'(1)(u − 1), D_f is the sum of the terms q f̃(p/q), which are ≥ 0, and of the masses of one law
alone times f'(∞) − f'(1) and f(0) + f'(1). Convexity puts each term under envelopes C·p^α q^{1−α}
(`countable_growth`), whose tails have proven bounds (`countable_tails`). Each envelope has a window of integers
outside which its bound is small (`countable_sums`); all integers of all windows are summed, and what is left out is at
most the sum of the bounds. That is below 1e−14 of the value, or 1e−17; where it would take more than ``TERMS`` terms,
below 1e−10 of the value or ConvergenceError, which says what was reached. Where no bound is known it is
NotImplementedError. Whether a value is infinite is decided from the asymptotics of the tails, never from the sum.

Masses are computed in logarithms to about 1e−15·(1 + |log p|), and so are the terms. With gradients, the integers are
chosen first, and their sum is differentiated.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from divergences._generator import FDivergence
from divergences.countable_families import lattice
from divergences.countable_growth import limits, plans, powers
from divergences.countable_laws import Lattice
from divergences.countable_sums import ACCEPTED, BLOCK, GOAL, Plan, Windows, most, settled, start, summed
from divergences.countable_tails import Envelope, Side, reach
from divergences.laws import ConvergenceError

INF = math.inf
_P_ALONE, _Q_ALONE = Envelope(1.0, 0.0), Envelope(0.0, 1.0)


def pair(p: Any, q: Any) -> tuple[Lattice, Lattice] | None:
    """Return both laws as laws on the integers; None where one is not.

    Raises:
        ValueError: their batch shapes do not broadcast.
    """
    a, b = lattice(p), lattice(q)
    if a is None or b is None:
        return None
    try:
        torch.broadcast_shapes(a.low.shape, b.low.shape)
    except RuntimeError:
        shapes = tuple(a.low.shape[:-1]), tuple(b.low.shape[:-1])
        raise ValueError(f"the batch shapes of p and q do not fit: got {shapes[0]} and {shapes[1]}") from None
    return a, b


def f_value(d: FDivergence, a: Lattice, b: Lattice) -> Tensor:
    """D_f(P‖Q), (batch,) in float64; differentiable in the parameters of torch laws.

    Raises:
        NotImplementedError: a tail, or the growth of f, is not known.
        ConvergenceError: the bound takes too many terms.
    """
    only_p, only_q = limits(d)
    at_one = 0.0 if d._vanishes else float(d.f(1.0))
    ways, (high, low) = plans(d), powers(d)
    infinite = torch.zeros_like(a.low + b.low, dtype=torch.bool)
    for factor, one, other in ((only_p, a, b), (only_q, b, a)):
        if factor == INF:
            infinite = infinite | (one.low < other.low) | (one.high > other.high)
    infinite = infinite | _diverges(a, b, ways[0].envelopes, infinite)

    def terms(k: Tensor) -> Tensor:
        log_p, log_q = a.log_mass(k), b.log_mass(k)
        in_p, in_q = log_p > -INF, log_q > -INF
        both = in_p & in_q
        safe_p, safe_q = torch.where(in_p, log_p, 0.0), torch.where(in_q, log_q, 0.0)
        log_u = torch.where(both, safe_p - safe_q, 0.0)
        near = log_u.clamp(-low.far, high.far)  # beyond, f is a power to rounding, and may overflow
        beyond = high.rate * (log_u - near).clamp(min=0) + low.rate * (near - log_u).clamp(min=0)
        value = d.log_perspective(near, torch.zeros_like(near))[1] * (torch.maximum(safe_p, safe_q) + beyond).exp()
        value = torch.where(both, value - at_one * safe_q.exp() if at_one else value, 0.0)
        value = value + _alone(in_p & ~in_q, safe_p, only_p)
        return value + _alone(in_q & ~in_p, safe_q, only_q)

    def total(parts: Windows, plan: Plan) -> Tensor:
        value = summed(terms, parts)
        for law, rest in ((a, plan.p_rest), (b, plan.q_rest)):
            if rest:
                value = value + rest * (1 - summed(_mass(law), parts)).clamp(min=0)
        return value

    value = settled(total, a, b, ways, infinite)
    if (a.is_rough or b.is_rough) and bool((value.isinf() & ~infinite.squeeze(-1)).any()):
        raise ConvergenceError(
            f"{d.name} may be infinite: masses of {a.name} or {b.name} are too small to be told from 0"
        )
    return value + at_one if at_one else value


def log_affinity(a: Lattice, b: Lattice, alpha: float) -> Tensor:
    """Log Σ p^α q^{1−α}; −inf for disjoint supports, inf where it diverges. Raises as `f_value` does."""
    envelope = Envelope(alpha, 1 - alpha, common=True)
    infinite = torch.zeros_like(a.low + b.low, dtype=torch.bool)
    for escapes, one, other in ((alpha > 1, a, b), (alpha < 0, b, a)):
        if escapes:
            infinite = infinite | (one.low < other.low) | (one.high > other.high)
    infinite = infinite | _diverges(a, b, (envelope,), infinite)

    def terms(k: Tensor) -> Tensor:
        log_p, log_q = a.log_mass(k), b.log_mass(k)
        in_p, in_q = log_p > -INF, log_q > -INF
        safe_p, safe_q = torch.where(in_p, log_p, 0.0), torch.where(in_q, log_q, 0.0)
        term = torch.where(in_p & in_q, alpha * safe_p + (1 - alpha) * safe_q, -INF)
        outside = (in_p & ~in_q & (alpha > 1)) | (in_q & ~in_p & (alpha < 0))
        return torch.where(outside, INF, term)

    def total(parts: Windows) -> Tensor:
        sums = [_log_sum(torch.where(inside, terms(k), -INF)) for k, inside in parts.blocks()]
        return _log_sum(torch.stack(sums, -1)) if sums else parts.empty(-INF)

    with torch.no_grad():
        right = Side(a, b, 1)
        first, last = right.support(envelope)
        begin = start(right, envelope, first)
        peak = reach(lambda j: _step_bound(right, alpha, 1 - alpha, j, last) < 0, begin, last)
        level = right.log_mass(envelope, torch.where(first > last, 0.0, peak)).clamp(min=-1e300)
        rough = total(Windows.of(a, b, (envelope,), level - 20, infinite, BLOCK)).unsqueeze(-1)
        rough = torch.where(infinite, 0.0, rough)
        goal = (rough + math.log(GOAL / 4)).clamp(min=-1e300)
        parts = Windows.of(a, b, (envelope,), goal, infinite, most(a, b))
        parts.check(rough + math.log(ACCEPTED))
    return torch.where(infinite.squeeze(-1), INF, total(parts))


def log_mass(a: Lattice, b: Lattice) -> Tensor:
    """Log Q(p > 0), in [−∞, 0]."""
    if a.right is not None and bool(((a.low <= b.low) & (a.high >= b.high)).all()):
        return torch.zeros_like(a.low + b.low).squeeze(-1)
    inside = log_affinity(a, b, 0.0)

    def outside(k: Tensor) -> Tensor:
        log_q = torch.where(a.log_mass(k) > -INF, -INF, b.log_mass(k))
        return torch.where(log_q > -INF, torch.where(log_q > -INF, log_q, 0.0).exp(), 0.0)

    none = torch.zeros_like(a.low + b.low, dtype=torch.bool)
    rest = settled(lambda parts, _: summed(outside, parts), a, b, [Plan((_Q_ALONE,))], none)
    return torch.where(rest < 0.5, torch.log1p(-rest.clamp(max=0.5)), inside.clamp(max=0))


def log_ess_sup(a: Lattice, b: Lattice) -> Tensor:
    """Log sup p/q over p > 0, in [0, ∞]. Raises NotImplementedError where the tails are alike but not equal."""
    infinite = (a.low < b.low) | (a.high > b.high)
    ratio = Envelope(1.0, -1.0)
    parts: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        for sign in (1, -1):
            side = Side(a, b, sign)
            last = a.high if sign > 0 else -a.low
            endless = (last == INF) & ~infinite
            if bool(endless.any()):
                tail = side.asymptotics(1.0, -1.0)
                if tail is None:
                    raise _unknown(a, b)
                c, theta, kappa = tail
                infinite = infinite | endless & (
                    (c < 0) | ((c == 0) & ((theta > 0) | ((theta == 0) & (kappa > 16 * 2.0**-52))))
                )
            first = start(side, ratio, a.low) if sign > 0 else -parts[0][1]
            step = lambda j, side=side, last=last: (_step_bound(side, 1.0, -1.0, j, last) <= 0) | (j >= last)  # noqa: E731
            end = reach(step, torch.where(infinite, 0.0, first), torch.where(infinite, 0.0, last))
            if not bool((step(end) | infinite).all()):
                raise NotImplementedError(
                    f"the ratio of {a.name} and {b.name} has a limit, which may be its supremum: it is not known"
                )
            parts.append((end, end) if sign > 0 else (-end, parts[0][1]))
        low, high = parts[-1]
        windows = Windows.between(low, high, infinite)
        if windows.terms > most(a, b):
            raise ConvergenceError(f"the supremum of p/q lies among {windows.terms} integers, more than are searched")
    best = []
    for k, inside in windows.blocks():
        log_p, log_q = a.log_mass(k), b.log_mass(k)
        inside = inside & (log_p > -INF)
        gap = torch.where(inside, log_p, 0.0) - torch.where(inside, log_q, 0.0)
        best.append(torch.where(inside, gap, -INF).amax(-1))
    value = torch.stack(best).amax(0) if best else windows.empty(0.0)
    return torch.where(infinite.squeeze(-1), INF, value)


def wasserstein(a: Lattice, b: Lattice, order: float = 1) -> Tensor:
    """W_p of two laws on the integers, p ≥ 1; inf where one has no p-th moment. Raises as `f_value` does."""
    envelopes = tuple(e._replace(moment=float(order)) for e in (_P_ALONE, _Q_ALONE))
    infinite = _without_moment(a, b, envelopes)

    def total(parts: Windows, _: Plan) -> Tensor:
        k, p, q, width = parts.points(a, b)
        if order == 1:
            return (_cdf_gap(p, q).abs() * width).sum(-1)
        value = _coupled(k, p, q, order) + _coupled(k.flip(-1), p.flip(-1), q.flip(-1), order)
        return torch.where(value > 0, torch.where(value > 0, value, 1.0) ** (1 / order), 0.0)

    return settled(total, a, b, [Plan(envelopes)], infinite, order)


def squared_energy(a: Lattice, b: Lattice) -> Tensor:
    """2Σ(F − G)², the squared energy distance on the line; inf where one law has no mean."""
    envelopes = tuple(e._replace(moment=1.0, log_c=math.log(2)) for e in (_P_ALONE, _Q_ALONE))
    infinite = _without_moment(a, b, envelopes)

    def total(parts: Windows, _: Plan) -> Tensor:
        _k, p, q, width = parts.points(a, b)
        return 2 * (_cdf_gap(p, q) ** 2 * width).sum(-1)

    return settled(total, a, b, [Plan(envelopes)], infinite)


def largest_cdf_gap(a: Lattice, b: Lattice) -> Tensor:
    """Return the largest |F − G|, in [0, 1]."""

    def total(parts: Windows, _: Plan) -> Tensor:
        _k, p, q, _width = parts.points(a, b)
        return _cdf_gap(p, q).abs().amax(-1)

    none = torch.zeros_like(a.low + b.low, dtype=torch.bool)
    both = (_P_ALONE, _Q_ALONE)
    _diverges(a, b, both, none)  # refuses laws whose tails are not known
    return settled(total, a, b, [Plan(both)], none)


def _diverges(a: Lattice, b: Lattice, envelopes: tuple[Envelope, ...], known: Tensor) -> Tensor:
    """Where a sum is infinite. Raises NotImplementedError where neither that nor the opposite is known."""
    result = torch.zeros_like(known)
    for envelope in envelopes:
        for sign in (1, -1):
            with torch.no_grad():
                converges, diverges = Side(a, b, sign).decides(envelope)
            result = result | diverges
            if not bool((converges | diverges | known | result).all()):
                raise _unknown(a, b)
    return result


def _without_moment(a: Lattice, b: Lattice, envelopes: tuple[Envelope, ...]) -> Tensor:
    """Where a moment is missing and so the distance infinite; refused where the tails might cancel."""
    none = torch.zeros_like(a.low + b.low, dtype=torch.bool)
    if Side(a, b, 1).is_one_law():
        return none
    missing = [_diverges(a, b, (e,), none) for e in envelopes]
    both = missing[0] & missing[1]
    for sign in (1, -1):
        apart = Side(a, b, sign).asymptotics(1.0, -1.0) if bool(both.any()) else None
        if apart is not None and bool((both & (apart[0] == 0) & (apart[1] == 0) & (apart[2].abs() < 1e-9)).any()):
            raise NotImplementedError(
                f"{a.name} and {b.name} have no moment and equal tails: their distance is not known"
            )
    return missing[0] | missing[1]


def _unknown(a: Lattice, b: Lattice) -> NotImplementedError:
    names = " and ".join(law.name for law in (a, b) if law.right is None and bool((law.high == INF).any())) or "p and q"
    return NotImplementedError(f"the tail of {names} is not known well enough: no bound on the sum is proven")


def _step_bound(side: Side, alpha: float, beta: float, j: Tensor, last: Tensor) -> Tensor:
    step = side.largest_step(alpha, beta, j, last)
    return torch.where(j >= last, -INF, INF if step is None else step)


def _log_sum(terms: Tensor) -> Tensor:
    """Logsumexp whose gradient is 0 where there is nothing to sum."""
    nothing = (terms == -INF).all(-1)
    return torch.where(nothing, -INF, torch.where(nothing.unsqueeze(-1), 0.0, terms).logsumexp(-1))


def _mass(law: Lattice) -> Callable[[Tensor], Tensor]:
    return lambda k: law.log_mass(k).exp()


def _alone(where: Tensor, log_mass: Tensor, factor: float) -> Tensor:
    """The limit of the terms where only one law has mass."""
    if factor == INF:
        return torch.where(where, INF, 0.0)
    return torch.where(where, factor * log_mass.exp(), 0.0)


def _cdf_gap(p: Tensor, q: Tensor) -> Tensor:
    """F − G, summed from the nearer end, where it has its digits."""
    below, above = (p - q).cumsum(-1), (q - p).flip(-1).cumsum(-1).flip(-1)
    above = torch.cat([above[..., 1:], torch.zeros_like(above[..., :1])], -1)
    return torch.where((p + q).cumsum(-1) <= 1, below, above)


def _coupled(k: Tensor, p: Tensor, q: Tensor, order: float) -> Tensor:
    """∫ |F⁻¹ − G⁻¹|^order over the half of the levels next to k[0]."""
    F, G = p.cumsum(-1), q.cumsum(-1)
    levels = torch.cat([F, G], -1).clamp(max=0.5).sort(-1).values
    mass = torch.diff(levels, prepend=torch.zeros_like(levels[..., :1]))
    middle = (levels - mass / 2).detach()
    x, y = (k.gather(-1, torch.searchsorted(C.detach(), middle).clamp(max=k.shape[-1] - 1)) for C in (F, G))
    return (mass * (x - y).abs() ** order).sum(-1)
