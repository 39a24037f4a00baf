"""Minari's public datasets, pulled from a folder that holds small ones of the same kind."""

import shutil
from pathlib import Path

import gymnasium as gym
import minari
import numpy as np
import pytest
from minari.data_collector import EpisodeBuffer

from qss_offline.cli.minari_mujoco import DATASETS, dataset_ids
from qss_offline.cli.reproduce import minari_mujoco
from qss_offline.data.load import load_transitions
from qss_offline.data.local import local_dataset_ids
from qss_offline.errors import UserError
from qss_offline.presets import PRESETS
from qss_offline.runs.folder import read_json
from tests.small_run import PRESET, RACED

PENDULUM = "mujoco/invertedpendulum/medium-v0"


def foreign(env_id: str, dataset_id: str) -> None:
    """What Minari's own tools make of 60 episodes: float64, HDF5, no digest of ours."""
    env = gym.make(env_id)
    env.action_space.seed(0)
    buffers = []
    for episode in range(60):
        obs, _ = env.reset(seed=episode)
        rows: list[list[object]] = [[obs], [], [], [], []]
        ended = False
        while not ended:
            action = env.action_space.sample()
            obs, reward, terminated, truncated, _ = env.step(action)
            ended = terminated or truncated
            for row, value in zip(rows, (obs, action, reward, terminated, truncated), strict=True):
                row.append(value)
        columns = map(np.array, rows)
        names = ("observations", "actions", "rewards", "terminations", "truncations")
        buffers.append(EpisodeBuffer(id=episode, **dict(zip(names, columns, strict=True))))
    minari.create_dataset_from_buffers(
        dataset_id, buffers, env=env, eval_env=env, algorithm_name="random", author="a",
        author_email="a@b.c", code_permalink="https://d.e",
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("in_process", "undrawn")
def test_public_datasets_are_pulled_measured_and_learned_from(
    minari_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    foreign("InvertedPendulum-v5", PENDULUM)
    assert load_transitions(PENDULUM).transitions.actions is not None
    remote = tmp_path / "remote"
    shutil.copytree(minari_root / "mujoco", remote / "mujoco")
    shutil.rmtree(minari_root / "mujoco")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRESETS, "default", {"auto": RACED, "d3g": PRESET, "bco": PRESET})  # type: ignore[arg-type]
    asked = {"env": "invertedpendulum", "level": "medium", "source": str(remote), "seeds": "1",
             "methods": "bco", "workers": 1}  # fmt: skip
    minari_mujoco(**asked, list_only=True)
    assert f"{PENDULUM}\tto pull" in capsys.readouterr().out
    assert local_dataset_ids() == [] and not (tmp_path / "runs").exists()
    minari_mujoco(**asked)
    told = capsys.readouterr().out
    assert f"pulled {PENDULUM}" in told and "actions are not looked at" in told
    assert f"{PENDULUM}\t" in told.partition("behaviour stochasticity")[2]
    assert local_dataset_ids() == [PENDULUM]
    (config,) = (tmp_path / "runs").rglob("config.json")
    assert read_json(config)["dataset_id"] == PENDULUM
    assert (tmp_path / "runs" / "minari-mujoco" / "report" / "report.html").exists()
    # Again: it is here, and its run is done.
    shutil.rmtree(remote)
    minari_mujoco(**asked)
    assert "pulled" not in capsys.readouterr().out


def test_what_minari_does_not_have_is_refused() -> None:
    every = dataset_ids(list(DATASETS), ["simple", "medium", "expert"])
    assert len(every) == 15 and "mujoco/reacher/simple-v0" not in every
    with pytest.raises(UserError, match="did you mean hopper"):
        dataset_ids(["hoper"], ["medium"])
    with pytest.raises(UserError, match="did you mean expert"):
        dataset_ids(["hopper"], ["experts"])
