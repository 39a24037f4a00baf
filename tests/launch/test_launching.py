"""Whatever runs cells: failures are data, order is kept, what is stopped stops; on Ray too."""

import multiprocessing
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from qss_offline.errors import UserError
from qss_offline.launch import local
from qss_offline.launch.cell import SHARED_GPU, Cell, Launcher, cell_of, shared_out
from qss_offline.launch.choice import launcher_of
from qss_offline.launch.driver import run_shown
from qss_offline.launch.local import LocalLauncher
from qss_offline.launch.lock import hold
from qss_offline.launch.worker import FAILED, run_cell
from qss_offline.parallel.reporting import no_progress, no_tick
from qss_offline.settings_json import to_plain
from tests.launch.tasks import cell, most_at_work
from tests.patience import PATIENCE_S


@pytest.fixture(scope="module", params=["one", "two", pytest.param("ray", marks=pytest.mark.ray)])
def launcher(request: pytest.FixtureRequest) -> Launcher:
    if request.param != "ray":
        return LocalLauncher({"one": 1, "two": 2}[request.param])
    import ray

    request.addfinalizer(ray.shutdown)
    # Ray's own are 15, which a busy machine starves.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    return launcher_of("ray")


def ended(launcher: Launcher, cells: Sequence[Cell]) -> dict[str, str | None]:
    shown = run_shown(cells, launcher, no_progress, "cells", table=True)
    return {cells[index].name: failure for index, failure in shown}


def test_failures_are_data_and_waiting_cells_wait(launcher: Launcher, tmp_path: Path) -> None:
    cells = [
        cell(tmp_path / "later", "needing", ("first",), other=str(tmp_path / "first" / "ran")),
        cell(tmp_path / "bad", "broken"),
        cell(tmp_path / "lost", "needing", ("bad",), other=str(tmp_path / "bad" / "ran")),
        cell(tmp_path / "lost too", "note", ("lost", "first")),
        cell(tmp_path / "first", "once"),
        cell(tmp_path / "same", "once"),
    ]
    found = ended(launcher, cells)
    assert found == {
        "later": None, "bad": "ArithmeticError: out of luck", "lost": "not begun: bad failed",
        "lost too": "not begun: lost failed", "first": None, "same": None,
    }  # fmt: skip
    assert not (tmp_path / "lost too" / "ran").exists()
    told = (tmp_path / "bad" / FAILED).read_text()
    assert told.startswith("ArithmeticError: out of luck\n\nTraceback")
    mended = replace(cells[1], task="tests.launch.tasks:note")
    assert ended(launcher, [mended]) == {"bad": None}
    assert not (tmp_path / "bad" / FAILED).exists(), "a cell that is done has failed no longer"


def test_a_cell_whose_process_dies_is_tried_again(launcher: Launcher, tmp_path: Path) -> None:
    if isinstance(launcher, LocalLauncher) and launcher.workers == 1:
        pytest.skip("it would be this process")
    cells = [
        cell(tmp_path / "unlucky", "dying", times=1),
        cell(tmp_path / "doomed", "dying", times=99),
        cell(tmp_path / "well", "once"),
    ]
    found = ended(launcher, cells)
    assert found["unlucky"] is None and found["well"] is None
    assert found["doomed"] is not None and "died" in found["doomed"]
    assert len((tmp_path / "well" / "ran").read_text().split()) == 1


def test_a_cell_that_dies_before_it_tells_anything_fails(
    launcher: Launcher, tmp_path: Path
) -> None:
    if isinstance(launcher, LocalLauncher) and launcher.workers == 1:
        pytest.skip("it would be this process")
    cells = [
        cell(tmp_path / "doomed", "dying_at_once"),
        cell(tmp_path / "well", "once"),
        cell(tmp_path / "lost", "note", ("doomed",)),
    ]
    found = ended(launcher, cells)
    assert found["well"] is None and found["lost"] == "not begun: doomed failed"
    assert found["doomed"] is not None and "died" in found["doomed"]


def test_a_cell_that_always_dies_takes_no_other_with_it(launcher: Launcher, tmp_path: Path) -> None:
    if not isinstance(launcher, LocalLauncher) or launcher.workers == 1:
        pytest.skip("Ray has a process a cell; one worker is this process")
    cells = [cell(tmp_path / "doomed", "dying", times=99), cell(tmp_path / "slow", "slow")]
    found = ended(launcher, cells)
    assert found["slow"] is None and "died" in (found["doomed"] or "")


