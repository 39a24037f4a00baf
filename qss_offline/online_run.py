"""A whole online run: several seeds, several processes, evaluations on the way; results.json."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import qss_offline.gridworld_env  # noqa: F401  registers the gridworld, in workers too
from qss_offline.baselines import require_d3rlpy
from qss_offline.data.environments import make_env
from qss_offline.engine.checkpoint import load_checkpoint
from qss_offline.errors import UserError
from qss_offline.files import write_json
from qss_offline.jobs import Tick, available_cores, run_jobs
from qss_offline.offline_run import ELAPSED_INTERVAL_S
from qss_offline.online_actions import actions_of
from qss_offline.online_presets import BASELINES
from qss_offline.online_start import load_start
from qss_offline.online_training import (
    EvaluationPlan,
    OnlineConfig,
    OnlineTask,
    OnlineTrainer,
)
from qss_offline.reporting import ProgressFactory, no_progress
from qss_offline.runs import RunFolder, SeedFolder, read_json, versions

LAST_EVALUATIONS = 3
"""How many evaluations at the end make the score of a seed."""


@dataclass(frozen=True)
class OnlineSettings:
    """What an online run is asked to do.

    Attributes:
        env_id: where to act.
        algorithm: one of `online_presets.ALGORITHMS`.
        seeds: everything random depends on these.
        preset_name: where `config` came from.
        config: settings of acting and training.
        plan: when to evaluate.
        start_run: folder of an offline run that every seed starts from; None starts from nothing.
        device: "cpu" or "cuda".
    """

    env_id: str
    algorithm: str
    seeds: tuple[int, ...]
    preset_name: str
    config: OnlineConfig
    plan: EvaluationPlan = field(default_factory=EvaluationPlan)
    start_run: str | None = None
    device: str = "cpu"


@dataclass(frozen=True)
class _Group:
    """The seeds of one worker."""

    settings: OnlineSettings
    tasks: tuple[tuple[int, SeedFolder], ...]


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
        workers: processes; None takes one a core on a CPU, one in all on a GPU.

    Raises:
        UserError: the environment, the folder or the offline run can't be used.
    """
    begin = time.monotonic()
    _check(settings)
    folder.start({**asdict(settings), "versions": versions()}, resume)
    earlier = folder.elapsed_s
    limit = 1 if settings.device == "cuda" else available_cores()
    count = min(workers or limit, limit, len(settings.seeds))
    tasks = [(seed, folder.seed(seed)) for seed in settings.seeds]
    groups = [_Group(settings, tuple(tasks[worker::count])) for worker in range(count)]
    title = f"{len(tasks)} seed{'s' if len(tasks) > 1 else ''} of {settings.env_id}"
    noted = begin
    with show_progress(title, settings.config.steps * len(tasks), "steps") as show:

        def report(completed: int, note: str = "") -> None:
            nonlocal noted
            if time.monotonic() - noted > ELAPSED_INTERVAL_S:
                noted = time.monotonic()
                folder.set_elapsed(earlier + noted - begin)
            show(completed, note)

        for _ in run_jobs(_run_group, groups, count, report):
            pass
    wall_s = earlier + time.monotonic() - begin
    folder.set_elapsed(wall_s)
    results = {
        "env_id": settings.env_id,
        "algorithm": settings.algorithm,
        "preset": settings.preset_name,
        "steps": settings.config.steps,
        "start_run": settings.start_run,
        "wall_seconds": round(wall_s, 1),
        "seeds": [
            seed_result(seed, read_json(folder.seed(seed).result)["evaluations"])
            for seed in settings.seeds
        ],
        "versions": versions(),
    }
    write_json(folder.results, results)
    return results


def _check(settings: OnlineSettings) -> None:
    """Find out before anything is written what would stop the workers."""
    env = make_env(settings.env_id, discrete_actions=True)
    try:
        actions_of(env.action_space, 0.0, 0.0)
    finally:
        env.close()
    if settings.algorithm in BASELINES:
        require_d3rlpy()
        if settings.start_run is not None:
            raise UserError(f"{settings.algorithm} can't start from an offline run of D3G")
        if settings.device != "cpu":
            raise UserError(f"{settings.algorithm} runs on the CPU here; use --device cpu")
    if settings.start_run is not None:
        for seed in settings.seeds:
            load_start(Path(settings.start_run), seed)


def _run_group(group: _Group, tick: Tick) -> None:
    """Train the seeds of one worker, in one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if group.settings.algorithm in BASELINES:
            _run_baseline(group, tick)
        else:
            _run_d3g(group, tick)
    finally:
        torch.set_num_threads(threads)


def _run_d3g(group: _Group, tick: Tick) -> None:
    settings = group.settings
    start = None if settings.start_run is None else Path(settings.start_run)
    OnlineTrainer(
        [
            OnlineTask(seed, folder, None if start is None else load_start(start, seed))
            for seed, folder in group.tasks
        ],
        settings.env_id,
        settings.config,
        settings.plan,
        settings.device,
    ).run(tick)
    for _, folder in group.tasks:
        evaluations = load_checkpoint(folder.training).metadata["evaluations"]
        write_json(folder.result, {"evaluations": evaluations})


def _run_baseline(group: _Group, tick: Tick) -> None:
    """Train seed after seed; one that is finished is left as it is."""
    # d3rlpy is an extra.
    from qss_offline.baselines.online import train_online

    settings = group.settings
    for number, (seed, folder) in enumerate(group.tasks):
        done = number * settings.config.steps

        def report(steps: int, done: int = done) -> None:
            tick(done + steps)

        if not folder.result.exists():
            evaluations = train_online(
                settings.algorithm,
                settings.env_id,
                settings.config,
                settings.plan,
                OnlineTask(seed, folder),
                report,
            )
            write_json(folder.result, {"evaluations": evaluations})
        tick(done + settings.config.steps)


def seed_result(seed: int, evaluations: Sequence[tuple[int, Sequence[float]]]) -> dict[str, Any]:
    """Return a seed's scores and raw returns as results files hold them.

    Args:
        seed: which.
        evaluations: environment steps before each, and the returns of its episodes.
    """
    means = [float(np.mean(returns)) for _, returns in evaluations]
    best = int(np.argmax(means))
    return {
        "seed": seed,
        f"last_{LAST_EVALUATIONS}": float(np.mean(means[-LAST_EVALUATIONS:])),
        "last": means[-1],
        "best": {"mean": means[best], "step": evaluations[best][0]},
        "evaluations": [
            {"step": step, "mean": mean, "returns": list(returns)}
            for (step, returns), mean in zip(evaluations, means, strict=True)
        ],
    }
