"""KL by telling one point of P from K − 1 points of Q: a bound of small variance that cannot exceed log K."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from estimators.base import Inference
from estimators.door import Samples, count
from estimators.intervals import Shape
from estimators.neural.constraints import Constraint
from estimators.neural.critic_estimator import CriticEstimator
from estimators.neural.critics import at_points, evaluate, judging

BLOCKS = 50  # of negatives, into which new points are cut where K is not given
JUDGED = 10  # the same while `fit` judges by few held-out points: K would be small, and log K hide what is better
FEWEST_BLOCKS = 20  # from which a spread is known
NEAR = 1.0  # nats below log K, from which the value is taken to be held down by it


class InfoNCE(CriticEstimator):
    """KL(P‖Q) ≥ log K + E log [e^T(x) / (e^T(x) + Σ_j e^T(y_j))], x ~ P and y_1 … y_{K−1} ~ Q, T a free critic.

    Put x in a random place S among the y_j; Z are the K points in their order. The softmax of T is a guess q(S | Z) of
    the place, so that the right side, log K + E log q(S | Z), is at most the mutual information of S and Z (Barber and
    Agakov). That is the mean KL of Z given S from the law of Z, which no other law in its place makes smaller: at most
    KL(P × Q^{K−1}‖Q^K) = KL(P‖Q). So it is a lower bound for every T and every K, and never above log K. At
    T = log p/q + constant it is that mutual information, which tends to KL as K grows.

    It is trained with all y of a minibatch for every x, K = m + 1, as is `value`. `estimate` cuts the points of y that
    the critic has not seen into blocks of K − 1, each for its own share of x; the value is the mean over blocks.

    Bound:
        lower, in expectation, on points that the critic was not trained on; never above log K.
    Rate:
        n^(−1/2) for the bound of a given critic and K; how far it lies below KL hangs on both.
    Interval:
        from the one-sided normal limit over blocks, which are independent, to infinity; refused for fewer than 20
        blocks and where one makes up more than 30% of the variance.
    Shapes:
        x (n, d), y (m, d); B problems, (B, n, d) and (B, m, d), with a stack of critics.
    Cost:
        one pass of the critic and O(n + m); `fit` and `estimate` train it (seconds).
    Gradients:
        in x, y and the critic's weights; that of a minibatch is the gradient of a bound, without bias.

    Args:
        critic: a network giving one value a point, T; an MLP is built from the data's shape where it is None.
        constraint: what keeps the critic smooth, such as `R1`; by default nothing.
        negatives: K − 1 in `estimate`; None cuts the new points of y into 50 blocks.

    Raises:
        ValueError: weights; more negatives than half of the new points of y; samples refused at the door.

    References: van den Oord, Li and Vinyals 2018, eq. (4) and appendix A.1, for pairs; Poole et al. 2019, section 2.3
    (the bound for K samples, and log K).

    Example:
        >>> import torch
        >>> x = torch.randn(2000, 1, generator=torch.Generator().manual_seed(1))
        >>> bound = InfoNCE().estimate(x + 1, x[:1000].flip(0), seed=0)  # the truth is 0.5
        >>> bound.bound, 0.2 < bound.interval[0] < 0.5
        ('lower', True)
    """

    divergence_name = "kl"
    pools = True  # the logarithm of a sum over y

    def __init__(
        self, critic: nn.Module | None = None, constraint: Constraint | None = None, negatives: int | None = None
    ) -> None:
        super().__init__()
        self.critic = critic
        self.constraint = constraint
        self.negatives = None if negatives is None else count(negatives, "negatives")
        self.blocks = BLOCKS
        self.constant: Tensor | None = None  # c of the log ratio T − c, (..., 1), set by `settle`

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """The bound with all y for every x."""
        critic = self.ready(s)
        if s.x_weights is not None or s.y_weights is not None:
            raise ValueError("InfoNCE takes no weights: a point is one of K, and is drawn or not")
        t, w = evaluate(critic, s.x), evaluate(critic, s.y)
        return guessed(t, w.logsumexp(-1, keepdim=True), w.shape[-1]).mean(-1)

    def pieces(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of the bound in each block, (blocks,), and as many zeros."""
        assert self.critic is not None  # `compute` refuses a missing critic
        size = self.block(y.shape[-2])
        blocks = min(y.shape[-2] // size, x.shape[-2])
        t, w = evaluate(self.critic, x), evaluate(self.critic, y)
        pooled = w[..., : blocks * size].unflatten(-1, (blocks, size)).logsumexp(-1)
        own = torch.arange(x.shape[-2], device=x.device) % blocks
        terms = guessed(t, pooled[..., own], size)
        sums = terms.new_zeros((*terms.shape[:-1], blocks)).index_add(-1, own, terms)
        means = sums / own.bincount(minlength=blocks)
        return means, torch.zeros_like(means)

    def block(self, m: int) -> int:
        """K − 1 where ``m`` points of y are cut into blocks, of which there are two at least."""
        return max(1, min(m // self.blocks if self.negatives is None else self.negatives, m // 2))

    def prepare(self, n: int) -> None:
        """Fewer blocks while the critic is trained."""
        self.blocks, self.constant = JUDGED, None

    def settle(self, s: Samples) -> None:
        """Keep the constant of the log ratio: e^(T − c) has mean 1 on the points of y that the critic has seen."""
        assert self.critic is not None
        self.blocks = BLOCKS
        with torch.no_grad():
            w = evaluate(self.critic, s.y)
            self.constant = w.logsumexp(-1, keepdim=True) - math.log(w.shape[-1])

    def take(self, index: int) -> None:
        """The constant of that problem."""
        self.constant = None if self.constant is None else self.constant[index]

    def log_ratio(self, points: Any) -> Any:
        """Log p/q at ``points``, (..., d), which is T − c: arrays give arrays, (...,), tensors tensors.

        The bound determines T up to c alone; c makes e^(T − c) have mean 1 on the y that the critic was fitted to.

        Raises:
            ValueError: the critic was not fitted.
        """
        if self.critic is None or self.constant is None:
            raise ValueError("InfoNCE has no fitted critic yet: call fit(x, y)")
        critic, constant = self.critic, self.constant
        return at_points(critic, points, lambda z: evaluate(critic, z) - constant)

    def on_new_points(self, s: Samples, generator: torch.Generator) -> tuple[CriticEstimator, Samples, tuple[str, ...]]:
        """New points in random order, so that blocks are alike however the points were sorted."""
        if s.x_weights is not None or s.y_weights is not None:
            raise ValueError("InfoNCE takes no weights: a point is one of K, and is drawn or not")
        new = len(s.y) if self.fitted else len(s.y) - round(2 / 3 * len(s.y))
        if self.negatives is not None and 2 * self.negatives > new:
            raise ValueError(f"negatives must be at most half of the {new} new points of y: got {self.negatives}")
        evaluated, test, notes = super().on_new_points(s, generator)
        x, y = (points[torch.randperm(len(points), generator=generator)] for points in (test.x, test.y))
        return evaluated, Samples(x, y, None, None), notes

    def batches(self, x: Tensor, y: Tensor) -> tuple[Tensor, int]:
        """For pairs (x_i, y_i) the mean of the bound in each batch of K, (batches,), and K.

        In a batch x_i has its own y_i to tell from the other y_j. Given x_i this is the bound of KL(P(y | x_i)‖P(y)),
        whose mean over x is the mutual information. The pairs must be in random order, and share no rows with training.
        """
        assert self.critic is not None  # trained by the caller
        K = min(self.block(len(x)) + 1, len(x) // 2)
        diagonal, means = torch.eye(K, dtype=torch.bool), []
        with judging(self.critic):
            for start in range(0, len(x) - K + 1, K):
                u, v = x[start : start + K], y[start : start + K]
                pairs = torch.cat([u.repeat_interleave(K, 0), v.repeat(K, 1)], 1)
                T = evaluate(self.critic, pairs).reshape(K, K)
                others = T.masked_fill(diagonal, -math.inf).logsumexp(1)
                means.append(guessed(T.diagonal(), others, K - 1).mean())
        return torch.stack(means), K

    def bounded(self, found: Inference, confidence: float, test: Samples, shape: Shape) -> Inference:
        """The lower bound from blocks of new points."""
        size = self.block(len(test.y))
        blocks = min(len(test.y) // size, len(test.x))
        return self.limited(found, confidence, test, shape, size + 1, blocks)

    def limited(
        self, found: Inference, confidence: float, test: Samples, shape: Shape, K: int, blocks: int
    ) -> Inference:
        """The lower bound; notes tell K, and where the value is near its logarithm."""
        notes = (*found.notes, f"{blocks} blocks of K = {K}")
        if found.value > math.log(K) - NEAR:
            notes += (f"the bound cannot exceed log K = {math.log(K):.3g}: the divergence may be far larger",)
        if blocks < FEWEST_BLOCKS:
            why = f"no interval: {blocks} blocks show no spread, {FEWEST_BLOCKS} are needed"
            return found._replace(notes=(*notes, why))
        return super().bounded(found._replace(notes=notes), confidence, test, shape)


def guessed(t: Tensor, pooled: Tensor, negatives: int) -> Tensor:
    """Log K + log [e^t/(e^t + Σ_j e^w_j)], where ``pooled`` is log Σ_j e^w_j over the K − 1 negatives."""
    return math.log(negatives + 1) - softplus(pooled - t)
