"""What observations say of a simulator's state, against the simulator."""

import gymnasium as gym
import numpy as np
import pytest

from qss_offline.analysis.poses import _MAPS, NoPoseError, pose_map
from qss_offline.data.environments import make_env


@pytest.mark.parametrize("name", list(_MAPS))
def test_poses_are_the_simulators(name: str) -> None:
    env = make_env(name)
    found = pose_map(name, env)
    obs, _ = env.reset(seed=3)
    inner = env.unwrapped
    env.action_space.seed(4)
    observations, qpos, qvel = [obs], [inner.data.qpos.copy()], [inner.data.qvel.copy()]
    for _ in range(5):
        obs, *_ = env.step(0.3 * env.action_space.sample())
        observations.append(obs)
        qpos.append(inner.data.qpos.copy())
        qvel.append(inner.data.qvel.copy())
    poses = found.poses(np.array(observations))
    hidden = found.hidden
    true = np.array(qpos)
    turns = (poses.qpos - true)[:, hidden:] / (2 * np.pi)
    if name in ("Reacher", "InvertedDoublePendulum"):
        turns -= np.round(turns)
    np.testing.assert_allclose(turns, 0, atol=1e-6)
    np.testing.assert_allclose(poses.qvel, np.clip(qvel, -10, 10), atol=1e-6)
    # The hidden position is summed up from velocities at the steps' ends.
    travelled = np.linalg.norm(np.diff(true[:, :hidden], axis=0))
    moved = poses.qpos[:, :hidden] - (true[:, :hidden] - true[:1, :hidden])
    assert np.abs(moved).max(initial=0) <= 0.5 * travelled + 0.01


def test_a_settled_reacher_is_what_the_simulator_would_show() -> None:
    env = make_env("Reacher")
    found = pose_map("Reacher", env)
    assert found.settle is not None
    first, _ = env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(5):
        angles = rng.uniform(-2.9, 2.9, 2)
        imagined = np.concatenate(
            (np.cos(angles), np.sin(angles), rng.normal(size=2), rng.normal(size=4))
        )
        settled = found.settle(imagined[None], first[None])[0]
        np.testing.assert_array_equal(settled[[0, 1, 2, 3, 6, 7]], imagined[[0, 1, 2, 3, 6, 7]])
        np.testing.assert_array_equal(settled[4:6], first[4:6])
        poses = found.poses(settled[None])
        env.unwrapped.set_state(poses.qpos[0], poses.qvel[0])
        np.testing.assert_allclose(settled, env.unwrapped._get_obs(), atol=1e-9)


def test_other_environments_say_why_not() -> None:
    with pytest.raises(NoPoseError, match="no MuJoCo environment"):
        pose_map("Pendulum-v1", make_env("Pendulum"))
    with pytest.raises(NoPoseError, match=r"no map .* is known"):
        pose_map("Humanoid-v5", make_env("Humanoid"))
    env = gym.make("Hopper-v5", exclude_current_positions_from_observation=False)
    with pytest.raises(NoPoseError, match="other observations"):
        pose_map("Hopper-v5", env)
