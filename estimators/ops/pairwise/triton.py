"""`row_sums` and `row_moments` on CUDA by Triton, with their gradient, in float32 and float64.

One launch takes a whole batch of problems. Every program owns its rows, and parts of the columns are added up in
float64 in a fixed order: no atomics, so that repeats give the same bits. On a CPU it runs under Triton's interpreter
alone (``TRITON_INTERPRET=1``), which is for tests.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from estimators.ops.pairwise import forms, gradient
from estimators.ops.pairwise.forms import Lowered, Term

Precision = Literal["accurate", "tf32"]

FEW = 16  # coordinates up to which distances are differences, in float32; in float64 they always are
MANY = 32  # terms, from which the kernels would take long to compile
CAPABILITY = (8, 0)  # of the oldest GPU that Triton compiles all of this for
# Programs for each multiprocessor, so that the last ones to end leave few of them idle. A part of the columns takes 8
# bytes a row for sums and 8 a coordinate for slopes, which have fewer.
WAVES = {"sums": 8, "slopes": 2}
PARTS = 16  # of the columns, at most
FREE = 4.0  # roundings of a kernel value that a rounding of ‖a‖² + ‖b‖² may cost where no pair is near
# What Triton multiplies in: never its own default, TF32 with its 11 bits. "tf32x3", three such products for one of
# nearly float32's precision, is for `benchmarks.ops_gpu`, until a measurement speaks for it.
INPUT = {"accurate": "ieee", "tf32": "tf32", "tf32x3": "tf32x3"}
# Rows, columns and warps of a tile, chosen by what compiles for Hopper without spilled registers; not yet by time.
TILES = {
    ("sums", "differences"): (512, 16, 4),
    ("slopes", "differences"): (256, 16, 4),
    ("sums", "ieee"): (128, 64, 8),
    ("slopes", "ieee"): (128, 32, 8),
    ("sums", "tf32"): (256, 64, 8),
    ("slopes", "tf32"): (128, 32, 8),
    ("sums", "tf32x3"): (128, 64, 8),
    ("slopes", "tf32x3"): (128, 32, 8),
}
LEAST = 128  # rows of a tile of a small problem
INTERPRETED = 1024  # rows and columns of a tile in the interpreter


def why_not(terms: Sequence[Term] | None, x: Tensor, y: Tensor, *weights: Tensor | None) -> str:
    """What keeps Triton from these sums; nothing where it can. No number on the GPU is read."""
    given = [x, y, *(w for w in weights if w is not None)]
    if any(tensor.device != x.device for tensor in given):
        return "points and weights on several devices"
    if wrong := absent(x.device):
        return wrong
    if not gradient.is_plain(*given):
        return "a transform of torch.func, or a subclass of Tensor"
    if x.dtype not in forms.LENGTHS or any(tensor.dtype != x.dtype for tensor in given):
        return f"points of {x.dtype}"
    if wrong := forms.unfit(x, y, *weights) or forms.why_not(terms, x.dtype):
        return wrong
    return f"more than {MANY} terms" if len(terms or ()) > MANY else ""


def check_precision(precision: str, path: str, why: str, dtype: torch.dtype) -> None:
    """That "tf32" is asked for where it can be had.

    Raises:
        ValueError: it is not.
    """
    if precision not in ("accurate", "tf32"):
        raise ValueError(f'precision must be "accurate" or "tf32": got {precision!r}')
    if precision == "tf32" and (path != "triton" or dtype != torch.float32):
        where = f'{dtype} on the path "{path}"'
        raise ValueError(f'precision must be "accurate" for points of {where}, {why}: got "tf32"')


def absent(device: torch.device) -> str:
    """What keeps Triton from a device; nothing where it can be used."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if is_interpreted():
        return ""
    if device.type != "cuda" or torch.version.cuda is None:
        return "the points are not on a CUDA device"
    found = torch.cuda.get_device_capability(device)
    return "" if found >= CAPABILITY else f"compute capability {found[0]}.{found[1]}, below 8.0"


