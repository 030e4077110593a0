"""Density-ratio estimation: the one-step value, the models against their definitions, refusals."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize, stats

import divergences as dv
import estimators as est
from estimators.ratio import kernel_ratio
from estimators.ratio import models as ratio_models
from estimators.ratio.cross_fitting import Problem, Sides
from estimators.ratio.one_step import one_step
from tests.cases import MORE, ROWS

EVERY = [*ROWS.items(), *MORE]
IDS = [f"{name}{list(arguments.values())}" for name, arguments in EVERY]


@pytest.mark.parametrize(("name", "arguments"), EVERY, ids=IDS)
def test_the_one_step_value_is_a_lower_bound_that_is_tight_at_the_log_ratio(name, arguments):
    d, g = dv.get(name, **arguments), np.random.default_rng(0)
    p, q = g.dirichlet(np.ones(6)), g.dirichlet(np.ones(6))
    points = np.arange(6.0)[:, None]
    s = Problem(points, points, 6 * p, 6 * q)
    truth, exact = float(d(p, q)), np.log(p / q)
    assert one_step(d, Sides(exact, exact), s).value == pytest.approx(truth, rel=1e-9, abs=1e-12)
    for _ in range(50):
        v = exact + g.normal(size=6) * g.choice([0.01, 0.3, 2.0])
        assert one_step(d, Sides(v, v), s).value <= truth + 1e-12


@pytest.mark.parametrize("name", ["kl", "reverse_kl", "js", "total_variation", "pearson_chi2", "squared_hellinger"])
def test_the_standard_error_is_that_of_repeated_samples(name):
    d, values, errors = dv.get(name), [], []
    for seed in range(300):
        g = np.random.default_rng(seed)
        s = Problem(g.normal(size=(200, 1)), 0.4 + g.normal(size=(300, 1)), None, None)
        found = one_step(d, Sides(*(0.08 - 0.4 * z[:, 0] for z in (s.x, s.y))), s)
        values.append(found.value)
        errors.append(found.stderr)
    truth = dv.get(name)(stats.norm(), stats.norm(0.4))
    spread = np.std(values, ddof=1)
    assert abs(np.mean(values) - truth) <= 4 * spread / math.sqrt(300)
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(spread, rel=4 / math.sqrt(2 * 300))


@pytest.mark.parametrize("prior", [None, 0.2, 0.9])
def test_a_classifier_gives_the_ratio_whatever_its_prior(prior):
    x = np.repeat([0.0, 1.0], [300, 900])[:, None]
    y = np.repeat([0.0, 1.0], [250, 250])[:, None]
    g = est.DensityRatio("kl", prior=prior).fit(x, y)
    expected = [math.log(0.25 / 0.5), math.log(0.75 / 0.5)]  # the frequencies, which the model can represent
    np.testing.assert_allclose(g.log_ratio(np.array([[0.0], [1.0]])), expected, atol=0.01)


def test_weights_are_repetition_for_a_classifier():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(80, 2)), 0.5 + rng.normal(size=(60, 2))
    counts = rng.integers(1, 4, size=80)
    weighted = est.DensityRatio("kl").fit(x, y, x_weights=counts / counts.sum()).log_ratio(x)
    rows = np.repeat(np.arange(80), counts)
    labels = np.r_[np.ones(len(rows)), np.zeros(60)]
    balance = np.r_[np.full(len(rows), 80 / len(rows)), np.ones(60)]
    plain = ratio_models.quadratic()
    plain.fit(np.concatenate([x[rows], y]), labels, logisticregression__sample_weight=balance)
    # the standardisation of the repeated points differs, and with it what the slight ridge does
    np.testing.assert_allclose(weighted, plain.decision_function(x) - math.log(80 / 60), atol=0.02)


def test_mixtures_find_the_log_ratio():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(4000, 1)) + 3 * rng.choice([-1, 1], size=(4000, 1))
    y = 3 * rng.normal(size=(4000, 1))
    at = np.linspace(-4, 4, 9)[:, None]
    found = ratio_models.MixturePair().fit(x, y, None, None)(at)
    p = (stats.norm.pdf(at[:, 0], -3) + stats.norm.pdf(at[:, 0], 3)) / 2
    np.testing.assert_allclose(found, np.log(p) - stats.norm.logpdf(at[:, 0], 0, 3), atol=0.25)


def test_counts_are_frequencies_with_a_half_added():
    x, y = np.repeat([1.0, 2.0, 5.0], [3, 4, 3])[:, None], np.repeat([1.0, 2.0], [6, 14])[:, None]
    g = ratio_models.Counts().fit(x, y, None, None)(np.array([[5.0], [1.0], [9.0]]))
    np.testing.assert_allclose(g, [np.log(3.5 / 11.5) - np.log(0.5 / 21.5), np.log(3.5 / 11.5) - np.log(6.5 / 21.5), 0])


def test_the_score_of_ulsif_is_leaving_one_out():
    rng = np.random.default_rng(3)
    fx, fy, ridge = rng.random((12, 4)), rng.random((9, 4)), 0.1
    total = 0.0
    for i in range(9):
        rest_x, rest_y = np.delete(fx, i, 0), np.delete(fy, i, 0)
        alpha = np.linalg.solve(rest_y.T @ rest_y / 8 + ridge * np.eye(4), rest_x.mean(0)).clip(0)
        total += (fy[i] @ alpha) ** 2 / 2 - fx[i] @ alpha
    score = kernel_ratio._leave_one_out(fy.T @ fy / 9, fx.mean(0), fx[:9], fy, 12, 9, ridge)
    assert score == pytest.approx(total / 9, rel=1e-10)


def test_kliep_reaches_the_constrained_maximum():
    rng = np.random.default_rng(4)
    fx, below = rng.random((40, 5)) + 0.01, rng.random(5) + 0.2
    alpha = kernel_ratio._most_likely(fx, below, 100, 20_000)
    assert (alpha >= 0).all() and alpha @ below == pytest.approx(1)
    best = optimize.minimize(
        lambda a: -np.log(fx @ a).mean(), np.full(5, 1 / below.sum()), bounds=[(0, None)] * 5,
        constraints={"type": "eq", "fun": lambda a: a @ below - 1}, options={"ftol": 1e-12},
    )  # fmt: skip
    assert np.log(fx @ alpha).mean() == pytest.approx(-best.fun, abs=1e-4)


@pytest.mark.parametrize("model", ["logistic", "ulsif", "kliep"])
def test_a_given_model_is_a_lower_bound_near_the_truth(model):
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(800, 2)), rng.normal(size=(700, 2)) + [0.6, 0]
    e = est.DensityRatio("js", model).estimate(x, y, seed=0)
    truth = dv.js(stats.norm(), stats.norm(0.6))
    assert e.bound == "lower" and any("lower bound" in note for note in e.notes)
    assert e.interval[0] <= truth and e.interval[1] == pytest.approx(math.log(2))
    assert abs(e.value - truth) < 0.6 * truth


def test_a_flexible_classifier_keeps_its_limit_and_the_global_generator():
    from sklearn.ensemble import RandomForestClassifier

    state = np.random.get_state()[1].copy()
    forest = est.DensityRatio("kl", RandomForestClassifier(15, min_samples_leaf=10))
    below = 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(300, 3)), rng.normal(size=(300, 3)) + [1, 0, 0]
        e = forest.estimate(x, y, seed=0)
        below += e.interval[0] <= 0.5
    assert below >= 4
    assert (np.random.get_state()[1] == state).all()
    assert forest.estimate(x, y, seed=0) == forest.estimate(x, y, seed=0)


@pytest.mark.parametrize(
    ("divergence", "inner", "outer"),
    [
        ("hellinger", "squared_hellinger", lambda h: math.sqrt(h / 2)),
        ("bhattacharyya", "squared_hellinger", lambda h: -math.log(1 - h / 2)),
        (dv.get("renyi", alpha=2), "pearson_chi2", math.log1p),
    ],
    ids=["hellinger", "bhattacharyya", "renyi"],
)
def test_functions_of_an_f_divergence(divergence, inner, outer):
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(500, 1)), rng.normal(size=(500, 1)) + 0.5
    whole, part = (est.DensityRatio(d).estimate(x, y, seed=0) for d in (divergence, inner))
    assert whole.value == pytest.approx(outer(part.value), rel=1e-9)
    assert whole.interval[0] == pytest.approx(outer(part.interval[0]), rel=1e-9)
    slope = (outer(part.value + 1e-5) - outer(part.value - 1e-5)) / 2e-5
    assert whole.stderr == pytest.approx(part.stderr * slope, rel=1e-4)


def test_users_own_f():
    mine = dv.FDivergence.from_f(lambda u: (u - 1) ** 2, name="mine")
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(300, 1)), rng.normal(size=(300, 1)) + 0.3
    found, expected = (est.DensityRatio(d).estimate(x, y, seed=0) for d in (mine, "chi2"))
    assert found.value == pytest.approx(expected.value, rel=1e-6) and found.divergence == "mine"


def test_kinds_batches_and_order():
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(2, 60, 2)), rng.normal(size=(40, 2)) + 0.5
    ratio = est.DensityRatio("js")
    both = ratio(x, y)
    assert isinstance(both, np.ndarray) and both.shape == (2,)
    assert both[1] == pytest.approx(ratio(x[1], y), abs=0.05)  # other folds: the generator has moved on
    assert ratio(x[0][::-1].copy(), y) == pytest.approx(ratio(x[0], y), abs=1e-12)
    assert ratio(torch.tensor(x[0]), torch.tensor(y)).dtype == torch.float64
    assert ratio(x[0] + 1e6, y + 1e6) == pytest.approx(ratio(x[0], y), rel=1e-5)
    g = ratio.fit(x[0], y)
    assert g.log_ratio(torch.tensor(x)).shape == (2, 60) and isinstance(g.log_ratio(y), np.ndarray)
    with pytest.raises(ValueError, match=r"points must have 2 coordinates, \(\.\.\., d\): got shape \(40, 1\)"):
        g.log_ratio(y[:, :1])


def test_refusals():
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import LinearSVC

    rng = np.random.default_rng(9)
    x, w = rng.normal(size=(30, 1)), np.full(30, 1 / 30)
    with pytest.raises(ValueError, match="model must be one of auto, logistic, ulsif, kliep or a scikit-learn"):
        est.DensityRatio("kl", "ulsf")
    with pytest.raises(TypeError, match="predict_proba .*CalibratedClassifierCV.*LinearSVC"):
        est.DensityRatio("kl", LinearSVC())
    for model in ("ulsif", "kliep"):
        with pytest.raises(ValueError, match=f'model="{model}" takes no weights'):
            est.DensityRatio("kl", model).estimate(x, x + 1, x_weights=w)
        with pytest.raises(ValueError, match="has no class prior"):
            est.DensityRatio("kl", model, prior=0.5)
    with pytest.raises(ValueError, match="KNeighborsClassifier takes no sample_weight"):
        est.DensityRatio("kl", KNeighborsClassifier(), prior=0.3).estimate(x, x + 1)
    with pytest.raises(ValueError, match=r"prior must lie in \(0, 1\): got 1.0"):
        est.DensityRatio("kl", prior=1.0)
    with pytest.raises(TypeError, match="DensityRatio has no gradient"):
        est.DensityRatio("kl")(torch.randn(30, 1, requires_grad=True), torch.randn(30, 1))
    with pytest.raises(ValueError, match="x needs at least 10 points"):
        est.DensityRatio("kl").estimate(x[:9], x)
    with pytest.raises(NotImplementedError, match="DensityRatio estimates f-divergences"):
        est.DensityRatio("wasserstein")


def test_copies_of_rows_do_not_leak_between_folds():
    g = np.random.default_rng(21)
    x, y = g.normal(size=(100, 3)), g.normal(size=(100, 3))
    twice = np.full(100, 2)
    for name in ("kl", "js"):
        plain = est.estimate(x, y, name, seed=0)
        copied = est.estimate(x, y, name, seed=0, x_counts=twice, y_counts=twice)
        assert copied.interval is None and copied.bound == "lower"
        assert any("as copies they are not independent" in note for note in copied.notes)
        # It was 0.66 where copies stood on both sides of a split. The truth is 0, the standard error of kl about 0.1.
        assert abs(copied.value) < 0.3 and plain.interval[0] == 0


@pytest.mark.parametrize("kind", ["rounded", "coarse", "atom"])
def test_grids_and_atoms_are_no_copies(kind):
    g = np.random.default_rng(22)
    make = {
        "rounded": lambda z: z.round(2),
        "coarse": lambda z: z.round(),
        "atom": lambda z: np.where(g.random(z.shape) < 0.3, 0.0, z),
    }[kind]
    x, y = make(g.normal(size=(600, 1))), make(g.normal(0.3, 1, size=(600, 1)))
    found = est.estimate(x, y, "kl", seed=0)
    assert found.interval is not None and any("repeated" in note for note in found.notes)
