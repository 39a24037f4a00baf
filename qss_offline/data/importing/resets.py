"""Steps that never happened: from the end of an episode to the start of the next one.

A reset that no column marks is found by what it does: the state jumps, once, far outside the spread
of all other steps and in most of its numbers at once. Where recorders reset by themselves, the jump
stands at the end of every episode (the observation after it is the next episode's first) or at
its beginning (the step that resets is recorded as one).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from qss_offline.data.importing.ends import Refuse
from qss_offline.data.importing.rules import Resets
from qss_offline.data.importing.steps import Steps, rows_of
from qss_offline.data.transitions import BoolArray, Float64Array, Int64Array
from qss_offline.errors import UserError

_SAMPLE = 100_000
_FEWEST = 4
_FAR = 5.0
"""Usual steps that a jump is longer than."""
_BAND = 3.0
"""How many times longer the shortest jump is than the longest other step."""
_OF_SPREAD = 0.5
"""Part of the spread of observations that a jump covers."""
_OFTEN = 0.1
_MOST_NUMBERS = 0.6
_MOST_JUMPS = 1 / 3
_QUANTILE = 0.99
_UNUSUAL = 1.5
"""How many times longer than nearly all others the steps of a group are at resets: in thirteen of
Gymnasium's environments, 1.1 to 15 times, where first and last steps of true episodes reach 1.0."""
_STILL = 1e-3
_FARTHEST = 10.0
_FEWEST_ENDS = 2
_FEWEST_INSIDE = 12
_MANY_ENDS = 10
"""Ends whose median, were they windows of one run, lies below the longest steps for sure."""


def check_resets(steps: Steps, resets: Resets, refuse: Refuse) -> None:
    """Leave out steps across resets that a recorder made by itself, and refuse others.

    Raises:
        UserError: observations and next observations don't belong to each other.
    """
    _check_alignment(steps, resets, refuse)
    if resets == "keep":
        return
    lengths = _step_lengths(steps)
    jumps = _find_jumps(steps, lengths)
    same_step, next_step, late = _automatic(steps, lengths.together)
    if same_step.any():
        # As without next observations: the true last one was never recorded.
        steps.leave_out(
            same_step,
            "the last of each episode: the observation after them is the next episode's first (the "
            "recorder reset by itself), and the steps before them count as truncated (--resets "
            "keep takes them as they stand)",
        )
        check_resets(steps, resets, refuse)
        return
    for bad, what in (
        (
            next_step,
            "the first step of an episode jumps outside all others (the recorder reset in a "
            "step of its own, or ends are marked a row too early)",
        ),
        (
            late,
            "the last step of an episode jumps outside all others: ends are marked a row too late",
        ),
        (
            jumps & ~next_step & ~late,
            "a step jumps far outside all others, as at a reset; where episodes end there, name "
            "the column that says so",
        ),
    ):
        if not bad.any():
            continue
        if resets == "drop-step":
            steps.leave_out(bad, "across a reset that nothing marks")
            check_resets(steps, resets, refuse)
            return
        refuse(
            f"row {int(steps.rows[bad.argmax()])}: {what}; so it is in {int(bad.sum()):,} rows; "
            "--resets drop-step leaves these steps out, --resets keep takes them as steps",
            bad,
        )


class Lengths(NamedTuple):
    """How long steps are, in usual steps: what most numbers of each reach.

    Attributes:
        everywhere: (n,).
        covering: (n,), of numbers that cover a good part of the spread of observations at once.
        together: (n,), root mean square over all numbers, each in units of its longer steps.
    """

    everywhere: Float64Array
    covering: Float64Array
    together: Float64Array


class Suspects(NamedTuple):
    """Steps that cross resets beside ends that are marked.

    Attributes:
        same_step: (n,) bool: the next observation is the next episode's first.
        next_step: (n,) bool: the first step of an episode leads from the end of the one before.
        late: (n,) bool: the last step of an episode leads to the start of the next one.
    """

    same_step: BoolArray
    next_step: BoolArray
    late: BoolArray


def _step_lengths(steps: Steps) -> Lengths:
    """Measure steps; where nothing moves all are 0."""
    chosen = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), _SAMPLE)).astype(np.int64))
    before = rows_of(steps.observations, steps.before[chosen]).astype(np.float64)
    after = rows_of(steps.next_observations, steps.after[chosen]).astype(np.float64)
    moves = np.abs(after - before)
    # A number that hardly ever changes, such as a goal, tells nothing of usual steps.
    often = (moves > 0).mean(axis=0) >= _OFTEN
    if not often.any():
        return Lengths(*np.zeros((3, len(steps))))
    usual = np.array([np.median(column[column > 0]) for column in moves.T[often]])
    spread = before.std(axis=0)[often]
    needed = max(1, int(np.ceil(_MOST_NUMBERS * often.sum())))
    inside = steps.followed()
    inside[1:] &= inside[:-1]
    inner = moves[inside[chosen]] if inside[chosen].any() else moves
    longer = np.maximum(np.quantile(inner, 0.95, axis=0), _STILL * before.std(axis=0))
    # Numbers that hardly ever change say something where they never do inside an episode: goals.
    moving = (longer > 0) & (often | (inner == 0).all(axis=0))
    everywhere, covering, together = [], [], []
    for _, before, after in steps.chunks():
        lengths = np.abs(after.astype(np.float64) - before)
        scaled = np.minimum(lengths[:, moving] / longer[moving], _FARTHEST)
        together.append(np.sqrt(np.square(scaled).mean(axis=1)))
        lengths = lengths[:, often]
        everywhere.append(_nth_largest(lengths / usual, needed))
        lengths[lengths < _OF_SPREAD * spread] = 0.0
        covering.append(_nth_largest(lengths / usual, needed))
    return Lengths(*map(np.concatenate, (everywhere, covering, together)))


