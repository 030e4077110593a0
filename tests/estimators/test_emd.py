"""Exact transport against assignments, linear programs, SciPy and POT; its certificate, map and interval."""

import math

import numpy as np
import ot
import pytest
import torch
from scipy.optimize import linear_sum_assignment, linprog
from scipy.spatial.distance import cdist
from scipy.stats import binom, wasserstein_distance, wasserstein_distance_nd

import estimators as est
from divergences import ConvergenceError
from estimators.transport.line import one_dimensional


def samples(n, m, d, seed=0):
    g = np.random.default_rng(seed)
    return g.normal(size=(n, d)), 0.7 * g.normal(size=(m, d)) + 0.5


def weights(n, seed):
    return np.random.default_rng(seed).dirichlet(np.ones(n))


def costs(x, y, order):
    return np.linalg.norm(x[:, None] - y[None], axis=-1) ** order


def assignment(x, y, order):
    C = costs(x, y, order)
    rows, columns = linear_sum_assignment(C)
    return C[rows, columns].mean()


@pytest.mark.parametrize("d", [1, 2, 7])
@pytest.mark.parametrize("order", [1, 1.5, 2, 3])
def test_is_the_assignment(d, order):
    x, y = samples(40, 40, d)
    assert est.EMD(order, rooted=False)(x, y) == pytest.approx(assignment(x, y, order), rel=1e-10)
    assert est.EMD(order)(x, y) == pytest.approx(assignment(x, y, order) ** (1 / order), rel=1e-10)


def test_with_weights_is_the_linear_program():
    x, y = samples(6, 5, 2)
    a, b = weights(6, 1), weights(5, 2)
    marginals = np.vstack([np.kron(np.eye(6), np.ones(5)), np.kron(np.ones(6), np.eye(5))])
    exact = linprog(costs(x, y, 1).ravel(), A_eq=marginals, b_eq=np.concatenate([a, b])).fun
    assert est.EMD()(x, y, a, b) == pytest.approx(exact, rel=1e-8)


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("order", [1, 2])
def test_is_that_of_pot(d, order):
    x, y = samples(30, 20, d)
    a, b = weights(30, 1), weights(20, 2)
    assert est.EMD(order, rooted=False)(x, y, a, b) == pytest.approx(ot.emd2(a, b, costs(x, y, order)), rel=1e-10)


def test_is_that_of_scipy_in_many_dimensions():
    x, y = samples(12, 9, 3)
    a, b = weights(12, 1), weights(9, 2)
    assert est.EMD()(x, y, a, b) == pytest.approx(wasserstein_distance_nd(x, y, a, b), rel=1e-8)


def test_metrics():
    x, y = samples(20, 20, 3)
    C = np.abs(x[:, None] - y[None]).sum(-1)
    expected = C[linear_sum_assignment(C)].mean()
    assert est.EMD(1, "cityblock")(x, y) == pytest.approx(expected, rel=1e-10)
    by_callable = est.EMD(1, lambda a, b: (a[..., :, None, :] - b[..., None, :, :]).abs().sum(-1))
    assert by_callable(x, y) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (lambda a, b: torch.full((3, 4), torch.nan), "ground cost of x and y"),
        (lambda a, b: torch.full((3, 4), torch.inf), "ground cost of x and y"),
        (lambda a, b: torch.ones(4, 3), r"metric\(x, y\) must be \(\.\.\., 3, 4\).*got \(4, 3\)"),
        (lambda a, b: torch.tensor(1.0), r"metric\(x, y\) must be \(\.\.\., 3, 4\).*got \(\)"),
        (lambda a, b: np.full((3, 4), np.nan), "cost of x and y has 12 NaN or non-finite value.*first in row 0"),
        (lambda a, b: 1.0, r"metric\(x, y\) must return a tensor of shape \(\.\.\., 3, 4\): got float"),
    ],
    ids=["nan", "inf", "shape", "scalar tensor", "nan array", "number"],
)
@pytest.mark.parametrize("name", ["emd", "sinkhorn"])
def test_a_bad_cost_is_refused(name, metric, message):
    estimator = est.EMD(1, metric) if name == "emd" else est.Sinkhorn(1, blur=0.5, metric=metric)
    with pytest.raises((TypeError, ValueError), match=message):
        estimator(*samples(3, 4, 2))


