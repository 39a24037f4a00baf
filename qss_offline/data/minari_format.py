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
under a lock that dies with its holder, and renamed into place when all of it is on disk; a
dataset that is replaced changes places with the new one in one step. A builder that is killed
leaves nothing visible; one that is killed between its two renames is finished by the next.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import platform
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from h5py import h5a, h5d, h5g, h5o, h5p, h5s, h5t
from minari.dataset.minari_dataset import parse_dataset_id
from minari.serialization import deserialize_space, serialize_space
from minari.storage.datasets_root_dir import get_dataset_path

import qss_offline
from qss_offline.data import sidecar as columns
from qss_offline.data.collect import complete_returns
from qss_offline.data.environments import env_spec, make_env
from qss_offline.data.exchange import exchange
from qss_offline.data.metadata import MAX_BYTES, parse_metadata
from qss_offline.data.specs import DatasetSpec
from qss_offline.data.transitions import Transitions, row_chunks
from qss_offline.errors import UserError, nearest
from qss_offline.files import fsync_directory, read_regular_file, write_json
from qss_offline.parallel.processes import Tick, available_cores, run_jobs
from qss_offline.parallel.reporting import Notice, ProgressFactory, no_progress, print_notice

METADATA_FILE = "metadata.json"
BODY_FILE = "main_data.hdf5"
NAMESPACE_FILE = "namespace_metadata.json"
_WORKPLACE = ".qss-offline"
_READY_FILE = "ready.json"
# Numbers in an observation or action that a dataset may declare.
_MAX_SPACE_NUMBERS = 1 << 22
# HDF5 keeps an array inside its object header up to 64 KiB, headers' own bytes included.
_MAX_COMPACT_BYTES = 60_000
# Equal arrays that are worth remembering; longer ones hardly ever recur.
_MAX_SHARED_BYTES = 256
_MAX_SHARED = 4096
_EPISODES_PER_TICK = 500
# Starting a second process takes about as long as writing this many episodes.
_WORTH_A_WORKER = 8_000
_VERSIONED = re.compile(r"-v\d+$")
# Folders in one another: `data`, an episode, and room for formats to come.
_MAX_DEPTH = 8


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


