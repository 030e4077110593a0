"""Adversarial losses: a classifier of data against model, and what the model minimises against it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from estimators.base import mean
from estimators.door import Samples
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
        from the one-sided limit on points that the critic has not seen to log 2; refused where one point makes
        up more than 30% of the variance.
    Shapes:
        x (n, d), y (m, d); B problems, (B, n, d) and (B, m, d), with a stack of critics.
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
    reads_ratio = True
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

    def model_loss(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """−E_Q[log D(y)] − E_P[log(1 − D(x))]: whichever side moves is drawn across the boundary."""
        critic = self.ready(s)
        v, w = evaluate(critic, s.x), evaluate(critic, s.y)
        return mean(softplus(-w), s.y_weights) + mean(softplus(v), s.x_weights)


class LeastSquares(CriticEstimator):
    """The least-squares GAN: ∫(p − q)²/(p + q) ≥ 2 − 8·loss/(b − a)², loss = ½E_P(D − b)² + ½E_Q(D − a)².

    The critic minimises the loss, whose least value is ½(b − a)² ∫ pq/(p + q), at D* = (bp + aq)/(p + q), where the
    bound is tight. The model minimises ½E_Q(D − c)² + ½E_P(D − (a + b − c))², each term for its side. With
    (a, b, c) = (−1, 1, 0) that is ½·le_cam at D*, which the paper calls the Pearson χ² of P + Q and 2Q.

    Bound:
        lower, on le_cam = ∫(p − q)²/(p + q), in [0, 2].
    Rate:
        n^(−1/2) for the bound of a given critic; how far the bound lies below le_cam hangs on the critic alone.
    Interval:
        from the one-sided limit on points that the critic has not seen to 2; refused where one point makes up
        more than 30% of the variance.
    Shapes:
        x (n, d), y (m, d); B problems, (B, n, d) and (B, m, d), with a stack of critics.
    Cost:
        one pass of the critic; `fit` and `estimate` train it (seconds).
    Gradients:
        in x, y and the critic's weights.

    Args:
        critic: a network giving one value a point, D; an MLP is built from the data's shape where it is None.
        constraint: what keeps the critic smooth, such as `R1`; by default nothing.
        a: what the critic is asked to give for y.
        b: what it is asked to give for x.
        c: what the model wants it to give for y.

    Raises:
        ValueError: a = b, or one of the three is not finite.

    References: Mao et al. 2017, eq. (2) and section 3.2.

    Example:
        >>> import torch
        >>> x = torch.randn(600, 2, generator=torch.Generator().manual_seed(1))
        >>> critic = LeastSquares().fit(x[:300] + 9, x[:300], steps=100)
        >>> critic.estimate(x[300:] + 9, x[300:]).value > 1.8  # nearly disjoint: the largest value is 2
        True
    """

    divergence_name = "le_cam"
    reads_ratio = True
    upper = 2.0

    def __init__(
        self,
        critic: nn.Module | None = None,
        constraint: Constraint | None = None,
        a: float = 0.0,
        b: float = 1.0,
        c: float = 1.0,
    ) -> None:
        super().__init__()
        self.a, self.b, self.c = _finite(a, "a"), _finite(b, "b"), _finite(c, "c")
        if self.a == self.b:
            raise ValueError(f"a and b must differ, as D tells x from y by them: got a={a} and b={b}")
        self.critic = critic
        self.constraint = constraint
        self.critic_scale = (self.b - self.a) ** 2 / 8

    def pieces(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """2 − 4(D(x) − b)²/(b − a)² and 4(D(y) − a)²/(b − a)²."""
        assert self.critic is not None  # `compute` refuses a missing critic
        v, w = evaluate(self.critic, x), evaluate(self.critic, y)
        scale = 4 / (self.b - self.a) ** 2
        return 2 - scale * (v - self.b).square(), scale * (w - self.a).square()

    def model_loss(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """½E_Q(D − c)² + ½E_P(D − (a + b − c))²; the second is the first seen from the other side."""
        critic = self.ready(s)
        v, w = evaluate(critic, s.x), evaluate(critic, s.y)
        mirrored = self.a + self.b - self.c
        return (mean((w - self.c).square(), s.y_weights) + mean((v - mirrored).square(), s.x_weights)) / 2


class Hinge(CriticEstimator):
    """The hinge loss: TV(P, Q) ≥ 1 − ½·loss, loss = E_P[1 − D]₊ + E_Q[1 + D]₊.

    The critic minimises the loss, whose least value is 2(1 − TV), at D* = sign(p − q), where the bound is tight. The
    model minimises −E_Q D + E_P D, which has a gradient also where the hinge is flat.

    Bound:
        lower, on total_variation = ½∫|p − q|, in [0, 1].
    Rate:
        n^(−1/2) for the bound of a given critic; how far the bound lies below TV hangs on the critic alone.
    Interval:
        from the one-sided limit on points that the critic has not seen to 1; refused where one point makes up
        more than 30% of the variance.
    Shapes:
        x (n, d), y (m, d); B problems, (B, n, d) and (B, m, d), with a stack of critics.
    Cost:
        one pass of the critic; `fit` and `estimate` train it (seconds).
    Gradients:
        in x, y and the critic's weights.

    Args:
        critic: a network giving one value a point, D; an MLP is built from the data's shape where it is None.
        constraint: what keeps the critic smooth, such as `R1`; by default nothing.

    References: Lim and Ye 2017, section 3; Miyato et al. 2018, eqs. (16), (17).

    Example:
        >>> import torch
        >>> x = torch.randn(600, 2, generator=torch.Generator().manual_seed(1))
        >>> critic = Hinge().fit(x[:300] + 9, x[:300], steps=100)
        >>> critic.estimate(x[300:] + 9, x[300:]).value > 0.9  # nearly disjoint: the largest value is 1
        True
    """

    divergence_name = "total_variation"
    reads_ratio = True
    upper = 1.0
    critic_scale = 2.0

    def __init__(self, critic: nn.Module | None = None, constraint: Constraint | None = None) -> None:
        super().__init__()
        self.critic = critic
        self.constraint = constraint

    def pieces(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """1 − ½[1 − D(x)]₊ and ½[1 + D(y)]₊, of each point and not of the batch's mean."""
        assert self.critic is not None  # `compute` refuses a missing critic
        v, w = evaluate(self.critic, x), evaluate(self.critic, y)
        return 1 - (1 - v).relu() / 2, (1 + w).relu() / 2

    def model_loss(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """−E_Q D + E_P D."""
        critic = self.ready(s)
        return mean(evaluate(critic, s.x), s.x_weights) - mean(evaluate(critic, s.y), s.y_weights)


def _finite(value: Any, name: str) -> float:
    """``value`` as a finite number. Raises TypeError or ValueError that name it."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        raise TypeError(f"{name} must be a number: got {type(value).__name__} {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite: got {value}")
    return float(value)
