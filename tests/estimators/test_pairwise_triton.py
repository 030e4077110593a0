"""The path "triton" where there is no GPU: many tiles, near pairs, what it refuses, and what its compiler makes of it.

What all paths share, values and gradients, is in `test_pairwise.py`; on a GPU see `test_pairwise_gpu.py`.
"""

import importlib.util
import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pair_cases import EPS, clustered, drawn, sums_and_slopes

from divergences import kernels
from estimators.ops import pairwise
from estimators.ops.pairwise import reference, triton

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
interpreted = pytest.mark.skipif(not triton.is_interpreted(), reason="Triton compiles here: see test_pairwise_gpu.py")
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def poisoned():
    """Memory that is not written holds NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@interpreted
@pytest.mark.parametrize("alone", [False, True], ids=["x and y", "x alone"])
@pytest.mark.parametrize(
    ("d", "dtype"),
    [(3, torch.float64), (3, torch.float32), (40, torch.float32), (17, torch.float64)],
    ids=str,
)
def test_tiles_parts_and_problems_add_up(d, dtype, alone, monkeypatch):
    """Blocks of 32 rows, tiles of 16 columns and two parts of them, in a batch."""

    def shares(kind, device, problems, n, m, given):
        given["BN"] = 16
        step = 16 * math.ceil(math.ceil(m / 16) / 2)
        return 32, -(-n // 32), -(-m // step), step

    monkeypatch.setattr(triton, "shares", shares)
    x = drawn(2, 1, 40, d, dtype=dtype)
    y, w = (None, None) if alone else (drawn(2, 35, d, dtype=dtype, seed=1), drawn(35, dtype=dtype, seed=2))
    length = (drawn(2, 1, 1, 1, seed=3).abs() + 1) * d**0.5
    kernel = kernels.Gaussian([length.to(dtype), 2.0 * d**0.5, 1.0 * d**0.5])
    options = {"exclude_self": alone}
    ours = sums_and_slopes(pairwise.row_sums, kernel, x, y, w, path="triton", **options)
    exact = sums_and_slopes(reference.row_sums, kernel, x, y, w, **options)
    assert ours[0].shape == exact[0].shape
    # Rounding of 40 terms, each with an exponent below 16, and of d² by d terms.
    bound = 40 * (16 + d) * torch.finfo(dtype).eps
    for found, expected in zip((ours[0], *ours[1]), (exact[0], *exact[1]), strict=True):
        assert float((found.double() - expected).abs().max()) <= bound * max(1.0, float(expected.abs().max()))
    if y is not None:
        own = drawn(40, dtype=dtype, seed=5)
        found = pairwise.row_moments(kernel, x, y, own, w, shift=0.25, path="triton")
        for part, expected in zip(found, reference.row_moments(kernel, x, y, own, w, shift=0.25), strict=True):
            assert float((part.double() - expected).abs().max()) <= bound * max(1.0, float(expected.abs().max()))


@interpreted
@pytest.mark.parametrize("d", [17, 70])
@pytest.mark.parametrize(
    "kernel",
    [
        kernels.Gaussian(0.02),
        kernels.Gaussian([0.1, 0.02]),
        kernels.Laplace(0.02),
        kernels.RationalQuadratic(0.02, 0.7),
    ],
    ids=lambda kernel: type(kernel).__name__,
)
def test_near_pairs_of_far_clusters_are_taken_again(kernel, d):
    x = clustered(d)
    y = x.flip(0)[:20].contiguous()  # points equal to those of x, in another place
    for other, alone in ((None, True), (y, False)):
        ours = sums_and_slopes(pairwise.row_sums, kernel, x, other, None, exclude_self=alone, path="triton")
        exact = sums_and_slopes(reference.row_sums, kernel, x, other, None, exclude_self=alone)
        assert float((ours[0] / exact[0] - 1).abs().max()) <= 64 * EPS
        for found, expected in zip(ours[1], exact[1], strict=True):
            assert float((found - expected).abs().max()) <= 64 * EPS * float(expected.abs().max())


@interpreted
@pytest.mark.parametrize("d", [4, 40])
def test_an_offset_of_a_million_costs_no_digits(d):
    x, y = (drawn(100, d, dtype=torch.float32, seed=k) + 1e6 for k in (0, 1))  # the inputs themselves are rounded
    for kernel in (kernels.Gaussian(d**0.5), kernels.Laplace(d**0.5)):
        ours = sums_and_slopes(pairwise.row_sums, kernel, x, y, None, path="triton")
        exact = sums_and_slopes(reference.row_sums, kernel, x, y, None)
        assert float((ours[0] / exact[0] - 1).abs().max()) <= 1e-5
        for found, expected in zip(ours[1], exact[1], strict=True):
            assert float((found - expected).abs().max() / expected.abs().max()) <= 1e-5


@interpreted
def test_equal_points_are_at_distance_zero():
    x = drawn(30, 40, dtype=torch.float32) + 5
    kernel = kernels.Laplace(1e-3)  # 0 between the others
    for y in (x, x.clone()):
        assert torch.equal(pairwise.row_sums(kernel, x, y, path="triton"), torch.ones(30))


@interpreted
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")  # to infinity, of which the exponential is 0
def test_lengths_of_each_problem_stay_in_the_numbers():
    """On a GPU nobody reads them first."""
    x = drawn(3, 20, 2, dtype=torch.float32)
    length = torch.tensor([1e-30, 1.0, 1e30]).reshape(3, 1, 1)
    found = triton.sums(kernels.Gaussian(length).terms(), x, None, None, False)
    exact = torch.stack([torch.ones(20), reference.row_sums(kernels.Gaussian(1.0), x[1], x[1]), torch.full((20,), 20)])
    torch.testing.assert_close(found, exact.double(), rtol=20 * EPS, atol=0)


@interpreted
def test_what_is_not_a_number_comes_out():
    for d in (2, 40):
        x = torch.zeros(3, d)
        x[1, 0] = torch.nan
        for form, power in itertools.product(("gaussian", "laplace", "inverse", "rational", "distance"), (1.0, 0.6)):
            assert triton.sums(((form, 1.0, 1.0, power),), x, None, None, False).isnan().all(), (form, d)


def test_tf32_is_for_triton_in_float32_alone():
    x = drawn(20, 40, dtype=torch.float32)
    kernel = kernels.Gaussian(6.0)
    for path in (None, "tiled"):
        with pytest.raises(ValueError, match='precision must be "accurate" for points of torch.float32 on the path'):
            pairwise.row_sums(kernel, x, x, path=path, precision="tf32")
    with pytest.raises(
        ValueError, match='precision must be "accurate" or "tf32": got "fast"'.replace('"fast"', "'fast'")
    ):
        pairwise.row_sums(kernel, x, x, precision="fast")
    if triton.is_interpreted():
        found = pairwise.row_sums(kernel, x, x, path="triton", precision="tf32")  # which the interpreter does not show
        torch.testing.assert_close(found.double(), reference.row_sums(kernel, x, x), rtol=1e-3, atol=0)
        with pytest.raises(ValueError, match='precision must be "accurate" for points of torch.float64'):
            pairwise.row_sums(kernel, x.double(), x.double(), path="triton", precision="tf32")


def test_a_cpu_never_chooses_it_and_it_says_what_keeps_it(monkeypatch):
    x, kernel = drawn(5, 2), kernels.Gaussian(1.0)
    terms = kernel.terms()
    assert pairwise.explain(kernel, x, x).path != "triton"
    assert "more than 32 terms" in triton.why_not(33 * terms, x, x) or not triton.is_interpreted()
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match='path="triton" cannot be taken: the points are not on a CUDA device'):
        pairwise.row_sums(kernel, x, x, path="triton")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert triton.why_not(terms, x, x) == "Triton is not installed"
    torch.testing.assert_close(pairwise.row_sums(kernel, x, x), reference.row_sums(kernel, x, x))


def test_it_compiles_for_a_gpu_and_multiplies_in_tf32_only_where_asked(tmp_path):
    """The interpreter sees neither what does not compile nor Triton's own default, which is TF32."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    script = Path(__file__).with_name("triton_ptx.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    in_tf32 = json.loads(done.stdout)
    assert in_tf32 == {name: "tf32" in name for name in in_tf32} and len(in_tf32) == 8
