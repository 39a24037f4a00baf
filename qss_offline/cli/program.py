"""`qss-offline`: the house behind the front door.

Commands import what they need when they run, where that brings torch along: looking at data and
asking for help shouldn't wait seconds for it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from typer import Argument, Option

import qss_offline.online.gridworld  # noqa: F401  registers the gridworld
from qss_offline import __version__
from qss_offline.cli import data as cli_data
from qss_offline.cli import report as cli_report
from qss_offline.cli.command import main as run_command
from qss_offline.data.environments import env_id_of_file, env_name_of, make_env, resolve_env_id
from qss_offline.errors import UserError, printable
from qss_offline.evaluation.episodes import evaluate

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
    env: Annotated[
        str | None,
        Option(help="where it acts, such as module:Env-v0, which is imported (as the file says)"),
    ] = None,
) -> None:
    """Let a saved policy act, and print every return."""
    if episodes <= 0:
        raise UserError(f"--episodes must be above 0, not {episodes}")
    from qss_offline.evaluation.policies import check_fits, load_policy

    named = None if env is None else resolve_env_id(env)
    loaded, told = load_policy(policy)
    if named is not None and env_name_of(named) != env_name_of(told):
        raise UserError(f"{policy} acts in {printable(told)}, not in {named}")
    env_id = env_id_of_file(told, policy) if named is None else named
    make = partial(make_env, discrete_actions=True)
    tried = make(env_id)
    try:
        check_fits(loaded, tried)
    finally:
        tried.close()

    def act(obs: NDArray[Any]) -> NDArray[Any]:
        actions = loaded(obs)
        # MuJoCo takes NaN for 0, and the returns would look as if the policy had acted.
        if not np.isfinite(actions).all():
            raise UserError(f"{policy} diverged: its actions in {env_id} are not finite")
        return actions

    result = evaluate(act, env_id, episodes, seed, make)
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
