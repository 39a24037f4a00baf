"""The layout of a dataset: Minari's, without actions where there are none.

**The T+1 rule.** A Minari episode of T steps holds T+1 observations, row i of `Transitions`
being observations i and i+1. Minari itself checks no lengths.

**No actions.** Minari has no convention for datasets without actions. Ours: the action space is
`Box(-inf, inf, (0,), float32)`, the actions are `zeros((T, 0))`, so no byte of an action is
stored, and the metadata say `observation_only: true`. Stock Minari loads, iterates, samples,
filters and splits that, and recovers the real environment with its real action space. Infos are
never recorded: Reacher's, for one, give |a|² away.

**Numbers.** Transitions are float32. The episodes hold these float32 values in the
environment's own dtype (float64 for MuJoCo), so that they fit the observation space.

**Episodes.** Minari's own writer takes 2 ms an episode. This one writes the same layout straight
through HDF5: small arrays inside their headers, and arrays that recur (the rewards of
InvertedPendulum, say) once, linked from every episode.
"""

from __future__ import annotations

import platform
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from h5py import h5a, h5d, h5g, h5o, h5p, h5s, h5t
from minari.serialization import serialize_space

import qss_offline
from qss_offline.data.environments import env_spec, without_folder
from qss_offline.data.local import check_base_id, pair_id
from qss_offline.data.spaces import NO_ACTIONS
from qss_offline.data.transitions import Transitions
from qss_offline.errors import UserError
from qss_offline.parallel.processes import Tick

EPISODES_FILE = "main_data.hdf5"
# HDF5 keeps an array inside its object header up to 64 KiB, headers' own bytes included.
_MAX_COMPACT_BYTES = 60_000
# Equal arrays that are worth remembering; longer ones hardly ever recur.
_MAX_SHARED_BYTES = 256
_MAX_SHARED = 4096
_EPISODES_PER_TICK = 500


@dataclass(frozen=True)
class BehaviourReturns:
    """Undiscounted returns of the episodes that weren't cut by the end of a shard.

    Attributes:
        mean: over episodes.
        std: over episodes (population).
        min: lowest.
        max: highest.
        n: episodes counted. Where every episode was cut, all of them are.
    """

    mean: float
    std: float
    min: float
    max: float
    n: int


def returns_of(returns: npt.NDArray[np.float64]) -> BehaviourReturns:
    """Return the spread of undiscounted returns, (number of episodes,)."""
    return BehaviourReturns(
        mean=float(returns.mean()),
        std=float(returns.std()),
        min=float(returns.min()),
        max=float(returns.max()),
        n=len(returns),
    )


def recorded_returns(metadata: dict[str, Any]) -> BehaviourReturns | None:
    """Return the behaviour's returns from a dataset's metadata, None where there are none."""
    recorded = metadata.get("behaviour_return")
    if recorded is None:
        return None
    names = [field.name for field in fields(BehaviourReturns)]
    return BehaviourReturns(**{name: recorded[name] for name in names})


@dataclass(frozen=True, eq=False)
class Description:
    """What is said about a recording where it becomes a pair of datasets.

    Attributes:
        base_id: `namespace/.../name`; the datasets are `name-obs-v0` and `name-act-v0`.
        observation_space: of the vectors; float32 or float64.
        action_space: of the actions; None writes the observation-only dataset alone.
        text: one or two sentences: what this is.
        algorithm_name: who acted.
        behaviour_return: of the recorded behaviour.
        metadata: whatever else is to be kept, of plain JSON types.

    Raises:
        UserError: the id is malformed or has a version already.
    """

    base_id: str
    observation_space: spaces.Box
    action_space: spaces.Box | None
    text: str
    algorithm_name: str
    behaviour_return: BehaviourReturns
    metadata: dict[str, Any]

    def __post_init__(self) -> None:
        check_base_id(self.base_id)
        if self.observation_space.dtype not in (np.float32, np.float64):
            raise UserError(
                f"observation_space: expected float32 or float64, got "
                f"{self.observation_space.dtype}"
            )

    @property
    def kinds(self) -> tuple[str, ...]:
        """What is written: "obs", or "obs" and "act"."""
        return ("obs",) if self.action_space is None else ("obs", "act")


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "qss_offline": qss_offline.__version__}
    for package in ("numpy", "gymnasium", "mujoco", "minari", "h5py", "pyarrow"):
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def env_metadata(env_id: str) -> dict[str, Any]:
    """Return how an environment is recorded: its string and, where possible, its specification."""
    metadata: dict[str, Any] = {"env_id": without_folder(env_id)}
    # An environment with arguments that JSON can't hold is recorded by its id alone.
    with suppress(TypeError, ValueError):
        metadata["env_spec"] = env_spec(env_id).to_json()
    return metadata


def shared_metadata(description: Description, steps: int, episodes: int) -> dict[str, Any]:
    """Return the metadata that both datasets of a pair share.

    Everything is of plain Python types: Minari, changing the file later, would truncate it at
    the first NumPy scalar.
    """
    return description.metadata | {
        "total_episodes": episodes,
        "total_steps": steps,
        "data_format": "hdf5",
        "jpeg_encoding": True,
        "observation_space": serialize_space(description.observation_space),
        "minari_version": version("minari"),
        "transitions": steps,
        "behaviour_return": asdict(description.behaviour_return),
        "versions": _versions(),
        "algorithm_name": description.algorithm_name,
    }


