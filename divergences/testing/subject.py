"""The function under test as the laws call it: its inputs stay its caller's, and what it returns is looked at."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from hypothesis.errors import HypothesisException
from torch import Tensor
from torch.distributions import MultivariateNormal

EPS = 2.0**-52


class Broken(Exception):
    """What a call did that no divergence may do: raise, return NaN or another kind of thing, or write to its input."""


class Subject:
    """``D(p, q)``: calls the function on copies of the arguments and returns a float, or raises `Broken`."""

    def __init__(self, function: Any, name: str = "D", example: Mapping[str, Any] | None = None) -> None:
        self.function, self.name, self.example = function, name, example or {}
        self.eps = EPS  # the coarsest precision of a value so far

    def __call__(self, *arguments: Any) -> float:
        """Return the value as a float; inf is one, NaN is not."""
        found = self.raw(*arguments)
        value = number(found)
        self.eps = max(self.eps, precision(found))
        if value is None:
            raise Broken(f"{self.written(arguments)} returned {described(found)}: a number is needed")
        if value != value:
            raise Broken(f"{self.written(arguments)} returned NaN")
        return value

    def matrix(self, x: Any, y: Any) -> np.ndarray[Any, Any]:
        """Return the (n, m) matrix that a kernel gives for two clouds."""
        found = self.raw(x, y)
        value = array(found)
        if value is None or value.shape != (len(x), len(y)):
            raise Broken(f"{self.written((x, y))} returned {described(found)}: ({len(x)}, {len(y)}) is needed")
        if not np.isfinite(value).all():
            raise Broken(f"{self.written((x, y))} returned entries that are not finite")
        return value

    def elementwise(self, method: str, argument: Any) -> np.ndarray[Any, Any]:
        """Return what a method gives for a 1-D array: one value for each entry."""
        found = Subject(getattr(self.function, method), f"{self.name}.{method}", self.example).raw(argument)
        value = array(found)
        if value is None or value.shape != np.shape(argument):
            raise Broken(
                f"{self.name}.{method}({literal(argument)}) returned {described(found)}: {np.shape(argument)} is needed"
            )
        if np.isnan(value).any():
            raise Broken(f"{self.name}.{method}({literal(argument)}) returned NaN")
        return value

    def raw(self, *arguments: Any, **keywords: Any) -> Any:
        """Return whatever the function returns. Its arguments are copies, which are compared afterwards."""
        given = tuple(copied(argument) for argument in arguments)
        try:
            with np.errstate(all="ignore"):
                found = self.function(*given, **keywords)
        except HypothesisException:
            raise
        except Exception as error:
            raise Broken(f"{self.written(arguments)} raised {type(error).__name__}: {first_line(error)}") from error
        for before, after in zip(arguments, given, strict=True):
            if not unchanged(before, after):
                raise Broken(f"{self.written(arguments)} wrote to its input: {brief(before)} became {brief(after)}")
        return found

    def written(self, arguments: tuple[Any, ...]) -> str:
        """Return the call as Python, with the names of the example's parts for themselves."""
        names = {id(value): name for name, value in self.example.items()}
        parts = (names.get(id(argument)) or brief(argument) for argument in arguments)
        return f"{self.name}({', '.join(parts)})"


def number(value: Any) -> float | None:
    """Return a float, a 0-d array or a 0-d tensor as a float; None for anything else."""
    if isinstance(value, bool | np.bool_):
        return None
    if isinstance(value, numbers.Real):
        return float(value)
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy() if value.ndim == 0 and not value.is_complex() else None
    if isinstance(value, np.ndarray | np.generic) and value.ndim == 0 and value.dtype.kind in "iuf":
        return float(value)
    return None


def precision(value: Any) -> float:
    """Return the relative precision of a value by its type: that of float32 for a float32 tensor."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return torch.finfo(value.dtype).eps
    dtype = getattr(value, "dtype", None)
    return float(np.finfo(dtype).eps) if isinstance(dtype, np.dtype) and dtype.kind == "f" else EPS


def array(value: Any) -> np.ndarray[Any, Any] | None:
    """Return an array or tensor of numbers as a float64 array; None for anything else."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray | np.generic | float) and np.asarray(value).dtype.kind in "iuf":
        return np.asarray(value, dtype=np.float64)
    return None


def copied(value: Any) -> Any:
    """Return a copy that shares no memory."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, MultivariateNormal):
        return MultivariateNormal(value.loc.clone(), scale_tril=value.scale_tril.clone())
    return value


def unchanged(before: Any, after: Any) -> bool:
    """Whether an argument still is what it was."""
    if isinstance(before, np.ndarray):
        return before.shape == after.shape and np.array_equal(before, after)
    if isinstance(before, Tensor):
        return before.shape == after.shape and torch.equal(before, after.detach())
    if isinstance(before, MultivariateNormal):
        return torch.equal(before.loc, after.loc) and torch.equal(before.scale_tril, after.scale_tril)
    return True


def literal(value: Any) -> str:
    """Return a value as Python that can be pasted."""
    if isinstance(value, np.ndarray):
        return f"np.array({value.tolist()!r})"
    if isinstance(value, Tensor):
        return f"torch.tensor({value.tolist()!r}, dtype={value.dtype})"
    if isinstance(value, MultivariateNormal):
        return f"MultivariateNormal({literal(value.loc)}, scale_tril={literal(value.scale_tril)})"
    return repr(float(value) if isinstance(value, np.floating) else value)


def brief(value: Any) -> str:
    """Return a value as Python if it is short, else what it is."""
    text = literal(value)
    return text if len(text) <= 150 else described(value)


def described(value: Any) -> str:
    """Return what came, in a few words."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"{type(value).__name__} of shape {tuple(shape)} and dtype {getattr(value, 'dtype', None)}"
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) < 60 else text[:57] + '...'}"


def first_line(error: Exception) -> str:
    """Return the first line of an exception's message."""
    return next(iter(str(error).splitlines()), "")
