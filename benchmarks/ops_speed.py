"""`make bench`: the op layer against its peers, S1–S14: ratios of medians in one run, behind an accuracy gate.

Ours and its peers are timed in turn on the same arrays. A row counts only where our answer and the peer's pass the
gate; it is "not measured" where no peer is installed.
"""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm import tqdm

import estimators as est
from benchmarks import neighbor_speed, permutation_speed, results, transport_speed
from divergences.kernels import Gaussian
from estimators.ops import pairwise

COMMAND = "make bench"
N, REPEATS = 20_000, 5
EXACT = 1e-6  # of each sum, S1 and S2
MEMORY = "import sys; from benchmarks.ops_speed import memory; print(memory(int(sys.argv[1])))"
TITLES = {
    "S1": "RBF MMD, n = 20,000, d = 10",
    "S2": "RBF MMD, n = 20,000, d = 64",
    "S3": "peak memory above import, n = 20,000",
    "S4": "five bandwidths against one",
    "S5": "entropic OT, n = 1000",
    "S6": "entropic OT, n = 5000",
    "S7": "Sinkhorn divergence",
    "S8": "sliced W, 10⁵ points, 100 projections",
    "S9": "W on the line, 10⁶ points",
    "S10": "exact EMD, n = 5000",
    "S11": "nearest neighbours, 10⁵ points",
    "S12": "permutations of MMD, n = 2000",
    "S13": "binned permutations",
    "S14": "64 problems in one call",
}
Call = Callable[[], Any]


class Bar(NamedTuple):
    """What a figure must reach and, where that is said, had better reach; with ``below`` it must not exceed them."""

    must: float
    stretch: float | None = None
    below: bool = False

    def verdict(self, value: float) -> str:
        """Which of the two a value reaches: stretch, must, or none, which is short."""
        sign = -1 if self.below else 1
        if self.stretch is not None and sign * value >= sign * self.stretch:
            return "stretch"
        return "must" if sign * value >= sign * self.must else "short"


def drawn(d: int, n: int = N) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(d)
    x, y = torch.randn(2, n, d, generator=generator)
    return x, y + 0.1


def seconds(calls: dict[str, Call], repeats: int = REPEATS) -> dict[str, float]:
    """Median times of the calls, taken in turn, after one of each that nobody times."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in times.items()}


Total = Callable[[Tensor, Tensor, float], float]  # Σ_ij k(a_i, b_j) for a bandwidth


def by_keops(a: Tensor, b: Tensor, bandwidth: float) -> float:
    """By symbolic matrices."""
    from pykeops.torch import LazyTensor

    gap = ((LazyTensor(a[:, None]) - LazyTensor(b[None])) ** 2).sum(-1)
    return float((-gap / (2 * bandwidth**2)).exp().sum(1).sum())


def by_scikit_learn(a: Tensor, b: Tensor, bandwidth: float) -> float:
    """By full matrices."""
    from sklearn.metrics.pairwise import rbf_kernel

    return float(rbf_kernel(a.numpy(), b.numpy(), gamma=0.5 / bandwidth**2).sum())


def unbiased(total: Total, x: Tensor, y: Tensor, bandwidth: float) -> float:
    """MMD²_u of n points a side from a peer's sums, whose diagonals are 1."""
    n = len(x)
    within = sum(total(p, p, bandwidth) - n for p in (x, y)) / (n * (n - 1))
    return within - 2 * total(x, y, bandwidth) / n**2


def row(
    key: str,
    times: dict[str, float],
    figure: float | None,
    bar: Bar,
    gate: bool,
    note: str,
    part: str = "",
    unit: str = "×",
) -> dict[str, Any]:
    verdict = "not measured" if figure is None else bar.verdict(figure) if gate else "wrong answer"
    return {
        "key": key, "title": TITLES[key] + part, "seconds": times, "figure": figure, "unit": unit,
        "must": bar.must, "stretch": bar.stretch, "verdict": verdict, "note": note,
    }  # fmt: skip


