"""Entropic transport against POT, exact assignments and the closed form of Gaussians; its certificate and interval."""

import math

import numpy as np
import ot
import pytest
import torch
from scipy.optimize import brentq, linear_sum_assignment
from scipy.stats import binom

import estimators as est
from divergences import ConvergenceError, kernels
from estimators.door import Samples
from estimators.ops import sinkhorn
from estimators.ops.sinkhorn import dense


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


def kl(p, q):
    return (p * np.log(p / q) - p + q).sum()


def entropic(s, t, blur):
    """OT of N(0, s²) and N(0, t²), ε = 2·blur², up to what the debiasing cancels. Janati et al. 2020, theorem 1."""
    D = math.sqrt(4 * s**2 * t**2 + blur**4)
    return s**2 + t**2 - D + blur**2 * math.log(D + blur**2)


def divergence(d, shift, scale, blur):
    """S of N(0, I) and N(shift·e₁, scale²·I)."""
    own = (entropic(1, 1, blur) + entropic(scale, scale, blur)) / 2
    return shift**2 + d * (entropic(1, scale, blur) - own)


@pytest.mark.parametrize(("order", "metric"), [(1, "euclidean"), (2, "euclidean"), (1, "cityblock")])
def test_is_that_of_pot(order, metric):
    x, y = samples(30, 25, 2)
    a, b = weights(30, 1), weights(25, 2)
    C = costs(x, y, order) if metric == "euclidean" else np.abs(x[:, None] - y).sum(-1)
    epsilon = order * 0.5**order
    plan = ot.sinkhorn(a, b, C, epsilon, stopThr=1e-13, numItermax=20_000)
    expected = (plan * C).sum() + epsilon * kl(plan, a[:, None] * b)
    estimator = est.Sinkhorn(order, blur=0.5, debiased=False, metric=metric)
    assert estimator.estimate(x, y, x_weights=a, y_weights=b).value == pytest.approx(expected, rel=1e-6)
    found = estimator.coupling(x, y, a, b)
    np.testing.assert_allclose(found.plan, plan, atol=1e-5)
    assert found.converged and found.bounds[0] - 1e-9 <= expected <= found.bounds[1] + 1e-9


@pytest.mark.parametrize("reach", [0.5, 2.0])
def test_reach_is_that_of_pot(reach):
    x, y = samples(20, 15, 2)
    a, b = weights(20, 1), weights(15, 2)
    C, epsilon, rho = costs(x, y, 2), 2 * 0.5**2, 2 * reach**2
    plan = ot.unbalanced.sinkhorn_unbalanced(a, b, C, epsilon, rho, reg_type="kl", stopThr=1e-14, numItermax=50_000)
    relaxed = rho * (kl(plan.sum(1), a) + kl(plan.sum(0), b))
    expected = (plan * C).sum() + epsilon * kl(plan, a[:, None] * b) + relaxed
    estimator = est.Sinkhorn(2, blur=0.5, debiased=False, reach=reach)
    assert estimator.estimate(x, y, x_weights=a, y_weights=b).value == pytest.approx(expected, rel=1e-5)


def test_a_callable_metric_is_its_name():
    x, y = samples(20, 25, 3)
    by_callable = est.Sinkhorn(1, metric=lambda a, b: (a[..., :, None, :] - b[..., None, :, :]).abs().sum(-1))
    assert by_callable(x, y) == pytest.approx(est.Sinkhorn(1, metric="cityblock")(x, y), rel=1e-9)


@pytest.mark.parametrize(("order", "blurs"), [(1, (0.4, 0.1, 0.02, 0.005)), (2, (0.4, 0.2, 0.1, 0.05))])
def test_tends_to_the_exact_cost(order, blurs):
    x, y = samples(40, 40, 2)
    exact = assignment(x, y, order)
    errors = [abs(est.Sinkhorn(order, blur=blur).estimate(x, y).value - exact) for blur in blurs]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] <= 0.02 * exact


def test_of_a_shift_is_its_square():
    x, _ = samples(50, 1, 3)
    shift = np.array([1.0, 2.0, -0.5])
    for blur in (0.1, 1.0, 10.0):
        assert est.Sinkhorn(blur=blur).estimate(x, x + shift).value == pytest.approx((shift**2).sum(), rel=1e-5)


