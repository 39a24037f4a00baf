"""Loading any Minari dataset as columns: from its sidecar, or through its episodes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from qss_offline.data import sidecar as columns
from qss_offline.data.episodes import read_episodes
from qss_offline.data.local import data_folder, read_metadata
from qss_offline.data.metadata import env_id_of
from qss_offline.data.minari_format import (
    EPISODES_FILE,
    BehaviourReturns,
    recorded_returns,
    returns_of,
)
from qss_offline.data.spaces import is_placeholder, read_space
from qss_offline.data.transitions import Float32Array, Transitions, row_chunks
from qss_offline.errors import UserError
from qss_offline.parallel.reporting import Notice, print_notice

# A column whose spread is below this is as good as constant: dividing by it would amplify noise.
# Units are the user's own, so that the spread is compared with the last digits that float32 keeps.
_LEAST_STD, _GRAINS = 1e-12, 4
_MOST_ENDED = 0.5


@dataclass(frozen=True, eq=False)
class DatasetInfo:
    """What is known about a dataset besides its rows.

    Attributes:
        dataset_id: Minari id.
        env_id: Gymnasium id, None where the dataset doesn't say.
        observation_only: whether it holds no actions.
        random_action_prob: of the behaviour, None where unknown.
        behaviour_return: of the recorded behaviour, None where unknown.
        digest: of the columns (see `columns.digest`).
        total_steps: rows.
        total_episodes: episodes.
        action_low: (act_dim,) float32 bounds of the actions, None without actions.
        action_high: likewise.
        rewards_missing: whether none were recorded; those that are stored are 0.
        shifted: whether something was subtracted from observations when they were imported.
    """

    dataset_id: str
    env_id: str | None
    observation_only: bool
    random_action_prob: float | None
    behaviour_return: BehaviourReturns | None
    digest: str
    total_steps: int
    total_episodes: int
    action_low: Float32Array | None
    action_high: Float32Array | None
    rewards_missing: bool = False
    shifted: bool = False


@dataclass(frozen=True, eq=False)
class LoadedDataset:
    """A dataset ready for use.

    Attributes:
        transitions: its rows; memory-mapped where a sidecar was there.
        info: what else is known.
    """

    transitions: Transitions
    info: DatasetInfo


def recorded_behaviour(dataset: LoadedDataset) -> BehaviourReturns:
    """Return what recorded episodes returned: as the dataset says, else of all that it holds.

    What it says leaves out episodes that the end of a recording cut.
    """
    stated = dataset.info.behaviour_return
    return returns_of(dataset.transitions.episode_returns()) if stated is None else stated


def longest_cut(dataset: LoadedDataset) -> int | None:
    """Return the steps of the longest recorded episode, None unless most of them were cut.

    Returns of an environment that never ends an episode can be compared over as many steps.
    """
    transitions = dataset.transitions
    lengths = transitions.episode_lengths()
    ended = transitions.terminations[transitions.episode_starts() + lengths - 1]
    return None if np.mean(ended) >= _MOST_ENDED else int(lengths.max())


def load_transitions(
    dataset_id: str,
    *,
    notice: Notice = print_notice,
) -> LoadedDataset:
    """Load a local Minari dataset.

    With a sidecar this maps a file and checks its digest, once a process while the file stays as it
    is. Without one, or where episodes were added or changed since it was written, the episodes are
    read one by one, which is said, and a sidecar is written where the folder allows it.

    Args:
        dataset_id: Minari id.
        notice: called with a line about whatever is out of the ordinary.

    Raises:
        UserError: the id is unknown, the dataset half-built or damaged, its observations not
            vectors, NaN or infinite, its arrays don't fit together, or float32
            can't hold how its numbers change.
    """
    metadata = read_metadata(dataset_id)
    observation_space = read_space(metadata, "observation_space")
    if not isinstance(observation_space, spaces.Box) or len(observation_space.shape) != 1:
        raise UserError(
            f"dataset {dataset_id!r}: its observations are {_kind(observation_space)}, but vectors "
            "(a one-dimensional Box) are needed; flatten them first: "
            "`qss data import` does"
        )
    actual = observation_space.shape[0]
    action_space = _usable_actions(metadata, notice)
    sidecar = _from_sidecar(dataset_id, metadata, notice)
    if sidecar is None:
        sidecar = _from_episodes(dataset_id, metadata, action_space is not None, notice)
    elif sidecar.transitions.obs_dim != actual or (
        (sidecar.transitions.actions is None) != (action_space is None)
    ):
        raise UserError(
            f"dataset {dataset_id!r}: its {columns.FILE_NAME} does not fit its spaces; "
            f"delete {sidecar_path(dataset_id)} to rebuild it from the episodes"
        )
    probability = metadata.get("random_action_prob")
    info = DatasetInfo(
        dataset_id=dataset_id,
        env_id=env_id_of(metadata),
        observation_only=action_space is None,
        random_action_prob=None if probability is None else float(probability),
        behaviour_return=recorded_returns(metadata),
        digest=sidecar.info.digest,
        total_steps=len(sidecar.transitions),
        total_episodes=metadata["total_episodes"],
        action_low=None if action_space is None else action_space.low.astype(np.float32),
        action_high=None if action_space is None else action_space.high.astype(np.float32),
        rewards_missing=metadata.get("rewards_missing") is True,
        shifted=bool(metadata.get("observation_offsets")),
    )
    return LoadedDataset(sidecar.transitions, info)


def _kind(space: spaces.Space[Any]) -> str:
    if isinstance(space, spaces.Box):
        return f"arrays of shape {space.shape}"
    return f"of kind {type(space).__name__}"


def _usable_actions(metadata: dict[str, Any], notice: Notice) -> spaces.Box | None:
    space = read_space(metadata, "action_space")
    if is_placeholder(space):
        return None
    if metadata.get("observation_only") is True:
        raise UserError(
            f"dataset {metadata['dataset_id']!r}: its metadata say observation_only, "
            f"but its action space is {_kind(space)}"
        )
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return space
    notice(
        f"{metadata['dataset_id']}: its actions are {_kind(space)}, not vectors; they are left out"
    )
    return None


def sidecar_path(dataset_id: str) -> Path:
    """Return where a local dataset's sidecar is, or would be."""
    return data_folder(dataset_id) / columns.FILE_NAME


