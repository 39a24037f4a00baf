"""What several jobs tell becomes one report."""

import time
from collections.abc import Sequence

import pytest

from qss_offline.parallel.gathering import Gathered
from qss_offline.parallel.processes import Tick, _Told, run_jobs


def work(job: tuple[int, int], tick: Tick) -> int:
    """Tell of half the units at first, as a job that is resumed, and of what remains."""
    number, units = job
    for done in range(units // 2, units + 1):
        tick(done, f"phase of {number}", f"note {done} of π")
        time.sleep(0.002)
    return number


def reports(jobs: Sequence[tuple[int, int]], workers: int) -> list[tuple[int, str]]:
    heard: list[tuple[int, str]] = []
    sizes = [float(units) for _, units in jobs]
    gathered = Gathered(sizes, workers, lambda done, note="": heard.append((done, note)))
    ended = run_jobs(work, jobs, workers, watch=gathered.show)
    assert sorted(ended) == [(index, number) for index, (number, _) in enumerate(jobs)]
    return heard


@pytest.mark.parametrize("workers", [1, 2])
def test_jobs_tell_what_they_do_from_any_process(workers: int) -> None:
    heard = reports([(0, 200), (1, 400)], workers)
    done = [units for units, _ in heard]
    assert done == sorted(done) and done[-1] == 600
    # With two workers nothing is said before both have told where they stand.
    assert done[0] >= (300 if workers == 2 else 100)
    texts = {note for _, note in heard if note}
    phases = {text.split(",")[0] for text in texts}
    assert phases and phases <= {"phase of 0", "phase of 1"}
    assert any(text.endswith(" of π") for text in texts)


def shown(
    sizes: Sequence[float] | None, units: Sequence[float], ended: Sequence[bool], workers: int = 2
) -> tuple[int, str] | None:
    heard: list[tuple[int, str]] = []
    gathered = Gathered(sizes, workers, lambda done, note="": heard.append((done, note)))
    gathered.show(units, [f"job {index}" for index in range(len(units))], ended)
    return heard[0] if heard else None


def test_what_is_told_goes_by_the_time_left() -> None:
    no, yes = False, True
    # Two of three jobs done side by side: the last takes as long again.
    assert shown([100, 100, 100], [100, 100, 0], [yes, yes, no]) == (150, "job 2")
    # All in turn: two thirds.
    assert shown([100, 100, 100], [100, 100, 0], [yes, yes, no], workers=1) == (200, "job 2")
    assert shown([300, 200], [150, 100], [no, no]) == (250, "job 0")
    # A job that failed is through, too.
    assert shown([100, 100], [100, 20], [yes, yes]) == (200, "")
    assert shown(None, [30, 20], [no, no]) == (50, "job 0")
    assert shown([100, 100], [20, -1], [no, no]) is None
    assert shown([0, 0], [0, 0], [no, no]) == (0, "job 0")


def test_a_job_that_waits_for_others_is_counted_after_them() -> None:
    """Two of unlike size side by side, then one that needs both: every unit of the path counts."""
    heard: list[int] = []
    gathered = Gathered([90, 60, 90], 2, lambda done, note="": heard.append(done), [(), (), (0, 1)])
    for units, ended in (
        ([0, 0, -1], [False, False, False]),
        ([45, 45, -1], [False, False, False]),
        ([60, 60, -1], [False, True, False]),
        ([75, 60, -1], [False, True, False]),
        ([90, 60, 0], [True, True, False]),
        ([90, 60, 45], [True, True, False]),
        ([90, 60, 90], [True, True, True]),
    ):
        gathered.show(units, [""] * 3, ended)
    assert heard == [0, 60, 80, 100, 120, 180, 240]


def test_the_slowest_is_shown_and_stays_for_a_while() -> None:
    heard: list[str] = []
    gathered = Gathered([100, 100], 2, lambda done, note="": heard.append(note))
    for units in ((10, 12), (14, 12), (20, 12), (20, 22), (40, 100)):
        gathered.show(units, ("a", "b"), (False, units[1] == 100))
    assert heard == ["a", "a", "b", "b", "a"]


def test_a_torn_or_long_text_is_shown_as_well_as_it_can_be() -> None:
    told = _Told(-1.0)
    told.tell(3.0, "return 812 " + 60 * "π")
    assert told.units == 3.0 and told.text().startswith("return 812 ππ")
    told.length = 12
    assert told.text() == "return 812 �"
    told.tell(4.0, "short")
    assert told.text() == "short"
