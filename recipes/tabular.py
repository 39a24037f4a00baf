"""The tabular experiments of the paper: what Q(s, s') is, in minutes on one core.

    python -m recipes.tabular <experiment> [--out DIR] [--seeds N]

Each experiment writes its figure, the raw results of every seed as CSV, and results.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from qss_offline.cli import options
from qss_offline.cli.command import main


def tabular(
    experiment: Annotated[str, Argument(help=", ".join([*options.EXPERIMENT_NAMES, "or all"]))],
    out: Annotated[Path | None, Option(help="where to (runs/tabular/<experiment>)")] = None,
    figures: Annotated[Path | None, Option(help="where the figure goes (as --out)")] = None,
    seeds: Annotated[int | None, Option(help="number of seeds (the paper's)")] = None,
    steps: Annotated[int | None, Option(help="environment steps of each run")] = None,
    alpha: Annotated[float | None, Option(help="step size (the authors' is 0.01)")] = None,
    walkers: Annotated[int | None, Option(help="walkers a table (the authors have 1)")] = None,
) -> None:
    """Repeat an experiment of sections 2 and 3 of the paper."""
    arguments = locals()
    from qss_offline.cli.tabular import run_tabular

    run_tabular(**arguments)


if __name__ == "__main__":
    main(tabular)
