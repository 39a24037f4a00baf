"""Tables of a comparison's last policies, from its rows."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from qss_offline.comparison.config import RIVALS, WITH_ACTIONS
from qss_offline.comparison.entry import Entry, Key
from qss_offline.comparison.paper_results import REPORTED, reported
from qss_offline.comparison.rows import (
    BEHAVIOUR,
    CHOSEN,
    MemberRow,
    PointRow,
    Recording,
    Row,
    recording_text,
)
from qss_offline.errors import UserError
from qss_offline.evaluation.normalization import environment_name, normalised, or_random
from qss_offline.runs.reader import LABELS
from qss_offline.statistics import bootstrap_interval, iqm, mean, number_text

Scores = Mapping[tuple[Recording, str], Mapping[int, float]]
"""Returns of the last policies by seed, of each method on each recording."""


def last_returns(table: Sequence[Row]) -> dict[tuple[Recording, str], dict[int, float]]:
    """Return what the last policies returned; those that diverged what random actions return."""
    found: dict[tuple[Recording, str], dict[int, float]] = {}
    for row in sorted(table, key=lambda row: row.seed):
        if row.metric == "last":
            value = or_random(row.mean_return, row.env_id)
            found.setdefault((row.recording, row.method), {})[row.seed] = value
    return found


def _pairs(scores: Scores, recording: Recording, method: str) -> NDArray[np.float64]:
    """Return a method's and `CHOSEN`'s returns, `(2, seeds)`, of the seeds that both have.

    A seed has a recording of its own, which makes more difference than the methods often do.
    """
    own, other = (scores.get((recording, one), {}) for one in (method, CHOSEN))
    shared = sorted(own.keys() & other.keys())
    return np.array([[one[seed] for seed in shared] for one in (own, other)], np.float64)


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
    entries: Sequence[Entry],
    table: Sequence[Row],
    members: Sequence[MemberRow] = (),
    curves: Sequence[PointRow] = (),
) -> list[Section]:
    """Return a comparison as tables.

    Args:
        entries: all that was asked for, so that what is missing shows.
        table: rows of what is done.
        members: what the members of races returned.
        curves: every evaluation.
    """
    scores = last_returns(table)
    members, curves = _all_known(members), _all_known(curves)
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
    along = _along_updates([method for method in methods if method in RIVALS], curves)
    return [*found, *([along] if along.rows else []), _budgets(methods, table)]


KnownRow = TypeVar("KnownRow", MemberRow, PointRow)


def _all_known(rows: Sequence[KnownRow]) -> list[KnownRow]:
    """Return rows with what random actions return for policies that diverged."""
    return [replace(row, mean_return=or_random(row.mean_return, row.env_id)) for row in rows]


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
        found = list(scores.get((recording, method), {}).values())
        if method == BEHAVIOUR and found:
            return number_text(float(np.mean(found)))
        return _mean_of_seeds(found) if found or (*recording, method) in asked else "-"

    lines = [
        (recording_text(one), *(cell(one, method) for method in columns)) for one in recordings
    ]
    header = ("recording", "recorded", *(LABELS[method] for method in methods))
    return Section("Last policies", header, tuple(lines))


def _paper(
    recordings: Sequence[Recording], scores: Scores, methods: Sequence[str]
) -> Section | None:
    """Return the paper's figures beside those of the same methods, and of `CHOSEN`, here."""
    beside = [method for method in (CHOSEN, *REPORTED) if method in methods]
    lines = []
    for recording in recordings:
        _, env_id, level = recording
        paper = [reported(env_id, method, level) for method in REPORTED]
        if any(paper):
            own = (_mean_of_seeds(scores.get((recording, one), {}).values()) for one in beside)
            lines.append((recording_text(recording), *own, *map(str, paper)))
    header = (
        "recording",
        *(f"{LABELS[method]}, last" for method in beside),
        *(f"{LABELS[method]} in the paper, best of 100" for method in REPORTED),
    )
    return Section("Beside the paper", header, tuple(lines)) if lines and beside else None


def _mean_of_seeds(returns: Collection[float]) -> str:
    """Return "951 (3)", of no seeds "missing"."""
    return f"{number_text(fmean(returns))} ({len(returns)})" if returns else "missing"


def _over_all(recordings: Sequence[Recording], methods: Sequence[str], scores: Scores) -> Section:
    """Return each method beside `CHOSEN`, on the recordings and seeds that both have."""
    lines = []
    for method in methods:
        pairs = [
            np.stack([own, chosen])
            for recording in recordings
            for returns in [_pairs(scores, recording, method)]
            if (own := normalised_scores(returns[0], recording)) is not None
            and (chosen := normalised_scores(returns[1], recording)) is not None
        ]
        if not pairs:
            continue
        # Recordings count alike, whatever seeds were run on them.
        of_each = np.stack([pair.mean(axis=1) for pair in pairs], axis=1)
        means = [number_text(float(iqm(side))) for side in of_each]
        seeds = sum(pair.shape[1] for pair in pairs)
        ahead = [0.5 + 0.5 * float(np.sign(chosen - own).mean()) for own, chosen in pairs]
        better = "-" if method == CHOSEN else str(bootstrap_interval(ahead, _rng(), mean))
        lines.append((LABELS[method], str(len(pairs)), str(seeds), *means, better))
    header = (
        "method", "recordings", "seeds in all", "its normalised return (IQM over recordings)",
        "auto's",
        "share of seeds in which auto is ahead, mean over recordings",
    )  # fmt: skip
    return Section("On shared recordings", header, tuple(lines))


