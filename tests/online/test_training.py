"""Acting and learning together: seeds apart, episodes in the middle, replays that drop rows."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from qss_offline.algorithms.d3g import D3GConfig, D3GParameters
from qss_offline.algorithms.networks import Network, mlp
from qss_offline.engine.checkpoint import load_checkpoint
from qss_offline.errors import UserError
from qss_offline.evaluation.episodes import evaluate
from qss_offline.evaluation.policy_files import load_policy
from qss_offline.online.config import EvaluationPlan, OnlineConfig
from qss_offline.online.env_loop import OnlineTask, SeedLoop
from qss_offline.online.files import policy_path, replay_files
from qss_offline.online.trainer import OnlineTrainer
from qss_offline.parallel.reporting import no_tick
from qss_offline.runs.folder import SeedFolder

SMALL = D3GConfig(hidden_dims=(8, 8), batch_size=32, clamp_targets=True, step_inputs=True)
CONFIG = OnlineConfig(SMALL, steps=130, warm_up=40, normalize_observations=True, model_updates=5)
PLAN = EvaluationPlan(50, 1)
PENDULUM = "InvertedPendulum-v5"
GRIDWORLD = "ShortGridworld-v0"
gym.register(
    GRIDWORLD,
    entry_point="qss_offline.online.gridworld:GridworldEnv",
    max_episode_steps=30,
)
FILES = ("training.safetensors", "policy.safetensors", "metrics.jsonl")


class Counter(gym.Env[Any, Any]):
    """Observes how many steps it has taken; ends after 7, by a limit in every other episode."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Box(-2.0, 4.0, (1,), np.float32)

    def __init__(self, render_mode: str | None = None) -> None:
        pass

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.count = 0
        self.limited = bool(self.np_random.integers(2))
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.count += 1
        ended = self.count == 7
        obs = np.full(1, self.count, np.float32)
        return obs, float(action[0]), ended and not self.limited, ended and self.limited, {}


@pytest.fixture
def counter() -> Any:
    gym.register("Counter-v0", entry_point=Counter)
    yield "Counter-v0"
    del gym.registry["Counter-v0"]


def train(
    folder: Path,
    seeds: Sequence[int],
    env_id: str = PENDULUM,
    config: OnlineConfig = CONFIG,
    plan: EvaluationPlan = PLAN,
) -> OnlineTrainer:
    tasks = [OnlineTask(seed, SeedFolder(folder / str(seed))) for seed in seeds]
    trainer = OnlineTrainer(tasks, env_id, config, plan, mode="eager")
    trainer.run(no_tick)
    return trainer


def content(folder: Path, seed: int) -> dict[str, bytes]:
    found = {name: (folder / str(seed) / name).read_bytes() for name in FILES}
    replay = replay_files(SeedFolder(folder / str(seed)))
    assert replay
    return found | {path.name: path.read_bytes() for path in replay}


@pytest.mark.parametrize(
    ("env_id", "cycle"), [(PENDULUM, True), (PENDULUM, False), (GRIDWORLD, True)]
)
def test_a_seed_alone_equals_the_same_seed_in_a_stack(
    tmp_path: Path, env_id: str, cycle: bool
) -> None:
    config = replace(CONFIG, algorithm=replace(SMALL, cycle=cycle))
    train(tmp_path / "together", [3, 0, 5], env_id, config)
    for seed in (0, 5):
        train(tmp_path / "alone", [seed], env_id, config)
        assert content(tmp_path / "together", seed) == content(tmp_path / "alone", seed)
    assert content(tmp_path / "alone", 0) != content(tmp_path / "alone", 5)


@pytest.mark.parametrize("env_id", ["HalfCheetah-v5?max_episode_steps=40", "Hopper-v5"])
def test_environments_of_uneven_sizes_act_the_same_alone_and_in_a_stack(
    tmp_path: Path, env_id: str
) -> None:
    """6 actions, or 11 numbers, of one row don't fill 16 bytes."""
    small = replace(SMALL, hidden_dims=(128, 128), batch_size=32)
    config = replace(CONFIG, algorithm=small, steps=70, warm_up=20)
    train(tmp_path / "together", [3, 1, 0], env_id, config)
    train(tmp_path / "alone", [0], env_id, config)
    assert content(tmp_path / "together", 0) == content(tmp_path / "alone", 0)


class Interrupted(Exception):
    """Stands for a kill."""


def interrupt(
    folder: Path, seeds: Sequence[int], step: int, env_id: str, plan: EvaluationPlan = PLAN
) -> None:
    tasks = [OnlineTask(seed, SeedFolder(folder / str(seed))) for seed in seeds]

    def tick(steps: float, phase: str = "", note: str = "") -> None:
        if steps >= step * len(seeds):
            raise Interrupted

    with pytest.raises(Interrupted):
        OnlineTrainer(tasks, env_id, CONFIG, plan, mode="eager").run(tick)


