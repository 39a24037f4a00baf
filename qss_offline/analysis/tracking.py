"""Sending a run's metrics elsewhere while it trains.

A run always writes its metrics as JSON lines (`runs/folder.py`). A tracker gets the same rows:
training knows nothing of it, and nothing is imported unless a tracker is asked for.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from qss_offline.errors import UserError, shown
from qss_offline.parallel.progress import Reporter
from qss_offline.parallel.reporting import ProgressFactory
from qss_offline.runs.folder import RunFolder
from qss_offline.runs.results import read_evaluations
from qss_offline.runs.values import number

TENSORBOARD_FOLDER = "tensorboard"
_LOOK_INTERVAL_S = 2.0


class Tracker(Protocol):
    """Whatever takes metrics: two methods make an adapter (docs/seeing.md has one)."""

    def log(self, seed: int, step: int, values: Mapping[str, float]) -> None:
        """Take the metrics of a seed.

        Args:
            seed: whose.
            step: updates of offline training, or online steps for names that begin with
                "evaluation".
            values: by name.
        """

    def close(self) -> None:
        """Write what is still held back."""


class TensorBoard:
    """Writes what TensorBoard shows, a run of its own for each seed.

    A run that is resumed is written anew from its JSON lines, so that nothing is shown twice.

    Args:
        folder: gets one folder a seed.

    Raises:
        UserError: the package isn't installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError(
                "--tensorboard needs another package: pip install 'qss-offline[tensorboard]'"
            ) from error
        self._folder, self._make = folder, SummaryWriter
        self._writers: dict[int, Any] = {}

    def log(self, seed: int, step: int, values: Mapping[str, float]) -> None:
        """Take the metrics of a seed.

        Raises:
            UserError: the folder can't be written to, or is a link.
        """
        if not self._writers and os.path.lexists(self._folder):
            try:
                shutil.rmtree(self._folder)
            except OSError as error:
                raise UserError(f"cannot write to {self._folder}: {error}") from error
        if seed not in self._writers:
            self._writers[seed] = self._make(str(self._folder / f"seed-{seed}"))
        for name, value in values.items():
            self._writers[seed].add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is still held back."""
        for writer in self._writers.values():
            writer.close()


class _Follower:
    """Reads what seeds have appended to their metrics since the last look."""

    def __init__(self, folder: RunFolder, seeds: Sequence[int], tracker: Tracker) -> None:
        self._folder, self._tracker = folder, tracker
        self._logged = dict.fromkeys(seeds, 0)
        self._looked = 0.0

    def look(self, at_once: bool = False) -> None:
        """Tell the tracker whatever is new, at most every two seconds."""
        if not at_once and time.monotonic() - self._looked < _LOOK_INTERVAL_S:
            return
        self._looked = time.monotonic()
        for seed, logged in self._logged.items():
            folder = self._folder.seed(seed)
            for _, step, row in folder.metric_rows():
                # A resumed run repeats rows, to the same bits.
                if step > logged:
                    values = {name: number(value, f"{folder.metrics}: {shown(name)}")
                              for name, value in row.items() if name != "update"}  # fmt: skip
                    self._tracker.log(seed, step, values)
                    self._logged[seed] = step

    def finish(self) -> None:
        """Tell the rest, and the returns of every evaluation."""
        self.look(at_once=True)
        for seed in self._logged:
            path = self._folder.seed(seed).result
            if not path.exists():
                continue
            for point in read_evaluations(path):
                self._tracker.log(seed, point.online_steps, {"evaluation/return": point.mean})


def tracked(
    show_progress: ProgressFactory, folder: RunFolder, seeds: Sequence[int], tracker: Tracker
) -> ProgressFactory:
    """Return a progress factory that also tells a tracker what the run logs meanwhile.

    Args:
        show_progress: shows the progress.
        folder: of the run.
        seeds: of the run.
        tracker: gets every row once; closed at the end.
    """

    @contextmanager
    def following(title: str, total: int, unit: str) -> Iterator[Reporter]:
        follower = _Follower(folder, seeds, tracker)
        with show_progress(title, total, unit) as show:

            def report(completed: int, note: str = "") -> None:
                show(completed, note)
                follower.look()

            try:
                yield report
            finally:
                follower.finish()
                tracker.close()

    return following


def tensorboard_progress(
    show_progress: ProgressFactory, folder: RunFolder, seeds: Sequence[int]
) -> ProgressFactory:
    """Return a progress factory that also writes what TensorBoard shows, into the run's folder.

    Raises:
        UserError: the package isn't installed.
    """
    tracker = TensorBoard(folder.path / TENSORBOARD_FOLDER)
    return tracked(show_progress, folder, seeds, tracker)
