"""Arrays of N steps as transitions, whatever their layout.

**The last observation.** A step needs the observation before and after it. Recordings come in
three layouts: with `next_observations`; with one observation more than steps in each episode;
or with as many observations as steps. In the last the observation after an episode's last step
was never recorded, so that step can't be kept, and its termination is lost with it; this is
said, never filled in.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from qss_offline.data.transitions import Transitions
from qss_offline.errors import UserError
from qss_offline.parallel.reporting import Notice, print_notice

Array: TypeAlias = npt.NDArray[Any]


def transitions_of(given: dict[str, Any], notice: Notice = print_notice) -> Transitions:
    """Return arrays as checked transitions (see `from_arrays` for names and shapes).

    Raises:
        UserError: they don't fit together.
    """
    arrays = {name: _numbers(name, value) for name, value in given.items() if value is not None}
    for name in ("observations", "rewards", "terminations"):
        if name not in arrays:
            raise UserError(f"{name} are missing")
    # d3rlpy and others keep rewards and flags as (N, 1).
    for name in ("rewards", "terminations", "truncations", "episodes"):
        if name in arrays and arrays[name].ndim == 2 and arrays[name].shape[1] == 1:
            arrays[name] = arrays[name][:, 0]
    for name in ("observations", "next_observations", "actions"):
        if name in arrays and arrays[name].ndim == 1:
            arrays[name] = arrays[name][:, None]
    steps = len(arrays["rewards"])
    if steps == 0:
        raise UserError("rewards: no rows; at least one step is needed")
    arrays.setdefault("truncations", np.zeros(steps, np.bool_))
    for name in ("terminations", "truncations"):
        flags = arrays[name]
        if flags.shape != (steps,):
            raise UserError(f"{name}: expected shape ({steps},), got {flags.shape}")
        if not np.isin(flags, (0, 1)).all():
            raise UserError(f"{name}: expected true and false, or 1 and 0")
        arrays[name] = flags.astype(np.bool_)
    _number_episodes(arrays, steps, notice)
    dropped = _align_observations(arrays, steps)
    if dropped:
        notice(
            f"{dropped:,} steps are left out, the last of each episode: the observation after "
            "them was never recorded; the steps before them count as truncated"
        )
    columns: dict[str, Any] = dict(arrays)
    with np.errstate(over="ignore"):  # refused afterwards, with the row
        for name in ("observations", "next_observations", "rewards", "actions"):
            if name in arrays:
                columns[name] = arrays[name].astype(np.float32)
    return Transitions(**columns)


def _numbers(name: str, value: Any) -> Array:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise UserError(f"{name}: expected an array of numbers ({error})") from error
    if array.dtype.kind not in "biuf":
        raise UserError(f"{name}: expected numbers, got dtype {array.dtype}")
    if array.ndim == 0:
        raise UserError(f"{name}: expected one row for each step, got one number")
    return array


def _number_episodes(arrays: dict[str, Array], steps: int, notice: Notice) -> None:
    """Count the episodes from 0, and make sure that each of them ends."""
    flagged = arrays["terminations"] | arrays["truncations"]
    labels = arrays.get("episodes")
    if labels is None:
        last = flagged.copy()
        last[-1] = True
    else:
        if labels.shape != (steps,):
            raise UserError(f"episodes: expected shape ({steps},), got {labels.shape}")
        last = np.append(labels[1:] != labels[:-1], True)
        changes = labels[last]
        if len(np.unique(changes)) != len(changes):
            raise UserError("episodes: the rows of an episode must lie together, in their order")
    inside = flagged & ~last
    if inside.any():
        row = int(inside.argmax())
        raise UserError(
            f"terminations, truncations: row {row} ends an episode, but its episode goes on in "
            "the next row"
        )
    unfinished = last & ~flagged
    if unfinished.any():
        arrays["truncations"] = arrays["truncations"] | unfinished
        notice(
            f"{int(unfinished.sum()):,} episodes end without termination or truncation; "
            "they count as truncated"
        )
    arrays["episodes"] = np.cumsum(np.append(0, last[:-1])).astype(np.int64)


def _align_observations(arrays: dict[str, Array], steps: int) -> int:
    """Give every step the observations before and after it; return the steps left out."""
    observations, episodes = arrays["observations"], arrays["episodes"]
    if "next_observations" in arrays:
        return 0
    total = int(episodes[-1]) + 1
    if len(observations) == steps + total:
        rows = np.arange(steps) + episodes
        arrays["observations"] = observations[rows]
        arrays["next_observations"] = observations[rows + 1]
        return 0
    if len(observations) != steps:
        raise UserError(
            f"observations: expected {steps} rows, or {steps + total} with the last observation "
            f"of each of the {total} episodes, got {len(observations)}"
        )
    keep = np.append(episodes[1:] == episodes[:-1], False)
    if not keep.any():
        raise UserError("observations: no episode holds two, so no step can be kept")
    arrays["next_observations"] = observations[1:][keep[:-1]]
    for name, array in arrays.items():
        if name != "next_observations":
            arrays[name] = array[keep]
    episodes = arrays["episodes"]
    arrays["truncations"] = np.append(episodes[1:] != episodes[:-1], True)
    return steps - int(keep.sum())
