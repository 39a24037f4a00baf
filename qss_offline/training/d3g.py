"""Offline D3G and the inverse fit for several seeds, in several processes."""

from __future__ import annotations

from collections.abc import Sequence

from qss_offline.algorithms.ensemble import mean_network
from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.observational_d3g import ObservationalD3G, ObservationBatch
from qss_offline.data.load import LoadedDataset, load_transitions
from qss_offline.engine.state import TrainState
from qss_offline.engine.timing import seconds_per_update
from qss_offline.parallel.processes import Tick
from qss_offline.parallel.reporting import counted_on, headed
from qss_offline.runs.config import RunConfig
from qss_offline.runs.results import write_evaluations
from qss_offline.training.interaction import known_steps
from qss_offline.training.inverse.fitting import InverseFitter
from qss_offline.training.offline import OfflineTrainer, SeedTask, member_tasks
from qss_offline.training.phases import Phase, has_result
from qss_offline.training.rounds import env_maker, spend_rounds


def d3g_phases(config: RunConfig) -> tuple[Phase, ...]:
    """Return the phases of a seed: an ensemble's trainings first, which spreads them over cores."""
    device = config.device
    if not _models_first(config):
        return (Phase("seeds", _train_group, config.units, device, act=True, done=has_result),)
    trainings = Phase(
        "models",
        train_models,
        config.preset.updates,
        device,
        tasks=lambda config, task: member_tasks(task, config.preset.ensemble),
    )
    rest = config.units - config.preset.offline_updates
    return trainings, Phase("seeds", _train_group, rest, device, act=True, done=has_result)


def _models_first(config: RunConfig) -> bool:
    """Whether offline training comes apart: on a GPU, where it is one stack, and of an ensemble."""
    return config.device != "cpu" or config.preset.ensemble > 1


def d3g_seconds_per_update(config: RunConfig, obs_dim: int, action_dim: int) -> float:
    """Measure how long an update of one model takes in one process."""
    losses = config.preset.algorithm
    algorithm, widths = ObservationalD3G(losses, obs_dim), (obs_dim, obs_dim, None, None)
    return seconds_per_update(algorithm, widths, losses.batch_size, ObservationBatch)


def offline_trainer(config: RunConfig, tasks: Sequence[SeedTask], device: str) -> OfflineTrainer:
    """Return what trains Q, τ and f of some trainings."""
    transitions = load_transitions(config.dataset_id).transitions
    return OfflineTrainer(tasks, transitions, config.preset.algorithm, config.facts, device)


def train_models(config: RunConfig, tasks: Sequence[SeedTask], tick: Tick) -> None:
    """Train Q, τ and f alone, for one worker; their checkpoints are what comes of it."""
    offline_trainer(config, tasks, config.device).run(config.preset.updates, tick)


def mean_proposal(state: TrainState, rows: Sequence[int] | None = None) -> Network:
    """Return the mean of what some rows of a stack propose, `(1, P)`; None takes all."""
    average = state.on_cpu().networks["proposal_average"]
    chosen = range(len(average.flat)) if rows is None else rows
    return mean_network([Network(average.shape, average.flat[r : r + 1].clone()) for r in chosen])


def _train_group(config: RunConfig, tasks: Sequence[SeedTask], tick: Tick) -> None:
    """Train, fit and evaluate the seeds of one worker, whose models may be trained already."""
    preset = config.preset
    offline = preset.offline_updates * len(tasks)
    if _models_first(config):
        tick = counted_on(tick, -offline)
    # Foreign datasets were given their columns, with a notice, when the run began.
    dataset = load_transitions(config.dataset_id)
    members = [member for task in tasks for member in member_tasks(task, preset.ensemble)]
    trainer = offline_trainer(config, members, config.device)
    several = len(members) > len(tasks)
    state = trainer.run(preset.updates, headed(tick, f"{len(members)} models") if several else tick)
    if config.offline_only:
        for task in tasks:
            write_evaluations(task.folder.result, task.seed, [])
        return

    def fitter(same: Sequence[SeedTask]) -> InverseFitter:
        return _fitter(config, same, state, trainer, dataset)

    spend_rounds(config, tasks, fitter, dataset, counted_on(tick, offline))


def _fitter(
    config: RunConfig,
    tasks: Sequence[SeedTask],
    state: TrainState,
    trainer: OfflineTrainer,
    dataset: LoadedDataset,
) -> InverseFitter:
    """Return what fits the inverse models of some seeds, from the start."""
    rows = {seed: row for row, seed in enumerate(state.seeds)}
    return InverseFitter(
        [task.seed for task in tasks],
        [
            mean_proposal(state, [rows[m.seed] for m in member_tasks(task, config.preset.ensemble)])
            for task in tasks
        ],
        [trainer.scale] * len(tasks),
        env_maker(config.env_id),
        config.preset.inverse,
        known_steps(config.actions_from, config.env_id),
        [dataset.transitions] * len(tasks),
        config.device,
    )
