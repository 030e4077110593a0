"""Learned kernels: the formula, what training gains, the pool's representation, and exact tests in both forms."""

import functools
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from two_sample_cases import pool

import estimators as est
from divergences._spec import to_spec
from estimators.neural.critics import mlp
from estimators.neural.cross_fitted import cross_fitted
from estimators.neural.power import REGULARISER, ratio
from estimators.neural.representation import Representation, edges, image_shape
from estimators.two_sample.named import resolved

FORMS = [True, False]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def points(n, d=2, seed=0):
    return torch.randn(n, d, generator=generator(seed), dtype=torch.float64)


def learned(cross_fit=True, network=None):
    return est.MMD(est.DeepKernel(network, cross_fit))


@functools.cache
def fitted():
    """One that was trained on a shift of the first of two coordinates."""
    shift = torch.tensor([1.0, 0.0])
    return learned().fit(points(100, seed=1) + shift, points(100, seed=2), steps=30, seed=3)


@pytest.fixture
def short(monkeypatch):
    """Training of five steps, which no law of a test depends on."""
    whole = est.DeepKernel.fitted
    monkeypatch.setattr(est.DeepKernel, "fitted", lambda self, s, **options: whole(self, s, **{**options, "steps": 5}))


def test_the_kernel_is_the_one_on_paper_and_positive_semi_definite():
    torch.manual_seed(0)
    kernel = learned(network=nn.Linear(2, 3)).fit(points(40), points(40, seed=1), steps=10).kernel
    x, y = points(6, seed=5), points(4, seed=6)
    weight, bias = (p.detach().double().numpy() for p in kernel.phi.parameters())
    (h, h_q), epsilon = kernel.bandwidths, kernel.epsilon
    expected = np.empty((6, 4))
    for i, a in enumerate(x.numpy()):
        for j, b in enumerate(y.numpy()):
            kappa = math.exp(-np.sum((weight @ a - weight @ b) ** 2) / (2 * h**2))
            q = math.exp(-np.sum((a - b) ** 2) / (2 * h_q**2))
            expected[i, j] = ((1 - epsilon) * kappa + epsilon) * q
    # φ is in single precision
    np.testing.assert_allclose(kernel(x, y).detach().numpy(), expected, rtol=1e-5)
    assert bias.shape == (3,) and 0 < epsilon < 1
    z = points(30, seed=7)
    gram = fitted().kernel(z, z).detach()
    assert float(torch.linalg.eigvalsh((gram + gram.T) / 2)[0]) > -1e-9
    torch.testing.assert_close(gram.diagonal(), torch.ones(30, dtype=torch.float64))
    batch = torch.stack([x, x + 1])
    torch.testing.assert_close(fitted().kernel(batch, y)[1], fitted().kernel(x + 1, y))


