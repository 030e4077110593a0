"""Cross-fitting of a log ratio: the ratio at every point by a model that has not seen it, and by one that has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from estimators.repeats import TIES, copies, strays

if TYPE_CHECKING:
    from estimators.ratio.models import Array, LogRatio, RatioModel

FOLDS = 5


class Sides(NamedTuple):
    """One number for each point of x and of y."""

    x: NDArray[Any]
    y: NDArray[Any]

    def rows(self, x: NDArray[np.bool_], y: NDArray[np.bool_]) -> Sides:
        """Those of the chosen rows."""
        return Sides(self.x[x], self.y[y])


class Problem(NamedTuple):
    """Two samples, and weights that sum to the number of points, or None."""

    x: Array
    y: Array
    x_weights: Array | None
    y_weights: Array | None

    def rows(self, x: NDArray[np.bool_], y: NDArray[np.bool_]) -> Problem:
        """The chosen rows."""
        wx, wy = self.x_weights, self.y_weights
        return Problem(self.x[x], self.y[y], None if wx is None else wx[x], None if wy is None else wy[y])

    def exchanged(self) -> Problem:
        """The same with x for y and y for x."""
        return Problem(self.y, self.x, self.y_weights, self.x_weights)


class CrossFit(NamedTuple):
    """Log ratios at every point by a model that has not seen it, and by one that has seen all."""

    held_out: Sides
    in_sample: Sides


def folds(s: Problem, generator: torch.Generator) -> Sides:
    """A fold 0 … 4 for every point of both samples, equal in size to one point, at random; copies share theirs."""

    def drawn(k: int) -> Array:
        return (torch.arange(k) % FOLDS)[torch.randperm(k, generator=generator)].numpy()

    if strays(s.x, s.y) <= TIES:
        return Sides(drawn(len(s.x)), drawn(len(s.y)))
    row = copies(s.x, s.y)
    fold = drawn(int(row.max()) + 1)[row]
    return Sides(fold[: len(s.x)], fold[len(s.x) :])


def fitted(model: RatioModel, seen: Problem) -> LogRatio:
    """The log ratio, kept within the range that it takes on the points it was trained on."""
    g = model.fit(seen.x, seen.y, seen.x_weights, seen.y_weights)
    inside = np.concatenate([g(seen.x), g(seen.y)])
    inside = inside[np.isfinite(inside)]
    if not len(inside):
        raise ValueError(f"the model {model.name!r} gave no finite ratio on the points it was trained on")
    low, high = float(inside.min()), float(inside.max())
    return lambda points: np.nan_to_num(g(points), nan=0.0, posinf=high, neginf=low).clip(low, high)


def held_out_rows(fold: Sides, k: int) -> Sides:
    """The points of fold ``k``, as masks of both sides."""
    return Sides(fold.x == k, fold.y == k)


def cross_fit(model: RatioModel, s: Problem, fold: Sides) -> Sides:
    """The log ratios at every point by the model fitted to the other folds."""
    found = Sides(np.empty(len(s.x)), np.empty(len(s.y)))
    for k in tqdm(range(FOLDS), desc=f"density ratio, {model.name}", delay=2, leave=False):
        out = held_out_rows(fold, k)
        g = fitted(model, s.rows(~out.x, ~out.y))
        found.x[out.x], found.y[out.y] = g(s.x[out.x]), g(s.y[out.y])
    return found


def evaluated(model: RatioModel, s: Problem) -> Sides:
    """The log ratios of a model at the points that it was fitted to."""
    g = fitted(model, s)
    return Sides(g(s.x), g(s.y))