def mmd(key: str, d: int, bar: Bar) -> Iterator[dict[str, Any]]:
    """S1 against KeOps, S2 against the fastest peer."""
    (x, y), bandwidth = drawn(d), float(d) ** 0.5
    kernel = Gaussian(bandwidth)
    errors = []
    for a, b in ((x, x), (y, y), (x, y)):
        ours, exact = (
            float(pairwise.row_sums(kernel, *given, path=path).double().sum())
            for given, path in (((a, b), None), ((a.double(), b.double()), "tiled"))
        )
        errors.append(abs(ours / exact - 1))
    peers: dict[str, Total] = {"scikit-learn": by_scikit_learn}
    if importlib.util.find_spec("pykeops") is not None:
        peers["KeOps"] = by_keops
    calls: dict[str, Call] = {"ours": lambda: float(est.MMD(kernel).value(x, y))}
    calls |= {name: partial(unbiased, total, x, y, bandwidth) for name, total in peers.items()}
    apart = max(abs(call() - calls["ours"]()) for call in calls.values())
    times = seconds(calls)
    asked = [times[name] for name in peers if key == "S2" or name == "KeOps"]
    yield row(
        key, times, min(asked) / times["ours"] if "KeOps" in peers else None, bar, max(*errors, apart) <= EXACT,
        f"each sum to {max(errors):.0e}, values {apart:.0e} apart; {pairwise.explain(kernel, x, y).why}",
    )  # fmt: skip


def memory(d: int) -> float:
    """MiB that a first call takes above what importing and the samples took."""
    x, y = drawn(d)
    est.MMD(Gaussian(1.0)).value(x[:10], y[:10])  # threads and libraries that are loaded on first use
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is resident now
    before = resident("VmRSS")
    est.MMD(Gaussian(float(d) ** 0.5)).value(x, y)
    return (resident("VmHWM") - before) / 1024


