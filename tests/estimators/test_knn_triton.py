"""The path "triton" of nearest neighbours where there is no GPU: many tiles, its bounds, rows that have too many near.

What all paths share is in `test_knn.py`; on a GPU see `test_knn_gpu.py`.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from knn_cases import METRICS, agrees, drawn, in_clusters, lattice, worst_of_halves

import estimators as est
from benchmarks import neighbor_gpu
from estimators.ops import knn
from estimators.ops.knn import bounds, reference, triton
from estimators.ops.pairwise import triton as pairwise

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
interpreted = pytest.mark.skipif(not pairwise.is_interpreted(), reason="Triton compiles here: see test_knn_gpu.py")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def poisoned():
    """Memory that is not written holds NaN, and in integers their largest."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def small(monkeypatch):
    """Tiles of 32 by 64 in parts, blocks of rows, and bounds from 16 groups at once."""
    before = triton.constants

    def constants(x, y, k, kind):
        less = {"BM": 32, "BN": 64, "R": 32, "T": 16, "BK": 16, "BD": 32}
        return before(x, y, k, kind) | less | {"SINGLE": x.shape[-1] <= 16 and kind == "halves"}

    monkeypatch.setattr(triton, "constants", constants)
    monkeypatch.setattr(triton, "BYTES", 2**19)


@pytest.fixture
def again(monkeypatch):
    """The filters that are taken, and how many rows torch takes."""
    taken = []
    filtered, tiled = triton._filtered, triton.tiled.nearest
    monkeypatch.setattr(triton, "_filtered", lambda *a: taken.append(a[4]) or filtered(*a))
    monkeypatch.setattr(triton.tiled, "nearest", lambda *a: taken.append(len(a[1])) or tiled(*a))
    return taken


@interpreted
@pytest.mark.parametrize("d", [3, 12, 40])
@pytest.mark.parametrize(("n", "q"), [(1, 65), (64, 63), (63, 64), (1000, 90)], ids=str)
def test_tiles_parts_and_blocks_of_rows(n, q, d, small, monkeypatch):
    """Of no whole number of tiles: rows of one problem after others, or several problems at once."""
    points, queries = drawn(2, 1, n, d, dtype=torch.float32), drawn(1, q, 2 * d, dtype=torch.float32, seed=1)[..., ::2]
    half = n // 2  # pairs that low precision cannot tell apart
    points[..., half : 2 * half, :] = points[..., :half, :] * (1 + 1e-5 * drawn(2, 1, half, d, dtype=torch.float32))
    queries[:, 40:] *= 30  # bounds of other rows do not hold for these
    agrees(points, queries, min(5, n), path="triton")
    if n == 63:
        monkeypatch.setattr(triton, "BYTES", 2**22)
        agrees(points, queries, 5, path="triton")
        agrees(points, points.mT.contiguous().mT, 5, exclude_self=True, path="triton")
        agrees(points[0, 0].double(), queries[0].double(), 63, path="triton")


@interpreted
def test_halves_are_no_more_than_a_filter(again):
    points, query = worst_of_halves()
    narrow = [p.half().double() for p in (points[[0, 40]], query)]
    assert reference.nearest(*narrow, 1)[1].item() == 0  # what halves make of them
    agrees(points, query, 1, path="triton")
    agrees(points.double() + 1e3, query.double() + 1e3, 2, path="triton")
    assert again == ["halves", "halves"]


@interpreted
def test_each_row_has_its_own_bounds(small):
    """In a block after one whose rows are at the centre, so that rounding does not move their bounds."""
    points, query = worst_of_halves()
    agrees(points, torch.cat([torch.zeros(40, 64), query]), 1, path="triton")


@pytest.mark.parametrize("kind", ["halves", "split", "differences"])
def test_a_group_has_the_widest_bounds_of_its_points(kind):
    y = drawn(64, 12) * torch.arange(1, 65)[:, None]
    how = triton.constants(y[None], y[None], 1, kind) | {"BN": 64}
    copies = y.repeat_interleave(bounds.GROUP, 0)  # of nearly the same median, 1% of the width away
    each, groups = (bounds.narrowed(kind, p[None], y[None], "euclidean", how).spread for p in (copies, y))
    assert float(each.min()) > 0
    torch.testing.assert_close(groups, each.unflatten(1, (-1, bounds.GROUP)).amax(-1), rtol=0.05, atol=0)


@interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["normal", "heavy tails", "far", "clusters", "worst", "tiny"])
def test_bounds_hold(kind, metric, dtype):
    """Of each pair: groups of copies have the bound of one."""
    x, y = drawn(40, 64, dtype=dtype), drawn(30, 64, dtype=dtype, seed=1)
    if kind == "heavy tails":
        x, y = (p * drawn(len(p), 1, dtype=dtype, seed=2) ** -3 for p in (x, y))
    elif kind == "far":
        x, y = x + 1e3, y + 1e3
    elif kind == "clusters":
        x, y = (1e-5 * p + 1e3 * (torch.arange(len(p)) % 2 - 0.3)[:, None].to(dtype) for p in (x, y))
    elif kind == "worst":
        y, x = (p.to(dtype) for p in worst_of_halves())
    elif kind == "tiny":
        x, y = x * 1e-30, y * 1e-30
        y[3, 5] = 1.0
    copies = y.repeat_interleave(bounds.GROUP, 0)[None]
    for filter_ in bounds.kinds(64, metric):
        how = triton.constants(x[None], copies, 1, filter_)
        narrow = bounds.narrowed(filter_, copies, x[None], metric, how)
        low = torch.empty(len(x), narrow.spread.shape[1])
        products = filter_ != "differences"
        launched(narrow, low, metric, products, how)
        low, spread = low[:, : len(y)].double(), narrow.spread[0, : len(y)].double()
        gap = x.double()[:, None] - y.double()
        D = torch.linalg.vector_norm(gap, reference.ORDERS[metric], -1)
        s = scale_of(x, y)
        D = s * D if metric != "euclidean" else (s * D).square()
        slack = narrow.slack[0].double()[:, None]
        if products:
            A = (D - low).amin(1, keepdim=True)  # at least A(1 − h) − z, which belongs to all pairs of the row
            assert bool((D <= A + low + spread + slack).all())
            centre = bounds.scaled(copies, x[None], True)[1][0].double()
            h, z = bounds.MARGINS[filter_](64)
            assert bool((A[:, 0] >= centre.square().sum(-1) * (1 - h) - z).all())
        else:
            assert bool((D <= (low + spread) * (1 + narrow.stretch / 2) + slack / 2).all())
            assert bool((low <= D * (1 + narrow.stretch / 2) + slack / 2).all())


def launched(narrow, low, metric, products, how):
    """The filter over one tile of rows."""
    from estimators.ops.knn import triton_kernels as kernels

    rows, columns, groups = how["BM"], narrow.term.shape[1], narrow.spread.shape[1]
    whole = low.new_empty(rows, groups)
    sizes = (1, rows, columns, groups, columns, narrow.x.shape[2 if products else 1])
    given = {"BM": how["BM"], "BN": how["BN"], "GROUP": bounds.GROUP}
    if products:
        given |= {name: how[name] for name in ("BK", "SINGLE")}
        kernels.products_kernel[(1, 1)](*narrow[:3], whole, *sizes, 0, **given)
    else:
        given |= {"D": 0, "METRIC": triton.METRICS.index(metric)}
        kernels.differences_kernel[(1, 1)](*narrow[:3], whole, *sizes, 0, narrow.x.shape[2], **given)
    low.copy_(whole[: len(low)])


def scale_of(x, y):
    """The power of two that makes the largest coordinate some 2^13."""
    largest = max(float(x.abs().max()), float(y.abs().max()))
    return 2.0 ** (13 - torch.tensor(largest, dtype=torch.float64).frexp().exponent)


@interpreted
def test_the_filter_leaves_few_groups(monkeypatch):
    """k of them and a few that halves cannot tell apart: so that the work in float64 is small."""
    counts = []
    over = triton._filtered
    monkeypatch.setattr(triton, "ROOMS", {triton.MOST: 16})
    monkeypatch.setattr(triton, "_filtered", lambda *a: counts.append(over(*a)) or counts[-1])
    points, queries = (drawn(n, 64, dtype=torch.float32, seed=n) for n in (4000, 50))
    for offset in (0.0, 1000.0):
        agrees(points + offset, queries + offset, 5, path="triton")
    assert len(counts) == 2 and not any(bool(over.any()) for over in counts)


@interpreted
@pytest.mark.parametrize("exclude_self", [False, True])
@pytest.mark.parametrize("d", [20, 70])
def test_clusters_that_products_cannot_tell_apart_go_to_differences(d, exclude_self, again, monkeypatch):
    monkeypatch.setattr(triton, "ROOMS", {triton.MOST: 8})
    points = in_clusters(600, d)
    points[5] = points[4]
    queries = points if exclude_self else in_clusters(40, d, wide=0.02)
    agrees(points, queries, 4, exclude_self=exclude_self, path="triton")
    assert again == ["halves", "split", "differences"]


