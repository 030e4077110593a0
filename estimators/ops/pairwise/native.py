"""`row_sums` on the CPU by the library of `estimators.ops.native`, in float32 and float64, with its gradient."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from estimators.ops import native
from estimators.ops.pairwise import forms, gradient
from estimators.ops.pairwise.forms import POINTS, Term

ROWS = 256  # of a task, at the least
PART = 400_000  # coordinates of pairs of a task: some 30 µs
EVERY, OTHERS, ABOVE = range(3)  # all pairs; those with j ≠ i; those with j > i
LEAST = 8  # coordinates that a kernel value costs, at the least
FEWEST = 1024  # pairs of each problem of a batch, from which the library is as fast as torch for all at once


class _Term(ctypes.Structure):
    _fields_ = (
        ("a", ctypes.c_double),
        ("p", ctypes.c_double),
        ("q", ctypes.c_double),
        ("form", ctypes.c_int32),
    )


class _Problem(ctypes.Structure):
    _fields_ = (
        ("x", ctypes.c_void_p),
        ("panels", ctypes.c_void_p),
        ("v", ctypes.c_void_p),
        ("w", ctypes.c_void_p),
        ("ox", ctypes.c_void_p),
        ("oy", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("n", "m", "d", "step")),
        ("terms", ctypes.c_void_p),
        ("count", ctypes.c_int32),
        ("pairs", ctypes.c_int32),
    )


def why_not(terms: Sequence[Term] | None, x: Tensor, y: Tensor, *weights: Tensor | None) -> str:
    """What keeps the library from these sums; nothing where it can."""
    given = [x, y, *(w for w in weights if w is not None)]
    if any(tensor.device.type != "cpu" for tensor in given):
        return "the points are not on the CPU"
    if not native.is_plain(*given):
        return "a transform of torch.func, or a subclass of Tensor"
    if x.dtype not in native.SUFFIX or any(tensor.dtype != x.dtype for tensor in given):
        return f"points of {x.dtype}"
    if wrong := forms.unfit(x, y, *weights):
        return wrong
    if (x.ndim > 2 or y.ndim > 2) and x.shape[-2] * y.shape[-2] < FEWEST:
        return f"a batch of problems with fewer than {FEWEST} pairs, which torch takes all at once"
    if wrong := forms.why_not(terms, x.dtype):
        return wrong
    if native.library() is None:
        return "the library is not built: python -m estimators.ops.native"
    if not all(float(tensor.detach().abs().amax()) <= POINTS[x.dtype] for tensor in given):  # false for NaN
        return f"points or weights that are not finite, or beyond {POINTS[x.dtype]:g}"
    return ""


def described(x: Tensor) -> str:
    """The way that the library takes."""
    return f"{_library().instruction_set}, {x.dtype}, distances by squared differences"


def _library() -> native.Library:
    found = native.library()
    assert found is not None  # `why_not` was asked
    return found


def row_sums(
    terms: Sequence[Term],
    x: Tensor,
    y: Tensor,
    y_weights: Tensor | None,
    exclude_self: bool,
    twin: Callable[..., Tensor],
) -> Tensor:
    """Σ_j w_j Σ_t f_t(‖x_i − y_j‖²), (..., n), in float64; second derivatives are those of ``twin``, torch's."""
    return gradient.row_sums(gradient.Sums(_sums, _slopes), terms, x, y, y_weights, exclude_self, twin)


class _Sums(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in ("rows", "columns", "rows_2", "columns_2", "squares"))


