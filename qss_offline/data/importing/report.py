"""What became of a recording: the role of each column, and what was left out."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from qss_offline.errors import printable
from qss_offline.parallel.reporting import print_notice

_WIDTH = 80
_MARGIN = 19
_SHOWN_NAMES = 6


@dataclass(frozen=True)
class Role:
    """The columns of one role.

    Attributes:
        role: such as "observations".
        columns: their names.
        numbers: how many numbers they hold for a step.
        note: what else is to be known of them.
    """

    role: str
    columns: tuple[str, ...]
    numbers: int
    note: str = ""


@dataclass(frozen=True)
class LeftOut:
    """Steps that aren't kept.

    Attributes:
        reason: why.
        steps: how many.
        episodes: how many they were, where whole episodes are left out; else 0.
        reward: sum of their rewards.
        rewards: how many of these aren't 0.
        terminations: how many of them terminated.
    """

    reason: str
    steps: int
    episodes: int
    reward: float
    rewards: int
    terminations: int

    def cell(self, recorded: Recorded) -> str:
        """Return it as a row of the table, beside what was recorded."""
        what = f"{self.steps:,} of {recorded.steps:,} steps"
        if self.episodes:
            what = f"{self.episodes:,} of {recorded.episodes:,} episodes, {what}"
        lost = []
        if recorded.rewards:
            lost.append(
                f"{self.rewards:,} of {recorded.rewards:,} rewards that aren't 0 ({self.reward:g} "
                f"of {recorded.reward:g} in sum)"
            )
        if recorded.terminations:
            lost.append(f"{self.terminations:,} of {recorded.terminations:,} terminations")
        return f"{what}, {self.reason}" + (f"; with them {' and '.join(lost)}" if lost else "")


@dataclass(frozen=True)
class Recorded:
    """What a recording held, or what of it is kept.

    Attributes:
        steps: rows.
        episodes: episodes.
        terminations: episodes that terminated.
        truncations: episodes that were cut.
        reward: sum of the rewards.
        rewards: how many of these aren't 0.
    """

    steps: int
    episodes: int
    terminations: int
    truncations: int
    reward: float
    rewards: int


@dataclass(frozen=True)
class RoleReport:
    """Which column serves which role, what isn't used, and what was left out.

    Attributes:
        source: what was imported.
        roles: in the order of the table.
        unused: columns without a role.
        ignored: columns that were to be ignored.
        left_out: steps that aren't kept, by reason.
        recorded: what the recording holds.
        kept: what is stored.
        notices: what is out of the ordinary, a line each.
    """

    source: str
    roles: tuple[Role, ...]
    unused: tuple[str, ...]
    ignored: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    recorded: Recorded
    kept: Recorded
    notices: tuple[str, ...]

    def table(self) -> list[tuple[str, str]]:
        """Return the rows of the table: a role and what serves it."""
        rows = [("role", "columns")]
        for role in self.roles:
            text = shortened(role.columns)
            if role.numbers > 1:
                text += f" ({role.numbers} numbers)"
            if role.note:
                text = f"{text}: {role.note}" if text else role.note
            rows.append((role.role, text))
        rows.append(("unused", shortened(self.unused) or "-"))
        if self.ignored:
            rows.append(("ignored", shortened(self.ignored)))
        rows += [("left out", one.cell(self.recorded)) for one in self.left_out]
        if not self.left_out:
            rows.append(("left out", "nothing"))
        kept = self.kept
        rows.append(
            (
                "kept",
                f"{kept.steps:,} steps, {kept.episodes:,} episodes ({kept.terminations:,} "
                f"terminated, {kept.truncations:,} truncated)"
                + (f", rewards of {kept.reward:g} in sum" if kept.rewards else ""),
            )
        )
        return rows

    def lines(self) -> list[str]:
        """Return the table as lines of 80 characters at most."""
        lines = []
        for head, text in self.table():
            wrapped = textwrap.wrap(printable(text), _WIDTH - _MARGIN) or [""]
            lines += [
                f"{head if index == 0 else '':{_MARGIN}}{line}"
                for index, line in enumerate(wrapped)
            ]
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return asdict(self)


def print_report(report: RoleReport) -> None:
    """Print the table on standard output, and what is out of the ordinary on standard error."""
    print("\n".join(report.lines()), flush=True)
    for line in report.notices:
        print_notice(line)


def shortened(names: Sequence[str]) -> str:
    """Return names as a list, of many the first and the last."""
    if len(names) <= _SHOWN_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[:3])} … {names[-1]} ({len(names)} columns)"
