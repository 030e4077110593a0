"""Multilayer perceptrons between a latent space and flat data."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from estimators.neural.critics import mlp
from estimators.space import Space


class InRange(nn.Module):
    """The last layer of a decoder: values squashed into the data's bounds, where they have some."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.low, self.high = space.low, space.high

    def forward(self, values: Tensor) -> Tensor:
        """(n, d) free values as (n, d) points."""
        if self.low is None or self.high is None:
            return values
        return self.low + (self.high - self.low) * torch.sigmoid(values)


def decoder(latent: int, space: Space, generator: torch.Generator) -> nn.Sequential:
    """(n, latent) → (n, d): two layers of 256."""
    return nn.Sequential(mlp(latent, space.dim, generator=generator), InRange(space))


def encoder(space: Space, outputs: int, generator: torch.Generator) -> nn.Sequential:
    """(n, d) → (n, outputs): two layers of 256."""
    return mlp(space.dim, outputs, generator=generator)
