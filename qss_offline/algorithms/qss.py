"""Q(s, s') and τ(s): what D3G with actions and D3G from observations alone have in common.

The two differ in the cycle, which says where a proposal leads (`cycled_next_obs` below); the
losses of the critics and of the proposal, their networks and their averages are the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from qss_offline.algorithms.networks import MLPShape, Network, mlp
from qss_offline.algorithms.protocol import TrackRule
from qss_offline.algorithms.validation import (
    check_batch_size,
    check_discount,
    check_positive,
    check_step_size,
)
from qss_offline.errors import UserError

QSS_COPIES = {
    "critic_target": "critic",
    "proposal_target": "proposal",
    "proposal_average": "proposal",
}
"""Networks that start as a copy of another."""


@dataclass(frozen=True)
class QSSConfig:
    """Settings that D3G with and without actions have in common; the defaults are the authors'.

    Attributes:
        hidden_dims: sizes of the hidden layers of every network.
        batch_size: transitions per update and seed, B; a multiple of 32.
        learning_rate: Adam's step size, for every network.
        gamma: discount γ.
        polyak_step_size: η in θ' ← ηθ + (1 − η)θ'.
        proposal_update_interval: d; τ and the targets move every d-th update.
        cycle_coef: β, the weight of the cycle term in Eq. 12.
        clamp_targets: a departure: y is held inside the values that the rewards known so far
            allow, [min(r, 0), max(r, 0)] / (1 − γ).
        proposal_average_step_size: a departure: the policy acts on an exponential average of ψ
            with this step size; None acts on ψ itself.
        twin_pessimism: how far y lies from the mean of the twins Q'_i, at 0, towards the lesser, at
            1. Less than 1 is a departure: the lesser is too low by half of what they disagree, over
            and over along the horizon.
    """

    hidden_dims: tuple[int, ...] = (256, 256)
    batch_size: int = 256
    learning_rate: float = 3e-4
    gamma: float = 0.99
    polyak_step_size: float = 0.005
    proposal_update_interval: int = 2
    cycle_coef: float = 1.0
    clamp_targets: bool = False
    proposal_average_step_size: float | None = None
    twin_pessimism: float = 1.0

    def __post_init__(self) -> None:
        """Refuse settings that can't be trained with."""
        check_positive(self, "learning_rate", "proposal_update_interval", "hidden_dims")
        check_batch_size(self)
        check_step_size(self, "polyak_step_size", "proposal_average_step_size")
        check_discount(self.gamma)
        if self.cycle_coef < 0:
            raise UserError(f"cycle_coef must be at least 0, not {self.cycle_coef}")
        if not 0 <= self.twin_pessimism <= 1:
            raise UserError(f"twin_pessimism must be in [0, 1], not {self.twin_pessimism}")


class Transition(Protocol):
    """The columns of a batch that these losses read; `ObservationBatch` says what they hold."""

    @property
    def obs(self) -> Tensor: ...  # noqa: D102
    @property
    def next_obs(self) -> Tensor: ...  # noqa: D102
    @property
    def reward(self) -> Tensor: ...  # noqa: D102
    @property
    def terminated(self) -> Tensor: ...  # noqa: D102


def state_error(left: Tensor, right: Tensor) -> Tensor:
    """‖s'_1 − s'_2‖², a mean over batch and dimensions. `(S,)`."""
    return mse_loss(left, right, reduction="none").mean(dim=(1, 2))


def qss_shapes(config: QSSConfig, obs_dim: int) -> dict[str, MLPShape]:
    """Return the shapes of the twin critics and of the proposal."""
    hidden_dims = config.hidden_dims
    return {
        "critic": MLPShape((2 * obs_dim, *hidden_dims, 1), 2),
        "proposal": MLPShape((obs_dim, *hidden_dims, obs_dim)),
    }


