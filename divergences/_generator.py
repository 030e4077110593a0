"""What an f-divergence is: a convex f with f(1) = 0, its conjugate, and the change of variables a critic needs."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import numpy as np
import torch
from torch import Tensor

from divergences._arrays import keeps_kind, with_infinity
from divergences._spec import Specified
from divergences.terms import log_ratio, usable

Function = Callable[[Tensor], Tensor]
Arguments = ParamSpec("Arguments")
CONSTRUCTORS: dict[str, Callable[..., FDivergence]] = {}  # by the constructor's name, for copies and pickles
ROWS: dict[str, Callable[..., FDivergence]] = {}  # by the divergence's name


def elementwise(method: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Any], Any]:
    """Return a method of one tensor that keeps the kind of its argument and computes half precision in float32."""

    @wraps(method)
    def wide(self: Any, value: Tensor) -> Tensor:
        return method(self, value.to(torch.promote_types(value.dtype, torch.float32))).to(value.dtype)

    return keeps_kind(wide)


class FDivergence(Specified):
    """D_f(P‖Q) = ∫ q f(p/q) + f'(∞)·P[q = 0] of the data's law P and the model's law Q; f convex on u ≥ 0, f(1) = 0.

    Its variational form is D_f = sup_T E_P T − E_Q f*(T), f*(t) = sup_{u ≥ 0} ut − f(u), attained at T* = f'(p/q)
    (Nguyen, Wainwright, Jordan 2010, eq. 5). A free critic value v enters as T = g(v), the activation (Nowozin, Cseke,
    Tomioka 2016, section 2.4). Every method takes floats, numpy arrays or tensors of any shape, works elementwise,
    answers in kind, and is differentiable on tensors; half precision is computed in float32 and rounded once.

    ``f_at_zero`` is f(0), ``slope_at_infinity`` is f'(∞) = lim f(u)/u, ``upper_bound`` their sum, which no pair
    exceeds. ``conjugate_domain`` is (low, high), the interval where f* is finite, up to its ends.

    A row is written by these functions of x = log(p/q), u, t or v; all are exact to rounding, near p = q as well:
    ``term`` (p, q, p − q, x) ↦ q f(p/q) − f'(1)(p − q), ``conjugate`` f*, ``activation`` g, ``conjugate_of_activation``
    f*∘g, ``critic`` x ↦ v with g(v) = f'(e^x), v = x by default (or ``slopes`` x ↦ (f'(e^x), f*(f'(e^x)))), and
    ``log_ratio`` v ↦ x, None where v does not determine x. ``f`` and ``derivative`` are given where these say them less
    exactly. ``quick`` (p, q) ↦ D_f over the last axis may be wrong by some roundings of ∫|p − q|, and not finite where
    an entry is 0.

    Example:
        >>> from divergences import KL
        >>> d = KL()
        >>> round(d([0.5, 0.5], [0.25, 0.75]), 6), d.log_ratio(1.0)
        (0.143841, 0.0)
    """

    name: str = "f"
    row: str | None = None  # the name in the table; None for the user's own f, and for `Reversed`
    _constructor: str = "FDivergence"
    _arguments: dict[str, Any]

    def __init__(
        self,
        *,
        term: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor],
        conjugate: Function,
        activation: Function,
        conjugate_of_activation: Function,
        log_ratio: Function | None,
        f_at_zero: float,
        slope_at_infinity: float,
        slope_at_one: float = 0.0,
        f_at_one: float = 0.0,
        conjugate_domain: tuple[float, float],
        is_symmetric: bool = False,
        critic: Function = lambda x: x,
        slopes: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
        f: Function | None = None,
        derivative: Function | None = None,
        quick: Callable[[Tensor, Tensor], Tensor] | None = None,
        extended_conjugate: Function | None = None,
        reversal: Callable[[], FDivergence] | None = None,
    ) -> None:
        self._term, self._quick, self._conjugate = term, quick, conjugate
        self._activation, self._conjugate_of_activation = activation, conjugate_of_activation
        self._log_ratio, self._extended_conjugate, self._reversal = log_ratio, extended_conjugate, reversal
        self._f = f or (lambda u: term(u, torch.ones_like(u), u - 1, u.log()) + slope_at_one * (u - 1))
        self._slopes = slopes or (lambda x: (activation(critic(x)), conjugate_of_activation(critic(x))))
        self._derivative = derivative or (lambda u: self._slopes(u.log())[0])
        self.f_at_zero, self.slope_at_infinity = f_at_zero, slope_at_infinity
        self.upper_bound = f_at_zero + slope_at_infinity
        self.conjugate_domain, self.is_symmetric = conjugate_domain, is_symmetric
        self._slope_at_one, self._vanishes = slope_at_one, f_at_one == 0

    @staticmethod
    def from_f(f: Function, name: str = "f") -> FDivergence:
        """Return the divergence of any convex f with f(1) = 0, written with torch operations that work elementwise.

        f is evaluated in float64 alone. f' is by automatic differentiation. f*(t) = ut − f(u) at the maximiser u, found
        by bisection; its gradient in t is u and its second derivative 1/f''(u). It is as exact as f: relative to
        u·|t| a few roundings. The activation is g(v) = f'(e^v), v = log r; where f has kinks or linear pieces, through
        which no gradient would pass, a logistic or softplus curve onto (f'(0), f'(∞)).

        Raises:
            ValueError: f(1) ≠ 0, f is not convex, not finite for some u > 0, or not elementwise; the message has the
                point that shows it.
            TypeError: f is no function, or returns no tensor of its argument's dtype that automatic differentiation
                can follow.

        Example:
            >>> from divergences import FDivergence
            >>> mine = FDivergence.from_f(lambda u: (u - 1) ** 2, name="mine")
            >>> mine.derivative(3.0), round(mine.conjugate(1.0), 9)
            (4.0, 1.25)
        """
        return CONSTRUCTORS["FDivergence.from_f"](f, name)

    @elementwise
    def f(self, u: Tensor) -> Tensor:
        """Return the generator at u in [0, ∞], with its limits at both ends; inf for u < 0."""
        edge = (u <= 0) | u.isinf()
        value = self._f(torch.where(edge, 1.0, u))
        if self.slope_at_infinity:
            end = math.copysign(math.inf, self.slope_at_infinity)
        else:
            end = float(self._f(torch.full((), math.inf, dtype=torch.float64)))
        return with_infinity(u < 0, torch.where(u.isinf(), end, torch.where(u == 0, self.f_at_zero, value)))

    @elementwise
    def derivative(self, u: Tensor) -> Tensor:
        """f'(u) for u in [0, ∞], f'(∞) its limit; a subgradient where f has a kink, NaN for u < 0."""
        slope = self._derivative(torch.where(u.isinf(), 1.0, u))
        slope = torch.where(u.isinf(), self.slope_at_infinity, slope)
        return torch.where(u < 0, math.nan, slope)

    @elementwise
    def conjugate(self, t: Tensor) -> Tensor:
        """f*(t) = sup_{u ≥ 0} ut − f(u), exact; inf above `conjugate_domain`."""
        high = self.conjugate_domain[1]
        value = self._conjugate(t.clamp(max=high))  # rounding may take it past the end, where it is not a number
        value = torch.where(t == -math.inf, -self.f_at_zero, value)
        return with_infinity((t > high) | (value.isnan() & ~t.isnan()), value)

    @elementwise
    def extended_conjugate(self, t: Tensor) -> Tensor:
        """Return the conjugate in `conjugate_of_activation`: f*, but for Pearson χ² t²/4 + t everywhere."""
        return self._extended_conjugate(t) if self._extended_conjugate else self.conjugate(t)

    @elementwise
    def activation(self, v: Tensor) -> Tensor:
        """T = g(v): increasing, from any real v into the domain of f*."""
        return self._activation(v)

    @elementwise
    def conjugate_of_activation(self, v: Tensor) -> Tensor:
        """f*(g(v)), composed on paper so that neither overflow nor cancellation enters."""
        return self._conjugate_of_activation(v)

    @elementwise
    def optimal_critic(self, ratio: Tensor) -> Tensor:
        """T*(r) = f'(r), the critic at which the variational form is tight, for r = p/q in [0, ∞]."""
        return self.derivative(ratio)

    def slopes(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return f'(e^x) and f*(f'(e^x)) at log ratios x, composed without e^x: the bound's terms on P and on Q."""
        return self._slopes(x)

    @elementwise
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

        It sums to D_f(P‖Q) over a common support, and each term is ≥ 0 when f(1) = 0, with full relative precision near
        p = q. Its gradient is (f'(u) − f'(1), f'(1) − f*(f'(u))), u = p/q, differentiable again; at an entry where one
        side is 0 it is that of the limit in the other side.
        """
        return self.differentiable(self._values, *torch.broadcast_tensors(p, q))

    def differentiable(self, values: Callable[[Tensor, Tensor], Tensor], p: Tensor, q: Tensor) -> Tensor:
        """``values(p, q)``, the `perspective` or its sum over the last axis however computed, with its gradient."""
        value: Tensor = _Perspective.apply(p, q, self, values)
        return value

    def _values(self, p: Tensor, q: Tensor) -> Tensor:
        """`perspective` without a gradient."""
        if not p.numel():
            return p - q
        least, low = min(p.min().item(), q.min().item()), usable(p.dtype)
        if least >= low:
            return self._term(p, q, p - q, log_ratio(p, q))
        both = (p > 0) & (q > 0)
        p_, q_ = torch.where(both, p, 1.0), torch.where(both, q, 1.0)
        value = self._term(p_, q_, p_ - q_, log_ratio(p_, q_, may_overflow=True))
        at_p, at_q = self.slope_at_infinity - self._slope_at_one, self.f_at_zero + self._slope_at_one
        ends = torch.where(p > 0, p * at_p, torch.where(q > 0, q * at_q, 0.0))  # where both are 0, so is the term
        return torch.where(both, value, ends)

    def log_perspective(self, log_p: Tensor, log_q: Tensor) -> tuple[Tensor, Tensor]:
        """``(scale, value)`` with `perspective` = exp(scale)·value; both logarithms finite."""
        x = log_p - log_q
        difference = torch.expm1(x.clamp(max=0)) - torch.expm1((-x).clamp(max=0))
        value = self._term(x.clamp(max=0).exp(), (-x).clamp(max=0).exp(), difference, x)
        return torch.maximum(log_p, log_q), value.clamp(min=0) if self._vanishes else value

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
        shown = {name: getattr(value, "__name__", repr(value)) for name, value in self._arguments.items()}
        return f"{self._constructor}({', '.join(f'{name}={value}' for name, value in shown.items())})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FDivergence):
            return NotImplemented
        return (self._constructor, self._arguments) == (other._constructor, other._arguments)

    def __hash__(self) -> int:
        return hash((self._constructor, tuple(self._arguments.items())))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self._constructor, self._arguments)


class _Perspective(torch.autograd.Function):
    """Values of the perspective with the gradient written on paper: through their formula p⁻² would overflow."""

    @staticmethod
    def forward(p: Tensor, q: Tensor, d: FDivergence, values: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        return values(p, q)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        p, q, ctx.divergence, _ = inputs
        ctx.save_for_backward(p, q)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor, None, None]:
        (p, q), d, (g,) = ctx.saved_tensors, ctx.divergence, gradients
        g = g if g.ndim == p.ndim else g.unsqueeze(-1)
        inner = not p.numel() or min(p.min().item(), q.min().item()) >= usable(p.dtype)
        both = (p > 0) & (q > 0)
        p_, q_ = (p, q) if inner else (torch.where(both, p, 1.0), torch.where(both, q, 1.0))
        x = log_ratio(p_.detach(), q_.detach(), may_overflow=not inner)
        if torch.is_grad_enabled():  # the same number, with its gradient
            logs = p_.log() - q_.log()
            x = logs + (x - logs.detach())
        slope, conjugate = d._slopes(x)
        at_p, at_q = slope - d._slope_at_one, d._slope_at_one - conjugate
        if not inner:
            ends = (d.slope_at_infinity - d._slope_at_one, d.f_at_zero + d._slope_at_one)
            end_p, end_q = (end if math.isfinite(end) else 0.0 for end in ends)
            at_p = torch.where(both, at_p, ((q == 0) & (p > 0)).to(p.dtype) * end_p)
            at_q = torch.where(both, at_q, ((p == 0) & (q > 0)).to(q.dtype) * end_q)
        return g * at_p, g * at_q, None, None


def _rebuilt(constructor: str, arguments: dict[str, Any]) -> FDivergence:
    return CONSTRUCTORS[constructor](**arguments)


def number(value: Any, name: str) -> Any:
    """``value``, a real number, as Python's; a tensor that waits for a gradient as it is. Raises TypeError."""
    if isinstance(value, Tensor | np.generic | np.ndarray) and value.ndim == 0:
        value = value if isinstance(value, Tensor) and value.requires_grad else value.item()
    if isinstance(value, numbers.Real | Tensor) and not (isinstance(value, Tensor) and value.ndim):
        return value
    raise TypeError(f"{name} must be a number: got {value!r}")


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
            for key, value in bound.arguments.items():
                if signature.parameters[key].annotation == "float":
                    bound.arguments[key] = number(value, key)
            divergence = constructor(*bound.args, **bound.kwargs)
            divergence.row, divergence.name = name, name or bound.arguments.get("name") or public
            divergence._constructor, divergence._arguments = public, dict(bound.arguments)
            return divergence

        CONSTRUCTORS[public] = build
        if name:
            ROWS[name] = build
        return build

    return register
