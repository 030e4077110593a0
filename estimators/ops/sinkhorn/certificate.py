"""What a dual value of entropic transport is worth: the cost of a feasible plan that is not stored."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def certified(
    a: Tensor,
    b: Tensor,
    f: Tensor,
    g: Tensor,
    best: Tensor,
    columns: Tensor,
    epsilon: Tensor,
    rho: Tensor | None,
    row_sums: Callable[[Tensor], Tensor],
    row_costs: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """The dual value at f and the g that is exact for it, ``best``, and how much more a feasible plan costs, (...,).

    The plan π at (f, g), f (..., n) and g (..., m), has exact rows and the sums ``columns``. For exact marginals its
    columns above b are cut to b, and what is then missing, r of the rows and c of the columns, t in all, is moved
    independently: π' + r⊗c/t. Of ⟨C, π'⟩ + ε Σ π' log(π'/ab) is left ⟨f + g + ε log cut, π'⟩, and the entropy of a
    mixture is at most that of its parts and of the mixing. ``row_sums`` of weights w are Σ_j w_j exp((f_i + g_j −
    c_ij)/ε), ``row_costs`` Σ_j w_j c_ij. All in float64.
    """
    if rho is not None:
        r = rho[..., None]
        value = -rho * ((torch.expm1(-f / r) * a).sum(-1) + (torch.expm1(-best / r) * b).sum(-1))
        value -= epsilon * (((-best / r).exp() * b).sum(-1) - 1)
        rows = a * (-f / r).exp()
        cost = (f * rows).sum(-1) + (g * columns).sum(-1) - epsilon * (rows.sum(-1) - 1)
        for p, q in ((rows, a), (columns, b)):
            cost += rho * (torch.xlogy(p, p / q).nan_to_num(0.0) - p + q).sum(-1)
        return value, cost - value
    value = (f * a).sum(-1) + (best * b).sum(-1)
    cut = torch.where(columns > b, b / columns, 1.0)
    r = a * row_sums(b * (1 - cut))
    kept = columns * cut
    c = b - kept
    cost = (f * (a - r)).sum(-1) + ((g + epsilon[..., None] * cut.log()) * kept).sum(-1)
    t = c.sum(-1)
    rest = (r * row_costs(c)).sum(-1) / t - epsilon * torch.special.xlog1py(1 - t, -t)
    for p, q in ((r, a), (c, b)):
        rest += epsilon * torch.xlogy(p, p / (t[..., None] * q)).nan_to_num(0.0).sum(-1)
    return value, cost + torch.where(t > 0, rest, 0.0) - value
