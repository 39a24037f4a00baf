"""A run on a recording as cells: some seeds of one of its phases each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from qss_offline.engine.device import training_with
from qss_offline.launch.cell import SHARED_GPU, Cell, shared_out
from qss_offline.parallel.processes import Tick
from qss_offline.runs.config import Method, RunConfig
from qss_offline.runs.folder import RunFolder
from qss_offline.settings_json import from_plain, to_plain
from qss_offline.training.bco import bco_phases
from qss_offline.training.d3g import d3g_phases
from qss_offline.training.offline import SeedTask
from qss_offline.training.phases import Phase
from qss_offline.training.portfolio.auto import auto_phases

TASK = "qss_offline.training.cells:train_cell"

_PHASES: Mapping[Method, Callable[[RunConfig], tuple[Phase, ...]]] = {
    "d3g": d3g_phases,
    "bco": bco_phases,
    "auto": auto_phases,
}


def training_cells(
    config: RunConfig, folder: RunFolder, recordings: Mapping[str, str], shares: int | None
) -> list[Cell]:
    """Return the cells of a run.

    Args:
        config: what to do, with what was measured of the recording.
        folder: where everything goes.
        recordings: digests of the recordings, by id.
        shares: cells that the tasks of a phase are dealt out to; None makes one of each.
    """
    cells: list[Cell] = []
    before: list[tuple[str, set[int]]] = []
    path = folder.path.resolve()
    # A seed is through when its last phase is.
    *_, last = _PHASES[config.method](config)
    left = [s for s in config.seeds if not all(map(last.done, _tasks(last, config, folder, s)))]
    shared = {"config": to_plain(config), "folder": str(path)}
    for phase in _PHASES[config.method](config):
        tasks = [
            (seed, number)
            for seed in left
            for number in range(len(_tasks(phase, config, folder, seed)))
        ]
        now, gpus = [], _gpus(phase)
        count = shares
        if shares is not None and gpus >= 1:
            # One stack a GPU.
            count = min(shares, max(1, torch.cuda.device_count()))
        for some in shared_out(tasks, count):
            # Those of a seed by number, where there are several.
            words = [f"{s}.{n}" if phase.things == "models" else f"{s}" for s, n in some]
            name = f"{path.name} {phase.things} {','.join(words)}"
            seeds = {seed for seed, _ in some}
            cells.append(
                Cell(
                    name,
                    TASK,
                    {**shared, "phase": phase.things, "tasks": [list(one) for one in some]},
                    tuple(
                        str(_tasks(phase, config, RunFolder(path), seed)[number].folder.path)
                        for seed, number in some
                    ),
                    phase.units * len(some),
                    f"{len(some)} of {len(tasks)} {phase.things}" if len(some) < len(tasks) else "",
                    () if config.env_id is None else (config.env_id,),
                    recordings,
                    gpus,
                    after=tuple(earlier for earlier, of in before if of & seeds),
                )
            )
            now.append((name, seeds))
        before = now
    return cells


def _gpus(phase: Phase) -> float:
    if phase.device == "cpu":
        return 0.0
    return SHARED_GPU if phase.act else 1.0


def _tasks(phase: Phase, config: RunConfig, folder: RunFolder, seed: int) -> list[Any]:
    return list(phase.tasks(config, SeedTask(seed, folder.seed(seed))))


def train_cell(settings: Mapping[str, Any], tick: Tick) -> None:
    """Train what a cell is of, from where the folders stand.

    Args:
        settings: those that `training_cells` makes.
        tick: called with the units done, and what is going on.
    """
    config = from_plain(RunConfig, settings["config"], "the cell's run")
    folder = RunFolder(Path(settings["folder"]))
    (phase,) = (p for p in _PHASES[config.method](config) if p.things == settings["phase"])
    tasks = [_tasks(phase, config, folder, seed)[number] for seed, number in settings["tasks"]]
    # Another process may have done it while this waited for its folders.
    if left := [task for task in tasks if not phase.done(task)]:
        with training_with(config.tf32):
            phase.train(config, left, tick)
