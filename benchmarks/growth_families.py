"""What `benchmarks.growth` times: families of problems of a growing size, each solved by ours and by peers.

A method is a row: what it prepares from the arrays of a size (nobody times that, as where a peer compiles for shapes),
the bytes that it holds at once, about, and the module that it needs.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

import estimators as est
from benchmarks.ops_speed import by_keops, by_scikit_learn
from benchmarks.transport_speed import by_ott, by_pot
from divergences.kernels import Gaussian
from estimators.classical import neighbors
from estimators.ops import pairwise

D, SHARE, PROJECTIONS, K = 10, 0.01, 100, 5  # coordinates; of the mean cost that ε is; of sliced W; neighbours
PERMUTATIONS = 999
MARGINALS = 5e-4  # L1 error of the marginals at which ours stops, and peers that can be told
SMALL = 100  # points of each problem of a batch
H = math.sqrt(D)
Call = Callable[[], Any]


class Method(NamedTuple):
    """One curve."""

    name: str
    prepared: Callable[..., Call]  # from the arrays
    bytes: Callable[[int], float]  # held at once for the size
    module: str | None = None

    def here(self) -> bool:
        """Whether what it needs is installed."""
        return self.module is None or importlib.util.find_spec(self.module) is not None


class Family(NamedTuple):
    """Problems of a size, and their methods, ours first."""

    key: str
    title: str
    size: str  # what the size is called
    order: float  # of the time in the size: the least that is taken for what the next size will cost
    tolerance: float  # of a peer's answer, of the largest number in ours
    drawn: Callable[[int], tuple[Any, ...]]
    methods: tuple[Method, ...]


def drawn(n: int, d: int = D, lead: tuple[int, ...] = (), dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    x, y = torch.randn(2, *lead, n, d, dtype=dtype, generator=torch.Generator().manual_seed(d))
    return x, y + 0.1


def by_torch(x: Tensor, y: Tensor, bandwidth: float) -> float:
    """By the full matrix."""
    return float((torch.cdist(x, y).square_() / (-2 * bandwidth**2)).exp_().sum(dtype=torch.float64))


def pair_sum(x: Tensor, y: Tensor) -> float:
    return float(pairwise.row_sums(Gaussian(H), x, y).double().sum())


def points_and_blur(n: int, lead: tuple[int, ...] = ()) -> tuple[Tensor, Tensor, float]:
    """With the blur at which ε = 2·blur² is `SHARE` of the mean cost, E‖X − Y‖² = 2d + 0.01·d."""
    return *drawn(n, lead=lead), math.sqrt(SHARE * 2.01 * D / 2)


def transport(x: Tensor, y: Tensor, blur: float) -> Call:
    estimator = est.Sinkhorn(2, blur=blur, debiased=False)
    return lambda: estimator.value(x, y).tolist()


def transport_by_pot(x: Tensor, y: Tensor, blur: float) -> Call:
    """Its threshold is an error in L2."""
    stop = MARGINALS / math.sqrt(len(y))
    return partial(by_pot, x, y, 2 * blur**2, "sinkhorn", stopThr=stop, numItermax=10_000)


def transport_by_ott(x: Tensor, y: Tensor, blur: float) -> Call:
    """Over-relaxed by 1.5, as by 1.8 it is not stable here."""
    return by_ott(1.5, True, MARGINALS, x, y, 2 * blur**2)


def transport_by_geomloss(x: Tensor, y: Tensor, blur: float) -> Call:
    """Its cost is ‖x − y‖²/2. It has no rule to stop: its value is as right as ε falls slowly."""
    from geomloss import SamplesLoss

    loss = SamplesLoss("sinkhorn", p=2, blur=blur, scaling=0.98, debias=False, backend="tensorized")
    return lambda: 2 * float(loss(x, y))


def on_the_line(n: int) -> tuple[Tensor, Tensor]:
    return drawn(n, 1, dtype=torch.float64)


def line_by_pot(x: Tensor, y: Tensor) -> Call:
    import ot

    return lambda: float(ot.emd2_1d(x[:, 0].numpy(), y[:, 0].numpy(), metric="euclidean"))


def line_by_scipy(x: Tensor, y: Tensor) -> Call:
    from scipy.stats import wasserstein_distance

    return lambda: float(wasserstein_distance(x[:, 0].numpy(), y[:, 0].numpy()))


def sliced(x: Tensor, y: Tensor) -> Call:
    estimator = est.SlicedWasserstein(2, projections=PROJECTIONS)
    return lambda: float(estimator.value(x, y))


def sliced_by_pot(x: Tensor, y: Tensor) -> Call:
    """On the directions that ours takes."""
    import ot

    theta = est.SlicedWasserstein(2, projections=PROJECTIONS).directions(x, None).T.numpy()
    return lambda: float(ot.sliced_wasserstein_distance(x.numpy(), y.numpy(), projections=theta, p=2))


def neighbours_by_tree(x: Tensor, y: Tensor) -> Call:
    from scipy.spatial import cKDTree

    return lambda: cKDTree(x.numpy()).query(y.numpy(), k=K)[0]


def neighbours_by_scikit_learn(x: Tensor, y: Tensor) -> Call:
    from sklearn.neighbors import NearestNeighbors

    return lambda: NearestNeighbors(n_neighbors=K, algorithm="brute").fit(x.numpy()).kneighbors(y.numpy())[0]


def permuted(x: Tensor, y: Tensor) -> Call:
    """Of labels, and of bins where the points are many."""
    estimator = est.MMD(Gaussian(H))
    return lambda: est.two_sample_test(x, y, estimator, permutations=PERMUTATIONS, seed=0).statistic


def permuted_by_torch(x: Tensor, y: Tensor) -> Call:
    """By the full matrix and one product of labels ±1 with it, from which every sum follows."""

    def value() -> float:
        n, points = len(x), torch.cat([x, y])
        K = (torch.cdist(points, points).square_() / (-2 * H * H)).exp_()
        v = torch.ones(PERMUTATIONS + 1, 2 * n)
        for row in v:
            row[torch.randperm(2 * n)[n:]] = -1
        v[0, :n], v[0, n:] = 1, -1
        forms, total = ((v @ K) * v).sum(-1, dtype=torch.float64), K.sum(dtype=torch.float64)
        return float((((total + forms) / 2 - 2 * n) / (n * (n - 1)) - (total - forms) / (2 * n**2))[0])

    return value


def loop(prepared: Callable[..., Call], x: Tensor, y: Tensor, *given: Any) -> Call:
    """Problem by problem."""
    calls = [prepared(p, q, *given) for p, q in zip(x, y, strict=True)]
    return lambda: [call() for call in calls]


def in_one_by_pot(x: Tensor, y: Tensor, blur: float) -> Call:
    """Its value is the primal one, whose error is of first order, and Γ's in L2 over the batch what it stops by."""
    from ot.batch import solve_sample_batch

    how = {"tol": 3e-4, "max_iter": 5000, "reg_type": "kl", "grad": "detach"}
    return lambda: solve_sample_batch(x, y, reg=2 * blur**2, **how).value.tolist()


