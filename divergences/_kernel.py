"""What a kernel is, and the algebra of kernels: sums, products and positive multiples."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from divergences._arrays import as_given, tensor
from divergences._spec import Specified
from divergences.distances import squared_distances


class Term(NamedTuple):
    """factor·f(‖x − y‖²), so that an op knows a kernel without calling it.

    The form f is "gaussian", "laplace", "inverse" (multiquadric), "rational" (quadratic) or "distance"; ``scale`` its
    length, or C; ``power`` the α of "rational" and the β of "distance".
    """

    form: str
    factor: float
    scale: Any = 1.0
    power: float = 1.0


class Kernel(Specified):
    """A symmetric function k(x, y). Kernels add, multiply, and scale by a positive number; ``sum([k1, k2])`` works.

    ``is_radial``: k depends on ‖x − y‖² alone, through `of_squared_distance`. ``is_shift_free``: moving both samples
    together leaves the MMD as it was, so that a caller may centre them first.
    """

    is_radial: bool = False
    is_shift_free: bool = False

    def __call__(self, x: Any, y: Any) -> Any:
        """Return the matrix k(x_i, y_j), (..., n, m), from x (..., n, d) and y (..., m, d); arrays in, array out."""
        a, b = tensor(x), tensor(y)
        if a.shape[-1:] != b.shape[-1:] or a.ndim < 2 or b.ndim < 2:
            raise ValueError(f"x and y must be (..., n, d) and (..., m, d): got {tuple(a.shape)} and {tuple(b.shape)}")
        dtype = torch.promote_types(torch.promote_types(a.dtype, b.dtype), torch.float32)
        return as_given(self.matrix(a.to(dtype), b.to(dtype)), x, y)

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """`__call__` on tensors that fit each other."""
        return self.of_squared_distance(squared_distances(x, y))

    def of_squared_distance(self, d2: Tensor) -> Tensor:
        """Return the kernel as a function of d² = ‖x − y‖². Raises TypeError for a kernel that is not radial."""
        raise TypeError(f"{self!r} is not a function of the distance alone")

    def terms(self) -> tuple[Term, ...] | None:
        """The terms Σ f_t(‖x − y‖²) that make up the kernel, but for `one_point`; None where it has no such terms."""
        return None

    def one_point(self, points: Tensor) -> Tensor | None:
        """O, (..., n), in k(x, y) = o(x) + o(y) + Σ f_t(‖x − y‖²); None where it is 0."""
        return None

    def resolved(self, points: Any) -> Kernel:
        """Replace every "median" by the median distance of ``points`` (n, d), the pooled sample."""
        return self

    @property
    def needs_points(self) -> bool:
        """Whether a bandwidth waits for `resolved`."""
        return False

    @property
    def public_name(self) -> str:
        """Where the kernel's constructor is found, such as ``divergences.kernels.Gaussian``."""
        ours = type(self).__module__.startswith("divergences.")
        return f"divergences.kernels.{type(self).__name__}" if ours else super().public_name

    def __add__(self, other: Kernel) -> Sum:
        return Sum(self, other) if isinstance(other, Kernel) else NotImplemented

    def __radd__(self, other: object) -> Kernel:
        return self if isinstance(other, int) and other == 0 else NotImplemented  # where sum() starts

    def __mul__(self, other: Kernel | float) -> Kernel:
        return Product(self, other) if isinstance(other, Kernel) else Scaled(self, float(other))

    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Kernel) and type(self) is type(other) and _equal(self.arguments, other.arguments)

    def __hash__(self) -> int:
        return hash(repr(self))


class _Pair(Kernel):
    def __init__(self, left: Kernel, right: Kernel) -> None:
        if not isinstance(left, Kernel) or not isinstance(right, Kernel):
            raise TypeError(f"two kernels are needed: got {left!r} and {right!r}")
        self.left, self.right = left, right
        self.is_radial = left.is_radial and right.is_radial
        self.is_shift_free = self.is_radial

    @property
    def needs_points(self) -> bool:
        return self.left.needs_points or self.right.needs_points

    def resolved(self, points: Any) -> Kernel:
        return type(self)(self.left.resolved(points), self.right.resolved(points))

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        if self.is_radial:
            return super().matrix(x, y)
        return self._combine(self.left.matrix(x, y), self.right.matrix(x, y))

    def of_squared_distance(self, d2: Tensor) -> Tensor:
        return self._combine(self.left.of_squared_distance(d2), self.right.of_squared_distance(d2))

    def _combine(self, left: Tensor, right: Tensor) -> Tensor:
        raise NotImplementedError


class Sum(_Pair):
    """k₁ + k₂, written ``k1 + k2``; MMD² is the sum of the two. Characteristic where one of them is.

    Example:
        >>> from divergences.kernels import Gaussian, Laplace
        >>> sum([Gaussian(1.0), 0.5 * Laplace(1.0)])([[0.0]], [[0.0]]).tolist()
        [[1.5]]
    """

    def __init__(self, left: Kernel, right: Kernel) -> None:
        super().__init__(left, right)
        self.is_shift_free = left.is_shift_free and right.is_shift_free

    def terms(self) -> tuple[Term, ...] | None:
        left, right = self.left.terms(), self.right.terms()
        return None if type(self) is not Sum or left is None or right is None else left + right

    def one_point(self, points: Tensor) -> Tensor | None:
        left, right = self.left.one_point(points), self.right.one_point(points)
        return right if left is None else left if right is None else left + right

    def _combine(self, left: Tensor, right: Tensor) -> Tensor:
        return left + right


class Product(_Pair):
    """k₁·k₂, written ``k1 * k2``; positive definite by Schur's product theorem.

    Example:
        >>> from divergences.kernels import Gaussian, Polynomial
        >>> (Gaussian(1.0) * Polynomial(1, 0.0))([[2.0]], [[2.0]]).tolist()
        [[4.0]]
    """

    def __init__(self, left: Kernel, right: Kernel) -> None:
        super().__init__(left, right)

    def _combine(self, left: Tensor, right: Tensor) -> Tensor:
        return left * right


class Scaled(Kernel):
    """factor·k, written ``2.0 * k``; factor > 0. MMD² is multiplied by it."""

    def __init__(self, kernel: Kernel, factor: float) -> None:
        if not 0 < factor < float("inf"):
            raise ValueError(f"factor must be positive and finite: got {factor}")
        self.kernel, self.factor = kernel, factor
        self.is_radial, self.is_shift_free = kernel.is_radial, kernel.is_shift_free

    @property
    def needs_points(self) -> bool:
        return self.kernel.needs_points

    def resolved(self, points: Any) -> Kernel:
        return Scaled(self.kernel.resolved(points), self.factor)

    def terms(self) -> tuple[Term, ...] | None:
        terms = self.kernel.terms()
        if type(self) is not Scaled or terms is None:  # a subclass may be another function
            return None
        return tuple(term._replace(factor=self.factor * term.factor) for term in terms)

    def one_point(self, points: Tensor) -> Tensor | None:
        found = self.kernel.one_point(points)
        return None if found is None else self.factor * found

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        return self.factor * self.kernel.matrix(x, y)

    def of_squared_distance(self, d2: Tensor) -> Tensor:
        return self.factor * self.kernel.of_squared_distance(d2)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(a[name], b[name]) for name in a)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(_equal(*pair) for pair in zip(a, b, strict=True))
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b)
    return bool(a == b)
