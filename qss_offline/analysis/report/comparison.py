"""Methods against each other over several tasks: normalised scores, profiles, improvement.

A task is an environment at a level of randomness; a method is a preset of D3G, or whatever the
column `method` of a `returns.csv` says. Scores are of the last evaluation: the best of several is
chosen with knowledge that nobody has who must pick a policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qss_offline.errors import UserError
from qss_offline.evaluation.normalization import reference as reference_returns
from qss_offline.runs.tables import read_table
from qss_offline.statistics import (
    Interval,
    Profile,
    bootstrap_interval,
    iqm,
    mean,
    performance_profile,
    probability_of_improvement,
)

FloatArray = NDArray[np.float64]

_BEHAVIOUR = "behaviour"
_THRESHOLDS = np.linspace(-0.1, 1.1, 121)


@dataclass(frozen=True)
class Task:
    """Where methods are compared.

    Attributes:
        env_id: the environment.
        random_action_prob: of the recording, None where unknown.
    """

    env_id: str
    random_action_prob: float | None

    def __str__(self) -> str:
        if self.random_action_prob is None:
            return self.env_id
        return f"{self.env_id}, {100 * self.random_action_prob:g}% random"

    def normalise(self, returns: FloatArray) -> FloatArray | None:
        """Return 0 for random actions and 1 for an expert, None where neither is known."""
        found = reference_returns(self.env_id)
        if found is None:
            return None
        low, high = found
        return np.asarray((returns - low) / (high - low), np.float64)


Scores = dict[Task, dict[str, dict[int, float]]]
"""Mean return of the last evaluation, by task, method and seed."""


@dataclass(frozen=True)
class ReturnRow:
    """What is needed of a line of a `returns.csv`.

    Attributes:
        env_id: the environment.
        random_action_prob: of the recording, None where unknown.
        method: what learned.
        seed: of the method.
        metric: "last" or another.
        mean_return: over the episodes of one evaluation.
    """

    env_id: str
    random_action_prob: float | None
    method: str
    seed: int
    metric: str
    mean_return: float


def read_returns(path: Path) -> Scores:
    """Read the last evaluations of a `returns.csv`, which may have more columns than are needed.

    Raises:
        UserError: the file can't be read, lacks a column or holds something else than numbers.
    """
    scores: Scores = {}
    for row in read_table(path, ReturnRow, others=True):
        if row.metric == "last" and row.method != _BEHAVIOUR:
            task = Task(row.env_id, row.random_action_prob)
            scores.setdefault(task, {}).setdefault(row.method, {})[row.seed] = row.mean_return
    if not scores:
        raise UserError(f"{path} holds no rows whose metric is last")
    return scores


@dataclass(frozen=True)
class MethodReturns:
    """All seeds of one method on one task: mean return with its 95% interval over seeds."""

    task: Task
    method: str
    seeds: int
    mean: Interval


@dataclass(frozen=True)
class Comparison:
    """What can be said of several methods together.

    Attributes:
        cells: each method on each task.
        profiles: of the methods that share most, over `shared` tasks; empty where none has any.
        iqms: interquartile mean of the normalised scores of each method over `shared` tasks.
        shared: tasks with a known scale that these methods all have.
        improvements: "X over Y", P(X > Y) and the number of tasks, for the first method.
        notes: what was left out.
    """

    cells: tuple[MethodReturns, ...]
    profiles: Mapping[str, Profile]
    iqms: Mapping[str, Interval]
    shared: tuple[Task, ...]
    improvements: tuple[tuple[str, Interval, int], ...]
    notes: tuple[str, ...]


def compare(scores: Scores, reference: str | None = None) -> Comparison:
    """Compare methods on what they have in common.

    Args:
        scores: of all methods.
        reference: the method that the others are compared with; by default "d3g", or the first.
    """
    rng = np.random.default_rng(0)
    methods = list(dict.fromkeys(method for found in scores.values() for method in found))
    if reference is None:
        reference = "d3g" if "d3g" in methods else methods[0]
    notes = []
    cells = tuple(
        MethodReturns(task, method, len(seeds), bootstrap_interval(list(seeds.values()), rng, mean))
        for task, found in scores.items()
        for method, seeds in found.items()
    )
    known = [task for task in scores if task.normalise(np.zeros(1)) is not None]
    unknown = [str(task) for task in scores if task not in known]
    if unknown:
        notes.append(f"Not normalised, as no expert's return is known: {'; '.join(unknown)}.")
    shared, together = _largest_block(scores, known, methods)
    if shared and (len(shared) < len(known) or len(together) < len(methods)):
        notes.append(
            f"Profiles are of {', '.join(together)} over the {len(shared)} of {len(known)} tasks "
            "that these share."
        )
    profiles, iqms = {}, {}
    if shared:
        for method in together:
            table, left = _table(scores, shared, method, normalised=True)
            profiles[method] = performance_profile(table, _THRESHOLDS, rng)
            iqms[method] = bootstrap_interval(table, rng, iqm)
            if left:
                seeds = "seed" if left == 1 else "seeds"
                notes.append(f"{method}: {left} {seeds} beyond the fewest of a task left out.")
    improvements = []
    for other in (method for method in methods if method != reference):
        tasks = [task for task in scores if {reference, other} <= scores[task].keys()]
        if tasks:
            mine, _ = _table(scores, tasks, reference)
            theirs, _ = _table(scores, tasks, other)
            found = probability_of_improvement(mine, theirs, rng)
            improvements.append((f"{reference} over {other}", found, len(tasks)))
    return Comparison(cells, profiles, iqms, tuple(shared), tuple(improvements), tuple(notes))


def _largest_block(
    scores: Scores, tasks: Sequence[Task], methods: Sequence[str]
) -> tuple[list[Task], list[str]]:
    """Return tasks and methods without a gap between them, as many scores as possible."""
    best: tuple[list[Task], list[str]] = ([], [])
    candidates = [[task for task in tasks if method in scores[task]] for method in methods]
    candidates.append([task for task in tasks if all(m in scores[task] for m in methods)])
    for block in candidates:
        having = [m for m in methods if block and all(m in scores[task] for task in block)]
        if len(block) * len(having) > len(best[0]) * len(best[1]):
            best = block, having
    return best


def _table(
    scores: Scores, tasks: Sequence[Task], method: str, normalised: bool = False
) -> tuple[FloatArray, int]:
    """Return `(seeds, tasks)` of a method, and how many seeds that leaves out."""
    rows = [[scores[task][method][seed] for seed in sorted(scores[task][method])] for task in tasks]
    count = min(map(len, rows))
    columns = []
    for task, row in zip(tasks, rows, strict=True):
        values = np.array(row[:count])
        scaled = task.normalise(values) if normalised else values
        assert scaled is not None
        columns.append(scaled)
    return np.stack(columns, axis=1), sum(len(row) - count for row in rows)
