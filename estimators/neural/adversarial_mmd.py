"""MMD with a kernel that a critic learns: the loss of MMD-GAN."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from divergences import kernels
from estimators.base import Inference
from estimators.door import Samples
from estimators.kernel.mmd import MMD
from estimators.kernel.witness import witness
from estimators.neural.constraints import Constraint, WeightClipping
from estimators.neural.critic_estimator import CriticEstimator, Metrics
from estimators.neural.critics import Standardize, judging, mlp, readable
from estimators.ops import pairwise
from estimators.space import Space

KERNEL = 5.0 * kernels.Gaussian([1.0, 2.0, 4.0, 8.0, 16.0])  # the authors' kernel, the sum of five


class AdversarialMMD(CriticEstimator):
    """MMD² of the kernel k(φ(x), φ(y)), with a network φ that is trained to make it large.

    The value is the unbiased statistic of `MMD` on φ(x) and φ(y). The critic maximises, and the model minimises, the
    root of the biased statistic (the unbiased one may be negative). MMD-GAN's auto-encoder terms and its hinge on the
    means of the codes are not part of it.

    A penalty, where the constraint is one, is on the witness w(u) = E_P k(φ(u), φ(x)) − E_Q k(φ(u), φ(y)), the critic
    function of this game (Bińkowski et al. 2018).

    Bound:
        unbiased, on points that φ was not trained on, for MMD² of this one kernel k∘φ: 0 where P = Q, and below the
        supremum over φ. Its scale is that of φ: values of two trainings, or of other kernels, do not compare.
    Rate:
        n^(−1/2) for a given φ, and n^(−1) at P = Q.
    Interval:
        that of `MMD` on the codes of points that φ has not seen, for which φ is a fixed map; refused where `MMD`
        refuses it.
    Shapes:
        x (n, d), y (m, d); one problem.
    Cost:
        one pass of the critic and O((n + m)²) kernel values; `fit` and `estimate` train it (seconds).
    Gradients:
        in x, y and the critic's weights.

    Args:
        critic: a network φ, (n, d) to (n, code); an MLP with 16 outputs is built from the data's shape where it is
            None.
        kernel: a name, an object of `divergences.kernels`, or a callable, on the codes; by default the paper's, the sum
            of five Gaussian kernels with bandwidths 1, 2, 4, 8, 16.
        constraint: by default the paper's `WeightClipping(0.01)`, which keeps φ, and so the value, small.

    Raises:
        ValueError: an unknown kernel; a critic that does not give a vector a point.

    References: Li et al. 2017, section 3 and Algorithm 1; Bińkowski et al. 2018 (the penalty on the witness).

    Example:
        >>> import torch
        >>> x = torch.randn(600, 2, generator=torch.Generator().manual_seed(1))
        >>> found = AdversarialMMD().fit(x[:300] + 1, x[:300], steps=100).estimate(x[300:] + 1, x[300:])
        >>> found.bound, found.interval[0] > 0
        ('unbiased', True)
    """

    divergence_name = "mmd"
    bound = "unbiased"
    pools = True
    stacks = False
    default_constraint = WeightClipping(0.01)

    def __init__(
        self, critic: nn.Module | None = None, kernel: Any = KERNEL, constraint: Constraint | None = None
    ) -> None:
        super().__init__()
        self.unbiased = MMD(kernel)
        self.root = MMD(kernel, "biased", squared=False)
        self.kernel = kernel
        self.critic = critic
        self.constraint = constraint

    def build(self, space: Space, generator: torch.Generator | None) -> nn.Module:
        """φ: data in standard units, two leaky layers of 256, sixteen values."""
        return nn.Sequential(Standardize(space), mlp(space.dim, 16, slope=0.2, generator=generator))

    def coded(self, s: Samples) -> Samples:
        """``s`` with φ(x) and φ(y) for x and y, in the precision of φ."""
        phi = self.ready(s)
        x, y = _codes(phi, s.x), _codes(phi, s.y)
        w, v = (weights if weights is None else weights.to(x) for weights in (s.x_weights, s.y_weights))
        return Samples(x, y, w, v, s.notes)

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """The unbiased statistic of the codes."""
        return self.unbiased.compute(self.coded(s), generator)

    def pieces(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """w(x) and w(y), the witness without the point itself: E_P w − E_Q w is the unbiased statistic."""
        codes = self.coded(Samples(x, y, None, None))
        values = witness(self.unbiased.resolved_kernel(codes), codes, None).values
        return values[: len(x)], values[len(x) :]

    def objective(self, s: Samples, generator: torch.Generator | None) -> tuple[Tensor, Metrics]:
        """−√MMD², biased."""
        root = self.model_loss(s, generator)
        return -root, {"value": root.detach().square()}

    def model_loss(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """√MMD², biased: whichever side moves is drawn to the other."""
        return self.root.compute(self.coded(s), generator)

    def penalized(self, s: Samples) -> nn.Module:
        """The witness of ``s``."""
        return _Witness(self, s)

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """`MMD` on the codes of points that φ has not seen."""
        evaluated, test, notes = self.on_new_points(s, generator)
        assert isinstance(evaluated, AdversarialMMD)  # a copy of this one
        with judging(evaluated.ready(test)):
            codes = evaluated.coded(test)
        # MMD's variance needs float64; and the weights as they were given, which sum to 1
        found = self.unbiased.infer(test._replace(x=codes.x.double(), y=codes.y.double()), confidence, generator)
        note = "MMD² of the kernel on the codes of this φ: its scale is that of φ, and other trainings do not compare"
        return found._replace(notes=(*notes, *found.notes, note))


class _Witness(nn.Module):
    """w(u) of the codes of a sample, (n,), for penalties; nothing is computed before it is called."""

    def __init__(self, estimator: AdversarialMMD, s: Samples) -> None:
        super().__init__()
        self.estimator, self.s = estimator, s

    def forward(self, points: Tensor) -> Tensor:
        codes = self.estimator.coded(self.s)
        kernel = self.estimator.unbiased.resolved_kernel(codes)
        u = _codes(self.estimator.ready(self.s), points)
        near_x, near_y = (pairwise.row_sums(kernel, u, part) / len(part) for part in (codes.x, codes.y))
        return near_x - near_y


def _codes(phi: nn.Module, points: Tensor) -> Tensor:
    """φ at each point, (n, code)."""
    codes = phi(readable(phi, points))
    if codes.ndim != 2 or len(codes) != len(points):
        raise ValueError(
            f"the critic must give a vector a point, ({len(points)}, code): got shape {tuple(codes.shape)}"
        )
    return codes
