"""Known laws: what may stand for P and Q, and how each is recognised.

A law is a `Probabilities` (a vector on the last axis), an `Empirical`, or a ``torch.distributions`` object; frozen
``scipy.stats`` laws are translated to torch's where it has them, and kept where not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributions as td
from scipy import stats
from torch import Tensor

from divergences._arrays import tensor
from divergences.blocks import by_blocks


class ConvergenceError(RuntimeError):
    """A solver or a quadrature did not reach its tolerance."""


class Probabilities(NamedTuple):
    """Probabilities of unnamed outcomes, on the last axis."""

    values: Tensor


class Empirical:
    """The law Σᵢ wᵢ δ(xᵢ) of points (n, d), or (n,) for d = 1, and weights (n,), 1/n each by default.

    Args:
        points: (n, d) or (n,).
        weights: (n,), non-negative, summing to 1.
        normalize: divide the weights by their sum, which may then be any positive number.
        nan_policy: "raise", or "omit" to leave out rows with NaN; ``omitted`` then says how many, and the weights of
            the others are divided by their sum.

    Raises:
        ValueError: no points, NaN or infinite points, or weights that are negative, not (n,), or do not sum to 1.

    Example:
        >>> Empirical([[0.0], [1.0]], weights=[0.25, 0.75])
        Empirical(n=2, d=1)
        >>> Empirical([0.0, float("nan"), 1.0], nan_policy="omit")
        Empirical(n=2, d=1, omitted=1)
    """

    def __init__(self, points: Any, weights: Any = None, normalize: bool = False, nan_policy: str = "raise") -> None:
        if nan_policy not in ("raise", "omit"):
            raise ValueError(f'nan_policy must be "raise" or "omit": got {nan_policy!r}')
        x = _numbers(points, "points")
        x = x.unsqueeze(-1) if x.ndim == 1 else x
        if x.ndim != 2 or 0 in x.shape:
            raise ValueError(f"points must be (n, d) or (n,) with n and d at least 1: got shape {tuple(x.shape)}")
        n = len(x)
        w = torch.full((n,), 1 / n, dtype=torch.float64, device=x.device)
        w = w if weights is None else _numbers(weights, "weights")
        if w.shape != (n,):
            raise ValueError(f"weights must be one for each of the {n} points: got shape {tuple(w.shape)}")
        missing = x.detach().isnan().any(-1)
        self.omitted = int(missing.sum())
        if self.omitted and nan_policy == "omit":
            x, w = x[~missing], w[~missing]
            if not len(x):
                raise ValueError(f"points must not all be NaN: got {n} of {n} rows with NaN")
        _check_finite(x)
        if normalize or self.omitted:
            w = _normalized(w)
        self.points, self.weights = x, checked_probabilities(w, "weights")
        self.is_torch = isinstance(points, Tensor) or isinstance(weights, Tensor)

    def __repr__(self) -> str:
        omitted = f", omitted={self.omitted}" if self.omitted else ""
        return f"{type(self).__name__}(n={len(self.points)}, d={self.points.shape[1]}{omitted})"


def _numbers(values: Any, name: str) -> Tensor:
    try:
        return tensor(values)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must hold numbers: {error}") from None


def _check_finite(points: Tensor) -> None:
    for what, wrong in (("NaN", points.detach().isnan()), ("infinite", points.detach().isinf())):
        if bool(wrong.any()):
            row = int(wrong.any(-1).nonzero()[0])
            raise ValueError(f"points must be finite: got {int(wrong.sum())} {what} entries, first in row {row}")


def _normalized(weights: Tensor) -> Tensor:
    w = weights.detach()
    total = float(w.sum())
    if not bool((w >= 0).all()) or not 0 < total < float("inf"):
        raise ValueError(
            f"weights must be non-negative with a positive, finite sum: got {float(w.min()):.6g} and sum {total:.6g}"
        )
    return weights / weights.sum()


class PointMass(Empirical):
    """All mass at one point x: a number or a vector (d,)."""

    def __init__(self, x: Any) -> None:
        point = tensor(x)
        if point.ndim > 1:
            raise ValueError(f"x must be one point, a number or (d,): got shape {tuple(point.shape)}")
        super().__init__(point.reshape(1, -1))
        self.is_torch = isinstance(x, Tensor)


def checked_probabilities(values: Tensor, name: str) -> Tensor:
    """``values`` in float32 or wider, if they are probabilities on the last axis; a ValueError names what is wrong."""
    if values.ndim == 0 or values.shape[-1] == 0:
        raise ValueError(f"{name} must have at least one outcome on its last axis: got shape {tuple(values.shape)}")
    v, wide = values.detach(), torch.promote_types(values.dtype, torch.float32)
    tolerance = {torch.float64: 1e-6, torch.float32: 1e-5}.get(values.dtype, 5e-3)
    if v.numel():
        found = by_blocks(lambda x: torch.stack([(x.sum(-1, dtype=wide) - 1).abs().amax(), -x.amin().to(wide)]), v)
        deviation, below = torch.stack(found).amax(0).tolist()
        if not (deviation <= tolerance and below <= 0):
            _refuse(v.double(), tolerance, name)
    return values.to(wide)


def _refuse(v: Tensor, tolerance: float, name: str) -> None:
    if bool(v.isnan().any()):
        raise ValueError(f"{name} must not contain NaN: got {int(v.isnan().sum())} of {v.numel()}")
    if bool((v < 0).any()):
        raise ValueError(f"{name} must not be negative: got {float(v.min()):.6g}")
    total = v.sum(-1)
    if not bool(((total - 1).abs() <= tolerance).all()):
        worst = float(total.flatten()[(total - 1).abs().flatten().argmax()])
        raise ValueError(f"{name} must sum to 1: got the sum {worst:.9g}")


def as_law(value: Any, name: str) -> Any:
    """Return the law that ``value`` stands for. Raises TypeError or ValueError naming the argument."""
    if isinstance(value, td.OneHotCategorical):
        return value._categorical  # with its logits, if it was given by them
    if isinstance(value, Empirical | td.Distribution):
        return value
    frozen = scipy_name(value)
    if frozen is not None:
        if hasattr(value, "freeze"):
            raise TypeError(
                f"{name} must be a frozen scipy distribution: got the family {frozen}, call it with its parameters"
            )
        if not hasattr(value, "rvs"):
            raise TypeError(f"{name} must be a frozen scipy.stats distribution, such as norm(0, 1): got {frozen}")
        try:
            return _translated(frozen, value)
        except ValueError as error:
            raise ValueError(f"{name} has no valid parameters: {str(error).splitlines()[0]}") from None
    if isinstance(value, str) or value is None or callable(value):
        raise TypeError(
            f"{name} must be probabilities, a torch or frozen scipy distribution, Empirical or PointMass: "
            f"got {type(value).__name__}"
        )
    return Probabilities(checked_probabilities(_numbers(value, name), name))


def scipy_name(value: Any) -> str | None:
    """Return the family of a frozen scipy law, or None for anything else."""
    if type(value).__module__.partition(".")[0] != "scipy":
        return None
    if hasattr(value, "dist"):
        return str(value.dist.name)
    if hasattr(value, "freeze"):
        return str(value.name)
    return type(value).__name__.removesuffix("_frozen") if hasattr(value, "logpdf") else None


def line_arguments(value: Any) -> tuple[tuple[Any, ...], Any, Any]:
    """``(shapes, loc, scale)`` of a frozen univariate scipy law."""
    shapes, loc, scale = value.dist._parse_args(*value.args, **value.kwds)
    return shapes, loc, scale


def _number(value: Any) -> Tensor:
    return torch.as_tensor(np.asarray(value, dtype=np.float64))


_TRANSLATIONS: dict[str, Callable[..., td.Distribution]] = {
    "norm": lambda loc, scale: td.Normal(loc, scale),
    "cauchy": lambda loc, scale: td.Cauchy(loc, scale),
    "laplace": lambda loc, scale: td.Laplace(loc, scale),
    "uniform": lambda loc, scale: td.Uniform(loc, loc + scale),
    "gumbel_r": lambda loc, scale: td.Gumbel(loc, scale),
    "t": lambda df, loc, scale: td.StudentT(df, loc, scale),
}
_TRANSLATIONS_AT_0: dict[str, Callable[..., td.Distribution]] = {  # families that torch has without a location
    "expon": lambda scale: td.Exponential(1 / scale),
    "gamma": lambda a, scale: td.Gamma(a, 1 / scale),
    "halfnorm": lambda scale: td.HalfNormal(scale),
    "pareto": lambda b, scale: td.Pareto(scale, b),
    "weibull_min": lambda c, scale: td.Weibull(scale, c),
    "halfcauchy": lambda scale: td.HalfCauchy(scale),
    "lognorm": lambda s, scale: td.LogNormal(scale.log(), s),
}


def _translated(name: str, value: Any) -> Any:
    if name == "multivariate_normal":
        mean, covariance = np.atleast_1d(value.mean), np.atleast_2d(value.cov)
        if np.linalg.matrix_rank(covariance) < len(covariance):
            raise ValueError("a multivariate_normal with a singular covariance has no density")
        return td.MultivariateNormal(_number(mean), _number(covariance))
    if name == "dirichlet":
        return td.Dirichlet(_number(value.alpha))
    if not hasattr(value, "dist"):
        return value
    shapes, loc, scale = line_arguments(value)
    given = [_number(s) for s in shapes]
    if name in _TRANSLATIONS:
        return _TRANSLATIONS[name](*given, _number(loc), _number(scale))
    if name in _TRANSLATIONS_AT_0 and not np.any(loc):
        return _TRANSLATIONS_AT_0[name](*given, _number(scale))
    if name == "beta" and not np.any(loc) and np.all(np.asarray(scale) == 1):
        return td.Beta(given[0], given[1])
    if name == "arcsine":
        return stats.beta(0.5, 0.5, loc, scale)
    if name == "vonmises" and np.all(np.asarray(scale) == 1):
        return td.VonMises(_number(loc), given[0])
    if name == "bernoulli" and not np.any(loc):
        return td.Bernoulli(given[0])
    if name == "binom" and not np.any(loc) and np.ndim(shapes[0]) == 0:
        return td.Binomial(int(given[0]), given[1])
    return value


def is_torch(value: Any) -> bool:
    """Whether the answer should be a tensor."""
    return isinstance(value, Tensor | td.Distribution) or bool(getattr(value, "is_torch", False))
