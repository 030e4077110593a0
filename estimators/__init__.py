"""D(P‖Q) from samples x ~ P and y ~ Q: an estimate with its uncertainty, a calibrated test, or a loss.

>>> import numpy as np
>>> import estimators as est
>>> rng = np.random.default_rng(0)
>>> x, y = rng.normal(size=(200, 2)), rng.normal(1, 1, size=(150, 2))
>>> est.MMD().estimate(x, y, seed=0).interval[0] > 0
True
>>> est.two_sample_test(x, y, permutations=199, seed=0).reject(0.05)
True
"""

from divergences import ConvergenceError
from estimators.adversarial import MinimaxGAN, NonSaturatingGAN
from estimators.base import CriticEstimator, Estimator
from estimators.compare import Comparison, compare
from estimators.constraints import R1, Constraint, GradientPenalty, WeightClipping
from estimators.energy import EnergyDistance
from estimators.kantorovich import KantorovichRubinstein
from estimators.mmd import MMD
from estimators.nearest_neighbor import NearestNeighbor
from estimators.registry import as_estimator, estimate, names
from estimators.results import Estimate, TestResult
from estimators.sliced import MaxSlicedWasserstein, SlicedWasserstein
from estimators.space import Space
from estimators.transport import EMD, Sinkhorn
from estimators.two_sample import two_sample_test
from estimators.variational import Variational

__all__ = [
    "EMD",
    "MMD",
    "R1",
    "Comparison",
    "Constraint",
    "ConvergenceError",
    "CriticEstimator",
    "EnergyDistance",
    "Estimate",
    "Estimator",
    "GradientPenalty",
    "KantorovichRubinstein",
    "MaxSlicedWasserstein",
    "MinimaxGAN",
    "NearestNeighbor",
    "NonSaturatingGAN",
    "Sinkhorn",
    "SlicedWasserstein",
    "Space",
    "TestResult",
    "Variational",
    "WeightClipping",
    "as_estimator",
    "compare",
    "estimate",
    "names",
    "two_sample_test",
]
