"""The permutation tests: exact level, designs, ties, and statistics equal to those of other libraries."""

import itertools
import json
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
from estimators.intervals import monte_carlo
from estimators.two_sample import NAMES, c2st, kernel, permutation
from estimators.two_sample.labelling import design
from estimators.two_sample.named import resolved
from estimators.two_sample.pool import Pool

ESTIMATORS = [est.SlicedWasserstein(1, 10), est.MMD("laplace", "biased"), est.MMD(statistic="block")]


def samples(g, n=12, m=9, d=2):
    return g.normal(size=(n, d)), g.normal(size=(m, d))


def pool(n=12, m=9, d=2, weighted=False, clusters=None, strata=None, is_x=None):
    """A pool without shuffling, whose observed labels may be replaced."""
    points = torch.as_tensor(np.random.default_rng(8).normal(size=(n + m, d)))
    keep = torch.ones(n, dtype=torch.bool), torch.ones(m, dtype=torch.bool)
    arranged = design(n, m, clusters, strata, keep, torch.arange(n + m))
    if is_x is not None:
        arranged = arranged._replace(is_x=is_x)
    weights = torch.linspace(0.2, 1.8, n + m, dtype=torch.float64) if weighted else None
    return Pool(points, weights, n, m, arranged, torch.Generator().manual_seed(3), [])


def values(statistic, given, labels):
    """The values of labellings by a single statistic, or by each of several."""
    plan = resolved(statistic).plan(given)
    found = [permutation.values(family, labels) for family in plan.families]
    return found[0] if plan.combine is None else plan.combine(found, [0.0] * len(found))[0]


# The level: labellings are uniform, statistics are functions of the shuffled pool and a labelling, ranks are valid.


@pytest.mark.parametrize("statistic", [*NAMES, *ESTIMATORS], ids=repr)
def test_a_statistic_does_not_see_which_labelling_was_observed(statistic, monkeypatch):
    labels = pool().design.labels(20, torch.Generator().manual_seed(0))
    observed = pool().design.is_x
    held = torch.ones(21, dtype=torch.bool)
    if statistic == "c2st":  # which sees the labels of its training half
        held = ~resolved(statistic).plan(pool()).fixed
        labels[:, ~held] = observed[~held]
        monkeypatch.setattr(c2st, "_training_units", lambda *_: ~held)
    other = observed.clone()
    other[held] = observed[held].flip(0)
    first, second = (values(statistic, pool(is_x=is_x), labels) for is_x in (observed, other))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert len(first.unique()) > 5


@pytest.mark.parametrize("clusters, strata, expected", [
    (None, None, 35),
    (None, ([0, 0, 1, 1], [0, 1, 1]), 3 * 6),
    (([0, 0, 1, 1], [2, 2, 3]), None, 6),
    (([0, 0, 1, 2], [3, 4, 5]), (list("aaab"), list("aba")), 6 * 2),
])  # fmt: skip
def test_labellings_are_uniform_over_what_the_design_allows(clusters, strata, expected):
    given = pool(4, 3, clusters=clusters, strata=strata).design
    assert given.labellings() == expected
    labels = given.labels(3000, torch.Generator().manual_seed(1))
    seen, counts = labels.unique(dim=0, return_counts=True)
    assert len(seen) == expected and bool((seen == given.observed).all(-1).any())
    assert stats.chisquare(counts).pvalue > 1e-3
    for ids, whole in ((clusters, True), (strata, False)):
        for name in set(itertools.chain(*ids)) if ids else ():
            inside = torch.tensor([i == name for i in itertools.chain(*ids)])
            counted = set(labels[:, inside].sum(-1).tolist())
            if whole:
                assert counted == {0, int(inside.sum())}
            elif clusters is None:
                assert counted == {int(given.observed[inside].sum())}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("stop", [False, True])
