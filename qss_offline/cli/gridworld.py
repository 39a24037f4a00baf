"""What Figure 6 shows: runs of D3G and D3G⁻ in the gridworld, measured."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from qss_offline.comparison.online_runs import online_run
from qss_offline.launch.cell import Launcher
from qss_offline.online.config import EvaluationPlan, OnlineConfig, OnlineSettings
from qss_offline.online.gridworld import ENV_ID
from qss_offline.online.gridworld_measures import measure_seed
from qss_offline.online.presets import online_preset
from qss_offline.parallel.progress import progress
from qss_offline.runs.folder import RunFolder

COMPARED = "d3g", "d3g-no-cycle"
"""Algorithms of the figure."""


def gridworld_config(algorithm: str, steps: int) -> OnlineConfig:
    """Return the authors' settings with an eighth of the arithmetic and a shorter warm-up."""
    config = online_preset("paper", algorithm)
    smaller = replace(config.algorithm, hidden_dims=(128, 128), batch_size=128)
    return replace(config, algorithm=smaller, steps=steps, warm_up=min(2_000, steps))


def measured(seeds: tuple[int, ...], steps: int, out: Path, launcher: Launcher) -> dict[str, Any]:
    """Train both algorithms, and return what Figure 6 shows, in plain JSON types.

    Returns:
        `config`, `wall_seconds`, and `algorithms` with a row for each seed (`measure_seed`).
    """
    rows, wall_s = {}, {}
    for algorithm in COMPARED:
        config = gridworld_config(algorithm, steps)
        plan = EvaluationPlan(500, 1, True)
        settings = OnlineSettings(ENV_ID, algorithm, seeds, "paper, smaller", config, plan)
        folder = RunFolder(out / algorithm)
        found = online_run(settings, folder, folder.started, progress, launcher)
        wall_s[algorithm] = found["wall_seconds"]
        rows[algorithm] = [
            {
                "seed": seed["seed"],
                "last_return": seed["last"]["mean"],
                **measure_seed(folder.seed(seed["seed"]), config.algorithm.gamma),
            }
            for seed in found["seeds"]
        ]
    return {
        "config": asdict(gridworld_config("d3g", steps)),
        "wall_seconds": wall_s,
        "algorithms": rows,
    }
