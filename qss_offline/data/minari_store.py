"""Transitions as Minari datasets and back. What is particular to Minari lives here only.

**The T+1 rule.** A Minari episode of T steps holds T+1 observations, row i of `Transitions`
being observations i and i+1. Minari itself checks no lengths.

**No actions.** Minari has no convention for datasets without actions. Ours: the action space is
`Box(-inf, inf, (0,), float32)`, the actions are `zeros((T, 0))`, so no byte of an action is
stored, and the metadata say `observation_only: true`. Stock Minari loads, iterates, samples,
filters and splits that, and recovers the real environment with its real action space. Infos are
never recorded: Reacher's, for one, give |a|² away.

**Numbers.** Transitions are float32. The episodes hold these float32 values in the
environment's own dtype (float64 for MuJoCo), so that they fit the observation space.

**Writing.** Minari's own writer takes 2 ms an episode. This one writes the same layout straight
through HDF5: small arrays inside their headers, and arrays that recur (the rewards of
InvertedPendulum, say) once, linked from every episode.

**Visibility.** A pair is built in a hidden folder of the Minari root, which Minari doesn't scan,
under a lock that dies with its holder, and renamed into place when all of it is on disk. A
builder that is killed leaves nothing visible; one that is killed between its two renames is
finished by the next.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from h5py import h5a, h5d, h5g, h5o, h5p, h5s, h5t
from minari.dataset.minari_dataset import parse_dataset_id
from minari.serialization import deserialize_space, serialize_space
from minari.storage.datasets_root_dir import get_dataset_path

import qss_offline
from qss_offline.data import columns
from qss_offline.data.collect import complete_episodes
from qss_offline.data.environments import env_spec, make_env
from qss_offline.data.specs import DatasetSpec
from qss_offline.data.transitions import Transitions, row_chunks
from qss_offline.errors import UserError, nearest
from qss_offline.files import fsync_directory, write_json
from qss_offline.jobs import Tick, available_cores, run_jobs
from qss_offline.reporting import Notice, ProgressFactory, no_progress, print_notice

METADATA_FILE = "metadata.json"
_BODY_FILE = "main_data.hdf5"
_NAMESPACE_FILE = "namespace_metadata.json"
_WORKPLACE = ".qss-offline"
_READY_FILE = "ready.json"
_MAX_METADATA_BYTES = 16 << 20
# HDF5 keeps an array inside its object header up to 64 KiB, headers' own bytes included.
_MAX_COMPACT_BYTES = 60_000
# Equal arrays that are worth remembering; longer ones hardly ever recur.
_MAX_SHARED_BYTES = 256
_MAX_SHARED = 4096
_EPISODES_PER_TICK = 500
# Starting a second process takes about as long as writing this many episodes.
_WORTH_A_WORKER = 8_000


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


@dataclass(frozen=True)
class DatasetPair:
    """Two Minari datasets of the same rollouts.

    Attributes:
        obs_id: the one without actions.
        act_id: its twin with actions.
        obs_digest: of the observation-only columns.
        act_digest: of the columns with actions.
        transitions: steps in each.
        episodes: episodes in each.
        behaviour_return: of the behaviour that was recorded.
        built: whether this call wrote them; false where they were there already.
    """

    obs_id: str
    act_id: str
    obs_digest: str
    act_digest: str
    transitions: int
    episodes: int
    behaviour_return: BehaviourReturns
    built: bool


def minari_root() -> Path:
    """Return the folder of all Minari datasets (`MINARI_DATASETS_PATH` or Minari's default).

    Raises:
        UserError: it doesn't exist and can't be made.
    """
    try:
        return Path(get_dataset_path())
    except OSError as error:
        raise UserError(
            f"cannot use the Minari root {error.filename}: {error.strerror}; "
            "set MINARI_DATASETS_PATH to a folder that can be written to"
        ) from error


def local_dataset_ids() -> list[str]:
    """Return the ids of all folders in the Minari root that look like datasets."""
    root = minari_root()
    found = []
    for folder, subfolders, _ in os.walk(root):
        if "data" in subfolders:
            found.append(Path(folder).relative_to(root).as_posix())
            subfolders.clear()
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
    return sorted(found)


def data_folder(dataset_id: str) -> Path:
    """Return the `data` folder of a local dataset.

    Raises:
        UserError: the id is malformed, unknown, or its folder holds no data.
    """
    try:
        parse_dataset_id(dataset_id)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"dataset id {dataset_id!r} is malformed: expected namespace/.../name-v0, "
            "of letters, digits, _ and -"
        ) from error
    folder = minari_root() / dataset_id
    if not folder.is_dir():
        known = local_dataset_ids()
        near = nearest(dataset_id, known) or ("" if known else "; there are no datasets yet")
        raise UserError(f"no dataset {dataset_id!r} in {minari_root()}{near}")
    data = folder / "data"
    if not (data / METADATA_FILE).is_file():
        raise UserError(
            f"dataset {dataset_id!r} is half-built, {data / METADATA_FILE} is missing; "
            f"delete {folder} and build or download it again"
        )
    return data


def read_metadata(dataset_id: str) -> dict[str, Any]:
    """Return a local dataset's metadata, the keys that every dataset has being checked.

    Raises:
        UserError: the dataset is unknown, half-built, or its metadata are damaged.
    """
    path = data_folder(dataset_id) / METADATA_FILE
    mend = f"delete {path.parent.parent} and build or download it again"
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_METADATA_BYTES + 1)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    try:
        if len(content) > _MAX_METADATA_BYTES:
            raise ValueError("it is too large")
        metadata = json.loads(content)
        if not isinstance(metadata, dict):
            raise ValueError("it is not an object")
        for key in ("total_steps", "total_episodes"):
            value = metadata.get(key)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ValueError(f"{key} is {value!r}")
        for key in ("dataset_id", "data_format", "observation_space", "action_space"):
            if not isinstance(metadata.get(key), str):
                raise ValueError(f"{key} is missing")
    except (ValueError, RecursionError) as error:
        raise UserError(f"dataset {dataset_id!r}: {path} is damaged ({error}); {mend}") from error
    if metadata["dataset_id"] != dataset_id:
        raise UserError(
            f"dataset {dataset_id!r}: its metadata name it {metadata['dataset_id']!r}; "
            "move its folder to where it belongs"
        )
    return metadata


def read_space(metadata: dict[str, Any], key: str) -> spaces.Space[Any]:
    """Return the space stored under `observation_space` or `action_space`.

    Raises:
        UserError: it can't be read.
    """
    try:
        space = deserialize_space(metadata[key])
    except Exception as error:
        # Whatever a stranger's description of a space makes Minari and Gymnasium raise.
        raise UserError(
            f"dataset {metadata['dataset_id']!r}: its {key} can't be read ({error!r})"
        ) from error
    assert isinstance(space, spaces.Space)
    return space


def is_placeholder(action_space: spaces.Space[Any]) -> bool:
    """Return whether an action space is this package's way to say "no actions"."""
    return isinstance(action_space, spaces.Box) and action_space.shape == (0,)


def read_episodes(dataset_id: str) -> Iterator[Any]:
    """Yield a dataset's episodes (`minari.EpisodeData`), through stock Minari.

    Raises:
        UserError: Minari can't read them.
    """
    # A damaged file makes h5py, pyarrow and Minari raise almost anything.
    try:
        episodes = iter(minari.load_dataset(dataset_id).iterate_episodes())
    except Exception as error:
        raise _unreadable(dataset_id, error) from error
    while True:
        try:
            episode = next(episodes)
        except StopIteration:
            return
        except Exception as error:
            raise _unreadable(dataset_id, error) from error
        yield episode


def _unreadable(dataset_id: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return UserError(f"dataset {dataset_id!r}: Minari can't read its episodes: {reason}")


# --- the workplace: locks, staging, publication ---------------------------------------------


@dataclass(frozen=True)
class Stage:
    """A hidden folder in which one pair is being built, held by a lock.

    Attributes:
        base_id: the pair's common part of the id.
        folder: where to build; `obs` and `act` in it become the two datasets.
    """

    base_id: str
    folder: Path


@contextmanager
def stage(base_id: str, notice: Notice = print_notice) -> Iterator[Stage]:
    """Hold the right to build a pair, after waiting for other builders of the same.

    What killed builders of any pair left behind is finished or removed first.

    Args:
        base_id: the pair's common part of the id.
        notice: told when another builder has to be waited for.

    Raises:
        UserError: the Minari root can't be written to, or the disk is full.
    """
    workplace = minari_root() / _WORKPLACE
    slug = base_id.replace("/", "__")
    try:
        workplace.mkdir(exist_ok=True)
        with _lock(workplace / f"{slug}.lock", f"waiting for another builder of {base_id}", notice):
            _recover(workplace / slug)
            for other in workplace.glob("*.lock"):
                if other.stem != slug:
                    # Held: its builder lives, and nothing is to be done.
                    with suppress(BlockingIOError), _lock(other):
                        _recover(other.with_suffix(""))
            folder = workplace / slug
            folder.mkdir()
            try:
                yield Stage(base_id, folder)
            finally:
                _recover(folder)
    except OSError as error:
        raise UserError(
            f"cannot write datasets to {workplace.parent}: {error.strerror or error}"
        ) from error


@contextmanager
def _lock(path: Path, waiting: str = "", notice: Notice = print_notice) -> Iterator[None]:
    """Hold a lock that the system releases when its holder ends, however it ends.

    Raises:
        BlockingIOError: it is held, and `waiting`, what to say while waiting, is empty.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not waiting:
                raise
            notice(waiting)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _recover(folder: Path) -> None:
    """Finish the publication of a staging folder that is ready; remove what isn't."""
    if (folder / _READY_FILE).is_file():
        _move_into_place(folder)
    shutil.rmtree(folder, ignore_errors=True)


def _move_into_place(folder: Path) -> None:
    """Rename the datasets of a ready folder into place; what was there before is replaced."""
    root = folder.parent.parent
    base_id = json.loads((folder / _READY_FILE).read_text())["base_id"]
    # With actions first: who finds the observation-only dataset finds its twin too.
    for kind in ("act", "obs"):
        source, target = folder / kind, root / _pair_id(base_id, kind)
        if not source.exists():
            continue  # moved by the builder that was killed afterwards
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rename(folder / f"replaced-{kind}-{os.urandom(4).hex()}")
        source.rename(target)
        fsync_directory(target.parent)


def _publish(stage: Stage) -> None:
    """Make a finished pair visible. After the ready file is written, nothing can undo it."""
    for path in [*stage.folder.rglob("*"), stage.folder]:
        if path.is_dir():
            fsync_directory(path)
        else:
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    root = minari_root()
    parts = stage.base_id.split("/")[:-1]
    for depth in range(1, len(parts) + 1):
        namespace = root.joinpath(*parts[:depth])
        namespace.mkdir(exist_ok=True)
        if not (namespace / _NAMESPACE_FILE).exists():
            write_json(namespace / _NAMESPACE_FILE, {})
    parse_dataset_id(_pair_id(stage.base_id, "obs"))
    write_json(stage.folder / _READY_FILE, {"base_id": stage.base_id})
    _move_into_place(stage.folder)


def _pair_id(base_id: str, kind: str) -> str:
    return f"{base_id}-{kind}-v0"


# --- writing --------------------------------------------------------------------------------


def write_pair(
    transitions: Transitions,
    spec: DatasetSpec,
    *,
    stage_: Stage | None = None,
    overwrite: bool = False,
    workers: int | None = None,
    progress: ProgressFactory = no_progress,
) -> DatasetPair:
    """Write the two Minari datasets of a recording, each with its sidecar.

    Args:
        transitions: the recording, with actions.
        spec: what was recorded; it names the datasets and becomes part of their metadata.
        stage_: a stage that the caller holds; by default one is held for this call.
        overwrite: replace datasets that exist.
        workers: 2 writes both bodies side by side; by default where that is quicker.
        progress: makes a reporter of episodes written, of both datasets together.

    Raises:
        UserError: the recording has no actions or its rows don't follow each other, a dataset
            of that id exists, the root can't be written to, or the disk is full.
    """
    if stage_ is None:
        with stage(spec.base_id) as own:
            return write_pair(
                transitions,
                spec,
                stage_=own,
                overwrite=overwrite,
                workers=workers,
                progress=progress,
            )
    if not overwrite:
        for dataset_id in (spec.obs_id, spec.act_id):
            if (minari_root() / dataset_id).exists():
                raise UserError(f"dataset {dataset_id!r} exists; overwrite it or choose a name")
    if transitions.actions is None:
        raise UserError("actions: a pair of datasets is written from a recording with actions")
    _check_alignment(transitions)
    kinds = {"obs": transitions.without_actions(), "act": transitions}
    digests = {kind: columns.digest(part) for kind, part in kinds.items()}
    returns = behaviour_returns(transitions, spec)
    episodes = len(transitions.episode_starts())
    observation_space, metadata = _common_metadata(spec, returns, len(transitions), episodes)
    for kind, part in kinds.items():
        data = stage_.folder / kind / "data"
        data.mkdir(parents=True)
        info = columns.SidecarInfo(
            len(transitions), episodes, _pair_id(spec.base_id, kind), digests[kind]
        )
        columns.write_sidecar(data / columns.FILE_NAME, part, info)
    _write_bodies(stage_, observation_space.dtype, len(transitions), episodes, workers, progress)
    for kind in kinds:
        data = stage_.folder / kind / "data"
        size = sum(file.stat().st_size for file in data.iterdir()) / 1e6
        own_metadata = _kind_metadata(spec, kind, digests)
        write_json(data / METADATA_FILE, metadata | own_metadata | {"dataset_size": round(size, 1)})
    _publish(stage_)
    return DatasetPair(
        obs_id=spec.obs_id,
        act_id=spec.act_id,
        obs_digest=digests["obs"],
        act_digest=digests["act"],
        transitions=len(transitions),
        episodes=episodes,
        behaviour_return=returns,
        built=True,
    )


def behaviour_returns(transitions: Transitions, spec: DatasetSpec) -> BehaviourReturns:
    """Return the spread of the behaviour's returns over the episodes that weren't cut."""
    complete = complete_episodes(transitions, spec)
    returns = transitions.episode_returns()
    returns = returns[complete] if complete.any() else returns
    return BehaviourReturns(
        mean=float(returns.mean()),
        std=float(returns.std()),
        min=float(returns.min()),
        max=float(returns.max()),
        n=len(returns),
    )


def _check_alignment(transitions: Transitions) -> None:
    """Check that within an episode each row begins where the one before ended."""
    rows = len(transitions)
    for chunk in row_chunks(rows - 1):
        after = slice(chunk.start + 1, chunk.stop + 1)
        follows = (transitions.next_observations[chunk] == transitions.observations[after]).all(
            axis=1
        )
        follows |= transitions.episodes[chunk] != transitions.episodes[after]
        if not follows.all():
            row = chunk.start + int(follows.argmin())
            raise UserError(
                f"next_observations: row {row} differs from the observations of row {row + 1} "
                "of the same episode"
            )


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version(), "qss_offline": qss_offline.__version__}
    for package in ("numpy", "gymnasium", "mujoco", "minari", "h5py", "pyarrow"):
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return versions


def _common_metadata(
    spec: DatasetSpec, returns: BehaviourReturns, steps: int, episodes: int
) -> tuple[spaces.Box, dict[str, Any]]:
    """Return the observation space, and the metadata that both datasets share.

    Everything is of plain Python types: Minari, changing the file later, would truncate it at
    the first NumPy scalar.
    """
    env = make_env(spec.env_id)
    try:
        observation_space, action_space = env.observation_space, env.action_space
    finally:
        env.close()
    assert isinstance(observation_space, spaces.Box) and isinstance(action_space, spaces.Box)
    metadata: dict[str, Any] = {
        "total_episodes": episodes,
        "total_steps": steps,
        "data_format": "hdf5",
        "jpeg_encoding": True,
        "observation_space": serialize_space(observation_space),
        "action_space": serialize_space(action_space),
        "minari_version": version("minari"),
        "author": ["QSS Offline"],
        "env_id": spec.env_id,
        "random_action_prob": spec.random_action_prob,
        "seed": spec.seed,
        "transitions": steps,
        "spec": spec.identity(),
        "behaviour_return": asdict(returns),
        "value_dtype": "float32",
        "versions": _versions(),
    }
    # An environment with arguments that JSON can't hold is recorded by its id alone.
    with suppress(TypeError, ValueError):
        metadata["env_spec"] = env_spec(spec.env_id).to_json()
    return observation_space, metadata


def _kind_metadata(spec: DatasetSpec, kind: str, digests: dict[str, str]) -> dict[str, Any]:
    twin = "act" if kind == "obs" else "obs"
    percent = f"{100 * spec.random_action_prob:g}%"
    metadata: dict[str, Any] = {
        "dataset_id": _pair_id(spec.base_id, kind),
        "twin": _pair_id(spec.base_id, twin),
        "digest": digests[kind],
        "twin_digest": digests[twin],
        "observation_only": kind == "obs",
        "algorithm_name": f"{percent} uniformly random actions, else an expert's"
        if spec.behaviour_expert
        else "uniformly random actions",
    }
    if kind == "obs":
        metadata["action_space"] = serialize_space(
            spaces.Box(-math.inf, math.inf, (0,), np.float32)
        )
        metadata["description"] = (
            f"{spec.env_id}, {percent} random behaviour, recorded without actions: the action "
            "space is the empty Box(0,) and no byte of an action is stored. Observations and "
            "rewards are float32 values in the environment's dtype."
        )
    else:
        metadata["description"] = (
            f"{spec.env_id}, {percent} random behaviour. Observations and rewards are float32 "
            "values in the environment's dtype."
        )
    return metadata


def _write_bodies(
    stage: Stage,
    dtype: np.dtype[Any],
    steps: int,
    episodes: int,
    workers: int | None,
    progress: ProgressFactory,
) -> None:
    jobs = [
        (str(stage.folder / kind / "data"), dtype.str, steps, episodes) for kind in ("act", "obs")
    ]
    if workers is None:
        workers = min(2, available_cores()) if episodes > _WORTH_A_WORKER else 1
    with progress("writing", 2 * episodes, "episodes") as report:
        for _ in run_jobs(_write_body, jobs, workers, report):
            pass


def _write_body(job: tuple[str, str, int, int], tick: Tick) -> None:
    """Write the episodes of the sidecar in a data folder as Minari's HDF5 file."""
    folder, dtype, steps, episodes = Path(job[0]), np.dtype(job[1]), job[2], job[3]
    # From the file and not from memory: a second process gets its input without a copy.
    sidecar = columns.read_sidecar(folder / columns.FILE_NAME, steps, episodes)
    path = folder / _BODY_FILE
    try:
        with h5py.File(path, "w", libver="latest", track_order=True) as file:
            _BodyWriter(file).write(sidecar.transitions, dtype, tick)
    except (OSError, RuntimeError) as error:
        # HDF5 tells of a full disk in either way, at the length of a page.
        usage = shutil.disk_usage(folder)
        reason = "no space left on the disk" if usage.free < 1 << 20 else str(error).split("\n")[0]
        raise UserError(f"cannot write {path}: {reason}") from error


class _BodyWriter:
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
        starts = transitions.episode_starts().tolist()
        ends = [*starts[1:], len(transitions)]
        self._types.setdefault(dtype.str, h5t.py_create(dtype, logical=True))
        actions = transitions.actions
        if actions is None:
            actions = np.zeros((len(transitions), 0), dtype=np.float32)
        for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
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


def recorded_returns(metadata: dict[str, Any]) -> BehaviourReturns | None:
    """Return the behaviour's returns from a dataset's metadata, None where there are none."""
    recorded = metadata.get("behaviour_return")
    try:
        if not isinstance(recorded, dict):
            return None
        values = {key: float(recorded[key]) for key in ("mean", "std", "min", "max")}
        return BehaviourReturns(n=int(recorded["n"]), **values)
    except (KeyError, TypeError, ValueError):
        return None
