"""Return against online steps: how few are enough to turn proposals into a policy.

    python -m recipes.online_budget runs/InvertedPendulum-v5-random-100

takes the trained proposals of one run or several, fits a fresh inverse dynamics model on each
budget of online steps, and evaluates the policy. Points that are in the results already aren't
made again.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
from rich.console import Console
from rich.table import Table
from typer import Argument, Option

from qss_offline.analysis.plots.online_budget import budget_figure
from qss_offline.analysis.plots.report import png
from qss_offline.cli.command import Register, main
from qss_offline.comparison.online_budget import (
    BudgetRow,
    averaged,
    fit_budget,
    load_proposals,
    read_rows,
    spread,
    write_rows,
)
from qss_offline.data.environments import register_environments
from qss_offline.errors import UserError
from qss_offline.files import write_bytes, write_json
from qss_offline.overrides import changed
from qss_offline.parallel.progress import progress
from qss_offline.parallel.reporting import counted_on
from qss_offline.runs.provenance import machine


def online_budget(
    runs: Annotated[list[Path], Argument(help="run folders of offline D3G")],
    budgets: Annotated[str, Option(help="online steps")] = "100,300,1000,3000,10000",
    rounds: Annotated[int, Option(min=1, help="rounds that a budget is spread over")] = 5,
    updates: Annotated[
        int | None, Option(help="gradient steps of I in all (as many as the run's own)")
    ] = None,
    episodes: Annotated[int, Option(min=1, help="episodes of each evaluation")] = 10,
    change: Annotated[
        list[str] | None, Option("--set", help="name=value, another setting of the inverse fit")
    ] = None,
    ensemble: Annotated[
        int, Option(help="seeds of a run whose proposals make one mean; 1 takes each alone")
    ] = 1,
    actions_from: Annotated[
        str | None,
        Option(help="recording of the body with actions, or earlier run; I learns from it first"),
    ] = None,
    variant: Annotated[str, Option(help="name of these settings in the results")] = "default",
    results: Annotated[Path, Option(help="where results and figure go")] = Path(
        "runs/online_budget"
    ),
    env: Register = None,
) -> None:
    """Fit, evaluate, and draw."""
    register_environments(env or ())
    if actions_from is not None and variant == "default":
        raise UserError("--actions-from makes other points: name them with --variant, too")
    torch.set_num_threads(1)
    table_path = results / "returns.csv"
    rows = read_rows(table_path)
    try:
        steps = [int(budget) for budget in budgets.split(",")]
    except ValueError as error:
        raise UserError(f"--budgets takes numbers such as 100,1000, not {budgets!r}") from error
    loaded = [averaged(load_proposals(path), ensemble) for path in runs]
    jobs = []
    for trained in loaded:
        in_all = trained.inverse.updates(known=False) if updates is None else updates
        inverse = replace(trained.inverse, rounds=rounds, updates_per_round=in_all // rounds)
        for budget in steps:
            config = spread(changed(inverse, change or ()), budget)
            key = trained.dataset_id, variant, budget
            seen = {r.seed for r in rows if (r.dataset_id, r.variant, r.online_steps) == key}
            if not seen >= set(trained.seeds):
                jobs.append((trained, config))
    total = sum(config.updates(actions_from is not None) for _, config in jobs)
    done = 0
    with progress(f"{len(jobs)} fits", total, "updates") as report:
        for trained, config in jobs:
            found = fit_budget(
                trained, config, variant, episodes, counted_on(report, done), actions_from
            )
            done += config.updates(actions_from is not None)
            fresh = {_key(row) for row in found}
            rows = [row for row in rows if _key(row) not in fresh] + found
            write_rows(table_path, rows)
    write_json(results / "provenance.json", {"machine": machine()})
    write_bytes(results / "online_budget.png", png(budget_figure(rows)))
    table = Table("recording", "variant", "online steps", "mean return, each seed")
    for dataset, name, budget in dict.fromkeys(
        (row.dataset_id, row.variant, row.online_steps) for row in rows
    ):
        returns = [
            row.mean_return
            for row in rows
            if (row.dataset_id, row.variant, row.online_steps) == (dataset, name, budget)
        ]
        table.add_row(dataset, name, f"{budget:,}", ", ".join(f"{r:.1f}" for r in returns))
    Console().print(table)
    print(f"Made: {table_path} and {results / 'online_budget.png'}.")


def _key(row: BudgetRow) -> tuple[str, str, int, int]:
    return row.dataset_id, row.variant, row.online_steps, row.seed


if __name__ == "__main__":
    main(online_budget, "the same command again goes on")
