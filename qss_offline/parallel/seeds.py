"""The seeds of a run, spread over worker processes of one thread each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from qss_offline.parallel.processes import Tick, available_cores, run_jobs
from qss_offline.parallel.progress import Reporter

S = TypeVar("S")
T = TypeVar("T")

Train = Callable[[S, Sequence[T], Tick], None]
"""`train(settings, tasks, tick)` does everything for some seeds in this process, and tells `tick`
the units done over all of them."""


@dataclass(frozen=True)
class _Group(Generic[S, T]):
    """The seeds of one worker."""

    train: Train[S, T]
    settings: S
    tasks: tuple[T, ...]


def train_in_workers(
    train: Train[S, T],
    settings: S,
    tasks: Sequence[T],
    device: str,
    workers: int | None,
    report: Reporter,
) -> None:
    """Spread seeds over processes, at most one a core on a CPU, one in all on a GPU.

    Args:
        train: importable.
        settings: what every seed is trained with.
        tasks: the seeds.
        device: "cpu" or "cuda".
        workers: processes; None takes as many as there may be.
        report: called with the units done, over all seeds.

    Raises:
        UserError: a worker died. Exceptions of `train` pass through.
    """
    limit = 1 if device == "cuda" else available_cores()
    count = min(workers or limit, limit, len(tasks))
    groups = [_Group(train, settings, tuple(tasks[worker::count])) for worker in range(count)]
    for _ in run_jobs(_run_group, groups, count, report):
        pass


def _run_group(group: _Group[S, T], tick: Tick) -> None:
    """Train the seeds of one worker, in one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        group.train(group.settings, group.tasks, tick)
    finally:
        torch.set_num_threads(threads)
