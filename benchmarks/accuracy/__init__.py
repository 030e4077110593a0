"""`make accuracy`: estimates and tests on problems with known truth, each against its bar.

A goal (A1, A2, …) is a function decorated with `@goal`, which yields what is to be measured, a `Case` for each row of
the table. Measuring one gives its figure, its bar and whether it is met. `--full` is the number of repetitions that the
bar asks for; without it, minutes.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

TITLES = {
    "A1": "level of every named test where P = Q",
    "A2": "power of the default test: high-dimensional Gaussian mixtures",
    "A3": "power of the default test: Blob",
    "A4": "power of the default test: four modes",
    "A5": "power of the default test: perturbed uniform; its time",
    "A6": "KL: root mean squared error over the floor",
    "A7": "KL that no sample can show: is it said, does the lower limit hold",
    "A8": "95% intervals: coverage and width",
    "A9": "W1 by proven critics, 2 to 128 dimensions: error and lower limit",
    "A10": "W₂² in ten dimensions: bias and error",
    "A11": "MMD² and energy distance: bias and variance estimate",
    "A12": "power of learned kernels: A2–A5's problems, digits 3 with 10% others, digits and our generators' samples",
    "A13": "bounds by critics: is the optimum reached",
    "A14": "bounds by critics: the lower limit over 200 runs",
}
GOALS: dict[str, Callable[[bool], Iterator[Case]]] = {}
SEED = 20261121  # of every draw; the seeds of development were others
PROCESSES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Figure:
    """What was measured. ``figure`` and ``bar`` are for people, ``values`` has the numbers behind the figure."""

    repetitions: int
    figure: str
    bar: str
    met: bool | None  # None: too few repetitions to say
    values: dict[str, float] = field(default_factory=dict)


class Case(NamedTuple):
    """One row of the table, and how to measure it."""

    problem: str
    method: str
    n: int
    measure: Callable[[], Figure]


def goal(name: str) -> Callable[[Callable[[bool], Iterator[Case]]], Callable[[bool], Iterator[Case]]]:
    """Register a function of ``full`` as the cases of a goal."""

    def register(cases: Callable[[bool], Iterator[Case]]) -> Callable[[bool], Iterator[Case]]:
        GOALS[name] = cases
        return cases

    return register


def generator(*key: int) -> np.random.Generator:
    """The random numbers of one repetition, a function of ``key`` alone."""
    return np.random.default_rng([SEED, *key])


def repeated(function: Callable[[int], Any], repetitions: int, title: str) -> list[Any]:
    """``function(r)`` for r = 0 … repetitions − 1, on every core; it must be a function of r alone."""
    bar = tqdm(total=repetitions, desc=title, delay=2, leave=False)
    if PROCESSES == 1:
        found = []
        for r in range(repetitions):
            found.append(function(r))
            bar.update()
        return found
    context = multiprocessing.get_context("fork")
    global _function
    _function = function  # a forked worker has it, closures included
    found = []
    with context.Pool(PROCESSES, initializer=_one_thread) as pool:
        for value in pool.imap(_call, range(repetitions), chunksize=max(1, min(20, repetitions // (8 * PROCESSES)))):
            found.append(value)
            bar.update()
    bar.close()
    return found


_function: Callable[[int], Any] | None = None


def _call(r: int) -> Any:
    assert _function is not None
    return _function(r)


def _one_thread() -> None:
    """A worker has one core: threads of BLAS and of boosted trees beyond that only wait for each other."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)
    threadpool_limits(1)
