"""How far cells are, for a person: how many wait, run, are done and failed, and what runs."""

from __future__ import annotations

from collections.abc import Sequence

from qss_offline.launch.cell import Cell, named_indices
from qss_offline.parallel.gathering import Gathered
from qss_offline.parallel.progress import Reporter

_MOST_ROWS = 12
"""Cells at work that are shown one by one."""


class CellProgress:
    """What cells have told, as one report.

    Args:
        cells: of the launch.
        width: how many run at a time.
        table: whether to count them, and to show each that runs; or else what the slowest does.
        report: called with the units done, and a line, or several, of what is going on.
    """

    def __init__(self, cells: Sequence[Cell], width: int, table: bool, report: Reporter) -> None:
        self._cells, self._table, self._report = cells, table, report
        sizes, after = [cell.units for cell in cells], named_indices(cells)
        self._gathered = Gathered(sizes, width, self._told, after)
        self._failed = 0
        self._rows: list[str] = []
        self._counts = ""

    def fail(self) -> None:
        """Count a cell that has failed."""
        self._failed += 1

    def show(self, units: Sequence[float], texts: Sequence[str], ended: Sequence[bool]) -> None:
        """Report what each cell has told."""
        running = [index for index, done in enumerate(units) if done >= 0 and not ended[index]]
        over = sum(ended)
        waiting = len(self._cells) - over - len(running)
        self._counts = (
            f"cells: {waiting} waiting, {len(running)} running, {over - self._failed} done, "
            f"{self._failed} failed"
        )
        self._rows = [f"{self._cells[one].name}: {texts[one]}" for one in running[:_MOST_ROWS]]
        shares = [
            ": ".join(filter(None, (c.share, t))) for c, t in zip(self._cells, texts, strict=True)
        ]
        self._gathered.show(units, shares, ended)

    def _told(self, completed: int, note: str = "") -> None:
        self._report(completed, "\n".join([self._counts, *self._rows]) if self._table else note)
