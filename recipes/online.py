"""Act and learn together: full D3G, or D3G⁻ without its cycle.

    python -m recipes.online --env InvertedPendulum --algo d3g

trains Q(s,s'), a proposal τ(s), an inverse dynamics model I(s,s') and a forward model f(s,a) from
the environment steps of π(s) = I(s, s + τ(s)), one update a step, on any Gymnasium environment
with vectors for observations; actions may be discrete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.table import Table
from typer import Option

import qss_offline.online.gridworld  # noqa: F401  registers the gridworld
from qss_offline.cli.command import main
from qss_offline.cli.resume import plain_options, run_to_resume
from qss_offline.comparison.online_runs import online_run
from qss_offline.data.environments import make_env, resolve_env_id
from qss_offline.engine.device import choose_device
from qss_offline.errors import UserError
from qss_offline.files import write_json
from qss_offline.online.config import EvaluationPlan, OnlineConfig, OnlineSettings
from qss_offline.online.export import export_replay
from qss_offline.online.presets import online_preset
from qss_offline.online.warm_start import start_config
from qss_offline.overrides import changed, differences, with_changes
from qss_offline.parallel.progress import progress
from qss_offline.runs.folder import RunFolder, free_folder, parse_seeds
from qss_offline.runs.results import FINAL_EVALUATIONS, final_mean


def online(
    env: Annotated[str, Option(help="Gymnasium id or short name")] = "InvertedPendulum",
    algo: Annotated[str, Option(help="d3g, d3g-no-cycle, td3 or ddpg")] = "d3g",
    preset: Annotated[str, Option(help="default, short-horizon or paper")] = "default",
    seeds: Annotated[str, Option(help="number of seeds, or a list such as 0,3,7")] = "1",
    change: Annotated[
        list[str] | None, Option("--set", help="name=value, a setting of the preset; repeatable")
    ] = None,
    steps: Annotated[int | None, Option(help="environment steps of a seed")] = None,
    warm_up: Annotated[int | None, Option(help="of these at random, before training")] = None,
    updates_per_step: Annotated[int | None, Option(help="updates after each step")] = None,
    evaluate_every: Annotated[int, Option(help="environment steps between evaluations")] = 5_000,
    episodes: Annotated[int, Option(help="episodes of each evaluation")] = 10,
    start: Annotated[Path | None, Option(help="folder of an offline run to start from")] = None,
    workers: Annotated[int | None, Option(help="processes (one a core)")] = None,
    device: Annotated[str, Option(help="auto, cpu or cuda")] = "cpu",
    out: Annotated[Path | None, Option(help="folder of the run (runs/<name>)")] = None,
    resume: Annotated[bool, Option("--resume", help="continue a run")] = False,
    results: Annotated[Path | None, Option(help="also write the results to this file")] = None,
    export: Annotated[str | None, Option(help="store the replays as Minari datasets")] = None,
) -> None:
    """Learn online."""
    options = plain_options(locals(), "workers", "out", "resume", "results", "export")
    if workers is not None and workers <= 0:
        raise UserError(f"--workers must be above 0, not {workers}")
    if resume:
        folder, settings = run_to_resume(OnlineSettings, "online", out, options, online)
    else:
        settings = OnlineSettings(
            resolve_env_id(env),
            algo,
            parse_seeds(seeds),
            with_changes(preset, change or ()),
            _config(preset, algo, change or (), steps, warm_up, updates_per_step, start),
            EvaluationPlan(evaluate_every, episodes),
            None if start is None else str(start),
            choose_device(device),
        )
        make_env(settings.env_id, discrete_actions=True).close()
        base = Path("runs") / f"online-{settings.env_id}-{algo}".replace("/", "-")
        folder = RunFolder(out or free_folder(base))
    algo, preset = settings.algorithm, settings.preset_name
    print(f"{algo} on {settings.env_id} with preset {preset}; run folder {folder.path}")
    found = online_run(settings, folder, resume, progress, workers, options)
    final = f"mean of last {FINAL_EVALUATIONS} evaluations"
    table = Table("seed", final, "last", "best", title=f"{algo}, {settings.env_id}")
    for seed in found["seeds"]:
        best = f"{seed['best']['mean']:.1f} (step {seed['best']['online_steps']:,})"
        last = f"{seed['last']['mean']:.1f}"
        table.add_row(str(seed["seed"]), f"{final_mean(seed):.1f}", last, best)
    Console().print(table)
    if results is not None:
        write_json(results, found)
    if export is not None:
        for seed in settings.seeds:
            stored = export_replay(folder, seed, f"{export}-s{seed}", progress=progress)
            print(f"exported {', '.join(stored.ids)}: {stored.transitions:,} transitions")
    print(
        f"{found['wall_seconds']:.0f} s in all. Made: {results or folder.results} (all returns).\n"
        "Next: the ablation with --algo d3g-no-cycle, or the curves with python -m recipes.figure7."
    )


def _config(
    preset: str,
    algo: str,
    change: Sequence[str],
    steps: int | None,
    warm_up: int | None,
    updates_per_step: int | None,
    start: Path | None,
) -> OnlineConfig:
    """Return a preset's settings with what the options change."""
    named = online_preset(preset, algo)
    config = changed(named, change)
    if config.algorithm.cycle != named.algorithm.cycle:
        raise UserError("--set cycle: whether there is a cycle is --algo's, d3g or d3g-no-cycle")
    config = replace(
        config,
        steps=config.steps if steps is None else steps,
        warm_up=config.warm_up if warm_up is None else warm_up,
        updates_per_step=config.updates_per_step if updates_per_step is None else updates_per_step,
    )
    if start is not None:
        config = start_config(config, start)
        lost = differences(config, changed(config, change))
        if lost:
            raise UserError(f"--start brings its own settings; leave out --set {', '.join(lost)}")
    return config


if __name__ == "__main__":
    main(online, "the same command with --resume continues the run")
