"""The tabular experiments from the command line."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

from qss_offline.parallel.progress import progress
from qss_offline.tabular.experiments import EXPERIMENTS, Plan
from qss_offline.tabular.saving import save


def run_one(name: str, plan: Plan, folder: Path, figures: Path) -> None:
    """Run an experiment, and say what was made.

    Args:
        name: of the experiment.
        plan: its settings.
        folder: of its tables.
        figures: folder of its figure.

    Raises:
        UserError: a folder can't be written to.
    """
    experiment = EXPERIMENTS[name]
    begun = time.monotonic()
    with progress(name, experiment.total_steps(plan), "steps") as report:
        result = experiment.run(plan, report)
    command = shlex.join(["qss", *sys.argv[1:]])
    seconds = time.monotonic() - begun
    written = save(name, result, plan, command, seconds, folder, figures)
    print(f"{name}: {experiment.title}")
    print(f"{plan.num_seeds} seeds in {seconds:.0f} s; written:")
    for path in written:
        print(f"  {path}")
