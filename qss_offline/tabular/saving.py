"""Puts a finished experiment on disk: its figure, its raw tables, and a record of the run."""

from __future__ import annotations

import csv
import datetime
import io
import os
import platform
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from qss_offline.errors import UserError
from qss_offline.files import write_bytes, write_json
from qss_offline.tabular.experiments import Plan
from qss_offline.tabular.plots import png
from qss_offline.tabular.results import Columns, Result


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


def save(
    name: str,
    result: Result,
    plan: Plan,
    command: str,
    wall_seconds: float,
    out: Path,
    figures: Path,
) -> list[Path]:
    """Write `figures`/NAME.png, and the CSV files and results.json in `out`; return their paths."""
    picture = figures / f"{name}.png"
    write_bytes(picture, png(result))
    written = [picture]
    for table, columns in result.tables().items():
        path = out / f"{table}.csv"
        write_bytes(path, csv_bytes(columns))
        written.append(path)
    record = out / "results.json"
    write_json(
        record,
        {
            "experiment": name,
            "command": command,
            "date": datetime.date.today().isoformat(),
            "wall_seconds": round(wall_seconds, 1),
            "machine": machine(),
            "versions": {"python": platform.python_version(), "numpy": np.__version__},
            "seeds": list(plan.schedule.seeds),
            "plan": asdict(plan),
            "intervals": "mean over seeds with its 95% bootstrap interval",
            "findings": result.findings(),
        },
    )
    return [*written, record]


def csv_bytes(columns: Columns) -> bytes:
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


def machine() -> str:
    """Return how many cores this machine has, and of what make."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    return f"{os.cpu_count()} cores, {processor}"
