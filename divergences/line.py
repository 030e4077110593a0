"""Laws on the line as quadrature sees them: a log-density, a support, marks to cut at, and cdf and quantiles."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributions as td
from scipy import stats
from scipy.special import i0e, logsumexp

from divergences._arrays import mapped
from divergences.laws import line_arguments

Array = np.ndarray
_LEVELS = np.asarray([1e-10, 1e-6, 1e-3, 0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98, 1 - 1e-3, 1 - 1e-6, 1 - 1e-10])


class Line:
    """A continuous law on the line. ``cdf``, ``sf``, ``ppf`` and ``isf`` may be None: `cumulative` adds them."""

    name: str
    support: tuple[float, float]
    marks: Array
    logpdf: Callable[[Array], Array]
    cdf: Callable[[Array], Array] | None = None
    sf: Callable[[Array], Array] | None = None
    ppf: Callable[[Array], Array] | None = None
    isf: Callable[[Array], Array] | None = None
    sample: Callable[[int, np.random.Generator], Array] | None = None
    from_low: Callable[[Array], Array] | None = None
    from_high: Callable[[Array], Array] | None = None
    rounding: float = 0.0  # of cdf and sf where they are small
    least_level: float = 0.0  # the smallest level whose quantile is known
    has_gaps: bool = False  # whether the density may vanish inside the support
    law: td.Distribution | None = None  # what the gradient goes through

    def at(self, anchor: Array, offset: Array) -> Array:
        """Return the log-density at anchor + offset, from ``from_low(offset)`` or ``from_high(-offset)`` at an end."""
        beyond = (anchor == self.support[0]) & (offset < 0) | (anchor == self.support[1]) & (offset > 0)
        value = np.where(beyond, -math.inf, self.logpdf(anchor + offset))
        ends = (self.from_low, self.support[0], offset), (self.from_high, self.support[1], -offset)
        for from_end, end, distance in ends:
            if from_end is not None and (near := (anchor == end) & (distance > 0)).any():
                value[near] = from_end(distance[near])
        return value

    @property
    def is_heavy(self) -> bool:
        """Whether the extreme quantiles are so far out that what lies beyond them may count in a mean."""
        middle = self.marks[len(self.marks) // 4], self.marks[3 * len(self.marks) // 4]
        return bool(self.marks[-1] - self.marks[0] > 1e4 * (middle[1] - middle[0]))

    @property
    def needs_gradient(self) -> bool:
        """Whether a parameter waits for a gradient."""
        return torch.is_grad_enabled() and self.law is not None and needs_gradient(self.law)

    @property
    def has_moving_end(self) -> bool:
        """Whether an end of the support waits for a gradient, which no integral over fixed nodes has."""
        if not self.needs_gradient:
            return False
        ends = (getattr(self.law.support, name, None) for name in ("lower_bound", "upper_bound"))  # type: ignore
        moving = any(isinstance(end, torch.Tensor) and end.requires_grad for end in ends)
        inner = isinstance(self.law, td.MixtureSameFamily | td.TransformedDistribution) and self.has_gaps
        return moving or inner and any(math.isfinite(end) for end in self.support)

    def torch_logpdf(self, x: Array) -> torch.Tensor:
        """Return the log-density at x, differentiable in the parameters; −inf outside the support."""
        assert self.law is not None and self.law.support is not None
        known = np.isfinite(values := self.at(np.zeros_like(x), x))
        if not self.needs_gradient:
            return torch.from_numpy(np.asarray(values))
        inside = torch.from_numpy(np.where(known, x, x[known][0])).reshape(-1, *self.law.event_shape)
        return torch.where(torch.from_numpy(known), self.law.log_prob(inside).double(), -math.inf)

    def resolves(self, end: float) -> bool:
        """Whether `at` needs no more digits near ``end`` than it has: it is no unresolved singularity."""
        known = (
            self.from_low is not None
            and end == self.support[0]
            or self.from_high is not None
            and end == self.support[1]
        )
        return end == 0 or known or not math.isinf(float(self.logpdf(np.asarray([end]))[0]))


def line(law: Any) -> Line | None:
    """Return the view of a law of one real number; None for any other law, and for a batch of more than one."""
    if isinstance(law, td.Distribution):
        if law.event_shape.numel() != 1 or law.batch_shape.numel() != 1 or not is_continuous(law):
            return None
        given = law
        while isinstance(law, td.Independent):
            law = law.base_dist
        frozen = scipy_of(law)
        mixture = _mixture(law) if isinstance(law, td.MixtureSameFamily) else None
        if mixture is not None:
            result = mixture
        elif frozen is None:
            result = _from_torch(law)
        else:
            result = _from_scipy(frozen, type(law).__name__)
            if not _has_logpdf(frozen) and math.isinf(result.support[1]):  # torch's does not underflow far out
                result.logpdf, result.from_low = _log_prob(_doubled(law), *result.support), None
        result.law = given
        return result
    if hasattr(law, "logpdf") and hasattr(law, "dist") and np.ndim(law.mean()) == 0:
        return _from_scipy(law, law.dist.name)
    return None


def needs_gradient(law: td.Distribution) -> bool:
    """Whether a parameter of a torch law, or of a transform in it, requires a gradient."""
    found: list[bool] = []

    def look(part: torch.Tensor) -> torch.Tensor:
        found.append(part.requires_grad)
        return part

    mapped(law, look)
    return any(found)


def is_continuous(law: td.Distribution) -> bool:
    """Whether a torch law has a density."""
    return law.support is not None and not law.support.is_discrete


def _n(value: Any) -> Any:
    return np.squeeze(torch.as_tensor(value).detach().double().cpu().numpy())


_SCIPY: dict[type, Callable[[Any], Any]] = {
    td.Normal: lambda l: stats.norm(_n(l.loc), _n(l.scale)),
    td.Cauchy: lambda l: stats.cauchy(_n(l.loc), _n(l.scale)),
    td.Laplace: lambda l: stats.laplace(_n(l.loc), _n(l.scale)),
    td.Uniform: lambda l: stats.uniform(_n(l.low), _n(l.high) - _n(l.low)),
    td.Exponential: lambda l: stats.expon(0, 1 / _n(l.rate)),
    td.Gamma: lambda l: stats.gamma(_n(l.concentration), 0, 1 / _n(l.rate)),
    td.Chi2: lambda l: stats.chi2(_n(l.df)),
    td.Beta: lambda l: stats.beta(_n(l.concentration1), _n(l.concentration0)),
    td.StudentT: lambda l: stats.t(_n(l.df), _n(l.loc), _n(l.scale)),
    td.LogNormal: lambda l: stats.lognorm(_n(l.scale), 0, np.exp(_n(l.loc))),
    td.Gumbel: lambda l: stats.gumbel_r(_n(l.loc), _n(l.scale)),
    td.HalfNormal: lambda l: stats.halfnorm(0, _n(l.scale)),
    td.HalfCauchy: lambda l: stats.halfcauchy(0, _n(l.scale)),
    td.Weibull: lambda l: stats.weibull_min(_n(l.concentration), 0, _n(l.scale)),
    td.InverseGamma: lambda l: stats.invgamma(_n(l.concentration), 0, _n(l.rate)),
    td.Pareto: lambda l: stats.pareto(_n(l.alpha), 0, _n(l.scale)),
}


def scipy_of(law: td.Distribution) -> Any:
    """Return the scipy law equal to a torch law, batch axes squeezed; None where scipy has no such family."""
    if isinstance(law, td.MultivariateNormal) and law.event_shape == (1,):
        return stats.norm(_n(law.loc), _n(law.scale_tril[..., 0, 0]))
    translate = _SCIPY.get(type(law))
    return None if translate is None else translate(law)


def _from_scipy(frozen: Any, name: str) -> Line:
    result = Line()
    low, high = frozen.support()
    result.name, result.support = name, (float(low), float(high))
    result.logpdf, result.cdf, result.sf = _known(frozen), frozen.cdf, frozen.sf
    result.ppf, result.isf = frozen.ppf, frozen.isf
    shapes, loc, scale = line_arguments(frozen)
    if math.isfinite(low):  # the law of X − low, whose density near 0 has all its digits
        result.from_low = _known(frozen.dist(*shapes, loc=loc - low, scale=scale))
    if frozen.dist.name == "beta":
        result.from_high = frozen.dist(*shapes[::-1], scale=scale).logpdf
    marks = np.concatenate([frozen.ppf(_LEVELS[:7]), frozen.isf(1 - _LEVELS[7:])])
    result.marks = np.unique(marks[np.isfinite(marks)])
    result.rounding = 0.0 if type(frozen.dist)._sf is not stats.rv_continuous._sf else 1e-15
    if not _is_sound(frozen, result.marks):
        result.cdf = result.sf = result.ppf = result.isf = None
    result.sample = lambda n, generator: frozen.rvs(size=n, random_state=generator)
    return result


def _is_sound(frozen: Any, marks: Array) -> bool:
    """Whether scipy has a distribution function of this family, and not an integral that loses sight of the mass."""
    if type(frozen.dist)._cdf is stats.rv_continuous._cdf or not len(marks):
        return False
    far = 1e9 * (marks[-1] - marks[0] + 1)
    low, high = marks[0] - far, marks[-1] + far
    with np.errstate(all="ignore"):
        return bool(max(frozen.cdf(low), 1 - frozen.sf(low), frozen.sf(high), 1 - frozen.cdf(high)) <= 1e-9)


def _has_logpdf(frozen: Any) -> bool:
    return type(frozen.dist)._logpdf is not stats.rv_continuous._logpdf


def _known(frozen: Any) -> Callable[[Array], Array]:
    """Return the log-density; nan where it has left the range of floating point inside the support."""
    low, high = frozen.support()
    # Families without a log-density of their own take the logarithm of a density that underflows much earlier.
    least = -1e300 if _has_logpdf(frozen) else -700.0

    def logpdf(x: Array) -> Array:
        with np.errstate(all="ignore"):
            value = np.asarray(frozen.logpdf(x))
        lost = (value < least) | (value == math.inf)  # a singular end, met by rounding
        return np.where(lost & (x > low) & (x < high) | (value == math.inf), math.nan, value)

    return logpdf


def _mixture(law: td.MixtureSameFamily) -> Line | None:
    component = law.component_distribution
    while isinstance(component, td.Independent):
        component = component.base_dist
    parts = scipy_of(component)
    if parts is None:
        return None
    weights = np.atleast_1d(_n(law.mixture_distribution.probs))
    weights = weights / weights.sum()
    result = Line()
    low, high = (np.atleast_1d(end) for end in parts.support())
    result.name, result.support = type(law).__name__, (float(low.min()), float(high.max()))
    with np.errstate(divide="ignore"):
        log_weights = np.log(weights)

    def logpdf(x: Array) -> Array:
        return logsumexp(parts.logpdf(np.asarray(x)[..., None]) + log_weights, axis=-1)

    def cdf(x: Array) -> Array:
        return parts.cdf(np.asarray(x)[..., None]) @ weights

    def sf(x: Array) -> Array:
        return parts.sf(np.asarray(x)[..., None]) @ weights

    def sample(n: int, generator: np.random.Generator) -> Array:
        which = generator.choice(len(weights), size=n, p=weights)
        return parts.rvs(size=(n, len(weights)), random_state=generator)[np.arange(n), which]

    result.logpdf, result.cdf, result.sf, result.sample = logpdf, cdf, sf, sample
    result.has_gaps = bool(np.isfinite(low).any() or np.isfinite(high).any())
    marks = np.concatenate([parts.ppf(_LEVELS[:7, None]).ravel(), parts.isf(1 - _LEVELS[7:, None]).ravel(), low, high])
    result.marks = np.unique(marks[np.isfinite(marks)])
    result.ppf = lambda u: inverse(cdf, np.asarray(u), result.marks)
    result.isf = lambda u: -inverse(lambda x: sf(-x), np.asarray(u), -result.marks[::-1])
    return result


def inverse(cdf: Callable[[Array], Array], levels: Array, marks: Array) -> Array:
    """Return the quantiles of a distribution function, by bisection from its marks."""
    low, high = np.full(levels.shape, marks[0]), np.full(levels.shape, marks[-1])
    width = marks[-1] - marks[0] + 1.0
    while (below := cdf(low) > levels).any() and width < 1e300:
        low, width = np.where(below, low - width, low), 2 * width
    width = marks[-1] - marks[0] + 1.0
    while (above := cdf(high) < levels).any() and width < 1e300:
        high, width = np.where(above, high + width, high), 2 * width
    for _ in range(100):
        middle = (low + high) / 2
        if ((middle == low) | (middle == high)).all():
            break
        below = cdf(middle) < levels
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


def _from_torch(law: td.Distribution) -> Line:
    """Return a law that scipy lacks: its own log_prob, and marks from quantiles or from mean and deviation."""
    result, law = Line(), _doubled(law)
    result.has_gaps = True
    result.name = type(law).__name__
    low = float(torch.as_tensor(getattr(law.support, "lower_bound", -math.inf)))
    high = float(torch.as_tensor(getattr(law.support, "upper_bound", math.inf)))
    if isinstance(law, td.VonMises):  # torch gives it the whole line, on which it is periodic
        low, high = -math.pi, math.pi
    result.support = (low, high)

    result.logpdf = _log_prob(law, low, high)
    if isinstance(law, td.VonMises):  # torch's Bessel function has eight digits
        loc, kappa = _n(law.loc), _n(law.concentration)
        constant = math.log(2 * math.pi * i0e(kappa)) + kappa
        result.logpdf = lambda x: np.where(np.abs(x) <= math.pi, kappa * np.cos(x - loc) - constant, -math.inf)
    try:
        marks = (
            law.icdf(torch.as_tensor(_LEVELS).reshape(-1, *[1] * len(law.batch_shape)))
            .detach()
            .double()
            .numpy()
            .ravel()
        )
    except NotImplementedError:
        spread = _n(law.stddev)
        marks = _n(law.mean) + (spread if np.isfinite(spread) else 1.0) * np.linspace(-12, 12, 97)
    marks = marks[np.isfinite(marks) & (marks > low) & (marks < high)]
    result.marks = np.unique(np.concatenate([marks, [end for end in (low, high) if math.isfinite(end)]]))
    return result


def _log_prob(law: td.Distribution, low: float, high: float) -> Callable[[Array], Array]:
    """Return torch's log-density, −inf outside the support."""

    def logpdf(x: Array) -> Array:
        inside = (x >= low) & (x <= high)
        safe = torch.as_tensor(np.where(inside, x, _inside(low, high)), dtype=torch.float64)
        value = law.log_prob(safe.reshape(-1, *law.batch_shape, *law.event_shape)).detach().numpy().reshape(x.shape)
        return np.where(inside & ~np.isnan(value), value, -math.inf)  # a transform may have no number at an end

    return logpdf


def _doubled(law: td.Distribution) -> td.Distribution:
    """Return a copy of a torch law with its parameters in float64: in float32 its density integrates to 1 ± 1e-7."""
    return mapped(law, lambda part: part.detach().double() if part.is_floating_point() else part)


def _inside(low: float, high: float) -> float:
    if math.isfinite(low) and math.isfinite(high):
        return (low + high) / 2
    return low + 1 if math.isfinite(low) else high - 1 if math.isfinite(high) else 0.0
