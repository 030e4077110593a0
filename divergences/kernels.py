"""Kernels k(x, y) for MMD: positive definite functions of two points, their sums and products.

Every kernel is called on samples, ``k(x, y)`` with x (..., n, d) and y (..., m, d), and returns the (..., n, m) matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from divergences._arrays import as_given, tensor
from divergences._spec import Specified

__all__ = [
    "DistanceInduced", "Gaussian", "InverseMultiquadric", "Kernel", "Laplace", "Polynomial", "Product",
    "RationalQuadratic", "Sum", "median_distance", "squared_distances",
]  # fmt: skip

Bandwidth = float | str | Sequence[float | str]
_FEW = 32  # coordinates up to which a loop over them is as fast as a matrix product
_ALL_PAIRS = 2000


class Kernel(Specified):
    """A symmetric function k(x, y). Kernels add, multiply, and scale by a positive number.

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

    def resolved(self, points: Any) -> Kernel:
        """Replace every "median" by the median distance of ``points`` (n, d), the pooled sample."""
        return self

    @property
    def needs_points(self) -> bool:
        """Whether a bandwidth waits for `resolved`."""
        return False

    def __add__(self, other: Kernel) -> Sum:
        return Sum(self, other)

    def __mul__(self, other: Kernel | float) -> Kernel:
        return Product(self, other) if isinstance(other, Kernel) else Scaled(self, float(other))

    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.arguments == other.arguments

    def __hash__(self) -> int:
        return hash(repr(self))


class _Radial(Kernel):
    """A function of ‖x − y‖² with a length scale: a number, "median", or a sequence of these (the mean)."""

    is_radial = True
    is_shift_free = True
    _length: str  # the name of the argument that is a length

    def _check(self, name: str) -> None:
        self._length = name
        given = getattr(self, name)
        values = given if isinstance(given, list | tuple) else (given,)
        if not values:
            raise ValueError(f"{name} must not be empty")
        for value in values:
            if isinstance(value, Tensor) or value == "median":
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
        return "median" in given if isinstance(given, list | tuple) else isinstance(given, str)

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

    Example:
        >>> Gaussian(1.0)([[0.0]], [[0.0], [2.0]]).round(6).tolist()
        [[1.0, 0.135335]]
    """

    def __init__(self, bandwidth: Bandwidth = "median") -> None:
        self.bandwidth = _plain(bandwidth)
        self._check("bandwidth")

    def _at(self, d2: Tensor, length: Any) -> Tensor:
        return (d2 / (-2 * length**2)).exp()


class Laplace(_Radial):
    """k = exp(−‖x − y‖₂/h), h = ``bandwidth``: a number, "median", or a sequence (the mean of the kernels)."""

    def __init__(self, bandwidth: Bandwidth = "median") -> None:
        self.bandwidth = _plain(bandwidth)
        self._check("bandwidth")

    def _at(self, d2: Tensor, length: Any) -> Tensor:
        return (-safe_sqrt(d2) / length).exp()


class InverseMultiquadric(_Radial):
    """k = C/(C + ‖x − y‖²), C = ``scale``, a squared length; a sequence is the mean (Tolstikhin et al. 2018, 4)."""

    def __init__(self, scale: float | Sequence[float] = 1.0) -> None:
        self.scale = _plain(scale)
        _refuse_median(self.scale, "scale")
        self._check("scale")

    def _at(self, d2: Tensor, length: Any) -> Tensor:
        return length / (length + d2)


class RationalQuadratic(_Radial):
    """k = (1 + ‖x − y‖²/(2αℓ²))^(−α), ℓ = ``scale`` (number, "median" or sequence), ``alpha`` > 0."""

    def __init__(self, scale: Bandwidth = 1.0, alpha: float = 1.0) -> None:
        self.scale, self.alpha = _plain(scale), alpha
        self._check("scale")
        if not 0 < alpha < float("inf"):
            raise ValueError(f"alpha must be positive and finite: got {alpha}")

    def _at(self, d2: Tensor, length: Any) -> Tensor:
        return (-self.alpha * torch.log1p(d2 / (2 * self.alpha * length**2))).exp()


class Polynomial(Kernel):
    """k = (xᵀy + c)^degree, degree a positive integer, c ≥ 0. Not shift-free: the origin matters."""

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

    For β = 1 that is 2E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖ (Sejdinovic et al. 2013, theorem 22). The norms are taken from
    the origin and cancel in the MMD, so samples far from it should be centred first.
    """

    is_shift_free = True

    def __init__(self, order: float = 1) -> None:
        if not 0 < order < 2:
            raise ValueError(f"order must lie in (0, 2): got {order}")
        self.order = order

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the matrix ‖x‖^β + ‖y‖^β − ‖x − y‖^β."""
        to_x, to_y = self._distance((x**2).sum(-1)), self._distance((y**2).sum(-1))
        return to_x.unsqueeze(-1) + to_y.unsqueeze(-2) - self._distance(squared_distances(x, y))

    def _distance(self, d2: Tensor) -> Tensor:
        return safe_sqrt(d2) if self.order == 1 else safe_power(d2, self.order / 2)


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
    """k₁ + k₂, written ``k1 + k2``."""

    def __init__(self, left: Kernel, right: Kernel) -> None:
        super().__init__(left, right)
        self.is_shift_free = left.is_shift_free and right.is_shift_free

    def _combine(self, left: Tensor, right: Tensor) -> Tensor:
        return left + right


class Product(_Pair):
    """k₁·k₂, written ``k1 * k2``."""

    def __init__(self, left: Kernel, right: Kernel) -> None:
        super().__init__(left, right)

    def _combine(self, left: Tensor, right: Tensor) -> Tensor:
        return left * right


class Scaled(Kernel):
    """factor·k, written ``2.0 * k``; factor > 0."""

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

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        return self.factor * self.kernel.matrix(x, y)

    def of_squared_distance(self, d2: Tensor) -> Tensor:
        return self.factor * self.kernel.of_squared_distance(d2)


class _SquaredDistances(torch.autograd.Function):
    """Direct differences, so equal points are at distance 0; the gradient is matrix products, differentiable again."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, y: Tensor) -> Tensor:
        if x.shape[-1] > _FEW and x.dtype == torch.float32:  # float32 in a float64 product loses nothing that matters
            a, b = x.double(), y.double()
            d2 = (a**2).sum(-1).unsqueeze(-1) + (b**2).sum(-1).unsqueeze(-2) - 2 * (a @ b.mT)
            return d2.clamp(min=0).float()
        return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist").square()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (x, y), (g,) = ctx.saved_tensors, grads
        for_x = 2 * (g.sum(-1).unsqueeze(-1) * x - g @ y)
        for_y = 2 * (g.sum(-2).unsqueeze(-1) * y - g.mT @ x)
        return for_x.sum_to_size(x.shape), for_y.sum_to_size(y.shape)


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """‖x_i − y_j‖², (..., n, m), of x (..., n, d) and y (..., m, d). Twice differentiable; no offset changes it.

    Equal points are at distance 0 exactly (to 1e-8 of the data's scale for float32 beyond 32 coordinates).
    """
    center = y.detach().mean(-2, keepdim=True)
    return _SquaredDistances.apply(x - center, y - center)


