"""The one door for samples: what comes in is checked once here and trusted inside.

`admit` looks at metadata only (type, shape, dtype, device), so that a training step never waits for a GPU, and at
weights where they are on the CPU;
`admit_thoroughly` also looks at the numbers (finiteness, weights) and is used by `estimate`, the tests and `compare`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from estimators import repeats
from estimators.ops import native

SMALLEST, LARGEST = 1e-140, 1e140  # of deviations whose squares, and sums of squares, are still numbers
ROUNDED = 1e-3  # that weights in single precision may be off 1 by, in sum
SHARED = 0.01  # share of a sample's rows in the other one from which a note says so


class Samples(NamedTuple):
    """Admitted samples: x ~ P (..., n, d), y ~ Q (..., m, d), weights (..., n), (..., m) or None, and notes."""

    x: Tensor
    y: Tensor
    x_weights: Tensor | None
    y_weights: Tensor | None
    notes: tuple[str, ...] = ()


def admit(
    x: Any,
    y: Any,
    x_weights: Any = None,
    y_weights: Any = None,
    *,
    x_counts: Any = None,
    y_counts: Any = None,
    minimum: int = 1,
) -> Samples:
    """Tensors of one dtype and device from ``x`` and ``y``, arrays or tensors of shapes (..., n, d) and (..., m, d).

    Where both have one axis, (n,) and (m,), their points have one coordinate, (n, 1) and (m, 1).

    Counts, (n,) and (m,), say how often each point stands in its sample: it is repeated as often.

    Raises:
        TypeError: an argument is not numeric.
        ValueError: an argument has too few axes or points, or the two do not fit each other; weights on the CPU that
            are negative, not finite or do not sum to 1.
    """
    samples = _fitting(x, y, x_weights, y_weights, x_counts, y_counts, minimum)
    for name, weights in (("x_weights", samples.x_weights), ("y_weights", samples.y_weights)):
        if weights is not None and native.is_plain(weights):  # on a GPU nobody waits for numbers
            total, least = weights.detach().sum(-1), float(weights.detach().min())
            if not (least >= 0 and bool(((total - 1).abs() <= ROUNDED).all())):  # false for NaN
                raise ValueError(
                    f"{name} must be finite, not negative, and sum to 1: got weights from {least:g} on and sums from "
                    f"{float(total.min()):g} to {float(total.max()):g}; divide them by their sum"
                )
    return samples


def _fitting(x: Any, y: Any, x_weights: Any, y_weights: Any, x_counts: Any, y_counts: Any, minimum: int = 1) -> Samples:
    """What is known of the arguments without their numbers."""
    names = [list(getattr(v, "columns", [])) for v in (x, y)]
    if all(names) and names[0] != names[1]:
        raise ValueError(
            f"x and y must have the same columns in the same order: got {names[0][:5]} and {names[1][:5]}; "
            "est.compare matches columns by name"
        )
    a, b = tensor(x, "x"), tensor(y, "y")
    if a.ndim == b.ndim == 1:
        a, b = a[:, None], b[:, None]
    for name, t, value in (("x", a, x), ("y", b, y)):
        if t.ndim < 2:
            column = f"{name}.reshape(-1, 1)" if isinstance(value, Tensor) else f"np.reshape({name}, (-1, 1))"
            hint = f"; for points of one coordinate pass {column}" if t.ndim == 1 else ""
            raise ValueError(
                f"{name} must have at least two axes, (..., n, d), or x and y one each: got shape {tuple(t.shape)}"
                f"{hint}"
            )
    if x_counts is not None:
        a = _repeated(a, x_counts, x_weights, "x")
    if y_counts is not None:
        b = _repeated(b, y_counts, y_weights, "y")
    for name, t in (("x", a), ("y", b)):
        if t.shape[-2] < minimum:
            raise ValueError(f"{name} needs at least {minimum} point{'s' * (minimum > 1)}: got shape {tuple(t.shape)}")
        if t.shape[-1] == 0:
            raise ValueError(f"{name} has points without coordinates: got shape {tuple(t.shape)}")
    if a.shape[-1] != b.shape[-1]:
        raise ValueError(f"x and y must share their last axis: got {tuple(a.shape)} and {tuple(b.shape)}")
    try:
        torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except RuntimeError:
        raise ValueError(
            f"the leading axes of x and y do not broadcast: {tuple(a.shape)} and {tuple(b.shape)}"
        ) from None
    if a.device != b.device:
        raise ValueError(f"x and y must be on one device: got {a.device} and {b.device}")
    dtype = torch.promote_types(a.dtype, b.dtype)
    if dtype in (torch.float16, torch.bfloat16):
        dtype = torch.float32  # half precision accumulates in single
    a, b = a.to(dtype), b.to(dtype)
    return Samples(a, b, _weights(x_weights, "x_weights", a), _weights(y_weights, "y_weights", b))


def admit_thoroughly(
    x: Any,
    y: Any,
    x_weights: Any = None,
    y_weights: Any = None,
    *,
    x_counts: Any = None,
    y_counts: Any = None,
    minimum: int = 1,
    normalize: bool = False,
    nan_policy: str = "raise",
    clustered: bool = False,
) -> Samples:
    """`admit`, then one problem in float64 whose numbers are finite and whose weights sum to 1.

    ``nan_policy="omit"`` drops the rows with a NaN and says how many; ``normalize=True`` divides weights by their sum;
    ``clustered=True`` says that rows of a sample may depend on each other, so that copies need no note.

    Raises:
        ValueError: as `admit`; non-finite data; negative weights or weights that do not sum to 1; extra axes.
    """
    if nan_policy not in ("raise", "omit"):
        raise ValueError(f'nan_policy must be "raise" or "omit": got {nan_policy!r}')
    samples = _fitting(x, y, x_weights, y_weights, x_counts, y_counts)
    notes: list[str] = []
    half = [str(v.dtype).removeprefix("torch.") for v in (x, y) if getattr(v, "dtype", None) in _HALF]
    if half:
        notes.append(f"{half[0]} input was computed in float64")
    if samples.x.ndim > 2 or samples.y.ndim > 2:
        raise ValueError(
            f"an estimate takes one problem, (n, d) and (m, d): got {tuple(samples.x.shape)} and "
            f"{tuple(samples.y.shape)}; call `value` for a batch, or loop over it"
        )
    sides = []
    for name, points, weights in (("x", samples.x, samples.x_weights), ("y", samples.y, samples.y_weights)):
        points = points.detach().double()
        weights = None if weights is None else check_weights(weights.detach().double(), f"{name}_weights", normalize)
        bad = torch.isnan(points).any(-1)
        if nan_policy == "omit" and bool(bad.any()):
            notes.append(f"{int(bad.sum())} of {len(points)} rows of {name} were dropped for NaN")
            points = points[~bad]
            weights = None if weights is None else weights[~bad] / weights[~bad].sum()
        try:
            check_finite(points, name)
        except ValueError as error:
            hint = '; nan_policy="omit" drops such rows' if nan_policy == "raise" and bool(bad.any()) else ""
            raise ValueError(f"{error}{hint}") from None
        if len(points) < minimum:
            raise ValueError(f"{name} needs at least {minimum} point{'s' * (minimum > 1)}: got {len(points)}")
        sides.append((points, weights))
    (a, wa), (b, wb) = sides
    check_unit(a, b)
    for name, points, weights in (("x", a, wa), ("y", b, wb)):
        left = len(points) if weights is None else int((weights > 0).sum())
        if left < minimum:
            raise ValueError(f"{name}_weights leave {left} point{'s' * (left != 1)} with weight: {minimum} are needed")
    rows = a.cpu().numpy(), b.cpu().numpy()
    hashes = repeats.hashes(rows[0]), repeats.hashes(rows[1])
    notes.extend(_shared(*hashes))
    if not (clustered or half):  # half precision is too coarse for equal rows to mean anything
        counted = x_counts is not None, y_counts is not None  # counts say themselves that points repeat
        shares = [
            0.0 if own_counts else repeats.copied(points, own, other)
            for points, own, other, own_counts in zip(rows, hashes, hashes[::-1], counted, strict=True)
        ]
        about = [f"{share:.0%} of the rows of {name}" for name, share in zip("xy", shares, strict=True) if share]
        if about:
            notes.append(
                f"{' and '.join(about)} repeat others: if they are copies they are not independent draws, intervals "
                "are too short and p-values too small; drop them, or pass clusters= to the test"
            )
    return Samples(a, b, wa, wb, tuple(notes))


def check_unit(x: Tensor, y: Tensor) -> None:
    """Raise ValueError where squared deviations vanish or overflow: distances would be 0 or infinite, silently."""
    pooled = torch.cat([x, y])
    largest = float((pooled - pooled[0]).abs().max())
    if 0 < largest < SMALLEST or largest > LARGEST:
        raise ValueError(f"x and y vary by {largest:.3g}, whose square is no number: divide both by a unit near that")


def _shared(a: repeats.Hashes, b: repeats.Hashes) -> tuple[str, ...]:
    """A note where rows of one sample stand in the other, though rows hardly repeat within a sample."""
    if any(len(np.unique(h)) < 0.9 * len(h) for h in (a, b)):
        return ()
    count = len(np.intersect1d(a, b))
    if count <= SHARED * min(len(a), len(b)):
        return ()
    return (f"{count} rows of y also stand in x: samples that share points are not independent, as is assumed",)


def seeded(seed: int | None) -> torch.Generator:
    """A generator for ``seed``, a non-negative integer below 2⁶³; None is 0.

    Raises:
        TypeError: no integer.
        ValueError: out of range.
    """
    if seed is None:
        seed = 0
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer):
        raise TypeError(f"seed must be an integer or None: got {type(seed).__name__} {seed!r}")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed must lie in [0, 2**63): got {seed}")
    return torch.Generator().manual_seed(int(seed))


def fraction(value: Any, name: str) -> float:
    """``value`` as a number in (0, 1), such as a confidence. Raises TypeError or ValueError that name it."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        raise TypeError(f"{name} must be a number in (0, 1): got {type(value).__name__} {value!r}")
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie in (0, 1): got {value}")
    return float(value)


