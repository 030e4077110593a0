"""Entropic transport: each path against a plain float64 solver, values, gradients and certificates.

The path "triton" runs in Triton's interpreter, in smaller sizes; what is its own is in `test_transport_triton.py`.
"""

import ctypes
import importlib.util
import math

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from estimators.ops import native, sinkhorn
from estimators.ops.pairwise import triton
from estimators.ops.sinkhorn import dense, solver

needs_library = pytest.mark.skipif(native.library() is None, reason="the library is not built")
SIZES = [(1, 1, 1), (63, 64, 2), (65, 63, 10), (300, 257, 3), (64, 1, 33)]
INTERPRETED = importlib.util.find_spec("triton") is not None and triton.is_interpreted()
WAYS = {"native, one thread": 1, "native, two threads": 2, "triton": 0}
# Triton's interpreter takes milliseconds for an evaluation of one problem.
FEW = {(1, 1, 1): torch.float64, (40, 33, 2): torch.float32, (33, 40, 20): torch.float32, (30, 1, 17): torch.float64}
EACH = [(way, s, t) for way in WAYS if WAYS[way] for s in SIZES for t in (torch.float32, torch.float64)]
EACH += [("triton", *one) for one in FEW.items()]
KINDS = [(2, None), (1, None), (1.5, None), (2, 0.7)]  # powers of the distance, and ρ
VALUES = [(*kind, *one) for kind in KINDS for one in EACH]
# More points than a block of the cache has; in float64 the plain solver takes seconds for them.
VALUES += [(2, None, way, (1000, 1023, 3), t) for way in WAYS if WAYS[way] for t in (torch.float32, torch.float64)]


