"""Kernels against their formulas, under offsets, at coincident points, and differentiated twice."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from divergences import kernels as K
from divergences._spec import from_spec, to_spec

KERNELS = [
    K.Gaussian(1.5), K.Gaussian((0.5, 1.0, 2.0)), K.Laplace(0.7), K.InverseMultiquadric(2.0),
    K.RationalQuadratic(1.3, 0.5), K.Polynomial(3, 1.0), K.DistanceInduced(), K.DistanceInduced(1.5),
    K.Gaussian(1.0) + K.Laplace(2.0), K.Gaussian(1.0) * K.Polynomial(2, 1.0), 2.0 * K.Gaussian(0.5),
]  # fmt: skip
FORMULAS = [
    (K.Gaussian(1.5), lambda x, y: math.exp(-((x - y) @ (x - y)) / (2 * 1.5**2))),
    (K.Gaussian((0.5, 2.0)), lambda x, y: sum(math.exp(-((x - y) @ (x - y)) / (2 * h * h)) for h in (0.5, 2.0)) / 2),
    (K.Laplace(0.7), lambda x, y: math.exp(-np.linalg.norm(x - y) / 0.7)),
    (K.InverseMultiquadric(2.0), lambda x, y: 2 / (2 + (x - y) @ (x - y))),
    (K.RationalQuadratic(1.3, 0.5), lambda x, y: (1 + (x - y) @ (x - y) / (2 * 0.5 * 1.3**2)) ** -0.5),
    (K.Polynomial(3, 1.0), lambda x, y: (x @ y + 1) ** 3),
    (K.DistanceInduced(), lambda x, y: np.linalg.norm(x) + np.linalg.norm(y) - np.linalg.norm(x - y)),
    (K.Gaussian(1.0) + 3.0 * K.Laplace(2.0),
     lambda x, y: math.exp(-((x - y) @ (x - y)) / 2) + 3 * math.exp(-np.linalg.norm(x - y) / 2)),
    (K.Gaussian(1.0) * K.Polynomial(2, 0.0), lambda x, y: math.exp(-((x - y) @ (x - y)) / 2) * (x @ y) ** 2),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "formula"), FORMULAS, ids=[repr(k) for k, _ in FORMULAS])
def test_kernels_are_their_formulas(kernel, formula):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(4, 3))
    expected = [[formula(a, b) for b in y] for a in x]
    got = kernel(x, y)
    assert isinstance(got, np.ndarray)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_batches_broadcast_and_matrices_are_positive(kernel):
    x, y = torch.randn(2, 1, 6, 3, dtype=torch.float64), torch.randn(4, 5, 3, dtype=torch.float64)
    assert kernel(x, y).shape == (2, 4, 6, 5)
    torch.testing.assert_close(kernel(x, y)[1, 2], kernel(x[1, 0], y[2]))
    assert torch.linalg.eigvalsh(kernel(y[0], y[0])).min() > -1e-10


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_twice_differentiable(kernel):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, 2, dtype=torch.float64, generator=generator, requires_grad=True) for n in (3, 4))
    assert torch.autograd.gradcheck(kernel, (x, y))
    assert torch.autograd.gradgradcheck(kernel, (x, y))


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
@pytest.mark.parametrize("d", [3, 40])
def test_coincident_points_have_finite_gradients(kernel, d):
    x = torch.zeros(4, d).normal_(generator=torch.Generator().manual_seed(0))
    x[1] = x[0]
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(kernel(x, x).sum(), x, create_graph=True)
    assert bool(gradient.isfinite().all())
    (second,) = torch.autograd.grad(gradient.square().sum(), x)
    assert bool(second.isfinite().all())


@pytest.mark.parametrize("kernel", [K.Laplace(1.0), K.DistanceInduced()], ids=repr)
def test_the_subgradient_at_a_coincident_pair_is_zero(kernel):
    x, y = torch.ones(1, 2, requires_grad=True), torch.ones(1, 2)
    (gradient,) = torch.autograd.grad(kernel(x, y).sum(), x)
    norm = torch.ones(1, 2) / math.sqrt(2) if isinstance(kernel, K.DistanceInduced) else torch.zeros(1, 2)
    torch.testing.assert_close(gradient, norm)


@pytest.mark.parametrize("d", [3, 100])
def test_distances_of_equal_points_vanish_and_offsets_do_not_matter(d):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, d, generator=generator)
    assert K.squared_distances(x, x).diagonal().max() < 1e-10
    far_x, far_y = x + 1e6, torch.randn(40, d, generator=generator) + 1e6
    truth = (far_x.double()[:, None] - far_y.double()[None]).square().sum(-1)
    torch.testing.assert_close(K.squared_distances(far_x, far_y).double(), truth, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_written_down_and_rebuilt(kernel):
    for twin in (from_spec(to_spec(kernel)), copy.deepcopy(kernel), pickle.loads(pickle.dumps(kernel))):
        assert twin == kernel


def test_sums_start_at_zero_and_carry_weights():
    x, y = np.random.default_rng(0).normal(size=(2, 4, 2))
    a, b = K.Gaussian(1.0), K.Polynomial(2)
    np.testing.assert_allclose(sum([a, 0.5 * b, a])(x, y), 2 * a(x, y) + 0.5 * b(x, y))
    assert sum([a, b]) == a + b
    assert 3 * a == a * 3.0
    for wrong in (lambda: a + 1, lambda: 1 + a, lambda: a + "gaussian"):
        with pytest.raises(TypeError):
            wrong()


@pytest.mark.parametrize("make", [K.Gaussian, K.Laplace, K.InverseMultiquadric, K.RationalQuadratic])
def test_tensors_as_scales_are_mixtures_or_batches(make):
    x, y = torch.randn(2, 3, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    scales = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    torch.testing.assert_close(make(scales)(x, y), make(scales.tolist())(x, y))
    batch = make(scales[:, None, None])(x, y)
    torch.testing.assert_close(batch[1], make(1.0)(x[1], y[1]))
    assert make(scales) == make(scales.clone())
    assert make(scales[:, None, None]) != make(2 * scales[:, None, None])
    h = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda h: make(h)(x[0], y[0]), (h,))
    with pytest.raises(ValueError, match=r"of a batch must be \(..., 1, 1\): got \(3, 5\)"):
        make(torch.ones(3, 5))


@pytest.mark.parametrize("name", K.names())
def test_names_make_kernels(name):
    kernel = K.get(name)
    assert isinstance(kernel, K.Kernel)
    assert from_spec(to_spec(kernel)) == kernel
    x = np.random.default_rng(0).normal(size=(6, 2))
    assert np.linalg.eigvalsh(kernel.resolved(x)(x, x)).min() > -1e-9


def test_parameters_replace_what_a_name_means():
    assert K.get("gaussian") == K.Gaussian("median")
    assert K.get("gaussian", bandwidth=2.0) == K.Gaussian(2.0)
    assert K.get("energy", order=1.5) == K.DistanceInduced(1.5)
    with pytest.raises(TypeError, match="scale"):
        K.get("gaussian", scale=2.0)
    with pytest.raises(ValueError, match="kernel must be one of gaussian, .*, or a kernel object: got 'cosine'"):
        K.get("cosine")


def test_median_is_that_of_all_pairs_in_any_order():
    x = np.random.default_rng(0).normal(size=(101, 2))
    pairs = np.linalg.norm(x[:, None] - x[None], axis=-1)[np.triu_indices(101, 1)]
    assert K.median_distance(x) == pytest.approx(np.median(pairs), rel=1e-3)
    assert K.median_distance(x[::-1].copy()) == pytest.approx(K.median_distance(x), rel=1e-12)
    resolved = K.Gaussian("median").resolved(x)
    assert resolved.bandwidth == K.median_distance(x)
    assert (K.Gaussian("median") * K.Laplace(("median", 1.0))).resolved(x).right.bandwidth == (resolved.bandwidth, 1.0)
    assert K.median_distance(np.zeros((10, 2))) == 1.0
    assert K.median_distance(np.r_[np.zeros((9, 1)), [[2.0]]]) == 2.0


@pytest.mark.parametrize(("n", "d"), [(2, 1), (3, 2), (4, 5), (63, 40), (300, 3)])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_median_is_the_lower_one_of_the_pairs(n, d, offset):
    """Both of a spread sample, whose distances are matrix products, and of one that is mostly copies."""
    rng = np.random.default_rng(n)
    spread = rng.normal(size=(n, d)) + offset
    copies = np.where(rng.random((n, 1)) < 0.6, spread[:1], spread)
    for x in (spread, copies):
        pairs = np.sort(pdist(x))
        pairs = pairs if np.quantile(pairs, 0.5, method="lower") > 0 else pairs[pairs > 0]
        expected = pairs[(len(pairs) - 1) // 2] if len(pairs) else 1.0
        assert K.median_distance(x) == pytest.approx(expected, rel=1e-11)
    spread[0] = math.nan  # its distances are no numbers, and left out
    pairs = np.sort(pdist(spread[1:]))
    if len(pairs):
        assert K.median_distance(spread) == pytest.approx(pairs[(len(pairs) - 1) // 2], rel=1e-11)


def test_large_samples_use_evenly_strided_rows():
    x = torch.randn(10_000, 2, generator=torch.Generator().manual_seed(0))
    assert K.median_distance(x) == K.median_distance(x[::10])


def test_a_batch_of_problems_has_a_median_each():
    x = torch.randn(3, 20, 2, generator=torch.Generator().manual_seed(0))
    bandwidth = K.Gaussian("median").resolved(x).bandwidth
    assert bandwidth.shape == (3, 1, 1)
    assert bandwidth[1].item() == pytest.approx(K.median_distance(x[1]), rel=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: K.Gaussian(0.0), "bandwidth must be positive"),
        (lambda: K.Gaussian((1.0, -1.0)), "bandwidth must be positive"),
        (lambda: K.Gaussian("mean"), "bandwidth must be positive"),
        (lambda: K.Laplace(float("nan")), "bandwidth must be positive"),
        (lambda: K.InverseMultiquadric(-1.0), "scale must be positive"),
        (lambda: K.RationalQuadratic(1.0, 0.0), "alpha must be positive"),
        (lambda: K.Polynomial(0), "degree must be a positive integer"),
        (lambda: K.Polynomial(2, -1.0), "c must be non-negative"),
        (lambda: K.DistanceInduced(2.0), r"order must lie in \(0, 2\)"),
        (lambda: 0.0 * K.Gaussian(1.0), "factor must be positive"),
        (lambda: K.Gaussian()(np.zeros((2, 1)), np.zeros((2, 1))), "call .resolved"),
        (lambda: K.Gaussian(1.0)(np.zeros((2, 1)), np.zeros((2, 2))), r"got \(2, 1\) and \(2, 2\)"),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
