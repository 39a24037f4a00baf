"""The online budget spent round by round: fit, evaluate, checkpoint; for D3G and BCO alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import gymnasium as gym
import numpy as np

from qss_offline.data.environments import make_env
from qss_offline.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from qss_offline.evaluation.episodes import evaluate
from qss_offline.evaluation.policies import SavedPolicy
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.runs.results import EvaluationPoint, write_evaluations
from qss_offline.training.offline import SeedTask


class RoundFitter(Protocol):
    """What is fitted in rounds for S seeds: `InverseFitter`, `BCOTrainer`."""

    config: InverseFitConfig

    def run_round(self, report: Callable[[int], None]) -> None:
        """Take a round's online steps and learn from them; `report` gets the updates so far."""

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


def by_rounds_done(tasks: Sequence[SeedTask]) -> list[list[SeedTask]]:
    """Group seeds that stand after the same round, those that are furthest first."""
    groups: dict[int, list[SeedTask]] = {}
    for task in tasks:
        groups.setdefault(rounds_done(task), []).append(task)
    return [groups[done] for done in sorted(groups, reverse=True)]


def run_rounds(
    fitter: RoundFitter,
    tasks: Sequence[SeedTask],
    env_id: str | None,
    episodes: int,
    report: Callable[[int], None],
) -> None:
    """Run what is left of the rounds, evaluate after each, and save policies and returns.

    Args:
        fitter: of the tasks' seeds, in their order.
        tasks: seeds that stand after the same round.
        env_id: where the policies are evaluated; None evaluates none.
        episodes: episodes of each evaluation.
        report: called with the updates of one seed so far.
    """
    done = rounds_done(tasks[0])
    evaluations: list[list[tuple[float, ...]]] = [[] for _ in tasks]
    if done:
        checkpoints = [load_checkpoint(task.folder.online) for task in tasks]
        fitter.restore(checkpoints)
        evaluations = [list(c.metadata["evaluations"]) for c in checkpoints]
    config = fitter.config
    for number in range(done + 1, config.rounds + 1):
        fitter.run_round(report)
        for index, task in enumerate(tasks):
            returns: tuple[float, ...] = ()
            if env_id is not None:
                stream = np.random.SeedSequence([task.seed, *b"evaluation", number])
                seed = int(stream.generate_state(1)[0])
                policy = fitter.policy(index)
                returns = evaluate(policy, env_id, episodes, seed, make_env).returns
            evaluations[index].append(returns)
            metadata = {"evaluations": evaluations[index]}
            save_checkpoint(task.folder.online, fitter.checkpoint(index, metadata))
    for index, task in enumerate(tasks):
        fitter.policy(index).save(task.folder.policy, env_id)
        points = [
            EvaluationPoint(config.steps_per_round * number, returns)
            for number, returns in enumerate(evaluations[index], 1)
            if returns
        ]
        write_evaluations(task.folder.result, task.seed, points)
