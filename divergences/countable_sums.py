"""Windows of integers outside which sums have a proven bound, and sums over them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from divergences.countable_laws import Lattice
from divergences.countable_tails import Envelope, Side, reach
from divergences.laws import ConvergenceError

TERMS = 20_000_000
GOAL, ACCEPTED, ABSOLUTE = 1e-14, 1e-10, 1e-17  # relative, relative after TERMS terms, absolute
INF = math.inf
BLOCK = 1 << 18
_ROUNDING = 1e-15  # of a sum of masses
_GRADIENT_TERMS = 2_000_000  # their graph is kept


class Plan(NamedTuple):
    """Envelopes of what is outside the windows, less ``p_rest``·P and ``q_rest``·Q, whose sums are known."""

    envelopes: tuple[Envelope, ...]
    p_rest: float = 0.0
    q_rest: float = 0.0


class Windows(NamedTuple):
    """Disjoint intervals [starts, ends] of integers, (batch, n) in order, and the log of a bound on all outside."""

    starts: Tensor
    ends: Tensor
    log_bound: Tensor

    @staticmethod
    def of(a: Lattice, b: Lattice, envelopes: tuple[Envelope, ...], log_goal: Any, skip: Tensor, most: int) -> Windows:
        """Return windows outside which the envelopes' sums are below ``log_goal``, or that have ``most`` integers."""
        right, left = Side(a, b, 1), Side(a, b, -1)
        goal = log_goal - math.log(2 * max(len(envelopes), 1)) + torch.zeros_like(a.low + b.low)
        most = max(most // goal.numel(), 1)
        lows, highs, bounds = [], [], []
        for e in envelopes:
            first, last = (end + 0 * goal for end in right.support(e))
            empty = (first > last) | skip
            first, last = torch.where(empty, 0.0, first), torch.where(empty, 0.0, last)
            high = reach(lambda j, e=e: right.log_bound(e, j) <= goal, start(right, e, first), last)
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

    def check(self, log_allowed: Tensor, rounding: float = 0.0) -> None:
        """Raise ConvergenceError where the bound and the rounding are larger than allowed."""
        log_bound = torch.logaddexp(self.log_bound, torch.tensor(rounding, dtype=torch.float64).log())
        if bool((log_bound > log_allowed).any()):
            worst = (log_bound - log_allowed).nan_to_num(nan=-INF).argmax()
            bound, allowed = (float(x.expand_as(log_bound).flatten()[worst]) for x in (log_bound, log_allowed))
            raise ConvergenceError(
                f"{self.terms} terms prove the rest of the sum to be at most exp({bound:.4g}), above exp({allowed:.4g})"
            )

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the integers (batch, n) in blocks, and which belong to their window."""
        lengths = self.lengths
        starts, ends = torch.where(lengths > 0, self.starts, 0.0), torch.where(lengths > 0, self.ends, -1.0)
        size = max(BLOCK // max(lengths[..., :1].numel(), 1), 1)
        for i in range(lengths.shape[-1]):
            n = int(lengths[..., i].max())
            for offset in range(0, n, size):
                steps = torch.arange(offset, min(n, offset + size), dtype=torch.float64, device=lengths.device)
                k = starts[..., i : i + 1] + steps
                yield k, k <= ends[..., i : i + 1]

    def points(self, a: Lattice, b: Lattice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``(k, p, q, width)``: all integers in order, both masses, and the distance to the next one."""
        blocks = list(self.blocks()) or [(self.empty(0.0).unsqueeze(-1), self.empty(0.0).unsqueeze(-1) > 0)]
        inside = torch.cat([inside for _, inside in blocks], -1)
        k = torch.where(inside, torch.cat([k for k, _ in blocks], -1), -INF).cummax(-1).values
        k = torch.where(k == -INF, k.amax(-1, keepdim=True), k)
        p, q = (torch.where(inside, law.log_mass(k), -INF).exp() for law in (a, b))
        ahead = torch.where(inside, k, INF).flip(-1).cummin(-1).values.flip(-1)
        following = torch.cat([ahead[..., 1:], torch.full_like(ahead[..., :1], INF)], -1)
        width = torch.where(inside & following.isfinite(), following - k, 0.0)
        return k, p, q, width


def settled(
    total: Callable[[Windows, Plan], Tensor],
    a: Lattice,
    b: Lattice,
    plans: list[Plan],
    infinite: Tensor,
    order: float = 1,
) -> Tensor:
    """Return ``total`` over windows outside which the rest is small enough, by the first plan that gets there.

    inf where ``infinite``. The rest enters the total to the power 1/order.

    Raises:
        ConvergenceError: no plan gets there.
    """
    with torch.no_grad():
        for log_goal in (math.log(1e-8), math.log(1e-60)):
            parts = Windows.of(a, b, plans[0].envelopes, log_goal, infinite, BLOCK)
            rough = total(parts, plans[0]._replace(p_rest=0.0, q_rest=0.0)).unsqueeze(-1)
            if bool((rough > 0).all()):
                break
        rough = rough.nan_to_num(posinf=1e300).clamp(max=1e300)
        allowed = order * (rough * ACCEPTED).clamp(min=ABSOLUTE).log()
        goal = order * torch.where(rough > 0, rough * GOAL / 4, ABSOLUTE / 4).log()
        best, least = (parts, plans[0]), 0.0 if Side(a, b, 1).is_one_law() else INF
        for plan in plans if least else ():
            parts = Windows.of(a, b, plan.envelopes, goal, infinite, most(a, b))
            missed = float((parts.log_bound - goal).clamp(min=0).max())
            if missed < least:
                best, least = (parts, plan), missed
            if missed == 0:
                break
        if 0 < least or best[1] is not plans[0]:
            best[0].check(allowed, rounding=_ROUNDING * (best[1].p_rest + best[1].q_rest))
    return torch.where(infinite.squeeze(-1), INF, total(*best))


def most(a: Lattice, b: Lattice) -> int:
    """Return how many terms a sum may have."""
    return _GRADIENT_TERMS if a.has_gradient or b.has_gradient else TERMS


def summed(terms: Callable[[Tensor], Tensor], parts: Windows) -> Tensor:
    """Σ terms(k) over the windows, (batch,)."""
    sums = [torch.where(inside, terms(k), 0.0).sum(-1) for k, inside in parts.blocks()]
    return torch.stack(sums).sum(0) if sums else parts.empty(0.0)


def start(side: Side, envelope: Envelope, first: Tensor) -> Tensor:
    """Return where a search outwards starts: the first integer, or where the steps hold if there is none."""
    since = side.since(envelope)
    return torch.where(first == -INF, 0.0 if since is None else since, first)
