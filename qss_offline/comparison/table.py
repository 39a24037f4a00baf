"""What came of a comparison: every return in a CSV file, a table with intervals, a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

from qss_offline.comparison.cells import Cell, Run
from qss_offline.comparison.paper_results import reported
from qss_offline.runs.folder import read_json
from qss_offline.runs.results import EvaluationPoint, read_evaluations, seed_results
from qss_offline.runs.tables import read_table, write_table
from qss_offline.runs.values import number
from qss_offline.statistics import (
    ENOUGH,
    Interval,
    bootstrap_interval,
    counted,
    iqm,
    mean_of,
    number_text,
    scores_text,
)

METRICS = ("last", "best")
"""`last` is the mean return of the last evaluation; `best` the highest of all evaluations."""


@dataclass(frozen=True)
class Row:
    """One line of `returns.csv`.

    Attributes:
        env_id: the environment.
        random_action_prob: of the recording.
        method: one of `METHODS`, or "behaviour" for the recording itself.
        seed: of the method.
        metric: one of `METRICS`.
        mean_return: undiscounted, over the episodes of one evaluation.
        online_steps: environment steps that the method had taken by then.
        updates: gradient steps of its policy by then.
        preset: name of the comparison.
        seconds: wall time of the seed (a stack's time is shared out evenly).
    """

    env_id: str
    random_action_prob: float
    method: str
    seed: int
    metric: str
    mean_return: float
    online_steps: int
    updates: int
    preset: str
    seconds: float

    @property
    def run(self) -> Run:
        """What tells this run from all others."""
        return self.preset, self.env_id, self.random_action_prob, self.method, self.seed


def rows(cells: Sequence[Cell]) -> list[Row]:
    """Read what is done of every cell; what is missing gives no row."""
    found: list[Row] = []
    for cell in cells:
        for seed in cell.seeds:
            if cell.done(seed):
                path = cell.folder.seed(seed).result
                seconds = number(read_json(path).get("seconds"), f"{path}: seconds")
                found += _rows_of(cell, seed, read_evaluations(path), seconds)
    return found


def _rows_of(
    cell: Cell, seed: int, evaluations: Sequence[EvaluationPoint], seconds: float
) -> list[Row]:
    count = len(evaluations)
    best = seed_results(seed, evaluations)["best"]["evaluation"]
    updates = cell.settings.updates(cell.method)
    # BCO's policy is as far as the rounds are; D3G's proposal is the same in all of them.
    by_round = cell.method == "bco"
    return [
        Row(
            cell.env_id,
            cell.random_action_prob,
            cell.method,
            seed,
            metric,
            evaluations[number - 1].mean,
            evaluations[number - 1].online_steps,
            evaluations[number - 1].updates or (updates * number // count if by_round else updates),
            cell.settings.name,
            seconds,
        )
        for metric, number in (("last", count), ("best", best))
    ]


def with_earlier(fresh: Sequence[Row], earlier: Sequence[Row]) -> list[Row]:
    """Add the earlier rows of seeds that have no fresh ones."""
    done = {row.run for row in fresh}
    return [*fresh, *(row for row in earlier if row.run not in done)]


def write_csv(path: Path, table: Sequence[Row]) -> None:
    """Write all rows, sorted, so that equal results give equal files."""
    write_table(path, Row, sorted(table, key=astuple))


def read_csv(path: Path) -> list[Row]:
    """Read rows that `write_csv` wrote.

    Raises:
        UserError: the file can't be read or has other columns.
    """
    return read_table(path, Row)


@dataclass(frozen=True)
class Summary:
    """All seeds of one method at one level.

    Attributes:
        scores: of every seed.
        mean: with its 95% bootstrap interval over seeds, where there are enough.
    """

    scores: tuple[float, ...]
    mean: Interval


Key = tuple[str, float, str]
"""Environment, level of randomness, method."""


def summarise(table: Sequence[Row], metric: str) -> dict[Key, Summary]:
    """Summarise the seeds of every cell that has any."""
    scores: dict[Key, list[float]] = {}
    for row in table:
        if row.metric == metric:
            key = row.env_id, row.random_action_prob, row.method
            scores.setdefault(key, []).append(row.mean_return)
    return {key: Summary(tuple(values), mean_of(values)) for key, values in scores.items()}


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
    cells: Sequence[Cell], table: Sequence[Row], behaviour: Mapping[str, Interval]
) -> list[Section]:
    """Return a comparison as tables: of each metric and environment, over levels, and of budgets.

    Args:
        cells: all that was asked for, so that what is missing shows.
        table: rows of what is done.
        behaviour: mean return of the recorded episodes, by id of the recording, where known.
    """
    env_ids = dict.fromkeys(cell.env_id for cell in cells)
    found = []
    for metric in METRICS:
        summaries = summarise(table, metric)
        for env_id in env_ids:
            here = [cell for cell in cells if cell.env_id == env_id]
            rows = _levels(here, summaries, behaviour)
            header = ("random", "method", "return", "paper, best of 100")
            found.append(Section(f"{env_id}, {_TITLES[metric]}", header, tuple(rows)))
    found += [_over_levels(env_id, cells, table) for env_id in env_ids]
    return [*found, _budgets(cells, table)]


def markdown(cells: Sequence[Cell], table: Sequence[Row], behaviour: Mapping[str, Interval]) -> str:
    """Return the same as Markdown; arguments as of `sections`."""
    lines = [_NOTE, ""]
    for section in sections(cells, table, behaviour):
        lines += [f"## {section.title}", "", _line(section.header)]
        lines.append(_line(["---"] * len(section.header)))
        lines += [*map(_line, section.rows), ""]
    return "\n".join(lines)


def _levels(
    cells: Sequence[Cell], summaries: Mapping[Key, Summary], behaviour: Mapping[str, Interval]
) -> list[tuple[str, ...]]:
    """Return a row for the recording and for each method, at every level of an environment."""
    rows: list[tuple[str, ...]] = []
    for level, obs_id in dict.fromkeys((cell.random_action_prob, cell.obs_id) for cell in cells):
        random, env_id = f"{100 * level:g}%", cells[0].env_id
        recorded = number_text(behaviour[obs_id].estimate) if obs_id in behaviour else "-"
        rows.append((random, "recorded", recorded, _paper(env_id, "behaviour", level)))
        for cell in cells:
            if cell.obs_id == obs_id and cell.seeds:
                shown = show(summaries.get(cell.key), len(cell.seeds))
                rows.append((random, cell.method, shown, _paper(env_id, cell.method, level)))
    return rows


def show(summary: Summary | None, asked: int) -> str:
    """Return the scores of a cell as tables show them; "missing" where there are none.

    Args:
        summary: of the cell.
        asked: seeds that were asked for.
    """
    if summary is None:
        return "missing"
    text = scores_text(summary.scores, "seed")
    done = len(summary.scores)
    return text if done >= asked else f"{text}, {done} of {counted(asked, 'seed')}"


def _paper(env_id: str, method: str, level: float) -> str:
    found = reported(env_id, method, level)
    return "-" if found is None else str(found)


def _over_levels(env_id: str, cells: Sequence[Cell], table: Sequence[Row]) -> Section:
    """Interquartile means over all levels, resampled within each, of what is complete."""
    rows = []
    for method in dict.fromkeys(cell.method for cell in cells):
        here = [c for c in cells if (c.env_id, c.method) == (env_id, method) and c.seeds]
        if here:
            rows.append((method, *(_iqm_over_levels(here, table, metric) for metric in METRICS)))
    return Section(f"{env_id}, interquartile mean over all levels", ("method", *METRICS),
                   tuple(rows))  # fmt: skip


def _iqm_over_levels(cells: Sequence[Cell], table: Sequence[Row], metric: str) -> str:
    found = {
        (row.run[2], row.seed): row.mean_return
        for row in table
        for cell in cells
        if row.metric == metric and row.run == cell.run(row.seed)
    }
    scores = [
        [found.get((cell.random_action_prob, seed), math.nan) for cell in cells]
        for seed in cells[0].seeds
    ]
    if np.isnan(scores).any():
        return "missing"
    interval = bootstrap_interval(scores, np.random.default_rng(0), iqm)
    return f"{interval} ({counted(len(scores), 'seed')})"


def _budgets(cells: Sequence[Cell], table: Sequence[Row]) -> Section:
    rows = []
    for method in dict.fromkeys(cell.method for cell in cells):
        last = [row for row in table if row.method == method and row.metric == "last"]
        if last:
            seconds = float(np.median([row.seconds for row in last]))
            numbers = (f"{last[0].updates:,}", f"{last[0].online_steps:,}", f"{seconds:,.0f}")
            rows.append((method, *numbers))
    header = ("method", "updates", "online steps", "median seconds of a seed")
    return Section("Budgets", header, tuple(rows))


_TITLES = {"last": "last evaluation", "best": "best of a seed's evaluations"}

_NOTE = (
    f"Returns are means over seeds: with each seed's in parentheses, or from {ENOUGH} seeds on "
    "with the 95% bootstrap interval in brackets."
)


def _line(parts: Sequence[str]) -> str:
    return "| " + " | ".join(parts) + " |"
