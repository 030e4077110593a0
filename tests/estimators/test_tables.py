import struct
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from estimators.tables import kind_of, read


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def names(table):
    return list(table.columns)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((5,), ["x"]),
        ((5, 2), ["x0", "x1"]),
        ((5, 1, 2), ["pixel 0,0", "pixel 0,1"]),
        ((5, 3, 1, 5), [f"pixel 0,{c} channel {k}" for k in range(3) for c in range(5)]),
    ],
)
def test_arrays_name_their_columns(shape, expected):
    array = np.arange(np.prod(shape), dtype=float).reshape(shape)
    table = read(array)
    assert names(table) == expected
    np.testing.assert_array_equal(table.matrix(), array.reshape(5, -1))


def test_tensors_of_every_precision():
    for dtype in (torch.float64, torch.bfloat16, torch.int64):
        np.testing.assert_array_equal(read(torch.tensor([[1, 2]], dtype=dtype)).matrix(), [[1.0, 2.0]])


FRAME = {"a": [1.0, None, 3.0], "b": ["u", None, "v"], "flag": [True, False, None]}


@pytest.mark.parametrize("frame", [pd.DataFrame(FRAME), pa.table(FRAME)], ids=["pandas", "pyarrow"])
def test_frames(frame):
    table = read(frame)
    assert names(table) == ["a", "b", "flag"]
    assert [column.numeric for column in table.columns.values()] == [True, False, False]
    assert [int(column.missing.sum()) for column in table.columns.values()] == [1, 1, 1]
    np.testing.assert_array_equal(table.columns["a"].present, [1.0, 3.0])


def test_dates_are_days():
    dates = pd.DataFrame({"when": pd.to_datetime(["1970-01-02T00:00", None, "1970-01-11T12:00"])})
    column = read(dates).columns["when"]
    np.testing.assert_array_equal(column.present, [1.0, 10.5])
    assert column.unit == "days"


def test_mixed_values_are_an_error_of_their_column():
    column = read(pd.DataFrame({"a": [1, "one", 2]}, dtype=object)).columns["a"]
    assert "row 1" in column.error
    with pytest.raises(TypeError, match="'a'"):
        read({"a": np.array([1, "one"], dtype=object)}).matrix()


def test_text_is_refused_where_numbers_are_needed():
    with pytest.raises(TypeError, match="'a' is not numeric"):
        read({"a": ["1", "2"]}).matrix()


def test_missing_values_are_refused_by_matrix():
    with pytest.raises(ValueError, match=r"'x1' has 2 missing or NaN value\(s\), first in row 1"):
        read(np.array([[1, 2], [1, np.nan], [1, np.nan]])).matrix()


@pytest.mark.parametrize("empty", [np.empty((0, 2)), np.empty((3, 0)), {}, [], pd.DataFrame()], ids=repr)
def test_empty(empty):
    with pytest.raises(ValueError, match="empty"):
        read(empty)


def test_kinds():
    rng = np.random.default_rng(0)
    cases = {
        "continuous": rng.normal(size=100),
        "discrete": rng.integers(0, 5, 100),
        "constant": np.full(100, 3.0),
        "categorical": rng.choice(["a", "b"], 100),
        "text": [f"id {i}" for i in range(100)],
    }
    for kind, values in cases.items():
        column = read({"c": np.asarray(values)}).columns["c"]
        assert kind_of(column, column)[0] == kind


def test_csv(tmp_path):
    path = write(tmp_path / "a.csv", 'n,"label, quoted",zip\n1.5,red,01\n,NA,02\n2,blue,03\n\n')
    table = read(path, categorical=["zip"])
    np.testing.assert_array_equal(table.columns["n"].values, [1.5, np.nan, 2])
    assert table.columns["label, quoted"].present.tolist() == ["red", "blue"]
    assert table.columns["zip"].present.tolist() == ["01", "02", "03"]
    assert read(path, na_values=["1.5"], columns=["label, quoted"]).columns["label, quoted"].missing.sum() == 0


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("a,b\n1,2\n3\n", ValueError, "line 3: short row, 1 values for 2 columns"),
        ("a,b\n1,2\n3,4,5\n", ValueError, "line 3: long row, 3 values for 2 columns"),
        ("a,b,a\n1,2,3\n", ValueError, "line 1: duplicate column name 'a'"),
        ("a,\n1,2\n", ValueError, "column 2 has no name"),
        ("1,2\n3,4\n", ValueError, "expected column names"),
        ("a\n1\n2\nthree\n", TypeError, "line 4: text 'three' in the numeric column 'a'"),
        ("a,b\n1,2\n\n3,4\n", ValueError, "line 3: blank line"),
        ('a,b\n1,"2\n', ValueError, "line 2"),
        ("", ValueError, "empty"),
        ("a,b\n", ValueError, "empty"),
    ],
)
def test_malformed_csv(tmp_path, text, kind, message):
    with pytest.raises(kind, match=message):
        read(write(tmp_path / "a.csv", text))


