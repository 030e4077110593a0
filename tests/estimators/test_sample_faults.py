"""Bad inputs and faults that samples bring, each by what a trusted library does: an error that names it, or a note."""

import math

import numpy as np
import pytest
import torch

import estimators as est
from divergences import kernels

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 2)), RNG.normal(0.5, 1, size=(30, 2))
KINDS = {"numpy": np.asarray, "torch": torch.as_tensor}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def test_an_empty_sample_is_refused_before_native_code(kind):
    for estimator in (est.EMD(), est.Sinkhorn(), est.MMD(), est.NearestNeighbor()):
        with pytest.raises(ValueError, match="x needs at least"):
            estimator.estimate(kind(np.empty((0, 2))), kind(Y))
        with pytest.raises(ValueError, match="y needs at least"):
            estimator(kind(X), kind(np.empty((0, 2))))


def test_one_point_is_too_few_for_an_unbiased_statistic(kind):
    with pytest.raises(ValueError, match="y needs at least 2 points"):
        est.MMD()(kind(X), kind(Y[:1]))
    joint = est.compare(X, Y[:1]).joint
    assert joint[0]["error"] is not None and "row" in joint[0]["error"]


def test_nan_is_named_counted_and_placed_or_dropped_with_a_note(kind):
    bad = Y.copy()
    bad[[3, 7], 1] = np.nan
    for call in (est.MMD().estimate, lambda x, y, **k: est.estimate(x, y, "kl", **k), est.two_sample_test):
        with pytest.raises(ValueError, match=r"y has 2 NaN .* the first in row 3"):
            call(kind(X), kind(bad))
        found = call(kind(X), kind(bad), nan_policy="omit")
        assert found.m == 28 and any("2 of 30 rows of y were dropped for NaN" in note for note in found.notes)


def test_a_cost_that_is_not_a_number_is_refused():
    def broken(x, y):
        cost = torch.cdist(x, y)
        cost[..., 0, 0] = math.nan
        return cost

    for estimator in (est.EMD(metric=broken), est.Sinkhorn(metric=broken)):
        with pytest.raises(ValueError, match="the ground cost of x and y (has 1 NaN|is not finite)"):
            estimator.estimate(X, Y)


def test_infinite_data_are_refused(kind):
    bad = X.copy()
    bad[5, 0] = np.inf
    for call in (est.EnergyDistance().estimate, est.Wasserstein().estimate, est.two_sample_test):
        with pytest.raises(ValueError, match=r"x has 1 infinite .* row 5"):
            call(kind(bad), kind(Y))


@pytest.mark.parametrize("estimator", [est.EMD(), est.MMD(), est.SlicedWasserstein(), est.Frechet()], ids=repr)
def test_weights_that_are_none_are_refused(estimator):
    negative = np.full(40, 1 / 38)
    negative[:2] = [-1 / 38, 3 / 38]
    with pytest.raises(ValueError, match="x_weights must not be negative"):
        estimator.estimate(X, Y, x_weights=negative)
    with pytest.raises(ValueError, match="x_weights must sum to 1: the sum is 2"):
        estimator.estimate(X, Y, x_weights=np.full(40, 1 / 20))
    assert math.isfinite(estimator.estimate(X, Y, x_weights=np.full(40, 1 / 20), normalize=True).value)
    for wrong in (negative, np.full(40, 1 / 20), np.full(40, np.nan), np.zeros(40)):
        for call in (estimator, estimator.value):
            with pytest.raises(
                ValueError, match="x_weights must be finite, not negative, and sum to 1: got weights from"
            ):
                call(X, Y, x_weights=wrong)


def test_a_linear_program_that_stops_early_raises_or_gives_bounds():
    x, y = RNG.normal(size=(200, 3)), RNG.normal(1, 1, size=(200, 3))
    exact = est.EMD()(x, y)
    with pytest.raises(est.ConvergenceError, match="iterations=10"):
        est.EMD(iterations=10)(x, y)
    bounded = est.EMD(iterations=10).coupling(x, y, strict=False)
    assert not bounded.converged and bounded.bounds[0] <= exact <= bounded.bounds[1]


@pytest.mark.parametrize("blur", [1e-3, 1e-6, 1e-9])
def test_a_tiny_blur_is_right_or_refused(blur):
    x = np.array([[0.0], [1.0]])
    try:
        value = est.Sinkhorn(blur=blur).estimate(x, x + 1.0).value
    except est.ConvergenceError:
        return
    assert value == pytest.approx(1.0, abs=1e-4)


