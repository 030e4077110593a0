"""What the ops know of a kernel: its terms a·f(‖x − y‖²), in letters that the library and Triton share."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

Term = tuple[str, float, Any, float]  # form, factor, scale and power, as `divergences.kernels` give them
LARGEST = 100.0  # power of a rational quadratic kernel from which its base is too near to 1
# Lengths L and points r so that r²/L² and its powers are far from the ends of the numbers.
LENGTHS = {torch.float32: 1e6, torch.float64: 1e60}
POINTS = {torch.float32: 1e12, torch.float64: 1e80}
HALVINGS = 8  # by which powers of one exponential may go on: each doubles its rounding, in ever smaller values

GAUSSIAN = 0  # 2^(p·d²)
SQUARED = 1  # the q-times squared value of the term before it: a Gaussian, whose own exponent is p·d²
LAPLACE = 2  # 2^(p·d)
INVERSE = 3  # p/(p + d²)
RATIONAL = 4  # (1 + p·d²)^q
DISTANCE = 5  # d
POWER = 6  # (d²)^q


class Lowered(NamedTuple):
    """A term; ``p`` is a tensor (..., 1, 1) where each problem of a batch has its own length."""

    a: float
    p: Any
    q: float
    form: int


# What a term's length and power are in these letters.
_LOWER: dict[str, Callable[[float, Any, float], Lowered]] = {
    "gaussian": lambda a, h, _: Lowered(a, -0.5 / (math.log(2) * h * h), 0.0, GAUSSIAN),
    "laplace": lambda a, h, _: Lowered(a, -1 / (math.log(2) * h), 0.0, LAPLACE),
    "inverse": lambda a, C, _: Lowered(a, C, 0.0, INVERSE),
    "rational": lambda a, length, alpha: Lowered(a, 0.5 / (alpha * length * length), -alpha, RATIONAL),
    "distance": lambda a, _, order: Lowered(a, 0.0, order / 2, DISTANCE if order == 1 else POWER),
}


def lowered(terms: Sequence[Term]) -> list[Lowered]:
    """The terms, Gaussians first and by falling width, as powers of the one before where that is exact enough."""
    found = [_LOWER[form](factor, scale, power) for form, factor, scale, power in terms]
    known = [t for t in found if t.form == GAUSSIAN and not isinstance(t.p, Tensor)]
    others = [t for t in found if t.form != GAUSSIAN or isinstance(t.p, Tensor)]
    gaussians = sorted(known, key=lambda t: -t.p)
    since = 0  # halvings since the last exponential
    for k, (wide, narrow) in enumerate(itertools.pairwise(gaussians), 1):
        halvings = math.log2(narrow.p / wide.p)
        since += round(halvings)
        # A power of a smaller factor is smaller than what it is a power of, and its error matters as little.
        if since <= HALVINGS and abs(halvings - round(halvings)) < 1e-12 and 0 <= narrow.a <= wide.a:
            gaussians[k] = narrow._replace(form=SQUARED, q=float(round(halvings)))
        else:
            since = 0
    return [*gaussians, *others]


def at_zero(terms: Sequence[Any]) -> float:
    """The kernel at x = y, of lowered terms."""
    return sum(t.a for t in terms if t.form not in (DISTANCE, POWER))


def why_not(terms: Sequence[Term] | None, dtype: torch.dtype) -> str:
    """What keeps terms from being summed in these letters; nothing where they can be. Numbers on a GPU are not read."""
    if terms is None:
        return "the kernel has no terms of ‖x − y‖² that the library knows"
    limit = LENGTHS[dtype]
    for form, factor, scale, power in terms:
        if isinstance(scale, Tensor) and scale.requires_grad and torch.is_grad_enabled():
            return "a gradient in the kernel's parameters"
        if form == "rational" and power > LARGEST:
            return f"a power above {LARGEST:g}"
        sizes = [abs(factor)]
        if not isinstance(scale, Tensor):
            sizes.append(scale)
        elif scale.device.type == "cpu":
            sizes += [float(scale.detach().min()), float(scale.detach().max())]
        if not all(1 / limit <= size <= limit for size in sizes):
            return f"a length or factor beyond {limit:g} or its reciprocal"
    return ""


def misfit(x: Tensor, y: Tensor, *weights: Tensor | None) -> str:
    """What is wrong with the shapes; nothing where they fit. Weights are those of y, or those of x and y."""
    given = [x, y, *(w for w in weights if w is not None)]
    shapes = ", ".join(str(tuple(t.shape)) for t in given)
    if x.ndim < 2 or y.ndim < 2 or x.shape[-1] != y.shape[-1]:
        return f"points must be (..., n, d) and (..., m, d): got shapes {shapes}"
    if 0 in (*x.shape[-2:], *y.shape[-2:]):
        return f"there are no points, or none with coordinates: got shapes {shapes}"
    if any(
        w is not None and (not w.ndim or w.shape[-1] != p.shape[-2])
        for w, p in zip(weights[::-1], (y, x), strict=False)
    ):
        return f"weights must be one a point, (..., n) and (..., m): got shapes {shapes}"
    return ""


def unfit(x: Tensor, y: Tensor, *weights: Tensor | None) -> str:
    """What keeps a library from points and weights of these shapes; nothing where nothing does."""
    return misfit(x, y, *weights) or ("" if x.numel() and y.numel() else "a batch of no problems")


def check(x: Tensor, y: Tensor, *weights: Tensor | None, exclude_self: bool) -> None:
    """That points and weights fit each other.

    Raises:
        ValueError: they do not, or ``exclude_self`` of samples that are not of one size.
    """
    if wrong := misfit(x, y, *weights):
        raise ValueError(wrong)
    dtypes = [t.dtype for t in (x, y, *weights) if t is not None]
    if len(set(dtypes)) > 1:
        raise ValueError(f"points and weights must have one dtype: got {', '.join(map(str, dtypes))}")
    if exclude_self and x.shape[-2] != y.shape[-2]:
        raise ValueError(
            f"exclude_self leaves out the pairs i = j of one sample: got {x.shape[-2]} and {y.shape[-2]} points"
        )


def lead_of(terms: Sequence[Term], x: Tensor, y: Tensor, *weights: Tensor | None) -> torch.Size:
    """The leading axes of a batch of problems."""
    scales = [scale.shape[:-2] for _, _, scale, _ in terms if isinstance(scale, Tensor)]
    of_weights = [w.shape[:-1] for w in weights if w is not None]
    shapes = {x.shape[:-2], y.shape[:-2], *of_weights, *scales}
    return shapes.pop() if len(shapes) == 1 else torch.broadcast_shapes(*shapes)  # which takes longer than small sums
