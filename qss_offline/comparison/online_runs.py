"""A whole online run: several seeds, several processes, evaluations on the way; results.json."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qss_offline.baselines import require_d3rlpy
from qss_offline.baselines.online import check_actions
from qss_offline.data.environments import make_env
from qss_offline.engine.checkpoint import load_checkpoint
from qss_offline.engine.device import check_device, training_with
from qss_offline.errors import UserError
from qss_offline.launch.cell import SHARED_GPU, Cell, Launcher, shared_out
from qss_offline.launch.driver import Begun, launch
from qss_offline.launch.local import LocalLauncher
from qss_offline.online.config import OnlineSettings
from qss_offline.online.env_loop import OnlineTask, judged_evaluations
from qss_offline.online.exploration import actions_of
from qss_offline.online.presets import BASELINES
from qss_offline.online.trainer import OnlineTrainer
from qss_offline.online.warm_start import check_environment_of, load_start, steps_before
from qss_offline.online.work import work_until
from qss_offline.parallel.processes import Tick
from qss_offline.parallel.reporting import Notice, ProgressFactory, no_progress, print_notice
from qss_offline.runs.folder import RunFolder, SeedFolder, seeds_in_words, versions
from qss_offline.runs.results import (
    read_evaluations,
    seed_results,
    write_evaluations,
)
from qss_offline.settings_json import from_plain, to_plain

TASK = "qss_offline.comparison.online_runs:online_cell"

SeedPlace = tuple[int, SeedFolder]
"""A seed, and where its files go."""


def online_run(
    settings: OnlineSettings,
    folder: RunFolder,
    resume: bool = False,
    show_progress: ProgressFactory = no_progress,
    launcher: Launcher | None = None,
    notice: Notice | None = print_notice,
) -> dict[str, Any]:
    """Act, train and evaluate, and return what `results.json` holds.

    Seeds of one process share a stack.

    Args:
        settings: what to do.
        folder: where everything goes.
        resume: continue what the folder holds.
        show_progress: makes a progress display.
        launcher: where seeds are trained; None takes processes of one thread each here.
        notice: called with the plan, in a line; None says none.

    Raises:
        UserError: the environment, the folder or the offline run can't be used, or a seed failed.
    """
    online = OnlineTraining(settings, folder, resume, time.monotonic())
    count = len(settings.seeds)
    if count > 1 and notice is not None:
        steps = f"{settings.config.steps * count:,} environment steps"
        notice(f"training {seeds_in_words(settings.seeds)}, {steps} in all")
    title = f"{count} seed{'s' if count > 1 else ''} of {settings.env_id}"
    (ended,) = launch([online], launcher or LocalLauncher(), show_progress, title, unit="steps")
    return ended.or_refuse()


class OnlineTraining(Begun):
    """An online run that was checked: what `launch.driver` begins and ends.

    Args:
        settings: what to do.
        folder: where everything goes.
        resume: continue what the folder holds.
        begun: reading of `time.monotonic()` that its seconds count from; None counts from when
            its first cell begins.

    Raises:
        UserError: the environment or the offline run can't be used.
    """

    def __init__(
        self, settings: OnlineSettings, folder: RunFolder, resume: bool, begun: float | None = None
    ) -> None:
        check_device(settings.device)
        _check(settings)
        self._before = 0 if settings.start_run is None else steps_before(settings.start_run)
        super().__init__(folder, settings.seeds, begun)
        self._settings, self._resume = settings, resume

    def start(self) -> None:
        """Write the settings of a new run, or compare those of one that goes on."""
        config = {"method": "online", **vars(self._settings), "versions": versions()}
        self.folder.start(config, self._resume)
        self._resume = True

    def cells(self, shares: int | None) -> list[Cell]:
        """Return its cells, none where all is done."""
        settings, path = self._settings, self.folder.path.resolve()
        if self.done:
            return []
        work = work_until(settings.config, settings.plan, settings.config.steps)
        shared = {"settings": to_plain(settings), "folder": str(path)}
        count = len(settings.seeds)
        left = [s for s in settings.seeds if not self.folder.seed(s).result.exists()]
        return [
            Cell(
                f"{path.name} seeds {','.join(map(str, seeds))}",
                TASK,
                {**shared, "seeds": list(seeds)},
                tuple(str(RunFolder(path).seed(seed).path) for seed in seeds),
                work * len(seeds),
                f"{len(seeds)} of {count} seeds" if len(seeds) < count else "",
                (settings.env_id,),
                gpus=SHARED_GPU * (settings.device == "cuda"),
            )
            for seeds in shared_out(left, shares)
        ]

    def _results(self) -> dict[str, Any]:
        settings, folder = self._settings, self.folder
        return {
            "method": "online",
            "env_id": settings.env_id,
            "algorithm": settings.algorithm,
            "preset": settings.preset_name,
            "steps": settings.config.steps,
            "start_run": _from_here(settings.start_run),
            "steps_before": self._before,
            "config": asdict(settings.config),
            "seeds": [
                seed_results(seed, read_evaluations(folder.seed(seed).result))
                for seed in settings.seeds
            ],
        }


def online_cell(settings: Mapping[str, Any], tick: Tick) -> None:
    """Train the seeds of a cell, from where their folders stand.

    Args:
        settings: those that `OnlineTraining.cells` makes.
        tick: called with the work done.
    """
    asked = from_plain(OnlineSettings, settings["settings"], "the cell's run")
    folder = RunFolder(Path(settings["folder"]))
    seeds = [(seed, folder.seed(seed)) for seed in settings["seeds"]]
    # Another process may have done it while this waited for its folders.
    if left := [(seed, place) for seed, place in seeds if not place.result.exists()]:
        _train(asked, left, tick)


def _check(settings: OnlineSettings) -> None:
    """Find out before anything is written what would stop the workers."""
    env = make_env(settings.env_id)
    try:
        actions = actions_of(env.action_space, 0.0, 0.0)
    finally:
        env.close()
    if settings.algorithm in BASELINES:
        require_d3rlpy()
        check_actions(settings.algorithm, settings.env_id, actions.discrete)
        if settings.start_run is not None:
            raise UserError(f"{settings.algorithm} can't start from an offline run of D3G")
        if settings.device != "cpu" or settings.tf32:
            raise UserError(
                f"{settings.algorithm} runs on the CPU here; use --device cpu without --tf32"
            )
    if settings.start_run is not None:
        check_environment_of(Path(settings.start_run), settings.env_id)
        for seed in settings.seeds:
            load_start(Path(settings.start_run), seed)


def _from_here(path: str | None) -> str | None:
    """Return a path as seen from the working directory, where it is below: results are shared."""
    if path is None or not Path(path).is_relative_to(Path.cwd()):
        return path
    return str(Path(path).relative_to(Path.cwd()))


def _train(settings: OnlineSettings, seeds: Sequence[SeedPlace], tick: Tick) -> None:
    """Train the seeds of one worker."""
    if settings.algorithm in BASELINES:
        _train_baseline(settings, seeds, tick)
    else:
        _train_d3g(settings, seeds, tick)


def _train_d3g(settings: OnlineSettings, seeds: Sequence[SeedPlace], tick: Tick) -> None:
    """Train seeds in one stack."""
    start = None if settings.start_run is None else Path(settings.start_run)
    tasks = [
        OnlineTask(seed, folder, None if start is None else load_start(start, seed))
        for seed, folder in seeds
    ]
    config, plan = settings.config, settings.plan

    def told(steps: float, phase: str = "", note: str = "") -> None:
        work = work_until(config, plan, steps / len(tasks))
        tick(work * len(tasks), phase, note)

    with training_with(settings.tf32):
        OnlineTrainer(tasks, settings.env_id, config, plan, settings.device).run(told)
    for seed, folder in seeds:
        evaluations = load_checkpoint(folder.training).metadata["evaluations"]
        write_evaluations(folder.result, seed, judged_evaluations(evaluations))


def _train_baseline(settings: OnlineSettings, seeds: Sequence[SeedPlace], tick: Tick) -> None:
    """Train seed after seed."""
    # d3rlpy is an extra.
    from qss_offline.baselines.online import train_online

    config, plan = settings.config, settings.plan
    of_seed = work_until(config, plan, config.steps)
    for number, (seed, folder) in enumerate(seeds):

        def told(
            steps: float, phase: str = "", note: str = "", done: float = number * of_seed
        ) -> None:
            tick(done + work_until(config, plan, steps), phase, note)

        evaluations = train_online(
            settings.algorithm, settings.env_id, config, plan, OnlineTask(seed, folder), told
        )
        write_evaluations(folder.result, seed, evaluations)
        told(config.steps)
