"""Steps as pairs of rows: which observation they lead from, and to which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from qss_offline.data.importing.ends import Ends
from qss_offline.data.importing.report import LeftOut, Recorded
from qss_offline.data.importing.values import Array
from qss_offline.data.transitions import BoolArray, Int64Array, row_chunks
from qss_offline.errors import UserError


@dataclass(eq=False)
class Steps:
    """Steps that may still be left out.

    Attributes:
        observations: (rows, obs_dim) of the recording.
        next_observations: likewise; the same array where there are none of their own.
        rewards: (rows,), None where there are none.
        before: (n,) rows of `observations`.
        after: (n,) rows of `next_observations`.
        rows: (n,) rows of everything else.
        terminations: (n,) bool.
        truncations: (n,) bool.
        episodes: (n,) int64, growing.
        assumed: (n,) bool, ends that no column marks.
        recorded: what the recording held, before anything was left out.
        left_out: what isn't kept.
    """

    observations: Array
    next_observations: Array
    rewards: Array | None
    before: Int64Array
    after: Int64Array
    rows: Int64Array
    terminations: BoolArray
    truncations: BoolArray
    episodes: Int64Array
    assumed: BoolArray
    left_out: list[LeftOut] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.recorded = self.kept()

    def __len__(self) -> int:
        return len(self.rows)

    def chunks(self) -> Iterator[tuple[slice, Array, Array]]:
        """Yield slices of the steps, with the observations before and after them."""
        for chunk in row_chunks(len(self)):
            before = rows_of(self.observations, self.before[chunk])
            yield chunk, before, rows_of(self.next_observations, self.after[chunk])

    def followed(self) -> BoolArray:
        """Return (n,) whether the next step is the following one of the same episode."""
        return np.append(self.episodes[1:] == self.episodes[:-1], False)

    def cut(self, after: BoolArray) -> None:
        """End episodes after some steps, as truncations; no step is left out."""
        cuts = after & self.followed()
        self.truncations = self.truncations | cuts
        self.assumed = self.assumed | cuts
        self.episodes = self.episodes + np.append(0, np.cumsum(cuts[:-1]))

    def leave_out(self, bad: BoolArray, reason: str, whole_episodes: bool = False) -> None:
        """Leave steps out; what remains of an episode on either side becomes one of its own.

        Raises:
            UserError: nothing is left.
        """
        episodes = 0
        if whole_episodes:
            wrong = np.unique(self.episodes[bad])
            episodes, bad = len(wrong), np.isin(self.episodes, wrong)
        if not bad.any():
            return
        if bad.all():
            raise UserError(f"no step is left: all {len(self):,} would be left out, {reason}")
        lost = self._rewards(self.rows[bad])
        self.left_out.append(
            LeftOut(
                reason,
                int(bad.sum()),
                episodes,
                float(np.nansum(lost)),
                int(np.count_nonzero(np.nan_to_num(lost))),
                int(self.terminations[bad].sum()),
            )
        )
        self.cut(np.append(bad[1:], False) | bad)
        self.truncations[np.append(bad[1:], False) & ~self.terminations & ~self.truncations] = True
        for name in (
            "before",
            "after",
            "rows",
            "terminations",
            "truncations",
            "episodes",
            "assumed",
        ):
            setattr(self, name, getattr(self, name)[~bad])

    def _rewards(self, rows: Int64Array) -> Array:
        if self.rewards is None:
            return np.zeros(len(rows))
        return self.rewards[rows].astype(np.float64)

    def kept(self) -> Recorded:
        """Count what is kept."""
        rewards = self._rewards(self.rows)
        return Recorded(
            len(self),
            int((~self.followed()).sum()),
            int(self.terminations.sum()),
            int((self.truncations & ~self.terminations).sum()),
            float(np.nansum(rewards)),
            int(np.count_nonzero(np.nan_to_num(rewards))),
        )


def rows_of(matrix: Array, rows: Int64Array) -> Array:
    """Return rows of a matrix, as a view where they follow each other."""
    if len(rows) and rows[-1] - rows[0] == len(rows) - 1 and (np.diff(rows) == 1).all():
        return matrix[rows[0] : rows[-1] + 1]
    return matrix[rows]


def pair_rows(
    observations: Array, next_observations: Array | None, rewards: Array | None, ends: Ends
) -> Steps:
    """Give every row the observations before and after it.

    Args:
        observations: as many as rows, or one more in each episode.
        next_observations: as many as rows; None where there are none.
        rewards: (rows,) or None.
        ends: the episodes.

    Raises:
        UserError: there are more or fewer.
    """
    steps = len(ends.rows)
    rows = ends.rows
    episodes = ends.episodes
    total = int(episodes[-1]) + 1
    found = Steps(
        observations,
        observations if next_observations is None else next_observations,
        rewards,
        rows,
        rows,
        rows,
        ends.terminations,
        ends.truncations.copy(),
        episodes,
        ends.assumed,
    )
    if next_observations is not None:
        for name in ("observations", "next_observations"):
            matrix = getattr(found, name)
            if len(matrix) != steps:
                raise UserError(f"{name}: expected {steps} rows, got {len(matrix)}")
        return found
    if len(observations) == steps + total and (np.diff(rows) == 1).all():
        found.before, found.after = rows + episodes, rows + episodes + 1
        return found
    if len(observations) != steps:
        raise UserError(
            f"observations: expected {steps} rows, or {steps + total} with the last observation "
            f"of each of the {total} episodes, got {len(observations)}"
        )
    last = ~found.followed()
    if last.all():
        raise UserError("observations: no episode holds two, so no step can be kept")
    found.after = np.append(rows[1:], rows[-1:])
    found.leave_out(
        last,
        "the last of each episode: the observation after them was never recorded; the steps before "
        "them count as truncated",
    )
    return found
