"""Laws that many games share, written as functions of the draw; letters as in the papers: x data, z prior, y = G(z)."""

from __future__ import annotations

import torch
from torch import Tensor

from divergences._spec import Specified
from gan_zoo.game import Draw


class Normal(Specified):
    """z ~ N(0, scale²·I) of ``dim`` coordinates."""

    def __init__(self, dim: int, scale: float = 1.0) -> None:
        if dim < 1:
            raise ValueError(f"dim must be at least 1: got {dim}")
        if not scale > 0:
            raise ValueError(f"scale must be positive: got {scale}")
        self.dim, self.scale = dim, scale

    def __call__(self, draw: Draw) -> Tensor:
        """A point for each of the draw."""
        return self.scale * torch.randn(draw.n, self.dim, generator=draw.generator, device=draw.device)


class Uniform(Specified):
    """z ~ U(−1, 1) in each of ``dim`` coordinates."""

    def __init__(self, dim: int) -> None:
        if dim < 1:
            raise ValueError(f"dim must be at least 1: got {dim}")
        self.dim = dim

    def __call__(self, draw: Draw) -> Tensor:
        """A point for each of the draw."""
        return 2 * torch.rand(draw.n, self.dim, generator=draw.generator, device=draw.device) - 1


Prior = Normal | Uniform


def prior(latent: int | Prior) -> Prior:
    """The law that ``latent=`` asks for: a number of coordinates means a standard normal."""
    return latent if isinstance(latent, Normal | Uniform) else Normal(int(latent))


def data(draw: Draw) -> Tensor:
    """X itself, for a law that is the data unless an option changes it."""
    return draw["x"]


def generated(draw: Draw) -> Tensor:
    """Y = G(z)."""
    return draw.net("generator")(draw["z"])


def encoded(draw: Draw) -> Tensor:
    """The code of each data point: q(z|x) at x."""
    return draw.net("encoder")(draw["x"])


def reconstructed(draw: Draw) -> Tensor:
    """The decoder at the code of each data point."""
    return draw.net("decoder")(draw["code"])


def decoded(draw: Draw) -> Tensor:
    """y: the decoder at prior points."""
    return draw.net("decoder")(draw["z"])
