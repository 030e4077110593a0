"""Proven bounds on tails of Σ C·p^α q^β over the integers, and where such a sum diverges.

Let σ(j) = α t_p(j) + β t_q(j) be the step of g = p^α q^β at j, outwards. Its factors (see `countable_laws`) bring it to
θ − c log(j + A) + Σ wᵢ log((j + Aᵢ)/(j + A)), A the largest of the Aᵢ, where every term of the sum is monotone in j and
tends to 0: so on all j ≥ K, S = θ − c log(K + A) + Σ max(0, its value at K) ≥ σ(j), and g(K + i) ≤ g(K) e^{iS}.

- Where S < 0, Σ_{i ≥ 1} iʳ e^{iS} bounds what is beyond K, relative to g(K): a geometric series.
- Where c = θ = 0, each term is wᵢ(Aᵢ − A)/(j + y), y in [Aᵢ, A]: σ(j) ≤ −s/(j + A), so g(j) ≤ g(K)((K + A)/(j + A))ˢ,
  and ∫ bounds the sum where s > 1 + r.
- The sum over an infinite tail converges if c > 0, or c = 0 and θ < 0, or c = θ = 0 and κ = Σ wᵢAᵢ < −1 − r, and
  diverges if not: g(j) is Γ(j)^{−c} e^{θj} j^κ up to a factor that has a limit.
- A factor 1 + |log p/q| grows by at most |t_p − t_q| a step, bounded in the same way.

θ = 0 and κ = −1 are decided to within the rounding of the parameters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from divergences.countable_laws import Bounds, Factors, Lattice, Steps

INF = math.inf
_FARTHEST = 2.0**52
_ROUNDING = 16 * 2.0**-52
_TINY = 1e-300


class Envelope(NamedTuple):
    """C·p^α q^β·(1 + |log p/q|)^logs, times the distance to the window's end to the power ``moment``.

    ``common``: on the integers that both laws have, else on those of the laws with a weight. ``exact``: what it
    envelops diverges where it does.
    """

    alpha: float
    beta: float
    log_c: float = 0.0
    logs: bool = False
    moment: float = 0.0
    common: bool = False
    exact: bool = True


class Top(NamedTuple):
    """The supremum of a step over j in [K, J): ``rest`` − c·log(j + A) at its largest."""

    rest: Tensor
    c: Any
    reference: Any


@dataclass(frozen=True)
class Side:
    """Two laws towards +∞ (``sign`` 1) or −∞ (−1), in the outward coordinate j = sign·k."""

    p: Lattice
    q: Lattice
    sign: int

    def support(self, envelope: Envelope) -> tuple[Tensor, Tensor]:
        """Return where the envelope is positive, as its first and last j; empty where the last is smaller."""
        ends = [
            (law.low, law.high) if self.sign > 0 else (-law.high, -law.low)
            for law, weight in ((self.p, envelope.alpha), (self.q, envelope.beta))
            if weight != 0 or envelope.common
        ]
        if len(ends) == 1:
            return ends[0]
        (a, b), (c, d) = ends
        return torch.maximum(a, c), torch.minimum(b, d)

    def log_mass(self, envelope: Envelope, j: Tensor) -> Tensor:
        """Return log p^α q^β at j; −inf off the support."""
        total: Tensor | float = 0.0
        for law, weight in ((self.p, envelope.alpha), (self.q, envelope.beta)):
            if weight != 0:
                log_mass = law.log_mass(self.sign * j)
                total = total + torch.where(log_mass == -INF, -INF, weight * log_mass)
        return torch.as_tensor(total).nan_to_num(nan=-INF, posinf=INF, neginf=-INF)

    def steps(self, alpha: float, beta: float, lower: bool = False) -> Steps | None:
        """Return an upper (lower) bound of α t_p + β t_q as steps; None where they are not known."""
        theta: Any = 0.0
        ups: list[tuple[Any, Any]] = []
        downs: list[tuple[Any, Any]] = []
        for law, weight in ((self.p, alpha), (self.q, beta)):
            if weight == 0:
                continue
            known = self._bounds(law)
            if known is None:
                return None
            bound = known.upper if (weight > 0) != lower else known.lower
            theta = theta + weight * bound.theta
            _merge(ups, bound.ups, weight)
            _merge(downs, bound.downs, weight)
        return Steps(theta, tuple(ups), tuple(downs))

    def since(self, envelope: Envelope) -> Tensor | None:
        """Return the j from which the steps hold; None for all of the support."""
        starts = [
            self.sign * law.since
            for law, weight in ((self.p, envelope.alpha), (self.q, envelope.beta))
            if law.since is not None and (weight != 0 or envelope.common)
        ]
        return torch.stack(torch.broadcast_tensors(*starts)).amax(0) if starts else None

    def log_bound(self, envelope: Envelope, j: Tensor) -> Tensor:
        """Return the logarithm of a bound on the envelope's sum beyond j, j in the support; inf if there is none."""
        last = self.support(envelope)[1]
        empty = j >= last
        steps = self.steps(envelope.alpha, envelope.beta)
        if steps is None:
            return torch.where(empty, -INF, INF) + 0 * j
        top = _top(steps, j, last)
        at_start = _largest(top, j, last)
        series = self._geometric(envelope, at_start, j, last)
        power = self._power(envelope, steps, top.reference, j, last)
        log_series = torch.minimum(series, power) if power is not None else series
        value = self.log_mass(envelope, j) + envelope.log_c + log_series
        value = value.nan_to_num(nan=INF, posinf=INF, neginf=-INF)
        since = self.since(envelope)
        if since is not None:
            value = torch.where(j >= since, value, INF)
        return torch.where(empty, -INF, value)

    def largest_step(self, alpha: float, beta: float, j: Tensor, last: Tensor) -> Tensor | None:
        """Return an upper bound on the steps of p^α q^β from j outwards; None where they are not known."""
        steps = self.steps(alpha, beta)
        if steps is None:
            return None
        value = _largest(_top(steps, j, last), j, last)
        since = self.since(Envelope(alpha, beta))
        return value if since is None else torch.where(j >= since, value, INF)

    def decides(self, envelope: Envelope) -> tuple[Tensor, Tensor]:
        """``(converges, diverges)`` for the envelope's sum over this side; neither where it is not known."""
        first, last = self.support(envelope)
        endless = (last == INF) & (first < last)
        finite = []
        for lower in (False, True):
            tail = self.asymptotics(envelope.alpha, envelope.beta, lower)
            apart = self.asymptotics(1.0, -1.0) if envelope.logs else None
            if tail is None or (envelope.logs and apart is None):
                finite.append(~endless | lower)  # neither proven
                continue
            c, theta, kappa = tail
            needed = 1 + envelope.moment + 0 * kappa
            if apart is not None:  # log p/q grows like k or k log k unless both tails are powers
                needed = torch.where((apart[0] != 0) | (apart[1] != 0), needed + 1, needed)
            converges = (c > 0) | ((c == 0) & ((theta < 0) | ((theta == 0) & (kappa < -needed * (1 + _ROUNDING)))))
            finite.append(converges | ~endless)
        return finite[0], ~finite[1] & envelope.exact

    def asymptotics(self, alpha: float, beta: float, lower: bool = False) -> tuple[Tensor, Tensor, Tensor] | None:
        """``(c, θ, κ)`` of p^α q^β ≈ Γ(j)^{−c} e^{θj} j^κ; θ is 0 where it is to within rounding; None if not known."""
        steps = self.steps(alpha, beta, lower)
        if steps is None:
            return None
        zero = torch.zeros_like(self.p.low + self.q.low)
        parts = ((self.p, alpha), (self.q, beta))
        size = sum(abs(weight * known.upper.theta) for law, weight in parts if (known := self._bounds(law)) is not None)
        theta = torch.where(abs(steps.theta) <= _ROUNDING * size, 0.0, steps.theta) + zero
        return -sum((w for w, _ in steps.ups), zero), theta, sum((w * A for w, A in steps.ups), zero)

    def is_one_law(self) -> bool:
        """Whether both laws are known to be the same."""
        apart = self.steps(1.0, -1.0)
        origins = [law.low if law.since is None else law.since for law in (self.p, self.q)]
        if apart is None or not all(_same(*ends) for ends in (origins, (self.p.high, self.q.high))):
            return False
        return all(_same(x, 0.0) for x in (apart.theta, *(w for w, _ in apart.ups + apart.downs)))

    def _bounds(self, law: Lattice) -> Bounds | None:
        return law.right if self.sign > 0 else law.left

    def _log_ratio(self, j: Tensor) -> Tensor:
        a, b = self.p.log_mass(self.sign * j), self.q.log_mass(self.sign * j)
        return torch.where((a > -INF) & (b > -INF), a - b, 0.0).abs()

    def _speed(self, j: Tensor, last: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
        """``(v, c, A)`` with |t_p − t_q| ≤ v + c·log(i + A) for i ≥ j."""
        tops = []
        for sign in (1.0, -1.0):
            steps = self.steps(sign, -sign)
            if steps is None:
                return None
            tops.append(_top(steps, j, last))
        v = torch.maximum(tops[0].rest, tops[1].rest).clamp(min=0)
        return v, abs(tops[0].c) + 0 * v, tops[0].reference  # both have the same factors

    def _geometric(self, envelope: Envelope, S: Tensor, j: Tensor, last: Tensor) -> Tensor:
        decays = S < 0
        x = torch.where(decays, S, -1.0)
        gap, ratio = -torch.expm1(x), x.exp()
        series = ratio / gap
        if envelope.moment:  # Σ iʳ e^{iS} is at most ∫ and the largest term, r ≥ 0
            r = envelope.moment
            series = math.gamma(r + 1) / (-x) ** (r + 1) + (r / (math.e * -x)) ** r
        if envelope.logs:
            speed = self._speed(j, last)
            if speed is None:
                return torch.full_like(S, INF)
            v, c, A = speed
            endless = last == INF
            far = torch.where(endless, j, last - 1)
            v = v + c * torch.maximum((j + A).clamp(min=_TINY).log().abs(), (far + A).clamp(min=_TINY).log().abs())
            curve = torch.where(endless, c / (2 * (j + A)), 0.0)
            series = (1 + self._log_ratio(j)) * series + v * ratio / gap**2 + curve * ratio * (1 + ratio) / gap**3
        return torch.where(decays, series.log(), INF)

    def _power(self, envelope: Envelope, steps: Steps, A: Tensor, j: Tensor, last: Tensor) -> Tensor | None:
        tail = self.asymptotics(envelope.alpha, envelope.beta)
        if tail is None or not steps.ups:
            return None
        powers = (last == INF) & (tail[0] == 0) & (tail[1] == 0)
        if not bool(powers.any()):
            return None
        s, N, r = -_pull(steps.ups, A, j), j + A, envelope.moment
        enough, series = s > 1 + r, N ** (r + 1) / (s - r - 1)
        if envelope.logs:
            apart, speed, tails = self.steps(1.0, -1.0), self._speed(j, last), self.asymptotics(1.0, -1.0)
            if apart is None or speed is None or tails is None:
                return None
            both = (tails[0] == 0) & (tails[1] == 0)
            v, c, B = speed
            opposite = tuple((-w, A_i) for w, A_i in apart.ups)
            pull = torch.maximum(_pull(apart.ups, B, j), _pull(opposite, B, j)).clamp(min=0)
            near = pull * (N / (s - 1) ** 2 + 1 / (math.e * s) + (1 + N) / (s - 1) / N)
            far = v * N**2 / (s - 2) + c * N**2 * (torch.maximum(N, j + B).log() / (s - 2) + 1 / (s - 2) ** 2)
            series = (1 + self._log_ratio(j)) * N / (s - 1) + torch.where(both, near, far)
            enough = torch.where(both, enough, s > 2)
        return torch.where(powers & enough & (N >= 3), series.clamp(min=_TINY).log(), INF)


def reach(ok: Any, first: Tensor, last: Tensor) -> Tensor:
    """Return a j in [first, last] where ok(j), the first one to within 64 or 1e−7; the farthest where there is none.

    ``ok`` takes and gives (..., n). The search is on a grid of powers, then on finer and finer grids.
    """
    device = first.device
    powers = torch.cat([torch.zeros(1), torch.logspace(0, 52, 63, base=2, dtype=torch.float64)]).double().to(device)
    grid = torch.minimum(first + powers.floor(), last)
    low, high, found = _narrowed(ok(grid), grid, first - 1)
    part = torch.arange(1, 65, dtype=torch.float64, device=device) / 64
    for _ in range(4):
        if bool((high - low <= 64).all()):
            break
        grid = low + ((high - low) * part).ceil()
        low, high, _ = _narrowed(ok(grid), grid, low)
    return torch.where(found, high, torch.minimum(first + _FARTHEST, last))


def _narrowed(ok: Tensor, grid: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    index = ok.to(torch.int8).argmax(-1, keepdim=True)
    grid = grid.expand_as(ok)
    high = grid.gather(-1, index)
    low = torch.where(index > 0, grid.gather(-1, (index - 1).clamp(min=0)), before)
    return low, high, ok.any(-1, keepdim=True)


def _merge(into: list[tuple[Any, Any]], factors: Factors, weight: float) -> None:
    for w, A in factors:
        for i, (v, B) in enumerate(into):
            if A is B or _same(A, B):
                into[i] = (v + weight * w, B)
                break
        else:
            into.append((weight * w, A))


def _same(A: Any, B: Any) -> bool:
    return bool((torch.as_tensor(A) == torch.as_tensor(B)).all())


def _top(steps: Steps, j: Tensor, last: Tensor) -> Top:
    reference: Any = torch.ones_like(j) * (steps.ups[0][1] if steps.ups else 1.0)
    for _, A in steps.ups[1:]:
        reference = torch.maximum(reference, torch.as_tensor(A, dtype=torch.float64, device=j.device))
    rest: Any = steps.theta + 0 * j
    for w, A in steps.ups:
        rest = rest + (w * ((j + A).clamp(min=_TINY) / (j + reference).clamp(min=_TINY)).log()).clamp(min=0)
    if steps.downs:
        nearest: Any = torch.ones_like(j) * steps.downs[0][1]
        for _, E in steps.downs[1:]:
            nearest = torch.minimum(nearest, torch.as_tensor(E, dtype=torch.float64, device=j.device))
        here, there = (nearest - j).clamp(min=_TINY), (nearest - last + 1).clamp(min=_TINY)
        total: Any = sum(v for v, _ in steps.downs)
        rest = rest + torch.maximum(total * here.log(), total * there.log())
        for v, E in steps.downs:
            more = torch.log1p((E - nearest) / here), torch.log1p((E - nearest) / there)
            rest = rest + torch.maximum(v * more[0], v * more[1])
    return Top(rest, -sum(w for w, _ in steps.ups), reference)


def _largest(top: Top, j: Tensor, last: Tensor) -> Tensor:
    """θ − c·log(j + A) + rest at its largest."""
    c = top.c + 0 * j
    here, there = ((x + top.reference).clamp(min=_TINY).log() for x in (j, last - 1))
    return top.rest - torch.where(c > 0, c * here, torch.where(c == 0, 0.0, c * there))


def _pull(ups: Factors, reference: Any, j: Tensor) -> Tensor:
    """Return the least upper κ with Σ wᵢ log((i + Aᵢ)/(i + A)) ≤ κ/(i + A) for all i ≥ j."""
    total: Any = torch.zeros_like(j)
    for w, A in ups:
        slope = w * (A - reference)
        total = total + torch.maximum(slope, slope * (j + reference) / (j + A).clamp(min=_TINY))
    return total
