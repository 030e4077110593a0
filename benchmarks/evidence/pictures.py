"""The look of the pictures: no frame, labels at what they name, colours that differ for colour-blind eyes as well."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import results
from estimators.report.figures import literal
from estimators.writing import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, RED, GREEN, PINK, QUIET = "#0072b2", "#d55e00", "#009e73", "#b3599a", "#5f6770"  # after Okabe and Ito, 2008
FONT = 10  # points, of 7.2 inches: as large as the README's text where the picture fills its width
_SOURCE = "Description"  # the text field of a PNG that says which result was drawn


def new_figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(7.2, height), layout="constrained")


def plain(ax: Axes, title: str, x_label: str, y_label: str) -> None:
    """Axes without a frame, with a title on the left and units on both axes."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=FONT - 1)
    ax.grid(color="#e6e8ea", linewidth=0.7)
    ax.set_axisbelow(True)
    ax.set_title(literal(title, 60), fontsize=FONT, loc="left", fontweight="bold")
    ax.set_xlabel(x_label, fontsize=FONT)
    ax.set_ylabel(y_label, fontsize=FONT)


def say(ax: Axes, text: str, x: float, y: float, colour: str, ha: str = "left") -> None:
    """``text`` at a place of the data, in the colour of what it names."""
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}
    ax.text(x, y, text, color=colour, fontsize=FONT - 1.5, ha=ha, va="center", linespacing=1.1, bbox=box)


def path(name: str) -> Path:
    """Where the picture of a piece is kept: beside its result."""
    return results.FOLDER / f"{name}.png"


def keep(name: str, figure: Figure, found: dict[str, Any]) -> Path:
    """Write the picture, and into it which result it shows."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=200, metadata={_SOURCE: digest(found)})
    write_atomically(path(name), content.getvalue())
    return path(name)


def source(name: str) -> str | None:
    """The digest of the result that the kept picture was drawn from."""
    from PIL import Image

    with Image.open(path(name)) as image:
        return image.info.get(_SOURCE)


def digest(found: dict[str, Any]) -> str:
    """A digest of what was measured, whatever the machine and the day."""
    measured = {key: value for key, value in found.items() if key not in ("command", "machine")}
    return hashlib.sha256(json.dumps(measured, sort_keys=True).encode()).hexdigest()[:16]
