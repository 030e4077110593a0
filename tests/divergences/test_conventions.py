"""The conventions of docs/conventions.md, line by line: each name there is a test here."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributions as td
from scipy import stats
from scipy.optimize import linprog

import divergences as dv
from tests.cases import LOG2

PAGE = Path(__file__).parent.parent.parent / "docs" / "conventions.md"
P, Q = np.asarray([0.5, 0.25, 0.2, 0.05]), np.asarray([0.1, 0.3, 0.2, 0.4])
POINTS = np.asarray([0.0, 1.0, 2.5, 4.0])


def dual(p, q, lipschitz):
    """The sup and the inf of E_P f − E_Q f over f with |f(x) − f(y)| ≤ K|x − y|, by a general linear program."""
    n = len(p)
    rows, limits = [], []
    for i in range(n):
        for j in range(n):
            if i != j:
                row = np.zeros(n)
                row[i], row[j] = 1, -1
                rows.append(row)
                limits.append(lipschitz * abs(POINTS[i] - POINTS[j]))
    found = [linprog(s * (p - q), A_ub=rows, b_ub=limits, bounds=[(0, 0), *[(None, None)] * (n - 1)]) for s in (-1, 1)]
    return -found[0].fun, found[1].fun


def test_direction_is_data_then_model():
    assert dv.kl(P, Q) == pytest.approx(sum(p * math.log(p / q) for p, q in zip(P, Q, strict=True)))
    assert dv.kl(P, Q) != pytest.approx(dv.kl(Q, P))


def test_unit_is_the_nat():
    assert dv.kl([1.0, 0.0], [0.5, 0.5]) == pytest.approx(math.log(2))
    assert dv.kl([1.0, 0.0], [0.5, 0.5], base=2) == pytest.approx(1)


def test_js_has_its_halves():
    M = (P + Q) / 2
    assert dv.js(P, Q) == pytest.approx(dv.kl(P, M) / 2 + dv.kl(Q, M) / 2)
    assert dv.js([1.0, 0.0], [0.0, 1.0]) == pytest.approx(LOG2)


def test_total_variation_has_its_half():
    assert dv.total_variation(P, Q) == pytest.approx(np.abs(P - Q).sum() / 2)


def test_hellinger_squared_is_half_of_squared_hellinger():
    assert dv.squared_hellinger(P, Q) == pytest.approx(((np.sqrt(P) - np.sqrt(Q)) ** 2).sum())
    assert dv.hellinger(P, Q) ** 2 == pytest.approx(dv.squared_hellinger(P, Q) / 2)


def test_jeffreys_has_no_half():
    assert dv.jeffreys(P, Q) == pytest.approx(dv.kl(P, Q) + dv.kl(Q, P))


def test_chi2_is_pearsons():
    assert dv.chi2(P, Q) == pytest.approx(((P - Q) ** 2 / Q).sum())
    assert dv.neyman_chi2(P, Q) == pytest.approx(((P - Q) ** 2 / P).sum())


def test_le_cam_has_no_half():
    assert dv.le_cam(P, Q) == pytest.approx(((P - Q) ** 2 / (P + Q)).sum())


def test_alpha_at_its_named_orders():
    assert dv.alpha(P, Q, 2) == pytest.approx(dv.chi2(P, Q) / 2)
    assert dv.alpha(P, Q, 0.5) == pytest.approx(2 * dv.squared_hellinger(P, Q))
    assert dv.alpha(P, Q, 1) == pytest.approx(dv.kl(P, Q))
    assert dv.alpha(P, Q, 0) == pytest.approx(dv.kl(Q, P))
    assert dv.alpha(P, Q, 1 + 1e-7) == pytest.approx(dv.kl(P, Q), rel=1e-6)


def test_renyi_at_its_limits():
    assert dv.renyi(P, Q, 1) == pytest.approx(dv.kl(P, Q))
    assert dv.renyi([0.5, 0.5, 0.0], [0.2, 0.3, 0.5], 0) == pytest.approx(-math.log(0.5))
    assert dv.renyi(P, Q, math.inf) == pytest.approx(math.log(5))
    assert dv.renyi(P, Q, 0.5) == pytest.approx(2 * dv.bhattacharyya(P, Q))
    with pytest.raises(ValueError, match="alpha must be at least 0: got -1"):
        dv.renyi(P, Q, -1)


def test_hockey_stick_is_shifted_to_vanish():
    for gamma in (0.5, 1.0, 2.0):
        direct = np.maximum(P - gamma * Q, 0).sum() - max(1 - gamma, 0)
        assert dv.hockey_stick(P, Q, gamma) == pytest.approx(direct)
    assert dv.hockey_stick(P, Q, 1) == pytest.approx(dv.total_variation(P, Q))


def test_skewed_mixtures():
    w = 0.3
    M = w * P + (1 - w) * Q
    assert dv.skew_js(P, Q, w) == pytest.approx(w * dv.kl(P, M) + (1 - w) * dv.kl(Q, M))
    assert dv.skew_kl(P, Q, w) == pytest.approx(dv.kl(P, (1 - w) * P + w * Q))


def test_squared_statistics_and_plain_distances():
    a, b = dv.Empirical(POINTS, P), dv.Empirical(POINTS, Q)
    D = np.abs(POINTS[:, None] - POINTS)
    assert dv.energy_distance(a, b) == pytest.approx(2 * P @ D @ Q - P @ D @ P - Q @ D @ Q)
    assert dv.energy_distance(a, b, squared=False) ** 2 == pytest.approx(dv.energy_distance(a, b))
    K = np.exp(-(D**2) / (2 * 1.5**2))
    assert dv.mmd(a, b, dv.kernels.Gaussian(1.5)) == pytest.approx((P - Q) @ K @ (P - Q))
    assert dv.wasserstein(dv.PointMass(0.0), dv.PointMass(3.0), order=2) == pytest.approx(3)


def test_energy_distance_is_the_mmd_of_the_distance_induced_kernel():
    a, b = dv.Empirical(POINTS, P), dv.Empirical(POINTS, Q)
    assert dv.mmd(a, b, dv.kernels.DistanceInduced()) == pytest.approx(dv.energy_distance(a, b))


def test_infinite_only_where_it_is():
    assert dv.kl([0.5, 0.5], [1.0, 0.0]) == math.inf
    assert dv.kl([1.0, 0.0], [0.5, 0.5]) == pytest.approx(LOG2)
    assert dv.chi2(stats.norm(0, math.sqrt(2)), stats.norm()) == math.inf
    assert dv.kl(stats.cauchy(), stats.norm()) == math.inf
    assert math.isfinite(dv.js(stats.cauchy(), stats.norm()))


# The corrections of well-known slides.


def test_1_the_gan_value_gains_twice_jsd():
    D = P / (P + Q)
    value = (P * np.log(D)).sum() + (Q * np.log(1 - D)).sum()
    assert value == pytest.approx(-math.log(4) + 2 * dv.js(P, Q))
    assert value != pytest.approx(dv.js(P, Q) - math.log(4))


def test_2_the_printed_jensen_shannon_row_is_double():
    printed = dv.FDivergence.from_f(lambda u: u * u.log() - (u + 1) * ((1 + u) / 2).log())
    assert printed(P, Q) == pytest.approx(2 * dv.js(P, Q))
    t = torch.linspace(-2, 0.3, 12, dtype=torch.float64)
    torch.testing.assert_close(dv.JensenShannon().conjugate(t), printed.conjugate(2 * t) / 2, rtol=1e-8, atol=1e-9)


def test_3_u_minus_one_squared_is_pearsons():
    mine = dv.FDivergence.from_f(lambda u: (u - 1) ** 2)
    assert mine(P, Q) == pytest.approx(((P - Q) ** 2 / Q).sum())
    d = dv.PearsonChi2()
    assert (d.conjugate(-4.0), d.extended_conjugate(-4.0)) == (-1.0, 0.0)
    for conjugate in (d.conjugate, d.extended_conjugate):  # both are valid bounds for every critic
        T = np.asarray([-4.0, 1.0, 0.5, -3.0])
        assert (P * T).sum() - (Q * conjugate(T)).sum() <= dv.chi2(P, Q)


def test_4_k_lipschitz_gives_k_times_w1():
    w1 = dv.wasserstein(dv.Empirical(POINTS, P), dv.Empirical(POINTS, Q))
    for K in (1.0, 3.0):
        assert dual(P, Q, K)[0] == pytest.approx(K * w1)


def test_5_the_ebgan_discriminator_minimises():
    # Pointwise, D(x) in [0, m] minimises p D + q [m − D]₊, at 0 or m: the value is m Σ min(p, q) = m(1 − TV).
    m, D = 2.0, np.linspace(0, 3, 3001)
    least = sum((p * D + q * np.maximum(m - D, 0)).min() for p, q in zip(P, Q, strict=True))
    assert least == pytest.approx(m * (1 - dv.total_variation(P, Q)))


def test_6_mutual_information_subtracts_the_conditional_entropy():
    joint = np.asarray([[0.3, 0.1, 0.05], [0.05, 0.2, 0.3]])
    c, x = joint.sum(1), joint.sum(0)
    entropy_c = -(c * np.log(c)).sum()
    conditional = -(joint * np.log(joint / x)).sum()
    assert dv.kl(joint.ravel(), np.outer(c, x).ravel()) == pytest.approx(entropy_c - conditional)


def test_7_transport_is_an_infimum():
    cost = np.abs(POINTS[:, None] - POINTS)
    independent = (np.outer(P, Q) * cost).sum()  # one coupling of many
    least = dv.wasserstein(P, Q, cost=cost)
    assert least < independent
    assert least == pytest.approx(dual(P, Q, 1.0)[0])


def test_8_change_of_variables_has_minus_log_det():
    law = td.TransformedDistribution(
        td.Normal(torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)),
        [td.AffineTransform(1.0, 3.0)],
    )
    z = torch.tensor(0.7, dtype=torch.float64)
    x = 1 + 3 * z
    torch.testing.assert_close(law.log_prob(x), law.base_dist.log_prob(z) - math.log(3))
    same = td.Normal(torch.tensor(1.0, dtype=torch.float64), torch.tensor(3.0, dtype=torch.float64))
    assert float(dv.total_variation(law, same)) == pytest.approx(0, abs=1e-9)


def test_9_the_wasserstein_critic_ascends():
    up, down = dual(P, Q, 1.0)
    w1 = dv.wasserstein(dv.Empirical(POINTS, P), dv.Empirical(POINTS, Q))
    assert up == pytest.approx(w1)
    assert down == pytest.approx(-w1)  # a critic that descends is the same critic with its sign turned


def test_10_the_ground_metric_is_an_argument():
    a, b = dv.PointMass([0.0, 0.0]), dv.PointMass([1.0, 1.0])
    assert dv.wasserstein(a, b) == pytest.approx(math.sqrt(2))
    assert dv.wasserstein(a, b, metric="cityblock") == pytest.approx(2)


def test_11_the_gan_row_is_a_shifted_divergence():
    d = dv.GAN()
    assert d.f(1.0) == pytest.approx(-math.log(4))
    assert d(P, P) == pytest.approx(-math.log(4))
    assert d(P, Q) == pytest.approx(2 * dv.js(P, Q) - math.log(4))


def test_the_page_names_a_test_for_every_line():
    known = {name for name in globals() if name.startswith("test_")}
    named = re.findall(r"`(test_\w+)`", PAGE.read_text())
    assert set(named) <= known
    assert known - set(named) == {"test_the_page_names_a_test_for_every_line"}
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    heads = [row for row in rows if row.endswith("| proved by |")]
    assert len(heads) == 2
    assert all(re.search(r"`test_\w+` \|$", row) for row in rows if row not in heads)
