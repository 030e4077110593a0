"""Nearest neighbours by Triton on a GPU: against float64, what halves cannot tell apart, repeats, memory."""

import pytest
import torch
from knn_cases import METRICS, SIZES, agrees, drawn, in_clusters, lattice, worst_of_halves

from estimators.ops import knn
from estimators.ops.knn import triton

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def poisoned():
    """Memory that is not written holds NaN, and in integers their largest."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("size", [*SIZES, (20_000, 3000, 64, 5)], ids=str)
def test_neighbors_are_those_of_the_reference(size, metric, dtype):
    n, q, d, k = size
    for part in range(0, q, 50) if n > 2000 else [0]:  # of the reference's (q, n, d) differences
        queries = drawn(q, d, dtype=dtype, seed=1)[part : part + 50 if n > 2000 else q]
        agrees(drawn(n, d, dtype=dtype).cuda(), queries.cuda(), min(k, triton.MOST), metric, path="triton")
        if part >= 150:
            break


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 5, 64])
@pytest.mark.parametrize("d", [4, 12])
def test_ties_are_in_the_order_of_their_indices(d, k, metric, dtype):
    points = lattice(300, d, dtype=dtype).cuda()
    agrees(points, lattice(70, d, dtype=dtype, seed=1).cuda(), k, metric, path="triton")
    agrees(points, points, k, metric, exclude_self=True, path="triton")


def test_halves_are_no_more_than_a_filter():
    points, query = (p.cuda() for p in worst_of_halves())
    agrees(points, query, 1, path="triton")
    agrees(points.double() + 1e3, query.double() + 1e3, 2, path="triton")


@pytest.mark.parametrize("exclude_self", [False, True])
@pytest.mark.parametrize("wide", [150.0, 0.01])
def test_clusters_that_one_half_or_two_cannot_tell_apart(wide, exclude_self):
    points = in_clusters(1500 if exclude_self else 6000, 64, wide).cuda()
    queries = points if exclude_self else in_clusters(40, 64, 1.1 * wide).cuda()
    agrees(points, queries, 4, exclude_self=exclude_self, path="triton")


def test_leading_axes_strides_and_offsets():
    points = drawn(3, 1, 400, 20)[..., ::2, ::2].cuda() + 1e6
    queries = drawn(2, 10, 70, seed=1).mT.cuda() + 1e6
    agrees(points, queries, 4, path="triton")
    agrees(points, points.mT.contiguous().mT, 4, exclude_self=True, path="triton")


def test_it_is_chosen_and_repeats_give_the_same_bits():
    points = drawn(5000, 64, dtype=torch.float32).cuda()
    found = knn.explain(points, points, 5)
    assert found.path == "triton" and found.why.startswith(f"Triton, {torch.cuda.get_device_name()}")
    assert knn.explain(points, points, 65) == ("tiled", "more than 64 neighbours")
    first, second = (knn.nearest(points, points, 5, exclude_self=True) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_the_host_waits_once_when_all_is_found():
    """Each look at the device waits for it."""
    points = drawn(3000, 64, dtype=torch.float32).cuda()
    triton.nearest(points, points, 5, "euclidean", True)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with pytest.warns(UserWarning) as looks:
            triton.nearest(points, points, 5, "euclidean", True)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len([look for look in looks if "synchroniz" in str(look.message)]) <= 3  # that of nonzero, and its sizes


def test_memory_is_a_few_times_the_inputs():
    """G5."""
    x, y = (drawn(100_000, 64, dtype=torch.float32, seed=k).cuda() for k in (0, 1))
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    knn.nearest(y, x, 5, path="triton")
    assert torch.cuda.max_memory_allocated() - before <= 4 * (x.nbytes + y.nbytes)
