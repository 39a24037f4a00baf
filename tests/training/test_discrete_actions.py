"""Discrete actions: recorded without them, learned offline, a softmax IDM acts."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from numpy.typing import NDArray

import qss_offline as qss
from qss_offline.algorithms.inverse_dynamics import InverseDynamicsConfig
from qss_offline.algorithms.observational_d3g import ObservationalD3GConfig
from qss_offline.analysis.measures import inverse_fit
from qss_offline.analysis.models import inverse_model_of
from qss_offline.cli.command import main
from qss_offline.cli.recording import train_expert
from qss_offline.cli.training import random_obs
from qss_offline.comparison.study import ComparisonOptions, Study
from qss_offline.data import About, plan_arrays
from qss_offline.data.build import build_dataset, build_family
from qss_offline.data.collect import collect
from qss_offline.data.environments import make_env, resolve_env_id
from qss_offline.data.families import expert_path
from qss_offline.data.load import load_transitions
from qss_offline.data.local import local_dataset_ids
from qss_offline.data.specs import DatasetSpec
from qss_offline.errors import UserError
from qss_offline.evaluation.acting import let_act
from qss_offline.evaluation.actions import OneHotActions
from qss_offline.evaluation.export import export_policy
from qss_offline.evaluation.policies import DiscretePolicy, check_fits
from qss_offline.evaluation.policy_files import load_policy
from qss_offline.launch.local import LocalLauncher
from qss_offline.presets import Preset
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import RunFolder
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.runs.reader import load_run
from qss_offline.training.interaction import known_steps, take_steps
from qss_offline.training.inverse.fitting import InverseFitter
from qss_offline.training.inverse.models import InverseModels
from qss_offline.training.runner import run
from tests.evaluation.test_policies import SCALE, fits_alike, to_origin_proposal

MODEL = InverseDynamicsConfig((16, 16), 32, 3e-3, step_inputs=True)
PRESET = Preset(
    ObservationalD3GConfig((16, 16), 32, normalize_observations=True, clamp_targets=True),
    InverseFitConfig(2, 60, 40, known_updates=60, model=replace(MODEL, form="either")),
    updates=60,
    ensemble=2,
)
SOURCE = """
import gymnasium
import numpy as np


class Lane(gymnasium.Env):
    action_space = gymnasium.spaces.Discrete(3, start=5)
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-0.5, 0.5, 2)
        return self.state.astype(np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action), action
        self.state = self.state + [0.1 * (int(action) - 6), 0.05 * self.state[0]]
        far = bool(abs(self.state[0]) > 1)
        return self.state.astype(np.float32), -abs(float(self.state[0])), far, False, {}
"""


class Line(gym.Env[NDArray[np.float32], int]):
    """x' = x − 0.1, x or x + 0.1 for the actions −1, 0 and 1."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space: Any = gym.spaces.Discrete(3, start=-1)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x, self.t = float(self.np_random.uniform(-0.5, 0.5)), 0
        return np.array([self.x], np.float32), {}

    def step(self, action: int) -> Any:
        assert self.action_space.contains(action)
        self.x += 0.1 * int(action)
        self.t += 1
        return np.array([self.x], np.float32), -abs(self.x), False, self.t >= 20, {}


def fitter(seeds: tuple[int, ...], config: InverseFitConfig | None = None) -> InverseFitter:
    config = config or InverseFitConfig(2, 200, 300, model=MODEL)
    proposals = [to_origin_proposal() for _ in seeds]
    return InverseFitter(seeds, proposals, [SCALE] * len(seeds), Line, config)


@pytest.fixture
def lane(tmp_path: Path) -> str:
    """An environment whose first action is 5."""
    path = tmp_path / "own.py"
    path.write_text(SOURCE)
    return resolve_env_id(f"{path}:Lane?max_episode_steps=20")


def recorded(env_id: str) -> str:
    spec = DatasetSpec(env_id, transitions=300, shards=2)
    return build_dataset(spec, workers=1, notice=lambda _: None).obs_id


def asked(env_id: str, seeds: tuple[int, ...] = (0, 1), **others: Any) -> RunConfig:
    episodes = {"evaluation_episodes": 2}
    return RunConfig("d3g", env_id, recorded(env_id), seeds, "small", PRESET, **episodes, **others)


