"""f-divergences by their variational bound: a critic in the place of the density ratio."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

import divergences as dv
from estimators.base import Inference
from estimators.door import Samples
from estimators.neural.constraints import Constraint
from estimators.neural.critic_estimator import CriticEstimator
from estimators.neural.critics import evaluate

if TYPE_CHECKING:
    from divergences import FDivergence


class Variational(CriticEstimator):
    """D_f(P‖Q) ≥ E_P[T] − E_Q[f*(T)] with T = g_f(V), V a free critic.

    Bound:
        lower, in expectation, on points that the critic was not trained on.
    Rate:
        n^(−1/2) for the bound of a given critic; how far the bound lies below D hangs on the critic alone.
    Interval:
        from the one-sided normal limit on points that the critic has not seen to the largest value of D; refused where
        one point makes up more than 30% of the variance.
    Shapes:
        x (n, d), y (m, d); one problem.
    Cost:
        one pass of the critic; `fit` and `estimate` train it (seconds).
    Gradients:
        in x, y and the critic's weights.

    Args:
        divergence: a row of the table of f-divergences, by name or as an object.
        critic: a network giving one value a point, V; an MLP is built from the data's shape where it is None.
        constraint: what keeps the critic smooth, such as `R1`; by default nothing.

    Pearson's extended conjugate t²/4 + t is used here, as in training it has a gradient everywhere.

    `fit` and `estimate` clip the log density ratio that V means at ±½ log n, n the smaller sample: an unbounded critic
    claims any ratio where a sample has no points, and its bound is then anything. A clipped critic is a critic, so the
    bound holds; where the ratio really is larger, the bound is less tight.

    Raises:
        ValueError: an unknown divergence; samples refused at the door.
        NotImplementedError: a divergence that is no f-divergence.

    References: Nguyen, Wainwright and Jordan 2010, eq. (7); Nowozin, Cseke and Tomioka 2016, eq. (4) and table 2.

    Example:
        >>> import torch
        >>> x = torch.randn(2000, 1, generator=torch.Generator().manual_seed(1))
        >>> bound = Variational("kl").estimate(x + 1, x[:1000].flip(0), seed=0)  # the truth is 0.5
        >>> bound.bound, bound.interval[0] < 0.5
        ('lower', True)
    """

    def __init__(
        self,
        divergence: str | FDivergence = "kl",
        critic: nn.Module | None = None,
        constraint: Constraint | None = None,
    ) -> None:
        super().__init__()
        self.divergence = dv.get(divergence) if isinstance(divergence, str) else divergence
        if isinstance(self.divergence, dv.Named):
            raise NotImplementedError(f"Variational estimates f-divergences, not {self.divergence!r}")
        if not isinstance(self.divergence, dv.FDivergence):
            raise TypeError(f"divergence must be an f-divergence: got {divergence!r}")
        self.critic = critic
        self.constraint = constraint
        self.clip: tuple[float, float] | None = None  # limits of V, set by `prepare`

    @property
    def divergence_name(self) -> str:  # type: ignore[override]
        """The name of the divergence."""
        return self.divergence.name

    @property
    def upper(self) -> float:  # type: ignore[override]
        """The largest value that the divergence can take."""
        return float(self.divergence.upper_bound)

    def pieces(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """T(x) and f*(T(y)), composed stably."""
        assert self.critic is not None  # `compute` refuses a missing critic
        v, w = evaluate(self.critic, x), evaluate(self.critic, y)
        if self.clip is not None:
            v, w = v.clamp(*self.clip), w.clamp(*self.clip)
        return self.divergence.activation(v), self.divergence.conjugate_of_activation(w)

    def prepare(self, n: int) -> None:
        """Clip V where it means a log ratio of ±½ log n; where V means none (total variation), g is bounded already."""
        limit = math.log(n) / 2
        try:
            self.clip = _critic_value(self.divergence, -limit), _critic_value(self.divergence, limit)
        except ValueError:
            self.clip = None

    def bounded(self, found: Inference, confidence: float, test: Samples, heaviest: float) -> Inference:
        """The lower bound; a note says where the clip, and not the data, set it."""
        assert self.critic is not None  # infer has trained it
        if self.clip is not None:
            with torch.no_grad():
                v = torch.cat([evaluate(self.critic, test.x), evaluate(self.critic, test.y)])
            clipped = float(((v <= self.clip[0]) | (v >= self.clip[1])).double().mean())
            if clipped > 0.01:
                note = f"the log ratio is clipped on {clipped:.0%} of the points: the divergence may be far larger"
                found = found._replace(notes=(*found.notes, note))
        return super().bounded(found, confidence, test, heaviest)


def _critic_value(divergence: FDivergence, log_ratio: float) -> float:
    """The V that means ``log_ratio``, by bisection: `log_ratio` is increasing in V."""
    low, high = -1e6, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if float(divergence.log_ratio(middle)) > log_ratio else (middle, high)
    return (low + high) / 2