def mmds(x: Tensor, y: Tensor) -> Call:
    estimator = est.MMD(Gaussian(H), statistic="biased")
    return lambda: estimator.value(x, y).tolist()


def mmds_by_torch(x: Tensor, y: Tensor) -> Call:
    """By full matrices."""

    def value() -> list[float]:
        means = [
            (torch.cdist(p, q).square_() / (-2 * H * H)).exp_().mean((-2, -1)) for p, q in ((x, x), (y, y), (x, y))
        ]
        return (means[0] + means[1] - 2 * means[2]).tolist()

    return value


def times(count: float) -> Callable[[int], float]:
    """Bytes for n that are linear in it, beside the points in double precision."""
    return lambda n: (count + 16 * D) * n


def square(count: float) -> Callable[[int], float]:
    return lambda n: count * n * n


def calls(function: Callable[..., Any], *given: Any) -> Callable[..., Call]:
    return lambda x, y, *rest: partial(function, x, y, *rest, *given)


FAMILIES = (
    Family("pairs", f"Gaussian kernel over pairs, d = {D}", "n", 2, 1e-5, drawn, (
        Method("ours", calls(pair_sum), times(64)),
        Method("KeOps", calls(by_keops, H), times(64), "pykeops"),
        Method("scikit-learn", calls(by_scikit_learn, H), square(8), "sklearn"),
        Method("torch, full matrix", calls(by_torch, H), square(8)),
    )),
    Family("transport", f"Entropic transport, d = {D}", "n", 2, 1e-3, points_and_blur, (
        Method("ours", transport, lambda n: min(4.0 * n * n, 2.0**28) + 500 * n),
        Method("POT", transport_by_pot, square(32), "ot"),
        Method("OTT", transport_by_ott, square(12), "ott"),
        Method("geomloss", transport_by_geomloss, square(24), "geomloss"),
    )),
    Family("line", "W₁ on the line", "n", 1, 1e-8, on_the_line, (
        Method("ours", lambda x, y: lambda: float(est.EMD(order=1).value(x, y)), times(100)),
        Method("POT", line_by_pot, times(200), "ot"),
        Method("SciPy", line_by_scipy, times(200), "scipy"),
    )),
    Family("sliced", f"Sliced W₂, {PROJECTIONS} directions, d = {D}", "n", 1, 1e-8,
           partial(drawn, dtype=torch.float64), (
        Method("ours", sliced, times(32 * PROJECTIONS)),
        Method("POT", sliced_by_pot, times(80 * PROJECTIONS), "ot"),
    )),
    Family("neighbours", f"{K} nearest neighbours, d = {D}", "n", 1.5, 1e-6,
           partial(drawn, dtype=torch.float64), (
        Method("ours", lambda x, y: lambda: neighbors.nearest(x.numpy(), y.numpy(), K, "euclidean")[0], times(500)),
        Method("SciPy, tree", neighbours_by_tree, times(500), "scipy"),
        Method("scikit-learn, brute", neighbours_by_scikit_learn, times(500), "sklearn"),
    )),
    Family("permutations", f"MMD and {PERMUTATIONS} permutations, d = {D}", "n", 2, 1e-3, drawn, (
        Method("ours", permuted, lambda n: min(16.0 * n * n, 5e9) + 500 * n),
        Method("torch, one product", permuted_by_torch, square(32)),
    )),
)  # fmt: skip

