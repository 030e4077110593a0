"""log ∫ p^α q^{1−α}, the log-affinity of two known laws, and the Rényi divergences that follow from it.

Near P = Q the affinity is 1 and its logarithm comes from the α-divergence, which keeps its digits there; far apart it
is tiny or huge and comes from sums and integrals of logarithms.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from divergences import countable, discrete, quadrature
from divergences.evaluate import closed_affinity, coordinates, f_value, singular
from divergences.exact import closed_form, missing
from divergences.f_divergence import KL, Alpha
from divergences.terms import log_ratio

_NEAR = 0.5  # |affinity − 1| below which the α-divergence has the better digits


def renyi_value(p: Any, q: Any, alpha: float, method: str = "auto") -> Tensor:
    """Return the Rényi divergence of order α in [0, ∞]."""
    if alpha == 1:
        return f_value(KL(), p, q, method)
    if alpha == math.inf:
        return log_ess_sup(p, q, method)
    if alpha == 0:
        return 0 - log_mass(p, q, method)  # 0 and not −0
    return log_affinity(p, q, alpha, method) / (alpha - 1)


def log_affinity(p: Any, q: Any, alpha: float, method: str = "auto") -> Tensor:
    """Return log ∫ p^α q^{1−α}, α > 0 and not 1; −inf for disjoint supports."""
    if method in ("auto", "closed_form") and discrete.aligned(p, q) is None:
        value = closed_affinity(p, q, alpha)
        if value is not None:
            return value
    if (shape := _singular(p, q, method)) is not None:
        return torch.full(shape, -math.inf if alpha < 1 else math.inf, dtype=torch.float64)
    power = alpha * (alpha - 1)
    excess = power * f_value(Alpha(alpha), p, q, method)  # the integral − 1; raises where no way exists
    near = excess.abs() < _NEAR
    far = None if bool(near.all()) else _log_affinity_far(p, q, alpha)
    value = torch.log1p(torch.where(near, excess, 0.0) if far is not None else excess)
    return value if far is None else torch.where(near, value, far)


def _log_affinity_far(p: Any, q: Any, alpha: float) -> Tensor:
    vectors = discrete.aligned(p, q)
    if vectors is not None:
        log_p, log_q = (v.log() for v in vectors)
        both = (log_p > -math.inf) & (log_q > -math.inf)  # the masses of one law alone do not count
        terms = torch.where(both, alpha * log_p, -math.inf) + torch.where(both, (1 - alpha) * log_q, 0.0)
        return torch.where(_escapes(*vectors, alpha), math.inf, terms.logsumexp(-1))
    sums = countable.pair(p, q)
    if sums is not None:
        return countable.log_affinity(*sums, alpha)
    if (parts := coordinates(p, q)) is not None:
        a, b, axes = parts
        return log_affinity(a, b, alpha).sum(axes)
    value = quadrature.batched(quadrature.log_affinity, p, q, alpha)
    return torch.log1p(alpha * (alpha - 1) * f_value(Alpha(alpha), p, q)) if value is None else value


def _escapes(p: Tensor, q: Tensor, alpha: float) -> Tensor:
    """Whether P has mass where Q has none and the order makes that infinite."""
    return ((p > 0) & (q == 0)).any(-1) & (alpha > 1)


def log_ess_sup(p: Any, q: Any, method: str = "auto") -> Tensor:
    """Return log ess sup p/q in [0, ∞]."""
    vectors = discrete.aligned(p, q)
    if vectors is not None:
        a, b = torch.broadcast_tensors(*vectors)
        inside = (a > 0) & (b > 0)
        ratio = log_ratio(torch.where(inside, a, 1.0), torch.where(inside, b, 1.0), may_overflow=True)
        outside = torch.where(a > 0, math.inf, -math.inf).to(ratio.dtype)
        return torch.where(inside, ratio, outside).amax(-1)
    return _of_pair("log_ess_sup", p, q, method)


def log_mass(p: Any, q: Any, method: str = "auto") -> Tensor:
    """Return log Q(p > 0) in [−∞, 0]."""
    vectors = discrete.aligned(p, q)
    if vectors is not None:
        a, b = vectors
        inside, outside = (torch.where(where, b, 0.0).sum(-1) for where in (a > 0, a == 0))
        return torch.where(outside < 0.5, torch.log1p(-outside), inside.log())
    return _of_pair("log_mass", p, q, method)


def _of_pair(what: str, p: Any, q: Any, method: str) -> Tensor:
    if _singular(p, q, method) is not None:
        return torch.full(_singular(p, q, method) or (), math.inf if what == "log_ess_sup" else -math.inf).double()
    value = closed_form(what, p, q) if method in ("auto", "closed_form") else None
    if value is None and method in ("auto", "discrete") and (sums := countable.pair(p, q)) is not None:
        value = getattr(countable, what)(*sums)
    if value is None and method != "closed_form" and (parts := coordinates(p, q)) is not None:
        a, b, axes = parts
        return _of_pair(what, a, b, method).sum(axes)
    if value is None and method in ("auto", "quadrature"):
        value = quadrature.batched(getattr(quadrature, what), p, q)
    if value is None:
        raise missing("renyi", p, q, "draw from both and estimate it")
    return value


def _singular(p: Any, q: Any, method: str) -> torch.Size | None:
    return singular(p, q) if method in ("auto", "discrete") and countable.pair(p, q) is None else None
