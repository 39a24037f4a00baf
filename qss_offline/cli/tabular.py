"""Tabular experiments, run and put on disk: a figure, raw tables and a record of the run."""

from __future__ import annotations

import csv
import io
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qss_offline.analysis.plots.tabular import png
from qss_offline.errors import UserError
from qss_offline.files import write_bytes, write_json
from qss_offline.parallel.progress import progress
from qss_offline.runs.provenance import machine
from qss_offline.tabular.experiments import EXPERIMENTS, Plan
from qss_offline.tabular.results import Columns


def make_writable(folder: Path) -> None:
    """Make `folder` if need be, and refuse it now if a file can't be put there later.

    Raises:
        UserError: it can't.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot write to {folder}: {error.strerror or error}") from error


def run_one(name: str, plan: Plan, folder: Path, figures: Path) -> None:
    """Run an experiment, and say what was made.

    Args:
        name: of the experiment.
        plan: its settings.
        folder: of its tables and its record.
        figures: folder of its figure.

    Raises:
        UserError: a folder can't be written to.
    """
    experiment = EXPERIMENTS[name]
    begun = time.monotonic()
    with progress(name, experiment.total_steps(plan), "steps") as report:
        result = experiment.run(plan, report)
    seconds = time.monotonic() - begun
    made = [figures / f"{name}.png"]
    write_bytes(made[0], png(result))
    for table, columns in result.tables().items():
        made.append(folder / f"{table}.csv")
        write_bytes(made[-1], _csv_bytes(columns))
    made.append(folder / "results.json")
    write_json(
        made[-1],
        {
            "experiment": name,
            **machine(),
            "wall_seconds": round(seconds, 1),
            "seeds": list(plan.schedule.seeds),
            "plan": asdict(plan),
            "intervals": "mean over seeds with its 95% bootstrap interval",
            "findings": result.findings(),
        },
    )
    print(f"{name}: {experiment.title}")
    print(f"{plan.num_seeds} seeds in {seconds:.0f} s; written:")
    for path in made:
        print(f"  {path}")


def _csv_bytes(columns: Columns) -> bytes:
    """Return a table as CSV with a header; whole numbers without a point, others to 7 digits."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(
        zip(*(map(_cell, column.tolist()) for column in columns.values()), strict=True)
    )
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    return f"{value:.7g}" if isinstance(value, float) else str(value)
