"""Exact values against one pass over the same memory: ``python -m benchmarks.exact_speed`` writes the ratios.

A row is a name, what is timed, and the pass it is compared with. Both are timed in turn in one run, and the ratio is of
their medians, so that a busy machine slows both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import divergences as dv
from benchmarks import results

COMMAND = "python -m benchmarks.exact_speed"
REPEATS = 21
Row = tuple[str, Callable[[], Any], Callable[[], Any]]


def vectors(dtype: torch.dtype, batch: int = 100_000, outcomes: int = 64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.rand(batch, outcomes, dtype=dtype, generator=generator) for _ in range(2))
    return p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)


def rows() -> list[Row]:
    found: list[Row] = []
    for dtype in (torch.float64, torch.float32):
        p, q = vectors(dtype)
        passes = {"(p·q).sum(-1)": lambda p=p, q=q: (p * q).sum(-1), "p.log()": lambda p=p: p.log()}
        for function in (dv.kl, dv.js, dv.total_variation, dv.squared_hellinger):
            for name, reference in passes.items():
                label = f"{function.__name__} {str(dtype)[6:]} 100000 × 64 / {name}"
                found.append((label, lambda f=function, p=p, q=q: f(p, q), reference))
    return found


def measure(row: Row) -> dict[str, Any]:
    """Median times in milliseconds and their ratio, the two timed in turn."""
    name, *pair = row
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(REPEATS):
        for call, found in zip(pair, times, strict=True):
            start = time.perf_counter()
            call()
            found.append(1e3 * (time.perf_counter() - start))
    ours, theirs = (statistics.median(found) for found in times)
    return {
        "name": name,
        "milliseconds": round(ours, 3),
        "reference": round(theirs, 3),
        "ratio": round(ours / theirs, 3),
    }


def main() -> None:
    measured = [measure(row) for row in rows()]
    path = results.save("exact_speed", COMMAND, {"threads": torch.get_num_threads(), "rows": measured})
    for row in measured:
        print(f"{row['name']:55} {row['milliseconds']:8.2f} ms {row['reference']:8.2f} ms  ×{row['ratio']:.2f}")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
