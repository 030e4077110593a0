"""Tables from files, each checked before it is believed: CSV, Parquet, npy, npz, and folders of images.

A file is refused with one line that names it and the place in it. What it declares (array sizes, pixels) is compared
with what is there and with a memory limit before anything is loaded; pickles are never read.
"""

from __future__ import annotations

import csv
import os
import zipfile
import zlib
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from estimators.tables import MEMORY_LIMIT, Column, Table, from_array, from_frame

_CELL_BYTES = 60  # what a short Python string and its place in a list take
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
_MAX_PIXELS = 50_000_000


def read_path(path: str, *, na_values: frozenset[str], memory_limit: int, categorical: Sequence[str] = ()) -> Table:
    """The table in a file or folder; its kind is told by the extension.

    Raises:
        FileNotFoundError: nothing is there; ValueError: malformed, too large, or of an unknown kind.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"no such file or folder: {path}")
    if os.path.isdir(path):
        return from_array(_images(path, memory_limit), path)
    extension = os.path.splitext(path)[1].lower()
    if extension in (".csv", ".tsv"):
        return _csv(path, "\t" if extension == ".tsv" else ",", na_values, memory_limit, categorical)
    if extension == ".parquet":
        return _parquet(path, memory_limit)
    if extension == ".npy":
        with open(path, "rb") as file:
            return from_array(_array(file, path, os.path.getsize(path), memory_limit), path)
    if extension == ".npz":
        return _npz(path, memory_limit)
    raise ValueError(f"{path}: unknown kind of file; known are .csv, .tsv, .parquet, .npy, .npz and folders of images")


def read_array(path: str, memory_limit: int = MEMORY_LIMIT) -> NDArray[Any]:
    """The one array of a .npy or .npz file, or the images of a folder, (n, h, w) or (n, h, w, 3), bytes.

    Raises:
        FileNotFoundError: nothing is there; ValueError: malformed, too large, of an unknown kind, or several arrays.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"no such file or folder: {path}")
    if os.path.isdir(path):
        return _images(path, memory_limit)
    extension = os.path.splitext(path)[1].lower()
    if extension == ".npy":
        with open(path, "rb") as file:
            return _array(file, path, os.path.getsize(path), memory_limit)
    if extension == ".npz":
        arrays = _arrays(path, memory_limit)
        if len(arrays) > 1:
            raise ValueError(f"{path} must hold one array: it holds {', '.join(arrays)}")
        return next(iter(arrays.values()))
    raise ValueError(f"{path} is not a .npy or .npz file or a folder of images")


def _csv(path: str, delimiter: str, na: frozenset[str], memory_limit: int, categorical: Sequence[str]) -> Table:
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            header = [name.strip() for name in next(reader, [])]
            _check_header(path, header)
            cells, blank = 0, 0
            for row in reader:
                if not row and len(header) > 1:
                    blank = blank or reader.line_num
                    continue
                if blank:
                    raise ValueError(f"{path}, line {blank}: blank line between rows")
                row = row or [""]  # in a file of one column a blank line is a missing value
                if len(row) != len(header):
                    which = "short" if len(row) < len(header) else "long"
                    raise ValueError(
                        f"{path}, line {reader.line_num}: {which} row, {len(row)} values for {len(header)} columns"
                    )
                cells += len(row)
                _check_budget(path, cells * _CELL_BYTES, memory_limit)
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text (byte {error.start} of a block cannot be read)") from None
    columns = {
        name: _text_column(path, name, list(values), lines, na, name in categorical)
        for name, values in zip(header, zip(*rows, strict=True), strict=False)
    }
    return Table(columns, len(rows), path)


def _check_header(path: str, header: list[str]) -> None:
    if not any(header):
        raise ValueError(f"{path} is empty: no column names on line 1")
    if "" in header:
        raise ValueError(f"{path}, line 1: column {header.index('') + 1} has no name")
    repeated = [name for i, name in enumerate(header) if name in header[:i]]
    if repeated:
        raise ValueError(f"{path}, line 1: duplicate column name {repeated[0]!r}")
    if all(_is_number(name) for name in header):
        raise ValueError(f"{path}, line 1: expected column names, got numbers; add a header line")


def _text_column(
    path: str, name: str, texts: list[str], lines: list[int], na: frozenset[str], categorical: bool
) -> Column:
    """Numbers if most values read as numbers (then every one must), else labels."""
    missing = np.array([text.strip() in na for text in texts], dtype=bool)
    if not categorical:
        kept = ["nan" if gap else text for text, gap in zip(texts, missing, strict=True)]
        try:
            values = np.array(kept, dtype=np.float64)
            return Column(name, values, missing | np.isnan(values), True)
        except ValueError:
            wrong = [i for i, text in enumerate(kept) if not _is_number(text)]
        if 2 * len(wrong) < len(texts) - missing.sum():
            raise TypeError(
                f"{path}, line {lines[wrong[0]]}: text {texts[wrong[0]][:40]!r} in the numeric column {name!r}; mark "
                "it as missing (na_values) or the column as categorical"
            )
    values = np.array([None if gap else text for text, gap in zip(texts, missing, strict=True)], dtype=object)
    return Column(name, values, missing, False, unit="")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _parquet(path: str, memory_limit: int) -> Table:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ImportError('Parquet needs pyarrow: install it with `pip install "divergence-toolkit[tables]"`') from None
    try:
        with parquet.ParquetFile(path) as file:
            about = file.metadata
            groups = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
            _check_budget(path, max(groups, 8 * about.num_rows * about.num_columns), memory_limit)
            frame = file.read()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a readable Parquet file: {_first_line(error)}") from None
    repeated = [name for i, name in enumerate(frame.column_names) if name in frame.column_names[:i]]
    if repeated:
        raise ValueError(f"{path}: duplicate column name {repeated[0]!r}")
    return from_frame(frame, path)