def test_of_gaussians_on_a_grid():
    grid = torch.linspace(-12, 12, 801, dtype=torch.float64)[:, None]
    a, b = (torch.softmax(-grid[:, 0].square() / (2 * scale**2), 0) for scale in (1.0, 2.0))
    assert float(est.Sinkhorn(blur=1.0)(grid, grid, a, b)) == pytest.approx(divergence(1, 0, 2.0, 1.0), rel=1e-4)


@pytest.mark.parametrize("reach", [None, 1.0])
@pytest.mark.parametrize("order", [1, 2])
def test_gradients(reach, order):
    """The envelope gradient against differences of values solved to 1e-10."""
    x, y = (torch.from_numpy(p) for p in samples(7, 6, 2))
    g = torch.Generator().manual_seed(0)
    a = torch.rand(7, generator=g, dtype=torch.float64)
    a = (a / a.sum()).requires_grad_()
    x.requires_grad_()
    estimator = est.Sinkhorn(order, blur=0.5, reach=reach)
    blur = torch.tensor(0.5, dtype=torch.float64)

    def value(x, a):
        uniform = torch.full((6,), 1 / 6, dtype=torch.float64)
        return estimator._divergence(Samples(x, y, a, uniform), blur, 1e-12)[0]

    slopes = torch.autograd.grad(value(x, a), (x, a))
    h, direction = 1e-4, torch.randn(7, 2, generator=g, dtype=torch.float64)
    tilt = torch.randn(7, generator=g, dtype=torch.float64)
    tilt -= tilt.mean()  # weights stay on the simplex
    with torch.no_grad():
        along_x = (value(x + h * direction, a) - value(x - h * direction, a)) / (2 * h)
        along_a = (value(x, a + h * tilt) - value(x, a - h * tilt)) / (2 * h)
    assert float((slopes[0] * direction).sum()) == pytest.approx(float(along_x), abs=1e-6)
    assert float((slopes[1] * tilt).sum()) == pytest.approx(float(along_a), abs=1e-6)


