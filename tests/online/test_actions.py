"""Action vectors, exploration, and that a resumed run explores alike."""

import gymnasium as gym
import numpy as np
import pytest

from qss_offline.errors import UserError
from qss_offline.evaluation.actions import OneHotActions
from qss_offline.online.exploration import BoxActions, Explorer, actions_of

BOX = gym.spaces.Box(np.array([-3.0, 0.0], np.float32), np.array([3.0, 10.0], np.float32))
FIVE = gym.spaces.Discrete(5, start=2)


def test_noise_is_in_units_of_half_the_box_and_stays_inside() -> None:
    actions = actions_of(BOX, 0.1, 0.5)
    act = actions.explore(np.random.default_rng(0), 5000)
    noisy = np.stack([act(step, np.array([0.0, 0.99], np.float32)) for step in range(5000)])
    assert noisy[:, 0].std() == pytest.approx(0.1, rel=0.05)
    assert noisy.max() == 1.0
    np.testing.assert_allclose(actions.to_env(np.array([-1.0, 1.0], np.float32)), [-3.0, 10.0])
    np.testing.assert_allclose(actions.to_env(np.array([0.5, 0.0], np.float32)), [1.5, 5.0])


def test_random_actions_fill_the_box() -> None:
    drawn = BoxActions(BOX, 0.1).random(np.random.default_rng(0), 5000)
    assert drawn.dtype == np.float32
    np.testing.assert_allclose([drawn.min(), drawn.max(), drawn.mean()], [-1, 1, 0], atol=0.02)


def test_epsilon_greedy_takes_the_best_action_or_any() -> None:
    actions = OneHotActions.of(FIVE, 0.2)
    act = actions.explore(np.random.default_rng(0), 10_000)
    greedy = np.array([0.1, 0.1, 0.5, 0.2, 0.1], np.float32)
    vectors = np.stack([act(step, greedy) for step in range(10_000)])
    assert (vectors.sum(axis=1) == 1).all()
    np.testing.assert_allclose(vectors.mean(axis=0), [0.04, 0.04, 0.84, 0.04, 0.04], atol=0.01)
    assert actions.to_env(vectors[0]) in FIVE
    assert actions.to_env(np.eye(5, dtype=np.float32)[3]) == 5


def test_an_explorer_draws_the_same_from_any_step_on() -> None:
    greedy = np.zeros(2, np.float32)
    steps = [0, 1, 999, 1000, 2500]
    straight = Explorer(7, BoxActions(BOX, 0.1))
    whole = {step: straight.choose(step, greedy if step > 500 else None) for step in range(2501)}
    resumed = Explorer(7, BoxActions(BOX, 0.1))
    for step in reversed(steps):
        np.testing.assert_array_equal(
            resumed.choose(step, greedy if step > 500 else None), whole[step]
        )
    assert not np.array_equal(Explorer(8, BoxActions(BOX, 0.1)).choose(0, None), whole[0]), (
        "another seed explores otherwise"
    )


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (gym.spaces.Box(-np.inf, np.inf, (2,), np.float32), "bounds"),
        (gym.spaces.MultiBinary(3), "Box or Discrete"),
    ],
)
def test_other_actions_are_refused(space: gym.Space[object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        actions_of(space, 0.1, 0.1)
