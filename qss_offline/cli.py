"""`qss-offline`: the house behind the front door.

Commands import what they need when they run, where that brings torch along: looking at data and
asking for help shouldn't wait seconds for it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

import qss_offline.online.gridworld_env  # noqa: F401  registers the gridworld
from qss_offline import __version__, cli_data, cli_report
from qss_offline.command_line import main as run_command
from qss_offline.data.environments import make_env
from qss_offline.errors import UserError
from qss_offline.evaluation import evaluate

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Offline reinforcement learning from recordings without actions. "
    "The front door is `python -m recipes.random_obs --env InvertedPendulum`.",
)
app.add_typer(cli_data.app, name="data")
cli_report.register(app)


@app.command("evaluate")
def evaluate_policy(
    policy: Annotated[Path, Argument(help="a policy.safetensors of a run")],
    episodes: Annotated[int, Option(help="episodes")] = 10,
    seed: Annotated[int, Option(min=0, help="seed of the episodes")] = 0,
) -> None:
    """Let a saved policy act, and print every return."""
    if episodes <= 0:
        raise UserError(f"--episodes must be above 0, not {episodes}")
    from qss_offline.acting import load_policy

    loaded, env_id = load_policy(policy)
    result = evaluate(loaded, env_id, episodes, seed, partial(make_env, discrete_actions=True))
    typer.echo(f"{env_id}: mean return {result.mean:.1f} of {episodes} episodes")
    typer.echo("returns: " + " ".join(f"{value:.1f}" for value in result.returns))


@app.command("presets")
def presets() -> None:
    """Print the settings of every preset."""
    from qss_offline.presets import PRESETS

    typer.echo(json.dumps({name: asdict(preset) for name, preset in PRESETS.items()}, indent=2))


@app.command("version")
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Entry point of `qss-offline`."""
    run_command(app)
