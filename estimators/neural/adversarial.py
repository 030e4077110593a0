"""Adversarial losses: a classifier of data against model, and what the model minimises against it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from estimators.base import full_precision, mean, same_kind
from estimators.door import admit
from estimators.neural.constraints import Constraint
from estimators.neural.critic_estimator import CriticEstimator
from estimators.neural.critics import evaluate


class MinimaxGAN(CriticEstimator):
    """The discriminator D = σ(V) of the original GAN: JS(P, Q) ≥ log 2 + ½(E_P[log D] + E_Q[log(1 − D)]).

    At the optimal D the bound is tight: the GAN's value is −log 4 + 2·JS. The model minimises the bound itself (the
    saturating loss), which stops giving a gradient when D is sure.

    Bound:
        lower, on JS with its halves, in [0, log 2] nats.
    Rate:
        n^(−1/2) for the bound of a given critic; how far the bound lies below JS hangs on the critic alone.
    Interval:
        from the one-sided normal limit on points that the critic has not seen to log 2; refused where one point makes
        up more than 30% of the variance.
    Shapes:
        x (n, d), y (m, d); one problem.
    Cost:
        one pass of the critic; `fit` and `estimate` train it (seconds).
    Gradients:
        in x, y and the critic's weights.

    Args:
        critic: a network giving one logit a point, V; an MLP is built from the data's shape where it is None.
        constraint: what keeps the critic smooth, such as `R1`; by default nothing.

    References: Goodfellow et al. 2014, eq. (1) and theorem 1.

    Example:
        >>> import torch
        >>> x = torch.randn(600, 2, generator=torch.Generator().manual_seed(1))
        >>> MinimaxGAN().estimate(x + 9, x, seed=0).value > 0.6  # nearly disjoint: log 2 = 0.693
        True
    """

    divergence_name = "js"
    upper = math.log(2)
    critic_scale = 2.0  # the classifier's cross-entropy is −2 · bound, up to a constant

    def __init__(self, critic: nn.Module | None = None, constraint: Constraint | None = None) -> None:
        super().__init__()
        self.critic = critic
        self.constraint = constraint

    def pieces(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Log 2 + ½ log D(x) and −½ log(1 − D(y)), from logits."""
        assert self.critic is not None  # `compute` refuses a missing critic
        v, w = evaluate(self.critic, x), evaluate(self.critic, y)
        return math.log(2) - softplus(-v) / 2, softplus(w) / 2


class NonSaturatingGAN(MinimaxGAN):
    """The same discriminator as `MinimaxGAN`; the model maximises E_Q[log D] instead, so that its gradient survives.

    A model on the data side (the codes of an auto-encoder) maximises E_P[log(1 − D)] in the same way.

    References: Goodfellow et al. 2014, section 3.
    """

    def forward(
        self,
        x: Any,
        y: Any,
        x_weights: Any = None,
        y_weights: Any = None,
        *,
        x_counts: Any = None,
        y_counts: Any = None,
        generator: torch.Generator | None = None,
    ) -> Any:
        """−E_Q[log D(y)] − E_P[log(1 − D(x))]: whichever side moves is drawn across the boundary."""
        s = admit(x, y, x_weights, y_weights, x_counts=x_counts, y_counts=y_counts)
        with full_precision(s.x):
            v, w = evaluate(self.ready(s), s.x), evaluate(self.ready(s), s.y)
        return same_kind(mean(softplus(-w), s.y_weights) + mean(softplus(v), s.x_weights), x, y)
