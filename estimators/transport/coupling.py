"""What a transport solver found: the plan, the potentials that certify it, and the map it induces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from estimators.base import same_kind
from estimators.door import check_finite, tensor


@dataclass(frozen=True, repr=False)
class Coupling:
    """A plan Γ of one transport problem with its dual potentials.

    Attributes:
        plan: Γ (n, m); its marginals are the weights.
        f: dual potential on x, (n,).
        g: dual potential on y, (m,); f_i + g_j ≤ c_ij for an exact plan.
        value: the optimal cost, not rooted and not debiased.
        bounds: dual and primal value of feasible potentials and a feasible plan: the optimum lies between them.
        converged: whether the solver reached its tolerance.

    Example:
        >>> import estimators as est
        >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [2.0]])
        >>> est.EMD(2).coupling(x, y).map()
        tensor([[2.],
                [3.]], dtype=torch.float64)
    """

    plan: Any
    f: Any
    g: Any
    value: float
    bounds: tuple[float, float]
    converged: bool
    _project: Callable[[Tensor | None], Tensor]

    def __repr__(self) -> str:
        n, m = self.plan.shape
        end = "converged" if self.converged else f"not converged, the optimum lies in {self.bounds}"
        return f"Coupling(n={n}, m={m}, value={self.value:.6g}, {end})"

    def map(self, points: Any = None) -> Any:
        """The barycentric map: for each point of x the mean of y under its row of the plan, (n, d).

        With ``points`` (k, d) the map is read off the potential g, so that it exists off the sample as well: the
        entropic map Σ_j y_j b_j e^((g_j − c(z, y_j))/ε) / Σ_j b_j e^((g_j − c(z, y_j))/ε), and for an exact plan its
        limit, y_j with the least c(z, y_j) − g_j.

        Raises:
            ValueError: points that are not finite, or not of shape (k, d).

        References: Pooladian and Niles-Weed 2021, eq. (6).
        """
        if points is None:
            return self._project(None) if isinstance(self.plan, Tensor) else self._project(None).numpy()
        z = tensor(points, "points").detach().double()
        if z.ndim != 2:
            raise ValueError(f"points must be (k, d): got shape {tuple(z.shape)}")
        check_finite(z, "points")
        return same_kind(self._project(z), points)


def projection(
    plan: Tensor, y: Tensor, b: Tensor, g: Tensor, cost: Callable[[Tensor], Tensor], epsilon: float | None
) -> Callable[[Tensor | None], Tensor]:
    """The map of a `Coupling`; ``cost`` gives c(z, y_j), (k, m), and no ``epsilon`` means an exact plan."""

    def project(z: Tensor | None) -> Tensor:
        if z is None:
            mass = plan.sum(-1, keepdim=True)  # 0 for a point without weight, which is not moved anywhere
            return torch.where(mass > 0, plan @ y / torch.where(mass > 0, mass, 1.0), torch.nan)
        if z.shape[-1] != y.shape[-1]:
            raise ValueError(f"points must have {y.shape[-1]} coordinates: got shape {tuple(z.shape)}")
        score = torch.where(b > 0, g, -torch.inf) - cost(z)
        if epsilon is None:
            return y[score.argmax(-1)]
        return torch.softmax(score / epsilon + b.log(), -1) @ y

    return project
