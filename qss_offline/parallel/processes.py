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
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, Protocol, TypeAlias, TypeVar

from qss_offline.errors import UserError
from qss_offline.parallel.gathering import Gathered
from qss_offline.parallel.progress import Reporter, silent

A = TypeVar("A")
R = TypeVar("R")

GRACE_S = 3.0
"""How long workers that were asked to stop may take to their next tick."""

_TEXT_BYTES = 120
"""What a worker may say of what it is doing."""


class Tick(Protocol):
    """Takes how much of a job is done, and what it is doing."""

    def __call__(self, units: float, /, phase: str = "", note: str = "") -> None:
        """Take note.

        Args:
            units: done so far; what a job that goes on calls first says what was done before.
            phase: what it is doing: "inverse round 2 of 3".
            note: how it does: "return 812 (recorded 5)".
        """


Watch: TypeAlias = Callable[[Sequence[float], Sequence[str], Sequence[bool]], None]
"""Takes of each job the units done, below 0 where it hasn't begun, what it is doing, and whether it
has ended."""


class WorkerDied(UserError):
    """A process that worked died.

    Args:
        message: one line.
        at_work: the jobs that had begun and not ended, that of the process among them.
    """

    def __init__(self, message: str, at_work: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.at_work = tuple(at_work)


class _Stopped(BaseException):
    """A job was asked to stop; nobody reads its result, and nothing catches it for a fault."""


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
    *,
    watch: Watch | None = None,
    after: Sequence[Sequence[int]] | None = None,
    skip: Container[int] = (),
    scarce: Container[int] = (),
    at_once: int = 1,
    apart: bool = False,
) -> Iterator[tuple[int, R]]:
    """Run `function(argument, tick)` for each argument and yield `(index, result)` as they end.

    With one worker everything runs in this process, in order. With more, fresh interpreters are
    started ("spawn"), one thread each. They import `function`'s module and nothing of the
    running script. When the caller stops (Ctrl-C included) the workers end at their next tick, or
    are killed where that takes longer than a few seconds; when it is killed they end at once.

    Args:
        function: importable; calls `tick(units done so far in this job, phase, note)` now and then.
        arguments: one for each job.
        workers: processes, at least 1.
        report: called with the units done in all jobs together, and what the slowest is doing.
        watch: called with what each job tells, instead of `report`.
        after: of each job, those that must have ended before it begins; no circle among them.
        skip: those that aren't begun any more; it may grow while jobs run.
        scarce: those of which few run at a time.
        at_once: how few.
        apart: start a process for a single job, too, which may end it.

    Raises:
        WorkerDied: a worker died. Exceptions of `function` pass through.
    """
    count = len(arguments)
    here = min(workers, count) <= 1 and not apart
    workers = max(1, min(workers, count))
    show, ended = watch or Gathered(None, workers, report).show, [False] * count
    left = list(range(count))
    waiting: dict[Future[R], int] = {}

    def ready() -> list[int]:
        found = [i for i in wanted() if after is None or all(ended[other] for other in after[i])]
        if here:
            return found[:1]
        free = at_once - sum(index in scarce for index in waiting.values())
        held = [index for index in found if index in scarce][max(0, free) :]
        return [index for index in found if index not in held]

    def wanted() -> list[int]:
        return [i for i in left if i not in skip]

    if here:
        told, texts = [-1.0] * count, [""] * count
        while wanted():
            (index,) = ready()
            left.remove(index)

            def tick(units: float, phase: str = "", note: str = "", index: int = index) -> None:
                told[index], texts[index] = units, _text(phase, note)
                show(told, texts, ended)

            result = function(arguments[index], tick)
            ended[index] = True
            show(told, texts, ended)
            yield index, result
        return
    context = multiprocessing.get_context("spawn")
    shared = context.RawArray(_Told, [(-1.0,)] * count)
    stop = context.RawValue(ctypes.c_bool, False)
    pool = ProcessPoolExecutor(workers, context, _start_worker, (shared, stop))
    others = set(multiprocessing.active_children())
    try:
        while wanted() or waiting:
            with _one_thread_each(), _without_main(), _without_interrupts():
                # No more than are at work, so that whatever becomes ready keeps its place.
                for index in ready()[: workers - len(waiting)]:
                    left.remove(index)
                    waiting[pool.submit(_run_one, function, index, arguments[index])] = index
            done, _ = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            broken = [f for f in done if isinstance(f.exception(), BrokenProcessPool)]
            whole = [future for future in done if future not in broken]
            for future in whole:
                ended[waiting[future]] = True
            units, texts = [one.units for one in shared], [one.text() for one in shared]
            show(units, texts, ended)
            # What ended just before another died isn't lost with it.
            for future in (*whole, *broken):
                yield waiting.pop(future), future.result()
    except BrokenProcessPool as error:
        raise WorkerDied(
            "a worker process died, for want of memory perhaps; with workers=1 none is needed",
            [index for index in range(count) if index not in left and not ended[index]],
        ) from error
    finally:
        stop.value = True
        # A thread of the pool that outlives this call may fail beside the end of the interpreter.
        closing = threading.Thread(target=pool.shutdown, kwargs={"cancel_futures": True})
        closing.start()
        try:
            end_workers(set(multiprocessing.active_children()) - others)
        finally:
            closing.join()


def _text(phase: str, note: str) -> str:
    return ", ".join(part for part in (phase, note) if part)


class _Told(ctypes.Structure):
    """What a worker tells of its job, in memory that it shares with its parent.

    Nothing is locked: a text that is read while it is written is wrong for a fifth of a second.
    """

    _fields_ = (
        ("units", ctypes.c_double),
        ("length", ctypes.c_uint8),
        ("encoded", ctypes.c_ubyte * _TEXT_BYTES),
    )
    units: float
    length: int
    encoded: ctypes.Array[ctypes.c_ubyte]

    def tell(self, units: float, text: str) -> None:
        """Take note; what is too long of a text is left out."""
        written = text.encode()[:_TEXT_BYTES]
        self.length = 0
        ctypes.memmove(self.encoded, written, len(written))
        self.length = len(written)
        self.units = units

    def text(self) -> str:
        """Return the text as it stands there."""
        return bytes(self.encoded[: self.length]).decode(errors="replace")


def end_workers(workers: Iterable[BaseProcess]) -> None:
    """Wait for worker processes to end, and kill those that take longer; what they wrote is whole.

    Args:
        workers: that were asked to stop, or whose work is done.
    """
    left = list(workers)
    until = time.monotonic() + GRACE_S
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
_shared: Any = None
_stop: Any = None


def _start_worker(shared: Any, stop: Any) -> None:
    global _shared, _stop
    _shared, _stop = shared, stop
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when its parent is gone, however it went (`kill -9` included)."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _run_one(function: Callable[[A, Tick], R], index: int, argument: A) -> R:
    def tick(units: float, phase: str = "", note: str = "") -> None:
        _shared[index].tell(units, _text(phase, note))
        if _stop.value:
            raise _Stopped

    return function(argument, tick)
