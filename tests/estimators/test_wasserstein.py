"""W_p by the dimension: which estimator is taken, that it says so, and that it covers."""

import numpy as np
import pytest

import estimators as est


def shifted(n, d, seed=0):
    g = np.random.default_rng(seed)
    return g.normal(size=(n, d)), g.normal(size=(n, d)) + np.eye(d)[0]


@pytest.mark.parametrize(
    ("d", "order", "bound", "taken"),
    [
        (1, 1, "upper", "EMD"),
        (1, 2, "upper", "EMD"),
        (2, 1, "upper", "EMD"),
        (2, 2, "consistent", "AffineWasserstein"),
        (6, 1, "upper", "EMD"),
        (6, 2, "consistent", "AffineWasserstein"),
    ],
)
def test_takes_what_fits(d, order, bound, taken):
    x, y = shifted(600, d)
    e = est.estimate(x, y, "wasserstein", order=order, seed=0)
    assert e.bound == bound and any(note.startswith(taken) for note in e.notes)
    assert e.estimator == f"Wasserstein(order={order}, rooted=True)"
    if d < 3 or order == 2:
        assert e.interval[0] <= 1.0 <= e.interval[1]
    else:
        assert e.interval is None


def test_another_law_in_few_dimensions_is_transported_exactly():
    g = np.random.default_rng(1)
    x, y = g.normal(size=(400, 2)), np.where(g.random((400, 2)) < 0.5, -1.0, 1.0) + 0.1 * g.normal(size=(400, 2))
    e = est.Wasserstein(2).estimate(x, y, seed=0)
    assert any(note.startswith("EMD: the affine map was not confirmed") for note in e.notes)
    assert e.value == pytest.approx(est.EMD(2)(x, y), rel=1e-9)


@pytest.mark.parametrize(("d", "order"), [(2, 2), (5, 1), (5, 2)])
def test_the_loss_is_that_of_the_estimator_taken(d, order):
    x, y = shifted(50, d)
    expected = est.AffineWasserstein() if d > 3 and order == 2 else est.EMD(order)
    assert est.Wasserstein(order)(x, y) == expected(x, y)


def test_the_plan_is_that_of_the_exact_solver():
    x, y = shifted(30, 5)
    found = est.Wasserstein(2).coupling(x, y)
    assert found.converged and found.value == pytest.approx(est.EMD(2, rooted=False)(x, y), rel=1e-12)


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match="blur"):
        est.estimate(*shifted(50, 2), "wasserstein", blur=1.0)
    with pytest.raises(ValueError, match="order must be at least 1"):
        est.Wasserstein(0.5)
