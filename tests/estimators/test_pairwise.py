"""Sums over pairs: every path against the float64 reference, values and gradients, at awkward sizes and strides."""

import math
import shutil
from functools import partial

import pytest
import torch

from divergences import kernels
from estimators.ops import native, pairwise
from estimators.ops.native.__main__ import main as build
from estimators.ops.pairwise import reference, triton

KERNELS = {
    "gaussian": kernels.Gaussian(2.0),
    "halving bandwidths": kernels.Gaussian([4.0, 2.0, 1.0, 0.5, 0.25]),
    "any bandwidths": kernels.Gaussian([0.7, 1.3, 5.0]),
    "laplace": kernels.Laplace([1.5, 3.0]),
    "imq": kernels.InverseMultiquadric([1.0, 3.0]),
    "rq": kernels.RationalQuadratic(1.0, 0.7),
    "energy": kernels.DistanceInduced(),
    "distance 0.6": kernels.DistanceInduced(0.6),
    "sum": kernels.Gaussian(1.0) + 2.0 * kernels.Laplace(2.0),
    "polynomial": kernels.Polynomial(2, 1.0),
    "product": kernels.Gaussian(1.0) * kernels.Polynomial(1, 1.0),
}
# Interpreted here, whatever the points are on; on a machine with a GPU see tests/estimators/test_pairwise_gpu.py.
NO_TRITON = triton.why_not(KERNELS["gaussian"].terms(), torch.zeros(1, 1), torch.zeros(1, 1))
PATHS = [
    "tiled",
    pytest.param("native", marks=pytest.mark.skipif(native.library() is None, reason="the library is not built")),
    pytest.param("triton", marks=pytest.mark.skipif(bool(NO_TRITON), reason=NO_TRITON)),
]
SIZES = [(1, 1, 1), (63, 64, 2), (65, 63, 10), (1000, 1023, 3), (64, 1, 33)]
# Of each value: of d² by its d terms, of the exponent by its size, at most 16 here, and of the sum.
ROUNDINGS = 64


