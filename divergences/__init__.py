"""What a divergence is: f-divergences, kernels, and exact values of D(P‖Q) for known P and Q.

Example:
    >>> import divergences as dv
    >>> dv.kl([0.5, 0.5], [0.5, 0.5]), dv.KL().f_at_zero
    (0.0, 0.0)
"""

from divergences import kernels
from divergences.f_divergence import (
    GAN,
    KL,
    Alpha,
    FDivergence,
    HockeyStick,
    Jeffreys,
    JensenShannon,
    LeCam,
    NeymanChi2,
    PearsonChi2,
    Reversed,
    ReverseKL,
    SkewJensenShannon,
    SkewKL,
    SquaredHellinger,
    TotalVariation,
)
from divergences.laws import ConvergenceError, Empirical, PointMass
from divergences.metrics import energy_distance, kolmogorov_smirnov, mmd, wasserstein
from divergences.named import Named, get, names
from divergences.results import Estimate
from divergences.sampling import monte_carlo
from divergences.values import (
    alpha,
    bhattacharyya,
    chi2,
    f_divergence,
    hellinger,
    hockey_stick,
    jeffreys,
    js,
    kl,
    le_cam,
    neyman_chi2,
    renyi,
    reverse_kl,
    skew_js,
    skew_kl,
    squared_hellinger,
    total_variation,
)

__all__ = [
    "GAN",
    "KL",
    "Alpha",
    "ConvergenceError",
    "Empirical",
    "Estimate",
    "FDivergence",
    "HockeyStick",
    "Jeffreys",
    "JensenShannon",
    "LeCam",
    "Named",
    "NeymanChi2",
    "PearsonChi2",
    "PointMass",
    "ReverseKL",
    "Reversed",
    "SkewJensenShannon",
    "SkewKL",
    "SquaredHellinger",
    "TotalVariation",
    "alpha",
    "bhattacharyya",
    "chi2",
    "energy_distance",
    "f_divergence",
    "get",
    "hellinger",
    "hockey_stick",
    "jeffreys",
    "js",
    "kernels",
    "kl",
    "kolmogorov_smirnov",
    "le_cam",
    "mmd",
    "monte_carlo",
    "names",
    "neyman_chi2",
    "renyi",
    "reverse_kl",
    "skew_js",
    "skew_kl",
    "squared_hellinger",
    "total_variation",
    "wasserstein",
]