def _rng() -> np.random.Generator:
    """Return what draws resamples, so that a table is the same each time."""
    return np.random.default_rng(0)


def normalised_scores(returns: Iterable[float], recording: Recording) -> NDArray[np.float64] | None:
    """Return 0 for random actions and 1 for an expert; None of none, or where that isn't known."""
    scores = [score for one in returns if (score := normalised(one, recording[1])) is not None]
    return np.array(scores, np.float64) if scores else None


def _behind(recordings: Sequence[Recording], methods: Sequence[str], scores: Scores) -> Section:
    """Return where a method is ahead of `CHOSEN` on the seeds of both: the largest lead first."""
    leads = []
    for recording in recordings:
        for method in methods:
            theirs, own = _pairs(scores, recording, method)
            if not len(own) or theirs.mean() <= own.mean():
                continue
            shown = (number_text(float(one.mean())) for one in (own, theirs))
            sees = "actions" if method in WITH_ACTIONS else "no actions"
            ahead = f"{int((theirs > own).sum())} of {len(own)}"
            known = normalised_scores([theirs.mean(), own.mean()], recording)
            lead = 0.0 if known is None else float(known[0] - known[1])
            line = (recording_text(recording), *shown, LABELS[method], sees, ahead)
            leads.append((lead, line))
    leads.sort(key=lambda one: -one[0])
    header = ("recording", "auto", "other", "method", "it sees", "ahead in seeds")
    return Section("Where auto is behind", header, tuple(line for _, line in leads))


def _choices(recordings: Sequence[Recording], members: Sequence[MemberRow]) -> Section:
    """Return what choosing cost in the races on each recording."""
    lines = []
    for recording in recordings:
        here = [row for row in members if row.recording == recording]
        races = [[row for row in here if row.seed == k] for k in sorted({r.seed for r in here})]
        if races:
            won = (_won(race) for race in races)
            chosen = "; ".join(f"{row.member} {number_text(row.mean_return)}" for row in won)
            lines.append((recording_text(recording), chosen, "; ".join(map(_kept_text, races))))
    return Section("What choosing cost", ("recording", "chosen, each seed", "kept"), tuple(lines))


def _kept_text(race: Sequence[MemberRow]) -> str:
    """Return the share that was kept, and of what where another member had more."""
    share, best = kept(race), _best(race)
    if share is None:
        return "-"
    text = f"{share:.0%}"
    return text if best.won or text == "100%" else f"{text} of {best.member}"


def kept(race: Sequence[MemberRow]) -> float | None:
    """Return how much of the best member's normalised return the winner of a race has.

    None where that isn't known, or the best is no better than random actions.
    """
    won, best = _won(race), _best(race)
    scores = normalised_scores([won.mean_return, best.mean_return], won.recording)
    return None if scores is None or scores[1] <= 0 else float(scores[0] / scores[1])


def _best(race: Sequence[MemberRow]) -> MemberRow:
    """Return who returned most; of equals who won."""
    return max(race, key=lambda row: (row.mean_return, row.won))


def _won(race: Sequence[MemberRow]) -> MemberRow:
    for row in race:
        if row.won:
            return row
    raise UserError(f"members of {recording_text(race[0].recording)}: none of them won the race")


_SHARES = tuple(tenth / 10 for tenth in range(1, 11))
"""Of the updates, where the curves of d3rlpy's methods are shown."""


def _along_updates(methods: Sequence[str], curves: Sequence[PointRow]) -> Section:
    """Return how d3rlpy's methods do along their updates, each recording's run counting alike."""
    lines = []
    for env_id in dict.fromkeys(point.env_id for point in curves):
        for method in methods:
            runs: dict[Key, list[PointRow]] = {}
            for point in curves:
                if (point.env_id, point.method) == (env_id, method):
                    runs.setdefault(point.key, []).append(point)
            scores = [at for run in runs.values() if (at := _at_shares(run)) is not None]
            if scores:
                means = map(number_text, np.mean(scores, axis=0).tolist())
                shown = environment_name(env_id), LABELS[method], str(len(scores)), *means
                lines.append(shown)
    header = ("environment", "method", "runs", *(f"{share:.0%}" for share in _SHARES))
    return Section("Normalised returns along the updates", header, tuple(lines))


def _at_shares(run: Sequence[PointRow]) -> NDArray[np.float64] | None:
    """Return the normalised returns of one run after these shares of its updates."""
    ordered = sorted(run, key=lambda point: point.updates)
    chosen = [ordered[math.ceil(share * len(ordered)) - 1] for share in _SHARES]
    return normalised_scores([point.mean_return for point in chosen], run[0].recording)


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
    "its own. Normalised returns are 0 for random actions and 1 for the shipped expert; a policy "
    "that diverged counts as random actions."
)


def _line(parts: Sequence[str]) -> str:
    return "| " + " | ".join(parts) + " |"
