"""`Space`: the shape that points had before they were flattened, and the scale of their values."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

_NORMAL_95 = 1.6448536269514722  # the 95% quantile of the standard normal law


@dataclass(frozen=True)
class Space:
    """Points of one shape, seen flat by estimators and in their own shape by networks.

    ``low`` and ``high`` are set where every coordinate is bounded by nature (pixels); otherwise ``center`` and
    ``scale``, one number a coordinate, say where the data lie and define their standard units.

    Example:
        >>> Space((1, 8, 8), 0.0, 1.0).dim
        64
    """

    shape: tuple[int, ...]
    low: float | None = None
    high: float | None = None
    center: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None

    @property
    def dim(self) -> int:
        """Coordinates of a flat point."""
        return math.prod(self.shape)

    def flat(self, points: Tensor) -> Tensor:
        """(n, *shape) as (n, dim).

        Raises:
            ValueError: the points are not of this space.
        """
        if tuple(points.shape[1:]) != self.shape:
            raise ValueError(
                f"data must have points of shape {self.shape}: got an array of shape {tuple(points.shape)}"
            )
        return points.reshape(len(points), self.dim)

    def natural(self, points: Tensor) -> Tensor:
        """(n, dim) as (n, *shape)."""
        return points.reshape(len(points), *self.shape)

    def standardized(self, points: Tensor) -> Tensor:
        """Flat points less the center, over the scale; in single precision, after the offset is taken off."""
        if self.center is None or self.scale is None:
            return points.float()
        center, scale = (points.new_tensor(v, dtype=torch.float64) for v in (self.center, self.scale))
        return ((points - center) / scale).float()

    def restored(self, points: Tensor) -> Tensor:
        """What `standardized` made of flat points, undone."""
        if self.center is None or self.scale is None:
            return points
        center, scale = (points.new_tensor(v, dtype=torch.float64) for v in (self.center, self.scale))
        return (center + scale * points).to(points.dtype)

    def standard(self) -> Space:
        """The space of standardised points."""
        return Space(self.shape, self.low, self.high)

    @classmethod
    def of(cls, points: Tensor, low: float | None = None, high: float | None = None) -> Space:
        """The space of ``points``, (n, *shape); its center and scale are theirs unless the values are bounded.

        They are mean and standard deviation of a normal law with the same 5% and 95% quantiles and, between these, of
        the values: one far point, or a tail without moments, would make a unit in which all others are equal.
        """
        if low is not None:
            return cls(tuple(points.shape[1:]), low, high)
        flat = points.reshape(len(points), -1).double()
        ends = np.quantile(flat.detach().cpu().numpy(), (0.05, 0.95), axis=0)
        least, most = (torch.from_numpy(end).to(flat) for end in ends)
        scale = (most - least) / (2 * _NORMAL_95)
        spread = flat.std(0) if len(flat) > 1 else torch.zeros_like(scale)
        scale = scale.where(scale > 0, spread)  # a value that nearly all points share
        scale = scale.where(scale > 0, scale.new_ones(()))  # a constant coordinate keeps its unit
        center = flat.clamp(least, most).mean(0)
        return cls(tuple(points.shape[1:]), None, None, tuple(center.tolist()), tuple(scale.tolist()))

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Space:
        """The space that `to_dict` wrote."""
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}
        return cls(**plain)
