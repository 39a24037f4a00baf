"""How fast some work goes and how long it still takes, steady enough to be read."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

_FIRST_S = 3.0
"""Seconds before a time is named: what is prepared first says nothing about the rest."""
_HORIZON_S = 15.0
"""The speed is that of so many seconds at least, and of a quarter of what has passed."""
_JUMP_S = 30.0
"""Units that would have taken so long, but came at ten times the speed, were not worked on now."""
_PAUSE_S = 2.0
"""What takes longer than this, at a tenth of the speed, was a pause in part, as between phases."""


class Pace:
    """Follows the units of some work that are done.

    The time left runs like a clock that is set a little faster or slower: it falls towards what the
    speed says, rises only where that is much more, and then steadily.

    Args:
        total: units of the whole work.
        clock: gives seconds.
    """

    def __init__(self, total: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._clock = total, clock
        self._begun = self._seen = self._changed = clock()
        self._in_all = 0.0, 0.0
        self._done: float | None = None
        self._units = self._seconds = 0.0
        self._rising = False
        self.left_s: float | None = None
        """Seconds left, None as long as nothing is known."""

    @property
    def rate(self) -> float:
        """Units a second of late, at the end of all; 0 as long as nothing is known."""
        return self._units / self._seconds if self._seconds > 0 else 0.0

    @property
    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._begun

    def update(self, done: float) -> None:
        """Take note of the units done; the first call says what was done before."""
        now = self._clock()
        passed, self._seen = now - self._seen, now
        if self._done is None:
            self._done, self._changed = done, now
        elif done > self._done:
            self._measure(done - self._done, now - self._changed)
            self._done, self._changed = done, now
        if done >= self._total:
            self.left_s = 0.0
            self._units, self._seconds = self._in_all
        elif self.rate > 0 and now - self._begun >= _FIRST_S:
            left = (self._total - done) / self.rate
            self._set(max(left - (now - self._changed), left / 2), passed)

    def _measure(self, units: float, seconds: float) -> None:
        """Count units into the speed, unless they were done before, as by a run that is resumed."""
        took = seconds
        if self.rate > 0:
            if units > self.rate * max(_JUMP_S, 10 * seconds):
                self.left_s = None
                return
            took = min(seconds, max(_PAUSE_S, 10 * units / self.rate))
        self._in_all = self._in_all[0] + units, self._in_all[1] + seconds
        kept = math.exp(-took / max(_HORIZON_S, self.elapsed_s / 4))
        self._units = kept * self._units + units
        self._seconds = kept * self._seconds + took

    def _set(self, left: float, passed: float) -> None:
        """Move the time that is shown towards what the speed says."""
        if self.left_s is None:
            self.left_s = left
            return
        shown = max(0.0, self.left_s - passed)
        gap = left - shown
        self._rising = gap > 0.3 * shown + 10 or (self._rising and gap > 0)
        move = gap * (1 - math.exp(-passed / 10))
        self.left_s = max(0.0, shown + (move if self._rising else min(move, passed)))


def in_words(seconds: float) -> str:
    """Return seconds in the unit that fits: "40 s", "12 min", "5.1 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
