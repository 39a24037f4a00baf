"""The part of a page that is about one run on a recording."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from qss_offline.analysis.diagnostics import diagnose, failed_seeds, hints, verdict
from qss_offline.analysis.measures import (
    Coverage,
    ValueAgainstReturn,
    coverage,
    value_against_return,
)
from qss_offline.analysis.models import planner_of, proposing_policy_of
from qss_offline.analysis.plots import report as figures
from qss_offline.analysis.report import page
from qss_offline.analysis.report.book import Book, scores_note, spread_note
from qss_offline.analysis.report.reproduce import command
from qss_offline.analysis.video import FOLDER as RENDER_FOLDER
from qss_offline.analysis.video import numbers_name, picture_name, render_run
from qss_offline.data.card import dataset_card
from qss_offline.errors import UserError, shown
from qss_offline.parallel.reporting import ProgressFactory
from qss_offline.runs.folder import read_json
from qss_offline.runs.race import RACE_HEADER, Race, race_table
from qss_offline.runs.reader import FinishedRun
from qss_offline.runs.results import evaluation_means, learning_curve
from qss_offline.runs.values import number, whole
from qss_offline.settings_json import to_plain
from qss_offline.statistics import Interval, counted, number_text, scores_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FAR = 1_000.0
"""Standard deviations from which on a plan is lost, and how far no longer matters."""


@dataclass(frozen=True)
class RunPart:
    """One run on a page.

    Attributes:
        book: of the page.
        run: the run.
        prefix: of the names of its figures.
        video: draw what it did where that isn't there yet.
        progress: makes a progress display.
    """

    book: Book
    run: FinishedRun
    prefix: str
    video: bool
    progress: ProgressFactory

    def write(self) -> None:
        """Write everything; what can't be read or measured is left out, and named."""
        run, parts = self.run, self.book.parts
        line, remark = command(run)
        versions = ", ".join(f"{k} {v}" for k, v in run.results.get("versions", {}).items())
        parts += [
            page.paragraph("To make this run again:"),
            page.code(line, wrapped=True),
            *([page.paragraph(remark)] if remark else []),
            page.paragraph(f"Versions: {versions}. Dataset: {run.dataset_id}.", "quiet"),
        ]
        self._attempt("diagnosis", self._verdict)
        if run.evaluated:
            parts.append(page.heading(3, "Trajectories"))
            self._attempt("video", self.seen)
            parts.append(page.heading(3, "Results"))
            self._attempt("results", self._results)
        if run.proposes:
            parts.append(page.heading(3, "What was learned"))
            self._attempt("figures of training", self._training)
            if run.evaluated:
                drawn: list[str] = []
                self._attempt("values against returns", lambda: drawn.append(self._values()))
                self._attempt("coverage", lambda: drawn.append(self._coverage()))
                parts.append(page.figures(drawn))
        settings = json.dumps(to_plain(run.config), indent=2)
        parts.append(page.folded("Configuration", page.code(settings)))
        self._attempt("dataset card", self._card)

    def _attempt(self, what: str, do: Callable[[], None]) -> None:
        self.book.attempt(self.run.name, what, do)

    def _figure(self, name: str, figure: Figure, alt: str, caption: str) -> str:
        return self.book.figure(f"{self.prefix}{name}", figure, alt, caption)

    def _verdict(self) -> None:
        run, parts = self.run, self.book.parts
        kind = "bad" if failed_seeds(run) else "good" if run.evaluated else ""
        parts.append(page.paragraph(verdict(run), kind))
        parts += [page.hint(one) for one in hints(run)[1:]]
        rows = [
            (f"seed {seed}", one.name, one.measured, "look here" if one.hint else "fine")
            for seed in run.seeds
            for one in diagnose(run, seed)
        ]
        outstanding = sum(row[3] != "fine" for row in rows)
        stand = "stands" if outstanding == 1 else "stand"
        parts.append(
            page.folded(
                f"What was checked: {outstanding} of {counted(len(rows), 'check')} {stand} out",
                page.table(("seed", "check", "figure", "result"), rows, "Checks of each seed"),
            )
        )

    def seen(self) -> None:
        """Write what the run recorded, imagined and does.

        Raises:
            UserError: it wasn't drawn, or its numbers can't be read.
        """
        run, parts = self.run, self.book.parts
        folder, name = run.folder.path / RENDER_FOLDER, picture_name(run)
        numbers = folder / numbers_name(run)
        failure: UserError | None = None
        if self.video and not (folder / f"{name}.gif").exists():
            try:
                render_run(run, notice=self.book.notice, progress=self.progress)
            except UserError as error:
                failure = error
        if not numbers.exists():
            path = shlex.quote(str(run.folder.path))
            raise failure or UserError(f"qss render {path} draws it")
        planned = run.proposes
        measured = _measured(numbers, planned)
        whose = f"Seed {measured['shown_seed']}"
        between = ", the imagined plan" if planned else ""
        what = f"recorded behaviour{between} and the policy acting, side by side"
        start = "from the same first state"
        if measured["acting_alone"]:
            what, start = "the policy acting", "from a fresh first state"
        if failure is not None:
            parts.append(page.paragraph(f"No video: {failure}.", "quiet"))
        captions = (
            what,
            f"{whose}: {what}, {start}.",
            "imagined and acting" if planned else "acting",
        )
        self.book.seen(folder, name, captions, [self._plan_distance(measured)] if planned else [])

    def _plan_distance(self, measured: Mapping[str, Any]) -> str:
        steps = len(measured["mean"]) - 1
        ten = min(10, steps)
        numbers = f"{_distance(measured, ten)} after {counted(ten, 'step')}"
        if steps > ten:
            numbers += f", {_distance(measured, steps)} after {counted(steps, 'step')}"
        states = counted(measured["episodes"], "first state")
        seeds = counted(measured["seeds"], "seed")
        caption = (
            f"How far the imagined plan is from what the simulator does under the policy: "
            f"{numbers}, in standard deviations of the recording (root mean square over "
            f"dimensions; 95% bootstrap interval over {states} of {seeds})."
        )
        alt = f"Line chart of the distance between plan and simulator over steps: {numbers}."
        return self._figure("plan-distance", figures.distance_figure(measured, FAR), alt, caption)

    def _race(self) -> None:
        """Write what was tried on the online steps, and what was chosen, if several were."""
        run = self.run
        seeds = [seed for seed in run.results["seeds"] if "race" in seed]
        if not seeds:
            return
        races = [Race.of_file(seed["race"], run.folder.results) for seed in seeds]
        won = ", ".join(
            f"seed {seed['seed']} {race.leader}" + " narrowly" * race.narrow
            for seed, race in zip(seeds, races, strict=True)
        )
        narrowly = (
            " Narrowly: another did as well in one of these rounds as the winner in one of its own."
            * any(race.narrow for race in races)
        )
        self.book.parts.append(
            page.paragraph(
                f"Chosen by what an episode of theirs returns, estimated from the online steps "
                f"of their last two rounds: {won}. The first round acted at random, the last was "
                f"that of whoever led.{narrowly} The evaluations took no part in it."
            )
        )
        header = tuple(name or "result" for name in RACE_HEADER)
        table = page.table(header, race_table(seeds), "The race of every seed")
        self.book.parts.append(table)
        if races[0].rounds:
            figure = figures.race_figure(races, str(run.config.env_id))
            alt = f"Line chart of what each member returned in each round; chosen: {won}."
            caption = "Estimated return of each member in the rounds in which it acted, every seed."
            self.book.parts.append(page.figures([self._figure("race", figure, alt, caption)]))

    def _results(self) -> None:
        run, seeds = self.run, self.run.results["seeds"]
        header = ("seed", "last", "best", "all evaluations", "episodes of the last")
        rows = [
            (
                str(seed["seed"]),
                number_text(seed["last"]["mean"]),
                f"{number_text(seed['best']['mean'])} ({seed['best']['evaluation']} of "
                f"{len(seed['evaluations'])})",
                "; ".join(map(number_text, evaluation_means(seed))),
                "; ".join(map(number_text, seed["last"]["returns"])),
            )
            for seed in seeds
        ]
        self.book.parts.append(page.table(header, rows, "Returns of every seed"))
        self._race()
        behaviour = run.behaviour[0]
        pairs = [
            (f"seed {seed}", float(last), float(best))
            for seed, last, best in zip(run.seeds, run.last, run.best, strict=True)
        ]
        lasts = scores_text(run.last)
        curves = {run.label: learning_curve(seeds)}
        curve = self._figure(
            "learning-curve",
            figures.learning_figure(curves, behaviour, str(run.config.env_id)),
            f"Line chart of returns over online steps; recorded behaviour "
            f"{number_text(behaviour)}, last evaluations {lasts}.",
            f"Return over the online steps of the inverse fit. {spread_note(len(seeds))}",
        )
        each = "; ".join(
            f"{label}: last {number_text(last)}, best {number_text(best)}"
            for label, last, best in pairs
        )
        best = self._figure(
            "last-against-best",
            figures.last_against_best_figure(pairs, behaviour),
            f"Each seed's last evaluation beside its best: {each}.",
            "The last policy is the one you keep; the best of several evaluations is what papers "
            "often report.",
        )
        self.book.parts.append(page.figures([curve, best]))

    def _training(self) -> None:
        run = self.run
        logged = [run.metrics(seed) for seed in run.seeds]
        rows = min(len(one.get("update", ())) for one in logged)
        if rows == 0:
            raise UserError("the run logged no metrics (it had fewer than 1,000 updates)")
        updates = logged[0]["update"][:rows]

        def stacked(name: str) -> NDArray[np.float64]:
            return np.stack([one[name][:rows] for one in logged], axis=1)

        limits = run.facts.value_limits(run.config.preset.algorithm.gamma)
        least, most = map(number_text, limits)
        allowed = f" The rewards allow {least} to {most}."
        q, proposed = stacked("q"), stacked("proposal_value")
        error = stacked("cycle_error")
        ends = number_text(float(error[-1].mean()))
        note = spread_note(len(run.seeds))
        lines = {"recorded transitions": q, "proposals": proposed}
        losses = {"critic": stacked("critic_loss"), "forward model": stacked("forward_loss")}
        drawn = [
            self._figure(
                "values",
                figures.training_figure(
                    updates, lines, "Q (discounted return)", "Values during training", limits=limits
                ),
                f"Line chart of Q over updates, ending at {number_text(float(q[-1].mean()))} on "
                f"recorded transitions.{allowed}",
                f"Values of recorded transitions and of proposals.{allowed} {note}",
            ),
            self._figure(
                "cycle-error",
                figures.training_figure(
                    updates,
                    {"cycle error": error},
                    "mean squared error (trained units)",
                    "Cycle error: proposal against C",
                    log=True,
                ),
                f"Line chart of the cycle error over updates, ending at {ends}.",
                "How far proposals are from the reachable states that the cycle sends them to: "
                f"ends at {ends}. {note}",
            ),
            self._figure(
                "losses",
                figures.training_figure(updates, losses, "mean squared error", "Losses", log=True),
                "Line chart of the losses of critic and forward model over updates.",
                f"Losses of the critic (squared returns) and of f (squared steps). {note}",
            ),
        ]
        self.book.parts.append(page.figures(drawn))

    def _values(self) -> str:
        run = self.run
        gamma = run.config.preset.algorithm.gamma
        values: list[tuple[str, ValueAgainstReturn]] = [
            (
                f"seed {seed}",
                value_against_return(
                    planner_of(run, seed),
                    proposing_policy_of(run, seed),
                    run.env_id,
                    gamma,
                    seed=seed,
                ),
            )
            for seed in run.seeds
        ]
        over = scores_text([one.overestimation for _, one in values])
        worth = number_text(float(np.mean([one.true.mean() for _, one in values])))
        text = f"{over} where the true returns average {worth}"
        return self._figure(
            "value-against-return",
            figures.value_figure(values),
            "Scatter plot of promised values against the true discounted returns. Mean "
            f"overestimation {text}.",
            "Q of the proposals at states that the policy came through, against the discounted "
            f"return that followed (γ = {gamma:g}, past the time limit). Mean overestimation "
            f"({scores_note()}): {text}.",
        )

    def _coverage(self) -> str:
        run = self.run
        transitions = run.dataset.transitions
        found: list[Coverage] = [coverage(planner_of(run, s), transitions) for s in run.seeds]
        outside = ", ".join(f"{one.proposed_outside:.0%}" for one in found)
        whose = "the seed's" if len(found) == 1 else "each seed's"
        return self._figure(
            "coverage",
            figures.coverage_figure(found[0], f"Seed {run.seeds[0]}"),
            "Scatter plot of recorded states, proposals and cycled proposals on two principal "
            f"axes; outside the data are {outside} of {whose} proposals.",
            f"Where the recording has been and where proposals lead. Outside the data: "
            f"{outside} of {whose} proposals (of the recording itself: 1%).",
        )

    def _card(self) -> None:
        text = dataset_card(self.run.dataset.info.dataset_id, notice=self.book.notice)
        # The front matter is for the Hub.
        body = text.split("---", 2)[-1].strip() if text.startswith("---") else text
        self.book.parts.append(page.folded("Dataset card", page.code(body, wrapped=True)))