@dataclass(frozen=True)
class StoredDatasets:
    """What was written: a pair, or an observation-only dataset alone.

    Attributes:
        obs_id: the dataset without actions.
        act_id: its twin with actions, None where there is none.
        obs_digest: of the observation-only columns.
        act_digest: of the columns with actions, None likewise.
        transitions: steps in each.
        episodes: episodes in each.
        behaviour_return: of the behaviour that was recorded.
    """

    obs_id: str
    act_id: str | None
    obs_digest: str
    act_digest: str | None
    transitions: int
    episodes: int
    behaviour_return: BehaviourReturns

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of what was written."""
        return (self.obs_id,) if self.act_id is None else (self.obs_id, self.act_id)


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


def check_id(dataset_id: str) -> None:
    """Check that an id is one, before it becomes part of a path or an address.

    Raises:
        UserError: it isn't.
    """
    try:
        parse_dataset_id(dataset_id)
    except (ValueError, TypeError) as error:
        raise UserError(
            f"dataset id {dataset_id!r} is malformed: expected namespace/.../name-v0, "
            "of letters, digits, _ and -"
        ) from error


def check_base_id(base_id: str) -> None:
    """Check the common part of a pair's ids.

    Raises:
        UserError: it is malformed, lacks a namespace, or has a version.
    """
    expected = (
        "expected namespace/.../name, of letters, digits, _ and -, each beginning with no -, "
        "the namespace of two or more, without a version"
    )
    if not isinstance(base_id, str) or _VERSIONED.search(base_id):
        raise UserError(
            f"dataset id {base_id!r}: {expected}; -obs-v0 and -act-v0 are put behind it"
        )
    if not re.fullmatch(r"\w[A-Za-z0-9_-]+(/\w[A-Za-z0-9_-]*)+", base_id, re.ASCII):
        raise UserError(f"dataset id {base_id!r}: {expected}")
    check_place(pair_id(base_id, "obs"))


def check_place(dataset_id: str) -> None:
    """Check that a dataset of this id would hide no other, and be hidden by none.

    For Minari whatever holds a folder `data` is a dataset, and it doesn't look below.

    Raises:
        UserError: the id is malformed, has a part `data`, or lies inside another dataset.
    """
    check_id(dataset_id)
    parts = dataset_id.split("/")
    if "data" in parts:
        raise UserError(
            f"dataset id {dataset_id!r}: a part named data would hide every dataset beside it; "
            "choose another name"
        )
    root = minari_root()
    for depth in range(1, len(parts)):
        if root.joinpath(*parts[:depth], "data", METADATA_FILE).exists():
            outer = "/".join(parts[:depth])
            raise UserError(f"dataset id {dataset_id!r}: {outer} is a dataset; choose another name")


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
    return sorted(dataset_ids(minari_root()))


def dataset_ids(root: Path, below: str = "") -> Iterator[str]:
    """Yield the ids of all folders that look like datasets, those half-built included.

    Args:
        root: the folder of all datasets.
        below: a folder in it, beside or under which datasets are looked for.
    """
    waiting = [below]
    while waiting:
        name = waiting.pop()
        try:
            with os.scandir(root / name) as entries:
                inside = [one.name for one in entries if one.is_dir(follow_symlinks=False)]
        except OSError:
            continue  # gone meanwhile, or not to be entered
        # A namespace may be named data, too.
        is_dataset = "data" in inside and (
            (root / name / "data" / METADATA_FILE).exists() or _VERSIONED.search(name)
        )
        if is_dataset and name:
            yield name
        else:
            waiting += [f"{name}/{one}".lstrip("/") for one in inside if not one.startswith(".")]


def data_folder(dataset_id: str, root: Path | None = None) -> Path:
    """Return the `data` folder of a dataset.

    Args:
        dataset_id: Minari id.
        root: the folder of all datasets; by default Minari's.

    Raises:
        UserError: the id is malformed or unknown, its folder holds no data, or something in it
            leads out of it.
    """
    check_id(dataset_id)
    root = minari_root() if root is None else root
    folder = root / dataset_id
    if not folder.is_dir():
        known = local_dataset_ids()
        near = nearest(dataset_id, known) or ("" if known else "; there are no datasets yet")
        raise UserError(f"no dataset {dataset_id!r} in {root}{near}")
    data = folder / "data"
    check_folder(folder, f"dataset {dataset_id!r}")
    if not (data / METADATA_FILE).is_file():
        raise UserError(
            f"dataset {dataset_id!r} is half-built, {data / METADATA_FILE} is missing; "
            f"delete {folder} and build or download it again"
        )
    return data


def check_folder(folder: Path, what: str) -> None:
    """Check that a folder holds files and folders only: no way out of it, no pipe, no device.

    Raises:
        UserError: it holds a symbolic link or something that is no file; `what` names it.
    """
    for _ in plain_files(folder, what):
        pass


def plain_files(folder: Path, what: str) -> Iterator[Path]:
    """Yield all files in a folder, once it is sure of each that it is one.

    Raises:
        UserError: the folder holds a symbolic link, something that is no file, or folders nested
            too deeply; `what` names it.
    """
    # Links are refused even where they stay inside: nobody writes them, and a target that is
    # inside now need not be when it is opened.
    waiting = [(folder, 0)]
    while waiting:
        parent, depth = waiting.pop()
        if depth > _MAX_DEPTH:
            raise UserError(f"{what}: {parent} is nested too deeply: refused")
        with os.scandir(parent) as entries:
            for entry in entries:
                if entry.is_symlink():
                    raise UserError(f"{what}: {entry.path} is a link to elsewhere: refused")
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((Path(entry.path), depth + 1))
                elif entry.is_file(follow_symlinks=False):
                    yield Path(entry.path)
                else:
                    raise UserError(f"{what}: {entry.path} is neither a file nor a folder: refused")


def read_metadata(dataset_id: str, root: Path | None = None) -> dict[str, Any]:
    """Return a dataset's metadata, the keys that every dataset has being checked.

    Args:
        dataset_id: Minari id.
        root: the folder of all datasets; by default Minari's.

    Raises:
        UserError: the dataset is unknown, half-built, or its metadata are damaged.
    """
    path = data_folder(dataset_id, root) / METADATA_FILE
    content = read_regular_file(path, MAX_BYTES)
    try:
        metadata = parse_metadata(content)
    except UserError as error:
        raise UserError(
            f"dataset {dataset_id!r}: {path} is damaged ({error}); "
            f"delete {path.parent.parent} and build or download it again"
        ) from error
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
        _check_size(json.loads(metadata[key]))
        with np.errstate(over="ignore"):  # a bound beyond the dtype is infinite
            space = deserialize_space(metadata[key])
    except Exception as error:
        # Whatever a stranger's description of a space makes Minari and Gymnasium raise.
        raise UserError(
            f"dataset {metadata['dataset_id']!r}: its {key} can't be read "
            f"({' '.join(repr(error).split())[:200]})"
        ) from error
    assert isinstance(space, spaces.Space)
    return space


def _check_size(description: Any) -> int:
    """Return how many numbers a space's description declares; refuse it before it is made."""
    numbers = 0
    if isinstance(description, dict):
        subspaces = description.get("subspaces", [])
        inner = subspaces.values() if isinstance(subspaces, dict) else subspaces
        numbers += sum(_check_size(part) for part in inner)
        if np.dtype(description.get("dtype", "float32")).kind not in "biuf":
            raise ValueError(f"its dtype is {description['dtype']!r}")
        shape = description.get("shape", [])
        declared = [math.prod(int(size) for size in shape)] if shape else []
        for key in ("n", "nvec"):
            declared.append(_total(description.get(key, 0)))
        if any(number < 0 for number in declared):
            raise ValueError("a size is negative")
        numbers += sum(declared)
    if numbers > _MAX_SPACE_NUMBERS:
        raise ValueError(f"it declares more than {_MAX_SPACE_NUMBERS:,} numbers")
    return numbers


