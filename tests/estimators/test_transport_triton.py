"""The path "triton" of transport where there is no GPU: its kernels alone, what it refuses, what its compiler makes.

What all paths share, values, gradients and certificates, is in `test_transport_op.py`; on a GPU see
`test_transport_gpu.py`.
"""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pair_cases import EPS, clustered, drawn

from estimators.ops import sinkhorn
from estimators.ops.pairwise import triton as pairwise
from estimators.ops.sinkhorn import dense, triton
from estimators.ops.sinkhorn.points import Given
from estimators.ops.sinkhorn.semi_dual import SemiDual

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
interpreted = pytest.mark.skipif(not pairwise.is_interpreted(), reason="Triton compiles here: see the tests on a GPU")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def poisoned():
    """Memory that is not written holds NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def cost(power):
    return sinkhorn.Cost(lambda x, y: torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist") ** power, power)


def shares_of(rows, columns):
    """Blocks of some rows, tiles of some columns and two parts of them."""

    def shares(kind, device, problems, n, m, given):
        given["BN"] = columns
        step = columns * math.ceil(math.ceil(m / columns) / 2)
        return rows, -(-n // rows), -(-m // step), step

    return shares


def kernels_and_exact(x, y, a, b, f, g, epsilon, power, same=False):
    """The two sums of the path over rows and over columns, each beside torch's in float64, and a bound of c/ε."""
    by = triton._Kernels(Given(x, y, a, b, epsilon, None, power), same, "accurate")
    everywhere = torch.ones_like(epsilon)
    found = [by.softmin(f, g, 0, epsilon, everywhere), by.softmin(g, f, 1, epsilon, everywhere)]
    found += [by.slopes(f, g, 0, epsilon), by.slopes(g, f, 1, epsilon)]
    x, y = (p.double().requires_grad_() for p in (x, y))
    C = cost(power).of(x, y)
    e = epsilon[:, None, None]
    T = (f[:, :, None] + g[:, None, :] - C.detach()) / e
    pi = (T + a.double().log()[:, :, None] + b.double().log()[:, None, :]).exp()
    exact = [
        torch.logsumexp(T + b.double().log()[:, None, :], -1),
        torch.logsumexp(T + a.double().log()[:, :, None], -2),
    ]
    exact = [one / math.log(2) for one in exact]
    exact += torch.autograd.grad((pi * C).sum(), (x, y))
    return found, exact, float((C.detach() / e).max())


@interpreted
@pytest.mark.parametrize("power", [2, 1, 1.5])
@pytest.mark.parametrize(("d", "dtype"), [(3, torch.float64), (3, torch.float32), (40, torch.float32)], ids=str)
def test_tiles_parts_and_problems_add_up(d, dtype, power, monkeypatch):
    monkeypatch.setattr(pairwise, "shares", shares_of(32, 16))
    x, y = drawn(2, 40, d, dtype=dtype), drawn(2, 35, 2 * d, dtype=dtype, seed=1)[..., ::2]
    a, b = (drawn(2, k, seed=k).softmax(-1).to(dtype) for k in (40, 35))
    a[0, 3] = b[1, :20] = 0  # points, and a whole tile, without weight
    epsilon = torch.tensor([0.3, 0.7], dtype=torch.float64) * d ** (power / 2)
    f, g = (epsilon[:, None] * drawn(2, k, seed=k + 1) for k in (40, 35))
    found, exact, largest = kernels_and_exact(x, y, a, b, f, g, epsilon, power)
    # An exponent is wrong by the rounding of c/ε, of d terms.
    bound = (2 * d + 8) * torch.finfo(dtype).eps * (largest + 16)
    for ours, theirs in zip(found[:2], exact[:2], strict=True):
        assert float((ours - theirs).abs().max()) <= bound
    for ours, theirs in zip(found[2:], exact[2:], strict=True):
        assert ours.dtype == dtype
        assert float((ours - theirs).abs().max()) <= bound * float(theirs.abs().max())


@interpreted
@pytest.mark.parametrize("power", [2, 1])
def test_near_pairs_of_far_clusters_are_taken_again(power):
    x = clustered(20)[None]
    y = x.flip(1)[:, :20].contiguous()  # points equal to those of x, in another place
    n, m = x.shape[1], 20
    a, b = (torch.full((1, k), 1 / k) for k in (n, m))
    epsilon = torch.tensor([1e-3 if power == 2 else 0.05], dtype=torch.float64)
    # Potentials that leave the nearest pairs of each point alone.
    f, g = torch.zeros(1, n, dtype=torch.float64), torch.zeros(1, m, dtype=torch.float64)
    found, exact, _ = kernels_and_exact(x, y, a, b, f, g, epsilon, power)
    near = [float(-one.min()) for one in exact[:2]]  # the largest exponent that counts, c/ε of the nearest pair
    for ours, theirs, size in zip(found[:2], exact[:2], near, strict=True):
        assert float((ours - theirs).abs().max()) <= 64 * EPS * (size + 16)
    for ours, theirs in zip(found[2:], exact[2:], strict=True):
        assert float((ours - theirs).abs().max()) <= 64 * EPS * (max(near) + 16) * float(theirs.abs().max())