def test_the_ratio_is_the_one_on_paper():
    k = [points(5, 5, seed) for seed in range(3)]
    k[0], k[1] = (m + m.T for m in k[:2])
    xx, yy, xy = (m.numpy() for m in k)
    n, H = 5, np.empty((5, 5))
    for i in range(n):
        for j in range(n):
            H[i, j] = xx[i, j] + yy[i, j] - xy[i, j] - xy[j, i]
    mmd2 = sum(H[i, j] for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    variance = 4 / n**3 * sum(H[i].sum() ** 2 for i in range(n)) - 4 / n**4 * H.sum() ** 2
    assert float(ratio(*k)) == pytest.approx(mmd2 / math.sqrt(variance + REGULARISER), rel=1e-9)


def comb(n, seed):
    """Six teeth on a line, and six between them: one kernel that looks far sees nothing."""
    g = generator(seed)
    teeth = torch.randint(6, (2, n, 1), generator=g) + 0.1 * torch.randn(2, n, 1, generator=g, dtype=torch.float64)
    return teeth[0], teeth[1] + 0.5


def test_training_raises_the_ratio_on_new_points():
    def judged(steps):
        x, y = comb(200, seed=2)
        with torch.no_grad():
            kernel = learned().fit(*comb(200, seed=1), steps=steps).kernel
            return float(ratio(kernel(x, x), kernel(y, y), kernel(x, y)))

    assert judged(200) > 3 * judged(0) > 0


def test_fit_leaves_the_given_kernel_alone_and_estimate_stores_nothing():
    kernel = est.DeepKernel()
    mmd = est.MMD(kernel)
    x, y = points(60) + 1, points(60, seed=1)
    before = torch.get_rng_state()
    found = mmd.estimate(x, y, seed=4)
    assert not kernel.is_fitted and mmd.kernel is kernel and torch.equal(before, torch.get_rng_state())
    assert "trained on 30 + 30 points, evaluated on the other 30 + 30" in found.notes[0]
    assert found.interval[0] <= found.value <= found.interval[1]
    assert mmd.estimate(x, y, seed=4).value == found.value != mmd.estimate(x, y, seed=5).value
    assert mmd.fit(x, y, steps=5) is mmd and mmd.kernel.is_fitted and not kernel.is_fitted
    assert "data that fit has not seen" in mmd.estimate(x + 0.1, y + 0.1).notes[0]
    again = est.MMD(kernel).fit(x, y, steps=5)
    assert again(x, y) == mmd(x, y) != est.MMD(kernel).fit(x, y, steps=5, seed=1)(x, y)


def test_the_estimate_is_that_of_the_kernel_as_a_plain_function():
    x, y = points(50, seed=30) + 1, points(40, seed=31)

    def plain(a, b):
        return fitted().kernel(a, b)

    with torch.no_grad():
        expected = est.MMD(plain).estimate(x, y)
    found = fitted().estimate(x, y)
    assert (found.value, *found.interval) == pytest.approx((expected.value, *expected.interval))


def test_the_witness_points_to_where_the_samples_differ():
    x, y = points(80, seed=40) + torch.tensor([1.0, 0.0]), points(80, seed=41)
    with torch.no_grad():
        found = fitted().witness(x, y, torch.tensor([[2.0, 0.0], [-1.0, 0.0]], dtype=torch.float64))
        top = fitted().witness(x, y)
    assert found.values[0] > 0 > found.values[1]
    assert top.top(5, "x")[:, 0].mean() > 1 and top.top(5, "y")[:, 0].mean() < 0


def test_the_most_different_images_are_those_of_the_other_kind():
    digits, kinds = load_digits(return_X_y=True)
    g = np.random.default_rng(4)
    some, sevens = (g.permutation(digits[same]) for same in (kinds < 5, kinds == 7))
    y = [np.concatenate([some[400 + 140 * i : 540 + 140 * i], sevens[60 * i : 60 * i + 60]]) for i in range(2)]
    found = learned().fit(some[:200], y[0]).witness(some[200:400], y[1]).top(10, "y")
    known = {image.tobytes() for image in sevens}
    assert sum(image.tobytes() in known for image in found) >= 8  # of ten at random, three


def test_gradients_reach_the_points():
    x, y = points(8).requires_grad_(), points(8, seed=1)
    fitted()(x, y).backward()
    step = torch.zeros_like(x)
    step[3, 0] = 1e-3
    with torch.no_grad():
        slope = (fitted()(x + step, y) - fitted()(x - step, y)) / 2e-3
    assert float(x.grad[3, 0]) == pytest.approx(float(slope), rel=0.02, abs=1e-5)  # φ is in single precision


@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_the_representation_is_white_with_distances_in_standard_units(offset):
    z = points(600, 40) * torch.linspace(0.1, 5, 40) + offset
    seen = Representation(z)
    found = seen(z).double()
    white, distances = found[:, : seen.white], found[:, seen.white :]
    assert (seen.white, seen.distances) == (32, ("radius of the points", "the points off the axes"))
    torch.testing.assert_close(white.T @ white / 600, torch.eye(32, dtype=torch.float64), atol=1e-4, rtol=0)
    standard = (z - z.mean(0)) / z.std(0, correction=0)
    radius, total = white.norm(dim=-1), standard.square().sum(-1)
    left, _, _ = torch.linalg.svd(standard, full_matrices=False)
    off = (standard - left[:, :32] @ (left[:, :32].T @ standard)).norm(dim=-1)
    for own, expected in zip(distances.T, (radius, off), strict=True):
        expected = 3 * (expected - expected.mean()) / expected.std(correction=0)
        torch.testing.assert_close(own, expected, atol=2e-3, rtol=0)
    assert bool((off.square() < total).all())


def test_images_are_known_by_their_neighbours():
    digits = torch.as_tensor(load_digits().data)
    assert image_shape(digits) == (1, 8, 8)
    shuffled = digits[:, torch.randperm(64, generator=generator())]
    assert image_shape(shuffled) is None and image_shape(digits[:, :63]) is None
    assert image_shape(points(50, 64)) is None and image_shape(torch.zeros(5, 64)) is None
    colours = digits.repeat(1, 3)
    assert image_shape(colours) == (3, 8, 8)
    assert len(Representation(digits).distances) == Representation(digits).dim - Representation(digits).white == 4


def test_edges_have_the_direction_of_the_slope():
    ramp = torch.arange(28.0, dtype=torch.float64).expand(1, 1, 28, 28)
    strength = [edges(image).reshape(8, -1).mean(1) for image in (ramp, ramp.mT, ramp.flip(-1))]
    assert [int(found.argmax()) for found in strength] == [0, 2, 4]
    assert float(edges(torch.ones(1, 1, 28, 28)).max()) < 0.01


def test_constant_points_have_a_representation():
    found = Representation(torch.ones(30, 3))(torch.ones(4, 3))
    assert bool(torch.isfinite(found).all())


def test_the_cross_fitted_statistic_is_a_function_of_the_labelling_alone():
    z = points(60, 3).float()
    labels = torch.rand(7, 60, generator=generator(1)) < 0.5
    evaluate = cross_fitted(mlp(3, 4, (8,), generator=generator(2)), z, generator(3))
    together = evaluate(labels)
    torch.testing.assert_close(together[[4, 1]], evaluate(labels[[4, 1]]), atol=1e-4, rtol=0)
    torch.testing.assert_close(together, evaluate(labels), atol=0, rtol=0)
    # A shift that the labels follow is seen, whichever side is called x.
    z[labels[0]] += 2
    evaluate = cross_fitted(mlp(3, 4, (8,), generator=generator(2)), z, generator(3))
    assert bool((evaluate(torch.stack([labels[0], ~labels[0]])) > 4).all())


@pytest.mark.parametrize("cross_fit", FORMS)
def test_the_level_is_exact(cross_fit, short):
    """At 20% of 4 of 20 ranks: a statistic that trained on the labels it ranks would reject nearly always."""
    draws, g = 50, np.random.default_rng(5)
    rejected = 0
    for seed in range(draws):
        x, y = g.normal(size=(24, 2)), g.normal(size=(20, 2))
        rejected += est.two_sample_test(x, y, learned(cross_fit), 19, seed).reject(0.2)
    assert abs(rejected / draws - 0.2) < 3 * math.sqrt(0.2 * 0.8 / draws)


def test_the_split_permutes_no_label_that_trained(short):
    given = pool(24, 20)
    plan = resolved(learned(False)).plan(given)
    (family,) = plan.families
    labels = given.design.labels(20, generator(1), plan.fixed)
    fixed = plan.fixed[given.design.unit]
    assert int(fixed.sum()) == 22 and bool((labels[:, fixed] == given.design.observed[fixed]).all())
    flipped = labels ^ fixed
    torch.testing.assert_close(family.evaluate(labels), family.evaluate(flipped))


def test_images_with_some_of_another_kind_are_told_from_those_without():
    digits, kinds = load_digits(return_X_y=True)
    g = np.random.default_rng(3)
    threes, others = (g.permutation(digits[same]) for same in (kinds == 3, kinds != 3))
    x, y = threes[:80], np.concatenate([threes[80:140], others[:20]])
    found = est.two_sample_test(x, y, learned(), 99)
    assert found.p_value == 0.01
    assert any("edges in images" in note for note in found.notes)
    assert {"network trained on other folds", "radius of edges"} <= {part.statistic for part in found.evidence}


@pytest.mark.parametrize("cross_fit", FORMS)
def test_networks_of_your_own_are_copied(cross_fit, short):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 3))
    before = [p.clone() for p in network.parameters()]
    test = learned(cross_fit, network)
    x, y = points(60) + 1.5, points(60, seed=1)
    assert est.two_sample_test(x, y, test, 19).p_value == 0.05
    test.fit(x, y)
    assert all(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))


