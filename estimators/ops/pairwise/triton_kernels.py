"""The Triton kernels of `estimators.ops.pairwise.triton`, which alone imports this file, where Triton is.

A program keeps BM rows of x and walks over tiles of BN columns of y: squared distances, then kernel values, then what
they are summed into. Points are read by their strides; every load and store is masked. Tiles by differences are
(BN, BM): Triton gives the last axis to the threads, so that each has a few rows, their coordinates stay in its
registers, and its sums over columns need no other thread. Tiles by matrix products are (BM, BN). A program that meets a
pair so near that their rounding matters takes all of its pairs again, by differences.
"""

from __future__ import annotations

import triton
import triton.language as tl

from estimators.ops.pairwise.triton_parts import (
    added_slopes,
    centred,
    differences,
    norms,
    of_columns,
    of_rows,
    products,
    values,
)

# A pair is near where d² < NEAR·(‖a‖² + ‖b‖² − free): elsewhere the relative error of d² is at most 1/NEAR roundings.
NEAR = tl.constexpr(0.125)
RETAKEN = tl.constexpr(16)  # columns of a tile that is taken again
ABOVE = tl.constexpr(2)  # an EXCLUDE that leaves out all pairs but those with j > i
# Numbers for which nothing is compiled anew.
ANY = ["blocks", "n", "m", "step", "w_b", "terms_b", "free_b"]


@triton.jit
def sums_of(
    x_rows, rows, row_ok, y, w, o, alone, centre, terms, free, begin, end, d, x_d, y_m, y_d, w_m,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, D: tl.constexpr, FORMS: tl.constexpr,
    SQUARINGS: tl.constexpr, COUNT: tl.constexpr, SAME: tl.constexpr, EXCLUDE: tl.constexpr, WEIGHTED: tl.constexpr,
    MOMENTS: tl.constexpr, PRODUCTS: tl.constexpr, SINGLE: tl.constexpr, RETAKE: tl.constexpr, INPUT: tl.constexpr,
):  # fmt: skip
    """Σ_j w_j k_ij, Σ_j w_j² k_ij and Σ_j w_j² k_ij² (the latter for moments alone), and whether a pair was near."""
    AXIS: tl.constexpr = 1 if PRODUCTS else 0
    rows_1 = tl.zeros((BM,), tl.float64)
    rows_2 = tl.zeros((BM,), tl.float64)
    squares = tl.zeros((BM,), tl.float64)
    worst = tl.zeros((BM,), tl.float32)
    if PRODUCTS:
        a = centred(x_rows, row_ok, x_d, centre, 0, d, BK)
        if SINGLE:
            a2 = tl.sum(a * a, 1)
        else:
            a2 = norms(x_rows, row_ok, x_d, centre, d, BM, BK)
    for start in range(begin, end, BN):
        columns = start + tl.arange(0, BN)
        column_ok = columns < end
        y_columns = y + columns.to(tl.int64) * y_m
        counted = of_rows(row_ok, PRODUCTS) & of_columns(column_ok, PRODUCTS)
        if EXCLUDE == ABOVE:
            counted = counted & (of_rows(rows, PRODUCTS) < of_columns(columns, PRODUCTS))
        elif EXCLUDE:
            counted = counted & (of_rows(rows, PRODUCTS) != of_columns(columns, PRODUCTS))
        if PRODUCTS:
            cross, size, _ = products(
                x_rows, y_columns, row_ok, column_ok, x_d, y_d, centre, a, a2, d, BM, BN, BK, SINGLE, INPUT
            )
            d2 = cross + size
            far = d2 - NEAR * (size - free)
            if SAME:
                own = rows[:, None] == columns[None, :]
                d2 = tl.where(own, 0.0, d2)
                far = tl.where(own, 0.0, far)
            if RETAKE:
                worst = tl.minimum(worst, tl.min(tl.where(counted, far, 0.0), 1))
            d2 = tl.where(d2 < 0, 0.0, d2)
        else:
            d2 = differences(x_rows, y_columns, row_ok, column_ok, x_d, y_d, d, D)
        k = values(d2, terms, FORMS, SQUARINGS, COUNT, False)
        if MOMENTS:
            o_columns = tl.load(o + columns, mask=column_ok, other=0.0)
            k += of_rows(alone, PRODUCTS) + of_columns(o_columns, PRODUCTS)
        k = tl.where(counted, k, 0.0)
        if WEIGHTED:
            v = of_columns(tl.load(w + columns.to(tl.int64) * w_m, mask=column_ok, other=0.0), PRODUCTS)
            rows_1 += tl.sum(k * v, AXIS).to(tl.float64)
            if MOMENTS:
                k2 = k * (v * v)
                rows_2 += tl.sum(k2, AXIS).to(tl.float64)
                squares += tl.sum(k2 * k, AXIS).to(tl.float64)
        else:
            rows_1 += tl.sum(k, AXIS).to(tl.float64)
    return rows_1, rows_2, squares, worst


