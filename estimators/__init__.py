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
from estimators.base import Estimator
from estimators.classical import (
    GaussianPlugIn,
    Histogram,
    KernelDensity,
    NearestNeighbor,
    PrecisionRecall,
    precision_recall,
)
from estimators.compare import Comparison, compare
from estimators.kernel import MMD, EnergyDistance, Frechet, Witness
from estimators.mutual_information import mutual_information
from estimators.neural import (
    R1,
    AdversarialMMD,
    BarberAgakov,
    BoundaryEquilibrium,
    Constraint,
    CriticEstimator,
    DeepKernel,
    DonskerVaradhan,
    EnergyBased,
    GradientPenalty,
    GroupSort,
    Hinge,
    InfoNCE,
    KantorovichRubinstein,
    LeastSquares,
    MinimaxGAN,
    NonSaturatingGAN,
    SpectralNorm,
    Variational,
    WeightClipping,
)
from estimators.ratio import DensityRatio, FittedRatio
from estimators.registry import as_estimator, estimate, names
from estimators.results import Estimate, Evidence, TestResult
from estimators.space import Space
from estimators.transport import (
    EMD,
    AffineWasserstein,
    Coupling,
    MaxSlicedWasserstein,
    Sinkhorn,
    SlicedWasserstein,
    Wasserstein,
)
from estimators.two_sample import C2ST, two_sample_test

__all__ = [
    "C2ST",
    "EMD",
    "MMD",
    "R1",
    "AdversarialMMD",
    "AffineWasserstein",
    "BarberAgakov",
    "BoundaryEquilibrium",
    "Comparison",
    "Constraint",
    "ConvergenceError",
    "Coupling",
    "CriticEstimator",
    "DeepKernel",
    "DensityRatio",
    "DonskerVaradhan",
    "EnergyBased",
    "EnergyDistance",
    "Estimate",
    "Estimator",
    "Evidence",
    "FittedRatio",
    "Frechet",
    "GaussianPlugIn",
    "GradientPenalty",
    "GroupSort",
    "Hinge",
    "Histogram",
    "InfoNCE",
    "KantorovichRubinstein",
    "KernelDensity",
    "LeastSquares",
    "MaxSlicedWasserstein",
    "MinimaxGAN",
    "NearestNeighbor",
    "NonSaturatingGAN",
    "PrecisionRecall",
    "Sinkhorn",
    "SlicedWasserstein",
    "Space",
    "SpectralNorm",
    "TestResult",
    "Variational",
    "Wasserstein",
    "WeightClipping",
    "Witness",
    "as_estimator",
    "compare",
    "estimate",
    "mutual_information",
    "names",
    "precision_recall",
    "two_sample_test",
]