def test_csv_that_is_not_text(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"a\n\xff\xfe\n")
    with pytest.raises(ValueError, match="not UTF-8"):
        read(tmp_path / "a.csv")


def test_csv_over_the_memory_limit(tmp_path):
    with pytest.raises(ValueError, match="over the limit"):
        read(write(tmp_path / "a.csv", "a\n" + "1\n" * 1000), memory_limit=10_000)


def test_parquet(tmp_path):
    frame = pd.DataFrame({"a": [1, 2], "b": ["u", "v"]})
    frame.to_parquet(tmp_path / "a.parquet")
    assert names(read(tmp_path / "a.parquet")) == ["a", "b"]
    with pytest.raises(ValueError, match="over the limit"):
        read(tmp_path / "a.parquet", memory_limit=10)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1nonsense")
    with pytest.raises(ValueError, match="not a readable Parquet"):
        read(tmp_path / "bad.parquet")


@pytest.mark.parametrize("order", ["C", "F"])
def test_npy(tmp_path, order):
    array = np.asarray([[1, 2, 3], [4, 5, 6]], order=order)
    np.save(tmp_path / "a.npy", array)
    np.testing.assert_array_equal(read(tmp_path / "a.npy").matrix(), array)


def test_npy_whose_header_lies(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000000000,), }"
    header += b" " * (118 - len(header) - 1) + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(80))
    with pytest.raises(ValueError, match="800,000,000,000 bytes, but the file holds 80"):
        read(tmp_path / "a.npy")


def test_pickles_and_nonsense_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{}, 1], dtype=object))
    with pytest.raises(ValueError, match="pickle"):
        read(tmp_path / "a.npy")
    np.savez(tmp_path / "a.npz", a=np.array([None]))
    with pytest.raises(ValueError, match="pickle"):
        read(tmp_path / "a.npz")
    for name in ("b.npy", "b.npz"):
        (tmp_path / name).write_bytes(b"nonsense")
        with pytest.raises(ValueError, match="not a readable"):
            read(tmp_path / name)


def test_npz(tmp_path):
    np.savez(tmp_path / "a.npz", u=np.zeros(3), v=np.ones((3, 2)))
    assert names(read(tmp_path / "a.npz")) == ["u", "v0", "v1"]
    np.savez(tmp_path / "b.npz", u=np.zeros(3), v=np.ones(2))
    with pytest.raises(ValueError, match="one number of rows"):
        read(tmp_path / "b.npz")


def test_npz_bomb(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(1_000_000))
    assert (tmp_path / "a.npz").stat().st_size < 20_000
    with pytest.raises(ValueError, match="over the limit"):
        read(tmp_path / "a.npz", memory_limit=1_000_000)


def test_npz_with_a_foreign_member(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match="not an array"):
        read(tmp_path / "a.npz")


def test_images(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for i in range(2):
        image.fromarray(np.full((2, 3), i, dtype=np.uint8)).save(tmp_path / f"{i}.png")
    table = read(tmp_path)
    assert (table.n, table.grid, len(table.columns)) == (2, (2, 3), 6)
    np.testing.assert_array_equal(table.columns["pixel 1,2"].values, [0, 1])
    (tmp_path / "2.png").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="2.png: not a readable image"):
        read(tmp_path)
    image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(tmp_path / "2.png")
    with pytest.raises(ValueError, match="one size"):
        read(tmp_path)


def test_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read(tmp_path / "none.csv")
    with pytest.raises(ValueError, match="unknown kind of file"):
        read(write(tmp_path / "a.xyz", "1"))


def test_an_unknown_column_is_named():
    with pytest.raises(ValueError, match="no column 'z'"):
        read({"a": [1.0]}, columns=["z"])
