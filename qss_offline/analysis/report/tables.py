"""Scores as a table: a row a recording, a column a method, the paper's figures beside ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qss_offline.analysis.report import page
from qss_offline.analysis.report.book import scores_note
from qss_offline.analysis.report.comparison import ONLINE, Task, methods_of
from qss_offline.analysis.report.sources import Returns
from qss_offline.comparison.paper_results import Reported, reported
from qss_offline.runs.reader import LABELS
from qss_offline.statistics import number_text, scores_text

Column = tuple[str, Callable[[Task], str]]

_PAPER = "paper, best of 100"


def returns_table(returns: Returns, source: str = "") -> str:
    """Return a table of scores, as HTML.

    Args:
        returns: the scores.
        source: where they are from, for the caption.
    """
    tasks, order = list(returns.scores), list(LABELS)
    methods = sorted(
        methods_of(returns.scores),
        key=lambda method: order.index(p) if (p := returns.papers.get(method)) in order else 99,
    )
    preset, names = _without_preset(returns, methods)
    columns: list[Column] = [("environment", lambda task: task.env_id)]
    if any(task.random_action_prob is not None for task in tasks):
        columns.append(("random actions", lambda task: task.level))
    if any(task.note for task in tasks) or len({(t.env_id, t.level) for t in tasks}) < len(tasks):
        columns.append(("recording", lambda task: task.source or page.NONE))
    if returns.recorded:
        columns.append(("recorded return", lambda task: _recorded(returns, task)))
        columns += _paper("πo (paper)", "behaviour", tasks)
    shown: set[str] = set()
    for method, name in zip(methods, names, strict=True):
        columns.append((name, lambda task, method=method: _cell(returns, task, method)))  # type: ignore[misc]
        paper = returns.papers.get(method, "")
        if paper not in shown:
            columns += _paper(f"{name.partition(' (')[0]} ({_PAPER})", paper, tasks)
            shown.add(paper)
    online = ", of online runs the mean of the last three" if any(map(_online, tasks)) else ""
    caption = f"{source}Returns of the last evaluation{online}: {scores_note()}{preset}"
    rows = [[show(task) for _, show in columns] for task in tasks]
    return page.table([name for name, _ in columns], rows, caption)


def _online(task: Task) -> bool:
    return task.note == ONLINE


def _without_preset(returns: Returns, methods: Sequence[str]) -> tuple[str, list[str]]:
    """Return the preset that all methods share, for the caption, and the methods without it."""
    presets = {returns.presets.get(method) for method in methods}
    preset = presets.pop() if len(presets) == 1 else None
    if preset is None:
        return "", list(methods)
    return f". Preset: {preset}", [method.removesuffix(f" ({preset})") for method in methods]


def _cell(returns: Returns, task: Task, method: str) -> str:
    seeds = returns.scores[task].get(method)
    if seeds is None:
        return page.NONE
    return scores_text([seeds[seed] for seed in sorted(seeds)], "seed")


def _recorded(returns: Returns, task: Task) -> str:
    return number_text(returns.recorded[task]) if task in returns.recorded else page.NONE


def _paper(name: str, method: str, tasks: Sequence[Task]) -> list[Column]:
    """Return a column of the paper's figures for a method, if it has any of these tasks."""
    found: dict[Task, Reported] = {}
    for task in tasks:
        if task.random_action_prob is not None:
            figure = reported(task.env_id, method, task.random_action_prob)
            if figure is not None:
                found[task] = figure
    if not found:
        return []

    def show(task: Task) -> str:
        return str(found[task]) if task in found else page.NONE

    return [(name, show)]
