"""Reading the episodes of any Minari dataset, in HDF5, Arrow or Parquet, as columns.

The episodes are read one by one in a child process (see `sandbox`), which writes their columns to
disk as it goes and a sidecar in the end; this process maps that file and checks all of it again.
However large the dataset, memory is taken for its longest episode only. HDF5 is read here and not
through Minari: so links to other files are refused, and every array's type and size is known before
memory is taken for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from h5py import h5d, h5g

from qss_offline.data import sandbox
from qss_offline.data import sidecar as columns
from qss_offline.data.column_files import ColumnTypes, ColumnWriter, column_types, map_columns
from qss_offline.data.hdf5 import address_of, open_own, read_array, refuse_outside
from qss_offline.data.minari_format import EPISODES_FILE
from qss_offline.data.precision import Rounding
from qss_offline.data.scratch import scratch_folder
from qss_offline.data.spaces import is_placeholder, is_vector, read_space, vector_size
from qss_offline.data.transitions import Transitions
from qss_offline.errors import UserError
from qss_offline.parallel.processes import Tick
from qss_offline.parallel.reporting import ProgressFactory, no_progress

Array: TypeAlias = npt.NDArray[Any]
# What Minari stores for an observation: an array, or arrays nested in dicts and tuples.
Nested: TypeAlias = Any

_FIELDS = ("rewards", "terminations", "truncations")
_NUMBERS = "biuf"
_EPISODES_PER_TICK = 100
_MAX_RECURRING_BYTES = 256
_MAX_RECURRING = 1 << 14


@dataclass(frozen=True, eq=False)
class StoredEpisodes:
    """The episodes of a dataset as columns.

    Attributes:
        sidecar: the columns, mapped from a file that has no name any more, and their digest.
        unfinished: episodes without an end of their own; their last row counts as truncated.
        extras: names of what the episodes hold besides the five arrays, such as "infos".
        rounded: from "observations", "rewards" or "actions" to the places of numbers whose changes
            float32 can't hold; where there are none, nothing.
        offsets: what was subtracted from a number of the observations, by its place.
    """

    sidecar: columns.Sidecar
    unfinished: int
    extras: tuple[str, ...]
    rounded: dict[str, tuple[int, ...]]
    offsets: dict[int, float]


def read_episodes(
    dataset_id: str,
    metadata: dict[str, Any],
    data: Path,
    *,
    with_actions: bool,
    offset: Sequence[int] = (),
    progress: ProgressFactory = no_progress,
) -> StoredEpisodes:
    """Read all episodes of a dataset; observations that aren't vectors are flattened.

    Args:
        dataset_id: for messages.
        metadata: the dataset's, checked by `read_metadata`.
        data: its `data` folder.
        with_actions: read the actions too; they must be vectors.
        offset: places of numbers in an observation whose first value is subtracted from all others.
        progress: makes a reporter of transitions.

    Raises:
        UserError: the episodes can't be read, don't fit the metadata or each other, hold NaN or
            infinity, or wouldn't fit into memory.
    """
    obs_dim = vector_size(read_space(metadata, "observation_space"))
    act_dim = 0
    if with_actions:
        action_space = read_space(metadata, "action_space")
        assert is_vector(action_space) and action_space.shape is not None
        act_dim = action_space.shape[0]
    steps, episodes = metadata["total_steps"], metadata["total_episodes"]
    what = f"dataset {dataset_id!r}"
    if steps == 0:
        raise UserError(f"{what} is empty; at least one transition is needed")
    # The arrays of an episode in their own precision and in that of the columns; there may be
    # no more than one episode.
    episode_bytes = steps * (12 * (2 * obs_dim + act_dim) + 64)
    with (
        scratch_folder() as folder,
        progress("reading episodes", steps, "transitions") as report,
    ):
        target = folder / columns.FILE_NAME
        # The columns lie there twice for a moment: one file each, and together in the sidecar.
        types = column_types(obs_dim, act_dim or None)
        row_bytes = 2 * sum(column.row_bytes for column in types.values())
        sandbox.check_disk(steps * row_bytes, target.parent, f"{what}: its {steps:,} steps")
        request = {
            "dataset_id": dataset_id,
            "metadata": {key: metadata.get(key) for key in _NEEDED},
            "data": str(data.absolute()),
            "with_actions": with_actions,
            "offset": list(offset),
            "target": str(target),
        }
        try:
            allowed = min(episode_bytes, sandbox.available_memory())
            reply = sandbox.call(_read, request, allowed, report)
            sidecar = columns.read_sidecar(target, steps, episodes)
            report(steps)
        except UserError as error:
            raise UserError(f"{what}: {error}") from error
    return StoredEpisodes(
        sidecar,
        int(reply["unfinished"]),
        tuple(map(str, reply["extras"])),
        {str(name): tuple(map(int, places)) for name, places in reply["rounded"].items()},
        {int(place): float(value) for place, value in reply["offsets"]},
    )


_NEEDED = (
    "dataset_id",
    "data_format",
    "jpeg_encoding",
    "observation_space",
    "action_space",
    "total_steps",
    "total_episodes",
)


def _read(request: dict[str, Any], tick: Tick) -> dict[str, Any]:
    """Read a dataset's episodes and write them as a sidecar; runs in the child."""
    metadata = request["metadata"]
    observation_space = read_space(metadata, "observation_space")
    action_space = read_space(metadata, "action_space")
    data = Path(request["data"])
    if metadata["data_format"] == "hdf5":
        source = _Hdf5(data, observation_space, action_space, request["with_actions"])
        stored = source.episodes(metadata["total_episodes"])
    elif metadata["data_format"] in ("arrow", "parquet"):
        stored = _arrow_episodes(data, metadata, observation_space, action_space)
    else:
        raise UserError(f"its format {metadata['data_format']!r} is unknown")
    act_dim = None
    if request["with_actions"]:
        assert action_space.shape is not None
        act_dim = action_space.shape[0]
    steps, target = metadata["total_steps"], Path(request["target"])
    types = column_types(vector_size(observation_space), act_dim)
    extras: set[str] = set()
    with ColumnWriter(target.parent, types) as writer:
        rows = _Rows(steps, types, writer, request["offset"])
        for index, episode in enumerate(stored):
            extras |= episode.pop("extras", set())
            rows.add(index, episode, observation_space)
            if index % _EPISODES_PER_TICK == 0:
                tick(rows.written)
    if rows.written != steps:
        raise UserError(
            f"its episodes hold {rows.written} steps, its metadata say {steps}; "
            "build or download it again"
        )
    transitions = Transitions(**map_columns(target.parent, types, steps))
    info = columns.SidecarInfo(
        steps, metadata["total_episodes"], request["dataset_id"], columns.digest(transitions)
    )
    columns.write_sidecar(target, transitions, info)
    return {
        "unfinished": rows.unfinished,
        "extras": sorted(extras)[:20],
        "rounded": rows.rounded(),
        "offsets": list(rows.offsets.items()),
    }


