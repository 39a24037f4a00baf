"""BCO for several seeds: an IDM fitted online labels the recording, a policy clones that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import torch

from qss_offline.algorithms.bco import BehaviouralCloning, CloningConfig, LabelledBatch
from qss_offline.algorithms.networks import Network
from qss_offline.data.load import load_transitions
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
from qss_offline.engine.timing import seconds_per_update
from qss_offline.evaluation.policies import ClonedPolicy, ObservationScale
from qss_offline.parallel.processes import Tick
from qss_offline.parallel.reporting import counted_on, no_tick
from qss_offline.runs.config import RunConfig
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.runs.work import CLONING_UPDATE
from qss_offline.training.interaction import ActionSteps, known_steps
from qss_offline.training.inverse.models import InverseModels
from qss_offline.training.offline import SeedTask
from qss_offline.training.phases import Phase, has_result
from qss_offline.training.recorded import batch_transform
from qss_offline.training.rounds import env_maker, spend_rounds

_CLONING = "cloning"


class BCOTrainer(InverseModels):
    """BCO of S seeds: the rounds and online budget of D3G's inverse fit.

    In each round every seed takes its online steps (at random in the first, with its policy and
    noise in later ones), its inverse model learns from all of its steps so far, labels the whole
    recording anew, and its policy goes on learning to repeat the labels. Settings of the inverse
    model are those of D3G's: with `recorded_coef` above 0 it, too, learns from the recording, which
    is more than BCO as published does.

    Args:
        seeds: the S seeds.
        recordings: what each seed learns from; its actions, where it has any, are not looked at.
        scales: what each seed's observations go through before its inverse model.
        policy_scales: what they go through before its policy.
        make_env: makes the environment; None where there is none.
        config: the online budget.
        cloning: the policy's settings; its `error_power` is a number here.
        cloning_updates: gradient steps of the policy in a round.
        known: steps of the same environment whose actions are known.
        device: where both models are trained.

    Raises:
        UserError: as for `InverseModels`, or actions are discrete.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        recordings: Sequence[Transitions],
        scales: Sequence[ObservationScale],
        policy_scales: Sequence[ObservationScale],
        make_env: Callable[[], gym.Env[Any, Any]] | None,
        config: InverseFitConfig,
        cloning: CloningConfig,
        cloning_updates: int,
        known: ActionSteps | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(seeds, scales, make_env, config, known, recordings, device)
        self._cloning, self._cloning_updates = cloning, cloning_updates
        obs_dim, action_dim = len(scales[0].mean), len(self.action_box.low)
        self._cloner = BehaviouralCloning(cloning, obs_dim, action_dim)
        self._policy_scales = policy_scales
        self._seen = self.seen_through(policy_scales)
        self.policies: TrainState = initial_state(self._cloner, self.seeds, self.device)
        self._policies_on_cpu = self.policies.on_cpu()

    def run_round(self, tick: Tick = no_tick) -> None:
        """Take a round's steps, fit the inverse models, label, and clone.

        Args:
            tick: called with the work of one seed so far (`runs/work.py`).
        """
        done = self.rounds_done
        before = done * self._cloning_updates * CLONING_UPDATE
        # Known steps fit the IDM before the first round, but nothing is cloned to act with yet.
        self.fit_round(
            lambda index: self.policy(index) if done else None,
            counted_on(tick, before),
        )
        fitted = self._work((done + 1) * self.config.steps_per_round)

        def tell() -> None:
            tick(fitted + before, "labels")

        sampler = UniformSampler(
            [
                (recorded.column("observations"), self.labels(index, tell))
                for index, recorded in enumerate(self._seen)
            ],
            self._cloning.batch_size,
            LabelledBatch,
            batch_transform(self._seen, ("observations", None)),
        )
        fit(
            self._cloner,
            self.policies,
            sampler,
            (done + 1) * self._cloning_updates,
            self._cloning.learning_rate,
            lambda state, _: tick(fitted + state.update * CLONING_UPDATE, "cloning"),
            mode=best_mode(self.device),
        )
        self._policies_on_cpu = self.policies.on_cpu()

    def policy(self, index: int) -> ClonedPolicy:
        """Return the policy of the seed at `index`, on a copy of the network as it is now."""
        network = self._policies_on_cpu.networks["policy"]
        copy = Network(network.shape, network.flat[index : index + 1].clone())
        return ClonedPolicy(copy, self._policy_scales[index], self.action_box)

    def checkpoint(self, index: int, metadata: Mapping[str, Any]) -> Checkpoint:
        """Take the seed at `index` out: both models and its steps."""
        inverse = super().checkpoint(index, metadata)
        cloning = seed_checkpoint(self._policies_on_cpu, index)
        return with_part(inverse, _CLONING, cloning)

    def restore(self, checkpoints: Sequence[Checkpoint]) -> None:
        """Continue from checkpoints of all seeds, taken after the same round."""
        super().restore(checkpoints)
        cloning = [part_of(checkpoint, _CLONING) for checkpoint in checkpoints]
        self.policies = stack_checkpoints(self._cloner, cloning, self.device)
        self._policies_on_cpu = self.policies.on_cpu()


def bco_trainer(config: RunConfig, seeds: Sequence[int]) -> BCOTrainer:
    """Return a trainer of some of the seeds, before its first round."""
    transitions = load_transitions(config.dataset_id).transitions
    assert config.cloning is not None
    return BCOTrainer(
        seeds,
        [transitions] * len(seeds),
        [ObservationScale.of_recording(config.facts)] * len(seeds),
        [ObservationScale.of_recording(config.facts.eased())] * len(seeds),
        env_maker(config.env_id),
        config.inverse,
        config.cloning,
        config.cloning_updates,
        known_steps(config.actions_from, config.env_id),
        config.device,
    )


def train_bco_seeds(config: RunConfig, tasks: Sequence[SeedTask], tick: Tick) -> None:
    """Train and evaluate some seeds in this process, from where their folders stand.

    Args:
        config: what to do; the tasks say for which seeds.
        tasks: the seeds.
        tick: called with the work done, over all of them (`RunConfig.units`).
    """
    dataset = load_transitions(config.dataset_id)

    def trainer(same: Sequence[SeedTask]) -> BCOTrainer:
        return bco_trainer(config, [task.seed for task in same])

    spend_rounds(config, tasks, trainer, dataset, tick)


def bco_phases(config: RunConfig) -> tuple[Phase, ...]:
    """Return the phases of a seed: one."""
    units = config.units
    return (Phase("seeds", train_bco_seeds, units, config.device, act=True, done=has_result),)


def bco_seconds_per_update(config: RunConfig, obs_dim: int, action_dim: int) -> float:
    """Measure how long an update of the policy of one seed takes in one process."""
    assert config.cloning is not None
    # Any power takes as long.
    cloning = replace(config.cloning, error_power=config.cloning.error_power or 2.0)
    algorithm, widths = BehaviouralCloning(cloning, obs_dim, action_dim), (obs_dim, action_dim)
    return seconds_per_update(algorithm, widths, cloning.batch_size, LabelledBatch)