class _Packed(NamedTuple):
    """What the library reads for B problems, and keeps alive meanwhile."""

    lead: torch.Size
    x: Tensor  # (B, n, d)
    panels: Tensor  # (B, ⌈m/W⌉, d, W)
    v: Tensor  # (B, ⌈m/W⌉·W)
    m: int
    terms: Any  # (B or 1) times as many as the kernel has
    each: int  # terms of the kernel

    def problem(self, pairs: int, w: Tensor | None = None, alone: tuple[Tensor, Tensor] | None = None) -> Any:
        """The first problem, which the others follow; without ``w`` rows have the weights of columns."""
        ox, oy = (None, None) if alone is None else (part.data_ptr() for part in alone)
        step = self.each if len(self.terms) > self.each else 0
        return _Problem(
            self.x.data_ptr(), self.panels.data_ptr(), self.v.data_ptr(), None if w is None else w.data_ptr(), ox, oy,
            self.x.shape[1], self.m, self.x.shape[2], step, ctypes.addressof(self.terms), self.each, pairs,
        )  # fmt: skip

    def padded(self, values: Tensor) -> Tensor:
        """Values of columns, (..., m), as the library reads them."""
        found = self.v.new_zeros(self.v.shape)
        found[:, : self.m] = values.expand(*self.lead, self.m).reshape(-1, self.m)
        return found

    def parts(self, work: float) -> list[tuple[int, int]]:
        """The rows of all problems in parts, each of `ROWS` or of more where these are little work."""
        rows = self.x.shape[0] * self.x.shape[1]
        each = max(ROWS, math.ceil(rows * PART / work))
        return [(begin, min(rows, begin + each)) for begin in range(0, rows, each)]