class _Rows:
    """Rows of a known number that are written episode by episode."""

    def __init__(
        self, steps: int, types: ColumnTypes, writer: ColumnWriter, offset: Sequence[int]
    ) -> None:
        self.written = self.unfinished = 0
        self.offsets: dict[int, float] = {}
        self._steps, self._types, self._writer, self._offset = steps, types, writer, offset
        self._rounding = {
            name: Rounding(self._width(name) if name in types and name != "rewards" else 1)
            for name in ("observations", "actions", "rewards")
        }

    def rounded(self) -> dict[str, list[int]]:
        """Return the numbers whose changes float32 can't hold."""
        lost = {name: rounding.lost() for name, rounding in self._rounding.items()}
        return {name: places for name, places in lost.items() if places}

    def add(self, index: int, episode: dict[str, Nested], space: spaces.Space[Any]) -> None:
        """Append an episode, after a check of every length: Minari checks none."""
        rewards = np.asarray(episode["rewards"])
        steps = len(rewards) if rewards.ndim else 0
        found = {
            "observations": _flatten(space, episode["observations"], index, steps + 1),
            **{name: np.asarray(episode[name]) for name in _FIELDS},
        }
        expected: dict[str, tuple[int, ...]] = dict.fromkeys(_FIELDS, (steps,))
        expected = {"observations": (steps + 1, self._width("observations")), **expected}
        if "actions" in self._types:
            found["actions"] = np.asarray(episode["actions"])
            expected["actions"] = (steps, self._width("actions"))
        for name, shape in expected.items():
            if found[name].shape != shape:
                raise _wrong_shape(index, name, found[name].shape, shape, steps)
            if found[name].dtype.kind not in _NUMBERS:
                raise _wrong_dtype(index, name, found[name].dtype)
        if steps == 0:
            return
        if self.written + steps > self._steps:
            raise UserError(
                f"its episodes hold more than the {self._steps} steps of its metadata; "
                "build or download it again"
            )
        if self._offset:
            found["observations"] = self._shifted(found["observations"])
        self._rounding["observations"].add(found["observations"][:-1], found["observations"][1:])
        self._rounding["rewards"].add(found["rewards"][:, None])
        if "actions" in found:
            self._rounding["actions"].add(found["actions"])
        found["next_observations"] = found["observations"][1:]
        found["observations"] = found["observations"][:-1]
        found["episodes"] = np.full(steps, index, np.int64)
        if not (found["terminations"][-1] or found["truncations"][-1]):
            found["truncations"] = np.array(found["truncations"], np.bool_)
            found["truncations"][-1] = True
            self.unfinished += 1
        # A value beyond float32 becomes infinite here and is refused afterwards with its row.
        with np.errstate(over="ignore"):
            self._writer.append(found)
        self.written += steps

    def _shifted(self, observations: Array) -> Array:
        """Subtract the first value of the first episode from the numbers that ask for it."""
        shifted = observations.astype(np.float64)
        for place in self._offset:
            first = self.offsets.setdefault(place, float(observations[0, place]))
            shifted[:, place] = observations[:, place] - observations.dtype.type(first)
        return shifted

    def _width(self, name: str) -> int:
        width = self._types[name].width
        assert width is not None
        return width


