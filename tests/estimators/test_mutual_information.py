"""Mutual information from pairs: how the product sample is made, its error, and values whose truth is known."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression

import estimators as est
from estimators import paired
from estimators.classical.contingency import information

RNG = np.random.default_rng(0)


def gaussian(rho, d, n, seed):
    rng = np.random.default_rng(seed)
    x, e = rng.normal(size=(2, n, d))
    return x, rho * x + math.sqrt(1 - rho**2) * e


def entropy(*p):
    p = np.concatenate([np.ravel(part) for part in p])
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


class Ratio(torch.nn.Module):
    """Log p(x, y)/(p(x) p(y)) of a Gaussian pair, by its textbook form."""

    def __init__(self, rho):
        super().__init__()
        self.rho = rho

    def forward(self, points):
        x, y, rho = points[:, 0], points[:, 1], self.rho
        return -0.5 * math.log(1 - rho**2) - (rho**2 * (x**2 + y**2) - 2 * rho * x * y) / (2 * (1 - rho**2))


class Sum(torch.nn.Module):
    """A critic that is far from the ratio: what it gives hangs on x and on y alone."""

    def forward(self, points):
        return points.sum(-1)


def fitted(estimator):
    estimator.fitted = True
    return estimator


def bound(critic):
    return fitted(est.Variational("kl", critic, link="log_ratio"))


def test_no_row_of_the_product_is_a_pair_and_no_row_is_used_twice():
    i = torch.arange(31.0)[:, None]
    s = paired.thirds(i, i, torch.Generator().manual_seed(0))
    assert torch.equal(s.x[:, 0], s.x[:, 1])
    used = torch.cat([s.x[:, 0], s.y.flatten()])
    assert sorted(used.tolist()) == i.flatten().tolist()
    rows = paired.product(i, i, 30)
    assert not (rows[..., 0] == rows[..., 1]).any()
    assert len(torch.unique(rows.flatten(0, 1), dim=0)) == 31 * 30  # every other pair once


def test_the_value_is_the_mean_over_pairs_and_the_error_that_of_its_rows():
    """Written anew, pair by pair: for 20 rows all 19 shifts are taken, which are all pairs of different rows."""
    x, y = gaussian(0.7, 1, 20, 3)
    a = lambda u, v: float(Ratio(0.7)(torch.tensor([[u, v]])))  # noqa: E731
    n = len(x)
    table = np.array([[math.exp(a(u, v)) - 1 for v in y[:, 0]] for u in x[:, 0]])
    np.fill_diagonal(table, 0)
    own = np.array([a(u, v) for u, v in zip(x[:, 0], y[:, 0], strict=True)])
    value = own.mean() - table.sum() / (n * (n - 1))
    effects = own - table.sum(0) / (n - 1) - table.sum(1) / (n - 1)
    found = est.mutual_information(x, y, bound(Ratio(0.7)))
    assert found.value == pytest.approx(value, abs=1e-5)
    assert found.stderr == pytest.approx(effects.std(ddof=1) / math.sqrt(n), abs=1e-5)


@pytest.mark.parametrize("estimator", [bound(Ratio(0.7)), bound(Sum()), fitted(est.InfoNCE(Ratio(0.7)))], ids=repr)
def test_the_error_is_that_of_the_value(estimator):
    """400 samples. With `Sum` the pairs of a row lean alike: taken as independent they show less than half of it."""
    values, errors, lows = [], [], []
    for seed in range(400):
        found = est.mutual_information(*gaussian(0.7, 1, 300, seed), estimator, seed=seed)
        values.append(found.value)
        errors.append(found.stderr)
        lows.append(-math.inf if found.interval is None else found.interval[0])
    assert 0.85 < np.std(values) / np.mean(errors) < 1.1  # 3.5% each; the shifts' own noise makes the error larger
    truth = -0.5 * math.log(1 - 0.7**2)
    assert np.sum(np.array(lows) > truth) <= 20 + 4 * 4.4
    if isinstance(estimator, est.Variational) and isinstance(estimator.critic, Ratio):
        assert abs(np.mean(values) - truth) < 4 * np.std(values) / 20


METHODS = ["auto", "ratio", "gaussian", "knn", "kde", "infonce", "donsker_varadhan"]


@pytest.mark.parametrize("method", METHODS)
def test_gaussian_pairs(method):
    rho, d = 0.8, 2
    truth = -d / 2 * math.log(1 - rho**2)  # 1.02
    found = est.mutual_information(*gaussian(rho, d, 1500, 11), method, seed=11)
    assert (found.divergence, found.n, found.m) == ("mutual_information", 1500, 1500)
    assert (0.5 if method == "knn" else 0.7) * truth < found.value < truth + 4 * found.stderr
    if found.bound == "lower":
        assert found.interval is None or (found.interval[0] < truth and found.interval[1] == math.inf)
    elif found.interval is not None:
        assert found.interval[0] - 2 * found.stderr < truth < found.interval[1] + 2 * found.stderr
    json.dumps(found.to_dict(), allow_nan=False)


def test_units():
    x, y = gaussian(0.6, 1, 900, 1)
    nats, bits = (est.mutual_information(x, y, "gaussian", base=base) for base in (None, 2))
    for a, b in zip((nats.value, nats.stderr, *nats.interval), (bits.value, bits.stderr, *bits.interval), strict=True):
        assert a == pytest.approx(b * math.log(2))
    with pytest.raises(ValueError, match="base must be a finite number above 1: got 1"):
        est.mutual_information(x, y, base=1)


TABLES = {
    "dependent": np.array([[0.3, 0.05, 0.05], [0.05, 0.25, 0.3]]),
    "independent": np.outer([0.3, 0.7], [0.2, 0.3, 0.5]),
    "equal": np.diag([0.5, 0.3, 0.2]),
}


@pytest.mark.parametrize("method", ["table", "ratio", "histogram", LogisticRegression()], ids=str)
@pytest.mark.parametrize("table", TABLES)
def test_discrete_tables(table, method):
    p = TABLES[table]
    truth = entropy(p.sum(0)) + entropy(p.sum(1)) - entropy(p)
    i, j = np.divmod(np.random.default_rng(5).choice(p.size, 1200, p=p.ravel()), p.shape[1])
    labels = np.array(["a", "b", "c"])[i], np.array(["low", "middle", "high"])[j]
    chosen = est.BarberAgakov(method) if isinstance(method, LogisticRegression) else method
    found = est.mutual_information(*labels, chosen, seed=0)
    assert abs(found.value - truth) < 4 * found.stderr + 0.01
    assert found.interval[0] <= truth + 2 * found.stderr
    assert found.interval[1] > truth - 2 * found.stderr


@pytest.mark.parametrize("table", [*TABLES.values(), np.array([[0.3, 0.2], [0.22, 0.28]])], ids=[*TABLES, "weak"])
def test_the_interval_of_a_table_covers(table):
    """500 tables of 200 rows: more than 25 + 4·4.9 misses are no 95%."""
    truth = entropy(table.sum(0)) + entropy(table.sum(1)) - entropy(table)
    rng = np.random.default_rng(8)
    found = [information(torch.from_numpy(rng.multinomial(200, table.ravel()).reshape(table.shape)), 0.95)
             for _ in range(500)]  # fmt: skip
    assert sum(not f.interval[0] <= truth <= f.interval[1] for f in found) <= 44
    values = np.array([f.value for f in found])
    assert abs(values.mean() - truth) < 4 * values.std() / math.sqrt(500) + 1e-12


def test_auto_counts_what_can_be_counted():
    c = RNG.integers(0, 4, 400)
    found = est.mutual_information(c, c)
    assert found.estimator == "contingency table" and found.bound == "consistent"
    assert found.interval[0] < math.log(4) == found.interval[1]
    assert "by the 4 × 4 table of the counts" in found.notes[0]
    assert est.mutual_information(c, RNG.normal(size=400)).estimator.startswith("DensityRatio")
    with pytest.raises(ValueError, match='method="table" needs 10 rows a cell'):
        est.mutual_information(c, RNG.normal(size=400), "table")


def test_labels_are_columns_and_no_numbers():
    rows = np.array([["a", 1.5], ["b", 2.5], ["c", 3.5], ["a", 4.5]], dtype=object)
    expected = [[1, 0, 0, 1.5], [0, 1, 0, 2.5], [0, 0, 1, 3.5], [1, 0, 0, 4.5]]
    assert paired.columns(rows, "x").tolist() == expected
    assert paired.columns(np.array([True, False]), "x").tolist() == [[1.0], [0.0]]
    assert paired.columns([1, 2, 3], "x").tolist() == [[1.0], [2.0], [3.0]]


def test_what_follows_from_x_is_a_lower_bound_that_says_so():
    x = RNG.normal(size=(900, 2))
    for y in (x, 3 - 2 * x[:, :1] + x[:, 1:], np.column_stack([RNG.normal(size=900), 1e4 * x[:, 0]])):
        found = est.mutual_information(x, y)
        assert found.bound == "lower" and found.interval[1] == math.inf
        assert any("the mutual information is infinite" in note for note in found.notes)
    close = est.mutual_information(x[:, 0], x[:, 0] + 0.1 * x[:, 1], "gaussian")  # ½ log 101 = 2.31
    assert not any("infinite" in note for note in close.notes) and close.value == pytest.approx(2.31, abs=0.2)
    c = RNG.integers(0, 3, 900)  # that the labels are equal makes nothing infinite
    assert not paired.functional(*(torch.from_numpy(np.column_stack([v, c])) for v in (x, RNG.normal(size=900))))
    assert not paired.functional(*torch.from_numpy(RNG.normal(size=(2, 8, 5))))  # few rows follow from any columns
    with pytest.raises(ValueError, match="singular covariance"):
        est.mutual_information(x, x, "knn")


def test_copies_of_pairs_are_told():
    x, y = gaussian(0.5, 1, 300, 2)
    found = est.mutual_information(np.repeat(x, 2, 0), np.repeat(y, 2, 0), "gaussian")
    assert any("of the pairs repeat others" in note for note in found.notes)


def classes(n, seed):
    rng = np.random.default_rng(seed)
    c = rng.integers(0, 2, n)
    return rng.normal(3.0 * c), c


def test_barber_agakov_against_an_integral():
    """Two classes, N(0, 1) and N(3, 1): H(C | X) by quadrature."""

    def surprise(x):
        p = stats.norm.pdf(x, [0, 3]) / 2
        return entropy(p / p.sum()) * p.sum()

    truth = math.log(2) - integrate.quad(surprise, -12, 15)[0]
    (x, c), LR = classes(1000, 3), LogisticRegression()
    found = [est.BarberAgakov(*options).estimate(x, c) for options in ((None,), (LR,), (LR, math.log(2)))]
    for one in found:
        assert abs(one.value - truth) < 4 * one.stderr and one.stderr < 0.03 and one.bound == "lower"
    assert [one.interval[1] for one in found] == [math.inf, math.inf, math.log(2)]  # I ≤ H, where H is known
    # The same decoders, as the seed is the same: the entropy alone differs.
    assert found[2].value - found[1].value == pytest.approx(math.log(2) - entropy([c.mean(), 1 - c.mean()]), abs=1e-9)


def test_barber_agakov_of_a_continuous_code_with_its_entropy():
    x, c = gaussian(0.8, 1, 1000, 4)
    H = 0.5 * math.log(2 * math.pi * math.e)
    found = est.mutual_information(x, 1e3 * c, est.BarberAgakov(entropy=H + math.log(1e3)))  # H(aC) = H(C) + log a
    assert abs(found.value - 0.5108) < 4 * found.stderr + 0.01 and found.interval[0] < 0.5108
    with pytest.raises(ValueError, match="a continuous code needs its entropy in nats"):
        est.mutual_information(x, c, "barber_agakov")
    with pytest.raises(ValueError, match="needs a network for its decoder: got LogisticRegression"):
        est.BarberAgakov(LogisticRegression(), H).estimate(x, c)


def test_the_entropy_of_frequencies_claims_nothing_that_is_not_there():
    """Many classes, few rows, and a decoder that knows frequencies alone: the values are not above 0 on average."""
    values = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        found = est.BarberAgakov(DummyClassifier()).estimate(rng.normal(size=100), rng.integers(0, 9, 100).astype(str))
        values.append(found.value)
    assert np.mean(values) < 4 * np.std(values) / math.sqrt(200)


def test_heavy_tails_cost_no_more_than_they_are():
    """Cauchy noise of scale 1 on a Cauchy law of scale 1: I = log 2."""
    x, e = np.random.default_rng(3).standard_cauchy(size=(2, 600))
    found = est.BarberAgakov(entropy=math.log(8 * math.pi)).estimate(x, x + e)
    assert -8 < found.value < math.log(2) and (found.interval is None or found.interval[0] < math.log(2))


def test_a_class_that_the_decoder_never_saw_is_no_infinite_surprise():
    c = np.array(["a", "b"] * 30 + ["c"])
    found = est.BarberAgakov(LogisticRegression()).estimate(RNG.normal(size=61), c)
    assert math.isfinite(found.value)


def test_the_same_seed_gives_the_same_estimate_and_the_global_state_is_left_alone():
    x, c = classes(60, 0)
    torch.manual_seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    for method in ("ratio", fitted(est.InfoNCE(Ratio(0.7))), est.BarberAgakov(LogisticRegression())):
        first, second = (
            est.mutual_information(x, c.astype(str) if isinstance(method, est.BarberAgakov) else c + x, method, seed=3)
            for _ in range(2)
        )
        assert first == second
    assert torch.equal(torch.get_rng_state(), before[0]) and (np.random.get_state()[1] == before[1]).all()


def test_wrong_calls_are_refused_in_one_line():
    x, y = gaussian(0.5, 1, 60, 0)
    with pytest.raises(ValueError, match="x and y must have one row a pair, as many of each: got 60 and 59"):
        est.mutual_information(x, y[:59])
    with pytest.raises(ValueError, match="x and y need at least 30 rows for DensityRatio: got 20"):
        est.mutual_information(x[:20], y[:20])
    with pytest.raises(ValueError, match="x and y need at least 30 rows for InfoNCE: got 20"):
        est.mutual_information(x[:20], y[:20], "infonce")
    with pytest.raises(ValueError, match="x and c need at least 20 rows: got 10"):
        est.mutual_information(x[:10], y[:10], est.BarberAgakov(entropy=1.0))
    with pytest.raises(ValueError, match=r"method must estimate kl: MMD\(.*estimates mmd"):
        est.mutual_information(x, y, est.MMD())
    with pytest.raises(ValueError, match="method must estimate kl: .* estimates js"):
        est.mutual_information(x, y, est.Variational("js"))
    with pytest.raises(ValueError, match="method must be one of auto, ratio.*barber_agakov.*: got 'mine'"):
        est.mutual_information(x, y, "mine")
    with pytest.raises(TypeError, match="method must be a name or an estimator of kl: got int"):
        est.mutual_information(x, y, 3)
    with pytest.raises(ValueError, match="y has 1 NaN or non-finite"):
        est.mutual_information(x, np.where(np.arange(60)[:, None] == 7, np.nan, y))
    with pytest.raises(ValueError, match=r"x must be rows of columns, \(n, d\) or \(n,\): got shape \(2, 60, 1\)"):
        est.mutual_information(np.stack([x, x]), y)
    with pytest.raises(ValueError, match=r"confidence must lie in \(0, 1\): got 2"):
        est.mutual_information(x, y, confidence=2)
    with pytest.raises(ValueError, match="c has a column that never varies"):
        est.mutual_information(x, np.ones(60), "barber_agakov")
    with pytest.raises(TypeError, match="decoder must be a network, or a classifier with predict_proba: got str"):
        est.BarberAgakov("tree")
    with pytest.raises(ValueError, match="entropy must be a finite number of nats: got inf"):
        est.BarberAgakov(entropy=math.inf)


def test_a_value_that_was_not_drawn_leaves_no_upper_limit():
    """X = Y, Bernoulli(0.01): 0.056 nats, of which a sample of 200 without a 1 has nothing to show."""
    truth = -0.01 * math.log(0.01) - 0.99 * math.log(0.99)
    rng, covered = np.random.default_rng(1), 0
    for _ in range(200):
        x = (rng.random(200) < 0.01).astype(int).astype(str)
        found = est.mutual_information(x, x)
        covered += found.interval[0] <= truth <= found.interval[1]
    assert covered >= 180  # of 200 at 95%
    constant = est.mutual_information(["a"] * 100, ["b", "c"] * 50)
    assert constant.interval[1] == math.inf and any("one value alone" in note for note in constant.notes)


def test_two_labels_share_no_more_than_log_2():
    x = ["a", "b"] * 50
    found = est.mutual_information(x, x)
    assert found.value <= math.log(2) and found.interval[1] <= math.log(2)


def test_numbers_beside_text_stay_numbers():
    rows = [[0.1 * i, "ab"[i % 2]] for i in range(50)]
    assert paired.columns(rows, "x").shape == (50, 2)


def test_no_seed_is_the_seed_0():
    x = np.random.default_rng(0).normal(size=(60, 2))
    for method in ("gaussian", "barber_agakov"):
        labels = (x[:, 1] > 0).astype(str) if method == "barber_agakov" else x[:, 1]
        found = est.mutual_information(x[:, 0], labels, method, seed=None)
        assert found.seed is None and found.value == est.mutual_information(x[:, 0], labels, method, seed=0).value
    with pytest.raises(ValueError, match="x must have rows: got shape"):
        est.mutual_information([], [])
