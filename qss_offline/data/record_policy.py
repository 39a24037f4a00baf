"""A policy acts in an environment, and what happens becomes a dataset."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation

from qss_offline.data.checked_environment import CheckedEnv, close_env
from qss_offline.data.column_files import column_types
from qss_offline.data.environments import (
    env_id_of_spec,
    make_any,
    resolve_env_id,
    without_folder,
)
from qss_offline.data.importing.store import NOTHING_KNOWN, About, flattening, store
from qss_offline.data.local import check_base_id
from qss_offline.data.spaces import is_vector, vector_size
from qss_offline.data.transitions import Transitions
from qss_offline.data.write import StoredDatasets
from qss_offline.errors import UserError
from qss_offline.parallel.reporting import ProgressFactory, no_progress

Policy: TypeAlias = Callable[[Any], Any]
_STEPS_PER_REPORT = 1_000


def collect_with_policy(
    env: str | gymnasium.Env[Any, Any],
    policy: Policy,
    dataset_id: str,
    *,
    transitions: int,
    seed: int = 0,
    observation_only: bool = False,
    about: About = NOTHING_KNOWN,
    overwrite: bool = False,
    progress: ProgressFactory = no_progress,
) -> StoredDatasets:
    """Let a policy act in a Gymnasium environment and store what happens.

    Args:
        env: an id, or an environment; it is left open. Observations of `Dict`, `Tuple` or
            another kind reach the policy as they are and are recorded flattened.
        policy: maps an observation to an action; randomness and seeds are its own affair.
        dataset_id: `namespace/.../name`.
        transitions: steps to record; the last episode is cut there, as a truncation.
        seed: of the environment's first reset.
        observation_only: leave the actions out.
        about: what else is known; `algorithm_name` should say who the policy is.
        overwrite: replace datasets that exist.
        progress: makes a reporter of transitions.

    Raises:
        UserError: the environment is unknown, its observations can't be flattened, an action
            doesn't fit its space, a value isn't finite, or the datasets can't be written.
    """
    check_base_id(dataset_id)
    if isinstance(transitions, bool) or not isinstance(transitions, int) or transitions < 1:
        raise UserError(f"transitions: expected a whole number of at least 1, got {transitions!r}")
    with ExitStack() as opened:
        if isinstance(env, str):
            env_id = resolve_env_id(env)
            env = make_any(env_id)
            opened.callback(close_env, env, repr(env_id))
        keep_actions = not observation_only and is_vector(env.action_space)
        recorded = _record(env, policy, transitions, seed, keep_actions, progress)
    extra = flattening(env.observation_space)
    if env.spec is not None:
        extra["env_id"] = without_folder(env_id_of_spec(env.spec))
        try:
            extra["env_spec"] = env.spec.to_json()
        except (TypeError, ValueError):
            extra["env_spec_missing"] = "the environment's arguments can't be written as JSON"
    flat = spaces.flatten_space(env.observation_space)
    assert isinstance(flat, spaces.Box)
    action_space = env.action_space if isinstance(env.action_space, spaces.Box) else None
    name = getattr(policy, "__qualname__", type(policy).__qualname__)
    if about.algorithm_name is None:
        about = About(**{**vars(about), "algorithm_name": f"the policy {name}"})
    return store(
        recorded,
        dataset_id,
        about,
        {"kind": "a policy at work", "policy": name, "seed": seed},
        observation_space=flat,
        action_space=action_space,
        extra=extra,
        overwrite=overwrite,
        progress=progress,
    )


def _record(
    env: gymnasium.Env[Any, Any],
    policy: Policy,
    steps: int,
    seed: int,
    keep_actions: bool,
    progress: ProgressFactory,
) -> Transitions:
    space = env.observation_space
    obs_dim = vector_size(space)
    name = repr(type(env.unwrapped).__name__ if env.spec is None else env.spec.id)
    env = CheckedEnv(env if is_vector(space) else FlattenObservation(env), name)
    act_dim = vector_size(env.action_space) if keep_actions else None
    arrays = {name: kind.empty(steps) for name, kind in column_types(obs_dim, act_dim).items()}
    episode = 0
    observation, _ = env.reset(seed=seed)
    with progress("collecting", steps, "transitions") as report:
        for row in range(steps):
            action = policy(spaces.unflatten(space, observation))
            if keep_actions and np.shape(action) != env.action_space.shape:
                raise UserError(
                    f"policy: it returned an action of shape {np.shape(action)}, expected "
                    f"{env.action_space.shape}"
                )
            arrays["observations"][row] = observation
            if keep_actions:
                # The environment gets the very numbers that are stored.
                arrays["actions"][row] = action
                action = arrays["actions"][row]
            observation, reward, terminated, truncated, _ = env.step(action)
            arrays["next_observations"][row] = observation
            arrays["rewards"][row] = reward
            arrays["terminations"][row], arrays["truncations"][row] = terminated, truncated
            arrays["episodes"][row] = episode
            if terminated or truncated:
                episode += 1
                observation, _ = env.reset()
            if row % _STEPS_PER_REPORT == 0:
                report(row)
        report(steps)
    if not arrays["terminations"][-1]:
        arrays["truncations"][-1] = True
    return Transitions(**arrays)
