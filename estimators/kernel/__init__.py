"""Distances of means in a feature space: MMD, energy distance and, with covariances, the Fréchet distance."""

from estimators.kernel.energy import EnergyDistance
from estimators.kernel.frechet import Frechet
from estimators.kernel.mmd import MMD
from estimators.kernel.witness import Witness

__all__ = [
    "EnergyDistance",
    "Frechet",
    "MMD",
    "Witness",
]
