"""What keeps a critic in its class: `wrap` it once, add a `penalty` to each step, mend it (`update_`) after each."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from divergences._spec import Specified
from estimators.neural.critics import evaluate


class Constraint(Specified):
    """No constraint, and the base of those that are one."""

    def wrap(self, critic: nn.Module) -> nn.Module:
        """The critic as it is used from now on."""
        return critic

    def penalty(self, critic: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor | None:
        """What is added to the critic's loss, or None."""
        return None

    def update_(self, critic: nn.Module) -> None:
        """Mend the critic after its step."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.arguments == other.arguments

    def __hash__(self) -> int:
        return hash((type(self), tuple(self.arguments.items())))


class WeightClipping(Constraint):
    """Every weight is clipped to [−c, c] after each critic step: K-Lipschitz for a K that nobody knows.

    References: Arjovsky, Chintala and Bottou 2017, Algorithm 1, line 7.
    """

    def __init__(self, c: float = 0.01) -> None:
        if not c > 0:
            raise ValueError(f"c must be positive: got {c}")
        self.c = c

    def update_(self, critic: nn.Module) -> None:
        """Clip in place."""
        with torch.no_grad():
            for parameter in critic.parameters():
                parameter.clamp_(-self.c, self.c)


class GradientPenalty(Constraint):
    """weight · E (‖∇T(u)‖ − center)², the norm taken for each point over all its coordinates.

    Args:
        weight: λ.
        one_sided: penalise only norms above ``center``.
        center: the norm asked for; 0 gives the zero-centred penalty.
        at: u = εx + (1 − ε)y with one ε ~ U(0, 1) a pair ("interpolates"), or the samples themselves ("samples").

    References: Gulrajani et al. 2017, eq. (3); the one-sided form, their section 5 and Petzka et al. 2018.
    """

    def __init__(
        self,
        weight: float = 10.0,
        one_sided: bool = False,
        center: float = 1.0,
        at: Literal["interpolates", "samples"] = "interpolates",
    ) -> None:
        if not weight >= 0:
            raise ValueError(f"weight must not be negative: got {weight}")
        if at not in ("interpolates", "samples"):
            raise ValueError(f'at must be "interpolates" or "samples": got {at!r}')
        self.weight, self.one_sided, self.center, self.at = weight, one_sided, center, at

    def penalty(self, critic: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """The penalty at u, differentiable in the critic's weights."""
        u = interpolates(x, y, generator) if self.at == "interpolates" else torch.cat([x, y]).detach()
        excess = torch.linalg.vector_norm(input_gradients(critic, u), dim=-1) - self.center
        if self.one_sided:
            excess = excess.relu()
        return self.weight * excess.square().mean()


class R1(Constraint):
    """(weight / 2) · E_P ‖∇T(x)‖²: the zero-centred penalty on data that makes adversarial training converge locally.

    References: Mescheder, Geiger and Nowozin 2018, eq. (9).
    """

    def __init__(self, weight: float = 1.0) -> None:
        if not weight >= 0:
            raise ValueError(f"weight must not be negative: got {weight}")
        self.weight = weight

    def penalty(self, critic: nn.Module, x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
        """The penalty at x, differentiable in the critic's weights."""
        return self.weight / 2 * input_gradients(critic, x.detach()).square().sum(-1).mean()


def interpolates(x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
    """U = εx + (1 − ε)y for each of the min(n, m) pairs, with an ε of its own, cut from the graph."""
    pairs = min(len(x), len(y))
    x, y = x[:pairs].detach(), y[:pairs].detach()
    epsilon = torch.rand(pairs, 1, generator=generator, device=x.device, dtype=x.dtype)
    return epsilon * x + (1 - epsilon) * y


def input_gradients(critic: nn.Module, points: Tensor) -> Tensor:
    """∇T(u) at each point, (n, d), with a graph to the critic's weights. ``points`` must be cut from any graph."""
    with torch.enable_grad():
        u = points.requires_grad_()
        (gradient,) = torch.autograd.grad(evaluate(critic, u).sum(), u, create_graph=True)
    return gradient
