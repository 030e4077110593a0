"""`make bench-gpu`: the op layer on a CUDA device, G1–G5: medians in one run, behind an accuracy gate.

Times are of the device, with everything that a call does on the host; the gate is float64 on the same points. Without a
CUDA device there is nothing to measure: it says so, and writes nothing.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import statistics
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

import estimators as est
from benchmarks import neighbor_gpu, permutation_gpu, results
from benchmarks.ops_speed import Bar
from divergences.kernels import Gaussian
from estimators.ops import pairwise
from estimators.ops.pairwise import triton
from estimators.ops.sinkhorn import triton as transport
from estimators.ops.sinkhorn.points import Given
from estimators.ops.sinkhorn.semi_dual import Ascent, SemiDual

COMMAND = "make bench-gpu"
D = 64
BANDWIDTH = float(D) ** 0.5
REPEATS = 20
EXACT = 1e-6  # of each sum, against float64
ROWS = 4096  # of x that are summed in float64 where there are too many points for all
NAIVE = 30_000  # points from which a full matrix in float32 does not fit
TITLES = {
    "G1": "RBF MMD, d = 64",
    "G2": "Sinkhorn iterations, d = 64",
    "G3": "KL from nearest neighbours, d = 64",
    "G4": "permutations of MMD, d = 64",
    "G5": "extra GPU memory of an RBF MMD, d = 64",
}
# Seconds on an NVIDIA H200.
SIZES = {
    "n = 10⁵": ((100_000,), Bar(28e-3, 20e-3, below=True)),
    "n = 10⁶": ((1_000_000,), Bar(2.6, 2.0, below=True)),
    "64 problems of n = 1000": ((64, 1000), Bar(0.25e-3, 0.15e-3, below=True)),
}
SHARE = 0.01  # of the mean cost, that ε is
ACCURATE, IN_TF32 = 1e-4, 0.5  # of ε, that f may be wrong by: rounding of costs, some 200 ε, with 24 and 11 bits
# Points, iterations, precision, and seconds on an NVIDIA H200.
ITERATIONS = {
    "n = 10⁵, one, accurate": ((100_000,), 1, "accurate", Bar(28e-3, 22e-3, below=True)),
    "n = 10⁵, one, TF32": ((100_000,), 1, "tf32", Bar(16e-3, 12e-3, below=True)),
    "64 problems of n = 1000, 100": ((64, 1000), 100, "accurate", Bar(20e-3, 12e-3, below=True)),
    "64 problems of n = 1000, 100, TF32": ((64, 1000), 100, "tf32", Bar(20e-3, 12e-3, below=True)),
}


def drawn(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator("cuda").manual_seed(D)
    x, y = torch.randn(2, *shape, D, generator=generator, device="cuda")
    return x, y + 0.1


def seconds(call: Callable[[], Any]) -> float:
    """Median time of a call by the device's own clock, after two that nobody times; fewer repeats of a slow one."""
    for _ in range(2):
        call()
    times: list[float] = []
    while len(times) < REPEATS and (len(times) < 3 or sum(times) < 20):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) / 1000)
    return statistics.median(times)


def extra_memory(call: Callable[[], Any]) -> int:
    """Bytes that a call needs at once, above what was there."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def unbiased(total: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """MMD²_u of n points a side from a peer's sums over all pairs, whose diagonals are 1."""
    n = x.shape[-2]
    within = sum((total(p, p) - n) / (n * (n - 1)) for p in (x, y))
    return within - 2 * total(x, y) / n**2


def by_torch(x: Tensor, y: Tensor) -> Tensor:
    """By full matrices."""
    return (torch.cdist(x, y).square_() / (-2 * BANDWIDTH**2)).exp_().sum((-2, -1))


def by_keops(x: Tensor, y: Tensor) -> Tensor:
    """By symbolic matrices."""
    from pykeops.torch import LazyTensor

    gap = ((LazyTensor(x[..., :, None, :]) - LazyTensor(y[..., None, :, :])) ** 2).sum(-1)
    return (-gap / (2 * BANDWIDTH**2)).exp().sum(x.ndim - 1).sum((-2, -1))


