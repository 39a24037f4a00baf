"""What `benchmarks.balance` measures of a trained run, against the planner in the body's units."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.balance import balance, main
from qss_offline.algorithms.qss import transition_value
from qss_offline.errors import UserError
from qss_offline.trained_run import TrainedRun


def test_gap_errors_and_steps_are_those_of_the_planner(trained: TrainedRun) -> None:
    measured = balance(trained, 0)
    planner, transitions = trained.planner(0), trained.dataset.transitions
    obs, next_obs = (
        np.array(column, np.float32)
        for column in (transitions.observations, transitions.next_observations)
    )
    scale = planner.scale
    assert scale.step_std is not None
    unit = (scale.std * scale.step_std).numpy()

    def value(target: np.ndarray) -> np.ndarray:
        critic = planner.critic.members[0]
        return transition_value(critic, scale.batch(obs), scale.batch(target))[0].numpy()

    reached, proposed = planner.reach(obs), planner.propose(obs)
    expected = {
        "gap": np.abs(value(reached) - value(next_obs)).mean(),
        "cycle_error": np.square((proposed - reached) / unit).mean(),
        "step": np.square((next_obs - obs) / unit).mean(),
        "value": value(next_obs).mean(),
    }
    for name, number in expected.items():
        assert measured[name] == pytest.approx(float(number), rel=1e-3), name
    weight = trained.algorithm.cycle_coef * measured["step"] / measured["gap"]
    assert measured["weight"] == pytest.approx(weight)


def test_every_seed_is_measured_written_and_drawn(
    trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "balance.json"
    monkeypatch.setattr(sys, "argv", ["balance", str(trained.folder.path), "--out", str(out)])
    main()
    rows = json.loads(out.read_text())["rows"]
    assert [row["seed"] for row in rows] == [0, 1]
    assert rows[0]["curve"]["update"][-1] == 1000
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(sys, "argv", ["balance", str(tmp_path / "nothing"), "--out", str(out)])
    with pytest.raises(UserError, match="holds no run"):
        main()
