"""What `by_distance` takes means of, by torch where the points are: for GPUs, where going to the CPU takes longest.

Samples with ties, or that may have to be refused, are left to the CPU, which looks at all of a sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy.special import digamma, gammaln
from torch import Tensor

from estimators.classical.neighbors import DISCRETE, SINGULAR, refuse_discrete
from estimators.classical.targets import Side
from estimators.ops import knn

SOME = 512  # points that are looked at on the CPU: no sample has fewer values than a part of it
AT_ONCE = 2**16  # points whose hashes are taken


def total(x: Tensor, y: Tensor, sides: Sequence[Side], ks: tuple[int, int], metric: str) -> float | None:
    """The value of D_f from distances to the neighbours ks = (k_x, k_y), or None where the CPU has to decide."""
    if any(_is_suspect(points) for points in (x, y)):
        return None
    x, y = (p if p.dtype in (torch.float32, torch.float64) else p.float() for p in (x, y))
    value = 0.0
    for swapped, power, scale in sides:
        found = _mean(y, x, ks[::-1], power, metric) if swapped else _mean(x, y, ks, power, metric)
        if found is None:
            return None
        value += scale * (found - (power != 1))
    return value


def _mean(a: Tensor, b: Tensor, ks: tuple[int, ...], power: float, metric: str) -> float | None:
    """The mean of the terms of `by_distance.side`, in float64; None where a distance is 0."""
    (n, d), m, (k_a, k_b), beta = a.shape, len(b), ks, power - 1
    rho = knn.nearest(a, a, k_a, metric=metric, exclude_self=True)[0].double()
    nu = knn.nearest(b, a, k_b, metric=metric)[0].double()
    log_r = d * (nu[:, -1].log() - rho[:, -1].log()) + math.log(m / (n - 1))
    if beta:
        log_b = gammaln(k_a) - gammaln(k_a - beta) + gammaln(k_b) - gammaln(k_b + beta)
        terms = torch.exp(beta * log_r + log_b)
    else:
        terms = log_r + (digamma(k_a) - digamma(k_b))
    nearest = torch.minimum(rho[:, 0], nu[:, 0]).min()
    mean, least = torch.stack([terms.mean(), nearest]).tolist()
    return mean if least > 0 and math.isfinite(mean) else None  # a distance in single precision may overflow


def _is_suspect(points: Tensor) -> bool:
    """Whether `refuse_discrete` or `refuse_flat` may refuse them."""
    n, d = points.shape
    some = points[:: max(1, n // SOME)].cpu().double().numpy()
    try:
        refuse_discrete(some, some, "")
    except ValueError:
        return True
    if _is_flat(points):
        return True
    r = torch.linspace(1, 2, d, dtype=torch.float64, device=points.device).sqrt()  # equal points have equal hashes
    hashes = torch.cat([(part.double() * r).sum(-1) for part in points.split(AT_ONCE)])
    return 1 - len(hashes.unique()) / n > DISCRETE


def _is_flat(points: Tensor) -> bool:
    """Whether `refuse_flat` refuses them, or nearly."""
    n, d = points.shape
    if n <= d or d == 1:
        return False
    mean = points.mean(0, dtype=torch.float64)
    moments = torch.zeros(d, d, dtype=torch.float64, device=points.device)
    for part in points.split(AT_ONCE):
        moments += (part - mean).mT @ (part - mean)
    moments = moments.cpu() / n
    spread = moments.diagonal().sqrt()
    if not bool((spread > 0).all()):  # false for NaN
        return True
    return float(torch.linalg.eigvalsh(moments / (spread[:, None] * spread))[0]) < 10 * SINGULAR
