"""Run a function in a process of its own; watch the time and memory of it and its children."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_INTERVAL_S = 0.1


@dataclass(frozen=True)
class Measured:
    """What a function returned and what it took.

    Attributes:
        result: what it returned.
        seconds: inside the function, without the start of its process.
        cpu_seconds: processor time likewise, its children's included; a busy machine changes it
            far less than the seconds.
        own_mib: most memory that the process and its children held themselves at one time
            (anonymous and shared memory), interpreters and libraries' data included.
        resident_mib: most memory that was resident, with what is mapped from files; the system
            takes mapped pages back when it needs them, and a page mapped twice counts twice.
    """

    result: Any
    seconds: float
    cpu_seconds: float
    own_mib: float
    resident_mib: float


def measured(function: Callable[..., Any], *arguments: Any) -> Measured:
    """Run `function(*arguments)` in a fresh process and watch it.

    Raises:
        RuntimeError: it failed.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    assert process.pid is not None
    own = resident = 0.0
    while not ours.poll(_INTERVAL_S):
        now = [_memory_mib(pid) for pid in _tree(process.pid)]
        own = max(own, sum(part for part, _ in now))
        resident = max(resident, sum(part for _, part in now))
    try:
        result, seconds, cpu_seconds = ours.recv()
    except EOFError as error:
        raise RuntimeError(f"{function.__name__} failed") from error
    finally:
        process.join()
    return Measured(result, seconds, cpu_seconds, own, resident)


def _run(answer: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    begin, cpu_begin = time.perf_counter(), _cpu_seconds()
    result = function(*arguments)
    answer.send((result, time.perf_counter() - begin, _cpu_seconds() - cpu_begin))


def _cpu_seconds() -> float:
    """Return the processor time of this process and of the children that it has waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _tree(pid: int) -> Iterator[int]:
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _tree(int(child))


def _memory_mib(pid: int) -> tuple[float, float]:
    """Return what a process holds itself and what is resident; zeros when it is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0, 0.0
    status = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    own, mapped = (
        sum(int(status[name].split()[0]) for name in names if name in status) / 1024
        for names in (("RssAnon", "RssShmem"), ("RssFile",))
    )
    return own, own + mapped
