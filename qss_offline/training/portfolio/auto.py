"""Method auto: the proposing members trained offline, then the race, for several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from qss_offline.algorithms.ensemble import in_other_units, mean_network
from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.observational_d3g import ObservationalD3GConfig
from qss_offline.data.load import load_transitions, recorded_behaviour
from qss_offline.engine.state import TrainState
from qss_offline.evaluation.policies import ObservationScale
from qss_offline.evaluation.policy_files import keep_policy
from qss_offline.parallel.processes import Tick
from qss_offline.parallel.reporting import counted_on, headed, no_tick
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import SeedFolder
from qss_offline.runs.portfolio_config import BETTER, D3G, NEAR
from qss_offline.runs.results import write_evaluations
from qss_offline.training.interaction import known_steps
from qss_offline.training.offline import OfflineTrainer, SeedTask, member_tasks
from qss_offline.training.phases import Phase, has_result
from qss_offline.training.portfolio.trainer import PortfolioTrainer
from qss_offline.training.rounds import env_maker, run_rounds


@dataclass(frozen=True)
class _Training:
    """One training of offline D3G: which member's, and of what seed."""

    member: str
    task: SeedTask

    @property
    def folder(self) -> SeedFolder:
        """Where its files go."""
        return self.task.folder


def _settings(config: RunConfig) -> Mapping[str, ObservationalD3GConfig]:
    """Return the settings of the members that propose, by name."""
    portfolio = config.portfolio
    assert portfolio is not None
    return {
        D3G: config.preset.algorithm,
        NEAR: portfolio.near,
        BETTER: portfolio.better,
    }


def _trainings(config: RunConfig, task: SeedTask) -> list[_Training]:
    """Return all offline trainings of a seed; plain D3G's may be several."""
    own = [_Training(D3G, member) for member in member_tasks(task, config.preset.ensemble)]
    others = [
        _Training(name, SeedTask(task.seed, task.dataset_id, task.folder.member(name)))
        for name in (NEAR, BETTER)
    ]
    return own + others


def auto_phases(config: RunConfig) -> tuple[Phase, ...]:
    """Return the phases of a seed: its offline trainings, then the race."""
    units = config.units_beside * config.rounds_work
    return (
        Phase("models", _train_offline, config.preset.updates, config.device, tasks=_trainings),
        Phase("seeds", _race_seeds, units, config.device, act=True, done=has_result),
    )


def _train_offline(config: RunConfig, trainings: Sequence[_Training], tick: Tick) -> None:
    """Train Q, τ and f of some members, for one worker; their checkpoints are what comes of it."""
    done = 0.0
    for name in dict.fromkeys(training.member for training in trainings):
        tasks = [training.task for training in trainings if training.member == name]
        _offline(config, name, tasks, config.device, headed(counted_on(tick, done), name))
        done += config.preset.updates * len(tasks)


def _offline(
    config: RunConfig, member: str, tasks: Sequence[SeedTask], device: str, tick: Tick
) -> TrainState:
    """Train a member from where its folders stand."""
    transitions = {config.dataset_id: load_transitions(config.dataset_id).transitions}
    # A regression, more or less, as a cloned policy is.
    facts = config.facts.eased() if member == NEAR else config.facts
    settings = _settings(config)[member]
    trainer = OfflineTrainer(tasks, transitions, settings, {config.dataset_id: facts}, device)
    return trainer.run(config.preset.updates, tick)


def proposals_of(config: RunConfig, task: SeedTask) -> dict[str, Network]:
    """Return what each member of a seed that is trained proposes, by name, each `(1, P)`."""
    proposals = {}
    for name in _settings(config):
        tasks = [t.task for t in _trainings(config, task) if t.member == name]
        state = _offline(config, name, tasks, "cpu", no_tick)
        average = state.networks["proposal_average"]
        proposal = mean_network(
            [
                Network(average.shape, average.flat[row : row + 1].clone())
                for row in range(len(tasks))
            ]
        )
        if name == NEAR:
            facts = config.facts, config.facts.eased()
            whole, eased = (ObservationScale.of_recording(one).std for one in facts)
            proposal = in_other_units(proposal, eased / whole)
        proposals[name] = proposal
    return proposals


def _race_seeds(config: RunConfig, tasks: Sequence[SeedTask], tick: Tick) -> None:
    """Race the members of some seeds, one seed after the other, for one worker."""
    dataset = load_transitions(config.dataset_id)
    recorded = recorded_behaviour(dataset).mean
    assert config.portfolio is not None
    for number, task in enumerate(tasks):
        if config.offline_only:
            write_evaluations(task.folder.result, task.seed, [])
            continue
        trainer = PortfolioTrainer(
            task.seed,
            dataset.transitions,
            ObservationScale.of_recording(config.facts),
            ObservationScale.of_recording(config.facts.eased()),
            proposals_of(config, task),
            env_maker(config.env_id),
            config.inverse,
            config.portfolio,
            known_steps(config.actions_from, config.env_id),
            config.device,
        )
        beside = config.units_beside
        told = counted_on(tick, beside * config.rounds_work * number, beside)
        keep = partial(_keep_members, trainer, task, config.env_id)
        episodes = config.evaluation_episodes
        run_rounds(trainer, [task], config.env_id, episodes, told, recorded, keep)


def _keep_members(trainer: PortfolioTrainer, task: SeedTask, env_id: str | None) -> None:
    """Write the policy of every member."""
    for member in trainer.race.members:
        keep_policy(trainer.policy_of(member), task.folder.member(member).policy, env_id)
