"""`qss-offline`: the house behind the front door."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table
from typer import Argument, Option

from qss_offline import __version__
from qss_offline.acting import load_policy
from qss_offline.command_line import main as run_command
from qss_offline.data.build import build_dataset
from qss_offline.data.environments import make_env
from qss_offline.data.load import load_transitions
from qss_offline.data.minari_store import local_dataset_ids
from qss_offline.data.specs import load_family
from qss_offline.errors import UserError
from qss_offline.evaluation import evaluate
from qss_offline.presets import PRESETS
from qss_offline.progress import progress

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Offline reinforcement learning from recordings without actions. "
    "The front door is `python -m recipes.random_obs --env InvertedPendulum`.",
)
data = typer.Typer(no_args_is_help=True, help="Build, list and describe datasets.")
app.add_typer(data, name="data")


@data.command("build")
def build(
    family: Annotated[Path, Argument(help="a family of datasets, e.g. datasets/reacher.toml")],
    overwrite: Annotated[bool, Option("--overwrite", help="replace what is there")] = False,
) -> None:
    """Build every dataset of a family, skipping what is there and verified."""
    table = Table(Column("dataset", overflow="fold"), "random", "episodes", "behaviour return")
    for spec in load_family(family):
        pair = build_dataset(spec, overwrite=overwrite, progress=progress)
        info = load_transitions(pair.obs_id).info
        returns = info.behaviour_return
        table.add_row(
            pair.obs_id,
            f"{100 * spec.random_action_prob:g}%",
            f"{info.total_episodes:,}",
            "unknown" if returns is None else f"{returns.mean:.1f} ± {returns.std:.1f}",
        )
    Console().print(table)


@data.command("list")
def list_datasets() -> None:
    """List the local datasets, with and without actions."""
    table = Table(Column("dataset", overflow="fold"))
    for column in ("environment", "actions", "transitions", "episodes"):
        table.add_column(column)
    for dataset_id in local_dataset_ids():
        try:
            info = load_transitions(dataset_id).info
        except UserError as error:
            table.add_row(dataset_id, f"can't be used: {error}", "", "", "")
            continue
        table.add_row(
            dataset_id,
            info.env_id or "unknown",
            "no" if info.observation_only else "yes",
            f"{info.total_steps:,}",
            f"{info.total_episodes:,}",
        )
    Console().print(table)


@data.command("show")
def show(dataset_id: Annotated[str, Argument(help="a Minari id")]) -> None:
    """Describe one dataset."""
    info = asdict(load_transitions(dataset_id).info)
    for name in ("action_low", "action_high"):
        info[name] = None if info[name] is None else info[name].tolist()
    typer.echo(json.dumps(info, indent=2))


@app.command("evaluate")
def evaluate_policy(
    policy: Annotated[Path, Argument(help="a policy.safetensors of a run")],
    episodes: Annotated[int, Option(help="episodes")] = 10,
    seed: Annotated[int, Option(help="seed of the episodes")] = 0,
) -> None:
    """Let a saved policy act, and print every return."""
    if episodes <= 0:
        raise UserError(f"--episodes must be above 0, not {episodes}")
    loaded, env_id = load_policy(policy)
    result = evaluate(loaded, env_id, episodes, seed, make_env)
    typer.echo(f"{env_id}: mean return {result.mean:.1f} of {episodes} episodes")
    typer.echo("returns: " + " ".join(f"{value:.1f}" for value in result.returns))


@app.command("presets")
def presets() -> None:
    """Print the settings of every preset."""
    typer.echo(json.dumps({name: asdict(preset) for name, preset in PRESETS.items()}, indent=2))


@app.command("version")
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Entry point of `qss-offline`."""
    run_command(app)
