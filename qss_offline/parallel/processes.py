"""Work spread over processes: the same results, in order, whatever the number of workers."""

from __future__ import annotations

import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, TypeVar

from qss_offline.errors import UserError
from qss_offline.parallel.progress import Reporter, silent

A = TypeVar("A")
R = TypeVar("R")

Tick = Callable[[int], None]

GRACE_S = 3.0
"""How long workers that were asked to stop may take to their next tick."""


class _Stopped(Exception):
    """A job was asked to stop; nobody reads its result."""


def available_cores() -> int:
    """Return the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_jobs(
    function: Callable[[A, Tick], R],
    arguments: Sequence[A],
    workers: int,
    report: Reporter = silent,
) -> Iterator[tuple[int, R]]:
    """Run `function(argument, tick)` for each argument and yield `(index, result)` as they end.

    With one worker everything runs in this process, in order. With more, fresh interpreters are
    started ("spawn"), one thread each. They import `function`'s module and nothing of the
    running script. When the caller stops (Ctrl-C included) the workers end at their next tick, or
    are killed where that takes longer than a few seconds; when it is killed they end at once.

    Args:
        function: importable; calls `tick(units done so far in this job)` now and then.
        arguments: one for each job.
        workers: processes, at least 1.
        report: called with the units done in all jobs together.

    Raises:
        UserError: a worker died. Exceptions of `function` pass through.
    """
    if workers == 1 or len(arguments) == 1:
        done = [0] * len(arguments)
        for index, argument in enumerate(arguments):

            def tick(units: int, index: int = index) -> None:
                done[index] = units
                report(sum(done))

            yield index, function(argument, tick)
        return
    context = multiprocessing.get_context("spawn")
    units_done = context.RawArray(ctypes.c_int64, len(arguments))
    stop = context.RawValue(ctypes.c_bool, False)
    pool = ProcessPoolExecutor(
        min(workers, len(arguments)), context, _start_worker, (units_done, stop)
    )
    others = set(multiprocessing.active_children())
    try:
        with _one_thread_each(), _without_main(), _without_interrupts():
            waiting: dict[Future[R], int] = {
                pool.submit(_run_one, function, index, argument): index
                for index, argument in enumerate(arguments)
            }
        while waiting:
            ended, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            report(sum(units_done))
            for future in ended:
                index = waiting.pop(future)
                yield index, future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process died, for want of memory perhaps; with workers=1 none is needed"
        ) from error
    finally:
        stop.value = True
        pool.shutdown(wait=False, cancel_futures=True)
        end_workers(set(multiprocessing.active_children()) - others)


def end_workers(workers: Iterable[BaseProcess], grace_s: float = GRACE_S) -> None:
    """Wait for worker processes to end, and kill those that take longer; what they wrote is whole.

    Args:
        workers: that were asked to stop, or whose work is done.
        grace_s: how long to wait for them all.
    """
    left = list(workers)
    until = time.monotonic() + grace_s
    try:
        while left and (remaining := until - time.monotonic()) > 0:
            multiprocessing.connection.wait([worker.sentinel for worker in left], remaining)
            left = [worker for worker in left if worker.is_alive()]
    finally:
        # Nor does an interrupt while waiting leave any.
        for worker in left:
            worker.kill()


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes started inside use one thread each for their linear algebra.

    Two threads a process on busy cores spin against each other and run many times slower.
    """
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _without_main() -> Iterator[None]:
    """Keep processes started inside from importing the running script again.

    The jobs don't need it. It would import torch in every worker, and a script without
    `if __name__ == "__main__":`, or typed into a prompt, would not work at all.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _without_interrupts() -> Iterator[None]:
    """Keep Ctrl-C from processes started inside, from their first moment on.

    It reaches the whole process group, and the parent alone decides what it means: it gets what
    came meanwhile at the end.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# Set once in each worker by `_start_worker`.
_units_done: Any = None
_stop: Any = None


def _start_worker(units_done: Any, stop: Any) -> None:
    global _units_done, _stop
    _units_done, _stop = units_done, stop
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when its parent is gone, however it went (`kill -9` included)."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _run_one(function: Callable[[A, Tick], R], index: int, argument: A) -> R:
    def tick(units: int) -> None:
        _units_done[index] = units
        if _stop.value:
            raise _Stopped

    return function(argument, tick)