def test_the_p_value_of_exchangeable_values_is_valid(stop, ties):
    """By simulation of the values themselves."""
    g, B, draws = np.random.default_rng(5), 99, 2000
    p = np.empty(draws)
    for draw in range(draws):
        null = torch.as_tensor(g.integers(0, 5, B + 1).astype(float) if ties else g.normal(size=B + 1))
        fake = permutation.Statistic(lambda rows, null=null: null[rows.squeeze(-1)], 50)
        found = permutation.values(fake, torch.arange(B + 1)[:, None], stop)
        k = int(permutation.exceeding(fake, torch.arange(B + 1)[:, None], found).sum())
        stopped = stop and k == permutation.EXCEEDANCES
        p[draw] = permutation.p_value(k, len(found) - 1, stopped)
        assert not stopped or found[-1] >= found[0]
    for alpha in (0.01, 0.05, 0.1, 0.2, 0.5):
        error = math.sqrt(alpha * (1 - alpha) / draws)
        assert (p <= alpha).mean() <= alpha + 4 * error
        assert ties or (p <= alpha).mean() >= alpha - 4 * error


def test_the_level_of_kolmogorov_smirnov_is_exact_by_enumeration():
    """All labellings of 5 + 3 points, each as the observed one. The values alone are few, and alone give p of steps."""
    given = pool(5, 3)
    chosen = torch.combinations(torch.arange(8), 5)
    labels = torch.zeros(56, 8, dtype=torch.bool).scatter_(1, chosen, True)
    (family,) = resolved("kolmogorov_smirnov").plan(given).families
    p = {True: [], False: []}
    for i in range(56):
        ordered = torch.cat([labels[i : i + 1], labels[:i], labels[i + 1 :]])
        for second in p:
            one = family if second else family._replace(second=None)
            hits = permutation.exceeding(one, ordered, permutation.values(one, ordered))
            p[second].append((1 + int(hits.sum())) / 56)
    for j in range(1, 57):
        assert sum(v <= j / 56 + 1e-12 for v in p[True]) <= j
    assert len(set(p[True])) > 25 and len(set(p[False])) < 10


def clustered(g):
    """Rows of one cluster share most of their value; clusters have one to three rows."""
    ids = [np.repeat(np.arange(start, start + 8), g.integers(1, 4, 8)) for start in (0, 100)]
    centres = g.normal(size=200)
    x, y = ((centres[i] + 0.2 * g.normal(size=len(i)))[:, None] for i in ids)
    return x, y, {"clusters": tuple(ids)}


def stratified(g):
    """Strata with means far apart, and unlike shares of x and y."""
    ids = np.repeat([0, 1], [9, 3]), np.repeat([0, 1], [3, 8])
    return *((5.0 * i + g.normal(size=len(i)))[:, None] for i in ids), {"strata": ids}


def weighted(g):
    """A common importance scheme."""
    x, y = samples(g)
    return x, y, {"x_weights": np.exp(x[:, 0]), "y_weights": np.exp(y[:, 0]), "normalize": True}


def tied(g):
    return g.integers(0, 3, size=(12, 2)), g.integers(0, 3, size=(9, 2)), {}


def heavy(g):
    return g.standard_cauchy((12, 1)), g.standard_cauchy((9, 1)), {"early_stopping": True}


@pytest.mark.parametrize(
    "statistic, null, draws",
    [
        ("mmd", clustered, 300),
        ("kolmogorov_smirnov", clustered, 300),
        ("mmd", stratified, 300),
        ("mmd", weighted, 300),
        ("mmd", tied, 300),
        ("kolmogorov_smirnov", tied, 300),
        ("energy_distance", heavy, 300),
        ("c2st", stratified, 100),
    ],
)
def test_the_level_holds(statistic, null, draws, monkeypatch):
    monkeypatch.setattr("estimators.intervals.monte_carlo", lambda *_: (0.0, 1.0))  # most of the time of a small test
    p = np.empty(draws)
    for draw in range(draws):
        x, y, options = null(np.random.default_rng([9, draw]))
        p[draw] = est.two_sample_test(x, y, statistic, 39, seed=draw, **options).p_value
    for alpha in (0.05, 0.2, 0.5):
        assert (p <= alpha).mean() <= alpha + 4 * math.sqrt(alpha * (1 - alpha) / draws)


