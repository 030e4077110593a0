"""The gradient that a generator receives while its critic is trained further and further, the generator held fixed.

P is uniform on the unit circle and Q on the circle of half the radius, two curves that do not meet: JS(P, Q) = log 2
whatever the distance, and W1(P, Q) = 1/2 by the potential ‖u‖, whose gradient at Q points straight at P with norm 1.

References: Arjovsky and Bottou 2017, theorem 2.4 and figures 2 and 3; Arjovsky, Chintala and Bottou 2017, figure 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import parametrize
from tqdm import tqdm

import divergences as dv
import estimators as est
from benchmarks.evidence.pictures import BLUE, FONT, GREEN, PINK, QUIET, RED, new_figure, plain, say
from estimators.neural.critics import evaluate
from estimators.neural.fitting import few_threads
from estimators.report import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "The vanishing gradient"
RADII = 1.0, 0.5
STEPS, SEEDS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000), range(5)
BATCH, JUDGED = 128, 512

CRITICS: dict[str, est.CriticEstimator] = {
    "discriminator": est.MinimaxGAN(),
    "gradient_penalty": est.KantorovichRubinstein(),
    "group_sort": est.KantorovichRubinstein(constraint=est.GroupSort()),
}


def circle(n: int, radius: float, generator: torch.Generator) -> Tensor:
    """N points, uniform on the circle."""
    angle = 2 * math.pi * torch.rand(n, generator=generator)
    return radius * torch.stack([angle.cos(), angle.sin()], -1)


def gradient_norm(loss: est.CriticEstimator, x: Tensor, y: Tensor) -> float:
    """The mean over the points y of ‖m · ∂loss/∂y_i‖: what one point of a batch of m is told, whatever m."""
    y = y.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(x, y), y)
    return float(torch.linalg.vector_norm(len(y) * gradient, dim=-1).mean())


def losses(name: str, trained: est.CriticEstimator) -> dict[str, est.CriticEstimator]:
    """What models minimise against a critic: of one discriminator there are two such losses."""
    if name == "discriminator":
        return {"minimax": trained, "non_saturating": est.NonSaturatingGAN(trained.critic)}
    return {name: trained}


def followed(name: str, seed: int, steps: Sequence[int]) -> Iterator[dict[str, float]]:
    """One critic's training, seen after each number of ``steps`` on points that it is not trained on."""
    generator = torch.Generator().manual_seed(seed)
    x, y = (circle(JUDGED, radius, generator) for radius in RADII)
    estimator = CRITICS[name].sized(est.Space.of(torch.cat([x, y])), generator)
    critic = estimator.critic
    assert critic is not None  # sized
    adam = torch.optim.Adam(critic.parameters(), lr=estimator.constrained.rate, betas=(0.5, 0.9))
    for step in range(steps[-1] + 1):
        if step in steps:
            critic.eval()
            seen = {"value": float(estimator.value(x, y).detach())}
            with torch.no_grad():
                right = (evaluate(critic, x) > 0).double().mean() + (evaluate(critic, y) < 0).double().mean()
            seen["accuracy"] = float(right) / 2
            yield seen | {loss: gradient_norm(model, x, y) for loss, model in losses(name, estimator).items()}
            critic.train()
        batch = [circle(BATCH, radius, generator) for radius in RADII]
        with few_threads(critic), parametrize.cached():
            loss, metrics = estimator.critic_loss(*batch, generator=generator)
        adam.zero_grad()
        loss.backward()
        adam.step()
        estimator.update_(metrics)


def measure(steps: Sequence[int] = STEPS, seeds: Sequence[int] = SEEDS) -> dict[str, Any]:
    """Each critic of each seed; lists are over seeds, and in them over numbers of steps."""
    gradient: dict[str, list[list[float]]] = {}
    value: dict[str, list[list[float]]] = {}
    accuracy: list[list[float]] = []
    runs = [(name, seed) for seed in seeds for name in CRITICS]
    for name, seed in tqdm(runs, desc="vanishing_gradient", delay=2, leave=False):
        rows = list(followed(name, seed, steps))
        for key in rows[0]:
            series = [_rounded(row[key]) for row in rows]
            if key == "value":
                value.setdefault(name, []).append(series)
            elif key == "accuracy":
                if name == "discriminator":  # a Wasserstein critic has no threshold
                    accuracy.append(series)
            else:
                gradient.setdefault(key, []).append(series)
    return {
        "laws": f"uniform on circles of radius {RADII[0]:g} (data) and {RADII[1]:g} (model) in the plane",
        "truth": truth(),
        "steps": list(steps),
        "seeds": list(seeds),
        "gradient": gradient,
        "value": value,
        "accuracy": accuracy,
        "claims": {name: claim(np.array(norms)) for name, norms in gradient.items()},
    }


