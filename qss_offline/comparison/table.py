"""What came of a comparison: every return in a CSV file, and tables of the last policies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from qss_offline.comparison.config import WITH_ACTIONS
from qss_offline.comparison.entry import Entry, Key
from qss_offline.comparison.paper_results import reported
from qss_offline.comparison.raced import member_returns, members_file
from qss_offline.errors import UserError
from qss_offline.evaluation.normalization import environment_name, normalised
from qss_offline.runs.folder import read_json
from qss_offline.runs.reader import LABELS
from qss_offline.runs.results import read_evaluations, read_race, seed_results
from qss_offline.runs.tables import read_table, write_table
from qss_offline.runs.values import MISSING, number, whole
from qss_offline.statistics import iqm, number_text

BEHAVIOUR = "behaviour"
"""The method of rows of the recordings themselves."""

CHOSEN = "auto"


@dataclass(frozen=True)
class Row:
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

    family: str
    env_id: str
    random_action_prob: float
    method: str
    seed: int
    metric: str
    mean_return: float
    score: float | None
    online_steps: int
    updates: int
    seconds: float
    preset: str
    dataset_id: str

    @property
    def key(self) -> Key:
        """What tells its run from others of the comparison."""
        return self.family, self.random_action_prob, self.method, self.seed

    @property
    def recording(self) -> Recording:
        """What was learned from."""
        return self.family, self.env_id, self.random_action_prob


@dataclass(frozen=True)
class MemberRow:
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

    family: str
    env_id: str
    random_action_prob: float
    seed: int
    member: str
    won: int
    mean_return: float

    @property
    def key(self) -> Key:
        """What tells its race from others of the comparison."""
        return self.family, self.random_action_prob, CHOSEN, self.seed


@dataclass(frozen=True)
class PointRow:
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

    family: str
    env_id: str
    random_action_prob: float
    method: str
    seed: int
    online_steps: int
    updates: int
    mean_return: float

    @property
    def key(self) -> Key:
        """What tells its run from others of the comparison."""
        return self.family, self.random_action_prob, self.method, self.seed


Recording = tuple[str, str, float]
"""Family, environment and level of randomness."""


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


def read_rows(path: Path, kind: type[AnyRow]) -> list[AnyRow]:
    """Read rows that `write_rows` wrote; of a file that isn't there none.

    Raises:
        UserError: the file can't be read or has other columns.
    """
    return read_table(path, kind) if path.exists() else []


Scores = Mapping[tuple[Recording, str], Sequence[float]]
"""Returns of the last policies, one a seed, of each method on each recording."""


def last_returns(table: Sequence[Row]) -> dict[tuple[Recording, str], list[float]]:
    """Return what the last policies returned, seed by seed."""
    found: dict[tuple[Recording, str], list[float]] = {}
    for row in sorted(table, key=lambda row: row.seed):
        if row.metric == "last":
            found.setdefault((row.recording, row.method), []).append(row.mean_return)
    return found


@dataclass(frozen=True)
class Section:
    """A table in words.

    Attributes:
        title: what it shows.
        header: names of the columns.
        rows: text.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def sections(
    entries: Sequence[Entry], table: Sequence[Row], members: Sequence[MemberRow] = ()
) -> list[Section]:
    """Return a comparison as tables.

    Args:
        entries: all that was asked for, so that what is missing shows.
        table: rows of what is done.
        members: what the members of races returned.
    """
    scores = last_returns(table)
    recordings = list(dict.fromkeys((e.key[0], e.spec.env_id, e.key[1]) for e in entries))
    methods = list(dict.fromkeys(entry.method for entry in entries))
    # A column of nothing but what is missing says nothing.
    begun = {method for _, method in scores}
    methods = [method for method in methods if method in begun] or methods
    asked = {(e.key[0], e.spec.env_id, e.key[1], e.method) for e in entries}
    found = [_returns(recordings, methods, scores, asked)]
    if paper := _paper(recordings, scores, methods):
        found.append(paper)
    if CHOSEN in methods:
        found += [_over_all(recordings, methods, scores), _behind(recordings, methods, scores)]
    if members:
        found.append(_choices(recordings, members))
    return [*found, _budgets(methods, table)]


def markdown(parts: Sequence[Section]) -> str:
    """Return tables as Markdown."""
    lines = [_NOTE, ""]
    for section in parts:
        lines += [f"## {section.title}", "", _line(section.header)]
        lines.append(_line(["---"] * len(section.header)))
        lines += [*map(_line, section.rows), ""]
    return "\n".join(lines)


def _returns(
    recordings: Sequence[Recording],
    methods: Sequence[str],
    scores: Scores,
    asked: set[tuple[str, str, float, str]],
) -> Section:
    columns = [BEHAVIOUR, *methods]

    def cell(recording: Recording, method: str) -> str:
        found = scores.get((recording, method), ())
        if not found:
            return "missing" if (*recording, method) in asked else "-"
        shown = number_text(float(np.mean(found)))
        return shown if method == BEHAVIOUR else f"{shown} ({len(found)})"

    lines = [
        (recording_text(one), *(cell(one, method) for method in columns)) for one in recordings
    ]
    header = ("recording", "recorded", *(LABELS[method] for method in methods))
    return Section("Last policies", header, tuple(lines))


def _paper(
    recordings: Sequence[Recording], scores: Scores, methods: Sequence[str]
) -> Section | None:
    """Return the paper's figures beside those of the same methods here."""
    lines = []
    for recording in recordings:
        _, env_id, level = recording
        for method in (one for one in ("d3g", "bco") if one in methods):
            paper = reported(env_id, method, level)
            own = scores.get((recording, method), ())
            if paper is not None:
                shown = "; ".join(map(number_text, own)) or "missing"
                lines.append((recording_text(recording), LABELS[method], shown, str(paper)))
    header = ("recording", "method", "last, each seed", "paper, best of 100")
    return Section("Beside the paper", header, tuple(lines)) if lines else None


