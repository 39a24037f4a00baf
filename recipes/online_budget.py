"""Return against online steps: how few are enough to turn proposals into a policy.

    python -m recipes.online_budget runs/InvertedPendulum-v5-random-100

takes the trained proposals of one run or several, fits a fresh inverse dynamics model on each
budget of online steps, and evaluates the policy. Points that are in the results already aren't
made again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from qss_offline.cli import options
from qss_offline.cli.command import main


def online_budget(
    runs: Annotated[list[Path], Argument(help="run folders of offline D3G")],
    budgets: Annotated[str, Option(help="online steps")] = "100,300,1000,3000,10000",
    rounds: Annotated[int, Option(min=1, help="rounds that a budget is spread over")] = 5,
    updates: Annotated[
        int | None, Option(help="gradient steps of the IDM in all (as many as the run's own)")
    ] = None,
    episodes: Annotated[int, Option(min=1, help="episodes of each evaluation")] = 10,
    change: Annotated[
        list[str] | None, Option("--set", help="name=value, another setting of the inverse fit")
    ] = None,
    actions_from: options.ActionsFrom = None,
    variant: Annotated[str, Option(help="name of these settings in the results")] = "default",
    results: options.Results = Path("runs/online_budget"),
    env: options.RegisteredModules = None,
) -> None:
    """Fit, evaluate, and draw."""
    arguments = locals()
    from qss_offline.cli.budget import draw_online_budget

    draw_online_budget(**arguments)


if __name__ == "__main__":
    main(online_budget, "the same command again goes on")
