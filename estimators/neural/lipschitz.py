"""Lipschitz constants of networks that are proven, not measured, and layers made for a constant of 1."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from estimators.neural.critics import Squash, Standardize


class MaxMin(nn.Module):
    """GroupSort with groups of two: the larger and the smaller of each pair, so that no gradient loses its norm.

    References: Anil, Lucas and Grosse 2019, section 4.1.
    """

    def forward(self, values: Tensor) -> Tensor:
        """(..., k) → (..., k): the maxima of neighbouring pairs, their minima, and where k is odd the last value."""
        even = values.shape[-1] // 2 * 2
        pairs = values[..., :even].unflatten(-1, (-1, 2))
        return torch.cat([pairs.amax(-1), pairs.amin(-1), values[..., even:]], -1)


class Cones(nn.Module):
    """f(u) = sign · min_k (‖u − c_k‖ + h_k), which no choice of centres c and heights h makes steeper than 1.

    With sign −1 it is largest at the centres, with sign 1 smallest. Either comes as near to any 1-Lipschitz function as
    one likes: with centres at all points of a set and heights ±f(c) it is the function itself there (McShane 1934).
    """

    def __init__(self, centers: Tensor, sign: int) -> None:
        super().__init__()
        self.centers = nn.Parameter(centers.detach().clone())
        self.heights = nn.Parameter(centers.new_zeros(len(centers)))
        self.sign = sign

    def forward(self, points: Tensor) -> Tensor:
        """The value at each point, (n,)."""
        with torch.no_grad():  # one cone a point has a gradient
            distance = torch.cdist(
                points, self.centers, compute_mode="donot_use_mm_for_euclid_dist"
            )  # to the last digit
            k = (distance + self.heights).argmin(-1)
        return self.sign * (torch.linalg.vector_norm(points - self.centers[k], dim=-1) + self.heights[k])


class Scaled(nn.Module):
    """factor · values."""

    factor: Tensor

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.register_buffer("factor", torch.tensor(factor))

    def forward(self, values: Tensor) -> Tensor:
        """The same shape."""
        return self.factor * values


class Spectral(nn.Module):
    """W/σ(W), by one step of power iteration a pass in training."""

    u: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        u = torch.linalg.svd(matrix.double()).U[:, 0]  # it starts where the iteration would end
        self.register_buffer("u", u.to(weight))

    def forward(self, weight: Tensor) -> Tensor:
        """The normalised weight."""
        matrix = weight.flatten(1)
        with torch.no_grad():
            v = nn.functional.normalize(matrix.mT @ self.u, dim=0)
            if self.training:
                self.u.copy_(nn.functional.normalize(matrix @ v, dim=0))
                v = nn.functional.normalize(matrix.mT @ self.u, dim=0)
        return weight / (self.u.clone() @ matrix @ v)


class Tangent(nn.Module):
    """W as it is, for orthonormal W; its gradient is the part of W's along the orthonormal matrices.

    It is a step of Newton's iteration for the nearest orthonormal matrix, which W is already; the step's derivative is
    the projection.
    """

    def forward(self, weight: Tensor) -> Tensor:
        """The weight."""
        wide = weight if weight.shape[-2] <= weight.shape[-1] else weight.mT
        step = 1.5 * wide - 0.5 * (wide @ wide.mT) @ wide
        return step if weight.shape[-2] <= weight.shape[-1] else step.mT


def orthonormal(weight: Tensor) -> Tensor:
    """A matrix near ``weight`` whose rows, or columns where there are fewer, are orthonormal."""
    tall = weight if weight.shape[-2] >= weight.shape[-1] else weight.mT
    q, r = torch.linalg.qr(tall)
    q = q * torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).unsqueeze(-2)  # continuous in the weight
    return q if weight.shape[-2] >= weight.shape[-1] else q.mT


_OF_SLOPE_1 = (nn.ReLU, nn.ReLU6, nn.Tanh, nn.Softplus, nn.Sigmoid, nn.Identity, nn.Flatten, MaxMin, Cones, Squash)


def lipschitz_constant(network: nn.Module) -> float:
    """A constant K with |f(u) − f(v)| ≤ K‖u − v‖ everywhere, proven layer by layer; inf where a layer has none.

    It is the product of the layers' own: the largest singular value of a linear layer, by an SVD in double precision,
    and 1 of an activation. Where the layers are not orthonormal it is far above the best K.

    Example:
        >>> lipschitz_constant(nn.Sequential(nn.Flatten(), Scaled(2.0), nn.ReLU()))
        2.0
        >>> lipschitz_constant(nn.LayerNorm(3))
        inf
    """
    # a subclass with a `forward` of its own, and a module with a hook, computes something else
    changed = bool(network._forward_hooks or network._forward_pre_hooks) or "forward" in vars(network)

    def computes(kind: type[nn.Module]) -> bool:
        return isinstance(network, kind) and type(network).forward is kind.forward and not changed

    if isinstance(network, nn.Sequential) and computes(nn.Sequential):
        return math.prod((lipschitz_constant(layer) for layer in network), start=1.0)
    if isinstance(network, nn.Linear) and computes(nn.Linear):
        return float(torch.linalg.matrix_norm(network.weight.detach().double(), 2))
    if isinstance(network, nn.LeakyReLU) and computes(nn.LeakyReLU):
        return max(1.0, abs(network.negative_slope))
    if isinstance(network, Standardize) and computes(Standardize):
        return 1 / float(network.scale.min())
    if isinstance(network, Scaled) and computes(Scaled):
        return abs(float(network.factor))
    return 1.0 if any(computes(kind) for kind in _OF_SLOPE_1) else math.inf