def test_designs_are_kept_or_refused_by_name(short):
    x, y = points(30), points(30, seed=1)
    pairs = range(30), range(30)
    x = x + 3 * torch.arange(30.0)[:, None]
    y = y + 3 * torch.arange(30.0)[:, None]
    clusters = [i // 2 for i in range(30)], [100 + i // 2 for i in range(30)]
    for design in ({"strata": pairs}, {"clusters": clusters}):
        assert 0 < est.two_sample_test(x, y, learned(), 19, **design).p_value <= 1
        with pytest.raises(ValueError, match=r"cross_fit=False\) splits independent points"):
            est.two_sample_test(x, y, learned(False), 19, **design)


def test_a_fitted_kernel_is_held():
    x, y = points(30, seed=50) + 1, points(30, seed=51)
    found = est.two_sample_test(x, y, fitted(), 99)
    assert found.statistic == pytest.approx(fitted().value(x, y).item(), rel=1e-6)
    assert "fitted before" in found.notes[0] and found.p_value <= 0.05


x30 = points(30)
REFUSED = [
    (lambda: est.DeepKernel("mlp"), TypeError, "network must be a torch module"),
    (lambda: est.DeepKernel(cross_fit=1), TypeError, "cross_fit must be True or False"),
    (lambda: est.MMD().fit(x30, x30), TypeError, "fit needs a kernel that can be learned, such as DeepKernel"),
    (lambda: learned()(x30, x30), ValueError, "no kernel yet: call MMD"),
    (lambda: learned().witness(x30, x30), ValueError, "no kernel yet: call MMD"),
    (lambda: learned().fit(x30[:9], x30), ValueError, "at least 10 points each to fit: got 9 and 30"),
    (lambda: learned().fit(x30[None], x30[None]), ValueError, "one problem"),
    (lambda: learned().estimate(x30[:19], x30), ValueError, "at least 20 points each"),
    (lambda: learned(network=nn.Flatten(0)).fit(x30, x30), ValueError, "must give a vector a point"),
    (lambda: est.two_sample_test(x30[:19], x30, learned()), ValueError, "at least 20 points in x"),
    (lambda: est.two_sample_test(x30, x30, est.MMD(est.DeepKernel(), "linear")), ValueError, '"unbiased" or "biased"'),
    (lambda: est.two_sample_test(x30, x30, learned(), early_stopping=True), ValueError, "single statistic"),
    (
        lambda: est.two_sample_test(x30, x30, learned(), x_weights=np.ones(30), y_weights=np.ones(30), normalize=True),
        ValueError,
        "no weights",
    ),
    (lambda: to_spec(fitted().kernel), TypeError, "cannot be stored by name and arguments"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED, ids=[message for _, _, message in REFUSED])
def test_what_cannot_be_done_is_refused_in_one_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_an_unfitted_kernel_is_stored_by_name():
    assert to_spec(est.DeepKernel(cross_fit=False))["arguments"] == {"network": None, "cross_fit": False}


def test_dropout_and_batch_statistics_do_not_move_the_statistic():
    """A labelling has one value, whatever noise a network of one's own makes in training; and the network stays."""
    network = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)).double()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x = torch.randn(40, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40)[None] < 20
    evaluate = cross_fitted(network, x, torch.Generator().manual_seed(1))
    assert torch.equal(evaluate(labels), evaluate(labels))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with pytest.raises(ValueError, match=r"network must give a vector a point, \(2, k\) for two: got shape \(2,\)"):
        cross_fitted(nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)).double(), x, torch.Generator())


def test_a_fitted_kernel_refuses_the_points_it_was_fitted_to():
    x, y = torch.randn(2, 60, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mmd = est.MMD(kernel=est.DeepKernel()).fit(x[:30], y[:30], steps=5)
    for call in (lambda: mmd.estimate(x[20:50], y), lambda: est.two_sample_test(x, y[30:], mmd, permutations=19)):
        with pytest.raises(ValueError, match=r"x and y must be new points: the kernel was fitted to some of them"):
            call()
    assert mmd.estimate(x[30:], y[30:]).n == 30
