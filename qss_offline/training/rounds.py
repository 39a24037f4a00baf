"""The online budget spent round by round: fit, evaluate, checkpoint; for D3G and BCO alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import gymnasium as gym

from qss_offline.data.environments import make_env
from qss_offline.data.load import LoadedDataset, longest_cut, recorded_behaviour
from qss_offline.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from qss_offline.engine.streams import EVALUATION, seed_of
from qss_offline.evaluation.episodes import evaluate
from qss_offline.evaluation.policies import SavedPolicy
from qss_offline.evaluation.policy_files import keep_policy, tell_if_diverged
from qss_offline.parallel.processes import Tick
from qss_offline.parallel.reporting import counted_on, return_in_words
from qss_offline.runs.config import RunConfig
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.runs.race import Race
from qss_offline.runs.results import EvaluationPoint, write_evaluations
from qss_offline.runs.work import EPISODE
from qss_offline.training.offline import SeedTask


class _Progress:
    """Tells of rounds: which one, what part of it, and what the policies returned last.

    Args:
        tick: called with the work of one seed so far.
        rounds: in all.
        evaluation: work of an evaluation.
        recorded: mean return of the recorded behaviour.
    """

    def __init__(self, tick: Tick, rounds: int, evaluation: float, recorded: float) -> None:
        self._tick, self._rounds = tick, rounds
        self._evaluation, self._recorded = evaluation, recorded
        self._number, self._fitted, self._note = 0, 0.0, ""

    def begin(self, number: int, evaluations: Sequence[Sequence[tuple[float, ...]]]) -> None:
        """Begin a round, after evaluations of each seed."""
        self._number = number
        self._note = return_in_words([e[-1] for e in evaluations if e and e[-1]], self._recorded)

    def fitting(self, units: float, phase: str = "", note: str = "") -> None:
        """Take what a fitter tells of its own work."""
        self._fitted = units
        self._tell(self._number - 1, phase)

    def evaluating(self, share: float) -> None:
        """Tell that a share of the seeds is evaluated."""
        self._tell(self._number - 1 + share, "evaluating")

    def end(self, evaluations: Sequence[Sequence[tuple[float, ...]]]) -> None:
        """Tell that all rounds are done."""
        self.begin(self._rounds, evaluations)
        self._tick(self._fitted + self._rounds * self._evaluation, "", self._note)

    def _tell(self, evaluations: float, phase: str) -> None:
        of_rounds = f"{phase} round {self._number} of {self._rounds}"
        self._tick(self._fitted + evaluations * self._evaluation, of_rounds, self._note)


class RoundFitter(Protocol):
    """What is fitted in rounds: `InverseFitter`, `BCOTrainer`, `PortfolioTrainer`."""

    config: InverseFitConfig

    @property
    def race(self) -> Race | None:
        """How the policy is chosen, where several act."""

    def run_round(self, tick: Tick) -> None:
        """Take a round's online steps and learn; `tick` gets the work of a seed so far."""

    def policy(self, index: int) -> SavedPolicy:
        """Return the policy of the seed at `index`."""

    def checkpoint(self, index: int, metadata: Mapping[str, Any]) -> Checkpoint:
        """Take the seed at `index` out."""

    def restore(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Continue from checkpoints of all seeds, taken after the same round."""


def rounds_done(task: SeedTask) -> int:
    """Return the number of rounds that the seed's checkpoint stands after."""
    path = task.folder.online
    return len(load_checkpoint(path).metadata["evaluations"]) if path.exists() else 0


def env_maker(env_id: str | None) -> Callable[[], gym.Env[Any, Any]] | None:
    """Return what makes an environment, None where there is none."""
    return None if env_id is None else partial(make_env, env_id)


def episode_seed(seed: int, number: int) -> int:
    """Return the seed of the episodes that a seed's policy is evaluated in after a round."""
    return seed_of(seed, EVALUATION, number)


def by_rounds_done(tasks: Sequence[SeedTask]) -> list[list[SeedTask]]:
    """Group seeds that stand after the same round, those that are furthest first."""
    groups: dict[int, list[SeedTask]] = {}
    for task in tasks:
        groups.setdefault(rounds_done(task), []).append(task)
    return [groups[done] for done in sorted(groups, reverse=True)]


def spend_rounds(
    config: RunConfig,
    tasks: Sequence[SeedTask],
    fitter_of: Callable[[Sequence[SeedTask]], RoundFitter],
    dataset: LoadedDataset,
    tick: Tick,
) -> None:
    """Run what is left of the rounds of seeds that may stand after different ones.

    Args:
        config: of their run.
        tasks: the seeds.
        fitter_of: makes what is fitted, of seeds that stand after the same round.
        dataset: what they learn from.
        tick: called with the work done in rounds, over all seeds (`RunConfig.units`).
    """
    done, beside = 0.0, config.units_beside
    for same in by_rounds_done(tasks):
        told = counted_on(tick, done, beside * len(same))
        episodes = config.evaluation_episodes
        run_rounds(fitter_of(same), same, config.env_id, episodes, told, dataset)
        done += beside * config.rounds_work * len(same)


def run_rounds(
    fitter: RoundFitter,
    tasks: Sequence[SeedTask],
    env_id: str | None,
    episodes: int,
    tick: Tick,
    dataset: LoadedDataset,
    keep_more: Callable[[], None] = lambda: None,
) -> None:
    """Run what is left of the rounds, evaluate after each, and save policies and returns.

    Args:
        fitter: of the tasks' seeds, in their order.
        tasks: seeds that stand after the same round.
        env_id: where the policies are evaluated; None evaluates none.
        episodes: episodes of each evaluation.
        tick: called with the work of one seed so far (`runs/work.py`).
        dataset: what they learn from, whose mean return is named beside that of the policies.
        keep_more: writes what else is kept, before the returns that say that a seed is through.
    """
    done = rounds_done(tasks[0])
    evaluations: list[list[tuple[float, ...]]] = [[] for _ in tasks]
    if done:
        checkpoints = [load_checkpoint(task.folder.online) for task in tasks]
        fitter.restore(checkpoints)
        evaluations = [list(c.metadata["evaluations"]) for c in checkpoints]
    config = fitter.config
    of_evaluation = 0.0 if env_id is None else EPISODE * episodes
    recorded, longest = recorded_behaviour(dataset).mean, longest_cut(dataset)
    progress = _Progress(tick, config.rounds, of_evaluation, recorded)
    for number in range(done + 1, config.rounds + 1):
        progress.begin(number, evaluations)
        fitter.run_round(progress.fitting)
        for index, task in enumerate(tasks):
            progress.evaluating(index / len(tasks))
            returns: tuple[float, ...] = ()
            if env_id is not None:
                policy = fitter.policy(index)
                begin = episode_seed(task.seed, number)
                returns = evaluate(policy, env_id, episodes, begin, longest=longest).returns
            evaluations[index].append(returns)
            tell_if_diverged(task.seed, evaluations[index])
            metadata = {"evaluations": evaluations[index]}
            save_checkpoint(task.folder.online, fitter.checkpoint(index, metadata))
    if done < config.rounds:
        progress.end(evaluations)
    keep_more()
    for index, task in enumerate(tasks):
        keep_policy(fitter.policy(index), task.folder.policy, env_id)
        points = [
            EvaluationPoint(config.steps_per_round * number, returns)
            for number, returns in enumerate(evaluations[index], 1)
            if returns
        ]
        write_evaluations(task.folder.result, task.seed, points, fitter.race)