def _packed(terms: tuple[Term, ...], x: Tensor, y: Tensor, w: Tensor | None) -> _Packed:
    library = _library()
    lead = forms.lead_of(terms, x, y, w)
    m, d = y.shape[-2:]
    W = library.of("width", x.dtype)()
    B = math.prod(lead)
    rows, columns = (p.expand(*lead, *p.shape[-2:]).reshape(B, *p.shape[-2:]).contiguous() for p in (x, y))
    width = -(-m // W) * W
    panels = x.new_empty(B, width * d)
    library.of("pack", x.dtype)(_pointer(columns), *map(ctypes.c_int64, (B, m, d)), _pointer(panels))
    apart = any(isinstance(scale, Tensor) for _, _, scale, _ in terms)
    lowered = [term for b in range(B if apart else 1) for term in _lowered(terms, lead, b)]
    found = _Packed(
        lead,
        rows,
        panels,
        x.new_empty(B, width),
        m,
        (_Term * len(lowered))(*lowered),
        len(lowered) // (B if apart else 1),
    )
    if w is not None:
        return found._replace(v=found.padded(w))
    found.v.zero_()[:, :m] = 1
    return found


def _sums(terms: tuple[Term, ...], x: Tensor, y: Tensor | None, w: Tensor | None, exclude: bool) -> Tensor:
    """Row sums; those of one sample with itself from half of the pairs."""
    halved = y is None
    packed = _packed(terms, x, x if y is None else y, w)
    rows, columns, *_ = _summed(
        "sums", packed, packed.problem(ABOVE if halved else OTHERS if exclude else EVERY), halved
    )
    if halved:
        rows += columns
        if not exclude:
            own = [packed.terms[k : k + packed.each] for k in range(0, len(packed.terms), packed.each)]
            rows += torch.tensor([[forms.at_zero(part)] for part in own], dtype=torch.float64) * packed.v[:, : packed.m]
    return rows.reshape(*packed.lead, rows.shape[-1])


def row_moments(
    terms: Sequence[Term],
    x: Tensor,
    y: Tensor,
    w: Tensor,
    v: Tensor,
    alone: tuple[Tensor, Tensor],
    exclude_self: bool,
    progress: Callable[[Any], Any],
) -> list[Tensor]:
    """The sums of `RowMoments`, in float64, of o_i + o'_j + Σ_t f_t(‖x_i − y_j‖²), ``alone`` being o and o'."""
    packed = _packed(tuple(terms), x, y, v)
    n, own = x.shape[-2], y is x and w is v
    mass = w.expand(*packed.lead, n).reshape(-1, n).contiguous()
    o = alone[0].to(x.dtype).expand(*packed.lead, n).reshape(-1, n).contiguous()
    given = mass, (o, packed.padded(alone[1].to(x.dtype)))
    pairs = (ABOVE if own else OTHERS) if exclude_self else EVERY
    found = _summed("moments", packed, packed.problem(pairs, *given), True, progress)
    rows, columns, rows_2, columns_2, squares = found
    total = squares.sum(-1)
    if pairs == ABOVE:
        rows, rows_2, total = rows + columns, rows_2 + columns_2, 2 * total
        columns, columns_2 = rows, rows_2
    found = [part.reshape(*packed.lead, part.shape[-1]) for part in (rows, columns, rows_2, columns_2)]
    return [*found, total.reshape(packed.lead)]


def _summed(
    name: str, packed: _Packed, problem: Any, down: bool, progress: Callable[[Any], Any] = iter
) -> list[Tensor]:
    """Rows, columns where ``down``, and for moments those of squared weights and the squares, (B, ·)."""
    B, n, d = packed.x.shape
    call, moments = _library().of(name, packed.x.dtype), name == "moments"
    work = B * n * packed.m * max(d, LEAST) / (2 if problem.pairs == ABOVE else 1)
    parts = packed.parts(work)
    count = native.threads(len(parts), work)
    zeros = partial(torch.zeros, dtype=torch.float64)
    none = zeros(B, 0)  # small sums take no longer than what is made for them
    across = [zeros(B, n) if wanted else none for wanted in (True, moments, moments)]
    along = [zeros(count, B, packed.m) if wanted else none for wanted in (down, moments)]  # each thread its own

    def run(worker: int, task: int) -> None:
        rows, rows_2, squares = (None if part is none else part.data_ptr() for part in across)
        columns, columns_2 = (None if part is none else part[worker].data_ptr() for part in along)
        out = _Sums(rows, columns, rows_2, columns_2, squares)
        call(ctypes.byref(problem), *map(ctypes.c_int64, parts[task]), ctypes.byref(out))

    native.share_out(len(parts), count, run, progress)
    columns = [part if part is none else part[0] if count == 1 else part.sum(0) for part in along]
    return [across[0], columns[0], across[1], columns[1], across[2]]


def _slopes(terms: tuple[Term, ...], x: Tensor, y: Tensor | None, w: Tensor | None, exclude: bool) -> Tensor:
    """Σ_j w_j ∂k(x_i, y_j)/∂x_i, (..., n, d)."""
    packed = _packed(terms, x, x if y is None else y, w)
    B, n, d = packed.x.shape
    call = _library().of("slopes", x.dtype)
    problem = packed.problem(OTHERS if exclude else EVERY)
    work = 2 * B * n * packed.m * max(d, LEAST)
    parts = packed.parts(work)
    count = native.threads(len(parts), work)
    found = torch.zeros(B, n, d, dtype=torch.float64)
    room = x.new_empty(count, d * _library().of("room", x.dtype)())

    def run(worker: int, task: int) -> None:
        call(ctypes.byref(problem), *map(ctypes.c_int64, parts[task]), _pointer(found), _pointer(room[worker]))

    native.share_out(len(parts), count, run)
    return (2 * found).reshape(*packed.lead, n, d)  # ∂‖x − y‖²/∂x = 2(x − y)


def _pointer(tensor: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def _lowered(terms: tuple[Term, ...], lead: torch.Size, b: int) -> list[_Term]:
    """The terms of problem ``b`` in the letters of the library."""
    own = []
    for form, factor, scale, power in terms:
        if isinstance(scale, Tensor):
            scale = float(scale.detach().reshape(scale.shape[:-2]).expand(lead).reshape(-1)[b])
        own.append((form, factor, scale, power))
    return [_Term(*term) for term in forms.lowered(own)]
