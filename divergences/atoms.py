"""Laws that are weighted sets of Gaussians and points, and the Gaussian law of the difference of two such atoms."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributions as td
from torch import Tensor

from divergences.laws import Empirical
from divergences.moments import moments


class Atoms(NamedTuple):
    """Σ w_i N(m_i, S_i): weights (..., n), means (..., n, d); S as variances (..., n, d) or in full (..., n, d, d).

    Atoms without either are points.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor | None = None
    covariances: Tensor | None = None

    @property
    def batch(self) -> tuple[int, ...]:
        """The shape of the laws."""
        return tuple(torch.broadcast_shapes(self.weights.shape[:-1], self.means.shape[:-2]))

    @property
    def are_points(self) -> bool:
        """Whether no atom has a covariance."""
        return self.variances is None and self.covariances is None

    def full(self) -> Tensor:
        """S (..., n, d, d), zero for points."""
        if self.covariances is not None:
            return self.covariances
        if self.variances is not None:
            return torch.diag_embed(self.variances)
        d = self.means.shape[-1]
        return self.means.new_zeros(1, d, d)

    def difference(self, other: Atoms) -> Difference:
        """The laws of X_i − Y_j, all independent, (..., n, m)."""
        gap = self.means.unsqueeze(-2) - other.means.unsqueeze(-3)
        if self.covariances is None and other.covariances is None:
            found = [v.unsqueeze(axis) for v, axis in ((self.variances, -2), (other.variances, -3)) if v is not None]
            return Difference(gap, torch.stack(torch.broadcast_tensors(*found)).sum(0) if found else 0 * gap, None)
        matrices = [law.full().unsqueeze(axis) for law, axis in ((self, -3), (other, -4)) if not law.are_points]
        S = matrices[0] if len(matrices) == 1 else matrices[0] + matrices[1]
        with torch.no_grad():
            V = torch.linalg.eigh(S).eigenvectors
        turned = V.mT @ S @ V
        diagonal = turned.diagonal(dim1=-2, dim2=-1)
        rest = turned - torch.diag_embed(diagonal) if turned.requires_grad else None
        rest = None if rest is None else rest - rest.detach()
        return Difference((V.mT @ gap.unsqueeze(-1)).squeeze(-1), diagonal.clamp(min=0), rest)


class Difference(NamedTuple):
    """Z ~ N(c, diag(λ) + O): c (..., d) and λ in eigenvectors that carry no gradient, so O = 0 but for its derivatives.

    Eigenvectors have no derivative where eigenvalues repeat, but what is computed here has: it is expanded in O to
    second order, which gives it two derivatives.
    """

    c: Tensor
    l: Tensor
    O: Tensor | None  # noqa: E741

    def mean_square(self) -> Tensor:
        """E‖Z‖²."""
        return (self.c**2).sum(-1) + self.l.sum(-1)

    def log_transform(self, t: Tensor) -> Tensor:
        """Return log E exp(−t‖Z‖²) = −½ log|I + 2tS| − t cᵀ(I + 2tS)⁻¹c; t broadcasts with the pairs."""
        t = t.unsqueeze(-1)
        D = 1 / (1 + 2 * t * self.l)
        u = D * self.c
        value = -torch.log1p(2 * t * self.l).sum(-1) / 2 - (t * self.c * u).sum(-1)
        if self.O is None:
            return value
        Ou = (self.O @ u.unsqueeze(-1)).squeeze(-1)
        squared = ((self.O**2) @ D.unsqueeze(-1)).squeeze(-1)
        return value + (t**2 * (2 * u * Ou + D * squared) - 4 * t**3 * D * Ou**2).sum(-1)


def atoms(law: Any) -> Atoms | None:
    """Return the atoms of a law in float64; None for a law that is not made of Gaussians and points."""
    if isinstance(law, Empirical):
        weights = law.weights.double()
        return Atoms(weights / weights.sum(), law.points.double())
    mixed = isinstance(law, td.MixtureSameFamily)
    inner = moments(law.component_distribution if mixed else law)
    if inner is None:
        return None
    mean, deviation, tril = inner.to(torch.float64)
    if mixed:
        weights = law.mixture_distribution.probs.double()
        weights = weights / weights.sum(-1, keepdim=True)
    else:
        weights, mean = mean.new_ones(1), mean.unsqueeze(-2)
        deviation = None if deviation is None else deviation.unsqueeze(-2)
        tril = None if tril is None else tril.unsqueeze(-3)
    if tril is not None:
        return Atoms(weights, mean, None, tril @ tril.mT)
    return Atoms(weights, mean, None if deviation is None else deviation**2)
