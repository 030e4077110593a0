"""Is P = Q? Permutation tests, exact at every sample size, for discrete and tied data and for unequal samples.

The points are pooled and shuffled; everything that a statistic learns from data (bandwidths, directions) it learns from
the shuffled pool, without the labels. Under P = Q all labellings of the pool that the design allows are then equally
likely, and the rank of the observed one among random ones is a valid p-value.
"""

from estimators.two_sample.c2st import C2ST
from estimators.two_sample.entry import two_sample_test
from estimators.two_sample.named import NAMES

__all__ = ["C2ST", "NAMES", "two_sample_test"]
