"""The laws of `divergences.testing` on every estimator from samples, by name, so that one broken law fails alone."""

import pytest

from divergences import testing
from tests.estimators.estimator_cases import CASES, laws_of

FEW = {"bound_holds": 3, "error_shrinks": 2}  # examples of many points each
KNOWN = (60, 120)  # points from which errors are known, without which a bound of the population cannot be tried
PAIRS = [(name, law) for name, case in CASES.items() for law in laws_of(case)]


@pytest.mark.parametrize(("name", "law"), PAIRS, ids=[f"{name}-{law}" for name, law in PAIRS])
def test_laws_of_estimators(name, law):
    case = CASES[name]
    companions = {
        "scaling": {"degree": case.degree},
        "bound_holds": {"truth": case.truth},
        "error_shrinks": {"truth": case.truth, "rate": case.rate},
    }
    testing.check_estimator(
        case.estimator,
        [law],
        FEW.get(law, case.examples),
        n=KNOWN if law == "bound_holds" else case.n,
        d=case.d,
        rtol=case.atol,
        atol=case.atol,
        **companions.get(law, {}),
    )
