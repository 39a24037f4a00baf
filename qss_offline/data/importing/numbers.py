"""No number changes on import but by the rounding of float32, which must leave its steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qss_offline.data.importing.ends import Refuse
from qss_offline.data.importing.steps import Steps, rows_of
from qss_offline.data.importing.values import Array, Matrix
from qss_offline.data.precision import Rounding
from qss_offline.data.transitions import BoolArray, Float32Array, Int64Array, row_chunks
from qss_offline.errors import shown

_GREATEST = float(np.finfo(np.float32).max)
_COMPARED = 4096
_EQUAL = 0.99


def as_float32(values: Array, rows: Int64Array) -> Float32Array:
    """Return rows of an array as float32, as a view where it is one already."""
    with np.errstate(over="ignore"):
        return np.asarray(rows_of(values, rows).astype(np.float32, copy=False))


def beyond_float32(values: Array) -> BoolArray:
    """Return where numbers are NaN or infinite, or would be as float32."""
    return ~(np.abs(values) <= _GREATEST)


def refuse_infinite(
    role: str, values: Array, steps: Steps, rows: Int64Array, refuse: Refuse
) -> None:
    """Refuse steps whose numbers are infinite, or would be as float32."""
    if values.dtype.kind != "f":
        return
    bad = np.zeros(len(rows), np.bool_)
    for chunk in row_chunks(len(rows)):
        beyond = beyond_float32(rows_of(values, rows[chunk]))
        bad[chunk] = beyond.reshape(len(beyond), -1).any(axis=1)
    if bad.any():
        row, count = int(bad.argmax()), int(bad.sum())
        refuse(
            f"{role}: row {int(steps.rows[row])} holds NaN or infinity as float32 "
            f"({rows_of(values, rows[row : row + 1])[0]})"
            f"{f', as {count:,} steps do in all' * (count > 1)}; --missing drop-step leaves out "
            "the steps that need it",
            bad,
        )


def refuse_rounded(
    role: str, names: Sequence[str], values: Array | None, steps: Steps, refuse: Refuse
) -> None:
    """Refuse columns whose spread float32 can't hold.

    Args:
        role: for messages.
        names: of the columns.
        values: one row for each of the recording; None takes the observations, whose steps
            float32 has to hold, too.
        steps: which of the rows are kept.
        refuse: called with the columns.
    """
    rounding = Rounding(len(names))
    if values is None:
        for _, before, after in steps.chunks():
            rounding.add(before, after)
    else:
        for chunk in row_chunks(len(steps)):
            rounding.add(rows_of(values, steps.rows[chunk]).reshape(-1, len(names)))
    refuse_columns(role, [names[index] for index in rounding.lost()], len(steps), refuse)


def refuse_columns(role: str, lost: Sequence[str], rows: int, refuse: Refuse) -> None:
    """Refuse columns that float32 can't hold, by name, with what mends it."""
    if not lost:
        return
    listed = ",".join(lost)
    offset = f"--offset {listed} subtracts the first value of each, " if "obs" in role else ""
    refuse(
        f"{role}: float32 can't hold how {', '.join(map(shown, lost))} "
        f"change{'s' if len(lost) == 1 else ''}, which is rounded away; {offset}--ignore "
        f"{listed} leaves {'it' if len(lost) == 1 else 'them'} out, --rounding keep takes what is "
        "left of it",
        np.zeros(rows, np.bool_),
    )


def told_actions(steps: Steps, observations: Matrix, actions: Matrix) -> list[str]:
    """Return a notice for each action that an observation, or the next one, equals."""
    chosen = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), _COMPARED)).astype(np.int64))
    taken = as_float32(actions.values, steps.rows[chosen])
    before = as_float32(observations.values, steps.before[chosen])
    after = as_float32(steps.next_observations, steps.after[chosen])
    notices = []
    for index, action in enumerate(actions.names):
        column = taken[:, index : index + 1]
        if (column == column[0]).all():
            continue
        for place in np.flatnonzero((before == column).mean(axis=0) >= _EQUAL):
            name = observations.names[place]
            notices.append(
                f"observation {shown(name)} equals action {shown(action)}: whoever has the "
                f"recording without actions has this action; --ignore {name} leaves it out"
            )
        for place in np.flatnonzero((after == column).mean(axis=0) >= _EQUAL):
            name = observations.names[place]
            notices.append(
                f"action {shown(action)} equals the next observation's {shown(name)}: either it is "
                "the position to reach, or the observations hold the last action, which "
                f"--ignore {name} leaves out"
            )
    return notices
