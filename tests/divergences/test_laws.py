"""Every registered divergence runs through every law that applies to it, 200 examples each; a new row inherits them."""

import math

import pytest

import divergences as dv
from divergences import kernels as K
from divergences import testing
from tests.cases import MORE, ROWS

EXAMPLES = 200
OF_ANY_ROW = (
    "data_processing", "joint_convexity", "permutation_invariance", "sufficiency", "continuity", "reversal",
    "fenchel_young", "variational_bound",
)  # fmt: skip


def laws_of_row(d):
    """The laws that a row's own claims promise."""
    promised = list(OF_ANY_ROW)
    proper = d.name != "gan"  # shifted by a constant: not 0 at P = Q
    if proper:
        strict = d.name != "hockey_stick" or d.arguments["gamma"] == 1
        promised += ["non_negativity", "identity" if strict else "zero_at_equality"]
    if d.is_symmetric:
        promised.append("symmetry")
    if math.isfinite(d.upper_bound):
        promised.append("bounded")
    if math.isfinite(d.f_at_zero):
        promised.append("finite_where_dominated")
    if d.slope_at_infinity == math.inf:
        promised.append("infinite_where_not_dominated")
    if d == dv.KL() or d == dv.ReverseKL() or d == dv.Jeffreys():
        promised.append("additivity")
    if d.name != "pearson_chi2":  # it trains with the extended conjugate
        promised.append("composition")
    return promised


def companions(d, law):
    return {"bounded": {"upper_bound": getattr(d, "upper_bound", None)}, "reversal": {"reverse": d}}.get(law, {})


REGISTERED = [dv.get(name, **parameters) for name, parameters in [*ROWS.items(), *MORE]]
USER = dv.FDivergence.from_f(lambda u: u**1.5 - 1.5 * u + 0.5, name="mine")
ROW_LAWS = [(d, law) for d in [*REGISTERED, USER] for law in laws_of_row(d)]

ORDERS = [0.0, 0.3, 1.0, 2.0, math.inf]
OTHERS = [
    *[(dv.get("renyi", alpha=a), law)
      for a in ORDERS
      for law in ("non_negativity", "data_processing", "permutation_invariance", "sufficiency", "additivity",
                  "identity" if a else "zero_at_equality", *(["joint_convexity"] if a <= 1 else []))],
    *[(dv.get("bhattacharyya"), law)
      for law in ("identity", "non_negativity", "data_processing", "joint_convexity", "permutation_invariance",
                  "sufficiency", "additivity", "symmetry")],
    *[(dv.get("hellinger"), law)
      for law in ("identity", "non_negativity", "data_processing", "permutation_invariance", "sufficiency", "symmetry",
                  "bounded", "triangle_inequality")],
    *[(dv.get("kolmogorov_smirnov"), law)
      for law in ("identity", "non_negativity", "joint_convexity", "symmetry", "bounded", "triangle_inequality",
                  "ks_tv")],
]  # fmt: skip
INEQUALITIES = [
    (dv.kl, "pinsker"), (dv.kl, "bretagnolle_huber"), (dv.js, "js_bound"), (dv.js, "gan_chain"),
    (dv.squared_hellinger, "le_cam"), (dv.renyi, "monotone_in_order"),
]  # fmt: skip


def named(value):
    return getattr(value, "__name__", None) or repr(value)


def pairs(rows):
    return pytest.mark.parametrize(("d", "law"), rows, ids=[f"{named(d)}-{law}" for d, law in rows])


def test_every_registered_name_is_here():
    covered = {d.name for d, _ in [*ROW_LAWS, *OTHERS]} | {"wasserstein", "mmd", "energy_distance"}
    assert set(dv.names()) <= covered
    assert len(ROW_LAWS) + len(OTHERS) + len(INEQUALITIES) >= 150


@pairs(ROW_LAWS)
def test_rows(d, law):
    given = (
        {"upper_bound": d.upper_bound} if law == "bounded" else {"reverse": d.reversed()} if law == "reversal" else {}
    )
    testing.check_divergence(d, [law], EXAMPLES, **given)


@pairs(OTHERS)
def test_others_on_vectors(d, law):
    given = {"upper_bound": d.upper_bound} if law == "bounded" else {}
    metric = law == "triangle_inequality" or d.name == "hellinger"
    (testing.check_metric if metric else testing.check_divergence)(d, [law], EXAMPLES, **given)


@pairs(INEQUALITIES)
def test_inequalities(d, law):
    testing.check_divergence(d, [law], EXAMPLES)


ROOTS = {
    "total_variation": dv.total_variation,
    "hellinger": dv.hellinger,
    "root_js": lambda p, q: math.sqrt(dv.js(p, q)),
    "root_le_cam": lambda p, q: math.sqrt(dv.le_cam(p, q)),
    "root_jeffreys_is_none": None,
    "kolmogorov_smirnov": dv.kolmogorov_smirnov,
}


