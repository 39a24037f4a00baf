"""TD3+BC on labelled recordings: values of actions, where the actions are an IDM's.

Fujimoto and Gu, *A Minimalist Approach to Offline Reinforcement Learning*, NeurIPS 2021
(https://arxiv.org/abs/2106.06860), on transitions (s, a, r, s') whose actions a = I(s, s') the
inverse dynamics model of `inverse_dynamics` names, as semi-supervised offline RL does (Zheng et
al., ICML 2023, https://arxiv.org/abs/2210.06518):

    y = r + γ (1 − terminated) min_i Q'_i(s', π'(s') + ε),  ε ~ clip(N(0, σ), ±c)
    L_Q = Σ_i ‖y − Q_i(s, a)‖²
    L_π = −λ Q_1(s, π(s)) + ‖π(s) − a‖²,  λ = α / mean |Q_1(s, a)|

Departures: λ is measured on recorded actions, not on the policy's, so that it doesn't move with it;
actions are in units of the action box; ε is drawn with the batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from qss_offline.algorithms.bco import cloned_action
from qss_offline.algorithms.networks import MLPShape, Network, mlp
from qss_offline.algorithms.protocol import TrackRule, UpdateRule
from qss_offline.algorithms.qss import twin_loss
from qss_offline.algorithms.validation import (
    check_batch_size,
    check_discount,
    check_positive,
    check_step_size,
)
from qss_offline.errors import UserError

SMOOTHING_NOISE, MOST_NOISE = 0.2, 0.5
"""σ, which the sampler draws `ValuedBatch.noise` with, and c: the authors'."""

_LEAST_VALUE = 1e-6
"""What the mean of |Q|, which Q is divided by, is at least: untrained critics may be 0."""


class ValuedBatch(NamedTuple):
    """Labelled transitions.

    Attributes:
        obs: `(S, B, obs_dim)`.
        action: `(S, B, action_dim)`, in units of the action box.
        next_obs: `(S, B, obs_dim)`.
        reward: `(S, B)`.
        terminated: `(S, B)`, 1.0 where the episode ended in a terminal state, not by a limit.
        noise: `(S, B, action_dim)`, ε before it is clipped.
    """

    obs: Tensor
    action: Tensor
    next_obs: Tensor
    reward: Tensor
    terminated: Tensor
    noise: Tensor


class TD3BCParameters(NamedTuple):
    """Networks of S seeds."""

    critic: Network
    critic_target: Network
    policy: Network
    policy_target: Network


@dataclass(frozen=True)
class TD3BCConfig:
    """Settings of TD3+BC; the defaults are its authors'.

    Attributes:
        hidden_dims: sizes of the hidden layers.
        batch_size: transitions per update and seed, B; a multiple of 32.
        learning_rate: Adam's step size.
        gamma: discount γ.
        polyak_step_size: of the target networks, η.
        policy_update_interval: critic updates for each of the policy and the targets.
        value_weight: α, how much values count beside the labels.
    """

    hidden_dims: tuple[int, ...] = (256, 256)
    batch_size: int = 256
    learning_rate: float = 3e-4
    gamma: float = 0.99
    polyak_step_size: float = 0.005
    policy_update_interval: int = 2
    value_weight: float = 2.5

    def __post_init__(self) -> None:
        """Refuse settings that can't be trained with."""
        check_positive(self, "learning_rate", "hidden_dims", "policy_update_interval")
        check_step_size(self, "polyak_step_size")
        check_batch_size(self)
        check_discount(self.gamma)
        if self.value_weight < 0:
            raise UserError(f"value_weight must be at least 0, not {self.value_weight}")


def action_value(critic: Network, obs: Tensor, action: Tensor) -> Tensor:
    """Q(s, a): `(S, 2, B)` from twin critics, `(S, B)` from a single one."""
    return mlp(critic, torch.cat((obs, action), dim=-1)).squeeze(-1)


class TD3BC:
    """The losses of TD3+BC.

    Args:
        config: settings.
        obs_dim: size of an observation.
        action_dim: size of an action.
    """

    name = "td3_bc"

    def __init__(self, config: TD3BCConfig, obs_dim: int, action_dim: int) -> None:
        self._config = config
        self.shapes = {
            "critic": MLPShape((obs_dim + action_dim, *config.hidden_dims, 1), 2),
            "policy": MLPShape((obs_dim, *config.hidden_dims, action_dim)),
        }
        self.copies = {"critic_target": "critic", "policy_target": "policy"}
        interval = config.policy_update_interval
        self.updates: tuple[UpdateRule, ...] = (
            UpdateRule("critic", self.critic_loss),
            UpdateRule("policy", self.policy_loss, interval),
        )
        self.tracks = (
            TrackRule("critic_target", "critic", config.polyak_step_size, interval),
            TrackRule("policy_target", "policy", config.polyak_step_size, interval),
        )
        self.parameters_type = TD3BCParameters

    def td_target(self, parameters: TD3BCParameters, batch: ValuedBatch) -> Tensor:
        """The target y = r + γ (1 − terminated) min_i Q'_i(s', π'(s') + ε). `(S, B)`."""
        noise = batch.noise.clamp(-MOST_NOISE, MOST_NOISE)
        action = cloned_action(parameters.policy_target, batch.next_obs) + noise
        values = action_value(parameters.critic_target, batch.next_obs, action.clamp(-1, 1))
        return batch.reward + self._config.gamma * (1.0 - batch.terminated) * values.amin(dim=1)

    def critic_loss(
        self, parameters: TD3BCParameters, batch: ValuedBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """L_Q = Σ_i ‖y − Q_i(s, a)‖². No gradient through y. `(S,)`."""
        with torch.no_grad():
            target = self.td_target(parameters, batch)
        q = action_value(parameters.critic, batch.obs, batch.action)
        loss = twin_loss(q, target)
        return loss, {"critic_loss": loss, "q": q.mean(dim=(1, 2))}

    def policy_loss(
        self, parameters: TD3BCParameters, batch: ValuedBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """L_π = −λ Q_1(s, π(s)) + ‖π(s) − a‖²; Q isn't moved by it. `(S,)`."""
        critic = parameters.critic.members[0]
        action = cloned_action(parameters.policy, batch.obs)
        value = action_value(critic, batch.obs, action).mean(dim=-1)
        with torch.no_grad():
            recorded = action_value(critic, batch.obs, batch.action)
            size = recorded.abs().mean(dim=-1).clamp_min(_LEAST_VALUE)
        error = (action - batch.action).square().mean(dim=(1, 2))
        loss = error - self._config.value_weight * value / size
        return loss, {"policy_value": value, "cloning_error": error}