def _total(sizes: Any) -> int:
    return sum(map(_total, sizes)) if isinstance(sizes, list) else int(sizes)


def is_placeholder(action_space: spaces.Space[Any]) -> bool:
    """Return whether an action space is this package's way to say "no actions"."""
    return isinstance(action_space, spaces.Box) and action_space.shape == (0,)


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
    """Rename the datasets of a ready folder into place; what was there before is replaced.

    Where the system lets two names be swapped, a dataset that is replaced is visible throughout;
    elsewhere it is away between two renames.
    """
    root = folder.parent.parent
    datasets = json.loads((folder / _READY_FILE).read_text())["datasets"]
    for name, (dataset_id, inode) in datasets.items():
        source, target = folder / name, root / dataset_id
        if not source.exists() or source.stat().st_ino != inode:
            continue  # moved by the builder that was killed afterwards
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and not exchange(source, target):
            target.rename(folder / f"replaced-{name}-{os.urandom(4).hex()}")
        if not target.exists():
            source.rename(target)
        fsync_directory(target.parent)


def publish(stage: Stage, datasets: dict[str, str]) -> None:
    """Make finished datasets visible. After the ready file is written, nothing can undo it.

    Args:
        stage: where they were built.
        datasets: from the name of a folder in the stage to a Minari id, in the order in which
            they become visible.
    """
    for path in [*stage.folder.rglob("*"), stage.folder]:
        if path.is_dir():
            fsync_directory(path)
        else:
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    root = minari_root()
    for dataset_id in datasets.values():
        parts = dataset_id.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            namespace = root.joinpath(*parts[:depth])
            namespace.mkdir(exist_ok=True)
            if not (namespace / NAMESPACE_FILE).exists():
                write_json(namespace / NAMESPACE_FILE, {})
    # The inode tells the new folder from the one that it replaces.
    moves = {name: (id_, (stage.folder / name).stat().st_ino) for name, id_ in datasets.items()}
    write_json(stage.folder / _READY_FILE, {"datasets": moves})
    _move_into_place(stage.folder)


