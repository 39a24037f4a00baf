"""Recordings become datasets: arrays, other Minari datasets, d3rlpy's buffers.

Each function here writes a pair of datasets, or the observation-only dataset alone, of the ids
`BASE-obs-v0` and `BASE-act-v0`; reads what it wrote again, and compares. Actions are stripped by
writing new files without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from minari.serialization import serialize_space

from qss_offline.data import verify
from qss_offline.data.arrays import Array, transitions_of
from qss_offline.data.environments import make_env, resolve_env_id
from qss_offline.data.episodes import read_episodes
from qss_offline.data.local import check_base_id, data_folder, read_metadata
from qss_offline.data.minari_format import Description, env_metadata, returns_of
from qss_offline.data.spaces import is_placeholder, is_vector, read_space
from qss_offline.data.transitions import Transitions
from qss_offline.data.write import StoredDatasets, write_datasets
from qss_offline.errors import UserError
from qss_offline.parallel.reporting import Notice, ProgressFactory, no_progress, print_notice


@dataclass(frozen=True)
class About:
    """What the importer says about a recording; all of it is optional.

    Attributes:
        env_id: Gymnasium id or short name; its spaces are taken, and must fit.
        text: a sentence: what this is.
        algorithm_name: who acted.
        author: names.
        random_action_prob: probability of a uniformly random action at each step.
        license: SPDX identifier, such as "cc-by-4.0".

    Raises:
        UserError: the environment is unknown or the probability isn't in [0, 1].
    """

    env_id: str | None = None
    text: str | None = None
    algorithm_name: str | None = None
    author: tuple[str, ...] = ()
    random_action_prob: float | None = None
    license: str | None = None

    def __post_init__(self) -> None:
        if self.env_id is not None:
            object.__setattr__(self, "env_id", resolve_env_id(self.env_id))
        probability = self.random_action_prob
        if probability is not None and not 0.0 <= probability <= 1.0:
            raise UserError(f"random_action_prob: {probability} is not between 0 and 1")

    def metadata(self) -> dict[str, Any]:
        """Return what goes into a dataset's metadata."""
        known: dict[str, Any] = {}
        if self.env_id is not None:
            known |= env_metadata(self.env_id)
        if self.author:
            known["author"] = list(self.author)
        for name in ("random_action_prob", "license"):
            if getattr(self, name) is not None:
                known[name] = getattr(self, name)
        return known


NOTHING_KNOWN = About()


def store(
    transitions: Transitions,
    dataset_id: str,
    about: About,
    made: dict[str, Any],
    *,
    observation_space: spaces.Box | None = None,
    action_space: spaces.Box | None = None,
    extra: dict[str, Any] | None = None,
    overwrite: bool = False,
    progress: ProgressFactory = no_progress,
) -> StoredDatasets:
    """Write transitions under `dataset_id`, read them again and compare.

    Args:
        transitions: the recording, with or without actions.
        dataset_id: `namespace/.../name`.
        about: what else is known.
        made: where it comes from; kept in the metadata as `made_from`.
        observation_space: by default the environment's, else one without bounds.
        action_space: likewise.
        extra: more metadata, of plain JSON types.
        overwrite: replace datasets that exist.
        progress: makes a reporter.

    Raises:
        UserError: something doesn't fit, or the datasets can't be written.
    """
    check_base_id(dataset_id)
    transitions = _counted_anew(transitions)
    if about.env_id is not None:
        env = make_env(about.env_id)
        env.close()
        assert isinstance(env.observation_space, spaces.Box)
        assert isinstance(env.action_space, spaces.Box)
        observation_space = observation_space or env.observation_space
        action_space = action_space or env.action_space
    actions = transitions.actions
    description = Description(
        base_id=dataset_id,
        observation_space=_storable(observation_space, transitions.obs_dim),
        action_space=None
        if actions is None
        else action_space or spaces.Box(-np.inf, np.inf, actions.shape[1:], np.float32),
        text=(about.text or f"Imported from {made['kind']}").rstrip("."),
        algorithm_name=about.algorithm_name or "unknown",
        behaviour_return=returns_of(transitions.episode_returns()),
        metadata=about.metadata() | {"made_from": made} | (extra or {}),
    )
    written = write_datasets(transitions, description, overwrite=overwrite, progress=progress)
    for stored_id in written.ids:
        verify.require(stored_id, progress=progress)
    return written