@pytest.mark.parametrize("env_id", [PENDULUM, GRIDWORLD])
def test_interrupted_in_the_middle_of_an_episode_equals_uninterrupted(
    tmp_path: Path, env_id: str
) -> None:
    train(tmp_path / "whole", [0, 1], env_id)
    for step in (30, 77, 112):  # before the first checkpoint, and after each of two
        interrupt(tmp_path / "killed", [0, 1], step, env_id)
    train(tmp_path / "killed", [0, 1], env_id)
    for seed in (0, 1):
        metadata = load_checkpoint(tmp_path / "killed" / str(seed) / FILES[0]).metadata
        assert metadata["step"] == CONFIG.steps
        assert content(tmp_path / "killed", seed) == content(tmp_path / "whole", seed)


def test_seeds_that_stand_further_back_catch_up(tmp_path: Path) -> None:
    train(tmp_path / "whole", [0, 1, 2])
    interrupt(tmp_path / "apart", [0], 112, PENDULUM)
    interrupt(tmp_path / "apart", [1], 60, PENDULUM)
    ticks: list[float] = []
    tasks = [OnlineTask(seed, SeedFolder(tmp_path / "apart" / str(seed))) for seed in (0, 1, 2)]
    OnlineTrainer(tasks, PENDULUM, CONFIG, PLAN, mode="eager").run(
        lambda steps, *_: ticks.append(steps)
    )
    assert ticks[-1] == 3 * CONFIG.steps
    assert ticks == sorted(ticks)
    for seed in (0, 1, 2):
        assert content(tmp_path / "apart", seed) == content(tmp_path / "whole", seed)


def test_what_is_stored_is_what_happened(tmp_path: Path, counter: str) -> None:
    train(tmp_path, [4], counter)
    rows = np.concatenate(
        [
            load_checkpoint(p).tensors["rows"].numpy()
            for p in replay_files(SeedFolder(tmp_path / "4"))
        ]
    )
    obs, action, next_obs, reward, terminated, truncated = rows.T
    assert len(rows) == CONFIG.steps
    np.testing.assert_array_equal(obs, np.arange(CONFIG.steps) % 7)
    np.testing.assert_array_equal(next_obs, obs + 1)
    np.testing.assert_allclose(reward, 1 + 3 * action, atol=1e-5)
    ends = next_obs == 7
    np.testing.assert_array_equal(terminated + truncated, ends)
    assert terminated[ends].min() == 0 and terminated[ends].max() == 1
    assert np.abs(action).max() <= 1


def logged(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "0" / FILES[2]).read_text().splitlines()]


@pytest.mark.parametrize(
    ("interval", "steps"),
    [
        (57, [57, 60, 114, 120, 130]),
        (60, [60, 120, 130]),
        (90, [60, 90, 120, 130]),
    ],
)
def test_metrics_are_logged_now_and_then_and_at_evaluations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interval: int, steps: list[int]
) -> None:
    monkeypatch.setattr("qss_offline.online.trainer._LOG_INTERVAL", 60)
    plan = EvaluationPlan(interval, 1)
    train(tmp_path / "whole", [0], plan=plan)
    assert [row["step"] for row in logged(tmp_path / "whole")] == steps
    interrupt(tmp_path / "killed", [0], 122, PENDULUM, plan)
    train(tmp_path / "killed", [0], plan=plan)
    assert content(tmp_path / "killed", 0) == content(tmp_path / "whole", 0)


def test_the_warm_up_is_random_and_learning_starts_after_it(tmp_path: Path) -> None:
    train(tmp_path, [0])
    rows = logged(tmp_path)
    # 5 updates of the dynamics models at step 40, then one update a step.
    assert [(row["step"], row["update"]) for row in rows] == [(50, 15), (100, 65), (130, 95)]
    assert all("critic_loss" in row and "forward_loss" in row for row in rows)
    other = replace(CONFIG, algorithm=replace(SMALL, gamma=0.5, learning_rate=1e-2))
    train(tmp_path / "other", [0], config=other)
    ours, theirs = (
        load_checkpoint(replay_files(SeedFolder(folder / "0"))[0]).tensors["rows"]
        for folder in (tmp_path, tmp_path / "other")
    )
    assert torch.equal(ours[:40], theirs[:40]), "how it learns can't matter before it does"
    assert not torch.equal(ours[:50], theirs[:50])


def test_a_replay_that_is_full_drops_the_oldest_and_resumes_alike(tmp_path: Path) -> None:
    config = replace(CONFIG, replay_capacity=60)
    train(tmp_path / "whole", [0], config=config)
    train(tmp_path / "half", [0], config=replace(config, steps=100))
    train(tmp_path / "half", [0], config=config)
    for name in ("training.safetensors", "policy.safetensors"):
        ours, theirs = (tmp_path / kind / "0" / name for kind in ("half", "whole"))
        assert ours.read_bytes() == theirs.read_bytes()
    train(tmp_path / "large", [0])
    assert content(tmp_path / "large", 0) != content(tmp_path / "whole", 0)