def learned(folder: Path, seed: int) -> dict[str, bytes]:
    names = ("policy.safetensors", "result.json", "online.safetensors")
    return {name: (folder / "seeds" / str(seed) / name).read_bytes() for name in names}


def test_the_softmax_takes_the_action_that_makes_a_step() -> None:
    fitted = fitter((0,))
    for _ in range(2):
        fitted.run_round()
    policy, steps = fitted.policy(0), fitted.steps[0]
    assert isinstance(policy, DiscretePolicy) and steps is not None
    assert [int(policy(np.array([x]))) for x in (-0.3, 0.0, 0.3)] == [1, 0, -1]
    assert set(map(tuple, steps.actions)) == set(map(tuple, np.eye(3, dtype=np.float32)))
    np.testing.assert_allclose(
        (steps.next_obs - steps.obs)[:, 0], 0.1 * (steps.actions.argmax(1) - 1), atol=1e-6
    )


def test_a_seed_fits_alike_alone_in_company_and_after_an_interruption() -> None:
    fits_alike(fitter)


@pytest.mark.parametrize("form", ["network", "bilinear", "either"])
def test_every_form_is_the_network(form: Any) -> None:
    plain = fitter((0,))
    model = replace(MODEL, form=form, recorded_coef=0.0 if form == "bilinear" else 1.0)
    other = fitter((0,), InverseFitConfig(2, 200, 300, model=model))
    for fitted in (plain, other):
        fitted.run_round()
    obs = np.linspace(-0.5, 0.5, 11)[:, None]
    first, second = (fitted.policy(0) for fitted in (plain, other))
    assert isinstance(first, DiscretePolicy) and isinstance(second, DiscretePolicy)
    np.testing.assert_array_equal(first.logits(obs), second.logits(obs))


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0])
def test_later_rounds_are_epsilon_greedy(epsilon: float) -> None:
    models = InverseModels((0,), [SCALE], Line, InverseFitConfig(exploration_noise=epsilon))
    steps = take_steps(
        Line(), 2_000, models.actions, lambda obs: np.array(1), epsilon, np.random.default_rng(0)
    )
    shares = steps.actions.mean(axis=0)
    expected = np.array([epsilon / 3, epsilon / 3, 1 - 2 * epsilon / 3])
    np.testing.assert_allclose(shares, expected, atol=0.04 if epsilon > 0 else 0)


def test_one_action_is_no_choice() -> None:
    class Still(Line):
        action_space = gym.spaces.Discrete(1)

    fitted = InverseFitter((0,), [to_origin_proposal()], [SCALE], Still, InverseFitConfig(1, 20, 5))
    fitted.run_round()
    assert fitted.policy(0)(np.array([0.3])) == 0


def test_a_recording_is_observation_only_and_alone(
    lane: str, minari_root: Path, tmp_path: Path
) -> None:
    spec = DatasetSpec(lane, transitions=500, shards=3)
    told: list[str] = []
    pair = build_dataset(spec, workers=1, notice=told.append)
    assert pair.ids == (pair.obs_id,) and pair.act_digest is None
    assert local_dataset_ids() == [pair.obs_id]
    again = build_dataset(spec, workers=1, notice=told.append)
    assert told == [f"{pair.obs_id} is there already: kept"]
    assert again == pair
    (member,) = build_family([spec], workers=1, notice=told.append)
    assert member.pair == again
    transitions = load_transitions(pair.obs_id).transitions
    assert transitions.actions is None
    np.testing.assert_array_equal(
        transitions.next_observations, collect(spec, workers=2).next_observations
    )
    moved = (transitions.next_observations - transitions.observations)[:, 0]
    shares = [np.mean(np.abs(moved - step) < 1e-5) for step in (-0.1, 0.0, 0.1)]
    np.testing.assert_allclose(shares, 1 / 3, atol=0.08)
    recording = qss.Recording.from_env(lane, steps=500, progress=False)
    assert not recording.has_actions
    with pytest.raises(qss.UserError, match="no twin with actions"):
        recording.with_actions()


