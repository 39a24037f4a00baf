"""Cells listed instead of run, and `qss cell`, which runs one that another scheduler starts."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument

from qss_offline.cli import options
from qss_offline.errors import UserError, printable, shown

if TYPE_CHECKING:
    from qss_offline.launch.cell import Cell, Failure, Launcher
    from qss_offline.parallel.processes import Watch

_TASKS = (
    "qss_offline.training.cells:train_cell",
    "qss_offline.comparison.rivals:train_rival",
    "qss_offline.comparison.raced:let_members_act",
    "qss_offline.comparison.online_runs:online_cell",
)
"""What a file of a cell may ask for."""


def chosen(
    launcher: str,
    workers: int | None,
    dry_run: bool = False,
    print_commands: bool = False,
    as_json: bool = False,
    several: bool = False,
) -> Launcher:
    """Return the launcher that options ask for, which may be one that only lists.

    Args:
        launcher: what `--launcher` says.
        workers: what `--workers` says.
        dry_run: whether cells are only listed.
        print_commands: whether commands are only printed.
        as_json: whether JSON is printed.
        several: whether there are several runs, some of which may not be able to run: the command
            goes on after a list. Of one run a list ends the program.

    Raises:
        UserError: there is no such launcher, or options contradict each other.
    """
    from qss_offline.launch.choice import launcher_of

    if dry_run and print_commands:
        raise UserError("--dry-run and --print-commands are two things: take one of them")
    if as_json and (dry_run or print_commands):
        raise UserError("--json is of what was run; --dry-run and --print-commands run nothing")
    found = launcher_of(launcher, workers)
    if dry_run:
        return _Listing(found, several)
    return _Commands(found, several) if print_commands else found


def refuse_failed(failures: Sequence[str]) -> None:
    """End a command whose runs are done, or listed.

    Args:
        failures: a line for each run that failed.

    Raises:
        UserError: there are some.
    """
    from qss_offline.statistics import counted

    if failures:
        raise UserError(f"{counted(len(failures), 'run')} failed, the first with: {failures[0]}")


def end_list(launcher: Launcher, failures: Sequence[str]) -> None:
    """End a command that listed the cells of several runs.

    Args:
        launcher: of `chosen`.
        failures: a line for each run that can't run.

    Raises:
        UserError: there are some.
    """
    from qss_offline.parallel.reporting import print_notice

    refuse_failed(failures)
    if isinstance(launcher, _Commands) and not launcher.printed:
        print_notice("all is done: the same command without --print-commands sums it up")


class _Listing:
    """Lists cells in their order, and ends the program unless there are several runs."""

    dry = lists = True

    def __init__(self, launcher: Launcher, several: bool) -> None:
        self._launcher, self.apart, self.workers = launcher, launcher.apart, launcher.workers
        self._several = several

    def width(self, cells: Sequence[Cell]) -> int:
        """Return how many would run at a time."""
        return self._launcher.width(cells)

    def run(
        self, cells: Sequence[Cell], watch: Watch
    ) -> Generator[tuple[int, Failure], None, None]:
        """Print all cells."""
        from qss_offline.cli.tables import print_table
        from qss_offline.parallel.pace import in_words
        from qss_offline.statistics import counted

        places = {cell.name: str(number) for number, cell in enumerate(cells, 1)}
        rows = [
            (
                places[cell.name],
                cell.name,
                in_words(cell.seconds),
                " ".join(places[name] for name in cell.after if name in places) or "-",
            )
            for cell in cells
        ]
        print_table(("order", "cell", "about", "after"), rows)
        width = self._launcher.width(cells)
        longest = max((cell.seconds for cell in cells), default=0.0)
        seconds = max(longest, sum(cell.seconds for cell in cells) / width)
        print(
            f"{counted(len(cells), 'cell')}, about {in_words(seconds)} with {width} at a time. "
            "Nothing was run or written."
        )
        if not self._several:
            raise typer.Exit
        yield from ()


class _Commands:
    """Writes a file and prints a command a cell; ends the program unless there are several runs.

    Attributes:
        printed: how many commands.
    """

    dry, apart, lists = False, True, True

    def __init__(self, launcher: Launcher, several: bool) -> None:
        self.workers, self._several, self.printed = launcher.workers, several, 0

    def width(self, cells: Sequence[Cell]) -> int:
        """Return one: nothing is run."""
        return 1

    def run(
        self, cells: Sequence[Cell], watch: Watch
    ) -> Generator[tuple[int, Failure], None, None]:
        """Print all commands."""
        from qss_offline.files import write_json
        from qss_offline.settings_json import to_plain

        places = {cell.name: str(number) for number, cell in enumerate(cells, 1)}
        for cell in cells:
            name = re.sub(r"[^\w.-]+", "-", cell.name)
            path = Path(cell.holds[0]) / f"{name}.cell.json"
            write_json(path, to_plain(cell))
            words = ["qss", "cell", str(path)]
            for env_id in cell.environments:
                words += ["--env", env_id] if ":" in env_id else []
            after = " ".join(places[name] for name in cell.after if name in places)
            print(shlex.join(words) + (f"  # after {after}" if after else ""))
        self.printed += len(cells)
        if not self._several:
            raise typer.Exit
        yield from ()


def cell(
    file: Annotated[Path, Argument(metavar="CELL.json", help="from --print-commands")],
    env: options.RegisteredModules = None,
) -> None:
    """Run one cell, from where it stopped.

    The command that printed it, or of a single run `qss resume`, then gathers all.
    """
    from qss_offline.data.environments import env_id_of_file, register_environments
    from qss_offline.launch.cell import cell_of
    from qss_offline.launch.driver import run_shown
    from qss_offline.launch.local import LocalLauncher
    from qss_offline.launch.lock import hold
    from qss_offline.parallel.progress import progress
    from qss_offline.parallel.reporting import no_tick
    from qss_offline.runs.folder import RunFolder, read_json

    register_environments(env or ())
    found = cell_of(read_json(file), str(file))
    if found.task not in _TASKS:
        raise UserError(f"{file} asks for {shown(found.task)}, which is no cell's task")
    known = {env_id: env_id_of_file(env_id, file) for env_id in found.environments}
    # What a file names is never imported; its settings name what was looked up.
    settings = _with_environments(found.settings, known)
    found = replace(found, environments=tuple(known.values()), settings=settings)
    begun = time.monotonic()
    for _, failure in run_shown(
        [found], LocalLauncher(1), progress, found.name, table=False, unit="updates"
    ):
        if failure is not None:
            raise UserError(failure)
    run = RunFolder(Path(settings["folder"]))
    # Those of a run may end side by side, on several machines.
    with hold([run.path], no_tick):
        run.set_elapsed(run.elapsed_s + time.monotonic() - begun)
    print(f"done: {printable(found.name)}")


def _with_environments(settings: Any, known: Mapping[str, str]) -> Any:
    """Return settings whose environments are those that were looked up.

    Raises:
        UserError: they name one that the cell doesn't.
    """
    if isinstance(settings, list):
        return [_with_environments(one, known) for one in settings]
    if not isinstance(settings, dict):
        return settings
    made = {name: _with_environments(one, known) for name, one in settings.items()}
    env_id = made.get("env_id")
    if env_id is not None:
        if not isinstance(env_id, str) or env_id not in known:
            raise UserError(f"the cell's settings name {shown(env_id)}, the cell doesn't")
        made["env_id"] = known[env_id]
    return made
