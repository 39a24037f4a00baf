"""Figure 6 from the command line: runs of D3G and D3G⁻ in the gridworld, measured and drawn."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from qss_offline.analysis.plots.gridworld import png
from qss_offline.cli.tables import print_table
from qss_offline.comparison.estimate import online_seconds
from qss_offline.comparison.online_runs import online_run
from qss_offline.files import write_bytes, write_json
from qss_offline.launch.cell import Launcher
from qss_offline.online.config import EvaluationPlan, OnlineConfig, OnlineSettings
from qss_offline.online.gridworld import ENV_ID
from qss_offline.online.gridworld_measures import measure_seed
from qss_offline.online.presets import online_preset
from qss_offline.parallel.pace import in_words
from qss_offline.parallel.progress import progress
from qss_offline.runs.folder import RunFolder, parse_seeds, versions

_COMPARED = "d3g", "d3g-no-cycle"


def draw_figure6(*, seeds: str, steps: int, launcher: Launcher, out: Path, results: Path) -> None:
    """Train, or go on where runs were interrupted; measure, draw and print.

    Raises:
        UserError: an option can't be used.
    """
    asked = [(algorithm, gridworld_config(algorithm, steps)) for algorithm in _COMPARED]
    seconds = online_seconds(asked, len(parse_seeds(seeds)), launcher.workers)
    print(f"This takes about {in_words(seconds)} here.", flush=True)
    written = _measured(parse_seeds(seeds), steps, out, launcher)
    command = f"qss reproduce figure6 --seeds {seeds} --steps {steps}"
    write_json(results / "gridworld.json", {"command": command, **written})
    rows = written["algorithms"]
    write_bytes(results / "gridworld.png", png(rows, written["config"]["algorithm"]["gamma"]))
    header = ("algorithm", "seed", "distance of τ(⟨0, 0⟩)", "value error", "return")
    lines = [
        (
            algorithm,
            str(seed["seed"]),
            f"{seed['distance'][-1][1]:.2f}",
            f"{seed['value_error']:+.1f}",
            f"{seed['last_return']:.0f}",
        )
        for algorithm, measured in rows.items()
        for seed in measured
    ]
    print_table(header, lines)
    print(f"made {results / 'gridworld.json'} and {results / 'gridworld.png'}")


def gridworld_config(algorithm: str, steps: int) -> OnlineConfig:
    """Return the authors' settings with an eighth of the arithmetic and a shorter warm-up."""
    config = online_preset("paper", algorithm)
    smaller = replace(config.algorithm, hidden_dims=(128, 128), batch_size=128)
    return replace(config, algorithm=smaller, steps=steps, warm_up=min(2_000, steps))


def _measured(seeds: tuple[int, ...], steps: int, out: Path, launcher: Launcher) -> dict[str, Any]:
    """Train both algorithms, and return what Figure 6 shows, in plain JSON types.

    Returns:
        `config`, `wall_seconds`, `algorithms` with a row for each seed (`measure_seed`), and
        `versions`.
    """
    rows, wall_s = {}, {}
    for algorithm in _COMPARED:
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
        "versions": versions(),
    }
