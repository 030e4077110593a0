"""Exact values on finite supports: probability vectors, points with weights, and enumerable torch laws."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor
from torch.nn.functional import logsigmoid, pad

from divergences._arrays import mapped
from divergences._generator import FDivergence
from divergences.blocks import by_blocks
from divergences.countable_families import lattice
from divergences.countable_growth import powers
from divergences.laws import Empirical, Probabilities
from divergences.line import is_continuous


def value(d: FDivergence, p: Tensor, q: Tensor) -> Tensor:
    """D_f of probabilities on the last axis; leading axes broadcast. Differentiable in p and q on the simplex."""
    if p.shape[-1] != q.shape[-1]:
        raise ValueError(f"p and q must have the same number of outcomes: got {tuple(p.shape)} and {tuple(q.shape)}")
    try:
        shape = torch.broadcast_shapes(p.shape, q.shape)
    except RuntimeError:
        raise ValueError(f"the leading axes of p and q do not fit: got {tuple(p.shape)} and {tuple(q.shape)}") from None
    dtype = torch.promote_types(p.dtype, q.dtype)
    return d.differentiable(partial(_sums, d), p.to(dtype).expand(shape), q.to(dtype).expand(shape))


def _sums(d: FDivergence, p: Tensor, q: Tensor) -> Tensor:
    parts = by_blocks(partial(_of_block, d), p, q)
    return torch.cat(parts).reshape(p.shape[:-1]) if len(parts) > 1 else parts[0]


def _of_block(d: FDivergence, p: Tensor, q: Tensor) -> Tensor:
    """D_f by the quick formula where it is exact: where D is finite and not so small that its rounding shows."""
    if d._quick is None or not p.numel():
        return d.perspective(p, q).sum(-1)
    found = d._quick(p, q)
    size = found.abs()
    doubtful = ~((size > torch.finfo(p.dtype).eps ** 0.25) & (size < torch.inf))
    if bool(doubtful.any()):
        found = found.masked_scatter(doubtful, d.perspective(p[doubtful], q[doubtful]).sum(-1))
    return found


def aligned(p: Any, q: Any) -> tuple[Tensor, Tensor] | None:
    """Both laws as probabilities of the same outcomes; None unless both have a finite support."""
    if isinstance(p, Probabilities) and isinstance(q, Probabilities):
        return p.values, q.values
    a, b = as_empirical(p), as_empirical(q)
    if a is not None and b is not None:
        return matched(a, b)
    if isinstance(p, td.Distribution) and isinstance(q, td.Distribution):
        return _enumerated(p, q)
    return None


def as_empirical(law: Any) -> Empirical | None:
    """Return a finite torch law of one batch element as points with weights; None for any other."""
    if isinstance(law, Empirical):
        return law
    if isinstance(law, td.Distribution) and law.has_enumerate_support and not law.batch_shape and not law.event_shape:
        return Empirical(law.enumerate_support().double(), _masses(law))
    return None


def matched(p: Empirical, q: Empirical) -> tuple[Tensor, Tensor]:
    """Return the weights of both laws on the union of their points; equal points are one outcome, their weights add."""
    if p.points.shape[1] != q.points.shape[1]:
        raise ValueError(
            f"p and q must have points of one dimension: got {tuple(p.points.shape)} and {tuple(q.points.shape)}"
        )
    both = torch.cat([p.points.detach().double(), q.points.detach().double()])
    _, outcome = (both + 0.0).unique(dim=0, return_inverse=True)  # + 0 makes −0 and 0 one point
    k, n = int(outcome.max()) + 1, len(p.points)
    dtype = torch.promote_types(p.weights.dtype, q.weights.dtype)
    a = torch.zeros(k, dtype=dtype, device=both.device).index_add(0, outcome[:n], p.weights.to(dtype))
    b = torch.zeros(k, dtype=dtype, device=both.device).index_add(0, outcome[n:], q.weights.to(dtype))
    return a, b


def has_density(law: Any) -> bool:
    """Whether a law is continuous."""
    if isinstance(law, td.Distribution):
        return is_continuous(law)
    return hasattr(law, "logpdf")


def from_logits(d: FDivergence, p: Any, q: Any) -> Tensor | None:
    """D_f of two laws on 0, 1, …, from the logarithms of their masses; None where every mass is above underflow.

    Differentiable in the parameters. Raises NotImplementedError where f grows faster than any power.
    """
    if not (_is_enumerable(p) and _is_enumerable(q)):
        return None
    if not any(bool((_masses(law) < _LEAST).any()) for law in (p, q)):
        return None
    log_p, log_q = _log_masses(p), _log_masses(q)
    if not any(bool(((log > -torch.inf) & (log.exp() < _LEAST)).any()) for log in (log_p, log_q)):
        return None
    n = max(log_p.shape[-1], log_q.shape[-1])
    log_p, log_q = (pad(log, (0, n - log.shape[-1]), value=-torch.inf) for log in (log_p, log_q))
    high, low = powers(d)
    in_p, in_q = log_p > -torch.inf, log_q > -torch.inf
    safe_p, safe_q = torch.where(in_p, log_p, 0.0), torch.where(in_q, log_q, 0.0)
    both = in_p & in_q
    x = torch.where(both, safe_p - safe_q, 0.0)
    near = x.clamp(-low.far, high.far)  # beyond, f is a power to rounding, and may overflow
    beyond = high.rate * (x - near).clamp(min=0) + low.rate * (near - x).clamp(min=0)
    value = d.log_perspective(near, torch.zeros_like(near))[1] * (torch.maximum(safe_p, safe_q) + beyond).exp()
    value = torch.where(both, value, 0.0)
    ends = ((in_p & ~in_q, safe_p, d.slope_at_infinity - d._slope_at_one),)
    for alone, log, limit in (*ends, (in_q & ~in_p, safe_q, d.f_at_zero + d._slope_at_one)):
        one = torch.full_like(value, torch.inf) if limit == torch.inf else limit * log.exp()
        value = value + torch.where(alone, one, 0.0)
    return value.sum(-1).to(torch.promote_types(_dtype(p), _dtype(q)))


_LEAST = 1e-35  # a little above the least normal number of float32


def _is_enumerable(law: Any) -> bool:
    if not isinstance(law, td.Categorical | td.Bernoulli | td.Binomial):
        return False
    return not isinstance(law, td.Binomial) or bool((law.total_count == law.total_count.max()).all())


def _enumerated(p: td.Distribution, q: td.Distribution) -> tuple[Tensor, Tensor] | None:
    if not (p.has_enumerate_support and q.has_enumerate_support) or p.event_shape or q.event_shape:
        return None
    binomial = isinstance(p, td.Binomial) and isinstance(q, td.Binomial)
    if not all(_is_enumerable(law) for law in (p, q) if isinstance(law, td.Binomial)):
        return None  # one number of trials for each element of the batch: the sums over the integers take them
    a, b = p.enumerate_support(expand=False).flatten(), q.enumerate_support(expand=False).flatten()
    if len(a) != len(b) or bool((a != b).any()):
        if binomial:
            return None
        raise ValueError(f"p and q must have the same outcomes: got {len(a)} and {len(b)}")
    return _masses(p), _masses(q)


def _masses(law: td.Distribution) -> Tensor:
    if isinstance(law, td.Categorical):
        return law.probs
    if isinstance(law, td.Bernoulli):  # its log_prob keeps probabilities away from 0 and 1
        if _is_by_logits(law):
            return torch.stack([(-law.logits).sigmoid(), law.logits.sigmoid()], -1)
        return torch.stack([1 - law.probs, law.probs], -1)
    if isinstance(law, td.Binomial):
        return _log_masses(law).exp()
    wide = mapped(law, lambda t: t.double() if t.is_floating_point() else t)
    return wide.log_prob(wide.enumerate_support(expand=False)).exp().movedim(0, -1)


def _log_masses(law: Any) -> Tensor:
    """Logarithms of the masses of 0, 1, … in float64, −inf for 0."""
    if isinstance(law, td.Binomial):
        sums = lattice(law)
        assert sums is not None
        return sums.log_mass(torch.arange(int(law.total_count.max()) + 1, dtype=torch.float64))
    if isinstance(law, td.Bernoulli):
        if _is_by_logits(law):
            return torch.stack([logsigmoid(-law.logits.double()), logsigmoid(law.logits.double())], -1)
        return _log(_masses(law))
    logits = law.logits.double().log_softmax(-1)
    return torch.where((law.probs == 0) & (logits > -50), -torch.inf, logits)  # the logits of a probability 0 are cut


def _log(x: Tensor) -> Tensor:
    x = x.double()
    return torch.where(x > 0, torch.where(x > 0, x, 1.0).log(), -torch.inf)


def _is_by_logits(law: td.Bernoulli) -> bool:
    return law._param is vars(law).get("logits")


def _dtype(law: Any) -> torch.dtype:
    return torch.float64 if isinstance(law, td.Binomial) else law._param.dtype