def _array(file: IO[bytes], path: str, size: int, memory_limit: int) -> NDArray[Any]:
    """The array of an open .npy file of ``size`` bytes, after its header was compared with that size."""
    try:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read_header(file)
    except Exception as error:  # noqa: BLE001 - the header is parsed as Python text: a corrupt one fails in any way
        raise ValueError(f"{path}: not a readable .npy array: {_first_line(error)}") from None
    if dtype.hasobject:
        raise ValueError(f"{path}: holds Python objects (a pickle), which are never loaded; save plain numbers")
    if dtype.kind not in "iufbUM":
        raise ValueError(f"{path}: arrays of dtype {dtype} are not supported")
    count = 1
    for length in shape:
        count *= length  # Python integers: a header may claim more than 64 bits hold
    needed, there = count * dtype.itemsize, size - file.tell()
    if min(shape, default=0) < 0 or needed > there:
        raise ValueError(
            f"{path}: the header claims shape {shape} of {dtype}, {needed:,} bytes, but the file holds {there:,}"
        )
    _check_budget(path, needed, memory_limit)
    if not shape:
        raise ValueError(f"{path}: holds a single number, not a sample")
    data = file.read(needed)
    if len(data) < needed:
        raise ValueError(f"{path}: truncated, {len(data):,} of {needed:,} bytes")
    return np.frombuffer(data, dtype=dtype, count=count).reshape(shape, order="F" if fortran else "C")


def _arrays(path: str, memory_limit: int) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = [info for info in archive.infolist() if not info.is_dir()]
            _check_budget(path, sum(info.file_size for info in members), memory_limit)
            for info in members:
                if not info.filename.endswith(".npy"):
                    raise ValueError(f"{path}: {info.filename!r} is not an array; expected a .npz written by numpy")
                key = info.filename.removesuffix(".npy")
                if key in arrays:
                    raise ValueError(f"{path}: duplicate array {key!r}")
                with archive.open(info) as file:
                    arrays[key] = _array(file, f"{path}[{key}]", info.file_size, memory_limit)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, RuntimeError, zlib.error) as error:
        raise ValueError(f"{path}: not a readable .npz archive: {_first_line(error)}") from None
    if not arrays:
        raise ValueError(f"{path} is empty: no arrays")
    return arrays


def _npz(path: str, memory_limit: int) -> Table:
    arrays = _arrays(path, memory_limit)
    if len(arrays) == 1:
        return from_array(next(iter(arrays.values())), path)
    lengths = {key: len(array) for key, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{path}: the arrays must have one number of rows: got {lengths}")
    tables = [from_array(array, path, prefix=f"{key} ") for key, array in arrays.items()]
    columns: dict[str, Column] = {}
    for table in tables:
        twice = [name for name in table.columns if name in columns]
        if twice:
            raise ValueError(f"{path}: two arrays give the column name {twice[0]!r}")
        columns.update(table.columns)
    grids = [table.grid for table in tables if table.grid]
    return Table(columns, tables[0].n, path, grids[0] if len(grids) == 1 else None)


def _images(path: str, memory_limit: int) -> NDArray[Any]:
    try:
        from PIL import Image
    except ImportError:
        raise ImportError('images need Pillow: install it with `pip install "divergence-toolkit[images]"`') from None
    names = sorted(name for name in os.listdir(path) if name.lower().endswith(_IMAGES))
    if not names:
        raise ValueError(f"{path} is empty: no images ({', '.join(_IMAGES)})")
    sizes: dict[tuple[int, int], str] = {}
    grey = True
    for name in names:
        with _opened(Image, path, name) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise ValueError(f"{os.path.join(path, name)}: {image.width}×{image.height} is over the pixel cap")
            sizes.setdefault(image.size, name)
            grey = grey and image.mode in ("1", "L")
    if len(sizes) > 1:
        (a, first), (b, second) = list(sizes.items())[:2]
        raise ValueError(f"{path}: images must have one size: {first} is {a[0]}×{a[1]} and {second} is {b[0]}×{b[1]}")
    width, height = next(iter(sizes))
    _check_budget(path, 8 * len(names) * width * height * (1 if grey else 3), memory_limit)
    points = []
    for name in names:
        with _opened(Image, path, name) as image:
            try:
                points.append(np.asarray(image.convert("L" if grey else "RGB")))
            except (OSError, ValueError, SyntaxError) as error:
                raise ValueError(f"{os.path.join(path, name)}: not a readable image: {_first_line(error)}") from None
    return np.stack(points)


def _opened(image: Any, folder: str, name: str) -> Any:
    path = os.path.join(folder, name)
    try:
        return image.open(path)
    except (OSError, ValueError, SyntaxError, image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable image: {_first_line(error)}") from None


def _check_budget(path: str, needed: int, memory_limit: int) -> None:
    if needed > memory_limit:
        raise ValueError(f"{path}: needs about {needed:,} bytes of memory, over the limit of {memory_limit:,}")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
