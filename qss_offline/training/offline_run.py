"""A whole run: offline D3G, the inverse fit, evaluation; several seeds, several processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from qss_offline.algorithms.ensemble import mean_network
from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.observational_d3g import ObservationalD3G, ObservationBatch
from qss_offline.algorithms.validation import check_positive
from qss_offline.data.environments import make_env
from qss_offline.data.load import load_transitions
from qss_offline.data.transitions import Transitions
from qss_offline.engine.state import TrainState
from qss_offline.engine.timing import seconds_per_update
from qss_offline.errors import UserError
from qss_offline.parallel.processes import Tick
from qss_offline.parallel.progress import Reporter
from qss_offline.parallel.reporting import ProgressFactory, counted_on, no_progress
from qss_offline.parallel.seeds import train_in_workers
from qss_offline.presets import Preset
from qss_offline.runs.folder import RunFolder
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.training.interaction import ActionSteps, known_steps
from qss_offline.training.inverse.fitting import InverseFitter
from qss_offline.training.inverse.models import inverse_seconds_per_update
from qss_offline.training.offline import OfflineTrainer, SeedTask, member_tasks
from qss_offline.training.recording_facts import RecordingFacts
from qss_offline.training.rounds import by_rounds_done, run_rounds
from qss_offline.training.runner import run_recorded


@dataclass(frozen=True)
class RunSettings:
    """What a run is asked to do.

    Attributes:
        env_id: where the policy acts.
        dataset_id: what it learns from.
        seeds: seeds of training; the dataset has its own.
        preset_name: where `preset` came from.
        preset: settings of training and of the inverse fit.
        evaluation_episodes: episodes of each evaluation.
        device: "cpu" or "cuda".
        tf32: matrix products on a GPU in TF32 (10 bits of mantissa) instead of float32.
        actions_from: another recording of the same body, one with actions, or folder of an earlier
            run, whose online steps have them: I learns from it before it takes online steps; None
            if there is none.
        recording: what was measured of the recording; None before the run has measured it.
    """

    env_id: str
    dataset_id: str
    seeds: tuple[int, ...]
    preset_name: str
    preset: Preset
    evaluation_episodes: int = 10
    device: str = "cpu"
    tf32: bool = False
    actions_from: str | None = None
    recording: RecordingFacts | None = None

    def __post_init__(self) -> None:
        """Refuse a run without episodes."""
        check_positive(self, "evaluation_episodes")

    @property
    def inverse(self) -> InverseFitConfig:
        """The online budget."""
        return self.preset.inverse

    @property
    def normalize_observations(self) -> bool:
        """Whether networks see observations in units of their spread."""
        return self.preset.algorithm.normalize_observations

    @property
    def facts(self) -> RecordingFacts:
        """What was measured of the recording."""
        assert self.recording is not None, "training comes after measuring"
        return self.recording

    def with_recording(self, facts: RecordingFacts) -> RunSettings:
        """Return the settings with what was measured, a power that it decides included."""
        algorithm = self.preset.algorithm
        if algorithm.behaviour_coef > 0 and algorithm.behaviour_power is None:
            algorithm = replace(algorithm, behaviour_power=facts.error_power)
        return replace(self, preset=replace(self.preset, algorithm=algorithm), recording=facts)

    def seconds_per_seed(self, obs_dim: int, action_dim: int, stack: int) -> float:
        """Measure how long the updates of a seed take in one process, `stack` seeds at a time."""
        # Any power takes as long.
        power = self.preset.algorithm.behaviour_power or 2.0
        config = replace(self.preset.algorithm, behaviour_power=power)
        algorithm, widths = ObservationalD3G(config, obs_dim), (obs_dim, obs_dim, None, None)
        offline = seconds_per_update(algorithm, widths, stack, config.batch_size, ObservationBatch)
        inverse = inverse_seconds_per_update(self.inverse.model, obs_dim, action_dim, stack)
        return (self.preset.offline_updates * offline + self.inverse_updates * inverse) / stack

    @property
    def units(self) -> int:
        """Updates of one seed, of the whole ensemble and the inverse fit: what progress counts."""
        return self.preset.offline_updates + self.inverse_updates

    @property
    def inverse_updates(self) -> int:
        """Updates of one seed's inverse model."""
        return self.preset.inverse.updates(self.actions_from is not None)

    def known_steps(self) -> ActionSteps | None:
        """Read the steps of `actions_from`, if there are any.

        Raises:
            UserError: it can't be read, isn't done, has no actions, or is of another body.
        """
        return known_steps(self.actions_from, self.env_id)


