"""Which critic that is 1-Lipschitz by proof: sorted pairs, or cones, as many as held-out points pay for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from estimators.neural.constraints import ByConstruction, GroupSort
from estimators.neural.lipschitz import Cones

if TYPE_CHECKING:
    from collections.abc import Callable

    from estimators.door import Samples
    from estimators.neural.constraints import Constraint
    from estimators.neural.fitting import Training
    from estimators.neural.kantorovich import KantorovichRubinstein

FIRST, LAST, GROWTH = 64, 1024, 4  # numbers of cones
GAIN = 0.002  # of the held-out value, for which it is worth to go on
STARTS = 1.0, 0.25  # cones start at points, or that share of the way from the middle of all: apexes lie further in
SURE = 0.25  # of its standard error, for the same
PROBE, STEPS, BATCH = 1000, 6000, 512  # of cones, whose steps are cheap
PATIENCE = 5  # checks of a held-out value that is smooth, as its weights are running means


def trained(
    build: Callable[[torch.nn.Module | None, Constraint], KantorovichRubinstein], seen: Samples, seed: int
) -> tuple[KantorovichRubinstein, str]:
    """The critic with the largest held-out value less its error, and a note on the others.

    Few cones are tried for a while at either sample and from either start; with the best of these go on first few, then
    more and more cones, until that no longer pays.
    """
    scores: dict[str, tuple[float, KantorovichRubinstein]] = {}

    def kept(name: str, estimator: KantorovichRubinstein, **how: Any) -> Training:
        training = estimator.train_critic(seen, seed=seed, **how)
        scores[name] = float(training.score), estimator
        return training

    def cones(side: str, start: float, count: int, steps: int) -> Training:
        points, sign = (seen.x, -1) if side == "x" else (seen.y, 1)
        generator = torch.Generator().manual_seed(seed)
        chosen = points[torch.randperm(len(points), generator=generator)[:count]]
        middle = torch.cat([seen.x, seen.y]).mean(0)
        critic = Cones(middle + start * (chosen - middle), sign)
        name = f"{len(chosen)} cones at {side}" + (f", started {start:g} of the way" if start < 1 else "")
        return kept(name, build(critic, ByConstruction()), steps=steps, batch=BATCH, patience=PATIENCE)

    kept("network of sorted pairs", build(None, GroupSort()), steps=2000, batch=256, patience=10)
    probes = {(side, start): cones(side, start, FIRST, PROBE) for side in ("x", "y") for start in STARTS}
    side, start = max(probes, key=lambda pair: float(probes[pair].score))
    points = len(seen.x if side == "x" else seen.y)
    reached, count = cones(side, start, FIRST, STEPS), FIRST
    while count < min(LAST, points):
        count *= GROWTH
        more = cones(side, start, count, STEPS)
        gain = float(more.score - reached.score)
        if gain <= max(GAIN * abs(float(reached.score)), SURE * float(reached.error)):
            break
        reached = more
    best = max(scores, key=lambda name: scores[name][0])
    others = "; ".join(f"{name} {found[0]:.4g}" for name, found in scores.items() if name != best)
    note = f"critic: {best}, of the largest held-out value less its error, {scores[best][0]:.4g} (others: {others})"
    return scores[best][1], note
