"""What is measured of recordings without random actions, on a small run."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import deterministic
from qss_offline.data.build import build_dataset
from qss_offline.data.families import expert_path
from qss_offline.data.specs import DatasetSpec
from qss_offline.launch.local import LocalLauncher
from qss_offline.presets import PRESETS
from qss_offline.runs.folder import RunFolder, read_json
from qss_offline.training.options import TrainOptions
from qss_offline.training.runner import run
from tests.small_run import RACED


def test_labels_and_scales_are_measured(
    minari_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "small", {"auto": RACED})  # type: ignore[arg-type]
    monkeypatch.setattr(deterministic, "UPDATES", 40)
    monkeypatch.setattr(deterministic, "EPISODES", 2)
    env_id = "InvertedPendulum-v5"
    spec = DatasetSpec(env_id, 0.0, 2_000, expert=expert_path(env_id))
    options = TrainOptions("auto", "small", seeds=(3,), updates=40, episodes=1)
    config = options.config(build_dataset(spec, workers=1).obs_id, env_id)
    run(config, RunFolder(tmp_path / "run"), launcher=LocalLauncher(1))
    out = tmp_path / "found.json"
    monkeypatch.setattr("sys.argv", ["x", str(tmp_path / "run"), "--seeds", "2", "--out", str(out)])
    deterministic.main()
    (row,) = read_json(out)["rows"]
    assert row["behaviour_stochasticity"] < 0.03
    assert len(set(row["label_error"].values())) == 3
    assert min(row["label_error"].values()) > 0
    assert set(row["cloned"]) == {"whole", "eased", "none"}
    assert all(len(returns) == 2 for returns in row["cloned"].values())
    assert np.isfinite(list(row["cloned"].values())).all()
