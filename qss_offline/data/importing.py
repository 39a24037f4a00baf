"""Any recording in: arrays, tables, other Minari datasets, a policy at work, d3rlpy's buffers.

Each function here writes datasets as `minari_format` lays them out: a pair, or the
observation-only dataset alone, of the ids `BASE-obs-v0` and `BASE-act-v0`; reads what it wrote
again, and compares. Actions are stripped by writing new files without them.

**The last observation.** A step needs the observation before and after it. Recordings come in
three layouts: with `next_observations`; with one observation more than steps in each episode;
or with as many observations as steps. In the last the observation after an episode's last step
was never recorded, so that step can't be kept, and its termination is lost with it; this is
said, never filled in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeAlias

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from minari.serialization import serialize_space

from qss_offline.data import episodes as bodies
from qss_offline.data import minari_format, verify
from qss_offline.data.environments import make_env, quiet_mujoco, resolve_env_id
from qss_offline.data.minari_format import Description, StoredDatasets
from qss_offline.data.transitions import Transitions
from qss_offline.errors import UserError
from qss_offline.parallel.reporting import Notice, ProgressFactory, no_progress, print_notice

Policy: TypeAlias = Callable[[Any], Any]
Array: TypeAlias = npt.NDArray[Any]

_STEPS_PER_REPORT = 1_000


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
            known |= minari_format.env_metadata(self.env_id)
        if self.author:
            known["author"] = list(self.author)
        for name in ("random_action_prob", "license"):
            if getattr(self, name) is not None:
                known[name] = getattr(self, name)
        return known


NOTHING_KNOWN = About()


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
        next_observations: (N, obs_dim), what was seen after each step.
        actions: (N, act_dim) or (N,); without them the observation-only dataset is made alone.
        episodes: (N,) whole numbers that change from episode to episode; by default an episode
            ends where it terminates or is truncated, and with the last row.
        observation_only: leave the actions out.
        about: what else is known.
        action_space: bounds of the actions; by default the environment's, else none.
        overwrite: replace datasets that exist.
        notice: told of every step that can't be kept and every end that had to be assumed.
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
    kept = arrays["episodes"]
    arrays["truncations"] = np.append(kept[1:] != kept[:-1], True)
    return steps - int(keep.sum())


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
    minari_format.check_base_id(dataset_id)
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
        behaviour_return=minari_format.returns_of(transitions.episode_returns()),
        metadata=about.metadata() | {"made_from": made} | (extra or {}),
    )
    written = minari_format.write_datasets(
        transitions, description, overwrite=overwrite, progress=progress
    )
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


# --- other Minari datasets ------------------------------------------------------------------


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
        notice: told of whatever is left out or assumed.
        progress: makes a reporter.

    Raises:
        UserError: the source can't be read, or the datasets can't be written.
    """
    minari_format.check_base_id(dataset_id)
    metadata = minari_format.read_metadata(source_id)
    observation_space = minari_format.read_space(metadata, "observation_space")
    action_space = minari_format.read_space(metadata, "action_space")
    with_actions = not observation_only and bodies.is_vector(action_space)
    if not (observation_only or with_actions or minari_format.is_placeholder(action_space)):
        notice(f"{source_id}: its actions are no vectors ({action_space}); they are left out")
    body = bodies.read_body(
        source_id,
        metadata,
        minari_format.data_folder(source_id),
        with_actions=with_actions,
        progress=progress,
    )
    if body.unfinished:
        notice(
            f"{source_id}: {body.unfinished:,} episodes end without termination or truncation; "
            "they count as truncated"
        )
    if body.extras:
        notice(f"{source_id}: {', '.join(body.extras)} are left out")
    extra = {
        key: metadata[key]
        for key in ("author", "author_email", "code_permalink", "license")
        if isinstance(metadata.get(key), str | list)
    }
    for key in ("env_spec", "env_id"):
        if about.env_id is None and isinstance(metadata.get(key), str):
            extra[key] = metadata[key]
    extra |= _recipe(observation_space)
    if about.algorithm_name is None and isinstance(metadata.get("algorithm_name"), str):
        about = About(**{**vars(about), "algorithm_name": metadata["algorithm_name"]})
    flat = spaces.flatten_space(observation_space)
    assert isinstance(flat, spaces.Box)
    assert not with_actions or isinstance(action_space, spaces.Box)
    return store(
        body.sidecar.transitions,
        dataset_id,
        about,
        {"kind": "a Minari dataset", "dataset_id": source_id, "digest": body.sidecar.info.digest},
        observation_space=flat,
        action_space=action_space if isinstance(action_space, spaces.Box) else None,
        extra={key: value for key, value in extra.items() if key not in about.metadata()},
        overwrite=overwrite,
        progress=progress,
    )


def _recipe(space: spaces.Space[Any]) -> dict[str, Any]:
    """Return how observations of a space became vectors, as metadata; empty if they were."""
    if bodies.is_vector(space):
        return {}
    return {
        "observations_flattened": {
            "by": "gymnasium.spaces.flatten, as gymnasium.wrappers.FlattenObservation does",
            "gymnasium": version("gymnasium"),
            "space": serialize_space(space),
        }
    }


# --- a policy at work -----------------------------------------------------------------------


