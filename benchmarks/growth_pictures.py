"""The pictures of `benchmarks.growth`: time against size, both by powers of ten, a panel a family."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import results
from benchmarks.evidence import pictures
from benchmarks.evidence.pictures import BLUE, FONT, GREEN, PINK, QUIET, RED, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RESULT = "growth"
PICTURES = {"growth": "families", "growth_batches": "batches"}
LOOKS = ((RED, "s--"), (GREEN, "^-."), (PINK, "D:"), (QUIET, "v--"))
OURS = ((BLUE, "o-"), (BLUE, "o:"))
APART = 0.085  # of the height of a panel, between labels


def draw(found: dict[str, Any], part: str) -> Figure:
    """All families of a part."""
    families = found[part]
    rows = math.ceil(len(families) / 2)
    figure = new_figure(2.7 * rows + 0.2)
    panels = figure.subplots(rows, 2, squeeze=False).ravel()
    for ax, family in zip(panels, families, strict=False):
        panel(ax, family)
    for ax in panels[len(families) :]:
        ax.set_axis_off()
    limits = found["limits"]
    figure.supxlabel(
        f"A curve ends where the next call is expected to take over {limits['seconds']:g} s or "
        f"{limits['bytes'] / 1e9:g} GB. Medians of calls in turn, threads: {found['threads']}.",
        color=QUIET, fontsize=FONT - 2,
    )  # fmt: skip
    return figure


def panel(ax: Axes, family: dict[str, Any]) -> None:
    """One family, each curve with its name where it ends."""
    from matplotlib.ticker import LogLocator, NullFormatter

    plain(ax, family["title"], family["size"], "seconds")
    ax.title.set_fontsize(FONT - 1.5)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ours, others = itertools.chain(OURS, itertools.repeat(OURS[-1])), itertools.cycle(LOOKS)
    drawn = []
    for curve in family["curves"]:
        colour, look = next(ours) if curve["name"].startswith("ours") else next(others)
        if curve["sizes"]:
            ax.plot(curve["sizes"], curve["seconds"], look, color=colour, linewidth=1.6, markersize=3.5)
            drawn.append((curve, colour))
    if not drawn:
        return
    sizes = [size for curve, _ in drawn for size in curve["sizes"]]
    times = [seconds for curve, _ in drawn for seconds in curve["seconds"]]
    low, high = math.log10(min(sizes)), math.log10(max(sizes))
    room = max(high - low, 0.5)
    ax.set_xlim(10 ** (low - 0.04 * room), 10 ** (high + 0.62 * room))
    ax.set_ylim(min(times) / 1.8, max(times) * 1.8)
    ax.set_xticks([10.0**k for k in range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)])
    ax.set_xticks([], minor=True)  # what is to their right is room for names
    ax.yaxis.set_major_locator(LogLocator(10, numticks=12))
    ax.yaxis.set_minor_formatter(NullFormatter())
    bottom, top = (math.log10(limit) for limit in ax.get_ylim())
    ends = [(math.log10(curve["seconds"][-1]) - bottom) / (top - bottom) for curve, _ in drawn]
    for (curve, colour), height in zip(drawn, spread(ends), strict=True):
        ax.annotate(
            curve["name"], (curve["sizes"][-1], curve["seconds"][-1]), (beside(low, high, room), height),
            textcoords="axes fraction", color=colour, fontsize=FONT - 2, va="center",
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.6, "shrinkA": 0, "shrinkB": 2},
        )  # fmt: skip


def beside(low: float, high: float, room: float) -> float:
    """Where labels stand, of the width: to the right of all curves."""
    return (high + 0.06 * room - low + 0.04 * room) / (high + 0.62 * room - low + 0.04 * room)


def spread(heights: list[float]) -> list[float]:
    """The heights, moved apart where labels would cover each other, and kept within the panel."""
    order = sorted(range(len(heights)), key=heights.__getitem__)
    placed = list(heights)
    floor = 0.02
    for k in order:
        placed[k] = floor = max(placed[k], floor)
        floor += APART
    ceiling = 0.98
    for k in reversed(order):
        placed[k] = min(placed[k], ceiling)
        ceiling = placed[k] - APART
    return placed


def kept() -> list[Path]:
    """Draw the pictures from the kept result.

    Raises:
        FileNotFoundError: there is none.
    """
    found = results.read(RESULT)
    if found is None:
        raise FileNotFoundError(f"no result {RESULT!r}: run `python -m benchmarks.growth` first")
    return [pictures.keep(name, draw(found, part), found) for name, part in PICTURES.items()]
