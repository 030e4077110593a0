"""Nearest neighbours: the published formulas, counts against loops, ties, and no interval that hides a bias."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist
from scipy.special import digamma, gamma

import divergences as dv
import estimators as est
from divergences import testing
from estimators.classical import neighbors, on_device
from estimators.classical.neighbors import METRICS, dimension, nearest, nearest_others, within
from estimators.ops import native


def brute(x, y, k):
    own = np.sort(np.linalg.norm(x[:, None] - x[None], axis=-1), -1)[:, k]
    other = np.sort(np.linalg.norm(x[:, None] - y[None], axis=-1), -1)[:, k - 1]
    return x.shape[1] * np.log(other / own).mean() + math.log(len(y) / (len(x) - 1))


@pytest.mark.parametrize("k", [1, 5])
def test_value_is_the_published_formula(k):
    g = np.random.default_rng(0)
    x, y = g.normal(size=(40, 3)), g.normal(size=(55, 3)) + 0.5
    assert est.NearestNeighbor(k=k)(x, y) == pytest.approx(brute(x, y, k), rel=1e-10)
    assert est.NearestNeighbor("reverse_kl", k)(x, y) == pytest.approx(brute(y, x, k), rel=1e-10)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("name", ["kl", "reverse_kl", "jeffreys", "squared_hellinger", "chi2"])
def test_where_the_points_are_gives_the_same(name, metric):
    g = np.random.default_rng(0)
    x, y = (torch.from_numpy(p) for p in (g.normal(size=(300, 3)), g.normal(size=(250, 3)) + 0.5))
    estimator = est.NearestNeighbor(name, (4, 5), metric)
    found = on_device.total(x, y, estimator.sides, (4, 5), metric)
    assert found == pytest.approx(float(estimator(x, y)), rel=1e-12)
    x, y = x.half()[:200], y.half()[:100]
    found = on_device.total(x, y, estimator.sides, (4, 5), metric)
    assert found == pytest.approx(float(estimator(x.double(), y.double())), rel=1e-5)  # distances in float32


def test_what_the_cpu_has_to_decide_is_left_to_it():
    """Ties within a sample and between both, and what is refused: repeats, a column of few values, a plane."""
    sides = est.NearestNeighbor().sides
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(2000, 3, generator=g) for _ in range(2))

    def total(x, y):
        return on_device.total(x, y, sides, (5, 5), "euclidean")

    assert total(x, y) is not None
    twice, few, flat, copies = (y.clone() for _ in range(4))
    twice[1] = x[1]
    few[:, 1] = few[:, 1] > 0
    flat[:, 2] = flat[:, 0] - flat[:, 1]
    copies[500:1500] = copies[0]
    copies[1500:] += 1
    stretched = flat + 1e-4 * torch.randn(2000, 3, generator=g)
    stretched[1] = torch.tensor([1e6, 0.0, 1e6])  # by one point alone, which a part does not have
    assert total(torch.cat([x, x[:1]]), y) is None and total(x, twice) is None
    assert total(1e38 * x, 1e38 * y) is None  # distances in single precision overflow
    for refused in (few, flat, stretched, copies[:1800]):
        assert total(x, refused) is None
        with pytest.raises(ValueError):
            est.NearestNeighbor()(x, refused)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["kl", "jeffreys", "squared_hellinger", "js"])
def test_a_gpu_gives_the_value_of_the_cpu(name):
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 3000, 20, generator=g), torch.randn(1, 2500, 20, generator=g) + 0.2
    estimator = est.NearestNeighbor(name)
    found = estimator(x.cuda(), y.cuda())
    assert found.is_cuda
    # Twenty times the logarithm of a distance in single precision, and the mean of thousands of these.
    torch.testing.assert_close(found.cpu(), estimator(x, y), rtol=20 * 2**-23, atol=20 * 2**-23)
    x[:, :10] = y[:, :10]
    torch.testing.assert_close(estimator(x.cuda(), y.cuda()).cpu(), estimator(x, y), rtol=20 * 2**-23, atol=20 * 2**-23)


def sorted_distances(x, y, metric="euclidean"):
    """To the others of x, and to y."""
    own = np.sort(cdist(x, x, metric), 1)[:, 1:]
    return own, np.sort(cdist(x, y, metric), 1)


@pytest.mark.parametrize("metric", ["cityblock", "chebyshev"])
@pytest.mark.parametrize("d", [3, 12])
def test_two_numbers_of_neighbours_and_other_metrics(metric, d):
    g = np.random.default_rng(4)
    x, y = g.normal(size=(60, d)), g.normal(size=(45, d)) + 0.3
    own, other = sorted_distances(x, y, metric)
    expected = d * np.log(other[:, 6] / own[:, 1]).mean() + math.log(45 / 59) + digamma(2) - digamma(7)
    assert est.NearestNeighbor("kl", (2, 7), metric)(x, y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("alpha", [0.7, 1.4, 2.0, 3.0])
def test_powers_are_the_published_formula(alpha):  # Póczos and Schneider 2011; alpha = 2 is half of Pearson's χ²
    g = np.random.default_rng(5)
    x, y, (kx, ky) = g.normal(size=(70, 2)), g.normal(size=(50, 2)) * 1.2, (4, 6)
    own, other = sorted_distances(x, y)
    ratio = (other[:, ky - 1] / own[:, kx - 1]) ** 2 * 50 / 69
    factor = gamma(kx) * gamma(ky) / (gamma(kx - alpha + 1) * gamma(ky + alpha - 1))
    power = factor * (ratio ** (alpha - 1)).mean()  # ∫ p^α q^{1−α}
    found = est.NearestNeighbor(dv.Alpha(alpha), (kx, ky))
    assert found(x, y) == pytest.approx((power - 1) / (alpha * (alpha - 1)), rel=1e-9)
    renyi = est.NearestNeighbor(dv.get("renyi", alpha=alpha), (kx, ky))
    assert renyi(x, y) == pytest.approx(math.log(power) / (alpha - 1), rel=1e-9)
    reversed_ = est.NearestNeighbor(dv.Alpha(1 - alpha), (ky, kx))
    assert reversed_(y, x) == pytest.approx(found(x, y), rel=1e-9)
    if alpha == 2:
        assert est.NearestNeighbor("chi2", (kx, ky))(x, y) == pytest.approx(power - 1, rel=1e-9)


def test_hellinger_is_the_mean_of_both_sides():
    g = np.random.default_rng(6)
    x, y, k = g.normal(size=(70, 1)), g.normal(size=(50, 1)) * 1.2, 4

    def affinity(x, y):
        own, other = sorted_distances(x, y)
        ratio = other[:, k - 1] / own[:, k - 1] * len(y) / (len(x) - 1)
        return gamma(k) ** 2 / (gamma(k + 0.5) * gamma(k - 0.5)) * (ratio**-0.5).mean()

    expected = 2 - affinity(x, y) - affinity(y, x)  # ∫(√p − √q)² = 2 − 2∫√(pq)
    assert est.NearestNeighbor("squared_hellinger", k)(x, y) == pytest.approx(expected, rel=1e-9)
    assert est.NearestNeighbor("hellinger", k)(x, y) == pytest.approx(math.sqrt(max(expected, 0) / 2), rel=1e-9)
    assert est.NearestNeighbor("bhattacharyya", k)(x, y) == pytest.approx(-math.log(1 - expected / 2), rel=1e-9)


def mixed_js(share, prior):
    """The contribution of a point to JS·2 where x has that share and that prior: by entropies."""
    p, q = share / prior, (1 - share) / (1 - prior)
    middle = (p + q) / 2
    return sum(a * math.log(a / middle) for a in (p, q) if a > 0)


def test_js_by_counts_is_a_loop():
    g = np.random.default_rng(7)
    n, m, k = 40, 30, 6
    x, y = g.normal(size=(n, 2)), g.normal(size=(m, 2)) + 0.5
    pooled, prior = np.concatenate([x, y]), n / (n + m)
    total = 0.0
    for i, row in enumerate(cdist(pooled, pooled)):
        near = [j for j in np.argsort(row) if j != i][:k]
        count = sum(j < n for j in near)
        share = (count + 0.5) / (k + 1)
        r = share / (1 - share) * (1 - prior) / prior
        if i < n:
            total += math.log(2 * r / (1 + r)) / n  # 2f'(r)
        else:
            total -= math.log((1 + r) / 2) / m  # 2f*(f'(r))
        rise = sum(stats.binom.pmf(c, k, share) * mixed_js(c / k, prior) for c in range(k + 1))
        total += (rise - mixed_js(share, prior)) / (n + m)
    assert est.NearestNeighbor("js", k)(x, y) == pytest.approx(total / 2, rel=1e-9)


def test_neighbours_in_many_dimensions_and_among_copies():
    g = np.random.default_rng(8)
    x = 1e3 + g.normal(size=(50, 20))
    x[7] = x[3]
    distance, index = nearest(x, x, 4, "euclidean")
    expected = np.sort(cdist(x, x), 1)[:, :4]
    np.testing.assert_allclose(distance, expected, atol=1e-12)
    assert distance[7, 1] == 0.0  # although x² + y² − 2xy is not 0 there
    np.testing.assert_allclose(np.linalg.norm(x[index] - x[:, None], axis=-1), distance, rtol=22 * 2**-52)  # of d + 2
    copies = np.repeat(g.normal(size=(3, 2)), 8, axis=0)
    distance, index = nearest_others(copies, 7, "euclidean")
    assert (distance == 0).all() and (index != np.arange(24)[:, None]).all()
    assert (within(copies, copies[:1], np.zeros(1), "euclidean") == 8).all()


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("k", [1, 9])
def test_the_tree_and_all_distances_agree(monkeypatch, k, metric):
    x, y = np.random.default_rng(9).normal(size=(2, 80, 3))
    own, other = sorted_distances(x, y, metric)
    for tree in (True, False):
        monkeypatch.setattr(neighbors, "by_tree", lambda points, tree=tree: tree)
        distance, index = nearest(y, x, k, metric)
        np.testing.assert_allclose(distance, other[:, :k], rtol=1e-14)
        np.testing.assert_array_equal(index, np.argsort(cdist(x, y, metric), 1)[:, :k])
        np.testing.assert_allclose(nearest_others(x, k, metric)[0], own[:, :k], rtol=1e-14)
    for library, d in ((None, 6), (object(), 4)):
        monkeypatch.undo()
        monkeypatch.setattr(native, "library", lambda library=library: library)
        assert neighbors.by_tree(np.zeros((10, d))) and not neighbors.by_tree(np.zeros((10, d + 1)))


LAWS = ("order_of_points", "batch_is_loop", "same_kind", "no_side_effects", "float32", "complete_estimate")
CASES = {
    "js": (est.NearestNeighbor("js"), dv.js),
    "total_variation": (est.NearestNeighbor("total_variation"), dv.total_variation),
    "le_cam": (est.NearestNeighbor("le_cam"), dv.le_cam),
    "squared_hellinger": (est.NearestNeighbor("squared_hellinger"), dv.squared_hellinger),
    "renyi": (est.NearestNeighbor(dv.get("renyi", alpha=0.7)), lambda p, q: dv.renyi(p, q, alpha=0.7)),
    "jeffreys": (est.NearestNeighbor("jeffreys", (3, 5)), dv.jeffreys),
    "weighted": (est.NearestNeighbor("kl", weighted=True), dv.kl),
    "own": (est.NearestNeighbor(dv.FDivergence.from_f(lambda u: (u - 1) ** 2 / (u + 1), "mine"), 7), dv.le_cam),
}


@pytest.mark.parametrize("name", CASES)
def test_laws(name):
    estimator, truth = CASES[name]
    testing.check_estimator(estimator, laws=LAWS, examples=5)
    if name != "own":
        testing.check_estimator(estimator, laws=["error_shrinks"], truth=truth, rate=0.4, d=1, examples=2)


@pytest.mark.parametrize(("name", "upper"), [("js", math.log(2)), ("total_variation", 1.0), ("le_cam", 2.0)])
def test_counts_of_disjoint_and_of_equal_laws(name, upper):
    g = np.random.default_rng(9)
    x, y, z = g.normal(size=(400, 2)), g.normal(size=(500, 2)), g.normal(size=(500, 2)) + 50
    assert est.NearestNeighbor(name)(x, z) == pytest.approx(upper, rel=0.03)  # shares stop ½/(k + 1) short of 0 and 1
    equal = est.NearestNeighbor(name).estimate(x, y)
    assert abs(equal.value) <= 4 * equal.stderr + 0.01 * upper


@pytest.mark.parametrize("name", ["js", "squared_hellinger"])
def test_other_intervals_cover(name):
    P, Q = stats.t(4), stats.norm(0.6, 1.3)
    truth, covered, printed, z = getattr(dv, name)(P, Q), 0, 0, []
    for seed in range(25):
        x, y = P.rvs((800, 1), random_state=seed), Q.rvs((600, 1), random_state=1000 + seed)
        e = est.NearestNeighbor(name).estimate(x, y)
        z.append((e.value - truth) / e.stderr)
        if e.interval is not None:
            printed += 1
            covered += e.interval[0] <= truth <= e.interval[1]
    assert printed >= 12 and covered >= 0.95 * printed - 3 * math.sqrt(0.95 * 0.05 * printed)
    assert 0.5 < np.std(z) < 1.5  # the standard error is that of the values


def test_weights_cancel_bias():
    errors = {False: [], True: []}
    for seed in range(12):
        g = np.random.default_rng(seed)
        x, y = g.normal(size=(800, 7)), g.normal(size=(800, 7)) * math.sqrt(1.6) + 0.3
        truth = 7 / 2 * (1 / 1.6 - 1 + math.log(1.6) + 0.09 / 1.6)
        for weighted, found in errors.items():
            found.append(est.NearestNeighbor("kl", weighted=weighted)(x, y) - truth)
    bias = {weighted: abs(np.mean(found)) for weighted, found in errors.items()}
    assert bias[True] < 0.6 * bias[False]


def test_what_cannot_be_seen_has_no_interval():
    g = np.random.default_rng(10)
    x, y = g.normal(size=(1000, 1)), g.normal(size=(1000, 1)) + 3
    e = est.NearestNeighbor("kl").estimate(x, y)  # KL is 4.5
    assert e.interval is None and any(note.startswith("saturated") for note in e.notes)
    heavy = stats.t(3).rvs((1000, 1), random_state=0)  # KL is 0.30, of which the tails beyond y are the larger part
    e = est.NearestNeighbor("kl").estimate(heavy, math.sqrt(2) * x + 0.5)
    assert e.interval is None and any("beyond the other sample" in note for note in e.notes)
    laplace = g.laplace(size=(1000, 1))
    e = est.NearestNeighbor("chi2").estimate(laplace, x)  # infinite
    assert e.interval is None and any("may be infinite" in note for note in e.notes)


@pytest.mark.parametrize(("d", "k"), [(1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (5, 5)])
def test_the_dimension_that_neighbours_are_spread_in(d, k):
    g = np.random.default_rng(21)
    cloud = g.normal(size=(1000, k)) @ np.linalg.qr(g.normal(size=(d, d)))[0][:k]  # k dimensions, turned in d
    for metric in ("euclidean", "cityblock", "chebyshev"):
        assert dimension(cloud, metric) == pytest.approx(k, rel=0.1)


def test_points_on_a_curve_are_noted_by_distances():
    g = np.random.default_rng(22)
    turns = [g.vonmises(mean, 1, (1000, 1)) for mean in (0, 0.5)]
    x, y = (np.concatenate([np.cos(t), np.sin(t)], 1) for t in turns)
    for name in ("kl", "squared_hellinger"):
        e = est.NearestNeighbor(name).estimate(x, y)
        assert e.interval is None and any("dimensions and the value takes 2" in note for note in e.notes)
    factor = math.log(1000 / 999)  # d log(ν/ρ) with twice the d
    line = est.NearestNeighbor()(*turns)
    assert est.NearestNeighbor()(x, y) - factor == pytest.approx(2 * (line - factor), abs=0.03)
    for e in (est.NearestNeighbor("js").estimate(x, y), est.NearestNeighbor().estimate(*turns)):
        assert not any("dimensions and" in note for note in e.notes)


def test_consistent_in_low_dimension():
    g = np.random.default_rng(1)
    errors = [
        abs(np.mean([est.NearestNeighbor()(g.normal(size=(n, 1)), g.normal(size=(n, 1)) + 1) for _ in range(20)]) - 0.5)
        for n in (100, 1000, 10_000)
    ]
    assert errors[2] < 0.02 and errors[2] < errors[0]


def test_ties_are_counted_and_noted():
    g = np.random.default_rng(2)
    x = np.concatenate([g.normal(size=160), np.full(40, 1000.0)])[:, None]  # an atom far from the rest, in both
    y = np.concatenate([g.normal(size=240), np.full(60, 1000.0)])[:, None]
    e = est.NearestNeighbor(k=3).estimate(x, y)
    rho = np.sort(np.abs(x[:160] - x[:160].T), 1)[:, 3]  # the third neighbour besides the point itself
    nu = np.sort(np.abs(x[:160] - y[:240].T), 1)[:, 2]
    expected = (np.log(nu / rho).sum() + 40 * (digamma(39) - digamma(60))) / 200 + math.log(300 / 199)
    assert e.value == pytest.approx(expected, rel=1e-10)
    assert e.interval is None and any("no density" in note for note in e.notes)
    x = g.normal(size=(1000, 1))
    x[0] = x[1]
    e = est.NearestNeighbor(k=1).estimate(x, g.normal(size=(1000, 1)))
    assert math.isfinite(e.value) and any("repeated" in note for note in e.notes)


@pytest.mark.parametrize(("d", "shift", "times"), [(1, 1.0, 40), (2, 1.0, 30), (5, 1.0, 8), (10, 2.0, 5)])
def test_a_printed_interval_covers(d, shift, times):
    truth, covered, printed = shift**2 / 2, 0, 0
    for seed in range(times):
        g = np.random.default_rng(seed)
        e = est.NearestNeighbor().estimate(g.normal(size=(1000, d)), g.normal(size=(1000, d)) + np.eye(d)[0] * shift)
        if e.interval is None:
            assert any("not small against the sampling error" in note for note in e.notes)
        else:
            printed += 1
            covered += e.interval[0] <= truth <= e.interval[1]
    assert covered >= 0.95 * printed - 3 * math.sqrt(0.95 * 0.05 * max(printed, 1))
    assert printed >= 20 if d == 1 else True
    assert printed == 0 if d == 10 else True


def test_the_saturated_case_prints_no_interval():
    g = np.random.default_rng(3)
    e = est.NearestNeighbor().estimate(g.exponential(1, size=(1000, 1)), g.exponential(1 / 12, size=(1000, 1)))
    assert e.interval is None and e.value < 8.515


def test_refusals():
    x = torch.randn(20, 2, requires_grad=True)
    with pytest.raises(TypeError, match="NearestNeighbor has no gradient"):
        est.NearestNeighbor()(x, x)
    with torch.no_grad():
        est.NearestNeighbor()(x, x + 1)
    with pytest.raises(NotImplementedError, match=r"est\.Variational"):
        est.NearestNeighbor(dv.FDivergence.from_f(lambda u: (u - 1) ** 4))
    with pytest.raises(NotImplementedError, match=r"not wasserstein\(\)"):
        est.NearestNeighbor("wasserstein")
    with pytest.raises(TypeError, match="alpha"):
        est.NearestNeighbor("renyi")
    with pytest.raises(TypeError, match="divergence must be a name"):
        est.NearestNeighbor(3)
    for k in (0, 2.5, (1, 2, 3), (5, 0)):
        with pytest.raises(ValueError, match="k must be an integer of at least 1"):
            est.NearestNeighbor(k=k)
    with pytest.raises(ValueError, match="k must exceed 2 "):
        est.NearestNeighbor(dv.Alpha(3), 2)
    with pytest.raises(ValueError, match="k must be one number"):
        est.NearestNeighbor("js", (3, 4))
    with pytest.raises(ValueError, match="weighted=True is for distances"):
        est.NearestNeighbor("js", weighted=True)
    with pytest.raises(ValueError, match="metric must be one of euclidean"):
        est.NearestNeighbor(metric="cosine")
    with pytest.raises(ValueError, match="x needs at least 6"):
        est.NearestNeighbor()(torch.zeros(5, 1), torch.zeros(20, 1))


def test_discrete_data_are_refused_with_what_fits_them():
    for x, y in [(np.zeros((50, 1)), np.ones((50, 1))), (np.arange(60)[:, None] % 3, 10 + np.arange(60)[:, None] % 3)]:
        with pytest.raises(ValueError, match=r"repeats \d+% of its points: .* continuous data; .* dv.kl"):
            est.NearestNeighbor("kl").estimate(x.astype(float), y.astype(float), seed=0)


@pytest.mark.parametrize("values", [1, 3])
def test_a_discrete_column_is_refused_by_distances_and_taken_by_counts(values):
    g = np.random.default_rng(11)
    x, y = (np.stack([g.normal(size=200), g.integers(0, values, 200)], 1).astype(float) for _ in range(2))
    with pytest.raises(ValueError, match=rf"column 1 of x has {values} distinct values? in 200 points: .*Histogram"):
        est.NearestNeighbor("kl").estimate(x, y)
    e = est.NearestNeighbor("js").estimate(x, y)
    assert abs(e.value) < 4 * e.stderr + 0.01


def test_the_names_of_the_arguments_rebuild_it():
    from divergences._spec import from_spec, to_spec

    for estimator in (est.NearestNeighbor("js"), est.NearestNeighbor(dv.Alpha(0.3), (3, 4), "cityblock")):
        assert repr(from_spec(to_spec(estimator))) == repr(estimator)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_fewest_points_have_the_weights_of_a_mean(weighted):
    from estimators.classical.by_distance import _cancelling

    estimator = est.NearestNeighbor(k=1, weighted=weighted)
    g = np.random.default_rng(12)
    few = estimator.minimum - 1
    with pytest.raises(ValueError, match=f"x needs at least {estimator.minimum} points"):
        estimator(g.normal(size=(few, 1)), g.normal(size=(9, 1)))
    x = g.normal(size=(estimator.minimum, 1))  # y ten times farther has log q less by log 10
    assert estimator(x, x + 1e7) - estimator(x, x + 1e6) == pytest.approx(math.log(10), abs=1e-4)
    for columns in (2, 3, 12):
        weights = _cancelling(np.arange(1, columns + 1), 3)
        growth = gamma(np.arange(1, columns + 1) + 2 / 3) / gamma(np.arange(1, columns + 1))
        assert weights.sum() == pytest.approx(1) and weights @ growth == pytest.approx(0, abs=1e-10)


def test_points_of_fewer_dimensions_are_refused_by_distances_with_the_reason():
    g = np.random.default_rng(13)
    a, b = g.normal(size=(2, 200, 2))
    turn = np.array([[1.0, 2.0, 1e3], [0.0, 1.0, -1e3]])  # a plane in three dimensions, in unequal units
    for name in ("kl", "hellinger", "renyi"):
        estimator = est.NearestNeighbor(dv.get("renyi", alpha=0.5) if name == "renyi" else name)
        for x, y in ((a @ turn, b @ turn), (a @ turn + 1e-3 * g.normal(size=(200, 3)), b @ turn)):
            with pytest.raises(ValueError, match=r"has a singular covariance, .* fewer than 3 dimensions"):
                estimator.estimate(x, y)
            with pytest.raises(ValueError, match="singular covariance"):
                estimator(x, y)
    e = est.NearestNeighbor("js").estimate(a @ turn, b @ turn)  # counts have no dimension
    assert math.isfinite(e.value) and abs(e.value) < 4 * e.stderr + 0.01
    for d in (10, 250):  # fewer points than dimensions say nothing of a plane
        e = est.NearestNeighbor("kl").estimate(g.normal(size=(200, d)), g.normal(size=(200, d)))
        assert e.interval is None
        assert not any(bad in note.split() for note in e.notes for bad in ("inf", "-inf", "nan"))


@pytest.mark.parametrize("name", ["js", "total_variation", "le_cam", "squared_hellinger", "hellinger"])
def test_no_value_is_above_the_largest(name):
    largest = {"js": math.log(2), "total_variation": 1, "le_cam": 2, "squared_hellinger": 2, "hellinger": 1}[name]
    estimator, cut = est.NearestNeighbor(name), 0
    for seed in range(100):
        g = np.random.default_rng(seed)
        x, y = g.normal(size=(100, 1)), g.normal(size=(80, 1)) + 30
        assert estimator(x, y) <= largest
        if seed < 10:
            e = estimator.estimate(x, y)
            cut += any("cut at the largest" in note for note in e.notes)
            assert e.value <= largest and (e.interval is None or e.interval[1] <= largest)
    assert name != "js" or cut


def test_units_do_not_matter_or_are_refused():
    g = np.random.default_rng(14)
    x, y = g.normal(size=(60, 2)), g.normal(size=(50, 2)) + 0.5
    way = (est.NearestNeighbor, est.Histogram, est.KernelDensity)
    for estimator in (*(kind("js") for kind in way), est.NearestNeighbor("kl"), est.GaussianPlugIn("kl")):
        expected = estimator(x, y)
        for unit in (1e-100, 1e100):
            assert estimator(x * unit, y * unit) == pytest.approx(expected, rel=1e-6)
        for unit in (1e-200, 1e200):
            for call in (estimator, estimator.estimate):
                with pytest.raises(ValueError, match="divide both by a unit"):
                    call(x * unit, y * unit)
