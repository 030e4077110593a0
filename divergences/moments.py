"""Gaussian laws of every torch type as what determines them: a mean, and deviations or a Cholesky factor."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributions as td
from torch import Tensor

GAUSSIANS = (td.Normal, td.MultivariateNormal, td.LowRankMultivariateNormal, td.Independent)


class Moments(NamedTuple):
    """Mean (..., d); deviations (..., d) where the coordinates are independent, else a Cholesky factor (..., d, d)."""

    mean: Tensor
    deviation: Tensor | None
    tril: Tensor | None

    def to(self, dtype: torch.dtype) -> Moments:
        """Return the same in another dtype."""
        deviation, tril = (part if part is None else part.to(dtype) for part in (self.deviation, self.tril))
        return Moments(self.mean.to(dtype), deviation, tril)

    @property
    def factor(self) -> Tensor:
        """L with Σ = LLᵀ, lower triangular."""
        return torch.diag_embed(self.deviation) if self.tril is None else self.tril  # type: ignore[arg-type]


def moments(law: Any) -> Moments | None:
    """Return the moments of a Gaussian law, its event axes flattened; None for a law that is not Gaussian."""
    if isinstance(law, td.Normal):
        return Moments(law.loc.unsqueeze(-1), law.scale.unsqueeze(-1), None)
    if isinstance(law, td.MultivariateNormal):
        return Moments(law.loc, None, law.scale_tril)
    if isinstance(law, td.LowRankMultivariateNormal):
        return Moments(law.loc, None, _low_rank_tril(law.cov_factor, law.cov_diag))
    if isinstance(law, td.Independent) and isinstance(law.base_dist, td.Normal):
        shape, base = law.batch_shape, law.base_dist
        return Moments(base.loc.reshape(*shape, -1), base.scale.reshape(*shape, -1), None)
    return None


def same(a: Tensor, b: Tensor) -> bool:
    """Whether a and b are equal and stay so as parameters move: equal constants, or one tensor seen twice.

    Two trainable tensors of equal values are two parameters: a form that holds only where they are equal has lost the
    gradient across it.
    """
    if torch.is_grad_enabled() and (a.requires_grad or b.requires_grad):
        return a is b or (_source(a) is _source(b) and _place(a) == _place(b))
    return bool((a == b).all())


def _source(t: Tensor) -> Tensor:
    return t if t._base is None else t._base


def _place(t: Tensor) -> tuple[Any, ...]:
    return t.requires_grad, t.dtype, t.data_ptr(), t.shape, t.stride()


def _low_rank_tril(W: Tensor, D: Tensor) -> Tensor:
    """The Cholesky factor of WWᵀ + diag(D), from a QR of [D^½ W]ᵀ: a Cholesky of the sum would lose a small D."""
    root = D.sqrt()
    scaled = torch.cat([torch.diag_embed(torch.ones_like(D)), W.mT / root.unsqueeze(-2)], -2)
    R = torch.linalg.qr(scaled).R
    return root.unsqueeze(-1) * (R * R.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-1)).mT


def pair(p: Any, q: Any) -> tuple[Moments, Moments] | None:
    """Both as moments in float64, their batch axes fitting; None unless both are Gaussian.

    Raises:
        ValueError: their event shapes differ (one number is one number in any shape), or their batch shapes do not fit.
    """
    a, b = moments(p), moments(q)
    if a is None or b is None:
        return None
    if p.event_shape != q.event_shape and (a.mean.shape[-1] != 1 or b.mean.shape[-1] != 1):
        raise ValueError(
            f"p and q must have one dimension and event shape: got {tuple(p.event_shape)} and {tuple(q.event_shape)}"
        )
    try:
        torch.broadcast_shapes(a.mean.shape, b.mean.shape)
    except RuntimeError:
        raise ValueError(
            f"the batch shapes of p and q do not fit: got {tuple(p.batch_shape)} and {tuple(q.batch_shape)}"
        ) from None
    return a.to(torch.float64), b.to(torch.float64)


def result_type(*laws: Any) -> torch.dtype:
    """The dtype of an answer about ``laws``: that of their parameters, at least float32."""
    dtype = torch.float32
    for law in laws:
        inner = law
        while isinstance(inner, td.Independent | td.MixtureSameFamily):
            inner = inner.base_dist if isinstance(inner, td.Independent) else inner.component_distribution
        mean = inner.points if hasattr(inner, "points") else inner.loc
        dtype = torch.promote_types(dtype, mean.dtype)
    return dtype
