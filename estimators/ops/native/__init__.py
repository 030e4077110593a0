"""The CPU library of the ops: a few C++ sources, built for each instruction set, chosen when it is loaded.

``python -m estimators.ops.native`` builds it where a C++ compiler is; without it the ops run on torch, with the same
results and more slowly. Calls release the interpreter's lock, so that threads share out the work: those of torch's own
OpenMP runtime (`team`); no second one is loaded beside it.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from estimators.ops.native import team

HERE = Path(__file__).parent
SOURCES = sorted(HERE.glob("*.cpp"))
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
BUILT = HERE / "built"
SUFFIX = {torch.float32: "f32", torch.float64: "f64"}
WORK = 4_000_000  # coordinates of pairs for which a second thread pays: about a third of a millisecond


class InstructionSet(NamedTuple):
    """What the compiler is told, and the bytes of a vector."""

    name: str
    bytes: int
    flags: tuple[str, ...]


X86 = (
    InstructionSet("AVX512", 64, ("-march=x86-64-v4",)),
    InstructionSet("AVX2", 32, ("-march=x86-64-v3",)),
)
BASELINE = InstructionSet("DEFAULT", 16, ())


def file_of(kind: InstructionSet) -> Path:
    """Where the library for an instruction set is; its name has a digest of what it is built from: none is stale."""
    parts = [repr((FLAGS, kind)).encode(), *(path.read_bytes() for path in [*SOURCES, *sorted(HERE.glob("*.h"))])]
    return BUILT / f"{kind.name.lower()}-{hashlib.sha256(b''.join(parts)).hexdigest()[:12]}.so"


class Library(NamedTuple):
    """A library that is loaded, and the instruction set that it is for."""

    c: ctypes.CDLL
    instruction_set: str

    def of(self, name: str, dtype: torch.dtype) -> Any:
        """Its function of that name for points of a dtype."""
        return getattr(self.c, f"{name}_{SUFFIX[dtype]}")


@functools.cache
def library() -> Library | None:
    """The library for the best instruction set that torch found in this CPU and that is built; None where none is."""
    usable = [*X86, BASELINE]
    names = [kind.name for kind in usable]
    best = torch.backends.cpu.get_cpu_capability()
    for kind in usable[names.index(best) if best in names else len(X86) :]:
        if file_of(kind).exists():
            loaded = Library(ctypes.CDLL(str(file_of(kind))), kind.name)
            for name, dtype in itertools.product(("width", "room"), SUFFIX):
                loaded.of(name, dtype).restype = ctypes.c_int64
            return loaded
    return None


def is_plain(*tensors: Tensor) -> bool:
    """Whether their numbers lie on the CPU, outside of the transforms of torch.func and of batched gradients."""
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    kinds = all(t.device.type == "cpu" and type(t) in (Tensor, torch.nn.Parameter) for t in tensors)
    return kinds and not any(torch._C._functorch.is_legacy_batchedtensor(t) for t in tensors)


def threads(tasks: int, work: float) -> int:
    """How many of torch's threads ``work`` coordinates of pairs are worth."""
    return max(1, min(torch.get_num_threads(), tasks, int(work / WORK)))


def together(count: int, run: Callable[[int], None], stop: Callable[[], None]) -> None:
    """Call ``run(worker)`` for all workers at once, for work in which they wait for each other.

    After Ctrl-C or an exception ``stop`` is called, which must end the waiting, and it is raised.
    """
    loaded = library()
    team.at_once(count, run, stop, loaded.c if loaded else None)


def share_out(
    tasks: int,
    count: int,
    run: Callable[[int, int], None],
    progress: Callable[[Sequence[int]], Iterable[int]] = iter,
) -> None:
    """Call ``run(worker, task)`` for all tasks, a thread a worker; each time a worker has the same tasks.

    ``progress`` is given those of the caller's own thread, and gives them back one by one. After Ctrl-C or an exception
    in any thread, no task is begun and it is raised; Ctrl-C that comes when the caller's own tasks are done waits for
    those of the others.
    """
    ended: list[bool] = []

    def work(worker: int) -> None:
        own = range(worker, tasks, count)
        for task in own if worker else progress(own):
            if ended:
                return
            run(worker, task)

    together(count, work, lambda: ended.append(True))


def hand_out(tasks: int, count: int, run: Callable[[int, int], None]) -> None:
    """As `share_out`, but a worker gets the next task when it has done one: which tasks it has is not known before.

    A thread that slept takes milliseconds to wake, and the others do not wait with its share.
    """
    left = list(reversed(range(tasks)))

    def work(worker: int) -> None:
        while left:
            try:
                task = left.pop()
            except IndexError:  # another was faster
                return
            run(worker, task)

    together(count, work, left.clear)
