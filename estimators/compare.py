"""`compare` two data sets: whether they differ, how much, where, and how far that can be trusted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from estimators import joint as joint_rows
from estimators import marginals, resampling
from estimators.comparison import SCHEMA, Comparison, reading
from estimators.door import count, fraction, not_negative, seeded
from estimators.marginals import Marginal
from estimators.tables import NA_VALUES, Column, Table, kind_of, listed, read

__all__ = ["SCHEMA", "Comparison", "compare"]

_CURVES = 6  # columns whose distribution functions are kept for the figures
_CURVE_POINTS = 300
_W1 = (
    "W1 = ∫|F − G|, always ≥ 0 and biased upward where little differs; interval W1 ± bootstrap quantile of the centred "
    "error, valid at equality; effect W1 / pooled standard deviation; p by {B} permutations, exact under ties"
)
_TV = (
    "total variation ½Σ|p − q| of the labels, in [0, 1] and biased upward where little differs; interval as for W1; it "
    "is its own effect; p by {B} permutations, exact"
)


def compare(
    x: Any,
    y: Any,
    *,
    seed: int | None = 0,
    alpha: float = 0.05,
    min_effect: float = 0.05,
    permutations: int = 999,
    names: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    categorical: Sequence[str] = (),
    nan_policy: str = "omit",
    na_values: Iterable[str] = NA_VALUES,
    progress: bool = True,
) -> Comparison:
    """Compare the reference ``x`` with the current data ``y``, each column alone and all together.

    A column **differs** if its permutation p-value, adjusted over all columns by Benjamini and Hochberg, is at most
    ``alpha`` *and* its effect is at least ``min_effect``: W1 / pooled standard deviation for numbers, and for labels
    total variation against half of ``min_effect`` (in a balanced column of two values, W1 is two standard deviations
    for each unit of total variation). A column that cannot be compared keeps the reason in its ``error``.

    Args:
        x: the reference, P: an array (n,), (n, d) or (n, …), a tensor, a mapping of names to arrays, a pandas, polars
            or pyarrow table, or the path of a file or a folder of images.
        y: the current data, Q, in any of these forms. Columns are matched by name.
        seed: all randomness comes from it; None is 0, a fixed seed as well.
        alpha: level of the tests, and 1 − confidence of the intervals.
        min_effect: the smallest effect that counts as a difference.
        permutations: permutations for each test; columns with a small p-value get more, so that the adjustment for many
            columns cannot hide them.
        names: names for the columns of arrays.
        columns: the columns to compare; all by default.
        categorical: columns whose values are labels even where they look like numbers.
        nan_policy: "omit" counts missing values and leaves them out; "raise" refuses them.
        na_values: texts that stand for a missing value in text files.
        progress: show a bar on stderr once two seconds have passed.

    Cost: O(B·N·d) for B permutations, N rows and d columns; the joint part is quadratic in at most 2,000 rows a side.

    Raises:
        ValueError: an empty input, an unknown column, an option out of range, or a missing value with "raise".
        TypeError: an input of a kind not known here, or text in a numeric column of a file.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = {"height": rng.normal(size=200), "weight": rng.normal(size=200)}
        >>> y = {"height": rng.normal(size=200), "weight": rng.normal(1.0, 1.0, size=200)}
        >>> result = compare(x, y, permutations=199)
        >>> result.table[0]["column"], result.table[0]["decision"]
        ('weight', 'differs')
    """
    seed = seeded(seed).initial_seed()
    _check_options(alpha, min_effect, permutations, nan_policy)
    a, b = (
        read(v, label, names=names, categorical=categorical, na_values=na_values) for v, label in ((x, "x"), (y, "y"))
    )
    if columns is not None:
        unknown = [name for name in columns if name not in a.columns and name not in b.columns]
        if unknown:
            raise ValueError(f"no column {unknown[0]!r} on either side; there are {listed(a.columns)}")
        a, b = (t.select([name for name in columns if name in t.columns]) for t in (a, b))
    if nan_policy == "raise":
        for table in (a, b):
            for column in table.columns.values():
                if column.missing.any():
                    count, first = int(column.missing.sum()), int(column.missing.argmax())
                    raise ValueError(
                        f"{table.source}: column {column.name!r} has {count} missing value(s), the first in row {first}"
                    )
    shared = [name for name in a.columns if name in b.columns]
    with _bar(4 + 5 * bool(shared), progress) as bar:
        rows = [_new_row(name, a, b, seed) for name in [*a.columns, *(n for n in b.columns if n not in a.columns)]]
        bar.update()
        _fill(rows, a, b, alpha, permutations, seed, bar)
        _decide(rows, alpha, min_effect)
        rows.sort(key=_order)
        tested = {r["column"] for r in rows if r["statistic"] is not None and r["kind"] != "constant"}
        pairs = [(a.columns[name], b.columns[name]) for name in a.columns if name in tested]
        joint, null = _joint(pairs, seed, alpha, permutations, bar)
    return Comparison(
        table=rows,
        joint=joint,
        pairs=[],
        summary=reading(rows, joint, alpha),
        seed=seed,
        alpha=alpha,
        min_effect=min_effect,
        permutations=permutations,
        sources=(a.source, b.source),
        sizes=(a.n, b.n),
        grid=a.grid if a.grid == b.grid else None,
        cells={name: c.cell for name, c in a.columns.items() if c.cell is not None},
        curves=_curves(rows, a, b),
        null=null,
    )


def _check_options(alpha: float, min_effect: float, permutations: int, nan_policy: str) -> None:
    fraction(alpha, "alpha")
    not_negative(min_effect, "min_effect")
    if count(permutations, "permutations") < 1 / alpha - 1:
        raise ValueError(
            f"permutations must be at least {math.ceil(1 / alpha) - 1} for alpha = {alpha}: got {permutations}"
        )
    if nan_policy not in ("omit", "raise"):
        raise ValueError(f'nan_policy must be "omit" or "raise": got {nan_policy!r}')


def _bar(total: int, progress: bool) -> Any:
    import sys

    from tqdm import tqdm

    return tqdm(total=total, delay=2, desc="compare", file=sys.stderr, disable=not progress, leave=False)


def _new_row(name: str, x: Table, y: Table, seed: int) -> dict[str, Any]:
    a, b = x.columns.get(name), y.columns.get(name)
    row: dict[str, Any] = {
        "column": name,
        "kind": "",
        "n_ref": 0 if a is None else int((~a.missing).sum()),
        "n_cur": 0 if b is None else int((~b.missing).sum()),
        "missing_ref": None if a is None else int(a.missing.sum()),
        "missing_cur": None if b is None else int(b.missing.sum()),
        **dict.fromkeys(("metric", "statistic", "unit", "interval", "p", "p_adjusted", "effect", "effect_interval")),
        "expected_if_equal": None,
        "missing_p": None,
        "decision": "not compared",
        "method": "",
        "seed": seed,
        "notes": [],
        "error": None,
    }
    if a is None or b is None:
        column, side = (a, "reference") if b is None else (b, "current")
        assert column is not None
        row["kind"] = kind_of(column, column)[0]
        row["decision"] = f"only in the {side}"
        row["notes"].append(f"the column is only in the {side}; the two data sets have different columns")
        return row
    row["kind"], row["error"] = kind_of(a, b)
    if a.numeric != b.numeric and row["n_ref"] and row["n_cur"]:
        row["decision"] = "kinds differ"
    if row["error"] is None and not (row["n_ref"] and row["n_cur"]):
        row["error"] = f"every value of the {'current data' if row['n_ref'] else 'reference'} is missing"
    return row


def _fill(rows: list[dict[str, Any]], x: Table, y: Table, alpha: float, permutations: int, seed: int, bar: Any) -> None:
    """Statistic, interval, effect and p-value of every row that can be compared."""
    todo = [r for r in rows if r["error"] is None and r["column"] in x.columns and r["column"] in y.columns]
    numeric = [r for r in todo if r["kind"] in ("continuous", "discrete", "date")]
    finest = alpha / (10 * max(1, len(todo)))
    rng = np.random.default_rng([seed, 3])
    large = resampling.is_large(x.n, y.n)
    x_draws, y_draws = (None if large else resampling.bootstrap_draws(n, rng) for n in (x.n, y.n))
    samples, found = [], []
    for row in numeric:
        a, b = x.columns[row["column"]], y.columns[row["column"]]
        samples.append((a.present, b.present))
        draws = [None if d is None else d[:, ~c.missing] for d, c in ((x_draws, a), (y_draws, b))]
        found.append(marginals.numeric(a.present, b.present, draws[0], draws[1], 1 - alpha, seed))
    bar.update()
    marginals.permutation_tests(samples, found, permutations, finest, seed)
    bar.update()
    for row, marginal in zip(numeric, found, strict=True):
        _write(row, marginal, "W1", x.columns[row["column"]].unit, _W1)
    for row in todo:
        a, b = x.columns[row["column"]], y.columns[row["column"]]
        if row["kind"] == "categorical":
            _write(
                row,
                marginals.categorical(a.present.tolist(), b.present.tolist(), permutations, finest, 1 - alpha, seed),
                "total variation",
                "1 (share of the mass)",
                _TV,
            )
        elif row["kind"] == "constant":
            unit, metric = (a.unit, "W1") if a.numeric else ("1 (share of the mass)", "total variation")
            row |= {"metric": metric, "unit": unit, "statistic": 0.0, "effect": 0.0, "p": 1.0}
            row["method"] = "one value on both sides: nothing to compare"
            row["notes"].append("constant column: p = 1 and effect 0 by definition")
    for row in rows:
        if row["column"] in x.columns and row["column"] in y.columns:
            _test_missing(row, x.columns[row["column"]], y.columns[row["column"]])
    bar.update()


def _write(row: dict[str, Any], found: Marginal, metric: str, unit: str, method: str) -> None:
    row |= {
        "metric": metric,
        "statistic": found.statistic,
        "unit": unit,
        "interval": found.interval,
        "p": found.p,
        "effect": found.effect,
        "expected_if_equal": found.expected,
        "method": method.format(B=f"{found.permutations:,}"),
    }
    row["notes"] += found.notes
    if found.interval is not None and found.statistic > 0 and math.isfinite(found.effect):
        ratio = found.effect / found.statistic
        row["effect_interval"] = (ratio * found.interval[0], ratio * found.interval[1])
    if found.interval is not None and found.interval[0] == 0:
        row["notes"].append(f"about {found.expected:.3g} is expected where nothing differs")


def _test_missing(row: dict[str, Any], a: Column, b: Column) -> None:
    """The rates of missing values, and the p-value of their difference."""
    if not (row["missing_ref"] or row["missing_cur"]):
        return
    from scipy.stats import fisher_exact

    counts = np.array([[row["missing_ref"], row["n_ref"]], [row["missing_cur"], row["n_cur"]]])
    row["missing_p"] = float(fisher_exact(counts).pvalue)
    rates = f"{row['missing_ref'] / len(a.missing):.1%} of the reference and {row['missing_cur'] / len(b.missing):.1%}"
    row["notes"].append(f"missing: {rates} of the current data, left out of the distance")


def _decide(rows: list[dict[str, Any]], alpha: float, min_effect: float) -> None:
    tested = [row for row in rows if row["p"] is not None]
    for row, adjusted in zip(tested, _adjusted(row["p"] for row in tested), strict=True):
        row["p_adjusted"] = float(adjusted)
        least = min_effect / 2 if row["metric"] == "total variation" else min_effect
        large = row["effect"] >= least
        row["decision"] = "differs" if adjusted <= alpha and large else "no difference found"
        if adjusted <= alpha and not large:
            row["notes"].append(f"beyond chance (adjusted p = {adjusted:.2g}), but the effect is below {least:g}")
    gappy = [row for row in rows if row["missing_p"] is not None]
    for row, adjusted in zip(gappy, _adjusted(row["missing_p"] for row in gappy), strict=True):
        rates = [row[f"missing_{side}"] / max(row[f"missing_{side}"] + row[f"n_{side}"], 1) for side in ("ref", "cur")]
        if adjusted <= alpha and abs(rates[0] - rates[1]) >= min_effect / 2:
            row["notes"].append(
                f"the rates of missing values differ (Fisher's exact test, adjusted p = {adjusted:.2g})"
            )
            if row["decision"] in ("no difference found", "not compared"):
                row["decision"] = "missing values differ"


def _adjusted(p_values: Iterable[float]) -> list[float]:
    """Adjusted over the family by Benjamini and Hochberg."""
    from scipy.stats import false_discovery_control

    family = list(p_values)
    return [float(p) for p in false_discovery_control(family)] if family else []


def _order(row: dict[str, Any]) -> tuple[int, float]:
    """Differences first, largest effect first; what could not be compared last."""
    rank = {"differs": 0, "no difference found": 2, "not compared": 3}
    return rank.get(row["decision"], 1), -(row["effect"] or 0.0)


def _joint(
    pairs: list[tuple[Column, Column]], seed: int, alpha: float, permutations: int, bar: Any
) -> tuple[list[dict[str, Any]], tuple[float, tuple[float, ...]] | None]:
    """The joint rows, and the test's statistic with its permutation null for a figure."""
    try:
        design = joint_rows.design(pairs, seed)
    except ValueError as error:
        return [joint_rows.failed(str(error), seed)], None
    rows, null = [], None
    for row, result in joint_rows.rows(design, seed=seed, confidence=1 - alpha, permutations=permutations):
        rows.append(row)
        bar.update()
        if getattr(result, "null", ()):
            null = (float(result.statistic), tuple(float(v) for v in result.null))
    return rows, null


def _curves(
    rows: list[dict[str, Any]], x: Table, y: Table
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Quantiles of both sides of the most different numeric columns, enough to draw their distribution functions."""
    kept = [r for r in rows if r["metric"] == "W1" and r["kind"] != "constant"][:_CURVES]
    levels = np.linspace(0, 1, _CURVE_POINTS)

    def quantiles(column: Column) -> NDArray[np.float64]:
        return np.asarray(np.quantile(column.present, levels, method="inverted_cdf"))

    def title(row: dict[str, Any]) -> str:
        return f"{row['column']} (days since 1970)" if row["kind"] == "date" else str(row["column"])

    return {title(r): (quantiles(x.columns[r["column"]]), quantiles(y.columns[r["column"]])) for r in kept}
