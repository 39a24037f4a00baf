"""What a recording would become, and what in it is suspicious, before anything is imported."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qss_offline.data.importing.names import ColumnNames
from qss_offline.data.importing.plan import ImportPlan
from qss_offline.data.importing.report import RoleReport, shortened
from qss_offline.data.importing.rules import AS_IT_STANDS, ImportRules
from qss_offline.data.importing.sources import plan_source
from qss_offline.data.stochasticity import STOCHASTIC_FROM, behaviour_stochasticity
from qss_offline.data.transitions import Float32Array
from qss_offline.errors import UserError, printable

_WIDTH = 80
_SCREEN = 24
_SAMPLE = 20_000
_FEW, _APART = 0.05, 5.0
"""Part of a column's values, and how many times the spread of the others they lie away."""


@dataclass(frozen=True)
class SourceCheck:
    """What a recording would become.

    Attributes:
        source: the recording.
        refused: why it can't be imported as it stands, each with what mends it; empty where it can.
        report: its table, of what is left without the episodes that are refused; None where not
            even that can be told.
        findings: what is suspicious, by its kind, such as "constant columns".
        stochasticity: of the behaviour, None where it can't be measured.
    """

    source: str
    refused: tuple[str, ...]
    report: RoleReport | None
    findings: dict[str, str]
    stochasticity: float | None

    def lines(self) -> list[str]:
        """Return it as lines of 80 characters, on one screen."""
        if self.report is None:
            lines = [f"{self.source} can't be imported as it stands"]
        else:
            lines = [line for line in self.report.lines() if not line.startswith("role ")]
        verdict = "refused" if self.refused else "fine"
        texts = [(verdict, "; ".join(self.refused) or "it can be imported as it stands")]
        texts += self.findings.items()
        if self.report is not None:
            texts += [("notice", one) for one in self.report.notices]
        for head, text in texts:
            lines += textwrap.wrap(
                printable(f"{head}: {text}"), _WIDTH, subsequent_indent="  ", max_lines=5
            )
        if len(lines) > _SCREEN:
            more = len(lines) - _SCREEN + 1
            lines = [*lines[: _SCREEN - 1], f"… {more} more lines; --json shows all"]
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {
            "source": self.source,
            "refused": list(self.refused),
            "report": None if self.report is None else self.report.as_json(),
            "suspicious": [{"name": k, "detail": text} for k, text in self.findings.items()],
            "behaviour_stochasticity": self.stochasticity,
        }


def check_source(
    source: str, *, names: ColumnNames | None = None, rules: ImportRules = AS_IT_STANDS
) -> SourceCheck:
    """Look at a recording without writing anything.

    Args:
        source: a file, a folder, or the id of a Minari dataset.
        names: which columns hold what.
        rules: what to do with what can't be taken as it stands.

    Raises:
        UserError: it can't be read.
    """
    try:
        plan = plan_source(source, names=names, rules=replace(rules, skip_bad=True))
    except UserError as error:
        return SourceCheck(source, (str(error),), None, {}, None)
    findings, share = _suspicious(plan)
    return SourceCheck(source, plan.faults + plan.unmended, plan.report, findings, share)


def _wild(name: str, column: Float32Array) -> str:
    """Say which of a column's values, few of them, lie far outside all others, with none between.

    Whatever moves there by itself passes what lies between.
    """
    ordered = np.sort(column.astype(np.float64))
    gap = int(np.argmax(np.diff(ordered))) + 1 if len(ordered) > 1 else 0
    below, above = ordered[:gap], ordered[gap:]
    few, many = sorted((below, above), key=len)
    spread = np.ptp(many)
    if not 0 < len(few) <= _FEW * len(column) or not 0 < _APART * spread < above[0] - below[-1]:
        return ""
    return f"{name} holds {few[0]:g}{f' and {len(few) - 1:,} more like it' * (len(few) > 1)}"


def _suspicious(plan: ImportPlan) -> tuple[dict[str, str], float | None]:
    transitions = plan.transitions
    count = len(transitions)
    rows = np.unique(np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.int64))
    some = transitions.observations[rows]
    names = plan.names
    found: dict[str, str] = {}
    still = (some == some[0]).all(axis=0)
    constant = [name for name, same in zip(names, still, strict=True) if same]
    if constant:
        found["constant columns"] = shortened(constant)
    equal = [
        f"{names[first]} = {names[second]}"
        for second in range(len(names))
        for first in range(second)
        if names[second] not in constant and np.array_equal(some[:, first], some[:, second])
    ]
    if equal:
        found["equal columns"] = shortened(equal)
    wild = [
        line
        for k, name in enumerate(names)
        if (line := _wild(name, transitions.observations[:, k]))
    ]
    if wild:
        found["wild values"] = (
            f"{shortened(wild)}; if a sensor failed there, empty these cells and take --missing "
            "interpolate"
        )
    following = transitions.episodes[1:] == transitions.episodes[:-1]
    still = (transitions.observations[1:] == transitions.observations[:-1]).all(axis=1) & following
    if transitions.actions is not None:
        still &= (transitions.actions[1:] == transitions.actions[:-1]).all(axis=1)
    if still.any():
        found["duplicated rows"] = f"{int(still.sum()):,} rows repeat the one before them"
    rewards = transitions.rewards
    if not plan.metadata.get("rewards_missing") and (rewards == rewards[0]).all():
        found["rewards"] = f"all are {rewards[0]:g}: nothing can be learned from them"
    single = int((transitions.episode_lengths() == 1).sum())
    if single:
        found["episodes of one step"] = f"{single:,} of {plan.report.kept.episodes:,}"
    share = behaviour_stochasticity(transitions)
    if share is None:
        found["behaviour stochasticity"] = "can't be measured: too few steps, or nothing moves"
    else:
        what = "at least some actions were random" if share >= STOCHASTIC_FROM else "next to none"
        found["behaviour stochasticity"] = f"{share:.1%} of the variance of steps: {what}"
    return found, share
