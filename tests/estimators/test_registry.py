"""Names, specifications and the one-call estimate."""

import json
import re

import numpy as np
import pytest
import torch
from scipy import stats

import divergences as dv
import estimators as est
from divergences import kernels
from divergences._spec import from_spec, to_spec
from estimators import registry
from estimators.space import Space

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(120, 2)), RNG.normal(0.7, 1, size=(90, 2))

OBJECTS = [est.as_estimator(name) for name in est.names()] + [
    est.MMD(kernels.Gaussian([0.5, 2.0]) + 2.0 * kernels.Laplace(1.0)),
    est.MMD(statistic="biased", squared=False),
    est.Sinkhorn(order=1, blur=0.1, debiased=False),
    est.KantorovichRubinstein(constraint=est.WeightClipping(0.1)),
    est.Variational(dv.Alpha(0.3), constraint=est.R1(2.0)),
    est.DonskerVaradhan(constraint=est.R1(2.0)),
    est.InfoNCE(negatives=31),
]


@pytest.mark.parametrize("estimator", OBJECTS, ids=repr)
def test_an_estimator_is_rebuilt_from_its_specification(estimator):
    again = from_spec(json.loads(json.dumps(to_spec(estimator))))
    assert type(again) is type(estimator)
    assert to_spec(again) == to_spec(estimator)


def test_a_specification_names_nothing_outside_the_library():
    for name in ("os.system", "subprocess.run", "divergences._spec.Specified._x", "builtins.eval"):
        with pytest.raises(ValueError, match="not a public name of this library"):
            from_spec({"object": name, "arguments": {}})
    with pytest.raises(TypeError, match="cannot be stored by name and arguments"):
        to_spec(torch.nn.Linear(1, 1))


@pytest.mark.parametrize("name", est.names())
def test_every_name_estimates(name):
    found = est.estimate(X, Y, name, seed=0)
    assert isinstance(found, est.Estimate) and np.isfinite(found.value)
    assert (found.n, found.m) == (120, 90)
    assert found.interval is None or found.interval[0] <= found.interval[1]
    assert found.interval is not None or found.notes
    json.dumps(found.to_dict(), allow_nan=False)


def test_auto_says_what_it_chose_and_what_else_there_is():
    found = est.estimate(X, Y, "kl", seed=0)
    assert any("chosen among" in note for note in found.notes)
    also = "ratio, knn, histogram, kde, gaussian, variational, donsker_varadhan, infonce"
    assert found.notes[-1] == f"method 'auto'; also: {also}"
    assert est.estimate(X, Y, "kl", method="variational", seed=0).bound == "lower"
    assert est.estimate(X, Y, "wasserstein", seed=0).notes[-1].startswith("method 'auto'; also: emd, ")


@pytest.mark.parametrize("method", ["auto", "ratio", "knn", "histogram"])
@pytest.mark.parametrize(
    "divergence",
    ["kl", "js", "hellinger", "bhattacharyya", dv.get("alpha", alpha=0.3), dv.get("renyi", alpha=0.7)],
    ids=str,
)
def test_every_method_takes_names_and_objects(divergence, method):
    g = np.random.default_rng(1)
    x, y = g.normal(size=(400, 1)), g.normal(0.8, 1, size=(400, 1))
    found = est.estimate(x, y, divergence, method=method, seed=0)
    law = divergence if callable(divergence) else dv.get(divergence)
    truth = law(stats.norm(), stats.norm(0.8))
    assert found.value == pytest.approx(truth, rel=0.5)
    assert found.notes[-1].startswith(f"method '{method}'")


def test_unknown_names_and_methods_are_refused():
    with pytest.raises(ValueError, match=r"unknown divergence 'mdm'; did you mean 'mmd'"):
        est.estimate(X, Y, "mdm")
    with pytest.raises(ValueError, match=r"method must be one of auto, ratio, .*infonce for kl: got 'bogus'"):
        est.estimate(X, Y, "kl", method="bogus")
    with pytest.raises(ValueError, match=r"method must be one of auto, emd, .*critic for wasserstein: got 'knn'"):
        est.estimate(X, Y, "wasserstein", method="knn")
    with pytest.raises(TypeError, match="'renyi' needs its parameter alpha"):
        est.estimate(X, Y, "renyi")
    with pytest.raises(TypeError, match="alpha must be a number: got 'x'"):
        est.estimate(X, Y, "renyi", alpha="x")
    with pytest.raises(ValueError, match="no estimator of the divergence 'kolmogorov_smirnov'"):
        est.estimate(X, Y, "kolmogorov_smirnov")
    with pytest.raises(TypeError, match="divergence must be a name, an FDivergence or an Estimator: got int"):
        est.as_estimator(3)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("KL", "'kl'"),
        ("Energy_Distance", "'energy_distance'"),
        ("tv", "'total_variation'"),
        ("TV", "'total_variation'"),
        ("fid", "'frechet'"),
        ("energy", "'energy_distance'"),
        ("jensen-shannon", "'js'"),
        ("Jensen Shannon", "'js'"),
        ("chi-squared", "'pearson_chi2'"),
        ("sliced", "'sliced_wasserstein'"),
        ("w1", "'wasserstein'"),
        ("w2", "'wasserstein', order=2"),
        ("EMD", "'emd'"),
        ("ks", "est.two_sample_test(x, y, 'kolmogorov_smirnov')"),
        ("kolmogorov_smirnov", "est.two_sample_test(x, y, 'kolmogorov_smirnov')"),
        ("precision_recall", "est.precision_recall(x, y)"),
    ],
)
def test_names_that_people_type_are_hinted_at_and_not_taken(typed, meant):
    for call in (est.as_estimator, lambda name: est.estimate(X, Y, name)):
        with pytest.raises(ValueError, match=re.escape(f"divergence {typed!r}; did you mean {meant}? Known names: kl")):
            call(typed)


def test_every_hint_is_a_call_that_works():
    given = {"est": est, "x": X, "y": Y}
    for meant in sorted(set(registry._MEANT.values())):
        call = meant if meant.startswith("est.") else f"est.estimate(x, y, {meant})"
        assert eval(call, given) is not None, meant


def test_a_space_survives_json_and_refuses_other_shapes():
    space = Space.of(torch.as_tensor(X))
    assert Space.from_dict(json.loads(json.dumps(space.to_dict()))) == space
    with pytest.raises(ValueError, match=r"data must have points of shape \(2,\): got an array of shape \(5, 3\)"):
        space.flat(torch.zeros(5, 3))
    constant = Space.of(torch.ones(4, 2))
    assert constant.scale == (1.0, 1.0)
