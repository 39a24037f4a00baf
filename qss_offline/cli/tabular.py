"""The tabular experiments from the command line."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

from qss_offline.errors import UserError, nearest
from qss_offline.parallel.pace import in_words
from qss_offline.parallel.progress import progress
from qss_offline.tabular.experiments import EXPERIMENTS, Plan
from qss_offline.tabular.saving import make_writable, save

_SECONDS_EACH = 90.0
"""Of an experiment with its own settings, on one core."""


def run_tabular(
    *,
    experiment: str,
    out: Path | None,
    figures: Path | None,
    seeds: int | None,
    steps: int | None,
    alpha: float | None,
    walkers: int | None,
) -> None:
    """Run one experiment, or all, and say what was made.

    Raises:
        UserError: an option or a folder can't be used.
    """
    command = shlex.join(["qss", *sys.argv[1:]])
    if experiment == "all":
        folders = {name: (out or Path("runs/tabular")) / name for name in EXPERIMENTS}
    elif experiment in EXPERIMENTS:
        folders = {experiment: out or Path("runs/tabular") / experiment}
    else:
        known = [*EXPERIMENTS, "all"]
        hint = nearest(experiment, known) or f"; there are {', '.join(known)}"
        raise UserError(f"unknown experiment {experiment!r}{hint}")
    plans = {name: EXPERIMENTS[name].plan.spend(seeds, steps, alpha, walkers) for name in folders}
    for folder in folders.values():
        make_writable(folder)
        make_writable(figures or folder)
    print(f"This takes about {in_words(_SECONDS_EACH * len(folders))} at most.", flush=True)
    for name, folder in folders.items():
        _run_one(name, plans[name], command, folder, figures or folder)


def _run_one(name: str, plan: Plan, command: str, folder: Path, figures: Path) -> None:
    experiment = EXPERIMENTS[name]
    begun = time.monotonic()
    with progress(name, experiment.total_steps(plan), "steps") as report:
        result = experiment.run(plan, report)
    seconds = time.monotonic() - begun
    written = save(name, result, plan, command, seconds, folder, figures)
    print(f"{name}: {experiment.title}")
    print(f"{plan.num_seeds} seeds in {seconds:.0f} s; written:")
    for path in written:
        print(f"  {path}")