def _over_all(recordings: Sequence[Recording], methods: Sequence[str], scores: Scores) -> Section:
    """Return each method beside `CHOSEN`, on the recordings that both have."""
    lines = []
    for method in methods:
        pairs = [
            (mine, chosen)
            for r in recordings
            if (mine := normalised_scores(scores.get((r, method), ()), r)) is not None
            and (chosen := normalised_scores(scores.get((r, CHOSEN), ()), r)) is not None
        ]
        if not pairs:
            continue
        own, others = zip(*pairs, strict=True)
        means = [number_text(float(iqm(np.concatenate(side)))) for side in (own, others)]
        ahead = np.mean([_share_ahead(chosen, mine) for mine, chosen in pairs])
        points = f"{sum(map(len, own))}, {sum(map(len, others))}"
        better = "-" if method == CHOSEN else f"{float(ahead):.2f}"
        lines.append((LABELS[method], str(len(pairs)), points, *means, better))
    header = (
        "method", "recordings shared", "runs, auto's", "its normalised return (IQM)", "auto's",
        "P(auto is better)",
    )  # fmt: skip
    return Section("On shared recordings", header, tuple(lines))


def normalised_scores(returns: Sequence[float], recording: Recording) -> NDArray[np.float64] | None:
    """Return 0 for random actions and 1 for an expert; None of none, or where that isn't known."""
    scores = [score for one in returns if (score := normalised(one, recording[1])) is not None]
    return np.array(scores, np.float64) if scores else None


def _share_ahead(mine: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """Return P(mine > theirs), ties counted half."""
    signs = np.sign(mine[:, None] - theirs[None, :])
    return float(0.5 + 0.5 * signs.mean())


def _behind(recordings: Sequence[Recording], methods: Sequence[str], scores: Scores) -> Section:
    """Return where a method is ahead of `CHOSEN`: the largest lead first."""
    leads = []
    for recording in recordings:
        own = scores.get((recording, CHOSEN))
        for method in methods:
            other = scores.get((recording, method))
            if own is None or other is None or np.mean(other) <= np.mean(own):
                continue
            shown = (number_text(float(np.mean(one))) for one in (own, other))
            given = "actions" if method in WITH_ACTIONS else "none"
            scales = [normalised_scores(one, recording) for one in (own, other)]
            mine, theirs = (None if one is None else one.mean() for one in scales)
            lead = 0.0 if mine is None or theirs is None else float(theirs - mine)
            line = (recording_text(recording), *shown, LABELS[method], given, _sure(own, other))
            leads.append((lead, line))
    leads.sort(key=lambda one: -one[0])
    header = ("recording", "auto", "ahead", "of", "given", "how sure")
    return Section("Where auto is behind", header, tuple(line for _, line in leads))


def _sure(own: Sequence[float], other: Sequence[float]) -> str:
    """Return how much so few seeds say of which method is better."""
    if min(len(own), len(other)) == 1:
        return "a single seed"
    return "no seeds overlap" if min(other) > max(own) else "seeds overlap"


def _choices(recordings: Sequence[Recording], members: Sequence[MemberRow]) -> Section:
    """Return what choosing cost in each race."""
    lines = []
    for recording in recordings:
        here = [row for row in members if _recording(row) == recording]
        for seed in sorted({row.seed for row in here}):
            race = [row for row in here if row.seed == seed]
            won, best = _won(race), _best(race)
            shown = recording_text(recording), str(seed), *map(_member_text, (won, best))
            share = kept(race)
            lines.append((*shown, "-" if share is None else f"{share:.0%}"))
    header = ("recording", "seed", "chosen", "best member", "kept")
    return Section("What choosing cost", header, tuple(lines))


def _member_text(row: MemberRow) -> str:
    return f"{row.member} {number_text(row.mean_return)}"


def kept(race: Sequence[MemberRow]) -> float | None:
    """Return how much of the best member's normalised return the winner of a race has.

    None where that isn't known, or the best is no better than random actions.
    """
    won, best = _won(race), _best(race)
    scores = normalised_scores([won.mean_return, best.mean_return], _recording(won))
    return None if scores is None or scores[1] <= 0 else float(scores[0] / scores[1])


def _best(race: Sequence[MemberRow]) -> MemberRow:
    """Return who returned most; of equals who won."""
    return max(race, key=lambda row: (row.mean_return, row.won))


def _won(race: Sequence[MemberRow]) -> MemberRow:
    for row in race:
        if row.won:
            return row
    raise UserError(f"members of {recording_text(_recording(race[0]))}: none of them won the race")


def _recording(row: MemberRow) -> Recording:
    return row.family, row.env_id, row.random_action_prob


def _budgets(methods: Sequence[str], table: Sequence[Row]) -> Section:
    lines = []
    for method in methods:
        last = [row for row in table if row.method == method and row.metric == "last"]
        if last:
            updates = sorted({row.updates for row in last})
            said = " to ".join(f"{one:,}" for one in dict.fromkeys((updates[0], updates[-1])))
            steps = f"{max(row.online_steps for row in last):,}"
            seconds = f"{float(np.median([row.seconds for row in last])):,.0f}"
            lines.append((LABELS[method], said, steps, seconds))
    header = ("method", "updates", "online steps", "median seconds of a run")
    return Section("Budgets", header, tuple(lines))


_NOTE = (
    "Mean returns of the last policies, with the number of seeds, each of which has a recording of "
    "its own. Normalised returns are 0 for random actions and 1 for an expert."
)


def _line(parts: Sequence[str]) -> str:
    return "| " + " | ".join(parts) + " |"
