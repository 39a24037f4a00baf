"""Plain progress lines, where no terminal watches."""

import io

from qss_offline.parallel.progress import progress
from qss_offline.parallel.reporting import forward_only


def lines(*reports: int, interval_s: float = 10.0) -> list[str]:
    stream = io.StringIO()
    with progress("working", 1_000, "updates", stream, interval_s) as report:
        for completed in reports:
            report(completed)
    return stream.getvalue().splitlines()


def test_the_first_and_the_last_report_are_lines_and_few_between() -> None:
    first, last = lines(0, 100, 200, 1_000)
    assert first == "working: 0/1,000 updates"
    assert last.startswith("working: 1,000/1,000 updates, ") and last.endswith("0:00:00 left")


def test_the_end_is_said_once_however_often_it_was_reported() -> None:
    assert sum("1,000/1,000" in line for line in lines(0, 1_000, 1_000)) == 1
    assert sum("1,000/1,000" in line for line in lines(1_000, 1_000)) == 1


def test_every_report_is_a_line_without_an_interval() -> None:
    assert len(lines(0, 1, 2, interval_s=0.0)) == 3


def test_work_that_begins_again_does_not_go_back() -> None:
    reports: list[tuple[int, str]] = []

    def show(completed: int, note: str = "") -> None:
        reports.append((completed, note))

    report = forward_only(show)
    for completed, note in ((5, ""), (0, ""), (4, "again"), (9, "")):
        report(completed, note)
    assert reports == [(5, ""), (5, ""), (5, "again"), (9, "")]
