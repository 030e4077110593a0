"""f-divergences by their variational bound: a critic in the place of the density ratio."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

import divergences as dv
from estimators.base import Inference
from estimators.door import Samples
from estimators.intervals import Shape
from estimators.neural.constraints import Constraint
from estimators.neural.critic_estimator import CriticEstimator
from estimators.neural.critics import at_points, evaluate

if TYPE_CHECKING:
    from typing import Self

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

    `fit` and `estimate` clip the log density ratio that V means at ±½ log n, n the smaller sample, that of the points
    that are evaluated included, and earlier where one point would count for more than 1/√n, as for pearson_chi2 at
    ¼ log n: an unbounded critic claims any ratio where a sample has no points, and its bound is then anything. A
    clipped critic is a critic, so the bound holds; where the ratio really is larger, the bound is less tight.

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

        Of a stack of B critics (B, ..., d). Within the clip: where p or q has no points it is ±½ log n.

        Raises:
            ValueError: there is no critic yet, or T = f'(p/q) does not determine the ratio (total_variation).
        """
        if self.critic is None:
            raise ValueError("Variational has no critic yet: call fit(x, y); estimate trains one of its own")

        def values(z: Tensor) -> Tensor:
            v = self.clipped(z)
            return v if self.link == "log_ratio" else self.divergence.log_ratio(v)

        return at_points(self.critic, points, values)

    def prepare(self, n: int) -> None:
        """Clip V where it means a log ratio beyond the limits for n points.

        Where V means none (total variation), g is bounded already.
        """
        try:
            low, high = _limits(self.divergence, n)
        except ValueError:
            self.clip = None
            return
        values = (low, high) if self.link == "log_ratio" else [_critic_value(self.divergence, v) for v in (low, high)]
        self.clip = values[0], values[1]

    def judged_on(self, n: int) -> Self:
        """A copy whose limits are those of n points too."""
        copied = self.shallow()
        copied.prepare(n)
        if self.clip is not None and copied.clip is not None:
            copied.clip = max(self.clip[0], copied.clip[0]), min(self.clip[1], copied.clip[1])
        else:
            copied.clip = self.clip
        return copied

    def bounded(self, found: Inference, confidence: float, test: Samples, shape: Shape) -> Inference:
        """The lower bound; a note says where the clip, and not the data, set it."""
        assert self.critic is not None  # infer has trained it
        if self.clip is not None:
            with torch.no_grad():
                v = torch.cat([evaluate(self.critic, test.x), evaluate(self.critic, test.y)])
            found = noting_clips(found, (v <= self.clip[0]) | (v >= self.clip[1]))
            shape = shape._replace(heaviest=0.0)  # no point, seen or not, counts for much more than 1/√n
        return super().bounded(found, confidence, test, shape)


def noting_clips(found: Inference, clipped: Tensor) -> Inference:
    """``found`` with a note where the log ratio is at its limit on more than 1% of the points."""
    share = float(clipped.double().mean())
    if share <= 0.01:
        return found
    note = f"the log ratio is clipped on {share:.0%} of the points: the divergence may be larger"
    return found._replace(notes=(*found.notes, note))


def _limits(divergence: FDivergence, n: int) -> tuple[float, float]:
    """The log ratios of ±½ log n, or nearer to 0 where a term T or f*(T) is further than √n from that at p = q.

    Points whose mass is about 1/n are in a sample or not; they then change the value by about 1/√n at the most, as much
    as its error.

    Raises:
        ValueError: f' does not determine the ratio.
    """
    divergence.log_ratio(0.0)  # it says why where there is none
    top, most = math.log(n) / 2, math.sqrt(n)
    T, conjugate = (float(v) for v in divergence.slopes(torch.zeros((), dtype=torch.float64)))

    def term(v: float) -> float:
        a, b = divergence.slopes(torch.tensor(v, dtype=torch.float64))
        return abs(float(b) - conjugate) if v > 0 else abs(float(a) - T)

    found = []
    for sign in (-1.0, 1.0):
        low, high = 0.0, top
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if term(sign * middle) <= most else (low, middle)
        found.append(sign * (top if term(sign * top) <= most else low))
    return found[0], found[1]


def _critic_value(divergence: FDivergence, log_ratio: float) -> float:
    """The V that means ``log_ratio``, by bisection: `log_ratio` is increasing in V."""
    low, high = -1e6, 1e6
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (low, middle) if float(divergence.log_ratio(middle)) > log_ratio else (middle, high)
    return (low + high) / 2
