"""Trackers get every logged row once; nothing of theirs is imported unasked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from qss_offline.analysis.tracking import (
    TENSORBOARD_FOLDER,
    TensorBoard,
    tensorboard_progress,
    tracked,
)
from qss_offline.errors import UserError
from qss_offline.parallel.reporting import no_progress
from qss_offline.runs.folder import RunFolder
from qss_offline.runs.reader import FinishedRun
from qss_offline.runs.results import evaluation_means


class Recorder:
    """A tracker that remembers."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, dict[str, float]]] = []
        self.closed = False

    def log(self, seed: int, step: int, values: Mapping[str, float]) -> None:
        self.rows.append((seed, step, dict(values)))

    def close(self) -> None:
        self.closed = True


def test_every_row_is_logged_once_also_after_a_resumption(tmp_path: Path) -> None:
    folder, tracker = RunFolder(tmp_path), Recorder()
    seed = folder.seed(3)
    seed.append_metrics({"update": 1000, "q": 1.0})
    with tracked(no_progress, folder, (3,), tracker)("training", 10, "updates") as report:
        report(1)
        seed.append_metrics({"update": 2000, "q": 2.0})
        with seed.metrics.open("a") as file:
            file.write('{"update": 30')  # a worker is writing
        report(2)
        seed.cut_metrics(1000)  # as a resumed worker does
        for update in (2000, 3000):
            seed.append_metrics({"update": update, "q": update / 1000})
        report(3)
        seed.result.write_text(
            json.dumps({"evaluations": [{"online_steps": 500, "returns": [1.0, 4.0]}]})
        )
    assert [(s, step) for s, step, _ in tracker.rows] == [(3, 1000), (3, 2000), (3, 3000), (3, 500)]
    assert tracker.rows[2][2] == {"q": 3.0}
    assert tracker.rows[3][2] == {"evaluation/return": 2.5}
    assert tracker.closed


@pytest.mark.parametrize(
    "line", ["[]", "3", '{"q": 1.0}', '{"update": "x"}', '{"update": 2, "q": "x"}', "[" * 9999]
)
def test_metrics_of_others_are_told_or_refused_in_one_line(line: str, tmp_path: Path) -> None:
    folder, tracker = RunFolder(tmp_path), Recorder()
    folder.seed(3).append_metrics({"update": 1, "q": None})
    with folder.seed(3).metrics.open("a") as file:
        file.write(line + "\n")
    with (
        suppress(UserError),
        tracked(no_progress, folder, (3,), tracker)("training", 10, "updates"),
    ):
        pass
    assert [step for _, step, _ in tracker.rows] == [1]


def test_a_folder_that_tensorboard_may_not_have_is_refused_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "mine").mkdir()
    (tmp_path / "tensorboard").symlink_to("mine")
    with pytest.raises(UserError, match="cannot write to"):
        TensorBoard(tmp_path / "tensorboard").log(0, 1, {"q": 1.0})
    assert (tmp_path / "mine").exists()


def test_trackers_are_closed_when_training_fails(tmp_path: Path) -> None:
    tracker = Recorder()
    with (
        pytest.raises(RuntimeError),
        tracked(no_progress, RunFolder(tmp_path), (0,), tracker)("training", 1, "updates"),
    ):
        raise RuntimeError
    assert tracker.closed


def test_tensorboard_shows_what_the_json_lines_say(trained: FinishedRun) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = trained.folder
    for _ in range(2):  # a resumption writes it anew
        with tensorboard_progress(no_progress, folder, trained.seeds)("t", 1, "u") as report:
            report(1)
    written = EventAccumulator(str(folder.path / TENSORBOARD_FOLDER / "seed-1"))
    written.Reload()
    metrics = trained.metrics(1)
    assert [event.step for event in written.Scalars("q")] == metrics["update"].tolist()
    assert [event.value for event in written.Scalars("q")] == pytest.approx(metrics["q"])
    returns = [event.value for event in written.Scalars("evaluation/return")]
    assert returns == pytest.approx(evaluation_means(trained.results["seeds"][1]))
