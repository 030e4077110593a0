"""Witnesses that are trained on some folds and judged on the others, for many labellings of the same points at once."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from estimators.neural.stacking import Stacked

_FOLDS = 4
_STEPS = 10  # in trials on digits more of them made it worse, and four folds were better than two
_BATCH = 256  # points a step, x and y together
_RATE = 0.01


def cross_fitted(network: nn.Module, points: Tensor, generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """A statistic of labellings, (C, N) → (C,): how well witnesses tell points that they were not trained on.

    For each labelling, and each of four folds of the points in turn, a copy of ``network`` under a linear layer, which
    starts at zero, is trained on the other folds: f(z) is to be 1 on x and −1 on y in the least squares. The minimiser
    is (p − q)/(p + q) for equal sizes, the witness for which the mean difference is largest in units of its deviation:
    for a kernel f(z) f(z'), the one with the largest J. The value is the sum over folds of the mean of f over x less
    that over y, in units of the deviation of f there. Every point is trained on, and every point is judged, by a
    witness that has not seen it.

    All labellings have the same folds, first weights and batches, so that the value of a labelling is a function of it
    and of the shuffled points alone: among exchangeable labellings the rank of the observed one is an exact p-value.

    Cost: 40 steps of C networks on 256 points, as one stack.

    Args:
        network: (n, d) → (n, k), with its first weights. It is copied.
        points: (N, d), in random order.
        generator: of the batches.

    References: Kübler et al. 2022, section 3 (the best witness).
    """
    network = copy.deepcopy(network).eval()  # without dropout and batch statistics a value hangs on labels alone
    with torch.no_grad():
        features = network(points[:2])
    if features.ndim != 2 or len(features) != 2:
        raise ValueError(f"network must give a vector a point, (2, k) for two: got shape {tuple(features.shape)}")
    head = nn.utils.skip_init(nn.Linear, features.shape[1], 1, dtype=features.dtype, device=features.device)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    witness = nn.Sequential(network, head).eval()
    fold = torch.arange(len(points)) % _FOLDS
    folds = [(torch.where(fold != k)[0], torch.where(fold == k)[0]) for k in range(_FOLDS)]
    batches = [
        [rows[torch.randperm(len(rows), generator=generator)[:_BATCH]] for _ in range(_STEPS)] for rows, _ in folds
    ]

    def evaluate(labels: Tensor) -> Tensor:
        total = torch.zeros(len(labels), dtype=torch.float64, device=labels.device)
        for (_, unseen), parts in zip(folds, batches, strict=True):
            stack = Stacked([witness] * len(labels))
            with torch.enable_grad():
                _train(stack, points, labels, parts)
            with torch.no_grad():
                total += _difference(_values(stack, points[unseen]).double(), labels[:, unseen])
        return total

    return evaluate


def _train(stack: Stacked, points: Tensor, labels: Tensor, batches: list[Tensor]) -> None:
    optimizer = torch.optim.Adam(stack.parameters(), lr=_RATE)
    for rows in batches:
        f = _values(stack, points[rows])
        loss = (f - torch.where(labels[:, rows], 1.0, -1.0).to(f)).square().mean(-1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _values(stack: Stacked, points: Tensor) -> Tensor:
    """The values of f at the points, (C, n)."""
    return stack(points.expand(len(stack), *points.shape)).squeeze(-1)


def _difference(f: Tensor, labels: Tensor) -> Tensor:
    """The mean over x less the mean over y, in units of the deviation of all, (C,); 0 where a side has no point."""
    of_x, of_y = labels.to(f), (~labels).to(f)
    n, m = of_x.sum(-1), of_y.sum(-1)
    found = (of_x * f).sum(-1) / n.clamp_min(1) - (of_y * f).sum(-1) / m.clamp_min(1)
    deviation = f.std(-1, correction=0)
    some = (n * m > 0) & (deviation > 0)
    return torch.where(some, found / torch.where(some, deviation, 1.0), 0.0)
