"""How long work tells a person what it is doing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeAlias

from qss_offline.errors import printable
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


def counted_on(tick: Callable[[int], None], done: int, times: int = 1) -> Callable[[int], None]:
    """Return what a part of some work may tell how much of it is done.

    Args:
        tick: called with the units of the whole work that are done.
        done: units done before the part.
        times: units of the whole for each unit of the part.
    """

    def tell(units: int) -> None:
        tick(done + times * units)

    return tell


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
