"""Property tests for divergences: Hypothesis strategies, the laws a divergence or estimator must obey, and checks.

Needs hypothesis: ``pip install 'divergence-toolkit[test]'``. `check_divergence`, `check_metric` and `check_estimator`
try the laws on any callable and raise `LawViolation` with the shrunk counter-example; `laws` is the table.

Example:
    >>> import numpy as np
    >>> from divergences import testing
    >>> def total_variation(p, q):
    ...     return np.abs(p - q).sum() / 2
    >>> testing.check_divergence(total_variation)
    >>> testing.check_divergence(total_variation, ["symmetry", "bounded"], upper_bound=1)
"""

try:
    import hypothesis  # noqa: F401
except ImportError as error:
    raise ImportError("divergences.testing needs hypothesis: pip install 'divergence-toolkit[test]'") from error

# The table has the laws in the order of these imports.
from divergences.testing import axioms, information, inequalities, variational, geometry, samples, truths  # noqa: F401, I001
from divergences.testing.checks import check_divergence, check_estimator, check_metric
from divergences.testing.law import Law, Laws, LawViolation, laws
from divergences.testing.samples import Samples
from divergences.testing.strategies import (
    dominated_pairs,
    gaussians,
    markov_kernels,
    pairs,
    point_clouds,
    probability_vectors,
)

__all__ = [
    "Law",
    "LawViolation",
    "Laws",
    "Samples",
    "check_divergence",
    "check_estimator",
    "check_metric",
    "dominated_pairs",
    "gaussians",
    "laws",
    "markov_kernels",
    "pairs",
    "point_clouds",
    "probability_vectors",
]