def _wrong_shape(
    index: int, name: str, shape: tuple[int, ...], expected: tuple[int, ...], steps: int
) -> UserError:
    return UserError(
        f"episode {index} has {name} of shape {shape}, expected {expected} for its {steps} rewards"
    )


def _wrong_dtype(index: int, name: str, dtype: np.dtype[Any]) -> UserError:
    return UserError(f"episode {index} has {name} of dtype {dtype}, expected numbers")


def _flatten(space: spaces.Space[Any], value: Nested, index: int, rows: int) -> Array:
    """Return one vector a row, as Gymnasium's FlattenObservation makes them."""
    if is_vector(space):
        return np.asarray(value)
    try:
        flat = [np.asarray(spaces.flatten(space, _row(space, value, i))) for i in range(rows)]
        return np.stack(flat)
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"episode {index} has observations that do not fit its {rows - 1} rewards and its "
            f"observation_space ({error})"
        ) from error


def _row(space: spaces.Space[Any], value: Nested, row: int) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _row(part, value[key], row) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_row(part, value[i], row) for i, part in enumerate(space.spaces))
    if isinstance(space, spaces.Discrete):
        return int(np.asarray(value[row]).reshape(()))
    return np.asarray(value[row])


# --- HDF5 -----------------------------------------------------------------------------------


