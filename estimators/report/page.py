"""`Page`: sections of text, tables, figures and images, written as one HTML file that fetches nothing."""

from __future__ import annotations

import base64
import io
import math
import os
import re
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jinja2
import numpy as np
from markupsafe import Markup

from estimators.writing import write_atomically

_TEMPLATE = "page.html.j2"
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Badge(NamedTuple):
    """A short word in a table cell, set apart by its tone."""

    text: str
    tone: Literal["alert", "calm", "muted"] = "muted"


class Measured(NamedTuple):
    """A value in a table cell with its interval, or its unit, below it; sorted by the value."""

    value: float | str | None
    below: tuple[float, float] | str | None


class _Cell(NamedTuple):
    text: str
    sort: str
    style: str
    below: str = ""


class Page:
    """A report, filled from top to bottom and written once.

    Text of any origin is escaped. Figures are matplotlib figures: what is black in them takes the colour of the page's
    text, and their background is the page's own.

    Example:
        >>> page = Page("Heights", "two samples of people")
        >>> page.text("Reading", "The <second> sample is taller.")
        >>> page.table("Means", [("sample", ""), ("mean", "m")], [["first", 1.71], ["second", 1.78]])
        >>> "&lt;second&gt;" in page.html()
        True
    """

    def __init__(self, title: str, subtitle: str = "") -> None:
        self.title = title
        self.subtitle = subtitle
        self._sections: list[dict[str, Any]] = []
        self._footer: list[str] = []

    def text(self, heading: str, paragraphs: str | Sequence[str], *, lead: bool = False) -> None:
        """Paragraphs under a heading; ``lead`` sets them large, for the reading that stands on top."""
        paragraphs = [paragraphs] if isinstance(paragraphs, str) else list(paragraphs)
        self._sections.append({"type": "text", "heading": heading, "paragraphs": paragraphs, "lead": lead})

    def table(
        self,
        heading: str,
        columns: Sequence[str | tuple[str, str]],
        rows: Sequence[Sequence[Any]],
        note: str | Sequence[str] | None = None,
        sortable: bool = True,
        details: Sequence[str] = (),
    ) -> None:
        """A table; the first column stays in view while the others scroll.

        Args:
            heading: its title.
            columns: names, or pairs of a name and a unit shown below it.
            rows: one sequence a row: text, numbers, None, `Badge`, `Measured`, or a pair (low, high) for an interval.
            note: what stands below the table.
            sortable: whether a click on a column's name sorts the rows.
            details: longer lines, shown on demand.

        Raises:
            ValueError: a row has more or fewer cells than there are columns.
        """
        heads = [(c, "") if isinstance(c, str) else c for c in columns]
        for row in rows:
            if len(row) != len(heads):
                raise ValueError(f"a row of {heading!r} has {len(row)} cells for {len(heads)} columns: {row!r}")
        notes = [] if note is None else [note] if isinstance(note, str) else list(note)
        cells = [[_cell(value) for value in row] for row in rows]
        numeric = [any(row[j].style == "number" for row in cells) for j in range(len(heads))]
        self._sections.append(
            {
                "type": "table",
                "heading": heading,
                "columns": [(*head, aligned) for head, aligned in zip(heads, numeric, strict=True)],
                "rows": cells,
                "notes": notes,
                "sortable": sortable and len(rows) > 1,
                "details": list(details),
            }
        )

    def figure(self, heading: str, figure: Any, caption: str, alt: str, format: Literal["svg", "png"] = "svg") -> None:
        """A matplotlib figure. Choose "png" where thousands of marks would make a large drawing."""
        salt = str(sum(section["type"] == "figure" for section in self._sections))
        body = _svg(figure, alt, salt) if format == "svg" else _bitmap(figure, alt)
        self._sections.append({"type": "figure", "heading": heading, "body": body, "caption": caption})

    def images(self, heading: str, images: Any, caption: str, alt: str, labels: Sequence[str] | None = None) -> None:
        """A grid of small images, (n, h, w), (n, h, w, 1 or 3) or (n, 1 or 3, h, w); bytes, or floats in [0, 1].

        Raises:
            ValueError: another shape, or labels that do not number n.
        """
        pixels = np.asarray(images.detach().cpu() if hasattr(images, "detach") else images)
        if pixels.ndim == 4 and pixels.shape[1] in (1, 3) and pixels.shape[3] not in (1, 3):
            pixels = np.moveaxis(pixels, 1, 3)
        if pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[3] not in (1, 3)):
            raise ValueError(f"images must be (n, h, w) or (n, h, w, 1 or 3): got shape {pixels.shape}")
        if labels is not None and len(labels) != len(pixels):
            raise ValueError(f"labels must be {len(pixels)}, one an image: got {len(labels)}")
        tile = Markup('<div><img src="{}" alt="{}"><span>{}</span></div>')
        tiles = [
            tile.format(_data_uri(png(image)), f"{alt} {i}, {label}" if label else f"{alt} {i}", label)
            for i, (image, label) in enumerate(zip(pixels, labels or [""] * len(pixels), strict=True), 1)
        ]
        body = Markup('<div class="grid">{}</div>').format(Markup("").join(tiles))
        self._sections.append({"type": "figure", "heading": heading, "body": body, "caption": caption})

    def footer(self, lines: Sequence[str]) -> None:
        """Lines in a fixed-width face at the end: the command that makes the page again, the seed, the versions."""
        self._footer += lines

    def html(self) -> str:
        """The page."""
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        return environment.get_template(_TEMPLATE).render(
            title=self.title, subtitle=self.subtitle, sections=self._grouped(), footer=self._footer
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the page to ``path``, all of it or nothing."""
        write_atomically(path, self.html())

    def _grouped(self) -> list[dict[str, Any]]:
        """The sections, with figures that follow each other side by side in one."""
        grouped: list[dict[str, Any]] = []
        for section in self._sections:
            if section["type"] != "figure":
                grouped.append(section)
            elif grouped and grouped[-1]["type"] == "figures":
                grouped[-1]["figures"].append(section)
            else:
                grouped.append({"type": "figures", "figures": [section]})
        return grouped


def number(value: float, digits: int = 3) -> str:
    """A number as a person writes it.

    Example:
        >>> number(12345), number(0.12345), number(7.8e-7), number(-0.5), number(float("inf"))
        ('12,345', '0.123', '7.8×10⁻⁷', '−0.5', '∞')
    """
    if isinstance(value, int | np.integer):
        return f"{value:,}".replace("-", "−")
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if -5 <= exponent < 6:
        decimals = max(0, digits - 1 - exponent)
        text = f"{value:,.{decimals}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        mantissa, power = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        text = f"{mantissa}×10{str(int(power)).translate(_SUPERSCRIPTS)}"
    return text.replace("-", "−")


def png(image: Any) -> bytes:
    """A PNG file of an image, (h, w), (h, w, 1) or (h, w, 3); bytes, or floats in [0, 1].

    Example:
        >>> png(np.zeros((2, 2)))[1:4]
        b'PNG'
    """
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8:
        pixels = np.round(255 * np.clip(np.nan_to_num(pixels.astype(np.float64)), 0, 1)).astype(np.uint8)
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    h, w = pixels.shape[:2]
    lines = np.concatenate(
        [np.zeros((h, 1), np.uint8), pixels.reshape(h, -1)], axis=1
    )  # each line starts with filter 0

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", w, h, 8, 2 if pixels.ndim == 3 else 0, 0, 0, 0)
    body = zlib.compress(lines.tobytes(), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _cell(value: Any) -> _Cell:
    if value is None:
        return _Cell("–", "", "muted")
    if isinstance(value, Measured):
        cell = _cell(value.value)
        return cell if value.below is None else cell._replace(below=_cell(value.below).text)
    if isinstance(value, Badge):
        return _Cell(value.text, value.text, f"badge {value.tone}")
    if isinstance(value, bool | np.bool_):
        return _Cell("yes" if value else "no", str(int(value)), "")
    if isinstance(value, np.integer | np.floating):
        value = value.item()
    if isinstance(value, int | float):
        return _Cell(number(value), repr(float(value)), "number")
    if isinstance(value, tuple | list) and len(value) == 2 and not isinstance(value[0], str):
        low, high = value
        return _Cell(f"[{number(low)}, {number(high)}]", repr(float(low)), "number")
    return _Cell(str(value), str(value).lower(), "text")


def _data_uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode("ascii")


def _svg(figure: Any, alt: str, salt: str) -> Markup:
    """The figure as inline SVG: real text in the page's face, black as the page's ink, nothing that names a network."""
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": salt}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r"(fill|stroke): #000000", r"\1: currentColor", svg)
    svg = re.sub(r"font(-family)?: ([^;\"]*?)'DejaVu Sans'[^;\"]*", r"font\1: \2inherit", svg)
    # ids are made unique: two figures of one page may clip or define marks under the same name
    svg = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>f{salt}-", svg)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    return Markup(svg.replace("<svg", Markup('<svg role="img" aria-label="{}"').format(alt), 1))


def _bitmap(figure: Any, alt: str) -> Markup:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150, facecolor="white")
    return Markup('<img class="card" src="{}" alt="{}">').format(_data_uri(buffer.getvalue()), alt)
