"""A run tells what it is doing, and whether it learns."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest

from qss_offline.algorithms.bco import CloningConfig
from qss_offline.data.build import build_dataset
from qss_offline.data.facts import recording_facts
from qss_offline.data.load import load_transitions
from qss_offline.data.specs import DatasetSpec
from qss_offline.launch.cell import SHARED_GPU
from qss_offline.launch.local import LocalLauncher
from qss_offline.parallel.progress import Reporter
from qss_offline.runs.config import Method, RunConfig
from qss_offline.runs.folder import RunFolder
from qss_offline.training import offline as offline_training
from qss_offline.training.cells import train_cell, training_cells
from qss_offline.training.options import TrainOptions
from qss_offline.training.runner import run
from tests.small_run import settings


@pytest.fixture
def dataset(minari_root: Path) -> str:
    return build_dataset(DatasetSpec("InvertedPendulum", transitions=500), workers=1).obs_id


def heard_of(
    config: RunConfig, folder: Path, workers: int = 1, resume: bool = False
) -> tuple[int, list[tuple[int, str]]]:
    """Return the total of a run, and what it reported."""
    reports: list[tuple[int, str]] = []
    totals: list[int] = []

    @contextmanager
    def listening(title: str, total: int, unit: str) -> Iterator[Reporter]:
        totals.append(total)

        def report(done: int, note: str = "") -> None:
            reports.append((done, note))

        yield report

    run(config, RunFolder(folder), resume, listening, LocalLauncher(workers))
    return totals[0], reports


def phases(reports: Sequence[tuple[int, str]]) -> list[str]:
    """Return the phases in their order, updates of D3G counted alike."""
    found = [note.split(", ")[0].split(" update ")[0] for _, note in reports]
    return [phase for phase, _ in groupby(found)]


def checked(total: int, reports: Sequence[tuple[int, str]]) -> None:
    done = [units for units, _ in reports]
    assert done == sorted(done) and done[-1] == total


def test_d3g_names_its_phases_its_values_and_its_returns(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offline_training, "LOG_INTERVAL", 100)
    config = settings(dataset)
    config = replace(config, preset=replace(config.preset, updates=200))
    total, reports = heard_of(config, tmp_path / "run")
    checked(total, reports)
    expected = [f"{part} round {n} of 2" for n in (1, 2) for part in ("inverse", "evaluating")]
    assert phases(reports)[:5] == ["D3G", *expected]
    trained = [note for _, note in reports if note.startswith("D3G update 200 of 200")]
    assert "value " in trained[-1] and "(recorded " in trained[-1]
    assert reports[-1][1].startswith("return ") and "(recorded " in reports[-1][1]
    second = next(note for _, note in reports if note.startswith("inverse round 2"))
    assert "return " in second, "the first evaluation is told in the second round"

    # A resumed run counts from what is done.
    (tmp_path / "run" / "results.json").unlink()
    for path in (tmp_path / "run").glob("seeds/*/result.json"):
        path.unlink()
    total, again = heard_of(config, tmp_path / "run", resume=True)
    assert again[0][0] >= 400 and again[-1][0] == total


def test_ensembles_and_workers_say_whose_phases_they_are(dataset: str, tmp_path: Path) -> None:
    config = settings(dataset)
    config = replace(config, preset=replace(config.preset, updates=100, ensemble=2))
    total, reports = heard_of(config, tmp_path / "run", workers=2)
    checked(total, reports)
    found = {note.split(":")[0] for _, note in reports if ":" in note}
    assert {"2 of 4 models", "1 of 2 seeds"} >= found and found


def test_bco_names_its_phases(dataset: str, tmp_path: Path) -> None:
    config = settings(dataset)
    cloning = CloningConfig((16, 16), 32, error_power=2.0)
    config = replace(config, method="bco", cloning=cloning, cloning_updates=100)
    total, reports = heard_of(config, tmp_path / "run")
    checked(total, reports)
    parts = ("inverse", "labels", "cloning", "evaluating")
    assert phases(reports)[:8] == [f"{part} round {n} of 2" for n in (1, 2) for part in parts]
    assert reports[-1][1].startswith("return ")


@pytest.mark.parametrize("gpus", [0, 2])
@pytest.mark.parametrize(("method", "cells"), [("d3g", [2, 8]), ("auto", [2, 8]), ("bco", [8])])
def test_a_gpu_trains_one_stack_and_cores_share_what_acts(
    method: Method,
    cells: list[int],
    gpus: int,
    dataset: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
    # A plan may be made where there is none.
    cells = [max(1, gpus) if count == 2 else count for count in cells]
    facts = recording_facts(load_transitions(dataset).transitions, True)
    options = TrainOptions(method, seeds=10, device="cpu")
    config = replace(options.config(dataset, "InvertedPendulum-v5"), device="cuda")
    made = training_cells(config.with_recording(facts), RunFolder(tmp_path), {}, 8)
    phases = [list(some) for _, some in groupby(made, lambda one: one.settings["phase"])]
    assert [len(phase) for phase in phases] == cells
    assert [phase[0].gpus for phase in phases][-len(cells) :] == [1.0, SHARED_GPU][-len(cells) :]


@pytest.mark.parametrize("method", ["d3g", "bco", "auto"])
def test_work_beside_a_gpu_counts_as_much_as_was_promised(
    method: Method, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunConfig, "units_beside", 10.0)
    facts = recording_facts(load_transitions(dataset).transitions, True)
    config = TrainOptions(
        method, seeds=2, updates=60, online_steps=30, online_rounds=5, episodes=1, device="cpu",
        changes=["updates_per_round=10"],
    ).config(dataset, "InvertedPendulum-v5")  # fmt: skip
    for cell in training_cells(config.with_recording(facts), RunFolder(tmp_path), {}, 1):
        told: list[float] = []

        def tick(units: float, phase: str = "", note: str = "", told: list[float] = told) -> None:
            told.append(units)

        train_cell(cell.settings, tick)
        assert told == pytest.approx(sorted(told)) and told[-1] == pytest.approx(cell.units)
