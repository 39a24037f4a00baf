"""Jobs in processes of their own: what ends, what dies, and in which order they begin."""

import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from qss_offline.parallel import processes
from qss_offline.parallel.processes import Tick, WorkerDied, run_jobs
from tests.patience import PATIENCE_S


def end_or_die(path: str, tick: Tick) -> str:
    """The first says that it is there and ends; the other waits for it and dies."""
    marker = Path(path).with_name("there")
    if path.endswith("first"):
        marker.touch()
        return "whole"
    until = time.monotonic() + PATIENCE_S
    while not marker.exists() and time.monotonic() < until:
        time.sleep(0.01)
    os._exit(1)


def test_what_ended_just_before_another_died_is_not_lost_with_it(tmp_path: Path) -> None:
    ended: dict[int, str] = {}
    # Whoever watches is slow, so that both are over when it looks again.
    jobs = run_jobs(
        end_or_die,
        [str(tmp_path / "other"), str(tmp_path / "first")],
        2,
        watch=lambda *_: time.sleep(0.3),
    )
    with pytest.raises(WorkerDied):
        for index, result in jobs:
            ended[index] = result
    assert ended == {1: "whole"}


def note(path: str, tick: Tick) -> None:
    """Note that it began; the second of those at work first ends when the first's other phase has
    begun, so that one worker alone takes what comes."""
    order = Path(path).with_name("order")
    with order.open("a") as file:
        file.write(f"{Path(path).name}\n")
    until = time.monotonic() + PATIENCE_S
    while path.endswith("b1") and "a2" not in order.read_text() and time.monotonic() < until:
        time.sleep(0.01)


def test_what_becomes_ready_keeps_its_place(tmp_path: Path) -> None:
    """A run's second phase comes before the first of those behind it, where cores are few."""
    names = ["a1", "a2", "b1", "b2", "c1", "c2", "d1", "d2"]
    after = [(), (0,), (), (2,), (), (4,), (), (6,)]
    list(run_jobs(note, [str(tmp_path / name) for name in names], 2, after=after))
    order = (tmp_path / "order").read_text().split()
    assert sorted(order) == names
    assert order.index("a2") < order.index("c1"), order


def wait(job: tuple[str, float], tick: Tick) -> None:
    path, seconds = job
    Path(path).touch()
    time.sleep(seconds)


@pytest.mark.parametrize("seconds", [0.0, PATIENCE_S], ids=["done", "at work"])
def test_nothing_is_left_where_the_caller_stops(
    seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a thread of the pool, which might fail beside the end of the interpreter."""
    monkeypatch.setattr(processes, "GRACE_S", 0.3)
    before, slow = set(threading.enumerate()), tmp_path / "slow"
    jobs = run_jobs(wait, [(str(tmp_path / "fast"), 0.0), (str(slow), seconds)], 2)
    next(jobs)
    until = time.monotonic() + PATIENCE_S
    while not slow.exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    jobs.close()
    assert set(threading.enumerate()) == before
    assert not multiprocessing.active_children()
