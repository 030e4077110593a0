"""Which critic that is 1-Lipschitz by proof: sorted pairs, or cones, as many as held-out points pay for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from estimators.neural.constraints import ByConstruction, GroupSort
from estimators.neural.lipschitz import Cones

if TYPE_CHECKING:
    from collections.abc import Callable

    from estimators.door import Samples
    from estimators.neural.constraints import Constraint
    from estimators.neural.kantorovich import KantorovichRubinstein

FIRST, LAST, GROWTH = 64, 1024, 4  # numbers of cones
GAIN = 0.002  # of the held-out value, for which it is worth to go on
STARTS = 1.0, 0.25  # cones start at points, or that share of the way from the middle of all: apexes lie further in
STEPS, BATCH = 4000, 512  # of cones, whose steps are cheap


def trained(
    build: Callable[[torch.nn.Module | None, Constraint], KantorovichRubinstein], seen: Samples, seed: int
) -> tuple[KantorovichRubinstein, str]:
    """The critic with the largest held-out value less its error, and a note on the others.

    Few cones are tried at either sample and from either start; of the best, more and more, until that no longer pays.
    """
    scores: dict[str, tuple[float, KantorovichRubinstein]] = {}

    def kept(name: str, estimator: KantorovichRubinstein, score: float) -> float:
        scores[name] = score, estimator
        return score

    def cones(side: str, start: float, count: int) -> float:
        points, sign = (seen.x, -1) if side == "x" else (seen.y, 1)
        generator = torch.Generator().manual_seed(seed)
        chosen = points[torch.randperm(len(points), generator=generator)[:count]]
        middle = torch.cat([seen.x, seen.y]).mean(0)
        critic = Cones(middle + start * (chosen - middle), sign)
        name = f"{len(chosen)} cones at {side}" + (f", started {start:g} of the way" if start < 1 else "")
        estimator = build(critic, ByConstruction())
        return kept(name, estimator, estimator.train_critic(seen, steps=STEPS, batch=BATCH, seed=seed))

    network = build(None, GroupSort())
    kept("network of sorted pairs", network, network.train_critic(seen, seed=seed))
    few = {(side, start): cones(side, start, FIRST) for side in ("x", "y") for start in STARTS}
    (side, start), score = max(few.items(), key=lambda item: item[1])
    count = FIRST
    while count < min(LAST, len(seen.x if side == "x" else seen.y)):
        count *= GROWTH
        more = cones(side, start, count)
        if more <= score + GAIN * abs(score):
            break
        score = more
    best = max(scores, key=lambda name: scores[name][0])
    others = "; ".join(f"{name} {found[0]:.4g}" for name, found in scores.items() if name != best)
    note = f"critic: {best}, of the largest held-out value less its error, {scores[best][0]:.4g} (others: {others})"
    return scores[best][1], note