@pytest.fixture(autouse=True)
def poisoned():
    """Memory that is not written holds NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(params=WAYS)
def path(request, monkeypatch):
    """The path; the library with two threads also for the least work: they wait for each other at every step."""
    threads = WAYS[request.param]
    if not threads:
        if not INTERPRETED:
            pytest.skip("no Triton, or one that compiles: see test_transport_gpu.py")
        yield "triton"
        return
    if native.library() is None:
        pytest.skip("the library is not built")
    monkeypatch.setattr(native, "WORK", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    yield "native"
    torch.set_num_threads(before)


def cost(power):
    return sinkhorn.Cost(lambda x, y: torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist") ** power, power)


def drawn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def weights(*shape, seed):
    return drawn(*shape, seed=seed).softmax(-1)


def expected(x, y, a, b, epsilon, power, rho=None):
    """By 100,000 sweeps at the most, in float64."""
    C = cost(power).of(x.double(), y.double())
    one = [torch.as_tensor(t, dtype=torch.float64) for t in (epsilon, math.inf if rho is None else rho)]
    found = dense.solve(
        C, a.double(), b.double(), one[0], None if rho is None else one[1], tolerance=1e-9, iterations=100_000
    )
    assert float(found.error) <= 1e-9
    return found


def solved(x, y, a, b, epsilon, power, rho=None, **how):
    one = [None if t is None else torch.as_tensor(t, dtype=x.dtype) for t in (epsilon, rho)]
    return sinkhorn.transport(x, y, a.to(x.dtype), b.to(x.dtype), one[0], cost(power), one[1], **how)


@pytest.mark.parametrize(("power", "rho", "path", "size", "dtype"), VALUES, indirect=["path"], ids=str)
def test_values_and_potentials_are_those_of_the_plain_solver(power, rho, size, dtype, path):
    n, m, d = size
    x, y = drawn(n, d, dtype=dtype), 0.7 * drawn(m, 2 * d, seed=1, dtype=dtype)[:, ::2] + 0.3
    a, b = weights(n, seed=2), weights(m, seed=3)
    if m > 2:
        b = torch.cat([b[:-1] / b[:-1].sum(), b.new_zeros(1)])  # a point without weight
    theirs = expected(x, y, a, b, 0.3, power, rho)
    ours = solved(x, y, a, b, 0.3, power, rho, tolerance=1e-5, iterations=5000, path=path)
    assert ours.value.dtype == dtype and float(ours.error) <= 1e-5
    size_of_value = abs(float(theirs.value)) + 0.3
    assert float(ours.value) == pytest.approx(float(theirs.value), abs=2e-6 * size_of_value)
    assert -2e-6 * size_of_value <= float(ours.gap) <= 1e-3 * size_of_value
    if rho is None:  # unique up to a constant
        shift = (ours.f.double() - theirs.f).mean()
        assert float((b * (ours.g.double() + shift - theirs.g).abs()).sum()) <= 1e-3


@pytest.mark.parametrize("power", [1, 2, 3])
@pytest.mark.parametrize("rho", [None, 0.7], ids=["exact", "relaxed"])
def test_gradients_are_those_of_the_plan(power, rho, path):
    """∂D/∂x_i = Σ_j π_ij ∂c_ij, π of the plain solver."""
    x, y = (drawn(n, 3, seed=n).requires_grad_() for n in (30, 25))
    a, b = (weights(n, seed=n + 1).requires_grad_() for n in (30, 25))
    found = solved(x, y, a, b, 0.3, power, rho, tolerance=1e-9, iterations=5000, path=path)
    slopes = torch.autograd.grad(found.value, (x, y, a, b))
    with torch.no_grad():
        theirs = expected(x, y, a, b, 0.3, power, rho)
    C = cost(power).of(x, y)
    pi = a[:, None] * b * torch.exp((theirs.f[:, None] + theirs.g - C) / 0.3)
    for own, plain in zip(slopes[:2], torch.autograd.grad((pi.detach() * C).sum(), (x, y)), strict=True):
        torch.testing.assert_close(own, plain, rtol=1e-6, atol=1e-8)
    for own, h in zip(slopes[2:], (theirs.f, theirs.g), strict=True):
        plain = h if rho is None else -rho * torch.expm1(-h / rho) - 0.3 * (-h / rho).exp()
        torch.testing.assert_close(own - own.mean(), plain - plain.mean(), rtol=1e-6, atol=1e-8)


def test_second_derivatives_are_refused(path):
    x, y = drawn(9, 2).requires_grad_(), drawn(8, 2, seed=1)
    a, b = weights(9, seed=2), weights(8, seed=3)
    (slope,) = torch.autograd.grad(solved(x, y, a, b, 0.3, 2, path=path).value, x, create_graph=True)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(slope.sum(), x)


@pytest.mark.parametrize("share", [0.01, 0.002])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_clusters_that_must_exchange_mass_are_solved(dtype, share, path):
    """Plain sweeps stop there with small errors of the marginals and a value that is wrong by half."""
    n = 60 if path == "triton" else 300
    apart = 5.0 * torch.tensor([1.0, 0.0])
    x, y = (0.05 * drawn(n, 2, seed=k) for k in (0, 1))
    x[: n // 2] += apart
    y[: n // 2 + n // 10] += apart
    x, y = x.to(dtype), y.to(dtype)
    a = torch.full((n,), 1 / n, dtype=torch.float64)
    epsilon = share * float(cost(2).of(x.double(), y.double()).mean())
    found = solved(x, y, a, a, epsilon, 2, tolerance=5e-4, iterations=300, path=path)
    assert float(found.error) <= 5e-4
    # Within ε·log n of the cheapest plan, which moves a tenth by 5: from above by the gap, from below by the dual.
    C = cost(2).of(x.double(), y.double())
    rows, columns = linear_sum_assignment(C.numpy())
    exact = float(C[rows, columns].mean())
    assert exact <= float(found.value + found.gap) * (1 + 1e-6)
    assert float(found.value) <= (exact + epsilon * math.log(n)) * (1 + 1e-6)
    # The optimum by the plain formulas, which round a plan onto the marginals by themselves.
    best = solved(x.double(), y.double(), a, a, epsilon, 2, tolerance=1e-9, iterations=5000, path=path)
    problem = C, a, a, torch.tensor(epsilon, dtype=torch.float64), None, best.f, best.g
    dual, primal = float(dense.dual(*problem)), float(dense.primal(*problem))
    assert -1e-12 * dual <= primal - dual <= 1e-6 * dual
    assert dual * (1 - 1e-5) <= float(found.value) <= primal * (1 + 1e-6)
    assert dual <= float(found.value + found.gap) * (1 + 1e-6)


def test_a_batch_is_its_problems(path):
    epsilons = [0.4, 2.0] if path == "triton" else [0.1, 0.4, 2.0]
    k = len(epsilons)
    x, y = drawn(k, 1, 40, 4), drawn(2, 35, 8, seed=1)[..., ::2]
    a, b = weights(k, 1, 40, seed=2), weights(2, 35, seed=3)
    epsilon = torch.tensor(epsilons, dtype=torch.float64)[:, None].expand(k, 2)
    found = sinkhorn.transport(x, y, a, b, epsilon, cost(2), tolerance=1e-8, iterations=5000, path=path)
    assert found.value.shape == (k, 2) and found.f.shape == (k, 2, 40) and found.g.shape == (k, 2, 35)
    for i in range(k):
        for j in range(2):
            one = expected(x[i, 0], y[j], a[i, 0], b[j], float(epsilon[i, j]), 2)
            assert float(found.value[i, j]) == pytest.approx(float(one.value), rel=1e-9)


def test_symmetric_problems_are_solved_by_averaged_steps(path):
    x, a = drawn(150, 3), weights(150, seed=1)
    found = solved(x, x, a, a, 0.2, 2, tolerance=1e-9, iterations=200, symmetric=True, path=path)
    assert float(found.value) == pytest.approx(float(expected(x, x, a, a, 0.2, 2).value), rel=1e-9)
    torch.testing.assert_close(found.f, found.g, atol=1e-7, rtol=0)


def test_iterations_end_it_and_the_gap_holds(path):
    x, y = drawn(80, 2), drawn(80, 2, seed=1)
    a = torch.full((80,), 1 / 80, dtype=torch.float64)
    found = solved(x, y, a, a, 1e-3, 1, tolerance=1e-9, iterations=5, path=path)
    by = "dense" if path == "triton" else path  # thousands of evaluations
    best = float(solved(x, y, a, a, 1e-3, 1, tolerance=1e-7, iterations=5000, path=by).value)
    assert float(found.error) > 1e-3
    assert float(found.value) <= best <= float(found.value + found.gap)


@needs_library
def test_an_offset_costs_no_digits():
    x, y = (drawn(200, 4, seed=k, dtype=torch.float32) + 1e6 for k in (0, 1))
    a = torch.full((200,), 1 / 200)
    centre = torch.full((4,), 1e6)
    found = solved(x - centre, y - centre, a, a, 0.5, 2, tolerance=1e-4, iterations=1000, path="native")
    theirs = expected(x, y, a.double(), a.double(), 0.5, 2)
    assert float(found.value) == pytest.approx(float(theirs.value), rel=1e-5)


def test_the_path_is_told_and_can_be_forced(monkeypatch):
    x, y, a = drawn(5, 2), drawn(4, 2, seed=1), [torch.full((k,), 1 / k, dtype=torch.float64) for k in (5, 4)]
    epsilon = torch.tensor(0.5, dtype=torch.float64)
    free = sinkhorn.Cost(cost(2).of)
    assert sinkhorn.explain(x, y, *a, free) == ("dense", "a cost that is no power of the Euclidean distance")
    assert sinkhorn.explain(x, y, *a, cost(2)).path == ("native" if native.library() else "dense")
    assert "not finite" in sinkhorn.explain(x * math.inf, y, *a, cost(2)).why or native.library() is None
    with pytest.raises(ValueError, match='path="native" cannot be taken: a cost that is no power'):
        sinkhorn.transport(x, y, *a, epsilon, free, path="native")
    with pytest.raises(ValueError, match="path must be None"):
        sinkhorn.transport(x, y, *a, epsilon, cost(2), path="fast")
    with pytest.raises(ValueError, match="epsilon must be positive: got 0.0"):
        sinkhorn.transport(x, y, *a, 0 * epsilon, cost(2))
    with pytest.raises(ValueError, match="weights must be one a point"):
        sinkhorn.transport(x, y, a[0][1:], a[1], epsilon, cost(2))
    both = [sinkhorn.transport(x, y, *a, epsilon, cost(2), tolerance=1e-7, path=path).value for path in (None, "dense")]
    torch.testing.assert_close(*both, rtol=1e-6, atol=0)
    monkeypatch.setattr(native, "library", lambda: None)
    assert sinkhorn.explain(x, y, *a, cost(2)) == ("dense", "the library is not built: python -m estimators.ops.native")


@needs_library
@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("kept", [True, False])
def test_a_solver_that_is_interrupted_goes_on_where_it_was(monkeypatch, power, kept):
    """For Ctrl-C and for progress the library returns after so many pairs: as many sweeps as in one call must do."""
    x, y = drawn(300, 3), drawn(200, 3, seed=1) + 1
    a, b = weights(300, seed=2), weights(200, seed=3)
    swept, found = [], []
    solve = solver.Problem.solve

    def counted(self, *given):
        done, error = solve(self, *given)
        swept[-1] += done
        return done, error

    monkeypatch.setattr(solver.Problem, "solve", counted)
    monkeypatch.setattr(solver, "KEPT", solver.KEPT if kept else 0)
    for breath in (solver.BREATH, 1.0):
        monkeypatch.setattr(solver, "BREATH", breath)
        swept.append(0)
        found.append(solved(x, y, a, b, 0.05, power, tolerance=1e-6, iterations=5000, path="native"))
    assert swept[0] == swept[1]
    assert torch.equal(found[0].value, found[1].value)


@needs_library
def test_workers_that_wait_are_let_go_where_one_fails():
    """After Ctrl-C in the caller's thread the others must not wait for it for ever."""
    from estimators.ops.sinkhorn.solver import Problem, Side

    x, a = drawn(50, 2), torch.full((50,), 1 / 50, dtype=torch.float64)
    sides = [Side.of(x, a, torch.float64) for _ in range(2)]
    problem = Problem(*sides, torch.zeros(50).double(), torch.zeros(50).double(), [0.5], math.inf, 2.0, 2)
    problem.c.most = 10
    solve = problem.library.of("transport_solve", torch.float64)

    def run(worker):
        if worker == 0:
            raise KeyboardInterrupt
        solve(ctypes.byref(problem.c), ctypes.c_int64(worker))

    def stop():
        problem.c.abandoned = 1

    with pytest.raises(KeyboardInterrupt):
        native.together(2, run, stop)


@needs_library
def test_every_instruction_set_that_is_built_gives_the_same(monkeypatch):
    x, y = drawn(130, 5), drawn(77, 5, seed=1)
    a, b = weights(130, seed=2), weights(77, seed=3)
    theirs = expected(x, y, a, b, 0.5, 1.5)
    names = [kind.name for kind in (*native.X86, native.BASELINE)]
    for name in names[names.index(native.library().instruction_set) :]:
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda name=name: name)
        loaded = native.library.__wrapped__()
        monkeypatch.setattr(native, "library", lambda loaded=loaded: loaded)
        found = solved(x, y, a, b, 0.5, 1.5, tolerance=1e-8, iterations=5000, path="native")
        assert float(found.value) == pytest.approx(float(theirs.value), rel=1e-9)
        monkeypatch.undo()
