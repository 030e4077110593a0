"""The Triton kernels of `estimators.ops.permute.triton`, which alone imports this file, where Triton is.

Distances and kernel values are those of `estimators.ops.pairwise`, of the pairs i < j of one sample alone.
"""

from __future__ import annotations

import triton
import triton.language as tl

from estimators.ops.pairwise.triton_kernels import ABOVE, NEAR, RETAKEN, sums_of
from estimators.ops.pairwise.triton_parts import centred, differences, norms, products, values


@triton.jit(do_not_specialize=["n", "U", "share"])
def bins_kernel(
    x, w, centre, terms, free, starts, bins, out, n, d, U, share, x_n, x_d, w_n,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, D: tl.constexpr, FORMS: tl.constexpr,
    SQUARINGS: tl.constexpr, COUNT: tl.constexpr, WEIGHTED: tl.constexpr, PRODUCTS: tl.constexpr, SINGLE: tl.constexpr,
    RETAKE: tl.constexpr, INPUT: tl.constexpr,
):  # fmt: skip
    """Program (i, s): rows of block i with the columns behind them in bin b of part s; those of bin a to out[i + a, b].

    Block i + 1 begins in the bin that block i ends in, or the next: no two write to one row of ``out``.
    """
    block = tl.program_id(0)
    start = block * BM
    rows = start + tl.arange(0, BM)
    row_ok = rows < n
    x_rows = x + rows.to(tl.int64) * x_n
    of_free = tl.load(free)
    alone = tl.zeros((BM,), tl.float32)
    first = tl.load(bins + start)
    last = tl.load(bins + tl.minimum(n, start + BM) - 1)
    for b in range(tl.maximum(first, tl.program_id(1) * share), tl.minimum(U, (tl.program_id(1) + 1) * share)):
        begin = tl.maximum(tl.load(starts + b), start)
        end = tl.load(starts + b + 1)
        sums, _, _, worst = sums_of(
            x_rows, rows, row_ok, x, w, x, alone, centre, terms, of_free, begin, end, d, x_d, x_n, x_d, w_n, BM, BN, BK,
            D, FORMS, SQUARINGS, COUNT, False, ABOVE, WEIGHTED, False, PRODUCTS, SINGLE, RETAKE, INPUT,
        )  # fmt: skip
        if PRODUCTS and RETAKE:
            if tl.min(worst) < 0:
                sums, _, _, worst = sums_of(
                    x_rows, rows, row_ok, x, w, x, alone, centre, terms, of_free, begin, end, d, x_d, x_n, x_d, w_n, BM,
                    RETAKEN, BK, D, FORMS, SQUARINGS, COUNT, False, ABOVE, WEIGHTED, False, False, SINGLE, False, INPUT,
                )  # fmt: skip
        if WEIGHTED:
            sums = sums * tl.load(w + rows.to(tl.int64) * w_n, mask=row_ok, other=0.0)
        bin_of = tl.load(bins + rows, mask=row_ok, other=-1)
        for a in range(first, last + 1):
            tl.store(out + (block + a).to(tl.int64) * U + b, tl.sum(tl.where(bin_of == a, sums, 0.0), 0))


@triton.jit(do_not_specialize=["row", "column", "n"])
def tile_kernel(
    x, w, centre, terms, free, numbers, out, row, column, n, d, width, x_n, x_d, w_n,
    BI: tl.constexpr, BJ: tl.constexpr, BK: tl.constexpr, D: tl.constexpr, FORMS: tl.constexpr,
    SQUARINGS: tl.constexpr, COUNT: tl.constexpr, WEIGHTED: tl.constexpr, PRODUCTS: tl.constexpr, SINGLE: tl.constexpr,
    RETAKE: tl.constexpr, INPUT: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """To out[i, part, j], of ``width`` columns: scale·w_i w_j (k_ij − shift), i from ``row`` on and j from ``column``.

    It is 0 for j ≤ i. One part, or two of 16 bits, the second being what the first rounded off. Tiles are (BI, BJ), by
    differences too: the last axis is that of the columns, along which values are stored.
    """
    i = tl.program_id(0) * BI + tl.arange(0, BI)
    j = tl.program_id(1) * BJ + tl.arange(0, BJ)
    rows, columns = row + i, column + j
    row_ok, column_ok = rows < n, columns < n
    counted = (rows[:, None] < columns[None, :]) & column_ok[None, :]
    x_rows = x + rows.to(tl.int64) * x_n
    x_columns = x + columns.to(tl.int64) * x_n
    if PRODUCTS:
        a = centred(x_rows, row_ok, x_d, centre, 0, d, BK)
        if SINGLE:
            a2 = tl.sum(a * a, 1)
        else:
            a2 = norms(x_rows, row_ok, x_d, centre, d, BI, BK)
        cross, size, _ = products(
            x_rows, x_columns, row_ok, column_ok, x_d, x_d, centre, a, a2, d, BI, BJ, BK, SINGLE, INPUT
        )
        d2 = cross + size
        far = tl.where(counted, d2 - NEAR * (size - tl.load(free)), 0.0)
        d2 = tl.where(d2 < 0, 0.0, d2)
        if RETAKE:
            if tl.min(far) < 0:
                d2 = differences(x_columns, x_rows, column_ok, row_ok, x_d, x_d, d, D)
    else:
        d2 = differences(x_columns, x_rows, column_ok, row_ok, x_d, x_d, d, D)
    k = (values(d2, terms, FORMS, SQUARINGS, COUNT, False) - tl.load(numbers)) * tl.load(numbers + 1)
    if WEIGHTED:
        of_rows = tl.load(w + rows.to(tl.int64) * w_n, mask=row_ok, other=0.0)
        of_columns = tl.load(w + columns.to(tl.int64) * w_n, mask=column_ok, other=0.0)
        k = k * (of_rows[:, None] * of_columns[None, :])
    k = tl.where(counted, k, 0.0)
    to = out + i.to(tl.int64)[:, None] * (PARTS * width) + j[None, :]
    first = k.to(out.dtype.element_ty)
    tl.store(to, first)
    if PARTS == 2:
        tl.store(to + width, (k - first.to(tl.float32)).to(out.dtype.element_ty))
