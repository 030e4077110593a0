"""W1 by its dual: a critic that is kept 1-Lipschitz, or nearly so."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from estimators.base import Inference
from estimators.door import Samples
from estimators.neural.constraints import Constraint, GradientPenalty, input_gradients, interpolates
from estimators.neural.critic_estimator import CriticEstimator
from estimators.neural.critics import evaluate


class KantorovichRubinstein(CriticEstimator):
    """W1(P, Q) = sup over 1-Lipschitz f of E_P f − E_Q f, with a network for f.

    Bound:
        lower only where the constraint certifies that f is 1-Lipschitz. Gradient penalties and weight clipping do not,
        so `estimate` then refuses the interval and notes the largest gradient norm that was found.
    Rate:
        n^(−1/2) for the objective of a given critic; how far it lies from W1 hangs on the critic and its training.
    Interval:
        none: no constraint here certifies the critic, so that its objective bounds nothing.
    Shapes:
        x (n, d), y (m, d); one problem. Euclidean ground distance.
    Cost:
        one pass of the critic; a gradient penalty adds two; `fit` and `estimate` train it (seconds).
    Gradients:
        in x, y and the critic's weights.

    Args:
        critic: a network giving one value a point; an MLP is built from the data's shape where it is None.
        constraint: by default the one-sided gradient penalty on interpolates with λ = 10. The two-sided one has a
            barrier between f and −f: in one dimension a critic that starts with the wrong sign stays there.

    References: Villani 2009, theorem 5.10; Arjovsky et al. 2017, eq. (2); Gulrajani et al. 2017, eq. (3).

    Example:
        >>> import torch
        >>> x = torch.randn(1500, 1, generator=torch.Generator().manual_seed(1))
        >>> shift = KantorovichRubinstein().estimate(x + 1, x[:1000], seed=0)  # the truth is 1
        >>> 0.7 < shift.value < 1.3, shift.interval
        (True, None)
    """

    divergence_name = "wasserstein"
    default_constraint = GradientPenalty(10.0, one_sided=True)

    def __init__(self, critic: nn.Module | None = None, constraint: Constraint | None = None) -> None:
        super().__init__()
        self.critic = critic
        self.constraint = constraint

    def pieces(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """f(x) and f(y)."""
        assert self.critic is not None  # `compute` refuses a missing critic
        return evaluate(self.critic, x), evaluate(self.critic, y)

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """As for any critic, in units in which the pooled sample has variance 1: W1 scales with its data."""
        pooled = torch.cat([s.x, s.y])
        scale = (pooled - pooled.mean(0)).square().sum(-1).mean().sqrt()
        if self.fitted or not float(scale) > 0:
            return super().infer(s, confidence, generator)
        found = super().infer(s._replace(x=s.x / scale, y=s.y / scale), confidence, generator)
        stderr = None if found.stderr is None else found.stderr * float(scale)
        return found._replace(value=found.value * float(scale), stderr=stderr)

    def bounded(self, found: Inference, confidence: float, test: Samples, heaviest: float) -> Inference:
        """The value over the largest gradient norm K, as f/K is a candidate for the supremum whatever f is.

        There is no interval: no constraint so far proves that K is the Lipschitz constant, so nothing is certified.
        """
        value, stderr, _, notes, _ = found
        assert self.critic is not None and stderr is not None  # infer has trained it, and refused what is not finite
        generator = torch.Generator().manual_seed(0)
        points = torch.cat([test.x, test.y, interpolates(test.x, test.y, generator)])
        K = float(torch.linalg.vector_norm(input_gradients(self.critic, points), dim=-1).max())
        if not K > 0:
            return Inference(0.0, None, None, (*notes, "the critic is constant: it found no difference"), "consistent")
        notes += (
            f"divided by the largest gradient norm found, {K:.3g}",
            f"no interval: {self.constrained!r} does not certify that the critic is 1-Lipschitz",
        )
        return Inference(value / K, stderr / K, None, notes, "consistent")