def test_an_environment_that_does_not_come_back_is_reported(
    tmp_path: Path, counter: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    train(tmp_path, [0], counter, replace(CONFIG, steps=50))
    monkeypatch.setattr(Counter, "reset", _reset_elsewhere)
    train(tmp_path, [0], counter, replace(CONFIG, steps=60))
    assert "did not come back" in capsys.readouterr().err


def _reset_elsewhere(self: Counter, *, seed: int | None = None, options: Any = None) -> Any:
    gym.Env.reset(self, seed=seed)
    self.count, self.limited = -3, False
    return np.full(1, -3, np.float32), {}


def test_policies_of_evaluations_are_kept_if_asked_to(tmp_path: Path) -> None:
    folder = SeedFolder(tmp_path / "0")
    plan = EvaluationPlan(50, 1, keep_policies=True)
    task = OnlineTask(0, folder)
    OnlineTrainer([task], GRIDWORLD, CONFIG, plan, mode="eager").run(no_tick)
    evaluations = load_checkpoint(folder.training).metadata["evaluations"]
    assert [step for step, *_ in evaluations] == [0, 50, 100, 130]
    assert all(len(returns) == 1 for _, returns, *_ in evaluations)
    for step, *_ in evaluations:
        policy = load_policy(policy_path(folder, step))
        assert policy.env_id == GRIDWORLD
        assert policy(np.zeros((3, 2), np.float32)).shape == (3,)
    assert policy_path(folder, 130).read_bytes() == folder.policy.read_bytes()


def test_a_replay_with_a_gap_is_refused(tmp_path: Path) -> None:
    train(tmp_path, [0], config=replace(CONFIG, steps=100))
    replay_files(SeedFolder(tmp_path / "0"))[-1].unlink()
    with pytest.raises(UserError, match="50 of 100 steps"):
        train(tmp_path, [0])


def test_episodes_start_from_seeds_of_their_own(tmp_path: Path) -> None:
    loop = SeedLoop(OnlineTask(3, SeedFolder(tmp_path)), PENDULUM, CONFIG)
    first = loop.obs.copy()
    starts = [first]
    for _ in range(40):
        before = len(loop.ended_returns)
        loop.step(None)
        if len(loop.ended_returns) > before:
            starts.append(loop.obs.copy())
    loop.close()
    assert len({start.tobytes() for start in starts}) == len(starts) > 3


@pytest.mark.parametrize(
    ("setting", "value"),
    [("steps", 0), ("warm_up", 0), ("replay_capacity", 10), ("epsilon", 1.5)],
)
def test_settings_that_cannot_be_run_with_are_refused(setting: str, value: Any) -> None:
    with pytest.raises(UserError, match=setting):
        replace(CONFIG, **{setting: value})


def test_values_are_of_the_first_steps_that_the_policy_takes(tmp_path: Path) -> None:
    """The mean of the twins of Q(s, C(s, s + τ(s))), by networks of one seed alone."""
    config = replace(CONFIG, steps=80, warm_up=40)
    task = OnlineTask(3, SeedFolder(tmp_path / "3"))
    trainer = OnlineTrainer([task], PENDULUM, config, EvaluationPlan(80, 2), mode="eager")
    state = trainer.run(no_tick)
    saved = load_checkpoint(task.folder.training)
    *_, (_, _, value, worth) = saved.metadata["evaluations"]
    assert worth > 0
    seed = int(np.random.SeedSequence([3, *b"evaluation", 80]).generate_state(1)[0])
    policy = load_policy(task.folder.policy)
    acted = evaluate(policy, PENDULUM, 2, seed, gamma=config.algorithm.gamma)
    assert np.mean(acted.discounted) == pytest.approx(worth)
    obs = policy.scale.apply(torch.from_numpy(acted.starts.astype(np.float32))).unsqueeze(0)
    networks = D3GParameters(**state.networks)
    proposed = obs + mlp(networks.proposal_average, obs)
    second = proposed
    if config.algorithm.step_inputs:
        second = (proposed - obs) / policy.scale.step_std
    action = mlp(networks.inverse_dynamics, torch.cat((obs, second), -1)).tanh()
    assert networks.forward_model is not None
    reached = obs + mlp(networks.forward_model, torch.cat((obs, action), -1))
    critic = Network(networks.critic.shape, networks.critic.flat)
    values = [mlp(one, torch.cat((obs, reached), -1)) for one in critic.members]
    assert torch.stack(values).mean().item() == pytest.approx(value, rel=1e-4)
