"""BCO: behavioural cloning from observation (Torabi, Warnell and Stone, IJCAI 2018).

The inverse dynamics model I of `inverse_dynamics` labels the recorded transitions with the
actions that it believes made them, and a policy π learns to repeat those labels:

    L = ‖π(s) − I(s, s')‖²

as the paper runs it (Section 5.3): the mean squared error, for continuous actions in units of
the action box.

A departure, off by default, is a power of ‖π(s) − I(s, s')‖ below 2. Where a controller acts at
most steps and random actions are taken at the others, the labels of a state are a cluster and a
wide scatter around it. Their mean, which the squared error asks for, lies beside the cluster,
further the more random actions there are, and a walker that follows it falls. The distance itself
(power 1) asks for the geometric median, which stays in the cluster while that holds more than half
of the steps (Lopuhaä & Rousseeuw, 1991, https://doi.org/10.1214/aos/1176347978); lower powers ask
for what is nearest to many, the mode. No value has to tell the steps apart for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from qss_offline.algorithms.networks import MLPShape, Network, mlp
from qss_offline.algorithms.protocol import UpdateRule
from qss_offline.algorithms.validation import check_batch_size, check_positive
from qss_offline.errors import UserError


class LabelledBatch(NamedTuple):
    """Recorded observations with actions, true ones or an inverse model's.

    Attributes:
        obs: `(S, B, obs_dim)`.
        action: `(S, B, action_dim)`, in units of the action box.
    """

    obs: Tensor
    action: Tensor


class CloningParameters(NamedTuple):
    """Networks of S seeds."""

    policy: Network


@dataclass(frozen=True)
class CloningConfig:
    """Settings of behavioural cloning; the defaults are the authors' for BCO.

    Attributes:
        hidden_dims: sizes of the hidden layers.
        batch_size: transitions per update and seed, B; a multiple of 32.
        learning_rate: Adam's step size.
        error_power: a departure where it isn't 2: the loss is the distance to this power, see
            above; None measures the recording's behaviour stochasticity (`data/facts.py`).
    """

    hidden_dims: tuple[int, ...] = (256, 256)
    batch_size: int = 256
    learning_rate: float = 3e-4
    error_power: float | None = 2.0

    def __post_init__(self) -> None:
        """Refuse settings that can't be trained with."""
        check_positive(self, "learning_rate", "hidden_dims")
        check_batch_size(self)
        if self.error_power is not None and not 0 < self.error_power <= 2:
            raise UserError(
                f"error_power must be above 0 and at most 2 (the mean), not {self.error_power}"
            )


_ROUNDED = 1e-4
"""Added to squared errors under a power below 2: within a hundredth of the unit that networks see,
all are alike."""


def error_power(errors: Tensor, power: float) -> Tensor:
    """Return ‖e‖^p from ‖e‖², of any shape; see above for what p asks for."""
    return errors if power == 2 else (errors + _ROUNDED).pow(power / 2)


def cloned_action(policy: Network, obs: Tensor) -> Tensor:
    """a = π(s), in units of the action box: `(S, B, obs_dim)` to `(S, B, action_dim)`."""
    return mlp(policy, obs).tanh()


class BehaviouralCloning:
    """The loss of behavioural cloning.

    Args:
        config: settings; its `error_power` is a number here.
        obs_dim: size of an observation.
        action_dim: size of an action.
    """

    name = "bco"

    def __init__(self, config: CloningConfig, obs_dim: int, action_dim: int) -> None:
        if config.error_power is None:
            raise UserError("error_power=None has to be measured before training")
        self._power = config.error_power
        self.shapes = {"policy": MLPShape((obs_dim, *config.hidden_dims, action_dim))}
        self.copies: dict[str, str] = {}
        self.updates = (UpdateRule("policy", self.cloning_loss),)
        self.tracks = ()
        self.parameters_type = CloningParameters

    def cloning_loss(
        self, parameters: CloningParameters, batch: LabelledBatch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """L = ‖π(s) − a‖^p, p = 2 but for `error_power`, ‖·‖² a mean over dimensions. `(S,)`."""
        errors = (cloned_action(parameters.policy, batch.obs) - batch.action).square()
        loss = error_power(errors.mean(dim=-1), self._power).mean(dim=-1)
        return loss, {"cloning_loss": loss}
