"""W₂² as far as means and covariances determine it: the Gelbrich distance of two samples, with its bias removed.

G² = ‖Δ‖² + tr Σ_p + tr Σ_q − 2 tr(Σ_p^½Σ_qΣ_p^½)^½ ≤ W₂²(P, Q), with A the positive matrix that takes Σ_p to Σ_q and T
the affine map x ↦ μ_q + A(x − μ_p). For every coupling E‖X − Y‖² = G² + E(TX − Y)ᵀA⁻¹(TX − Y), hence

    W₂²(P, Q) = G² + W₂²(law of A^½(X − μ_p), law of A^(−½)(Y − μ_q)):

what G² misses is the transport between two laws of equal mean and covariance, and nothing where T takes P to Q.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from estimators.door import Samples
from estimators.kernel.frechet import squared_distance

_RANK = 1e-10  # eigenvalues below this share of the largest are rounding


class Gelbrich(NamedTuple):
    """G² (...,) less its bias, that bias, the influence of each point, and the residual samples.

    ``f`` (..., n) and ``g`` (..., m) are the potentials of the affine map, whose spread is the sampling error of G²;
    ``u`` = A^½(x − x̄) and ``v`` = A^(−½)(y − ȳ) are what is left to transport. ``singular`` tells where a covariance
    has no full rank, so that A, the influence and the residuals mean nothing.
    """

    value: Tensor
    bias: Tensor
    f: Tensor
    g: Tensor
    u: Tensor
    v: Tensor
    singular: Tensor


def gelbrich(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Gelbrich:
    """G² of samples x (..., n, d), y (..., m, d) with weights a (..., n), b (..., m), without bias to first order.

    E‖x̄ − ȳ‖² exceeds ‖Δ‖² by tr Σ_p/n + tr Σ_q/m exactly. The covariance term has the bias ½E D²B²[S − Σ, S − Σ]:
    with M = Σ_q^½Σ_pΣ_q^½ = V diag(λ)Vᵀ and w = VᵀΣ_q^½(x − μ_p), of covariance diag(λ), that is for x

        (1/2n) Σ_jk Var(w_j w_k) / (√λ_j √λ_k (√λ_j + √λ_k)),

    and likewise for y; the fourth moments are the sample's own, so that no law is assumed. The correction, of order
    1/n, is held in the gradient.
    """
    x, y, a, b = (v.double() for v in (x, y, a, b))
    (X, S_x, mean_x, share_x), (Y, S_y, mean_y, share_y) = _moments(x, a), _moments(y, b)
    shift = mean_x - mean_y
    trace_x, trace_y = (S.diagonal(dim1=-2, dim2=-1).sum(-1) for S in (S_x, S_y))
    plain = squared_distance(Samples(x, y, a, b))
    with torch.no_grad():
        root_x, inverse_x, thin_x = _roots(S_x)
        root_y, _, thin_y = _roots(S_y)
        bias = _curvature(X, a, root_y, S_x) + _curvature(Y, b, root_x, S_y)
        lam, V = torch.linalg.eigh(root_x @ S_y @ root_x)
        A = inverse_x @ (V * lam.clamp_min(0.0).sqrt()[..., None, :]) @ V.mT @ inverse_x
        root_A, inverse_A, thin_A = _roots(A)
        I = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)  # noqa: E741
        f = 2 * (X @ shift[..., None]).squeeze(-1) + ((X @ (I - A)) * X).sum(-1)
        g = -2 * (Y @ shift[..., None]).squeeze(-1) + ((Y @ (I - inverse_A @ inverse_A)) * Y).sum(-1)
        u, v = X @ root_A, Y @ inverse_A
    value = plain - share_x * trace_x - share_y * trace_y - bias
    return Gelbrich(value, bias, f, g, u, v, thin_x | thin_y | thin_A)


def _moments(x: Tensor, a: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centred points, the unbiased covariance, the mean, and Σa², which is 1/n for equal weights."""
    mean = (a[..., :, None] * x).sum(-2)
    X, share = x - mean[..., None, :], a.square().sum(-1)
    return X, (a[..., :, None] * X).mT @ X / (1 - share)[..., None, None], mean, share


def _roots(S: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """S^½, its pseudo-inverse, and whether S lacks full rank."""
    lam, V = torch.linalg.eigh(S)
    positive = lam > _RANK * lam[..., -1:]
    r = torch.where(positive, lam, 0.0).sqrt()
    inverse = torch.where(positive, 1 / torch.where(positive, r, 1.0), 0.0)
    return (V * r[..., None, :]) @ V.mT, (V * inverse[..., None, :]) @ V.mT, ~positive.all(-1)


def _curvature(X: Tensor, a: Tensor, root: Tensor, S: Tensor) -> Tensor:
    """The bias of B² that comes from the covariance S of X, with ``root`` the root of the other covariance."""
    lam, V = torch.linalg.eigh(root @ S @ root)
    w2 = (X @ root @ V).square()
    r = lam.clamp_min(0.0).sqrt()
    spread = (a.square()[..., :, None] * w2).mT @ w2 - a.square().sum(-1)[..., None, None] * torch.diag_embed(lam**2)
    bottom = r[..., :, None] * r[..., None, :] * (r[..., :, None] + r[..., None, :])
    keep = (lam > _RANK * lam[..., -1:])[..., :, None] & (lam > _RANK * lam[..., -1:])[..., None, :]
    return (torch.where(keep, spread / torch.where(keep, bottom, 1.0), 0.0)).sum((-2, -1)) / 2
