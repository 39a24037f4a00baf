"""The seconds that a run takes, over all its resumptions."""

from __future__ import annotations

import time

from qss_offline.runs.folder import RunFolder

ELAPSED_INTERVAL_S = 5.0
"""How often the seconds spent are noted, so that a killed run knows them when it resumes."""


class RunClock:
    """Counts on from what a run's folder has noted.

    Args:
        folder: of the run.
        begun: reading of `time.monotonic()` that this part of the run counts from; None counts
            from the first note.
    """

    def __init__(self, folder: RunFolder, begun: float | None = None) -> None:
        self._folder, self._earlier = folder, folder.elapsed_s
        self._begun = self._noted = begun

    @property
    def seconds(self) -> float:
        """Seconds spent so far."""
        return self._earlier + (0.0 if self._begun is None else time.monotonic() - self._begun)

    def note(self) -> None:
        """Note the seconds spent, now and then."""
        now = time.monotonic()
        if self._begun is None or self._noted is None:
            self._begun = self._noted = now
        if now - self._noted > ELAPSED_INTERVAL_S:
            self._noted = now
            self._folder.set_elapsed(self.seconds)
