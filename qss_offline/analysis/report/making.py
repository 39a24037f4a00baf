"""`make_report`: finished runs and tables of returns in, figures and a page out."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Sequence
from pathlib import Path

from qss_offline.analysis.report import page
from qss_offline.analysis.report.book import Book
from qss_offline.analysis.report.offline_run import RunPart
from qss_offline.analysis.report.online_run import write_online_run
from qss_offline.analysis.report.several import overview, write_comparison
from qss_offline.analysis.report.sources import (
    load_sources,
    returns_of_runs,
    run_methods,
    run_names,
    task_of,
)
from qss_offline.errors import UserError, printable
from qss_offline.files import write_bytes
from qss_offline.parallel.reporting import Notice, ProgressFactory, no_progress, print_notice
from qss_offline.runs.reader import OnlineRun
from qss_offline.statistics import counted

PAGE = "report.html"


def make_report(
    sources: Sequence[Path],
    out: Path | None = None,
    *,
    names: Sequence[str] | None = None,
    video: bool = True,
    notice: Notice = print_notice,
    progress: ProgressFactory = no_progress,
) -> Path:
    """Write the figures and the page, and return the page's path.

    Args:
        sources: folders of finished runs, on recordings or online, and `returns.csv` files.
        out: folder of the report; by default `report` in the only run, or in this folder.
        names: of the runs; by default those of their folders.
        video: draw what a run did where that isn't there yet.
        notice: called with a line for whatever is left out.
        progress: makes a progress display.

    Raises:
        UserError: there is no source, or one can't be read.
    """
    if not sources:
        raise UserError("a report needs run folders or returns.csv files")
    runs, tables = load_sources(sources)
    if out is None:
        alone = sources[0] if len(sources) == 1 and runs and sources[0].is_dir() else None
        out = Path("report") if alone is None else alone / "report"
    names = [printable(name) for name in names] if names else run_names(runs)
    methods = run_methods(runs, names)
    book = Book(out, notice)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    made_by = shlex.join(["qss", "report", *map(str, sources)])
    book.parts.append(page.paragraph(printable(f"Made on {today} by {made_by}"), "quiet"))
    compared = bool(tables) or len(runs) > 1
    if compared and runs:
        anchors = [(f"run-{index}", name) for index, name in enumerate(names)]
        book.parts.append(page.links([("together", "All together"), *anchors]))
    if runs:
        book.parts.append(overview(runs, names, methods))
    if compared:
        book.parts.append(page.heading(2, "All together", "together"))
        scores = {"The runs": returns_of_runs(runs, methods), **tables}
        write_comparison(book, scores, runs, methods)
    with progress("measuring", len(runs), "runs") as report:
        for index, (run, name) in enumerate(zip(runs, names, strict=True)):
            online = isinstance(run, OnlineRun)
            where = printable(run.env_id) if online else task_of(run)
            title = f"{name}: {methods[index]}, {where}"
            book.parts.append(page.heading(2, title, f"run-{index}"))
            prefix = f"{name}-" if len(runs) > 1 else ""
            if isinstance(run, OnlineRun):
                write_online_run(book, run, prefix, video, progress)
            else:
                RunPart(book, run, prefix, video, progress).write()
            report(index + 1, name)
    path = out / PAGE
    subject = names[0] if len(runs) == 1 and not tables else _counted(len(runs), len(tables))
    write_bytes(path, page.page(f"QSS Offline: {subject}", book.parts).encode())
    return path


def _counted(runs: int, tables: int) -> str:
    parts = [counted(n, word) for n, word in ((runs, "run"), (tables, "table")) if n]
    return " and ".join(parts)
