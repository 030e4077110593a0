"""From a name to a game: the registry of variants, and the kit with which a variant is put together."""

from __future__ import annotations

import copy
import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import estimators as est
from divergences._spec import from_spec, to_spec
from estimators.base import Estimator
from estimators.neural.critic_estimator import CriticEstimator
from estimators.neural.critics import mlp
from estimators.registry import as_estimator
from estimators.space import Space
from gan_zoo.data import mix, points
from gan_zoo.game import Game
from gan_zoo.networks.mlp import decoder, encoder


@dataclass(frozen=True)
class _Variant:
    """A family's function of a kit and options, and the options in which this variant differs from the family."""

    family: Callable[..., Game]
    defaults: Callable[[Space, dict[str, Any]], dict[str, Any]]

    @property
    def options(self) -> list[str]:
        return list(inspect.signature(self.family).parameters)[1:]


_VARIANTS: dict[str, _Variant] = {}


def variant(function: Callable[..., Game]) -> Callable[..., Game]:
    """Register a family: a function of a `Kit` and options, under its own name."""
    _VARIANTS[function.__name__] = _Variant(function, lambda space, given: {})
    return function


Defaults = Callable[[Space, dict[str, Any]], dict[str, Any]]


def variant_of(family: Callable[..., Game]) -> Callable[[Defaults], Defaults]:
    """Register a variant of a family: a function of the data's space and the options given, to those it differs in."""

    def register(defaults: Defaults) -> Defaults:
        _VARIANTS[defaults.__name__] = _Variant(family, defaults)
        return defaults

    return register


def names() -> tuple[str, ...]:
    """Every variant that `build` knows."""
    return tuple(sorted(_VARIANTS))


def build(name: str, *, like: Any, seed: int = 0, **options: Any) -> Game:
    """The variant ``name``, with networks sized for data ``like`` these.

    Args:
        name: one of `names()`, such as "wgan_gp", "generator" or "autoencoder".
        like: data (see `gan_zoo.data.points`) or a `Space`. Its shape and scale size the networks; at most
            1000 points set the scale of an auto-encoder's first codes.
        seed: of the initial weights.
        options: those of the variant: ``divergence``, ``generator``, ``critic``, ``encoder``, ``decoder`` (your own
            modules are copied), ``constraint``, ``latent``, ``batch``, ``lr``, ``ema``, …

    Raises:
        ValueError: an unknown variant or option; the message lists those that exist.

    Example:
        >>> import numpy as np
        >>> game = build("generator", like=np.random.default_rng(0).normal(size=(100, 2)), divergence="mmd")
        >>> game.sample(5, seed=0).shape
        torch.Size([5, 2])
    """
    examples, space = (None, like) if isinstance(like, Space) else points(like)
    examples = None if examples is None else space.standardized(examples[:1000])
    stored: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for option, value in options.items():
        try:
            stored[option] = to_spec(value)
        except TypeError:
            own[option] = value
    return assemble(name, space, int(seed), stored, own, examples)