def _counted_anew(transitions: Transitions) -> Transitions:
    """Number the episodes from 0 without gaps, as they will be read again."""
    lengths = transitions.episode_lengths()
    # The index never falls: counted from 0 without gaps it ends at the number of episodes.
    if transitions.episodes[0] == 0 and transitions.episodes[-1] == len(lengths) - 1:
        return transitions
    episodes = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths)
    columns: dict[str, Any] = dict(transitions.columns()) | {"episodes": episodes}
    return Transitions(**columns)


def _storable(space: spaces.Box | None, obs_dim: int) -> spaces.Box:
    """Return a space in which float32 values can be stored as Minari would find them."""
    if space is None or space.dtype not in (np.float32, np.float64):
        return spaces.Box(-np.inf, np.inf, (obs_dim,), np.float32)
    return space


def from_arrays(
    dataset_id: str,
    *,
    observations: npt.ArrayLike,
    rewards: npt.ArrayLike,
    terminations: npt.ArrayLike,
    truncations: npt.ArrayLike | None = None,
    next_observations: npt.ArrayLike | None = None,
    actions: npt.ArrayLike | None = None,
    episodes: npt.ArrayLike | None = None,
    observation_only: bool = False,
    about: About = NOTHING_KNOWN,
    action_space: spaces.Box | None = None,
    overwrite: bool = False,
    notice: Notice = print_notice,
    progress: ProgressFactory = no_progress,
) -> StoredDatasets:
    """Store arrays of N steps in E episodes as Minari datasets.

    Args:
        dataset_id: `namespace/.../name`; the datasets become `name-obs-v0` and `name-act-v0`.
        observations: (N, obs_dim); without `next_observations` better (N + E, obs_dim), one
            more than steps in each episode (see the module).
        rewards: (N,).
        terminations: (N,), the environment's own ends.
        truncations: (N,), ends from outside; none by default.
        next_observations: (N, obs_dim), after each step.
        actions: (N, act_dim) or (N,); without them the observation-only dataset is made alone.
        episodes: (N,) whole numbers that change from episode to episode; by default an episode
            ends where it terminates or is truncated, and with the last row.
        observation_only: leave the actions out.
        about: what else is known.
        action_space: bounds of the actions; by default the environment's, else none.
        overwrite: replace datasets that exist.
        notice: called with a line about steps that can't be kept and ends that were assumed.
        progress: makes a reporter.

    Raises:
        UserError: shapes don't fit together, values aren't finite numbers, the rows of an
            episode don't follow each other, or the id is malformed or taken.
    """
    given: dict[str, Any] = {
        "observations": observations,
        "rewards": rewards,
        "terminations": terminations,
        "truncations": truncations,
        "next_observations": next_observations,
        "actions": None if observation_only else actions,
        "episodes": episodes,
    }
    transitions = transitions_of(given, notice)
    return store(
        transitions,
        dataset_id,
        about,
        {"kind": "arrays"},
        action_space=action_space,
        overwrite=overwrite,
        progress=progress,
    )


def from_minari(
    source_id: str,
    dataset_id: str,
    *,
    observation_only: bool = False,
    about: About = NOTHING_KNOWN,
    overwrite: bool = False,
    notice: Notice = print_notice,
    progress: ProgressFactory = no_progress,
) -> StoredDatasets:
    """Rewrite a local Minari dataset of any format as a pair of datasets.

    Observations of `Dict`, `Tuple` or another kind are flattened by `gymnasium.spaces.flatten`,
    which is what `gymnasium.wrappers.FlattenObservation` calls; the space before is kept in the
    metadata under `observations_flattened`. Infos are never taken over. Actions that aren't
    vectors are left out, which is said.

    Args:
        source_id: Minari id of what is there.
        dataset_id: `namespace/.../name` of what is made.
        observation_only: leave the actions out.
        about: what else is known; where empty, what the source says.
        overwrite: replace datasets that exist.
        notice: called with a line about whatever is left out or assumed.
        progress: makes a reporter.

    Raises:
        UserError: the source can't be read, or the datasets can't be written.
    """
    check_base_id(dataset_id)
    metadata = read_metadata(source_id)
    observation_space = read_space(metadata, "observation_space")
    action_space = read_space(metadata, "action_space")
    with_actions = not observation_only and is_vector(action_space)
    if not (observation_only or with_actions or is_placeholder(action_space)):
        notice(f"{source_id}: its actions are no vectors ({action_space}); they are left out")
    stored = read_episodes(
        source_id,
        metadata,
        data_folder(source_id),
        with_actions=with_actions,
        progress=progress,
    )
    if stored.unfinished:
        notice(
            f"{source_id}: {stored.unfinished:,} episodes end without termination or truncation; "
            "they count as truncated"
        )
    if stored.extras:
        notice(f"{source_id}: {', '.join(stored.extras)} are left out")
    extra = {
        key: metadata[key]
        for key in ("author", "author_email", "code_permalink", "license")
        if isinstance(metadata.get(key), str | list)
    }
    for key in ("env_spec", "env_id"):
        if about.env_id is None and isinstance(metadata.get(key), str):
            extra[key] = metadata[key]
    extra |= flattening(observation_space)
    if about.algorithm_name is None and isinstance(metadata.get("algorithm_name"), str):
        about = About(**{**vars(about), "algorithm_name": metadata["algorithm_name"]})
    flat = spaces.flatten_space(observation_space)
    assert isinstance(flat, spaces.Box)
    assert not with_actions or isinstance(action_space, spaces.Box)
    return store(
        stored.sidecar.transitions,
        dataset_id,
        about,
        {"kind": "a Minari dataset", "dataset_id": source_id, "digest": stored.sidecar.info.digest},
        observation_space=flat,
        action_space=action_space if isinstance(action_space, spaces.Box) else None,
        extra={key: value for key, value in extra.items() if key not in about.metadata()},
        overwrite=overwrite,
        progress=progress,
    )


