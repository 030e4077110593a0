"""What the laws of `divergences.testing` do not ask: far offsets, coincident points, refusals by name, counts."""

import numpy as np
import pytest
import torch

import estimators as est
from divergences import kernels
from tests.estimators.estimator_cases import CASES

F64 = torch.float64


def tolerance(case):
    return max(case.atol, 1e-9)


def points(n, m, d, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=g, dtype=F64), torch.randn(m, d, generator=g, dtype=F64) * 0.8 + 0.5


def parametrize(chosen=lambda case: True):
    names = [name for name, case in CASES.items() if chosen(case)]
    return pytest.mark.parametrize("case", [CASES[name] for name in names], ids=names)


def trains(case):
    return case.estimator.differentiable


def takes_weights(case):
    return case.weighted


@parametrize()
def test_an_offset_changes_nothing(case):
    if case.estimator.arguments.get("kernel") == kernels.Polynomial(2, 1.0):
        pytest.skip("the polynomial kernel depends on the origin")
    x, y = (p.float() for p in points(40, 30, 3))
    offset = torch.tensor([1e6, -1e6, 1e6])
    rounded_x, rounded_y = x + offset, y + offset
    expected = case.estimator(rounded_x.double() - offset.double(), rounded_y.double() - offset.double())
    torch.testing.assert_close(case.estimator(rounded_x, rounded_y).double(), expected, rtol=5e-4, atol=2e-4)
    # In double precision the offset leaves ten digits of the points.
    found = case.estimator(x.double() + offset.double(), y.double() + offset.double())
    torch.testing.assert_close(found, case.estimator(x.double(), y.double()), rtol=1e-5 + tolerance(case), atol=1e-6)


@parametrize()
def test_counts_are_repetition(case):
    x, y = points(30, 25, 2)
    counts = np.random.default_rng(0).integers(0, 4, 30)
    repeated = x[np.repeat(np.arange(30), counts)]
    try:
        expected = case.estimator.estimate(repeated, y, seed=0)
    except ValueError as error:  # an estimator of continuous data refuses repeated points, however they are given
        with pytest.raises(ValueError, match="repeats"):
            case.estimator.estimate(x, y, x_counts=counts, seed=0)
        assert "repeats" in str(error)
        return
    found = case.estimator.estimate(x, y, x_counts=counts, seed=0)
    assert (found.value, found.n) == (expected.value, counts.sum()) and found.interval == expected.interval
    assert float(case.estimator(x, y, x_counts=counts)) == float(case.estimator(repeated, y))


@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        (np.full(20, 1.0), TypeError, "x_counts must be integers: got dtype float64; pass fractions as x_weights"),
        (np.ones(19, int), ValueError, r"x_counts must have one count a point, \(20,\): got shape \(19,\)"),
        (np.full(20, -1), ValueError, "x_counts must not be negative: got -1"),
        (np.zeros(20, int), ValueError, "x needs at least"),
    ],
    ids=["fractions", "length", "negative", "none"],
)
def test_bad_counts_are_refused(counts, error, message):
    x, y = points(20, 20, 2)
    with pytest.raises(error, match=message):
        est.MMD().estimate(x, y, x_counts=counts)
    with pytest.raises(ValueError, match="x_counts and x_weights were both given"):
        est.MMD().estimate(x, y, x_counts=np.ones(20, int), x_weights=np.full(20, 0.05))


@parametrize(trains)
def test_coincident_points_have_finite_gradients(case):
    x, _ = points(12, 12, 2)
    x[3] = x[5]
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    for g in torch.autograd.grad(case.estimator(a, b), (a, b), allow_unused=True):
        assert g is None or bool(torch.isfinite(g).all())
    same = torch.ones(12, 2, dtype=F64, requires_grad=True)
    (g,) = torch.autograd.grad(case.estimator(same, torch.ones(12, 2, dtype=F64)), same)
    assert bool(torch.isfinite(g).all())


@parametrize(trains)
def test_a_step_down_the_gradient_lowers_the_value(case):
    x, y = points(64, 64, 2)
    y = (y + 2.0).requires_grad_()
    value = case.estimator(x, y)
    (g,) = torch.autograd.grad(value, y)
    assert float(case.estimator(x, y.detach() - 1e-2 * g / g.norm())) < float(value)


@parametrize(lambda case: not trains(case))
def test_a_gradient_that_does_not_exist_is_refused(case):
    x, y = points(40, 40, 1)
    with pytest.raises(TypeError, match="has no gradient"):
        case.estimator(x.requires_grad_(), y)


@pytest.mark.parametrize("kernel", [kernels.Gaussian(1.3), kernels.DistanceInduced(), kernels.RationalQuadratic()])
def test_mmd_has_second_derivatives(kernel):
    x, y = (p.requires_grad_() for p in points(5, 4, 2))
    assert torch.autograd.gradgradcheck(lambda x, y: est.MMD(kernel)(x, y), (x, y))


@parametrize()
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.empty(0, 2), "x needs at least"),
        (torch.tensor([0.0, 1.0]), "x must have at least two axes"),
        (torch.zeros(40, 3), "x and y must share their last axis"),
        (torch.full((40, 2), float("nan")), "x has 80 NaN"),
        (torch.tensor([[0.0, 1.0]] * 39 + [[0.0, float("inf")]]), "x has 1 infinite"),
    ],
    ids=["empty", "axes", "dimension", "nan", "inf"],
)
def test_faults_are_refused_by_name(case, bad, message):
    with pytest.raises(ValueError, match=message):
        case.estimator.estimate(bad, torch.zeros(40, 2))


@parametrize(takes_weights)
def test_bad_weights_are_refused(case):
    x, y = points(20, 20, 2)
    with pytest.raises(ValueError, match="x_weights must not be negative"):
        case.estimator.estimate(x, y, x_weights=torch.tensor([-1.0, 2.0] + [0.0] * 18))
    with pytest.raises(ValueError, match="y_weights must sum to 1: the sum is 2"):
        case.estimator.estimate(x, y, y_weights=torch.full((20,), 0.1))
    assert case.estimator.estimate(x, y, y_weights=torch.full((20,), 0.1), normalize=True).value == pytest.approx(
        case.estimator.estimate(x, y).value, abs=1e-5
    )


@parametrize(lambda case: not takes_weights(case))
def test_weights_are_refused_where_they_mean_nothing(case):
    x, y = points(40, 40, 2)
    with pytest.raises(ValueError, match="no weights"):
        case.estimator(x, y, torch.full((40,), 1 / 40, dtype=F64))


@parametrize()
def test_an_estimate_is_complete(case):
    x, y = points(120, 100, min(2, case.d[1]))
    e = case.estimator.estimate(x, y, seed=1)
    assert e.value == case.estimator.estimate(x, y, seed=1).value and (e.n, e.m) == (120, 100)
    if e.interval is None:
        assert any("no interval" in note for note in e.notes)
    else:
        assert e.interval[0] <= e.value <= e.interval[1]
        wider = case.estimator.estimate(x, y, seed=1, confidence=0.99).interval
        assert wider is None or (wider[0] <= e.interval[0] and wider[1] >= e.interval[1])


@parametrize()
def test_the_arguments_rebuild_the_estimator(case):
    from divergences._spec import from_spec, to_spec

    rebuilt = from_spec(to_spec(case.estimator))
    assert repr(rebuilt) == repr(case.estimator)
