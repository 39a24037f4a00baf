"""Gymnasium environments by id or short name, checked for what this package can learn from."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec, registry

from qss_offline.errors import UserError, nearest, printable, shown

Env: TypeAlias = "gymnasium.Env[Any, Any]"

# Ids that the user gave with a module, by what they are without it. Other processes that are to
# make the environment import the module again.
_named: dict[str, str] = {}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Gymnasium's remarks on versions and precision; they aren't the user's doing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


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


def env_name_of(env_id: str) -> str:
    """Return an id without its version and the module that registers it: what it is, in any."""
    name = _without_module(env_id)
    return name.rpartition("-v")[0] or name


def _key(spec: EnvSpec) -> str:
    """Return an id without its version, in lower case."""
    return (f"{spec.namespace}/{spec.name}" if spec.namespace else spec.name).lower()


def resolve_env_id(name: str) -> str:
    """Return the Gymnasium id for an id or a short name.

    `"InvertedPendulum"`, in any case, is the newest registered version; `"Reacher-v4"` is that
    version; `"module:Env-v0"` lets Gymnasium import `module` first.

    Raises:
        UserError: nothing of that name is registered.
    """
    if not isinstance(name, str) or not name.strip():
        raise UserError(f"environment: expected a Gymnasium id, got {name!r}")
    name = name.strip()
    if ":" in name:
        _spec(name)  # imports the module
        _named[_without_module(name)] = name
        return name
    if name in registry:
        return name
    specs = list(registry.values())
    wanted = name.lower()
    for spec in specs:
        if spec.id.lower() == wanted:
            return spec.id
    versions = [spec for spec in specs if _key(spec) == wanted]
    if versions:
        return max(versions, key=lambda spec: -1 if spec.version is None else spec.version).id
    base = wanted.rpartition("-v")[0]
    others = sorted(spec.id for spec in specs if base and _key(spec) == base)
    if others:
        raise UserError(f"environment {name!r} has no such version; there are {', '.join(others)}")
    names = {spec.id.rpartition("-v")[0] or spec.id for spec in specs} | {s.id for s in specs}
    raise UserError(
        f"environment {name!r} is not registered with Gymnasium{nearest(name, sorted(names))}"
    )


def register_environments(names: Iterable[str]) -> None:
    """Import the modules of environments that the user names, so that files may name these, too.

    Raises:
        UserError: one can't be imported, or doesn't register the environment.
    """
    for name in names:
        resolve_env_id(name)


def env_id_of_file(named: object, source: object) -> str:
    """Return the id of an environment that an untrusted file names.

    It is looked up in what is registered, and no module is imported for it: what stands before a
    colon is left out, unless the user named that module too (`resolve_env_id`).

    Args:
        named: what the file says.
        source: the file, for the message.

    Raises:
        UserError: it isn't registered here, or is no text.
    """
    if not isinstance(named, str):
        raise UserError(f"{source}: expected a Gymnasium id, got {shown(named)}")
    bare = _without_module(named)
    if bare in _named:
        return _named[bare]
    if bare in registry:
        return bare
    try:
        if bare == named:
            return resolve_env_id(bare)
        reason = f"environment {shown(bare)} is not registered with Gymnasium"
    except UserError as error:
        reason = str(error)
    raise UserError(
        f"{source}: {reason}; a module is imported only where you name it, if you trust it: "
        f"--env {printable(named) if bare != named else f'MODULE:{printable(bare)}'}"
    )


def _without_module(env_id: str) -> str:
    return env_id.rpartition(":")[2]


def _spec(env_id: str) -> EnvSpec:
    module, _, name = env_id.rpartition(":")
    with _quiet():
        try:
            if module:
                # `gymnasium.make` does it, `gymnasium.spec` doesn't.
                importlib.import_module(module)
            return gymnasium.spec(name)
        except Exception as error:
            # A module that is imported may raise anything, and so may a name that is none.
            raise UserError(f"environment {env_id!r}: {_one_line(error)}") from error


def env_spec(env_id: str) -> EnvSpec:
    """Return Gymnasium's specification of a resolved id.

    Raises:
        UserError: it isn't registered.
    """
    return _spec(env_id)


def importable(spec: EnvSpec) -> bool:
    """Return whether a fresh process could make the environment from its specification."""
    entry_point = spec.entry_point
    return isinstance(entry_point, str) and not entry_point.startswith("__main__")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _describe(space: spaces.Space[Any]) -> str:
    if isinstance(space, spaces.Box):
        if space.dtype == np.uint8 and len(space.shape) >= 2:
            return f"images of shape {space.shape}"
        return f"a Box of shape {space.shape} and dtype {space.dtype}"
    return f"a {type(space).__name__} space"


def _check_vector(space: spaces.Space[Any], env_id: str, what: str) -> None:
    vector = (
        isinstance(space, spaces.Box)
        and len(space.shape) == 1
        and space.shape[0] > 0
        and np.issubdtype(space.dtype, np.floating)
    )
    if not vector:
        raise UserError(
            f"environment {env_id!r}: {what} are {_describe(space)}, but a one-dimensional "
            "Box of real numbers is needed"
        )


def make_env(name: str, render_mode: str | None = None, discrete_actions: bool = False) -> Env:
    """Make an environment with vectors of real numbers for observations and actions.

    Args:
        name: anything that `resolve_env_id` takes.
        render_mode: passed on to Gymnasium.
        discrete_actions: let discrete actions pass too.

    Raises:
        UserError: it is unknown, can't be made here, or its observations or actions are
            discrete, images, Dict or Tuple.
    """
    env_id = resolve_env_id(name)
    with _quiet():
        try:
            # Gymnasium's checker costs a third of the speed and prints; the checks below, on
            # what this package needs, stay.
            with quiet_mujoco(env_id):
                env: Env = gymnasium.make(env_id, render_mode=render_mode, disable_env_checker=True)
        except UserError:
            raise
        except Exception as error:
            # An environment's constructor may raise anything, a missing package first of all.
            raise UserError(f"environment {env_id!r} can't be made: {_one_line(error)}") from error
    try:
        _check_vector(env.observation_space, env_id, "its observations")
        if not (discrete_actions and isinstance(env.action_space, spaces.Discrete)):
            _check_vector(env.action_space, env_id, "its actions")
    except UserError:
        env.close()
        raise
    return env


def env_id_of(env: Any, kwargs: Any = None) -> str:
    """Return the id."""
    return resolve_env_id(env)
