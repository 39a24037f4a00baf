"""Return against online steps from the command line."""

from __future__ import annotations

from pathlib import Path

import torch

from qss_offline.analysis.plots.online_budget import budget_figure
from qss_offline.analysis.plots.style import to_png
from qss_offline.comparison.online_budget import fit_missing, load_proposals, returns_by_budget
from qss_offline.data.environments import register_environments
from qss_offline.errors import UserError, printable
from qss_offline.files import write_bytes, write_json
from qss_offline.parallel.progress import progress
from qss_offline.runs.provenance import machine


def draw_online_budget(
    *,
    runs: list[Path],
    budgets: str,
    rounds: int,
    updates: int | None,
    episodes: int,
    change: list[str] | None,
    actions_from: str | None,
    variant: str,
    results: Path,
    env: list[str] | None,
) -> None:
    """Fit and evaluate what the results lack, draw and print them.

    Raises:
        UserError: an option or a run can't be used.
    """
    register_environments(env or ())
    if actions_from is not None and variant == "default":
        raise UserError("--actions makes other points: name them with --variant, too")
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