def is_interpreted() -> bool:
    """Whether Triton runs its kernels in Python, on any device."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def described(x: Tensor) -> str:
    """The way that Triton takes."""
    where = "interpreted" if is_interpreted() else torch.cuda.get_device_name(x.device)
    how = "matrix products, near pairs by " if by_products(x) else ""
    return f"Triton, {where}, {x.dtype}, distances by {how}squared differences"


def by_products(x: Tensor) -> bool:
    """Whether distances are taken by matrix products."""
    return x.dtype == torch.float32 and x.shape[-1] > FEW


def constants(kind: str, x: Tensor, precision: str) -> dict[str, Any]:
    """How "sums" or "slopes" of points like x are compiled: tiles, and how distances are taken."""
    products, d = by_products(x), x.shape[-1]
    BM, BN, warps = TILES[kind, INPUT[precision] if products else "differences"]
    # A product in "ieee" holds its operands in registers; one by tensor cores has them in shared memory.
    BK = 16 if not products or precision == "accurate" else power_of_2(d, 64)
    found = {
        "BM": BM if x.dtype == torch.float32 else BM // 2, "BN": BN, "BK": BK, "D": d if d <= FEW else 0,
        "PRODUCTS": products, "SINGLE": d <= BK, "RETAKE": precision != "tf32", "INPUT": INPUT[precision],
        "num_warps": warps, "num_stages": 2,
    }  # fmt: skip
    if kind == "slopes":
        found["BC"] = BK if d <= BK else power_of_2(d, 64) if products else 16
    return found


def power_of_2(size: int, most: int) -> int:
    """The least power of 2 from 16, and at most ``most``, that is no less than ``size``."""
    return min(most, max(16, 1 << (size - 1).bit_length()))


def row_sums(
    terms: Sequence[Term],
    x: Tensor,
    y: Tensor,
    y_weights: Tensor | None,
    exclude_self: bool,
    twin: Callable[..., Tensor],
    precision: str = "accurate",
) -> Tensor:
    """Σ_j w_j Σ_t f_t(‖x_i − y_j‖²), (..., n), in float64; second derivatives are those of ``twin``, torch's."""
    by = gradient.Sums(partial(sums, precision=precision), partial(slopes, precision=precision))
    return gradient.row_sums(by, terms, x, y, y_weights, exclude_self, twin)


def sums(
    terms: Sequence[Term], x: Tensor, y: Tensor | None, w: Tensor | None, exclude: bool, *, precision: str = "accurate"
) -> Tensor:
    """Σ_j w_j k(x_i, y_j), (..., n), in float64; y is x where it is None."""
    return _sums(terms, x, y, w, exclude, precision, None)[0]


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
    o = alone[0].to(x.dtype), alone[1].to(x.dtype)
    own = y is x and w is v
    found: list[Tensor] = []
    for a, b, weights, given in list(progress([(x, y, v, o), (y, x, w, o[::-1])][: 1 if own else 2])):
        found += _sums(terms, a, None if y is x else b, weights, exclude_self, "accurate", given)
    rows, rows_2, squares = found[:3]
    columns, columns_2 = (rows, rows_2) if own else found[3:5]
    return [rows, columns, rows_2, columns_2, (squares * w.double().square()).sum(-1)]


def _sums(
    terms: Sequence[Term],
    x: Tensor,
    y: Tensor | None,
    w: Tensor | None,
    exclude: bool,
    precision: str,
    alone: tuple[Tensor, Tensor] | None,
) -> list[Tensor]:
    """Sums, and for moments those of squared weights, and squares."""
    from estimators.ops.pairwise.triton_kernels import sums_kernel

    p = _prepared("sums", terms, x, y, w, precision)
    ox, oy = (x, x) if alone is None else (o.expand(*p.lead, -1).reshape(p.problems, -1).contiguous() for o in alone)
    found = [x.new_empty(p.parts, p.problems, p.n, dtype=torch.float64) for _ in range(1 if alone is None else 3)]
    out = (*found, *found[-1:] * (3 - len(found)))
    with on(x.device):
        sums_kernel[(p.problems * p.blocks, p.parts)](
            p.x, p.y, p.w, ox, oy, p.centre, p.terms, p.free, *out, *p.sizes, *p.strides, **p.constants,
            SAME=y is None, EXCLUDE=exclude, MOMENTS=alone is not None,
        )  # fmt: skip
    return [(part[0] if p.parts == 1 else part.sum(0)).reshape(*p.lead, p.n) for part in found]


