"""The ground of transport: distances and costs between points, and the points and weights that go into them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from divergences import kernels
from estimators.base import Inference
from estimators.door import Samples

Metric = Literal["euclidean", "cityblock"] | Callable[[Tensor, Tensor], Tensor]


def check_metric(metric: Metric) -> Metric:
    """``metric`` itself. Raises ValueError for a name that is not one of the two."""
    if not callable(metric) and metric not in ("euclidean", "cityblock"):
        raise ValueError(f'metric must be "euclidean", "cityblock" or a callable: got {metric!r}')
    return metric


def check_order(order: float) -> float:
    """``order`` itself. Raises ValueError where it is below 1 or not finite."""
    if not 1 <= order < math.inf:
        raise ValueError(f"order must be at least 1 and finite: got {order}")
    return order


def ground_cost(x: Tensor, y: Tensor, order: float, metric: Metric = "euclidean") -> Tensor:
    """d(x_i, y_j)^order, (..., n, m), with zero gradient at coincident points.

    A callable metric may return an array, as SciPy's do, where no gradient is asked for.

    Raises:
        TypeError: a callable metric returned no tensor.
        ValueError: it returned another shape than (..., n, m).
    """
    if callable(metric):
        distance = metric(x, y)
        if isinstance(distance, np.ndarray) and not (x.requires_grad or y.requires_grad):
            distance = torch.as_tensor(distance).to(x)
        if not isinstance(distance, Tensor):
            hint = ", which has no gradient" if isinstance(distance, np.ndarray) else ""
            raise TypeError(
                f"metric(x, y) must return a tensor of shape (..., {x.shape[-2]}, {y.shape[-2]}): got "
                f"{type(distance).__name__}{hint}"
            )
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
        p.detach().mean(-2, keepdim=True) if w is None else w.detach().unsqueeze(-2) @ p.detach()
        for p, w in ((s.x, s.x_weights), (s.y, s.y_weights))
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


NARROW, WIDE = 1e-20, 1e20  # of deviations whose fourth powers, in a variance of squares, are still numbers


def in_units(infer: Callable[[Samples, float], Inference], s: Samples, degree: float) -> Inference:
    """``infer`` of the samples divided by a unit, and that unit, for a result which scales as the unit to ``degree``.

    The unit is 1, and nothing is changed, unless the points lie so near or so far that powers of them are no numbers.

    Raises:
        ValueError: the result in the units of the samples is itself beyond the numbers.
    """
    origin = s.x[0]
    largest = float(torch.cat([s.x - origin, s.y - origin]).abs().max())
    if largest == 0 or NARROW <= largest <= WIDE:
        return infer(s, 1.0)
    power = round(math.log2(largest))
    if not abs(power * degree) < 1000:
        raise ValueError(
            f"x and y vary by {largest:.3g}, whose power {degree:g} is no number: divide both by a unit near that"
        )
    unit = 2.0**power
    found = infer(s._replace(x=(s.x - origin) / unit, y=(s.y - origin) / unit), unit)
    factor = unit**degree
    return found._replace(
        value=found.value * factor,
        stderr=None if found.stderr is None else found.stderr * factor,
        interval=None if found.interval is None else (found.interval[0] * factor, found.interval[1] * factor),
        notes=(f"computed in units of {unit:.3g}, in which lengths in these notes are", *found.notes),
    )
