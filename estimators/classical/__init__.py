"""Divergences from neighbours, frequencies, kernel densities and fitted Gaussians."""

from estimators.classical.coverage import PrecisionRecall, precision_recall
from estimators.classical.gaussian_plug_in import GaussianPlugIn
from estimators.classical.kernel_density import KernelDensity
from estimators.classical.nearest_neighbor import NearestNeighbor
from estimators.classical.plug_in import Histogram

__all__ = [
    "GaussianPlugIn",
    "Histogram",
    "KernelDensity",
    "NearestNeighbor",
    "PrecisionRecall",
    "precision_recall",
]