def test_a_metric_may_be_scipys_where_no_gradient_is_asked_for():
    x, y = samples(20, 25, 3)
    assert est.EMD(1, cdist)(x, y) == pytest.approx(est.EMD()(x, y), rel=1e-12)
    x = torch.from_numpy(x).requires_grad_()
    with pytest.raises(TypeError, match="must return a tensor.*got ndarray, which has no gradient"):
        est.EMD(1, lambda a, b: cdist(a.detach(), b))(x, torch.from_numpy(y))


@pytest.mark.parametrize("order", [1, 2, 2.5])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("tied", [False, True])
def test_the_line_is_the_plan(order, weighted, tied):
    g = np.random.default_rng(2)
    x, y = g.normal(size=17), g.normal(size=23)
    if tied:
        x, y = x.round(), y.round()
    a, b = (weights(17, 1), weights(23, 2)) if weighted else (None, None)
    tensors = [None if v is None else torch.from_numpy(v) for v in (a, b)]
    found = float(one_dimensional(torch.from_numpy(x), torch.from_numpy(y), order, *tensors))
    uniform = np.full(17, 1 / 17), np.full(23, 1 / 23)
    a, b = (a, b) if weighted else uniform
    assert found == pytest.approx(ot.emd2(a, b, np.abs(x[:, None] - y) ** order), rel=1e-9)
    if order == 1:
        assert found == pytest.approx(wasserstein_distance(x, y, a, b), rel=1e-9)


@pytest.mark.parametrize("sizes", [(9, 9), (9, 13)], ids=["equal", "unequal"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("order", "d"), [(1, 1), (2, 1), (3, 1), (1, 2), (2, 3)])
def test_a_coupling_certifies_itself(order, d, weighted, sizes):
    n, m = sizes
    x, y = samples(n, m, d)
    a, b = (weights(n, 1), weights(m, 2)) if weighted else (np.full(n, 1 / n), np.full(m, 1 / m))
    C = costs(x, y, order)
    found = est.EMD(order).coupling(x, y, a, b)
    assert found.converged and found.plan.min() >= 0
    np.testing.assert_allclose(found.plan.sum(1), a, atol=1e-12)
    np.testing.assert_allclose(found.plan.sum(0), b, atol=1e-12)
    assert (found.plan * C).sum() == pytest.approx(found.value, rel=1e-12)
    assert (C - found.f[:, None] - found.g).min() >= -1e-12
    assert a @ found.f + b @ found.g == pytest.approx(found.value, rel=1e-10)


@pytest.mark.parametrize("d", [1, 2])
def test_the_map_of_a_shift_is_the_shift(d):
    x, _ = samples(30, 1, d)
    y = np.random.default_rng(1).permutation(x + 3.0)
    found = est.EMD(2).coupling(x, y)
    np.testing.assert_allclose(found.map(), x + 3.0, atol=1e-9)
    assert isinstance(est.EMD(2).coupling(torch.from_numpy(x), torch.from_numpy(y)).map(), torch.Tensor)
    with pytest.raises(ValueError, match="points must have"):
        found.map(np.zeros((2, d + 1)))


def test_the_map_of_new_points_goes_where_their_neighbours_go():
    """Two clusters exchange places by less than their distance: each new point follows its cluster."""
    g = np.random.default_rng(0)
    x = np.concatenate([g.normal(size=(20, 2)), g.normal(size=(20, 2)) + [40.0, 0.0]])
    y = np.concatenate([g.normal(size=(20, 2)) + [0.0, 9.0], g.normal(size=(20, 2)) + [40.0, -9.0]])
    moved = est.EMD(2).coupling(x, y).map(np.array([[0.3, 0.1], [40.2, -0.4]]))
    np.testing.assert_allclose(moved, [[0.0, 9.0], [40.0, -9.0]], atol=4.0)


@pytest.mark.parametrize("iterations", [1, 5, 100])
def test_a_solver_that_stops_early_says_so(iterations):
    x, y = samples(100, 100, 2)
    exact = assignment(x, y, 1)
    estimator = est.EMD(iterations=iterations)
    for call in (estimator, estimator.estimate, estimator.coupling):
        with pytest.raises(ConvergenceError, match=rf"iterations={iterations}: the cost lies in \["):
            call(x, y)
    found = estimator.coupling(x, y, strict=False)
    low, high = found.bounds
    assert not found.converged and low < exact < high
    np.testing.assert_allclose(found.plan.sum(1), 0.01, atol=1e-12)
    np.testing.assert_allclose(found.plan.sum(0), 0.01, atol=1e-12)


def test_checks_come_before_native_code():
    bad = torch.tensor([[0.0, float("nan")], [1.0, 1.0]])
    with pytest.raises(ValueError, match="x has 1 NaN"):
        est.EMD()(bad, torch.zeros(2, 2))
    with pytest.raises(ValueError, match="y_weights must be finite, not negative, and sum to 1"):
        est.EMD()(torch.zeros(2, 2), torch.zeros(2, 2), None, torch.tensor([1.0, 1.0]))
    with pytest.raises(ValueError, match="x needs at least 1 point"):
        est.EMD()(torch.empty(0, 2), torch.zeros(2, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: est.EMD(0.5), "order must be at least 1"),
        (lambda: est.EMD(math.inf), "order must be at least 1 and finite: got inf"),
        (lambda: est.EMD(1, "cosine"), "metric must be"),
    ],
)
def test_bad_choices_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def coverage(estimator, draw, truth, repetitions):
    """Intervals printed, and those of them that cover; repetition r draws from (17, r)."""
    printed = covered = 0
    for r in range(repetitions):
        e = estimator.estimate(*draw(np.random.default_rng([17, r])), seed=r)
        if e.interval is not None:
            printed += 1
            covered += e.interval[0] <= truth + 1e-12 and truth <= e.interval[1] + 1e-12
    return printed, covered


