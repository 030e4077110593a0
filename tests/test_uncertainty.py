"""docs/uncertainty.md: every estimator says what it is, and the page says what the docstrings say."""

import pytest

from benchmarks import uncertainty as page
from benchmarks.pages import made


@pytest.mark.parametrize("estimator", list(page.estimators()), ids=lambda estimator: estimator.__name__)
def test_every_estimator_states_bound_rate_interval_and_references(estimator):
    assert [head for head in page.PARTS if not page.parts(estimator).get(head)] == []


def test_the_page_is_made_from_the_docstrings():
    text = page.PAGE.read_text()
    assert made(text, page.SECTIONS) == text, "run `python -m benchmarks.uncertainty`"
