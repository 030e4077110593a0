"""`nearest` by torch on any device: all distances of some queries at once, in float64.

For ℓ2 they are first taken from products. With a = x − c and b = y − c around a centre c and u = 2^−53, what products
give for ‖x − y‖², T = ‖a‖² + ‖b‖² − 2ab, differs from what differences give by at most

    e = 2(d + 8) u (‖a‖ + ‖b‖)²,

which is (d + 3)u for the sums of d products and for adding three of them, 2u for a and b, (d + 2)u for differences, and
some more. The k-th smallest is at most T_(k) + e, so that the k nearest have T <= T_(k) + 2e. Where the next T after
some more than k is larger, these are ranked by differences; where it is not, as among many ties, all are.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from estimators.ops.knn.reference import ORDERS

TILE = 2**20  # distances held at once: 8 MB
SPARE = 8  # candidates beyond k
UNIT = 2.0**-53

Found = tuple[Tensor, Tensor]


def nearest(
    points: Tensor, queries: Tensor, k: int, metric: str, exclude_self: bool, itself: Tensor | None = None
) -> Found:
    """The distances (..., q, k), increasing, in the points' dtype, and the indices; equal ones by index.

    ``itself`` (q,) says which points the queries are where they are some of these.
    """
    lead = torch.broadcast_shapes(points.shape[:-2], queries.shape[:-2])
    (n, d), q = points.shape[-2:], queries.shape[-2]
    distance = points.new_empty(*lead, q, k)
    index = torch.empty(*lead, q, k, dtype=torch.int64, device=points.device)
    rows = max(1, TILE // max(1, lead.numel() * n))
    y = points.double().expand(*lead, n, d)
    centred = _Centred.of(y) if metric == "euclidean" and (k + SPARE) * d < n else None
    for start in range(0, q, rows):
        part = slice(start, start + rows)
        x = queries[..., part, :].double().expand(*lead, -1, d)
        own = None
        if exclude_self:
            which = torch.arange(start, start + x.shape[-2], device=x.device) if itself is None else itself[part]
            own = which[:, None] == torch.arange(n, device=x.device)
        found = None if centred is None else centred.nearest(x, y, k, own)
        distance[..., part, :], index[..., part, :] = found or _by_differences(x, y, k, metric, own)
    return distance, index


class _Centred(NamedTuple):
    """Points less their centre, and what all queries need of them."""

    centre: Tensor
    b: Tensor  # (..., d, n)
    b2: Tensor  # (..., 1, n)

    @classmethod
    def of(cls, y: Tensor) -> _Centred:
        centre = y.mean(-2, keepdim=True)
        b = y - centre
        return cls(centre, b.mT, b.square().sum(-1).unsqueeze(-2))

    def nearest(self, x: Tensor, y: Tensor, k: int, own: Tensor | None) -> Found | None:
        """The neighbours, or None where the candidates may not have all of them."""
        a, d = x - self.centre, x.shape[-1]
        a2 = a.square().sum(-1, keepdim=True)
        T = (a @ self.b).mul_(-2).add_(self.b2).add_(a2)
        if own is not None:
            T.masked_fill_(own, torch.inf)
        least = T.topk(k + SPARE, -1, largest=False)
        e = 2 * (d + 8) * UNIT * (a2.sqrt() + self.b2.amax(-1, keepdim=True).sqrt()).square()
        if not bool((least.values[..., -1:] > least.values[..., k - 1 : k] + 2 * e).all()):  # true of no NaN
            return None
        index = least.indices.sort(-1).values
        flat = index.flatten(-2).unsqueeze(-1).expand(*index.shape[:-2], -1, d)
        gap = x.unsqueeze(-2) - y.gather(-2, flat).unflatten(-2, index.shape[-2:])
        D, order = torch.linalg.vector_norm(gap, dim=-1).sort(dim=-1, stable=True)
        return D[..., :k], index.gather(-1, order[..., :k])


def _by_differences(x: Tensor, y: Tensor, k: int, metric: str, own: Tensor | None) -> Found:
    D = torch.cdist(x, y, ORDERS[metric], compute_mode="donot_use_mm_for_euclid_dist")
    return smallest(D if own is None else D.masked_fill(own, torch.inf), k)


def smallest(D: Tensor, k: int) -> Found:
    """The k smallest of each row, increasing, and where they are; of equal ones the first."""
    worst = D.topk(k, -1, largest=False).values[..., -1:]  # which of equal ones it takes, topk leaves open
    taken = D <= worst
    if int(taken.count_nonzero()) > worst.numel() * k:
        below, tied = D < worst, D == worst
        taken = below | (tied & (tied.cumsum(-1) <= k - below.sum(-1, keepdim=True)))
    index = taken.nonzero()[:, -1].reshape(*D.shape[:-1], k)
    distance, order = D.gather(-1, index).sort(dim=-1, stable=True)
    return distance, index.gather(-1, order)
