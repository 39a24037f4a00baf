"""Online runs from the command line: one, a whole figure of them, and those that begin offline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import qss_offline.online.gridworld  # noqa: F401  registers the gridworld
from qss_offline.analysis.plots.learning_curves import load_curves, png, return_lines, score_lines
from qss_offline.cli.resume import plain_options, run_to_resume
from qss_offline.comparison.online_runs import online_run
from qss_offline.comparison.online_study import run_from_offline_and_nothing, run_missing
from qss_offline.data.build import build_dataset
from qss_offline.data.environments import make_env, resolve_env_id
from qss_offline.data.specs import DatasetSpec
from qss_offline.engine.device import choose_device
from qss_offline.errors import UserError
from qss_offline.files import write_bytes, write_json
from qss_offline.online.config import EvaluationPlan, OnlineConfig, OnlineSettings
from qss_offline.online.export import export_replay
from qss_offline.online.presets import online_preset
from qss_offline.online.warm_start import start_config
from qss_offline.overrides import changed, differences, with_changes
from qss_offline.parallel.progress import progress
from qss_offline.presets import preset as find_preset
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import RunFolder, free_folder, parse_seeds
from qss_offline.runs.provenance import machine
from qss_offline.runs.results import FINAL_EVALUATIONS, final_mean


@dataclass(frozen=True)
class OnlineOptions:
    """Options of `recipes.online`, as typed."""

    env: str
    algo: str
    preset: str
    seeds: str
    change: list[str] | None
    steps: int | None
    warm_up: int | None
    updates_per_step: int | None
    evaluate_every: int
    episodes: int
    start: Path | None
    workers: int | None
    device: str
    out: Path | None
    resume: bool
    results: Path | None
    export: str | None


def train_online(arguments: Mapping[str, Any], command: Callable[..., None]) -> None:
    """Learn online, or resume, and say what was made and what can be done next.

    Args:
        arguments: of the command, by name: those of `OnlineOptions`.
        command: its function, whose defaults options have where they weren't given.

    Raises:
        UserError: an option, the environment or the folder can't be used.
    """
    asked = OnlineOptions(**arguments)
    options = plain_options(arguments, "workers", "out", "resume", "results", "export")
    if asked.workers is not None and asked.workers <= 0:
        raise UserError(f"--workers must be above 0, not {asked.workers}")
    if asked.resume:
        folder, settings = run_to_resume(OnlineSettings, "online", asked.out, options, command)
    else:
        folder, settings = _begin(asked)
    algorithm, env_id = settings.algorithm, settings.env_id
    preset = settings.preset_name
    print(f"{algorithm} on {env_id} with preset {preset}; run folder {folder.path}")
    found = online_run(settings, folder, asked.resume, progress, asked.workers, options)
    final = f"mean of last {FINAL_EVALUATIONS} evaluations"
    table = Table("seed", final, "last", "best", title=f"{algorithm}, {env_id}")
    for seed in found["seeds"]:
        best = f"{seed['best']['mean']:.1f} (step {seed['best']['online_steps']:,})"
        last = f"{seed['last']['mean']:.1f}"
        table.add_row(str(seed["seed"]), f"{final_mean(seed):.1f}", last, best)
    Console().print(table)
    if asked.results is not None:
        write_json(asked.results, found)
    if asked.export is not None:
        for number in settings.seeds:
            name = f"{asked.export}-s{number}"
            stored = export_replay(folder, number, name, progress=progress)
            print(f"exported {', '.join(stored.ids)}: {stored.transitions:,} transitions")
    print(
        f"{found['wall_seconds']:.0f} s in all. Made: {asked.results or folder.results} (all "
        "returns).\nNext: the ablation with --algo d3g-no-cycle, or the curves with "
        "python -m recipes.figure7."
    )


def _begin(asked: OnlineOptions) -> tuple[RunFolder, OnlineSettings]:
    """Return where a new run goes, and what it does."""
    settings = OnlineSettings(
        resolve_env_id(asked.env),
        asked.algo,
        parse_seeds(asked.seeds),
        with_changes(asked.preset, asked.change or ()),
        _config(asked),
        EvaluationPlan(asked.evaluate_every, asked.episodes),
        None if asked.start is None else str(asked.start),
        choose_device(asked.device),
    )
    make_env(settings.env_id, discrete_actions=True).close()
    base = Path("runs") / f"online-{settings.env_id}-{asked.algo}".replace("/", "-")
    return RunFolder(asked.out or free_folder(base)), settings


def _config(asked: OnlineOptions) -> OnlineConfig:
    """Return a preset's settings with what the options change."""
    named, change = online_preset(asked.preset, asked.algo), asked.change or ()
    config = changed(named, change)
    if config.algorithm.cycle != named.algorithm.cycle:
        raise UserError("--set cycle: whether there is a cycle is --algo's, d3g or d3g-no-cycle")
    budget = {
        name: value
        for name in ("steps", "warm_up", "updates_per_step")
        if (value := getattr(asked, name)) is not None
    }
    config = replace(config, **budget)
    if asked.start is not None:
        config = start_config(config, asked.start)
        lost = differences(config, changed(config, change))
        if lost:
            raise UserError(f"--start brings its own settings; leave out --set {', '.join(lost)}")
    return config


