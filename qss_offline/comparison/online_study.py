"""Online runs of several environments and algorithms, whose results lie side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qss_offline.comparison.online_runs import OnlineTraining, online_run
from qss_offline.data.environments import check_acting
from qss_offline.errors import UserError
from qss_offline.launch.cell import Launcher
from qss_offline.launch.driver import launch
from qss_offline.online.config import EvaluationPlan, OnlineConfig, OnlineSettings
from qss_offline.online.warm_start import start_config
from qss_offline.parallel.reporting import ProgressFactory, no_progress
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import RunFolder, read_json
from qss_offline.runs.provenance import write_results
from qss_offline.statistics import counted
from qss_offline.training.runner import run


def run_missing(
    asked: Mapping[str, Mapping[str, OnlineConfig]],
    seeds: tuple[int, ...],
    preset_name: str,
    runs: Path,
    results: Path,
    launcher: Launcher,
    show_progress: ProgressFactory = no_progress,
) -> None:
    """Run each environment with its algorithms, side by side; finished runs are read.

    Args:
        asked: settings of each algorithm, by its name, for each environment.
        seeds: of every run.
        preset_name: where the settings came from.
        runs: folder of the run folders, which are named `<environment>-<algorithm>`.
        results: folder of a copy of each `results.json`, of the same name, and of what it was made
            on.
        launcher: where.
        show_progress: makes a progress display.

    Raises:
        UserError: an environment can't be made, or results of other settings would be lost.
    """
    for env_id in asked:
        check_acting(env_id)
    begun = []
    for env_id, configs in asked.items():
        for name, config in configs.items():
            settings = OnlineSettings(env_id, name, seeds, preset_name, config, EvaluationPlan())
            folder = RunFolder(runs / f"{env_id}-{name}".replace("/", "-"))
            _check_same(results / f"{folder.path.name}.json", settings)
            begun.append(OnlineTraining(settings, folder, folder.started))
    title = counted(len(begun), "run")
    ended = launch(begun, launcher, show_progress, title, unit="steps")
    names = [run.folder.path.name for run in begun]
    made = {name: one.results for name, one in zip(names, ended, strict=True) if one.results}
    write_results(results, made)
    failures = [failure for one in ended for failure in one.failures]
    if failures:
        raise UserError(f"{counted(len(failures), 'cell')} failed, the first with: {failures[0]}")


def _check_same(path: Path, settings: OnlineSettings) -> None:
    """Refuse to write over results of other settings, or of seeds that aren't asked for.

    Raises:
        UserError: they would be lost.
    """
    if not path.exists():
        return
    written = read_json(path)
    asked = {"preset": settings.preset_name, "steps": settings.config.steps}
    for name, value in asked.items():
        if written.get(name) != value:
            raise UserError(
                f"{path} holds results with {name} = {written.get(name)}, not {value}; choose "
                "another --results and another --runs"
            )
    lost = {seed["seed"] for seed in written.get("seeds", ())} - set(settings.seeds)
    if lost:
        raise UserError(
            f"{path} holds seed {min(lost)}, too, which isn't asked for and would be lost: ask "
            "for it, or choose another --results"
        )


def run_from_offline_and_nothing(
    offline: RunConfig,
    config: OnlineConfig,
    plan: EvaluationPlan,
    runs: Path,
    launcher: Launcher,
    show_progress: ProgressFactory = no_progress,
) -> dict[str, dict[str, Any]]:
    """Learn offline and go on online, and learn online from nothing; finished runs are read.

    Args:
        offline: the run that the one begins with, in an environment.
        config: settings of both online runs, but for what a start brings with it, to both.
        plan: their evaluations.
        runs: folder of the three run folders.
        launcher: where.
        show_progress: makes a progress display.

    Returns:
        What `results.json` holds of the online runs "from-offline" and "from-nothing".
    """
    begin = RunFolder(runs / "offline")
    run(offline, begin, begin.started, show_progress, launcher)
    config = start_config(config, begin.path)
    assert offline.env_id is not None
    found = {}
    for name, start in {"from-offline": str(begin.path.resolve()), "from-nothing": None}.items():
        settings = OnlineSettings(
            offline.env_id, "d3g", offline.seeds, offline.preset_name, config, plan, start
        )
        folder = RunFolder(runs / name)
        found[name] = online_run(settings, folder, folder.started, show_progress, launcher)
    return found
