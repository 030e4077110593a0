"""Statistics of many labellings: every path against the float64 reference, bounds, equal p-values, tests by bins."""

import itertools
import math
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from scipy import stats

import estimators as est
from divergences import kernels
from estimators.ops import native, permute
from estimators.ops.pairwise import triton
from estimators.ops.permute import reference
from estimators.two_sample import kernel, permutation
from tests.estimators.two_sample_cases import weighted

SIZES = [1, 2, 63, 64, 65, 1000, 1023]
DTYPES = [torch.float32, torch.float64]
TRITON = pytest.mark.skipif(not triton.is_interpreted() or not find_spec("triton"), reason="Triton is not interpreted")
BUILT = pytest.mark.skipif(native.library() is None, reason="the library is not built")


@pytest.fixture(autouse=True)
def poisoned():
    """Memory that is not written holds NaN, or the largest integer."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def labellings(C, N, n=None, seed=1):
    """Uniform ones, with n of N True where that is given."""
    u = torch.rand(C, N, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return u < 0.4 if n is None else u.argsort(-1).argsort(-1) < n


def symmetric(N, dtype=torch.float64, seed=0):
    K = drawn(N, N, seed=seed).to(dtype)
    return K + K.T


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("N", SIZES)
def test_forms_of_masses_are_those_of_the_reference(N, dtype):
    K = symmetric(N, dtype).fill_diagonal_(0)
    v = drawn(5, N, seed=2)
    expected = reference.forms(K, v)
    scale = (v.abs() @ K.double().abs() * v.abs()).sum(-1)
    error = (permute.forms(K, v) - expected).abs()
    assert bool((error <= 4 * math.sqrt(N) * torch.finfo(dtype).eps * scale).all())
    halves = sum(permute.forms(K[:, part], v, part) for part in (slice(0, N // 2), slice(N // 2, N)))
    assert bool(((halves - expected).abs() <= 4 * math.sqrt(N) * torch.finfo(dtype).eps * scale).all())


@BUILT
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("C", [1, 7, 101])
@pytest.mark.parametrize("N", SIZES)
def test_forms_of_a_matrix_of_whole_steps_are_exact(N, C, dtype):
    """Entries are integers and the largest is the number of steps, so that nothing is rounded."""
    steps = permute.integers.STEPS
    K = torch.randint(-steps, steps + 1, (N, N), generator=torch.Generator().manual_seed(3)).triu(1).double()
    K = (K + K.T).fill_diagonal_(float(steps))
    labels = labellings(C, N)
    labels[0] = True
    for given, shift in ((K, 0.0), (K + 5.0, 5.0)):
        found = permute.rounded(given.to(dtype), shift)
        assert found.squares == 0
        assert torch.equal(found.forms(labels), reference.forms(K, 2.0 * labels - 1))
        torch.testing.assert_close(found.rows, K.fill_diagonal_(0).sum(-1), rtol=1e-5, atol=1e-5 * steps)
        K.fill_diagonal_(float(steps))


@BUILT
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("N", SIZES)
def test_forms_are_those_of_the_symmetric_part_within_half_a_step_an_entry(N, dtype):
    """Of a matrix that is not symmetric, in rows of a larger one."""
    K = (drawn(N, N + 3).to(dtype))[:, :N]
    labels = labellings(9, N)
    found = permute.rounded(K, 0.25)
    expected = reference.forms((K.double() + K.T.double()) / 2 - 0.25, 2.0 * labels - 1)
    error = (found.forms(labels) - expected).abs()
    assert bool(
        (error <= N * N * (found.step / 2 + found.rest) * 4 + 1e-9).all()
    )  # Σ|E_ij| and the correction by its rows


MATRICES = {
    "Gaussian": lambda z: kernels.Gaussian(1.5)(z, z),
    "narrow": lambda z: kernels.Gaussian(0.05)(z, z),
    "heavy tails": lambda z: -torch.cdist(z, z) * (1 + z.abs().sum(-1)) ** 4,
    "ties": lambda z: (z.sign() @ z.sign().T > 0).to(z.dtype) + 0.3,
    "offset": lambda z: kernels.Gaussian(1.5)(z, z) + 1e3,
}


@BUILT
@pytest.mark.parametrize("n", [100, 200, 20])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", MATRICES)
def test_the_bound_holds_for_random_labellings(name, dtype, n):
    """The probability of a failure is 1e-12; the deviation in it is that of the errors."""
    N = 400
    K = MATRICES[name](drawn(N, 2)).to(dtype)
    labels = labellings(500, N, n)
    found = permute.rounded(K, float(K.mean()))
    expected = reference.forms((K.double() + K.T.double()) / 2 - float(K.mean()), 2.0 * labels - 1)
    error = found.forms(labels) - expected
    assert float(error.abs().max()) <= found.bound(n)
    if math.isfinite(found.bound(n)) and found.squares > 1:
        sigma = math.sqrt(2) * (found.step * math.sqrt(2 * found.squares) + N * found.rest) * 4 * n * (N - n) / N**2
        assert float(error.std()) <= 1.3 * sigma  # in the bound, and of 500 labellings
        assert 30 * sigma < found.bound(n) < 3000 * sigma


@BUILT
def test_the_bound_is_useful():
    z = drawn(1000, 10).float()
    K = kernels.Gaussian(10**0.5)(z, z)
    found, labels = permute.rounded(K, float(K.mean())), labellings(200, 1000, 500)
    assert found.bound(500) < 0.01 * float(found.forms(labels).std())


@BUILT
def test_a_matrix_without_variation_or_that_is_not_finite_has_no_bound():
    for value, shift in ((1.0, 1.0), (0.0, 0.0), (math.nan, 0.0), (math.inf, 0.0), (1e-35, 0.0)):
        assert permute.rounded(torch.full((70, 70), value), shift).bound(35) == math.inf
    assert permute.rounded(torch.eye(9)).bound(0) == math.inf


@BUILT
@pytest.mark.parametrize("K, why", [
    (torch.ones(3, 4), "one square matrix"),
    (torch.ones(4, 4).half(), "float16"),
    (drawn(4, 4).T, "strides"),
    (torch.ones(0, 0), "one square matrix"),
])  # fmt: skip
def test_a_matrix_that_the_library_does_not_take_is_refused(K, why):
    assert permute.explain(K).path == "product"
    with pytest.raises(ValueError, match=why):
        permute.rounded(K)


def problems():
    """Samples of unequal size and kernels with few values, heavy tails and none of these."""
    for seed in range(6):
        g = np.random.default_rng([21, seed])
        for n, m in ((40, 40), (50, 23)):
            shift = 0.1 * seed
            yield est.MMD(), g.normal(size=(n, 2)), g.normal(size=(m, 2)) + shift
            yield est.MMD(kernels.Gaussian(0.1), "biased"), g.normal(size=(n, 2)), g.normal(size=(m, 2)) + shift
            yield est.EnergyDistance(), g.standard_cauchy((n, 1)), g.standard_cauchy((m, 1)) + shift
            yield est.MMD(), g.integers(0, 2, (n, 1)), g.integers(0, 2, (m, 1))
            yield est.MMD("laplace", "biased", squared=False), g.normal(size=(n, 3)), g.normal(size=(m, 3)) + shift


@BUILT
@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("stop", [False, True])
def test_p_values_are_those_without_bounds(stop, single, monkeypatch):
    monkeypatch.setattr("estimators.intervals.monte_carlo", lambda *_: (0.0, 1.0))
    if single:
        monkeypatch.setattr(kernel, "DOUBLE", 0)
    sure = []
    whole = permutation._compared

    def compared(statistic, labels, found):
        low, high = statistic.bounds(labels)
        limit = (found[0] if len(found) else statistic.evaluate(labels[:1])[0]) - statistic.rounding
        sure.append(float(((low > limit) | (high < limit)).double().mean()))
        return whole(statistic, labels, found)

    for estimator, x, y in problems():
        options = {"permutations": 199, "early_stopping": stop}
        monkeypatch.setattr(kernel, "_FEWEST", 10**9)
        expected = est.two_sample_test(x, y, estimator, **options)
        with monkeypatch.context() as patch:
            patch.setattr(kernel, "_FEWEST", 2)
            patch.setattr(permutation, "_compared", compared)
            found = est.two_sample_test(x, y, estimator, **options)
        assert (found.p_value, found.permutations) == (expected.p_value, expected.permutations)
        assert found.statistic == pytest.approx(expected.statistic, rel=1e-5, abs=1e-6 if single else 1e-12)
        spread = np.std(expected.null)
        np.testing.assert_allclose(found.null, expected.null, atol=0.1 * spread + 1e-6, rtol=0)
    assert np.median(sure) > 0.9  # few labellings are evaluated by the whole matrix


@BUILT
def test_an_observed_value_that_the_bounds_miss_is_found():
    """They hold for labels that do not look at the rounding; the observed one is evaluated, and compared anew."""
    values = torch.tensor([5.0, 4.0, 4.9, 5.1, 1.0], dtype=torch.float64)

    def bounds(labels):
        of = values[labels.squeeze(-1)] + torch.where(labels.squeeze(-1) == 0, -3.0, 0.0)
        return of - 0.2, of + 0.2

    asked = []

    def evaluate(labels):
        asked.extend(labels.squeeze(-1).tolist())
        return values[labels.squeeze(-1)]

    fake = permutation.Statistic(evaluate, 10, bounds=bounds)
    found = permutation.values(fake, torch.arange(5)[:, None], ranked=True)
    assert torch.equal(found, values) and sorted(asked) == [0, 2, 3]


def test_designs_and_weights_are_evaluated_by_the_whole_matrix(monkeypatch):
    monkeypatch.setattr(kernel, "_FEWEST", 2)
    monkeypatch.setattr(kernel, "_bounds", None)
    x, y, options = weighted(np.random.default_rng(15))
    est.two_sample_test(x, y, "mmd", 19, **options)
    est.two_sample_test(x, x + 1, "mmd", 19, strata=(range(12), range(12)))
    est.two_sample_test(x, x + 1, "mmd", 19, clusters=(np.arange(12) // 2, 10 + np.arange(12) // 2))


BINNED = {
    "gaussian": kernels.Gaussian(2.0),
    "several": kernels.Laplace([1.5, 3.0]),
    "distance": kernel.of_distance(kernels.DistanceInduced(0.7)),
    "energy": kernels.DistanceInduced(),
    "polynomial": kernels.Polynomial(2, 1.0),
    "callable": lambda x, y: (x @ y.mT).tanh(),
}


SIZES_OF_BINS = [[1], [63, 1], [64] * 3, [65, 64, 65], [100] * 10, [33] * 31]
BY_BINS = [
    pytest.param(name, sizes, path, marks={"tiled": (), "native": BUILT, "triton": TRITON}[path])
    for name, sizes, path in itertools.product(BINNED, SIZES_OF_BINS, ("tiled", "native", "triton"))
    if path != "triton" or name == "gaussian" or len(sizes) < 10  # many bins take the interpreter seconds
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name, sizes, path", BY_BINS)
def test_sums_over_pairs_of_bins_are_those_of_the_reference(name, sizes, dtype, path):
    given, points, sizes = BINNED[name], drawn(sum(sizes), 3).to(dtype), torch.tensor(sizes)
    by = {"native": permute.bins, "triton": permute.triton}
    if path != "tiled" and (why := by[path].why_not(given, points, None)):
        with pytest.raises(ValueError, match="cannot be taken"):
            permute.bin_sums(given, points, sizes, path=path)
        assert why and name not in ("gaussian", "several", "distance")
        return
    for weights in (None, drawn(len(points), seed=4).abs().to(dtype)):
        found = permute.bin_sums(given, points, sizes, weights, path=path)
        expected = reference.bin_sums(given, points, sizes, weights)
        scale = reference.bin_sums(lambda x, y: given(x, y).abs() + 10, points, sizes, weights)
        assert bool(((found - expected).abs() <= 64 * torch.finfo(dtype).eps * scale).all())


# The paths, an offset of the points, and by how much k may change where d² is rounded.
LABELLED = {
    "gaussian": (["tiled", "triton"], 0.0, 1.0),
    "several": (["tiled", "triton"], 0.0, 1.0),
    "distance": (["tiled", "triton"], 1e6, 10.0),
    "polynomial": (["tiled"], 0.0, 100.0),
    "callable": (["tiled"], 0.0, 10.0),
}


@pytest.mark.parametrize("name, path", [
    pytest.param(name, path, marks=TRITON if path == "triton" else ())
    for name, (paths, *_) in LABELLED.items() for path in paths
])  # fmt: skip
@pytest.mark.parametrize("d, dtype", [(3, torch.float32), (3, torch.float64), (40, torch.float32)], ids=str)
@pytest.mark.parametrize("N", [1, 2, 63, 65, 1000])
def test_sums_of_labellings_are_those_of_the_reference(N, d, dtype, name, path):
    """Of points, weights and labels with strides; among the labellings one of one label, and one of two."""
    given, (_, offset, size) = BINNED[name], LABELLED[name]
    points = (drawn(N, 2 * d)[:, ::2] * 3**0.5 / d**0.5 + offset).to(dtype)
    labels = torch.cat([torch.ones(2, 2 * N, dtype=torch.bool), labellings(5, 2 * N)])[:, ::2]
    labels[1, 0] = False
    for weights in (None, drawn(2 * N, seed=4).abs().to(dtype)[::2]):
        found = permute.label_sums(given, points, labels, weights, shift=0.25, path=path)
        expected = reference.label_sums(given, points, labels, weights, shift=0.25)
        r = torch.ones(N, dtype=torch.float64) if weights is None else weights.double()
        bound = (16 + d) * torch.finfo(dtype).eps * size * float(r.sum()) ** 2
        for ours, exact in zip(found, expected, strict=True):
            assert ours.dtype == torch.float64 and ours.shape == exact.shape
            assert float((ours - exact).abs().max()) <= bound


def test_which_path_sums_over_pairs_take():
    points, given = drawn(5, 2), BINNED["gaussian"]
    assert permute.explain_label_sums(given, points) == ("tiled", "the points are not on a CUDA device")
    assert permute.explain_bin_sums(BINNED["callable"], points).path == "tiled"
    assert "more than a function of" in permute.explain_bin_sums(BINNED["energy"], points).why
    if native.library() is not None:
        assert permute.explain_bin_sums(given, points).path == "native"


def labelled(*given, name="gaussian", **options):
    return permute.label_sums(BINNED[name], *given, **options)


def summed(points, weights=None, **options):
    return permute.bin_sums(BINNED["gaussian"], points, torch.tensor([5]), weights, **options)


@pytest.mark.parametrize("call, message", [
    (lambda x, v: labelled(x, v[:, :4]), r"labels must be booleans \(C, 5\), one a point"),
    (lambda x, v: labelled(x, v.double()), r"labels must be booleans .*got torch.float64"),
    (lambda x, v: labelled(x, v, x[:4, 0]), r"weights must be \(5,\), one a point"),
    (lambda x, v: labelled(x[0], v), r"points must be \(N, d\)"),
    (lambda x, v: labelled(x, v, path="native"), 'path must be None, "triton" or "tiled"'),
    (lambda x, v: labelled(x, v, precision="tf32"), "precision must be"),
    (lambda x, v: labelled(x, v, name="energy", path="triton"), 'path="triton" cannot be taken'),
    (lambda x, v: summed(x, x[:4, 0]), r"weights must be \(5,\)"),
    (lambda x, v: summed(x, path="fast"), 'path must be None, "native"'),
    (lambda x, v: permute.forms(x @ x.T, v[:, :4].double()), r"v must be \(C, N\), and its columns those of K"),
    (lambda x, v: permute.forms(x @ x.T, v.double(), slice(0, 2)), r"v must be \(C, N\), and its columns those of K"),
    pytest.param(lambda x, v: permute.rounded(x @ x.T).forms(v[:, :4]), "labels must be booleans", marks=BUILT),
])  # fmt: skip
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(drawn(5, 2), labellings(3, 5))


def test_sizes_that_do_not_fit_are_refused():
    for sizes in ([2, 2], [0, 3]):
        with pytest.raises(ValueError, match="sizes must be positive and add up to the 3 points"):
            permute.bin_sums(kernels.Gaussian(1.0), drawn(3, 1), torch.tensor(sizes))


@pytest.mark.parametrize(
    "statistic",
    [
        "mmd",
        "energy_distance",
        est.MMD("laplace", "biased"),
        est.MMD("polynomial"),
        est.MMD("gaussian", "biased", squared=False),
    ],
    ids=repr,
)
def test_the_statistic_of_bins_is_that_of_points(statistic):
    g = np.random.default_rng(16)
    x, y = g.normal(size=(50, 2)), g.normal(size=(41, 2)) + 0.5
    w, v = g.exponential(size=50), g.exponential(size=41)
    for options in ({}, {"x_weights": w, "y_weights": v, "normalize": True}):
        points = est.two_sample_test(x, y, statistic, 19, bins=0, **options)
        for bins in (10, 30, 91, 200):
            test = est.two_sample_test(x, y, statistic, 19, bins=bins, **options)
            assert test.statistic == pytest.approx(points.statistic, rel=1e-9, abs=1e-12)
            assert len(set(test.null)) > 10 and any("bins of" in note for note in test.notes)


def test_a_bin_of_one_point_is_a_permutation_of_points():
    """The same labellings of the same points, in another order."""
    g = np.random.default_rng(17)
    x, y = g.normal(size=(7, 2)), g.normal(size=(5, 2))
    nulls = [sorted(set(np.round(est.two_sample_test(x, y, "mmd", 8000, bins=b).null, 10))) for b in (0, 12)]
    assert len(nulls[0]) == math.comb(12, 5)
    np.testing.assert_allclose(nulls[0], nulls[1], atol=1e-9)


def plain(g):
    return g.normal(size=(13, 1)), g.normal(size=(22, 1)), {"bins": 12}


def even(g):
    return g.normal(size=(24, 1)), g.normal(size=(24, 1)), {"bins": 12}


def heavy(g):
    return g.standard_cauchy((16, 1)), g.standard_cauchy((20, 1)), {"bins": 9, "early_stopping": True}


def stratified(g):
    ids = np.repeat([0, 1], [15, 9]), np.repeat([0, 1], [8, 14])
    return *((5.0 * i + g.normal(size=len(i)))[:, None] for i in ids), {"bins": 23, "strata": ids}


def with_weights(g):
    x, y, options = weighted(g)
    return x, y, {"bins": 10, **options}


@pytest.mark.parametrize("null", [plain, even, heavy, stratified, with_weights])
@pytest.mark.parametrize("statistic", ["mmd", "energy_distance"])
def test_the_level_of_bins_is_exact(statistic, null, monkeypatch):
    monkeypatch.setattr("estimators.intervals.monte_carlo", lambda *_: (0.0, 1.0))
    draws, p = 400, []
    for draw in range(draws):
        x, y, options = null(np.random.default_rng([19, draw]))
        p.append(est.two_sample_test(x, y, statistic, 39, seed=draw, **options).p_value)
    p = np.array(p)
    for alpha in (0.05, 0.2, 0.5):
        error = math.sqrt(alpha * (1 - alpha) / draws)
        assert (p <= alpha).mean() <= alpha + 4 * error
        # Few labellings are ties of the observed one: with seven bins of 3 points and four of 3, one of 330.
        assert null is heavy or (p <= alpha).mean() >= alpha - 4 * error - 1 / 39
    if null is even:  # a p-value is uniform on the multiples of 1/40
        assert stats.chisquare(np.bincount((8 * p - 1e-9).astype(int), minlength=8)).pvalue > 1e-3


def test_bins_of_the_strata_of_sites_keep_to_them():
    ids = np.repeat([0, 1], [15, 9]), np.repeat([0, 1], [8, 14])
    g = np.random.default_rng(20)
    x, y = ((50.0 * i + g.normal(size=len(i)))[:, None] for i in ids)
    without, within = (est.two_sample_test(x, y, "mmd", 99, bins=23, **of) for of in ({}, {"strata": ids}))
    assert without.p_value < within.p_value


@pytest.mark.parametrize("n, m, units", [(6500, 6500, 512), (12_000, 500, 512), (300, 20_000, 1000)])
def test_more_points_than_are_kept_are_permuted_in_bins(n, m, units):
    g = torch.Generator().manual_seed(5)
    x, y = torch.randn(n, 2, generator=g), torch.randn(m, 2, generator=g) + 0.3
    test = est.two_sample_test(x, y, est.MMD(kernels.Gaussian(1.0)), 99)
    (note,) = (note for note in test.notes if "bins" in note)
    count = int(note.split(" bins")[0].split()[-1])
    assert units <= count <= 1.5 * units and f"as {n + m} pooled points are more than 12000: the level is exact" in note
    assert test.p_value == 0.01
    value = est.MMD(kernels.Gaussian(1.0)).value(x.double(), y.double())
    assert test.statistic == pytest.approx(float(value), rel=1e-4)


x20 = np.random.default_rng(12).normal(size=(20, 2))
ids20 = np.repeat(np.arange(5), 4)


@pytest.mark.parametrize("options, message", [
    ({"statistic": "sliced_wasserstein", "bins": 8}, r"sums over pairs, mmd.*got 'sliced_wasserstein'"),
    ({"statistic": "mmd_agg", "bins": 8}, "got 'mmd_agg'"),
    ({"statistic": est.MMD(statistic="block"), "bins": 8}, "sums over pairs"),
    ({"bins": 3}, r"bins must be None, 0 or between 4 and 4096: got 3"),
    ({"bins": 5000}, r"between 4 and 4096: got 5000"),
    ({"bins": 4.5}, r"got 4.5"),
    ({"bins": 8, "clusters": (ids20, ids20 + 5)}, "permuted in bins: clusters are labelled as a whole"),
    ({"bins": 4, "y": x20[:3]}, "x or y has fewer points than a bin"),
    ({"bins": 4, "strata": (range(20), range(20))}, "x or y has fewer points than a bin"),
])  # fmt: skip
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        est.two_sample_test(**({"x": x20, "y": x20 + 0.0, "statistic": "mmd", "permutations": 19} | options))


def test_designs_without_bins_are_refused_beyond_what_is_permuted_by_points(monkeypatch):
    monkeypatch.setattr(kernel, "STORED", 30)
    clusters = ids20, ids20 + 5
    test = est.two_sample_test(x20, x20, "mmd", 19, clusters=clusters)
    assert any("made anew" in note for note in test.notes)
    monkeypatch.setattr(kernel, "LARGEST", 30)
    with pytest.raises(ValueError, match="40 pooled points are too many to be permuted one by one"):
        est.two_sample_test(x20, x20, "mmd", 19, clusters=clusters)
    with pytest.raises(ValueError, match="40 pooled points are beyond the 30"):
        est.two_sample_test(x20, x20, "mmd", 19, bins=0)
