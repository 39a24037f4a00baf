"""A cell: some work of minutes to hours that depends on nothing but its settings and its folders.

A cell is plain: a name, a function by its import path, settings as JSON keeps them. What it has
done lies in its folders, which it holds while it runs (`launch/lock.py`), so that one that is
started twice, moved or tried again goes on from there.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias, TypeVar

from qss_offline.errors import UserError
from qss_offline.parallel.processes import Watch
from qss_offline.settings_json import from_plain

T = TypeVar("T")


SHARED_GPU = 0.1
"""Share of a GPU of a cell that acts in environments, too: there are as many as there are cores."""


@dataclass(frozen=True)
class Cell:
    """One cell, of a core.

    Attributes:
        name: tells it from the others that are launched with it.
        task: "module:function"; it is called with `settings` and a `Tick`.
        settings: of plain JSON types.
        holds: folders that it alone writes to while it runs; absolute paths.
        units: of work (`runs/work.py`).
        share: which part of a run it is, "2 of 5 seeds"; "" for all.
        environments: resolved ids of the environments that it makes.
        recordings: digests of the recordings that it opens, by id.
        gpus: 1 where it trains alone on a GPU, `SHARED_GPU` where it acts on a core, too.
        seconds: that it takes on a core of this machine, roughly; 0 where nobody has measured.
        after: names of cells that must have ended well before it begins.
        place: its number among those that are launched: they take turns at this machine's GPUs.
    """

    name: str
    task: str
    settings: Mapping[str, Any]
    holds: tuple[str, ...]
    units: float
    share: str = ""
    environments: tuple[str, ...] = ()
    recordings: Mapping[str, str] = field(default_factory=dict)
    gpus: float = 0.0
    seconds: float = 0.0
    after: tuple[str, ...] = ()
    place: int = 0


Failure: TypeAlias = "str | None"
"""Why a cell failed; None where it didn't."""


class Launcher(Protocol):
    """Where cells run."""

    @property
    def apart(self) -> bool:
        """Whether each seed is a cell of its own, rather than as many cells as run at a time."""

    @property
    def dry(self) -> bool:
        """Whether cells are only listed, and nothing may be written or recorded for them."""

    @property
    def lists(self) -> bool:
        """Whether cells are listed instead of run: what else is said would be in between."""

    @property
    def workers(self) -> int | None:
        """Processes for what is done on this machine before, recordings; None takes one a core."""

    def width(self, cells: Sequence[Cell]) -> int:
        """Return how many of these run at a time."""

    def run(
        self, cells: Sequence[Cell], watch: Watch
    ) -> Generator[tuple[int, Failure], None, None]:
        """Run cells, and yield the index of each as it ends, and why it failed.

        Whoever closes the iterator cancels those that run and those that wait.

        Args:
            cells: in the order in which they begin, where cores are few.
            watch: called now and then with what all cells have told.
        """


def named_indices(cells: Sequence[Cell]) -> list[tuple[int, ...]]:
    """Return for each cell the places of those that it waits for, of those that are there."""
    places = {cell.name: index for index, cell in enumerate(cells)}
    return [tuple(places[name] for name in cell.after if name in places) for cell in cells]


def held_back(cells: Sequence[Cell], failed: int) -> list[tuple[int, str]]:
    """Return the cells that wait for one that failed, directly or not, and why none is begun."""
    found: dict[int, str] = {}
    after = named_indices(cells)
    while True:
        more = {
            index: f"not begun: {cells[before].name} failed"
            for index, waits in enumerate(after)
            for before in waits
            if index not in found and (before == failed or before in found)
        }
        if not more:
            return sorted(found.items())
        found |= more


def shared_out(things: Sequence[T], shares: int | None) -> list[tuple[T, ...]]:
    """Deal things out to so many cells, None to a cell each; no cell has none."""
    count = len(things) if shares is None else min(shares, len(things))
    return [tuple(things[share::count]) for share in range(count)]


def cell_of(plain: Mapping[str, Any], where: str) -> Cell:
    """Return a cell that JSON has kept.

    Args:
        plain: what `to_plain` made of it.
        where: what is read, for a refusal.

    Raises:
        UserError: it is no such cell.
    """
    settings = plain.get("settings")
    if not isinstance(settings, Mapping):
        raise UserError(f"{where} holds no cell")
    found = replace(from_plain(Cell, {**plain, "settings": {}}, where), settings=settings)
    if not found.holds:
        raise UserError(f"{where}: holds names no folder, which a cell writes to")
    return found
