"""The Triton kernels of `estimators.ops.sinkhorn.triton`, which alone imports this file, where Triton is.

They are laid out as those of `estimators.ops.pairwise.triton_kernels`: a program keeps BM rows of x and walks over
tiles of BN columns of y, by differences or by matrix products; one that meets a pair so near that the rounding of
products matters takes all of its pairs again. Exponents are F_i + G_j − s·c_ij, c = ‖x_i − y_j‖^p and s = log₂e/ε, of
potentials in units of ε·log 2. In float32 F and G, given in float64, are split into high parts, whose sum is exact, and
low parts, added when s·c is taken off: where π_ij matters, little is left by then, and its digits are kept.
"""

from __future__ import annotations

import triton
import triton.language as tl

from estimators.ops.pairwise.triton_parts import (
    SMALLEST,
    added_slopes,
    centred,
    differences,
    norms,
    of_columns,
    of_rows,
    products,
)

NEAR = tl.constexpr(0.125)  # as in pairwise
RETAKEN = tl.constexpr(16)
LOWEST = tl.constexpr(-3e38)  # below every exponent, and a number: what a row without weights has
# Numbers for which nothing is compiled anew.
ANY = ["blocks", "n", "m", "step"]


@triton.jit
def split(h, grain, SPLIT: tl.constexpr):
    """A float64 in a part that sums of two keep in float32, and the rest."""
    if SPLIT:
        high = tl.floor(h / grain + 0.5) * grain
        low = tl.where(h == high, 0.0, h) - tl.where(h == high, 0.0, high)  # −∞ is high alone
        return high.to(tl.float32), low.to(tl.float32)
    else:
        return h, tl.zeros_like(h)


@triton.jit
def cost(d2, half, ORDER: tl.constexpr):
    """d^p of d², p = ORDER or, for 0, 2·half."""
    if ORDER == 2:
        return d2
    elif ORDER == 1:
        return tl.sqrt(d2)
    else:
        return tl.where(d2 <= 0, 0.0, tl.exp2(tl.log2(tl.where(d2 < SMALLEST, SMALLEST, d2)) * half))


@triton.jit
def steepness(d2, half, ORDER: tl.constexpr):
    """The derivative of d^p in d², 0 at d = 0."""
    if ORDER == 2:
        return tl.full(d2.shape, 1.0, d2.dtype)
    elif ORDER == 1:
        return tl.where(d2 <= 0, 0.0, 0.5 / tl.sqrt(tl.where(d2 <= 0, 1.0, d2)))
    else:
        logarithm = tl.log2(tl.where(d2 < SMALLEST, SMALLEST, d2))
        return tl.where(d2 <= 0, 0.0, tl.exp2(logarithm * (half - 1)) * half)


@triton.jit
def squares(
    x_rows, rows, row_ok, y_columns, columns, column_ok, centre, a, a2, free, worst, d, x_d, y_d, BM: tl.constexpr,
    BN: tl.constexpr, BK: tl.constexpr, D: tl.constexpr, SAME: tl.constexpr, PRODUCTS: tl.constexpr,
    SINGLE: tl.constexpr, RETAKE: tl.constexpr, INPUT: tl.constexpr,
):  # fmt: skip
    """‖x_i − y_j‖² of a tile, how near its nearest pairs are, and the columns where one block holds them."""
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
            worst = tl.minimum(worst, tl.min(tl.where(row_ok[:, None] & column_ok[None, :], far, 0.0), 1))
        return tl.where(d2 < 0, 0.0, d2), worst, b
    else:
        return differences(x_rows, y_columns, row_ok, column_ok, x_d, y_d, d, D), worst, a


@triton.jit
def exponents(c, scale, high, low, G, log_w, s, grain, columns, column_ok, ACROSS: tl.constexpr, SPLIT: tl.constexpr):
    """F_i + G_j − s·c_ij, −∞ beyond the last column."""
    h = tl.load(G + columns, mask=column_ok, other=0.0) * s
    h += tl.load(log_w + columns, mask=column_ok, other=float("-inf"))
    above, below = split(h, grain, SPLIT)
    t = (of_rows(high, ACROSS) + of_columns(above, ACROSS)) - c * scale
    if SPLIT:
        t += of_rows(low, ACROSS) + of_columns(below, ACROSS)
    return t


