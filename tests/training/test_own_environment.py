"""An environment in a file, with arguments, from its recording to its policy elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import pytest

import qss_offline as qss
from qss_offline.algorithms.inverse_dynamics import InverseDynamicsConfig
from qss_offline.algorithms.observational_d3g import ObservationalD3GConfig
from qss_offline.data import DatasetSpec, build_dataset, load_transitions
from qss_offline.data.environments import env_id_of, resolve_env_id
from qss_offline.errors import UserError
from qss_offline.launch.local import LocalLauncher
from qss_offline.parallel.processes import available_cores
from qss_offline.presets import Preset
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import RunFolder
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.runs.reader import load_run
from qss_offline.training.runner import run
from tests.hostile.test_policies import qss_offline
from tests.own_env import loaded_by, write_own

PRESET = Preset(
    ObservationalD3GConfig((16, 16), 32, normalize_observations=True, clamp_targets=True),
    InverseFitConfig(1, 50, 20, model=InverseDynamicsConfig((16, 16), 32, step_inputs=True)),
    updates=20,
)


def configured(env_id: str, dataset_id: str, seeds: tuple[int, ...] = (0, 1)) -> RunConfig:
    return RunConfig("d3g", env_id, dataset_id, seeds, "small", PRESET, evaluation_episodes=2)


def test_a_file_with_arguments_in_two_processes_and_from_another_folder(
    tmp_path: Path, minari_root: Path
) -> None:
    path = write_own(tmp_path / "mine")
    env_id = resolve_env_id(f"{path}:Cart?gain=2&max_episode_steps=5")
    dataset = build_dataset(DatasetSpec(env_id, transitions=200, shards=1), workers=1).obs_id
    before = len(set(loaded_by(path)))
    results = run(
        configured(env_id, dataset), RunFolder(tmp_path / "run"), launcher=LocalLauncher(2)
    )
    if available_cores() > 1:
        assert len(set(loaded_by(path))) == before + 2
    assert [seed["last"]["mean"] for seed in results["seeds"]] == [10.0, 10.0]
    assert load_run(tmp_path / "run").env_id == env_id
    policy = tmp_path / "run" / "seeds" / "1" / "policy.safetensors"
    assert b"own.py:Cart?gain=2" in policy.read_bytes()
    assert str(tmp_path).encode() not in policy.read_bytes()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    told = "../mine/own.py:Cart?gain=2&max_episode_steps=5"
    done = qss_offline("evaluate", str(policy), "--env", told, folder=elsewhere)
    assert done.returncode == 0, done.stderr
    assert "10.0" in done.stdout


def test_from_python_a_run_goes_on_where_its_file_is_named(
    tmp_path: Path, minari_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    env_id = resolve_env_id(f"{write_own(tmp_path)}:Cart?max_episode_steps=5")
    dataset = build_dataset(DatasetSpec(env_id, transitions=200, shards=1), workers=1).obs_id
    monkeypatch.setattr("qss_offline.training.rounds.evaluate", stop)
    with pytest.raises(KeyboardInterrupt):
        run(
            configured(env_id, dataset, (0,)),
            RunFolder(tmp_path / "run"),
            launcher=LocalLauncher(1),
        )
    path = str(tmp_path / "run")
    program = (
        "import qss_offline as qss\n"
        f"try: qss.resume({path!r})\n"
        "except qss.UserError as error: print(error)\n"
        f"qss.resume({path!r}, env={env_id.partition('?')[0]!r})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "own.py" in done.stdout, "without its file it is refused"
    assert load_run(tmp_path / "run").evaluated


def test_recordings_of_other_arguments_are_refused(tmp_path: Path, minari_root: Path) -> None:
    recorded = DatasetSpec("Reacher?frame_skip=4", transitions=120, shards=1)
    dataset = build_dataset(recorded, workers=1).obs_id
    for env_id in ("Reacher-v5", "Reacher-v5?frame_skip=10"):
        with pytest.raises(UserError, match=r"Reacher-v5\?frame_skip=4, not Reacher-v5"):
            run(configured(env_id, dataset), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_callable_trains_in_this_process(
    tmp_path: Path, minari_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def make_short(steps: int = 5) -> gymnasium.Env[Any, Any]:
        return gymnasium.make("Pendulum-v1", max_episode_steps=steps)

    env_id = env_id_of(make_short, {"steps": 4})
    dataset = build_dataset(DatasetSpec(env_id, transitions=200, shards=1), workers=1).obs_id
    capsys.readouterr()
    alone = run(configured(env_id, dataset), RunFolder(tmp_path / "run"), launcher=LocalLauncher(2))
    told = capsys.readouterr().err
    if available_cores() > 1:
        assert told.count("everything runs in this process") == 1
    single = configured(env_id, dataset, (1,))
    again = run(single, RunFolder(tmp_path / "single"), launcher=LocalLauncher(2))
    assert alone["seeds"][1]["last"] == again["seeds"][0]["last"]
    # Elsewhere nobody knows the callable.
    gymnasium.registry.pop(env_id.partition("?")[0])
    with pytest.raises(UserError, match="its environment was a callable"):
        load_run(tmp_path / "run")
    # As in a process of its own: given again, it is known.
    opened = qss.load(tmp_path / "run", env=make_short)
    (tmp_path / "run" / "results.json").unlink()
    assert isinstance(opened, qss.Run)
    assert qss.resume(opened, env=make_short, progress=False).returns() == opened.returns()


class Upright(gymnasium.Env[Any, Any]):
    """A reward for each step, of which there is no end unless it `falls`."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def __init__(self, falls: bool = False) -> None:
        self._falls = falls

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        fell = self._falls and self.np_random.random() < 0.2
        return self.observation_space.sample(), 1.0, fell, False, {}


