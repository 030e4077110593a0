"""KL by the Donsker–Varadhan bound, which is tighter than the variational one for every critic."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from estimators.base import Inference, mean
from estimators.door import Samples
from estimators.intervals import Shape
from estimators.neural.constraints import Constraint
from estimators.neural.critic_estimator import CriticEstimator
from estimators.neural.critics import at_points, evaluate
from estimators.neural.variational import noting_clips

if TYPE_CHECKING:
    from typing import Self


class DonskerVaradhan(CriticEstimator):
    """KL(P‖Q) ≥ E_P[T] − log E_Q[e^T], T a free critic.

    It is trained by this objective, whose T is log p/q up to a constant. `estimate` reports, on points that the critic
    has not seen,

        E_P[T − c] − E_Q[e^(T − c)] + 1,    c = log of the mean of e^T on the points of y that it has seen,

    which is a lower bound for every c and as tight as the first where c is right. The logarithm of a mean is not: by
    Jensen's inequality it is too low on average, and the value too high, by half the variance of e^(T − c)/m.

    Bound:
        lower, in expectation, on points that the critic was not trained on.
    Rate:
        n^(−1/2) for the bound of a given critic; how far the bound lies below KL hangs on the critic alone.
    Interval:
        from the one-sided limit on points that the critic has not seen, normal with a term for skewness, to infinity.
    Shapes:
        x (n, d), y (m, d); B problems, (B, n, d) and (B, m, d), with a stack of critics.
    Cost:
        one pass of the critic; `fit` and `estimate` train it (seconds).
    Gradients:
        in x, y and the critic's weights. In minibatches that of the logarithm is biased, by order 1/batch.

    Args:
        critic: a network giving one value a point, T; an MLP is built from the data's shape where it is None.
        constraint: what keeps the critic smooth, such as `R1`; by default nothing.

    `fit` and `estimate` clip T − c at ±½ log n, n the smallest sample, as `Variational` does, so that the value is at
    most ½ log n + 1. SMILE clips as well, but in the partition term alone, which is no bound; here a clipped T stands
    in both terms. The limit is no option, as no other one paid in trials on Gaussian pairs: a lower one ends the value
    earlier, and with a higher one few points decide.

    Raises:
        ValueError: samples refused at the door.

    References: Donsker and Varadhan 1983; Belghazi et al. 2018, eq. (4); Poole et al. 2019, section 2.1 (the bound for
    any c); Song and Ermon 2020 (SMILE).

    Example:
        >>> import torch
        >>> x = torch.randn(2000, 1, generator=torch.Generator().manual_seed(1))
        >>> bound = DonskerVaradhan().estimate(x + 1, x[:1000].flip(0), seed=0)  # the truth is 0.5
        >>> bound.bound, 0.2 < bound.interval[0] < 0.5
        ('lower', True)
    """

    divergence_name = "kl"
    reads_ratio = True
    pools = True  # the logarithm of a mean

    def __init__(self, critic: nn.Module | None = None, constraint: Constraint | None = None) -> None:
        super().__init__()
        self.critic = critic
        self.constraint = constraint
        self.constant: Tensor | None = None  # c of each problem, (..., 1), set by `settle`
        self.clip = math.inf  # of |T − c|, set by `prepare`

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """E_P[T] − log E_Q[e^T] for the critic as it stands."""
        critic = self.ready(s)
        return mean(evaluate(critic, s.x), s.x_weights) - _log_mean_exp(evaluate(critic, s.y), s.y_weights)

    def pieces(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """T − c at x and e^(T − c) − 1 at y; before `fit` has found c, that of y."""
        assert self.critic is not None  # `compute` refuses a missing critic
        w = evaluate(self.critic, y)
        c = _log_mean_exp(w, None).unsqueeze(-1) if self.constant is None else self.constant
        v, w = evaluate(self.critic, x) - c, w - c
        return v.clamp(-self.clip, self.clip), torch.expm1(w.clamp(-self.clip, self.clip))

    def prepare(self, n: int) -> None:
        """Clip the log ratio at ±½ log n."""
        self.clip, self.constant = math.log(n) / 2, None

    def judged_on(self, n: int) -> Self:
        """A copy whose limit is that of n points too."""
        copied = self.shallow()
        copied.clip = min(self.clip, math.log(n) / 2)
        return copied

    def settle(self, s: Samples) -> None:
        """Keep c of the points that the critic has seen."""
        assert self.critic is not None
        with torch.no_grad():
            self.constant = _log_mean_exp(evaluate(self.critic, s.y), None).unsqueeze(-1)

    def take(self, index: int) -> None:
        """The constant of that problem."""
        self.constant = None if self.constant is None else self.constant[index]

    def log_ratio(self, points: Any) -> Any:
        """Log p/q at ``points``, (..., d), which is T − c: arrays give arrays, (...,), tensors tensors.

        Of a stack of B critics (B, ..., d). Within the clip: where p or q has no points it is ±½ log n.

        Raises:
            ValueError: the critic was not fitted.
        """
        if self.critic is None or self.constant is None:
            raise ValueError("DonskerVaradhan has no fitted critic yet: call fit(x, y)")
        critic, constant = self.critic, self.constant
        return at_points(critic, points, lambda z: (evaluate(critic, z) - constant).clamp(-self.clip, self.clip))

    def bounded(self, found: Inference, confidence: float, test: Samples, shape: Shape) -> Inference:
        """The lower bound; a note says where the clip, and not the data, set it."""
        with torch.no_grad():
            ratios = torch.cat([self.log_ratio(test.x), self.log_ratio(test.y)]).abs()
        shape = shape._replace(heaviest=0.0)  # no point, seen or not, counts for much more than 1/√n
        return super().bounded(noting_clips(found, ratios >= self.clip), confidence, test, shape)


def _log_mean_exp(values: Tensor, weights: Tensor | None) -> Tensor:
    logs = -math.log(values.shape[-1]) if weights is None else weights.log()
    return (values + logs).logsumexp(-1)
