"""Networks for critics and small models, initialised from a generator of their own, never the global one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from estimators.space import Space


def linear(inputs: int, outputs: int, generator: torch.Generator | None = None) -> nn.Linear:
    """A linear layer with PyTorch's default initial law, U(−1/√inputs, 1/√inputs), drawn from ``generator``."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    width = 1 / math.sqrt(inputs)
    nn.init.uniform_(layer.weight, -width, width, generator=generator)
    nn.init.uniform_(layer.bias, -width, width, generator=generator)
    return layer


def mlp(
    inputs: int,
    outputs: int,
    hidden: Sequence[int] = (256, 256),
    *,
    slope: float = 0.0,
    generator: torch.Generator | None = None,
) -> nn.Sequential:
    """A multilayer perceptron (n, inputs) → (n, outputs); ``slope`` is that of the leaky ReLU for negative values."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [linear(inputs, width, generator), nn.LeakyReLU(slope) if slope else nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, linear(inputs, outputs, generator))


class Standardize(nn.Module):
    """(x − center) / scale, coordinate by coordinate."""

    center: Tensor
    scale: Tensor

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.register_buffer("center", torch.tensor(space.center or (0.0,) * space.dim, dtype=torch.float64))
        self.register_buffer("scale", torch.tensor(space.scale or (1.0,) * space.dim, dtype=torch.float64))

    def forward(self, points: Tensor) -> Tensor:
        """Points in standard units, in single precision: an offset is taken off before anything is rounded."""
        return ((points - self.center) / self.scale).float()


def default_critic(space: Space, generator: torch.Generator | None = None) -> nn.Sequential:
    """The critic that is built where none is given: data in standard units, two leaky layers of 256, one value."""
    return nn.Sequential(Standardize(space), mlp(space.dim, 1, slope=0.2, generator=generator))


def evaluate(critic: nn.Module, points: Tensor) -> Tensor:
    """The critic's value at each point, (n,).

    Raises:
        ValueError: the critic does not give one number a point.
    """
    parameter = next(critic.parameters(), None)
    standardizes = any(isinstance(module, Standardize) for module in critic.modules())
    if parameter is not None and not standardizes:
        points = points.to(parameter.dtype)
    values = critic(points)
    if values.shape not in ((len(points),), (len(points), 1)):
        raise ValueError(f"the critic must give one value a point, ({len(points)},): got shape {tuple(values.shape)}")
    return values.reshape(len(points))
