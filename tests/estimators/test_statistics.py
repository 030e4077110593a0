"""The statistics of permutation tests are the estimators' values and those of other libraries."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score
from sklearn.naive_bayes import GaussianNB

import estimators as est
from divergences import kernels
from estimators.two_sample import c2st, kernel, permutation
from estimators.two_sample.named import resolved
from tests.estimators.two_sample_cases import pool, values


@pytest.mark.parametrize("n", [30, 45])
@pytest.mark.parametrize(
    "estimator",
    [
        est.MMD(),
        est.MMD("laplace", "biased"),
        est.MMD("laplace", "biased", squared=False),
        est.MMD(kernels.Polynomial(2, 1.0)),
        est.EnergyDistance(),
        est.SlicedWasserstein(1),
        est.SlicedWasserstein(),
        est.EMD(),
    ],
    ids=repr,
)
def test_the_statistic_is_the_estimators_value(estimator, n):
    g = np.random.default_rng(1)
    x, y = g.normal(size=(n, 1)) + 3, g.normal(size=(30, 1)) * 2 + 3
    assert est.two_sample_test(x, y, estimator, 9).statistic == pytest.approx(estimator.value(x, y), rel=1e-9)


@pytest.mark.parametrize("estimator", [est.Sinkhorn(blur=0.5), est.Sinkhorn(1, 0.3, debiased=False)], ids=repr)
def test_sinkhorn_of_all_labellings_at_once_is_the_solvers_value(estimator):
    g = np.random.default_rng(1)
    x, y = g.normal(size=(40, 2)), g.normal(size=(30, 2)) + 0.5
    expected = estimator.estimate(x, y).value
    assert est.two_sample_test(x, y, estimator, 9).statistic == pytest.approx(expected, rel=2e-3)
    steep = est.two_sample_test(x * 100, y * 100, est.Sinkhorn(blur=2.0), 9)  # e^(−cost/ε) underflows
    assert steep.statistic == pytest.approx(est.Sinkhorn(blur=2.0).value(x * 100, y * 100), rel=1e-6)


def weights_of(given, labels):
    r = given.mass.numpy()
    a, b = r * labels, r * ~labels
    return a / a.sum(), b / b.sum()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("clusters", [None, (np.repeat([0, 1, 2], [6, 1, 5]), np.repeat([3, 4], [2, 7]))])
def test_mmd_is_numpys_for_every_labelling(weighted, clusters):
    given = pool(weighted=weighted, clusters=clusters)
    labels = given.design.labels(30, torch.Generator().manual_seed(2))
    z = given.points.numpy()
    for estimator, K in (
        (est.MMD(kernels.Laplace(0.7)), np.exp(-cdist(z, z) / 0.7)),
        (est.EnergyDistance(), -cdist(z, z)),
    ):
        found, own = values(estimator, given, labels), ~np.eye(len(z), dtype=bool)
        for value, labelling in zip(found, labels.numpy(), strict=True):
            a, b = weights_of(given, labelling)
            means = [u @ (K * own) @ u / (1 - u @ u) if u.max() < 1 else 0.0 for u in (a, b)]
            assert float(value) == pytest.approx(sum(means) - 2 * a @ K @ b, rel=1e-9, abs=1e-12)


def test_the_biased_energy_statistic_is_scipys():
    g = np.random.default_rng(4)
    x, y = g.normal(size=(30, 1)), g.standard_cauchy(size=(20, 1))
    w, v = g.exponential(size=30), g.exponential(size=20)
    plain = est.two_sample_test(x, y, est.EnergyDistance(statistic="biased"), 9)
    assert plain.statistic == pytest.approx(stats.energy_distance(x[:, 0], y[:, 0]) ** 2)
    with_weights = est.two_sample_test(
        x, y, est.EnergyDistance(statistic="biased"), 9, x_weights=w, y_weights=v, normalize=True
    )
    assert with_weights.statistic == pytest.approx(stats.energy_distance(x[:, 0], y[:, 0], w, v) ** 2)


def test_kolmogorov_smirnov_is_scipys():
    g = np.random.default_rng(2)
    x, y = g.integers(0, 6, size=(40, 3)), g.integers(0, 7, size=(25, 3))
    expected = max(stats.ks_2samp(x[:, k], y[:, k]).statistic for k in range(3))
    assert est.two_sample_test(x, y, "kolmogorov_smirnov", 9).statistic == pytest.approx(expected)
    counts = g.integers(1, 5, size=40), g.integers(1, 5, size=25)  # weights that are counts repeat the points
    found = est.two_sample_test(
        x, y, "kolmogorov_smirnov", 9, x_weights=counts[0] / counts[0].sum(), y_weights=counts[1] / counts[1].sum()
    )
    repeated = [np.repeat(points, count, axis=0) for points, count in zip((x, y), counts, strict=True)]
    expected = max(stats.ks_2samp(repeated[0][:, k], repeated[1][:, k]).statistic for k in range(3))
    assert found.statistic == pytest.approx(expected)


def test_mmd_fuse_is_its_definition():
    given = pool()
    labels = given.design.labels(5, torch.Generator().manual_seed(0))
    z = given.points.numpy()
    distances = cdist(z, z)
    off = ~np.eye(len(z), dtype=bool)
    positive = np.sort(distances[np.triu_indices(len(z), 1)])
    lengths = np.geomspace(positive[int(0.05 * len(positive))] / 2, positive[int(0.95 * len(positive))] * 2, 10)
    scale = math.sqrt(9 * 8)
    for value, labelling in zip(values("mmd_fuse", given, labels), labels.numpy(), strict=True):
        terms = []
        for K in [np.exp(-(distances**2) / (2 * h**2)) for h in lengths] + [np.exp(-distances / h) for h in lengths]:
            a, b = labelling, ~labelling
            within = sum((K * off)[np.ix_(s, s)].sum() / (s.sum() * (s.sum() - 1)) for s in (a, b))
            mmd2 = within - 2 * K[np.ix_(a, b)].mean()
            terms.append(scale * mmd2 / math.sqrt((K[off] ** 2).mean()))
        assert float(value) == pytest.approx(np.log(np.mean(np.exp(terms))) / scale, rel=1e-9)


def test_mmd_agg_ranks_by_the_smallest_p_value():
    given = pool(8, 7)
    labels = given.design.labels(40, torch.Generator().manual_seed(0))
    plan = resolved("mmd_agg").plan(given)
    found = [permutation.values(family, labels) for family in plan.families]
    total, p = plan.combine(found, [0.0] * 20)
    by_hand = np.array([[(v >= value).double().mean() for value in v] for v in found])
    assert p == pytest.approx(by_hand[:, 0])
    order = np.argsort(-total.numpy(), kind="stable")
    assert (np.diff(by_hand.min(0)[order]) >= 0).all()


def test_c2st_is_the_held_out_auc():
    given = pool(40, 30)
    test = est.C2ST(GaussianNB())
    plan = test.plan(given)
    (family,) = plan.families
    held, observed = ~plan.fixed.numpy(), given.design.observed.numpy()
    assert abs(held.sum() - 35) <= 1 and abs(held[:40].sum() - 20) <= 1
    z = given.centred.numpy()
    scores = GaussianNB().fit(z[~held], observed[~held]).predict_proba(z[held])[:, 1]
    labels = torch.cat([given.design.observed[None], given.design.labels(5, given.generator, plan.fixed)])
    assert bool((labels[:, plan.fixed] == given.design.observed[plan.fixed]).all())
    for value, labelling in zip(family.evaluate(labels), labels.numpy(), strict=True):
        assert float(value) == pytest.approx(roc_auc_score(labelling[held], scores))
    result = est.two_sample_test(z[:40], z[40:], "c2st", 99)
    assert result.evidence[0].description.startswith("held-out AUC 0.")
    assert f"held-out AUC {roc_auc_score(observed[held], scores):.3f} [" in family.describe(labels[0])


def test_the_error_of_the_auc_is_its_spread():
    g = np.random.default_rng(6)
    found = []
    for _ in range(400):
        scores = np.concatenate([g.normal(0.8, 1, 40), g.normal(size=60)])
        value, low, high = c2st._auc(stats.rankdata(scores), np.arange(100) < 40)
        found.append((value, (high - low) / (2 * stats.norm.ppf(0.975))))
    values_, errors = np.array(found).T
    assert values_.mean() == pytest.approx(stats.norm.cdf(0.8 / math.sqrt(2)), abs=4 * values_.std() / 20)
    assert errors.mean() == pytest.approx(values_.std(), rel=0.15)  # the spread of 400 is known to 3.5%


def test_boosted_trees_take_over_where_they_do_better():
    g = np.random.default_rng(7)
    x, y = g.normal(size=(1200, 2)), g.normal(size=(1200, 2))
    y[:, 0] = np.sin(3 * y[:, 0]) * 1.4
    test = est.two_sample_test(x, y, "c2st", 99)
    assert test.p_value == 0.01 and any("HistGradientBoosting" in note for note in test.notes)


def test_kernel_matrices_in_single_precision_and_by_tiles_give_the_same_answer(monkeypatch):
    g = np.random.default_rng(3)
    x, y = g.normal(size=(80, 3)) + 1e6, g.normal(size=(50, 3)) + 1e6 + 0.2
    names = ("mmd", "energy_distance", est.MMD(statistic="biased"), "mmd_fuse")
    double = [est.two_sample_test(x, y, name, 99) for name in names]
    monkeypatch.setattr(kernel, "DOUBLE", 10)
    single = [est.two_sample_test(x, y, name, 99) for name in names]
    monkeypatch.setattr(kernel, "STORED", 10)
    monkeypatch.setattr("estimators.two_sample.aggregate.STORED", 10)
    monkeypatch.setattr(kernel, "HELD", 130 * 7)
    for a, b, name in zip(double, single, names, strict=True):
        points = {} if name == "mmd_fuse" else {"bins": 0}  # which has no bins: points are permuted
        tiled = est.two_sample_test(x, y, name, 99, **points)
        for other in (b, tiled):
            assert other.statistic == pytest.approx(a.statistic, rel=1e-3) and abs(other.p_value - a.p_value) <= 0.011
        assert any("made anew for each chunk" in note for note in tiled.notes)
