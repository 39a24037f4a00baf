"""Readers and builders that crash, hang or are killed; files that unpack to too much."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qss_offline.data import (
    DatasetSpec,
    build_dataset,
    list_datasets,
    plan_arrays,
    plan_file,
    sandbox,
)
from qss_offline.data.scratch import scratch_folder
from qss_offline.errors import UserError
from qss_offline.parallel.progress import Reporter
from tests.data.conftest import make_transitions
from tests.data.test_load import quiet
from tests.hostile.conftest import refused
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def crash(request: dict[str, Any], tick: Any) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def loop(request: dict[str, Any], tick: Any) -> dict[str, Any]:
    if "pid" in request:
        Path(request["pid"]).write_text(str(os.getpid()))
    while True:
        time.sleep(0.05)


def devour(request: dict[str, Any], tick: Any) -> dict[str, Any]:
    np.ones(1 << 33, np.uint8)
    return {}


def fail(request: dict[str, Any], tick: Any) -> dict[str, Any]:
    raise ValueError("a\nb")


def chatter(request: dict[str, Any], tick: Any) -> dict[str, Any]:
    print('{"reply": {"forged": true}}')
    os.write(1, b"not JSON\n")
    tick(3)
    return {"echo": request}


def test_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: list[int] = []

    def report(completed: int, note: str = "") -> None:
        ticks.append(completed)

    assert sandbox.call(chatter, {"a": 1}, 0, report) == {"echo": {"a": 1}}
    assert ticks == [3]
    with pytest.raises(UserError, match="was ended by SIGSEGV; the file is damaged"):
        sandbox.call(crash, {}, 0)
    with pytest.raises(UserError, match="takes more than 0 bytes of memory"):
        sandbox.call(devour, {}, 0)
    with pytest.raises(UserError, match="it can't be read: a b"):
        sandbox.call(fail, {}, 0)
    monkeypatch.setattr(sandbox, "_STALL_S", 1.0)
    with pytest.raises(UserError, match="no progress in 1 s"):
        sandbox.call(loop, {}, 0)


def test_the_child_ends_with_its_parent(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "from qss_offline.data.sandbox import call\n"
        "from tests.hostile.test_processes import loop\n"
        f"call(loop, {{'pid': {str(pid_file)!r}}}, 0)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + PATIENCE_S
    while not (pid_file.exists() and pid_file.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    child = int(pid_file.read_text())
    parent.kill()
    parent.wait()
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)


# --- processes that are killed --------------------------------------------------------------


def hold_scratch(folder: str) -> None:
    with scratch_folder() as scratch:
        Path(folder, "made").write_text(str(scratch))
        time.sleep(600)


def test_what_a_killed_process_left_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = f"from tests.hostile.test_processes import hold_scratch; hold_scratch({str(tmp_path)!r})"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + PATIENCE_S
    while not (tmp_path / "made").exists() or not (tmp_path / "made").read_text():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    left = Path((tmp_path / "made").read_text())
    (tmp_path / "qss-offline-other").mkdir()  # without a lock: nobody knows whose it is
    with scratch_folder():
        assert left.is_dir()
    process.kill()
    process.wait()
    with scratch_folder() as mine:
        assert not left.exists() and mine.is_dir()
    assert not mine.exists() and (tmp_path / "qss-offline-other").is_dir()


def kill_yourself(request: dict[str, Any], tick: Any) -> dict[str, Any]:
    os.kill(os.getpid(), request["signal"])
    return {}


@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGTERM])
def test_a_reader_that_is_killed_says_nothing_of_the_file(ended_by: signal.Signals) -> None:
    message = refused(sandbox.call, kill_yourself, {"signal": int(ended_by)}, 0)
    assert message and f"ended by {ended_by.name}" in message and "damaged" not in message


def test_a_killed_build_worker(minari_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line; nothing visible, nothing left; the next build makes the same."""
    # Long enough that the worker is still at it when it is killed.
    spec = DatasetSpec("Reacher", transitions=20_000, shards=2)
    killed = False

    @contextmanager
    def progress(title: str, total: int, unit: str) -> Iterator[Reporter]:
        def report(completed: int, note: str = "") -> None:
            nonlocal killed
            workers = multiprocessing.active_children()
            if workers and not killed:
                killed = True
                os.kill(workers[0].pid or 0, signal.SIGKILL)

        yield report

    message = refused(build_dataset, spec, 2, notice=quiet, progress=progress)
    assert killed and message and "worker process died" in message
    assert not minari.list_local_datasets()
    assert all(path.suffix == ".lock" for path in (minari_root / ".qss-offline").iterdir())
    assert build_dataset(spec, 1, notice=quiet).transitions == spec.transitions


@pytest.mark.usefixtures("in_process")
def test_a_stale_lock_keeps_nobody_waiting(minari_root: Path) -> None:
    """A lock is what the system holds for a process, not the file that outlives it."""
    workplace = minari_root / ".qss-offline"
    (workplace / "me.thing" / "obs" / "data").mkdir(parents=True)
    (workplace / "me.thing.lock").touch()
    plan_arrays(**make_transitions([5, 1]).columns()).store("me/thing")
    assert len(list_datasets()) == 2
    assert [path.name for path in workplace.iterdir()] == ["me.thing.lock"]


# --- recordings that unpack to more than there is -------------------------------------------


@pytest.mark.parametrize("kind", ["npz", "parquet", "parquet of lists"])
def test_bombs(
    minari_root: Path, tmp_path: Path, kind: str, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few kilobytes that become hundreds of megabytes: refused before memory is taken."""
    rows = 1 << 21
    path = tmp_path / f"bomb.{kind[:7].rstrip()}"
    columns = {"obs_0": np.ones(rows), "reward": np.ones(rows), "terminated": np.ones(rows)}
    if kind == "npz":
        np.savez_compressed(path, **columns)
    elif kind == "parquet":
        pq.write_table(pa.table(columns), path)
    else:
        whole = pa.ListArray.from_arrays([0, rows], pa.array(np.ones(rows)))
        pq.write_table(pa.table({"obs_0": whole, "reward": [1.0], "terminated": [1]}), path)
    assert path.stat().st_size < 300_000
    monkeypatch.setattr(sandbox, "available_memory", lambda: 10 << 20)
    message = refused(plan_file, path)
    assert message and "of memory" in message
    assert not minari.list_local_datasets()
