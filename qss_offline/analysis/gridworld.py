"""Runs of D3G and D3G⁻ in the gridworld, and what Figure 6 shows of them."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from qss_offline.comparison.online_runs import online_run
from qss_offline.online.config import EvaluationPlan, OnlineConfig, OnlineSettings
from qss_offline.online.gridworld import ENV_ID
from qss_offline.online.gridworld_measures import measure_seed
from qss_offline.online.presets import online_preset
from qss_offline.parallel.reporting import ProgressFactory, no_progress
from qss_offline.runs.folder import RunFolder, versions


def gridworld_config(algorithm: str, steps: int) -> OnlineConfig:
    """Return the authors' settings with an eighth of the arithmetic and a shorter warm-up."""
    config = online_preset("paper", algorithm)
    smaller = replace(config.algorithm, hidden_dims=(128, 128), batch_size=128)
    return replace(config, algorithm=smaller, steps=steps, warm_up=min(2_000, steps))


def measure_runs(
    seeds: tuple[int, ...],
    steps: int,
    out: Path,
    workers: int | None = None,
    show_progress: ProgressFactory = no_progress,
) -> dict[str, Any]:
    """Train both, or go on where they were interrupted, and measure every seed.

    Args:
        seeds: of both.
        steps: environment steps of a seed.
        out: folder of the runs.
        workers: processes; None takes one a core.
        show_progress: makes a progress display.

    Returns:
        `config`, `wall_seconds`, `algorithms` with a row for each seed (`measure_seed`), and
        `versions`, in plain JSON types.
    """
    rows, wall_s = {}, {}
    for algorithm in ("d3g", "d3g-no-cycle"):
        config = gridworld_config(algorithm, steps)
        plan = EvaluationPlan(500, 1, True)
        settings = OnlineSettings(ENV_ID, algorithm, seeds, "paper, smaller", config, plan)
        folder = RunFolder(out / algorithm)
        found = online_run(settings, folder, folder.started, show_progress, workers)
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
        "versions": versions(),
    }
