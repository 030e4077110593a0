"""The largest difference of the distribution functions, over points and coordinates."""

from __future__ import annotations

import torch
from torch import Tensor

from estimators.two_sample.permutation import HELD, Statistic
from estimators.two_sample.pool import Pool


def kolmogorov_smirnov(pool: Pool) -> Statistic:
    """The largest |F − G| over coordinates, F and G weighted where the points are; equal ones by the mean (F − G)²."""
    ordered, order = pool.points.T.contiguous().sort(-1)
    last = torch.ones_like(ordered, dtype=torch.bool)  # F and G are read after the last of equal points
    last[:, :-1] = ordered[:, 1:] > ordered[:, :-1]
    mass = pool.mass

    def gaps(labels: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """F and G of coordinate k after each of its different values."""
        here = mass[order[k]]
        of_x = (labels[:, order[k]] * here).cumsum(-1)
        of_y = here.cumsum(-1) - of_x
        sides = [total / total[:, -1:].clamp_min(1e-300) for total in (of_x, of_y)]
        return sides[0][:, last[k]], sides[1][:, last[k]]

    def evaluate(labels: Tensor) -> Tensor:
        found = mass.new_zeros(len(labels))
        for k in range(len(order)):
            F, G = gaps(labels, k)
            found = torch.maximum(found, (F - G).abs().amax(-1))
        return found

    def second(labels: Tensor) -> Tensor:
        squares = [(F - G).square().mean(-1) for F, G in (gaps(labels, k) for k in range(len(order)))]
        return torch.stack(squares).mean(0)

    def describe(labels: Tensor) -> str:
        best = (-1.0, "")
        for k in range(len(order)):
            F, G = (side[0] for side in gaps(labels[None], k))
            i = int((F - G).abs().argmax())
            at = f"coordinate {k}, at most {float(ordered[k][last[k]][i]):.4g}: {F[i]:.1%} of x and {G[i]:.1%} of y"
            best = max(best, (float((F - G)[i].abs()), at))
        return best[1]

    return Statistic(evaluate, HELD // len(pool.points), 1e-12, "kolmogorov_smirnov", describe, second)
