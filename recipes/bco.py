"""BCO from a recording without actions: infer the actions, and clone them.

    python -m recipes.bco --env Hopper --randomness 0.5

records behaviour, drops the actions, and in rounds takes a few online steps, fits an inverse
dynamics model I(s,s') to them, labels the recording with the actions that it infers, and clones
these: where behaviour is stochastic not their mean, but what most steps of a state do
(`--error-power`; 2 is BCO as published). In harder environments, recorded with a controller at half
or three quarters of the steps and random actions at the others, it often returns more than D3G;
where all actions are random there is nothing to repeat, and D3G (`recipes.random_obs`) learns (see
`docs/locomotion.md`).
"""

from __future__ import annotations

from typing import Annotated

from typer import Option

from qss_offline.cli import options
from qss_offline.cli.command import main


def bco(
    env: options.Environment = "Hopper",
    randomness: options.Randomness = 0.5,
    expert: options.Expert = None,
    transitions: options.Transitions = 100_000,
    dataset_seed: options.DatasetSeed = 0,
    dataset: options.Dataset = None,
    seeds: options.Seeds = "1",
    preset: options.Preset = "bodies",
    error_power: Annotated[
        float | None,
        Option(help="of cloning: 2 is the labels' mean, 0.5 near their mode; measured if unset"),
    ] = None,
    updates: Annotated[int, Option(help="of the policy, over all rounds")] = 15_000,
    online_steps: options.OnlineSteps = None,
    online_rounds: options.OnlineRounds = None,
    actions_from: options.ActionsFrom = None,
    episodes: options.Episodes = 10,
    out: options.Out = None,
    resume: options.Resume = False,
    video: options.Video = False,
) -> None:
    """Repeat what a recording without actions shows."""
    arguments = locals()
    from qss_offline.cli.train import train

    train("bco", arguments, bco)


if __name__ == "__main__":
    main(bco, "the same command with --resume continues the run")
