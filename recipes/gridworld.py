"""Figure 6: D3G and D3G⁻ in an 11×11 gridworld with discrete actions.

    python -m recipes.gridworld [--seeds 5] [--results results/gridworld]

trains both, measures Q(s, τ(s)), how far τ(⟨0, 0⟩) is from a neighbour over training, and the
trajectory that τ imagines, and draws the figure. Settings are those of the preset `paper` but for
smaller networks and batches and a shorter warm-up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from qss_offline.cli import options
from qss_offline.cli.command import main


def gridworld(
    seeds: options.Seeds = "5",
    steps: Annotated[int, Option(help="environment steps of a seed")] = 20_000,
    workers: options.Workers = None,
    out: options.Runs = Path("runs/gridworld"),
    results: options.Results = Path("runs/gridworld/results"),
) -> None:
    """Train, measure and draw; a run that was interrupted goes on."""
    arguments = locals()
    from qss_offline.cli.gridworld import draw_figure6

    draw_figure6(**arguments)


if __name__ == "__main__":
    main(gridworld, "the same command again continues the run")
