"""W1 by its dual: a critic that is 1-Lipschitz by proof, or nearly so by a penalty."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from estimators.base import Inference
from estimators.door import Samples
from estimators.intervals import Shape
from estimators.neural import proven
from estimators.neural.constraints import (
    Constraint,
    GradientPenalty,
    GroupSort,
    input_gradients,
    interpolates,
)
from estimators.neural.critic_estimator import CriticEstimator
from estimators.neural.critics import Standardize, evaluate, judging, mlp
from estimators.neural.lipschitz import lipschitz_constant
from estimators.space import Space


class KantorovichRubinstein(CriticEstimator):
    """W1(P, Q) = sup over 1-Lipschitz f of E_P f − E_Q f, with a network for f.

    `estimate` without a critic or a constraint trains critics that are 1-Lipschitz by proof, and evaluates that which
    is best on a held-out part: orthonormal layers with sorted pairs (`GroupSort`), and minima of cones,
    ±min_k (‖u − c_k‖ + h_k), with 64, 256 or 1024 apexes near x or near y. As a loss the critic is an MLP with a
    gradient penalty.

    Bound:
        lower where f/K is proven to be 1-Lipschitz: without a critic and a constraint, with `GroupSort`, and with
        `SpectralNorm` on linear layers. Gradient penalties and weight clipping prove nothing; the value is then the
        objective over the largest gradient norm that was found, and bounds nothing.
    Rate:
        n^(−1/2) for the objective of a given critic; how far it lies below W1 hangs on the critic and its training.
    Interval:
        from the one-sided limit on points that the critic has not seen to infinity, where the critic is proven;
        refused for others, and where one point makes up more than 30% of the variance.
    Shapes:
        x (n, d), y (m, d); B problems, (B, n, d) and (B, m, d), with a stack of critics. Euclidean ground distance.
    Cost:
        one pass of the critic; a gradient penalty adds two; `fit` trains it (seconds), `estimate` about seven
        (ten seconds to a minute or two).
    Gradients:
        in x, y and the critic's weights.

    Args:
        critic: a network giving one value a point; an MLP is built from the data's shape where it is None.
        constraint: of a critic that is trained as a loss, by default the one-sided gradient penalty on interpolates
            with λ = 10. The two-sided one has a barrier between f and −f: in one dimension a critic that starts with
            the wrong sign stays there.

    References: Villani 2009, theorem 5.10; Arjovsky et al. 2017, eq. (2); Gulrajani et al. 2017, eq. (3); Anil, Lucas
    and Grosse 2019; Korotin et al. 2022 (benchmark of W1 critics by minima of cones).

    Example:
        >>> import torch
        >>> x = torch.randn(1500, 2, generator=torch.Generator().manual_seed(1))
        >>> shift = torch.tensor([1.0, 0.0])
        >>> found = KantorovichRubinstein().estimate(x + shift, x[:1000], seed=0)  # the truth is 1
        >>> found.bound, 0.7 < found.interval[0] < 1, found.value < 1.1
        ('lower', True, True)
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

    def build(self, space: Space, generator: torch.Generator | None) -> nn.Module:
        """The default critic; of orthonormal layers, which lose no gradient, one more and narrower ones."""
        if isinstance(self.constrained, GroupSort):
            return nn.Sequential(Standardize(space), mlp(space.dim, 1, (128, 128, 128), generator=generator))
        return super().build(space, generator)

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """As for any critic, in units in which the pooled sample has variance 1: W1 scales with its data."""
        pooled = torch.cat([s.x, s.y])
        center = pooled.mean(0)
        scale = float((pooled - center).square().sum(-1).mean().sqrt())
        if self.fitted or not scale > 0:
            return super().infer(s, confidence, generator)
        found = super().infer(s._replace(x=(s.x - center) / scale, y=(s.y - center) / scale), confidence, generator)
        stderr = None if found.stderr is None else found.stderr * scale
        interval = None if found.interval is None else (found.interval[0] * scale, found.interval[1])
        return found._replace(value=found.value * scale, stderr=stderr, interval=interval)

    def trained(self, seen: Samples, seed: int) -> tuple[CriticEstimator, tuple[str, ...]]:
        """This estimator, fitted; without a critic or a constraint, the best of the proven ones."""
        if self.critic is not None or self.constraint is not None:
            return super().trained(seen, seed)
        best, note = proven.trained(KantorovichRubinstein, seen, seed)
        return best, (note,)

    def bounded(self, found: Inference, confidence: float, test: Samples, shape: Shape) -> Inference:
        """The value over the Lipschitz constant K, as f/K is a candidate for the supremum whatever f is.

        Where K is proven the value is a lower bound. Otherwise it is the largest gradient norm that was found, and
        nothing is certified.
        """
        value, stderr, _, notes, _ = found
        assert self.critic is not None and stderr is not None  # infer has trained it, and refused what is not finite
        generator = torch.Generator().manual_seed(0)
        points = torch.cat([test.x, test.y, interpolates(test.x, test.y, generator)])
        with judging(self.critic):  # of the function that was evaluated: in training mode weights may move with a pass
            steepest = float(torch.linalg.vector_norm(input_gradients(self.critic, points), dim=-1).max())
            K = lipschitz_constant(self.critic) if self.constrained.certifies else steepest
        if not steepest > 0:
            return Inference(0.0, None, None, (*notes, "the critic is constant: it found no difference"), "consistent")
        if K == float("inf"):
            why = f"no interval: a layer of the critic has no Lipschitz constant that {self.constrained!r} proves"
            return Inference(value / steepest, stderr / steepest, None, (*notes, why), "consistent")
        if self.constrained.certifies:
            notes += (
                f"divided by the proven Lipschitz constant {K:.4g}; the largest gradient norm found, {steepest:.4g}",
            )
            certified = found._replace(value=value / K, stderr=stderr / K, notes=notes)
            return super().bounded(certified, confidence, test, shape)
        notes += (
            f"divided by the largest gradient norm found, {K:.3g}",
            f"no interval: {self.constrained!r} does not certify that the critic is 1-Lipschitz; GroupSort() does, and "
            "estimate without fit",
        )
        return Inference(value / K, stderr / K, None, notes, "consistent")
