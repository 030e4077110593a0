"""Random Fourier features: MMD² from a kernel's spectral law, in time linear in the points.

A kernel k(x − y) with k(0) = κ is κ E cos ωᵀ(x − y), ω drawn from its spectral law (Bochner), so that
MMD² = κ E |φ_P(ω) − φ_Q(ω)|² with the characteristic functions φ. Each frequency gives an unbiased estimate of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from scipy.special import gammaincinv
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from divergences import kernels
from estimators.base import Inference
from estimators.door import Samples
from estimators.kernel import variance as mmd_variance

HELD = 2**21  # cosines held at once
SUBSET = 400  # points a side that show the residuals of the kernel

Draw = Callable[[int, int], Tensor]  # (F, d) -> frequencies (..., F, d)
Random = Callable[..., Tensor]  # the shape -> numbers of one law


class Frequencies(NamedTuple):
    """Frequencies ω, (..., F, d), and their shares of k(0), (F,): k(x, y) ≈ Σ_f share_f cos ω_fᵀ(x − y)."""

    omega: Tensor
    share: Tensor

    def features(self, x: Tensor) -> Tensor:
        """The cosines and sines of ωᵀx, (..., n, 2F)."""
        phase = x @ self.omega.mT
        return torch.cat([phase.cos(), phase.sin()], -1)

    def means(self, x: Tensor, w: Tensor) -> Tensor:
        """Σ_i w_i φ(x_i), (..., 2F), in tiles that are computed again in the backward pass."""

        def part(rows: Tensor, w: Tensor) -> Tensor:
            return (w.unsqueeze(-2) @ self.features(rows)).squeeze(-2)

        found = torch.zeros((), dtype=x.dtype, device=x.device)
        for rows, of_rows in self._tiles(x, w):
            again = torch.is_grad_enabled() and rows.shape[-2] < x.shape[-2]
            found = found + (
                checkpoint(part, rows, of_rows, use_reentrant=False, preserve_rng_state=False)
                if again
                else part(rows, of_rows)
            )
        return found

    def per_frequency(self, C_x: Tensor, C_y: Tensor, w: Tensor, v: Tensor) -> Tensor:
        """The unbiased estimate of k(0)·|φ_P(ω) − φ_Q(ω)|² for each frequency, (..., F), from the `means`."""

        def within(C: Tensor, w: Tensor) -> Tensor:
            own = w.square().sum(-1, keepdim=True)
            return (_paired(C, C) - own) / (1 - own)

        return self.share.sum() * (within(C_x, w) + within(C_y, v) - 2 * _paired(C_x, C_y))

    def mean(self, values: Tensor) -> Tensor:
        """The mean over frequencies, each with its share."""
        return (values * (self.share / self.share.sum())).sum(-1)

    def row_sums(self, x: Tensor, C: Tensor) -> Tensor:
        """Σ_j v_j k(x_i, y_j), (n,), from C = Σ_j v_j φ(y_j)."""
        C = C * torch.cat([self.share, self.share])
        return torch.cat(
            [(self.features(rows) @ C.unsqueeze(-1)).squeeze(-1) for rows, _ in self._tiles(x, x[..., 0])], -1
        )

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """The approximate kernel matrix."""
        return (self.features(x) * torch.cat([self.share, self.share])) @ self.features(y).mT

    def _tiles(self, x: Tensor, w: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        lead = torch.broadcast_shapes(x.shape[:-2], self.omega.shape[:-2])
        size = max(1, HELD // (2 * self.omega.shape[-2] * math.prod(lead)))
        for start in range(0, x.shape[-2], size):
            yield x[..., start : start + size, :], w[..., start : start + size]


def check(kernel: Any) -> None:
    """Raise NotImplementedError for a kernel whose spectral law is not known."""
    list(_terms(kernel, lambda *_: torch.empty(0), lambda *_: torch.empty(0)))


def draw(kernel: Any, points: Tensor, features: int, generator: torch.Generator | None) -> Frequencies:
    """Frequencies for a kernel with known bandwidths, in the dtype and on the device of ``points``.

    The terms of a mixture or sum get frequencies in proportion to their shares of k(0), at least one each.
    """
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    options: dict[str, Any] = {"generator": generator, "device": generator.device, "dtype": torch.float64}
    terms = list(
        _terms(
            kernel,
            lambda *shape: torch.randn(*shape, **options).to(points.device),
            lambda *shape: torch.rand(*shape, **options).to(points.device),
        )
    )
    total = sum(share for share, _ in terms)
    counts = [max(1, round(features * share / total)) for share, _ in terms]
    omegas = [found(count, points.shape[-1]) for count, (_, found) in zip(counts, terms, strict=True)]
    lead = torch.broadcast_shapes(*(omega.shape[:-2] for omega in omegas))
    omega = torch.cat([part.expand(*lead, *part.shape[-2:]) for part in omegas], -2)
    shares = [share / count for count, (share, _) in zip(counts, terms, strict=True) for _ in range(count)]
    return Frequencies(omega.to(points), torch.tensor(shares, dtype=torch.float64).to(points))


def compute(kernel: Any, s: Samples, features: int, generator: torch.Generator | None) -> Tensor:
    """The unbiased statistic with random features, (...,)."""
    found = draw(kernel, s.x, features, generator)
    w, v = mmd_variance.weights(s)
    return found.mean(found.per_frequency(found.means(s.x, w), found.means(s.y, v), w, v))


def infer(kernel: Any, s: Samples, features: int, confidence: float, generator: torch.Generator) -> Inference:
    """The statistic with an interval for the variance over points and over frequencies."""
    found = draw(kernel, s.x, features, generator)
    w, v = mmd_variance.weights(s)
    C_x, C_y = found.means(s.x, w), found.means(s.y, v)
    values = found.per_frequency(C_x, C_y, w, v)
    value = float(found.mean(values))
    spread = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    notes = (f"{len(values)} random frequencies add a standard error of {spread:.3g}",)
    effective = mmd_variance.effective(s)
    if effective < mmd_variance.FEWEST - 1e-9 or not math.isfinite(spread):
        return Inference(value, None, None, (*notes, mmd_variance.TOO_FEW))
    part = _subset(s, generator)
    own = found.share.sum()
    m = mmd_variance.assembled(
        found.row_sums(s.x, C_x) - w * own,
        found.row_sums(s.y, C_y) - v * own,
        found.row_sums(s.x, C_y),
        found.row_sums(s.y, C_x),
        w,
        v,
        mmd_variance.residuals(found, part),
    )
    if (why := m.refusal()) is not None:
        return Inference(value, None, None, (*notes, why))
    interval = m._replace(unbiased=torch.tensor(value)).interval(confidence, effective - 1, spread**2)
    return Inference(value, math.hypot(m.stderr, spread), interval, notes)


def _paired(A: Tensor, B: Tensor) -> Tensor:
    """Σ over cosine and sine of the products, (..., F)."""
    product = A * B
    F = product.shape[-1] // 2
    return product[..., :F] + product[..., F:]


def _subset(s: Samples, generator: torch.Generator) -> Samples:
    """At most 400 points a side, chosen at random."""
    sides = []
    for points, w in ((s.x, s.x_weights), (s.y, s.y_weights)):
        chosen = torch.randperm(len(points), generator=generator)[:SUBSET].to(points.device)
        sides.append((points[chosen], None if w is None else w[chosen] / w[chosen].sum()))
    return Samples(sides[0][0], sides[1][0], sides[0][1], sides[1][1])


def _terms(kernel: Any, normal: Random, uniform: Random) -> Iterator[tuple[float, Draw]]:
    """The kernel as a sum of share·(characteristic function of a law): each share, and how to draw from its law."""
    if isinstance(kernel, kernels.Scaled):
        for share, found in _terms(kernel.kernel, normal, uniform):
            yield kernel.factor * share, found
    elif isinstance(kernel, kernels.Sum):
        yield from _terms(kernel.left, normal, uniform)
        yield from _terms(kernel.right, normal, uniform)
    elif isinstance(kernel, kernels.Product):  # a product of characteristic functions is that of a sum
        right = list(_terms(kernel.right, normal, uniform))
        for share, found in _terms(kernel.left, normal, uniform):
            for other, also in right:
                yield share * other, partial(_added, found, also)
    elif type(kernel) in _LAWS:
        law = _LAWS[type(kernel)]
        lengths = kernel.lengths if not kernel.needs_points else (1.0,)
        for length in lengths:
            yield 1 / len(lengths), partial(_drawn, partial(law, kernel, h=length), normal, uniform)
    else:
        raise NotImplementedError(
            "random features need a kernel whose spectral law is known: Gaussian, Laplace, InverseMultiquadric, "
            f"RationalQuadratic, and their sums, products and multiples; got {kernel!r}"
        )


def _added(f: Draw, g: Draw, F: int, d: int) -> Tensor:
    return f(F, d) + g(F, d)


def _drawn(deviation: Callable[..., Any], normal: Random, uniform: Random, F: int, d: int) -> Tensor:
    """Normal frequencies of a random deviation."""
    return normal(F, d) * deviation(F=F, normal=normal, uniform=uniform)


def _gamma(alpha: float, u: Tensor) -> Tensor:
    """Draws of Gamma(α, 1) from uniform ones."""
    return torch.as_tensor(gammaincinv(alpha, u.cpu().numpy())).to(u)


# The random deviation of a normal frequency: each of these kernels is a mixture of Gaussian ones.
_LAWS: dict[type, Callable[..., Any]] = {
    kernels.Gaussian: lambda k, F, h, normal, uniform: 1 / h,
    # exp(−r/h) is the characteristic function of a multivariate Cauchy law of scale 1/h
    kernels.Laplace: lambda k, F, h, normal, uniform: 1 / (h * normal(F, 1).abs()),
    # E exp(−τr²/2) = (1 + r²/(2αℓ²))^(−α) for τ of Gamma(α, rate αℓ²)
    kernels.RationalQuadratic: lambda k, F, h, normal, uniform: (_gamma(k.alpha, uniform(F, 1)) / k.alpha).sqrt() / h,
    # C/(C + r²) is that with α = 1, ℓ² = C/2
    kernels.InverseMultiquadric: lambda k, F, h, normal, uniform: (_gamma(1.0, uniform(F, 1)) * 2 / h) ** 0.5,
}
