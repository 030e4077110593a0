"""The path "triton" on a CUDA device, against the float64 reference: what the interpreter cannot show."""

import pytest
import torch
from pair_cases import EPS, clustered, drawn, sums_and_slopes, to_tf32

from divergences import kernels
from estimators.ops import pairwise
from estimators.ops.pairwise import reference, triton

pytestmark = pytest.mark.gpu
KERNELS = {
    "gaussian": kernels.Gaussian(2.0),
    "halving bandwidths": kernels.Gaussian([4.0, 2.0, 1.0, 0.5, 0.25]),
    "laplace": kernels.Laplace([1.5, 3.0]),
    "imq": kernels.InverseMultiquadric([1.0, 3.0]),
    "rq": kernels.RationalQuadratic(1.0, 0.7),
    "energy": kernels.DistanceInduced(),
    "distance 0.6": kernels.DistanceInduced(0.6),
}
SIZES = [(1, 1, 1), (63, 64, 2), (65, 63, 10), (1000, 1023, 3), (64, 1, 33), (1023, 1000, 64), (300, 200, 130)]


@pytest.fixture(autouse=True)
def poisoned():
    """Memory that is not written holds NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def close(found, expected, dtype, d, scale):
    """Of each term: rounding of d² by d terms, of an exponent of at most 16, and of the sum."""
    error = float((found.double() - expected).abs().max())
    assert error <= (64 + d) * torch.finfo(dtype).eps * (float(expected.abs().max()) + scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", KERNELS)
def test_sums_and_gradients_are_those_of_the_reference(name, size, dtype):
    (n, m, d), kernel = size, KERNELS[name]
    x, y = (drawn(k, d, dtype=dtype, seed=s).cuda() for s, k in enumerate((n, m)))
    w = drawn(m, dtype=dtype, seed=2).abs().cuda()
    for other, weights, alone in ((y, w, False), (y, None, False), (None, None, True), (None, None, False)):
        ours = sums_and_slopes(pairwise.row_sums, kernel, x, other, weights, exclude_self=alone, path="triton")
        exact = sums_and_slopes(reference.row_sums, kernel, x, other, weights, exclude_self=alone)
        assert ours[0].dtype == dtype and ours[0].device == x.device
        close(ours[0], exact[0], dtype, d, 4.0 * d * max(n, m))
        for found, expected in zip(ours[1], exact[1], strict=True):
            close(found, expected, dtype, d, 4.0 * d * max(n, m))


@pytest.mark.parametrize("name", KERNELS)
def test_moments_are_those_of_the_reference(name):
    x, y = drawn(300, 20, dtype=torch.float32).cuda(), drawn(200, 20, dtype=torch.float32, seed=1).cuda()
    w, v = (drawn(k, dtype=torch.float32, seed=5).abs().softmax(-1).cuda() for k in (300, 200))
    for a, b, wa, wb, alone in [(x, y, w, v, False), (x, x, w, w, True)]:
        found = pairwise.row_moments(KERNELS[name], a, b, wa, wb, exclude_self=alone, shift=0.1, path="triton")
        exact = reference.row_moments(KERNELS[name], a, b, wa, wb, exclude_self=alone, shift=0.1)
        for ours, theirs in zip(found, exact, strict=True):
            close(ours, theirs, torch.float32, 20, 10.0)


@pytest.mark.parametrize("name", KERNELS)
def test_first_and_second_derivatives_are_right(name):
    x, y, w = (drawn(*s, seed=k).cuda().requires_grad_() for k, s in enumerate([(5, 2), (4, 2), (4,)]))

    def sums(x, y, w):
        return pairwise.row_sums(KERNELS[name], x, y, w, path="triton")

    assert torch.autograd.gradcheck(sums, (x, y, w))
    assert torch.autograd.gradgradcheck(sums, (x, y, w))


def test_leading_axes_and_strides_broadcast():
    x, y, w = drawn(2, 1, 70, 3).mT.contiguous().mT, drawn(3, 120, 6, seed=1)[:, ::2, ::2], drawn(2, 3, 60, seed=2)
    x, y, w, length = (part.cuda() for part in (x, y, w, drawn(2, 3, 1, 1, seed=3).abs() + 0.5))
    found = pairwise.row_sums(kernels.Gaussian(length), x, y, w, path="triton")
    torch.testing.assert_close(found, reference.row_sums(kernels.Gaussian(length), x, y, w))


@pytest.mark.parametrize("d", [17, 64, 200])
@pytest.mark.parametrize("kernel", [kernels.Gaussian(0.02), kernels.Laplace(0.02)], ids=["gaussian", "laplace"])
def test_near_pairs_of_far_clusters_are_taken_again(kernel, d):
    x = clustered(d).cuda()
    ours = sums_and_slopes(pairwise.row_sums, kernel, x, None, None, exclude_self=True, path="triton")
    exact = sums_and_slopes(reference.row_sums, kernel, x, None, None, exclude_self=True)
    assert float((ours[0] / exact[0] - 1).abs().max()) <= 64 * EPS
    assert float((ours[1][0] - exact[1][0]).abs().max()) <= 64 * EPS * float(exact[1][0].abs().max())


@pytest.mark.parametrize("d", [4, 64])
def test_an_offset_of_a_million_costs_no_digits(d):
    x, y = (drawn(1000, d, dtype=torch.float32, seed=k).cuda() + 1e6 for k in (0, 1))
    kernel = kernels.Gaussian(d**0.5)
    found = pairwise.row_sums(kernel, x, y, path="triton")
    assert float((found / reference.row_sums(kernel, x, y) - 1).abs().max()) <= 1e-5


def test_nothing_is_multiplied_in_tf32_unless_asked():
    """Few columns, so that the errors of TF32 do not average out; the sum of many is right to 1e-6."""
    x, y = (drawn(4096, 64, dtype=torch.float32, seed=k).cuda() for k in (0, 1))
    kernel = kernels.Gaussian(8.0)
    few = reference.row_sums(kernel, x, y[:2])

    def error(found):
        return float((found / few - 1).abs().max())

    assert error(reference.row_sums(kernel, to_tf32(x), to_tf32(y[:2]))) > 1e-4  # what TF32 makes of the points
    assert error(pairwise.row_sums(kernel, x, y[:2], path="triton")) <= 1e-5
    assert 1e-5 < error(pairwise.row_sums(kernel, x, y[:2], path="triton", precision="tf32")) <= 1e-2
    for other in (x, y):
        total = pairwise.row_sums(kernel, x, other, path="triton").double().sum()
        assert abs(float(total / reference.row_sums(kernel, x, other).sum()) - 1) <= 1e-6


def test_it_is_chosen_and_repeats_give_the_same_bits():
    x, y = (drawn(5000, 64, dtype=torch.float32, seed=k).cuda() for k in (0, 1))
    kernel = kernels.Gaussian(8.0)
    assert pairwise.explain(kernel, x, y).path == "triton"
    first, second = (sums_and_slopes(pairwise.row_sums, kernel, x, y, None) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip((first[0], *first[1]), (second[0], *second[1]), strict=True))
    assert triton.described(x).startswith(f"Triton, {torch.cuda.get_device_name()}")


def test_memory_is_a_few_times_the_inputs():
    """G5."""
    x, y = (drawn(100_000, 64, dtype=torch.float32, seed=k).cuda() for k in (0, 1))
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    pairwise.row_sums(kernels.Gaussian(8.0), x, y, path="triton")
    assert torch.cuda.max_memory_allocated() - before <= 4 * (x.nbytes + y.nbytes)
