"""`divergences.testing`: strategies keep their promises, checks report clearly, and every planted defect is caught."""

import doctest
import math
import pickle
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, find, given, seed, settings
from hypothesis import strategies as st

import divergences as dv
from benchmarks import defects as page
from benchmarks.pages import made
from divergences import testing
from divergences.testing import LawViolation, check_divergence, check_estimator, check_metric
from tests.divergences.correct import CORRECT, Mean, js, kl, total_variation
from tests.divergences.defects import DEFECTS

ROOT = Path(__file__).parent.parent.parent
PROMISES = settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def drawn(strategy, examples=400):
    """The same examples of a strategy at every run."""
    found = []

    @seed(0)
    @settings(PROMISES, max_examples=examples)
    @given(strategy)
    def collect(example):
        found.append(example)

    collect()
    return found


def smallest(strategy, condition):
    return find(strategy, condition, settings=PROMISES, random=random.Random(0))


def is_distribution(p, least=1e-9, zeros=True):
    assert p.dtype == np.float64 and p.ndim == 1
    assert abs(math.fsum(p) - 1) <= 2**-52
    assert ((p >= least) | ((p == 0) & zeros)).all()


@pytest.mark.parametrize(
    ("n", "options"),
    [(1, {}), (2, {"least": 0.5}), (4, {"zeros": False}), ((2, 6), {}), ((3, 9), {"least": 1e-3}), (3, {"least": 0.3})],
)
def test_vectors_are_distributions(n, options):
    low, high = (n, n) if isinstance(n, int) else n
    for strategy in (testing.probability_vectors, testing.pairs, testing.dominated_pairs):
        for example in drawn(strategy(n, **options), 100):
            for p in example if isinstance(example, tuple) else (example,):
                assert low <= len(p) <= high
                is_distribution(p, **options)


def test_pairs_are_often_special():
    found = Counter()
    for p, q in drawn(testing.pairs((2, 5))):
        tv = total_variation(p, q)
        assert tv == 0 or tv >= 2.5e-13
        inside, other = set(np.flatnonzero(p)), set(np.flatnonzero(q))
        found["equal"] += tv == 0
        found["near"] += 0 < tv <= 0.01
        found["very near"] += 0 < tv <= 1e-6
        found["disjoint"] += not inside & other
        found["q nested"] += other < inside
        found["p nested"] += inside < other
        found["uneven"] += 1e-9 in (p.min(), q.min())
        found["generic"] += inside == other and tv > 0.01
        found["permuted"] += tv > 0 and sorted(p) == sorted(q)
    assert min(found.values()) >= 16, found


def test_dominated_pairs_are_dominated():
    pairs = drawn(testing.dominated_pairs((2, 5)))
    assert all((q[p > 0] > 0).all() for p, q in pairs)
    assert sum(bool((p[q > 0] == 0).any()) for p, q in pairs) >= 40
    assert sum(bool((p != q).any()) for p, q in pairs) >= 200


def test_examples_shrink_to_short_simple_vectors():
    assert smallest(testing.probability_vectors((1, 6)), lambda p: len(p) > 1).tolist() == [0.5, 0.5]
    p, q = smallest(testing.pairs((2, 6)), lambda pair: (pair[0] * pair[1]).sum() == 0)
    assert sorted(p) == sorted(q) == [0, 1]
    p, q = smallest(testing.pairs((2, 6)), lambda pair: 0 < total_variation(*pair) < 1e-3)
    assert len(p) == 2 and p.tolist() == [0.5, 0.5]
    assert smallest(testing.point_clouds((1, 6), (1, 3)), lambda x: x.sum() > 0).tolist() == [[1.0]]
    assert smallest(testing.markov_kernels(2, (1, 3)), lambda K: True).tolist() == [[1.0], [1.0]]
    law = smallest(testing.gaussians((1, 3)), lambda law: True)
    assert law.mean.tolist() == [0.0] and law.scale_tril.tolist() == [[1.0]]


