"""Replay buffers of d3rlpy, stable-baselines3 and Tianshou as named columns, by what they hold.

None of these packages is imported: a buffer is known by its attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from qss_offline.data.importing.names import Roles
from qss_offline.data.importing.plan import Source
from qss_offline.data.importing.values import Array, columns_of, split_streams
from qss_offline.errors import UserError

_DISCRETE = "the actions are discrete, no vectors; they are left out"
# float32 actions may lie this much outside of what they were scaled to.
_ROUNDING = 1e-6


def read_buffer(buffer: Any) -> Source:
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


def _d3rlpy(buffer: Any) -> Source:
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
        notices = (_DISCRETE,)
    episodes = np.repeat(np.arange(len(lengths)), lengths)
    last = np.append(episodes[1:] != episodes[:-1], True)
    given = {role: _joined(role, pieces) for role, pieces in parts.items()}
    given["terminations"] = last & np.repeat(ends, lengths)
    given["truncations"] = last & ~np.repeat(ends, lengths)
    given["episodes"] = episodes
    columns, names = columns_of(given)
    return _source("a d3rlpy replay buffer", columns, Roles(names), notices=notices)


def _source(kind: str, columns: dict[str, Array], roles: Roles, **more: Any) -> Source:
    return Source(name=kind, made={"kind": kind}, columns=columns, roles=roles, **more)


def _joined(role: str, pieces: Sequence[Any]) -> Any:
    """Join the values of episodes; observations may be several arrays."""
    several = isinstance(pieces[0], tuple | list) and np.ndim(pieces[0][0])
    try:
        if several:
            return tuple(map(np.concatenate, zip(*pieces, strict=True)))
        return np.concatenate(pieces)
    except ValueError as error:
        raise UserError(f"buffer: its {role} don't fit together ({error})") from error


def _stable_baselines(buffer: Any) -> Source:
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
    columns, names = columns_of(given)
    columns = {name: one[order] for name, one in columns.items()}
    box = _bounds(buffer)
    notices: tuple[str, ...] = ()
    if box is not None and columns["actions"].shape[-1:] == box.shape:
        rolled_out = hasattr(buffer, "episode_starts")
        columns["actions"], notices = _executed(columns["actions"], box, rolled_out)
    roles = Roles(names)
    columns, parts = split_streams(columns, roles)
    return _source(
        *("a stable-baselines3 buffer", columns, roles),
        parts=parts,
        notices=notices,
        action_space=box,
    )


def _bounds(buffer: Any) -> spaces.Box | None:
    """Return a buffer's action space, of (numbers,); None where it isn't a Box."""
    space = getattr(buffer, "action_space", None)
    if space is None or not hasattr(space, "low"):
        return None
    low, high = (np.asarray(end, np.float32).reshape(-1) for end in (space.low, space.high))
    return spaces.Box(low, high, dtype=np.float32)


def _executed(actions: Array, box: spaces.Box, rolled_out: bool) -> tuple[Array, tuple[str, ...]]:
    """Return the actions that the environment got, (..., numbers), and what there is to say.

    Off-policy algorithms keep them scaled to [-1, 1], on-policy ones as they were before clipping.
    """
    outside = (actions < box.low) | (actions > box.high)
    if rolled_out:
        changed = int(outside.any(axis=-1).sum())
        said = (
            f"{changed:,} actions lay outside their bounds; stored clipped, as they were executed"
        )
        return actions.clip(box.low, box.high), (said,) if changed else ()
    # A buffer that was filled by hand holds the actions themselves.
    scaled = box.is_bounded() and not (np.abs(actions) > 1 + _ROUNDING).any()
    within = bool((np.abs([box.low, box.high]) <= 1).all()) and not outside.any()
    if not scaled or within:
        return actions, ()
    low, high = box.low.astype(np.float64), box.high.astype(np.float64)
    unscaled = (low + (actions + 1.0) / 2 * (high - low)).clip(low, high).astype(actions.dtype)
    return unscaled, ("the actions are scaled to [-1, 1]; stored as they were executed",)


def _tianshou(buffer: Any) -> Source:
    """Of a buffer with several inside, each is a stream of its own."""
    inside = list(getattr(buffer, "buffers", ())) or [buffer]
    pieces: dict[str, list[Array]] = {}
    names: dict[str, tuple[str, ...]] = {}
    parts = []
    for one in inside:
        rows = np.asarray(one.sample_indices(0), np.int64)
        if not len(rows):
            continue
        parts.append(len(rows))
        given = {}
        for role, attribute in (
            ("observations", "obs"),
            ("next_observations", "obs_next"),
            ("actions", "act"),
            ("rewards", "rew"),
            ("terminations", "terminated"),
            ("truncations", "truncated"),
        ):
            value = getattr(one, attribute, None)
            if value is not None and not (hasattr(value, "is_empty") and value.is_empty()):
                given[role] = dict(value.items()) if hasattr(value, "items") else value
        found, names = columns_of(given)
        for name, column in found.items():
            pieces.setdefault(name, []).append(column[rows])
    if not parts:
        raise UserError("buffer: it holds no steps")
    columns = {name: np.concatenate(column) for name, column in pieces.items()}
    notices: tuple[str, ...] = ()
    actions = names.get("actions", ())
    if actions and all(columns[n].ndim == 1 and columns[n].dtype.kind in "iu" for n in actions):
        del names["actions"]
        notices = (_DISCRETE,)
    several = parts if len(parts) > 1 else ()
    return _source("a Tianshou buffer", columns, Roles(names), parts=several, notices=notices)
