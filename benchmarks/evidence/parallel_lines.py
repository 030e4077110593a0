"""P = (0, U) and Q_θ = (θ, U) with U uniform on [0, 1]: what KL, TV, JS and W1 say of θ, exactly and from samples.

For θ ≠ 0 the lines do not meet: KL = ∞ both ways, JS = log 2, TV = 1, whatever θ; W1 = |θ|. At θ = 0 all are 0.

References: Arjovsky, Chintala and Bottou 2017, example 1 and figure 1.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import divergences as dv
import estimators as est
from benchmarks.evidence.pictures import BLUE, FONT, QUIET, RED, new_figure, plain, say
from estimators.report import number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE = "Parallel lines"
THETAS = (-1.0, -0.75, -0.5, -0.25, -0.05, 0.0, 0.05, 0.25, 0.5, 0.75, 1.0)
POINTS, TRAINING = 1000, 400  # points a side, of which a critic is fitted to two thirds; steps of a critic
Points = NDArray[np.float64]
EXACT: dict[str, Callable[[dv.Empirical, dv.Empirical], Any]] = {
    "kl": dv.kl,
    "total_variation": dv.total_variation,
    "js": dv.js,
    "wasserstein": dv.wasserstein,
}


def by_name(name: str) -> Callable[[Points, Points, int], est.Estimate]:
    """`est.estimate` as it comes."""
    return lambda x, y, seed: est.estimate(x, y, name, seed=seed)


def by_critic(critic: est.CriticEstimator) -> Callable[[Points, Points, int], est.Estimate]:
    """A critic fitted to two thirds of the points, and its bound on the others."""

    def estimated(x: Points, y: Points, seed: int) -> est.Estimate:
        cut = 2 * len(x) // 3
        fitted = copy.deepcopy(critic).fit(x[:cut], y[:cut], steps=TRAINING, seed=seed, progress=False)
        return fitted.estimate(x[cut:], y[cut:])

    return estimated


METHODS = {
    ("kl", "estimate"): by_name("kl"),
    ("total_variation", "estimate"): by_name("total_variation"),
    ("js", "estimate"): by_name("js"),
    ("js", "critic"): by_critic(est.Variational("js")),
    ("wasserstein", "estimate"): by_name("wasserstein"),
    ("wasserstein", "critic"): by_critic(est.KantorovichRubinstein(constraint=est.GroupSort())),
}


def measure(thetas: Sequence[float] = THETAS, n: int = POINTS) -> dict[str, Any]:
    """Exact values and estimates of each divergence at each θ, from points that are new for each θ."""
    rows = []
    for i, theta in enumerate(tqdm(thetas, desc="parallel_lines", delay=2, leave=False)):
        random = np.random.default_rng([5, i])
        x, y = (np.stack([np.full(n, at), random.uniform(size=n)], -1) for at in (0.0, theta))
        row: dict[str, Any] = {"theta": theta, "exact": exact(theta), "estimated": {name: {} for name in EXACT}}
        for (divergence, method), estimated in METHODS.items():
            found = estimated(x, y, i).to_dict()
            kept = {key: found[key] for key in ("value", "interval", "bound", "notes")}
            row["estimated"][divergence][method] = kept
        rows.append(row)
    return {"n": n, "training_steps": TRAINING, "rows": rows, "claims": claims(rows)}


def exact(theta: float) -> dict[str, Any]:
    """The values on 64 points of each line at the same heights, which are those of the lines themselves."""
    heights = np.linspace(0, 1, 64)
    P, Q = (dv.Empirical(np.stack([np.full(64, at), heights], -1)) for at in (0.0, theta))
    values = {name: float(function(P, Q)) for name, function in EXACT.items()}
    return {name: value if math.isfinite(value) else repr(value) for name, value in values.items()}  # as in estimates


def claims(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """For each divergence and method, how many intervals there are and how many of them hold the exact value."""
    counted: dict[str, Any] = {}
    for divergence, method in METHODS:
        found = [(row["estimated"][divergence][method]["interval"], row["exact"][divergence]) for row in rows]
        given = [(interval, float(truth)) for interval, truth in found if interval is not None]
        counted[f"{divergence}, {method}"] = {
            "estimates": len(found),
            "intervals": len(given),
            "hold": sum(float(low) <= truth <= float(high) for (low, high), truth in given),
            "without_upper_limit": sum(float(high) == math.inf for (_, high), _ in given),
        }
    return counted


INFINITE = 7.0  # where ∞ stands on the axis of KL


def draw(found: dict[str, Any]) -> Figure:
    """A panel for each divergence: lines are exact, marks estimated."""
    figure = new_figure(5.6)
    panels = figure.subplots(2, 2, sharex=True)
    for ax, (divergence, title, unit, top) in zip(
        panels.flat,
        (
            ("kl", "KL: infinite unless θ = 0", "nats", INFINITE + 0.7),
            ("total_variation", "TV: 1 unless θ = 0", "share of mass", 1.2),
            ("js", "JS: log 2 unless θ = 0", "nats", 0.84),
            ("wasserstein", "W1: |θ|", "units of θ", 1.4),
        ),
        strict=True,
    ):
        plain(ax, title, "", unit)
        exactly(ax, found["rows"], divergence)
        for method in found["rows"][0]["estimated"][divergence]:
            marks(ax, found["rows"], divergence, method)
        ax.set_ylim(-0.09 * top, top)
        ax.set_xlim(-1.12, 1.12)
    for ax in panels[1]:
        ax.set_xlabel("θ, the distance between the lines", fontsize=FONT)
    kl, tv, js, w1 = panels.flat
    kl.set_yticks([0, 2, 4, INFINITE], ["0", "2", "4", "∞"])
    say(kl, "exact: infinite", 0, INFINITE - 0.75, QUIET, "center")
    say(kl, "estimated: a lower limit, no upper one", 0, 3.7, BLUE, "center")
    say(kl, "exact 0, estimated with 95% interval", 0, 0.8, BLUE, "center")
    say(tv, "exact: 0 at θ = 0 alone", 0, 0.72, QUIET, "center")
    say(tv, "estimated, with 95% interval", 0, 0.86, BLUE, "center")
    say(js, "estimated, with 95% interval", 0, 0.77, BLUE, "center")
    say(js, "lower limit by a variational critic", 0, 0.56, RED, "center")
    say(w1, "estimated: filled with 95% interval,\nhollow where the interval is refused", 0, 1.21, BLUE, "center")
    w1.set_yticks([0, 0.5, 1])
    say(w1, "lower limit by\na 1-Lipschitz\ncritic", 0, 0.6, RED, "center")
    figure.supxlabel(f"{found['n']} points of each line; new points for each θ", fontsize=FONT - 1.5, color=QUIET)
    return figure


def exactly(ax: Axes, rows: Sequence[dict[str, Any]], divergence: str) -> None:
    """The exact values: a line, with a gap where it jumps to 0 at θ = 0."""
    thetas = np.array([row["theta"] for row in rows])
    values = np.minimum([float(row["exact"][divergence]) for row in rows], INFINITE)
    jumps = divergence != "wasserstein"
    for side in (thetas < 0, thetas > 0) if jumps else (thetas == thetas,):
        reached, height = thetas[side], values[side]
        if jumps:  # constant up to θ = 0, which it does not reach
            reached, height = np.append(reached, 0.0), np.append(height, height[0])
        order = np.argsort(reached)
        ax.plot(reached[order], height[order], color=QUIET, linewidth=1.6, zorder=1)
    if jumps:
        ax.plot([0], [values[thetas != 0][0]], "o", color=QUIET, markerfacecolor="white", markersize=7, zorder=2)
        ax.plot([0], [0], "o", color=QUIET, markersize=10, zorder=2)


def marks(ax: Axes, rows: Sequence[dict[str, Any]], divergence: str, method: str) -> None:
    """A disc with its interval; a triangle at a lower limit; a circle where an interval was refused."""
    colour, size = (BLUE, 6.5) if method == "estimate" else (RED, 4.5)  # so that neither hides the other
    for row in rows:
        found, at = row["estimated"][divergence][method], row["theta"]
        if found["interval"] is None:
            ax.plot([at], [found["value"]], "o", color=colour, markerfacecolor="white", markersize=size, zorder=3)
        elif found["bound"] == "lower":
            ax.plot([at], [float(found["interval"][0])], "^", color=colour, markersize=size, zorder=4)
        else:
            ax.plot([at, at], found["interval"], color=colour, linewidth=2.5, zorder=3)
            ax.plot([at], [found["value"]], "o", color=colour, markersize=size, zorder=3)


def reading(found: dict[str, Any]) -> str:
    """What the picture shows, in the numbers of the result."""
    apart = [row for row in found["rows"] if row["theta"] != 0]
    limits = [float(row["estimated"]["kl"]["estimate"]["interval"][0]) for row in apart]
    errors = [abs(row["estimated"]["wasserstein"]["estimate"]["value"] - abs(row["theta"])) for row in found["rows"]]
    counted = found["claims"]
    intervals, hold = (sum(entry[key] for entry in counted.values()) for key in ("intervals", "hold"))
    refused = sum(entry["estimates"] - entry["intervals"] for entry in counted.values())
    clip = max(row["estimated"]["js"]["critic"]["value"] for row in apart)
    return (
        f"KL, TV and JS do not change with θ but for the jump at 0, so that they tell a model nothing of where to "
        f"move; W1 = |θ| does, and its estimates are off by at most {number(max(errors))} (its interval is refused at "
        f"{refused} of {len(errors)} θ, the hollow marks: the bias left is not small against the error). "
        f"No sample can show that KL is infinite: its estimate is a lower limit, {number(min(limits))} nats, which "
        f"says that there is no upper one; and the variational bound on JS ends at {number(clip)}, short of log 2, "
        f"because its log ratio is clipped at ±½ log n. "
        f"Of all {intervals} intervals and one-sided limits, {hold} hold the exact value."
    )
