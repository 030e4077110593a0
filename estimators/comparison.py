"""`Comparison`: the answer of `compare`, as rows, plain language, JSON, a data frame, a figure or a report."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from estimators.writing import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCHEMA = "divergence-toolkit/comparison/1"


@dataclass(frozen=True)
class Comparison:
    """Two data sets compared: P, the reference, and Q, the current data.

    Attributes:
        table: one row a column, those that differ first, largest effect first.
        joint: one row a statistic of all columns together, the two-sample test first.
        pairs: rows for pairs of columns.
        summary: the reading in plain language.
        seed, alpha, min_effect, permutations: how it was computed.
        sources, sizes: what was compared, and the rows of each side.
    """

    table: list[dict[str, Any]]
    joint: list[dict[str, Any]]
    pairs: list[dict[str, Any]]
    summary: str
    seed: int
    alpha: float
    min_effect: float
    permutations: int
    sources: tuple[str, str] = ("x", "y")
    sizes: tuple[int, int] = (0, 0)
    grid: tuple[int, int] | None = field(default=None, repr=False)
    cells: dict[str, tuple[int, int]] = field(default_factory=dict, repr=False)
    curves: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict, repr=False)
    null: tuple[float, tuple[float, ...]] | None = field(default=None, repr=False)

    @property
    def difference_found(self) -> bool:
        """Whether a column differs, in values, kind or missing rate, or is on one side only, or the joint test rejects.

        Values, missing rates and the joint test are three families at level ``alpha`` each: where nothing differs, this
        is true with probability at most 3·alpha.
        """
        columns = any(row["decision"] not in ("no difference found", "not compared") for row in self.table)
        return columns or any(row["p"] is not None and row["p"] <= self.alpha for row in self.joint)

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain JSON types; a non-finite number becomes its name ("inf", "nan")."""
        found = {
            "schema": SCHEMA,
            "version": version(),
            "seed": self.seed,
            "rows": self.table,
            "joint": self.joint,
            "pairs": self.pairs,
            "summary": self.summary,
        }
        return {name: plain(value) for name, value in found.items()}

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """`to_dict` as JSON text, also written to ``path`` if given."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        if path is not None:
            write_atomically(path, text + "\n")
        return text

    def to_frame(self) -> Any:
        """The table as a pandas data frame.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise ImportError(
                'to_frame needs pandas: install it with `pip install "divergence-toolkit[tables]"`'
            ) from None
        return pandas.DataFrame(self.table)

    def to_html(self, path: str | os.PathLike[str], command: str | None = None) -> None:
        """Write the report, one self-contained page, to ``path``; ``command`` is the line that reproduces it.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from estimators.report.comparison import page

        page(self, command).write(path)

    def plot(self, ax: Axes | None = None) -> Axes:
        """The largest effects with their intervals, on ``ax`` or a new figure.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from estimators.report import figures

        return figures.effects(self.table, min_effect=self.min_effect, ax=ax)

    def __repr__(self) -> str:
        head = ("column", "kind", "metric", "statistic", "effect", "p_adjusted", "decision")
        shown = self.table[:20]
        lines = [[_cell(row[name]) for name in head] for row in shown]
        widths = [min(28, max(len(line[i]) for line in [list(head), *lines])) for i in range(len(head))]

        def text(cells: list[str]) -> str:
            return "  ".join(cell[:w].ljust(w) for cell, w in zip(cells, widths, strict=True)).rstrip()

        more = [f"… and {len(self.table) - len(shown)} more columns"] if len(self.table) > len(shown) else []
        return "\n".join([self.summary, "", text(list(head)), *map(text, lines), *more])


def reading(rows: list[dict[str, Any]], joint: list[dict[str, Any]], alpha: float) -> str:
    """The comparison in plain language; where a single column varies, the joint test is one of its distribution."""
    differ = [row for row in rows if row["decision"] == "differs"]
    compared = [row for row in rows if row["p"] is not None]
    noun = "column" if len(compared) == 1 else "columns"
    said = []
    if differ:
        verb = "differs" if len(differ) == 1 else "differ"
        said.append(
            f"{len(differ)} of {len(compared)} {noun} {verb}; the largest difference is in {_about(differ[0])}."
        )
    elif compared:
        otherwise = any(row["decision"] in ("missing values differ", "kinds differ") for row in rows)
        said.append(f"No difference {'in values ' if otherwise else ''}was found in {len(compared)} {noun}.")
    else:
        said.append("No column could be compared.")
    if len(joint) and joint[0]["p"] is not None:
        p = joint[0]["p"]
        varying = [row["column"] for row in compared if row["kind"] != "constant"]
        if len(varying) == 1:
            said.append(f"A permutation test of the distribution of {varying[0]!r} has p = {p:.2g}.")
            found = "The distribution differs, in its shape or by less than min_effect."
            missed = "That test, which looks for differences of any kind, does not see the difference."
        else:
            said.append(f"Jointly p = {p:.2g} (permutation test of all columns together).")
            found = "The two data sets differ as a whole: in how columns depend on each other, or in many small ways."
            missed = "The joint test does not see it, as happens when few columns carry a difference."
        if p <= alpha and not differ:
            said.append(found)
        elif p > alpha and differ:
            said.append(missed)
    elif joint:
        said.append(f"There is no joint test: {joint[0]['error']}.")
    for side in ("reference", "current"):
        alone = [row["column"] for row in rows if row["decision"] == f"only in the {side}"]
        if alone:
            where = "reference" if side == "reference" else "current data"
            said.append(f"{_count(len(alone), 'column is', 'columns are')} only in the {where}: {_some(alone)}.")
    for decision, what in (("missing values differ", "missing values"), ("kinds differ", "kind")):
        changed = [row["column"] for row in rows if row["decision"] == decision]
        if changed:
            said.append(f"{_count(len(changed), 'column differs', 'columns differ')} in {what}: {_some(changed)}.")
    wrong = [row["column"] for row in rows if row["error"]]
    if wrong:
        said.append(f"{_count(len(wrong), 'column', 'columns')} could not be compared: {_some(wrong)}.")
    return " ".join(said)


def version() -> str:
    """The version of this library."""
    from importlib import metadata

    try:
        return metadata.version("divergence-toolkit")
    except metadata.PackageNotFoundError:
        return "0.1.0"


def plain(value: Any) -> Any:
    """``value`` as JSON types: tuples as lists, numpy numbers as numbers, a non-finite number as its name.

    Example:
        >>> plain({"interval": (np.float64(0.5), float("inf"))})
        {'interval': [0.5, 'inf']}
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return repr(value)
    return value


def _about(row: dict[str, Any]) -> str:
    unit = "" if row["unit"].startswith("1 ") else f" {row['unit']}"
    effect = "" if row["metric"] == "total variation" else f", {row['effect']:.2g} standard deviations"
    value = f"{row['metric']} {row['statistic']:.3g}{unit}{effect}"
    return f"{row['column']!r} ({value}, adjusted p = {row['p_adjusted']:.2g})"


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


def _some(names: list[str], limit: int = 5) -> str:
    return ", ".join(map(repr, names[:limit])) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
