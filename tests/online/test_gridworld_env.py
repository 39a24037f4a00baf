"""The gridworld of Figure 6 as Gymnasium sees it."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from qss_offline.data.environments import make_env
from qss_offline.online.gridworld import ENV_ID, neighbour_distance, neighbours

UP, DOWN, LEFT, RIGHT = range(4)
ORIGIN = np.zeros(2, np.float32)


def test_gymnasium_finds_nothing_wrong() -> None:
    check_env(gym.make(ENV_ID).unwrapped, skip_render_check=True)


def test_every_process_knows_it() -> None:
    program = "from qss_offline.data.environments import make_env; make_env('Gridworld')"
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_shortest_path_costs_one_a_step_and_terminates() -> None:
    env = make_env("Gridworld")
    obs, _ = env.reset(seed=0)
    np.testing.assert_array_equal(obs, [0, 0])
    rewards = []
    for action in [DOWN] * 10 + [RIGHT] * 10:
        obs, reward, terminated, truncated, _ = env.step(action)
        rewards.append(reward)
    assert (rewards, terminated, truncated) == ([-1.0] * 20, True, False)
    np.testing.assert_array_equal(obs, [10, 10])


def test_walls_hold_and_the_limit_truncates() -> None:
    env = gym.make(ENV_ID)
    env.reset(seed=0)
    for step in range(500):
        obs, _, terminated, truncated, _ = env.step(UP if step % 2 else LEFT)
        np.testing.assert_array_equal(obs, [0, 0])
    assert (terminated, truncated) == (False, True)


def test_neighbours_and_distances() -> None:
    found = {tuple(state) for state in neighbours(np.array([3, 4], np.float32), 11)}
    assert found == {(2, 4), (4, 4), (3, 3), (3, 5)}
    assert {tuple(s) for s in neighbours(ORIGIN, 11)} == {(0, 0), (1, 0), (0, 1)}
    assert neighbour_distance(np.array([1.0, 0.25]), ORIGIN, 11) == pytest.approx(0.25)
    assert neighbour_distance(np.array([5.0, 7.0]), ORIGIN, 11) == pytest.approx(11.0)
