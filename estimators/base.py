"""The two protocols. An `Estimator` estimates D(P‖Q) from samples; a `CriticEstimator` does so by an inner supremum.

x ~ P, (..., n, d), is data or target; y ~ Q, (..., m, d), is model or reference; leading axes are a batch of problems.
A subclass writes `compute`, the differentiable value of admitted tensors, and, where the block jackknife is not right
for it, `infer`, the value with its uncertainty.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from scipy.stats import norm
from torch import Tensor, nn

from divergences._spec import Specified
from estimators import intervals
from estimators.door import Samples, admit, admit_thoroughly
from estimators.neural import fitting
from estimators.neural.constraints import Constraint
from estimators.neural.critics import default_critic
from estimators.results import Bound, Estimate
from estimators.space import Space

if TYPE_CHECKING:
    from typing import Self

Metrics = dict[str, Tensor]


class Inference(NamedTuple):
    """A value with its uncertainty, before it is dressed as an `Estimate`."""

    value: float
    stderr: float | None
    interval: tuple[float, float] | None
    notes: tuple[str, ...] = ()
    bound: Bound | None = None  # where it differs from the estimator's own


class Estimator(Specified, nn.Module):
    """Estimates D(P‖Q) from x ~ P and y ~ Q.

    Constructors take choices, calls take data, results are returned. Arrays give floats or arrays, tensors tensors.
    """

    divergence_name: str = ""
    bound: Bound = "consistent"
    minimum: int = 1  # points needed on each side
    differentiable: bool = True  # whether a model can be trained with it

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """The estimate of D, (...,), differentiable in the points of ``s``. Samples are admitted already."""
        raise NotImplementedError

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """The value of one problem in float64, and its uncertainty by a block jackknife."""
        state = generator.get_state()

        def value(part: Samples) -> float:
            generator.set_state(state)  # common random numbers, so that blocks differ by their points alone
            return float(self.compute(part, generator))

        return Inference(*intervals.jackknife(value, s, confidence, generator.initial_seed()))

    def value(
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
        """The estimate of D, (...,), differentiable in x and y where they are tensors.

        Weights, (..., n) and (..., m), sum to 1; counts, (n,) and (m,), are integers and mean repetition.
        """
        s = admit(x, y, x_weights, y_weights, x_counts=x_counts, y_counts=y_counts, minimum=self.minimum)
        with full_precision(s.x):
            return same_kind(self.compute(s, generator), x, y)

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
        """What a model minimises: `value`, unless the paper says otherwise."""
        return self.value(x, y, x_weights, y_weights, x_counts=x_counts, y_counts=y_counts, generator=generator)

    def estimate(
        self,
        x: Any,
        y: Any,
        *,
        confidence: float = 0.95,
        seed: int | None = None,
        x_weights: Any = None,
        y_weights: Any = None,
        x_counts: Any = None,
        y_counts: Any = None,
        normalize: bool = False,
        nan_policy: str = "raise",
    ) -> Estimate:
        """The value with its standard error, an interval or the reason why there is none, and what it bounds.

        Args:
            x: data or target, (n, d).
            y: model or reference, (m, d).
            confidence: of the interval, in (0, 1).
            seed: of whatever is drawn (folds, directions, blocks).
            x_weights: one weight a point of x, which sum to 1.
            y_weights: the same for y.
            x_counts: how often each point of x stands in the sample, integers.
            y_counts: the same for y.
            normalize: divide weights by their sum.
            nan_policy: "raise", or "omit" to drop rows with a NaN and say how many.

        Raises:
            ValueError: confidence outside (0, 1); samples refused at the door.
        """
        if not 0 < confidence < 1:
            raise ValueError(f"confidence must lie in (0, 1): got {confidence}")
        s = admit_thoroughly(
            x,
            y,
            x_weights,
            y_weights,
            x_counts=x_counts,
            y_counts=y_counts,
            minimum=self.minimum,
            normalize=normalize,
            nan_policy=nan_policy,
        )
        generator = torch.Generator().manual_seed(0 if seed is None else seed)
        with torch.no_grad():
            found = self.infer(s, confidence, generator)
        return Estimate(
            value=found.value,
            stderr=found.stderr,
            interval=found.interval,
            bound=found.bound or self.bound,
            divergence=self.divergence_name,
            estimator=repr(self),
            n=s.x.shape[-2],
            m=s.y.shape[-2],
            notes=s.notes + found.notes,
            confidence=confidence,
            seed=seed,
        )

    def sized(self, space: Space, generator: torch.Generator | None = None) -> Self:
        """This estimator with whatever it lacks (a critic) built for ``space``; itself where nothing is missing."""
        return self

    def __repr__(self) -> str:
        return Specified.__repr__(self)


class CriticEstimator(Estimator):
    """D as a supremum over a critic: `critic_loss` is what the critic minimises, `forward` what a model minimises.

    The two are not each other's negative: see the non-saturating GAN. A critic estimator takes one problem. A subclass
    writes `pieces`, the two sides of its objective, whose difference of means is the value.
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
            value = self.compute(s, generator)
            penalty = self.constrained.penalty(self.ready(s), s.x, s.y, generator)
        if penalty is None:
            return -self.critic_scale * value, {"value": value.detach()}
        return penalty - self.critic_scale * value, {"value": value.detach(), "penalty": penalty.detach()}

    def update_(self, metrics: Metrics) -> None:
        """What follows a critic step: clipping, a controller's move. Often nothing."""
        if self.critic is not None:
            self.constrained.update_(self.critic)

    def prepare(self, n: int) -> None:
        """Called by `fit` with the size of the smaller sample, before it trains the critic. Often nothing."""

    def sized(self, space: Space, generator: torch.Generator | None = None) -> Self:
        """A copy whose critic is built for ``space`` (and wrapped by its constraint) if it had none."""
        built = copy.deepcopy(self)
        built.size_(space, generator)
        return built

    def size_(self, space: Space, generator: torch.Generator | None) -> None:
        """Build the critic where there is none, and let the constraint wrap it once."""
        if self.critic is None:
            self.critic = default_critic(space, generator)
        if not self.wrapped:
            self.critic, self.wrapped = self.constrained.wrap(self.critic), True

    def fit(
        self,
        x: Any,
        y: Any,
        *,
        steps: int = 2000,
        batch: int = 256,
        lr: float = 1e-3,
        patience: int = 10,
        seed: int = 0,
        progress: bool = True,
    ) -> Self:
        """Train the critic on four fifths of x and y; the weights kept are the best on the last fifth.

        The best have the highest lower limit of the objective there, value − standard error, so that a critic does not
        win by a tail in which the held-out points happen to be missing. Stops when that has not risen for ``patience``
        checks, fifty steps apart.
        """
        generator = torch.Generator().manual_seed(seed)
        s = admit_thoroughly(x, y, minimum=FEWEST)
        self.size_(Space.of(torch.cat([s.x, s.y])), generator)
        self.prepare(min(len(s.x), len(s.y)))
        fitting.fit_critic(
            self, s.x, s.y, steps=steps, batch=batch, lr=lr, patience=patience, generator=generator, progress=progress
        )
        self.fitted = True
        return self

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """The objective on points that the critic has not seen, with a one-sided limit: D lies above it.

        A critic that `fit` trained is evaluated on all of ``s``, which must then be new data. Otherwise a copy is
        trained on two thirds of ``s`` and evaluated on the last third.
        """
        notes: tuple[str, ...] = ()
        if self.fitted:
            evaluated, test = self, s
            notes += ("the critic was fitted before: the value holds for data that fit has not seen",)
        else:
            if s.x_weights is not None or s.y_weights is not None:
                raise NotImplementedError("estimate with weights needs a fitted critic: call fit(x, y) first")
            if min(len(s.x), len(s.y)) < 2 * FEWEST:
                raise ValueError(
                    f"x and y need at least {2 * FEWEST} points each, to train a critic and evaluate it on others: "
                    f"got {len(s.x)} and {len(s.y)}"
                )
            seen, test = fitting.split(s.x, s.y, 2 / 3, generator)
            evaluated = copy.deepcopy(self)
            with torch.enable_grad():
                evaluated.fit(seen.x, seen.y, seed=int(torch.randint(2**31, (), generator=generator)))
            notes += (
                f"critic trained on {len(seen.x)} + {len(seen.y)} points, evaluated on the other "
                f"{len(test.x)} + {len(test.y)}",
            )
        a, b = fitting.evaluated(evaluated, test)
        value = float(mean(a, test.x_weights) - mean(b, test.y_weights))
        stderr = math.sqrt(variance_of_mean(a, test.x_weights) + variance_of_mean(b, test.y_weights))
        if not math.isfinite(value) or not math.isfinite(stderr):
            return Inference(value, None, None, (*notes, "no interval: the critic's value is not finite on new data"))
        heaviest = max(_largest_share(a), _largest_share(b))
        return evaluated.bounded(Inference(value, stderr, None, notes), confidence, test, heaviest)

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


def _largest_share(values: Tensor) -> float:
    """The part of Σ(v − v̄)² that the single largest term makes up."""
    squares = (values.double() - values.double().mean()).square()
    total = float(squares.sum())
    return float(squares.max()) / total if total > 0 else 0.0


def mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """The mean over the last axis, weighted where weights (summing to 1) are given."""
    return values.mean(-1) if weights is None else (weights * values).sum(-1)


def variance_of_mean(values: Tensor, weights: Tensor | None) -> float:
    """The variance of `mean` for independent values."""
    values = values.double()
    if weights is None:
        return float(values.var()) / len(values)
    return float((weights.square() * (values - mean(values, weights)).square()).sum())


def full_precision(points: Tensor) -> torch.autocast:
    """A context without automatic mixed precision: half precision drowns the differences that divergences are."""
    return torch.autocast(points.device.type, enabled=False)


def same_kind(result: Tensor, *inputs: Any) -> Any:
    """``result`` as the kind of ``inputs``: a tensor if any is one, else a float or a numpy array."""
    if any(isinstance(v, Tensor) for v in inputs):
        return result
    return result.item() if result.ndim == 0 else result.detach().numpy()
