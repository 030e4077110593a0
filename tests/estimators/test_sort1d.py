"""Transport on lines against sorted float64 samples, on every path."""

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from estimators.ops import native, sort1d

PATHS = [
    "tiled",
    pytest.param("native", marks=pytest.mark.skipif(native.library() is None, reason="the library is not built")),
]
SIZES = [(1, 1, 1), (63, 64, 2), (64, 64, 3), (65, 63, 10), (1000, 1000, 33), (1023, 1000, 5)]


@pytest.fixture(autouse=True)
def poisoned():
    """Memory that is not written holds NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def expected(x, y, order):
    """W_p^p of two lists of numbers, each repeated until they are as many."""
    n, m = len(x), len(y)
    times = np.lcm(n, m)
    x, y = (np.repeat(np.sort(p.double().numpy()), times // len(p)) for p in (x, y))
    return float((np.abs(x - y) ** order).mean())


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("order", [1, 2, 3, 1.5])
def test_projections_are_those_of_float64(order, size, dtype, path, monkeypatch):
    n, m, d = size
    monkeypatch.setattr(native, "WORK", 1)
    x, y = drawn(n, 2 * d, dtype=dtype)[:, ::2], drawn(m, d, seed=1, dtype=dtype) + 0.3
    theta = torch.nn.functional.normalize(drawn(9, d, seed=2), dim=-1).to(dtype)
    before, kept = torch.get_num_threads(), (x.clone(), y.clone())
    try:
        torch.set_num_threads(2)
        found = sort1d.projected(x, y, theta, order, path=path)
    finally:
        torch.set_num_threads(before)
    assert found.dtype == dtype and found.shape == (9,)
    assert torch.equal(x, kept[0]) and torch.equal(y, kept[1])
    for one, direction in zip(found, theta, strict=True):
        truth = expected(x.double() @ direction.double(), y.double() @ direction.double(), order)
        assert float(one) == pytest.approx(
            truth, rel=64 * torch.finfo(dtype).eps * order, abs=1e-6 if dtype.itemsize == 4 else 1e-14
        )


def test_on_the_line_it_is_scipys_and_has_its_gradient():
    x, y = drawn(200).requires_grad_(), drawn(150, seed=1).requires_grad_()
    found = sort1d.quantile_power(x, y, 1)
    assert float(found.detach()) == pytest.approx(wasserstein_distance(x.detach(), y.detach()), rel=1e-12)
    few = drawn(20).requires_grad_()  # no two nearer than a step of the differences
    for m in (15, 20):
        z = drawn(m, seed=2).requires_grad_()
        assert torch.autograd.gradcheck(lambda p, q: sort1d.quantile_power(p, q, 2), (few, z))
    batch = sort1d.quantile_power(drawn(3, 1, 50), drawn(4, 50, seed=3), 2)
    assert batch.shape == (3, 4)
    assert float(batch[2, 1]) == pytest.approx(expected(drawn(3, 1, 50)[2, 0], drawn(4, 50, seed=3)[1], 2), rel=1e-12)


def test_the_path_is_told_and_can_be_forced(monkeypatch):
    x, y, theta = drawn(5, 2), drawn(4, 2, seed=1), drawn(3, 2, seed=2)
    assert sort1d.explain(x[None], y, theta).why == "a batch"
    assert sort1d.explain(x.clone().requires_grad_(), y, theta).why == "a gradient"
    with pytest.raises(ValueError, match="path must be None"):
        sort1d.projected(x, y, theta, 2, path="fast")
    with pytest.raises(ValueError, match='path="native" cannot be taken: a batch'):
        sort1d.projected(x[None], y, theta, 2, path="native")
    monkeypatch.setattr(native, "library", lambda: None)
    assert sort1d.explain(x, y, theta) == ("tiled", "the library is not built: python -m estimators.ops.native")


@pytest.mark.parametrize("path", PATHS)
def test_points_that_are_no_numbers_have_no_value(path):
    x, y, theta = drawn(5, 2), drawn(5, 2, seed=1), drawn(3, 2, seed=2)
    x[1, 0] = np.nan
    assert sort1d.projected(x, y, theta, 2, path=path).isnan().all()
