"""Paired rows (x, y): columns as numbers, and samples of the product of the two laws, in which no row meets itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from estimators import repeats
from estimators.door import Samples, check_finite, tensor

RANK = 1e-10  # of the largest singular value, below which a direction is none
ALIKE = 1e-10  # of 1 − (canonical correlation)², at which a column of y follows from columns of x


def paired(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """The rows of x and of y as float64, (n, a) and (n, b), on the CPU; a column of labels becomes one of 0 and 1 each.

    Raises:
        TypeError: complex numbers.
        ValueError: unequal numbers of rows; no columns; more than two axes; non-finite numbers.
    """
    a, b = columns(x, "x"), columns(y, "y")
    if len(a) != len(b):
        raise ValueError(f"x and y must have one row a pair, as many of each: got {len(a)} and {len(b)}")
    return a, b


def columns(value: Any, name: str) -> Tensor:
    """Rows as float64, (n, d); (n,) is (n, 1). Text, booleans and categories become indicators of their values."""
    if not isinstance(value, Tensor):
        array = np.asarray(value)
        if array.dtype.kind == "U" and isinstance(value, list | tuple):
            array = np.asarray(value, dtype=object)  # text beside numbers leaves these what they are
        if not array.size:
            raise ValueError(f"{name} must have rows: got shape {array.shape}")
        if array.dtype.kind not in "fiu":
            array = array[:, None] if array.ndim == 1 else array
            if array.ndim != 2 or not array.shape[1]:
                raise ValueError(f"{name} must be rows of columns, (n, d) or (n,): got shape {array.shape}")
            value = np.concatenate([_numbers(column, name) for column in array.T], 1)
    rows = tensor(value, name).detach().cpu().double()
    rows = rows[:, None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or not rows.shape[1]:
        raise ValueError(f"{name} must be rows of columns, (n, d) or (n,): got shape {tuple(rows.shape)}")
    check_finite(rows, name)
    return rows


def _numbers(column: Any, name: str) -> np.ndarray:
    """A column as it is where it holds numbers; else one column a value, and for two values one."""
    if not any(isinstance(v, str | bool | np.bool_) or v is None for v in column):
        try:
            return np.asarray(column, dtype=np.float64)[:, None]
        except (TypeError, ValueError):
            raise TypeError(f"{name} must hold numbers or labels: got {type(column[0]).__name__}") from None
    values, index = np.unique([str(v) for v in column], return_inverse=True)
    return np.eye(len(values))[index][:, 1 if len(values) == 2 else 0 :]


def thirds(x: Tensor, y: Tensor, generator: torch.Generator) -> Samples:
    """Independent samples: joint rows of one third, and rows of the product, x of the second with y of the last."""
    order = torch.randperm(len(x), generator=generator)
    third = len(x) // 3
    left, right = order[:third], order[third : 2 * third]
    rest = order[2 * third :]
    return Samples(torch.cat([x[rest], y[rest]], 1), torch.cat([x[left], y[right]], 1), None, None)


def joint(x: Tensor, y: Tensor) -> Tensor:
    """The rows as they are paired, (n, a + b)."""
    return torch.cat([x, y], 1)


def product(x: Tensor, y: Tensor, shifts: int) -> Tensor:
    """Each x with the y of each of the next ``shifts`` rows, in turn, (shifts, n, a + b); shifts < n.

    The rows must be in random order. A row of x stands in ``shifts`` rows of the product, and so does one of y.
    """
    return torch.stack([joint(x, y.roll(-k, 0)) for k in range(1, shifts + 1)])


def copies(x: Tensor, y: Tensor) -> tuple[str, ...]:
    """A note where pairs repeat others as copies of rows do."""
    own, other = (rows.numpy() for rows in (joint(x, y), product(x, y, 1)[0]))
    share = repeats.copied(own, repeats.hashes(own), repeats.hashes(other))
    if not share:
        return ()
    return (
        f"{share:.0%} of the pairs repeat others: if they are copies they are not independent draws, and the error is "
        "too small; drop them",
    )


def functional(x: Tensor, y: Tensor) -> bool:
    """Whether a combination of columns of y is one of columns of x; columns that repeat their values are left out."""
    n, bases = len(x), []
    for rows in (x, y):
        z = rows[:, [2 * len(torch.unique(column)) > n for column in rows.T]]
        if not z.shape[1]:
            return False
        z = z - z.mean(0)
        u, s, _ = torch.linalg.svd(z / z.abs().amax(0), full_matrices=False)
        bases.append(u[:, s > RANK * s.amax()])
    if sum(basis.shape[1] for basis in bases) > n - 1:  # so few rows follow from any columns
        return False
    correlations = torch.linalg.svdvals(bases[0].T @ bases[1])
    return bool((1 - correlations.square() < ALIKE).any())