def _from_sidecar(
    dataset_id: str, metadata: dict[str, Any], notice: Notice
) -> columns.Sidecar | None:
    path = sidecar_path(dataset_id)
    if not path.exists():
        notice(
            f"{dataset_id}: no {columns.FILE_NAME}; reading {metadata['total_episodes']:,} "
            "episodes one by one"
        )
        return None
    try:
        sidecar = columns.open_sidecar(
            path,
            metadata["total_steps"],
            metadata["total_episodes"],
            expected_digest(metadata),
        )
        if _newest_episode(path.parent) <= path.stat().st_mtime_ns:
            return sidecar
        happened = f"its episodes are newer than {columns.FILE_NAME}"
    except columns.StaleSidecarError:
        happened = f"episodes were added since {columns.FILE_NAME} was written"
    notice(f"{dataset_id}: {happened}; reading {metadata['total_episodes']:,} episodes one by one")
    return None


def _newest_episode(data: Path) -> int:
    """Return when a file of the episodes was last written to, in nanoseconds.

    The sidecar is written after them, so that whoever changes an episode makes it the newer one.
    """
    files = [data / EPISODES_FILE]
    if not files[0].exists():
        # Arrow and Parquet keep a folder for each episode.
        files = [file for file in data.glob("*/*") if file.is_file()]
    return max((file.stat().st_mtime_ns for file in files), default=0)


def expected_digest(metadata: dict[str, Any]) -> str | None:
    """Return what the dataset says of its own content, None where it says nothing.

    It is the digest of the dataset as it was built. Minari leaves it there when episodes are
    appended, so it counts only while the number of steps is the old one.
    """
    digest = metadata.get("digest")
    built = metadata.get("transitions") == metadata["total_steps"]
    return digest if built and isinstance(digest, str) else None


def _from_episodes(
    dataset_id: str,
    metadata: dict[str, Any],
    with_actions: bool,
    notice: Notice,
) -> columns.Sidecar:
    data = data_folder(dataset_id)
    stored = read_episodes(dataset_id, metadata, data, with_actions=with_actions)
    if stored.unfinished:
        notice(
            f"{dataset_id}: {stored.unfinished} episodes end without termination or truncation; "
            "they count as truncated"
        )
    if stored.rounded:
        role, places = next(iter(stored.rounded.items()))
        raise UserError(
            f"dataset {dataset_id!r}: float32 can't hold how {role}[{places[0]}] changes, which "
            f"would be rounded away; qss data import {dataset_id} --into NAME leaves it out "
            "(--ignore), subtracts its first value (--offset), or takes what is left (--rounding)"
        )
    sidecar = stored.sidecar
    if expected_digest(metadata) not in (None, sidecar.info.digest):
        raise UserError(
            f"dataset {dataset_id!r}: its episodes do not match the digest in its metadata; "
            "build or download it again"
        )
    try:
        columns.write_sidecar(sidecar_path(dataset_id), sidecar.transitions, sidecar.info)
    except UserError as error:
        notice(f"{dataset_id}: not kept for the next time, {error}")
    return sidecar


def observation_statistics(transitions: Transitions) -> tuple[Float32Array, Float32Array]:
    """Return the mean and standard deviation of the observations, (obs_dim,) float32 each.

    Summed in float64, chunk by chunk. A column that is as good as constant gets a standard
    deviation of 1, so that dividing by it changes nothing.
    """
    rows = len(transitions)
    total = np.zeros(transitions.obs_dim)
    for chunk in row_chunks(rows):
        total += transitions.observations[chunk].sum(axis=0, dtype=np.float64)
    mean = total / rows
    squares = np.zeros(transitions.obs_dim)
    for chunk in row_chunks(rows):
        squares += ((transitions.observations[chunk] - mean) ** 2).sum(axis=0)
    std = np.sqrt(squares / rows)
    std[std <= np.maximum(_LEAST_STD, _GRAINS * np.finfo(np.float32).eps * np.abs(mean))] = 1.0
    return mean.astype(np.float32), std.astype(np.float32)