def safe_sqrt(d2: Tensor) -> Tensor:
    """√d², whose subgradient at 0 is 0."""
    zero = d2 <= 0  # false for NaN, which must come out as NaN
    return torch.where(zero, 0.0, torch.where(zero, 1.0, d2).sqrt())


def safe_power(d2: Tensor, exponent: float) -> Tensor:
    """(d²)^exponent, whose subgradient at 0 is 0."""
    zero = d2 <= 0  # false for NaN, which must come out as NaN
    return torch.where(zero, 0.0, torch.where(zero, 1.0, d2) ** exponent)


def median_distance(points: Any) -> Any:
    """Return the median distance between two of the ``points`` (n, d), a float; of (..., n, d), a tensor (..., 1, 1).

    Above 2000 points, of about 1000 evenly strided ones. Where more than half the pairs coincide, the median of the
    positive distances; 1 where all points are equal. No gradient passes.
    """
    sample = tensor(points).detach()
    if sample.ndim < 2 or sample.shape[-2] < 2:
        raise ValueError(f"points must be (..., n, d) with n at least 2: got shape {tuple(sample.shape)}")
    n = sample.shape[-2]
    if n > _ALL_PAIRS:
        sample = sample[..., :: n // 1000, :]
    n = sample.shape[-2]
    i, j = torch.triu_indices(n, n, 1, device=sample.device)
    d2 = squared_distances(sample.double(), sample.double())[..., i, j]
    d2 = torch.where((d2 > 0) | (d2.median(-1, keepdim=True).values > 0), d2, torch.nan)
    median = d2.nanmedian(-1).values.sqrt().nan_to_num(nan=1.0)
    return median.item() if median.ndim == 0 else median[..., None, None].to(tensor(points).dtype)


def _plain(value: Any) -> Any:
    if isinstance(value, str | Tensor):
        return value
    if hasattr(value, "tolist"):
        value = value.tolist()
    return tuple(value) if isinstance(value, Sequence) else value


def _refuse_median(value: Any, name: str) -> None:
    if isinstance(value, str):
        raise ValueError(f"{name} must be a number or a sequence: got {value!r}")
