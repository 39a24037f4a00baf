"""Recorded behaviour as columns: one row for each step of an environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from qss_offline.data.column_files import column_types
from qss_offline.errors import UserError

Float32Array: TypeAlias = npt.NDArray[np.float32]
Float64Array: TypeAlias = npt.NDArray[np.float64]
Int64Array: TypeAlias = npt.NDArray[np.int64]
BoolArray: TypeAlias = npt.NDArray[np.bool_]

# Rows looked at together: temporary masks stay in the cache even for memory-mapped columns
# that are larger than memory.
_CHUNK_ROWS = 1 << 17
_SUMMED_EPISODES = 1 << 12


def row_chunks(rows: int) -> Iterator[slice]:
    """Yield slices that cover `rows` rows in order, each of a size that fits the cache."""
    for start in range(0, rows, _CHUNK_ROWS):
        yield slice(start, min(start + _CHUNK_ROWS, rows))


def _first(rows: int, bad: Callable[[slice], BoolArray]) -> int | None:
    """Return the first row for which `bad(chunk)`, of shape (rows in chunk,), is true."""
    for chunk in row_chunks(rows):
        mask = bad(chunk)
        if mask.any():
            return int(chunk.start + mask.argmax())
    return None


@dataclass(frozen=True, eq=False)
class Transitions:
    """N steps of behaviour, episode after episode, in the order in which they happened.

    Every array is checked and becomes a read-only view (without a copy, so that memory-mapped
    columns stay on disk).

    Attributes:
        observations: (N, obs_dim) float32, before each step.
        next_observations: (N, obs_dim) float32, after it; also at an episode's
            end, where it is the true last observation, never one of the next episode.
        rewards: (N,) float32.
        terminations: (N,) bool, the environment's own end of an episode: nothing follows.
        truncations: (N,) bool, an end from outside (a time limit, the end of a recording):
            the state's value goes on.
        episodes: (N,) int64, the episode's index, never falling from row to row.
        actions: (N, act_dim) float32, or None for an observation-only recording.

    Raises:
        UserError: a shape or dtype is wrong, a value is NaN or infinite, an episode goes on
            after its end or its last row has neither termination nor truncation.
    """

    observations: Float32Array
    next_observations: Float32Array
    rewards: Float32Array
    terminations: BoolArray
    truncations: BoolArray
    episodes: Int64Array
    actions: Float32Array | None = None

    def __post_init__(self) -> None:
        rows = _check_layout(self.columns())
        for name in ("observations", "next_observations", "rewards", "actions"):
            column = getattr(self, name)
            if column is not None:
                _check_finite(name, column)
        self._check_episodes(rows)
        for field in fields(self):
            column = getattr(self, field.name)
            if column is not None:
                view = column.view()
                view.flags.writeable = False
                object.__setattr__(self, field.name, view)

    def _check_episodes(self, rows: int) -> None:
        episodes = self.episodes
        if episodes[0] < 0:
            raise UserError(f"episodes: row 0 is {int(episodes[0])}, an index can't be negative")

        def falls(chunk: slice) -> BoolArray:
            return np.diff(episodes[chunk.start : chunk.stop + 1]) < 0

        row = _first(rows, falls)
        if row is not None:
            raise UserError(f"episodes: the index falls after row {row}; it must never fall")

        def wrong_end(chunk: slice) -> BoolArray:
            last = np.ones(chunk.stop - chunk.start, dtype=np.bool_)
            following = episodes[chunk.start + 1 : chunk.stop + 1]
            last[: len(following)] = (
                following != episodes[chunk.start : chunk.start + len(following)]
            )
            flagged: BoolArray = self.terminations[chunk] | self.truncations[chunk]
            mismatch: BoolArray = last != flagged
            return mismatch

        row = _first(rows, wrong_end)
        if row is None:
            return
        if self.terminations[row] or self.truncations[row]:
            raise UserError(
                f"terminations, truncations: row {row} ends an episode, "
                f"but episode {int(episodes[row])} goes on in the next row"
            )
        raise UserError(
            f"terminations, truncations: row {row} is the last of episode {int(episodes[row])}, "
            "so one of them must be true there"
        )

    def columns(self) -> dict[str, npt.NDArray[Any]]:
        """Return the columns by name, without `actions` where there are none."""
        named = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: column for name, column in named.items() if column is not None}

    def without_actions(self) -> Transitions:
        """Return the same transitions, observation-only; the columns are shared."""
        columns = self.columns()
        columns.pop("actions", None)
        return Transitions(**columns)

    def __len__(self) -> int:
        return len(self.rewards)

    @property
    def obs_dim(self) -> int:
        """Numbers in an observation."""
        return int(self.observations.shape[1])

    def episode_starts(self) -> Int64Array:
        """Return the first row of each episode, (number of episodes,) int64."""
        starts = [np.zeros(1, dtype=np.int64)]
        for chunk in row_chunks(len(self) - 1):
            after = slice(chunk.start + 1, chunk.stop + 1)
            changed = np.flatnonzero(self.episodes[after] != self.episodes[chunk])
            starts.append(changed.astype(np.int64) + after.start)
        return np.concatenate(starts)

    def episode_lengths(self) -> Int64Array:
        """Return the steps of each episode, (number of episodes,) int64."""
        return np.diff(self.episode_starts(), append=len(self)).astype(np.int64)

    def episode_returns(self) -> Float64Array:
        """Return the undiscounted sum of rewards of each episode, (number of episodes,)."""
        starts = self.episode_starts()
        bounds = np.append(starts, len(self))
        sums = np.empty(len(starts))
        # A few episodes at a time: NumPy makes a float64 copy of what it sums.
        for begin in range(0, len(starts), _SUMMED_EPISODES):
            some = slice(begin, min(begin + _SUMMED_EPISODES, len(starts)))
            first, end = bounds[some.start], bounds[some.stop]
            sums[some] = np.add.reduceat(
                self.rewards[first:end], starts[some] - first, dtype=np.float64
            )
        return sums


_TYPES = column_types(1, 1)


def _check_layout(columns: dict[str, npt.NDArray[Any]]) -> int:
    """Check types, dtypes and shapes; return the number of rows."""
    rows = -1
    for name, column in columns.items():
        if not isinstance(column, np.ndarray):
            raise UserError(f"{name}: expected a NumPy array, got {type(column).__name__}")
        dtype = np.dtype(_TYPES[name].dtype)
        if column.dtype != dtype:
            raise UserError(f"{name}: expected dtype {dtype}, got {column.dtype}")
        dimensions = 1 if _TYPES[name].width is None else 2
        if column.ndim != dimensions or (dimensions == 2 and column.shape[1] == 0):
            shape = "(N, at least 1)" if dimensions == 2 else "(N,)"
            raise UserError(f"{name}: expected shape {shape}, got {column.shape}")
        if rows < 0:
            rows = len(column)
        elif len(column) != rows:
            raise UserError(f"{name}: {len(column)} rows, but observations has {rows}")
    if rows == 0:
        raise UserError("observations: no rows; at least one transition is needed")
    shapes = columns["observations"].shape, columns["next_observations"].shape
    if shapes[0] != shapes[1]:
        raise UserError(f"next_observations: shape {shapes[1]}, but observations has {shapes[0]}")
    return rows


def _check_finite(name: str, column: Float32Array) -> None:
    def not_finite(chunk: slice) -> BoolArray:
        finite = np.isfinite(column[chunk])
        if finite.all():
            return np.zeros(1, dtype=np.bool_)
        return np.asarray(~finite.reshape(len(finite), -1).all(axis=1))

    row = _first(len(column), not_finite)
    if row is not None:
        raise UserError(f"{name}: row {row} holds NaN or infinity ({column[row]})")
