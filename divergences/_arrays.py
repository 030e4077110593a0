"""Same kind out as in: arrays of any library come in as tensors, and answers leave as what came in."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

Owner = TypeVar("Owner")


def tensor(value: Any) -> Tensor:
    """Return a floating-point tensor of ``value``. Float32 and float64 are kept, every other number becomes float64."""
    if isinstance(value, Tensor):
        return value if value.is_floating_point() else value.to(torch.float64)
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"numbers are needed: got {type(value).__name__} of dtype {array.dtype}")
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float64)
    return torch.as_tensor(array if array.flags.writeable and min(array.strides, default=0) >= 0 else array.copy())


def as_given(result: Tensor, *given: Any) -> Any:
    """Return ``result`` as a tensor if any of ``given`` is torch's, else as a numpy array, a scalar as a float."""
    if any(isinstance(value, Tensor | torch.distributions.Distribution) for value in given):
        return result
    return result.item() if result.ndim == 0 else result.detach().numpy()


def keeps_kind(method: Callable[[Owner, Tensor], Tensor]) -> Callable[[Owner, Any], Any]:
    """Return a method of one tensor that takes floats and numpy arrays as well and answers in kind."""

    @functools.wraps(method)
    def wrapped(self: Owner, value: Any) -> Any:
        return as_given(method(self, tensor(value)), value)

    return wrapped


def with_infinity(mask: Tensor, value: Tensor) -> Tensor:
    """``value``, and inf where ``mask``; no gradient passes through the infinite entries."""
    return torch.where(mask, torch.full_like(value, float("inf")), value)


def mapped(value: Any, change: Callable[[Tensor], Tensor], memo: dict[int, Any] | None = None) -> Any:
    """Return a copy of a torch law with ``change`` made to every tensor in it, laws and transforms inside included."""
    memo = {} if memo is None else memo
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, list):
        return [mapped(item, change, memo) for item in value]
    if isinstance(value, type) or not type(value).__module__.startswith("torch.distributions"):
        return value
    if id(value) not in memo:  # a transform and its inverse refer to each other
        clone = memo[id(value)] = copy.copy(value)
        for name, part in vars(value).items():
            clone.__dict__[name] = mapped(part, change, memo)
    return memo[id(value)]