@interpreted
def test_two_halves_tell_apart_what_one_does_not(again, monkeypatch):
    """Clusters seven times as far apart as their points are from the centres."""
    monkeypatch.setattr(triton, "ROOMS", {triton.MOST: 8})
    points = in_clusters(600, 40, wide=150.0)
    agrees(points, points, 4, exclude_self=True, path="triton")
    agrees(points.double() + 1e4, in_clusters(30, 40, wide=150.0).double() + 1e4, 4, path="triton")
    assert again == ["halves", "split"] * 2


@interpreted
@pytest.mark.parametrize("d", [3, 12])
@pytest.mark.parametrize("exclude_self", [False, True])
def test_ties_in_more_groups_than_there_is_room_go_to_torch(d, exclude_self, again, monkeypatch):
    monkeypatch.setattr(triton, "ROOMS", {triton.MOST: 4})
    points = lattice(2, 300, d, dtype=torch.float32)
    points[0, ::7], points[1] = 1.0, drawn(300, d, seed=3)  # more copies than neighbours; and no tie at all
    queries = points if exclude_self else points[:, :70].flip(1) + (torch.arange(d) == 0)
    agrees(points, queries, 3, exclude_self=exclude_self, path="triton")
    rows = [one for one in again if not isinstance(one, str)]
    assert len(rows) == 1 and 0 < rows[0] < queries.shape[1]  # of the one problem alone


@interpreted
def test_repeats_and_blocks_give_the_same_bits(small):
    points = drawn(200, 20, dtype=torch.float32)
    first = knn.nearest(points, points, 5, exclude_self=True, path="triton")
    second = knn.nearest(points, points[:100], 6, path="triton")
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one[:100], other[:, 1:], rtol=0, atol=0)


@interpreted
def test_the_benchmark_of_a_gpu_finds_what_is_wrong(monkeypatch):
    """Its parts on a few points, as there is no GPU here."""
    x, y = drawn(2, 300, 64, dtype=torch.float32)
    monkeypatch.setattr(neighbor_gpu, "SIZES", {"small": (300, 1.0, 0.5)})
    monkeypatch.setattr(neighbor_gpu, "BLOCK", 1 << 15)
    path = knn.explain(y, x, 5).path

    def row(*told):
        return told

    (told,) = neighbor_gpu.rows(lambda n: (x, y), lambda call: 1.0, lambda call: x.nbytes, row, lambda *a, **b: a)
    assert told[5] == (path == "triton") and f"{path}: " in told[6]
    assert " 0 mismatches outside ties in 300 rows" in told[6] and "memory 0.5 × the inputs" in told[6]
    own, other = neighbor_gpu.searches(x, y)
    exact = float(est.NearestNeighbor("kl", 5)(x, y))
    assert float(neighbor_gpu.by_torch(x, y)) == pytest.approx(exact, rel=1e-4)
    rows = torch.arange(0, 300, 3)
    assert neighbor_gpu.mismatches(x, y, (own, other), rows) == 0
    spoilt = other[1].clone()
    spoilt[3, 1], spoilt[4, 0] = spoilt[3, 2], spoilt[4, 1]  # the latter in a row that is not looked at
    assert neighbor_gpu.mismatches(x, y, (own, (other[0], spoilt)), rows) == 1


def test_a_cpu_never_chooses_it_and_it_says_what_keeps_it(monkeypatch):
    x = drawn(90, 3)
    assert knn.explain(x, x).path != "triton"
    if pairwise.is_interpreted():
        assert triton.why_not(x.half(), x.half(), 1) == "points of torch.float16"
        assert "half precision by matrix products" in triton.described(drawn(5, 20), "euclidean")
        assert "float32 by differences" in triton.described(drawn(5, 20), "chebyshev")
        with pytest.raises(ValueError, match='path="triton" cannot be taken: more than 64 neighbours'):
            knn.nearest(x, x, 65, path="triton")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match='path="triton" cannot be taken: the points are not on a CUDA device'):
        knn.nearest(x, x, 1, path="triton")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert triton.why_not(x, x, 1) == "Triton is not installed"


def test_it_compiles_for_a_gpu_and_multiplies_halves_alone(tmp_path):
    """The interpreter sees neither what does not compile nor how it is multiplied."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    script = Path(__file__).with_name("knn_ptx.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == 12
    for name, case in found.items():
        assert not case["tf32"] and case["halves"] == name.startswith("products"), name
        assert case["spilled"] == 0, name
