"""Steps with the actions that made them: taken online, by an earlier run, or recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from qss_offline.acting import ActionBox
from qss_offline.data.environments import make_env
from qss_offline.data.load import load_transitions
from qss_offline.engine.checkpoint import load_checkpoint
from qss_offline.errors import UserError
from qss_offline.runs import RunFolder, SeedFolder


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


def known_steps(source: str | None, env_id: str) -> ActionSteps | None:
    """Read steps whose actions are known, if there are any, for an environment by name.

    Args:
        source: folder of an earlier run, or Minari id of a recording with actions; None has none.
        env_id: the body.

    Raises:
        UserError: as `steps_of_run` and `recorded_steps`.
    """
    if source is None:
        return None
    env = make_env(env_id)
    try:
        is_run = RunFolder(Path(source)).started
        return steps_of_run(Path(source), env) if is_run else recorded_steps(source, env)
    finally:
        env.close()


def steps_of_run(path: Path, env: gym.Env[Any, Any]) -> ActionSteps:
    """Read the online steps that all seeds of an earlier run took, in the order of the seeds.

    Args:
        path: folder of a run of offline D3G, or of BCO; what it learned from doesn't matter.
        env: the body.

    Raises:
        UserError: a seed isn't done, there is none, or they are of another body.
    """
    seeds = sorted((path / "seeds").glob("[0-9]*"), key=lambda folder: int(folder.name))
    if not seeds or not all(SeedFolder(seed).result.exists() for seed in seeds):
        raise UserError(f"{path} isn't done: its online steps can be used when every seed is")
    taken = []
    for seed in seeds:
        file = SeedFolder(seed).online
        tensors = load_checkpoint(file).tensors
        try:
            taken.append(ActionSteps(*(tensors[f"steps.{n}"].numpy() for n in ActionSteps.columns)))
        except KeyError as error:
            raise UserError(f"{file} holds no online steps: {error} is missing") from error
    steps = reduce(ActionSteps.extend, taken)
    _check_body(f"run {path}", steps.obs.shape[1:], steps.actions.shape[1:], env)
    return steps


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
    of_actions = transitions.actions.shape[1:]
    _check_body(f"dataset {dataset_id!r}", (transitions.obs_dim,), of_actions, env)
    box = ActionBox.of(env.action_space)
    return ActionSteps(
        np.array(transitions.observations, np.float32),
        np.array(transitions.next_observations, np.float32),
        np.clip(box.to_unit(np.array(transitions.actions, np.float32)), -1, 1),
    )


def _check_body(
    source: str, of_obs: tuple[int, ...], of_actions: tuple[int, ...], env: gym.Env[Any, Any]
) -> None:
    observed, acted = env.observation_space.shape, env.action_space.shape
    if (of_obs, of_actions) != (observed, acted):
        raise UserError(
            f"{source} is of another body: observations {of_obs} and actions "
            f"{of_actions}, where the environment has {observed} and {acted}"
        )