@interpreted
def test_large_potentials_keep_their_digits():
    """F and G of some 10⁴ whose sum is c/ε: in float32 a sum that rounds would be wrong by 10⁻³."""
    x, y = drawn(1, 30, 2, dtype=torch.float32), drawn(1, 25, 2, dtype=torch.float32, seed=1)
    epsilon = torch.tensor([1e-3], dtype=torch.float64)
    g = drawn(1, 25, seed=2) + 10
    C = cost(2).of(x.double(), y.double())
    f = (C - g[:, None, :]).amin(-1)
    a, b = torch.full((1, 30), 1 / 30), torch.full((1, 25), 1 / 25)
    found, exact, _ = kernels_and_exact(x, y, a, b, f, g, epsilon, 2)
    nearest = (C / epsilon).gather(-1, (C - g[:, None, :]).argmin(-1, keepdim=True))[..., 0]
    assert bool(((found[0] - exact[0]).abs() <= 16 * EPS * (nearest + 16)).all())
    # The order of g + 10 over ε, rounded, would be 10⁴·EPS.
    assert float((found[0] - exact[0]).abs().median()) <= 0.2 * EPS * float(g.mean() / epsilon)


@interpreted
def test_solved_problems_are_left_as_they_are():
    """The same potentials whatever else is in the batch, and nothing is done for those that are done."""
    x, y = drawn(2, 20, 2), drawn(2, 25, 2, seed=1)
    a, b = (torch.full((k,), 1 / k, dtype=torch.float64) for k in (20, 25))
    epsilon = torch.tensor([3.0, 0.3], dtype=torch.float64)
    how = {"tolerance": 1e-6, "iterations": 100, "path": "triton"}
    both = sinkhorn.transport(x, y, a, b, epsilon, cost(2), **how)
    with_itself = sinkhorn.transport(x[:1], y[:1], a, b, epsilon[:1], cost(2), **how)
    assert float(both.error[0]) <= 1e-6 and float(both.error[1]) <= 1e-6
    # Annealing starts from the largest cost of each; its last sweeps, at the last ε, are the only ones more.
    torch.testing.assert_close(both.value[:1], with_itself.value, rtol=1e-9, atol=0)
    by = triton._Kernels(Given(x, y, a.expand(2, -1), b.expand(2, -1), epsilon, None, 2.0), False, "accurate")
    f, g = torch.zeros(2, 20, dtype=torch.float64), torch.zeros(2, 25, dtype=torch.float64)
    found = by.softmin(f, g, 0, epsilon, torch.tensor([True, False]))
    assert bool((found[0] > -1e3).all()) and bool((found[1] < -1e30).all())


@interpreted
def test_the_host_looks_once_in_ten_evaluations(monkeypatch):
    """Each look waits for the GPU."""
    looks, evaluations = [], []
    advance = triton.Ascent.advance
    monkeypatch.setattr(triton.Ascent, "advance", lambda *s: evaluations.append(1) or advance(*s))
    x, y = drawn(20, 2), drawn(25, 2, seed=1)
    a, b = (torch.full((k,), 1 / k, dtype=torch.float64) for k in (20, 25))
    before = torch.Tensor.__bool__
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda t: looks.append(1) or before(t))
    epsilon = torch.tensor(0.05, dtype=torch.float64)
    sinkhorn.transport(x, y, a, b, epsilon, cost(2), tolerance=0.0, iterations=40, path="triton")
    assert 30 <= len(evaluations) < 40  # and the sweeps while ε falls
    assert len(looks) <= math.ceil(len(evaluations) / 10) + 2


@interpreted
def test_relaxed_and_padded_problems_of_a_batch_are_those_of_torch():
    x, y = drawn(2, 30, 3), drawn(2, 28, 3, seed=1)
    a, b = drawn(2, 30, seed=2).softmax(-1), drawn(2, 28, seed=3).softmax(-1)
    a[0, 10:] = b[0, 20:] = b[1, :5] = 0
    a, b = a / a.sum(-1, keepdim=True), b / b.sum(-1, keepdim=True)
    epsilon, rho = (torch.tensor(t, dtype=torch.float64) for t in ([0.5, 1.0], [0.7, 2.0]))
    for relaxed in (None, rho):
        found = sinkhorn.transport(x, y, a, b, epsilon, cost(2), relaxed, tolerance=1e-7, path="triton")
        exact = dense.solve(cost(2).of(x, y), a, b, epsilon, relaxed, tolerance=1e-9, iterations=20_000)
        torch.testing.assert_close(found.value, exact.value, rtol=1e-9, atol=0)
        assert bool((found.gap.abs() <= 1e-4).all())


