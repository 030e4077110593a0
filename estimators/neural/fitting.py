"""Splits, and the loop that trains a critic for estimation alone."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from tqdm import tqdm

from estimators.door import Samples
from estimators.neural.critics import judging
from estimators.neural.stacking import Stacked, architecture

if TYPE_CHECKING:
    from estimators.neural.critic_estimator import CriticEstimator

RISE = 0.02  # in standard errors, from which a held-out value is taken to have risen
CHECKED = 10_000, 0.05  # points a side, or share of them, that are held out at the most
CHECK_EVERY = 50  # steps
MEMORY = 0.995  # of the running mean of the weights, which is less noisy than the last step's


def split(x: Tensor, y: Tensor, share: float, generator: torch.Generator) -> tuple[Samples, Samples]:
    """Two disjoint random parts of both samples; the first has ``share`` of the points, and each has one at least.

    Of a batch the same rows of each sample.
    """
    parts = []
    for points in (x, y):
        n = points.shape[-2]
        order = torch.randperm(n, generator=generator)
        cut = min(max(round(share * n), 1), n - 1)
        parts.append((points[..., order[:cut], :], points[..., order[cut:], :]))
    (x1, x2), (y1, y2) = parts
    return Samples(x1, y1, None, None), Samples(x2, y2, None, None)


def evaluated(estimator: CriticEstimator, s: Samples) -> tuple[Tensor, Tensor]:
    """The two sides of the objective without a gradient, dropout or batch statistics."""
    assert estimator.critic is not None  # asked after training
    with judging(estimator.critic):
        return estimator.pieces(s.x, s.y)


@contextlib.contextmanager
def few_threads(module: nn.Module) -> Iterator[None]:
    """One thread for a small dense network, whose steps a second thread only slows down; not for a stack of them."""
    before = torch.get_num_threads()
    convolutional = any(
        isinstance(m, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d) for m in architecture(module).modules()
    )
    large = convolutional or isinstance(module, Stacked) or sum(p.numel() for p in module.parameters()) >= 2_000_000
    torch.set_num_threads(before if large else 1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Training(NamedTuple):
    """How the training of a critic, or of each of a stack, ended."""

    score: Tensor  # the largest held-out value less its standard error, (...,)
    error: Tensor  # the last of these standard errors
    steps: int
    rise: Tensor  # of the held-out value in the last quarter of the steps, in standard errors


def fit_critic(
    estimator: CriticEstimator,
    x: Tensor,
    y: Tensor,
    *,
    steps: int,
    batch: int,
    lr: float,
    patience: int,
    generator: torch.Generator,
    progress: bool,
) -> Training:
    """Minimise ``critic_loss`` by Adam; of the running means of the weights keep those with the best held-out value.

    Held out is a fifth of the points, and of the smaller sample no more than the larger of `CHECKED`. Where the critic
    is a stack, x and y are (B, n, d) and (B, m, d), all problems see the same rows of theirs, and each has its own best
    weights and its own end.
    """
    most, share = CHECKED
    train, held_out = split(x, y, 1 - min(0.2, max(share, most / min(x.shape[-2], y.shape[-2]))), generator)
    critic = estimator.critic
    assert critic is not None  # sized by the caller
    optimizer = torch.optim.Adam(critic.parameters(), lr=lr, betas=(0.5, 0.9))
    averaged = copy.deepcopy(critic)
    kept = copy.deepcopy(critic.state_dict())
    best = x.new_full(x.shape[:-2], -float("inf"))
    stale, ended, history = torch.zeros_like(best), torch.zeros_like(best, dtype=torch.bool), []
    critic.train()
    bar = tqdm(range(steps), desc=f"fit {type(estimator).__name__}", delay=2, leave=False, disable=not progress)
    with few_threads(critic):
        for step in bar:
            for group in optimizer.param_groups:
                group["lr"] = lr * (1 - 0.9 * step / steps)
            rows = [
                torch.randint(side.shape[-2], (min(batch, side.shape[-2]),), generator=generator)
                for side in (train.x, train.y)
            ]
            with parametrize.cached():  # normalised weights are made once a step, not once a pass
                loss, metrics = estimator.critic_loss(
                    train.x[..., rows[0], :], train.y[..., rows[1], :], generator=generator
                )
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            estimator.update_(metrics)
            _average_(averaged, critic, min(MEMORY, (step + 1) / (step + 10)))
            if (step + 1) % CHECK_EVERY and step + 1 < steps:
                continue
            estimator.constrained.update_(averaged)
            estimator.critic = averaged
            a, b = evaluated(estimator, held_out)
            estimator.critic = critic
            error = (a.var(-1) / a.shape[-1] + b.var(-1) / b.shape[-1]).double().sqrt()
            value = (a.mean(-1) - b.mean(-1)).double() - error
            history.append(value)
            stale = torch.where(value > best + RISE * error, 0.0, stale + 1)
            better = (value > best) & ~ended
            best = torch.where(better, value, best)
            for name, weights in averaged.state_dict().items():
                kept[name][better] = weights[better]
            ended |= (stale >= patience) | ~torch.isfinite(value)  # weights kept are those of the last finite check
            bar.set_postfix(value=f"{float(value.mean()):.4g}", refresh=False)  # a refresh would ignore the delay
            if bool(ended.all()):
                break
    critic.load_state_dict(kept)
    critic.eval()  # as it is judged: without dropout, and with weights that do not move
    before = history[: max(1, math.floor(0.75 * len(history)))]
    rise = (best - torch.stack(before).amax(0)) / error
    return Training(best, error, step + 1, rise)


@torch.no_grad()
def _average_(averaged: nn.Module, critic: nn.Module, memory: float) -> None:
    """Move the mean weights towards the critic's; buffers, such as statistics of batches, are the critic's."""
    for mean, weight in zip(averaged.parameters(), critic.parameters(), strict=True):
        mean.lerp_(weight, 1 - memory)
    for old, new in zip(averaged.buffers(), critic.buffers(), strict=True):
        old.copy_(new)
