"""Kernels k(x, y) for MMD: positive definite functions of two points, their sums, products and positive multiples.

Every kernel is called on samples, ``k(x, y)`` with x (..., n, d) and y (..., m, d), and returns the (..., n, m) matrix.
Sums, products and positive multiples of positive definite kernels are positive definite (Schur); so is every kernel
here, in every dimension. `get` makes a kernel from its name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from divergences._kernel import Kernel, Product, Scaled, Sum, Term
from divergences.distances import median_distance, safe_power, safe_sqrt, squared_distances

__all__ = [
    "DistanceInduced", "Gaussian", "InverseMultiquadric", "Kernel", "Laplace", "Polynomial", "Product",
    "RationalQuadratic", "Scaled", "Sum", "get", "median_distance", "names", "safe_power", "safe_sqrt",
    "squared_distances",
]  # fmt: skip

Bandwidth = float | str | Tensor | Sequence[float | str | Tensor]


class _Radial(Kernel):
    """A function of ‖x − y‖² with a length scale: a number, "median", or a sequence of these (the mean).

    A 1-D tensor is a sequence; a tensor (..., 1, 1) is one scale for each problem of a batch. Gradients reach both.
    """

    is_radial = True
    is_shift_free = True
    _length: str  # the name of the argument that is a length
    _form: str  # of its terms

    def _check(self, name: str) -> None:
        self._length = name
        given = getattr(self, name)
        values = given if isinstance(given, list | tuple) else (given,)
        if not values:
            raise ValueError(f"{name} must not be empty")
        for value in values:
            if isinstance(value, Tensor):
                if value.ndim == 1 or value.ndim > 1 and value.shape[-2:] != (1, 1):
                    raise ValueError(f"{name} of a batch must be (..., 1, 1): got {tuple(value.shape)}")
                continue
            if value == "median":
                continue
            if isinstance(value, str) or not 0 < value < float("inf"):
                raise ValueError(f'{name} must be positive and finite, or "median": got {value!r}')

    @property
    def lengths(self) -> tuple[Any, ...]:
        """The length scales that are averaged over. Raises ValueError where one is still "median"."""
        given = getattr(self, self._length)
        values = tuple(given) if isinstance(given, list | tuple) else (given,)
        if self.needs_points:
            raise ValueError(f'{self!r} has {self._length} "median": call .resolved(pooled points) first')
        return values

    @property
    def needs_points(self) -> bool:
        given = getattr(self, self._length)
        return any(isinstance(value, str) for value in (given if isinstance(given, list | tuple) else (given,)))

    def resolved(self, points: Any) -> Kernel:
        if not self.needs_points:
            return self
        median = median_distance(points)
        given = getattr(self, self._length)
        if isinstance(given, str):
            known: Any = median
        else:
            known = tuple(median if isinstance(value, str) else value for value in given)
        return type(self)(**{**self.arguments, self._length: known})

    def terms(self) -> tuple[Term, ...] | None:
        if "_form" not in type(self).__dict__:  # a subclass may be another function
            return None
        lengths, power = self.lengths, getattr(self, "alpha", 1.0)
        return tuple(Term(self._form, 1 / len(lengths), length, power) for length in lengths)

    def of_squared_distance(self, d2: Tensor) -> Tensor:
        lengths = self.lengths
        total = self._at(d2, lengths[0])
        for length in lengths[1:]:
            total = total + self._at(d2, length)
        return total / len(lengths) if len(lengths) > 1 else total

    def _at(self, d2: Tensor, length: Any) -> Tensor:
        raise NotImplementedError


class Gaussian(_Radial):
    """k = exp(−‖x − y‖²/(2h²)), h = ``bandwidth``: a number, "median", or a sequence (the mean of the kernels).

    Bound: 0 < k ≤ 1. Positive definite and characteristic in every dimension. References: Gretton et al. 2012.

    Example:
        >>> Gaussian(1.0)([[0.0]], [[0.0], [2.0]]).round(6).tolist()
        [[1.0, 0.135335]]
    """

    _form = "gaussian"

    def __init__(self, bandwidth: Bandwidth = "median") -> None:
        self.bandwidth = _plain(bandwidth)
        self._check("bandwidth")

    def _at(self, d2: Tensor, length: Any) -> Tensor:
        return (d2 / (-2 * length**2)).exp()


class Laplace(_Radial):
    """k = exp(−‖x − y‖₂/h), h = ``bandwidth``: a number, "median", or a sequence (the mean of the kernels).

    Bound: 0 < k ≤ 1. Positive definite and characteristic in every dimension, as a mixture of Gaussian kernels over a
    Lévy law. Not differentiable where x = y: the subgradient there is 0.

    Example:
        >>> Laplace(2.0)([[0.0, 0.0]], [[3.0, 4.0]]).round(6).tolist()
        [[0.082085]]
    """

    _form = "laplace"

    def __init__(self, bandwidth: Bandwidth = "median") -> None:
        self.bandwidth = _plain(bandwidth)
        self._check("bandwidth")

    def _at(self, d2: Tensor, length: Any) -> Tensor:
        return (-safe_sqrt(d2) / length).exp()


class InverseMultiquadric(_Radial):
    """k = C/(C + ‖x − y‖²), C = ``scale``, a squared length; a sequence is the mean.

    Bound: 0 < k ≤ 1. Positive definite and characteristic in every dimension. References: Tolstikhin et al. 2018, §4.

    Example:
        >>> InverseMultiquadric(2.0)([[0.0]], [[0.0], [2.0]]).round(6).tolist()
        [[1.0, 0.333333]]
    """

    _form = "inverse"

    def __init__(self, scale: float | Tensor | Sequence[float | Tensor] = 1.0) -> None:
        self.scale = _plain(scale)
        _refuse_median(self.scale, "scale")
        self._check("scale")

    def _at(self, d2: Tensor, length: Any) -> Tensor:
        return length / (length + d2)


class RationalQuadratic(_Radial):
    """k = (1 + ‖x − y‖²/(2αℓ²))^(−α), ℓ = ``scale`` (number, "median" or sequence), ``alpha`` > 0.

    Bound: 0 < k ≤ 1. Positive definite and characteristic in every dimension, as a mixture of Gaussian kernels over a
    gamma law; the Gaussian kernel of bandwidth ℓ as α → ∞. References: Rasmussen, Williams 2006, eq. (4.19).

    Example:
        >>> RationalQuadratic(1.0, 0.5)([[0.0]], [[0.0], [2.0]]).round(6).tolist()
        [[1.0, 0.447214]]
    """

    _form = "rational"

    def __init__(self, scale: Bandwidth = 1.0, alpha: float = 1.0) -> None:
        self.scale, self.alpha = _plain(scale), alpha
        self._check("scale")
        if not 0 < alpha < float("inf"):
            raise ValueError(f"alpha must be positive and finite: got {alpha}")

    def _at(self, d2: Tensor, length: Any) -> Tensor:
        return (-self.alpha * torch.log1p(d2 / (2 * self.alpha * length**2))).exp()


class Polynomial(Kernel):
    """k = (xᵀy + c)^degree, degree a positive integer, c ≥ 0. Not shift-free: the origin matters.

    Bound: none. Positive definite, not characteristic: the MMD sees the moments up to ``degree`` (for c > 0; for c = 0
    those of that order alone). References: Schölkopf, Smola 2002, proposition 2.1.

    Example:
        >>> Polynomial(2, 1.0)([[1.0, 2.0]], [[3.0, 0.0]]).tolist()
        [[16.0]]
    """

    def __init__(self, degree: int = 3, c: float = 1.0) -> None:
        if degree < 1 or degree != int(degree):
            raise ValueError(f"degree must be a positive integer: got {degree}")
        if not 0 <= c < float("inf"):
            raise ValueError(f"c must be non-negative and finite: got {c}")
        self.degree, self.c = int(degree), c

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the matrix (xᵀy + c)^degree."""
        return (x @ y.mT + self.c) ** self.degree


