"""What two samples leave open, by hand and by symmetry, at log ratios that no model was fitted for."""

import math
import re

import numpy as np
import pytest

import divergences as dv
from estimators.ratio import support
from estimators.ratio.cross_fitting import CrossFit, Problem, Sides
from estimators.ratio.limits import two_sided
from estimators.ratio.one_step import one_step

KL = dv.get("kl")


def problem(x, y, x_weights=None, y_weights=None):
    columns = (np.asarray(v, dtype=float).reshape(len(v), -1) for v in (x, y))
    return Problem(*columns, *(None if w is None else np.asarray(w, dtype=float) for w in (x_weights, y_weights)))


def shifted(n=300, m=200, shift=1.0, seed=0):
    """N(0, 1) and N(shift, 1) with their log ratio."""
    g = np.random.default_rng(seed)
    s = problem(g.normal(size=n), g.normal(shift, 1, size=m))
    return s, Sides(*(shift * (shift / 2 - v[:, 0]) for v in (s.x, s.y)))


@pytest.mark.parametrize("name", ["kl", "jeffreys", "pearson_chi2", "neyman_chi2"])
@pytest.mark.parametrize("shift", [0.5, 2.0, 9.0])
def test_exchanged_samples_are_the_reversed_divergence(name, shift):
    d, (s, g) = dv.get(name), shifted(shift=shift)
    back, swapped = d.reversed(), Sides(-g.y, -g.x)
    assert support.certain(back, s.exchanged()) == pytest.approx([-v for v in reversed(support.certain(d, s))])
    here, there = (support.extrapolated(a, b, c) for a, b, c in ((d, g, s), (back, swapped, s.exchanged())))
    assert here == pytest.approx(there, rel=1e-9)
    here, there = (support.unseen(a, one_step(a, b, c), c) for a, b, c in ((d, g, s), (back, swapped, s.exchanged())))
    assert here == pytest.approx(there, rel=1e-9) and here[0] == 0 < here[1]
    reasons = [support.unsupported(a, CrossFit(b, b), c) for a, b, c in ((d, g, s), (back, swapped, s.exchanged()))]
    exchanged = {re.sub(r"\b[xy]\b", lambda side: {"x": "y", "y": "x"}[side[0]], why) for why in reasons[1]}
    assert set(reasons[0]) == exchanged
    assert bool(reasons[0]) == (shift == 9.0)


def test_a_tail_that_was_missed_has_three_points_and_the_root_of_the_others_for_ratio():
    s, g = shifted(n=400, m=100)
    assert support.unseen(KL, one_step(KL, g, s), s) == pytest.approx((0, 3 / 400 * math.log(1 + 10)), rel=0.01)
    assert support.certain(KL, s) == pytest.approx((-math.inf, math.log(1 + 10)), rel=0.01)
    heavy = s._replace(y_weights=np.r_[np.full(25, 4.0), np.full(75, 1e-12)])  # 25 points in effect
    assert support.certain(KL, heavy)[1] == pytest.approx(math.log(1 + 5), rel=0.01)


@pytest.mark.parametrize(
    ("f", "bottom", "top"),
    [
        # f*(f'(r)) = r² − 4 beyond r = 2: at 4, the first power of 2 to which it rises, 12, which is 3 units of 4; it
        # has risen by √400 units where r² − 4 = 80.
        (lambda u: (u - 2).clamp(min=0) ** 2, -math.inf, math.log(84) / 2),
        # −f'(r) = 1/r below r = 1, and 0 there: at r = ½ it has risen by one unit, of 2, and by √400 where 1/r = 40.
        (lambda u: (-u.log()).clamp(min=0) + (u - 1).clamp(min=0), -math.log(40), math.inf),
    ],
)
def test_the_limit_of_a_ratio_has_a_unit_for_any_f(f, bottom, top):
    s, _ = shifted(n=400, m=400)
    found = support.certain(dv.FDivergence.from_f(f, "mine"), s)
    assert found == pytest.approx((bottom, top), abs=0.011)  # it looks in steps of 0.01


