"""The members of a portfolio on one online budget, whose steps all teach one IDM.

The first round acts at random, each later one is a member's (`race.py`). The IDM learns from all
steps so far, whoever took them, and members that learn from its labels go on learning from new
ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from qss_offline.algorithms.bco import BehaviouralCloning, LabelledBatch
from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.protocol import Algorithm
from qss_offline.algorithms.td3_bc import SMOOTHING_NOISE, TD3BC, ValuedBatch
from qss_offline.data.transitions import Transitions
from qss_offline.engine.checkpoint import (
    Checkpoint,
    part_of,
    seed_checkpoint,
    stack_checkpoints,
    with_part,
)
from qss_offline.engine.loop import best_mode, fit
from qss_offline.engine.sampler import UniformSampler
from qss_offline.engine.state import TrainState, initial_state
from qss_offline.evaluation.policies import (
    ClonedPolicy,
    ObservationScale,
    SavedPolicy,
)
from qss_offline.parallel.processes import Tick
from qss_offline.parallel.reporting import counted_on, no_tick
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.runs.portfolio_config import (
    CLONING,
    D3G,
    VALUES,
    PortfolioConfig,
)
from qss_offline.runs.race import Heat, Pace, Race
from qss_offline.runs.work import CLONING_UPDATE, VALUED_UPDATE
from qss_offline.training.interaction import ActionSteps, take_steps
from qss_offline.training.inverse.models import InverseModels
from qss_offline.training.recorded import batch_transform


class PortfolioTrainer(InverseModels):
    """The race of one seed.

    Args:
        seed: the seed.
        recording: what its members learned and learn from.
        scale: what observations go through before the IDM and proposals.
        policy_scale: what they go through before members that learn from labels.
        proposal: τ of D3G, `(1, P)`.
        make_env: makes the environment; None where there is none.
        config: the online budget.
        portfolio: settings of the members; an `error_power` of the cloning is a number here.
        deterministic: whether the recorded behaviour was.
        known: steps of the same environment whose actions are known.
        device: where all are trained.

    Raises:
        UserError: as for `InverseModels`, or actions are discrete.
    """

    def __init__(
        self,
        seed: int,
        recording: Transitions,
        scale: ObservationScale,
        policy_scale: ObservationScale,
        proposal: Network,
        make_env: Callable[[], gym.Env[Any, Any]] | None,
        config: InverseFitConfig,
        portfolio: PortfolioConfig,
        deterministic: bool,
        known: ActionSteps | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__((seed,), (scale,), make_env, config, known, (recording,), device)
        self._proposal, self._portfolio = proposal, portfolio
        self._policy_scale = policy_scale
        self._seen = self.seen_through((policy_scale,))
        sizes = len(scale.mean), self.action_box.dim
        self._learners: dict[str, Algorithm] = {
            CLONING: BehaviouralCloning(portfolio.cloning, *sizes),
            VALUES: TD3BC(portfolio.values, *sizes),
        }
        self._states: dict[str, TrainState] = {
            name: initial_state(learner, self.seeds, self.device)
            for name, learner in self._learners.items()
        }
        self.race: Race = Race(deterministic)

    def run_round(self, tick: Tick = no_tick) -> None:
        """Take a round's steps, fit the IDM, label, and train who learns from labels.

        Args:
            tick: called with the work done so far (`runs/work.py`).
        """
        done = self.rounds_done
        before = done * self._portfolio.round_work
        self.fit_round(lambda _: None, counted_on(tick, before))
        fitted = self._work((done + 1) * self.config.steps_per_round)
        labels = self.labels(0, lambda: tick(fitted + before, "labels"))
        cloned = self._states[CLONING].update

        def cloning(state: TrainState, _: object) -> None:
            tick(fitted + before + (state.update - cloned) * CLONING_UPDATE, "cloning")

        self._train(CLONING, done, labels, cloning)
        units = fitted + before + self._portfolio.cloning_updates * CLONING_UPDATE
        valued = self._states[VALUES].update

        def valuing(state: TrainState, _: object) -> None:
            tick(units + (state.update - valued) * VALUED_UPDATE, "values of actions")

        self._train(VALUES, done, labels, valuing)

    def _train(
        self,
        member: str,
        done: int,
        labels: torch.Tensor,
        on_chunk: Callable[[TrainState, Any], None],
    ) -> None:
        """Train a member on new labels."""
        portfolio, state = self._portfolio, self._states[member]
        if member == CLONING:
            settings: Any = portfolio.cloning
            updates, sampler = portfolio.cloning_updates, self._labelled(labels)
        else:
            settings, updates = portfolio.values, portfolio.values_updates
            sampler = self._valued(labels)
        fit(
            self._learners[member],
            state,
            sampler,
            (done + 1) * updates,
            settings.learning_rate,
            on_chunk,
            mode=best_mode(self.device),
        )

    def _labelled(self, labels: torch.Tensor) -> UniformSampler:
        (recorded,) = self._seen
        table = recorded.column("observations"), labels
        transform = batch_transform(self._seen, ("observations", None))
        batch_size = self._portfolio.cloning.batch_size
        return UniformSampler([table], batch_size, LabelledBatch, transform)

    def _valued(self, labels: torch.Tensor) -> UniformSampler:
        names = "observations", None, "next_observations", "rewards", "terminations", None
        (recorded,) = self._seen
        zeros = torch.zeros(1, 1, device=self.device).expand(labels.shape)
        others = iter((labels, zeros))
        table = [next(others) if name is None else recorded.column(name) for name in names]
        noise = torch.full(labels.shape[1:], SMOOTHING_NOISE, device=self.device)
        return UniformSampler(
            [tuple(table)],
            self._portfolio.values.batch_size,
            ValuedBatch,
            batch_transform(self._seen, names),
            (*([None] * 5), noise),
        )

    def _act(
        self,
        env: gym.Env[Any, Any],
        policy: Callable[[NDArray[Any]], NDArray[np.float32]] | None,
        rng: np.random.Generator,
    ) -> ActionSteps:
        """Act at random in the first round, and let the member whose turn it is act in others."""
        if not self.rounds_done:
            return super()._act(env, None, rng)
        config = self.config
        member = self.race.turn(config.rounds)
        acting = self.policy_of(member)
        if acting.diverged is not None:
            self.race.add(Heat.diverged(member))
            return super()._act(env, None, rng)
        pace = Pace(None if env.spec is None else env.spec.max_episode_steps)
        noise = config.exploration_noise if self.race.noisy(config.rounds) else 0.0
        steps = config.steps_per_round
        taken = take_steps(env, steps, self.actions, acting, noise, rng, pace)
        self.race.add(pace.heat(member))
        return taken

    def policy_of(self, member: str) -> SavedPolicy:
        """Return a member's policy, on copies of its networks as they are now."""
        if member == D3G:
            return self.heading_for(self._proposal, 0)
        network = self._states[member].on_cpu().networks["policy"]
        copy = Network(network.shape, network.flat.clone())
        return ClonedPolicy(copy, self._policy_scale, self.action_box)

    def policy(self, index: int) -> SavedPolicy:
        """Return the policy of who leads."""
        return self.policy_of(self.race.leader)

    def checkpoint(self, index: int, metadata: Mapping[str, Any]) -> Checkpoint:
        """Take everything out: the IDM, its steps, all that learns from labels, and the race."""
        whole = super().checkpoint(index, {**metadata, "race": self.race.plain()})
        for name, state in self._states.items():
            whole = with_part(whole, name, seed_checkpoint(state.on_cpu(), 0))
        return whole

    def restore(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Continue from a checkpoint that was taken after a round."""
        super().restore(checkpoints)
        (checkpoint,) = checkpoints
        for name, learner in self._learners.items():
            parts = [part_of(checkpoint, name)]
            self._states[name] = stack_checkpoints(learner, parts, self.device)
        race = checkpoint.metadata["race"]
        self.race.rounds = Race.of_file(race, "a checkpoint").rounds
