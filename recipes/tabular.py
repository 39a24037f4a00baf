"""The tabular experiments of the paper: what Q(s, s') is, in minutes on one core.

    python -m recipes.tabular <experiment> [--out DIR] [--seeds N]

Each writes its figure, the raw results of every seed as CSV, and results.json.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from qss_offline.errors import UserError, nearest
from qss_offline.progress import progress
from qss_offline.tabular.experiments import EXPERIMENTS, Experiment, Plan
from qss_offline.tabular.saving import make_writable, save


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see python -m recipes.tabular --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        _run(_parser().parse_args(arguments), shlex.join(["-m", "recipes.tabular", *arguments]))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    listed = "\n".join(f"  {name:<12} {known.title}" for name, known in EXPERIMENTS.items())
    parser = _Parser(
        prog="python -m recipes.tabular",
        description=f"Repeat an experiment of sections 2 and 3 of the paper:\n\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("experiment", help="one of the above, or all")
    parser.add_argument(
        "--out", type=Path, help="folder for the results (default: runs/tabular/<experiment>)"
    )
    parser.add_argument("--figures", type=Path, help="folder for the figure (default: with --out)")
    parser.add_argument("--seeds", type=int, help="how many seeds (default: as in the paper)")
    parser.add_argument("--steps", type=int, help="environment steps of each run")
    parser.add_argument("--alpha", type=float, help="step size; the authors' is 0.01")
    parser.add_argument("--walkers", type=int, help="walkers a table; the authors have 1")
    return parser


def _run(options: argparse.Namespace, command: str) -> None:
    if options.experiment == "all":
        parent = options.out or Path("runs/tabular")
        jobs = [(name, parent / name) for name in EXPERIMENTS]
    elif options.experiment in EXPERIMENTS:
        name = options.experiment
        jobs = [(name, options.out or Path("runs/tabular") / name)]
    else:
        known = [*EXPERIMENTS, "all"]
        hint = nearest(options.experiment, known) or f"; there are {', '.join(known)}"
        raise UserError(f"unknown experiment {options.experiment!r}{hint}")
    plans = {name: _plan(EXPERIMENTS[name], options) for name, _ in jobs}
    for _, out in jobs:
        make_writable(out)
        make_writable(options.figures or out)
    for name, out in jobs:
        _do(name, plans[name], f"python {command}", out, options.figures or out)


def _plan(experiment: Experiment, options: argparse.Namespace) -> Plan:
    plan = experiment.plan
    if options.seeds is not None:
        if options.seeds < 2:
            raise UserError(f"--seeds must be at least 2 for an interval, not {options.seeds}")
        plan = replace(plan, schedule=replace(plan.schedule, seeds=tuple(range(options.seeds))))
    if options.steps is not None:
        if options.steps < plan.schedule.evaluate_every:
            least = plan.schedule.evaluate_every
            raise UserError(f"--steps must be at least {least:,}, not {options.steps:,}")
        plan = replace(plan, schedule=replace(plan.schedule, steps=options.steps))
    if options.walkers is not None:
        if options.walkers < 1:
            raise UserError(f"--walkers must be at least 1, not {options.walkers}")
        plan = replace(plan, schedule=replace(plan.schedule, walkers=options.walkers))
    if options.alpha is not None:
        if not 0.0 < options.alpha <= 1.0:
            raise UserError(f"--alpha must be above 0 and at most 1, not {options.alpha}")
        plan = replace(plan, settings=replace(plan.settings, alpha=options.alpha))
    return plan


def _do(name: str, plan: Plan, command: str, out: Path, figures: Path) -> None:
    experiment = EXPERIMENTS[name]
    begin = time.monotonic()
    with progress(name, experiment.total_steps(plan), "steps") as report:
        result = experiment.run(plan, report)
    seconds = time.monotonic() - begin
    written = save(name, result, plan, command, seconds, out, figures)
    print(f"{name}: {experiment.title}")
    print(f"  {plan.num_seeds} seeds in {seconds:.0f} s; written:")
    for path in written:
        print(f"  {path}")


if __name__ == "__main__":
    sys.exit(main())
