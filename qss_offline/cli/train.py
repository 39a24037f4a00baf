"""The course of a run on a recording, of any method: find or make it, train, say what was made."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from qss_offline.algorithms.bco import CloningConfig
from qss_offline.analysis.diagnostics import hints
from qss_offline.analysis.tracking import tensorboard_progress
from qss_offline.analysis.video import render_run, require_drawing
from qss_offline.cli.resume import plain_options, run_to_resume
from qss_offline.data.build import build_dataset
from qss_offline.data.environments import make_env, resolve_env_id
from qss_offline.data.facts import MEAN_POWER, MODE_POWER, RecordingFacts
from qss_offline.data.policies import expert_path
from qss_offline.data.specs import DatasetSpec
from qss_offline.engine.device import choose_device
from qss_offline.errors import UserError
from qss_offline.overrides import changed, with_changes
from qss_offline.parallel.progress import progress
from qss_offline.parallel.reporting import ProgressFactory
from qss_offline.presets import preset as find_preset
from qss_offline.runs.config import Method, Preset, RunConfig
from qss_offline.runs.folder import RunFolder, free_folder, parse_seeds
from qss_offline.runs.reader import FinishedRun, load_run
from qss_offline.training.interaction import known_steps
from qss_offline.training.runner import run


@dataclass(frozen=True)
class TrainOptions:
    """Options of a command that trains on a recording, as typed; `cli/options.py` explains them.

    Attributes that a method has no option for keep their default.
    """

    env: str
    randomness: float
    expert: Path | None
    transitions: int
    dataset_seed: int
    dataset: str | None
    seeds: str
    updates: int | None
    preset: str
    online_steps: int | None
    online_rounds: int | None
    actions_from: str | None
    episodes: int
    out: Path | None
    resume: bool
    video: bool
    change: list[str] | None = None
    device: str = "cpu"
    tf32: bool = False
    error_power: float | None = None
    tensorboard: bool = False


def train(method: Method, arguments: Mapping[str, Any], command: Callable[..., None]) -> None:
    """Train by a method, or resume, and say what was made and what can be done next.

    Args:
        method: how.
        arguments: of the command, by name: those of `TrainOptions`.
        command: its function, whose defaults options have where they weren't given.

    Raises:
        UserError: an option, the recording or the folder can't be used.
    """
    asked = TrainOptions(**arguments)
    options = plain_options(arguments, "out", "resume", "video", "tensorboard")
    begun = time.monotonic()
    if asked.video:
        require_drawing()
    if asked.resume:
        folder, config = run_to_resume(RunConfig, method, asked.out, options, command)
        print(f"resuming {folder.path}: {config.dataset_id} with {_described(config)}")
    else:
        folder, config = _begin(method, asked)
        print(
            f"learning from {config.dataset_id} (no actions) with {_described(config)}; "
            f"run folder {folder.path}"
        )
    if config.actions_from is not None:
        print(f"actions for the IDM come from {config.actions_from}, and from the online steps")
    show: ProgressFactory = progress
    if asked.tensorboard:
        show = tensorboard_progress(progress, folder, config.seeds)
    results = run(config, folder, asked.resume, show, begun=begun, options=options)
    Console().print(returns_table(results, config.evaluation_episodes))
    done = load_run(folder.path)
    _say_what_was_made(done, results)
    for hint in hints(done):
        print(hint)
    for made in render_run(done, progress=progress).files if asked.video else ():
        print(f"made {made}")


def _begin(method: Method, asked: TrainOptions) -> tuple[RunFolder, RunConfig]:
    """Check all options, then record, and return where the run goes and what it does."""
    preset = changed(find_preset(asked.preset), asked.change or ())
    # BCO's updates are its policy's, not offline D3G's.
    updates = asked.updates if method == "d3g" else None
    preset = preset.spend(updates, asked.online_steps, asked.online_rounds)
    cloning, cloning_updates = _cloning(preset, asked) if method == "bco" else (None, 0)
    seeds, device = parse_seeds(asked.seeds), choose_device(asked.device)
    env_id = resolve_env_id(asked.env)
    make_env(env_id).close()
    # Refused before anything is recorded.
    known_steps(asked.actions_from, env_id)
    name = f"{env_id}-random-{100 * asked.randomness:g}" + ("-bco" if method == "bco" else "")
    folder = RunFolder(asked.out or free_folder(Path("runs") / name.replace("/", "-")))
    folder.check(resume=False)
    return folder, RunConfig(
        method,
        env_id,
        _recorded(env_id, asked) if asked.dataset is None else asked.dataset,
        seeds,
        with_changes(asked.preset, asked.change or ()),
        preset,
        cloning,
        cloning_updates,
        asked.episodes,
        device,
        asked.tf32,
        asked.actions_from,
    )


def _cloning(preset: Preset, asked: TrainOptions) -> tuple[CloningConfig, int]:
    """Return the settings of BCO's policy, and its updates in a round."""
    rounds, updates = preset.inverse.rounds, asked.updates or 0
    if updates <= 0 or updates % rounds:
        raise UserError(
            f"{updates} updates can't be spread evenly over {rounds} rounds; choose a "
            "multiple above 0, or other --online-rounds"
        )
    # The sizes of D3G's networks, so that the two can be compared.
    d3g = preset.algorithm
    config = CloningConfig(d3g.hidden_dims, d3g.batch_size, d3g.learning_rate, asked.error_power)
    return config, updates // rounds


