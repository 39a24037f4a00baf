"""D3G from observations alone: Algorithm 1 with `imitation`, and Algorithm 2.

Edwards et al., *Estimating Q(s,s') with Deep Deterministic Dynamics Gradients*, ICML 2020.

Three networks are learned from transitions (s, r, s') without actions:

- `critic` Q_θ(s, s'), a pair of them (Eq. 6): the value of moving from s to s'.
- `proposal` τ_ψ(s) (Eqs. 8, 12): the step Δ that leads to the best next state, s'_τ = s + τ(s).
- `q_forward_model` f_φ(s, q) (Eq. 14): the step that a transition of value q makes. The value
  takes the place of the missing action as the clue to where the transition leads.

The cycle C(s, s'_τ) = s + f(s, Q(s, s'_τ)) (Algorithm 2) sends a proposal through its value back
to a state that the data have shown to be reachable.

What differs from the paper's text, with the authors' code (uber-research/D3G) as the witness:

- Norms are mean squared errors over batch and dimensions (as in the authors' code).
- Inside the target's cycle both Q and τ are target networks and f is the online one (as in the
  authors' code, which keeps no target of f that it uses).
- f learns before τ in an update, and targets follow last: Algorithm 1 has the critics, τ with the
  targets, then f.
- A time limit bootstraps, a termination doesn't. The authors' offline script stores both as
  terminal, which teaches that the limit of 1000 steps is a failure.

The switches that the `paper` preset leaves off are listed in `ObservationalD3GConfig`; that several
trainings make one policy is a setting of the run, `Preset.ensemble`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from qss_offline.algorithms.networks import MLPShape, Network, mlp
from qss_offline.algorithms.protocol import UpdateRule
from qss_offline.algorithms.qss import (
    QSS_COPIES,
    QSSConfig,
    critic_loss,
    proposal_loss,
    propose_next_obs,
    qss_shapes,
    qss_tracks,
    state_error,
    td_target,
    transition_value,
)
from qss_offline.errors import UserError


class ObservationBatch(NamedTuple):
    """Transitions without actions.

    Attributes:
        obs: `(S, B, obs_dim)`.
        next_obs: `(S, B, obs_dim)`.
        reward: `(S, B)`.
        terminated: `(S, B)`, 1.0 where the episode ended in a terminal state, not by a limit.
    """

    obs: Tensor
    next_obs: Tensor
    reward: Tensor
    terminated: Tensor


class ObservationalD3GParameters(NamedTuple):
    """Networks of S seeds."""

    critic: Network
    critic_target: Network
    proposal: Network
    proposal_target: Network
    q_forward_model: Network
    proposal_average: Network


@dataclass(frozen=True)
class ObservationalD3GConfig(QSSConfig):
    """Settings of offline D3G; the defaults are the authors'.

    Departures are `normalize_observations`, `clamp_targets`, `proposal_average_step_size`,
    `learning_rate_decay` and `twin_pessimism`; see `QSSConfig` for what isn't explained here.

    Attributes:
        normalize_observations: a departure: observations are shifted and scaled by the dataset's
            mean and standard deviation, so that the cycle term weighs all dimensions alike.
        learning_rate_decay: a departure: over this share of training, at its end, the learning
            rate falls in a straight line towards 0.
    """

    normalize_observations: bool = False
    learning_rate_decay: float = 0.0

    def __post_init__(self) -> None:
        """Refuse settings that can't be trained with."""
        super().__post_init__()
        if not 0 <= self.learning_rate_decay <= 1:
            raise UserError(
                f"learning_rate_decay must be in [0, 1], not {self.learning_rate_decay}"
            )


def forward_step(q_forward_model: Network, obs: Tensor, q: Tensor) -> Tensor:
    """Δ = f(s, q), the step of a transition of value q. `(S, B, obs_dim)`."""
    return mlp(q_forward_model, torch.cat((obs, q.unsqueeze(-1)), dim=-1))