@triton.jit
def softmin_of(
    x_rows, rows, row_ok, y, high, low, G, log_w, s, half, grain, centre, free, begin, end, d, x_d, y_m, y_d,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, D: tl.constexpr, ORDER: tl.constexpr, SAME: tl.constexpr,
    SPLIT: tl.constexpr, PRODUCTS: tl.constexpr, SINGLE: tl.constexpr, RETAKE: tl.constexpr, INPUT: tl.constexpr,
):  # fmt: skip
    """log₂ Σ_j 2^(F_i + G_j − s·c_ij) by a running maximum, and whether a pair was near."""
    AXIS: tl.constexpr = 1 if PRODUCTS else 0
    scale = s.to(high.dtype)
    peak = tl.full((BM,), LOWEST, high.dtype)
    total = tl.zeros((BM,), tl.float64)
    worst = tl.zeros((BM,), tl.float32)
    a = high
    a2 = high
    if PRODUCTS:
        a = centred(x_rows, row_ok, x_d, centre, 0, d, BK)
        if SINGLE:
            a2 = tl.sum(a * a, 1)
        else:
            a2 = norms(x_rows, row_ok, x_d, centre, d, BM, BK)
    for start in range(begin, end, BN):
        columns = start + tl.arange(0, BN)
        column_ok = columns < end
        d2, worst, _ = squares(
            x_rows, rows, row_ok, y + columns.to(tl.int64) * y_m, columns, column_ok, centre, a, a2, free, worst, d,
            x_d, y_d, BM, BN, BK, D, SAME, PRODUCTS, SINGLE, RETAKE, INPUT,
        )  # fmt: skip
        c = cost(d2, half.to(d2.dtype), ORDER)
        t = exponents(c, scale, high, low, G, log_w, s, grain, columns, column_ok, PRODUCTS, SPLIT)
        highest = tl.maximum(peak, tl.max(t, AXIS))
        part = tl.sum(tl.exp2(t - of_rows(highest, PRODUCTS)), AXIS)
        total = total * tl.exp2(peak - highest).to(tl.float64) + part.to(tl.float64)
        peak = highest
    return peak.to(tl.float64) + tl.log2(tl.where(total == 0, 1.0, total)), worst