def test_whoever_stops_collecting_stops_the_rest(launcher: Launcher, tmp_path: Path) -> None:
    if isinstance(launcher, LocalLauncher) and launcher.workers == 1:
        pytest.skip("it would be this process")
    cells = [cell(tmp_path / "quick", "once"), cell(tmp_path / "endless", "endless")]
    results = launcher.run(cells, lambda *_: None)
    assert next(results) == (0, None)
    until = time.monotonic() + PATIENCE_S
    while not (tmp_path / "endless" / "ran").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    results.close()
    # The folder is free again once the process that held it is gone.
    with hold([tmp_path / "endless"], no_tick):
        pass


def test_a_cell_that_is_started_twice_runs_once(tmp_path: Path) -> None:
    one = cell(tmp_path / "one", "once")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=run_cell, args=(one, no_tick)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE_S)
        assert process.exitcode == 0
    assert len((tmp_path / "one" / "ran").read_text().split()) == 1


def test_whoever_waits_for_a_folder_says_for_whom(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    def tick(units: float, phase: str = "", note: str = "") -> None:
        raise Enough(phase)

    said = f"waiting for process {os.getpid()} of .* at work in {tmp_path / 'one'}"
    with (
        hold([tmp_path / "one"], no_tick),
        pytest.raises(Enough, match=said),
        hold([tmp_path / "two", tmp_path / "one"], tick),
    ):
        pass
    with hold([tmp_path / "two", tmp_path / "one"], tick):
        pass


def test_a_recording_that_is_another_is_refused(minari_root: Path, tmp_path: Path) -> None:
    from qss_offline.data.build import build_dataset
    from qss_offline.data.specs import DatasetSpec

    name = build_dataset(DatasetSpec("InvertedPendulum", transitions=50), workers=1).obs_id
    one = replace(cell(tmp_path / "one", "note"), recordings={name: "blake2b-256:0"})
    failure = run_cell(one, no_tick)
    assert failure is not None and "isn't the recording that one was made for" in failure
    assert not (tmp_path / "one" / "ran").exists()


def test_cells_are_plain(tmp_path: Path) -> None:
    one = cell(tmp_path / "one", "note", ("b",), deep={"list": [1, 2.5, None]})
    assert cell_of(to_plain(one), "here") == one
    with pytest.raises(UserError, match="here: no setting 'nam'"):
        cell_of({**to_plain(one), "nam": 1}, "here")
    with pytest.raises(UserError, match="here holds no cell"):
        cell_of({"settings": 3}, "here")
    assert shared_out("abcde", 2) == [("a", "c", "e"), ("b", "d")]
    assert shared_out("ab", None) == [("a",), ("b",)] and shared_out("", 3) == []


def test_an_unknown_launcher_is_refused() -> None:
    with pytest.raises(UserError, match="no launcher 'slurm': there are local, ray and ray:ADD"):
        launcher_of("slurm")
    with pytest.raises(UserError, match="workers must be above 0, not 0"):
        launcher_of("local", 0)


def test_what_takes_a_gpu_waits_for_one_and_the_rest_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work of both kinds at once, as of a sweep, on three cores and a GPU, or none."""
    monkeypatch.setattr(local, "available_cores", lambda: 3)
    tmp_path.joinpath("times").touch()
    cells = [
        replace(cell(tmp_path / f"{gpus:g} {number}", "timed"), gpus=gpus)
        for gpus in (1.0, SHARED_GPU)
        for number in range(3)
    ]
    for found in (1, 0):
        monkeypatch.setattr("torch.cuda.device_count", lambda found=found: found)
        assert LocalLauncher().width(cells) == 3 and LocalLauncher().width(cells[:3]) == 1
    assert set(ended(LocalLauncher(), cells).values()) == {None}
    at_work: set[str] = set()
    for line in (tmp_path / "times").read_text().splitlines():
        what, name = line.split(" ", 1)
        (at_work.add if what == "begins" else at_work.remove)(name)
        assert sum(name.startswith("1 ") for name in at_work) <= 1
    assert most_at_work(tmp_path / "times") == 3 and not at_work
