"""Work at once on the threads that torch itself uses.

After each of its operations torch's OpenMP threads go on turning for a while, to be there for the next. Threads of
Python that start then fight with them for the cores: on two cores a third of a millisecond of work took one to three.
So the work goes to the same threads, by the runtime that torch has loaded, and to threads of Python where that has no
``GOMP_parallel`` or cannot be used.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_RUN = ctypes.CFUNCTYPE(None, ctypes.c_int64)


class _Team(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("member", "size")),
        ("run", _RUN),
        ("ended", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("is_short", ctypes.c_int32),
    )


def at_once(count: int, run: Callable[[int], None], stop: Callable[[], None], library: ctypes.CDLL | None) -> None:
    """Call ``run(worker)`` for all workers, which may wait for each other; worker 0 is the caller's own thread.

    After Ctrl-C or an exception in any of them ``stop`` is called, which must end the work of the others, and it is
    raised. ``library`` is that of `estimators.ops.native`.
    """
    failures: list[BaseException] = []
    ended = (ctypes.c_int32 * count)()

    def member(worker: int) -> None:
        try:
            if worker < 0:  # Ctrl-C came before this `try`, where ctypes prints it and goes on: it is called again
                raise KeyboardInterrupt
            run(worker)
        except BaseException as failure:  # Ctrl-C too: the others stop, and the caller gets it
            failures.append(failure)
            stop()
        ended[worker if worker >= 0 else ~worker] = 1

    if count == 1:
        run(0)
        return
    if library is None or not _by_openmp(count, member, ended, library):
        _by_threads(count, member, stop)
    if failures:
        raise failures[0]


def _by_threads(count: int, member: Callable[[int], None], stop: Callable[[], None]) -> None:
    others = [threading.Thread(target=member, args=(worker,), daemon=True) for worker in range(1, count)]
    try:
        for thread in others:
            thread.start()
        member(0)
        for thread in others:
            thread.join()
    except BaseException:
        stop()
        raise
    finally:
        for thread in others:
            if thread.ident is not None:
                thread.join()


def _by_openmp(count: int, member: Callable[[int], None], ended: Any, library: ctypes.CDLL) -> bool:
    """Whether there was a team: its size stays torch's, as threads that a smaller one lets go are made anew."""
    runtime = _runtime(os.getpid())
    if runtime is None:
        return False
    me, size = (
        ctypes.cast(getattr(runtime, f"omp_get_{name}"), ctypes.c_void_p) for name in ("thread_num", "num_threads")
    )
    team = _Team(me, size, _RUN(member), ctypes.addressof(ended), count, 0)
    runtime.GOMP_parallel(library.team_member, ctypes.byref(team), max(count, torch.get_num_threads()), 0)
    return not team.is_short


@functools.cache
def _runtime(process: int) -> Any:
    """The OpenMP runtime that torch is linked to; None where it has no ``GOMP_parallel``, or after a fork.

    The threads of a runtime do not live on in a forked process, which would wait for them for ever.
    """
    if process != _LOADED_IN:
        return None
    try:
        (torch_cpu,) = (Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*")
        found = ctypes.CDLL(str(torch_cpu))
        _ = found.GOMP_parallel, found.omp_get_thread_num, found.omp_get_num_threads
    except (OSError, ValueError, AttributeError):
        return None
    return found


_LOADED_IN = os.getpid()
