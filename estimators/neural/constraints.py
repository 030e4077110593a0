"""What keeps a critic in its class: `wrap` it once, add a `penalty` to each step, mend it (`update_`) after each."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from divergences._spec import Specified
from estimators.neural.critics import Standardize, evaluate
from estimators.neural.lipschitz import MaxMin, Scaled, Spectral, Tangent, lipschitz_constant, orthonormal
from estimators.neural.stacking import named_weights


class Constraint(Specified):
    """No constraint, and the base of those that are one.

    ``certifies``: the critic's Lipschitz constant is proven, by `lipschitz_constant`, and near to the best one.
    """

    certifies: bool = False
    rate: float = 1e-3  # of learning, with which a critic that has this constraint trains well

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
        u = interpolates(x, y, generator) if self.at == "interpolates" else torch.cat([x, y], -2).detach()
        excess = torch.linalg.vector_norm(input_gradients(critic, u), dim=-1) - self.center
        if self.one_sided:
            excess = excess.relu()
        return self.weight * excess.square().mean(-1)


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
        return self.weight / 2 * input_gradients(critic, x.detach()).square().sum(-1).mean(-1)


class ByConstruction(Constraint):
    """Nothing to do: the critic, such as `Cones`, is 1-Lipschitz whatever its weights."""

    certifies = True
    rate = 5e-3


class SpectralNorm(Constraint):
    """Every linear and convolutional weight is divided by its largest singular value, σ = uᵀWv.

    One step of power iteration per pass in training renews u and v; gradients pass through σ with u and v held fixed; a
    convolution's weight is (out, rest). What is near 1 is the product of the layers' constants, which divides out; the
    critic's own slope may be far less.

    References: Miyato et al. 2018, Algorithm 1 and eq. (12).
    """

    certifies = True

    def wrap(self, critic: nn.Module) -> nn.Module:
        """The same network with normalised weights, and of one scale for all coordinates."""
        for layer in _layers(critic, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d), "SpectralNorm"):
            parametrize.register_parametrization(layer, "weight", Spectral(layer.weight))
        return _of_one_scale(critic)


class GroupSort(Constraint):
    """An exactly 1-Lipschitz network: orthonormal weights, and sorting of pairs (`MaxMin`) for activations.

    Gradients keep their norm through every layer, so that the critic can be as steep as 1 everywhere, which networks of
    normalised weights and ReLUs cannot. Weights move along the tangent of the orthonormal ones, and are put back onto
    them by a QR decomposition after each step.

    References: Anil, Lucas and Grosse 2019, sections 4.1 and 4.2; Absil, Mahony and Sepulchre 2008, example 4.1.3 (QR).
    """

    certifies = True
    rate = 1e-2

    def wrap(self, critic: nn.Module) -> nn.Module:
        """The critic with orthonormal weights and sorted pairs.

        Raises:
            ValueError: a layer of the critic is neither linear nor an activation.
        """
        critic = _sorting(critic)
        if lipschitz_constant(critic) == float("inf"):
            strange = [m for m in critic.modules() if not list(m.children()) and lipschitz_constant(m) == float("inf")]
            what = ", ".join(dict.fromkeys(type(m).__name__ for m in strange)) or type(critic).__name__
            raise ValueError(
                f"GroupSort needs a critic that is an nn.Sequential of linear layers and activations: got {what}"
            )
        for layer in _layers(critic, (nn.Linear,), "GroupSort"):
            with torch.no_grad():
                layer.weight.copy_(orthonormal(layer.weight))
            parametrize.register_parametrization(layer, "weight", Tangent(), unsafe=True)
        return _of_one_scale(critic)

    def update_(self, critic: nn.Module) -> None:
        """Weights that a step took off the orthonormal ones are put back."""
        with torch.no_grad():
            for name, weight in named_weights(critic):
                if name.endswith("parametrizations.weight.original"):
                    weight.copy_(orthonormal(weight))


def _layers(critic: nn.Module, kinds: tuple[type[nn.Module], ...], constraint: str) -> list[Any]:
    found = [layer for layer in critic.modules() if isinstance(layer, kinds)]
    if not found:
        raise ValueError(f"{constraint} needs a critic with linear layers: got {type(critic).__name__}")
    return found


def _sorting(network: nn.Module) -> nn.Module:
    """The network with `MaxMin` for its activations."""
    if not isinstance(network, nn.Sequential):
        return MaxMin() if isinstance(network, nn.ReLU | nn.LeakyReLU | nn.Tanh | nn.ELU | nn.GELU) else network
    return nn.Sequential(*(_sorting(layer) for layer in network))


def _of_one_scale(critic: nn.Module) -> nn.Module:
    """The critic with one unit for all coordinates, where it has standard ones, and its values in that unit.

    A unit for each coordinate makes the critic steepest along the narrowest one, where a slope of 1 is spent.
    """
    units = [module for module in critic.modules() if isinstance(module, Standardize)]
    if not units:
        return critic
    scale = float(units[0].scale.square().mean().sqrt())
    units[0].scale.fill_(scale)
    return nn.Sequential(critic, Scaled(scale))


def interpolates(x: Tensor, y: Tensor, generator: torch.Generator | None) -> Tensor:
    """U = εx + (1 − ε)y for each of the min(n, m) pairs, with an ε of its own, cut from the graph."""
    pairs = min(x.shape[-2], y.shape[-2])
    x, y = x[..., :pairs, :].detach(), y[..., :pairs, :].detach()
    epsilon = torch.rand(pairs, 1, generator=generator, device=x.device, dtype=x.dtype)
    return epsilon * x + (1 - epsilon) * y


def input_gradients(critic: nn.Module, points: Tensor) -> Tensor:
    """∇T(u) at each point, (..., n, d), with a graph to the critic's weights. ``points`` must be cut from any graph."""
    with torch.enable_grad():
        u = points.requires_grad_()
        (gradient,) = torch.autograd.grad(evaluate(critic, u).sum(), u, create_graph=True)
    return gradient
