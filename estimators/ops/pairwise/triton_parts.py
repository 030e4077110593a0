"""What the Triton kernels of `estimators.ops.pairwise.triton_kernels` are made of: values of terms, and distances.

Distances by differences lose no digits. Those by a matrix product, ‖a‖² + ‖b‖² − 2aᵀb of centred points, cost one
multiplication a coordinate and run on tensor cores, but are wrong by rounding of ‖a‖² + ‖b‖².
"""

from __future__ import annotations

import triton
import triton.language as tl

from estimators.ops.pairwise import forms

GAUSSIAN = tl.constexpr(forms.GAUSSIAN)
SQUARED = tl.constexpr(forms.SQUARED)
LAPLACE = tl.constexpr(forms.LAPLACE)
INVERSE = tl.constexpr(forms.INVERSE)
RATIONAL = tl.constexpr(forms.RATIONAL)
DISTANCE = tl.constexpr(forms.DISTANCE)
POWER = tl.constexpr(forms.POWER)
LN2 = tl.constexpr(0.6931471805599453)
SMALLEST = tl.constexpr(1.17549435e-38)  # normal number in float32, for a logarithm that is finite


@triton.jit
def squared(value, TIMES: tl.constexpr):
    """value^(2^TIMES)."""
    for _ in tl.static_range(TIMES):
        value = value * value
    return value


@triton.jit
def values(d2, terms, FORMS: tl.constexpr, SQUARINGS: tl.constexpr, COUNT: tl.constexpr, SLOPE: tl.constexpr):
    """Σ_t a_t f_t(d²), or its derivative in d²."""
    total = tl.zeros_like(d2)
    last = total
    for t in tl.static_range(COUNT):
        a = tl.load(terms + 3 * t)
        p = tl.load(terms + 3 * t + 1)
        q = tl.load(terms + 3 * t + 2)
        if FORMS[t] == GAUSSIAN or FORMS[t] == SQUARED:
            if FORMS[t] == GAUSSIAN:
                last = tl.exp2(d2 * p)
            else:
                last = squared(last, SQUARINGS[t])
            if SLOPE:
                total += last * (a * p * LN2)
            else:
                total += last * a
        elif FORMS[t] == LAPLACE:
            d = tl.sqrt(d2)
            k = tl.exp2(d * p) * a
            if SLOPE:
                total += tl.where(d2 <= 0, 0.0, k * (p * LN2 / 2) / tl.where(d2 <= 0, 1.0, d))
            else:
                total += k
        elif FORMS[t] == INVERSE:
            r = p / (d2 + p)
            if SLOPE:
                total -= r * r * (a / p)
            else:
                total += r * a
        elif FORMS[t] == RATIONAL:
            base = d2 * p + 1
            k = tl.exp2(tl.log2(base) * q) * a
            if SLOPE:
                total += k * (p * q) / base
            else:
                total += k
        elif FORMS[t] == DISTANCE:
            d = tl.sqrt(d2)
            if SLOPE:
                total += tl.where(d2 <= 0, 0.0, a / (2 * tl.where(d2 <= 0, 1.0, d)))
            else:
                total += d * a
        else:
            logarithm = tl.log2(tl.where(d2 < SMALLEST, SMALLEST, d2))
            if SLOPE:
                total += tl.where(d2 <= 0, 0.0, tl.exp2(logarithm * (q - 1)) * (a * q))
            else:
                total += tl.where(d2 <= 0, 0.0, tl.exp2(logarithm * q) * a)
    return total


@triton.jit
def of_rows(value, ACROSS: tl.constexpr):
    """What rows have, beside a tile of `BM, BN` where ACROSS, else of `BN, BM`."""
    if ACROSS:
        return value[:, None]
    else:
        return value[None, :]


@triton.jit
def of_columns(value, ACROSS: tl.constexpr):
    """What columns have, likewise."""
    if ACROSS:
        return value[None, :]
    else:
        return value[:, None]


@triton.jit
def apart(x_rows, y_columns, row_ok, column_ok):
    """x_i − y_j in one coordinate, (BN, BM)."""
    a = tl.load(x_rows, mask=row_ok, other=0.0)
    b = tl.load(y_columns, mask=column_ok, other=0.0)
    return a[None, :] - b[:, None]


