"""Auto-encoders: cost(x, dec(z)) + λ·D(q_z‖p_z). The model is which D, matched for each x or in aggregate."""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal
from torch.nn.functional import softplus

import divergences as dv
import estimators as est
from divergences import kernels
from estimators.space import Space
from gan_zoo import laws
from gan_zoo.build import Kit, variant, variant_of
from gan_zoo.game import Adam, Draw, Game, Law, Phase, Plan, Player, Stage, Term
from gan_zoo.laws import Prior, data, decoded, encoded, prior, reconstructed
from gan_zoo.models.generator import match
from gan_zoo.networks.mlp import InRange


def squared_cost(draw: Draw, *, scale: float) -> Tensor:
    """Scale · ‖x − dec(z)‖², summed over coordinates, the mean over the batch."""
    return scale * (draw["x"] - draw["reconstruction"]).square().sum(-1).mean()


@variant
def autoencoder(
    kit: Kit,
    *,
    divergence: Any = None,
    constraint: est.Constraint | None = None,
    weight: float = 10.0,
    cost_scale: float = 1.0,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    critic: nn.Module | None = None,
    latent: int | Prior = 16,
    batch: int = 128,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.5, 0.9),
    decay: bool = True,
    critic_steps: int = 1,
    ema: float = 0.995,
) -> Game:
    """Min cost_scale·E‖x − dec(enc(x))‖² + weight·D(q_z‖p_z), the aggregate posterior matched by any estimator D.

    Without a divergence it is a plain auto-encoder, whose prior samples mean nothing.
    """
    z = prior(latent)
    adam = Adam(lr, betas, decay)
    player = Player("autoencoder", ("encoder", "decoder"), adam)
    networks = {
        "encoder": kit.encoder(encoder, z.dim, unit_scale=True),
        "decoder": kit.decoder(decoder, z.dim, "decoder"),
    }
    terms: list[Term] = []
    players = {"autoencoder": player}
    phases: tuple[Phase, ...] = (Phase(("autoencoder",)),)
    if divergence is not None:
        estimator = kit.estimator(divergence, space=Space((z.dim,)), critic=critic, constraint=constraint)
        terms, players, phases = match(
            estimator, "code", "z", player, adam, moves="x", weight=weight, critic_steps=critic_steps
        )
        networks["divergence"] = estimator
    elif critic is not None or constraint is not None:
        raise ValueError("critic= and constraint= need divergence=: a plain auto-encoder matches nothing")
    terms = [Term("cost", functools.partial(squared_cost, scale=cost_scale), {"autoencoder": 1.0}), *terms]
    by_name: dict[str, Law] = {"z": z, "code": encoded, "reconstruction": reconstructed, "y": decoded}
    plan = Plan(by_name, terms, players, [Stage(phases)], batch, ("encoder", "decoder"), ema)
    return Game(networks, plan, kit.space)


@variant_of(autoencoder)
def wae_mmd(space: Space, given: dict[str, Any]) -> dict[str, Any]:
    """WAE-MMD: the unbiased MMD of seven inverse multiquadrics C/(C + d²), C = 2·d_z·σ²·s, s ∈ {0.1, …, 10}, λ = 10.

    The cost is 0.05·‖x − dec(z)‖², as in the authors' code: λ means nothing without it.

    References: Tolstikhin et al. 2018, Algorithm 2 and section 4.
    """
    latent = prior(given.get("latent", 16))
    variance = latent.scale**2 if isinstance(latent, laws.Normal) else 1 / 3
    scales = [2 * latent.dim * variance * s for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)]
    kernel = 7.0 * kernels.InverseMultiquadric(scales)  # the sum of the seven, not their mean
    return {"divergence": est.MMD(kernel), "weight": 10.0, "cost_scale": 0.05}


