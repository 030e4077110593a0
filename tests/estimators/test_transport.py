"""Transport between samples against independent assignments, one-dimensional formulas and Gaussian closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment, linprog
from scipy.stats import wasserstein_distance

import estimators as est
from divergences import ConvergenceError, kernels
from estimators.door import Samples
from estimators.ops import sinkhorn
from estimators.sliced import one_dimensional


def samples(n, m, d, seed=0):
    g = np.random.default_rng(seed)
    return g.normal(size=(n, d)), 0.7 * g.normal(size=(m, d)) + 0.5


def costs(x, y, order):
    return np.linalg.norm(x[:, None] - y[None], axis=-1) ** order


def assignment(x, y, order):
    C = costs(x, y, order)
    rows, columns = linear_sum_assignment(C)
    return C[rows, columns].mean()


@pytest.mark.parametrize("d", [1, 2, 7])
@pytest.mark.parametrize("order", [1, 1.5, 2, 3])
def test_emd_is_the_assignment(d, order):
    x, y = samples(40, 40, d)
    assert est.EMD(order, rooted=False)(x, y) == pytest.approx(assignment(x, y, order), rel=1e-10)
    assert est.EMD(order)(x, y) == pytest.approx(assignment(x, y, order) ** (1 / order), rel=1e-10)


def test_emd_with_weights_is_the_linear_program():
    x, y = samples(6, 5, 2)
    g = np.random.default_rng(1)
    a, b = g.dirichlet(np.ones(6)), g.dirichlet(np.ones(5))
    marginals = np.vstack([np.kron(np.eye(6), np.ones(5)), np.kron(np.ones(6), np.eye(5))])
    exact = linprog(costs(x, y, 1).ravel(), A_eq=marginals, b_eq=np.concatenate([a, b])).fun
    assert est.EMD()(x, y, a, b) == pytest.approx(exact, rel=1e-8)


def test_emd_metrics():
    x, y = samples(20, 20, 3)
    C = np.abs(x[:, None] - y[None]).sum(-1)
    expected = C[linear_sum_assignment(C)].mean()
    assert est.EMD(1, "cityblock")(x, y) == pytest.approx(expected, rel=1e-10)
    by_callable = est.EMD(1, lambda a, b: (a[..., :, None, :] - b[..., None, :, :]).abs().sum(-1))
    assert by_callable(x, y) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("order", [1, 2, 2.5])
@pytest.mark.parametrize("weighted", [False, True])
def test_one_dimension(order, weighted):
    g = np.random.default_rng(2)
    x, y = g.normal(size=17), g.normal(size=23)
    a, b = (g.dirichlet(np.ones(17)), g.dirichlet(np.ones(23))) if weighted else (None, None)
    plan = est.EMD(order, metric=lambda p, q: (p - q.mT).abs(), rooted=False)(x[:, None], y[:, None], a, b)
    tensors = [None if v is None else torch.from_numpy(v) for v in (a, b)]
    found = one_dimensional(torch.from_numpy(x), torch.from_numpy(y), order, *tensors)
    assert float(found) == pytest.approx(plan, rel=1e-9)
    if order == 1:
        assert float(found) == pytest.approx(wasserstein_distance(x, y, a, b), rel=1e-9)


def test_sliced_is_the_mean_over_projections():
    x, y = samples(50, 33, 4)
    estimator = est.SlicedWasserstein(1, projections=30)
    theta = estimator.directions(torch.from_numpy(x), None).numpy()
    expected = np.mean([wasserstein_distance(x @ t, y @ t) for t in theta])
    assert estimator(x, y) == pytest.approx(expected, rel=1e-10)
    assert estimator(x, y) == estimator(x, y)
    other = estimator(torch.from_numpy(x), torch.from_numpy(y), generator=torch.Generator().manual_seed(1))
    assert float(other) != estimator(x, y)


def test_max_sliced_finds_the_shift():
    x, _ = samples(200, 1, 20)
    shift = np.zeros(20)
    shift[7] = 2.0
    assert est.MaxSlicedWasserstein()(x, x + shift) == pytest.approx(2.0, rel=1e-3)
    assert est.MaxSlicedWasserstein()(x, x + shift) >= est.SlicedWasserstein()(x, x + shift)


@pytest.mark.parametrize(("order", "blurs"), [(1, (0.4, 0.1, 0.02, 0.005)), (2, (0.4, 0.2, 0.1, 0.05))])
def test_sinkhorn_tends_to_the_exact_cost(order, blurs):
    x, y = samples(40, 40, 2)
    exact = assignment(x, y, order)
    errors = [abs(est.Sinkhorn(order, blur=blur).estimate(x, y).value - exact) for blur in blurs]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] <= 0.02 * exact


def test_sinkhorn_of_a_shift_is_its_square():
    x, _ = samples(50, 1, 3)
    shift = np.array([1.0, 2.0, -0.5])
    for blur in (0.1, 1.0, 10.0):
        assert est.Sinkhorn(blur=blur).estimate(x, x + shift).value == pytest.approx((shift**2).sum(), rel=1e-5)


def test_sinkhorn_of_gaussians():
    """Janati et al. 2020, eq. (10): entropic transport of N(0, s²) and N(0, t²), ε = 2·blur², KL against a⊗b."""
    s, t, blur = 1.0, 2.0, 1.0
    grid = torch.linspace(-12, 12, 801, dtype=torch.float64)[:, None]
    a, b = (torch.softmax(-grid[:, 0].square() / (2 * scale**2), 0) for scale in (s, t))

    def entropic(u, v):
        sigma = math.sqrt(2) * blur / math.sqrt(2)
        D = math.sqrt(4 * u**2 * v**2 + 4 * sigma**4 / 4)
        return u**2 + v**2 - D + sigma**2 * (1 - math.log(2 * sigma**2)) + sigma**2 * math.log(D + sigma**2)

    expected = entropic(s, t) - (entropic(s, s) + entropic(t, t)) / 2
    found = est.Sinkhorn(blur=blur)(grid, grid, a, b)
    assert float(found) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("reach", [None, 1.0])
@pytest.mark.parametrize("order", [1, 2])
def test_sinkhorn_gradients(reach, order):
    """The envelope gradient against differences of values solved to 1e-10."""
    x, y = (torch.from_numpy(p) for p in samples(7, 6, 2))
    g = torch.Generator().manual_seed(0)
    a = torch.rand(7, generator=g, dtype=torch.float64)
    a = (a / a.sum()).requires_grad_()
    x.requires_grad_()
    estimator = est.Sinkhorn(order, blur=0.5, reach=reach)
    blur = torch.tensor(0.5, dtype=torch.float64)

    def value(x, a):
        weights = torch.full((6,), 1 / 6, dtype=torch.float64)
        return estimator._divergence(Samples(x, y, a, weights), blur, 1e-12)[0]

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
    found = sinkhorn.solve(C, a, b, epsilon, tolerance=1e-5, iterations=20_000)
    assert float(found.error) <= 1e-5
    gap = float(sinkhorn.primal(C, a, b, epsilon, None, found.f, found.g) - found.value)
    assert -1e-9 <= gap <= 1e-4 * float(found.value)


def test_reach_lets_far_mass_stay():
    x, y = torch.zeros(4, 1), torch.zeros(4, 1)
    y[3] = 100.0
    balanced, relaxed = est.Sinkhorn(blur=0.1)(x, y), est.Sinkhorn(blur=0.1, reach=1.0)(x, y)
    assert float(balanced) == pytest.approx(2500.0, rel=1e-3)
    assert 0 < float(relaxed) < 2.0


@pytest.mark.parametrize("estimator", [est.EMD(iterations=5), est.Sinkhorn(blur=1e-3, iterations=5)])
def test_a_solver_that_stops_early_says_so(estimator):
    x, y = samples(100, 100, 2)
    with pytest.raises(ConvergenceError, match=r"iterations=5"):
        estimator.estimate(x, y)
    with pytest.raises(ConvergenceError, match=r"iterations=5"):
        estimator(x, y)


def test_tiny_blur_is_solved_or_refused():
    x, y = samples(30, 30, 2)
    try:
        value = est.Sinkhorn(blur=1e-3, iterations=20_000).estimate(x, y).value
    except ConvergenceError:
        return
    assert value == pytest.approx(assignment(x, y, 2), rel=1e-3)


def test_emd_checks_before_native_code():
    bad = torch.tensor([[0.0, float("nan")], [1.0, 1.0]])
    with pytest.raises(ValueError, match="x has 1 NaN"):
        est.EMD()(bad, torch.zeros(2, 2))
    with pytest.raises(ValueError, match="y_weights must sum to 1"):
        est.EMD()(torch.zeros(2, 2), torch.zeros(2, 2), None, torch.tensor([1.0, 1.0]))
    with pytest.raises(ValueError, match="x needs at least 1 point"):
        est.EMD()(torch.empty(0, 2), torch.zeros(2, 2))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: est.EMD(0.5), "order must be at least 1"),
        (lambda: est.EMD(1, "cosine"), "metric must be"),
        (lambda: est.Sinkhorn(blur=0.0), "blur must be positive"),
        (lambda: est.Sinkhorn(blur="small"), "blur must be positive"),
        (lambda: est.Sinkhorn(reach=-1.0), "reach must be positive"),
        (lambda: est.SlicedWasserstein(0.5), "order must be at least 1"),
        (lambda: est.SlicedWasserstein(projections=0), "projections must be at least 1"),
    ],
)
def test_bad_choices_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("estimator", "d", "truth"),
    [
        (est.EMD(1), 1, 1.0),
        (est.EMD(2), 2, 1.0),
        (est.SlicedWasserstein(), 2, math.sqrt(0.5)),
        (est.Sinkhorn(blur=0.5), 2, 1.0),
    ],
    ids=repr,
)
def test_printed_intervals_cover_a_unit_shift(estimator, d, truth):
    g = np.random.default_rng(17)
    covered = printed = 0
    for _ in range(60):
        e = estimator.estimate(g.normal(size=(150, d)), g.normal(size=(150, d)) + np.eye(d)[0], seed=0)
        if e.interval is not None:
            printed += 1
            covered += e.interval[0] <= truth <= e.interval[1]
    assert printed >= 20
    assert covered / printed >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / printed)


def test_emd_in_high_dimension_prints_no_interval():
    g = np.random.default_rng(0)
    e = est.EMD(2).estimate(g.normal(size=(200, 10)), g.normal(size=(200, 10)) + 0.3)
    assert e.interval is None and e.bound == "upper" and any("not small against" in note for note in e.notes)
