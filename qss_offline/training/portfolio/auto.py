"""Method auto: D3G trained offline, then the race, for several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from qss_offline.algorithms.networks import Network
from qss_offline.data.load import load_transitions
from qss_offline.evaluation.policies import ObservationScale
from qss_offline.evaluation.policy_files import keep_policy
from qss_offline.parallel.processes import Tick
from qss_offline.parallel.reporting import counted_on, no_tick
from qss_offline.runs.config import RunConfig
from qss_offline.runs.portfolio_config import MEMBERS
from qss_offline.runs.results import write_evaluations
from qss_offline.training.d3g import mean_proposal, offline_trainer, train_models
from qss_offline.training.interaction import known_steps
from qss_offline.training.offline import SeedTask, member_tasks
from qss_offline.training.phases import Phase, has_result
from qss_offline.training.portfolio.trainer import PortfolioTrainer
from qss_offline.training.rounds import env_maker, run_rounds


def auto_phases(config: RunConfig) -> tuple[Phase, ...]:
    """Return the phases of a seed: its offline trainings, then the race."""
    units = config.units_beside * config.rounds_work
    return (
        Phase("models", train_models, config.preset.updates, config.device, tasks=_models),
        Phase("seeds", _race_seeds, units, config.device, act=True, done=has_result),
    )


def _models(config: RunConfig, task: SeedTask) -> list[SeedTask]:
    return member_tasks(task, config.preset.ensemble)


def proposal_of(config: RunConfig, task: SeedTask) -> Network:
    """Return what D3G proposes for a seed that is trained, `(1, P)`."""
    trainer = offline_trainer(config, _models(config, task), "cpu")
    return mean_proposal(trainer.run(config.preset.updates, no_tick))


def _race_seeds(config: RunConfig, tasks: Sequence[SeedTask], tick: Tick) -> None:
    """Race the members of some seeds, one seed after the other, for one worker."""
    dataset = load_transitions(config.dataset_id)
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
            proposal_of(config, task),
            env_maker(config.env_id),
            config.inverse,
            config.portfolio,
            config.facts.deterministic,
            known_steps(config.actions_from, config.env_id),
            config.device,
        )
        beside = config.units_beside
        told = counted_on(tick, beside * config.rounds_work * number, beside)
        keep = partial(_keep_members, trainer, task, config.env_id)
        episodes = config.evaluation_episodes
        run_rounds(trainer, [task], config.env_id, episodes, told, dataset, keep)


def _keep_members(trainer: PortfolioTrainer, task: SeedTask, env_id: str | None) -> None:
    """Write the policy of every member."""
    for member in MEMBERS:
        keep_policy(trainer.policy_of(member), task.folder.member(member).policy, env_id)
