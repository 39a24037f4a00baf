"""Tasks of cells that tests launch."""

import itertools
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qss_offline.launch.cell import Cell
from qss_offline.parallel.processes import Tick
from tests.patience import PATIENCE_S


def cell(folder: Path, task: str, after: tuple[str, ...] = (), **settings: Any) -> Cell:
    """A cell of one of the tasks below, named as its folder."""
    return Cell(
        folder.name, f"tests.launch.tasks:{task}", {"folder": str(folder), **settings},
        (str(folder),), 1e4, after=after,
    )  # fmt: skip


def note(settings: Mapping[str, Any], tick: Tick) -> None:
    """Write down that it ran, and where."""
    tick(1.0, "noting")
    with (Path(settings["folder"]) / "ran").open("a") as file:
        file.write(f"{os.getpid()}\n")


def once(settings: Mapping[str, Any], tick: Tick) -> None:
    """Write down that it ran, after a while, unless it did."""
    if not (Path(settings["folder"]) / "ran").exists():
        time.sleep(0.5)
        note(settings, tick)


def timed(settings: Mapping[str, Any], tick: Tick) -> None:
    """Write down when it begins and ends, in a file of all; no sooner than three are at work."""
    folder = Path(settings["folder"])
    times, deadline = folder.parent / "times", time.monotonic() + PATIENCE_S
    for what in ("begins", "ends"):
        with times.open("a") as file:
            file.write(f"{what} {folder.name}\n")
        while what == "begins" and most_at_work(times) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)


def most_at_work(times: Path) -> int:
    """Return how many of the timed were at work at once, at most."""
    lines = times.read_text().splitlines()
    return max(itertools.accumulate(1 if line.startswith("begins") else -1 for line in lines))


def needing(settings: Mapping[str, Any], tick: Tick) -> None:
    """Fail where another hasn't run."""
    if not Path(settings["other"]).exists():
        raise ValueError(f"{settings['other']} isn't there")
    note(settings, tick)


def broken(settings: Mapping[str, Any], tick: Tick) -> None:
    """Fail."""
    raise ArithmeticError("out of luck")


def dying(settings: Mapping[str, Any], tick: Tick) -> None:
    """End the process so many times, then go on."""
    tick(0.0, "dying")
    note(settings, tick)
    if len((Path(settings["folder"]) / "ran").read_text().split()) <= settings["times"]:
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGKILL)


def dying_at_once(settings: Mapping[str, Any], tick: Tick) -> None:
    """End the process."""
    os.kill(os.getpid(), signal.SIGKILL)


def slow(settings: Mapping[str, Any], tick: Tick) -> None:
    """Take longer than one that dies."""
    tick(0.0, "slow")
    time.sleep(1.0)
    note(settings, tick)


def endless(settings: Mapping[str, Any], tick: Tick) -> None:
    """Work until it is stopped."""
    note(settings, tick)
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        tick(1.0, "at it")
        time.sleep(0.05)
    raise AssertionError("nobody stopped it")
