"""A whole online run: several seeds, several processes, evaluations on the way; results.json."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import qss_offline.online.gridworld  # noqa: F401  registers the gridworld, in workers too
from qss_offline.baselines import require_d3rlpy
from qss_offline.data.environments import known_in_workers, make_env, workers_for
from qss_offline.engine.checkpoint import load_checkpoint
from qss_offline.engine.device import check_device, training_with
from qss_offline.errors import UserError
from qss_offline.files import write_json
from qss_offline.online.config import OnlineSettings
from qss_offline.online.env_loop import OnlineTask
from qss_offline.online.exploration import actions_of
from qss_offline.online.presets import BASELINES
from qss_offline.online.trainer import OnlineTrainer
from qss_offline.online.warm_start import check_environment_of, load_start, steps_before
from qss_offline.online.work import work_until
from qss_offline.parallel.processes import Tick, available_cores
from qss_offline.parallel.reporting import ProgressFactory, no_progress
from qss_offline.parallel.seeds import train_in_workers
from qss_offline.runs.clock import RunClock
from qss_offline.runs.folder import RunFolder, SeedFolder, seeds_in_words, versions
from qss_offline.runs.results import (
    EvaluationPoint,
    read_evaluations,
    seed_results,
    write_evaluations,
)

SeedPlace = tuple[int, SeedFolder]
"""A seed, and where its files go."""


def online_run(
    settings: OnlineSettings,
    folder: RunFolder,
    resume: bool = False,
    show_progress: ProgressFactory = no_progress,
    workers: int | None = None,
) -> dict[str, Any]:
    """Act, train and evaluate, and return what `results.json` holds.

    Seeds are spread over worker processes of one thread each, at most one a core; those of one
    process share a stack.

    Args:
        settings: what to do.
        folder: where everything goes.
        resume: continue what the folder holds.
        show_progress: makes a progress display.
        workers: processes; None takes one a core.

    Raises:
        UserError: the environment, the folder or the offline run can't be used.
    """
    begin = time.monotonic()
    check_device(settings.device)
    _check(settings)
    before = 0 if settings.start_run is None else steps_before(settings.start_run)
    config = {"method": "online", **vars(settings), "versions": versions()}
    folder.start(config, resume)
    clock = RunClock(folder, begin)
    seeds = [(seed, folder.seed(seed)) for seed in settings.seeds]
    workers = workers_for([settings.env_id], workers or available_cores(), len(seeds))
    title = f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''} of {settings.env_id}"
    if len(seeds) > 1:
        steps = f"{settings.config.steps * len(seeds):,} environment steps"
        print(f"training {seeds_in_words(settings.seeds)}, {steps} in all", flush=True)
    work = work_until(settings.config, settings.plan, settings.config.steps)
    with show_progress(title, round(work * len(seeds)), "steps") as show:
        report, train = clock.noting(show), known_in_workers(_train, [settings.env_id])
        device = settings.device
        train_in_workers(train, settings, seeds, device, workers, report, work, act=True)
    wall_s = clock.seconds
    folder.set_elapsed(wall_s)
    results = {
        "method": "online",
        "env_id": settings.env_id,
        "algorithm": settings.algorithm,
        "preset": settings.preset_name,
        "steps": settings.config.steps,
        "start_run": settings.start_run,
        "steps_before": before,
        "config": asdict(settings.config),
        "wall_seconds": round(wall_s, 1),
        "seeds": [
            seed_results(seed, read_evaluations(folder.seed(seed).result))
            for seed in settings.seeds
        ],
        "versions": versions(),
    }
    write_json(folder.results, results)
    return results


def _check(settings: OnlineSettings) -> None:
    """Find out before anything is written what would stop the workers."""
    env = make_env(settings.env_id)
    try:
        actions_of(env.action_space, 0.0, 0.0)
    finally:
        env.close()
    if settings.algorithm in BASELINES:
        require_d3rlpy()
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
        write_evaluations(folder.result, seed, [EvaluationPoint(*point) for point in evaluations])


def _train_baseline(settings: OnlineSettings, seeds: Sequence[SeedPlace], tick: Tick) -> None:
    """Train seed after seed; one that is finished is left as it is."""
    # d3rlpy is an extra.
    from qss_offline.baselines.online import train_online

    config, plan = settings.config, settings.plan
    of_seed = work_until(config, plan, config.steps)
    for number, (seed, folder) in enumerate(seeds):

        def told(
            steps: float, phase: str = "", note: str = "", done: float = number * of_seed
        ) -> None:
            tick(done + work_until(config, plan, steps), phase, note)

        if not folder.result.exists():
            evaluations = train_online(
                settings.algorithm,
                settings.env_id,
                config,
                plan,
                OnlineTask(seed, folder),
                told,
            )
            write_evaluations(folder.result, seed, evaluations)
        told(config.steps)
