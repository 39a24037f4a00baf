"""Return against online steps, from a small trained run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qss_offline.analysis.plots.online_budget import budget_figure
from qss_offline.cli.reproduce import online_budget
from qss_offline.comparison.online_budget import (
    BudgetRow,
    fit_budget,
    load_proposals,
    spread,
)
from qss_offline.comparison.rows import read_rows
from qss_offline.data.build import build_dataset
from qss_offline.data.specs import DatasetSpec
from qss_offline.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from qss_offline.errors import UserError
from qss_offline.evaluation.episodes import Evaluation
from qss_offline.evaluation.policies import Policy
from qss_offline.evaluation.policy_files import load_policy
from qss_offline.files import write_json
from qss_offline.launch.local import LocalLauncher
from qss_offline.presets import preset
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import RunFolder, read_json
from qss_offline.runs.tables import write_table
from qss_offline.training.inverse.fitting import InverseFitter
from qss_offline.training.runner import run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run of two seeds, with its dataset beside it."""
    root = tmp_path_factory.mktemp("budget")
    default = preset("default", "d3g")
    small = replace(
        default,
        algorithm=replace(default.algorithm, hidden_dims=(16, 16), batch_size=32),
        inverse=replace(
            default.inverse,
            rounds=2,
            steps_per_round=20,
            updates_per_round=10,
            model=replace(default.inverse.model, hidden_dims=(16, 16), batch_size=32),
        ),
        updates=50,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root / "minari"))
        (root / "minari").mkdir()
        dataset = build_dataset(DatasetSpec("InvertedPendulum", transitions=500), workers=1).obs_id
        settings = RunConfig(
            "d3g", "InvertedPendulum-v5", dataset, (0, 1), "small", small, evaluation_episodes=1
        )
        run(settings, RunFolder(root / "run"), launcher=LocalLauncher(1))
    return root / "run"


@pytest.fixture
def trained(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run's folder, and its dataset where datasets are looked for."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(finished.parent / "minari"))
    return finished


def test_the_proposals_are_those_of_the_run(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[InverseFitter] = []

    class Noted(InverseFitter):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            fitted.append(self)

    monkeypatch.setattr("qss_offline.comparison.online_budget.InverseFitter", Noted)
    proposals = load_proposals(trained)
    fit_budget(proposals, spread(proposals.inverse, 40), "default", episodes=1)
    obs = np.full((3, 4), 0.1, np.float32)
    for seed in (0, 1):
        policy = load_policy(trained / "seeds" / str(seed) / "policy.safetensors")
        assert isinstance(policy, Policy)
        np.testing.assert_array_equal(fitted[0].policy(seed).propose(obs), policy.propose(obs))


def test_each_budget_is_fitted_afresh_for_every_seed(trained: Path) -> None:
    proposals = load_proposals(trained)
    assert proposals.seeds == (0, 1)
    few = fit_budget(proposals, spread(proposals.inverse, 40), "default", episodes=1)
    assert [(row.seed, row.online_steps) for row in few] == [(0, 40), (1, 40)]
    again = fit_budget(proposals, spread(proposals.inverse, 40), "default", episodes=1)
    assert few == again
    with pytest.raises(UserError, match="41 online steps can't be spread evenly over 2 rounds"):
        spread(proposals.inverse, 41)


def test_points_with_known_actions_have_a_name_of_their_own(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--variant"):
        online_budget([trained], actions="me/robot-act-v0", results=tmp_path / "results")
    with pytest.raises(UserError, match="me/robot-act-v0"):
        online_budget(
            [trained],
            budgets="40",
            rounds=2,
            updates=40,
            actions="me/robot-act-v0",
            variant="known",
            results=tmp_path / "results",
        )
    assert not (tmp_path / "results").exists()


def test_every_budget_is_evaluated_on_the_same_episodes(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[int] = []

    def noted(policy: Any, env_id: str, episodes: int, start: int) -> Evaluation:
        starts.append(start)
        return Evaluation((0.0,), (1,), np.zeros((1, 1)), (0.0,))

    monkeypatch.setattr("qss_offline.comparison.online_budget.evaluate", noted)
    proposals = load_proposals(trained)
    for steps, variant in ((20, "default"), (40, "other")):
        fit_budget(proposals, spread(proposals.inverse, steps), variant, episodes=1)
    assert starts[:2] == starts[2:]
    assert starts[0] != starts[1], "each seed has episodes of its own"


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [BudgetRow("A-v0", "a/b-v0", "default", 3, 100, -4.25)]
    write_table(tmp_path / "returns.csv", BudgetRow, rows)
    assert read_rows(tmp_path / "returns.csv", BudgetRow) == rows
    assert read_rows(tmp_path / "nothing.csv", BudgetRow) == []
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="no column 'env_id'"):
        read_rows(tmp_path / "other.csv", BudgetRow)


def test_a_folder_without_proposals_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        load_proposals(tmp_path)


def _row(dataset: str, variant: str, seed: int, steps: int, value: float) -> BudgetRow:
    return BudgetRow("Reacher-v5", dataset, variant, seed, steps, value)


def test_a_run_that_is_still_training_is_refused(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "half")
    path = tmp_path / "half" / "seeds" / "1" / "training.safetensors"
    whole = load_checkpoint(path)
    save_checkpoint(path, Checkpoint(whole.tensors, {**whole.metadata, "update": 10}))
    with pytest.raises(UserError, match="half isn't done: seed 1 stands at update 10 of "):
        load_proposals(tmp_path / "half")


def test_a_run_of_another_version_is_told_apart(trained: Path, tmp_path: Path) -> None:
    config = read_json(trained / "config.json")
    config["preset"]["inverse"]["of_tomorrow"] = 1
    write_json(tmp_path / "config.json", config)
    with pytest.raises(UserError, match=r"of_tomorrow.*another version"):
        load_proposals(tmp_path)


def test_variants_of_one_budget_stand_side_by_side() -> None:
    rows = [
        _row(dataset, variant, seed, 1_000, value + seed)
        for dataset, value in (("qss/a-obs-v0", -5.0), ("qss/b-obs-v0", -7.0))
        for variant in ("alone", "mean of 3")
        for seed in (0, 1)
    ]
    (axis,) = budget_figure(rows).axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["alone", "mean of 3"]
    means = [line for line in axis.lines if line.get_label() in ("a", "b")]
    assert [list(line.get_xdata()) for line in means] == [[0, 1], [0, 1]]
    assert [list(line.get_ydata()) for line in means] == [[-4.5, -4.5], [-6.5, -6.5]]
    (axis,) = budget_figure([*rows, _row("qss/a-obs-v0", "alone", 0, 300, -9.0)]).axes
    assert axis.get_xlabel() == "online steps"
    assert len([line for line in axis.lines if not line.get_label().startswith("_")]) == 4
