"""Which points a critic was trained on, so that an evaluation on them is not taken for one on new data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from estimators import repeats
from estimators.door import Samples

Memory = tuple[NDArray[np.uint64], ...]  # the sorted hashes of the rows of x and of y


def of(s: Samples) -> Memory | list[Memory]:
    """What is kept of one problem, or of each of a batch."""
    if s.x.ndim > 2:
        return [(_hashes(x), _hashes(y)) for x, y in zip(s.x, s.y, strict=True)]
    return _hashes(s.x), _hashes(s.y)


def share(memory: Any, s: Samples) -> float:
    """The larger of the shares of the rows of x and of y that were seen on the same side; 0 without a memory.

    0 for laws of atoms, whose rows repeat anyway: there more than one row in ten that was seen stands there twice.
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
