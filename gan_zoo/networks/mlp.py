"""Multilayer perceptrons between a latent space and flat data."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from estimators.critics import Standardize, mlp
from estimators.space import Space


class InRange(nn.Module):
    """The last layer of a decoder: values squashed into the data's bounds, or set to the data's center and scale."""

    center: Tensor
    scale: Tensor

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.low, self.high = space.low, space.high
        self.register_buffer("center", torch.tensor(space.center or (0.0,) * space.dim))
        self.register_buffer("scale", torch.tensor(space.scale or (1.0,) * space.dim))

    def forward(self, values: Tensor) -> Tensor:
        """(n, d) free values as (n, d) points."""
        if self.low is not None and self.high is not None:
            return self.low + (self.high - self.low) * torch.sigmoid(values)
        return self.center + self.scale * values


def decoder(latent: int, space: Space, generator: torch.Generator) -> nn.Sequential:
    """(n, latent) → (n, d): two layers of 256."""
    return nn.Sequential(mlp(latent, space.dim, generator=generator), InRange(space))


def encoder(space: Space, outputs: int, generator: torch.Generator) -> nn.Sequential:
    """(n, d) → (n, outputs): data in standard units, two layers of 256."""
    return nn.Sequential(Standardize(space), mlp(space.dim, outputs, generator=generator))
