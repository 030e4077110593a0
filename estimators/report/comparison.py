"""The report of a `Comparison`."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators.comparison import Comparison, version
from estimators.report import figures
from estimators.report.page import Badge, Measured, Page, number

_MOST_ROWS = 500
_TONES = dict.fromkeys(
    ("differs", "only in the reference", "only in the current", "missing values differ", "kinds differ"), "alert"
)


def page(found: Comparison, command: str | None = None) -> Page:
    """The report of ``found``; ``command`` is the line that makes it again."""
    n, m = found.sizes
    report = Page(
        "Do these two data sets differ?",
        f"Reference P: {found.sources[0]}, {n:,} rows. Current Q: {found.sources[1]}, {m:,} rows.",
    )
    report.text("In short", found.summary, lead=True)
    _joint(report, found)
    _figures(report, found)
    _columns(report, found)
    report.text("How to read this page", _guide(found))
    report.footer(
        [
            command or _call(found),
            f"seed {found.seed}, alpha {found.alpha:g}, min_effect {found.min_effect:g}, "
            f"permutations {found.permutations:,}",
            _versions(),
        ]
    )
    return report


def _joint(report: Page, found: Comparison) -> None:
    computed = [row["notes"] for row in found.joint if row["error"] is None]
    shared = [note for note in computed[0] if all(note in notes for notes in computed)] if computed else []
    rows, details = [], [f"All: {note}." for note in shared]
    for index, row in enumerate(found.joint, 1):
        interval = row["p_interval"] if row["metric"] == "test of equality" else row["interval"]
        values = [row["metric"], row["statistic"], row["unit"] or None, row["p"], interval, row["bound"]]
        rows.append([*values, Badge("not computed", "muted") if row["error"] else f"({index})"])
        said = [row["method"], *(note for note in row["notes"] if note not in shared)]
        said = said if row["error"] is None else [f"not computed: {row['error']}"]
        details.append(f"({index}) {row['metric']}: {'; '.join(said)}.")
    report.table(
        "All columns together",
        [
            "statistic",
            ("value", "in its unit"),
            "unit",
            ("p", "probability"),
            ("interval", "of the value; test: of p"),
            ("kind", "of estimate"),
            ("method", "see below"),
        ],
        rows,
        note="These see dependence between columns as well as the columns themselves. An unbiased estimate may be "
        "negative where nothing differs.",
        details=details,
    )


def _figures(report: Page, found: Comparison) -> None:
    drawn = [row for row in found.table if row["effect"] is not None]
    if drawn:
        report.figure(
            "The largest effects",
            found.plot().figure,
            f"Effect with its {100 * (1 - found.alpha):g}% interval, the twenty largest. Orange: differs by the rule "
            f"below. Dashed: the smallest effect that counts, {found.min_effect:g} (half of it for labels).",
            f"Dot plot of effects by column; the largest is {drawn[0]['column']} with {number(drawn[0]['effect'])}.",
        )
    if found.curves:
        report.figure(
            "The most different columns",
            figures.ecdfs(found.curves),
            "Share of the values at or below x. The area between the two curves is W1.",
            "Distribution functions of reference and current for " + ", ".join(found.curves) + ".",
        )
    if found.null is not None:
        observed, null = found.null
        p = found.joint[0]["p"]
        report.figure(
            "Chance alone",
            figures.null_histogram(observed, null, "joint test statistic", p).figure,
            f"The joint statistic for {len(null):,} random relabellings of the rows, and as observed.",
            f"Histogram of the permutation null; observed {number(observed)}, p = {number(p)}.",
        )
    if found.grid is not None and found.cells:
        report.figure(
            "Where in the image",
            figures.heat_map(_heat(found), "effect (W1 in pooled sd)").figure,
            "Effect of each pixel, the largest over its channels.",
            "Heat map of the effect by pixel.",
        )


def _heat(found: Comparison) -> NDArray[np.float64]:
    assert found.grid is not None
    heat = np.full(found.grid, np.nan)
    for row in found.table:
        if row["effect"] is not None and row["column"] in found.cells and np.isfinite(row["effect"]):
            cell = found.cells[row["column"]]
            heat[cell] = np.fmax(heat[cell], row["effect"])
    return heat


def _columns(report: Page, found: Comparison) -> None:
    methods: dict[str, int] = {}
    rows = []
    for row in found.table[:_MOST_ROWS]:
        method = methods.setdefault(row["method"], len(methods) + 1) if row["method"] else None
        distance = Measured(f"{row['metric']} ({method})", row["unit"]) if row["metric"] else row["error"]
        missing = None
        if row["missing_ref"] or row["missing_cur"]:
            missing = f"missing {row['missing_ref'] or 0:,}, {row['missing_cur'] or 0:,}"
        alone = None if row["p"] is None else f"alone {number(row['p'])}"
        rows.append(
            [
                row["column"],
                Measured(row["effect"], row["effect_interval"]),
                Badge(row["decision"], _TONES.get(row["decision"], "muted")),  # type: ignore[arg-type]
                Measured(row["p_adjusted"], alone),
                row["kind"],
                distance,
                Measured(row["statistic"], row["interval"]),
                Measured(f"{row['n_ref']:,}, {row['n_cur']:,}", missing),
            ]
        )
    notes = [
        "Below an effect and a value their interval; below an adjusted p the one of that column alone. n counts the "
        "values of the reference and of the current data. The number after a distance is that of its method."
    ]
    if len(found.table) > _MOST_ROWS:
        notes.append(f"The first {_MOST_ROWS} of {len(found.table):,} columns; the JSON output holds all of them.")
    remarks = [f"{row['column']}: {'; '.join(row['notes'])}." for row in found.table[:_MOST_ROWS] if row["notes"]]
    report.table(
        "Column by column",
        [
            "column",
            ("effect", "sd; labels: share"),
            "decision",
            ("p", "adjusted"),
            "kind",
            ("distance", "its unit"),
            ("value", "in its unit"),
            ("n", "ref., cur."),
        ],
        rows,
        note=notes,
        details=[*(f"({index}) {text}." for text, index in methods.items()), *remarks],
    )


def _guide(found: Comparison) -> list[str]:
    level = f"{100 * (1 - found.alpha):g}%"
    return [
        f"A column differs if two things hold: its adjusted p-value is at most {found.alpha:g}, so that chance is a "
        f"poor explanation, and its effect is at least {found.min_effect:g} ({found.min_effect / 2:g} for labels), so "
        "that the difference is large enough to matter. With many rows even a trifle is beyond chance; with few, a "
        "large effect may be chance.",
        "The effect of a column of numbers is W1, the area between the two distribution functions, divided by the "
        "pooled standard deviation within the two samples: 0.2 is a shift of a fifth of a standard deviation, or "
        "something as large. For labels it is the share of the mass that would have to change its label.",
        "Both distances are at least 0, and come out above 0 even where nothing differs. Read a value together with "
        f"its interval: one that reaches 0 is compatible with no difference. The {level} intervals hold for one column "
        "at a time.",
        "p is the share of random relabellings of the rows that differ at least as much as the data. It is adjusted "
        "over all columns (Benjamini and Hochberg), which limits the expected share of false alarms among the columns "
        f"said to differ to {found.alpha:g}. No difference found does not mean that there is none: see the interval.",
        "All of this takes the rows of each data set to be independent of each other. Missing values are left out of "
        "the distance; their rates are compared by Fisher's exact test, adjusted over the columns that have any.",
    ]


def _call(found: Comparison) -> str:
    options = {
        "seed": found.seed,
        "alpha": found.alpha,
        "min_effect": found.min_effect,
        "permutations": found.permutations,
    }
    return f"est.compare(x, y, {', '.join(f'{name}={value!r}' for name, value in options.items())})"


def _versions() -> str:
    import scipy

    parts: list[tuple[str, Any]] = [
        ("divergence-toolkit", version()),
        ("Python", platform.python_version()),
        ("numpy", np.__version__),
        ("scipy", scipy.__version__),
    ]
    return ", ".join(f"{name} {value}" for name, value in parts)
