"""One setting for every randomness: the default preset beside methods that have seen as little.

    python -m recipes.beyond

is `recipes.table1` with the comparison `beyond`: seven levels from expert to random, five seeds and
recordings that no setting was chosen with (see `docs/beyond.md`), D3G, BCO and TD3+BC on BCO's
labels. It writes every return, a table with intervals and a figure to runs/beyond/.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from qss_offline.cli.command import main
from recipes.table1 import table1


def beyond(
    methods: Annotated[str | None, Option(help="only these, such as d3g,bco")] = None,
    levels: Annotated[str | None, Option(help="only these percentages, such as 0,100")] = None,
    families: Annotated[str | None, Option(help="only these, such as reacher")] = None,
    seeds: Annotated[int | None, Option(help="seeds of each cell")] = None,
    runs: Annotated[Path, Option(help="folder of the runs")] = Path("runs/beyond"),
    out: Annotated[Path | None, Option(help="folder of the table (that of the runs)")] = None,
    workers: Annotated[int | None, Option(min=1, help="processes (one a core)")] = None,
    show_only: Annotated[bool, Option("--show", help="run nothing; show what is done")] = False,
) -> None:
    """Run the comparison and write its table."""
    table1(
        preset="beyond",
        methods=methods,
        levels=levels,
        families=families,
        seeds=seeds,
        runs=runs,
        out=out,
        workers=workers,
        show_only=show_only,
    )


if __name__ == "__main__":
    main(beyond, "the same command continues")
