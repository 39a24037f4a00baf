"""`qss report`: run folders and tables of returns in, figures and a page out."""

from __future__ import annotations

import datetime
import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qss_offline.analysis.diagnostics import bar, diagnose, failed_seeds, hints
from qss_offline.analysis.measures import (
    Coverage,
    ValueAgainstReturn,
    coverage,
    value_against_return,
)
from qss_offline.analysis.models import planner_of, proposing_policy_of
from qss_offline.analysis.plots import report as figures
from qss_offline.analysis.plots import style
from qss_offline.analysis.report import page
from qss_offline.analysis.report.comparison import Comparison, Scores, Task, compare, read_returns
from qss_offline.analysis.report.reproduce import command
from qss_offline.analysis.video import FOLDER as RENDER_FOLDER
from qss_offline.analysis.video import numbers_name, picture_name, render_run
from qss_offline.data.card import dataset_card
from qss_offline.errors import UserError
from qss_offline.files import write_bytes
from qss_offline.parallel.reporting import Notice, ProgressFactory, no_progress, print_notice
from qss_offline.runs.folder import read_json
from qss_offline.runs.reader import FinishedRun, load_run
from qss_offline.runs.results import evaluation_means, learning_curve
from qss_offline.settings_json import to_plain
from qss_offline.statistics import Interval, student_band

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "report.html"


@dataclass
class _Book:
    """Writes figures beside the page and keeps what goes into it."""

    folder: Path
    parts: list[str] = field(default_factory=list)
    made: list[Path] = field(default_factory=list)

    def figure(self, name: str, figure: Figure, alt: str, caption: str) -> str:
        """Write a figure as PNG and SVG, and return it for the page."""
        content = style.to_png(figure)
        # It is laid out by now; doing that again would take as long as drawing.
        figure.set_layout_engine("none")
        for suffix, written in ((".png", content), (".svg", style.to_svg(figure))):
            path = self.folder / f"{name}{suffix}"
            write_bytes(path, written)
            self.made.append(path)
        return page.picture(content, alt, caption)


def make_report(
    sources: Sequence[Path],
    out: Path | None = None,
    *,
    video: bool = True,
    notice: Notice = print_notice,
    progress: ProgressFactory = no_progress,
) -> Path:
    """Write the figures and the page, and return the page's path.

    Args:
        sources: run folders, and `returns.csv` files.
        out: folder of the report; by default `report` in the only run, or in this folder.
        video: draw what a run did where that isn't there yet.
        notice: called with a line for whatever is left out.
        progress: makes a progress display.

    Raises:
        UserError: a source can't be read.
    """
    tables = [path for path in sources if path.suffix == ".csv"]
    runs = [load_run(path) for path in sources if path.suffix != ".csv"]
    if out is None:
        out = runs[0].folder.path / "report" if len(sources) == 1 and runs else Path("report")
    scores = _scores(runs, [read_returns(path) for path in tables])
    book = _Book(out)
    names = _names(runs)
    subject = names[0] if len(runs) == 1 and not tables else f"{len(sources)} sources"
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    made_by = shlex.join(["qss", "report", *map(str, sources)])
    book.parts.append(page.paragraph(f"Made on {today} by {made_by}", "quiet"))
    anchors = [(f"run-{index}", name) for index, name in enumerate(names)]
    if len(runs) > 1:
        book.parts.append(page.links([("together", "All together"), *anchors]))
    if runs:
        book.parts.append(_overview(runs, names))
    if tables or len(runs) > 1:
        _together(book, scores, dict(zip(names, runs, strict=True)))
    with progress("measuring", len(runs), "runs") as report:
        for index, (run, name) in enumerate(zip(runs, names, strict=True)):
            book.parts.append(page.heading(2, f"{name}: {run.env_id}", f"run-{index}"))
            prefix = f"{name}-" if len(runs) > 1 else ""
            _one(book, run, prefix, video, notice, progress)
            report(index + 1, name)
    path = out / PAGE
    write_bytes(path, page.page(f"QSS Offline: {subject}", book.parts).encode())
    return path


def _names(runs: Sequence[FinishedRun]) -> list[str]:
    names: list[str] = []
    for run in runs:
        alike = sum(name == run.name or name.startswith(f"{run.name} (") for name in names)
        names.append(f"{run.name} ({alike + 1})" if alike else run.name)
    return names


