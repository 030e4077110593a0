"""What an f-divergence is: a convex f with f(1) = 0, its conjugate, and the change of variables a critic needs."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor

from divergences._arrays import keeps_kind, with_infinity
from divergences._spec import Specified

Function = Callable[[Tensor], Tensor]
Arguments = ParamSpec("Arguments")
CONSTRUCTORS: dict[str, Callable[..., FDivergence]] = {}  # by the constructor's name, for copies and pickles
ROWS: dict[str, Callable[..., FDivergence]] = {}  # by the divergence's name


class FDivergence(Specified):
    """D_f(P‖Q) = ∫ q f(p/q) + f'(∞)·P[q = 0], with f convex on u ≥ 0 and f(1) = 0.

    Its variational form is D_f = sup_T E_P T − E_Q f*(T), f*(t) = sup_{u ≥ 0} ut − f(u), attained at T* = f'(p/q)
    (Nguyen, Wainwright, Jordan 2010, eq. 5). A free critic value v enters as T = g(v), the activation (Nowozin, Cseke,
    Tomioka 2016, section 2.4). Every method takes floats, numpy arrays or tensors of any shape, works elementwise,
    answers in kind, and is differentiable on tensors.

    ``f_at_zero`` is f(0), ``slope_at_infinity`` is f'(∞) = lim f(u)/u, ``upper_bound`` their sum, which no pair
    exceeds. ``conjugate_domain`` is (low, high), the interval where f* is finite, up to its ends.

    Example:
        >>> from divergences import KL
        >>> d = KL()
        >>> round(d([0.5, 0.5], [0.25, 0.75]), 6), d.log_ratio(1.0)
        (0.143841, 0.0)
    """

    name: str = "f"
    _constructor: str = "FDivergence"
    _arguments: dict[str, Any]

    def __init__(
        self,
        *,
        f: Function,
        derivative: Function,
        conjugate: Function,
        activation: Function,
        conjugate_of_activation: Function,
        log_ratio: Function | None,
        f_at_zero: float,
        slope_at_infinity: float,
        conjugate_domain: tuple[float, float],
        is_symmetric: bool = False,
        f_of_log: Function | None = None,
        extended_conjugate: Function | None = None,
        reversal: Callable[[], FDivergence] | None = None,
    ) -> None:
        self._f, self._derivative, self._conjugate = f, derivative, conjugate
        self._activation, self._conjugate_of_activation = activation, conjugate_of_activation
        self._log_ratio, self._extended_conjugate, self._reversal = log_ratio, extended_conjugate, reversal
        self._f_of_log = f_of_log or (lambda log_u: f(log_u.exp()))
        self.f_at_zero, self.slope_at_infinity = f_at_zero, slope_at_infinity
        self.upper_bound = f_at_zero + slope_at_infinity
        self.conjugate_domain, self.is_symmetric = conjugate_domain, is_symmetric
        one = torch.ones((), dtype=torch.float64)
        self._slope_at_one, self._vanishes = float(derivative(one)), abs(float(f(one))) < 1e-9

    @staticmethod
    def from_f(f: Function, name: str = "f") -> FDivergence:
        """Return the divergence of any convex f with f(1) = 0, written with torch operations that work elementwise.

        f' is by automatic differentiation, f* by bisection, and the activation is g(v) = f'(e^v), so that v = log r.

        Raises:
            ValueError: f(1) ≠ 0 or f is not convex; the message has the point that shows it.

        Example:
            >>> from divergences import FDivergence
            >>> mine = FDivergence.from_f(lambda u: (u - 1) ** 2, name="mine")
            >>> mine.derivative(3.0), round(mine.conjugate(1.0), 9)
            (4.0, 1.25)
        """
        return CONSTRUCTORS["FDivergence.from_f"](f, name)

    @keeps_kind
    def f(self, u: Tensor) -> Tensor:
        """Return the generator at u in [0, ∞], with its limits at both ends; inf for u < 0."""
        edge = (u <= 0) | u.isinf()
        inside = self._f(torch.where(edge, torch.ones_like(u), u))
        if self.slope_at_infinity:
            end = torch.full_like(u, math.copysign(math.inf, self.slope_at_infinity))
        else:
            end = self._f(torch.full_like(u, math.inf)).detach()
        value = torch.where(u.isinf(), end, torch.where(u == 0, torch.full_like(u, self.f_at_zero), inside))
        return with_infinity(u < 0, value)

    @keeps_kind
    def derivative(self, u: Tensor) -> Tensor:
        """f'(u) for u in [0, ∞], f'(∞) its limit; a subgradient where f has a kink."""
        slope = self._derivative(torch.where(u.isinf(), torch.ones_like(u), u))
        return torch.where(u.isinf(), torch.full_like(u, self.slope_at_infinity), slope)

    @keeps_kind
    def conjugate(self, t: Tensor) -> Tensor:
        """f*(t) = sup_{u ≥ 0} ut − f(u), exact; inf above `conjugate_domain`."""
        high = self.conjugate_domain[1]
        value = self._conjugate(t.clamp(max=high))  # rounding may take it past the end, where it is not a number
        return with_infinity((t > high) | (value.isnan() & ~t.isnan()), value)

    @keeps_kind
    def extended_conjugate(self, t: Tensor) -> Tensor:
        """Return the conjugate in `conjugate_of_activation`: f*, but for Pearson χ² t²/4 + t everywhere."""
        return self._extended_conjugate(t) if self._extended_conjugate else self.conjugate(t)

    @keeps_kind
    def activation(self, v: Tensor) -> Tensor:
        """T = g(v): increasing, from any real v into the domain of f*."""
        return self._activation(v)

    @keeps_kind
    def conjugate_of_activation(self, v: Tensor) -> Tensor:
        """f*(g(v)), composed on paper so that neither overflow nor cancellation enters."""
        return self._conjugate_of_activation(v)

    @keeps_kind
    def optimal_critic(self, ratio: Tensor) -> Tensor:
        """T*(r) = f'(r), the critic at which the variational form is tight, for r = p/q in [0, ∞]."""
        return self.derivative(ratio)

    @keeps_kind
    def log_ratio(self, v: Tensor) -> Tensor:
        """Return the log p/q that a raw critic value v means, f'(p/q) = g(v). Raises ValueError if undetermined."""
        if self._log_ratio is None:
            raise ValueError(f"{self!r} has a critic that does not determine the ratio p/q: f' is piecewise constant")
        return self._log_ratio(v)

    def reversed(self) -> FDivergence:
        """Return the divergence D(Q‖P) as a function of (P, Q): its generator is u·f(1/u)."""
        if self.is_symmetric:
            return self
        back = self._reversal() if self._reversal else CONSTRUCTORS["Reversed"](self)
        back._reversal = lambda: self  # 1 − (1 − α) is not α in floating point
        return back

    def perspective(self, p: Tensor, q: Tensor) -> Tensor:
        """q·f(p/q) − f'(1)(p − q), elementwise for p, q ≥ 0, with its limits where either is 0.

        It sums to D_f(P‖Q) over a common support, and each term is ≥ 0 when f(1) = 0. At an entry where one side is 0
        the gradient is that of the limit in the other side.
        """
        both, one = (p > 0) & (q > 0), torch.ones_like(p * q)
        p_, q_ = torch.where(both, p, one), torch.where(both, q, one)
        near = (p_ - q_).abs() < 0.5 * q_  # there p − q is exact, and the difference of two logarithms is not
        log_u = torch.where(near, torch.log1p(torch.where(near, (p_ - q_) / q_, 0 * one)), p_.log() - q_.log())
        value = torch.where(p_ > q_, p_, q_) * self._standard(log_u)
        value = torch.where(both, value, torch.zeros_like(value))
        value = value + _at_limit(p, (p > 0) & (q == 0), self.slope_at_infinity - self._slope_at_one)
        return value + _at_limit(q, (q > 0) & (p == 0), self.f_at_zero + self._slope_at_one)

    def log_perspective(self, log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
        """``(scale, value)`` with `perspective` = exp(scale)·value; both logarithms finite."""
        return torch.maximum(log_p, log_q), self._standard(log_p - log_q)

    def _standard(self, log_u: Tensor) -> Tensor:
        # For p > q the reversed generator, p·f°(q/p), so that no argument exceeds 1 and nothing overflows.
        small = -log_u.abs()
        below = self._f_of_log(small) - self._slope_at_one * torch.expm1(small)
        above = self.reversed()._f_of_log(small) + self._slope_at_one * torch.expm1(small)
        value = torch.where(log_u > 0, above, below)
        return value.clamp(min=0) if self._vanishes else value  # convexity: what is below 0 is rounding

    def __call__(self, p: Any, q: Any, base: float | None = None, method: str = "auto") -> Any:
        """Return the exact D(P‖Q) of two known laws; see `divergences.f_divergence`."""
        from divergences.evaluate import evaluate

        return evaluate(self, p, q, method=method, base=base)

    @property
    def arguments(self) -> dict[str, Any]:
        """The row's parameters by name."""
        return dict(self._arguments)

    @property
    def public_name(self) -> str:
        """Where the row is found, such as ``divergences.KL``."""
        return f"divergences.{self._constructor}"

    def __repr__(self) -> str:
        return f"{self._constructor}({', '.join(f'{name}={value!r}' for name, value in self._arguments.items())})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FDivergence):
            return NotImplemented
        return (self._constructor, self._arguments) == (other._constructor, other._arguments)

    def __hash__(self) -> int:
        return hash((self._constructor, tuple(self._arguments.items())))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self._constructor, self._arguments)


