"""Sums for permutations by Triton on a GPU, and the tests made of them: what the interpreter cannot show."""

import numpy as np
import pytest
import torch
from pair_cases import EPS, clustered, drawn
from test_permute import BINNED, LABELLED, labellings

import estimators as est
from divergences import kernels
from estimators.ops import permute
from estimators.ops.permute import reference
from estimators.two_sample import kernel

pytestmark = pytest.mark.gpu
NAMES = [name for name in LABELLED if "triton" in LABELLED[name][0]]


@pytest.fixture(autouse=True)
def poisoned():
    """Memory that is not written holds NaN."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("N, d", [(1, 1), (2, 2), (63, 3), (65, 10), (1000, 33), (1023, 64), (9000, 20)], ids=str)
def test_sums_are_those_of_the_reference(N, d, dtype, name):
    given, (_, offset, size) = BINNED[name], LABELLED[name]
    points = ((drawn(N, 2 * d)[:, ::2] * (3 / d) ** 0.5 + offset).to(dtype)).cuda()
    labels = torch.cat([torch.ones(2, N, dtype=torch.bool), labellings(7, N)]).cuda()
    labels[1, 0] = False
    sizes = torch.tensor([N]) if N < 40 else torch.tensor([1, 30, 1, 5, N - 37])
    for weights in (None, drawn(2 * N, seed=4).abs().to(dtype).cuda()[::2]):
        r = torch.ones(N).cuda() if weights is None else weights
        bound = (16 + d) * torch.finfo(dtype).eps * size
        found = permute.label_sums(given, points, labels, weights, shift=0.25)
        for ours, exact in zip(found, reference.label_sums(given, points, labels, weights, shift=0.25), strict=True):
            assert ours.is_cuda and float((ours - exact).abs().max()) <= bound * float(r.double().sum()) ** 2
        bins = torch.segment_reduce(r.double(), "sum", lengths=sizes.cuda())
        ours, exact = (op(given, points, sizes, weights) for op in (permute.bin_sums, reference.bin_sums))
        assert ours.is_cuda and bool(((ours - exact).abs() <= bound * bins[:, None] * bins + 1e-30).all())


@pytest.mark.parametrize("N", [63, 1000, 9000])
def test_of_whole_numbers_both_sums_are_exact(N):
    distance = kernel.of_distance(kernels.DistanceInduced())
    generator = torch.Generator().manual_seed(5)
    points = torch.randint(-20, 21, (N, 1), generator=generator).float().cuda()
    weights = torch.randint(1, 4, (N,), generator=generator).float().cuda()
    labels, sizes = labellings(40, N).cuda(), torch.tensor([1, 30, N - 31])
    found = permute.label_sums(distance, points, labels, weights, shift=0.5)
    expected = reference.label_sums(distance, points, labels, weights, shift=0.5)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert torch.equal(
        permute.bin_sums(distance, points, sizes, weights), reference.bin_sums(distance, points, sizes, weights)
    )


@pytest.mark.parametrize("d", [3, 64])
def test_near_pairs_of_far_clusters_are_taken_again(d):
    points, given = clustered(d).cuda(), kernels.Gaussian(0.02)
    labels, sizes = labellings(5, len(points)).cuda(), torch.tensor([1, len(points) - 1])
    found = permute.label_sums(given, points, labels).q - reference.label_sums(given, points, labels)[0]
    assert float(found.abs().max()) <= 64 * EPS * len(points)
    torch.testing.assert_close(
        permute.bin_sums(given, points, sizes), reference.bin_sums(given, points, sizes), rtol=64 * EPS, atol=1e-12
    )


def test_nothing_is_multiplied_in_tf32_unless_asked():
    """Beyond the kernel values, of which one part has 11 bits as well."""
    points, given = drawn(3000, 64, dtype=torch.float32).cuda(), kernels.Gaussian(8.0)
    labels, sizes = labellings(20, 3000).cuda(), torch.tensor([1] * 100 + [2900])
    exact = reference.label_sums(given, points, labels, shift=0.37)[0]
    q = [permute.label_sums(given, points, labels, shift=0.37, precision=p).q for p in ("accurate", "tf32")]
    spread = float(exact.std())
    assert float((q[0] - exact).abs().max()) <= 1e-4 * spread < float((q[1] - exact).abs().max()) <= 0.1 * spread
    exact = reference.bin_sums(given, points, sizes)[:100, :100].fill_diagonal_(1)
    B = [
        permute.bin_sums(given, points, sizes, precision=p)[:100, :100].fill_diagonal_(1) for p in ("accurate", "tf32")
    ]
    assert float((B[0] / exact - 1).abs().max()) <= 1e-5 < float((B[1] / exact - 1).abs().max()) <= 1e-2


def test_they_are_chosen_and_repeats_give_the_same_bits():
    points, given = drawn(20_000, 64, dtype=torch.float32).cuda(), kernels.Gaussian(8.0)
    labels, sizes = labellings(33, 20_000).cuda(), torch.full((100,), 200)
    labels[32] = labels[0]
    assert permute.explain_label_sums(given, points).path == permute.explain_bin_sums(given, points).path == "triton"
    first, second = (permute.label_sums(given, points, labels) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True)) and first.q[32] == first.q[0]
    assert torch.equal(*(permute.bin_sums(given, points, sizes) for _ in range(2)))
    assert permute.triton.described(points).startswith(f"Triton, {torch.cuda.get_device_name()}")


def test_memory_of_bins_is_a_few_times_the_inputs():
    """G5."""
    points, sizes = drawn(100_000, 64, dtype=torch.float32).cuda(), torch.full((500,), 200)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    permute.bin_sums(kernels.Gaussian(8.0), points, sizes)
    assert torch.cuda.max_memory_allocated() - before <= 4 * points.nbytes


STATISTICS = ["mmd", "energy_distance", est.MMD("laplace", "biased"), est.MMD("polynomial"), "mmd_agg", "auto"]


@pytest.mark.parametrize("statistic", STATISTICS, ids=repr)
def test_tests_are_those_of_the_cpu(statistic):
    """The same labellings, of as few points."""
    g = np.random.default_rng(3)
    x, y = (torch.tensor(g.normal(size=(n, 3)) + s) for n, s in ((60, 0.0), (50, 0.3)))
    given = [{}, {"bins": 20}] if statistic in STATISTICS[:4] else [{}]
    given += [
        {"strata": (np.arange(60) % 3, np.arange(50) % 3)},
        {"clusters": (np.arange(60) // 3, 50 + np.arange(50))},
    ]
    for options in given:
        cpu, cuda = (est.two_sample_test(*pair, statistic, 199, **options) for pair in ((x, y), (x.cuda(), y.cuda())))
        assert cuda.statistic == pytest.approx(cpu.statistic, rel=1e-4, abs=1e-8)
        assert cuda.p_value == pytest.approx(cpu.p_value, abs=0.01)


@pytest.mark.parametrize("m", [9000, 5000])
def test_labels_of_many_points_are_permuted_as_by_a_kernel_matrix(m, monkeypatch):
    x, y = drawn(9000, 5).cuda(), drawn(m, 5, seed=1).cuda() + 0.01
    found = est.two_sample_test(x, y, "mmd", 199)
    assert any("made anew, by tiles" in note for note in found.notes)
    monkeypatch.setattr(kernel, "STORED", 10**6)
    exact = est.two_sample_test(x, y, "mmd", 199)
    assert exact.statistic == pytest.approx(found.statistic, rel=1e-4, abs=1e-9)
    np.testing.assert_allclose(found.null, exact.null, atol=1e-3 * np.std(exact.null), rtol=0)
    assert abs(found.p_value - exact.p_value) <= 2 / 200  # ties by rounding


def test_labels_drawn_on_a_gpu_are_uniform():
    """More units than are labelled on the CPU, in two strata, some of them fixed."""
    from estimators.two_sample.labelling import HERE, Design

    U = HERE + 100
    stratum, is_x = (torch.arange(U) > 4000).long(), torch.arange(U) % 3 == 0
    fixed = torch.arange(U) < 10
    drawn_ = Design(torch.arange(U), stratum, is_x)
    found = drawn_.labels(300, torch.Generator().manual_seed(1), fixed, torch.device("cuda"))
    assert found.is_cuda and torch.equal(found[:, :10].cpu(), is_x[:10].expand(300, -1))
    for s in (0, 1):
        assert bool((found[:, (stratum == s).cuda()].sum(-1) == is_x[stratum == s].sum()).all())
    share = found[:, 10:].double().mean(0)
    assert float((share - 1 / 3).abs().max()) < 6 * (2 / 9 / 300) ** 0.5
    again = drawn_.labels(300, torch.Generator().manual_seed(1), fixed, torch.device("cuda"))
    assert torch.equal(found, again)
