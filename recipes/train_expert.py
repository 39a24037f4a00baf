"""An expert whose behaviour can be recorded, mixed with any share of random actions.

    python -m recipes.train_expert --env InvertedPendulum

trains d3rlpy's online TD3 (or SAC), keeps the best policy of all evaluations, runs 100 fresh
episodes with it, and stores weights and returns under datasets/experts/. Half-trained behaviour is
a policy on the way there: `--half-trained 1500` keeps the first whose evaluation returns as much,
too, under `…_medium`; let `--evaluate-every` be few steps, for returns jump.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from qss_offline.cli import options
from qss_offline.cli.command import main


def train_expert(
    env: options.Environment = "InvertedPendulum",
    algorithm: Annotated[str, Option(help="td3 or sac")] = "td3",
    steps: Annotated[int, Option(help="environment steps at most")] = 100_000,
    target: Annotated[float | None, Option(help="stop at this mean return")] = None,
    half_trained: Annotated[
        float | None, Option(help="keep the first policy of this mean return, too (…_medium)")
    ] = None,
    evaluate_every: options.EvaluateEvery = 5_000,
    seed: Annotated[int, Option(help="seed of everything random")] = 0,
    width: Annotated[int, Option(help="size of both hidden layers")] = 128,
    batch_size: Annotated[int, Option(help="transitions per update")] = 128,
    learning_rate: Annotated[float, Option(help="Adam's step size")] = 3e-4,
    out: Annotated[Path | None, Option(help="weights (datasets/experts/<env>.safetensors)")] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="replace an expert")] = False,
) -> None:
    """Train an expert by trial and error and store it."""
    arguments = locals()
    from qss_offline.cli.experts import train_and_store

    train_and_store(**arguments)


if __name__ == "__main__":
    main(train_expert, "nothing was stored")
