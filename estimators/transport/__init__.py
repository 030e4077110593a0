"""Optimal transport between samples: exact, on the line, sliced, smoothed by entropy, and by affine maps."""

from estimators.transport.affine_wasserstein import AffineWasserstein
from estimators.transport.coupling import Coupling
from estimators.transport.emd import EMD
from estimators.transport.sinkhorn import Sinkhorn
from estimators.transport.sliced import MaxSlicedWasserstein, SlicedWasserstein
from estimators.transport.wasserstein import Wasserstein

__all__ = [
    "AffineWasserstein",
    "Coupling",
    "EMD",
    "MaxSlicedWasserstein",
    "Sinkhorn",
    "SlicedWasserstein",
    "Wasserstein",
]
