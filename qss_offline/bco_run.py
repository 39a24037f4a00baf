"""A whole run of BCO: rounds of online steps, labels and cloning; several seeds and processes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qss_offline.action_steps import ActionSteps, known_steps
from qss_offline.algorithms.bco import CloningConfig
from qss_offline.bco_training import BCOTrainer
from qss_offline.checks import check_positive
from qss_offline.data.environments import make_env
from qss_offline.data.load import load_transitions
from qss_offline.inverse_config import InverseFitConfig
from qss_offline.jobs import Tick
from qss_offline.offline_training import SeedTask, observation_scale
from qss_offline.recorded_run import run_recorded
from qss_offline.reporting import ProgressFactory, counted_on, no_progress
from qss_offline.rounds import by_rounds_done, run_rounds
from qss_offline.runs import RunFolder
from qss_offline.seed_workers import train_in_workers


@dataclass(frozen=True)
class BCOSettings:
    """What a run of BCO is asked to do.

    Attributes:
        env_id: where the policy acts.
        dataset_id: what it repeats; actions that it may hold are not looked at.
        seeds: seeds of training; the dataset has its own.
        inverse: the online budget, and the inverse model that labels the recording.
        cloning: the policy.
        cloning_updates: its updates in a round.
        normalize_observations: whether both see observations in units of their spread.
        evaluation_episodes: episodes of the evaluation after each round.
        actions_from: what the inverse model learns from before its online steps, see
            `RunSettings`; None if there is nothing.
    """

    env_id: str
    dataset_id: str
    seeds: tuple[int, ...]
    inverse: InverseFitConfig
    cloning: CloningConfig
    cloning_updates: int
    normalize_observations: bool = True
    evaluation_episodes: int = 10
    actions_from: str | None = None

    def __post_init__(self) -> None:
        """Refuse a run without updates or episodes."""
        check_positive(self, "cloning_updates", "evaluation_episodes")

    @property
    def units(self) -> int:
        """Updates of both models of one seed: what progress counts."""
        inverse = self.inverse.updates(self.actions_from is not None)
        return inverse + self.inverse.rounds * self.cloning_updates

    def known_steps(self) -> ActionSteps | None:
        """Read the steps of `actions_from`, if there are any.

        Raises:
            UserError: it can't be read, isn't done, has no actions, or is of another body.
        """
        return known_steps(self.actions_from, self.env_id)


def bco_trainer(settings: BCOSettings, seeds: Sequence[int]) -> BCOTrainer:
    """Return a trainer of some of the seeds, before its first round."""
    transitions = load_transitions(settings.dataset_id).transitions
    scale = observation_scale(transitions, settings.normalize_observations)
    return BCOTrainer(
        seeds,
        [transitions] * len(seeds),
        [scale] * len(seeds),
        lambda: make_env(settings.env_id),
        settings.inverse,
        settings.cloning,
        settings.cloning_updates,
        settings.known_steps(),
    )


def train_bco(settings: BCOSettings, tasks: Sequence[SeedTask], tick: Tick) -> None:
    """Train and evaluate some seeds in this process, from where their folders stand.

    Args:
        settings: what to do; the tasks say for which seeds.
        tasks: the seeds.
        tick: told the updates done, over all of them.
    """
    done = 0
    for same in by_rounds_done(tasks):
        trainer = bco_trainer(settings, [task.seed for task in same])
        report = counted_on(tick, done, len(same))
        run_rounds(trainer, same, settings.env_id, settings.evaluation_episodes, report)
        done += settings.units * len(same)
    tick(done)


def run_bco(
    settings: BCOSettings,
    folder: RunFolder,
    resume: bool = False,
    show_progress: ProgressFactory = no_progress,
    workers: int | None = None,
    begun: float | None = None,
) -> dict[str, Any]:
    """Train, evaluate, and return what `results.json` holds.

    Seeds are spread over worker processes of one thread each, at most one a core.

    Args:
        settings: what to do.
        folder: where everything goes.
        resume: continue what the folder holds.
        show_progress: makes a progress display.
        workers: processes; None takes one a core.
        begun: reading of `time.monotonic()` that `wall_seconds` counts from; None counts from this
            call.

    Raises:
        UserError: the dataset or the folder can't be used.
    """
    return run_recorded(
        settings,
        settings.inverse,
        folder,
        lambda tasks, report: train_in_workers(train_bco, settings, tasks, "cpu", workers, report),
        kept={"method": "bco", **vars(settings)},
        told={"method": "bco"},
        resume=resume,
        show_progress=show_progress,
        begun=begun,
    )