@pytest.mark.parametrize("name", [name for name, root in ROOTS.items() if root])
def test_metrics_on_vectors(name):
    testing.check_metric(ROOTS[name], examples=EXAMPLES)


def test_the_root_of_jeffreys_is_no_metric():
    with pytest.raises(testing.LawViolation, match="triangle_inequality"):
        testing.check_metric(lambda p, q: math.sqrt(dv.jeffreys(p, q)), ["triangle_inequality"], zeros=False)


@pytest.mark.parametrize(
    ("function", "law"),
    [
        (dv.hellinger, "joint_convexity"),
        (lambda p, q: math.sqrt(dv.js(p, q)), "joint_convexity"),
        (dv.get("renyi", alpha=3.0), "joint_convexity"),
        (dv.kl, "symmetry"),
        (dv.chi2, "additivity"),
    ],
    ids=["hellinger", "root_js", "renyi-3", "kl", "chi2"],
)
def test_what_is_known_to_fail_fails(function, law):
    with pytest.raises(testing.LawViolation, match=law):
        testing.check_divergence(function, [law], 1000)


def of_points(function, **options):
    def on_clouds(x, y, x_weights=None, y_weights=None):
        return function(dv.Empirical(x, x_weights), dv.Empirical(y, y_weights), **options)

    return on_clouds


TRANSPORT = {f"w{order}": of_points(dv.wasserstein, order=order) for order in (1, 2, 3)}
TRANSPORT["w1_cityblock"] = of_points(dv.wasserstein, metric="cityblock")
METRICS = TRANSPORT | {
    "root_energy": of_points(dv.energy_distance, squared=False),
    "root_mmd_gaussian": of_points(dv.mmd, kernel=K.Gaussian(1.0), squared=False),
    "root_mmd_laplace": of_points(dv.mmd, kernel=K.Laplace(0.7), squared=False),
}
METRIC_LAWS = ("zero_at_equality", "non_negativity", "symmetry", "triangle_inequality")


@pytest.mark.parametrize("law", [*METRIC_LAWS, "order_of_points", "translation_invariance", "weights_are_repetition"])
@pytest.mark.parametrize("name", METRICS)
def test_distances_of_points(name, law):
    testing.check_metric(METRICS[name], [law], EXAMPLES, on="point_clouds", atol=1e-6)


@pytest.mark.parametrize("name", TRANSPORT)
def test_wasserstein_scales(name):
    testing.check_divergence(TRANSPORT[name], ["scaling"], EXAMPLES, on="point_clouds")
    if name != "w1_cityblock":
        testing.check_divergence(TRANSPORT[name], ["translation"], EXAMPLES, on="point_clouds", atol=1e-7)


def test_the_energy_distance_scales():
    energy = of_points(dv.energy_distance)
    testing.check_divergence(energy, ["scaling"], EXAMPLES, on="point_clouds", degree=1)


@pytest.mark.parametrize("law", ["w1_dual", "w1_le_w2"])
def test_transport_inequalities(law):
    def of_order(x, y, order=1):
        return dv.wasserstein(dv.Empirical(x), dv.Empirical(y), order=order)

    testing.check_divergence(of_order, [law], EXAMPLES, on="point_clouds")


KERNELS = [
    K.Gaussian(1.5), K.Gaussian((0.5, 1.0, 2.0)), K.Laplace(0.7), K.InverseMultiquadric(2.0),
    K.RationalQuadratic(1.3, 0.5), K.Polynomial(3, 1.0), K.DistanceInduced(), K.DistanceInduced(1.5),
    K.Gaussian(1.0) + K.Laplace(2.0), K.Gaussian(1.0) * K.Polynomial(2, 1.0), 2.0 * K.Gaussian(0.5),
]  # fmt: skip


@pytest.mark.parametrize("law", ["positive_definite", "mmd_non_negative"])
@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_kernels(kernel, law):
    testing.check_divergence(kernel, [law], EXAMPLES, on="kernels")


ON_GAUSSIANS = {
    "kl": (dv.kl, ("identity", "non_negativity")),
    "renyi_2": (dv.get("renyi", alpha=2.0), ("identity", "non_negativity")),
    "bhattacharyya": (dv.bhattacharyya, ("identity", "non_negativity", "symmetry")),
    "hellinger": (dv.hellinger, ("non_negativity", "symmetry", "triangle_inequality")),
    "w2": (dv.get("wasserstein", order=2), ("zero_at_equality", "non_negativity", "symmetry", "triangle_inequality")),
    "energy_distance": (dv.energy_distance, ("identity", "non_negativity", "symmetry")),
}


@pytest.mark.parametrize(
    ("name", "law"), [(name, law) for name, (_, promised) in ON_GAUSSIANS.items() for law in promised]
)
def test_gaussians(name, law):
    testing.check_metric(ON_GAUSSIANS[name][0], [law], EXAMPLES, on="gaussians")
