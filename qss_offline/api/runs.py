"""Finished runs as objects: their returns, figures and policies."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from qss_offline.analysis.diagnostics import hints
from qss_offline.analysis.report.making import make_report
from qss_offline.analysis.video import Rendered, render_online, render_run
from qss_offline.api.figures import displayed
from qss_offline.api.recording import Environment, make_known
from qss_offline.errors import UserError, shown
from qss_offline.evaluation.policies import SavedPolicy
from qss_offline.evaluation.policy_files import load_policy
from qss_offline.files import path_of
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import RunFolder
from qss_offline.runs.reader import FinishedRun, Scored, load_online_run
from qss_offline.runs.reader import OnlineRun as ScoredOnlineRun
from qss_offline.runs.reader import load_run as load_finished_run
from qss_offline.runs.results import best_seed, learning_curve

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class SeedScore:
    """What a seed came to.

    Attributes:
        seed: which.
        last: mean return of the last evaluation, which is of the policy that is kept.
        best: the highest of all evaluations: the paper's score, chosen with hindsight.
        online_steps: environment steps that it took.
    """

    seed: int
    last: float
    best: float
    online_steps: int


@dataclass(frozen=True)
class Summary:
    """What a run came to.

    Attributes:
        name: of the run.
        env_id: where it acted; None where it had no environment.
        recorded: mean return of the recorded behaviour; None without a recording.
        seeds: scores of every seed; none where nothing was evaluated.
        seconds: wall time.
    """

    name: str
    env_id: str | None
    recorded: float | None
    seeds: tuple[SeedScore, ...]
    seconds: float

    def __str__(self) -> str:
        """Return it as lines to read."""
        where = "without an environment" if self.env_id is None else f"in {self.env_id}"
        recorded = "" if self.recorded is None else f", recorded behaviour {self.recorded:.1f}"
        lines = [f"{self.name} {where}{recorded}, {self.seconds:.0f} s"]
        lines += [
            f"  seed {one.seed}: last {one.last:.1f}, best {one.best:.1f}, "
            f"{one.online_steps:,} online steps"
            for one in self.seeds
        ]
        return "\n".join(lines)


Done = TypeVar("Done", bound=Scored)


class _AnyRun(Generic[Done]):
    """What runs on recordings and online runs share."""

    def __init__(self, path: Path, done: Done) -> None:
        self.path = path
        self._done = done

    @property
    def folder(self) -> RunFolder:
        """Its files."""
        return RunFolder(self.path)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of training."""
        return self._done.seeds

    @property
    def results(self) -> dict[str, Any]:
        """Everything that `results.json` holds."""
        return self._done.results

    def returns(self) -> list[dict[str, Any]]:
        """Return a row for each evaluation, such as `pandas.DataFrame` takes.

        A row holds `seed`, `evaluation` (from 1 on), `online_steps`, `mean_return` and `returns`,
        those of the episodes.
        """
        return [
            {
                "seed": seed["seed"],
                "evaluation": number,
                "online_steps": evaluation["online_steps"],
                "mean_return": evaluation["mean"],
                "returns": list(evaluation["returns"]),
            }
            for seed in self.results["seeds"]
            for number, evaluation in enumerate(seed["evaluations"], 1)
        ]

    def _scores(self) -> tuple[SeedScore, ...]:
        return tuple(
            SeedScore(s["seed"], s["last"]["mean"], s["best"]["mean"], s["online_steps"])
            for s in self.results["seeds"]
            if s["evaluations"]
        )

    @property
    def best_seed(self) -> int:
        """The seed whose last return is highest; without evaluations the first."""
        return best_seed(self.results)

    def policy(self, seed: int | None = None) -> SavedPolicy:
        """Return the policy of a seed, of `best_seed` by default.

        Raises:
            UserError: there is none.
        """
        chosen = self.best_seed if seed is None else seed
        if not isinstance(chosen, int):
            raise UserError(f"seed must be a whole number, not {shown(chosen)}")
        if chosen not in self.seeds:
            known = ", ".join(map(str, self.seeds))
            raise UserError(f"{self.path} has no seed {chosen}; its seeds are {known}")
        file = self.folder.seed(chosen).policy
        if not file.exists():
            raise UserError(f"{self.path} holds no policy of seed {chosen}{self._why_no_policy()}")
        return load_policy(file)

    def _why_no_policy(self) -> str:
        return ""

    def report(self, out: str | Path | None = None, *, video: bool = True) -> Path:
        """Write a page with its figures, and return the page's path.

        Args:
            out: folder of the page; None takes `report` in the run's folder.
            video: whether to draw what the policy does.
        """
        return make_report([self.path], _folder(out), video=video)