def _scores(runs: Sequence[FinishedRun], tables: Sequence[Scores]) -> Scores:
    """Put the last evaluations of runs and tables together."""
    scores: Scores = {}
    for table in tables:
        for task, methods in table.items():
            for method, seeds in methods.items():
                scores.setdefault(task, {}).setdefault(method, {}).update(seeds)
    for run, name in zip(runs, _names(runs), strict=True):
        found = scores.setdefault(Task(run.env_id, run.results.get("random_action_prob")), {})
        label = run.label if run.label not in found else name
        found[label] = dict(zip(run.seeds, run.last.tolist(), strict=True))
    return scores


# --- all runs together ----------------------------------------------------------------------


def _number(value: float) -> str:
    if not math.isfinite(value):
        return "not a number"
    return (
        f"{value:,.0f}"
        if abs(value) >= 1000
        else f"{value:.4g}"
        if abs(value) >= 0.1 or (value == 0)
        else f"{value:.2g}"
    )


def _over_seeds(values: NDArray[np.float64]) -> str:
    """Return a mean with Student's 95% interval over seeds."""
    mean = f"{values.mean():.1f}"
    if len(values) == 1:
        return f"{mean} (one seed)"
    found = student_band(values)
    return f"{mean} [{found.low:.1f}, {found.high:.1f}]"


def _bounds(found: Interval) -> str:
    if math.isnan(found.low):
        return f"{found.estimate:.2f} (one seed)"
    return f"{found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _online_steps(run: FinishedRun) -> str:
    own, known = run.results["seeds"][0]["online_steps"], run.results.get("known_steps", 0)
    return f"{own:,}, {known:,} known" if known else f"{own:,}"


def _overview(runs: Sequence[FinishedRun], names: Sequence[str]) -> str:
    rows = [
        (
            name,
            run.env_id,
            f"{run.behaviour[0]:.1f} ± {run.behaviour[1]:.1f}",
            _over_seeds(run.last),
            _over_seeds(run.best),
            str(len(run.seeds)),
            _online_steps(run),
            f"{run.config.updates:,}",
            f"{run.results['wall_seconds']:,.0f}",
        )
        for run, name in zip(runs, names, strict=True)
    ]
    header = ("run", "environment", "recorded", "last", "best of evaluations", "seeds",
              "online steps", "updates", "seconds")  # fmt: skip
    caption = (
        "Mean returns with Student's 95% interval over seeds; recorded: mean ± standard deviation "
        "of the recorded episodes"
    )
    return page.table(header, rows, caption)


def _together(book: _Book, scores: Scores, runs: Mapping[str, FinishedRun]) -> None:
    found = compare(scores)
    book.parts.append(page.heading(2, "All together", "together"))
    rows = [
        (
            cell.task.env_id,
            "unknown"
            if cell.task.random_action_prob is None
            else f"{100 * cell.task.random_action_prob:g}%",
            cell.method,
            f"{cell.mean.estimate:.1f}"
            + (
                "" if math.isnan(cell.mean.low) else f" [{cell.mean.low:.1f}, {cell.mean.high:.1f}]"
            ),
            str(cell.seeds),
        )
        for cell in found.cells
    ]
    caption = "Last evaluations: mean over seeds with its 95% bootstrap interval"
    book.parts.append(
        page.table(("environment", "random", "method", "return", "seeds"), rows, caption)
    )
    book.parts += [page.paragraph(note, "quiet") for note in found.notes]
    drawn = _curves(book, runs) + _profiles(book, found) + _improvements(book, found)
    if drawn:
        book.parts.append(page.figures(drawn))


def _curves(book: _Book, runs: Mapping[str, FinishedRun]) -> list[str]:
    """Draw the runs of an environment into one figure, where there are several."""
    drawn = []
    for env_id in dict.fromkeys(run.env_id for run in runs.values()):
        curves = {
            name: learning_curve(run.results["seeds"])
            for name, run in runs.items()
            if run.env_id == env_id
        }
        if len(curves) < 2:
            continue
        ends = ", ".join(f"{name} {rows[-1].mean():.1f}" for name, (_, rows) in curves.items())
        drawn.append(
            book.figure(
                f"learning-curves-{env_id}".replace("/", "-").replace(":", "-"),
                figures.learning_figure(curves, None, env_id),
                f"Line chart of returns in {env_id} over online steps; mean returns end at {ends}.",
                "Means with Student's 95% intervals over seeds; thin lines are seeds.",
            )
        )
    return drawn