def test_tf32_is_for_triton_in_float32_alone():
    x, a = drawn(20, 40, dtype=torch.float32), torch.full((20,), 1 / 20)
    epsilon = torch.tensor(10.0)
    for path in (None, "dense"):
        with pytest.raises(ValueError, match='precision must be "accurate" for points of torch.float32 on the path'):
            sinkhorn.transport(x, x, a, a, epsilon, cost(2), path=path, precision="tf32")
    if pairwise.is_interpreted():
        how = {"path": "triton", "tolerance": 1e-4}
        both = [
            sinkhorn.transport(x, x, a, a, epsilon, cost(2), **how, precision=p).value for p in ("accurate", "tf32")
        ]
        torch.testing.assert_close(*both, rtol=1e-3, atol=0)  # the interpreter does not show TF32
        with pytest.raises(ValueError, match='precision must be "accurate" for points of torch.float64'):
            sinkhorn.transport(*(t.double() for t in (x, x, a, a, epsilon)), cost(2), path="triton", precision="tf32")


def test_a_cpu_never_chooses_it_and_it_says_what_keeps_it(monkeypatch):
    x, a = drawn(5, 2), torch.full((5,), 0.2, dtype=torch.float64)
    epsilon, free = torch.tensor(0.5, dtype=torch.float64), sinkhorn.Cost(cost(2).of)
    assert sinkhorn.explain(x, x, a, a, cost(2)).path != "triton"
    with pytest.raises(ValueError, match='path="triton" cannot be taken: a cost that is no power'):
        sinkhorn.transport(x, x, a, a, epsilon, free, path="triton")
    if pairwise.is_interpreted():
        assert triton.why_not(x.half(), x, a, a, 2) == "points of torch.float16 and torch.float64"
        assert triton.why_not(x[:0], x, a[:0], a, 2).startswith("there are no points")
        assert triton.why_not(x[:3], x, a, a, 2).startswith("weights must be one a point, (..., n) and (..., m)")
        assert "Triton, interpreted" in triton.described(x)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match='path="triton" cannot be taken: the points are not on a CUDA device'):
        sinkhorn.transport(x, x, a, a, epsilon, cost(2), path="triton")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert triton.why_not(x, x, a, a, 2) == "Triton is not installed"


def test_it_compiles_for_a_gpu_and_multiplies_in_tf32_only_where_asked(tmp_path):
    """The interpreter sees neither what does not compile nor Triton's own default, which is TF32."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    script = Path(__file__).with_name("transport_ptx.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == 8
    for name, case in found.items():
        assert case["tf32"] == ("tf32" in name), name
        assert case["spilled"] <= 64, name  # bytes of a thread, of some thousand that its registers hold


def test_no_step_makes_the_dual_fall():
    """From potentials that are far off, where L-BFGS overshoots: the solver alone, on a matrix of costs."""
    x, y = drawn(3, 60, 2), drawn(3, 50, 2, seed=1)
    a, b = (drawn(3, k, seed=k).softmax(-1) for k in (60, 50))
    C, epsilon = cost(2).of(x, y), torch.tensor([0.005, 0.02, 0.1], dtype=torch.float64)

    def softmin(own, other, side, epsilon, active):
        costs, w = (C, b) if side == 0 else (C.mT, a)
        T = (own[:, :, None] + other[:, None, :] - costs) / epsilon[:, None, None] + w.log()[:, None, :]
        return torch.logsumexp(T, -1) / math.log(2)

    eps = torch.finfo(torch.float64).eps
    ascent = SemiDual(softmin, a, b, None, eps, False).start(torch.zeros_like(a), torch.zeros_like(b), epsilon)
    values, shortened = [ascent.best.value], 0
    for _ in range(150):
        ascent.advance(torch.zeros_like(epsilon))
        values.append(ascent.best.value)
        shortened += int((ascent.length < 1).sum())
    assert shortened > 0  # steps were refused
    falls = torch.stack(values).diff(dim=0)
    assert bool((falls >= -(4 * eps * epsilon + 100 * eps * values[-1].abs())).all())
    exact = dense.solve(C[2:], a[2:], b[2:], epsilon[2:], tolerance=1e-9, iterations=20_000)
    torch.testing.assert_close(ascent.best.value[2:], exact.value, rtol=1e-9, atol=0)