@pytest.fixture(autouse=True)
def poisoned():
    """Memory that is not written holds NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def drawn(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def taken(path, kernel, *points):
    """Skip what the library does not do, and says so."""
    library = {"native": pairwise.native, "triton": triton}.get(path)
    terms = kernel.terms() if library else None
    if library and (why := library.why_not(terms, *points)):
        pytest.skip(why)


def close(found, expected, dtype, scale=1.0):
    error = (found.double() - expected).abs().max()
    assert error <= ROUNDINGS * torch.finfo(dtype).eps * (expected.abs().max() + scale), float(error)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", KERNELS)
def test_row_sums_and_their_gradients_are_those_of_the_reference(name, size, dtype, path):
    (n, m, d), kernel = size, KERNELS[name]
    x, y, w = drawn(n, d, dtype=dtype), drawn(m, d, dtype=dtype, seed=1), drawn(m, dtype=dtype, seed=2).abs()
    taken(path, kernel, x, y)
    own = drawn(n, dtype=dtype, seed=3).abs()
    for a, b, weights, alone in [(x, y, w, False), (x, y, None, False), (x, x, own, True), (x, x, None, False)]:
        given = [t.clone().requires_grad_() for t in ((a, b) if a is not b else (a,))]
        given += [] if weights is None else [weights.clone().requires_grad_()]
        second = given[1] if a is not b else given[0]
        v = None if weights is None else given[-1]
        found = pairwise.row_sums(kernel, given[0], second, v, exclude_self=alone, path=path)
        expected = reference.row_sums(kernel, given[0], second, v, exclude_self=alone)
        assert found.dtype == dtype
        # a distance or a product has values, and roundings, of the size of the points
        size_of_terms = reference.row_sums(lambda p, q: kernel(p, q).abs() + 4 * d, given[0], second, v).abs().max()
        close(found, expected.detach(), dtype, float(size_of_terms.detach()))
        g = drawn(n, dtype=dtype, seed=4)
        slopes = torch.autograd.grad(found, given, g), torch.autograd.grad(expected, given, g.double())
        for ours, theirs in zip(*slopes, strict=True):
            close(ours, theirs.double(), dtype, float(g.abs().sum()) * d)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", ["gaussian", "halving bandwidths", "laplace", "rq", "energy", "distance 0.6"])
def test_row_moments_are_those_of_the_reference(name, size, dtype, path):
    (n, m, d), kernel = size, KERNELS[name]
    x, y = drawn(n, d, dtype=dtype), drawn(m, d, dtype=dtype, seed=1)
    w, v = (drawn(k, dtype=dtype, seed=5).abs().softmax(-1) for k in (n, m))
    taken(path, kernel, x, y)
    shift = kernel(x[:50], y[:50]).mean()
    for a, b, wa, wb, alone in [
        (x, y, w, v, False),
        (x, x, w, w, True),
        (x, x, w, w, False),
        (x, x, w, v[:1] + w, True),
    ]:
        found = pairwise.row_moments(kernel, a, b, wa, wb, exclude_self=alone, shift=shift, path=path)
        expected = reference.row_moments(kernel, a, b, wa, wb, exclude_self=alone, shift=shift.double())
        terms = reference.row_moments(lambda p, q: kernel(p, q).abs() + 4 * d, a, b, wa, wb)
        for ours, theirs, size_of_terms in zip(found, expected, terms, strict=True):
            close(ours, theirs, dtype, float(size_of_terms.abs().max()))


@pytest.mark.parametrize("path", PATHS)
def test_moments_of_a_batch_are_those_of_its_problems(path):
    x, y = drawn(2, 3, 70, 4), drawn(2, 3, 60, 4, seed=1)
    w, v = x.new_full((2, 3, 70), 1 / 70), y.new_full((2, 3, 60), 1 / 60)
    kernel, shift = kernels.Gaussian(drawn(2, 3, 1, 1, seed=2).abs() + 1), drawn(2, 3, 1, 1, seed=3)
    taken(path, kernel, x, y)
    found = pairwise.row_moments(kernel, x, y, w, v, shift=shift, path=path)
    expected = reference.row_moments(kernel, x, y, w, v, shift=shift)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("path", PATHS)
def test_leading_axes_and_strides_broadcast(path):
    x, y, w = drawn(2, 1, 70, 3).mT.contiguous().mT, drawn(3, 120, 6, seed=1)[:, ::2, ::2], drawn(2, 3, 60, seed=2)
    length = drawn(2, 3, 1, 1, seed=3).abs() + 0.5
    kernel = kernels.Gaussian(length)
    taken(path, kernel, x, y, w)
    found = pairwise.row_sums(kernel, x, y, w, path=path)
    assert found.shape == (2, 3, 70)
    torch.testing.assert_close(found, reference.row_sums(kernel, x, y, w))
    for i in range(2):
        for j in range(3):
            one = reference.row_sums(kernels.Gaussian(float(length[i, j])), x[i, 0], y[j], w[i, j])
            torch.testing.assert_close(found[i, j], one)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", KERNELS)
def test_first_and_second_derivatives_are_right(name, path):
    kernel = KERNELS[name]
    x, y, w = (drawn(*s, seed=k).requires_grad_() for k, s in enumerate([(5, 2), (4, 2), (4,)]))
    taken(path, kernel, x, y)

    def sums(x, y, w):
        return pairwise.row_sums(kernel, x, y, w, path=path)

    def alone(x):
        return pairwise.row_sums(kernel, x, x, exclude_self=True, path=path)

    assert torch.autograd.gradcheck(sums, (x, y, w))
    assert torch.autograd.gradgradcheck(sums, (x, y, w))
    assert torch.autograd.gradcheck(alone, (x,))
    assert torch.autograd.gradgradcheck(alone, (x,))


@pytest.mark.parametrize("path", PATHS)
def test_a_gradient_with_a_graph_is_the_one_without(path):
    """Where y and the weights are functions of x, or a part of it."""
    x = drawn(9, 2).requires_grad_()
    q = x * 1
    for a, b, w in [(x, 2 * x + 0.3, None), (x, x, x[:, 0] ** 2), (q, q[:4], None)]:
        sums = pairwise.row_sums(KERNELS["gaussian"], a, b, w, path=path).sum()
        plain, graphed = (torch.autograd.grad(sums, x, create_graph=g, retain_graph=True)[0] for g in (False, True))
        torch.testing.assert_close(plain, graphed)
    sums = pairwise.row_sums(KERNELS["gaussian"], x, x, path=path)
    (batched,) = torch.autograd.grad(sums, x, torch.eye(9).double(), is_grads_batched=True, retain_graph=True)
    each = [torch.autograd.grad(sums, x, row, retain_graph=True)[0] for row in torch.eye(9).double()]
    torch.testing.assert_close(batched, torch.stack(each))


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("step", [1, 0.5], ids=["halving", "by roots"])
def test_long_ladders_of_bandwidths_keep_their_digits(step, path):
    x, y = (drawn(n, 2, dtype=torch.float32, seed=n).requires_grad_() for n in (500, 400))
    kernel = kernels.Gaussian([2.0 ** (step * k) for k in range(15)])
    found, expected = pairwise.row_sums(kernel, x, y, path=path), reference.row_sums(kernel, x, y)
    assert float((found / expected - 1).detach().abs().max()) < 2e-6
    ours, theirs = (torch.autograd.grad(sums.sum(), x)[0].double() for sums in (found, expected))
    assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-5


def test_what_would_leave_the_numbers_or_does_not_fit_is_left_to_torch():
    x, y = drawn(5, 2, dtype=torch.float32), drawn(4, 2, dtype=torch.float32, seed=1)
    for kernel in (kernels.Gaussian(1e-20), kernels.Laplace(1e-40), kernels.RationalQuadratic(1e-20)):
        assert torch.equal(pairwise.row_sums(kernel, x, x.clone()), torch.ones(5))
    assert pairwise.explain(kernels.DistanceInduced(0.6), x * 1e20, y).path == "tiled"
    assert pairwise.row_sums(KERNELS["gaussian"], x[None][:0], x[None][:0]).shape == (0, 5)


@pytest.mark.skipif(native.library() is None, reason="the library is not built")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kernel", ["scales of their own", "two bandwidths", "energy"])
def test_parts_of_a_batch_may_end_within_a_problem(monkeypatch, threads, kernel):
    """Values, gradients and moments of problems whose rows are shared out seven at a time."""
    from estimators.ops.pairwise import native as by_library

    monkeypatch.setattr(by_library, "PART", 1)
    monkeypatch.setattr(by_library, "ROWS", 7)
    monkeypatch.setattr(native, "WORK", 1000)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    B, n, m, d = 5, 33, 65, 9
    k = {
        "scales of their own": kernels.Gaussian(drawn(B, 1, 1, seed=4).abs() + 0.5),
        "two bandwidths": kernels.Gaussian([1.0, 1.7]), "energy": kernels.DistanceInduced(),
    }[kernel]  # fmt: skip
    x, y = (drawn(B, size, d, seed=seed).requires_grad_() for size, seed in ((n, 0), (m, 1)))
    w, slope = drawn(B, m, seed=2).abs().requires_grad_(), drawn(B, n, seed=3)
    for given, exclude in (((x, y, w), False), ((x, y, None), False), ((x, x, None), True), ((x, x, None), False)):
        wanted = list({id(t): t for t in given if t is not None}.values())
        found, expected = (
            by(k, *given, exclude_self=exclude)
            for by in (partial(pairwise.row_sums, path="native"), reference.row_sums)
        )
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        slopes = (torch.autograd.grad(part, wanted, slope) for part in (found, expected))
        for ours, exact in zip(*slopes, strict=True):
            torch.testing.assert_close(ours, exact, rtol=1e-11, atol=1e-11)
    masses = [drawn(B, size, seed=5).abs().softmax(-1) for size in (n, m)]
    with torch.no_grad():
        moments = pairwise.row_moments(k, x, y, *masses, path="native")
    for ours, exact in zip(moments, reference.row_moments(k, x, y, *masses), strict=True):
        torch.testing.assert_close(ours, exact.detach(), rtol=1e-11, atol=1e-11)
    torch.set_num_threads(before)


@pytest.mark.parametrize("path", [None, "tiled"])
def test_what_does_not_fit_is_refused(path):
    x, y, gaussian = drawn(5, 2), drawn(4, 2, seed=1), KERNELS["gaussian"]
    refused = [
        ((x, y[:, :1]), r"points must be \(..., n, d\) and \(..., m, d\): got shapes \(5, 2\), \(4, 1\)"),
        ((x[0], y), r"points must be .* got shapes \(2,\), \(4, 2\)"),
        ((x[:0], y), r"there are no points, or none with coordinates: got shapes \(0, 2\), \(4, 2\)"),
        ((x, y, torch.ones(5).double()), r"weights must be one a point, .* got shapes \(5, 2\), \(4, 2\), \(5,\)"),
        ((x, y, torch.ones(4)), "must have one dtype: got torch.float64, torch.float64, torch.float32"),
        ((x, y.float()), "must have one dtype"),
    ]
    for given, message in refused:
        with pytest.raises(ValueError, match=message):
            pairwise.row_sums(gaussian, *given, path=path)
    with pytest.raises(ValueError, match="exclude_self .* got 5 and 4 points"):
        pairwise.row_sums(gaussian, x, y, exclude_self=True, path=path)
    with pytest.raises(ValueError, match="weights must be one a point"):
        pairwise.row_moments(gaussian, x, y, torch.ones(5).double(), torch.ones(3).double(), path=path)


def test_only_terms_that_are_the_kernel_are_taken():
    class Larger(kernels.Sum):
        def _combine(self, left, right):
            return torch.maximum(left, right)

    x, y = drawn(5, 2), drawn(4, 2, seed=1)
    kernel = Larger(kernels.Gaussian(1.0), kernels.Laplace(2.0))
    torch.testing.assert_close(pairwise.row_sums(kernel, x, y), kernel(x, y).sum(-1))
    bandwidth, points = torch.tensor(1.0, dtype=torch.float64), x.clone().requires_grad_()
    sums = pairwise.row_sums(kernels.Gaussian(bandwidth), points, y).sum()
    (expected,) = torch.autograd.grad(pairwise.row_sums(kernels.Gaussian(1.0), points, y).sum(), points)
    bandwidth.mul_(10)  # after the sums were taken
    if native.library() is not None:
        torch.testing.assert_close(torch.autograd.grad(sums, points)[0], expected)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", ["gaussian", "halving bandwidths", "laplace", "imq", "rq"])
def test_an_offset_costs_no_digits(name, path):
    x, y = (drawn(300, 4, dtype=torch.float32, seed=k) + 1e6 for k in (0, 1))  # the inputs themselves are rounded
    taken(path, KERNELS[name], x, y)
    found = pairwise.row_sums(KERNELS[name], x, y, path=path)
    expected = reference.row_sums(KERNELS[name], x, y)
    assert float((found / expected - 1).abs().max()) <= 1e-5


@pytest.mark.parametrize("path", PATHS)
def test_far_clusters_cost_no_digits(path):
    x = drawn(200, 3, dtype=torch.float32) * 0.01 + torch.tensor([1000.0, 0, 0]) * (torch.arange(200) % 2)[:, None]
    kernel = kernels.Gaussian(0.02)
    expected = reference.row_sums(kernel, x, x, exclude_self=True)
    taken(path, kernel, x, x)
    found = pairwise.row_sums(kernel, x, x, exclude_self=True, path=path)
    assert float((found / expected - 1).abs().max()) <= 1e-4  # x itself is rounded to 6e-5, 0.3% of the bandwidth


@pytest.mark.skipif(native.library() is None, reason="the library is not built")
def test_threads_and_repeats_do_not_change_a_bit():
    x, kernel, before = drawn(3000, 20), KERNELS["gaussian"], torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        two = [pairwise.row_sums(kernel, x, x, path="native") for _ in range(3)]
        other = pairwise.row_sums(kernel, x, drawn(2000, 20, seed=1), path="native")
        torch.set_num_threads(1)
        one = pairwise.row_sums(kernel, x, x, path="native")
        assert torch.equal(pairwise.row_sums(kernel, x, drawn(2000, 20, seed=1), path="native"), other)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(two[0], two[1]) and torch.equal(two[0], two[2])
    torch.testing.assert_close(one, two[0], rtol=1e-13, atol=0)  # the order of its sums is another


def test_the_path_is_told_and_can_be_forced(monkeypatch):
    x, y, kernel = drawn(4, 2), drawn(3, 2, seed=1), KERNELS["gaussian"]
    monkeypatch.setattr(native, "library", lambda: None)
    assert pairwise.explain(kernel, x, y) == ("tiled", "the library is not built: python -m estimators.ops.native")
    with pytest.raises(ValueError, match='path="native" cannot be taken: the library is not built'):
        pairwise.row_sums(kernel, x, y, path="native")
    torch.testing.assert_close(pairwise.row_sums(kernel, x, y), reference.row_sums(kernel, x, y))
    with pytest.raises(ValueError, match="path must be None"):
        pairwise.row_sums(kernel, x, y, path="nativ")


@pytest.mark.skipif(native.library() is None, reason="the library is not built")
def test_what_the_library_does_not_do_takes_the_other_path_and_says_why():
    x, y, gaussian = drawn(4, 2), drawn(3, 2, seed=1), KERNELS["gaussian"]
    learned = kernels.Gaussian(torch.tensor(1.0, requires_grad=True))

    class Squared(kernels.Gaussian):
        def _at(self, d2, length):
            return super()._at(d2, length) ** 2

    asked = {
        "points of torch.float16": (gaussian, x.half(), y.half()),
        "no terms": (KERNELS["polynomial"], x, y),
        "no terms of": (Squared(1.0), x, y),
        "a gradient in the kernel's parameters": (learned, x, y),
        "not finite": (gaussian, x * math.inf, y),
        "a batch of problems": (gaussian, x[None], y[None]),
        "a power above 100": (kernels.RationalQuadratic(1.0, 1e6), x, y),
    }
    assert pairwise.explain(gaussian, x, y).path == "native"
    for why, given in asked.items():
        found = pairwise.explain(*given)
        assert found.path == "tiled" and why in found.why
    assert pairwise.row_sums(gaussian, torch.full((2, 1), math.nan), torch.zeros(2, 1)).isnan().all()
    one = torch.func.vmap(lambda p: pairwise.row_sums(gaussian, p, y))(x.unsqueeze(1))
    torch.testing.assert_close(one.squeeze(1), pairwise.row_sums(gaussian, x, y))


@pytest.mark.skipif(native.library() is None, reason="the library is not built")
def test_every_instruction_set_that_is_built_gives_the_same(monkeypatch):
    x, y = drawn(130, 5), drawn(77, 5, seed=1)
    best = [kind.name for kind in (*native.X86, native.BASELINE)]
    best = best[best.index(native.library().instruction_set) :]
    for name in best:
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda name=name: name)
        loaded = native.library.__wrapped__()
        monkeypatch.setattr(native, "library", lambda loaded=loaded: loaded)
        for kernel in (KERNELS["halving bandwidths"], KERNELS["rq"], KERNELS["distance 0.6"]):
            torch.testing.assert_close(
                pairwise.row_sums(kernel, x, y, path="native"), reference.row_sums(kernel, x, y), rtol=1e-13, atol=1e-11
            )
        monkeypatch.undo()


def test_where_a_compiler_is_the_library_is_built():
    """Otherwise the tests of the library are skipped, and nobody sees that it does not compile."""
    if shutil.which("g++") is None:
        pytest.skip("no compiler")
    assert native.library() is not None, "run python -m estimators.ops.native"


def test_a_machine_without_a_compiler_is_told_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert build() == 0
    assert "no C++ compiler" in capsys.readouterr().out
