"""The part of a page that is about one online run."""

from __future__ import annotations

import json
import shlex

from qss_offline.analysis.plots import report as figures
from qss_offline.analysis.report import page
from qss_offline.analysis.report.book import Book, spread_note
from qss_offline.analysis.report.reproduce import online_command, online_settings
from qss_offline.analysis.video import FOLDER, render_online
from qss_offline.errors import UserError, printable
from qss_offline.parallel.reporting import ProgressFactory
from qss_offline.runs.reader import OnlineRun
from qss_offline.runs.results import FINAL_EVALUATIONS, final_mean, learning_curve
from qss_offline.settings_json import to_plain
from qss_offline.statistics import counted, number_text, scores_text


def write_online_run(
    book: Book, run: OnlineRun, prefix: str, video: bool, progress: ProgressFactory
) -> None:
    """Write a run's command, what its policy does, scores, curve and settings."""
    book.attempt(run.name, "command", lambda: _command(book, run))
    if run.config:
        book.parts.append(page.heading(3, "Trajectories"))
        book.attempt(run.name, "video", lambda: _seen(book, run, video, progress))
    results, seeds = run.results, run.results["seeds"]
    final = [final_mean(seed) for seed in seeds]
    steps = counted(results["steps"], "environment step")
    book.parts += [
        page.heading(3, "Results"),
        page.paragraph(
            f"{printable(run.env_id)} after {steps} of each of {counted(len(seeds), 'seed')}: "
            f"final score {scores_text(final)}, the mean of the last {FINAL_EVALUATIONS} "
            f"evaluations; last {scores_text(run.last)}, best {scores_text(run.best)}. "
            f"{results['wall_seconds']:,.0f} s in all."
        ),
        _scores(run),
    ]
    book.attempt(run.name, "learning curve", lambda: _curve(book, run, prefix))
    if run.config:
        book.attempt(run.name, "settings", lambda: _settings(book, run))


def _command(book: Book, run: OnlineRun) -> None:
    if not run.config:
        book.parts.append(page.paragraph("A copy of results, without its run's settings.", "quiet"))
        return
    line, remark = online_command(run)
    book.parts += [page.paragraph("To make this run again:"), page.code(line, wrapped=True)]
    if remark:
        book.parts.append(page.paragraph(remark))


def _seen(book: Book, run: OnlineRun, video: bool, progress: ProgressFactory) -> None:
    folder = run.path.parent / FOLDER
    if video and not (folder / "acting.gif").exists():
        render_online(run, notice=book.notice, progress=progress)
    path = shlex.quote(str(run.path.parent))
    if not (folder / "acting.json").exists():
        raise UserError(f"qss render {path} draws it")
    what = "the policy acting, from a fresh first state"
    book.seen(folder, "acting", (what, f"{what.capitalize()}.", "acting"))


def _scores(run: OnlineRun) -> str:
    final = f"mean of the last {FINAL_EVALUATIONS} evaluations"
    rows = [
        (
            str(seed["seed"]),
            number_text(final_mean(seed)),
            number_text(seed["last"]["mean"]),
            number_text(seed["best"]["mean"]),
            f"{seed['best']['online_steps']:,}",
        )
        for seed in run.results["seeds"]
    ]
    return page.table(("seed", final, "last", "best", "best after step"), rows,
                      "Returns of every seed")  # fmt: skip


def _curve(book: Book, run: OnlineRun, prefix: str) -> None:
    steps, means = learning_curve(run.results["seeds"])
    steps = steps + run.results.get("steps_before", 0)
    name = printable(run.env_id)
    drawn = book.figure(
        f"{prefix}learning-curve",
        figures.learning_figure({run.label: (steps, means)}, None, name),
        f"Line chart of returns in {name} over environment steps; the last evaluations are "
        f"{scores_text(run.last)}.",
        f"Return over environment steps. {spread_note(means.shape[1])}",
    )
    book.parts.append(page.figures([drawn]))


def _settings(book: Book, run: OnlineRun) -> None:
    text = json.dumps(to_plain(online_settings(run)), indent=2)
    book.parts.append(page.folded("Configuration", page.code(text)))
