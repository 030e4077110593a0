"""The Triton kernels of `estimators.ops.knn.triton`, which alone imports this file, where Triton is.

A filter leaves of each row the least lower bound of each group of points, `closest` the groups that may hold a
neighbour, `measure` the distances to their points in float64, and `smallest` the k least of these. Every program owns
what it writes. Narrow points and what belongs to them fill whole tiles, so that filters mask nothing.
"""

from __future__ import annotations

import triton
import triton.language as tl

EUCLIDEAN = tl.constexpr(0)
CITYBLOCK = tl.constexpr(1)
LARGEST = tl.constexpr(1e38)  # far below the infinity of what is no point
NONE = tl.constexpr(2**31 - 1)  # no index
# Numbers for which nothing is compiled anew.
ANY = ["blocks", "m", "groups", "rows", "columns", "step", "some", "k", "stretch", "own_b"]


@triton.jit(do_not_specialize=ANY)
def products_kernel(
    x, y, term, low, blocks, rows, columns, groups, step, d, x_b,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, SINGLE: tl.constexpr,
):  # fmt: skip
    """Program (b·blocks + i, s): min_j x_i·y_j + term_j in each group, for rows of block i and columns of part s."""
    b = (tl.program_id(0) // blocks).to(tl.int64)
    mine = (tl.program_id(0) % blocks) * BM + tl.arange(0, BM)
    begin = tl.program_id(1) * step
    end = tl.minimum(columns, begin + step)
    ks = tl.arange(0, BK)
    x_rows = x + b * x_b + mine.to(tl.int64)[:, None] * d + ks[None, :]
    y += b * columns * d
    term += b * columns
    low += (b * rows + mine)[:, None] * groups + tl.arange(0, BN // GROUP)[None, :]
    a = tl.load(x_rows)
    for start in range(begin, end, BN):
        js = start + tl.arange(0, BN)
        y_columns = y + js.to(tl.int64)[:, None] * d + ks[None, :]
        if SINGLE:
            v = tl.dot(a, tl.trans(tl.load(y_columns)))  # of half precision, added up in float32
        else:
            v = tl.zeros((BM, BN), tl.float32)
            for k in range(0, d, BK):
                v = tl.dot(tl.load(x_rows + k), tl.trans(tl.load(y_columns + k)), v)
        v += tl.load(term + js)[None, :]
        tl.store(low + start // GROUP, tl.min(tl.reshape(v, (BM, BN // GROUP, GROUP)), 2))


@triton.jit
def further(t, x_k, y_k, METRIC: tl.constexpr):
    """The sum t and one more coordinate, (columns, rows)."""
    gap = tl.abs(tl.load(x_k)[None, :] - tl.load(y_k)[:, None])
    if METRIC == EUCLIDEAN:
        return t + gap * gap
    elif METRIC == CITYBLOCK:
        return t + gap
    else:
        return tl.maximum(t, gap)


@triton.jit(do_not_specialize=ANY)
def differences_kernel(
    x, y, term, low, blocks, rows, columns, groups, step, d, x_b, x_d,
    BM: tl.constexpr, BN: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr, METRIC: tl.constexpr,
):  # fmt: skip
    """Likewise min_j t_ij + term_j, with t = ‖x_i − y_j‖, squared for ℓ2, of points given by coordinates, (d, rows).

    Tiles are (columns, rows): Triton gives the last axis to the threads, and a thread has the whole of a group.
    """
    b = (tl.program_id(0) // blocks).to(tl.int64)
    mine = (tl.program_id(0) % blocks) * BM + tl.arange(0, BM)
    begin = tl.program_id(1) * step
    end = tl.minimum(columns, begin + step)
    x_rows = x + b * x_b + mine
    y += b * columns * d
    term += b * columns
    low += (b * rows + mine)[None, :] * groups + tl.arange(0, BN // GROUP)[:, None]
    for start in range(begin, end, BN):
        js = start + tl.arange(0, BN)
        y_columns = y + js
        t = tl.zeros((BN, BM), tl.float32)
        if D > 0:
            for k in tl.static_range(D):
                t = further(t, x_rows + k * x_d, y_columns + k * columns, METRIC)
        else:
            x_k = x_rows
            for _ in range(d):
                t = further(t, x_k, y_columns, METRIC)
                x_k += x_d
                y_columns += columns
        t += tl.load(term + js)[:, None]
        tl.store(low + start // GROUP, tl.min(tl.reshape(t, (BN // GROUP, GROUP, BM)), 1))


@triton.jit(do_not_specialize=ANY)
def closest_kernel(
    low, spread, slack, near, count, blocks, rows, some, groups, k, stretch, slack_b,
    R: tl.constexpr, T: tl.constexpr, ROOM: tl.constexpr,
):  # fmt: skip
    """The groups g of rows < some with low_g <= m(1 + stretch) + slack, in order, where m bounds the k-th low + spread.

    It is the k-th smallest of T minima, each of the groups g, g + T, …; infinite where there are fewer than k.
    """
    b = (tl.program_id(0) // blocks).to(tl.int64)
    mine = (tl.program_id(0) % blocks) * R + tl.arange(0, R)
    ok = mine < some
    to = b * rows + mine
    low += to[:, None] * groups
    spread += b * groups
    slots = tl.arange(0, T)
    least = tl.full((R, T), float("inf"), tl.float32)
    for start in range(0, groups, T):
        g = start + slots
        there = g < groups
        v = tl.load(low + g[None, :], mask=ok[:, None] & there[None, :], other=float("inf"))
        least = tl.minimum(least, v + tl.load(spread + g, mask=there, other=0.0)[None, :])
    for _ in range(1, k):
        least = tl.where(slots[None, :] == tl.argmin(least, 1)[:, None], float("inf"), least)
    m = tl.minimum(tl.min(least, 1), LARGEST)
    limit = m + m * stretch + tl.load(slack + b * slack_b + mine, mask=ok, other=0.0)
    held = tl.zeros((R,), tl.int32)
    for start in range(0, groups, T):
        g = start + slots
        v = tl.load(low + g[None, :], mask=ok[:, None] & (g < groups)[None, :], other=float("inf"))
        hit = (v <= limit[:, None]).to(tl.int32)
        here = tl.sum(hit, 1)
        if tl.max(here) > 0:
            at = held[:, None] + tl.cumsum(hit, 1) - 1
            found = tl.broadcast_to(g[None, :], (R, T))
            tl.store(near + to[:, None] * ROOM + at, found, mask=(hit > 0) & (at < ROOM))
        held += here
    tl.store(count + to, held, mask=ok)


@triton.jit
def groups_of(count, to, ok, ROOM: tl.constexpr):
    """How many groups of each row are in its list; none where not all are."""
    held = tl.load(count + to, mask=ok, other=0)
    return tl.where(held > ROOM, 0, held)


@triton.jit(do_not_specialize=ANY)
def measure_kernel(
    x, y, own, near, count, gap, blocks, rows, some, m, d, x_b, x_n, x_d, y_b, y_m, y_d, own_b,
    R: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr, ROOM: tl.constexpr, METRIC: tl.constexpr,
    EXCLUDE: tl.constexpr,
):  # fmt: skip
    """‖x_i − y_j‖ in float64, squared for ℓ2, for the points j of the groups near row i; infinite for the own one."""
    b = (tl.program_id(0) // blocks).to(tl.int64)
    mine = (tl.program_id(0) % blocks) * R + tl.arange(0, R)
    ok = mine < some
    to = b * rows + mine
    held = groups_of(count, to, ok, ROOM)
    x_rows = x + b * x_b + mine.to(tl.int64) * x_n
    y += b * y_b
    lanes = tl.arange(0, GROUP)
    if EXCLUDE:
        itself = tl.load(own + b * own_b + mine, mask=ok, other=-1)
    for slot in range(tl.max(held)):
        there = ok & (slot < held)
        first = tl.load(near + to * ROOM + slot, mask=there, other=0) * GROUP
        js = first[:, None] + lanes[None, :]
        inside = there[:, None] & (js < m)
        y_columns = y + js.to(tl.int64) * y_m
        t = tl.zeros((R, GROUP), tl.float64)
        for k in range(0, d, BK):
            ks = k + tl.arange(0, BK)
            within = ks < d
            ks = ks.to(tl.int64)
            a = tl.load(x_rows[:, None] + ks[None, :] * x_d, mask=ok[:, None] & within[None, :], other=0.0)
            c = tl.load(
                y_columns[:, :, None] + ks[None, None, :] * y_d,
                mask=inside[:, :, None] & within[None, None, :],
                other=0.0,
            )
            apart = tl.abs(a.to(tl.float64)[:, None, :] - c.to(tl.float64))
            if METRIC == EUCLIDEAN:
                t += tl.sum(apart * apart, 2)
            elif METRIC == CITYBLOCK:
                t += tl.sum(apart, 2)
            else:
                t = tl.maximum(t, tl.max(apart, 2))
        if EXCLUDE:
            inside = inside & (js != itself[:, None])
        at = (to * ROOM + slot)[:, None] * GROUP + lanes[None, :]
        tl.store(gap + at, tl.where(inside, t, float("inf")), mask=there[:, None])


@triton.jit
def least_of(
    gap, near, to, ok, held, distance, index, k,
    WIDTH: tl.constexpr, GROUP: tl.constexpr, ROOM: tl.constexpr, METRIC: tl.constexpr,
):  # fmt: skip
    """The k least of at most WIDTH groups, by distance, then by index."""
    lanes = tl.arange(0, WIDTH * GROUP)[None, :]
    inside = ok[:, None] & (lanes < held[:, None] * GROUP)
    t = tl.load(gap + to[:, None] * (ROOM * GROUP) + lanes, mask=inside, other=float("inf"))
    j = tl.load(near + to[:, None] * ROOM + lanes // GROUP, mask=inside, other=0) * GROUP + lanes % GROUP
    j = tl.where(inside, j, NONE)
    for r in range(k):
        least = tl.min(t, 1)
        first = tl.min(tl.where(t == least[:, None], j, NONE), 1)
        if METRIC == EUCLIDEAN:
            least = tl.sqrt(least)
        tl.store(distance + r, least, mask=ok)
        tl.store(index + r, first, mask=ok)
        t = tl.where(j == first[:, None], float("inf"), t)


@triton.jit(do_not_specialize=ANY)
def smallest_kernel(
    gap, near, count, distance, index, blocks, rows, some, k, found_b,
    R: tl.constexpr, FEW: tl.constexpr, GROUP: tl.constexpr, ROOM: tl.constexpr, METRIC: tl.constexpr,
):  # fmt: skip
    """Distances and indices of the k nearest; nothing of use for rows of more than ROOM groups."""
    b = (tl.program_id(0) // blocks).to(tl.int64)
    mine = (tl.program_id(0) % blocks) * R + tl.arange(0, R)
    ok = mine < some
    to = b * rows + mine
    held = groups_of(count, to, ok, ROOM)
    distance += b * found_b + mine.to(tl.int64) * k
    index += b * found_b + mine.to(tl.int64) * k
    if tl.max(held) <= FEW:
        least_of(gap, near, to, ok, held, distance, index, k, FEW, GROUP, ROOM, METRIC)
    else:
        least_of(gap, near, to, ok, held, distance, index, k, ROOM, GROUP, ROOM, METRIC)