@pytest.mark.parametrize("null", [clustered, stratified])
def test_the_level_fails_where_the_design_is_left_out(null):
    rejected = 0
    for draw in range(60):
        x, y, _ = null(np.random.default_rng([10, draw]))
        rejected += est.two_sample_test(x, y, "mmd", 39, seed=draw).reject(0.05)
    assert rejected / 60 > 0.05 + 4 * math.sqrt(0.05 * 0.95 / 60)


# Power and evidence


@pytest.mark.parametrize("statistic", [*NAMES, *ESTIMATORS], ids=repr)
def test_a_shift_is_seen(statistic):
    g = np.random.default_rng(0)
    x, y = g.normal(size=(60, 2)), g.normal(size=(40, 2)) + 1.5
    test = est.two_sample_test(x, y, statistic, permutations=39, seed=0)
    assert test.p_value == 1 / 40 and test.reject(0.05)
    assert test.interval[0] <= test.p_value <= test.interval[1]
    assert len(test.null) == 39 and max(test.null) < test.statistic
    assert json.loads(json.dumps(test.to_dict()))["evidence"] == [vars(found) for found in test.evidence]


def test_pairs_are_the_sign_flip_test():
    """A shift that is small against the spread between pairs and large within them."""
    g = np.random.default_rng(1)
    x = g.normal(size=(20, 1)) * 10
    y = x + 1 + 0.1 * g.normal(size=(20, 1))
    paired = est.two_sample_test(x, y, "energy_distance", 199, strata=(range(20), range(20)))
    assert paired.p_value == 1 / 200 and est.two_sample_test(x, y, "energy_distance", 199).p_value > 0.5


def test_evidence_says_where():
    g = np.random.default_rng(2)
    x, y = g.normal(size=(80, 3)) + 1e3, g.normal(size=(60, 3)) + [1e3, 1e3, 1e3 + 1.5]
    test = est.two_sample_test(x, y, "kolmogorov_smirnov", 99)
    (found,) = test.evidence
    assert found.p_value == test.p_value and found.description.startswith("coordinate 2, at most 100")
    assert found.description in repr(test)
    several = est.two_sample_test(x, y, "mmd_agg", 99).evidence
    assert len(several) == 20 and [e.p_value for e in several] == sorted(e.p_value for e in several)


def test_early_stopping_keeps_the_decision_and_says_what_it_did():
    g = np.random.default_rng(3)
    x, y = samples(g, 30, 30)
    whole, early = (est.two_sample_test(x, y, "mmd", 999, early_stopping=stop) for stop in (False, True))
    L = early.permutations
    assert L < 500 and early.null == whole.null[:L] and early.p_value == 20 / L
    assert sum(v >= early.statistic for v in early.null) == 20 and early.null[-1] >= early.statistic
    assert early.interval[0] < whole.p_value < early.interval[1]
    assert any(f"stopped after {L} of 999" in note for note in early.notes)
    shifted = est.two_sample_test(x, y + 1.5, "mmd", 99, early_stopping=True)
    assert shifted.permutations == 99 and shifted.p_value == 0.01


@pytest.mark.parametrize("scale", [1e-8, 1e8])
@pytest.mark.parametrize("statistic", [n for n in NAMES if n != "c2st"] + ESTIMATORS, ids=repr)
def test_the_unit_of_the_data_changes_nothing(statistic, scale):
    """Rounding that counts as a tie must follow the values."""
    g = np.random.default_rng(14)
    x, y = g.normal(size=(25, 2)), g.normal(size=(20, 2)) + 0.3
    plain, scaled = (est.two_sample_test(unit * x, unit * y, statistic, 39) for unit in (1.0, scale))
    assert scaled.p_value == plain.p_value and len(set(scaled.null)) > 20


def test_pairs_are_held_out_as_pairs():
    given = pool(10, 10, strata=(range(10), range(10)))
    fixed = est.C2ST().plan(given).fixed
    assert fixed.sum() == 10 and bool((fixed[:10] == fixed[10:]).all())