def test_strings_are_no_numbers():
    with pytest.raises(TypeError, match="x must be an array of numbers"):
        est.MMD().estimate(np.array([["a"], ["b"]]), np.zeros((4, 1)))
    with pytest.raises(TypeError, match="y must be an array of numbers"):
        est.two_sample_test(np.zeros((4, 1)), [["1"], ["2"], ["3"]])


def test_axes_that_do_not_fit_are_told_with_their_shapes(kind):
    with pytest.raises(ValueError, match=r"x must have at least two axes.*\(40,\); .* pass .*reshape"):
        est.MMD()(kind(X[:, 0]), kind(Y))
    with pytest.raises(ValueError, match=r"share their last axis: got \(40, 2\) and \(30, 1\)"):
        est.EMD()(kind(X), kind(Y[:, :1]))
    with pytest.raises(ValueError, match=r"one problem, \(n, d\) and \(m, d\): got \(2, 40, 2\)"):
        est.EMD().estimate(kind(np.stack([X, X])), kind(Y))


FAR = {
    "mmd": est.MMD(kernels.Gaussian(1.0)),
    "energy": est.EnergyDistance(),
    "emd": est.EMD(),
    "sinkhorn": est.Sinkhorn(blur=0.5),
    "sliced": est.SlicedWasserstein(),
    "frechet": est.Frechet(),
    "affine": est.AffineWasserstein(),
    "wasserstein": est.Wasserstein(2),
}


@pytest.mark.parametrize("offset", [1e4, 1e6])
@pytest.mark.parametrize("name", FAR)
def test_an_offset_in_single_precision_costs_what_rounding_the_points_costs(name, offset):
    x, y = (torch.as_tensor(z).float() + offset for z in (X, Y))
    exact = float(FAR[name](x.double() - offset, y.double() - offset))
    # Sinkhorn trains to marginals of 5e-4, which the value feels squared.
    assert float(FAR[name](x, y)) == pytest.approx(exact, abs=1e-4 if name == "sinkhorn" else 1e-5 * max(1.0, exact))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_more_and_noted(dtype):
    x, y = (torch.as_tensor(z).to(dtype) for z in (X, Y))
    found = est.MMD().estimate(x, y)
    assert any("float64" in note for note in found.notes)
    assert found.value == est.MMD().estimate(x.double(), y.double()).value
    assert est.MMD()(x, y).dtype == torch.float32


def test_disjoint_supports_are_infinite_or_bounded_never_filled_in():
    x, y = RNG.uniform(size=(300, 1)), RNG.uniform(2, 3, size=(300, 1))
    kl = est.estimate(x, y, "kl", seed=0)
    assert kl.bound == "lower" and kl.interval[1] == math.inf and any("infinite" in note for note in kl.notes)
    for name, most in (("js", math.log(2)), ("total_variation", 1.0)):
        found = est.estimate(x, y, name, seed=0)
        assert (
            found.value <= most + 1e-12 and found.interval[1] == pytest.approx(most) and found.interval[0] > 0.9 * most
        )
    histogram = est.estimate(x, y, "kl", method="histogram", bins=8)
    assert histogram.value == math.inf and any("smoothing" in note for note in histogram.notes)
    joined = est.estimate(x, y, "kl", method="histogram")  # its own bins are joined until both samples reach each
    assert joined.bound == "lower" and joined.interval[1] == math.inf


def test_data_that_do_not_vary_are_equal():
    found = est.two_sample_test(np.ones((20, 2)), np.ones((15, 2)), permutations=99)
    assert found.p_value == 1 and any("equal" in note for note in found.notes)
    for estimator in (est.MMD(), est.EnergyDistance(), est.EMD(), est.SlicedWasserstein(), est.Sinkhorn()):
        assert estimator(np.ones((20, 2)), np.ones((15, 2))) == pytest.approx(0.0, abs=1e-12)


def test_a_constant_column_changes_nothing():
    x, y = (np.concatenate([z, np.full((len(z), 1), 3.0)], 1) for z in (X, Y))
    assert est.two_sample_test(x, y, permutations=99).p_value == est.two_sample_test(X, Y, permutations=99).p_value
    assert math.isfinite(est.estimate(x, y, "kl", seed=0).value)


