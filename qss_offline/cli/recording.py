"""`qss data record` and `train-expert`: behaviour that becomes recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from qss_offline.cli import options


def record(
    env: Annotated[str, Argument(metavar="ENV", help=options.ENVIRONMENT_HELP)],
    randomness: options.Randomness = 1.0,
    expert: options.Expert = None,
    transitions: options.Transitions = 100_000,
    seed: options.DatasetSeed = 0,
) -> None:
    """Record behaviour in an environment, with actions and without, unless it is there already."""
    from qss_offline.api.recording import Recording

    made = Recording.from_env(
        env, steps=transitions, randomness=randomness, expert=expert, seed=seed
    )
    print(f"{made.dataset_id}: {len(made):,} transitions of {made.env_id}, no actions")
    print(f"Next: qss data stats {made.dataset_id} looks at it, qss train {made.dataset_id} learns")


def train_expert(
    env: Annotated[str, Argument(metavar="ENV", help=options.ENVIRONMENT_HELP)],
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
    out: Annotated[Path | None, Option(help="weights (experts/<env>.safetensors)")] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="replace an expert")] = False,
) -> None:
    """Train an expert by trial and error (d3rlpy), whose behaviour can be recorded."""
    from qss_offline.cli.experts import train_and_store

    train_and_store(
        env=env, algorithm=algorithm, steps=steps, target=target, half_trained=half_trained,
        evaluate_every=evaluate_every, seed=seed, width=width, batch_size=batch_size,
        learning_rate=learning_rate, out=out, overwrite=overwrite,
    )  # fmt: skip
