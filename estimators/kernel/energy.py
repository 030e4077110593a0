"""The energy distance: MMD with the kernel that a distance induces."""

from __future__ import annotations

import math

import torch

from divergences import kernels
from estimators.base import Inference
from estimators.door import Samples
from estimators.kernel.mmd import MMD

_FEWEST = 5  # points from which a tail is read


class EnergyDistance(MMD):
    """The squared energy distance 2 E‖X − Y‖^order − E‖X − X'‖^order − E‖Y − Y'‖^order, 0 < order < 2.

    The U-statistic, which may be negative; `statistic` as in `MMD`, but for random features. Nothing but moments of
    that order is needed, there is no bandwidth, and it is zero only for P = Q.

    Shapes, gradients: as `MMD`. Cost: O((n + m)²·d) time, memory O((n + m)·d) and one tile.
    Interval: as `MMD`. |x − y| + |x' − y'| − |x − x'| − |y − y'| has a mean from moments of order/2 and a variance from
    moments of ``order``, so that it holds for tails as heavy as Cauchy's; where moments of
    ``order`` seem to be missing a note says so, and where those of order/2 do it is refused.

    Raises:
        ValueError: fewer than 2 points on a side; an order outside (0, 2).
        NotImplementedError: random features: the spectral measure of a distance is infinite.

    References: Székely and Rizzo 2013, eq. (2.1); Sejdinovic et al. 2013 (as an MMD); Hill 1975 (the tail).

    Example:
        >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [3.0]])
        >>> EnergyDistance()(x, y)  # 2·2 − 1 − 1
        tensor(2.)
    """

    divergence_name = "energy_distance"

    def __init__(self, order: float = 1, statistic: str = "unbiased") -> None:
        super().__init__(kernels.DistanceInduced(order), statistic)
        self.order = order

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """As `MMD`, with a note, or without an interval, where the tail is too heavy for the moments that it takes."""
        found = super().infer(s, confidence, generator)
        index, doubt = tail_index(s)
        if index > self.order * (1 + doubt):
            return found
        notes = (
            *found.notes,
            f"the tail of the points has an estimated index of {index:.2g}: where it is below {self.order:g}, "
            f"E‖X‖^{self.order:g} does not exist, and the value stands for the mean of the four distances together",
        )
        if index > self.order / 2 * (1 + doubt):
            return found._replace(notes=notes)
        note = f"no interval: that mean needs a tail index above {self.order / 2:g}"
        return Inference(found.value, None, None, (*notes, note))


def tail_index(s: Samples, points: int | None = None) -> tuple[float, float]:
    """Hill's estimate of the largest a with E‖X‖^b < ∞ for all b < a, and its relative standard error.

    From the ``points`` (a tenth of all) that lie farthest from the medians of their samples; infinite where they do not
    tell.
    """
    r = torch.cat([(p - p.median(-2, keepdim=True).values).norm(dim=-1) for p in (s.x, s.y)]).sort().values
    k = max(_FEWEST, len(r) // 10 if points is None else points)
    if len(r) < 4 * k or not float(r[-k - 1]) > 0:
        return math.inf, 0.0
    excess = float((r[-k:] / r[-k - 1]).log().mean())
    return (1 / excess if excess > 0 else math.inf), 1 / math.sqrt(k)
