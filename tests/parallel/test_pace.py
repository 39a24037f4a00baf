"""The time left that is shown, on a clock of its own."""

from collections.abc import Iterator

import pytest

from qss_offline.parallel.pace import Pace, in_words


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


Phase = tuple[float, float, float]
"""Units, units a second, and seconds between reports."""


def follow(phases: list[Phase], before: float = 0.0) -> Iterator[tuple[float, Pace]]:
    """Yield after each report the true seconds left, and what has measured."""
    clock = Clock()
    pace = Pace(before + sum(units for units, *_ in phases), clock)
    pace.update(before)
    end = clock.now + sum(units / speed for units, speed, _ in phases)
    done = before
    for units, speed, every in phases:
        into = 0.0
        while into < units:
            step = min(speed * every, units - into)
            into += step
            clock.now += step / speed
            pace.update(done + into)
            yield end - clock.now, pace
        done += units


ROUNDS = [(900.0, 200.0, 0.2), (300.0, 900.0, 0.3)] * 3
SCHEDULES = {
    "one speed": [(30_000.0, 300.0, 0.2)],
    "phases that cost more than they count": [(30_000.0, 300.0, 0.2), (3_000.0, 150.0, 0.5)],
    "phases that cost less": [(30_000.0, 300.0, 0.2), (6_000.0, 900.0, 0.5)],
    "rounds": [(30_000.0, 300.0, 0.2), *ROUNDS],
    "rounds alone": [(900.0, 200.0, 0.2), (400.0, 400.0, 1.0)] * 20,
    "a pause between phases": [(9_000.0, 300.0, 0.2), (60.0, 6.0, 10.0), (6_000.0, 300.0, 0.2)],
    "rare reports": [(6_000.0, 10.0, 5.0)],
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_time_left_falls_and_ends_near_zero(name: str) -> None:
    previous, began, rises = None, None, 0.0
    for true, pace in follow(SCHEDULES[name]):
        left = pace.left_s
        if left is None:
            continue
        assert left >= 0
        began = true if began is None else began
        if true > began - 10:
            continue  # the first seconds
        assert left == pytest.approx(true, rel=0.6, abs=15), f"{true} s are left"
        if previous is not None:
            rises += max(0.0, left - previous)
        previous = left
    assert began is not None
    assert rises <= 0.03 * began, "hardly ever does it go up"
    assert pace.left_s == 0


def test_the_minutes_shown_never_go_back_and_forth() -> None:
    shown = [in_words(p.left_s or 0) for _, p in follow(SCHEDULES["rounds alone"]) if p.left_s]
    changes = [now for now, then in zip(shown[1:], shown, strict=False) if now != then]
    minutes = [change for change in changes if "min" in change]
    assert len(minutes) == len(set(minutes))


def test_what_was_done_before_says_nothing_about_the_speed() -> None:
    *_, (_, pace) = follow([(6_000.0, 100.0, 0.2)], before=500_000.0)
    assert pace.rate == pytest.approx(100, rel=0.01)
    # A worker that joins late, and tells at once where it stands.
    for true, pace in follow([(1_000.0, 100.0, 0.2), (50_000.0, 1e9, 0.1), (6_000.0, 100.0, 0.2)]):
        assert pace.rate == pytest.approx(100, rel=0.1)
        if 0 < true < 30:
            assert pace.left_s == pytest.approx(true, abs=5)


def test_nothing_is_promised_before_anything_is_known() -> None:
    clock = Clock()
    pace = Pace(100, clock)
    assert (pace.rate, pace.left_s) == (0, None)
    pace.update(0)
    clock.now += 60
    pace.update(0)
    assert (pace.rate, pace.left_s) == (0, None)
    pace.update(100)
    assert pace.left_s == 0


def test_a_clock_that_stands_still_divides_nothing() -> None:
    pace = Pace(100, Clock())
    for done in (0, 10, 100):
        pace.update(done)
    assert pace.rate == 0 and pace.left_s == 0
