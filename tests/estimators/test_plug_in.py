"""What `Histogram`, `KernelDensity` and `GaussianPlugIn` share: laws, arguments, refusals."""

import numpy as np
import pytest
import torch

import divergences as dv
import estimators as est
from divergences import testing
from divergences._spec import from_spec, to_spec

LAWS = (
    "order_of_points",
    "batch_is_loop",
    "same_kind",
    "no_side_effects",
    "float32",
    "half_precision",
    "equal_weights",
)
# Rates are tried in test_estimator_laws.py. A kernel estimate has no law of repetition, as copies have no density.
ALL = {
    "histogram": (est.Histogram("js"), ("complete_estimate",)),
    "histogram_edges": (est.Histogram("hellinger", bins=(-1.0, 0.0, 1.0)), ("complete_estimate",)),
    "density": (est.KernelDensity("js"), ("translation_invariance", "scaling")),
    "density_fixed": (est.KernelDensity("kl", 0.5), ("translation_invariance",)),
    "gaussian": (est.GaussianPlugIn("kl"), ("translation_invariance", "scaling", "complete_estimate")),
}


@pytest.mark.parametrize("name", ALL)
def test_laws(name):
    estimator, laws = ALL[name]
    d = 1 if name == "histogram_edges" else (1, 2)
    testing.check_estimator(estimator, laws=[*LAWS, *laws], examples=5, n=(12, 24), d=d, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("estimator", [e for e, _ in ALL.values()], ids=ALL)
def test_the_arguments_rebuild_it_and_gradients_are_refused(estimator):
    assert repr(from_spec(to_spec(estimator))) == repr(estimator)
    x = torch.randn(20, 1, requires_grad=True)
    with pytest.raises(TypeError, match="has no gradient: detach"):
        estimator(x, x)


FAULTS = {
    "bins": (lambda: est.Histogram(bins="fine"), ValueError, 'bins must be "auto"'),
    "bins_0": (lambda: est.Histogram(bins=0), ValueError, "bins must be"),
    "edges": (lambda: est.Histogram(bins=[1.0, 0.0]), ValueError, "bins must be finite and increasing"),
    "smoothing": (lambda: est.Histogram(smoothing=-1), ValueError, "smoothing must be"),
    "bandwidth": (lambda: est.KernelDensity(bandwidth=0), ValueError, "bandwidth must be .* got 0"),
    "bandwidth_name": (lambda: est.KernelDensity(bandwidth="scott"), ValueError, "got 'scott'"),
    "wasserstein": (lambda: est.Histogram("wasserstein"), NotImplementedError, "Histogram estimates f-divergences"),
    "mmd": (
        lambda: est.GaussianPlugIn(dv.get("mmd", kernel=dv.kernels.Gaussian(1.0))),
        NotImplementedError, "no closed form of mmd",
    ),
    "object": (lambda: est.KernelDensity(None), TypeError, "divergence must be a name"),
    "dimensions": (
        lambda: est.Histogram()(*np.random.default_rng(0).normal(size=(2, 30, 4))),
        ValueError, "at most 3 dimensions: got 4; use est.NearestNeighbor",
    ),
    "axes": (lambda: est.Histogram(bins=[0.0, 1.0])(np.eye(9)[:, :2], np.eye(9)[:, :2]), ValueError, "each of 2 axes"),
    "few": (
        lambda: est.GaussianPlugIn()(*np.random.default_rng(0).normal(size=(2, 6, 3))),
        ValueError, "x needs at least 7 points in 3 dimensions: got 6",
    ),
    "js_in_two": (
        lambda: est.GaussianPlugIn("js")(*np.random.default_rng(0).normal(size=(2, 30, 2))),
        NotImplementedError, "no exact value of js",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_refused_by_name(name):
    call, error, message = FAULTS[name]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("estimator", [est.KernelDensity("js"), est.GaussianPlugIn("kl")], ids=["density", "gaussian"])
def test_discrete_and_dependent_columns_are_refused(estimator):
    g = np.random.default_rng(13)
    x = g.normal(size=(60, 2))
    with pytest.raises(ValueError, match=r"repeats 95% of its points: .*est\.Histogram"):
        estimator.estimate(np.arange(60)[:, None] % 3, np.arange(60)[:, None] % 3)
    with pytest.raises(ValueError, match="column 1 of y has 2 distinct values in 60 points"):
        estimator.estimate(x, np.stack([x[:, 0], x[:, 1] > 0], 1).astype(float))
    with pytest.raises(ValueError, match="x has a singular covariance"):
        estimator.estimate(np.stack([x[:, 0], 2 * x[:, 0]], 1), x)
    with pytest.raises(ValueError, match=r"needs at least"):
        estimator.estimate(x[:3], x)
