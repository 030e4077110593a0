"""Uncertainty from dual potentials: the derivative of a transport cost in its weights is its influence function.

With f on x and g on y the cost fluctuates as Σ f(x_i)/n + Σ g(y_j)/m does, whose variance is the spread of the
potentials. References: del Barrio and Loubes 2019, theorem 4.1; del Barrio, Gordaliza and Loubes 2019 (the line); del
Barrio et al. 2023 (entropic); Xi and Niles-Weed 2022 (sliced).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from tqdm import tqdm

from estimators import intervals, scale
from estimators.base import Inference, variance_of_mean
from estimators.door import Samples
from estimators.kernel.energy import tail_index
from estimators.transport.ground_costs import weights_of

FEWEST = 8  # points a side
HEAVY = (
    0.3  # share of the variance in one point beyond which the limit is not normal yet; of 200 normal points about 4%
)
KNOWN = 20  # degrees of freedom: with fewer the error is itself a matter of which far points were drawn
SPLITS = 2  # of each sample


def potentials(cost: Callable[[Samples], Tensor], s: Samples) -> tuple[Tensor, Tensor]:
    """The derivatives f (n,) and g (m,) of ``cost`` in the weights of ``s``, up to constants."""
    with torch.enable_grad():
        a, b = (w.detach().clone().requires_grad_() for w in weights_of(s))
        f, g = torch.autograd.grad(cost(Samples(s.x.detach(), s.y.detach(), a, b)), (a, b))
    return f, g


def standard_error(f: Tensor, g: Tensor, s: Samples) -> float:
    """The standard error of a cost with potentials f and g."""
    return math.sqrt(sum(variance_of_mean(h, w) for h, w in ((f, s.x_weights), (g, s.y_weights))))


def degrees(f: Tensor, g: Tensor, s: Samples) -> float:
    """The degrees of freedom of `standard_error`."""
    return intervals.degrees_of_freedom(*_effects(f, g, s))


def refusal(f: Tensor, g: Tensor, s: Samples, moments: float) -> str | None:
    """Why no normal limit may be used, if so.

    There are too few points, they or the potentials do not vary, x and y have the same ones, few of them make up the
    variance, or the tail is so heavy that ``moments`` seem to be missing: a potential grows as the cost does, so that
    its variance takes twice its order.
    """
    if min(len(s.x), len(s.y)) < FEWEST:
        return f"no interval: needs at least {FEWEST} points a side"
    for name, w in (("x", s.x_weights), ("y", s.y_weights)):
        if w is not None and int((w > 0).sum()) < FEWEST:
            return f"no interval: the weight of {name} lies on fewer than {FEWEST} points"
    if (why := scale.constant(s)) is not None:
        return why
    if s.x_weights is None and s.y_weights is None:
        (x, x_counts), (y, y_counts) = (torch.unique(p, dim=0, return_counts=True) for p in (s.x, s.y))
        if torch.equal(x, y) and torch.equal(x_counts * len(s.y), y_counts * len(s.x)):
            return "no interval: x and y have the same points, from which no sampling error can be seen"
    if not any(_varies(h) for h in (f, g)):
        return "no interval: the potentials do not vary beyond rounding, so that no sampling error can be seen"
    effects = _effects(f, g, s)
    for name, e in zip("xy", effects, strict=True):
        share = intervals.largest_share(e)
        if share > HEAVY:
            return f"no interval: one point of {name} makes up {share:.0%} of its variance, so the limit is not normal"
    known = intervals.degrees_of_freedom(*effects)
    if known < KNOWN:
        return (
            f"no interval: few points make up most of the variance, which is known as if from {known:.2g} normal ones, "
            "so the limit is not normal"
        )
    index, doubt = tail_index(s)
    if index < moments * (1 - doubt):
        return (
            f"no interval: the tail of the points has an estimated index of {index:.2g} ± {index * doubt:.1g}; a "
            f"normal limit takes moments of order {moments:g}"
        )
    return None


def _varies(h: Tensor) -> bool:
    """Whether potentials, which are sums of as many costs, differ by more than the rounding of those."""
    return float(h.amax() - h.amin()) > len(h) * torch.finfo(h.dtype).eps * float(h.abs().amax())


@contextmanager
def counted(cost: Callable[[Samples], float], total: int, name: str) -> Iterator[Callable[[Samples], float]]:
    """``cost``, which shows how many of ``total`` calls are done where they take long."""
    with tqdm(total=total, desc=name, delay=2, leave=False) as bar:

        def call(s: Samples) -> float:
            found = cost(s)
            bar.update()
            return found

        yield call


def between_halves(cost: Callable[[Samples], float], s: Samples, seed: int) -> float:
    """The mean cost between two random halves of x and between two of y: what samples of one law show.

    For independent copies P' of P and Q' of Q the upward bias of a transport cost between P and Q is about at most the
    mean of those from P to P' and from Q to Q': both plans composed are a plan, and a product is at most the mean of
    squares. That halves are smaller makes it larger still; unlike an extrapolation from halves to the whole it needs no
    rate, and in many dimensions there is none to be seen.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for points, weights in ((s.x, s.x_weights), (s.y, s.y_weights)):
        for _ in range(SPLITS):
            first, second = torch.randperm(len(points), generator=generator).tensor_split(2)
            w, v = (None if weights is None else weights[k] / weights[k].sum() for k in (first, second))
            found.append(cost(Samples(points[first], points[second], w, v)))
    return math.fsum(found) / len(found)


def limits(
    value: float, stderr: float, bias: float, confidence: float, degrees: float, least: float = 0.0
) -> Inference:
    """The interval of a cost whose bias is upwards, also where P = Q.

    The limits are value − bias − t·stderr, but at least ``least``, and value + t·stderr: transport between samples
    costs more than between laws, so that the bias, however large, moves the lower limit only.
    """
    half = intervals.half_width(stderr, confidence, degrees)
    below, above = max(bias, 0.0), max(-bias, 0.0)
    if not math.isfinite(bias):
        return Inference(value, stderr, None, ("no interval: the bias could not be probed on half of the points",))
    low, high = max(value - half - below, least), value + half + above
    note = f"interval: normal limit of the potentials, widened by an estimated bias of {bias:.3g}"
    if below > half:
        note += f", more than the sampling error of {half:.3g}"
    if low == least:
        note += f"; it reaches {least:g}, where the limit is one-sided"
    return Inference(value, stderr, (low, high), (note,))


def _effects(f: Tensor, g: Tensor, s: Samples) -> tuple[Tensor, Tensor]:
    """What each point adds to the cost, centred."""
    a, b = weights_of(s)
    return a * (f - (a * f).sum()), b * (g - (b * g).sum())