def test_markov_kernels():
    found = Counter()
    for K in drawn(testing.markov_kernels((1, 4), (1, 4))):
        n, m = K.shape
        assert 1 <= n <= 4 and 1 <= m <= 4 and K.dtype == np.float64
        assert np.abs(K.sum(1) - 1).max() <= 2**-52 and ((K == 0) | (K >= 2**-4)).all()
        deterministic = bool((K.max(1) == 1).all())
        found["lumping"] += deterministic and m > 1 and bool((K.sum(0) > 1).any())
        found["permutation"] += deterministic and n == m > 1 and bool((K.sum(0) == 1).all())
        found["noisy"] += not deterministic
    assert min(found.values()) >= 10, found
    assert all((K > 0).all() for K in drawn(testing.markov_kernels(3, 3, zeros=False), 50))


def test_gaussians_are_well_conditioned_and_varied():
    laws = drawn(testing.gaussians(3), 200)
    conditions = [float(torch.linalg.cond(law.covariance_matrix)) for law in laws]
    assert all(law.mean.dtype == law.scale_tril.dtype == torch.float64 for law in laws)
    assert max(conditions) < 1e6 and np.median(conditions) > 10 and min(conditions) < 2
    assert sum(float(law.covariance_matrix[0, 1]) != 0 for law in laws) > 50
    assert {law.event_shape[0] for law in drawn(testing.gaussians((1, 3)), 100)} == {1, 2, 3}