def _find_jumps(steps: Steps, lengths: Lengths) -> BoolArray:
    """Return (n,) which steps are jumps as a reset makes them: far, alone, and rare."""
    none = np.zeros(len(steps), np.bool_)
    if len(steps) < _FEWEST:
        return none
    # A band below the jumps holds no other step: where tails are heavy there is none.
    ordered = np.sort(lengths.everywhere)
    candidates = np.unique(lengths.covering[lengths.covering > _FAR])
    below = ordered[np.maximum(np.searchsorted(ordered, candidates) - 1, 0)]
    apart = candidates[candidates >= _BAND * np.maximum(below, 1.0)]
    if not len(apart):
        return none
    found = lengths.covering >= apart[0]
    alone = found.copy()
    followed = steps.followed()
    alone[1:] &= ~(found[:-1] & followed[:-1])
    alone[:-1] &= ~(found[1:] & followed[:-1])
    if found.mean() > _MOST_JUMPS or alone.sum() < found.sum() / 2:
        return none
    return np.asarray(alone)


def _nth_largest(values: Float64Array, place: int) -> Float64Array:
    """Return what so many numbers of each row reach."""
    return np.asarray(np.partition(values, -place, axis=1)[:, -place])


def _automatic(steps: Steps, lengths: Float64Array) -> Suspects:
    """Return which steps cross resets beside ends that are marked.

    The steps of a group, such as the first of each episode, are compared with those that lie inside
    episodes: at resets most of them are longer than nearly all others.
    """
    last = ~steps.followed()
    same_step, next_step, late = np.zeros((3, len(steps)), np.bool_)
    own = steps.next_observations is not steps.observations
    ends = np.flatnonzero(last[:-1])
    # Without next observations of their own the last step of each episode is left out already.
    between = steps.rows[ends + 1] - steps.rows[ends]
    ends = ends[between == (1 if own else 2)]
    inside = ~last
    inside[ends + 1] = False
    if not len(ends) or not inside.any():
        return Suspects(same_step, next_step, late)
    longest = np.quantile(lengths[inside], _QUANTILE)

    def unusual(group: Int64Array, beside: Int64Array) -> bool:
        """Whether steps are longer than nearly all others, and than those beside them: what falls
        and comes to rest after a true start moves longest there, too."""
        usual = max(longest, np.median(lengths[np.clip(beside, 0, len(steps) - 1)]))
        return bool(np.median(lengths[group]) > _UNUSUAL * usual)

    if own:
        after = rows_of(steps.next_observations, steps.after[ends])
        begun = rows_of(steps.observations, steps.before[ends + 1])
        ended = rows_of(steps.observations, steps.before[ends])
        equal = (after == begun).all(axis=1) & (after != ended).any(axis=1)
        # Where they are equal and nothing jumps, a recording was cut into windows.
        if equal.mean() >= 0.5:
            if unusual(ends[equal] + 1, ends[equal] + 2):
                next_step[ends[equal] + 1] = True
            elif unusual(ends[equal], ends[equal] - 1) or (
                equal.sum() >= _MANY_ENDS and np.median(lengths[ends[equal]]) > longest
            ):
                same_step[ends[equal]] = True
                # What no row follows can't be compared: an end there is like the others.
                compared = np.zeros(len(steps), np.bool_)
                compared[ends] = True
                same_step |= last & ~compared & ~steps.assumed
    elif len(ends) >= _FEWEST_ENDS and inside.sum() >= _FEWEST_INSIDE:
        if unusual(ends + 1, ends + 2):
            next_step[ends + 1] = True
        elif unusual(ends, ends - 1):
            late[ends] = True
    return Suspects(same_step, next_step, late)


def _check_alignment(steps: Steps, resets: Resets, refuse: Refuse) -> None:
    """Check that within an episode each step begins where the one before ended."""
    if steps.next_observations is steps.observations:
        return
    followed = steps.followed()
    differs = np.zeros(len(steps), np.bool_)
    previous = None
    for chunk, before, after in steps.chunks():
        before, after = before.astype(np.float32), after.astype(np.float32)
        differs[chunk][:-1] = (after[:-1] != before[1:]).any(axis=1)
        if previous is not None:
            differs[chunk.start - 1] = bool((previous != before[0]).any())
        previous = after[-1]
    differs &= followed
    if not differs.any():
        return
    row = int(differs.argmax())
    said = (
        f"next_observations: row {int(steps.rows[row])} differs from the observations of row "
        f"{int(steps.rows[row + 1])} of the same episode"
    )
    if differs.sum() > 0.5 * followed.sum() and differs.sum() > 1:
        raise UserError(f"{said}, and so do most; name the columns of both in one order")
    if resets == "drop-step":
        steps.cut(differs)
        return
    refuse(
        f"{said}, in {int(differs.sum()):,} rows in all; name the column that marks ends of "
        "episodes there, or let them end with --resets drop-step",
        differs,
    )
