"""A small run as a command: `python -m tests.hostile.short_run DATASET OUT [--resume]`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from typer import Option

from qss_offline.cli.command import main
from qss_offline.runs.folder import RunFolder
from qss_offline.training.runner import run
from tests.small_run import settings


def short_run(dataset: str, out: Path, resume: Annotated[bool, Option("--resume")] = False) -> None:
    """Train, fit and evaluate."""
    asked = settings(dataset)
    run(replace(asked, preset=replace(asked.preset, updates=2400)), RunFolder(out), resume)


if __name__ == "__main__":
    main(short_run, "the same command with --resume continues the run")
