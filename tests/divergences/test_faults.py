"""Bad inputs to the exact layer, by the rows of the table of faults: one clear line, or the right value."""

import inspect
import math

import numpy as np
import pytest
import torch
import torch.distributions as td
from scipy import stats

import divergences as dv

NAN, INF = float("nan"), float("inf")
POINTS = np.asarray([[0.0, 1.0], [2.0, 0.5], [1.0, 1.0], [3.0, 2.0]])
KINDS = {"numpy": np.asarray, "torch": lambda v: torch.tensor(np.asarray(v)), "list": lambda v: np.asarray(v).tolist()}
kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
PUBLIC = [getattr(dv, name) for name in dv.__all__ if inspect.isfunction(getattr(dv, name))]
OF_TWO = [f for f in PUBLIC if list(inspect.signature(f).parameters)[:2] == ["p", "q"]]


@kinds
def test_3_nan_names_argument_count_and_row(kind):
    with pytest.raises(ValueError, match=r"p must not contain NaN: got 1 of 2"):
        dv.kl(kind([NAN, 0.5]), kind([0.5, 0.5]))
    broken = POINTS.copy()
    broken[1:3, 0] = NAN
    with pytest.raises(ValueError, match="points must be finite: got 2 NaN entries, first in row 1"):
        dv.Empirical(kind(broken))
    kept = dv.Empirical(kind(broken), nan_policy="omit")
    assert (kept.omitted, len(kept.points), repr(kept)) == (2, 2, "Empirical(n=2, d=2, omitted=2)")
    assert dv.wasserstein(kept, dv.Empirical(POINTS[[0, 3]])) == 0
    with pytest.raises(ValueError, match='nan_policy must be "raise" or "omit"'):
        dv.Empirical(POINTS, nan_policy="ignore")
    with pytest.raises(ValueError, match="points must not all be NaN: got 1 of 1"):
        dv.Empirical([NAN], nan_policy="omit")


@kinds
def test_5_infinite_data_are_refused(kind):
    with pytest.raises(ValueError, match="points must be finite: got 1 infinite entries, first in row 2"):
        dv.Empirical(kind([0.0, 1.0, INF]))
    with pytest.raises(ValueError, match="p must sum to 1: got the sum inf"):
        dv.kl(kind([INF, 0.5]), kind([0.5, 0.5]))
    with pytest.raises(ValueError, match="cost must be finite"):
        dv.wasserstein(kind([0.5, 0.5]), kind([0.5, 0.5]), cost=kind([[0.0, INF], [1.0, 0.0]]))


@kinds
def test_6_negative_weights_are_refused(kind):
    with pytest.raises(ValueError, match="weights must not be negative: got -0.5"):
        dv.Empirical(kind([0.0, 1.0]), kind([1.5, -0.5]))
    with pytest.raises(ValueError, match="weights must be non-negative with a positive, finite sum"):
        dv.Empirical(kind([0.0, 1.0]), kind([1.5, -0.5]), normalize=True)
    with pytest.raises(ValueError, match="q must not be negative: got -0.1"):
        dv.js(kind([0.5, 0.5]), kind([1.1, -0.1]))


@kinds
def test_7_sums_are_normalized_only_when_asked(kind):
    with pytest.raises(ValueError, match="weights must sum to 1: got the sum 2"):
        dv.Empirical(kind([0.0, 1.0]), kind([1.0, 1.0]))
    halves = dv.Empirical(kind([0.0, 1.0]), kind([1.0, 1.0]), normalize=True)
    assert halves.weights.tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match="weights must be non-negative with a positive, finite sum: got 0 and sum 0"):
        dv.Empirical(kind([0.0, 1.0]), kind([0.0, 0.0]), normalize=True)


def test_8_a_stopped_linear_program_raises(monkeypatch):
    from divergences import transport

    monkeypatch.setattr(transport, "ITERATIONS", 1)
    x = np.random.default_rng(0).normal(size=(60, 2))
    with pytest.raises(dv.ConvergenceError, match="stopped before the optimum"):
        dv.wasserstein(dv.Empirical(x), dv.Empirical(x[::-1] + 1))


@kinds
@pytest.mark.parametrize("shape", [(2, 2, 2), (), (0,), (2, 0)])
def test_12_wrong_axes_name_the_shape(kind, shape):
    with pytest.raises(ValueError, match="points must be"):
        dv.Empirical(kind(np.zeros(shape)))
    if shape == (2, 2, 2):
        return
    with pytest.raises(ValueError, match="p must have at least one outcome on its last axis: got shape"):
        dv.kl(kind(np.zeros(shape)), kind([1.0]))


def test_12_shapes_that_do_not_meet():
    with pytest.raises(ValueError, match=r"same number of outcomes: got \(2,\) and \(3,\)"):
        dv.kl([0.5, 0.5], [0.2, 0.3, 0.5])
    with pytest.raises(ValueError, match=r"got \(1, 1\) and \(1, 2\)"):
        dv.wasserstein(dv.PointMass(0.0), dv.PointMass([0.0, 1.0]))
    with pytest.raises(ValueError, match=r"batch shapes of p and q do not fit: got \(2,\) and \(3,\)"):
        dv.js(td.Laplace(torch.zeros(2), 1.0), td.Laplace(torch.zeros(3), 2.0))


