"""Exact values on finite supports: probability vectors, points with weights, and enumerable torch laws."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor

from divergences._generator import FDivergence
from divergences.blocks import by_blocks
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


def _enumerated(p: td.Distribution, q: td.Distribution) -> tuple[Tensor, Tensor] | None:
    if not (p.has_enumerate_support and q.has_enumerate_support) or p.event_shape or q.event_shape:
        return None
    a, b = p.enumerate_support(expand=False).flatten(), q.enumerate_support(expand=False).flatten()
    if len(a) != len(b) or bool((a != b).any()):
        raise ValueError(f"p and q must have the same outcomes: got {len(a)} and {len(b)}")
    return _masses(p), _masses(q)


def _masses(law: td.Distribution) -> Tensor:
    if isinstance(law, td.Categorical):
        return law.probs
    if isinstance(law, td.Bernoulli):  # its log_prob keeps probabilities away from 0 and 1
        return torch.stack([1 - law.probs, law.probs], -1)
    return law.log_prob(law.enumerate_support(expand=False)).exp().movedim(0, -1)
