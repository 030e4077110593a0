"""The protocol of all estimators of D(P‖Q) from samples; `estimators.neural` adds that of a supremum over critics.

x ~ P, (..., n, d), is data or target; y ~ Q, (..., m, d), is model or reference; leading axes are a batch of problems.
A subclass writes `compute`, the differentiable value of admitted tensors, and, where the block jackknife is not right
for it, `infer`, the value with its uncertainty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from divergences._spec import Specified
from estimators import intervals
from estimators.door import Samples, admit, admit_thoroughly, fraction, seeded
from estimators.results import Bound, Estimate
from estimators.space import Space

if TYPE_CHECKING:
    from typing import Self


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

    def model_loss(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """What `forward` returns, of admitted samples: the value, unless the paper says otherwise."""
        return self.compute(s, generator)

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
        s = admit(x, y, x_weights, y_weights, x_counts=x_counts, y_counts=y_counts, minimum=self.minimum)
        with full_precision(s.x):
            return same_kind(self.model_loss(s, generator), x, y)

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
            x: data or target, (n, d), or (n,) for (n, 1) if y is (m,).
            y: model or reference, (m, d).
            confidence: of the interval, in (0, 1).
            seed: of whatever is drawn (folds, directions, blocks); None is 0, so that the answer is always the same.
            x_weights: one weight a point of x, which sum to 1.
            y_weights: the same for y.
            x_counts: how often each point of x stands in the sample, integers.
            y_counts: the same for y.
            normalize: divide weights by their sum.
            nan_policy: "raise", or "omit" to drop rows with a NaN and say how many.

        Raises:
            ValueError: confidence outside (0, 1); samples refused at the door.
        """
        confidence = fraction(confidence, "confidence")
        generator = seeded(seed)
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
            seed=None if seed is None else int(seed),
        )

    def sized(self, space: Space, generator: torch.Generator | None = None) -> Self:
        """This estimator with whatever it lacks (a critic) built for ``space``; itself where nothing is missing."""
        return self

    def __repr__(self) -> str:
        return Specified.__repr__(self)


def mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """The mean over the last axis, weighted where weights (summing to 1) are given."""
    return values.mean(-1) if weights is None else (weights * values).sum(-1)


def variance_of_mean(values: Tensor, weights: Tensor | None) -> float:
    """The variance of `mean` for independent values."""
    values = values.double()
    if weights is None:
        return float(values.var()) / len(values)
    squares = weights.double().square()
    return float((squares * (values - mean(values, weights)).square()).sum() / (1 - squares.sum()))


def full_precision(points: Tensor) -> torch.autocast:
    """A context without automatic mixed precision: half precision drowns the differences that divergences are."""
    return torch.autocast(points.device.type, enabled=False)


def same_kind(result: Tensor, *inputs: Any) -> Any:
    """``result`` as the kind of ``inputs``: a tensor if any is one, else a float or a numpy array."""
    if any(isinstance(v, Tensor) for v in inputs):
        return result
    return result.item() if result.ndim == 0 else result.detach().numpy()