def not_negative(value: Any, name: str) -> float:
    """``value`` as a number, 0 or more. Raises TypeError or ValueError that name it."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        raise TypeError(f"{name} must be a number, 0 or more: got {type(value).__name__} {value!r}")
    if not value >= 0:
        raise ValueError(f"{name} must not be negative: got {value}")
    return float(value)


def count(value: Any, name: str, least: int = 1) -> int:
    """``value`` as an integer of at least ``least``. Raises TypeError or ValueError that name it."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer: got {type(value).__name__} {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}: got {value}")
    return int(value)


_HALF = (torch.float16, torch.bfloat16, np.dtype("float16"))


def tensor(value: Any, name: str) -> Tensor:
    """``value`` as a floating-point tensor; integers become float64 (numpy) or the default dtype (torch)."""
    if isinstance(value, Tensor):
        if value.is_complex():
            raise TypeError(f"{name} must be real: got a tensor of {value.dtype}")
        return value if value.is_floating_point() else value.to(torch.get_default_dtype())
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise TypeError(f"{name} must be an array of numbers: {error}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be an array of numbers: {_without_numbers(value, array)}")
    if array.dtype.kind != "f" or array.dtype.itemsize > 8:
        array = array.astype(np.float64)
    array = np.asarray(array, order="C")
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def _without_numbers(value: Any, array: NDArray[Any]) -> str:
    """What came instead of numbers: of a data frame, the first column that holds none."""
    for column in getattr(value, "column_names", getattr(value, "columns", ())):
        part = np.asarray(value[column]).ravel()
        if part.dtype.kind not in "fiub":
            held = "text" if any(isinstance(v, str) for v in part) else f"values of dtype {part.dtype}"
            return f"column {column!r} holds {held}; est.compare takes such columns"
    return f"got {type(value).__name__} of dtype {array.dtype}"


