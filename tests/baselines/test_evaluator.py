"""Policies and algorithms in each other's clothes."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from qss_offline.algorithms.networks import MLPShape, Network
from qss_offline.baselines.bridge import to_replay_buffer
from qss_offline.baselines.evaluator import PolicyAlgo, batch_policy
from qss_offline.data import Transitions
from qss_offline.errors import UserError
from qss_offline.evaluation.actions import ActionBox
from qss_offline.evaluation.episodes import evaluate
from qss_offline.evaluation.policies import ObservationScale, Policy

d3rlpy = pytest.importorskip("d3rlpy")

GAINS = np.array([0.3, 10.0, 0.6, 2.0])


def controller(obs: NDArray[Any]) -> NDArray[Any]:
    """Hold the pole: `(n, 4)` to `(n, 1)`."""
    return np.clip(obs @ GAINS, -3, 3)[:, None].astype(np.float32)


def our_policy() -> Policy:
    """A policy of two random networks."""
    generator = torch.Generator().manual_seed(0)
    shapes = MLPShape((4, 8, 4)), MLPShape((8, 8, 1))
    networks = [
        Network(shape, torch.randn((1, sum(shape.sizes)), generator=generator)) for shape in shapes
    ]
    scale = ObservationScale(torch.zeros(4), torch.ones(4), None)
    box = ActionBox(np.array([-3.0], np.float32), np.array([3.0], np.float32))
    return Policy(networks[0], networks[1], scale, False, box)


class SameStart(gym.Wrapper[Any, Any, Any, Any]):
    """Starts every episode alike."""

    def reset(self, **_: Any) -> Any:
        return self.env.reset(seed=5)


def test_d3rlpys_environment_evaluator_runs_our_policies(recording: Transitions) -> None:
    env = SameStart(gym.make("InvertedPendulum-v5"))
    evaluator = d3rlpy.metrics.EnvironmentEvaluator(env, n_trials=2)
    buffer = to_replay_buffer(recording)
    assert evaluator(PolicyAlgo(controller, 1), buffer) == 1000
    policy = our_policy()
    ours = evaluate(
        policy, "InvertedPendulum-v5", 1, make=lambda name: SameStart(gym.make(name))
    ).mean
    assert evaluator(PolicyAlgo(policy, 1), buffer) == ours < 1000
    difference = d3rlpy.metrics.ContinuousActionDiffEvaluator()
    assert recording.actions is not None
    stored = np.concatenate([episode.observations for episode in buffer.episodes])
    assert len(stored) == len(recording)
    assert difference(PolicyAlgo(controller, 1), buffer) > 0.1


def test_the_rest_of_d3rlpys_protocol() -> None:
    algo = PolicyAlgo(controller, 1)
    obs = np.array([[0.0, 0.1, 0, 0], [0, -1, 0, 0]])
    np.testing.assert_allclose(algo.predict(obs), [[1.0], [-3.0]])
    np.testing.assert_array_equal(algo.sample_action(obs), algo.predict(obs))
    assert algo.action_size == 1
    assert algo.observation_scaler is algo.action_scaler is algo.reward_scaler is None
    with pytest.raises(UserError, match="shape"):
        algo.predict(obs[0])
    with pytest.raises(UserError, match="no value"):
        algo.predict_value(obs, np.zeros((2, 1)))


def test_a_d3rlpy_algorithm_is_a_policy_of_ours() -> None:
    algo = d3rlpy.algos.BCConfig(
        action_scaler=d3rlpy.preprocessing.MinMaxActionScaler(minimum=[-3.0], maximum=[3.0])
    ).create(device="cpu:0")
    algo.create_impl((4,), 1)
    policy = batch_policy(algo)
    obs = np.random.default_rng(0).normal(size=(6, 4))
    np.testing.assert_array_equal(policy(obs), algo.predict(obs.astype(np.float32)))
    result = evaluate(policy, "InvertedPendulum-v5", 3)
    assert len(result.returns) == 3 and result.mean < 1000
