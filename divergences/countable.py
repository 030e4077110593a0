"""Exact values between laws on the integers: sums over countable supports, with a proven bound on what is left out.

With f̃(u) = f(u) − f'(1)(u − 1), D_f is the sum of the terms q f̃(p/q), which are ≥ 0, and of the masses of one law
alone times f'(∞) − f'(1) and f(0) + f'(1). By convexity a term is at most the sum of two envelopes,

    p·(f'(∞) − f'(1)) + q·(f(0) + f'(1)),

and where a limit is infinite its envelope is C·p^a q^{1−a}, times 1 + |log p/q| where a is 0 or 1: a is the growth of f
(1 for KL, 2 for Pearson's χ², α) and C its largest quotient on a grid of log-ratios, on which convexity bounds it in
between. Each envelope has a window of integers outside which its sum has a proven bound (`countable_tails`). Summed
are all integers of all windows; what is left out is at most the sum of the bounds. It is below 1e−14 of the value, or
below 1e−17; where that takes more than ``TERMS`` terms ConvergenceError says what was reached, and where a bound is not
known, NotImplementedError. An infinite value is decided from the tails' asymptotics, not from the sum.

Masses are computed in logarithms to about 1e−15·(1 + |log p|), and so are the terms. With gradients, the number of
terms is fixed first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from divergences._generator import FDivergence
from divergences.countable_laws import Lattice, lattice
from divergences.countable_tails import Envelope, Side, reach
from divergences.laws import ConvergenceError

TERMS = 20_000_000
GOAL, ACCEPTED, ABSOLUTE = 1e-14, 1e-10, 1e-17  # relative, relative after TERMS terms, absolute
INF = math.inf
_GRADIENT_TERMS = 2_000_000  # their graph is kept
_BLOCK = 1 << 18
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
    growths = tuple(None if math.isfinite(end) else growth(e) for end, e in _ends(d))
    only_p, only_q = d.slope_at_infinity - d._slope_at_one, d.f_at_zero + d._slope_at_one
    at_one = 0.0 if d._vanishes else float(d.f(1.0))
    envelopes = [
        *_envelope(growths[0], only_p, (1.0, 0.0)),
        *_envelope(growths[1], only_q - at_one, (0.0, 1.0)),
    ]
    infinite = torch.zeros_like(a.low + b.low, dtype=torch.bool)
    for factor, one, other in ((only_p, a, b), (only_q, b, a)):
        if factor == INF:
            infinite = infinite | (one.low < other.low) | (one.high > other.high)
    infinite = infinite | _diverges(a, b, envelopes, infinite)
    clamps = [(g.far, g.exponent - 1) if g else (INF, 0.0) for g in growths]

    def terms(k: Tensor) -> Tensor:
        log_p, log_q = a.log_mass(k), b.log_mass(k)
        in_p, in_q = log_p > -INF, log_q > -INF
        both = in_p & in_q
        safe_p, safe_q = torch.where(in_p, log_p, 0.0), torch.where(in_q, log_q, 0.0)
        log_u = torch.where(both, safe_p - safe_q, 0.0)
        near = log_u.clamp(-clamps[1][0], clamps[0][0])  # beyond, f is its power to rounding, and overflows
        beyond = clamps[0][1] * (log_u - near).clamp(min=0) + clamps[1][1] * (near - log_u).clamp(min=0)
        value = d.log_perspective(near, torch.zeros_like(near))[1] * (torch.maximum(safe_p, safe_q) + beyond).exp()
        value = torch.where(both, value - at_one * safe_q.exp() if at_one else value, 0.0)
        value = value + _alone(in_p & ~in_q, safe_p, only_p)
        return value + _alone(in_q & ~in_p, safe_q, only_q - at_one)

    value = _settled(lambda parts: _summed(terms, parts), a, b, envelopes, infinite)
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
    infinite = infinite | _diverges(a, b, [envelope], infinite)

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
        start = _start(right, envelope, first)
        peak = reach(lambda j: _step_bound(right, alpha, 1 - alpha, j, last) < 0, start, last)
        level = right.log_mass(envelope, torch.where(first > last, 0.0, peak)).clamp(min=-1e300)
        rough = total(Windows.of(a, b, [envelope], level - 20, infinite, _BLOCK)).unsqueeze(-1)
        rough = torch.where(infinite, 0.0, rough)
        goal = (rough + math.log(GOAL / 4)).clamp(min=-1e300)
        parts = Windows.of(a, b, [envelope], goal, infinite, _most(a, b))
        parts.check(rough + math.log(ACCEPTED))
    return torch.where(infinite.squeeze(-1), INF, total(parts))


def log_mass(a: Lattice, b: Lattice) -> Tensor:
    """Log Q(p > 0), in [−∞, 0]."""
    inside = log_affinity(a, b, 0.0)

    def outside(k: Tensor) -> Tensor:
        log_q = torch.where(a.log_mass(k) > -INF, -INF, b.log_mass(k))
        return torch.where(log_q > -INF, torch.where(log_q > -INF, log_q, 0.0).exp(), 0.0)

    none = torch.zeros_like(a.low + b.low, dtype=torch.bool)
    rest = _settled(lambda parts: _summed(outside, parts), a, b, [_Q_ALONE], none)
    return torch.where(rest < 0.5, torch.log1p(-rest.clamp(max=0.5)), inside.clamp(max=0))


def log_ess_sup(a: Lattice, b: Lattice) -> Tensor:
    """Log sup p/q over p > 0, in [0, ∞]. Raises NotImplementedError where the tails are alike but not equal."""
    infinite = (a.low < b.low) | (a.high > b.high)
    ratio = Envelope(1.0, -1.0)
    parts: list[tuple[Tensor, Tensor]] = []
    with torch.no_grad():
        start = a.low
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
            first = _start(side, ratio, start) if sign > 0 else -parts[0][1]
            step = lambda j, side=side, last=last: (_step_bound(side, 1.0, -1.0, j, last) <= 0) | (j >= last)  # noqa: E731
            end = reach(step, torch.where(infinite, 0.0, first), torch.where(infinite, 0.0, last))
            if not bool((step(end) | infinite).all()):
                raise NotImplementedError(
                    f"the ratio of {a.name} and {b.name} has a limit, which may be its supremum: it is not known"
                )
            parts.append((end, end) if sign > 0 else (-end, parts[0][1]))
        low, high = parts[-1]
        windows = Windows.between(low, high, infinite)
        if windows.terms > _most(a, b):
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
    envelopes = [_P_ALONE._replace(moment=float(order)), _Q_ALONE._replace(moment=float(order))]
    infinite = _without_moment(a, b, envelopes)

    def total(parts: Windows) -> Tensor:
        k, p, q, width = parts.points(a, b)
        if order == 1:
            return (_cdf_gap(p, q).abs() * width).sum(-1)
        value = _coupled(k, p, q, order) + _coupled(k.flip(-1), p.flip(-1), q.flip(-1), order)
        return torch.where(value > 0, torch.where(value > 0, value, 1.0) ** (1 / order), 0.0)

    return _settled(total, a, b, envelopes, infinite, order)


def squared_energy(a: Lattice, b: Lattice) -> Tensor:
    """2Σ(F − G)², the squared energy distance on the line; inf where one law has no mean."""
    envelopes = [_P_ALONE._replace(moment=1.0, log_c=math.log(2)), _Q_ALONE._replace(moment=1.0, log_c=math.log(2))]
    infinite = _without_moment(a, b, envelopes)

    def total(parts: Windows) -> Tensor:
        _, p, q, width = parts.points(a, b)
        return 2 * (_cdf_gap(p, q) ** 2 * width).sum(-1)

    return _settled(total, a, b, envelopes, infinite)


def largest_cdf_gap(a: Lattice, b: Lattice) -> Tensor:
    """Return the largest |F − G|, in [0, 1]."""

    def total(parts: Windows) -> Tensor:
        _, p, q, _ = parts.points(a, b)
        return _cdf_gap(p, q).abs().amax(-1)

    none = torch.zeros_like(a.low + b.low, dtype=torch.bool)
    _diverges(a, b, [_P_ALONE, _Q_ALONE], none)  # refuses laws whose tails are not known
    return _settled(total, a, b, [_P_ALONE, _Q_ALONE], none)


class Growth(NamedTuple):
    """f(u) ≤ C u^exponent (1 + log u)^logs for u ≥ 1; ``far`` is the log u beyond which f is that power to rounding."""

    exponent: float
    logs: bool
    log_c: float
    far: float
    exact: bool


@lru_cache(maxsize=256)
def growth(d: FDivergence) -> Growth:
    """Return how f grows where f'(∞) = ∞; for a row of the table the exponent is known, else it is read off f.

    Raises:
        NotImplementedError: f grows faster than any power.
    """
    known = _exponent(d)
    far = 600.0
    while True:
        x = torch.linspace(0, far, 6001, dtype=torch.float64)
        logs = d.log_perspective(x, torch.zeros_like(x))[1].log()  # of f̃(u)/u
        if bool((logs[1:] < 700).all()) or far < 4:
            break
        far /= 2
    slopes = (logs[3001:] - logs[3000:-1]) / (x[1] - x[0])
    if far < 4 or not bool(slopes[-1] <= slopes[0] * 1.01 + 1e-3):
        raise NotImplementedError(f"{d!r} grows faster than a power of the ratio: its tail has no bound here")
    exponent, has_logs = known or (1 + max(float(slopes.max()), 0.0), True)
    quotient = (logs[1:] + x[1:]) - exponent * x[:-1]  # f̃ at the end of a cell bounds it there
    if has_logs:
        quotient = quotient - torch.log1p(x[:-1])
    return Growth(exponent, has_logs, float(quotient.max()), INF if exponent == 1 else far, known is not None)


def _exponent(d: FDivergence) -> tuple[float, bool] | None:
    if d.name in ("kl", "jeffreys", "skew_kl"):
        return 1.0, True
    if d.name == "pearson_chi2":
        return 2.0, False
    if d.name == "alpha":
        order = float(d.arguments["alpha"])
        return order, order == 1
    return None


def _ends(d: FDivergence) -> tuple[tuple[float, FDivergence], tuple[float, FDivergence]]:
    return (d.slope_at_infinity, d), (d.f_at_zero, d.reversed())


def _envelope(g: Growth | None, factor: float, alone: tuple[float, float]) -> list[Envelope]:
    if g is None:
        return [Envelope(*alone, log_c=math.log(factor))] if factor > 0 else []
    a = g.exponent
    alpha, beta = (a, 1 - a) if alone[0] else (1 - a, a)
    return [Envelope(alpha, beta, g.log_c, g.logs, common=True, exact=g.exact)]


def _diverges(a: Lattice, b: Lattice, envelopes: list[Envelope], known: Tensor) -> Tensor:
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


def _without_moment(a: Lattice, b: Lattice, envelopes: list[Envelope]) -> Tensor:
    """Where a moment is missing and so the distance infinite; refused where the tails might cancel."""
    none = torch.zeros_like(a.low + b.low, dtype=torch.bool)
    missing = [_diverges(a, b, [e], none) for e in envelopes]
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


def _start(side: Side, envelope: Envelope, first: Tensor) -> Tensor:
    """Return where a search outwards starts: the first integer, or where the steps hold if there is none."""
    since = side.since(envelope)
    return torch.where(first == -INF, 0.0 if since is None else since, first)


def _step_bound(side: Side, alpha: float, beta: float, j: Tensor, last: Tensor) -> Tensor:
    step = side.largest_step(alpha, beta, j, last)
    return torch.where(j >= last, -INF, INF if step is None else step)


class Windows(NamedTuple):
    """Disjoint intervals [starts, ends] of integers, (batch, n) in order, and the log of a bound on all outside."""

    starts: Tensor
    ends: Tensor
    log_bound: Tensor

    @staticmethod
    def of(a: Lattice, b: Lattice, envelopes: list[Envelope], log_goal: Any, skip: Tensor, most: int) -> Windows:
        """Return windows outside which the envelopes' sums are below ``log_goal``, or that have ``most`` integers."""
        right, left = Side(a, b, 1), Side(a, b, -1)
        goal = log_goal - math.log(2 * max(len(envelopes), 1)) + torch.zeros_like(a.low + b.low)
        most = max(most // goal.numel(), 1)
        lows, highs, bounds = [], [], []
        for e in envelopes:
            first, last = (end + 0 * goal for end in right.support(e))
            empty = (first > last) | skip
            first, last = torch.where(empty, 0.0, first), torch.where(empty, 0.0, last)
            high = reach(lambda j, e=e: right.log_bound(e, j) <= goal, _start(right, e, first), last)
            low = -reach(lambda i, e=e: left.log_bound(e, i) <= goal, -high, -first)
            high = torch.minimum(high, low + (most - 1))
            bound = torch.logaddexp(right.log_bound(e, high), left.log_bound(e, -low))
            lows.append(torch.where(empty, INF, low))
            highs.append(torch.where(empty, -INF, high))
            bounds.append(torch.where(empty, -INF, bound))
        if not lows:
            return Windows(goal[..., :0], goal[..., :0], torch.full_like(goal, -INF))
        starts, order = torch.cat(lows, -1).sort(-1)
        ends = torch.cat(highs, -1).gather(-1, order).cummax(-1).values
        before = torch.cat([torch.full_like(ends[..., :1], -INF), ends[..., :-1]], -1)
        return Windows(torch.maximum(starts, before + 1), ends, torch.cat(bounds, -1).logsumexp(-1, keepdim=True))

    @staticmethod
    def between(low: Tensor, high: Tensor, skip: Tensor) -> Windows:
        """Return one window each, none where ``skip``."""
        low, high = torch.broadcast_tensors(torch.where(skip, INF, low), torch.where(skip, -INF, high))
        return Windows(low, high, torch.full_like(low, -INF))

    @property
    def lengths(self) -> Tensor:
        """How many integers each has."""
        return (self.ends - self.starts + 1).clamp(min=0)

    @property
    def terms(self) -> int:
        """How many terms a sum over them has, the padding of the batch included."""
        n = self.lengths
        return int(n.reshape(-1, n.shape[-1]).amax(0).sum()) * (n.numel() // n.shape[-1]) if n.numel() else 0

    def empty(self, value: float) -> Tensor:
        """Return ``value`` for each element of the batch."""
        return torch.full_like(self.log_bound[..., 0], value)

    def check(self, log_allowed: Tensor) -> None:
        """Raise ConvergenceError where the bound is larger than allowed."""
        if bool((self.log_bound > log_allowed).any()):
            worst = (self.log_bound - log_allowed).nan_to_num(nan=-INF).argmax()
            bound, allowed = (
                float(x.expand_as(self.log_bound).flatten()[worst]) for x in (self.log_bound, log_allowed)
            )
            raise ConvergenceError(
                f"{self.terms} terms prove the rest of the sum to be at most exp({bound:.4g}), above exp({allowed:.4g})"
            )

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the integers (batch, n) in blocks, and which belong to their window."""
        lengths = self.lengths
        starts, ends = torch.where(lengths > 0, self.starts, 0.0), torch.where(lengths > 0, self.ends, -1.0)
        size = max(_BLOCK // max(lengths[..., :1].numel(), 1), 1)
        for i in range(lengths.shape[-1]):
            n = int(lengths[..., i].max())
            for offset in range(0, n, size):
                steps = torch.arange(offset, min(n, offset + size), dtype=torch.float64, device=lengths.device)
                k = starts[..., i : i + 1] + steps
                yield k, k <= ends[..., i : i + 1]

    def points(self, a: Lattice, b: Lattice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``(k, p, q, width)``: all integers in order, both masses, and the distance to the next one."""
        blocks = list(self.blocks())
        inside = torch.cat([inside for _, inside in blocks], -1)
        k = torch.where(inside, torch.cat([k for k, _ in blocks], -1), -INF).cummax(-1).values
        k = torch.where(k == -INF, k.amax(-1, keepdim=True), k)
        p, q = (torch.where(inside, law.log_mass(k), -INF).exp() for law in (a, b))
        ahead = torch.where(inside, k, INF).flip(-1).cummin(-1).values.flip(-1)
        following = torch.cat([ahead[..., 1:], torch.full_like(ahead[..., :1], INF)], -1)
        width = torch.where(inside & following.isfinite(), following - k, 0.0)
        return k, p, q, width


def _settled(
    total: Callable[[Windows], Tensor],
    a: Lattice,
    b: Lattice,
    envelopes: list[Envelope],
    infinite: Tensor,
    order: float = 1,
) -> Tensor:
    """``total`` over windows with a tail below the tolerance; inf where told. Tails enter to the power 1/order."""
    with torch.no_grad():
        rough = total(Windows.of(a, b, envelopes, math.log(1e-8), infinite, _BLOCK)).unsqueeze(-1)
        rough = rough.nan_to_num(posinf=1e300).clamp(max=1e300)
        allowed = order * (rough * ACCEPTED).clamp(min=ABSOLUTE).log()
        goal = order * torch.where(rough > 0, rough * GOAL / 4, ABSOLUTE / 4).log()
        parts = Windows.of(a, b, envelopes, goal, infinite, _most(a, b))
        parts.check(allowed)
    return torch.where(infinite.squeeze(-1), INF, total(parts))


def _most(a: Lattice, b: Lattice) -> int:
    return _GRADIENT_TERMS if a.has_gradient or b.has_gradient else TERMS


def _summed(terms: Callable[[Tensor], Tensor], parts: Windows) -> Tensor:
    sums = [torch.where(inside, terms(k), 0.0).sum(-1) for k, inside in parts.blocks()]
    return torch.stack(sums).sum(0) if sums else parts.empty(0.0)


def _log_sum(terms: Tensor) -> Tensor:
    """Logsumexp whose gradient is 0 where there is nothing to sum."""
    nothing = (terms == -INF).all(-1)
    return torch.where(nothing, -INF, torch.where(nothing.unsqueeze(-1), 0.0, terms).logsumexp(-1))


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
