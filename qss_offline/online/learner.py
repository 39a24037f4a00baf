"""The networks of seeds that stand at the same step: how they act, and how they learn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from qss_offline.algorithms.d3g import D3G, D3GBatch, D3GParameters
from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.qss import propose_next_obs, transition_value
from qss_offline.algorithms.validation import ROWS_TOGETHER
from qss_offline.engine.cpu_graph import recorded_gradients
from qss_offline.engine.cuda_graph import captured_updates
from qss_offline.engine.denormals import denormals_as_zero
from qss_offline.engine.device import send
from qss_offline.engine.loop import Mode
from qss_offline.engine.replay import ReplaySampler
from qss_offline.engine.schedule import constant
from qss_offline.engine.state import TrainState
from qss_offline.engine.update import MetricSums, apply_update, eager_gradients
from qss_offline.evaluation.actions import OneHotActions
from qss_offline.evaluation.policies import DiscretePolicy, ObservationScale, Policy
from qss_offline.online.config import OnlineConfig
from qss_offline.online.env_loop import SeedLoop
from qss_offline.online.exploration import BoxActions


class Learner:
    """Several seeds in one stack.

    Args:
        loops: the seeds; actions are of what they observe, batches are of their replays.
        state: their networks, in the same order.
        config: settings.
        mode: how updates run.

    Attributes:
        metrics: of the updates since they were last read.
    """

    def __init__(
        self, loops: Sequence[SeedLoop], state: TrainState, config: OnlineConfig, mode: Mode
    ) -> None:
        self.loops, self.state, self.metrics = tuple(loops), state, MetricSums()
        self._config, self._mode = config, mode
        self._parameters = D3GParameters(**state.networks)
        self._sampler = ReplaySampler(
            [loop.table for loop in loops],
            config.algorithm.batch_size,
            self._make_batch,
            state.device,
        )
        self._limits: tuple[list[list[float]], Tensor] = [], torch.empty(0)
        self._prepare()

    @property
    def step(self) -> int:
        """Environment steps that each seed has taken."""
        return self.loops[0].table.added

    def _prepare(self) -> None:
        """Build what depends on the seeds' scales."""
        device = self.state.device
        scale = ObservationScale.of_stack([_scale(loop) for loop in self.loops])
        scaled = bool((scale.mean != 0).any() or (scale.std != 1).any())
        self._obs_scale = scale.on(device) if scaled else None
        step_scale: Tensor | None = None
        if self._config.algorithm.step_inputs:
            step_scale = scale.on(device).step_std
        self._algorithm, self._dynamics = (
            make_algorithm(self._config, self.loops[0], step_scale, only_dynamics)
            for only_dynamics in (False, True)
        )

    def _apply_scale(self, obs: Tensor) -> Tensor:
        """Scale observations `(…, S, B, obs_dim)`, each seed's by its own."""
        return obs if self._obs_scale is None else self._obs_scale.apply(obs)

    def _make_batch(self, rows: Tensor) -> D3GBatch:
        """Split rows `(updates, S, B, width)` into the columns of batches."""
        sizes = self.loops[0].columns.sizes
        obs, action, next_obs, reward, terminated, _ = rows.split(sizes, dim=-1)
        horizon = 1.0 - self._config.algorithm.gamma
        numbers = [[loop.reward_low / horizon, loop.reward_high / horizon] for loop in self.loops]
        if numbers != self._limits[0]:
            self._limits = numbers, send(torch.tensor(numbers), rows.device)
        limits = self._limits[1].expand(len(rows), -1, -1)
        return D3GBatch(
            self._apply_scale(obs),
            action,
            self._apply_scale(next_obs),
            reward.squeeze(-1),
            terminated.squeeze(-1),
            limits[..., :1],
            limits[..., 1:],
        )

    @torch.no_grad()
    def act(self) -> NDArray[np.float32]:
        """Return the policies' action vectors where the seeds are now, `(S, action_dim)`."""
        obs = torch.from_numpy(np.stack([loop.obs for loop in self.loops])).unsqueeze(1)
        # Padded, so that a seed's bits don't go by those beside it (`algorithms/validation.py`).
        rows = send(obs, self.state.device).repeat(1, ROWS_TOGETHER, 1)
        action = self._algorithm.policy_action(self._parameters, self._apply_scale(rows))
        return np.asarray(action[:, 0].cpu().numpy(), np.float32)

    def end_warm_up(self) -> None:
        """Measure the observations, and train the dynamics models if asked to."""
        for loop in self.loops:
            loop.measure_scale(self._config.normalize_observations)
        self._prepare()
        self._update(self._dynamics, self._config.model_updates)

    def update(self) -> None:
        """Apply the updates of one environment step."""
        self._update(self._algorithm, self._config.updates_per_step)

    def _update(self, algorithm: D3G, updates: int) -> None:
        """Apply updates of all seeds, each on batches of its own replay."""
        rate = algorithm.config.learning_rate
        with denormals_as_zero():
            for _ in range(updates):
                block = self._sampler.draw(self.state.generators, 1)
                if self._mode == "captured":
                    captured_updates(algorithm, self.state, block, constant(rate), self.metrics)
                    continue
                batch = D3GBatch(*(column[0] for column in block))
                self.state.update += 1
                measured = apply_update(
                    algorithm,
                    self.state,
                    batch,
                    self.state.update,
                    rate,
                    recorded_gradients if self._mode == "recorded" else eager_gradients,
                )
                self.metrics.add(measured)

    @torch.no_grad()
    def value(self, index: int, starts: NDArray[Any]) -> float | None:
        """Return the mean value of the first step of the seed's policy from some states.

        None where it is no number: without the cycle values may grow without bound.

        It is the mean of the twins of Q(s, C(s, s + τ(s))), with the averaged τ, which acts.

        Args:
            index: of the seed.
            starts: s, `(n, obs_dim)`, in the environment's units.
        """
        obs = np.asarray(starts, np.float32)
        # Padded with the first row, so that the bits don't go by who is in the stack.
        padded = np.concatenate((obs, np.repeat(obs[:1], -len(obs) % ROWS_TOGETHER, axis=0)))
        rows = send(torch.from_numpy(padded), self.state.device).expand(len(self.loops), -1, -1)
        scaled = self._apply_scale(rows).contiguous()
        parameters = self._parameters
        proposed = propose_next_obs(parameters.proposal_average, scaled)
        reached = self._algorithm.cycle(parameters, scaled, proposed)
        values = transition_value(parameters.critic, scaled, reached)
        value = float(values[index, :, : len(obs)].mean().cpu())
        return value if math.isfinite(value) else None

    def policy(self, index: int) -> Policy:
        """Return the policy of the seed at `index`, on a copy of its networks as they are now."""
        proposal, inverse = (
            Network(network.shape, network.flat[index : index + 1].clone().cpu())
            for network in (self._parameters.proposal_average, self._parameters.inverse_average)
        )
        actions, scale = self.loops[index].actions, _scale(self.loops[index])
        step_inputs = self._config.algorithm.step_inputs
        if isinstance(actions, OneHotActions):
            return DiscretePolicy(proposal, inverse, scale, step_inputs, actions.start)
        assert isinstance(actions, BoxActions)
        return Policy(proposal, inverse, scale, step_inputs, actions.box)


def make_algorithm(
    config: OnlineConfig,
    loop: SeedLoop,
    step_scale: Tensor | None = None,
    only_dynamics: bool = False,
) -> D3G:
    """Return the losses for observations and actions such as a seed's; see `D3G`."""
    return D3G(
        config.algorithm,
        loop.columns.obs_dim,
        loop.actions.dim,
        loop.actions.discrete,
        step_scale,
        only_dynamics,
    )


def _scale(loop: SeedLoop) -> ObservationScale:
    """What the seed's observations go through: until that is measured, nothing."""
    if loop.scale is not None:
        return loop.scale
    dim = loop.columns.obs_dim
    # Three tensors: files refuse tensors that share memory.
    return ObservationScale(torch.zeros(dim), torch.ones(dim), torch.ones(dim))