# Statistics


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
        tiled = est.two_sample_test(x, y, name, 99)
        for other in (b, tiled):
            assert other.statistic == pytest.approx(a.statistic, rel=1e-3) and abs(other.p_value - a.p_value) <= 0.011
        assert any("made anew for each chunk" in note for note in tiled.notes)


# Edges


@pytest.mark.parametrize("statistic", NAMES)
def test_equal_points_give_p_of_one(statistic):
    test = est.two_sample_test(np.ones((20, 2)), np.ones((30, 2)), statistic, 99)
    assert test.p_value == 1.0 and any("all points are equal" in note for note in test.notes)


def test_a_statistic_that_is_always_the_same_gives_p_of_one():
    x = np.random.default_rng(0).normal(size=(10, 1))
    constant = est.MMD(lambda x, y: torch.ones(len(x), len(y), dtype=x.dtype))
    test = est.two_sample_test(x, x, constant, 99)
    assert test.p_value == 1.0 and any("same for all labellings" in note for note in test.notes)


def test_a_value_that_is_nan_is_no_evidence():
    class Undefined(est.MMD):
        def compute(self, s, generator):
            return s.x.new_tensor(math.nan)

    test = est.two_sample_test(np.arange(10.0)[:, None], np.arange(8.0)[:, None], Undefined(statistic="linear"), 19)
    assert test.p_value == 1.0 and any("no finite value" in note for note in test.notes)


def test_few_permutations_and_few_labellings_are_said():
    x = np.arange(3.0)[:, None]
    test = est.two_sample_test(x, x + 10, "mmd", 9)
    assert any("9 permutations: p cannot fall below 0.1" in note for note in test.notes)
    assert any("only 20 different labellings" in note for note in test.notes)


def test_rows_with_nan_take_their_ids_and_weights_along():
    g = np.random.default_rng(11)
    x, y = samples(g, 20, 20)
    ids, w = np.repeat(np.arange(10), 2), g.exponential(size=20)
    gap = np.where(np.arange(40).reshape(20, 2) == 5, np.nan, x)
    kept = np.arange(20) != 2
    options = {"normalize": True, "y_weights": w}
    a = est.two_sample_test(gap, y, "mmd", 19, nan_policy="omit", strata=(ids, ids), x_weights=w, **options)
    b = est.two_sample_test(x[kept], y, "mmd", 19, strata=(ids[kept], ids), x_weights=w[kept], **options)
    assert a.statistic == pytest.approx(b.statistic) and a.null == pytest.approx(b.null)


def test_weights_without_a_common_scale_are_said_to_be_approximate():
    x, y, options = weighted(np.random.default_rng(15))
    w, v = options["x_weights"], options["y_weights"]
    raw = est.two_sample_test(x, y, "mmd", 19, **options)
    apart = est.two_sample_test(x, y, "mmd", 19, x_weights=w / w.sum(), y_weights=v / v.sum())
    assert apart.statistic == pytest.approx(raw.statistic)
    assert [any("level is approximate" in note for note in test.notes) for test in (raw, apart)] == [False, True]
    equal = est.two_sample_test(x, y, "mmd", 19, x_weights=np.full(12, 1 / 12), y_weights=np.full(9, 1 / 9))
    assert equal.notes == est.two_sample_test(x, y, "mmd", 19).notes
    assert equal.null == pytest.approx(est.two_sample_test(x, y, "mmd", 19).null)


def test_the_same_seed_gives_the_same_answer():
    x, y = samples(np.random.default_rng(4), 20, 20)
    assert est.two_sample_test(x, y, seed=5) == est.two_sample_test(x, y, seed=5)
    assert est.two_sample_test(x, y, seed=5).null != est.two_sample_test(x, y, seed=6).null


x20 = np.random.default_rng(12).normal(size=(20, 2))
ids20 = np.repeat(np.arange(5), 4)