def _tasks(count: int) -> str:
    return "1 task" if count == 1 else f"{count} tasks"


def _profiles(book: _Book, found: Comparison) -> list[str]:
    if not found.profiles:
        return []
    medians = ", ".join(f"{method} {_bounds(one)}" for method, one in found.iqms.items())
    figure = figures.profile_figure(found.profiles)
    alt = (
        f"Performance profiles of {', '.join(found.profiles)} over {_tasks(len(found.shared))}: "
        f"share of runs above each normalised score. Interquartile means: {medians}."
    )
    caption = (
        f"Share of runs above each normalised score over {_tasks(len(found.shared))}, with "
        f"95% bands. Interquartile mean: {medians}."
    )
    return [book.figure("performance-profiles", figure, alt, caption)]


def _improvements(book: _Book, found: Comparison) -> list[str]:
    if not found.improvements:
        return []
    text = "; ".join(
        f"{label} {_bounds(one)} over {_tasks(tasks)}" for label, one, tasks in found.improvements
    )
    figure = figures.improvement_figure([(label, one) for label, one, _ in found.improvements])
    alt = f"Probabilities of improvement with 95% intervals: {text}."
    caption = f"How likely a run of the one beats a run of the other; ties count half. {text}."
    return [book.figure("probability-of-improvement", figure, alt, caption)]


# --- one run --------------------------------------------------------------------------------


def _one(
    book: _Book,
    run: FinishedRun,
    prefix: str,
    video: bool,
    notice: Notice,
    progress: ProgressFactory,
) -> None:
    line, remark = command(run)
    versions = ", ".join(f"{k} {v}" for k, v in run.results.get("versions", {}).items())
    book.parts += [
        page.paragraph("To make this run again:"),
        page.code(line, wrapped=True),
        *([page.paragraph(remark)] if remark else []),
        page.paragraph(f"Versions: {versions}. Dataset: {run.dataset_id}.", "quiet"),
    ]

    def attempt(what: str, do: Callable[[], None]) -> None:
        """Leave a part out, and say so, rather than give up the page."""
        try:
            do()
        except UserError as error:
            notice(f"{run.name}: no {what}: {error}")
            book.parts.append(page.paragraph(f"No {what}: {error}.", "quiet"))

    attempt("diagnosis", lambda: _verdict(book, run))
    book.parts.append(page.heading(3, "Trajectories"))
    attempt("video", lambda: _seen(book, run, prefix, video, notice, progress))
    book.parts.append(page.heading(3, "Results"))
    attempt("results", lambda: _results(book, run, prefix))
    if run.method == "d3g":
        trained = run
        book.parts.append(page.heading(3, "What was learned"))
        attempt("figures of training", lambda: _training(book, trained, prefix))
        attempt("measurements", lambda: _measured(book, trained, prefix))
    settings = json.dumps(to_plain(run.config), indent=2)
    book.parts.append(page.folded("Configuration", page.code(settings)))
    attempt("dataset card", lambda: _card(book, run, notice))


def _verdict(book: _Book, run: FinishedRun) -> None:
    failed = failed_seeds(run)
    if failed:
        book.parts.append(
            page.paragraph(
                f"{len(failed)} of {len(run.seeds)} seeds did not learn: their last policies "
                f"return less than {bar(run):.1f}.",
                "bad",
            )
        )
        book.parts += [page.hint(one) for one in hints(run)]
    else:
        book.parts.append(
            page.paragraph(f"All {len(run.seeds)} seeds learned." if len(run.seeds) > 1
                           else "The seed learned.", "good")
        )  # fmt: skip
    rows = [
        (f"seed {seed}", one.name, one.measured, "look here" if one.hint else "fine")
        for seed in run.seeds
        for one in diagnose(run, seed)
    ]
    book.parts.append(
        page.folded(
            f"What was checked: {sum(row[3] != 'fine' for row in rows)} of {len(rows)} checks "
            "stand out",
            page.table(("seed", "check", "figure", ""), rows, "Checks of each seed"),
        )
    )


