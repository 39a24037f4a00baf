"""Where episodes begin and end, and in which order their rows come, as the columns say it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from qss_offline.data.importing.names import is_time
from qss_offline.data.importing.rules import Resets
from qss_offline.data.importing.values import Array
from qss_offline.data.transitions import BoolArray, Int64Array
from qss_offline.errors import UserError, shown

Refuse: TypeAlias = Callable[[str, BoolArray], None]
"""Called with what is wrong and the rows where it is; raises, or notes the rows."""

_GAP = 1.5
_REGULAR = 0.9


@dataclass(frozen=True, eq=False)
class Ends:
    """The episodes of rows, in the order in which they happened.

    Attributes:
        rows: (N,) places of the rows in the recording.
        terminations: (N,) bool.
        truncations: (N,) bool.
        episodes: (N,) int64 from 0.
        gaps: (N,) bool: the recording lacks what lies between this row and the next.
        notes: what the table says of a role.
        notices: what was assumed.
        lacking: (N,) bool: whether a flag of the row is missing.
        assumed: (N,) bool: ends that no column marks.
    """

    rows: Int64Array
    terminations: BoolArray
    truncations: BoolArray
    episodes: Int64Array
    gaps: BoolArray
    lacking: BoolArray
    assumed: BoolArray
    notes: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)


def find_ends(
    columns: Mapping[str, Sequence[tuple[str, Array]]],
    steps: int,
    parts: Sequence[int],
    sort_by: tuple[str, Array] | None,
    resets: Resets,
    refuse: Refuse,
) -> Ends:
    """Find the episodes.

    Args:
        columns: from a role, `spare` among them, to named arrays of `steps` rows each.
        steps: rows.
        parts: rows of each file; empty for one.
        sort_by: a column by which the rows of each episode are sorted.
        resets: what becomes of an order that begins anew inside an episode.
        refuse: called with what contradicts.

    Raises:
        UserError: nothing says where episodes end, or columns can't be read so.
    """
    one = {role: named[0] for role, named in columns.items() if named}
    for role, named in columns.items():
        for name, column in named:
            if column.shape != (steps,) and role != "spare":
                raise UserError(
                    f"{role}: expected shape ({steps},), got {column.shape}"
                    + ("" if name == role else f" of {shown(name)}")
                )
    flags, lacking = {}, np.zeros(steps, np.bool_)
    for role in ("terminations", "truncations", "ends", "starts"):
        if role in one:
            flags[role], missing = _flags(role, *one[role])
            lacking |= missing
    labels = _labels(columns.get("episodes", ()))
    if not flags and labels is None:
        raise UserError(
            "terminations: no column says where episodes end; name one with --terminations or "
            "--truncations, or the numbers of the episodes with --episodes"
        )
    notes: dict[str, str] = {}
    terminations, truncations = _terminated(flags, steps, one, notes, labels is not None)
    order = list(columns.get("order", ()))
    groups = labels
    if parts:
        files: Int64Array = np.cumsum(
            _new_files(parts, steps, labels, [column for _, column in order]), dtype=np.int64
        )
        groups = files if labels is None else _combined([labels, files])
    rows = np.arange(steps)
    if sort_by is not None:
        rows = _sorted_rows(groups, sort_by)
        terminations, truncations, lacking = terminations[rows], truncations[rows], lacking[rows]
        flags = {role: flag[rows] for role, flag in flags.items()}
        order = [(name, column[rows]) for name, column in order]
        groups = None if groups is None else groups[rows]
        if labels is None:
            _check_one_each(groups, terminations | truncations, flags.get("starts"), sort_by[0])
    labelled = [name for name, _ in columns.get("episodes", ())]
    begins = np.zeros(steps, np.bool_)  # the row is the first of an episode
    begins[0] = True
    if groups is not None:
        begins[1:] |= groups[1:] != groups[:-1]
        _check_together(groups, begins, labelled, order)
    begins |= flags.get("starts", False)
    if labels is None and "starts" not in flags:
        begins[1:] |= (terminations | truncations)[:-1]
    _check_alone(begins, labelled, order)
    inside = (terminations | truncations) & ~np.append(begins[1:], True)
    if inside.any():
        who = ",".join(n for role in ("episodes", "starts") for n, _ in columns.get(role, ()))
        refuse(
            f"terminations, truncations: row {int(inside.argmax())} ends an episode, but its "
            f"episode goes on in the next row (so do {int(inside.sum()):,} in all); "
            f"--ignore {who} lets these ends count alone",
            inside,
        )
        terminations, truncations = terminations & ~inside, truncations & ~inside
    spare = [(name, column[rows]) for name, column in columns.get("spare", ())
             if column.shape == (steps,)]  # fmt: skip
    _check_spare(spare, np.append(begins[1:], True), refuse)
    numbered = labels is not None or begins.sum() <= max(1, len(parts))
    gaps, anew = _check_order(order, begins, numbered, resets, refuse)
    begins[1:] |= anew[:-1]
    last = np.append(begins[1:], True)
    notices = []
    unfinished = last & ~(terminations | truncations)
    if unfinished.any():
        truncations = truncations | unfinished
        if flags.keys() - {"starts"}:
            notices.append(
                f"{int(unfinished.sum()):,} episodes end without termination or truncation; "
                "they count as truncated"
            )
    episodes = np.cumsum(begins).astype(np.int64) - 1
    return Ends(
        rows, terminations, truncations, episodes, gaps, lacking, unfinished, notes, notices
    )


def _flags(role: str, name: str, column: Array) -> tuple[BoolArray, BoolArray]:
    """Return a column as true and false, and where it is missing."""
    said = role if name == role else f"{role}: {shown(name)}"
    missing = np.isnan(column) if column.dtype.kind == "f" else np.zeros(len(column), np.bool_)
    if not np.isin(column[~missing], (0, 1)).all():
        raise UserError(
            f"{said}: expected true and false, or 1 and 0"
            + ("" if name == role else f" (--ignore {name} leaves it out)")
        )
    return np.where(missing, 0, column).astype(np.bool_), missing


def _labels(named: Sequence[tuple[str, Array]]) -> Int64Array | None:
    """Return one number for each combination of labels, None without any."""
    if not named:
        return None
    for name, column in named:
        if column.dtype.kind == "f" and np.isnan(column).any():
            raise UserError(f"episodes: {_missing(name, np.isnan(column))}; every row needs one")
    return _combined([column for _, column in named])


def _missing(name: str, gone: BoolArray) -> str:
    row, rows = int(gone.argmax()), int(gone.sum())
    return f"{shown(name)} is missing in row {row}{f', and in {rows:,} in all' * (rows > 1)}"


def _combined(labels: Sequence[Array]) -> Int64Array:
    """Return one whole number for each combination of labels."""
    codes = np.zeros(len(labels[0]), np.int64)
    for column in labels:
        own = np.unique(column, return_inverse=True)[1].reshape(-1).astype(np.int64)
        codes = codes * (own.max(initial=0) + 1) + own
        codes = np.unique(codes, return_inverse=True)[1].reshape(-1).astype(np.int64)
    return codes


def _terminated(
    flags: dict[str, BoolArray],
    steps: int,
    one: Mapping[str, tuple[str, Array]],
    notes: dict[str, str],
    labelled: bool,
) -> tuple[BoolArray, BoolArray]:
    """Tell terminations from truncations, by whatever says either or both."""
    nothing = np.zeros(steps, np.bool_)
    terminations = flags.get("terminations", nothing)
    truncations = flags.get("truncations", nothing)
    ends = flags.get("ends")
    if ends is None:
        if "terminations" not in flags:
            notes["terminations"] = "no column; every end of an episode counts as a truncation"
        elif "truncations" not in flags:
            notes["truncations"] = (
                "no column; other ends of episodes count as truncations"
                if labelled
                else "no column; every end counts as a termination, but the last row's"
            )
        return terminations, truncations
    name = one["ends"][0]
    if "terminations" not in flags and "truncations" not in flags:
        notes["terminations"] = (
            f"{name} counts as termination, no column tells time limits apart; if they ended "
            f"episodes, name {name} with --truncations"
        )
        return ends, nothing
    if "terminations" not in flags:
        notes["terminations"] = f"where {name} is true and {one['truncations'][0]} isn't"
        return ends & ~truncations, truncations
    known = terminations | truncations
    if "truncations" in flags and (ends & ~known).any():
        row = int((ends & ~known).argmax())
        raise UserError(
            f"truncations: {shown(name)} ends an episode in row {row}, but neither "
            f"{shown(one['terminations'][0])} nor {shown(one['truncations'][0])} does; --ignore "
            f"one of them, or name {name} as what it is"
        )
    if (known & ~ends).any():
        row = int((known & ~ends).argmax())
        raise UserError(
            f"terminations: an episode ends in row {row}, but {shown(name)} says that it goes on; "
            f"--ignore {name} leaves it out"
        )
    if "truncations" not in flags:
        notes["truncations"] = f"where {name} is true and {one['terminations'][0]} isn't"
    return terminations, truncations | (ends & ~terminations)


def _new_files(
    parts: Sequence[int], steps: int, labels: Int64Array | None, order: Sequence[Array]
) -> BoolArray:
    """Return the first row of each file, unless label and order say that an episode goes on."""
    first = np.zeros(steps, np.bool_)
    begin = 0
    for rows in parts:
        if begin < steps:
            first[begin] = True
        begin += rows
    for row in np.flatnonzero(first[1:]) + 1:
        if labels is None or not order or labels[row] != labels[row - 1]:
            continue
        inside = [np.diff(column[max(0, row - 50) : row].astype(np.float64)) for column in order]
        jumps = [float(column[row]) - float(column[row - 1]) for column in order]
        first[row] = not all(
            0 < jump <= 2 * np.median(steps_before)
            for jump, steps_before in zip(jumps, inside, strict=True)
            if len(steps_before)
        )
    return first


def _sorted_rows(groups: Int64Array | None, sort_by: tuple[str, Array]) -> Int64Array:
    name, column = sort_by
    if column.ndim != 1 or (column.dtype.kind == "f" and np.isnan(column).any()):
        raise UserError(f"order: {shown(name)} can't sort rows; it needs one number in each")
    keys: list[Array] = [column]
    if groups is not None:
        # Episodes come in the order in which they are first seen.
        _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
        keys.append(first[inverse.reshape(-1)])
    return np.lexsort(keys).astype(np.int64)


def _check_one_each(
    groups: Int64Array | None, ends: BoolArray, starts: BoolArray | None, name: str
) -> None:
    """Refuse to sort the rows of several episodes that nothing but their ends tells apart."""
    first = np.zeros(len(ends), np.bool_)
    first[0] = True
    if groups is not None:
        first[1:] = groups[1:] != groups[:-1]
    last = np.append(first[1:], True)
    if (ends & ~last).any() or (starts is not None and (starts & ~first).any()):
        raise UserError(
            f"order: {shown(name)} would mix the rows of several episodes; name the numbers of the "
            "episodes with --episodes, and the rows of each are sorted"
        )


def _check_together(
    groups: Int64Array, begins: BoolArray, names: Sequence[str], order: Sequence[tuple[str, Array]]
) -> None:
    """Refuse episodes whose rows don't lie together."""
    if len(np.unique(groups[begins])) < begins.sum():
        name = order[0][0] if order else "COLUMN"
        raise UserError(
            f"episodes: the rows of an episode must lie together, in their order; "
            f"{', '.join(map(shown, names))} returns to an earlier one (--order {name} sorts the "
            f"rows of each; if several are numbered alike, {_told_apart(names)})"
        )


