"""`qss-offline render`, `report` and `doctor`: seeing what runs did."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from typer import Argument, Option

from qss_offline.cli.options import RegisteredModules
from qss_offline.errors import UserError
from qss_offline.parallel.progress import progress


def render(
    run: Annotated[Path, Argument(metavar="RUN", help="a run folder, such as runs/NAME")],
    out: Annotated[Path | None, Option(help="folder of the pictures (RUN/render)")] = None,
    seed: Annotated[int | None, Option(help="seed that is shown (the first)")] = None,
    steps: Annotated[int, Option(help="steps of each trajectory")] = 50,
    episodes: Annotated[int, Option(help="first states of each seed, for the distances")] = 20,
    env: RegisteredModules = None,
) -> None:
    """Draw recorded behaviour | imagined plan | the policy acting, as MP4, GIF and PNG."""
    from qss_offline.analysis.video import render_run
    from qss_offline.data.environments import register_environments
    from qss_offline.runs.reader import load_run

    register_environments(env or ())
    made = render_run(
        load_run(run), out, seed=seed, steps=steps, episodes=episodes, progress=progress
    )
    for path in made.files:
        typer.echo(f"made {path}")


def report(
    sources: Annotated[
        list[Path], Argument(metavar="RUN...", help="run folders, and returns.csv files")
    ],
    out: Annotated[Path | None, Option(help="folder of the report (RUN/report, or report)")] = None,
    video: Annotated[bool, Option(help="draw videos that aren't there yet")] = True,
    env: RegisteredModules = None,
) -> None:
    """Write curves and tables of runs: PNG, SVG, and one page of HTML that needs nothing else."""
    from qss_offline.analysis.report.making import make_report
    from qss_offline.data.environments import register_environments

    register_environments(env or ())
    typer.echo(f"made {make_report(sources, out, video=video, progress=progress)}")


def doctor() -> None:
    """Look at versions, devices, drawing, the Minari root, disk and threads. Code 2 if unusable."""
    from qss_offline.cli.doctor import examine

    checks = examine()
    marks = {True: "ok", False: "[bold red]look[/]", None: "-"}
    table = Table("", "what", Column("found", overflow="fold"))
    for check in checks:
        table.add_row(marks[check.ok], escape(check.name), escape(check.found))
    Console().print(table)
    missing = [check for check in checks if check.needed and check.ok is False]
    if missing:
        raise UserError(f"{missing[0].name}: {missing[0].found}")


def register(app: typer.Typer) -> None:
    """Add the commands to `qss-offline`."""
    for command in (render, report, doctor):
        app.command()(command)