class Run(_AnyRun[FinishedRun]):
    """A finished run on a recording.

    Args:
        path: its folder.

    Raises:
        UserError: there is no finished run, or it can't be read.
    """

    def __init__(self, path: str | Path) -> None:
        folder = path_of(path, "run")
        super().__init__(folder, load_finished_run(folder))

    @property
    def done(self) -> FinishedRun:
        """Everything that was read of it."""
        return self._done

    @property
    def config(self) -> RunConfig:
        """What it was asked to do."""
        return self._done.config

    @property
    def method(self) -> str:
        """What learned: "auto", "d3g" or "bco"."""
        return self._done.method

    @property
    def env_id(self) -> str | None:
        """Where its policies act; None where it had no environment."""
        return self.config.env_id

    @property
    def dataset_id(self) -> str:
        """What it learned from."""
        return self._done.dataset_id

    @property
    def evaluated(self) -> bool:
        """Whether there are any returns: without an environment there are none."""
        return self._done.evaluated

    def summary(self) -> Summary:
        """Return what it came to."""
        recorded, seconds = self._done.behaviour[0], self.results["wall_seconds"]
        return Summary(self._done.name, self.env_id, recorded, self._scores(), seconds)

    def plot(self) -> Figure:
        """Draw its returns over the online steps, every seed.

        Raises:
            UserError: nothing was evaluated.
        """
        from qss_offline.analysis.plots.report import learning_figure

        if not self.evaluated:
            raise UserError(f"{self.path} was never evaluated: there are no returns to draw")
        curves = {self._done.label: learning_curve(self.results["seeds"])}
        return displayed(learning_figure(curves, self._done.behaviour[0], self._done.env_id))

    def render(
        self,
        out: str | Path | None = None,
        *,
        seed: int | None = None,
        steps: int = 50,
        episodes: int = 20,
    ) -> Rendered:
        """Draw recorded behaviour, the imagined plan and the policy acting, as video and pictures.

        Args:
            out: folder of the pictures; None takes `render` in the run's folder.
            seed: which is shown; None shows `best_seed`.
            steps: of each trajectory.
            episodes: first states of each seed, for the distances of plans.

        Raises:
            UserError: the run can't be drawn.
        """
        return render_run(self._done, _folder(out), seed=seed, steps=steps, episodes=episodes)

    def diagnose(self) -> list[str]:
        """Return a line for each thing that may be why it failed to learn; none where it learned.

        Raises:
            UserError: its files or its recording can't be read.
        """
        return hints(self._done) if self.evaluated else []

    def _why_no_policy(self) -> str:
        if self.config.offline_only:
            path = shlex.quote(str(self.path))
            return f": it learned offline only; qss fit-inverse {path} makes policies of it"
        return ""

    def __repr__(self) -> str:
        """Return what it is, in a line."""
        scores = ", ".join(f"{one.last:.1f}" for one in self._scores()) or "not evaluated"
        return f"Run({str(self.path)!r}: {self.method} from {self.dataset_id}, last {scores})"


class OnlineRun(_AnyRun[ScoredOnlineRun]):
    """A finished online run.

    Args:
        path: its folder.

    Raises:
        UserError: there is no finished run, or it can't be read.
    """

    def __init__(self, path: str | Path) -> None:
        folder = path_of(path, "run")
        super().__init__(folder, load_online_run(folder))

    @property
    def env_id(self) -> str:
        """Where it acted."""
        return self._done.env_id

    @property
    def algorithm(self) -> str:
        """What learned."""
        return self._done.algorithm

    def summary(self) -> Summary:
        """Return what it came to."""
        name, seconds = self.path.resolve().name, self.results["wall_seconds"]
        return Summary(name, self.env_id, None, self._scores(), seconds)

    def plot(self) -> Figure:
        """Draw its returns over the online steps, every seed."""
        from qss_offline.analysis.plots.report import learning_figure

        curves = {self.algorithm: learning_curve(self.results["seeds"])}
        return displayed(learning_figure(curves, None, self.env_id))

    def render(
        self, out: str | Path | None = None, *, seed: int | None = None, steps: int = 50
    ) -> Rendered:
        """Draw a policy acting, as video and pictures.

        Args:
            out: folder of the pictures; None takes `render` in the run's folder.
            seed: which is shown; None shows `best_seed`.
            steps: of the trajectory.

        Raises:
            UserError: the run can't be drawn.
        """
        return render_online(self._done, _folder(out), seed=seed, steps=steps)

    def __repr__(self) -> str:
        """Return what it is, in a line."""
        scores = ", ".join(f"{one.last:.1f}" for one in self._scores())
        return f"OnlineRun({str(self.path)!r}: {self.algorithm} in {self.env_id}, last {scores})"


def _folder(out: str | Path | None) -> Path | None:
    return None if out is None else path_of(out, "out")


def run_path(run: object, what: str) -> Path:
    """Return the folder of a run, given that or what was opened of it.

    Args:
        run: the user's.
        what: it is, for the message.

    Raises:
        UserError: it is something else.
    """
    return run.path if isinstance(run, Run | OnlineRun) else path_of(run, what)


def load(path: str | Path, env: Environment | None = None) -> Run | OnlineRun | SavedPolicy:
    """Open a finished run, given its folder, or a policy, given its file.

    Args:
        path: of the folder or file.
        env: the environment of your own that it names, as `train` was given it: what files name is
            never imported.

    Raises:
        UserError: there is neither, or it can't be read.
    """
    make_known(env)
    path = path_of(path, "run or policy")
    if not path.exists():
        raise UserError(f"{path} does not exist; give a run folder, or a policy.safetensors")
    if path.is_file():
        return load_policy(path)
    return OnlineRun(path) if RunFolder(path).is_online else Run(path)
