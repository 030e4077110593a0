"""The level: labellings are uniform, statistics do not see which was observed, and ranks are valid."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

import estimators as est
from estimators.two_sample import NAMES, c2st, permutation
from estimators.two_sample.named import resolved
from tests.estimators.two_sample_cases import ESTIMATORS, pool, values, weighted


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
