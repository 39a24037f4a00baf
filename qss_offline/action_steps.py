"""Steps together with the actions that made them: taken online, or recorded by somebody else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from qss_offline.acting import ActionBox
from qss_offline.data.environments import make_env
from qss_offline.data.load import load_transitions
from qss_offline.errors import UserError


@dataclass(frozen=True)
class ActionSteps:
    """Transitions with actions, oldest first.

    Attributes:
        obs: `(N, obs_dim)` float32, in the environment's units.
        next_obs: `(N, obs_dim)` float32.
        actions: `(N, action_dim)` float32, in units of the action box.
    """

    obs: NDArray[np.float32]
    next_obs: NDArray[np.float32]
    actions: NDArray[np.float32]

    columns: ClassVar[tuple[str, ...]] = ("obs", "next_obs", "actions")

    def __len__(self) -> int:
        return len(self.obs)

    def extend(self, later: ActionSteps) -> ActionSteps:
        """Append later steps."""
        return ActionSteps(
            np.concatenate((self.obs, later.obs)),
            np.concatenate((self.next_obs, later.next_obs)),
            np.concatenate((self.actions, later.actions)),
        )


def take_steps(
    env: gym.Env[Any, Any],
    steps: int,
    action_box: ActionBox,
    policy: Callable[[NDArray[Any]], NDArray[np.float32]] | None,
    noise: float,
    rng: np.random.Generator,
) -> ActionSteps:
    """Take exactly `steps` environment steps.

    Args:
        env: reset here, with a seed from `rng`.
        steps: how many.
        action_box: bounds of the actions.
        policy: maps `(obs_dim,)` to `(action_dim,)`; None acts uniformly at random.
        noise: standard deviation of the noise on the policy's actions, in units of the box.
        rng: source of everything random here.
    """
    shape = (steps, len(action_box.low))
    drawn = rng.uniform(-1, 1, shape) if policy is None else rng.normal(0, noise, shape)
    obs, _ = env.reset(seed=int(rng.integers(2**31)))
    before = np.empty((steps, len(obs)), np.float32)
    after = np.empty((steps, len(obs)), np.float32)
    actions = np.empty(shape, np.float32)
    for step in range(steps):
        unit = drawn[step]
        if policy is not None:
            unit = np.clip(action_box.to_unit(policy(obs)) + unit, -1, 1)
        before[step], actions[step] = obs, unit
        obs, _, terminated, truncated, _ = env.step(action_box.from_unit(unit))
        after[step] = obs
        if terminated or truncated:
            obs, _ = env.reset()
    return ActionSteps(before, after, actions)


def recorded_steps_of(dataset_id: str | None, env_id: str) -> ActionSteps | None:
    """Read the steps of a recording with actions, if there is one, for an environment by name.

    Raises:
        UserError: as `recorded_steps`.
    """
    if dataset_id is None:
        return None
    env = make_env(env_id)
    try:
        return recorded_steps(dataset_id, env)
    finally:
        env.close()


def recorded_steps(dataset_id: str, env: gym.Env[Any, Any]) -> ActionSteps:
    """Read the steps of a recording that does have actions.

    Args:
        dataset_id: Minari id, such as the twin `…-act-v0` of another recording of the same body.
        env: the body.

    Raises:
        UserError: the recording can't be read, has no actions, or is of another body.
    """
    dataset = load_transitions(dataset_id)
    transitions = dataset.transitions
    if transitions.actions is None:
        raise UserError(
            f"dataset {dataset_id!r} holds no actions, from which I could learn; its twin is "
            f"{dataset_id.replace('-obs-', '-act-')!r}"
            if "-obs-" in dataset_id
            else f"dataset {dataset_id!r} holds no actions, from which I could learn"
        )
    observed, acted = env.observation_space.shape, env.action_space.shape
    shapes = (transitions.obs_dim,), transitions.actions.shape[1:]
    if shapes != (observed, acted):
        raise UserError(
            f"dataset {dataset_id!r} is of another body: observations {shapes[0]} and actions "
            f"{shapes[1]}, where the environment has {observed} and {acted}"
        )
    box = ActionBox.of(env.action_space)
    return ActionSteps(
        np.array(transitions.observations, np.float32),
        np.array(transitions.next_observations, np.float32),
        np.clip(box.to_unit(np.array(transitions.actions, np.float32)), -1, 1),
    )
