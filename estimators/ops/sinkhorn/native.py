"""Entropic transport between points on the CPU: a batch of problems with the gradient of the envelope theorem."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from estimators.ops import native
from estimators.ops.envelope import Fixed
from estimators.ops.sinkhorn.solver import Problem, Side, solve

LIMITS = 1e-30, 1e30  # of costs
SWEEPS, EXPONENTIAL = 30, 20  # that a problem may take, and coordinates that one exponential costs


def why_not(x: Tensor, y: Tensor, a: Tensor, b: Tensor, power: float | None) -> str:
    """What keeps the library from this transport; nothing where it can."""
    if power is None:
        return "a cost that is no power of the Euclidean distance"
    if any(t.device.type != "cpu" for t in (x, y)):
        return "the points are not on the CPU"
    if not native.is_plain(x, y, a, b):
        return "a transform of torch.func, or a subclass of Tensor"
    if x.dtype not in native.SUFFIX or y.dtype != x.dtype:
        return f"points of {x.dtype} and {y.dtype}"
    if not x.numel() or not y.numel():
        return "no points"
    if native.library() is None:
        return "the library is not built: python -m estimators.ops.native"
    largest = max(float(p.detach().square().sum(-1).amax()) for p in (x, y)) ** (power / 2)
    if not LIMITS[0] <= largest <= LIMITS[1]:  # false for NaN
        return f"costs that are not finite, or about {largest:.3g}"
    return ""


def described(x: Tensor) -> str:
    """The way that the library takes."""
    library = native.library()
    return f"{library.instruction_set if library else None}, {x.dtype}, distances by squared differences"


class Transport(torch.autograd.Function):
    """Dual values of a batch of problems, their errors, gaps and potentials; only the values have a gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        y: Tensor,
        a: Tensor,
        b: Tensor,
        epsilon: Tensor,
        rho: Tensor | None,
        power: float,
        how: Any,
    ) -> tuple[Tensor, ...]:
        """Of points (B, n, d) and (B, m, d), weights (B, n) and (B, m), ε and ρ (B,)."""
        problems = _problems(x, y, a, b, epsilon, rho, power)
        found: list[Any] = [None] * len(problems)
        progress, how = how["progress"], {name: how[name] for name in ("symmetric", "tolerance", "iterations")}

        def run(_: int, k: int) -> None:
            found[k] = solve(*problems[k], workers=each, progress=progress if len(found) == 1 else None, **how)

        apart, each = _workers(x, y)
        native.share_out(len(problems), apart, run)
        f, g = (torch.stack([getattr(one, name) for one in found]) for name in "fg")
        numbers = torch.tensor([[one.value, one.error, one.gap] for one in found], dtype=torch.float64)
        ctx.save_for_backward(x, y, a, b, epsilon, rho, f, g)
        ctx.power = power
        outputs = (*numbers.to(x.dtype).unbind(-1), f.to(x.dtype), g.to(x.dtype))
        ctx.mark_non_differentiable(*outputs[1:])
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Σ_j π_ij ∂c_ij for points, potentials for weights."""
        x, y, a, b, epsilon, rho, f, g = ctx.saved_tensors
        problems = _problems(x, y, a, b, epsilon, rho, ctx.power)
        apart, each = _workers(x, y)
        found: list[Tensor | None] = [None] * 4
        for side in (0, 1):
            if ctx.needs_input_grad[side]:
                found[side] = torch.empty_like((x, y)[side])
            if ctx.needs_input_grad[2 + side]:
                found[2 + side] = weight_slopes((f, g)[side], epsilon, rho).to(x.dtype)

        def run(_: int, k: int) -> None:
            *given, epsilon_k, rho_k, _ = problems[k]
            sides = [Side.of(p, w.double(), x.dtype) for p, w in zip(given[:2], given[2:], strict=True)]
            potentials = f[k], g[k]
            for own, other in ((0, 1), (1, 0)):
                if (out := found[own]) is not None:
                    h = potentials[own], potentials[other]
                    one = Problem(sides[own], sides[other], *h, [epsilon_k], rho_k, ctx.power, each)
                    slopes = one.row("slopes", sides[other].weights)
                    out[k] = (sides[own].weights.unsqueeze(-1) * slopes).to(x.dtype)

        with torch.no_grad():
            native.share_out(len(problems), apart, run)
        grad, parts = grads[0], []
        for part, given in zip(found, (x, y, a, b), strict=True):
            if part is not None and torch.is_grad_enabled():
                part = Fixed.apply(part, given)
            parts.append(None if part is None else grad.reshape(-1, *[1] * (part.ndim - 1)) * part)
        return *parts, None, None, None, None


def _problems(
    x: Tensor, y: Tensor, a: Tensor, b: Tensor, epsilon: Tensor, rho: Tensor | None, power: float
) -> list[tuple[Any, ...]]:
    x, y, a, b = (t.detach() for t in (x, y, a, b))
    rhos = [math.inf] * len(x) if rho is None else rho.tolist()
    return list(zip(x, y, a, b, epsilon.tolist(), rhos, [power] * len(x), strict=True))


def _workers(x: Tensor, y: Tensor) -> tuple[int, int]:
    """Problems at a time, and workers of each."""
    B, n, d = x.shape
    work = SWEEPS * n * y.shape[1] * (d + EXPONENTIAL)
    apart = native.threads(B, B * work)
    return apart, 1 if apart > 1 else native.threads(n, work)


def weight_slopes(h: Tensor, epsilon: Tensor, rho: Tensor | None) -> Tensor:
    """The derivative of the dual in the weights with potentials h; for exact marginals up to a constant, unfelt."""
    if rho is None:
        return h
    r, e = rho[..., None], epsilon[..., None]
    return -r * torch.expm1(-h / r) - e * (-h / r).exp()
