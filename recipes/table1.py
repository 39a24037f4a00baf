"""The paper's Table 1, extended: D3G, BCO and d3rlpy's baselines from expert to random.

    python -m recipes.table1

builds the recordings, runs what is missing cell by cell (stop it and start it again as often as
you like), and writes every return, a table with intervals and a figure beside the runs, to
runs/table1-quick/. Runs whose returns are in its returns.csv already are not made again. `--show`
runs and writes nothing: it shows what is there, or what was published where nothing is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from qss_offline.cli import options
from qss_offline.cli.command import main


def table1(
    preset: options.Comparison = "quick",
    methods: options.Methods = None,
    levels: options.Levels = None,
    families: options.Families = None,
    seeds: options.CellSeeds = None,
    updates: Annotated[int | None, Option(help="of D3G, instead of the preset's")] = None,
    baseline_updates: Annotated[
        int | None, Option(help="of d3rlpy's methods, instead of the preset's")
    ] = None,
    transitions: Annotated[int | None, Option(help="size of the recordings")] = None,
    actions_level: Annotated[
        float | None,
        Option(help="the IDM learns first from a recording of this percentage, with actions"),
    ] = None,
    actions_seed: Annotated[int, Option(help="seed of that recording")] = 1,
    cloning_power: Annotated[
        float | None, Option(help="of BCO's cloning: 2 is the labels' mean, 0.5 near their mode")
    ] = None,
    datasets: Annotated[Path, Option(help="folder of the families")] = Path("datasets"),
    runs: Annotated[Path | None, Option(help="folder of the runs (runs/table1-…)")] = None,
    out: options.TableFolder = None,
    workers: options.Workers = None,
    show_only: options.ShowOnly = False,
) -> None:
    """Run a comparison and write its table."""
    arguments = locals()
    from qss_offline.cli.compare import compare

    compare(**arguments)


if __name__ == "__main__":
    main(table1, "the same command continues")
