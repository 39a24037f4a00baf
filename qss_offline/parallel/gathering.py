"""What several jobs tell of themselves, as one report."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapreplace

from qss_offline.parallel.progress import Reporter

_BEHIND = 0.05
"""The job that is shown stays that, unless another is further behind it, by this share."""


class Gathered:
    """What several jobs have told, as one report.

    Where their sizes are known, what is reported is the share of the time rather than of the units:
    where the last job of three runs alone on two cores, the rest takes longer than it looks.

    Args:
        sizes: units of each job; None where nobody knows.
        workers: jobs that run side by side.
        report: called with the units done, and what one of the jobs that run is doing.
        after: indices of the jobs before it that each waits for; nothing waits where it is empty.
    """

    def __init__(
        self,
        sizes: Sequence[float] | None,
        workers: int,
        report: Reporter,
        after: Sequence[Sequence[int]] = (),
    ) -> None:
        self._sizes, self._workers, self._report = sizes, workers, report
        self._after = after or [()] * len(sizes or ())
        self._shown, self._furthest = 0, 0

    def show(self, units: Sequence[float], texts: Sequence[str], ended: Sequence[bool]) -> None:
        """Report; where sizes are known, once the first jobs have told where they stand.

        Args:
            units: done of each job, below 0 where it hasn't told.
            texts: what each job is doing.
            ended: which jobs are through.
        """
        first = zip(units[: self._workers], ended, strict=False)
        if self._sizes is not None and not all(done >= 0 or through for done, through in first):
            return
        self._furthest = max(self._furthest, self._done(units, ended))
        self._report(self._furthest, self._text(units, texts, ended))

    def _done(self, units: Sequence[float], ended: Sequence[bool]) -> int:
        if self._sizes is None:
            return round(sum(max(0.0, done) for done in units))
        whole = sum(self._sizes)
        left = [
            0.0 if through else max(0.0, size - max(0.0, done))
            for size, done, through in zip(self._sizes, units, ended, strict=True)
        ]
        in_all = self._time(self._sizes)
        return round(whole * (1 - self._time(left) / in_all) if in_all > 0 else whole)

    def _time(self, sizes: Sequence[float]) -> float:
        """Return the units of the worker that ends last, where jobs are begun in their order."""
        busy = [0.0] * max(1, self._workers)
        ends: list[float] = []
        for size, others in zip(sizes, self._after, strict=True):
            ends.append(max([busy[0], *(ends[o] for o in others if o < len(ends))]) + size)
            heapreplace(busy, ends[-1])
        return max(busy)

    def _text(self, units: Sequence[float], texts: Sequence[str], ended: Sequence[bool]) -> str:
        """Return what the job furthest behind is doing, of those that run."""
        running = [job for job, done in enumerate(units) if done >= 0 and not ended[job]]
        if not running:
            return texts[0] if len(texts) == 1 else ""
        if self._sizes is None:
            self._shown = running[0]
            return texts[running[0]]
        shares = {job: units[job] / max(self._sizes[job], 1.0) for job in running}
        slowest = min(running, key=lambda job: shares[job])
        if self._shown not in shares or shares[self._shown] - shares[slowest] > _BEHIND:
            self._shown = slowest
        return texts[self._shown]
