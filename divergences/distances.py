"""Distances between points and their roots: exact at coincident points, unmoved by offsets, twice differentiable."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from divergences._arrays import tensor

_FEW = 32  # coordinates up to which a loop over them is as fast as a matrix product
_ALL_PAIRS = 2000
_RESOLVED = 1e-4  # of the largest squared norm: above it a matrix product gives a squared distance to 11 digits


class _SquaredDistances(torch.autograd.Function):
    """Direct differences, so equal points are at distance 0; the gradient is matrix products, differentiable again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        d = x.shape[-1]
        if d > _FEW and x.dtype == torch.float32:  # float32 in a float64 product loses nothing that matters
            a, b = _centred(x.double(), y.double())
            norms = a.square().sum(-1).unsqueeze(-1) + b.square().sum(-1).unsqueeze(-2)
            d2 = norms - 2 * (a @ b.mT)
            # rounding alone: a root would make a distance of it, with a slope of any size
            return torch.where(d2 <= 2 * d * torch.finfo(torch.float64).eps * norms, 0.0, d2).float()
        return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (x, y), (g,) = _centred(*ctx.saved_tensors), grads
        for_x = 2 * (g.sum(-1).unsqueeze(-1) * x - g @ y)
        for_y = 2 * (g.sum(-2).unsqueeze(-1) * y - g.mT @ x)
        return for_x.sum_to_size(x.shape), for_y.sum_to_size(y.shape)


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """‖x_i − y_j‖², (..., n, m), of x (..., n, d) and y (..., m, d). Twice differentiable; no offset changes it.

    Equal points are at distance 0 exactly. In float32 beyond 32 coordinates so are points nearer than about 2e-8·√d
    of their distance from the mean of y, which is their own rounding.
    """
    return _SquaredDistances.apply(x, y)


def _centred(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    center = y.detach().mean(-2, keepdim=True)
    return x - center, y - center


def safe_sqrt(d2: Tensor) -> Tensor:
    """√d², whose subgradient at 0 is 0."""
    zero = d2 <= 0  # false for NaN, which must come out as NaN
    return torch.where(zero, 0.0, torch.where(zero, 1.0, d2).sqrt())


def safe_power(d2: Tensor, exponent: float) -> Tensor:
    """(d²)^exponent, whose subgradient at 0 is 0."""
    zero = d2 <= 0  # false for NaN, which must come out as NaN
    return torch.where(zero, 0.0, torch.where(zero, 1.0, d2) ** exponent)


def median_distance(points: Any) -> Any:
    """Return the median distance between two of the ``points`` (n, d), a float; of (..., n, d), a tensor (..., 1, 1).

    Above 2000 points, of about 1000 evenly strided ones. Where more than half the pairs coincide, the median of the
    positive distances; 1 where all points are equal. No gradient passes.
    """
    sample = tensor(points).detach()
    if sample.ndim < 2 or sample.shape[-2] < 2:
        raise ValueError(f"points must be (..., n, d) with n at least 2: got shape {tuple(sample.shape)}")
    n = sample.shape[-2]
    if n > _ALL_PAIRS:
        sample = sample[..., :: n // 1000, :]
    sample = sample.double()
    x = sample - sample.mean(-2, keepdim=True)
    norms = x.square().sum(-1)
    d2 = (x @ x.mT).mul_(-2).add_(norms.unsqueeze(-1)).add_(norms.unsqueeze(-2))
    median = _lower_median(d2)
    if not bool((median > _RESOLVED * norms.amax(-1)).all()):  # also for NaN
        n = x.shape[-2]
        i, j = torch.triu_indices(n, n, 1, device=x.device)
        d2 = squared_distances(sample, sample)[..., i, j]
        d2 = torch.where((d2 > 0) | (d2.median(-1, keepdim=True).values > 0), d2, torch.nan)
        median = d2.nanmedian(-1).values.nan_to_num(nan=1.0)
    median = median.sqrt()
    return median.item() if median.ndim == 0 else median[..., None, None].to(tensor(points).dtype)


def _lower_median(d2: Tensor) -> Tensor:
    """The lower median over the pairs i < j of a symmetric matrix, (...,), which is overwritten."""
    n = d2.shape[-1]
    d2.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
    k = 2 * ((n * (n - 1) // 2 - 1) // 2)  # each pair is there twice
    flat = d2.flatten(-2)
    if flat.device.type != "cpu":
        return flat.kthvalue(k + 1).values
    flat.numpy().partition(k, -1)  # six times as fast as torch's selection
    return flat[..., k]