def _check_alone(
    begins: BoolArray, names: Sequence[str], order: Sequence[tuple[str, Array]]
) -> None:
    """Refuse episodes whose order takes each of its values as many times: rows of several robots,
    say, that number their episodes alike."""
    inside = ~begins[1:]
    for name, column in order:
        changes = np.flatnonzero(begins[1:] | (column[1:] != column[:-1])) + 1
        runs = np.diff(np.concatenate(([0], changes, [len(column)])))
        times = int(np.median(runs))
        moves = bool((inside & (column[1:] != column[:-1])).any())
        if times > 1 and moves and np.mean(runs == times) >= _REGULAR:
            raise UserError(
                f"episodes: {shown(name)} holds each of its values {times} times in an episode; "
                f"{_told_apart(names)}, or --ignore {name} takes the rows as they stand"
            )


def _told_apart(names: Sequence[str]) -> str:
    return f"name what tells them apart, as in --episodes {','.join(['robot', *names])}"


def _check_spare(spare: Sequence[tuple[str, Array]], last: BoolArray, refuse: Refuse) -> None:
    """Refuse ends that a column without a role marks inside an episode."""
    for name, column in spare:
        values = column[~np.isnan(column)] if column.dtype.kind == "f" else column
        if not np.isin(values, (0, 1)).all() or values.all():
            continue
        inside = (column == 1) & ~last
        if inside.any():
            refuse(
                f"{shown(name)} looks like an end of episodes and marks row "
                f"{int(inside.argmax())}, inside one; name it with --terminations or "
                f"--truncations, or leave it out with --ignore {name}",
                inside,
            )


