"""Networks for critics and small models, initialised from a generator of their own, never the global one."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from estimators.base import same_kind
from estimators.door import check_finite, tensor
from estimators.neural.stacking import Stacked, architecture
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


class Squash(nn.Module):
    """r·asinh(u/r), coordinate by coordinate: u up to about r = 4 standard units, and a logarithm in the tails."""

    def forward(self, points: Tensor) -> Tensor:
        """The same shape."""
        return 4 * (points / 4).asinh()


def ratio_critic(space: Space, generator: torch.Generator | None = None) -> nn.Sequential:
    """The critic of a density ratio: as `default_critic`, but narrower, and calm in the tails.

    A network that goes on as a straight line makes any ratio of a far point, and heavy tails are nothing but far
    points.
    """
    return nn.Sequential(Standardize(space), Squash(), mlp(space.dim, 1, (64, 64), slope=0.2, generator=generator))


def default_critic(space: Space, generator: torch.Generator | None = None) -> nn.Sequential:
    """The critic that is built where none is given: data in standard units, two leaky layers of 256, one value."""
    return nn.Sequential(Standardize(space), mlp(space.dim, 1, slope=0.2, generator=generator))


class AutoEncoder(nn.Module):
    """The auto-encoder that is built where none is given: data in standard units, a code, and back.

    The units are its own and no layer: a constraint that gives a critic other units would leave the way back as it is.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, space: Space, code: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        units = Standardize(space)
        self.register_buffer("center", units.center)
        self.register_buffer("scale", units.scale)
        self.encoder = mlp(space.dim, code, slope=0.2, generator=generator)
        self.decoder = mlp(code, space.dim, slope=0.2, generator=generator)

    def standardized(self, points: Tensor) -> Tensor:
        """The points in standard units, in single precision."""
        return ((points - self.center) / self.scale).float()

    def encode(self, points: Tensor) -> Tensor:
        """The codes, (n, code)."""
        return self.encoder(self.standardized(points))

    def residual(self, points: Tensor) -> Tensor:
        """What comes back less what went in, (n, d), in standard units: errors do not hang on the data's own."""
        u = self.standardized(points)
        return self.decoder(self.encoder(u)) - u

    def forward(self, points: Tensor) -> Tensor:
        """What comes back, (n, d), in the data's units."""
        return (self.center + self.scale * self.decoder(self.encode(points))).to(points.dtype)


@contextlib.contextmanager
def judging(critic: nn.Module) -> Iterator[None]:
    """No gradient, dropout or batch statistics inside."""
    training = critic.training
    critic.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        critic.train(training)


def readable(critic: nn.Module, points: Tensor) -> Tensor:
    """The points in the precision of the critic's weights, unless it takes an offset off before it rounds."""
    parameter = next(critic.parameters(), None)
    standardizes = any(isinstance(module, Standardize | AutoEncoder) for module in architecture(critic).modules())
    return points if parameter is None or standardizes else points.to(parameter.dtype)


def evaluate(critic: nn.Module, points: Tensor) -> Tensor:
    """The critic's value at each point, (n,), or (B, n) where it is a stack.

    Raises:
        ValueError: the critic does not take such points, or does not give one number a point.
    """
    try:
        values = critic(readable(critic, points))
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ValueError(f"the critic takes no points of shape {tuple(points.shape)}: {error}") from error
    shape = points.shape[:-1]
    if values.shape not in (shape, (*shape, 1)):
        raise ValueError(f"the critic must give one value a point, {tuple(shape)}: got shape {tuple(values.shape)}")
    return values.reshape(shape)


def at_points(critic: nn.Module, points: Any, values: Callable[[Tensor], Tensor]) -> Any:
    """What ``values`` gives, (n,) for (n, d), at points of any leading axes, (..., d); of a stack's, (B, ..., d).

    Raises:
        ValueError: points that are not finite, or not of the critics of a stack.
    """
    z = tensor(points, "points")
    check_finite(z, "points")
    problems = (len(critic),) if isinstance(critic, Stacked) else ()
    if z.ndim < 1 + 2 * len(problems) or z.shape[: len(problems)] != problems:
        expected = f"({problems[0]}, p, d), some for each critic of the stack" if problems else "(..., d)"
        raise ValueError(f"points must be {expected}: got shape {tuple(z.shape)}")
    z = z if z.is_floating_point() else z.float()
    found = values(z.reshape(*problems, -1, z.shape[-1])).reshape(z.shape[:-1])
    return same_kind(found.to(z.dtype), points)
