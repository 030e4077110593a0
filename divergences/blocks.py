"""Large batches a block at a time: a block stays in the cache of a core, and every core takes its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")
_BYTES = 1 << 21
_PATIENCE = 3e-3  # seconds


def by_blocks(function: Callable[..., Result], *tensors: Tensor) -> list[Result]:
    """``function`` of blocks of rows of tensors of one shape, on the last axis; one block if they are small.

    Without a gradient. Torch's own threads wait for each other after every operation: best on idle cores, for they
    wait actively, and many times slower than one thread where another process has a core. So the first block that
    takes long ends this way, and the rest is shared out to threads that each keep to one core.
    """
    first = tensors[0]
    rows = max(1, _BYTES // (first.element_size() * max(1, first.shape[-1])))
    if first.device.type != "cpu" or first.shape[:-1].numel() < 4 * rows:
        return [function(*tensors)]
    flat = [x.detach().reshape(-1, x.shape[-1]) for x in tensors]
    starts = range(0, len(flat[0]), rows)

    def block(start: int) -> Result:
        return function(*(x[start : start + rows] for x in flat))

    found: list[Result] = []
    for start in starts:
        began = time.perf_counter()
        found.append(block(start))
        if time.perf_counter() - began > _PATIENCE:
            break
    return found + _shared_out(block, starts[len(found) :])


def _shared_out(block: Callable[[int], Result], starts: range) -> list[Result]:
    if not starts:
        return []
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(block, starts))
    finally:
        torch.set_num_threads(threads)  # a new thread takes the number that was set last
