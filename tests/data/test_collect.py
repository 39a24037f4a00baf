from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from qss_offline.data import DatasetSpec, MLPExpert, Transitions, collect, load_expert, save_expert
from qss_offline.data.collect import collect_all, complete_episodes
from qss_offline.data.environments import make_env
from qss_offline.data.policies import Behaviour, Plan
from qss_offline.errors import UserError
from tests.patience import PATIENCE_S

from .conftest import same


def make_expert(obs_dim: int = 4, act_dim: int = 1, hidden: int = 16) -> MLPExpert:
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32)

    return MLPExpert(
        env_id="InvertedPendulum-v5",
        weights=(weight(hidden, obs_dim), weight(hidden, hidden), weight(act_dim, hidden)),
        biases=(weight(hidden), weight(hidden), weight(act_dim)),
        action_low=np.full(act_dim, -3, np.float32),
        action_high=np.full(act_dim, 3, np.float32),
    )


@pytest.fixture
def expert_path(tmp_path: Path) -> Path:
    path = tmp_path / "expert.safetensors"
    save_expert(path, make_expert(), command="by hand", seed=0, returns=[10.0])
    return path


@pytest.mark.parametrize("probability", [1.0, 0.3])
def test_byte_identical_whatever_the_pieces(
    probability: float, expert_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = DatasetSpec(
        "InvertedPendulum",
        random_action_prob=probability,
        transitions=500,
        shards=2,
        expert=expert_path,
    )
    whole = collect(spec, workers=1)
    for steps in (7, 250):
        monkeypatch.setattr("qss_offline.data.policies.PLAN_STEPS", steps)
        assert same(whole, collect(spec, workers=1))


def test_several_at_once_are_what_each_is_alone(expert_path: Path) -> None:
    specs = [
        DatasetSpec("InvertedPendulum", transitions=301, shards=3),
        DatasetSpec("Reacher", transitions=130, shards=2, seed=4),
        DatasetSpec("InvertedPendulum", 0.5, transitions=90, shards=4, expert=expert_path),
    ]
    alone = [collect(spec, workers=1) for spec in specs]
    together = collect_all(specs, workers=3)
    assert all(same(a, b) for a, b in zip(alone, together, strict=True))


def test_the_columns_lie_in_the_given_folder_without_a_name(tmp_path: Path) -> None:
    recorded = collect(DatasetSpec("Reacher", transitions=60), 1, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert len(recorded) == 60


def test_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"would take 102\.0 TB of disk"):
        collect(DatasetSpec("Reacher", transitions=10**12), 1)


def test_seeds_and_shards_are_independent() -> None:
    first = collect(DatasetSpec("InvertedPendulum", transitions=300, shards=3))
    other = collect(DatasetSpec("InvertedPendulum", transitions=300, shards=3, seed=1))
    assert first.actions is not None and other.actions is not None
    assert not np.array_equal(first.actions, other.actions)
    assert len(np.unique(first.actions)) == 300
    assert len(np.unique(first.observations[[0, 100, 200]], axis=0)) == 3


def replay(transitions: Transitions, spec: DatasetSpec) -> None:
    """Step through the environment again with the recorded actions."""
    assert transitions.actions is not None
    env = make_env(spec.env_id)
    row = 0
    for index, size in enumerate(spec.shard_sizes):
        root = np.random.SeedSequence(spec.seed).spawn(len(spec.shard_sizes))[index]
        observation, _ = env.reset(seed=int(root.spawn(2)[0].generate_state(1)[0]))
        for step in range(size):
            np.testing.assert_array_equal(
                transitions.observations[row], observation.astype(np.float32)
            )
            observation, reward, terminated, truncated, _ = env.step(transitions.actions[row])
            np.testing.assert_array_equal(
                transitions.next_observations[row], observation.astype(np.float32)
            )
            assert transitions.rewards[row] == np.float32(reward)
            assert transitions.terminations[row] == terminated
            cut = step == size - 1 and not terminated
            assert transitions.truncations[row] == (truncated or cut)
            if terminated or truncated:
                observation, _ = env.reset()
            row += 1


def test_rows_are_what_happened(small_spec: DatasetSpec, recording: Transitions) -> None:
    replay(recording, small_spec)


def test_rows_are_what_happened_with_a_time_limit() -> None:
    spec = DatasetSpec("Reacher", transitions=230, shards=2)
    transitions = collect(spec)
    replay(transitions, spec)
    assert transitions.episode_lengths().tolist() == [50, 50, 15, 50, 50, 15]
    assert complete_episodes(transitions, spec).tolist() == [True, True, False] * 2
    assert not transitions.terminations.any()


def test_a_whole_last_episode_counts_as_complete() -> None:
    spec = DatasetSpec("Reacher", transitions=100, shards=1)
    assert complete_episodes(collect(spec), spec).all()


def drawn(behaviour: Behaviour, steps: int) -> Plan:
    """All pieces of a plan, one behind the other."""
    pieces = list(behaviour.plans(np.random.SeedSequence(0), steps))
    return Plan(
        np.concatenate([piece.actions for piece in pieces]),
        np.concatenate([piece.random for piece in pieces]),
    )


def test_mixture_asks_the_expert_with_the_right_frequency() -> None:
    space = spaces.Box(-1, 1, (2,))
    behaviour = Behaviour(space, lambda observation: np.array([9.0, -9.0]), 0.25)
    plan = drawn(behaviour, 20_000)
    assert abs(plan.random.mean() - 0.25) < 0.02
    assert behaviour.act(np.zeros(3)).tolist() == [1.0, -1.0]
    # The choice and the action must not be tied to each other.
    assert abs(np.corrcoef(plan.random, plan.actions[:, 0])[0, 1]) < 0.03
    for probability, asked in ((0.0, 0.0), (1.0, 1.0)):
        extreme = Behaviour(space, make_expert(), probability)
        assert drawn(extreme, 1000).random.mean() == asked


def test_expert_alone_acts(expert_path: Path) -> None:
    spec = DatasetSpec(
        "InvertedPendulum", random_action_prob=0.0, transitions=50, shards=1, expert=expert_path
    )
    transitions = collect(spec)
    assert transitions.actions is not None
    expert = load_expert(expert_path)
    for row in range(0, 50, 7):
        np.testing.assert_allclose(
            transitions.actions[row], expert(transitions.observations[row]), rtol=1e-4, atol=1e-4
        )


def test_random_actions_fill_the_box() -> None:
    space = spaces.Box(np.array([-3, 0], np.float32), np.array([-1, 10], np.float32))
    plan = drawn(Behaviour(space), 5_000)
    assert plan.actions.dtype == np.float32
    assert (plan.actions >= space.low).all() and (plan.actions <= space.high).all()
    np.testing.assert_allclose(plan.actions.mean(axis=0), [-2, 5], atol=0.2)
    with pytest.raises(UserError, match="finite bounds"):
        Behaviour(spaces.Box(-np.inf, np.inf, (1,)))


def test_expert_is_what_the_format_says(expert_path: Path) -> None:
    made, loaded = make_expert(), load_expert(expert_path)
    observation = np.array([0.1, -0.2, 0.3, 1.0])
    hidden = observation
    for weight, bias in zip(made.weights[:-1], made.biases[:-1], strict=True):
        hidden = np.maximum(weight @ hidden + bias, 0)
    expected = 3 * np.tanh(made.weights[-1] @ hidden + made.biases[-1])
    np.testing.assert_allclose(loaded(observation), expected, rtol=1e-4)
    assert loaded(observation).dtype == np.float32
    assert json.loads(expert_path.with_suffix(".json").read_text())["command"] == "by hand"


def test_bad_experts(expert_path: Path, tmp_path: Path) -> None:
    def collected(path: Path, env_id: str = "InvertedPendulum") -> str:
        with pytest.raises(UserError) as caught:
            collect(DatasetSpec(env_id, random_action_prob=0.5, transitions=9, expert=path))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "does not exist" in collected(tmp_path / "none.safetensors")
    assert "needs 10 to 2" in collected(expert_path, "Reacher")
    metadata = expert_path.with_suffix(".json")
    good = metadata.read_text()
    metadata.write_text("{")
    assert "damaged" in collected(expert_path)
    metadata.write_text("{}")
    assert "needs env_id" in collected(expert_path)
    metadata.write_text(good.replace('"obs_dim": 4', '"obs_dim": 5'))
    assert "its metadata says 5" in collected(expert_path)
    metadata.write_text(good)
    expert_path.write_bytes(expert_path.read_bytes()[:-5])
    assert "damaged" in collected(expert_path)
    with pytest.raises(UserError, match="takes 3 numbers"):
        MLPExpert(
            "x",
            (np.ones((2, 4), np.float32), np.ones((1, 3), np.float32)),
            (np.ones(2, np.float32), np.ones(1, np.float32)),
            -np.ones(1, np.float32),
            np.ones(1, np.float32),
        )


def test_bad_workers(small_spec: DatasetSpec) -> None:
    with pytest.raises(UserError, match="workers: 0"):
        collect(small_spec, workers=0)


UNGUARDED = """
import gymnasium
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv
from qss_offline.data import DatasetSpec
from qss_offline.data import collect

print("imported", flush=True)
gymnasium.register("mine/Pole-v0", "gymnasium.envs.mujoco.inverted_pendulum_v5:InvertedPendulumEnv")


class Here(InvertedPendulumEnv):
    pass


gymnasium.register("mine/Here-v0", Here)
one = collect(DatasetSpec("mine/Pole", transitions=100), 1)
for name in ("Pole", "Here"):
    two = collect(DatasetSpec(f"mine/{name}", transitions=100), 2)
    assert (one.observations == two.observations).all() and (one.actions == two.actions).all()
"""


def test_a_script_needs_no_guard_and_may_register_its_own(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(UNGUARDED)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "imported\n"


def children(process: int) -> list[int]:
    return [
        int(word)
        for task in Path(f"/proc/{process}/task").iterdir()
        for word in (task / "children").read_text().split()
    ]


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


SCRIPT = """
from qss_offline.data import DatasetSpec
from qss_offline.data import collect
if __name__ == "__main__":
    report = lambda completed, note="": print(completed, flush=True)
    collect(DatasetSpec("InvertedPendulum", transitions=10**7, shards=8), 2, report)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_their_parent(tmp_path: Path, how: signal.Signals) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A job that a script starts in the background is born deaf to Ctrl-C; so would this be.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) > 0:
            break
    workers = children(process.pid)
    assert len(workers) >= 2
    os.kill(process.pid, how)
    assert process.wait(PATIENCE_S) != 0
    wait_until(lambda: not any(alive(worker) for worker in workers))
    if how == signal.SIGINT:
        assert process.stderr is not None
        assert process.stderr.read().rstrip().endswith("KeyboardInterrupt")
