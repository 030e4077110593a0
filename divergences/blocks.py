"""Large batches a block at a time: a block stays in the cache of a core, and every core takes its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")
_BYTES = 1 << 21


def by_blocks(function: Callable[..., Result], *tensors: Tensor) -> list[Result]:
    """``function`` of blocks of rows of tensors of one shape, on the last axis; one block if they are small.

    Without a gradient, on as many threads as torch has. Each of them keeps to one core: torch's own threads would wait
    for each other after every operation.
    """
    first = tensors[0]
    rows = max(1, _BYTES // (first.element_size() * max(1, first.shape[-1])))
    if first.device.type != "cpu" or first.shape[:-1].numel() < 4 * rows:
        return [function(*tensors)]
    flat = [x.detach().reshape(-1, x.shape[-1]) for x in tensors]
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            starts = range(0, len(flat[0]), rows)
            return list(pool.map(lambda start: function(*(x[start : start + rows] for x in flat)), starts))
    finally:
        torch.set_num_threads(threads)
