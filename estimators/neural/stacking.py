"""Many networks of one architecture as one, so that B small problems are trained by one matrix product a layer."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from typing import Self


class Stacked(nn.Module):
    """B networks, (n, d) → (n, …) each, as one: (B, n, d) → (B, n, …), each on points of its own.

    The weights, (B, …) each, are this module's parameters. The loss of B problems is the sum of their own, so that each
    network gets the gradient, and from Adam the step, that it would get alone.

    Args:
        networks: at least one, all of one architecture, dtype and device. They are copied.

    Raises:
        ValueError: no network; networks of different architectures.

    Example:
        >>> stack = Stacked([nn.Linear(2, 1), nn.Linear(2, 1)])
        >>> stack(torch.zeros(2, 5, 2)).shape, len(stack)
        (torch.Size([2, 5, 1]), 2)
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        if not networks:
            raise ValueError("networks must hold at least one network: got none")
        shapes = [{name: tuple(value.shape) for name, value in net.state_dict().items()} for net in networks]
        for index, other in enumerate(shapes):
            if other != shapes[0] or type(networks[index]) is not type(networks[0]):
                raise ValueError(f"networks must have one architecture: number {index} differs from number 0")
        weights, buffers = torch.func.stack_module_state(list(networks))
        self.weight_names, self._buffer_names = tuple(weights), tuple(buffers)
        self.weights = nn.ParameterList(weights[name].detach() for name in self.weight_names)
        for index, name in enumerate(self._buffer_names):
            self.register_buffer(f"buffer_{index}", buffers[name])
        # What computes has no weights of its own, and is no submodule: its parameters would be found twice.
        self._held = (copy.deepcopy(networks[0]).to("meta"),)

    def __len__(self) -> int:
        return len(next(iter(self.state_dict().values())))

    @property
    def architecture(self) -> nn.Module:
        """One of the networks without its weights, to look at."""
        return self._held[0]

    def train(self, mode: bool = True) -> Self:
        """As of any module; the architecture follows."""
        self.architecture.train(mode)
        return super().train(mode)

    def forward(self, points: Tensor) -> Tensor:
        """(B, n, d) → (B, n, …)."""

        def one(weights: dict[str, Tensor], buffers: dict[str, Tensor], points: Tensor) -> Tensor:
            return torch.func.functional_call(self.architecture, (weights, buffers), (points,))

        weights = dict(zip(self.weight_names, self.weights, strict=True))
        return torch.vmap(one, randomness="different")(weights, self._stacked_buffers(), points)

    def unstacked(self) -> list[nn.Module]:
        """The B networks, with copies of the weights."""
        networks = []
        named = [*zip(self.weight_names, self.weights, strict=True), *self._stacked_buffers().items()]
        for index in range(len(self)):
            network = copy.deepcopy(self.architecture).to_empty(device=named[0][1].device)
            network.load_state_dict({name: value[index] for name, value in named})
            networks.append(network)
        return networks

    def _stacked_buffers(self) -> dict[str, Tensor]:
        return {name: getattr(self, f"buffer_{index}") for index, name in enumerate(self._buffer_names)}


def architecture(network: nn.Module) -> nn.Module:
    """The network itself, or one of a stack's without its weights."""
    return network.architecture if isinstance(network, Stacked) else network


def named_weights(network: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """Names and weights; those of a stack have the names of one network, and a leading axis."""
    if isinstance(network, Stacked):
        return zip(network.weight_names, network.weights, strict=True)
    return network.named_parameters()
