"""W_p by the way that fits the dimension: sorting, the exact plan, or the best affine map."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from estimators.base import Estimator, Inference
from estimators.door import Samples
from estimators.transport.affine_wasserstein import AffineWasserstein
from estimators.transport.coupling import Coupling
from estimators.transport.emd import EMD
from estimators.transport.ground_costs import check_order

FEW = 3  # dimensions up to which the error of the exact plan, n^(−1/d), can be small


class Wasserstein(Estimator):
    """W_p of two laws, by `EMD` in up to three dimensions and, for order 2, by `AffineWasserstein` beyond.

    The exact plan of two samples exceeds W_p by about n^(−1/d), which in ten dimensions is most of the value. For order
    2 means and covariances give a value without that bias, which is W₂ where an affine map takes P to Q and a lower
    bound otherwise. An estimate of order 2 tries the affine map first from two dimensions on, and returns to the exact
    plan where the map is rejected and there are at most three; the notes say which it was and why.

    Bound: of `EMD` upper, of `AffineWasserstein` consistent or lower; `Estimate.bound` says it.
    Rate: of the estimator taken.
    Shapes: x (..., n, d), y (..., m, d), value (...,).
    Cost: that of the estimator taken.
    Gradients: in x, y and the weights, as of the estimator taken.
    Interval: of the estimator taken, or refused with its reason.

    Raises:
        ValueError: order below 1 or infinite.

    References: Fournier and Guillin 2015, theorem 1 (the bias); Gelbrich 1990, theorem 2.1 (the bound).

    Example:
        >>> x = torch.randn(200, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> round(Wasserstein(2)(x, x + 1.0).item(), 1), round(EMD(2)(x[:100], x[100:]).item(), 1)  # √10, 0
        (3.1, 2.7)
    """

    divergence_name = "wasserstein"

    def __init__(self, order: float = 1, rooted: bool = True) -> None:
        super().__init__()
        self.order = check_order(order)
        self.rooted = rooted

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """The value of `EMD` in up to three dimensions or of another order than 2, else of `AffineWasserstein`."""
        beyond = self.order == 2 and s.x.shape[-1] > FEW
        return (AffineWasserstein(self.rooted) if beyond else self._exact()).compute(s, generator)

    def coupling(self, x: Any, y: Any, x_weights: Any = None, y_weights: Any = None) -> Coupling:
        """The exact plan of the two samples, that of `EMD`, in every dimension."""
        return self._exact().coupling(x, y, x_weights, y_weights)

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """The inference of the estimator that fits, and why it was taken."""
        d, exact = s.x.shape[-1], self._exact()
        if d == 1 or self.order != 2 or min(len(s.x), len(s.y)) < d + 2:
            found = exact.infer(s, confidence, generator)
            why = "EMD, the exact plan" + (", by sorting" if d == 1 else "")
            if d > FEW and self.order == 1:
                why += "; a KantorovichRubinstein critic gives a lower bound"
            return found._replace(notes=(*found.notes, why), bound=found.bound or exact.bound)
        affine = AffineWasserstein(self.rooted)
        found = affine.infer(s, confidence, generator)
        if found.interval is None and d <= FEW:
            found = exact.infer(s, confidence, generator)
            why = f"EMD: the affine map was not confirmed, and in {d} dimensions the exact plan can do"
            return found._replace(notes=(*found.notes, why), bound=exact.bound)
        why = f"AffineWasserstein: in {d} dimensions the exact plan of two samples is biased by about n^(−1/{d})"
        return found._replace(notes=(*found.notes, why), bound=found.bound or affine.bound)

    def _exact(self) -> EMD:
        return EMD(self.order, rooted=self.rooted)
