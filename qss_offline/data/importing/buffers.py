"""Replay buffers of d3rlpy, stable-baselines3 and Tianshou as named columns, by what they hold.

None of these packages is imported: a buffer is known by its attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from qss_offline.data.importing.names import Roles
from qss_offline.data.importing.values import Array, as_column, flattened, split_streams
from qss_offline.errors import UserError


class BufferColumns(NamedTuple):
    """What a buffer holds.

    Attributes:
        kind: whose it is.
        columns: arrays of a row a step.
        roles: which serves which role.
        parts: rows of each stream of steps.
        notices: what is left out.
    """

    kind: str
    columns: dict[str, Array]
    roles: Roles
    parts: tuple[int, ...]
    notices: tuple[str, ...] = ()


def buffer_columns(buffer: Any) -> BufferColumns:
    """Return what a buffer holds, oldest steps first.

    Raises:
        UserError: it isn't a buffer of a known kind, or it is empty.
    """
    if hasattr(buffer, "episodes"):
        return _d3rlpy(buffer)
    if hasattr(buffer, "obs") and hasattr(buffer, "rew"):
        return _tianshou(buffer)
    if hasattr(buffer, "observations") and hasattr(buffer, "pos"):
        return _stable_baselines(buffer)
    raise UserError(
        f"buffer: expected one of d3rlpy, stable-baselines3 or Tianshou, got "
        f"{type(buffer).__name__}; give its arrays to plan_arrays"
    )


def _d3rlpy(buffer: Any) -> BufferColumns:
    """d3rlpy keeps as many observations as steps, so that the last of an episode isn't known."""
    parts: dict[str, list[Any]] = {"observations": [], "rewards": [], "actions": []}
    lengths, ends = [], []
    try:
        for episode in buffer.episodes:
            for name, column in parts.items():
                column.append(getattr(episode, name))
            lengths.append(len(episode.rewards))
            ends.append(bool(episode.terminated))
    except (AttributeError, TypeError) as error:
        raise UserError(f"buffer: expected a d3rlpy ReplayBuffer ({error})") from error
    if not lengths:
        raise UserError("buffer: it holds no episodes")
    notices: tuple[str, ...] = ()
    space = getattr(getattr(buffer, "dataset_info", None), "action_space", None)
    if getattr(space, "name", "").upper() == "DISCRETE":
        del parts["actions"]
        notices = ("the actions are discrete, no vectors; they are left out",)
    columns: dict[str, Array] = {}
    names: dict[str, tuple[str, ...]] = {}
    for role, pieces in parts.items():
        found = _joined(role, pieces)
        columns |= found
        names[role] = tuple(found)
    episodes = np.repeat(np.arange(len(lengths)), lengths)
    last = np.append(episodes[1:] != episodes[:-1], True)
    columns["episodes"] = episodes
    columns["terminations"] = last & np.repeat(ends, lengths)
    columns["truncations"] = last & ~np.repeat(ends, lengths)
    for name in ("terminations", "truncations", "episodes"):
        names[name] = (name,)
    return BufferColumns("a d3rlpy replay buffer", columns, Roles(names), (), notices)


def _joined(role: str, pieces: Sequence[Any]) -> dict[str, Array]:
    """Join the values of episodes; observations may be nested."""
    columns: dict[str, list[Array]] = {}
    for piece in pieces:
        nested = tuple(piece) if isinstance(piece, tuple | list) and np.ndim(piece[0]) else piece
        for name, value in flattened(role, nested):
            columns.setdefault(name, []).append(as_column(name, value))
    try:
        return {name: np.concatenate(column) for name, column in columns.items()}
    except ValueError as error:
        raise UserError(f"buffer: its {role} don't fit together ({error})") from error


def _stable_baselines(buffer: Any) -> BufferColumns:
    """Arrays of (steps, environments, ...), the oldest step at `pos` once they are full."""
    size = int(getattr(buffer, "buffer_size", 0)) or len(buffer.rewards)
    full = bool(getattr(buffer, "full", False))
    begin = int(buffer.pos) if full else 0
    count = size if full else int(buffer.pos)
    if count == 0:
        raise UserError("buffer: it holds no steps")
    order = (np.arange(count) + begin) % size
    given: dict[str, Any] = {"observations": buffer.observations, "actions": buffer.actions}
    following = getattr(buffer, "next_observations", None)
    if following is not None and not getattr(buffer, "optimize_memory_usage", False):
        given["next_observations"] = following
    given["rewards"] = buffer.rewards
    dones = getattr(buffer, "dones", None)
    if dones is not None:
        timeouts = getattr(buffer, "timeouts", None)
        late = np.zeros_like(dones) if timeouts is None else timeouts
        given["terminations"] = np.asarray(dones, bool) & ~np.asarray(late, bool)
        given["truncations"] = np.asarray(late, bool)
    elif hasattr(buffer, "episode_starts"):
        given["starts"] = buffer.episode_starts
    columns: dict[str, Array] = {}
    names: dict[str, tuple[str, ...]] = {}
    for role, value in given.items():
        found = {name: as_column(name, part)[order] for name, part in flattened(role, value)}
        columns |= found
        names[role] = tuple(found)
    roles = Roles(names)
    columns, parts = split_streams(columns, roles)
    return BufferColumns("a stable-baselines3 buffer", columns, roles, parts)


def _tianshou(buffer: Any) -> BufferColumns:
    """Of a buffer with several inside, each is a stream of its own."""
    inside = list(getattr(buffer, "buffers", ())) or [buffer]
    pieces: dict[str, list[Array]] = {}
    names: dict[str, list[str]] = {}
    parts = []
    for one in inside:
        rows = np.asarray(one.sample_indices(0), np.int64)
        if not len(rows):
            continue
        parts.append(len(rows))
        for role, attribute in (
            ("observations", "obs"),
            ("next_observations", "obs_next"),
            ("actions", "act"),
            ("rewards", "rew"),
            ("terminations", "terminated"),
            ("truncations", "truncated"),
        ):
            value = getattr(one, attribute, None)
            if value is None or (hasattr(value, "is_empty") and value.is_empty()):
                continue
            nested = dict(value.items()) if hasattr(value, "items") else value
            for name, part in flattened(role, nested):
                pieces.setdefault(name, []).append(as_column(name, part)[rows])
                if name not in names.setdefault(role, []):
                    names[role].append(name)
    if not parts:
        raise UserError("buffer: it holds no steps")
    columns = {name: np.concatenate(column) for name, column in pieces.items()}
    notices: tuple[str, ...] = ()
    actions = names.get("actions", [])
    if actions and all(columns[n].ndim == 1 and columns[n].dtype.kind in "iu" for n in actions):
        del names["actions"]
        notices = ("the actions are discrete, no vectors; they are left out",)
    roles = Roles({role: tuple(found) for role, found in names.items()})
    several = tuple(parts) if len(parts) > 1 else ()
    return BufferColumns("a Tianshou buffer", columns, roles, several, notices)
