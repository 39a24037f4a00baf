"""How long work tells a person what it is doing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from statistics import fmean
from typing import Protocol, TypeAlias

from qss_offline.errors import printable
from qss_offline.parallel.processes import Tick
from qss_offline.parallel.progress import Reporter, silent
from qss_offline.parallel.quiet import is_quiet

Notice: TypeAlias = Callable[[str], None]


class ProgressFactory(Protocol):
    """What `progress.progress` is: a title, a total and a unit make a reporter."""

    def __call__(self, title: str, total: int, unit: str) -> AbstractContextManager[Reporter]:
        """Return a context manager that yields the reporter."""


@contextmanager
def no_progress(title: str, total: int, unit: str) -> Iterator[Reporter]:
    """Yield a reporter that shows nothing."""
    yield silent


def no_tick(units: float, phase: str = "", note: str = "") -> None:
    """Take no note."""


def counted_on(tick: Tick, done: float, times: float = 1) -> Tick:
    """Return what a part of some work may tell how much of it is done.

    Args:
        tick: called with the units of the whole work that are done.
        done: units done before the part.
        times: units of the whole for each unit of the part.
    """

    def tell(units: float, phase: str = "", note: str = "") -> None:
        tick(done + times * units, phase, note)

    return tell


def headed(tick: Tick, heading: str) -> Tick:
    """Return a tick whose phases begin with whose they are: "2 of 5 seeds: …"."""

    def tell(units: float, phase: str = "", note: str = "") -> None:
        tick(units, f"{heading}: {phase}" if phase else heading, note)

    return tell


def return_in_words(returns: Sequence[Sequence[float]], recorded: float | None = None) -> str:
    """Return the note of the last evaluation: "return 812 (recorded 5)".

    Args:
        returns: of each seed's last episodes; seeds without any don't count.
        recorded: mean return of the recorded behaviour, where there is one.
    """
    means = [fmean(episodes) for episodes in returns if episodes]
    if not means:
        return ""
    beside = "" if recorded is None else f" (recorded {figure(recorded)})"
    return f"return {figure(fmean(means))}{beside}"


def figure(value: float) -> str:
    """Return a number of a note: three digits or as many as stand before the point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def forward_only(report: Reporter) -> Reporter:
    """Return a reporter for work that begins again from what is done: it never goes back."""
    furthest = 0

    def forward(completed: int, note: str = "") -> None:
        nonlocal furthest
        furthest = max(furthest, completed)
        report(furthest, note)

    return forward


def print_notice(message: str) -> None:
    """Print one line on standard error, unless the program is to be quiet."""
    if is_quiet():
        return
    print(printable(message), file=sys.stderr, flush=True)


@cache
def say_once(message: str) -> None:
    """Print a line as `print_notice` does, the first time in this process."""
    print_notice(message)
