"""From named columns to checked transitions: the one way that every recording takes.

Names become roles (`names`), columns numbers (`values`), rows episodes (`ends`) and steps
(`steps`); what is missing (`missing`), leads across a reset (`resets`) or would be rounded away
(`numbers`) is refused, or mended as the rules ask for. Nothing is written before all of it holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from gymnasium import spaces

from qss_offline.data.importing.ends import Ends, find_ends
from qss_offline.data.importing.missing import as_missing, interpolated, leave_out_missing
from qss_offline.data.importing.names import MATRICES, ROLES, Roles, matching
from qss_offline.data.importing.numbers import (
    as_float32,
    refuse_columns,
    refuse_infinite,
    refuse_rounded,
    told_actions,
)
from qss_offline.data.importing.report import Role, RoleReport
from qss_offline.data.importing.resets import check_resets
from qss_offline.data.importing.rules import AS_IT_STANDS, ImportRules
from qss_offline.data.importing.steps import Steps, pair_rows
from qss_offline.data.importing.store import NOTHING_KNOWN, About, fit, store
from qss_offline.data.importing.values import Array, Matrix, side_by_side
from qss_offline.data.local import check_base_id, pair_id
from qss_offline.data.transitions import BoolArray, Transitions
from qss_offline.data.write import StoredDatasets, check_free
from qss_offline.errors import UserError
from qss_offline.parallel.reporting import ProgressFactory, no_progress

_KEPT_NAMES = 1000


@dataclass(frozen=True, eq=False)
class Source:
    """Named columns of a recording.

    Attributes:
        name: of the recording, for messages.
        made: where it comes from, for the metadata.
        columns: arrays of one row a step; observations may have one more in each episode.
        roles: which column serves which role.
        parts: rows of each of several files.
        labels: names of the numbers of a column.
        notices: what reading it had to say.
        observation_space: where it has one.
        action_space: likewise.
        extra: more metadata.
        rounded: columns that were rounded when they were read, and changed by it, by their role.
    """

    name: str
    made: dict[str, Any]
    columns: Mapping[str, Array]
    roles: Roles
    parts: Sequence[int] = ()
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    observation_space: spaces.Box | None = None
    action_space: spaces.Box | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    rounded: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ImportPlan:
    """What a recording becomes; nothing is written yet.

    Attributes:
        report: which column serves which role, and what was left out.
        transitions: the steps, with actions where there are any.
        made: where they come from.
        metadata: what else is kept.
        observation_space: where the source has one.
        action_space: likewise.
        faults: what would be refused, had the rules not left out the episodes that hold it.
        unmended: what is refused, since every episode holds it.
        names: of each number in an observation.
    """

    report: RoleReport
    transitions: Transitions
    made: dict[str, Any]
    metadata: dict[str, Any]
    observation_space: spaces.Box | None = None
    action_space: spaces.Box | None = None
    faults: tuple[str, ...] = ()
    unmended: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def require(self, about: About = NOTHING_KNOWN) -> None:
        """Refuse what leaving episodes out can't mend.

        Args:
            about: what else is known; its environment can't be that of shifted observations.

        Raises:
            UserError: there is something; the message names what mends it.
        """
        if self.unmended:
            raise UserError(self.unmended[0])
        if about.env_id is not None and "observation_offsets" in self.metadata:
            raise UserError(
                f"offset: with it the observations are no longer those of {about.env_id}; name no "
                "environment, or --ignore the columns"
            )

    def check(
        self,
        dataset_id: str | None = None,
        about: About = NOTHING_KNOWN,
        *,
        overwrite: bool = False,
    ) -> None:
        """Refuse and say what `store` would before it writes.

        Args:
            dataset_id: `namespace/.../name`; None checks all but the name.
            about: what else is known.
            overwrite: whether datasets of that name may exist.

        Raises:
            UserError: as `store`.
        """
        self.require(about)
        if dataset_id is not None:
            check_base_id(dataset_id)
        fitted = fit(self.transitions, about, self.observation_space, self.action_space)
        if dataset_id is not None:
            check_free([pair_id(dataset_id, kind) for kind in fitted.kinds], overwrite)

    def store(
        self,
        dataset_id: str,
        about: About = NOTHING_KNOWN,
        *,
        action_space: spaces.Box | None = None,
        overwrite: bool = False,
        progress: ProgressFactory = no_progress,
    ) -> StoredDatasets:
        """Write what was planned as Minari datasets, verified before they are visible.

        Args:
            dataset_id: `namespace/.../name`; the datasets become `name-obs-v0` and `name-act-v0`.
            about: what else is known; where empty, what the source says.
            action_space: bounds of the actions, by default the source's; those of an environment
                that is named come before both.
            overwrite: replace datasets that exist.
            progress: makes a reporter.

        Raises:
            UserError: something doesn't fit, the id is malformed or taken, or the datasets can't
                be written.
        """
        self.require(about)
        acted = self.metadata.get("algorithm_name")
        if about.algorithm_name is None and isinstance(acted, str):
            about = replace(about, algorithm_name=acted)
        said = {"algorithm_name", *about.metadata()}
        if about.env_id is not None:
            said |= {"env_id", "env_spec"}
        return store(
            self.transitions,
            dataset_id,
            about,
            self.made,
            observation_space=self.observation_space,
            action_space=action_space or self.action_space,
            extra={key: value for key, value in self.metadata.items() if key not in said},
            overwrite=overwrite,
            progress=progress,
        )


class _Judge:
    """Refuses at the first fault, or notes the episodes that hold one."""

    def __init__(self, skip_bad: bool) -> None:
        self._skip_bad = skip_bad
        self.faults: list[str] = []
        self.unmended: list[str] = []
        self._bad: list[tuple[str, BoolArray]] = []

    def refuse(self, message: str, bad: BoolArray) -> None:
        if not self._skip_bad:
            raise UserError(message)
        if not bad.any():
            self.unmended.append(message)
            return
        self.faults.append(message)
        self._bad.append((message.split(";")[0].split(" (")[0], bad))

    def skip(self, steps: Steps, ends: Ends | None = None) -> None:
        """Leave out the episodes that were found bad since.

        Args:
            steps: what is left out of.
            ends: where the faults are told by its rows.
        """
        found, self._bad = self._bad, []
        together = np.zeros(len(steps), np.bool_)
        for _, bad in found:
            if ends is None:
                together |= bad
            elif bad.any():
                rows = ends.rows[np.isin(ends.episodes, np.unique(ends.episodes[bad]))]
                together |= np.isin(steps.rows, rows)
        if together.any():
            reasons = "; ".join(dict.fromkeys(reason for reason, bad in found if bad.any()))
            steps.leave_out(together, f"with a fault each ({reasons})", whole_episodes=True)


def make_plan(
    source: Source,
    rules: ImportRules = AS_IT_STANDS,
    *,
    observation_only: bool = False,
) -> ImportPlan:
    """Check a recording, and say what it becomes.

    Args:
        source: its columns.
        rules: what to do with what can't be taken as it stands.
        observation_only: leave the actions out.

    Raises:
        UserError: it can't be imported as it stands; the message names what mends it.
    """
    judge = _Judge(rules.skip_bad)
    matrices = _matrices(source, rules)
    arrays = {
        role: [(name, source.columns[name]) for name in names]
        for role, names in {**source.roles.columns, "spare": source.roles.spare}.items()
        if role not in MATRICES
    }
    for role, named in arrays.items():
        # d3rlpy and others keep rewards and flags as (N, 1).
        arrays[role] = [(n, c[:, 0] if c.ndim == 2 and c.shape[1] == 1 else c) for n, c in named]
    rewards = arrays.pop("rewards", [])
    given = matrices.get("next_observations")
    rows = _rows({**arrays, "rewards": rewards}, matrices)
    if rewards and rewards[0][1].shape != (rows,):
        raise UserError(f"rewards: expected shape ({rows},), got {rewards[0][1].shape}")
    sort_by = None
    if rules.order is not None:
        sort_by = (rules.order, _column_of(source, rules.order))
    if rules.missing != "refuse":
        matrices = {role: replace(m, values=as_missing(m.values)) for role, m in matrices.items()}
        rewards = [(name, as_missing(column)) for name, column in rewards]
    ends = find_ends(arrays, rows, source.parts, sort_by, rules.resets, judge.refuse)
    notices = [*source.notices, *ends.notices]
    if rules.missing == "interpolate":
        notices += _interpolate(matrices, ends)
    observations, actions = matrices["observations"], matrices.get("actions")
    reward = rewards[0][1] if rewards else None
    following = matrices.get("next_observations", observations)
    steps = pair_rows(
        observations.values, None if given is None else following.values, reward, ends
    )
    judge.skip(steps, ends)
    taken = None if actions is None or observation_only else actions
    needed = [(observations, "before"), (following, "after")]
    if reward is not None:
        needed.append((Matrix((rewards[0][0],), reward[:, None], {}), "rows"))
    if taken is not None:
        needed.append((taken, "rows"))
    leave_out_missing(steps, needed, ends, rules.missing, judge.refuse)
    judge.skip(steps)
    for role, values, place in (
        ("observations", observations.values, "before"),
        ("next_observations", following.values, "after"),
        ("rewards", reward, "rows"),
        ("actions", None if taken is None else taken.values, "rows"),
    ):
        if values is not None:
            refuse_infinite(role, values, steps, getattr(steps, place), judge.refuse)
    judge.skip(steps)
    check_resets(steps, rules.resets, judge.refuse)
    judge.skip(steps)

    def lose(message: str, bad: BoolArray) -> None:
        if rules.rounding == "refuse":
            judge.refuse(message, bad)
        else:
            notices.append(message.split("; ")[0])

    left = {
        "observations": observations.names,
        "actions": () if taken is None else taken.names,
        "rewards": ("rewards",) if rewards else (),
    }
    for role, lost in source.rounded.items():
        refuse_columns(role, [name for name in lost if name in left[role]], len(steps), lose)
    refuse_rounded("observations", observations.names, None, steps, lose)
    if reward is not None:
        refuse_rounded("rewards", [rewards[0][0]], reward, steps, lose)
    if actions is not None:
        if taken is not None:
            refuse_rounded("actions", actions.names, actions.values, steps, lose)
        notices += told_actions(steps, observations, actions)
    transitions = Transitions(
        observations=as_float32(observations.values, steps.before),
        next_observations=as_float32(following.values, steps.after),
        rewards=as_float32(np.zeros(rows) if reward is None else reward, steps.rows),
        terminations=steps.terminations,
        truncations=steps.truncations,
        episodes=np.cumsum(np.append(0, ~steps.followed()[:-1])).astype(np.int64),
        actions=None if taken is None else as_float32(taken.values, steps.rows),
    )
    recorded, kept = steps.recorded, steps.kept()
    if recorded.rewards and not kept.rewards:
        notices.append("no reward that isn't 0 is kept: nothing can be learned from the rewards")
    report = RoleReport(
        source=source.name,
        roles=_roles(source, matrices, ends, observation_only),
        unused=(*source.roles.unused, *source.roles.spare),
        ignored=source.roles.ignored,
        left_out=tuple(steps.left_out),
        recorded=recorded,
        kept=kept,
        notices=tuple(notices),
    )
    made = dict(source.made)
    if report.left_out:
        made["left_out"] = report.as_json()["left_out"]
    if any(names != (role,) for role, names in source.roles.columns.items()):
        made["columns"] = {
            role: list(names)[:_KEPT_NAMES] for role, names in source.roles.columns.items()
        }
    metadata = dict(source.extra)
    if reward is None:
        metadata["rewards_missing"] = True
    if observations.offsets:
        metadata["observation_offsets"] = observations.offsets
    return ImportPlan(
        report,
        transitions,
        made,
        metadata,
        source.observation_space if _is_whole(source, "observations", observations) else None,
        source.action_space if taken and _is_whole(source, "actions", taken) else None,
        tuple(judge.faults),
        tuple(judge.unmended),
        observations.names,
    )


def _rows(arrays: Mapping[str, Sequence[tuple[str, Array]]], matrices: Mapping[str, Matrix]) -> int:
    """Return the number of steps: observations alone may have more rows.

    Raises:
        UserError: roles differ in it, or there are none.
    """
    found = {role: len(named[0][1]) for role, named in arrays.items() if named and role != "spare"}
    found |= {role: len(m.values) for role, m in matrices.items() if role != "observations"}
    found = found or {"observations": len(matrices["observations"].values)}
    usual, *others = Counter(found.values()).most_common()
    if others:
        said = ", ".join(f"{role} {rows:,}" for role, rows in found.items() if rows != usual[0])
        agreed = ", ".join(role for role, rows in found.items() if rows == usual[0])
        raise UserError(f"rows of {said}, but of {agreed} {usual[0]:,}; each step needs one of all")
    if usual[0] == 0:
        raise UserError(f"{', '.join(found)}: no rows; at least one step is needed")
    return usual[0]


def _is_whole(source: Source, role: str, matrix: Matrix) -> bool:
    """Whether the numbers of a role are those of the source, so that its space is theirs."""
    columns = [source.columns[name] for name in source.roles.columns[role]]
    width = sum(1 if column.ndim == 1 else column.shape[1] for column in columns)
    return not matrix.offsets and len(matrix.names) == width


def _column_of(source: Source, name: str) -> Array:
    if name not in source.columns:
        raise UserError(f"order: no column {name!r}; there are {', '.join(source.columns)}")
    return source.columns[name]


def _matrices(source: Source, rules: ImportRules) -> dict[str, Matrix]:
    """Put the columns of each role side by side, without those that are ignored, and shifted."""
    columns = {
        role: [(name, source.columns[name]) for name in source.roles.columns[role]]
        for role in MATRICES
        if role in source.roles.columns
    }
    if "observations" not in columns:
        raise UserError("observations: no column is left; ignore fewer of them")
    places = {role: _places(named, source.labels) for role, named in columns.items()}
    there = places["observations"]
    known = [*there, *places.get("actions", ()), *source.roles.ignored]
    gone = {name for asked in rules.ignore for name in matching(asked, known, "ignore")}
    ignored = {
        role: {place for name in gone & own.keys() for place in own[name]}
        for role, own in places.items()
    }
    # Next observations lack what the observations lack, whatever their columns are called.
    ignored["next_observations"] = ignored["observations"]
    shifted = {
        place
        for asked in rules.offset
        for name in matching(asked, list(there), "offset")
        for place in there[name]
    }
    offset: dict[int, float | int | None] = dict.fromkeys(shifted - ignored["observations"])
    made: dict[str, Matrix] = {}
    for role, named in columns.items():
        if role == "actions" and ignored[role] >= set[int]().union(*places[role].values()):
            continue
        made[role] = side_by_side(
            role,
            named,
            source.labels,
            left_out=ignored[role],
            offset={} if role == "actions" else offset,
        )
        if role == "observations":
            offset = dict(zip(sorted(offset), made[role].offsets.values(), strict=True))
    widths = {role: made[role].values.shape[1] for role in made if role != "actions"}
    if len(set(widths.values())) > 1:
        raise UserError(
            f"next_observations: {widths['next_observations']} numbers, but observations have "
            f"{widths['observations']}"
        )
    return made


def _places(
    named: Sequence[tuple[str, Array]], labels: Mapping[str, Sequence[str]]
) -> dict[str, tuple[int, ...]]:
    """Return the place of each number of a role, by its name and by that of its column."""
    places: dict[str, tuple[int, ...]] = {}
    begin = 0
    for name, column in named:
        if column.ndim == 1:
            places[name] = (begin,)
            begin += 1
            continue
        width = column.shape[1]
        own = labels.get(name) or [f"{name}[{k}]" for k in range(width)]
        for k, label in enumerate(own):
            places[label] = (begin + k,)
            # A part of nested observations has numbers of its own: `joint[0]`, `joint[1]`.
            part = label.rpartition("[")[0]
            if part and part != name:
                places[part] = (*places.get(part, ()), begin + k)
        places[name] = tuple(range(begin, begin + width))
        begin += width
    return places


def _interpolate(matrices: dict[str, Matrix], ends: Ends) -> list[str]:
    """Fill what is missing in place; return what was."""
    notices = []
    lacked = {role: np.isnan(matrix.values) for role, matrix in matrices.items()}
    lengths = np.bincount(ends.episodes)
    for role, matrix in matrices.items():
        rows, episodes = ends.rows, ends.episodes
        if len(matrix.values) == len(rows) + len(lengths):  # one more in each episode
            episodes = np.repeat(np.arange(len(lengths)), lengths + 1)
            rows = np.arange(len(episodes))
        if len(matrix.values) == len(rows):
            matrices[role], filled = interpolated(matrix, episodes, rows)
            if filled:
                notices.append(f"{filled:,} missing numbers of {role} are interpolated")
    if "next_observations" not in matrices or not notices:
        return notices
    # Both columns hold the observation between two steps: they get the same number.
    same = np.flatnonzero(ends.episodes[1:] == ends.episodes[:-1])
    ended, begun = ends.rows[same], ends.rows[same + 1]
    before = np.array(matrices["observations"].values)
    after = np.array(matrices["next_observations"].values)
    gone_after, gone_before = lacked["next_observations"][ended], lacked["observations"][begun]
    after[ended] = np.where(gone_after, before[begun], after[ended])
    before[begun] = np.where(gone_before & ~gone_after, after[ended], before[begun])
    matrices["observations"] = replace(matrices["observations"], values=before)
    matrices["next_observations"] = replace(matrices["next_observations"], values=after)
    return notices


def _roles(
    source: Source, matrices: Mapping[str, Matrix], ends: Ends, observation_only: bool
) -> tuple[Role, ...]:
    found = []
    for role in ROLES:
        columns = source.roles.columns.get(role, ())
        note = ends.notes.get(role, "")
        if role == "observations" and matrices[role].offsets:
            note = f"{', '.join(matrices[role].offsets)} without the first value"
        if role == "next_observations" and not columns:
            note = "no column; the next row's observations"
            if len(matrices["observations"].values) != len(ends.rows):
                note = "the following observations"
        if role == "rewards" and not columns:
            note = "no column; stored as 0, so that only methods that use none can learn from it"
        if role == "actions" and observation_only and columns:
            note = "left out"
        if columns or note:
            numbers = matrices[role].values.shape[1] if role in matrices else len(columns)
            found.append(Role(role, tuple(columns), numbers, note))
    return tuple(found)