@triton.jit(do_not_specialize=ANY)
def softmin_kernel(
    x, y, F, G, log_w, centre, numbers, active, out, blocks, n, m, d, step, x_b, x_n, x_d, y_b, y_m, y_d,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, D: tl.constexpr, ORDER: tl.constexpr, SAME: tl.constexpr,
    SPLIT: tl.constexpr, PRODUCTS: tl.constexpr, SINGLE: tl.constexpr, RETAKE: tl.constexpr, INPUT: tl.constexpr,
):  # fmt: skip
    """Program (b·blocks + i, s): rows of block i of problem b, over the columns of part s; to out[s, b]."""
    b = (tl.program_id(0) // blocks).to(tl.int64)
    rows = (tl.program_id(0) % blocks) * BM + tl.arange(0, BM)
    row_ok = rows < n
    begin = tl.program_id(1) * step
    end = tl.minimum(m, begin + step)
    end = tl.where(tl.load(active + b) != 0, end, begin)  # nothing of a problem that is solved
    s = tl.load(numbers + 4 * b)
    half = tl.load(numbers + 4 * b + 1)
    free = tl.load(numbers + 4 * b + 2).to(tl.float32)
    grain = tl.load(numbers + 4 * b + 3)
    high, low = split(tl.load(F + b * n + rows, mask=row_ok, other=0.0) * s, grain, SPLIT)
    x_rows = x + b * x_b + rows.to(tl.int64) * x_n
    y += b * y_b
    G += b * m
    log_w += b * m
    centre += b * d
    found, worst = softmin_of(
        x_rows, rows, row_ok, y, high, low, G, log_w, s, half, grain, centre, free, begin, end, d, x_d, y_m, y_d,
        BM, BN, BK, D, ORDER, SAME, SPLIT, PRODUCTS, SINGLE, RETAKE, INPUT,
    )  # fmt: skip
    if PRODUCTS and RETAKE:
        if tl.min(worst) < 0:
            found, worst = softmin_of(
                x_rows, rows, row_ok, y, high, low, G, log_w, s, half, grain, centre, free, begin, end, d, x_d, y_m,
                y_d, BM, RETAKEN, BK, D, ORDER, SAME, SPLIT, False, SINGLE, False, INPUT,
            )  # fmt: skip
    problems = (tl.num_programs(0) // blocks).to(tl.int64)
    tl.store(out + (tl.program_id(1) * problems + b) * n + rows, found, mask=row_ok)


@triton.jit
def slopes_of(
    x_rows, rows, row_ok, y, high, low, G, log_w, s, half, grain, centre, free, begin, end, chunk, d, x_d, y_m, y_d,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr, D: tl.constexpr, ORDER: tl.constexpr,
    SAME: tl.constexpr, SPLIT: tl.constexpr, PRODUCTS: tl.constexpr, SINGLE: tl.constexpr, RETAKE: tl.constexpr,
    INPUT: tl.constexpr,
):  # fmt: skip
    """Σ_j π_ij φ'(d²_ij)(x_i − y_j) in coordinates chunk, …, chunk + BC − 1, and whether a pair was near."""
    if PRODUCTS:
        found = tl.zeros((BM, BC), tl.float64)
    else:
        found = tl.zeros((BC, BM), tl.float64)
    worst = tl.zeros((BM,), tl.float32)
    scale = s.to(high.dtype)
    a = high
    a2 = high
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
        d2, worst, b = squares(
            x_rows, rows, row_ok, y_columns, columns, column_ok, centre, a, a2, free, worst, d, x_d, y_d, BM, BN, BK,
            D, SAME, PRODUCTS, SINGLE, RETAKE, INPUT,
        )  # fmt: skip
        c = cost(d2, half.to(d2.dtype), ORDER)
        pi = tl.exp2(exponents(c, scale, high, low, G, log_w, s, grain, columns, column_ok, PRODUCTS, SPLIT))
        w = pi * steepness(d2, half.to(d2.dtype), ORDER)
        found = added_slopes(
            found, w, x_rows, y_columns, row_ok, column_ok, centre, a, b, chunk, d, x_d, y_d, BC, D, PRODUCTS, SINGLE,
            INPUT,
        )  # fmt: skip
    if not PRODUCTS:
        found = tl.trans(found)
    return found, worst


@triton.jit(do_not_specialize=ANY)
def slopes_kernel(
    x, y, F, G, log_v, log_w, centre, numbers, out, blocks, n, m, d, step, x_b, x_n, x_d, y_b, y_m, y_d,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, BC: tl.constexpr, D: tl.constexpr, ORDER: tl.constexpr,
    SAME: tl.constexpr, SPLIT: tl.constexpr, PRODUCTS: tl.constexpr, SINGLE: tl.constexpr, RETAKE: tl.constexpr,
    INPUT: tl.constexpr,
):  # fmt: skip
    """Program (b·blocks + i, s, c): rows of block i of problem b, columns of part s, coordinates of chunk c."""
    b = (tl.program_id(0) // blocks).to(tl.int64)
    rows = (tl.program_id(0) % blocks) * BM + tl.arange(0, BM)
    row_ok = rows < n
    begin = tl.program_id(1) * step
    end = tl.minimum(m, begin + step)
    chunk = tl.program_id(2) * BC
    s = tl.load(numbers + 4 * b)
    half = tl.load(numbers + 4 * b + 1)
    free = tl.load(numbers + 4 * b + 2).to(tl.float32)
    grain = tl.load(numbers + 4 * b + 3)
    h = tl.load(F + b * n + rows, mask=row_ok, other=0.0) * s
    h += tl.load(log_v + b * n + rows, mask=row_ok, other=float("-inf"))
    high, low = split(h, grain, SPLIT)
    x_rows = x + b * x_b + rows.to(tl.int64) * x_n
    y += b * y_b
    G += b * m
    log_w += b * m
    centre += b * d
    found, worst = slopes_of(
        x_rows, rows, row_ok, y, high, low, G, log_w, s, half, grain, centre, free, begin, end, chunk, d, x_d, y_m,
        y_d, BM, BN, BK, BC, D, ORDER, SAME, SPLIT, PRODUCTS, SINGLE, RETAKE, INPUT,
    )  # fmt: skip
    if PRODUCTS and RETAKE:
        if tl.min(worst) < 0:
            found, worst = slopes_of(
                x_rows, rows, row_ok, y, high, low, G, log_w, s, half, grain, centre, free, begin, end, chunk, d, x_d,
                y_m, y_d, BM, RETAKEN, BK, BC, D, ORDER, SAME, SPLIT, False, SINGLE, False, INPUT,
            )  # fmt: skip
    problems = (tl.num_programs(0) // blocks).to(tl.int64)
    ks = chunk + tl.arange(0, BC)
    to = ((tl.program_id(1) * problems + b) * n + rows)[:, None] * d + ks[None, :]
    tl.store(out + to, 2 * found, mask=row_ok[:, None] & (ks < d)[None, :])  # ∂‖x − y‖²/∂x = 2(x − y)