def test_ties_are_counted_and_noted():
    x = X.copy()
    x[:5] = x[5:10]
    found = est.NearestNeighbor().estimate(x, Y)
    assert math.isfinite(found.value) and any("repeat" in note for note in found.notes)


@pytest.mark.parametrize("estimator", [est.NearestNeighbor(), est.KernelDensity()], ids=repr)
def test_discrete_data_are_refused_with_what_fits(estimator):
    x, y = RNG.integers(0, 4, (60, 1)), RNG.integers(0, 5, (50, 1))
    with pytest.raises(ValueError, match=r"Histogram|dv\.kl"):
        estimator.estimate(x, y)
    mixed = np.concatenate([X, RNG.integers(0, 2, (40, 1))], 1), np.concatenate([Y, RNG.integers(0, 2, (30, 1))], 1)
    with pytest.raises(ValueError, match="column 2"):
        estimator.estimate(*mixed)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"seed": 1.5}, TypeError, "seed must be an integer or None: got float 1.5"),
        ({"seed": -1}, ValueError, r"seed must lie in \[0, 2\*\*63\): got -1"),
        ({"seed": 2**70}, ValueError, "seed must lie in"),
        ({"confidence": "a"}, TypeError, r"confidence must be a number in \(0, 1\): got str 'a'"),
        ({"confidence": 2}, ValueError, r"confidence must lie in \(0, 1\): got 2"),
        ({"nan_policy": "drop"}, ValueError, 'nan_policy must be "raise" or "omit"'),
        ({"alpha": 0.5}, TypeError, "has no option 'alpha': choose from confidence, seed"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_options_that_are_none_are_named(options, error, message):
    with pytest.raises(error, match=message):
        est.estimate(X, Y, "kl", **options)


@pytest.mark.parametrize(
    ("given", "message"), [(9.5, "must be an integer: got float"), (0, "must be at least 1: got 0")]
)
def test_permutations_that_are_none_are_named(given, message):
    with pytest.raises((TypeError, ValueError), match=f"permutations {message}"):
        est.two_sample_test(X, Y, permutations=given)


def test_seeds_of_numpy_are_seeds():
    one, other = (est.two_sample_test(X, Y, permutations=19, seed=seed) for seed in (3, np.int64(3)))
    assert one.statistic == other.statistic and one.to_dict()["seed"] == other.to_dict()["seed"] == 3


def test_a_parameter_of_the_divergence_is_an_option_or_asked_for():
    half = est.estimate(X, Y, "alpha", alpha=0.5, method="knn").value
    assert half == pytest.approx(2 * est.estimate(X, Y, "squared_hellinger", method="knn").value)
    with pytest.raises(TypeError, match=r"'renyi' needs its parameter alpha: est.estimate\(x, y, 'renyi', alpha=…\)"):
        est.estimate(X, Y, "renyi")


def test_units_whose_squares_are_no_numbers_are_refused(kind):
    for unit in (1e-200, 1e200):
        for call in (est.MMD().estimate, est.two_sample_test, est.EMD().estimate):
            with pytest.raises(ValueError, match="whose square is no number"):
                call(kind(unit * X), kind(unit * Y))


def test_weight_on_one_point_is_too_few():
    with pytest.raises(ValueError, match="x_weights leave 1 point with weight: 2 are needed"):
        est.MMD().estimate(X, Y, x_weights=np.eye(40)[0])


def test_rows_in_both_samples_are_noted():
    found = est.MMD().estimate(X, np.concatenate([X[:10], Y]))
    assert any(note.startswith("10 rows of y also stand in x") for note in found.notes)
    assert not any("also stand" in note for note in est.MMD().estimate(X, Y).notes)
    assert not any("also stand" in note for note in est.MMD().estimate(X.round(), Y.round()).notes)


@pytest.mark.parametrize("statistic", ["linear", "block"])
def test_blocks_of_a_sorted_file_are_shuffled(statistic):
    held = 0
    for r in range(100):
        g = np.random.default_rng([4, r])
        x, y = np.sort(g.normal(size=(200, 1)), 0), np.sort(g.normal(1, 1, size=(200, 1)), 0)
        low, high = est.MMD(kernels.Gaussian(1.0), statistic).estimate(x, y, seed=r).interval
        held += low <= 0.1772676349 <= high  # MMD² of N(0, 1) and N(1, 1): 2/√3 (1 − e^(−1/6))
    assert held >= 86  # of 100 at 95%: fewer has a probability of 1e-4
