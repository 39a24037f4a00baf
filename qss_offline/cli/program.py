"""The program `qss`: its commands, each in the module of its group.

Commands import what they need when they run: asking for help must not wait for torch or Minari.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer
from typer import Option

from qss_offline import __version__
from qss_offline.cli import about, cells, data, recording, reproduce, runs, sweep, training
from qss_offline.cli.command import add, make_app
from qss_offline.cli.command import main as run_command

app = make_app(
    "Policies from recordings that hold no actions. Begin with `qss demo`.", completion=True
)
_COMMANDS: tuple[Callable[..., None], ...] = (
    training.demo, training.train, training.train_online, training.fit_inverse, training.resume,
    runs.runs, runs.evaluate, runs.render, runs.report, runs.export, runs.compare, sweep.sweep,
    cells.cell, about.presets, about.doctor,
)  # fmt: skip
for command in _COMMANDS:
    add(app, command)
add(data.app, recording.record)
add(data.app, recording.train_expert)
app.add_typer(data.app, name="data")
app.add_typer(reproduce.app, name="reproduce")


def _show_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def version(
    show: Annotated[
        bool,
        Option("--version", callback=_show_version, is_eager=True, help="print the version"),
    ] = False,
) -> None:
    """Take the options of the program itself."""


def main() -> None:
    """Entry point of `qss`, and of `qss-offline`, its longer name."""
    run_command(app)


if __name__ == "__main__":
    main()
