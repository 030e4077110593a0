"""All goals, each registered by the module that measures it."""

from benchmarks.accuracy import GOALS as GOALS
from benchmarks.accuracy import bounds, critics, estimates, kernels, learned_kernels, power  # noqa: F401
