"""Figure 6: D3G and D3G⁻ in an 11×11 gridworld with discrete actions.

    python -m recipes.gridworld [--seeds 5] [--results results/gridworld]

trains both, measures Q(s, τ(s)), how far τ(⟨0, 0⟩) is from a neighbour over training, and the
trajectory that τ imagines, and draws the figure. Settings are those of the preset `paper` but for
the sizes named below.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.table import Table
from typer import Option

from qss_offline.analysis.plots.gridworld import measure_seed, png
from qss_offline.cli.command import main
from qss_offline.comparison.online_runs import online_run
from qss_offline.files import write_bytes, write_json
from qss_offline.online.config import EvaluationPlan, OnlineConfig, OnlineSettings
from qss_offline.online.gridworld import ENV_ID
from qss_offline.online.presets import online_preset
from qss_offline.parallel.progress import progress
from qss_offline.runs.folder import RunFolder, parse_seeds, versions

PRESET = "paper, smaller"


def gridworld_config(algorithm: str, steps: int) -> OnlineConfig:
    """Return the authors' settings with an eighth of the arithmetic and a shorter warm-up."""
    config = online_preset("paper", algorithm)
    smaller = replace(config.algorithm, hidden_dims=(128, 128), batch_size=128)
    return replace(config, algorithm=smaller, steps=steps, warm_up=min(2_000, steps))


def gridworld(
    seeds: Annotated[str, Option(help="number of seeds, or a list such as 0,3,7")] = "5",
    steps: Annotated[int, Option(help="environment steps of a seed")] = 20_000,
    workers: Annotated[int | None, Option(min=1, help="processes (one a core)")] = None,
    out: Annotated[Path, Option(help="where the runs go")] = Path("runs/gridworld"),
    results: Annotated[Path, Option(help="where results and figure go")] = Path(
        "runs/gridworld/results"
    ),
) -> None:
    """Train, measure and draw; a run that was interrupted goes on."""
    seed_list = parse_seeds(seeds)
    rows = {}
    gamma, wall_s = 0.0, {}
    for algorithm in ("d3g", "d3g-no-cycle"):
        config = gridworld_config(algorithm, steps)
        gamma = config.algorithm.gamma
        settings = OnlineSettings(
            ENV_ID, algorithm, seed_list, PRESET, config, EvaluationPlan(500, 1, True)
        )
        folder = RunFolder(out / algorithm)
        found = online_run(settings, folder, folder.started, progress, workers)
        wall_s[algorithm] = found["wall_seconds"]
        rows[algorithm] = [
            {
                "seed": seed["seed"],
                "last_return": seed["last"],
                **measure_seed(folder.seed(seed["seed"]), gamma),
            }
            for seed in found["seeds"]
        ]
    written = {
        "command": f"python -m recipes.gridworld --seeds {seeds} --steps {steps}",
        "config": asdict(gridworld_config("d3g", steps)),
        "wall_seconds": wall_s,
        "algorithms": rows,
        "versions": versions(),
    }
    write_json(results / "gridworld.json", written)
    write_bytes(results / "gridworld.png", png(rows, gamma))
    table = Table("algorithm", "seed", "distance of τ(⟨0, 0⟩)", "value error", "return")
    for algorithm, measured in rows.items():
        for seed in measured:
            table.add_row(
                algorithm,
                str(seed["seed"]),
                f"{seed['distance'][-1][1]:.2f}",
                f"{seed['value_error']:+.1f}",
                f"{seed['last_return']:.0f}",
            )
    Console().print(table)
    print(f"made {results / 'gridworld.json'} and {results / 'gridworld.png'}")


if __name__ == "__main__":
    main(gridworld, "the same command again continues the run")
