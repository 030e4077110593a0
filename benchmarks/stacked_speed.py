"""Critics trained as one stack against a loop over them: `make bench` writes the ratio and how far results differ.

Both train the same critics from the same weights on the same rows, in turn and in one run.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor
from tqdm import tqdm

import estimators as est
from benchmarks import results

COMMAND = "make bench"
CRITICS, POINTS, DIMENSION, STEPS, REPEATS = 64, 1000, 2, 300, 3


def drawn() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, CRITICS, POINTS, DIMENSION, dtype=torch.float64, generator=generator)
    return x + 1 / DIMENSION**0.5, y


def fitted(estimator: est.CriticEstimator, x: Tensor, y: Tensor, batch: int) -> est.CriticEstimator:
    return estimator.fit(x, y, steps=STEPS, batch=batch, patience=STEPS, progress=False)


def compared(estimator: type[est.CriticEstimator], batch: int) -> dict[str, float | int | str]:
    """Seconds of the loop over those of the stack, each the median, and the largest difference of a value."""
    x, y = drawn()
    seconds: dict[str, list[float]] = {"stack": [], "loop": []}
    for _ in range(REPEATS):
        start = time.perf_counter()
        stack = fitted(estimator(), x, y, batch)
        seconds["stack"].append(time.perf_counter() - start)
        start = time.perf_counter()
        loop = [fitted(estimator(), a, b, batch) for a, b in zip(x, y, strict=True)]
        seconds["loop"].append(time.perf_counter() - start)
    with torch.no_grad():
        alone = torch.stack([one.value(a, b) for one, a, b in zip(loop, x, y, strict=True)])
        apart = float((stack.value(x, y) - alone).abs().max())
    slow, fast = (statistics.median(seconds[key]) for key in ("loop", "stack"))
    return {
        "estimator": estimator.__name__,
        "batch": batch,
        "loop_seconds": slow,
        "stack_seconds": fast,
        "ratio": slow / fast,
        "largest_difference": apart,
    }


def main() -> None:
    rows = []
    for estimator, batch in tqdm([(est.Variational, 64), (est.Variational, 256), (est.DonskerVaradhan, 64)]):
        rows.append(compared(estimator, batch))
        tqdm.write(str(rows[-1]))
    about = {"critics": CRITICS, "points": POINTS, "dimension": DIMENSION, "steps": STEPS, "repeats": REPEATS}
    print(f"written: {results.save('stacked_speed', COMMAND, {**about, 'rows': rows})}")


if __name__ == "__main__":
    main()
