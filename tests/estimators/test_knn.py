"""Nearest neighbours: every path against the float64 reference, exactly in its indices, ties and copies included."""

import importlib.util
import math

import pytest
import torch
from knn_cases import METRICS, SIZES, agrees, drawn, lattice

from estimators.ops import knn, native
from estimators.ops.knn import reference, tiled, triton
from estimators.ops.pairwise.triton import is_interpreted

LIBRARY = pytest.mark.skipif(native.library() is None, reason="the library is not built")
INTERPRETED = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None or not is_interpreted(),
    reason="Triton is not installed, or compiles here: see test_knn_gpu.py",
)
PATHS = ["tiled", pytest.param("native", marks=LIBRARY), pytest.param("triton", marks=INTERPRETED)]


def allowed(k, path):
    """As many neighbours as the path gives."""
    return min(k, triton.MOST) if path == "triton" else k


@pytest.fixture(autouse=True)
def poisoned():
    """Memory that is not written holds NaN, and in integers their largest."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_neighbors_are_those_of_the_reference(size, metric, dtype, path):
    n, q, d, k = size
    agrees(drawn(n, d, dtype=dtype), drawn(q, d, dtype=dtype, seed=1), allowed(k, path), metric, path=path)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 5, 299])
def test_ties_are_in_the_order_of_their_indices(k, metric, dtype, path):
    k = min(k, 20) if path == "triton" else k  # whose interpreter is slow
    for d in (4, 12) if k == 5 else (4,):
        points = lattice(300, d, dtype=dtype)
        agrees(points, lattice(70, d, dtype=dtype, seed=1), k, metric, path=path)
        agrees(points, points, k, metric, exclude_self=True, path=path)


@pytest.mark.parametrize("path", PATHS)
def test_a_point_is_no_neighbor_of_itself_and_its_copies_are(path):
    points = drawn(40, 3)[torch.arange(200) % 40]
    distance, index = knn.nearest(points, points, 6, exclude_self=True, path=path)
    own = torch.arange(200)[:, None]
    assert (index != own).all() and (distance[:, :4] == 0).all() and (distance[:, 4:] > 0).all()
    assert (index[:, :4] % 40 == own % 40).all()
    agrees(points, points, 6, exclude_self=True, path=path)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(("n", "d"), [(3000, 6), (500, 1100)])
def test_differences_that_single_precision_does_not_see_decide(n, d, metric, path):
    """Around the query, the nearer the later: what is nearer than the k-th by 1e-11 passes the filter."""
    d = d // 10 if path == "triton" and d > 100 else d  # whose interpreter is slow
    side = torch.nn.functional.normalize(drawn(n, d), p=reference.ORDERS[metric], dim=-1)
    points = side * (1 - 1e-11 * torch.arange(n, dtype=torch.float64))[:, None] + 0.3
    agrees(points, torch.full((2, d), 0.3, dtype=torch.float64), 4, metric, path=path)
    far = points + 40.0  # rounding counts from the centre: here it is larger than the gaps of single precision
    queries = torch.full((2, d), 40.3, dtype=torch.float64)
    agrees(torch.cat([far, -far]), queries, 4, metric, path=path)
    agrees(torch.cat([drawn(2 * n, d), far[:99]]), queries, 4, metric, path=path)  # far from the centre in few panels


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_an_offset_changes_nothing(dtype, path):
    for d in (5, 20):
        points, queries = (drawn(n, d, dtype=dtype, seed=n) + 1e6 for n in (500, 70))  # as the dtype rounds them
        agrees(points, queries, 5, path=path)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("size", [1e-100, 1e-30, 1e30, 1e100])
def test_sizes_and_outliers(size, path):
    points, queries = size * drawn(200, 4), size * drawn(100, 4, seed=1)
    agrees(points, queries, 5, path=path)
    agrees(torch.cat([points, size * 1e25 * drawn(2, 4, seed=2)]), queries, 5, path=path)
    for beyond in (
        5e21,
        1e22,
        2e22,
        1e25,
    ):  # the squares of the others' distances are subnormal, or 0, in single precision
        agrees(points, torch.cat([queries, size * beyond * drawn(1, 4, seed=2)]), 5, path=path)
    agrees(points * 0, queries * 0, 3, path=path)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("exclude_self", [False, True])
def test_leading_axes_and_strides_broadcast(exclude_self, path):
    points = drawn(3, 1, 160, 10)[..., ::2, ::2]
    queries = points.mT.contiguous().mT if exclude_self else drawn(2, 5, 70, seed=1).mT
    agrees(points, queries, 4, exclude_self=exclude_self, path=path)
    distance, index = knn.nearest(points, queries, 4, exclude_self=exclude_self, path=path)
    last = queries[1, 0] if exclude_self else queries[1]
    one = knn.nearest(points[1, 0], last, 4, exclude_self=exclude_self, path=path)
    torch.testing.assert_close((distance[1, -1], index[1, -1]), one, rtol=0, atol=0)


@pytest.mark.parametrize("path", PATHS)
def test_no_queries_have_no_neighbors(path):
    distance, index = knn.nearest(drawn(9, 2), drawn(0, 2), 3, path=path)
    assert distance.shape == index.shape == (0, 3)


def test_rows_of_a_tile(monkeypatch):
    monkeypatch.setattr(tiled, "TILE", 1000)
    agrees(lattice(300, 4), lattice(70, 4, seed=1), 5, path="tiled")
    agrees(lattice(300, 4), lattice(300, 4), 5, exclude_self=True, path="tiled")
    agrees(drawn(300, 4), drawn(300, 4), 5, exclude_self=True, path="tiled")


@pytest.mark.parametrize("offset", [0.0, 1e8])
def test_products_are_no_more_than_candidates(offset):
    """Points in pairs whose distances to a query differ by less than products tell, and more such than candidates."""
    x = drawn(20, 3) + offset
    near = drawn(20, 3, seed=1) * 1e-7
    points = torch.cat([x + near * (1 + 1e-9 * j) for j in range(30, 0, -1)])
    agrees(points, x, 4, path="tiled")
    agrees(torch.cat([points[:40], drawn(500, 3, seed=2) + offset]), x, 2, path="tiled")


@LIBRARY
def test_every_instruction_set_that_is_built_gives_the_same(monkeypatch):
    points, queries = drawn(777, 9), drawn(131, 9, seed=1)
    best = [kind.name for kind in (*native.X86, native.BASELINE)]
    for name in best[best.index(native.library().instruction_set) :]:
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda name=name: name)
        loaded = native.library.__wrapped__()
        monkeypatch.setattr(native, "library", lambda loaded=loaded: loaded)
        for metric in METRICS:
            agrees(points, queries, 8, metric, path="native")
            agrees(points.float(), queries.float(), 8, metric, path="native")
            agrees(lattice(300, 4), lattice(300, 4), 5, metric, exclude_self=True, path="native")
        monkeypatch.undo()


@LIBRARY
def test_threads_change_nothing():
    points, before = lattice(4000, 6), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(knn.nearest(points, points, 5, exclude_self=True, path="native"))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(*found, rtol=0, atol=0)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("metric", METRICS)
def test_gradients_are_those_of_the_reference(metric, path):
    points, queries, g = drawn(30, 3), drawn(20, 3, seed=1), drawn(20, 4, seed=2)
    found, expected = [], []
    for by, slopes in ((knn.nearest, found), (reference.nearest, expected)):
        given = [t.clone().requires_grad_() for t in (points, queries)]
        options = {"path": path} if by is knn.nearest else {}
        slopes += torch.autograd.grad(by(*given, 4, metric=metric, **options)[0], given, g)
    torch.testing.assert_close(found, expected)
    both = points.clone().requires_grad_()
    distance, _ = knn.nearest(both, both, 2, metric=metric, path=path)
    assert (torch.autograd.grad(distance[:, 0].sum(), both)[0] == 0).all()  # each is its own copy
    assert not knn.nearest(points, queries, 4, path=path)[0].requires_grad
    with torch.no_grad():
        assert not knn.nearest(both, both, 4, path=path)[0].requires_grad


def test_a_batch_has_a_gradient():
    points = drawn(2, 1, 30, 3).requires_grad_()
    distance, index = knn.nearest(points, drawn(4, 20, 3, seed=1), 3)
    (slope,) = torch.autograd.grad(distance.sum(), points)
    one = points.detach()[1, 0].requires_grad_()
    sums = sum(reference.nearest(one, queries, 3)[0].sum() for queries in drawn(4, 20, 3, seed=1))
    torch.testing.assert_close(slope[1, 0], torch.autograd.grad(sums, one)[0])


@pytest.mark.parametrize("path", [None, *PATHS])
def test_what_cannot_be_answered_is_refused(path):
    points, queries = drawn(5, 2), drawn(3, 2, seed=1)
    for k in (0, 6):
        with pytest.raises(ValueError, match=f"k must lie between 1 and 5, the number of points: got {k}"):
            knn.nearest(points, queries, k, path=path)
    with pytest.raises(ValueError, match="k must lie between 1 and 4, the number of points without the own one: got 5"):
        knn.nearest(points, points, 5, exclude_self=True, path=path)
    with pytest.raises(ValueError, match="got 5 points and 3 queries"):
        knn.nearest(points, queries, 2, exclude_self=True, path=path)
    with pytest.raises(ValueError, match=r"got \(5, 2\) and \(3, 1\)"):
        knn.nearest(points, queries[:, :1], 2, path=path)
    with pytest.raises(ValueError, match="got torch.float64 on cpu and torch.float32 on cpu"):
        knn.nearest(points, queries.float(), 2, path=path)
    with pytest.raises(ValueError, match="metric must be one of euclidean, cityblock, chebyshev: got 'cosine'"):
        knn.nearest(points, queries, 2, metric="cosine", path=path)
    for wrong in (math.nan, math.inf, -math.inf, 1e200):
        spoilt = points.clone()
        spoilt[3, 1] = wrong
        with pytest.raises(ValueError, match="points must be finite, and at most"):
            knn.nearest(spoilt, queries, 2, path=path)
        with pytest.raises(ValueError, match="queries must be finite, and at most"):
            knn.nearest(queries, spoilt, 2, path=path)


def test_the_path_is_told_and_can_be_forced(monkeypatch):
    points = drawn(70, 3)
    if native.library() is not None:
        assert knn.explain(points, points)[0] == "native" and "float32 as a filter" in knn.explain(points, points).why
    small = drawn(100, 20, 3)
    assert knn.explain(points.half(), points.half()) == ("tiled", "points of torch.float16")
    assert knn.explain(small, small)[0] == "tiled"
    monkeypatch.setattr(native, "library", lambda: None)
    assert knn.explain(points, points) == ("tiled", "the library is not built: python -m estimators.ops.native")
    with pytest.raises(ValueError, match='path="native" cannot be taken: the library is not built'):
        knn.nearest(points, points, 2, path="native")
    with pytest.raises(ValueError, match="path must be None"):
        knn.nearest(points, points, 2, path="tree")
    agrees(points.half(), points.half(), 1)
