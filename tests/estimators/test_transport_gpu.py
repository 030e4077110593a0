"""Entropic transport by Triton on a GPU: against float64, TF32 only where it is asked for, repeats, memory."""

import math

import pytest
import torch
from pair_cases import drawn, to_tf32

from estimators.ops import sinkhorn
from estimators.ops.sinkhorn import dense, triton
from estimators.ops.sinkhorn.points import Given

pytestmark = pytest.mark.gpu
SIZES = [(1, 1, 1), (63, 64, 2), (300, 257, 3), (64, 1, 33), (200, 300, 64), (130, 100, 130)]


@pytest.fixture(autouse=True)
def poisoned():
    """Memory that is not written holds NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def cost(power):
    return sinkhorn.Cost(lambda x, y: torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist") ** power, power)


def problem(n, m, d, dtype):
    x, y = drawn(n, d, dtype=dtype).cuda(), 0.7 * drawn(m, 2 * d, seed=1, dtype=dtype)[:, ::2].cuda() + 0.3
    a, b = (drawn(k, seed=k).softmax(-1).to(dtype).cuda() for k in (n, m))
    return x, y, a, b


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("power", "rho"), [(2, None), (1, None), (1.5, None), (2, 0.7)], ids=str)
def test_values_and_gradients_are_those_of_the_plain_solver(power, rho, size, dtype):
    d = size[2]
    given = [t.requires_grad_() for t in problem(*size, dtype)]
    x, y, a, b = (t.detach().double() for t in given)
    scale = d ** (power / 2)
    epsilon = torch.tensor(0.3 * scale, dtype=torch.float64).cuda()
    relaxed = None if rho is None else torch.tensor(rho * scale, dtype=torch.float64).cuda()
    found = sinkhorn.transport(
        *given, epsilon.to(dtype), cost(power), None if rho is None else relaxed.to(dtype), tolerance=1e-5,
        iterations=2000, path="triton",
    )  # fmt: skip
    exact = dense.solve(cost(power).of(x, y), a, b, epsilon, relaxed, tolerance=1e-8, iterations=50_000)
    size_of_value = abs(float(exact.value)) + float(epsilon)
    assert found.value.is_cuda and found.value.dtype == dtype and float(found.error) <= 1e-5
    assert float(found.value) == pytest.approx(float(exact.value), abs=5e-6 * size_of_value)
    assert -5e-6 * size_of_value <= float(found.gap) <= 1e-3 * size_of_value
    slopes = torch.autograd.grad(found.value, given[:2])
    x, y = x.requires_grad_(), y.requires_grad_()
    C = cost(power).of(x, y)
    pi = dense.plan(C.detach(), a, b, epsilon, exact.f, exact.g)
    for own, plain in zip(slopes, torch.autograd.grad((pi * C).sum(), (x, y)), strict=True):
        assert float((own - plain).abs().sum()) <= 1e-3 * float(plain.abs().sum())


def test_symmetric_problems_and_batches_stop_each_by_itself():
    x, y = drawn(5, 400, 64, dtype=torch.float32).cuda(), drawn(5, 300, 64, dtype=torch.float32, seed=1).cuda()
    a, b = torch.full((400,), 1 / 400).cuda(), torch.full((300,), 1 / 300).cuda()
    epsilon = torch.tensor([3.0, 5.0, 10.0, 30.0, 100.0]).cuda()
    for other, w, symmetric in ((y, b, False), (x, a, True)):
        found = sinkhorn.transport(x, other, a, w, epsilon, cost(2), tolerance=1e-4, symmetric=symmetric)
        exact = dense.solve(
            cost(2).of(x.double(), other.double()), a.double().expand(5, -1), w.double().expand(5, -1),
            epsilon.double(), tolerance=1e-7, iterations=50_000, symmetric=symmetric,
        )  # fmt: skip
        assert bool((found.error <= 1e-4).all())
        torch.testing.assert_close(found.value.double(), exact.value, rtol=1e-5, atol=0)


def test_clusters_that_must_exchange_mass_are_solved():
    n = 300
    x, y = (0.05 * drawn(n, 2, seed=k) for k in (0, 1))
    x[: n // 2, 0] += 5
    y[: n // 2 + n // 10, 0] += 5
    a = torch.full((n,), 1 / n, dtype=torch.float64)
    epsilon = 0.002 * cost(2).of(x, y).mean()
    how = {"tolerance": 5e-4, "iterations": 5000}
    found = sinkhorn.transport(x.cuda(), y.cuda(), a.cuda(), a.cuda(), epsilon.cuda(), cost(2), path="triton", **how)
    theirs = sinkhorn.transport(x, y, a, a, epsilon, cost(2), tolerance=1e-8, iterations=20_000)
    assert float(found.value) == pytest.approx(float(theirs.value), rel=1e-5)
    assert float(theirs.value) <= float(found.value + found.gap) * (1 + 1e-6)


def test_nothing_is_multiplied_in_tf32_unless_asked():
    """Two columns, so that the errors of TF32 do not average out."""
    x, y = drawn(1, 4096, 64, dtype=torch.float32).cuda(), drawn(1, 2, 64, dtype=torch.float32, seed=1).cuda()
    a, b = torch.full((1, 4096), 1 / 4096).cuda(), torch.full((1, 2), 0.5).cuda()
    epsilon = torch.tensor([3.0], dtype=torch.float64).cuda()
    f, g = torch.zeros_like(a).double(), torch.zeros_like(b).double()

    def exact(x, y):
        C = cost(2).of(x.double(), y.double())
        return torch.logsumexp(-C / epsilon - math.log(2), -1) / math.log(2)

    def error(precision):
        by = triton._Kernels(Given(x, y, a, b, epsilon, None, 2.0), False, precision)
        return float((by.softmin(f, g, 0, epsilon, torch.ones_like(epsilon)) - exact(x, y)).abs().max())

    assert float((exact(to_tf32(x), to_tf32(y)) - exact(x, y)).abs().max()) > 1e-3  # what TF32 makes of the points
    assert error("accurate") <= 1e-4
    assert 1e-4 < error("tf32") <= 0.1


def test_it_is_chosen_and_repeats_give_the_same_bits():
    x, y, a, b = problem(3000, 2000, 64, torch.float32)
    assert sinkhorn.explain(x, y, a, b, cost(2)).path == "triton"
    assert sinkhorn.explain(x, y, a, b, sinkhorn.Cost(cost(2).of)).path == "dense"
    epsilon = torch.tensor(10.0).cuda()
    first, second = (sinkhorn.transport(x, y, a, b, epsilon, cost(2), tolerance=1e-3) for _ in range(2))
    assert all(torch.equal(p, q) for p, q in zip(first, second, strict=True))


def test_memory_is_a_few_times_the_inputs():
    """G5."""
    x, y, a, b = problem(50_000, 50_000, 64, torch.float32)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    sinkhorn.transport(x, y, a, b, torch.tensor(20.0).cuda(), cost(2), iterations=20, path="triton")
    assert torch.cuda.max_memory_allocated() - before <= 4 * (x.nbytes + y.nbytes)