def pair_id(base_id: str, kind: str) -> str:
    """Return the Minari id of one of a pair: of kind "obs" or "act"."""
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
    with nullcontext(stage_) if stage_ is not None else stage(spec.base_id) as held:
        (pair,) = write_pairs(
            [(transitions, spec, held)], overwrite=overwrite, workers=workers, progress=progress
        )
    return pair


def write_pairs(
    recordings: Sequence[tuple[Transitions, DatasetSpec, Stage]],
    *,
    overwrite: bool = False,
    workers: int | None = None,
    progress: ProgressFactory = no_progress,
) -> list[DatasetPair]:
    """Write the pairs of several recordings side by side; see `write_pair`.

    Args:
        recordings: each with its spec and a stage that the caller holds.
        overwrite: replace datasets that exist.
        workers: processes, one for each body that is being written.
        progress: makes a reporter of episodes written, of all datasets together.
    """
    drafts = [
        Draft(transitions, _spec_description(spec, behaviour_returns(transitions, spec)), held)
        for transitions, spec, held in recordings
    ]
    pairs = []
    for written in write_drafts(drafts, overwrite=overwrite, workers=workers, progress=progress):
        assert written.act_id is not None and written.act_digest is not None
        pairs.append(
            DatasetPair(
                obs_id=written.obs_id,
                act_id=written.act_id,
                obs_digest=written.obs_digest,
                act_digest=written.act_digest,
                transitions=written.transitions,
                episodes=written.episodes,
                behaviour_return=written.behaviour_return,
                built=True,
            )
        )
    return pairs


def write_datasets(
    transitions: Transitions,
    description: Description,
    *,
    overwrite: bool = False,
    workers: int | None = None,
    progress: ProgressFactory = no_progress,
) -> StoredDatasets:
    """Write a recording as a pair of Minari datasets, or the observation-only one alone.

    Args:
        transitions: the recording; actions are left out where the description has no space
            for them.
        description: what is said about it, ids and spaces included.
        overwrite: replace datasets that exist.
        workers: 2 writes both bodies side by side; by default where that is quicker.
        progress: makes a reporter of episodes written, of both datasets together.

    Raises:
        UserError: the rows don't follow each other or don't fit the spaces, actions are
            missing, a dataset of that id exists, the root can't be written to, or the disk is
            full.
    """
    with stage(description.base_id) as held:
        (stored,) = write_drafts(
            [Draft(transitions, description, held)],
            overwrite=overwrite,
            workers=workers,
            progress=progress,
        )
    return stored


@dataclass(frozen=True, eq=False)
class Draft:
    """A recording that is to become datasets.

    Attributes:
        transitions: the recording; actions are left out where the description has no space
            for them.
        description: what is said about it, ids and spaces included.
        stage: where its files are made, held by whoever calls.
    """

    transitions: Transitions
    description: Description
    stage: Stage

    @property
    def ids(self) -> dict[str, str]:
        """From a kind of dataset, "obs" or "act", to its id."""
        base_id = self.description.base_id
        return {kind: pair_id(base_id, kind) for kind in self.description.kinds}


