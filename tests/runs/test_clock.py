"""The seconds that a run takes: all of them alone, those at work beside others."""

from pathlib import Path

import pytest

from qss_offline.runs import clock as module
from qss_offline.runs.clock import RunClock
from qss_offline.runs.folder import RunFolder


def noted(clock: RunClock, monkeypatch: pytest.MonkeyPatch, times: list[float]) -> float:
    for now in times:
        monkeypatch.setattr(module.time, "monotonic", lambda now=now: now)
        clock.note()
    return clock.seconds


def test_a_run_alone_counts_every_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    assert noted(RunClock(folder, 100.0), monkeypatch, [101, 107, 500]) == 400
    assert noted(RunClock(folder, 1000.0), monkeypatch, [1010]) == 410, "over all resumptions"


def test_a_run_beside_others_counts_what_it_was_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    # Ten seconds, then a wait for other runs, then twenty.
    times = [100.0, 105.0, 110.0, 500.0, 510.0, 520.0]
    assert noted(RunClock(folder), monkeypatch, times) == 30
    assert folder.elapsed_s == pytest.approx(30), "a killed run knows it"
    assert RunClock(folder).seconds == 30
