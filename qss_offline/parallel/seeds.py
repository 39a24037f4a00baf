"""The seeds of a run, spread over worker processes of one thread each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch

from qss_offline.parallel.gpus import gpu_count, take_gpu
from qss_offline.parallel.processes import Tick, available_cores, run_jobs
from qss_offline.parallel.progress import Reporter
from qss_offline.parallel.reporting import headed

S = TypeVar("S")
T = TypeVar("T")

Train = Callable[[S, Sequence[T], Tick], None]
"""`train(settings, tasks, tick)` does everything for some seeds in this process, and tells `tick`
the units done over all of them, and what it is doing."""


_WORTH_WORKERS = 2_000
"""Units of work in all below which starting processes takes longer than they save."""


@dataclass(frozen=True)
class _Group(Generic[S, T]):
    """The seeds of one worker."""

    train: Train[S, T]
    settings: S
    tasks: tuple[T, ...]
    heading: str
    device: str
    number: int


def train_in_workers(
    train: Train[S, T],
    settings: S,
    tasks: Sequence[T],
    device: str,
    workers: int | None,
    report: Reporter,
    units: float,
    things: str = "seeds",
    *,
    act: bool = False,
) -> None:
    """Spread seeds over processes: at most one a core, or one a GPU where they only train there.

    Args:
        train: importable.
        settings: what every seed is trained with.
        tasks: the seeds.
        device: "cpu" or "cuda".
        workers: processes; None takes as many as there may be, for very little work one.
        report: called with the units done, over all seeds, and what the slowest worker is doing.
        units: of one seed.
        things: what the tasks are.
        act: whether they act in environments, too, which takes cores: processes share the GPUs.

    Raises:
        UserError: a worker died. Exceptions of `train` pass through.
    """
    gpus = gpu_count(device)
    limit = gpus if gpus and not act else available_cores()
    if workers is None and units * len(tasks) < _WORTH_WORKERS:
        workers = 1
    count = min(workers or limit, limit, len(tasks))
    shares = [tuple(tasks[worker::count]) for worker in range(count)]
    in_all = f"of {len(tasks)} {things}" if count > 1 else ""
    groups = [
        _Group(
            train,
            settings,
            share,
            in_all and f"{len(share)} {in_all}",
            device,
            worker,
        )
        for worker, share in enumerate(shares)
    ]
    sizes = [units * len(share) for share in shares]
    for _ in run_jobs(_run_group, groups, count, report, sizes):
        pass


def _run_group(group: _Group[S, T], tick: Tick) -> None:
    """Train the seeds of one worker, in one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    take_gpu(group.device, group.number)
    try:
        told = headed(tick, group.heading) if group.heading else tick
        group.train(group.settings, group.tasks, told)
    finally:
        torch.set_num_threads(threads)