def assemble(
    name: str, space: Space, seed: int, stored: dict[str, Any], own: dict[str, Any], examples: Tensor | None = None
) -> Game:
    """The game of a recipe: options as specifications, and the user's own objects."""
    if name not in _VARIANTS:
        near = difflib.get_close_matches(name, _VARIANTS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(f"unknown variant {name!r}{hint} Known variants: {', '.join(names())}")
    chosen = _VARIANTS[name]
    given = {option: from_spec(value) for option, value in stored.items()} | own
    if unknown := [option for option in given if option not in chosen.options]:
        raise ValueError(f"{name!r} has no option {unknown[0]!r}; its options are {', '.join(chosen.options)}")
    kit = Kit(space.standard(), torch.Generator().manual_seed(mix("weights", seed)), examples)
    game = chosen.family(kit, **(chosen.defaults(space, given) | given))
    game.space = space
    game.plan.recipe = {"name": name, "seed": seed, "options": stored, "own": sorted(own)}
    return game


# R1 on both samples. On digits it trains every critic, in data space and on codes, where the side that moves is x; the
# one-sided R1 lets the codes of an auto-encoder run away, and without a constraint no critic trains.
DEFAULT_CONSTRAINT = est.GradientPenalty(1.0, center=0.0, at="samples")


class Kit:
    """What a variant is made from: the data's space and networks sized for it, or copies of the user's.

    ``examples`` are some of the data where a game is built, and None where it is loaded and its weights are known.
    """

    def __init__(self, space: Space, generator: torch.Generator, examples: Tensor | None) -> None:
        self.space, self.random, self.examples = space, generator, examples

    def decoder(self, own: nn.Module | None, latent: int, argument: str = "generator") -> nn.Module:
        """Latent → data: the user's module, copied, or an MLP that ends in the data's range or scale."""
        if own is None:
            return decoder(latent, self.space, self.random)
        return _fitting(_copied(own, argument), latent, self.space.dim, argument)

    def logits(self, own: nn.Module | None, latent: int) -> nn.Module:
        """Latent → free values of a likelihood: the user's decoder, copied, or an MLP."""
        if own is None:
            return mlp(latent, self.space.dim, generator=self.random)
        return _fitting(_copied(own, "decoder"), latent, self.space.dim, "decoder")

    def encoder(self, own: nn.Module | None, outputs: int, *, unit_scale: bool = False) -> nn.Module:
        """Data → outputs: the user's module, copied, or an MLP, whose codes start at the prior's scale if asked.

        A divergence between codes huddled at the origin and the prior is all but infinite, and its gradient throws the
        codes past the prior.
        """
        if own is not None:
            return _fitting(_copied(own, "encoder"), self.space.dim, outputs, "encoder")
        built = encoder(self.space, outputs, self.random)
        if unit_scale and self.examples is not None:
            _to_unit_scale(built, self.examples)
        return built

    def estimator(
        self, divergence: Any, *, space: Space | None = None, critic: nn.Module | None = None, constraint: Any = None
    ) -> Estimator:
        """The estimator that a name or object stands for, its critic sized for ``space`` and constrained."""
        estimator = as_estimator(divergence)
        if not estimator.differentiable:
            raise ValueError(f"{estimator!r} has no gradient to train with; {', '.join(est.names())} have one")
        if isinstance(estimator, CriticEstimator):
            if critic is not None:
                estimator.critic = _copied(critic, "critic")
            if constraint is not None or estimator.constraint is None:
                estimator.constraint = constraint or DEFAULT_CONSTRAINT
        elif critic is not None or constraint is not None:
            raise ValueError(f"critic= and constraint= need a divergence with a critic: {estimator!r} has none")
        return estimator.sized(space or self.space, self.random)


def _to_unit_scale(encoder: nn.Module, examples: Tensor) -> None:
    """Shift and scale the last layer so that the codes of ``examples`` start with mean 0 and variance 1."""
    with torch.no_grad():
        codes = encoder(examples)
        last = [layer for layer in encoder.modules() if isinstance(layer, nn.Linear)][-1]
        center, scale = codes.mean(0), codes.std(0).clamp_min(1e-6)
        last.weight.div_(scale[:, None])
        last.bias.sub_(center).div_(scale)


def _copied(module: Any, argument: str) -> nn.Module:
    if not isinstance(module, nn.Module):
        raise TypeError(f"{argument} must be a torch.nn.Module: got {type(module).__name__}")
    return copy.deepcopy(module)


def _fitting(module: nn.Module, inputs: int, outputs: int, argument: str) -> nn.Module:
    """The module, after it has shown on two points that it maps (n, inputs) to (n, outputs)."""
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            shape: object = tuple(module(torch.zeros(2, inputs)).shape)
    except (RuntimeError, ValueError, TypeError) as error:
        shape = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    finally:
        module.train(training)
    if shape != (2, outputs):
        raise ValueError(f"{argument} must map (n, {inputs}) to (n, {outputs}); of (2, {inputs}) it made {shape}")
    return module