def slopes(
    terms: Sequence[Term], x: Tensor, y: Tensor | None, w: Tensor | None, exclude: bool, *, precision: str = "accurate"
) -> Tensor:
    """Σ_j w_j ∂k(x_i, y_j)/∂x_i, (..., n, d), in the dtype of x; y is x where it is None."""
    from estimators.ops.pairwise.triton_kernels import slopes_kernel

    p = _prepared("slopes", terms, x, y, w, precision)
    d = x.shape[-1]
    found = x.new_empty(p.parts, p.problems, p.n, d, dtype=x.dtype if p.parts == 1 else torch.float64)
    with on(x.device):
        slopes_kernel[(p.problems * p.blocks, p.parts, -(-d // p.constants["BC"]))](
            p.x, p.y, p.w, p.centre, p.terms, p.free, found, *p.sizes, *p.strides, **p.constants,
            SAME=y is None, EXCLUDE=exclude,
        )  # fmt: skip
    whole = found[0] if p.parts == 1 else found.sum(0).to(x.dtype)
    return whole.reshape(*p.lead, p.n, d)


class _Prepared(NamedTuple):
    """What the kernels read."""

    lead: torch.Size
    problems: int
    n: int
    blocks: int
    parts: int
    x: Tensor  # (B, n, d)
    y: Tensor  # (B, m, d)
    w: Tensor  # (B, m), or anything where there are none
    centre: Tensor  # (B, d)
    terms: Tensor  # (B or 1, terms, 3): a, p and q
    free: Tensor  # (B or 1,)
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    constants: dict[str, Any]


def _prepared(
    kind: str, terms: Sequence[Term], x: Tensor, y: Tensor | None, w: Tensor | None, precision: str
) -> _Prepared:
    y = x if y is None else y
    lead = forms.lead_of(terms, x, y, w)
    problems, (n, d), m = math.prod(lead), x.shape[-2:], y.shape[-2]
    a, b = (part.expand(*lead, *part.shape[-2:]).reshape(problems, *part.shape[-2:]) for part in (x, y))
    v = x.new_empty(1, 1) if w is None else w.to(x.dtype).expand(*lead, m).reshape(problems, m)
    centre = y.mean(-2).expand(*lead, d).reshape(problems, d).contiguous() if by_products(x) else x
    table, free, kinds, squarings = _table(terms, lead, x)
    given = constants(kind, x, precision)
    BM, blocks, parts, step = shares(kind, x.device, problems, n, m, given)
    given |= {"BM": BM, "FORMS": kinds, "SQUARINGS": squarings, "COUNT": len(kinds), "WEIGHTED": w is not None}
    shared = [part.stride(0) if part.shape[0] > 1 else 0 for part in (v, table, free)]
    strides = (*a.stride(), *b.stride(), shared[0], v.stride(1), *shared[1:])
    sizes = (blocks, n, m, d, step)
    return _Prepared(lead, problems, n, blocks, parts, a, b, v, centre, table, free, sizes, strides, given)


def shares(
    kind: str, device: torch.device, problems: int, n: int, m: int, given: dict[str, Any]
) -> tuple[int, int, int, int]:
    """Rows of a block, blocks, parts of the columns, and columns of a part, so that all multiprocessors have work."""
    BM = given["BM"]
    if is_interpreted():  # a tile takes milliseconds whatever its size
        given["BN"] = power_of_2(m, INTERPRETED)
        BM = power_of_2(n, INTERPRETED)
        return BM, -(-n // BM), 1, -(-m // given["BN"]) * given["BN"]
    tiles, processors = -(-m // given["BN"]), multiprocessors(device)
    while BM > LEAST and problems * -(-n // BM) * min(tiles, PARTS) < 2 * processors:
        BM //= 2
    blocks = -(-n // BM)
    wanted = -(-WAVES[kind] * processors // (problems * blocks))
    step = -(-tiles // min(wanted, tiles, PARTS))
    return BM, blocks, -(-tiles // step), step * given["BN"]


@functools.cache
def multiprocessors(device: torch.device) -> int:
    """Of a GPU."""
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def on(device: torch.device) -> Any:
    """Triton launches on the current device."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()


def _table(
    terms: Sequence[Term], lead: torch.Size, x: Tensor
) -> tuple[Tensor, Tensor, tuple[int, ...], tuple[int, ...]]:
    """The numbers of the terms, the squared length below which rounding is harmless, and their forms and squarings."""
    found = forms.lowered(terms)
    kinds = tuple(term.form for term in found)
    squarings = tuple(int(term.q) if term.form == forms.SQUARED else 0 for term in found)
    if not any(isinstance(term.p, Tensor) for term in found):
        return (*_constant(tuple(found), x.dtype, x.device), kinds, squarings)
    size = torch.finfo(x.dtype).max
    columns, free = [], []
    for a, p, q, form in found:
        if isinstance(p, Tensor):
            p = p.detach().to(x.device, torch.float64)
            p = p.reshape(p.shape[:-2]).expand(lead).reshape(-1)
        else:
            p = torch.full((math.prod(lead),), p, dtype=torch.float64, device=x.device)
        columns.append(torch.stack([torch.full_like(p, a), p, torch.full_like(p, q)], -1))
        free.append(torch.zeros_like(p) + _free(Lowered(a, p, q, form)))
    table = torch.stack(columns, -2).clamp(-size, size).to(x.dtype)  # an infinite p would make NaN of p·0
    return table.contiguous(), torch.stack(free).amin(0).to(x.dtype), kinds, squarings


@functools.lru_cache(maxsize=64)
def _constant(terms: tuple[Lowered, ...], dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The same for every problem: sent to the device once."""
    table = torch.tensor([[term[:3] for term in terms]], dtype=torch.float64).to(dtype)
    free = torch.tensor([min(_free(term) for term in terms)], dtype=torch.float64).to(dtype)
    return table.to(device), free.to(device)


def _free(term: Lowered) -> Any:
    """The squared length r² of which a rounding changes the term by `FREE` roundings: r²·max|f'|/f(0) = FREE."""
    if term.form in (forms.GAUSSIAN, forms.SQUARED):
        return -FREE / (term.p * math.log(2))
    if term.form == forms.INVERSE:
        return FREE * term.p
    return FREE / (-term.q * term.p) if term.form == forms.RATIONAL else 0.0  # the others are steep at 0