def test_second_derivatives_are_refused_not_wrong():
    x, y = (torch.from_numpy(p).requires_grad_() for p in samples(7, 6, 2))
    (slope,) = torch.autograd.grad(est.Sinkhorn(blur=0.5)(x, y), x, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(slope.sum(), x)


@pytest.mark.parametrize("blur", [0.02, 0.1, 1.0])
@pytest.mark.parametrize("apart", [0.0, 30.0], ids=["one cluster", "two clusters"])
def test_the_dual_and_the_primal_meet(blur, apart):
    x, y = (torch.from_numpy(p) for p in samples(60, 50, 2))
    x[:20] += apart
    y[:30] += apart
    C = kernels.squared_distances(x, y)
    a, b = torch.full((60,), 1 / 60, dtype=torch.float64), torch.full((50,), 1 / 50, dtype=torch.float64)
    epsilon = torch.tensor(2 * blur**2, dtype=torch.float64)
    found = dense.solve(C, a, b, epsilon, tolerance=1e-5, iterations=20_000)
    assert float(found.error) <= 1e-5
    gap = float(dense.primal(C, a, b, epsilon, None, found.f, found.g) - found.value)
    assert -1e-9 <= gap <= 1e-4 * float(found.value)


def test_reach_lets_far_mass_stay():
    x, y = torch.zeros(4, 1), torch.zeros(4, 1)
    y[3] = 100.0
    balanced, relaxed = est.Sinkhorn(blur=0.1)(x, y), est.Sinkhorn(blur=0.1, reach=1.0)(x, y)
    assert float(balanced) == pytest.approx(2500.0, rel=1e-3)
    assert 0 < float(relaxed) < 2.0


def test_a_solver_that_stops_early_says_so():
    x, y = samples(60, 60, 2)
    estimator = est.Sinkhorn(1, blur=1e-3, debiased=False, iterations=5)
    for call in (estimator, estimator.estimate, estimator.coupling):
        with pytest.raises(ConvergenceError, match=r"iterations=5"):
            call(x, y)
    found = estimator.coupling(x, y, strict=False)
    plan = ot.emd(np.full(60, 1 / 60), np.full(60, 1 / 60), costs(x, y, 1))
    feasible = assignment(x, y, 1) + 1e-3 * (plan[plan > 0] * np.log(plan[plan > 0] * 3600)).sum()
    assert not found.converged and found.bounds[0] <= feasible and found.bounds[1] >= assignment(x, y, 1)


@pytest.mark.parametrize(("order", "blur"), [(1, 1e-6), (2, 1e-3), (2, 1e-6), (2, 1e-9)])
def test_tiny_blur_is_solved_or_refused(order, blur):
    x, y = samples(30, 30, 2)
    try:
        value = est.Sinkhorn(order, blur=blur).estimate(x, y).value
    except ConvergenceError as error:
        low, high = (float(limit) for limit in str(error).split("[")[1].split("]")[0].split(","))
        assert low <= assignment(x, y, order) <= high
        return
    assert value == pytest.approx(assignment(x, y, order), rel=1e-3)


def test_the_entropic_map_is_affine_between_gaussians():
    """Between N(0, s²) and N(0, t²) it is z ↦ z·(D − blur²)/(2s²), D = √(4s²t² + blur⁴), off the sample as on it."""
    s, t, blur = 1.0, 2.0, 0.7
    grid = np.linspace(-12, 12, 801)[:, None]
    a, b = (np.exp(-(grid[:, 0] ** 2) / (2 * scale**2)) for scale in (s, t))
    found = est.Sinkhorn(blur=blur).coupling(grid, grid, a / a.sum(), b / b.sum())
    slope = (math.sqrt(4 * s**2 * t**2 + blur**4) - blur**2) / (2 * s**2)
    z = np.array([[-1.234], [0.01], [2.5]])
    np.testing.assert_allclose(found.map(z), slope * z, atol=2e-3)
    np.testing.assert_allclose(found.map()[300:500], slope * grid[300:500], atol=2e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: est.Sinkhorn(blur=0.0), "blur must be positive"),
        (lambda: est.Sinkhorn(blur="small"), "blur must be positive"),
        (lambda: est.Sinkhorn(reach=-1.0), "reach must be positive"),
        (lambda: est.Sinkhorn(metric="cosine"), "metric must be"),
    ],
)
def test_bad_choices_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("order", ["as drawn", "sorted", "shuffled"])
@pytest.mark.parametrize("k", range(4))
def test_two_points_are_solved_in_any_order(k, order):
    """Of 0/1 data, where the plan is a 2 × 2 table with one free entry."""
    g = np.random.default_rng([45, k])
    x, y = (g.integers(0, 2, size=(500, 1)).astype(float) for _ in range(2))
    if order != "as drawn":
        x, y = (np.sort(v, 0) if order == "sorted" else g.permutation(v) for v in (x, y))
    C, epsilon = np.array([[0.0, 1.0], [1.0, 0.0]]), 2 * 0.2**2

    def optimum(a, b):
        def table(p):
            return np.array([[p, a[0] - p], [b[0] - p, 1 - a[0] - b[0] + p]])

        def excess(p):  # at the optimum the odds ratio is e^(2/ε): costs of 2 against none
            (k, l), (m, n) = table(p)
            return k * n - math.exp(2 / epsilon) * l * m

        plan = table(brentq(excess, max(0.0, a[0] + b[0] - 1), min(a[0], b[0]), xtol=1e-16))
        return (plan * C).sum() + epsilon * kl(plan, a[:, None] * b)

    a, b = (np.array([1 - v.mean(), v.mean()]) for v in (x, y))
    expected = optimum(a, b) - (optimum(a, a) + optimum(b, b)) / 2
    e = est.Sinkhorn(blur=0.2).estimate(x, y, seed=0)
    assert e.value == pytest.approx(expected, abs=1e-6)


def test_rounding_onto_marginals_that_hold_already():
    pi = torch.full((3, 3), 1 / 9, dtype=torch.float64)
    for nudge in (1e-17, -1e-17, 0.0):
        a = torch.full((3,), 1 / 3, dtype=torch.float64) + nudge
        found = sinkhorn.rounded(pi, a, torch.full((3,), 1 / 3, dtype=torch.float64))
        torch.testing.assert_close(found, pi)