def qss_tracks(
    polyak_step_size: float, average_step_size: float | None, interval: int
) -> tuple[TrackRule, ...]:
    """Return how `QSS_COPIES` follow; without an average the policy acts on ψ itself."""
    average = 1.0 if average_step_size is None else average_step_size
    return (
        TrackRule("critic_target", "critic", polyak_step_size, interval),
        TrackRule("proposal_target", "proposal", polyak_step_size, interval),
        TrackRule("proposal_average", "proposal", average, interval),
    )


def propose_next_obs(proposal: Network, obs: Tensor) -> Tensor:
    """s'_τ = s + τ(s) (Section 4.3.2). `(S, B, obs_dim)` to `(S, B, obs_dim)`."""
    return obs + mlp(proposal, obs)


def transition_value(critic: Network, obs: Tensor, next_obs: Tensor) -> Tensor:
    """Q(s, s'): `(S, 2, B)` from twin critics, `(S, B)` from a single one."""
    return mlp(critic, torch.cat((obs, next_obs), dim=-1)).squeeze(-1)


def td_target(
    critic_target: Network,
    batch: Transition,
    cycled_next_obs: Tensor,
    gamma: float,
    limits: tuple[Tensor, Tensor] | None,
    twin_pessimism: float = 1.0,
) -> Tensor:
    """The target y = r + γ (1 − terminated) min_i Q'_i(s', s''): Eq. 13; see `twin_pessimism`.

    Args:
        critic_target: Q', twins.
        batch: transitions.
        cycled_next_obs: s'', where the cycle leads from s', `(S, B, obs_dim)`.
        gamma: discount γ.
        limits: least and greatest value that a target may take, `(S, 1)` each.
        twin_pessimism: below 1, this much of the least and the rest of the mean over i.

    Returns:
        `(S, B)`.
    """
    values = transition_value(critic_target, batch.next_obs, cycled_next_obs)
    value = values.amin(dim=1)
    if twin_pessimism < 1:
        value = twin_pessimism * value + (1 - twin_pessimism) * values.mean(dim=1)
    target = batch.reward + gamma * (1.0 - batch.terminated) * value
    if limits is None:
        return target
    low, high = limits
    return torch.minimum(torch.maximum(target, low), high)


def twin_loss(q: Tensor, target: Tensor) -> Tensor:
    """Σ_i ‖y − q_i‖² of twins `(S, 2, B)` and y `(S, B)`. `(S,)`."""
    errors = mse_loss(q, target.unsqueeze(1).expand_as(q), reduction="none")
    return errors.mean(dim=-1).sum(dim=-1)


def critic_loss(
    critic: Network, batch: Transition, target: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """L_θ = Σ_i ‖y − Q_i(s, s')‖²: Eq. 6. `(S,)`.

    Args:
        critic: Q, twins.
        batch: transitions.
        target: y, `(S, B)`, without a gradient.
    """
    q = transition_value(critic, batch.obs, batch.next_obs)
    loss = twin_loss(q, target)
    return loss, {"critic_loss": loss, "q": q.mean(dim=(1, 2)), "td_target": target.mean(-1)}


def proposal_loss(
    critic: Network,
    obs: Tensor,
    proposed: Tensor,
    cycled_next_obs: Tensor,
    cycle_coef: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """L_ψ = −Q_1(s, s'_f) + β ‖s'_τ − s'_f‖²: Eq. 12. `(S,)`.

    Args:
        critic: a single critic, Q_1.
        obs: s, `(S, B, obs_dim)`.
        proposed: s'_τ, `(S, B, obs_dim)`.
        cycled_next_obs: s'_f = C(s, s'_τ), `(S, B, obs_dim)`.
        cycle_coef: β.
    """
    value = transition_value(critic, obs, cycled_next_obs).mean(dim=-1)
    cycle_error = state_error(proposed, cycled_next_obs)
    metrics = {"proposal_value": value, "cycle_error": cycle_error}
    return cycle_coef * cycle_error - value, metrics
