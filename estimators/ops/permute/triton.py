"""Sums over pairs of bins and of labellings on CUDA by Triton: kernel values are made by tiles and not kept.

Both take half of the pairs, and add up in float64 in a fixed order, without atomics. Labellings are multiplied by tiles
of the matrix above its diagonal, on tensor cores: labels ±1 are exact in 16 bits, and a value is the sum of two numbers
of 16 bits, with 11 digits each. On a CPU it runs under Triton's interpreter alone, which is for tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from estimators.ops.pairwise import triton as pairs
from estimators.ops.pairwise.forms import Term
from estimators.ops.permute.bins import terms_of

# Of a tile of kernel values: 128 MiB in two parts of 16 bits. Of sums over longer rows float32 would lose more; with
# fewer rows, what a product of matrices costs besides would weigh more.
ROWS, COLUMNS = 4096, 8192
# Exponent of 2 that values are scaled to, as float16 ends at 16. Its steps below 2^−14 are 2^−24: what two parts round
# off is at most 2^−22 of a value, or 2^−25, and so 2^−40 of the largest.
LARGEST = 15
# The shares of the rows and columns of a tile of `pairwise` for which registers are left, by how distances are taken.
SHARES = {"bins": {"differences": (1, 4), "tf32": (2, 2)}, "tiles": {"differences": (2, 1)}}


def why_not(kernel: Any, points: Tensor, weights: Tensor | None) -> str:
    """What keeps Triton from these sums; nothing where it can."""
    terms, why = terms_of(kernel, points)
    return pairs.why_not(terms, points, points, *(() if weights is None else (weights,))) or why


def described(points: Tensor) -> str:
    """The way that Triton takes."""
    return pairs.described(points)


def constants(kind: str, points: Tensor, precision: str) -> dict[str, Any]:
    """How "bins" or "tiles" of points like these are compiled: as sums of pairs are, with a share of a tile."""
    found = pairs.constants("sums", points, precision)
    rows, columns = SHARES[kind].get(found["INPUT"] if found["PRODUCTS"] else "differences", (1, 1))
    return found | {"BM": found["BM"] // rows, "BN": found["BN"] // columns}


def _prepared(
    kind: str, terms: Sequence[Term], points: Tensor, weights: Tensor | None, precision: str
) -> pairs._Prepared:
    p = pairs._prepared("sums", terms, points, None, weights, precision)
    given = p.constants | constants(kind, points, precision)
    given["BM"], blocks, parts, _ = pairs.shares("sums", points.device, 1, p.n, p.n, given)
    return p._replace(constants=given, blocks=blocks, parts=parts)


def bin_sums(
    terms: Sequence[Term], points: Tensor, sizes: Tensor, weights: Tensor | None, precision: str = "accurate"
) -> Tensor:
    """B of `permute.bin_sums`; besides it 8·(N/128 + U)·U bytes."""
    from estimators.ops.permute.triton_kernels import bins_kernel

    p = _prepared("bins", terms, points, weights, precision)
    U, device = len(sizes), points.device
    if pairs.is_interpreted():  # a tile takes milliseconds whatever its size
        p.constants["BN"] = min(p.constants["BN"], pairs.power_of_2(int(sizes.max()), pairs.INTERPRETED))
    starts = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    bins = torch.arange(U, dtype=torch.int32).repeat_interleave(sizes).to(device)
    out = points.new_zeros(p.blocks + U, U, dtype=torch.float64)
    share = -(-U // p.parts)
    with pairs.on(device):
        bins_kernel[(p.blocks, -(-U // share))](
            p.x, p.w, p.centre, p.terms, p.free, starts.to(device, torch.int32), bins, out, p.n, points.shape[1], U,
            share, *p.x.stride()[1:], p.w.stride(1), **p.constants,
        )  # fmt: skip
    # Rows i + a of one bin a stand together; one that nobody wrote, where a bin ends with a block, is 0.
    rows = starts[:-1] // p.constants["BM"] + torch.arange(U)
    lengths = torch.cat([rows[1:], rows.new_full((1,), len(out))]) - rows
    half = torch.segment_reduce(out, "sum", lengths=lengths.to(device), axis=0, unsafe=True)
    return half + half.T


def label_sums(
    terms: Sequence[Term],
    points: Tensor,
    labels: Tensor,
    weights: Tensor | None,
    shift: float,
    precision: str = "accurate",
) -> tuple[Tensor, Tensor, Tensor]:
    """Q, s and T of `permute.label_sums`.

    With U the matrix above its diagonal q = 2vᵀUv, vᵀK1 = vᵀU1 + 1ᵀUv and T = 2·1ᵀU1: all from U times v and 1.
    """
    p = _prepared("tiles", terms, points, weights, precision)
    (C, N), dtype = labels.shape, points.dtype
    BM, BN = p.constants.pop("BM"), p.constants.pop("BN")
    BI, BJ = (BM, BN) if p.constants["PRODUCTS"] else (BN, BM)
    kind = torch.float64 if dtype == torch.float64 else torch.float16
    parts = 2 if kind == torch.float16 and precision != "tf32" else 1
    numbers = _numbers(terms, points, weights, shift, kind)
    height, width = (_even(N, most, step) for most, step in ((ROWS, BI), (COLUMNS, BJ)))
    tile = points.new_empty(height, parts, width, dtype=kind)
    v = points.new_empty(C + 1, parts, width, dtype=kind)
    q, s = points.new_zeros(2, C, dtype=torch.float64)
    u = points.new_zeros(N, dtype=torch.float64)  # U1
    for column in range(0, N, width):
        columns = slice(column, min(N, column + width))
        v.zero_()[:C, :, : columns.stop - column] = labels[:, None, columns].to(kind).mul_(2).sub_(1)
        v[C] = 1
        for row in range(0, columns.stop, height):
            rows = slice(row, min(N, row + height))
            _fill(p, points, tile, numbers, row, column, BI, BJ)
            found = _product(v.flatten(1), tile.flatten(1))[:, : rows.stop - row]
            of_v = found[:C].sum(-1, dtype=torch.float64)
            q += 2 * (found[:C] * labels[:, rows]).sum(-1, dtype=torch.float64) - of_v
            s += of_v
            u[rows] += found[C]
    for part in torch.arange(N).split(COLUMNS):
        rows = slice(int(part[0]), int(part[-1]) + 1)
        s += 2 * (labels[:, rows].double() @ u[rows]) - u[rows].sum()
    scale = numbers[1].double()
    return 2 * q / scale, s / scale, 2 * u.sum() / scale


def _even(N: int, most: int, step: int) -> int:
    """A multiple of a step by which N are cut into parts of about equal size, and no more than ``most``."""
    return -(-N // (-(-N // most) * step)) * step


def _fill(p: Any, points: Tensor, tile: Tensor, numbers: Tensor, row: int, column: int, BI: int, BJ: int) -> None:
    """Kernel values of the tile that begins at a row and a column."""
    from estimators.ops.permute.triton_kernels import tile_kernel

    height, parts, width = tile.shape
    with pairs.on(points.device):
        tile_kernel[(height // BI, width // BJ)](
            p.x, p.w, p.centre, p.terms, p.free, numbers, tile, row, column, p.n, points.shape[1], width,
            *p.x.stride()[1:], p.w.stride(1), **p.constants, BI=BI, BJ=BJ, PARTS=parts,
        )  # fmt: skip


def _product(v: Tensor, tile: Tensor) -> Tensor:
    """V·tileᵀ of 16 bits, added up in float32."""
    if tile.dtype == torch.float64:
        return v @ tile.T
    return torch.mm(v, tile.T, out_dtype=torch.float32) if tile.is_cuda else v.float() @ tile.float().T


def _numbers(terms: Sequence[Term], points: Tensor, weights: Tensor | None, shift: float, kind: torch.dtype) -> Tensor:
    """The shift, and the power of 2 by which all values fit into 16 bits: no number on the GPU is read."""
    bound = points.new_full((), abs(shift), dtype=torch.float64)
    for form, factor, _, power in terms:
        bound = bound + abs(factor) * (_diameter(points) ** power if form == "distance" else 1.0)
    if weights is not None:
        bound = bound * weights.double().abs().amax() ** 2
    scale = (LARGEST - bound.clamp_min(1e-30).log2().ceil()).exp2() if kind == torch.float16 else torch.ones_like(bound)
    return torch.stack([torch.full_like(scale, shift), scale]).to(points.dtype)


def _diameter(points: Tensor) -> Tensor:
    """No less than the distance of any two points."""
    return 2.0001 * (points - points.mean(0)).square().sum(-1).amax().double().sqrt()
