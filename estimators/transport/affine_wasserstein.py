"""W₂ in many dimensions, where the exact plan of two samples is mostly noise: by means and covariances, and checked."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from estimators import intervals, scale
from estimators.base import Estimator, Inference
from estimators.door import Samples
from estimators.transport.gelbrich import Gelbrich, gelbrich
from estimators.transport.ground_costs import centred, in_units, weights_of
from estimators.transport.line import one_dimensional, root, rooted_inference
from estimators.transport.potentials import degrees, refusal, standard_error

RELABELLINGS = 39
LEVEL = 0.05
POWER = 100  # points for each dimension, with which the check sees a triple of signs of fixed product 7 times in 8
LARGEST = 2000  # points a side of the check
DIRECTIONS = 32
FREQUENCIES = 64  # for each length scale
LENGTHS = (0.5, 1.0, 2.0)  # in units of √d, the scale of a whitened point


class AffineWasserstein(Estimator):
    """W₂ by the best affine map: exact where such a map takes P to Q, and a lower bound always.

    G² = ‖Δ‖² + tr Σ_p + tr Σ_q − 2 tr(Σ_p^½Σ_qΣ_p^½)^½ ≤ W₂²(P, Q), with equality if and only if an affine map with a
    positive matrix takes P to Q: a shift or a scaling of any law, two Gaussians, two elliptical laws of one kind. The
    bias of the plug-in is removed to first order. ``rooted=False`` gives G².

    In `estimate` the equality is tested: T(x) against y, with the map fitted anew for each relabelling of the points.
    Where it rejects, and where there are fewer than 100 points for each of several dimensions, with which it has little
    power against dependence, the value is a lower bound and has no two-sided interval. A test that does not reject
    leaves differences that it cannot see; the note says so.

    Bound: consistent where the check passes with enough points, lower where it does not.
    Rate: n^(−1/2) for G, in every dimension.
    Shapes: x (..., n, d), y (..., m, d), value (...,).
    Cost: O(n d² + d³); in `estimate` 40 times that and O(n (log n + d)) for some 250 directions.
    Gradients: in x, y and the weights, with the bias correction, of order 1/n, held.
    Interval: the normal limit of the affine map's potentials, widened by what half samples show of the bias that is
    left, and upwards by what the margins may add; refused where the check rejects or is too weak, where a covariance is
    singular and where few points dominate.

    Raises:
        ValueError: fewer than d + 2 points on a side.

    References: Gelbrich 1990, theorem 2.1; Rippl, Munk and Sturm 2016 (normal limit).

    Example:
        >>> x = torch.randn(200, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        >>> round(AffineWasserstein()(x, x + 1.0).item(), 1)  # √5 but for the sampling error
        2.2
    """

    divergence_name = "wasserstein"
    minimum = 3

    def __init__(self, rooted: bool = True) -> None:
        super().__init__()
        self.rooted = rooted

    def compute(self, s: Samples, generator: torch.Generator | None) -> Tensor:
        """G or G², without its bias; never below 0 where it is rooted."""
        power = self._fitted(s).value.to(s.x.dtype)
        return root(power, 2) if self.rooted else power

    def infer(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        """The value; a two-sided interval where nothing speaks against the affine map."""
        found = in_units(lambda p, _: self._inferred(p, confidence, generator), s, 1 if self.rooted else 2)
        return found._replace(notes=found.notes + scale.units(s))

    def _inferred(self, s: Samples, confidence: float, generator: torch.Generator) -> Inference:
        fitted = self._fitted(s)
        value, removed = float(fitted.value), float(fitted.bias)
        notes: tuple[str, ...] = (f"bias of the plug-in, removed: {removed:.3g} (before the root)",)
        if bool(fitted.singular):
            found = Inference(value, None, None, (*notes, "no interval: a covariance has no full rank"), "lower")
        elif (why := refusal(fitted.f, fitted.g, s, 2)) is not None:
            found = Inference(value, None, None, (*notes, why), "lower")
        else:
            stderr = standard_error(fitted.f, fitted.g, s)
            found = self._checked(
                s, fitted, Inference(value, stderr, None, notes), confidence, generator.initial_seed()
            )
        return rooted_inference(found, 2) if self.rooted else found

    def _fitted(self, s: Samples) -> Gelbrich:
        d = s.x.shape[-1]
        for name, points in (("x", s.x), ("y", s.y)):
            if points.shape[-2] < d + 2:
                raise ValueError(
                    f"{name} needs at least d + 2 = {d + 2} points for a covariance of full rank: got "
                    f"{points.shape[-2]}"
                )
        return gelbrich(*centred(s), *weights_of(s))

    def _checked(self, s: Samples, fitted: Gelbrich, found: Inference, confidence: float, seed: int) -> Inference:
        value, stderr, _, notes, _ = found
        assert stderr is not None
        known = degrees(fitted.f, fitted.g, s)
        low = value - intervals.half_width(stderr, 2 * confidence - 1, known)
        low = max(low, 0.0) ** 0.5 if self.rooted else max(low, 0.0)
        above = f"{'W₂' if self.rooted else 'W₂²'} is at least {low:.4g} with {100 * confidence:g}% confidence"
        if s.x_weights is not None or s.y_weights is not None:
            why = f"no interval: the check of the affine map takes no weights; {above}, whatever the laws"
            return Inference(value, stderr, None, (*notes, why), "lower")
        p_value, missed = affine_check(fitted.u, fitted.v, seed)
        if p_value <= LEVEL:
            why = f"no interval: no affine map takes P to Q (p = {p_value:.2g}), so G² < W₂²; {above}"
            return Inference(value, stderr, None, (*notes, why), "lower")
        d, fewest = s.x.shape[-1], min(len(s.x), len(s.y))
        if d > 1 and fewest < POWER * d:  # on the line there is no dependence to miss
            why = (
                f"no interval: with {fewest} points in {d} dimensions, fewer than {POWER} for each, the "
                f"check of the affine map (p = {p_value:.2g}) may miss dependence that no margin shows; {above}, "
                "whatever the laws"
            )
            return Inference(value, stderr, None, (*notes, why), "lower")
        if fewest < 2 * (d + 2):
            return Inference(value, stderr, None, (*notes, "no interval: too few points to probe the bias"), "lower")
        # What the correction leaves is of the order 1/n².
        left = intervals.half_sample_bias(lambda p: float(self._fitted(p).value), s, value, 2.0, seed)
        interval, declared = intervals.declare(value, stderr, left, confidence, known)
        if interval is not None:
            interval = (interval[0], interval[1] + missed)
        notes += (
            f"assumes that an affine map takes P to Q, against which {RELABELLINGS} relabellings show nothing "
            f"(p = {p_value:.2g}); otherwise G² < W₂²",
            *declared,
            f"the margins along the axes could add {missed:.2g} (before the root), which widens the upper limit",
        )
        return Inference(value, stderr, interval, notes)


def affine_check(u: Tensor, v: Tensor, seed: int) -> tuple[float, float]:
    """The p-value of "P and Q differ by a positive affine map", from the residuals u (n, d) and v (m, d).

    Three statistics are compared with those of random relabellings, for each of which the map is fitted anew: W₂² along
    the axes, the principal axes and random directions, each and on average (margins), and the squared distances of
    random Fourier features (dependence). Each is standardised over all labellings, and the largest counts.

    Returns:
        The p-value, and an upper 95% limit of the sum of W₂² along the axes, beyond what equal laws of this size show:
        that much of W₂² the check may have missed, and more where margins are equal and dependence is not.
    """
    generator = torch.Generator().manual_seed(seed)
    u, v = (p[torch.randperm(len(p), generator=generator)[:LARGEST]] for p in (u, v))
    pool, n, d = torch.cat([u, v]), len(u), u.shape[-1]
    spread, axes = torch.linalg.eigh(pool.mT @ pool / len(pool))
    white = axes / spread.sqrt()

    def normal(rows: int) -> Tensor:
        return torch.randn(rows, d, generator=generator, dtype=pool.dtype).to(pool.device)

    theta = normal(DIRECTIONS)
    theta = torch.cat(
        [torch.eye(d, dtype=pool.dtype, device=pool.device), axes.mT, theta / theta.norm(dim=-1)[:, None]]
    )
    length = pool.new_tensor(LENGTHS).repeat_interleave(FREQUENCIES)[:, None] * math.sqrt(d)
    omega = white @ (normal(len(length)) / length).mT
    phase = 2 * math.pi * torch.rand(len(length), generator=generator, dtype=pool.dtype).to(pool.device)

    def statistics(u: Tensor, v: Tensor) -> Tensor:
        a, b = (p.new_full((len(p),), 1 / len(p)) for p in (u, v))
        matched = gelbrich(u, v, a, b)
        u, v = matched.u, matched.v
        power = one_dimensional(theta @ u.mT, theta @ v.mT, 2)
        along = power / (theta @ u.mT).var(-1)
        apart = torch.cos(u @ omega + phase).mean(0) - torch.cos(v @ omega + phase).mean(0)
        return torch.cat(
            [
                along,
                along.mean()[None],
                along[:d].mean()[None],
                apart.square().view(3, -1).mean(-1),
                power[:d].sum()[None],
            ]
        )

    rows = [statistics(u, v)]
    for _ in range(RELABELLINGS):
        order = torch.randperm(len(pool), generator=generator).to(pool.device)
        rows.append(statistics(pool[order[:n]], pool[order[n:]]))
    table = torch.stack(rows)
    largest = ((table - table.mean(0)) / table.std(0).clamp_min(1e-300)).amax(-1)
    p_value = (1 + int((largest[1:] >= largest[0]).sum())) / (1 + RELABELLINGS)
    total = table[:, -1]
    missed = float(total[0] - total[1:].mean()) + intervals.half_width(float(total[1:].std()), 0.9, RELABELLINGS - 1)
    return p_value, max(missed, 0.0)
