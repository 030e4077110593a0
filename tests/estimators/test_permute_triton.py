"""Sums for permutations by Triton where there is no GPU: many tiles, near pairs, the tests made of them, the compiler.

What all paths share is in `test_permute.py`; on a GPU see `test_permute_gpu.py`.
"""

import importlib.util
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pair_cases import EPS, clustered, drawn
from test_permute import labellings, problems

import estimators as est
from benchmarks import permutation_gpu
from benchmarks.ops_speed import Bar
from divergences import kernels
from estimators.ops import permute
from estimators.ops.pairwise import triton as pairs
from estimators.ops.permute import reference, triton
from estimators.two_sample import kernel
from tests.estimators.two_sample_cases import weighted

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
interpreted = pytest.mark.skipif(not pairs.is_interpreted(), reason="Triton compiles here: see the tests on a GPU")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def poisoned():
    """Memory that is not written holds NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def small_tiles(monkeypatch):
    """Blocks of 32 rows, tiles of 16 columns, two parts of the bins, and of kernel values 64 rows of 96."""

    def shares(kind, device, problems, n, m, given):
        given["BN"] = 16
        step = 16 * math.ceil(math.ceil(m / 16) / 2)
        return 32, -(-n // 32), -(-m // step), step

    monkeypatch.setattr(pairs, "shares", shares)
    monkeypatch.setattr(triton, "ROWS", 64)
    monkeypatch.setattr(triton, "COLUMNS", 96)


def whole_numbers(N, d, dtype):
    """Points on an axis, at distances that are whole numbers, and weights that are."""
    generator = torch.Generator().manual_seed(5)
    points = torch.zeros(N, d, dtype=dtype)
    points[:, 0] = torch.randint(-50, 51, (N,), generator=generator)
    return points, torch.randint(1, 4, (N,), generator=generator).to(dtype)


@interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("N", [1, 31, 63, 65, 200])
def test_of_whole_numbers_both_sums_are_exact(N, dtype, small_tiles):
    """Nothing is rounded, so that no pair, label, weight or tile may be missing, or be there twice."""
    distance = kernel.of_distance(kernels.DistanceInduced())
    points, some = whole_numbers(N, 2, dtype)
    labels = torch.cat([torch.ones(1, N, dtype=torch.bool), labellings(4, N)])
    sizes = torch.tensor([N]) if N < 40 else torch.tensor([1, 30, 1, 5, N - 37])
    for weights in (None, some):
        found = permute.label_sums(distance, points, labels, weights, shift=0.5, path="triton")
        expected = reference.label_sums(distance, points, labels, weights, shift=0.5)
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
        found = permute.bin_sums(distance, points, sizes, weights, path="triton")
        assert torch.equal(found, reference.bin_sums(distance, points, sizes, weights))


@interpreted
@pytest.mark.parametrize("d", [3, 40])
def test_rounding_is_that_of_single_precision(d, small_tiles):
    """Near and far clusters, by products too; 22 bits of every value, and of the spread where weights are wide."""
    for points in (clustered(d), drawn(70, d, dtype=torch.float32) + 1e6):
        N = len(points)
        labels = labellings(5, N)
        weights = drawn(N, dtype=torch.float32, seed=3).exp()
        for given, weightings in ((kernels.Gaussian(0.02), [None]), (kernels.Laplace([0.1, d**0.5]), [None, weights])):
            for r in weightings:
                found = permute.label_sums(given, points, labels, r, shift=0.3, path="triton")
                expected = reference.label_sums(given, points, labels, r, shift=0.3)
                largest = 1.0 if r is None else float(r.double().sum()) / N
                # Rounding of d² by d terms, and of a value, apart from each other; of a sum, in every row.
                bound = 8 * ((d + 16) ** 0.5 + 4) * EPS * N * largest**2 * 4
                for ours, exact in zip(found[:2], expected[:2], strict=True):
                    assert float((ours - exact).abs().max()) <= bound
                sizes = torch.tensor([1, N - 9, 8])
                ours = permute.bin_sums(given, points, sizes, r, path="triton")
                exact = reference.bin_sums(given, points, sizes, r)
                assert bool(((ours - exact).abs() <= 64 * EPS * exact.clamp_min(1e-30)).all())


@interpreted
def test_what_is_not_a_number_comes_out():
    labels = labellings(2, 3)
    for d in (2, 40):
        x = torch.zeros(3, d)
        x[1, 0] = torch.nan
        for given in (kernels.Gaussian(1.0), kernel.of_distance(kernels.DistanceInduced())):
            assert all(part.isnan().all() for part in permute.label_sums(given, x, labels, path="triton"))
            assert permute.bin_sums(given, x, torch.tensor([1, 2]), path="triton").isnan()[0, 1]


@interpreted
def test_tf32_keeps_one_part():
    x, labels = drawn(65, 40, dtype=torch.float32), labellings(3, 65)
    given, sizes = kernels.Gaussian(6.0), torch.tensor([60, 5])
    found = permute.label_sums(given, x, labels, shift=0.4, path="triton", precision="tf32")
    expected = reference.label_sums(given, x, labels, shift=0.4)
    for ours, exact in zip(found, expected, strict=True):
        error = float((ours - exact).abs().max())
        assert 1e-7 * 65 < error <= 2**-11 * 65**2
    ours = permute.bin_sums(given, x, sizes, path="triton", precision="tf32")  # which the interpreter does not show
    torch.testing.assert_close(ours, reference.bin_sums(given, x, sizes), rtol=1e-3, atol=0)


def by_tiles(monkeypatch):
    """As on a GPU, for pools of any size."""
    monkeypatch.setattr(kernel, "_makes_tiles", lambda *_: True)
    monkeypatch.setattr(kernel, "LABELLINGS", 64)


@interpreted
def test_p_values_are_those_of_the_kernel_matrix(monkeypatch):
    """In float64. Of roots more are ties of the observed one: what rounding is at 0 is taken for that of all."""
    monkeypatch.setattr("estimators.intervals.monte_carlo", lambda *_: (0.0, 1.0))
    g = np.random.default_rng(15)
    x, y, options = weighted(g)
    given = [(*one, {}) for one in list(problems())[:20]]
    given += [("mmd", x, y, options), ("energy_distance", x, y + 1, options)]
    given += [("mmd", x, x + 0.5, {"strata": (range(12), range(12))})]
    given += [("mmd", x, x + 1, {"clusters": (np.arange(12) // 2, 10 + np.arange(12) // 5)})]
    for estimator, x, y, options in given:
        options = {"permutations": 99, **options}
        expected = est.two_sample_test(x, y, estimator, **options)
        with monkeypatch.context() as patch:
            by_tiles(patch)
            found = est.two_sample_test(x, y, estimator, **options)
        assert any("made anew, by tiles" in note for note in found.notes)
        null, ties = np.array(expected.null), 0.0 if getattr(estimator, "squared", True) else 1e-3
        low, high = ((1 + (null >= expected.statistic + shift).sum()) / 100 for shift in (ties, -ties))
        assert low <= found.p_value <= high if ties else found.p_value == expected.p_value
        spread = np.std(expected.null) + 1e-12
        assert found.statistic == pytest.approx(expected.statistic, rel=1e-5, abs=1e-4 * spread + 1e-6)
        np.testing.assert_allclose(found.null, expected.null, atol=1e-4 * spread + 1e-6, rtol=1e-5)


def test_points_are_permuted_on_a_gpu_where_bins_are_on_a_cpu(monkeypatch):
    x, y = torch.zeros(20, 2), torch.ones(20, 2)
    monkeypatch.setattr(kernel, "STORED", 30)
    with monkeypatch.context() as patch:
        patch.setattr(kernel, "LARGEST", 30)
        assert any("bins" in note for note in est.two_sample_test(x, y, "mmd", 19).notes)
        patch.setattr(kernel, "most", lambda *_: kernel.ON_GPU)
        with pytest.raises(ValueError, match="40 pooled points are beyond the 30"):
            est.two_sample_test(x, y, "mmd", 19)
    if pairs.is_interpreted():
        monkeypatch.setattr(kernel, "most", lambda *_: kernel.ON_GPU)
        by_tiles(monkeypatch)
        assert est.two_sample_test(x, y, "mmd", 19).p_value == 0.05


@interpreted
def test_the_rows_of_the_benchmark_are_gated(monkeypatch):
    """At sizes that the interpreter can bear; a wrong kernel does not pass."""
    by_tiles(monkeypatch)
    monkeypatch.setattr(permutation_gpu, "PERMUTATIONS", 99)
    bar = Bar(1.0, 0.5, below=True)
    sizes = {"labels": permutation_gpu.Size(40, 0, 3, bar), "bins": permutation_gpu.Size(60, 12, 2, bar)}

    def rows():
        timed = []
        found = list(permutation_gpu.rows(lambda call: timed.append(call()) or 1.0, lambda *row: row, sizes, 30, "cpu"))
        return [row[5] for row in found], [row[6] for row in found], timed

    gates, notes, timed = rows()
    assert gates == [True, True] and "equal to float64's" in notes[0] and "12 bins" in notes[1]
    assert timed[3] == timed[2][1]  # torch's p-value
    given = permute.label_sums
    monkeypatch.setattr(permute, "label_sums", lambda *a, **b: given(*a, **b)._replace(q=1.01 * given(*a, **b).q))
    assert rows()[0] == [False, True]


def test_it_compiles_for_a_gpu_without_spilled_registers_and_in_tf32_only_where_asked(tmp_path):
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    script = Path(__file__).with_name("permute_ptx.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == {name: {"tf32": "tf32" in name, "spilled": 0} for name in found} and len(found) == 8
