"""`qss-offline`: its commands but for those on data and on finished runs.

Commands import what they need when they run: asking for help must not wait for torch or Minari.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from qss_offline import __version__
from qss_offline.cli import data as cli_data
from qss_offline.cli import report as cli_report
from qss_offline.cli.command import main as run_command
from qss_offline.errors import UserError, printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Offline reinforcement learning from recordings without actions. "
    "Begin with `python -m recipes.random_obs --env InvertedPendulum`.",
)
app.add_typer(cli_data.app, name="data")
cli_report.register(app)


@app.callback()
def register_gridworld() -> None:
    """Let every command know the environment that comes with the package."""
    import qss_offline.online.gridworld  # noqa: F401  registers it


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
    import numpy as np

    from qss_offline.data.environments import env_id_of_file, env_name_of, make_env, resolve_env_id
    from qss_offline.evaluation.episodes import evaluate
    from qss_offline.evaluation.policies import check_fits, load_policy

    named = None if env is None else resolve_env_id(env)
    loaded, stored_id = load_policy(policy)
    if named is not None and env_name_of(named) != env_name_of(stored_id):
        raise UserError(f"{policy} acts in {printable(stored_id)}, not in {named}")
    env_id = env_id_of_file(stored_id, policy) if named is None else named
    make = partial(make_env, discrete_actions=True)
    first = make(env_id)
    try:
        check_fits(loaded, first)
    finally:
        first.close()

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
