"""Methods against each other over several tasks: normalised scores, profiles, improvement.

A task is a recording, or an environment that is learned in online; a method is its name, preset and
changed settings. Scores are of the last evaluation: the best of several is chosen with knowledge
that nobody has who must pick a policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qss_offline.evaluation.normalization import normalised, reference
from qss_offline.statistics import (
    ENOUGH,
    Interval,
    Profile,
    bootstrap_interval,
    counted,
    iqm,
    performance_profile,
    probability_of_improvement,
)

FloatArray = NDArray[np.float64]

ONLINE = "online"
"""What is noted of a task without a recording."""

_THRESHOLDS = np.linspace(-0.1, 1.1, 121)


@dataclass(frozen=True)
class Task:
    """Where methods are compared.

    Attributes:
        env_id: the environment.
        random_action_prob: of the recording, None where unknown.
        dataset_id: the recording; None where it isn't known, or there is none.
        note: what else tells it from others, such as `ONLINE`.
    """

    env_id: str
    random_action_prob: float | None = None
    dataset_id: str | None = None
    note: str = ""

    @property
    def level(self) -> str:
        """The random actions of the recording, in words."""
        known = self.random_action_prob
        return "unknown" if known is None else f"{100 * known:g}%"

    @property
    def source(self) -> str:
        """The recording's name without namespace and kind, and the note."""
        name = (self.dataset_id or "").rpartition("/")[2].removesuffix("-obs-v0")
        return ", ".join(filter(None, (name, self.note)))

    def __str__(self) -> str:
        """Return all of it in a line."""
        random = "" if self.random_action_prob is None else f"{self.level} random"
        known = self.source if self.dataset_id else ", ".join(filter(None, (random, self.note)))
        return ", ".join(filter(None, (self.env_id, known)))


Scores = dict[Task, dict[str, dict[int, float]]]
"""Mean return of the last evaluation, by task, method and seed."""


def merged(several: Sequence[Scores]) -> Scores:
    """Return all scores in one; a seed that is there twice counts once."""
    scores: Scores = {}
    for one in several:
        for task, methods in one.items():
            for method, seeds in methods.items():
                scores.setdefault(task, {}).setdefault(method, {}).update(seeds)
    return scores


def methods_of(scores: Scores) -> list[str]:
    """Return the methods in the order in which they come."""
    return list(dict.fromkeys(method for found in scores.values() for method in found))


@dataclass(frozen=True)
class Improvement:
    """How likely a run of one method beats a run of another.

    Attributes:
        method: X.
        other: Y.
        found: P(X > Y), over the tasks that both have.
        tasks: how many these are.
    """

    method: str
    other: str
    found: Interval
    tasks: int

    def __str__(self) -> str:
        """Return it as a caption has it."""
        return f"{self.method} over {self.other} {self.found} on {counted(self.tasks, 'task')}"


@dataclass(frozen=True)
class Comparison:
    """What can be said of several methods together.

    Attributes:
        profiles: of the methods that share most, over `shared` tasks; empty where none has any.
        iqms: interquartile mean of the normalised scores of each method over `shared` tasks.
        shared: tasks with a known scale that these methods all have.
        improvements: of a method over each other that it shares a task with: of auto, where it is
            there, else of D3G, else of the first.
        notes: what was left out.
    """

    profiles: Mapping[str, Profile]
    iqms: Mapping[str, Interval]
    shared: tuple[Task, ...]
    improvements: tuple[Improvement, ...]
    notes: tuple[str, ...]


