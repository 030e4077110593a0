"""Means of polynomial kernels, alone or times radial ones, between Gaussian atoms: the moments of XᵀY.

For independent X ~ N(μ, S) and Y ~ N(ν, T), with G(s) = (I − s²TS)⁻¹,

    log E exp(s XᵀY) = −½ log|I − s²TS| + s μᵀGν + ½s² μᵀGTμ + ½s² νᵀSGν,

whose coefficients are the cumulants, and these give the moments. Multiplied by exp(−t‖x − y‖²), the densities are
again jointly Gaussian, with X and Y correlated: as if X − Y had been observed to be 0 with noise of variance 1/(2t).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from divergences import scales
from divergences.atoms import Atoms
from divergences.kernels import Polynomial


def mean(polynomials: Sequence[Polynomial], mixture: scales.Mixture, a: Atoms, b: Atoms) -> Tensor:
    """E Π (XᵀY + c)^m · Σ w exp(−t‖X − Y‖²) for every pair of atoms, (..., n, m)."""
    c, coefficients = _powers(polynomials)
    if all(not factors for _, factors in mixture):
        return _combined(coefficients, _moments(_cumulants(a, b, len(coefficients) - 1), c))
    Z, d = a.difference(b), a.means.shape[-1]
    total = a.means.new_zeros(())
    for weight, factors in mixture:
        for w, t in scales.nodes(factors, Z, elements=4 * d * d * math.prod(Z.c.shape[:-1])):
            inner = _moments(_tilted_cumulants(a, b, t, len(coefficients) - 1), c)
            total = total + weight * (w * Z.log_transform(t).exp() * _combined(coefficients, inner)).sum(0)
    return total


def _powers(polynomials: Sequence[Polynomial]) -> tuple[float, list[float]]:
    """Π (z + c_i)^{m_i} as Σ a_k (z + c)^k with c the least of the c_i, so that no a_k is negative."""
    c = min(kernel.c for kernel in polynomials)
    product = [1.0]
    for kernel in polynomials:
        for _ in range(kernel.degree):
            shifted = [(kernel.c - c) * x for x in product] + [0.0]
            product = [x + y for x, y in zip(shifted, [0.0, *product], strict=True)]
    return c, product


def _combined(coefficients: list[float], moments: list[Tensor]) -> Tensor:
    return sum((x * m for x, m in zip(coefficients, moments, strict=True) if x), start=torch.zeros_like(moments[-1]))


def _moments(cumulants: list[Tensor], c: float) -> list[Tensor]:
    """E (W + c)^k, k = 0, 1, …, of the W whose cumulants κ₁, κ₂, … are given."""
    k = [cumulants[0] + c, *cumulants[1:]]
    found = [torch.ones_like(k[0])]
    for n in range(1, len(k) + 1):
        terms = [math.comb(n - 1, j - 1) * k[j - 1] * found[n - j] for j in range(1, n + 1)]
        found.append(torch.stack(torch.broadcast_tensors(*terms)).sum(0))
    return found


def _cumulants(a: Atoms, b: Atoms, order: int) -> list[Tensor]:
    """κ₁ … of XᵀY: n! times the coefficients of sⁿ above."""
    m, v = a.means.unsqueeze(-2), b.means.unsqueeze(-3)
    diagonal = a.covariances is None and b.covariances is None
    S, T = (_covariance(law, axis, diagonal) for law, axis in ((a, -2), (b, -3)))

    def times(C: Tensor | None, x: Tensor) -> Tensor:
        if C is None:
            return torch.zeros_like(x)
        return C * x if diagonal else (C @ x.unsqueeze(-1)).squeeze(-1)

    TS = None if S is None or T is None else (T * S if diagonal else T @ S)
    x, y, z, power = v, times(T, m), times(S, v), TS  # (TS)^k ν, (TS)^k Tμ, Sν and (TS)^{k+1}
    found = []
    for n in range(1, order + 1):
        if n % 2:
            coefficient = (m * x).sum(-1)
        else:
            coefficient = ((m * y).sum(-1) + (z * x).sum(-1)) / 2
            if power is not None and TS is not None:
                trace = power.sum(-1) if diagonal else power.diagonal(dim1=-2, dim2=-1).sum(-1)
                coefficient = coefficient + trace / n
                power = power * TS if diagonal else power @ TS
            x, y = times(T, times(S, x)), times(T, times(S, y))
        found.append(math.factorial(n) * coefficient)
    return found


def _covariance(law: Atoms, axis: int, diagonal: bool) -> Tensor | None:
    if law.are_points:
        return None
    if diagonal:
        return law.variances.unsqueeze(axis)  # type: ignore[union-attr]
    return law.full().unsqueeze(axis - 1)


def _tilted_cumulants(a: Atoms, b: Atoms, t: Tensor, order: int) -> list[Tensor]:
    """κ_n = ½(n−1)! tr(Cⁿ) + ½n! hᵀA C^{n−1} h of XᵀY = ½WᵀAW, W = (X, Y) ~ N(h, Σ) tilted, C = ΣA, A swaps X and Y."""
    m, v = a.means.unsqueeze(-2), b.means.unsqueeze(-3)
    S, T = a.full().unsqueeze(-3), b.full().unsqueeze(-4)
    t = t[..., None, None]
    d = m.shape[-1]
    M = 2 * t * torch.linalg.inv(torch.eye(d, dtype=m.dtype, device=m.device) + 2 * t * (S + T))
    gap = (M @ (m - v).unsqueeze(-1)).squeeze(-1)
    h = torch.cat(torch.broadcast_tensors(m - _times(S, gap), v + _times(T, gap)), -1)
    swapped = torch.cat([h[..., d:], h[..., :d]], -1)
    XX, XY, YY = torch.broadcast_tensors(S - S @ M @ S, S @ M @ T, T - T @ M @ T)
    C = torch.cat([torch.cat([XY, XX], -1), torch.cat([YY, XY.mT], -1)], -2)
    power, found = C, []
    for n in range(1, order + 1):
        trace = power.diagonal(dim1=-2, dim2=-1).sum(-1)
        found.append(math.factorial(n - 1) * trace / 2 + math.factorial(n) * (swapped * h).sum(-1) / 2)
        if n < order:
            power, h = power @ C, _times(C, h)
    return found


def _times(C: Tensor, x: Tensor) -> Tensor:
    return (C @ x.unsqueeze(-1)).squeeze(-1)
