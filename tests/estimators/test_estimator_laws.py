"""The laws of `divergences.testing` on every estimator from samples, by name, so that one broken law fails alone."""

import pytest

from divergences import testing
from tests.estimators.estimator_cases import CASES, laws_of

PAIRS = [(name, law) for name, case in CASES.items() for law in laws_of(case)]


@pytest.mark.parametrize(("name", "law"), PAIRS, ids=[f"{name}-{law}" for name, law in PAIRS])
def test_laws_of_estimators(name, law):
    case = CASES[name]
    companions = {"scaling": {"degree": case.degree}, "error_shrinks": {"truth": case.truth, "rate": case.rate}}
    testing.check_estimator(
        case.estimator,
        [law],
        2 if law == "error_shrinks" else case.examples,
        n=case.n,
        d=case.d,
        rtol=case.atol,
        atol=case.atol,
        **companions.get(law, {}),
    )