@triton.jit
def differences(x_rows, y_columns, row_ok, column_ok, x_d, y_d, d, D: tl.constexpr):
    """‖x_i − y_j‖² by squared differences, (BN, BM); the loop is unrolled for D coordinates where D is given."""
    d2 = apart(x_rows, y_columns, row_ok, column_ok)
    d2 = d2 * d2
    if D > 0:
        for _ in tl.static_range(1, D):
            x_rows += x_d
            y_columns += y_d
            gap = apart(x_rows, y_columns, row_ok, column_ok)
            d2 += gap * gap
    else:
        for _ in range(1, d):
            x_rows += x_d
            y_columns += y_d
            gap = apart(x_rows, y_columns, row_ok, column_ok)
            d2 += gap * gap
    return d2


@triton.jit
def centred(points, ok, stride, centre, begin, d, BK: tl.constexpr):
    """Coordinates begin, …, begin + BK − 1 of points less the centre, zero beyond the last."""
    ks = begin + tl.arange(0, BK)
    inside = ok[:, None] & (ks < d)[None, :]
    found = tl.load(points[:, None] + ks.to(tl.int64)[None, :] * stride, mask=inside, other=0.0)
    return tl.where(inside, found - tl.load(centre + ks, mask=ks < d, other=0.0)[None, :], 0.0)


@triton.jit
def products(
    x_rows, y_columns, row_ok, column_ok, x_d, y_d, centre, a, a2, d,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SINGLE: tl.constexpr, INPUT: tl.constexpr,
):  # fmt: skip
    """−2aᵀb, ‖a‖² + ‖b‖², and b where all coordinates fit into one block."""
    if SINGLE:
        b = centred(y_columns, column_ok, y_d, centre, 0, d, BK)
        cross = tl.dot(a, tl.trans(b), input_precision=INPUT)
        b2 = tl.sum(b * b, 1)
    else:
        cross = tl.zeros((BM, BN), tl.float32)
        b2 = tl.zeros((BN,), tl.float32)
        b = a
        for k in range(0, d, BK):
            part = centred(x_rows, row_ok, x_d, centre, k, d, BK)
            other = centred(y_columns, column_ok, y_d, centre, k, d, BK)
            cross = tl.dot(part, tl.trans(other), cross, input_precision=INPUT)
            b2 += tl.sum(other * other, 1)
    return -2 * cross, a2[:, None] + b2[None, :], b


@triton.jit
def norms(x_rows, row_ok, x_d, centre, d, BM: tl.constexpr, BK: tl.constexpr):
    """‖a_i‖² of centred rows."""
    a2 = tl.zeros((BM,), tl.float32)
    for k in range(0, d, BK):
        part = centred(x_rows, row_ok, x_d, centre, k, d, BK)
        a2 += tl.sum(part * part, 1)
    return a2


@triton.jit
def added_slopes(
    found, c, x_rows, y_columns, row_ok, column_ok, centre, a, b, chunk, d, x_d, y_d, BC: tl.constexpr,
    D: tl.constexpr, PRODUCTS: tl.constexpr, SINGLE: tl.constexpr, INPUT: tl.constexpr,
):  # fmt: skip
    """``found`` + Σ_j c_ij (x_i − y_j) in coordinates chunk, …, chunk + BC − 1: (BM, BC) by products, else (BC, BM)."""
    if PRODUCTS:
        if not SINGLE:
            b = centred(y_columns, column_ok, y_d, centre, chunk, d, BC)
        found += (tl.sum(c, 1)[:, None] * a - tl.dot(c, b, input_precision=INPUT)).to(tl.float64)
    elif D > 0:
        for k in tl.static_range(D):
            along = tl.sum(c * apart(x_rows + k * x_d, y_columns + k * y_d, row_ok, column_ok), 0).to(tl.float64)
            found += tl.where((tl.arange(0, BC) == k)[:, None], along[None, :], 0.0)
    else:
        x_k = x_rows + chunk.to(tl.int64) * x_d
        y_k = y_columns + chunk.to(tl.int64) * y_d
        for k in range(tl.minimum(BC, d - chunk)):
            along = tl.sum(c * apart(x_k, y_k, row_ok, column_ok), 0).to(tl.float64)
            found += tl.where((tl.arange(0, BC) == k)[:, None], along[None, :], 0.0)
            x_k += x_d
            y_k += y_d
    return found
