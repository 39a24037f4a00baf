"""The parts of a page that are about several runs: the overview, and the comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from qss_offline.analysis.plots import report as figures
from qss_offline.analysis.report import page
from qss_offline.analysis.report.book import Book, scores_note
from qss_offline.analysis.report.comparison import Comparison, Task, compare, merged
from qss_offline.analysis.report.sources import AnyRun, Returns, task_of
from qss_offline.analysis.report.tables import returns_table
from qss_offline.runs.reader import FinishedRun
from qss_offline.runs.results import learning_curve
from qss_offline.statistics import ENOUGH, counted, number_text, scores_text

Curve = figures.Curve


def overview(runs: Sequence[AnyRun], names: Sequence[str], methods: Sequence[str]) -> str:
    """Return the table of all runs, as HTML."""
    header = ("run", "learned from", "method", "recorded return", "last", "best of evaluations",
              "seeds", "online steps", "updates", "seconds")  # fmt: skip
    rows = [
        (
            name,
            str(task_of(run)),
            method,
            _recorded(run),
            scores_text(run.last) if run.evaluated else page.NONE,
            scores_text(run.best) if run.evaluated else page.NONE,
            f"{len(run.seeds):,}",
            _online_steps(run),
            f"{run.config.updates:,}" if isinstance(run, FinishedRun) else page.NONE,
            f"{run.results['wall_seconds']:,.0f}",
        )
        for run, name, method in zip(runs, names, methods, strict=True)
    ]
    caption = (
        f"Mean returns: {scores_note()}. Recorded: mean ± standard deviation of the recorded "
        "episodes"
    )
    return page.table(header, rows, caption)


def _recorded(run: AnyRun) -> str:
    if not isinstance(run, FinishedRun):
        return page.NONE
    mean, spread = run.behaviour
    return f"{number_text(mean)} ± {number_text(spread)}"


def _online_steps(run: AnyRun) -> str:
    own, known = run.results["seeds"][0]["online_steps"], run.results.get("known_steps", 0)
    return f"{own:,}, and {known:,} known" if known else f"{own:,}"


def write_comparison(
    book: Book, tables: Mapping[str, Returns], runs: Sequence[AnyRun], methods: Sequence[str]
) -> None:
    """Write what all scores say together.

    Args:
        book: of the page.
        tables: scores by where they are from.
        runs: whose curves are drawn.
        methods: of the runs.
    """
    shown = {source: returns for source, returns in tables.items() if returns.scores}
    if not shown:
        return
    for source, returns in shown.items():
        book.parts.append(returns_table(returns, f"{source}. " if len(shown) > 1 else ""))
    found = compare(merged([returns.scores for returns in shown.values()]))
    book.parts += [page.paragraph(note, "quiet") for note in found.notes]
    drawn = _curves(book, runs, methods) + _profiles(book, found) + _improvements(book, found)
    if drawn:
        book.parts.append(page.figures(drawn))


def _curves(book: Book, runs: Sequence[AnyRun], methods: Sequence[str]) -> list[str]:
    """Draw the runs of a recording into one figure, where there are several."""
    by_task: dict[Task, dict[str, list[Curve]]] = {}
    for run, method in zip(runs, methods, strict=True):
        if run.evaluated:
            curve = learning_curve(run.results["seeds"])
            by_task.setdefault(task_of(run), {}).setdefault(method, []).append(curve)
    drawn = []
    for task, found in by_task.items():
        curves = {}
        for method, several in found.items():
            for number, curve in enumerate(_pooled(several), 1):
                curves[method if number == 1 else f"{method} ({number})"] = curve
        if len(curves) < 2:
            continue
        ends = ", ".join(f"{name} {number_text(rows[-1].mean())}" for name, (_, rows)
                         in curves.items())  # fmt: skip
        drawn.append(
            book.figure(
                f"learning-curves-{task}",
                figures.learning_figure(curves, None, task.env_id),
                f"Line chart of returns on {task} over online steps; mean returns end at {ends}.",
                f"{task}. Thick lines are means over seeds, from {ENOUGH} seeds on with 95% "
                "bootstrap intervals; thin lines are seeds.",
            )
        )
    return drawn


def _pooled(curves: Sequence[Curve]) -> list[Curve]:
    """Return the curves of a method's runs, those evaluated at the same steps as one."""
    alike: dict[tuple[int, ...], list[Curve]] = {}
    for curve in curves:
        alike.setdefault(tuple(curve[0].tolist()), []).append(curve)
    return [
        (same[0][0], np.concatenate([rows for _, rows in same], axis=1)) for same in alike.values()
    ]


def _profiles(book: Book, found: Comparison) -> list[str]:
    if not found.profiles:
        return []
    middles = "; ".join(f"{method} {one}" for method, one in found.iqms.items())
    tasks = counted(len(found.shared), "task")
    bands = ", with 95% bands" if any(one.known for one in found.iqms.values()) else ""
    alt = (
        f"Performance profiles of {'; '.join(found.profiles)} over {tasks}: share of runs above "
        f"each normalised score. Interquartile means: {middles}."
    )
    caption = (
        f"Share of runs above each normalised score over {tasks}{bands}. Interquartile mean: "
        f"{middles}."
    )
    figure = figures.profile_figure(found.profiles)
    return [book.figure("performance-profiles", figure, alt, caption)]


def _improvements(book: Book, found: Comparison) -> list[str]:
    if not found.improvements:
        return []
    text = "; ".join(map(str, found.improvements))
    pairs = [(f"{one.method} over {one.other}", one.found) for one in found.improvements]
    alt = f"Probabilities of improvement: {text}."
    caption = "How likely a run of the one beats a run of the other; ties count half."
    figure = figures.improvement_figure(pairs)
    return [book.figure("probability-of-improvement", figure, alt, caption)]
