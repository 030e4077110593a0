"""One problem of entropic transport between points, by the library of `estimators.ops.native`.

Sweeps run in single precision, with potentials in double; points in double precision get their last digits from sweeps
in double. The end is certified: what a feasible plan costs above the dual value bounds the error of the value.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from estimators.ops import native
from estimators.ops.sinkhorn.certificate import certified
from estimators.ops.sinkhorn.points import CERTAIN, STEP, TIGHTER

KEPT = 2**28  # bytes of a kernel matrix that is kept between evaluations
# ε, of the largest cost, that the precision of the points can tell from 0.
FINEST = {torch.float32: 1e-5, torch.float64: 1e-14}
BREATH = 3e9  # pairs after which the caller's thread listens again
ROUGH = 5e-5  # marginal error from which double precision goes on
MEMORY = 10  # as in transport.cpp


class _Transport(ctypes.Structure):
    _fields_ = (
        *(
            (name, ctypes.c_void_p)
            for name in ("x", "panels", "a", "b", "f", "g", "down", "u", "absorbed", "w", "target")
        ),
        *((name, ctypes.c_void_p) for name in ("at", "slope", "step", "kept", "memory", "K", "room")),
        *((name, ctypes.c_void_p) for name in ("high", "low", "mass", "columns", "found", "epsilons")),
        *((name, ctypes.c_int64) for name in ("n", "m", "d", "stride", "each")),
        *((name, ctypes.c_double) for name in ("rho", "order", "tolerance", "error", "value", "grain")),
        *((name, ctypes.c_int32) for name in ("stages", "symmetric", "most", "done", "converged", "workers")),
        *((name, ctypes.c_int32) for name in ("stage", "pairs", "evaluated", "arrived", "passed", "abandoned")),
    )


class Side(NamedTuple):
    """One sample in the precision of the sweeps: its points in rows and in panels, and its weights."""

    rows: Tensor
    panels: Tensor
    weights: Tensor

    @staticmethod
    def of(points: Tensor, weights: Tensor, dtype: torch.dtype) -> Side:
        """Points (n, d) and weights (n,)."""
        library = _library()
        width = library.of("width", dtype)()
        rows = points.to(dtype).contiguous()
        n, d = rows.shape
        panels = torch.empty(-(-n // width) * width * d, dtype=dtype)
        library.of("pack", dtype)(_at(rows), *map(ctypes.c_int64, (1, n, d)), _at(panels))
        return Side(rows, panels, weights)


def _library() -> native.Library:
    found = native.library()
    assert found is not None  # `why_not` was asked
    return found


def _at(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


class Problem:
    """Points x and y: what the library reads and writes for them, with its room, for a number of workers."""

    def __init__(
        self, x: Side, y: Side, f: Tensor, g: Tensor, epsilons: list[float], rho: float, power: float, workers: int
    ) -> None:
        dtype, (n, d), m = x.rows.dtype, x.rows.shape, len(y.rows)
        self.library, self.dtype, self.workers = _library(), dtype, workers
        width = self.library.of("width", dtype)()
        stride = -(-m // width) * width
        each = max(5 * stride, d * self.library.of("room", dtype)())
        sizes = [m, n, m, m, m, m, m, m, 2 * m, 2 * MEMORY * m, workers * stride, workers * 6]
        doubles = torch.empty(sum(sizes), dtype=torch.float64).split(sizes)
        self.down, u, absorbed, w, self.target, at, slope, step, kept, memory, columns, found = doubles
        high, low, self.mass, room = torch.empty(3 * stride + workers * each, dtype=dtype).split(
            [stride, stride, stride, workers * each]
        )
        fall = torch.tensor(epsilons, dtype=torch.float64)
        self.f, self.g, self.held = f, g, (x, y, doubles, high, room, fall)
        self.c = _Transport(
            *(_at(t) for t in (x.rows, y.panels, x.weights, y.weights, f, g, self.down, u, absorbed, w, self.target)),
            *(_at(t) for t in (at, slope, step, kept, memory)), None, _at(room),
            *(_at(t) for t in (high, low, self.mass, columns, found, fall)), n, m, d, stride, each,
            rho, power, 0.0, math.inf, 0.0, 0.0, len(epsilons), 0, 0, 0, 0, workers, 0, 0, 0, 0, 0, 0,
        )  # fmt: skip

    def call(self, name: str, *arguments: Any) -> None:
        """A function of the library by all workers at once."""
        function = self.library.of(f"transport_{name}", self.dtype)

        def run(worker: int) -> None:
            function(ctypes.byref(self.c), ctypes.c_int64(worker), *arguments)

        def stop() -> None:
            self.c.abandoned = 1

        native.together(self.workers, run, stop)

    def solve(
        self, symmetric: bool, tolerance: float, before: int, most: int, progress: Callable[[int], None] | None
    ) -> tuple[int, float]:
        """Sweeps done, ``most`` with those ``before``, and the L1 error of the columns; a further call goes on."""
        c, done = self.c, before
        c.symmetric, c.tolerance = symmetric, tolerance
        if c.K is None and c.n * c.stride * self.dtype.itemsize <= KEPT:
            self.K = torch.empty(c.n * c.stride, dtype=self.dtype)
            c.K = self.K.data_ptr()
        while True:
            c.most = max(1, min(most - done, int(BREATH / (c.n * c.m))))
            self.call("solve")
            done += c.done
            if c.converged or (done >= most and c.evaluated):  # at the last ε
                return done - before, c.error
            if progress is not None:
                progress(done)

    def row(self, name: str, weights: Tensor) -> Tensor:
        """Σ_j w_j π_ij for "sums", Σ_j w_j c_ij for "costs", Σ_j w_j π_ij ∂c_ij/∂x_i for "slopes"; π unweighted."""
        self.c.evaluated = 0
        self.call("prepare")
        self.mass.zero_()[: len(weights)] = weights
        shape = (self.c.n, self.c.d) if name == "slopes" else (self.c.n,)
        out = torch.zeros(shape, dtype=torch.float64)
        self.call(name, _at(out))
        return out


class Solved(NamedTuple):
    """What is found for one problem."""

    f: Tensor
    g: Tensor
    value: float  # of the dual
    error: float  # of the marginals, in L1
    gap: float  # a bound of the error of the value


def solve(
    x: Tensor,
    y: Tensor,
    a: Tensor,
    b: Tensor,
    epsilon: float,
    rho: float,
    power: float,
    *,
    symmetric: bool,
    tolerance: float,
    iterations: int,
    workers: int,
    progress: Callable[[int], None] | None,
) -> Solved:
    """One problem, (n, d) and (m, d), ρ = inf for exact marginals."""
    a, b = (w.detach().double().contiguous() for w in (a, b))
    f, g = (w.new_zeros(len(w)) for w in (a, b))
    top = math.fsum(float(p.detach().double().square().sum(-1).amax()) ** 0.5 for p in (x, y)) ** power
    falling = [top / STEP**k for k in range(max(0, math.ceil(math.log(top / epsilon, STEP))))] + [epsilon]
    sweeps = 0
    for dtype in (torch.float32, torch.float64)[: 1 if x.dtype == torch.float32 else 2]:
        coarse = [e for e in falling if e >= FINEST[dtype] * top] or falling[:1]
        falling = falling[len(coarse) :] or falling[-1:]
        sides = Side.of(x.detach(), a, dtype), Side.of(y.detach(), b, dtype)
        problem = Problem(*sides, f, g, coarse, rho, power, workers)
        last = dtype == x.dtype
        goal = tolerance if last else max(tolerance, ROUGH)
        while True:
            done, error = problem.solve(symmetric, goal, sweeps, iterations, progress)
            sweeps += done
            if not last:
                break
            value, gap = _certified(problem, sides, epsilon, rho)
            if sweeps >= iterations or (error <= goal and gap <= CERTAIN * (abs(value) + epsilon)):
                return Solved(f, problem.target, value, error, gap)
            goal = min(goal, error) / TIGHTER
    raise AssertionError("unreachable")


def _certified(problem: Problem, sides: tuple[Side, Side], epsilon: float, rho: float) -> tuple[float, float]:
    """The dual value at f and the g that is exact for it, and how much more a feasible plan costs."""
    a, b = (side.weights for side in sides)
    e, r = (torch.tensor(t, dtype=torch.float64) for t in (epsilon, rho))
    value, gap = certified(
        a, b, problem.f, problem.g, problem.target, problem.down, e, r if rho < math.inf else None,
        partial(problem.row, "sums"), partial(problem.row, "costs"),
    )  # fmt: skip
    return float(value), float(gap)
