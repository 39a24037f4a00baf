"""Values and rows that are missing: refused, left out, or filled in, as it is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qss_offline.data.importing.ends import Ends, Refuse
from qss_offline.data.importing.numbers import beyond_float32
from qss_offline.data.importing.rules import Missing
from qss_offline.data.importing.steps import Steps, rows_of
from qss_offline.data.importing.values import Array, Matrix
from qss_offline.data.transitions import BoolArray, Int64Array, row_chunks
from qss_offline.errors import shown


def as_missing(values: Array) -> Array:
    """Return an array in which numbers that are infinite, or would be as float32, are missing."""
    if values.dtype.kind != "f":
        return values
    parts = list(row_chunks(len(values)))
    if not any(beyond_float32(values[part]).any() for part in parts):
        return values
    values = values.copy()
    for part in parts:
        values[part][beyond_float32(values[part])] = np.nan
    return values


def interpolated(matrix: Matrix, episodes: Int64Array, rows: Int64Array) -> tuple[Matrix, int]:
    """Fill what is missing linearly from its neighbours in the episode.

    What has a neighbour on one side only stays missing.

    Args:
        matrix: of the recording.
        episodes: (n,) the episode of each row, in order.
        rows: (n,) the rows, in order.

    Returns:
        The matrix, and how many numbers were filled in.
    """
    lacking = np.isnan(matrix.values)
    if not lacking.any():
        return matrix, 0
    values = matrix.values.copy()
    for own in np.split(rows, np.flatnonzero(np.diff(episodes)) + 1):
        for column in np.flatnonzero(lacking[own].any(axis=0)):
            gone = lacking[own, column]
            if not gone.all():
                places = np.flatnonzero(gone), np.flatnonzero(~gone)
                known = values[own[places[1]], column]
                values[own[places[0]], column] = np.interp(
                    *places, known, left=np.nan, right=np.nan
                )
    filled = int(lacking.sum() - np.isnan(values).sum())
    return Matrix(matrix.names, values, matrix.offsets), filled


def leave_out_missing(
    steps: Steps,
    named: Sequence[tuple[Matrix, str]],
    ends: Ends,
    missing: Missing,
    refuse: Refuse,
) -> None:
    """Leave steps out that lack something, or refuse the recording.

    Args:
        steps: its steps.
        named: matrices with the name of the place in a step, "before", "after" or "rows".
        ends: the episodes.
        missing: what to do.
        refuse: called with what is missing.
    """
    lacking = np.zeros(len(steps), np.bool_)
    said: list[str] = []
    for matrix, place in named:
        # A step from `before` is one to `after`, too: said once where both are of one array.
        found, lines = _missing_rows(matrix, getattr(steps, place))
        lacking |= found
        said += [line for line in lines if line not in said]
    if ends.lacking.any():
        lacking |= np.isin(steps.rows, ends.rows[ends.lacking])
        said.append(f"{int(ends.lacking.sum()):,} flags of ends")
    if lacking.any():
        if missing == "refuse":
            refuse(
                f"values are missing: {', '.join(said[:4])}; --missing drop-step leaves out the "
                "steps that need them, --missing interpolate fills observations in between their "
                "neighbours",
                lacking,
            )
        else:
            steps.leave_out(lacking, "a value is missing")
    # A step with a next observation of its own doesn't lead across: see `resets` for those.
    if steps.next_observations is not steps.observations:
        return
    across = np.isin(steps.rows, ends.rows[ends.gaps])
    if across.any():
        if missing == "refuse":
            refuse(
                f"rows are missing after row {int(steps.rows[across.argmax()])}, says the "
                f"column that counts them, and in {int(across.sum()):,} places in all; --missing "
                "drop-step leaves out the steps across, --ignore that column takes them as steps",
                across,
            )
        else:
            steps.leave_out(across, "rows are missing behind them")


def _missing_rows(matrix: Matrix, rows: Int64Array) -> tuple[BoolArray, list[str]]:
    found = np.zeros(len(rows), np.bool_)
    if matrix.values.dtype.kind != "f":
        return found, []
    counts = np.zeros(len(matrix.names), np.int64)
    first = np.full(len(matrix.names), -1, np.int64)
    for chunk in row_chunks(len(rows)):
        lacking = np.isnan(rows_of(matrix.values, rows[chunk]))
        if not lacking.any():
            continue
        found[chunk] = lacking.any(axis=1)
        counts += lacking.sum(axis=0)
        own = rows[chunk][lacking.argmax(axis=0)]
        first = np.where((first < 0) & lacking.any(axis=0), own, first)
    lines = [
        f"{int(counts[k]):,} of {shown(matrix.names[k])} (first in row {int(first[k])})"
        for k in np.flatnonzero(counts)
    ]
    return found, lines