def check_finite(points: Tensor, name: str) -> None:
    """Raise ValueError naming ``name``, how many values are not finite, and the first row that has one."""
    if bool(torch.isfinite(points.sum())):
        return  # a tenth of the time; finite numbers whose sum is not are looked at one by one
    bad = ~torch.isfinite(points)
    if bool(bad.any()):
        kind = "NaN" if bool(torch.isnan(points).any()) else "infinite"
        row = int(bad.any(-1).nonzero()[0])
        raise ValueError(f"{name} has {int(bad.sum())} {kind} or non-finite value(s), the first in row {row}")


def check_weights(weights: Tensor, name: str, normalize: bool = False) -> Tensor:
    """Weights that are finite, not negative, and sum to 1 (or are made to, when ``normalize``)."""
    if not bool(torch.isfinite(weights).all()):
        raise ValueError(f"{name} must be finite: got {int((~torch.isfinite(weights)).sum())} non-finite value(s)")
    if bool((weights < 0).any()):
        raise ValueError(f"{name} must not be negative: got {float(weights.min()):g}")
    total = float(weights.sum())
    if total == 0:
        raise ValueError(f"{name} have no mass: all are 0")
    if normalize:
        return weights / total
    if abs(total - 1) > 1e-6:
        raise ValueError(f"{name} must sum to 1: the sum is {total:g}; pass normalize=True to divide by it")
    return weights


def _repeated(points: Tensor, counts: Any, weights: Any, name: str) -> Tensor:
    """Each point as often as its count says."""
    if weights is not None:
        raise ValueError(f"{name}_counts and {name}_weights were both given: a point has a count or a weight")
    array = np.asarray(counts.cpu() if isinstance(counts, Tensor) else counts)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}_counts must be integers: got dtype {array.dtype}; pass fractions as {name}_weights")
    if points.ndim < 2 or array.shape != (points.shape[-2],):
        expected = f"({points.shape[-2]},)" if points.ndim > 1 else "(n,)"
        raise ValueError(f"{name}_counts must have one count a point, {expected}: got shape {array.shape}")
    if (array < 0).any():
        raise ValueError(f"{name}_counts must not be negative: got {array.min()}")
    return points.repeat_interleave(torch.as_tensor(array.astype(np.int64), device=points.device), -2)


def _weights(value: Any, name: str, points: Tensor) -> Tensor | None:
    if value is None:
        return None
    weights = tensor(value, name).to(points)
    if weights.shape[-1:] != points.shape[-2:-1]:
        raise ValueError(f"{name} must have one weight a point, (..., {points.shape[-2]}): got {tuple(weights.shape)}")
    return weights
