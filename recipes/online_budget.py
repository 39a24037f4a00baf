"""Return against online steps: how few are enough to turn proposals into a policy.

    python -m recipes.online_budget runs/InvertedPendulum-v5-random-100

takes the trained proposals of one run or several, fits a fresh inverse dynamics model on each
budget of online steps, and evaluates the policy. Points that are in the results already aren't
made again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
from typer import Argument, Option

from qss_offline.analysis.plots.online_budget import budget_figure
from qss_offline.analysis.plots.style import to_png
from qss_offline.cli.command import Register, main
from qss_offline.comparison.online_budget import fit_missing, load_proposals, returns_by_budget
from qss_offline.data.environments import register_environments
from qss_offline.errors import UserError, printable
from qss_offline.files import write_bytes, write_json
from qss_offline.parallel.progress import progress
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
    try:
        steps = [int(budget) for budget in budgets.split(",")]
    except ValueError as error:
        raise UserError(f"--budgets takes numbers such as 100,1000, not {budgets!r}") from error
    torch.set_num_threads(1)
    rows = fit_missing(
        [load_proposals(path) for path in runs],
        steps,
        results / "returns.csv",
        rounds=rounds,
        updates=updates,
        changes=change or (),
        variant=variant,
        episodes=episodes,
        actions_from=actions_from,
        show_progress=progress,
    )
    write_json(results / "provenance.json", {"machine": machine()})
    write_bytes(results / "online_budget.png", to_png(budget_figure(rows)))
    for (dataset, name, budget), returns in returns_by_budget(rows).items():
        print(printable(dataset), name, f"{budget:,}", ", ".join(f"{one:.1f}" for one in returns))
    print(f"Made: {results / 'returns.csv'} and {results / 'online_budget.png'}.")


if __name__ == "__main__":
    main(online_budget, "the same command again goes on")
