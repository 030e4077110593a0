"""One table from whatever a person has: arrays, tensors, data frames or a file, as named columns with missing marked.

A column that cannot be compared keeps the reason in ``error`` rather than stopping the others; `Table.matrix`, which
needs every column, raises it. Files are read by `estimators.files`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

NA_VALUES = ("", "NA", "NaN", "nan", "null")
MEMORY_LIMIT = 2 << 30  # bytes a file may declare before it is refused
_MAX_CATEGORIES = 1000


@dataclass(frozen=True)
class Column:
    """One column: ``values`` is float64 (NaN where missing) if ``numeric``, else objects; ``missing`` marks gaps."""

    name: str
    values: NDArray[Any]
    missing: NDArray[np.bool_]
    numeric: bool
    unit: str = "units of the column"
    error: str | None = None
    cell: tuple[int, int] | None = None  # its row and column where it is a pixel of an image

    @property
    def present(self) -> NDArray[Any]:
        """The values that are not missing."""
        return self.values[~self.missing]


@dataclass(frozen=True)
class Table:
    """Columns by name, all with ``n`` rows; ``source`` says where they came from, ``grid`` the image shape, if any."""

    columns: dict[str, Column]
    n: int
    source: str
    grid: tuple[int, int] | None = None
    notes: tuple[str, ...] = field(default=())

    def select(self, names: Sequence[str]) -> Table:
        """The named columns alone.

        Raises:
            ValueError: a name is not a column; the message lists those there are.
        """
        unknown = [name for name in names if name not in self.columns]
        if unknown:
            raise ValueError(f"{self.source} has no column {unknown[0]!r}; it has {listed(self.columns)}")
        return replace(self, columns={name: self.columns[name] for name in names})

    def matrix(self, nan_policy: str = "raise") -> NDArray[np.float64]:
        """All columns as one (n, d) matrix, with NaN for what is missing where ``nan_policy`` is "omit".

        Raises:
            TypeError: a column is not numeric.
            ValueError: a value is missing; the message names the column, how many, and the first row.
        """
        for column in self.columns.values():
            if column.error:
                raise TypeError(f"{self.source}: column {column.name!r}: {column.error}")
            if not column.numeric:
                raise TypeError(f"{self.source}: column {column.name!r} is not numeric; leave it out or use `compare`")
            if nan_policy == "raise" and column.missing.any():
                count, first = int(column.missing.sum()), int(column.missing.argmax())
                raise ValueError(
                    f"{self.source}: column {column.name!r} has {count} missing or NaN value(s), first in row {first}"
                )
        return np.stack([column.values for column in self.columns.values()], axis=1)


def read(
    source: Any,
    label: str = "x",
    *,
    columns: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    categorical: Sequence[str] = (),
    na_values: Iterable[str] = NA_VALUES,
    memory_limit: int = MEMORY_LIMIT,
) -> Table:
    """The table that ``source`` holds.

    Args:
        source: an array or tensor, (n,), (n, d) or (n, …); a mapping of names to 1-D arrays; a pandas, polars or
            pyarrow table; or the path of a .csv, .tsv, .parquet, .npy or .npz file or of a folder of images.
        label: what errors call it.
        columns: the columns to keep, in this order.
        names: names for the columns of an array.
        categorical: columns whose values are labels even where they look like numbers.
        na_values: texts that stand for a missing value in a text file.
        memory_limit: bytes a file may declare; a larger one is refused before it is loaded.

    Raises:
        ValueError: empty, malformed or too large; TypeError: not a table of any kind known here;
        FileNotFoundError: no such file.

    Example:
        >>> table = read({"height": [1.7, 1.8, float("nan")], "city": ["Rome", "Oslo", None]})
        >>> [(c.name, c.numeric, int(c.missing.sum())) for c in table.columns.values()]
        [('height', True, 1), ('city', False, 1)]
    """
    if isinstance(source, Table):
        table = source
    elif isinstance(source, str | os.PathLike):
        from estimators import files

        table = files.read_path(
            os.fspath(source), na_values=frozenset(na_values), memory_limit=memory_limit, categorical=categorical
        )
    elif isinstance(source, Mapping):
        table = from_columns(source, label)
    elif _is_frame(source):
        table = from_frame(source, label)
    else:
        table = from_array(as_array(source, label), label, names=names)
    if not table.columns or table.n == 0:
        raise ValueError(f"{table.source} is empty: {table.n} rows and {len(table.columns)} columns")
    if categorical:
        known = {name: _as_labels(c) if name in categorical else c for name, c in table.columns.items()}
        table = replace(table, columns=known)
    return table if columns is None else table.select(columns)


def as_array(value: Any, label: str) -> NDArray[Any]:
    """``value`` as a numpy array, whatever library it comes from; bfloat16 becomes float32."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() and value.itemsize < 4 else value).numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise TypeError(f"{label} must be a table or an array: {error}") from None
    if array.ndim == 0:
        raise TypeError(f"{label} must be a table, an array or a path: got {type(value).__name__}")
    return array


