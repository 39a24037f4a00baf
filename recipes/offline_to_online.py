"""From offline to online: what an offline run saves the online mode.

    python -m recipes.offline_to_online --env InvertedPendulum --seeds 5

learns offline from a recording of random behaviour without actions (`recipes.random_obs`), goes on
online with Q, τ and I, and does the same online with the same settings from nothing. The online
steps of the offline run's inverse fit are drawn too. Runs that were interrupted go on; finished
ones are read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from qss_offline.cli import options
from qss_offline.cli.command import main


def offline_to_online(
    env: options.Environment = "InvertedPendulum",
    seeds: options.Seeds = "5",
    steps: Annotated[int, Option(help="environment steps of the online mode")] = 20_000,
    warm_up: Annotated[int, Option(help="of these before the first update")] = 1_000,
    evaluate_every: options.EvaluateEvery = 1_000,
    episodes: options.Episodes = 10,
    transitions: options.Transitions = 100_000,
    updates: options.Updates = None,
    preset: Annotated[str, Option(help="of both modes: default or paper")] = "default",
    workers: options.Workers = None,
    runs: options.Runs = Path("runs/offline_to_online"),
    results: options.Results = Path("runs/offline_to_online/results"),
) -> None:
    """Run what is missing, and draw."""
    arguments = locals()
    from qss_offline.cli.online import draw_offline_to_online

    draw_offline_to_online(**arguments)


if __name__ == "__main__":
    main(offline_to_online, "the same command again continues the runs")
