"""The second protocol: D as a supremum over a critic, which a loss of its own trains."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
from scipy.stats import norm
from torch import Tensor, nn

from estimators.base import Estimator, Inference, full_precision, mean, same_kind, variance_of_mean
from estimators.door import Samples, admit, admit_thoroughly
from estimators.intervals import largest_share
from estimators.neural import fitting
from estimators.neural.constraints import Constraint
from estimators.neural.critics import default_critic
from estimators.results import Bound
from estimators.space import Space

if TYPE_CHECKING:
    from typing import Self

Metrics = dict[str, Tensor]


class CriticEstimator(Estimator):
    """D as a supremum over a critic: `critic_loss` is what the critic minimises, `forward` what a model minimises.

    The two are not each other's negative: see the non-saturating GAN. A critic estimator takes one problem. A subclass
    writes `pieces`, the two sides of its objective, whose difference of means is the value; and where its paper says
    so, `model_loss`, what a model minimises instead of the value, `objective`, what the critic minimises instead of
    minus the value, `build`, its default critic, and `penalized`, the function of a point that a penalty holds.
    """

    bound: Bound = "lower"
    upper: float = float("inf")  # the largest value that D can take
    critic_scale: float = 1.0  # the critic maximises this many times the value
    minimum: int = 2
    critic: nn.Module | None
    wrapped: bool = False  # whether the constraint has wrapped the critic already
    constraint: Constraint | None  # None is the estimator's own default
    default_constraint: Constraint = Constraint()
    fitted: bool = False

    @property
    def constrained(self) -> Constraint:
        """The constraint in force."""
        return self.default_constraint if self.constraint is None else self.constraint

    def pieces(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """a(x), (n,), and b(y), (m,): the objective is E_P a − E_Q b."""
        raise NotImplementedError

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """E_P a − E_Q b for the critic as it stands."""
        self.ready(s)
        a, b = self.pieces(s.x, s.y)
        return mean(a, s.x_weights) - mean(b, s.y_weights)

    def model_loss(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """What `forward` returns, of admitted samples: the value, unless the paper says otherwise."""
        return self.compute(s, generator)

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
        """What a model minimises, on whichever side of x and y it is."""
        s = admit(x, y, x_weights, y_weights, x_counts=x_counts, y_counts=y_counts, minimum=self.minimum)
        with full_precision(s.x):
            return same_kind(self.model_loss(s, generator), x, y)

    def objective(self, s: Samples, generator: torch.Generator | None) -> tuple[Tensor, Metrics]:
        """What the critic minimises, without the penalty of its constraint, and the metrics to log."""
        value = self.compute(s, generator)
        return -self.critic_scale * value, {"value": value.detach()}

    def penalized(self, s: Samples) -> nn.Module:
        """The function of a point, (n, d) -> (n,), that a penalty holds: the critic, where it is one."""
        return self.ready(s)

    def build(self, space: Space, generator: torch.Generator | None) -> nn.Module:
        """The critic where none is given."""
        return default_critic(space, generator)

    def ready(self, s: Samples) -> nn.Module:
        """The critic, where there is one and ``s`` is one problem.

        Raises:
            ValueError: there is none, or there are extra axes.
        """
        if self.critic is None:
            raise ValueError(f"{type(self).__name__} has no critic yet: call fit(x, y), estimate(x, y) or sized(space)")
        if s.x.ndim > 2 or s.y.ndim > 2:
            raise ValueError(
                f"a critic estimator takes one problem, (n, d) and (m, d): got {tuple(s.x.shape)}, {tuple(s.y.shape)}"
            )
        return self.critic

    def critic_loss(self, x: Any, y: Any, *, generator: torch.Generator | None = None) -> tuple[Tensor, Metrics]:
        """What the critic minimises, penalties included, and the metrics to log."""
        s = admit(x, y)
        with full_precision(s.x):
            loss, metrics = self.objective(s, generator)
            penalty = self.constrained.penalty(self.penalized(s), s.x, s.y, generator)
        return (loss, metrics) if penalty is None else (loss + penalty, {**metrics, "penalty": penalty.detach()})

    def update_(self, metrics: Metrics) -> None:
        """What follows a critic step: clipping, a controller's move. Often nothing."""
        if self.critic is not None:
            self.constrained.update_(self.critic)

    def prepare(self, n: int) -> None:
        """Called by `fit` with the size of the smaller sample, before it trains the critic. Often nothing."""

    def settle(self, s: Samples) -> None:
        """Called by `fit` with the samples when the critic is trained. Often nothing."""

    def sized(self, space: Space, generator: torch.Generator | None = None) -> Self:
        """A copy whose critic is built for ``space`` (and wrapped by its constraint) if it had none."""
        built = copy.deepcopy(self)
        built.size_(space, generator)
        return built

    def size_(self, space: Space, generator: torch.Generator | None) -> None:
        """Build the critic where there is none, and let the constraint wrap it once."""
        if self.critic is None:
            self.critic = self.build(space, generator)
        if not self.wrapped:
            self.critic, self.wrapped = self.constrained.wrap(self.critic), True

    def fit(
        self,
        x: Any,
        y: Any,
        *,
        steps: int = 2000,
        batch: int = 256,
        lr: float | None = None,
        patience: int = 10,
        seed: int = 0,
        progress: bool = True,
    ) -> Self:
        """Train the critic on four fifths of x and y; the weights kept are the best on the last fifth.

        The best have the highest lower limit of the objective there, value − standard error, so that a critic does not
        win by a tail in which the held-out points happen to be missing. Stops when that has not risen for ``patience``
        checks, fifty steps apart. ``lr`` is Adam's at the start, and falls to a tenth; None is the constraint's own.
        """
        s = admit_thoroughly(x, y, minimum=FEWEST)
        self.train_critic(s, steps=steps, batch=batch, lr=lr, patience=patience, seed=seed, progress=progress)
        return self

    def train_critic(
        self,
        s: Samples,
        *,
        steps: int = 2000,
        batch: int = 256,
        lr: float | None = None,
        patience: int = 10,
        seed: int = 0,
        progress: bool = True,
    ) -> float:
        """`fit` on admitted samples, and what its held-out fifth has for the objective, less a standard error."""
        generator = torch.Generator().manual_seed(seed)
        self.size_(Space.of(torch.cat([s.x, s.y])), generator)
        self.prepare(min(len(s.x), len(s.y)))
        generator = torch.Generator().manual_seed(seed)  # so that critics of any size have the same held-out fifth
        lr = self.constrained.rate if lr is None else lr
        found = fitting.fit_critic(
            self, s.x, s.y, steps=steps, batch=batch, lr=lr, patience=patience, generator=generator, progress=progress
        )
        self.settle(s)
        self.fitted = True
        return found

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """The objective on points that the critic has not seen, with a one-sided limit: D lies above it."""
        evaluated, test, notes = self.on_new_points(s, generator)
        a, b = fitting.evaluated(evaluated, test)
        value = float(mean(a, test.x_weights) - mean(b, test.y_weights))
        stderr = math.sqrt(variance_of_mean(a, test.x_weights) + variance_of_mean(b, test.y_weights))
        if not math.isfinite(value) or not math.isfinite(stderr):
            return Inference(value, None, None, (*notes, "no interval: the critic's value is not finite on new data"))
        heaviest = max(largest_share(v.double() - v.double().mean()) for v in (a, b))
        return evaluated.bounded(Inference(value, stderr, None, notes), confidence, test, heaviest)

    def on_new_points(self, s: Samples, generator: torch.Generator) -> tuple[CriticEstimator, Samples, tuple[str, ...]]:
        """A fitted estimator, points that its critic has not seen, and a note on both.

        A critic that `fit` trained is evaluated on all of ``s``, which must then be new data. Otherwise a copy is
        trained on two thirds of ``s`` and evaluated on the last third.
        """
        if self.fitted:
            return self, s, ("the critic was fitted before: the value holds for data that fit has not seen",)
        if s.x_weights is not None or s.y_weights is not None:
            raise NotImplementedError("estimate with weights needs a fitted critic: call fit(x, y) first")
        if min(len(s.x), len(s.y)) < 2 * FEWEST:
            raise ValueError(
                f"x and y need at least {2 * FEWEST} points each, to train a critic and evaluate it on others: "
                f"got {len(s.x)} and {len(s.y)}"
            )
        seen, test = fitting.split(s.x, s.y, 2 / 3, generator)
        with torch.enable_grad():
            evaluated, notes = self.trained(seen, int(torch.randint(2**31, (), generator=generator)))
        note = (
            f"critic trained on {len(seen.x)} + {len(seen.y)} points, evaluated on the other "
            f"{len(test.x)} + {len(test.y)}"
        )
        return evaluated, test, (note, *notes)

    def trained(self, seen: Samples, seed: int) -> tuple[CriticEstimator, tuple[str, ...]]:
        """A copy that is fitted to ``seen``, and notes on it."""
        built = copy.deepcopy(self)
        built.train_critic(seen, seed=seed)
        return built, ()

    def bounded(self, found: Inference, confidence: float, test: Samples, heaviest: float) -> Inference:
        """The value as a lower bound: the interval runs from the one-sided normal limit to the largest value of D.

        It is refused where one point makes up more than the share ``_HEAVY`` of the variance.
        """
        value, stderr, _, notes, _ = found
        assert stderr is not None  # infer has refused what is not finite
        if heaviest > _HEAVY:
            notes += (f"no interval: one point makes up {heaviest:.0%} of the variance, so the limit is not normal",)
            return Inference(value, stderr, None, notes)
        low = value - float(norm.ppf(confidence)) * stderr
        notes += (f"a lower bound on D with a one-sided {100 * confidence:g}% limit",)
        return Inference(value, stderr, (low, self.upper), notes)


FEWEST = 10  # of them two are held out, from which a spread can be seen
_HEAVY = 0.3  # of 200 normal points the largest makes up about 4% of the variance
