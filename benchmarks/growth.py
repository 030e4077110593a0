"""`make bench`: how the time of the ops and of their peers grows with the points, and with the problems of a batch.

At each size all methods are timed in turn on the same arrays. A curve ends where the next call would take longer than
`SECONDS` or more than `BYTES`, and goes no further; a point counts only where its answer is that of ours within the
tolerance of the family. ``--draw`` draws the pictures from the result.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks import growth_pictures, results
from benchmarks.growth_families import BATCHES, FAMILIES, Family, Method, absent

COMMAND = "make bench"
SIZES = (1000, 3162, 10_000, 31_623, 100_000, 316_228, 1_000_000)
PROBLEMS = (1, 4, 16, 64, 256, 1024)
SECONDS, BYTES = 20.0, 12e9  # of a call
REPEATS, ENOUGH = 5, 1.0  # calls that are timed, and seconds after which there are no more
LONG = 5.0  # seconds of a call that is not repeated


class Curve:
    """What is found of a method, as the sizes grow."""

    def __init__(self, method: Method, family: Family) -> None:
        self.method, self.order = method, family.order
        self.sizes: list[int] = []  # that were run, right or wrong
        self.seconds: list[float] = []
        self.apart: list[float] = []
        self.end = ""

    def expected(self, size: int) -> float:
        """Seconds at a size: as they grew last, and at least with the family's order."""
        if not self.sizes:
            return 0.0
        order = self.order
        if len(self.sizes) > 1:
            grown = math.log(self.seconds[-1] / self.seconds[-2]) / math.log(self.sizes[-1] / self.sizes[-2])
            order = max(order, grown)
        return self.seconds[-1] * (size / self.sizes[-1]) ** order

    def goes_on(self, size: int, limit: float) -> bool:
        """Whether the size is tried; if not, why is kept, and no later one is."""
        held, seconds = self.method.bytes(size), self.expected(size)
        if not self.end and held > BYTES:
            self.end = f"{held / 1e9:.0f} GB estimated at {size}"
        if not self.end and seconds > limit:
            self.end = f"{seconds:.3g} s expected at {size}"
        return not self.end

    def found(self, tolerance: float) -> dict[str, Any]:
        """Its points, what was left out, and why it ended."""
        right = [k for k, apart in enumerate(self.apart) if apart <= tolerance]
        wrong = [k for k in range(len(self.sizes)) if k not in right]
        return {
            "name": self.method.name,
            "sizes": [self.sizes[k] for k in right],
            "seconds": [_rounded(self.seconds[k]) for k in right],
            "apart": _rounded(max((self.apart[k] for k in right), default=0.0)),
            "left_out": [{"size": self.sizes[k], "apart": str(_rounded(self.apart[k]))} for k in wrong],
            "end": self.end,
        }


def measured(family: Family, sizes: Sequence[int], limit: float = SECONDS) -> dict[str, Any]:
    """All curves of a family."""
    curves = [Curve(method, family) for method in family.methods if method.here()]
    for size in tqdm(sizes, desc=family.key, delay=2, leave=False):
        alive = [curve for curve in curves if curve.goes_on(size, limit)]
        if not alive or alive[0] is not curves[0]:  # without ours there is nothing to hold a peer against
            for curve in alive:
                curve.end = f"no answer of ours at {size}"
            break
        at(size, alive, family.drawn(size))
    return {
        "key": family.key, "title": family.title, "size": family.size, "tolerance": family.tolerance,
        "curves": [curve.found(family.tolerance) for curve in curves],
    }  # fmt: skip


def at(size: int, curves: list[Curve], given: tuple[Any, ...]) -> None:
    """Time the curves at a size: one call each for its answer, and more in turn where that was not long."""
    truth, times, calls = None, {}, {}
    for curve in curves:
        try:
            call = curve.method.prepared(*given)
            answer, seconds = timed(call)
        except Exception as error:  # of a peer: the others are still to be timed
            if curve is curves[0]:
                raise
            curve.end = f"{type(error).__name__} at {size}: {str(error)[:80]}"
            continue
        answer = np.asarray(answer, dtype=float)
        truth = answer if truth is None else truth
        curve.apart.append(float(np.abs(answer - truth).max() / np.abs(truth).max()))
        times[curve], calls[curve] = ([seconds] if seconds > LONG else []), call
    for _ in range(REPEATS):
        for curve, call in calls.items():
            if sum(times[curve]) < ENOUGH:
                times[curve].append(timed(call)[1])
    for curve, found in times.items():
        curve.sizes.append(size)
        curve.seconds.append(float(np.median(found)))


def timed(call: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    answer = call()
    return answer, time.perf_counter() - start


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def measure(
    sizes: Sequence[int] = SIZES, problems: Sequence[int] = PROBLEMS, limit: float = SECONDS
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The families of the op layer by their points, and those of batches by their problems."""
    for name, families, grown in (("families", FAMILIES, sizes), ("batches", BATCHES, problems)):
        for family in tqdm(families, desc=name, delay=2):
            yield name, measured(family, grown, limit)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--draw", action="store_true", help="draw the pictures from the result, and measure nothing")
    parser.add_argument("--tiny", action="store_true", help="a trial with few points, which is printed and not kept")
    given = parser.parse_args()
    if given.draw:
        print(f"written: {', '.join(map(str, growth_pictures.kept()))}")
        return
    found: dict[str, Any] = {"families": [], "batches": []}
    for name, one in measure((100, 300), (1, 2)) if given.tiny else measure():
        found[name].append(one)
        for curve in one["curves"]:
            line = ", ".join(f"{s}: {t:.2g} s" for s, t in zip(curve["sizes"], curve["seconds"], strict=True))
            left = "; ".join(f"left out at {row['size']}, {row['apart']} apart" for row in curve["left_out"])
            tqdm.write(f"{one['key']:11} {curve['name']:20} {line}  {left}  {curve['end']}")
    found["absent"] = list(absent(FAMILIES + BATCHES))
    found |= {"threads": torch.get_num_threads(), "limits": {"seconds": SECONDS, "bytes": BYTES}, "repeats": REPEATS}
    if not given.tiny:
        print(f"written: {results.save('growth', COMMAND, found)}; drawn by `python -m benchmarks.growth --draw`")


if __name__ == "__main__":
    main()