def _recorded(env_id: str, asked: TrainOptions) -> str:
    """Record behaviour, or find it recorded, and return the id of what holds no actions."""
    expert = asked.expert
    if expert is None and asked.randomness < 1 and expert_path(env_id).exists():
        expert = expert_path(env_id)
        print(f"steps that aren't random are those of {expert}")
    spec = DatasetSpec(
        env_id, asked.randomness, asked.transitions, asked.dataset_seed, expert=expert
    )
    return build_dataset(spec, progress=progress).obs_id


def _described(config: RunConfig) -> str:
    return "BCO" if config.method == "bco" else f"preset {config.preset_name}"


def _say_what_was_made(done: FinishedRun, results: Mapping[str, Any]) -> None:
    config, folder = done.config, done.folder
    bco = config.method == "bco"
    if bco:
        others = (
            f"see what D3G makes of the recording: python -m recipes.random_obs --env "
            f"{config.env_id} --dataset {config.dataset_id}; qss-offline report with both "
            "folders puts them side by side."
        )
    else:
        others = "more seeds with --seeds 5, or another environment with --env Reacher."
    print(
        f"{results['wall_seconds']:.0f} s in all. Made: {folder.results} (all returns), "
        f"{folder.seed(config.seeds[0]).policy} (the policy).\n"
        f"Next: look at it with qss-offline report {folder.path}, or {others}"
    )
    if bco or config.preset.algorithm.behaviour_coef > 0:
        learner = "the policy" if bco else "proposals"
        print(stochasticity_line(done.facts, config.error_power, learner))
    if config.actions_from is not None:
        known = f"{results['known_steps']:,} steps of {config.actions_from}"
        print(f"The IDM learned first from {known}: online steps above don't count them.")


def stochasticity_line(facts: RecordingFacts, power: float, learner: str) -> str:
    """Return a recording's behaviour stochasticity, and what is learned from it, as a line.

    Args:
        facts: what was measured of the recording.
        power: of errors against recorded steps.
        learner: what is held to recorded steps.
    """
    share = facts.behaviour_stochasticity
    measured = "can't be measured" if share is None else f"{share:.1%} of the variance of its steps"
    which = {MEAN_POWER: "the mean", MODE_POWER: "the mode"}.get(power, f"the power {power:g}")
    return f"behaviour stochasticity: {measured}; {learner} held to {which} of what was done"


def returns_table(results: Mapping[str, Any], episodes: int) -> Table:
    """Return the seeds of a run, a line each.

    Args:
        results: what `results.json` holds.
        episodes: of each evaluation.
    """
    table = Table(title=f"{results['env_id']}: mean return of {episodes} episodes")
    for column in ("seed", "recorded behaviour", "last", "best of evaluations", "online steps"):
        table.add_column(column, justify="right")
    for seed in results["seeds"]:
        table.add_row(
            str(seed["seed"]),
            f"{results['behaviour_return']:.1f} ± {results['behaviour_return_std']:.1f}",
            f"{seed['last']['mean']:.1f}",
            f"{seed['best']['mean']:.1f} ({seed['best']['evaluation']} of "
            f"{len(seed['evaluations'])})",
            f"{seed['online_steps']:,}",
        )
    return table
