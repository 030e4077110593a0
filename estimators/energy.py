"""The energy distance: MMD with the kernel that a distance induces."""

from __future__ import annotations

import torch  # noqa: F401 - the example's

from divergences import kernels
from estimators.mmd import MMD


class EnergyDistance(MMD):
    """The squared energy distance 2 E‖X − Y‖^order − E‖X − X'‖^order − E‖Y − Y'‖^order, 0 < order < 2.

    The U-statistic, which may be negative; `statistic` as in `MMD`. Nothing but moments of that order is needed, there
    is no bandwidth, and it is zero only for P = Q.

    Bound, shapes, gradients, interval: as `MMD`. Cost: O((n + m)²·d) time, memory O((n + m)·d) and one tile.

    Raises:
        ValueError: fewer than 2 points on a side; an order outside (0, 2).

    References: Székely and Rizzo 2013, eq. (2.1); Sejdinovic et al. 2013 (as an MMD).

    Example:
        >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [3.0]])
        >>> EnergyDistance()(x, y)  # 2·2 − 1 − 1
        tensor(2.)
    """

    divergence_name = "energy_distance"

    def __init__(self, order: float = 1, statistic: str = "unbiased") -> None:
        super().__init__(kernels.DistanceInduced(order), statistic)
        self.order = order
