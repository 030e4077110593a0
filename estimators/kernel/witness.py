"""The witness function of an MMD: where P has more mass than Q at the kernel's scale, and where less."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from divergences import kernels
from estimators.door import Samples
from estimators.kernel import variance as mmd_variance
from estimators.ops import pairwise


class Witness(NamedTuple):
    """The witness w(z) = E k(z, X) − E k(z, Y) at points, (..., p, d), its values and standard errors, (..., p)."""

    points: Any
    values: Any
    stderr: Any

    @property
    def standardized(self) -> Any:
        """The values in units of their standard errors; 0 where the value is 0."""
        values, stderr = torch.as_tensor(self.values), torch.as_tensor(self.stderr)
        scaled = torch.where(values == 0, 0.0, values / torch.where(values == 0, 1.0, stderr))
        return scaled if isinstance(self.values, Tensor) else scaled.numpy()

    def top(self, count: int = 1, side: str = "x") -> Any:
        """The ``count`` points, (..., count, d), where P ("x") or Q ("y") most exceeds the other, standardised.

        Raises:
            ValueError: a side that is neither, or a count that is not in 1 … p.
        """
        if side not in ("x", "y"):
            raise ValueError(f'side must be "x" or "y": got {side!r}')
        scores, points = torch.as_tensor(self.standardized), torch.as_tensor(self.points)
        if not 1 <= count <= scores.shape[-1]:
            raise ValueError(f"count must lie in 1 to {scores.shape[-1]}: got {count}")
        chosen = scores.topk(count, largest=side == "x").indices
        points = points.expand(*scores.shape, points.shape[-1])
        found = points.gather(-2, chosen.unsqueeze(-1).expand(*chosen.shape, points.shape[-1]))
        return found if isinstance(self.points, Tensor) else found.numpy()


def witness(kernel: Any, s: Samples, points: Tensor | None) -> Witness:
    """The witness at ``points``, or at the pooled sample, where the mean over a sample leaves out the point itself."""
    if points is None:
        ours, theirs = _of_side(kernel, s, s.x, 0), _of_side(kernel, s, s.y, 1)
        lead = torch.broadcast_shapes(s.x.shape[:-2], s.y.shape[:-2])
        points = torch.cat([p.expand(*lead, *p.shape[-2:]) for p in (s.x, s.y)], -2)
        values, variance = (torch.cat(pair, -1) for pair in zip(ours, theirs, strict=True))
    else:
        values, variance = _of_side(kernel, s, points, None)
    return Witness(points, values, kernels.safe_sqrt(variance))


def _of_side(kernel: Any, s: Samples, z: Tensor, own: int | None) -> tuple[Tensor, Tensor]:
    """w(z) and its variance; z are the points of side ``own`` where it is not None."""
    found = []
    for side, (points, w) in enumerate(zip((s.x, s.y), mmd_variance.weights(s), strict=True)):
        found.append(_mean(kernel, z, points, w, own == side))
    (a, var_a), (b, var_b) = found
    return a - b, var_a + var_b


def _mean(kernel: Any, z: Tensor, points: Tensor, w: Tensor, own: bool) -> tuple[Tensor, Tensor]:
    """Σ_j w_j k(z, x_j) and its variance, Σ w² (k − mean)² with ddof = 1; without x_i for z_i where ``own``."""

    def squared(a: Tensor, b: Tensor) -> Tensor:
        return kernel(a, b).square()

    q = w.square()
    squares = kernel * kernel if isinstance(kernel, kernels.Kernel) else squared
    k, k_q = (pairwise.row_sums(kernel, z, points, part, exclude_self=own) for part in (w, q))
    k2_q = pairwise.row_sums(squares, z, points, q, exclude_self=own)
    rest, Q = (1 - w, q.sum(-1, keepdim=True) - q) if own else (1.0, q.sum(-1, keepdim=True))
    mean, W = k / rest, Q / rest**2  # W is Σw² after the weights are made to sum to 1 again
    squares_sum = (k2_q - 2 * mean * k_q + mean.square() * Q) / rest**2
    return mean, squares_sum.clamp_min(0.0) / (1 - W)
