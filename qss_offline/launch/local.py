"""Cells on the cores of this machine, in processes of one thread each."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from itertools import chain

import torch

from qss_offline.data.environments import known_in_workers, workers_for
from qss_offline.launch.cell import Cell, Failure, held_back, named_indices
from qss_offline.launch.worker import run_cell
from qss_offline.parallel.processes import Watch, WorkerDied, available_cores, run_jobs

_WORTH_WORKERS = 2_000
"""Units of work in all below which starting processes takes longer than they save."""
_MOST_DEATHS = 3
"""So many times a cell may be at work when a process dies."""


class LocalLauncher:
    """Runs cells here.

    Seeds of one process share a stack, which is quicker than each alone.

    Args:
        workers: processes; None takes as many as there may be, for very little work one.
    """

    dry = apart = lists = False

    def __init__(self, workers: int | None = None) -> None:
        self.workers = workers

    def width(self, cells: Sequence[Cell]) -> int:
        """Return the processes: one a core, or a GPU where all take one; one for little work."""
        count = self._count(cells)
        env_ids = chain.from_iterable(cell.environments for cell in cells)
        return workers_for(env_ids, count, len(cells))

    def _count(self, cells: Sequence[Cell]) -> int:
        if not cells:
            return 1
        if self.workers is None and sum(cell.units for cell in cells) < _WORTH_WORKERS:
            return 1
        together = available_cores()
        if all(cell.gpus >= 1 for cell in cells):
            together = min(together, torch.cuda.device_count())
        return max(1, min(self.workers or together, together, len(cells)))

    def run(
        self, cells: Sequence[Cell], watch: Watch
    ) -> Generator[tuple[int, Failure], None, None]:
        """Run cells, and yield the index of each as it ends, and why it failed.

        Where a process dies, what was at work is tried again: folders know how far that was.
        """
        env_ids = list(chain.from_iterable(cell.environments for cell in cells))
        workers = workers_for(env_ids, self._count(cells), len(cells), lambda _: None)
        run = known_in_workers(run_cell, env_ids)
        units, texts = [-1.0] * len(cells), [""] * len(cells)
        ended, deaths = [False] * len(cells), [0] * len(cells)
        skip: set[int] = set()

        def outcome(index: int, failure: Failure, left: Sequence[int]) -> list[tuple[int, Failure]]:
            """Take how a cell ended; return that, and what can't begin any more."""
            found: list[tuple[int, Failure]] = [(index, failure)]
            if failure is not None:
                found += [one for one in held_back(cells, index) if not ended[one[0]]]
            for one, _ in found:
                ended[one] = True
            skip.update(left.index(one) for one, _ in found[1:] if one in left)
            return found

        while left := [index for index, done in enumerate(ended) if not done]:
            # Whoever was at work may only have been beside it: the last chance is one alone.
            suspects = [index for index in left if deaths[index] == _MOST_DEATHS - 1]
            left = suspects[:1] or left
            some = [replace(cells[index], place=index) for index in left]

            def seen(
                now: Sequence[float],
                said: Sequence[str],
                over: Sequence[bool],
                left: list[int] = left,
            ) -> None:
                for place, index in enumerate(left):
                    units[index], texts[index] = now[place], said[place]
                    ended[index] = ended[index] or over[place]
                watch(units, texts, ended)

            skip.clear()
            jobs = run_jobs(
                run, some, workers, watch=seen, after=named_indices(some), skip=skip,
                scarce={place for place, cell in enumerate(some) if cell.gpus >= 1},
                at_once=max(1, torch.cuda.device_count()), apart=any(deaths),
            )  # fmt: skip
            try:
                for place, failure in jobs:
                    yield from outcome(left[place], failure, left)
            except WorkerDied as error:
                begun = [left[place] for place in error.at_work]
                # A process may die before it tells anything.
                suspected = [index for index in begun if units[index] >= 0] or begun
                for index in suspected:
                    units[index] = -1.0
                    deaths[index] += 1
                    if deaths[index] == _MOST_DEATHS:
                        yield from outcome(index, f"{error} ({_MOST_DEATHS} times)", ())
