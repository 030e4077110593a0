"""Exact values against a pass over the same memory, and batches against loops: `make bench` writes the ratios.

A row is a name, what is timed, and what it is compared with. Both are timed in turn in one run, and the ratio is of
their medians, so that a busy machine slows both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal
from tqdm import tqdm

import divergences as dv
from benchmarks import results

COMMAND = "make bench"
REPEATS = 21
PAIRS, DIMENSION, LOOP_REPEATS = 10_000, 16, 5
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


def gaussians() -> list[Row]:
    """KL and the Bures–Wasserstein distance of many pairs: one call, and a Python loop over the pairs."""
    generator = torch.Generator().manual_seed(0)
    d = DIMENSION
    A = torch.randn(2, PAIRS, d, d, dtype=torch.float64, generator=generator)
    covariances = A @ A.mT / d + 0.1 * torch.eye(d, dtype=torch.float64)
    means = torch.randn(2, PAIRS, d, dtype=torch.float64, generator=generator)

    def built(index: Any = slice(None)) -> tuple[MultivariateNormal, MultivariateNormal]:
        p, q = (MultivariateNormal(m[index], C[index]) for m, C in zip(means, covariances, strict=True))
        return p, q

    batch, single = built(), [built(i) for i in range(PAIRS)]
    found: list[Row] = []
    for name, function in {"KL": dv.kl, "W2": lambda p, q: dv.wasserstein(p, q, order=2)}.items():
        found += [
            (f"{name}, laws built before", lambda f=function: f(*batch), lambda f=function: [f(*x) for x in single]),
            (
                f"{name}, laws built inside",
                lambda f=function: f(*built()),
                lambda f=function: [f(*built(i)) for i in range(PAIRS)],
            ),
        ]
    return found


def measure(row: Row, repeats: int = REPEATS) -> dict[str, Any]:
    """Median times in milliseconds and their ratio, the two timed in turn."""
    name, *pair = row
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for call, found in zip(pair, times, strict=True):
            start = time.perf_counter()
            call()
            found.append(1e3 * (time.perf_counter() - start))
    ours, theirs = (statistics.median(found) for found in times)
    return {
        "name": name,
        "milliseconds": round(ours, 3),
        "reference": round(theirs, 3),
        "ratio": float(f"{ours / theirs:.3g}"),
    }


def main() -> None:
    found = {
        "threads": torch.get_num_threads(),
        "rows": [measure(row) for row in tqdm(rows(), desc="vectors")],
        "gaussians": [measure(row, LOOP_REPEATS) for row in tqdm(gaussians(), desc="Gaussians")],
    }
    path = results.save("exact_speed", COMMAND, found)
    for row in (*found["rows"], *found["gaussians"]):
        print(f"{row['name']:55} {row['milliseconds']:8.2f} ms {row['reference']:8.2f} ms  ×{row['ratio']:.3g}")
    print(f"written to {path}")


if __name__ == "__main__":
    main()