def resident(line: str) -> int:
    """KiB of this process, now or at its peak."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(entry.split()[1] for entry in status if entry.startswith(line)))


def memories() -> Iterator[dict[str, Any]]:
    """S3."""
    for d in (10, 64):
        done = subprocess.run([sys.executable, "-c", MEMORY, str(d)], capture_output=True, text=True, check=True)
        yield row("S3", {}, float(done.stdout), Bar(64, 16, below=True), True, "", f", d = {d}", " MiB")


def ladders() -> Iterator[dict[str, Any]]:
    """S4: the sums of x and y with five bandwidths over those with one."""
    bars = {
        ("halving", 10): Bar(1.8, 1.5, below=True),
        ("halving", 64): Bar(1.2, 1.1, below=True),
        ("any", 10): Bar(3.1, below=True),
        ("any", 64): Bar(1.5, below=True),
    }
    for (kind, d), bar in bars.items():
        (x, y), h = drawn(d), float(d) ** 0.5
        widths = {"halving": [2 * h, h, h / 2, h / 4, h / 8], "any": [2 * h, 1.3 * h, h, 0.6 * h, 0.45 * h]}[kind]
        exact = float(pairwise.row_sums(Gaussian(widths), x.double(), y.double(), path="tiled").sum())
        error = abs(float(pairwise.row_sums(Gaussian(widths), x, y).double().sum()) / exact - 1)
        times = seconds({
            "ours": partial(pairwise.row_sums, Gaussian(widths), x, y),
            "one bandwidth": partial(pairwise.row_sums, Gaussian(h), x, y),
        }, 3 * REPEATS)  # fmt: skip
        ratio, part = times["ours"] / times["one bandwidth"], f": {kind}, d = {d}"
        yield row("S4", times, ratio, bar, error <= EXACT, f"sum to {error:.0e}", part)


def sliced() -> Iterator[dict[str, Any]]:
    """S8: the same directions for both, float64."""
    import ot

    x, y = (p.double() for p in drawn(10, 100_000))
    estimator = est.SlicedWasserstein(2, projections=100)
    theta = estimator.directions(x, None).T.numpy()
    given = x.numpy(), y.numpy()
    calls: dict[str, Call] = {
        "ours": lambda: float(estimator.value(x, y)),
        "POT": lambda: float(ot.sliced_wasserstein_distance(*given, projections=theta, p=2)),
    }
    apart = abs(calls["ours"]() / calls["POT"]() - 1)
    times = seconds(calls)
    yield row("S8", times, times["POT"] / times["ours"], Bar(50, 100), apart <= 1e-8, f"values {apart:.0e} apart")


def on_the_line() -> Iterator[dict[str, Any]]:
    """S9: W1 of a million points, with POT and with SciPy."""
    import ot
    from scipy.stats import wasserstein_distance

    x, y = (p[:, 0].double() for p in drawn(1, 1_000_000))
    estimator, given = est.EMD(order=1), (x.numpy(), y.numpy())
    peers: dict[str, tuple[Call, Bar]] = {
        "POT": (lambda: float(ot.emd2_1d(*given, metric="euclidean")), Bar(7, 15)),
        "SciPy": (lambda: float(wasserstein_distance(*given)), Bar(25, 50)),
    }
    calls: dict[str, Call] = {"ours": lambda: float(estimator.value(x[:, None], y[:, None]))}
    calls |= {name: call for name, (call, _) in peers.items()}
    values = {name: call() for name, call in calls.items()}
    times, alone = seconds(calls), seconds({"ours": calls["ours"]})["ours"]
    for name, (_, bar) in peers.items():
        apart = abs(values[name] / values["ours"] - 1)
        pair = {key: times[key] for key in ("ours", name)}
        note = f"values {apart:.0e} apart; ours without the peers in between: {alone:.2g} s"
        yield row("S9", pair, times[name] / times["ours"], bar, apart <= 1e-8, note)


# What measures which rows.
PARTS: dict[tuple[str, ...], Callable[[], Iterator[dict[str, Any]]]] = {
    ("S1",): lambda: mmd("S1", 10, Bar(20, 35)),
    ("S2",): lambda: mmd("S2", 64, Bar(10, 20)),
    ("S3",): memories,
    ("S4",): ladders,
    ("S5", "S6", "S7", "S10", "S14"): lambda: transport_speed.rows(seconds, row, Bar),
    ("S8",): sliced,
    ("S9",): on_the_line,
    ("S11",): lambda: neighbor_speed.rows(seconds, row, Bar),
    ("S12", "S13"): lambda: permutation_speed.rows(seconds, row, Bar),
}


def _kept() -> list[dict[str, Any]]:
    """The rows on file, where they are of this machine and this torch."""
    stored, machine = results.read("speed"), results.machine()
    same = stored is not None and all(stored["machine"][name] == machine[name] for name in ("processor", "cores"))
    if stored is None or not same or stored["machine"]["versions"]["torch"] != machine["versions"]["torch"]:
        raise SystemExit("the rows on file are of another machine or torch: measure all of them")
    return stored["rows"]


def main(asked: Sequence[str]) -> None:
    """All rows, or those that are asked for; the others then stay as they were measured on the same hardware."""
    unknown = set(asked) - set(TITLES)
    if unknown:
        raise SystemExit(f"rows are {', '.join(TITLES)}: got {', '.join(sorted(unknown))}")
    parts = {keys: measure for keys, measure in PARTS.items() if not asked or set(keys) & set(asked)}
    anew = {key for keys in parts for key in keys}
    kept = _kept() if asked else []
    found = [one for one in kept if one["key"] not in anew]
    for measure in tqdm(parts.values(), desc="ops", delay=2):
        for one in measure():
            found.append(one)
            figure = "–" if one["figure"] is None else f"{one['figure']:.3g}{one['unit']}"
            tqdm.write(f"{one['key']:4} {one['title']:55} {figure}  {one['verdict']}  {one['note']}")
    found.sort(key=lambda one: list(TITLES).index(one["key"]))
    left = [key for key in TITLES if key not in {one["key"] for one in found}]
    about = {"threads": torch.get_num_threads(), "points": N, "repeats": REPEATS, "not_measured": left}
    print(f"written: {results.save('speed', COMMAND, {**about, 'rows': found})}")


if __name__ == "__main__":
    main(sys.argv[1:])
