"""A12: the power of learned kernels against the default test, on problems of the literature and on images."""

from __future__ import annotations

import functools
import gzip
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits

import estimators as est
from benchmarks.accuracy import SEED, Case, Figure, generator, goal, repeated
from benchmarks.accuracy.power import ALPHA, _pooled, error
from benchmarks.pages import ROOT
from benchmarks.two_sample_problems import POWER, Pair

PERMUTATIONS = 99
NETWORK = "network trained on other folds"  # the evidence that the trained witness gives alone
CONTAMINATION = 0.1
STEPS = 2500  # of the generator whose samples are tested
GREY = 16  # levels of scikit-learn's digits, to which samples are rounded


class Row(NamedTuple):
    """A problem, n for each sample, and how often it is drawn."""

    problem: Callable[..., Pair]
    n: int
    repetitions: int  # in full
    is_image: bool


ROWS = {
    title: Row(POWER[title][0], POWER[title][1], repetitions, False)
    for title, repetitions in {
        "HDGM d=10, n=2000": 40,
        "HDGM d=10, n=1000": 100,
        "Blob 3×3, n=180": 100,
        "four modes, n=500": 100,
        "perturbed uniform d=1, n=500": 100,
        "perturbed uniform d=2, n=1000": 100,
    }.items()
}


@goal("A12")
def learned(full: bool) -> Iterator[Case]:
    rows = ROWS | {
        "MNIST digits 3, 10% of y others, n=300": Row(contaminated, 300, 150, True),
        "digits 8×8, samples of a generator, n=40": Row(against_generator, 40, 200, True),
    }
    for key, (title, row) in enumerate(rows.items()):
        method = f"MMD(DeepKernel()) against auto, {PERMUTATIONS} permutations"
        yield Case(title, method, row.n, partial(compared, title, row, key, full))


def compared(title: str, row: Row, key: int, full: bool) -> Figure:
    """How often each test rejects on the same sets, and how often on a null of the same shape."""
    if row.problem is contaminated and mnist() is None:
        return Figure(0, "not measured: no MNIST in DIVERGENCE_DATA or ../shared/data", "", None)
    if row.problem is against_generator:
        samples()  # before workers are forked
    repetitions = row.repetitions if full else (10 if row.is_image else 4)
    kernels = {"crossed": est.MMD(est.DeepKernel()), "split": est.MMD(est.DeepKernel(cross_fit=False))}
    null = _pooled(row.problem)

    def one(r: int) -> list[bool]:
        pair, same = row.problem(generator(12, key, row.n, r), row.n), null(generator(13, key, row.n, r), row.n)
        found = {name: _tested(pair, r, statistic) for name, statistic in kernels.items()}
        alone = next((e.p_value for e in found["crossed"].evidence if e.statistic == NETWORK), 1.0)
        return [
            *(test.reject(ALPHA) for test in found.values()),
            alone <= ALPHA,
            _tested(pair, r, "auto").reject(ALPHA),
            *(_tested(same, r, statistic).reject(ALPHA) for statistic in kernels.values()),
        ]

    names = ("crossed", "split", "network", "auto", "level", "level_split")
    rejects = np.array(repeated(one, repetitions, title))
    values = dict(zip(names, rejects.mean(0).tolist(), strict=True))

    def shown(name: str) -> str:
        return f"{values[name]:.3f} ± {error(values[name], repetitions):.3f}"

    limit = ALPHA + 3 * error(ALPHA, repetitions)
    is_level = max(values["level"], values["level_split"]) <= limit
    return Figure(
        repetitions,
        f"power {shown('crossed')} cross-fitted (its network alone {shown('network')}), {shown('split')} split, "
        f"{shown('auto')} auto; level {shown('level')} cross-fitted, {shown('level_split')} split",
        ("above auto, " if row.is_image else "") + f"level ≤ {limit:.3f}",
        (is_level and (not row.is_image or values["crossed"] > values["auto"])) if full else None,
        values | {"gain": float((rejects[:, 0] * 1.0 - rejects[:, 3]).mean())},
    )


def _tested(pair: Pair, r: int, statistic: str | est.Estimator) -> est.TestResult:
    return est.two_sample_test(*pair, statistic=statistic, permutations=PERMUTATIONS, seed=r)


def contaminated(rng: np.random.Generator, n: int) -> Pair:
    """Two sets of threes, (n, 784), no image in both; in y each is another digit with probability 0.1."""
    found = mnist()
    assert found is not None  # asked before
    images, labels = found
    threes, others = np.flatnonzero(labels == 3), np.flatnonzero(labels != 3)
    x, y = rng.choice(threes, (2, n), replace=False)
    y = np.where(rng.uniform(size=n) < CONTAMINATION, rng.choice(others, n, replace=False), y)
    return images[x] / 255, images[y] / 255


@functools.cache
def mnist() -> tuple[np.ndarray, np.ndarray] | None:
    """The training images, (60000, 784) bytes, and labels, where they are."""
    folder = Path(os.environ.get("DIVERGENCE_DATA", ROOT.parent / "shared" / "data")) / "mnist"
    files = [folder / f"train-{name}.gz" for name in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    if not all(file.is_file() for file in files):
        return None
    images, labels = (np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8) for file in files)
    return images[16:].reshape(-1, 784), labels[8:]


def against_generator(rng: np.random.Generator, n: int) -> Pair:
    """Digits that the generator has not seen, and its samples, (n, 64)."""
    held_out, made = samples()
    return held_out[rng.choice(len(held_out), n, replace=False)], made[rng.choice(len(made), n, replace=False)]


@functools.cache
def samples() -> tuple[np.ndarray, np.ndarray]:
    """Half of scikit-learn's digits, and samples of a generator trained on the other half, in the digits' grey levels.

    Without rounding, pixels that are exactly 0 in the data and never in the samples would give them away.
    """
    import gan_zoo as zoo

    digits = np.random.default_rng(SEED).permutation(load_digits().data / GREY)
    train, held_out = digits[:897].reshape(-1, 8, 8), digits[897:]
    game = zoo.build("generator", like=train, seed=0, divergence="energy_distance", batch=256)
    zoo.train(game, train, steps=STEPS, seed=0, accelerator="cpu", progress=False)
    made = game.sample(4000, seed=1).flatten(1).numpy()
    return held_out, np.round(made * GREY) / GREY