BATCHES = (
    Family("mmds", f"MMD of B × {SMALL} points, d = {D}", "B", 1, 1e-4, lambda B: drawn(SMALL, lead=(B,)), (
        Method("ours, one call", mmds, lambda B: 1e6 * B),
        Method("ours, a loop", partial(loop, mmds), lambda B: 1e5 * B),
        Method("torch, one call", mmds_by_torch, lambda B: 1e6 * B),
        Method("torch, a loop", partial(loop, mmds_by_torch), lambda B: 1e5 * B),
    )),
    Family("transports", f"Transport of B × {SMALL} points, d = {D}", "B", 1, 1e-3,
           lambda B: points_and_blur(SMALL, (B,)), (
        Method("ours, one call", transport, lambda B: 1e5 * B),
        Method("ours, a loop", partial(loop, transport), lambda B: 1e5 * B),
        Method("POT, a loop", partial(loop, transport_by_pot), lambda B: 1e6 * B, "ot"),
        Method("POT, ot.batch", in_one_by_pot, lambda B: 1e6 * B, "ot"),
    )),
)  # fmt: skip


def absent(families: tuple[Family, ...]) -> Iterator[str]:
    """Methods whose module is not installed."""
    return (f"{method.name} ({method.module})" for f in families for method in f.methods if not method.here())
