"""The ground of transport: distances and costs between points, and the points and weights that go into them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from divergences import kernels
from estimators.door import Samples

Metric = Literal["euclidean", "cityblock"] | Callable[[Tensor, Tensor], Tensor]


def check_metric(metric: Metric) -> Metric:
    """``metric`` itself. Raises ValueError for a name that is not one of the two."""
    if not callable(metric) and metric not in ("euclidean", "cityblock"):
        raise ValueError(f'metric must be "euclidean", "cityblock" or a callable: got {metric!r}')
    return metric


def ground_cost(x: Tensor, y: Tensor, order: float, metric: Metric = "euclidean") -> Tensor:
    """d(x_i, y_j)^order, (..., n, m), with zero gradient at coincident points.

    Raises:
        ValueError: a callable metric returned another shape than (..., n, m).
    """
    if callable(metric):
        distance = metric(x, y)
        if distance.shape[-2:] != (x.shape[-2], y.shape[-2]):
            raise ValueError(
                f"metric(x, y) must be (..., {x.shape[-2]}, {y.shape[-2]}) for x {tuple(x.shape)} and y "
                f"{tuple(y.shape)}: got {tuple(distance.shape)}"
            )
        return distance if order == 1 else distance.pow(order)
    if metric == "cityblock":
        total: Tensor = sum((x[..., :, None, k] - y[..., None, :, k]).abs() for k in range(x.shape[-1]))  # type: ignore[assignment]
        return total if order == 1 else total.pow(order)
    d2 = kernels.squared_distances(x, y)
    if order == 2:
        return d2
    positive = d2 > 0
    return torch.where(positive, torch.where(positive, d2, 1.0).pow(order / 2), 0.0)


def centred(s: Samples) -> tuple[Tensor, Tensor]:
    """X and y with the origin at the middle of their means: costs of differences do not change, rounding does."""
    means = [
        (w.detach()[..., None] * p.detach()).sum(-2, keepdim=True)
        for p, w in zip((s.x, s.y), weights_of(s), strict=True)
    ]
    c = (means[0] + means[1]) / 2
    return s.x - c, s.y - c


def weights_of(s: Samples) -> tuple[Tensor, Tensor]:
    """Weights of both samples in the dtype of the points, equal where none were given."""
    given = []
    for points, weights in ((s.x, s.x_weights), (s.y, s.y_weights)):
        if weights is None:
            weights = points.new_full((points.shape[-2],), 1 / points.shape[-2])
        given.append(weights)
    return given[0], given[1]
