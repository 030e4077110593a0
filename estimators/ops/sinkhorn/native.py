"""Entropic transport between points on the CPU: a batch of problems by the library."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from estimators.ops import native
from estimators.ops.pairwise import forms
from estimators.ops.sinkhorn.points import Given, Path
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
    if wrong := forms.unfit(x, y, a, b):
        return wrong
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


def solve_batch(given: Given, how: Any) -> tuple[Tensor, ...]:
    """As `points.Path` says."""
    problems = _problems(given)
    found: list[Any] = [None] * len(problems)
    progress, how = how["progress"], {name: how[name] for name in ("symmetric", "tolerance", "iterations")}

    def run(_: int, k: int) -> None:
        found[k] = solve(*problems[k], workers=each, progress=progress if len(found) == 1 else None, **how)

    apart, each = _workers(given.x, given.y)
    native.share_out(len(problems), apart, run)
    numbers = torch.tensor([[one.value, one.error, one.gap] for one in found], dtype=torch.float64)
    return *numbers.unbind(-1), *(torch.stack([getattr(one, name) for one in found]) for name in "fg")


def slopes(given: Given, f: Tensor, g: Tensor, wanted: tuple[bool, bool], how: Any) -> list[Tensor | None]:
    """As `points.Path` says."""
    problems = _problems(given)
    apart, each = _workers(given.x, given.y)
    found = [torch.empty_like(p) if want else None for want, p in zip(wanted, given[:2], strict=True)]

    def run(_: int, k: int) -> None:
        *points, epsilon_k, rho_k, _ = problems[k]
        sides = [Side.of(p, w.double(), p.dtype) for p, w in zip(points[:2], points[2:], strict=True)]
        potentials = f[k], g[k]
        for own, other in ((0, 1), (1, 0)):
            if (out := found[own]) is not None:
                h = potentials[own], potentials[other]
                one = Problem(sides[own], sides[other], *h, [epsilon_k], rho_k, given.power, each)
                out[k] = (sides[own].weights.unsqueeze(-1) * one.row("slopes", sides[other].weights)).to(out.dtype)

    native.share_out(len(problems), apart, run)
    return found


BY = Path(solve_batch, slopes)


def _problems(given: Given) -> list[tuple[Any, ...]]:
    x, y, a, b, epsilon, rho, power = given
    rhos = [math.inf] * len(x) if rho is None else rho.tolist()
    return list(zip(x, y, a, b, epsilon.tolist(), rhos, [power] * len(x), strict=True))


def _workers(x: Tensor, y: Tensor) -> tuple[int, int]:
    """Problems at a time, and workers of each."""
    B, n, d = x.shape
    work = SWEEPS * n * y.shape[1] * (d + EXPONENTIAL)
    apart = native.threads(B, B * work)
    return apart, 1 if apart > 1 else native.threads(n, work)
