"""`KernelDensity`: the leave-one-out estimate, its bandwidth and its intervals."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import divergences as dv
import estimators as est


def weighted(n):
    w = np.random.default_rng(1).gamma(3, size=n)
    return w / w.sum()


@pytest.mark.parametrize("far", [0, 40, 1e4])
def test_the_kernel_estimate_is_that_of_scikit_learn(far):
    """Also at points that are so far from all others that their kernels underflow."""
    from sklearn.neighbors import KernelDensity

    g = np.random.default_rng(4)
    x, y, w = g.normal(size=(60, 2)), g.normal(size=(50, 2)) + 0.5, weighted(50)
    x[:2] += [[far], [3 * far]]
    at_y = KernelDensity(bandwidth=0.4).fit(y, sample_weight=w).score_samples(x)
    own = [KernelDensity(bandwidth=0.4).fit(np.delete(x, i, 0)).score_samples(x[i : i + 1])[0] for i in range(60)]
    assert est.KernelDensity("kl", 0.4)(x, y, y_weights=w) == pytest.approx((own - at_y).mean(), rel=1e-9)


def test_the_bandwidth_has_the_largest_leave_one_out_likelihood():
    from sklearn.neighbors import KernelDensity

    x = np.random.default_rng(5).gamma(3, size=(80, 1))
    note = est.KernelDensity("js").estimate(x, x[::-1] + 0.1).notes[0]
    h = float(note.split()[1]) * x.std()

    def likelihood(h):
        return sum(
            KernelDensity(bandwidth=h).fit(np.delete(x, i, 0)).score_samples(x[i : i + 1])[0] for i in range(len(x))
        )

    assert likelihood(h) >= max(likelihood(h * 0.8), likelihood(h * 1.25))


def test_density_intervals_cover_where_they_are_given():
    P, Q = stats.norm(0, 1), stats.norm(0.8, 1.3)
    truth, printed, covered = dv.js(P, Q), 0, 0
    for seed in range(20):
        e = est.KernelDensity("js").estimate(P.rvs((400, 1), seed), Q.rvs((400, 1), seed + 400), seed=0)
        if e.interval is not None:
            printed += 1
            covered += e.interval[0] <= truth <= e.interval[1]
    assert printed >= 12 and covered >= 0.95 * printed - 3 * math.sqrt(0.0475 * printed)


def test_density_says_where_it_is_carried_by_few_points():
    g = np.random.default_rng(6)
    e = est.KernelDensity("kl").estimate(g.normal(size=(300, 1)), g.normal(size=(300, 1)) + 5)
    assert e.interval is None and any("saturated" in note for note in e.notes)
    e = est.KernelDensity("js").estimate(g.standard_cauchy((200, 1)), g.normal(size=(200, 1)))
    assert e.interval is None and any("do not fit" in note for note in e.notes)
    e = est.KernelDensity("js").estimate(g.standard_t(3, (200, 1)), g.normal(size=(200, 1)))
    assert e.interval is None and any("heavy tails" in note for note in e.notes)
    e = est.KernelDensity("js").estimate(g.normal(size=(100, 8)), g.normal(size=(100, 8)))
    assert any("8 dimensions" in note for note in e.notes)


def test_values_that_cannot_be_are_not_returned():
    g = np.random.default_rng(62)
    failed = 0
    for _ in range(10):
        x, y = g.standard_cauchy((200, 1)), g.normal(size=(200, 1))
        e = est.KernelDensity("js").estimate(x, y)
        assert e.value < math.log(2) and e.interval is None
        if any("do not fit" in note for note in e.notes):
            failed += 1
            assert e.value == 0 and e.stderr is None
        else:
            assert e.value >= -4 * e.stderr
        power = est.KernelDensity("chi2").estimate(x, y)
        assert power.value < 400 and power.interval is None and any("were held" in note for note in power.notes)
    assert failed >= 5
    x = g.normal(size=(300, 1))
    for name, most in (("js", math.log(2)), ("total_variation", 1.0), ("hellinger", 1.0)):
        assert est.KernelDensity(name)(x, x + 40) <= most


@pytest.mark.parametrize("weighted_too", [False, True])
def test_a_bandwidth_sought_on_a_part_fits_the_whole(weighted_too, monkeypatch):
    from estimators.classical import kernel_density

    g = torch.Generator().manual_seed(63)
    x = torch.randn(3000, 1, generator=g, dtype=torch.float64)
    w = torch.rand(3000, generator=g, dtype=torch.float64) if weighted_too else None
    w = None if w is None else w / w.sum()
    part = kernel_density._Density.fit("x", x, w, "auto").h
    monkeypatch.setattr(kernel_density, "SOUGHT", 10_000)
    whole = kernel_density._Density.fit("x", x, w, "auto").h
    assert 0.7 < part / whole < 1.4  # the likelihood is flat: measured sd of log h is 0.1
    assert kernel_density._Density.fit("x", x[:300], None, "auto").h > whole