def _check_order(
    order: Sequence[tuple[str, Array]],
    begins: BoolArray,
    numbered: bool,
    resets: Resets,
    refuse: Refuse,
) -> tuple[BoolArray, BoolArray]:
    """Refuse rows out of order.

    Args:
        order: columns that count rows or tell the time.
        begins: (N,) first rows of episodes.
        numbered: whether rows that are sorted stay in their episodes.
        resets: what becomes of an order that begins anew inside an episode.
        refuse: called with what is out of order.

    Returns:
        After which rows the recording lacks some, and after which an episode is to end.
    """
    same = np.append(~begins[1:], False)
    gaps, anew = np.zeros((2, len(begins)), np.bool_)
    firsts = np.maximum.accumulate(np.where(begins, np.arange(len(begins)), 0))
    for name, column in order:
        values = column.astype(np.int64) if column.dtype.kind in "biu" else column
        if np.isnan(values).any():
            gone = np.isnan(values)
            refuse(f"{_missing(name, gone)}; --ignore {name} takes the rows as they stand", gone)
            continue
        steps = np.append(np.diff(values), values[:1] * 0)
        inner = steps[same]
        if not len(inner) or np.mean(inner == 0) > 0.5:
            continue  # mostly the same from row to row: it doesn't count them
        sorts = f"--order {name}" if numbered else f"--episodes COLUMN --order {name}"
        wrong = same & ~(steps >= 0 if is_time(name) else steps > 0)
        if wrong.any():
            row = int(wrong.argmax())
            here, there = values[row], values[row + 1]
            # An order that falls to where the episode began, and grows again, begins anew.
            restarts = values[1:] <= values[firsts[:-1]]
            back = wrong & np.append(restarts, False) & (np.append(inner > 0, True).mean() > 0.5)
            if (back == wrong).all():
                if resets == "drop-step":
                    anew |= wrong
                elif resets == "refuse":
                    refuse(
                        f"{shown(name)} begins anew in row {row + 1} ({here} → {there}), inside an "
                        "episode: name what numbers the episodes with --episodes, or let it end "
                        f"there with --resets drop-step ({sorts} sorts the rows, --ignore "
                        f"{name} takes them as they stand)",
                        wrong,
                    )
            else:
                refuse(
                    f"{shown(name)} is out of order in row {row + 1} ({here} → {there}): {sorts} "
                    f"sorts the rows of each episode by it, --ignore {name} takes them as they "
                    "stand",
                    wrong,
                )
        forward = inner[inner > 0]
        usual = float(np.median(forward)) if len(forward) else 0.0
        regular = len(forward) > 2 and np.mean(np.abs(forward - usual) <= 0.2 * usual) >= _REGULAR
        if usual and (regular or not is_time(name)):
            gaps |= same & (steps > _GAP * usual)
    return gaps, anew
