"""What a test is made from: the pooled, shuffled points, and the statistics that rank their labellings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from estimators.two_sample.labelling import Design
from estimators.two_sample.permutation import Statistic


class Pool(NamedTuple):
    """The pooled points in random order. A statistic may learn from all of it but the labels in ``design``."""

    points: Tensor  # (N, d)
    weights: Tensor | None  # (N,) on one scale for both samples, or None for equal ones
    n: int
    m: int
    design: Design
    generator: torch.Generator
    notes: list[str]
    bins: int | None = None  # that points are permuted in: None for as many as it takes, 0 for none

    @property
    def centred(self) -> Tensor:
        """The points with their mean at the origin."""
        return self.points - self.points.mean(0)

    @property
    def mass(self) -> Tensor:
        """The weight of each point, 1 where none were given."""
        return self.points.new_ones(len(self.points)) if self.weights is None else self.weights


# From the values of every labelling by each statistic, and what is rounding in them: one value for each labelling, and
# the p-value of the observed labelling, the first, by each statistic alone.
Combine = Callable[[list[Tensor], list[float]], tuple[Tensor, list[float]]]


class Plan(NamedTuple):
    """The statistics of a test, one unless ``combine`` makes one of them, and the units whose label is not permuted.

    ``design`` replaces that of the pool, for statistics of other units than its points.
    """

    families: Iterable[Statistic]
    combine: Combine | None = None
    fixed: Tensor | None = None
    design: Design | None = None
