"""Where recordings come from: arrays, frames, files, other Minari datasets, replay buffers.

All of it is checked, and nothing written: `ImportPlan.store` does that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gymnasium import spaces

from qss_offline.data.episodes import read_episodes
from qss_offline.data.importing.buffers import read_buffer
from qss_offline.data.importing.names import ROLES, ColumnNames, Kind, Roles, matching, resolve
from qss_offline.data.importing.plan import ImportPlan, Source, make_plan
from qss_offline.data.importing.readers import is_readable, read_source
from qss_offline.data.importing.rules import AS_IT_STANDS, ImportRules
from qss_offline.data.importing.store import flattening
from qss_offline.data.importing.tables import column_of, frame_table, kind_of
from qss_offline.data.importing.values import Array, as_column, columns_of, flattened, split_streams
from qss_offline.data.local import data_folder, read_metadata
from qss_offline.data.minari_format import EPISODES_FILE
from qss_offline.data.spaces import is_placeholder, is_vector, read_space
from qss_offline.errors import UserError
from qss_offline.parallel.reporting import ProgressFactory, no_progress


def plan_source(
    source: str,
    *,
    names: ColumnNames | None = None,
    observation_only: bool = False,
    rules: ImportRules = AS_IT_STANDS,
    progress: ProgressFactory = no_progress,
) -> ImportPlan:
    """Check a file or folder, or the local Minari dataset of an id.

    Raises:
        UserError: it can't be stored as it stands, or columns of a Minari dataset are named.
    """
    if is_readable(source):
        return plan_file(source, names=names, observation_only=observation_only, rules=rules)
    named = [role for role, columns in vars(names or ColumnNames()).items() if columns is not None]
    if named:
        raise UserError(
            f"{named[0]}: {source} is a Minari dataset, whose columns have their roles: name none"
        )
    return plan_minari(source, observation_only=observation_only, rules=rules, progress=progress)


def plan_arrays(
    *,
    observations: Any,
    rewards: Any = None,
    terminations: Any = None,
    truncations: Any = None,
    next_observations: Any = None,
    actions: Any = None,
    episodes: Any = None,
    observation_only: bool = False,
    rules: ImportRules = AS_IT_STANDS,
) -> ImportPlan:
    """Check arrays of N steps in E episodes.

    Args:
        observations: (N, obs_dim), or a dict of such arrays, which are put side by side in the
            order of their names; without `next_observations` better (N + E, obs_dim), one more
            than steps in each episode: else the last step of each can't be kept.
        rewards: (N,); without them zeros are stored, and methods that need rewards refuse them.
        terminations: (N,), the environment's own ends; may be left out where `truncations` or
            `episodes` are given.
        truncations: (N,), ends from outside; none by default.
        next_observations: (N, obs_dim), after each step.
        actions: (N, act_dim) or (N,); without them the observation-only dataset is made alone.
        episodes: (N,) numbers or names that change from episode to episode; by default an
            episode ends where it terminates or is truncated, and with the last row.
        observation_only: leave the actions out.
        rules: what to do with what can't be taken as it stands.

    Raises:
        UserError: shapes don't fit together, values are missing or no finite numbers, float32
            can't hold how they change, or the rows of an episode don't follow each other.
    """
    given = {
        "observations": observations,
        "next_observations": next_observations,
        "actions": actions,
        "rewards": rewards,
        "terminations": terminations,
        "truncations": truncations,
        "episodes": episodes,
    }
    if observations is None:
        raise UserError("observations: expected an array of one row for each step, got None")
    given = {role: value for role, value in given.items() if value is not None}
    ignored = tuple(role for role in given if _ignored(role, rules))
    columns, names = columns_of({role: given[role] for role in given if role not in ignored})
    return make_plan(
        _source("arrays", {"kind": "arrays"}, columns, Roles(names, ignored=ignored)),
        rules,
        observation_only=observation_only,
    )


def plan_frame(
    frame: Any,
    *,
    names: ColumnNames | None = None,
    observation_only: bool = False,
    rules: ImportRules = AS_IT_STANDS,
) -> ImportPlan:
    """Check a frame, a row a step.

    Args:
        frame: of pandas or polars, a table of Arrow, or a dict of columns.
        names: which columns hold what; by default those with well-known names.
        observation_only: leave the actions out.
        rules: what to do with what can't be taken as it stands.

    Raises:
        UserError: a column is missing or holds no numbers, or see `plan_arrays`.
    """
    if isinstance(frame, Mapping):
        given = {
            str(key): part
            for top, value in frame.items()
            for key, part in flattened(str(top), value)
        }
        kinds: dict[str, Kind] = {}
        columns: dict[str, Any] = {}
        for key, value in given.items():
            kinds[key], columns[key] = _of_any_kind(key, value)
        roles = resolve(kinds, names or ColumnNames(), rules.ignore, rules.order)
        columns = {key: as_column(key, columns[key]) for key in roles.read}
    else:
        table = frame_table(frame)
        kinds = {field.name: kind_of(field.type) for field in table.schema}
        roles = resolve(kinds, names or ColumnNames(), rules.ignore, rules.order)
        text = roles.columns.get("episodes", ())
        columns = {
            key: as_column(key, column_of(table, key), text=key in text) for key in roles.read
        }
    return make_plan(
        _source("a frame", {"kind": "a frame"}, columns, roles),
        rules,
        observation_only=observation_only,
    )


def plan_file(
    path: Path | str,
    *,
    names: ColumnNames | None = None,
    observation_only: bool = False,
    rules: ImportRules = AS_IT_STANDS,
) -> ImportPlan:
    """Check a recording in a file, or in a folder of files.

    Args:
        path: a `.npz`, `.parquet`, `.csv` (`.tsv`, `.txt`) or `.hdf5` (`.h5`) file, a folder of
            files of one kind, or a LeRobot dataset; one row is one step (see `plan_arrays` for
            the layouts).
        names: which columns hold what; by default those with well-known names.
        observation_only: leave the actions out.
        rules: what to do with what can't be taken as it stands.

    Raises:
        UserError: the file can't be read, a column is missing or holds no numbers, it wouldn't
            fit into memory, or see `plan_arrays`.
    """
    source = read_source(Path(path), names or ColumnNames(), rules)
    try:
        return make_plan(source, rules, observation_only=observation_only)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def plan_minari(
    source_id: str,
    *,
    observation_only: bool = False,
    rules: ImportRules = AS_IT_STANDS,
    progress: ProgressFactory = no_progress,
) -> ImportPlan:
    """Check a local Minari dataset of any format.

    Observations of `Dict`, `Tuple` or another kind are flattened by `gymnasium.spaces.flatten`,
    which is what `gymnasium.wrappers.FlattenObservation` calls; the space before is kept in the
    metadata under `observations_flattened`. Infos are never taken over. Actions that aren't
    vectors are left out, which is said.

    Args:
        source_id: its id.
        observation_only: leave the actions out.
        rules: what to do with what can't be taken as it stands; what is missing is refused.
        progress: makes a reporter.

    Raises:
        UserError: it can't be read, or can't be stored as it stands.
    """
    metadata = read_metadata(source_id)
    if rules.missing != "refuse":
        raise UserError(f"missing: {_instead(source_id)}")
    observation_space = read_space(metadata, "observation_space")
    action_space = read_space(metadata, "action_space")
    has_actions = is_vector(action_space)
    notices = []
    if not (observation_only or has_actions or is_placeholder(action_space)):
        notices.append(
            f"{source_id}: its actions are no vectors ({action_space}); they are left out"
        )
    numbers = _numbers_of(observation_space)
    offset = [
        numbers.index(name)
        for pattern in rules.offset
        for name in matching(pattern, numbers, "offset")
    ]
    try:
        stored = read_episodes(
            source_id,
            metadata,
            data_folder(source_id),
            with_actions=has_actions,
            offset=offset,
            progress=progress,
        )
    except UserError as error:
        if "NaN" not in str(error):
            raise
        raise UserError(f"{error}; {_instead(source_id)}") from error
    if stored.unfinished:
        notices.append(
            f"{source_id}: {stored.unfinished:,} episodes end without termination or truncation; "
            "they count as truncated"
        )
    if stored.extras:
        notices.append(f"{source_id}: {', '.join(stored.extras)} are left out")
    columns: dict[str, Any] = dict(stored.sidecar.transitions.columns())
    ignored = tuple(role for role in columns if _ignored(role, rules))
    extra = {
        key: metadata[key]
        for key in ("author", "author_email", "code_permalink", "license", "env_spec", "env_id",
                    "algorithm_name", "rewards_missing")
        if isinstance(metadata.get(key), str | list | bool)
    }  # fmt: skip
    extra |= flattening(observation_space)
    earlier = metadata.get("observation_offsets")
    if isinstance(earlier, dict) or stored.offsets:
        # What was subtracted before has a name of its own: that of a column, as a rule.
        offsets = dict(earlier) if isinstance(earlier, dict) else {}
        for number, by in stored.offsets.items():
            before = offsets.get(numbers[number], 0.0)
            offsets[numbers[number]] = by + (before if isinstance(before, float) else 0.0)
        extra["observation_offsets"] = offsets
    names = {"observations": numbers, "rewards": ["rewards"]}
    flat = spaces.flatten_space(observation_space)
    assert isinstance(flat, spaces.Box)
    digest = stored.sidecar.info.digest
    source = Source(
        name=source_id,
        made={"kind": "a Minari dataset", "dataset_id": source_id, "digest": digest},
        columns=columns,
        roles=Roles(
            {role: (role,) for role in ROLES if role in columns and role not in ignored},
            ignored=ignored,
        ),
        labels=dict.fromkeys(("observations", "next_observations"), numbers),
        notices=tuple(notices),
        observation_space=None if stored.offsets else flat,
        action_space=action_space if isinstance(action_space, spaces.Box) else None,
        extra=extra,
        rounded={
            role: [names[role][place] if role in names else f"{role}[{place}]" for place in places]
            for role, places in stored.rounded.items()
        },
    )
    plan = make_plan(source, replace(rules, offset=()), observation_only=observation_only)
    if plan.observation_space is not None:
        return plan
    # Shifted, or without some of their numbers, observations are no longer the environment's.
    told = {key: value for key, value in plan.metadata.items() if key not in ("env_id", "env_spec")}
    return replace(plan, metadata=told)


def plan_replay_buffer(
    buffer: Any, *, observation_only: bool = False, rules: ImportRules = AS_IT_STANDS
) -> ImportPlan:
    """Check a replay buffer of d3rlpy, stable-baselines3 or Tianshou.

    d3rlpy keeps as many observations as steps, so the last step of each episode can't be kept, and
    no termination is: where you can, import what the buffer was made from. Of the others the steps
    come in the order in which they were recorded, oldest first, each environment's for themselves.

    Args:
        buffer: a `ReplayBuffer` of any of them, d3rlpy's `MDPDataset` or stable-baselines3's
            `RolloutBuffer`; none of these packages is imported.
        observation_only: leave the actions out.
        rules: what to do with what can't be taken as it stands.

    Raises:
        UserError: it isn't a buffer, it is empty, its arrays don't fit together, or see
            `plan_arrays`.
    """
    source = read_buffer(buffer)
    if observation_only:
        source = replace(source, notices=())
    return make_plan(source, rules, observation_only=observation_only)


def _source(name: str, made: dict[str, Any], columns: dict[str, Array], roles: Roles) -> Source:
    split, parts = split_streams(columns, roles)
    return Source(name=name, made=made, columns=split, roles=roles, parts=parts)


def _of_any_kind(name: str, value: Any) -> tuple[Kind, Any]:
    """Return what a column can serve as; text as a number for each of its labels."""
    try:
        return "numbers", as_column(name, value)
    except UserError:
        pass
    try:
        return "text", as_column(name, value, text=True)
    except UserError:
        return "other", value


def _instead(source_id: str) -> str:
    """Say how a Minari dataset is mended in which values are missing."""
    file = data_folder(source_id) / EPISODES_FILE
    if not file.is_file():
        return "of Minari's formats HDF5 alone can be mended where values are missing"
    return f"to mend what is missing in a Minari dataset, import its file, {file}, with --missing"


def _ignored(name: str, rules: ImportRules) -> bool:
    return any(matching(pattern, [name], "ignore", strict=False) for pattern in rules.ignore)


def _numbers_of(space: spaces.Space[Any], name: str = "observations") -> list[str]:
    """Return a name for each number of flattened observations."""
    if isinstance(space, spaces.Dict):
        prefix = "" if name == "observations" else f"{name}."
        return [
            number
            for key, part in space.spaces.items()
            for number in _numbers_of(part, f"{prefix}{key}")
        ]
    if isinstance(space, spaces.Tuple):
        return [
            number
            for index, part in enumerate(space.spaces)
            for number in _numbers_of(part, f"{name}[{index}]")
        ]
    size = int(spaces.flatdim(space))
    return [f"{name}[{index}]" for index in range(size)]
