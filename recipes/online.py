"""Act and learn together: full D3G, or D3G⁻ without its cycle.

    python -m recipes.online --env InvertedPendulum --algo d3g

trains Q(s,s'), a proposal τ(s), an inverse dynamics model I(s,s') and a forward model f(s,a) from
the environment steps of π(s) = I(s, s + τ(s)), one update a step, on any Gymnasium environment
with vectors for observations; actions may be discrete.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from qss_offline.cli import options
from qss_offline.cli.command import main


def online(
    env: options.Environment = "InvertedPendulum",
    algo: options.OnlineAlgorithm = "d3g",
    preset: options.OnlinePreset = "default",
    seeds: options.Seeds = "1",
    change: options.Change = None,
    steps: Annotated[int | None, Option(help="environment steps of a seed")] = None,
    warm_up: Annotated[int | None, Option(help="of these at random, before training")] = None,
    updates_per_step: Annotated[int | None, Option(help="updates after each step")] = None,
    evaluate_every: options.EvaluateEvery = 5_000,
    episodes: options.Episodes = 10,
    start: Annotated[Path | None, Option(help="folder of an offline run to start from")] = None,
    workers: options.Workers = None,
    device: options.Device = "cpu",
    out: options.Out = None,
    resume: options.Resume = False,
    results: Annotated[Path | None, Option(help="also write the results to this file")] = None,
    export: Annotated[str | None, Option(help="store the replays as Minari datasets")] = None,
) -> None:
    """Learn online."""
    arguments = locals()
    from qss_offline.cli.online import train_online

    train_online(arguments, online)


if __name__ == "__main__":
    main(online, "the same command with --resume continues the run")
