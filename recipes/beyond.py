"""One setting for every level of random actions: the default preset beside methods without actions.

    python -m recipes.beyond

is `recipes.table1` with the comparison `beyond`: seven levels from expert to random, five seeds and
recordings that no setting was chosen with (see `docs/beyond.md`), D3G, BCO and TD3+BC on BCO's
labels. It writes every return, a table with intervals and a figure to runs/beyond/.
"""

from __future__ import annotations

from pathlib import Path

from qss_offline.cli import options
from qss_offline.cli.command import main


def beyond(
    methods: options.Methods = None,
    levels: options.Levels = None,
    families: options.Families = None,
    seeds: options.CellSeeds = None,
    runs: options.Runs = Path("runs/beyond"),
    out: options.TableFolder = None,
    workers: options.Workers = None,
    show_only: options.ShowOnly = False,
) -> None:
    """Run the comparison and write its table."""
    arguments = locals()
    from qss_offline.cli.compare import compare

    compare(preset="beyond", **arguments)


if __name__ == "__main__":
    main(beyond, "the same command continues")
