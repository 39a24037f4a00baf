"""What came of a comparison, line by line: returns, races and evaluations, in CSV files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TypeVar

from qss_offline.comparison.entry import Entry, Key
from qss_offline.comparison.raced import member_returns, members_file
from qss_offline.evaluation.normalization import environment_name, normalised
from qss_offline.runs.folder import read_json
from qss_offline.runs.results import read_evaluations, read_race, seed_results
from qss_offline.runs.tables import RowT, read_table, write_table
from qss_offline.runs.values import MISSING, number, whole

BEHAVIOUR = "behaviour"
"""The method of rows of the recordings themselves."""

CHOSEN = "auto"


Recording = tuple[str, str, float]
"""Family, environment and level of randomness."""


@dataclass(frozen=True)
class _OfRecording:
    """What a line is of.

    Attributes:
        family: whose recording it is.
        env_id: the environment.
        random_action_prob: of the recording.
    """

    family: str
    env_id: str
    random_action_prob: float

    @property
    def recording(self) -> Recording:
        """What was learned from."""
        return self.family, self.env_id, self.random_action_prob


@dataclass(frozen=True)
class _OfRun(_OfRecording):
    """What a line is of.

    Attributes:
        method: one of `METHODS`, or `BEHAVIOUR` for the recording itself.
        seed: of the method and of its recording.
    """

    method: str
    seed: int

    @property
    def key(self) -> Key:
        """What tells its run from others of the comparison."""
        return self.family, self.random_action_prob, self.method, self.seed


@dataclass(frozen=True)
class Row(_OfRun):
    """One line of `returns.csv`.

    Attributes:
        family: whose recording it is.
        env_id: the environment.
        random_action_prob: of the recording.
        method: one of `METHODS`, or `BEHAVIOUR` for the recording itself.
        seed: of the method and of its recording.
        metric: "last" is the mean return of the last evaluation, "best" the highest of all.
        mean_return: undiscounted, over the episodes of one evaluation.
        score: the same with 0 for random actions and 1 for an expert, None where these aren't
            known.
        online_steps: environment steps that the method had taken by then.
        updates: gradient steps of a run; of each training, where there are several.
        seconds: wall time of the run, whatever ran beside it.
        preset: name of the comparison.
        dataset_id: the recording without actions.
    """

    metric: str
    mean_return: float
    score: float | None
    online_steps: int
    updates: int
    seconds: float
    preset: str
    dataset_id: str


@dataclass(frozen=True)
class MemberRow(_OfRecording):
    """One line of `members.csv`: what a member of a race returned.

    Attributes:
        family: whose recording it is.
        env_id: the environment.
        random_action_prob: of the recording.
        seed: of the method and of its recording.
        member: its name.
        won: 1 where its policy was chosen, else 0.
        mean_return: of its last policy, in the episodes of the last evaluation.
    """

    seed: int
    member: str
    won: int
    mean_return: float

    @property
    def key(self) -> Key:
        """What tells its race from others of the comparison."""
        return self.family, self.random_action_prob, CHOSEN, self.seed


@dataclass(frozen=True)
class PointRow(_OfRun):
    """One line of `curves.csv`: one evaluation.

    Attributes:
        family: whose recording it is.
        env_id: the environment.
        random_action_prob: of the recording.
        method: one of `METHODS`.
        seed: of the method and of its recording.
        online_steps: environment steps before it.
        updates: gradient steps before it, of methods that take no online steps, else 0.
        mean_return: over its episodes.
    """

    online_steps: int
    updates: int
    mean_return: float


def recording_text(recording: Recording) -> str:
    """Return how tables name recordings."""
    family, env_id, level = recording
    half = ", half-trained" if family.endswith("_medium") else ""
    return f"{environment_name(env_id)}{half}, {100 * level:g}%"


def rows(entries: Sequence[Entry]) -> list[Row]:
    """Read what is done of a comparison, and what was recorded for it."""
    found = {
        (row.key, row.metric): row for entry in entries if entry.done for row in _rows_of(entry)
    }
    return list(found.values())


def _rows_of(entry: Entry) -> list[Row]:
    """Return what its recording has, and what its last and its best policy returned."""
    path = entry.folder.results
    results = read_json(path)
    family, level, method, seed = entry.key

    def row(of: str, metric: str, value: float, steps: int, updates: int, seconds: float) -> Row:
        env_id, preset = entry.spec.env_id, entry.settings.name
        score = normalised(value, env_id)
        return Row(family, env_id, level, of, seed, metric, value, score, steps, updates, seconds,
                   preset, entry.spec.obs_id)  # fmt: skip

    behaviour = number(results.get("behaviour_return", MISSING), f"{path}: behaviour_return")
    evaluations = read_evaluations(entry.folder.seed(seed).result)
    best = seed_results(seed, evaluations)["best"]["evaluation"] - 1
    updates = whole(results.get("updates"), f"{path}: updates")
    seconds = number(results.get("wall_seconds", MISSING), f"{path}: wall_seconds")
    found = [row(BEHAVIOUR, "last", behaviour, 0, 0, 0.0)]
    for metric, point in (("last", evaluations[-1]), ("best", evaluations[best])):
        by_then = point.updates or updates
        found.append(row(method, metric, point.mean, point.online_steps, by_then, seconds))
    return found


def member_rows(entries: Sequence[Entry]) -> list[MemberRow]:
    """Read what the members of all races that are done returned."""
    found = []
    for entry in entries:
        if entry.method != CHOSEN or not entry.done:
            continue
        family, level, _, seed = entry.key
        race = read_race(entry.folder.seed(seed).result)
        leader = None if race is None else race.leader
        returns = member_returns(members_file(entry.folder, seed))
        if leader is not None:
            # One that has diverged by the end has left no policy to act.
            returns.setdefault(leader, math.nan)
        found += [
            MemberRow(family, entry.spec.env_id, level, seed, name, int(name == leader), value)
            for name, value in returns.items()
        ]
    return found


def points(entries: Sequence[Entry]) -> list[PointRow]:
    """Read every evaluation of what is done."""
    found = []
    for entry in (one for one in entries if one.done):
        family, level, method, seed = entry.key
        for one in read_evaluations(entry.folder.seed(seed).result):
            of = family, entry.spec.env_id, level, method, seed
            found.append(PointRow(*of, one.online_steps, one.updates or 0, one.mean))
    return found


AnyRow = TypeVar("AnyRow", Row, MemberRow, PointRow)


def with_earlier(fresh: Sequence[AnyRow], earlier: Sequence[AnyRow]) -> list[AnyRow]:
    """Add the earlier rows of runs that have no fresh ones."""
    made = {row.key for row in fresh}
    return list(fresh) + [row for row in earlier if row.key not in made]


def write_rows(path: Path, kind: type[AnyRow], table: Iterable[AnyRow]) -> None:
    """Write all rows, sorted, so that equal results give equal files."""
    write_table(path, kind, sorted(table, key=lambda row: list(map(str, astuple(row)))))


def read_rows(path: Path, kind: type[RowT]) -> list[RowT]:
    """Read a table; of a file that isn't there no rows.

    Raises:
        UserError: the file can't be read or has other columns.
    """
    return read_table(path, kind) if path.exists() else []
