"""The sum of singular values of many small matrices at once, almost all of it in matrix products of float32.

With U the orthogonal polar factor of N, Σσ(N) = tr UᵀN. A scaled Newton step (Higham 2008, eq. 8.24) maps the singular
values into [1, b]; cubic Newton–Schulz steps, scaled to the interval that is left (Chen, Chow 2014), take them to 1. An
orthogonal U that is off by ω costs only ω² of the trace, so float32 does, if what it is off from orthogonality is put
right in float64: with R = I − UᵀU, tr UᵀN + tr(½R + ⅜R²)UᵀN is right to R³.
"""

from __future__ import annotations

import torch
from torch import Tensor

_PORTION = 1024  # matrices of 16 × 16 whose intermediates stay in the cache
_STEPS = 8
_SPREAD = 100.0  # of the singular values after the Newton step; what is wider is left to another way
_EPSILON = torch.finfo(torch.float64).eps


def nuclear_norms(L_p: Tensor, L_q: Tensor) -> tuple[Tensor, Tensor]:
    """Σσ(N), N = L_qᵀL_p, (n,), from triangular factors (n, d, d), and a bound of its error, inf where it failed."""
    portion = max(1, _PORTION * 256 // L_p.shape[-1] ** 2)
    parts = [_portion(*pair) for pair in zip(L_p.split(portion), L_q.split(portion), strict=True)]
    values, errors = zip(*parts, strict=True)
    return torch.cat(values), torch.cat(errors)


def _portion(L_p: Tensor, L_q: Tensor) -> tuple[Tensor, Tensor]:
    d = L_p.shape[-1]
    size = torch.linalg.matrix_norm(N := L_q.mT @ L_p)
    N.div_(size[:, None, None])  # within the range of float32
    I = torch.eye(d, dtype=N.dtype, device=N.device)  # noqa: E741
    inverse = torch.linalg.solve_triangular(L_p, size[:, None, None] * I, upper=False).mT
    inverse = torch.linalg.solve_triangular(L_q, inverse, upper=False)  # N⁻ᵀ
    inverse_norm = torch.linalg.matrix_norm(inverse)
    N_32 = N.float()
    U = _polar(N_32, inverse, inverse_norm.sqrt())
    wide = U.double()
    R = torch.sub(I, wide.mT @ wide).float()
    Y = U.mT @ N_32
    r, off = torch.linalg.matrix_norm(R).double(), torch.linalg.matrix_norm(Y - Y.mT).double() / 2
    value = (wide * N).sum((-2, -1)) + (R * Y).sum((-2, -1)) / 2 + (R * (R @ Y)).sum((-2, -1)) * (3 / 8)
    error = r**3 + 2e-7 * r + d * _EPSILON + off**2 * inverse_norm
    return size * value, torch.where(r < 0.1, size * error, torch.inf)


def _polar(N: Tensor, inverse: Tensor, scale: Tensor) -> Tensor:
    """U of N approximately, N and its inverse transposed given."""
    X = inverse.to(N.dtype).mul_((0.5 / scale).to(N.dtype)[:, None, None])
    X.addcmul_(N, (scale / 2).to(N.dtype)[:, None, None])
    G = X.mT @ X
    top = torch.linalg.matrix_norm(G).double().sqrt()
    low, factor = 1 / top, 1 / top  # the singular values of factor·X are in [low, 1]
    low = torch.where(top < _SPREAD, low, 1.0)
    for step in range(_STEPS):
        if step:
            G = X.mT @ X
        stretch = (3 / (1 + low + low**2)).sqrt()  # makes x(3 − x²)/2 equal at both ends
        factor = factor * stretch
        X = X.mul_(factor.to(X.dtype)[:, None, None])
        G = G.mul_((factor**2).to(X.dtype)[:, None, None])
        X = torch.baddbmm(X, X, G, beta=1.5, alpha=-0.5)
        low = stretch * low * (3 - (stretch * low) ** 2) / 2
        factor = torch.ones_like(low)
        if float(low.min()) > 0.999:
            break
    return X