@triton.jit(do_not_specialize=ANY)
def sums_kernel(
    x, y, w, ox, oy, centre, terms, free, out, out_2, out_3, blocks, n, m, d, step,
    x_b, x_n, x_d, y_b, y_m, y_d, w_b, w_m, terms_b, free_b,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, D: tl.constexpr, FORMS: tl.constexpr,
    SQUARINGS: tl.constexpr, COUNT: tl.constexpr, SAME: tl.constexpr, EXCLUDE: tl.constexpr, WEIGHTED: tl.constexpr,
    MOMENTS: tl.constexpr, PRODUCTS: tl.constexpr, SINGLE: tl.constexpr, RETAKE: tl.constexpr, INPUT: tl.constexpr,
):  # fmt: skip
    """Program (b·blocks + i, s): rows of block i of problem b, over the columns of part s; to out[s, b]."""
    b = (tl.program_id(0) // blocks).to(tl.int64)
    rows = (tl.program_id(0) % blocks) * BM + tl.arange(0, BM)
    row_ok = rows < n
    begin = tl.program_id(1) * step
    end = tl.minimum(m, begin + step)
    x_rows = x + b * x_b + rows.to(tl.int64) * x_n
    y += b * y_b
    w += b * w_b
    centre += b * d
    terms += b * terms_b
    of_free = tl.load(free + b * free_b)
    alone = tl.zeros((BM,), tl.float32)
    if MOMENTS:
        alone = tl.load(ox + b * n + rows, mask=row_ok, other=0.0)
        oy += b * m
    rows_1, rows_2, squares, worst = sums_of(
        x_rows, rows, row_ok, y, w, oy, alone, centre, terms, of_free, begin, end, d, x_d, y_m, y_d, w_m, BM, BN, BK, D,
        FORMS, SQUARINGS, COUNT, SAME, EXCLUDE, WEIGHTED, MOMENTS, PRODUCTS, SINGLE, RETAKE, INPUT,
    )  # fmt: skip
    if PRODUCTS and RETAKE:
        if tl.min(worst) < 0:
            rows_1, rows_2, squares, worst = sums_of(
                x_rows, rows, row_ok, y, w, oy, alone, centre, terms, of_free, begin, end, d, x_d, y_m, y_d, w_m, BM,
                RETAKEN, BK, D, FORMS, SQUARINGS, COUNT, SAME, EXCLUDE, WEIGHTED, MOMENTS, False, SINGLE, False, INPUT,
            )  # fmt: skip
    problems = (tl.num_programs(0) // blocks).to(tl.int64)
    to = (tl.program_id(1) * problems + b) * n + rows
    tl.store(out + to, rows_1, mask=row_ok)
    if MOMENTS:
        tl.store(out_2 + to, rows_2, mask=row_ok)
        tl.store(out_3 + to, squares, mask=row_ok)


@triton.jit
def slopes_of(
    x_rows, rows, row_ok, y, w, centre, terms, free, begin, end, chunk, d, x_d, y_m, y_d, w_m,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr, D: tl.constexpr, FORMS: tl.constexpr,
    SQUARINGS: tl.constexpr, COUNT: tl.constexpr, EXCLUDE: tl.constexpr, SAME: tl.constexpr, WEIGHTED: tl.constexpr,
    PRODUCTS: tl.constexpr, SINGLE: tl.constexpr, RETAKE: tl.constexpr, INPUT: tl.constexpr,
):  # fmt: skip
    """Σ_j w_j φ'(d²_ij)(x_i − y_j) in coordinates chunk, …, chunk + BC − 1, and whether a pair was near."""
    if PRODUCTS:
        found = tl.zeros((BM, BC), tl.float64)
    else:
        found = tl.zeros((BC, BM), tl.float64)
    worst = tl.zeros((BM,), tl.float32)
    a = worst
    if PRODUCTS:
        a = centred(x_rows, row_ok, x_d, centre, chunk, d, BC)
        if SINGLE:
            a2 = tl.sum(a * a, 1)
        else:
            a2 = norms(x_rows, row_ok, x_d, centre, d, BM, BK)
    for start in range(begin, end, BN):
        columns = start + tl.arange(0, BN)
        column_ok = columns < end
        y_columns = y + columns.to(tl.int64) * y_m
        counted = of_rows(row_ok, PRODUCTS) & of_columns(column_ok, PRODUCTS)
        if EXCLUDE:
            counted = counted & (of_rows(rows, PRODUCTS) != of_columns(columns, PRODUCTS))
        if PRODUCTS:
            cross, size, b = products(
                x_rows, y_columns, row_ok, column_ok, x_d, y_d, centre, a, a2, d, BM, BN, BK, SINGLE, INPUT
            )
            d2 = cross + size
            far = d2 - NEAR * (size - free)
            if SAME:
                own = rows[:, None] == columns[None, :]
                d2 = tl.where(own, 0.0, d2)
                far = tl.where(own, 0.0, far)
            if RETAKE:
                worst = tl.minimum(worst, tl.min(tl.where(counted, far, 0.0), 1))
            d2 = tl.where(d2 < 0, 0.0, d2)
        else:
            d2 = differences(x_rows, y_columns, row_ok, column_ok, x_d, y_d, d, D)
        c = values(d2, terms, FORMS, SQUARINGS, COUNT, True)
        if WEIGHTED:
            c = c * of_columns(tl.load(w + columns.to(tl.int64) * w_m, mask=column_ok, other=0.0), PRODUCTS)
        c = tl.where(counted, c, 0.0)
        if not PRODUCTS:
            b = c
        found = added_slopes(
            found, c, x_rows, y_columns, row_ok, column_ok, centre, a, b, chunk, d, x_d, y_d, BC, D, PRODUCTS, SINGLE,
            INPUT,
        )  # fmt: skip
    if not PRODUCTS:
        found = tl.trans(found)
    return found, worst


@triton.jit(do_not_specialize=ANY)
def slopes_kernel(
    x, y, w, centre, terms, free, out, blocks, n, m, d, step,
    x_b, x_n, x_d, y_b, y_m, y_d, w_b, w_m, terms_b, free_b,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr, D: tl.constexpr, FORMS: tl.constexpr,
    SQUARINGS: tl.constexpr, COUNT: tl.constexpr, SAME: tl.constexpr, EXCLUDE: tl.constexpr, WEIGHTED: tl.constexpr,
    PRODUCTS: tl.constexpr, SINGLE: tl.constexpr, RETAKE: tl.constexpr, INPUT: tl.constexpr,
):  # fmt: skip
    """Program (b·blocks + i, s, c): rows of block i of problem b, columns of part s, coordinates of chunk c."""
    b = (tl.program_id(0) // blocks).to(tl.int64)
    rows = (tl.program_id(0) % blocks) * BM + tl.arange(0, BM)
    row_ok = rows < n
    begin = tl.program_id(1) * step
    end = tl.minimum(m, begin + step)
    chunk = tl.program_id(2) * BC
    x_rows = x + b * x_b + rows.to(tl.int64) * x_n
    y += b * y_b
    w += b * w_b
    centre += b * d
    terms += b * terms_b
    of_free = tl.load(free + b * free_b)
    found, worst = slopes_of(
        x_rows, rows, row_ok, y, w, centre, terms, of_free, begin, end, chunk, d, x_d, y_m, y_d, w_m,
        BM, BN, BK, BC, D, FORMS, SQUARINGS, COUNT, EXCLUDE, SAME, WEIGHTED, PRODUCTS, SINGLE, RETAKE, INPUT,
    )  # fmt: skip
    if PRODUCTS and RETAKE:
        if tl.min(worst) < 0:
            found, worst = slopes_of(
                x_rows, rows, row_ok, y, w, centre, terms, of_free, begin, end, chunk, d, x_d, y_m, y_d, w_m,
                BM, RETAKEN, BK, BC, D, FORMS, SQUARINGS, COUNT, EXCLUDE, SAME, WEIGHTED, False, SINGLE, False, INPUT,
            )  # fmt: skip
    problems = (tl.num_programs(0) // blocks).to(tl.int64)
    ks = chunk + tl.arange(0, BC)
    to = ((tl.program_id(1) * problems + b) * n + rows)[:, None] * d + ks[None, :]
    tl.store(out + to, 2 * found, mask=row_ok[:, None] & (ks < d)[None, :])  # ∂‖x − y‖²/∂x = 2(x − y)
