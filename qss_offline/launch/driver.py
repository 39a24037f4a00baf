"""Runs brought to their ends: all their cells launched, and each run summed up after its last."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qss_offline.errors import UserError
from qss_offline.files import write_json
from qss_offline.launch.cell import Cell, Failure, Launcher
from qss_offline.launch.progress import CellProgress
from qss_offline.parallel.progress import Reporter
from qss_offline.parallel.reporting import ProgressFactory, forward_only
from qss_offline.runs.clock import RunClock
from qss_offline.runs.folder import RunFolder, read_json, versions


class Begun(ABC):
    """A run whose settings were checked.

    Args:
        folder: where everything goes.
        seeds: of the run.
        begun: reading of `time.monotonic()` that its seconds count from; None counts from when
            its first cell begins.
    """

    def __init__(self, folder: RunFolder, seeds: Sequence[int], begun: float | None = None) -> None:
        self.folder, self.seeds, self.clock = folder, seeds, RunClock(folder, begun)

    @property
    def name(self) -> str:
        """What tells it from others: the folder's name."""
        return self.folder.path.name

    @property
    def unit_seconds(self) -> float:
        """Seconds of a unit of its work on a core of this machine, roughly; 0 if not measured."""
        return 0.0

    @property
    def done(self) -> bool:
        """Whether all of it is done."""
        results = [self.folder.seed(seed).result for seed in self.seeds]
        return self.folder.results.exists() and all(result.exists() for result in results)

    @abstractmethod
    def start(self) -> None:
        """Write the settings of a new run, or compare those of one that goes on.

        Raises:
            UserError: they differ, or can't be written.
        """

    @abstractmethod
    def cells(self, shares: int | None) -> list[Cell]:
        """Return its cells: its seeds shared out to so many, or a cell each; none if it is done."""

    @abstractmethod
    def _results(self) -> dict[str, Any]:
        """Return what its cells came to."""

    def end(self) -> dict[str, Any]:
        """Sum up what its cells came to, in `results.json`."""
        if self.done:
            return read_json(self.folder.results)
        seconds = self.clock.seconds
        self.folder.set_elapsed(seconds)
        results = {**self._results(), "wall_seconds": round(seconds, 1), "versions": versions()}
        write_json(self.folder.results, results)
        return results


@dataclass(frozen=True)
class Ended:
    """What came of a run.

    Attributes:
        results: what `results.json` holds, where all cells are done.
        failures: why cells failed.
    """

    results: dict[str, Any] | None
    failures: tuple[str, ...] = ()

    def or_refuse(self) -> dict[str, Any]:
        """Return the results.

        Raises:
            UserError: a cell failed, with its reason.
        """
        if self.results is None:
            raise UserError(self.failures[0])
        return self.results


def launch(
    runs: Sequence[Begun],
    launcher: Launcher,
    show_progress: ProgressFactory,
    title: str,
    size: float = 1.0,
    unit: str = "updates",
) -> list[Ended]:
    """Run the cells of all runs, and end each run after its last.

    Args:
        runs: each with a name of its own.
        launcher: where.
        show_progress: makes a progress display.
        title: of it.
        size: units of work of what progress counts.
        unit: what that is.
    """
    if launcher.dry:
        timed = [
            replace(cell, seconds=cell.units * run.unit_seconds)
            for run, some in zip(runs, cells_of(runs, launcher), strict=True)
            for cell in some
        ]
        list(launcher.run(timed, lambda *_: None))
        return [Ended(None) for _ in runs]
    failures: list[list[str]] = [[] for _ in runs]
    results: list[dict[str, Any] | None] = [None for _ in runs]

    def end(number: int) -> None:
        try:
            results[number] = None if failures[number] else runs[number].end()
        except UserError as error:
            failures[number].append(str(error))

    started = []
    for number, run in enumerate(runs):
        try:
            run.start()
            started.append(number)
        except UserError as error:
            failures[number].append(str(error))
    per_run = cells_of([runs[number] for number in started], launcher)
    cells = [cell for some in per_run for cell in some]
    owners = [number for number, some in zip(started, per_run, strict=True) for _ in some]
    left = Counter(owners)
    for number in started:
        if not left[number]:
            end(number)

    def begin(index: int) -> None:
        if left[owners[index]]:
            runs[owners[index]].clock.note()

    table = len(runs) > 1
    for index, failure in run_shown(
        cells, launcher, show_progress, title, table=table, size=size, unit=unit, at_work=begin
    ):
        number = owners[index]
        left[number] -= 1
        if failure is not None:
            failures[number].append(failure)
        if not left[number]:
            end(number)
    return [Ended(*one) for one in zip(results, map(tuple, failures), strict=True)]


def run_shown(
    cells: Sequence[Cell],
    launcher: Launcher,
    show_progress: ProgressFactory,
    title: str,
    *,
    table: bool,
    size: float = 1.0,
    unit: str = "updates",
    at_work: Callable[[int], None] = lambda index: None,
) -> Iterator[tuple[int, Failure]]:
    """Run cells and show how far they are; yield the index of each as it ends, and its failure.

    Args:
        cells: of any runs.
        launcher: where.
        show_progress: makes a progress display.
        title: of it.
        table: whether to count cells, and to show each that runs.
        size: units of work of what progress counts.
        unit: what that is.
        at_work: called now and then with the index of each cell that runs.
    """
    if not cells:
        return
    total = round(sum(cell.units for cell in cells) / size)
    with show_progress(title, total, unit) as show:
        report = _in_units(forward_only(show), size)
        told = CellProgress(cells, launcher.width(cells), table, report)

        def watch(units: Sequence[float], texts: Sequence[str], ended: Sequence[bool]) -> None:
            for index, done in enumerate(units):
                if done >= 0 and not ended[index]:
                    at_work(index)
            told.show(units, texts, ended)

        for index, failure in launcher.run(cells, watch):
            if failure is not None:
                told.fail()
            yield index, failure


def cells_of(runs: Sequence[Begun], launcher: Launcher) -> list[list[Cell]]:
    """Return the cells of each run, as many as make sense where they are launched."""
    finest = [run.cells(None) for run in runs]
    if launcher.apart:
        return finest
    width = launcher.width([cell for some in finest for cell in some])
    return [run.cells(width) for run in runs]


def _in_units(report: Reporter, size: float) -> Reporter:
    def told(completed: int, note: str = "") -> None:
        report(round(completed / size), note)

    return told
