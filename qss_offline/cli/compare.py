"""A comparison from the command line: run what is missing, print and write its table."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from qss_offline.analysis.plots.comparison import png
from qss_offline.cli.tables import print_table
from qss_offline.comparison.grid import seconds as seconds_of
from qss_offline.comparison.study import ComparisonOptions, Study
from qss_offline.errors import UserError
from qss_offline.launch.cell import Launcher
from qss_offline.parallel.pace import in_words
from qss_offline.parallel.progress import progress
from qss_offline.statistics import counted


def run_comparison(
    *, runs: Path | None, out: Path | None, launcher: Launcher, show_only: bool, **options: Any
) -> None:
    """Run a comparison and write its table, or only show what is there.

    Args:
        runs: folder of the runs (`runs/table1`).
        out: folder of the table; None takes that of the runs.
        launcher: where they run.
        show_only: whether to run and write nothing.
        options: those of `ComparisonOptions`.

    Raises:
        UserError: an option or a folder can't be used, or a run failed.
    """
    begun = time.monotonic()
    study = Study(ComparisonOptions(**options), runs, out, show_only)
    if not show_only and not launcher.dry:
        seconds = seconds_of(study.missing(), launcher)
        if seconds:
            print(f"This takes about {in_words(seconds)}, if nothing else runs.", flush=True)
    failures = [] if show_only else study.run(launcher, progress)
    summary = study.summary()
    if not show_only:
        study.write(summary, png(summary.shown), failures)
    for section in summary.sections():
        print_table(section.header, section.rows, section.title)
        print()
    count = counted(len(summary.missing), "run")
    if show_only:
        print(f"{count} missing; returns of {study.returns}. Nothing was run or written.")
        return
    if not summary.ran and not summary.missing:
        print(f"Nothing was run: {study.returns} holds all of these returns already.")
    print(
        f"{time.monotonic() - begun:.0f} s. {count} missing, {len(failures)} failed. "
        f"Made: {study.out}/returns.csv (last and best), members.csv (of races), curves.csv (all "
        "evaluations), table.md, table.png, provenance.json.\n"
        f"Next: qss report {study.out}/returns.csv; the same command runs what is missing, and "
        "--seeds 10 adds seeds."
    )
    if failures:
        raise UserError(f"{counted(len(failures), 'run')} failed, the first with: {failures[0]}")
