"""A whole run of BCO: rounds of online steps, labels and cloning; several seeds and processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qss_offline.algorithms.bco import BehaviouralCloning, CloningConfig, LabelledBatch
from qss_offline.algorithms.validation import check_positive
from qss_offline.data.environments import make_env
from qss_offline.data.load import load_transitions
from qss_offline.engine.timing import seconds_per_update
from qss_offline.parallel.processes import Tick
from qss_offline.parallel.progress import Reporter
from qss_offline.parallel.reporting import ProgressFactory, counted_on, no_progress
from qss_offline.parallel.seeds import train_in_workers
from qss_offline.runs.folder import RunFolder
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.training.bco import BCOTrainer
from qss_offline.training.interaction import ActionSteps, known_steps
from qss_offline.training.inverse.models import inverse_seconds_per_update
from qss_offline.training.offline import SeedTask
from qss_offline.training.recording_facts import RecordingFacts
from qss_offline.training.rounds import by_rounds_done, run_rounds
from qss_offline.training.runner import run_recorded


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
        recording: what was measured of the recording; None before the run has measured it.
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
    recording: RecordingFacts | None = None

    def __post_init__(self) -> None:
        """Refuse a run without updates or episodes."""
        check_positive(self, "cloning_updates", "evaluation_episodes")

    @property
    def facts(self) -> RecordingFacts:
        """What was measured of the recording."""
        assert self.recording is not None, "training comes after measuring"
        return self.recording

    def with_recording(self, facts: RecordingFacts) -> BCOSettings:
        """Return the settings with what was measured, a power that it decides included."""
        cloning = self.cloning
        if cloning.error_power is None:
            cloning = replace(cloning, error_power=facts.error_power)
        return replace(self, cloning=cloning, recording=facts)

    def seconds_per_seed(self, obs_dim: int, action_dim: int, stack: int) -> float:
        """Measure how long the updates of a seed take in one process, `stack` seeds at a time."""
        # Any power takes as long.
        cloning = replace(self.cloning, error_power=self.cloning.error_power or 2.0)
        algorithm, widths = BehaviouralCloning(cloning, obs_dim, action_dim), (obs_dim, action_dim)
        policy = seconds_per_update(algorithm, widths, stack, cloning.batch_size, LabelledBatch)
        inverse = inverse_seconds_per_update(self.inverse.model, obs_dim, action_dim, stack)
        rounds = self.inverse.rounds
        updates = self.inverse.updates(self.actions_from is not None)
        return (rounds * self.cloning_updates * policy + updates * inverse) / stack

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
    return BCOTrainer(
        seeds,
        [transitions] * len(seeds),
        [settings.facts.scale] * len(seeds),
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
    options: Mapping[str, Any] | None = None,
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
        options: what a command was given, which a resumed run may not contradict.

    Raises:
        UserError: the dataset or the folder can't be used.
    """

    def train(settings: BCOSettings, tasks: Sequence[SeedTask], report: Reporter) -> None:
        train_in_workers(train_bco, settings, tasks, "cpu", workers, report)

    return run_recorded(
        "bco",
        settings,
        folder,
        train,
        told={"method": "bco"},
        resume=resume,
        show_progress=show_progress,
        workers=workers,
        begun=begun,
        options=options,
    )
