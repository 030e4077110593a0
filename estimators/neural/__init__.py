"""Divergences as a supremum over critics: networks, what constrains them, and how they are trained."""

from estimators.neural.adversarial import Hinge, LeastSquares, MinimaxGAN, NonSaturatingGAN
from estimators.neural.adversarial_mmd import AdversarialMMD
from estimators.neural.auto_encoding import BoundaryEquilibrium, EnergyBased
from estimators.neural.barber_agakov import BarberAgakov
from estimators.neural.constraints import R1, Constraint, GradientPenalty, GroupSort, SpectralNorm, WeightClipping
from estimators.neural.critic_estimator import CriticEstimator
from estimators.neural.deep_kernel import DeepKernel
from estimators.neural.donsker_varadhan import DonskerVaradhan
from estimators.neural.info_nce import InfoNCE
from estimators.neural.kantorovich import KantorovichRubinstein
from estimators.neural.variational import Variational

__all__ = [
    "R1",
    "AdversarialMMD",
    "BarberAgakov",
    "BoundaryEquilibrium",
    "Constraint",
    "CriticEstimator",
    "DeepKernel",
    "DonskerVaradhan",
    "EnergyBased",
    "GradientPenalty",
    "GroupSort",
    "Hinge",
    "InfoNCE",
    "KantorovichRubinstein",
    "LeastSquares",
    "MinimaxGAN",
    "NonSaturatingGAN",
    "SpectralNorm",
    "Variational",
    "WeightClipping",
]