@pytest.mark.usefixtures("in_process")
def test_a_log_with_discrete_actions_is_imported_without_them(
    minari_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env, rows = make_env("CartPole"), []
    obs, _ = env.reset(seed=0)
    for step in range(60):
        after, reward, terminated, _, _ = env.step(step % 2)
        rows.append((obs, step % 2, reward, terminated, after))
        obs = env.reset()[0] if terminated else after
    obs, actions, rewards, ends, after = (np.array(column) for column in zip(*rows, strict=True))
    ends[-1] = True
    stored = plan_arrays(
        observations=obs,
        next_observations=after,
        actions=actions[:, None].astype(np.float32),
        rewards=rewards,
        terminations=ends,
    ).store("my/log", about=About(env_id="CartPole"))
    assert stored.ids == ("my/log-obs-v0",)
    assert "CartPole-v1 are discrete, no vectors; left out" in capsys.readouterr().err


def test_runs_alike_in_workers_in_company_and_resumed_and_acts_alike_from_files(
    lane: str, minari_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = tmp_path / "whole"
    results = run(asked(lane), RunFolder(whole), launcher=LocalLauncher(1))
    assert [seed["online_steps"] for seed in results["seeds"]] == [120, 120]
    alone = tmp_path / "alone"
    run(asked(lane, (1,)), RunFolder(alone), launcher=LocalLauncher(1))
    assert learned(alone, 1) == learned(whole, 1)

    # Stopped after the first round, between the seeds' evaluations of the second.
    stopped, calls = tmp_path / "stopped", 0
    from qss_offline.training import rounds

    def stop_at_the_fourth(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return evaluate(*arguments, **named)

    evaluate = rounds.evaluate
    with monkeypatch.context() as patch:
        patch.setattr(rounds, "evaluate", stop_at_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            run(asked(lane), RunFolder(stopped), launcher=LocalLauncher(1))
    run(asked(lane), RunFolder(stopped), resume=True, launcher=LocalLauncher(1))
    for seed in (0, 1):
        assert learned(stopped, seed) == learned(whole, seed)

    path = whole / "seeds" / "1" / "policy.safetensors"
    policy = load_policy(path)
    assert isinstance(policy, DiscretePolicy) and (policy.first_action, policy.count) == (5, 3)
    env = make_env(lane)
    check_fits(policy, env)
    env.close()
    obs = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    assert set(policy(obs)) <= {5, 6, 7}
    seen = load_run(whole)
    assert 0 <= inverse_fit(inverse_model_of(seen, 1), seen.seed_folder(1)) <= 1
    assert export_policy(policy, tmp_path / "policy.pt").difference == 0
    acted = let_act(path, 3, 0, env=lane)
    assert len(acted["returns"]) == 3 and all(np.isfinite(acted["returns"]))


def test_steps_of_an_earlier_run_are_known_with_and_without_a_simulator(
    lane: str, minari_root: Path, tmp_path: Path
) -> None:
    earlier = tmp_path / "earlier"
    run(asked(lane), RunFolder(earlier), launcher=LocalLauncher(1))
    steps = known_steps(str(earlier), lane)
    assert steps is not None and steps.units == OneHotActions(3, 5) and len(steps) == 240
    later = run(
        asked(lane, (2,), actions_from=str(earlier)),
        RunFolder(tmp_path / "later"),
        launcher=LocalLauncher(1),
    )
    assert later["known_steps"] == 240
    without = asked(lane, (2,), actions_from=str(earlier))
    without = replace(without, env_id=None, preset=PRESET.spend(None, 0, None))
    run(without, RunFolder(tmp_path / "without"), launcher=LocalLauncher(1))
    policy = load_policy(tmp_path / "without" / "seeds" / "2" / "policy.safetensors")
    assert isinstance(policy, DiscretePolicy) and policy.first_action == 5
    with pytest.raises(UserError, match="is of another environment"):
        known_steps(str(earlier), "CartPole-v1")
    with pytest.raises(UserError, match=r"holds no discrete actions.*earlier run"):
        known_steps(recorded(lane), lane)


@pytest.mark.usefixtures("undrawn")
def test_from_python_to_a_report_and_on_to_online(minari_root: Path, tmp_path: Path) -> None:
    recording = qss.Recording.from_env("CartPole", steps=500, progress=False)
    small: dict[str, Any] = {"episodes": 2, "workers": 1, "progress": False}
    few = {"updates_per_round": 20}
    found = qss.train(
        recording, method="d3g", updates=20, online_steps=60, out=tmp_path / "run", seeds=2,
        changes={**few, "ensemble": 1}, **small,
    )  # fmt: skip
    assert found.env_id == "CartPole-v1" and len(found.returns()) == 6
    assert isinstance(found.diagnose(), list)
    assert found.render().numbers.exists()
    assert found.report().exists()
    fitted = qss.fit_inverse(found, online_steps=30, changes=few, out=tmp_path / "fit", **small)
    assert isinstance(fitted.policy(), DiscretePolicy)
    online = qss.train_online(
        "CartPole", start=found, steps=120, warm_up=60, evaluate_every=60, out=tmp_path / "online",
        changes={"model_updates": 5}, **small,
    )  # fmt: skip
    assert online.env_id == "CartPole-v1"


def test_what_needs_continuous_actions_is_refused_before_anything_is_made(
    minari_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    line = "method bco needs continuous actions; CartPole-v1 has discrete ones"
    monkeypatch.setattr(sys, "argv", ["random_obs", "--env", "CartPole", "--method", "bco"])
    with pytest.raises(SystemExit):
        main(random_obs)
    assert line in capsys.readouterr().err
    recording = recorded("CartPole-v1")
    with pytest.raises(UserError, match="method bco needs continuous actions"):
        qss.train(recording, method="bco", progress=False)
    (tmp_path / "cartpole.toml").write_text(
        'env_id = "CartPole-v1"\nrandom_action_probs = [1.0]\ntransitions = 400\n'
    )
    options = ComparisonOptions("table1", "d3g,bco", "100", str(tmp_path / "cartpole.toml"))
    with pytest.raises(UserError, match="bco needs continuous actions"):
        Study(options).run(LocalLauncher(1))
    assert local_dataset_ids() == [recording]
    mixed = DatasetSpec("CartPole", 0.5, 100, expert=expert_path("InvertedPendulum-v5"))
    with pytest.raises(UserError, match="an expert needs continuous actions; CartPole-v1 has"):
        build_dataset(mixed)
    pytest.importorskip("d3rlpy")
    with pytest.raises(UserError, match="an expert needs continuous actions; CartPole-v1 has"):
        train_expert("CartPole", steps=10)
    assert not (tmp_path / "runs").exists() and not (tmp_path / "experts").exists()


@pytest.mark.slow
def test_cartpole_is_learned_from_random_actions_that_nobody_recorded(
    minari_root: Path, tmp_path: Path
) -> None:
    """Half of the default's recording, and a third of its updates."""
    recording = qss.Recording.from_env("CartPole", steps=50_000, progress=False)
    found = qss.train(recording, updates=10_000, out=tmp_path / "run", progress=False)
    (seed,) = found.results["seeds"]
    assert seed["last"]["mean"] > 2 * found.results["behaviour_return"] > 40


def test_with_discrete_actions_there_is_no_race(minari_root: Path, tmp_path: Path) -> None:
    recording = qss.Recording.from_env("CartPole", steps=500, progress=False)
    with pytest.raises(UserError, match="method auto needs continuous actions"):
        qss.train(recording, method="auto", out=tmp_path / "run")
    few: dict[str, Any] = {"progress": False, "changes": {"updates_per_round": 20}}
    online = {"online_steps": 60, "online_rounds": 5, "episodes": 1}
    run = qss.train(recording, updates=40, out=tmp_path / "run", **few, **online)
    assert run.method == "d3g" and "race" not in run.results["seeds"][0]
    assert run.policy(0)(np.zeros(4)).shape == ()


@pytest.mark.usefixtures("in_process")
def test_where_actions_turn_out_to_be_discrete_d3g_goes_on_alone(
    minari_root: Path, tmp_path: Path
) -> None:
    """A log without a simulator doesn't say of what its actions are."""
    rows = qss.Recording.from_env("CartPole", steps=500, progress=False).transitions
    log = qss.Recording.from_arrays(
        rows.observations, rows.rewards, rows.terminations, truncations=rows.truncations,
        next_observations=rows.next_observations, episodes=rows.episodes, progress=False,
    )  # fmt: skip
    offline = qss.train(log, updates=40, offline_only=True, out=tmp_path / "run", progress=False)
    assert offline.method == "auto"
    run = qss.fit_inverse(
        offline, env="CartPole", online_steps=60, changes={"updates_per_round": 20}, episodes=1,
        progress=False,
    )  # fmt: skip
    assert run.method == "d3g" and run.policy(0)(np.zeros(4)).shape == ()