@pytest.mark.parametrize("options, error, message", [
    ({"statistic": "mdm"}, ValueError, r"statistic must be one of auto, mmd.*did you mean 'mmd'"),
    ({"statistic": 3}, TypeError, "a name, an estimator or C2ST: got int"),
    ({"statistic": est.KantorovichRubinstein()}, TypeError, "trained anew for each permutation"),
    ({"permutations": 0}, ValueError, "permutations must be at least 1"),
    ({"y": np.where(np.arange(40).reshape(20, 2) == 3, np.nan, x20)}, ValueError, "y has 1 NaN"),
    ({"x": x20[:1]}, ValueError, "x needs at least 2"),
    ({"statistic": "c2st", "x": x20[:3]}, ValueError, "c2st needs at least 4 points or clusters in x and in y"),
    ({"statistic": "mmd_agg", "early_stopping": True}, ValueError, "'mmd_agg' combines several"),
    ({"x_weights": np.full(20, 0.05)}, ValueError, "x_weights came without y_weights"),
    ({"statistic": "c2st", "x_weights": np.full(20, 0.05), "y_weights": np.full(20, 0.05)}, ValueError, "no weights"),
    ({"x_weights": np.full(20, 0.1), "y_weights": np.full(20, 0.05)}, ValueError, "x_weights must sum to 1"),
    ({"clusters": ids20}, TypeError, "clusters must be a pair"),
    ({"clusters": (ids20[1:], ids20 + 5)}, ValueError, r"clusters must have one id a row, \(20,\) for x"),
    ({"clusters": (ids20, ids20)}, ValueError, "cluster 0 has rows in both x and y"),
    ({"clusters": (ids20, ids20 + 5), "strata": (range(20), ids20)}, ValueError, "cluster 0 lies in two strata, 0 and"),
    ({"strata": (ids20, ids20 + 5)}, ValueError, "no stratum has points of both samples"),
    ({"strata": (ids20, [None] * 20)}, ValueError, "strata has 20 missing ids in y"),
    ({"strata": (ids20, ["a"] * 20)}, TypeError, "strata must be ids of one kind"),
])  # fmt: skip
def test_refusals(options, error, message):
    with pytest.raises(error, match=message):
        est.two_sample_test(**({"x": x20, "y": x20 + 0.0, "statistic": "mmd", "permutations": 19} | options))


def test_too_many_points_are_refused_with_the_cost():
    x = np.arange(30_000.0)[:, None]
    with pytest.raises(ValueError, match=r"60000 pooled points .*3.6e\+09 kernel values.*sliced_wasserstein"):
        est.two_sample_test(x, x, "mmd")
    with pytest.raises(TypeError, match="scikit-learn classifier"):
        est.C2ST(classifier="logistic")


def test_the_intervals_on_p_are_exact():
    low, high = monte_carlo(5, 99)
    assert low < 5 / 99 < high and high == pytest.approx(0.1139, abs=2e-4)
    h, L = 20, 130
    low, high = permutation.stopped_interval(h, L)  # the draws up to the h-th exceedance are negative binomial
    assert stats.nbinom.cdf(L - h, h, low) == pytest.approx(0.025)
    assert stats.nbinom.sf(L - h - 1, h, high) == pytest.approx(0.025)


def test_the_command_takes_ids_from_columns(tmp_path, capsys):
    from estimators.cli import main

    g = np.random.default_rng(13)
    sites = 3 * g.normal(size=20)
    for name, shift in (("before", 0.0), ("after", 1.0)):
        rows = "".join(f"{centre + shift + 0.1 * g.normal()},site{k}\n" for k, centre in enumerate(sites))
        (tmp_path / f"{name}.csv").write_text("value,site\n" + rows)
    files = [str(tmp_path / f"{name}.csv") for name in ("before", "after")]
    status = main(
        ["test", *files, "--statistic", "energy_distance", "--strata", "site", "--permutations", "99", "--json"]
    )
    found = json.loads(capsys.readouterr().out)
    assert status == 0 and found["p_value"] == 0.01
    assert main(["test", *files, "--statistic", "mmd", "--clusters", "place"]) == 2
    assert "has no column 'place'" in capsys.readouterr().err
