"""D3G with actions: Algorithm 1 without `imitation`, and Algorithm 2's other branch.

Edwards et al., *Estimating Q(s,s') with Deep Deterministic Dynamics Gradients*, ICML 2020.

Four networks are learned together from transitions (s, a, r, s'):

- `critic` Q_θ(s, s'), a pair of them (Eq. 6): the value of moving from s to s'.
- `proposal` τ_ψ(s) (Eqs. 8, 12): the step that leads to the best next state, s'_τ = s + τ(s).
- `inverse_dynamics` I_ω(s, s') (Eq. 10): the action that makes a transition.
- `forward_model` f_φ(s, a) (Eq. 11): the step that an action makes.

The cycle C(s, s'_τ) = s + f(s, I(s, s'_τ)) (Algorithm 2) sends a proposal through its action back
to a state that can be reached. D3G⁻ (`cycle` off) leaves it out: the critic is asked for
Q(s, s'_τ) itself, and no forward model is needed.

Actions are learned in units of the action box: −1 and 1 are its bounds. Discrete actions are
one-hot, I ends in a softmax, and f is given I's probabilities where it was trained on one-hot
actions, all as in the authors' code.

What differs from the paper's text, with the authors' code (uber-research/D3G) as the witness:

- Norms are mean squared errors over batch and dimensions.
- Inside the target's cycle Q and τ are target networks, I and f the online ones.
- I and f learn before τ in an update, and targets follow last: Algorithm 1 has the critics, τ with
  the targets, then f and I.
- A time limit bootstraps, a termination doesn't.

The switches that the `paper` preset leaves off are listed in `D3GConfig`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from qss_offline.algorithms.inverse_dynamics import DiscreteLoss, inverse_loss, predicted_action
from qss_offline.algorithms.networks import MLPShape, Network, mlp
from qss_offline.algorithms.protocol import TrackRule, UpdateRule
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
from qss_offline.algorithms.validation import check_step_size
from qss_offline.errors import UserError


class D3GBatch(NamedTuple):
    """Transitions with actions.

    Attributes:
        obs: `(S, B, obs_dim)`.
        action: `(S, B, action_dim)`, in units of the action box, or one-hot.
        next_obs: `(S, B, obs_dim)`.
        reward: `(S, B)`.
        terminated: `(S, B)`, 1.0 where the episode ended in a terminal state, not by a limit.
        target_low: `(S, 1)` least value that the rewards so far allow.
        target_high: `(S, 1)` greatest value, likewise.
    """

    obs: Tensor
    action: Tensor
    next_obs: Tensor
    reward: Tensor
    terminated: Tensor
    target_low: Tensor
    target_high: Tensor


class D3GParameters(NamedTuple):
    """Networks of S seeds; D3G⁻ has no forward model."""

    critic: Network
    critic_target: Network
    proposal: Network
    proposal_target: Network
    inverse_dynamics: Network
    proposal_average: Network
    inverse_average: Network
    forward_model: Network | None = None


@dataclass(frozen=True)
class D3GConfig(QSSConfig):
    """Settings of D3G; the defaults are the authors'.

    Departures are `clamp_targets`, `proposal_average_step_size`, `step_inputs`,
    `inverse_average_step_size`, `twin_pessimism`, and `discrete_loss` where it is the
    cross-entropy; see `QSSConfig` for what isn't explained here.

    Attributes:
        cycle: off is D3G⁻.
        step_inputs: a departure: I sees (s, (s' − s) / spread) instead of (s, s').
        inverse_average_step_size: a departure: the policy acts on an exponential average of ω.
        discrete_loss: of I over discrete actions: "squared_error" of the probabilities as in the
            authors' code, or "cross_entropy".
    """

    cycle: bool = True
    step_inputs: bool = False
    inverse_average_step_size: float | None = None
    discrete_loss: DiscreteLoss = "squared_error"

    def __post_init__(self) -> None:
        """Refuse settings that can't be trained with."""
        super().__post_init__()
        check_step_size(self, "inverse_average_step_size")
        if self.discrete_loss not in get_args(DiscreteLoss):
            raise UserError(
                f"discrete_loss must be squared_error or cross_entropy, not {self.discrete_loss!r}"
            )


def forward_step(forward_model: Network, obs: Tensor, action: Tensor) -> Tensor:
    """Δ = f(s, a), the step that an action makes. `(S, B, obs_dim)`."""
    return mlp(forward_model, torch.cat((obs, action), dim=-1))


class D3G:
    """The losses of D3G and D3G⁻, and when each is applied.

    Args:
        config: settings.
        obs_dim: size of an observation.
        action_dim: size of an action; of discrete ones, how many there are.
        discrete: whether actions are one-hot.
        step_scale: `(S, 1, obs_dim)` spread of s' − s; needed by `step_inputs`.
        only_dynamics: apply the updates of I and f alone.
    """

    name = "d3g"

    def __init__(
        self,
        config: D3GConfig,
        obs_dim: int,
        action_dim: int,
        discrete: bool = False,
        step_scale: Tensor | None = None,
        only_dynamics: bool = False,
    ) -> None:
        self.config, self.discrete = config, discrete
        self._inverse_scale = step_scale if config.step_inputs else None
        hidden = config.hidden_dims
        self.shapes = {
            **qss_shapes(config, obs_dim),
            "inverse_dynamics": MLPShape((2 * obs_dim, *hidden, action_dim)),
        }
        dynamics = [UpdateRule("inverse_dynamics", self.inverse_loss)]
        if config.cycle:
            self.shapes["forward_model"] = MLPShape((obs_dim + action_dim, *hidden, obs_dim))
            dynamics.append(UpdateRule("forward_model", self.forward_loss))
        self.copies = {**QSS_COPIES, "inverse_average": "inverse_dynamics"}
        average, delay = config.inverse_average_step_size, config.proposal_update_interval
        track_inverse = TrackRule(
            "inverse_average", "inverse_dynamics", 1.0 if average is None else average
        )
        self.updates: tuple[UpdateRule, ...] = tuple(dynamics)
        self.tracks: tuple[TrackRule, ...] = (track_inverse,)
        if not only_dynamics:
            self.updates = (
                UpdateRule("critic", self.critic_loss),
                *dynamics,
                UpdateRule("proposal", self.proposal_loss, delay),
            )
            step_size, average = config.polyak_step_size, config.proposal_average_step_size
            self.tracks = (*qss_tracks(step_size, average, delay), track_inverse)
        self.parameters_type = D3GParameters

    def inverse(self, parameters: D3GParameters, obs: Tensor, next_obs: Tensor) -> Tensor:
        """a = I(s, s'): in (−1, 1), or probabilities of discrete actions. `(S, B, action_dim)`."""
        network = parameters.inverse_dynamics
        return predicted_action(network, obs, next_obs, self._inverse_scale, self.discrete)

    def policy_action(self, parameters: D3GParameters, obs: Tensor) -> Tensor:
        """π(s) = I(s, s + τ(s)): Eq. 9, on the averaged networks. `(S, B, action_dim)`."""
        proposed = propose_next_obs(parameters.proposal_average, obs)
        acting = parameters._replace(inverse_dynamics=parameters.inverse_average)
        return self.inverse(acting, obs, proposed)

    def cycle(self, parameters: D3GParameters, obs: Tensor, proposed: Tensor) -> Tensor:
        """C(s, s'_τ) = s + f(s, I(s, s'_τ)): Algorithm 2; D3G⁻ takes s'_τ itself.

        Args:
            parameters: networks.
            obs: s, `(S, B, obs_dim)`.
            proposed: s'_τ, `(S, B, obs_dim)`.

        Returns:
            s'_f, `(S, B, obs_dim)`.
        """
        if parameters.forward_model is None:
            return proposed
        action = self.inverse(parameters, obs, proposed)
        return obs + forward_step(parameters.forward_model, obs, action)

    def td_target(self, parameters: D3GParameters, batch: D3GBatch) -> Tensor:
        """The target y = r + γ (1 − terminated) min_i Q'_i(s', C(s', s' + τ'(s'))): Eq. 13.

        Without the cycle C(s', s'_τ) = s'_τ: Eq. 7. `(S, B)`.
        """
        next_obs = batch.next_obs
        proposed = propose_next_obs(parameters.proposal_target, next_obs)
        cycled_next_obs = self.cycle(parameters, next_obs, proposed)
        limits = (batch.target_low, batch.target_high) if self.config.clamp_targets else None
        config, critic = self.config, parameters.critic_target
        return td_target(
            critic, batch, cycled_next_obs, config.gamma, limits, config.twin_pessimism
        )

    def critic_loss(
        self, parameters: D3GParameters, batch: D3GBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """L_θ = Σ_i ‖y − Q_i(s, s')‖²: Eq. 6. No gradient through y. `(S,)`."""
        with torch.no_grad():
            target = self.td_target(parameters, batch)
        return critic_loss(parameters.critic, batch, target)

    def inverse_loss(
        self, parameters: D3GParameters, batch: D3GBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """L_ω: Eq. 10. `(S,)`."""
        discrete = self.config.discrete_loss if self.discrete else None
        loss = inverse_loss(parameters.inverse_dynamics, batch, self._inverse_scale, discrete)
        return loss, {"inverse_loss": loss}

    def forward_loss(
        self, parameters: D3GParameters, batch: D3GBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """L_φ = ‖f(s, a) − (s' − s)‖²: Eq. 11. `(S,)`."""
        assert parameters.forward_model is not None
        step = forward_step(parameters.forward_model, batch.obs, batch.action)
        loss = state_error(step, batch.next_obs - batch.obs)
        return loss, {"forward_loss": loss}

    def proposal_loss(
        self, parameters: D3GParameters, batch: D3GBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """L_ψ = −Q_1(s, C(s, s'_τ)) + β ‖s'_τ − C(s, s'_τ)‖²: Eq. 12. `(S,)`.

        Gradients reach ψ through I, through f, and through both sides of the cycle term; θ, ω and φ
        are not moved by this loss. For D3G⁻ the second term is zero.
        """
        critic = parameters.critic.members[0]
        proposed = propose_next_obs(parameters.proposal, batch.obs)
        if not self.config.cycle:
            value = transition_value(critic, batch.obs, proposed).mean(dim=-1)
            return -value, {"proposal_value": value}
        cycled_next_obs = self.cycle(parameters, batch.obs, proposed)
        return proposal_loss(critic, batch.obs, proposed, cycled_next_obs, self.config.cycle_coef)
