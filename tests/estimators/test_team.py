"""Threads that share out work, on torch's OpenMP runtime or of Python."""

import os
import subprocess
import sys
import threading
import time

import pytest
import torch

from estimators.ops import native
from estimators.ops.native import team


@pytest.fixture(params=["OpenMP", "Python"], autouse=True)
def way(request, monkeypatch):
    if request.param == "Python":
        monkeypatch.setattr(team, "_runtime", lambda process: None)
    elif native.library() is None or team._runtime(os.getpid()) is None:
        pytest.skip("no library, or torch has no GOMP_parallel")
    return request.param


def test_each_task_is_done_once_by_its_worker_and_the_first_worker_is_the_caller():
    done = []
    native.share_out(10, 3, lambda worker, task: done.append((task, worker, threading.get_ident())))
    assert sorted(pair[:2] for pair in done) == [(task, task % 3) for task in range(10)]
    assert {thread for _, worker, thread in done if worker == 0} == {threading.get_ident()}


@pytest.mark.parametrize("count", [2, 5])
def test_workers_may_wait_for_each_other(count):
    barrier = threading.Barrier(count)
    native.together(count, lambda worker: barrier.wait(20), barrier.abort)


@pytest.mark.parametrize("worker", [0, 1])
def test_a_failure_in_a_thread_stops_the_others_and_is_raised(worker):
    done = []

    def run(own, task):
        if task == 2 + worker:
            raise KeyboardInterrupt
        time.sleep(0.01)
        done.append(task)

    with pytest.raises(KeyboardInterrupt):
        native.share_out(1000, 2, run)
    assert len(done) < 20


def test_each_task_that_is_handed_out_is_done_once():
    done = []
    native.hand_out(200, 3, lambda worker, task: done.append((task, worker)))
    assert sorted(task for task, _ in done) == list(range(200)) and {worker for _, worker in done} <= {0, 1, 2}
    with pytest.raises(ZeroDivisionError):
        native.hand_out(200, 2, lambda worker, task: 1 / (task - 5))


def test_work_may_be_shared_out_within_a_share():
    done = []

    def outer(_, task):
        native.share_out(2, 2, lambda _, inner: done.append((task, inner)))

    native.share_out(2, 2, outer)
    assert sorted(done) == [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_torch_keeps_its_threads():
    """Its operations in a worker must not start teams of their own, nor change the team of those behind."""
    x = torch.arange(200_000.0)
    sums = torch.zeros(2, dtype=torch.float64)

    def run(_, task):
        sums[task] = x.double().mul(task + 1).sum()

    before = torch.get_num_threads()
    native.share_out(2, 2, run)
    assert sums.tolist() == [19_999_900_000.0, 39_999_800_000.0]
    assert torch.get_num_threads() == before


INTERRUPTED = """
import random, signal, sys, time
import torch
from estimators.ops import native
from estimators.ops.native import team

def interrupt(*_):
    raise KeyboardInterrupt

if sys.argv[1] == "Python":
    team._runtime = lambda process: None
signal.signal(signal.SIGALRM, interrupt)
sys.unraisablehook = lambda _: None  # ctypes says that an interrupt came where it cannot raise
random.seed(0)
torch.set_num_threads(2)

def once():
    # Whether the call returned, and whether all was done then.
    done, here, stopped = [], [False, False], []

    def run(worker):
        here[worker] = True
        while not (all(here) or stopped):  # for ever, if the other does not come and this one is not let go
            time.sleep(0)
        if not stopped:
            done.append(worker)

    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, 4e-4))
        native.together(2, run, lambda: stopped.append(True))
        signal.setitimer(signal.ITIMER_REAL, 0)
    except (KeyboardInterrupt, RuntimeError):  # the latter by Python's own threads, interrupted as they start
        signal.setitimer(signal.ITIMER_REAL, 0)
        return False, False
    return True, sorted(done) == [0, 1]

raised, incomplete, end = 0, 0, time.monotonic() + 2
while time.monotonic() < end:
    returned, complete = once()
    raised += not returned
    incomplete += returned and not complete
print(raised, incomplete)
"""


def test_an_interrupt_at_any_moment_ends_the_call_or_is_raised(way):
    """Neither a call that returns with work undone, nor one that waits for ever."""
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, way], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    raised, incomplete = map(int, done.stdout.split())
    assert raised > 20 and incomplete == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_does_not_wait_for_threads_that_it_does_not_have():
    native.share_out(2, 2, lambda worker, task: None)
    child = os.fork()
    if child == 0:
        done = []
        native.share_out(2, 2, lambda worker, task: done.append(task))
        os._exit(0 if sorted(done) == [0, 1] else 1)
    for _ in range(200):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.1)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
        pytest.fail("the child still waits after 20 s")
    assert os.waitstatus_to_exitcode(status) == 0