@pytest.mark.parametrize(
    ("n", "d", "blur"),
    [(300, 10, "auto"), (200, 30, "auto"), (200, 100, "auto"), (40, 100, "auto"), (200, 10, 0.3), (200, 30, 0.3)],
)
def test_of_equal_laws_in_many_dimensions_the_interval_has_0(n, d, blur):
    for r in range(8):
        x, y = np.random.default_rng([47, r]).normal(size=(2, n, d))
        e = est.Sinkhorn(blur=blur).estimate(x, y, seed=r)
        assert e.interval is None or e.interval[0] == 0.0


@pytest.mark.parametrize(
    ("d", "shift", "scale", "blur"), [(10, 2.0, 1.0, 1.0), (10, 0.0, 2.0, 1.0), (20, 3.0, 0.5, 3.0)]
)
def test_the_lower_limit_holds_where_most_of_the_value_is_bias(d, shift, scale, blur):
    truth, above = divergence(d, shift, scale, blur), 0
    for r in range(20):
        g = np.random.default_rng([53, r])
        y = scale * g.normal(size=(100, d))
        y[:, 0] += shift
        e = est.Sinkhorn(blur=blur).estimate(g.normal(size=(100, d)), y, seed=r)
        above += e.interval is not None and e.interval[0] > truth
    assert binom.sf(above - 1, 20, 0.03) > 1e-3


@pytest.mark.parametrize(
    ("d", "shift", "scale"),
    [(1, 0.0, 1.0), (2, 0.3, 1.0), (2, 1.0, 1.0), (1, 0.0, 1.5)],
    ids=["equal laws", "near", "shift", "scale"],
)
def test_printed_intervals_cover(d, shift, scale):
    blur, printed, covered, above = 0.5 * math.sqrt(d), 0, 0, 0
    truth = divergence(d, shift, scale, blur)
    for r in range(150):
        g = np.random.default_rng([19, r])
        x, y = g.normal(size=(100, d)), scale * g.normal(size=(100, d))
        y[:, 0] += shift
        e = est.Sinkhorn(blur=blur).estimate(x, y, seed=r)
        if e.interval is None:
            assert any("no interval" in note for note in e.notes)
        else:
            printed += 1
            covered += e.interval[0] <= truth + 1e-12 and truth <= e.interval[1]
            above += truth > e.interval[1]
    assert printed >= 60
    assert binom.cdf(covered, printed, 0.93) > 1e-3
    assert binom.sf(above - 1, printed, 0.035) > 1e-3  # the lower limit is careful, the upper one must not lean on it


def test_intervals_with_reach_cover():
    """N(0, 1) and N(1, 1) on a grid, solved by POT; by hand from its plans, as the objective is the convention."""
    grid = np.linspace(-6, 7, 150)
    a, b = (np.exp(-((grid - mean) ** 2) / 2) for mean in (0.0, 1.0))
    a, b = a / a.sum(), b / b.sum()
    C, epsilon, rho = (grid[:, None] - grid) ** 2, 2 * 0.7**2, 2 * 1.5**2

    def optimum(p, q):
        plan = ot.unbalanced.sinkhorn_unbalanced(p, q, C, epsilon, rho, reg_type="kl", stopThr=1e-12)
        return (plan * C).sum() + epsilon * kl(plan, p[:, None] * q) + rho * (kl(plan.sum(1), p) + kl(plan.sum(0), q))

    truth = optimum(a, b) - (optimum(a, a) + optimum(b, b)) / 2
    covered = printed = 0
    for r in range(100):
        g = np.random.default_rng([37, r])
        e = est.Sinkhorn(blur=0.7, reach=1.5).estimate(g.normal(size=(60, 1)), 1 + g.normal(size=(60, 1)), seed=r)
        if e.interval is not None:
            printed += 1
            covered += e.interval[0] <= truth <= e.interval[1]
    assert printed >= 80
    assert binom.cdf(covered, printed, 0.93) > 1e-3