def truth() -> dict[str, float]:
    """JS and W1, exact on 64 points of each circle at equal angles, where they are what they are on the circles."""
    angle = 2 * np.pi * np.arange(64) / 64
    P, Q = (dv.Empirical(radius * np.stack([np.cos(angle), np.sin(angle)], -1)) for radius in RADII)
    return {"js": float(dv.js(P, Q)), "wasserstein": float(dv.wasserstein(P, Q))}


def claim(norms: NDArray[np.float64]) -> dict[str, Any]:
    """The first gradient norm over the last, and the largest over the last: median and range over the seeds."""
    last = norms[:, -1]
    ratios = {"first_over_last": norms[:, 0] / last, "largest_over_last": norms.max(1) / last}
    return {"first": _rounded(np.median(norms[:, 0])), "last": _rounded(np.median(last))} | {
        name: [_rounded(v) for v in (np.median(r), r.min(), r.max())] for name, r in ratios.items()
    }


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def draw(found: dict[str, Any]) -> Figure:
    """The gradient norms on the left; on the right how far each critic has come."""
    figure = new_figure(3.5)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    steps, truths = found["steps"], found["truth"]

    plain(left, "Gradient that the generator receives", "training steps of the critic", "mean norm for a point")
    left.set_yscale("log")
    for name, colour, style in (
        ("minimax", BLUE, "-"),
        ("non_saturating", PINK, "-."),
        ("gradient_penalty", RED, "--"),
        ("group_sort", GREEN, "-"),
    ):
        band(left, steps, np.array(found["gradient"][name]), colour, style)
    plain(right, "The critic meanwhile", "training steps of the critic", "share")
    band(right, steps, np.array(found["accuracy"]), QUIET, ":")
    for name, divergence, colour, style in (
        ("discriminator", "js", BLUE, "-"),
        ("gradient_penalty", "wasserstein", RED, "--"),
        ("group_sort", "wasserstein", GREEN, "-"),
    ):
        band(right, steps, np.array(found["value"][name]) / truths[divergence], colour, style)
    for ax in (left, right):
        ax.set_xscale("symlog", linthresh=1, linscale=0.35)
        ax.set_xticks([0, 1, 10, 100, 1000], ["0", "1", "10", "100", "1000"])
        ax.set_xticks([], minor=True)
        ax.set_xlim(0, steps[-1])
    left.set_ylim(1e-10, 1e3)
    left.set_yticks([1e-9, 1e-6, 1e-3, 1, 1e3])
    say(left, "GAN, non-saturating", 1.2, 60, PINK)
    say(left, "GAN, minimax (JS)", 200, 1e-7, BLUE, "right")
    say(left, "Wasserstein critic,\n– – gradient penalty", 0.15, 3e-3, RED)
    say(left, "— GroupSort", 0.15, 3e-4, GREEN)
    right.set_ylim(-0.16, 1.15)
    say(right, "discriminator:", 26, 0.61, QUIET)
    say(right, "··· accuracy", 26, 0.53, QUIET)
    say(right, "— bound / JS", 26, 0.45, BLUE)
    say(right, "Wasserstein critic,\nobjective / W1:", 26, 0.29, QUIET)
    say(right, "– – gradient penalty", 26, 0.17, RED)
    say(right, "— GroupSort", 26, 0.09, GREEN)
    figure.supxlabel(
        f"median and range of {len(found['seeds'])} seeds; 512 new points; two circles, of radius 1 and ½",
        fontsize=FONT - 1.5, color=QUIET,
    )  # fmt: skip
    return figure


def band(ax: Axes, steps: Sequence[int], series: NDArray[np.float64], colour: str, style: str) -> None:
    """The median over seeds, in a band of their range."""
    ax.fill_between(steps, series.min(0), series.max(0), color=colour, alpha=0.18, linewidth=0)
    ax.plot(steps, np.median(series, 0), style, color=colour, linewidth=1.8)


def reading(found: dict[str, Any]) -> str:
    """What the picture shows, in the numbers of the result."""
    claims, steps, seeds = found["claims"], found["steps"][-1], len(found["seeds"])
    fall, low, high = (number(ratio) for ratio in claims["minimax"]["first_over_last"])
    first, last = (number(claims["minimax"][key]) for key in ("first", "last"))
    others = {name: number(claims[name]["last"]) for name in ("non_saturating", "gradient_penalty", "group_sort")}
    accuracy = float(np.median(np.array(found["accuracy"])[:, -1]))
    return (
        f"The laws do not meet, so that JS is log 2 however near they are. "
        f"As the discriminator learns this (after {steps} steps it tells {accuracy:.0%} of new points apart), the "
        f"gradient of the minimax loss falls from {first} to {last} a point, by a factor of {fall} ({low} to {high} "
        f"over {seeds} seeds); that of the non-saturating loss grows to {others['non_saturating']} instead. "
        f"The gradient of a Wasserstein critic goes to 1, the slope of the best potential, and stays there: "
        f"{others['gradient_penalty']} with the gradient penalty and {others['group_sort']} with orthonormal layers, "
        f"which cannot exceed 1."
    )