def _measured(path: Path, planned: bool) -> dict[str, Any]:
    """Return the numbers that go with a run's video; of plans how far they are off, too.

    Raises:
        UserError: the file holds something else.
    """
    held = read_json(path)
    found: dict[str, Any] = {"shown_seed": whole(held.get("shown_seed"), f"{path}: shown_seed")}
    # Where nothing tells the pose of a recorded state, only what acts can be filmed.
    found["acting_alone"] = held.get("acting_alone") is True
    if not planned:
        return found
    for name in ("episodes", "seeds"):
        found[name] = whole(held.get(name), f"{path}: {name}")
    for name in ("mean", "low", "high", "still"):
        values = held.get(name)
        if not isinstance(values, list) or not values:
            raise UserError(f"{path}: {name} is {shown(values)}, expected a list of numbers")
        found[name] = [number(value, f"{path}: {name}") for value in values]
    if len({len(found[name]) for name in ("mean", "low", "high", "still")}) > 1:
        raise UserError(f"{path} holds distances of different lengths")
    return found


def _distance(measured: Mapping[str, Any], step: int) -> str:
    """Return how far a plan is off after a step."""
    mean, low, high = (measured[name][step] for name in ("mean", "low", "high"))
    if not mean <= FAR:
        return f"more than {number_text(FAR)}"
    return str(Interval(mean, low, high))
