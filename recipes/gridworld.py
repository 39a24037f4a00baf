"""Figure 6: D3G and D3G⁻ in an 11×11 gridworld with discrete actions.

    python -m recipes.gridworld [--seeds 5] [--results results/gridworld]

trains both, measures Q(s, τ(s)), how far τ(⟨0, 0⟩) is from a neighbour over training, and the
trajectory that τ imagines, and draws the figure. Settings are those of the preset `paper` but for
the sizes named below.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.table import Table
from typer import Option

from qss_offline.analysis.gridworld import measure_runs
from qss_offline.analysis.plots.gridworld import png
from qss_offline.cli.command import main
from qss_offline.files import write_bytes, write_json
from qss_offline.parallel.progress import progress
from qss_offline.runs.folder import parse_seeds


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
    written = measure_runs(parse_seeds(seeds), steps, out, workers, progress)
    command = f"python -m recipes.gridworld --seeds {seeds} --steps {steps}"
    write_json(results / "gridworld.json", {"command": command, **written})
    rows = written["algorithms"]
    write_bytes(results / "gridworld.png", png(rows, written["config"]["algorithm"]["gamma"]))
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
