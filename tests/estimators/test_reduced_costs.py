"""Reduced costs of all pairs against their matrix, and the exact transport that goes by them."""

import numpy as np
import ot
import pytest
import torch
from scipy.spatial.distance import cdist

import estimators as est
from estimators.ops import native, reduced_costs, sinkhorn, sort1d
from estimators.transport import arcs

needs_library = pytest.mark.skipif(native.library() is None, reason="the library is not built")
PATHS = ["tiled", pytest.param("native", marks=needs_library)]


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def threads(request, monkeypatch):
    monkeypatch.setattr(native, "WORK", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("size", [(1, 1, 1), (63, 64, 2), (65, 63, 10), (1000, 1023, 3), (64, 1, 33)], ids=str)
@pytest.mark.parametrize("power", [1, 2, 1.5])
def test_are_those_of_the_matrix(power, size, dtype, path, threads):
    n, m, d = size
    x, y = drawn(n, d, dtype=dtype), drawn(m, 2 * d, seed=1, dtype=dtype)[:, ::2]
    f, g = drawn(n, seed=2, dtype=dtype), drawn(m, seed=3, dtype=dtype) + 5
    C = torch.from_numpy(cdist(x.double(), y.double()) ** power)
    rounding = 64 * torch.finfo(dtype).eps * (float(C.max()) + 10)
    expected = (C - g.double()).amin(1)
    found = reduced_costs.lowest(x, y, g, power, path=path)
    assert found.dtype == dtype and float((found.double() - expected).abs().max()) <= rounding
    reduced = C - f.double()[:, None] - g.double()
    limit = float(reduced.quantile(0.3)) if n * m < 10**6 else 0.0
    rows, columns = reduced_costs.below(x, y, f, g, limit, power, path=path)
    mask = torch.zeros(n, m, dtype=torch.bool)
    mask[rows, columns] = True
    assert int(mask.sum()) == len(rows)  # none twice
    unlike = mask != (reduced < limit)
    assert float((reduced[unlike] - limit).abs().max() if unlike.any() else 0.0) <= rounding


def test_the_path_is_told_and_can_be_forced(monkeypatch):
    x, y, g = drawn(4, 2), drawn(3, 2, seed=1), drawn(3, seed=2)
    with pytest.raises(ValueError, match="path must be None"):
        reduced_costs.lowest(x, y, g, 2, path="fast")
    monkeypatch.setattr(native, "library", lambda: None)
    assert reduced_costs.explain(x, y, 2) == ("tiled", "the library is not built: python -m estimators.ops.native")
    with pytest.raises(ValueError, match='path="native" cannot be taken: the library is not built'):
        reduced_costs.lowest(x, y, g, 2, path="native")


def cases():
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(1500, 2)), 0.7 * generator.normal(size=(1600, 2)) + 0.5
    yield "plane", x, y, None, None
    yield "near", x, x + 1e-3 * generator.normal(size=x.shape), None, None
    yield "ten", generator.normal(size=(1500, 10)), generator.normal(size=(1500, 10)) + 0.1, None, None
    yield "weights", x, y, generator.dirichlet(np.ones(1500)), generator.dirichlet(np.ones(1600))
    far = np.where(generator.random((1500, 1)) < 0.4, 1000.0, 0.0) * np.array([[1.0, 0.0]])
    yield "clusters", 0.01 * x + far, 0.01 * y[:1500] + far[::-1] * (generator.random((1500, 1)) < 0.9), None, None
    yield "copies", np.repeat(x[:300], 5, axis=0), np.repeat(y[:300], 5, axis=0), None, None
    yield (
        "grid",
        generator.integers(0, 9, size=(1500, 2)) * 1.0,
        generator.integers(0, 9, size=(1500, 2)) * 1.0,
        None,
        None,
    )


CASES = list(cases())


