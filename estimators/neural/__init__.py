"""Divergences as a supremum over critics: networks, what constrains them, and how they are trained."""

from estimators.neural.adversarial import MinimaxGAN, NonSaturatingGAN
from estimators.neural.constraints import R1, Constraint, GradientPenalty, WeightClipping
from estimators.neural.critic_estimator import CriticEstimator
from estimators.neural.kantorovich import KantorovichRubinstein
from estimators.neural.variational import Variational

__all__ = [
    "R1",
    "Constraint",
    "CriticEstimator",
    "GradientPenalty",
    "KantorovichRubinstein",
    "MinimaxGAN",
    "NonSaturatingGAN",
    "Variational",
    "WeightClipping",
]