@pytest.mark.parametrize(
    "function",
    [
        dv.wasserstein,
        lambda p, q: dv.wasserstein(p, q, order=2),
        lambda p, q: dv.energy_distance(p, q, squared=False),
        lambda p, q: dv.mmd(p, q, dv.kernels.Laplace(1.0), squared=False),
        lambda p, q: dv.mmd(p, q, dv.kernels.DistanceInduced()),
    ],
    ids=["w1", "w2", "energy", "mmd", "distance-induced"],
)
def test_14_coincident_points_have_a_zero_subgradient(function):
    x = torch.tensor(POINTS, requires_grad=True)
    y = torch.tensor(POINTS, requires_grad=True)
    for gradient in torch.autograd.grad(function(dv.Empirical(x), dv.Empirical(y)), (x, y)):
        assert bool((gradient.abs() < 1e-12).all())
    p = torch.tensor([0.5, 0.5], dtype=torch.float64, requires_grad=True)
    for root in (dv.hellinger, lambda a, b: dv.js(a, b)):
        (gradient,) = torch.autograd.grad(root(p, p.detach()), p)
        assert bool((gradient == 0).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_15_half_precision_accumulates_in_single(dtype):
    p = torch.full((64,), 1 / 64, dtype=dtype)
    q = torch.cat([torch.full((32,), 1 / 128), torch.full((32,), 3 / 128)]).to(dtype)
    for function in (dv.kl, dv.js, dv.total_variation, dv.hellinger):
        value = function(p, q)
        assert value.dtype == torch.float32
        assert float(value) == pytest.approx(float(function(p.double(), q.double())), rel=1e-5)
    x = torch.tensor([[0.0], [1.0]], dtype=dtype)
    assert dv.wasserstein(dv.Empirical(x), dv.Empirical(x + 1)).dtype in (torch.float32, torch.float64)


BOUNDED = {"js": math.log(2), "total_variation": 1.0, "squared_hellinger": 2.0, "hellinger": 1.0, "le_cam": 2.0}


@pytest.mark.parametrize(
    ("p", "q"),
    [
        ([0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.3, 0.7]),
        (stats.uniform(0, 1), stats.uniform(5, 1)),
        (stats.poisson(2, loc=0), stats.randint(-9, -3)),
        (dv.PointMass(0.0), stats.norm()),
    ],
    ids=["vectors", "densities", "integers", "singular"],
)
def test_16_disjoint_supports_are_infinite_or_at_the_bound(p, q):
    for name in ("kl", "reverse_kl", "jeffreys", "chi2", "neyman_chi2"):
        assert getattr(dv, name)(p, q) == INF
    for name, bound in BOUNDED.items():
        assert getattr(dv, name)(p, q) == pytest.approx(bound, abs=1e-9)
    if not isinstance(p, dv.Empirical):
        assert dv.bhattacharyya(p, q) == INF
        for order in (0, 0.5, 1, 2, INF):
            assert dv.renyi(p, q, order) == INF


def test_12_a_kernel_that_gives_no_matrix():
    points = dv.Empirical([0.0, 1.0])
    for wrong in (lambda x, y: (x - y).sum(-1), lambda x, y: 1.0):
        with pytest.raises(ValueError, match=r"kernel must give a tensor \("):
            dv.mmd(points, points, wrong)


@kinds
def test_35_probabilities_must_sum_to_one(kind):
    for function in (dv.kl, dv.total_variation, dv.kolmogorov_smirnov, lambda p, q: dv.renyi(p, q, 2)):
        with pytest.raises(ValueError, match=r"q must sum to 1: got the sum 1\.1"):
            function(kind([0.5, 0.5]), kind([0.5, 0.6]))


def test_36_names_say_which_is_data_and_which_is_model():
    assert len(OF_TWO) >= 20
    for function in OF_TWO:
        assert list(inspect.signature(function).parameters)[:2] == ["p", "q"]
        assert "P" in function.__doc__ and "Q" in function.__doc__ or "p" in function.__doc__
    assert "P the data or target, Q the model" in inspect.getmodule(dv.kl).__doc__
    assert "kl(P‖Q)" in repr(dv.monte_carlo(stats.norm(), stats.norm(1), n=100))


@pytest.mark.parametrize("function", OF_TWO, ids=lambda f: f.__name__)
def test_inputs_are_never_written_to(function):
    p, q = np.asarray([0.2, 0.3, 0.5]), np.asarray([0.6, 0.4, 0.0])
    required = {
        "alpha": 0.5, "gamma": 2.0, "weight": 0.3, "divergence": "kl", "cost": np.ones((3, 3)) - np.eye(3)
    }  # fmt: skip
    parameters = inspect.signature(function).parameters
    if function.__name__ in ("monte_carlo", "mmd"):
        return
    before = p.copy(), q.copy()
    p.flags.writeable = q.flags.writeable = False
    function(p, q, **{name: value for name, value in required.items() if name in parameters})
    assert (p == before[0]).all() and (q == before[1]).all()
