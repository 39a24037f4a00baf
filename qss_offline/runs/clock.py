"""The seconds that a run takes, over all its resumptions."""

from __future__ import annotations

import time

from qss_offline.runs.folder import RunFolder

ELAPSED_INTERVAL_S = 5.0
"""How often the seconds spent are noted, so that a killed run knows them when it resumes."""
_WAITED_S = 60.0
"""A run of which so long nothing was heard was waiting for others."""


class RunClock:
    """Counts on from what a run's folder has noted.

    Args:
        folder: of the run.
        begun: reading of `time.monotonic()` that this part of the run counts from, all of it. None
            counts only while notes come: where several runs share the cores, one waits at times.
    """

    def __init__(self, folder: RunFolder, begun: float | None = None) -> None:
        self._folder, self._spent = folder, folder.elapsed_s
        self._begun, self._last, self._noted = begun, begun, self._spent

    @property
    def seconds(self) -> float:
        """Seconds spent so far."""
        if self._begun is not None:
            self._count(time.monotonic())
        return self._spent

    def note(self) -> None:
        """Note the seconds spent, now and then; called while the run is at work."""
        now = time.monotonic()
        waited = self._last is None or now - self._last > _WAITED_S
        if self._begun is None and waited:
            self._last = now
        self._count(now)
        if self._spent - self._noted > ELAPSED_INTERVAL_S:
            self._noted = self._spent
            self._folder.set_elapsed(self._spent)

    def _count(self, now: float) -> None:
        assert self._last is not None
        self._spent += now - self._last
        self._last = now