class Likelihood(nn.Module):
    """log p(x|z) of a decoder's free output: a Gaussian with one learned variance, or Bernoullis on logits."""

    def __init__(self, kind: Literal["gaussian", "bernoulli"], space: Space) -> None:
        super().__init__()
        self.kind = kind
        self.mean = InRange(space)
        if kind == "gaussian":
            if space.low is not None and space.high is not None:
                # A quarter of the range: from a larger variance the codes collapse to the prior before it has shrunk.
                scale = (space.high - space.low) / 4
            else:
                scale = 1.0  # standard units
            self.log_variance = nn.Parameter(torch.tensor(2 * math.log(scale)))

    def nll(self, x: Tensor, output: Tensor) -> Tensor:
        """−log p(x|z), (n,), summed over coordinates and with its constants, in nats."""
        if self.kind == "bernoulli":
            return (softplus(output) - x * output).sum(-1)
        s = self.log_variance
        return 0.5 * ((x - self.mean(output)).square() / s.exp() + s + math.log(2 * math.pi)).sum(-1)


def binarized(draw: Draw) -> Tensor:
    """The target of a Bernoulli likelihood: each x drawn as 0 or 1 with probability x, anew in each step."""
    return torch.bernoulli(draw["x"], generator=draw.generator)


def posterior(draw: Draw) -> Tensor:
    """(mean, log variance) of q(z|x), side by side; the encoder sees what the likelihood is asked to explain."""
    return draw.net("encoder")(draw["target"])


def reparametrized(draw: Draw) -> Tensor:
    """Z ~ q(z|x), differentiable in its parameters."""
    mean, log_variance = draw["posterior"].chunk(2, -1)
    noise = torch.randn(mean.shape, generator=draw.generator, device=draw.device)
    return mean + (log_variance / 2).exp() * noise


def negative_log_likelihood(draw: Draw) -> Tensor:
    """−E log p(x|z) for z ~ q(z|x), one draw a point."""
    return draw.net("likelihood").nll(draw["target"], draw["reconstruction"]).mean()


def conditional_kl(draw: Draw) -> Tensor:
    """The mean over x of KL(q(z|x) ‖ N(0, I)), in nats."""
    mean, log_variance = draw["posterior"].chunk(2, -1)
    q = Independent(Normal(mean, (log_variance / 2).exp()), 1)
    p = Independent(Normal(torch.zeros_like(mean), torch.ones_like(mean)), 1)
    return dv.kl(q, p).mean()


def likelihood_mean(draw: Draw) -> Tensor:
    """y: the mean of p(x|z) at prior points."""
    return draw.net("likelihood").mean(draw.net("decoder")(draw["z"]))


@variant
def vae(
    kit: Kit,
    *,
    likelihood: Literal["gaussian", "bernoulli"] = "gaussian",
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    latent: int = 16,
    batch: int = 128,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    decay: bool = True,
    ema: float = 0.995,
) -> Game:
    """The variational auto-encoder: min −E log p(x|z) + E_x KL(q(z|x)‖N(0, I)), the negative ELBO in nats a point.

    The Gaussian likelihood has one learned variance and keeps its constants; the Bernoulli one takes logits and sees
    each x drawn as 0 or 1 with probability x, so it asks for data in [0, 1]. `sample` returns the mean of p(x|z).

    Raises:
        ValueError: another likelihood, or a Bernoulli likelihood for data outside [0, 1].
    References: Kingma and Welling 2014, eq. (10); the learned variance: Rybkin, Daniilidis and Levine 2021.
    """
    if likelihood not in ("gaussian", "bernoulli"):
        raise ValueError(f'likelihood must be "gaussian" or "bernoulli": got {likelihood!r}')
    if likelihood == "bernoulli" and (kit.space.low, kit.space.high) != (0.0, 1.0):
        raise ValueError("the Bernoulli likelihood needs images with values in [0, 1]")
    networks = {
        "encoder": kit.encoder(encoder, 2 * latent),
        "decoder": kit.logits(decoder, latent),
        "likelihood": Likelihood(likelihood, kit.space),
    }
    by_name: dict[str, Law] = {
        "z": prior(latent),
        "target": binarized if likelihood == "bernoulli" else data,
        "posterior": posterior,
        "code": reparametrized,
        "reconstruction": reconstructed,
        "y": likelihood_mean,
    }
    terms = [
        Term("nll", negative_log_likelihood, {"autoencoder": 1.0}),
        Term("kl", conditional_kl, {"autoencoder": 1.0}),
    ]
    player = Player("autoencoder", tuple(networks), Adam(lr, betas, decay))
    plan = Plan(
        by_name, terms, {"autoencoder": player}, [Stage((Phase(("autoencoder",)),))], batch, tuple(networks), ema
    )
    return Game(networks, plan, kit.space)
