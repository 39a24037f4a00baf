"""Which device is taken, and what is said of it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from qss_offline.engine import device
from qss_offline.engine.device import choose_device, gpu_versions, training_with
from qss_offline.errors import UserError
from qss_offline.launch import local
from qss_offline.launch.cell import SHARED_GPU, Cell
from qss_offline.launch.worker import take_gpu

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results" / "gpu.json"


def test_devices_are_chosen_or_refused() -> None:
    assert choose_device("cpu") == "cpu"
    assert choose_device("auto") in ("cpu", "cuda")
    with pytest.raises(UserError, match="--device takes"):
        choose_device("mps")


@pytest.mark.parametrize("verified", [None, "1.0"])
def test_auto_takes_a_gpu_only_once_its_results_are_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verified: str | None
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device, "GPU_VERIFIED_WITH", verified)
    device._say_how_to_try.cache_clear()
    assert [choose_device("auto") for _ in range(2)] == ["cuda" if verified else "cpu"] * 2
    assert choose_device("cuda") == "cuda"
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (0 if verified else 1)
    assert all("--device cuda" in line for line in lines)
    device._say_how_to_try.cache_clear()


def test_a_gpu_without_results_has_no_version() -> None:
    assert (device.GPU_VERIFIED_WITH is None) == (not RESULTS.exists())


def test_processes_take_turns_at_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    for number in range(4):
        take_gpu(number)
    assert taken == [0, 1, 2, 0]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    take_gpu(5)
    assert len(taken) == 4


def test_tf32_is_of_a_run_alone_and_a_full_gpu_is_said_in_one_line() -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    with training_with(True):
        assert torch.backends.cuda.matmul.allow_tf32
    assert torch.backends.cuda.matmul.allow_tf32 == before
    with pytest.raises(UserError, match="the GPU's memory is full"), training_with(False):
        raise torch.OutOfMemoryError


def test_versions_name_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    if not torch.cuda.is_available():
        assert gpu_versions() == {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA X")
    assert gpu_versions()["gpu"] == "NVIDIA X"


@pytest.mark.parametrize(("gpus", "processes"), [(1.0, 2), (SHARED_GPU, 5)])
def test_training_takes_a_process_a_gpu_and_acting_one_a_core(
    monkeypatch: pytest.MonkeyPatch, gpus: float, processes: int
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(local, "available_cores", lambda: 8)
    started: list[Any] = []

    def run_all(function: Any, cells: Any, workers: int, *, watch: Any, **rest: Any) -> Any:
        started.append((workers, [cell.place for cell in cells]))
        yield from ((index, None) for index in range(len(cells)))
        watch([1e6] * 5, [""] * 5, [True] * 5)

    monkeypatch.setattr(local, "run_jobs", run_all)
    cells = [Cell(f"{n}", "a:b", {}, (), 1e6, gpus=gpus) for n in range(5)]
    ended = list(local.LocalLauncher().run(cells, lambda *_: None))
    assert ended == [(index, None) for index in range(5)]
    assert started == [(processes, [0, 1, 2, 3, 4])]
