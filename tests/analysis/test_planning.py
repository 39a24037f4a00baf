"""Imagined trajectories and their distances, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qss_offline.algorithms.networks import MLPShape, Network
from qss_offline.algorithms.observational_d3g import ObservationalD3G, cycle
from qss_offline.algorithms.qss import transition_value
from qss_offline.analysis.models import observation_std, planner_of, policy_of
from qss_offline.analysis.planning import Planner, distances, plan_distances
from qss_offline.analysis.rollouts import Rollouts, roll_out
from qss_offline.engine.checkpoint import load_checkpoint
from qss_offline.evaluation.policies import ObservationScale
from qss_offline.runs.reader import FinishedRun


def linear(weight: torch.Tensor, bias: torch.Tensor, members: int | None = None) -> Network:
    """x → x W + b without a hidden layer; W `(in, out)` or `(members, in, out)`."""
    shape = MLPShape((weight.shape[-2], weight.shape[-1]), members)
    flat = torch.zeros(members or 1, sum(shape.sizes))
    weights, biases = shape.views(flat)
    weights[0].copy_(weight if members else weight.unsqueeze(0))
    biases[0].copy_(bias.reshape(biases[0].shape))
    return Network(shape, flat if members is None else flat.unsqueeze(0))


@pytest.fixture
def planner() -> Planner:
    """τ(s) = 1; Q_1(s, s') = s', Q_2 = −5; f(s, q) = q / 2; x enters as (x − 3) / 2."""
    critic = linear(torch.tensor([[[0.0], [1.0]], [[0.0], [0.0]]]), torch.tensor([0.0, -5.0]), 2)
    return Planner(
        linear(torch.zeros(1, 1), torch.ones(1)),
        critic,
        linear(torch.tensor([[0.0], [0.5]]), torch.zeros(1)),
        ObservationScale(torch.tensor([3.0]), torch.tensor([2.0])),
    )


def test_a_plan_by_hand(planner: Planner) -> None:
    first = np.array([[3.0], [7.0]])  # 0 and 2 in trained units
    np.testing.assert_allclose(planner.propose(first), [[5.0], [9.0]])
    # C(s) = s + f(s, Q_1(s, s + 1)) = s + (s + 1) / 2: 0 → 0.5 → 1.25, and 2 → 3.5 → 5.75
    np.testing.assert_allclose(
        planner.imagine(first, 2)[:, :, 0], [[3.0, 4.0, 5.5], [7.0, 10.0, 14.5]]
    )
    # min(Q_1, Q_2) = min(s', −5)
    np.testing.assert_allclose(planner.value(first, [[3.0], [-17.0]]), [-5.0, -10.0])


def test_settled_observations_are_what_the_next_step_starts_from(planner: Planner) -> None:
    plan = planner.imagine(np.array([[3.0]]), 3, lambda imagined, first: first + 2)
    np.testing.assert_allclose(plan[0, :, 0], [3.0, 5.0, 5.0, 5.0])


def test_distances_by_hand() -> None:
    left = np.array([[[0.0, 0.0], [3.0, 8.0]]])
    right = np.zeros((1, 2, 2))
    np.testing.assert_allclose(
        distances(left, right, np.array([1.0, 2.0])), [[0.0, np.sqrt((9 + 16) / 2)]]
    )


def test_returns_to_go_by_hand() -> None:
    rollouts = Rollouts(
        np.zeros((1, 4, 1), np.float32),
        np.array([[1.0, 2.0, 4.0]]),
        np.array([3]),
        np.array([False]),
    )
    np.testing.assert_allclose(rollouts.returns_to_go(0.5), [[3.0, 4.0, 4.0]])


def test_rollouts_go_past_the_time_limit_and_stay_where_an_episode_ended() -> None:
    rollouts = roll_out(lambda obs: np.zeros((len(obs), 2)), "Reacher-v5", 2, 60, seed=0)
    assert rollouts.lengths.tolist() == [60, 60]
    assert (rollouts.rewards < 0).all()
    fallen = roll_out(lambda obs: np.full((len(obs), 1), 3.0), "InvertedPendulum-v5", 2, 60, 0)
    assert (fallen.lengths < 20).all()
    for row, length in enumerate(fallen.lengths):
        assert (fallen.observations[row, length:] == fallen.observations[row, length]).all()
        assert (fallen.observations[row, length] != fallen.observations[row, length - 1]).any()
        assert (fallen.rewards[row, length:] == 0).all()
    again = roll_out(lambda obs: np.zeros((len(obs), 2)), "Reacher-v5", 2, 60, seed=0)
    np.testing.assert_array_equal(rollouts.observations, again.observations)


def test_plans_of_a_run_are_measured_against_its_policy(trained: FinishedRun) -> None:
    pairs = [(planner_of(trained, seed), policy_of(trained, seed)) for seed in trained.seeds]
    found = plan_distances(pairs, trained.env_id, observation_std(trained), steps=4, episodes=5)
    assert found.mean[0] == found.low[0] == found.high[0] == 0
    assert all(low < mean < high for low, mean, high in zip(
        found.low[1:], found.mean[1:], found.high[1:], strict=True
    ))  # fmt: skip
    assert found.still[0] == 0 < found.still[4]
    assert (found.seeds, found.episodes) == (2, 5)
    # The planner proposes what the policy aims at.
    obs = np.asarray(trained.dataset.transitions.observations[:7])
    planner = planner_of(trained, 1)
    np.testing.assert_allclose(planner.propose(obs), policy_of(trained, 1).propose(obs), atol=1e-6)
    # Values and the cycle are those of the networks that were trained.
    scale = policy_of(trained, 1).scale
    tensors = load_checkpoint(trained.seed_folder(1).training).tensors
    shapes = ObservationalD3G(trained.config.preset.algorithm, 4).shapes
    critic, forward = (
        Network(shapes[name], tensors[f"network.{name}"].unsqueeze(0))
        for name in ("critic", "q_forward_model")
    )
    states = scale.batch(obs)
    proposed = scale.batch(planner.propose(obs))
    values = transition_value(critic, states, proposed).amin(1)[0]
    found = planner.value(obs, planner.propose(obs))
    np.testing.assert_allclose(found, values.numpy(), rtol=1e-3, atol=1e-3)
    cycled = cycle(critic.members[0], forward, states, proposed)
    np.testing.assert_allclose(
        planner.cycle(obs), scale.invert(cycled)[0].numpy(), rtol=1e-3, atol=1e-3
    )
