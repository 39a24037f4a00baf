"""Progress that suits who is watching: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from qss_offline.parallel.quiet import is_quiet


class Reporter(Protocol):
    """Takes the number of units done so far, and an optional note shown beside them."""

    def __call__(self, completed: int, note: str = "") -> None:
        """Show that `completed` units are done."""


def silent(completed: int, note: str = "") -> None:
    """Show nothing."""


def _seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


class _Lines:
    """A line at the start, at most one every `interval_s` seconds, and one at the end."""

    def __init__(self, title: str, total: int, unit: str, file: TextIO, interval_s: float) -> None:
        self._title, self._total, self._unit, self._file = title, total, unit, file
        self._interval_s = interval_s
        self._begin = self._printed = time.monotonic()
        self._first: int | None = None
        self._last = -1

    def __call__(self, completed: int, note: str = "") -> None:
        now = time.monotonic()
        ended, soon = completed >= self._total, now - self._printed < self._interval_s
        if self._first is None:
            self._first = completed
        elif (ended and completed == self._last) or (soon and not ended):
            return
        self._last = completed
        self._printed = now
        elapsed = now - self._begin
        rate = (completed - self._first) / elapsed if elapsed > 0 else 0.0
        left = (self._total - completed) / rate if rate > 0 else None
        parts = [f"{self._title}: {completed:,}/{self._total:,} {self._unit}"]
        if rate > 0:
            parts.append(f"{rate:,.0f} {self._unit}/s")
        if left is not None:
            parts.append(f"{_seconds(left)} left")
        if note:
            parts.append(note)
        print(", ".join(parts), file=self._file, flush=True)


@contextmanager
def progress(
    title: str, total: int, unit: str, file: TextIO | None = None, interval_s: float = 10.0
) -> Iterator[Reporter]:
    """Yield a reporter for `total` units of work.

    On a terminal it draws a bar with the rate and the time left; elsewhere it prints plain
    lines, at most one every `interval_s` seconds.
    """
    if is_quiet():
        yield silent
        return
    stream = sys.stderr if file is None else file
    if not stream.isatty():
        yield _Lines(title, total, unit, stream, interval_s)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}  {task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(file=stream)) as bars:
        task = bars.add_task(title, total=total, unit=unit, rate="", note="")
        begin, first = time.monotonic(), None

        def report(completed: int, note: str = "") -> None:
            nonlocal first
            first = completed if first is None else first
            elapsed = time.monotonic() - begin
            rate = f"{(completed - first) / elapsed:,.0f}/s" if elapsed > 0 else ""
            bars.update(task, completed=completed, note=note, rate=rate)

        yield report
