"""Where environments come from: Gymnasium's registry, modules, files, and callables.

Whatever is named ends up in Gymnasium's registry. Modules are imported, and files loaded, only for
what the user names in this process, never for what a file names.
"""

from __future__ import annotations

import copy
import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import gymnasium
from gymnasium.envs.registration import EnvSpec, registry

from qss_offline.data.environment_modules import (
    EnvFactory,
    importable_source,
    load_file,
    load_module,
    replaces,
)
from qss_offline.data.environment_names import (
    EnvironmentName,
    checked_name,
    env_name_of,
    parse_name,
    without_source,
)
from qss_offline.errors import UserError, nearest, printable, shown
from qss_offline.parallel.reporting import Notice, print_notice

P = ParamSpec("P")
R = TypeVar("R")

CALLABLE = "callable/"
"""What ids of callables begin with that only this process can make."""

# Ids that the user gave with a source, and texts in arguments that the user gave, in this process.
_sources: dict[str, str] = {}
_texts: set[tuple[str, str, str]] = set()
# Ids that were registered here for a class or function of a source.
_classes: set[str] = set()


class NotNamedError(UserError):
    """A file names an environment that is taken only where the user names it, too.

    Args:
        why: what isn't taken.
        env_id: what the user would name.

    Attributes:
        why: as given.
        env_id: as given, fit to be shown.
    """

    def __init__(self, why: str, env_id: EnvironmentName) -> None:
        self.why, self.env_id = why, printable(env_id)
        super().__init__(f"{why}: --env {shlex.quote(self.env_id)}")


# --- what the user names ----------------------------------------------------------------------


def resolve_env_id(name: str) -> str:
    """Return the whole string of an environment that the user names.

    - `"InvertedPendulum"`, in any case, is the newest registered version; `"Reacher-v4"` is that
      version.
    - `"module:Env-v0"` imports `module` first. Where nothing of that name is registered then,
      `"module:Class"` is a class, or a function that returns an environment.
    - `"path/to/file.py:Class"` likewise; the file's folder is importable for it.
    - `"…?name=value&name=value"` are keyword arguments, with JSON values or words;
      `max_episode_steps` limits episodes.

    Args:
        name: one of these.

    Returns:
        The string that names the same environment in every process: the id in full, the path of a
        file absolute, the arguments sorted, without those that are registered so anyway.

    Raises:
        UserError: nothing of that name is there, a module or file can't be loaded, or arguments
            can't be read.
    """
    found = _look_up(parse_name(name))
    if found.source:
        _sources[found.id] = found.source
    for key, value in found.arguments.items():
        if not _harmless(value):
            _texts.add((found.id, key, json.dumps(value, sort_keys=True)))
    return str(found)


def env_id_of(env: str | EnvFactory, kwargs: Mapping[str, Any] | None = None) -> str:
    """Return the string of an environment that is given by name, class or function.

    A class or function that can be imported is `module:Name`. Another one, of a notebook or a
    running script, is registered as `callable/name` and can be made in this process alone; one
    that takes the place of an equal one, as a cell that is run again does, gets its id.

    Args:
        env: anything that `resolve_env_id` takes, or what makes an environment.
        kwargs: keyword arguments beside those of the string, of JSON types; tuples become lists.

    Raises:
        UserError: as `resolve_env_id`, a value isn't of such a type, or an environment is given
            instead of what makes it.
    """
    if not isinstance(env, str):
        if isinstance(env, gymnasium.Env) or not callable(env):
            raise UserError(
                f"environment: expected an id or what makes one, such as a class or a function, "
                f"got a {type(env).__name__}"
            )
        env = _id_of_callable(env)
    name = parse_name(env)
    arguments = {**name.arguments, **json_values(name.id, kwargs or {})}
    return resolve_env_id(str(replace(name, arguments=arguments)))


def named_env(env: str | EnvFactory | None, kwargs: Mapping[str, Any] | None = None) -> str | None:
    """Return the string of an environment that may not be given, None then.

    Args:
        env: as `env_id_of`, or None.
        kwargs: as `env_id_of`.

    Raises:
        UserError: as `env_id_of`, or there are arguments but no environment.
    """
    if env is None and kwargs:
        raise UserError("env_kwargs are of an environment: name it with env")
    return None if env is None else env_id_of(env, kwargs)


def register_environments(names: Iterable[str]) -> None:
    """Load the sources of environments that the user names, so that files may name these, too.

    Raises:
        UserError: as `resolve_env_id`.
    """
    for name in names:
        resolve_env_id(name)