def _seen(
    book: _Book,
    run: FinishedRun,
    prefix: str,
    video: bool,
    notice: Notice,
    progress: ProgressFactory,
) -> None:
    folder, name = run.folder.path / RENDER_FOLDER, picture_name(run)
    numbers = folder / numbers_name(run)
    failure: UserError | None = None
    if video and not (folder / f"{name}.mp4").exists():
        try:
            render_run(run, notice=notice, progress=progress)
        except UserError as error:
            failure = error
    if not numbers.exists():
        raise failure or UserError(f"qss render {shlex.quote(str(run.folder.path))} draws it")
    measured = read_json(numbers)
    shown = f"Seed {measured['shown_seed']}"
    planned = run.method == "d3g"
    between = ", the imagined plan" if planned else ""
    what = f"recorded behaviour{between} and the policy acting, side by side"
    start = "from the same first state"
    if measured.get("acting_alone"):
        what, start = "the policy acting", "from a fresh first state"
    if (folder / f"{name}.mp4").exists():
        book.parts.append(
            page.video((folder / f"{name}.mp4").read_bytes(), f"Video of {what}.",
                       f"{shown}: {what}, {start}.")
        )  # fmt: skip
        book.parts.append(
            page.wide_picture((folder / f"{name}.png").read_bytes(),
                              f"Contact sheet, every fifth step: {what}.",
                              "Every fifth step.")
        )  # fmt: skip
    elif failure is not None:
        book.parts.append(page.paragraph(f"No video: {failure}.", "quiet"))
    parts = [_plan_distance(book, measured, prefix)] if planned else []
    if (folder / "dimensions.png").exists():
        moves = "imagined and acting" if planned else "acting"
        parts.append(
            page.picture((folder / "dimensions.png").read_bytes(),
                         f"{shown}: each dimension of the observation over the steps, {moves}.",
                         f"{shown}: dimensions of the observation, {moves}.")
        )  # fmt: skip
    book.parts.append(page.figures(parts))


def _plan_distance(book: _Book, measured: Mapping[str, Any], prefix: str) -> str:
    last, low, high = (measured[key][-1] for key in ("mean", "low", "high"))
    steps = len(measured["mean"]) - 1
    numbers = f"{last:.2f} [{low:.2f}, {high:.2f}] after {steps} steps"
    ten = min(10, steps)
    numbers = f"{measured['mean'][ten]:.2f} after {ten} steps, {numbers}"
    caption = (
        f"How far the imagined plan is from what the simulator does under the policy: {numbers}, "
        "in standard deviations of the recording (root mean square over dimensions; 95% interval "
        f"over {measured['episodes']} first states of each of {measured['seeds']} seeds)."
    )
    return book.figure(
        f"{prefix}plan-distance",
        figures.distance_figure(measured),
        f"Line chart of the distance between plan and simulator over steps: {numbers}.",
        caption,
    )


def _results(book: _Book, run: FinishedRun, prefix: str) -> None:
    seeds = run.results["seeds"]
    header = ("seed", "last", "best", "all evaluations", "episodes of the last")
    rows = [
        (
            str(seed["seed"]),
            f"{seed['last']['mean']:.1f}",
            f"{seed['best']['mean']:.1f} ({seed['best']['evaluation']} of "
            f"{len(seed['evaluations'])})",
            ", ".join(f"{value:.1f}" for value in evaluation_means(seed)),
            ", ".join(f"{value:.0f}" for value in seed["last"]["returns"]),
        )
        for seed in seeds
    ]
    book.parts.append(page.table(header, rows, "Returns of every seed"))
    behaviour = run.behaviour[0]
    rows_drawn = [
        (f"seed {seed}", float(last), float(best))
        for seed, last, best in zip(run.seeds, run.last, run.best, strict=True)
    ]
    lasts = ", ".join(f"{value:.1f}" for value in run.last)
    book.parts.append(
        page.figures(
            [
                book.figure(
                    f"{prefix}learning-curve",
                    figures.learning_figure(
                        {f"mean of {len(seeds)} seeds": learning_curve(seeds)},
                        behaviour,
                        run.env_id,
                    ),
                    f"Line chart of returns over online steps; recorded behaviour {behaviour:.1f}, "
                    f"seeds end at {lasts}.",
                    "Return over the online steps of the inverse fit: mean with Student's 95% "
                    "interval over seeds, thin lines are seeds.",
                ),
                book.figure(
                    f"{prefix}last-against-best",
                    figures.last_against_best_figure(rows_drawn, behaviour),
                    f"Each seed's last evaluation beside its best: {_pairs(rows_drawn)}.",
                    "The last policy is the one you keep; the best of several evaluations is "
                    "what papers often report.",
                ),
            ]
        )
    )


def _pairs(rows: Sequence[tuple[str, float, float]]) -> str:
    return "; ".join(f"{label}: last {last:.1f}, best {best:.1f}" for label, last, best in rows)


