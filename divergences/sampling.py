"""Monte Carlo values of D(P‖Q) where no exact way exists, from the two log-densities and draws of both laws."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.distributions as td
from scipy import stats
from torch import Tensor

from divergences._generator import FDivergence
from divergences.evaluate import laws
from divergences.exact import type_name
from divergences.laws import Empirical, Probabilities
from divergences.line import line, scipy_of
from divergences.named import f_divergence_named
from divergences.results import Estimate

_BLOCK = 100_000


def monte_carlo(
    p: Any, q: Any, divergence: str | FDivergence = "kl", n: int = 100_000, seed: int | None = 0
) -> Estimate:
    """D_f(P‖Q) ± its standard error from n draws, half from each law; mixtures and any dimension included.

    With m = (p + q)/2 the value is the mean of q·f(p/q)/m over the mixture: unbiased, bounded where f is, and free of
    the weights p/q that have no variance. Only densities and draws of both laws are needed.

    Args:
        p: P, a torch or frozen scipy distribution with a density.
        q: Q, the same.
        divergence: a row of the table, by name or as an object.
        n: the number of draws, at least 4.
        seed: of the draws; None for fresh ones.

    Raises:
        TypeError: a law without a density or without draws, a divergence that is no f-divergence, or an argument of
            the wrong type.
        ValueError: n is too small, or the event shapes differ.
        NotImplementedError: a torch law lacks a method that is needed.

    Example:
        >>> from scipy import stats
        >>> e = monte_carlo(stats.norm(0, 1), stats.norm(1, 1), "kl", n=10_000, seed=0)
        >>> abs(e.value - 0.5) < 4 * e.stderr
        True
    """
    d = f_divergence_named(divergence)
    for name, given in (("n", n), ("seed", seed)):
        if not (isinstance(given, int | np.integer) or (name == "seed" and given is None)) or isinstance(given, bool):
            raise TypeError(f"{name} must be an integer{' or None' if name == 'seed' else ''}: got {given!r}")
    if n < 4:
        raise ValueError(f"n must be at least 4: got {n}")
    P, Q = laws(p, q, "auto")
    for name, law in (("p", P), ("q", Q)):
        if isinstance(law, Probabilities | Empirical):
            raise TypeError(f"{name} must have a density: a finite support has an exact value")
        if not isinstance(law, td.Distribution) and not hasattr(law, "rvs"):
            raise TypeError(f"{name} must be a torch or frozen scipy distribution with rvs: got {type(law).__name__}")
    if _is_discrete(P) != _is_discrete(Q):
        raise TypeError(
            "p and q, a discrete law and one with a density, are mutually singular: the value is known exactly"
        )
    shapes = _event_shape(P), _event_shape(Q)
    if shapes[0] != shapes[1] and (shapes[0].numel() != 1 or shapes[1].numel() != 1):
        raise ValueError(f"p and q must have one event shape: got {tuple(shapes[0])} and {tuple(shapes[1])}")
    generator = np.random.default_rng(seed)
    try:
        halves = [_terms(d, P, Q, law, n // 2, generator) for law in (P, Q)]
    except NotImplementedError as error:
        if str(error):
            raise
        laws_named = f"{type_name(P)} and {type_name(Q)}"
        raise NotImplementedError(f"no Monte Carlo value for {laws_named}: a method of theirs is missing") from error
    value = sum(float(half.mean()) for half in halves) / 2
    stderr = (sum(float(half.var(correction=1)) / len(half) for half in halves)) ** 0.5 / 2
    notes: tuple[str, ...] = ()
    interval: tuple[float, float] | None = (value - 1.959964 * stderr, value + 1.959964 * stderr)
    if not np.isfinite(value) or not np.isfinite(stderr):
        interval, notes = None, ("draws met mass of one law where the other has none: the value is infinite",)
    else:
        every = torch.cat(halves).abs()
        share = float(every.topk(max(1, len(every) // 1000)).values.sum() / every.sum().clamp(min=1e-300))
        if share > 0.5:
            interval, notes = (
                None,
                (f"the largest 0.1% of the draws make {share:.0%} of the value: stderr is not trusted",),
            )
    return Estimate(value, stderr, interval, "unbiased", d.name, "monte_carlo", n // 2, n // 2, notes, 0.95, seed)


def _is_discrete(law: Any) -> bool:
    if isinstance(law, td.Distribution):
        while isinstance(law, td.Independent):
            law = law.base_dist
        law = law.component_distribution if isinstance(law, td.MixtureSameFamily) else law
        return law.support is not None and bool(law.support.is_discrete)
    return isinstance(getattr(law, "dist", None), stats.rv_discrete) or not hasattr(law, "logpdf")


def _event_shape(law: Any) -> torch.Size:
    if isinstance(law, td.Distribution):
        return law.event_shape
    dimension = getattr(law, "dim", None)
    return torch.Size([int(dimension)] if isinstance(dimension, int | np.integer) else [])


def _terms(d: FDivergence, p: Any, q: Any, law: Any, n: int, generator: np.random.Generator) -> Tensor:
    parts = []
    for start in range(0, n, _BLOCK):
        x = draw(law, min(_BLOCK, n - start), generator)
        log_p, log_q = log_density(p, x), log_density(q, x)
        both = (log_p > -torch.inf) & (log_q > -torch.inf)
        a, b = torch.where(both, log_p, 0.0), torch.where(both, log_q, 0.0)
        scale, value = d.log_perspective(a, b)
        inside = (scale - torch.logaddexp(a, b)).exp() * 2 * value
        alone = torch.where(
            log_p > log_q,
            torch.full_like(a, 2 * (d.slope_at_infinity - d._slope_at_one)),
            torch.full_like(a, 2 * (d.f_at_zero + d._slope_at_one)),
        )
        parts.append(torch.where(both, inside, alone))
    return torch.cat(parts)


def log_density(law: Any, x: Tensor) -> Tensor:
    """Return the log-density at draws x (n, *event), -inf outside the support."""
    if not isinstance(law, td.Distribution):
        log = law.logpdf if hasattr(law, "logpdf") else law.logpmf
        return torch.as_tensor(np.asarray(log(x.numpy())))
    one_dimensional = line(law)
    if one_dimensional is not None:
        with np.errstate(divide="ignore"):
            return torch.as_tensor(one_dimensional.logpdf(x.reshape(len(x)).numpy()))
    assert law.support is not None  # the door refuses a law without a density
    inside = law.support.check(x).reshape(len(x), -1).all(-1)
    if not bool(inside.any()):
        return torch.full((len(x),), -torch.inf, dtype=torch.float64)
    safe = torch.where(inside.reshape(-1, *[1] * (x.ndim - 1)), x, x[inside][0])
    return torch.where(inside, law.log_prob(safe).detach().double().reshape(len(x)), -torch.inf)


def draw(law: Any, n: int, generator: np.random.Generator) -> Tensor:
    """Draws (n, *event) of a law in float64, from ``generator`` alone where the family is known."""
    if not isinstance(law, td.Distribution):
        return (
            torch.as_tensor(np.asarray(law.rvs(size=n, random_state=generator), dtype=float)).reshape(n, -1).squeeze(-1)
        )
    if law.batch_shape.numel() != 1:
        raise ValueError(f"one law at a time: got batch shape {tuple(law.batch_shape)}")
    event = law.event_shape
    one_dimensional = line(law)
    if one_dimensional is not None and one_dimensional.sample is not None:
        return torch.as_tensor(one_dimensional.sample(n, generator)).reshape(n, *event)
    if isinstance(law, td.MultivariateNormal):
        z = torch.as_tensor(generator.standard_normal((n, event.numel())))
        return law.loc.detach().double().reshape(-1) + z @ law.scale_tril.detach().double().reshape(*2 * event).mT
    if isinstance(law, td.Independent) and (frozen := scipy_of(law.base_dist)) is not None:
        shape = tuple(s for s in event if s != 1)
        return torch.as_tensor(frozen.rvs(size=(n, *shape), random_state=generator)).reshape(n, *event)
    if isinstance(law, td.Dirichlet):
        return torch.as_tensor(stats.dirichlet.rvs(law.concentration.double().numpy().ravel(), n, generator))
    if isinstance(law, td.MixtureSameFamily):
        return _draw_mixture(law, n, generator)
    state = torch.random.get_rng_state()
    try:  # torch's laws take no generator: its global state is lent and given back
        torch.default_generator.manual_seed(int(generator.integers(2**62)))
        return law.sample((n,)).double().reshape(n, *event)
    finally:
        torch.random.set_rng_state(state)


def _draw_mixture(law: td.MixtureSameFamily, n: int, generator: np.random.Generator) -> Tensor:
    weights = law.mixture_distribution.probs.detach().double().numpy().ravel()
    which = generator.choice(len(weights), size=n, p=weights / weights.sum())
    component = law.component_distribution
    if isinstance(component, td.MultivariateNormal):
        z = torch.as_tensor(generator.standard_normal((n, *law.event_shape)))
        L, loc = component.scale_tril.detach().double()[which], component.loc.detach().double()[which]
        return loc + (L @ z.unsqueeze(-1)).squeeze(-1)
    base = component.base_dist if isinstance(component, td.Independent) else component
    frozen = scipy_of(base)
    if frozen is None:
        raise NotImplementedError(f"no draws from a mixture of {type(base).__name__}")
    every = frozen.rvs(size=(n, *[s for s in base.batch_shape if s != 1]), random_state=generator)
    return torch.as_tensor(every).reshape(n, *base.batch_shape)[torch.arange(n), torch.as_tensor(which)]
