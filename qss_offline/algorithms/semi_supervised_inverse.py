"""I(s, s') that learns from recorded steps, whose actions nobody knows, beside its few own.

A few online steps don't reach the states of a good policy; the recording does, without its actions.
But what an action does shows there all the same: of each recorded step I gives a code, I(s, s'),
and a forward model F has to get from s to s' by it,

    L = ‖I(s, s') − a‖² + ‖F(s, a) − Δ‖²            over online steps, and
      + λ ‖F(s, I(s, s') + ε) − Δ‖²                 over recorded ones,   Δ = (s' − s) / spread.

Where s' depends on s and the action alone, and no two actions lead to the same s', the code that
lets F get everywhere holds what the action holds, and the online steps say which code is which
action. F is affine in the code, as robots are in forces (`bilinear_inverse.py`), so that within a
state codes and actions differ by an affine map at most; from state to state nothing but the
smoothness of both networks carries the meaning on. ε, normal noise, has codes use the whole box, as
actions do.

A departure: in the paper I sees online steps alone (Eq. 10). Codes in the place of actions, told
apart by a few of them, are from Edwards et al., *Imitating Latent Policies from Observation* (2019,
https://arxiv.org/abs/1805.07914), where there is a handful of codes and policies choose among them.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from qss_offline.algorithms.inverse_dynamics import (
    InverseDynamics,
    InverseDynamicsConfig,
    inverse_action,
)
from qss_offline.algorithms.networks import MLPShape, Network, mlp
from qss_offline.algorithms.protocol import UpdateRule

CODE_NOISE = 0.5
"""Standard deviation of ε, in units of the action box."""


class SemiSupervisedBatch(NamedTuple):
    """Online steps, and recorded ones.

    Attributes:
        obs: s of online steps, `(S, B, obs_dim)`.
        next_obs: s', `(S, B, obs_dim)`.
        action: a, `(S, B, action_dim)`, in units of the action box.
        recorded_obs: s of recorded steps, `(S, B, obs_dim)`.
        recorded_next_obs: s', `(S, B, obs_dim)`.
        code_noise: ε, of the spread `CODE_NOISE`, `(S, B, action_dim)`.
    """

    obs: Tensor
    next_obs: Tensor
    action: Tensor
    recorded_obs: Tensor
    recorded_next_obs: Tensor
    code_noise: Tensor


class SemiSupervisedParameters(NamedTuple):
    """Networks of S seeds."""

    inverse_dynamics: Network
    forward_dynamics: Network
    inverse_average: Network


def affine_step(forward_dynamics: Network, obs: Tensor, action: Tensor) -> Tensor:
    """F(s, a) = g(s) + B(s) a, in units of the spread of steps.

    Args:
        forward_dynamics: networks of S seeds, from s to g and B.
        obs: s, `(S, B, obs_dim)`.
        action: a, or a code, `(S, B, action_dim)`.

    Returns:
        `(S, B, obs_dim)`.
    """
    terms = mlp(forward_dynamics, obs).unflatten(-1, (obs.shape[-1], -1))
    step: Tensor = (terms[..., 1:] * action.unsqueeze(-2)).sum(-1) + terms[..., 0]
    return step


class SemiSupervisedInverseDynamics(InverseDynamics):
    """The losses of I and F.

    Args:
        config: settings.
        obs_dim: size of an observation.
        action_dim: size of an action.
        step_scale: `(S, 1, obs_dim)` spread of s' − s.
    """

    def __init__(
        self, config: InverseDynamicsConfig, obs_dim: int, action_dim: int, step_scale: Tensor
    ) -> None:
        super().__init__(config, obs_dim, action_dim, step_scale)
        assert config.recorded_coef is not None
        self._coef, self._spread = config.recorded_coef, step_scale
        self.shapes["forward_dynamics"] = MLPShape(
            (obs_dim, *config.hidden_dims, obs_dim * (action_dim + 1))
        )
        self.updates = (
            UpdateRule("forward_dynamics", self.forward_loss),
            UpdateRule("inverse_dynamics", self.inverse_and_code_loss),
        )
        self.parameters_type = SemiSupervisedParameters

    def forward_loss(
        self, parameters: SemiSupervisedParameters, batch: SemiSupervisedBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """‖F(s, a) − Δ‖² + λ ‖F(s, I(s, s') + ε) − Δ‖², for F. `(S,)`."""
        online = self._step_error(
            parameters.forward_dynamics, batch.obs, batch.action, batch.next_obs
        )
        loss = online + self._coef * self.code_error(parameters, batch)
        return loss, {"forward_loss": online}

    def inverse_and_code_loss(
        self, parameters: SemiSupervisedParameters, batch: SemiSupervisedBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """‖I(s, s') − a‖² + λ ‖F(s, I(s, s') + ε) − Δ‖², for I. `(S,)`."""
        online, metrics = self.inverse_loss(parameters, batch)
        code = self.code_error(parameters, batch)
        return online + self._coef * code, {**metrics, "code_loss": code}

    def code_error(
        self, parameters: SemiSupervisedParameters, batch: SemiSupervisedBatch
    ) -> Tensor:
        """‖F(s, I(s, s') + ε) − Δ‖² over recorded steps. `(S,)`."""
        obs, next_obs = batch.recorded_obs, batch.recorded_next_obs
        code = inverse_action(parameters.inverse_dynamics, obs, next_obs, self._spread)
        return self._step_error(parameters.forward_dynamics, obs, code + batch.code_noise, next_obs)

    def _step_error(
        self, forward_dynamics: Network, obs: Tensor, action: Tensor, next_obs: Tensor
    ) -> Tensor:
        predicted = affine_step(forward_dynamics, obs, action)
        return (predicted - (next_obs - obs) / self._spread).square().mean(dim=(1, 2))