def flattening(space: spaces.Space[Any]) -> dict[str, Any]:
    """Return how observations of a space became vectors, as metadata; empty if they were."""
    if is_vector(space):
        return {}
    return {
        "observations_flattened": {
            "by": "gymnasium.spaces.flatten, as gymnasium.wrappers.FlattenObservation does",
            "gymnasium": version("gymnasium"),
            "space": serialize_space(space),
        }
    }


def from_replay_buffer(
    buffer: Any,
    dataset_id: str,
    *,
    observation_only: bool = False,
    about: About = NOTHING_KNOWN,
    overwrite: bool = False,
    notice: Notice = print_notice,
    progress: ProgressFactory = no_progress,
) -> StoredDatasets:
    """Store a d3rlpy `ReplayBuffer` (or `MDPDataset`) as Minari datasets.

    d3rlpy keeps as many observations as steps, so the last step of each episode can't be kept
    (see the module), and no termination is: where you can, import what the buffer was made from.

    Args:
        buffer: anything with `episodes`, each of which has `observations`, `actions`, `rewards`
            and `terminated`.
        dataset_id: `namespace/.../name`.
        observation_only: leave the actions out.
        about: what else is known.
        overwrite: replace datasets that exist.
        notice: called with the number of steps left out.
        progress: makes a reporter.

    Raises:
        UserError: it isn't a buffer, it is empty, its arrays don't fit together, or the
            datasets can't be written.
    """
    parts: dict[str, list[Array]] = {"observations": [], "rewards": [], "actions": []}
    lengths, ends = [], []
    try:
        for episode in buffer.episodes:
            for name, column in parts.items():
                column.append(np.asarray(getattr(episode, name)))
            lengths.append(len(episode.rewards))
            ends.append(bool(episode.terminated))
    except (AttributeError, TypeError) as error:
        raise UserError(f"buffer: expected a d3rlpy ReplayBuffer ({error})") from error
    if not lengths:
        raise UserError("buffer: it holds no episodes")
    arrays: dict[str, Any] = {name: _joined(name, column) for name, column in parts.items()}
    # A discrete action is no vector; d3rlpy keeps it as one whole number.
    if observation_only or arrays["actions"].dtype.kind in "iu":
        del arrays["actions"]
    episodes = np.repeat(np.arange(len(lengths)), lengths)
    last = np.append(episodes[1:] != episodes[:-1], True)
    arrays["episodes"] = episodes
    arrays["terminations"] = last & np.repeat(ends, lengths)
    arrays["truncations"] = last & ~np.repeat(ends, lengths)
    return store(
        transitions_of(arrays, notice),
        dataset_id,
        about,
        {"kind": "a d3rlpy replay buffer"},
        overwrite=overwrite,
        progress=progress,
    )


def _joined(name: str, column: Sequence[Array]) -> Array:
    try:
        return np.concatenate(column)
    except ValueError as error:
        raise UserError(f"buffer: its {name} don't fit together ({error})") from error
