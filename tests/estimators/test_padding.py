"""A point of weight 0 is no point: ragged batches are padded, and value and gradients do not notice."""

import numpy as np
import pytest
import torch

import estimators as est

ESTIMATORS = {
    "emd": est.EMD(1),
    "emd_2": est.EMD(2, rooted=False),
    "emd_cityblock": est.EMD(1, "cityblock"),
    "sinkhorn": est.Sinkhorn(blur=0.5),
    "sinkhorn_1": est.Sinkhorn(1, blur=0.2),
    "sinkhorn_auto": est.Sinkhorn(),
    "sinkhorn_auto_cityblock": est.Sinkhorn(1, metric="cityblock"),
    "sinkhorn_reach": est.Sinkhorn(blur=0.5, reach=1.0),
    "sinkhorn_biased": est.Sinkhorn(blur=0.5, debiased=False),
    "sliced": est.SlicedWasserstein(2, projections=20),
    "sliced_1": est.SlicedWasserstein(1, projections=20),
    "max_sliced": est.MaxSlicedWasserstein(projections=20, steps=10),
    "affine": est.AffineWasserstein(),
}


def value_and_gradients(estimator, x, y, a, b):
    leaves = [torch.from_numpy(v).requires_grad_() for v in (x, y, a, b)]
    value = estimator(*leaves)
    return value.detach(), torch.autograd.grad(value.sum(), leaves)


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_padded_is_unpadded(name, d):
    g = np.random.default_rng(5)
    x, y = g.normal(size=(12, d)), g.normal(size=(9, d)) + 0.7
    a, b = g.dirichlet(np.ones(12)), g.dirichlet(np.ones(9))
    far = np.full((4, d), 50.0)
    padded_x, padded_a = np.concatenate([x, far]), np.concatenate([a, np.zeros(4)])
    padded_y, padded_b = np.concatenate([y, far[:3]]), np.concatenate([b, np.zeros(3)])
    value, (gx, gy, ga, gb) = value_and_gradients(ESTIMATORS[name], x, y, a, b)
    padded, (px, py, pa, pb) = value_and_gradients(ESTIMATORS[name], padded_x, padded_y, padded_a, padded_b)
    limit = 1e-4 if "sinkhorn" in name else 1e-9  # the value is solved as far as training needs
    torch.testing.assert_close(padded, value, rtol=limit, atol=limit)
    loose = 5e-3 if "sinkhorn" in name else 1e-7
    for p, plain, n in ((px, gx, 12), (py, gy, 9)):
        torch.testing.assert_close(p[:n], plain, rtol=loose, atol=loose)
        assert float(p[n:].abs().max()) <= 1e-200  # underflow aside
    for p, plain, n in ((pa, ga, 12), (pb, gb, 9)):
        centred, plain = p[:n] - p[:n].mean(), plain - plain.mean()  # weights on the simplex do not feel a constant
        torch.testing.assert_close(centred, plain, rtol=loose, atol=10 * loose)
        assert bool(torch.isfinite(p).all())


@pytest.mark.parametrize("name", ["emd", "sinkhorn", "sliced", "affine"])
def test_a_ragged_batch_is_its_problems(name):
    g = np.random.default_rng(6)
    sizes = [(8, 6), (5, 9), (9, 9)]
    problems = [(g.normal(size=(n, 2)), g.normal(size=(m, 2)) + 1.0) for n, m in sizes]
    x, y, a, b = np.zeros((3, 9, 2)), np.zeros((3, 9, 2)), np.zeros((3, 9)), np.zeros((3, 9))
    for k, ((n, m), (p, q)) in enumerate(zip(sizes, problems, strict=True)):
        x[k, :n], y[k, :m], a[k, :n], b[k, :m] = p, q, 1 / n, 1 / m
    found = ESTIMATORS[name](x, y, a, b)
    expected = [ESTIMATORS[name](p, q) for p, q in problems]
    np.testing.assert_allclose(found, expected, rtol=1e-3 if name == "sinkhorn" else 1e-9)
