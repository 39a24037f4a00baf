"""Online D3G for several seeds: environments stepped in turn, one stacked update a step; resumable.

Every seed has its environment, its replay table and its random streams; networks and updates are
stacked. On a CPU a seed gives the same bits alone, in any company and after any interruption.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from qss_offline.engine.checkpoint import merge_states
from qss_offline.engine.loop import Mode, best_mode
from qss_offline.engine.state import TrainState
from qss_offline.engine.streams import EVALUATION, seed_of
from qss_offline.evaluation.episodes import evaluate
from qss_offline.evaluation.policy_files import keep_policy, tell_if_diverged
from qss_offline.online.config import EvaluationPlan, OnlineConfig
from qss_offline.online.env_loop import OnlineTask, SeedLoop
from qss_offline.online.files import load_seeds, policy_path, save_seeds, saved_step
from qss_offline.online.learner import Learner
from qss_offline.parallel.processes import Tick
from qss_offline.parallel.reporting import counted_on, return_in_words
from qss_offline.runs.results import EvaluationPoint

_LOG_INTERVAL = 1_000


class OnlineTrainer:
    """Trains several seeds in one stack, in this process.

    Args:
        tasks: the seeds.
        env_id: a Gymnasium id.
        config: settings.
        plan: when to evaluate.
        device: where to train.
        mode: how updates run; None as fast as they can.
    """

    def __init__(
        self,
        tasks: Sequence[OnlineTask],
        env_id: str,
        config: OnlineConfig,
        plan: EvaluationPlan,
        device: torch.device | str = "cpu",
        mode: Mode | None = None,
    ) -> None:
        self.tasks, self.env_id, self.config = tuple(tasks), env_id, config
        self.plan, self.device = plan, torch.device(device)
        self.mode = mode or best_mode(self.device)

    def run(self, tick: Tick) -> TrainState:
        """Train every seed to the end, from its checkpoint where it has one.

        Seeds that stand further back, as after a kill between two files, catch up first.

        Args:
            tick: called with the number of environment steps done, over all seeds, and the last
                returns.

        Returns:
            The networks of all seeds, in the order of `state.seeds`.
        """
        stands = [saved_step(task.folder) for task in self.tasks]
        tick(sum(stands), f"step {min(stands):,} of {self.config.steps:,}")
        loops: list[SeedLoop] = []
        learner: Learner | None = None
        try:
            for stand in sorted(set(stands)):
                if learner is not None:
                    waiting = sum(step for step in stands if step >= stand)
                    self._advance(learner, stand, counted_on(tick, waiting))
                joining = [
                    SeedLoop(task, self.env_id, self.config)
                    for task, step in zip(self.tasks, stands, strict=True)
                    if step == stand
                ]
                loops.extend(joining)
                state = load_seeds(joining, self.config, self.device)
                if learner is not None:
                    state = merge_states([learner.state, state])
                learner = Learner(loops, state, self.config, self.mode)
            assert learner is not None
            self._advance(learner, self.config.steps, tick)
            return learner.state
        finally:
            for loop in loops:
                loop.close()

    def _advance(self, learner: Learner, step: int, tick: Tick) -> None:
        """Act and train until every seed has taken `step` environment steps."""
        loops, warm_up = learner.loops, self.config.warm_up
        if learner.step == 0 and step > 0:
            self._evaluate(learner)
        note = _last_returns(loops)
        while learner.step < step:
            # A seed that brings a policy with it acts by that from the first step on.
            at_random = learner.step < warm_up and loops[0].task.start is None
            greedy = [None] * len(loops) if at_random else learner.act()
            for loop, action in zip(loops, greedy, strict=True):
                loop.step(action)
            now = learner.step
            if now == warm_up:
                learner.end_warm_up()
            elif now > warm_up:
                learner.update()
            evaluated = now == self.config.steps or now % self.plan.interval == 0
            # At every checkpoint, too, so that a resumed run logs the same means.
            if evaluated or now % _LOG_INTERVAL == 0:
                self._log(learner)
            if evaluated:
                tick(now * len(loops), f"evaluating after step {now:,}", note)
                self._evaluate(learner)
                save_seeds(learner, self.env_id)
                note = _last_returns(loops)
            phase = "random step" if at_random else "step"
            tick(now * len(loops), f"{phase} {now:,} of {self.config.steps:,}", note)

    def _log(self, learner: Learner) -> None:
        """Add a line to every seed's metrics, once there are some."""
        means = learner.metrics.read()
        for index, loop in enumerate(learner.loops):
            row: dict[str, Any] = {"update": learner.state.update, "step": learner.step}
            row |= {name: values[index] for name, values in means.items()}
            row["episodes"] = len(loop.ended_returns)
            if loop.ended_returns:
                row["episode_return"] = float(np.mean(loop.ended_returns))
            loop.ended_returns.clear()
            if learner.state.update > 0:
                loop.task.folder.append_metrics(row)

    def _evaluate(self, learner: Learner) -> None:
        """Let every policy act, and keep the returns."""
        step = learner.step
        for index, loop in enumerate(learner.loops):
            policy = learner.policy(index)
            evaluation = evaluate(
                policy,
                self.env_id,
                self.plan.episodes,
                seed_of(loop.task.seed, EVALUATION, step),
                gamma=self.config.algorithm.gamma,
            )
            value = learner.value(index, evaluation.starts)
            loop.evaluations.append(
                EvaluationPoint(step, evaluation.returns, None, value, evaluation.worth)
            )
            tell_if_diverged(loop.task.seed, [point.returns for point in loop.evaluations])
            if self.plan.keep_policies:
                keep_policy(policy, policy_path(loop.task.folder, step), self.env_id)


def _last_returns(loops: Sequence[SeedLoop]) -> str:
    """Return what the last evaluations were, over all seeds."""
    return return_in_words([loop.evaluations[-1].returns for loop in loops if loop.evaluations])
