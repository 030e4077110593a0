"""Entropic transport between points on CUDA by Triton: a batch of problems in each launch, O((n + m)·d) memory.

An evaluation of the dual is two launches, an online log-sum-exp over the columns of every row and one over the rows of
every column; the solver between them (`semi_dual`) is torch's on the same device, in float64. The host looks at the
device once in a block of evaluations. On a CPU it runs under Triton's interpreter alone, which is for tests.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from estimators.ops.pairwise import forms, gradient
from estimators.ops.pairwise import triton as pairwise
from estimators.ops.sinkhorn.certificate import certified
from estimators.ops.sinkhorn.points import CERTAIN, STEP, TIGHTER, Given, Path
from estimators.ops.sinkhorn.semi_dual import LN2, Ascent, SemiDual

BLOCK = 10  # evaluations between two looks at the device
# Roundings of an exponent that one of ‖a‖² + ‖b‖² may cost where distances by matrix products are taken as they are.
FREE = 32.0
MANTISSA = 24  # bits of float32
# The share of the rows of a tile of sums, with products or without, for which registers are left.
ROWS = {("softmin", True): 1, ("softmin", False): 2, ("slopes", True): 2, ("slopes", False): 4}


def why_not(x: Tensor, y: Tensor, a: Tensor, b: Tensor, power: float | None) -> str:
    """What keeps Triton from this transport; nothing where it can. No number on the GPU is read."""
    if power is None:
        return "a cost that is no power of the Euclidean distance"
    if any(t.device != x.device for t in (y, a, b)):
        return "points and weights on several devices"
    if wrong := pairwise.absent(x.device):
        return wrong
    if not gradient.is_plain(x, y, a, b):
        return "a transform of torch.func, or a subclass of Tensor"
    if x.dtype not in forms.LENGTHS or y.dtype != x.dtype:
        return f"points of {x.dtype} and {y.dtype}"
    return forms.unfit(x, y, a, b)


def described(x: Tensor) -> str:
    """The way that Triton takes."""
    return pairwise.described(x)


def constants(kind: str, x: Tensor, precision: str, power: float, same: bool) -> dict[str, Any]:
    """How "softmin" or "slopes" of points like x are compiled: as sums of pairs are, with a share of their rows."""
    products = pairwise.by_products(x)
    found = pairwise.constants("sums" if kind == "softmin" else kind, x, precision)
    found["BM"] //= ROWS[kind, products]
    order = int(power) if power in (1, 2) else 0
    return found | {"ORDER": order, "SAME": same, "SPLIT": x.dtype == torch.float32}


class _Kernels:
    """The sums over pairs of a batch of problems."""

    def __init__(self, given: Given, symmetric: bool, precision: str) -> None:
        self.points = given.x, given.y
        self.weights = given.a.double(), given.b.double()
        self.logs = [w.log2().contiguous() for w in self.weights]
        self.power, self.symmetric, self.precision = given.power, symmetric, precision
        self.radii = sum(p.double().square().sum(-1).amax(-1).sqrt() for p in self.points)
        self.top = self.radii**given.power
        self.centre = given.y.mean(-2).contiguous() if pairwise.by_products(given.x) else given.x
        self.known: tuple[Tensor, Tensor] | None = None

    def _numbers(self, epsilon: Tensor) -> Tensor:
        """S, p/2, the squared length below which rounding is harmless, and the grain of high parts: (B, 4)."""
        if self.known is not None and self.known[0] is epsilon:
            return self.known[1]
        s, p = 1 / (LN2 * epsilon), self.power
        # s·c changes by s·p/2·r^(p − 2) times the rounding of r²; for p < 2 it is steepest at 0.
        free = (2 * FREE / (p * s)) ** (2 / p) if p >= 2 else torch.zeros_like(s)
        # Potentials are about as large as costs, less the logarithm of a weight; larger ones lose a digit, no more.
        grain = (4 * (self.top * s + 64)).log2().ceil().sub(MANTISSA).exp2()
        largest = torch.finfo(torch.float32).max
        found = torch.stack([s, torch.full_like(s, p / 2), free.clamp(max=largest), grain], -1)
        self.known = epsilon, found
        return found

    def _tiles(self, kind: str, side: int) -> tuple[Any, ...]:
        x, y = self.points[side], self.points[1 - side]
        problems, n, d = x.shape
        m = y.shape[1]
        given = constants(kind, x, self.precision, self.power, self.symmetric)
        of = "sums" if kind == "softmin" else kind
        given["BM"], blocks, parts, step = pairwise.shares(of, x.device, problems, n, m, given)
        return x, y, problems, blocks, parts, (blocks, n, m, d, step, *x.stride(), *y.stride()), given

    def softmin(
        self, own: Tensor, other: Tensor, side: int, epsilon: Tensor, active: Tensor, log_w: Tensor | None = None
    ) -> Tensor:
        """As `semi_dual.Softmin`, for rows of x (side 0) or y, with the weights of the other side or others."""
        from estimators.ops.sinkhorn.triton_kernels import softmin_kernel

        x, y, problems, blocks, parts, sizes, given = self._tiles("softmin", side)
        found = x.new_empty(parts, problems, x.shape[1], dtype=torch.float64)
        weights = self.logs[1 - side] if log_w is None else log_w
        with pairwise.on(x.device):
            softmin_kernel[(problems * blocks, parts)](
                x, y, own.contiguous(), other.contiguous(), weights, self.centre, self._numbers(epsilon),
                active.to(torch.int32), found, *sizes, **given,
            )  # fmt: skip
        return found[0] if parts == 1 else torch.logsumexp(found * LN2, 0) / LN2

    def slopes(self, own: Tensor, other: Tensor, side: int, epsilon: Tensor) -> Tensor:
        """Σ_j π_ij ∂c_ij/∂x_i, (B, n, d), for rows of x (side 0) or y."""
        from estimators.ops.sinkhorn.triton_kernels import slopes_kernel

        x, y, problems, blocks, parts, sizes, given = self._tiles("slopes", side)
        n, d = x.shape[1:]
        found = x.new_empty(parts, problems, n, d, dtype=x.dtype if parts == 1 else torch.float64)
        with pairwise.on(x.device):
            slopes_kernel[(problems * blocks, parts, -(-d // given["BC"]))](
                x, y, own.contiguous(), other.contiguous(), self.logs[side], self.logs[1 - side], self.centre,
                self._numbers(epsilon), found, *sizes, **given,
            )  # fmt: skip
        return found[0] if parts == 1 else found.sum(0).to(x.dtype)

    def costs(self, w: Tensor) -> Tensor:
        """Σ_j w_j c_ij, (B, n)."""
        x, y = self.points
        terms = (("distance", 1.0, 1.0, self.power),)
        return pairwise.sums(terms, x, y, w.to(x.dtype), False, precision=self.precision)


def solve(given: Given, how: Any) -> tuple[Tensor, ...]:
    """As `points.Path` says."""
    symmetric, tolerance, most, progress = (how[k] for k in ("symmetric", "tolerance", "iterations", "progress"))
    epsilon, rho = given.epsilon, given.rho
    by = _Kernels(given, symmetric, how["precision"])
    dual = SemiDual(by.softmin, *by.weights, rho, torch.finfo(given.x.dtype).eps, symmetric)
    stages = max(0, math.ceil(math.log(max(float((by.top / epsilon).max()), 1.0), STEP)))
    falling = [torch.maximum(epsilon, by.top / STEP**k) for k in range(stages)]
    ascent = dual.start(
        *dual.anneal(torch.zeros_like(by.weights[0]), torch.zeros_like(by.weights[1]), falling), epsilon
    )
    done, goal = stages + 1, torch.full_like(epsilon, tolerance)
    while True:
        while done < most and bool(ascent.active(goal).any()):
            for _ in range(min(BLOCK, most - done)):
                ascent.advance(goal)
                done += 1
            if progress is not None:
                progress(done)
        value, gap = _certified(by, ascent, epsilon, rho)
        wide = ~(gap <= CERTAIN * (value.abs() + epsilon))
        if done >= most or not bool(wide.any()):
            break
        goal = torch.where(wide, torch.minimum(goal, ascent.best.error) / TIGHTER, goal)
    return value, ascent.best.error, gap, ascent.best.f, ascent.best.target


def _certified(by: _Kernels, ascent: Ascent, epsilon: Tensor, rho: Tensor | None) -> tuple[Tensor, Tensor]:
    best = ascent.best
    everywhere = torch.ones_like(epsilon)

    def row_sums(w: Tensor) -> Tensor:
        return by.softmin(best.f, best.g, 0, epsilon, everywhere, w.log2()).exp2()

    a, b = by.weights
    return certified(a, b, best.f, best.g, best.target, best.down, epsilon, rho, row_sums, by.costs)


def slopes(given: Given, f: Tensor, g: Tensor, wanted: tuple[bool, bool], how: Any) -> list[Tensor | None]:
    """As `points.Path` says."""
    by = _Kernels(given, how["symmetric"], how["precision"])
    h = f, g
    return [by.slopes(h[k], h[1 - k], k, given.epsilon) if want else None for k, want in enumerate(wanted)]


BY = Path(solve, slopes)
