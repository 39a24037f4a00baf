"""Gymnasium environments, checked for what this package can learn from.

How they are named is in `environment_names`, where they come from in `environment_sources`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import FlattenObservation

from qss_offline.data.checked_environment import CheckedEnv, close_env
from qss_offline.data.environment_modules import EnvFactory as EnvFactory
from qss_offline.data.environment_modules import quiet
from qss_offline.data.environment_names import env_name_of as env_name_of
from qss_offline.data.environment_names import plain_name as plain_name
from qss_offline.data.environment_names import without_folder as without_folder
from qss_offline.data.environment_names import without_source as without_source
from qss_offline.data.environment_sources import NotNamedError as NotNamedError
from qss_offline.data.environment_sources import env_id_for as env_id_for
from qss_offline.data.environment_sources import env_id_of as env_id_of
from qss_offline.data.environment_sources import env_id_of_file as env_id_of_file
from qss_offline.data.environment_sources import env_id_of_spec as env_id_of_spec
from qss_offline.data.environment_sources import env_spec as env_spec
from qss_offline.data.environment_sources import importable as importable
from qss_offline.data.environment_sources import known_in_workers as known_in_workers
from qss_offline.data.environment_sources import named_env as named_env
from qss_offline.data.environment_sources import register_as_elsewhere as register_as_elsewhere
from qss_offline.data.environment_sources import register_environments as register_environments
from qss_offline.data.environment_sources import registrations as registrations
from qss_offline.data.environment_sources import resolve_env_id as resolve_env_id
from qss_offline.data.environment_sources import same_environment as same_environment
from qss_offline.data.environment_sources import workers_for as workers_for
from qss_offline.data.spaces import check_bounds, is_vector, vector_size
from qss_offline.errors import UserError, one_line

Env: TypeAlias = "gymnasium.Env[Any, Any]"


@contextmanager
def quiet_mujoco(env_id: str) -> Iterator[None]:
    """Silence what MuJoCo says of Gymnasium's own models while it reads them.

    It prints every remark and appends it to MUJOCO_LOG.TXT wherever the user stands. Warnings of
    a simulation, later, are left alone, and so is what it says of models of others.

    Args:
        env_id: what is made meanwhile.

    Raises:
        UserError: it isn't registered.
    """
    if not str(env_spec(env_id).entry_point).startswith("gymnasium.envs.mujoco"):
        yield
        return
    import mujoco

    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda remark: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


def _describe(space: spaces.Space[Any]) -> str:
    if isinstance(space, spaces.Box):
        if space.dtype == np.uint8 and len(space.shape) >= 2:
            return f"images of shape {space.shape}"
        return f"a Box of shape {space.shape} and dtype {space.dtype}"
    return f"a {type(space).__name__} space"


def _check_actions(space: spaces.Space[Any], env_id: str) -> None:
    if isinstance(space, spaces.Discrete):
        return
    if not (is_vector(space) and np.issubdtype(space.dtype, np.floating)):
        raise UserError(
            f"environment {env_id!r}: its actions are {_describe(space)}, but a one-dimensional "
            "Box of real numbers or a Discrete space is needed"
        )


def _flattened(env: Env, env_id: str) -> Env:
    """Return an environment whose observations are vectors, as importing makes them."""
    space = env.observation_space
    try:
        vector_size(space)
    except UserError as error:
        raise UserError(
            f"environment {env_id!r}: its observations are {_describe(space)}: {error}"
        ) from error
    return env if is_vector(space) else FlattenObservation(env)


def make_any(env_id: str, render_mode: str | None = None, time_limit: bool = True) -> Env:
    """Make an environment, whatever its observations and actions are.

    Args:
        env_id: resolved.
        render_mode: passed on to Gymnasium.
        time_limit: cut episodes where the environment is registered to.

    Raises:
        UserError: it can't be made here.
    """
    # Environments of one's own needn't take the argument.
    more: dict[str, Any] = {} if render_mode is None else {"render_mode": render_mode}
    if not time_limit:
        more["max_episode_steps"] = -1
    # Gymnasium's checker costs a third of the speed and prints; `CheckedEnv` checks what this
    # package needs.
    with quiet():
        try:
            with quiet_mujoco(env_id):
                return gymnasium.make(env_spec(env_id), disable_env_checker=True, **more)
        except UserError:
            raise
        except Exception as error:
            # An environment's constructor may raise anything, a missing package first of all.
            raise UserError(f"environment {env_id!r} can't be made: {one_line(error)}") from error


def make_env(name: str, render_mode: str | None = None, time_limit: bool = True) -> Env:
    """Make an environment whose observations are vectors of real numbers.

    Observations of `Dict`, `Tuple` or another kind are flattened. Actions are vectors, too, or
    discrete. What it answers is checked, see `CheckedEnv`.

    Args:
        name: anything that `resolve_env_id` takes.
        render_mode: passed on to Gymnasium.
        time_limit: cut episodes where the environment is registered to.

    Raises:
        UserError: it is unknown, can't be made here, its observations can't be flattened into
            numbers, or its actions are neither vectors nor discrete.
    """
    env_id = resolve_env_id(name)
    env = make_any(env_id, render_mode, time_limit)
    try:
        _check_actions(env.action_space, env_id)
        return CheckedEnv(_flattened(env, env_id), repr(env_id))
    except UserError:
        close_env(env, repr(env_id))
        raise


def check_acting(name: str, in_a_box: str | None = None) -> None:
    """Refuse an environment that no policy can act in, before anything is trained for it.

    Args:
        name: anything that `resolve_env_id` takes.
        in_a_box: what takes continuous actions alone, as a message names it; None takes both.

    Raises:
        UserError: as `make_env`; or its actions have no bounds, or aren't continuous.
    """
    env = make_env(name)
    env.close()
    if isinstance(env.action_space, spaces.Box):
        check_bounds(env.action_space)
    elif in_a_box is not None:
        raise UserError(discrete_refused(in_a_box, resolve_env_id(name)))


def has_discrete_actions(env_id: str) -> bool:
    """Return whether an environment's actions are discrete.

    Raises:
        UserError: as `make_env`.
    """
    env = make_env(env_id)
    env.close()
    return isinstance(env.action_space, spaces.Discrete)


def discrete_refused(needing: str, env_id: str) -> str:
    """Return that something needs continuous actions, which an environment's aren't."""
    return f"{needing} needs continuous actions; {env_id} has discrete ones"
