"""Laws of estimators from samples, ``estimator(x, y)`` with x (..., n, d) and y (..., m, d), and of `estimate`."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

from divergences.testing.law import Claim, Example, Scope, at_most, equal, law, same
from divergences.testing.simplex import bounds
from divergences.testing.strategies import Strategy
from divergences.testing.subject import Broken, Subject, array, described

ON = "samples"
BOUNDS = ("lower", "upper", "unbiased", "consistent", "exact")


@dataclass(frozen=True)
class Samples:
    """x ~ N(0, I), (n, d), and y ~ N(½, 0.8² I), (m, d), both drawn with ``seed``: iterating gives x and y.

    ``kind`` is "torch" (float64 tensors) or "numpy".

    Example:
        >>> x, y = Samples(3, 2, 1, seed=0)
        >>> x.shape, y.dtype
        (torch.Size([3, 1]), torch.float64)
    """

    n: int
    m: int
    d: int
    seed: int
    kind: str = "torch"

    def __iter__(self) -> Iterator[Any]:
        return iter(self.batch())

    def batch(self, *lead: int) -> tuple[Any, Any]:
        """Return x (*lead, n, d) and y (*lead, m, d)."""
        g = np.random.default_rng(self.seed)
        x = g.normal(size=(*lead, self.n, self.d))
        y = 0.5 + 0.8 * g.normal(size=(*lead, self.m, self.d))
        return (torch.as_tensor(x), torch.as_tensor(y)) if self.kind == "torch" else (x, y)

    def __repr__(self) -> str:
        kind = "" if self.kind == "torch" else f", kind={self.kind!r}"
        return f"testing.Samples({self.n}, {self.m}, {self.d}, seed={self.seed}{kind})"


def sampled(scope: Scope) -> Strategy[Example]:
    """Samples of any size in the scope; few and equally many first."""
    sizes = st.integers(*bounds(scope.n))
    return st.tuples(sizes, sizes, st.integers(*bounds(scope.d)), st.integers(0, 999)).map(
        lambda drawn: {"sample": Samples(*drawn, kind=scope.kind)}
    )


def equally_many(scope: Scope) -> Strategy[Example]:
    """Samples with n = m."""
    return sampled(scope).map(
        lambda e: {"sample": Samples(e["sample"].n, e["sample"].n, e["sample"].d, e["sample"].seed, e["sample"].kind)}
    )


@law(
    "D(x[i], y[j]) = D(x, y) for any orders i, j",
    "every estimator but linear-time and block statistics",
    on=ON,
    examples=sampled,
    call="x, y",
    groups="estimator",
)
def order_of_points(D: Subject, sample: Samples) -> Iterator[Claim]:
    """Check that the order of points does not matter."""
    x, y = sample
    i, j = (np.random.default_rng(sample.seed).permutation(len(z)) for z in (x, y))
    yield equal("D(x[i], y[j])", D(x[i], y[j]), "D(x, y)", D(x, y))


@law(
    "D of a batch (2, n, d), (2, m, d) = the values of its problems",
    "estimators that take leading axes; not those with a critic",
    on=ON,
    examples=sampled,
    call="x, y",
    groups="estimator",
)
def batch_is_loop(D: Subject, sample: Samples) -> Iterator[Claim]:
    """Check that leading axes are independent problems."""
    x, y = sample.batch(2)
    found = D.raw(x, y)
    values = array(found)
    if values is None or values.shape != (2,):
        raise Broken(
            f"D of a batch, {tuple(x.shape)} and {tuple(y.shape)}, returned {described(found)}: (2,) is needed"
        )
    for k in range(2):
        yield equal(f"D(x, y)[{k}], x, y = sample.batch(2)", float(values[k]), f"D(x[{k}], y[{k}])", D(x[k], y[k]))


@law(
    "numpy in, a float or numpy array out; torch in, a tensor of the same dtype out, with the same value",
    "estimators that take both kinds",
    on=ON,
    examples=sampled,
    call="x, y",
    groups="estimator",
)
def same_kind(D: Subject, sample: Samples) -> Iterator[Claim]:
    """Check what comes out."""
    x, y = (torch.as_tensor(z) for z in sample)
    for dtype in (torch.float64, torch.float32):
        found = D.raw(x.to(dtype), y.to(dtype))
        yield same(f"type of D(x, y) for {dtype}", _kind(found), f"tensor, {dtype}")
    found = D.raw(x.numpy(), y.numpy())
    numbers = isinstance(found, float | np.floating | np.ndarray)
    yield same("D(x.numpy(), y.numpy()) is a float or array", numbers, True)
    yield equal("D(x.numpy(), y.numpy())", D(x.numpy(), y.numpy()), "D(x, y)", D(x, y))


def _kind(value: Any) -> str:
    return f"tensor, {value.dtype}" if isinstance(value, Tensor) else type(value).__name__


@law(
    "D(x, y), and estimate with a seed, change neither their inputs nor the global random state",
    "every estimator",
    on=ON,
    examples=sampled,
    call="x, y",
    groups="estimator",
)
def no_side_effects(D: Subject, sample: Samples) -> Iterator[Claim]:
    """Check the random states of torch, numpy and Python; inputs are checked in every call of every law."""
    x, y = sample
    before = _random_states()
    D.raw(x, y)
    yield same("global random states changed by D(x, y)", _changed(before), [])
    if hasattr(D.function, "estimate"):
        estimated(D, x, y, seed=1)
        yield same("global random states changed by D.estimate(x, y, seed=1)", _changed(before), [])


def _random_states() -> dict[str, Any]:
    numpy_state = np.random.get_state()
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": [np.asarray(part).tolist() for part in numpy_state],
        "random": random.getstate(),
    }


def _changed(before: dict[str, Any]) -> list[str]:
    return [name for name, state in _random_states().items() if state != before[name]]


@law(
    "D in float32 = D in float64 of the same rounded points, within 1e-4 of the larger of |D| and 1",
    "every estimator",
    on=ON,
    examples=sampled,
    call="x, y",
    groups="estimator",
)
def float32(D: Subject, sample: Samples) -> Iterator[Claim]:
    """Check that single precision loses no more than it must."""
    x, y = sample
    single = [z.float() if isinstance(z, Tensor) else z.astype(np.float32) for z in (x, y)]
    double = [z.double() if isinstance(z, Tensor) else z.astype(np.float64) for z in single]
    a, b = D(*single), D(*double)
    room = 1e-4 * max(1.0, abs(b))
    yield at_most("abs(D(x32, y32) - D(x32.double(), y32.double()))", abs(a - b), "1e-4*max(1, abs(D))", room)


@law(
    "D(x + c, y + c) = D(x, y), c = (8, 8, …)",
    "estimators that know points by their differences",
    on=ON,
    examples=sampled,
    call="x, y",
)
def translation_invariance(D: Subject, sample: Samples) -> Iterator[Claim]:
    """Check that the origin does not matter."""
    x, y = sample
    yield equal("D(x + 8, y + 8)", D(x + 8.0, y + 8.0), "D(x, y)", D(x, y), scale=8.0)


@law("D(x, y) = D(y, x) for n = m", "estimators of symmetric divergences", on=ON, examples=equally_many, call="x, y")
def symmetry(D: Subject, sample: Samples) -> Iterator[Claim]:
    """Check that the order of the samples does not matter."""
    x, y = sample
    yield equal("D(x, y)", D(x, y), "D(y, x)", D(y, x))


@law(
    "D(x, x) = 0, in any order of the points",
    "V-statistics, transport distances, debiased Sinkhorn; not U-statistics",
    on=ON,
    examples=sampled,
    call="x, y",
)
def zero_at_equality(D: Subject, sample: Samples) -> Iterator[Claim]:
    """Check that a sample is no distance from itself."""
    x, _ = sample
    yield equal("D(x, flipped x)", D(x, x.flip(0) if isinstance(x, Tensor) else x[::-1].copy()), "0", 0.0)


@law(
    "D of float16 points is a float32 tensor, and the value of the same points in float32",
    "every estimator that takes tensors",
    on=ON,
    examples=sampled,
    call="x, y",
)
def half_precision(D: Subject, sample: Samples) -> Iterator[Claim]:
    """Check that half precision is accumulated in single."""
    x, y = (torch.as_tensor(z).half() for z in sample)
    found, single = D.raw(x, y), D(x.float(), y.float())
    yield same("type of D(x.half(), y.half())", _kind(found), f"tensor, {torch.float32}")
    yield equal("D(x.half(), y.half())", float(found), "D(x.half().float(), y.half().float())", single)


@law(
    "D(s x, s y) = s^k D(x, y), k = 0 or degree=",
    "f-divergences (k = 0), W_p and the energy distance (k = 1), W_p^p (k = p)",
    on=ON,
    examples=sampled,
    call="x, y",
)
def scaling(D: Subject, sample: Samples, *, degree: float = 0.0) -> Iterator[Claim]:
    """Check what a unit of length does, for s = 8 and 1/4: powers of 2, so that points are scaled without rounding."""
    x, y = sample
    for s in (8.0, 0.25):
        yield equal(f"D({s:g}*x, {s:g}*y)", D(s * x, s * y), f"{s:g}**{degree:g} * D(x, y)", s**degree * D(x, y))


@law(
    "the gradient of D in x and y along a direction = (D(h) − D(−h))/2h within 1e-5 (1 + |slope|), h small",
    "estimators that are differentiable almost everywhere; tensors only",
    on=ON,
    examples=sampled,
    call="x, y",
)
def gradients(D: Subject, sample: Samples) -> Iterator[Claim]:
    """Check automatic differentiation against differences along one direction, over h = 1e-5, 1e-6 or 1e-7: kinks."""
    x, y = (torch.as_tensor(z) for z in sample)
    g = torch.Generator().manual_seed(sample.seed)
    u, v = (torch.randn(z.shape, generator=g, dtype=z.dtype) for z in (x, y))
    a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
    value = D.function(a, b)
    if not isinstance(value, Tensor) or not value.requires_grad:
        raise Broken(f"D(x, y) has no gradient: it returned {described(value)}")
    parts = torch.autograd.grad(value, (a, b), allow_unused=True)
    slope = float(sum(((p * w).sum() for p, w in zip(parts, (u, v), strict=True) if p is not None), torch.zeros(())))
    quotients = [(D(x + h * u, y + h * v) - D(x - h * u, y - h * v)) / (2 * h) for h in (1e-5, 1e-6, 1e-7)]
    nearest = min(quotients, key=lambda quotient: abs(slope - quotient))
    room = 1e-5 * (1 + abs(nearest))
    yield at_most("abs(gradient - difference quotient)", abs(slope - nearest), "1e-5*(1 + abs(slope))", room)


@law(
    "estimate(x, y, seed=1) repeats itself; value finite or noted, in its interval; bound, n and m are right",
    "estimators with a method estimate",
    on=ON,
    examples=sampled,
    call="x, y",
    methods=("estimate",),
)
def complete_estimate(D: Subject, sample: Samples) -> Iterator[Claim]:
    """Check what an estimate says of itself."""
    x, y = sample
    e, again = estimated(D, x, y, seed=1), estimated(D, x, y, seed=1)
    yield same("e.value == again.value", e.value == again.value or (e.value != e.value and bool(e.notes)), True)
    yield same("isfinite(e.value) or bool(e.notes)", math.isfinite(e.value) or bool(e.notes), True)
    yield same("(e.n, e.m)", (e.n, e.m), (sample.n, sample.m))
    yield same(f"e.bound in {BOUNDS}", e.bound in BOUNDS, True)
    if e.interval is None:
        yield same("bool(e.notes), for an interval that is refused", bool(e.notes), True)
    else:
        low, high = e.interval
        yield at_most("e.interval[0]", float(low), "e.value", float(e.value))
        yield at_most("e.value", float(e.value), "e.interval[1]", float(high))


def estimated(D: Subject, x: Any, y: Any, seed: int) -> Any:
    """Return what the method ``estimate`` of the function returns."""
    return Subject(D.function.estimate, "D.estimate").raw(x, y, seed=seed)