def from_array(array: NDArray[Any], source: str, *, names: Sequence[str] | None = None, prefix: str = "") -> Table:
    """One column for each coordinate of a point: "x", "x0", "x1" …, or "pixel r,c" for (n, h, w) and images."""
    n, shape = len(array), array.shape[1:]
    grid: tuple[int, int] | None = None
    cells: list[tuple[int, int] | None] = [None] * int(np.prod(shape, dtype=int))
    if not shape:
        found = [prefix.strip() or "x"]
    elif len(shape) == 1:
        found = [f"{prefix.strip() or 'x'}{j}" for j in range(shape[0])]
    elif len(shape) in (2, 3):
        channel = None if len(shape) == 2 else (0 if shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4) else 2)
        found = []
        for i, index in enumerate(np.ndindex(*shape)):
            r, c = (v for axis, v in enumerate(index) if axis != channel)
            found.append(f"{prefix}pixel {r},{c}" + ("" if channel is None else f" channel {index[channel]}"))
            cells[i] = (r, c)
        h, w = (size for axis, size in enumerate(shape) if axis != channel)
        grid = (h, w)
    else:
        found = [prefix + ",".join(map(str, index)) for index in np.ndindex(*shape)]
    if names is not None:
        if len(names) != len(found) or len(set(names)) != len(names):
            raise ValueError(f"names must be {len(found)} different names, one a column: got {len(names)}")
        found = list(names)
    flat = array.reshape(n, len(found))
    if array.dtype.kind in "iufb":
        flat = flat.astype(np.float64) if array.dtype.kind != "b" else flat
    unit = "pixel values" if grid else Column.unit
    columns = {name: replace(from_values(flat[:, j], name), unit=unit, cell=cells[j]) for j, name in enumerate(found)}
    return Table(columns, n, source, grid)