def cycle(
    critic: Network,
    q_forward_model: Network,
    obs: Tensor,
    proposed: Tensor,
) -> Tensor:
    """C(s, s'_τ) = s + f(s, Q_1(s, s'_τ)): Algorithm 2 with `imitation`.

    Args:
        critic: a single critic, Q_1.
        q_forward_model: f.
        obs: s, `(S, B, obs_dim)`.
        proposed: s'_τ, `(S, B, obs_dim)`.

    Returns:
        s'_f, `(S, B, obs_dim)`.
    """
    return obs + forward_step(q_forward_model, obs, transition_value(critic, obs, proposed))


class ObservationalD3G:
    """The losses of offline D3G, and when each is applied.

    Args:
        config: settings.
        obs_dim: size of an observation.
        target_low: `(S, 1)` least value a target may take, or None where targets aren't clamped.
        target_high: `(S, 1)` greatest value, likewise.
    """

    name = "observational_d3g"

    def __init__(
        self,
        config: ObservationalD3GConfig,
        obs_dim: int,
        target_low: Tensor | None = None,
        target_high: Tensor | None = None,
    ) -> None:
        self.config, self._limits = config, None
        if target_low is not None and target_high is not None:
            self._limits = target_low, target_high
        self.shapes = {
            **qss_shapes(config, obs_dim),
            "q_forward_model": MLPShape((obs_dim + 1, *config.hidden_dims, obs_dim)),
        }
        self.copies = QSS_COPIES
        delay = config.proposal_update_interval
        self.updates: tuple[UpdateRule, ...] = (
            UpdateRule("critic", self.critic_loss),
            UpdateRule("q_forward_model", self.forward_loss),
            UpdateRule("proposal", self.proposal_loss, interval=delay),
        )
        self.tracks = qss_tracks(config.polyak_step_size, config.proposal_average_step_size, delay)
        self.parameters_type = ObservationalD3GParameters

    def td_target(self, parameters: ObservationalD3GParameters, batch: ObservationBatch) -> Tensor:
        """The target y = r + γ (1 − terminated) min_i Q'_i(s', C(s', s' + τ'(s'))): Eq. 13.

        `(S, B)`.
        """
        next_obs, critic = batch.next_obs, parameters.critic_target
        proposed = propose_next_obs(parameters.proposal_target, next_obs)
        cycled_next_obs = cycle(critic.members[0], parameters.q_forward_model, next_obs, proposed)
        gamma, pessimism = self.config.gamma, self.config.twin_pessimism
        return td_target(critic, batch, cycled_next_obs, gamma, self._limits, pessimism)

    def critic_loss(
        self, parameters: ObservationalD3GParameters, batch: ObservationBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """L_θ = Σ_i ‖y − Q_i(s, s')‖²: Eq. 6. No gradient through y. `(S,)`."""
        with torch.no_grad():
            target = self.td_target(parameters, batch)
        return critic_loss(parameters.critic, batch, target)

    def forward_loss(
        self, parameters: ObservationalD3GParameters, batch: ObservationBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """L_φ = ‖f(s, Q'_1(s, s')) − (s' − s)‖²: Eq. 14. No gradient into Q'. `(S,)`."""
        critic = parameters.critic_target.members[0]
        with torch.no_grad():
            q = transition_value(critic, batch.obs, batch.next_obs)
        step = forward_step(parameters.q_forward_model, batch.obs, q)
        loss = state_error(step, batch.next_obs - batch.obs)
        return loss, {"forward_loss": loss}

    def proposal_loss(
        self, parameters: ObservationalD3GParameters, batch: ObservationBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """L_ψ = −Q_1(s, C(s, s'_τ)) + β ‖s'_τ − C(s, s'_τ)‖²: Eq. 12. `(S,)`.

        Gradients reach ψ through the value that conditions f, through f, and through both sides
        of the cycle term; θ and φ are not moved by this loss.
        """
        critic = parameters.critic.members[0]
        proposed = propose_next_obs(parameters.proposal, batch.obs)
        cycled_next_obs = cycle(critic, parameters.q_forward_model, batch.obs, proposed)
        return proposal_loss(critic, batch.obs, proposed, cycled_next_obs, self.config.cycle_coef)
