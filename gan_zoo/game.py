"""What a model is. A `Game` has laws (how samples arise), terms (what is minimised, by whom) and players (who moves).

    draw     evaluates each law at most once, so that all terms of a step share their samples;
    law      a function of the draw: data, prior, G(z), code, …;
    term     a function of the draw, with a coefficient for each player that minimises it;
    player   a named group of networks with one optimizer: one summed loss, one gradient, one step;
    phase    players that step together on one draw, a number of times;
    stage    a share of the training, with its own phases; a new stage starts its optimizers afresh.

Laws and terms reach networks by name, never by closure, so that a game can be copied and its networks replaced by their
moving averages.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from estimators.space import Space

Metrics = dict[str, Tensor]
Coefficient = float | Callable[[float], float]
Law = Callable[["Draw"], Tensor]


class Draw:
    """One step's samples: ``draw[law]`` evaluates the law on first use and remembers it."""

    def __init__(
        self,
        game: Game,
        n: int,
        generator: torch.Generator,
        given: Mapping[str, Tensor] | None = None,
        *,
        averaged: bool = False,
        gather: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.game, self.n, self.generator = game, n, generator
        self.device = generator.device
        self.averaged = averaged
        self._samples: dict[str, Tensor] = dict(given or {})
        self._terms: dict[str, tuple[Tensor, Metrics]] = {}
        self._gather = gather

    def __getitem__(self, law: str) -> Tensor:
        if law not in self._samples:
            if law not in self.game.laws:
                raise KeyError(f"no law {law!r}: this game has {', '.join(self.game.laws)}")
            self._samples[law] = self.game.laws[law](self)
        return self._samples[law]

    def net(self, name: str) -> Any:
        """The network ``name``, or its moving average where the draw is for sampling."""
        averages = self.game.averages
        return averages[name] if self.averaged and name in averages else self.game.networks[name]

    def pooled(self, law: str) -> Tensor:
        """The law's samples of all ranks, for losses that are not a mean over the batch."""
        sample = self[law]
        return sample if self._gather is None else self._gather(sample)

    def evaluate(self, term: Term) -> tuple[Tensor, Metrics]:
        """The term's value and metrics, once a draw whoever asks."""
        if term.name not in self._terms:
            found = term.function(self)
            self._terms[term.name] = found if isinstance(found, tuple) else (found, {})
        return self._terms[term.name]


@dataclass(frozen=True)
class Term:
    """A scalar function of the draw, minimised by each player of ``coefficients`` with that coefficient."""

    name: str
    function: Callable[[Draw], Tensor | tuple[Tensor, Metrics]]
    coefficients: Mapping[str, Coefficient]


@dataclass(frozen=True)
class Adam:
    """Adam as data: the learning rate falls linearly to 0 over the stage where ``decay`` is set."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.5, 0.9)
    decay: bool = True

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ValueError(f"lr must be positive: got {self.lr}")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of these parameters."""
        return torch.optim.Adam(parameters, lr=self.lr, betas=self.betas)

    def rate(self, progress: float) -> float:
        """The learning rate at ``progress`` ∈ [0, 1] of the stage."""
        return self.lr * (1 - progress) if self.decay else self.lr


@dataclass(frozen=True)
class Player:
    """A named group of networks that one optimizer moves; ``controller`` names the network whose `update_` follows."""

    name: str
    networks: tuple[str, ...]
    optimizer: Adam = Adam()
    controller: str | None = None


@dataclass(frozen=True)
class Phase:
    """These players step together, ``repeats`` times, each time on a fresh draw."""

    players: tuple[str, ...]
    repeats: int = 1


@dataclass(frozen=True)
class Stage:
    """A part of the training in which these phases take turns; ``share`` is its part of all steps."""

    phases: tuple[Phase, ...]
    share: float = 1.0


@dataclass
class Turn:
    """What a phase found at one draw: gradients and metrics by player, values to log, the term that broke."""

    gradients: dict[str, list[Tensor]]
    metrics: dict[str, Metrics]
    logged: dict[str, float]
    broken: str | None


@dataclass
class Plan:
    """Everything about a game but its networks."""

    laws: dict[str, Law]
    terms: list[Term]
    players: dict[str, Player]
    stages: list[Stage]
    batch: int = 128
    averaged: tuple[str, ...] = ()  # networks with a moving average, used by `sample`
    ema: float = 0.995
    recipe: dict[str, Any] = field(default_factory=dict)  # what `load` rebuilds the game from


class Game(nn.Module):
    """A model: networks that play by a `Plan`. Made by `gan_zoo.build`, trained by `gan_zoo.train`."""

    def __init__(self, networks: Mapping[str, nn.Module], plan: Plan, space: Space) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(networks)
        self.averages = nn.ModuleDict({name: copy.deepcopy(networks[name]) for name in plan.averaged if plan.ema})
        self.averages.requires_grad_(False)
        self.plan, self.space = plan, space  # the data's own; laws and networks live in its standard units
        self._moves = {name for name, parameter in self.networks.named_parameters() if parameter.requires_grad}

    @property
    def laws(self) -> dict[str, Law]:
        """How each kind of sample arises."""
        return self.plan.laws

    def parameters_of(self, player: str) -> list[nn.Parameter]:
        """The parameters that ``player`` moves."""
        return [
            parameter
            for network in self.plan.players[player].networks
            for name, parameter in self.networks[network].named_parameters()
            if f"{network}.{name}" in self._moves
        ]

    def thaw(self) -> None:
        """Let every parameter require a gradient again that did when the game was made; frozen layers stay frozen."""
        for name, parameter in self.networks.named_parameters():
            parameter.requires_grad_(name in self._moves)

    def gradients(self, phase: Phase, draw: Draw, progress: float) -> Turn:
        """Each player's gradient of its summed loss at one draw.

        Only the players of the phase require gradients: the others' weights build no graph, and gradients still flow
        through them to samples.
        """
        own = {player: self.parameters_of(player) for player in phase.players}
        self.networks.requires_grad_(False)
        for parameters in own.values():
            for parameter in parameters:
                parameter.requires_grad_(True)
        turn = Turn({}, {player: {} for player in phase.players}, {}, None)
        losses: dict[str, Tensor] = {}
        for player in phase.players:
            for term in self.plan.terms:
                coefficient = term.coefficients.get(player)
                if coefficient is None:
                    continue
                value, metrics = draw.evaluate(term)
                found = float(value.detach())
                if not math.isfinite(found) and turn.broken is None:
                    turn.broken = f"term {term.name!r} of player {player!r} became {found}"
                weight = coefficient(progress) if callable(coefficient) else coefficient
                losses[player] = losses[player] + weight * value if player in losses else weight * value
                turn.metrics[player] |= metrics
                turn.logged[term.name] = found
                turn.logged |= {f"{term.name}.{name}": float(metric) for name, metric in metrics.items()}
        for i, player in enumerate(phase.players):
            found_by = torch.autograd.grad(
                losses[player], own[player], retain_graph=i + 1 < len(phase.players), allow_unused=True
            )
            turn.gradients[player] = [
                torch.zeros_like(p) if g is None else g for p, g in zip(own[player], found_by, strict=True)
            ]
        return turn

    def after_step(self, player: str, metrics: Metrics, step: int) -> None:
        """What follows a player's step: its controller's move, then the moving averages of its networks.

        The averages forget faster in the first steps, so that a short training is not an average with its start.
        """
        ema = min(self.plan.ema, (1 + step) / (10 + step))
        chosen = self.plan.players[player]
        if chosen.controller is not None:
            self.networks[chosen.controller].update_(metrics)  # type: ignore[operator]
        with torch.no_grad():
            for name in chosen.networks:
                if name in self.averages:
                    _average_(self.averages[name], self.networks[name], ema)

    def sample(self, n: int, *, seed: int = 0, **given: Any) -> Tensor:
        """``n`` samples of the model in the data's shape, on the CPU, from the averaged networks; no data are needed.

        Args:
            n: how many.
            seed: of the sample; the same seed gives the same sample.
            given: fixes a law, such as ``z=`` for the latent points.

        Raises:
            ValueError: n < 1, or a law that the game does not have.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1: got {n}")
        if unknown := [law for law in given if law not in self.laws]:
            raise ValueError(f"no law {unknown[0]!r} to fix: this game has {', '.join(self.laws)}")
        device = next(self.parameters()).device
        generator = torch.Generator(device).manual_seed(seed)
        fixed = {
            law: torch.as_tensor(value, dtype=torch.get_default_dtype(), device=device) for law, value in given.items()
        }
        if short := [law for law, value in fixed.items() if len(value) != n]:
            raise ValueError(f"{short[0]} must have n = {n} rows: got {len(fixed[short[0]])}")
        training = self.training
        self.eval()
        try:
            with torch.no_grad():
                y = Draw(self, n, generator, fixed, averaged=True)["y"].cpu()
                return self.space.natural(self.space.restored(y))
        finally:
            self.train(training)

    def __repr__(self) -> str:
        networks = "\n".join(
            f"  {name}: {sum(p.numel() for p in network.parameters()):,} parameters"
            for name, network in self.networks.items()
        )
        terms = "\n".join(f"  {term.name}: minimised by {', '.join(term.coefficients)}" for term in self.plan.terms)
        return f"Game {self.plan.recipe.get('name', '')!r} on points of shape {self.space.shape}\n{networks}\n{terms}"


def _average_(average: nn.Module, network: nn.Module, ema: float) -> None:
    for shadow, parameter in zip(average.parameters(), network.parameters(), strict=True):
        shadow.lerp_(parameter, 1 - ema)
    for kept, buffer in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(buffer)