def from_columns(mapping: Mapping[str, Any], source: str) -> Table:
    """A table from 1-D arrays of one length by name."""
    columns = {str(name): from_values(as_array(values, str(name)), str(name)) for name, values in mapping.items()}
    lengths = {name: len(column.values) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{source} must have columns of one length: got {lengths}")
    return Table(columns, next(iter(lengths.values()), 0), source)


def from_frame(frame: Any, source: str) -> Table:
    """A table from a pandas, polars or pyarrow table (or one of their columns), through narwhals."""
    try:
        import narwhals as nw
    except ImportError:
        raise ImportError(
            'data frames need narwhals: install it with `pip install "divergence-toolkit[tables]"`'
        ) from None
    frame = nw.from_native(frame, allow_series=True)
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    if isinstance(frame, nw.Series):
        frame = frame.alias(frame.name or "x").to_frame()
    columns: dict[str, Column] = {}
    for name in frame.columns:
        series, dtype = frame[name], frame.schema[name]
        if dtype.is_numeric() or dtype == nw.Boolean:
            values = series.cast(nw.Float64).to_numpy().astype(np.float64)
            missing = series.is_null().to_numpy().astype(bool) | np.isnan(values)
            values = np.where(missing, np.nan, values)
            column = Column(str(name), values, missing, True)
            column = _as_labels(column) if dtype == nw.Boolean else column
        elif dtype in (nw.Datetime, nw.Date):
            stamps = series.cast(nw.Datetime("us")).to_numpy().astype("datetime64[us]")
            column = from_values(stamps, str(name))
        else:
            column = from_values(np.array(series.to_list(), dtype=object), str(name))
        columns[str(name)] = column
    return Table(columns, len(frame), source)


def from_values(values: NDArray[Any], name: str) -> Column:
    """A column from a 1-D array of any dtype; one whose values are of several types carries an error."""
    if values.ndim != 1:
        raise ValueError(f"column {name!r} must have one axis: got shape {values.shape}")
    kind = values.dtype.kind
    if kind in "iuf":
        values = values.astype(np.float64)
        return Column(name, values, np.isnan(values), True)
    if kind == "M":
        missing = np.isnat(values)
        days = values.astype("datetime64[us]").astype(np.int64) / 86_400e6
        return Column(name, np.where(missing, np.nan, days), missing, True, unit="days")
    if kind == "b" or kind in "UT":
        return Column(name, values.astype(str).astype(object), np.zeros(len(values), bool), False)
    if kind != "O":
        return Column(
            name, values, np.zeros(len(values), bool), False, error=f"values of type {values.dtype} are not supported"
        )
    missing = np.array([_is_missing(v) for v in values], dtype=bool)
    present = values[~missing]
    numbers = [isinstance(v, int | float | np.number) and not isinstance(v, bool) for v in present]
    if len(numbers) and all(numbers):
        out = np.full(len(values), np.nan)
        out[~missing] = present.astype(np.float64)
        return Column(name, out, missing, True)
    labels = np.array([None if m else str(v) for v, m in zip(values, missing, strict=True)], dtype=object)
    column = Column(name, labels, missing, False)
    if any(numbers):
        row = int(np.flatnonzero(~missing)[numbers.index(False)])
        return replace(column, error=f"numbers and other values are mixed; the first that is no number is in row {row}")
    return column


def _is_missing(value: Any) -> bool:
    return value is None or value != value or type(value).__name__ in ("NAType", "NaTType")


def _as_labels(column: Column) -> Column:
    """A numeric column as labels: 1.0 becomes "1"."""
    if not column.numeric:
        return column
    labels = [None if m else f"{v:.12g}" for v, m in zip(column.values, column.missing, strict=True)]
    return replace(column, values=np.array(labels, dtype=object), numeric=False, unit="")


def _is_frame(value: Any) -> bool:
    module = type(value).__module__.partition(".")[0]
    return module in ("pandas", "polars", "pyarrow", "modin", "cudf", "narwhals")


def listed(names: Iterable[str], limit: int = 8) -> str:
    """Names in quotes, the rest counted.

    Example:
        >>> listed(["a", "b", "c"], limit=2)
        "'a', 'b' and 1 more"
    """
    names = list(names)
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more


def kind_of(x: Column, y: Column) -> tuple[str, str | None]:
    """The kind of a column on both sides, and the reason if it is refused.

    "constant", "continuous", "discrete" (whole numbers, or few values often repeated), "date", "categorical" or "text".
    """
    for side, column in (("reference", x), ("current", y)):
        if column.error:
            return "refused", f"{side}: {column.error}"
    pooled = np.concatenate([x.present, y.present])
    if x.numeric != y.numeric and len(x.present) and len(y.present):
        kinds = ["numbers" if c.numeric else "labels or text" for c in (x, y)]
        return "refused", f"the reference holds {kinds[0]} and the current {kinds[1]}"
    if not len(pooled):
        return "refused", "every value is missing on both sides"
    if x.numeric and y.numeric:
        if np.isinf(pooled).any():
            count = int(np.isinf(pooled).sum())
            return "refused", f"{count} infinite value(s): W1 is not defined with mass at infinity"
        distinct = len(np.unique(pooled))
        if distinct == 1:
            return "constant", None
        if x.unit == "days":
            return "date", None
        whole = bool((pooled == np.round(pooled)).all())
        few = distinct <= max(2, min(100, len(pooled) // 20))
        return ("discrete" if whole or few else "continuous"), None
    distinct = len(set(pooled.tolist()))
    if distinct == 1:
        return "constant", None
    if distinct > _MAX_CATEGORIES or distinct > max(20, len(pooled) // 4):
        return "text", f"free text or identifiers: {distinct} different values in {len(pooled)}; no distance suits them"
    return "categorical", None