def _training(book: _Book, run: FinishedRun, prefix: str) -> None:
    logged = [run.metrics(seed) for seed in run.seeds]
    rows = min(len(one.get("update", ())) for one in logged)
    if rows == 0:
        raise UserError("the run logged no metrics (it had fewer than 1,000 updates)")
    updates = logged[0]["update"][:rows]

    def stacked(name: str) -> Any:
        return np.stack([one[name][:rows] for one in logged], axis=1)

    limits: tuple[float, float] | None
    try:
        limits = run.facts.value_limits(run.config.preset.algorithm.gamma)
        allowed = f" The rewards allow {_number(limits[0])} to {_number(limits[1])}."
    except UserError:
        limits, allowed = None, ""
    q, error = stacked("q"), stacked("cycle_error")
    losses = {"critic": stacked("critic_loss"), "forward model": stacked("forward_loss")}
    band = "Mean with 95% interval over seeds; thin lines are seeds."
    book.parts.append(
        page.figures(
            [
                book.figure(
                    f"{prefix}values",
                    figures.training_figure(
                        updates,
                        {"recorded transitions": q, "proposals": stacked("proposal_value")},
                        "Q (discounted return)",
                        "Values during training",
                        limits=limits,
                    ),
                    f"Line chart of Q over updates, ending at {_number(q[-1].mean())} on recorded "
                    f"transitions.{allowed}",
                    f"Values of recorded transitions and of proposals.{allowed} {band}",
                ),
                book.figure(
                    f"{prefix}cycle-error",
                    figures.training_figure(
                        updates,
                        {"cycle error": error},
                        "mean squared error (trained units)",
                        "Cycle error: proposal against C",
                        log=True,
                    ),
                    f"Line chart of the cycle error over updates, ending at "
                    f"{_number(error[-1].mean())}.",
                    "How far proposals are from the reachable states that the cycle sends them "
                    f"to: ends at {_number(error[-1].mean())}. {band}",
                ),
                book.figure(
                    f"{prefix}losses",
                    figures.training_figure(
                        updates, losses, "mean squared error", "Losses", log=True
                    ),
                    "Line chart of the losses of critic and forward model over updates.",
                    f"Losses of the critic (squared returns) and of f (squared steps). {band}",
                ),
            ]
        )
    )


def _measured(book: _Book, run: FinishedRun, prefix: str) -> None:
    gamma = run.config.preset.algorithm.gamma
    values: list[tuple[str, ValueAgainstReturn]] = [
        (
            f"seed {seed}",
            value_against_return(
                planner_of(run, seed), proposing_policy_of(run, seed), run.env_id, gamma, seed=seed
            ),
        )
        for seed in run.seeds
    ]
    over = np.array([one.overestimation for _, one in values])
    worth = np.array([one.true.mean() for _, one in values])
    text = f"{_over_seeds(over)} where the true returns average {worth.mean():.1f}"
    first = run.seeds[0]
    transitions = run.dataset.transitions
    found: list[Coverage] = [coverage(planner_of(run, s), transitions) for s in run.seeds]
    outside = ", ".join(f"{one.proposed_outside:.0%}" for one in found)
    book.parts.append(
        page.figures(
            [
                book.figure(
                    f"{prefix}value-against-return",
                    figures.value_figure(values),
                    "Scatter plot of promised values against the true discounted returns. Mean "
                    f"overestimation {text}.",
                    f"Q of the proposals at states that the policy came through, against the "
                    f"discounted return that followed (γ = {gamma:g}, past the time "
                    f"limit). Mean overestimation with 95% interval over seeds: {text}.",
                ),
                book.figure(
                    f"{prefix}coverage",
                    figures.coverage_figure(found[0], f"Seed {first}"),
                    "Scatter plot of recorded states, proposals and cycled proposals on two "
                    f"principal axes; outside the data are {outside} of each seed's proposals.",
                    f"Where the recording has been and where proposals lead. Outside the data: "
                    f"{outside} of each seed's proposals (of the recording itself: 1%).",
                ),
            ]
        )
    )


def _card(book: _Book, run: FinishedRun, notice: Notice) -> None:
    text = dataset_card(run.dataset_id, notice=notice)
    # The front matter is for the Hub.
    body = text.split("---", 2)[-1].strip() if text.startswith("---") else text
    book.parts.append(page.folded("Dataset card", page.code(body, wrapped=True)))