def json_values(env_id: str, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return keyword arguments as they are after JSON has held them.

    Raises:
        UserError: JSON can't hold one.
    """
    checked = checked_name(EnvironmentName("", env_id, kwargs))
    values: dict[str, Any] = json.loads(json.dumps(dict(checked.arguments)))
    return values


# --- what files name --------------------------------------------------------------------------


def env_id_of_file(named: object, source: object) -> str:
    """Return the string of an environment that an untrusted file names.

    It is looked up in what is registered, and nothing is imported or loaded for it: what stands
    before a colon is left out, unless the user named an environment of that id with its source
    (`resolve_env_id`). Arguments that are numbers, true, false, null, and lists of these are taken;
    texts, which may be paths, only where the user named the same.

    Args:
        named: what the file says.
        source: the file, for the message.

    Raises:
        NotNamedError: it isn't registered here, or has arguments that aren't taken.
        UserError: it is no text, or was a callable.
    """
    try:
        asked = parse_name(named)
        bare = replace(asked, source="")
        if not bare.id:
            raise UserError(f"environment: expected a Gymnasium id, got {shown(named)}")
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    try:
        found = _look_up(bare)
    except UserError as error:
        if bare.id.startswith(CALLABLE):
            raise UserError(
                f"{source}: its environment was a callable, {shown(bare.id)}; give it again, or "
                "the string of a module or file"
            ) from error
        hint = asked if asked.source else replace(asked, source="MODULE")
        raise NotNamedError(
            f"{source}: {error}; a module or file is loaded only where you name it, if you trust "
            "it",
            hint,
        ) from error
    for key, value in found.arguments.items():
        text = json.dumps(value, sort_keys=True)
        if not _harmless(value) and (found.id, key, text) not in _texts:
            raise NotNamedError(
                f"{source}: {key} of its environment is {shown(value)}, and text, which may be a "
                "path, is taken only where you name it, if you trust it",
                found,
            )
    return str(found)


def env_id_for(stored: object, named: str | None, source: object) -> str:
    """Return where something that a file says an environment of is to act.

    Args:
        stored: what the file says.
        named: what the user says, if anything. Without arguments it has those of the file; with
            arguments it is taken as it is.
        source: the file, for the message.

    Raises:
        UserError: as `resolve_env_id` and `env_id_of_file`, or the two are of other names.
    """
    if named is None:
        return env_id_of_file(stored, source)
    asked = resolve_env_id(named)
    if not _same_name(str(stored), asked):
        raise UserError(f"{source} acts in {printable(stored)}, not in {asked}")
    if parse_name(asked).arguments:
        return asked
    if str(stored).startswith(CALLABLE):
        stored = str(replace(parse_name(str(stored)), id=parse_name(asked).id))
    own = parse_name(env_id_of_file(stored, source)).arguments
    return str(replace(parse_name(asked), arguments=own))


def _harmless(value: Any) -> bool:
    """Return whether an argument is a number, true, false, null, or a list of such."""
    if isinstance(value, list):
        return all(map(_harmless, value))
    return value is None or isinstance(value, bool | int | float)


def same_environment(one: str, other: str) -> bool:
    """Return whether two strings name one environment: in any version, with the same arguments.

    Sources don't count, nor do time limits, which change no step.
    """
    if not _same_name(one, other):
        return False
    first, second = (_arguments_of(text) for text in (one, other))
    return first == second


def _same_name(one: str, other: str) -> bool:
    """Return whether names are alike: a callable may stand in a module or file by now."""
    first, second = (env_name_of(text).removeprefix(CALLABLE) for text in (one, other))
    return first == second


def _arguments_of(text: str) -> dict[str, Any]:
    name = parse_name(without_source(text))
    arguments = dict(_without_registered(name).arguments)
    arguments.pop("max_episode_steps", None)
    return arguments


# --- the registry -----------------------------------------------------------------------------


def env_spec(env_id: str) -> EnvSpec:
    """Return Gymnasium's specification of a resolved id, its arguments included.

    Raises:
        UserError: it isn't registered.
    """
    name = _look_up(parse_name(env_id))
    spec = copy.copy(registry[name.id])
    arguments = dict(name.arguments)
    spec.max_episode_steps = arguments.pop("max_episode_steps", spec.max_episode_steps)
    spec.kwargs = {**spec.kwargs, **arguments}
    return spec


def env_id_of_spec(spec: EnvSpec) -> str:
    """Return the string of an environment that was made, of its specification.

    What is registered so anyway, how it is drawn, and what JSON can't hold are left out.
    """
    arguments: dict[str, Any] = {}
    for key, value in spec.kwargs.items():
        try:
            arguments |= json_values(spec.id, {key: value})
        except UserError:
            continue
    name = EnvironmentName(_sources.get(spec.id, ""), spec.id, arguments)
    return str(_without_registered(name))


def importable(env_id: str) -> bool:
    """Return whether a fresh process could make an environment of a resolved id."""
    if parse_name(env_id).source:
        return True
    spec = env_spec(env_id)
    if not isinstance(spec.entry_point, str) or spec.entry_point.startswith("__main__"):
        return False
    try:
        json.dumps(spec.kwargs)
    except (TypeError, ValueError):
        return False
    return True


def workers_for(
    env_ids: Iterable[str | None], workers: int, jobs: int, notice: Notice = print_notice
) -> int:
    """Return the processes that work in some environments may be spread over.

    Args:
        env_ids: resolved ids; None where there is no environment.
        workers: processes otherwise.
        jobs: parts of the work.
        notice: called with a line where it is done in this process for an environment's sake.
    """
    if min(workers, jobs) > 1:
        for env_id in dict.fromkeys(env_ids):
            if env_id is not None and not importable(env_id):
                notice(
                    f"everything runs in this process: {env_id} is a function or class of it, "
                    "which no other process can make"
                )
                return 1
    return workers


def known_in_workers(function: Callable[P, R], env_ids: Iterable[str | None]) -> Callable[P, R]:
    """Return a function for worker processes that knows what this process registered.

    Args:
        function: importable.
        env_ids: resolved ids of the environments that it makes. Those with a source are loaded
            from there; the registration of others goes along.
    """
    return partial(_run_registered, _registered_specs(env_ids), function)


def _run_registered(
    specs: Iterable[EnvSpec], function: Callable[P, R], *args: P.args, **kwargs: P.kwargs
) -> R:
    for spec in specs:
        registry.setdefault(spec.id, spec)
    return function(*args, **kwargs)


def registrations(env_ids: Iterable[str]) -> list[str]:
    """Return as JSON how environments without a source are registered here.

    Args:
        env_ids: resolved, and `importable`.
    """
    return [spec.to_json() for spec in _registered_specs(env_ids)]


def register_as_elsewhere(registered: Iterable[str]) -> None:
    """Register what another process had registered, and this one hasn't (`registrations`)."""
    for spec in map(EnvSpec.from_json, registered):
        registry.setdefault(spec.id, spec)


def _registered_specs(env_ids: Iterable[str | None]) -> tuple[EnvSpec, ...]:
    names = [parse_name(env_id) for env_id in env_ids if env_id is not None]
    ids = dict.fromkeys(_look_up(name).id for name in names if not name.source)
    return tuple(registry[one] for one in ids)


def _key(spec: EnvSpec) -> str:
    """Return an id without its version, in lower case."""
    return (f"{spec.namespace}/{spec.name}" if spec.namespace else spec.name).lower()


def _look_up(name: EnvironmentName) -> EnvironmentName:
    """Return the name in full of what is registered, or is registered for it here.

    Raises:
        UserError: there is nothing of that name.
    """
    if name.source:
        found = _of_source(name)
    else:
        found = replace(name, id=_registered_id(name.id))
        found = replace(found, source=_sources.get(found.id, ""))
        if found.id in _classes:
            # Another source may have a class of that name.
            found = _of_source(found)
    return _without_registered(found)


def _without_registered(name: EnvironmentName) -> EnvironmentName:
    """Leave out the arguments that are registered so anyway."""
    spec = registry.get(name.id)
    if spec is None or not name.arguments:
        return name
    usual = {**spec.kwargs, "max_episode_steps": spec.max_episode_steps}
    own = {
        key: value
        for key, value in name.arguments.items()
        if key not in usual or type(usual[key]) is not type(value) or usual[key] != value
    }
    return replace(name, arguments=own)


def _registered_id(name: str) -> str:
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


_GRIDWORLD = EnvSpec(
    "Gridworld-v0",
    entry_point="qss_offline.online.gridworld:GridworldEnv",
    max_episode_steps=500,
)
registry.setdefault(_GRIDWORLD.id, _GRIDWORLD)


# --- modules, files, callables ----------------------------------------------------------------


def _of_source(name: EnvironmentName) -> EnvironmentName:
    source = str(Path(name.source).expanduser().resolve()) if name.is_file else name.source
    name = replace(name, source=source)
    module = load_file(Path(source)) if name.is_file else load_module(source)
    if name.id in registry and name.id not in _classes:
        return name
    if callable(getattr(module, name.id, None)):
        spec = EnvSpec(name.id, entry_point=f"{module.__name__}:{name.id}")
        if name.id not in registry or registry[name.id].entry_point != spec.entry_point:
            registry[name.id] = spec
        _classes.add(name.id)
        return name
    own = [key for key, value in vars(module).items() if isinstance(value, type)]
    raise UserError(
        f"environment {printable(name)!r}: {Path(source).name if name.is_file else source} neither "
        f"registers {name.id!r} with Gymnasium nor has a class or function of that name"
        f"{nearest(name.id, [*own, *(key for key in registry if key not in own)])}"
    )


def _id_of_callable(made: EnvFactory) -> str:
    name = getattr(made, "__qualname__", type(made).__qualname__)
    source = importable_source(made)
    if source is not None:
        return f"{source}:{name}"
    # An id's name: letters, digits, `_`, `-` and dots.
    base = CALLABLE + (re.sub(r"[^\w]+", ".", name, flags=re.ASCII).strip(".") or "environment")
    number, env_id = 1, base
    while env_id in registry and not replaces(registry[env_id].entry_point, made):
        number += 1
        env_id = f"{base}.{number}"
    registry[env_id] = EnvSpec(env_id, entry_point=made)
    return env_id
