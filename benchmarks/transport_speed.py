"""Rows S5 to S7, S10 and S14 of `benchmarks.ops_speed`: transport beside POT, OTT and geomloss.

A peer is timed at the coarsest of THRESHOLDS, its own measure of convergence, at which its value is as right as ours
must be; POT in log space at its defaults as well, which is how it is most often called.
"""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import estimators as est
from estimators.ops import sinkhorn
from estimators.transport import arcs

SHARE = 0.01  # of the mean cost that ε is
EXACT = 5e-6  # of the value
CERTAIN = 1e-9  # of an exact cost
DIVERGENCE = 1e-4  # of the Sinkhorn divergence
ROUGH = 1e-3  # of a peer whose value has an error of first order
THRESHOLDS = (1e-3, 1e-4, 1e-5, 1e-6)
MOMENTA = (1.0, 1.5, 1.8)  # of OTT; the fastest at n = 1000 is taken for n = 5000 too
BATCH, SMALL = 64, 200
Call = Callable[[], float]


def drawn(n: int, d: int = 10, *lead: int) -> tuple[Tensor, Tensor]:
    x, y = torch.randn(2, *lead, n, d, generator=torch.Generator().manual_seed(n))
    return x, y + 0.1


def clusters(n: int) -> tuple[Tensor, Tensor]:
    """Two far clusters a side, of which a tenth of the mass must change place."""
    generator = torch.Generator().manual_seed(n)
    x, y = 0.05 * torch.randn(2, n, 2, generator=generator)
    x[: n // 2, 0] += 5
    y[: n // 2 + n // 10, 0] += 5
    return x, y


def epsilon_of(x: Tensor, y: Tensor, share: float = SHARE) -> float:
    return share * float((torch.cdist(x.double(), y.double()) ** 2).mean())


def exact(x: Tensor, y: Tensor, epsilon: float, symmetric: bool = False) -> float:
    """The value in float64: marginals right to 1e-6 in L1, by which it errs by the square; to 1e-5 it is the same."""
    weights = [torch.full((len(p),), 1 / len(p), dtype=torch.float64) for p in (x, y)]
    cost = sinkhorn.Cost(lambda p, q: torch.cdist(p, q) ** 2, 2.0)
    rough, fine = (
        sinkhorn.transport(
            x.double(), y.double(), *weights, torch.tensor(epsilon, dtype=torch.float64), cost,
            symmetric=symmetric, tolerance=tolerance, iterations=20_000,
        )
        for tolerance in (1e-5, 1e-6)
    )  # fmt: skip
    assert float(fine.error) <= 1e-6 and abs(float(rough.value / fine.value) - 1) <= 1e-7, "no certain reference"
    return float(fine.value)


def ours(x: Tensor, y: Tensor, epsilon: float) -> float:
    return float(est.Sinkhorn(2, blur=math.sqrt(epsilon / 2), debiased=False).value(x, y))


def by_pot(x: Tensor, y: Tensor, epsilon: float, method: str, **how: Any) -> float:
    """The dual value at POT's potentials, f = ε log(u/a), which are those of its plan."""
    import ot

    C = ot.dist(x.double().numpy(), y.double().numpy())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it did not converge; the value says it
        plan, log = ot.sinkhorn([], [], C, epsilon, method=method, log=True, **how)
    logs = (log["log_u"], log["log_v"]) if "log_u" in log else (np.log(log["u"]), np.log(log["v"]))
    ends = sum(part.mean() + math.log(len(part)) for part in logs)
    return float(epsilon * (ends - (plan.sum() - 1)))


def by_ott(momentum: float, lse: bool, threshold: float, x: Any, y: Any, epsilon: float) -> Call:
    """OTT, compiled for the shapes before it is called, on arrays of its own."""
    import jax
    from ott.geometry import pointcloud
    from ott.problems.linear import linear_problem
    from ott.solvers.linear import acceleration
    from ott.solvers.linear.sinkhorn import Sinkhorn

    solver = Sinkhorn(
        threshold=threshold, max_iterations=5000, lse_mode=lse, momentum=acceleration.Momentum(value=momentum)
    )

    def value(x: Any, y: Any) -> Any:
        return solver(linear_problem.LinearProblem(pointcloud.PointCloud(x, y, epsilon=epsilon))).reg_ot_cost

    given = [jax.numpy.asarray(p.numpy()) for p in (x, y)]
    compiled = jax.jit(value).lower(*given).compile()
    return lambda: float(compiled(*given))


def right(call: Callable[[float], Any], truth: Any, within: float) -> float | None:
    """The coarsest threshold at which the values of a peer are right."""
    truth = torch.as_tensor(truth, dtype=torch.float64)
    for threshold in THRESHOLDS:
        if float((torch.as_tensor(call(threshold)).double() / truth - 1).abs().max()) <= within:
            return threshold
    return None


def ott(x: Tensor, y: Tensor, epsilon: float, truth: float, settings: list[Any], clock: Any) -> tuple[Any, Call]:
    """The fastest of the settings of OTT with which it is right, and the call."""
    found: dict[Any, Call] = {}
    for momentum, lse in settings:
        make = partial(by_ott, momentum, lse, x=x, y=y, epsilon=epsilon)
        threshold = right(lambda t, make=make: make(t)(), truth, EXACT)
        if threshold is not None:
            found[momentum, lse, threshold] = make(threshold)
    times = clock(found, 1)
    best = min(times, key=times.get)
    return best, found[best]


def entropic(
    key: str, n: int, bars: dict[str, Any], settings: list[Any], clock: Any, row: Any
) -> Iterator[dict[str, Any]]:
    """S5, S6: one value; clusters and a fifth of the ε must be right too. ``settings`` is left with the best."""
    x, y = drawn(n)
    epsilon = epsilon_of(x, y)
    truth = exact(x, y, epsilon)
    errors = [abs(ours(x, y, epsilon) / truth - 1)]
    for p, q, share in ((x, y, SHARE / 5), (*clusters(n), SHARE), (*clusters(n), SHARE / 5)):
        e = epsilon_of(p, q, share)
        errors.append(abs(ours(p, q, e) / exact(p, q, e) - 1))
    note = "value to {:.0e}, with a fifth of ε {:.0e}, of clusters {:.0e} and {:.0e}".format(*errors)
    calls: dict[str, Call] = {"ours": partial(ours, x, y, epsilon)}
    notes = dict.fromkeys(bars, "")
    if "POT log" in bars:
        log = partial(by_pot, x, y, epsilon, "sinkhorn_log")
        calls["POT log"] = log
        notes["POT log"] = f"POT at its defaults is right to {abs(log() / truth - 1):.0e}"
        threshold = right(lambda t: log(stopThr=t), truth, EXACT)
        if threshold is not None:
            early = clock({"it": partial(log, stopThr=threshold)}, 1)["it"]
            notes["POT log"] += f"; stopped at {threshold:g} to {EXACT:g} in {early:.3g} s"
    if importlib.util.find_spec("ott") is not None:
        best, calls["OTT"] = ott(x, y, epsilon, truth, settings, clock)
        settings[:] = [best[:2]]
        notes["OTT"] = "OTT with momentum {}, lse_mode {}, threshold {:g}".format(*best)
    times = clock(calls, 3)
    for name, bar in bars.items():
        figure = times[name] / times["ours"] if name in times else None
        pair = {k: times[k] for k in ("ours", name) if k in times}
        yield row(key, pair, figure, bar, max(errors) <= EXACT, f"{note}; {notes[name]}", f", against {name}")


def divergence(bar: Any, clock: Any, row: Any) -> Iterator[dict[str, Any]]:
    """S7: the debiased divergence, beside geomloss at a scaling of 0.99."""
    x, y = drawn(1000)
    epsilon = epsilon_of(x, y)
    blur = math.sqrt(epsilon / 2)
    truth = exact(x, y, epsilon) - (exact(x, x, epsilon, True) + exact(y, y, epsilon, True)) / 2
    call = partial(est.Sinkhorn(2, blur=blur).value, x, y)
    error = abs(float(call()) / truth - 1)
    calls: dict[str, Call] = {"ours": lambda: float(call())}
    note = f"value to {error:.0e}"
    if importlib.util.find_spec("geomloss") is not None:
        from geomloss import SamplesLoss

        peer = SamplesLoss("sinkhorn", p=2, blur=blur, scaling=0.99, backend="tensorized")
        calls["geomloss"] = lambda: 2 * float(peer(x, y))  # its cost is ‖x − y‖²/2, and its ε blur²
        note += f", of geomloss {abs(calls['geomloss']() / truth - 1):.0e}"
    times = clock(calls, 3)
    figure = times["geomloss"] / times["ours"] if "geomloss" in times else None
    yield row("S7", times, figure, bar, error <= DIVERGENCE, note, ", n = 1000, against geomloss")


def batched(bar: Any, clock: Any, row: Any) -> Iterator[dict[str, Any]]:
    """S14: one call for 64 problems, beside loops over them."""
    x, y = drawn(SMALL, 10, BATCH)
    epsilon = epsilon_of(x[0], y[0])
    estimator = est.Sinkhorn(2, blur=math.sqrt(epsilon / 2), debiased=False)
    truth = [exact(p, q, epsilon) for p, q in zip(x, y, strict=True)]
    error = max(abs(float(v) / t - 1) for v, t in zip(estimator.value(x, y), truth, strict=True))

    def loop(threshold: float) -> list[float]:
        how = {"stopThr": threshold, "numItermax": 100_000}
        return [by_pot(p, q, epsilon, "sinkhorn", **how) for p, q in zip(x, y, strict=True)]

    def in_one(threshold: float) -> Tensor:
        from ot.batch import solve_sample_batch

        return solve_sample_batch(x, y, reg=epsilon, tol=threshold, max_iter=5000, reg_type="kl", grad="detach").value

    calls: dict[str, Call] = {
        "ours": lambda: estimator.value(x, y),
        "our loop": lambda: [estimator.value(p, q) for p, q in zip(x, y, strict=True)],
    }
    peers = {"a POT loop": (loop, EXACT), "ot.batch": (in_one, ROUGH)}  # the value of the latter is of first order
    thresholds = {name: right(call, truth, within) for name, (call, within) in peers.items()}
    calls |= {name: partial(peers[name][0], t) for name, t in thresholds.items() if t is not None}
    times = clock(calls, 3)
    for name, threshold in thresholds.items():
        note = f"values to {error:.0e}; {times['our loop'] / times['ours']:.2g} times as fast as our own loop; "
        note += "the peer is never right" if threshold is None else f"the peer's threshold is {threshold:g}"
        pair = {k: times[k] for k in ("ours", name) if k in times}
        figure = times[name] / times["ours"] if name in times else None
        yield row("S14", pair, figure, bar, error <= EXACT, note, f", n = 200, against {name}")


def exact_plans(bars: dict[int, Any], clock: Any, row: Any) -> Iterator[dict[str, Any]]:
    """S10: the exact W_2² with its certificate, beside POT's on its matrix of costs, all work charged."""
    import ot

    for d, bar in bars.items():
        x, y = (p.double() for p in drawn(5000, d))
        estimator = est.EMD(2, rooted=False)
        calls: dict[str, Call] = {
            "ours": partial(estimator.value, x, y),
            "POT": lambda x=x, y=y: ot.emd2([], [], ot.dist(x.numpy(), y.numpy()), numItermax=10_000_000),
        }
        apart = abs(float(calls["ours"]()) / float(calls["POT"]()) - 1)
        a = torch.full((5000,), 1 / 5000, dtype=torch.float64)
        found = arcs.solve(x, y, a, a, 2)
        gap = math.inf if found is None else found.primal / found.dual - 1
        times = clock(calls, 3)
        note = f"values {apart:.0e} apart, certified gap {gap:.0e}"
        yield row("S10", times, times["POT"] / times["ours"], bar, max(apart, gap) <= CERTAIN, note, f", d = {d}")


def rows(
    clock: Callable[..., dict[str, float]], row: Callable[..., dict[str, Any]], bar: Any
) -> Iterator[dict[str, Any]]:
    """With the clock, the row and the bar of `benchmarks.ops_speed`."""
    settings = [(momentum, lse) for momentum in MOMENTA for lse in (True, False)]
    yield from entropic("S5", 1000, {"POT log": bar(300, 1000), "OTT": bar(3, 8)}, settings, clock, row)
    yield from entropic("S6", 5000, {"OTT": bar(4, 12)}, settings, clock, row)
    yield from divergence(bar(20, 100), clock, row)
    yield from exact_plans({2: bar(1, 1.3), 10: bar(1, 3)}, clock, row)
    yield from batched(bar(5, 20), clock, row)