LINE = {
    "equal laws": (0.0, 1.0, 0.0, 0.0),
    "near": (0.1, 1.0, 0.1, 0.1),
    "shift": (1.0, 1.0, 1.0, 1.0),
    "scale": (0.0, 1.5, 0.5 * math.sqrt(2 / math.pi), 0.5),  # W₁ = E|Z|/2
}


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("case", LINE)
def test_intervals_on_the_line_cover(case, order):
    shift, scale, *truth = LINE[case]

    def draw(g):
        return g.normal(size=(300, 1)), shift + scale * g.normal(size=(300, 1))

    printed, covered = coverage(est.EMD(order), draw, truth[order - 1], 150)
    assert printed >= 100
    assert binom.cdf(covered, printed, 0.93) > 1e-3


HEAVY = {
    "lognormal": lambda g: (np.exp(g.normal(size=(300, 1))), np.exp(1.5 * g.normal(size=(300, 1)))),
    "Pareto": lambda g: (1 + g.pareto(2.2, (300, 1)), 2 + 2 * g.pareto(2.2, (300, 1))),
    "Cauchy": lambda g: (g.standard_cauchy((300, 1)), 2 * g.standard_cauchy((300, 1))),
    "far points": lambda g: (
        g.normal(size=(300, 1)),
        np.where(g.random((300, 1)) < 0.01, 100.0, g.normal(size=(300, 1))),
    ),
}
DISTANCES = {"lognormal": math.exp(1.125) - math.exp(0.5), "Pareto": 2.2 / 1.2, "Cauchy": math.inf, "far points": 1.0}


@pytest.mark.parametrize("estimator", [est.EMD(), est.SlicedWasserstein(1)], ids=["emd", "sliced"])
@pytest.mark.parametrize("case", HEAVY)
def test_of_a_heavy_tail_few_draws_have_a_wrong_interval(case, estimator):
    """W₁ is the difference of means but for the far points, 0.01·(100 − E Z) less a little."""
    wrong = 0
    for r in range(60):
        e = estimator.estimate(*HEAVY[case](np.random.default_rng([43, r])), seed=r)
        if e.interval is None:
            assert any(note.startswith("no interval") for note in e.notes)
        else:
            wrong += not e.interval[0] <= DISTANCES[case] <= e.interval[1]
    # With no far point in the sample, 0.99³⁰⁰ = 5% of the draws, nothing shows that there are any.
    assert binom.sf(wrong - 1, 60, 0.1 if case == "far points" else 0.05) > 1e-3


def test_the_interval_of_a_shift_is_about_as_wide_as_the_oracles():
    """W₁ of N(0, 1) and N(1, 1) is the difference of means, whose standard error is √(2/n)."""
    g = np.random.default_rng(3)
    widths = []
    for r in range(20):
        low, high = est.EMD().estimate(g.normal(size=(500, 1)), 1 + g.normal(size=(500, 1)), seed=r).interval
        widths.append(high - low)
    assert np.mean(widths) <= 1.25 * 2 * 1.96 * math.sqrt(2 / 500)