class _Hdf5:
    def __init__(
        self,
        data: Path,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        with_actions: bool,
    ) -> None:
        self._path = data / EPISODES_FILE
        self._observation_space, self._action_space = observation_space, action_space
        # The writer here links equal small arrays instead of repeating them; read them once.
        self._recurring: dict[int, Array] = {}
        self._names = ["observations", *_FIELDS, *(["actions"] if with_actions else [])]

    def episodes(self, total: int) -> Iterator[dict[str, Nested]]:
        """Yield the arrays of each episode, and the names of what else it holds."""
        if not self._path.is_file():
            raise UserError(f"{self._path.name} is missing")
        with h5py.File(self._path, "r") as file:
            root = file.id
            if root.get_num_objs() != total:
                raise UserError(
                    f"its file holds {root.get_num_objs()} episodes, its metadata say {total}; "
                    "build or download it again"
                )
            for index in range(total):
                yield self._episode(root, index)

    def _episode(self, root: Any, index: int) -> dict[str, Nested]:
        group = open_own(root, f"episode_{index}")
        if not isinstance(group, h5g.GroupID):
            raise UserError(f"episode {index} is not a group")
        rewards = self._array(group, "rewards", index, None, 0)
        steps = len(rewards)
        episode: dict[str, Nested] = {"rewards": rewards}
        for name in self._names:
            if name == "observations":
                episode[name] = self._nested(
                    group, name, index, self._observation_space, steps + 1, steps
                )
            elif name == "actions":
                shape = (steps, *(self._action_space.shape or ()))
                episode[name] = self._array(group, name, index, shape, steps)
            elif name != "rewards":
                episode[name] = self._array(group, name, index, (steps,), steps)
        known = {"observations", "actions", *_FIELDS}
        held = {name.decode(errors="replace") for name in group}
        episode["extras"] = held - known
        # Actions where there should be none are an extra too.
        if is_placeholder(self._action_space) and "actions" in held:
            actions = open_own(group, "actions")
            if not isinstance(actions, h5d.DatasetID) or actions.shape != (steps, 0):
                episode["extras"] |= {"actions"}
        return episode

    def _nested(
        self, group: Any, name: str, index: int, space: spaces.Space[Any], rows: int, steps: int
    ) -> Nested:
        if isinstance(space, spaces.Dict):
            inner = open_own(group, name)
            return {
                key: self._nested(inner, key, index, part, rows, steps)
                for key, part in space.spaces.items()
            }
        if isinstance(space, spaces.Tuple):
            inner = open_own(group, name)
            return tuple(
                self._nested(inner, f"_index_{i}", index, part, rows, steps)
                for i, part in enumerate(space.spaces)
            )
        return self._array(group, name, index, (rows, *(space.shape or ())), steps)

    def _array(
        self, group: Any, name: str, index: int, shape: tuple[int, ...] | None, steps: int
    ) -> Array:
        address = address_of(group, name)
        known = self._recurring.get(address)
        if known is not None and known.shape == (known.shape if shape is None else shape):
            return known
        dataset = h5py.h5o.open(group, name.encode())
        if not isinstance(dataset, h5d.DatasetID):
            raise UserError(f"episode {index} has {name} that is no array")
        if shape is None and len(dataset.shape) == 1:
            shape = dataset.shape
        if dataset.shape != shape:
            raise _wrong_shape(index, name, dataset.shape, shape or (dataset.shape[:1]), steps)
        if dataset.dtype.kind not in _NUMBERS:
            raise _wrong_dtype(index, name, dataset.dtype)
        refuse_outside(dataset, f"episode {index} keeps its {name}")
        array = read_array(dataset)
        if array.nbytes <= _MAX_RECURRING_BYTES and len(self._recurring) < _MAX_RECURRING:
            self._recurring[address] = array
        return array


# --- Arrow and Parquet ----------------------------------------------------------------------


def _arrow_episodes(
    data: Path,
    metadata: dict[str, Any],
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
) -> Iterator[dict[str, Nested]]:
    # Arrow divides by an array's size: an empty one would end this process.
    if is_placeholder(action_space):
        raise UserError("an observation-only dataset in Arrow's formats can't be read")
    from minari.dataset._storages import get_minari_storage

    storage = get_minari_storage(metadata["data_format"])(
        data,
        observation_space,
        action_space,
        jpeg_encoding=bool(metadata.get("jpeg_encoding", True)),
    )
    for index in range(metadata["total_episodes"]):
        folder = data / str(index)
        if not folder.is_dir():
            raise UserError(f"episode {index} is missing")
        # One by one: Minari pairs episodes with record batches and doesn't notice if one
        # episode has two.
        found = list(storage.get_episodes([index]))
        batches = sum(1 for file in folder.iterdir() if file.suffix == f".{storage.FORMAT}")
        if len(found) != 1 or batches != 1:
            raise UserError(f"episode {index} is stored in {batches} files, expected one")
        episode = {name: found[0][name] for name in ("observations", "actions", *_FIELDS)}
        if found[0].get("infos"):
            episode["extras"] = {"infos"}
        yield episode
