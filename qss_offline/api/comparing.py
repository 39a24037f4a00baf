"""Runs side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qss_offline.analysis.report.making import make_report
from qss_offline.api.figures import displayed
from qss_offline.api.runs import OnlineRun, Run, load
from qss_offline.errors import UserError, shown
from qss_offline.files import path_of
from qss_offline.runs.results import learning_curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Comparison:
    """Runs by the names that the caller gives them.

    Args:
        runs: at least one.
    """

    def __init__(self, runs: Mapping[str, Run | OnlineRun]) -> None:
        self.runs = dict(runs)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each seed, such as `pandas.DataFrame` takes."""
        return [
            {
                "name": name,
                "env_id": run.env_id,
                "recording": run.dataset_id if isinstance(run, Run) else None,
                "seed": score.seed,
                "last": score.last,
                "best": score.best,
                "online_steps": score.online_steps,
            }
            for name, run in self.runs.items()
            for score in run.summary().seeds
        ]

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Return headings, and a line for each run, as text."""
        header = ("run", "from", "last, each seed", "best, each seed", "online steps")
        lines: list[tuple[str, ...]] = []
        for name, run in self.runs.items():
            seeds = run.summary().seeds
            source = run.dataset_id if isinstance(run, Run) else f"{run.env_id}, online"
            lines.append(
                (
                    name,
                    source,
                    ", ".join(f"{one.last:.1f}" for one in seeds) or "not evaluated",
                    ", ".join(f"{one.best:.1f}" for one in seeds) or "not evaluated",
                    f"{seeds[0].online_steps:,}" if seeds else "0",
                )
            )
        return header, lines

    def notes(self) -> list[str]:
        """Return what must be known to read the table."""
        recordings = {r.dataset_id if isinstance(r, Run) else r.env_id for r in self.runs.values()}
        if len(recordings) < 2:
            return []
        online = not any(isinstance(run, Run) for run in self.runs.values())
        what = "acted in different environments" if online else "learned from different recordings"
        return [f"These runs {what}: their returns don't compare methods."]

    def plot(self) -> Figure:
        """Draw the returns of all runs over their online steps.

        Raises:
            UserError: a run was never evaluated.
        """
        from qss_offline.analysis.plots.report import learning_figure

        for name, run in self.runs.items():
            if not run.returns():
                raise UserError(f"{name} was never evaluated: there are no returns to draw")
        curves = {name: learning_curve(run.results["seeds"]) for name, run in self.runs.items()}
        places = sorted({str(run.env_id) for run in self.runs.values()})
        return displayed(learning_figure(curves, None, ", ".join(places)))

    def report(self, out: str | Path | None = None, *, video: bool = True) -> Path:
        """Write one page about all of them, and return its path.

        Args:
            out: folder of the page; None takes `report` in this folder.
            video: whether to draw what policies do.
        """
        folder = None if out is None else path_of(out, "out")
        paths = [run.path for run in self.runs.values()]
        return make_report(paths, folder, names=list(self.runs), video=video)

    def __str__(self) -> str:
        """Return the table as lines of tabs."""
        header, lines = self.table()
        return "\n".join("\t".join(line) for line in (header, *lines))


def compare(runs: Mapping[str, str | Path | Run | OnlineRun]) -> Comparison:
    """Put finished runs side by side, by the names that they are given.

    Raises:
        UserError: there are none, they have no names, or one isn't finished.
    """
    if not isinstance(runs, Mapping) or not runs:
        raise UserError("compare needs runs by name: compare({'first': run, 'second': other})")
    opened: dict[str, Run | OnlineRun] = {}
    for name, one in runs.items():
        if not isinstance(name, str):
            raise UserError(f"compare: a run is called {shown(name)}, which is no text")
        found = one if isinstance(one, Run | OnlineRun) else load(one)
        if not isinstance(found, Run | OnlineRun):
            raise UserError(f"{name}: {one} is a policy, not the folder of a run")
        opened[name] = found
    return Comparison(opened)