def test_in_two_dimensions_the_interval_covers_or_is_refused():
    def draw(g):
        return g.normal(size=(150, 2)), g.normal(size=(150, 2)) + np.eye(2)[0]

    printed, covered = coverage(est.EMD(2), draw, 1.0, 100)
    assert printed >= 30
    assert binom.cdf(covered, printed, 0.93) > 1e-3


def test_in_high_dimension_there_is_no_interval():
    g = np.random.default_rng(0)
    e = est.EMD(2).estimate(g.normal(size=(200, 10)), g.normal(size=(200, 10)) + 0.3)
    assert e.interval is None and e.bound == "upper" and any("not small against" in note for note in e.notes)


def test_one_far_point_refuses_the_interval():
    x, y = samples(50, 50, 1)
    x[0] = 1e4
    e = est.EMD().estimate(x, y)
    assert e.interval is None and any("one point of x makes up" in note for note in e.notes)


@pytest.mark.parametrize("estimator", [est.EMD(), est.EMD(2), est.SlicedWasserstein(), est.Sinkhorn()], ids=repr)
def test_the_same_points_in_another_order_have_no_interval(estimator):
    x, _ = samples(50, 1, 2)
    e = estimator.estimate(x, np.random.default_rng(0).permutation(x))
    assert e.value == pytest.approx(0.0, abs=1e-12) and e.interval is None
    assert any("x and y have the same points" in note for note in e.notes)


TRANSPORTS = [est.EMD(), est.EMD(2), est.SlicedWasserstein(), est.MaxSlicedWasserstein(), est.Sinkhorn()]


@pytest.mark.parametrize("estimator", TRANSPORTS, ids=repr)
@pytest.mark.parametrize("d", [1, 3])
def test_where_no_variation_is_seen_there_is_no_interval(estimator, d):
    z = np.zeros((30, d))
    for y in (z[:20], z + 1):
        e = estimator.estimate(z, y, seed=0)
        assert e.interval is None and e.stderr is None and any("no sampling error can be seen" in n for n in e.notes)
    few = np.random.default_rng(0).normal(size=(12, d))
    e = estimator.estimate(np.tile(few, (2, 1)), np.tile(few, (3, 1)), seed=0)
    assert e.interval is None and any("x and y have the same points" in note for note in e.notes)


def test_costs_that_do_not_vary_have_no_interval():
    """Of 0 and 1 against ½ every point costs ½, whatever the shares: not an error of 0 but one that is not seen."""
    e = est.EMD().estimate(np.repeat([0.0, 1.0], 15)[:, None], np.full((20, 1), 0.5))
    assert e.value == pytest.approx(0.5) and e.interval is None
    assert any("do not vary beyond rounding" in note for note in e.notes)


@pytest.mark.parametrize("scale", [1e-100, 1e-30, 1e30, 1e100])
@pytest.mark.parametrize(
    "estimator",
    [est.EMD(1), est.EMD(2), est.SlicedWasserstein(), est.MaxSlicedWasserstein(), est.AffineWasserstein()],
    ids=lambda e: f"{type(e).__name__} {getattr(e, 'order', 2)}",
)
def test_the_unit_may_be_anything(estimator, scale):
    x, y = samples(300, 300, 1 if estimator.__class__ is est.EMD else 3)
    plain, scaled = estimator.estimate(x, y, seed=0), estimator.estimate(x * scale, y * scale, seed=0)
    assert scaled.value == pytest.approx(plain.value * scale, rel=1e-6)
    assert scaled.stderr == pytest.approx(plain.stderr * scale, rel=1e-6)
    if plain.interval is not None:
        np.testing.assert_allclose(np.array(scaled.interval) / scale, plain.interval, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("scale", [1e-100, 1e-30, 1e30, 1e100])
def test_the_exact_plan_is_that_in_any_unit(scale):
    x, y = samples(40, 40, 3)
    assert est.EMD()(x * scale, y * scale) == pytest.approx(assignment(x, y, 1) * scale, rel=1e-9)


def test_a_coupling_is_shown_by_its_size():
    assert repr(est.EMD().coupling(*samples(100, 120, 2))).startswith("Coupling(n=100, m=120, value=")
