"""From offline to online: what an offline run saves the online mode.

    python -m recipes.offline_to_online --env InvertedPendulum --seeds 5

learns offline from a recording of random behaviour without actions (`recipes.random_obs`), goes on
online with Q, τ and I, and does the same online with the same settings from nothing. The online
steps of the offline run's inverse fit are drawn too. Runs that were interrupted go on; finished
ones are read.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from typer import Option

from qss_offline.analysis.plots.learning_curves import png, return_lines
from qss_offline.cli.command import main
from qss_offline.comparison.online_runs import online_run
from qss_offline.data.build import build_dataset
from qss_offline.data.environments import make_env, resolve_env_id
from qss_offline.data.specs import DatasetSpec
from qss_offline.files import write_bytes, write_json
from qss_offline.online.config import EvaluationPlan, OnlineSettings
from qss_offline.online.presets import online_preset
from qss_offline.online.warm_start import start_config
from qss_offline.parallel.progress import progress
from qss_offline.presets import preset as find_preset
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import RunFolder, parse_seeds
from qss_offline.runs.provenance import machine
from qss_offline.training.runner import run


def offline_to_online(
    env: Annotated[str, Option(help="Gymnasium id or short name")] = "InvertedPendulum",
    seeds: Annotated[str, Option(help="number of seeds, or a list such as 0,3,7")] = "5",
    steps: Annotated[int, Option(help="environment steps of the online mode")] = 20_000,
    warm_up: Annotated[int, Option(help="of these before the first update")] = 1_000,
    evaluate_every: Annotated[int, Option(help="environment steps between evaluations")] = 1_000,
    episodes: Annotated[int, Option(help="episodes of each evaluation")] = 10,
    transitions: Annotated[int, Option(help="size of the recording")] = 100_000,
    updates: Annotated[int | None, Option(help="updates of offline D3G")] = None,
    preset: Annotated[str, Option(help="default or paper, of both modes")] = "default",
    workers: Annotated[int | None, Option(min=1, help="processes (one a core)")] = None,
    runs: Annotated[Path, Option(help="where the runs go")] = Path("runs/offline_to_online"),
    results: Annotated[Path, Option(help="where results and figure go")] = Path(
        "runs/offline_to_online/results"
    ),
) -> None:
    """Run what is missing, and draw."""
    env_id, chosen = resolve_env_id(env), parse_seeds(seeds)
    make_env(env_id).close()
    config = replace(online_preset(preset), steps=steps, warm_up=warm_up)
    dataset = build_dataset(DatasetSpec(env_id, 1.0, transitions), progress=progress).obs_id
    begun = runs / env_id.replace("/", "-")
    offline = RunFolder(begun / "offline")
    spent = find_preset(preset).spend(updates, None, None)
    asked = RunConfig("d3g", env_id, dataset, chosen, preset, spent, evaluation_episodes=episodes)
    run(asked, offline, offline.started, progress, workers)
    # The settings that a start brings with it hold for both.
    config = start_config(config, offline.path)
    made = []
    for name, start in {"from-offline": offline.path, "from-nothing": None}.items():
        settings = OnlineSettings(
            env_id,
            "d3g",
            chosen,
            preset,
            config,
            EvaluationPlan(evaluate_every, episodes),
            None if start is None else str(start),
        )
        folder = RunFolder(begun / name)
        found = online_run(settings, folder, folder.started, progress, workers)
        write_json(results / f"{env_id}-{name}.json".replace("/", "-"), found)
        made.append(found)
    write_json(results / "provenance.json", {"machine": machine()})
    picture = results / f"{env_id}.png".replace("/", "-")
    write_bytes(picture, png(made))
    for found in made:
        for line in return_lines(found):
            print(line)
    print(f"made {picture}; every return is in {results}")


if __name__ == "__main__":
    main(offline_to_online, "the same command again continues the runs")
