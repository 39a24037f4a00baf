"""`qss sweep`: recordings × methods × presets × seeds, from a TOML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from qss_offline.cli import options


def sweep(
    file: Annotated[
        Path,
        Argument(
            metavar="SWEEP.toml",
            help="recordings = [...], methods = [...], presets = [...], seeds = 3",
        ),
    ],
    out: Annotated[Path | None, Option(help="folder of the runs (runs/<name of the file>)")] = None,
    video: Annotated[bool, Option(help="draw videos for the report")] = True,
    launcher: options.Launcher = "local",
    dry_run: options.DryRun = False,
    print_commands: options.PrintCommands = False,
    as_json: options.Json = False,
) -> None:
    """Train all combinations that a file names, and report. It goes on where it stopped."""
    from qss_offline.api.sweeping import read_sweep, run_sweep
    from qss_offline.cli.cells import chosen, end_list, refuse_failed
    from qss_offline.cli.tables import print_json, print_table

    folder = out or Path("runs") / file.stem
    asked = read_sweep(file)
    if dry_run or print_commands:
        where = chosen(launcher, None, dry_run, print_commands, as_json, several=True)
        end_list(where, run_sweep(asked, folder, launcher=where)[1])
        return
    compared, failures = run_sweep(asked, folder, launcher=launcher)
    if compared is not None:
        page = compared.report(folder / "report", video=video)
        if as_json:
            print_json(compared.rows())
        else:
            print_table(*compared.table())
            print(f"made {page}")
    refuse_failed(failures)