def write_drafts(
    drafts: Sequence[Draft],
    *,
    overwrite: bool = False,
    workers: int | None = None,
    progress: ProgressFactory = no_progress,
) -> list[StoredDatasets]:
    """Write several recordings side by side; see `write_datasets`.

    Each becomes visible as soon as its own datasets are whole.
    """
    for draft in drafts:
        _check_draft(draft, overwrite)
    stored, jobs, owners = [], [], []
    for index, draft in enumerate(drafts):
        stored.append(_write_sidecars(draft))
        dtype = draft.description.observation_space.dtype
        assert dtype is not None
        for kind in draft.ids:
            folder = str(draft.stage.folder / kind / "data")
            jobs.append((folder, dtype.str, stored[-1].transitions, stored[-1].episodes))
            owners.append(index)
    episodes = sum(job[3] for job in jobs)
    if workers is None:
        worth_it = episodes > 2 * _WORTH_A_WORKER
        workers = min(len(jobs), available_cores()) if worth_it else 1
    missing = [owners.count(index) for index in range(len(drafts))]
    with progress("writing", episodes, "episodes") as report:
        for job, _ in run_jobs(_write_body, jobs, workers, report):
            missing[owners[job]] -= 1
            if missing[owners[job]] == 0:
                _publish_draft(drafts[owners[job]], stored[owners[job]])
    return stored


def _check_draft(draft: Draft, overwrite: bool) -> None:
    for dataset_id in draft.ids.values():
        check_place(dataset_id)
        if not overwrite and (minari_root() / dataset_id).exists():
            raise UserError(f"dataset {dataset_id!r} exists; overwrite it or choose a name")
    if "act" in draft.ids and draft.transitions.actions is None:
        raise UserError("actions: a pair of datasets is written from a recording with actions")
    _check_alignment(draft.transitions)
    _check_spaces(draft.transitions, draft.description)


def _write_sidecars(draft: Draft) -> StoredDatasets:
    """Write the columns of a draft, from which its bodies are made."""
    parts = {"obs": draft.transitions.without_actions(), "act": draft.transitions}
    steps, episodes = len(draft.transitions), len(draft.transitions.episode_starts())
    digests = {}
    for kind, dataset_id in draft.ids.items():
        data = draft.stage.folder / kind / "data"
        data.mkdir(parents=True)
        digests[kind] = columns.digest(parts[kind])
        info = columns.SidecarInfo(steps, episodes, dataset_id, digests[kind])
        columns.write_sidecar(data / columns.FILE_NAME, parts[kind], info)
    return StoredDatasets(
        obs_id=draft.ids["obs"],
        act_id=draft.ids.get("act"),
        obs_digest=digests["obs"],
        act_digest=digests.get("act"),
        transitions=steps,
        episodes=episodes,
        behaviour_return=draft.description.behaviour_return,
    )


def _publish_draft(draft: Draft, stored: StoredDatasets) -> None:
    """Write the metadata of a draft whose bodies are written, and make it visible."""
    digests = {"obs": stored.obs_digest}
    if stored.act_digest is not None:
        digests["act"] = stored.act_digest
    shared = _shared_metadata(draft.description, stored.transitions, stored.episodes)
    for kind in draft.ids:
        data = draft.stage.folder / kind / "data"
        size = sum(file.stat().st_size for file in data.iterdir()) / 1e6
        own_metadata = _kind_metadata(draft.description, kind, digests)
        write_json(data / METADATA_FILE, shared | own_metadata | {"dataset_size": round(size, 1)})
    # With actions first: who finds the observation-only dataset finds its twin too.
    publish(draft.stage, {kind: draft.ids[kind] for kind in ("act", "obs") if kind in draft.ids})


def _check_spaces(transitions: Transitions, description: Description) -> None:
    if description.observation_space.shape != (transitions.obs_dim,):
        raise UserError(
            f"observations: they hold {transitions.obs_dim} numbers, but their space is "
            f"{description.observation_space.shape}"
        )
    actions = transitions.actions
    if (
        description.action_space is not None
        and actions is not None
        and description.action_space.shape != actions.shape[1:]
    ):
        raise UserError(
            f"actions: they hold {actions.shape[1]} numbers, but their space is "
            f"{description.action_space.shape}"
        )