def kind_metadata(description: Description, kind: str, digests: dict[str, str]) -> dict[str, Any]:
    """Return the metadata of one of a pair, of kind "obs" or "act"; `digests` are of both."""
    metadata: dict[str, Any] = {
        "dataset_id": pair_id(description.base_id, kind),
        "digest": digests[kind],
        "observation_only": kind == "obs",
    }
    twin = "act" if kind == "obs" else "obs"
    if twin in digests:
        metadata["twin"] = pair_id(description.base_id, twin)
    precision = "Observations and rewards are float32 values in the environment's dtype."
    if kind == "obs":
        metadata["action_space"] = serialize_space(NO_ACTIONS)
        metadata["description"] = (
            f"{description.text}, recorded without actions: the action space is the empty "
            f"Box(0,) and no byte of an action is stored. {precision}"
        )
    else:
        metadata["action_space"] = serialize_space(description.action_space)
        metadata["description"] = f"{description.text}. {precision}"
    return metadata


def write_episodes(path: Path, transitions: Transitions, dtype: np.dtype[Any], tick: Tick) -> None:
    """Write the episodes as Minari's HDF5 file, observations of `dtype`.

    Raises:
        UserError: the file can't be written or the disk is full.
    """
    try:
        with h5py.File(path, "w", libver="latest", track_order=True) as file:
            _EpisodesWriter(file).write(transitions, dtype, tick)
    except (OSError, RuntimeError) as error:
        # HDF5 reports a full disk as either, at the length of a page.
        usage = shutil.disk_usage(path.parent)
        reason = "no space left on the disk" if usage.free < 1 << 20 else str(error).split("\n")[0]
        raise UserError(f"cannot write {path}: {reason}") from error


class _EpisodesWriter:
    """Writes episodes through HDF5's low level: a quarter of the time of h5py's own calls."""

    def __init__(self, file: h5py.File) -> None:
        self._root = file.id
        self._types = {
            dtype: h5t.py_create(np.dtype(dtype), logical=True)
            for dtype in ("<f4", "<f8", "|b1", "<i8")
        }
        self._scalar = h5s.create(h5s.SCALAR)
        # Without times, equal transitions give equal files.
        self._group = h5p.create(h5p.GROUP_CREATE)
        self._group.set_obj_track_times(False)
        self._layouts = {}
        for layout in (h5d.COMPACT, h5d.CONTIGUOUS):
            properties = h5p.create(h5p.DATASET_CREATE)
            properties.set_layout(layout)
            properties.set_obj_track_times(False)
            self._layouts[layout] = properties
        self._spaces: dict[tuple[int, ...], Any] = {}
        self._shared: dict[tuple[tuple[int, ...], str, bytes], Any] = {}

    def write(self, transitions: Transitions, dtype: np.dtype[Any], tick: Tick) -> None:
        """Write all episodes, the observations and rewards as Minari would find them."""
        starts = transitions.episode_starts()
        bounds = np.append(starts, len(transitions))
        self._types.setdefault(dtype.str, h5t.py_create(dtype, logical=True))
        actions = transitions.actions
        if actions is None:
            actions = np.zeros((len(transitions), 0), dtype=np.float32)
        for index in range(len(starts)):
            start, end = int(bounds[index]), int(bounds[index + 1])
            group = h5g.create(self._root, b"episode_%d" % index, gcpl=self._group)
            self._attribute(group, b"id", index)
            self._attribute(group, b"total_steps", end - start)
            observations = np.empty((end - start + 1, transitions.obs_dim), dtype=dtype)
            observations[:-1] = transitions.observations[start:end]
            observations[-1] = transitions.next_observations[end - 1]
            self._array(group, b"observations", observations)
            self._array(group, b"actions", actions[start:end])
            self._array(group, b"rewards", transitions.rewards[start:end].astype(np.float64))
            self._array(group, b"terminations", transitions.terminations[start:end])
            self._array(group, b"truncations", transitions.truncations[start:end])
            if index % _EPISODES_PER_TICK == 0:
                tick(index)
        tick(len(starts))

    def _attribute(self, group: Any, name: bytes, value: int) -> None:
        attribute = h5a.create(group, name, self._types["<i8"], self._scalar)
        attribute.write(np.array(value, dtype=np.int64))

    def _array(self, group: Any, name: bytes, array: npt.NDArray[Any]) -> None:
        array = np.ascontiguousarray(array)
        key = None
        if array.nbytes <= _MAX_SHARED_BYTES:
            key = (array.shape, array.dtype.str, array.tobytes())
            known = self._shared.get(key)
            if known is not None:
                h5o.link(known, group, name)
                return
        space = self._spaces.get(array.shape)
        if space is None:
            space = self._spaces[array.shape] = h5s.create_simple(array.shape)
        small = array.nbytes <= _MAX_COMPACT_BYTES
        layout = self._layouts[h5d.COMPACT if small else h5d.CONTIGUOUS]
        dataset = h5d.create(group, name, self._types[array.dtype.str], space, layout)
        if array.size:
            dataset.write(h5s.ALL, h5s.ALL, array)
        if key is not None and len(self._shared) < _MAX_SHARED:
            self._shared[key] = dataset