def collect_with_policy(
    env: str | gymnasium.Env[Any, Any],
    policy: Policy,
    dataset_id: str,
    *,
    transitions: int,
    seed: int = 0,
    observation_only: bool = False,
    about: About = NOTHING_KNOWN,
    overwrite: bool = False,
    progress: ProgressFactory = no_progress,
) -> StoredDatasets:
    """Let a policy act in a Gymnasium environment and store what happens.

    Args:
        env: an id, or an environment; it is left open. Observations of `Dict`, `Tuple` or
            another kind reach the policy as they are and are recorded flattened.
        policy: maps an observation to an action; randomness and seeds are its own affair.
        dataset_id: `namespace/.../name`.
        transitions: steps to record; the last episode is cut there, as a truncation.
        seed: of the environment's first reset.
        observation_only: leave the actions out.
        about: what else is known; `algorithm_name` should say who the policy is.
        overwrite: replace datasets that exist.
        progress: makes a reporter of transitions.

    Raises:
        UserError: the environment is unknown, its observations can't be flattened, an action
            doesn't fit its space, a value isn't finite, or the datasets can't be written.
    """
    minari_format.check_base_id(dataset_id)
    if isinstance(transitions, bool) or not isinstance(transitions, int) or transitions < 1:
        raise UserError(f"transitions: expected a whole number of at least 1, got {transitions!r}")
    if isinstance(env, str):
        made = _make_any(resolve_env_id(env))
        try:
            return collect_with_policy(
                made,
                policy,
                dataset_id,
                transitions=transitions,
                seed=seed,
                observation_only=observation_only,
                about=about,
                overwrite=overwrite,
                progress=progress,
            )
        finally:
            made.close()
    keep_actions = not observation_only and bodies.is_vector(env.action_space)
    recorded = _record(env, policy, transitions, seed, keep_actions, progress)
    extra = _recipe(env.observation_space)
    if env.spec is not None:
        extra["env_id"] = env.spec.id
        try:
            extra["env_spec"] = env.spec.to_json()
        except (TypeError, ValueError):
            extra["env_spec_missing"] = "the environment's arguments can't be written as JSON"
    flat = spaces.flatten_space(env.observation_space)
    assert isinstance(flat, spaces.Box)
    action_space = env.action_space if isinstance(env.action_space, spaces.Box) else None
    name = getattr(policy, "__qualname__", type(policy).__qualname__)
    if about.algorithm_name is None:
        about = About(**{**vars(about), "algorithm_name": f"the policy {name}"})
    return store(
        recorded,
        dataset_id,
        about,
        {"kind": "a policy at work", "policy": name, "seed": seed},
        observation_space=flat,
        action_space=action_space,
        extra=extra,
        overwrite=overwrite,
        progress=progress,
    )


def _make_any(env_id: str) -> gymnasium.Env[Any, Any]:
    """Make an environment whose observations may be of any kind that can be flattened."""
    try:
        with quiet_mujoco(env_id):
            return gymnasium.make(env_id, disable_env_checker=True)
    except Exception as error:
        # An environment's constructor may raise anything, a missing package first of all.
        raise UserError(
            f"environment {env_id!r} can't be made: {' '.join(str(error).split())}"
        ) from error


def _record(
    env: gymnasium.Env[Any, Any],
    policy: Policy,
    steps: int,
    seed: int,
    keep_actions: bool,
    progress: ProgressFactory,
) -> Transitions:
    space = env.observation_space
    obs_dim = bodies.vector_size(space)
    arrays: dict[str, Array] = {
        "observations": np.empty((steps, obs_dim), np.float32),
        "next_observations": np.empty((steps, obs_dim), np.float32),
        "rewards": np.empty(steps, np.float32),
        "terminations": np.zeros(steps, np.bool_),
        "truncations": np.zeros(steps, np.bool_),
        "episodes": np.empty(steps, np.int64),
    }
    if keep_actions:
        assert env.action_space.shape is not None
        arrays["actions"] = np.empty((steps, *env.action_space.shape), np.float32)
    episode = 0
    observation, _ = env.reset(seed=seed)
    flat = spaces.flatten(space, observation)
    with progress("collecting", steps, "transitions") as report:
        for row in range(steps):
            action = policy(observation)
            if keep_actions and np.shape(action) != env.action_space.shape:
                raise UserError(
                    f"policy: it returned an action of shape {np.shape(action)}, expected "
                    f"{env.action_space.shape}"
                )
            arrays["observations"][row] = flat
            if keep_actions:
                # The environment gets the very numbers that are stored.
                arrays["actions"][row] = action
                action = arrays["actions"][row].astype(env.action_space.dtype)
            observation, reward, terminated, truncated, _ = env.step(action)
            flat = spaces.flatten(space, observation)
            arrays["next_observations"][row] = flat
            arrays["rewards"][row] = reward
            arrays["terminations"][row], arrays["truncations"][row] = terminated, truncated
            arrays["episodes"][row] = episode
            if terminated or truncated:
                episode += 1
                observation, _ = env.reset()
                flat = spaces.flatten(space, observation)
            if row % _STEPS_PER_REPORT == 0:
                report(row)
        report(steps)
    if not arrays["terminations"][-1]:
        arrays["truncations"][-1] = True
    return Transitions(**arrays)


# --- d3rlpy ---------------------------------------------------------------------------------


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
        notice: told how many steps are left out.
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
