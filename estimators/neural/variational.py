"""f-divergences by their variational bound: a critic in the place of the density ratio."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

import divergences as dv
from estimators.base import Inference, same_kind
from estimators.door import Samples, tensor
from estimators.intervals import Shape
from estimators.neural.constraints import Constraint
from estimators.neural.critic_estimator import CriticEstimator
from estimators.neural.critics import evaluate

if TYPE_CHECKING:
    from divergences import FDivergence

LINKS = ("activation", "log_ratio")


class Variational(CriticEstimator):
    """D_f(P‖Q) ≥ E_P[T] − E_Q[f*(T)] with T = g_f(V) or T = f'(e^V), V a free critic.

    Bound:
        lower, in expectation, on points that the critic was not trained on.
    Rate:
        n^(−1/2) for the bound of a given critic; how far the bound lies below D hangs on the critic alone.
    Interval:
        from the one-sided limit on points that the critic has not seen, normal with a term for skewness, to the
        largest value of D; of a critic that is not clipped, refused where one point makes up more than 30% of the
        variance.
    Shapes:
        x (n, d), y (m, d); B problems, (B, n, d) and (B, m, d), with a stack of critics.
    Cost:
        one pass of the critic; `fit` and `estimate` train it (seconds).
    Gradients:
        in x, y and the critic's weights.

    Args:
        divergence: a row of the table of f-divergences, by name or as an object.
        critic: a network giving one value a point, V; an MLP is built from the data's shape where it is None.
        constraint: what keeps the critic smooth, such as `R1`; by default nothing.
        link: "activation", T = g_f(V) as in f-GAN, or "log_ratio", T = f'(e^V), by which V is log p/q itself; not for
            total_variation and hockey_stick, whose f' is piecewise constant.

    Pearson's extended conjugate t²/4 + t is used here, as in training it has a gradient everywhere.

    `fit` and `estimate` clip the log density ratio that V means at ±½ log n, n the smaller sample: an unbounded critic
    claims any ratio where a sample has no points, and its bound is then anything. A clipped critic is a critic, so the
    bound holds; where the ratio really is larger, the bound is less tight.

    Raises:
        ValueError: an unknown divergence or link; samples refused at the door.
        NotImplementedError: a divergence that is no f-divergence.

    References: Nguyen, Wainwright and Jordan 2010, eq. (7); Nowozin, Cseke and Tomioka 2016, eq. (4) and table 2.

    Example:
        >>> import torch
        >>> x = torch.randn(2000, 1, generator=torch.Generator().manual_seed(1))
        >>> bound = Variational("kl").estimate(x + 1, x[:1000].flip(0), seed=0)  # the truth is 0.5
        >>> bound.bound, bound.interval[0] < 0.5
        ('lower', True)
    """

    reads_ratio = True

    def __init__(
        self,
        divergence: str | FDivergence = "kl",
        critic: nn.Module | None = None,
        constraint: Constraint | None = None,
        link: Literal["activation", "log_ratio"] = "activation",
    ) -> None:
        super().__init__()
        self.divergence = dv.get(divergence) if isinstance(divergence, str) else divergence
        if isinstance(self.divergence, dv.Named):
            raise NotImplementedError(f"Variational estimates f-divergences, not {self.divergence!r}")
        if not isinstance(self.divergence, dv.FDivergence):
            raise TypeError(f"divergence must be an f-divergence: got {divergence!r}")
        self.critic = critic
        self.constraint = constraint
        if link not in LINKS:
            raise ValueError(f"link must be one of {', '.join(LINKS)}: got {link!r}")
        if link == "log_ratio":
            self.divergence.log_ratio(0.0)  # it says why where there is none
        self.link = link
        self.clip: tuple[float, float] | None = None  # limits of V, set by `prepare`

    @property
    def divergence_name(self) -> str:  # type: ignore[override]
        """The name of the divergence."""
        return self.divergence.name

    @property
    def upper(self) -> float:  # type: ignore[override]
        """The largest value that the divergence can take."""
        return float(self.divergence.upper_bound)

    def pieces(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """T(x) and f*(T(y)), composed stably."""
        v, w = self.clipped(x), self.clipped(y)
        if self.link == "log_ratio":
            return self.divergence.slopes(v)[0], self.divergence.slopes(w)[1]
        return self.divergence.activation(v), self.divergence.conjugate_of_activation(w)

    def clipped(self, points: Tensor) -> Tensor:
        """V, within its limits."""
        assert self.critic is not None  # `compute` refuses a missing critic
        v = evaluate(self.critic, points)
        return v if self.clip is None else v.clamp(*self.clip)

    def log_ratio(self, points: Any) -> Any:
        """Log p/q at ``points``, (..., d), that the critic means: arrays give arrays, (...,), tensors tensors.

        Raises:
            ValueError: there is no critic yet, or T = f'(p/q) does not determine the ratio (total_variation).
        """
        z = tensor(points, "points")
        flat = z.reshape(-1, z.shape[-1])
        self.ready(Samples(flat, flat, None, None))
        v = self.clipped(flat).reshape(z.shape[:-1])
        return same_kind(v if self.link == "log_ratio" else self.divergence.log_ratio(v), points)

    def prepare(self, n: int) -> None:
        """Clip V where it means a log ratio of ±½ log n; where V means none (total variation), g is bounded already."""
        limit = math.log(n) / 2
        if self.link == "log_ratio":
            self.clip = -limit, limit
            return
        try:
            self.clip = _critic_value(self.divergence, -limit), _critic_value(self.divergence, limit)
        except ValueError:
            self.clip = None

    def bounded(self, found: Inference, confidence: float, test: Samples, shape: Shape) -> Inference:
        """The lower bound; a note says where the clip, and not the data, set it."""
        assert self.critic is not None  # infer has trained it
        if self.clip is not None:
            with torch.no_grad():
                v = torch.cat([evaluate(self.critic, test.x), evaluate(self.critic, test.y)])
            found = noting_clips(found, (v <= self.clip[0]) | (v >= self.clip[1]))
            shape = shape._replace(heaviest=0.0)  # a point counts no more than the clip lets it, seen or not
        return super().bounded(found, confidence, test, shape)


def noting_clips(found: Inference, clipped: Tensor) -> Inference:
    """``found`` with a note where the log ratio is at its limit on more than 1% of the points."""
    share = float(clipped.double().mean())
    if share <= 0.01:
        return found
    note = f"the log ratio is clipped on {share:.0%} of the points: the divergence may be far larger"
    return found._replace(notes=(*found.notes, note))


def _critic_value(divergence: FDivergence, log_ratio: float) -> float:
    """The V that means ``log_ratio``, by bisection: `log_ratio` is increasing in V."""
    low, high = -1e6, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if float(divergence.log_ratio(middle)) > log_ratio else (middle, high)
    return (low + high) / 2
