"""Figures of a comparison. Each draws on the given Axes or on a figure of its own, and touches no global state.

Sizes are chosen for a page: 5.2 inches wide, so that the text is still readable at the width of a phone. Black is the
page's ink (see `Page`), and the two colours have a contrast above 3 on white and on black alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REFERENCE, CURRENT, QUIET = "#2f7fc1", "#cf6a16", "#7f8893"
COLOURS = (REFERENCE, CURRENT, "#2e9467", "#a565b5", QUIET)
WIDTH = 5.2  # inches
_FONT = 12


def effects(rows: Sequence[Mapping[str, Any]], min_effect: float = 0.05, top: int = 20, ax: Axes | None = None) -> Axes:
    """The ``top`` largest effects of a comparison's rows with their intervals, the largest on top.

    An effect that is not finite has no place on the axis and is left out.
    """
    shown = [row for row in rows if row["effect"] is not None and math.isfinite(row["effect"])]
    shown = sorted(shown, key=lambda row: -row["effect"])[:top]
    ax = ax or new_axes(1.1 + 0.28 * max(len(shown), 2))
    for place, row in enumerate(reversed(shown)):
        colour = CURRENT if row["decision"] == "differs" else QUIET
        if row["effect_interval"] is not None:
            ax.plot(row["effect_interval"], [place, place], color=colour, linewidth=2.5, solid_capstyle="round")
        ax.plot([row["effect"]], [place], "o", color=colour, markersize=6)
    ax.set_yticks(range(len(shown)), [literal(row["column"]) for row in reversed(shown)])
    ax.axvline(min_effect, color=QUIET, linewidth=1, linestyle="--")
    ax.set_xlim(left=0)
    ax.set_ylim(-0.6, max(len(shown), 1) - 0.4)
    ax.set_xlabel("effect (sd; labels: share of mass)")
    return ax


def ecdfs(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]], labels: tuple[str, str] = ("reference", "current")
) -> Figure:
    """Overlaid distribution functions, one panel a column; each curve is a sample or its sorted quantiles."""
    count = len(curves)
    across = min(2, max(count, 1))
    down = max(1, math.ceil(count / across))
    figure = _figure(0.6 + 1.95 * down)
    panels = figure.subplots(down, across, squeeze=False, sharey=True)
    for ax in panels.flat[count:]:
        ax.set_visible(False)
    for ax, (name, sides) in zip(panels.flat, curves.items(), strict=False):
        _plain(ax)
        for values, colour, style, label in zip(sides, (REFERENCE, CURRENT), ("-", "--"), labels, strict=True):
            ordered = np.sort(np.asarray(values, dtype=np.float64))
            heights = np.arange(1, len(ordered) + 1) / len(ordered)
            ax.step(ordered, heights, style, where="post", color=colour, linewidth=1.8, label=label)
        ax.set_title(literal(name, 30), fontsize=_FONT, loc="left")
        ax.set_yticks([0, 0.5, 1])
        ax.locator_params(axis="x", nbins=4)
    handles, names = panels.flat[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper left", ncols=2, frameon=False, fontsize=_FONT)
    return figure


def null_histogram(
    observed: float, null: ArrayLike, label: str = "statistic", p: float | None = None, ax: Axes | None = None
) -> Axes:
    """The permutation distribution of a statistic, with the value that was observed."""
    ax = ax or new_axes(2.9)
    ax.hist(np.asarray(null, dtype=np.float64), bins=30, color=REFERENCE, alpha=0.75)
    ax.axvline(observed, color=CURRENT, linewidth=2.5)
    low, high = ax.get_xlim()
    ax.set_xlim(low, high + 0.02 * (high - low))
    said = "observed" if p is None else f"observed, p = {p:.2g}"
    right = observed > (low + high) / 2
    ax.annotate(
        said,
        (observed, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(6 if right else -6, 4),
        textcoords="offset points",
        ha="right" if right else "left",
        va="bottom",
        color=CURRENT,
        fontsize=_FONT,
    )
    ax.locator_params(axis="x", nbins=5)
    ax.set_xlabel(literal(label, 60))
    ax.set_ylabel("permutations")
    return ax


def heat_map(values: ArrayLike, label: str = "effect", ax: Axes | None = None) -> Axes:
    """A value for each pixel of an image, (h, w); NaN, where nothing was compared, stays empty."""
    grid: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    ax = ax or new_axes(4.2)
    image = ax.imshow(grid, cmap="viridis", vmin=0, interpolation="nearest")
    bar = ax.figure.colorbar(image, ax=ax, shrink=0.85)
    bar.set_label(literal(label, 60), fontsize=_FONT)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=_FONT - 1)
    ax.set_xlabel("column of the image")
    ax.set_ylabel("row of the image")
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def lines(
    series: Mapping[str, tuple[ArrayLike, ArrayLike]],
    x_label: str,
    y_label: str,
    log: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Named curves, each a pair of abscissae and values: a training history, an error against a sample size."""
    ax = ax or new_axes(3.0)
    for (name, (x, y)), colour in zip(series.items(), COLOURS * math.ceil(len(series) / len(COLOURS)), strict=False):
        ax.plot(np.asarray(x), np.asarray(y), color=colour, linewidth=1.8, label=literal(name))
    if log:
        ax.set_yscale("log")
    ax.set_xlabel(literal(x_label, 60))
    ax.set_ylabel(literal(y_label, 60))
    if len(series) > 1:
        ax.legend(frameon=False, fontsize=_FONT)
    return ax


def literal(text: str, limit: int = 24) -> str:
    r"""``text`` cut to ``limit`` characters, without the dollar signs' special meaning.

    Example:
        >>> literal("price in $ and more $")
        'price in \\$ and more \\$'
    """
    text = " ".join(str(text).split())
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return text.replace("$", r"\$")


def new_axes(height: float) -> Axes:
    """The Axes of a new figure of the page's width, ``height`` inches tall.

    Raises:
        ImportError: matplotlib is not installed.
    """
    ax = _figure(height).subplots()
    _plain(ax)
    return ax


def _figure(height: float) -> Figure:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            'figures need matplotlib: install it with `pip install "divergence-toolkit[report]"`'
        ) from None
    return Figure(figsize=(WIDTH, height), layout="constrained")


def _plain(ax: Axes) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=_FONT - 1)
    ax.xaxis.label.set_fontsize(_FONT)
    ax.yaxis.label.set_fontsize(_FONT)
