"""Divergences from an estimate of the density ratio: models of it, their choice by evidence, and cross-fitting."""

from estimators.ratio.density_ratio import DensityRatio, FittedRatio

__all__ = [
    "DensityRatio",
    "FittedRatio",
]
