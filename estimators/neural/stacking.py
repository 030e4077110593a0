"""Many networks of one architecture as one, so that B small problems are trained by one matrix product a layer."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from typing import Self


class Stacked(nn.Module):
    """B networks, (n, d) → (n, …) each, as one: (B, n, d) → (B, n, …), each on points of its own.

    The weights, (B, …) each, are this module's parameters. The loss of B problems is the sum of their own, so that each
    network gets the gradient, and from Adam the step, that it would get alone.

    Args:
        networks: at least one, all of one architecture (what their modules print, and any other attributes), dtype and
            device. They are copied; weights that are frozen in the first stay so.

    Raises:
        ValueError: no network, or none with weights, or one with a weight in two places; different architectures.

    Example:
        >>> stack = Stacked([nn.Linear(2, 1), nn.Linear(2, 1)])
        >>> stack(torch.zeros(2, 5, 2)).shape, len(stack)
        (torch.Size([2, 5, 1]), 2)
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        if not networks:
            raise ValueError("networks must hold at least one network: got none")
        drawn = [_drawn(network) for network in networks]
        for index, other in enumerate(drawn):
            if other != drawn[0]:
                raise ValueError(f"networks must have one architecture: number {index} differs from number 0")
        names = [name for name, _ in networks[0].named_parameters(remove_duplicate=False)]
        if len(names) != len(list(networks[0].parameters())):
            raise ValueError("networks must have no weight in two places: a stack would hold it twice")
        if not names:
            raise ValueError(f"networks must have weights: got {type(networks[0]).__name__} without any")
        weights, buffers = torch.func.stack_module_state(list(networks))
        self.weight_names, self._buffer_names = tuple(weights), tuple(buffers)
        learned = dict(networks[0].named_parameters())
        self.weights = nn.ParameterList(
            nn.Parameter(weights[name].detach(), learned[name].requires_grad) for name in self.weight_names
        )
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
            own = {name: value.detach()[index].clone() for name, value in named}
            learned = {name: weight.requires_grad for name, weight in zip(self.weight_names, self.weights, strict=True)}
            network.load_state_dict(own, strict=False, assign=True)  # buffers that are not stored are made below
            for name, weight in network.named_parameters():
                weight.requires_grad_(learned[name])
            for name, value in self._stacked_buffers().items():
                network.get_buffer(name).copy_(value[index])
            networks.append(network)
        return networks

    def _stacked_buffers(self) -> dict[str, Tensor]:
        return {name: getattr(self, f"buffer_{index}") for index, name in enumerate(self._buffer_names)}


def _drawn(network: nn.Module) -> list[Any]:
    """What two networks of one architecture have in common: kinds, options and shapes."""
    # by the names of their classes, as each parametrised layer has a class of its own
    modules = [(name, type(module).__qualname__, module.extra_repr()) for name, module in network.named_modules()]
    return [modules, {name: tuple(value.shape) for name, value in network.state_dict().items()}]


def architecture(network: nn.Module) -> nn.Module:
    """The network itself, or one of a stack's without its weights."""
    return network.architecture if isinstance(network, Stacked) else network


def named_weights(network: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """Names and weights; those of a stack have the names of one network, and a leading axis."""
    if isinstance(network, Stacked):
        return zip(network.weight_names, network.weights, strict=True)
    return network.named_parameters()