def test_points_beyond_all_others_may_have_a_ratio_half_as_large_again():
    s = problem([0.0, 0.1, 0.2, 1.1], [0.0, 0.1, 0.2, 1.0])
    g = Sides(np.array([-1.0, 0.0, 1.0, 3.0]), np.array([-1.0, 0.0, 0.5, 1.5]))
    assert support.extrapolated(KL, g, s) == pytest.approx(0.5 * 3 / 4)
    far = problem([0.0, 0.1, 0.2, 3.0], [0.0, 0.1, 0.2, 1.0])  # 5 half-ranges from the middle
    assert support.extrapolated(KL, g, far) == pytest.approx(25 * 3 / 4)
    chi2 = dv.get("pearson_chi2")  # f'(r) = 2(r − 1)
    assert support.extrapolated(chi2, g, s) == pytest.approx(2 * (math.exp(4.5) - math.exp(3)) / 4)
    inside = Sides(np.array([-1.0, 0.0, 1.0, 1.4]), g.y)
    assert support.extrapolated(KL, inside, s) == 0


def by_hand(second, third):
    """Ratios 1 … 60 of x; y has its largest at 40.5, so that k = 20, and so many between 21 and 40, and 1 and 20."""
    gx, gy = np.arange(1.0, 61.0), np.concatenate([[40.5], np.linspace(21, 40, second), np.linspace(1, 20, third)])
    return Sides(gx, gy), problem(gx, gy)


@pytest.mark.parametrize(
    ("second", "third", "expected"),
    [
        (9, 5, (9 - 3) * 1.0),  # it did not thin out: 9 less their error
        (9, 9, (9 - 3) * 1.0),
        (4, 8, (4 - 2) * 4 / 8),  # it did, by half
        (0, 8, 0.0),
    ],
)
def test_what_would_lie_beyond_goes_on_as_the_two_parts_before_it(second, third, expected):
    g, s = by_hand(second, third)
    assert support._expected_beyond(g, s) == pytest.approx(expected)
    weighted = s._replace(x_weights=np.ones(len(s.x)), y_weights=np.ones(len(s.y)))
    assert support._expected_beyond(g, weighted) == pytest.approx(expected)
    assert support._expected_beyond(Sides(np.minimum(g.x, 40.5), g.y), s) == 0


def atoms(counts):
    return np.repeat(np.arange(len(counts)), counts)


@pytest.mark.parametrize(
    ("x", "y", "x_weights", "opened"),
    [
        ([50, 47, 3], [60, 40], None, True),  # three, of which y would have missed all by 5%
        ([50, 49, 1], [60, 40], None, False),
        ([50, 20, 30], [60, 40], [1] * 70 + [1e-9] * 30, False),  # they have no mass
        ([500, 470, 30], [60, 20], None, False),  # 3% of the 80 of y are 2.4
    ],
)
def test_values_that_one_side_lacks(x, y, x_weights, opened):
    s = problem(atoms(x), atoms(y), x_weights)
    g = Sides(np.zeros(len(s.x)), np.zeros(len(s.y)))
    found = support.unsupported(KL, CrossFit(g, g), s)
    assert bool(found) == opened and all("values that y never has" in why for why in found)


def test_a_coordinate_that_y_does_not_vary_in():
    g = np.random.default_rng(0)
    x, y = (np.column_stack([g.normal(size=300), np.zeros(300)]) for _ in range(2))
    x[0, 1] = 1.0
    for name, first, second in (("kl", x, y), ("reverse_kl", y, x)):
        s = Problem(first, second, None, None)
        ratio = Sides(*((0.125 - 0.5 * v[:, 0]) for v in (first, second)))
        found = two_sided(dv.get(name), CrossFit(ratio, ratio), (), s, 0.95)
        assert not math.isnan(found.interval[1])
        assert not any("nan" in note or "inf " in note for note in found.notes)
