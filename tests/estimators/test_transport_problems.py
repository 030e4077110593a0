"""The truths of the W1 problems: a potential and a plan that agree, and the line."""

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.transport_problems import ConesProblem, problems


@pytest.mark.parametrize(("D", "N"), [(2, 4), (2, 64), (16, 16), (128, 64)])
def test_every_point_moves_down_a_1_lipschitz_potential_by_the_distance_that_it_moves(D, N):
    problem = ConesProblem(D, N, 0)
    y = np.random.default_rng(0).uniform(-2.5, 2.5, (2000, D))
    x = problem.moved(y)

    def u(z):
        return (np.linalg.norm(z[:, None] - problem.centers, axis=-1) + problem.heights).min(1)

    np.testing.assert_allclose(u(y) - u(x), np.linalg.norm(y - x, axis=1), rtol=1e-9, atol=1e-9)
    assert (np.abs(x) <= 2.5 + 1e-9).all()


@pytest.mark.parametrize("problem", [p for p in problems() if p.name.endswith("D = 2")], ids=lambda p: p.name)
def test_truths_of_two_dimensions_are_those_of_the_plan_of_many_points(problem):
    ot = pytest.importorskip("ot")
    x, y = problem.draw(np.random.default_rng(1), 2000)
    plan = float(ot.emd2([], [], ot.dist(x, y, metric="euclidean"), numItermax=2_000_000))
    assert plan == pytest.approx(problem.truth(), rel=0.1)  # of 2,000 points the plan is dearer by their noise


def test_a_line_in_noise_is_the_line():
    problem = next(p for p in problems() if p.name.startswith("modes drawn together, D = 16"))
    x, y = problem.draw(np.random.default_rng(2), 100_000)
    direction = np.linalg.eigh(np.cov(x.T))[1][:, -1]
    assert stats.wasserstein_distance(x @ direction, y @ direction) == pytest.approx(problem.truth(), rel=0.02)
    assert problem.truth() == pytest.approx(1.5, rel=0.05)  # nearly all of each mode moves by 1.5
    scale = next(p for p in problems() if p.name == "N(0, I), N(0, 2.25 I), D = 2")
    assert scale.truth() == pytest.approx(0.5 * math.sqrt(math.pi / 2), rel=1e-12)
