"""How far low precision may be off: what the filters of `estimators.ops.knn.triton` read, and the bounds of distances.

Points are scaled by a power of two s, so that the largest coordinate is in [2^12, 2^13): exactly, but below 2^−126. In
more than `FEW` coordinates ℓ2 is taken from products, on tensor cores in half precision: 11 bits, as in TF32, at twice
the speed. With a = s(x − c), b = s(y − c) around a centre c and ã, b̃ rounded to halves, ε = 2^−11, each coordinate is
wrong by ε times itself and 2^−25, and with A = ‖a‖², B = ‖b‖²

    |2ab − 2ãb̃| <= (4ε + 2ε²)‖a‖‖b‖ + 2^−24 √d (‖a‖ + ‖b‖) + d 2^−48 <= (2^−10 + 2^−16)(A + B) + d 2^−32.

Products of halves are exact in float32; tensor cores add them up with a truncation each, at most d 2^−23 (A + 2B) here.
Together with what a, b, A, B and sums of three of them are rounded by, also in float64 at the end,

    |A + B − 2ãb̃ − s²‖x − y‖²| <= h(A + B) + z,    h = 2^−10 + 2^−15 + (d + 64) 2^−22,    z = d 2^−32,

so that with L = B(1 − h) − 2ãb̃, A(1 − h) + L − z is a lower bound of s²‖x − y‖² and A(1 + h) + L + 2hB + z an upper
one. Of the nearest k points none has L above m + 2hA + 2z, where m is the largest L + 2hB of any k points.

Where that leaves too much, a and b are split in two halves each, ã + α and b̃ + β. The sum of the products ãb̃, ãβ and
αb̃ lacks αβ <= ε²‖a‖‖b‖ and what is left of a and b, ε² and 2^−25 of each coordinate, and has 3d terms to add up:

    h = 2^−20 + (3d + 64) 2^−22,    z = d 2^−26.

Otherwise t = ‖x̃ − ỹ‖, squared for ℓ2, is taken in float32 by differences: of points of float32 as they are, so that its
relative error is below λ = (d + 8) 2^−21 and nothing more is lost, and of points of float64 less the centre rounded, by
r <= 2^−24 ‖x̃‖ each. For p = 1, |‖x − y‖ − ‖x̃ − ỹ‖| <= r_i + r_j; for p = 2 with any η, here 2^−18,

    ‖x − y‖² <= (1 + η)‖x̃ − ỹ‖² + u_i + u_j,    u = (1 + η)(2/η) r² <= 2^−28 ‖x̃‖²,

and the other way round. u is taken twice as large, for its own rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from estimators.ops.knn.native import SOME
from estimators.ops.knn.reference import ORDERS

FEW = 8  # coordinates up to which distances are differences
GROUP = 32  # points
LARGE = 13  # the scaled coordinates are below 2^LARGE, and less their centre, times −2, no more than halves hold
ETA = 2.0**-18
Kind = Literal["halves", "split", "differences"]
# (h, z) of d coordinates.
MARGINS: dict[str, Callable[[int], tuple[float, float]]] = {
    "halves": lambda d: (2.0**-10 + 2.0**-15 + (d + 64) * 2.0**-22, d * 2.0**-32),
    "split": lambda d: (2.0**-20 + (3 * d + 64) * 2.0**-22, d * 2.0**-26),
}


def kinds(d: int, metric: str) -> tuple[Kind, ...]:
    """The filters for these points, each slower than the one before, and nearer to the truth."""
    return ("halves", "split", "differences") if metric == "euclidean" and d > FEW else ("differences",)


class Narrow(NamedTuple):
    """What a filter reads of all problems, in whole tiles, and how its sums bound distances."""

    x: Tensor  # (B, Q, d or, split, 3d) of halves, or (B, d, Q) of float32
    y: Tensor  # with M points, likewise
    term: Tensor  # (B, M), infinite beyond the last point
    spread: Tensor  # (B, groups): upper bounds less lower ones, by their columns
    slack: Tensor  # (B, q): the same by their rows
    stretch: float  # and relative to the sum


def scaled(y: Tensor, x: Tensor, centred: bool) -> tuple[Tensor, Tensor]:
    """Both times a power of two, (B, 1, 1), that makes the largest coordinate some 2^LARGE, and less a centre of y."""
    largest = torch.maximum(*(torch.linalg.vector_norm(p, torch.inf, (-2, -1), True) for p in (y, x)))
    kind, bits, bias, most = (torch.int32, 23, 127, 120) if y.dtype == torch.float32 else (torch.int64, 52, 1023, 1000)
    exponent = (LARGE - largest.frexp().exponent).clamp(-most, most)
    s = ((exponent.to(kind) + bias) << bits).view(y.dtype)  # exactly
    if not centred:
        return y * s, x * s
    # By the median an outlier does not move the others' origin, from which rounding counts.
    sample = (y[:, :: -(-y.shape[1] // SOME)] * s).sort(1).values
    c = sample[:, sample.shape[1] // 2, None]
    return (y * s).sub_(c), (x * s).sub_(c)


def _norms(a: Tensor, order: float) -> Tensor:
    """In float64."""
    return torch.linalg.vector_norm(a, order, -1, dtype=torch.float64)


def _by_group(term: Tensor, spread: Tensor, how: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The terms of the columns of whole tiles, and the largest spread of each group, in float32."""
    B, m = term.shape
    M = -(-m // how["BN"]) * how["BN"]
    padded = term.new_full((B, M), torch.inf, dtype=torch.float32)
    padded[:, :m] = term
    widest = term.new_zeros(B, M)
    widest[:, :m] = spread
    return padded, widest.unflatten(1, (-1, GROUP)).amax(-1).float()


def narrowed(kind: Kind, y: Tensor, x: Tensor, metric: str, how: dict[str, Any]) -> Narrow:
    """What the filter reads of (B, m, d) points and (B, q, d) queries."""
    return _singles(y, x, metric, how) if kind == "differences" else _halves(kind, y, x, how)


def _halves(kind: Kind, y: Tensor, x: Tensor, how: dict[str, Any]) -> Narrow:
    """Of −2ã and b̃ or, split, of −2(ã, ã, α) and (b̃, β, b̃)."""
    d = x.shape[-1]
    h, z = MARGINS[kind](d)
    b, a = scaled(y, x, True)
    A, B = (_norms(part, 2).square_() for part in (a, b))
    narrow = []
    for part, rows, rests in ((a.mul_(-2), how["BM"], (0, 0, 1)), (b, how["BN"], (0, 1, 0))):
        n, width = (-(-size // whole) * whole for size, whole in ((part.shape[1], rows), (d, how["BK"])))
        first = part.half()
        pieces = (first, (part - first).half()) if kind == "split" else (first,)
        of = rests if kind == "split" else (0,)
        narrow.append(first.new_zeros(len(part), n, len(of) * width))
        for at, piece in enumerate(of):
            narrow[-1][:, : part.shape[1], at * width : at * width + d] = pieces[piece]
    term, spread = _by_group(B * (1 - h), 2 * h * B, how)
    return Narrow(narrow[0], narrow[1], term, spread, (2 * h * A + 2 * z).float(), 0.0)


def _singles(y: Tensor, x: Tensor, metric: str, how: dict[str, Any]) -> Narrow:
    """For the filter by differences."""
    d, exact, order = x.shape[-1], x.dtype == torch.float32, ORDERS[metric]
    given = scaled(y, x, not exact)
    narrow, off = [], []
    for part, rows in zip(given, (how["BN"], how["BM"]), strict=True):
        narrow.append(torch.zeros(len(part), d, -(-part.shape[1] // rows) * rows, device=x.device))
        narrow[-1][:, :, : part.shape[1]] = part.mT
        if exact:
            off.append(part.new_zeros(part.shape[:2]))
        else:
            off.append(_norms(part, 2).square_() * 2.0**-27 if order == 2 else _norms(part, order) * 2.0**-23)
    term, spread = _by_group(-off[0], 2 * off[0], how)
    stretch = (d + 8) * 2.0**-20 + (0.0 if exact else 4 * ETA)
    return Narrow(narrow[1], narrow[0], term, spread, (4 * off[1] + d * 2.0**-100).float(), stretch)
