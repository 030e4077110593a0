"""W_p by the dimension: which estimator is taken, that it says so, and that it covers; units, also of its kin."""

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


IN_UNITS = [
    est.MMD(), est.MMD(statistic="random_features"), est.EnergyDistance(), est.Frechet(), est.Wasserstein(1),
    est.Wasserstein(2), est.AffineWasserstein(), est.EMD(), est.Sinkhorn(), est.SlicedWasserstein(),
]  # fmt: skip


@pytest.mark.parametrize("estimator", IN_UNITS, ids=lambda e: type(e).__name__)
def test_a_coordinate_that_swallows_the_others_is_named(estimator):
    def named(x, y, **options):
        return [note for note in estimator.estimate(x, y, seed=0, **options).notes if "standardise" in note]

    x, y = np.random.default_rng(0).normal(size=(2, 60, 2))
    (note,) = named(x * [1, 1e6], y * [1, 1e6] + [1, 0])
    assert note.startswith("coordinate 1 makes up over 99.99% of the squared distances")
    corners = np.tile([[-20.0, -1], [-20, 1], [20, -1], [20, 1]], (6, 1))
    (note,) = named(corners, corners[:16] + [1, 0.5])
    assert "coordinate 0 makes up 99.75%" in note  # 400/401
    assert named(x, y) == named(x * [1, 5], y * [1, 5]) == named(x[:, :1], y[:, :1]) == []
    assert named(x, y + [1e3, 0]) == []  # a shift is none of units
    far, weights = np.r_[x[:50], x[50:] * [1, 1e6]], np.r_[np.full(50, 1 / 50), np.zeros(10)]
    assert named(far, y) and named(far, y, x_weights=weights) == []


def test_a_coordinate_that_does_not_vary_has_nothing_to_tell():
    x, y = np.random.default_rng(0).normal(size=(2, 60, 2)) * [1, 0]
    assert not any("standardise" in note for note in est.EnergyDistance().estimate(x, y).notes)
    assert any("standardise" in note for note in est.EnergyDistance().estimate(x, y + [0, 0.1]).notes)


def test_what_weighs_coordinates_itself_has_no_note_of_units():
    def first(a, b):
        return (a[..., :, None, 0] - b[..., None, :, 0]).abs()

    x, y = np.random.default_rng(0).normal(size=(2, 60, 2)) * [1, 1e6]
    own = [est.EMD(metric=first), est.Sinkhorn(metric=first), est.MMD(lambda a, b: -first(a, b))]
    for estimator in [*own, est.Frechet(lambda p: p[:, :1])]:
        assert not any("standardise" in note for note in estimator.estimate(x, y, seed=0).notes)


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match="blur"):
        est.estimate(*shifted(50, 2), "wasserstein", blur=1.0)
    with pytest.raises(ValueError, match="order must be at least 1"):
        est.Wasserstein(0.5)
