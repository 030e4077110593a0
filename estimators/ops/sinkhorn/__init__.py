"""Entropic optimal transport: potentials, dual value and certificate, for points or for a matrix of costs.

Powers of the Euclidean distance between points go to the library of `estimators.ops.native` on the CPU, and to Triton
on CUDA, where they are there: memory is O((n + m)·d), on the CPU beyond 256 MiB. Any other cost is a matrix of torch
(`dense`). `explain` tells which.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from estimators.ops.envelope import Envelope
from estimators.ops.pairwise import forms
from estimators.ops.pairwise.triton import Precision, check_precision
from estimators.ops.sinkhorn import dense, native, points, triton
from estimators.ops.sinkhorn.dense import plan, rounded

__all__ = ["Cost", "Explained", "Path", "Transported", "explain", "plan", "rounded", "transport"]

Path = Literal["native", "triton", "dense"]

ROUNDING = 100.0  # units of rounding of the largest cost below which ε cannot be told from 0


class Cost(NamedTuple):
    """c(x, y) -> (..., n, m), and p where that is ‖x_i − y_j‖^p."""

    of: Callable[[Tensor, Tensor], Tensor]
    power: float | None = None


class Transported(NamedTuple):
    """What `transport` finds, for each problem of a batch."""

    value: Tensor  # (...,) of the dual, at most that of the problem; differentiable in points and weights
    f: Tensor  # (..., n)
    g: Tensor  # (..., m)
    error: Tensor  # (...,) of the marginals, in L1
    gap: Tensor  # (...,) what a feasible plan costs above the value
    slope_f: Tensor  # (..., n) the derivative of the value in the weights of x, up to a constant
    slope_g: Tensor  # (..., m)
    epsilon: Tensor  # (...,) as it was taken


class Explained(NamedTuple):
    """Which path transport takes, and why."""

    path: Path
    why: str


def explain(x: Tensor, y: Tensor, a: Tensor, b: Tensor, cost: Cost) -> Explained:
    """The path: "native", the library of `estimators.ops.native`, "triton", or "dense", torch."""
    return _taken(None, x, y, a, b, cost)


_BY: dict[str, Any] = {"native": native, "triton": triton}


def _taken(path: Path | None, x: Tensor, y: Tensor, a: Tensor, b: Tensor, cost: Cost) -> Explained:
    """The path that is asked for or, where none is, the one of the device that the points are on."""
    if path not in (None, "dense", *_BY):
        raise ValueError(f'path must be None, "native", "triton" or "dense": got {path!r}')
    if path == "dense":
        return Explained("dense", "asked for")
    wanted: Path = path or ("triton" if x.device.type == "cuda" else "native")
    why = _BY[wanted].why_not(x, y, a, b, cost.power)
    if why and path:
        raise ValueError(f'path="{path}" cannot be taken: {why}')
    return Explained("dense", why) if why else Explained(wanted, _BY[wanted].described(x))


def transport(
    x: Tensor,
    y: Tensor,
    a: Tensor,
    b: Tensor,
    epsilon: Tensor,
    cost: Cost,
    rho: Tensor | None = None,
    *,
    symmetric: bool = False,
    tolerance: float = 1e-3,
    iterations: int = 1000,
    certify: bool = True,
    progress: Callable[[int], None] | None = None,
    path: Path | None = None,
    precision: Precision = "accurate",
) -> Transported:
    """max_{f,g} ⟨a, f⟩ + ⟨b, g⟩ − ε (Σ_ij π_ij − 1), π_ij = a_i b_j exp((f_i + g_j − c_ij)/ε), for x (..., n, d).

    y is (..., m, d), weights (..., n) and (..., m), ε and ρ (...,); ρ relaxes the marginals to ρ·KL. An ε below the
    rounding of the costs is raised to it. Sweeps go on until the marginals are right to ``tolerance`` in L1 and, on the
    path "native", the gap is small as well, or ``iterations`` are done: the caller looks at ``error`` and ``gap``.
    ``symmetric`` says that the two measures are the same. ``certify`` asks for the gap, which the path "dense" leaves
    at 0 otherwise, as it costs as much as some sweeps. First derivatives only, with the potentials held. ``precision``
    "tf32" multiplies float32 points of more than 16 coordinates in TF32: faster, and distances are right to about three
    digits of the spread of the points. It needs the path "triton"; all paths have "accurate".

    Raises:
        ValueError: points or weights that do not fit; an ε that is not positive; no such path or precision, or one that
            cannot be taken, and why.
    """
    if wrong := forms.misfit(x, y, a, b):
        raise ValueError(wrong)
    if epsilon.device.type == "cpu" and not bool((epsilon > 0).all()):
        raise ValueError(f"epsilon must be positive: got {epsilon.tolist()}")
    taken = _taken(path, x, y, a, b, cost)
    check_precision(precision, taken.path, taken.why, x.dtype)
    how: dict[str, Any] = {"symmetric": symmetric, "tolerance": tolerance, "iterations": iterations}
    how["progress"] = progress
    if taken.path == "dense":
        return _dense(x, y, a, b, epsilon, cost, rho, certify, how)
    how["precision"] = precision
    with torch.no_grad():
        radii = [p.square().sum(-1).amax(-1).sqrt() for p in (x, y)]
        epsilon = _raised(epsilon, (radii[0] + radii[1]).pow(cost.power or 1.0))
    lead = torch.broadcast_shapes(x.shape[:-2], y.shape[:-2], a.shape[:-1], b.shape[:-1], epsilon.shape)
    flat = [t.expand(*lead, *t.shape[-k:]).reshape(-1, *t.shape[-k:]) for t, k in ((x, 2), (y, 2), (a, 1), (b, 1))]
    each = [
        None if t is None else t.detach().expand(lead).reshape(-1).to(x.device, torch.float64) for t in (epsilon, rho)
    ]
    value, error, gap, f, g = points.Transport.apply(*flat, *each, cost.power, _BY[taken.path].BY, how)
    value, error, gap, f, g = (t.reshape((*lead, *t.shape[1:])) for t in (value, error, gap, f, g))
    return _transported(value, f, g, error, gap, epsilon, rho)


def _dense(
    x: Tensor,
    y: Tensor,
    a: Tensor,
    b: Tensor,
    epsilon: Tensor,
    cost: Cost,
    rho: Tensor | None,
    certify: bool,
    how: dict,
) -> Transported:
    C = cost.of(x, y)
    lead = C.shape[:-2]
    a, b, epsilon = a.expand(*lead, -1), b.expand(*lead, -1), epsilon.expand(lead)
    with torch.no_grad():
        epsilon = _raised(epsilon, C.abs().amax((-2, -1)))
        f, g, value, error, _ = dense.solve(C, a, b, epsilon, rho, **how)
        gap = dense.primal(C, a, b, epsilon, rho, f, g) - value if certify else torch.zeros_like(value)
        found = _transported(value, f, g, error, gap, epsilon, rho)
        pi = plan(C, a, b, epsilon, f, g)
    return found._replace(value=Envelope.apply(C, a, b, value, pi, found.slope_f, found.slope_g))


def _raised(epsilon: Tensor, largest: Tensor) -> Tensor:
    """Below the rounding of the costs ε changes nothing but would overflow: OT changes by less than ε·log n."""
    return torch.maximum(epsilon, ROUNDING * torch.finfo(largest.dtype).eps * largest)


def _transported(
    value: Tensor, f: Tensor, g: Tensor, error: Tensor, gap: Tensor, epsilon: Tensor, rho: Tensor | None
) -> Transported:
    of_a, of_b = (points.weight_slopes(h, epsilon, rho) for h in (f, g))
    return Transported(value, f, g, error, gap, of_a, of_b, epsilon)