class DistanceInduced(Kernel):
    """k = ‖x‖^β + ‖y‖^β − ‖x − y‖^β, β = ``order`` in (0, 2): MMD² is the (generalised) energy distance.

    For β = 1 that is 2E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖. The norms are taken from the origin and cancel in the MMD, so
    samples far from it should be centred first.

    Bound: 0 ≤ k(x, x) = 2‖x‖^β; k itself is unbounded. Positive definite and characteristic in every dimension, on laws
    with a moment of order β. References: Sejdinovic et al. 2013, theorem 22; Székely, Rizzo 2013, proposition 2.

    Example:
        >>> DistanceInduced()([[1.0]], [[3.0], [-1.0]]).tolist()
        [[2.0, 0.0]]
    """

    is_shift_free = True

    def __init__(self, order: float = 1) -> None:
        if not 0 < order < 2:
            raise ValueError(f"order must lie in (0, 2): got {order}")
        self.order = order

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the matrix ‖x‖^β + ‖y‖^β − ‖x − y‖^β."""
        to_x, to_y = self.distance((x**2).sum(-1)), self.distance((y**2).sum(-1))
        return to_x.unsqueeze(-1) + to_y.unsqueeze(-2) - self.distance(squared_distances(x, y))

    def terms(self) -> tuple[Term, ...] | None:
        """−‖x − y‖^β."""
        return None if type(self) is not DistanceInduced else (Term("distance", -1.0, power=self.order),)

    def one_point(self, points: Tensor) -> Tensor:
        """‖x‖^β."""
        return self.distance(points.square().sum(-1))

    def distance(self, d2: Tensor) -> Tensor:
        """(d²)^{β/2}, whose subgradient at 0 is 0."""
        return safe_sqrt(d2) if self.order == 1 else safe_power(d2, self.order / 2)


_NAMED: dict[str, Callable[..., Kernel]] = {
    "gaussian": partial(Gaussian, bandwidth="median"),
    "laplace": partial(Laplace, bandwidth="median"),
    "imq": partial(InverseMultiquadric, scale=1.0),
    "rq": partial(RationalQuadratic, scale="median", alpha=1.0),
    "polynomial": partial(Polynomial, degree=3, c=1.0),
    "energy": partial(DistanceInduced, order=1),
    "distance_induced": partial(DistanceInduced, order=1),
}


def names() -> list[str]:
    """Return the names that `get` knows."""
    return list(_NAMED)


def get(name: str, **parameters: Any) -> Kernel:
    """Return the kernel of that name; ``parameters`` replace its defaults, where a bandwidth is the median distance.

    Raises:
        ValueError: an unknown name.

    Example:
        >>> get("gaussian"), get("polynomial", degree=2)
        (Gaussian(bandwidth='median'), Polynomial(degree=2, c=1.0))
    """
    if name not in _NAMED:
        raise ValueError(f"kernel must be one of {', '.join(_NAMED)}, or a kernel object: got {name!r}")
    return _NAMED[name](**parameters)


def _plain(value: Any) -> Any:
    """A number, "median", a 0-D or batched tensor, or a tuple of these."""
    if isinstance(value, Tensor):
        return tuple(value.unbind()) if value.ndim == 1 else value
    if isinstance(value, str):
        return value
    if hasattr(value, "tolist"):
        value = value.tolist()
    return tuple(value) if isinstance(value, Sequence) else value


def _refuse_median(value: Any, name: str) -> None:
    if isinstance(value, str):
        raise ValueError(f"{name} must be a number or a sequence: got {value!r}")
