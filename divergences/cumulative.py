"""Distribution functions of laws that offer none of their own, or only a rough one, from their density.

F is the mass of the panels to the left and of the part of the panel that x is in; 1 − F is summed from the right.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from divergences.line import Line, inverse
from divergences.pieces import Array, Charts, Pieces, span_of

Function = Callable[[Array], Array]


def with_distribution(law: Line) -> Line:
    """Return the law with cdf, sf, ppf and isf of its density to 1e-8, if it lacks any of them; else as it is.

    Raises:
        ConvergenceError: the density cannot be integrated.
    """
    if law.cdf is not None and law.sf is not None and law.ppf is not None and law.isf is not None:
        return law
    found = Pieces(law).integrate(lambda anchor, offset: _density(law, anchor, offset))
    assert found is not None  # a density is integrable
    found.settled()
    panels = found.panels
    left, right = span_of(panels)
    order = np.argsort(left)
    panels, left, right = panels.taken(order), left[order], right[order]
    masses = _mass(law, panels, panels.low, panels.high)
    below = np.concatenate([[0.0], np.cumsum(masses)])
    above = np.concatenate([np.cumsum(masses[::-1])[::-1], [0.0]])
    total = below[-1]

    def parts(x: Array) -> tuple[Array, Array, Array]:
        """Return the panel that x is in, and the mass of that panel on either side of x."""
        x = np.asarray(x, dtype=float).ravel()
        at = np.clip(np.searchsorted(left, x, side="right") - 1, 0, len(left) - 1)
        here = panels.taken(at)
        tau = np.clip(here.inverse(np.clip(x, left[at], right[at])), here.low, here.high)
        first, last = np.where(here.is_rising, (here.low, here.high), (here.high, here.low))
        tau = np.where(x <= left[at], first, np.where(x >= right[at], last, tau))
        one, other = _mass(law, here, here.low, tau), _mass(law, here, tau, here.high)
        return at, np.where(here.is_rising, one, other), np.where(here.is_rising, other, one)

    def cdf(x: Array) -> Array:
        at, before, _ = parts(x)
        return (np.minimum(below[at] + before, total) / total).reshape(np.shape(x))

    def sf(x: Array) -> Array:
        at, _, after = parts(x)
        return (np.minimum(above[at + 1] + after, total) / total).reshape(np.shape(x))

    law.rounding = 0.0
    law.cdf, law.sf, law.least_level = cdf, sf, 1e-38  # below the peak by so much the density was not followed
    law.ppf = lambda u: inverse(cdf, np.asarray(u), law.marks)
    law.isf = lambda u: -inverse(lambda x: sf(-x), np.asarray(u), -law.marks[::-1])
    return law


def _density(law: Line, anchor: Array, offset: Array) -> tuple[Array, Array]:
    log = law.at(anchor, offset)
    return np.where(np.isnan(log), -np.inf, log), np.ones_like(log)


def _mass(law: Line, panels: Charts, low: Array, high: Array) -> Array:
    nodes, weights = np.polynomial.legendre.leggauss(16)
    tau = ((low + high) / 2)[:, None] + ((high - low) / 2)[:, None] * nodes
    anchor, offset, log_jacobian = panels.at(tau)
    with np.errstate(all="ignore"):
        size, _ = _density(law, anchor.ravel(), offset.ravel())
    return np.exp(size.reshape(tau.shape) + log_jacobian) @ weights * (high - low) / 2
