"""The second protocol: D as a supremum over a critic, which a loss of its own trains."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from estimators.base import Estimator, Inference, full_precision, mean, variance_of_mean
from estimators.door import Samples, admit, admit_thoroughly, count, not_negative, seeded
from estimators.intervals import Shape, lower_limit
from estimators.neural import fitting, memory
from estimators.neural.constraints import Constraint
from estimators.neural.critics import default_critic, ratio_critic
from estimators.neural.stacking import Stacked
from estimators.results import Bound
from estimators.space import Space

if TYPE_CHECKING:
    from typing import Self

Metrics = dict[str, Tensor]


class CriticEstimator(Estimator):
    """D as a supremum over a critic: `critic_loss` is what the critic minimises, `forward` what a model minimises.

    The two are not each other's negative: see the non-saturating GAN. A critic estimator takes one problem, (n, d) and
    (m, d), or B problems, (B, n, d) and (B, m, d), whose critics are one `Stacked`. A subclass writes `pieces`, the two
    sides of its objective, whose difference of means is the value; and where its paper says so, `model_loss`, what a
    model minimises instead of the value, `objective`, what the critic minimises instead of minus the value, `build`,
    its default critic, and `penalized`, the function of a point that a penalty holds.
    """

    bound: Bound = "lower"
    upper: float = float("inf")  # the largest value that D can take
    critic_scale: float = 1.0  # the critic maximises this many times the value
    minimum: int = 2
    model_side: str | None = None  # "x" or "y" where the loss trains a model on that side alone; D is then symmetric
    pools: bool = False  # whether the losses are no means over a batch, so that parts of a batch must be joined first
    critic: nn.Module | None
    reads_ratio: bool = False  # whether the best critic is a function of p/q
    stacks: bool = True  # whether its critics can be a stack
    wrapped: bool = False  # whether the constraint has wrapped the critic already
    constraint: Constraint | None  # None is the estimator's own default
    default_constraint: Constraint = Constraint()
    fitted: bool = False
    seen: Any = None  # what `memory` keeps of the points that `fit` saw

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

    def objective(self, s: Samples, generator: torch.Generator | None) -> tuple[Tensor, Metrics]:
        """What the critic minimises, without the penalty of its constraint, and the metrics to log."""
        value = self.compute(s, generator)
        return -self.critic_scale * value, {"value": value.detach()}

    def penalized(self, s: Samples) -> nn.Module:
        """The function of a point, (n, d) -> (n,), that a penalty holds: the critic, where it is one."""
        return self.ready(s)

    def build(self, space: Space, generator: torch.Generator | None) -> nn.Module:
        """The critic of a loss where none is given."""
        return default_critic(space, generator)

    def build_to_fit(self, space: Space, generator: torch.Generator | None) -> nn.Module:
        """The critic that `fit` trains where none is given; a loss sees new points with each step, and this one n."""
        return ratio_critic(space, generator) if self.reads_ratio else self.build(space, generator)

    def ready(self, s: Samples) -> nn.Module:
        """The critic, where there is one and ``s`` is one problem.

        Raises:
            ValueError: there is none, or there are extra axes.
        """
        if self.critic is None:
            raise ValueError(f"{type(self).__name__} has no critic yet: call fit(x, y) or sized(space)")
        problems = (len(self.critic),) if isinstance(self.critic, Stacked) else ()
        if s.x.shape[:-2] != problems or s.y.shape[:-2] != problems:
            expected = "one problem, (n, d) and (m, d)"
            if problems:
                expected = f"a stack of {problems[0]} critics, as many problems, (B, n, d) and (B, m, d)"
            raise ValueError(f"{type(self).__name__} takes {expected}: got {tuple(s.x.shape)} and {tuple(s.y.shape)}")
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
        if built.critic is None:
            built.critic = built.build(space, generator)
        built._wrap()
        return built

    def unstacked(self) -> list[Self]:
        """One estimator for each problem of a stack, with the critic of that problem.

        Raises:
            ValueError: the critic is no stack.
        """
        if not isinstance(self.critic, Stacked):
            raise ValueError(
                f"{type(self).__name__} has no stack of critics: call fit(x, y) on (B, n, d) and (B, m, d)"
            )
        found = []
        for index, critic in enumerate(self.critic.unstacked()):
            one = self.shallow()
            one.critic, one.seen = critic.eval(), self.seen[index] if self.fitted else None
            one.take(index)
            found.append(one)
        return found

    def shallow(self) -> Self:
        """A copy that shares the critic."""
        copied = copy.copy(self)
        copied._modules = dict(self._modules)
        return copied

    def judged_on(self, n: int) -> Self:
        """The estimator as it is evaluated on n new points: itself, unless it claims less where n is small."""
        return self

    def take(self, index: int) -> None:
        """Called on a copy that gets the critic of problem ``index`` of a stack. Often nothing."""

    def _wrap(self) -> None:
        """Let the constraint wrap the critic, once.

        Raises:
            TypeError: a critic that is no network, a constraint that is none.
        """
        if not isinstance(self.critic, nn.Module | None):
            raise TypeError(f"critic must be an nn.Module: got {type(self.critic).__name__}")
        if not isinstance(self.constrained, Constraint):
            raise TypeError(f"constraint must be one, such as est.R1(): got {type(self.constraint).__name__}")
        if self.wrapped or self.critic is None:
            return
        if isinstance(self.critic, Stacked):
            self.critic = Stacked([self.constrained.wrap(one) for one in self.critic.unstacked()])
        else:
            self.critic = self.constrained.wrap(self.critic)
        self.wrapped = True

    def fit(
        self,
        x: Any,
        y: Any,
        *,
        steps: int | None = None,
        batch: int | None = None,
        lr: float | None = None,
        patience: int | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> Self:
        """Train the critic on four fifths of x and y; the weights kept are the best on the last fifth.

        Weights are running means over some 200 steps. The best have the highest lower limit of the objective, value −
        standard error, so that a critic does not win by a tail in which the held-out points happen to be missing. Stops
        when that has not risen for ``patience`` checks, fifty steps apart; None is a third of all, 10 at least. ``lr``
        is Adam's at the start, and falls to a tenth; None is the constraint's own. ``steps`` None is 1000 and one for
        every five points of the smaller sample, 4000 at the most; ``batch`` None is one point of it in a hundred,
        256 to 2048: few steps of a large sample see the far points on which a ratio hangs, unless each sees many.

        x (B, n, d) and y (B, m, d) are B problems, each with a critic of its own: they are trained as one `Stacked`, to
        what B calls with the same seed would give. `unstacked` has them one by one, each with an `estimate`.

        Raises:
            ValueError: a number of steps, points or checks below 1, ``lr`` not positive; samples refused at the door.
            TypeError: a critic that is no network; numbers that are none.
        """
        steps = None if steps is None else count(steps, "steps")
        batch = None if batch is None else count(batch, "batch")
        patience, seed = None if patience is None else count(patience, "patience"), seeded(seed).initial_seed()
        if lr is not None and not not_negative(lr, "lr") > 0:
            raise ValueError(f"lr must be positive: got {lr}")
        s = _admitted(x, y)
        self.train_critic(s, steps=steps, batch=batch, lr=lr, patience=patience, seed=seed, progress=progress)
        return self

    def train_critic(
        self,
        s: Samples,
        *,
        steps: int | None = None,
        batch: int | None = None,
        lr: float | None = None,
        patience: int | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> fitting.Training:
        """`fit` on admitted samples."""
        if s.x.ndim > 2 and not self.stacks:
            raise ValueError(
                f"{type(self).__name__} takes one problem, (n, d) and (m, d): got {tuple(s.x.shape)} and "
                f"{tuple(s.y.shape)}"
            )
        if self.critic is None:
            problems = zip(s.x, s.y, strict=True) if s.x.ndim > 2 else [(s.x, s.y)]
            built = [
                self.build_to_fit(Space.of(torch.cat(pair)), torch.Generator().manual_seed(seed)) for pair in problems
            ]
            self.critic = Stacked(built) if s.x.ndim > 2 else built[0]
        self._wrap()
        n = min(s.x.shape[-2], s.y.shape[-2])
        self.prepare(n)
        steps = min(4000, 1000 + n // 5) if steps is None else steps
        found = fitting.fit_critic(
            self,
            s.x,
            s.y,
            steps=steps,
            batch=min(max(n // 100, 256), 2048) if batch is None else batch,
            lr=self.constrained.rate if lr is None else lr,
            patience=max(10, steps // (3 * fitting.CHECK_EVERY)) if patience is None else patience,
            generator=torch.Generator().manual_seed(seed),
            progress=progress,
        )
        self.settle(s)
        self.fitted, self.seen = True, memory.joined(self.seen, memory.of(s))  # a second fit goes on from the first
        return found

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """The objective on points that the critic has not seen, with a one-sided limit: D lies above it."""
        evaluated, test, notes = self.on_new_points(s, generator)
        evaluated = evaluated.judged_on(min(len(test.x), len(test.y)))
        a, b = fitting.evaluated(evaluated, test)
        value = float(mean(a, test.x_weights) - mean(b, test.y_weights))
        stderr = math.sqrt(variance_of_mean(a, test.x_weights) + variance_of_mean(b, test.y_weights))
        if not math.isfinite(value) or not math.isfinite(stderr):
            return Inference(value, None, None, (*notes, "no interval: the critic's value is not finite on new data"))
        sides = [
            (side - mean(side, w)) * (1 / len(side) if w is None else w)
            for side, w in ((a, test.x_weights), (b, test.y_weights))
        ]
        shape = Shape.of(sides[0], -sides[1])
        found = evaluated.bounded(Inference(value, stderr, None, notes), confidence, test, shape)
        if (share := memory.share(self.seen, s)) > 0:
            notes += (f"no interval: fit has seen {share:.0%} of these points, on which a critic is too good",)
            return Inference(found.value, None, None, notes, "consistent")
        return found

    def on_new_points(self, s: Samples, generator: torch.Generator) -> tuple[CriticEstimator, Samples, tuple[str, ...]]:
        """A fitted estimator, points that its critic has not seen, and a note on both.

        A critic that `fit` trained is evaluated on all of ``s``, which must then be new data. Otherwise a copy is
        trained on two thirds of ``s`` and evaluated on the last third.
        """
        if self.fitted:
            if isinstance(self.critic, Stacked):
                raise ValueError(
                    f"{type(self).__name__} has a stack of {len(self.critic)} critics: unstacked() gives one estimator "
                    "for each problem"
                )
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
        training = built.train_critic(seen, seed=seed)
        rise = float(training.rise)
        if not rise > RISING:
            return built, ()
        note = f"the critic's held-out value rose by {rise:.1f} standard errors in the last quarter of its steps"
        return built, (f"{note}: fit with more steps may give a tighter bound",)

    def bounded(self, found: Inference, confidence: float, test: Samples, shape: Shape) -> Inference:
        """The value as a lower bound: the interval runs from the one-sided limit to the largest value of D.

        It is refused where one point makes up more than the share ``_HEAVY`` of the variance.
        """
        value, stderr, _, notes, _ = found
        assert stderr is not None  # infer has refused what is not finite
        if shape.heaviest > _HEAVY:
            notes += (
                f"no interval: one point makes up {shape.heaviest:.0%} of the variance, so the limit is not normal",
            )
            return Inference(value, stderr, None, notes)
        low = lower_limit(value, stderr, confidence, shape.skewness)
        notes += (f"a lower bound on D with a one-sided {100 * confidence:g}% limit",)
        return Inference(value, stderr, (low, self.upper), notes)


def _admitted(x: Any, y: Any) -> Samples:
    """One problem, or the B of (B, n, d) and (B, m, d), thoroughly admitted.

    Raises:
        ValueError: as at the door; more leading axes than one, or not the same.
    """
    s = admit(x, y, minimum=FEWEST)
    lead = s.x.shape[:-2]
    if not lead and s.y.ndim == 2:
        return admit_thoroughly(x, y, minimum=FEWEST)
    if len(lead) > 1 or s.y.shape[:-2] != lead:
        raise ValueError(
            f"x and y must be one problem, (n, d) and (m, d), or B of them, (B, n, d) and (B, m, d): got "
            f"{tuple(s.x.shape)} and {tuple(s.y.shape)}"
        )
    parts = [admit_thoroughly(a, b, minimum=FEWEST) for a, b in zip(s.x, s.y, strict=True)]
    return Samples(torch.stack([part.x for part in parts]), torch.stack([part.y for part in parts]), None, None)


RISING = 1.0  # standard errors in the last quarter of the steps, from which training is said to have ended early
FEWEST = 10  # of them two are held out, from which a spread can be seen
_HEAVY = 0.3  # of 200 normal points the largest makes up about 4% of the variance
