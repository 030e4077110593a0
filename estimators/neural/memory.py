"""Which points a critic was trained on, so that an evaluation on them is not taken for one on new data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from estimators import repeats
from estimators.door import Samples

Memory = tuple[NDArray[np.uint64], ...]  # the hashes of the rows of x and of y


def of(s: Samples) -> Memory | list[Memory]:
    """What is kept of one problem, or of each of a batch."""
    if s.x.ndim > 2:
        return [(_hashes(x), _hashes(y)) for x, y in zip(s.x, s.y, strict=True)]
    return _hashes(s.x), _hashes(s.y)


def joined(first: Any, second: Any) -> Any:
    """What is kept of two fits."""
    if first is None:
        return second
    if isinstance(second, list):
        return [joined(a, b) for a, b in zip(first, second, strict=True)]
    return tuple(np.union1d(a, b) for a, b in zip(first, second, strict=True))


def share(memory: Any, s: Samples) -> float:
    """The larger of the shares of the rows of x and of y that were seen on the same side; 0 without a memory.

    0 for laws of atoms, whose rows repeat anyway: there fewer than nine in ten of the rows of a fit are different.
    """
    if memory is None:
        return 0.0
    found = []
    for seen, points in zip(memory, (s.x, s.y), strict=True):
        different = np.unique(seen)
        repeating = len(different) < 0.9 * len(seen)
        found.append(0.0 if repeating else float(np.isin(_hashes(points), different).mean()))
    return max(found)


def _hashes(points: Tensor) -> NDArray[np.uint64]:
    return repeats.hashes(points.detach().double().cpu().numpy())