def errors(x: Tensor, y: Tensor, **options: Any) -> float:
    """The largest relative error of the sums of xx, yy and xy, over `ROWS` rows, against torch in float64."""
    kernel, found = Gaussian(BANDWIDTH), []
    for a, b in ((x, x), (y, y), (x, y)):
        rows = a[..., :ROWS, :].contiguous()
        ours = triton.sums(kernel.terms(), rows, b, None, False, **options).sum(-1)
        exact = pairwise.row_sums(kernel, rows.double(), b.double(), path="tiled").sum(-1)
        found.append(float((ours / exact - 1).abs().max()))
    return max(found)


def three_sums(x: Tensor, y: Tensor, precision: str) -> list[Tensor]:
    """What an MMD takes, in one way of multiplying."""
    terms = Gaussian(BANDWIDTH).terms()
    return [triton.sums(terms, a, b, None, b is None, precision=precision) for a, b in ((x, None), (y, None), (x, y))]


def row(
    key: str, part: str, times: dict[str, float], figure: float, bar: Bar, gate: bool, note: str, unit: str
) -> dict[str, Any]:
    return {
        "key": key, "title": f"{TITLES[key]}, {part}", "seconds": times, "figure": figure, "unit": unit,
        "must": bar.must, "stretch": bar.stretch, "verdict": bar.verdict(figure) if gate else "wrong answer",
        "note": note,
    }  # fmt: skip


def mmd() -> Iterator[dict[str, Any]]:
    """G1 and G5, beside peers, and the same sums in the other ways of multiplying."""
    kernel = Gaussian(BANDWIDTH)
    estimator = est.MMD(kernel)
    for part, (shape, bar) in SIZES.items():
        x, y = drawn(*shape)
        calls: dict[str, Callable[[], Any]] = {"ours": partial(estimator.value, x, y)}
        if shape[-1] <= NAIVE:
            calls["torch"] = partial(unbiased, by_torch, x, y)
        if importlib.util.find_spec("pykeops") is not None:
            calls["KeOps"] = partial(unbiased, by_keops, x, y)
        error, value = errors(x, y), calls["ours"]()
        apart = max(float((call() - value).abs().max()) for call in calls.values())
        others = {name: partial(three_sums, x, y, name) for name in triton.INPUT}
        times = {name: seconds(call) for name, call in (calls | others).items()}
        wrong = ", ".join(f"{name} {errors(x, y, precision=name):.0e}" for name in triton.INPUT)
        path = pairwise.explain(kernel, x, y)
        note = f"{path.path}: {path.why}; sums wrong by {wrong}; peers {apart:.0e} apart"
        gate = error <= EXACT and path.path == "triton"
        yield row("G1", part, times, times["ours"], bar, gate, note, " s")
        share = extra_memory(calls["ours"]) / (x.nbytes + y.nbytes)
        yield row("G5", part, {}, share, Bar(4, 2, below=True), gate, "times the inputs", "×")


def log_sum_exp(x: Tensor, y: Tensor, h: Tensor, epsilon: float) -> Tensor:
    """A peer's f+g iteration, half of it: by symbolic matrices, with uniform weights."""
    from pykeops.torch import LazyTensor

    gap = ((LazyTensor(x[..., :, None, :]) - LazyTensor(y[..., None, :, :])) ** 2).sum(-1)
    exponent = (LazyTensor(h[..., None, :, None]) - gap) / epsilon
    return -epsilon * (exponent.logsumexp(dim=x.ndim - 1)[..., 0] - math.log(y.shape[-2]))


def by_keops_sinkhorn(x: Tensor, y: Tensor, g: Tensor, epsilon: float, iterations: int = 1) -> Tensor:
    """Plain sweeps."""
    for _ in range(iterations):
        g = log_sum_exp(y, x, log_sum_exp(x, y, g, epsilon), epsilon)
    return g


