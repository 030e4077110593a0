"""`make bench`: steps of training by a loss over pairs of points, before and after the CPU library.

A step is a loss of minibatches and its gradient in the points that a network made. "Before" is the same estimator where
the library is not built, and so on torch; both are timed in turn, and count only where value and gradient agree.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor
from tqdm import tqdm

import estimators as est
from benchmarks import results
from benchmarks.ops_speed import resident
from divergences.kernels import InverseMultiquadric
from estimators.ops import native

COMMAND = "make bench"
SIZES = (100, 256, 1000, 4096)
REPEATS, ENOUGH = 41, 5.0  # of each; at least three, and fewer after so many seconds
MEMORY = "import sys; from benchmarks.training_steps import memory; print(memory(*sys.argv[1:]))"
# Of value and gradient, before against after: rounding in single precision; what is left to marginals right to 5e-4.
ROUNDING, SOLVER = 1e-4, 1e-2
SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


def wae_mmd() -> est.MMD:
    """Seven inverse multiquadrics, as `gan_zoo` has them for a normal prior in 64 dimensions."""
    return est.MMD(7.0 * InverseMultiquadric([2 * 64 * s for s in SCALES]))


class Case(NamedTuple):
    """A loss, the coordinates of its points, and how near values and gradients must be."""

    title: str
    loss: Callable[[], est.Estimator]
    d: int
    tolerance: float


CASES = {
    "wae_mmd": Case("WAE-MMD, seven inverse multiquadrics, d = 64", wae_mmd, 64, ROUNDING),
    "mmd": Case("MMD, Gaussian at the median distance, d = 64", est.MMD, 64, ROUNDING),
    "sinkhorn_2": Case("Sinkhorn divergence, d = 2", lambda: est.Sinkhorn(2), 2, SOLVER),
    "sinkhorn_64": Case("Sinkhorn divergence, d = 64", lambda: est.Sinkhorn(2), 64, SOLVER),
}


def drawn(n: int, d: int) -> tuple[Tensor, Tensor]:
    """Targets, and points that are still to be moved to them."""
    x, y = torch.randn(2, n, d, generator=torch.Generator().manual_seed(n))
    return x, 0.5 * y + 0.3


def step(loss: est.Estimator, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The loss and its gradient in y."""
    y = y.detach().requires_grad_()
    value = loss(x, y)
    (slope,) = torch.autograd.grad(value, y)
    return value.detach(), slope


@contextmanager
def way(name: str) -> Iterator[None]:
    """Without the library for "before"."""
    if name == "after":
        yield
        return
    with mock.patch.object(native, "library", lambda: None):
        yield


def measured(case: Case, n: int, repeats: int = REPEATS) -> dict[str, Any]:
    """One size of a case: median seconds of both ways in turn, and how far apart they are."""
    loss, (x, y) = case.loss(), drawn(n, case.d)
    answers, times = {}, {}
    for name in ("before", "after"):
        with way(name):
            answers[name], times[name] = step(loss, x, y), []
    while len(times["after"]) < min(3, repeats) or (
        len(times["after"]) < repeats and sum(map(sum, times.values())) < ENOUGH
    ):
        for name, found in times.items():
            with way(name):
                start = time.perf_counter()
                step(loss, x, y)
                found.append(time.perf_counter() - start)
    (u, g), (v, h) = answers["before"], answers["after"]
    apart = float((u - v).abs() / u.abs()), float((g - h).norm() / g.norm())
    seconds = {name: statistics.median(found) for name, found in times.items()}
    return {
        "n": n, "seconds": seconds, "ratio": seconds["before"] / seconds["after"], "values_apart": apart[0],
        "gradients_apart": apart[1], "agree": max(apart) <= case.tolerance,
    }  # fmt: skip


def memory(name: str, n: str, how: str) -> float:
    """MiB that a first step takes above what importing and the samples took; for a process of its own."""
    case = CASES[name]
    loss, (x, y) = case.loss(), drawn(int(n), case.d)
    with way(how):
        step(loss, x[:20], y[:20])  # threads and libraries that are loaded on first use
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak starts anew from what is resident now
        before = resident("VmRSS")
        step(loss, x, y)
    return (resident("VmHWM") - before) / 1024


def peak(name: str, n: int, how: str) -> float:
    """`memory`, by a new process."""
    command = [sys.executable, "-c", MEMORY, name, str(n), how]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure(sizes: Sequence[int] = SIZES, repeats: int = REPEATS) -> Iterator[dict[str, Any]]:
    """Each case at each size, and the memory of a step at the largest."""
    for name, case in CASES.items():
        rows = []
        for n in tqdm(sizes, desc=name, delay=2, leave=False):
            rows.append(measured(case, n, repeats))
        mib = {how: peak(name, sizes[-1], how) for how in ("before", "after")}
        yield {"name": name, "title": case.title, "tolerance": case.tolerance, "rows": rows, "mib": mib}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_steps", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a trial with few points, which is printed and not kept")
    tiny = parser.parse_args().tiny
    if native.library() is None:
        print("the library is not built: there is no before and after, and nothing is written")
        return
    found = []
    for case in measure((50, 100), 3) if tiny else measure():
        found.append(case)
        for row in case["rows"]:
            before, after = (1e3 * row["seconds"][name] for name in ("before", "after"))
            verdict = "" if row["agree"] else "  NOT EQUAL"
            apart = f"{row['values_apart']:.0e}, {row['gradients_apart']:.0e}"
            print(
                f"{case['name']:12} n = {row['n']:5} {before:8.2f} ms before {after:8.2f} ms after "
                f"{row['ratio']:6.2f}×  apart {apart}{verdict}"
            )
        print(f"{case['name']:12} MiB {case['mib']}")
    about = {"threads": torch.get_num_threads(), "repeats": REPEATS}
    if not tiny:
        print(f"written: {results.save('training_steps', COMMAND, {**about, 'cases': found})}")


if __name__ == "__main__":
    main()
