"""From a recording of random behaviour, without actions, to a policy.

    python -m recipes.random_obs --env InvertedPendulum

records random behaviour, drops the actions, learns Q(s,s') and a proposal τ(s) offline (D3G),
fits an inverse dynamics model I(s,s') on a few online steps, and evaluates π(s) = I(s, s + τ(s)).
"""

from __future__ import annotations

from typing import Annotated

from typer import Option

from qss_offline.cli import options
from qss_offline.cli.command import main


def random_obs(
    env: options.Environment = "InvertedPendulum",
    randomness: options.Randomness = 1.0,
    expert: options.Expert = None,
    transitions: options.Transitions = 100_000,
    dataset_seed: options.DatasetSeed = 0,
    dataset: options.Dataset = None,
    seeds: options.Seeds = "1",
    updates: options.Updates = None,
    preset: options.Preset = "default",
    change: options.Change = None,
    online_steps: options.OnlineSteps = None,
    online_rounds: options.OnlineRounds = None,
    actions_from: options.ActionsFrom = None,
    device: options.Device = "auto",
    tf32: Annotated[
        bool, Option("--tf32", help="faster, coarser matrix products on a GPU")
    ] = False,
    episodes: options.Episodes = 10,
    out: options.Out = None,
    resume: options.Resume = False,
    video: options.Video = False,
    tensorboard: Annotated[
        bool, Option("--tensorboard", help="write what TensorBoard shows, too")
    ] = False,
) -> None:
    """Learn a policy from a recording without actions."""
    arguments = locals()
    from qss_offline.cli.train import train

    train("d3g", arguments, random_obs)


if __name__ == "__main__":
    main(random_obs, "the same command with --resume continues the run")