def draw_figure7(
    *,
    env: str,
    algo: str,
    seeds: str,
    steps: int | None,
    preset: str,
    workers: int | None,
    runs: Path,
    results: Path,
    draw: bool,
) -> None:
    """Run what is missing unless only to `draw`, then draw the learning curves of all results.

    Raises:
        UserError: an option can't be used, or there is nothing to draw.
    """
    if not draw:
        configs = {name: online_preset(preset, name) for name in algo.split(",") if name}
        if steps is not None:
            configs = {name: replace(config, steps=steps) for name, config in configs.items()}
        env_ids = [resolve_env_id(name) for name in env.split(",") if name]
        run_missing(env_ids, configs, parse_seeds(seeds), preset, runs, results, workers, progress)
    curves = load_curves(results)
    if not curves:
        raise UserError(f"{results} holds no results yet; leave out --draw to make some")
    write_bytes(results / "figure7.png", png(curves))
    _print_lines(score_lines(curves))
    print(f"made {results / 'figure7.png'}")


def draw_offline_to_online(
    *,
    env: str,
    seeds: str,
    steps: int,
    warm_up: int,
    evaluate_every: int,
    episodes: int,
    transitions: int,
    updates: int | None,
    preset: str,
    workers: int | None,
    runs: Path,
    results: Path,
) -> None:
    """Learn offline and go on online, and online from nothing; draw both.

    Raises:
        UserError: an option can't be used.
    """
    env_id, chosen = resolve_env_id(env), parse_seeds(seeds)
    make_env(env_id).close()
    config = replace(online_preset(preset), steps=steps, warm_up=warm_up)
    dataset = build_dataset(DatasetSpec(env_id, 1.0, transitions), progress=progress).obs_id
    spent = find_preset(preset).spend(updates, None, None)
    offline = RunConfig("d3g", env_id, dataset, chosen, preset, spent, evaluation_episodes=episodes)
    plan = EvaluationPlan(evaluate_every, episodes)
    folder = runs / env_id.replace("/", "-")
    found = run_from_offline_and_nothing(offline, config, plan, folder, workers, progress)
    for name, one in found.items():
        write_json(results / f"{env_id}-{name}.json".replace("/", "-"), one)
    write_json(results / "provenance.json", {"machine": machine()})
    picture = results / f"{env_id}.png".replace("/", "-")
    write_bytes(picture, png(list(found.values())))
    for one in found.values():
        _print_lines(return_lines(one))
    print(f"made {picture}; every return is in {results}")


def _print_lines(lines: Sequence[str]) -> None:
    for line in lines:
        print(line)
