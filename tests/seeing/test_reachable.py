"""What the simulator reaches from an observation is what the environment does there."""

from __future__ import annotations

import numpy as np
import pytest

from qss_offline.data.environments import make_env
from qss_offline.errors import UserError
from qss_offline.reachable import Simulator


@pytest.mark.parametrize("env_id", ["InvertedPendulum-v5", "Reacher-v5", "Hopper-v5"])
def test_next_observations_are_the_environments_own(env_id: str) -> None:
    simulator = Simulator(env_id, 3)
    env = make_env(env_id)
    rng = np.random.default_rng(0)
    obs, _ = env.reset(seed=3)
    for _ in range(4):
        choice = int(rng.integers(len(simulator.actions)))
        reached = simulator.next_observations(obs[None])
        assert reached.shape == (1, len(simulator.actions), len(obs))
        obs, *_ = env.step(simulator.actions[choice])
        # The constraint solver starts from another guess.
        np.testing.assert_allclose(reached[0, choice], obs, atol=2e-4)
    env.close()
    simulator.close()


def test_the_policy_takes_the_action_that_leads_to_the_proposal() -> None:
    simulator = Simulator("InvertedPendulum-v5", 5)
    obs = np.random.default_rng(0).uniform(-0.05, 0.05, (5, 4))
    reached = simulator.next_observations(obs)
    wanted = np.array([4, 0, 2, 1, 3])

    def propose(_: object) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return reached[np.arange(5), wanted]

    actions = simulator.policy(propose, reached.std((0, 1)))(obs)
    np.testing.assert_allclose(actions, simulator.actions[wanted], atol=1e-3)


@pytest.mark.parametrize("env_id", ["Reacher-v5", "Hopper-v5", "HalfCheetah-v5"])
def test_actions_are_found_again_from_where_they_led(env_id: str) -> None:
    """A few steps into an episode, actions anywhere in the box, six of them at once as well."""
    simulator, env = Simulator(env_id), make_env(env_id)
    rng = np.random.default_rng(2)
    obs, _ = env.reset(seed=1)
    starts, wanted = [], []
    for _ in range(8):
        starts.append(obs)
        action = rng.uniform(env.action_space.low, env.action_space.high).astype(np.float32)
        wanted.append(action)
        obs, *_ = env.step(action)
    states, actions = np.array(starts, np.float32), np.array(wanted)
    reached = simulator.next_observations(states, actions[:, None])[:, 0]
    unit = (reached - states).std(0) + 1e-6
    found, distances = simulator.nearest(states, reached, unit)
    # Contacts have corners, where a fit may stop: not at most steps.
    assert np.median(np.abs(found - actions).max(1)) < 1e-2
    assert np.median(distances) < 1e-2
    still = np.sqrt(np.square((states - reached) / unit).mean(1))
    assert np.all(distances < still)


def test_an_environment_without_a_simulator_is_refused() -> None:
    with pytest.raises(UserError, match="no MuJoCo environment"):
        Simulator("Pendulum-v1", 3)
    assert len(Simulator("Reacher-v5").actions) == 49
    assert Simulator("HalfCheetah-v5").actions.shape == (32, 6)


def test_distances_are_nothing_within_reach_and_grow_beyond() -> None:
    simulator = Simulator("Reacher-v5", 5)
    obs = make_env("Reacher-v5").reset(seed=1)[0][None].astype(np.float32)
    within = simulator.next_observations(obs, np.array([[[0.13, -0.71]]], np.float32))[:, 0]
    unit = simulator.next_observations(obs)[0].std(0) + 1e-6
    # The goal can't be moved by any action: farther off by 3 and 4 in two of ten dimensions.
    beyond = within.copy()
    beyond[0, 4:6] += unit[4:6] * (3, 4)
    _, near = simulator.nearest(obs, within, unit)
    _, far = simulator.nearest(obs, beyond, unit)
    assert near[0] < 0.01
    assert far[0] == pytest.approx(np.sqrt((3**2 + 4**2) / 10), rel=0.01)
