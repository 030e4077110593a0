"""Rows G4 of `benchmarks.ops_gpu`: tests of MMD by a thousand permutations, of labels of points and of bins.

From pooled points and labellings on the device to a p-value: what is not timed is the door, which looks at every
number on the host, and the drawing of labels, whose time stands in the notes. The gate is the estimator's own value in
float64 on the points of a labelling, which shares nothing with these sums; and where that is affordable for all
labellings, their p-value.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

import estimators as est
from benchmarks.ops_speed import Bar
from divergences.kernels import Gaussian
from estimators.ops.pairwise import triton as pairs
from estimators.ops.permute import triton
from estimators.two_sample import binned, named, permutation
from estimators.two_sample.labelling import design
from estimators.two_sample.pool import Plan, Pool

D, PERMUTATIONS = 64, 1000
BINS = 512
WRONG = 1e-3  # of the standard deviation over labellings, that a value may be off
KEPT = 10_000  # points a side for which torch keeps the kernel matrix and every labelling is taken in float64
ROWS = 1000  # of a kernel matrix that torch makes by tiles


class Size(NamedTuple):
    """Points a side, bins (0 for none), labellings of the gate, and seconds on an NVIDIA H200."""

    n: int
    bins: int
    checked: int
    bar: Bar


# n is of each side, as in G1, of whose bars those of bins are some 1.4.
SIZES = {
    "n = 10⁵, labels": Size(100_000, 0, 3, Bar(0.25, 0.15, below=True)),
    "n = 10⁵, bins": Size(100_000, BINS, 3, Bar(40e-3, 25e-3, below=True)),
    "n = 10⁶, bins": Size(1_000_000, BINS, 1, Bar(3.5, 2.5, below=True)),
}


class Problem(NamedTuple):
    """What a test begins with, and how it goes on."""

    estimator: est.MMD
    pool: Pool
    labels: Tensor  # (1 + B, U) of the units that are permuted, on the device
    seconds: float  # that drawing them took

    def plan(self) -> Plan:
        """The statistic that `two_sample_test` takes."""
        return named.resolved(self.estimator).plan(self.pool)

    def values(self) -> tuple[Tensor, float, float]:
        """Of all labellings, the p-value, and what is taken for rounding."""
        (statistic,) = self.plan().families
        found = permutation.values(statistic, self.labels, ranked=True)
        k = int(permutation.exceeding(statistic, self.labels, found).sum())
        return found, permutation.p_value(k, len(found) - 1, False), statistic.rounding

    def sums(self, precision: str) -> Any:
        """The sums over pairs alone, in one way of multiplying for distances."""
        points, terms = self.pool.points.float(), Gaussian(D**0.5).terms()
        if self.pool.bins == 0:
            return triton.label_sums(terms, points, self.labels, None, 0.37, precision)
        found = binned._bins(self.pool)
        assert not isinstance(found, str)
        return triton.bin_sums(terms, points[found.order], found.sizes, None, precision)

    def samples(self, row: int) -> tuple[Tensor, Tensor]:
        """The points of x and of y of a labelling."""
        is_x = self.labels[row].cpu()
        if len(is_x) < len(self.pool.points):
            found = binned._bins(self.pool)
            assert not isinstance(found, str)
            is_x = torch.empty(len(self.pool.points), dtype=torch.bool).scatter_(
                0, found.order, is_x.repeat_interleave(found.sizes)
            )
        side = is_x.to(self.pool.points.device)
        return self.pool.points[side], self.pool.points[~side]

    def exact(self, row: int) -> float:
        """MMD² of a labelling in float64."""
        return float(self.estimator.value(*self.samples(row)))


def problem(n: int, bins: int, device: str) -> Problem:
    """Two samples of one law, so that the p-value is any."""
    generator = torch.Generator(device).manual_seed(D)
    points = torch.randn(2 * n, D, generator=generator, device=device).double()
    keep = torch.ones(n, dtype=torch.bool)
    arranged = design(n, n, None, None, (keep, keep), torch.arange(2 * n))
    given = Problem(
        est.MMD(Gaussian(D**0.5)), Pool(points, None, n, n, arranged, torch.Generator(), [], bins), points[:0], 0.0
    )
    plan = given.plan()
    arranged = plan.design or arranged
    start = time.perf_counter()
    labels = arranged.labels(PERMUTATIONS, torch.Generator().manual_seed(0), plan.fixed, points.device)
    labels = torch.cat([arranged.observed[None].to(points.device), labels.to(points.device)])
    assert bool(labels.any())  # which waits for the device
    return given._replace(labels=labels, seconds=time.perf_counter() - start)


def by_torch(points: Tensor, labels: Tensor, rows: int) -> float:
    """A peer's p-value in float32: the kernel matrix, ``rows`` at a time, times all labels."""
    v = torch.where(labels, 1.0, -1.0).to(points.device)
    q = torch.zeros(len(v), dtype=torch.float64, device=points.device)
    for part in torch.arange(len(points), device=points.device).split(rows):
        K = (torch.cdist(points[part], points).square_() / (-2 * D)).exp_()
        q += ((v @ K.T) * v[:, part]).sum(-1, dtype=torch.float64)
    return (1 + int((q[1:] >= q[0]).sum())) / len(q)  # for n = m MMD² grows with q


def equal_p(given: Problem) -> tuple[bool, float, float]:
    """Whether the p-value is that of all values in float64, but for what is within rounding of the observed one."""
    _, p, rounding = given.values()
    exact = torch.tensor([given.exact(row) for row in range(len(given.labels))], dtype=torch.float64)
    low, high = ((1 + int((exact[1:] >= exact[0] + shift).sum())) / len(exact) for shift in (rounding, -rounding))
    return low <= p <= high, p, high - low


def rows(
    seconds: Callable[[Callable[[], Any]], float],
    row: Callable[..., dict[str, Any]],
    sizes: dict[str, Size] = SIZES,
    kept: int = KEPT,
    device: str = "cuda",
) -> Iterator[dict[str, Any]]:
    """G4, with the clock and the row of `benchmarks.ops_gpu`; other sizes on a CPU are for its test."""
    for part, size in sizes.items():
        given = problem(size.n, size.bins, device)
        values, p, _ = given.values()
        off = max(abs(float(values[k]) - given.exact(k)) for k in range(size.checked)) / float(values.std())
        gate, note = off <= WRONG, f"values {off:.0e} of their spread from float64, p = {p:.3g}"
        calls: dict[str, Callable[[], Any]] = {"ours": given.values}
        if size.bins == 0:
            calls["torch, by tiles"] = partial(by_torch, given.pool.points.float(), given.labels, ROWS)
            few = problem(kept, 0, device)
            same, p, ties = equal_p(few)
            gate = gate and same
            note += f"; n = {kept}: p = {p:.3g} {'equal' if same else 'NOT equal'} to float64's, {ties:.3g} in ties"
            calls[f"ours, n = {kept}"] = few.values
            calls[f"torch, n = {kept}"] = partial(by_torch, few.pool.points.float(), few.labels, 2 * kept)
        calls |= {f"sums in {precision}": partial(given.sums, precision) for precision in pairs.INPUT}
        times = {name: seconds(call) for name, call in calls.items()}
        note += f"; {size.bins or 'no'} bins; labels drawn in {given.seconds:.2g} s"
        yield row("G4", part, times, times["ours"], size.bar, gate, note, " s")
