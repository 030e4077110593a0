"""The default test: its level, what it finds, and the pieces it is made of."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import gamma, norm, rankdata

import divergences as dv
import estimators as est
from estimators.two_sample import default as module
from estimators.two_sample import features, local
from estimators.two_sample.combine import combined, log_tail, tied
from estimators.two_sample.default import default
from estimators.two_sample.labelling import design
from estimators.two_sample.permutation import Statistic
from estimators.two_sample.pool import Pool


def pool(z: torch.Tensor, n: int, seed: int = 0) -> Pool:
    """A pool whose first n points, in the order of a shuffle by ``seed``, carry the label x."""
    N = len(z)
    shuffle = torch.randperm(N, generator=torch.Generator().manual_seed(seed))
    kept = torch.ones(n, dtype=torch.bool), torch.ones(N - n, dtype=torch.bool)
    arranged = design(n, N - n, None, None, kept, shuffle)
    return Pool(z, None, n, N - n, arranged, torch.Generator().manual_seed(7), [])


def draw(seed: int, N: int, d: int) -> torch.Tensor:
    return torch.randn(N, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def every_labelling(N: int, n: int) -> torch.Tensor:
    rows = [[i in chosen for i in range(N)] for chosen in itertools.combinations(range(N), n)]
    return torch.tensor(rows)


def modes(g, n, last):
    k = g.integers(0, 4, n)
    z = g.normal(size=(n, 2)) * np.where(k == 3, last, 1.0)[:, None]
    return z + 20 * np.stack([k % 2, k // 2], -1)


def exclusive(g, n, dependent):
    bits = g.integers(0, 2, (n, 6))
    bits[:, 2] = np.where(dependent, bits[:, 0] ^ bits[:, 1], bits[:, 2])
    return bits


def grid(g, n, rho):
    z = g.normal(size=(n, 2))
    sign = np.where(g.random(n) < 0.5, 1, -1)
    z[:, 1] = sign * rho * z[:, 0] + math.sqrt(1 - rho**2) * z[:, 1]
    return z + 8 * np.stack([sign > 0, sign > 0], -1)


def turned(g, n, rho):
    z = g.normal(size=(n, 8))
    z[:, 1] = rho * z[:, 0] + math.sqrt(1 - rho**2) * z[:, 1]
    return z


NULLS = {
    "normal": lambda g: (g.normal(size=(12, 2)), g.normal(size=(12, 2))),
    "Cauchy, unequal": lambda g: (g.standard_cauchy(size=(8, 1)), g.standard_cauchy(size=(20, 1))),
    "binary": lambda g: (g.integers(0, 2, (12, 3)), g.integers(0, 2, (16, 3))),
}
DRAWS = 200

# In each the change is far beyond the noise of its own kind of statistic: |z| of 6 and more.
CHANGES = {
    "location": lambda g: (g.normal(size=(100, 3)), g.normal(size=(100, 3)) + 0.6),
    "one coordinate of 40": lambda g: (g.normal(size=(100, 40)), g.normal(size=(100, 40)) + np.eye(40)[3]),
    "spread": lambda g: (g.normal(size=(150, 4)), 1.4 * g.normal(size=(150, 4))),
    "tails": lambda g: (g.normal(size=(300, 4)), g.standard_t(3, size=(300, 4)) / math.sqrt(3)),
    "correlation turned": lambda g: (turned(g, 150, 0.6), turned(g, 150, -0.6)),
    "one mode of four": lambda g: (modes(g, 400, 1.0), modes(g, 400, 1.7)),
    "opposite correlations in two modes": lambda g: (grid(g, 200, 0.0), grid(g, 200, 0.8)),
    "exclusive or": lambda g: (exclusive(g, 250, False), exclusive(g, 250, True)),
    "categories": lambda g: (np.eye(8)[g.integers(0, 8, 200)], np.eye(8)[g.integers(0, 6, 200)]),
    "unequal sizes": lambda g: (g.normal(size=(30, 2)) + 1.3, g.normal(size=(400, 2))),
    "small": lambda g: (g.normal(size=(8, 1)), g.normal(size=(8, 1)) + 4),
    "image": lambda g: (g.normal(size=(40, 784)) ** 2, g.normal(size=(40, 784)) ** 2 * 1.2),
}


@pytest.mark.parametrize("null", NULLS)
def test_the_level_is_exact(null):
    rejected = sum(
        est.two_sample_test(*NULLS[null](np.random.default_rng(seed)), "auto", 19, seed=seed).reject(0.05)
        for seed in range(DRAWS)
    )
    error = math.sqrt(0.05 * 0.95 / DRAWS)
    assert rejected / DRAWS <= 0.05 + 3 * error
    if null != "binary":  # ties make a test conservative
        assert rejected / DRAWS >= 0.05 - 3 * error


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen(change):
    x, y = CHANGES[change](np.random.default_rng(0))
    assert est.two_sample_test(x, y, "auto", permutations=99, seed=0).p_value <= 0.02


def test_the_evidence_says_where():
    x, y = CHANGES["correlation turned"](np.random.default_rng(1))
    told = est.two_sample_test(x, y, "auto", permutations=99).evidence
    assert any("coordinates 0 and 1" in part.description for part in told if part.p_value <= 0.01)
    assert [part.p_value for part in told] == sorted(part.p_value for part in told)


@pytest.mark.parametrize(
    "z",
    [draw(0, 4, 1), draw(0, 4, 3), draw(1, 9, 30), torch.ones(6, 2).double(), torch.eye(3).double()[[0, 1, 2] * 5]],
    ids=["four on the line", "four", "more coordinates than points", "constant", "categories"],
)
def test_few_points_and_ties_have_a_p_value(z):
    half = len(z) // 2
    test = est.two_sample_test(z[:half], z[half:], "auto", 19)
    assert 0.05 <= test.p_value <= 1 and math.isfinite(test.statistic)


def test_equal_points_give_p_one():
    assert est.two_sample_test(np.ones((6, 2)), np.ones((5, 2)), "auto", 39).p_value == 1


@pytest.mark.parametrize("d", [1, 2, 4, 20])
def test_nothing_is_learnt_from_the_labels(d):
    z = draw(3, 90, d)
    labels = every_labelling(4, 2)[:, torch.arange(90) % 4]
    first, second = (
        [family.evaluate(labels) for family in default(pool(z, n, seed)).families] for n, seed in ((45, 0), (20, 1))
    )
    assert len(first) == len(second) > 10
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)


def test_z2_averages_to_one_over_all_labellings():
    table = features.plain(draw(4, 7, 6).reshape(7, 2, 3).exp(), str, str)
    (mean,) = features.statistics(table, features.Reduction("", "all"))
    assert float(mean.evaluate(every_labelling(7, 3)).mean()) == pytest.approx(1, rel=1e-12)


def test_reductions_are_sums_and_maxima_of_squared_differences():
    z, labels = draw(5, 30, 6), torch.arange(30) < 12
    phi = (z - z.mean(0)) / z.std(0, correction=0)
    z2 = ((phi[labels].mean(0) - phi[~labels].mean(0)) ** 2 / (30**2 / (29 * 12 * 18))).reshape(3, 2)
    table = features.Features(z.reshape(30, 3, 2), str, str, torch.tensor([1, 2]))
    w = torch.tensor([2 / 3, 1 / 3], dtype=torch.float64)
    expected = {"all": (z2 @ w).mean(), "group": (z2 @ w).max(), "part": z2.mean(0).max(), "one": z2.max()}
    for kind, value in expected.items():
        (found,) = features.statistics(table, features.Reduction("", kind, 1.0))
        assert float(found.evaluate(labels[None])) == pytest.approx(float(value), rel=1e-6)


def test_ranks_are_scipys():
    z = draw(6, 40, 2).round(decimals=1)
    expected = (rankdata(z.numpy(), axis=0) - 0.5) / 40
    np.testing.assert_allclose(features.ranks(z).numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("kind", "decay", "expected"), [("all", 0.0, 6.0), ("one", 0.0, 6.0), ("all", 1.0, 3 * 1.5**2 / 1.25)]
)
def test_a_statistic_looks_at_so_many_functions(kind, decay, expected):
    table = features.Features(draw(18, 20, 6).reshape(20, 3, 2), str, str, torch.tensor([1, 2]))
    assert features.number(table, features.Reduction("", kind, decay)) == pytest.approx(expected, rel=1e-12)


def test_a_wide_kernel_looks_at_the_coordinates_and_a_narrow_one_at_every_point():
    z = draw(19, 1000, 4)
    d2 = torch.cdist(z, z).square()
    # Wide: the linear kernel, whose 4 eigenvalues are 1 but for noise of order √(1/1000); narrow: the identity.
    assert module._rank(torch.exp(-d2 / 2 / 100**2)) == pytest.approx(4, rel=0.02)
    assert module._rank(torch.exp(-d2 / 2 / 0.001**2)) == pytest.approx(999, rel=1e-3)


def test_no_kind_of_change_gains_from_having_many_statistics():
    nothing = Statistic(lambda labels: torch.zeros(len(labels)), 1)
    made = [module.Weighed("margins", 3.0, nothing), *[module.Weighed("whole", 3.0, nothing)] * 4]
    few, many = module._weights(made, 40), module._weights(made, 4000)
    assert few == pytest.approx([1, *[1 / 4] * 4], rel=1e-12)  # one function at most: 40 points are fewer than 50
    assert many == pytest.approx([3, *[3 / 4] * 4], rel=1e-12)


@pytest.mark.parametrize("n", [20, 26])
def test_kernels_are_unbiased_mmd(n):
    z = draw(7, 40, 3)
    labels = torch.arange(40) < n
    kernel = dv.kernels.Gaussian(0.7)
    found = module._kernel(kernel(z, z).float(), "", z).evaluate(labels[None])
    assert float(found) == pytest.approx(float(est.MMD(kernel).value(z[labels], z[~labels])), rel=1e-3)


def test_points_far_off_cost_the_kernels_no_digits():
    g = np.random.default_rng(12)
    x, y = g.normal(size=(1600, 2)), g.normal(size=(1600, 2)) + 0.1  # beyond 3000 points: single precision
    p = {}
    for far in (None, 1e9):
        for z in (x, y) if far else ():
            z[:16] = far
        found = est.two_sample_test(x, y, permutations=99)
        p[far] = [e.p_value for e in found.evidence if e.statistic.startswith("Gaussian")]
    assert min(p[None]) <= 0.05 and min(p[1e9]) <= 0.05


def test_what_carried_the_rejection_comes_first_with_its_place():
    g = np.random.default_rng(13)
    x, y = g.normal(size=(300, 2)), g.normal(size=(300, 2))
    y[:, 1] = 0.8 * y[:, 0] + 0.6 * y[:, 1]
    first = est.two_sample_test(x, y, permutations=99).evidence[0]
    assert "pair" in first.statistic or "covariance" in first.statistic
    assert "coordinates 0 and 1" in first.description or "whole" in first.description


def test_random_frequencies_stand_in_for_a_large_kernel_matrix(monkeypatch):
    g = np.random.default_rng(8)
    x, y = g.normal(size=(80, 2)), g.normal(size=(80, 2)) + 0.8
    monkeypatch.setattr(module, "STORED", 100)
    test = est.two_sample_test(x, y, "auto", 99)
    assert test.p_value == 0.01 and any("random frequencies" in note for note in test.notes)


def test_clusters_are_the_modes():
    g = np.random.default_rng(9)
    tree = local.tree(local.scaled(torch.from_numpy(modes(g, 400, 1.0))))
    assert local.number(tree) == 4 and local.apart(tree, 4)
    found = local.clusters(tree, 4)
    for k in range(4):
        inside = found.inside[found.member[:, k] > 0]
        np.testing.assert_allclose((inside.T @ inside / len(inside)).numpy(), np.eye(2), atol=0.1)


@pytest.mark.parametrize(
    ("law", "K"),
    [(lambda g: g.uniform(size=(600, 2)), 6), (lambda g: g.standard_cauchy(size=(600, 2)), 7)],
    ids=["uniform", "heavy tails"],
)
def test_pieces_of_one_law_are_not_apart(law, K):
    tree = local.tree(local.scaled(torch.from_numpy(law(np.random.default_rng(10)))))
    assert not local.apart(tree, K)


@pytest.mark.parametrize("shape", [1.5, 5.0, 40.0])
def test_the_fitted_tail_is_the_laws(shape):
    values = torch.from_numpy(gamma.rvs(shape, size=4000, random_state=11)) * 3 - 5
    at = gamma.ppf([0.5, 0.9, 0.99, 0.999], shape)
    found = log_tail(torch.cat([values, torch.from_numpy(at * 3 - 5)]))[-4:]
    np.testing.assert_allclose(found.numpy(), gamma.logsf(at, shape), rtol=0.15, atol=0.03)


def test_a_far_value_keeps_its_small_p():
    values = torch.from_numpy(norm.rvs(size=300, random_state=12))
    values[0] = 8.0
    assert float(log_tail(values)[0]) < math.log(1e-6)


def test_values_within_rounding_are_ties():
    values = torch.tensor([2.0, 1.0, 2.0 + 1e-12, 1.0 - 1e-12, 3.0], dtype=torch.float64)
    found = tied(values, 1e-10)
    assert found[0] == found[2] and found[1] == found[3] and len(found.unique()) == 3


def test_the_combination_treats_all_labellings_alike():
    values = [torch.from_numpy(norm.rvs(size=50, random_state=s)) ** 2 for s in (13, 14, 15)]
    order = torch.from_numpy(np.random.default_rng(16).permutation(50))
    total, _ = combined(values, [0.0] * 3, [1.0, 2.0, 0.5])
    again, _ = combined([v[order] for v in values], [0.0] * 3, [1.0, 2.0, 0.5])
    torch.testing.assert_close(again, total[order], rtol=1e-9, atol=1e-9)


def test_a_statistic_without_spread_is_left_out():
    v = torch.from_numpy(norm.rvs(size=40, random_state=17))
    alone, _ = combined([v], [0.0], [1.0])
    both, p = combined([v, torch.full((40,), 3.0, dtype=torch.float64)], [0.0, 1e-9], [1.0, 1.0])
    torch.testing.assert_close(alone, both)
    assert p[1] == 1
