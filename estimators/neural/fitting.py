"""Splits, and the loop that trains a critic for estimation alone."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from tqdm import tqdm

from estimators.door import Samples
from estimators.neural.critics import judging

if TYPE_CHECKING:
    from estimators.neural.critic_estimator import CriticEstimator

RISE = 0.02  # in standard errors, from which a held-out value is taken to have risen


def split(x: Tensor, y: Tensor, share: float, generator: torch.Generator) -> tuple[Samples, Samples]:
    """Two disjoint random parts of both samples; the first has ``share`` of the points, and each has one at least."""
    parts = []
    for points in (x, y):
        order = torch.randperm(len(points), generator=generator)
        cut = min(max(round(share * len(points)), 1), len(points) - 1)
        parts.append((points[order[:cut]], points[order[cut:]]))
    (x1, x2), (y1, y2) = parts
    return Samples(x1, y1, None, None), Samples(x2, y2, None, None)


def evaluated(estimator: CriticEstimator, s: Samples) -> tuple[Tensor, Tensor]:
    """The two sides of the objective without a gradient, dropout or batch statistics."""
    assert estimator.critic is not None  # asked after training
    with judging(estimator.critic):
        return estimator.pieces(s.x, s.y)


@contextlib.contextmanager
def few_threads(module: nn.Module) -> Iterator[None]:
    """One thread for small dense networks, whose steps a second thread only slows down."""
    before = torch.get_num_threads()
    convolutional = any(isinstance(m, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d) for m in module.modules())
    small = sum(p.numel() for p in module.parameters()) < 2_000_000 and not convolutional
    torch.set_num_threads(1 if small else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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
    check_every: int = 50,
) -> float:
    """Minimise ``critic_loss`` by Adam; keep the weights with the highest lower limit on a held-out fifth, returned."""
    train, held_out = split(x, y, 0.8, generator)
    critic = estimator.critic
    assert critic is not None  # sized by the caller
    optimizer = torch.optim.Adam(critic.parameters(), lr=lr, betas=(0.5, 0.9))
    best, kept, stale = -float("inf"), copy.deepcopy(critic.state_dict()), 0
    critic.train()
    bar = tqdm(range(steps), desc=f"fit {type(estimator).__name__}", delay=2, leave=False, disable=not progress)
    with few_threads(critic):
        for step in bar:
            for group in optimizer.param_groups:
                group["lr"] = lr * (1 - 0.9 * step / steps)
            rows = [
                torch.randint(len(side), (min(batch, len(side)),), generator=generator) for side in (train.x, train.y)
            ]
            with parametrize.cached():  # normalised weights are made once a step, not once a pass
                loss, metrics = estimator.critic_loss(train.x[rows[0]], train.y[rows[1]], generator=generator)
            if not bool(torch.isfinite(loss)):
                break  # the weights kept are those of the last finite check
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            estimator.update_(metrics)
            if (step + 1) % check_every == 0 or step + 1 == steps:
                a, b = evaluated(estimator, held_out)
                error = math.sqrt(float(a.var() / len(a) + b.var() / len(b)))
                value = float(a.mean() - b.mean()) - error
                bar.set_postfix(value=f"{value:.4g}", refresh=False)  # a refresh would ignore the delay
                stale = 0 if value > best + RISE * error else stale + 1
                if value > best:
                    best, kept = value, copy.deepcopy(critic.state_dict())
                if stale >= patience:
                    break
    critic.load_state_dict(kept)
    critic.eval()  # as it is judged: without dropout, and with weights that do not move
    return best