def _rebuilt(constructor: str, arguments: dict[str, Any]) -> FDivergence:
    return CONSTRUCTORS[constructor](**arguments)


def _at_limit(mass: Tensor, where: Tensor, factor: float) -> Tensor:
    if math.isinf(factor):
        return torch.where(where, torch.full_like(mass, factor), torch.zeros_like(mass))
    return torch.where(where, mass * factor, torch.zeros_like(mass))


def named(
    name: str | None, constructor_name: str | None = None
) -> Callable[[Callable[Arguments, FDivergence]], Callable[Arguments, FDivergence]]:
    """Give what a constructor returns its name and arguments; without ``name`` it is no row of the table."""

    def register(constructor: Callable[Arguments, FDivergence]) -> Callable[Arguments, FDivergence]:
        signature, public = inspect.signature(constructor), constructor_name or constructor.__name__

        @wraps(constructor)
        def build(*args: Arguments.args, **kwargs: Arguments.kwargs) -> FDivergence:
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError as error:
                raise TypeError(f"{public}: {error}") from None
            bound.apply_defaults()
            divergence = constructor(*args, **kwargs)
            divergence.name = name or bound.arguments.get("name") or public
            divergence._constructor, divergence._arguments = public, dict(bound.arguments)
            return divergence

        CONSTRUCTORS[public] = build
        if name:
            ROWS[name] = build
        return build

    return register
