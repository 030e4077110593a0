"""Adversarial losses whose critic is an auto-encoder: it returns data well, and the model's points badly."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from estimators.base import Inference, mean
from estimators.door import Samples, not_negative
from estimators.intervals import Shape
from estimators.neural.constraints import Constraint
from estimators.neural.critic_estimator import CriticEstimator, Metrics
from estimators.neural.critics import AutoEncoder, evaluate, readable
from estimators.space import Space


class Energy(nn.Module):
    """mean over the coordinates of |r|^power, (n,), with r what an auto-encoder returns less what it was given.

    The target is not cut from the graph: a point that moves is both what goes in and what should come back.
    """

    def __init__(self, autoencoder: nn.Module, power: int) -> None:
        super().__init__()
        self.autoencoder, self.power = autoencoder, power

    def forward(self, points: Tensor) -> Tensor:
        """The error of each point; in standard units where the auto-encoder gives its residual in them."""
        if isinstance(self.autoencoder, AutoEncoder):
            residual = self.autoencoder.residual(points)
        else:
            returned = self.autoencoder(points)
            if returned.shape != points.shape:
                raise ValueError(
                    f"the critic must be an auto-encoder, {tuple(points.shape)} to the same: got shape "
                    f"{tuple(returned.shape)}"
                )
            residual = returned - points
        return residual.abs().pow(self.power).mean(-1)


def pulling_away(codes: Tensor, weights: Tensor | None = None) -> Tensor:
    """The mean over pairs i ≠ j of the squared cosine of codes i and j, (n, k); 0 for one code.

    References: Zhao, Mathieu and LeCun 2017, section 2.4.
    """
    S = normalize(codes, dim=-1)
    w = S.new_full((len(S),), 1 / len(S)) if weights is None else weights.to(S)
    pairs = (S @ S.T).square().fill_diagonal_(0.0)
    return w @ pairs @ w / (1 - w.square().sum()).clamp_min(torch.finfo(S.dtype).eps)


class EnergyBased(CriticEstimator):
    """The energy-based GAN: TV(P, Q) ≥ 1 − loss/m, loss = E_P e + E_Q [m − e]₊, e ≥ 0 the energy, m the margin.

    The energy of a point is the mean squared error with which an auto-encoder returns it. (The paper writes
    the norm of the error.) The critic minimises the loss; over all energies its least value is
    m(1 − TV), at e* = 0 where p > q and m elsewhere, and an auto-encoder reaches what its shape allows. The model
    minimises E_Q e and, with a weight, the pulling-away term, the mean over pairs of the squared cosine of their codes,
    which keeps the points of a batch apart; the critic never sees that term. The paper has the model on the side of y.
    On the side of x it minimises E_P [m − e]₊, the mirror image: x is drawn to the energy that the critic asks of y.
    But energy is high wherever x is not, so that x need not come to y: `gan_zoo` lets a model of x and its target
    change places, and so should a loop of your own. The bound is on TV, which is symmetric.

    Bound:
        lower, on total_variation = ½∫|p − q|, in [0, 1]; never tight where no auto-encoder has the best energy.
    Rate:
        n^(−1/2) for the bound of a given critic; how far the bound lies below TV hangs on the critic and the margin.
    Interval:
        from the one-sided limit on points that the critic has not seen to 1; refused where one point makes up
        more than 30% of the variance.
    Shapes:
        x (n, d), y (m, d); one problem.
    Cost:
        one pass of the critic, in `forward` also its codes of y and their (m, m) cosines; `fit` and `estimate` train it
        (seconds).
    Gradients:
        in x, y and the critic's weights.

    Args:
        margin: the energy m from which y is left alone: in squared units of the data where the critic is given, in
            variances of a coordinate where it is not.
        critic: an auto-encoder, (n, d) to (n, d), with a method ``encode`` for the pulling-away term; where it is None
            one is built from the data's shape, and sees the data in standard units.
        pulling_away: the weight of that term; 0 leaves it out.
        constraint: what keeps the energy smooth, such as `R1` on it; by default nothing.

    Raises:
        ValueError: a margin that is not positive, a negative weight, a critic that is no auto-encoder.
        TypeError: the pulling-away term of a critic without ``encode``.

    References: Zhao, Mathieu and LeCun 2017, eqs. (1), (2) and sections 2.3, 2.4.

    Example:
        >>> import torch
        >>> x = torch.randn(600, 2, generator=torch.Generator().manual_seed(1))
        >>> critic = EnergyBased(margin=1.0).fit(x[:300] + 9, x[:300], steps=100)
        >>> critic.estimate(x[300:] + 9, x[300:]).value > 0.8  # nearly disjoint: the largest value is 1
        True
    """

    divergence_name = "total_variation"
    upper = 1.0
    model_side = "y"
    stacks = False

    def __init__(
        self,
        margin: float,
        critic: nn.Module | None = None,
        pulling_away: float = 0.1,
        constraint: Constraint | None = None,
    ) -> None:
        super().__init__()
        self.margin = not_negative(margin, "margin")
        if not 0 < self.margin < math.inf:
            raise ValueError(f"margin must be positive and finite: got {margin}")
        self.pulling_away = not_negative(pulling_away, "pulling_away")
        self.critic = critic
        self.constraint = constraint
        self.critic_scale = self.margin

    def build(self, space: Space, generator: torch.Generator | None) -> AutoEncoder:
        """An auto-encoder whose code is no bottleneck: the margin keeps it from returning every point."""
        return AutoEncoder(space, 32, generator)

    def penalized(self, s: Samples) -> Energy:
        """The energy."""
        return Energy(self.ready(s), 2)

    def pieces(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """1 − e(x)/m and [1 − e(y)/m]₊, of each point and not of the batch's mean."""
        assert self.critic is not None  # `compute` refuses a missing critic
        energy = Energy(self.critic, 2)
        return 1 - evaluate(energy, x) / self.margin, (1 - evaluate(energy, y) / self.margin).relu()

    def model_loss(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """E_Q e + E_P [m − e]₊ + pulling_away · PT(codes of y)."""
        critic, energy = self.ready(s), self.penalized(s)
        drawn = mean(evaluate(energy, s.y), s.y_weights)
        raised = mean((self.margin - evaluate(energy, s.x)).relu(), s.x_weights)
        if self.pulling_away == 0:
            return drawn + raised
        encode = getattr(critic, "encode", None)
        if not callable(encode):
            raise TypeError(
                f"the pulling-away term needs a critic with encode(points) -> (n, code): {type(critic).__name__} has "
                "none; give it one or pass pulling_away=0"
            )
        return drawn + raised + self.pulling_away * pulling_away(encode(readable(critic, s.y)), s.y_weights)


class BoundaryEquilibrium(CriticEstimator):
    """BEGAN: an auto-encoder with errors L, mean over coordinates of |r|, that minimises E_P L − k·E_Q L.

    After each step of the critic k ← clip(k + rate·(γ E_P L − E_Q L), 0, 1), from k = 0: the critic turns against the
    model only once E_Q L has fallen to γ E_P L. k is a buffer, so that it is stored with the weights. The metrics hold
    k as it was in the step and the paper's measure of convergence, M = E_P L + |γ E_P L − E_Q L|. The model minimises
    E_Q L. The paper has it on the side of y; the second term of `forward`, |E_P L − stop(E_Q L)|, has no gradient in y
    and draws a model on the side of x to errors as large as those of y, which need not be where y is: `gan_zoo` lets
    such a model and its target change places, and so should a loop of your own.

    The value is |E_P L − E_Q L|, a lower bound of W1 between the laws of the errors L(x) and L(y),
    under this one auto-encoder. It is no bound of a distance of P and Q: L has no known Lipschitz constant, and laws
    that differ may well have equal errors.

    Bound:
        consistent, for |E_P L − E_Q L| of the auto-encoder as trained, a gap that bounds no divergence of P and Q.
    Rate:
        n^(−1/2) for a given auto-encoder.
    Interval:
        none: an interval would be read as one for a distance of P and Q, and the gap of two mean errors is none.
    Shapes:
        x (n, d), y (m, d); one problem.
    Cost:
        one pass of the critic; `fit` and `estimate` train it (seconds).
    Gradients:
        in x, y and the critic's weights.

    Args:
        gamma: γ in (0, 1], the ratio E_Q L / E_P L that is held; low for sharp points, high for varied ones.
        critic: an auto-encoder, (n, d) to (n, d); where it is None one is built from the data's shape with a code of
            half as many numbers, at most 64, and sees the data in standard units. A code as wide as the data learns to
            return every point, so that nothing is told apart: in one dimension give your own.
        rate: λ_k, by which k moves.
        constraint: what keeps the error smooth, such as `R1` on it; by default nothing.

    Raises:
        ValueError: gamma outside (0, 1], a negative rate, a critic that is no auto-encoder.

    References: Berthelot, Schumm and Metz 2017, section 3.

    Example:
        >>> import torch
        >>> x = torch.randn(600, 2, generator=torch.Generator().manual_seed(1))
        >>> critic = BoundaryEquilibrium().fit(x[:300] + 9, x[:300], steps=100)
        >>> found = critic.estimate(x[300:] + 9, x[300:])
        >>> found.value > 0.1, found.interval, found.bound
        (True, None, 'consistent')
    """

    divergence_name = "reconstruction_error_gap"
    bound = "consistent"
    model_side = "y"
    stacks = False
    k: Tensor

    def __init__(
        self,
        gamma: float = 0.5,
        critic: nn.Module | None = None,
        rate: float = 0.001,
        constraint: Constraint | None = None,
    ) -> None:
        super().__init__()
        self.gamma = not_negative(gamma, "gamma")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma must lie in (0, 1]: got {gamma}")
        self.rate = not_negative(rate, "rate")
        self.critic = critic
        self.constraint = constraint
        self.register_buffer("k", torch.zeros(()))

    def build(self, space: Space, generator: torch.Generator | None) -> AutoEncoder:
        """An auto-encoder with a bottleneck."""
        return AutoEncoder(space, min(64, max(1, space.dim // 2)), generator)

    def penalized(self, s: Samples) -> Energy:
        """The error."""
        return Energy(self.ready(s), 1)

    def pieces(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """−L(x) and −L(y): the critic wants y to have the larger error."""
        assert self.critic is not None  # `compute` refuses a missing critic
        error = Energy(self.critic, 1)
        return -evaluate(error, x), -evaluate(error, y)

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """|E_P L − E_Q L|."""
        return super().compute(s, generator).abs()

    def objective(self, s: Samples, generator: torch.Generator | None) -> tuple[Tensor, Metrics]:
        """E_P L − k·E_Q L."""
        of_x, of_y = self._errors(s)
        data, model = of_x.detach(), of_y.detach()
        return of_x - self.k * of_y, {
            "value": (data - model).abs(),
            "data_error": data,
            "model_error": model,
            "k": self.k.clone(),
            "convergence": data + (self.gamma * data - model).abs(),
        }

    def update_(self, metrics: Metrics) -> None:
        """The constraint's mending, and the move of k by the errors of the critic's step."""
        super().update_(metrics)
        with torch.no_grad():
            self.k.add_(self.rate * (self.gamma * metrics["data_error"] - metrics["model_error"])).clamp_(0.0, 1.0)

    def model_loss(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """E_Q L + |E_P L − stop(E_Q L)|: each term moves its own side."""
        of_x, of_y = self._errors(s)
        return of_y + (of_x - of_y.detach()).abs()

    def bounded(self, found: Inference, confidence: float, test: Samples, shape: Shape) -> Inference:
        """The size of the gap, without an interval."""
        note = (
            "no interval: the gap of two mean reconstruction errors is no distance of P and Q, only a lower bound of "
            "W1 between the laws of the errors of this auto-encoder"
        )
        return Inference(abs(found.value), found.stderr, None, (*found.notes, note))

    def _errors(self, s: Samples) -> tuple[Tensor, Tensor]:
        error = self.penalized(s)
        return mean(evaluate(error, s.x), s.x_weights), mean(evaluate(error, s.y), s.y_weights)