def returns_of(returns: npt.NDArray[np.float64]) -> BehaviourReturns:
    """Return the spread of undiscounted returns, (number of episodes,)."""
    return BehaviourReturns(
        mean=float(returns.mean()),
        std=float(returns.std()),
        min=float(returns.min()),
        max=float(returns.max()),
        n=len(returns),
    )


def behaviour_returns(transitions: Transitions, spec: DatasetSpec) -> BehaviourReturns:
    """Return the spread of the behaviour's returns over the episodes that weren't cut."""
    return returns_of(complete_returns(transitions, spec))


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


def _spec_description(spec: DatasetSpec, returns: BehaviourReturns) -> Description:
    env = make_env(spec.env_id)
    try:
        observation_space, action_space = env.observation_space, env.action_space
    finally:
        env.close()
    assert isinstance(observation_space, spaces.Box) and isinstance(action_space, spaces.Box)
    percent = f"{100 * spec.random_action_prob:g}%"
    return Description(
        base_id=spec.base_id,
        observation_space=observation_space,
        action_space=action_space,
        text=f"{spec.env_id}, {percent} random behaviour",
        algorithm_name=f"{percent} uniformly random actions, else an expert's"
        if spec.behaviour_expert
        else "uniformly random actions",
        behaviour_return=returns,
        metadata=env_metadata(spec.env_id)
        | {
            "author": ["QSS Offline"],
            "random_action_prob": spec.random_action_prob,
            "seed": spec.seed,
            "spec": spec.identity(),
        },
    )


def env_metadata(env_id: str) -> dict[str, Any]:
    """Return how an environment is recorded: its id and, where possible, its specification."""
    metadata: dict[str, Any] = {"env_id": env_id}
    # An environment with arguments that JSON can't hold is recorded by its id alone.
    with suppress(TypeError, ValueError):
        metadata["env_spec"] = env_spec(env_id).to_json()
    return metadata


def _shared_metadata(description: Description, steps: int, episodes: int) -> dict[str, Any]:
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
        "value_dtype": "float32",
        "versions": _versions(),
        "algorithm_name": description.algorithm_name,
    }


_NO_ACTIONS = spaces.Box(-math.inf, math.inf, (0,), np.float32)


def _kind_metadata(description: Description, kind: str, digests: dict[str, str]) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "dataset_id": pair_id(description.base_id, kind),
        "digest": digests[kind],
        "observation_only": kind == "obs",
    }
    twin = "act" if kind == "obs" else "obs"
    if twin in digests:
        metadata["twin"] = pair_id(description.base_id, twin)
        metadata["twin_digest"] = digests[twin]
    precision = "Observations and rewards are float32 values in the environment's dtype."
    if kind == "obs":
        metadata["action_space"] = serialize_space(_NO_ACTIONS)
        metadata["description"] = (
            f"{description.text}, recorded without actions: the action space is the empty "
            f"Box(0,) and no byte of an action is stored. {precision}"
        )
    else:
        metadata["action_space"] = serialize_space(description.action_space)
        metadata["description"] = f"{description.text}. {precision}"
    return metadata


def _write_body(job: tuple[str, str, int, int], tick: Tick) -> None:
    """Write the episodes of the sidecar in a data folder as Minari's HDF5 file."""
    folder, dtype, steps, episodes = Path(job[0]), np.dtype(job[1]), job[2], job[3]
    # From the file and not from memory: a second process gets its input without a copy.
    sidecar = columns.read_sidecar(folder / columns.FILE_NAME, steps, episodes)
    path = folder / BODY_FILE
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


def recorded_returns(metadata: dict[str, Any]) -> BehaviourReturns | None:
    """Return the behaviour's returns from a dataset's metadata, None where there are none."""
    recorded = metadata.get("behaviour_return")
    if recorded is None:
        return None
    names = [field.name for field in fields(BehaviourReturns)]
    return BehaviourReturns(**{name: recorded[name] for name in names})
