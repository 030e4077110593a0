"""What the door takes, what it notes, and what its refusals tell to do."""

import inspect

import numpy as np
import pandas as pd
import pytest
import torch

import estimators as est
from estimators.door import admit_thoroughly

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(60, 2)), RNG.normal(0.5, 1, size=(50, 2))


def copies_noted(x, y, **options):
    return [note for note in admit_thoroughly(x, y, **options).notes if "repeat others" in note]


def sparse(g, n, share):
    """A column with a point mass at 0 and a density elsewhere."""
    return np.where(g.random(n) < share, 0.0, g.normal(size=n))


DRAWS = {  # laws with atoms or rounding: their draws repeat, and are independent all the same
    "integers": lambda g, n: g.integers(0, 50, (n, 1)),
    "few integers": lambda g, n: g.integers(0, 3, (n, 2)),
    "two decimals": lambda g, n: g.normal(size=(n, 1)).round(2),
    "one decimal, two columns": lambda g, n: g.normal(size=(n, 2)).round(1),
    "bytes": lambda g, n: g.integers(0, 256, (n, 1)) / 255,
    "dollars in single precision": lambda g, n: g.gamma(2, 20, (n, 1)).round(0).astype(np.float32),
    "indicators": lambda g, n: np.eye(4)[g.integers(0, 4, n)],
    "standardised integers": lambda g, n: (g.integers(0, 9, (n, 2)) - 4.0) / 2.58,
    "categories off a grid": lambda g, n: np.array([0.1, 0.37, 1.9, np.pi, 7.7])[g.integers(0, 5, (n, 1))],
    "zero-inflated": lambda g, n: sparse(g, n, 0.5)[:, None],
    "two zero-inflated columns": lambda g, n: np.column_stack([sparse(g, n, 0.5), sparse(g, n, 0.9)]),
    "categories and zeros": lambda g, n: np.column_stack([g.integers(0, 50, n), sparse(g, n, 0.8)]),
    "decimals and zeros": lambda g, n: np.column_stack([g.normal(size=n).round(1), sparse(g, n, 0.8)]),
    "censored": lambda g, n: np.clip(g.normal(size=(n, 1)), -1, 1),
    "constant": lambda g, n: np.ones((n, 2)),
    "half precision": lambda g, n: g.normal(size=(n, 1)).astype(np.float16),
}
REPEATED = {
    "twice": lambda g, n: np.repeat(g.normal(size=(n // 2, 1)), 2, 0),
    "twelve times": lambda g, n: np.repeat(g.normal(size=(n // 12, 2)), 12, 0),
    "some twice": lambda g, n: np.repeat(g.normal(size=(n, 1)), np.r_[np.full(n // 5, 2), np.ones(n - n // 5, int)], 0),
    "a bootstrap sample": lambda g, n: g.normal(size=(n, 3))[g.integers(0, n, n)],
    "one to many": lambda g, n: np.repeat(g.normal(size=(n, 2)), g.poisson(6, n), 0)[:n],
    "integers beside a density": lambda g, n: np.repeat(
        np.column_stack([g.integers(0, 3, n // 2), g.normal(size=n // 2)]), 2, 0
    ),
}


@pytest.mark.parametrize("n", [60, 300])
@pytest.mark.parametrize("law", REPEATED)
def test_copied_rows_are_noted(law, n):
    g = np.random.default_rng([1, n])
    x = REPEATED[law](g, n)
    plain = g.normal(size=(n, x.shape[1]))
    assert copies_noted(plain, plain[::-1] + 1) == []
    for found, side in (
        (copies_noted(x, plain), "x"),
        (copies_noted(plain, x), "y"),
        (copies_noted(x, REPEATED[law](g, n)), "x"),
    ):
        assert len(found) == 1 and f"of the rows of {side}" in found[0] and "clusters=" in found[0]


def test_the_note_counts_the_rows_of_each_side():
    g = np.random.default_rng(2)
    twice, thrice = (np.repeat(g.normal(size=(30, 2)), times, 0) for times in (2, 3))
    (note,) = copies_noted(twice, thrice)
    assert note.startswith("50% of the rows of x and 67% of the rows of y repeat others: if they are copies")


@pytest.mark.parametrize("n", [100, 300, 2000])
@pytest.mark.parametrize("law", DRAWS)
def test_draws_of_discrete_and_rounded_laws_are_no_copies(law, n):
    for trial in range(5):
        g = np.random.default_rng([3, n, trial])
        x, y = DRAWS[law](g, n), DRAWS[law](g, n)
        plain = g.normal(size=x.shape)
        for pair in ((x, y), (x, plain), (plain, y)):  # data against data, and against a model with a density
            assert copies_noted(*pair) == [], (law, trial)


def test_values_off_every_grid_that_both_samples_share_are_atoms():
    for trial in range(10):  # logarithms of counts: rare values stand once or twice in each sample
        g = np.random.default_rng([4, trial])
        x, y = np.log1p(g.negative_binomial(1, 0.01, (400, 1))), np.log1p(g.negative_binomial(1, 0.012, (400, 1)))
        assert len(np.unique(x)) < 0.8 * len(x)
        assert copies_noted(x, y) == []


def test_counts_and_clusters_say_that_rows_repeat():
    g = np.random.default_rng(5)
    x, y = g.normal(size=(30, 1)), g.normal(size=(40, 1))
    twice = np.full(30, 2)
    assert copies_noted(x, y, x_counts=twice) == []
    doubled = np.repeat(x, 2, 0)
    assert len(copies_noted(doubled, y)) == 1

    def noted(**options):
        return [n for n in est.two_sample_test(doubled, y, "mmd", 19, **options).notes if "repeat others" in n]

    assert len(noted()) == 1
    assert noted(clusters=(np.arange(30).repeat(2), np.arange(100, 140))) == []
    assert any("repeat others" in note for note in est.EnergyDistance().estimate(doubled, y).notes)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor, pd.Series, list], ids=lambda k: k.__name__)
def test_one_axis_is_one_coordinate(kind):
    x, y = X[:, 0].copy(), Y[:, 0].copy()
    column = X[:, :1], Y[:, :1]
    for estimator in (est.MMD(), est.EMD(), est.Frechet()):
        assert float(estimator(kind(x), kind(y))) == float(estimator(*column))
        assert estimator.estimate(kind(x), kind(y)).interval == estimator.estimate(*column).interval
    assert est.estimate(kind(x), kind(y), "kl").value == est.estimate(*column, "kl").value
    found = est.two_sample_test(kind(x), kind(y), "energy_distance", 99)
    assert found.p_value == est.two_sample_test(*column, "energy_distance", 99).p_value
    x[3] = np.nan
    omitted = est.two_sample_test(kind(x), kind(y), "energy_distance", 99, nan_policy="omit")
    assert (omitted.n, omitted.m) == (59, 50)
    weights = np.full(60, 1 / 60)
    assert est.EMD()(kind(Y[:, 0]), kind(X[:, 0]), None, weights) == pytest.approx(est.EMD()(*column[::-1]))
    twice = est.EMD()(kind(Y[:, 0]), kind(X[:, 0]), y_counts=np.full(60, 2))
    assert float(twice) == pytest.approx(float(est.EMD()(*column[::-1])))


def test_gradients_reach_a_tensor_of_one_axis():
    x, y = (torch.as_tensor(z[:, 0]).clone().requires_grad_() for z in (X, Y))
    (gradient,) = torch.autograd.grad(est.EnergyDistance()(x, y), x)
    (expected,) = torch.autograd.grad(est.EnergyDistance()(x[:, None], y[:, None]), x)
    assert gradient.shape == (60,) and bool(gradient.abs().sum() > 0)
    torch.testing.assert_close(gradient, expected)


def test_one_axis_beside_two_is_refused_with_advice_that_works():
    for x, advice in (
        (pd.Series(X[:, 0]), r"np\.reshape\(x, \(-1, 1\)\)"),
        (X[:, 0], r"np\.reshape\(x, \(-1, 1\)\)"),
        (X[:, 0].tolist(), r"np\.reshape\(x, \(-1, 1\)\)"),
        (torch.as_tensor(X[:, 0]), r"x\.reshape\(-1, 1\)"),
    ):
        for call in (est.MMD(), est.MMD().estimate, est.two_sample_test):
            with pytest.raises(
                ValueError,
                match=rf"x must have at least two axes, .*, or x and y one each: got shape \(60,\); .*{advice}",
            ):
                call(x, Y[:, :1])
    with pytest.raises(ValueError, match=r"y must have at least two axes, .*, or x and y one each: got shape \(50,\)"):
        est.MMD()(X, Y[:, 0])
    for number in (1.0, np.float64(1.0), torch.tensor(1.0)):
        with pytest.raises(ValueError, match=r"x must have at least two axes.*got shape \(\)"):
            est.EMD()(number, number)
    assert est.MMD()(np.reshape(pd.Series(X[:, 0]), (-1, 1)), Y[:, :1]) == est.MMD()(X[:, :1], Y[:, :1])


def test_weights_without_mass_are_told_so():
    for normalize in (False, True):
        with pytest.raises(ValueError, match="x_weights have no mass: all are 0"):
            est.EMD().estimate(X, Y, x_weights=np.zeros(60), normalize=normalize)


def test_a_column_without_numbers_is_named():
    numbers = np.arange(4.0)
    for column, what in (
        (["Rome", "Oslo", "Rome", None], "text"),
        (pd.to_datetime(["2024-01-01"] * 4), "values of dtype datetime64.*"),
    ):
        frame = pd.DataFrame({"age": numbers, "city": column, "town": ["a", "b", "c", "d"]})
        for call in (est.MMD().estimate, est.two_sample_test, est.MMD()):
            with pytest.raises(
                TypeError, match=f"x must be an array of numbers: column 'city' holds {what}; est.compare takes such"
            ):
                call(frame, frame)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"min_effect": "a"}, TypeError, "min_effect must be a number, 0 or more: got str 'a'"),
        ({"min_effect": -1}, ValueError, "min_effect must not be negative: got -1"),
        ({"min_effect": float("nan")}, ValueError, "min_effect must not be negative: got nan"),
        ({"alpha": "a"}, TypeError, r"alpha must be a number in \(0, 1\): got str 'a'"),
        ({"alpha": 1.0}, ValueError, r"alpha must lie in \(0, 1\): got 1.0"),
        ({"permutations": "a"}, TypeError, "permutations must be an integer: got str 'a'"),
        ({"seed": "a"}, TypeError, "seed must be an integer or None: got str 'a'"),
    ],
    ids=str,
)
def test_options_of_compare_are_named(options, error, message):
    with pytest.raises(error, match=message):
        est.compare(X, Y, **options)


def test_a_comparison_of_one_column_says_nothing_of_dependence():
    g = np.random.default_rng(6)
    x, y = g.normal(size=300), np.where(g.random(300) < 0.5, -1.0, 1.0) + 0.01 * g.normal(size=300)
    shape = est.compare({"a": x}, {"a": y}, permutations=199, min_effect=2.0, progress=False)
    assert shape.joint[0]["p"] <= 0.05 and shape.table[0]["decision"] == "no difference found"
    assert "A permutation test of the distribution of 'a' has p = " in shape.summary
    assert "The distribution differs, in its shape or by less than min_effect." in shape.summary
    constant = {"c": np.ones(300)}
    shifted = est.compare({"a": x, **constant}, {"a": x + 1, **constant}, permutations=199, progress=False)
    assert "test of the distribution of 'a'" in shifted.summary
    for found in (shape, shifted):
        assert not any(word in found.summary for word in ("Jointly", "joint test", "depend", "all columns", "whole"))


def test_one_column_that_its_test_does_not_see():
    from estimators.comparison import reading

    row = dict.fromkeys(("error", "unit", "interval"), "") | {"column": "a", "kind": "continuous", "metric": "W1"}
    row |= {"decision": "differs", "p": 0.01, "p_adjusted": 0.01, "statistic": 1.0, "effect": 1.0}
    said = reading([row], [{"p": 0.4, "error": None}], 0.05)
    assert "does not see the difference" in said and "few columns" not in said


@pytest.mark.parametrize("function", [est.two_sample_test, est.estimate, est.compare], ids=lambda f: f.__name__)
def test_that_no_seed_is_a_fixed_seed_is_said(function):
    assert "None" in inspect.getdoc(function).split("seed", 1)[1][:200]
    if function is est.two_sample_test:
        assert function(X, Y, "mmd", 19, None).null == function(X, Y, "mmd", 19, 0).null
