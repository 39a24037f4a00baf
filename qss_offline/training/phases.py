"""What a method does for some seeds, phase by phase: each phase after the one before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qss_offline.parallel.processes import Tick
from qss_offline.runs.config import RunConfig
from qss_offline.training.offline import SeedTask


@dataclass(frozen=True)
class Phase:
    """One phase.

    Attributes:
        things: what its tasks are, "seeds" or "models".
        train: does everything for some tasks, in this process, from where their folders stand, and
            tells the units of work done over all of them.
        units: of a task.
        device: "cpu" or "cuda".
        act: whether it acts in environments, too, so that processes on cores share the GPUs.
        tasks: of a seed; each has a `folder`.
        done: whether a task is through; where that isn't known at once, it is found out by going
            on with it.
    """

    things: str
    train: Callable[[RunConfig, Sequence[Any], Tick], None]
    units: float
    device: str = "cpu"
    act: bool = False
    tasks: Callable[[RunConfig, SeedTask], Sequence[Any]] = lambda config, task: [task]
    done: Callable[[Any], bool] = lambda task: False


def has_result(task: SeedTask) -> bool:
    """Return whether a seed's returns are there, which are written last."""
    return task.folder.result.exists()
