"""What progress shows: plain lines where no terminal watches, a bar that never wraps on one."""

import io
import re
import time

import pytest

from qss_offline.parallel.progress import progress
from qss_offline.parallel.reporting import (
    counted_on,
    figure,
    forward_only,
    headed,
    return_in_words,
)
from tests.program import Terminal


def lines(*reports: int, interval_s: float = 10.0) -> list[str]:
    stream = io.StringIO()
    with progress("working", 1_000, "updates", stream, interval_s) as report:
        for completed in reports:
            report(completed, "round 1 of 3")
    return stream.getvalue().splitlines()


def test_the_first_and_the_last_report_are_lines_and_few_between() -> None:
    first, last = lines(0, 100, 200, 1_000)
    assert first.startswith("working: 0%") and "round 1 of 3" in first
    assert last.startswith("working: 100%") and " updates/s, in 0 s" in last
    assert "left" not in last


def test_the_end_is_said_once_however_often_it_was_reported() -> None:
    assert sum("100%" in line for line in lines(0, 1_000, 1_000)) == 1
    assert sum("100%" in line for line in lines(1_000, 1_000)) == 1


def test_every_report_is_a_line_without_an_interval() -> None:
    assert len(lines(0, 1, 2, interval_s=0.0)) == 3


@pytest.mark.parametrize("width", [40, 80])
def test_nothing_wraps_on_a_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    title = "training 5 seeds"
    with progress(title, 1_000_000, "updates", stream) as report:
        report(0)
        time.sleep(0.11)
        report(400_000, "2 of 5 seeds: [red]inverse round 2 of 3, return 812\x1b (recorded 5)" * 2)
        time.sleep(0.3)
        report(1_000_000, "return 812 (recorded 5)")
    drawn = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue())
    frames = [line for part in drawn.split("\n") for line in part.split("\r")]
    assert max(map(len, frames)) <= width
    assert any("100%" in frame for frame in frames)
    assert any("[red]inverse" in frame for frame in frames), "no markup is read in a note"
    assert "return 812 (recorded 5)" in frames[-2]
    assert "\x1b (rec" not in stream.getvalue()


def test_work_that_begins_again_does_not_go_back() -> None:
    reports: list[tuple[int, str]] = []

    def show(completed: int, note: str = "") -> None:
        reports.append((completed, note))

    report = forward_only(show)
    for completed, note in ((5, ""), (0, ""), (4, "again"), (9, "")):
        report(completed, note)
    assert reports == [(5, ""), (5, ""), (5, "again"), (9, "")]


def test_parts_tell_of_the_whole_and_whose_they_are() -> None:
    told: list[tuple[float, str, str]] = []

    def tick(units: float, phase: str = "", note: str = "") -> None:
        told.append((units, phase, note))

    part = headed(counted_on(tick, 100, 2), "2 of 5 seeds")
    part(5, "inverse round 1 of 3", "return 5")
    part(6)
    assert told == [
        (110, "2 of 5 seeds: inverse round 1 of 3", "return 5"),
        (112, "2 of 5 seeds", ""),
    ]


def test_returns_are_told_with_few_digits() -> None:
    assert return_in_words([(800.0, 824.0), ()], 5.04) == "return 812 (recorded 5.04)"
    assert return_in_words([(-4.1257,), (-4.1257,)]) == "return -4.13"
    assert return_in_words([(), ()], 5.0) == ""
    assert [figure(value) for value in (9312.4, 0.01234, -42.51)] == ["9,312", "0.0123", "-42.5"]
