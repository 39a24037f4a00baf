"""The inverse dynamics model I(s, s'): which action makes a transition (Eqs. 9 and 10).

Actions are learned in units of the action box: -1 and 1 are its bounds. Discrete actions are
one-hot: the network ends in a softmax and learns by cross-entropy.

Departures from the authors' code; the `paper` preset has none of them but the cross-entropy, since
the authors' offline mode has no discrete actions:

- Observations come normalised where the proposal was trained on normalised ones.
- `step_inputs` gives the model the step s' − s, each dimension scaled by its spread in the dataset,
  where the authors give it s' itself: in a smooth system s' hides the step in the noise of its last
  digits.
- `average_step_size`: the policy acts on an exponential average of the model.
- The form "bilinear" takes the place of the network (`bilinear_inverse.py`), with `recorded_coef`
  the network learns from recorded steps, too (`semi_supervised_inverse.py`), and with
  `corrected_labels` online steps correct what it says of recorded ones (`kernel_correction.py`).
  All take actions to be forces; of discrete actions it is the network that learns from its own
  steps, whatever these say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor

from qss_offline.algorithms.bilinear_inverse import bilinear_inputs, bilinear_shape, is_bilinear
from qss_offline.algorithms.networks import MLPShape, Network, mlp
from qss_offline.algorithms.protocol import TrackRule, UpdateRule
from qss_offline.algorithms.validation import check_batch_size, check_positive, check_step_size
from qss_offline.errors import UserError

InverseForm = Literal["network", "bilinear", "either"]
DiscreteLoss = Literal["squared_error", "cross_entropy"]


class ActionBatch(NamedTuple):
    """Transitions with actions.

    Attributes:
        obs: `(S, B, obs_dim)`.
        next_obs: `(S, B, obs_dim)`.
        action: `(S, B, action_dim)`, in units of the action box, or one-hot.
    """

    obs: Tensor
    next_obs: Tensor
    action: Tensor


class HasActions(Protocol):
    """What the loss of I asks of a batch."""

    @property
    def obs(self) -> Tensor: ...  # noqa: D102
    @property
    def next_obs(self) -> Tensor: ...  # noqa: D102
    @property
    def action(self) -> Tensor: ...  # noqa: D102


class _HasInverse(Protocol):
    """What the loss of I asks of parameters."""

    @property
    def inverse_dynamics(self) -> Network: ...


class InverseDynamicsParameters(NamedTuple):
    """Networks of S seeds."""

    inverse_dynamics: Network
    inverse_average: Network


@dataclass(frozen=True)
class InverseDynamicsConfig:
    """Settings of the inverse dynamics model; the defaults are the authors'.

    Attributes:
        hidden_dims: sizes of the hidden layers.
        batch_size: transitions per update and seed, B; a multiple of 32.
        learning_rate: Adam's step size.
        step_inputs: the model sees (s, (s' − s) / spread) instead of (s, s').
        average_step_size: the policy acts on an exponential average of the model with this step
            size; None acts on the model itself.
        form: a departure: "bilinear" is solved in closed form from a few steps, and takes none of
            the settings above but `step_inputs`, which it needs; see `bilinear_inverse.py`.
            "either" fits both, and acts on the one that has erred less on each round's steps
            before it was fitted on them, on the bilinear one until there is such a round (so
            always after a single round, but for models that had known steps). Where observations
            are so many that the bilinear form would have more than 2,000 inputs it is the network
            alone.
        recorded_coef: a departure: λ, what the network learns from recorded steps, whose actions
            aren't known, weighs beside what it learns from its own; see
            `semi_supervised_inverse.py`. At 0 it sees none; None lets the recording decide
            (`data/facts.py`).
        corrected_labels: a departure: labels of recorded steps are corrected by what the model
            misses of online steps near them, where it learns from these alone (`recorded_coef` is
            0); see `kernel_correction.py`.
    """

    hidden_dims: tuple[int, ...] = (256, 256)
    batch_size: int = 256
    learning_rate: float = 3e-4
    step_inputs: bool = False
    average_step_size: float | None = None
    form: InverseForm = "network"
    recorded_coef: float | None = 0.0
    corrected_labels: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that can't be trained with."""
        check_positive(self, "learning_rate", "hidden_dims")
        check_batch_size(self)
        check_step_size(self, "average_step_size")
        if self.recorded_coef is not None and self.recorded_coef < 0:
            raise UserError(f"recorded_coef must be at least 0, not {self.recorded_coef}")
        if self.recorded_coef and self.form == "bilinear":
            raise UserError(
                "recorded_coef is for a network: choose form=network, or recorded_coef=0"
            )
        if self.recorded_coef and not self.step_inputs:
            raise UserError("recorded_coef measures steps: step_inputs must be True")
        if self.corrected_labels and not self.step_inputs:
            raise UserError("corrected_labels measures steps: step_inputs must be True")
        if self.form not in get_args(InverseForm):
            raise UserError(f"form must be network, bilinear or either, not {self.form!r}")
        if self.form != "network" and not self.step_inputs:
            raise UserError(
                "the bilinear form of I sees steps: step_inputs must be True, or form network"
            )


def inverse_logits(
    inverse_dynamics: Network, obs: Tensor, next_obs: Tensor, step_scale: Tensor | None
) -> Tensor:
    """What I(s, s') says before it is squashed: `(S, B, action_dim)`. Arguments as below."""
    second = next_obs if step_scale is None else (next_obs - obs) / step_scale
    if is_bilinear(inverse_dynamics.shape):
        return mlp(inverse_dynamics, bilinear_inputs(obs, second))
    return mlp(inverse_dynamics, torch.cat((obs, second), dim=-1))


def inverse_action(
    inverse_dynamics: Network, obs: Tensor, next_obs: Tensor, step_scale: Tensor | None
) -> Tensor:
    """a = I(s, s'), in units of the action box.

    Args:
        inverse_dynamics: networks of S seeds.
        obs: s, `(S, B, obs_dim)`.
        next_obs: s', `(S, B, obs_dim)`.
        step_scale: `(S, 1, obs_dim)` spread of s' − s where the model sees steps, else None.

    Returns:
        `(S, B, action_dim)` in [−1, 1].
    """
    logits = inverse_logits(inverse_dynamics, obs, next_obs, step_scale)
    return logits.clamp(-1, 1) if is_bilinear(inverse_dynamics.shape) else logits.tanh()


def predicted_action(
    inverse_dynamics: Network,
    obs: Tensor,
    next_obs: Tensor,
    step_scale: Tensor | None,
    discrete: bool,
) -> Tensor:
    """a = I(s, s'), of discrete actions their probabilities. `(S, B, action_dim)`.

    Args:
        inverse_dynamics: networks of S seeds.
        obs: s, `(S, B, obs_dim)`.
        next_obs: s', `(S, B, obs_dim)`.
        step_scale: as for `inverse_logits`.
        discrete: whether actions are one-hot.
    """
    if not discrete:
        return inverse_action(inverse_dynamics, obs, next_obs, step_scale)
    return inverse_logits(inverse_dynamics, obs, next_obs, step_scale).softmax(dim=-1)


def inverse_loss(
    inverse_dynamics: Network,
    batch: HasActions,
    step_scale: Tensor | None,
    discrete: DiscreteLoss | None,
) -> Tensor:
    """L_ω = ‖I(s, s') − a‖²: Eq. 10. `(S,)`.

    Of discrete actions it is that of their probabilities, as in the authors' code, or their
    cross-entropy −log I(s, s')_a, which is a departure.

    Args:
        inverse_dynamics: networks of S seeds.
        batch: transitions with actions.
        step_scale: as for `inverse_logits`.
        discrete: which of these, where actions are one-hot; else None.
    """
    if discrete == "cross_entropy":
        logits = inverse_logits(inverse_dynamics, batch.obs, batch.next_obs, step_scale)
        return -(logits.log_softmax(dim=-1) * batch.action).sum(dim=-1).mean(dim=-1)
    action = predicted_action(
        inverse_dynamics, batch.obs, batch.next_obs, step_scale, discrete is not None
    )
    return (action - batch.action).square().mean(dim=(1, 2))


class InverseDynamics:
    """The loss of the inverse dynamics model.

    Args:
        config: settings.
        obs_dim: size of an observation.
        action_dim: size of an action; of discrete ones, how many there are.
        step_scale: `(S, 1, obs_dim)` spread of s' − s, or None with `step_inputs` off.
        discrete: whether actions are one-hot.
    """

    name = "inverse_dynamics"

    def __init__(
        self,
        config: InverseDynamicsConfig,
        obs_dim: int,
        action_dim: int,
        step_scale: Tensor | None = None,
        discrete: bool = False,
    ) -> None:
        self._step_scale, self._discrete = step_scale, discrete
        shape = MLPShape((2 * obs_dim, *config.hidden_dims, action_dim))
        if config.form == "bilinear":
            shape = bilinear_shape(obs_dim, action_dim)
        self.shapes = {"inverse_dynamics": shape}
        self.copies = {"inverse_average": "inverse_dynamics"}
        self.updates: tuple[UpdateRule, ...] = (UpdateRule("inverse_dynamics", self.inverse_loss),)
        average = config.average_step_size
        self.tracks = (
            TrackRule("inverse_average", "inverse_dynamics", 1.0 if average is None else average),
        )
        self.parameters_type: Callable[..., Any] = InverseDynamicsParameters

    def inverse_loss(
        self, parameters: _HasInverse, batch: HasActions
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """L_ω: Eq. 10. `(S,)`."""
        discrete: DiscreteLoss | None = "cross_entropy" if self._discrete else None
        loss = inverse_loss(parameters.inverse_dynamics, batch, self._step_scale, discrete)
        return loss, {"inverse_loss": loss}