def compare(scores: Scores) -> Comparison:
    """Compare methods on what they have in common.

    Args:
        scores: of all methods; those that aren't finite are left out.
    """
    rng = np.random.default_rng(0)
    notes = []
    scores, lost = _finite(scores)
    if lost:
        notes.append(f"Left out, as no number was returned: {'; '.join(lost)}.")
    methods = methods_of(scores)
    known = [task for task in scores if reference(task.env_id) is not None]
    unknown = [str(task) for task in scores if task not in known]
    if unknown:
        notes.append(f"Not normalised, as no expert's return is known: {'; '.join(unknown)}.")
    shared, together = _largest_block(scores, known, methods)
    if shared and (len(shared) < len(known) or len(together) < len(methods)):
        notes.append(
            f"Profiles are of {'; '.join(together)} over the {len(shared)} of "
            f"{counted(len(known), 'task')} that these share."
        )
    profiles, iqms = {}, {}
    few = False
    for method in together:
        table, left = _table(scores, shared, method, scaled=True)
        profiles[method] = performance_profile(table, _THRESHOLDS, rng)
        iqms[method] = bootstrap_interval(table, rng, iqm)
        few = few or len(table) < ENOUGH
        if left:
            notes.append(f"{method}: {counted(left, 'seed')} beyond the fewest of a task left out.")
    improvements = []
    for method, other, tasks in _pairs(scores, methods):
        mine, _ = _table(scores, tasks, method)
        theirs, _ = _table(scores, tasks, other)
        few = few or min(len(mine), len(theirs)) < ENOUGH
        found = probability_of_improvement(mine, theirs, rng)
        improvements.append(Improvement(method, other, found, len(tasks)))
    if few:
        notes.append(
            f"Where a method has fewer than {ENOUGH} seeds on a task, there are no intervals: so "
            "few say too little of how others would do."
        )
    if len(methods) > 1 and not improvements:
        notes.append("No two methods share a recording: nothing tells which is better.")
    return Comparison(profiles, iqms, tuple(shared), tuple(improvements), tuple(notes))


def _pairs(scores: Scores, methods: Sequence[str]) -> list[tuple[str, str, list[Task]]]:
    """Return each method with the first before it that has tasks in common, and these.

    The default method is first, D3G next.

    Returns:
        The method that came first, the other, and their tasks.
    """
    order = sorted(methods, key=lambda one: (not one.startswith("auto"), not one.startswith("D3G")))
    found = []
    for index, other in enumerate(order):
        for method in order[:index]:
            tasks = [task for task in scores if {method, other} <= scores[task].keys()]
            if tasks:
                found.append((method, other, tasks))
                break
    return found


def _finite(scores: Scores) -> tuple[Scores, list[str]]:
    """Return the scores that are numbers, and in words which aren't."""
    kept: Scores = {}
    lost = []
    for task, methods in scores.items():
        for method, seeds in methods.items():
            numbers = {seed: score for seed, score in seeds.items() if np.isfinite(score)}
            if numbers:
                kept.setdefault(task, {})[method] = numbers
            lost += [f"{method}, seed {seed} on {task}" for seed in seeds if seed not in numbers]
    return kept, lost


def _largest_block(
    scores: Scores, tasks: Sequence[Task], methods: Sequence[str]
) -> tuple[list[Task], list[str]]:
    """Return tasks and methods without a gap between them, as many scores as possible.

    Two methods come before one, however many tasks that has: it compares nothing.
    """
    candidates = [[task for task in tasks if method in scores[task]] for method in methods]
    candidates.append([task for task in tasks if all(m in scores[task] for m in methods)])
    candidates += [[task] for task in tasks]
    blocks = [
        (block, [m for m in methods if all(m in scores[task] for task in block)])
        for block in candidates
        if block
    ]
    return max(blocks, key=lambda b: (len(b[1]) > 1, len(b[0]) * len(b[1])), default=([], []))


def _table(
    scores: Scores, tasks: Sequence[Task], method: str, scaled: bool = False
) -> tuple[FloatArray, int]:
    """Return `(seeds, tasks)` of a method, and how many seeds that leaves out."""
    rows = [[scores[task][method][seed] for seed in sorted(scores[task][method])] for task in tasks]
    count = min(map(len, rows))
    columns = []
    for task, row in zip(tasks, rows, strict=True):
        values = np.array(row[:count])
        found = normalised(values, task.env_id) if scaled else values
        assert found is not None
        columns.append(found)
    return np.stack(columns, axis=1), sum(len(row) - count for row in rows)
