"""A kernel that a network learns, for the power of its test."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from divergences import kernels
from divergences._spec import Specified
from estimators.door import Samples, count, seeded
from estimators.neural import fitting, memory
from estimators.neural.critics import judging, mlp, readable
from estimators.neural.power import ratio
from estimators.neural.representation import Representation

if TYPE_CHECKING:
    from typing import Self

FEWEST = 10  # points a side to train on, two of which are held out
_CODE = 16
_HIDDEN = (64, 64)
_EVERY = 10  # steps between two looks at the held-out part
_CHECKED = 1000  # held-out points a side that are looked at
_PROBED = 500  # points that first bandwidths are taken from


class _Side(NamedTuple):
    """Points of one sample: as the trained part of φ takes them, and as q does, about the middle, in single."""

    u: Tensor
    z: Tensor

    def at(self, rows: Tensor | slice) -> _Side:
        return _Side(self.u[rows], self.z[rows])


class DeepKernel(nn.Module, Specified):
    """k(x, y) = [(1 − ε) κ(φ(x), φ(y)) + ε] q(x, y) with a network φ and Gaussian κ and q, for `MMD`.

    `MMD(DeepKernel()).fit(x, y)` trains φ, ε and both bandwidths for the power of the test: to maximise J = MMD²_u /
    √(σ̂² + λ), the statistic over its deviation, λ = 10⁻⁴, on minibatches. A fifth of the points is held out, and the
    weights with the largest J there are kept. Then the kernel is a fixed one, and `MMD` gives value, interval,
    `MMD.witness` and its most different points on data that `fit` has not seen. ε > 0 and q keep the kernel
    characteristic, whatever φ forgets.

    `MMD(DeepKernel()).estimate(x, y)` without a fit trains on half of the points and evaluates on the others, and
    says so. As a statistic of `two_sample_test` see there, and ``cross_fit`` below.

    Bound: `MMD`'s for the learned kernel: unbiased on points that it was not trained on.
    Rate: n^(−1/2), and n^(−1) at P = Q, for the learned kernel.
    Interval: `MMD`'s, with the kernel held.
    Shapes: x (..., n, d), y (..., m, d), k (..., n, m). Images come flat.
    Cost: `fit` some hundred steps on 2·batch points, with (2·batch)² kernel values each (a second or two).
    Gradients: in x and y, through φ.

    Args:
        network: φ, (n, d) → (n, k), of your own; `fit` trains a copy. None is a `Representation` of the pooled points
            (whitened principal axes, of edges where the points are images, and a radius), which sees no labels, under
            an MLP with two hidden layers of 64 and 16 outputs.
        cross_fit: how `two_sample_test` uses the kernel. True: all points are trained on and judged, by cross-fitting
            that is done anew for each labelling. False: half of the points train the kernel, and the labels of the
            other half are permuted.

    Raises:
        ValueError: called, or asked for a value, before it is fitted; a network that gives no vector a point.
        TypeError: a network that is no module.

    References: Liu, Xu, Lu, Zhang, Gretton and Sutherland 2020, eqs. (1), (5) and Algorithm 1.

    Example:
        >>> import estimators as est
        >>> x = torch.randn(400, 2, generator=torch.Generator().manual_seed(1))
        >>> mmd = est.MMD(DeepKernel()).fit(x[:100] + 1, x[100:200])
        >>> mmd.estimate(x[200:300] + 1, x[300:]).interval[0] > 0
        True
    """

    def __init__(self, network: nn.Module | None = None, cross_fit: bool = True) -> None:
        super().__init__()
        if network is not None and not isinstance(network, nn.Module):
            raise TypeError(f"network must be a torch module, (n, d) to (n, k), or None: got {type(network).__name__}")
        if not isinstance(cross_fit, bool):
            raise TypeError(f"cross_fit must be True or False: got {cross_fit!r}")
        self.network = network
        self.cross_fit = cross_fit
        self.phi: nn.Module | None = None
        self.seen: Any = None  # what `memory` keeps of the points that `fitted` saw
        self.logit = nn.Parameter(torch.tensor(-3.0, dtype=torch.float64))  # of ε
        self.log_bandwidth = nn.Parameter(torch.zeros((), dtype=torch.float64))  # of κ, on φ
        self.log_bandwidth_of_points = nn.Parameter(torch.zeros((), dtype=torch.float64))  # of q

    @property
    def is_fitted(self) -> bool:
        """Whether φ has been trained."""
        return self.phi is not None

    @property
    def epsilon(self) -> float:
        """ε, the part of the kernel that q alone makes."""
        return float(torch.sigmoid(self.logit.detach()))

    @property
    def bandwidths(self) -> tuple[float, float]:
        """Those of κ, on φ, and of q, on the points."""
        return float(self.log_bandwidth.detach().exp()), float(self.log_bandwidth_of_points.detach().exp())

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """k(x_i, y_j), (..., n, m)."""
        return self._values(self.codes(x), self.codes(y), x, y)

    def codes(self, points: Tensor) -> Tensor:
        """φ at each point, (..., n, k), in the precision of the points."""
        if self.phi is None:
            raise ValueError("DeepKernel has no kernel yet: call MMD(DeepKernel()).fit(x, y) first")
        return _codes(self.phi, points).to(points.dtype)

    def _values(self, a: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
        epsilon = torch.sigmoid(self.logit).to(x)
        kappa, q = (
            torch.exp(-0.5 * torch.exp(-2 * log.to(u)) * kernels.squared_distances(u, v))
            for log, u, v in ((self.log_bandwidth, a, b), (self.log_bandwidth_of_points, x, y))
        )
        return ((1 - epsilon) * kappa + epsilon) * q

    def fitted(
        self,
        s: Samples,
        *,
        steps: int = 200,
        batch: int = 128,
        lr: float = 2e-3,
        patience: int = 8,
        seed: int = 0,
        progress: bool = True,
    ) -> Self:
        """A copy that is trained on ``s``; training goes on from the weights of a network that was given or fitted.

        Args:
            s: one problem, with at least 10 points a side and no weights.
            steps: of Adam at most.
            batch: points of x and of y a step.
            lr: of Adam.
            patience: looks at the held-out fifth, ten steps apart, without a larger J there, after which it stops.
            seed: of first weights, the held-out fifth and the batches.
            progress: whether to show a bar after two seconds.

        Raises:
            ValueError: extra axes, weights, or fewer points; a number of points or looks below 1.
        """
        steps, batch, patience = count(steps, "steps", 0), count(batch, "batch"), count(patience, "patience")
        if s.x.ndim > 2 or s.y.ndim > 2:
            raise ValueError(
                f"a learned kernel takes one problem, (n, d) and (m, d): got {tuple(s.x.shape)}, {tuple(s.y.shape)}"
            )
        if s.x_weights is not None or s.y_weights is not None:
            raise ValueError("fit takes no weights for a learned kernel")
        if min(len(s.x), len(s.y)) < FEWEST:
            raise ValueError(f"x and y need at least {FEWEST} points each to fit: got {len(s.x)} and {len(s.y)}")
        built = copy.deepcopy(self)
        generator = seeded(seed)
        built._start(s, generator)
        with torch.enable_grad():
            built._train(s, steps, batch, lr, patience, generator, progress)
        built.seen = memory.of(s)
        return built.eval()

    def _start(self, s: Samples, generator: torch.Generator) -> None:
        """Build φ where there is none, and take the first bandwidths from the points."""
        pooled = torch.cat([s.x, s.y]).detach()
        pooled = pooled[torch.randperm(len(pooled), generator=generator).to(pooled.device)]
        if self.phi is None:
            self.phi = copy.deepcopy(self.network) if self.network is not None else default_network(pooled, generator)
        some = pooled[:_PROBED]
        with judging(self.phi):
            codes = _codes(self.phi, some)
        with torch.no_grad():
            for log, u in ((self.log_bandwidth, codes), (self.log_bandwidth_of_points, some)):
                distances = kernels.squared_distances(u.double(), u.double())
                median = distances[~torch.eye(len(u), dtype=torch.bool, device=u.device)].median().sqrt()
                log.copy_(torch.where(median > 0, median, 1.0).log())

    def _train(
        self,
        s: Samples,
        steps: int,
        batch: int,
        lr: float,
        patience: int,
        generator: torch.Generator,
        progress: bool,
    ) -> None:
        train, held_out = fitting.split(s.x, s.y, 0.8, generator)
        n = min(batch, len(train.x), len(train.y))
        optimizer = torch.optim.Adam([p for p in self.parameters() if p.requires_grad], lr=lr)
        middle = torch.cat([s.x, s.y]).mean(0)
        seen, judged = ([_Side(self._front(p), (p - middle).float()) for p in (t.x, t.y)] for t in (train, held_out))
        judged = [side.at(slice(min(_CHECKED, len(held_out.x), len(held_out.y)))) for side in judged]
        best, kept, stale = self._held_out(judged), copy.deepcopy(self.state_dict()), 0
        bar = tqdm(range(steps), desc="fit DeepKernel", delay=2, leave=False, disable=not progress)
        with fitting.few_threads(self):
            for step in bar:
                self.train()
                J = self._ratio([side.at(torch.randperm(len(side.z), generator=generator)[:n]) for side in seen])
                if not bool(torch.isfinite(J)):
                    break  # the weights kept are those of the last finite look
                optimizer.zero_grad()
                J.neg().backward()
                optimizer.step()
                if (step + 1) % _EVERY == 0 or step + 1 == steps:
                    value = self._held_out(judged)
                    bar.set_postfix(ratio=f"{value:.4g}", refresh=False)  # a refresh would ignore the delay
                    stale = 0 if value > best else stale + 1
                    if value > best:
                        best, kept = value, copy.deepcopy(self.state_dict())
                    if stale >= patience:
                        break
        self.load_state_dict(kept)

    def _front(self, points: Tensor) -> Tensor:
        """What the trained part of φ sees: what no weight changes is made once."""
        own = self._own
        with torch.no_grad():
            return points if own is None else own[0](points)

    @property
    def _trained(self) -> nn.Module:
        assert self.phi is not None  # started by the caller
        own = self._own
        return self.phi if own is None else own[1]

    @property
    def _own(self) -> nn.Sequential | None:
        """Where φ is the default network: a representation, and what is trained on it."""
        phi = self.phi
        return phi if isinstance(phi, nn.Sequential) and isinstance(phi[0], Representation) else None

    def _ratio(self, sides: list[_Side]) -> Tensor:
        """J of as many points of x and y."""
        x, y = sides
        a, b = (_codes(self._trained, side.u).float() for side in sides)
        return ratio(*(self._values(*pair) for pair in ((a, a, x.z, x.z), (b, b, y.z, y.z), (a, b, x.z, y.z))))

    def _held_out(self, sides: list[_Side]) -> float:
        if len(sides[0].z) < 2:
            return -math.inf
        with judging(self):
            return float(self._ratio(sides))

    def on_new_points(self, s: Samples, generator: torch.Generator) -> tuple[DeepKernel, Samples, tuple[str, ...]]:
        """A fitted kernel, points that it has not seen, and a note on both: as `CriticEstimator` has it.

        Raises:
            ValueError: fitted to some of these points; not fitted, and too few points to be split.
        """
        if self.is_fitted:
            self.check_new(s)
            return self, s, ("the kernel was fitted before: the value holds for data that fit has not seen",)
        if min(len(s.x), len(s.y)) < 2 * FEWEST:
            raise ValueError(
                f"x and y need at least {2 * FEWEST} points each, to train a kernel and evaluate it on others: got "
                f"{len(s.x)} and {len(s.y)}"
            )
        if s.x_weights is not None or s.y_weights is not None:
            raise NotImplementedError("estimate with weights needs a fitted kernel: call fit(x, y) first")
        seen, test = fitting.split(s.x, s.y, 0.5, generator)
        kernel = self.fitted(seen, seed=int(torch.randint(2**31, (), generator=generator)))
        note = (
            f"kernel trained on {len(seen.x)} + {len(seen.y)} points, evaluated on the other {len(test.x)} + "
            f"{len(test.y)}"
        )
        return kernel, test, (note,)

    def check_new(self, s: Samples) -> None:
        """Raise ValueError where fit has seen points of ``s``, on which the kernel tells more apart than there is."""
        if memory.share(self.seen, s) > 0:
            raise ValueError(
                "x and y must be new points: the kernel was fitted to some of them; an unfitted DeepKernel() splits "
                "them itself"
            )

    @property
    def written(self) -> dict[str, Any]:
        """The constructor's arguments, which rebuild a kernel that is not fitted."""
        if self.is_fitted:
            raise TypeError("a fitted DeepKernel cannot be stored by name and arguments, which have no weights")
        return self.arguments

    def __repr__(self) -> str:
        return Specified.__repr__(self)


def default_network(points: Tensor, generator: torch.Generator) -> nn.Module:
    """The φ that is built where none is given, from pooled points in random order."""
    seen = Representation(points)
    return nn.Sequential(seen, mlp(seen.dim, _CODE, _HIDDEN, slope=0.1, generator=generator))


def _codes(phi: nn.Module, points: Tensor) -> Tensor:
    flat = points.reshape(-1, points.shape[-1])
    whole = any(isinstance(module, Representation) for module in phi.modules())
    codes = phi(flat if whole else readable(phi, flat))
    if codes.ndim != 2 or len(codes) != len(flat):
        raise ValueError(f"the network must give a vector a point, ({len(flat)}, k): got shape {tuple(codes.shape)}")
    return codes.reshape(*points.shape[:-1], codes.shape[-1])
