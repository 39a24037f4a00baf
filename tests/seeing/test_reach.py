"""What `benchmarks.reach` measures of a trained run."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.reach import main, reach
from qss_offline.errors import UserError
from qss_offline.planning import Planner
from qss_offline.reachable import Simulator
from qss_offline.trained_run import TrainedRun


def test_a_proposal_within_reach_is_no_distance_off(
    trained: TrainedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = Simulator("InvertedPendulum-v5", 3)

    def second_action(_: Planner, obs: np.ndarray) -> np.ndarray:
        return simulator.next_observations(obs)[:, 1]

    before = reach(trained, 0, 1)
    monkeypatch.setattr(Planner, "propose", second_action)
    after = reach(trained, 0, 1)
    assert after["proposed_distance"] < 1e-3 < before["proposed_distance"]
    assert after["still_distance"] == before["still_distance"] > 0.1
    assert after["cycle_distance"] == before["cycle_distance"]
    assert len(after["fitted_returns"]) == len(after["true_inverse_returns"]) == 1


def test_every_seed_is_measured_and_written(
    trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "reach.json"
    command = ["reach", str(trained.folder.path), "--episodes", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", command)
    main()
    assert [row["seed"] for row in json.loads(out.read_text())["rows"]] == [0, 1]
    command[1] = str(tmp_path / "nothing")
    with pytest.raises(UserError, match="holds no run"):
        main()
