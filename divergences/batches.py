"""Batches of laws, one element at a time: for the ways to an exact value that take a single pair."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributions as td
from torch import Tensor
from tqdm import tqdm

from divergences._arrays import mapped
from divergences.laws import Empirical, line_arguments
from divergences.line import Line, line


def batched(value: Callable[..., Tensor], p: Any, q: Any, *arguments: Any, **options: Any) -> Tensor | None:
    """``value(*arguments, p, q, **options)`` of laws on the line, element by element of a batch; None for others.

    Raises:
        ValueError: the batch shapes do not fit.
    """
    shapes = batch_shape(p), batch_shape(q)
    try:
        shape = torch.broadcast_shapes(*shapes)
    except RuntimeError:
        raise ValueError(f"the batch shapes of p and q do not fit: got {shapes[0]} and {shapes[1]}") from None
    if 0 in shape:
        return torch.empty(shape, dtype=torch.float64)
    whole = [law.expand(shape) if isinstance(law, td.Distribution) else law for law in (p, q)]
    indices = list(np.ndindex(*shape))
    if any(_view(element(law, shape, indices[0])) is None for law in whole):
        return None
    values = [
        value(*arguments, *(_view(element(law, shape, index)) for law in whole), **options)
        for index in tqdm(indices, desc="exact values", delay=2, leave=False, disable=len(indices) < 2)
    ]
    return torch.stack(values).reshape(shape)


def _view(law: Any) -> Line | Empirical | None:
    if isinstance(law, Empirical):
        return law if law.points.shape[1] == 1 else None
    return line(law)


def batch_shape(law: Any) -> tuple[int, ...]:
    """Return the shape of a batch of laws; () for a single one."""
    if isinstance(law, td.Distribution):
        return tuple(law.batch_shape)
    if not hasattr(law, "dist") or not hasattr(law, "args"):
        return ()
    shapes, loc, scale = line_arguments(law)
    return np.broadcast_shapes(*(np.shape(part) for part in (*shapes, loc, scale)))


def element(law: Any, shape: tuple[int, ...], index: tuple[int, ...]) -> Any:
    """Return the element at ``index`` of a law; a torch law has the batch ``shape`` already. Gradients pass."""
    if not shape:
        return law
    if isinstance(law, td.Distribution):
        return _indexed(law, tuple(shape), index)
    if batch_shape(law) == ():
        return law
    shapes, loc, scale = (
        tuple(np.broadcast_to(part, shape)[index] for part in parts) if isinstance(parts, tuple) else parts
        for parts in line_arguments(law)
    )
    return law.dist(*shapes, *(np.broadcast_to(part, shape)[index] for part in (loc, scale)))


def _indexed(law: td.Distribution, shape: tuple[int, ...], index: tuple[int, ...]) -> td.Distribution:
    memo: dict[int, Any] = {}
    single = mapped(law, lambda part: part[index] if tuple(part.shape[: len(shape)]) == shape else part, memo)
    for clone in memo.values():
        if isinstance(clone, td.Distribution):
            clone._batch_shape = clone.batch_shape[len(shape) :]
    return single
