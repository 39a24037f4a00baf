"""Ctrl-C once asks for a clean end, twice ends everything; nothing is left running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import qss_offline as qss
from qss_offline.data.build import build_dataset
from qss_offline.data.specs import DatasetSpec
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parent.parent.parent


SHORT_RUN = (
    "qss_offline.cli.program", "train", "--method", "d3g", "--seeds", "2", "--updates", "2000",
    "--episodes", "1", "--online-steps", "300", "--set", "updates_per_round=100",
    "--set", "known_updates=100",
    "--set", "ensemble=2", "--set", "algorithm.batch_size=32",
    "--set", "algorithm.hidden_dims=(16, 16)", "--set", "model.hidden_dims=(16, 16)",
)  # fmt: skip


def start(*command: str) -> subprocess.Popen[str]:
    """Start a command in a session of its own, as a terminal has one."""
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def session(leader: int) -> list[str]:
    """Return the command lines of what runs in a session."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] not in "ZX":
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def wait_until(true: Callable[[], object], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.02)


def is_at_it(how: str, folder: Path, process: subprocess.Popen[str]) -> bool:
    """Whether `stuck.py` has come to where it stays for ten minutes."""
    if how == "workers":
        return len(list(folder.iterdir())) == 2
    return (folder / str(process.pid)).exists()


def ends(process: subprocess.Popen[str]) -> str:
    """Wait until a command and all that it started are gone, and return what it said."""
    try:
        _, said = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 130, said
        until = time.monotonic() + PATIENCE_S
        while left := session(process.pid):
            assert time.monotonic() < until, left
            time.sleep(0.05)
    finally:
        # A test that fails leaves nothing either.
        if process.poll() is None or session(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    assert "Traceback" not in said
    return said


def interrupt(process: subprocess.Popen[str], everybody: bool) -> None:
    """Send what a terminal sends to everybody in it, or what `kill -INT` sends to one."""
    if everybody:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(signal.SIGINT)


@pytest.mark.parametrize("everybody", [True, False], ids=["terminal", "kill"])
@pytest.mark.parametrize("how", ["alone", "workers", "between"])
def test_the_first_asks_for_a_clean_end(how: str, everybody: bool, tmp_path: Path) -> None:
    process = start("tests.cli.stuck", how, str(tmp_path), "0.5")
    wait_until(lambda: is_at_it(how, tmp_path, process), process)
    interrupt(process, everybody)
    assert "interrupted; qss resume goes on" in ends(process)


@pytest.mark.parametrize("how", ["workers", "between", "deaf"])
def test_the_second_ends_everything_at_once(how: str, tmp_path: Path) -> None:
    process = start("tests.cli.stuck", how, str(tmp_path))
    wait_until(lambda: is_at_it(how, tmp_path, process), process)
    interrupt(process, everybody=True)
    insist(process)
    ends(process)


def test_a_run_is_resumed_after_either(minari_root: Path, tmp_path: Path) -> None:
    dataset = build_dataset(DatasetSpec("InvertedPendulum", transitions=1000), workers=1).obs_id
    out = tmp_path / "run"
    process = start(*SHORT_RUN, dataset, "--out", str(out))
    wait_until(lambda: list(out.glob("seeds/*/training.safetensors")), process)
    interrupt(process, everybody=True)
    assert "qss resume" in ends(process)
    process = start("qss_offline.cli.program", "resume", str(out))
    # This process, two workers, and what holds the semaphores of all.
    wait_until(lambda: len(session(process.pid)) == 4, process)
    interrupt(process, everybody=True)
    insist(process)
    ends(process)
    assert not (out / "results.json").exists()
    qss.resume(out, workers=1, progress=False)
    results = json.loads((out / "results.json").read_text())
    assert [seed["seed"] for seed in results["seeds"]] == [0, 1]
    assert list(out.rglob(".*")) == []


def insist(process: subprocess.Popen[str]) -> None:
    """Interrupt again, once the first was heard: signals that come before that are one."""
    assert process.stderr is not None
    assert any("again" in process.stderr.readline() for _ in range(4))
    interrupt(process, everybody=True)
