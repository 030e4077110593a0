"""Generators: y = G(z) is drawn towards the data by any divergence. GAN, f-GAN, WGAN-GP and GMMN are choices of it."""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor, nn

import estimators as est
from divergences import kernels
from estimators.neural.critic_estimator import CriticEstimator
from estimators.space import Space
from gan_zoo.build import Kit, variant, variant_of
from gan_zoo.game import Adam, Draw, Game, Metrics, Phase, Plan, Player, Stage, Term
from gan_zoo.laws import Prior, generated, prior


def matching(draw: Draw, *, divergence: str, x: str, y: str) -> Tensor:
    """What a model minimises: the estimator ``divergence`` at the laws ``x`` and ``y``.

    The samples of all ranks are pooled where the loss is not a mean over the batch.
    """
    estimator = draw.net(divergence)
    return estimator(*_sides(draw, estimator, x, y), generator=draw.generator)


def critic_loss(draw: Draw, *, divergence: str, x: str, y: str) -> tuple[Tensor, Metrics]:
    """What the critic of the estimator ``divergence`` minimises."""
    estimator = draw.net(divergence)
    return estimator.critic_loss(*_sides(draw, estimator, x, y), generator=draw.generator)


def _sides(draw: Draw, estimator: est.Estimator, x: str, y: str) -> tuple[Tensor, Tensor]:
    """The samples of both laws: of all ranks, unless the loss is a mean over the batch."""
    if isinstance(estimator, CriticEstimator) and not estimator.pools:
        return draw[x], draw[y]
    return draw.pooled(x), draw.pooled(y)


def match(
    estimator: est.Estimator,
    x: str,
    y: str,
    model: Player,
    critic: Adam,
    *,
    moves: str = "y",
    weight: float = 1.0,
    critic_steps: int = 1,
) -> tuple[list[Term], dict[str, Player], tuple[Phase, ...]]:
    """Terms, players and phases by which ``model`` minimises the network "divergence" between two laws.

    Where the estimator has a critic, it becomes a player of its own that moves ``critic_steps`` times before the model.
    ``moves`` says which side is the model's; where the loss has a side for it, the two laws may change places.
    """
    if isinstance(estimator, CriticEstimator) and estimator.model_side not in (None, moves):
        x, y = y, x
    roles: dict[str, Any] = {"divergence": "divergence", "x": x, "y": y}
    terms = [Term("divergence", functools.partial(matching, **roles), {model.name: weight})]
    players = {model.name: model}
    phases: tuple[Phase, ...] = (Phase((model.name,)),)
    if isinstance(estimator, CriticEstimator):
        terms.append(Term("critic", functools.partial(critic_loss, **roles), {"critic": 1.0}))
        players["critic"] = Player("critic", ("divergence",), critic, controller="divergence")
        phases = (Phase(("critic",), critic_steps), *phases)
    return terms, players, phases


@variant
def generator(
    kit: Kit,
    *,
    divergence: Any = "mmd",
    constraint: est.Constraint | None = None,
    generator: nn.Module | None = None,
    critic: nn.Module | None = None,
    latent: int | Prior = 16,
    batch: int = 128,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.5, 0.9),
    decay: bool = True,
    critic_steps: int = 1,
    ema: float = 0.995,
) -> Game:
    """The generator G that minimises D(data ‖ G(z)), for any registered divergence or estimator D.

    A critic without a constraint of its own is given R1 on both samples.
    """
    estimator = kit.estimator(divergence, critic=critic, constraint=constraint)
    z = prior(latent)
    adam = Adam(lr, betas, decay)
    terms, players, phases = match(
        estimator, "x", "y", Player("generator", ("generator",), adam), adam, critic_steps=critic_steps
    )
    plan = Plan({"z": z, "y": generated}, terms, players, [Stage(phases)], batch, ("generator",), ema)
    return Game({"generator": kit.decoder(generator, z.dim), "divergence": estimator}, plan, kit.space)


@variant_of(generator)
def gan(space: Space, given: dict[str, Any]) -> dict[str, Any]:
    """The non-saturating GAN: no constraint on the discriminator, Adam (2e-4, 0.5, 0.999).

    References: Goodfellow et al. 2014, section 3; the optimizer is that of Radford et al. 2016.
    """
    return {
        "divergence": est.NonSaturatingGAN(),
        "constraint": est.Constraint(),
        "lr": 2e-4,
        "betas": (0.5, 0.999),
        "decay": False,
    }


@variant_of(generator)
def fgan(space: Space, given: dict[str, Any]) -> dict[str, Any]:
    """f-GAN: min over G, max over V of E_P[g_f(V)] − E_Q[f*(g_f(V))], for any row of the table; no constraint.

    References: Nowozin, Cseke and Tomioka 2016, eq. (6).
    """
    return {
        "divergence": "js",
        "constraint": est.Constraint(),
        "lr": 2e-4,
        "betas": (0.5, 0.999),
        "decay": False,
    }


@variant_of(generator)
def wgan_gp(space: Space, given: dict[str, Any]) -> dict[str, Any]:
    """WGAN-GP: the Kantorovich–Rubinstein critic with a two-sided gradient penalty, λ = 10, five critic steps a step.

    References: Gulrajani et al. 2017, Algorithm 1.
    """
    return {
        "divergence": est.KantorovichRubinstein(constraint=est.GradientPenalty(10.0)),
        "lr": 1e-4,
        "betas": (0.0, 0.9),
        "decay": False,
        "critic_steps": 5,
        "batch": 64,
    }


@variant_of(generator)
def gmmn(space: Space, given: dict[str, Any]) -> dict[str, Any]:
    """GMMN: √MMD² of the biased statistic under a mixture of six Gaussian kernels, large batches, no critic.

    The paper's kernels exp(−d²/(2σ)), σ ∈ {2, 5, 10, 20, 40, 80}, are for the 784 pixels of MNIST; σ is scaled by the
    number of coordinates here, as squared distances are.

    References: Li, Swersky and Zemel 2015, eqs. (3) and (5).
    """
    bandwidths = [(sigma * space.dim / 784) ** 0.5 for sigma in (2, 5, 10, 20, 40, 80)]
    kernel = kernels.Gaussian(bandwidths)
    return {"divergence": est.MMD(kernel, statistic="biased", squared=False), "batch": 1000}