@needs_library
@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_exact_transport_by_few_arcs_is_that_by_all(case, order):
    _, x, y, a, b = case
    points = [torch.from_numpy(p) for p in (x, y)]
    w, v = (
        torch.full((len(p),), 1 / len(p), dtype=torch.float64) if q is None else torch.from_numpy(q)
        for p, q in ((x, a), (y, b))
    )
    C = cdist(x, y) ** order
    expected = ot.emd2(w.numpy(), v.numpy(), C, numItermax=10_000_000)
    assert not arcs.why_not(*points, w, v, order)
    found = arcs.solve(*points, w, v, order)
    assert found is not None
    assert found.primal == pytest.approx(expected, rel=1e-9, abs=1e-12 * C.max())
    assert found.dual == pytest.approx(expected, rel=1e-9, abs=1e-11 * C.max())
    # The certificate, by the matrix: a plan with these marginals, and potentials that no pair exceeds.
    plan = torch.zeros(len(x), len(y)).double().index_put_((found.rows, found.columns), found.mass, accumulate=True)
    torch.testing.assert_close(plan.sum(1), w, rtol=0, atol=1e-12)
    torch.testing.assert_close(plan.sum(0), v, rtol=0, atol=1e-12)
    reduced = torch.from_numpy(C) - found.f[:, None] - found.g
    assert float(reduced.min()) >= -1e-12 * C.max()
    value = est.EMD(order, rooted=False).value(*points, x_weights=a, y_weights=b)
    assert float(value) == pytest.approx(expected, rel=1e-9, abs=1e-12 * C.max())


@needs_library
@pytest.mark.parametrize("order", [1, 2])
def test_its_gradients_are_those_of_the_matrix(order, monkeypatch):
    x, y = drawn(1500, 3).requires_grad_(), (drawn(1500, 3, seed=1) + 0.2).requires_grad_()
    a, b = (drawn(1500, seed=k).softmax(-1).requires_grad_() for k in (2, 3))
    estimator = est.EMD(order)
    slopes = []
    for least in (arcs.LEAST, 10**12):
        monkeypatch.setattr(arcs, "LEAST", least)
        slopes.append(torch.autograd.grad(estimator.value(x, y, a, b), (x, y, a, b)))
    for k, (ours, theirs) in enumerate(zip(*slopes, strict=True)):
        if k > 1:  # potentials are known up to a constant, which weights that add up to 1 cannot feel
            ours, theirs = ours - ours.mean(), theirs - theirs.mean()
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-9)
    (slope,) = torch.autograd.grad(estimator.value(x, y, a, b), x, create_graph=True)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(slope.sum(), x)


def test_where_few_arcs_do_not_pay_is_said():
    x, w = drawn(2000, 2), torch.full((2000,), 1 / 2000, dtype=torch.float64)
    assert "fewer than" in arcs.why_not(x[:100], x, w[:100], w, 2)
    assert arcs.why_not(x, x, torch.cat([w[:-1], w.new_zeros(1)]), w, 2) == "points without weight"


@pytest.mark.parametrize("path", PATHS)
def test_shapes_that_do_not_fit_are_refused(path):
    """The library would read beyond their end."""
    x, y, g = drawn(5, 3), drawn(4, 3, seed=1), drawn(4, seed=2)
    with pytest.raises(ValueError, match=r"g must have one number a point, \(4,\): got shape \(3,\)"):
        reduced_costs.lowest(x, y, g[:3], 2, path=path)
    with pytest.raises(ValueError, match=r"f must have one number a point, \(5,\)"):
        reduced_costs.below(x, y, g, g, 0.0, 2, path=path)
    with pytest.raises((ValueError, RuntimeError)):
        reduced_costs.lowest(x, y[:, :2], g, 2, path=path)


def test_transport_and_lines_refuse_shapes_that_do_not_fit():
    x, y, a, b = drawn(5, 3), drawn(4, 3, seed=1), torch.full((5,), 0.2).double(), torch.full((4,), 0.25).double()
    cost, epsilon = sinkhorn.Cost(lambda p, q: torch.cdist(p, q) ** 2, 2.0), torch.tensor(0.5).double()
    for given in ((x, y[:, :2], a, b), (x, y, a, a), (x, y, b, b)):
        assert sinkhorn.explain(*given, cost).path == "dense"
        with pytest.raises(ValueError, match="must be .* got shapes"):
            sinkhorn.transport(*given, epsilon, cost)
    for given in ((x, y[:, :2], drawn(2, 3)), (x, y, drawn(2, 2))):
        with pytest.raises(RuntimeError):
            sort1d.projected(*given, 2)


def test_points_that_are_no_numbers_have_no_distance():
    x, y = drawn(50, 3), drawn(50, 3, seed=1)
    x[3, 1] = torch.nan
    assert est.SlicedWasserstein()(x, y).isnan()
    with pytest.raises(ValueError, match="the costs between x and y must be finite"):
        est.Sinkhorn()(x, y)
