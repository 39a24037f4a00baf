"""Progress that suits who is watching: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from qss_offline.errors import printable
from qss_offline.parallel.pace import Pace, in_words
from qss_offline.parallel.quiet import is_quiet


class Reporter(Protocol):
    """Takes the number of units done so far, and an optional note shown beside them.

    Of a note of several lines, plain lines show the first.
    """

    def __call__(self, completed: int, note: str = "") -> None:
        """Show that `completed` units are done."""


def silent(completed: int, note: str = "") -> None:
    """Show nothing."""


_REDRAW_S = 0.1
"""How often a terminal is told of news at most."""


class _Lines:
    """A line at the start, at most one every `interval_s` seconds, and one at the end."""

    def __init__(self, title: str, total: int, unit: str, file: TextIO, interval_s: float) -> None:
        self._title, self._total, self._unit, self._file = title, total, unit, file
        self._interval_s = interval_s
        self._pace = Pace(total)
        self._printed = -1.0
        self._last = -1

    def __call__(self, completed: int, note: str = "") -> None:
        self._pace.update(completed)
        now, begun = self._pace.elapsed_s, self._printed >= 0
        ended, soon = completed >= self._total, now - self._printed < self._interval_s
        if begun and ((ended and completed == self._last) or (soon and not ended)):
            return
        self._last, self._printed = completed, now
        parts = [_share(completed, self._total), _rate(self._pace, self._unit)]
        parts += [_time(self._pace, ended), printable(note.partition("\n")[0])]
        line = ", ".join(part for part in parts if part)
        print(f"{printable(self._title)}: {line}", file=self._file, flush=True)


def _share(completed: int, total: int) -> str:
    return f"{100 * completed // total if total else 100}%"


def _rate(pace: Pace, unit: str) -> str:
    if not pace.rate or not unit:
        return ""
    return f"{pace.rate:,.0f} {unit}/s" if pace.rate >= 10 else f"{pace.rate:.1f} {unit}/s"


def _time(pace: Pace, ended: bool) -> str:
    if ended:
        return f"in {in_words(pace.elapsed_s)}"
    return "" if pace.left_s is None else f"{in_words(pace.left_s)} left"


class _Bar(Progress):
    """A line with a bar, and those below it that say what is going on where that is known."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            for line in task.fields["note"].splitlines():
                yield Text(f"  {printable(line)}", no_wrap=True, overflow="ellipsis")


@contextmanager
def progress(
    title: str, total: int, unit: str, file: TextIO | None = None, interval_s: float = 10.0
) -> Iterator[Reporter]:
    """Yield a reporter for `total` units of work.

    On a terminal it draws a bar with the rate and the time left; elsewhere it prints plain
    lines, at most one every `interval_s` seconds.

    Args:
        title: what is done.
        total: units of work; what is reported first was done before.
        unit: what the rate counts; "" shows no rate.
        file: where to; None is standard error.
        interval_s: between plain lines.
    """
    if is_quiet():
        yield silent
        return
    stream = sys.stderr if file is None else file
    if not stream.isatty():
        yield _Lines(title, total, unit, stream, interval_s)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TextColumn("{task.fields[share]}  {task.fields[rate]}  {task.fields[time]}", markup=False),
    )
    with _Bar(*columns, console=Console(file=stream), expand=True) as bar:
        task = bar.add_task(
            printable(title), total=total, share=_share(0, total), rate="", time="", note=""
        )
        pace, drawn = Pace(total), -1.0

        def report(completed: int, note: str = "") -> None:
            nonlocal drawn
            ended, now = completed >= total, pace.elapsed_s
            if not ended and 0 <= now - drawn < _REDRAW_S:
                return
            drawn = now
            pace.update(completed)
            bar.update(
                task,
                completed=completed,
                note=note,
                share=_share(completed, total),
                rate=_rate(pace, unit),
                time=_time(pace, ended),
            )

        yield report
