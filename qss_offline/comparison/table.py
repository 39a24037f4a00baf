"""What came of a comparison: every return in a CSV file, a table with intervals, a figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qss_offline.comparison.cells import Cell, Run
from qss_offline.comparison.paper_results import reported
from qss_offline.runs.folder import read_json
from qss_offline.runs.results import EvaluationPoint, number, read_evaluations, seed_results
from qss_offline.runs.tables import read_table, write_table
from qss_offline.statistics import Interval, bootstrap_interval, iqm, mean

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
            path = cell.folder.seed(seed).result
            if path.exists():
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
        mean: with its 95% bootstrap interval over seeds.
        iqm: interquartile mean, likewise.
        seeds: how many.
    """

    mean: Interval
    iqm: Interval
    seeds: int


Key = tuple[str, float, str]
"""Environment, level of randomness, method."""


def summarise(table: Sequence[Row], metric: str) -> dict[Key, Summary]:
    """Summarise the seeds of every cell that has any."""
    scores: dict[Key, list[float]] = {}
    for row in table:
        if row.metric == metric:
            key = row.env_id, row.random_action_prob, row.method
            scores.setdefault(key, []).append(row.mean_return)
    return {
        key: Summary(
            bootstrap_interval(values, np.random.default_rng(0), mean),
            bootstrap_interval(values, np.random.default_rng(0), iqm),
            len(values),
        )
        for key, values in scores.items()
    }


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}"


def show(summary: Summary | None, statistic: str = "mean") -> str:
    """Return `mean [low, high]`, without an interval for one seed; missing where there is none."""
    if summary is None:
        return "missing"
    interval: Interval = getattr(summary, statistic)
    if summary.seeds == 1:
        return f"{_number(interval.estimate)} (1 seed)"
    low, high = _number(interval.low), _number(interval.high)
    return f"{_number(interval.estimate)} [{low}, {high}]"


def markdown(cells: Sequence[Cell], table: Sequence[Row], behaviour: Mapping[str, Interval]) -> str:
    """Return the comparison as Markdown tables: last and best apart, the paper's figures beside.

    Args:
        cells: all that was asked for, so that what is missing shows.
        table: rows of what is done.
        behaviour: mean return of the recorded episodes, by id of the recording, where known.
    """
    lines: list[str] = []
    methods = list(dict.fromkeys(cell.method for cell in cells))
    asked = {cell.key: len(cell.seeds) for cell in cells if cell.seeds}
    for metric in METRICS:
        summaries = summarise(table, metric)
        lines += [f"## {_TITLES[metric]}", ""]
        for env_id in dict.fromkeys(cell.env_id for cell in cells):
            header = ["random", "recorded (paper's πo)"]
            for method in methods:
                paper_has = any(reported(env_id, method, c.random_action_prob) for c in cells)
                header.append(f"{method} (paper's best)" if paper_has else method)
            lines += [f"### {env_id}", "", _line(header), _line(["---:"] * len(header))]
            levels = dict.fromkeys(
                (c.random_action_prob, c.obs_id) for c in cells if c.env_id == env_id
            )
            for level, obs_id in levels:
                paper = reported(env_id, "behaviour", level)
                recorded = _number(behaviour[obs_id].estimate) if obs_id in behaviour else "–"
                line = [f"{100 * level:g}%", recorded + _beside(paper)]
                for method in methods:
                    key = env_id, level, method
                    text = show(summaries.get(key)) if key in asked else "–"
                    if key in summaries and 1 < summaries[key].seeds < asked.get(key, 0):
                        text += f" ({summaries[key].seeds} of {asked[key]} seeds)"
                    line.append(text + _beside(reported(env_id, method, level)))
                lines.append(_line(line))
            lines.append("")
    return "\n".join([*lines, *_over_levels(cells, table), *_budgets(cells, table)])


def _over_levels(cells: Sequence[Cell], table: Sequence[Row]) -> list[str]:
    """Interquartile means over all levels, resampled within each, of what is complete."""
    header = ["", *METRICS]
    lines = ["## Interquartile mean over all levels, with 95% stratified bootstrap interval", ""]
    for env_id in dict.fromkeys(cell.env_id for cell in cells):
        lines += [f"### {env_id}", "", _line(header), _line(["---", "---:", "---:"])]
        for method in dict.fromkeys(cell.method for cell in cells):
            here = [c for c in cells if (c.env_id, c.method) == (env_id, method) and c.seeds]
            shown = [show(_iqm_over_levels(here, table, metric), "iqm") for metric in METRICS]
            lines.append(_line([method, *shown]))
        lines.append("")
    return lines


def _iqm_over_levels(cells: Sequence[Cell], table: Sequence[Row], metric: str) -> Summary | None:
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
        return None
    return Summary(
        bootstrap_interval(scores, np.random.default_rng(0), mean),
        bootstrap_interval(scores, np.random.default_rng(0), iqm),
        len(scores),
    )


def _budgets(cells: Sequence[Cell], table: Sequence[Row]) -> list[str]:
    header = ["method", "updates", "online steps", "median seconds of a seed"]
    lines = ["## Budgets", "", _line(header), _line(["---", *["---:"] * 3])]
    for method in dict.fromkeys(cell.method for cell in cells):
        last = [row for row in table if row.method == method and row.metric == "last"]
        if last:
            updates, steps = last[0].updates, last[0].online_steps
            seconds = float(np.median([row.seconds for row in last]))
            lines.append(_line([method, f"{updates:,}", f"{steps:,}", f"{seconds:.0f}"]))
    return [*lines, ""]


_TITLES = {
    "last": "Last evaluation, mean over seeds with 95% bootstrap interval",
    "best": "Best of a seed's evaluations, mean over seeds with 95% bootstrap interval",
}


def _line(parts: Sequence[str]) -> str:
    return "| " + " | ".join(parts) + " |"


def _beside(paper: Any) -> str:
    return "" if paper is None else f" ({_number(paper.mean)} ± {_number(paper.std)})"