def prepared(x: Tensor, y: Tensor, precision: str) -> tuple[Ascent, Tensor]:
    """Our solver at ε = `SHARE` of the mean cost, after its first evaluation, and a goal that is never reached."""
    a, b = (torch.full(p.shape[:-1], 1 / p.shape[-2], device=p.device, dtype=torch.float64) for p in (x, y))
    epsilon = torch.full((len(x),), SHARE * 2 * D, device=x.device, dtype=torch.float64)
    by = transport._Kernels(Given(x, y, a, b, epsilon, None, 2.0), False, precision)
    dual = SemiDual(by.softmin, a, b, None, torch.finfo(x.dtype).eps, False)
    return dual.start(torch.zeros_like(a), torch.zeros_like(b), epsilon), torch.zeros_like(epsilon)


def iterated(ascent: Ascent, goal: Tensor, iterations: int) -> None:
    for _ in range(iterations):
        ascent.advance(goal)


def wrong(x: Tensor, y: Tensor, precision: str) -> float:
    """The largest error of f, of ε, given g = 0, over `ROWS` rows of the first problem, against torch in float64."""
    ascent, _ = prepared(x, y, precision)
    epsilon = float(ascent.epsilon[0])
    f = ascent.best.f[0, :ROWS]
    rows = x[0, :ROWS].double().split(256)
    exact = torch.cat([torch.logsumexp(-torch.cdist(part, y[0].double()).square() / epsilon, -1) for part in rows])
    return float((f / epsilon + exact - math.log(y.shape[-2])).abs().max())


def sinkhorn() -> Iterator[dict[str, Any]]:
    """G2: an evaluation of the dual with what L-BFGS adds to it, beside plain sweeps of KeOps."""
    for part, (shape, iterations, precision, bar) in ITERATIONS.items():
        x, y = (p.reshape(-1, *p.shape[-2:]) for p in drawn(*shape))
        calls: dict[str, Callable[[], Any]] = {"ours": partial(iterated, *prepared(x, y, precision), iterations)}
        if importlib.util.find_spec("pykeops") is not None:
            zero = torch.zeros(y.shape[:-1], device="cuda")
            calls["KeOps"] = partial(by_keops_sinkhorn, x, y, zero, SHARE * 2 * D, iterations)
        times = {name: seconds(call) for name, call in calls.items()}
        error = wrong(x, y, precision)
        limit = ACCURATE if precision == "accurate" else IN_TF32
        yield row("G2", part, times, times["ours"], bar, error <= limit, f"{precision}; f wrong by {error:.0e} ε", " s")


def device() -> dict[str, Any]:
    """The GPU, its driver, and the libraries."""
    found = torch.cuda.get_device_properties(0)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
    return {
        "gpu": found.name, "memory": found.total_memory, "multiprocessors": found.multi_processor_count,
        "capability": f"{found.major}.{found.minor}", "driver": driver[0] if driver else "unknown",
        "cuda": torch.version.cuda, "triton": importlib.metadata.version("triton"),
    }  # fmt: skip


def main() -> None:
    if not torch.cuda.is_available():
        print("no CUDA device: nothing is measured and nothing is written")
        return
    found = []
    neighbors = neighbor_gpu.rows(drawn, seconds, extra_memory, row, Bar)
    permutations = permutation_gpu.rows(seconds, row)
    for one in tqdm(chain(mmd(), sinkhorn(), neighbors, permutations), desc="ops on the GPU", delay=2):
        found.append(one)
        tqdm.write(
            f"{one['key']:4} {one['title']:65} {one['figure']:.3g}{one['unit']}  {one['verdict']}  {one['note']}"
        )
    left = [key for key in TITLES if key not in {one["key"] for one in found}]
    about = {"device": device(), "repeats": REPEATS, "not_measured": left}
    print(f"not measured yet: {', '.join(f'{key} ({TITLES[key]})' for key in left)}")
    print(f"written: {results.save('gpu', COMMAND, {**about, 'rows': found})}")


if __name__ == "__main__":
    main()