def test_point_clouds():
    clouds = drawn(testing.point_clouds((2, 5), (1, 3)))
    assert all(x.dtype == np.float64 and 2 <= len(x) <= 5 and 1 <= x.shape[1] <= 3 for x in clouds)
    repeated = [len(np.unique(x, axis=0)) < len(x) for x in clouds]
    assert 0.1 < np.mean(repeated) < 0.9
    apart = drawn(testing.point_clouds(16, (1, 2), duplicates=False), 50)
    assert all(len(np.unique(x, axis=0)) == 16 for x in apart)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: testing.probability_vectors(0), ValueError, "n must be at least 1"),
        (lambda: testing.probability_vectors((3, 2)), ValueError, r"n must be .* got \(3, 2\)"),
        (lambda: testing.probability_vectors("3"), TypeError, "n must be an integer or"),
        (lambda: testing.probability_vectors(2.0), TypeError, "n must be an integer or"),
        (lambda: testing.probability_vectors(4, least=0.3), ValueError, r"least must lie in \(0, 1/4\]"),
        (lambda: testing.probability_vectors(4, least="a"), TypeError, "least must be a number"),
        (lambda: testing.pairs(4, zeros=1), TypeError, "zeros must be True or False"),
        (lambda: testing.pairs(4, nearest=1.0), ValueError, "nearest must lie in"),
        (lambda: testing.dominated_pairs(4, least=0.0), ValueError, "least must lie in"),
        (lambda: testing.markov_kernels(2, (0, 2)), ValueError, "m must be at least 1"),
        (lambda: testing.gaussians(None), TypeError, "d must be an integer"),
        (lambda: testing.point_clouds(17, duplicates=False), ValueError, "n must be at most 16"),
        (lambda: check_divergence(3), TypeError, "a function is needed: got int"),
        (lambda: check_divergence("nothing"), ValueError, "unknown divergence 'nothing'"),
        (lambda: check_divergence(kl, "identty"), ValueError, "unknown law 'identty': choose from identity"),
        (lambda: check_divergence(kl, []), ValueError, "laws must be 'all' or"),
        (lambda: check_divergence(kl, ["bounded"]), TypeError, "bounded needs upper_bound="),
        (lambda: check_divergence(kl, ["reversal"]), TypeError, "reversal needs reverse="),
        (lambda: check_divergence(kl, ["symmetry"], reverse=kl), TypeError, "reverse= is of no use to symmetry"),
        (lambda: check_divergence(kl, degree=2.0), TypeError, "degree= is of no use to identity"),
        (lambda: check_divergence(kl, ["fenchel_young"]), TypeError, "fenchel_young needs an object with a method f"),
        (lambda: check_divergence(lambda p, q, a: 0), TypeError, r"identity calls fn\(p, q\).*missing.*'a'"),
        (lambda: check_divergence(kl, ["monotone_in_order"]), TypeError, r"calls fn\(p, q, order\), and kl cannot"),
        (lambda: check_divergence(kl, ["data_processing", "scaling"]), ValueError, "about different arguments"),
        (lambda: check_divergence(kl, on="laws"), ValueError, "on must be one of vectors"),
        (lambda: check_divergence(kl, examples=0), ValueError, "examples must be a positive integer"),
        (lambda: check_divergence(kl, atol=-1.0), ValueError, "atol must be non-negative"),
        (lambda: check_metric(kl, n="4"), TypeError, "n must be an integer"),
        (lambda: check_estimator(Mean(), kind="jax"), ValueError, 'kind must be "torch" or "numpy"'),
        (lambda: check_estimator(Mean(), ["bound_holds"]), TypeError, "bound_holds needs truth="),
        (lambda: check_estimator(kl, ["complete_estimate"]), TypeError, "needs an object with a method estimate"),
    ],
)
def test_wrong_arguments_are_one_clear_line(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def violation_of(fn, *args, check=check_divergence, **options):
    with pytest.raises(LawViolation) as caught:
        check(fn, *args, **options)
    return caught.value


def euclidean(p, q):
    return np.linalg.norm(p - q)


def test_a_violation_tells_everything():
    violation = violation_of(euclidean)
    assert str(violation).splitlines() == [
        "data_processing: D(PK, QK) ≤ D(P, Q) for every Markov kernel K",
        *[f"  {name} = np.array({violation.example[name].tolist()})" for name in "pqK"],
        f"  left:  D(p @ K, q @ K) = {violation.left:.9g}",
        f"  right: D(p, q) = {violation.right:.9g}; left ≤ right is needed, tolerance 2.4e-10",
        "  passed: identity, non_negativity, joint_convexity, permutation_invariance",
    ]
    assert isinstance(violation, AssertionError) and violation.law == "data_processing"
    p, q, K = (violation.example[name] for name in "pqK")
    assert euclidean(p @ K, q @ K) == violation.left > violation.right == euclidean(p, q)
    assert len(p) == 3 and violation.failed == (violation,)
    again = pickle.loads(pickle.dumps(violation))
    assert str(again) == str(violation) and again.law == violation.law and again.failed == (again,)


def test_all_laws_run_and_the_first_is_raised():
    violation = violation_of(lambda p, q: -kl(p, q), ["symmetry", "non_negativity", "permutation_invariance"])
    assert [each.law for each in violation.failed] == ["symmetry", "non_negativity"]
    assert "also failed: non_negativity\n  passed: permutation_invariance" in str(violation)


def raising(p, q):
    raise ZeroDivisionError("nothing\nto see")


@pytest.mark.parametrize(
    ("fn", "said"),
    [
        (raising, "D(p, p) raised ZeroDivisionError: nothing"),
        (lambda p, q: np.float64("nan"), "D(p, p) returned NaN"),
        (lambda p, q: "0", "D(p, p) returned str '0': a number is needed"),
        (lambda p, q: None, "D(p, p) returned NoneType None"),
        (lambda p, q: True, "D(p, p) returned bool True"),
        (lambda p, q: 0j, "D(p, p) returned complex 0j"),
        (lambda p, q: p - q, "D(p, p) returned ndarray of shape (2,) and dtype float64"),
        (lambda p, q: torch.zeros(1), "D(p, p) returned Tensor of shape (1,)"),
        (lambda p, q: p.sort() or q.__setitem__(0, 0.25) or 0.0, "D(p, p) wrote to its input: np.array([0.5, 0.5])"),
    ],
    ids=["raises", "nan", "str", "none", "bool", "complex", "vector", "tensor", "writes"],
)
def test_what_is_no_value_is_reported_like_a_law(fn, said):
    violation = violation_of(fn, ["identity"])
    assert str(violation).startswith("identity: D(P, P) = 0") and said in str(violation)
    assert violation.example["p"].tolist() == [0.5, 0.5] and violation.left is None
    assert isinstance(violation.__cause__, ZeroDivisionError) == (fn is raising)


@pytest.mark.parametrize(
    "kind",
    [float, np.float64, np.float32, np.asarray, torch.tensor, lambda v: torch.tensor(v, requires_grad=True)],
    ids=["float", "float64", "float32", "array", "tensor", "gradient"],
)
def test_numbers_of_every_kind_are_values(kind):
    check_divergence(lambda p, q: kind(float(total_variation(p, q))), examples=20)


def test_infinity_is_a_value_and_is_never_subtracted():
    check_divergence(lambda p, q: 0 if np.array_equal(p, q) else math.inf, examples=100)
    assert violation_of(lambda p, q: math.inf, ["identity"]).left == math.inf


def test_a_near_pair_may_underflow_but_not_far_ones():
    check_divergence(lambda p, q: max(0.0, total_variation(p, q) - 9e-7) ** 2, ["identity"])
    assert violation_of(lambda p, q: max(0.0, total_variation(p, q) - 1e-4), ["identity"]).law == "identity"


def test_a_random_function_is_said_to_be_random():
    calls = iter(range(10**9))
    violation = violation_of(lambda p, q: float(next(calls) == 500), ["non_negativity", "zero_at_equality"])
    assert violation.law == "zero_at_equality" and "the function is random" in str(violation)


def test_names_and_objects_are_functions():
    check_divergence("kl", ["pinsker", "fenchel-young"], examples=20)
    check_divergence(dv.kernels.Gaussian(1.0), on="kernels", examples=10)
    check_metric(dv.hellinger, on="gaussians", examples=10, d=2)
    check_divergence(dv.JensenShannon(), examples=10, upper_bound=math.log(2))
    assert violation_of("kl", ["symmetry"], check=check_metric).law == "symmetry"


SCRIPT = """
import os, sys, numpy as np, divergences
assert "hypothesis" not in sys.modules
sys.modules["hypothesis"] = None
try:
    from divergences import testing
except ImportError as error:
    print(error)
del sys.modules["hypothesis"]
from divergences import testing
try:
    testing.check_divergence(lambda p, q: np.linalg.norm(p - q), ["data_processing"])
except testing.LawViolation as violation:
    print(violation)
assert os.listdir() == [], os.listdir()
"""


def test_a_script_stores_nothing_and_finds_the_same(tmp_path):
    """And without hypothesis, the import says what to install."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}
    )
    first, _, rest = done.stdout.partition("\n")
    assert first == "divergences.testing needs hypothesis: pip install 'divergence-toolkit[test]'"
    assert rest == f"{violation_of(euclidean, ['data_processing'])}\n" and done.stderr == ""


def test_seeds_try_other_examples(capsys):
    def tried(**options):
        found = []
        check_divergence(lambda p, q: found.append(p.tolist()) or total_variation(p, q), ["symmetry"], 30, **options)
        return found

    assert tried() == tried() != tried(seed=1)
    assert capsys.readouterr() == ("", "")


@settings(PROMISES, max_examples=2)
@given(st.floats(0.5, 2.0))
def test_checks_work_within_another_test(factor):
    check_divergence(lambda p, q: factor * total_variation(p, q), ["symmetry"], 5)
    assert violation_of(lambda p, q: factor * euclidean(p, q), ["data_processing"], 20).law == "data_processing"


def test_global_random_states_are_left_alone():
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    check_divergence(total_variation, examples=10)
    assert torch.equal(before[0], torch.get_rng_state()) and before[2] == random.getstate()
    assert np.array_equal(before[1], np.random.get_state()[1])


def test_options_reach_the_examples():
    seen = []

    def spying(p, q):
        seen.append(p)
        return total_variation(p, q)

    def gap(x, y):
        seen.append(x)
        return float((x.mean() - y.mean()) ** 2)

    check_divergence(spying, ["symmetry"], 50, n=3, zeros=False, least=0.1)
    assert all(len(p) == 3 and p.min() >= 0.1 for p in seen)
    seen.clear()
    check_divergence(spying, examples=100)
    assert all(((p == 0) | (p >= 1e-9)).all() and p.dtype == np.float64 for p in seen)
    seen.clear()
    check_estimator(gap, ["symmetry"], 5, kind="numpy", n=4, d=2)
    assert all(isinstance(x, np.ndarray) and x.shape == (4, 2) for x in seen)


def test_the_table_of_laws():
    laws = testing.laws()
    assert laws["identity"].name == "identity" and "kl" not in laws and laws[0] in laws
    assert len({(law.name, kind) for law in laws for kind in law.on}) == sum(len(law.on) for law in laws)
    lines = repr(laws).splitlines()
    assert len(lines) == len(laws) + 2 and lines[1].startswith("identity*") and all(law.applies for law in laws)
    with pytest.raises(KeyError, match="unknown law 'symetry': choose from symmetry"):
        laws["symetry"]


def test_every_law_catches_a_defect():
    caught = {(d.caught_by, "samples" if d.of == "mean" else "known") for d in DEFECTS}
    for law in testing.laws():
        assert (law.name, "samples" if law.on == ("samples",) else "known") in caught, law.name


@pytest.mark.parametrize("name", CORRECT)
def test_right_versions_obey_their_laws(name):
    right = CORRECT[name]
    right.check(right.fn, right.laws, **right.options)
    if right.value:
        p, q, value = right.value
        assert float(right.fn(p, q)) == pytest.approx(value, abs=1e-14)


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_planted_defects_are_caught(defect):
    """By the law that is named, with the message in the guide; or by a value alone, and then by no law."""
    text = page.block(defect)
    assert f"is caught by `{defect.caught_by}`" in text if defect.caught_by else "only a value catches it" in text
    if defect.caught_by is None:
        p, q, value = CORRECT[defect.of].value
        assert abs(float(defect.fn(p, q)) - value) > 0.05
    if page.version() in GUIDE:  # another version of Hypothesis may find another smallest example
        assert f"\n\n{text}\n" in GUIDE, "run `python -m benchmarks.defects`"


GUIDE = page.PAGE.read_text()


def test_the_guide_is_made_from_the_code():
    assert made(GUIDE, {"laws": page.laws}) == GUIDE, "run `python -m benchmarks.defects`"
    assert re.findall(r"^\*\*(.*)\*\* (?:is caught|obeys)", GUIDE, re.MULTILINE) == [d.name for d in DEFECTS]
    assert re.search(r"Printed with Hypothesis \d", GUIDE) and hypothesis.__version__


def test_the_guide_runs():
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    done = doctest.testfile(str(page.PAGE), module_relative=False, optionflags=flags)
    assert done.attempted >= 5 and done.failed == 0
    block = re.search(r"```python\n(import numpy.*?)```", GUIDE, re.DOTALL)[1]
    names = {}
    exec(block, names)
    for name in [name for name in names if name.startswith("test_")]:
        names[name]()


def test_rooted_and_high_order_divergences_are_not_jointly_convex():
    for fn in (lambda p, q: math.sqrt(max(0.0, js(p, q))), lambda p, q: float(dv.renyi(p, q, alpha=3.0))):
        assert violation_of(fn, ["joint_convexity"]).law == "joint_convexity"
