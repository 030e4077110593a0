"""Exact transport of many points by few arcs: the network simplex on those of small reduced cost, until no other pays.

Potentials f, g near the optimum leave most pairs with a reduced cost c_ij − f_i − g_j far above 0, which no optimal
plan uses. What the simplex finds on the others is optimal for all if its potentials leave no reduced cost below 0; else
those below are added, and it is run again. Primal and dual cost certify the end. No matrix of costs is made.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from estimators.ops import reduced_costs, sinkhorn
from estimators.transport.ground_costs import ground_cost
from estimators.transport.line import monotone_arcs

LEAST = 2_000_000  # pairs from which it pays
SHARE = 0.01  # of the mean cost: the ε of the entropic problem that gives the first potentials
SWEEPS, ERROR = 40, 1e-2  # of it
ARCS = 20  # a point, at first and more at most
SAMPLED = 100_000  # pairs that tell how small the smallest reduced costs are
CERTAIN, ROUNDING = 1e-10, 1e-12  # gap that is rounding, of the cost and of the largest cost of a pair
ROUNDS = 10


class Found(NamedTuple):
    """A plan as pairs (i, j) with a mass, potentials without a negative reduced cost, primal and dual cost; float64."""

    rows: Tensor
    columns: Tensor
    mass: Tensor
    f: Tensor
    g: Tensor
    primal: float
    dual: float


def why_not(x: Tensor, y: Tensor, a: Tensor, b: Tensor, order: float) -> str:
    """What keeps it from paying, or from being tried; nothing where it does."""
    if x.ndim > 2 or y.ndim > 2 or len(x) * len(y) < LEAST:
        return f"a batch, or fewer than {LEAST} pairs"
    if not bool((a > 0).all() and (b > 0).all()):
        return "points without weight"
    path = sinkhorn.explain(x, y, a, b, _cost(order))
    return "" if path.path == "native" else path.why


def solve(x: Tensor, y: Tensor, a: Tensor, b: Tensor, order: float) -> Found | None:
    """The cheapest plan for ‖x_i − y_j‖^order, x (n, d) and y (m, d), weights a, b > 0; None where none is certain.

    Cost: some sweeps of entropic transport, and each of a few rounds a simplex of some 40(n + m) arcs and O(nmd);
    memory O((n + m)d).

    References: Schmitzer 2016 (sparse problems and their certificate), here with entropic potentials.
    """
    import ot
    from scipy.sparse import coo_matrix

    x, y, a, b = (t.detach().double() for t in (x, y, a, b))
    a, b = a / a.sum(), b / b.sum()
    n, m = len(x), len(y)
    generator = torch.Generator().manual_seed(0)
    some, others = (torch.randint(k, (SAMPLED,), generator=generator) for k in (n, m))
    sampled = _costs(x, y, some, others, order)
    unit = float(sampled.amax())
    g = _potential(x, y, a, b, order, SHARE * float(sampled.mean()))
    f = reduced_costs.lowest(x, y, g, order)
    g = reduced_costs.lowest(y, x, f, order)
    i, j, _ = monotone_arcs(x[:, 0], y[:, 0], a, b)  # of some plan: without one the problem has no solution
    pairs = [i * m + j]
    limit = float("inf")
    for _ in range(ROUNDS):
        reduced = (sampled - f[some] - g[others]).sort().values
        limit = min(limit, float(reduced[min(SAMPLED - 1, int(ARCS * (n + m) / (n * m) * SAMPLED))]))
        i, j = reduced_costs.below(x, y, f, g, limit, order)
        pairs = [torch.cat([*pairs, i * m + j]).unique()]
        i, j = pairs[0] // m, pairs[0] % m
        costs = _costs(x, y, i, j, order)
        given = coo_matrix(((costs / unit).numpy(), (i.numpy(), j.numpy())), shape=(n, m))
        plan, log = ot.lp.emd(a.numpy(), b.numpy(), given, numItermax=10_000_000, log=True, check_marginals=False)
        plan = plan.tocoo()
        rows, columns, mass = (torch.as_tensor(part) for part in (plan.row, plan.col, plan.data))
        rows, columns = rows.long(), columns.long()
        g = unit * torch.as_tensor(log["v"])
        f = reduced_costs.lowest(x, y, g, order)
        primal = float(mass @ _costs(x, y, rows, columns, order))
        g_above = reduced_costs.lowest(y, x, f, order)
        dual = float(a @ f + b @ g_above)
        if primal - dual <= CERTAIN * primal + ROUNDING * unit:
            return Found(rows, columns, mass, f, g_above, primal, dual)
        f, limit = unit * torch.as_tensor(log["u"]), 0.0
    return None


def _cost(order: float) -> sinkhorn.Cost:
    return sinkhorn.Cost(lambda x, y: ground_cost(x, y, order), order)


def _potential(x: Tensor, y: Tensor, a: Tensor, b: Tensor, order: float, epsilon: float) -> Tensor:
    """G near the optimum, by entropic transport in single precision."""
    x, y, a, b = (t.float() for t in (x, y, a, b))
    cost = _cost(order)
    found = sinkhorn.transport(x, y, a, b, torch.tensor(epsilon), cost, tolerance=ERROR, iterations=SWEEPS)
    return found.g.double()


def _costs(x: Tensor, y: Tensor, i: Tensor, j: Tensor, order: float) -> Tensor:
    """The costs of some pairs."""
    return (x[i] - y[j]).square().sum(-1).pow(order / 2)
