"""The tabular experiments of the paper: what Q(s, s') is, in minutes on one core.

    python -m recipes.tabular <experiment> [--out DIR] [--seeds N]

Each experiment writes its figure, the raw results of every seed as CSV, and results.json.
"""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from qss_offline.cli.command import main
from qss_offline.errors import UserError, nearest
from qss_offline.parallel.progress import progress
from qss_offline.tabular.experiments import EXPERIMENTS, Plan
from qss_offline.tabular.saving import make_writable, save


def tabular(
    experiment: Annotated[str, Argument(help=", ".join([*EXPERIMENTS, "or all"]))],
    out: Annotated[Path | None, Option(help="where to (runs/tabular/<experiment>)")] = None,
    figures: Annotated[Path | None, Option(help="where the figure goes (as --out)")] = None,
    seeds: Annotated[int | None, Option(help="number of seeds (the paper's)")] = None,
    steps: Annotated[int | None, Option(help="environment steps of each run")] = None,
    alpha: Annotated[float | None, Option(help="step size (the authors' is 0.01)")] = None,
    walkers: Annotated[int | None, Option(help="walkers a table (the authors have 1)")] = None,
) -> None:
    """Repeat an experiment of sections 2 and 3 of the paper."""
    command = shlex.join(["python", "-m", "recipes.tabular", *sys.argv[1:]])
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
    for name, folder in folders.items():
        _do(name, plans[name], command, folder, figures or folder)


def _do(name: str, plan: Plan, command: str, folder: Path, figures: Path) -> None:
    """Run one experiment, save it, and say what was made."""
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


if __name__ == "__main__":
    main(tabular)