@pytest.mark.parametrize("falls", [False, True])
def test_without_a_time_limit_as_many_steps_are_evaluated_as_were_recorded(
    tmp_path: Path, minari_root: Path, falls: bool
) -> None:
    """Only where the recording cut most of its episodes: shorter ones than an upright policy's
    would be no measure."""
    env_id = env_id_of(Upright, {"falls": falls})
    dataset = build_dataset(DatasetSpec(env_id, transitions=240, shards=4), workers=1).obs_id
    lengths = load_transitions(dataset).transitions.episode_lengths()
    assert (lengths.tolist() == [60] * 4) != falls
    found = run(configured(env_id, dataset), RunFolder(tmp_path / "run"), launcher=LocalLauncher(1))
    returns = [value for seed in found["seeds"] for value in seed["evaluations"][-1]["returns"]]
    if falls:
        assert len(set(returns)) > 1
    else:
        assert returns == [60.0] * len(returns)


def test_ranges_are_checked_before_training_unless_told_not_to(
    tmp_path: Path, minari_root: Path
) -> None:
    recorded = DatasetSpec("MountainCarContinuous", transitions=120, shards=1)
    path = tmp_path / "own.py"
    path.write_text(
        "from gymnasium.envs.classic_control import Continuous_MountainCarEnv as Car\n"
        "class MountainCarContinuous(Car):\n"
        "    def _get_obs(self): return self.state\n"
        "    def reset(self, **kwargs):\n"
        "        super().reset(**kwargs); return 100 + self.state, {}\n"
        "    def step(self, action):\n"
        "        _, *rest = super().step(action); return (100 + self.state, *rest)\n"
        "    @property\n"
        "    def observation_space(self):\n"
        "        import gymnasium, numpy as np\n"
        "        return gymnasium.spaces.Box(-np.inf, np.inf, (2,))\n"
        "    @observation_space.setter\n"
        "    def observation_space(self, value): pass\n"
    )
    dataset = build_dataset(recorded, workers=1).obs_id
    env_id = resolve_env_id(f"{path}:MountainCarContinuous?max_episode_steps=20")
    asked = replace(configured(env_id, dataset), seeds=(0,))
    with pytest.raises(UserError, match=r"doesn't fit .*dimension 0 is") as caught:
        run(asked, RunFolder(tmp_path / "run"))
    assert "\n" not in str(caught.value)
    run(asked, RunFolder(tmp_path / "run"), check_ranges=False)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert "check_ranges" not in config
    run(asked, RunFolder(tmp_path / "run"), resume=True)