def choose_device(name: str) -> str:
    """Return "cpu" or "cuda" for "auto", "cpu" or "cuda".

    Raises:
        UserError: another name, or "cuda" where there is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device takes auto, cpu or cuda, not {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA device is available here; use --device cpu")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def run(
    settings: RunSettings,
    folder: RunFolder,
    resume: bool = False,
    show_progress: ProgressFactory = no_progress,
    workers: int | None = None,
    begun: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train, fit, evaluate, and return what `results.json` holds.

    Seeds are spread over worker processes of one thread each, at most one a core.

    Args:
        settings: what to do.
        folder: where everything goes.
        resume: continue what the folder holds.
        show_progress: makes a progress display.
        workers: processes; None takes one a core on a CPU, one in all on a GPU.
        begun: reading of `time.monotonic()` that `wall_seconds` counts from, where building the
            dataset is to be counted; None counts from this call.
        options: what a command was given, which a resumed run may not contradict.

    Raises:
        UserError: the dataset or the folder can't be used.
    """
    preset = settings.preset

    def train(settings: RunSettings, tasks: Sequence[SeedTask], report: Reporter) -> None:
        members = [m for task in tasks for m in member_tasks(task, preset.ensemble)]
        if settings.device == "cpu" and len(members) > len(tasks):
            # An ensemble's trainings first, so that those of one seed are spread over cores, too.
            train_in_workers(_train_members, settings, members, "cpu", workers, report)
        train_in_workers(_train_group, settings, tasks, settings.device, workers, report)

    return run_recorded(
        "d3g",
        settings,
        folder,
        train,
        told={
            "updates": preset.updates,
            "ensemble": preset.ensemble,
            "preset": settings.preset_name,
        },
        resume=resume,
        show_progress=show_progress,
        workers=workers,
        begun=begun,
        options=options,
    )


def _train_members(settings: RunSettings, members: Sequence[SeedTask], tick: Tick) -> None:
    """Train Q, τ and f alone, for one worker; their checkpoints are what comes of it."""
    transitions = {settings.dataset_id: load_transitions(settings.dataset_id).transitions}
    facts = {settings.dataset_id: settings.facts}
    OfflineTrainer(members, transitions, settings.preset.algorithm, facts).run(
        settings.preset.updates, tick
    )


def _train_group(settings: RunSettings, tasks: Sequence[SeedTask], tick: Tick) -> None:
    """Train the seeds of one worker, with the matrix products that the run asks for."""
    tf32 = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = settings.tf32
    try:
        train_seeds(settings, tasks, tick)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = tf32


def train_seeds(settings: RunSettings, tasks: Sequence[SeedTask], tick: Tick) -> None:
    """Train, fit and evaluate some seeds in this process, from where their folders stand.

    Args:
        settings: what to do; the tasks say for which seeds.
        tasks: the seeds.
        tick: told the updates done, over all of them.
    """
    preset = settings.preset
    # Foreign datasets were given their columns, with a notice, when the run began.
    dataset = load_transitions(settings.dataset_id)
    members = [member for task in tasks for member in member_tasks(task, preset.ensemble)]
    trainer = OfflineTrainer(
        members,
        {settings.dataset_id: dataset.transitions},
        preset.algorithm,
        {settings.dataset_id: settings.facts},
        settings.device,
    )
    state = trainer.run(preset.updates, tick)
    trained = preset.offline_updates * len(tasks)
    done = trained
    for same in by_rounds_done(tasks):
        report = counted_on(tick, done, len(same))
        _fit_inverse(settings, same, state, trainer, dataset.transitions, report)
        done += settings.inverse_updates * len(same)
    tick(done)


def _fit_inverse(
    settings: RunSettings,
    tasks: Sequence[SeedTask],
    state: TrainState,
    trainer: OfflineTrainer,
    recording: Transitions,
    report: Callable[[int], None],
) -> None:
    """Fit the inverse models of seeds that stand after the same round, and save the policies."""
    scales = [trainer.scales[task.dataset_id] for task in tasks]
    average = state.networks["proposal_average"]
    rows = {seed: row for row, seed in enumerate(state.seeds)}
    proposals = []
    for task in tasks:
        trained = [
            Network(average.shape, average.flat[row : row + 1].cpu().clone())
            for row in (rows[m.seed] for m in member_tasks(task, settings.preset.ensemble))
        ]
        proposals.append(mean_network(trained))
    fitter = InverseFitter(
        [task.seed for task in tasks],
        proposals,
        scales,
        lambda: make_env(settings.env_id),
        settings.preset.inverse,
        settings.known_steps(),
        [recording] * len(tasks),
    )
    run_rounds(fitter, tasks, settings.env_id, settings.evaluation_episodes, report)
